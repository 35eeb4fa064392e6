//! The bans in force: found by source in one probe, ended in the order of their ends.
//!
//! The part that every packet of a banned source touches is 32 bytes and lies apart from the evidence that people
//! read. A binary heap of slots, each ban knowing its place in it, gives the next end in O(1) and lifts any ban in
//! O(log n); its memory is reserved at start. Monotonic time decides when a ban ends, so that a jump of the wall clock
//! lifts none; the wall-clock end is what people see and what is kept.

use super::Hasher;
use super::failures::Names;
use super::index::Index;
use super::kernel::Load;
use crate::limits::KERNEL_SAMPLE;
use crate::source::Source;
use crate::store::{BanReason, BanRow};
use crate::time::{Instant, Now, UnixTime};

/// What is looked at for each packet.
#[derive(Clone, Copy, Debug)]
struct Hot {
    source: Source,
    until: Instant,
    /// Packets, and [`HELD`].
    discarded: u64,
    last_seen: UnixTime,
}

/// In [`Hot::discarded`]: the kernel discards for us, and what we see is a sample.
const HELD: u64 = 1 << 63;

/// Why and since when, for people.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    pub reason: BanReason,
    pub failures: u32,
    pub step: u32,
    pub names: Names,
    pub first_seen: UnixTime,
    pub last_seen: UnixTime,
    pub since: UnixTime,
    pub until: UnixTime,
    /// It is only said, not done (`mode = observe`).
    pub observed: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Bans {
    hasher: Hasher,
    index: Index,
    hot: Vec<Hot>,
    evidence: Vec<Evidence>,
    /// How busy each was lately; looked at when the kernel's list is made.
    loads: Vec<Load>,
    /// Counts up with each ban that begins or ends.
    changes: u64,
    /// Place of each slot in `heap`.
    places: Vec<u32>,
    /// Slots; each parent ends no later than its children.
    heap: Vec<u32>,
    free: Vec<u32>,
    capacity: usize,
    /// How many of them are of prefixes that cover several sources.
    wide: usize,
}

impl Bans {
    pub fn new(hasher: Hasher, capacity: usize) -> Self {
        Self {
            hasher,
            index: Index::new(capacity),
            hot: Vec::with_capacity(capacity),
            evidence: Vec::with_capacity(capacity),
            loads: Vec::with_capacity(capacity),
            changes: 0,
            places: Vec::with_capacity(capacity),
            heap: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            capacity,
            wide: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.heap.len()
    }

    #[inline]
    fn slot(&self, source: Source) -> Option<u32> {
        self.slot_of(self.hasher.source(source), source)
    }

    #[inline]
    fn slot_of(&self, hash: u32, source: Source) -> Option<u32> {
        self.index.find(hash, |slot| {
            self.hot
                .get(slot as usize)
                .is_some_and(|h| h.source == source)
        })
    }

    /// Whether any of them covers several sources.
    #[inline]
    pub fn has_wide(&self) -> bool {
        self.wide > 0
    }

    /// Whether `source` itself is banned now; a ban that has ended but was not yet taken out is none.
    pub fn contains(&self, source: Source, now: Instant) -> bool {
        self.contains_hashed(self.hasher.source(source), source, now)
    }

    /// The same with the hash at hand.
    #[inline]
    pub fn contains_hashed(&self, hash: u32, source: Source, now: Instant) -> bool {
        self.slot_of(hash, source)
            .and_then(|slot| self.hot.get(slot as usize))
            .is_some_and(|h| h.until > now)
    }

    /// The ban that holds for packets of `source` now: its own, or that of a prefix around it.
    pub fn find(&self, source: Source, now: Instant) -> Option<Source> {
        let wide = source.widened().filter(|_| self.has_wide());
        let all = [Some(source), wide, wide.and_then(Source::widened)];
        all.into_iter()
            .flatten()
            .find(|source| self.contains(*source, now))
    }

    /// Whether a packet of `source` is to be discarded; then it is counted.
    #[inline]
    pub fn discard(&mut self, hash: u32, source: Source, now: Now) -> bool {
        let hot = self
            .slot_of(hash, source)
            .and_then(|slot| self.hot.get_mut(slot as usize));
        let Some(hot) = hot.filter(|hot| hot.until > now.mono) else {
            return false;
        };
        let is_held = hot.discarded & HELD != 0;
        // 62 bits of packets are not to be had.
        let packets = if is_held { KERNEL_SAMPLE } else { 1 };
        hot.discarded = hot.discarded.wrapping_add(packets.into());
        hot.last_seen = now.unix;
        true
    }

    pub fn get(&self, source: Source) -> Option<&Evidence> {
        self.slot(source)
            .and_then(|slot| self.evidence.get(slot as usize))
    }

    pub fn get_mut(&mut self, source: Source) -> Option<&mut Evidence> {
        self.slot(source)
            .and_then(|slot| self.evidence.get_mut(slot as usize))
    }

    /// Bans `source` until `until`, in place of the ban that it has. At the bound the ban that ends soonest leaves.
    pub fn insert(&mut self, source: Source, until: Instant, evidence: Evidence) {
        let discarded = self
            .slot(source)
            .and_then(|slot| self.hot.get(slot as usize))
            .map_or(0, |hot| hot.discarded);
        self.remove(source);
        if self.heap.len() >= self.capacity
            && let Some(soonest) = self.soonest()
        {
            self.remove(soonest.source);
        }
        let hot = Hot {
            source,
            until,
            discarded,
            last_seen: evidence.last_seen,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.hot.get_mut(slot as usize) {
                    *place = hot;
                }
                if let Some(place) = self.evidence.get_mut(slot as usize) {
                    *place = evidence;
                }
                if let Some(place) = self.loads.get_mut(slot as usize) {
                    *place = Load::default();
                }
                slot
            }
            None => {
                self.hot.push(hot);
                self.evidence.push(evidence);
                self.loads.push(Load::default());
                self.places.push(0);
                self.hot.len().saturating_sub(1) as u32
            }
        };
        self.index.insert(self.hasher.source(source), slot);
        self.wide = self.wide.saturating_add(is_wide(source));
        self.heap.push(slot);
        self.changes = self.changes.wrapping_add(1);
        self.rise(self.heap.len().saturating_sub(1));
    }

    /// Lifts a ban; what it was.
    pub fn remove(&mut self, source: Source) -> Option<Evidence> {
        let slot = self.slot(source)?;
        self.index.remove(self.hasher.source(source), slot);
        self.wide = self.wide.saturating_sub(is_wide(source));
        let place = *self.places.get(slot as usize)? as usize;
        let last = self.heap.pop()?;
        // Unless it was the last itself, the last takes its place and finds its own from there.
        if let Some(hole) = self.heap.get_mut(place) {
            *hole = last;
            self.sink(place);
            self.rise(place);
        }
        self.free.push(slot);
        self.changes = self.changes.wrapping_add(1);
        self.evidence.get(slot as usize).cloned()
    }

    fn soonest(&self) -> Option<&Hot> {
        self.heap
            .first()
            .and_then(|slot| self.hot.get(*slot as usize))
    }

    /// When the next one ends.
    pub fn next_end(&self) -> Option<Instant> {
        self.soonest().map(|hot| hot.until)
    }

    /// Takes out one that ended.
    pub fn expire(&mut self, now: Instant) -> Option<(Source, Evidence)> {
        let source = self.soonest().filter(|hot| hot.until <= now)?.source;
        self.remove(source).map(|evidence| (source, evidence))
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Source, &Evidence)> {
        self.heap.iter().filter_map(|slot| {
            let hot = self.hot.get(*slot as usize)?;
            Some((hot.source, self.evidence.get(*slot as usize)?))
        })
    }

    /// When it was last heard of, and how many of its packets were discarded.
    pub fn traffic(&self, source: Source) -> (UnixTime, u64) {
        self.slot(source)
            .and_then(|slot| self.hot.get(slot as usize))
            .map_or_else(Default::default, |hot| {
                (hot.last_seen, hot.discarded & !HELD)
            })
    }

    /// Counts up with each ban that begins or ends.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Those that are in force now, each with its evidence and with how busy it was lately (see [`Load`]).
    pub fn by_load(&mut self, now: Instant) -> impl Iterator<Item = (Source, &Evidence, f32)> {
        let Self {
            heap,
            hot,
            evidence,
            loads,
            ..
        } = self;
        let (hot, evidence) = (&*hot, &*evidence);
        heap.iter().filter_map(move |slot| {
            let hot = hot.get(*slot as usize)?;
            let load = loads.get_mut(*slot as usize)?;
            load.update(now, hot.discarded & !HELD);
            let evidence = evidence.get(*slot as usize)?;
            (hot.until > now).then_some((hot.source, evidence, load.recent()))
        })
    }

    /// Notes that the kernel holds just these. Without `begin`, only that it holds no others: what it has just begun to
    /// hold may still have whole packets on their way to us.
    pub fn hold(&mut self, sources: impl Iterator<Item = Source>, begin: bool) {
        /// In the count while the list is gone through.
        const LISTED: u64 = 1 << 62;
        for source in sources {
            let slot = self.slot(source);
            if let Some(hot) = slot.and_then(|slot| self.hot.get_mut(slot as usize)) {
                hot.discarded |= LISTED;
            }
        }
        for hot in &mut self.hot {
            let listed = hot.discarded & LISTED != 0;
            let held = listed && (begin || hot.discarded & HELD != 0);
            hot.discarded = hot.discarded & !(LISTED | HELD) | if held { HELD } else { 0 };
        }
    }

    fn until(&self, place: usize) -> Option<Instant> {
        self.heap
            .get(place)
            .and_then(|slot| self.hot.get(*slot as usize))
            .map(|hot| hot.until)
    }

    /// Writes down where the slot at `place` lies.
    fn note(&mut self, place: usize) {
        let slot = self.heap.get(place).copied();
        if let Some(noted) = slot.and_then(|slot| self.places.get_mut(slot as usize)) {
            *noted = place as u32;
        }
    }

    /// `place` lies within the heap.
    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = place.saturating_sub(1) / 2;
            if self.until(parent) <= self.until(place) {
                break;
            }
            self.heap.swap(parent, place);
            self.note(place);
            place = parent;
        }
        self.note(place);
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let left = place.saturating_mul(2).saturating_add(1);
            let children = [left, left.saturating_add(1)];
            let soonest = children
                .into_iter()
                .filter_map(|c| Some((self.until(c)?, c)))
                .min();
            match (soonest, self.until(place)) {
                (Some((until, child)), Some(own)) if until < own => {
                    self.heap.swap(child, place);
                    self.note(place);
                    place = child;
                }
                _ => break,
            }
        }
        self.note(place);
    }
}

/// 1 if it covers several sources.
fn is_wide(source: Source) -> usize {
    usize::from(matches!(source.prefix_bits(), 48 | 56))
}

impl Evidence {
    /// As it is kept.
    pub fn row(&self, source: Source) -> BanRow {
        BanRow {
            source,
            reason: self.reason,
            failures: self.failures,
            users: self.names.strings(),
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            since: self.since,
            until: self.until,
            step: self.step,
        }
    }

    /// As it was kept.
    pub fn of(row: &BanRow) -> Self {
        let mut names = Names::new();
        for name in &row.users {
            names.add(name.as_bytes());
        }
        Self {
            reason: row.reason,
            failures: row.failures,
            step: row.step,
            names,
            first_seen: row.first_seen,
            last_seen: row.last_seen,
            since: row.since,
            until: row.until,
            observed: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::{IpAddr, Ipv4Addr};

    fn evidence() -> Evidence {
        let time = UnixTime::from_millis(0);
        Evidence {
            reason: BanReason::Manual,
            failures: 0,
            step: 0,
            names: Names::new(),
            first_seen: time,
            last_seen: time,
            since: time,
            until: time,
            observed: false,
        }
    }

    proptest! {
        /// Against a map that is searched from end to end.
        #[test]
        fn soonest_ends_first(steps in proptest::collection::vec((0u8..5, 0u8..30, 0u64..1000), 0..300)) {
            let mut bans = Bans::new(Hasher::new(&[9; 32]), 12);
            let mut model: BTreeMap<u8, u64> = BTreeMap::new();
            for (step, n, until) in steps {
                let source = Source::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, n)));
                match step {
                    0 => prop_assert_eq!(bans.remove(source).is_some(), model.remove(&n).is_some()),
                    1 => {
                        let mut ended = 0;
                        while bans.expire(Instant::from_micros(until)).is_some() {
                            ended += 1;
                        }
                        let before = model.len();
                        model.retain(|_, end| *end > until);
                        prop_assert_eq!(ended, before - model.len());
                    }
                    _ => {
                        // Distinct ends, so that it is clear which one leaves at the bound.
                        let until = until * 32 + u64::from(n);
                        if !model.contains_key(&n) && model.len() == 12 {
                            let soonest = *model.iter().min_by_key(|(_, end)| **end).unwrap().0;
                            model.remove(&soonest);
                        }
                        model.insert(n, until);
                        bans.insert(source, Instant::from_micros(until), evidence());
                    }
                }
                prop_assert_eq!(bans.len(), model.len());
                prop_assert_eq!(bans.next_end().map(Instant::as_micros), model.values().min().copied());
                for probe in 0..30 {
                    let source = Source::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, probe)));
                    let banned = bans.contains(source, Instant::from_micros(0));
                    prop_assert_eq!(banned, model.get(&probe).is_some_and(|end| *end > 0));
                }
            }
        }
    }
}
