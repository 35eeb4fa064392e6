//! Strangers: where answers go, how many there are, and what is left behind. And who is none, by his address alone.

use std::time::Duration;

use sipkeep::source::ConnectionId;

use super::harness::*;

/// The answer goes to the datagram's own source, and to nobody else.
#[track_caller]
fn answered_at_home(request: &Request) {
    let mut site = Site::new();
    let outcome = site.udp(STRANGER, request.text());
    assert_eq!(outcome.statuses(), [401], "{request:?}");
    assert_eq!(outcome.sent[0].0, STRANGER.parse().unwrap(), "{request:?}");
    assert!(outcome.opened.is_empty());
}

#[test]
fn a_stranger_is_answered_where_he_sent_from() {
    let good = Request::new("INVITE").sdp();
    for via in [
        "SIP/2.0/UDP 198.51.100.66:5060;branch=z9hG4bK1",
        "SIP/2.0/UDP 198.51.100.66;maddr=198.51.100.67;branch=z9hG4bK1",
        "SIP/2.0/UDP victim.example.com;branch=z9hG4bK1",
        "SIP/2.0/UDP 10.1.1.1;received=198.51.100.66;branch=z9hG4bK1",
        "SIP/2.0/UDP 10.1.1.1;rport=5099;branch=z9hG4bK1",
        "SIP/2.0/UDP 10.1.1.1;received=198.51.100.66;rport=53;branch=z9hG4bK1",
        "SIP/2.0/TCP 198.51.100.66;branch=z9hG4bK1",
        "SIP/2.0/UDP 239.1.1.1;maddr=239.1.1.1;ttl=255;branch=z9hG4bK1",
    ] {
        let request = Request {
            via: via.to_owned(),
            ..good.clone()
        };
        answered_at_home(&request);
    }
    for line in [
        "Route: <sip:198.51.100.66;lr>",
        "Record-Route: <sip:198.51.100.66;lr>",
        "Path: <sip:198.51.100.66;lr>",
        "Via: SIP/2.0/UDP 198.51.100.66:5060;branch=z9hG4bK2",
        "X-Any: sip:198.51.100.66",
    ] {
        answered_at_home(&good.clone().line(line));
    }
    answered_at_home(&good.clone().contact("<sip:100@198.51.100.66>"));
    let elsewhere = Request {
        uri: "sip:100@198.51.100.66:5060;maddr=198.51.100.67".to_owned(),
        ..good
    };
    answered_at_home(&elsewhere);
}

#[test]
fn a_strangers_answer_stays_on_his_connection() {
    let mut site = Site::new();
    let connection = site.connect(STRANGER, 2);
    let mut request = Request::new("INVITE").sdp();
    request.via = "SIP/2.0/TCP 198.51.100.66;maddr=198.51.100.67;branch=z9hG4bK1".to_owned();
    let outcome = site.tcp(connection, request.text());
    assert_eq!(outcome.statuses(), [401]);
    assert_eq!(outcome.written[0].0, connection);
    assert!(outcome.sent.is_empty() && outcome.opened.is_empty());
}

#[test]
fn each_copy_of_a_strangers_invite_is_answered_once_without_memory() {
    let mut site = Site::new();
    let text = Request::new("INVITE").by("100").sdp().text();
    let mut tags = Vec::new();
    for wait in [500, 1_000, 2_000, 4_000] {
        let outcome = site.udp(STRANGER, &text);
        assert_eq!(outcome.statuses(), [401]);
        tags.push(tag(header(&outcome.only(), "To").unwrap()).to_owned());
        assert_eq!(site.endpoint.next_deadline(), None, "no timer");
        assert!(site.pass(Duration::from_millis(wait)).is_silent());
    }
    tags.dedup();
    assert_eq!(tags.len(), 1, "copies of one answer");
    // The ACK that a caller owes it means nothing to us.
    let mut ack = text
        .replace("INVITE sip", "ACK sip")
        .replace("1 INVITE", "1 ACK");
    ack = ack.replace(
        "To: <sip:103@192.0.2.100>",
        &format!("To: <sip:103@192.0.2.100>;tag={}", tags[0]),
    );
    assert!(site.udp(STRANGER, ack).is_silent());
    assert_eq!(site.endpoint.next_deadline(), None);
}

#[test]
fn forged_sources_leave_nothing_behind() {
    let mut site = Site::new();
    let texts = [
        "REGISTER",
        "INVITE",
        "BYE",
        "ACK",
        "CANCEL",
        "OPTIONS",
        "SUBSCRIBE",
    ]
    .map(|method| {
        Request::new(method)
            .user("100")
            .line("X-Filler: 0123456789012345678901234567890123456789")
            .text()
    });
    let mut answers = 0;
    for n in 0..100_000u32 {
        let [a, b, c, d] = (0x0b00_0000 + n * 16).to_be_bytes();
        let outcome = site.udp(
            &format!("{a}.{b}.{c}.{d}:5060"),
            &texts[n as usize % texts.len()],
        );
        assert!(outcome.sent.len() <= 1 && outcome.kept.is_empty() && outcome.events.is_empty());
        answers += outcome.sent.len();
        site.jump(Duration::from_micros(50));
    }
    assert_eq!(site.counts(), (0, 0, 0));
    assert_eq!(site.endpoint.next_deadline(), None);
    // Five seconds at `unproven_total`, and one second's worth at once.
    assert!((1_000..=6_100).contains(&answers), "{answers}");
    // Those whom we know were not in the way of it.
    assert_eq!(
        site.udp(USER, Request::new("OPTIONS").by("102").text())
            .statuses(),
        [200]
    );
}

#[test]
fn no_more_goes_out_than_comes_in() {
    let mut site = Site::new();
    for (n, method) in ["REGISTER", "INVITE", "SUBSCRIBE", "OPTIONS", "FOO"]
        .into_iter()
        .enumerate()
    {
        let from = format!("203.0.113.{n}:5060");
        let (mut bytes_in, mut bytes_out, mut first) = (0, 0, 0);
        // As short as a request can be.
        for k in 0..200 {
            let text = format!(
                "{method} sip:a SIP/2.0\r\nv:SIP/2.0/UDP a;branch=z9hG4bK{n}x{k}\r\nf:<sip:a@a>;tag=1\r\nt:<sip:a>\r\n\
                 i:{k}\r\nCSeq:1 {method}\r\nm:<sip:a>\r\n\r\n"
            );
            bytes_in += text.len();
            for (_, answer) in site.udp(&from, &text).sent {
                bytes_out += answer.len();
                first = first.max(answer.len());
            }
            site.jump(Duration::from_millis(290));
        }
        assert!(
            bytes_out <= bytes_in + first,
            "{method}: {bytes_out} for {bytes_in}"
        );
        site.jump(Duration::from_secs(60));
    }
}

#[test]
fn a_stranger_gets_no_answer_to_what_begins_nothing() {
    let mut site = Site::new();
    let [mut bye, mut ack, mut cancel] = ["BYE", "ACK", "CANCEL"].map(Request::new);
    for request in [&mut bye, &mut ack, &mut cancel] {
        request.to.push_str(";tag=0123456789abcdef");
        assert!(site.udp(STRANGER, request.text()).is_silent());
    }
    assert!(
        site.udp(STRANGER, Request::new("OPTIONS").text())
            .is_silent()
    );
    assert!(site.udp(STRANGER, "\r\n\r\n").is_silent());
    assert!(site.udp(STRANGER, "GET / HTTP/1.1\r\n\r\n").is_silent());
    let response = answer(&Request::new("INVITE").text(), 200, "x", "", "");
    assert!(site.udp(STRANGER, response).is_silent());
    assert_eq!(site.endpoint.next_deadline(), None);
    // A user by address is told that there is no such dialog.
    assert_eq!(site.udp(USER, bye.text()).statuses(), [481]);
}

#[test]
fn a_scanners_name_silences_but_never_bans() {
    let mut site = Site::new();
    for agent in [
        "friendly-scanner",
        "SIPVicious 0.3",
        "sipcli/v1.8",
        "VaxSIPUserAgent",
    ] {
        for _ in 0..20 {
            let request = Request::new("REGISTER")
                .user("100")
                .line(&format!("User-Agent: {agent}"));
            assert!(site.udp(STRANGER, request.text()).is_silent(), "{agent}");
        }
        site.jump(Duration::from_secs(60));
    }
    assert_eq!(site.counts(), (0, 0, 0));
    site.prove(STRANGER);
}

#[test]
fn with_a_domain_strangers_who_ask_for_another_host_get_no_answer() {
    let config = CONFIG.replace("[server]\n", "[server]\ndomain = pbx.example\n");
    let mut site = Site::of(&config);
    let mut events = Vec::new();
    let mut n = 0;
    for method in [
        "REGISTER",
        "INVITE",
        "MESSAGE",
        "SUBSCRIBE",
        "REFER",
        "PUBLISH",
    ] {
        for (uri, is_answered) in [
            ("sip:100@198.51.100.66", false),
            ("sip:198.51.100.66", false),
            ("sip:100@other.example", false),
            ("sip:100@pbx.example", true),
            ("sip:PBX.example:5060", true),
            ("sip:100@192.0.2.100", true),
        ] {
            let mut request = Request::new(method);
            request.uri = uri.to_owned();
            let outcome = site.udp(&format!("203.0.113.{n}:5060"), request.text());
            assert_eq!(
                outcome.sent.len(),
                usize::from(is_answered),
                "{method} {uri}"
            );
            events.extend(outcome.events);
            // Inside, phones are configured as they are.
            let outcome = site.udp(&format!("10.1.1.{n}:5060"), request.text());
            assert_eq!(outcome.statuses(), [401], "{method} {uri}");
            site.jump(Duration::from_millis(1_500));
            n += 1;
        }
    }
    // In these fifty seconds: said once, so that whoever configured a phone wrong can find it.
    assert_eq!(events.len(), 1, "{events:?}");
}

#[test]
fn only_the_sockets_address_makes_a_user() {
    let config = CONFIG.replace("addresses = 192.0.2.3", "addresses = 192.0.2.3:5062");
    let mut site = Site::of(&config);
    let is_user = |site: &mut Site, from: &str, request: Request| {
        let outcome = site.udp(from, request.text());
        match outcome.statuses()[..] {
            [200] => true,
            [] | [401] => false,
            _ => panic!("{outcome:#?}"),
        }
    };
    // A forged Via, From, Contact or P-Asserted-Identity.
    for n in 0..3 {
        let from = format!("203.0.113.{n}:5060");
        let mut forged = Request::new("OPTIONS")
            .by("102")
            .contact("<sip:102@192.0.2.2:5060>");
        forged.via =
            "SIP/2.0/UDP 192.0.2.2:5060;received=192.0.2.2;rport=5060;branch=z9hG4bK7".to_owned();
        let forged = forged.line("P-Asserted-Identity: <sip:102@192.0.2.2>");
        assert!(!is_user(&mut site, &from, forged.clone()));
        let register = Request {
            method: "REGISTER".to_owned(),
            ..forged
        };
        assert!(!is_user(&mut site, &from, register));
    }
    let options = || Request::new("OPTIONS").by("102");
    assert!(is_user(&mut site, "192.0.2.2:5060", options()));
    assert!(
        is_user(&mut site, "192.0.2.2:9", options()),
        "no port was configured"
    );
    assert!(is_user(&mut site, "192.0.2.3:5062", options()));
    assert!(
        !is_user(&mut site, "192.0.2.3:5060", options()),
        "another port"
    );
    assert!(
        !is_user(&mut site, "192.0.2.22:5060", options()),
        "the same beginning"
    );
    assert!(!is_user(&mut site, "[2001:db8::c000:202]:5060", options()));
    assert!(
        !is_user(&mut site, "[64:ff9b::c000:202]:5060", options()),
        "translated, not mapped"
    );
    assert!(
        !is_user(&mut site, "[::192.0.2.2]:5060", options()),
        "IPv4-compatible is not IPv4"
    );
    // A trunk over UDP is none over TCP.
    let connection = site.connect(TRUNK, 2);
    let outcome = site.tcp(connection, Request::new("INVITE").by("+49").sdp().text());
    assert_eq!(outcome.statuses(), [401]);
    let outcome = site.udp(
        "198.51.100.4:5061",
        Request::new("INVITE").by("+49").sdp().text(),
    );
    assert_eq!(outcome.statuses(), [401]);
    assert_eq!(site.counts().1, 0);
}

#[test]
fn a_mapped_address_in_config_or_contact_is_the_ipv4_one() {
    let config = CONFIG.replace("addresses = 192.0.2.2", "addresses = [::ffff:192.0.2.2]");
    let mut site = Site::of(&config);
    assert_eq!(
        site.udp(USER, Request::new("OPTIONS").text()).statuses(),
        [200]
    );
    assert!(
        site.udp("192.0.2.20:5060", Request::new("OPTIONS").text())
            .is_silent()
    );
}

#[test]
fn contacts_that_would_call_somebody_else_are_refused() {
    let mut site = Site::new();
    for contact in [
        "<sip:100@192.0.2.100>",
        "<sip:100@192.0.2.100:5060;transport=tcp>",
        "<sip:100@[::ffff:192.0.2.100]>",
        "<sip:100@127.0.0.1>",
        "<sip:100@127.9.9.9:6000>",
        "<sip:100@[::1]>",
        "<sip:100@[::ffff:127.0.0.1]:5070>",
        "<sip:100@localhost>",
        "<sip:100@LocalHost.:5070>",
        "<sip:100@224.0.1.75>",
        "<sip:100@[ff02::1]>",
        "<sip:100@[::ffff:239.1.1.1]>",
        "<sip:100@0.0.0.0>",
        "<sip:100@[::]>",
        "<sip:+49301234@198.51.100.4>",
        "<sip:+49301234@198.51.100.4:5060>",
        "<sip:+49301234@[::ffff:198.51.100.4]>",
        "<sip:100@10.1.1.1;maddr=198.51.100.4>",
        "<sip:100@10.1.1.1;MADDR=10.1.1.1>",
        "<sip:100@10.1.1.1>, <sip:100@198.51.100.4>",
    ] {
        let challenge = site.challenge(STRANGER);
        let request = Request::new("REGISTER").user("100").contact(contact);
        let outcome = site.udp(STRANGER, request.sign(&challenge, "100", PASSWORD).text());
        assert_eq!(outcome.statuses(), [403], "{contact}");
        site.jump(Duration::from_secs(10));
    }
    assert_eq!(site.counts(), (0, 0, 0));
}

#[test]
fn another_of_our_addresses_is_no_contact_either() {
    let config = CONFIG.replace(
        "tcp:192.0.2.100:5060",
        "tcp:192.0.2.100:5060, udp:192.0.2.101:5080",
    );
    let mut site = Site::of(&config);
    for (contact, expected) in [
        ("<sip:102@192.0.2.101:5080>", 403),
        ("<sip:102@192.0.2.101:9999>", 200),
    ] {
        let request = Request::new("REGISTER").user("102").contact(contact);
        assert_eq!(
            site.udp(USER, request.text()).statuses(),
            [expected],
            "{contact}"
        );
    }
}

#[test]
fn a_connection_is_trusted_once_its_peer_has_answered_right() {
    let mut site = Site::new();
    let connection = site.connect(STRANGER, 2);
    let outcome = site.tcp(connection, Request::new("REGISTER").user("100").text());
    assert!(outcome.trusted.is_empty(), "idle ones are closed");
    let request = Request::new("REGISTER").user("100");
    let wrong = request.sign(&outcome.only(), "100", "guess");
    let outcome = site.tcp(connection, wrong.text());
    assert!(outcome.trusted.is_empty());
    let request = Request::new("REGISTER").user("100");
    let right = request.sign(&outcome.only(), "100", PASSWORD).text();
    let outcome = site.tcp(connection, &right);
    assert_eq!(outcome.statuses(), [200]);
    assert_eq!(outcome.trusted, [connection]);
    let outcome = site.tcp(connection, Request::new("OPTIONS").text());
    assert!(outcome.trusted.is_empty(), "said once");
    // A peer that is known by address is trusted from the start.
    let config = format!("{CONFIG}transport = tcp\n");
    let mut site = Site::of(&config);
    for (from, number) in [(USER, 2), (TRUNK, 4)] {
        let outcome = site.open(from, number);
        assert_eq!(outcome.trusted, [ConnectionId(number)]);
    }
}

/// Everything that can be said without a password, whole and with a To tag that looks like ours.
fn without_credentials() -> Vec<Request> {
    let digest =
        "Authorization: Digest username=\"100\", realm=\"192.0.2.100\", uri=\"sip:a\", nonce=\"1\"";
    let long = format!(
        "Via: SIP/2.0/TCP 10.9.9.9;branch=z9hG4bK{}",
        "x".repeat(50_000)
    );
    let mut requests = Vec::new();
    for method in [
        "INVITE",
        "BYE",
        "CANCEL",
        "OPTIONS",
        "REGISTER",
        "SUBSCRIBE",
        "UPDATE",
        "INFO",
        "PRACK",
        "FOO",
    ] {
        for to_tag in ["", ";tag=1", ";tag=00000000000000010080123456789abcdef0"] {
            for line in [
                "X-Nothing: more",
                digest,
                "Authorization: Digest username=\"100",
                "Authorization: Digest username=\"100\", realm=\"192.0.2.100\"",
                "Proxy-Authorization: Digest",
                "Require: nothing-we-know",
                long.as_str(),
            ] {
                let mut request = Request::new(method).by("100").line(line);
                request.to.push_str(to_tag);
                request.uri = if line.starts_with("Require") {
                    "tel:+431".to_owned()
                } else {
                    request.uri
                };
                requests.push(request);
            }
        }
    }
    requests
}

#[test]
fn nobody_leaves_a_transaction_behind_before_he_is_known() {
    for is_known in [false, true] {
        let mut site = Site::new();
        if is_known {
            // Somebody behind this address has a password: that is no word for his neighbours.
            site.prove(STRANGER);
            site.pass(Duration::from_secs(60));
        }
        assert_eq!(site.endpoint.census().transactions_completed, 0);
        let neighbour = "203.0.113.7:50000";
        let connection = site.connect(neighbour, 4);
        let mut statuses = std::collections::BTreeMap::new();
        for request in without_credentials() {
            let outcome = site.tcp(connection, request.text());
            site.udp(neighbour, request.text());
            assert!(outcome.closed.is_empty(), "{request:?}");
            for status in outcome.statuses() {
                *statuses.entry(status).or_insert(0) += 1;
            }
            let census = site.endpoint.census();
            let left = (census.transactions_live, census.transactions_completed);
            assert_eq!(left, (0, 0), "{request:?}");
            // Slowly enough that strangers who answer no challenge are still told something.
            site.jump(Duration::from_secs(20));
        }
        // They were read and refused, not dropped.
        for status in [400, 401, 481] {
            assert!(statuses.get(&status) > Some(&5), "{status}: {statuses:?}");
        }
    }
}
