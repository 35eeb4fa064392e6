//! A filter for one socket that discards packets by their source address (RFC 791 §3.1, RFC 8200 §3).
//!
//! Nested prefixes are left out, neighbours become one, and what is left is searched word by word: an IPv4 address is one
//! word, an IPv6 prefix as many as it needs. Steps to a decision: about log2(n) + 4 for each word that the list needs.

use super::search::{Item, Targets, search};
use super::writer::{Place, Shared, Writer};
use super::{ACCEPT, DISCARD, Family, Fitted, SKF_AD_RANDOM, SKF_NET_OFF, fit, op, word};
use crate::config::Prefix;
use crate::limits::KERNEL_SAMPLE;

// The sample is taken by the lower bits of a random word.
const _: () = assert!(KERNEL_SAMPLE.is_power_of_two());

/// Whether a sample passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// 1 packet in [`KERNEL_SAMPLE`], by which the discarded ones are counted: datagrams.
    Some,
    /// None: a listener, on which each packet that passes makes a handshake.
    None,
}

/// The filter for sockets of `family` that discards what comes from the first of `prefixes`, as many as `room` holds
/// (counted as [`super::check::charge`] does). Prefixes of the other family take no room.
///
/// `None`: the list is empty for this family, or there is no room for any filter.
pub fn filter(family: Family, prefixes: &[Prefix], room: usize, sample: Sample) -> Option<Fitted> {
    if !prefixes
        .iter()
        .any(|prefix| Family::of(prefix.address) == family)
    {
        return None;
    }
    let fitted = fit(prefixes.len(), room, |entries| {
        program(family, prefixes.get(..entries).unwrap_or_default(), sample)
    })?;
    (fitted.entries > 0).then_some(fitted)
}

/// So many addresses of `family` (of IPv6: /64 prefixes) that have nothing in common a filter in this room holds, at least.
pub fn capacity(family: Family, room: usize) -> usize {
    // Multiples of an odd constant: far apart, and each its own.
    let scattered = |n: u32| n.wrapping_mul(0x9e37_79b1);
    let prefixes: Vec<Prefix> = (0..super::INSTRUCTIONS_MAX as u32)
        .map(|n| match family {
            Family::V4 => Prefix {
                address: std::net::Ipv4Addr::from_bits(scattered(n)).into(),
                bits: 32,
            },
            Family::V6 => {
                let upper = 0x2000_0000 | scattered(n) >> 3;
                let bits = u128::from(upper) << 96 | u128::from(scattered(!n)) << 64;
                Prefix {
                    address: std::net::Ipv6Addr::from_bits(bits).into(),
                    bits: 64,
                }
            }
        })
        .collect();
    filter(family, &prefixes, room, Sample::Some).map_or(0, |fitted| fitted.entries)
}

/// A prefix as its first address (see [`Family::bits`]) and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    first: u128,
    bits: u32,
}

impl Block {
    fn of(family: Family, prefix: &Prefix) -> Option<Self> {
        let bits = u32::from(prefix.bits).min(32 * family.words());
        let first = family.bits(prefix.address)? & mask(bits);
        Some(Self { first, bits })
    }

    fn holds(self, other: Self) -> bool {
        self.bits <= other.bits && other.first & mask(self.bits) == self.first
    }

    /// The block that is just these two.
    fn join(self, other: Self) -> Option<Self> {
        let bits = self.bits.checked_sub(1)?;
        let joined = Self {
            first: self.first & mask(bits),
            bits,
        };
        (self.bits == other.bits && self != other && joined.holds(other)).then_some(joined)
    }
}

/// The upper `bits` of 128 are ones.
const fn mask(bits: u32) -> u128 {
    match bits {
        0 => 0,
        bits => u128::MAX << (128 - bits),
    }
}

/// The same addresses as disjoint blocks, sorted, no two of which could be one.
fn merged(family: Family, prefixes: &[Prefix]) -> Vec<Block> {
    let mut blocks: Vec<Block> = prefixes
        .iter()
        .filter_map(|prefix| Block::of(family, prefix))
        .collect();
    // A block comes before those within it.
    blocks.sort_unstable();
    let mut merged: Vec<Block> = Vec::with_capacity(blocks.len());
    for mut block in blocks {
        if merged.last().is_some_and(|last| last.holds(block)) {
            continue;
        }
        while let Some(joined) = merged.last().and_then(|last| last.join(block)) {
            block = joined;
            merged.pop();
        }
        merged.push(block);
    }
    merged
}

/// What a word of the source address means.
#[derive(Clone, Copy, Debug)]
enum Then<'a> {
    /// Nothing more needs to be looked at.
    Discard,
    /// The next word, number `at`, is to be searched among these.
    Next { at: u32, blocks: &'a [Block] },
}

/// Blocks that are equal in the words before `at`, as ranges of word `at`.
fn items(blocks: &[Block], at: u32) -> Vec<Item<Then<'_>>> {
    let mut items: Vec<Item<Then<'_>>> = Vec::with_capacity(blocks.len());
    for run in blocks.chunk_by(|one, other| word(one.first, at) == word(other.first, at)) {
        let Some(block) = run.first() else { continue };
        let first = word(block.first, at);
        let ends_here = block.bits <= 32 * (at + 1);
        let last = if ends_here {
            first | !word(mask(block.bits), at)
        } else {
            first
        };
        match items.last_mut() {
            // Neighbours that are no block together, as .1 and .2.
            Some(before)
                if ends_here
                    && matches!(before.then, Then::Discard)
                    && before.last.checked_add(1) == Some(first) =>
            {
                before.last = last;
            }
            _ => items.push(Item {
                first,
                last,
                then: if ends_here {
                    Then::Discard
                } else {
                    Then::Next {
                        at: at + 1,
                        blocks: run,
                    }
                },
            }),
        }
    }
    items
}

/// Where a search for addresses leads.
struct Ways {
    discard: Shared,
    accept: Shared,
}

impl Targets<Then<'_>> for Ways {
    fn place(&mut self, writer: &mut Writer, then: &Then<'_>) -> Place {
        match *then {
            Then::Discard => self.discard.near(writer),
            Then::Next { at, blocks } => {
                search(writer, &items(blocks, at), self);
                writer.write(op::LOAD_MEMORY, at)
            }
        }
    }

    fn is_long(&self, then: &Then<'_>) -> bool {
        matches!(then, Then::Next { .. })
    }

    fn otherwise(&mut self) -> &mut Shared {
        &mut self.accept
    }
}

fn program(family: Family, prefixes: &[Prefix], sample: Sample) -> Vec<super::Instruction> {
    let blocks = merged(family, prefixes);
    let mut writer = Writer::default();
    let accept = writer.write(op::RETURN, ACCEPT);
    let mut discard = writer.write(op::RETURN, DISCARD);
    if sample == Sample::Some {
        writer.branch(op::JUMP_EQUAL, 0, accept);
        writer.write(op::AND, KERNEL_SAMPLE - 1);
        discard = writer.write(op::LOAD_WORD, SKF_AD_RANDOM);
    }
    let mut ways = Ways {
        discard: Shared::new(discard),
        accept: Shared::new(accept),
    };
    search(&mut writer, &items(&blocks, 0), &mut ways);
    let bits = blocks.iter().map(|block| block.bits).max().unwrap_or(0);
    load_source(&mut writer, family, bits.div_ceil(32).max(1));
    writer.finish()
}

/// The first `words` of the source address: the first in A, the others in scratch memory under their numbers, since
/// a load from there is one instruction of the kernel's own and a load from the packet is eight.
pub(super) fn load_source(writer: &mut Writer, family: Family, words: u32) {
    let offset = |at: u32| SKF_NET_OFF + family.source_offset() + 4 * at;
    writer.write(op::LOAD_WORD, offset(0));
    for at in 1..words {
        writer.write(op::STORE, at);
        writer.write(op::LOAD_WORD, offset(at));
    }
}
