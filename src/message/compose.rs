//! Messages out: one pass into a reused buffer. Never reads a clock, never fails.

use super::*;
use crate::source::Flow;

/// Writes one message: start line, then header fields in call order, then `finish`.
pub struct Composer<'b> {
    buffer: &'b mut Vec<u8>,
}

impl<'b> Composer<'b> {
    /// Clears `buffer`, writes `METHOD uri SIP/2.0`.
    pub fn request(buffer: &'b mut Vec<u8>, method: &[u8], uri: &[u8]) -> Self {
        buffer.clear();
        for part in [method, b" ", uri, b" SIP/2.0\r\n"] {
            buffer.extend_from_slice(part);
        }
        Self { buffer }
    }

    /// Clears `buffer`, writes `SIP/2.0 status reason`.
    pub fn response(buffer: &'b mut Vec<u8>, status: u16, reason: &str) -> Self {
        let _ = (status, reason);
        buffer.clear();
        todo!()
    }

    /// RFC 3261 §8.2.6.2: a response to `request`: all its Via lines, the top one stamped with `received` and `rport`
    /// (§18.2.1, RFC 3581) from `flow.remote`, From, To with `to_tag` added if it has none, Call-ID, CSeq, and Timestamp on 100.
    pub fn response_to(
        buffer: &'b mut Vec<u8>,
        request: &Message<'_>,
        flow: &Flow,
        status: u16,
        reason: &str,
        to_tag: &[u8],
    ) -> Self {
        let _ = (buffer, request, flow, status, reason, to_tag);
        todo!()
    }

    /// The same from a request that did not parse.
    pub fn error_response(
        buffer: &'b mut Vec<u8>,
        skeleton: &Skeleton<'_>,
        flow: &Flow,
        status: u16,
        reason: &str,
        to_tag: &[u8],
    ) -> Self {
        let _ = (buffer, skeleton, flow, status, reason, to_tag);
        todo!()
    }

    /// One field: `Name: ` and the parts, joined. CR and LF within parts become blanks (folding is undone).
    pub fn field(&mut self, name: &str, parts: &[&[u8]]) -> &mut Self {
        let _ = (name, parts);
        todo!()
    }

    /// One field with a number.
    pub fn number(&mut self, name: &str, number: u64) -> &mut Self {
        let _ = (name, number);
        todo!()
    }

    /// Whole header lines that were composed before, each ended by CRLF.
    pub fn lines(&mut self, lines: &[u8]) -> &mut Self {
        self.buffer.extend_from_slice(lines);
        self
    }

    /// Content-Type (if there is a body), Content-Length, the blank line and the body.
    pub fn finish(self, content_type: Option<&[u8]>, body: &[u8]) {
        let _ = (content_type, body);
        todo!()
    }
}

/// The usual reason phrase of a status (RFC 3261 §21 and its extensions), or that of its class.
pub fn reason_phrase(status: u16) -> &'static str {
    let _ = status;
    todo!()
}
