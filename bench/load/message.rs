//! What all scenarios' messages have in common: branches, credentials, a socket that waits for its answers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use sipkeep::auth::digest::{self, Login};
use sipkeep::config::Secret;
use sipkeep::message::compose::Composer;
use sipkeep::message::{DigestParams, HeaderName, Message, parse};
use sipkeep::net::sys::ReceiveBatch;
use sipkeep::source::{Flow, Transport};

use crate::engine::Job;
use crate::socket::{Outbox, Udp, Waiter};

/// Bytes at the beginning of an answer in which its first branch is looked for.
const BRANCH_WITHIN: usize = 400;

/// What the branches of a run begin with.
pub fn prefix(run: u32) -> [u8; 15] {
    let mut prefix = *b"z9hG4bK........";
    write_hex(&mut prefix[7..], run);
    prefix
}

/// The branch of a job's request.
pub fn branch(job: Job) -> [u8; 31] {
    let mut branch = [0; 31];
    branch[..15].copy_from_slice(&prefix(job.run));
    write_hex(&mut branch[15..23], job.slot);
    write_hex(&mut branch[23..], job.serial);
    branch
}

fn write_hex(out: &mut [u8], value: u32) {
    for (index, byte) in out.iter_mut().enumerate() {
        *byte = b"0123456789abcdef"[(value >> (28 - 4 * index) & 0xf) as usize];
    }
}

/// Slot and serial of the branch in an answer.
pub fn job_of(prefix: &Finder<'_>, bytes: &[u8]) -> Option<(u32, u32)> {
    let head = &bytes[..bytes.len().min(BRANCH_WITHIN)];
    let at = prefix.find(head)? + prefix.needle().len();
    Some((
        read_hex(head.get(at..at + 8)?)?,
        read_hex(head.get(at + 8..at + 16)?)?,
    ))
}

fn read_hex(digits: &[u8]) -> Option<u32> {
    let mut digits = digits.iter();
    digits.try_fold(0, |value, digit| {
        Some(value << 4 | char::from(*digit).to_digit(16)?)
    })
}

/// Status of an answer; 0: it is none.
pub fn status(bytes: &[u8]) -> u16 {
    let digits = bytes
        .strip_prefix(b"SIP/2.0 ")
        .and_then(|rest| rest.get(..3));
    digits
        .and_then(|text| std::str::from_utf8(text).ok())
        .map_or(0, |text| text.parse().unwrap_or(0))
}

/// Begins a request: what all of them have before anything else.
pub fn request<'b>(
    out: &'b mut Vec<u8>,
    method: &[u8],
    uri: &[u8],
    local: SocketAddr,
    branch: &[u8],
) -> Composer<'b> {
    let via = format!("SIP/2.0/UDP {local};rport;branch=");
    let mut composer = Composer::request(out, method, uri);
    composer
        .field("Via", &[via.as_bytes(), branch])
        .number("Max-Forwards", 70);
    composer
}

/// The way between a phone of ours and the server.
pub fn flow(local: SocketAddr, target: SocketAddr) -> Flow {
    Flow {
        transport: Transport::Udp,
        local,
        remote: target,
        connection: None,
    }
}

/// A user of the server under load.
pub struct User {
    /// Name, also of the account.
    pub name: String,
    /// `sip:NAME@DOMAIN`
    pub aor: String,
    /// Of its registration.
    pub call_id: String,
    /// Of its last request.
    pub cseq: u32,
    challenge: Option<Challenge>,
    secret: Secret,
}

/// A challenge that is answered again and again.
struct Challenge {
    value: Vec<u8>,
    nc: u32,
    /// The header field that answers it: a proxy's has one of its own (RFC 3261 §22.3).
    answered_in: &'static str,
}

impl User {
    /// One who has not been challenged yet.
    pub fn new(number: u32, domain: &str, password: &str, run: u32) -> Self {
        Self {
            name: number.to_string(),
            aor: format!("sip:{number}@{domain}"),
            call_id: format!("{run:08x}-{number}"),
            cseq: 0,
            challenge: None,
            secret: Secret::Password(password.to_owned()),
        }
    }

    /// Remembers the strongest challenge of an answer that can be answered; false: there is none.
    pub fn challenged(&mut self, answer: &Message<'_>) -> bool {
        let values = || {
            let both = [
                (HeaderName::WwwAuthenticate, "Authorization"),
                (HeaderName::ProxyAuthenticate, "Proxy-Authorization"),
            ];
            both.into_iter().flat_map(move |(name, answered_in)| {
                let values = answer.line_values(name);
                values.map(move |value| (value, answered_in))
            })
        };
        let parsed = |value| DigestParams::parse(value).ok().flatten();
        let challenges = values().filter_map(|(value, _)| parsed(value));
        let best = digest::strongest(challenges, &self.secret);
        let chosen = values().find(|&(value, _)| best.is_some() && parsed(value) == best);
        let Some((value, answered_in)) = chosen else {
            return false;
        };
        self.challenge = Some(Challenge {
            value: value.to_vec(),
            nc: 0,
            answered_in,
        });
        true
    }

    /// Adds credentials to a request, the count of the nonce one more; without a challenge nothing.
    pub fn authorize(&mut self, composer: &mut Composer<'_>, method: &[u8], uri: &[u8]) {
        let Some(challenge) = &mut self.challenge else {
            return;
        };
        let Ok(Some(params)) = DigestParams::parse(&challenge.value) else {
            return;
        };
        challenge.nc += 1;
        let login = Login {
            user: &self.name,
            secret: &self.secret,
            method,
            uri,
            nc: challenge.nc,
            cnonce: b"5d1c9b3a7e2f",
        };
        if let Some(value) = digest::answer(&params, &login) {
            composer.field(challenge.answered_in, &[&value]);
        }
    }

    /// Composes a REGISTER that keeps one binding.
    pub fn register(&mut self, branch: &[u8], local: SocketAddr, domain: &str, out: &mut Vec<u8>) {
        let contact = format!("<sip:{}@{local}>", self.name);
        self.bind(branch, local, domain, contact.as_bytes(), 3_600, out);
    }

    /// Composes a REGISTER.
    fn bind(
        &mut self,
        branch: &[u8],
        local: SocketAddr,
        domain: &str,
        contact: &[u8],
        expires: u64,
        out: &mut Vec<u8>,
    ) {
        self.cseq += 1;
        let uri = format!("sip:{domain}");
        let mut composer = request(out, b"REGISTER", uri.as_bytes(), local, branch);
        composer.field("From", &[b"<", self.aor.as_bytes(), b">;tag=8a7b6c5d"]);
        composer.field("To", &[b"<", self.aor.as_bytes(), b">"]);
        composer.field("Call-ID", &[self.call_id.as_bytes()]);
        composer.field("CSeq", &[self.cseq.to_string().as_bytes(), b" REGISTER"]);
        composer
            .field("Contact", &[contact])
            .number("Expires", expires);
        self.authorize(&mut composer, b"REGISTER", uri.as_bytes());
        composer.field("User-Agent", &[b"Desk Phone 5.1"]);
        composer.finish(None, b"");
    }
}

/// Registers `users` one after the other from a socket. What earlier runs have registered is removed first: it would
/// ring nowhere.
///
/// # Errors
/// One is refused, or there is no answer, for people.
pub fn register_all<'a>(
    users: impl Iterator<Item = &'a mut User>,
    sockets: &mut [Udp],
    socket: usize,
    target: SocketAddr,
    domain: &str,
    run: u32,
) -> Result<(), String> {
    let mut request = Vec::new();
    let local = sockets[socket].local;
    let mut serial = 0;
    for user in users {
        // Challenged, then bindings removed, then one of our own. Where each nonce is good for one request, each is challenged.
        let mut is_challenged = false;
        let mut is_clean = false;
        loop {
            serial += 1;
            // Slots of the load begin at 0: these branches are none of theirs.
            let job = Job {
                run,
                slot: u32::MAX - socket as u32,
                serial,
            };
            if is_clean {
                user.register(&branch(job), local, domain, &mut request);
            } else {
                user.bind(&branch(job), local, domain, b"*", 0, &mut request);
            }
            let answer = exchange(sockets, socket, target, job, &request)
                .map_err(|error| format!("{target}: {error}"))?
                .ok_or_else(|| format!("{target}: no answer to the REGISTER of {}", user.name))?;
            match (status(&answer), parse(&answer)) {
                (200, _) if is_clean => break,
                (200, _) => (is_clean, is_challenged) = (true, false),
                (401 | 407, Ok(answer)) if !is_challenged && user.challenged(&answer) => {
                    is_challenged = true;
                }
                (status, _) => {
                    return Err(format!(
                        "{target}: REGISTER of {} answered with {status}",
                        user.name
                    ));
                }
            }
        }
    }
    Ok(())
}

/// Sends a request, up to four times, and waits for its answer.
fn exchange(
    sockets: &mut [Udp],
    socket: usize,
    target: SocketAddr,
    job: Job,
    request: &[u8],
) -> std::io::Result<Option<Vec<u8>>> {
    let mut waiter = Waiter::new(sockets)?;
    let mut batch = ReceiveBatch::new();
    let prefix = prefix(job.run);
    let finder = Finder::new(&prefix);
    for _ in 0..4 {
        let mut out = Outbox::default();
        out.push(socket, request);
        out.send(sockets, target)?;
        let sent = Instant::now();
        while sent.elapsed() < Duration::from_millis(500) {
            waiter.wait(sockets, Duration::from_millis(50))?;
            if sockets[socket].receive(&mut batch)? == 0 {
                continue;
            }
            let answer = (batch.datagrams())
                .find(|datagram| job_of(&finder, datagram.bytes) == Some((job.slot, job.serial)));
            if let Some(answer) = answer {
                return Ok(Some(answer.bytes.to_vec()));
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_tells_the_job() {
        let job = Job {
            run: 0xdead_beef,
            slot: 0x12,
            serial: 0xffff_fff0,
        };
        let mut bytes = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:5;branch=".to_vec();
        bytes.extend_from_slice(&branch(job));
        let prefix = prefix(job.run);
        let finder = Finder::new(&prefix);
        assert_eq!(job_of(&finder, &bytes), Some((job.slot, job.serial)));
        assert_eq!(job_of(&finder, &bytes[..bytes.len() - 1]), None);
        assert_eq!((status(&bytes), status(b"OPTIONS sip:a SIP/2.0")), (200, 0));
    }

    /// An answer with a challenge in this header field.
    fn challenge(status: u16, name: &str) -> Vec<u8> {
        format!(
            "SIP/2.0 {status} Who\r\nVia: SIP/2.0/UDP 127.0.0.1:5062;branch=z9hG4bKa\r\n\
             From: <sip:100@pbx>;tag=1\r\nTo: <sip:100@pbx>;tag=2\r\nCall-ID: a\r\nCSeq: 1 REGISTER\r\n\
             {name}: Digest realm=\"sipkeep\", nonce=\"abc\", qop=\"auth\"\r\n\r\n"
        )
        .into_bytes()
    }

    #[test]
    fn a_challenge_is_answered_in_the_header_of_whoever_made_it() {
        let mut user = User::new(100, "pbx", "secret", 7);
        let local = SocketAddr::from(([127, 0, 0, 1], 5062));
        let both = [HeaderName::Authorization, HeaderName::ProxyAuthorization];
        for (status, name, expected) in [
            (401, "WWW-Authenticate", [true, false]),
            (407, "Proxy-Authenticate", [false, true]),
            (401, "WWW-Authenticate", [true, false]),
        ] {
            let answer = challenge(status, name);
            assert!(user.challenged(&parse(&answer).unwrap()));
            let mut bytes = Vec::new();
            user.register(b"z9hG4bKa", local, "pbx", &mut bytes);
            let message = parse(&bytes).unwrap();
            assert_eq!(both.map(|name| message.value(name).is_some()), expected);
        }
        let other = challenge(401, "Subject");
        assert!(!user.challenged(&parse(&other).unwrap()));
    }

    /// Where each nonce is good for one request, each of the two that register somebody is challenged; none is twice.
    #[test]
    fn each_request_may_be_challenged_once() {
        for (statuses, is_registered) in
            [(&[401, 200, 407, 200][..], true), (&[401, 407][..], false)]
        {
            let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let patience = Duration::from_secs(10);
            server.set_read_timeout(Some(patience)).unwrap();
            let target = server.local_addr().unwrap();
            let thread = std::thread::spawn(move || {
                let mut buffer = [0; 2_048];
                for (number, status) in statuses.iter().enumerate() {
                    let (length, remote) = server.recv_from(&mut buffer).unwrap();
                    let request = parse(&buffer[..length]).unwrap();
                    let mut answer = Vec::new();
                    let flow = flow(target, remote);
                    let mut composer =
                        Composer::response_to(&mut answer, &request, &flow, *status, "X", b"t");
                    let name = match status {
                        401 => "WWW-Authenticate",
                        407 => "Proxy-Authenticate",
                        _ => "Subject",
                    };
                    let value = format!("Digest realm=\"r\", nonce=\"{number}\", qop=\"auth\"");
                    composer.field(name, &[value.as_bytes()]);
                    composer.finish(None, b"");
                    server.send_to(&answer, remote).unwrap();
                }
            });
            let mut user = [User::new(100, "pbx", "secret", 7)];
            let mut sockets = [Udp::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()];
            let result = register_all(user.iter_mut(), &mut sockets, 0, target, "pbx", 7);
            assert_eq!(result.is_ok(), is_registered, "{result:?}");
            thread.join().unwrap();
        }
    }

    #[test]
    fn nonce_is_used_again() {
        let mut user = User::new(100, "pbx", "secret", 7);
        let mut bytes = Vec::new();
        let local = SocketAddr::from(([127, 0, 0, 1], 5062));
        user.register(b"z9hG4bKa", local, "pbx", &mut bytes);
        assert!(
            parse(&bytes)
                .unwrap()
                .value(HeaderName::Authorization)
                .is_none()
        );
        let answer = challenge(401, "WWW-Authenticate");
        assert!(user.challenged(&parse(&answer).unwrap()));
        for nc in ["nc=00000001", "nc=00000002"] {
            user.register(b"z9hG4bKa", local, "pbx", &mut bytes);
            let message = parse(&bytes).unwrap();
            let value = message.value(HeaderName::Authorization).unwrap();
            assert!(String::from_utf8_lossy(value).contains(nc));
        }
    }
}
