//! Fuzz body for the programs that are handed to the kernel: whatever list they are made from, they pass its check, keep to
//! their room and decide as a search from end to end does, for any packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bpf::check::{charge, check};
use crate::bpf::drop::{Sample, filter as drop_filter};
use crate::bpf::interpret::run;
use crate::bpf::steer::{STRANGERS, Seat, program};
use crate::bpf::{ACCEPT, DISCARD, Family, Fitted, INSTRUCTIONS_MAX};
use crate::config::Prefix;

/// Bytes one by one, and zeros behind their end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn half(&mut self) -> u16 {
        u16::from_be_bytes([self.next(), self.next()])
    }

    /// Of IPv6 addresses the fuzzer finds few that nest by chance: each half is of two bytes.
    fn address(&mut self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::from([self.next(), self.next(), self.next(), self.next()]),
            Family::V6 => {
                let mut segments = [0; 8];
                for at in [0, 1, 3, 7] {
                    segments[at] = self.half();
                }
                IpAddr::from(segments)
            }
        }
    }
}

/// Any bytes as two lists and the packets that are held against the programs made from them.
pub fn filter(data: &[u8]) {
    let mut bytes = Bytes(data);
    let flags = bytes.next();
    let family = [Family::V4, Family::V6][usize::from(flags & 1)];
    let sample = [Sample::Some, Sample::None][usize::from(flags >> 1 & 1)];
    let sockets = 1 + u32::from(flags >> 2 & 7);
    let room = usize::from(bytes.half()) % 8_192;
    let count = usize::from(bytes.next());
    let width = if family == Family::V4 { 32 } else { 128 };
    let mut prefixes = Vec::new();
    let mut seats = Vec::new();
    while prefixes.len() < count && !bytes.0.is_empty() {
        let length = bytes.next();
        let address = bytes.address(family);
        let bits = length % (width + 1);
        prefixes.push(Prefix {
            address: network(address, bits),
            bits,
        });
        let port = bytes.half();
        seats.push(Seat {
            // A block now and then.
            address: if port & 7 == 7 {
                network(address, bits)
            } else {
                address
            },
            bits: if port & 7 == 7 { bits } else { width },
            port: (port != 0).then_some(port),
            lane: u32::from(length) % 9,
        });
    }
    let packets: Vec<Vec<u8>> = bytes.0.chunks(60).map(<[u8]>::to_vec).collect();
    if let Some(fitted) = drop_filter(family, &prefixes, room, sample) {
        check_program(&fitted, room);
        let held = &prefixes[..fitted.entries];
        let edges = (prefixes.iter()).map(|prefix| header(family, prefix.address, 5060));
        for packet in edges.chain(packets.iter().cloned()) {
            let source = source(family, &packet);
            let is_held = |address| held.iter().any(|p| network(address, p.bits) == p.address);
            let passes = source.is_some_and(|address| !is_held(address));
            let (result, _) = run(&fitted.program, &packet, 1);
            if source.is_none() && family == Family::V6 {
                continue; // it may be decided by the first words of an address that is cut off
            }
            assert_eq!(result, if passes { ACCEPT } else { DISCARD }, "{source:?}");
        }
    }
    if let Some(fitted) = program(family, &seats, sockets, room) {
        check_program(&fitted, room);
        let seats = &seats[..fitted.entries];
        let edges =
            (seats.iter()).map(|seat| header(family, seat.address, seat.port.unwrap_or(5060)));
        for packet in edges.chain(packets) {
            let (result, _) = run(&fitted.program, &packet, 1);
            assert!(result < sockets, "beyond the group");
            assert_eq!(result, lane(family, seats, sockets, &packet));
        }
    }
}

fn check_program(fitted: &Fitted, room: usize) {
    assert_eq!(check(&fitted.program), Ok(()));
    assert!(charge(&fitted.program) <= room && fitted.program.len() <= INSTRUCTIONS_MAX);
}

/// The shortest packet from there.
fn header(family: Family, address: IpAddr, port: u16) -> Vec<u8> {
    let mut packet = vec![0; if family == Family::V4 { 20 } else { 40 }];
    match address {
        IpAddr::V4(v4) => {
            (packet[0], packet[9]) = (0x45, 17);
            packet[12..16].copy_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            (packet[0], packet[6]) = (0x60, 17);
            packet[8..24].copy_from_slice(&v6.octets());
        }
    }
    packet.extend(port.to_be_bytes());
    packet
}

/// Where a packet comes from; `None` if it is too short to tell.
fn source(family: Family, packet: &[u8]) -> Option<IpAddr> {
    match family {
        Family::V4 => {
            let octets: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        }
        Family::V6 => {
            let octets: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
    }
}

/// The lane of a packet as RFC 791, RFC 8200 and RFC 768 lay it out.
fn lane(family: Family, seats: &[Seat], sockets: u32, packet: &[u8]) -> u32 {
    let is_whole = match family {
        Family::V4 => {
            let fragment = packet.get(6..8).map(|half| [half[0] & 0x3f, half[1]]);
            matches!(packet.first(), Some(0x45..=0x4f))
                && packet.get(9) == Some(&17)
                && fragment == Some([0, 0])
        }
        Family::V6 => matches!(packet.first(), Some(0x60..=0x6f)) && packet.get(6) == Some(&17),
    };
    let behind = match family {
        Family::V4 => 4 * usize::from(packet.first().unwrap_or(&0) & 15),
        Family::V6 => 40,
    };
    let (Some(address), Some(port)) = (source(family, packet), packet.get(behind..behind + 2))
    else {
        return STRANGERS;
    };
    let port = u16::from_be_bytes([port[0], port[1]]);
    let width = if family == Family::V4 { 32 } else { 128 };
    let all = || seats.iter().filter(|seat| seat.lane < sockets);
    let of = |wanted: Option<u16>| {
        all().find(|seat| (seat.address, seat.bits, seat.port) == (address, width, wanted))
    };
    // Whatever lies in a block is part of it.
    let blocks = all().filter(|seat| seat.bits < width);
    let block = blocks
        .filter(|seat| network(address, seat.bits) == seat.address)
        .min_by_key(|seat| seat.bits);
    match block.or_else(|| of(Some(port))).or_else(|| of(None)) {
        Some(seat) if is_whole => seat.lane,
        _ => STRANGERS,
    }
}

/// The first address of the prefix that an address lies in.
pub(crate) fn network(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::random::Random;

    /// Bytes of few values, so that addresses nest, touch and are met by packets.
    #[test]
    fn body_holds_on_random_bytes() {
        let mut random = Random::new(11);
        for _ in 0..2_000 {
            let length = random.below(600) as usize;
            let values = [0, 1, 17, 0x20, 0x45, 0x60, 0x80, 0xff];
            let mut data: Vec<u8> = (0..length)
                .map(|_| match random.below(4) {
                    0 => random.next_u64() as u8,
                    _ => values[random.below(8) as usize],
                })
                .collect();
            // Few entries, so that packets are left.
            if let Some(count) = data.get_mut(3) {
                *count %= 40;
            }
            super::filter(&data);
        }
    }
}
