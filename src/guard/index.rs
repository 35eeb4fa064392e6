//! An open-addressing index from a 32-bit hash to a slot number, in memory that is reserved at start and touched only
//! where it is used. It knows neither keys nor records: whoever owns the records says whether a slot is the one meant.
//!
//! Linear probing at a load of at most one half, removal by shifting back, so that there are no tombstones to pile up.

/// Slot + 1 in the lower half (0: free), the hash in the upper.
#[derive(Debug)]
pub(super) struct Index {
    cells: Vec<u64>,
    mask: usize,
}

impl Index {
    /// Room for `capacity` slots (at most 2^31).
    pub fn new(capacity: usize) -> Self {
        let cells = capacity.max(2).saturating_mul(2).next_power_of_two();
        // Zeroed by the kernel: pages are not touched until something lies in them.
        Self {
            cells: vec![0; cells],
            mask: cells.wrapping_sub(1),
        }
    }

    /// The cell that a search for this hash begins at; 0: there is none of this hash.
    #[inline]
    pub fn first(&self, hash: u32) -> u64 {
        self.cells
            .get(hash as usize & self.mask)
            .copied()
            .unwrap_or(0)
    }

    /// The slot with this hash for which `is_it` says yes.
    #[inline]
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut at = hash as usize & self.mask;
        loop {
            let cell = *self.cells.get(at)?;
            if cell == 0 {
                return None;
            }
            let slot = slot_of(cell);
            if hash_of(cell) == hash && is_it(slot) {
                return Some(slot);
            }
            at = at.wrapping_add(1) & self.mask;
        }
    }

    /// Adds a slot that is not there yet. The owner holds no more than `capacity` at a time.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        let mut at = hash as usize & self.mask;
        while let Some(cell) = self.cells.get_mut(at) {
            if *cell == 0 {
                *cell = u64::from(hash) << 32 | u64::from(slot.wrapping_add(1));
                return;
            }
            at = at.wrapping_add(1) & self.mask;
        }
    }

    /// Takes a slot out; nothing happens if it is not there.
    pub fn remove(&mut self, hash: u32, slot: u32) {
        let mut hole = hash as usize & self.mask;
        loop {
            match self.cells.get(hole) {
                None | Some(0) => return,
                Some(cell) if hash_of(*cell) == hash && slot_of(*cell) == slot => break,
                Some(_) => hole = hole.wrapping_add(1) & self.mask,
            }
        }
        let mut at = hole;
        loop {
            at = at.wrapping_add(1) & self.mask;
            let cell = self.cells.get(at).copied().unwrap_or(0);
            if cell == 0 {
                break;
            }
            // It may move back only if its home is not behind the hole.
            let home = hash_of(cell) as usize & self.mask;
            let from_home = at.wrapping_sub(home) & self.mask;
            let from_hole = at.wrapping_sub(hole) & self.mask;
            if from_home >= from_hole {
                self.set(hole, cell);
                hole = at;
            }
        }
        self.set(hole, 0);
    }

    fn set(&mut self, at: usize, cell: u64) {
        if let Some(place) = self.cells.get_mut(at) {
            *place = cell;
        }
    }
}

const fn slot_of(cell: u64) -> u32 {
    (cell as u32).wrapping_sub(1)
}

const fn hash_of(cell: u64) -> u32 {
    (cell >> 32) as u32
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
            let hash = |slot: u32| (slot % 7) * 3 + if slot.is_multiple_of(5) { 120 } else { 0 };
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
