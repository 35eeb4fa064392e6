//! Unguessable tokens from a seed: tags, Call-IDs, record ids. SHA-256 in counter mode, so that whoever sees some of
//! them learns nothing of the others, and the same seed gives the same run (simulations replay).

use sha2::{Digest, Sha256};

/// A generator of 64-bit tokens.
#[derive(Clone, Debug)]
pub struct Tokens {
    key: [u8; 32],
    counter: u64,
    block: [u64; 4],
    left: usize,
}

impl Tokens {
    /// A generator for one purpose: different purposes of one seed are independent.
    pub fn new(seed: &[u8; 32], purpose: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(seed);
        hasher.update(purpose.as_bytes());
        Self {
            key: hasher.finalize().into(),
            counter: 0,
            block: [0; 4],
            left: 0,
        }
    }

    /// The next token.
    pub fn next_u64(&mut self) -> u64 {
        if self.left == 0 {
            let mut hasher = Sha256::new();
            hasher.update(self.key);
            hasher.update(self.counter.to_le_bytes());
            self.counter = self.counter.wrapping_add(1);
            let bytes: [u8; 32] = hasher.finalize().into();
            for (word, chunk) in self.block.iter_mut().zip(bytes.chunks_exact(8)) {
                *word = chunk
                    .iter()
                    .fold(0, |word, byte| word << 8 | u64::from(*byte));
            }
            self.left = self.block.len();
        }
        self.left -= 1;
        self.block[self.left]
    }

    /// A key of 256 bits, of the next tokens.
    pub fn next_key(&mut self) -> [u8; 32] {
        let mut key = [0; 32];
        for bytes in key.as_chunks_mut::<8>().0 {
            *bytes = self.next_u64().to_le_bytes();
        }
        key
    }
}

/// The last `DIGITS` (at most 16) hexadecimal digits of `value`, lower-case, the highest first.
pub fn hex<const DIGITS: usize>(value: u64) -> [u8; DIGITS] {
    std::array::from_fn(|at| {
        let position = DIGITS - 1 - at;
        b"0123456789abcdef"[(value >> (position * 4) & 15) as usize]
    })
}

/// Reads lower-case hexadecimal digits, at most 16 of them; `None` for anything else.
pub fn read_hex(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let (mut value, mut all) = (0u64, 0u8);
    for digit in digits {
        let nibble = nibble(*digit);
        all |= nibble;
        value = value << 4 | u64::from(nibble & 15);
    }
    (all < NO_NIBBLE).then_some(value)
}

/// What a byte is as a lower-case hexadecimal digit, else [`NO_NIBBLE`]: a bit that no digit has.
pub(crate) fn nibble(digit: u8) -> u8 {
    NIBBLES[usize::from(digit)]
}

/// No digit.
pub(crate) const NO_NIBBLE: u8 = 16;

/// See [`nibble`].
static NIBBLES: [u8; 256] = {
    let mut nibbles = [NO_NIBBLE; 256];
    let mut value = 0;
    while value < 16 {
        nibbles[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    nibbles
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_depend_on_seed_and_purpose_only() {
        let run = |seed: u8, purpose| {
            let mut tokens = Tokens::new(&[seed; 32], purpose);
            [(); 9].map(|()| tokens.next_u64())
        };
        assert_eq!(run(1, "tag"), run(1, "tag"));
        assert_ne!(run(1, "tag"), run(2, "tag"));
        assert_ne!(run(1, "tag"), run(1, "call"));
        let mut sorted = run(1, "tag").to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 9);
    }

    #[test]
    fn hex_round_trips() {
        let digits = hex::<16>(0x0123_4567_89ab_cdef);
        assert_eq!(&digits, b"0123456789abcdef");
        assert_eq!(&hex::<3>(0x1234), b"234");
        assert_eq!(read_hex(&digits), Some(0x0123_4567_89ab_cdef));
        assert_eq!(read_hex(b"12G4"), None);
        assert_eq!(read_hex(b""), None);
        assert_eq!(read_hex(b"00000000000000000"), None);
    }
}
