//! Lanes on real sockets: who is received where, what a flood leaves of it, and that nobody's datagrams overtake each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::net::event_loop::{LANE_BATCH, STRANGERS_PART};
use crate::net::udp::GROUP;
use crate::source::Lane;

/// A socket at an address of 127.0.0.0/8 that sends to the server.
fn client(last: u8, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket.connect(server).unwrap();
    socket
}

fn place(socket: &UdpSocket, lane: Lane) -> Place {
    let local = socket.local_addr().unwrap();
    Place {
        address: local.ip(),
        bits: if local.is_ipv4() { 32 } else { 128 },
        port: Some(local.port()),
        lane,
    }
}

impl Bench {
    /// Changes who has a place; the programs are in force, and what comes is not read.
    fn steer(&mut self, places: Vec<Place>) {
        self.shell.core.places = places;
        self.shell.core.lane_changes += 1;
        self.shell.lanes.next_at = Instant::default();
        let Shell {
            lanes,
            clock,
            core,
            io,
            ..
        } = &mut self.shell;
        lanes.keep_up(clock.now(), clock, core, &mut io.udp);
    }

    /// The same, and nothing of the change is left to be waited for.
    fn steer_now(&mut self, places: Vec<Place>) {
        self.steer(places);
        self.settle();
    }

    /// Turns until no change of programs is left to be waited for.
    fn settle(&mut self) {
        self.run();
        while self.shell.lanes.is_swapping() {
            self.run();
        }
    }

    fn drops(&mut self, lane: Lane) -> u64 {
        let sockets = &mut self.shell.io.udp.sockets;
        let own = sockets.iter_mut().filter(|socket| socket.lane == lane);
        own.map(|socket| socket.drops()).sum()
    }

    /// Whether what `client` sends after `stranger` is handled before.
    fn is_before(&mut self, client: &UdpSocket, stranger: &UdpSocket) -> bool {
        let handled = self.shell.core.datagrams.len();
        stranger.send(b"s").unwrap();
        client.send(b"c").unwrap();
        while self.shell.core.payloads.len() < handled + 2 {
            self.shell.turn(&mut self.events, None).unwrap();
        }
        let payloads = &self.shell.core.payloads[handled..];
        payloads[0] == b"c"
    }

    fn numbers(&self) -> Vec<u32> {
        let number = |bytes: &Vec<u8>| u32::from_be_bytes(bytes[..4].try_into().unwrap());
        self.shell.core.payloads.iter().map(number).collect()
    }
}

/// Strangers have filled all the buffer that there is for them: nothing of a phone or a trunk is lost, and they come first.
#[test]
fn a_full_queue_of_strangers_costs_phones_and_trunks_nothing() {
    let mut bench = Bench::new();
    let (phone, trunk) = (client(9, bench.udp), client(10, bench.udp));
    let strangers: Vec<UdpSocket> = (1..5).map(|last| client(100 + last, bench.udp)).collect();
    let trunk_place = Place {
        port: None,
        ..place(&trunk, Lane::Peers)
    };
    bench.steer_now(vec![trunk_place, place(&phone, Lane::Phones)]);
    let mut sent = 0;
    while bench.drops(Lane::Strangers) == 0 {
        for stranger in &strangers {
            stranger.send(&[b's'; 1_000]).unwrap();
            sent += 1;
        }
        assert!(sent < 100_000, "no buffer is that large");
    }
    for _ in 0..20 {
        phone.send(b"phone").unwrap();
        trunk.send(b"trunk").unwrap();
    }
    bench.run();
    for (socket, text) in [(&phone, b"phone"), (&trunk, b"trunk")] {
        for _ in 0..20 {
            let mut bytes = [0; 10];
            assert_eq!(socket.recv(&mut bytes).unwrap(), 5);
            assert_eq!(&bytes[..5], text);
        }
    }
    let first: Vec<&[u8]> = bench.shell.core.payloads[..40]
        .iter()
        .map(Vec::as_slice)
        .collect();
    assert_eq!(first[..20], [&b"trunk"[..]; 20]);
    assert_eq!(first[20..], [&b"phone"[..]; 20]);
    assert!(bench.drops(Lane::Strangers) > 0);
    assert_eq!(
        (bench.drops(Lane::Phones), bench.drops(Lane::Peers)),
        (0, 0)
    );
}

/// A port counts where one is given: a neighbour behind the same NAT is a stranger. IPv6 has programs of its own.
#[test]
fn each_family_has_lanes() {
    let text = "[server]\nlisten = udp:127.0.0.1:5060, udp:[::1]:5060, tcp:127.0.0.1:5060\n[http]\nlisten =\n";
    let mut bench = Bench::with(text);
    let v6 = bench.shell.io.udp.sockets[GROUP.len()].local;
    let six = || {
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        socket.connect(v6).unwrap();
        socket
    };
    let (phone_6, other_6) = (six(), six());
    let (phone_4, other_4) = (client(9, bench.udp), client(9, bench.udp));
    bench.steer_now(vec![
        place(&phone_4, Lane::Phones),
        place(&phone_6, Lane::Peers),
    ]);
    for (socket, text) in [
        (&other_6, "s"),
        (&other_4, "s"),
        (&phone_4, "p"),
        (&phone_6, "t"),
    ] {
        socket.send(text.as_bytes()).unwrap();
    }
    bench.run();
    let order: Vec<&[u8]> = bench
        .shell
        .core
        .payloads
        .iter()
        .map(Vec::as_slice)
        .collect();
    assert_eq!(order, [&b"t"[..], b"p", b"s", b"s"]);
}

/// What a phone sent before it had a place is handled first, however much of others lies in between; the same when it
/// loses its place, and when a program changes while that of the phone does not, nothing of it waits.
#[test]
fn a_change_of_lanes_keeps_the_order() {
    let mut bench = Bench::new();
    let (phone, resident, stranger) = (
        client(9, bench.udp),
        client(10, bench.udp),
        client(11, bench.udp),
    );
    let (own, others) = (place(&phone, Lane::Phones), place(&resident, Lane::Phones));
    bench.steer_now(vec![others]);
    let mut number = 0u32;
    let mut send = |count: u32| {
        for _ in 0..count {
            phone.send(&number.to_be_bytes()).unwrap();
            stranger.send(&u32::MAX.to_be_bytes()).unwrap();
            number += 1;
        }
    };
    for places in [
        vec![own, others],
        vec![others],
        vec![own],
        vec![Place {
            lane: Lane::Peers,
            ..own
        }],
        vec![],
    ] {
        send(150);
        bench.steer(places);
        send(150);
        // Nobody else waits for the change: it is handled in the first turn.
        resident.send(&[0xff; 4]).unwrap();
        let handled = bench.shell.core.datagrams.len();
        bench.shell.turn(&mut bench.events, None).unwrap();
        let ports = bench.shell.core.datagrams[handled..]
            .iter()
            .map(|flow| flow.remote);
        let is_resident = |remote: SocketAddr| remote == resident.local_addr().unwrap();
        assert!(ports.into_iter().any(is_resident) || !bench.shell.core.places.contains(&others));
        bench.settle();
    }
    let numbers: Vec<u32> = bench
        .numbers()
        .into_iter()
        .filter(|number| *number != u32::MAX)
        .collect();
    let expected: Vec<u32> = (0..1_500).collect();
    assert_eq!(numbers, expected);
}

/// The same with a sender at work all the time, and many changes.
#[test]
fn order_is_kept_over_many_changes_of_lanes() {
    const CHANGES: usize = 100;
    let mut bench = Bench::new();
    let phone = client(9, bench.udp);
    let own = place(&phone, Lane::Phones);
    let is_over = Arc::new(AtomicBool::new(false));
    let sender = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            // A window, so that no queue overflows: each is answered.
            let (mut sent, mut answered) = (0u32, 0u32);
            let mut bytes = [0; 10];
            while !is_over.load(Ordering::Relaxed) || answered < sent {
                while sent - answered < 100 && !is_over.load(Ordering::Relaxed) {
                    phone.send(&sent.to_be_bytes()).unwrap();
                    sent += 1;
                }
                assert_eq!(phone.recv(&mut bytes).unwrap(), 4);
                answered += 1;
            }
            sent
        }
    });
    let lanes = [
        vec![own],
        vec![],
        vec![Place {
            lane: Lane::Peers,
            ..own
        }],
    ];
    for change in 0..CHANGES {
        bench.steer(lanes[change % lanes.len()].clone());
        let mut turns = 0;
        while turns < 20 || bench.shell.lanes.is_swapping() {
            bench
                .shell
                .turn(&mut bench.events, Some(Duration::from_millis(1)))
                .unwrap();
            turns += 1;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    while !sender.is_finished() {
        bench
            .shell
            .turn(&mut bench.events, Some(Duration::from_millis(1)))
            .unwrap();
    }
    let sent = sender.join().unwrap();
    let expected: Vec<u32> = (0..sent).collect();
    assert!(bench.numbers() == expected, "out of order");
    assert!(sent > CHANGES as u32);
    assert_eq!(bench.drops(Lane::Phones) + bench.drops(Lane::Strangers), 0);
}

/// Held back are only so many; what is too much is dropped and counted, and the order stays.
#[test]
fn what_is_held_back_is_bounded() {
    let mut bench = Bench::new();
    let phone = client(9, bench.udp);
    bench.steer_now(vec![]);
    bench.steer(vec![place(&phone, Lane::Phones)]);
    let count = limits::HELD_DATAGRAMS_MAX as u32 + 100;
    for number in 0..count {
        phone.send(&number.to_be_bytes()).unwrap();
        if number % 500 == 0 {
            bench
                .shell
                .turn(&mut bench.events, Some(Duration::ZERO))
                .unwrap();
        }
    }
    bench.settle();
    let numbers = bench.numbers();
    assert!(numbers.is_sorted());
    assert_eq!(
        numbers.len() as u64 + bench.drops(Lane::Phones),
        u64::from(count)
    );
}

/// A flood on one lane leaves the other lane and the strangers their share.
#[test]
fn a_flood_on_a_lane_starves_nobody() {
    let mut bench = Bench::new();
    let (trunk, phone, stranger) = (
        client(9, bench.udp),
        client(10, bench.udp),
        client(11, bench.udp),
    );
    bench.steer_now(vec![
        place(&trunk, Lane::Peers),
        place(&phone, Lane::Phones),
    ]);
    for _ in 0..2_000 {
        trunk.send(b"flood").unwrap();
    }
    for _ in 0..20 {
        phone.send(b"phone").unwrap();
        stranger.send(b"stranger").unwrap();
    }
    bench.run();
    let last = |text: &[u8]| {
        let payloads = &bench.shell.core.payloads;
        payloads
            .iter()
            .rposition(|payload| payload == text)
            .unwrap()
    };
    assert_eq!(last(b"phone"), LANE_BATCH + 19);
    // Between the parts of strangers the flood has a batch each time.
    let parts = 20usize.div_ceil(STRANGERS_PART);
    assert!(
        last(b"stranger") < (LANE_BATCH + STRANGERS_PART) * parts + 20,
        "{}",
        last(b"stranger")
    );
    assert_eq!(bench.shell.core.payloads.len(), 2_040);
}

/// How many datagrams of a batch of strangers' are handled before that of a phone which comes while the one of number `during` is;
/// all of them are.
fn handled_before_a_phone(payloads: [&[u8]; 64], during: usize) -> Option<usize> {
    let mut bench = Bench::new();
    let (phone, stranger) = (client(9, bench.udp), client(10, bench.udp));
    bench.steer_now(vec![place(&phone, Lane::Phones)]);
    for payload in payloads {
        stranger.send(payload).unwrap();
    }
    let phone_address = phone.local_addr().unwrap();
    bench.shell.core.on_datagram = Some(Box::new(move |number| {
        if number == during {
            phone.send(b"phone").unwrap();
        }
    }));
    bench.run();
    let datagrams = &bench.shell.core.datagrams;
    assert_eq!(datagrams.len(), 65);
    (datagrams.iter()).position(|flow| flow.remote == phone_address)
}

/// A phone's datagram that comes while a batch of strangers is being handled waits for a few of them only.
#[test]
fn a_phone_does_not_wait_for_a_batch_of_strangers() {
    let handled = handled_before_a_phone([b"stranger"; 64], 20);
    assert_eq!(handled, Some(24), "in parts of {STRANGERS_PART}");
}

/// What is discarded at once is quick: a part has no fewer of the others for it.
#[test]
fn what_is_discarded_makes_no_part_of_a_batch_shorter() {
    let mut payloads: [&[u8]; 64] = [b"stranger"; 64];
    payloads[..30].fill(b"banned");
    let handled = handled_before_a_phone(payloads, 4);
    assert_eq!(handled, Some(30 + STRANGERS_PART));
}

/// More have a right to a place than the kernel's memory has room for: the first of the list get one, and the others are
/// served among strangers.
#[test]
fn who_does_not_fit_is_served_among_strangers() {
    let mut bench = Bench::new();
    let clients: Vec<UdpSocket> = (1..=200).map(|last| client(last, bench.udp)).collect();
    let stranger = client(250, bench.udp);
    bench.shell.lanes.room = 512;
    bench.steer_now(
        clients
            .iter()
            .map(|client| place(client, Lane::Phones))
            .collect(),
    );
    let is_first: Vec<bool> = (clients.iter())
        .map(|client| bench.is_before(client, &stranger))
        .collect();
    let fitted = is_first.iter().filter(|is_first| **is_first).count();
    assert!((20..180).contains(&fitted), "{fitted}");
    assert!(is_first[..fitted].iter().all(|is_first| *is_first));
    let mut bytes = [0; 10];
    for client in &clients {
        assert_eq!(client.recv(&mut bytes).unwrap(), 1, "everyone is served");
    }
    // Somebody else was active last: he is to be asked for again, though nobody came or went.
    let number = bench.shell.core.lane_changes;
    assert!(
        bench
            .shell
            .lanes
            .next_deadline(&bench.shell.io.udp, number)
            .is_some()
    );
}

/// 200 phones that come back at once are a few programs, and everyone has a place in the end.
#[test]
fn a_storm_of_changes_is_few_programs() {
    let mut bench = Bench::new();
    bench.run();
    let clients: Vec<UdpSocket> = (1..=200).map(|last| client(last, bench.udp)).collect();
    let mut asked = Vec::new();
    let begun = bench.shell.now().mono;
    for client in &clients {
        bench
            .shell
            .core
            .places
            .insert(0, place(client, Lane::Phones));
        bench.shell.core.lane_changes += 1;
        client.send(b"x").unwrap();
        bench
            .shell
            .turn(&mut bench.events, Some(Duration::ZERO))
            .unwrap();
        if asked.last() != Some(&bench.shell.lanes.next_at) {
            asked.push(bench.shell.lanes.next_at);
        }
    }
    let quarters = bench.shell.now().mono.since(begun).as_millis() / 250;
    assert!(
        asked.len() as u128 <= quarters + 2,
        "{} in {quarters} quarters of a second",
        asked.len()
    );
    let end = bench.shell.now().mono.plus(Duration::from_millis(600));
    while bench.shell.now().mono < end {
        bench
            .shell
            .turn(&mut bench.events, Some(Duration::from_millis(50)))
            .unwrap();
    }
    let stranger = client(250, bench.udp);
    for client in &clients {
        assert!(bench.is_before(client, &stranger));
    }
}

/// Strangers' sockets wake nobody while a flood comes in that nobody answers; phones do, and strangers again afterwards.
#[test]
fn a_flood_is_read_later_and_a_phone_at_once() {
    let mut bench = Bench::new();
    let (flood, phone) = (client(2, bench.udp), client(3, bench.udp));
    bench.steer_now(vec![place(&phone, Lane::Phones)]);
    for _ in 0..10_000 {
        for _ in 0..20 {
            flood.send(b"silence").unwrap();
        }
        let longest = Some(Duration::from_millis(1));
        bench.shell.turn(&mut bench.events, longest).unwrap();
        if bench.shell.rest_until.is_some() {
            break;
        }
    }
    let far = bench.shell.now().mono.plus(Duration::from_secs(3600));
    assert!(bench.shell.rest_until.replace(far).is_some(), "never late");
    bench
        .shell
        .io
        .udp
        .sockets
        .iter_mut()
        .for_each(|socket| socket.readable = false);
    flood.send(b"later").unwrap();
    phone.send(b"at once").unwrap();
    bench.run();
    assert_eq!(bench.shell.core.payloads.last().unwrap(), b"at once");
    bench.shell.rest_until = Some(Instant::default());
    while bench.shell.rest_until.is_some() {
        bench.run();
    }
    assert_eq!(bench.shell.core.payloads.last().unwrap(), b"later");
    flood.send(b"calm").unwrap();
    bench.run();
    assert_eq!(bench.shell.core.payloads.last().unwrap(), b"calm");
}
