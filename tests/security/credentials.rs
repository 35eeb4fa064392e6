//! Digest: what counts as a failure, what as an answer, and what nobody may learn from either.

use std::time::Duration;

use sipkeep::store::Snapshot;

use super::harness::*;

/// A right answer of user 100 to a challenge, as one line.
fn authorization(challenge: &str) -> String {
    let signed = Request::new("REGISTER")
        .user("100")
        .sign(challenge, "100", PASSWORD);
    let line = signed.lines.lines().last().unwrap();
    assert!(line.starts_with("Authorization: "));
    line.to_owned()
}

#[test]
fn credentials_cut_anywhere_are_no_credentials() {
    let mut site = Site::new();
    let challenge = site.challenge(STRANGER);
    let line = authorization(&challenge);
    // The response stands at the very end: whoever reads on behind it reads what is not his.
    let text = Request::new("REGISTER").user("100").line(&line).text();
    let (head, tail) = text.split_once("Content-Length").unwrap();
    let (_, rest) = tail.split_once("\r\n").unwrap();
    let text = format!("{head}{rest}");
    let connection = site.connect(STRANGER, 2);
    for cut in 0..text.len() {
        let outcome = site.udp(STRANGER, &text[..cut]);
        assert!(!outcome.statuses().contains(&200), "{cut}");
        assert_eq!(site.counts(), (0, 0, 0));
        site.jump(Duration::from_millis(100));
    }
    for cut in 1..line.len() {
        let request = Request::new("REGISTER").user("100").line(&line[..cut]);
        let outcome = site.tcp(connection, request.text());
        assert!(!outcome.statuses().contains(&200), "{cut}");
        site.jump(Duration::from_millis(100));
    }
    // None of all this was a failure, and none has used the nonce up.
    assert_eq!(site.counts(), (0, 0, 0));
    assert_eq!(site.udp(STRANGER, &text).statuses(), [200]);
}

#[test]
fn credentials_for_another_realm_are_not_looked_at() {
    let mut site = Site::new();
    for n in 0..20 {
        let challenge = site.challenge(STRANGER);
        let foreign = challenge.replace("realm=\"sipkeep\"", "realm=\"other\"");
        let request = Request::new("REGISTER").user("100");
        let outcome = site.udp(STRANGER, request.sign(&foreign, "100", PASSWORD).text());
        assert_eq!(outcome.statuses(), [401], "{n}");
        assert!(!outcome.only().contains("stale"));
        site.jump(Duration::from_secs(60));
    }
    assert_eq!(site.counts(), (0, 0, 0));
}

#[test]
fn ours_is_found_behind_another_realms_authorization() {
    let mut site = Site::new();
    let challenge = site.challenge(STRANGER);
    let foreign = challenge.replace("realm=\"sipkeep\"", "realm=\"other\"");
    let request = Request::new("REGISTER").user("100");
    let request = request.sign(&foreign, "100", "anything");
    let outcome = site.udp(STRANGER, request.sign(&challenge, "100", PASSWORD).text());
    assert_eq!(outcome.statuses(), [200]);
}

#[test]
fn two_answers_for_our_realm_are_none() {
    let mut site = Site::new();
    let challenge = site.challenge(STRANGER);
    let request = Request::new("REGISTER").user("100");
    let request = request.sign(&challenge, "100", PASSWORD);
    let outcome = site.udp(STRANGER, request.sign(&challenge, "100", "guess").text());
    assert_eq!(outcome.statuses(), [401]);
    assert_eq!(site.counts(), (0, 0, 0));
}

#[test]
fn malformed_credentials_are_challenged_and_never_a_failure() {
    let mut site = Site::new();
    let challenge = site.challenge(STRANGER);
    let good = authorization(&challenge);
    let nonce = header(&challenge, "WWW-Authenticate").unwrap();
    let (_, nonce) = nonce.split_once("nonce=\"").unwrap();
    let (nonce, _) = nonce.split_once('"').unwrap();
    for bad in [
        "Authorization: Digest".to_owned(),
        "Authorization: Digest ".to_owned(),
        "Authorization:".to_owned(),
        "Authorization: \"".to_owned(),
        "Authorization: Digest username=\"".to_owned(),
        "Authorization: Digest realm=\"sipkeep\"".to_owned(),
        format!("Authorization: Digest realm=\"sipkeep\", nonce=\"{nonce}\""),
        good.replace("username=\"100\"", "username=\"100\"\""),
        good.replace("response=\"", "response=\"zz"),
        good.replace("nc=00000001", "nc=100000001"),
        good.replace("nc=00000001", "nc="),
        good.replace("uri=\"sip:", "uri=\""),
        good.replace("qop=auth", "qop=auth-int"),
        format!("{good}, response=\"00000000000000000000000000000000\""),
        format!("{good},"),
        format!("{good} x"),
    ] {
        assert_ne!(bad, good);
        let outcome = site.udp(
            STRANGER,
            Request::new("REGISTER").user("100").line(&bad).text(),
        );
        assert_eq!(outcome.statuses(), [401], "{bad}");
        assert!(header(&outcome.only(), "WWW-Authenticate").is_some());
        site.jump(Duration::from_secs(10));
    }
    assert_eq!(site.counts(), (0, 0, 0));
    let outcome = site.udp(
        STRANGER,
        Request::new("REGISTER").user("100").line(&good).text(),
    );
    assert_eq!(outcome.statuses(), [200]);
}

/// An answer without what may differ: nonce, tag, and what is echoed.
fn blanked(text: &str, request: &Request) -> String {
    let mut text = text.to_owned();
    let own = header(&text, "To").map(tag).map(str::to_owned);
    let nonce = text
        .split_once("nonce=\"")
        .map(|(_, rest)| rest[..32].to_owned());
    let branch = request.via.split_once("branch=").unwrap().1;
    let echoed = [request.from.as_str(), &request.to, &request.call_id, branch];
    for part in [own.as_deref(), nonce.as_deref()]
        .into_iter()
        .flatten()
        .chain(echoed)
    {
        text = text.replace(part, "-");
    }
    text
}

#[test]
fn nobody_learns_which_users_exist() {
    // Right user with a wrong password, nobody, one who is known by address only, an empty name and a strange one.
    let users = ["100", "999", "102", "1", "a%20b"];
    for method in [
        "REGISTER",
        "INVITE",
        "MESSAGE",
        "SUBSCRIBE",
        "REFER",
        "PUBLISH",
        "INFO",
        "OPTIONS",
    ] {
        let mut all = Vec::new();
        for user in users {
            let mut site = Site::new();
            let mut log = Vec::new();
            for n in 0..7 {
                let plain = Request::new(method).user(user);
                let outcome = site.udp(STRANGER, plain.text());
                let first = outcome.sent.first().map(|(_, text)| text.clone());
                log.push((
                    outcome.statuses(),
                    first.as_ref().map(|text| blanked(text, &plain)),
                ));
                // OPTIONS is not challenged: the challenge is another request's.
                let challenge = first.or_else(|| {
                    let other = Request::new("REGISTER").user("100").text();
                    site.udp(STRANGER, other).sent.pop().map(|(_, text)| text)
                });
                if let Some(challenge) = challenge {
                    let signed =
                        Request::new(method)
                            .user(user)
                            .sign(&challenge, user, &format!("{n}"));
                    let again = site.udp(STRANGER, signed.text());
                    let text = again.sent.first().map(|(_, text)| blanked(text, &signed));
                    log.push((again.statuses(), text));
                    log.push((site.udp(STRANGER, signed.text()).statuses(), None));
                }
                assert_eq!(
                    site.endpoint.next_deadline().is_some(),
                    site.counts().2 > 0,
                    "no timer for a stranger"
                );
                site.jump(Duration::from_secs(3));
            }
            assert_eq!(
                site.counts(),
                (0, 0, 1),
                "{method} {user}: five failures of seven"
            );
            all.push(log);
        }
        for log in &all[1..] {
            assert_eq!(log, &all[0], "{method}");
        }
    }
}

#[test]
fn every_401_carries_a_challenge() {
    let mut site = Site::new();
    for (n, method) in [
        "REGISTER",
        "INVITE",
        "MESSAGE",
        "SUBSCRIBE",
        "REFER",
        "PUBLISH",
        "FOO",
    ]
    .into_iter()
    .enumerate()
    {
        for from in [
            format!("203.0.113.{n}:5060"),
            format!("[2001:db8:{n}::1]:5060"),
        ] {
            let answer = site.udp(&from, Request::new(method).text()).only();
            assert_eq!(status(&answer), 401, "{method}");
            let challenge = header(&answer, "WWW-Authenticate").unwrap();
            assert!(
                challenge.contains("realm=\"sipkeep\", nonce=\""),
                "{challenge}"
            );
            let wrong = Request::new(method).sign(&answer, "100", "guess").text();
            let answer = site.udp(&from, wrong).only();
            assert!(status(&answer) == 401 && header(&answer, "WWW-Authenticate").is_some());
        }
    }
}

#[test]
fn requests_without_credentials_are_never_failures() {
    let mut site = Site::new();
    for n in 0..2_000 {
        let user = format!("{}", 100 + n % 50);
        site.udp(STRANGER, Request::new("REGISTER").user(&user).text());
        site.jump(Duration::from_millis(if n % 2 == 0 { 5 } else { 900 }));
    }
    assert_eq!(site.counts(), (0, 0, 0));
    // And whoever then brings the right answer is let in, however much was said before.
    site.jump(Duration::from_secs(60));
    site.prove(STRANGER);
}

#[test]
fn stale_and_foreign_nonces_are_never_failures() {
    let mut site = Site::new();
    let foreign = site.challenge("203.0.113.8:5060");
    let old = site.challenge(STRANGER);
    let made_up = old.replace("nonce=\"", "nonce=\"x");
    site.jump(Duration::from_secs(3_601));
    for n in 0..60 {
        for challenge in [&foreign, &old, &made_up] {
            let request =
                Request::new("REGISTER")
                    .user("100")
                    .sign(challenge, "100", &n.to_string());
            let outcome = site.udp(STRANGER, request.text());
            for (_, text) in &outcome.sent {
                assert!(text.contains("stale=true"), "{text}");
            }
            site.jump(Duration::from_millis(700));
        }
    }
    assert_eq!(site.counts(), (0, 0, 0));
}

#[test]
fn a_foreign_nonces_digest_is_not_computed() {
    let mut site = Site::new();
    let foreign = site.challenge("203.0.113.8:5060");
    // The right password and a wrong one: the same answer, so it is no guess.
    let mut answers = Vec::new();
    for password in [PASSWORD, "guess"] {
        let request = Request::new("REGISTER")
            .user("100")
            .sign(&foreign, "100", password);
        let answer = site.udp(STRANGER, request.text()).only();
        assert_eq!(status(&answer), 401);
        assert!(answer.contains("stale=true"));
        answers.push(blanked(&answer, &request));
    }
    assert_eq!(answers[0], answers[1]);
    // The way of a phone whose address has changed: one round more, with the nonce of that answer.
    site.prove(STRANGER);
}

#[test]
fn a_used_count_is_stale() {
    let mut site = Site::new();
    let challenge = site.challenge(STRANGER);
    let signed = |nc| {
        Request::new("REGISTER")
            .user("100")
            .sign_nth(&challenge, "100", PASSWORD, nc)
    };
    for nc in [1, 2, 5, 3] {
        assert_eq!(
            site.udp(STRANGER, signed(nc).text()).statuses(),
            [200],
            "{nc}"
        );
    }
    for nc in [1, 2, 3, 5] {
        let outcome = site.udp(STRANGER, signed(nc).text());
        assert_eq!(outcome.statuses(), [401], "{nc}");
        assert!(outcome.only().contains("stale=true"));
    }
    assert_eq!(site.counts().2, 0);
}

#[test]
fn a_failures_retransmissions_count_once() {
    let mut site = Site::new();
    for n in 0..4 {
        let challenge = site.challenge(STRANGER);
        let request = Request::new("REGISTER").user("100");
        let text = request
            .sign(&challenge, "100", &format!("guess {n}"))
            .text();
        for _ in 0..11 {
            let outcome = site.udp(STRANGER, &text);
            assert!(outcome.banned.is_empty());
            site.jump(Duration::from_millis(500));
        }
        site.jump(Duration::from_secs(8));
    }
    assert_eq!(site.counts(), (0, 0, 0));
}

#[test]
fn another_from_than_the_authenticated_user_is_refused() {
    let mut site = Site::new();
    site.prove(STRANGER);
    for method in ["INVITE", "MESSAGE", "SUBSCRIBE", "REFER", "PUBLISH"] {
        for from in ["101", "102", "1%300x", "100%00", "%31"] {
            let challenge = site.challenge(STRANGER);
            let request = Request::new(method)
                .by(from)
                .sign(&challenge, "100", PASSWORD);
            let outcome = site.udp(STRANGER, request.text());
            assert_eq!(outcome.statuses(), [403], "{method} {from}");
            site.jump(Duration::from_millis(10));
        }
    }
    // Another user's address-of-record is not to be had either.
    let challenge = site.challenge(STRANGER);
    let request = Request::new("REGISTER")
        .user("101")
        .sign(&challenge, "100", PASSWORD);
    assert_eq!(site.udp(STRANGER, request.text()).statuses(), [403]);
    // Nor in anonymity, unless he says to us who he is.
    let anonymous = |line: &str| Request::new("INVITE").by("anonymous").line(line);
    for (line, expected) in [
        ("Privacy: id", 403),
        ("P-Preferred-Identity: <sip:101@192.0.2.100>", 403),
        ("P-Asserted-Identity: <sip:100@192.0.2.100>", 403),
    ] {
        let challenge = site.challenge(STRANGER);
        let request = anonymous(line).sign(&challenge, "100", PASSWORD);
        assert_eq!(
            site.udp(STRANGER, request.text()).statuses(),
            [expected],
            "{line}"
        );
    }
}

#[test]
fn a_user_does_not_assert_who_he_is() {
    let mut site = Site::new();
    let mut request = Request::new("INVITE")
        .by("102")
        .line("P-Asserted-Identity: <sip:+4930123456@carrier.example>")
        .sdp();
    request.uri = "sip:9030987@192.0.2.100".to_owned();
    let outcome = site.udp(USER, request.text());
    let outgoing = outcome.to(TRUNK);
    assert!(
        outgoing.starts_with("INVITE sip:030987@198.51.100.4"),
        "{outgoing}"
    );
    assert!(!outgoing.contains("+4930123456"), "{outgoing}");
    // A trunk is trusted with it towards another leg.
    let request = Request::new("INVITE").by("+4930").sdp();
    let request = request.line("P-Asserted-Identity: <sip:+4930@carrier.example>");
    let outcome = site.udp(TRUNK, request.text());
    assert!(
        outcome
            .to(USER)
            .contains("P-Asserted-Identity: <sip:+4930@carrier.example>")
    );
}

#[test]
fn without_qop_a_nonce_is_good_for_one_answer() {
    let mut site = Site::new();
    let challenge = site.challenge(STRANGER).replace(", qop=\"auth\"", "");
    let signed = || {
        Request::new("REGISTER")
            .user("100")
            .sign(&challenge, "100", PASSWORD)
    };
    assert_eq!(site.udp(STRANGER, signed().text()).statuses(), [200]);
    let outcome = site.udp(STRANGER, signed().text());
    assert_eq!(outcome.statuses(), [401]);
    assert!(outcome.only().contains("stale=true"));
}

#[test]
fn an_answer_for_one_method_or_user_is_none_for_another() {
    let mut site = Site::new();
    site.prove("203.0.113.50:5060");
    for (n, change) in [("REGISTER", "INVITE"), ("INVITE", "MESSAGE")]
        .into_iter()
        .enumerate()
    {
        let from = format!("203.0.113.{n}:5060");
        let challenge = site.challenge(&from);
        let mut request = Request::new(change.0)
            .user("100")
            .sign(&challenge, "100", PASSWORD);
        change.1.clone_into(&mut request.method);
        assert_eq!(site.udp(&from, request.text()).statuses(), [401]);
    }
    let challenge = site.challenge(STRANGER);
    let mut request = Request::new("REGISTER")
        .user("101")
        .sign(&challenge, "100", PASSWORD);
    request.lines = request
        .lines
        .replace("username=\"100\"", "username=\"101\"");
    assert_eq!(site.udp(STRANGER, request.text()).statuses(), [401]);
    assert_eq!(site.counts().0, 1);
}

#[test]
fn nothing_is_replayed_after_a_restart() {
    let mut site = Site::new();
    let challenge = site.challenge(STRANGER);
    let right = |n: u32| {
        Request::new("REGISTER")
            .user("100")
            .sign_nth(&challenge, "100", PASSWORD, n)
    };
    let kept = |nonce_key| Snapshot {
        nonce_key,
        ..Snapshot::default()
    };
    let mut after = Site::restarted(CONFIG, site.now, kept(site.nonce_key));
    assert_ne!(after.nonce_key, site.nonce_key, "a key for each run");
    // Recorded on the way, and sent again when the server has forgotten it; or with the next count.
    assert_eq!(site.udp(STRANGER, right(1).text()).statuses(), [200]);
    let challenge = after.udp(STRANGER, right(1).text()).only();
    assert!(challenge.contains("stale=true"), "{challenge}");
    let next = Request::new("REGISTER").user("100");
    let next = next.sign(&challenge, "100", PASSWORD);
    assert_eq!(after.udp(STRANGER, next.text()).statuses(), [200]);
    // Whichever key it was: it is one round more and no failure.
    let unknown = site.nonce_key.map(|(_, made)| ([1; 32], made));
    for nonce_key in [site.nonce_key, after.nonce_key, unknown] {
        let mut later = Site::restarted(CONFIG, site.now, kept(nonce_key));
        for n in 1..8 {
            let outcome = later.udp(STRANGER, right(n).text());
            assert_eq!(outcome.statuses(), [401]);
            assert!(outcome.only().contains("stale=true"));
        }
        assert_eq!(later.counts(), (0, 0, 0));
    }
}

#[test]
fn an_answer_for_one_number_calls_no_other() {
    let mut site = Site::new();
    let invite = |uri: &str| {
        let request = Request::new("INVITE").by("100").sdp();
        Request {
            uri: uri.to_owned(),
            ..request
        }
    };
    // What phones write differently: host, port, parameters, escapes, separators.
    for (digest, asked) in [
        ("sip:103@192.0.2.100", "sip:103@192.0.2.100"),
        (
            "sip:103@pbx.example:5060",
            "sip:103@192.0.2.100;transport=udp",
        ),
        ("sip:%3103@192.0.2.100;user=phone", "sip:103@192.0.2.100"),
        ("sip:1-0-3@192.0.2.100", "sip:103@192.0.2.100"),
        ("sip:192.0.2.100:5060", "sip:103@192.0.2.100"),
    ] {
        let challenge = site.udp(STRANGER, invite(digest).text()).only();
        let signed = invite(digest).sign(&challenge, "100", PASSWORD);
        let signed = Request {
            uri: asked.to_owned(),
            ..signed
        };
        let outcome = site.udp(STRANGER, signed.text());
        assert_eq!(outcome.statuses(), [100], "{digest} {asked}");
        site.pass(Duration::from_secs(300));
    }
    // Whoever stands in the way sends it elsewhere: nothing of the digest shows, right or wrong, and nobody is charged.
    for password in [PASSWORD, "wrong"] {
        for asked in [
            "sip:102@192.0.2.100",
            "sip:192.0.2.100",
            "sip:9103@192.0.2.100",
            "tel:+43900123",
        ] {
            let challenge = site
                .udp(STRANGER, invite("sip:103@192.0.2.100").text())
                .only();
            let signed = invite("sip:103@192.0.2.100").sign(&challenge, "100", password);
            let diverted = Request {
                uri: asked.to_owned(),
                ..signed.clone()
            };
            let outcome = site.udp(STRANGER, diverted.text());
            assert_eq!(outcome.statuses(), [400], "{asked}");
            assert!(outcome.events.is_empty() && outcome.kept.is_empty());
            assert_eq!(site.counts(), (0, 0, 0));
            assert_eq!(site.endpoint.census().transactions_live, 0);
            site.pass(Duration::from_secs(60));
        }
    }
}

/// Whoever sees the re-INVITE of a phone cannot make a call to somebody of it.
#[test]
fn an_answer_for_our_contact_calls_nobody() {
    let mut site = Site::new();
    let call = Call::up(&mut site);
    let challenge = site.challenge(STRANGER);
    let reinvite = Request {
        uri: call.contact.clone(),
        ..Request::new("INVITE").by("100").sdp()
    };
    let signed = reinvite.sign(&challenge, "100", PASSWORD);
    let diverted = Request {
        uri: "sip:103@192.0.2.100".to_owned(),
        ..signed.clone()
    };
    assert_eq!(site.udp(STRANGER, diverted.text()).statuses(), [400]);
    assert_eq!(site.udp(STRANGER, signed.text()).statuses(), [404]);
}
