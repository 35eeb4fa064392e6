//! Every timer of RFC 3261 Table 4 and RFC 6026, on UDP and on TCP.

use super::*;

// ---- Table 4, client side

#[test]
fn timers_a_and_b_on_udp() {
    let mut world = World::new();
    let (id, _) = world.client("INVITE", udp(), 1);
    world.pass_ms(31_999);
    assert_eq!(
        world.take_times("INVITE"),
        [0, 500, 1500, 3500, 7500, 15_500, 31_500]
    );
    assert_eq!(world.expired, []);
    world.pass_ms(1);
    assert_eq!(
        world.expired,
        [(
            Instant::from_micros(32_000_000),
            Expired::Timeout { id, owner: 1 }
        )]
    );
    assert_eq!(world.take(), []);
    world.assert_empty();
}

#[test]
fn timer_b_alone_on_tcp() {
    let mut world = World::new();
    let (id, _) = world.client("INVITE", tcp(), 1);
    world.pass_ms(40_000);
    assert_eq!(world.take_times("INVITE"), [0]);
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
fn a_provisional_response_ends_timers_a_and_b() {
    for flow in [udp(), tcp()] {
        let mut world = World::new();
        let (id, invite) = world.client("INVITE", flow, 1);
        assert_eq!(world.answer(&invite, 100, ""), Some((id, 1)));
        assert_eq!(world.table.next_deadline(), None);
        world.pass_ms(180_000);
        assert_eq!(world.answer(&invite, 180, "b"), Some((id, 1)));
        assert_eq!(world.answer(&invite, 180, "b"), Some((id, 1)));
        assert_eq!(world.take_times("INVITE"), [0]);
        assert_eq!(world.expired, []);
    }
}

#[test]
fn timer_d_on_udp_resends_the_ack() {
    let mut world = World::new();
    let (id, invite) = world.client("INVITE", udp(), 1);
    world.pass_ms(100);
    assert_eq!(world.answer(&invite, 486, "b"), Some((id, 1)));
    world.pass_ms(31_999);
    assert_eq!(world.answer(&invite, 486, "b"), None);
    assert_eq!(
        world.take(),
        [
            (0, "INVITE".into()),
            (100, "ACK".into()),
            (32_099, "ACK".into())
        ]
    );
    assert_eq!(world.table.live(), 0);
    assert_eq!(world.table.clients.slots(), 1);
    world.pass_ms(1);
    assert_eq!(world.answer(&invite, 486, "b"), None);
    assert_eq!(world.take(), []);
    assert_eq!(world.expired, []);
    world.assert_empty();
}

#[test]
fn timer_d_is_zero_on_tcp() {
    let mut world = World::new();
    let (id, invite) = world.client("INVITE", tcp(), 1);
    assert_eq!(world.answer(&invite, 486, "b"), Some((id, 1)));
    assert_eq!(world.take(), [(0, "INVITE".into()), (0, "ACK".into())]);
    world.assert_empty();
    assert_eq!(world.answer(&invite, 486, "b"), None);
    assert_eq!(world.take(), []);
}

#[test]
fn timer_m_lets_every_2xx_through_on_both() {
    for flow in [udp(), tcp()] {
        let mut world = World::new();
        let (id, invite) = world.client("INVITE", flow, 1);
        assert_eq!(world.answer(&invite, 200, "b"), Some((id, 1)));
        world.take();
        world.pass_ms(31_999);
        assert_eq!(world.answer(&invite, 200, "b"), Some((id, 1)));
        assert_eq!(world.answer(&invite, 200, "another"), Some((id, 1)));
        assert_eq!(world.answer(&invite, 180, "b"), None);
        assert_eq!(world.answer(&invite, 486, "b"), None);
        world.pass_ms(1);
        assert_eq!(world.answer(&invite, 200, "b"), None);
        assert_eq!(world.take(), [], "a 2xx is acknowledged by its owner");
        world.assert_empty();
    }
}

#[test]
fn timers_e_and_f_on_udp() {
    let mut world = World::new();
    let (id, _) = world.client("REGISTER", udp(), 1);
    world.pass_ms(31_999);
    let times = world.take_times("REGISTER");
    // §17.1.2.2: 500 ms, 1 s, 2 s, 4 s, 4 s, 4 s, ...
    assert_eq!(
        times,
        [
            0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
        ]
    );
    world.pass_ms(1);
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
fn timer_e_is_t2_after_a_provisional_response() {
    let mut world = World::new();
    let (id, bytes) = world.client("REGISTER", udp(), 1);
    world.pass_ms(600);
    assert_eq!(world.answer(&bytes, 100, ""), Some((id, 1)));
    world.pass_ms(40_000);
    // The one at 1500 was set before; then every 4 s.
    let times = world.take_times("REGISTER");
    assert_eq!(
        times,
        [
            0, 500, 1500, 5500, 9500, 13_500, 17_500, 21_500, 25_500, 29_500
        ]
    );
    assert_eq!(
        world.expired,
        [(
            Instant::from_micros(32_000_000),
            Expired::Timeout { id, owner: 1 }
        )]
    );
}

#[test]
fn timer_f_alone_on_tcp() {
    let mut world = World::new();
    let (id, _) = world.client("BYE", tcp(), 1);
    world.pass_ms(40_000);
    assert_eq!(world.take_times("BYE"), [0]);
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
fn timer_k_absorbs_retransmitted_responses() {
    let mut world = World::new();
    let (id, bytes) = world.client("BYE", udp(), 1);
    assert_eq!(world.answer(&bytes, 200, "b"), Some((id, 1)));
    world.pass_ms(4999);
    assert_eq!(world.answer(&bytes, 200, "b"), None);
    assert_eq!(world.table.clients.slots(), 1);
    world.pass_ms(1);
    world.assert_empty();
    assert_eq!(world.take_times("BYE"), [0]);

    let (id, bytes) = world.client("BYE", tcp(), 2);
    assert_eq!(world.answer(&bytes, 200, "b"), Some((id, 2)));
    world.assert_empty();
}

// ---- Table 4, server side

#[test]
fn timers_g_and_h_on_udp() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bKg", 1, "");
    let id = world.server(&invite, udp(), 1);
    world.respond(id, &invite, 486);
    world.pass_ms(31_999);
    let times = world.take_times("486");
    assert_eq!(
        times,
        [
            0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
        ]
    );
    assert_eq!(world.table.live(), 1);
    world.pass_ms(1);
    assert_eq!(world.expired, [], "RFC 6026: Timer H tells nobody");
    world.assert_empty();
}

#[test]
fn timer_h_alone_on_tcp() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bKh", 1, "");
    let id = world.server(&invite, tcp(), 1);
    world.respond(id, &invite, 486);
    world.pass_ms(31_999);
    assert_eq!(world.take_times("486"), [0]);
    assert_eq!(world.table.live(), 1);
    world.pass_ms(1);
    world.assert_empty();
}

#[test]
fn timer_i_absorbs_acks() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bKi", 1, "");
    let ack = request("ACK", "z9hG4bKi", 1, "to1");
    let id = world.server(&invite, udp(), 1);
    world.respond(id, &invite, 486);
    world.pass_ms(700);
    assert_eq!(world.arrives(&ack), Received::Absorbed);
    world.pass_ms(4999);
    assert_eq!(world.arrives(&ack), Received::Absorbed);
    assert_eq!(world.arrives(&invite), Received::Absorbed);
    assert_eq!(world.take_times("486"), [0, 500]);
    world.pass_ms(1);
    world.assert_empty();
    assert_eq!(world.arrives(&ack), Received::New);

    let id = world.server(&invite, tcp(), 1);
    world.respond(id, &invite, 486);
    assert_eq!(world.arrives(&ack), Received::Absorbed);
    world.assert_empty();
}

#[test]
fn timer_j_answers_retransmissions_from_the_ring() {
    let mut world = World::new();
    let bytes = request("MESSAGE", "z9hG4bKj", 1, "");
    let id = world.server(&bytes, udp(), 1);
    assert_eq!(world.arrives(&bytes), Received::Absorbed);
    assert_eq!(world.take(), [], "Trying: nothing to repeat");
    world.respond(id, &bytes, 100);
    assert_eq!(world.arrives(&bytes), Received::Absorbed);
    assert_eq!(world.take_times("100"), [0, 0]);
    world.respond(id, &bytes, 202);
    assert_eq!((world.table.live(), world.table.completed()), (0, 1));
    world.respond(id, &bytes, 500);
    world.pass_ms(31_999);
    assert_eq!(world.arrives(&bytes), Received::Absorbed);
    assert_eq!(world.take_times("202"), [0, 31_999]);
    world.pass_ms(1);
    world.assert_empty();
    assert_eq!(world.arrives(&bytes), Received::New);
    assert_eq!(world.take(), []);
}

#[test]
fn an_old_answer_that_goes_leaves_the_new_one() {
    let mut world = World::new();
    let bytes = request("MESSAGE", "z9hG4bKj", 1, "");
    let key = world.table.key(&parse(&bytes).unwrap());
    let answer = response(&bytes, 200, "x");
    world
        .table
        .complete(world.out.now, key, &udp(), &answer, &mut world.out);
    // The request comes again when its time is over, but before that was noticed.
    world.out.now = Instant::default().plus(T1_64);
    assert_eq!(world.arrives(&bytes), Received::New);
    world
        .table
        .complete(world.out.now, key, &udp(), &answer, &mut world.out);
    assert_eq!(world.table.completed(), 2);
    world.pass_ms(1000);
    assert_eq!(world.table.completed(), 1);
    assert_eq!(world.arrives(&bytes), Received::Absorbed);
    assert_eq!(world.take_times("200"), [0, 32_000, 33_000]);
    world.pass(T1_64);
    world.assert_empty();
}

#[test]
fn timer_j_is_zero_on_tcp() {
    let mut world = World::new();
    let bytes = request("MESSAGE", "z9hG4bKj", 1, "");
    let id = world.server(&bytes, tcp(), 1);
    world.respond(id, &bytes, 200);
    world.assert_empty();
    let message = parse(&bytes).unwrap();
    let key = world.table.key(&message);
    let answer = response(&bytes, 200, "x");
    world
        .table
        .complete(world.out.now, key, &tcp(), &answer, &mut world.out);
    world.assert_empty();
    assert_eq!(world.take_times("200"), [0, 0]);
}

#[test]
fn timer_l_and_the_retransmission_of_2xx() {
    // §13.3.1.4: on reliable transports too.
    for flow in [udp(), tcp()] {
        let mut world = World::new();
        let invite = request("INVITE", "z9hG4bKl", 1, "");
        let id = world.server(&invite, flow, 1);
        world.respond(id, &invite, 200);
        world.pass_ms(10_000);
        assert_eq!(world.arrives(&invite), Received::Absorbed);
        world.pass_ms(21_999);
        let times = world.take_times("200");
        assert_eq!(
            times,
            [
                0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
            ]
        );
        assert_eq!(world.expired, []);
        world.pass_ms(1);
        let end = Instant::from_micros(32_000_000);
        assert_eq!(
            world.expired,
            [(end, Expired::NotAcknowledged { id, owner: 1 })]
        );
        assert_eq!(world.take(), []);
        world.assert_empty();
    }
}

#[test]
fn an_acknowledged_2xx_leaves_only_its_key() {
    for flow in [udp(), tcp()] {
        let mut world = World::new();
        world.pass_ms(5000);
        let invite = request("INVITE", "z9hG4bKl", 1, "");
        let ack = request("ACK", "z9hG4bKl", 1, "to1");
        let id = world.server(&invite, flow, 1);
        world.respond(id, &invite, 200);
        assert_eq!(
            world.arrives(&ack),
            Received::New,
            "an ACK in Accepted is the core's"
        );
        world.pass_ms(600);
        world.table.acknowledge(id);
        world.table.acknowledge(id);
        assert_eq!((world.table.live(), world.table.completed()), (0, 1));
        world.pass_ms(31_399);
        assert_eq!(world.arrives(&invite), Received::Absorbed);
        assert_eq!(world.arrives(&ack), Received::New);
        assert_eq!(world.take_times("200"), [5000, 5500]);
        world.pass_ms(1);
        assert_eq!(world.expired, []);
        world.assert_empty();
        assert_eq!(world.arrives(&invite), Received::New);
    }
}

#[test]
fn a_retransmitted_invite_gets_the_last_response() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bKp", 1, "");
    let id = world.server(&invite, udp(), 1);
    assert_eq!(world.arrives(&invite), Received::Absorbed);
    assert_eq!(world.take(), []);
    world.respond(id, &invite, 100);
    world.respond(id, &invite, 180);
    assert_eq!(world.arrives(&invite), Received::Absorbed);
    world.respond(id, &invite, 486);
    world.respond(id, &invite, 200);
    assert_eq!(world.arrives(&invite), Received::Absorbed);
    let lines: Vec<String> = world.take().into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, ["100", "180", "180", "486", "486"]);
}
