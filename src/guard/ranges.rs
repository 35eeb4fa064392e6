//! `allow` and `deny` as ranges of sources: sorted and disjoint, one binary search a packet (none if the list is empty).

use std::net::IpAddr;

use super::kernel::Load;
use crate::config::Prefix;
use crate::limits::KERNEL_SAMPLE;
use crate::source::Source;

/// One prefix, as sources.
#[derive(Clone, Debug)]
pub(super) struct Range {
    first: u64,
    last: u64,
    /// As configured.
    pub prefix: Prefix,
    /// Packets discarded because of it.
    pub discarded: u64,
    /// The kernel discards for us, and what we see is a sample.
    pub held: bool,
    /// How busy it was lately.
    pub load: Load,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranges {
    ranges: Vec<Range>,
}

impl Ranges {
    /// The prefixes; one that lies within another adds nothing and is left out. An IPv6 prefix longer than /64 means
    /// its whole /64: the guard knows no smaller source.
    pub fn new(prefixes: &[Prefix]) -> Self {
        let mut ranges: Vec<Range> = prefixes.iter().map(range).collect();
        ranges.sort_by_key(|range| (range.first, u64::MAX.wrapping_sub(range.last)));
        let mut reach = None;
        ranges.retain(|range| {
            let new = reach.is_none_or(|reach| range.last > reach);
            if new {
                reach = Some(range.last);
            }
            new
        });
        Self { ranges }
    }

    /// The range that holds `source`.
    #[inline]
    pub fn find(&self, source: Source) -> Option<usize> {
        if self.ranges.is_empty() {
            return None;
        }
        let bits = source.bits();
        let at = self
            .ranges
            .partition_point(|range| range.first <= bits)
            .checked_sub(1)?;
        self.ranges
            .get(at)
            .filter(|range| bits <= range.last)
            .map(|_| at)
    }

    pub fn contains(&self, source: Source) -> bool {
        self.find(source).is_some()
    }

    /// Whether it holds any of the sources that a prefix covers, or `source` itself.
    pub fn any_within(&self, source: Source) -> bool {
        let (first, last) = source.span();
        self.any_between(first, last)
    }

    /// The range that holds all of `source`, which may be a prefix.
    pub fn covering(&self, source: Source) -> Option<&Range> {
        let (first, last) = source.span();
        let behind = self.ranges.partition_point(|range| range.first <= first);
        let range = behind.checked_sub(1).and_then(|at| self.ranges.get(at))?;
        (last <= range.last).then_some(range)
    }

    pub fn count_discarded(&mut self, at: usize) {
        if let Some(range) = self.ranges.get_mut(at) {
            let packets = if range.held { KERNEL_SAMPLE } else { 1 };
            range.discarded = range.discarded.saturating_add(packets.into());
        }
    }

    /// Whether any source lies in one of these ranges and in that one.
    pub fn overlaps(&self, other: &Range) -> bool {
        self.any_between(other.first, other.last)
    }

    fn any_between(&self, first: u64, last: u64) -> bool {
        let behind = self.ranges.partition_point(|range| range.first <= last);
        let nearest = behind.checked_sub(1).and_then(|at| self.ranges.get(at));
        nearest.is_some_and(|range| range.last >= first)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Range> {
        self.ranges.iter_mut()
    }

    pub fn as_slice(&self) -> &[Range] {
        &self.ranges
    }
}

/// First and last source of a prefix.
fn range(prefix: &Prefix) -> Range {
    let first = match prefix.address {
        // A multicast one is nobody's source, but a prefix all the same.
        IpAddr::V6(v6) if v6.is_multicast() => (v6.to_bits() >> 64) as u64,
        address => Source::of(address).bits(),
    };
    let bits = u32::from(prefix.bits);
    let host = match prefix.address {
        // IPv4 lies in the lower 32 bits of a source.
        IpAddr::V4(_) => u64::from(u32::MAX.checked_shr(bits).unwrap_or(0)),
        IpAddr::V6(_) => u64::MAX.checked_shr(bits).unwrap_or(0),
    };
    let mut last = first | host;
    if prefix.address.is_ipv6() {
        // `::/0` ends before the place where IPv4 sources lie.
        let below_ipv4 = Source::of(IpAddr::from([0, 0, 0, 0]))
            .bits()
            .wrapping_sub(1);
        last = last.min(below_ipv4);
    }
    Range {
        first,
        last,
        prefix: *prefix,
        discarded: 0,
        held: false,
        load: Load::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, bits) = text.split_once('/').unwrap();
        Prefix {
            address: address.parse().unwrap(),
            bits: bits.parse().unwrap(),
        }
    }

    fn ranges(texts: &[&str]) -> Ranges {
        Ranges::new(&texts.iter().map(|text| prefix(text)).collect::<Vec<_>>())
    }

    #[test]
    fn prefixes_hold_their_sources_only() {
        let ranges = ranges(&[
            "10.0.0.0/8",
            "10.1.0.0/16",
            "192.0.2.7/32",
            "2001:db8::/56",
            "2001:db9::5/128",
        ]);
        assert_eq!(ranges.as_slice().len(), 4, "10.1/16 lies within 10/8");
        for inside in [
            "10.0.0.0",
            "10.1.2.3",
            "10.255.255.255",
            "192.0.2.7",
            "2001:db8:0:ff::1",
            "2001:db9::9",
        ] {
            assert!(ranges.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in [
            "9.255.255.255",
            "11.0.0.0",
            "192.0.2.6",
            "192.0.2.8",
            "2001:db8:0:100::",
            "::",
        ] {
            assert!(!ranges.contains(outside.parse().unwrap()), "{outside}");
        }
        for (prefix, expected) in [
            ("10.1.1.1", true),
            ("11.1.1.1", false),
            ("2001:db8::/48", true),
            ("2001:db8:0:80::/56", true),
            ("2001:db8:0:100::/56", false),
            ("2001:db9::/56", true),
            ("2001:dba::/48", false),
        ] {
            assert_eq!(
                ranges.any_within(prefix.parse().unwrap()),
                expected,
                "{prefix}"
            );
        }
    }

    #[test]
    fn everything_of_one_family_is_not_the_other() {
        let four = ranges(&["0.0.0.0/0"]);
        let six = ranges(&["::/0"]);
        for (address, is_four) in [
            ("0.0.0.0", true),
            ("255.255.255.255", true),
            ("::1", false),
            ("ff0e:ffff::", false),
        ] {
            let source = Source::of(address.parse().unwrap());
            assert_eq!(four.contains(source), is_four, "{address}");
            assert_eq!(six.contains(source), !is_four, "{address}");
        }
    }
}
