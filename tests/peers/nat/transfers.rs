//! Calls behind NATs that are put on hold, and sent on to somebody else.

use std::time::Duration;

use super::super::harness::Server;
use super::super::sipp::users;
use super::phone::{Kind, Phone, TONES, each_hears, none_hears};
use super::town::{Nat, Town, registered};

const USERS: [&str; 3] = ["100", "101", "102"];

/// Time to re-invite, and for what is on its way to be heard.
const SETTLED: Duration = Duration::from_millis(800);

/// baresip behind one NAT, PJSUA2 behind another one, Linphone without.
fn with_three(test: impl FnOnce([&mut Phone; 3]) + Send) {
    let town = Town::new();
    let (one, other) = (town.home(11, Nat::Keeps), town.home(12, Nat::Random));
    let places = [one.room(10), other.room(10), town.house(30)];
    town.enter(|| {
        let server = Server::start(Town::network(), &format!("\n{}", users(&USERS)));
        let kinds = [Kind::Baresip, Kind::Pjsua2, Kind::Linphone];
        let start = |at: usize| {
            let who = (USERS[at], TONES[at]);
            Phone::start(kinds[at], &server, &places[at], who).with_ear(&places[at])
        };
        let mut phones = [start(0), start(1), start(2)];
        registered(&server, &USERS);
        test(phones.each_mut());
    });
}

/// One calls the other, and both hear each other.
fn talk(caller: &mut Phone, callee: &mut Phone) {
    caller.dial(callee.user);
    caller.is_up();
    callee.is_up();
    both_hear(caller, callee);
}

#[track_caller]
fn both_hear(one: &mut Phone, other: &mut Phone) {
    std::thread::sleep(SETTLED);
    let tones = (one.tone, other.tone);
    each_hears(&mut [(one, tones.1), (other, tones.0)], 1_500);
}

/// Nothing is heard while one of them holds, and both hear each other afterwards.
#[track_caller]
fn hold(holder: &mut Phone, other: &mut Phone) {
    holder.hold();
    std::thread::sleep(SETTLED);
    none_hears(&mut [holder, other], 1_000);
    holder.resume();
    both_hear(holder, other);
}

fn over(phones: [&mut Phone; 2]) {
    let [one, other] = phones;
    one.hang_up();
    one.is_over();
    other.is_over();
}

#[test]
#[ignore = "needs root, baresip, Linphone and PJSUA2: tests/run peers"]
fn calls_are_held_and_sent_on_without_asking() {
    with_three(|[baresip, pjsua2, linphone]| {
        talk(baresip, pjsua2);
        hold(baresip, pjsua2);
        hold(pjsua2, baresip);
        baresip.transfer(linphone.user);
        linphone.is_up();
        baresip.is_over();
        both_hear(pjsua2, linphone);
        hold(linphone, pjsua2);
        linphone.transfer(baresip.user);
        baresip.is_up();
        linphone.is_over();
        both_hear(pjsua2, baresip);
        over([pjsua2, baresip]);
    });
}

#[test]
#[ignore = "needs root, baresip, Linphone and PJSUA2: tests/run peers"]
fn calls_are_sent_on_after_asking() {
    with_three(|[baresip, pjsua2, linphone]| {
        // From behind a NAT: one behind the other NAT is joined with one without.
        talk(baresip, pjsua2);
        pjsua2.hold();
        std::thread::sleep(SETTLED);
        pjsua2.consult(linphone.user);
        pjsua2.is_up();
        linphone.is_up();
        both_hear(pjsua2, linphone);
        pjsua2.join();
        pjsua2.is_over();
        pjsua2.is_over();
        both_hear(baresip, linphone);
        hold(baresip, linphone);
        over([linphone, baresip]);
        // Blindly too.
        talk(linphone, pjsua2);
        pjsua2.transfer(baresip.user);
        baresip.is_up();
        pjsua2.is_over();
        both_hear(linphone, baresip);
        over([baresip, linphone]);
    });
}
