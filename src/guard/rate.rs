//! Rates as "when would the backlog be worked off": one number a bucket (the generic cell rate algorithm), and a fixed
//! table of such buckets for sources that have proved something.

use crate::source::Source;
use crate::time::Instant;

/// So many at once, so many a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Between two, in nanoseconds.
    interval_ns: u64,
    /// Backlog that is let through, in nanoseconds.
    burst_ns: u64,
}

impl Rate {
    /// `None`: no limit. 0 a second: nothing at all.
    pub fn new(per_second: Option<u32>, burst: u32) -> Self {
        let Some(per_second) = per_second else {
            return Self {
                interval_ns: 0,
                burst_ns: u64::MAX,
            };
        };
        match 1_000_000_000u64.checked_div(u64::from(per_second)) {
            None => Self {
                interval_ns: 1,
                burst_ns: 0,
            },
            Some(interval_ns) => {
                let interval_ns = interval_ns.max(1);
                Self {
                    interval_ns,
                    burst_ns: interval_ns.saturating_mul(u64::from(burst.max(1))),
                }
            }
        }
    }

    /// The same rate for those who come first: one part in `parts` of what may come at once is kept for others.
    pub fn leaving(self, parts: u64) -> Self {
        let kept = self.burst_ns.checked_div(parts).unwrap_or(0);
        let one = self.interval_ns.min(self.burst_ns);
        Self {
            burst_ns: self.burst_ns.saturating_sub(kept).max(one),
            ..self
        }
    }

    /// One part in `parts` of it.
    pub fn part(self, parts: u64) -> Self {
        Self {
            interval_ns: self.interval_ns.saturating_mul(parts),
            ..self
        }
    }

    /// When the backlog of one more would be worked off, if it may pass.
    #[inline]
    fn after(self, backlog_until: u64, now: Instant) -> Option<u64> {
        // 64 bits hold 584 years.
        let now = now.as_micros().wrapping_mul(1000);
        // A bucket of another rate counts for one full burst at most.
        let backlog = backlog_until.saturating_sub(now).min(self.burst_ns);
        let next = backlog.wrapping_add(self.interval_ns);
        (next <= self.burst_ns).then_some(now.wrapping_add(next))
    }

    /// Whether one more may pass now, without taking it.
    pub fn has(self, bucket: &Bucket, now: Instant) -> bool {
        self.after(bucket.0, now).is_some()
    }

    /// Takes one if it may pass now.
    #[inline]
    pub fn take(self, bucket: &mut Bucket, now: Instant) -> bool {
        match self.after(bucket.0, now) {
            Some(next) => {
                bucket.0 = next;
                true
            }
            None => false,
        }
    }
}

/// When its backlog is worked off, in nanoseconds of the monotonic clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket(u64);

/// What of a source's packets a bucket is for: each has its own, so that what is forged in a source's name uses up none of
/// what only the source itself can send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purse {
    /// Whatever comes from it.
    Any,
    /// With a fresh nonce of its own.
    Proven,
    /// With a branch or tag that only its peer in a transaction or dialog can have seen.
    Answering,
    /// Turned away before.
    Repeated,
}

impl Purse {
    /// Tells the purses of a source apart, in its bits and in its hash: the multiplier of Fibonacci hashing.
    fn salt(self) -> u64 {
        (self as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// Ways of a set: a bucket may lie in any of these places.
const WAYS: usize = 4;

/// Buckets of proven, known and exempt sources. The one idle longest in its set goes: all that is lost is a backlog.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    /// Source's bits, salted (0: free), and bucket, by turns.
    sets: Vec<[u64; WAYS * 2]>,
}

impl Buckets {
    pub fn new(sources: usize) -> Self {
        let sets = sources.checked_div(WAYS).unwrap_or(1).next_power_of_two();
        Self {
            sets: vec![[0; WAYS * 2]; sets],
        }
    }

    /// Takes one from a bucket of `source`, which is a full one if it has none yet. `hash`: the source's.
    #[inline]
    pub fn take(
        &mut self,
        (hash, source): (u32, Source),
        purse: Purse,
        rate: Rate,
        now: Instant,
    ) -> bool {
        let salt = purse.salt();
        let set = (hash as usize ^ (salt >> 32) as usize) & self.sets.len().wrapping_sub(1);
        let Some(set) = self.sets.get_mut(set) else {
            return false;
        };
        // 0 is ::/64, loopback and unspecified addresses; it shares its bits with a free place, which does no harm.
        let bits = source.bits() ^ salt;
        let (pairs, _) = set.as_chunks_mut::<2>();
        let mut victim = 0;
        let mut earliest = u64::MAX;
        for (at, [key, until]) in pairs.iter_mut().enumerate() {
            if *key == bits {
                let mut bucket = Bucket(*until);
                let passes = rate.take(&mut bucket, now);
                *until = bucket.0;
                return passes;
            }
            if *until < earliest {
                (victim, earliest) = (at, *until);
            }
        }
        let mut bucket = Bucket::default();
        let passes = rate.take(&mut bucket, now);
        if let Some(place) = pairs.get_mut(victim) {
            *place = [bits, bucket.0];
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::super::Hasher;
    use super::*;

    #[test]
    fn burst_then_rate() {
        let rate = Rate::new(Some(20), 20);
        let mut bucket = Bucket::default();
        let start = 5_000_000;
        let passed = (0..100)
            .filter(|_| rate.take(&mut bucket, Instant::from_micros(start)))
            .count();
        assert_eq!(passed, 20);
        assert!(!rate.has(&bucket, Instant::from_micros(start + 49_000)));
        assert!(rate.has(&bucket, Instant::from_micros(start + 50_000)));
        let passed = (0..10_000u64)
            .filter(|ms| rate.take(&mut bucket, Instant::from_micros(start + ms * 1000)))
            .count();
        assert!((199..=200).contains(&passed), "{passed}");
    }

    #[test]
    fn a_part_is_left_to_others() {
        let rate = Rate::new(Some(1_000), 1_000);
        let (first, mut bucket) = (rate.leaving(4), Bucket::default());
        let now = Instant::from_micros(7_000_000);
        let mut passed =
            |rate: Rate, now| (0..2_000).filter(|_| rate.take(&mut bucket, now)).count();
        assert_eq!((passed(first, now), passed(rate, now)), (750, 250));
        let later = Instant::from_micros(7_100_000);
        assert_eq!(
            (passed(first, later), passed(rate, later)),
            (0, 100),
            "they go first"
        );
        assert!(
            Rate::new(Some(1), 1)
                .leaving(4)
                .has(&Bucket::default(), now),
            "a single one"
        );
        assert!(
            !Rate::new(Some(0), 1)
                .leaving(4)
                .has(&Bucket::default(), now)
        );
        assert!(Rate::new(None, 1).leaving(4).has(&Bucket::default(), now));
    }

    #[test]
    fn a_part_of_a_rate() {
        let now = |s: u64| Instant::from_micros(s * 1_000_000);
        let taken = |rate: Rate, bucket: &mut Bucket, s| {
            (0..5_000).filter(|_| rate.take(bucket, now(s))).count()
        };
        let (rate, mut bucket) = (Rate::new(Some(2_000), 2_000).part(4), Bucket::default());
        assert_eq!(taken(rate, &mut bucket, 7), 500);
        assert_eq!(taken(rate, &mut bucket, 8), 500);
        assert_eq!(
            taken(Rate::new(None, 1).part(4), &mut Bucket::default(), 7),
            5_000
        );
        assert_eq!(
            taken(Rate::new(Some(0), 1).part(4), &mut Bucket::default(), 7),
            0
        );
    }

    #[test]
    fn no_limit_and_nothing_at_all() {
        let mut bucket = Bucket::default();
        let now = Instant::from_micros(1);
        assert!((0..10_000).all(|_| Rate::new(None, 1).take(&mut bucket, now)));
        assert!(!Rate::new(Some(0), 10).take(&mut Bucket::default(), now));
    }

    #[test]
    fn a_bucket_of_each_source() {
        let hasher = Hasher::new(&[1; 32]);
        let mut buckets = Buckets::new(64);
        let rate = Rate::new(Some(1), 2);
        let now = Instant::from_micros(9_000_000);
        for address in ["192.0.2.1", "192.0.2.2", "::1"] {
            let source = address.parse().unwrap();
            let hash = hasher.source(source);
            for purse in [Purse::Any, Purse::Proven, Purse::Answering, Purse::Repeated] {
                let mut take = || buckets.take((hash, source), purse, rate, now);
                let taken = [take(), take(), take()];
                assert_eq!(taken, [true, true, false], "{address} {purse:?}");
            }
        }
    }
}
