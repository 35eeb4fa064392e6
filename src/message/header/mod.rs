//! Typed views of header values (RFC 3261 §20, §25), and which header a name means.

pub mod auth;
mod contact;
mod name_addr;
mod params;
mod rack;
mod text;
mod via;

pub use contact::{Contact, ContactValue};
pub(crate) use contact::{expiry_seconds, leading_seconds};
pub use name_addr::{NameAddr, UTF8_OUTSIDE_QUOTES};
pub use params::Params;
pub use rack::{RAck, rseq};
pub use text::{Values, printable, quote, split_values, unquote};
pub use via::Via;

use super::*;

/// Writes the enum, the names and which may stand once only, from one list.
macro_rules! header_names {
    ($($variant:ident $text:literal $number:ident,)+) => {
        /// Header names that sipkeep knows, compact forms included (RFC 3261 §7.3.3).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum HeaderName { $($variant,)+ Other }

        const KNOWN: &[(HeaderName, &str, Number)] =
            &[$((HeaderName::$variant, $text, Number::$number),)+];
    };
}

/// How often a header may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Number {
    /// One value: twice is an error.
    Once,
    /// A list, or lines with a value each.
    Many,
}

header_names! {
    Via "Via" Many, From "From" Once, To "To" Once, CallId "Call-ID" Once, CSeq "CSeq" Once,
    MaxForwards "Max-Forwards" Once, Contact "Contact" Many, ContentLength "Content-Length" Once,
    ContentType "Content-Type" Once, ContentDisposition "Content-Disposition" Once,
    ContentEncoding "Content-Encoding" Many, ContentLanguage "Content-Language" Many,
    Expires "Expires" Once, MinExpires "Min-Expires" Once, Authorization "Authorization" Many,
    ProxyAuthorization "Proxy-Authorization" Many, WwwAuthenticate "WWW-Authenticate" Many,
    ProxyAuthenticate "Proxy-Authenticate" Many, AuthenticationInfo "Authentication-Info" Once,
    Route "Route" Many, RecordRoute "Record-Route" Many, Path "Path" Many,
    ServiceRoute "Service-Route" Many, Require "Require" Many, ProxyRequire "Proxy-Require" Many,
    Supported "Supported" Many, Unsupported "Unsupported" Many, Allow "Allow" Many,
    AllowEvents "Allow-Events" Many, Accept "Accept" Many, AcceptEncoding "Accept-Encoding" Many,
    AcceptLanguage "Accept-Language" Many, UserAgent "User-Agent" Once, Server "Server" Once,
    Date "Date" Once, Timestamp "Timestamp" Once, Subject "Subject" Once,
    AlertInfo "Alert-Info" Many, CallInfo "Call-Info" Many, UserToUser "User-to-User" Many,
    Reason "Reason" Many, Diversion "Diversion" Many, HistoryInfo "History-Info" Many,
    Privacy "Privacy" Many, PAssertedIdentity "P-Asserted-Identity" Many,
    PPreferredIdentity "P-Preferred-Identity" Many, PCalledPartyId "P-Called-Party-ID" Once,
    PAssociatedUri "P-Associated-URI" Many, RetryAfter "Retry-After" Once, Warning "Warning" Many,
    Event "Event" Once, SubscriptionState "Subscription-State" Once, ReferTo "Refer-To" Once,
    ReferredBy "Referred-By" Once, Replaces "Replaces" Once,
    SessionExpires "Session-Expires" Once, MinSe "Min-SE" Once, RAck "RAck" Once,
    RSeq "RSeq" Once, MimeVersion "MIME-Version" Once, Organization "Organization" Once,
    Priority "Priority" Once, InReplyTo "In-Reply-To" Many, ReplyTo "Reply-To" Once,
    ErrorInfo "Error-Info" Many, AcceptContact "Accept-Contact" Many,
    RejectContact "Reject-Contact" Many, RequestDisposition "Request-Disposition" Many,
    FlowTimer "Flow-Timer" Once, SipEtag "SIP-ETag" Once, SipIfMatch "SIP-If-Match" Once,
    PAccessNetworkInfo "P-Access-Network-Info" Many, Join "Join" Once,
    TargetDialog "Target-Dialog" Once, MaxBreadth "Max-Breadth" Once,
    SecurityClient "Security-Client" Many, ReferSub "Refer-Sub" Once,
    RemotePartyId "Remote-Party-ID" Many, InfoPackage "Info-Package" Once, RecvInfo "Recv-Info" Many,
}

/// How many names there are, `Other` included.
pub(crate) const NAMES: usize = HeaderName::Other as usize + 1;

const NO_NAME: u8 = u8::MAX;

/// Found by trial: sends every name of the list to a slot of its own, which the compiler checks below.
const MULTIPLIER: u32 = 0x98e5_b7e3;

/// The slot of a name: length, first, middle and last byte, folded to lower case, mixed by one multiplication.
#[inline]
const fn slot(length: usize, first: u8, middle: u8, last: u8) -> usize {
    let key = u32::from_le_bytes([length as u8, first, last, middle]) | 0x2020_2000;
    (key.wrapping_mul(MULTIPLIER) >> 23) as usize
}

#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)] // evaluated by the compiler
const SLOTS: [u8; 512] = {
    let mut slots = [NO_NAME; 512];
    let mut index = 0;
    while index < KNOWN.len() {
        assert!(KNOWN[index].0 as usize == index);
        let name = KNOWN[index].1.as_bytes();
        let at = slot(
            name.len(),
            name[0],
            name[name.len() / 2],
            name[name.len() - 1],
        );
        assert!(
            slots[at] == NO_NAME,
            "two names in one slot: find another multiplier"
        );
        slots[at] = index as u8;
        index += 1;
    }
    slots
};

/// Found by trial, as [`MULTIPLIER`] for [`SHORT`].
const SHORT_MULTIPLIER: u64 = 0x301b_a988_0a3e_fb81;

#[inline]
const fn short_slot(name: u64) -> usize {
    (name.wrapping_mul(SHORT_MULTIPLIER) >> 58) as usize
}

/// Names that are with their colon not longer than a word of eight bytes, as such a word.
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)] // evaluated by the compiler
const SHORT: [(u64, HeaderName); 64] = {
    let mut slots = [(u64::MAX, HeaderName::Other); 64];
    let mut index = 0;
    while index < KNOWN.len() {
        let name = KNOWN[index].1.as_bytes();
        if name.len() < 8 {
            let mut word = [0; 8];
            let mut at = 0;
            while at < name.len() {
                word[at] = name[at];
                at += 1;
            }
            word[at] = b':';
            let word = u64::from_le_bytes(word);
            let at = short_slot(word);
            assert!(
                slots[at].0 == u64::MAX,
                "two names in one slot: find another multiplier"
            );
            slots[at] = (word, KNOWN[index].0);
        }
        index += 1;
    }
    slots
};

impl HeaderName {
    /// The header of a line that begins with a short name as the RFCs write it and a colon, as most do, and what is behind
    /// the colon; `None` for all others.
    #[inline]
    pub(crate) fn short(line: &[u8]) -> Option<(Self, &[u8])> {
        let word = u64::from_le_bytes(*line.first_chunk()?);
        let colon = scan::zeros(word ^ scan::all(b':'));
        // All up to the lowest one; without one all of them, which is no name's word.
        let name = word & ((colon & colon.wrapping_neg()) << 1).wrapping_sub(1);
        let (known, header) = SHORT.get(short_slot(name))?;
        if *known != name {
            return None;
        }
        let behind = colon.trailing_zeros() as usize / 8;
        Some((*header, line.get(behind.wrapping_add(1)..)?))
    }

    /// The header that `name` means, in any case, compact forms included; [`HeaderName::Other`] for all others.
    #[inline(always)]
    pub fn of(name: &[u8]) -> Self {
        let ([first, .., last], Some(middle)) = (name, name.get(name.len() >> 1)) else {
            let letter = name.first().map(u8::to_ascii_lowercase);
            return letter.map_or(Self::Other, Self::of_letter);
        };
        let index = SLOTS.get(slot(name.len(), *first, *middle, *last)).copied();
        match index.and_then(|index| KNOWN.get(usize::from(index))) {
            Some((known, text, _)) if scan::is_name(name, text.as_bytes()) => *known,
            _ => Self::Other,
        }
    }

    /// Compact forms: RFC 3261 §20, RFC 3265, 3515, 3841, 3892, 4028.
    fn of_letter(letter: u8) -> Self {
        match letter {
            b'a' => Self::AcceptContact,
            b'b' => Self::ReferredBy,
            b'c' => Self::ContentType,
            b'd' => Self::RequestDisposition,
            b'e' => Self::ContentEncoding,
            b'f' => Self::From,
            b'i' => Self::CallId,
            b'j' => Self::RejectContact,
            b'k' => Self::Supported,
            b'l' => Self::ContentLength,
            b'm' => Self::Contact,
            b'o' => Self::Event,
            b'r' => Self::ReferTo,
            b's' => Self::Subject,
            b't' => Self::To,
            b'u' => Self::AllowEvents,
            b'v' => Self::Via,
            b'x' => Self::SessionExpires,
            _ => Self::Other,
        }
    }

    /// The name as it is composed; empty for [`HeaderName::Other`].
    pub fn text(self) -> &'static str {
        KNOWN.get(self as usize).map_or("", |(_, text, _)| text)
    }

    /// Whether the header has one value, so that a second line of it is an error.
    pub(crate) fn is_single(self) -> bool {
        KNOWN
            .get(self as usize)
            .is_some_and(|(_, _, number)| *number == Number::Once)
    }
}

/// One header line.
#[derive(Clone, Copy, Debug)]
pub struct HeaderLine<'a> {
    /// Which header.
    pub name: HeaderName,
    /// The name as received.
    pub raw_name: &'a [u8],
    /// The value, trimmed of blanks, folding left in.
    pub value: &'a [u8],
}

/// RFC 3261 §20.16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Below 2^31.
    pub number: u32,
    /// The method.
    pub method: Method,
    /// Its token.
    pub token: &'a [u8],
}

impl<'a> CSeq<'a> {
    /// Parses a trimmed value.
    ///
    /// # Errors
    /// Malformed, or a number of 2^31 or more (§8.1.1.5).
    pub fn parse(value: &'a [u8]) -> Result<Self, Error> {
        const MAX: u32 = (1 << 31) - 1;
        let mut rest = value;
        let mut number = Some(0u32);
        while let Some((digit, behind)) = scan::digit(rest) {
            let tens = number.and_then(|number| number.checked_mul(10));
            number = tens.and_then(|tens| tens.checked_add(digit.into()));
            rest = behind;
        }
        let digits = value.len().wrapping_sub(rest.len());
        let token = scan::trim(rest);
        if token.len() == rest.len() || !scan::is_token(token) {
            return Err(Error::new(ErrorKind::CSeq, digits));
        }
        let number = number.filter(|number| digits > 0 && *number <= MAX);
        Ok(Self {
            number: number.ok_or(Error::new(ErrorKind::CSeq, 0))?,
            method: Method::of(token),
            token,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_names_in_any_case_and_compact() {
        for (known, text, _) in KNOWN {
            assert_eq!(HeaderName::of(text.as_bytes()), *known);
            assert_eq!(HeaderName::of(text.to_ascii_uppercase().as_bytes()), *known);
            assert_eq!(known.text(), *text);
        }
        let compact = [
            ("v", "Via"),
            ("F", "From"),
            ("t", "To"),
            ("i", "Call-ID"),
            ("m", "Contact"),
            ("l", "Content-Length"),
            ("C", "Content-Type"),
            ("e", "Content-Encoding"),
            ("s", "Subject"),
            ("k", "Supported"),
            ("r", "Refer-To"),
            ("b", "Referred-By"),
            ("o", "Event"),
            ("u", "Allow-Events"),
            ("x", "Session-Expires"),
        ];
        for (letter, name) in compact {
            assert_eq!(HeaderName::of(letter.as_bytes()).text(), name);
        }
        for other in [
            "",
            "z",
            "Vi",
            "Via ",
            "X-Via",
            "C%6Fntact",
            "\u{0}",
            "Content_Length",
            "cALL\rID",
        ] {
            assert_eq!(
                HeaderName::of(other.as_bytes()),
                HeaderName::Other,
                "{other:?}"
            );
        }
        assert_eq!(HeaderName::Other.text(), "");
    }

    #[test]
    fn reads_addresses() {
        for (text, display, uri, params, tag) in [
            ("<sip:a@b>", "", "sip:a@b", "", None),
            (
                " \"A, <B>\" <sip:a@b;x=y> ; tag = t ; z ",
                "\"A, <B>\"",
                "sip:a@b;x=y",
                "; tag = t ; z",
                Some("t"),
            ),
            (
                "Al Ice<sip:a@b>;TAG=1",
                "Al Ice",
                "sip:a@b",
                ";TAG=1",
                Some("1"),
            ),
            ("sip:a@b;tag=1", "", "sip:a@b", ";tag=1", Some("1")),
            (
                "sip:a@b\r\n ;tag\r\n =\r\n 1",
                "",
                "sip:a@b",
                ";tag\r\n =\r\n 1",
                Some("1"),
            ),
            (
                "<sip:a@b>;x=\"tag=2;tag=3\"",
                "",
                "sip:a@b",
                ";x=\"tag=2;tag=3\"",
                None,
            ),
            ("<sip:a@b>;h=[::1]:5", "", "sip:a@b", ";h=[::1]:5", None),
            ("Jürgen Ö<sip:a@b>", "Jürgen Ö", "sip:a@b", "", None),
            ("ä\r\n ä <sip:a@b>", "ä\r\n ä", "sip:a@b", "", None),
        ] {
            let address =
                NameAddr::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(address.display, display.as_bytes(), "{text}");
            assert_eq!(address.uri, uri.as_bytes(), "{text}");
            assert_eq!(String::from_utf8_lossy(address.params.0), params, "{text}");
            assert_eq!(address.tag(), tag.map(str::as_bytes), "{text}");
            assert_eq!(address.raw, text.trim().as_bytes());
        }
        for text in [
            "",
            "<>",
            "<sip:a@b",
            "sip:a@b>",
            "< sip:a@b>",
            "<sip:a@b >",
            "\"a <sip:a@b>",
            "\"a\" sip:a@b",
            "a, b <sip:a@b>",
            "<sip:a@b>;",
            "<sip:a@b>;;",
            "<sip:a@b>;tag",
            "<sip:a@b>;tag=",
            "<sip:a@b>;tag=\"x\"",
            "<sip:a@b>;tag=1;Tag=1",
            "<sip:a@b>,<sip:c@d>",
            "<sip:a@b> x",
            "sip:a@b?x=y",
            "\"a\\\r\n\" <sip:a@b>",
            "ä sip:a@b",
            "ä",
            "ä, b <sip:a@b>",
            "ä\"b\" <sip:a@b>",
            "<sip:a@b>;x=a@b",
            "<<sip:a@b>>",
            "\"\\",
            "\"",
            "tag=1",
            ";tag=1",
        ] {
            let error = NameAddr::parse(text.as_bytes());
            assert!(
                error.is_err_and(|error| error.offset <= text.len()),
                "{text}"
            );
        }
    }

    #[test]
    fn sends_display_names_as_they_may_stand() {
        for (text, sent) in [
            ("<sip:a@b>", ""),
            ("Al Ice <sip:a@b>", "Al Ice"),
            ("\"Jürgen\" <sip:a@b>", "\"Jürgen\""),
            ("Jürgen\r\n Ö <sip:a@b>", "\"Jürgen   Ö\""),
        ] {
            let mut out = Vec::new();
            NameAddr::parse(text.as_bytes())
                .unwrap()
                .push_display(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), sent, "{text}");
        }
    }

    #[test]
    fn reads_vias() {
        let via =
            Via::parse(b"sip / 2.0 / TCP [2001:db8::1] : 5061 ; Branch = z9 ; rport ; maddr=h, x")
                .unwrap();
        assert_eq!(
            (via.transport, via.host, via.port),
            (&b"TCP"[..], &b"[2001:db8::1]"[..], Some(5061))
        );
        assert_eq!(
            (via.branch, via.rport, via.maddr),
            (&b"z9"[..], true, Some(&b"h"[..]))
        );
        assert_eq!(via.params.get("RPORT"), Some(&b""[..]));
        for text in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 UDP h",
            "SIP/3.0/UDP h",
            "SIPS/2.0/UDP h",
            "SIP/2.0/UDPh",
            "SIP/2.0/ h",
            "SIP/2.0/UDP h:",
            "SIP/2.0/UDP h:70000",
            "SIP/2.0/UDP h;",
            "SIP/2.0/UDP h;;x",
            "SIP/2.0/UDP h;branch",
            "SIP/2.0/UDP h;branch=",
            "SIP/2.0/UDP h;branch=a;branch=b",
            "SIP/2.0/UDP h;rport;rport=1",
            "SIP/2.0/UDP h;rport=1;rport",
            "SIP/2.0/UDP h;received=1.1.1.1;received=2.2.2.2",
            "SIP/2.0/UDP h;maddr=a;maddr=b",
            "SIP/2.0/UDP h h",
            "SIP/2.0/UDP <h>",
            "SIP/2.0/UDP 2001:db8::1",
            "SIP/2.0/UDP h;branch=a b",
        ] {
            assert!(Via::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_contact_parameters() {
        let q = |text: &str| {
            Contact::parse(format!("<sip:a@b>;q={text}").as_bytes())
                .map(|c| c.q)
                .ok()
        };
        for (text, thousandths) in [
            ("1", 1000),
            ("1.000", 1000),
            ("0", 0),
            ("0.", 0),
            ("0.5", 500),
            ("0.05", 50),
            ("0.999", 999),
        ] {
            assert_eq!(q(text), Some(thousandths), "{text}");
        }
        for text in ["1.001", "2", "0.1234", "0,5", ".5", "-1", "0.5x", "\"0.5\""] {
            assert_eq!(q(text), None, "{text}");
        }
        let expires = |text: &str| {
            Contact::parse(format!("<sip:a@b>;expires={text}").as_bytes())
                .unwrap()
                .expires
        };
        assert_eq!(expires("0"), Some(0));
        assert_eq!(expires("4294967295"), Some(u32::MAX));
        assert_eq!(expires("4294967296"), Some(u32::MAX));
        assert_eq!(expires("99999999999999999999999"), Some(u32::MAX));
        assert_eq!(expires("soon"), Some(3600));
        assert_eq!(
            Contact::parse(b"<sip:a@b>;expires").unwrap().expires,
            Some(3600)
        );
        assert_eq!(Contact::parse(b"<sip:a@b>").unwrap().expires, None);
    }

    #[test]
    fn reads_digest_parameters() {
        let parse = |text: &'static str| DigestParams::parse(text.as_bytes());
        let params = parse(
            "digest  UserName = \"a\\\"b\" ,\r\n realm=\"r,=\", nc=00000001,qop=auth,x=\"y\",uri=\"\"",
        );
        let params = params.unwrap().unwrap();
        assert_eq!(params.username, Some(&b"a\\\"b"[..]));
        assert_eq!(params.realm, Some(&b"r,="[..]));
        assert_eq!(
            (params.nc, params.qop),
            (Some(&b"00000001"[..]), Some(&b"auth"[..]))
        );
        assert_eq!((params.uri, params.nonce), (Some(&b""[..]), None));
        assert_eq!(parse("Basic abc=="), Ok(None));
        for text in [
            "",
            "Digest",
            "Digest ",
            "Digest realm",
            "Digest realm=",
            "Digest realm=\"",
            "Digest realm=\"r",
            "Digest realm=\"r\\",
            "Digest realm=r,",
            "Digest ,realm=r",
            "Digest realm=r,,nonce=n",
            "Digest realm=r realm=r",
            "Digest realm=r,REALM=r",
            "Digest realm=\"r\"x",
            "Digest=\"r\"",
            "Digest uri=sip:x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn splits_and_quotes() {
        let split = |text: &'static str| {
            split_values(text.as_bytes())
                .map(|v| std::str::from_utf8(v).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(split("a, b ,\r\n c"), ["a", "b", "c"]);
        assert_eq!(
            split("\"x, \\\", y\" <sip:a,b>;p=\",\", <\">,z"),
            ["\"x, \\\", y\" <sip:a,b>;p=\",\"", "<\">", "z"]
        );
        assert_eq!(split(" , ,, "), [""; 0]);
        assert_eq!(split("\"open, x"), ["\"open, x"]);
        let mut out = Vec::new();
        quote(b"a\"b\\c\r\n\0", &mut out);
        assert_eq!(out, b"\"a\\\"b\\\\c   \"");
        let mut said = Vec::new();
        unquote(&out, &mut said);
        assert_eq!(said, b"a\"b\\c   ");
        said.clear();
        unquote(b"plain\\x", &mut said);
        assert_eq!(said, b"plain\\x");
    }
}
