//! Which port is taken for a side's, and when for good.

use super::*;

/// Bob's media and where it goes: Alice has named port 4000, and sends from these.
fn after(call: &mut Call, packets: &[(u16, &[u8])]) -> u16 {
    for (port, packet) in packets {
        let from = format!("198.51.100.10:{port}");
        call.hear(Side::Caller, Rtp, &from, packet, 1);
    }
    let to = call.hear(Side::Callee, Rtp, "198.51.100.20:5000", &rtp(9), 2);
    to.unwrap().port()
}

#[test]
fn what_is_no_media_says_where_a_side_is_until_media_does() {
    let mut call = Call::talk("");
    let dtls: (u16, &[u8]) = (4001, b"\x16\xfe\xfd\x00");
    assert_eq!(after(&mut call, &[dtls; 9]), 4001);
    // It was not for good.
    assert_eq!(after(&mut call, &[(4002, &rtp(1))]), 4002);
    assert_eq!(after(&mut call, &[dtls; 9]), 4002);
    let media: (u16, &[u8]) = (4002, &rtp(1));
    assert_eq!(after(&mut call, &[media; 4]), 4002);
    assert_eq!(after(&mut call, &[(4003, &rtp(2))]), 4002);
}

#[test]
fn packets_of_several_ssrcs_are_counted_each() {
    let mut call = Call::talk("");
    let (audio, video) = (rtp(1), rtp(2));
    let both: [(u16, &[u8]); 2] = [(4001, &audio), (4001, &video)];
    for _ in 0..4 {
        assert_eq!(after(&mut call, &both), 4001);
        // A neighbour between.
        assert_eq!(after(&mut call, &[(4002, &rtp(3))]), 4002);
    }
    assert_eq!(after(&mut call, &both), 4001);
    assert_eq!(after(&mut call, &[(4002, &rtp(3))]), 4001);
    // Whoever has many SSRCs takes the places of those that come seldom, not of the one that is about to be it.
    let mut call = Call::talk("");
    for ssrc in 10..60 {
        after(&mut call, &[(4001, &audio), (4002, &rtp(ssrc))]);
    }
    assert_eq!(after(&mut call, &[(4002, &rtp(3))]), 4001);
}

#[test]
fn the_port_that_was_named_is_preferred() {
    let mut call = Call::talk("");
    assert_eq!(after(&mut call, &[(4001, &rtp(1))]), 4001);
    assert_eq!(after(&mut call, &[(4000, &rtp(1))]), 4000);
    let other: (u16, &[u8]) = (4001, &rtp(1));
    assert_eq!(after(&mut call, &[other; 20]), 4000);
}

#[test]
fn a_fax_has_no_ssrc_and_its_port_is_fixed_all_the_same() {
    let mut call = Call::begin("", [place(ALICE, false), place(BOB, false)], true);
    let fax = |address| Stream {
        is_audio: false,
        is_rtp: false,
        ..stream(address)
    };
    call.agree(fax("198.51.100.10:4000"), fax("198.51.100.20:5000"));
    let packet: (u16, &[u8]) = (4001, b"\x00\x01");
    assert_eq!(after(&mut call, &[packet; 5]), 4001);
    assert_eq!(after(&mut call, &[(4002, b"\x00\x01")]), 4001);
}
