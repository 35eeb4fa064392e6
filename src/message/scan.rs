//! RFC 3261 §25: character classes and a cursor over a peer's bytes. Knows nothing of headers.
//!
//! Every step is bounds-checked by `get`, so bytes of a peer can make it stop, never panic. Folding needs no treatment of
//! its own: the line index has checked that CR and LF stand only where a fold is, so here they are blanks.

use super::{Error, ErrorKind};

/// `token`.
pub(crate) const TOKEN: u16 = 1;
/// `word` of Call-ID (and more, see [`super::parse::ANY_VISIBLE_CALL_ID`]).
pub(crate) const WORD: u16 = 1 << 1;
/// `unreserved / user-unreserved`.
pub(crate) const USER: u16 = 1 << 2;
/// `unreserved` and what a password may have beside it.
pub(crate) const PASSWORD: u16 = 1 << 3;
/// `paramchar` of a URI parameter, escapes aside.
pub(crate) const URI_PARAM: u16 = 1 << 4;
/// `hnv-unreserved / unreserved` of a URI header.
pub(crate) const URI_HEADER: u16 = 1 << 5;
/// Letters, digits, `-`, `.` (and `_`, see [`super::uri::UNDERSCORE_IN_HOST`]).
pub(crate) const HOST: u16 = 1 << 6;
/// `uric` of RFC 2396, escapes aside.
pub(crate) const URIC: u16 = 1 << 7;
/// Unquoted `gen-value`: token or host, so brackets and colons too.
pub(crate) const VALUE: u16 = 1 << 8;
/// SP, HTAB, and the CR and LF of a fold.
pub(crate) const BLANK: u16 = 1 << 9;
/// Digits.
pub(crate) const DIGIT: u16 = 1 << 10;
/// Hexadecimal digits.
pub(crate) const HEX: u16 = 1 << 11;
/// Digits and visual separators of a telephone number, `+`, `*`, `#` and the hexadecimal letters of RFC 3966.
pub(crate) const TELEPHONE: u16 = 1 << 12;
/// Letters, digits, `+`, `-`, `.`: a URI scheme.
pub(crate) const SCHEME: u16 = 1 << 13;
/// An unquoted display name without its blanks: `token` (and more, see [`super::header::UTF8_OUTSIDE_QUOTES`]).
pub(crate) const DISPLAY: u16 = 1 << 14;

const fn contains(set: &[u8], byte: u8) -> bool {
    let mut rest = set;
    while let [first, tail @ ..] = rest {
        if *first == byte {
            return true;
        }
        rest = tail;
    }
    false
}

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)] // evaluated by the compiler
const CLASSES: [u16; 256] = {
    let mut classes = [0; 256];
    let mut index = 0;
    while index < 256 {
        let byte = index as u8;
        let alphanumeric = byte.is_ascii_alphanumeric();
        let unreserved = alphanumeric || contains(b"-_.!~*'()", byte);
        let mut class = 0;
        if alphanumeric || contains(b"-.!%*_+`'~", byte) {
            class |= TOKEN | WORD | VALUE | DISPLAY;
        }
        if contains(b"()<>:\\\"/[]?{}", byte) {
            class |= WORD;
        }
        if super::parse::ANY_VISIBLE_CALL_ID && byte.is_ascii_graphic() && !contains(b",;", byte) {
            class |= WORD;
        }
        if super::header::UTF8_OUTSIDE_QUOTES && !byte.is_ascii() {
            class |= DISPLAY;
        }
        if contains(b":[]", byte) {
            class |= VALUE;
        }
        if unreserved || contains(b"&=+$,;?/", byte) {
            class |= USER;
        }
        if unreserved || contains(b"&=+$,", byte) {
            class |= PASSWORD;
        }
        if unreserved || contains(b"[]/:&+$", byte) {
            class |= URI_PARAM;
        }
        if unreserved || contains(b"[]/?:+$", byte) {
            class |= URI_HEADER;
        }
        if unreserved || contains(b";/?:@&=+$,[]", byte) {
            class |= URIC;
        }
        if alphanumeric || contains(b"-.", byte) || (byte == b'_' && super::uri::UNDERSCORE_IN_HOST)
        {
            class |= HOST;
        }
        if alphanumeric || contains(b"+-.", byte) {
            class |= SCHEME;
        }
        if contains(b" \t\r\n", byte) {
            class |= BLANK;
        }
        if byte.is_ascii_digit() {
            class |= DIGIT;
        }
        if byte.is_ascii_hexdigit() {
            class |= HEX;
        }
        if byte.is_ascii_hexdigit() || contains(b"-.()+*#", byte) {
            class |= TELEPHONE;
        }
        classes[index] = class;
        index += 1;
    }
    classes
};

/// Whether `byte` belongs to one of `classes`.
#[inline]
pub(crate) fn is(byte: u8, classes: u16) -> bool {
    CLASSES
        .get(usize::from(byte))
        .is_some_and(|class| class & classes != 0)
}

/// How many bytes at the start of `bytes` belong to `classes`.
#[inline]
pub(crate) fn span(bytes: &[u8], classes: u16) -> usize {
    bytes
        .iter()
        .position(|&byte| !is(byte, classes))
        .unwrap_or(bytes.len())
}

/// Whether `bytes` are one token (RFC 3261 §25.1).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && span(bytes, TOKEN) == bytes.len()
}

/// `bytes` without blanks and folds at both ends.
#[inline]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [first, tail @ ..] = rest
        && is(*first, BLANK)
    {
        rest = tail;
    }
    while let [head @ .., last] = rest
        && is(*last, BLANK)
    {
        rest = head;
    }
    rest
}

/// A number of digits only; `None` if it is none or larger than `max`. Leading zeros are legal (RFC 4475 §3.1.1.1).
#[inline]
pub(crate) fn number(bytes: &[u8], max: u64) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for &byte in bytes {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value
            .checked_mul(10)?
            .checked_add(u64::from(byte.wrapping_sub(b'0')))?;
    }
    (value <= max).then_some(value)
}

/// Where the first byte that ends a value at a comma stands: a comma outside quotes and angle brackets, else the end.
pub(crate) fn comma(bytes: &[u8]) -> usize {
    if memchr::memchr(b',', bytes).is_none() {
        return bytes.len();
    }
    let (mut quoted, mut bracket, mut escaped) = (false, false, false);
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !bracket => quoted = !quoted,
            b'<' if !quoted => bracket = true,
            b'>' if !quoted => bracket = false,
            b',' if !quoted && !bracket => return at,
            _ => {}
        }
    }
    bytes.len()
}

/// A place in a value being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Offset of the next byte.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// What lies between `start` and here.
    pub(crate) fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(crate) fn advance(&mut self, count: usize) {
        self.at = self.at.saturating_add(count).min(self.bytes.len());
    }

    #[inline]
    pub(crate) fn take(&mut self, classes: u16) -> &'a [u8] {
        let rest = self.rest();
        let (taken, _) = rest
            .split_at_checked(span(rest, classes))
            .unwrap_or((rest, &[]));
        self.advance(taken.len());
        taken
    }

    #[inline]
    pub(crate) fn skip_blanks(&mut self) {
        while self.peek().is_some_and(|byte| is(byte, BLANK)) {
            self.advance(1);
        }
    }

    /// Takes `byte` if it comes next.
    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.advance(1);
        }
        found
    }

    /// Takes `byte` with blanks around it (`SLASH`, `EQUAL`, `SEMI` and their like); the place is unchanged without it.
    #[inline]
    pub(crate) fn eat_separator(&mut self, byte: u8) -> bool {
        let before = self.at;
        self.skip_blanks();
        if self.eat(byte) {
            self.skip_blanks();
            return true;
        }
        self.at = before;
        false
    }

    /// The error of this kind, here.
    pub(crate) fn error<T>(&self, kind: ErrorKind) -> Result<T, Error> {
        Err(Error {
            kind,
            offset: self.at,
        })
    }

    /// A quoted string, with its quotes; the cursor stands on the first one.
    pub(crate) fn quoted_string(&mut self) -> Result<&'a [u8], Error> {
        let start = self.at;
        self.advance(1);
        loop {
            let Some(found) = memchr::memchr2(b'"', b'\\', self.rest()) else {
                return Err(Error {
                    kind: ErrorKind::Quotes,
                    offset: start,
                });
            };
            self.advance(found);
            if self.eat(b'"') {
                return Ok(self.since(start));
            }
            self.advance(1);
            // quoted-pair = "\" (%x00-09 / %x0B-0C / %x0E-7F)
            match self.peek() {
                Some(byte) if byte < 0x80 && byte != b'\r' && byte != b'\n' => self.advance(1),
                _ => return self.error(ErrorKind::Quotes),
            }
        }
    }

    /// One `name [= value]` behind a semicolon: token, and token, host or quoted string.
    #[inline]
    pub(crate) fn parameter(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), Error> {
        let name = self.take(TOKEN);
        if name.is_empty() {
            return self.error(ErrorKind::Parameter);
        }
        if !self.eat_separator(b'=') {
            return Ok((name, None));
        }
        let value = if self.peek() == Some(b'"') {
            self.quoted_string()?
        } else {
            self.take(VALUE)
        };
        if value.is_empty() {
            return self.error(ErrorKind::Parameter);
        }
        Ok((name, Some(value)))
    }
}
