//! Which transaction a message belongs to (RFC 3261 §17.1.3, §17.2.3, §8.2.2.2).

use super::*;

// ---- matching, §17.1.3 and §17.2.3

#[test]
fn a_response_needs_branch_and_method() {
    let mut world = World::new();
    let (id, invite) = world.client("INVITE", udp(), 1);
    let good = String::from_utf8(response(&invite, 180, "b")).unwrap();
    let branch = good
        .split("branch=")
        .nth(1)
        .unwrap()
        .split(['\r', ';'])
        .next()
        .unwrap()
        .to_string();
    let last = branch.chars().next_back().unwrap();
    let wrong = format!(
        "{}{}",
        &branch[..branch.len() - 1],
        if last == '0' { '1' } else { '0' }
    );
    let elsewhere = branch.replacen("00000000", "00000001", 1);
    for bad in [
        good.replace(&branch, &wrong),
        good.replace(&branch, &elsewhere),
        good.replace(&branch, "z9hG4bK776asdhds"),
        good.replace("CSeq: 1 INVITE", "CSeq: 1 BYE"),
        good.replace("CSeq: 1 INVITE", "CSeq: 1 CANCEL"),
    ] {
        assert_ne!(bad, good);
        let message = parse(bad.as_bytes()).unwrap();
        assert_eq!(
            world
                .table
                .receive_response(Instant::default(), &message, &mut world.out),
            None
        );
    }
    let message = parse(good.as_bytes()).unwrap();
    let got = world
        .table
        .receive_response(Instant::default(), &message, &mut world.out);
    assert_eq!(got, Some((id, 1)));
}

#[test]
fn a_reused_slot_is_not_reached_by_the_old_branch() {
    let mut world = World::new();
    let (old_id, old) = world.client("BYE", tcp(), 1);
    assert!(world.answer(&old, 200, "b").is_some());
    let (id, new) = world.client("BYE", tcp(), 2);
    assert_eq!(world.answer(&old, 200, "b"), None);
    world.table.disown(old_id);
    world
        .table
        .cancel(Instant::default(), old_id, b"", &mut world.out);
    world.table.release(old_id);
    assert_eq!(world.answer(&new, 200, "b"), Some((id, 2)));
}

#[test]
fn a_request_is_known_by_branch_sent_by_and_method() {
    let world = World::new();
    let key = |text: &str| {
        let bytes = text.as_bytes().to_vec();
        world.table.key(&parse(&bytes).unwrap())
    };
    let invite = String::from_utf8(request("INVITE", "z9hG4bKm", 1, "")).unwrap();
    assert_eq!(
        key(&invite),
        key(&invite.replace("phone.example:5062", "PHONE.example:5062"))
    );
    assert_eq!(key(&invite), key(&invite.replace("INVITE", "ACK")));
    assert_ne!(key(&invite), key(&invite.replace("INVITE", "CANCEL")));
    assert_ne!(key(&invite), key(&invite.replace("z9hG4bKm", "z9hG4bKM")));
    assert_ne!(
        key(&invite),
        key(&invite.replace("phone.example:5062", "phone.example:5063"))
    );
    assert_ne!(
        key(&invite),
        key(&invite.replace("phone.example:5062", "phone2.example:5062"))
    );
    assert_ne!(
        key(&invite.replace("INVITE", "FOO")),
        key(&invite.replace("INVITE", "BAR"))
    );
    let cancel = invite.replace("INVITE", "CANCEL");
    assert_eq!(
        world.table.invite_key(&parse(cancel.as_bytes()).unwrap()),
        key(&invite)
    );
    let default = invite.replace("phone.example:5062", "phone.example");
    assert_eq!(
        key(&default),
        key(&invite.replace("phone.example:5062", "phone.example:5060"))
    );
    // Other keys for another server.
    let other: Transactions<u32> = Transactions::new(&[8; 32], 1, 1);
    assert_ne!(other.key(&parse(invite.as_bytes()).unwrap()), key(&invite));
}

#[test]
fn rfc_2543_requests_are_matched_by_their_headers() {
    for branch in ["", "1", "z9hG4bK"] {
        let world = World::new();
        let key = |text: &str| world.table.key(&parse(text.as_bytes()).unwrap());
        let invite = String::from_utf8(request("INVITE", branch, 1, "")).unwrap();
        let ack = String::from_utf8(request("ACK", branch, 1, "to1")).unwrap();
        assert_eq!(
            key(&invite),
            key(&ack),
            "the ACK has the To tag of our response"
        );
        let cancel = invite.replace("INVITE", "CANCEL");
        assert_eq!(
            world.table.invite_key(&parse(cancel.as_bytes()).unwrap()),
            key(&invite)
        );
        for (from, to) in [
            ("sip:bob@192.0.2.1:5062 ", "sip:rob@192.0.2.1:5062 "),
            ("tag=from1", "tag=from2"),
            ("call-1", "call-2"),
            ("CSeq: 1", "CSeq: 2"),
            ("phone.example", "phone2.example"),
            ("5062\r\n", "5062;x=y\r\n"),
        ] {
            let from = if from.ends_with("\r\n") && !branch.is_empty() {
                "branch="
            } else {
                from
            };
            let to = if from == "branch=" { "branch=7" } else { to };
            assert_ne!(invite.replace(from, to), invite);
            assert_ne!(key(&invite), key(&invite.replace(from, to)), "{from}");
        }
        let bye = String::from_utf8(request("BYE", branch, 1, "to1")).unwrap();
        assert_ne!(key(&bye), key(&bye.replace("tag=to1", "tag=to2")));
        assert_eq!(
            key(&bye),
            key(&bye.replace("Max-Forwards: 33", "Max-Forwards: 34"))
        );
    }
}

#[test]
fn merged_requests() {
    let mut world = World::new();
    let first = request("INVITE", "z9hG4bK1", 1, "");
    let second = request("INVITE", "z9hG4bK2", 1, "");
    let in_dialog = request("INVITE", "z9hG4bK3", 1, "to1");
    let later = request("INVITE", "z9hG4bK4", 2, "");
    let merged = |world: &World, bytes: &[u8]| {
        let request = parse(bytes).unwrap();
        (world.table).is_merged(&request, world.table.key(&request))
    };
    assert!(!merged(&world, &first));
    let id = world.server(&first, udp(), 1);
    assert!(!merged(&world, &first), "a retransmission is none");
    assert!(merged(&world, &second));
    assert!(!merged(&world, &in_dialog));
    assert!(!merged(&world, &later));
    world.respond(id, &first, 200);
    world.table.acknowledge(id);
    assert!(!merged(&world, &second), "over");
}
