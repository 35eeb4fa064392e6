//! Loops of calls through other servers (RFC 3261 §16.3 step 4, RFC 5393): a call that comes back and asks again what it has
//! asked here before goes no further.
//!
//! A back-to-back user agent leaves no Via behind, and every leg has a Call-ID of its own; so an INVITE that goes out to a
//! trunk or line carries, in a header of ours, a mark for each question that the call has asked a server like this: who asks,
//! and for which number. Other servers pass headers that begin with X- on, as we do. The same question in the same call has
//! the same answer, so it is a loop: 482. Another caller or another number is none: whoever calls his own number by way of a
//! carrier reaches it.
//!
//! A mark is a keyed hash of this run: it tells nobody anything, and is no one else's by accident. Where the header is lost
//! on the way Max-Forwards ends the loop (483), which costs as many calls as there are hops.

use super::*;
use crate::call::PASSED;
use crate::config::without_separators;
use crate::limits::PASSED_MAX;
use crate::message::Message;
use crate::source::Who;
use crate::token::{hex, read_hex};

/// Digits of a mark.
const DIGITS: usize = 16;

impl Endpoint {
    /// What a call brings along, and its question here; the status of one that goes no further.
    pub(super) fn passed(
        &self,
        request: &Message<'_>,
        identity: Who,
        dialled: &[u8],
    ) -> Result<Vec<u8>, u16> {
        let own = self.mark(identity, dialled);
        let mut marks = Vec::new();
        let lines = request
            .lines()
            .filter(|line| line.raw_name.eq_ignore_ascii_case(PASSED.as_bytes()));
        for mark in lines.flat_map(|line| line.value.split(|byte| *byte == b',')) {
            let mark = mark.trim_ascii();
            if mark == own {
                return Err(482);
            }
            // Whatever else somebody writes there is not passed on.
            if mark.len() == DIGITS && read_hex(mark).is_some() {
                marks.extend_from_slice(mark);
                marks.extend_from_slice(b", ");
            }
        }
        if marks.len() >= PASSED_MAX * (DIGITS + 2) {
            return Err(483);
        }
        marks.extend_from_slice(&own);
        Ok(marks)
    }

    fn mark(&self, identity: Who, dialled: &[u8]) -> [u8; DIGITS] {
        let incoming = self.incoming(identity).map(str::as_bytes);
        let number = without_separators(incoming.unwrap_or(dialled));
        hex(self.tag_hasher.hash_one((identity, number)))
    }
}
