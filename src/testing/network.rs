//! A network on virtual time: what is sent arrives later, twice, out of order or not at all, as one seed decides.
//!
//! Datagrams suffer all of it; a stream's bytes are only late, since TCP mends the rest. Nothing checks the source of a
//! datagram, so a forged one is simply sent.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::random::Random;
use crate::source::{ConnectionId, Over, SocketId};
use crate::time::Instant;

/// How the way between an address and the server treats datagrams. Chances are per mille.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Every packet takes this long ...
    pub delay: Duration,
    /// ... and up to this much longer, so that packets overtake each other.
    pub jitter: Duration,
    /// Lost.
    pub loss: u32,
    /// Delivered a second time, with a delay of its own.
    pub duplicate: u32,
    /// Held back for `hold`, so that what was sent after it arrives first.
    pub reorder: u32,
    /// See `reorder`.
    pub hold: Duration,
    /// A byte of it is another one when it arrives.
    pub corrupt: u32,
}

/// What travels.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Payload {
    /// A UDP datagram.
    Datagram(Vec<u8>),
    /// A connection was opened by its sender.
    Opened(ConnectionId),
    /// Bytes of a stream.
    Bytes(ConnectionId, Vec<u8>),
    /// A connection is gone.
    Closed(ConnectionId),
    /// A query to a name server.
    Query(SocketId, Over, Vec<u8>),
    /// What answers it; `None`: there is nobody.
    Answer(SocketId, Over, Option<Vec<u8>>),
}

impl Payload {
    fn is_datagram(&self) -> bool {
        match self {
            Self::Datagram(_) => true,
            Self::Query(_, over, _) | Self::Answer(_, over, _) => *over == Over::Udp,
            Self::Opened(_) | Self::Bytes(..) | Self::Closed(_) => false,
        }
    }
}

/// Something on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    /// Source address as the receiver sees it.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// What.
    pub payload: Payload,
}

/// The network.
#[derive(Clone, Debug)]
pub struct Network {
    random: Random,
    /// When each arrives; those of one moment in the order in which they were sent.
    under_way: BinaryHeap<Reverse<(Instant, u64, Packet)>>,
    sent: u64,
    link: Link,
    links: BTreeMap<IpAddr, Link>,
    /// Datagrams as they were before they were corrupted: whatever they belong to may go wrong.
    pub damaged: Vec<Vec<u8>>,
}

impl Network {
    /// Every way is `link` until [`Network::set_link`] says otherwise.
    pub fn new(random: Random, link: Link) -> Self {
        Self {
            random,
            under_way: BinaryHeap::new(),
            sent: 0,
            link,
            links: BTreeMap::new(),
            damaged: Vec::new(),
        }
    }

    /// The way of one address, both directions, from now on.
    pub fn set_link(&mut self, address: IpAddr, link: Link) {
        self.links.insert(address, link);
    }

    /// Every way that has none of its own is another one from now on.
    pub fn set_all(&mut self, link: Link) {
        self.link = link;
    }

    /// The way of an address.
    pub fn link(&self, address: IpAddr) -> Link {
        self.links.get(&address).copied().unwrap_or(self.link)
    }

    /// Packets that have been on their way so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends. `peer`: whose link it goes over, the end that is not the server.
    pub fn send(&mut self, now: Instant, peer: IpAddr, mut packet: Packet) {
        let link = self.link(peer);
        if !packet.payload.is_datagram() {
            self.put(now.plus(link.delay), packet);
            return;
        }
        if self.random.chance(link.loss) {
            return;
        }
        if self.random.chance(link.corrupt) {
            self.corrupt(&mut packet);
        }
        if self.random.chance(link.duplicate) {
            let at = self.arrival(now, link);
            self.put(at, packet.clone());
        }
        let at = self.arrival(now, link);
        self.put(at, packet);
    }

    /// What a checksum of 16 bits does not notice.
    fn corrupt(&mut self, packet: &mut Packet) {
        let Payload::Datagram(bytes) = &mut packet.payload else {
            return;
        };
        if bytes.is_empty() {
            return;
        }
        self.damaged.push(bytes.clone());
        let at = self.random.below(bytes.len() as u64) as usize;
        if self.random.chance(100) {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << self.random.below(8);
        }
    }

    fn arrival(&mut self, now: Instant, link: Link) -> Instant {
        let at = now.plus(link.delay).plus(self.random.up_to(link.jitter));
        if self.random.chance(link.reorder) {
            at.plus(link.hold)
        } else {
            at
        }
    }

    fn put(&mut self, at: Instant, packet: Packet) {
        self.sent += 1;
        self.under_way.push(Reverse((at, self.sent, packet)));
    }

    /// Nobody takes what arrives until then: its datagrams are lost.
    pub fn lose_until(&mut self, until: Instant) {
        (self.under_way)
            .retain(|Reverse((at, _, packet))| *at > until || !packet.payload.is_datagram());
    }

    /// The server's power went: its connections are gone, and what is on its way to it on them finds nobody, nor is any of
    /// them closed later. What it has sent itself still arrives.
    pub fn break_streams(&mut self, server: SocketAddr) {
        (self.under_way).retain(|Reverse((_, _, packet))| match packet.payload {
            Payload::Opened(_) | Payload::Closed(_) => false,
            Payload::Bytes(..) => packet.to != server,
            Payload::Datagram(_) | Payload::Query(..) | Payload::Answer(..) => true,
        });
    }

    /// When the next packet arrives.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse((at, _, _))| *at)
    }

    /// The next packet that has arrived by `now`.
    pub fn receive(&mut self, now: Instant) -> Option<Packet> {
        if self.next_arrival()? > now {
            return None;
        }
        self.under_way.pop().map(|Reverse((_, _, packet))| packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn packet(number: u8) -> Packet {
        let address = SocketAddr::new(ADDRESS, 5060);
        Packet {
            from: address,
            to: address,
            payload: Payload::Datagram(vec![number]),
        }
    }

    fn arrivals(link: Link, count: u8) -> Vec<(u64, u8)> {
        let mut network = Network::new(Random::new(3), link);
        for number in 0..count {
            network.send(
                Instant::from_micros(u64::from(number) * 1000),
                ADDRESS,
                packet(number),
            );
        }
        let mut arrived = Vec::new();
        while let Some(at) = network.next_arrival() {
            let Some(Packet {
                payload: Payload::Datagram(bytes),
                ..
            }) = network.receive(at)
            else {
                panic!("only datagrams were sent");
            };
            arrived.push((at.as_micros(), bytes[0]));
        }
        arrived
    }

    #[test]
    fn a_good_link_only_delays() {
        let link = Link {
            delay: Duration::from_millis(20),
            ..Link::default()
        };
        assert_eq!(arrivals(link, 3), [(20_000, 0), (21_000, 1), (22_000, 2)]);
    }

    #[test]
    fn a_bad_link_loses_doubles_and_reorders_the_same_way_each_time() {
        let link = Link {
            loss: 200,
            duplicate: 200,
            reorder: 200,
            hold: Duration::from_millis(50),
            jitter: Duration::from_millis(2),
            ..Link::default()
        };
        let seen = arrivals(link, 200);
        assert_eq!(seen, arrivals(link, 200));
        let times = |number| seen.iter().filter(|(_, own)| *own == number).count();
        assert!((0..200).any(|number| times(number) == 0), "some are lost");
        assert!((0..200).any(|number| times(number) == 2), "some come twice");
        assert!(
            seen.windows(2).any(|pair| pair[0].1 > pair[1].1),
            "some overtake"
        );
        assert!(
            seen.windows(2).all(|pair| pair[0].0 <= pair[1].0),
            "time does not run backwards"
        );
    }
}
