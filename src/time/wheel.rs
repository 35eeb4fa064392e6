//! Deadlines of any length in whole seconds: bindings (RFC 3261 §10) and bans.
//!
//! A ring of slots, one a second, with a bitmap of the slots in use: arm, expire and the next deadline are O(1).
//! What lies beyond the ring waits in its last slot and is armed again from there. Deadlines are rounded up, so
//! nothing comes early and nothing more than a second late; everything due within one second costs one wake-up.
//! There is no cancel: the owner keeps a generation in the key and ignores what it no longer means. One whose keys die long
//! before they are due throws the dead ones out now and then with [`Wheel::retain`].

use super::Instant;

/// Seconds that the ring covers, a bit more than an hour: `expires_max` of the registrar fits, a ban is armed again
/// once an hour. 64 words of 64 bits, so that one further word tells which of them are in use.
const SLOTS: u64 = 4096;
const WORDS: usize = (SLOTS / 64) as usize;
/// End of a list, and of the free list.
const NIL: u32 = u32::MAX;
const MICROS_PER_SECOND: u64 = 1_000_000;

/// A key that waits, or a free place.
#[derive(Clone, Debug)]
struct Entry<K> {
    /// The second that it is due in, which may lie beyond the slot it waits in.
    second: u64,
    next: u32,
    key: K,
}

/// First and last entry of one second, first come first.
#[derive(Clone, Copy, Debug)]
struct Slot {
    head: u32,
    tail: u32,
}

/// Deadlines in whole seconds. `K` is what the owner gets back.
///
/// Memory grows to the largest number of keys ever armed at once and is reused; the owner bounds that number.
#[derive(Clone, Debug)]
pub struct Wheel<K> {
    entries: Vec<Entry<K>>,
    free: u32,
    slots: Vec<Slot>,
    /// One bit for each slot in use.
    used: [u64; WORDS],
    /// One bit for each word of `used` that is not zero.
    used_words: u64,
    /// No key waits for a second before this one, none in a slot `SLOTS` seconds or more after it.
    cursor: u64,
    length: usize,
}

impl<K: Copy> Wheel<K> {
    /// An empty wheel.
    pub fn new(now: Instant) -> Self {
        Self {
            entries: Vec::new(),
            free: NIL,
            slots: vec![
                Slot {
                    head: NIL,
                    tail: NIL
                };
                SLOTS as usize
            ],
            used: [0; WORDS],
            used_words: 0,
            cursor: now.as_micros() / MICROS_PER_SECOND,
            length: 0,
        }
    }

    /// Arms a key for the first whole second that is not before `at`. What is overdue is due at once. O(1).
    ///
    /// # Panics
    /// With 2³²−1 keys armed.
    pub fn arm(&mut self, at: Instant, key: K) {
        let second = at.as_micros().div_ceil(MICROS_PER_SECOND);
        let entry = Entry {
            second,
            next: NIL,
            key,
        };
        let index = if self.free == NIL {
            let index = u32::try_from(self.entries.len())
                .ok()
                .filter(|&index| index != NIL);
            self.entries.push(entry);
            index.expect("fewer than 2^32-1 keys")
        } else {
            let index = self.free;
            self.free = self.entries[index as usize].next;
            self.entries[index as usize] = entry;
            index
        };
        self.length += 1;
        self.append(index);
    }

    /// When [`Wheel::expire`] has something to do: a key is due, or one from beyond the ring must be armed again. O(1).
    pub fn next_deadline(&self) -> Option<Instant> {
        let second = self.next_used()?;
        Some(Instant::from_micros(
            second.saturating_mul(MICROS_PER_SECOND),
        ))
    }

    /// Takes one key that is due, the earliest second first, within it first armed first. Afterwards, when there is
    /// none, the next deadline lies after `now`.
    pub fn expire(&mut self, now: Instant) -> Option<K> {
        let current = now.as_micros() / MICROS_PER_SECOND;
        while let Some(second) = self.next_used().filter(|&second| second <= current) {
            self.cursor = second;
            let index = self.take_first(second);
            let Entry {
                second: due, key, ..
            } = self.entries[index as usize];
            if due > second {
                // From beyond the ring: nearer now, so it goes into a slot of a later second.
                self.entries[index as usize].next = NIL;
                self.append(index);
                continue;
            }
            self.entries[index as usize].next = self.free;
            self.free = index;
            self.length -= 1;
            return Some(key);
        }
        // Every slot up to `current` is empty, so the ring may turn; never backwards.
        self.cursor = self.cursor.max(current);
        None
    }

    /// Throws out the keys that mean nothing any more: `is_awaited` is given when each is due, in whole seconds, and the key.
    /// O(keys); an owner who asks for it whenever their number has doubled pays O(1) for each.
    pub fn retain(&mut self, mut is_awaited: impl FnMut(Instant, K) -> bool) {
        for number in 0..SLOTS as usize {
            let mut index = self.slots[number].head;
            let mut last = NIL;
            while index != NIL {
                let Entry { second, next, key } = self.entries[index as usize];
                let due = Instant::from_micros(second.saturating_mul(MICROS_PER_SECOND));
                if is_awaited(due, key) {
                    last = index;
                } else {
                    match last {
                        NIL => self.slots[number].head = next,
                        last => self.entries[last as usize].next = next,
                    }
                    self.entries[index as usize].next = self.free;
                    self.free = index;
                    self.length -= 1;
                }
                index = next;
            }
            self.slots[number].tail = last;
            if last == NIL {
                self.mark_empty(number);
            }
        }
    }

    /// How many keys are armed.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no key is armed.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Puts an entry at the end of the slot for its second, or of the ring's last slot.
    fn append(&mut self, index: u32) {
        let second = self.entries[index as usize].second;
        let second = second.clamp(self.cursor, self.cursor.saturating_add(SLOTS - 1));
        let number = (second % SLOTS) as usize;
        let slot = &mut self.slots[number];
        match slot.tail {
            NIL => slot.head = index,
            tail => self.entries[tail as usize].next = index,
        }
        slot.tail = index;
        self.used[number / 64] |= 1 << (number % 64);
        self.used_words |= 1 << (number / 64);
    }

    /// Takes the first entry of a slot in use.
    fn take_first(&mut self, second: u64) -> u32 {
        let number = (second % SLOTS) as usize;
        let index = self.slots[number].head;
        let next = self.entries[index as usize].next;
        self.slots[number].head = next;
        if next == NIL {
            self.slots[number].tail = NIL;
            self.mark_empty(number);
        }
        index
    }

    fn mark_empty(&mut self, number: usize) {
        self.used[number / 64] &= !(1 << (number % 64));
        if self.used[number / 64] == 0 {
            self.used_words &= !(1 << (number / 64));
        }
    }

    /// The first second from the cursor on whose slot is in use.
    fn next_used(&self) -> Option<u64> {
        let start = (self.cursor % SLOTS) as usize;
        let (word, bit) = (start / 64, start % 64);
        let here = self.used[word] >> bit;
        if here != 0 {
            return Some(self.cursor.saturating_add(u64::from(here.trailing_zeros())));
        }
        // The other words in ring order; the start word comes last, for its bits below `bit`. Its bits from `bit` on
        // are zero, so whatever is found in it lies a turn ahead.
        let rotation = (word as u32 + 1) % 64;
        let rotated = self.used_words.rotate_right(rotation);
        if rotated == 0 {
            return None;
        }
        let found = (rotation + rotated.trailing_zeros()) as usize % 64;
        let number = found * 64 + self.used[found].trailing_zeros() as usize;
        let ahead = (number + SLOTS as usize - start) % SLOTS as usize;
        Some(self.cursor.saturating_add(ahead as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn at_ms(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    fn drain(wheel: &mut Wheel<u32>, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| wheel.expire(now)).collect()
    }

    #[test]
    fn rounds_up_to_whole_seconds() {
        let mut wheel = Wheel::new(at_ms(10_300));
        wheel.arm(at_ms(12_001), 1);
        wheel.arm(at_ms(13_000), 2);
        wheel.arm(at_ms(5_000), 3); // overdue
        assert_eq!(wheel.next_deadline(), Some(at_ms(10_000)));
        assert_eq!(drain(&mut wheel, at_ms(10_300)), [3]);
        assert_eq!(wheel.next_deadline(), Some(at_ms(13_000)));
        assert_eq!(drain(&mut wheel, at_ms(12_999)), [0; 0]);
        assert_eq!(drain(&mut wheel, at_ms(13_000)), [1, 2]);
        assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
    }

    #[test]
    fn horizon_beyond_the_ring() {
        let mut wheel = Wheel::new(at_ms(0));
        let week = at_ms(7 * 86_400 * 1000);
        wheel.arm(week, 1);
        let mut wakes = 0;
        loop {
            let deadline = wheel.next_deadline().expect("armed");
            wakes += 1;
            match wheel.expire(deadline) {
                Some(key) => {
                    assert_eq!((key, deadline), (1, week));
                    break;
                }
                None => assert!(wheel.next_deadline() > Some(deadline), "progress"),
            }
        }
        assert!(wakes <= 7 * 86_400 / 4095 + 2, "{wakes} wake-ups");
    }

    #[test]
    fn a_long_silence_turns_the_ring_many_times() {
        let mut wheel = Wheel::new(at_ms(0));
        wheel.arm(at_ms(5_000_000), 1);
        wheel.arm(at_ms(1_000), 2);
        wheel.arm(at_ms(90_000_000), 3);
        assert_eq!(drain(&mut wheel, at_ms(100_000_000)), [2, 1, 3]);
    }

    #[test]
    fn the_end_of_time_is_not_reached() {
        let mut wheel = Wheel::new(at_ms(0));
        wheel.arm(Instant::from_micros(u64::MAX), 1);
        assert_eq!(drain(&mut wheel, at_ms(1_000_000_000)), [0; 0]);
        assert_eq!(wheel.len(), 1);
    }

    proptest! {
        /// Against a sorted list: every key comes in the whole second it is due, and the deadline never lies.
        #[test]
        fn behaves_as_a_sorted_list(
            start in 0u64..20_000_000,
            program in prop::collection::vec((0u8..4, 0u64..9_000_000, 0u64..3_000), 0..200),
        ) {
            let mut now = at_ms(start);
            let mut wheel = Wheel::new(now);
            let mut model: Vec<(u64, u32)> = Vec::new();
            for (number, (what, millis, small)) in program.into_iter().enumerate() {
                let number = number as u32;
                match what {
                    0 => {
                        let due = now.plus(Duration::from_millis(millis));
                        wheel.arm(due, number);
                        model.push((due.as_micros().div_ceil(1_000_000), number));
                    }
                    1 => now = now.plus(Duration::from_millis(millis)),
                    2 => {
                        let is_awaited = |second: u64, key: u32| !(second + u64::from(key)).is_multiple_of(3);
                        wheel.retain(|due, key| is_awaited(due.as_micros() / 1_000_000, key));
                        model.retain(|&(second, key)| is_awaited(second, key));
                    }
                    _ => now = now.plus(Duration::from_millis(small)),
                }
                let before = wheel.next_deadline();
                let mut due = drain(&mut wheel, now);
                if !due.is_empty() {
                    prop_assert!(before <= Some(now));
                }
                due.sort_unstable();
                let current = now.as_micros() / 1_000_000;
                let mut expected: Vec<u32> =
                    model.iter().filter(|&&(second, _)| second <= current).map(|&(_, key)| key).collect();
                expected.sort_unstable();
                model.retain(|&(second, _)| second > current);
                prop_assert_eq!(due, expected);
                prop_assert_eq!(wheel.len(), model.len());
                prop_assert!(wheel.next_deadline().is_none_or(|deadline| deadline > now));
                let earliest = model.iter().map(|&(second, _)| second).min();
                prop_assert!(wheel.next_deadline().map(|d| d.as_micros() / 1_000_000) <= earliest);
            }
        }
    }
}
