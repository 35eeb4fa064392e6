//! Header and URI parameters (RFC 3261 §7.3.1, §19.1.1), read where the value around them was validated.

use crate::message::scan::{self, Cursor};

/// `;name=value` lists (generic-param, uri-parameter). Values may be tokens, hosts or quoted strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params<'a>(pub &'a [u8]);

impl<'a> Params<'a> {
    /// The parameter of this name (case-insensitive): `None` if absent, empty without a value.
    /// Quoted values come with their quotes. Of several the first counts.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.iter()
            .find(|(candidate, _)| candidate.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value.unwrap_or_default())
    }

    /// Name and value (if any) of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut cursor = Cursor::new(self.0);
        std::iter::from_fn(move || {
            loop {
                if !cursor.eat_separator(b';') {
                    return None;
                }
                // Empty ones can only be where nothing was validated.
                if let Some(parameter) = one(&mut cursor) {
                    return Some(parameter);
                }
            }
        })
    }
}

/// The parameter at the cursor, which ends up at the next semicolon or the end.
fn one<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let rest = cursor.rest();
    let name = rest
        .iter()
        .position(|&byte| is_delimiter(byte))
        .unwrap_or(rest.len());
    let start = cursor.at();
    cursor.advance(name);
    let name = cursor.since(start);
    let mut value = None;
    if cursor.eat_separator(b'=') {
        let start = cursor.at();
        if cursor.peek() != Some(b'"') || cursor.quoted_string().is_err() {
            let rest = cursor.rest();
            cursor.advance(
                rest.iter()
                    .position(|&b| is_delimiter(b))
                    .unwrap_or(rest.len()),
            );
        }
        value = Some(cursor.since(start));
    }
    cursor.advance(memchr::memchr(b';', cursor.rest()).unwrap_or(usize::MAX));
    (!name.is_empty()).then_some((name, value))
}

fn is_delimiter(byte: u8) -> bool {
    byte == b';' || byte == b'=' || scan::is(byte, scan::BLANK)
}
