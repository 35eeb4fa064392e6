//! Requests made from an INVITE: the ACK for a failure (RFC 3261 §17.1.1.3) and CANCEL (§9).

use super::*;

// ---- ACK and CANCEL

/// Values of all lines of a name.
fn lines<'a>(message: &Message<'a>, name: HeaderName) -> Vec<&'a [u8]> {
    message
        .lines()
        .filter(|line| line.name == name)
        .map(|line| line.value)
        .collect()
}

#[test]
fn the_ack_for_a_failure_is_made_from_the_invite() {
    let mut world = World::new();
    let (_, bytes) = world.client("INVITE", udp(), 1);
    world.answer(&bytes, 404, "their-tag");
    let (_, flow, ack) = world.out.sent.pop().unwrap();
    let (ack, invite) = (parse(&ack).unwrap(), parse(&bytes).unwrap());
    assert_eq!(flow, udp());
    let StartLine::Request { method, uri, .. } = ack.start() else {
        panic!()
    };
    assert_eq!((method, uri), (Method::Ack, invite.request_uri()));
    assert_eq!(
        lines(&ack, HeaderName::Via),
        lines(&invite, HeaderName::Via)
    );
    assert_eq!(
        lines(&ack, HeaderName::Route),
        lines(&invite, HeaderName::Route)
    );
    assert_eq!(ack.from().raw, invite.from().raw);
    assert_eq!(ack.to().raw, b"<sip:bob@pbx.example>;tag=their-tag");
    assert_eq!(ack.call_id(), invite.call_id());
    assert_eq!((ack.cseq().number, ack.cseq().method), (1, Method::Ack));
    assert_eq!(ack.max_forwards(), Some(70));
    assert!(lines(&ack, HeaderName::Contact).is_empty());
    assert_eq!(ack.body(), b"");
}

#[test]
fn cancel_is_made_from_the_invite() {
    let mut world = World::new();
    let (id, bytes) = world.client("INVITE", udp(), 1);
    world.answer(&bytes, 180, "b");
    world.table.cancel(
        world.out.now,
        id,
        b"SIP;cause=200;text=\"elsewhere\"",
        &mut world.out,
    );
    let (_, _, cancel) = world.out.sent.pop().unwrap();
    let (cancel, invite) = (parse(&cancel).unwrap(), parse(&bytes).unwrap());
    assert_eq!(cancel.method(), Method::Cancel);
    assert_eq!(cancel.request_uri(), invite.request_uri());
    assert_eq!(
        lines(&cancel, HeaderName::Via),
        lines(&invite, HeaderName::Via)
    );
    assert_eq!(
        lines(&cancel, HeaderName::Route),
        lines(&invite, HeaderName::Route)
    );
    assert_eq!(cancel.from().raw, invite.from().raw);
    assert_eq!(
        cancel.to().raw,
        invite.to().raw,
        "no tag, though the 180 had one"
    );
    assert_eq!(
        (cancel.cseq().number, cancel.cseq().method),
        (1, Method::Cancel)
    );
    assert_eq!(cancel.max_forwards(), Some(70));
    assert_eq!(
        lines(&cancel, HeaderName::Reason),
        [b"SIP;cause=200;text=\"elsewhere\""]
    );
}

/// The answer of a peer to the CANCEL of `invite`.
pub(super) fn answer_cancel(world: &mut World, invite: &[u8]) {
    let text = String::from_utf8(response(invite, 200, "b")).unwrap();
    let text = text.replace("CSeq: 1 INVITE", "CSeq: 1 CANCEL");
    let message = parse(text.as_bytes()).unwrap();
    assert_eq!(
        world
            .table
            .receive_response(world.out.now, &message, &mut world.out),
        None
    );
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut world = World::new();
    let (id, invite) = world.client("INVITE", udp(), 1);
    world.pass_ms(100);
    world.table.cancel(world.out.now, id, b"", &mut world.out);
    assert_eq!(world.take_times("INVITE"), [0]);
    world.pass_ms(100);
    assert_eq!(world.answer(&invite, 100, ""), Some((id, 1)));
    world.pass_ms(700);
    assert_eq!(world.take_times("CANCEL"), [200, 700]);
    world.table.cancel(world.out.now, id, b"", &mut world.out);
    answer_cancel(&mut world, &invite);
    assert_eq!(world.answer(&invite, 487, "b"), Some((id, 1)));
    world.pass_ms(60_000);
    assert_eq!(world.take_times("ACK"), [900]);
    assert_eq!(world.expired, []);
    world.assert_empty();
}

#[test]
fn cancel_never_sent_when_the_final_response_comes_first() {
    for status in [200, 486] {
        let mut world = World::new();
        let (id, invite) = world.client("INVITE", udp(), 1);
        world.table.cancel(world.out.now, id, b"", &mut world.out);
        assert_eq!(world.answer(&invite, status, "b"), Some((id, 1)));
        world.pass_ms(60_000);
        assert!(world.take().iter().all(|(_, line)| line != "CANCEL"));
        world.table.cancel(world.out.now, id, b"", &mut world.out);
        world.assert_empty();
    }
}

#[test]
fn cancel_of_a_silent_invite_leaves_timer_b() {
    let mut world = World::new();
    let (id, _) = world.client("INVITE", udp(), 1);
    world.pass_ms(10_000);
    world.table.cancel(world.out.now, id, b"", &mut world.out);
    world.pass_ms(60_000);
    assert_eq!(
        world.expired,
        [(
            Instant::from_micros(32_000_000),
            Expired::Timeout { id, owner: 1 }
        )]
    );
    world.assert_empty();
}

#[test]
fn a_2xx_that_crosses_the_cancel_reaches_the_owner() {
    for flow in [udp(), tcp()] {
        let mut world = World::new();
        let (id, invite) = world.client("INVITE", flow, 1);
        world.answer(&invite, 180, "b");
        world.table.cancel(world.out.now, id, b"", &mut world.out);
        world.pass_ms(20_000);
        assert_eq!(world.answer(&invite, 200, "b"), Some((id, 1)));
        world.pass_ms(31_999);
        assert_eq!(world.answer(&invite, 200, "c"), Some((id, 1)));
        world.pass_ms(1);
        assert_eq!(world.expired, []);
        world.assert_empty();
    }
}

#[test]
fn a_cancelled_invite_without_a_final_response_ends() {
    for (flow, answered) in [(udp(), false), (udp(), true), (tcp(), false), (tcp(), true)] {
        let mut world = World::new();
        let (id, invite) = world.client("INVITE", flow, 1);
        world.pass_ms(HALF / 2);
        world.answer(&invite, 180, "b");
        world.pass_ms(9_750);
        world.table.cancel(world.out.now, id, b"", &mut world.out);
        if answered {
            answer_cancel(&mut world, &invite);
        }
        world.pass_ms(60_000);
        let end = Instant::from_micros(42_000_000);
        assert_eq!(world.expired, [(end, Expired::Timeout { id, owner: 1 })]);
        let cancels = world
            .take()
            .iter()
            .filter(|(_, line)| line == "CANCEL")
            .count();
        assert_eq!(cancels, if answered || flow == tcp() { 1 } else { 11 });
        world.assert_empty();
    }
}

#[test]
fn an_unanswered_cancel_ends_with_its_invite() {
    let mut world = World::new();
    let (id, invite) = world.client("INVITE", tcp(), 1);
    world.answer(&invite, 180, "b");
    world.table.cancel(world.out.now, id, b"", &mut world.out);
    assert_eq!(world.answer(&invite, 487, "b"), Some((id, 1)));
    world.assert_empty();
}

#[test]
fn disowning_a_cancelled_invite_does_not_prolong_it() {
    let mut world = World::new();
    let (id, invite) = world.client("INVITE", udp(), 1);
    world.answer(&invite, 180, "b");
    world.table.cancel(world.out.now, id, b"", &mut world.out);
    world.pass_ms(10_000);
    world.table.disown(id);
    world.pass_ms(22_000);
    assert_eq!(world.expired, []);
    world.assert_empty();
}

#[test]
fn find_for_cancel() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bKc", 1, "");
    let cancel = request("CANCEL", "z9hG4bKc", 1, "");
    let key = world.table.invite_key(&parse(&cancel).unwrap());
    assert_eq!(world.table.find(key), None);
    let id = world.server(&invite, udp(), 1);
    world.table.set_server_owner(id, 5_u32);
    assert_eq!(world.table.find(key), Some((id, 5, udp())));
    assert_eq!(
        world.arrives(&cancel),
        Received::New,
        "a transaction of its own"
    );
}
