//! Whether the time of an answer tells which names exist: medians of the time that the endpoint takes to refuse a user who
//! has a password, one who has none (known by address only) and one who does not exist, asked in turns in one run.
//!
//! cargo bench --bench equal [-- METHOD] [--samples N]
//!
//! Two rows for each method: without credentials, and with a wrong answer to a fresh nonce. Reported, not judged: below
//! 1 µs nobody sees it through a network. The guard is off, since it would end the row after five failures.

use std::hint::black_box;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sipkeep::auth::digest::{self, Login};
use sipkeep::config::{Config, Secret};
use sipkeep::endpoint::{Endpoint, Input, Output};
use sipkeep::message::{DigestParams, HeaderName, parse};
use sipkeep::source::{Flow, Transport};
use sipkeep::store::Snapshot;
use sipkeep::time::{Instant, Now, UnixTime};

const SAMPLES: usize = 100_000;
/// With a password, without one, none at all. Names of one length.
const USERS: [(&str, &str); 3] = [("known", "100"), ("by_address", "102"), ("unknown", "999")];
const METHODS: [&str; 8] = [
    "REGISTER",
    "INVITE",
    "OPTIONS",
    "MESSAGE",
    "SUBSCRIBE",
    "PUBLISH",
    "REFER",
    "BYE",
];

struct Bench {
    endpoint: Endpoint,
    now: Now,
    number: u64,
    flow: Flow,
}

impl Bench {
    fn new() -> Self {
        let text = "[server]\nlisten = udp:192.0.2.9:5060\n[guard]\nmode = off\n\
            [user 100]\npassword = n7-wetter-koffer\n[user 102]\naddresses = 192.0.2.2\n";
        let config = Config::read(text, Path::new("/")).expect("a configuration without mistakes");
        let now = Now {
            mono: Instant::from_micros(1_000_000),
            unix: UnixTime::from_millis(1_790_000_000_000),
        };
        Self {
            endpoint: Endpoint::new(now, config, [7; 32], Snapshot::default()),
            now,
            number: 0,
            flow: Flow {
                transport: Transport::Udp,
                local: SocketAddr::from(([192, 0, 2, 9], 5060)),
                remote: SocketAddr::from(([203, 0, 113, 7], 5062)),
                connection: None,
            },
        }
    }

    fn request(&mut self, method: &str, user: &str, credentials: Option<&[u8]>) -> Vec<u8> {
        self.number += 1;
        let n = self.number;
        let mut bytes = format!(
            "{method} sip:{user}@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.7:5062;branch=z9hG4bK{n:012};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@192.0.2.9>;tag={n:012}\r\nTo: <sip:{user}@192.0.2.9>\r\n\
             Call-ID: {n:012}@203.0.113.7\r\nCSeq: 1 {method}\r\nContact: <sip:{user}@203.0.113.7:5062>\r\n"
        )
        .into_bytes();
        if let Some(credentials) = credentials {
            bytes.extend_from_slice(b"Authorization: ");
            bytes.extend_from_slice(credentials);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"User-Agent: Desk Phone 5.1\r\nContent-Length: 0\r\n\r\n");
        bytes
    }

    /// How long the server works on it, and its answer.
    fn handle(&mut self, bytes: &[u8]) -> (Duration, Option<Vec<u8>>) {
        self.now.mono = self.now.mono.plus(Duration::from_micros(100));
        let flow = self.flow;
        let started = std::time::Instant::now();
        let input = Input::Datagram { flow, bytes };
        self.endpoint.handle_input(self.now, black_box(input));
        let took = started.elapsed();
        let answer = self.endpoint.outputs().find_map(|output| match output {
            Output::Datagram { bytes, .. } => Some(bytes.to_vec()),
            _ => None,
        });
        self.endpoint.clear_outputs();
        (took, answer)
    }

    /// A wrong answer to a fresh nonce.
    fn wrong(&mut self, method: &str, user: &str) -> Vec<u8> {
        let request = self.request("REGISTER", user, None);
        let (_, answer) = self.handle(&request);
        let answer = answer.expect("a challenge");
        let answer = parse(&answer).expect("parses");
        let challenge = answer
            .value(HeaderName::WwwAuthenticate)
            .expect("a challenge");
        let params = DigestParams::parse(challenge)
            .expect("reads")
            .expect("digest");
        let secret = Secret::Password("a guess".to_owned());
        let login = Login {
            user,
            secret: &secret,
            method: method.as_bytes(),
            uri: b"sip:192.0.2.9",
            nc: 1,
            cnonce: b"5f0c3a",
        };
        let value = digest::answer(&params, &login).expect("an answer");
        self.request(method, user, Some(&value))
    }
}

fn median(samples: &mut [u64]) -> u64 {
    let middle = samples.len() / 2;
    *samples.select_nth_unstable(middle).1
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench");
    let (mut wanted, mut count) = (None, SAMPLES);
    while let Some(argument) = arguments.next() {
        if argument == "--samples" {
            let number = arguments.next().and_then(|number| number.parse().ok());
            count = number.expect("--samples N");
        } else {
            wanted = Some(argument);
        }
    }
    println!(
        "{:<40} {:>10} {:>10} {:>10}  largest difference, ns; {count} samples each",
        "median, ns", USERS[0].0, USERS[1].0, USERS[2].0
    );
    for method in METHODS {
        if wanted.as_ref().is_some_and(|wanted| wanted != method) {
            continue;
        }
        for (case, with_credentials) in [("no_credentials", false), ("wrong", true)] {
            let mut bench = Bench::new();
            let mut samples: [Vec<u64>; 3] = [(); 3].map(|()| Vec::with_capacity(count));
            for round in 0..count {
                // The first of a round finds other caches than the last: each is that as often.
                for place in 0..USERS.len() {
                    let index = (round + place) % USERS.len();
                    let user = USERS[index].1;
                    let request = if with_credentials {
                        bench.wrong(method, user)
                    } else {
                        bench.request(method, user, None)
                    };
                    let (took, answer) = bench.handle(&request);
                    black_box(answer);
                    samples[index].push(took.as_nanos() as u64);
                }
            }
            let medians = samples.map(|mut samples| median(&mut samples));
            let [low, high] = [medians.iter().min(), medians.iter().max()];
            println!(
                "endpoint/refuse/{:<24} {:>10} {:>10} {:>10}  {}",
                format!("{}_{case}", method.to_lowercase()),
                medians[0],
                medians[1],
                medians[2],
                high.unwrap_or(&0) - low.unwrap_or(&0)
            );
        }
    }
}
