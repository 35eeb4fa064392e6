//! Each step of RFC 3261 §10.3 by itself, then random programs against a plain model.

use super::*;
use crate::message;
use crate::source::{ConnectionId, Transport};
use crate::store::BindingRow;
use crate::time::{Instant, UnixTime};
use std::time::Duration;

const SEED: [u8; 32] = [7; 32];
const USER: UserId = UserId(0);

fn settings() -> config::Registrar {
    config::Registrar {
        digest: config::DigestOffer::Md5,
        expires_min: Duration::from_secs(60),
        expires_default: Duration::from_secs(600),
        expires_max: Duration::from_secs(3600),
        bindings_per_user_max: 10,
    }
}

fn user(name: &str) -> config::User {
    config::User {
        name: name.into(),
        secret: None,
        display_name: String::new(),
        addresses: Vec::new(),
        calls_max: None,
        line: 1,
    }
}

fn at(seconds: u64) -> Now {
    Now {
        mono: Instant::from_micros((1000 + seconds) * 1_000_000),
        unix: UnixTime::from_millis((1_750_000_000 + seconds) * 1000),
    }
}

fn udp(remote: &str) -> Flow {
    Flow {
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: remote.parse().unwrap(),
        connection: None,
    }
}

fn tcp(remote: &str, connection: u64) -> Flow {
    Flow {
        transport: Transport::Tcp,
        connection: Some(ConnectionId(connection)),
        ..udp(remote)
    }
}

/// A registrar and its location service at a time, and what came out of them.
struct Desk {
    location: Location,
    settings: config::Registrar,
    flow: Flow,
    now: u64,
    changes: Vec<Change>,
    lines: Vec<u8>,
}

impl Desk {
    fn new() -> Self {
        Self {
            location: Location::new(&[user("100"), user("101")], &SEED),
            settings: settings(),
            flow: udp("203.0.113.7:41000"),
            now: 0,
            changes: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Sends a REGISTER with these header lines (`\n` ends each) and gives its status.
    fn register(&mut self, call_id: &str, cseq: u32, headers: &str) -> u16 {
        self.answer(call_id, cseq, headers).status
    }

    fn answer(&mut self, call_id: &str, cseq: u32, headers: &str) -> Registered {
        let text = format!(
            "REGISTER sip:pbx SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK{cseq}\r\nMax-Forwards: 70\r\n\
             From: <sip:100@pbx>;tag=a\r\nTo: <sip:100@pbx>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n\
             {}Content-Length: 0\r\n\r\n",
            headers.replace('\n', "\r\n")
        );
        self.raw(text.as_bytes())
    }

    fn raw(&mut self, bytes: &[u8]) -> Registered {
        let request = message::parse(bytes).expect("a well-formed request");
        self.lines.clear();
        self.changes.clear();
        let forbidden = |uri: &Uri<'_>, flow: &Flow| {
            assert_eq!(flow.local.port(), 5060);
            uri.host_raw == b"carrier.example" || uri.params.get("maddr").is_some()
        };
        register(
            at(self.now),
            &request,
            &self.flow,
            USER,
            "100",
            &self.settings,
            &mut self.location,
            &forbidden,
            &mut self.lines,
            &mut self.changes,
        )
    }

    /// Values of the Contact lines of the last answer.
    fn contacts(&self) -> Vec<&str> {
        self.values("Contact")
    }

    fn values(&self, name: &str) -> Vec<&str> {
        let text = std::str::from_utf8(&self.lines).unwrap();
        assert!(text.is_empty() || text.ends_with("\r\n"));
        let lines = text.split_terminator("\r\n");
        lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
    }

    /// Contact URIs of the user's bindings in order.
    fn bound(&self) -> Vec<String> {
        let bindings = self.location.bindings(USER);
        bindings.map(|binding| String::from_utf8(binding.contact().to_vec()).unwrap()).collect()
    }
}

#[test]
fn a_first_registration() {
    let mut desk = Desk::new();
    let answer = desk.answer("a", 1, "Contact: \"Al\" <sip:100@10.0.0.5:5062>\nUser-Agent: Phone/1\n");
    assert_eq!(answer, Registered::new(200, "OK"));
    assert_eq!(desk.contacts(), ["<sip:100@10.0.0.5:5062>;expires=600"]);
    assert_eq!(desk.values("Date"), ["Sun, 15 Jun 2025 15:06:40 GMT"]);
    assert_eq!(desk.values("Supported"), ["path, outbound"]);
    assert_eq!(desk.values("Require"), [""; 0]);
    assert_eq!(
        desk.changes,
        [Change::Binding(Box::new(BindingRow {
            user: "100".into(),
            contact: b"sip:100@10.0.0.5:5062".to_vec(),
            path: Vec::new(),
            call_id: b"a".to_vec(),
            cseq: 1,
            q: 1000,
            instance: Vec::new(),
            reg_id: 0,
            user_agent: b"Phone/1".to_vec(),
            transport: Transport::Udp,
            local: desk.flow.local,
            remote: desk.flow.remote,
            since: at(0).unix,
            expires: at(600).unix,
        }))]
    );
    let binding = desk.location.bindings(USER).next().unwrap();
    assert_eq!(binding.flow(), desk.flow);
    assert_eq!(desk.location.has_flow(&desk.flow), Some(USER));
    assert_eq!(desk.location.count(), 1);
}
