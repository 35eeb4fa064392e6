//! Requests that a client transaction makes from its INVITE: the ACK for a failure (RFC 3261 §17.1.1.3) and CANCEL (§9.1).
//!
//! Both belong to the same hop as the INVITE: same Request-URI, same top Via with the same branch, same Route.

use crate::message::compose::Composer;
use crate::message::{HeaderName, Message, parse};

/// Max-Forwards of a request made here (RFC 3261 §8.1.1.6).
const MAX_FORWARDS: u64 = 70;

/// Writes the ACK for the final response `response` to our own `invite`. False: `invite` does not parse, nothing written.
pub(super) fn acknowledge(invite: &[u8], response: &Message<'_>, buffer: &mut Vec<u8>) -> bool {
    // The To of the response, since it has the tag.
    compose(invite, "ACK", response.value(HeaderName::To), &[], buffer)
}

/// Writes the CANCEL for our own `invite`, with a Reason (RFC 3326) unless it is empty. False as above.
pub(super) fn cancel(invite: &[u8], reason: &[u8], buffer: &mut Vec<u8>) -> bool {
    compose(invite, "CANCEL", None, reason, buffer)
}

fn compose(
    invite: &[u8],
    method: &str,
    to: Option<&[u8]>,
    reason: &[u8],
    buffer: &mut Vec<u8>,
) -> bool {
    let Ok(invite) = parse(invite) else {
        debug_assert!(false, "an INVITE of our own does not parse");
        return false;
    };
    let number = invite.cseq().number.to_string();
    let mut request = Composer::request(buffer, method.as_bytes(), invite.request_uri());
    // The topmost Via alone.
    if let Some(via) = invite.values(HeaderName::Via).next() {
        request.field("Via", &[via]);
    }
    request.number("Max-Forwards", MAX_FORWARDS);
    for line in invite.lines().filter(|line| line.name == HeaderName::Route) {
        request.field("Route", &[line.value]);
    }
    if let Some(from) = invite.value(HeaderName::From) {
        request.field("From", &[from]);
    }
    if let Some(to) = to.or_else(|| invite.value(HeaderName::To)) {
        request.field("To", &[to]);
    }
    request.field("Call-ID", &[invite.call_id()]);
    request.field("CSeq", &[number.as_bytes(), b" ", method.as_bytes()]);
    if !reason.is_empty() {
        request.field("Reason", &[reason]);
    }
    request.finish(None, &[]);
    true
}
