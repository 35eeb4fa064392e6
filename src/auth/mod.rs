//! RFC 3261 §22, RFC 7616, RFC 8760: who a request is from. Challenges go out, credentials come back and are checked
//! against the configured users; `digest` has the arithmetic and the client's side, `replay` what was used before.
//!
//! ```text
//!   present ── no credentials of our realm ──▶ None       challenge
//!      │       unreadable ───────────────────▶ Malformed  400
//!      │       nonce old, foreign, unknown ──▶ Stale      challenge, stale=true; the digest is not even computed
//!      ▼
//!    Fresh ──▶ verify ── wrong ──────────────▶ Wrong      the guard's business
//!                 │      right, but used ────▶ Stale
//!                 └──────────────────────────▶ Accepted
//! ```
//!
//! A user that does not exist, is only known by address or has no HA1 of the algorithm is checked against a dummy: the
//! same work, the same answer. Passwords become HA1s at once and are not kept.
//!
//! The `uri` parameter is what the digest is computed over, and must look like a SIP or tel URI; it is not compared with
//! the Request-URI as RFC 7616 §3.4.6 has it for HTTP. Phones leave out port and parameters, write the domain where the
//! Request-URI has an address, and proxies in between rewrite the Request-URI; the nonce is bound to the source and its
//! count is used up, so that credentials seen elsewhere are of no use anyway.
//!
//! Not here: `auth-int`, `-sess`, `userhash` (`username` must be a configured name), 407 of our own, who may do what.
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

pub mod digest;
mod replay;

use std::borrow::Cow;
use std::collections::HashMap;

use memchr::memmem::Finder;
use subtle::ConstantTimeEq;

use self::digest::{Algorithm, Computed, Qop, unhex};
use self::replay::Replay;
use crate::config::{Config, DigestOffer, Secret};
use crate::message::{DigestParams, HeaderName, Message, StartLine};
use crate::nonce::{self, Nonce, Nonces};
use crate::source::{Source, UserId};
use crate::time::{Now, UnixTime};

/// Bytes of a packet that [`Authenticator::peek`] looks at: credentials stand well before.
const PEEK_BYTES_MAX: usize = 8_192;
/// Places that look like a nonce of ours and are checked by it; each costs a MAC at most.
const PEEK_NONCES_MAX: usize = 4;
/// Bytes of a `uri` parameter.
const URI_BYTES_MAX: usize = 1_024;

/// Credentials for our realm with a nonce that is fresh; nothing is proved yet but that the source receives what we send.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// As received, without quotes; escapes are still in it ([`Authenticator::user`] reads them).
    pub username: &'a [u8],
    nonce: Nonce,
    nonce_text: &'a [u8],
    uri: &'a [u8],
    response: Response,
    qop: Option<Qop<'a>>,
    nc: Option<u32>,
}

/// The response, by its algorithm.
#[derive(Clone, Copy, Debug)]
enum Response {
    Md5([u8; 16]),
    Sha256([u8; 32]),
}

/// What a request brings.
#[derive(Clone, Copy, Debug)]
pub enum Presented<'a> {
    /// No credentials for our realm: challenge it.
    None,
    /// The nonce is old or not ours, or the algorithm is not offered (any more): challenge it with `stale=true`.
    Stale,
    /// Credentials that cannot be read.
    Malformed,
    /// To be verified.
    Fresh(Credentials<'a>),
}

/// What became of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// The right answer of this user.
    Accepted(UserId),
    /// The right answer, but used before, or so old that this is not known: challenge it with `stale=true`.
    Stale,
    /// The wrong answer. `fingerprint` tells it from others: the same (nonce, nc, response) has the same.
    Wrong {
        /// A keyed hash.
        fingerprint: u64,
    },
}

/// A configured user.
struct User {
    name: Box<str>,
    md5: Option<[u8; 16]>,
    sha256: Option<[u8; 32]>,
    replay: Replay,
}

/// Challenges, and checks what comes back.
pub struct Authenticator {
    realm: Box<str>,
    offer: DigestOffer,
    nonces: Nonces,
    users: Vec<User>,
    names: HashMap<Box<[u8]>, UserId, ahash::RandomState>,
    hasher: ahash::RandomState,
    /// HA1s of nobody.
    dummy: ([u8; 16], [u8; 32]),
    nonce_finder: Finder<'static>,
}

impl std::fmt::Debug for Authenticator {
    /// Without keys and HA1s.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("realm", &self.realm).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// `last_key`: [`Authenticator::key`] of the run before, whose nonces count for one life more.
    pub fn new(
        now: Now,
        config: &Config,
        seed: &[u8; 32],
        last_key: Option<([u8; 32], UnixTime)>,
    ) -> Self {
        // Keys for hashing and for nobody's HA1 must not be guessable from one another: each from a hash of the seed.
        let derived = |purpose: &str| digest::ha1_sha256("sipkeep", purpose, &hex_of(seed));
        let words = derived("hash keys");
        let (words, _) = words.as_chunks::<8>();
        let word = |at: usize| words.get(at).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let hasher = ahash::RandomState::with_seeds(word(0), word(1), word(2), word(3));
        let nobody = derived("nobody");
        let mut authenticator = Self {
            realm: config.server.realm().into(),
            offer: config.registrar.digest,
            nonces: Nonces::new(now, seed, last_key),
            users: Vec::new(),
            names: HashMap::with_hasher(hasher.clone()),
            hasher,
            dummy: (nobody.first_chunk().copied().unwrap_or_default(), nobody),
            nonce_finder: Finder::new(b"nonce=\""),
        };
        authenticator.reload(now, config);
        authenticator
    }

    /// Takes new users, realm and algorithms. What a user's nonces were used for stays with the name; a new realm makes
    /// all nonces stale.
    pub fn reload(&mut self, now: Now, config: &Config) {
        let _ = now;
        let mut before: HashMap<Box<str>, Replay, ahash::RandomState> =
            HashMap::with_hasher(self.hasher.clone());
        before.extend(self.users.drain(..).map(|user| (user.name, user.replay)));
        self.names.clear();
        self.realm = config.server.realm().into();
        self.offer = config.registrar.digest;
        for (index, user) in config.users.iter().enumerate() {
            let (md5, sha256) = self.ha1s(&user.name, user.secret.as_ref());
            let name: Box<str> = user.name.as_str().into();
            let replay = before.remove(&name).unwrap_or_default();
            let id = UserId(u32::try_from(index).unwrap_or(u32::MAX));
            self.names.insert(name.as_bytes().into(), id);
            self.users.push(User { name, md5, sha256, replay });
        }
    }

    /// HA1s of the algorithms that are offered.
    fn ha1s(&self, name: &str, secret: Option<&Secret>) -> (Option<[u8; 16]>, Option<[u8; 32]>) {
        let (md5, sha256) = match secret {
            None => (None, None),
            Some(Secret::Ha1 { md5, sha256 }) => (*md5, *sha256),
            Some(Secret::Password(password)) => (
                Some(digest::ha1_md5(name, &self.realm, password)),
                Some(digest::ha1_sha256(name, &self.realm, password)),
            ),
        };
        (
            md5.filter(|_| self.is_offered(Algorithm::Md5)),
            sha256.filter(|_| self.is_offered(Algorithm::Sha256)),
        )
    }

    /// This run's nonce key and when it was made, to be kept.
    pub fn key(&self) -> ([u8; 32], UnixTime) {
        self.nonces.key()
    }

    fn offered(&self) -> &'static [Algorithm] {
        match self.offer {
            DigestOffer::Md5 => &[Algorithm::Md5],
            DigestOffer::Sha256 => &[Algorithm::Sha256],
            DigestOffer::Sha256AndMd5 => &[Algorithm::Sha256, Algorithm::Md5],
        }
    }

    fn is_offered(&self, algorithm: Algorithm) -> bool {
        self.offered().contains(&algorithm)
    }

    /// Appends the header lines of a challenge, `WWW-Authenticate: Digest …` with CRLF, one for each algorithm that is
    /// offered, with one nonce (RFC 7616 §3.7, RFC 8760 §2.4).
    pub fn challenge(&mut self, now: Now, source: Source, stale: bool, out: &mut Vec<u8>) {
        let nonce = self.nonces.mint(now, source, self.realm.as_bytes());
        for algorithm in self.offered() {
            out.extend_from_slice(b"WWW-Authenticate: Digest realm=\"");
            for byte in self.realm.bytes() {
                if matches!(byte, b'"' | b'\\') {
                    out.push(b'\\');
                }
                out.push(byte);
            }
            out.extend_from_slice(b"\", nonce=\"");
            out.extend_from_slice(&nonce);
            out.extend_from_slice(if stale { b"\", stale=true, algorithm=" } else { b"\", algorithm=" });
            out.extend_from_slice(algorithm.token().as_bytes());
            out.extend_from_slice(b", qop=\"auth\"\r\n");
        }
    }

    /// Credentials for our realm in a request: of its Authorization headers, else of Proxy-Authorization.
    pub fn present<'a>(&self, now: Now, request: &Message<'a>, source: Source) -> Presented<'a> {
        let mut malformed = false;
        for name in [HeaderName::Authorization, HeaderName::ProxyAuthorization] {
            let mut ours = None;
            for line in request.lines().filter(|line| line.name == name) {
                match DigestParams::parse(line.value) {
                    Ok(Some(params)) if params.realm.is_some_and(|realm| self.is_realm(realm)) => {
                        // Two for one realm: whoever reads the other one reads something else.
                        malformed |= ours.replace(params).is_some();
                    }
                    Ok(_) => {}
                    Err(_) => malformed = true,
                }
            }
            if malformed {
                return Presented::Malformed;
            }
            if let Some(params) = ours {
                return self.read(now, params, source).unwrap_or(Presented::Malformed);
            }
        }
        Presented::None
    }

    fn is_realm(&self, realm: &[u8]) -> bool {
        unescape(realm).as_ref() == self.realm.as_bytes()
    }

    /// `None`: malformed.
    fn read<'a>(&self, now: Now, params: DigestParams<'a>, source: Source) -> Option<Presented<'a>> {
        let (username, nonce_text) = (params.username?, params.nonce?);
        let (uri, response) = (params.uri?, params.response?);
        let algorithm = Algorithm::of(params.algorithm)?;
        if !is_sane_uri(uri) {
            return None;
        }
        let response = match algorithm {
            Algorithm::Md5 => Response::Md5(unhex(response)?),
            Algorithm::Sha256 => Response::Sha256(unhex(response)?),
        };
        let (qop, nc) = match params.qop {
            None => (None, None),
            Some(qop) => {
                let (nc, cnonce) = (params.nc?, params.cnonce?);
                if !qop.eq_ignore_ascii_case(b"auth") {
                    return None;
                }
                let count = u32::from_be_bytes(unhex(nc)?);
                (Some(Qop { qop, nc, cnonce }), Some(count))
            }
        };
        if !self.is_offered(algorithm) {
            return Some(Presented::Stale);
        }
        let Some(nonce) = self.nonces.fresh(now, source, self.realm.as_bytes(), nonce_text) else {
            return Some(Presented::Stale);
        };
        Some(Presented::Fresh(Credentials { username, nonce, nonce_text, uri, response, qop, nc }))
    }

    /// Checks credentials of this request: the digest first, then whether it was used before. The same work for whoever
    /// does not exist.
    pub fn verify(&mut self, credentials: &Credentials<'_>, request: &Message<'_>) -> Verified {
        let method = match request.start() {
            StartLine::Request { token, .. } => token,
            StartLine::Response { .. } => b"",
        };
        let id = self.user(credentials.username);
        let user = id.and_then(|id| self.users.get_mut(id.0 as usize));
        let computed = Computed {
            method,
            uri: credentials.uri,
            nonce: credentials.nonce_text,
            qop: credentials.qop,
        };
        let (is_right, exists) = match &credentials.response {
            Response::Md5(response) => {
                let ha1 = user.as_ref().and_then(|user| user.md5);
                let own = computed.md5(&ha1.unwrap_or(self.dummy.0));
                (own.ct_eq(response), ha1.is_some())
            }
            Response::Sha256(response) => {
                let ha1 = user.as_ref().and_then(|user| user.sha256);
                let own = computed.sha256(&ha1.unwrap_or(self.dummy.1));
                (own.ct_eq(response), ha1.is_some())
            }
        };
        match (id, user) {
            (Some(id), Some(user)) if exists && bool::from(is_right) => {
                if user.replay.take(credentials.nonce, credentials.nc) {
                    Verified::Accepted(id)
                } else {
                    Verified::Stale
                }
            }
            _ => Verified::Wrong { fingerprint: self.fingerprint(credentials) },
        }
    }

    fn fingerprint(&self, credentials: &Credentials<'_>) -> u64 {
        let response = match &credentials.response {
            Response::Md5(response) => response.as_slice(),
            Response::Sha256(response) => response.as_slice(),
        };
        self.hasher.hash_one((credentials.nonce, credentials.nc, response))
    }

    /// Whether a packet that will not be parsed carries a nonce of ours that is fresh for this source. A bounded look at
    /// the raw bytes, nothing else of them is read.
    pub fn peek(&self, now: Now, bytes: &[u8], source: Source) -> bool {
        let bytes = bytes.get(..PEEK_BYTES_MAX).unwrap_or(bytes);
        let needle = self.nonce_finder.needle().len();
        // `cnonce="` ends like it and is passed over by its length; so are nonces of other servers.
        self.nonce_finder
            .find_iter(bytes)
            .filter_map(|at| bytes.get(at.saturating_add(needle)..)?.split_first_chunk())
            .filter(|(_, rest): &(&[u8; nonce::TEXT_BYTES], &[u8])| rest.first() == Some(&b'"'))
            .take(PEEK_NONCES_MAX)
            .any(|(text, _)| self.nonces.fresh(now, source, self.realm.as_bytes(), text).is_some())
    }

    /// The user of this name, exactly as configured; backslash escapes of a quoted string are read.
    pub fn user(&self, name: &[u8]) -> Option<UserId> {
        self.names.get(unescape(name).as_ref()).copied()
    }
}

/// RFC 3261 §25.1 quoted-pair.
fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        let byte = if *byte == b'\\' { bytes.next() } else { Some(byte) };
        plain.extend(byte);
    }
    Cow::Owned(plain)
}

/// A `uri` parameter that can be one: a scheme that we know and visible characters.
fn is_sane_uri(uri: &[u8]) -> bool {
    let has_scheme = [b"sip:".as_slice(), b"sips:", b"tel:"].iter().any(|scheme| {
        uri.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            && uri.len() > scheme.len()
    });
    has_scheme
        && uri.len() <= URI_BYTES_MAX
        && uri.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'<' | b'>'))
}

/// Lower-case hex, for deriving keys.
fn hex_of(seed: &[u8; 32]) -> String {
    seed.iter().map(|byte| format!("{byte:02x}")).collect()
}
