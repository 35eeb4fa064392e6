//! Calls between all places, in both directions, with sound both ways.

use std::time::Duration;

use serde_json::json;

use super::super::harness::{Server, assert_fields};
use super::super::sipp::users;
use super::phone::{Kind, Phone, TONES, each_hears};
use super::town::{Nat, Town, registered};

/// Two phones behind each NAT, at the same private addresses, and two without: three calls at a time, first one way, then
/// the other way, then within the places. A phone in a home and one without a NAT are on TCP.
#[test]
#[ignore = "needs root, baresip, Linphone and PJSUA2: tests/run peers"]
fn phones_in_all_places_hear_each_other() {
    const USERS: [&str; 6] = ["100", "101", "102", "103", "104", "105"];
    let town = Town::new();
    let (one, other) = (town.home(11, Nat::Keeps), town.home(12, Nat::Random));
    let rooms = [one.room(10), one.room(11), other.room(10), other.room(11)];
    let houses = [town.house(30), town.house(31)];
    let places: Vec<_> = rooms.iter().chain(&houses).collect();
    town.enter(|| {
        let server = Server::start(Town::network(), &format!("\n{}", users(&USERS)));
        let kinds = [
            Kind::Baresip,
            Kind::Pjsua2,
            Kind::Pjsua2,
            Kind::Linphone,
            Kind::Linphone,
            Kind::Baresip,
        ];
        let mut phones: Vec<Phone> = (0..6)
            .map(|at| {
                let who = (USERS[at], TONES[at]);
                let transport = if [1, 5].contains(&at) { "tcp" } else { "udp" };
                Phone::start_with(kinds[at], &server, places[at], who, (transport, true))
            })
            .collect();
        registered(&server, &USERS);
        let rounds = [
            [(0, 2), (3, 5), (4, 1)],
            [(2, 0), (5, 3), (1, 4)],
            [(0, 1), (2, 3), (4, 5)],
        ];
        for (number, round) in rounds.into_iter().enumerate() {
            for (caller, callee) in round {
                phones[caller].dial(USERS[callee]);
            }
            for phone in &mut phones {
                phone.is_up();
            }
            std::thread::sleep(Duration::from_millis(700));
            let mut hears = vec![0; 6];
            for (caller, callee) in round {
                hears[caller] = TONES[callee];
                hears[callee] = TONES[caller];
            }
            each_hears(&mut phones.iter_mut().zip(hears).collect::<Vec<_>>(), 2_000);
            for (caller, _) in round {
                phones[caller].hang_up();
            }
            for phone in &mut phones {
                phone.is_over();
            }
            for record in server.records(3 * (number + 1)) {
                assert_fields(
                    &record,
                    &[
                        ("disposition", json!("answered")),
                        ("ended_by", json!("caller")),
                    ],
                );
            }
        }
    });
}

/// After a power cut phones behind NATs are called before they have registered again: one that says in its Contact where it
/// is, and two that have learned from us where they seem to be.
#[test]
#[ignore = "needs root, baresip, Linphone and PJSUA2: tests/run peers"]
fn after_a_power_cut_phones_are_still_behind_their_nats() {
    const USERS: [&str; 4] = ["100", "101", "102", "103"];
    let town = Town::new();
    let (one, other) = (town.home(11, Nat::Keeps), town.home(12, Nat::Random));
    let places = [one.room(10), other.room(10), one.room(11), town.house(30)];
    let kinds = [Kind::Baresip, Kind::Pjsua2, Kind::Linphone, Kind::Baresip];
    town.enter(|| {
        let server = Server::start(Town::network(), &format!("\n{}", users(&USERS)));
        let start =
            |at: usize| Phone::start(kinds[at], &server, &places[at], (USERS[at], TONES[at]));
        let mut phones = [start(0), start(1), start(2), start(3)];
        registered(&server, &USERS);
        // What is written is on the disk a moment later.
        std::thread::sleep(Duration::from_secs(2));
        let (network, folder) = server.cut_power();
        let server = Server::start_in(network, folder);
        assert_eq!(server.registered(), USERS);
        let (caller, callees) = phones.split_last_mut().unwrap();
        for callee in callees {
            caller.dial(callee.user);
            callee.is_up();
            caller.is_up();
            std::thread::sleep(Duration::from_millis(700));
            let tones = (caller.tone, callee.tone);
            each_hears(&mut [(caller, tones.1), (callee, tones.0)], 1_000);
            caller.hang_up();
            caller.is_over();
            callee.is_over();
        }
    });
}
