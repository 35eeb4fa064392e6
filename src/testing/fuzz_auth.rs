//! Fuzz bodies for what strangers send towards authentication: nonces and `Digest …` values.
//!
//! Beside "it does not panic": nothing that was not minted is fresh, and nobody without the password is accepted.

use std::path::Path;
use std::sync::OnceLock;

use crate::auth::{Authenticator, Presented, Verified};
use crate::config::Config;
use crate::message;
use crate::nonce::Nonces;
use crate::source::Source;
use crate::time::{Instant, Now, UnixTime};

const SEED: [u8; 32] = [42; 32];

fn now() -> Now {
    Now {
        mono: Instant::from_micros(1_000),
        unix: UnixTime::from_millis(1_790_000_000_000),
    }
}

/// The 192.0.2.1 of every run.
fn source() -> Source {
    Source::of(std::net::IpAddr::from([192, 0, 2, 1]))
}

/// Any bytes as a nonce, and as a minted nonce with those bytes laid over it.
pub fn nonce(data: &[u8]) {
    let mut nonces = Nonces::new(now(), &SEED, None);
    let minted = nonces.mint(now(), source(), b"sipkeep", false);
    assert!(nonces.fresh(now(), source(), b"sipkeep", &minted).is_some());
    let mut changed = minted;
    changed
        .iter_mut()
        .zip(data)
        .for_each(|(to, from)| *to ^= from);
    for text in [data, changed.as_slice()] {
        assert!(
            !nonces.is_marked(source(), b"sipkeep", text),
            "minted without a mark"
        );
        let is_fresh = nonces.fresh(now(), source(), b"sipkeep", text).is_some();
        assert_eq!(is_fresh, text == minted, "not minted, but fresh");
    }
}

/// A server of two users, and a nonce of its: made once and then copied.
fn prepared() -> (Authenticator, Vec<u8>) {
    static PREPARED: OnceLock<(Authenticator, Vec<u8>)> = OnceLock::new();
    let prepared = PREPARED.get_or_init(|| {
        let text =
            "[user 100]\npassword = no fuzzer finds this one\n[user 101]\naddresses = 192.0.2.9\n";
        let config = Config::read(text, Path::new("/")).expect("the text above");
        let mut authenticator = Authenticator::new(now(), &config, &SEED, None);
        let mut challenge = Vec::new();
        authenticator.challenge(now(), source(), (false, false), &mut challenge);
        let nonce = challenge.split(|byte| *byte == b'"').nth(3);
        (authenticator, nonce.expect("a nonce").to_vec())
    });
    prepared.clone()
}

/// Any bytes as the value of an Authorization header; `$N` in it stands for a fresh nonce.
pub fn auth_digest(data: &[u8]) {
    let (mut authenticator, nonce) = prepared();
    let mut bytes = b"REGISTER sip:pbx SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
        From: <sip:100@pbx>;tag=1\r\nTo: <sip:100@pbx>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n\
        Max-Forwards: 70\r\nAuthorization: "
        .to_vec();
    let mut rest = data;
    while let Some(at) = memchr::memmem::find(rest, b"$N") {
        let (before, after) = rest.split_at(at);
        bytes.extend_from_slice(before);
        bytes.extend_from_slice(&nonce);
        rest = after.get(2..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest);
    bytes.extend_from_slice(b"\r\nContent-Length: 0\r\n\r\n");
    let peeked = authenticator.peek(now(), &bytes, source());
    assert!(
        !peeked || data.windows(2).any(|pair| pair == b"$N"),
        "peeked a nonce that is not there"
    );
    // The other way round: what is written in the usual way is not overlooked, if little stands before it.
    if data.starts_with(b"Digest nonce=\"$N\"") {
        assert!(peeked, "overlooked");
    }
    let Ok(message) = message::parse(&bytes) else {
        return;
    };
    if let Presented::Fresh(credentials) = authenticator.present(now(), &message, source()) {
        let verified = authenticator.verify(&credentials, &message);
        assert!(
            matches!(verified, Verified::Wrong { .. }),
            "accepted without the password"
        );
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bodies_hold_on_seeds() {
        for data in [
            b"".as_slice(),
            b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            b"Digest realm=\"sipkeep\", username=\"100\", nonce=\"$N\", uri=\"sip:pbx\", \
              response=\"00000000000000000000000000000000\"",
            b"Digest realm=\"sipkeep\", username=\"101\", nonce=\"$N\", uri=\"sip:pbx\", nc=00000001, \
              qop=auth, cnonce=\"x\", response=\"00000000000000000000000000000000\"",
            b"Digest realm=\"sipkeep\", nonce=\"$N",
        ] {
            super::nonce(data);
            super::auth_digest(data);
        }
    }
}
