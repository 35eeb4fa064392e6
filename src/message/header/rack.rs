//! RFC 3262 §7: `RSeq` and `RAck`.

use crate::message::{header::CSeq, scan};

/// RFC 3262 §7.2: which reliable provisional response a PRACK acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RAck<'a> {
    /// The response's RSeq.
    pub response: u32,
    /// CSeq of the request that it answers.
    pub cseq: CSeq<'a>,
}

impl<'a> RAck<'a> {
    /// Parses a trimmed value; `None` if it is not two numbers within their ranges and a method.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (digits, rest) = value.split_at_checked(scan::span(value, scan::DIGIT))?;
        let cseq = scan::trim(rest);
        let is_apart = cseq.len() < rest.len();
        Some(Self {
            response: rseq(digits).filter(|_| is_apart)?,
            cseq: CSeq::parse(cseq).ok()?,
        })
    }
}

/// RFC 3262 §7.1: the number of a reliable provisional response, 1 to 2³² − 1; `None` for anything else.
pub fn rseq(value: &[u8]) -> Option<u32> {
    let number = scan::number(value, u32::MAX.into())?;
    u32::try_from(number).ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Method;

    #[test]
    fn reads_what_a_prack_acknowledges() {
        let rack = RAck::parse(b"776656 1 INVITE").unwrap();
        assert_eq!((rack.response, rack.cseq.number), (776_656, 1));
        assert_eq!(rack.cseq.method, Method::Invite);
        let folded = RAck::parse(b"1\r\n  2 \tINVITE").unwrap();
        assert_eq!((folded.response, folded.cseq.number), (1, 2));
        for bad in [
            &b""[..],
            b"1",
            b"1 INVITE",
            b"1 1",
            b"0 1 INVITE",
            b"4294967296 1 INVITE",
            b"1 2147483648 INVITE",
            b"-1 1 INVITE",
            b"1 1 INVITE x",
            b"a 1 INVITE",
        ] {
            assert!(RAck::parse(bad).is_none(), "{:?}", bad.escape_ascii());
        }
    }

    #[test]
    fn numbers_of_responses() {
        assert_eq!(rseq(b"1"), Some(1));
        assert_eq!(rseq(b"4294967295"), Some(u32::MAX));
        for bad in [&b"0"[..], b"", b"4294967296", b"1 ", b"x"] {
            assert_eq!(rseq(bad), None);
        }
    }
}
