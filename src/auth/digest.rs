//! RFC 7616 §3.4 (RFC 2617 without qop, RFC 8760 for SHA-256): the arithmetic of digests, and the client's side of it.
//!
//! No `auth-int`, no `-sess`, no `userhash`: neither offered nor answered.

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::config::Secret;
use crate::message::DigestParams;
use crate::token::{NO_NIBBLE, nibble};

/// Hash algorithms that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// RFC 2617.
    Md5,
    /// RFC 7616, RFC 8760: the stronger.
    Sha256,
}

impl Algorithm {
    /// The token of the `algorithm` parameter.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// The algorithm of a parameter's value; without the parameter it is MD5 (RFC 7616 §3.3).
    pub fn of(value: Option<&[u8]>) -> Option<Self> {
        match value {
            None => Some(Self::Md5),
            Some(value) if value.eq_ignore_ascii_case(b"MD5") => Some(Self::Md5),
            Some(value) if value.eq_ignore_ascii_case(b"SHA-256") => Some(Self::Sha256),
            Some(_) => None,
        }
    }

    /// Characters of a response.
    pub const fn hex_bytes(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha256 => 64,
        }
    }
}

/// What a response is computed from, beside HA1: all as received, without quotes (`unq` of RFC 7616).
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Computed<'a> {
    pub method: &'a [u8],
    pub uri: &'a [u8],
    pub nonce: &'a [u8],
    /// `None`: as RFC 2069 and RFC 2617 without qop.
    pub qop: Option<Qop<'a>>,
}

/// The parameters that come with `qop`.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Qop<'a> {
    pub qop: &'a [u8],
    pub nc: &'a [u8],
    pub cnonce: &'a [u8],
}

/// The last HA2 that was computed with MD5: all phones of a domain register with the same URI, and a quarter of the work is
/// done once.
#[derive(Clone, Default)]
pub struct LastHa2 {
    method: Vec<u8>,
    uri: Vec<u8>,
    hex: [u8; 32],
}

impl LastHa2 {
    fn md5(&mut self, method: &[u8], uri: &[u8]) -> &[u8] {
        // No method is empty.
        if self.method.is_empty() || self.method != method || self.uri != uri {
            let ha2: [u8; 16] = hash::<Md5>(&[method, uri]).into();
            hex(&ha2, &mut self.hex);
            for (kept, text) in [(&mut self.method, method), (&mut self.uri, uri)] {
                kept.clear();
                kept.extend_from_slice(text);
            }
        }
        &self.hex
    }
}

impl Computed<'_> {
    /// The response of a user with this HA1.
    pub fn md5(&self, ha1: &[u8; 16], last: &mut LastHa2) -> [u8; 16] {
        let ha2 = last.md5(self.method, self.uri);
        self.response::<Md5>(hex(ha1, &mut [0; 32]), ha2).into()
    }

    /// The same with SHA-256.
    pub fn sha256(&self, ha1: &[u8; 32]) -> [u8; 32] {
        let ha2: [u8; 32] = hash::<Sha256>(&[self.method, self.uri]).into();
        let (mut a, mut b) = ([0; 64], [0; 64]);
        self.response::<Sha256>(hex(ha1, &mut a), hex(&ha2, &mut b))
            .into()
    }

    /// RFC 7616 §3.4.1.
    fn response<D: Digest>(&self, ha1: &[u8], ha2: &[u8]) -> sha2::digest::Output<D> {
        match &self.qop {
            Some(qop) => hash::<D>(&[ha1, self.nonce, qop.nc, qop.cnonce, qop.qop, ha2]),
            None => hash::<D>(&[ha1, self.nonce, ha2]),
        }
    }
}

/// The hash of the parts, joined by colons.
fn hash<D: Digest>(parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut hash = D::new();
    let mut colon: &[u8] = b"";
    for part in parts {
        hash.update(colon);
        hash.update(part);
        colon = b":";
    }
    hash.finalize()
}

/// MD5(user:realm:password).
pub fn ha1_md5(user: &str, realm: &str, password: &str) -> [u8; 16] {
    hash::<Md5>(&[user.as_bytes(), realm.as_bytes(), password.as_bytes()]).into()
}

/// SHA-256(user:realm:password).
pub fn ha1_sha256(user: &str, realm: &str, password: &str) -> [u8; 32] {
    hash::<Sha256>(&[user.as_bytes(), realm.as_bytes(), password.as_bytes()]).into()
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Lower-case hex of `bytes` into `out`, which is twice as long.
fn hex<'b>(bytes: &[u8], out: &'b mut [u8]) -> &'b [u8] {
    let digit = |value: u8| DIGITS.get(usize::from(value & 0xf)).copied();
    for (pair, byte) in out.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = [byte >> 4, *byte].map(|value| digit(value).unwrap_or(b'0'));
    }
    out
}

/// Reads hex of either case that fills `N` bytes exactly.
pub(super) fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    if pairs.len() != N {
        return None;
    }
    let mut bytes = [0; N];
    let mut all = 0;
    for (to, pair) in bytes.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| nibble(digit.to_ascii_lowercase()));
        *to = high << 4 | low;
        all |= high | low;
    }
    (all < NO_NIBBLE).then_some(bytes)
}

/// The strongest challenge that can be answered with this secret: by algorithm, then in the order of the response.
pub fn strongest<'a>(
    challenges: impl IntoIterator<Item = DigestParams<'a>>,
    secret: &Secret,
) -> Option<DigestParams<'a>> {
    let mut best: Option<(Algorithm, DigestParams<'a>)> = None;
    for challenge in challenges {
        let Some(algorithm) = answerable(&challenge, secret) else {
            continue;
        };
        if best.as_ref().is_none_or(|(known, _)| algorithm > *known) {
            best = Some((algorithm, challenge));
        }
    }
    best.map(|(_, challenge)| challenge)
}

/// The algorithm of a challenge that we can answer.
fn answerable(challenge: &DigestParams<'_>, secret: &Secret) -> Option<Algorithm> {
    let algorithm = Algorithm::of(challenge.algorithm)?;
    let has_secret = match (secret, algorithm) {
        (Secret::Password(_), _) => true,
        (Secret::Ha1 { md5, .. }, Algorithm::Md5) => md5.is_some(),
        (Secret::Ha1 { sha256, .. }, Algorithm::Sha256) => sha256.is_some(),
    };
    let has_qop = challenge.qop.is_none_or(offers_auth);
    (challenge.realm.is_some() && challenge.nonce.is_some() && has_secret && has_qop)
        .then_some(algorithm)
}

/// Whether a challenge's list of qop-options has `auth`.
fn offers_auth(qop: &[u8]) -> bool {
    qop.split(|byte| *byte == b',')
        .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"auth"))
}

/// Who answers a challenge, and what for.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// User name as the server knows it.
    pub user: &'a str,
    /// Its password or HA1. An HA1 holds for one realm only: the caller checks that it is the challenge's.
    pub secret: &'a Secret,
    /// Method of the request.
    pub method: &'a [u8],
    /// The Request-URI, port and parameters included.
    pub uri: &'a [u8],
    /// How often this nonce was used, this time included: 1 for a new one (RFC 7616 §3.4).
    pub nc: u32,
    /// Ours, unguessable; characters of a token. Unused without qop.
    pub cnonce: &'a [u8],
}

/// The value of the Authorization (or Proxy-Authorization) header that answers a challenge.
///
/// `None`: it cannot be answered (algorithm, qop, no HA1 of this algorithm, no realm or nonce, or a line break in a
/// value that would be echoed).
pub fn answer(challenge: &DigestParams<'_>, login: &Login<'_>) -> Option<Vec<u8>> {
    let algorithm = answerable(challenge, login.secret)?;
    let (realm, nonce) = (challenge.realm?, challenge.nonce?);
    let echoed = [
        realm,
        nonce,
        challenge.opaque.unwrap_or_default(),
        login.uri,
        login.user.as_bytes(),
    ];
    if echoed
        .iter()
        .any(|value| value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)))
    {
        return None;
    }
    let nc = format!("{:08x}", login.nc);
    let qop = challenge.qop.map(|_| Qop {
        qop: b"auth",
        nc: nc.as_bytes(),
        cnonce: login.cnonce,
    });
    let computed = Computed {
        method: login.method,
        uri: login.uri,
        nonce,
        qop,
    };
    let mut response = [0; 64];
    let response = match algorithm {
        Algorithm::Md5 => {
            let ha1 = match login.secret {
                Secret::Password(password) => {
                    hash::<Md5>(&[login.user.as_bytes(), realm, password.as_bytes()]).into()
                }
                Secret::Ha1 { md5, .. } => (*md5)?,
            };
            let response = response.first_chunk_mut::<32>()?;
            hex(&computed.md5(&ha1, &mut LastHa2::default()), response)
        }
        Algorithm::Sha256 => {
            let ha1 = match login.secret {
                Secret::Password(password) => {
                    hash::<Sha256>(&[login.user.as_bytes(), realm, password.as_bytes()]).into()
                }
                Secret::Ha1 { sha256, .. } => (*sha256)?,
            };
            hex(&computed.sha256(&ha1), &mut response)
        }
    };
    let mut user = Vec::with_capacity(login.user.len());
    for byte in login.user.bytes() {
        if matches!(byte, b'"' | b'\\') {
            user.push(b'\\');
        }
        user.push(byte);
    }
    let mut value = b"Digest ".to_vec();
    let mut add = |name: &str, open: &[u8], text: &[u8]| {
        if !value.ends_with(b" ") {
            value.extend_from_slice(b", ");
        }
        for part in [name.as_bytes(), b"=", open, text, open] {
            value.extend_from_slice(part);
        }
    };
    add("username", b"\"", &user);
    add("realm", b"\"", realm);
    add("nonce", b"\"", nonce);
    add("uri", b"\"", login.uri);
    add("response", b"\"", response);
    if challenge.algorithm.is_some() {
        add("algorithm", b"", algorithm.token().as_bytes());
    }
    if qop.is_some() {
        add("cnonce", b"\"", login.cnonce);
        add("qop", b"", b"auth");
        add("nc", b"", nc.as_bytes());
    }
    if let Some(opaque) = challenge.opaque {
        add("opaque", b"\"", opaque);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        let mut out = vec![0; bytes.len() * 2];
        String::from_utf8(hex(bytes, &mut out).to_vec()).unwrap()
    }

    #[test]
    fn rfc_2617_3_5() {
        let computed = Computed {
            method: b"GET",
            uri: b"/dir/index.html",
            nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
            qop: Some(Qop {
                qop: b"auth",
                nc: b"00000001",
                cnonce: b"0a4f113b",
            }),
        };
        let ha1 = ha1_md5("Mufasa", "testrealm@host.com", "Circle Of Life");
        assert_eq!(text(&ha1), "939e7578ed9e3c518a452acee763bce9");
        assert_eq!(
            text(&computed.md5(&ha1, &mut LastHa2::default())),
            "6629fae49393a05397450978507c4ef1"
        );
    }

    #[test]
    fn what_is_kept_of_a_request_is_no_others() {
        let mut last = LastHa2::default();
        for (method, uri) in [(b"A", b"b"), (b"A", b"b"), (b"A", b"c"), (b"B", b"c")] {
            let ha2: [u8; 16] = hash::<Md5>(&[method, uri]).into();
            assert_eq!(last.md5(method, uri), text(&ha2).as_bytes());
        }
    }

    /// RFC 2069 §2.4 as its erratum 749 has it: without qop.
    #[test]
    fn rfc_2069_2_4() {
        let computed = Computed {
            method: b"GET",
            uri: b"/dir/index.html",
            nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
            qop: None,
        };
        let ha1 = ha1_md5("Mufasa", "testrealm@host.com", "CircleOfLife");
        assert_eq!(
            text(&computed.md5(&ha1, &mut LastHa2::default())),
            "1949323746fe6a43ef61f9606e7febea"
        );
    }

    fn challenge(algorithm: &'static [u8]) -> DigestParams<'static> {
        DigestParams {
            realm: Some(b"http-auth@example.org"),
            nonce: Some(b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"),
            opaque: Some(b"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"),
            algorithm: Some(algorithm),
            qop: Some(b"auth, auth-int"),
            ..Default::default()
        }
    }

    fn login(secret: &Secret) -> Login<'_> {
        Login {
            user: "Mufasa",
            secret,
            method: b"GET",
            uri: b"/dir/index.html",
            nc: 1,
            cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        }
    }

    #[test]
    fn rfc_7616_3_9_1() {
        let secret = Secret::Password("Circle of Life".to_owned());
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            (
                "SHA-256",
                "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
            ),
        ] {
            let value = answer(&challenge(algorithm.as_bytes()), &login(&secret)).unwrap();
            let expected = format!(
                "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", uri=\"/dir/index.html\", \
                 response=\"{response}\", algorithm={algorithm}, \
                 cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, nc=00000001, \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            assert_eq!(String::from_utf8(value.clone()).unwrap(), expected);
            let parsed = DigestParams::parse(&value).unwrap().unwrap();
            assert_eq!(parsed.response, Some(response.as_bytes()));
            // From HA1 the same.
            let ha1 = Secret::Ha1 {
                md5: Some(ha1_md5("Mufasa", "http-auth@example.org", "Circle of Life")),
                sha256: Some(ha1_sha256(
                    "Mufasa",
                    "http-auth@example.org",
                    "Circle of Life",
                )),
            };
            assert_eq!(
                answer(&challenge(algorithm.as_bytes()), &login(&ha1)).unwrap(),
                value
            );
        }
    }

    #[test]
    fn strongest_that_can_be_answered() {
        let secret = Secret::Password("x".to_owned());
        let offered = [
            challenge(b"SHA-512-256"),
            challenge(b"MD5"),
            challenge(b"sha-256"),
            challenge(b"MD5-sess"),
        ];
        assert_eq!(
            strongest(offered, &secret).unwrap().algorithm,
            Some(b"sha-256".as_slice())
        );
        let md5_only = Secret::Ha1 {
            md5: Some([1; 16]),
            sha256: None,
        };
        assert_eq!(
            strongest(offered, &md5_only).unwrap().algorithm,
            Some(b"MD5".as_slice())
        );
        assert_eq!(strongest([challenge(b"MD5-sess")], &secret), None);
        let integrity = DigestParams {
            qop: Some(b"auth-int"),
            ..challenge(b"MD5")
        };
        assert_eq!(strongest([integrity], &secret), None);
        assert!(answer(&integrity, &login(&secret)).is_none());
    }

    #[test]
    fn nothing_breaks_out_of_the_header() {
        let secret = Secret::Password("x".to_owned());
        let value = answer(
            &challenge(b"MD5"),
            &Login {
                user: "a\"b\\",
                ..login(&secret)
            },
        )
        .unwrap();
        assert!(value.starts_with(br#"Digest username="a\"b\\", realm"#));
        assert!(
            answer(
                &challenge(b"MD5"),
                &Login {
                    user: "a\r\nX: y",
                    ..login(&secret)
                }
            )
            .is_none()
        );
        let folded = DigestParams {
            opaque: Some(b"a\r\n b"),
            ..challenge(b"MD5")
        };
        assert!(answer(&folded, &login(&secret)).is_none());
    }

    #[test]
    fn hex_is_exact() {
        assert_eq!(unhex::<2>(b"0aFf"), Some([0x0a, 0xff]));
        for bad in [
            b"0aF".as_slice(),
            b"0aFfa",
            b"0aFfaa",
            b"+1ff",
            b"0x12",
            b"",
            "0aé".as_bytes(),
        ] {
            assert_eq!(unhex::<2>(bad), None, "{bad:?}");
        }
    }
}
