//! Random numbers of a simulation: splitmix64, so that a seed printed by a failing run gives that run again on any machine.
//! Nothing secret is made from it.

use std::time::Duration;

/// A stream of numbers that depends on its seed only.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for each purpose, so that one more number drawn here changes nothing there.
    pub fn fork(&self, purpose: &str) -> Self {
        let mixed = purpose.bytes().fold(self.0, |state, byte| {
            (state ^ u64::from(byte))
                .wrapping_mul(0x0100_0000_01b3)
                .rotate_left(17)
        });
        let mut fork = Self(mixed);
        fork.next_u64();
        fork
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A seed for what is hashed and signed under test.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            self.next_u64() % bound
        }
    }

    /// A number from `from` to `to`, both included.
    pub fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }

    /// A time from zero to `longest`, in whole microseconds.
    pub fn up_to(&mut self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(longest.as_micros() as u64 + 1))
    }

    /// True in `per_mille` of 1,000 cases.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_run() {
        let run = |mut random: Random| [(); 8].map(|()| random.next_u64());
        assert_eq!(run(Random::new(7)), run(Random::new(7)));
        assert_ne!(run(Random::new(7)), run(Random::new(8)));
        assert_ne!(
            run(Random::new(7).fork("network")),
            run(Random::new(7).fork("phones"))
        );
    }

    #[test]
    fn bounds_hold_and_chances_are_fair() {
        let mut random = Random::new(1);
        assert!((0..1000).all(|_| (3..=5).contains(&random.between(3, 5))));
        assert_eq!(
            (random.below(0), random.up_to(Duration::ZERO)),
            (0, Duration::ZERO)
        );
        let hits = (0..10_000).filter(|_| random.chance(100)).count();
        assert!((800..1200).contains(&hits), "{hits}");
        assert!(!random.chance(0) && random.chance(1000));
    }
}
