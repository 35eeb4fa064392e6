//! RFC 3261 §8.1.1.7, §17.1.3: the branch of our own requests, by which a response finds its transaction.
//!
//! It carries the transaction's place in the table, so that no map is needed, and 64 bits that a stranger cannot
//! guess, so that he can make up no response. They come from [`crate::token::Tokens`].

use crate::token::read_hex;

/// RFC 3261 §8.1.1.7: begins every branch that is unique in space and time.
pub(super) const MAGIC_COOKIE: &[u8] = b"z9hG4bK";
const INDEX_DIGITS: usize = 8;
const TOKEN_DIGITS: usize = 16;
const LENGTH: usize = MAGIC_COOKIE.len() + INDEX_DIGITS + TOKEN_DIGITS;

/// The branch of a request of ours: `z9hG4bK`, and 24 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch([u8; LENGTH]);

impl Branch {
    pub(super) fn new(index: u32, token: u64) -> Self {
        let mut bytes = [0; LENGTH];
        let (cookie, digits) = bytes.split_at_mut(MAGIC_COOKIE.len());
        cookie.copy_from_slice(MAGIC_COOKIE);
        let (high, low) = digits.split_at_mut(INDEX_DIGITS);
        write_hex(u64::from(index), high);
        write_hex(token, low);
        Self(bytes)
    }

    /// As it stands in the Via.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Index and token of a branch of ours; `None` for any other.
    pub(super) fn parse(bytes: &[u8]) -> Option<(u32, u64)> {
        let digits = bytes.strip_prefix(MAGIC_COOKIE)?;
        let (high, low) = digits.split_at_checked(INDEX_DIGITS)?;
        if low.len() != TOKEN_DIGITS {
            return None;
        }
        Some((u32::try_from(read_hex(high)?).ok()?, read_hex(low)?))
    }
}

/// Fills `digits` with the lowest digits of `number`.
fn write_hex(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = match (number & 15) as u8 {
            value @ 0..=9 => b'0' + value,
            value => b'a' + value - 10,
        };
        number >>= 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_only_what_it_writes() {
        let branch = Branch::new(0x1234, 0xfedc_ba98_7654_3210);
        assert_eq!(branch.as_bytes(), b"z9hG4bK00001234fedcba9876543210");
        assert_eq!(
            Branch::parse(branch.as_bytes()),
            Some((0x1234, 0xfedc_ba98_7654_3210))
        );
        for other in [
            &b""[..],
            b"z9hG4bK",
            b"z9hG4bK00001234",
            b"z9hG4bK00001234fedcba987654321",
            b"z9hG4bK00001234fedcba98765432100",
            b"z9hG4bK00001234FEDCBA9876543210",
            b"z9hG4bK00001234fedcba987654321g",
            b"z9HG4bK00001234fedcba9876543210",
        ] {
            assert_eq!(
                Branch::parse(other),
                None,
                "{:?}",
                String::from_utf8_lossy(other)
            );
        }
    }

    #[test]
    fn tokens_differ_and_follow_the_seed() {
        let take = |seed: u8| {
            let mut tokens = crate::token::Tokens::new(&[seed; 32], "transaction");
            (0..100).map(|_| tokens.next_u64()).collect::<Vec<_>>()
        };
        let (one, two) = (take(1), take(2));
        assert_eq!(one, take(1));
        let mut all: Vec<u64> = one.into_iter().chain(two).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 200);
    }

    proptest! {
        #[test]
        fn round_trip(index: u32, token: u64) {
            prop_assert_eq!(Branch::parse(Branch::new(index, token).as_bytes()), Some((index, token)));
        }

        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Branch::parse(&bytes);
        }
    }
}
