//! From, To, Contact, Route and their like (RFC 3261 §20.10, §25.1 `name-addr`, `addr-spec`).

use super::quote;
use crate::message::scan::{self, Cursor, Parameter};
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
    /// Parses one value; `tag` is a token and stands at most once.
    ///
    /// # Errors
    /// Offset is within `value`.
    pub fn parse(value: &'a [u8]) -> Result<Self, Error> {
        let mut cursor = Cursor::new(value);
        let mut uri = Uri::EMPTY;
        let address = Self::take(&mut cursor, &mut uri, |_| {})?;
        if cursor.is_at_end() {
            Ok(address)
        } else {
            cursor.error(ErrorKind::Address)
        }
    }

    /// Takes one value of a comma-joined list: the cursor ends at its comma or the end. `uri`, which is empty, gets the URI
    /// in parts; `parameter` is told of every parameter.
    #[inline]
    pub(crate) fn take(
        cursor: &mut Cursor<'a>,
        uri: &mut Uri<'a>,
        mut parameter: impl FnMut(Parameter<'a>),
    ) -> Result<Self, Error> {
        cursor.skip_blanks();
        let start = cursor.rest();
        let display = take_display(cursor)?;
        take_uri(cursor, uri)?;
        let behind_uri = cursor.rest();
        let mut tag = None;
        while cursor.eat_separator(b';') {
            let one = cursor.parameter()?;
            if one.is(b"tag") && (one.token().is_none() || tag.replace(one).is_some()) {
                return cursor.error(ErrorKind::Parameter);
            }
            parameter(one);
        }
        let address = Self {
            raw: cursor.since(start),
            display,
            uri: uri.raw,
            params: Params(cursor.since(scan::skip_blanks(behind_uri))),
            tag: tag.and_then(|tag| tag.value),
        };
        cursor.skip_blanks();
        match cursor.peek() {
            None | Some(b',') => Ok(address),
            Some(_) => cursor.error(ErrorKind::Address),
        }
    }

    /// Appends the display name as it may be sent: as received, but quoted if it must be.
    pub fn push_display(&self, out: &mut Vec<u8>) {
        if self.display.is_ascii() || self.display.starts_with(b"\"") {
            out.extend_from_slice(self.display);
        } else {
            quote(self.display, out);
        }
    }

    /// The URI in parts, which are not kept: as a rule nobody asks.
    pub fn parts(&self) -> Uri<'a> {
        // It was parsed before.
        Uri::parse(self.uri).unwrap_or(Uri::EMPTY)
    }

    /// The tag parameter; `None` without, never empty.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.tag
    }
}

/// The URI, with or without angle brackets.
#[inline(always)]
fn take_uri<'a>(cursor: &mut Cursor<'a>, uri: &mut Uri<'a>) -> Result<(), Error> {
    let is_bracketed = cursor.eat(b'<');
    let at = cursor.at();
    let rest = cursor.rest();
    let length = if is_bracketed {
        match scan::find(rest, b'>') {
            Some(length) => length,
            None => return cursor.error(ErrorKind::Address),
        }
    } else {
        // §20: an addr-spec with a comma, question mark or semicolon must stand in angle brackets; so without
        // them those end it, and what follows a semicolon is a header parameter.
        let ends = |byte: u8| matches!(byte, b';' | b',' | b'?') || scan::is(byte, scan::BLANK);
        rest.iter()
            .position(|&byte| ends(byte))
            .unwrap_or(rest.len())
    };
    let (text, _) = rest.split_at_checked(length).unwrap_or_default();
    if let Err(error) = uri.read(text) {
        return Err(error.within(error.kind, at));
    }
    cursor.advance(length.wrapping_add(usize::from(is_bracketed)));
    Ok(())
}

/// The display name, if there is one: the cursor ends at `<`, or is unchanged.
#[inline(always)]
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
                return Ok(scan::trim(cursor.since(start.rest())));
            }
            *cursor = start;
            Ok(b"")
        }
    }
}
