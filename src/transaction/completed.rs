//! Completed server transactions: no more than a key and the final response, in a ring of bytes.
//!
//! For 64·T1 (Timer J, or what is left of Timer L) a retransmitted request finds its answer here. The bytes lie in chunks
//! that are allocated as they are needed and go in the order in which they came, so that growing never copies what
//! is there. The oldest entry goes first, when its time is over or when the ring is full.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::key::ServerKey;
use crate::limits::{COMPLETED_BYTES_MAX, COMPLETED_CHUNK_BYTES, MESSAGE_BYTES_MAX};
use crate::source::{Flow, Transport};
use crate::time::Instant;

const CHUNKS_MAX: usize = COMPLETED_BYTES_MAX / COMPLETED_CHUNK_BYTES;
const _: () =
    assert!(COMPLETED_CHUNK_BYTES >= MESSAGE_BYTES_MAX + 2 * ADDRESS_BYTES_MAX && CHUNKS_MAX >= 2);
/// An IPv6 socket address as [`put_address`] writes it.
const ADDRESS_BYTES_MAX: usize = 1 + 16 + 2 + 4 + 4;

/// One completed transaction.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key: ServerKey,
    until: Instant,
    /// Number of its chunk, counted from the first there ever was.
    chunk: u64,
    offset: u32,
    /// Bytes of flow and response together; 0: nothing is sent again.
    length: u32,
}

/// The ring.
#[derive(Clone)]
pub(super) struct Completed {
    entries: VecDeque<Entry>,
    pub(super) entries_max: usize,
    /// Number of the entry at the front, counted from the first there ever was.
    first: u64,
    chunks: VecDeque<Vec<u8>>,
    first_chunk: u64,
    /// A chunk for reuse, so that a steady load allocates nothing.
    spare: Option<Vec<u8>>,
}

/// What a retransmitted request gets.
pub(super) enum Kept<'a> {
    /// This response, this way.
    Response(Flow, &'a [u8]),
    /// Silence.
    Nothing,
}

impl Completed {
    pub fn new(entries_max: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            entries_max,
            first: 0,
            chunks: VecDeque::new(),
            first_chunk: 0,
            spare: None,
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes allocated for responses.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        (self.chunks.len() + usize::from(self.spare.is_some())) * COMPLETED_CHUNK_BYTES
    }

    /// When the oldest is to be forgotten.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.entries.front().map(|entry| entry.until)
    }

    /// Keeps `bytes` for a datagram's sender; an empty response is kept as silence. Returns the entry's number, or
    /// `None` if nothing is kept at all. `evicted` is told the entries that have to go for it.
    pub fn push(
        &mut self,
        key: ServerKey,
        until: Instant,
        flow: &Flow,
        bytes: &[u8],
        mut evicted: impl FnMut(ServerKey, u64),
    ) -> Option<u64> {
        if self.entries_max == 0 || bytes.len() > MESSAGE_BYTES_MAX {
            return None;
        }
        while self.entries.len() >= self.entries_max {
            self.evict(&mut evicted);
        }
        let needed = if bytes.is_empty() {
            0
        } else {
            bytes.len() + 2 * ADDRESS_BYTES_MAX
        };
        let fits = |chunk: &Vec<u8>| COMPLETED_CHUNK_BYTES - chunk.len() >= needed;
        if !self.chunks.back().is_some_and(fits) {
            while self.chunks.len() >= CHUNKS_MAX {
                self.evict(&mut evicted);
            }
            let chunk = self
                .spare
                .take()
                .unwrap_or_else(|| Vec::with_capacity(COMPLETED_CHUNK_BYTES));
            self.chunks.push_back(chunk);
        }
        let chunk_number = self.first_chunk + self.chunks.len() as u64 - 1;
        let chunk = self.chunks.back_mut()?;
        let offset = chunk.len();
        if !bytes.is_empty() {
            put_address(flow.local, chunk);
            put_address(flow.remote, chunk);
            chunk.extend_from_slice(bytes);
        }
        let length = (chunk.len() - offset) as u32;
        let entry = Entry {
            key,
            until,
            chunk: chunk_number,
            offset: offset as u32,
            length,
        };
        self.entries.push_back(entry);
        Some(self.first + self.entries.len() as u64 - 1)
    }

    /// What is kept under this number; `None` when its time is over.
    pub fn get(&self, now: Instant, number: u64) -> Option<Kept<'_>> {
        let entry = self
            .entries
            .get(usize::try_from(number.checked_sub(self.first)?).ok()?)?;
        if entry.until <= now {
            return None;
        }
        if entry.length == 0 {
            return Some(Kept::Nothing);
        }
        let chunk = self
            .chunks
            .get(usize::try_from(entry.chunk - self.first_chunk).ok()?)?;
        let mut bytes = chunk
            .get(entry.offset as usize..)?
            .get(..entry.length as usize)?;
        let local = take_address(&mut bytes)?;
        let remote = take_address(&mut bytes)?;
        let flow = Flow {
            transport: Transport::Udp,
            local,
            remote,
            connection: None,
        };
        Some(Kept::Response(flow, bytes))
    }

    /// Forgets what is over; `forgotten` is told each entry.
    pub fn expire(&mut self, now: Instant, mut forgotten: impl FnMut(ServerKey, u64)) {
        while self.entries.front().is_some_and(|entry| entry.until <= now) {
            self.evict(&mut forgotten);
        }
    }

    /// Takes the oldest entry out, and the chunks before the one that is the oldest then.
    fn evict(&mut self, evicted: &mut impl FnMut(ServerKey, u64)) {
        if let Some(entry) = self.entries.pop_front() {
            evicted(entry.key, self.first);
            self.first += 1;
        }
        let end = self.first_chunk + self.chunks.len() as u64;
        let keep_from = self.entries.front().map_or(end, |entry| entry.chunk);
        while self.first_chunk < keep_from {
            if let Some(mut chunk) = self.chunks.pop_front() {
                chunk.clear();
                self.spare.get_or_insert(chunk);
            }
            self.first_chunk += 1;
        }
    }
}

/// Writes a socket address in 7 or 27 bytes: a `Flow` would take as much as a quarter of a response.
fn put_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address {
        SocketAddr::V4(v4) => {
            out.push(4);
            out.extend_from_slice(&v4.ip().octets());
            out.extend_from_slice(&v4.port().to_be_bytes());
        }
        SocketAddr::V6(v6) => {
            out.push(6);
            out.extend_from_slice(&v6.ip().octets());
            out.extend_from_slice(&v6.port().to_be_bytes());
            out.extend_from_slice(&v6.flowinfo().to_be_bytes());
            out.extend_from_slice(&v6.scope_id().to_be_bytes());
        }
    }
}

/// Reads what [`put_address`] wrote.
fn take_address(bytes: &mut &[u8]) -> Option<SocketAddr> {
    let (family, rest) = bytes.split_first()?;
    *bytes = rest;
    if *family == 4 {
        let ip = Ipv4Addr::from(take::<4>(bytes)?);
        let port = u16::from_be_bytes(take(bytes)?);
        return Some(SocketAddrV4::new(ip, port).into());
    }
    let ip = Ipv6Addr::from(take::<16>(bytes)?);
    let port = u16::from_be_bytes(take(bytes)?);
    let flowinfo = u32::from_be_bytes(take(bytes)?);
    let scope = u32::from_be_bytes(take(bytes)?);
    Some(SocketAddrV6::new(ip, port, flowinfo, scope).into())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flow(port: u16) -> Flow {
        let remote = match port % 2 {
            0 => SocketAddr::from(([192, 0, 2, 1], port)),
            _ => SocketAddrV6::new("fe80::1".parse().unwrap(), port, 0, 3).into(),
        };
        let local = SocketAddr::from(([192, 0, 2, 9], 5060));
        Flow {
            transport: Transport::Udp,
            local,
            remote,
            connection: None,
        }
    }

    fn seconds(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn responses_come_back_until_their_time_is_over() {
        let mut ring = Completed::new(10);
        let never = |_, _| panic!("nothing is evicted");
        let one = ring.push(ServerKey::made_up(1), seconds(32), &flow(2), b"one", never);
        let two = ring.push(ServerKey::made_up(2), seconds(33), &flow(3), b"", never);
        let three = ring.push(
            ServerKey::made_up(3),
            seconds(34),
            &flow(5),
            b"three",
            never,
        );
        let (one, two, three) = (one.unwrap(), two.unwrap(), three.unwrap());
        let Some(Kept::Response(to, bytes)) = ring.get(seconds(31), one) else {
            panic!()
        };
        assert_eq!((to, bytes), (flow(2), &b"one"[..]));
        assert!(matches!(ring.get(seconds(31), two), Some(Kept::Nothing)));
        let Some(Kept::Response(to, bytes)) = ring.get(seconds(31), three) else {
            panic!()
        };
        assert_eq!((to, bytes), (flow(5), &b"three"[..]));
        assert!(ring.get(seconds(32), one).is_none());
        assert_eq!(ring.next_deadline(), Some(seconds(32)));
        let mut gone = Vec::new();
        ring.expire(seconds(33), |key, number| gone.push((key, number)));
        assert_eq!(
            gone,
            [(ServerKey::made_up(1), one), (ServerKey::made_up(2), two)]
        );
        assert!(ring.get(seconds(31), one).is_none());
        assert_eq!(ring.len(), 1);
    }

    #[test]
    fn full_of_bytes_the_oldest_go() {
        let mut ring = Completed::new(usize::MAX);
        let long = vec![b'x'; MESSAGE_BYTES_MAX];
        let mut gone = 0;
        for number in 0..1000 {
            let key = ServerKey::made_up(number);
            ring.push(key, seconds(32), &flow(1), &long, |_, _| gone += 1)
                .unwrap();
            assert!(ring.bytes() <= COMPLETED_BYTES_MAX + COMPLETED_CHUNK_BYTES);
        }
        assert_eq!(ring.len() as u64, 1000 - gone);
        assert!(ring.len() > 200);
        ring.expire(seconds(32), |_, _| ());
        assert_eq!((ring.len(), ring.bytes()), (0, COMPLETED_CHUNK_BYTES));
        assert!(
            ring.push(
                ServerKey::made_up(1),
                seconds(1),
                &flow(1),
                &[0; 70_000],
                |_, _| ()
            )
            .is_none()
        );
    }

    proptest! {
        /// Whatever is pushed and forgotten, what is left is the newest, byte for byte.
        #[test]
        fn behaves_as_a_queue(
            entries_max in 0usize..40,
            lengths in prop::collection::vec(prop_oneof![Just(0usize), 1usize..700, 40_000usize..65_536], 0..80),
            step in 0u64..4,
        ) {
            let mut ring = Completed::new(entries_max);
            let mut model: VecDeque<(u64, usize, Instant)> = VecDeque::new();
            for (number, length) in lengths.into_iter().enumerate() {
                let now = seconds(number as u64 * step);
                let until = now.plus(std::time::Duration::from_secs(32));
                let mut gone = Vec::new();
                ring.expire(now, |_, number| gone.push(number));
                let bytes = vec![number as u8; length];
                let key = ServerKey::made_up(number as u64);
                let pushed = ring.push(key, until, &flow(number as u16), &bytes, |_, number| gone.push(number));
                for number in gone {
                    prop_assert_eq!(model.pop_front().map(|entry| entry.0), Some(number));
                }
                prop_assert_eq!(pushed.is_some(), entries_max > 0);
                if let Some(number) = pushed {
                    model.push_back((number, length, until));
                }
                prop_assert_eq!(ring.len(), model.len());
                prop_assert!(ring.len() <= entries_max);
                for &(number, length, until) in &model {
                    prop_assert!(until > now);
                    match ring.get(now, number) {
                        Some(Kept::Nothing) => prop_assert_eq!(length, 0),
                        Some(Kept::Response(to, bytes)) => {
                            prop_assert_eq!(to, flow(number as u16));
                            prop_assert_eq!(bytes, vec![number as u8; length]);
                        }
                        None => prop_assert!(false, "{number} is lost"),
                    }
                }
            }
        }
    }
}
