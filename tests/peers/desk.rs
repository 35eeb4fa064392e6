//! Phones of our own, over UDP and TCP: they register, call each other, answer and hang up, one thing after the other, and
//! what they were told is what a test goes by. They play their part only: what a server must bear is others' business.

mod calls;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sipkeep::auth::digest::{self, Login};
use sipkeep::config::Secret;
use sipkeep::message::DigestParams;
use socket2::{Domain, Socket, Type};

pub use self::calls::{Call, How, Outcome};

/// Of every user.
pub const PASSWORD: &str = "n7-wetter-koffer";
/// How long a phone waits for anything, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it looks whether the server is still there.
const SLICE: Duration = Duration::from_millis(10);
/// Until a request is sent once more (RFC 3261 §17.1.2.2, T1).
const AGAIN: Duration = Duration::from_millis(500);
/// INVITEs that were answered and are known when they come again.
const ANSWERED_MAX: usize = 16;

/// The server was killed: nobody answers any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

enum Wire {
    Udp(UdpSocket),
    /// With what was read and is not a whole message yet.
    Tcp(TcpStream, Vec<u8>),
}

/// See the module.
pub struct Phone {
    pub user: String,
    pub local: SocketAddr,
    /// Bodies of MESSAGEs that it was given, and when it said 200 to them.
    pub letters: Vec<(String, Instant)>,
    /// Answers that were refused for their nonce's age only.
    pub stale: u32,
    server: SocketAddr,
    wire: Wire,
    password: String,
    /// Value of the last challenge, the header that answers it, and how often it was answered.
    challenge: Option<(String, &'static str, u32)>,
    /// Tells its requests and dialogs from all others.
    name: String,
    number: u32,
    answered: VecDeque<String>,
    is_over: Arc<AtomicBool>,
}

/// One side of a call, as a phone needs it for requests within.
#[derive(Clone, Debug)]
struct Side {
    uri: String,
    own: String,
    other: String,
    call_id: String,
}

/// Value of a header.
pub fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let lines = message
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(':'));
    let mut values = lines.filter(|(own, _)| own.trim_end().eq_ignore_ascii_case(name));
    (values.next()).map_or("", |(_, value)| value.trim())
}

/// Of a response; 0 for a request.
pub fn status(message: &str) -> u16 {
    let code = message
        .strip_prefix("SIP/2.0 ")
        .and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn is_answer_to(message: &str, request: &str) -> bool {
    status(message) != 0
        && header(message, "CSeq") == header(request, "CSeq")
        && header(message, "Call-ID") == header(request, "Call-ID")
}

impl Phone {
    /// One over UDP, on a port of its own. `is_over`: set when the server was killed.
    pub fn udp(user: &str, host: Ipv4Addr, server: SocketAddr, is_over: &Arc<AtomicBool>) -> Self {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        socket.set_read_timeout(Some(SLICE)).unwrap();
        let local = socket.local_addr().unwrap();
        Self::new(user, local, server, Wire::Udp(socket), is_over)
    }

    /// One over TCP. `None`: the server takes no connection.
    pub fn tcp(
        user: &str,
        host: Ipv4Addr,
        server: SocketAddr,
        is_over: &Arc<AtomicBool>,
    ) -> Option<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((host, 0)).into()).unwrap();
        socket.connect_timeout(&server.into(), PATIENCE).ok()?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(SLICE)).unwrap();
        let local = stream.local_addr().unwrap();
        Some(Self::new(
            user,
            local,
            server,
            Wire::Tcp(stream, Vec::new()),
            is_over,
        ))
    }

    fn new(
        user: &str,
        local: SocketAddr,
        server: SocketAddr,
        wire: Wire,
        is_over: &Arc<AtomicBool>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            user: user.to_owned(),
            local,
            letters: Vec::new(),
            stale: 0,
            server,
            wire,
            password: PASSWORD.to_owned(),
            challenge: None,
            name: format!("{}x{number}", std::process::id()),
            number: 0,
            answered: VecDeque::new(),
            is_over: Arc::clone(is_over),
        }
    }

    /// The same with a wrong password.
    pub fn with_password(mut self, password: &str) -> Self {
        self.password = password.to_owned();
        self
    }

    fn is_stream(&self) -> bool {
        matches!(self.wire, Wire::Tcp(..))
    }

    /// Its Contact URI; `line` tells several of one phone apart.
    pub fn contact(&self, line: u32) -> String {
        let transport = if self.is_stream() {
            ";transport=tcp"
        } else {
            ""
        };
        format!("sip:{}@{};line={line}{transport}", self.user, self.local)
    }

    /// What cannot be sent is as good as lost: that shows by the answer that does not come.
    pub fn send(&mut self, message: &str) {
        match &mut self.wire {
            Wire::Udp(socket) => drop(socket.send_to(message.as_bytes(), self.server)),
            Wire::Tcp(stream, _) => drop(stream.write_all(message.as_bytes())),
        }
    }

    /// The next message within a [`SLICE`].
    fn receive(&mut self) -> Option<String> {
        let mut bytes = [0; 65_535];
        match &mut self.wire {
            Wire::Udp(socket) => {
                let length = socket.recv(&mut bytes).ok()?;
                Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
            }
            Wire::Tcp(stream, rest) => {
                if let Some(message) = whole(rest) {
                    return Some(message);
                }
                match stream.read(&mut bytes) {
                    Ok(0) => std::thread::sleep(SLICE),
                    Ok(length) => rest.extend_from_slice(&bytes[..length]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => std::thread::sleep(SLICE),
                }
                whole(rest)
            }
        }
    }

    /// Waits for a message; what comes else is minded as a phone does. `again` is sent until it comes, over UDP.
    fn wait_for(
        &mut self,
        again: Option<&str>,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<String, Gone> {
        let begun = Instant::now();
        let mut due = AGAIN;
        loop {
            if let Some(message) = self.receive() {
                if is_wanted(&message) {
                    return Ok(message);
                }
                self.mind(&message);
                continue;
            }
            if self.is_over.load(Ordering::Relaxed) {
                return Err(Gone);
            }
            let waited = begun.elapsed();
            assert!(
                waited < PATIENCE,
                "{} at {}: no answer to {again:?}",
                self.user,
                self.local
            );
            if let Some(message) = again.filter(|_| waited > due && !self.is_stream()) {
                due = waited + AGAIN.max(waited);
                let message = message.to_owned();
                self.send(&message);
            }
        }
    }

    /// Answers what needs an answer wherever it comes.
    fn mind(&mut self, message: &str) {
        let method = message.split(' ').next().unwrap_or_default();
        match method {
            "MESSAGE" => {
                self.answer(message, 200, "");
                let body = message.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                self.letters.push((body.to_owned(), Instant::now()));
            }
            "BYE" | "CANCEL" | "OPTIONS" | "NOTIFY" => self.answer(message, 200, ""),
            _ => {}
        }
    }

    /// Minds what comes for so long.
    pub fn idle(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if let Some(message) = self.receive() {
                self.mind(&message);
            }
        }
    }

    /// Whether anything at all has come.
    pub fn has_heard(&mut self) -> bool {
        self.receive().is_some()
    }

    fn request(
        &mut self,
        method: &str,
        side: &Side,
        number: u32,
        lines: &str,
        body: &str,
    ) -> String {
        self.number += 1;
        let transport = if self.is_stream() { "TCP" } else { "UDP" };
        let Self { local, name, .. } = self;
        let branch = self.number;
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch=z9hG4bK{name}b{branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: {own}\r\nTo: {other}\r\nCall-ID: {id}\r\nCSeq: {number} {method}\r\n{lines}\
             Content-Length: {length}\r\n\r\n{body}",
            uri = side.uri,
            own = side.own,
            other = side.other,
            id = side.call_id,
            length = body.len()
        )
    }

    fn answer(&mut self, request: &str, status: u16, body: &str) {
        let [via, from, to, call_id, cseq] =
            ["Via", "From", "To", "Call-ID", "CSeq"].map(|name| header(request, name));
        let tag = match to.contains(";tag=") || status == 100 {
            true => String::new(),
            false => format!(";tag={}", self.name),
        };
        let kind = match body {
            "" => "",
            _ => "Content-Type: application/sdp\r\n",
        };
        let text = format!(
            "SIP/2.0 {status} Said\r\nVia: {via}\r\nFrom: {from}\r\nTo: {to}{tag}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq}\r\nContact: <{}>\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            self.contact(0),
            body.len()
        );
        self.send(&text);
    }

    /// The header line that answers the last challenge.
    fn credentials(&mut self, method: &str, uri: &str) -> String {
        let Some((challenge, name, nc)) = &mut self.challenge else {
            return String::new();
        };
        *nc += 1;
        let params = DigestParams::parse(challenge.as_bytes()).unwrap().unwrap();
        let secret = Secret::Password(self.password.clone());
        let login = Login {
            user: &self.user,
            secret: &secret,
            method: method.as_bytes(),
            uri: uri.as_bytes(),
            nc: *nc,
            cnonce: b"5f0c3a",
        };
        let value = digest::answer(&params, &login).unwrap();
        format!("{name}: {}\r\n", String::from_utf8(value).unwrap())
    }

    /// Takes what a 401 or 407 says; false for other answers.
    fn is_challenged(&mut self, answer: &str) -> bool {
        let (name, own) = match status(answer) {
            401 => ("WWW-Authenticate", "Authorization"),
            407 => ("Proxy-Authenticate", "Proxy-Authorization"),
            _ => return false,
        };
        let challenge = header(answer, name).to_owned();
        self.stale += u32::from(challenge.contains("stale=true"));
        self.challenge = Some((challenge, own, 0));
        true
    }

    /// The Call-ID of what it begins as `id`.
    pub fn call_id(&self, id: &str) -> String {
        format!("{id}-{}", self.name)
    }

    /// A new dialog or request from this user to that one; `id` tells its Call-ID.
    fn towards(&self, uri: String, to: &str, id: &str) -> Side {
        let host = self.server.ip();
        Side {
            uri,
            own: format!("<sip:{}@{host}>;tag={}", self.user, self.name),
            other: format!("<sip:{to}@{host}>"),
            call_id: self.call_id(id),
        }
    }

    /// A request with its challenge, and the final answer.
    fn ask(&mut self, method: &str, side: &Side, lines: &str, body: &str) -> Result<String, Gone> {
        for _ in 0..4 {
            let credentials = self.credentials(method, &side.uri);
            let number = self.number + 1;
            let request =
                self.request(method, side, number, &format!("{credentials}{lines}"), body);
            self.send(&request);
            let is_final =
                |message: &str| is_answer_to(message, &request) && status(message) >= 200;
            let answer = self.wait_for(Some(&request), is_final)?;
            if !self.is_challenged(&answer) {
                return Ok(answer);
            }
        }
        panic!("{} is challenged for ever", self.user)
    }

    /// Registers this Contact for so many seconds, 0 to remove it; the seconds that were granted.
    pub fn register(&mut self, line: u32, seconds: u32) -> Result<u32, Gone> {
        let contact = self.contact(line);
        let lines = format!("Contact: <{contact}>\r\nExpires: {seconds}\r\n");
        let side = self.towards(
            format!("sip:{}", self.server.ip()),
            &self.user,
            &format!("r{line}"),
        );
        let answer = self.ask("REGISTER", &side, &lines, "")?;
        assert_eq!(status(&answer), 200, "{answer}");
        // Several Contacts may stand in one line or in several.
        let granted = answer.split(&contact).nth(1);
        let granted = granted.and_then(|rest| rest.split_once("expires="));
        let digits = |(_, rest): (&str, &str)| {
            rest.chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
        };
        let granted = granted
            .and_then(|rest| digits(rest).parse().ok())
            .unwrap_or(0);
        assert!((granted == 0) == (seconds == 0), "{answer}");
        Ok(granted)
    }

    /// Removes all Contacts of the user.
    pub fn unregister_all(&mut self) -> Result<(), Gone> {
        let host = self.server.ip();
        let side = self.towards(format!("sip:{host}"), &self.user, "r0");
        let answer = self.ask("REGISTER", &side, "Contact: *\r\nExpires: 0\r\n", "")?;
        assert_eq!(status(&answer), 200, "{answer}");
        Ok(())
    }

    /// Sends a REGISTER and waits for no answer: as the last challenge wants it, if there was one.
    pub fn knock(&mut self) {
        let side = self.towards(format!("sip:{}", self.server.ip()), &self.user, "k");
        let credentials = self.credentials("REGISTER", &side.uri);
        let number = self.number + 1;
        let request = self.request("REGISTER", &side, number, &credentials, "");
        self.send(&request);
    }

    /// The same as somebody who has not been challenged.
    pub fn knock_bare(&mut self) {
        self.challenge = None;
        self.knock();
    }

    /// The answer, if any comes in so long; a challenge is taken.
    pub fn heard(&mut self, within: Duration) -> Option<u16> {
        let end = Instant::now() + within;
        loop {
            if let Some(message) = self.receive() {
                self.is_challenged(&message);
                return Some(status(&message));
            }
            if Instant::now() > end || self.is_over.load(Ordering::Relaxed) {
                return None;
            }
        }
    }

    /// Writes to a user; the answer's status.
    pub fn write(&mut self, to: &str, id: &str, body: &str) -> Result<u16, Gone> {
        let side = self.towards(format!("sip:{to}@{}", self.server.ip()), to, id);
        let answer = self.ask("MESSAGE", &side, "Content-Type: text/plain\r\n", body)?;
        Ok(status(&answer))
    }

    /// Asks for the state of a user's calls for so many seconds; the answer's status.
    pub fn subscribe(&mut self, to: &str, id: &str, seconds: u32) -> Result<u16, Gone> {
        let side = self.towards(format!("sip:{to}@{}", self.server.ip()), to, id);
        let lines = format!(
            "Contact: <{}>\r\nEvent: dialog\r\nAccept: application/dialog-info+xml\r\nExpires: {seconds}\r\n",
            self.contact(0)
        );
        let answer = self.ask("SUBSCRIBE", &side, &lines, "")?;
        Ok(status(&answer))
    }
}

/// Takes the first message out of what was read, once it is whole.
fn whole(bytes: &mut Vec<u8>) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let head = text.find("\r\n\r\n")? + 4;
    let body: usize = header(&text, "Content-Length").parse().unwrap_or(0);
    if bytes.len() < head + body {
        return None;
    }
    let message: Vec<u8> = bytes.drain(..head + body).collect();
    Some(String::from_utf8_lossy(&message).into_owned())
}
