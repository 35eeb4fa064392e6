//! A program for a group of UDP sockets on one port (`SO_REUSEPORT`, `SO_ATTACH_REUSEPORT_CBPF`): the packets of listed
//! peers go to the sockets of their lanes, all others to the strangers'.
//!
//! It reads the source address of the IP header and the source port behind it (RFC 768), over the options of IPv4. Whatever
//! is odd goes to the strangers: a fragment, another protocol than UDP, an IPv6 extension header, a packet that is too
//! short. The latter is why the strangers' socket is number 0: that is the result of a load that fails.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::drop::load_source;
use super::search::{Item, Targets, search};
use super::writer::{Place, Shared, Writer};
use super::{Family, Fitted, Instruction, SKF_NET_OFF, fit, op, word};

/// Number of the strangers' socket in its group: the one that was bound first.
pub const STRANGERS: u32 = 0;

/// A peer and its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Whose packets.
    pub address: IpAddr,
    /// So many bits of it count, the others are zero: fewer than all for a block, whose port does not count. Blocks do not
    /// overlap, and whatever else lies in one is part of it.
    pub bits: u8,
    /// `None`: whatever port they come from, unless another seat names just that one.
    pub port: Option<u16>,
    /// Number of the lane's socket in its group. One that is not below the group's size makes no seat.
    pub lane: u32,
}

/// The program for a group of so many `sockets` of `family` that knows the first of `seats`, as many as `room` holds
/// (counted as [`super::check::charge`] does). Of two for the same address and port the first holds. Seats of the other
/// family take no room. `None`: there is no room for any program.
pub fn program(family: Family, seats: &[Seat], sockets: u32, room: usize) -> Option<Fitted> {
    fit(seats.len(), room, |entries| {
        write(family, seats.get(..entries).unwrap_or_default(), sockets)
    })
}

/// Scratch memory of the source port; 1 to 3 hold words of the address.
const PORT: u32 = 4;
/// RFC 768.
const UDP: u32 = 17;

/// All seats of an address.
#[derive(Debug)]
struct Peer {
    address: u128,
    bits: u32,
    /// Sorted, each once.
    ports: Vec<(u16, u32)>,
    /// For all other ports.
    other: u32,
}

fn peers(family: Family, seats: &[Seat], sockets: u32) -> Vec<Peer> {
    // By address; of the same the widest first, then the one without a port.
    let mut lanes: BTreeMap<(u128, u32, Option<u16>), u32> = BTreeMap::new();
    for seat in seats.iter().filter(|seat| seat.lane < sockets) {
        if let Some(address) = family.bits(seat.address) {
            let bits = u32::from(seat.bits).min(32 * family.words());
            let port = seat.port.filter(|_| bits == 32 * family.words());
            lanes.entry((address, bits, port)).or_insert(seat.lane);
        }
    }
    let mut peers: Vec<Peer> = Vec::new();
    for ((address, bits, port), lane) in lanes {
        let is_within = |last: &Peer| {
            let other = (last.address ^ address).checked_shr(128 - last.bits);
            other.unwrap_or(0) == 0 && last.bits < bits
        };
        if peers.last().is_some_and(is_within) {
            continue;
        }
        if peers.last().is_none_or(|last| last.address != address) {
            peers.push(Peer {
                address,
                bits,
                ports: Vec::new(),
                other: STRANGERS,
            });
        }
        if let Some(last) = peers.last_mut() {
            match port {
                Some(port) => last.ports.push((port, lane)),
                None => last.other = lane,
            }
        }
    }
    peers
}

/// What a word of the source address means.
#[derive(Clone, Copy, Debug)]
enum Then<'a> {
    Peer(&'a Peer),
    /// The next word, number `at`, is to be searched among these.
    Next {
        at: u32,
        peers: &'a [Peer],
    },
}

/// Peers that are equal in the words before `at`, by word `at`.
fn items(peers: &[Peer], at: u32) -> Vec<Item<Then<'_>>> {
    peers
        .chunk_by(|one, other| word(one.address, at) == word(other.address, at))
        .filter_map(|run| {
            let peer = run.first()?;
            let value = word(peer.address, at);
            // Of a block that ends in this word all that its bits leave open.
            let rest = peer.bits.saturating_sub(32 * at);
            Some(Item {
                first: value,
                last: value | u32::MAX.checked_shr(rest).unwrap_or(0),
                then: if rest <= 32 {
                    Then::Peer(peer)
                } else {
                    Then::Next {
                        at: at + 1,
                        peers: run,
                    }
                },
            })
        })
        .collect()
}

/// The ports of a peer with their lanes, and the lane of all others.
type Ports<'a> = (&'a [(u16, u32)], u32);

/// Where the search for an address leads.
struct Addresses<'a> {
    lanes: Lanes,
    /// Searches for ports that are written already: telephones have the same port more often than not.
    written: BTreeMap<Ports<'a>, Place>,
}

/// How far a search that is written already may lie behind: conditional jumps reach it from anywhere in a leaf.
const REUSE_DISTANCE: usize = 150;

impl<'a> Targets<Then<'a>> for Addresses<'a> {
    fn place(&mut self, writer: &mut Writer, then: &Then<'a>) -> Place {
        match *then {
            Then::Next { at, peers } => {
                search(writer, &items(peers, at), self);
                writer.write(op::LOAD_MEMORY, at)
            }
            Then::Peer(peer) if peer.ports.is_empty() => self.lanes.get(peer.other).near(writer),
            Then::Peer(peer) => {
                let key = (peer.ports.as_slice(), peer.other);
                let near = |place: &&Place| writer.distance(**place) <= REUSE_DISTANCE;
                if let Some(place) = self.written.get(&key).filter(near) {
                    return *place;
                }
                let place = self.lanes.search_port(writer, peer);
                self.written.insert(key, place);
                place
            }
        }
    }

    fn is_long(&self, then: &Then<'a>) -> bool {
        !matches!(then, Then::Peer(peer) if peer.ports.is_empty())
    }

    fn otherwise(&mut self) -> &mut Shared {
        self.lanes.get(STRANGERS)
    }
}

/// Where the search for a port leads.
struct PortSearch<'a> {
    lanes: &'a mut Lanes,
    other: u32,
}

impl Targets<u32> for PortSearch<'_> {
    fn place(&mut self, writer: &mut Writer, lane: &u32) -> Place {
        self.lanes.get(*lane).near(writer)
    }

    fn is_long(&self, _: &u32) -> bool {
        false
    }

    fn otherwise(&mut self) -> &mut Shared {
        self.lanes.get(self.other)
    }
}

/// The program's results.
struct Lanes {
    strangers: Shared,
    others: BTreeMap<u32, Shared>,
    /// For each lane the place that compares A with the packet's port, in X: that lane if they are equal. Most peers have
    /// one port, and so it takes two instructions.
    compares: BTreeMap<u32, Place>,
}

impl Lanes {
    fn write(writer: &mut Writer, peers: &[Peer]) -> Self {
        let strangers = Shared::new(writer.write(op::RETURN, STRANGERS));
        let mut others = BTreeMap::new();
        let lanes = |peer: &Peer| -> Vec<u32> {
            let ports = peer.ports.iter().map(|(_, lane)| *lane);
            ports.chain([peer.other]).collect()
        };
        for lane in peers.iter().flat_map(lanes) {
            if lane != STRANGERS {
                others
                    .entry(lane)
                    .or_insert_with(|| Shared::new(writer.write(op::RETURN, lane)));
            }
        }
        let mut compares = BTreeMap::new();
        for (lane, result) in &others {
            writer.jump(strangers.far());
            let place = writer.branch(op::JUMP_EQUAL_X, 0, result.far());
            compares.insert(*lane, place);
        }
        Self {
            strangers,
            others,
            compares,
        }
    }

    /// Writes what finds the lane of a packet of this peer by its port.
    fn search_port(&mut self, writer: &mut Writer, peer: &Peer) -> Place {
        if let (&[(port, lane)], STRANGERS) = (peer.ports.as_slice(), peer.other) {
            writer.jump(
                self.compares
                    .get(&lane)
                    .copied()
                    .unwrap_or(self.strangers.far()),
            );
            return writer.write(op::LOAD_CONSTANT, port.into());
        }
        let item = |&(port, lane): &(u16, u32)| Item {
            first: port.into(),
            last: port.into(),
            then: lane,
        };
        let ports: Vec<Item<u32>> = peer.ports.iter().map(item).collect();
        let other = peer.other;
        search(writer, &ports, &mut PortSearch { lanes: self, other });
        writer.write(op::LOAD_MEMORY, PORT)
    }

    fn get(&mut self, lane: u32) -> &mut Shared {
        self.others.get_mut(&lane).unwrap_or(&mut self.strangers)
    }
}

fn write(family: Family, seats: &[Seat], sockets: u32) -> Vec<Instruction> {
    let peers = peers(family, seats, sockets);
    let mut writer = Writer::default();
    let lanes = Lanes::write(&mut writer, &peers);
    let strangers = lanes.strangers.far();
    let mut addresses = Addresses {
        lanes,
        written: BTreeMap::new(),
    };
    search(&mut writer, &items(&peers, 0), &mut addresses);
    load_source(&mut writer, family, family.words());
    writer.write(op::COPY_TO_X, 0);
    writer.write(op::STORE, PORT);
    match family {
        // RFC 791 §3.1: version and header length, flags and fragment offset (all but "don't fragment"), protocol.
        Family::V4 => {
            writer.write(op::LOAD_HALF_INDEXED, SKF_NET_OFF);
            writer.write(op::LOAD_X_HEADER_LENGTH, SKF_NET_OFF);
            writer.branch(op::JUMP_ANY_BIT, 0x3fff, strangers);
            writer.write(op::LOAD_HALF, SKF_NET_OFF + 6);
            writer.branch_unless(op::JUMP_EQUAL, UDP, strangers);
            writer.write(op::LOAD_BYTE, SKF_NET_OFF + 9);
            writer.branch(op::JUMP_GREATER, 0x4f, strangers);
            writer.branch_unless(op::JUMP_NOT_LESS, 0x45, strangers);
        }
        // RFC 8200 §3: version, next header.
        Family::V6 => {
            writer.write(op::LOAD_HALF, SKF_NET_OFF + 40);
            writer.branch_unless(op::JUMP_EQUAL, UDP, strangers);
            writer.write(op::LOAD_BYTE, SKF_NET_OFF + 6);
            writer.branch_unless(op::JUMP_EQUAL, 0x60, strangers);
            writer.write(op::AND, 0xf0);
        }
    }
    writer.write(op::LOAD_BYTE, SKF_NET_OFF);
    writer.finish()
}
