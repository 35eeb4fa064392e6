//! Which calls are relayed.

use super::*;

#[test]
fn calls_are_relayed_whose_sides_could_not_hear_each_other() {
    let near = "192.168.1.10";
    let said = |text: &str| vec![stream(text)];
    for (caller, callee, offer, expected) in [
        (
            place(ALICE, false),
            place(BOB, false),
            said("198.51.100.10:4000"),
            false,
        ),
        (place(ALICE, false), place(BOB, false), vec![], false),
        // Media elsewhere is no NAT.
        (
            place(ALICE, false),
            place(BOB, false),
            said("203.0.113.10:4000"),
            false,
        ),
        (
            place(ALICE, false),
            place(BOB, false),
            said("192.168.7.7:4000"),
            true,
        ),
        (
            place(ALICE, false),
            place(BOB, false),
            said("100.64.0.1:4000"),
            true,
        ),
        (
            place(ALICE, true),
            place(BOB, false),
            said("198.51.100.10:4000"),
            true,
        ),
        (
            place(ALICE, false),
            place(BOB, true),
            said("198.51.100.10:4000"),
            true,
        ),
        (
            place(near, false),
            place("10.1.1.1", false),
            said("192.168.1.10:4000"),
            false,
        ),
        (
            place(near, false),
            place("10.1.1.1", false),
            said("192.168.1.99:4000"),
            false,
        ),
        (
            place(near, false),
            place(BOB, false),
            said("192.168.1.10:4000"),
            true,
        ),
        (
            place(ALICE, false),
            place(near, false),
            said("198.51.100.10:4000"),
            true,
        ),
        (
            place(ALICE, false),
            place("2001:db8::9", false),
            vec![],
            true,
        ),
        (
            place("2001:db8::8", false),
            place("2001:db8::9", false),
            said("198.51.100.10:4"),
            true,
        ),
        (
            place("2001:db8::8", false),
            place("2001:db8::9", false),
            said("[2001:db8::8]:4"),
            false,
        ),
        // On hold from the start: the address says nothing.
        (
            place("2001:db8::8", false),
            place("2001:db8::9", false),
            said("0.0.0.0:4"),
            false,
        ),
    ] {
        let places = [caller, callee];
        let is = |text| media(text).is_needed(&places, &offer, Side::Caller);
        assert_eq!(is(""), expected, "{places:?} {offer:?}");
        assert!(is("[media]\nrelay = always"));
        assert!(!is("[media]\nrelay = never"));
    }
}
