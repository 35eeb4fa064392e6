//! Linphone's console program as a telephone without a sound card.

use std::fs;
use std::time::Duration;

use tempfile::TempDir;

use super::harness::{Running, Server, Tool};
use super::sipp::password;
use super::sound;

/// A running `linphonec`. It takes the address that the kernel chooses, and a port of this process.
pub struct Linphone {
    pub running: Running,
    folder: TempDir,
}

impl Linphone {
    /// Registers `user`, answers every call, says a tone of `hertz` and records what it hears.
    pub fn start(server: &Server, user: &str, hertz: u32) -> Self {
        Self::start_with(server, (user, hertz), &["-a"])
    }

    /// The same with these options, of which `-a` is to answer.
    pub fn start_with(server: &Server, (user, hertz): (&str, u32), options: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        let port = 20_000 + std::process::id() % 20_000;
        let settings = format!(
            "[sip]\nsip_port={port}\nsip_tcp_port=0\ndefault_proxy=0\nuse_ipv6=0\nmedia_encryption=none\n\
             [rtp]\naudio_rtp_port={}\n",
            port + 20_000
        );
        fs::write(path("rc"), settings).unwrap();
        fs::write(path("tone.wav"), sound::tone(hertz)).unwrap();
        // Where it keeps its database; it does not make the folder itself.
        fs::create_dir_all(path(".local/share/linphone")).unwrap();
        let mut tool = Tool::with("linphonec", ["-c", path("rc").to_str().unwrap()]);
        tool.command.args(options);
        tool.command.env("HOME", folder.path());
        let mut running = tool.spoken_to().start();
        running.wait_for("linphonec>", Duration::from_secs(15));
        let host = server.network.server();
        running.say("soundcard use files");
        running.say(&format!("play {}", path("tone.wav").display()));
        running.say(&format!("record {}", path("heard.wav").display()));
        running.say(&format!(
            "register sip:{user}@{host} sip:{host} {}",
            password(user)
        ));
        Self { running, folder }
    }

    /// What it heard, as WAV.
    pub fn heard(&self) -> Vec<u8> {
        self.file()
            .unwrap_or_else(|error| panic!("{error}: {}", self.running.stdout()))
    }

    /// What it has heard so far, if it was ever in a call.
    pub fn recorded(&self) -> Vec<i16> {
        let file = self.file().unwrap_or_default();
        // Its header is written at the end of a call.
        sound::samples_from(&file, 44)
    }

    fn file(&self) -> std::io::Result<Vec<u8>> {
        fs::read(self.folder.path().join("heard.wav"))
    }
}
