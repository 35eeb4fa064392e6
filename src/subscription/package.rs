//! Event packages (RFC 6665 §5): what may be subscribed to, and what a NOTIFY says of it.

use std::time::Duration;

use crate::limits::{SUBSCRIPTION_MAX, SUBSCRIPTION_MIN};
use crate::message::{HeaderName, Message, Params};

/// An event package that we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// RFC 4235: the calls of a user or group.
    Dialog,
    /// RFC 3842: messages that wait for a user. Nothing is stored, so none ever does.
    MessageSummary,
}

impl Package {
    /// The package of this name; names are compared byte for byte (RFC 6665 §8.2.1).
    fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"dialog" => Some(Self::Dialog),
            b"message-summary" => Some(Self::MessageSummary),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static [u8] {
        match self {
            Self::Dialog => b"dialog",
            Self::MessageSummary => b"message-summary",
        }
    }

    /// The media type of its bodies.
    pub fn content_type(self) -> &'static [u8] {
        match self {
            Self::Dialog => b"application/dialog-info+xml",
            Self::MessageSummary => b"application/simple-message-summary",
        }
    }
}

/// What a SUBSCRIBE asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// Which events.
    pub package: Package,
    /// The `id` parameter of Event, which tells subscriptions of one dialog apart; empty: none.
    pub id: &'a [u8],
    /// For how long; zero: the state once, and the end of the subscription if there is one (§4.4.1, §4.4.3).
    pub duration: Duration,
}

impl<'a> Asked<'a> {
    /// Reads a SUBSCRIBE (§4.2.1.1).
    ///
    /// # Errors
    /// The status of its refusal.
    pub fn of(request: &Message<'a>) -> Result<Self, u16> {
        let event = request.value(HeaderName::Event).unwrap_or_default();
        let end = memchr::memchr(b';', event).unwrap_or(event.len());
        let (name, params) = event.split_at(end);
        let package = Package::of(name.trim_ascii()).ok_or(489u16)?;
        let mut accepts = request.values(HeaderName::Accept).peekable();
        if accepts.peek().is_some() && !accepts.any(|value| is_accepted(value, package)) {
            return Err(406);
        }
        Ok(Self {
            package,
            id: Params(params).get("id").unwrap_or_default(),
            duration: duration(request.value(HeaderName::Expires))?,
        })
    }
}

fn is_accepted(value: &[u8], package: Package) -> bool {
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    let kind = value.get(..end).unwrap_or_default().trim_ascii();
    [package.content_type(), b"application/*", b"*/*"]
        .iter()
        .any(|own| kind.eq_ignore_ascii_case(own))
}

/// §4.2.1.1: what is too long is shortened, what is too short refused.
fn duration(expires: Option<&[u8]>) -> Result<Duration, u16> {
    let Some(expires) = expires else {
        return Ok(SUBSCRIPTION_MAX);
    };
    if expires.is_empty() || !expires.iter().all(u8::is_ascii_digit) {
        return Err(400);
    }
    let seconds = expires.iter().fold(0u64, |number, digit| {
        let digit = u64::from(digit.wrapping_sub(b'0'));
        number.saturating_mul(10).saturating_add(digit)
    });
    match Duration::from_secs(seconds).min(SUBSCRIPTION_MAX) {
        asked if !asked.is_zero() && asked < SUBSCRIPTION_MIN => Err(423),
        asked => Ok(asked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parse;

    fn asked(lines: &str) -> Result<(Package, Vec<u8>, u64), u16> {
        let text = format!(
            "SUBSCRIBE sip:alice@pbx SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\
             From: <sip:alice@pbx>;tag=1\r\nTo: <sip:alice@pbx>\r\nCall-ID: 1\r\n\
             CSeq: 1 SUBSCRIBE\r\n{lines}\r\n"
        );
        let request = parse(text.as_bytes()).expect("a good request");
        let asked = Asked::of(&request)?;
        Ok((asked.package, asked.id.to_vec(), asked.duration.as_secs()))
    }

    #[test]
    fn what_a_subscribe_asks_for() {
        let of = |id: &[u8], seconds| Ok((Package::MessageSummary, id.to_vec(), seconds));
        for (lines, expected) in [
            ("Event: message-summary\r\n", of(b"", 3600)),
            (
                "o: message-summary ; id=7\r\nExpires: 600\r\n",
                of(b"7", 600),
            ),
            ("Event: message-summary\r\nExpires: 0\r\n", of(b"", 0)),
            (
                "Event: message-summary\r\nExpires: 99999999999999999999\r\n",
                of(b"", 3600),
            ),
            (
                "Event: message-summary\r\nAccept: text/plain, application/*;q=0.1\r\n",
                of(b"", 3600),
            ),
            ("Event: message-summary\r\nExpires: 59\r\n", Err(423)),
            ("Event: message-summary\r\nExpires: soon\r\n", Err(400)),
            ("Event: message-summary\r\nAccept: text/plain\r\n", Err(406)),
            ("Event: message-summary.winfo\r\n", Err(489)),
            ("Event: Message-Summary\r\n", Err(489)),
            (
                "Event: dialog;sla\r\n",
                Ok((Package::Dialog, Vec::new(), 3600)),
            ),
            ("Event: refer\r\n", Err(489)),
            ("", Err(489)),
        ] {
            assert_eq!(asked(lines), expected, "{lines}");
        }
    }
}
