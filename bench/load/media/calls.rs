//! Sets up calls that stay: a trunk calls registered users, one after the other, and both sides' descriptions name the
//! sockets of [`Phones`]. What each phone is told to send to is where the server says.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sipkeep::message::compose::Composer;
use sipkeep::message::{HeaderName, Message, Method, parse};
use sipkeep::net::sys::ReceiveBatch;

use super::phones::Phones;
use crate::engine::Job;
use crate::message::{self, User};
use crate::socket::{Outbox, Udp, Waiter};

/// Place of the caller's and of the callee's socket.
const CALLER: usize = 0;
const CALLEE: usize = 1;
/// For a call to be answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// The signalling of both sides.
pub struct Signalling {
    target: SocketAddr,
    sockets: [Udp; 2],
    waiter: Waiter,
    batch: ReceiveBatch,
    run: u32,
    users: Vec<User>,
}

/// What a call that is being set up has come to.
#[derive(Default)]
struct Progress {
    /// Where caller and callee are to send media.
    remotes: [Option<SocketAddr>; 2],
    is_refused: bool,
}

impl Signalling {
    /// Registers the users that are called, from the second of the addresses.
    ///
    /// # Errors
    /// One is refused, for people.
    pub fn register(
        target: SocketAddr,
        addresses: [IpAddr; 2],
        users: (u32, u32),
        password: &str,
    ) -> Result<Self, String> {
        let io = |error: std::io::Error| format!("{target}: {error}");
        let [caller, callee] = addresses.map(|address| Udp::bind(SocketAddr::new(address, 0)));
        let mut sockets = [caller.map_err(io)?, callee.map_err(io)?];
        let mut bytes = [0; 4];
        getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
        let run = u32::from_le_bytes(bytes);
        let domain = target.ip().to_string();
        let new = |number| User::new(number, &domain, password, run);
        let mut users: Vec<User> = (users.0..=users.1).map(new).collect();
        message::register_all(users.iter_mut(), &mut sockets, CALLEE, target, &domain, run)?;
        let waiter = Waiter::new(&sockets).map_err(io)?;
        Ok(Self {
            target,
            sockets,
            waiter,
            batch: ReceiveBatch::new(),
            run,
            users,
        })
    }

    /// Sets up one call for each user; where each phone is to send to, in their order.
    ///
    /// # Errors
    /// One is not answered, for people.
    pub fn call_all(&mut self, phones: &Phones) -> Result<Vec<SocketAddr>, String> {
        let mut remotes = Vec::new();
        for index in 0..self.users.len() {
            let locals = [phones.local(2 * index), phones.local(2 * index + 1)];
            remotes.extend(self.call(index, locals)?);
        }
        Ok(remotes)
    }

    fn call(&mut self, index: usize, media: [SocketAddr; 2]) -> Result<[SocketAddr; 2], String> {
        let target = self.target;
        let io = |error: std::io::Error| format!("{target}: {error}");
        let mut out = Outbox::default();
        out.push(CALLER, &self.invite(index, media[CALLER]));
        let mut progress = Progress::default();
        let begun = Instant::now();
        loop {
            out.send(&mut self.sockets, target).map_err(io)?;
            if let [Some(caller), Some(callee)] = progress.remotes {
                return Ok([caller, callee]);
            }
            let name = &self.users[index].name;
            if progress.is_refused {
                return Err(format!("{target}: a call to {name} is refused"));
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("{target}: a call to {name} is not answered"));
            }
            (self.waiter)
                .wait(&mut self.sockets, Duration::from_millis(50))
                .map_err(io)?;
            for place in [CALLER, CALLEE] {
                if self.sockets[place].receive(&mut self.batch).map_err(io)? == 0 {
                    continue;
                }
                let came: Vec<Vec<u8>> = (self.batch.datagrams())
                    .map(|datagram| datagram.bytes.to_vec())
                    .collect();
                for bytes in came {
                    let Ok(message) = parse(&bytes) else { continue };
                    self.message(place, index, &message, media, &mut progress, &mut out);
                }
            }
        }
    }

    fn message(
        &self,
        place: usize,
        index: usize,
        message: &Message<'_>,
        media: [SocketAddr; 2],
        progress: &mut Progress,
        out: &mut Outbox,
    ) {
        match (place, message.is_request()) {
            (CALLER, false) if message.cseq().method == Method::Invite => match message.status() {
                100..200 => {}
                200..300 => {
                    progress.remotes[CALLER] = media_place(message.body());
                    progress.is_refused = progress.remotes[CALLER].is_none();
                    out.push(CALLER, &self.acknowledge(message, index));
                }
                _ => progress.is_refused = true,
            },
            (CALLEE, true) if message.method() == Method::Invite => {
                progress.remotes[CALLEE] = media_place(message.body());
                let description = describe(media[CALLEE]);
                out.push(CALLEE, &self.respond(message, description.as_bytes()));
            }
            (_, true) if message.method() != Method::Ack => {
                out.push(place, &self.respond(message, b""));
            }
            _ => {}
        }
    }

    fn respond(&self, request: &Message<'_>, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let local = self.sockets[CALLEE].local;
        let flow = message::flow(local, self.target);
        let branch = request.via().branch;
        let tag = &branch[branch.len().saturating_sub(16)..];
        let mut composer = Composer::response_to(&mut bytes, request, &flow, 200, "OK", tag);
        if !body.is_empty() {
            composer.field("Contact", &[format!("<sip:{local}>").as_bytes()]);
        }
        let kind = (!body.is_empty()).then_some(&b"application/sdp"[..]);
        composer.finish(kind, body);
        bytes
    }

    fn job(&self, index: usize, serial: u32) -> Job {
        Job {
            run: self.run,
            slot: index as u32,
            serial,
        }
    }

    fn invite(&self, index: usize, media: SocketAddr) -> Vec<u8> {
        let mut bytes = Vec::new();
        let local = self.sockets[CALLER].local;
        let branch = message::branch(self.job(index, 1));
        let (callee, unique) = (self.users[index].aor.as_bytes(), &branch[7..]);
        let mut composer = message::request(&mut bytes, b"INVITE", callee, local, &branch);
        let caller = format!("<sip:0301234567@{}>;tag=", local.ip());
        composer.field("From", &[caller.as_bytes(), unique]);
        composer
            .field("To", &[b"<", callee, b">"])
            .field("Call-ID", &[unique]);
        composer.field("CSeq", &[b"1 INVITE"]);
        composer.field("Contact", &[format!("<sip:{local}>").as_bytes()]);
        composer.finish(Some(b"application/sdp"), describe(media).as_bytes());
        bytes
    }

    fn acknowledge(&self, answer: &Message<'_>, index: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let local = self.sockets[CALLER].local;
        let branch = message::branch(self.job(index, 2));
        let uri = answer
            .contact_values()
            .next()
            .map_or(&b"sip:unknown"[..], |contact| contact.address.uri);
        let mut composer = message::request(&mut bytes, b"ACK", uri, local, &branch);
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
            if let Some(value) = answer.value(name) {
                composer.field(name.text(), &[value]);
            }
        }
        composer.field("CSeq", &[b"1 ACK"]);
        composer.finish(None, b"");
        bytes
    }

    /// Asks whether the server is there, from the phones' socket.
    ///
    /// # Errors
    /// The kernel's, for people.
    pub fn ask(&mut self, serial: u32) -> Result<(), String> {
        let io = |error: std::io::Error| format!("{}: {error}", self.target);
        let mut bytes = Vec::new();
        let local = self.sockets[CALLEE].local;
        let branch = message::branch(self.job(u32::MAX as usize, serial));
        let user = &self.users[0];
        let uri = format!("sip:{}", self.target.ip());
        let mut composer = message::request(&mut bytes, b"OPTIONS", uri.as_bytes(), local, &branch);
        composer.field(
            "From",
            &[b"<", user.aor.as_bytes(), b">;tag=", &branch[7..]],
        );
        composer
            .field("To", &[b"<", uri.as_bytes(), b">"])
            .field("Call-ID", &[&branch[7..]]);
        composer.field("CSeq", &[b"1 OPTIONS"]);
        composer.finish(None, b"");
        let mut out = Outbox::default();
        out.push(CALLEE, &bytes);
        out.send(&mut self.sockets, self.target).map_err(io)
    }

    /// The numbers of the questions that were answered. What else comes is answered, so that calls go on.
    ///
    /// # Errors
    /// The kernel's, for people.
    pub fn answered(&mut self) -> Result<Vec<u32>, String> {
        let io = |error: std::io::Error| format!("{}: {error}", self.target);
        let prefix = message::prefix(self.run);
        let finder = memchr::memmem::Finder::new(&prefix);
        let mut out = Outbox::default();
        let mut answered = Vec::new();
        for place in [CALLER, CALLEE] {
            self.sockets[place].look_again();
            if self.sockets[place].receive(&mut self.batch).map_err(io)? == 0 {
                continue;
            }
            for datagram in self.batch.datagrams() {
                match message::job_of(&finder, datagram.bytes) {
                    Some((u32::MAX, serial)) if message::status(datagram.bytes) == 200 => {
                        answered.push(serial);
                    }
                    _ => {
                        let request = parse(datagram.bytes);
                        let request = request.ok().filter(|message| message.is_request());
                        if let Some(request) = request.filter(|own| own.method() != Method::Ack) {
                            out.push(place, &self.respond(&request, b""));
                        }
                    }
                }
            }
        }
        out.send(&mut self.sockets, self.target).map_err(io)?;
        Ok(answered)
    }
}

fn describe(media: SocketAddr) -> String {
    let (host, port) = (media.ip(), media.port());
    format!(
        "v=0\r\no=- 3723651 3723651 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n\
         a=rtpmap:8 PCMA/8000\r\na=ptime:20\r\na=sendrecv\r\n"
    )
}

/// Address and port of a description's one stream.
fn media_place(body: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(body).ok()?;
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    let host: IpAddr = line("c=IN IP4 ")?.parse().ok()?;
    let port = line("m=audio ")?.split(' ').next()?.parse().ok()?;
    Some(SocketAddr::new(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_of_media_is_read() {
        let place = SocketAddr::from(([127, 0, 0, 9], 20_000));
        assert_eq!(media_place(describe(place).as_bytes()), Some(place));
        assert_eq!(media_place(b"v=0\r\n"), None);
    }
}
