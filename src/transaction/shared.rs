//! What the client side and the server side of the table share: timers, serials, buffers.

use std::time::Duration;

use super::effects::{Effects, Life, Pace, Timer};
use crate::limits::{T1, T1_64, T4, TRANSACTION_BUFFER_BYTES_MAX, TRANSACTION_BUFFERS_MAX};
use crate::source::{Flow, Sink};
use crate::time::{Instant, TimerId, TimerQueue};

/// Which machine a timer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What the timer queue gives back. The serial makes a timer of a slot's former owner harmless.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub side: Side,
    pub index: u32,
    pub serial: u64,
    pub timer: Timer,
}

/// Classes of the timer queue: T1·2ᵏ for k = 0 … 5, T4, 64·T1.
const DURATIONS: [Duration; 8] = [
    T1,
    T1.saturating_mul(2),
    T1.saturating_mul(4),
    T1.saturating_mul(8),
    T1.saturating_mul(16),
    T1.saturating_mul(32),
    T4,
    T1_64,
];
/// Longest interval of Timer A: the next one would end with Timer B.
const EXPONENT_MAX: u8 = 5;
/// T2 = T1·2³.
const EXPONENT_T2: u8 = 3;
const CLASS_T4: usize = 6;
const CLASS_64_T1: usize = 7;

/// Timers, serials and buffers.
#[derive(Clone)]
pub(super) struct Shared {
    pub timers: TimerQueue<Key>,
    serial: u64,
    pool: Vec<Vec<u8>>,
}

impl Shared {
    pub fn new() -> Self {
        let timers = TimerQueue::new(&DURATIONS);
        Self {
            timers,
            serial: 0,
            pool: Vec::new(),
        }
    }

    /// A serial never used before: one counter for all, since the slab forgets freed slots.
    pub fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// An empty buffer.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        self.pool.pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn give_buffer(&mut self, mut buffer: Vec<u8>) {
        let fits = (1..=TRANSACTION_BUFFER_BYTES_MAX).contains(&buffer.capacity());
        if fits && self.pool.len() < TRANSACTION_BUFFERS_MAX {
            buffer.clear();
            self.pool.push(buffer);
        }
    }
}

/// The two timers of a machine: the one that repeats, and the one that ends its state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pace: TimerId,
    life: TimerId,
    /// The repeating one runs for T1·2^exponent.
    exponent: u8,
}

impl Clocks {
    pub const NEW: Self = Self {
        pace: TimerId::NONE,
        life: TimerId::NONE,
        exponent: 0,
    };

    /// Does what `effects` say about timers; `key.timer` is the letter of the repeating one. A timer that is zero on
    /// this transport is not armed but returned: it has fired.
    pub fn apply(
        &mut self,
        timers: &mut TimerQueue<Key>,
        now: Instant,
        effects: Effects,
        reliable: bool,
        key: Key,
    ) -> Option<Timer> {
        let exponent = match effects.pace {
            Pace::Keep => None,
            Pace::Begin => Some(0),
            Pace::Double => Some(self.exponent + 1).filter(|&exponent| exponent <= EXPONENT_MAX),
            Pace::DoubleToT2 => Some((self.exponent + 1).min(EXPONENT_T2)),
            Pace::T2 => Some(EXPONENT_T2),
            Pace::Stop => {
                timers.cancel(self.pace);
                None
            }
        };
        if let Some(exponent) = exponent {
            timers.cancel(self.pace);
            self.exponent = exponent;
            self.pace = timers.arm(now, usize::from(exponent), key);
        }
        match effects.life {
            Life::Keep => None,
            Life::Stop => {
                timers.cancel(self.life);
                None
            }
            Life::Start(timer) => {
                timers.cancel(self.life);
                let duration = timer.duration(reliable);
                if duration.is_zero() {
                    return Some(timer);
                }
                let class = if duration == T4 {
                    CLASS_T4
                } else {
                    CLASS_64_T1
                };
                debug_assert_eq!(duration, DURATIONS[class]);
                self.life = timers.arm(now, class, Key { timer, ..key });
                None
            }
        }
    }

    /// Stops both.
    pub fn stop(&mut self, timers: &mut TimerQueue<Key>) {
        timers.cancel(self.pace);
        timers.cancel(self.life);
    }
}

/// Place of a slot in a slab, as handles carry it. The table's bound keeps it within 32 bits.
pub(super) fn index_of(slot: usize) -> u32 {
    u32::try_from(slot).unwrap_or(u32::MAX)
}

/// For what sends nothing: a lost connection, a machine that ends.
pub(super) struct Nowhere;

impl Sink for Nowhere {
    fn send(&mut self, _flow: &Flow, _bytes: &[u8]) {}
}
