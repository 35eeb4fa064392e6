//! Nonces of the digest's challenges: a MAC, not a table (RFC 7616 §5.4).
//!
//! ```text
//! base64url of   time_ms 48 | bits 32 | key 8 | HMAC-SHA-256(key, those, source, realm) cut to 104 bits
//! ```
//!
//! 24 bytes, 32 characters. A nonce is fresh for one hour, for the source that it was minted for and our realm; whatever
//! else comes is stale, whoever made it. The bits come from a counter under a keyed hash: they need not be secret (the
//! MAC is what nobody can make), but all phones behind one address must get nonces of their own, in one millisecond too.
//! The last of them is a mark, which says that whoever was challenged is behind a NAT: he may not say so any more when he
//! answers, and nothing is remembered of him. It counts for the source that it was minted for: a phone that has come home from
//! behind a NAT brings its nonce from there. Its time does not count, nor which of the two last runs minted it: what it says
//! lasts longer ([`Nonces::is_marked`]).
//!
//! Time is the wall clock of the start plus what the monotonic clock counted since, so that a jump of the wall clock
//! neither kills nor revives a nonce.
//!
//! What a nonce was used for is forgotten at a restart, so nobody is authenticated by one of the run before: whoever had
//! recorded its use could repeat it. By its key, not by its time, since the clock may have been set back. For one life
//! after the start such a nonce still proves that its source receives what we send: all phones come back at once
//! then, and are let in to be told `stale=true`.
//!
//! What was used how often is not kept here: see `auth::replay`.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::source::Source;
use crate::time::{Instant, Now, UnixTime};

/// How long a nonce is fresh.
pub const LIFE: Duration = Duration::from_secs(3_600);
/// Characters of a nonce.
pub const TEXT_BYTES: usize = 32;

/// Bytes before the MAC.
const HEAD_BYTES: usize = 11;
const MAC_BYTES: usize = 13;
const BYTES: usize = HEAD_BYTES + MAC_BYTES;

type Head = [u8; HEAD_BYTES];

/// A nonce that was fresh when it was looked at: what tells it from all others of ours, older ones being less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce {
    /// When it was minted, in milliseconds.
    pub minted_ms: u64,
    /// The random bits, and the key's number.
    pub bits: u64,
}

impl Nonce {
    /// Its mark, as [`Nonces::is_marked`] tells it from the text.
    pub fn is_marked(self) -> bool {
        self.bits >> 8 & 1 == 1
    }
}

/// What a text says of itself: nothing of it is proven, but its time is right.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    head: Head,
    mac: [u8; MAC_BYTES],
    nonce: Nonce,
}

impl Claim {
    /// Whether this key made it.
    fn is_by(&self, key: &Key, source: Source, realm: &[u8]) -> bool {
        let [.., number] = self.head;
        key.number == number && key.has_made(&self.head, &self.mac, source, realm)
    }
}

/// The key of one run.
#[derive(Clone)]
struct Key {
    secret: [u8; 32],
    /// When the run began.
    made: UnixTime,
    number: u8,
    /// The key schedule, done once.
    mac: Hmac<Sha256>,
}

impl Key {
    fn new(secret: [u8; 32], made: UnixTime) -> Self {
        let mac = keyed(&secret);
        let number = mac.clone().chain_update(b"number").finalize().into_bytes();
        Self {
            secret,
            made,
            number: number.first().copied().unwrap_or(0),
            mac,
        }
    }

    fn mac(&self, head: &Head, source: Source, realm: &[u8]) -> [u8; MAC_BYTES] {
        let mut mac = self.mac.clone();
        mac.update(head);
        mac.update(&source.bits().to_be_bytes());
        mac.update(realm);
        let whole: [u8; 32] = mac.finalize().into_bytes().into();
        whole.first_chunk().copied().unwrap_or_default()
    }

    /// Whether this MAC is ours.
    fn has_made(&self, head: &Head, mac: &[u8], source: Source, realm: &[u8]) -> bool {
        let own = self.mac(head, source, realm);
        bool::from(subtle::ConstantTimeEq::ct_eq(own.as_slice(), mac))
    }
}

/// HMAC-SHA-256 under this key.
fn keyed(secret: &[u8; 32]) -> Hmac<Sha256> {
    // A key of one block at most is padded, never refused.
    let mut block = [0; 64];
    block
        .iter_mut()
        .zip(secret)
        .for_each(|(to, from)| *to = *from);
    Hmac::new(&block.into())
}

/// A nonce's bytes: before the MAC, and the MAC.
fn decode(text: &[u8]) -> Option<(Head, [u8; MAC_BYTES])> {
    let bytes = read(text.try_into().ok()?)?;
    let (head, mac) = bytes.split_first_chunk()?;
    Some((*head, *mac.first_chunk()?))
}

/// The bytes in base64url (RFC 4648 §5), which need no padding.
fn write(bytes: &[u8; BYTES]) -> [u8; TEXT_BYTES] {
    let mut text = [0; TEXT_BYTES];
    // It has just the room for them.
    let _ = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
    text
}

/// The bytes of this text, if it is base64url.
fn read(text: &[u8; TEXT_BYTES]) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    (URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(BYTES)).then_some(bytes)
}

/// Mints nonces and knows its own again.
#[derive(Clone)]
pub struct Nonces {
    key: Key,
    /// Of the run before, and until when it counts.
    last: Option<(Key, Instant)>,
    started: Now,
    hasher: ahash::RandomState,
    counter: u64,
}

impl std::fmt::Debug for Nonces {
    /// Without the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nonces")
            .field("started", &self.started)
            .finish_non_exhaustive()
    }
}

impl Nonces {
    /// A key of its own, made from `seed`; `last` is [`Nonces::key`] of the run before.
    pub fn new(now: Now, seed: &[u8; 32], last: Option<([u8; 32], UnixTime)>) -> Self {
        let derived = |purpose: &[u8]| -> [u8; 32] {
            keyed(seed)
                .chain_update(purpose)
                .finalize()
                .into_bytes()
                .into()
        };
        let hash_keys = derived(b"sipkeep nonce bits");
        let (words, _) = hash_keys.as_chunks::<8>();
        let word = |at: usize| words.get(at).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self {
            key: Key::new(derived(b"sipkeep nonce key"), now.unix),
            last: last.map(|(secret, made)| (Key::new(secret, made), now.mono.plus(LIFE))),
            started: now,
            hasher: ahash::RandomState::with_seeds(word(0), word(1), word(2), word(3)),
            counter: 0,
        }
    }

    /// This run's key and when it was made, to be kept for the next run.
    pub fn key(&self) -> ([u8; 32], UnixTime) {
        (self.key.secret, self.key.made)
    }

    /// Wall-clock milliseconds that know no jumps.
    fn millis(&self, now: Now) -> u64 {
        self.started
            .unix
            .plus(now.mono.since(self.started.mono))
            .as_millis()
    }

    /// A new nonce for `source`, as text, with its mark.
    pub fn mint(&mut self, now: Now, source: Source, realm: &[u8], mark: bool) -> [u8; TEXT_BYTES] {
        self.counter = self.counter.wrapping_add(1);
        let bits = self.hasher.hash_one(self.counter) as u32 & !1 | u32::from(mark);
        let [_, _, t0, t1, t2, t3, t4, t5] = self.millis(now).to_be_bytes();
        let [b0, b1, b2, b3] = bits.to_be_bytes();
        let head = [t0, t1, t2, t3, t4, t5, b0, b1, b2, b3, self.key.number];
        let mut bytes = [0; BYTES];
        let (place, rest) = bytes.split_at_mut(HEAD_BYTES);
        place.copy_from_slice(&head);
        rest.copy_from_slice(&self.key.mac(&head, source, realm));
        write(&bytes)
    }

    /// The nonce, if `text` is one that this run minted for `source` and `realm` within the last hour.
    pub fn fresh(&self, now: Now, source: Source, realm: &[u8], text: &[u8]) -> Option<Nonce> {
        self.proven(&self.claimed(now, text)?, source, realm)
    }

    /// What `text` says of itself, if it may be a nonce that is fresh: that needs no secret, and most others end here.
    pub fn claimed(&self, now: Now, text: &[u8]) -> Option<Claim> {
        let (head, mac) = decode(text)?;
        let [t0, t1, t2, t3, t4, t5, b0, b1, b2, b3, number] = head;
        let minted_ms = u64::from_be_bytes([0, 0, t0, t1, t2, t3, t4, t5]);
        let bits = u64::from(u32::from_be_bytes([b0, b1, b2, b3])) << 8 | u64::from(number);
        let nonce = Nonce { minted_ms, bits };
        self.is_alive(now, minted_ms)
            .then_some(Claim { head, mac, nonce })
    }

    /// The nonce, if this run minted it for `source` and `realm`.
    pub fn proven(&self, claim: &Claim, source: Source, realm: &[u8]) -> Option<Nonce> {
        let is_ours = claim.is_by(&self.key, source, realm);
        is_ours.then_some(claim.nonce)
    }

    /// Whether whoever shows `text` receives what we send to `source`: as [`Nonces::fresh`], or minted so by the run before
    /// within its last hour.
    pub fn proves(&self, now: Now, source: Source, realm: &[u8], text: &[u8]) -> bool {
        let last = (self.last.iter())
            .filter(|(_, until)| now.mono < *until)
            .map(|(key, _)| key);
        let mut keys = std::iter::once(&self.key).chain(last);
        (self.claimed(now, text))
            .is_some_and(|claim| keys.any(|key| claim.is_by(key, source, realm)))
    }

    /// Whether this or the last run minted `text` for `source` and `realm`, whenever that was, with its mark.
    pub fn is_marked(&self, source: Source, realm: &[u8], text: &[u8]) -> bool {
        let Some((head, mac)) = decode(text) else {
            return false;
        };
        let [.., last, number] = head;
        let keys = std::iter::once(&self.key).chain(self.last.iter().map(|(key, _)| key));
        let mut keys = keys.filter(|key| last & 1 == 1 && key.number == number);
        keys.any(|key| key.has_made(&head, &mac, source, realm))
    }

    /// Whether the life of a nonce that was minted then has begun and is not over.
    fn is_alive(&self, now: Now, minted_ms: u64) -> bool {
        let age_ms = self.millis(now).checked_sub(minted_ms);
        age_ms.is_some_and(|age_ms| u128::from(age_ms) < LIFE.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REALM: &[u8] = b"sipkeep";

    fn at(mono_ms: u64, unix_ms: u64) -> Now {
        Now {
            mono: Instant::from_micros(mono_ms * 1000),
            unix: UnixTime::from_millis(unix_ms),
        }
    }

    fn source() -> Source {
        "192.0.2.1".parse().unwrap()
    }

    const START: u64 = 1_790_000_000_000;

    fn nonces() -> Nonces {
        Nonces::new(at(5, START), &[42; 32], None)
    }

    #[test]
    fn a_claim_is_of_the_right_time_and_proves_nothing() {
        let mut nonces = nonces();
        let text = nonces.mint(at(1_000, START), source(), REALM, false);
        let mut forged = text;
        forged[TEXT_BYTES - 1] ^= 1;
        for (text, is_ours) in [(text, true), (forged, false)] {
            assert!(nonces.claimed(at(3_601_000, START), &text).is_none());
            assert!(nonces.claimed(at(999, START), &text).is_none());
            let claim = nonces.claimed(at(3_600_999, START), &text).unwrap();
            assert_eq!(nonces.proven(&claim, source(), REALM).is_some(), is_ours);
            assert_eq!(nonces.proven(&claim, source(), b"other"), None);
        }
        assert!(nonces.claimed(at(1_000, START), &text[1..]).is_none());
    }

    #[test]
    fn fresh_for_an_hour_for_its_source_and_realm() {
        let mut nonces = nonces();
        let text = nonces.mint(at(1_000, START), source(), REALM, false);
        let nonce = nonces
            .fresh(at(1_000, START), source(), REALM, &text)
            .unwrap();
        assert_eq!(nonce.minted_ms, START + 995);
        assert!(
            nonces
                .fresh(at(3_600_999, START), source(), REALM, &text)
                .is_some()
        );
        assert!(
            nonces
                .fresh(at(3_601_000, START), source(), REALM, &text)
                .is_none()
        );
        assert!(
            nonces
                .fresh(at(999, START), source(), REALM, &text)
                .is_none(),
            "not minted yet"
        );
        assert!(
            nonces
                .fresh(at(1_000, START), "192.0.2.2".parse().unwrap(), REALM, &text)
                .is_none()
        );
        assert!(
            nonces
                .fresh(at(1_000, START), source(), b"other", &text)
                .is_none()
        );
        let six = "2001:db8:1:2::1".parse().unwrap();
        let text = nonces.mint(at(1_000, START), six, REALM, false);
        assert!(
            nonces
                .fresh(
                    at(1_000, START),
                    "2001:db8:1:2::ffff".parse().unwrap(),
                    REALM,
                    &text
                )
                .is_some()
        );
    }

    #[test]
    fn jumps_of_the_wall_clock_change_nothing() {
        let mut nonces = nonces();
        let text = nonces.mint(at(10, START), source(), REALM, false);
        for unix in [0, START - 86_400_000, START + 400 * 86_400_000, u64::MAX] {
            assert!(
                nonces.fresh(at(20, unix), source(), REALM, &text).is_some(),
                "{unix}"
            );
            assert!(
                nonces
                    .fresh(at(4_000_000, unix), source(), REALM, &text)
                    .is_none(),
                "{unix}"
            );
        }
    }

    #[test]
    fn the_last_runs_key_proves_a_source_for_one_life() {
        let mut before = nonces();
        let text = before.mint(at(10, START), source(), REALM, false);
        let after = Nonces::new(at(7, START + 60_000), &[43; 32], Some(before.key()));
        assert!(after.proves(at(8, 0), source(), REALM, &text));
        assert!(
            !after.proves(at(3_540_020, 0), source(), REALM, &text),
            "its hour is over"
        );
        let behind = Nonces::new(at(7, 0), &[43; 32], Some(before.key()));
        assert!(
            !behind.proves(at(8, 0), source(), REALM, &text),
            "minted in the future"
        );
        // Whoever got hold of the old key cannot mint with it for ever.
        let mut stolen = before.clone();
        let text = stolen.mint(at(3_600_000, START), source(), REALM, false);
        assert!(!after.proves(at(3_600_007 + 100, 0), source(), REALM, &text));
        let two_later = Nonces::new(at(7, START + 60_000), &[44; 32], Some(after.key()));
        assert!(!two_later.proves(at(8, 0), source(), REALM, &text));
    }

    /// What it was used for is not known any more, also when the clock was set back in between.
    #[test]
    fn nobody_is_authenticated_by_the_last_runs_nonces() {
        let mut before = nonces();
        let text = before.mint(at(10_005, START), source(), REALM, false);
        let key = Some(before.key());
        for started in [START + 9_000, START + 10_000, START + 60_000] {
            let after = Nonces::new(at(0, started), &[43; 32], key);
            for later in [0, 1_000, 2_000, 60_000] {
                let found = after.fresh(at(later, 0), source(), REALM, &text);
                assert_eq!(found, None, "{started} {later}");
            }
        }
    }

    #[test]
    fn a_mark_comes_back() {
        let mut nonces = nonces();
        let mut all = Vec::new();
        for mark in [false, true, true, false] {
            let text = nonces.mint(at(10, START), source(), REALM, mark);
            assert_eq!(nonces.is_marked(source(), REALM, &text), mark);
            let nonce = nonces.fresh(at(10, START), source(), REALM, &text);
            assert_eq!(nonce.map(Nonce::is_marked), Some(mark));
            assert!(!all.contains(&nonce));
            all.push(nonce);
        }
        for text in [&b""[..], b"short", &[b'/'; TEXT_BYTES], &[0xff; TEXT_BYTES]] {
            assert!(!nonces.is_marked(source(), REALM, text));
        }
    }

    /// A phone that was behind a NAT elsewhere is not behind one here, and anybody can set a bit.
    #[test]
    fn a_mark_counts_for_its_source_alone_and_outlives_its_nonce() {
        let mut before = nonces();
        let text = before.mint(at(10, START), source(), REALM, true);
        let elsewhere = "192.0.2.2".parse().unwrap();
        assert!(!before.is_marked(elsewhere, REALM, &text));
        assert!(!before.is_marked(source(), b"other", &text));
        let plain = before.mint(at(10, START), source(), REALM, false);
        let mut forged = read(&plain).unwrap();
        forged[HEAD_BYTES - 2] |= 1;
        assert!(!before.is_marked(source(), REALM, &write(&forged)));
        // The last run's, of days ago.
        let after = Nonces::new(at(7, START + 400_000_000), &[43; 32], Some(before.key()));
        assert!(!after.proves(at(8, 0), source(), REALM, &text));
        assert!(after.is_marked(source(), REALM, &text));
        assert!(!after.is_marked(elsewhere, REALM, &text));
    }

    #[test]
    fn text_is_base64url() {
        let mut bytes = *b"\xfb\xff\xbf any carnal pleasure.";
        assert_eq!(&write(&bytes), b"-_-_IGFueSBjYXJuYWwgcGxlYXN1cmUu");
        bytes.fill(0);
        assert_eq!(write(&bytes), [b'A'; TEXT_BYTES]);
    }

    #[test]
    fn keys_come_from_the_seed_alone() {
        assert_eq!(nonces().key(), nonces().key());
        assert_ne!(
            nonces().key().0,
            Nonces::new(at(5, START), &[43; 32], None).key().0
        );
        assert_ne!(nonces().key().0, [42; 32]);
        assert!(!format!("{:?}", nonces()).contains("secret"));
    }

    #[test]
    fn phones_behind_one_address_get_different_nonces() {
        let mut nonces = nonces();
        let all: std::collections::BTreeSet<_> = (0..10_000)
            .map(|_| nonces.mint(at(10, START), source(), REALM, false))
            .collect();
        // 32 bits: a pair among 10,000 is alike once in a hundred times, and the seed is fixed.
        assert_eq!(all.len(), 10_000);
    }

    proptest! {
        #[test]
        fn one_changed_bit_is_not_ours(byte in 0usize..BYTES, bit in 0u8..8) {
            let mut nonces = nonces();
            let text = nonces.mint(at(10, START), source(), REALM, false);
            let mut bytes = read(&text).unwrap();
            bytes[byte] ^= 1 << bit;
            prop_assert!(nonces.fresh(at(10, START), source(), REALM, &write(&bytes)).is_none());
        }

        #[test]
        fn text_is_read_as_it_was_written(bytes: [u8; BYTES], at in 0..TEXT_BYTES, other: u8) {
            let mut text = write(&bytes);
            prop_assert_eq!(read(&text), Some(bytes));
            // No other text means the same.
            let is_another = text[at] != other;
            text[at] = other;
            prop_assert_eq!(read(&text) != Some(bytes), is_another);
            let is_of_alphabet = other.is_ascii_alphanumeric() || matches!(other, b'-' | b'_');
            prop_assert_eq!(read(&text).is_some(), is_of_alphabet);
        }

        #[test]
        fn anything_may_be_asked(text in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(nonces().fresh(at(10, START), source(), REALM, &text).is_none());
        }
    }
}
