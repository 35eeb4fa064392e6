//! A MESSAGE as it is kept for a user who is not there (RFC 3428 §7): what of the request goes on with it later.

use super::*;
use crate::limits::{LETTER_AGE_MAX, LETTER_BYTES_MAX, LETTER_NAME_BYTES_MAX};
use crate::message::HeaderName;
use crate::store::MessageRow;
use crate::time::date;

/// What the endpoint found out about its sender.
#[derive(Debug)]
pub struct Written<'a> {
    /// His name or number.
    pub sender: &'a str,
    /// From towards the callee.
    pub from: &'a Identity,
    /// He is behind a trunk or line.
    pub from_outside: bool,
    /// The number that he writes to.
    pub dialled: &'a [u8],
}

/// The letter that a MESSAGE is, without id, user and sharer; `None`: it is too long to be kept, or means nothing later (`Expires: 0`).
/// `buffer` is scratch.
pub fn letter(
    now: Now,
    request: &Message<'_>,
    written: &Written<'_>,
    buffer: &mut Vec<u8>,
) -> Option<MessageRow> {
    let lifetime = request.expires().map(u64::from).map(Duration::from_secs);
    let lifetime = lifetime.unwrap_or(LETTER_AGE_MAX).min(LETTER_AGE_MAX);
    if lifetime.is_zero() {
        return None;
    }
    let from = written.from;
    let (number, tag) = (request.cseq().number, request.from().tag());
    let row = MessageRow {
        id: 0,
        user: String::new(),
        received: now.unix,
        expires: now.unix.plus(lifetime),
        sender: written.sender.to_owned(),
        sharer: String::new(),
        request: [
            request.call_id(),
            format!(" {number} ").as_bytes(),
            tag.unwrap_or_default(),
        ]
        .concat(),
        from_display: from.display.clone(),
        from_user: from.user.clone(),
        from_host: from.host.clone(),
        from_tel: from.is_tel,
        dialled: written.dialled.to_vec(),
        max_forwards: request.max_forwards().unwrap_or(70).saturating_sub(1),
        headers: headers(now, request, written.from_outside, buffer),
        body: request.body().to_vec(),
    };
    let host = row.from_host.as_deref().unwrap_or_default();
    let sent = [
        &row.from_display,
        &row.from_user,
        host.as_bytes(),
        &row.dialled,
        &row.headers,
        &row.body,
    ];
    let sent: usize = sent.iter().map(|bytes| bytes.len()).sum();
    let name = row.sender.len() + row.request.len();
    (sent <= LETTER_BYTES_MAX && name <= LETTER_NAME_BYTES_MAX).then_some(row)
}

/// The header lines that go on with it: those that pass at once, and since when it is under way.
fn headers(now: Now, request: &Message<'_>, from_outside: bool, buffer: &mut Vec<u8>) -> Vec<u8> {
    let mut composer = Composer::lines_into(buffer);
    carriage::write(&mut composer, request, from_outside, false);
    if !request.body().is_empty() {
        carriage::describe(&mut composer, request);
        if let Some(kind) = request.value(HeaderName::ContentType) {
            composer.field("Content-Type", &[kind]);
        }
    }
    match request
        .value(HeaderName::Date)
        .filter(|own| date::is_date(own))
    {
        Some(own) => composer.field("Date", &[own]),
        None => composer.field_with("Date", |line| date::append(now.unix, line)),
    };
    // RFC 3428 §7: counted from Date.
    if let Some(seconds) = request.expires() {
        composer.number("Expires", seconds.into());
    }
    buffer.clone()
}

/// From of a letter, as it is shown to its user.
pub(super) fn from(row: &MessageRow) -> Identity {
    Identity {
        display: row.from_display.clone(),
        user: row.from_user.clone(),
        host: row.from_host.clone(),
        is_tel: row.from_tel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixTime;

    fn letter_of(lines: &str, body: &str) -> Option<MessageRow> {
        let text = format!(
            "MESSAGE sip:bob@pbx SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1\r\nFrom: <sip:alice@pbx>;tag=a1\r\n\
             To: <sip:bob@pbx>\r\nCall-ID: m1\r\nCSeq: 7 MESSAGE\r\nMax-Forwards: 5\r\n{lines}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let request = crate::message::parse(text.as_bytes()).expect("a request");
        let from = Identity {
            user: b"alice".to_vec(),
            ..Identity::default()
        };
        let written = Written {
            sender: "alice",
            from: &from,
            from_outside: false,
            dialled: b"bob",
        };
        let now = Now {
            mono: Instant::default(),
            unix: UnixTime::from_millis(1_289_690_940_000),
        };
        letter(now, &request, &written, &mut Vec::new())
    }

    #[test]
    fn it_has_what_passes_and_its_date() {
        let row = letter_of(
            "Subject: lunch\r\nContact: <sip:alice@192.0.2.7>\r\nContent-Language: en\r\nContent-Type: text/plain\r\n",
            "now?",
        );
        let row = row.expect("it is kept");
        let headers = String::from_utf8_lossy(&row.headers);
        assert_eq!(
            headers,
            "Subject: lunch\r\nContent-Language: en\r\nContent-Type: text/plain\r\n\
             Date: Sat, 13 Nov 2010 23:29:00 GMT\r\n"
        );
        assert_eq!(
            (row.request.as_slice(), row.max_forwards),
            (&b"m1 7 a1"[..], 4)
        );
        assert_eq!(row.expires.since(row.received), LETTER_AGE_MAX);
        let row = letter_of("Date: Fri, 12 Nov 2010 10:00:00 GMT\r\nExpires: 60\r\n", "");
        let row = row.expect("it is kept");
        let headers = String::from_utf8_lossy(&row.headers);
        assert_eq!(
            headers,
            "Date: Fri, 12 Nov 2010 10:00:00 GMT\r\nExpires: 60\r\n"
        );
        assert_eq!(row.expires.since(row.received), Duration::from_secs(60));
    }

    #[test]
    fn what_is_too_long_or_means_nothing_later_is_not_kept() {
        assert!(letter_of("Expires: 0\r\n", "now or never").is_none());
        let longest = LETTER_BYTES_MAX
            - letter_of("", "").map_or(0, |row| row.headers.len() + "alicebob".len());
        assert!(letter_of("", &"x".repeat(longest)).is_some());
        assert!(letter_of("", &"x".repeat(longest + 1)).is_none());
    }
}
