//! A search for the accumulator among ranges of words: a balanced tree of comparisons, whose leaves are a few words that
//! are compared one after the other. 1.5 instructions a word and log2(n) + 3 steps at most.
//!
//! A leaf of four costs a packet up to two steps more than a leaf of one and saves half of the program. And because the
//! kernel sign-extends constants it needs an instruction more for each above 2³¹: where there are many, the upper half
//! is searched without its highest bit.

use super::op;
use super::writer::{Place, Shared, Writer};

/// Words compared one after the other at the end of a search.
const LEAF: usize = 4;
/// From so many constants above 2³¹ on it pays to search both halves apart.
const UPPER_MIN: usize = 4;
const UPPER: u32 = 1 << 31;

/// What is to happen for a range of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item<T> {
    pub first: u32,
    /// Inclusive.
    pub last: u32,
    pub then: T,
}

/// Where a search leads.
pub(super) trait Targets<T> {
    /// Writes, or finds, what is to happen for `then`.
    fn place(&mut self, writer: &mut Writer, then: &T) -> Place;

    /// Whether [`Targets::place`] writes code of its own for it, rather than leading to something shared.
    fn is_long(&self, then: &T) -> bool;

    /// For words that lie in no item.
    fn otherwise(&mut self) -> &mut Shared;
}

/// Writes a search for the word in A among `items`, sorted and disjoint; its entry.
pub(super) fn search<T: Copy>(
    writer: &mut Writer,
    items: &[Item<T>],
    targets: &mut impl Targets<T>,
) -> Place {
    let above = items.iter().filter(|item| item.last >= UPPER).count();
    if above < UPPER_MIN {
        return tree(writer, items, targets);
    }
    let split = items.partition_point(|item| item.last < UPPER);
    let (lower, upper) = items.split_at(split);
    let mut lower = lower.to_vec();
    let mut upper = upper.to_vec();
    if let Some(first) = upper.first_mut()
        && first.first < UPPER
    {
        lower.push(Item {
            last: UPPER - 1,
            ..*first
        });
        first.first = UPPER;
    }
    for item in &mut upper {
        item.first &= !UPPER;
        item.last &= !UPPER;
    }
    tree(writer, &upper, targets);
    let masked = writer.write(op::AND, !UPPER);
    tree(writer, &lower, targets);
    writer.branch(op::JUMP_ANY_BIT, UPPER, masked)
}

fn tree<T>(writer: &mut Writer, items: &[Item<T>], targets: &mut impl Targets<T>) -> Place {
    let leaves = items.len().div_ceil(LEAF);
    if leaves <= 1 {
        return leaf(writer, items, targets);
    }
    let (lower, upper) = items.split_at(leaves / 2 * LEAF);
    let upper_place = tree(writer, upper, targets);
    let lower_place = tree(writer, lower, targets);
    match upper.first() {
        Some(first) => writer.branch(op::JUMP_NOT_LESS, first.first, upper_place),
        None => lower_place,
    }
}

/// Compares from the highest to the lowest.
fn leaf<T>(writer: &mut Writer, items: &[Item<T>], targets: &mut impl Targets<T>) -> Place {
    let mut places = vec![None; items.len()];
    // Code of their own lies behind; only then the ways to what is shared, so that they are near.
    for long in [true, false] {
        for (place, item) in places.iter_mut().zip(items) {
            if targets.is_long(&item.then) == long {
                *place = Some(targets.place(writer, &item.then));
            }
        }
    }
    let otherwise = targets.otherwise().near(writer);
    let far = targets.otherwise().far();
    let mut entry = writer.here();
    for (at, (place, item)) in places.into_iter().zip(items).enumerate() {
        let Some(place) = place else { continue };
        let is_range = item.first != item.last;
        // The last comparison decides between two: one instruction where both are near.
        if at == 0 && !is_range && writer.reaches(place) && writer.reaches(otherwise) {
            entry = writer.choose(op::JUMP_EQUAL, item.first, place, otherwise);
            continue;
        }
        if at == 0 && !(is_range && item.first == 0) {
            writer.jump(far);
        }
        entry = match (is_range, item.first) {
            (false, word) => writer.branch(op::JUMP_EQUAL, word, place),
            (true, 0) => writer.jump(place),
            (true, first) => writer.branch(op::JUMP_NOT_LESS, first, place),
        };
        if is_range && item.last < u32::MAX {
            entry = writer.branch(op::JUMP_GREATER, item.last, otherwise);
        }
    }
    if items.is_empty() {
        entry = writer.jump(far);
    }
    entry
}
