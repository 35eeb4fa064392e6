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
//! The `uri` parameter is what the digest is computed over, and must look like a SIP or tel URI. As a whole it is not
//! compared with the Request-URI as RFC 7616 §3.4.6 has it for HTTP: phones leave out port and parameters, write the
//! domain where the Request-URI has an address. The nonce is bound to the source and its count is used up, so that
//! credentials seen elsewhere are of no use. Only whoever stands in the way of an INVITE could send it on with another
//! number, once, at the caller's expense; so [`Credentials::uri`] lets the caller of this module compare the user parts.
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
use subtle::{Choice, ConstantTimeEq};

use self::digest::{Algorithm, Computed, LastHa2, Qop, unhex};
use self::replay::Replay;
use crate::config::{Config, DigestOffer, Secret};
use crate::message::header::quote;
use crate::message::{DigestParams, HeaderName, Message, StartLine};
use crate::nonce::{self, Nonce, Nonces};
use crate::source::{Source, UserId};
use crate::time::{Now, UnixTime};

/// Bytes of a packet that [`Authenticator::peek`] looks at: credentials stand well before.
const PEEK_BYTES_MAX: usize = 8_192;
/// Places that look like a nonce of ours and are checked by it; each costs a MAC at most.
const PEEK_NONCES_MAX: usize = 4;
/// Header fields with credentials: the first one counts.
const CREDENTIALS: [HeaderName; 2] = [HeaderName::Authorization, HeaderName::ProxyAuthorization];
/// Bytes of a `uri` parameter.
const URI_BYTES_MAX: usize = 1_024;

/// Credentials for our realm with a nonce that is fresh; nothing is proved yet but that the source receives what we send.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// As received, without quotes; escapes are still in it ([`Authenticator::user`] reads them).
    pub username: &'a [u8],
    /// The user of that name, if there is one.
    pub user: Option<UserId>,
    /// The URI that the digest was computed over.
    pub uri: &'a [u8],
    nonce: Nonce,
    nonce_text: &'a [u8],
    source: Source,
    response: Response,
    qop: Option<Qop<'a>>,
    nc: Option<u32>,
}

impl Credentials<'_> {
    /// The mark of their nonce: what [`Authenticator::is_marked`] says of it.
    pub fn is_marked(&self) -> bool {
        self.nonce.is_marked()
    }

    fn proven(&self) -> Option<Proven> {
        Some(Proven {
            nonce: self.nonce,
            text: self.nonce_text.try_into().ok()?,
            source: self.source,
        })
    }
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
#[derive(Clone)]
struct User {
    name: Box<str>,
    md5: Option<[u8; 16]>,
    sha256: Option<[u8; 32]>,
    replay: Replay,
    last: Option<Proven>,
}

/// The nonce of a user's last right answer, as it was found fresh: a phone uses it again and again, and its MAC need not be
/// computed again.
#[derive(Clone, Copy)]
struct Proven {
    nonce: Nonce,
    text: [u8; nonce::TEXT_BYTES],
    source: Source,
}

/// Challenges, and checks what comes back.
#[derive(Clone)]
pub struct Authenticator {
    realm: Box<str>,
    /// As challenges have it: quoted, with escapes.
    quoted_realm: Vec<u8>,
    offer: DigestOffer,
    nonces: Nonces,
    users: Vec<User>,
    names: HashMap<Box<[u8]>, UserId, ahash::RandomState>,
    /// Length of the longest name.
    name_bytes_max: usize,
    hasher: ahash::RandomState,
    /// HA1s of nobody.
    dummy: ([u8; 16], [u8; 32]),
    nonce_finder: Finder<'static>,
    last_ha2: LastHa2,
}

impl std::fmt::Debug for Authenticator {
    /// Without keys and HA1s.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator")
            .field("realm", &self.realm)
            .finish_non_exhaustive()
    }
}

impl Authenticator {
    /// `last_key`: [`Authenticator::key`] of the run before: its nonces still prove where a packet comes from, for one life,
    /// but nobody is authenticated by them.
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
            quoted_realm: Vec::new(),
            offer: config.registrar.digest,
            nonces: Nonces::new(now, seed, last_key),
            users: Vec::new(),
            names: HashMap::with_hasher(hasher.clone()),
            name_bytes_max: 0,
            hasher,
            dummy: (nobody.first_chunk().copied().unwrap_or_default(), nobody),
            nonce_finder: Finder::new(b"nonce=\""),
            last_ha2: LastHa2::default(),
        };
        authenticator.reload(config);
        authenticator
    }

    /// Takes new users, realm and algorithms. What a user's nonces were used for stays with the name; a new realm makes
    /// all nonces stale.
    pub fn reload(&mut self, config: &Config) {
        let mut before: HashMap<Box<str>, Replay, ahash::RandomState> =
            HashMap::with_hasher(self.hasher.clone());
        before.extend(self.users.drain(..).map(|user| (user.name, user.replay)));
        self.names.clear();
        let lengths = config.users.iter().map(|user| user.name.len());
        self.name_bytes_max = lengths.max().unwrap_or(0);
        self.realm = config.server.realm().into();
        self.quoted_realm.clear();
        quote(self.realm.as_bytes(), &mut self.quoted_realm);
        self.offer = config.registrar.digest;
        for (index, user) in config.users.iter().enumerate() {
            let (md5, sha256) = self.ha1s(&user.name, user.secret.as_ref());
            let name: Box<str> = user.name.as_str().into();
            let replay = before.remove(&name).unwrap_or_default();
            let id = UserId(u32::try_from(index).unwrap_or(u32::MAX));
            self.names.insert(name.as_bytes().into(), id);
            self.users.push(User {
                name,
                md5,
                sha256,
                replay,
                // The realm may be another.
                last: None,
            });
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
    /// offered, with one nonce (RFC 7616 §3.7, RFC 8760 §2.4). `mark`: what [`Authenticator::is_marked`] says of its answer.
    pub fn challenge(
        &mut self,
        now: Now,
        source: Source,
        (stale, mark): (bool, bool),
        out: &mut Vec<u8>,
    ) {
        let nonce = (self.nonces).mint(now, source, self.realm.as_bytes(), mark);
        for algorithm in self.offered() {
            out.extend_from_slice(b"WWW-Authenticate: Digest realm=");
            out.extend_from_slice(&self.quoted_realm);
            out.extend_from_slice(b", nonce=\"");
            out.extend_from_slice(&nonce);
            out.extend_from_slice(if stale {
                b"\", stale=true, algorithm="
            } else {
                b"\", algorithm="
            });
            out.extend_from_slice(algorithm.token().as_bytes());
            out.extend_from_slice(b", qop=\"auth\"\r\n");
        }
    }

    /// Credentials for our realm in a request: of its Authorization headers, else of Proxy-Authorization.
    pub fn present<'a>(&self, now: Now, request: &Message<'a>, source: Source) -> Presented<'a> {
        let mut malformed = false;
        for name in CREDENTIALS {
            let mut ours = None;
            for value in request.line_values(name) {
                match DigestParams::parse(value) {
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
                return self
                    .read(now, params, source)
                    .unwrap_or(Presented::Malformed);
            }
        }
        Presented::None
    }

    fn is_realm(&self, realm: &[u8]) -> bool {
        unescape(realm).as_ref() == self.realm.as_bytes()
    }

    /// `None`: malformed.
    fn read<'a>(
        &self,
        now: Now,
        params: DigestParams<'a>,
        source: Source,
    ) -> Option<Presented<'a>> {
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
        // Before anything else is done for whoever shows an old one.
        let Some(claim) = self.nonces.claimed(now, nonce_text) else {
            return Some(Presented::Stale);
        };
        let user = self.user(username);
        let known = self.known(user, source, nonce_text);
        let proven = || self.nonces.proven(&claim, source, self.realm.as_bytes());
        let Some(nonce) = known.or_else(proven) else {
            return Some(Presented::Stale);
        };
        Some(Presented::Fresh(Credentials {
            username,
            user,
            nonce,
            nonce_text,
            source,
            uri,
            response,
            qop,
            nc,
        }))
    }

    /// The nonce, if this user has given a right answer to it last, from the same source.
    fn known(&self, user: Option<UserId>, source: Source, text: &[u8]) -> Option<Nonce> {
        let last = self.users.get(user?.0 as usize)?.last.as_ref()?;
        let is_it = last.source == source && bool::from(is_same(&last.text, text.try_into().ok()?));
        is_it.then_some(last.nonce)
    }

    /// Checks credentials of this request: the digest first, then whether it was used before. The same work for whoever
    /// does not exist.
    pub fn verify(&mut self, credentials: &Credentials<'_>, request: &Message<'_>) -> Verified {
        let method = match request.start() {
            StartLine::Request { token, .. } => token,
            StartLine::Response { .. } => b"",
        };
        let id = credentials.user;
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
                let own = computed.md5(&ha1.unwrap_or(self.dummy.0), &mut self.last_ha2);
                (is_same(&own, response), ha1.is_some())
            }
            Response::Sha256(response) => {
                let ha1 = user.as_ref().and_then(|user| user.sha256);
                let own = computed.sha256(&ha1.unwrap_or(self.dummy.1));
                (is_same(&own, response), ha1.is_some())
            }
        };
        match (id, user) {
            (Some(id), Some(user)) if exists && bool::from(is_right) => {
                if user.replay.take(credentials.nonce, credentials.nc) {
                    user.last = credentials.proven();
                    Verified::Accepted(id)
                } else {
                    Verified::Stale
                }
            }
            _ => Verified::Wrong {
                fingerprint: self.fingerprint(credentials),
            },
        }
    }

    fn fingerprint(&self, credentials: &Credentials<'_>) -> u64 {
        let response = match &credentials.response {
            Response::Md5(response) => response.as_slice(),
            Response::Sha256(response) => response.as_slice(),
        };
        self.hasher
            .hash_one((credentials.nonce, credentials.nc, response))
    }

    /// Whether a packet that will not be parsed carries a nonce of ours that is fresh for this source. A bounded look at
    /// the raw bytes, nothing else of them is read.
    pub fn peek(&self, now: Now, bytes: &[u8], source: Source) -> bool {
        self.nonces_in(bytes)
            .any(|text| (self.nonces).proves(now, source, self.realm.as_bytes(), text))
    }

    /// Whether the credentials of a request carry a nonce with its mark that was minted for this source. It proves nobody: it
    /// may be an old one.
    pub fn is_marked(&self, request: &Message<'_>, source: Source) -> bool {
        let realm = self.realm.as_bytes();
        (CREDENTIALS.into_iter())
            .flat_map(|name| request.line_values(name))
            .flat_map(|value| self.nonces_in(value))
            .take(PEEK_NONCES_MAX)
            .any(|text| self.nonces.is_marked(source, realm, text))
    }

    /// What looks like a nonce of ours, at most [`PEEK_NONCES_MAX`].
    fn nonces_in<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let bytes = bytes.get(..PEEK_BYTES_MAX).unwrap_or(bytes);
        let needle = self.nonce_finder.needle().len();
        // `cnonce="` ends like it.
        let is_whole = |at: usize| {
            let before = at.checked_sub(1).and_then(|at| bytes.get(at));
            !before.is_some_and(u8::is_ascii_alphanumeric)
        };
        self.nonce_finder
            .find_iter(bytes)
            .filter(move |at| is_whole(*at))
            .filter_map(move |at| bytes.get(at.saturating_add(needle)..)?.split_first_chunk())
            // Nonces of other servers are passed over by their length.
            .filter(|(_, rest): &(&[u8; nonce::TEXT_BYTES], &[u8])| rest.first() == Some(&b'"'))
            .map(|(text, _)| text.as_slice())
            .take(PEEK_NONCES_MAX)
    }

    /// The user of this name, exactly as configured; backslash escapes of a quoted string are read.
    pub fn user(&self, name: &[u8]) -> Option<UserId> {
        // Each character escaped; who sends more means nobody, and need not be copied for that.
        if name.len() / 2 > self.name_bytes_max {
            return None;
        }
        self.names.get(unescape(name).as_ref()).copied()
    }
}

/// Whether both are the same, in constant time, eight bytes at once; their length is a multiple of that.
fn is_same<const N: usize>(one: &[u8; N], other: &[u8; N]) -> Choice {
    const { assert!(N.is_multiple_of(8)) };
    let words = one.as_chunks().0.iter().zip(other.as_chunks().0);
    let differing = words.fold(0, |all, (one, other)| {
        all | u64::from_ne_bytes(*one) ^ u64::from_ne_bytes(*other)
    });
    differing.ct_eq(&0)
}

/// RFC 3261 §25.1 quoted-pair.
fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        // One at the very end escapes nothing, and no quoted-string has it.
        let escaped = if *byte == b'\\' { bytes.next() } else { None };
        plain.push(*escaped.unwrap_or(byte));
    }
    Cow::Owned(plain)
}

/// A `uri` parameter that can be one: a scheme that we know and visible characters.
fn is_sane_uri(uri: &[u8]) -> bool {
    let has_scheme = [b"sip:".as_slice(), b"sips:", b"tel:"]
        .iter()
        .any(|scheme| {
            uri.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
                && uri.len() > scheme.len()
        });
    has_scheme
        && uri.len() <= URI_BYTES_MAX
        && uri
            .iter()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'<' | b'>'))
}

/// Lower-case hex, for deriving keys.
fn hex_of(seed: &[u8; 32]) -> String {
    seed.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::digest::{Login, answer, strongest};
    use super::*;
    use crate::message;
    use crate::time::Instant;

    const CONFIG: &str = "[server]\ndomain = pbx.example\n[registrar]\ndigest = sha256, md5\n\
        [user 100]\npassword = correct horse\n[user 101]\naddresses = 192.0.2.9\n[user o.neil]\npassword = battery staple\n";

    fn at(ms: u64) -> Now {
        Now {
            mono: Instant::from_micros(ms * 1000),
            unix: UnixTime::from_millis(1_790_000_000_000 + ms),
        }
    }

    fn source() -> Source {
        "192.0.2.1".parse().unwrap()
    }

    fn config(text: &str) -> Config {
        Config::read(text, std::path::Path::new("/")).unwrap()
    }

    fn authenticator() -> Authenticator {
        Authenticator::new(at(0), &config(CONFIG), &[1; 32], None)
    }

    fn request(method: &str, lines: &str) -> Vec<u8> {
        format!(
            "{method} sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
             From: <sip:100@pbx.example>;tag=1\r\nTo: <sip:100@pbx.example>\r\nCall-ID: 1\r\nCSeq: 1 {method}\r\n\
             Max-Forwards: 70\r\n{lines}Content-Length: 0\r\n\r\n"
        )
        .into_bytes()
    }

    /// The challenges' values.
    fn challenges(authenticator: &mut Authenticator, now: Now, stale: bool) -> Vec<String> {
        let mut lines = Vec::new();
        authenticator.challenge(now, source(), (stale, false), &mut lines);
        String::from_utf8(lines)
            .unwrap()
            .lines()
            .map(|line| line.strip_prefix("WWW-Authenticate: ").unwrap().to_owned())
            .collect()
    }

    fn parsed(value: &str) -> DigestParams<'_> {
        DigestParams::parse(value.as_bytes()).unwrap().unwrap()
    }

    fn authorization(challenge: &DigestParams<'_>, user: &str, password: &str, nc: u32) -> String {
        let secret = Secret::Password(password.to_owned());
        let login = Login {
            user,
            secret: &secret,
            method: b"REGISTER",
            uri: b"sip:pbx.example",
            nc,
            cnonce: b"abc",
        };
        String::from_utf8(answer(challenge, &login).unwrap()).unwrap()
    }

    #[derive(Debug, PartialEq)]
    enum Outcome {
        None,
        Stale,
        Malformed,
        Verified(Verified),
    }

    fn submit(authenticator: &mut Authenticator, now: Now, from: Source, lines: &str) -> Outcome {
        let bytes = request("REGISTER", lines);
        let message = message::parse(&bytes).unwrap();
        match authenticator.present(now, &message, from) {
            Presented::None => Outcome::None,
            Presented::Stale => Outcome::Stale,
            Presented::Malformed => Outcome::Malformed,
            Presented::Fresh(credentials) => {
                Outcome::Verified(authenticator.verify(&credentials, &message))
            }
        }
    }

    fn is_wrong(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Verified(Verified::Wrong { .. }))
    }

    #[test]
    fn challenge_by_configuration() {
        let mut both = authenticator();
        let values = challenges(&mut both, at(1), false);
        assert_eq!(values.len(), 2);
        assert!(
            values[0].ends_with("\", algorithm=SHA-256, qop=\"auth\""),
            "{}",
            values[0]
        );
        assert!(
            values[1].ends_with("\", algorithm=MD5, qop=\"auth\""),
            "{}",
            values[1]
        );
        assert_eq!(parsed(&values[0]).realm, Some(b"pbx.example".as_slice()));
        assert_eq!(parsed(&values[0]).nonce, parsed(&values[1]).nonce);
        let mut one = Authenticator::new(at(0), &config(""), &[1; 32], None);
        let values = challenges(&mut one, at(1), true);
        assert_eq!(values.len(), 1, "MD5 alone by default");
        assert_eq!(parsed(&values[0]).realm, Some(b"sipkeep".as_slice()));
        assert_eq!(parsed(&values[0]).stale, Some(b"true".as_slice()));
    }

    #[test]
    fn right_answers_of_both_algorithms_count_once() {
        let mut authenticator = authenticator();
        let values = challenges(&mut authenticator, at(1), false);
        let accepted = Outcome::Verified(Verified::Accepted(UserId(0)));
        let best = strongest(
            values.iter().map(|v| parsed(v)),
            &Secret::Password(String::new()),
        )
        .unwrap();
        assert_eq!(best.algorithm, Some(b"SHA-256".as_slice()));
        let first = authorization(&best, "100", "correct horse", 1);
        let first = format!("Authorization: {first}\r\n");
        assert_eq!(
            submit(&mut authenticator, at(2), source(), &first),
            accepted
        );
        assert_eq!(
            submit(&mut authenticator, at(3), source(), &first),
            Outcome::Verified(Verified::Stale)
        );
        let md5 = authorization(&parsed(&values[1]), "100", "correct horse", 2);
        let proxy = format!("Proxy-Authorization: {md5}\r\n");
        assert_eq!(
            submit(&mut authenticator, at(4), source(), &proxy),
            accepted
        );
        let third = authorization(&best, "100", "correct horse", 3);
        let foreign = format!(
            "Authorization: {}\r\n",
            third.replace("pbx.example\", nonce", "other.example\", nonce")
        );
        assert_eq!(
            submit(&mut authenticator, at(4), source(), &foreign),
            Outcome::None,
            "another realm's"
        );
        let both = format!("{foreign}Authorization: {third}\r\n");
        assert_eq!(submit(&mut authenticator, at(4), source(), &both), accepted);
    }

    /// What is remembered of the last right answer makes its nonce good for nothing else.
    #[test]
    fn a_nonce_that_was_used_is_looked_at_as_before() {
        let mut authenticator = authenticator();
        let values = challenges(&mut authenticator, at(1), false);
        let accepted = Outcome::Verified(Verified::Accepted(UserId(0)));
        let line = |value: &str, user, password, nc| {
            let answer = authorization(&parsed(value), user, password, nc);
            format!("Authorization: {answer}\r\n")
        };
        let mut nc = 0;
        let mut next = |value: &str| {
            nc += 1;
            line(value, "100", "correct horse", nc)
        };
        for ms in [2, 3, 3_600_000] {
            let line = next(&values[1]);
            assert_eq!(
                submit(&mut authenticator, at(ms), source(), &line),
                accepted
            );
            let again = submit(&mut authenticator, at(ms), source(), &line);
            assert_eq!(again, Outcome::Verified(Verified::Stale));
        }
        let elsewhere = "192.0.2.2".parse().unwrap();
        let line_of_next = next(&values[1]);
        let outcome = submit(&mut authenticator, at(4), elsewhere, &line_of_next);
        assert_eq!(outcome, Outcome::Stale);
        let other = submit(
            &mut authenticator,
            at(4),
            elsewhere,
            &line(&values[1], "o.neil", "battery staple", 1),
        );
        assert_eq!(other, Outcome::Stale);
        let nonce = parsed(&values[1]).nonce.unwrap();
        let mut forged = nonce.to_vec();
        *forged.last_mut().unwrap() ^= 1;
        let forged = values[1].replace(
            std::str::from_utf8(nonce).unwrap(),
            std::str::from_utf8(&forged).unwrap(),
        );
        let outcome = submit(&mut authenticator, at(4), source(), &next(&forged));
        assert_eq!(outcome, Outcome::Stale);
        assert!(is_wrong(&submit(
            &mut authenticator,
            at(4),
            source(),
            &line(&values[1], "100", "x", 99)
        )));
        let outcome = submit(
            &mut authenticator,
            at(3_600_001),
            source(),
            &next(&values[1]),
        );
        assert_eq!(outcome, Outcome::Stale);
        // The same text in another realm is another nonce.
        authenticator.reload(&Config::read(CONFIG, std::path::Path::new("/")).unwrap());
        assert_eq!(
            submit(&mut authenticator, at(4), source(), &next(&values[1])),
            accepted
        );
        let moved = CONFIG.replace("pbx.example", "other.example");
        authenticator.reload(&Config::read(&moved, std::path::Path::new("/")).unwrap());
        let moved = values[1].replace("pbx.example", "other.example");
        let outcome = submit(&mut authenticator, at(4), source(), &next(&moved));
        assert_eq!(outcome, Outcome::Stale);
    }

    #[test]
    fn wrong_unknown_and_disabled_are_alike() {
        let mut authenticator = authenticator();
        let values = challenges(&mut authenticator, at(1), false);
        for (user, password) in [
            ("100", "x"),
            ("999", "correct horse"),
            ("101", ""),
            ("10", "correct horse"),
        ] {
            for value in &values {
                let line = format!(
                    "Authorization: {}\r\n",
                    authorization(&parsed(value), user, password, 1)
                );
                let outcome = submit(&mut authenticator, at(2), source(), &line);
                assert!(is_wrong(&outcome), "{user} {outcome:?}");
                assert_eq!(
                    submit(&mut authenticator, at(3), source(), &line),
                    outcome,
                    "same fingerprint"
                );
            }
        }
        // Wrong answers made no state: count 1 is still there for the right one.
        let line = format!(
            "Authorization: {}\r\n",
            authorization(&parsed(&values[0]), "100", "correct horse", 1)
        );
        let outcome = submit(&mut authenticator, at(4), source(), &line);
        assert_eq!(outcome, Outcome::Verified(Verified::Accepted(UserId(0))));
    }

    #[test]
    fn fingerprints_tell_answers_apart() {
        let mut authenticator = authenticator();
        let values = challenges(&mut authenticator, at(1), false);
        let mut seen = std::collections::BTreeSet::new();
        for (password, nc) in [("a", 1), ("b", 1), ("a", 2)] {
            let line = format!(
                "Authorization: {}\r\n",
                authorization(&parsed(&values[0]), "100", password, nc)
            );
            match submit(&mut authenticator, at(2), source(), &line) {
                Outcome::Verified(Verified::Wrong { fingerprint }) => {
                    assert!(seen.insert(fingerprint))
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn stale_is_never_a_guess() {
        let mut authenticator = authenticator();
        let values = challenges(&mut authenticator, at(1), false);
        let stranger = "192.0.2.2".parse().unwrap();
        for password in ["correct horse", "wrong"] {
            let line = format!(
                "Authorization: {}\r\n",
                authorization(&parsed(&values[0]), "100", password, 1)
            );
            assert_eq!(
                submit(&mut authenticator, at(3_600_001), source(), &line),
                Outcome::Stale,
                "old"
            );
            assert_eq!(
                submit(&mut authenticator, at(2), stranger, &line),
                Outcome::Stale,
                "foreign source"
            );
            let made_up = line.replace("nonce=\"", "nonce=\"A");
            assert_eq!(
                submit(&mut authenticator, at(2), source(), &made_up),
                Outcome::Stale,
                "not ours"
            );
        }
        // After a reload to MD5 alone, an answer in SHA-256 is one round more, no failure.
        let line = format!(
            "Authorization: {}\r\n",
            authorization(&parsed(&values[0]), "100", "correct horse", 1)
        );
        authenticator.reload(&config(&CONFIG.replace("sha256, md5", "md5")));
        assert_eq!(
            submit(&mut authenticator, at(2), source(), &line),
            Outcome::Stale
        );
    }

    #[test]
    fn without_qop_a_nonce_works_once() {
        let mut authenticator = authenticator();
        let values = challenges(&mut authenticator, at(1), false);
        let old = DigestParams {
            qop: None,
            ..parsed(&values[1])
        };
        let line = format!(
            "Authorization: {}\r\n",
            authorization(&old, "100", "correct horse", 1)
        );
        let accepted = Outcome::Verified(Verified::Accepted(UserId(0)));
        assert_eq!(submit(&mut authenticator, at(2), source(), &line), accepted);
        assert_eq!(
            submit(&mut authenticator, at(2), source(), &line),
            Outcome::Verified(Verified::Stale)
        );
        let line = format!(
            "Authorization: {}\r\n",
            authorization(&parsed(&values[1]), "100", "correct horse", 2)
        );
        assert_eq!(
            submit(&mut authenticator, at(2), source(), &line),
            Outcome::Verified(Verified::Stale)
        );
    }

    #[test]
    fn what_cannot_be_read_is_malformed() {
        let mut authenticator = authenticator();
        let values = challenges(&mut authenticator, at(1), false);
        let good = format!(
            "Authorization: {}\r\n",
            authorization(&parsed(&values[1]), "100", "correct horse", 1)
        );
        for (from, to) in [
            ("nc=00000001", "nc=1"),
            ("nc=00000001", "nc=0000000g"),
            (", nc=00000001", ""),
            ("cnonce=\"abc\", ", ""),
            ("qop=auth,", "qop=auth-int,"),
            ("algorithm=MD5", "algorithm=MD5-sess"),
            ("algorithm=MD5", "algorithm=SHA-256"),
            ("uri=\"sip:", "uri=\"http:"),
            ("uri=\"sip:", "uri=\"sip: "),
            ("username=\"100\", ", ""),
            ("response=\"", "response=\"0"),
            ("username=", "username=\"100\", username="),
            ("\r\n", ", realm=\"pbx.example\"\r\n"),
            ("realm=", "realm"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from}");
            assert_eq!(
                submit(&mut authenticator, at(2), source(), &bad),
                Outcome::Malformed,
                "{bad}"
            );
        }
        let twice = format!("{good}{good}");
        assert_eq!(
            submit(&mut authenticator, at(2), source(), &twice),
            Outcome::Malformed
        );
        let basic = "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
        assert_eq!(
            submit(&mut authenticator, at(2), source(), basic),
            Outcome::None
        );
        // Known sloppiness that is read: qop in capitals and quotes, a hex response in capitals.
        let tail = good.find("response=\"").unwrap();
        let sloppy = format!(
            "{}{}",
            &good[..tail],
            good[tail..].to_uppercase().replace("NC=", "nc=")
        );
        let sloppy = sloppy
            .replace("CNONCE=\"ABC\"", "cnonce=\"abc\"")
            .replace("QOP=AUTH", "qop=\"auth\"");
        let outcome = submit(&mut authenticator, at(2), source(), &sloppy);
        assert_eq!(
            outcome,
            Outcome::Verified(Verified::Accepted(UserId(0))),
            "{sloppy}"
        );
    }

    #[test]
    fn names_are_exact_and_escapes_are_read() {
        let authenticator = authenticator();
        assert_eq!(authenticator.user(b"100"), Some(UserId(0)));
        assert_eq!(authenticator.user(b"1\\00"), Some(UserId(0)));
        assert_eq!(authenticator.user(b"o\\.neil"), Some(UserId(2)));
        for unknown in [
            b"100@pbx.example".as_slice(),
            b"",
            b"1000",
            b"100\\",
            b"O.NEIL",
            b"100\\\\",
        ] {
            assert_eq!(authenticator.user(unknown), None, "{unknown:?}");
        }
        // No bound on what is read keeps out the longest name, each character of it escaped.
        let escaped = |name: &str| -> Vec<u8> { name.bytes().flat_map(|b| [b'\\', b]).collect() };
        let longest = "o.neil";
        assert_eq!(longest.len(), authenticator.name_bytes_max);
        assert_eq!(authenticator.user(&escaped(longest)), Some(UserId(2)));
        assert_eq!(authenticator.user(&escaped("o.neill")), None);
    }

    #[test]
    fn reload_keeps_what_was_used() {
        let mut authenticator = authenticator();
        let values = challenges(&mut authenticator, at(1), false);
        let line = format!(
            "Authorization: {}\r\n",
            authorization(&parsed(&values[0]), "100", "correct horse", 1)
        );
        assert!(matches!(
            submit(&mut authenticator, at(2), source(), &line),
            Outcome::Verified(Verified::Accepted(_))
        ));
        let more = CONFIG.replace(
            "[user 100]",
            "[user 99]\npassword = hard to guess\n[user 100]",
        );
        authenticator.reload(&config(&more));
        assert_eq!(authenticator.user(b"100"), Some(UserId(1)));
        assert_eq!(
            submit(&mut authenticator, at(4), source(), &line),
            Outcome::Verified(Verified::Stale)
        );
        authenticator.reload(&config(&CONFIG.replace("pbx.example", "new.example")));
        assert_eq!(
            submit(&mut authenticator, at(6), source(), &line),
            Outcome::None,
            "the realm is another"
        );
    }

    #[test]
    fn the_mark_of_a_challenge_comes_back_with_its_answer() {
        let mut authenticator = authenticator();
        for mark in [false, true] {
            let mut lines = Vec::new();
            authenticator.challenge(at(1), source(), (true, mark), &mut lines);
            let lines = String::from_utf8(lines).unwrap();
            let value = lines.lines().next().unwrap();
            let value = value.strip_prefix("WWW-Authenticate: ").unwrap();
            let answer = authorization(&parsed(value), "100", "x", 1);
            let bytes = request("REGISTER", &format!("Authorization: {answer}\r\n"));
            let is_marked = |bytes: &[u8], source| {
                authenticator.is_marked(&message::parse(bytes).unwrap(), source)
            };
            assert_eq!(is_marked(&bytes, source()), mark);
            let elsewhere = "198.51.100.77".parse().unwrap();
            assert!(!is_marked(&bytes, elsewhere));
            // A client's own nonce may be as long as ours.
            let client = String::from_utf8(bytes)
                .unwrap()
                .replace(" nonce=", " cnonce=");
            assert!(!is_marked(client.as_bytes(), source()));
            assert!(!is_marked(&request("REGISTER", ""), source()));
        }
    }

    #[test]
    fn peek_finds_a_fresh_nonce_of_ours_only() {
        let mut authenticator = authenticator();
        let values = challenges(&mut authenticator, at(1), false);
        let line = format!(
            "Authorization: {}\r\n",
            authorization(&parsed(&values[0]), "100", "x", 1)
        );
        let bytes = request("REGISTER", &line);
        assert!(authenticator.peek(at(2), &bytes, source()));
        assert!(!authenticator.peek(at(2), &bytes, "192.0.2.2".parse().unwrap()));
        assert!(!authenticator.peek(at(3_600_001), &bytes, source()));
        assert!(!authenticator.peek(at(2), &request("REGISTER", ""), source()));
        let nonce = String::from_utf8_lossy(parsed(&values[0]).nonce.unwrap()).into_owned();
        let others = "cnonce=\"x\" nonce=\"foreign\" nonce=\"".repeat(20);
        assert!(authenticator.peek(
            at(2),
            format!("{others}nonce=\"{nonce}\"").as_bytes(),
            source()
        ));
        let alike = format!("nonce=\"{}\" ", "A".repeat(32)).repeat(PEEK_NONCES_MAX);
        assert!(!authenticator.peek(
            at(2),
            format!("{alike}nonce=\"{nonce}\"").as_bytes(),
            source()
        ));
        let far = format!("{}nonce=\"{nonce}\"", " ".repeat(PEEK_BYTES_MAX));
        assert!(!authenticator.peek(at(2), far.as_bytes(), source()));
        let text = format!("nonce=\"{nonce}\"");
        for cut in 0..=text.len() {
            let whole = cut == text.len();
            assert_eq!(
                authenticator.peek(at(2), &text.as_bytes()[..cut], source()),
                whole,
                "{cut}"
            );
        }
    }

    #[test]
    fn a_nonce_of_the_run_before_proves_its_source_and_nothing_else() {
        let mut before = authenticator();
        let values = challenges(&mut before, at(1), false);
        let line = format!(
            "Authorization: {}\r\n",
            authorization(&parsed(&values[0]), "100", "correct horse", 1)
        );
        let mut after = Authenticator::new(at(2), &config(CONFIG), &[2; 32], Some(before.key()));
        assert!(after.peek(at(3), &request("REGISTER", &line), source()));
        assert_eq!(
            submit(&mut after, at(3), source(), &line),
            Outcome::Stale,
            "it may have been used before"
        );
    }

    #[test]
    fn secrets_stay_inside() {
        let authenticator = authenticator();
        let shown = format!("{authenticator:?}");
        assert!(
            !shown.contains("horse") && !shown.contains("md5"),
            "{shown}"
        );
    }
}
