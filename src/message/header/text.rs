//! Comma-joined values, and texts for people (RFC 3261 §7.3.1, §25.1).

use crate::message::scan;

/// The values of one header line, split at commas outside quotes and angle brackets, trimmed; empty ones are left out.
pub fn split_values(value: &[u8]) -> Values<'_> {
    Values { rest: value }
}

/// See [`split_values`].
#[derive(Clone, Debug)]
pub struct Values<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (value, behind) = self
                .rest
                .split_at_checked(scan::comma(self.rest))
                .unwrap_or((self.rest, b""));
            self.rest = behind.strip_prefix(b",").unwrap_or_default();
            let value = scan::trim(value);
            if !value.is_empty() {
                return Some(value);
            }
        }
        None
    }
}

/// What somebody has written, for people: control characters as blanks, and no more than `max` bytes of UTF-8.
pub fn printable(text: &[u8], max: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let mut printable = String::new();
    for character in text.trim().chars() {
        if printable.len().saturating_add(character.len_utf8()) > max {
            break;
        }
        printable.push(match character.is_control() {
            true => ' ',
            false => character,
        });
    }
    printable
}

/// Appends `text` as a quoted string: quotes and backslashes escaped, control bytes as blanks.
pub fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        if byte == b'"' || byte == b'\\' {
            out.push(b'\\');
        }
        out.push(if byte.is_ascii_control() { b' ' } else { byte });
    }
    out.push(b'"');
}

/// Appends what `text` says: a quoted string without quotes and escapes; anything else as it is. Each blank of a fold
/// becomes one SP.
pub fn unquote(text: &[u8], out: &mut Vec<u8>) {
    let inner = text
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let mut escaped = false;
    for &byte in inner.unwrap_or(text) {
        if byte == b'\\' && inner.is_some() && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        out.push(if matches!(byte, b'\r' | b'\n' | b'\t') {
            b' '
        } else {
            byte
        });
    }
}
