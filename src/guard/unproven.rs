//! Sources that have proved nothing: a token bucket each, in a fixed table of 24 bytes a source.
//!
//! The table is a cache of eight ways keyed by a seeded hash: a source has eight possible places, and among those that
//! hold another source, the one silent longest goes. So a flood of forged sources costs nothing but places, and every
//! operation touches 192 bytes. What keeps a million forged sources from a million answers is `unproven_total`.
//!
//! A bucket holds answers: one comes back each `unproven_rate`, ever more slowly the more challenges stay unanswered
//! (a phone answers the first; whoever never answers is deaf, forged or scanning). Beside it lie the account of bytes
//! of this minute, for no more may go out than came in (a forger's victim must not get more from us than from him), and
//! the number of packets that were peeked at in this second.

use super::Hasher;
use crate::limits;
use crate::source::Source;
use crate::time::Instant;

/// Ways of a set.
const WAYS: usize = 8;
/// Tokens are counted in 1/256.
const TOKEN: u64 = 256;
/// Most tokens of a bucket: 16 bits before the point.
const BURST_MAX: u32 = 0xffff;
/// Unanswered challenges that halve the rate once more.
const UNANSWERED_STEP: u64 = 10;
/// The slowest rate that unanswered challenges lead to: one answer in 10 s.
const INTERVAL_US_MAX: u64 = 10_000_000;
/// The account of bytes stays within ±4 MiB: 22 bits and a sign.
const BALANCE_MAX: i64 = (1 << 22) - 1;
/// Added to it, so that what is packed is not negative.
const BALANCE_BIAS: i64 = 1 << 22;

const SEEN_MASK: u64 = (1 << 40) - 1;
const MINUTE_MASK: u64 = 0xffff;
const SECOND_MASK: u64 = 0x7ff;

/// One source, unpacked.
///
/// ```text
/// word 1:  tokens 24 | seen_ms 40                (never 0 in a used place)
/// word 2:  unanswered 8 | minute 16 | challenged 1 | balance 23 | second 11 | peeked 5
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    /// In 1/256, 24 bits.
    tokens: u64,
    /// Up to when tokens have come back: the last packet, up to the time that 1/256 token takes. Milliseconds, 40 bits.
    seen_ms: u64,
    /// Challenges sent since it last proved anything, up to 255.
    unanswered: u64,
    /// Which minute the account is of, 16 bits.
    minute: u64,
    /// This minute's first challenge, which the account does not hold back, was sent.
    challenged: bool,
    /// Bytes in less bytes out of this minute.
    balance: i64,
    /// Which second `peeked` is of, 11 bits.
    second: u64,
    /// Packets peeked at, up to 31.
    peeked: u64,
}

impl Cell {
    fn unpack(first: u64, second: u64) -> Self {
        Self {
            tokens: first >> 40,
            seen_ms: first & SEEN_MASK,
            unanswered: second >> 56,
            minute: second >> 40 & MINUTE_MASK,
            challenged: second >> 39 & 1 == 1,
            balance: (second >> 16 & 0x7f_ffff)
                .cast_signed()
                .wrapping_sub(BALANCE_BIAS),
            second: second >> 5 & SECOND_MASK,
            peeked: second & 0x1f,
        }
    }

    fn pack(self) -> [u64; 2] {
        let balance = self
            .balance
            .clamp(-BALANCE_MAX, BALANCE_MAX)
            .wrapping_add(BALANCE_BIAS)
            .cast_unsigned();
        [
            self.tokens << 40 | self.seen_ms,
            self.unanswered << 56
                | self.minute << 40
                | u64::from(self.challenged) << 39
                | balance << 16
                | self.second << 5
                | self.peeked,
        ]
    }
}

/// What [`Unproven::admit`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Budget {
    /// A token was taken.
    Within,
    /// Over it, but few enough of its packets were peeked at in this second.
    Peek,
    /// Over both.
    #[default]
    Over,
}

/// The rates of the configuration.
#[derive(Clone, Copy, Debug)]
struct Rates {
    /// `None`: no limit.
    interval_us: Option<u64>,
    burst: u64,
}

/// The sources of one set: their bits, then their first and second packed words, see [`Cell`]. The bits lie together
/// so that a search touches little. Arrays and not structs: only of those the allocator takes zeroed pages untouched.
type Set = [[u64; WAYS]; 3];

/// See the module.
#[derive(Debug)]
pub(super) struct Unproven {
    sets: Vec<Set>,
    hasher: Hasher,
    rates: Rates,
}

impl Unproven {
    pub fn new(hasher: Hasher, rate: Option<u32>, burst: u32) -> Self {
        let sets = limits::UNPROVEN_SOURCES_MAX / WAYS;
        // Zeroed by the kernel, touched as sources come.
        Self {
            sets: vec![[[0; WAYS]; 3]; sets.next_power_of_two()],
            hasher,
            rates: Rates::new(rate, burst),
        }
    }

    pub fn reload(&mut self, rate: Option<u32>, burst: u32) {
        self.rates = Rates::new(rate, burst);
    }

    /// Takes a token of `source` if `may_take` and it has one.
    #[inline]
    pub fn admit(
        &mut self,
        now: Instant,
        source: Source,
        place: (u32, Option<usize>),
        may_take: bool,
    ) -> Budget {
        let rates = self.rates;
        self.with(now, source, place, |cell, now_ms| {
            if rates.interval_us.is_none() {
                return if may_take {
                    Budget::Within
                } else {
                    Budget::Peek
                };
            }
            rates.refill(cell, now_ms);
            if may_take && cell.tokens >= TOKEN {
                cell.tokens = cell.tokens.saturating_sub(TOKEN);
                return Budget::Within;
            }
            let second = (now_ms / 1000) & SECOND_MASK;
            if cell.second != second {
                (cell.second, cell.peeked) = (second, 0);
            }
            if cell.peeked >= limits::PEEKS_PER_SOURCE {
                return Budget::Over;
            }
            cell.peeked = cell.peeked.saturating_add(1);
            Budget::Peek
        })
    }

    /// Whether `bytes_out` may answer `bytes_in`, and `total` agrees; then they are on the account and one more
    /// challenge is unanswered.
    pub fn may_answer(
        &mut self,
        now: Instant,
        source: Source,
        bytes_in: usize,
        bytes_out: usize,
        total: impl FnOnce() -> bool,
    ) -> bool {
        let limited = self.rates.interval_us.is_some();
        let place = self.place(source);
        self.with(now, source, place, |cell, now_ms| {
            let minute = (now_ms / 60_000) & MINUTE_MASK;
            if cell.minute != minute {
                (cell.minute, cell.challenged, cell.balance) = (minute, false, 0);
            }
            let bytes = |n: usize| i64::try_from(n).unwrap_or(BALANCE_MAX).min(BALANCE_MAX);
            cell.balance = cell
                .balance
                .saturating_add(bytes(bytes_in))
                .min(BALANCE_MAX);
            let left = cell.balance.saturating_sub(bytes(bytes_out));
            if left < 0 && cell.challenged || !total() {
                return false;
            }
            (cell.balance, cell.challenged) = (left, true);
            if limited {
                cell.unanswered = cell.unanswered.saturating_add(1).min(255);
            }
            true
        })
    }

    /// It proved that it receives what we send to it.
    pub fn prove(&mut self, source: Source) {
        let (hash, place) = self.place(source);
        let set = hash as usize & self.sets.len().wrapping_sub(1);
        if let (Some([_, _, seconds]), Some(at)) = (self.sets.get_mut(set), place)
            && let Some(second) = seconds.get_mut(at)
        {
            *second &= u64::MAX >> 8;
        }
    }

    /// The hash of `source`, and its place.
    fn place(&self, source: Source) -> (u32, Option<usize>) {
        let hash = self.hasher.source(source);
        (hash, self.find(hash, source))
    }

    /// Which place of its set `source` has, if any: without a branch, so that a table out of the cache is waited for
    /// once, together with the other tables that a packet is looked up in.
    #[inline]
    pub fn find(&self, hash: u32, source: Source) -> Option<usize> {
        let [keys, firsts, _] = self
            .sets
            .get(hash as usize & self.sets.len().wrapping_sub(1))?;
        let bits = source.bits();
        let mut found = 0u32;
        for (at, (key, first)) in keys.iter().zip(firsts).enumerate() {
            // A used place has no first word of 0; the bits of ::/64 are 0 too.
            let is_it = (*key == bits) & ((*first != 0) | (bits != 0));
            found |= u32::from(is_it) << at;
        }
        (found != 0).then_some(found.trailing_zeros() as usize)
    }

    /// Lets `change` work on the cell of `source`: that at `place`, or a fresh one where the one silent longest was.
    #[inline]
    fn with<R: Default>(
        &mut self,
        now: Instant,
        source: Source,
        (hash, place): (u32, Option<usize>),
        change: impl FnOnce(&mut Cell, u64) -> R,
    ) -> R {
        // One more, so that no used place has a first word of 0.
        let now_ms = (now.as_micros() / 1000).wrapping_add(1) & SEEN_MASK;
        let full = self.rates.burst;
        let set = hash as usize & self.sets.len().wrapping_sub(1);
        let Some([keys, firsts, seconds]) = self.sets.get_mut(set) else {
            return R::default();
        };
        let at = place.unwrap_or_else(|| silent_longest(firsts, now_ms));
        let (Some(key), Some(first), Some(second)) =
            (keys.get_mut(at), firsts.get_mut(at), seconds.get_mut(at))
        else {
            return R::default();
        };
        let mut cell = if place.is_some() {
            Cell::unpack(*first, *second)
        } else {
            *key = source.bits();
            Cell {
                tokens: full,
                seen_ms: now_ms,
                balance: 0,
                minute: (now_ms / 60_000) & MINUTE_MASK,
                ..Cell::unpack(0, 0)
            }
        };
        let result = change(&mut cell, now_ms);
        [*first, *second] = cell.pack();
        result
    }
}

/// The place whose source has been silent longest, or that is free.
fn silent_longest(firsts: &[u64; WAYS], now_ms: u64) -> usize {
    let silent = firsts.iter().map(|first| match first {
        0 => u64::MAX,
        first => now_ms.wrapping_sub(first & SEEN_MASK) & SEEN_MASK,
    });
    silent
        .enumerate()
        .max_by_key(|(_, silent)| *silent)
        .map_or(0, |(at, _)| at)
}

impl Rates {
    fn new(rate: Option<u32>, burst: u32) -> Self {
        // 0 a second is nothing at all: nothing comes back, and there is nothing to begin with.
        let interval_us =
            rate.map(|rate| 1_000_000u64.checked_div(rate.into()).unwrap_or(u64::MAX));
        let burst = if interval_us == Some(u64::MAX) {
            0
        } else {
            burst.clamp(1, BURST_MAX)
        };
        Self {
            interval_us,
            burst: u64::from(burst).saturating_mul(TOKEN),
        }
    }

    /// Time between two answers, after so many unanswered challenges.
    fn interval_us(self, unanswered: u64) -> u64 {
        let base = self.interval_us.unwrap_or(0).max(1);
        let halvings = unanswered / UNANSWERED_STEP;
        base.saturating_mul(1u64.checked_shl(halvings as u32).unwrap_or(u64::MAX))
            .min(INTERVAL_US_MAX.max(base))
    }

    /// Gives back what came back since `seen_ms`.
    #[inline]
    fn refill(self, cell: &mut Cell, now_ms: u64) {
        let silent_ms = now_ms.wrapping_sub(cell.seen_ms) & SEEN_MASK;
        let interval_us = self.interval_us(cell.unanswered);
        let gain = silent_ms
            .saturating_mul(1000 * TOKEN)
            .checked_div(interval_us)
            .unwrap_or(0);
        let tokens = cell.tokens.saturating_add(gain);
        if tokens >= self.burst {
            (cell.tokens, cell.seen_ms) = (self.burst, now_ms);
        } else if gain > 0 {
            // Only the time that the gain took is used up, so that small steps add up too.
            let used_ms = gain.saturating_mul(interval_us).div_ceil(1000 * TOKEN);
            cell.tokens = tokens;
            cell.seen_ms = cell.seen_ms.wrapping_add(used_ms) & SEEN_MASK;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn source(n: u32) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::from_bits(n)))
    }

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn admit(table: &mut Unproven, now: Instant, source: Source, may_take: bool) -> Budget {
        let place = table.place(source);
        table.admit(now, source, place, may_take)
    }

    fn table() -> Unproven {
        Unproven::new(Hasher::new(&[3; 32]), Some(1), 10)
    }

    #[test]
    fn a_source_takes_24_bytes() {
        let table = table();
        assert_eq!(
            std::mem::size_of_val(table.sets.as_slice()),
            limits::UNPROVEN_SOURCES_MAX * 24
        );
    }

    proptest! {
        #[test]
        fn packing_loses_nothing(
            tokens in 0u64..1 << 24, seen_ms in 1u64..1 << 40, unanswered in 0u64..256, minute in 0u64..1 << 16,
            challenged: bool, balance in -BALANCE_MAX..=BALANCE_MAX, second in 0u64..1 << 11, peeked in 0u64..32
        ) {
            let cell = Cell { tokens, seen_ms, unanswered, minute, challenged, balance, second, peeked };
            let [first, second] = cell.pack();
            prop_assert_eq!(Cell::unpack(first, second), cell);
        }

        /// Whatever the pattern, no more than burst + rate · time gets in.
        #[test]
        fn never_more_than_burst_and_rate(gaps in proptest::collection::vec(0u64..400, 1..400)) {
            let mut table = table();
            let mut now = 77_000;
            let mut passed = 0;
            for gap in &gaps {
                now += gap;
                passed += u64::from(admit(&mut table, at(now), source(1), true) == Budget::Within);
            }
            let time_ms: u64 = gaps.iter().sum();
            prop_assert!(passed <= 10 + time_ms / 1000 + 1, "{} in {} ms", passed, time_ms);
        }
    }

    #[test]
    fn burst_then_one_a_second() {
        let mut table = table();
        let passed = (0..50)
            .filter(|_| admit(&mut table, at(5), source(1), true) == Budget::Within)
            .count();
        assert_eq!(passed, 10);
        // In steps that are each too short for 1/256 token, an hour gives nearly 3,600.
        let passed = (0..3_600_000 / 3)
            .filter(|n| admit(&mut table, at(5 + n * 3), source(1), true) == Budget::Within)
            .count();
        assert!((3_400..=3_600).contains(&passed), "{passed}");
    }

    #[test]
    fn unanswered_challenges_halve_the_rate_down_to_one_in_ten_seconds() {
        let rates = Rates::new(Some(1), 10);
        let seconds = [0, 9, 10, 19, 20, 30, 40, 255]
            .map(|unanswered| rates.interval_us(unanswered) / 1_000_000);
        assert_eq!(seconds, [1, 1, 2, 2, 4, 8, 10, 10]);
        // A configured rate below that stays as it is.
        assert_eq!(
            Rates {
                interval_us: Some(60_000_000),
                burst: 1
            }
            .interval_us(100),
            60_000_000
        );

        let mut table = table();
        let mut answers = 0;
        for second in 0..10_000u64 {
            if admit(&mut table, at(second * 1000), source(1), true) == Budget::Within {
                assert!(table.may_answer(at(second * 1000), source(1), 600, 500, || true));
                answers += 1;
            }
        }
        assert!((1_000..1_060).contains(&answers), "{answers}");
        table.prove(source(1));
        let now = 10_000_000;
        let passed = (0..5)
            .filter(|n| admit(&mut table, at(now + n * 1000), source(1), true) == Budget::Within)
            .count();
        assert!(passed >= 4, "{passed}: one a second again");
    }

    #[test]
    fn zero_is_nothing_and_empty_no_limit() {
        let mut none = Unproven::new(Hasher::new(&[3; 32]), Some(0), 10);
        assert_eq!(admit(&mut none, at(1), source(1), true), Budget::Peek);
        let mut unlimited = Unproven::new(Hasher::new(&[3; 32]), None, 10);
        assert!((0..1000).all(|_| admit(&mut unlimited, at(1), source(1), true) == Budget::Within));
    }

    #[test]
    fn twenty_packets_a_second_are_peeked_at() {
        let mut table = table();
        let mut count = |now| {
            (0..100)
                .filter(|_| admit(&mut table, at(now), source(1), false) == Budget::Peek)
                .count()
        };
        assert_eq!(count(10_000), 20);
        assert_eq!(count(10_900), 0);
        assert_eq!(count(11_000), 20);
    }

    #[test]
    fn no_more_bytes_out_than_in_but_for_a_first_challenge() {
        let mut table = table();
        let mut answer =
            |now, bytes_in| table.may_answer(at(now), source(1), bytes_in, 500, || true);
        assert!(answer(0, 300), "the first challenge");
        assert!(!answer(500, 300), "600 in, 1000 out");
        assert!(!answer(1_500, 300), "900 in, 1000 out");
        assert!(answer(3_500, 300), "1200 in, 1000 out");
        assert!(answer(61_000, 1), "the first of another minute");
        assert!(!answer(61_001, 1));
        assert!(
            !table.may_answer(at(200_000), source(1), 900, 10, || false),
            "unproven_total"
        );
    }

    #[test]
    fn a_flood_of_sources_pushes_out_the_silent_ones() {
        let mut table = table();
        for n in 0..8 {
            admit(&mut table, at(1_000), source(n), true);
        }
        for n in 0..500_000u32 {
            admit(&mut table, at(2_000), source(0x0a00_0000 + n), true);
            if n % 1_000 == 0 {
                // A source that speaks now and then is the younger one in its set, mostly; it is never doubled.
                admit(&mut table, at(2_000), source(3), true);
            }
        }
        let bits = source(3).bits();
        let keys = table.sets.iter().flat_map(|[keys, ..]| keys);
        let places = keys.filter(|key| **key == bits).count();
        assert!(places <= 1);
    }

    #[test]
    fn loopback_of_ipv6_has_bits_of_zero_and_a_bucket_all_the_same() {
        let mut table = table();
        let source: Source = "::1".parse().unwrap();
        let passed = (0..50)
            .filter(|_| admit(&mut table, at(0), source, true) == Budget::Within)
            .count();
        assert_eq!(passed, 10);
    }
}
