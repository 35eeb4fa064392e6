//! Known sources are not banned for one broken phone behind them: the failing (source, user) pair waits 1, 2, 4 … 300 s
//! instead. A fixed table of 16,384 × 32 bytes, four ways a pair; the pair whose delay ends first in its set goes.

use super::Hasher;
use super::failures::fold;
use crate::limits;
use crate::source::Source;
use crate::time::Instant;

const WAYS: usize = 4;
/// Key; end of the delay in ms (48 bits) and failures (16); four fingerprints of 32 bits.
const WORDS: usize = 4;
/// The longest delay.
const SECONDS_MAX: u64 = 300;
/// So long after the end of its delay a pair begins again at 1 s.
const FORGET_MS: u64 = 3_600_000;

/// What one more failure of a pair did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// This answer was counted before.
    Repeated,
    /// It waits for so long now.
    Delayed(u32),
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Delays {
    sets: Vec<[u64; WAYS * WORDS]>,
    hasher: Hasher,
}

impl Delays {
    pub fn new(hasher: Hasher) -> Self {
        let sets = (limits::DELAYED_PAIRS_MAX / WAYS).next_power_of_two();
        Self {
            sets: vec![[0; WAYS * WORDS]; sets],
            hasher,
        }
    }

    fn cells(&mut self, key: u64) -> &mut [[u64; WORDS]] {
        let set = (key >> 32) as usize & self.sets.len().wrapping_sub(1);
        self.sets
            .get_mut(set)
            .map_or(&mut [], |set| set.as_chunks_mut::<WORDS>().0)
    }

    fn find(&mut self, source: Source, user: &[u8]) -> Option<&mut [u64; WORDS]> {
        let key = self.hasher.pair(source, user);
        self.cells(key)
            .iter_mut()
            .find(|cell| cell.first() == Some(&key))
    }

    /// Whether the pair waits.
    pub fn is_delayed(&mut self, now: Instant, source: Source, user: &[u8]) -> bool {
        self.find(source, user)
            .is_some_and(|[_, word, ..]| *word >> 16 > millis(now))
    }

    /// It failed once more.
    pub fn fail(&mut self, now: Instant, source: Source, user: &[u8], fingerprint: u64) -> Failed {
        let now = millis(now);
        let answer = u64::from(fold(fingerprint).max(1));
        let key = self.hasher.pair(source, user);
        let cells = self.cells(key);
        let at = cells.iter().position(|[k, ..]| *k == key);
        let at = at.or_else(|| {
            let (at, _) = cells
                .iter()
                .enumerate()
                .min_by_key(|(_, [_, word, ..])| *word >> 16)?;
            Some(at)
        });
        let Some(cell) = at.and_then(|at| cells.get_mut(at)) else {
            return Failed::Delayed(1);
        };
        let [k, word, newer, older] = cell;
        if *k != key || now > (*word >> 16).saturating_add(FORGET_MS) {
            (*k, *word, *newer, *older) = (key, 0, 0, 0);
        }
        let seen = [*newer >> 32, *newer, *older >> 32, *older].map(|answer| answer & 0xffff_ffff);
        if seen.contains(&answer) {
            return Failed::Repeated;
        }
        (*older, *newer) = (*older << 32 | *newer >> 32, *newer << 32 | answer);
        let failures = *word & 0xffff;
        let seconds = 1u64
            .checked_shl(failures as u32)
            .unwrap_or(u64::MAX)
            .min(SECONDS_MAX);
        let until = now.saturating_add(seconds.saturating_mul(1000));
        *word = until << 16 | failures.saturating_add(1).min(0xffff);
        Failed::Delayed(seconds as u32)
    }

    /// It answered right: nothing waits any more.
    pub fn forget(&mut self, source: Source, user: &[u8]) {
        if let Some(cell) = self.find(source, user) {
            *cell = [0; WORDS];
        }
    }
}

fn millis(now: Instant) -> u64 {
    now.as_micros() / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn delays_double_up_to_five_minutes() {
        let mut delays = Delays::new(Hasher::new(&[5; 32]));
        let source = "192.0.2.1".parse().unwrap();
        let mut now = 100;
        for (n, seconds) in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
            .into_iter()
            .enumerate()
        {
            assert!(!delays.is_delayed(at(now), source, b"100"));
            assert_eq!(
                delays.fail(at(now), source, b"100", n as u64 + 1),
                Failed::Delayed(seconds)
            );
            assert_eq!(
                delays.fail(at(now), source, b"100", n as u64 + 1),
                Failed::Repeated
            );
            assert!(delays.is_delayed(at(now), source, b"100"));
            assert!(
                !delays.is_delayed(at(now), source, b"101"),
                "the rest of the office"
            );
            now += u64::from(seconds);
        }
        delays.forget(source, b"100");
        assert_eq!(delays.fail(at(now), source, b"100", 99), Failed::Delayed(1));
        assert_eq!(
            delays.fail(at(now + 1), source, b"100", 98),
            Failed::Delayed(2)
        );
        assert_eq!(
            delays.fail(at(now + 3 + 3_601), source, b"100", 97),
            Failed::Delayed(1),
            "an hour of peace"
        );
    }

    #[test]
    fn many_pairs_stay_within_the_table() {
        let mut delays = Delays::new(Hasher::new(&[5; 32]));
        let source = "192.0.2.1".parse().unwrap();
        for n in 0..100_000u32 {
            assert_eq!(
                delays.fail(at(1), source, &n.to_be_bytes(), 7),
                Failed::Delayed(1)
            );
        }
        assert!(delays.is_delayed(at(1), source, &99_999u32.to_be_bytes()));
        let words = delays.sets.len() * WAYS * WORDS;
        assert_eq!(words * 8, limits::DELAYED_PAIRS_MAX * 32);
    }
}
