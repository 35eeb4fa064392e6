//! Sources that have proved nothing: a token bucket each, in a fixed table of 16 bytes a source.
//!
//! The table is a cache of eight ways: a source has eight possible places, and among those that hold another source,
//! the one with the least backlog goes, which loses least by it. So a flood of forged sources costs nothing but places,
//! and what is throttled stays so. What keeps a million forged sources from a million answers is `unproven_total`.
//!
//! A place knows its source by 32 bits of a seeded hash. Two sources of one set that have them in common, which nobody
//! can choose and which happens once in 2³² pairs, share a bucket and nothing else.
//!
//! A bucket holds answers: one comes back each `unproven_rate`, ever more slowly the more challenges stay unanswered
//! (a phone answers the first; whoever never answers is deaf, forged or scanning). Beside it lie the account of bytes
//! of this minute, for no more may go out than came in (a forger's victim must not get more from us than from him), and
//! the number of packets that were peeked at in this second.

use super::index::matching;
use crate::limits;
use crate::time::Instant;

/// Ways of a set.
const WAYS: usize = 8;
/// Times are 32 bits of 64 µs each. They wrap after 76 hours: then an old one may be taken, for some seconds, for a backlog
/// of its bucket, which does no harm.
const TICK_US: u32 = 1 << TICK_SHIFT;
const TICK_SHIFT: u32 = 6;
/// Most answers of a bucket at once.
const BURST_MAX: u32 = 0xffff;
/// Unanswered challenges that halve the rate once more.
const UNANSWERED_STEP: u8 = 10;
const HALVINGS_MAX: usize = (u8::MAX / UNANSWERED_STEP) as usize;
/// The slowest rate that unanswered challenges lead to: one answer in 10 s.
const INTERVAL_MAX: u32 = 10_000_000 / TICK_US;
/// The account of bytes stays within ±8 MiB: 23 bits and a sign.
const BALANCE_MAX: i32 = (1 << 23) - 1;
/// Added to it, so that what is packed is not negative.
const BALANCE_BIAS: i32 = 1 << 23;
const SECOND_MASK: u32 = (1 << 26) - 1;
/// Of a source that is new: no challenge unanswered, no bytes in or out.
const ACCOUNT_NEW: u32 = BALANCE_BIAS.cast_unsigned();

/// What is kept of one source beside its backlog, unpacked.
///
/// ```text
/// account:  unanswered 8 | balance 24
/// stamp:    second 26 | challenged 1 | peeked 5
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    /// Challenges sent since it last proved anything, up to 255.
    unanswered: u8,
    /// Bytes in less bytes out of this minute.
    balance: i32,
    /// Of which second the rest is, and of which minute the balance; 26 bits.
    second: u32,
    /// This minute's first challenge, which the balance does not hold back, was sent.
    challenged: bool,
    /// Packets peeked at in this second, up to 31.
    peeked: u32,
}

impl Account {
    /// As it is at `now`: what is of another minute or second is forgotten.
    fn unpack(account: u32, stamp: u32, now: Instant) -> Self {
        let second = (now.as_micros() / 1_000_000) as u32 & SECOND_MASK;
        let seen = stamp >> 6;
        let is_of_minute = seen / 60 == second / 60;
        let balance = (account & 0xff_ffff).cast_signed();
        Self {
            unanswered: (account >> 24) as u8,
            balance: match is_of_minute {
                true => balance.wrapping_sub(BALANCE_BIAS),
                false => 0,
            },
            second,
            challenged: is_of_minute && stamp >> 5 & 1 == 1,
            peeked: if seen == second { stamp & 0x1f } else { 0 },
        }
    }

    fn pack(self) -> [u32; 2] {
        let balance = self.balance.clamp(-BALANCE_MAX, BALANCE_MAX);
        let balance = balance.wrapping_add(BALANCE_BIAS).cast_unsigned();
        [
            u32::from(self.unanswered) << 24 | balance,
            self.second << 6 | u32::from(self.challenged) << 5 | self.peeked,
        ]
    }
}

/// What [`Unproven::admit`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Budget {
    /// An answer was taken from the bucket.
    Within,
    /// There is one in it, but it was not to be taken.
    Crowded,
    /// Over it, but few enough of its packets were peeked at in this second.
    Peek,
    /// Over both.
    #[default]
    Over,
}

/// The rates of the configuration, in ticks.
#[derive(Clone, Copy, Debug)]
struct Rates {
    /// Between two answers.
    interval: u32,
    /// The backlog of a bucket that has nothing left.
    burst: u32,
    /// More than any bucket's backlog can be.
    backlog_max: u32,
    /// Between two answers, after so many times ten unanswered challenges.
    intervals: [u32; HALVINGS_MAX + 1],
}

impl Rates {
    /// `None`: no limit. 0 a second: nothing at all.
    fn new(rate: Option<u32>, burst: u32) -> Self {
        let Some(rate) = rate else {
            return Self {
                interval: 0,
                burst: u32::MAX,
                backlog_max: u32::MAX,
                intervals: [0; HALVINGS_MAX + 1],
            };
        };
        let (interval, burst) = match rate {
            0 => (1, 0),
            rate => {
                let interval = (1_000_000 / TICK_US).div_ceil(rate);
                (interval, interval.saturating_mul(burst.clamp(1, BURST_MAX)))
            }
        };
        let slowest = interval.max(INTERVAL_MAX);
        let halved = |times: usize| {
            let doubled = 1u32.checked_shl(times as u32).unwrap_or(u32::MAX);
            interval.saturating_mul(doubled).min(slowest)
        };
        Self {
            interval,
            burst,
            backlog_max: burst.saturating_add(slowest),
            intervals: std::array::from_fn(halved),
        }
    }

    /// What a bucket owes whose backlog is worked off at `until`.
    #[inline]
    fn backlog(&self, until: u32, now: u32) -> u32 {
        // Times before now are far ahead of it here.
        match until.wrapping_sub(now) {
            backlog if backlog <= self.backlog_max => backlog,
            _ => 0,
        }
    }

    #[inline]
    fn interval_after(&self, unanswered: u8) -> u32 {
        let halvings = usize::from(unanswered / UNANSWERED_STEP);
        self.intervals.get(halvings).copied().unwrap_or(u32::MAX)
    }
}

/// The sources of one set: tags (0: free), when the backlogs are worked off, accounts and stamps, see [`Account`].
/// Arrays and not structs: only of those the allocator takes zeroed pages untouched.
type Set = [[u32; WAYS]; 4];

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Unproven {
    sets: Vec<Set>,
    rates: Rates,
}

impl Unproven {
    pub fn new(rate: Option<u32>, burst: u32) -> Self {
        let sets = limits::UNPROVEN_SOURCES_MAX / WAYS;
        // Zeroed by the kernel, touched as sources come.
        Self {
            sets: vec![[[0; WAYS]; 4]; sets.next_power_of_two()],
            rates: Rates::new(rate, burst),
        }
    }

    pub fn reload(&mut self, rate: Option<u32>, burst: u32) {
        self.rates = Rates::new(rate, burst);
    }

    /// Takes an answer from the bucket of the source with these hashes, if `may_take` and there is one.
    #[inline]
    pub fn admit(&mut self, now: Instant, source: (u32, u32), may_take: bool) -> Budget {
        let ticks = ticks(now);
        let Some((rates, [until, account, stamp])) = self.cell(ticks, source) else {
            return Budget::Over;
        };
        let backlog = rates.backlog(*until, ticks);
        if backlog.saturating_add(rates.interval) <= rates.burst {
            if !may_take {
                return Budget::Crowded;
            }
            let interval = rates.interval_after((*account >> 24) as u8);
            *until = ticks.wrapping_add(backlog).wrapping_add(interval);
            return Budget::Within;
        }
        match peek(now, account, stamp) {
            true => Budget::Peek,
            false => Budget::Over,
        }
    }

    /// Whether few enough of its packets were peeked at in this second; now one more was.
    pub fn may_peek(&mut self, now: Instant, source: (u32, u32)) -> bool {
        self.cell(ticks(now), source)
            .is_some_and(|(_, [_, account, stamp])| peek(now, account, stamp))
    }

    /// Whether `bytes_out` may answer `bytes_in`, and `total` agrees; then they are on the account and one more
    /// challenge is unanswered.
    pub fn may_answer(
        &mut self,
        now: Instant,
        source: (u32, u32),
        bytes_in: usize,
        bytes_out: usize,
        total: impl FnOnce() -> bool,
    ) -> bool {
        let Some((_, [_, account, stamp])) = self.cell(ticks(now), source) else {
            return false;
        };
        let mut unpacked = Account::unpack(*account, *stamp, now);
        let bytes = |n: usize| i32::try_from(n).unwrap_or(BALANCE_MAX).min(BALANCE_MAX);
        let balance = unpacked.balance.saturating_add(bytes(bytes_in));
        let left = balance.saturating_sub(bytes(bytes_out));
        let may = (left >= 0 || !unpacked.challenged) && total();
        if may {
            (unpacked.balance, unpacked.challenged) = (left, true);
            unpacked.unanswered = unpacked.unanswered.saturating_add(1);
        } else {
            unpacked.balance = balance;
        }
        [*account, *stamp] = unpacked.pack();
        may
    }

    /// Whether one more challenge may go to whoever receives what we send to it, but answers nothing: the first ones may,
    /// then the bucket decides.
    pub fn may_challenge(&mut self, now: Instant, source: (u32, u32)) -> bool {
        let ticks = ticks(now);
        let Some((rates, [until, account, stamp])) = self.cell(ticks, source) else {
            return false;
        };
        let mut unpacked = Account::unpack(*account, *stamp, now);
        if unpacked.unanswered >= limits::UNANSWERED_FREE {
            let backlog = rates.backlog(*until, ticks);
            if backlog.saturating_add(rates.interval) > rates.burst {
                return false;
            }
            let interval = rates.interval_after(unpacked.unanswered);
            *until = ticks.wrapping_add(backlog).wrapping_add(interval);
        }
        unpacked.unanswered = unpacked.unanswered.saturating_add(1);
        [*account, *stamp] = unpacked.pack();
        true
    }

    /// It did what phones do not: as good as a challenge that it left unanswered.
    pub fn suspect(&mut self, now: Instant, source: (u32, u32)) {
        if let Some((_, [_, account, stamp])) = self.cell(ticks(now), source) {
            let mut unpacked = Account::unpack(*account, *stamp, now);
            unpacked.unanswered = unpacked.unanswered.saturating_add(1);
            [*account, *stamp] = unpacked.pack();
        }
    }

    /// It answered a challenge.
    pub fn prove(&mut self, (hash, tag): (u32, u32)) {
        let set = hash as usize & self.sets.len().wrapping_sub(1);
        let Some([tags, _, accounts, _]) = self.sets.get_mut(set) else {
            return;
        };
        for (own, account) in tags.iter().zip(accounts) {
            if *own == tag {
                *account &= u32::MAX >> 8;
            }
        }
    }

    /// The place of a source: backlog, account and stamp. If it has none, a new one where the one with the least
    /// backlog was.
    #[inline]
    fn cell(&mut self, now: u32, (hash, tag): (u32, u32)) -> Option<(&Rates, [&mut u32; 3])> {
        let set = hash as usize & self.sets.len().wrapping_sub(1);
        let [tags, untils, accounts, stamps] = self.sets.get_mut(set)?;
        let found = matching(tags, tag);
        let at = if found != 0 {
            found.trailing_zeros() as usize
        } else {
            let latest = now.wrapping_add(self.rates.backlog_max);
            let at = least_backlog(untils, latest);
            *tags.get_mut(at)? = tag;
            *untils.get_mut(at)? = now;
            *accounts.get_mut(at)? = ACCOUNT_NEW;
            *stamps.get_mut(at)? = 0;
            at
        };
        let cell = [
            untils.get_mut(at)?,
            accounts.get_mut(at)?,
            stamps.get_mut(at)?,
        ];
        Some((&self.rates, cell))
    }
}

fn peek(now: Instant, account: &mut u32, stamp: &mut u32) -> bool {
    let mut unpacked = Account::unpack(*account, *stamp, now);
    let may = unpacked.peeked < limits::PEEKS_PER_SOURCE;
    if may {
        unpacked.peeked = unpacked.peeked.saturating_add(1);
        [*account, *stamp] = unpacked.pack();
    }
    may
}

/// The place whose backlog is worked off longest before `latest`, give or take half a millisecond: place and time lie in
/// one number, so that no branch depends on what nobody can foresee. One that is free has been so since the clock began.
fn least_backlog(untils: &[u32; WAYS], latest: u32) -> usize {
    let mut least = 0;
    for (at, until) in (0u32..).zip(untils) {
        least = least.max(latest.wrapping_sub(*until) & !7 | at);
    }
    (least & 7) as usize
}

fn ticks(now: Instant) -> u32 {
    (now.as_micros() >> TICK_SHIFT) as u32
}

#[cfg(test)]
mod tests {
    use super::super::Hasher;
    use super::*;
    use crate::source::Source;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn source(n: u32) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::from_bits(n)))
    }

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn hashes(source: Source) -> (u32, u32) {
        Hasher::new(&[3; 32]).source_and_tag(source)
    }

    fn admit(table: &mut Unproven, now: Instant, source: Source, may_take: bool) -> Budget {
        table.admit(now, hashes(source), may_take)
    }

    fn table() -> Unproven {
        Unproven::new(Some(1), 10)
    }

    #[test]
    fn a_source_takes_16_bytes() {
        let table = table();
        assert_eq!(
            std::mem::size_of_val(table.sets.as_slice()),
            limits::UNPROVEN_SOURCES_MAX * 16
        );
    }

    proptest! {
        #[test]
        fn packing_loses_nothing(
            unanswered: u8, balance in -BALANCE_MAX..=BALANCE_MAX, second in 0..=SECOND_MASK, challenged: bool,
            peeked in 0u32..32
        ) {
            let account = Account { unanswered, balance, second, challenged, peeked };
            let [first, stamp] = account.pack();
            let now = Instant::from_micros(u64::from(second) * 1_000_000);
            prop_assert_eq!(Account::unpack(first, stamp, now), account);
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
        let seconds = |rate, unanswered| {
            let ticks = Rates::new(Some(rate), 10).interval_after(unanswered);
            f64::from(ticks) * f64::from(TICK_US) / 1e6
        };
        let steps = [0, 9, 10, 19, 20, 30, 40, 255].map(|unanswered| seconds(1, unanswered));
        assert_eq!(steps, [1.0, 1.0, 2.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        assert_eq!(seconds(1_000, 0), 0.001_024, "never more than the rate");

        let mut table = table();
        let mut answers = 0;
        for second in 0..10_000u64 {
            if admit(&mut table, at(second * 1000), source(1), true) == Budget::Within {
                assert!(table.may_answer(at(second * 1000), hashes(source(1)), 600, 500, || true));
                answers += 1;
            }
        }
        assert!((1_000..1_060).contains(&answers), "{answers}");
        table.prove(hashes(source(1)));
        let now = 10_000_000;
        let passed = (0..5)
            .filter(|n| admit(&mut table, at(now + n * 1000), source(1), true) == Budget::Within)
            .count();
        assert!(passed >= 4, "{passed}: one a second again");
    }

    #[test]
    fn zero_is_nothing_and_empty_no_limit() {
        let mut none = Unproven::new(Some(0), 10);
        assert_eq!(admit(&mut none, at(1), source(1), true), Budget::Peek);
        assert_eq!(
            admit(&mut table(), at(1), source(1), false),
            Budget::Crowded
        );
        let mut unlimited = Unproven::new(None, 10);
        assert!((0..1000).all(|_| admit(&mut unlimited, at(1), source(1), true) == Budget::Within));
    }

    #[test]
    fn twenty_packets_a_second_are_peeked_at() {
        let mut table = table();
        let mut count = |now| {
            (0..100)
                .filter(|_| admit(&mut table, at(now), source(1), true) == Budget::Peek)
                .count()
        };
        assert_eq!(count(9_000), 20, "behind ten that are answered");
        assert_eq!(count(9_900), 0);
        assert_eq!(count(10_000), 20);
    }

    #[test]
    fn no_more_bytes_out_than_in_but_for_a_first_challenge() {
        let mut table = table();
        let mut answer =
            |now, bytes_in| table.may_answer(at(now), hashes(source(1)), bytes_in, 500, || true);
        assert!(answer(0, 300), "the first challenge");
        assert!(!answer(500, 300), "600 in, 1000 out");
        assert!(!answer(1_500, 300), "900 in, 1000 out");
        assert!(answer(3_500, 300), "1200 in, 1000 out");
        assert!(answer(61_000, 1), "the first of another minute");
        assert!(!answer(61_001, 1));
        assert!(
            !table.may_answer(at(200_000), hashes(source(1)), 900, 10, || false),
            "unproven_total"
        );
    }

    #[test]
    fn a_flood_of_sources_pushes_out_those_that_owe_least() {
        let mut table = table();
        for n in 0..20 {
            admit(&mut table, at(1_000), source(3), true);
            admit(&mut table, at(1_000), source(4), n == 0);
        }
        for n in 0..500_000 {
            admit(&mut table, at(2_000), source(0x0a00_0000 + n), true);
        }
        assert_eq!(
            admit(&mut table, at(3_000), source(3), true),
            Budget::Within
        );
        assert_eq!(
            admit(&mut table, at(3_000), source(3), true),
            Budget::Within
        );
        assert_eq!(
            admit(&mut table, at(3_000), source(3), true),
            Budget::Peek,
            "still throttled"
        );
        let tags = table.sets.iter().flat_map(|[tags, ..]| tags);
        let places = |n| {
            tags.clone()
                .filter(|tag| **tag == hashes(source(n)).1)
                .count()
        };
        assert_eq!(
            (places(3), places(4)),
            (1, 0),
            "the one that owes; not the other"
        );
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
