//! SIPVicious against a default start: the shipped config.ini with nothing changed but where it listens.
//!
//! Each tool speaks through a counting relay, so that a test knows what was really sent and answered. Under its own
//! name (`friendly-scanner`) a tool gets no answer at all. Under another name it finds nothing and cracks nothing, and
//! the fifth wrong digest bans its source.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::harness::{
    Finished, HTTP_PORT, Network, Relay, SIP_PORT, Server, TOKEN, Tool, Traffic, assert_fields,
};

/// The name that the tools give themselves, and one of a telephone.
const DISGUISE: (&str, &str) = ("friendly-scanner", "Yealink SIP-T46S 66.86.0.15");

/// A default start, and the relay in front of it.
struct Target {
    relay: Relay,
    server: Server,
}

impl Target {
    fn start(disguised: bool) -> Self {
        let network = Network::take();
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("config.ini"), shipped(network)).unwrap();
        let server = Server::start_in(network, folder);
        let relay = Relay::start(
            network.host(20),
            network.host(21),
            server.sip(),
            disguised.then_some(DISGUISE),
        );
        Self { relay, server }
    }

    /// Runs a tool at the relay from a port of its own.
    fn attack(&self, program: &str, port: u16, arguments: &[&str]) -> (Finished, Traffic) {
        let mut tool = Tool::with(program, arguments.iter().copied());
        let home = TempDir::new().unwrap();
        tool.command
            .env("HOME", home.path())
            .current_dir(home.path());
        tool.command.args([
            "-P",
            &port.to_string(),
            "-p",
            &self.relay.address.port().to_string(),
        ]);
        tool.command.arg(self.relay.address.ip().to_string());
        let finished = tool.run(Duration::from_secs(60));
        assert!(!finished.all().contains("Traceback"), "{finished:#?}");
        (finished, self.relay.traffic())
    }

    /// The answer, if any within a second, to a REGISTER over TCP from the relay's address. Over UDP that address is owed
    /// no more bytes for a minute after an attack.
    fn register_over_tcp(&self) -> Option<String> {
        let from = self.server.network.host(21);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        let within = Duration::from_secs(1);
        socket
            .connect_timeout(&self.server.sip().into(), within)
            .ok()?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(within)).unwrap();
        let to = self.server.network.server();
        // A closed connection shows when it is read.
        let _ = write!(
            stream,
            "REGISTER sip:{to} SIP/2.0\r\nVia: SIP/2.0/TCP {from};branch=z9hG4bKt1\r\nMax-Forwards: 70\r\n\
             From: <sip:100@{to}>;tag=t\r\nTo: <sip:100@{to}>\r\nCall-ID: tcp@{from}\r\nCSeq: 1 REGISTER\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).ok().filter(|&length| length > 0)?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// What the server says of the relay's address.
    fn ban(&self) -> Option<Value> {
        let source = self.server.network.host(21).to_string();
        self.server
            .items("bans")
            .into_iter()
            .find(|ban| ban["source"] == source.as_str())
    }

    /// The password that this start made for a user.
    fn password(&self, user: &str) -> String {
        let finished = self
            .server
            .command(&["status", "--passwords", "--json"])
            .well();
        let made: Value = serde_json::from_str(&finished.stdout).unwrap();
        let password = made[user].as_str().unwrap();
        assert!(password.len() >= 8 && password != user, "{made}");
        password.to_owned()
    }

    /// A word list: `before` wrong words, the right one, wrong ones.
    fn words(&self, before: usize) -> (TempDir, String) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("words");
        let mut words: Vec<String> = (0..40).map(|number| format!("guess{number}")).collect();
        words.insert(before, self.password("100"));
        fs::write(&path, words.join("\n") + "\n").unwrap();
        (folder, path.to_string_lossy().into_owned())
    }
}

/// The shipped configuration, listening on this network; the API's token is set so that the test can ask.
fn shipped(network: Network) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.ini");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("config.ini: {error}"));
    let address = network.server();
    let mut section = String::new();
    let mut out = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with('[') {
            section = line.trim().to_owned();
            out.push_str(line);
            out.push('\n');
            if section.starts_with("[server]") {
                out.push_str(&format!(
                    "listen = udp:{address}:{SIP_PORT}, tcp:{address}:{SIP_PORT}\n"
                ));
            } else if section.starts_with("[http]") {
                out.push_str(&format!(
                    "listen = {address}:{HTTP_PORT}\ntoken = {TOKEN}\n"
                ));
            }
            continue;
        }
        let key = line.split('=').next().unwrap().trim();
        let ours = (section.starts_with("[server]") && key == "listen")
            || (section.starts_with("[http]") && ["listen", "token"].contains(&key));
        if !ours {
            out.push_str(line);
            out.push('\n');
        }
    }
    for section in ["[server]", "[http]"] {
        assert!(out.contains(section), "config.ini has no {section}");
    }
    out
}

#[track_caller]
fn silent(finished: &Finished, traffic: &Traffic) {
    assert!(
        !traffic.requests.is_empty(),
        "nothing was sent: {finished:#?}"
    );
    assert!(
        traffic
            .requests
            .iter()
            .all(|request| request.contains("friendly-scanner")),
        "{traffic:#?}"
    );
    assert!(traffic.answers.is_empty(), "{traffic:#?}");
    assert!(finished.all().contains("found nothing"), "{finished:#?}");
}

#[test]
#[ignore = "needs SIPVicious: tests/run peers"]
fn svmap_gets_no_answer() {
    let target = Target::start(false);
    let (finished, traffic) = target.attack("svmap", 5610, &["-m", "OPTIONS,REGISTER,INVITE"]);
    assert!(traffic.requests.len() >= 3, "{traffic:#?}");
    silent(&finished, &traffic);
}

#[test]
#[ignore = "needs SIPVicious: tests/run peers"]
fn svwar_gets_no_answer() {
    let target = Target::start(false);
    let (finished, traffic) = target.attack("svwar", 5611, &["-e", "100-103"]);
    silent(&finished, &traffic);
    let (finished, traffic) = target.attack("svwar", 5611, &["-e", "100-103", "--force"]);
    silent(&finished, &traffic);
    let (finished, traffic) = target.attack("svwar", 5611, &["-e", "100-103", "-m", "INVITE"]);
    silent(&finished, &traffic);
}

#[test]
#[ignore = "needs SIPVicious: tests/run peers"]
fn svcrack_gets_no_answer() {
    let target = Target::start(false);
    let (_folder, words) = target.words(0);
    let (finished, traffic) = target.attack("svcrack", 5612, &["-u", "100", "-d", &words]);
    silent(&finished, &traffic);
    // Its name silences; it does not ban.
    assert_eq!(target.ban(), None);
}

#[test]
#[ignore = "needs SIPVicious: tests/run peers"]
fn svmap_in_disguise_finds_nothing() {
    let target = Target::start(true);
    let (finished, traffic) = target.attack("svmap", 5613, &[]);
    assert!(!traffic.requests.is_empty(), "{finished:#?}");
    assert!(
        traffic
            .requests
            .iter()
            .all(|request| request.contains(DISGUISE.1)),
        "{traffic:#?}"
    );
    assert!(
        traffic.answers.is_empty(),
        "OPTIONS of a stranger: {traffic:#?}"
    );
    assert!(finished.all().contains("found nothing"), "{finished:#?}");
}

#[test]
#[ignore = "needs SIPVicious: tests/run peers"]
fn svwar_in_disguise_finds_nothing() {
    let target = Target::start(true);
    let (finished, traffic) = target.attack("svwar", 5614, &["-e", "100-103"]);
    assert!(finished.all().contains("found nothing"), "{finished:#?}");
    assert!(
        !traffic.answers.is_empty(),
        "an unknown name is challenged as any other: {finished:#?}"
    );
    // On a server of its own: this one owes a stranger no more bytes for a minute.
    let target = Target::start(true);
    let arguments = ["-e", "100-103", "--force", "--maximumtime=5"];
    let (finished, traffic) = target.attack("svwar", 5614, &arguments);
    assert!(traffic.requests.len() > 1, "it went on: {finished:#?}");
    assert!(!traffic.answers.is_empty(), "{finished:#?}");
    assert!(finished.all().contains("found nothing"), "{finished:#?}");
    // Every name gets the same answer.
    for (_, answer) in &traffic.answers {
        assert!(answer.starts_with("SIP/2.0 401 "), "{answer}");
    }
    // Asking without credentials is no failure.
    assert_eq!(target.ban(), None);
}

#[test]
#[ignore = "needs SIPVicious: tests/run peers"]
fn svcrack_in_disguise_is_banned_after_five_digests() {
    let target = Target::start(true);
    let (_folder, words) = target.words(8);
    let (finished, traffic) = target.attack(
        "svcrack",
        5615,
        &["-u", "100", "-d", &words, "--maximumtime=5"],
    );
    assert!(finished.all().contains("found nothing"), "{finished:#?}");
    assert!(
        !finished.all().contains(&target.password("100")),
        "cracked: {finished:#?}"
    );
    assert!(
        traffic.digests() >= 5,
        "{} digests: {finished:#?}",
        traffic.digests()
    );
    let ban = target
        .ban()
        .unwrap_or_else(|| panic!("no ban: {:#?}", target.server.log()));
    assert_fields(
        &ban,
        &[
            ("reason", json!("credentials")),
            ("failures", json!(5)),
            ("users", json!(["100"])),
        ],
    );
    assert!(!ban["until"].is_null(), "{ban:#}");
    // Digests that were on their way before the fifth was judged are all that may be answered.
    let fifth = traffic
        .requests
        .iter()
        .enumerate()
        .filter(|(_, request)| request.contains("uthorization: Digest"))
        .nth(4)
        .map(|(index, _)| index + 1)
        .unwrap();
    let late = traffic
        .answers
        .iter()
        .filter(|(before, _)| *before > fifth + 1)
        .count();
    assert_eq!(late, 0, "answers after the ban: {traffic:#?}");
    // Nothing of it gets in now: another run has no answer at all.
    let answers = traffic.answers.len();
    let (finished, traffic) = target.attack("svcrack", 5615, &["-u", "101", "-d", &words]);
    assert_eq!(traffic.answers.len(), answers, "{traffic:#?}");
    assert!(finished.all().contains("found nothing"), "{finished:#?}");
    // Not on a new connection either, until an administrator lifts the ban.
    assert_eq!(target.register_over_tcp(), None);
    let source = target.server.network.host(21).to_string();
    target.server.command(&["unban", &source]).well();
    assert_eq!(target.ban(), None);
    let answer = target.register_over_tcp().expect("unbanned, but silent");
    assert!(answer.starts_with("SIP/2.0 401 "), "{answer}");
}
