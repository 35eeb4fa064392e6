//! NATs that forget within seconds.

use std::time::Duration;

use super::super::harness::Server;
use super::super::sipp::users;
use super::phone::{Kind, Phone, TONES, each_hears};
use super::town::{Nat, Town, registered};

/// After half a minute in which nobody has said anything calls come to phones whose NATs forget in five seconds; and when a
/// call was on hold for longer than that, both hear each other again.
#[test]
#[ignore = "needs root, baresip, Linphone and PJSUA2: tests/run peers"]
fn calls_arrive_after_a_long_silence() {
    const USERS: [&str; 4] = ["100", "101", "102", "103"];
    let town = Town::new();
    let homes = [town.home(11, Nat::Keeps), town.home(12, Nat::Random)];
    for home in &homes {
        home.forgets_after(5);
    }
    let places = [
        homes[0].room(10),
        homes[1].room(10),
        homes[1].room(11),
        town.house(30),
    ];
    let kinds = [Kind::Baresip, Kind::Pjsua2, Kind::Linphone, Kind::Baresip];
    town.enter(|| {
        let server = Server::start(Town::network(), &format!("\n{}", users(&USERS)));
        let start = |at: usize| {
            let who = (USERS[at], TONES[at]);
            Phone::start(kinds[at], &server, &places[at], who).with_ear(&places[at])
        };
        let mut phones = [start(0), start(1), start(2), start(3)];
        registered(&server, &USERS);
        std::thread::sleep(Duration::from_secs(30));
        let (caller, callees) = phones.split_last_mut().unwrap();
        for callee in callees {
            caller.dial(callee.user);
            callee.is_up();
            caller.is_up();
            let both_hear = |caller: &mut Phone, callee: &mut Phone| {
                std::thread::sleep(Duration::from_millis(700));
                let tones = (caller.tone, callee.tone);
                each_hears(&mut [(caller, tones.1), (callee, tones.0)], 1_000);
            };
            both_hear(caller, callee);
            if callee.user == "101" {
                callee.hold();
                std::thread::sleep(Duration::from_secs(8));
                callee.resume();
                both_hear(caller, callee);
            }
            caller.hang_up();
            caller.is_over();
            callee.is_over();
        }
    });
}
