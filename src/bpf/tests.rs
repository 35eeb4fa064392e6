//! Programs against a search from end to end, on edges and at random; sizes, steps and what the kernel would say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::check::{charge, check};
use super::drop::{Sample, capacity, filter};
use super::interpret::run;
use super::steer::{STRANGERS, Seat};
use super::{ACCEPT, DISCARD, Family, INSTRUCTIONS_MAX, Instruction, steer};
use crate::config::Prefix;
use crate::testing::fuzz_filter::network;

/// Room for everything that a test makes.
const ROOM: usize = 16_384;
/// Not 0 in its lower ten bits: no sample passes.
const NO_SAMPLE: u32 = 0xffff_fc01;

/// Numbers without pattern, the same in each run (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// An address of few regions, so that blocks nest and touch.
    fn address(&mut self, family: Family, spread: u32) -> IpAddr {
        let wide = u128::from(self.next()) << 64 | u128::from(self.next());
        match family {
            Family::V4 => {
                let bits = (self.next() as u32).checked_shr(32 - spread).unwrap_or(0);
                let region = [0, 0x0a00_0000, 0x7fff_fff0, 0xc000_0200, u32::MAX - 40];
                Ipv4Addr::from_bits(region[self.below(5) as usize].wrapping_add(bits)).into()
            }
            Family::V6 => {
                let low = wide.checked_shr(128 - spread * 4).unwrap_or(0);
                let region = [
                    0,
                    0x2001_0db8 << 96,
                    0x2001_0db8_ffff_fff0_u128 << 64,
                    u128::MAX - 40,
                    0xfe80 << 112,
                ];
                Ipv6Addr::from_bits(region[self.below(5) as usize].wrapping_add(low)).into()
            }
        }
    }

    fn prefix(&mut self, family: Family, spread: u32) -> Prefix {
        let lengths: &[u8] = match family {
            Family::V4 => &[32, 32, 32, 31, 30, 24, 16, 8, 1],
            Family::V6 => &[128, 64, 64, 64, 63, 56, 48, 32, 20, 96, 127],
        };
        let bits = lengths[self.below(lengths.len() as u64) as usize];
        Prefix {
            address: network(self.address(family, spread), bits),
            bits,
        }
    }
}

fn last(prefix: Prefix) -> IpAddr {
    match prefix.address {
        IpAddr::V4(v4) => {
            let host = u32::MAX.checked_shr(prefix.bits.into()).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() | host).into()
        }
        IpAddr::V6(v6) => {
            let host = u128::MAX.checked_shr(prefix.bits.into()).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() | host).into()
        }
    }
}

/// The address so many behind this one.
fn beside(address: IpAddr, by: i32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits().wrapping_add_signed(by)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits().wrapping_add_signed(by.into())).into(),
    }
}

/// An IP packet with a UDP header, `options` words of IPv4 options between them.
fn packet(source: IpAddr, port: u16, options: usize) -> Vec<u8> {
    let mut packet = match source {
        IpAddr::V4(v4) => {
            let mut header = vec![0; 20 + 4 * options];
            header[0] = 0x45 + options as u8;
            header[9] = 17;
            header[12..16].copy_from_slice(&v4.octets());
            header
        }
        IpAddr::V6(v6) => {
            let mut header = vec![0; 40];
            header[0] = 0x60;
            header[6] = 17;
            header[8..24].copy_from_slice(&v6.octets());
            header
        }
    };
    packet.extend(port.to_be_bytes());
    packet.extend([0; 6]);
    packet
}

fn holds(prefix: Prefix, address: IpAddr) -> bool {
    address.is_ipv4() == prefix.address.is_ipv4() && network(address, prefix.bits) == prefix.address
}

fn decide(program: &[Instruction], source: IpAddr) -> u32 {
    run(program, &packet(source, 5060, 0), NO_SAMPLE).0
}

fn prefix(text: &str) -> Prefix {
    let (address, bits) = text.split_once('/').unwrap();
    Prefix {
        address: address.parse().unwrap(),
        bits: bits.parse().unwrap(),
    }
}

fn prefixes(texts: &[&str]) -> Vec<Prefix> {
    texts.iter().map(|text| prefix(text)).collect()
}

/// 400 lists, more than 10⁵ packets.
#[test]
fn filter_agrees_with_a_search_from_end_to_end() {
    let mut random = Random(1);
    let mut packets = 0;
    for round in 0..400 {
        let family = [Family::V4, Family::V6][round % 2];
        let count = 1 + random.below([4, 20, 300][round / 2 % 3]);
        let spread = 4 + random.below(29) as u32;
        let list: Vec<Prefix> = (0..count).map(|_| random.prefix(family, spread)).collect();
        let sample = [Sample::Some, Sample::None][round / 3 % 2];
        let fitted = filter(family, &list, ROOM, sample).unwrap();
        assert_eq!(fitted.entries, list.len());
        assert_eq!(check(&fitted.program), Ok(()));
        let edges = list.iter().take(60).flat_map(|prefix| {
            let (first, last) = (prefix.address, last(*prefix));
            [first, last, beside(first, -1), beside(last, 1)]
        });
        let others: Vec<IpAddr> = (0..100).map(|_| random.address(family, spread)).collect();
        for address in edges.chain(others) {
            let banned = list.iter().any(|prefix| holds(*prefix, address));
            let expected = if banned { DISCARD } else { ACCEPT };
            assert_eq!(
                decide(&fitted.program, address),
                expected,
                "{address} {list:?}"
            );
            packets += 1;
        }
    }
    assert!(packets > 60_000, "{packets}");
}

#[test]
fn ends_of_the_address_space() {
    let cases: [(&[&str], &[&str], &[&str]); 8] = [
        (
            &["0.0.0.0/0"],
            &["0.0.0.0", "255.255.255.255", "127.0.0.1"],
            &[],
        ),
        (&["::/0"], &["::", "ffff::1", "2001:db8::1"], &[]),
        (
            &["255.255.255.255/32"],
            &["255.255.255.255"],
            &["255.255.255.254", "0.0.0.0"],
        ),
        (&["0.0.0.0/32"], &["0.0.0.0"], &["0.0.0.1"]),
        (
            &["128.0.0.0/1"],
            &["128.0.0.0", "255.0.0.1"],
            &["127.255.255.255"],
        ),
        (
            &["2001:db8::5/128", "2001:db8::/65"],
            &["2001:db8::5", "2001:db8::7fff:0:0:0"],
            &["2001:db8::8000:0:0:0", "2001:db7:ffff::"],
        ),
        // Nested, and neighbours that are one block or none.
        (
            &[
                "10.0.0.0/8",
                "10.1.0.0/16",
                "11.0.0.0/8",
                "192.0.2.1/32",
                "192.0.2.2/32",
            ],
            &["10.1.2.3", "11.255.0.0", "192.0.2.1", "192.0.2.2"],
            &["9.255.255.255", "12.0.0.0", "192.0.2.0", "192.0.2.3"],
        ),
        (
            &["2001:db8::/48", "2001:db8:1::/56", "2001:db8:1:100::/64"],
            &["2001:db8::1", "2001:db8:1:ff::", "2001:db8:1:100::9"],
            &["2001:db8:1:101::", "2001:db8:2::"],
        ),
    ];
    for (list, inside, outside) in cases {
        let list = prefixes(list);
        let family = Family::of(list[0].address);
        let program = filter(family, &list, ROOM, Sample::None).unwrap().program;
        assert_eq!(check(&program), Ok(()));
        for (addresses, result) in [(inside, DISCARD), (outside, ACCEPT)] {
            for address in addresses {
                assert_eq!(
                    decide(&program, address.parse().unwrap()),
                    result,
                    "{address} {list:?}"
                );
            }
        }
    }
}

#[test]
fn one_datagram_in_1024_passes_and_no_handshake() {
    let list = prefixes(&["192.0.2.7/32"]);
    let banned = packet("192.0.2.7".parse().unwrap(), 5060, 0);
    let udp = filter(Family::V4, &list, ROOM, Sample::Some)
        .unwrap()
        .program;
    let tcp = filter(Family::V4, &list, ROOM, Sample::None)
        .unwrap()
        .program;
    let passed = |program: &[Instruction]| {
        (0..4 * 1024)
            .filter(|random| run(program, &banned, *random).0 == ACCEPT)
            .count()
    };
    assert_eq!((passed(&udp), passed(&tcp)), (4, 0));
}

/// A packet that is too short for its address is discarded, as the kernel does it.
#[test]
fn load_that_fails_discards() {
    let list = prefixes(&["192.0.2.7/32"]);
    let program = filter(Family::V4, &list, ROOM, Sample::None)
        .unwrap()
        .program;
    let other = packet("192.0.2.8".parse().unwrap(), 5060, 0);
    assert_eq!(run(&program, &other, 1).0, ACCEPT);
    assert_eq!(run(&program, &other[..15], 1).0, DISCARD);
}

#[test]
fn list_of_the_other_family_makes_no_filter() {
    let mixed = prefixes(&["2001:db8::/64", "192.0.2.7/32"]);
    assert_eq!(filter(Family::V4, &[], ROOM, Sample::None), None);
    assert_eq!(filter(Family::V4, &mixed[..1], ROOM, Sample::None), None);
    let v4 = filter(Family::V4, &mixed, ROOM, Sample::None).unwrap();
    assert_eq!(v4.entries, 2);
    assert_eq!(
        v4,
        filter(Family::V4, &mixed[1..], ROOM, Sample::None)
            .map(|fitted| super::Fitted {
                entries: 2,
                ..fitted
            })
            .unwrap()
    );
}

/// Scattered sources, the worst case.
fn scattered(family: Family, count: u32) -> Vec<Prefix> {
    let mut random = Random(7);
    (0..count)
        .map(|_| match family {
            Family::V4 => Prefix {
                address: Ipv4Addr::from_bits(random.next() as u32).into(),
                bits: 32,
            },
            Family::V6 => Prefix {
                address: network(
                    Ipv6Addr::from_bits(u128::from(random.next()) << 64).into(),
                    64,
                ),
                bits: 64,
            },
        })
        .collect()
}

/// Half of what an optmem_max of 20,480 or 131,072 bytes gives, in the kernel's instructions of 8 bytes.
const SMALL: usize = 20_480 / 2 / 8;
const LARGE: usize = 131_072 / 2 / 8;

#[test]
fn so_many_bans_fit_and_decide_in_so_many_steps() {
    for (family, room, least, steps_max) in [
        (Family::V4, SMALL, 700, 24),
        (Family::V4, LARGE, 3_000, 24),
        (Family::V6, SMALL, 200, 34),
        (Family::V6, LARGE, 1_000, 34),
    ] {
        let list = scattered(family, 5_000);
        let fitted = filter(family, &list, room, Sample::Some).unwrap();
        let capacity = capacity(family, room);
        assert!(
            fitted.entries >= least,
            "{family:?} {room}: {}",
            fitted.entries
        );
        assert!(capacity >= least, "{family:?} {room}: {capacity}");
        assert!(charge(&fitted.program) <= room && fitted.program.len() <= INSTRUCTIONS_MAX);
        for (at, prefix) in list.iter().enumerate() {
            let packet = packet(prefix.address, 5060, 0);
            let (result, steps) = run(&fitted.program, &packet, NO_SAMPLE);
            assert_eq!(result == DISCARD, at < fitted.entries);
            assert!(steps <= steps_max, "{steps}");
        }
        // One eighth more would not have fitted.
        let more = filter(family, &list[..fitted.entries * 8 / 7], ROOM, Sample::Some).unwrap();
        assert!(
            charge(&more.program) > room
                || more.program.len() > INSTRUCTIONS_MAX
                || more.entries < fitted.entries * 8 / 7
        );
    }
}

#[test]
fn no_room_is_no_filter() {
    let list = scattered(Family::V4, 3);
    assert_eq!(filter(Family::V4, &list, 20, Sample::Some), None);
    for room in 20..100 {
        if let Some(fitted) = filter(Family::V4, &list, room, Sample::Some) {
            assert!(charge(&fitted.program) <= room && fitted.entries > 0);
        }
    }
}

fn seat_block(seat: &Seat) -> Prefix {
    let Seat { address, bits, .. } = *seat;
    Prefix { address, bits }
}

fn lane_of(seats: &[Seat], sockets: u32, address: IpAddr, port: u16) -> u32 {
    let holds = |seat: &&Seat| {
        seat.lane < sockets && seat.bits < u8::MAX && {
            let Prefix { address: own, bits } = seat_block(seat);
            Prefix::around(address, bits).address == own
        }
    };
    // Of blocks in blocks the widest.
    if let Some(seat) = (seats.iter().filter(holds)).min_by_key(|seat| seat.bits) {
        return seat.lane;
    }
    let seats = || {
        seats
            .iter()
            .filter(|seat| seat.lane < sockets && seat.address == address && seat.bits == u8::MAX)
    };
    let exact = seats().find(|seat| seat.port == Some(port));
    exact
        .or_else(|| seats().find(|seat| seat.port.is_none()))
        .map_or(STRANGERS, |seat| seat.lane)
}

#[test]
fn steering_agrees_with_a_search_from_end_to_end() {
    let mut random = Random(3);
    let mut packets = 0;
    for round in 0..300 {
        let family = [Family::V4, Family::V6][round % 2];
        let sockets = 1 + random.below(5) as u32;
        let spread = 2 + random.below(31) as u32;
        let count = 1 + random.below([4, 40, 250][round / 2 % 3]);
        let seats: Vec<Seat> = (0..count)
            .map(|_| {
                let address = random.address(family, spread);
                let width = if family == Family::V4 { 32 } else { 128 };
                // A block now and then, of any length.
                let bits = match random.below(6) {
                    0 => random.below(width) as u8,
                    _ => u8::MAX,
                };
                (Prefix::around(address, bits.min(width as u8)).address, bits)
            })
            .collect::<Vec<_>>()
            .into_iter()
            .map(|(address, bits)| Seat {
                address,
                bits,
                port: [None, Some(5060), Some(5060), Some(random.next() as u16 | 1)]
                    [random.below(4) as usize],
                // One beyond the group now and then.
                lane: random.below(u64::from(sockets) + 1) as u32,
            })
            .collect();
        let fitted = steer::program(family, &seats, sockets, ROOM).unwrap();
        assert_eq!(
            (fitted.entries, check(&fitted.program)),
            (seats.len(), Ok(()))
        );
        for seat in &seats {
            for address in [seat.address, beside(seat.address, 1)] {
                for port in [seat.port.unwrap_or(9), 5060, 1, random.next() as u16] {
                    let options = random.below(11) as usize;
                    let mut bytes = packet(address, port, options);
                    let expected = lane_of(&seats, sockets, address, port);
                    assert_eq!(
                        run(&fitted.program, &bytes, 0).0,
                        expected,
                        "{address} {port} {seats:?}"
                    );
                    packets += 1;
                    match address {
                        IpAddr::V4(_) => bytes[6 + random.below(2) as usize] |= 0x20,
                        IpAddr::V6(_) => bytes[6] = 44,
                    }
                    assert_eq!(run(&fitted.program, &bytes, 0).0, STRANGERS, "a fragment");
                }
            }
        }
    }
    assert!(packets > 100_000, "{packets}");
}

#[test]
fn odd_packets_are_strangers() {
    for address in ["192.0.2.7", "2001:db8::7"] {
        let address: IpAddr = address.parse().unwrap();
        let seats = [Seat {
            address,
            bits: u8::MAX,
            port: Some(5060),
            lane: 1,
        }];
        let program = steer::program(Family::of(address), &seats, 2, ROOM)
            .unwrap()
            .program;
        let whole = packet(address, 5060, 0);
        assert_eq!(run(&program, &whole, 0).0, 1);
        let header = whole.len() - 8;
        for length in 0..header + 2 {
            assert_eq!(
                run(&program, &whole[..length], 0).0,
                STRANGERS,
                "{length} bytes"
            );
        }
        let protocol = if address.is_ipv4() { 9 } else { 6 };
        for (at, value) in [(protocol, 6), (0, 0x44), (0, 0x50), (0, 0x70)] {
            let mut odd = whole.clone();
            odd[at] = value;
            assert_eq!(run(&program, &odd, 0).0, STRANGERS, "{at}: {value:#x}");
        }
        // "Don't fragment" is usual.
        if address.is_ipv4() {
            let mut usual = whole.clone();
            usual[6] = 0x40;
            assert_eq!(run(&program, &usual, 0).0, 1);
        }
    }
}

#[test]
fn so_many_seats_fit() {
    let seats = |family, port: fn(usize) -> u16| -> Vec<Seat> {
        let list = scattered(family, 5_000);
        let seat = |(at, prefix): (usize, &Prefix)| Seat {
            address: prefix.address,
            bits: u8::MAX,
            port: Some(port(at)),
            lane: 1 + at as u32 % 2,
        };
        list.iter().enumerate().map(seat).collect()
    };
    // A group's program is charged alone.
    let small = 2 * SMALL;
    for (family, port, least) in [
        (Family::V4, (|_| 5060) as fn(usize) -> u16, 1_200),
        (Family::V4, |at| at as u16 ^ 0x8000, 630),
        (Family::V6, |at| at as u16, 150),
    ] {
        let seats = seats(family, port);
        let fitted = steer::program(family, &seats, 3, small).unwrap();
        assert!(fitted.entries >= least, "{family:?}: {}", fitted.entries);
        assert!(charge(&fitted.program) <= small);
        for (at, seat) in seats.iter().enumerate() {
            let bytes = packet(seat.address, seat.port.unwrap(), 0);
            let expected = if at < fitted.entries {
                seat.lane
            } else {
                STRANGERS
            };
            assert_eq!(run(&fitted.program, &bytes, 0).0, expected);
        }
    }
}
