//! Requests that were turned away because `unproven_total` was used up, so that the same one coming again is known: a
//! phone repeats what was not answered, after 500 ms at the earliest (RFC 3261 §17.1.1.2, §17.1.2.2); who scans does not.
//!
//! A fixed table of 4 bytes a request, eight ways: the one seen longest ago in its set goes. At 50,000 new requests a
//! second it remembers five seconds, at 200,000 a little more than one.

use super::Hasher;
use crate::limits;
use crate::source::Source;
use crate::time::Instant;

const WAYS: usize = 8;
/// What comes earlier is no retransmission, but a copy that the network made.
const REPEATED_AFTER_MS: u32 = 400;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Repeats {
    /// Hash in the upper half, when it was seen in the lower: milliseconds, which wrap after a minute. Then a request may
    /// be taken for a new one once more, or, one in 65,536, for another.
    sets: Vec<[u32; WAYS]>,
    hasher: Hasher,
}

impl Repeats {
    pub fn new(hasher: Hasher) -> Self {
        let sets = (limits::REPEATS_MAX / WAYS).next_power_of_two();
        Self {
            sets: vec![[0; WAYS]; sets],
            hasher,
        }
    }

    /// Whether the request of this source and branch was turned away some time ago; now it was.
    pub fn is_repeated(&mut self, now: Instant, source: Source, branch: &[u8]) -> bool {
        let now = (now.as_micros() / 1000) as u32 & 0xffff;
        let hash = self.hasher.pair(source, branch);
        // Never 0: that is a free place.
        let tag = ((hash >> 32) as u32 & 0xffff_0000).max(0x1_0000);
        let set = hash as usize & self.sets.len().wrapping_sub(1);
        let Some(cells) = self.sets.get_mut(set) else {
            return false;
        };
        let age = |cell: u32| now.wrapping_sub(cell) & 0xffff;
        let (mut at, mut oldest) = (0, 0);
        for (place, cell) in cells.iter_mut().enumerate() {
            if *cell & 0xffff_0000 == tag {
                let is_repeated = age(*cell) >= REPEATED_AFTER_MS;
                if is_repeated {
                    *cell = tag | now;
                }
                return is_repeated;
            }
            if age(*cell) >= oldest {
                (at, oldest) = (place, age(*cell));
            }
        }
        if let Some(cell) = cells.get_mut(at) {
            *cell = tag | now;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn the_same_request_four_hundred_milliseconds_later() {
        let mut repeats = Repeats::new(Hasher::new(&[4; 32]));
        let (source, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut is_repeated =
            |ms, source, branch: &[u8]| repeats.is_repeated(at(ms), source, branch);
        assert!(!is_repeated(1_000, source, b"z9hG4bK1"));
        assert!(!is_repeated(1_399, source, b"z9hG4bK1"), "too soon");
        assert!(!is_repeated(1_400, source, b"z9hG4bK2"), "another request");
        assert!(!is_repeated(1_400, other, b"z9hG4bK1"), "another source");
        assert!(is_repeated(1_400, source, b"z9hG4bK1"));
        assert!(
            !is_repeated(1_500, source, b"z9hG4bK1"),
            "and once more, too soon"
        );
        assert!(is_repeated(2_500, source, b"z9hG4bK1"));
        assert!(is_repeated(6_500, source, b"z9hG4bK1"));
    }

    #[test]
    fn a_flood_of_fifty_thousand_a_second_leaves_it_time_to_repeat() {
        let mut repeats = Repeats::new(Hasher::new(&[4; 32]));
        let source: Source = "192.0.2.1".parse().unwrap();
        let mut kept = 0;
        let mut taken_for_another = 0;
        for n in 0..200_000u64 {
            let ms = 5_000 + n / 50;
            let flood = Source::of(std::net::Ipv4Addr::from_bits(n as u32 % 60_000).into());
            taken_for_another += u32::from(repeats.is_repeated(at(ms), flood, &n.to_be_bytes()));
            // One phone every 100 ms, which repeats after half a second.
            if n % 5_000 == 0 {
                repeats.is_repeated(at(ms), source, &(n / 5_000).to_le_bytes());
                let before = (n / 5_000).wrapping_sub(5).to_le_bytes();
                kept += u32::from(n >= 25_000 && repeats.is_repeated(at(ms), source, &before));
            }
        }
        assert_eq!(kept, 35, "of 35");
        assert!(taken_for_another < 40, "{taken_for_another}");
    }
}
