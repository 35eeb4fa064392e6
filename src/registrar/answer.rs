//! RFC 3261 §10.3 step 8: header lines of the answer to a REGISTER.

use std::time::Duration;

use crate::config;
use crate::location::{Binding, Location};
use crate::message::compose::append_number;
use crate::source::UserId;
use crate::time::{Now, UnixTime};

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
    date(now.unix, lines);
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

/// RFC 3261 §20.17, RFC 1123: `Sat, 13 Nov 2010 23:29:00 GMT`.
fn date(time: UnixTime, out: &mut Vec<u8>) {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = time.as_millis() / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March have their leap day last; eras of 400 of them are alike. 719,468 days lie between
    // March 1st of the year 0 and the epoch.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let two = |number: u64, end: &[u8], out: &mut Vec<u8>| {
        if number < 10 {
            out.push(b'0');
        }
        append_number(out, number);
        out.extend_from_slice(end);
    };
    out.extend_from_slice(DAYS[(days % 7) as usize].as_bytes());
    out.extend_from_slice(b", ");
    two(day, b" ", out);
    out.extend_from_slice(MONTHS[month as usize].as_bytes());
    out.push(b' ');
    // The epoch is later than the year 1000.
    append_number(out, year);
    out.push(b' ');
    two(second / 3600, b":", out);
    two(second / 60 % 60, b":", out);
    two(second % 60, b" GMT", out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        // Seconds as `date -u -d @N` names them.
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_289_690_940, "Sat, 13 Nov 2010 23:29:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (1_735_689_600, "Wed, 01 Jan 2025 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            let mut out = Vec::new();
            date(UnixTime::from_millis(seconds * 1000 + 999), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
