//! What wakes a server that has nothing to do, on virtual time: ten hours, and a reason for each time that the core asked to be
//! woken. Whoever adds a timer that goes round by itself finds it here.

use std::net::SocketAddr;
use std::time::Duration;

use sipkeep::source::Transport;
use sipkeep::testing::fleet::{Fleet, Step, read};
use sipkeep::testing::network::Link;
use sipkeep::testing::phone::Phone;
use sipkeep::testing::random::Random;
use sipkeep::testing::world::World;

const HOURS: u64 = 10;
const TIME: Duration = Duration::from_secs(HOURS * 3_600);
/// Until what its start began is over.
const SETTLED: Duration = Duration::from_secs(120);

fn server() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 5060))
}

fn trunk() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 4], 5060))
}

/// A server with this in its file beside three users, a phone of the first of them, and whoever is at the trunk's address.
fn office(text: &str) -> Fleet {
    let text = format!(
        "[server]\nlisten = udp:192.0.2.1:5060\n[user 100]\npassword = Quiet-Phone-100\n[user 101]\npassword = Quiet-Phone-101\n\
         [user 102]\npassword = Quiet-Phone-102\n{text}"
    );
    let world = World::new(read(&text).unwrap(), server(), 1, Link::default());
    let random = Random::new(1);
    let phone = |user: &str, password: &str, address| {
        Phone::new(user, password, address, server(), Transport::Udp, &random)
    };
    let desk = SocketAddr::from(([192, 0, 2, 50], 5060));
    let phones = vec![
        phone("100", "Quiet-Phone-100", desk),
        phone("4930123456", "", trunk()),
    ];
    Fleet::new(world, phones)
}

/// How often the server is woken, and how many datagrams it sends, while time passes.
fn pass(fleet: &mut Fleet, time: Duration) -> (u64, u64) {
    let counts = |fleet: &Fleet| {
        let sent = fleet.world.received.values().map(|(_, count)| count);
        (fleet.world.wakes, sent.sum::<u64>())
    };
    let end = fleet.now().plus(time);
    let before = counts(fleet);
    while fleet.step(end) != Step::End {}
    let after = counts(fleet);
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn nothing_wakes_a_server_that_nobody_uses() {
    let mut fleet = office("[trunk carrier]\naddresses = 198.51.100.4\nkeepalive = 0\n");
    pass(&mut fleet, SETTLED);
    assert_eq!(pass(&mut fleet, TIME), (0, 0));
    assert_eq!(fleet.world.endpoint.next_deadline(), None);
}

#[test]
fn a_registered_phone_wakes_it_for_what_it_says_only() {
    let mut fleet = office(
        "[registrar]\nexpires_default = 1h\n[trunk carrier]\naddresses = 198.51.100.4\nkeepalive = 0\n",
    );
    fleet.register(0);
    pass(&mut fleet, SETTLED);
    let (wakes, refreshes) = pass(&mut fleet, TIME);
    // The phone refreshes every 200 to 300 s.
    assert!((120..=180).contains(&refreshes), "{refreshes}");
    // The answer to each is forgotten after 64·T1. And where a binding would have ended it is looked whether it was refreshed: no
    // sooner than an hour less 300 s after it was looked before.
    let looks = TIME.as_secs() / (3_600 - 300) + 1;
    let reasons = refreshes..=refreshes + looks;
    assert!(reasons.contains(&wakes), "{wakes}, not {reasons:?}");

    // It is switched off: its last answer is forgotten, its binding looked at once more and ended.
    fleet.turn_off();
    let (wakes, sent) = pass(&mut fleet, TIME);
    assert!(wakes <= 3 && sent == 0, "{wakes}, {sent}");
    assert_eq!(fleet.world.endpoint.census().bindings, 0);
    assert_eq!(fleet.world.endpoint.next_deadline(), None);
}

#[test]
fn a_trunk_wakes_it_for_its_questions_only() {
    let mut fleet = office("[trunk carrier]\naddresses = 198.51.100.4\nkeepalive = 30s\n");
    pass(&mut fleet, SETTLED);
    let (wakes, asked) = pass(&mut fleet, TIME);
    // A question about every 30 s, and the end of its transaction (Timer K).
    let every = TIME.as_secs() / 30;
    assert!(
        (every * 19 / 20..=every * 21 / 20).contains(&asked),
        "{asked}"
    );
    assert!(
        (2 * asked - 2..=2 * asked + 2).contains(&wakes),
        "{wakes}, {asked} asked"
    );

    // It is gone: each question is sent five times within 8 s (Timer E), then given up, and 30 s later there is the next.
    fleet.turn_off();
    pass(&mut fleet, SETTLED);
    let (wakes, sent) = pass(&mut fleet, TIME);
    let asked = sent.div_ceil(5);
    assert!((every * 30 / 39..=every).contains(&asked), "{asked}");
    assert!(wakes <= 6 * asked + 6, "{wakes}, {asked} asked");
}
