//! How many different things there were, in 32 bytes: each sets one of 256 bits, and few of them fall together.

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Distinct([u64; 4]);

const BITS: u32 = 256;

impl Distinct {
    /// One more, or one of those before; `hash` is of it, under a key.
    pub fn add(&mut self, hash: u64) {
        let bit = 1u64 << (hash >> 2 & 63);
        if let Some(word) = self.0.get_mut(hash as usize & 3) {
            *word |= bit;
        }
    }

    /// How many there were: off by one now and then up to twenty, by a twentieth up to two hundred; at most 1,420.
    pub fn count(&self) -> u32 {
        let set: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        // Of so many that the share of free bits is what it is, some fell on one another.
        let free = f64::from(BITS.saturating_sub(set).max(1)) / f64::from(BITS);
        (-f64::from(BITS) * free.ln()).round() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_as_many_as_there_were() {
        for (seed, many) in [(1, 0), (2, 1), (3, 3), (4, 20), (5, 200), (6, 600)] {
            let mut distinct = Distinct::default();
            let hasher = ahash::RandomState::with_seeds(seed, 2, 3, 4);
            for _ in 0..3 {
                for n in 0..many {
                    distinct.add(hasher.hash_one(n));
                }
            }
            let (count, slack) = (distinct.count(), many / 10 + u32::from(many > 3));
            assert!(count.abs_diff(many) <= slack, "{count} of {many}");
        }
        let mut distinct = Distinct::default();
        (0..100_000u64).for_each(|n| distinct.add(n));
        assert_eq!(distinct.count(), 1_420);
    }
}
