//! The whole SIP path without sockets: nanoseconds that [`Endpoint::handle_input`] takes for a message, or for all of a
//! call's. What the kernel adds is measured by `bench/compare`.
//!
//! cargo bench --bench endpoint [-- [ID] [--once]]
//!
//! `--once` plays each once instead of taking the best of seven: for counting instructions, which unlike times are the same
//! on a busy machine: valgrind --tool=callgrind --toggle-collect='*Endpoint::handle_input*' PROGRAM ID --once

use std::hint::black_box;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sipkeep::auth::digest::{self, Login};
use sipkeep::config::{Config, Secret};
use sipkeep::endpoint::{Endpoint, Input, Output};
use sipkeep::message::compose::Composer;
use sipkeep::message::{DigestParams, HeaderName, Message, Method, parse};
use sipkeep::source::{Flow, Transport};
use sipkeep::store::Snapshot;
use sipkeep::time::{Instant, Now, UnixTime};

const COUNT: u64 = 20_000;
const ROUNDS: usize = 7;
const SECRET: &str = "n7-wetter-koffer";

/// A server, a clock that moves, and a stopwatch that runs while the server works.
struct Bench {
    endpoint: Endpoint,
    now: Now,
    worked: Duration,
}

impl Bench {
    fn new() -> Self {
        let mut text = "[server]\nlisten = udp:192.0.2.9:5060\n[registrar]\ndigest = md5\n[guard]\nmode = off\n".to_owned();
        for user in 100..164 {
            text += &format!("[user {user}]\npassword = {SECRET}\n");
        }
        let config = Config::read(&text, Path::new("/")).expect("a configuration without mistakes");
        let now = Now {
            mono: Instant::from_micros(1_000_000),
            unix: UnixTime::from_millis(1_790_000_000_000),
        };
        let endpoint = Endpoint::new(now, config, [7; 32], Snapshot::default());
        Self {
            endpoint,
            now,
            worked: Duration::ZERO,
        }
    }

    /// A message from a phone; everything that the server then sends.
    fn exchange(&mut self, phone: u8, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        self.handle(phone, bytes);
        let answers = self.endpoint.outputs().filter_map(|output| match output {
            Output::Datagram { flow, bytes } => Some((last_octet(&flow), bytes.to_vec())),
            _ => None,
        });
        let answers = answers.collect();
        self.endpoint.clear_outputs();
        answers
    }

    fn handle(&mut self, phone: u8, bytes: &[u8]) {
        self.now.mono = self.now.mono.plus(Duration::from_micros(50));
        let started = std::time::Instant::now();
        if self
            .endpoint
            .next_deadline()
            .is_some_and(|at| at <= self.now.mono)
        {
            self.endpoint.handle_input(self.now, Input::Tick);
        }
        self.endpoint.handle_input(
            self.now,
            Input::Datagram {
                flow: flow(phone),
                bytes,
            },
        );
        self.worked += started.elapsed();
    }

    /// Handles all of them, one by one, with their outputs looked at and cleared as the shell does.
    fn handle_all(&mut self, messages: &[Vec<u8>], status: &[u8]) {
        for bytes in messages {
            self.handle(1, bytes);
            let started = std::time::Instant::now();
            let mut answers = 0;
            for output in self.endpoint.outputs() {
                if let Output::Datagram { bytes, .. } = black_box(output) {
                    assert!(
                        bytes.get(8..11) == Some(status),
                        "{}",
                        String::from_utf8_lossy(bytes)
                    );
                    answers += 1;
                }
            }
            assert_eq!(answers, 1);
            self.endpoint.clear_outputs();
            self.worked += started.elapsed();
        }
    }
}

fn flow(phone: u8) -> Flow {
    Flow {
        transport: Transport::Udp,
        local: SocketAddr::from(([192, 0, 2, 9], 5060)),
        remote: SocketAddr::from(([192, 0, 2, phone], 5062)),
        connection: None,
    }
}

fn last_octet(flow: &Flow) -> u8 {
    flow.remote
        .ip()
        .to_canonical()
        .to_string()
        .rsplit('.')
        .next()
        .map_or(0, |text| text.parse().unwrap_or(0))
}

/// A phone's nonce and how often it was used.
struct Account {
    user: &'static str,
    phone: u8,
    challenge: Vec<u8>,
    nc: u32,
}

impl Account {
    /// Asks for a nonce and registers.
    fn register(bench: &mut Bench, user: &'static str, phone: u8) -> Self {
        let mut account = Self {
            user,
            phone,
            challenge: Vec::new(),
            nc: 0,
        };
        let answers = bench.exchange(phone, &account.request(b"REGISTER", 0, b""));
        let answer = parse(&answers[0].1).expect("parses");
        let challenge = answer
            .value(HeaderName::WwwAuthenticate)
            .expect("a challenge");
        account.challenge = challenge.to_vec();
        let answers = bench.exchange(phone, &account.request(b"REGISTER", 1, b""));
        assert_eq!(parse(&answers[0].1).expect("parses").status(), 200);
        account
    }

    fn request(&mut self, method: &[u8], number: u64, body: &[u8]) -> Vec<u8> {
        let register = method == b"REGISTER";
        let uri: &[u8] = if register {
            b"sip:192.0.2.9"
        } else {
            b"sip:101@192.0.2.9"
        };
        let number = number.to_string();
        let mut bytes = Vec::new();
        let mut composer = Composer::request(&mut bytes, method, uri);
        let via = format!(
            "SIP/2.0/UDP 192.0.2.{}:5062;rport;branch=z9hG4bK",
            self.phone
        );
        let own = format!("<sip:{}@192.0.2.9>", self.user);
        composer.field(
            "Via",
            &[
                via.as_bytes(),
                method,
                self.user.as_bytes(),
                number.as_bytes(),
            ],
        );
        composer.number("Max-Forwards", 70);
        composer.field(
            "From",
            &[own.as_bytes(), b";tag=8a7b6c5d", number.as_bytes()],
        );
        composer.field(
            "To",
            &[if register {
                own.as_bytes()
            } else {
                b"<sip:101@192.0.2.9>"
            }],
        );
        let call_id = if register {
            "registration"
        } else {
            number.as_str()
        };
        composer.field("Call-ID", &[call_id.as_bytes(), b"-0c9d8e7f6a5b"]);
        composer.field(
            "CSeq",
            &[
                if register { number.as_bytes() } else { b"1" },
                b" ",
                method,
            ],
        );
        let contact = format!("<sip:{}@192.0.2.{}:5062>", self.user, self.phone);
        composer.field("Contact", &[contact.as_bytes()]);
        if register {
            composer.number("Expires", 3_600);
        }
        if let Ok(Some(challenge)) = DigestParams::parse(&self.challenge) {
            self.nc += 1;
            let secret = Secret::Password(SECRET.to_owned());
            let login = Login {
                user: self.user,
                secret: &secret,
                method,
                uri,
                nc: self.nc,
                cnonce: b"5d1c9b3a",
            };
            composer.field(
                "Authorization",
                &[&digest::answer(&challenge, &login).expect("answerable")],
            );
        }
        composer.field("User-Agent", &[b"Desk Phone 5.1"]);
        composer.finish((!body.is_empty()).then_some(b"application/sdp"), body);
        bytes
    }
}

const SDP: &[u8] = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 11780 RTP/AVP 9 0 8 101\r\na=rtpmap:9 G722/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

/// INVITE, 180, 200, ACK, BYE, 200, as the server receives them.
fn call(bench: &mut Bench, caller: &mut Account, number: u64) {
    let mut answers = bench.exchange(caller.phone, &caller.request(b"INVITE", number, SDP));
    let (_, invite) = answers.pop().expect("an INVITE to the callee");
    let invite = parse(&invite).expect("parses");
    assert_eq!(invite.method(), Method::Invite);
    let respond = |request: &Message<'_>, status, body: &[u8]| {
        let mut bytes = Vec::new();
        let mut composer =
            Composer::response_to(&mut bytes, request, &flow(2), status, "Fine", b"tag");
        composer.field("Contact", &[b"<sip:101@192.0.2.2:5062>"]);
        composer.finish((!body.is_empty()).then_some(b"application/sdp"), body);
        bytes
    };
    bench.exchange(2, &respond(&invite, 180, b""));
    let answers = bench.exchange(2, &respond(&invite, 200, SDP));
    let (_, answer) = answers
        .iter()
        .find(|(phone, _)| *phone == caller.phone)
        .expect("200 to the caller");
    let answer = parse(answer).expect("parses");
    let contact = answer
        .contact_values()
        .next()
        .expect("a Contact")
        .address
        .uri;
    let within = |method: &[u8], cseq: &[u8]| {
        let mut bytes = Vec::new();
        let mut composer = Composer::request(&mut bytes, method, contact);
        let branch = format!("{number}");
        composer.field(
            "Via",
            &[
                b"SIP/2.0/UDP 192.0.2.1:5062;rport;branch=z9hG4bKin",
                method,
                branch.as_bytes(),
            ],
        );
        composer.number("Max-Forwards", 70);
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
            composer.field(name.text(), &[answer.value(name).unwrap_or_default()]);
        }
        composer.field("CSeq", &[cseq, b" ", method]);
        composer.finish(None, b"");
        bytes
    };
    bench.exchange(caller.phone, &within(b"ACK", b"1"));
    let answers = bench.exchange(caller.phone, &within(b"BYE", b"2"));
    let (_, bye) = answers
        .iter()
        .find(|(phone, _)| *phone == 2)
        .expect("a BYE to the callee");
    bench.exchange(2, &respond(&parse(bye).expect("parses"), 200, b""));
}

/// Prints the time of one of `count`: the best of the rounds, each with a fresh server.
fn report(id: &str, count: u64, mut round: impl FnMut(&mut Bench)) {
    if std::env::args()
        .skip(1)
        .any(|word| !word.starts_with('-') && !id.contains(&word))
    {
        return;
    }
    let is_once = std::env::args().any(|word| word == "--once");
    let mut best = Duration::MAX;
    for _ in 0..if is_once { 1 } else { ROUNDS } {
        let mut bench = Bench::new();
        round(&mut bench);
        best = best.min(bench.worked);
    }
    println!("{id:<44} {:>8.1} ns", best.as_nanos() as f64 / count as f64);
}

fn main() {
    report("endpoint/options/known", COUNT, |bench| {
        let mut account = Account {
            user: "100",
            phone: 1,
            challenge: Vec::new(),
            nc: 0,
        };
        let messages: Vec<_> = (0..COUNT)
            .map(|n| account.request(b"OPTIONS", n, b""))
            .collect();
        bench.handle_all(&messages, b"200");
    });
    report("endpoint/register/challenge", COUNT, |bench| {
        let mut account = Account {
            user: "100",
            phone: 1,
            challenge: Vec::new(),
            nc: 0,
        };
        let messages: Vec<_> = (0..COUNT)
            .map(|n| account.request(b"REGISTER", n, b""))
            .collect();
        bench.handle_all(&messages, b"401");
    });
    report("endpoint/register/auth_ok", COUNT, |bench| {
        let mut account = Account::register(bench, "100", 1);
        let messages: Vec<_> = (0..COUNT)
            .map(|number| account.request(b"REGISTER", number + 2, b""))
            .collect();
        bench.worked = Duration::ZERO;
        bench.handle_all(&messages, b"200");
    });
    report("endpoint/call/complete", COUNT / 10, |bench| {
        let mut caller = Account::register(bench, "100", 1);
        Account::register(bench, "101", 2);
        bench.worked = Duration::ZERO;
        for number in 0..COUNT / 10 {
            call(bench, &mut caller, number);
        }
    });
}
