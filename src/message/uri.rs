//! RFC 3261 §19.1, RFC 3966: URIs.
//!
//! Resolves nothing and knows no dial plan.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::scan::{self, Cursor};
use super::*;

/// Leniency: a raw `#` in a user part is read. Several phones send dialled feature codes so (`sip:#72100@pbx`) instead of
/// escaping them; sent on it becomes `%23` ([`escape_user`]).
pub const RAW_HASH_IN_USER: bool = true;

/// Leniency: `_` in host names. Container engines (`sipp_uas`) and Windows make such names, and phones copy them.
pub const UNDERSCORE_IN_HOST: bool = true;

/// Leniency: `[2001:db8:::192.0.2.1]` is read as with two colons. RFC 3261's grammar made some elements compose it so, and
/// RFC 5118 §4.10 asks to tolerate it.
pub const THREE_COLONS_IN_IPV6: bool = true;

/// Parameters and headers of a URI that [`Uri::equals`] compares in any order; a URI with more (no phone has them) equals
/// only the same bytes. Comparing in any order takes their number squared.
const COMPARED_MAX: usize = 32;

/// Schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    Other,
}

/// Host part of a SIP URI or sent-by.
#[derive(Clone, Copy, Debug, Eq)]
pub enum Host<'a> {
    /// IPv4 address or IPv6 reference, canonical.
    Address(IpAddr),
    /// A name.
    Name(&'a [u8]),
}

impl PartialEq for Host<'_> {
    /// Addresses by value (RFC 5954 §4), names without regard to case.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Address(one), Self::Address(other)) => one == other,
            (Self::Name(one), Self::Name(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        }
    }
}

impl<'a> Host<'a> {
    /// Parses `host` (RFC 3261 §25), IPv6 references in brackets; `None` if malformed. Zone identifiers mean something on
    /// their sender only, and an IPv4 address with leading zeros is octal to some: both are malformed.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        Self::take(&mut cursor).filter(|_| cursor.is_at_end())
    }

    /// Takes a host. Behind a name or an IPv4 address is the end, or what may stand behind it in a URI or Via.
    #[inline(always)]
    fn take(cursor: &mut Cursor<'a>) -> Option<Self> {
        let rest = cursor.rest();
        let host = match rest {
            [b'[', ..] => {
                let (address, length) = ipv6_reference(rest)?;
                cursor.advance(length);
                return Some(Self::Address(address));
            }
            [b'0'..=b'9', ..] => ipv4(rest),
            _ => None,
        };
        let host = match host {
            Some((address, behind)) => {
                *cursor = cursor.behind(behind);
                Self::Address(IpAddr::V4(address))
            }
            // A name may begin with a digit too.
            None => {
                *cursor = cursor.behind(skip_name(rest)?);
                Self::Name(cursor.since(rest))
            }
        };
        match cursor.peek() {
            None | Some(b':' | b';' | b'?' | b',' | b' ' | b'\t' | b'\r') => Some(host),
            Some(_) => None,
        }
    }

    /// The same without brackets around IPv6, as in `received` (RFC 5118 §4.5 accepts both).
    pub fn parse_unbracketed(bytes: &'a [u8]) -> Option<Self> {
        match scan::find(bytes, b':') {
            Some(_) if !bytes.starts_with(b"[") => {
                ipv6(bytes).map(|address| Self::Address(IpAddr::V6(address).to_canonical()))
            }
            _ => Self::parse(bytes),
        }
    }

    /// The address, if it is one.
    #[inline]
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Name(_) => None,
        }
    }
}

/// What is behind the `hostname` that `bytes` begin with: labels begin and end with a letter or digit; a dot may end it. The
/// last label begins with no digit: where it does, there is an IPv4 address or nothing.
#[inline(never)]
fn skip_name(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    let mut last_label = None;
    while let [first, ..] = rest {
        let behind = scan::skip(rest, scan::LABEL);
        match rest
            .split_at_checked(rest.len().wrapping_sub(behind.len()))?
            .0
        {
            [] => break,
            [b'-', ..] | [.., b'-'] => return None,
            _ => last_label = Some(first),
        }
        let [b'.', tail @ ..] = behind else {
            rest = behind;
            break;
        };
        rest = tail;
    }
    (!last_label?.is_ascii_digit()).then_some(rest)
}

/// The dotted decimal address without leading zeros that `bytes` begin with, and what is behind it; `None` if there is
/// none, or a name that begins like one.
#[inline(never)]
fn ipv4(bytes: &[u8]) -> Option<(Ipv4Addr, &[u8])> {
    let (first, rest) = octet(bytes)?;
    let (second, rest) = octet(rest.strip_prefix(b".")?)?;
    let (third, rest) = octet(rest.strip_prefix(b".")?)?;
    let (fourth, rest) = octet(rest.strip_prefix(b".")?)?;
    match rest {
        [byte, ..] if *byte == b'.' || scan::is(*byte, scan::LABEL) => None,
        _ => Some((Ipv4Addr::new(first, second, third, fourth), rest)),
    }
}

/// One to three digits, up to 255, the first of several no zero.
#[inline(always)]
fn octet(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let value = |digit: &u8| digit.wrapping_sub(b'0');
    match bytes {
        [a @ b'1'..=b'2', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..] => {
            let tens = value(a).wrapping_mul(10).wrapping_add(value(b));
            Some((tens.checked_mul(10)?.checked_add(value(c))?, rest))
        }
        [a @ b'1'..=b'9', b @ b'0'..=b'9', rest @ ..] => {
            Some((value(a).wrapping_mul(10).wrapping_add(value(b)), rest))
        }
        [a @ b'0'..=b'9', rest @ ..] => Some((value(a), rest)),
        _ => None,
    }
}

/// The address of the `IPv6reference` that `bytes` begin with, and its length.
#[inline(never)]
fn ipv6_reference(bytes: &[u8]) -> Option<(IpAddr, usize)> {
    let length = scan::find(bytes, b']')?;
    let address = ipv6(bytes.get(1..length)?)?;
    Some((address.to_canonical(), length.wrapping_add(1)))
}

fn ipv6(inner: &[u8]) -> Option<Ipv6Addr> {
    let text = std::str::from_utf8(inner).ok()?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if !THREE_COLONS_IN_IPV6 {
        return None;
    }
    let (before, behind) = text.split_once(":::")?;
    // 45 bytes are the longest textual address.
    let mut corrected = [0; 45];
    let mut length = 0usize;
    for part in [before, "::", behind] {
        let end = length.checked_add(part.len())?;
        corrected
            .get_mut(length..end)?
            .copy_from_slice(part.as_bytes());
        length = end;
    }
    std::str::from_utf8(corrected.get(..length)?)
        .ok()?
        .parse()
        .ok()
}

/// A URI in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The whole.
    pub raw: &'a [u8],
    /// Its scheme.
    pub scheme: Scheme,
    /// User part still escaped, without password; for `tel:` the number. Empty if none.
    pub user: &'a [u8],
    /// Password, deprecated (§19.1.1), still escaped.
    pub password: Option<&'a [u8]>,
    /// Host; for tel and unknown schemes an empty name.
    pub host: Host<'a>,
    /// Host as received, with brackets.
    pub host_raw: &'a [u8],
    /// Port.
    pub port: Option<u16>,
    /// URI parameters from the first `;`.
    pub params: Params<'a>,
    /// Headers behind `?`, as received.
    pub headers: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Parses a SIP, SIPS, tel or other absolute URI that fills `bytes`.
    ///
    /// # Errors
    /// Offset is within `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut uri = Self::EMPTY;
        uri.read(bytes)?;
        Ok(uri)
    }

    /// Fills in what `bytes` say. Apart, so that each part goes to its place as soon as it is known.
    #[inline(never)]
    pub(crate) fn read(&mut self, bytes: &'a [u8]) -> Result<(), Error> {
        let mut cursor = Cursor::new(bytes);
        let scheme = match bytes {
            // By far the most common, without a look at the table.
            [b's', b'i', b'p', b':', ..] => {
                cursor.advance(4);
                Scheme::Sip
            }
            _ => {
                let (scheme, behind) = take_scheme(cursor)?;
                cursor = behind;
                scheme
            }
        };
        (self.raw, self.scheme) = (bytes, scheme);
        match scheme {
            Scheme::Sip | Scheme::Sips => self.take_sip(&mut cursor)?,
            Scheme::Tel => cursor = self.take_tel(cursor)?,
            Scheme::Other => {
                if cursor.is_at_end() {
                    return cursor.error(ErrorKind::Uri);
                }
                cursor.take_escaped(scan::URIC)?;
            }
        }
        if !cursor.is_at_end() {
            return cursor.error(ErrorKind::Uri);
        }
        Ok(())
    }

    /// No URI at all.
    pub(crate) const EMPTY: Self = Self {
        raw: b"",
        scheme: Scheme::Other,
        user: b"",
        password: None,
        host: Host::Name(b""),
        host_raw: b"",
        port: None,
        params: Params(b""),
        headers: b"",
    };

    #[inline(always)]
    fn take_sip(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Error> {
        (self.user, self.password) = take_userinfo(cursor)?;
        let start = cursor.rest();
        self.host = take_host(cursor)?;
        self.host_raw = cursor.since(start);
        if cursor.eat(b':') {
            self.port = Some(take_port(cursor)?);
        }
        self.params = take_params(cursor)?;
        if cursor.eat(b'?') {
            self.headers = cursor.rest();
            *cursor = skip_headers(*cursor)?;
        }
        Ok(())
    }

    /// RFC 3966 §3. A number with neither `+` nor `phone-context` is read: the dial plan is the context.
    fn take_tel(&mut self, mut cursor: Cursor<'a>) -> Result<Cursor<'a>, Error> {
        self.user = cursor.take(scan::TELEPHONE);
        let digits = self.user.strip_prefix(b"+").unwrap_or(self.user);
        let is_global = digits.len() != self.user.len();
        let legal = |byte: &u8| match byte {
            b'*' | b'#' | b'a'..=b'f' | b'A'..=b'F' => !is_global,
            b'+' => false,
            _ => true,
        };
        let has_digit = digits.iter().any(|byte| !b"-.()".contains(byte));
        if !has_digit || !digits.iter().all(legal) {
            return cursor.error(ErrorKind::Uri);
        }
        self.params = take_params(&mut cursor)?;
        Ok(cursor)
    }

    /// The user part unescaped, into `out` (cleared first). A raw `#` is read.
    pub fn user_unescaped(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend(Unescaped(self.user).map(|(byte, _)| byte));
    }

    /// Equality of RFC 3261 §19.1.4; of RFC 3966 §4 for tel; of bytes for other schemes.
    pub fn equals(&self, other: &Uri<'_>) -> bool {
        if self.raw == other.raw || self.scheme != other.scheme {
            return self.raw == other.raw;
        }
        let count = |uri: &Uri<'_>| {
            memchr::memchr_iter(b';', uri.params.0)
                .count()
                .saturating_add(memchr::memchr_iter(b'&', uri.headers).count())
        };
        if count(self) > COMPARED_MAX || count(other) > COMPARED_MAX {
            return false;
        }
        match self.scheme {
            Scheme::Sip | Scheme::Sips => {
                same_escaped(self.user, other.user, false)
                    && match (self.password, other.password) {
                        (None, None) => true,
                        (Some(one), Some(other)) => same_escaped(one, other, false),
                        _ => false,
                    }
                    && self.host == other.host
                    && self.port == other.port
                    && same_params(
                        self.params,
                        other.params,
                        &[b"user", b"ttl", b"method", b"maddr", b"transport"],
                    )
                    && same_headers(self.headers, other.headers)
            }
            Scheme::Tel => {
                let digits = |bytes: &'a [u8]| bytes.iter().filter(|byte| !b"-.()".contains(byte));
                let one = digits(self.user);
                let two = other.user.iter().filter(|byte| !b"-.()".contains(byte));
                one.map(u8::to_ascii_lowercase)
                    .eq(two.map(u8::to_ascii_lowercase))
                    && same_params(
                        self.params,
                        other.params,
                        &[b"phone-context", b"ext", b"isub"],
                    )
            }
            Scheme::Other => false,
        }
    }
}

/// `scheme ":"`
fn take_scheme(mut cursor: Cursor<'_>) -> Result<(Scheme, Cursor<'_>), Error> {
    let scheme = cursor.take(scan::SCHEME);
    if !scheme.first().is_some_and(u8::is_ascii_alphabetic) || !cursor.eat(b':') {
        return cursor.error(ErrorKind::Uri);
    }
    let scheme = match scheme {
        _ if scheme.eq_ignore_ascii_case(b"sip") => Scheme::Sip,
        _ if scheme.eq_ignore_ascii_case(b"sips") => Scheme::Sips,
        _ if scheme.eq_ignore_ascii_case(b"tel") => Scheme::Tel,
        _ => Scheme::Other,
    };
    Ok((scheme, cursor))
}

/// `userinfo "@"`, if it is there: user and password.
#[inline(always)]
fn take_userinfo<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a [u8], Option<&'a [u8]>), Error> {
    let start = *cursor;
    // `@` is legal nowhere else in a SIP URI; a second one is refused as a byte of the host. So where one ends a user it
    // has not to be looked for.
    let user = take_user(cursor);
    if let Ok(user) = user
        && !user.is_empty()
        && cursor.eat(b'@')
    {
        return Ok((user, None));
    }
    // What was walked over has none.
    if cursor.is_at_end() || scan::find(cursor.rest(), b'@').is_none() {
        *cursor = start;
        return Ok((b"", None));
    }
    let user = user?;
    if user.is_empty() || !cursor.eat(b':') {
        return cursor.error(ErrorKind::Uri);
    }
    let password = cursor.take_escaped(scan::PASSWORD)?;
    if !cursor.eat(b'@') {
        return cursor.error(ErrorKind::Uri);
    }
    Ok((user, Some(password)))
}

/// `uri-parameters`
#[inline(always)]
fn take_params<'a>(cursor: &mut Cursor<'a>) -> Result<Params<'a>, Error> {
    let start = cursor.rest();
    while cursor.eat(b';') {
        if cursor.take_escaped(scan::URI_PARAM)?.is_empty() {
            return cursor.error(ErrorKind::Parameter);
        }
        if cursor.eat(b'=') && cursor.take_escaped(scan::URI_PARAM)?.is_empty() {
            return cursor.error(ErrorKind::Parameter);
        }
    }
    Ok(Params(cursor.since(start)))
}

/// `headers` behind their `?`
fn skip_headers(mut cursor: Cursor<'_>) -> Result<Cursor<'_>, Error> {
    loop {
        if cursor.take_escaped(scan::URI_HEADER)?.is_empty() || !cursor.eat(b'=') {
            return cursor.error(ErrorKind::Uri);
        }
        cursor.take_escaped(scan::URI_HEADER)?;
        if !cursor.eat(b'&') {
            return Ok(cursor);
        }
    }
}

/// `user`, with [`RAW_HASH_IN_USER`].
#[inline(always)]
fn take_user<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Error> {
    let start = cursor.rest();
    cursor.take_escaped(scan::USER)?;
    while RAW_HASH_IN_USER && cursor.eat(b'#') {
        cursor.take_escaped(scan::USER)?;
    }
    Ok(cursor.since(start))
}

/// Takes a host at the cursor.
#[inline(always)]
pub(crate) fn take_host<'a>(cursor: &mut Cursor<'a>) -> Result<Host<'a>, Error> {
    let start = *cursor;
    match Host::take(cursor) {
        Some(host) => Ok(host),
        None => start.error(ErrorKind::Host),
    }
}

/// Takes the digits of a port at the cursor.
#[inline(always)]
pub(crate) fn take_port(cursor: &mut Cursor<'_>) -> Result<u16, Error> {
    let start = *cursor;
    let mut port = cursor.digit().map(u16::from);
    while let (Some(number), Some(digit)) = (port, cursor.digit()) {
        let tens = number.checked_mul(10);
        port = tens.and_then(|tens| tens.checked_add(digit.into()));
    }
    port.map_or_else(|| start.error(ErrorKind::Port), Ok)
}

/// Bytes of escaped text, each with whether it was an escape of a byte that is reserved in RFC 2396 (which differs from the
/// byte itself, §19.1.4).
struct Unescaped<'a>(&'a [u8]);

impl Iterator for Unescaped<'_> {
    type Item = (u8, bool);

    fn next(&mut self) -> Option<(u8, bool)> {
        let digit = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        if let [b'%', high, low, tail @ ..] = self.0
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            self.0 = tail;
            let byte = (high << 4) | low;
            return Some((byte, b";/?:@&=+$,".contains(&byte)));
        }
        let (first, tail) = self.0.split_first()?;
        self.0 = tail;
        Some((*first, false))
    }
}

fn same_escaped(one: &[u8], other: &[u8], ignore_case: bool) -> bool {
    let fold = move |(byte, reserved): (u8, bool)| {
        (
            if ignore_case {
                byte.to_ascii_lowercase()
            } else {
                byte
            },
            reserved,
        )
    };
    one == other || Unescaped(one).map(fold).eq(Unescaped(other).map(fold))
}

/// Parameters of both must agree; those of one alone are ignored, except the `decisive`.
fn same_params(one: Params<'_>, other: Params<'_>, decisive: &[&[u8]]) -> bool {
    let agrees = |from: Params<'_>, with: Params<'_>| {
        from.iter().all(|(name, value)| {
            let found = with
                .iter()
                .find(|(candidate, _)| same_escaped(name, candidate, true));
            match (found, value) {
                (None, _) => !decisive
                    .iter()
                    .any(|known| name.eq_ignore_ascii_case(known)),
                (Some((_, None)), None) => true,
                (Some((_, Some(there))), Some(here)) => same_escaped(here, there, true),
                _ => false,
            }
        })
    };
    agrees(one, other) && agrees(other, one)
}

/// Every header of one must stand in the other, in any order.
fn same_headers(one: &[u8], other: &[u8]) -> bool {
    fn pairs(headers: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
        headers
            .split(|&byte| byte == b'&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let at = scan::find(pair, b'=').unwrap_or(pair.len());
                let (name, value) = pair.split_at_checked(at).unwrap_or((pair, b""));
                (name, value.strip_prefix(b"=").unwrap_or(value))
            })
    }
    let covers = |these: &[u8], those: &[u8]| {
        pairs(these).all(|(name, value)| {
            pairs(those).any(|(other_name, other_value)| {
                same_escaped(name, other_name, true) && same_escaped(value, other_value, false)
            })
        })
    };
    pairs(one).count() == pairs(other).count() && covers(one, other) && covers(other, one)
}

/// An address as host of a URI: an IPv6 reference in brackets.
pub fn host_text(address: IpAddr) -> String {
    let mut text = Vec::new();
    compose::append_host(&mut text, address);
    String::from_utf8_lossy(&text).into_owned()
}

/// Appends `user` (unescaped) as the user part of a SIP URI: what RFC 3261 §25.1 allows there stands as it is, every other
/// byte becomes `%HH`, so `#` is `%23` and `%` is `%25`.
pub fn escape_user(user: &[u8], out: &mut Vec<u8>) {
    for &byte in user {
        if scan::is(byte, scan::USER) {
            out.push(byte);
        } else {
            let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
            out.push(b'%');
            out.push(digit(byte >> 4).to_ascii_uppercase() as u8);
            out.push(digit(byte & 15).to_ascii_uppercase() as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal(one: &str, other: &str) -> bool {
        let (one, other) = (
            Uri::parse(one.as_bytes()).unwrap(),
            Uri::parse(other.as_bytes()).unwrap(),
        );
        assert_eq!(one.equals(&other), other.equals(&one));
        one.equals(&other)
    }

    #[test]
    fn equals_as_the_rfcs_examples() {
        // RFC 3261 §19.1.4
        for (one, other) in [
            (
                "sip:%61lice@atlanta.com;transport=TCP",
                "sip:alice@AtLanTa.CoM;Transport=tcp",
            ),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;security=on"),
            (
                "sip:carol@chicago.com;newparam=5",
                "sip:carol@chicago.com;security=on",
            ),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
            ("tel:+49-30-1;a=b", "tel:+49(30)1;a=b"),
            ("sip:a@[2001:DB8:0::1]", "sip:a@[2001:db8::1]"),
        ] {
            assert!(equal(one, other), "{one} {other}");
        }
        for (one, other) in [
            (
                "SIP:ALICE@AtLanTa.CoM;Transport=udp",
                "sip:alice@AtLanTa.CoM;Transport=UDP",
            ),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            (
                "sip:bob@biloxi.com",
                "sip:bob@biloxi.com:6000;transport=tcp",
            ),
            (
                "sip:carol@chicago.com",
                "sip:carol@chicago.com?Subject=next%20meeting",
            ),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            (
                "sip:carol@chicago.com;security=on",
                "sip:carol@chicago.com;security=off",
            ),
            ("sip:a@b", "sips:a@b"),
            ("sip:a:x@b", "sip:a:y@b"),
            ("sip:a:x@b", "sip:a@b"),
            ("sip:a%3Bb@c", "sip:a;b@c"), // `;` is reserved: its escape is another URI
            ("sip:a@b;user=phone", "sip:a@b"),
            ("tel:+49301", "tel:49301"),
            ("mailto:a@b", "mailto:A@b"),
        ] {
            assert!(!equal(one, other), "{one} {other}");
        }
        // RFC 3261: "sip:carol@chicago.com;security=on" and "…;newparam=5" both equal the bare one, not transitively.
        let many = format!("sip:a@b{}", ";x".repeat(20_000));
        assert!(equal(&many, &many));
        assert!(!equal(&many, "sip:a@b"));
    }

    #[test]
    fn splits_into_parts() {
        let uri =
            Uri::parse(b"sips:alice;x:p%20w@[2001:db8::1]:05061;lr;transport=tcp?a=b&c=").unwrap();
        assert_eq!(
            (uri.scheme, uri.user, uri.password),
            (Scheme::Sips, &b"alice;x"[..], Some(&b"p%20w"[..]))
        );
        assert_eq!(uri.host_raw, b"[2001:db8::1]");
        assert_eq!(uri.port, Some(5061));
        assert_eq!(uri.params.get("LR"), Some(&b""[..]));
        assert_eq!(uri.params.get("transport"), Some(&b"tcp"[..]));
        assert_eq!(uri.params.get("maddr"), None);
        assert_eq!(uri.headers, b"a=b&c=");
        let uri = Uri::parse(b"tel:1234#*;phone-context=pbx").unwrap();
        assert_eq!((uri.scheme, uri.user), (Scheme::Tel, &b"1234#*"[..]));
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "sip",
            "sip:",
            "sip:@b",
            "sip:a@",
            "sip:a@b@c",
            "sip:a b@c",
            "sip:a@b;",
            "sip:a@b;;x",
            "sip:a@b;x=",
            "sip:a@b:",
            "sip:a@b:65536",
            "sip:a@b:4294972356",
            "sip:a@b:-1",
            "sip:a@b?",
            "sip:a@b?x",
            "sip:a@b?x=y&",
            "sip:a%4@b",
            "sip:a%zz@b",
            "sip:a@[::1",
            "sip:a@::1",
            "sip:a@[fe80::1%25eth0]",
            "sip:a@[fe80::1%eth0]",
            "sip:a@[::ffff:1.2.3.4]x",
            "sip:a@1.2.3",
            "sip:a@1.2.3.256",
            "sip:a@1.2.3.04",
            "sip:a@b..c",
            "sip:a@-b",
            "sip:a@b-",
            "sip:a@b-.c",
            "sip:a@.b",
            "sip:<a@b>",
            "sip:a\"@b",
            "sip:a@b\r\n",
            "sip:a\0@b",
            "sip:ä@b",
            "1sip:a@b",
            "tel:",
            "tel:+",
            "tel:+49*1",
            "tel:-",
            "tel:+4+9",
            "x:",
            "x:a b",
            "sip:/a@b@",
            "sip:a@b#c",
            "sip:[::::1]",
            "sip:[:::::]",
        ] {
            let error = Uri::parse(text.as_bytes());
            assert!(
                error.is_err_and(|error| error.offset <= text.len()),
                "{text}"
            );
        }
        for text in [
            "sip:b",
            "sip:a@b.",
            "sip:a_b@c_d",
            "sip:1.2.3.4",
            "sip:a@2.b",
            "sip:a#@b",
            "sip:%00@b",
            "x:y",
        ] {
            assert!(Uri::parse(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn escapes_and_unescapes_users() {
        let mut user = Vec::new();
        Uri::parse(b"sip:#72%2A%23%c3%a4@b")
            .unwrap()
            .user_unescaped(&mut user);
        assert_eq!(user, "#72*#ä".as_bytes());
        let mut escaped = Vec::new();
        escape_user(&user, &mut escaped);
        assert_eq!(escaped, b"%2372*%23%C3%A4");
        escaped.clear();
        escape_user(b"+49 (30)%@:\r\n", &mut escaped);
        assert_eq!(escaped, b"+49%20(30)%25%40%3A%0D%0A");
    }

    #[test]
    fn reads_hosts() {
        let address = |text: &str| Some(Host::Address(text.parse().unwrap()));
        assert_eq!(Host::parse(b"[::ffff:192.0.2.1]"), address("192.0.2.1"));
        assert_eq!(Host::parse(b"192.0.2.1"), address("192.0.2.1"));
        assert_eq!(Host::parse(b"2001:db8::1"), None);
        assert_eq!(
            Host::parse_unbracketed(b"2001:db8::1"),
            address("2001:db8::1")
        );
        assert_eq!(
            Host::parse(b"[2001:db8:::192.0.2.1]"),
            address("2001:db8::192.0.2.1")
        );
        assert_eq!(Host::parse(b"[2001:db8::::1]"), None);
        assert_eq!(
            Host::parse(b"EXAMPLE.com"),
            Some(Host::Name(b"example.COM"))
        );
        assert_eq!(Host::parse(b""), None);
    }
}
