//! From, To, Contact, Route and their like (RFC 3261 §20.10, §25.1 `name-addr`, `addr-spec`).

use super::quote;
use crate::message::scan::{self, Cursor};
use crate::message::{Error, ErrorKind, Params, Uri};

/// Leniency: a display name in front of `<` may have UTF-8 outside quotes (`Jürgen Müller <sip:…>`). RFC 3261 §25.1 wants
/// quotes around it, but phones send the name as it was typed in. Sent on it stands in quotes ([`NameAddr::push_display`]).
pub const UTF8_OUTSIDE_QUOTES: bool = true;

/// From, To, Contact, Route …: name-addr or addr-spec with header parameters (§20.10, §20.20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The whole value as received.
    pub raw: &'a [u8],
    /// Display name as received, with its quotes; empty if none.
    pub display: &'a [u8],
    /// The URI, without angle brackets.
    pub uri: &'a [u8],
    /// Header parameters, from the first `;` behind the URI.
    pub params: Params<'a>,
    tag: Option<&'a [u8]>,
}

impl<'a> NameAddr<'a> {
    /// Parses one value. The URI parses by [`Uri::parse`]; `tag` is a token and stands at most once.
    ///
    /// # Errors
    /// Offset is within `value`.
    pub fn parse(value: &'a [u8]) -> Result<Self, Error> {
        let mut cursor = Cursor::new(value);
        let address = Self::take(&mut cursor)?;
        if cursor.is_at_end() {
            Ok(address)
        } else {
            cursor.error(ErrorKind::Address)
        }
    }

    /// Takes one value of a comma-joined list: the cursor ends at its comma or the end.
    pub(crate) fn take(cursor: &mut Cursor<'a>) -> Result<Self, Error> {
        cursor.skip_blanks();
        let start = cursor.at();
        let display = take_display(cursor)?;
        let at = cursor.at();
        let uri = if cursor.eat(b'<') {
            let Some(length) = memchr::memchr(b'>', cursor.rest()) else {
                return cursor.error(ErrorKind::Address);
            };
            let at = cursor.at();
            cursor.advance(length);
            let uri = cursor.since(at);
            Uri::parse(uri).map_err(|error| error.within(error.kind, at))?;
            cursor.advance(1);
            uri
        } else {
            // §20: an addr-spec with a comma, question mark or semicolon must stand in angle brackets; so without
            // them those end it, and what follows a semicolon is a header parameter.
            let rest = cursor.rest();
            let ends = |byte: u8| matches!(byte, b';' | b',' | b'?') || scan::is(byte, scan::BLANK);
            cursor.advance(
                rest.iter()
                    .position(|&byte| ends(byte))
                    .unwrap_or(rest.len()),
            );
            let uri = cursor.since(at);
            Uri::parse(uri).map_err(|error| error.within(error.kind, at))?;
            uri
        };
        let mut end = cursor.at();
        let mut params = b"".as_slice();
        let mut tag = None;
        let mut first = None;
        while {
            let before = cursor.at();
            let more = cursor.eat_separator(b';');
            first = first.or(more.then_some(before));
            more
        } {
            let (name, value) = cursor.parameter()?;
            if name.eq_ignore_ascii_case(b"tag") {
                let value = value.filter(|value| scan::is_token(value));
                if value.is_none() || tag.replace(value).is_some() {
                    return cursor.error(ErrorKind::Parameter);
                }
            }
            end = cursor.at();
        }
        if let Some(first) = first {
            params = scan::trim(cursor.since(first));
        }
        let raw = {
            let whole = cursor.since(start);
            whole.get(..end.saturating_sub(start)).unwrap_or(whole)
        };
        cursor.skip_blanks();
        match cursor.peek() {
            None | Some(b',') => {}
            Some(_) => return cursor.error(ErrorKind::Address),
        }
        Ok(Self {
            raw,
            display,
            uri,
            params: Params(params),
            tag: tag.flatten(),
        })
    }

    /// Appends the display name as it may be sent: as received, but quoted if it must be.
    pub fn push_display(&self, out: &mut Vec<u8>) {
        if self.display.is_ascii() || self.display.starts_with(b"\"") {
            out.extend_from_slice(self.display);
        } else {
            quote(self.display, out);
        }
    }

    /// The tag parameter; `None` without, never empty.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.tag
    }
}

/// The display name, if there is one: the cursor ends at `<`, or is unchanged.
fn take_display<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8], Error> {
    match cursor.peek() {
        Some(b'<') => Ok(b""),
        Some(b'"') => {
            let display = cursor.quoted_string()?;
            cursor.skip_blanks();
            if cursor.peek() == Some(b'<') {
                Ok(display)
            } else {
                cursor.error(ErrorKind::Address)
            }
        }
        _ => {
            // display-name = *(token LWS); RFC 4475 §3.1.1.6 has it without LWS before `<` too.
            let start = *cursor;
            while !cursor.take(scan::DISPLAY).is_empty() {
                cursor.skip_blanks();
            }
            if cursor.peek() == Some(b'<') {
                return Ok(scan::trim(cursor.since(start.at())));
            }
            *cursor = start;
            Ok(b"")
        }
    }
}
