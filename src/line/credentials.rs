//! The client's side of RFC 3261 §22 for a line: which challenges are answered, what is remembered of them, and the header
//! lines that answer them.
//!
//! A nonce is used again, with a growing count (RFC 7616 §3.4), until the peer gives another one: so a refresh needs no
//! challenge of its own. Of several challenges for one realm the one with the strongest algorithm is answered (RFC 8760 §2.4),
//! of several realms each (RFC 3261 §22.3).

use crate::auth::digest::{Login, answer, strongest};
use crate::config::{self, Secret};
use crate::limits::{LINE_CHALLENGE_BYTES_MAX, LINE_CHALLENGES_MAX};
use crate::message::{DigestParams, HeaderName, Message, Method};
use crate::token::{Tokens, hex};

/// Why a challenge is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The file has no password for this line.
    NoPassword,
    /// The response has no Digest challenge that can be read.
    NoChallenge,
    /// It is for another realm than the file says; which.
    Realm(String),
    /// Its algorithm or quality of protection is none of ours, or it is too long.
    Unanswerable,
    /// There is no such line (any more).
    NoLine,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoPassword => f.write_str("a password is asked for, and the line has none"),
            Self::NoChallenge => f.write_str("a password is asked for without a Digest challenge"),
            Self::Realm(realm) => write!(
                f,
                "a password is asked for the realm \"{realm}\", which is not that of the line"
            ),
            Self::Unanswerable => f.write_str(
                "a password is asked for in a way that is none of MD5 and SHA-256 with auth",
            ),
            Self::NoLine => f.write_str("the line is gone"),
        }
    }
}

impl std::error::Error for Why {}

/// Which header a challenge came in, and its answer goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    /// 401: WWW-Authenticate.
    Server,
    /// 407: Proxy-Authenticate.
    Proxy,
}

impl Asker {
    const BOTH: [Self; 2] = [Self::Server, Self::Proxy];

    fn header(self) -> HeaderName {
        match self {
            Self::Server => HeaderName::WwwAuthenticate,
            Self::Proxy => HeaderName::ProxyAuthenticate,
        }
    }

    fn answer_header(self) -> HeaderName {
        match self {
            Self::Server => HeaderName::Authorization,
            Self::Proxy => HeaderName::ProxyAuthorization,
        }
    }
}

/// A challenge that is remembered.
#[derive(Clone, Debug)]
struct Known {
    asker: Asker,
    /// It came to a REGISTER: later ones answer it before they are asked.
    of_register: bool,
    realm: Box<[u8]>,
    nonce: Box<[u8]>,
    opaque: Option<Box<[u8]>>,
    algorithm: Option<Box<[u8]>>,
    qop: Option<Box<[u8]>>,
    /// How often the nonce was used.
    nc: u32,
}

impl Known {
    fn new(asker: Asker, of_register: bool, challenge: &DigestParams<'_>) -> Self {
        Self {
            asker,
            of_register,
            realm: challenge.realm.unwrap_or_default().into(),
            nonce: challenge.nonce.unwrap_or_default().into(),
            opaque: challenge.opaque.map(Into::into),
            algorithm: challenge.algorithm.map(Into::into),
            qop: challenge.qop.map(Into::into),
            nc: 0,
        }
    }

    fn params(&self) -> DigestParams<'_> {
        DigestParams {
            realm: Some(&self.realm),
            nonce: Some(&self.nonce),
            opaque: self.opaque.as_deref(),
            algorithm: self.algorithm.as_deref(),
            qop: self.qop.as_deref(),
            ..DigestParams::default()
        }
    }

    fn is_for(&self, asker: Asker, of_register: bool, realm: &[u8]) -> bool {
        self.asker == asker && self.of_register == of_register && *self.realm == *realm
    }
}

/// Who asks, and for which realm.
type Realm = (Asker, Box<[u8]>);

/// What a request is, for its digest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub method: Method,
    /// The Request-URI.
    pub uri: &'a [u8],
}

impl Asked<'_> {
    fn is_register(&self) -> bool {
        self.method == Method::Register
    }
}

/// A line's user name and password, and the challenges of its peer. `Debug` shows no password.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    user: String,
    secret: Option<Secret>,
    /// As the file has it; `None`: whatever the peer names.
    realm: Option<Box<[u8]>>,
    known: Vec<Known>,
}

impl Credentials {
    /// Of a line that has seen no challenge yet.
    pub fn new(line: &config::Line) -> Self {
        let mut user = line.auth_user.as_ref().unwrap_or(&line.account).clone();
        if line.auth_user_with_domain && !user.contains('@') {
            user.push('@');
            user.push_str(&line.server.name);
        }
        let password = &line.password.0;
        Self {
            user,
            secret: (!password.is_empty()).then(|| Secret::Password(password.clone())),
            realm: line.realm.as_ref().map(|realm| realm.as_bytes().into()),
            known: Vec::new(),
        }
    }

    /// Whether the digest's user name says whose domain it is of.
    pub fn has_domain(&self) -> bool {
        self.user.contains('@')
    }

    /// Bytes that it points to, at least.
    #[cfg(test)]
    pub fn heap_bytes(&self) -> usize {
        let challenge = |known: &Known| known.realm.len() + known.nonce.len();
        let known = self.known.capacity() * size_of::<Known>();
        2 * self.user.capacity() + known + self.known.iter().map(challenge).sum::<usize>()
    }

    /// Forgets all challenges: an answer to them was wrong.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Takes in the challenges of a 401 or 407.
    ///
    /// # Errors
    /// Why none of them can be answered.
    pub fn learn(&mut self, response: &Message<'_>, asked: &Asked<'_>) -> Result<(), Why> {
        self.challenges(response, asked).map(drop)
    }

    /// Whether a challenge says that the nonce was too old, and nothing against the answer (RFC 7616 §3.3).
    pub fn is_stale(response: &Message<'_>) -> bool {
        Asker::BOTH.iter().any(|asker| {
            let mut challenges = challenges(response, *asker);
            challenges.any(|challenge| {
                (challenge.stale).is_some_and(|stale| stale.eq_ignore_ascii_case(b"true"))
            })
        })
    }

    /// Appends a whole header line for each challenge of a 401 or 407 to a request, and for each that this request has
    /// answered before: a proxy on the way wants its own again (RFC 3261 §22.3), with a count that grows (RFC 7616 §3.4).
    pub fn authorize(
        &mut self,
        response: &Message<'_>,
        request: &Message<'_>,
        tokens: &mut Tokens,
        out: &mut Vec<u8>,
    ) -> Result<(), Why> {
        let asked = Asked {
            method: request.cseq().method,
            uri: request.request_uri(),
        };
        let answered = self.challenges(response, &asked)?;
        for (asker, realm) in &answered {
            self.write(*asker, realm, &asked, tokens, out);
        }
        for asker in Asker::BOTH {
            for value in request.line_values(asker.answer_header()) {
                let Ok(Some(former)) = DigestParams::parse(value) else {
                    continue;
                };
                let realm = former.realm.unwrap_or_default();
                let is_new = |(own, other): &Realm| *own == asker && **other == *realm;
                if !answered.iter().any(is_new) && !self.write(asker, realm, &asked, tokens, out) {
                    // Its challenge is forgotten.
                    append_line(asker, value, out);
                }
            }
        }
        Ok(())
    }

    /// Appends a whole header line for each challenge that REGISTERs had.
    pub fn authorize_register(
        &mut self,
        asked: &Asked<'_>,
        tokens: &mut Tokens,
        out: &mut Vec<u8>,
    ) {
        let known = self.known.iter().filter(|known| known.of_register);
        let known: Vec<_> = known
            .map(|known| (known.asker, known.realm.clone()))
            .collect();
        for (asker, realm) in known {
            self.write(asker, &realm, asked, tokens, out);
        }
    }

    /// The next nonce, which the answer to an authenticated REGISTER gives (RFC 7616 §3.5).
    pub fn take_next_nonce(&mut self, response: &Message<'_>) {
        let Some(next) = (response.value(HeaderName::AuthenticationInfo)).and_then(next_nonce)
        else {
            return;
        };
        // It is the server's; a proxy's would come in a header of its own.
        let known = self.known.iter_mut();
        let mut own = known.filter(|known| known.of_register && known.asker == Asker::Server);
        if let (Some(known), None) = (own.next(), own.next())
            && *known.nonce != *next
        {
            known.nonce = next.into();
            known.nc = 0;
        }
    }

    /// Reads and remembers the challenges of a response; whom they are of.
    fn challenges(&mut self, response: &Message<'_>, asked: &Asked<'_>) -> Result<Vec<Realm>, Why> {
        let secret = self.secret.as_ref().ok_or(Why::NoPassword)?;
        let mut why = Why::NoChallenge;
        let mut found: Vec<Known> = Vec::new();
        for asker in Asker::BOTH {
            for challenge in challenges(response, asker) {
                let realm = challenge.realm.unwrap_or_default();
                if (self.realm.as_deref()).is_some_and(|own| own != realm) {
                    why = Why::Realm(String::from_utf8_lossy(realm).into_owned());
                    continue;
                }
                let same = challenges_of(response, asker, realm);
                let is_full = found.len() >= LINE_CHALLENGES_MAX;
                let is_seen =
                    (found.iter()).any(|known| known.asker == asker && *known.realm == *realm);
                if is_seen || is_full {
                    continue;
                }
                match strongest(same, secret).filter(is_short) {
                    Some(best) => found.push(Known::new(asker, asked.is_register(), &best)),
                    None => why = Why::Unanswerable,
                }
            }
        }
        if found.is_empty() {
            return Err(why);
        }
        let whom = found.iter().map(|known| (known.asker, known.realm.clone()));
        let whom = whom.collect();
        for known in found {
            self.remember(known);
        }
        Ok(whom)
    }

    fn remember(&mut self, mut new: Known) {
        // The count goes on for as long as the nonce is the same, whichever request it was used for.
        let same = self.known.iter().filter(|known| known.nonce == new.nonce);
        new.nc = same.map(|known| known.nc).max().unwrap_or(0);
        let place = (self.known.iter_mut())
            .find(|known| known.is_for(new.asker, new.of_register, &new.realm));
        match place {
            Some(place) => *place = new,
            None => {
                if self.known.len() >= LINE_CHALLENGES_MAX {
                    self.known.remove(0);
                }
                self.known.push(new);
            }
        }
    }

    /// Appends the answer to a challenge that is remembered; whether there is one.
    fn write(
        &mut self,
        asker: Asker,
        realm: &[u8],
        asked: &Asked<'_>,
        tokens: &mut Tokens,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(secret) = &self.secret else {
            return false;
        };
        let place =
            (self.known.iter()).find(|known| known.is_for(asker, asked.is_register(), realm));
        let Some(known) = place else { return false };
        let nc = known.nc.saturating_add(1);
        let login = Login {
            user: &self.user,
            secret,
            method: asked.method.token().as_bytes(),
            uri: asked.uri,
            nc,
            cnonce: &hex::<16>(tokens.next_u64()),
        };
        let Some(value) = answer(&known.params(), &login) else {
            return false;
        };
        append_line(asker, &value, out);
        let nonce = known.nonce.clone();
        let same = self.known.iter_mut().filter(|known| known.nonce == nonce);
        same.for_each(|known| known.nc = nc);
        true
    }
}

fn append_line(asker: Asker, value: &[u8], out: &mut Vec<u8>) {
    let name = asker.answer_header().text().as_bytes();
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// The Digest challenges of a response that can be read.
fn challenges<'a>(response: &Message<'a>, asker: Asker) -> impl Iterator<Item = DigestParams<'a>> {
    let values = response.line_values(asker.header());
    values.filter_map(|value| DigestParams::parse(value).ok().flatten())
}

/// The same, of one realm.
fn challenges_of<'a>(
    response: &Message<'a>,
    asker: Asker,
    realm: &[u8],
) -> impl Iterator<Item = DigestParams<'a>> {
    challenges(response, asker)
        .filter(move |challenge| challenge.realm.unwrap_or_default() == realm)
}

/// Whether it is worth remembering: what it says comes back in every request.
fn is_short(challenge: &DigestParams<'_>) -> bool {
    let parts = [
        challenge.realm,
        challenge.nonce,
        challenge.opaque,
        challenge.qop,
    ];
    let bytes = parts.iter().flatten().map(|part| part.len()).sum::<usize>();
    bytes <= LINE_CHALLENGE_BYTES_MAX
}

/// `nextnonce` of an Authentication-Info, whose parameters are those of a Digest value without its scheme.
fn next_nonce(value: &[u8]) -> Option<&[u8]> {
    let parameters = value.split(|byte| *byte == b',');
    parameters.map(<[u8]>::trim_ascii).find_map(|parameter| {
        let at = parameter.iter().position(|byte| *byte == b'=')?;
        let (name, value) = parameter.split_at_checked(at)?;
        if !name.trim_ascii().eq_ignore_ascii_case(b"nextnonce") {
            return None;
        }
        let value = value.strip_prefix(b"=")?.trim_ascii();
        let quoted = (value.strip_prefix(b"\"")).and_then(|rest| rest.strip_suffix(b"\""));
        quoted.filter(|nonce| {
            let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
            !nonce.is_empty()
                && nonce.len() <= LINE_CHALLENGE_BYTES_MAX
                && nonce.iter().all(is_plain)
        })
    })
}
