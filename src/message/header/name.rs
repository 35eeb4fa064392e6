//! Which header a name means (RFC 3261 §7.3, §20).

use crate::message::scan;

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

/// In slots without a name: no line has it in front, since what is looked for has one colon at most.
const NO_WORD: u64 = scan::all(b':');

/// Names that are with their colon not longer than a word of eight bytes, as such a word.
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)] // evaluated by the compiler
const SHORT: [(u64, HeaderName); 64] = {
    let mut slots = [(NO_WORD, HeaderName::Other); 64];
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
                slots[at].0 == NO_WORD,
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
        // All up to the lowest one; without one all of them, which is neither a name's word nor an empty slot's.
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
    fn knows_short_names_of_lines_only_as_they_are() {
        for (known, text, _) in KNOWN {
            let line = format!("{text}:: value");
            let found = HeaderName::short(line.as_bytes());
            let is_short = text.len() < 8;
            assert_eq!(
                found,
                is_short.then_some((*known, &b": value"[..])),
                "{text}"
            );
        }
        for other in [
            "",
            ": value",
            "To:",
            "To : value",
            "to: value",
            "To\0: value",
            "To\0\0\0\0\0\0",
            "Via\0\0\0\0\0: value",
            "Vib: value",
            "Toto: value",
            "Contacts: value",
            "::::::::: value",
        ] {
            assert_eq!(HeaderName::short(other.as_bytes()), None, "{other:?}");
        }
    }

    /// Also where a word is what an empty slot could have.
    #[test]
    fn no_word_of_one_byte_is_a_short_name() {
        for byte in 0..=u8::MAX {
            for behind in [&b""[..], b"Ax", b"a\0:b", b": value"] {
                let line = [&[byte; 8], behind].concat();
                assert_eq!(HeaderName::short(&line), None, "{line:?}");
            }
        }
    }
}
