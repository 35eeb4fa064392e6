//! The servers of a comparison: each with a configuration and a folder of its own, pinned to the server's core.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Setup;
use crate::process;
use crate::server::ask;

/// Where they all listen, on a port each.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 7, 1);
/// Until the first answer, probing of memory and a table of 100,000 bindings included.
const PATIENCE: Duration = Duration::from_secs(20);

/// What to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Sends every datagram back.
    Echo,
    /// Receives and drops; `Late`: looks at its socket a millisecond after the kernel woke it.
    Drop {
        /// See above.
        is_late: bool,
    },
    /// The product.
    Sipkeep {
        /// `[registrar] digest`
        digest: &'static str,
        /// `[guard] mode`
        guard: &'static str,
        /// `[guard] kernel_filter`
        filter: &'static str,
        /// Users from 1000 on.
        users: u32,
    },
    /// Debian's, one child, the fast allocator.
    Kamailio {
        /// With pike and htable.
        is_guarded: bool,
    },
}

/// A server that runs.
pub struct Server {
    child: Child,
    kind: Kind,
    folder: PathBuf,
    program: PathBuf,
    /// Where it listens.
    pub target: SocketAddr,
    /// From its start to its first answer.
    pub started_in: Duration,
}

impl Server {
    /// Starts one and waits for its first answer.
    ///
    /// # Errors
    /// It does not start, for people.
    pub fn start(setup: &Setup, kind: Kind, folder: &Path, port: u16) -> Result<Self, String> {
        let target = SocketAddr::from((ADDRESS, port));
        let said = |error: std::io::Error| format!("{}: {error}", folder.display());
        if !folder.exists() {
            std::fs::create_dir_all(folder).map_err(said)?;
        }
        let (program, words, config) = command(setup, kind, folder, target);
        if let Some((name, text)) = config {
            std::fs::write(folder.join(name), text).map_err(said)?;
        }
        let log = std::fs::File::create(folder.join("log")).map_err(said)?;
        let begun = Instant::now();
        let child = process::on_core(&program, setup.cores.map(|cores| cores.1))
            .args(words)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(said)?)
            .stderr(log)
            // Kamailio's workers end with their group.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut server = Self {
            child,
            kind,
            folder: folder.to_owned(),
            program,
            target,
            started_in: Duration::ZERO,
        };
        if !matches!(kind, Kind::Drop { .. }) {
            server.first_answer()?;
            server.started_in = begun.elapsed();
        }
        Ok(server)
    }

    /// Its process; it may have others below it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Bans an address for hours, with what the server has for that; Kamailio bans whoever floods it by itself.
    ///
    /// # Errors
    /// It does not obey, for people.
    pub fn ban(&self, address: Ipv4Addr) -> Result<(), String> {
        if !matches!(
            self.kind,
            Kind::Sipkeep {
                guard: "enforce",
                ..
            }
        ) {
            return Ok(());
        }
        let words = ["ban", &address.to_string(), "--for", "4h"];
        ask(&self.program, &self.folder, &words).map(drop)
    }

    /// Asks with OPTIONS until it answers, as its trunk: strangers may be met with silence.
    fn first_answer(&mut self) -> Result<(), String> {
        let io = |error: std::io::Error| format!("{}: {error}", self.target);
        let socket = UdpSocket::bind((super::TRUNK, 0)).map_err(io)?;
        let local = socket.local_addr().map_err(io)?;
        // The socket's timeout is what waits between two attempts.
        socket
            .set_read_timeout(Some(Duration::from_millis(1)))
            .map_err(io)?;
        let begun = Instant::now();
        let mut answer = [0; 2_048];
        for number in 0_u32.. {
            let request = format!(
                "OPTIONS sip:{ADDRESS} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bKfirst{number}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:1000@{ADDRESS}>;tag=f\r\nTo: <sip:{ADDRESS}>\r\n\
                 Call-ID: first-{number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            );
            // Nobody listens there yet: the kernel says so, and it is asked again.
            let _ = socket.send_to(request.as_bytes(), self.target);
            if socket.recv_from(&mut answer).is_ok() {
                return Ok(());
            }
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || begun.elapsed() > PATIENCE {
                break;
            }
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        Err(format!("{:?} does not answer:\n{log}", self.kind))
    }

    /// Stops it as an operator does, and waits for its end.
    ///
    /// # Errors
    /// It does not end, for people.
    pub fn stop(mut self) -> Result<(), String> {
        signal(&self.child, "TERM");
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Ok(Some(_)) = self.child.try_wait() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("{:?} does not end", self.kind))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        signal(&self.child, "KILL");
        let _ = self.child.wait();
    }
}

/// To the whole group that a server began.
fn signal(child: &Child, name: &str) {
    let _ = Command::new("kill")
        .args(["-s", name, "--", &format!("-{}", child.id())])
        .stderr(Stdio::null())
        .status();
}

type Start = (PathBuf, Vec<String>, Option<(&'static str, String)>);

fn command(setup: &Setup, kind: Kind, folder: &Path, target: SocketAddr) -> Start {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let listen = target.to_string();
    let own = || setup.load.clone();
    match kind {
        Kind::Echo => (own(), words(&["echo", "--listen", &listen]), None),
        Kind::Drop { is_late: false } => (own(), words(&["drop", "--listen", &listen]), None),
        Kind::Drop { is_late: true } => (own(), words(&["drop-late", "--listen", &listen]), None),
        Kind::Sipkeep {
            digest,
            guard,
            filter,
            users,
        } => {
            let path = folder.join("config.ini");
            let mut text = format!(
                "[server]\nlisten = udp:{listen}\nstate = sipkeep.db\nlog = warn\n[registrar]\ndigest = {digest}\n\
                 [guard]\nmode = {guard}\nkernel_filter = {filter}\n[http]\nlisten = {listen}\n[call]\ncalls_max = 20000\n\
                 [trunk load]\naddresses = {}\n",
                super::TRUNK
            );
            for user in 1_000..1_000 + users {
                text.push_str(&format!("[user {user}]\npassword = {}\n", setup.password));
            }
            let words = words(&["--config", &path.to_string_lossy()]);
            (setup.server.clone(), words, Some(("config.ini", text)))
        }
        Kind::Kamailio { is_guarded } => {
            let path = folder.join("kamailio.cfg");
            let guard = if is_guarded { "#!define GUARD\n" } else { "" };
            let config = include_str!("kamailio.cfg")
                .replace("LISTEN", &listen)
                .replace("PASSWORD", &setup.password);
            let text = format!("#!KAMAILIO\n{guard}{config}");
            let (config, run) = (path.to_string_lossy(), folder.to_string_lossy());
            let words = words(&[
                "-DD", "-E", "-x", "fm", "-X", "fm", "-m", "512", "-M", "16", "-f", &config, "-Y",
                &run, "-w", &run,
            ]);
            (
                setup.kamailio.clone().unwrap_or_default(),
                words,
                Some(("kamailio.cfg", text)),
            )
        }
    }
}
