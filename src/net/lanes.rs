//! Lanes: which sender's datagrams the kernel puts into which socket of a group, and that a sender's datagrams keep their
//! order when he changes from one to another.
//!
//! ```text
//!   endpoint: who has a place, whom before whom ──▶ bpf::steer ──▶ the kernel, for each group of sockets
//!                                                       │ what fits
//!                                                       ▼
//!                                       table: who has a place by the program in force
//! ```
//!
//! The endpoint says by a number that its list has changed; programs are made at once then, but not again within a quarter
//! of a second. Who does not fit is received among strangers.
//!
//! **Order.** What a phone has sent before it gets a place waits in the strangers' socket, what it sends afterwards in that
//! of its lane, which is read first. So a change of programs begins a *swap*: until each socket has been read as far as it was
//! filled then, a datagram that comes by another socket than its sender had before is held back; nobody else's is. It
//! is the same the other way round, when a registration ends. A datagram for which the kernel had chosen a socket when the
//! program changed, but which it had not put there yet, is waited for: a swap takes a few milliseconds at least.
//!
//! Not here: reading sockets (the loop), and what a datagram says.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use super::clock::Clock;
use super::core::Core;
use super::measure;
use super::sys;
use super::udp::{GROUP, UdpSocket, UdpSockets};
use crate::api::LaneStatus;
use crate::bpf::steer::{self, Seat};
use crate::bpf::{Family, Fitted};
use crate::config::Prefix;
use crate::limits::{HELD_BYTES_MAX, HELD_DATAGRAMS_MAX, LANE_PLACES_MAX};
use crate::source::{Flow, Lane, Place};
use crate::time::{Instant, Now};

/// Programs are made at most so often: 200 phones that come back at once are few programs, not 200.
const REBUILD_EVERY: Duration = Duration::from_millis(250);
/// When not all have a place, it is looked so often who was active last.
const REORDER_EVERY: Duration = Duration::from_secs(60);
/// The kernel has chosen a socket for a datagram and put it there within this time, on a processor that was taken away from us
/// meanwhile too.
const SWAP_MIN: Duration = Duration::from_millis(5);
/// Bytes of buffer that the smallest datagram takes, at least, on any kernel.
const DATAGRAM_BYTES_MIN: usize = 512;
/// Datagrams that may come to a socket between the change of programs and the look at what waits there.
const SWAP_SLACK: usize = 64;
/// Option memory that a kernel gives to a socket unless it says another number: before Linux 6.8.
const OPTION_BYTES_DEFAULT: usize = 20_480;
/// Bytes of one of the kernel's own instructions, which it charges for.
const INSTRUCTION_BYTES: usize = 8;
/// Below so much room there are no lanes.
const ROOM_MIN: usize = 128;

/// Who has a place.
#[derive(Default)]
struct Table {
    places: HashMap<(Prefix, Option<u16>), Lane>,
    /// Lengths of the blocks among them, IPv4's and IPv6's: a few.
    lengths: BTreeSet<(bool, u8)>,
}

impl Table {
    fn extend(&mut self, places: impl Iterator<Item = Place>) {
        for place in places {
            let block = block(&place);
            if block != Prefix::of(place.address) {
                self.lengths.insert((block.address.is_ipv4(), block.bits));
            }
            self.places.insert((block, place.port), place.lane);
        }
    }

    fn len(&self) -> usize {
        self.places.len()
    }

    fn has(&self, place: &Place) -> bool {
        self.places.get(&(block(place), place.port)) == Some(&place.lane)
    }

    /// Where a sender's datagrams come by the program that knows these.
    fn lane_of(&self, remote: SocketAddr) -> Lane {
        let address = Prefix::of(remote.ip());
        let family = self.lengths.iter();
        let lengths = family.filter(|(is_v4, _)| *is_v4 == address.address.is_ipv4());
        let blocks = lengths.map(|(_, bits)| (Prefix::around(remote.ip(), *bits), None));
        let exact = [(address, Some(remote.port())), (address, None)];
        let mut keys = blocks.chain(exact);
        keys.find_map(|key| self.places.get(&key).copied())
            .unwrap_or(Lane::Strangers)
    }
}

fn block(place: &Place) -> Prefix {
    Prefix {
        address: place.address,
        bits: place.bits,
    }
}

/// A change of programs whose datagrams from before may not all be read.
struct Swap {
    before: Table,
    at: Instant,
    /// Datagrams from before that may still wait in each socket.
    left: Vec<usize>,
    /// All sockets have been marked to be looked at.
    is_looked: bool,
}

/// Datagrams held back, in their order.
#[derive(Default)]
pub(super) struct Held {
    /// Flow, and where its bytes end.
    flows: Vec<(Flow, usize)>,
    bytes: Vec<u8>,
}

impl Held {
    /// False: there is no room.
    fn push(&mut self, flow: &Flow, bytes: &[u8]) -> bool {
        let has_room = self.flows.len() < HELD_DATAGRAMS_MAX
            && self.bytes.len() + bytes.len() <= HELD_BYTES_MAX;
        if has_room {
            self.bytes.extend_from_slice(bytes);
            self.flows.push((*flow, self.bytes.len()));
        }
        has_room
    }

    /// In the order in which they came.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (Flow, &[u8])> {
        let mut start = 0;
        self.flows.iter().map(move |(flow, end)| {
            let bytes = &self.bytes[start..*end];
            start = *end;
            (*flow, bytes)
        })
    }
}

/// See the module.
pub(super) struct Lanes {
    table: Table,
    swap: Option<Swap>,
    held: Held,
    /// The endpoint's number of the list that `table` was made from.
    seen: Option<u64>,
    /// Programs are not made before.
    pub(super) next_at: Instant,
    /// Not all have a place: time to ask again who was active last.
    reorder_at: Option<Instant>,
    /// What a program may take, as the kernel counts instructions.
    pub(super) room: usize,
    /// Senders that a program holds whatever their addresses are.
    capacity: usize,
    /// Datagrams for which any socket of the machine had no room when these were opened.
    full_buffers: Option<u64>,
}

impl Lanes {
    /// For these sockets.
    pub(super) fn new(udp: &UdpSockets) -> Self {
        let mut lanes = Self {
            table: Table::default(),
            swap: None,
            held: Held::default(),
            seen: None,
            next_at: Instant::default(),
            reorder_at: None,
            room: option_bytes() / INSTRUCTION_BYTES,
            capacity: 0,
            full_buffers: measure::full_buffers(),
        };
        lanes.capacity = lanes.measure(udp);
        lanes
    }

    /// Senders that have nothing in common and fit a program, in the family where these are fewest.
    fn measure(&self, udp: &UdpSockets) -> usize {
        let capacity = |family| {
            let seats: Vec<Seat> = (0..LANE_PLACES_MAX as u32)
                .map(|number| unlike(family, number))
                .collect();
            self.program(family, &seats)
                .map_or(0, |fitted| fitted.entries)
        };
        families(udp).map(capacity).min().unwrap_or(0)
    }

    fn program(&self, family: Family, seats: &[Seat]) -> Option<Fitted> {
        steer::program(family, seats, GROUP.len() as u32, self.room)
    }

    /// Whether datagrams from before the last change of programs may wait still.
    pub(super) fn is_swapping(&self) -> bool {
        self.swap.is_some()
    }

    /// When [`Self::keep_up`] has something to do; `changes` is the endpoint's number.
    pub(super) fn next_deadline(&self, udp: &UdpSockets, changes: u64) -> Option<Instant> {
        match &self.swap {
            _ if udp.groups.is_empty() => None,
            Some(swap) => (!swap.is_looked).then(|| swap.at.plus(SWAP_MIN)),
            None if self.seen != Some(changes) => Some(self.next_at),
            None => self.reorder_at,
        }
    }

    /// Makes programs anew when it is time to.
    pub(super) fn keep_up<C: Core>(
        &mut self,
        now: Now,
        clock: &Clock,
        core: &C,
        udp: &mut UdpSockets,
    ) {
        let changes = core.lane_changes();
        let is_due = |at: Instant| at <= now.mono;
        if !self.next_deadline(udp, changes).is_some_and(is_due) {
            return;
        }
        if let Some(swap) = &mut self.swap {
            // An empty socket makes no event: it is to be asked whether it is.
            swap.is_looked = true;
            for socket in &mut udp.sockets {
                socket.readable = true;
            }
            return;
        }
        self.seen = Some(changes);
        self.next_at = now.mono.plus(REBUILD_EVERY);
        let places = core.lane_places(now, (self.capacity * 2).min(LANE_PLACES_MAX));
        let is_same =
            places.len() == self.table.len() && (places.iter()).all(|place| self.table.has(place));
        if !is_same {
            let table = self.attach(&places, udp);
            // The time is read anew: making programs takes its own.
            self.begin_swap(clock.mono(), table, udp);
        }
        let is_full = self.table.len() < places.len();
        self.reorder_at = is_full.then(|| now.mono.plus(REORDER_EVERY));
    }

    /// Gives programs to the kernel. Who has a place by them.
    fn attach(&mut self, places: &[Place], udp: &UdpSockets) -> Table {
        let seats: Vec<Seat> = places.iter().map(seat).collect();
        let mut table = Table::default();
        for family in families(udp) {
            let entries = loop {
                let Some(fitted) = self
                    .program(family, &seats)
                    .filter(|_| self.room >= ROOM_MIN)
                else {
                    ::log::warn!("lanes: the kernel has no room for a program");
                    break 0;
                };
                match attach(family, &fitted, udp) {
                    Ok(()) => break fitted.entries,
                    Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => {
                        self.room /= 2;
                        self.capacity = self.measure(udp);
                    }
                    Err(error) => {
                        ::log::warn!("lanes: {error}");
                        break 0;
                    }
                }
            };
            let fitted = places.iter().take(entries);
            let own = fitted.filter(|place| Family::of(place.address) == family);
            table.extend(own.copied());
        }
        table
    }

    fn begin_swap(&mut self, at: Instant, table: Table, udp: &UdpSockets) {
        let left = |socket: &UdpSocket| {
            let bytes = sys::receive_queue(socket.as_fd()).map(|queue| queue.bytes);
            bytes.unwrap_or(socket.receive_buffer_bytes) / DATAGRAM_BYTES_MIN + SWAP_SLACK
        };
        self.swap = Some(Swap {
            left: udp.sockets.iter().map(left).collect(),
            before: std::mem::replace(&mut self.table, table),
            at,
            is_looked: false,
        });
    }

    /// Takes a received datagram if earlier ones from the same sender may wait in another socket. True: it is handled
    /// later, or there was no room for it.
    pub(super) fn hold(&mut self, socket: &mut UdpSocket, flow: &Flow, bytes: &[u8]) -> bool {
        let Some(swap) = &self.swap else { return false };
        if swap.before.lane_of(flow.remote) == socket.lane {
            return false;
        }
        if !self.held.push(flow, bytes) {
            socket.unheld += 1;
        }
        true
    }

    /// A batch of `received` was read from a socket and handled; `is_empty`: nothing waited there any more. Gives back what
    /// was held, to be handled before anything else is read, once the swap is over.
    pub(super) fn batch_done(
        &mut self,
        place: usize,
        received: usize,
        is_empty: bool,
        now: Instant,
    ) -> Option<Held> {
        let swap = self.swap.as_mut()?;
        let is_time = swap.at.plus(SWAP_MIN) <= now;
        let left = &mut swap.left[place];
        *left = left.saturating_sub(received);
        if is_empty && is_time {
            *left = 0;
        }
        if !is_time || swap.left.iter().any(|left| *left > 0) {
            return None;
        }
        self.swap = None;
        Some(std::mem::take(&mut self.held))
    }

    /// For `status`: the lanes in the order in which they are read.
    pub(super) fn status(&self, udp: &mut UdpSockets) -> Vec<LaneStatus> {
        let capacity = if udp.groups.is_empty() {
            0
        } else {
            self.capacity
        };
        let peers = (self.table.places.values())
            .filter(|lane| **lane == Lane::Peers)
            .count();
        let status = |lane: Lane| {
            let (name, capacity) = match lane {
                Lane::Peers => ("peers", capacity),
                Lane::Phones => ("phones", capacity.saturating_sub(peers)),
                Lane::Strangers => ("strangers", 0),
            };
            let own = udp.sockets.iter_mut().filter(|socket| socket.lane == lane);
            let (bytes, drops) = own.fold((0, 0), |(bytes, drops), socket| {
                (bytes + socket.receive_buffer_bytes, drops + socket.drops())
            });
            LaneStatus {
                name: name.to_owned(),
                capacity,
                receive_buffer_bytes: bytes,
                drops,
            }
        };
        let mut lanes: Vec<LaneStatus> = GROUP.iter().rev().copied().map(status).collect();
        if let [others @ .., strangers] = &mut lanes[..] {
            let others = others.iter().map(|lane| lane.drops).sum();
            let full = self.full_buffers.zip(measure::full_buffers());
            strangers.drops = lost_for_want_of_room(strangers.drops, full, others);
        }
        lanes
    }
}

/// What a filter discards the kernel counts as a drop of its socket, too. Filters are on strangers' sockets only, and no more
/// was lost there for want of room than the whole machine lost since the sockets were opened (`full`: then and now), less
/// what the `others` lost.
fn lost_for_want_of_room(drops: u64, full: Option<(u64, u64)>, others: u64) -> u64 {
    full.map_or(drops, |(before, now)| {
        drops.min(now.saturating_sub(before).saturating_sub(others))
    })
}

/// What the kernel charges at most for a program.
fn option_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/sys/net/core/optmem_max");
    let bytes = text.ok().and_then(|text| text.trim().parse().ok());
    bytes.unwrap_or(OPTION_BYTES_DEFAULT)
}

/// Families that have a group.
fn families(udp: &UdpSockets) -> impl Iterator<Item = Family> {
    let has = |family| {
        (udp.groups.iter()).any(|&first| Family::of(udp.sockets[first].local.ip()) == family)
    };
    [Family::V4, Family::V6]
        .into_iter()
        .filter(move |&family| has(family))
}

fn seat(place: &Place) -> Seat {
    let index = GROUP.iter().position(|lane| *lane == place.lane);
    Seat {
        address: place.address,
        bits: place.bits,
        port: place.port,
        lane: index.unwrap_or(0) as u32,
    }
}

/// A sender as different from those with other numbers as can be.
fn unlike(family: Family, number: u32) -> Seat {
    let spread = number.wrapping_mul(0x9e37_79b9);
    Seat {
        address: match family {
            Family::V4 => IpAddr::from(spread.to_be_bytes()),
            Family::V6 => {
                IpAddr::from((u128::from(spread) << 96 | u128::from(!spread)).to_be_bytes())
            }
        },
        bits: u8::MAX,
        port: Some(number as u16),
        lane: 1 + number % 2,
    }
}

/// Gives a program to all groups of a family.
fn attach(family: Family, fitted: &Fitted, udp: &UdpSockets) -> io::Result<()> {
    for &first in &udp.groups {
        let socket = &udp.sockets[first];
        if Family::of(socket.local.ip()) == family {
            sys::attach_reuseport_program(socket.as_fd(), &fitted.program)?;
        }
    }
    Ok(())
}

/// Lets the kernel put all datagrams of a group into the strangers' socket. Shows whether it takes programs at all.
///
/// # Errors
/// The kernel's.
pub(super) fn steer_to_strangers(socket: &UdpSocket) -> io::Result<()> {
    let family = Family::of(socket.local.ip());
    let fitted = steer::program(family, &[], GROUP.len() as u32, ROOM_MIN);
    let fitted = fitted.ok_or(io::ErrorKind::OutOfMemory)?;
    sys::attach_reuseport_program(socket.as_fd(), &fitted.program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_filter_discards_is_not_lost() {
        assert_eq!(lost_for_want_of_room(10_000, Some((50, 50)), 0), 0);
        assert_eq!(lost_for_want_of_room(10_000, Some((50, 90)), 15), 25);
        assert_eq!(lost_for_want_of_room(7, Some((50, 90)), 15), 7);
        assert_eq!(lost_for_want_of_room(7, None, 0), 7);
    }
}
