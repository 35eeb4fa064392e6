//! Nobody learns from an answer which names exist (AST-2013-003, CVE-2011-2666): a user with a password, one that is known
//! by address only and so has none, and one that does not exist get the same bytes, but for nonce and tag, as often, and
//! the same silence.

use std::time::Duration;

use super::harness::{Outcome, PASSWORD, Request, STRANGER, Site};

/// User with a password, user without one, no user: names of one length.
const NAMES: [&str; 3] = ["100", "102", "999"];
const METHODS: [&str; 13] = [
    "REGISTER",
    "INVITE",
    "OPTIONS",
    "MESSAGE",
    "SUBSCRIBE",
    "PUBLISH",
    "REFER",
    "BYE",
    "INFO",
    "NOTIFY",
    "UPDATE",
    "PRACK",
    "FETCH",
];

/// What a stranger tries.
#[derive(Clone, Copy, Debug)]
enum Try {
    /// No credentials, four times.
    Nothing,
    /// Wrong answers to fresh nonces until the ban, and beyond.
    Wrong,
    /// The same wrong answer again.
    Repeated,
    /// An answer to a nonce that is not ours.
    Stale,
    /// Credentials that cannot be read.
    Malformed,
    /// Somebody else's name in From, as who would like to know whether that one exists.
    Other,
}

const TRIES: [Try; 6] = [
    Try::Nothing,
    Try::Wrong,
    Try::Repeated,
    Try::Stale,
    Try::Malformed,
    Try::Other,
];

/// Where it comes from.
#[derive(Clone, Copy, Debug)]
enum Way {
    Udp,
    /// Over UDP, and the source is known: pairs are delayed there.
    Known,
    Tcp,
}

/// Every byte that goes out, with nonces, tags and the name blanked.
fn answers(name: &str, method: &str, what: Try, way: Way) -> Vec<String> {
    let mut site = Site::new();
    let connection = site.connect(STRANGER, 2);
    if matches!(way, Way::Known) {
        // By a user that is none of those.
        let register = || fixed(Request::new("REGISTER").user("101"), 1);
        let challenge = site.udp(STRANGER, register().text()).only();
        let request = register().sign(&challenge, "101", "hundred-one-kXq7");
        assert_eq!(site.udp(STRANGER, request.text()).statuses(), [200]);
    }
    let mut all = Vec::new();
    // The challenge, if that was the answer.
    let mut send = |site: &mut Site, request: &Request| -> Option<String> {
        let outcome = match way {
            Way::Tcp => site.tcp(connection, request.text()),
            Way::Udp | Way::Known => site.udp(STRANGER, request.text()),
        };
        let answer = texts(&outcome).first().cloned();
        let challenge = answer.filter(|text| text.contains("WWW-Authenticate"));
        all.push(seen(&outcome, name));
        // Whatever is repeated by a timer.
        all.push(seen(&site.pass(Duration::from_millis(1_500)), name));
        challenge
    };
    for n in 0..8 {
        let request = || fixed(Request::new(method).user(name), 100 + n);
        match what {
            Try::Nothing => {
                send(&mut site, &request());
            }
            Try::Other => {
                // Credentials of another one, right or wrong, are nothing to do with whom they are shown for.
                let Some(challenge) = send(&mut site, &request()) else {
                    continue;
                };
                let signed = fixed(Request::new(method).by(name), 200 + n);
                send(&mut site, &signed.sign(&challenge, "777", PASSWORD));
            }
            Try::Wrong | Try::Repeated => {
                let first = fixed(Request::new("REGISTER").user(name), 300 + n);
                let Some(challenge) = send(&mut site, &first) else {
                    continue;
                };
                let signed = request().sign(&challenge, name, &format!("guess {n}"));
                send(&mut site, &signed);
                if matches!(what, Try::Repeated) {
                    send(&mut site, &signed);
                }
            }
            Try::Stale => {
                let foreign = "WWW-Authenticate: Digest realm=\"sipkeep\", \
                    nonce=\"AZk3f0Y0c2M5ZjE0ODdhYjE5MjMzYzc5\", algorithm=MD5, qop=\"auth\"\r\n";
                send(&mut site, &request().sign(foreign, name, PASSWORD));
            }
            Try::Malformed => {
                let line =
                    format!("Authorization: Digest username=\"{name}\", realm=\"sipkeep\", nonce");
                send(&mut site, &request().line(&line));
            }
        }
    }
    all
}

/// The same for every name: branch, tag and Call-ID depend on `n` only.
fn fixed(mut request: Request, n: u32) -> Request {
    request.via = format!("SIP/2.0/UDP 10.1.1.1:5060;rport;branch=z9hG4bK{n}");
    let (from, _) = request.from.split_once(";tag=").unwrap();
    request.from = format!("{from};tag={n}");
    request.call_id = format!("{n}@phone");
    request
}

fn texts(outcome: &Outcome) -> Vec<String> {
    let sent = outcome.sent.iter().map(|(to, text)| format!("{to} {text}"));
    let written = outcome.written.iter().map(|(_, text)| text.clone());
    sent.chain(written).collect()
}

/// What is seen from outside.
fn seen(outcome: &Outcome, name: &str) -> String {
    // A phone behind a NAT is asked by itself now and then, at its own Contact.
    let mut all = texts(outcome);
    all.retain(|text| !text.contains(" OPTIONS sip:"));
    let mut text = all.join("\n--\n");
    for closed in &outcome.closed {
        text.push_str(&format!("\nclosed {closed:?}"));
    }
    // As long as they were: a shorter one would be seen.
    for (before, after) in [("nonce=\"", '"'), ("sip:999@192.0.2.100>;tag=", '\r')] {
        let before = before.replace("999", name);
        let mut from = 0;
        while let Some(at) = text[from..].find(&before) {
            let start = from + at + before.len();
            let length = text[start..].find(after).unwrap();
            text.replace_range(start..start + length, &"*".repeat(length));
            from = start;
        }
    }
    text.replace(&format!("sip:{name}@"), "sip:NNN@")
}

#[test]
fn names_that_exist_and_names_that_do_not_get_the_same_bytes() {
    let mut answered = 0;
    for way in [Way::Udp, Way::Known, Way::Tcp] {
        for what in TRIES {
            for method in METHODS {
                let [known, others @ ..] = NAMES.map(|name| answers(name, method, what, way));
                for (other, name) in others.iter().zip(&NAMES[1..]) {
                    assert_eq!(&known, other, "{method} {what:?} {way:?}: 100 and {name}");
                }
                answered += known
                    .iter()
                    .filter(|text| text.contains("SIP/2.0 "))
                    .count();
            }
        }
    }
    assert!(answered > 500, "mostly silence proves nothing: {answered}");
}
