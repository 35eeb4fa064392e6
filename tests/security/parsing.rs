//! Messages that one layer reads in one way and another in another way.

use super::harness::*;

/// From a user by address: refused with 400 to where it came from. From a stranger: nothing.
#[track_caller]
fn is_refused(text: &str) {
    let mut site = Site::new();
    let outcome = site.udp(STRANGER, text);
    assert!(outcome.is_silent(), "to a stranger: {outcome:#?}\n{text:?}");
    let outcome = site.udp(USER, text);
    assert_eq!(outcome.statuses(), [400], "{text:?}");
    assert_eq!(outcome.sent[0].0, USER.parse().unwrap());
    assert_eq!(site.counts(), (0, 0, 0));
    assert_eq!(site.endpoint.next_deadline(), None);
}

/// Refused or without an answer, but never taken for anything.
#[track_caller]
fn is_not_taken(text: &[u8]) {
    let mut site = Site::new();
    let shown = String::from_utf8_lossy(text).into_owned();
    let outcome = site.udp(STRANGER, text);
    assert!(outcome.is_silent(), "{outcome:#?}\n{shown:?}");
    let outcome = site.udp(USER, text);
    assert!(
        outcome.statuses().iter().all(|status| *status == 400),
        "{outcome:#?}\n{shown:?}"
    );
    for (to, text) in &outcome.sent {
        assert_eq!(*to, USER.parse().unwrap());
        let is_clean = |c: char| !c.is_control() || matches!(c, '\r' | '\n' | '\t');
        assert!(text.chars().all(is_clean), "{text:?}");
    }
    assert_eq!(site.counts(), (0, 0, 0));
}

#[test]
fn doubled_single_headers_are_refused() {
    let text = Request::new("INVITE").by("102").sdp().text();
    for line in [
        "From: <sip:102@192.0.2.100>;tag=x",
        "f: <sip:101@192.0.2.100>;tag=x",
        "To: <sip:103@192.0.2.100>",
        "t: <sip:101@192.0.2.100>",
        "Call-ID: other",
        "i: other",
        "CSeq: 1 INVITE",
        "CSEQ: 2 INVITE",
        "Max-Forwards: 70",
        "Content-Length: 5",
        "l: 0",
        "Content-Type: application/sdp",
        "c: text/plain",
    ] {
        // Behind all others, and before them.
        is_refused(&text.replacen("Content-Length", &format!("{line}\r\nContent-Length"), 1));
        is_refused(&text.replacen("Via: ", &format!("{line}\r\nVia: "), 1));
    }
    let register = Request::new("REGISTER").user("102").line("Expires: 60");
    is_refused(&register.line("Expires: 3600").text());
}

#[test]
fn via_is_judged_before_an_answer_is_made_from_it() {
    let good = Request::new("INVITE").by("102").sdp();
    for via in [
        "",
        " ",
        ";",
        "SIP/2.0/UDP",
        "SIP/2.0/UDP ;branch=z9hG4bK1",
        "SIP/2.0/UDP :5060;branch=z9hG4bK1",
        "SIP/2.0/UDP 10.1.1.1:99999;branch=z9hG4bK1",
        "SIP/2.0/UDP 10.1.1.1:4294972356;branch=z9hG4bK1",
        "SIP/2.0/UDP 10.1.1.1;branch=",
        "SIP/2.0/UDP 10.1.1.1;branch=z9hG4bK1;branch=z9hG4bK2",
        "SIP/2.0/UDP 10.1.1.1;branch=\"z9hG4bK1",
        "SIP/2.0/UDP 10.1.1.1\x00;branch=z9hG4bK1",
        "SIP/2.0/UDP 10.1.1.1;branch=z9hG4bK\x1b[2J",
        "SIP/3.0/UDP 10.1.1.1;branch=z9hG4bK1",
        "HTTP/1.1/TCP 10.1.1.1;branch=z9hG4bK1",
        "SIP/2.0/UDP [::1;branch=z9hG4bK1",
        "SIP/2.0/UDP 10.1.1.1;rport=99999999999;branch=z9hG4bK1;;=",
    ] {
        let bad = Request {
            via: via.to_owned(),
            ..good.clone()
        };
        is_not_taken(bad.text().as_bytes());
    }
    let none = good.text().replacen("Via: ", "X-Via: ", 1);
    is_not_taken(none.as_bytes());
    // The trouble is behind the topmost Via: what is echoed must still be no header of its own.
    let behind = good.clone().line("Via: SIP/2.0/UDP \x01\x02");
    is_not_taken(behind.text().as_bytes());
}

#[test]
fn bytes_round_header_names_are_read_by_all_alike_or_by_none() {
    let request = Request::new("OPTIONS").by("102");
    for (name, text) in [
        ("NUL", "Fr\0om"),
        ("vertical tab", "From\x0b"),
        ("form feed", "From\x0c"),
        ("non-breaking blank", "From\u{a0}"),
        ("DEL", "From\x7f"),
        ("blank within", "Fr om"),
        ("backspace", "X\x08From"),
    ] {
        let text = request
            .text()
            .replacen("\r\nFrom:", &format!("\r\n{text}:"), 1);
        assert!(!text.contains("\r\nFrom:"), "{name}");
        is_not_taken(text.as_bytes());
    }
    // RFC 3261 §25.1 allows blanks before the colon: then they are read as the header they are.
    let text = request.text().replacen("\r\nFrom:", "\r\nFrom \t:", 1);
    let outcome = Site::new().udp(USER, text);
    assert_eq!(outcome.statuses(), [200]);
}

#[test]
fn framer_and_parser_agree_about_the_length() {
    // A body that is a request: whoever reads the length otherwise would take it for one.
    let inner = Request::new("OPTIONS").by("102").text();
    for line in [
        "Content-Length",
        "Content-Length ",
        "Content-Length\t ",
        "content-LENGTH",
        "l",
        "L ",
        "Content-Length\0",
        "Content-Length\x0b",
        "Content\x7f-Length",
        "Content-Length:\r\n ",
    ] {
        let mut outer = Request::new("OPTIONS").by("102");
        outer.body = inner.clone();
        let text = outer
            .text()
            .replacen("Content-Length:", &format!("{line}:"), 1)
            .replace("::", ":")
            .replace(":\r\n :", ":\r\n ");
        let mut site = Site::new();
        let connection = site.connect("192.0.2.2:40000", 2);
        let outcome = site.tcp(connection, &text);
        let statuses = outcome.statuses();
        let is_closed = outcome.closed == [connection];
        match statuses.as_slice() {
            [200] => assert!(!is_closed, "{line:?}"),
            [] | [400] => assert!(is_closed, "{line:?} {outcome:#?}"),
            other => panic!("{line:?}: the body was taken for a request: {other:?}"),
        }
    }
}

#[test]
fn numbers_do_not_wrap() {
    let register = Request::new("REGISTER").user("102");
    for cseq in [(1u64 << 31), (1 << 32) + 1, u64::MAX] {
        let bad = Request {
            cseq,
            ..register.clone()
        };
        is_refused(&bad.text());
    }
    let text = register.text();
    is_refused(&text.replace("CSeq: 1", "CSeq: -1"));
    is_refused(&text.replace("CSeq: 1", "CSeq: 18446744073709551617"));
    for length in [
        "4294967296",
        "4294967300",
        "18446744073709551616",
        "-1",
        "0x0",
        "0 0",
    ] {
        is_refused(&text.replace("Content-Length: 0", &format!("Content-Length: {length}")));
    }
    for hops in ["256", "326", "4294967366", "-1", "18446744073709551686"] {
        is_refused(&text.replace("Max-Forwards: 70", &format!("Max-Forwards: {hops}")));
    }
}

#[test]
fn expires_and_q_do_not_wrap() {
    for (contact, expires) in [
        ("<sip:102@10.1.1.1>", "4294967297"),
        ("<sip:102@10.1.1.1>", "18446744073709551617"),
        ("<sip:102@10.1.1.1>;expires=4294967297", "60"),
        ("<sip:102@10.1.1.1>;expires=18446744073709551617", "60"),
    ] {
        let request = Request::new("REGISTER").user("102").contact(contact);
        let outcome = Site::new().udp(USER, request.line(&format!("Expires: {expires}")).text());
        // More than we can count is much, and much is `expires_max`; a refusal is as good. Never is it one second.
        match outcome.statuses()[..] {
            [200] => assert!(outcome.only().contains(";expires=3600"), "{contact}"),
            [400] => {}
            _ => panic!("{outcome:#?}"),
        }
    }
    for q in ["1.001", "2", "4294967296", "0.5000000001", "-1", "1e9", ""] {
        let contact = format!("<sip:102@10.1.1.1>;q={q}");
        let request = Request::new("REGISTER").user("102").contact(&contact);
        let outcome = Site::new().udp(USER, request.text());
        assert!(
            matches!(outcome.statuses()[..], [200 | 400]),
            "{q} {outcome:#?}"
        );
    }
}

#[test]
fn a_stream_with_a_length_that_wraps_is_closed() {
    for length in ["4294967296", "18446744073709551620", "-5", "70000", "5, 5"] {
        let mut site = Site::new();
        let connection = site.connect(STRANGER, 2);
        let text = Request::new("REGISTER").user("100").text();
        let text = text.replace("Content-Length: 0", &format!("Content-Length: {length}"));
        let outcome = site.tcp(connection, text);
        assert_eq!(outcome.closed, [connection], "{length}");
        assert!(matches!(outcome.statuses()[..], [400 | 513]), "{length}");
    }
}

#[test]
fn stray_quotes_empty_addresses_and_one_slash_uris() {
    let good = Request::new("INVITE").by("102").sdp();
    for from in [
        "",
        "\"",
        "\"102 <sip:102@192.0.2.100>;tag=1",
        "102\" <sip:102@192.0.2.100>;tag=1",
        "\"a\\\" <sip:102@192.0.2.100>;tag=1",
        "<>;tag=1",
        "<sip:102@192.0.2.100;tag=1",
        "sip:102@192.0.2.100>;tag=1",
        "<sip:102@192.0.2.100>;tag=\"",
        ";tag=1",
        "<102>;tag=1",
    ] {
        let bad = Request {
            from: from.to_owned(),
            ..good.clone()
        };
        is_not_taken(bad.text().as_bytes());
        let bad = Request {
            to: from.replace(";tag=1", ""),
            ..good.clone()
        };
        is_not_taken(bad.text().as_bytes());
    }
    for uri in [
        "/",
        "sip:/",
        "sip:/x",
        "sip:",
        "sip:@",
        ":",
        "sip",
        "<sip:103@192.0.2.100>",
    ] {
        let bad = Request {
            uri: uri.to_owned(),
            ..good.clone()
        };
        is_not_taken(bad.text().as_bytes());
    }
}

#[test]
fn very_long_headers_are_borne() {
    for length in [1_000, 8_000, 30_000, 60_000] {
        let long = "x".repeat(length);
        let mut site = Site::new();
        let contact = format!("<sip:{long}@10.1.1.1>");
        let request = Request::new("REGISTER").user("102").contact(&contact);
        let statuses = site.udp(USER, request.text()).statuses();
        let expected = if length < 4_096 { 200 } else { 403 };
        assert_eq!(statuses, [expected], "{length}");
        // In a dialog the Contact is where everything else goes: it is taken whole or not at all.
        let request = Request::new("INVITE").by("102").contact(&contact).sdp();
        let outcome = site.udp(USER, request.text());
        assert!(!outcome.is_silent());
        let text = Request::new("INVITE")
            .by("102")
            .line(&format!("X-Long: {long}"));
        site.udp(USER, text.sdp().text());
        site.udp(
            STRANGER,
            Request::new("REGISTER")
                .line(&format!("X-Long: {long}"))
                .text(),
        );
        site.pass(std::time::Duration::from_secs(300));
    }
    let mut site = Site::new();
    let connection = site.connect(STRANGER, 2);
    let text = Request::new("REGISTER").line(&format!("X-Long: {}", "x".repeat(70_000)));
    let outcome = site.tcp(connection, text.text());
    assert_eq!(
        (outcome.statuses(), outcome.closed),
        (vec![513], vec![connection])
    );
}

#[test]
fn bodies_are_never_looked_into() {
    let mut site = Site::new();
    for kind in [
        "multipart/mixed;boundary=",
        "multipart/mixed;boundary=\"\"",
        "multipart/mixed",
        "application/sdp",
    ] {
        for body in [
            "",
            "--",
            "v=",
            "--\r\nContent-Type: a\r\n\r\n",
            "m=audio\r\nc=\r\na=\r\n\0",
        ] {
            let mut request = Request::new("INVITE")
                .by("102")
                .line(&format!("Content-Type: {kind}"));
            request.body = body.to_owned();
            let outcome = site.udp(USER, request.text());
            if kind == "application/sdp" && !body.is_empty() {
                // He is behind a NAT, and what is to be relayed cannot be read.
                assert_eq!(outcome.statuses(), [100, 488]);
                continue;
            }
            // What the caller says is what the callee is told, byte for byte.
            assert!(outcome.to(OTHER).ends_with(&format!("\r\n\r\n{body}")));
            site.pass(std::time::Duration::from_secs(300));
        }
    }
    assert_eq!(site.counts().1, 0);
    let mut request = Request::new("NOTIFY")
        .by("102")
        .line("Event: message-summary");
    request.body = "Messages-Waiting: yes".repeat(100);
    assert_eq!(site.udp(USER, request.text()).statuses(), [481]);
    request = Request::new("SUBSCRIBE").by("102").line("Event: presence");
    request.body = "<presence/>".to_owned();
    assert_eq!(site.udp(USER, request.text()).statuses(), [489]);
}
