//! Users by address: nothing but the socket's address makes anybody one of them, and what becomes of who forges that.

use std::time::Duration;

use super::harness::*;
use sipkeep::endpoint::Input;

/// An address, a port that counts over UDP, blocks of both families, an address and a block that two have; the guard is off, so that everybody is answered.
const VICTIMS: &str = "[server]\nlisten = udp:192.0.2.100:5060, tcp:192.0.2.100:5060\n[guard]\nmode = off\n\
    [user 100]\npassword = hundred-kXq7\n\
    [user 102]\naddresses = 192.0.2.2\n[user 103]\naddresses = 192.0.2.3:5070\n\
    [user 104]\naddresses = 192.0.2.64/28, ::ffff:198.51.100.64/124\n\
    [user 105]\naddresses = [2001:db8::7]:5062, 2001:db8:0:7::/64\n\
    [user 106]\naddresses = 192.0.2.7, 192.0.2.96/28\n[user 107]\naddresses = 192.0.2.7, 192.0.2.96/28\n\
    [trunk carrier]\naddresses = 198.51.100.4:5060\nkeepalive = 0\nincoming = 102\n";

/// Where 106 and 107 are, whom From tells apart: whoever is neither there is nobody.
const SHARED: [&str; 3] = ["192.0.2.7:5060", "192.0.2.96:5060", "192.0.2.111:9999"];

/// A user, where he is, and from where everything is somebody else's: beside his address, his block and his port.
const PLACES: [(&str, &str, &[&str]); 6] = [
    (
        "102",
        "192.0.2.2:5060",
        &["192.0.2.1:5060", "[::192.0.2.2]:5060", "203.0.113.7:5060"],
    ),
    (
        "103",
        "192.0.2.3:5070",
        &["192.0.2.3:5060", "192.0.2.3:5071", "192.0.2.35:5070"],
    ),
    (
        "104",
        "192.0.2.70:9999",
        &["192.0.2.63:5060", "192.0.2.80:5060", "198.51.100.80:5060"],
    ),
    (
        "105",
        "[2001:db8::7]:5062",
        &[
            "[2001:db8::7]:5060",
            "[2001:db8::8]:5062",
            "[2001:db8:0:8::]:5062",
        ],
    ),
    (
        "106",
        "192.0.2.7:5060",
        &["192.0.2.8:5060", "192.0.2.95:5060", "203.0.113.7:5060"],
    ),
    (
        "107",
        "192.0.2.111:9999",
        &["192.0.2.6:5060", "192.0.2.112:5060", "[::192.0.2.7]:5060"],
    ),
];

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }
}

/// Says of itself in all ways that there are that it is from `user` at `home`.
fn lie(random: &mut Random, call: &Call, user: &str, home: &str) -> String {
    let (host, port) = home.rsplit_once(':').unwrap();
    let mut request = match random.below(4) {
        // What only a guess of the tag keeps him from.
        0 => {
            let methods = ["BYE", "INVITE", "UPDATE", "INFO", "REFER", "ACK", "CANCEL"];
            let cseq = 2 + random.below(50) as u64;
            let mut request = call.within(random.of(&methods), cseq);
            let (to, tag) = request.to.rsplit_once('=').unwrap();
            let mut tag = tag.to_owned();
            let at = random.below(tag.len());
            let other = if tag.as_bytes()[at] == b'0' { "1" } else { "0" };
            tag.replace_range(at..=at, other);
            request.to = format!("{to}={tag}");
            request
        }
        _ => {
            let methods = [
                "INVITE",
                "INVITE",
                "MESSAGE",
                "REGISTER",
                "SUBSCRIBE",
                "OPTIONS",
                "REFER",
                "PUBLISH",
                "NOTIFY",
                "CANCEL",
                "BYE",
            ];
            let request = Request::new(random.of(&methods)).by(user);
            match request.method.as_str() {
                "REGISTER" => request.user(user),
                _ => request,
            }
        }
    };
    if random.below(3) == 0 && request.method == "INVITE" {
        request.uri = format!("sip:900442{}@192.0.2.100", random.below(1_000));
    }
    let more = random.of(&["", ";received=", ";rport=", ";maddr="]);
    let more = match more {
        ";rport=" => format!(";rport={port}"),
        "" => String::new(),
        _ => format!("{more}{host}"),
    };
    let branch = request.via.rsplit_once("branch=").unwrap().1.to_owned();
    let transport = random.of(&["UDP", "TCP", "TLS"]);
    request.via = format!("SIP/2.0/{transport} {home}{more};branch={branch}");
    if random.below(2) == 0 {
        request = request.contact(&format!("<sip:{user}@{home}>"));
    }
    let nonce = random.below(1 << 30);
    for line in [
        format!("Via: SIP/2.0/UDP {home};branch=z9hG4bKmine{nonce}"),
        format!("Route: <sip:{home};lr>"),
        format!("Record-Route: <sip:{home};lr>"),
        format!("Path: <sip:{user}@{home};lr;ob>"),
        format!("P-Asserted-Identity: <sip:{user}@192.0.2.100>"),
        format!("P-Preferred-Identity: <sip:{user}@192.0.2.100>"),
        format!("Remote-Party-ID: <sip:{user}@{home}>;party=calling"),
        format!("P-Access-Network-Info: IEEE-802.11; i-wlan-node-id={host}"),
        format!("X-Forwarded-For: {host}"),
        format!("Forwarded: for=\"{home}\""),
        format!("Diversion: <sip:{user}@{home}>;reason=unconditional"),
        format!("Referred-By: <sip:{user}@192.0.2.100>"),
        format!(
            "Authorization: Digest username=\"{user}\", realm=\"sipkeep\", nonce=\"{nonce:x}\", uri=\"{}\", response=\"{nonce:032x}\"",
            request.uri
        ),
    ] {
        if random.below(4) == 0 {
            request = request.line(&line);
        }
    }
    if request.method == "INVITE" && random.below(2) == 0 {
        request = request.sdp();
    }
    if random.below(8) > 0 {
        return request.text();
    }
    // An answer to what we never asked, or did not ask him.
    let status = random.of(&[100, 180, 200, 302, 401, 486]);
    let asked = match random.below(2) {
        0 => call.outgoing.clone(),
        _ => request.text(),
    };
    let asked = asked.replacen("branch=z9hG4bK", &format!("branch=z9hG4bK{nonce:x}"), 1);
    answer(
        &asked,
        status,
        "t",
        &format!("Contact: <sip:{home}>\r\n"),
        "",
    )
}

/// `SIPKEEP_ADDRESS_CASES`: how many, instead of 20,000.
#[test]
fn nothing_but_the_sockets_address_makes_anybody_a_user_by_address() {
    let cases = std::env::var("SIPKEEP_ADDRESS_CASES");
    let cases: u64 = cases.map_or(20_000, |text| text.parse().expect("a number"));
    let mut site = Site::of(&VICTIMS.replace("192.0.2.3:5070", "192.0.2.3"));
    let call = Call::up(&mut site);
    // The port of 103 counts from now on.
    let config = sipkeep::config::Config::read(VICTIMS, std::path::Path::new(".")).unwrap();
    site.endpoint.reload(site.now, config);
    site.pass(Duration::from_secs(40));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut challenged = 0;
    for case in 0..cases {
        let (user, home, others) = random.of(&PLACES);
        // Who shares an address may say there that he is one of those whose it is, and no third one.
        let from = match random.below(4) {
            0 if !["106", "107"].contains(&user) => random.of(&SHARED),
            _ => random.of(others),
        };
        let text = lie(&mut random, &call, user, home);
        // Over TCP the port of a user's own address says nothing: from there it is he.
        let is_tcp =
            case % 8 == 0 && !from.starts_with("192.0.2.3:") && from != "[2001:db8::7]:5060";
        let outcome = if is_tcp {
            let connection = site.connect(from, 2 * case);
            let outcome = site.tcp(connection, &text);
            site.input(Input::StreamClosed { connection });
            outcome
        } else {
            site.udp(from, &text)
        };
        let context = || format!("case {case}, from {from}: {outcome:#?}\n{text}");
        let to = from.parse().unwrap();
        assert!(
            outcome
                .sent
                .iter()
                .all(|(remote, _)| remote.ip() == std::net::SocketAddr::ip(&to)),
            "{}",
            context()
        );
        assert!(
            outcome.opened.is_empty() && outcome.kept.is_empty(),
            "{}",
            context()
        );
        let texts = outcome.sent.iter().map(|(_, text)| text);
        let all_refusals = texts
            .chain(outcome.written.iter().map(|(_, text)| text))
            .all(|text| text.starts_with("SIP/2.0 4") || text.starts_with("SIP/2.0 5"));
        // With the guard off everybody is told what we can do.
        let is_options = text.starts_with("OPTIONS ");
        assert!(all_refusals || is_options, "{}", context());
        assert!(
            outcome
                .statuses()
                .iter()
                .all(|status| *status != 404 && *status != 480),
            "{}",
            context()
        );
        challenged += u64::from(outcome.statuses().contains(&401));
        if case % 1_000 == 0 {
            assert_eq!(site.counts(), (0, 1, 0), "{}", context());
            site.jump(Duration::from_millis(1));
        }
    }
    assert!(challenged > cases / 3, "{challenged}");
    assert_eq!(site.counts(), (0, 1, 0));
    // Nobody is called anywhere else than before: 104 has not spoken, 102 has at his address.
    let outcome = site.udp("192.0.2.3:5070", invite("104", "103").text());
    assert_eq!(outcome.statuses(), [480]);
    let outcome = site.udp("192.0.2.3:5070", invite("102", "103").text());
    assert!(
        outcome
            .to("192.0.2.2:5060")
            .starts_with("INVITE sip:102@192.0.2.2:5060 ")
    );
    // From where they are it is they.
    for (user, home, _) in PLACES {
        let outcome = site.udp(home, invite("nobody", user).text());
        assert_eq!(outcome.statuses(), [404], "{user}");
    }
    let outcome = site.udp("[2001:db8:0:7:ffff::1]:1", invite("nobody", "105").text());
    assert_eq!(outcome.statuses(), [404]);
    let outcome = site.udp("198.51.100.79:1", invite("nobody", "104").text());
    assert_eq!(
        outcome.statuses(),
        [404],
        "a block in IPv4-mapped form is IPv4"
    );
}

/// Of two who share an address From alone says which one it is, whatever else the request says.
#[test]
fn who_shares_an_address_is_who_from_says() {
    let mut site = Site::of(VICTIMS);
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let names = ["100", "102", "103", "104", "106", "107", "nobody"];
    for case in 0..1_000_u64 {
        let (from, user) = (random.of(&SHARED), random.of(&names));
        let other = random.of(&names);
        let mut call = invite("102", user).contact(&format!("<sip:{other}@{from}>"));
        for line in [
            format!("P-Asserted-Identity: <sip:{other}@192.0.2.100>"),
            format!("P-Preferred-Identity: <sip:{other}@192.0.2.100>"),
            format!("Remote-Party-ID: <sip:{other}@{from}>;party=calling"),
            format!("Referred-By: <sip:{other}@192.0.2.100>"),
            format!("Diversion: <sip:{other}@192.0.2.100>"),
        ] {
            if random.below(2) == 0 {
                call = call.line(&line);
            }
        }
        let outcome = site.udp(from, call.text());
        let context = || {
            format!(
                "case {case}, {user} from {from}: {outcome:#?}\n{}",
                call.text()
            )
        };
        if !["106", "107"].contains(&user) {
            assert_eq!(outcome.statuses(), [401], "{}", context());
            assert_eq!(outcome.sent.len(), 1, "{}", context());
            continue;
        }
        let outgoing = outcome.to("192.0.2.2:5060").to_owned();
        let shown = header(&outgoing, "From").unwrap();
        assert!(shown.starts_with(&format!("<sip:{user}@")), "{}", context());
        let ended = site.udp("192.0.2.2:5060", answer(&outgoing, 486, "x", "", ""));
        let caller = ended.kept.iter().find_map(|change| match change {
            sipkeep::store::Change::Record(record) => Some(record.caller.clone()),
            _ => None,
        });
        assert_eq!(caller.as_deref(), Some(user), "case {case}: {ended:#?}");
        site.udp(from, acknowledge(&call, ended.to(from)));
        site.pass(Duration::from_secs(40));
    }
    assert_eq!(site.counts(), (0, 0, 0));
}

/// The branch of a request of ours is known to whoever has seen it. What he answers from elsewhere is an answer, for many peers
/// answer from elsewhere; but nothing goes to where it came from, or to what it names, and it costs nobody his credentials.
#[test]
fn an_answer_with_the_right_branch_from_a_wrong_address_leads_nobody_there() {
    let wrong = [STRANGER, "198.51.100.4:5099", "198.51.100.5:5060", OTHER];
    for (n, status) in [100, 180, 183, 200, 302, 401, 407, 486, 503]
        .into_iter()
        .enumerate()
    {
        for from in wrong {
            let mut site = Site::new();
            let call = invite("9004420", "102");
            let outgoing = site.udp(USER, call.text()).to(TRUNK).to_owned();
            let lines = format!(
                "Contact: <sip:9@{from}>\r\nRecord-Route: <sip:{from};lr>\r\n\
                 WWW-Authenticate: Digest realm=\"x\", nonce=\"n{n}\"\r\n\
                 Proxy-Authenticate: Digest realm=\"x\", nonce=\"n{n}\"\r\n"
            );
            let mut outcome = site.udp(from, answer(&outgoing, status, "f", &lines, ""));
            let to = header(&outgoing, "To").unwrap().to_owned();
            if status < 200 {
                // Whoever is really there is not kept out by it.
                let lines = format!("Contact: <sip:9@{TRUNK}>\r\n");
                let answered = site.udp(TRUNK, answer(&outgoing, 200, "right", &lines, ""));
                assert!(
                    answered.statuses().contains(&200),
                    "{status} {from}: {answered:#?}"
                );
                outcome.sent.extend(answered.sent);
            }
            let later = site.pass(Duration::from_secs(40));
            outcome.sent.extend(later.sent);
            outcome.opened.extend(later.opened);
            let (user, trunk): (std::net::SocketAddr, _) =
                (USER.parse().unwrap(), TRUNK.parse().unwrap());
            assert!(!outcome.sent.is_empty() || status == 100, "{status} {from}");
            for (remote, text) in &outcome.sent {
                let context = || format!("{status} from {from}, to {to}: {remote} {text}");
                assert!([user, trunk].contains(remote), "{}", context());
                assert!(!text.contains("Authorization: "), "{}", context());
            }
            assert!(outcome.opened.is_empty(), "{status} {from}");
        }
    }
}

fn invite(number: &str, by: &str) -> Request {
    let mut request = Request::new("INVITE").by(by).sdp();
    request.uri = format!("sip:{number}@192.0.2.100");
    request
}

/// Whether the log was told that outside calls of 102 are stopped.
fn is_stopped(outcome: &Outcome) -> bool {
    let mut stops = outcome
        .events
        .iter()
        .filter(|(name, _)| *name == "outside_stopped");
    stops.any(|(_, fields)| fields["user"] == "102" && fields["reason"] == "no_ack")
}

/// The ACK for a refusal.
fn acknowledge(invite: &Request, refusal: &str) -> String {
    let ack = Request {
        method: "ACK".to_owned(),
        to: header(refusal, "To").unwrap().to_owned(),
        lines: String::new(),
        body: String::new(),
        ..invite.clone()
    };
    ack.text()
}

#[test]
fn three_calls_that_nobody_acknowledges_stop_the_users_outside_calls_for_an_hour() {
    let mut site = Site::new();
    for (n, status) in [486, 200, 503].into_iter().enumerate() {
        let outcome = site.udp(USER, invite(&format!("900442{n}"), "102").text());
        let outgoing = outcome.to(TRUNK).to_owned();
        assert!(outgoing.starts_with("INVITE "), "{outgoing}");
        let lines = "Contact: <sip:1@198.51.100.4>\r\n";
        site.udp(TRUNK, answer(&outgoing, status, "c", lines, ""));
        let outcome = site.pass(Duration::from_secs(100));
        assert_eq!(is_stopped(&outcome), n == 2, "{n}: {outcome:#?}");
    }
    let outside = |site: &mut Site| site.udp(USER, invite("9004424", "102").text()).statuses();
    assert_eq!(outside(&mut site), [403]);
    // Inside he calls as before.
    let outcome = site.udp(USER, invite("103", "102").text());
    let outgoing = outcome.to(OTHER).to_owned();
    assert!(outgoing.starts_with("INVITE "));
    site.udp(OTHER, answer(&outgoing, 486, "x", "", ""));
    site.pass(Duration::from_secs(3_500));
    assert_eq!(outside(&mut site), [403]);
    site.pass(Duration::from_secs(101));
    assert_eq!(outside(&mut site), [100]);
}

/// Who hangs up in the dialog has heard the answer, be it that each ACK of his is lost.
#[test]
fn calls_that_their_caller_ends_are_heard() {
    let mut site = Site::new();
    for n in 0..4 {
        let call = invite(&format!("900442{n}"), "102");
        let outgoing = site.udp(USER, call.text()).to(TRUNK).to_owned();
        let lines = "Contact: <sip:1@198.51.100.4>\r\n";
        let outcome = site.udp(TRUNK, answer(&outgoing, 200, "c", lines, ""));
        let answered = outcome.to(USER).to_owned();
        assert!(answered.starts_with("SIP/2.0 200"), "{answered}");
        let mut bye = Request {
            method: "BYE".to_owned(),
            to: header(&answered, "To").unwrap().to_owned(),
            lines: String::new(),
            body: String::new(),
            ..call.clone()
        };
        bye.cseq += 1;
        let outcome = site.udp(USER, bye.text());
        assert_eq!(outcome.statuses(), [200], "{outcome:#?}");
        assert!(!is_stopped(&site.pass(Duration::from_secs(100))), "{n}");
    }
    let outcome = site.udp(USER, invite("9004424", "102").text());
    assert_eq!(outcome.statuses(), [100]);
}

#[test]
fn a_phone_that_works_is_never_stopped_however_bad_its_network_and_its_callees() {
    let mut site = Site::new();
    for n in 0..12 {
        let call = invite(&format!("900442{n}"), "102");
        let outgoing = site.udp(USER, call.text()).to(TRUNK).to_owned();
        let (refusal, delay) = match n % 3 {
            // Refused, and heard at once.
            0 => {
                let outcome = site.udp(TRUNK, answer(&outgoing, 486, "c", "", ""));
                (outcome.to(USER).to_owned(), 0)
            }
            // Refused, and what is said is lost for 30 s.
            1 => {
                let outcome = site.udp(TRUNK, answer(&outgoing, 404, "c", "", ""));
                (outcome.to(USER).to_owned(), 30)
            }
            // Given up while it rings.
            _ => {
                site.udp(TRUNK, answer(&outgoing, 180, "c", "", ""));
                let cancel = Request {
                    method: "CANCEL".to_owned(),
                    lines: String::new(),
                    body: String::new(),
                    ..call.clone()
                };
                let outcome = site.udp(USER, cancel.text());
                site.udp(TRUNK, answer(&outgoing, 487, "c", "", ""));
                let refusal = outcome
                    .sent
                    .into_iter()
                    .find(|(_, text)| text.starts_with("SIP/2.0 487"));
                (refusal.expect("487").1, 4)
            }
        };
        site.pass(Duration::from_secs(delay));
        site.udp(USER, acknowledge(&call, &refusal));
        let outcome = site.pass(Duration::from_secs(45 - delay));
        assert!(!is_stopped(&outcome), "{n}: {outcome:#?}");
    }
    // Two that nobody heard are not three, and nobody forges what comes on a connection.
    for n in 0..6 {
        let request = invite("nobody", "102");
        let outcome = match n {
            0 | 1 => site.udp(USER, request.text()),
            _ => {
                let connection = site.connect(USER, 100 + 2 * n);
                site.tcp(connection, request.text())
            }
        };
        assert_eq!(outcome.statuses(), [404]);
        assert!(!is_stopped(&site.pass(Duration::from_secs(50))));
    }
    let outcome = site.udp(USER, invite("9004424", "102").text());
    assert_eq!(outcome.statuses(), [100]);
}
