//! Programs that are started for a measurement, each with a folder of its own for its configuration, its log and what it
//! keeps. They end with their value, and what they have begun ends with them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cgroup::{Cgroup, Limits};
use crate::cleanup::{self, Left};
use crate::process;

/// Until the first answer, probing of memory and a table of 100,000 bindings included, be it on a small machine; and for the
/// end.
const PATIENCE: Duration = Duration::from_secs(60);
/// What keeps the product from reading floods later.
pub const READ_AT_ONCE: (&str, &str) = ("SIPKEEP_READ_AT_ONCE", "1");
/// For what never answers to be there.
const SETTLED: Duration = Duration::from_millis(300);

/// How to start it.
#[allow(missing_docs)]
pub struct Start<'a> {
    pub program: &'a Path,
    /// Its arguments.
    pub words: Vec<String>,
    /// Made if it is not there; it stays.
    pub folder: &'a Path,
    /// Name and text of a file there.
    pub configuration: Option<(&'static str, String)>,
    pub target: SocketAddr,
    /// As whom it is asked with OPTIONS until it answers: a trunk of its, strangers may be met with silence. `None`: it never
    /// answers anybody.
    pub asked_by: Option<IpAddr>,
    /// Unix user that it runs as; `None`: our own.
    pub user_id: Option<u32>,
    /// The processor that it runs on (taskset(1)); `None`: any.
    pub core: Option<usize>,
    /// What it has of the machine; `None`: as much as there is.
    pub small: Option<Limits>,
    /// Of its environment, besides ours.
    pub variables: &'static [(&'static str, &'static str)],
}

impl<'a> Start<'a> {
    /// The product with this configuration, in which HTTP is to listen and `asked_by` to be a trunk.
    pub fn sipkeep(
        program: &'a Path,
        folder: &'a Path,
        target: SocketAddr,
        asked_by: IpAddr,
        configuration: String,
    ) -> Self {
        let path = folder.join("config.ini");
        Self {
            program,
            words: vec!["--config".to_owned(), path.to_string_lossy().into_owned()],
            folder,
            configuration: Some(("config.ini", configuration)),
            target,
            asked_by: Some(asked_by),
            user_id: None,
            core: None,
            small: None,
            variables: &[],
        }
    }
}

/// See the module.
pub struct Server {
    child: Child,
    program: PathBuf,
    folder: PathBuf,
    /// Where it listens.
    pub target: SocketAddr,
    /// From its start to its first answer.
    pub started_in: Duration,
    /// Gone when the process is.
    _cgroup: Option<Cgroup>,
}

impl Server {
    /// Starts it and waits for its first answer.
    ///
    /// # Errors
    /// Why it does not start, for people.
    pub fn start(how: Start<'_>) -> Result<Self, String> {
        let is_other = |address: IpAddr| address.is_ipv4() != how.target.is_ipv4();
        if how.asked_by.is_some_and(is_other) {
            return Err("--target: over IPv4 only".to_owned());
        }
        let said = |error: std::io::Error| format!("{}: {error}", how.folder.display());
        std::fs::create_dir_all(how.folder).map_err(said)?;
        if let Some((name, text)) = &how.configuration {
            std::fs::write(how.folder.join(name), text).map_err(said)?;
        }
        let log = std::fs::File::create(how.folder.join("log")).map_err(said)?;
        let mut command = process::on_core(how.program, how.core);
        command.args(&how.words);
        let cgroup = how.small.map(Cgroup::new).transpose()?;
        if let Some(cgroup) = &cgroup {
            command = cgroup.enter(&command);
        }
        command
            .envs(how.variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(said)?)
            .stderr(log);
        if let Some(user_id) = how.user_id {
            std::os::unix::fs::chown(how.folder, Some(user_id), None).map_err(said)?;
            command.uid(user_id);
        }
        let begun = Instant::now();
        // Kamailio's workers end with their group.
        let child = cleanup::start(&mut command)
            .map_err(|error| format!("{}: {error}", how.program.display()))?;
        let mut server = Self {
            child,
            program: how.program.to_owned(),
            folder: how.folder.to_owned(),
            target: how.target,
            started_in: Duration::ZERO,
            _cgroup: cgroup,
        };
        match how.asked_by {
            Some(address) => {
                server.first_answer(address)?;
                server.started_in = begun.elapsed();
            }
            None => {
                std::thread::sleep(SETTLED);
                if server.has_ended()? {
                    return Err(server.complaint("has ended"));
                }
            }
        }
        Ok(server)
    }

    /// Its process; it may have others below it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The configuration of the product.
    pub fn configuration(&self) -> PathBuf {
        self.folder.join("config.ini")
    }

    fn has_ended(&mut self) -> Result<bool, String> {
        let ended = self.child.try_wait().map_err(|error| error.to_string())?;
        Ok(ended.is_some())
    }

    fn complaint(&self, what: &str) -> String {
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let program = self.program.display();
        format!("{program} at {} {what}:\n{log}", self.target)
    }

    /// Asks with OPTIONS until it answers.
    fn first_answer(&mut self, address: IpAddr) -> Result<(), String> {
        let io = |error: std::io::Error| format!("{address}: {error}");
        let socket = UdpSocket::bind((address, 0)).map_err(io)?;
        let local = socket.local_addr().map_err(io)?;
        // The socket's timeout is what waits between two attempts.
        socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .map_err(io)?;
        let host = self.target.ip();
        let begun = Instant::now();
        let mut answer = [0; 2_048];
        for number in 0_u32.. {
            let request = format!(
                "OPTIONS sip:{host} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bKfirst{number}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:1000@{host}>;tag=f\r\nTo: <sip:{host}>\r\n\
                 Call-ID: first-{number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            );
            // Nobody listens there yet: the kernel says so, and it is asked again.
            let _ = socket.send_to(request.as_bytes(), self.target);
            let is_answered = socket.recv_from(&mut answer).is_ok();
            // Of another program that has the port, if ours is gone.
            let has_ended = self.has_ended()?;
            if is_answered && !has_ended {
                return Ok(());
            }
            if has_ended || begun.elapsed() > PATIENCE {
                break;
            }
        }
        Err(self.complaint("does not answer"))
    }

    /// A command for the product as it runs; what it prints.
    ///
    /// # Errors
    /// It was refused, for people.
    pub fn ask(&self, words: &[&str]) -> Result<Vec<u8>, String> {
        ask(&self.program, &self.configuration(), words)
    }

    /// What the product tells of itself.
    ///
    /// # Errors
    /// It does not, for people.
    pub fn status(&self) -> Result<Value, String> {
        status(&self.program, &self.configuration())
    }

    /// What its tables hold.
    ///
    /// # Errors
    /// It tells nothing of itself, for people.
    pub fn tables(&self) -> Result<Value, String> {
        Ok(self.status()?["counts"].take())
    }

    /// Datagrams that the product lost so far, lane for lane, and at the end those of all sockets together.
    ///
    /// # Errors
    /// It tells nothing of itself, for people.
    pub fn drops(&self) -> Result<Vec<u64>, String> {
        let status = self.status()?;
        let lanes = status["guard"]["lanes"].as_array().cloned();
        let drops = lanes.unwrap_or_default();
        let drops = drops.iter().map(|lane| lane["drops"].as_u64().unwrap_or(0));
        Ok(drops.chain(process::socket_drops(self.target)).collect())
    }

    /// Stops it as an operator does, and waits for its end.
    ///
    /// # Errors
    /// It does not end, for people.
    pub fn stop(mut self) -> Result<(), String> {
        cleanup::signal(self.pid(), "TERM");
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if self.has_ended()? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(self.complaint("does not end"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        Left::Processes(self.pid()).clear();
        let _ = self.child.wait();
    }
}

/// A command for the product that runs with this configuration; what it prints.
fn ask(program: &Path, configuration: &Path, words: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new(program)
        .arg("--config")
        .arg(configuration)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}, {said}", words.join(" "), output.status))
}

/// What the product that runs with this configuration tells of itself.
///
/// # Errors
/// It does not, for people.
pub fn status(program: &Path, configuration: &Path) -> Result<Value, String> {
    let text = ask(program, configuration, &["status", "--json"])?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

/// A folder below the system's for what is temporary; gone with this value.
pub struct Folder(PathBuf);

impl Folder {
    /// One that nobody else has.
    ///
    /// # Errors
    /// The system's, for people.
    pub fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sipkeep-load-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        cleanup::remember(Left::Folder(path.clone()));
        Ok(Self(path))
    }

    /// A folder in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        Left::Folder(self.0.clone()).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_at_once_is_told_with_its_log() {
        let folder = Folder::new().unwrap();
        let own = folder.join("x");
        let start = |asked_by| Start {
            program: Path::new("sh"),
            words: vec!["-c".to_owned(), "echo no such option".to_owned()],
            folder: &own,
            configuration: Some(("a", "b".to_owned())),
            target: SocketAddr::from(([127, 0, 0, 1], 9)),
            asked_by,
            user_id: None,
            core: None,
            small: None,
            variables: &[],
        };
        for asked_by in [None, Some(IpAddr::from([127, 0, 0, 1]))] {
            let error = Server::start(start(asked_by)).err().unwrap();
            assert!(error.contains("no such option"), "{error}");
        }
        assert_eq!(std::fs::read_to_string(own.join("a")).unwrap(), "b");
        drop(folder);
        assert!(!own.exists());
    }
}
