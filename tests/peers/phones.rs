//! Two telephones with real media: baresip and PJSUA2 call each other through the server.
//!
//! baresip is driven over `ctrl_tcp` (netstrings of JSON), PJSUA2 by `telephone.py` in a Python environment of its own.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::harness::{Network, Running, Server, Tool, assert_fields, wait};
use super::sipp::{password, users};

const WITHIN: Duration = Duration::from_secs(15);

/// Where Debian keeps baresip's modules; other systems say it in `BARESIP_MODULES`.
fn modules() -> PathBuf {
    std::env::var_os("BARESIP_MODULES")
        .map_or_else(|| "/usr/lib/baresip/modules".into(), PathBuf::from)
}

/// The Python that has `pjsua2`.
fn python() -> PathBuf {
    std::env::var_os("PEERS_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers-venv/bin/python"),
        PathBuf::from,
    )
}

/// A running baresip and its control connection.
struct Baresip {
    running: Running,
    control: TcpStream,
    /// Bytes read and not yet taken apart.
    pending: Vec<u8>,
    /// What it said so far.
    said: Vec<Value>,
    _folder: TempDir,
}

impl Baresip {
    /// Registers `user` at the server and answers every call.
    fn start(server: &Server, address: Ipv4Addr, user: &str, transport: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let modules = modules();
        file(
            "config",
            &format!(
                "poll_method epoll\nsip_listen {address}:5060\nnet_interface {address}\n\
                 audio_source aufile,{}\naudio_player aubridge,nil\naudio_alert aubridge,nil\n\
                 call_local_timeout 60\ncall_max_calls 2\nrtp_ports 10000-10100\n\
                 module_path {}\nmodule g711.so\nmodule aufile.so\nmodule aubridge.so\nmodule uuid.so\n\
                 module_app account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n\
                 ctrl_tcp_listen {address}:4444\n",
                folder.path().join("tone.wav").display(),
                modules.display()
            ),
        );
        fs::write(folder.path().join("tone.wav"), tone()).unwrap();
        // Without a line feed at its end.
        file("uuid", "8c5bd0c4-0f6e-4b0e-9a3c-7d4b2c1a0f5e");
        file("contacts", "");
        let host = server.network.server();
        file(
            "accounts",
            &format!(
                "<sip:{user}@{host};transport={transport}>;auth_user={user};auth_pass={};regint=60;answermode=auto\n",
                password(user)
            ),
        );
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
            _folder: folder,
        }
    }

    fn command(&mut self, command: &str, parameters: &str) {
        let text = json!({"command": command, "params": parameters, "token": "t"}).to_string();
        write!(self.control, "{}:{text},", text.len()).unwrap();
    }

    /// Reads what there is.
    fn read(&mut self) {
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
    fn wait_for(&mut self, event: &str, seen: usize) {
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

impl Drop for Baresip {
    fn drop(&mut self) {
        // It is killed a moment later if it does not hear this.
        self.command("quit", "");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// PJSUA2 as 101 with this job.
fn pjsua2(server: &Server, address: Ipv4Addr, transport: &str, job: &[&str]) -> Running {
    let python = python();
    let mut tool = Tool::of(python.to_str().unwrap());
    tool.command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/telephone.py"))
        .args([
            &server.sip().to_string(),
            &address.to_string(),
            "101",
            &password("101"),
            transport,
            "40",
        ])
        .args(job);
    tool.start()
}

/// Twenty seconds of 400 Hz as a WAV file: 8,000 samples a second of 16 bits.
fn tone() -> Vec<u8> {
    let samples = 20 * 8_000_u32;
    let mut wav = b"RIFF".to_vec();
    wav.extend((36 + 2 * samples).to_le_bytes());
    wav.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    wav.extend(8_000_u32.to_le_bytes());
    wav.extend(16_000_u32.to_le_bytes());
    wav.extend(b"\x02\0\x10\0data");
    wav.extend((2 * samples).to_le_bytes());
    for sample in 0..samples {
        let level: i16 = if sample % 20 < 10 { 8_000 } else { -8_000 };
        wav.extend(level.to_le_bytes());
    }
    wav
}

/// RTP packets that PJSUA2 received in a second and a half.
fn packets(output: &str) -> u32 {
    let line = output
        .lines()
        .find(|line| line.starts_with("rx "))
        .unwrap_or_else(|| panic!("{output}"));
    line[3..].parse().unwrap()
}

fn talk(transport: &str) {
    let server = Server::start(Network::take(), &format!("\n{}", users(&["100", "101"])));
    let network = server.network;
    let mut baresip = Baresip::start(&server, network.host(4), "100", transport);
    wait(
        WITHIN,
        || server.registered() == ["100"],
        || {
            format!(
                "baresip did not register: {}\n{}",
                baresip.running.stdout(),
                server.log()
            )
        },
    );

    // baresip calls, and hangs up.
    let mut phone = pjsua2(&server, network.host(5), transport, &["answer"]);
    phone.wait_for("registered", WITHIN);
    let uri = format!("sip:101@{}", network.server());
    baresip.command("dial", &uri);
    phone.wait_for("confirmed", WITHIN);
    baresip.wait_for("CALL_ESTABLISHED", 0);
    phone.wait_for("rx ", WITHIN);
    assert!(packets(&phone.stdout()) > 20, "{}", phone.stdout());
    baresip.command("hangup", "");
    phone.wait_for("disconnected", WITHIN);
    phone.finish(WITHIN).well();
    let record = server.record();
    assert_fields(
        &record,
        &[
            ("caller", json!("100")),
            ("dialled", json!("101")),
            ("answered_by", json!("101")),
            ("disposition", json!("answered")),
            ("ended_by", json!("caller")),
        ],
    );
    assert!(
        record["user_agent"].as_str().unwrap().contains("baresip"),
        "{record:#}"
    );

    // PJSUA2 calls, and hangs up.
    baresip.read();
    let seen = baresip.said.len();
    let mut phone = pjsua2(&server, network.host(5), transport, &["call", "100"]);
    phone.wait_for("confirmed", WITHIN);
    baresip.wait_for("CALL_ESTABLISHED", seen);
    let output = phone.finish(Duration::from_secs(30)).well().stdout;
    assert!(packets(&output) > 20, "{output}");
    baresip.wait_for("CALL_CLOSED", seen);
    let record = server.records(2).remove(0);
    assert_fields(
        &record,
        &[
            ("caller", json!("101")),
            ("dialled", json!("100")),
            ("answered_by", json!("100")),
            ("disposition", json!("answered")),
            ("ended_by", json!("caller")),
        ],
    );
}

#[test]
#[ignore = "needs baresip and PJSUA2: tests/run peers"]
fn baresip_and_pjsua2_talk_udp() {
    talk("udp");
}

#[test]
#[ignore = "needs baresip and PJSUA2: tests/run peers"]
fn baresip_and_pjsua2_talk_tcp() {
    talk("tcp");
}
