//! Calls: what a stolen tag, a forged ACK or a silent peer can do to them.

use std::time::Duration;

use super::harness::*;

#[test]
fn a_request_without_contact_does_no_harm() {
    let mut site = Site::new();
    let request = Request::new("INVITE").by("102").contact("").sdp();
    let outcome = site.udp(USER, request.text());
    assert!(!outcome.is_silent());
    site.pass(Duration::from_secs(300));
    let call = Call::up(&mut site);
    for (method, cseq) in [
        ("INVITE", 2),
        ("UPDATE", 3),
        ("INFO", 4),
        ("NOTIFY", 5),
        ("SUBSCRIBE", 6),
        ("REFER", 7),
    ] {
        let mut request = call.within(method, cseq);
        request.lines.clear();
        let outcome = site.udp(USER, request.text());
        assert!(!outcome.is_silent(), "{method}");
        site.pass(Duration::from_millis(100));
    }
    // A callee whose answer has none.
    let outcome = site.udp(USER, Request::new("INVITE").by("102").sdp().text());
    let outgoing = outcome.to(OTHER).to_owned();
    site.udp(OTHER, answer(&outgoing, 200, "x", "", ""));
    site.pass(Duration::from_secs(600));
    assert_eq!(site.counts().1, 0, "nobody has answered anything");
}

#[test]
fn a_reinvite_that_nobody_answers_ends_the_call() {
    let mut site = Site::new();
    let call = Call::up(&mut site);
    let outcome = site.udp(USER, call.within("INVITE", 2).sdp().text());
    assert!(outcome.to(OTHER).starts_with("INVITE "));
    let outcome = site.pass(Duration::from_secs(240));
    assert!(outcome.statuses().contains(&408), "{outcome:#?}");
    let outcome = site.pass(Duration::from_secs(240));
    assert_eq!(site.counts().1, 0, "{outcome:#?}");
    assert!(site.endpoint.is_idle());
}

#[test]
fn an_answer_that_nobody_acknowledges_ends_the_call() {
    let mut site = Site::new();
    let invite = Request::new("INVITE").by("102").sdp();
    let outcome = site.udp(USER, invite.text());
    let outgoing = outcome.to(OTHER).to_owned();
    site.udp(
        OTHER,
        answer(&outgoing, 200, "x", "Contact: <sip:103@192.0.2.3>\r\n", ""),
    );
    assert_eq!(site.counts().1, 1);
    site.pass(Duration::from_secs(240));
    assert_eq!(site.counts().1, 0);
}

#[test]
fn a_stolen_tag_from_another_source_is_challenged() {
    let mut site = Site::new();
    let call = Call::up(&mut site);
    for (n, method) in ["BYE", "INVITE", "UPDATE", "INFO", "REFER"]
        .into_iter()
        .enumerate()
    {
        let from = format!("203.0.113.{n}:5060");
        let request = call.within(method, 10 + n as u64);
        let outcome = site.udp(&from, request.text());
        assert_eq!(outcome.statuses(), [401], "{method}");
        assert_eq!(outcome.sent[0].0, from.parse().unwrap());
        // Another user, though he proves to be one, is refused.
        let challenge = outcome.only();
        let signed = call
            .within(method, 20 + n as u64)
            .sign(&challenge, "100", PASSWORD);
        let outcome = site.udp(&from, signed.text());
        assert_eq!(outcome.statuses(), [403], "{method}");
        assert_eq!(site.counts().1, 1);
    }
    // A known user by address, a trunk: not theirs either.
    for from in [OTHER, TRUNK] {
        let outcome = site.udp(from, call.within("BYE", 40).text());
        assert!(
            matches!(outcome.statuses()[..], [403 | 481]),
            "{outcome:#?}"
        );
    }
    // A guess has nothing to guess from.
    let mut guess = call.within("BYE", 50);
    let last = guess.to.pop().unwrap();
    guess.to.push(if last == '0' { '1' } else { '0' });
    assert!(site.udp(STRANGER, guess.text()).is_silent());
    assert_eq!(site.udp(OTHER, guess.text()).statuses(), [481]);
    assert_eq!(site.counts().1, 1);
    assert_eq!(
        site.udp(USER, call.within("BYE", 60).text()).statuses(),
        [200]
    );
}

#[test]
fn a_cancel_counts_only_from_the_flow_of_its_invite() {
    let mut site = Site::new();
    let invite = Request::new("INVITE").by("102").sdp();
    let outcome = site.udp(USER, invite.text());
    let outgoing = outcome.to(OTHER).to_owned();
    site.udp(OTHER, answer(&outgoing, 180, "x", "", ""));
    let cancel = Request {
        method: "CANCEL".to_owned(),
        lines: String::new(),
        body: String::new(),
        ..invite
    };
    assert!(site.udp(STRANGER, cancel.text()).is_silent());
    for from in [OTHER, TRUNK, "192.0.2.2:5999"] {
        let outcome = site.udp(from, cancel.text());
        assert_eq!(outcome.statuses(), [481], "{from}");
        assert_eq!(outcome.sent[0].0, from.parse().unwrap());
    }
    let connection = site.connect("192.0.2.2:40000", 2);
    assert_eq!(site.tcp(connection, cancel.text()).statuses(), [481]);
    assert_eq!(site.counts().1, 1, "it still rings");
    let outcome = site.udp(USER, cancel.text());
    assert!(outcome.statuses().contains(&200), "{outcome:#?}");
    assert!(outcome.to(OTHER).starts_with("CANCEL "));
}

#[test]
fn a_cancel_without_rport_counts_too() {
    let mut site = Site::new();
    // Sent from a port that is not where answers are wanted; by address, and by password.
    for (user, from) in [("102", "192.0.2.2:32000"), ("100", STRANGER)] {
        let mut invite = Request::new("INVITE").by(user).sdp();
        let branch = invite.via.split_once("branch=").unwrap().1;
        invite.via = format!("SIP/2.0/UDP 10.1.1.1:5070;branch={branch}");
        if user == "100" {
            let challenge = site.challenge(from);
            invite = invite.sign(&challenge, user, PASSWORD);
        }
        let outgoing = site.udp(from, invite.text()).to(OTHER).to_owned();
        site.udp(OTHER, answer(&outgoing, 180, "x", "", ""));
        let cancel = Request {
            method: "CANCEL".to_owned(),
            lines: String::new(),
            body: String::new(),
            ..invite
        };
        let outcome = site.udp(from, cancel.text());
        let (ip, _) = from.split_once(':').unwrap();
        let asked = outcome.to(&format!("{ip}:5070"));
        assert_eq!(status(asked), 200, "{asked}");
        assert!(outcome.to(OTHER).starts_with("CANCEL "), "{outcome:#?}");
        site.pass(Duration::from_secs(60));
    }
}

#[test]
fn a_cancel_of_a_neighbour_does_not_count() {
    let mut site = Site::new();
    let (ip, port) = STRANGER.split_once(':').unwrap();
    let challenge = site.challenge(STRANGER);
    let mut invite = Request::new("INVITE").by("100").sdp();
    invite.via = invite.via.replace(":5060", &format!(":{port}"));
    let invite = invite.sign(&challenge, "100", PASSWORD);
    let outgoing = site.udp(STRANGER, invite.text()).to(OTHER).to_owned();
    site.udp(OTHER, answer(&outgoing, 180, "x", "", ""));
    let cancel = |via: String| {
        let cancel = Request {
            method: "CANCEL".to_owned(),
            via,
            lines: String::new(),
            body: String::new(),
            ..invite.clone()
        };
        cancel.text()
    };
    // Behind the same address, and answered where the caller is.
    let forged = cancel(invite.via.replace(";rport", ""));
    let outcome = site.udp(&format!("{ip}:40404"), forged);
    assert!(
        outcome
            .sent
            .iter()
            .all(|(to, _)| *to != OTHER.parse().unwrap()),
        "the callee hears of it: {outcome:#?}"
    );
    let outcome = site.udp(STRANGER, cancel(invite.via.clone()));
    assert!(outcome.to(OTHER).starts_with("CANCEL "), "{outcome:#?}");
}

#[test]
fn an_ack_from_elsewhere_does_nothing() {
    let mut site = Site::new();
    let invite = Request::new("INVITE")
        .by("102")
        .contact("<sip:102@192.0.2.2>")
        .sdp();
    let outcome = site.udp(USER, invite.text());
    let outgoing = outcome.to(OTHER).to_owned();
    let lines = "Contact: <sip:103@192.0.2.3>\r\n";
    let outcome = site.udp(OTHER, answer(&outgoing, 200, "x", lines, ""));
    let accepted = outcome.to(USER).to_owned();
    let ack = Request {
        method: "ACK".to_owned(),
        to: header(&accepted, "To").unwrap().to_owned(),
        via: "SIP/2.0/UDP 10.1.1.1;branch=z9hG4bKack".to_owned(),
        lines: String::new(),
        body: String::new(),
        ..invite
    };
    for from in [STRANGER, OTHER, TRUNK] {
        assert!(site.udp(from, ack.text()).is_silent());
    }
    let again = site.pass(Duration::from_secs(1));
    assert_eq!(again.statuses(), [200], "still not acknowledged");
    site.udp(USER, ack.text());
    assert!(site.pass(Duration::from_secs(40)).is_silent());
    assert_eq!(site.counts().1, 1);
}

#[test]
fn an_ack_from_another_port_does_not_move_the_dialog() {
    let mut site = Site::new();
    let call = Call::up(&mut site);
    site.udp("192.0.2.2:5999", call.within("ACK", 1).text());
    // Nor does a request that is out of order.
    let outcome = site.udp("192.0.2.2:5999", call.within("OPTIONS", 0).text());
    assert_eq!(outcome.statuses(), [500]);
    let contact = header(&call.outgoing, "Contact")
        .unwrap()
        .trim_matches(['<', '>']);
    let bye = Request {
        uri: contact.to_owned(),
        from: format!("{};tag=callee", header(&call.outgoing, "To").unwrap()),
        to: header(&call.outgoing, "From").unwrap().to_owned(),
        call_id: header(&call.outgoing, "Call-ID").unwrap().to_owned(),
        ..Request::new("BYE")
    };
    let outcome = site.udp(OTHER, bye.text());
    assert!(outcome.to(USER).starts_with("BYE "), "{outcome:#?}");
}

#[test]
fn a_callees_challenge_is_neither_passed_on_nor_answered() {
    for status in [401, 407] {
        let mut site = Site::new();
        let outcome = site.udp(USER, Request::new("INVITE").by("102").sdp().text());
        let outgoing = outcome.to(OTHER).to_owned();
        let challenge = "WWW-Authenticate: Digest realm=\"sipkeep\", nonce=\"abc\", algorithm=MD5, qop=\"auth\"\r\n\
            Proxy-Authenticate: Digest realm=\"sipkeep\", nonce=\"abc\", algorithm=MD5, qop=\"auth\"\r\n";
        let outcome = site.udp(OTHER, answer(&outgoing, status, "x", challenge, ""));
        assert!(outcome.to(OTHER).starts_with("ACK "));
        assert_eq!(outcome.statuses(), [500]);
        for (_, text) in &outcome.sent {
            assert!(
                !text.contains("uthenticate") && !text.contains("uthorization"),
                "{text}"
            );
        }
    }
    // In the dialog: a challenge to a BYE or a re-INVITE of ours.
    for (status, method) in [(401, "BYE"), (407, "BYE"), (401, "INVITE"), (407, "INFO")] {
        let mut site = Site::new();
        let call = Call::up(&mut site);
        let outcome = site.udp(USER, call.within(method, 2).sdp().text());
        let outgoing = outcome.to(OTHER).to_owned();
        assert!(outgoing.starts_with(method));
        let challenge =
            "WWW-Authenticate: Digest realm=\"sipkeep\", nonce=\"abc\", algorithm=MD5\r\n";
        let outcome = site.udp(OTHER, answer(&outgoing, status, "x", challenge, ""));
        assert!(
            !outcome
                .statuses()
                .iter()
                .any(|status| matches!(status, 401 | 407)),
            "{outcome:#?}"
        );
        for (_, text) in &outcome.sent {
            assert!(
                !text.contains("uthenticate") && !text.contains("uthorization"),
                "{text}"
            );
            assert!(!text.starts_with("BYE"), "tried again: {text}");
        }
    }
}

#[test]
fn a_callers_credentials_go_to_nobody() {
    let mut site = Site::new();
    let challenge = site.challenge(STRANGER);
    let request = Request::new("INVITE")
        .by("100")
        .sign(&challenge, "100", PASSWORD);
    let request = request
        .line("Proxy-Authorization: Digest realm=\"other\", username=\"u\"")
        .sdp();
    let outcome = site.udp(STRANGER, request.text());
    assert!(!outcome.to(OTHER).contains("uthorization"), "{outcome:#?}");
}

#[test]
fn a_response_from_elsewhere_is_not_the_callees() {
    let mut site = Site::new();
    let outcome = site.udp(USER, Request::new("INVITE").by("102").sdp().text());
    let outgoing = outcome.to(OTHER).to_owned();
    // A branch that nobody was sent.
    let via = header(&outgoing, "Via").unwrap();
    let branch = via.split_once("branch=").unwrap().1;
    let branch = branch.split(';').next().unwrap();
    let (known, hidden) = branch.split_at(branch.len() - 4);
    let other: String = hidden
        .chars()
        .map(|c| if c == '0' { '1' } else { '0' })
        .collect();
    let forged = outgoing.replace(branch, &format!("{known}{other}"));
    let outcome = site.udp(
        STRANGER,
        answer(&forged, 200, "x", "Contact: <sip:x@203.0.113.7>\r\n", ""),
    );
    assert!(outcome.is_silent(), "{outcome:#?}");
    assert!(
        site.udp(OTHER, answer(&outgoing, 180, "y", "", ""))
            .statuses()
            .contains(&180)
    );
}

#[test]
fn a_trunk_does_not_call_outside_through_us() {
    let mut site = Site::of(&CONFIG.replace("incoming = 102\n", ""));
    for number in [
        "9004912345",
        "9+4912345",
        "900",
        "9",
        "%39004912345",
        "9-0-0",
        "9;x=1",
    ] {
        let mut request = Request::new("INVITE").by("+4930").sdp();
        request.uri = format!("sip:{number}@192.0.2.100");
        let outcome = site.udp(TRUNK, request.text());
        assert!(outcome.statuses().contains(&404), "{number} {outcome:#?}");
        assert!(
            outcome
                .sent
                .iter()
                .all(|(to, _)| *to == TRUNK.parse().unwrap())
        );
    }
    // And a stranger does not call anybody at all, whatever the number and the host.
    for uri in [
        "sip:9004912345@192.0.2.100",
        "sip:102@192.0.2.100",
        "sip:+4930@198.51.100.4",
        "tel:+4930",
    ] {
        let mut request = Request::new("INVITE").by("102").sdp();
        request.uri = uri.to_owned();
        assert_eq!(
            site.udp(STRANGER, request.text()).statuses(),
            [401],
            "{uri}"
        );
        site.jump(Duration::from_secs(5));
    }
    assert_eq!(site.counts().1, 0);
}

#[test]
fn a_stolen_tag_on_a_strangers_connection_is_challenged() {
    let mut site = Site::new();
    let call = Call::up(&mut site);
    let connection = site.connect(STRANGER, 2);
    for method in ["BYE", "INVITE", "UPDATE", "INFO"] {
        let outcome = site.tcp(connection, call.within(method, 7).text());
        assert_eq!(outcome.statuses(), [401], "{method}");
        assert!(outcome.sent.is_empty());
    }
    assert!(
        site.tcp(connection, call.within("ACK", 1).text())
            .is_silent()
    );
    assert_eq!(site.counts().1, 1);
}

#[test]
fn line_breaks_of_one_leg_do_not_reach_the_other() {
    let mut site = Site::new();
    let request = Request::new("INVITE").by("102").sdp();
    for line in [
        "Subject: a\r\n Route: <sip:198.51.100.66>",
        "X-Folded: a\r\n\tContact: <sip:x@198.51.100.66>",
        "Alert-Info: <http://a>\r\n  \r\n Via: SIP/2.0/UDP 198.51.100.66",
    ] {
        let outcome = site.udp(USER, Request { ..request.clone() }.line(line).text());
        for (_, text) in outcome
            .sent
            .iter()
            .filter(|(to, _)| *to == OTHER.parse().unwrap())
        {
            let lines = text
                .split("\r\n")
                .filter(|line| line.starts_with(['R', 'C', 'V', ' ', '\t']));
            assert!(
                !lines.into_iter().any(|line| line.contains("198.51.100.66")),
                "{text}"
            );
        }
        site.pass(Duration::from_secs(300));
    }
    // In a display name and in the number too.
    for from in ["\"a\r\n b\"", "\"a\\\r\\\nX: y\"", "a\x0b"] {
        let mut request = Request::new("INVITE").by("102").sdp();
        request.from = format!("{from} {}", request.from);
        let outcome = site.udp(USER, request.text());
        assert!(
            outcome
                .sent
                .iter()
                .all(|(_, text)| !text.contains("\nX: y") && !text.contains('\x0b'))
        );
        site.pass(Duration::from_secs(300));
    }
    let mut request = Request::new("INVITE").by("102").sdp();
    request.uri = "sip:9123%0d%0aX-Evil:%20y@192.0.2.100".to_owned();
    for (_, text) in site.udp(USER, request.text()).sent {
        assert!(!text.contains("\nX-Evil"), "{text}");
    }
}

#[test]
fn copies_and_acks_from_elsewhere_are_not_the_callers() {
    let mut site = Site::new();
    let invite = Request::new("INVITE").by("102").sdp();
    let outgoing = site.udp(USER, invite.text()).to(OTHER).to_owned();
    let outcome = site.udp(OTHER, answer(&outgoing, 486, "x", "", ""));
    let refused = outcome.to(USER).to_owned();
    assert_eq!(status(&refused), 486);
    // A copy from elsewhere is a request of his own, and makes nothing go to the caller.
    let outcome = site.udp(STRANGER, invite.text());
    assert_eq!(outcome.statuses(), [401]);
    assert_eq!(outcome.sent[0].0, STRANGER.parse().unwrap());
    let ack = Request {
        method: "ACK".to_owned(),
        to: header(&refused, "To").unwrap().to_owned(),
        lines: String::new(),
        body: String::new(),
        ..invite.clone()
    };
    for from in [STRANGER, OTHER, TRUNK] {
        assert!(site.udp(from, ack.text()).is_silent());
    }
    assert_eq!(site.pass(Duration::from_secs(1)).statuses(), [486], "again");
    // His own copy brings it again, his own ACK ends it.
    assert_eq!(site.udp(USER, invite.text()).statuses(), [486]);
    assert!(site.udp(USER, ack.text()).is_silent());
    assert!(site.pass(Duration::from_secs(40)).is_silent());
}

#[test]
fn another_users_cancel_does_not_spoil_the_callers() {
    let mut site = Site::new();
    let invite = Request::new("INVITE").by("102").sdp();
    let outgoing = site.udp(USER, invite.text()).to(OTHER).to_owned();
    site.udp(OTHER, answer(&outgoing, 180, "x", "", ""));
    let bye = Request {
        method: "BYE".to_owned(),
        to: format!("{};tag=0123456789abcdef", invite.to),
        ..invite.clone()
    };
    // Answered, with an answer that is kept: it must not stand in the way of the caller's own request.
    assert_eq!(site.udp(OTHER, bye.text()).statuses(), [481]);
    let outcome = site.udp(USER, bye.text());
    assert_eq!(outcome.sent[0].0, USER.parse().unwrap());
}

/// RFC 3261 §18.1.2: whoever did not see the request cannot answer it, though he knows everything else of it; whoever did
/// may answer from another address of his.
#[test]
fn a_response_is_known_by_its_branch_alone() {
    let mut site = Site::new();
    let outcome = site.udp(USER, Request::new("INVITE").by("102").sdp().text());
    let outgoing = outcome.to(OTHER).to_owned();
    let contact = "Contact: <sip:103@192.0.2.3>\r\n";
    let right = answer(&outgoing, 200, "callee", contact, "");
    let start = right.find("branch=z9hG4bK").unwrap() + "branch=z9hG4bK".len();
    let digits = right[start..].find(';').unwrap();
    assert_eq!(digits, 24, "its place, and 64 bits");
    for digit in 0..digits {
        let mut guess = right.clone();
        let at = start + digit;
        let other = if &right[at..=at] == "0" { "1" } else { "0" };
        guess.replace_range(at..=at, other);
        for from in [OTHER, TRUNK, STRANGER] {
            assert!(site.udp(from, guess.as_str()).is_silent(), "{guess}");
        }
    }
    let outcome = site.udp("192.0.2.77:5060", right);
    assert_eq!(status(outcome.to(USER)), 200);
}
