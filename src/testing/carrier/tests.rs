//! The carrier, asked by a client that is written out by hand.

use super::*;
use crate::auth::digest::{Login, answer, strongest};
use crate::config::Secret;
use crate::message::{DigestParams, parse};
use crate::source::Transport;
use std::net::SocketAddr;

struct Client {
    carrier: Carrier,
    flow: Flow,
    now: Instant,
    cseq: u32,
    user: &'static str,
    /// Value of the last challenge, and how often it was answered.
    challenge: Option<Vec<u8>>,
    nc: u32,
}

impl Client {
    fn new(policy: Policy) -> Self {
        let address = SocketAddr::from(([192, 0, 2, 1], 5060));
        let now = Instant::from_micros(1_000_000);
        let accounts = [("alice".to_owned(), "Secret-1".to_owned())];
        Self {
            carrier: Carrier::new(policy, accounts, now, &Random::new(1)),
            flow: Flow {
                transport: Transport::Udp,
                local: address,
                remote: address,
                connection: None,
            },
            now,
            cseq: 0,
            user: "alice",
            challenge: None,
            nc: 0,
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
    }

    /// A request, and what answers it: status and the whole.
    fn ask(&mut self, method: &str, uri: &str, lines: &str) -> (u16, String) {
        self.cseq += 1;
        self.repeat(method, uri, lines)
    }

    fn repeat(&mut self, method: &str, uri: &str, lines: &str) -> (u16, String) {
        let credentials = self.credentials(method, uri);
        let text = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{}\r\n\
             From: <sip:alice@a.example>;tag=1\r\nTo: <sip:alice@a.example>\r\nCall-ID: 1\r\n\
             CSeq: {} {method}\r\n{credentials}{lines}Content-Length: 0\r\n\r\n",
            self.cseq, self.cseq
        );
        let request = parse(text.as_bytes()).expect("a request");
        let answer = match self.carrier.admit(self.now, &request, &self.flow) {
            Verdict::Answer(bytes) => bytes,
            Verdict::Pass => return (0, "pass".into()),
            Verdict::Absorb => return (0, "absorb".into()),
        };
        let response = parse(&answer).expect("a response");
        for name in [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate] {
            if response.value(name).is_some() {
                let values = response.line_values(name).map(DigestParams::parse);
                let params: Vec<_> = values.flat_map(|value| value.expect("digest")).collect();
                let secret = Secret::Password("Secret-1".into());
                let best = strongest(params.iter().copied(), &secret).expect("one");
                let index = params.iter().position(|own| *own == best);
                let value = response.line_values(name).nth(index.expect("it"));
                (self.challenge, self.nc) = (value.map(<[u8]>::to_vec), 0);
            }
        }
        (
            response.status(),
            String::from_utf8(answer.clone()).expect("text"),
        )
    }

    fn credentials(&mut self, method: &str, uri: &str) -> String {
        let Some(challenge) = &self.challenge else {
            return String::new();
        };
        self.nc += 1;
        let params = DigestParams::parse(challenge).ok().flatten().expect("one");
        let login = Login {
            user: self.user,
            secret: &Secret::Password("Secret-1".into()),
            method: method.as_bytes(),
            uri: uri.as_bytes(),
            nc: self.nc,
            cnonce: b"1",
        };
        let value = answer(&params, &login).expect("an answer");
        let name = if method == "REGISTER" {
            "Authorization"
        } else {
            "Proxy-Authorization"
        };
        format!("{name}: {}\r\n", String::from_utf8(value).expect("text"))
    }

    fn register(&mut self, contact: &str) -> (u16, String) {
        self.ask(
            "REGISTER",
            "sip:a.example",
            &format!("Contact: {contact}\r\n"),
        )
    }
}

const CONTACT: &str = "<sip:t0@192.0.2.1>;expires=100";

#[test]
fn it_registers_whoever_knows_the_password() {
    for (offers_sha256, has_qop) in [(false, false), (false, true), (true, true), (true, false)] {
        let mut client = Client::new(Policy {
            offers_sha256,
            has_qop,
            ..Policy::plain("a.example")
        });
        assert_eq!(client.register(CONTACT).0, 401);
        assert_eq!(client.carrier.contact(client.now, 0), None);
        let (status, answer) = client.register(CONTACT);
        assert_eq!(status, 200, "{answer}");
        assert!(
            answer.contains("<sip:t0@192.0.2.1>;q=0.7;expires=100"),
            "{answer}"
        );
        assert_eq!(
            client.carrier.contact(client.now, 0),
            Some(&b"sip:t0@192.0.2.1"[..])
        );
        assert_eq!(client.carrier.overdue_since(client.now, 0), None);
        assert_eq!(client.carrier.seen.lapses, []);
        client.pass(101);
        assert_eq!(client.carrier.contact(client.now, 0), None);
        assert!(client.carrier.overdue_since(client.now, 0).is_some());
        client.register(CONTACT);
        assert_eq!(client.carrier.seen.lapses.len(), 1, "it comes late");
        assert!(
            client.carrier.faults.is_empty(),
            "{:?}",
            client.carrier.faults
        );
    }
}

#[test]
fn a_wrong_name_is_refused_and_an_old_nonce_is_stale() {
    let mut client = Client::new(Policy {
        is_user_with_domain: true,
        nonce: NonceLife::Once,
        ..Policy::plain("a.example")
    });
    client.register(CONTACT);
    assert_eq!(client.register(CONTACT).0, 403, "without its domain");
    client.user = "alice@a.example";
    assert_eq!(client.register(CONTACT).0, 200);
    let (status, answer) = client.register(CONTACT);
    assert!(status == 401 && answer.contains("stale=TRUE"), "{answer}");
    assert_eq!(client.register(CONTACT).0, 200);
    client.carrier.forget();
    assert_eq!(client.carrier.contact(client.now, 0), None);
    assert_eq!(
        client.register(CONTACT).0,
        401,
        "it has forgotten its nonces"
    );
    assert!(
        client.carrier.faults.is_empty(),
        "{:?}",
        client.carrier.faults
    );
}

#[test]
fn what_no_line_may_do_is_told() {
    let mut client = Client::new(Policy::plain("a.example"));
    client.register(CONTACT);
    client.register(CONTACT);
    // Again, byte for byte: a retransmission.
    client.nc -= 1;
    assert_eq!(
        client
            .repeat(
                "REGISTER",
                "sip:a.example",
                "Contact: <sip:t0@192.0.2.1>;expires=100\r\n"
            )
            .0,
        200
    );
    assert!(
        client.carrier.faults.is_empty(),
        "{:?}",
        client.carrier.faults
    );

    client.nc -= 1;
    assert_eq!(client.register(CONTACT).0, 401);
    client.register("<sip:t1@192.0.2.1>");
    client.register("<sip:192.0.2.1>");
    client.ask(
        "REGISTER",
        "sip:b.example",
        "Contact: <sip:t1@192.0.2.1>\r\n",
    );
    client.ask(
        "INVITE",
        "sip:1@a.example",
        "Contact: <sip:t2@192.0.2.1>\r\n",
    );
    let faults = client.carrier.faults.join("\n");
    for fault in [
        "came twice",
        "two Contacts",
        "names nobody",
        "to sip:b.example",
        "of a call is sip:t2",
    ] {
        assert!(faults.contains(fault), "{fault}:\n{faults}");
    }
}

#[test]
fn calls_are_challenged_and_need_a_registration() {
    let mut client = Client::new(Policy {
        has_service_route: true,
        ..Policy::plain("a.example")
    });
    let contact = "Contact: <sip:t0@192.0.2.1>\r\n";
    assert_eq!(client.ask("INVITE", "sip:1@a.example", contact).0, 407);
    assert_eq!(client.ask("INVITE", "sip:1@a.example", contact).0, 403);
    assert_eq!(client.carrier.seen.unregistered, 1);
    let (status, answer) = client.register(CONTACT);
    assert!(
        status == 200 && answer.contains("<sip:edge0.a.example;lr>"),
        "{answer}"
    );
    let lines = format!("{contact}Route: <sip:edge0.a.example;lr>\r\n");
    assert_eq!(client.ask("INVITE", "sip:1@a.example", &lines).1, "pass");
    assert!(
        client.carrier.faults.is_empty(),
        "{:?}",
        client.carrier.faults
    );
    assert_eq!(client.ask("INVITE", "sip:1@a.example", contact).1, "pass");
    assert!(!client.carrier.faults.is_empty(), "without its Route");
}

#[test]
fn too_short_too_busy_and_taken_back() {
    let mut client = Client::new(Policy {
        expires_min_s: 300,
        ..Policy::plain("a.example")
    });
    client.register(CONTACT);
    let (status, answer) = client.register(CONTACT);
    assert!(
        status == 423 && answer.contains("Min-Expires: 300"),
        "{answer}"
    );
    assert_eq!(client.register("<sip:t0@192.0.2.1>;expires=300").0, 200);

    client.carrier.policy.busy = 1_000;
    let (status, answer) = client.register(CONTACT);
    assert!(
        status == 503 && answer.contains("Retry-After: "),
        "{answer}"
    );
    client.carrier.policy.busy = 0;
    client.register(CONTACT);
    assert!(
        client.carrier.faults.join("").contains("Retry-After"),
        "{:?}",
        client.carrier.faults
    );

    client.pass(400);
    assert_eq!(client.register("<sip:t0@192.0.2.1>;expires=300").0, 401);
    assert_eq!(client.register("<sip:t0@192.0.2.1>;expires=300").0, 200);
    assert_eq!(client.register("<sip:t0@192.0.2.1>;expires=0").0, 200);
    assert_eq!(client.carrier.contact(client.now, 0), None);
    assert_eq!(client.carrier.seen.removed, 1);
}
