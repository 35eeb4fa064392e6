//! baresip as a telephone without a sound card, driven over `ctrl_tcp` (netstrings of JSON).

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::harness::{Running, Server, Tool};
use super::sipp::password;
use super::sound;

const WITHIN: Duration = Duration::from_secs(15);

/// Where Debian keeps baresip's modules; other systems say it in `BARESIP_MODULES`.
fn modules() -> PathBuf {
    std::env::var_os("BARESIP_MODULES")
        .map_or_else(|| "/usr/lib/baresip/modules".into(), PathBuf::from)
}

/// A running baresip and its control connection.
pub struct Baresip {
    pub running: Running,
    control: TcpStream,
    /// Bytes read and not yet taken apart.
    pending: Vec<u8>,
    /// What it said so far.
    pub said: Vec<Value>,
    folder: TempDir,
}

impl Baresip {
    /// Registers `user` at the server, answers every call, says a tone of `hertz` and records what it hears.
    pub fn start(
        server: &Server,
        address: Ipv4Addr,
        (user, transport, hertz): (&str, &str, u32),
    ) -> Self {
        Self::with_account(address, &Self::account(server, user, transport), hertz)
    }

    /// A user's account at the server.
    pub fn account(server: &Server, user: &str, transport: &str) -> String {
        let host = server.network.server();
        format!(
            "<sip:{user}@{host};transport={transport}>;auth_user={user};auth_pass={};regint=60",
            password(user)
        )
    }

    /// The same with an account as baresip writes it.
    pub fn with_account(address: Ipv4Addr, account: &str, hertz: u32) -> Self {
        Self::with(address, &format!("{account};answermode=auto"), hertz)
    }

    /// The same, which answers as the account says.
    pub fn with(address: Ipv4Addr, account: &str, hertz: u32) -> Self {
        let folder = TempDir::new().unwrap();
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let modules = modules();
        file(
            "config",
            &format!(
                "poll_method epoll\nsip_listen {address}:5060\nnet_interface {address}\n\
                 audio_source aufile,{}\naudio_player aubridge,nil\naudio_alert aubridge,nil\n\
                 call_local_timeout 60\ncall_max_calls 2\nrtp_ports 10000-10100\n\
                 module_path {}\nmodule g711.so\nmodule aufile.so\nmodule aubridge.so\nmodule uuid.so\nmodule sndfile.so\n\
                 module_app account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n\
                 ctrl_tcp_listen {address}:4444\nsnd_path {}\n",
                folder.path().join("tone.wav").display(),
                modules.display(),
                folder.path().display()
            ),
        );
        fs::write(folder.path().join("tone.wav"), sound::tone(hertz)).unwrap();
        // Without a line feed at its end.
        file("uuid", "8c5bd0c4-0f6e-4b0e-9a3c-7d4b2c1a0f5e");
        file("contacts", "");
        file("accounts", &format!("{account}\n"));
        let mut tool = Tool::with("baresip", ["-f", folder.path().to_str().unwrap()]);
        tool.command.env("HOME", folder.path());
        let running = tool.start();
        let deadline = Instant::now() + WITHIN;
        let control = loop {
            match TcpStream::connect((address, 4444)) {
                Ok(control) => break control,
                Err(error) => assert!(
                    Instant::now() < deadline,
                    "baresip's control port: {error}\n{}",
                    running.stdout()
                ),
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        control
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        Self {
            running,
            control,
            pending: Vec::new(),
            said: Vec::new(),
            folder,
        }
    }

    pub fn command(&mut self, command: &str, parameters: &str) {
        let text = json!({"command": command, "params": parameters, "token": "t"}).to_string();
        write!(self.control, "{}:{text},", text.len()).unwrap();
    }

    /// Reads what there is.
    pub fn read(&mut self) {
        let mut buffer = [0; 4096];
        if let Ok(length) = self.control.read(&mut buffer) {
            self.pending.extend_from_slice(&buffer[..length]);
        }
        while let Some(colon) = self.pending.iter().position(|&byte| byte == b':') {
            let length: usize = String::from_utf8_lossy(&self.pending[..colon])
                .parse()
                .expect("a netstring");
            let end = colon + 1 + length;
            if self.pending.len() <= end {
                break;
            }
            let said = serde_json::from_slice(&self.pending[colon + 1..end]).unwrap();
            self.said.push(said);
            self.pending.drain(..=end);
        }
    }

    /// Waits for an event of this type that came after the first `seen` messages.
    #[track_caller]
    pub fn wait_for(&mut self, event: &str, seen: usize) {
        let deadline = Instant::now() + WITHIN;
        while !self.said[seen.min(self.said.len())..]
            .iter()
            .any(|said| said["type"] == event)
        {
            assert!(
                Instant::now() < deadline,
                "baresip never said {event}: {:#?}\n{}",
                self.said,
                self.running.stdout()
            );
            self.read();
        }
    }
}

impl Baresip {
    /// What it has recorded, in the order of time.
    pub fn records(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().ends_with("-dec.wav"))
            .collect();
        files.sort();
        files
    }

    /// What it heard in its last call that is over, as WAV.
    #[track_caller]
    pub fn heard(&self) -> Vec<u8> {
        let files = self.records();
        let last = files
            .last()
            .unwrap_or_else(|| panic!("it recorded nothing: {}", self.running.stdout()));
        fs::read(last).unwrap()
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        // It is killed a moment later if it does not hear this.
        self.command("quit", "");
        std::thread::sleep(Duration::from_millis(300));
    }
}
