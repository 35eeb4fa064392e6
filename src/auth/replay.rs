//! Which nonces a user has used, and how often (RFC 7616 §3.4.5 `nc`): state that only a right answer makes.
//!
//! Eight nonces a user, for each the highest `nc` and a window of the 32 below it, since packets overtake each other. The
//! oldest nonce leaves for a ninth, and from then on whatever is not younger than it is stale: what is forgotten cannot
//! be replayed.

use crate::nonce::Nonce;

/// Nonces of one user that are remembered.
const NONCES: usize = 8;

/// One nonce's use.
#[derive(Clone, Copy, Debug)]
struct Used {
    nonce: Nonce,
    highest: u32,
    /// Bit n: `highest` - 1 - n was used.
    below: u32,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Replay {
    used: [Option<Used>; NONCES],
    /// The youngest nonce that left, in milliseconds.
    floor_ms: u64,
}

impl Replay {
    /// Uses a nonce with this count, or (`None`, without qop) for good. False: it was used, or that is not known any
    /// more.
    pub fn take(&mut self, nonce: Nonce, nc: Option<u32>) -> bool {
        if let Some(used) = self
            .used
            .iter_mut()
            .flatten()
            .find(|used| used.nonce == nonce)
        {
            return nc.is_some_and(|nc| used.take(nc));
        }
        if nonce.minted_ms <= self.floor_ms {
            return false;
        }
        let place = match self
            .used
            .iter_mut()
            .min_by_key(|used| used.map(|used| used.nonce))
        {
            Some(place) => place,
            None => return false,
        };
        if let Some(oldest) = place {
            if nonce < oldest.nonce {
                return false;
            }
            self.floor_ms = oldest.nonce.minted_ms;
        }
        // Without qop nothing may follow: as if the last count had been used, and all below it.
        let (highest, below) = nc.map_or((u32::MAX, u32::MAX), |nc| (nc, 0));
        *place = Some(Used {
            nonce,
            highest,
            below,
        });
        true
    }
}

impl Used {
    fn take(&mut self, nc: u32) -> bool {
        if let Some(ahead) = nc.checked_sub(self.highest).filter(|ahead| *ahead > 0) {
            // The old highest becomes bit `ahead` - 1.
            let shifted = self.below.checked_shl(ahead).unwrap_or(0);
            self.below = shifted | 1u32.checked_shl(ahead.saturating_sub(1)).unwrap_or(0);
            self.highest = nc;
            return true;
        }
        let Some(behind) = self.highest.saturating_sub(nc).checked_sub(1) else {
            return false;
        };
        let Some(bit) = 1u32.checked_shl(behind) else {
            return false;
        };
        let is_new = self.below & bit == 0;
        self.below |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nonce(minted_ms: u64) -> Nonce {
        Nonce { minted_ms, bits: 7 }
    }

    proptest! {
        /// No count passes twice, whatever their order; one within 32 of the highest passes once.
        #[test]
        fn a_count_is_used_once(counts in proptest::collection::vec(0u32..100, 1..300)) {
            let mut replay = Replay::default();
            let mut used = std::collections::BTreeSet::new();
            for nc in counts {
                let highest = used.last().copied();
                let in_window = highest.is_none_or(|highest: u32| nc + 32 >= highest);
                let expected = in_window && !used.contains(&nc);
                prop_assert_eq!(replay.take(nonce(1), Some(nc)), expected, "{}", nc);
                if expected {
                    used.insert(nc);
                }
            }
        }

        /// Whatever the nonces and their order, no (nonce, count) passes twice.
        #[test]
        fn nothing_is_replayed(uses in proptest::collection::vec((1u64..30, 1u64..3, 0u32..3), 1..500)) {
            let mut replay = Replay::default();
            let mut used = std::collections::BTreeSet::new();
            for (minted_ms, bits, nc) in uses {
                if replay.take(Nonce { minted_ms, bits }, Some(nc)) {
                    prop_assert!(used.insert((minted_ms, bits, nc)));
                }
            }
        }
    }

    #[test]
    fn without_qop_a_nonce_works_once() {
        let mut replay = Replay::default();
        assert!(replay.take(nonce(1), None));
        assert!(!replay.take(nonce(1), None));
        for nc in [0, 1, u32::MAX - 33, u32::MAX - 32, u32::MAX - 1, u32::MAX] {
            assert!(!replay.take(nonce(1), Some(nc)), "{nc}");
        }
        assert!(replay.take(nonce(2), Some(1)));
        assert!(!replay.take(nonce(2), None));
    }

    #[test]
    fn the_oldest_of_nine_leaves_and_all_before_it_are_stale() {
        let mut replay = Replay::default();
        for minted in [30, 20, 40, 50, 60, 70, 80, 90] {
            assert!(replay.take(nonce(minted), Some(1)));
        }
        assert!(
            !replay.take(nonce(10), Some(1)),
            "older than all eight: one round more"
        );
        assert!(
            replay.take(nonce(20), Some(2)),
            "which costs the others nothing"
        );
        assert!(replay.take(nonce(100), Some(1)));
        assert!(!replay.take(nonce(20), Some(3)), "left");
        assert!(
            !replay.take(nonce(15), Some(1)),
            "older than the one that left"
        );
        assert!(replay.take(nonce(30), Some(2)));
        assert!(
            !replay.take(nonce(25), Some(1)),
            "older than all that are kept"
        );
    }

    #[test]
    fn far_ahead_forgets_the_window_but_not_the_rule() {
        let mut replay = Replay::default();
        assert!(replay.take(nonce(1), Some(1)));
        assert!(replay.take(nonce(1), Some(33)));
        assert!(!replay.take(nonce(1), Some(1)), "32 below: seen");
        assert!(replay.take(nonce(1), Some(u32::MAX)));
        assert!(!replay.take(nonce(1), Some(34)));
        assert!(replay.take(nonce(1), Some(u32::MAX - 32)));
        assert!(!replay.take(nonce(1), Some(u32::MAX - 33)));
    }
}
