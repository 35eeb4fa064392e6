//! A server without sockets on virtual time, and messages to throw at it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sipkeep::api::{Answer, Command, Status};
use sipkeep::auth::digest::{self, Login};
use sipkeep::config::{Config, Secret};
use sipkeep::endpoint::{Endpoint, Input, Output};
use sipkeep::message::DigestParams;
use sipkeep::source::{ConnectionId, Flow, Source, Transport};
use sipkeep::store::{Change, Snapshot};
use sipkeep::time::{Instant, Now, UnixTime};

/// Where the server listens.
pub const SERVER: &str = "192.0.2.100:5060";
/// Users 100 and 101 with passwords, 102 and 103 by address, a trunk.
pub const CONFIG: &str = "[server]\nlisten = udp:192.0.2.100:5060, tcp:192.0.2.100:5060\n\
    [user 100]\npassword = hundred-kXq7\n[user 101]\npassword = hundred-one-kXq7\n\
    [user 102]\naddresses = 192.0.2.2\n[user 103]\naddresses = 192.0.2.3\n\
    [trunk carrier]\naddresses = 198.51.100.4:5060\nkeepalive = 0\nincoming = 102\n";
/// The password of user 100.
pub const PASSWORD: &str = "hundred-kXq7";
/// What phones say beside: without it they would ask with fewer bytes than a challenge has.
const USUAL: &str = "User-Agent: Phone 1.0 (a name of ordinary length)\r\nSupported: path, outbound\r\n\
    Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY, INFO, UPDATE, REFER, MESSAGE\r\n";
/// A stranger.
pub const STRANGER: &str = "203.0.113.7:41000";
/// User 102, by address.
pub const USER: &str = "192.0.2.2:5060";
/// User 103, by address.
pub const OTHER: &str = "192.0.2.3:5060";
/// The trunk.
pub const TRUNK: &str = "198.51.100.4:5060";

/// What one input made the server do.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Datagrams, with where they go.
    pub sent: Vec<(SocketAddr, String)>,
    /// What was written to connections.
    pub written: Vec<(ConnectionId, String)>,
    pub opened: Vec<SocketAddr>,
    pub closed: Vec<ConnectionId>,
    pub trusted: Vec<ConnectionId>,
    pub banned: Vec<Source>,
    pub kept: Vec<Change>,
    pub events: Vec<(&'static str, BTreeMap<&'static str, String>)>,
}

impl Outcome {
    /// Nothing was sent to anybody.
    pub fn is_silent(&self) -> bool {
        self.sent.is_empty() && self.written.is_empty() && self.opened.is_empty()
    }

    /// Statuses of the responses among the datagrams.
    pub fn statuses(&self) -> Vec<u16> {
        let texts = self.sent.iter().map(|(_, text)| text);
        let all = texts.chain(self.written.iter().map(|(_, text)| text));
        all.filter(|text| text.starts_with("SIP/2.0 "))
            .map(|text| status(text))
            .collect()
    }

    /// The only thing that was sent.
    #[track_caller]
    pub fn only(self) -> String {
        assert_eq!(self.sent.len() + self.written.len(), 1, "{self:#?}");
        let written = self.written.into_iter().map(|(_, text)| text);
        let mut all = self.sent.into_iter().map(|(_, text)| text).chain(written);
        all.next().expect("one")
    }

    /// What goes to this address.
    #[track_caller]
    pub fn to(&self, remote: &str) -> &str {
        let remote: SocketAddr = remote.parse().unwrap();
        let found = self.sent.iter().find(|(to, _)| *to == remote);
        found.map_or_else(
            || panic!("nothing for {remote}: {self:#?}"),
            |(_, text)| text,
        )
    }

    fn take(&mut self, endpoint: &mut Endpoint) {
        for output in endpoint.outputs() {
            match output {
                Output::Datagram { flow, bytes } => {
                    assert!(flow.connection.is_none() && flow.transport == Transport::Udp);
                    self.sent
                        .push((flow.remote, String::from_utf8_lossy(bytes).into_owned()));
                }
                Output::StreamBytes { connection, bytes } => {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    self.written.push((connection, text));
                }
                Output::OpenStream { remote, .. } => self.opened.push(remote),
                Output::CloseStream { connection } => self.closed.push(connection),
                Output::StreamTrusted { connection } => self.trusted.push(connection),
                Output::Banned { source } => self.banned.push(source),
                Output::Ask { .. } | Output::CloseQuery { .. } => {
                    panic!("a message makes the server ask about a name: {output:?}")
                }
                // Of calls, which nobody can make who is not known.
                Output::OpenMedia { .. } | Output::CloseMedia { .. } => {}
                Output::Keep(change) => self.kept.push(change.clone()),
                Output::Event(event) => self.events.push((
                    event.name,
                    (event.fields().into_iter())
                        .map(|(key, value)| (key, value.into_owned()))
                        .collect(),
                )),
            }
        }
        endpoint.clear_outputs();
    }
}

/// The server, and what time it is.
pub struct Site {
    pub endpoint: Endpoint,
    pub now: Now,
    /// What it kept for the next run.
    pub nonce_key: Option<([u8; 32], UnixTime)>,
}

impl Site {
    pub fn new() -> Self {
        Self::of(CONFIG)
    }

    pub fn of(config: &str) -> Self {
        let now = Now {
            mono: Instant::from_micros(1_000_000),
            unix: UnixTime::from_millis(1_790_000_000_000),
        };
        Self::restarted(config, now, Snapshot::default())
    }

    pub fn restarted(config: &str, now: Now, kept: Snapshot) -> Self {
        // Each run has a seed of its own.
        let seed = if kept.nonce_key.is_some() || !kept.bans.is_empty() {
            [8; 32]
        } else {
            [7; 32]
        };
        let config = Config::read(config, Path::new(".")).expect("a good configuration");
        let mut endpoint = Endpoint::new(now, config, seed, kept);
        let mut started = Outcome::default();
        started.take(&mut endpoint);
        let nonce_key = started.kept.iter().find_map(|change| match change {
            Change::NonceKey(key, made) => Some((*key, *made)),
            _ => None,
        });
        Self {
            endpoint,
            now,
            nonce_key,
        }
    }

    pub fn input(&mut self, input: Input<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        self.endpoint.handle_input(self.now, input);
        outcome.take(&mut self.endpoint);
        outcome
    }

    /// A datagram from there.
    pub fn udp(&mut self, from: &str, bytes: impl AsRef<[u8]>) -> Outcome {
        let flow = Flow {
            transport: Transport::Udp,
            local: SERVER.parse().unwrap(),
            remote: from.parse().unwrap(),
            connection: None,
        };
        let bytes = bytes.as_ref();
        self.input(Input::Datagram { flow, bytes })
    }

    /// A connection from there; its number must be even.
    pub fn connect(&mut self, from: &str, number: u64) -> ConnectionId {
        let outcome = self.open(from, number);
        assert!(outcome.is_silent(), "{outcome:?}");
        ConnectionId(number)
    }

    /// The same, with what it made the server do.
    pub fn open(&mut self, from: &str, number: u64) -> Outcome {
        let connection = ConnectionId(number);
        let flow = Flow {
            transport: Transport::Tcp,
            local: SERVER.parse().unwrap(),
            remote: from.parse().unwrap(),
            connection: Some(connection),
        };
        self.input(Input::StreamOpened { flow })
    }

    pub fn tcp(&mut self, connection: ConnectionId, bytes: impl AsRef<[u8]>) -> Outcome {
        let bytes = bytes.as_ref();
        self.input(Input::StreamBytes { connection, bytes })
    }

    pub fn jump(&mut self, time: Duration) {
        self.now.mono = self.now.mono.plus(time);
        self.now.unix = self.now.unix.plus(time);
    }

    /// Lets time pass, with every deadline in it.
    pub fn pass(&mut self, time: Duration) -> Outcome {
        let mut outcome = Outcome::default();
        let end = self.now.mono.plus(time);
        while let Some(due) = self.endpoint.next_deadline().filter(|due| *due <= end) {
            let step = due.since(self.now.mono).max(Duration::from_micros(1));
            self.jump(step);
            self.endpoint.handle_input(self.now, Input::Tick);
            outcome.take(&mut self.endpoint);
        }
        self.jump(end.since(self.now.mono));
        outcome
    }

    pub fn status(&mut self) -> Status {
        match self.endpoint.command(self.now, Command::Status) {
            Answer::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Registrations, calls and bans.
    pub fn counts(&mut self) -> (usize, usize, usize) {
        let counts = self.status().counts;
        (counts.registrations, counts.calls, counts.bans)
    }

    /// A challenge for whoever sends from there.
    #[track_caller]
    pub fn challenge(&mut self, from: &str) -> String {
        let outcome = self.udp(from, Request::new("REGISTER").user("100").text());
        assert_eq!(outcome.statuses(), [401]);
        outcome.only()
    }

    /// A wrong answer to a fresh challenge.
    pub fn fail(&mut self, from: &str, user: &str, n: u32) -> Outcome {
        let challenge = self.udp(from, Request::new("REGISTER").user(user).text());
        let Some((_, challenge)) = challenge.sent.first() else {
            return challenge;
        };
        let request = Request::new("REGISTER").user(user);
        let password = format!("guess {n}");
        self.udp(from, request.sign(challenge, user, &password).text())
    }

    /// User 100 answers right from there, and so makes it known.
    #[track_caller]
    pub fn prove(&mut self, from: &str) {
        let challenge = self.challenge(from);
        let request = Request::new("REGISTER").user("100");
        let outcome = self.udp(from, request.sign(&challenge, "100", PASSWORD).text());
        assert_eq!(outcome.statuses(), [200], "{outcome:#?}");
    }
}

/// A request, to be changed at will. Each has a branch, Call-ID and tag of its own.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub uri: String,
    pub via: String,
    pub from: String,
    pub to: String,
    pub call_id: String,
    pub cseq: u64,
    /// Further header lines, each with CRLF.
    pub lines: String,
    pub body: String,
}

impl Request {
    pub fn new(method: &str) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(10_000_000);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            method: method.to_owned(),
            uri: if method == "REGISTER" {
                "sip:192.0.2.100".to_owned()
            } else {
                "sip:103@192.0.2.100".to_owned()
            },
            via: format!("SIP/2.0/UDP 10.1.1.1:5060;rport;branch=z9hG4bK{n}"),
            from: format!("<sip:100@192.0.2.100>;tag=f{n}"),
            to: "<sip:103@192.0.2.100>".to_owned(),
            call_id: format!("{n}@phone"),
            cseq: 1,
            lines: format!("Contact: <sip:100@10.1.1.1:5060>\r\n{USUAL}"),
            body: String::new(),
        }
    }

    /// From this user, and to him.
    pub fn user(mut self, user: &str) -> Self {
        let (_, tag) = self.from.split_once(">").unwrap();
        self.from = format!("<sip:{user}@192.0.2.100>{tag}");
        self.to = format!("<sip:{user}@192.0.2.100>");
        self
    }

    /// From this user.
    pub fn by(mut self, user: &str) -> Self {
        let (_, tag) = self.from.split_once(">").unwrap();
        self.from = format!("<sip:{user}@192.0.2.100>{tag}");
        self
    }

    pub fn line(mut self, line: &str) -> Self {
        self.lines.push_str(line);
        self.lines.push_str("\r\n");
        self
    }

    /// Without Contact, or with this one.
    pub fn contact(mut self, contact: &str) -> Self {
        self.lines = self.lines.replace(
            "Contact: <sip:100@10.1.1.1:5060>\r\n",
            &if contact.is_empty() {
                String::new()
            } else {
                format!("Contact: {contact}\r\n")
            },
        );
        self
    }

    pub fn sdp(mut self) -> Self {
        self.lines.push_str("Content-Type: application/sdp\r\n");
        self.body = "v=0\r\no=- 1 1 IN IP4 10.1.1.1\r\ns=-\r\nc=IN IP4 10.1.1.1\r\nt=0 0\r\n\
            m=audio 4000 RTP/AVP 0\r\n"
            .to_owned();
        self
    }

    /// With credentials that answer a challenge.
    #[track_caller]
    pub fn sign(self, challenge: &str, user: &str, password: &str) -> Self {
        self.sign_nth(challenge, user, password, 1)
    }

    /// The same, with this `nc`.
    #[track_caller]
    pub fn sign_nth(self, challenge: &str, user: &str, password: &str, nc: u32) -> Self {
        let value = header(challenge, "WWW-Authenticate").expect("a challenge");
        let params = DigestParams::parse(value.as_bytes()).unwrap().unwrap();
        let secret = Secret::Password(password.to_owned());
        let login = Login {
            user,
            secret: &secret,
            method: self.method.as_bytes(),
            uri: self.uri.as_bytes(),
            nc,
            cnonce: b"c0ffee",
        };
        let value = digest::answer(&params, &login).unwrap();
        let value = String::from_utf8(value).unwrap();
        self.line(&format!("Authorization: {value}"))
    }

    pub fn text(&self) -> String {
        let Self {
            method,
            uri,
            via,
            from,
            to,
            call_id,
            cseq,
            lines,
            body,
        } = self;
        format!(
            "{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// The first value of a header.
pub fn header<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().take_while(|line| !line.is_empty());
    lines
        .filter_map(|line| line.split_once(": "))
        .find(|(own, _)| own.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

/// The tag of a From or To value.
pub fn tag(value: &str) -> &str {
    let (_, rest) = value.split_once(";tag=").expect("a tag");
    rest.split(';').next().unwrap()
}

/// The status code of a response.
pub fn status(text: &str) -> u16 {
    text[8..11].parse().expect("a status code")
}

/// A callee's answer to a request of ours.
pub fn answer(request: &str, status: u16, to_tag: &str, lines: &str, body: &str) -> String {
    let value = |name| header(request, name).unwrap();
    let to = value("To");
    let to = if to.contains(";tag=") {
        to.to_owned()
    } else {
        format!("{to};tag={to_tag}")
    };
    format!(
        "SIP/2.0 {status} Any\r\nVia: {}\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n{lines}Content-Length: {}\r\n\r\n{body}",
        value("Via"),
        value("From"),
        value("Call-ID"),
        value("CSeq"),
        body.len()
    )
}

/// A call from user 102 to user 103, both by address, answered and acknowledged.
pub struct Call {
    /// The caller's INVITE.
    pub invite: Request,
    /// The To that the server answered with.
    pub to: String,
    /// Its Contact.
    pub contact: String,
    /// The INVITE that the callee got.
    pub outgoing: String,
}

impl Call {
    #[track_caller]
    pub fn up(site: &mut Site) -> Self {
        let invite = Request::new("INVITE")
            .by("102")
            .contact("<sip:102@192.0.2.2>")
            .sdp();
        let outcome = site.udp(USER, invite.text());
        let outgoing = outcome.to(OTHER).to_owned();
        assert!(outgoing.starts_with("INVITE "), "{outgoing}");
        let lines = "Contact: <sip:103@192.0.2.3>\r\nContent-Type: application/sdp\r\n";
        let outcome = site.udp(OTHER, answer(&outgoing, 200, "callee", lines, &invite.body));
        let accepted = outcome.to(USER).to_owned();
        assert_eq!(status(&accepted), 200, "{accepted}");
        let to = header(&accepted, "To").unwrap().to_owned();
        let contact = header(&accepted, "Contact").unwrap();
        let contact = contact.trim_matches(['<', '>']).to_owned();
        let call = Self {
            invite,
            to,
            contact,
            outgoing,
        };
        site.udp(USER, call.within("ACK", 1).text());
        assert_eq!(site.counts().1, 1);
        call
    }

    /// A request of the caller within the dialog.
    pub fn within(&self, method: &str, cseq: u64) -> Request {
        Request {
            uri: self.contact.clone(),
            from: self.invite.from.clone(),
            to: self.to.clone(),
            call_id: self.invite.call_id.clone(),
            cseq,
            ..Request::new(method).contact("<sip:102@192.0.2.2>")
        }
    }
}
