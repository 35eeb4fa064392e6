//! A user by address: over UDP from there anybody can have sent it.

use super::*;

const OWN: &str = "192.0.2.50";

/// A user with two bindings that are proven: over TCP from his address, and made by password from elsewhere.
fn desk() -> Desk {
    let mut desk = Desk::new();
    desk.address = Some(OWN.parse().unwrap());
    desk.flow = tcp("192.0.2.50:43000", 1);
    assert_eq!(desk.register("t", 1, "Contact: <sip:t@192.0.2.50>\n"), 200);
    desk.flow = udp("203.0.113.7:41000");
    let mobile = "Contact: <sip:m@10.0.0.5>;+sip.instance=\"<urn:m>\";reg-id=1\n";
    assert_eq!(desk.register("m", 1, mobile), 200);
    desk.flow = udp("192.0.2.50:9999");
    desk
}

#[test]
fn a_forged_star_removes_only_what_may_be_forged() {
    let mut desk = desk();
    assert_eq!(desk.register("g", 1, "Contact: <sip:g@h>\n"), 200);
    assert_eq!(desk.location.bindings(USER).count(), 3);
    assert_eq!(desk.register("h", 1, "Contact: *\nExpires: 0\n"), 200);
    assert_eq!(desk.bound(), ["sip:m@10.0.0.5", "sip:t@192.0.2.50"]);
    // Proven: all of them, ghosts too.
    desk.register("g", 2, "Contact: <sip:g@h>\n");
    desk.flow = tcp("192.0.2.50:43000", 1);
    assert_eq!(desk.register("t", 2, "Contact: *\nExpires: 0\n"), 200);
    assert_eq!(desk.location.count(), 0);
}

#[test]
fn a_guessed_contact_moves_and_removes_no_proven_binding() {
    let mut desk = desk();
    let proven = |desk: &Desk| -> Vec<(u64, Flow, u32)> {
        let own = (desk.location.bindings(USER))
            .filter(|binding| [&b"m"[..], b"t"].contains(&binding.call_id()));
        let mut all: Vec<_> = own
            .map(|binding| (binding.serial, binding.flow(), binding.cseq))
            .collect();
        all.sort_by_key(|own| own.0);
        all
    };
    let before = proven(&desk);
    assert_eq!(before.len(), 2);
    // The very contact, which the state file would take for the other's.
    assert_eq!(desk.register("g", 2, "Contact: <sip:t@192.0.2.50>\n"), 403);
    let mobile = "Contact: <sip:m@10.0.0.5>;+sip.instance=\"<urn:m>\";reg-id=1\n";
    assert_eq!(desk.register("g", 3, mobile), 403);
    assert!(desk.changes.is_empty());
    // One that is equal to it, the same phone elsewhere, and the Call-ID of one.
    let equal = "Contact: <sip:t@192.0.2.50;x=1>\n";
    assert_eq!(desk.register("g", 4, equal), 200);
    let elsewhere = "Contact: <sip:n@10.0.0.5>;+sip.instance=\"<urn:m>\";reg-id=1\n";
    assert_eq!(desk.register("i", 5, elsewhere), 200);
    assert_eq!(desk.register("t", 0, "Contact: <sip:u@h>\n"), 200);
    let gone: Vec<_> = (desk.changes.iter())
        .filter(|change| matches!(change, Change::BindingGone(_)))
        .collect();
    assert!(gone.is_empty(), "{gone:?}");
    for contact in ["sip:t@192.0.2.50", "sip:m@10.0.0.5"] {
        let removal = format!("Contact: <{contact}>;expires=0\n");
        assert_eq!(desk.register("j", 1, &removal), 200);
    }
    let still = proven(&desk);
    assert!(before.iter().all(|own| still.contains(own)), "{still:?}");
    // The phone itself finds its own among them.
    desk.flow = tcp("192.0.2.50:43000", 1);
    assert_eq!(desk.register("t", 2, "Contact: <sip:t@192.0.2.50>\n"), 200);
    let serial = desk
        .location
        .bindings(USER)
        .find(|own| own.contact() == b"sip:t@192.0.2.50")
        .map(|own| own.serial);
    assert_eq!(serial, Some(before[0].0));
}

#[test]
fn an_honest_device_refreshes_moves_and_removes_its_own() {
    let mut desk = desk();
    assert_eq!(desk.register("g", 1, "Contact: <sip:g@192.0.2.50>\n"), 200);
    desk.flow = udp("192.0.2.50:5062");
    assert_eq!(desk.register("g", 2, "Contact: <sip:g@192.0.2.50>\n"), 200);
    assert_eq!(desk.register("g", 3, "Contact: <sip:k@192.0.2.50>\n"), 200);
    let own: Vec<Flow> = (desk.location.bindings(USER))
        .filter(|binding| binding.call_id() == b"g")
        .map(Binding::flow)
        .collect();
    assert_eq!(own, [desk.flow]);
    let removal = "Contact: <sip:k@192.0.2.50>;expires=0\n";
    assert_eq!(desk.register("g", 4, removal), 200);
    assert_eq!(desk.bound(), ["sip:m@10.0.0.5", "sip:t@192.0.2.50"]);
}

#[test]
fn at_the_bound_ghosts_push_out_ghosts() {
    let mut desk = desk();
    desk.settings.bindings_per_user_max = 3;
    for ghost in ["a", "b", "c"] {
        let contact = format!("Contact: <sip:{ghost}@h>\n");
        assert_eq!(desk.register(ghost, 1, &contact), 200);
        let last = format!("sip:{ghost}@h");
        assert_eq!(desk.bound(), [&last, "sip:m@10.0.0.5", "sip:t@192.0.2.50"]);
    }
    // Whoever proves himself takes the place of one, however new it is.
    desk.flow = tcp("192.0.2.50:43001", 2);
    assert_eq!(desk.register("s", 1, "Contact: <sip:s@h>\n"), 200);
    let proven = ["sip:s@h", "sip:m@10.0.0.5", "sip:t@192.0.2.50"];
    assert_eq!(desk.bound(), proven);
    desk.flow = udp("192.0.2.50:9999");
    assert_eq!(desk.register("d", 1, "Contact: <sip:d@h>\n"), 403);
    assert_eq!(desk.bound(), proven);
}

/// Nor do long ones leave it no room in the answer.
#[test]
fn ghosts_with_long_contacts_keep_no_phone_out() {
    let mut desk = desk();
    desk.settings.bindings_per_user_max = 100;
    let long = "x".repeat(3_900);
    let mut count = 0;
    while desk.register(
        &count.to_string(),
        1,
        &format!("Contact: <sip:{count}@{long}>\n"),
    ) == 200
    {
        count += 1;
        assert!(count < 100);
    }
    assert!(count > 8);
    desk.flow = tcp("192.0.2.50:43001", 2);
    let phone = format!("Contact: <sip:s@{long}>\n");
    assert_eq!(desk.register("s", 1, &phone), 200);
    assert_eq!(desk.location.count(), count + 2);
    assert!(desk.bound().contains(&"sip:t@192.0.2.50".to_owned()));
}

/// A restart knows it as before: the flow says it.
#[test]
fn after_a_restart_it_is_as_it_was() {
    let mut desk = desk();
    let mut rows: Vec<BindingRow> = Vec::new();
    let mobile = "Contact: <sip:m@10.0.0.5>;+sip.instance=\"<urn:m>\";reg-id=1\n";
    for (flow, call_id, contact) in [
        ("203.0.113.7:41000", "m", mobile),
        ("192.0.2.50:9999", "g", "Contact: <sip:g@h>\n"),
    ] {
        desk.flow = udp(flow);
        assert_eq!(desk.register(call_id, 2, contact), 200);
        rows.extend(desk.changes.iter().filter_map(|change| match change {
            Change::Binding(row) => Some(BindingRow::clone(row)),
            _ => None,
        }));
    }
    let mut again = self::desk();
    again.location = Location::new(&[user("100"), user("101")], &SEED);
    again.location.restore(at(0), &rows);
    assert_eq!(again.location.count(), 2);
    assert_eq!(again.register("h", 9, "Contact: *\nExpires: 0\n"), 200);
    assert_eq!(again.bound(), ["sip:m@10.0.0.5"]);
}
