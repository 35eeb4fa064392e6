//! RFC 3261 §8.2.6: what an answer to a malformed request is made from.
//!
//! Reads lines as they come, ended by CRLF or LF, and keeps what is safe to repeat. Decides nothing else from it.

use super::scan;
use super::*;
use crate::limits::{HEADER_LINES_MAX, MESSAGE_BYTES_MAX, SALVAGED_BYTES_MAX};

/// See [`salvage()`]. `compose::Composer::error_response` writes the answer from it.
#[derive(Clone, Debug)]
pub struct Skeleton<'a> {
    /// Its method token.
    pub method: &'a [u8],
    /// The topmost Via, its parameters as far as they can be read.
    pub via: Via<'a>,
    /// From as received, without control bytes but folds.
    pub from: &'a [u8],
    /// To, likewise.
    pub to: &'a [u8],
    /// Call-ID, likewise.
    pub call_id: &'a [u8],
    /// CSeq, likewise.
    pub cseq: &'a [u8],
    /// The header part.
    bytes: &'a [u8],
}

impl<'a> Skeleton<'a> {
    /// Values of the Via lines, in order.
    pub fn via_lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        lines(self.bytes)
            .filter(|(name, _)| *name == HeaderName::Via)
            .map(|(_, value)| value)
    }
}

/// What can be had of a request that does not parse: enough to answer it with 400 (RFC 3261 §8.2.6), or `None`
/// when it is no request, is an ACK, or a header that an answer needs (a top Via whose branch can be echoed safely,
/// From, To, Call-ID, CSeq) is missing or contains bytes that would break the answer, or all of them together are longer than
/// [`SALVAGED_BYTES_MAX`].
pub fn salvage(bytes: &[u8]) -> Option<Skeleton<'_>> {
    let bytes = bytes.get(..MESSAGE_BYTES_MAX).unwrap_or(bytes);
    let (start_line, rest) = bytes.split_at_checked(memchr::memchr(b'\n', bytes)?)?;
    let rest = rest.get(1..)?;
    let mut words = scan::trim(start_line).split(|&byte| byte == b' ');
    let method = words.next()?;
    let version = parse::is_version(words.next_back()?)?;
    if version == Err(ErrorKind::StartLine) || !scan::is_token(method) || method == b"ACK" {
        return None;
    }
    let first = |wanted| {
        lines(rest)
            .find(|(name, _)| *name == wanted)
            .map(|(_, value)| value)
    };
    let skeleton = Skeleton {
        method,
        via: Via::salvage(first(HeaderName::Via)?).ok()?,
        from: first(HeaderName::From)?,
        to: first(HeaderName::To)?,
        call_id: first(HeaderName::CallId)?,
        cseq: first(HeaderName::CSeq)?,
        bytes: rest,
    };
    let single = [skeleton.from, skeleton.to, skeleton.call_id, skeleton.cseq];
    let mut length = 0usize;
    for value in single.into_iter().chain(skeleton.via_lines()) {
        length = length.saturating_add(value.len());
        if value.is_empty() || !is_safe(value) || length > SALVAGED_BYTES_MAX {
            return None;
        }
    }
    Some(skeleton)
}

/// Whether a value can be repeated: no control byte but HTAB and the CRLF of folds, which composing undoes.
fn is_safe(value: &[u8]) -> bool {
    !value
        .iter()
        .any(|&byte| byte.is_ascii_control() && !scan::is(byte, scan::BLANK))
        && memchr::memchr_iter(b'\r', value)
            .all(|at| value.get(at.saturating_add(1)) == Some(&b'\n'))
}

/// Header lines with their folds, up to the empty one, the end, or as many as a message may have.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (HeaderName, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let mut end = 0usize;
        loop {
            let behind = rest.get(end..)?;
            let length = memchr::memchr(b'\n', behind).map(|at| at.saturating_add(1));
            end = end.saturating_add(length.unwrap_or(behind.len()));
            if length.is_none() || !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (line, behind) = rest.split_at_checked(end)?;
        rest = behind;
        if line.is_empty() || matches!(line, b"\n" | b"\r\n") {
            return None;
        }
        let colon = memchr::memchr(b':', line).unwrap_or(line.len());
        let (name, value) = line.split_at_checked(colon)?;
        Some((
            HeaderName::of(scan::trim(name)),
            scan::trim(value.get(1..).unwrap_or_default()),
        ))
    })
    .take(HEADER_LINES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Flow, Transport};

    const BROKEN: &str = "INVITE sip:b@c SIP/2.0\r\nVia: SIP/2.0/UDP h;rport;;branch=z1\r\nFrom: <sip:a@b>;tag=1\r\n\
        To: \"b\r\n <sip:b@c>\r\nCall-ID: x y\r\nCSeq: 1 INVITE\r\nVia: any thing\r\n\r\nVia: body";

    fn answer(text: &str) -> Option<String> {
        let skeleton = salvage(text.as_bytes())?;
        let flow = Flow {
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "192.0.2.9:7".parse().unwrap(),
            connection: None,
        };
        let mut buffer = Vec::new();
        Composer::error_response(&mut buffer, &skeleton, &flow, 400, "Bad\r\nVia", b"t")
            .finish(None, b"");
        Some(String::from_utf8(buffer).unwrap())
    }

    #[test]
    fn answers_a_broken_request() {
        assert_eq!(
            answer(BROKEN).unwrap(),
            "SIP/2.0 400 Bad  Via\r\nVia: SIP/2.0/UDP h;rport=7;;branch=z1;received=192.0.2.9\r\nVia: any thing\r\n\
             From: <sip:a@b>;tag=1\r\nTo: \"b   <sip:b@c>;tag=t\r\nCall-ID: x y\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        );
        let skeleton = salvage(BROKEN.as_bytes()).unwrap();
        assert_eq!(
            (skeleton.method, skeleton.via.branch),
            (&b"INVITE"[..], &b"z1"[..])
        );
        assert!(skeleton.via.rport);
    }

    #[test]
    fn has_nothing_to_say() {
        for (from, to) in [
            ("INVITE ", "ACK "),
            ("INVITE sip:b@c SIP/2.0", "SIP/2.0 200 OK"),
            ("SIP/2.0\r\nVia", "HTTP/1.1\r\nVia"),
            ("SIP/2.0/UDP", "SIP/2.0"),
            ("From", "Fron"),
            ("To", "Tu"),
            ("Call-ID", "Call_ID"),
            ("CSeq", "C"),
            ("<sip:a@b>", "<sip:a\0@b>"),
            ("x y", "x\ry"),
            ("x y", "x\x1b[0m"),
            ("x y", ""),
            ("any thing", "any\x07thing"),
            ("INVITE", "IN\0VITE"),
            ("INVITE", "INVITE\r"),
        ] {
            assert!(BROKEN.contains(from));
            let text = BROKEN.replacen(from, to, 1);
            assert_eq!(answer(&text), None, "{text:?}");
        }
        assert!(answer(&BROKEN.replace("x y", &"x".repeat(SALVAGED_BYTES_MAX))).is_none());
        assert!(answer(&BROKEN.replace("x y", &"x".repeat(SALVAGED_BYTES_MAX - 200))).is_some());
    }
}
