//! A stranger in the street who sends sound to the relay's ports, as if he were a party of the call.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::super::harness::Server;
use super::super::sipp::users;
use super::super::sound::{self, heard_ms, loudest};
use super::ear::Ear;
use super::phone::{Kind, Phone, TONES, each_hears, spectrum};
use super::town::{Nat, Place, Town, registered};

const USERS: [&str; 4] = ["100", "101", "102", "103"];

/// What the stranger says.
const HIS: u32 = TONES[6];

/// How often he sends each packet: more often than it takes to be taken for a party, before that one has sent as many.
const TIMES: u32 = 6;

/// Bytes of sound in a packet: 20 ms.
const PACKET: usize = 160;

/// The ports that the server in this street relays media at, by the kernel's own table.
fn relay_ports() -> Vec<u16> {
    let table = fs::read_to_string("/proc/thread-self/net/udp").unwrap();
    let locals = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(1));
    let ports = locals.filter_map(|local| u16::from_str_radix(local.split_once(':')?.1, 16).ok());
    ports
        .filter(|port| (16_384..32_768).contains(port))
        .collect()
}

/// His sound, encoded.
fn sound() -> Vec<u8> {
    let samples = sound::samples(&sound::tone(HIS));
    samples.into_iter().map(sound::mu_law).collect()
}

/// What the stranger is told.
#[derive(Default)]
struct Told {
    /// He sends to no port that he has not sent to before.
    learns_no_more: AtomicBool,
    stop: AtomicBool,
}

/// From now until he is told to stop he sends to each port, from the moment that it is open: RTP of payload type 0 to all of
/// them, one stream each. Returns how many packets he has sent to each.
fn disturb<'scope>(
    scope: &'scope Scope<'scope, '_>,
    place: &'scope Place,
    told: &'scope Told,
) -> ScopedJoinHandle<'scope, BTreeMap<u16, usize>> {
    let socket = place.enter(|| UdpSocket::bind((place.address, 4_000)).unwrap());
    let server = Town::network().server();
    let sound = sound();
    scope.spawn(move || {
        let mut sent: BTreeMap<u16, usize> = BTreeMap::new();
        let mut next: BTreeMap<u16, Instant> = BTreeMap::new();
        while !told.stop.load(Ordering::Relaxed) {
            for port in relay_ports() {
                if told.learns_no_more.load(Ordering::Relaxed) && !sent.contains_key(&port) {
                    continue;
                }
                let number = sent.entry(port).or_default();
                let at = next.entry(port).or_insert_with(Instant::now);
                if *at > Instant::now() {
                    continue;
                }
                *at += Duration::from_millis(20);
                let mut packet = vec![0x80, 0];
                packet.extend((*number as u16).to_be_bytes());
                packet.extend(((*number * PACKET) as u32).to_be_bytes());
                packet.extend(u32::from(port).to_be_bytes());
                let from = *number * PACKET % (sound.len() - PACKET);
                packet.extend(&sound[from..from + PACKET]);
                for _ in 0..TIMES {
                    // A port may have been closed meanwhile.
                    let _ = socket.send_to(&packet, (server, port));
                }
                *number += 1;
            }
            thread::sleep(Duration::from_millis(1));
        }
        sent
    })
}

/// Two calls, each between different NATs or a NAT and none, whose callees ring for a second. While they are up `listened` may
/// do so, with ears where the callers are. How many packets the stranger sent to each port.
fn calls_beside_a_stranger(
    latch: &str,
    listened: impl FnOnce(&mut [(&mut Phone, u32)], &[Ear]) + Send,
) -> BTreeMap<u16, usize> {
    let town = Town::new();
    let (one, other) = (town.home(11, Nat::Keeps), town.home(12, Nat::Random));
    let places = [one.room(10), other.room(10), town.house(30), one.room(11)];
    let stranger = town.house(66);
    let kinds = [Kind::Baresip, Kind::Pjsua2, Kind::Linphone, Kind::Pjsua2];
    let config = format!("\n{}[media]\nlatch = {latch}\n", users(&USERS));
    town.enter(|| {
        let server = Server::start(Town::network(), &config);
        let mut phones: Vec<Phone> = (0..4)
            .map(|at| {
                let who = (USERS[at], TONES[at]);
                Phone::start_with(kinds[at], &server, &places[at], who, ("udp", false))
            })
            .collect();
        registered(&server, &USERS);
        assert!(relay_ports().is_empty());
        let ears = [&places[0], &places[2]].map(Ear::at);
        let told = Told::default();
        thread::scope(|scope| {
            // He is at work before any of them has sent a packet, and until all is over.
            let disturbing = disturb(scope, &stranger, &told);
            let calls = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for (caller, callee) in [(0, 1), (2, 3)] {
                    phones[caller].dial(USERS[callee]);
                    phones[callee].rings();
                }
                assert!(!relay_ports().is_empty());
                thread::sleep(Duration::from_secs(1));
                let only_callees = latch == "any";
                told.learns_no_more.store(only_callees, Ordering::Relaxed);
                for callee in [1, 3] {
                    phones[callee].answer();
                }
                for phone in &mut phones {
                    phone.is_up();
                }
                let hears = [1, 0, 3, 2].map(|at| TONES[at]);
                let mut pairs: Vec<_> = phones.iter_mut().zip(hears).collect();
                listened(&mut pairs, &ears);
                for caller in [0, 2] {
                    phones[caller].hang_up();
                }
                for phone in &mut phones {
                    phone.is_over();
                }
            }));
            told.stop.store(true, Ordering::Relaxed);
            let sent = disturbing.join().unwrap();
            calls.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sent
        })
    })
}

/// All listen from the beginning of their calls.
fn listen(pairs: &mut [(&mut Phone, u32)]) -> Vec<Vec<i16>> {
    for (phone, _) in pairs.iter_mut() {
        phone.listen();
    }
    thread::sleep(Duration::from_secs(3));
    pairs.iter_mut().map(|(phone, _)| phone.heard()).collect()
}

#[test]
#[ignore = "needs root, baresip, Linphone and PJSUA2: tests/run peers"]
fn a_stranger_who_sends_from_the_first_moment_is_not_heard() {
    let sent = calls_beside_a_stranger("signalled", |pairs, _| {
        let heard = listen(pairs);
        for ((phone, tone), samples) in pairs.iter().zip(heard) {
            let (ms, his) = (heard_ms(&samples, *tone), loudest(&samples, HIS));
            assert!(
                ms >= 2_000 && his < 0.02,
                "{} hears {}",
                phone.user,
                spectrum(&samples)
            );
        }
        each_hears(pairs, 1_000);
    });
    // Four ports of each call, for RTP and for RTCP.
    assert_eq!(sent.len(), 8);
    let enough = sent.values().filter(|packets| **packets > 150).count();
    assert_eq!(enough, 8, "{sent:?}");
}

/// The other way round: where the configuration takes whoever comes first for the callee, it is he. So what he sends is sound,
/// and comes to the right ports.
#[test]
#[ignore = "needs root, baresip, Linphone and PJSUA2: tests/run peers"]
fn with_latch_any_the_same_stranger_is_heard() {
    calls_beside_a_stranger("any", |_, callers| {
        thread::sleep(Duration::from_secs(2));
        for ear in callers {
            let samples = ear.heard();
            assert!(heard_ms(&samples, HIS) > 1_000, "{}", spectrum(&samples));
        }
    });
}
