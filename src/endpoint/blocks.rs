//! Blocks of addresses that users have: which one an address lies in.
//!
//! It is asked for every packet of a stranger, so it is one search among sorted blocks, which do not overlap: at most 12
//! comparisons, with [`PEER_BLOCKS_MAX`](crate::limits::PEER_BLOCKS_MAX) of them, and none where nobody has a block. What
//! the configuration has overlap is refused, so the longest prefix is the only one.

use std::net::IpAddr;

use crate::config::Prefix;
use crate::source::Source;

/// Addresses from the first to the last, and what belongs to them.
#[derive(Clone, Debug)]
struct Block<T> {
    first: u128,
    last: u128,
    items: Vec<T>,
}

/// Disjoint blocks in order.
#[derive(Clone, Debug)]
pub(super) struct Blocks<T> {
    blocks: Vec<Block<T>>,
}

impl<T> Blocks<T> {
    /// None.
    pub(super) const fn new() -> Self {
        Self { blocks: Vec::new() }
    }

    /// Adds what belongs to a block. One that overlaps another without being the same is left out: the configuration has
    /// none.
    pub(super) fn add(&mut self, prefix: Prefix, item: T) {
        let (first, last) = prefix.span();
        let at = self.blocks.partition_point(|own| own.last < first);
        match self.blocks.get_mut(at) {
            Some(own) if (own.first, own.last) == (first, last) => own.items.push(item),
            Some(own) if own.first <= last => {}
            _ => self.blocks.insert(
                at,
                Block {
                    first,
                    last,
                    items: vec![item],
                },
            ),
        }
    }

    /// What belongs to the block that a canonical address lies in.
    pub(super) fn at(&self, address: IpAddr) -> &[T] {
        if self.blocks.is_empty() {
            return &[];
        }
        let (address, _) = Prefix::of(address).span();
        self.within(address, address)
            .map_or(&[], |block| &block.items)
    }

    /// Whether any address of a source, or of a prefix that is one, lies in a block.
    pub(super) fn has_source(&self, source: Source) -> bool {
        let prefix = Prefix {
            address: source.address(),
            bits: source.prefix_bits(),
        };
        let (first, last) = prefix.span();
        self.within(first, last).is_some()
    }

    /// The first block that has any of these addresses.
    fn within(&self, first: u128, last: u128) -> Option<&Block<T>> {
        let at = self.blocks.partition_point(|own| own.last < first);
        self.blocks.get(at).filter(|own| own.first <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> Prefix {
        let (address, bits) = text.split_once('/').unwrap();
        Prefix {
            address: address.parse().unwrap(),
            bits: bits.parse().unwrap(),
        }
    }

    fn blocks(texts: &[&str]) -> Blocks<usize> {
        let mut blocks = Blocks::new();
        for (at, text) in texts.iter().enumerate() {
            blocks.add(prefix(text), at);
        }
        blocks
    }

    #[test]
    fn an_address_lies_in_its_block_up_to_both_ends() {
        let blocks = blocks(&[
            "192.0.2.64/28",
            "2001:db8:0:7::/64",
            "10.0.0.0/8",
            "192.0.2.64/28",
            "2001:db8::10/124",
        ]);
        for (address, found) in [
            ("192.0.2.63", &[][..]),
            ("192.0.2.64", &[0, 3]),
            ("192.0.2.79", &[0, 3]),
            ("192.0.2.80", &[]),
            ("10.255.255.255", &[2]),
            ("11.0.0.0", &[]),
            ("::10.0.0.1", &[]),
            ("2001:db8::f", &[]),
            ("2001:db8::1f", &[4]),
            ("2001:db8:0:7:ffff:ffff:ffff:ffff", &[1]),
            ("2001:db8:0:8::", &[]),
        ] {
            assert_eq!(blocks.at(address.parse().unwrap()), found, "{address}");
        }
    }

    #[test]
    fn a_source_with_one_address_of_a_block_has_it() {
        let blocks = blocks(&["192.0.2.64/28", "2001:db8:1:700::/56", "2001:db8:2:3::/80"]);
        for (source, has) in [
            ("192.0.2.70", true),
            ("192.0.2.80", false),
            ("2001:db8:1:7ff::1", true),
            ("2001:db8:1:800::1", false),
            ("2001:db8:2:3:ffff::", true),
            ("2001:db8:2:4::", false),
            ("2001:db8:2:0::/56", true),
            ("2001:db8:2:100::/56", false),
            ("2001:db8:1::/48", true),
            ("2001:db8:3::/48", false),
        ] {
            assert_eq!(blocks.has_source(source.parse().unwrap()), has, "{source}");
        }
    }

    proptest! {
        /// The search finds what looking at every block finds.
        #[test]
        fn as_by_looking_at_all(
            heads in prop::collection::vec((any::<u16>(), 17u8..=32), 0..40),
            addresses in prop::collection::vec(any::<u16>(), 1..60),
        ) {
            let at = |low: u16| std::net::Ipv4Addr::from_bits(0xc633_0000 | u32::from(low));
            let mut all = Blocks::new();
            let mut list: Vec<Prefix> = Vec::new();
            for (low, bits) in heads {
                let address = at(low & (u32::MAX << (32 - u32::from(bits))) as u16).into();
                let prefix = Prefix { address, bits };
                let overlaps = |own: &Prefix| {
                    *own != prefix && (own.contains(address) || prefix.contains(own.address))
                };
                if !list.iter().any(overlaps) {
                    all.add(prefix, list.len());
                    list.push(prefix);
                }
            }
            for low in addresses {
                let address = IpAddr::V4(at(low));
                let found: Vec<usize> = (0..list.len()).filter(|at| list[*at].contains(address)).collect();
                prop_assert_eq!(all.at(address), &found);
                prop_assert_eq!(all.has_source(Source::of(address)), !found.is_empty());
            }
        }
    }
}
