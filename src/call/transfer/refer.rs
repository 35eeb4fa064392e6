//! What a REFER asks for (RFC 3515 §2.4.1, RFC 3891 §6.1, RFC 4488 §4).

use crate::message::{HeaderName, Message, NameAddr, Params, Uri};

/// A REFER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::call) struct Refer {
    /// Whom to call, without headers.
    pub uri: Box<[u8]>,
    /// The dialog that the target has with the transferor, and is to have with the other party.
    pub replaces: Option<Replaces>,
    /// The transferor wants to hear what becomes of it.
    pub is_told: bool,
}

/// The dialog that a Replaces names (RFC 3891 §6.1), as whoever is asked knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaces {
    /// Call-ID.
    pub call_id: Box<[u8]>,
    /// The tag of whoever is asked.
    pub to_tag: Box<[u8]>,
    /// The tag of his peer.
    pub from_tag: Box<[u8]>,
    /// Not if it has been answered.
    pub is_early_only: bool,
}

impl Refer {
    /// Reads a REFER.
    ///
    /// # Errors
    /// The status of its refusal.
    pub fn of(request: &Message<'_>) -> Result<Self, u16> {
        let value = request.value(HeaderName::ReferTo).ok_or(400u16)?;
        let whole = uri_of(value);
        let end = memchr::memchr(b'?', whole).unwrap_or(whole.len());
        // Headers must be escaped, but not every phone does.
        let (own, headers) = whole.split_at_checked(end).ok_or(400u16)?;
        let uri = Uri::parse(own).map_err(|_| 400u16)?;
        // RFC 3515 §2.4.1 has other methods as well; whoever may call may not have us do anything else in his name.
        let method = uri.params.get("method");
        if method.is_some_and(|method| !method.eq_ignore_ascii_case(b"INVITE")) {
            return Err(403);
        }
        let refer_sub = request.value(HeaderName::ReferSub);
        Ok(Self {
            uri: own.into(),
            replaces: replaces_of(headers.get(1..).unwrap_or_default())?,
            is_told: !refer_sub.is_some_and(is_false),
        })
    }
}

impl Replaces {
    /// The value of a Replaces header; `None`: it is none.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let end = memchr::memchr(b';', value).unwrap_or(value.len());
        let (call_id, params) = value.split_at_checked(end)?;
        let params = Params(params);
        let tag = |name| params.get(name).filter(|tag| !tag.is_empty());
        let call_id = call_id.trim_ascii();
        Some(Self {
            call_id: (!call_id.is_empty()).then(|| call_id.into())?,
            to_tag: tag("to-tag")?.into(),
            from_tag: tag("from-tag")?.into(),
            is_early_only: params.get("early-only").is_some(),
        })
    }
}

/// The URI of a Refer-To. One with headers belongs in angle brackets, but some phones leave them out.
fn uri_of(value: &[u8]) -> &[u8] {
    match NameAddr::parse(value) {
        Ok(address) => address.uri,
        Err(_) => {
            let start = memchr::memrchr(b'<', value).map_or(0, |at| at + 1);
            let inner = value.get(start..).unwrap_or_default();
            let end = memchr::memchr(b'>', inner).unwrap_or(inner.len());
            inner.get(..end).unwrap_or_default().trim_ascii()
        }
    }
}

/// Replaces among the headers of a URI (RFC 3261 §19.1.1), unescaped.
fn replaces_of(headers: &[u8]) -> Result<Option<Replaces>, u16> {
    let mut headers = headers.split(|byte| *byte == b'&');
    let value = headers.find_map(|header| {
        let at = memchr::memchr(b'=', header)?;
        let (name, value) = header.split_at_checked(at)?;
        name.eq_ignore_ascii_case(b"Replaces")
            .then(|| value.get(1..).unwrap_or_default())
    });
    match value {
        None => Ok(None),
        Some(value) => Replaces::parse(&unescaped(value)).map(Some).ok_or(400),
    }
}

/// `%` and two hexadecimal digits stand for a byte; what is none stays as it is.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| {
        let digit = char::from(*text.get(at)?).to_digit(16)?;
        u8::try_from(digit).ok()
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(high << 4 | low);
                at += 3;
            }
            _ => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
    bytes
}

fn is_false(value: &[u8]) -> bool {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    let value = value.get(..end).unwrap_or_default();
    value.trim_ascii().eq_ignore_ascii_case(b"false")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parse;

    fn refer(lines: &str) -> Result<Refer, u16> {
        let text = format!(
            "REFER sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:b@h>;tag=1\r\n\
             To: <sip:a@h>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 REFER\r\n{lines}\r\n"
        );
        Refer::of(&parse(text.as_bytes()).expect("a good request"))
    }

    fn whom(lines: &str) -> Result<(String, Option<String>), u16> {
        refer(lines).map(|refer| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let replaces = refer.replaces.map(|own| {
                let early = if own.is_early_only { " early" } else { "" };
                let [id, to, from] = [own.call_id, own.to_tag, own.from_tag].map(|own| text(&own));
                format!("{id} {to} {from}{early}")
            });
            (text(&refer.uri), replaces)
        })
    }

    #[test]
    fn phones_write_it_in_many_ways() {
        let plain = |uri: &str| Ok((uri.to_owned(), None));
        let with = |uri: &str, replaces: &str| Ok((uri.to_owned(), Some(replaces.to_owned())));
        for (value, expected) in [
            ("<sip:200@h>", plain("sip:200@h")),
            ("sip:200@h", plain("sip:200@h")),
            (
                "\"Jim\" <sip:200@h:5070;user=phone>;x=1",
                plain("sip:200@h:5070;user=phone"),
            ),
            ("<tel:+4930>", plain("tel:+4930")),
            (
                "<sip:200@h;method=INVITE>",
                plain("sip:200@h;method=INVITE"),
            ),
            (
                "<sip:200@h?Replaces=a%40b%3Bto-tag%3Dx%3bfrom-tag%3Dy>",
                with("sip:200@h", "a@b x y"),
            ),
            (
                "sip:200@h?Replaces=a%40b%3Bfrom-tag%3Dy%3Bto-tag%3Dx%3Bearly-only",
                with("sip:200@h", "a@b x y early"),
            ),
            (
                "<sip:200@h?Require=replaces&replaces=a;to-tag=x;from-tag=y>",
                with("sip:200@h", "a x y"),
            ),
            ("<sip:200@h?Subject=%>", plain("sip:200@h")),
            ("<sip:200@h?>", plain("sip:200@h")),
            ("<sip:200@h?Replaces=a%3Bto-tag%3Dx>", Err(400)),
            ("<sip:200@h?Replaces=>", Err(400)),
            ("<sip:200@h;method=BYE>", Err(403)),
            ("nobody", Err(400)),
        ] {
            assert_eq!(whom(&format!("Refer-To: {value}\r\n")), expected, "{value}");
        }
        assert_eq!(whom(""), Err(400));
        assert_eq!(whom("r: <sip:200@h>\r\n"), plain("sip:200@h"));
    }

    #[test]
    fn whether_he_wants_to_hear_of_it() {
        let is_told = |line: &str| {
            let refer = refer(&format!("Refer-To: <sip:2@h>\r\n{line}"));
            refer.map(|refer| refer.is_told)
        };
        assert_eq!(is_told(""), Ok(true));
        assert_eq!(is_told("Refer-Sub: true\r\n"), Ok(true));
        assert_eq!(is_told("Refer-Sub: False ;x\r\n"), Ok(false));
    }

    #[test]
    fn escapes() {
        for (text, bytes) in [("a%40b", "a@b"), ("%", "%"), ("%4", "%4"), ("%zz", "%zz")] {
            assert_eq!(unescaped(text.as_bytes()), bytes.as_bytes());
        }
    }
}
