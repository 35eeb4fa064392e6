//! What becomes of transactions whose connection is gone.

use super::*;

fn on(connection: u64) -> Flow {
    Flow {
        connection: Some(ConnectionId(connection)),
        ..tcp()
    }
}

/// Who failed with a connection since the last look.
fn failed(world: &mut World) -> Vec<u32> {
    let expired = world.expired.drain(..);
    expired
        .map(|(_, expired)| match expired {
            Expired::TransportFailed { owner, .. } => owner,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn another_connection_takes_over_what_waits_but_once() {
    let mut world = World::new();
    world.client("INVITE", on(7), 1);
    let (ringing, invite) = world.client("INVITE", on(7), 2);
    world.answer(&invite, 180, "b");
    let (done, bye) = world.client("BYE", on(7), 3);
    assert_eq!(world.answer(&bye, 200, "b"), Some((done, 3)));
    world.client("OPTIONS", on(7), 4);
    let now = world.now();
    world.table.cancel(now, ringing, b"", &mut world.out);
    world.take();
    assert!(world.table.waits_on(ConnectionId(7)));
    (world.table).reconnected(ConnectionId(7), &on(9), &mut world.out);
    assert!(world.out.sent.iter().all(|(_, flow, _)| *flow == on(9)));
    let mut sent: Vec<String> = world.take().into_iter().map(|(_, line)| line).collect();
    sent.sort();
    // Neither what rings nor what is done.
    assert_eq!(sent, ["CANCEL", "INVITE", "OPTIONS"]);
    assert!(!world.table.waits_on(ConnectionId(7)));
    assert!(!world.table.waits_on(ConnectionId(9)), "moved before");
    assert_eq!(world.answer(&invite, 200, "b"), Some((ringing, 2)));
    (world.table).reconnected(ConnectionId(9), &on(11), &mut world.out);
    world.pass_ms(0);
    let mut owners = failed(&mut world);
    owners.sort_unstable();
    assert_eq!((owners, world.take().len()), (vec![1, 4], 0));
    world.pass_ms(60_000);
    world.assert_empty();
}

#[test]
fn a_long_request_goes_over_udp_when_its_connection_is_gone() {
    let mut world = World::new();
    let mut begin = |method, owner| {
        let (id, bytes) = world.client(method, tcp(), owner);
        let other = [&bytes[..], b"2"].concat();
        world.table.or_else(id, &udp(), &other);
        (id, bytes, other)
    };
    let (id, bytes, other) = begin("INVITE", 1);
    let (_, rings, _) = begin("INVITE", 2);
    world.answer(&rings, 180, "b");
    world.pass_ms(100);
    world.out.sent.clear();
    world.table.connection_closed(ConnectionId(7));
    assert_eq!(world.table.next_deadline(), Some(Instant::default()));
    world.pass_ms(0);
    assert_eq!(world.out.sent, [(world.now(), udp(), other.clone())]);
    assert_eq!(
        failed(&mut world),
        [2],
        "its peer has it already, and is gone"
    );
    world.out.sent.clear();
    world.pass_ms(HALF);
    assert_eq!(world.out.sent, [(world.now(), udp(), other)]);
    assert_eq!(world.answer(&bytes, 200, "b"), Some((id, 1)));
    world.pass_ms(60_000);
    world.assert_empty();
}

#[test]
fn what_is_forgotten_ends_at_once() {
    let mut world = World::new();
    let (calling, _) = world.client("INVITE", udp(), 1);
    let (ringing, invite) = world.client("INVITE", tcp(), 2);
    world.answer(&invite, 180, "b");
    for id in [calling, ringing, calling] {
        world.table.forget(id);
    }
    assert_eq!(world.answer(&invite, 200, "b"), None);
    world.assert_empty();
}

#[test]
fn a_request_goes_on_where_its_peer_is_now() {
    let mut world = World::new();
    let flows = |world: &mut World| -> Vec<Flow> {
        let sent = world.out.sent.drain(..);
        sent.map(|(_, flow, _)| flow).collect()
    };
    let (calling, invite) = world.client("INVITE", on(7), 1);
    let (_, other) = world.client("INVITE", on(7), 2);
    let (ringing, rings) = world.client("INVITE", on(7), 3);
    world.answer(&rings, 180, "b");
    flows(&mut world);
    for id in [calling, ringing, calling] {
        world.table.redirect_request(id, &on(9), &mut world.out);
    }
    assert_eq!(flows(&mut world), [on(9)], "once, and not what rings");
    world
        .table
        .redirect_request(calling, &udp(), &mut world.out);
    let now = world.now();
    world.table.cancel(now, ringing, b"", &mut world.out);
    assert_eq!(flows(&mut world), [on(9)]);
    world.table.connection_closed(ConnectionId(7));
    world.pass_ms(0);
    assert_eq!(failed(&mut world), [2]);
    assert_eq!(world.answer(&other, 200, "b"), None);
    for (request, id, owner) in [(&invite, calling, 1), (&rings, ringing, 3)] {
        assert_eq!(world.answer(request, 486, "b"), Some((id, owner)));
    }
    let (id, bye) = world.client("BYE", udp(), 4);
    let moved = Flow {
        remote: SocketAddr::from(([192, 0, 2, 1], 7777)),
        ..udp()
    };
    world.table.redirect_request(id, &moved, &mut world.out);
    flows(&mut world);
    world.pass_ms(HALF);
    assert_eq!(flows(&mut world), [moved]);
    assert_eq!(world.answer(&bye, 200, "b"), Some((id, 4)));
    world.pass_ms(60_000);
    world.assert_empty();
}

#[test]
fn responses_go_where_they_are_redirected_to() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bKs", 1, "");
    let id = world.server(&invite, tcp(), 1);
    assert_eq!(world.table.flow(id), Some(tcp()));
    world.table.redirect(id, &on(9));
    world.respond(id, &invite, 200);
    world.table.redirect(id, &on(11));
    world.pass_ms(HALF);
    let connections: Vec<_> = (world.out.sent.iter())
        .map(|(_, flow, _)| flow.connection)
        .collect();
    assert_eq!(connections, [on(9).connection, on(11).connection]);
    world.table.acknowledge(id);
    assert_eq!(world.table.flow(id), None);
}
