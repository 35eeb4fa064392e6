//! Timers that take one of a few durations: SIP's T1·2ᵏ, T2, T4 and 64·T1 (RFC 3261 §17, Table 4).
//!
//! Timers of one duration end in the order in which they were armed, so one FIFO list for each duration replaces a
//! heap: arm, cancel and expire are O(1), and the next deadline is the smallest of the few list heads. The lists are
//! intrusive and share one slab. Nothing here reads a clock, and no timer can be given a deadline of its own choice:
//! for that there is the [`super::Wheel`].

use std::time::Duration;

use super::Instant;

/// End of a list, and of the free list.
const NIL: u32 = u32::MAX;

/// An armed timer. Cancelling one that has expired or was cancelled is harmless, also when its place in the slab is
/// used by another timer by now: the serial tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerId {
    index: u32,
    serial: u64,
}

impl TimerId {
    /// A timer that never was: cancelling it does nothing.
    pub const NONE: Self = Self {
        index: NIL,
        serial: 0,
    };
}

/// One armed timer, or a free place (then `serial` is 0 and `next` links the free list).
#[derive(Clone, Debug)]
struct Entry<K> {
    deadline: Instant,
    serial: u64,
    previous: u32,
    next: u32,
    class: u32,
    key: K,
}

/// The timers of one duration, the first armed first.
#[derive(Clone, Copy, Debug)]
struct List {
    duration: Duration,
    head: u32,
    tail: u32,
}

/// FIFO lists of timers, one for each duration. `K` is what the owner gets back when one expires.
///
/// Memory grows to the largest number of timers ever armed at once and is reused; the owner bounds that number.
#[derive(Clone, Debug)]
pub struct TimerQueue<K> {
    entries: Vec<Entry<K>>,
    free: u32,
    lists: Vec<List>,
    /// Of the last timer armed; 0 marks a free place.
    serial: u64,
    length: usize,
}

impl<K: Copy> TimerQueue<K> {
    /// A queue for timers of these durations; `class` below is an index into them.
    pub fn new(durations: &[Duration]) -> Self {
        let list = |&duration| List {
            duration,
            head: NIL,
            tail: NIL,
        };
        Self {
            entries: Vec::new(),
            free: NIL,
            lists: durations.iter().map(list).collect(),
            serial: 0,
            length: 0,
        }
    }

    /// Arms a timer that expires `durations[class]` after `now`. O(1).
    ///
    /// # Panics
    /// If there is no such class, or with 2³²−1 timers armed.
    pub fn arm(&mut self, now: Instant, class: usize, key: K) -> TimerId {
        let List { duration, tail, .. } = self.lists[class];
        let mut deadline = now.plus(duration);
        if tail != NIL {
            // A clock that stood back for a moment must not disturb the order of the list.
            deadline = deadline.max(self.entries[tail as usize].deadline);
        }
        self.serial += 1;
        let serial = self.serial;
        let class_index = class as u32;
        let entry = Entry {
            deadline,
            serial,
            previous: tail,
            next: NIL,
            class: class_index,
            key,
        };
        let index = self.place(entry);
        match tail {
            NIL => self.lists[class].head = index,
            _ => self.entries[tail as usize].next = index,
        }
        self.lists[class].tail = index;
        self.length += 1;
        TimerId { index, serial }
    }

    /// Stops a timer; nothing happens if it is no longer armed. O(1).
    pub fn cancel(&mut self, id: TimerId) {
        let armed = self
            .entries
            .get(id.index as usize)
            .is_some_and(|e| e.serial == id.serial);
        if armed && id.serial != 0 {
            self.remove(id.index);
        }
    }

    /// When the next timer expires. O(number of durations).
    pub fn next_deadline(&self) -> Option<Instant> {
        self.first()
            .map(|index| self.entries[index as usize].deadline)
    }

    /// Takes one timer whose deadline is not after `now`, the earliest first; at one deadline, the class of the
    /// smaller index first. O(number of durations).
    pub fn expire(&mut self, now: Instant) -> Option<K> {
        let index = self.first()?;
        let Entry { deadline, key, .. } = self.entries[index as usize];
        if deadline > now {
            return None;
        }
        self.remove(index);
        Some(key)
    }

    /// How many timers are armed.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether no timer is armed.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The timer that expires first.
    fn first(&self) -> Option<u32> {
        let heads = self
            .lists
            .iter()
            .map(|list| list.head)
            .filter(|&head| head != NIL);
        heads.min_by_key(|&head| self.entries[head as usize].deadline)
    }

    fn place(&mut self, entry: Entry<K>) -> u32 {
        if self.free == NIL {
            let index = u32::try_from(self.entries.len())
                .ok()
                .filter(|&index| index != NIL);
            self.entries.push(entry);
            return index.expect("fewer than 2^32-1 timers");
        }
        let index = self.free;
        self.free = self.entries[index as usize].next;
        self.entries[index as usize] = entry;
        index
    }

    /// Takes an armed timer out of its list and puts its place on the free list.
    fn remove(&mut self, index: u32) {
        let Entry {
            previous,
            next,
            class,
            ..
        } = self.entries[index as usize];
        match previous {
            NIL => self.lists[class as usize].head = next,
            _ => self.entries[previous as usize].next = next,
        }
        match next {
            NIL => self.lists[class as usize].tail = previous,
            _ => self.entries[next as usize].previous = previous,
        }
        let entry = &mut self.entries[index as usize];
        entry.serial = 0;
        entry.next = self.free;
        self.free = index;
        self.length -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn expires_in_order_of_deadline_over_all_lists() {
        let mut queue = TimerQueue::new(&[4 * SECOND, SECOND]);
        queue.arm(at(0), 0, 'a');
        queue.arm(at(1), 1, 'b');
        queue.arm(at(3), 1, 'c');
        queue.arm(at(4), 1, 'd');
        assert_eq!(queue.next_deadline(), Some(at(2)));
        assert_eq!(queue.expire(Instant::from_micros(1_999_999)), None);
        assert_eq!(queue.expire(at(2)), Some('b'));
        assert_eq!(queue.expire(at(3)), None);
        // 'a' and 'c' share a deadline: the class of the smaller index goes first.
        assert_eq!(queue.expire(at(9)), Some('a'));
        assert_eq!(queue.expire(at(9)), Some('c'));
        assert_eq!(queue.expire(at(9)), Some('d'));
        assert_eq!(queue.expire(at(9)), None);
        assert_eq!((queue.len(), queue.next_deadline()), (0, None));
    }

    #[test]
    fn cancelling_a_dead_timer_is_harmless() {
        let mut queue = TimerQueue::new(&[SECOND]);
        let first = queue.arm(at(0), 0, 1);
        assert_eq!(queue.expire(at(1)), Some(1));
        queue.cancel(first);
        let second = queue.arm(at(1), 0, 2); // takes the same place
        queue.cancel(first);
        queue.cancel(TimerId::NONE);
        assert_eq!(queue.len(), 1);
        queue.cancel(second);
        queue.cancel(second);
        assert!(queue.is_empty());
        assert_eq!(queue.expire(at(100)), None);
    }

    #[test]
    fn a_clock_that_stands_back_keeps_the_order() {
        let mut queue = TimerQueue::new(&[SECOND]);
        queue.arm(at(5), 0, 1);
        queue.arm(at(3), 0, 2);
        assert_eq!(queue.expire(at(5)), None);
        assert_eq!(queue.expire(at(6)), Some(1));
        assert_eq!(queue.expire(at(6)), Some(2));
    }

    proptest! {
        /// Against a sorted list: the same timers at the same moments, whatever is armed and cancelled.
        #[test]
        fn behaves_as_a_sorted_list(program in prop::collection::vec((0u8..4, 0u64..3_000_000, 0usize..3), 0..300)) {
            let durations = [SECOND / 2, SECOND, 5 * SECOND];
            let mut queue = TimerQueue::new(&durations);
            let mut model: Vec<(Instant, usize, u32, TimerId)> = Vec::new();
            let (mut now, mut dead) = (at(0), Vec::new());
            for (number, (what, micros, class)) in program.into_iter().enumerate() {
                match what {
                    0 | 1 => {
                        let id = queue.arm(now, class, number as u32);
                        model.push((now.plus(durations[class]), class, number as u32, id));
                    }
                    2 if !model.is_empty() => {
                        let taken = model.remove(micros as usize % model.len());
                        queue.cancel(taken.3);
                        dead.push(taken.3);
                    }
                    _ => now = now.plus(Duration::from_micros(micros)),
                }
                dead.iter().for_each(|&id| queue.cancel(id));
                model.sort_by_key(|&(deadline, class, number, _)| (deadline, class, number));
                prop_assert_eq!(queue.next_deadline(), model.first().map(|timer| timer.0));
                while let Some(&(deadline, _, expected, id)) = model.first() {
                    if deadline > now { break; }
                    prop_assert_eq!(queue.expire(now), Some(expected));
                    dead.push(id);
                    model.remove(0);
                }
                prop_assert_eq!(queue.expire(now), None);
                prop_assert_eq!(queue.len(), model.len());
            }
        }
    }
}
