//! Ways to the telephone: Path (RFC 3327), NAT, flows (RFC 5626).

use super::*;

#[test]
fn path_is_kept_and_echoed() {
    let mut desk = Desk::new();
    let headers = "Contact: <sip:1@h>\nPath: <sip:p2.example;lr>\n ,\n <sip:p1.example;lr>\nPath: <sip:p0.example;lr;ob>\n";
    assert_eq!(desk.register("a", 1, headers), 200);
    let path = "<sip:p2.example;lr>, <sip:p1.example;lr>, <sip:p0.example;lr;ob>";
    assert_eq!(desk.values("Path"), [path]);
    assert_eq!(
        desk.location.bindings(USER).next().unwrap().path(),
        path.as_bytes()
    );
    assert!(matches!(&desk.changes[..], [Change::Binding(row)] if *row.path == *path.as_bytes()));
    // A refresh that came another way takes the new way.
    desk.register("a", 2, "Contact: <sip:1@h>\n");
    assert_eq!(desk.values("Path"), [""; 0]);
    assert_eq!(desk.location.bindings(USER).next().unwrap().path(), b"");
}

#[test]
fn a_phone_behind_a_nat_is_reached_where_it_came_from() {
    let mut desk = Desk::new();
    desk.register("a", 1, "Contact: <sip:1@192.168.1.5>\n");
    let old = desk.flow;
    desk.flow = udp("203.0.113.7:52000");
    desk.register("a", 2, "Contact: <sip:1@192.168.1.5>\n");
    assert_eq!(
        desk.location.bindings(USER).next().unwrap().flow(),
        desk.flow
    );
    assert_eq!(desk.location.has_flow(&old), None);
    assert_eq!(desk.location.has_flow(&desk.flow), Some(USER));
}

const OUTBOUND: &str = ";+sip.instance=\"<urn:uuid:AA>\";reg-id=1\nSupported: path, outbound\n";

#[test]
fn outbound_goes_by_instance_and_reg_id() {
    let mut desk = Desk::new();
    desk.flow = tcp("203.0.113.7:41000", 2);
    assert_eq!(
        desk.register("a", 1, &format!("Contact: <sip:1@h;ob>{OUTBOUND}")),
        200
    );
    assert_eq!(desk.values("Require"), ["outbound"]);
    let params = ";expires=600;+sip.instance=\"<urn:uuid:AA>\";reg-id=1";
    assert_eq!(desk.contacts(), [format!("<sip:1@h;ob>{params}")]);
    // The phone lost its connection and comes back with another contact and Call-ID: the same binding.
    desk.flow = tcp("203.0.113.7:41001", 4);
    let headers = format!("Contact: <sip:1@other;ob>{}", OUTBOUND.replace("AA", "aa"));
    assert_eq!(desk.register("b", 1, &headers), 200);
    assert_eq!(desk.bound(), ["sip:1@other;ob"]);
    // A second flow of it, even with the same contact and Call-ID, is another binding.
    let second = OUTBOUND.replace("reg-id=1", "reg-id=2").replace("AA", "aa");
    assert_eq!(
        desk.register("b", 2, &format!("Contact: <sip:1@other;ob>{second}")),
        200
    );
    // So is another phone with the same contact behind another NAT.
    let other = OUTBOUND.replace("AA", "bb");
    assert_eq!(
        desk.register("c", 1, &format!("Contact: <sip:1@other;ob>{other}")),
        200
    );
    assert_eq!(desk.bound().len(), 3);
    // One of them removed: the state file keeps those that stay, one of which has the same contact.
    let removal = other
        .replace('\n', ";expires=0\n")
        .replacen("outbound;expires=0", "outbound", 1);
    assert_eq!(
        desk.register("c", 2, &format!("Contact: <sip:1@other;ob>{removal}")),
        200
    );
    assert_eq!(desk.values("Require"), [""; 0]);
    assert_eq!(desk.bound().len(), 2);
    assert!(
        matches!(&desk.changes[..], [Change::BindingGone(gone)] if *gone.instance == *b"<urn:uuid:bb>")
    );
}

#[test]
fn outbound_only_where_the_first_hop_knows_it() {
    let with_proxy = |headers: &str| format!("Via: SIP/2.0/UDP phone;branch=z9hG4bKp\n{headers}");
    let register = |headers: &str| {
        let mut desk = Desk::new();
        let status = desk.register("a", 1, headers);
        (
            status,
            desk.values("Require").len(),
            desk.location.bindings(USER).next().map(|b| b.reg_id),
        )
    };
    let contact = format!("Contact: <sip:1@h>{OUTBOUND}");
    assert_eq!(register(&contact), (200, 1, Some(1)));
    assert_eq!(register(&with_proxy(&contact)), (439, 0, None));
    assert_eq!(
        register(&with_proxy(&format!("{contact}Path: <sip:p;lr>\n"))),
        (439, 0, None)
    );
    assert_eq!(
        register(&with_proxy(&format!("{contact}Path: <sip:p;lr;ob>\n"))),
        (200, 1, Some(1))
    );
    // Without the option tag nothing is promised: behind such a proxy reg-id does not count, else it only names the binding.
    let silent = contact.replace("outbound", "gruu");
    assert_eq!(register(&with_proxy(&silent)), (200, 0, Some(0)));
    assert_eq!(register(&silent), (200, 0, Some(1)));
    // reg-id without an instance, or no number, is ignored.
    assert_eq!(
        register("Contact: <sip:1@h>;reg-id=1\nSupported: outbound\n"),
        (200, 0, Some(0))
    );
    for wrong in ["0", "2147483648", "x", "\"1\""] {
        let headers = contact.replace("reg-id=1", &format!("reg-id={wrong}"));
        assert_eq!(register(&headers), (200, 0, Some(0)), "{wrong}");
    }
    // More than one contact on one flow
    let two = format!("Contact: <sip:2@h>\n{contact}");
    assert_eq!(register(&two).0, 400);
    assert_eq!(
        register(&two.replacen('\n', ";expires=0\n", 1)),
        (200, 1, Some(1))
    );
}

#[test]
fn streams_live_with_their_connection() {
    let mut desk = Desk::new();
    desk.register("a", 1, "Contact: <sip:1@h>\n");
    desk.flow = tcp("203.0.113.7:41000", 2);
    desk.register("b", 1, "Contact: <sip:2@h>, <sip:3@h>\n");
    assert_eq!(desk.location.has_flow(&desk.flow), Some(USER));
    // Another connection from the same port is not the same flow.
    assert_eq!(desk.location.has_flow(&tcp("203.0.113.7:41000", 4)), None);
    desk.changes.clear();
    desk.location
        .connection_closed(ConnectionId(4), &mut desk.changes);
    assert_eq!(desk.changes.len(), 0);
    desk.location
        .connection_closed(ConnectionId(2), &mut desk.changes);
    assert_eq!(desk.changes.len(), 2);
    assert_eq!(desk.bound(), ["sip:1@h"]);
    assert_eq!(desk.location.has_flow(&desk.flow), None);
}
