//! RFC 3261 §10.3 step 8: header lines of the answer to a REGISTER.

use std::time::Duration;

use crate::config;
use crate::location::{Binding, Location};
use crate::message::compose::append_number;
use crate::source::UserId;
use crate::time::{Now, date};

use super::request::Registration;

/// Lines of a 200: all current bindings, and what was done with the extensions asked for.
pub(super) fn success(
    now: Now,
    location: &Location,
    user: UserId,
    registration: Option<&Registration<'_>>,
    lines: &mut Vec<u8>,
) {
    for binding in location.bindings(user) {
        contact(now, binding, lines);
    }
    lines.extend_from_slice(b"Date: ");
    date::append(now.unix, lines);
    lines.extend_from_slice(b"\r\n");
    if let Some(registration) = registration.filter(|registration| !registration.path.is_empty()) {
        lines.extend_from_slice(b"Path: ");
        lines.extend_from_slice(&registration.path);
        lines.extend_from_slice(b"\r\n");
    }
    lines.extend_from_slice(b"Supported: path, outbound\r\n");
    if registration.is_some_and(|registration| registration.is_outbound) {
        // RFC 5626 §6: tells the phone that its flow is used.
        lines.extend_from_slice(b"Require: outbound\r\n");
    }
}

/// The line of a 423.
pub(super) fn min_expires(config: &config::Registrar, lines: &mut Vec<u8>) {
    let seconds = whole_seconds(config.expires_min);
    lines.extend_from_slice(format!("Min-Expires: {seconds}\r\n").as_bytes());
}

/// Bytes of the line of a binding at most.
pub(super) fn line_bytes(contact: &[u8], params: &[u8]) -> usize {
    const AROUND: usize = "Contact: <>;expires=4294967295;q=0.999\r\n".len();
    AROUND
        .saturating_add(contact.len())
        .saturating_add(params.len())
}

fn contact(now: Now, binding: &Binding, lines: &mut Vec<u8>) {
    let seconds = whole_seconds(binding.deadline.since(now.mono));
    lines.extend_from_slice(b"Contact: <");
    lines.extend_from_slice(binding.contact());
    lines.extend_from_slice(b">;expires=");
    append_number(lines, seconds);
    if binding.q < 1000 {
        let digits = format!("{:03}", binding.q);
        let digits = digits.trim_end_matches('0');
        let point = if digits.is_empty() { "" } else { "." };
        lines.extend_from_slice(format!(";q=0{point}{digits}").as_bytes());
    }
    lines.extend_from_slice(binding.params());
    lines.extend_from_slice(b"\r\n");
}

/// Rounded up: a binding that is still there is never listed with 0, which would mean that it is gone.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
