//! One operation after the other for callgrind to count: `bench/counts` runs this under valgrind and divides.
//!
//! A line of the standard output is an id and how many operations were counted for it, of `worst` also the bytes of its input. Instructions inside
//! [`counted_operation`] are counted, [`end_of_count`] writes them down: one part of callgrind's output for each line.
//! Every operation is done [`WARM`] times uncounted before, so that tables and buffers have grown. With an argument only the ids
//! that contain it are counted: to see with callgrind_annotate where the instructions of one go.

mod fixtures;
mod worst;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use sipkeep::action::Outputs;
use sipkeep::auth::digest::{self, Login};
use sipkeep::auth::{Authenticator, Credentials, Presented, Verified};
use sipkeep::config::{Config, Secret};
use sipkeep::endpoint::{Endpoint, Input, Output};
use sipkeep::guard::{Admission, Guard, Standing};
use sipkeep::limits::UNPROVEN_SOURCES_MAX;
use sipkeep::media::{Exchange, Media, Place, Side, Trust};
use sipkeep::message::{Composer, DigestParams, HeaderName, Message, Method, parse};
use sipkeep::sdp::{Direction, Stream};
use sipkeep::source::{Component, Flow, MediaPair, Sink, Source, Transport};
use sipkeep::store::Snapshot;
use sipkeep::time::{Instant, Now, UnixTime};
use sipkeep::token::Tokens;
use sipkeep::transaction::{Received, Transactions};

/// Operations that are counted for an id; one's share is what is printed.
const COUNTED: u64 = 64;
const WARM: u64 = 16;
const SECRET: &str = "3kTq9wLx";

/// The only function whose instructions are counted: `bench/counts` names it to callgrind.
#[inline(never)]
fn counted_operation(operation: &mut dyn FnMut()) {
    operation();
}

/// Where callgrind writes a part and begins the next.
#[inline(never)]
fn end_of_count() {
    black_box(());
}

/// Runs `operation` with its number, warm first, then counted.
fn count(id: &str, mut operation: impl FnMut(u64)) {
    for number in 0..WARM {
        operation(number);
    }
    for number in WARM..WARM + COUNTED {
        counted_if(is_wanted(id), || operation(number));
    }
    write_down(id);
}

fn counted_if(is_counted: bool, mut operation: impl FnMut()) {
    if is_counted {
        counted_operation(&mut operation);
    } else {
        operation();
    }
}

fn is_wanted(id: &str) -> bool {
    std::env::args()
        .nth(1)
        .is_none_or(|wanted| id.contains(&wanted))
}

fn write_down(id: &str) {
    if is_wanted(id) {
        end_of_count();
        println!("{id} {COUNTED}");
    }
}

/// Counts `operation` once: what long inputs cost has a bound by their bytes, which stand on its line too.
fn count_bounded(id: &str, bytes: usize, operation: &mut dyn FnMut()) {
    if is_wanted(id) {
        operation();
        counted_operation(operation);
        end_of_count();
        println!("{id} 1 {bytes}");
    }
}

fn at(micros: u64) -> Now {
    Now {
        mono: Instant::from_micros(micros),
        unix: UnixTime::from_millis(1_790_000_000_000 + micros / 1000),
    }
}

/// The way to phone `host`.
fn flow(host: u8) -> Flow {
    Flow {
        transport: Transport::Udp,
        local: SocketAddr::from(([192, 0, 2, 9], 5060)),
        remote: SocketAddr::from(([192, 0, 2, host], 5062)),
        connection: None,
    }
}

/// A server for users 100 to 163 that knows one algorithm.
fn config(digest: &str) -> Config {
    let mut text =
        format!("[server]\nlisten = udp:192.0.2.9:5060\n[registrar]\ndigest = {digest}\n");
    for user in 100..164 {
        text += &format!("[user {user}]\npassword = {SECRET}\n");
    }
    Config::read(&text, Path::new("/")).expect("a configuration without mistakes")
}

fn messages() {
    for (id, text) in [
        ("register_500B", fixtures::REGISTER),
        ("invite_sdp_1200B", fixtures::INVITE),
        ("ok_200", fixtures::OK),
    ] {
        count(&format!("message/parse/{id}"), |_| {
            assert!(parse(black_box(text.as_bytes())).is_ok());
        });
    }
    let request = parse(fixtures::REGISTER.as_bytes()).expect("parses");
    let mut buffer = Vec::new();
    count("message/compose/ok_200", |_| {
        let request = black_box(&request);
        let mut composer =
            Composer::response_to(&mut buffer, request, &flow(1), 200, "OK", b"c0ffee");
        for value in request.values(HeaderName::Contact) {
            composer.field("Contact", &[value]);
        }
        composer.finish(None, b"");
    });
}

/// Sources as scanners have them: all over the address space, no two alike (an odd factor permutes 32 bits).
fn source(number: u64) -> Source {
    Source::of(IpAddr::V4(Ipv4Addr::from_bits(
        (number as u32).wrapping_mul(0x9e37_79b1),
    )))
}

/// The guard as it faces a flood: 100,000 bans, a full table of strangers, 10,000 known sources.
fn guard() {
    let mut guard = Guard::new(
        at(0),
        &config("md5").guard,
        &[42; 32],
        Vec::new(),
        Vec::new(),
    );
    let hour = Some(Duration::from_secs(3600));
    for number in 0..100_000 {
        guard.ban(at(0), source(number), hour).expect("a ban");
    }
    for number in 0..UNPROVEN_SOURCES_MAX as u64 {
        guard.admit(at(0), source(1_000_000 + number), false, false);
    }
    for number in 0..10_000 {
        guard.succeeded(at(0), source(2_000_000 + number), b"100");
    }
    let mut admit = |id: &str, first: u64, is_right: fn(Admission) -> bool| {
        count(&format!("guard/admit/{id}"), |number| {
            let now = at(1_000_000 + number * 10);
            let source = source(first + number * 97);
            assert!(is_right(guard.admit(now, source, false, false)));
        });
    };
    admit("banned_100k", 0, |admission| admission == Admission::Drop);
    admit("unproven_full", 1_000_000, |admission| {
        admission != Admission::Drop
    });
    admit("unproven_new", 3_000_000, |admission| {
        admission != Admission::Drop
    });
    admit("known", 2_000_000, |admission| {
        admission == Admission::Admit(Standing::Known)
    });
}

/// Counts what is sent.
#[derive(Default)]
struct Sent(u64);

impl Sink for Sent {
    fn send(&mut self, _flow: &Flow, bytes: &[u8]) {
        self.0 += bytes.len() as u64;
    }
}

/// Who writes a request, and what it is about.
struct Writing<'a> {
    method: &'a str,
    host: u8,
    user: &'a str,
    /// Tells this request's transaction and call from all others.
    number: u64,
    authorization: Option<Vec<u8>>,
    body: &'a [u8],
}

impl Writing<'_> {
    fn uri(&self) -> &'static str {
        match self.method {
            "REGISTER" => "sip:192.0.2.9",
            _ => "sip:101@192.0.2.9",
        }
    }

    fn request(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (method, host, user) = (self.method, self.host, self.user);
        let branch = format!("{:016x}", self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let via = format!("SIP/2.0/UDP 192.0.2.{host}:5062;rport;branch=z9hG4bK{branch}");
        let own = format!("<sip:{user}@192.0.2.9>");
        let to = match method {
            "REGISTER" => own.clone(),
            _ => format!("<{}>", self.uri()),
        };
        let mut composer = Composer::request(&mut bytes, method.as_bytes(), self.uri().as_bytes());
        composer.field("Via", &[via.as_bytes()]);
        composer.number("Max-Forwards", 70);
        composer.field(
            "From",
            &[own.as_bytes(), b";tag=8a7b6c5d", branch.as_bytes()],
        );
        composer.field("To", &[to.as_bytes()]);
        let call_id = match method {
            "REGISTER" => "registration",
            _ => &branch,
        };
        composer.field("Call-ID", &[call_id.as_bytes(), b"-0c9d8e7f6a5b"]);
        let cseq = format!("{} {method}", self.number + 1);
        composer.field("CSeq", &[cseq.as_bytes()]);
        let contact = format!("<sip:{user}@192.0.2.{host}:5062>");
        composer.field("Contact", &[contact.as_bytes()]);
        if method == "REGISTER" {
            composer.number("Expires", 3_600);
        }
        if let Some(authorization) = &self.authorization {
            composer.field("Authorization", &[authorization]);
        }
        composer.field("User-Agent", &[b"Desk Phone 5.1"]);
        composer.finish(
            (!self.body.is_empty()).then_some(b"application/sdp"),
            self.body,
        );
        bytes
    }
}

/// A request without credentials.
fn plain(method: &str, number: u64) -> Vec<u8> {
    Writing {
        method,
        host: 1,
        user: "100",
        number,
        authorization: None,
        body: b"",
    }
    .request()
}

fn response(request: &Message<'_>, status: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut composer = Composer::response_to(&mut bytes, request, &flow(2), status, "Fine", b"tag");
    composer.field("Contact", &[b"<sip:101@192.0.2.2:5062>"]);
    composer.finish((!body.is_empty()).then_some(b"application/sdp"), body);
    bytes
}

/// Without the parsing that comes before.
fn transactions() {
    let table = || Transactions::<u32>::new(&[7; 32], 1 << 20, 1 << 17);
    let texts = |method| {
        (0..WARM + COUNTED)
            .map(|number| plain(method, number))
            .collect()
    };
    let (registers, invites): (Vec<_>, Vec<_>) = (texts("REGISTER"), texts("INVITE"));
    let parsed = |texts: &'static [Vec<u8>]| -> Vec<Message<'static>> {
        texts
            .iter()
            .map(|text| parse(text).expect("parses"))
            .collect()
    };
    let (registers, invites) = (parsed(registers.leak()), parsed(invites.leak()));
    let (ok, busy) = (
        response(&registers[0], 200, b""),
        response(&invites[0], 486, b""),
    );
    let out = &mut Sent::default();
    let mut transactions = table();
    count("transaction/server/register_complete", |number| {
        let now = Instant::from_micros(number * 100);
        let key = transactions.key(&registers[number as usize]);
        let received = transactions.receive(now, key, Method::Register, out);
        assert_eq!(received, Received::New);
        transactions.complete(now, key, &flow(1), &ok, out);
        assert!(transactions.expire(now, out).is_none());
    });
    count("transaction/server/retransmission_absorbed", |number| {
        let key = transactions.key(&registers[number as usize]);
        let received = transactions.receive(Instant::from_micros(1), key, Method::Register, out);
        assert_eq!(received, Received::Absorbed);
    });
    let mut transactions = table();
    count("transaction/server/invite_100_486", |number| {
        let now = Instant::from_micros(number * 100);
        let message = &invites[number as usize];
        let key = transactions.key(message);
        transactions.receive(now, key, Method::Invite, out);
        let id = transactions.open_server(now, key, message, &flow(1), 1_u32);
        let id = id.expect("room");
        transactions.respond(now, id, 100, &ok, out);
        transactions.respond(now, id, 486, &busy, out);
        transactions.receive(now, key, Method::Ack, out);
        while transactions.expire(now, out).is_some() {}
    });
    // The answer names the branch, which is made here: composing and parsing are not counted.
    let mut transactions = table();
    let id = "transaction/client/options_200";
    let is_wanted = is_wanted(id);
    for number in 0..WARM + COUNTED {
        let is_counted = is_wanted && number >= WARM;
        let now = Instant::from_micros(number * 100);
        let mut reserved = None;
        counted_if(is_counted, || reserved = transactions.reserve());
        let (client, branch) = reserved.expect("room");
        let mut bytes = Vec::new();
        let mut composer = Composer::request(&mut bytes, b"OPTIONS", b"sip:101@192.0.2.2");
        composer.field(
            "Via",
            &[b"SIP/2.0/UDP 192.0.2.9:5060;branch=", branch.as_bytes()],
        );
        composer.field("From", &[b"<sip:pbx@192.0.2.9>;tag=1"]);
        composer.field("To", &[b"<sip:101@192.0.2.2>"]);
        composer.field("Call-ID", &[b"0c9d8e7f6a5b"]);
        composer
            .field("CSeq", &[b"1 OPTIONS"])
            .number("Max-Forwards", 70);
        composer.finish(None, b"");
        let answer = response(&parse(&bytes).expect("parses"), 200, b"");
        let answer = parse(&answer).expect("parses");
        counted_if(is_counted, || {
            transactions.send(now, client, Method::Options, &flow(2), &bytes, 1_u32, out);
            assert!(transactions.receive_response(now, &answer, out).is_some());
            while transactions.expire(now, out).is_some() {}
        });
    }
    write_down(id);
    black_box(out.0);
}

/// The Authorization of `user` for the `nc`th request with the challenge of a 401.
fn authorization(challenge: &Message<'_>, writing: &Writing<'_>, nc: u32) -> Vec<u8> {
    let value = challenge
        .value(HeaderName::WwwAuthenticate)
        .expect("a challenge");
    let challenge = DigestParams::parse(value)
        .expect("legible")
        .expect("a digest");
    let login = Login {
        user: writing.user,
        secret: &Secret::Password(SECRET.to_owned()),
        method: writing.method.as_bytes(),
        uri: writing.uri().as_bytes(),
        nc,
        cnonce: b"5d1c9b3a",
    };
    digest::answer(&challenge, &login).expect("answerable")
}

fn auth() {
    for digest in ["md5", "sha256"] {
        let mut auth = Authenticator::new(at(0), &config(digest), &[7; 32], None);
        let mut lines = Vec::new();
        let source = flow(1).source();
        if digest == "md5" {
            count("auth/challenge/md5", |number| {
                lines.clear();
                auth.challenge(at(number), source, (false, false), &mut lines);
            });
        }
        lines.clear();
        auth.challenge(at(0), source, (false, false), &mut lines);
        let mut challenge = Vec::new();
        let request = plain("REGISTER", 0);
        let request = parse(&request).expect("parses");
        let mut composer = Composer::response_to(
            &mut challenge,
            &request,
            &flow(1),
            401,
            "Unauthorized",
            b"1",
        );
        composer.lines(&lines);
        composer.finish(None, b"");
        let challenge = parse(&challenge).expect("parses");
        let requests: Vec<Vec<u8>> = (0..WARM + COUNTED)
            .map(|number| {
                let mut writing = Writing {
                    method: "REGISTER",
                    host: 1,
                    user: "100",
                    number,
                    authorization: None,
                    body: b"",
                };
                writing.authorization =
                    Some(authorization(&challenge, &writing, number as u32 + 1));
                writing.request()
            })
            .collect();
        let requests: Vec<Message<'_>> = requests
            .iter()
            .map(|text| parse(text).expect("parses"))
            .collect();
        let mut presented: Vec<Option<Credentials<'_>>> = vec![None; requests.len()];
        count(&format!("auth/present/{digest}"), |number| {
            match auth.present(at(number), &requests[number as usize], source) {
                Presented::Fresh(credentials) => presented[number as usize] = Some(credentials),
                other => panic!("{other:?}"),
            }
        });
        count(&format!("auth/verify/{digest}"), |number| {
            let credentials = presented[number as usize].as_ref().expect("presented");
            let verified = auth.verify(credentials, &requests[number as usize]);
            assert!(matches!(verified, Verified::Accepted(_)));
        });
    }
}

/// A server and a clock that moves. What it does while it `is_counted` is counted, with looking at the outputs, not what
/// its phones do.
struct Bench {
    endpoint: Endpoint,
    now: Now,
    is_counted: bool,
}

impl Bench {
    fn new() -> Self {
        let now = at(1_000_000);
        Self {
            endpoint: Endpoint::new(now, config("md5"), [7; 32], Snapshot::default()),
            now,
            is_counted: false,
        }
    }

    /// A message from a phone, 2 ms after the last one, and all that the server then sends.
    fn exchange(&mut self, host: u8, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        self.now = at(self.now.mono.as_micros() + 2_000);
        let (now, endpoint) = (self.now, &mut self.endpoint);
        counted_if(self.is_counted, || {
            if endpoint.next_deadline().is_some_and(|due| due <= now.mono) {
                endpoint.handle_input(now, Input::Tick);
            }
            let flow = flow(host);
            endpoint.handle_input(now, Input::Datagram { flow, bytes });
            for output in endpoint.outputs() {
                black_box(&output);
            }
        });
        let answers = endpoint.outputs().filter_map(|output| match output {
            Output::Datagram { flow, bytes } => match flow.remote.ip() {
                IpAddr::V4(address) => Some((address.octets()[3], bytes.to_vec())),
                IpAddr::V6(_) => None,
            },
            _ => None,
        });
        let answers = answers.collect();
        counted_if(self.is_counted, || endpoint.clear_outputs());
        answers
    }

    /// Exchanges a message that has one answer with this status.
    fn answer(&mut self, host: u8, bytes: &[u8], status: u16) -> Vec<u8> {
        let mut answers = self.exchange(host, bytes);
        let (_, answer) = answers.pop().expect("an answer");
        assert_eq!(parse(&answer).expect("parses").status(), status);
        assert!(answers.is_empty());
        answer
    }

    /// Counts `operation` as [`count`] does.
    fn count(&mut self, id: &str, mut operation: impl FnMut(&mut Self, u64)) {
        for number in 0..WARM + COUNTED {
            self.is_counted = number >= WARM && is_wanted(id);
            operation(self, number);
        }
        self.is_counted = false;
        write_down(id);
    }
}

/// A phone's challenge and how often it was answered.
struct Phone {
    host: u8,
    user: &'static str,
    challenge: Vec<u8>,
    nc: u32,
}

impl Phone {
    fn new(bench: &mut Bench, user: &'static str, host: u8) -> Self {
        let (challenge, nc) = (Vec::new(), 0);
        let mut phone = Self {
            host,
            user,
            challenge,
            nc,
        };
        phone.challenge = bench.answer(host, &phone.request("REGISTER", 0, b""), 401);
        bench.answer(host, &phone.request("REGISTER", 1, b""), 200);
        phone
    }

    fn request(&mut self, method: &str, number: u64, body: &[u8]) -> Vec<u8> {
        let mut writing = Writing {
            method,
            host: self.host,
            user: self.user,
            number,
            authorization: None,
            body,
        };
        if let Ok(challenge) = parse(&self.challenge) {
            self.nc += 1;
            writing.authorization = Some(authorization(&challenge, &writing, self.nc));
        }
        writing.request()
    }
}

const SDP: &[u8] = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 11780 RTP/AVP 9 0 8 101\r\na=rtpmap:9 G722/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n";

/// INVITE with credentials, 180, 200, ACK, BYE and its 200.
fn call(bench: &mut Bench, caller: &mut Phone, number: u64) {
    let answers = bench.exchange(caller.host, &caller.request("INVITE", number, SDP));
    let (_, invite) = answers
        .iter()
        .find(|(host, _)| *host == 2)
        .expect("an INVITE");
    let invite = parse(invite).expect("parses");
    assert_eq!(invite.method(), Method::Invite);
    bench.exchange(2, &response(&invite, 180, b""));
    let answers = bench.exchange(2, &response(&invite, 200, SDP));
    let (_, answer) = answers.iter().find(|(host, _)| *host == 1).expect("a 200");
    let answer = parse(answer).expect("parses");
    assert_eq!(answer.status(), 200);
    let contact = answer
        .contact_values()
        .next()
        .expect("a Contact")
        .address
        .uri;
    let within = |method: &str, cseq: u64| {
        let mut bytes = Vec::new();
        let mut composer = Composer::request(&mut bytes, method.as_bytes(), contact);
        let via = format!("SIP/2.0/UDP 192.0.2.1:5062;rport;branch=z9hG4bKin{method}{number}");
        composer.field("Via", &[via.as_bytes()]);
        composer.number("Max-Forwards", 70);
        for name in [HeaderName::From, HeaderName::To, HeaderName::CallId] {
            composer.field(name.text(), &[answer.value(name).unwrap_or_default()]);
        }
        let cseq = format!("{cseq} {method}");
        composer.field("CSeq", &[cseq.as_bytes()]);
        composer.finish(None, b"");
        bytes
    };
    bench.exchange(1, &within("ACK", number + 1));
    let answers = bench.exchange(1, &within("BYE", number + 2));
    let (_, bye) = answers.iter().find(|(host, _)| *host == 2).expect("a BYE");
    bench.exchange(2, &response(&parse(bye).expect("parses"), 200, b""));
}

fn endpoint() {
    let bench = &mut Bench::new();
    bench.count("endpoint/register/challenge", |bench, number| {
        let mut phone = Phone {
            host: 10 + number as u8,
            user: "100",
            challenge: Vec::new(),
            nc: 0,
        };
        bench.answer(phone.host, &phone.request("REGISTER", number, b""), 401);
    });
    let mut caller = Phone::new(bench, "100", 1);
    Phone::new(bench, "101", 2);
    bench.count("endpoint/register/auth_ok", |bench, number| {
        bench.answer(1, &caller.request("REGISTER", number + 2, b""), 200);
    });
    let again = caller.request("REGISTER", 1_000, b"");
    bench.count("endpoint/register/retransmission", |bench, _| {
        bench.answer(1, &again, 200);
    });
    bench.count("endpoint/options/known", |bench, number| {
        bench.answer(1, &plain("OPTIONS", 2_000 + number), 200);
    });
    bench.count("endpoint/call/complete", |bench, number| {
        call(bench, &mut caller, 3_000 + number);
    });
}

/// A packet of one of 500 calls that are relayed, each with ports of its own.
fn media() {
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let mut media = Media::new(&config("md5"), Tokens::new(&[42; 32], "media"), hasher);
    let mut out = Outputs::default();
    let now = at(0).mono;
    let host = |own: u8| IpAddr::from([192, 0, 2, own]);
    let place = |own| Place {
        host: host(own),
        local: host(9),
        shown: host(9),
        scope: 0,
        is_behind_nat: false,
        trust: Trust::Whole,
    };
    let stream = |own, call: u16| Stream {
        is_audio: true,
        is_datagrams: true,
        is_rtp: true,
        port: 20_000 + 2 * call,
        address: Some(host(own)),
        rtcp: None,
        direction: Direction::SendRecv,
    };
    for call in 0..500 {
        let id = media.begin(now, [place(1), place(2)], true);
        for (side, own, exchange) in [
            (Side::Caller, 1, Exchange::Offer),
            (Side::Callee, 2, Exchange::Answer),
        ] {
            let said = [stream(own, call)];
            let told = media.describe(now, id, (side, host(own)), &said, exchange, &mut out);
            told.expect("ports are left");
            media
                .show(id, side, &said, &mut out)
                .expect("a description");
        }
    }
    let mut packet = [0xd5; 172];
    packet[..2].copy_from_slice(&[0x80, 8]);
    count("media/relay_packet", |number| {
        // The callee's port is opened first, when the caller's offer is shown; packets of all calls by turns.
        let call = number * 7 % 500;
        let pair = MediaPair(2 * call as u32);
        let from = SocketAddr::new(host(2), 20_000 + 2 * call as u16);
        let way = media.forward(now, black_box((pair, Component::Rtp)), from, &packet);
        assert_eq!(way.map(|way| way.pair), Some(MediaPair(pair.0 + 1)));
    });
}

fn main() {
    messages();
    guard();
    media();
    transactions();
    auth();
    endpoint();
    worst::all(count_bounded);
}
