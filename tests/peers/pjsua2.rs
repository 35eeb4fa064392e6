//! PJSUA2 as a telephone without a sound card: `telephone.py` in a Python environment of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::harness::{Running, Server, Tool};
use super::sipp::password;

const WITHIN: Duration = Duration::from_secs(15);

/// The Python that has `pjsua2`.
fn python() -> PathBuf {
    std::env::var_os("PEERS_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers-venv/bin/python"),
        PathBuf::from,
    )
}

/// A running one. What it can be told stands in `telephone.py`.
pub struct Pjsua2 {
    running: Running,
    /// Lines that were waited for, and those before them.
    seen: usize,
}

impl Pjsua2 {
    /// Registers `user` from `address` and waits until that is done.
    #[track_caller]
    pub fn start(server: &Server, address: Ipv4Addr, user: &str, transport: &str) -> Self {
        Self::start_with(server, address, (user, transport), &[])
    }

    /// The same with options of `telephone.py`.
    #[track_caller]
    pub fn start_with(
        server: &Server,
        address: Ipv4Addr,
        who: (&str, &str),
        options: &[&str],
    ) -> Self {
        Self::start_at(server.sip(), address, who, options)
    }

    /// The same at any server.
    #[track_caller]
    pub fn start_at(
        server: SocketAddr,
        address: Ipv4Addr,
        who: (&str, &str),
        options: &[&str],
    ) -> Self {
        let mut phone = Self::launch(server, address, who, options);
        phone.wait_for("registered");
        phone
    }

    /// The same without waiting.
    pub fn launch(
        server: SocketAddr,
        address: Ipv4Addr,
        (user, transport): (&str, &str),
        options: &[&str],
    ) -> Self {
        let python = python();
        let mut tool = Tool::of(python.to_str().unwrap());
        tool.command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/telephone.py"))
            .args([
                &server.to_string(),
                &address.to_string(),
                user,
                &password(user),
                transport,
                "90",
            ])
            .args(options);
        Self {
            running: tool.spoken_to().start(),
            seen: 0,
        }
    }

    pub fn tell(&mut self, command: &str) {
        self.running.say(command);
    }

    /// Waits for an event that begins with this and came after the last one that was waited for; returns it.
    #[track_caller]
    pub fn wait_for(&mut self, event: &str) -> String {
        let deadline = std::time::Instant::now() + WITHIN;
        loop {
            let said = self.running.stdout();
            let new = said.lines().enumerate().skip(self.seen);
            if let Some((at, line)) = { new }.find(|(_, line)| line.starts_with(event)) {
                self.seen = at + 1;
                return line.to_owned();
            }
            assert!(
                self.running.is_alive() && std::time::Instant::now() < deadline,
                "PJSUA2 never said {event:?} after line {}:\n{said}",
                self.seen
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// RTP packets that it has received in this call.
    #[track_caller]
    pub fn packets(&mut self) -> u32 {
        self.tell("rx");
        self.wait_for("rx ")[3..].parse().unwrap()
    }

    /// Ends it, which takes its registration along.
    #[track_caller]
    pub fn quit(mut self) {
        self.tell("quit");
        self.running.finish(WITHIN).well();
    }
}
