//! Each answer, and any sequence of them.

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// The attempt that is due first, answered so; how the line is then.
fn after(keys: &str, answers: &[Option<Said>]) -> api::Line {
    let mut bench = Bench::new(&one(keys));
    let mut answers = answers.iter();
    bench.step(&mut |_, _| answers.next().expect("no further REGISTER").clone());
    assert_eq!(answers.next(), None, "an answer that nobody asked for");
    bench.item(0)
}

fn shown(item: &api::Line) -> (&str, Option<u16>, &str) {
    (
        item.state,
        item.status,
        item.reason.as_deref().unwrap_or_default(),
    )
}

#[test]
fn a_200_is_a_registration_only_with_our_contact_in_it() {
    for (answer, state, reason) in [
        (granted(3_600), "registered", "OK"),
        (
            said(200, &["Contact: <$us>", "Expires: 60"]),
            "registered",
            "OK",
        ),
        (said(202, &["Contact: <$us>"]), "registered", "Accepted"),
        (
            said(
                200,
                &["Contact: <sip:1@192.0.2.77>;expires=9, \"x\" <$us>;q=0.5;expires=60"],
            ),
            "registered",
            "OK",
        ),
        // RFC 3261 §10.3 wants them listed, and some registrars list none.
        (said(200, &[]), "registered", "OK"),
        (said(200, &["Expires: 60"]), "registered", "OK"),
        (
            said(200, &["Expires: 0"]),
            "refused",
            "it grants no time at all",
        ),
        (
            said(200, &["Contact: <"]),
            "refused",
            "our Contact is not among the 0 that it lists",
        ),
        (
            said(
                200,
                &["Contact: <sip:1@192.0.2.77>;expires=9, <tel:+1>;expires=9"],
            ),
            "refused",
            "our Contact is not among the 2 that it lists",
        ),
        (
            said(200, &["Contact: <$us>;expires=0"]),
            "refused",
            "it grants no time at all",
        ),
        (
            said(200, &["Contact: <$us>", "Expires: 0"]),
            "refused",
            "it grants no time at all",
        ),
    ] {
        let item = after("", std::slice::from_ref(&answer));
        let status = answer.as_ref().map(|(status, _)| *status);
        assert_eq!(shown(&item), (state, status, reason), "{answer:?}");
        assert_eq!(item.expires.is_some(), state == "registered", "{answer:?}");
        assert!(item.next_attempt.is_some());
    }
}

/// Seconds for which an answer registers the line.
fn lasts(answer: Option<Said>) -> u64 {
    let mut bench = Bench::new(&one("expires = 1h\n"));
    bench.step(&mut |_, _| answer.clone());
    let item = bench.item(0);
    let until = item.expires.expect("registered").0;
    until.since(bench.now.unix).as_secs()
}

#[test]
fn without_a_contact_it_lasts_as_long_as_it_says_or_was_asked() {
    assert_eq!(lasts(said(200, &[])), 3_600);
    assert_eq!(lasts(said(200, &["Expires: 120"])), 120);
}

#[test]
fn of_several_contacts_of_ours_the_one_that_was_sent_counts() {
    let bench = Bench::new(&one(""));
    let token = String::from_utf8(bench.lines.token(LineId(0)).to_vec()).unwrap();
    // A binding that was made from another address still runs for long.
    let old = format!("<sip:{token}@192.0.2.66:5060>;expires=3000");
    let none = format!("<sip:{token}@192.0.2.66:5061>;expires=60, {old}");
    for (contacts, seconds) in [
        (format!("{old}, <$us>;expires=60"), 60),
        (format!("<$us>;expires=60, {old}"), 60),
        (
            format!("{old}, <sip:{token}@192.0.2.1;transport=udp>;expires=60"),
            60,
        ),
        // Its registrar has put what it sees in place of ours.
        (none, 3_000),
    ] {
        let answer = said(200, &[&format!("Contact: {contacts}")]);
        assert_eq!(lasts(answer), seconds, "{contacts}");
    }
}

#[test]
fn who_asks_in_place_of_the_peer_is_named() {
    for (from, addresses) in [
        ("203.0.113.9:5070", "203.0.113.9"),
        ("192.0.2.9:5070", "192.0.2.9:5070"),
    ] {
        let mut bench = Bench::new(&one(""));
        bench.stranger = Some(from.parse().unwrap());
        bench.step(&mut |_, _| None);
        let reason = format!(
            "{from} asks for the password in place of 192.0.2.9:5060, and is no address of the line: \
             addresses = {addresses} in its section trusts it"
        );
        assert_eq!(
            shown(&bench.item(0)),
            ("unreachable", None, reason.as_str())
        );
    }
}

#[test]
fn whatever_else_it_says_is_a_refusal_in_its_words() {
    for (status, reason) in [
        (
            302,
            "Moved Temporarily: it names another place, which is not followed",
        ),
        (400, "Bad Request"),
        (403, "Forbidden"),
        (404, "Not Found"),
        (408, "Request Timeout"),
        (420, "Bad Extension"),
        (
            423,
            "Interval Too Brief: it wants a time that cannot be asked for",
        ),
        (480, "Temporarily Unavailable"),
        (500, "Server Internal Error"),
        (503, "Service Unavailable"),
        (603, "Decline"),
    ] {
        let item = after("", &[said(status, &[])]);
        assert_eq!(shown(&item), ("refused", Some(status), reason));
    }
    let silent = after("", &[None]);
    assert_eq!(
        shown(&silent),
        ("unreachable", None, "192.0.2.9:5060 does not answer")
    );
}

#[test]
fn no_more_than_two_answers_in_an_attempt() {
    let challenge = |nonce: &str, stale: &str| {
        let line =
            format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\"{stale}");
        Some((401, vec![line]))
    };
    let proxy = |nonce: &str| {
        Some((
            407,
            vec![format!(
                "Proxy-Authenticate: Digest realm=\"p\", nonce=\"{nonce}\""
            )],
        ))
    };
    let stale = ", stale=TRUE";
    let wrong = "Unauthorized: user name or password is wrong";
    let endless = "Unauthorized: every answer is met with another challenge";
    for (answers, state, reason) in [
        (vec![challenge("a", ""), granted(60)], "registered", "OK"),
        (
            vec![challenge("a", ""), challenge("b", stale), granted(60)],
            "registered",
            "OK",
        ),
        (
            vec![proxy("p"), challenge("a", ""), granted(60)],
            "registered",
            "OK",
        ),
        (
            vec![challenge("a", ""), challenge("b", "")],
            "refused",
            wrong,
        ),
        (
            vec![challenge("a", ""), challenge("a", "")],
            "refused",
            wrong,
        ),
        (
            vec![
                challenge("a", stale),
                challenge("b", stale),
                challenge("c", stale),
            ],
            "refused",
            endless,
        ),
        (
            vec![proxy("p"), challenge("a", ""), challenge("b", stale)],
            "refused",
            endless,
        ),
    ] {
        let item = after("", &answers);
        assert_eq!(
            (item.state, item.reason.as_deref()),
            (state, Some(reason)),
            "{answers:?}"
        );
    }
    let without = lines_of("[line a]\naccount = 100\nserver = 192.0.2.9\n");
    let mut bench = Bench::new(&without);
    bench.step(&mut |_, _| challenge("a", ""));
    assert_eq!(
        shown(&bench.item(0)),
        (
            "refused",
            Some(401),
            "a password is asked for, and the line has none"
        )
    );
}

#[test]
fn the_next_address_is_asked_at_once() {
    let mut bench = Bench::new(&one(""));
    bench.addresses = ["192.0.2.9:5060", "192.0.2.10:5060", "192.0.2.11:5060"]
        .map(|text| text.parse().unwrap())
        .into();
    let mut asked = 0;
    bench.step(&mut |_, _| {
        asked += 1;
        match asked {
            1 => None,
            2 => said(503, &["Retry-After: 600"]),
            _ => granted(600),
        }
    });
    assert_eq!((asked, bench.item(0).state), (3, "registered"));
    let flow = bench.lines.flow(LineId(0)).unwrap();
    assert_eq!(flow.remote.ip().to_string(), "192.0.2.11");

    // All of them fail: what was answered is shown, and each was asked once.
    let mut bench = Bench::new(&one(""));
    bench.addresses = ["192.0.2.9:5060", "192.0.2.10:5060"]
        .map(|text| text.parse().unwrap())
        .into();
    let mut asked = 0;
    bench.step(&mut |_, _| {
        asked += 1;
        (asked == 1)
            .then(|| said(503, &["Retry-After: 600"]))
            .flatten()
    });
    assert_eq!(
        (asked, shown(&bench.item(0))),
        (2, ("refused", Some(503), "Service Unavailable"))
    );
    // Its Retry-After is waited for.
    bench.run(Duration::from_secs(599), &mut |_, _| panic!("too early"));
    bench.run(Duration::from_secs(62), &mut |_, _| granted(600));
    assert_eq!(bench.item(0).state, "registered");
}

#[test]
fn what_the_registrar_says_of_us_is_there_for_calls() {
    let mut bench = Bench::new(&one(""));
    bench.step(&mut |_, _| {
        said(
            200,
            &[
                "Contact: <$us>;expires=600",
                "Service-Route: <sip:orig@s1;lr>, <sip:s2;lr>",
                "Service-Route: <sip:s3;lr>",
                "Path: <sip:p1;lr>",
                "P-Associated-URI: <mailto:a@b>, \"A\" <sip:+49301@ims>;x=y, <tel:+49301>",
            ],
        )
    });
    let line = LineId(0);
    assert!(bench.lines.is_registered(line));
    assert_eq!(
        bench.lines.service_route(line),
        b"<sip:orig@s1;lr>, <sip:s2;lr>, <sip:s3;lr>"
    );
    assert_eq!(bench.lines.path(line), b"<sip:p1;lr>");
    assert_eq!(
        bench.lines.public_identity(line),
        Some(&b"sip:+49301@ims"[..])
    );
    // RFC 3581: as the registrar sees us.
    assert_eq!(
        bench.lines.learned_address(line),
        Some("203.0.113.5:1024".parse().unwrap())
    );
    let token = bench.lines.token(line).to_vec();
    assert_eq!(bench.lines.of_token(&token), Some(line));
    assert_eq!(bench.lines.of_token(b"100"), None);
    // One that is not refreshed ends.
    bench.run(Duration::from_secs(601), &mut |_, _| None);
    assert!(!bench.lines.is_registered(line));
    assert_eq!(
        (
            bench.lines.service_route(line),
            bench.lines.public_identity(line)
        ),
        (&b""[..], None)
    );
    assert_eq!(bench.item(0).state, "unreachable");
}

#[test]
fn an_overlong_route_is_left_out() {
    let mut bench = Bench::new(&one(""));
    let long = format!("Service-Route: <sip:{}@s1;lr>", "x".repeat(2_000));
    bench.step(&mut |_, _| said(200, &["Contact: <$us>", &long]));
    assert!(bench.lines.is_registered(LineId(0)));
    assert_eq!(bench.lines.service_route(LineId(0)), b"");
}

#[test]
fn a_call_is_answered_with_the_same_credentials() {
    let mut bench = Bench::new(&one("auth_user = hundred\nauth_user_with_domain = yes\n"));
    let challenge = b"SIP/2.0 407 x\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
        Proxy-Authenticate: Digest realm=\"p\", nonce=\"n\", qop=\"auth\"\r\n\
        Proxy-Authenticate: Digest realm=\"q\", nonce=\"m\", algorithm=SHA-256\r\nContent-Length: 0\r\n\r\n";
    let challenge = parse(challenge).unwrap();
    let request = |former: &str| {
        format!(
            "INVITE sip:5@d;user=phone SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\
             {former}Content-Length: 0\r\n\r\n"
        )
    };
    let invite = request("");
    let invite = parse(invite.as_bytes()).unwrap();
    let answer = |bench: &mut Bench| {
        let mut out = b"before".to_vec();
        let outcome =
            (bench.lines).authorize(LineId(0), &challenge, &invite, &mut bench.tokens, &mut out);
        assert_eq!(outcome, Ok(()));
        String::from_utf8(out).unwrap()
    };
    let text = answer(&mut bench);
    let lines: Vec<&str> = text
        .strip_prefix("before")
        .unwrap()
        .split_terminator("\r\n")
        .collect();
    let [first, second] = lines[..] else {
        panic!("{text}")
    };
    let start = "Proxy-Authorization: Digest username=\"hundred@192.0.2.9\", realm=\"";
    assert!(
        first.starts_with(&format!("{start}p\"")) && first.ends_with("nc=00000001"),
        "{first}"
    );
    assert!(
        second.starts_with(&format!("{start}q\"")) && !second.contains("nc="),
        "{second}"
    );
    assert!(first.contains("uri=\"sip:5@d;user=phone\""));
    // The same nonce once more is counted.
    assert!(answer(&mut bench).contains("nc=00000002"));
    // A server behind that proxy asks as well: the proxy is answered anew, what nobody remembers stays as it was.
    let again = request(&format!(
        "Proxy-Authorization: {}\r\nProxy-Authorization: Digest realm=\"gone\", nonce=\"o\"\r\n",
        text.split_once("rization: ")
            .unwrap()
            .1
            .lines()
            .next()
            .unwrap()
    ));
    let other = b"SIP/2.0 401 x\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: <sip:c@d>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
        WWW-Authenticate: Digest realm=\"p\", nonce=\"s\", qop=\"auth\"\r\nContent-Length: 0\r\n\r\n";
    let mut out = Vec::new();
    let outcome = (bench.lines).authorize(
        LineId(0),
        &parse(other).unwrap(),
        &parse(again.as_bytes()).unwrap(),
        &mut bench.tokens,
        &mut out,
    );
    assert_eq!(outcome, Ok(()));
    let out = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = out.split_terminator("\r\n").collect();
    let [server, proxy, forgotten] = lines[..] else {
        panic!("{out}")
    };
    assert!(server.starts_with("Authorization: ") && server.contains("nonce=\"s\""));
    assert!(server.ends_with("nc=00000001"), "{server}");
    assert!(proxy.starts_with(&format!("{start}p\", nonce=\"n\"")));
    assert!(proxy.ends_with("nc=00000003"), "{proxy}");
    assert_eq!(
        forgotten,
        "Proxy-Authorization: Digest realm=\"gone\", nonce=\"o\""
    );
    // A REGISTER carries none of this.
    let mut seen = String::new();
    bench.step(&mut |_, request| {
        seen = String::from_utf8_lossy(request.bytes()).into_owned();
        granted(60)
    });
    assert!(!seen.contains("Authorization"), "{seen}");
    let mut nothing = Vec::new();
    let gone = (bench.lines).authorize(
        LineId(1),
        &challenge,
        &invite,
        &mut bench.tokens,
        &mut nothing,
    );
    assert_eq!((gone, nothing.len()), (Err(Why::NoLine), 0));
}

#[test]
fn somebody_who_hurries_is_slowed_down() {
    let mut bench = Bench::new(&one(""));
    bench.run(MINUTE, &mut |_, _| granted(3_600));
    for _ in 0..600 {
        let now = bench.now.mono;
        assert!(bench.lines.register_soon(now, LineId(0)));
        bench.run(Duration::from_millis(100), &mut |_, _| granted(3_600));
    }
    assert_eq!(bench.sent.len(), 1 + 13);
    let mut off = Bench::new(&one("register = no\n"));
    let now = off.now.mono;
    assert!(!off.lines.register_soon(now, LineId(0)));
    assert!(!off.lines.register_soon(now, LineId(9)));
}

/// How often a registrar that never answers is asked in an hour, if its name leads somewhere else every ten seconds.
fn asked_of(addresses: &[&str]) -> usize {
    let mut bench = Bench::new(&one(""));
    for address in addresses.iter().cycle().take(360) {
        let known: SocketAddr = address.parse().unwrap();
        bench.addresses = vec![known];
        let now = bench.now.mono;
        bench.lines.look_again(now, LineId(0), [known].into_iter());
        bench.run(Duration::from_secs(10), &mut |_, _| None);
    }
    bench.sent.len()
}

#[test]
fn a_name_that_leads_to_and_fro_makes_nobody_hurry() {
    let two = ["192.0.2.9:5060", "192.0.2.10:5060"];
    // 5, 10, 20 ... s, and once at once for the second one.
    let often = asked_of(&two);
    assert!((8..=13).contains(&often), "{often}");
    let many: Vec<String> = (0..200).map(|n| format!("198.51.100.{n}:5060")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let often = asked_of(&many);
    assert!((65..=80).contains(&often), "{often}");

    // Once registered, all of them are as good as new.
    let [first, second] = two.map(|text| text.parse::<SocketAddr>().unwrap());
    let mut bench = Bench::new(&one("keepalive = 0\n"));
    bench.step(&mut |_, _| None);
    bench.addresses = vec![second];
    bench.run(MINUTE, &mut |_, _| granted(120));
    bench.run(MINUTE + MINUTE + MINUTE, &mut |_, _| None);
    assert!(!bench.lines.is_registered(LineId(0)));
    let soon = bench.now.mono.plus(crate::limits::LINE_HURRY);
    assert!(bench.lines.next_deadline().is_some_and(|at| at > soon));
    bench.addresses = vec![first];
    let now = bench.now.mono;
    bench.lines.look_again(now, LineId(0), [first].into_iter());
    bench.run(crate::limits::LINE_HURRY, &mut |_, _| granted(600));
    assert!(bench.lines.is_registered(LineId(0)));
}

#[test]
fn another_password_is_used_at_once_and_the_binding_stays() {
    let mut bench = Bench::new(&one(""));
    bench.run(MINUTE, &mut |_, _| granted(3_600));
    let token = bench.lines.token(LineId(0)).to_vec();
    let mut other = one("");
    other[0].password = config::Password("Another-Secret-9".to_owned());
    bench.lines.reload(bench.now, &other);
    assert!(bench.lines.is_registered(LineId(0)));
    assert_eq!(bench.lines.token(LineId(0)), token);
    bench.step(&mut |_, _| granted(3_600));
    assert_eq!(bench.sent.len(), 2);
    // Nothing else is news.
    other[0].incoming = Some("100".to_owned());
    bench.lines.reload(bench.now, &other);
    bench.step(&mut |_, _| panic!("a REGISTER for nothing"));
    // No longer wanted.
    other[0].register = false;
    bench.lines.reload(bench.now, &other);
    let mut expires = None;
    bench.step(&mut |_, request| {
        expires = request.expires();
        said(200, &[])
    });
    assert_eq!((expires, bench.item(0).state), (Some(0), "off"));
    // Calls may still use it: its way is kept open.
    let next = bench.lines.next_deadline().expect("a keep-alive");
    assert!(next > bench.now.mono);
}

#[test]
fn a_stop_waits_for_what_is_registered_only() {
    let mut bench = Bench::new(&one(""));
    assert!(bench.lines.is_idle());
    bench.step(&mut |_, _| said(404, &[]));
    bench.lines.stop(bench.now);
    assert!(bench.lines.is_idle(), "nothing to remove");

    let mut bench = Bench::new(&one(""));
    bench.step(&mut |_, _| granted(600));
    bench.lines.stop(bench.now);
    assert!(!bench.lines.is_idle());
    bench.step(&mut |_, request| {
        assert_eq!(request.expires(), Some(0));
        said(500, &[])
    });
    assert!(
        bench.lines.is_idle(),
        "nobody waits for one who does not know us"
    );
    assert_eq!(bench.lines.next_deadline(), None);
}

#[test]
fn lines_that_come_and_go_leave_nothing_behind() {
    let mut bench = Bench::new(&[]);
    for round in 0..50 {
        let text = format!("[line a]\naccount = 1{round}\nserver = 192.0.2.9\n");
        bench.lines.reload(bench.now, &lines_of(&text));
        bench.run(MINUTE, &mut |_, _| granted(3_600));
    }
    bench.lines.reload(bench.now, &[]);
    bench.run(MINUTE, &mut |_, _| None);
    assert_eq!((bench.lines.slots.len(), bench.lines.timers.len()), (0, 0));
    assert_eq!(bench.lines.by_token.len(), 0);
    assert!(bench.lines.is_idle());
    assert_eq!(bench.sent.len(), 100);
}

/// What a program of the property has happen.
#[derive(Clone, Debug)]
enum Event {
    /// The next REGISTERs are answered so.
    Answer(u16, u32, u8),
    Silence,
    ConnectionCloses,
    SomebodyAsks,
    Wait(u32),
}

fn event() -> impl Strategy<Value = Event> {
    let statuses = prop::sample::select(vec![
        100, 200, 200, 200, 202, 301, 302, 400, 401, 401, 403, 404, 407, 423, 480, 500, 503, 503,
        603, 699,
    ]);
    prop_oneof![
        6 => (statuses, 0u32..4_000, any::<u8>()).prop_map(|(status, number, kind)| Event::Answer(status, number, kind)),
        1 => Just(Event::Silence),
        1 => Just(Event::ConnectionCloses),
        1 => Just(Event::SomebodyAsks),
        3 => (0u32..2_000).prop_map(Event::Wait),
    ]
}

fn answer(status: u16, number: u32, kind: u8, count: u32) -> Option<Said> {
    let stale = if kind & 1 == 0 { ", stale=true" } else { "" };
    let lines = match status {
        401 => vec![format!(
            "WWW-Authenticate: Digest realm=\"r\", nonce=\"{count}\"{stale}"
        )],
        407 => vec![format!(
            "Proxy-Authenticate: Digest realm=\"r\", nonce=\"{count}\", qop=\"auth\"{stale}"
        )],
        423 => vec![format!("Min-Expires: {number}")],
        200 if kind & 7 == 0 => vec![],
        200..300 => vec![format!("Contact: <$us>;expires={number}")],
        _ if kind & 3 == 0 => vec![format!("Retry-After: {number}")],
        _ => vec![],
    };
    Some((status, lines))
}

fn most_in_an_hour(sent: &[(Instant, Vec<u8>)]) -> usize {
    let within = |first: usize| {
        sent[first..]
            .iter()
            .take_while(|(at, _)| at.since(sent[first].0) < HOUR)
            .count()
    };
    (0..sent.len()).map(within).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever answers come: it never stops, and it never asks more often than once in five seconds, with four requests.
    #[test]
    fn any_answers(events in prop::collection::vec(event(), 1..60), tcp in any::<bool>(), new_call_id in any::<bool>()) {
        let mut bench = Bench::new(&one(if new_call_id { "new_call_id = yes\n" } else { "" }));
        bench.transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let mut next = granted(60);
        let mut count = 0;
        for event in events {
            match event {
                Event::Answer(status, number, kind) => {
                    count += 1;
                    next = answer(status, number, kind, count);
                }
                Event::Silence => next = None,
                Event::ConnectionCloses => {
                    let connection = ConnectionId(bench.connections * 2 + 1);
                    bench.connections += 1;
                    let (lines, mut turn) = bench.turn();
                    lines.connection_closed(connection, &mut turn);
                }
                Event::SomebodyAsks => {
                    let now = bench.now.mono;
                    bench.lines.register_soon(now, LineId(0));
                }
                Event::Wait(seconds) => {
                    let mut nonce = 0;
                    bench.run(Duration::from_secs(seconds.into()), &mut |_, _| {
                        nonce += 1;
                        match &next {
                            // Each challenge has a nonce of its own.
                            Some((status @ (401 | 407), lines)) => {
                                let lines = lines.iter().map(|line| line.replace("nonce=\"", &format!("nonce=\"{nonce}-")));
                                Some((*status, lines.collect()))
                            }
                            other => other.clone(),
                        }
                    });
                }
            }
            let deadline = bench.lines.next_deadline();
            prop_assert!(deadline.is_some_and(|at| at.since(bench.now.mono) <= Duration::from_secs(86_400 * 4)), "{deadline:?}");
        }
        let most = most_in_an_hour(&bench.sent);
        prop_assert!(most <= 720 * 4, "{most} in an hour");
        // It still works.
        bench.run(HOUR + HOUR, &mut |_, _| granted(3_600));
        prop_assert!(bench.lines.is_registered(LineId(0)));
    }

    /// A registrar that refuses is asked ever more rarely.
    #[test]
    fn any_refusals(statuses in prop::collection::vec(prop::sample::select(vec![0, 302, 401, 403, 404, 407, 423, 500, 503]), 1..20)) {
        let mut bench = Bench::new(&one(""));
        let mut at = 0;
        bench.run(24 * HOUR, &mut |_, _| {
            at += 1;
            match statuses[at % statuses.len()] {
                0 => None,
                status => answer(status, 1_800, 1, at as u32),
            }
        });
        let most = most_in_an_hour(&bench.sent);
        prop_assert!(most <= 12 * 4, "{most} in an hour");
        let last = bench.sent.last().unwrap().0;
        prop_assert!(bench.now.mono.since(last) <= Duration::from_secs(1_980));
    }
}
