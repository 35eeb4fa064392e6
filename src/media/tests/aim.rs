//! Where nothing is sent, whatever descriptions say, and what does not pass.

use super::*;

fn fax(address: &str) -> Stream {
    Stream {
        is_audio: false,
        is_rtp: false,
        ..stream(address)
    }
}

/// Where media for Alice goes if she says that she is there.
fn aim(text: &str, alice: Place, said: Stream) -> Option<SocketAddr> {
    let mut call = Call::begin(text, [alice, place(BOB, false)], true);
    call.say(Side::Caller, &[said], Exchange::Offer, 0);
    let bob = Stream {
        port: 5000,
        address: Some(host(BOB)),
        rtcp: None,
        ..said
    };
    call.say(Side::Callee, &[bob], Exchange::Answer, 0);
    call.hear(Side::Callee, Rtp, "198.51.100.20:5000", &rtp(1), 1)
}

#[test]
fn only_media_passes() {
    let sip = b"OPTIONS sip:x SIP/2.0\r\n";
    let mut call = Call::talk("");
    for packet in [
        &sip[..],
        b"",
        b"\r\n",
        b"\x04",
        b"\x0f",
        b"\x40",
        b"\x7f",
        b"\xc0",
    ] {
        for component in [Rtp, RtcpPort] {
            let to = call.hear(Side::Caller, component, "198.51.100.10:4000", packet, 1);
            assert_eq!(to, None, "{packet:?}");
        }
    }
    let mut call = Call::begin("", [place(ALICE, false), place(BOB, false)], true);
    call.agree(fax("198.51.100.10:4000"), fax("198.51.100.20:5000"));
    for (packet, passes) in [
        (&sip[..], false),
        (b"sip/2.0 200 OK\r\n", false),
        (b"xSiP/2.0", false),
        (b"IP/2.0", true),
        (b"/2.0", true),
        (b"\x50\x00", true),
        (b"", true),
    ] {
        let to = call.hear(Side::Caller, Rtp, "198.51.100.10:4000", packet, 1);
        assert_eq!(to.is_some(), passes, "{packet:?}");
    }
}

#[test]
fn nothing_is_sent_to_ports_of_servers() {
    for (port, is_right) in [
        (22, false),
        (1023, false),
        (1024, true),
        (5059, true),
        (5060, false),
        (5061, false),
        (5062, true),
    ] {
        let said = stream(&format!("203.0.113.5:{port}"));
        let to = aim("", place(ALICE, false), said);
        assert_eq!(to.is_some(), is_right, "{port}");
    }
    // Nor learned, nor for RTCP.
    let mut call = Call::talk("");
    let heard = call.hear(Side::Caller, Rtp, "198.51.100.10:5060", &rtp(1), 1);
    assert_eq!(heard, None);
    let next = Stream {
        rtcp: Some(Rtcp {
            port: 161,
            address: None,
        }),
        ..stream("198.51.100.20:5000")
    };
    call.say(Side::Callee, &[next], Exchange::Answer, 2);
    let rtcp = [0x80, 200, 0, 1, 0, 0, 0, 1];
    let to = call.hear(Side::Caller, RtcpPort, "198.51.100.10:4001", &rtcp, 3);
    assert_eq!(to, None);
}

#[test]
fn at_addresses_of_ours_only_media_ports_are_meant() {
    let text = "[server]\nlisten = udp:192.0.2.1:5070, udp:192.0.2.9:5070\npublic_address = 203.0.113.1\n\
        [media]\nports = 20000-29999\n";
    for own in ["192.0.2.1", "192.0.2.9", "203.0.113.1"] {
        for (port, is_right) in [
            (5070, false),
            (8080, false),
            (19_999, false),
            (30_000, false),
            (20_000, true),
        ] {
            let said = stream(&format!("{own}:{port}"));
            let to = aim(text, place(ALICE, false), said);
            // Without any NAT between.
            let here = is_right.then(|| address(&format!("192.0.2.1:{port}")));
            assert_eq!(to, here, "{own}:{port}");
        }
    }
    // A program that runs beside us.
    let beside = place("192.0.2.1", false);
    let to = |port| aim(text, beside, stream(&format!("192.0.2.1:{port}")));
    assert_eq!(to(8000), Some(address("192.0.2.1:8000")));
    assert_eq!(to(5070), None);
}

/// Two relays, each side of one naming a port of the other; `latch` is whom they hear.
fn chain(latch: &str, sides: [[Option<(usize, Side)>; 2]; 2]) -> (Media, [[MediaPair; 2]; 2]) {
    let mut media = media(&format!("[media]\nlatch = {latch}"));
    let mut out = Outputs::default();
    let ids = [0, 1].map(|_| media.begin(at(0), [place(ALICE, false), place(BOB, false)], true));
    let outside = [stream("198.51.100.10:4000"), stream("198.51.100.20:5000")];
    let mut say = |media: &mut Media, id, side, said: Stream, exchange| {
        let from = if side == Side::Caller { ALICE } else { BOB };
        (media.describe(at(0), id, (side, host(from)), &[said], exchange, &mut out)).unwrap();
        let shown = media.show(id, side, &[said], &mut out).unwrap().1;
        shown[0].unwrap()
    };
    // First all say that they are outside, so that there are ports; then where they are.
    let mut ports = [[0; 2]; 2];
    for (id, ports) in ids.into_iter().zip(&mut ports) {
        ports[1] = say(&mut media, id, Side::Caller, outside[0], Exchange::Offer);
        ports[0] = say(&mut media, id, Side::Callee, outside[1], Exchange::Answer);
    }
    let index = |side| usize::from(side == Side::Callee);
    for (id, sides) in ids.into_iter().zip(sides) {
        let said = [0, 1].map(|side| match sides[side] {
            Some((other, side)) => stream(&format!("192.0.2.1:{}", ports[other][index(side)])),
            None => outside[side],
        });
        say(&mut media, id, Side::Caller, said[0], Exchange::Offer);
        say(&mut media, id, Side::Callee, said[1], Exchange::Answer);
    }
    let find = |session: u32, side| {
        let mut pairs = media.pairs.iter();
        let found = pairs.find(|(_, owned)| owned.session == session && owned.side == side);
        MediaPair(found.unwrap().0 as u32)
    };
    let pairs = ids.map(|id| [Side::Caller, Side::Callee].map(|side| find(id.index, side)));
    (media, pairs)
}

/// How often a packet is sent until it has left us, and where it is then.
fn travel(media: &mut Media, from: SocketAddr, to: MediaPair) -> (usize, Option<SocketAddr>) {
    let (mut from, mut to) = (from, to);
    for count in 0..10 {
        let Some(way) = media.forward(at(1), (to, Rtp), from, &rtp(1)) else {
            return (count, None);
        };
        let port_of = |media: &Media, pair: MediaPair| {
            let owned = *media.pairs.get(pair.0 as usize).unwrap();
            let session = media.sessions.get(owned.session as usize).unwrap();
            session.clone().half_mut(0, owned.side).unwrap().port
        };
        from = SocketAddr::new(host("192.0.2.1"), port_of(media, way.pair).unwrap());
        let own = (media.pairs.iter()).map(|(pair, _)| MediaPair(pair as u32));
        let mut own = own.filter(|pair| port_of(media, *pair) == Some(way.remote.port()));
        match own.next().filter(|_| way.remote.ip() == host("192.0.2.1")) {
            Some(pair) => to = pair,
            None => return (count + 1, Some(way.remote)),
        }
    }
    panic!("it goes round");
}

#[test]
fn a_call_that_a_carrier_sends_back_to_us_has_media() {
    // The first call's callee and the second's caller are the carrier, which names our ports on both sides.
    let sides = [
        [None, Some((1, Side::Caller))],
        [Some((0, Side::Callee)), None],
    ];
    for latch in ["signalled", "any"] {
        let (mut media, pairs) = chain(latch, sides);
        let there = travel(&mut media, address("198.51.100.10:4000"), pairs[0][0]);
        assert_eq!(there, (2, Some(address("198.51.100.20:5000"))));
        let back = travel(&mut media, address("198.51.100.20:5000"), pairs[1][1]);
        assert_eq!(back, (2, Some(address("198.51.100.10:4000"))));
    }
}

#[test]
fn media_does_not_go_round_whatever_sides_name() {
    let places = [
        None,
        Some((0, Side::Caller)),
        Some((0, Side::Callee)),
        Some((1, Side::Caller)),
        Some((1, Side::Callee)),
    ];
    for latch in ["signalled", "any"] {
        for choice in 0..625 {
            let side = |place: usize| places[choice / 5usize.pow(place as u32) % 5];
            let sides = [[side(0), side(1)], [side(2), side(3)]];
            let (mut media, pairs) = chain(latch, sides);
            for from in ["198.51.100.10:4000", "198.51.100.20:5000"] {
                for pair in pairs.as_flattened() {
                    let (count, _) = travel(&mut media, address(from), *pair);
                    assert!(count <= 2, "{sides:?}");
                }
            }
        }
    }
}

#[test]
fn to_whoever_may_be_forged_only_a_few_packets_go_away_from_his_address() {
    let carrier = Place {
        trust: Trust::Bounded,
        ..place(ALICE, false)
    };
    let begin = |said: &str| {
        let mut call = Call::begin("", [carrier, place(BOB, false)], true);
        call.agree(stream(said), stream("198.51.100.20:5000"));
        call
    };
    let send = |call: &mut Call, ms| {
        let to = call.hear(Side::Callee, Rtp, "198.51.100.20:5000", &rtp(1), ms);
        to.is_some()
    };
    let mut call = begin("203.0.113.9:4000");
    let passed = (0..1_000).filter(|ms| send(&mut call, ms * 20)).count();
    assert_eq!(passed, 250);
    // What comes from there passes, and does not count.
    let heard = call.hear(Side::Caller, Rtp, "203.0.113.9:4000", &rtp(2), 21_000);
    assert!(heard.is_some());
    assert!(!send(&mut call, 21_001));
    // His ACK has come.
    call.media.open(at(22_000), call.id);
    assert!((0..1_000).all(|ms| send(&mut call, 22_000 + ms)));
    // To where his signalling comes from all of it goes.
    let mut call = begin("198.51.100.10:4000");
    assert!((0..2_000).all(|ms| send(&mut call, ms)));
    // All calls together have so many a second.
    let mut bounded = (0, 0);
    let taken = (0..5_000)
        .filter(|_| takes_one(&mut bounded, at(500)))
        .count();
    assert_eq!(taken, 1_000);
    assert!(takes_one(&mut bounded, at(1_000)));
}

#[test]
fn link_local_addresses_keep_their_link() {
    let near = Place {
        host: host("fe80::5"),
        local: host("fe80::1"),
        shown: host("fe80::1"),
        scope: 3,
        ..place(ALICE, false)
    };
    let mut call = Call::begin("", [near, place(BOB, false)], true);
    call.agree(stream("[fe80::5]:4000"), stream("198.51.100.20:5000"));
    let opened = call.out.iter().find_map(|output| match output {
        crate::action::Output::OpenMedia { address, .. } => {
            Some(address).filter(SocketAddr::is_ipv6)
        }
        _ => None,
    });
    let scope = |address| match address {
        Some(SocketAddr::V6(v6)) => v6.scope_id(),
        _ => 0,
    };
    assert_eq!(scope(opened), 3);
    let to = |call: &mut Call| call.hear(Side::Callee, Rtp, "198.51.100.20:5000", &rtp(1), 1);
    assert_eq!(scope(to(&mut call)), 3);
    let heard = call.hear(Side::Caller, Rtp, "[fe80::5%3]:4444", &rtp(1), 1);
    assert!(heard.is_some());
    let learned = to(&mut call);
    assert_eq!(
        (scope(learned), learned.map(|own| own.port())),
        (3, Some(4444))
    );
}
