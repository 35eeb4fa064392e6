//! RFC 3262 §3: a reliable provisional response in the table.

use super::*;

fn reliable(world: &mut World, id: ServerId, invite: &[u8], status: u16) {
    let bytes = response(invite, status, "to1");
    let (table, out) = (&mut world.table, &mut world.out);
    table.respond_reliably(out.now, id, status, &bytes, out);
}

#[test]
fn is_repeated_until_its_prack_with_no_bound_of_t2() {
    for flow in [udp(), tcp()] {
        let mut world = World::new();
        let invite = request("INVITE", "z9hG4bKr", 1, "");
        let id = world.server(&invite, flow, 1);
        reliable(&mut world, id, &invite, 183);
        world.pass_ms(20_000);
        assert_eq!(
            world.take_times("183"),
            [0, 500, 1500, 3500, 7500, 15_500],
            "the interval doubles"
        );
        world.table.acknowledge_provisional(world.now(), id);
        assert_eq!(world.table.next_deadline(), None);
        // The next one begins anew.
        reliable(&mut world, id, &invite, 180);
        world.pass_ms(1_600);
        assert_eq!(world.take_times("180"), [20_000, 20_500, 21_500]);
        world.table.acknowledge_provisional(world.now(), id);
        world.pass(T1_64);
        assert_eq!((world.take(), world.expired.as_slice()), (vec![], &[][..]));
        world.respond(id, &invite, 200);
        world.table.acknowledge(id);
        world.pass(T1_64);
        world.assert_empty();
    }
}

#[test]
fn without_its_prack_the_owner_is_told_and_may_still_answer() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bKr", 1, "");
    let id = world.server(&invite, udp(), 1);
    reliable(&mut world, id, &invite, 183);
    world.pass_ms(31_999);
    assert_eq!(world.expired, []);
    world.pass_ms(1);
    let end = Instant::from_micros(32_000_000);
    let told = Expired::ProvisionalNotAcknowledged { id, owner: 1 };
    assert_eq!(world.expired, [(end, told)]);
    world.take();
    world.respond(id, &invite, 504);
    assert_eq!(world.take_times("504"), [32_000]);
    assert_eq!(
        world.arrives(&request("ACK", "z9hG4bKr", 1, "to1")),
        Received::Absorbed
    );
    world.pass_ms(5_000);
    world.assert_empty();
}

#[test]
fn a_final_response_ends_it() {
    for (flow, status) in [(udp(), 200), (udp(), 486), (tcp(), 486), (tcp(), 200)] {
        let mut world = World::new();
        let invite = request("INVITE", "z9hG4bKr", 1, "");
        let id = world.server(&invite, flow, 1);
        reliable(&mut world, id, &invite, 183);
        world.pass_ms(100);
        world.respond(id, &invite, status);
        assert_eq!(world.take_times_of("183"), [0]);
        // Timers of the final response are its own.
        if status == 200 {
            world.table.acknowledge(id);
        } else {
            world.arrives(&request("ACK", "z9hG4bKr", 1, "to1"));
        }
        world.pass(T1_64);
        assert!(world.take_times_of("183").is_empty());
        assert_eq!(world.expired, []);
        world.assert_empty();
        // After it none is sent.
        reliable(&mut world, id, &invite, 183);
        assert_eq!(world.take(), []);
    }
}

#[test]
fn an_unreliable_one_meanwhile_does_not_take_its_place() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bKr", 1, "");
    let id = world.server(&invite, udp(), 1);
    reliable(&mut world, id, &invite, 183);
    world.pass_ms(100);
    world.respond(id, &invite, 180);
    // The INVITE again gets the most recent one (RFC 3261 §17.2.1); the timer repeats the reliable one.
    assert_eq!(world.arrives(&invite), Received::Absorbed);
    world.pass_ms(400);
    let lines = world.take();
    let lines: Vec<(u64, &str)> = (lines.iter().map(|(at, line)| (*at, line.as_str()))).collect();
    assert_eq!(
        lines,
        [(0, "183"), (100, "180"), (100, "180"), (500, "183")]
    );
}

#[test]
fn only_an_invite_in_proceeding_has_one() {
    let mut world = World::new();
    let bytes = request("UPDATE", "z9hG4bKr", 1, "");
    let id = world.server(&bytes, udp(), 1);
    reliable(&mut world, id, &bytes, 183);
    assert_eq!(world.take(), []);
    let invite = request("INVITE", "z9hG4bKs", 2, "");
    let id = world.server(&invite, udp(), 1);
    reliable(&mut world, id, &invite, 200);
    assert_eq!(world.take(), []);
}
