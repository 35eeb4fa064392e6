//! An index from a 32-bit hash to a slot number, in memory that is reserved at start and touched only where it is used.
//! It knows neither keys nor records: whoever owns the records says whether a slot is the one meant.
//!
//! Buckets of eight, at a load of at most one half. A hash that finds its bucket full goes to the next; a removal takes
//! one back, so that there are no tombstones to pile up. All eight hashes of a bucket are compared at once: that a
//! stranger is not there costs one near look and no branch that depends on what else is.

/// Places of a bucket.
const WAYS: usize = 8;

/// The hashes (0: free), then the slots. Arrays and not structs: only of those the allocator takes zeroed pages untouched.
type Bucket = [[u32; WAYS]; 2];

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Index {
    buckets: Vec<Bucket>,
    mask: usize,
}

impl Index {
    /// Room for `capacity` slots (at most 2^31).
    pub fn new(capacity: usize) -> Self {
        let buckets = capacity.saturating_mul(2).div_ceil(WAYS);
        let buckets = buckets.next_power_of_two();
        Self {
            buckets: vec![[[0; WAYS]; 2]; buckets],
            mask: buckets.wrapping_sub(1),
        }
    }

    /// The slot with this hash (never 0) for which `is_it` says yes.
    #[inline]
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = hash as usize & self.mask;
        loop {
            let [hashes, slots] = self.buckets.get(at)?;
            let mut matches = matching(hashes, hash);
            while matches != 0 {
                let slot = *slots.get(matches.trailing_zeros() as usize)?;
                if is_it(slot) {
                    return Some(slot);
                }
                matches &= matches.wrapping_sub(1);
            }
            if has_room(hashes) {
                return None;
            }
            at = at.wrapping_add(1) & self.mask;
        }
    }

    /// Adds a slot that is not there yet. The owner holds no more than `capacity` at a time.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        let mut at = hash as usize & self.mask;
        while let Some([hashes, slots]) = self.buckets.get_mut(at) {
            let mut places = hashes.iter_mut().zip(slots);
            if let Some((free, place)) = places.find(|(free, _)| **free == 0) {
                (*free, *place) = (hash, slot);
                return;
            }
            at = at.wrapping_add(1) & self.mask;
        }
    }

    /// Takes a slot out; nothing happens if it is not there.
    pub fn remove(&mut self, hash: u32, slot: u32) {
        let mut at = hash as usize & self.mask;
        let mut hole = loop {
            let Some([hashes, slots]) = self.buckets.get(at) else {
                return;
            };
            let mut places = hashes.iter().zip(slots);
            if let Some(place) = places.position(|found| found == (&hash, &slot)) {
                break (at, place);
            }
            if has_room(hashes) {
                return;
            }
            at = at.wrapping_add(1) & self.mask;
        };
        // Behind a full bucket lies what found no room in it: one of those takes the place, and leaves its own.
        while self.buckets.get(at).is_some_and(|[h, _]| !has_room(h)) {
            at = at.wrapping_add(1) & self.mask;
            let from_hole = at.wrapping_sub(hole.0) & self.mask;
            let Some([hashes, slots]) = self.buckets.get(at) else {
                break;
            };
            let from_home = |hash: u32| at.wrapping_sub(hash as usize) & self.mask;
            let mut places = hashes.iter().zip(slots).enumerate();
            let moved = places.find(|(_, (h, _))| **h != 0 && from_home(**h) >= from_hole);
            if let Some((place, (hash, slot))) = moved.map(|(place, (h, s))| (place, (*h, *s))) {
                self.set(hole, hash, slot);
                hole = (at, place);
            }
        }
        self.set(hole, 0, 0);
    }

    fn set(&mut self, (at, place): (usize, usize), hash: u32, slot: u32) {
        if let Some([hashes, slots]) = self.buckets.get_mut(at)
            && let (Some(h), Some(s)) = (hashes.get_mut(place), slots.get_mut(place))
        {
            (*h, *s) = (hash, slot);
        }
    }
}

/// A bit for each place with this value, looked for without a branch.
#[inline]
pub(super) fn matching(places: &[u32; WAYS], value: u32) -> u32 {
    let mut bits = [1, 2, 4, 8, 16, 32, 64, 128];
    for (bit, place) in bits.iter_mut().zip(places) {
        *bit &= u32::from(*place == value).wrapping_neg();
    }
    bits.into_iter().fold(0, |all, bit| all | bit)
}

fn has_room(hashes: &[u32; WAYS]) -> bool {
    matching(hashes, 0) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a plain list, with hashes that collide often.
        #[test]
        fn index_is_a_map(steps in proptest::collection::vec((any::<bool>(), 0u32..64), 0..400)) {
            let mut index = Index::new(64);
            let mut model = std::collections::BTreeSet::new();
            let hash = |slot: u32| 14 + slot % 3 + if slot.is_multiple_of(5) { 160 } else { 0 };
            for (add, slot) in steps {
                if add && model.insert(slot) {
                    index.insert(hash(slot), slot);
                } else if !add && model.remove(&slot) {
                    index.remove(hash(slot), slot);
                }
                for probe in 0..64 {
                    let found = index.find(hash(probe), |s| s == probe);
                    prop_assert_eq!(found.is_some(), model.contains(&probe));
                }
            }
        }
    }
}
