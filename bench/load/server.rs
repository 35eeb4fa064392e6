//! A server that is started for a measurement, with a configuration and a folder of its own; both are gone with the value.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process;

/// For the server to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// How to start it.
#[allow(missing_docs)]
pub struct Start<'a> {
    pub program: &'a Path,
    /// Unix user that it runs as; `None`: our own.
    pub user_id: Option<u32>,
    /// The processor that it runs on (taskset(1)); `None`: any.
    pub core: Option<usize>,
}

/// See the module.
pub struct Server {
    child: Child,
    program: PathBuf,
    folder: PathBuf,
    target: SocketAddr,
}

impl Server {
    /// Starts it and waits until it answers. `configuration` is the text of its file; HTTP is to listen there.
    ///
    /// # Errors
    /// Why it does not start, for people.
    pub fn start(how: &Start<'_>, target: SocketAddr, configuration: &str) -> Result<Self, String> {
        let IpAddr::V4(_) = target.ip() else {
            return Err("--target: over IPv4 only".to_owned());
        };
        let folder = std::env::temp_dir().join(format!("sipkeep-load-{}", std::process::id()));
        let said = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::create_dir(&folder).map_err(said)?;
        std::fs::write(folder.join("config.ini"), configuration).map_err(said)?;
        let mut command = process::on_core(how.program, how.core);
        command
            .arg("--config")
            .arg(folder.join("config.ini"))
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        if let Some(user_id) = how.user_id {
            use std::os::unix::process::CommandExt;
            std::os::unix::fs::chown(&folder, Some(user_id), None).map_err(said)?;
            command.uid(user_id);
        }
        let child = command
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", how.program.display()))?;
        let mut server = Self {
            child,
            program: how.program.to_owned(),
            folder,
            target,
        };
        let begun = Instant::now();
        while server.status().is_err() {
            let ended = server.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                return Err("the server does not start".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A command for the running server; what it prints.
    ///
    /// # Errors
    /// It was refused, for people.
    pub fn ask(&self, words: &[&str]) -> Result<Vec<u8>, String> {
        ask(&self.program, &self.folder, words)
    }

    /// What it tells of itself.
    ///
    /// # Errors
    /// It does not, for people.
    pub fn status(&self) -> Result<Value, String> {
        let text = self.ask(&["status", "--json"])?;
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    }

    /// Datagrams lost so far, lane for lane, and at the end those of all sockets together.
    ///
    /// # Errors
    /// It tells nothing of itself, for people.
    pub fn drops(&self) -> Result<Vec<u64>, String> {
        let status = self.status()?;
        let lanes = status["guard"]["lanes"].as_array().cloned();
        let drops = lanes.unwrap_or_default();
        let drops = drops.iter().map(|lane| lane["drops"].as_u64().unwrap_or(0));
        Ok(drops.chain([process::socket_drops(self.target)]).collect())
    }
}

/// A command for the server whose file is in this folder; what it prints.
///
/// # Errors
/// It was refused, for people.
pub fn ask(program: &Path, folder: &Path, words: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new(program)
        .arg("--config")
        .arg(folder.join("config.ini"))
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}, {said}", words.join(" "), output.status))
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, and what is left of the folder does no harm.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
