//! Known sources are not banned for one broken phone behind them: the failing (source, user) pair waits 1, 2, 4 … 300 s
//! instead.
//!
//! A fixed sketch: a pair has one place in each of four rows, which it shares with others, and what counts is the least
//! of the four. Places only ever grow until they are forgotten, so whoever fails under ever new names lowers no delay;
//! he lengthens those of others only where he has met them in all four rows, once in 4,500 pairs while 2,000 wait.

use super::Hasher;
use crate::limits;
use crate::source::Source;
use crate::time::Instant;

const ROWS: usize = 4;
/// The longest delay.
const SECONDS_MAX: u64 = 300;
/// So long after the end of its delay a pair begins again at 1 s.
const FORGET_MS: u64 = 3_600_000;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Delays {
    /// Each place: end of the delay in ms (48 bits) and failures (16).
    rows: [Vec<u64>; ROWS],
    hasher: Hasher,
}

impl Delays {
    pub fn new(hasher: Hasher) -> Self {
        let places = (limits::DELAYED_PAIRS_MAX).next_power_of_two();
        Self {
            rows: std::array::from_fn(|_| vec![0; places]),
            hasher,
        }
    }

    /// The pair's place in each row: 64 bits are four times 16, and a row has 2^16 places at most.
    fn places(&self, source: Source, user: &[u8]) -> [usize; ROWS] {
        let hash = self.hasher.pair(source, user);
        [0, 16, 32, 48].map(|shift| (hash >> shift) as usize & 0xffff)
    }

    /// When the pair's delay ends, or ended; the earliest of its places.
    fn until(&self, source: Source, user: &[u8]) -> u64 {
        let places = self.rows.iter().zip(self.places(source, user));
        places
            .filter_map(|(row, at)| row.get(at & row.len().wrapping_sub(1)))
            .map(|place| *place >> 16)
            .min()
            .unwrap_or(0)
    }

    /// Whether the pair waits.
    pub fn is_delayed(&self, now: Instant, source: Source, user: &[u8]) -> bool {
        self.until(source, user) > millis(now)
    }

    /// Lets `change` work on each of the pair's places.
    fn change(&mut self, source: Source, user: &[u8], mut change: impl FnMut(&mut u64)) {
        let places = self.places(source, user);
        for (row, at) in self.rows.iter_mut().zip(places) {
            let at = at & row.len().wrapping_sub(1);
            row.get_mut(at).into_iter().for_each(&mut change);
        }
    }

    /// It failed once more. For how many seconds it waits now.
    pub fn fail(&mut self, now: Instant, source: Source, user: &[u8]) -> u32 {
        let now = millis(now);
        let mut failures = u64::MAX;
        self.change(source, user, |place| {
            if now > (*place >> 16).saturating_add(FORGET_MS) {
                *place = 0;
            }
            failures = failures.min(*place & 0xffff);
        });
        let seconds = 1u64
            .checked_shl(failures.min(0xffff) as u32)
            .unwrap_or(u64::MAX)
            .min(SECONDS_MAX);
        let until = now.saturating_add(seconds.saturating_mul(1000));
        let failures = failures.saturating_add(1).min(0xffff);
        self.change(source, user, |place| {
            *place = (*place >> 16).max(until) << 16 | (*place & 0xffff).max(failures);
        });
        let waits = self.until(source, user).saturating_sub(now).div_ceil(1000);
        u32::try_from(waits).unwrap_or(u32::MAX)
    }
}

fn millis(now: Instant) -> u64 {
    now.as_micros() / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn delays() -> Delays {
        Delays::new(Hasher::new(&[5; 32]))
    }

    #[test]
    fn delays_double_up_to_five_minutes() {
        let mut delays = delays();
        let source = "192.0.2.1".parse().unwrap();
        let mut now = 100;
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300] {
            assert!(!delays.is_delayed(at(now), source, b"100"));
            assert_eq!(delays.fail(at(now), source, b"100"), seconds);
            assert!(delays.is_delayed(at(now), source, b"100"));
            assert!(
                !delays.is_delayed(at(now), source, b"101"),
                "the rest of the office"
            );
            now += u64::from(seconds);
        }
        let later = at(now + 3_601);
        assert_eq!(delays.fail(later, source, b"100"), 1, "an hour of peace");
    }

    #[test]
    fn failures_under_ever_new_names_lower_no_delay() {
        let mut delays = delays();
        let source = "192.0.2.1".parse().unwrap();
        for second in [1, 2, 4, 8, 16, 32, 64, 128, 256] {
            delays.fail(at(second), source, b"100");
        }
        for n in 0..300_000u32 {
            delays.fail(at(300), source, &n.to_be_bytes());
        }
        assert!(delays.is_delayed(at(511), source, b"100"));
        assert!(delays.fail(at(700), source, b"100") >= 300);
        let bytes = delays.rows.iter().map(|row| row.len() * 8).sum::<usize>();
        assert_eq!(bytes, limits::DELAYED_PAIRS_MAX * 32);
    }

    #[test]
    fn two_thousand_that_wait_are_met_by_nobody_else() {
        let mut delays = delays();
        let source = "192.0.2.1".parse().unwrap();
        for n in 0..2_000u32 {
            delays.fail(at(1), source, &n.to_be_bytes());
        }
        let others = (2_000..102_000u32)
            .filter(|n| delays.is_delayed(at(1), source, &n.to_be_bytes()))
            .count();
        assert!(others <= 40, "{others} of 100,000");
    }

    proptest! {
        /// Against a map: never shorter than a table without bounds would have it.
        #[test]
        fn never_shorter_than_it_ought_to_be(steps in proptest::collection::vec((0u64..400, 0u8..12), 1..200)) {
            let mut delays = delays();
            let source = "192.0.2.1".parse().unwrap();
            let mut model = std::collections::BTreeMap::<u8, (u64, u32)>::new();
            let mut now = 10_000;
            for (pause, user) in steps {
                now += pause;
                let (until, failures) = model.entry(user).or_default();
                if now > *until + 3_600 {
                    *failures = 0;
                }
                let seconds = (1u64 << (*failures).min(20)).min(300);
                prop_assert!(u64::from(delays.fail(at(now), source, &[user])) >= seconds);
                (*until, *failures) = ((now + seconds).max(*until), *failures + 1);
                for (user, (until, _)) in &model {
                    prop_assert!(*until <= now || delays.is_delayed(at(now), source, &[*user]));
                }
            }
        }
    }
}
