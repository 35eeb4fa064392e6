//! What a proven source did wrong: when, which answers (so that a repeated packet counts once) and under which names.

use std::time::Duration;

use super::bans::Evidence;
use super::distinct::Distinct;
use crate::config;
use crate::store::BanReason;
use crate::time::{Instant, Now, UnixTime};

/// Failures in a day, without one success, that ban whatever `failures_max` says.
pub(super) const DAY_MAX: usize = 30;
const DAY: Duration = Duration::from_secs(86_400);
/// Different answers of a source that are remembered, to see a repeated one.
const ANSWERS: usize = 16;
/// Times are kept in tenths of a second: 13 years fit.
const TICK_US: u64 = 100_000;

/// Names that a source tried: at most eight, 32 bytes of each, 120 bytes in all. Evidence for people, not a measure.
#[derive(Clone, Copy)]
pub(super) struct Names {
    bytes: [u8; 120],
    /// Where each ends; 0: no more names.
    ends: [u8; 8],
}

/// Bytes kept of a name; longer ones are cut.
const NAME_BYTES_MAX: usize = 32;

impl Names {
    pub const fn new() -> Self {
        Self {
            bytes: [0; 120],
            ends: [0; 8],
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0usize;
        self.ends.iter().map_while(move |end| {
            let name = self.bytes.get(start..usize::from(*end))?;
            start = usize::from(*end);
            (!name.is_empty()).then_some(name)
        })
    }

    /// Adds a name if it is new and there is room.
    pub fn add(&mut self, name: &[u8]) {
        let name = name.get(..NAME_BYTES_MAX).unwrap_or(name);
        if name.is_empty() || self.iter().any(|known| known == name) {
            return;
        }
        let used = self.ends.iter().max().copied().unwrap_or(0);
        let start = usize::from(used);
        let end = start.saturating_add(name.len());
        let free = self.ends.iter_mut().find(|end| **end == 0);
        if let (Some(free), Some(place)) = (free, self.bytes.get_mut(start..end)) {
            place.copy_from_slice(name);
            *free = end as u8;
        }
    }

    /// For people: what is not UTF-8 is replaced.
    pub fn strings(&self) -> Vec<String> {
        self.iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.strings()).finish()
    }
}

/// The failures of one source. They begin anew after a ban, and are gone after a success (it is known then).
#[derive(Clone, Debug)]
pub(super) struct Failures {
    /// The last ones, in ticks of the monotonic clock, as a ring.
    times: [u32; DAY_MAX],
    /// Fingerprints of the last answers, as a ring; 32 bits are enough to tell 16 apart.
    answers: [u32; ANSWERS],
    /// How many there were; the rings' places follow from it.
    count: u32,
    /// How many since the last ban, for people.
    count_since_ban: u32,
    pub names: Names,
    /// Names that failed within a day, and when that day began.
    distinct: (Distinct, Instant),
    pub first_seen: UnixTime,
    pub last_seen: UnixTime,
}

impl Failures {
    pub fn new(now: Now) -> Self {
        Self {
            times: [0; DAY_MAX],
            answers: [0; ANSWERS],
            count: 0,
            count_since_ban: 0,
            names: Names::new(),
            distinct: (Distinct::default(), now.mono),
            first_seen: now.unix,
            last_seen: now.unix,
        }
    }

    /// Whether this answer was counted before.
    pub fn has(&self, fingerprint: u64) -> bool {
        let used = usize::try_from(self.count).unwrap_or(ANSWERS).min(ANSWERS);
        self.answers
            .iter()
            .take(used)
            .any(|answer| *answer == fold(fingerprint))
    }

    /// How many names failed today, about.
    pub fn names_failed(&self) -> u32 {
        self.distinct.0.count()
    }

    /// Counts one; `name` is a hash of the user.
    pub fn add(&mut self, now: Now, (user, name): (&[u8], u64), fingerprint: u64) {
        if now.mono.since(self.distinct.1) >= DAY {
            self.distinct = (Distinct::default(), now.mono);
        }
        self.distinct.0.add(name);
        let count = self.count as usize;
        if let Some(time) = self.times.get_mut(count.checked_rem(DAY_MAX).unwrap_or(0)) {
            *time = tick(now.mono);
        }
        if let Some(answer) = self
            .answers
            .get_mut(count.checked_rem(ANSWERS).unwrap_or(0))
        {
            *answer = fold(fingerprint);
        }
        self.count = self.count.saturating_add(1);
        self.count_since_ban = self.count_since_ban.saturating_add(1);
        self.names.add(user);
        self.last_seen = now.unix;
    }

    /// How many of them lie within `window` before `now`; at most [`DAY_MAX`].
    pub fn within(&self, now: Instant, window: Duration) -> usize {
        let now = tick(now);
        let window = ticks(window.as_micros().min(u128::from(u64::MAX)) as u64);
        let used = usize::try_from(self.count).unwrap_or(DAY_MAX).min(DAY_MAX);
        self.times
            .iter()
            .take(used)
            .filter(|t| **t != 0 && now.saturating_sub(**t) < window)
            .count()
    }

    /// Whether they deserve a ban.
    pub fn is_enough(&self, now: Instant, config: &config::Guard) -> bool {
        // The ring holds a day's worth: a larger `failures_max` is reached by the day's rule first.
        let max = usize::try_from(config.failures_max)
            .unwrap_or(DAY_MAX)
            .clamp(1, DAY_MAX);
        self.within(now, config.failures_window) >= max || self.within(now, DAY) >= DAY_MAX
    }

    /// After a ban or a success: failures begin anew, names and answers stay.
    pub fn begin_anew(&mut self) {
        self.times = [0; DAY_MAX];
    }

    /// What a ban tells of them; it begins now. How many there were begins anew too.
    pub fn evidence(&mut self, now: Now, reason: BanReason) -> Evidence {
        self.begin_anew();
        self.distinct.0 = Distinct::default();
        Evidence {
            reason,
            failures: std::mem::take(&mut self.count_since_ban),
            step: 0,
            names: self.names,
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            since: now.unix,
            until: now.unix,
            observed: false,
        }
    }
}

fn tick(now: Instant) -> u32 {
    ticks(now.as_micros()).saturating_add(1)
}

fn ticks(micros: u64) -> u32 {
    u32::try_from(micros / TICK_US).unwrap_or(u32::MAX)
}

/// 64 bits to 32.
pub(super) const fn fold(fingerprint: u64) -> u32 {
    (fingerprint >> 32) as u32 ^ fingerprint as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now {
            mono: Instant::from_micros(seconds * 1_000_000),
            unix: UnixTime::from_millis(seconds * 1000),
        }
    }

    #[test]
    fn the_window_slides() {
        let mut failures = Failures::new(at(1));
        for second in [1, 50, 70] {
            failures.add(at(second), (b"100", 0), second);
        }
        let window = Duration::from_secs(60);
        assert_eq!(failures.within(at(70).mono, window), 2);
        assert_eq!(failures.within(at(109).mono, window), 2);
        assert_eq!(failures.within(at(110).mono, window), 1);
        assert_eq!(failures.within(at(130).mono, window), 0);
        failures.begin_anew();
        assert_eq!(
            failures.within(at(2).mono, window),
            0,
            "nothing, on a young clock too"
        );
    }

    #[test]
    fn names_are_counted_for_a_day() {
        let mut failures = Failures::new(at(1));
        for n in 0..6u64 {
            failures.add(at(n * 14_000), (b"", n % 3), n);
        }
        assert_eq!(failures.names_failed(), 3);
        failures.add(at(86_401), (b"", 0), 7);
        assert_eq!(failures.names_failed(), 1, "another day");
    }

    #[test]
    fn the_last_sixteen_answers_count_once() {
        let mut failures = Failures::new(at(1));
        assert!(!failures.has(0), "an empty place is no answer");
        for n in 0..20u64 {
            failures.add(at(1), (b"", 0), n << 40);
        }
        assert!((4..20u64).all(|n| failures.has(n << 40)));
        assert!((0..4u64).all(|n| !failures.has(n << 40)));
    }

    #[test]
    fn names_are_bounded_and_never_doubled() {
        let mut names = Names::new();
        for _ in 0..2 {
            names.add(b"100");
            names.add(b"");
            names.add(&[b'x'; 500]);
            names.add(b"\xff\xfe");
            names.add("Zoë".as_bytes());
        }
        assert_eq!(
            names.strings(),
            ["100", &"x".repeat(32), "\u{fffd}\u{fffd}", "Zoë"]
        );
        for n in 0..100 {
            names.add(format!("{n:0>30}").as_bytes());
        }
        assert_eq!(names.strings().len(), 6, "120 bytes are full");
        let mut short = Names::new();
        for n in 0..100 {
            short.add(format!("{n}").as_bytes());
        }
        assert_eq!(short.strings().len(), 8);
    }
}
