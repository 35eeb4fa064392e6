//! A bounded table by source whose member that was touched longest ago goes when it is full. Memory is reserved at
//! start and touched as it fills; no operation walks the table.

use super::Hasher;
use super::index::Index;
use crate::source::Source;

const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
struct Node<T> {
    source: Source,
    /// Towards those touched later.
    newer: u32,
    /// Towards those touched earlier.
    older: u32,
    value: T,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Recent<T> {
    hasher: Hasher,
    index: Index,
    nodes: Vec<Node<T>>,
    /// Slots of removed members.
    free: Vec<u32>,
    capacity: usize,
    newest: u32,
    oldest: u32,
}

impl<T> Recent<T> {
    pub fn new(hasher: Hasher, capacity: usize) -> Self {
        Self {
            hasher,
            index: Index::new(capacity),
            nodes: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            capacity,
            newest: NONE,
            oldest: NONE,
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.nodes.len().saturating_sub(self.free.len())
    }

    fn slot(&self, source: Source) -> Option<u32> {
        self.slot_of(self.hasher.source(source), source)
    }

    /// [`Recent::get`] with the hash at hand.
    #[inline]
    pub fn get_hashed(&self, hash: u32, source: Source) -> Option<&T> {
        self.slot_of(hash, source)
            .and_then(|slot| self.nodes.get(slot as usize))
            .map(|n| &n.value)
    }

    #[inline]
    fn slot_of(&self, hash: u32, source: Source) -> Option<u32> {
        self.index.find(hash, |slot| {
            self.nodes
                .get(slot as usize)
                .is_some_and(|n| n.source == source)
        })
    }

    #[inline]
    pub fn get(&self, source: Source) -> Option<&T> {
        self.slot(source)
            .and_then(|slot| self.nodes.get(slot as usize))
            .map(|node| &node.value)
    }

    /// The value of `source`, to be changed; it is not touched by that.
    pub fn get_mut(&mut self, source: Source) -> Option<&mut T> {
        let slot = self.slot(source)?;
        self.nodes
            .get_mut(slot as usize)
            .map(|node| &mut node.value)
    }

    /// The value of `source`, now the one touched last; made by `make` if it was not there, at the bound in place of
    /// the one touched longest ago.
    pub fn touch(&mut self, source: Source, make: impl FnOnce() -> T) -> Option<&mut T> {
        let slot = match self.slot(source) {
            Some(slot) => {
                self.unlink(slot);
                slot
            }
            None => self.add(source, make()),
        };
        self.link(slot);
        self.nodes
            .get_mut(slot as usize)
            .map(|node| &mut node.value)
    }

    fn add(&mut self, source: Source, value: T) -> u32 {
        if self.free.is_empty()
            && self.nodes.len() >= self.capacity
            && let Some(oldest) = self.nodes.get(self.oldest as usize).map(|node| node.source)
        {
            self.remove(oldest);
        }
        let node = Node {
            source,
            newer: NONE,
            older: NONE,
            value,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(place) = self.nodes.get_mut(slot as usize) {
                    *place = node;
                }
                slot
            }
            None => {
                let slot = self.nodes.len() as u32;
                self.nodes.push(node);
                slot
            }
        };
        self.index.insert(self.hasher.source(source), slot);
        slot
    }

    /// Takes `source` out; whether it was there.
    pub fn remove(&mut self, source: Source) -> bool {
        let Some(slot) = self.slot(source) else {
            return false;
        };
        self.unlink(slot);
        self.index.remove(self.hasher.source(source), slot);
        self.free.push(slot);
        true
    }

    fn unlink(&mut self, slot: u32) {
        let Some((newer, older)) = self.nodes.get(slot as usize).map(|n| (n.newer, n.older)) else {
            return;
        };
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link(&mut self, slot: u32) {
        let before = self.newest;
        if let Some(node) = self.nodes.get_mut(slot as usize) {
            (node.newer, node.older) = (NONE, before);
        }
        match self.nodes.get_mut(before as usize) {
            Some(node) => node.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn source(n: u8) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)))
    }

    proptest! {
        /// Against a list in order of touch.
        #[test]
        fn recent_forgets_the_one_touched_longest_ago(
            steps in proptest::collection::vec((0u8..4, 0u8..24), 0..300)
        ) {
            let mut table = Recent::new(Hasher::new(&[7; 32]), 10);
            let mut model: Vec<u8> = Vec::new();
            for (step, n) in steps {
                if step == 0 {
                    prop_assert_eq!(table.remove(source(n)), model.contains(&n));
                    model.retain(|m| *m != n);
                } else {
                    prop_assert_eq!(*table.touch(source(n), || n).unwrap(), n);
                    model.retain(|m| *m != n);
                    model.push(n);
                    if model.len() > 10 {
                        model.remove(0);
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                for probe in 0..24 {
                    prop_assert_eq!(table.get(source(probe)).copied(), model.contains(&probe).then_some(probe));
                }
            }
        }
    }
}
