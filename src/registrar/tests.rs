//! Each step of RFC 3261 §10.3 by itself, then random programs against a plain model.

mod forged;
mod model;
mod outbound;

use super::*;
use crate::message;
use crate::source::{ConnectionId, Transport};
use crate::store::{BindingKey, BindingRow, Text};
use crate::time::{Instant, UnixTime};
use std::time::Duration;

const SEED: [u8; 32] = [7; 32];
const USER: UserId = UserId(0);

fn settings() -> config::Registrar {
    config::Registrar {
        digest: config::DigestOffer::Md5,
        expires_min: Duration::from_secs(60),
        expires_default: Duration::from_secs(600),
        expires_max: Duration::from_secs(3600),
        bindings_per_user_max: 10,
        nat_keepalive: None,
    }
}

fn user(name: &str) -> config::User {
    config::User {
        name: name.into(),
        secret: None,
        display_name: String::new(),
        addresses: Vec::new(),
        blocks: Vec::new(),
        calls_max: None,
        levels: Vec::new(),
        do_not_disturb: false,
        forwards: config::Forwards::default(),
        stores_messages: false,
        line: 1,
    }
}

fn at(seconds: u64) -> Now {
    Now {
        mono: Instant::from_micros((1000 + seconds) * 1_000_000),
        unix: UnixTime::from_millis((1_750_000_000 + seconds) * 1000),
    }
}

fn udp(remote: &str) -> Flow {
    Flow {
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().unwrap(),
        remote: remote.parse().unwrap(),
        connection: None,
    }
}

fn tcp(remote: &str, connection: u64) -> Flow {
    Flow {
        transport: Transport::Tcp,
        connection: Some(ConnectionId(connection)),
        ..udp(remote)
    }
}

/// A registrar and its location service at a time, and what came out of them.
struct Desk {
    location: Location,
    settings: config::Registrar,
    flow: Flow,
    /// The user's own address.
    address: Option<std::net::IpAddr>,
    now: u64,
    changes: Vec<Change>,
    lines: Vec<u8>,
}

impl Desk {
    fn new() -> Self {
        Self {
            location: Location::new(&[user("100"), user("101")], &SEED),
            settings: settings(),
            flow: udp("203.0.113.7:41000"),
            address: None,
            now: 0,
            changes: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Sends a REGISTER with these header lines (`\n` ends each) and gives its status.
    fn register(&mut self, call_id: &str, cseq: u32, headers: &str) -> u16 {
        self.answer(call_id, cseq, headers).status
    }

    fn answer(&mut self, call_id: &str, cseq: u32, headers: &str) -> Registered {
        let text = format!(
            "REGISTER sip:pbx SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.5;branch=z9hG4bK{cseq}\r\nMax-Forwards: 70\r\n\
             From: <sip:100@pbx>;tag=a\r\nTo: <sip:100@pbx>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n\
             {}Content-Length: 0\r\n\r\n",
            headers.replace('\n', "\r\n")
        );
        self.raw(text.as_bytes())
    }

    fn raw(&mut self, bytes: &[u8]) -> Registered {
        let request = message::parse(bytes).expect("a well-formed request");
        self.lines.clear();
        self.changes.clear();
        let forbidden = |uri: &Uri<'_>, flow: &Flow| {
            assert_eq!(flow.local.port(), 5060);
            uri.host_raw == b"carrier.example" || uri.params.get("maddr").is_some()
        };
        let may_be_forged = |flow: &Flow| {
            flow.transport == Transport::Udp && self.address == Some(flow.remote.ip())
        };
        register(
            at(self.now),
            &request,
            &self.flow,
            USER,
            "100",
            &self.settings,
            &mut self.location,
            &forbidden,
            &may_be_forged,
            &mut self.lines,
            &mut self.changes,
        )
    }

    /// Values of the Contact lines of the last answer.
    fn contacts(&self) -> Vec<&str> {
        self.values("Contact")
    }

    fn values(&self, name: &str) -> Vec<&str> {
        let text = std::str::from_utf8(&self.lines).unwrap();
        assert!(text.is_empty() || text.ends_with("\r\n"));
        let lines = text.split_terminator("\r\n");
        lines
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .collect()
    }

    /// Contact URIs of the user's bindings in order.
    fn bound(&self) -> Vec<String> {
        let bindings = self.location.bindings(USER);
        bindings
            .map(|binding| String::from_utf8(binding.contact().to_vec()).unwrap())
            .collect()
    }
}

#[test]
fn a_first_registration() {
    let mut desk = Desk::new();
    let answer = desk.answer(
        "a",
        1,
        "Contact: \"Al\" <sip:100@10.0.0.5:5062>\nUser-Agent: Phone/1\n",
    );
    assert_eq!((answer.status, answer.reason), (200, "OK"));
    assert_eq!(desk.contacts(), ["<sip:100@10.0.0.5:5062>;expires=600"]);
    assert_eq!(desk.values("Date"), ["Sun, 15 Jun 2025 15:06:40 GMT"]);
    assert_eq!(desk.values("Supported"), ["path, outbound"]);
    assert_eq!(desk.values("Require"), [""; 0]);
    assert_eq!(
        desk.changes,
        [Change::Binding(Box::new(BindingRow {
            user: "100".into(),
            contact: b"sip:100@10.0.0.5:5062".to_vec().into(),
            path: Text::default(),
            call_id: b"a".to_vec().into(),
            cseq: 1,
            q: 1000,
            instance: Text::default(),
            reg_id: 0,
            user_agent: b"Phone/1".to_vec().into(),
            transport: Transport::Udp,
            local: desk.flow.local,
            remote: desk.flow.remote,
            since: at(0).unix,
            expires: at(600).unix,
            is_behind_nat: false,
        }))]
    );
    let binding = desk.location.bindings(USER).next().unwrap();
    assert_eq!(binding.flow(), desk.flow);
    assert_eq!(desk.location.has_flow(&desk.flow), Some(USER));
    assert_eq!(desk.location.count(), 1);
}

#[test]
fn fetching_lists_without_changing() {
    let mut desk = Desk::new();
    assert_eq!(desk.register("a", 1, ""), 200);
    assert_eq!(desk.contacts(), [""; 0]);
    desk.register(
        "a",
        2,
        "Contact: <sip:1@h>;q=0.5;expires=120, <sip:2@h>;expires=60\n",
    );
    desk.now = 20;
    // Not even an Expires of 0 makes a request without Contact more than a question.
    assert_eq!(desk.register("a", 3, "Expires: 0\n"), 200);
    assert_eq!(
        desk.contacts(),
        ["<sip:2@h>;expires=40", "<sip:1@h>;expires=100;q=0.5"]
    );
    assert_eq!(desk.changes, []);
}

#[test]
fn expiry_comes_from_the_contact_then_the_header_then_the_default() {
    let mut desk = Desk::new();
    let contacts = "Contact: <sip:1@h>;expires=90, <sip:2@h>\n";
    desk.register("a", 1, &format!("{contacts}Expires: 100\n"));
    assert_eq!(
        desk.contacts(),
        ["<sip:1@h>;expires=90", "<sip:2@h>;expires=100"]
    );
    desk.register("a", 2, contacts);
    assert_eq!(
        desk.contacts(),
        ["<sip:1@h>;expires=90", "<sip:2@h>;expires=600"]
    );
    for (asked, given) in [
        ("7200", 3600),
        ("4294967296", 3600),
        ("99999999999999999999", 3600),
        ("3600", 3600),
        ("60", 60),
        // §10.2.1.1: malformed counts as an hour.
        ("soon", 3600),
        ("-5", 3600),
    ] {
        let mut desk = Desk::new();
        assert_eq!(
            desk.register("b", 3, &format!("Contact: <sip:1@h>\nExpires: {asked}\n")),
            200
        );
        assert_eq!(
            desk.contacts(),
            [format!("<sip:1@h>;expires={given}")],
            "{asked}"
        );
        let mut desk = Desk::new();
        assert_eq!(
            desk.register("b", 3, &format!("Contact: <sip:1@h>;expires={asked}\n")),
            200
        );
        assert_eq!(
            desk.contacts(),
            [format!("<sip:1@h>;expires={given}")],
            "{asked}"
        );
    }
}

#[test]
fn too_brief_is_refused_as_a_whole() {
    let mut desk = Desk::new();
    let answer = desk.answer(
        "a",
        1,
        "Contact: <sip:1@h>;expires=600, <sip:2@h>;expires=59\n",
    );
    assert_eq!(answer, Registered::new(423, "Interval Too Brief"));
    assert_eq!(desk.values("Min-Expires"), ["60"]);
    assert_eq!((desk.bound().len(), desk.changes.len()), (0, 0));
    assert_eq!(desk.contacts(), [""; 0]);
    // "If and only if [...] smaller than one hour"
    desk.settings.expires_min = Duration::from_secs(7200);
    desk.settings.expires_max = Duration::from_secs(14_400);
    assert_eq!(
        desk.register("a", 2, "Contact: <sip:1@h>;expires=3599\n"),
        423
    );
    assert_eq!(
        desk.register("a", 3, "Contact: <sip:1@h>;expires=3600\n"),
        200
    );
    // A removal is never too brief.
    assert_eq!(desk.register("a", 4, "Contact: <sip:1@h>;expires=0\n"), 200);
    assert_eq!(desk.bound().len(), 0);
}

#[test]
fn a_star_removes_everything_and_needs_expires_0() {
    let mut desk = Desk::new();
    desk.register("a", 1, "Contact: <sip:1@h>, <sip:2@h>\n");
    desk.register("b", 9, "Contact: <sip:3@h>\n");
    for headers in [
        "Contact: *\n",
        "Contact: *\nExpires: 60\n",
        "Contact: *\nExpires: x\n",
    ] {
        assert_eq!(desk.register("a", 2, headers), 400);
        assert_eq!((desk.bound().len(), desk.changes.len()), (3, 0));
    }
    // Out of order for one binding: none goes.
    assert_eq!(desk.register("b", 9, "Contact: *\nExpires: 0\n"), 500);
    assert_eq!((desk.bound().len(), desk.changes.len()), (3, 0));
    // Another Call-ID has no order with these.
    assert_eq!(desk.register("c", 1, "Contact: *\nExpires: 0\n"), 200);
    assert_eq!(desk.contacts(), [""; 0]);
    assert_eq!(desk.changes.len(), 3);
    assert!(
        desk.changes
            .iter()
            .all(|change| matches!(change, Change::BindingGone(_)))
    );
    assert_eq!(desk.location.count(), 0);
    assert_eq!(desk.location.has_flow(&desk.flow), None);
}

#[test]
fn requests_out_of_order_fail_as_a_whole() {
    let mut desk = Desk::new();
    desk.register("a", 5, "Contact: <sip:1@h>;expires=100\n");
    desk.register("b", 1, "Contact: <sip:2@h>;expires=100\n");
    for cseq in [5, 4] {
        for headers in [
            "Contact: <sip:1@h>;expires=300\n",
            "Contact: <sip:1@h>;expires=0\n",
            "Contact: <sip:3@h>, <sip:1@h>;expires=300\n",
            // The same phone under another contact: still its own order.
            "Contact: <sip:3@h>\n",
        ] {
            let answer = desk.answer("a", cseq, headers);
            assert_eq!(
                answer,
                Registered::new(500, "CSeq Out Of Order"),
                "{cseq} {headers}"
            );
            assert_eq!(
                (desk.bound(), desk.changes.len()),
                (vec!["sip:2@h".into(), "sip:1@h".into()], 0)
            );
        }
    }
    // Another Call-ID updates whatever its CSeq, and its own counts from then on.
    assert_eq!(
        desk.register("c", 1, "Contact: <sip:1@h>;expires=300\n"),
        200
    );
    assert_eq!(
        desk.register("a", 2, "Contact: <sip:1@h>;expires=200\n"),
        200
    );
    assert_eq!(desk.contacts()[0], "<sip:1@h>;expires=200");
}

#[test]
fn contacts_are_compared_as_uris() {
    let mut desk = Desk::new();
    desk.register(
        "a",
        1,
        "Contact: <sip:%61lice@Phone.Example;transport=udp>\n",
    );
    let first = desk.location.bindings(USER).next().unwrap().serial;
    desk.now = 5;
    desk.register("a", 2, "Contact: <sip:alice@phone.example;transport=UDP>\n");
    assert_eq!(desk.bound(), ["sip:alice@phone.example;transport=UDP"]);
    let binding = desk.location.bindings(USER).next().unwrap();
    assert_eq!((binding.serial, binding.since), (first, at(0).unix));
    // The state file goes by the bytes.
    let Change::BindingGone(gone) = &desk.changes[0] else {
        panic!("{:?}", desk.changes);
    };
    assert_eq!(&*gone.user, "100");
    assert_eq!(*gone.contact, *b"sip:%61lice@Phone.Example;transport=udp");
    assert!(matches!(&desk.changes[1..], [Change::Binding(row)] if row.cseq == 2));
    // A port that is the default is not no port.
    desk.register(
        "b",
        3,
        "Contact: <sip:alice@phone.example:5060;transport=UDP>\n",
    );
    assert_eq!(desk.bound().len(), 2);
}

#[test]
fn a_contact_twice_in_one_request_counts_once() {
    let mut desk = Desk::new();
    let headers =
        "Contact: <sip:1@h>;expires=0\nContact: <sip:2@h>\nContact: <sip:1@H>;expires=90\n";
    assert_eq!(desk.register("a", 1, headers), 200);
    assert_eq!(
        desk.contacts(),
        ["<sip:2@h>;expires=600", "<sip:1@H>;expires=90"]
    );
    assert_eq!(
        desk.register("a", 2, "Contact: <sip:1@h>, <sip:1@h>;expires=0\n"),
        200
    );
    assert_eq!(desk.bound(), ["sip:2@h"]);
}

#[test]
fn a_new_contact_under_the_same_call_id_takes_the_place_of_the_old() {
    let mut desk = Desk::new();
    desk.register("a", 1, "Contact: <sip:1@10.0.0.5>\n");
    desk.register("b", 1, "Contact: <sip:1@10.0.0.6>\n");
    desk.register("a", 2, "Contact: <sip:1@10.0.0.99>\n");
    assert_eq!(desk.bound(), ["sip:1@10.0.0.99", "sip:1@10.0.0.6"]);
    // Refreshing one of several contacts leaves the others.
    desk.register("c", 1, "Contact: <sip:2@h>, <sip:3@h>\n");
    desk.register("c", 2, "Contact: <sip:3@h>\n");
    assert_eq!(desk.bound().len(), 4);
    desk.register("c", 3, "Contact: <sip:4@h>\n");
    assert_eq!(
        desk.bound(),
        ["sip:4@h", "sip:1@10.0.0.99", "sip:1@10.0.0.6"]
    );
    assert_eq!(desk.location.count(), 3);
}

#[test]
fn at_the_bound_the_one_refreshed_longest_ago_goes() {
    let mut desk = Desk::new();
    desk.settings.bindings_per_user_max = 3;
    for number in 1..=3 {
        desk.register(
            &number.to_string(),
            1,
            &format!("Contact: <sip:{number}@h>\n"),
        );
    }
    desk.register("1", 2, "Contact: <sip:1@h>\n");
    assert_eq!(desk.register("4", 1, "Contact: <sip:4@h>\n"), 200);
    assert_eq!(desk.bound(), ["sip:4@h", "sip:1@h", "sip:3@h"]);
    assert_eq!(desk.contacts().len(), 3);
    // Nothing goes for a refresh, nor for one that goes itself.
    desk.register("3", 2, "Contact: <sip:3@h>\n");
    desk.register("5", 1, "Contact: <sip:5@h>, <sip:3@h>;expires=0\n");
    assert_eq!(desk.bound(), ["sip:5@h", "sip:4@h", "sip:1@h"]);
    let four = "Contact: <sip:a@h>, <sip:b@h>, <sip:c@h>, <sip:d@h>\n";
    assert_eq!(
        desk.answer("6", 1, four),
        Registered::new(403, "Too Many Contacts")
    );
    assert_eq!((desk.bound().len(), desk.changes.len()), (3, 0));
    let many: String = (0..65)
        .map(|n| format!("Contact: <sip:{n}@h>;expires=0\n"))
        .collect();
    assert_eq!(desk.register("7", 1, &many), 403);
}

#[test]
fn forbidden_contacts_schemes_and_paths() {
    let mut desk = Desk::new();
    for (headers, expected) in [
        (
            "Contact: <sip:1@h>, <sip:1@carrier.example>\n",
            (403, "Contact Not Allowed"),
        ),
        (
            "Contact: <sip:1@h;maddr=224.0.0.1>\n",
            (403, "Contact Not Allowed"),
        ),
        (
            "Contact: <name:John_Smith>\n",
            (403, "Contact Scheme Not Supported"),
        ),
        (
            "Contact: <tel:+15551234>\n",
            (403, "Contact Scheme Not Supported"),
        ),
        ("Contact: <sips:1@h>\n", (403, "SIPS Contact Needs TLS")),
        (
            "Contact: <sip:1@h>\nPath: <sip:carrier.example;lr>\n",
            (403, "Path Not Allowed"),
        ),
        (
            "Contact: <sip:1@h>\nPath: <sip:a;lr>, <tel:1>\n",
            (400, "Bad Path"),
        ),
        ("Contact: <sip:1@h>\nPath: <sip:a\n", (400, "Bad Path")),
    ] {
        let answer = desk.answer("a", 1, headers);
        assert_eq!((answer.status, answer.reason), expected, "{headers}");
        assert_eq!(
            (desk.location.count(), desk.changes.len(), desk.lines.len()),
            (0, 0, 0)
        );
    }
    // What is not there may be removed: nothing happens.
    assert_eq!(
        desk.register(
            "a",
            1,
            "Contact: <sip:1@carrier.example>, <tel:1>\nExpires: 0\n"
        ),
        200
    );
}

#[test]
fn texts_are_bounded() {
    let mut desk = Desk::new();
    let long = "x".repeat(4_200);
    assert_eq!(
        desk.register("a", 1, &format!("Contact: <sip:{long}@h>\n")),
        403
    );
    assert_eq!(
        desk.register("a", 1, &format!("Contact: <sip:1@h>;x={long}\n")),
        403
    );
    assert_eq!(
        desk.register("a", 1, &format!("Contact: <sip:1@h>\nPath: <sip:{long}>\n")),
        403
    );
    assert_eq!(desk.register(&long, 1, "Contact: <sip:1@h>\n"), 403);
    assert_eq!(desk.location.count(), 0);
    // A long User-Agent is no reason to refuse.
    assert_eq!(
        desk.register("a", 1, &format!("Contact: <sip:1@h>\nUser-Agent: {long}\n")),
        200
    );
    assert_eq!(
        desk.location
            .bindings(USER)
            .next()
            .unwrap()
            .user_agent()
            .len(),
        128
    );
    // However many bindings are allowed, the answer fits a datagram.
    desk.settings.bindings_per_user_max = 1000;
    let text = "y".repeat(4_000);
    let refused = (1..1000).find(|number| {
        desk.register(
            &format!("c{number}"),
            1,
            &format!("Contact: <sip:{number}@h>;x={text}\n"),
        ) == 403
    });
    assert!(refused.is_some());
    desk.register("z", 1, "");
    assert!(desk.contacts().len() > 8 && desk.lines.len() < 52_000);
}

#[test]
fn expired_bindings_are_not_listed_even_between_two_seconds() {
    let mut desk = Desk::new();
    desk.register(
        "a",
        1,
        "Contact: <sip:1@h>;expires=60, <sip:2@h>;expires=61\n",
    );
    desk.now = 60;
    desk.register("a", 2, "");
    assert_eq!(desk.contacts(), ["<sip:2@h>;expires=1"]);
    assert!(
        matches!(&desk.changes[..], [Change::BindingGone(gone)] if *gone.contact == *b"sip:1@h")
    );
}

#[test]
fn a_handle_from_before_a_reload_touches_nothing() {
    let mut desk = Desk::new();
    desk.register("a", 1, "Contact: <sip:1@h>\n");
    assert_eq!(desk.location.reload(&[user("101"), user("100")]), []);
    assert_eq!(desk.register("a", 2, "Contact: *\nExpires: 0\n"), 500);
    assert_eq!(desk.location.count(), 1);
}

/// RFC 4475 §3.1.1.4, §3.3.12 to §3.3.14.
#[test]
fn torture() {
    let register = |to: &str, contact: &str| {
        let mut desk = Desk::new();
        let text = format!(
            "REGISTER sip:example.com SIP/2.0\r\nTo: {to}\r\nFrom: {to};tag=8\r\nMax-Forwards: 70\r\n\
             Call-ID: k345asrl3fdbv@192.0.2.1\r\nCSeq: 14398234 REGISTER\r\n\
             Via: SIP/2.0/UDP host5.example.com;branch=z9hG4bKkdjuw\r\n{contact}L:0\r\n\r\n"
        );
        let status = desk.raw(text.as_bytes()).status;
        let contacts: Vec<String> = desk.contacts().into_iter().map(str::to_owned).collect();
        (status, contacts, desk)
    };
    // Two bindings: an escaped NUL ends nothing.
    let (status, contacts, _) = register(
        "sip:null-%00-null@example.com",
        "Contact: <sip:%00@host5.example.com>\r\nContact: <sip:%00%00@host5.example.com>\r\n",
    );
    assert_eq!(status, 200);
    let expected = [
        "<sip:%00@host5.example.com>;expires=600",
        "<sip:%00%00@host5.example.com>;expires=600",
    ];
    assert_eq!(contacts, expected);
    // A contact parameter is no URI parameter, and the other way round.
    let watson = "sip:watson@example.com";
    let (status, contacts, desk) = register(
        watson,
        "Contact: sip:+19725552222@gw1.example.net;unknownparam\r\n",
    );
    assert_eq!(status, 200);
    assert_eq!(
        contacts,
        ["<sip:+19725552222@gw1.example.net>;expires=600;unknownparam"]
    );
    assert_eq!(desk.bound(), ["sip:+19725552222@gw1.example.net"]);
    let (status, contacts, desk) = register(
        watson,
        "Contact: <sip:+19725552222@gw1.example.net;unknownparam>\r\n",
    );
    assert_eq!(status, 200);
    assert_eq!(
        contacts,
        ["<sip:+19725552222@gw1.example.net;unknownparam>;expires=600"]
    );
    assert_eq!(
        desk.bound(),
        ["sip:+19725552222@gw1.example.net;unknownparam"]
    );
    // An escaped header belongs to the binding, and not to the Request-URI made from it.
    let (status, contacts, desk) = register(
        "sip:user@example.com",
        "M: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>\r\n",
    );
    assert_eq!(status, 200);
    assert_eq!(
        contacts,
        ["<sip:user@example.com?Route=%3Csip:sip.example.com%3E>;expires=600"]
    );
    assert_eq!(
        desk.location.bindings(USER).next().unwrap().request_uri(),
        b"sip:user@example.com"
    );
}

#[test]
fn q_is_answered_as_it_was_asked_and_orders_the_bindings() {
    let mut desk = Desk::new();
    let headers = "Contact: <sip:1@h>;q=0, <sip:2@h>;q=0.125, <sip:3@h>;q=1.0, <sip:4@h>;q=0.30\n";
    desk.register("a", 1, headers);
    let expected = [
        "<sip:3@h>;expires=600",
        "<sip:4@h>;expires=600;q=0.3",
        "<sip:2@h>;expires=600;q=0.125",
        "<sip:1@h>;expires=600;q=0",
    ];
    assert_eq!(desk.contacts(), expected);
}

#[test]
fn folding_in_parameters_is_undone() {
    let mut desk = Desk::new();
    desk.register("a", 1, "Contact: <sip:1@h>;x=\"a\n b\"\n ;y\n =\n z\n");
    let [contact] = desk.contacts()[..] else {
        panic!("{:?}", desk.contacts())
    };
    assert_eq!(contact, "<sip:1@h>;expires=600;x=\"a   b\";y=z");
}
