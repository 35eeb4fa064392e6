//! Typed views of header values (RFC 3261 §20, §25), and which header a name means.

pub mod auth;
mod contact;
mod name;
mod name_addr;
mod params;
mod rack;
mod text;
mod via;

pub use contact::{Contact, ContactValue};
pub(crate) use contact::{expiry_seconds, leading_seconds};
pub use name::HeaderName;
pub(crate) use name::NAMES;
pub use name_addr::{NameAddr, UTF8_OUTSIDE_QUOTES};
pub use params::Params;
pub use rack::{RAck, rseq};
pub use text::{Values, printable, quote, split_values, unquote};
pub use via::Via;

use super::*;

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
    fn a_parameter_that_nobody_checked_ends_somewhere() {
        for (text, value) in [
            (";a=\"b;c=d\\\"e=f", "\"b;c=d\\\"e"),
            (";a=\"b c", "\"b"),
            (";a=\"b\\\r\nc;d", "\"b\\"),
            (";a==", ""),
        ] {
            let found = Params(text.as_bytes()).get("a");
            assert_eq!(found, Some(value.as_bytes()), "{text:?}");
        }
        // What is behind the quote that nothing ends is read; what stands before a bad escape is not.
        let params = Params(";x=\"a;refresher=uas;y=\\ü;refresher=uac".as_bytes());
        assert_eq!(params.get("refresher"), Some(&b"uac"[..]));
        let params = Params(b";x=\"a;refresher=uas;y=b");
        assert_eq!(params.get("refresher"), Some(&b"uas"[..]));
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
