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
/// Letters, digits, `-` (and `_`, see [`super::uri::UNDERSCORE_IN_HOST`]): a label of a host name.
pub(crate) const LABEL: u16 = 1 << 6;
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
        if alphanumeric || byte == b'-' || (byte == b'_' && super::uri::UNDERSCORE_IN_HOST) {
            class |= LABEL;
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

#[inline]
fn classes(byte: u8) -> u16 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Whether `byte` belongs to `class`.
#[inline]
pub(crate) fn is(byte: u8, class: u16) -> bool {
    classes(byte) & class != 0
}

/// What is left of `bytes` behind those at their start that belong to `classes`.
#[inline]
pub(crate) fn skip(bytes: &[u8], classes: u16) -> &[u8] {
    let length = bytes.iter().position(|&byte| !is(byte, classes));
    bytes
        .get(length.unwrap_or(bytes.len())..)
        .unwrap_or_default()
}

/// The same for one class and what is mostly longer than a word: four bytes at a time, since half of what is done for one is
/// to see whether there is another.
#[inline(never)]
pub(crate) fn skip_long(bytes: &[u8], class: u16) -> &[u8] {
    // Of several each byte could belong to another.
    debug_assert!(class.is_power_of_two());
    let mut rest = bytes;
    while let [a, b, c, d, tail @ ..] = rest
        && classes(*a) & classes(*b) & classes(*c) & classes(*d) & class != 0
    {
        rest = tail;
    }
    skip(rest, class)
}

/// What is left behind blanks. Mostly there are none.
#[inline]
pub(crate) fn skip_blanks(bytes: &[u8]) -> &[u8] {
    match bytes {
        [first, tail @ ..] if is(*first, BLANK) => skip_more_blanks(tail),
        _ => bytes,
    }
}

#[inline(never)]
fn skip_more_blanks(bytes: &[u8]) -> &[u8] {
    skip(bytes, BLANK)
}

/// How many bytes at the start of `bytes` belong to `classes`.
#[inline]
pub(crate) fn span(bytes: &[u8], classes: u16) -> usize {
    bytes.len().wrapping_sub(skip(bytes, classes).len())
}

/// The word each byte of which is this.
pub(crate) const fn all(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// The top bit of the lowest byte that is zero gets set, and of no byte below it.
#[inline]
pub(crate) const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(all(1)) & !word & all(0x80)
}

/// What is left of `bytes` from the first control byte on (RFC 5234 `CTL`), or from a byte behind 0xff that looks like one.
#[inline]
pub(crate) fn skip_to_control(bytes: &[u8]) -> &[u8] {
    // The top bit of a byte below 0x20 gets set by the one, of 0x7f by the other.
    let is_control = |word: u64| (word.wrapping_sub(all(0x20)) | word.wrapping_add(all(1))) & !word;
    skip_words(bytes, is_control, |byte| byte.is_ascii_control())
}

/// The value of the digit that `bytes` begin with, and what is behind it.
#[inline]
pub(crate) fn digit(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let digit = first.wrapping_sub(b'0');
    (digit < 10).then_some((digit, rest))
}

/// Where `byte` first stands. For what is near, that is within one URI or header value: eight bytes at a time, and nothing to
/// be chosen before as in memchr, which is for whole messages and many lines.
#[inline]
pub(crate) fn find(bytes: &[u8], byte: u8) -> Option<usize> {
    find_either(bytes, byte, byte)
}

/// Where the first of two bytes stands.
#[inline]
pub(crate) fn find_either(bytes: &[u8], one: u8, other: u8) -> Option<usize> {
    let is_either = |word| zeros(word ^ all(one)) | zeros(word ^ all(other));
    let rest = skip_words(bytes, is_either, |byte| byte == one || byte == other);
    (!rest.is_empty()).then(|| bytes.len().wrapping_sub(rest.len()))
}

/// What is left from the first byte on that is sought: `word` sets the top bit of the lowest such byte of eight, and of no
/// byte below it.
#[inline]
fn skip_words(bytes: &[u8], word: impl Fn(u64) -> u64, byte: impl Fn(u8) -> bool) -> &[u8] {
    let mut rest = bytes;
    while let Some((chunk, tail)) = rest.split_first_chunk() {
        let found = word(u64::from_le_bytes(*chunk)) & all(0x80);
        if found != 0 {
            let before = found.trailing_zeros() as usize / 8;
            return rest.get(before..).unwrap_or_default();
        }
        rest = tail;
    }
    while let [first, tail @ ..] = rest
        && !byte(*first)
    {
        rest = tail;
    }
    rest
}

/// Whether `name` is `known` without regard to case. Most write names as the RFCs do, so that is looked at first, in two
/// parts that overlap.
#[inline]
pub(crate) fn is_name(name: &[u8], known: &[u8]) -> bool {
    macro_rules! parts {
        ($size:literal) => {
            name.first_chunk::<$size>() == known.first_chunk()
                && name.last_chunk::<$size>() == known.last_chunk()
        };
    }
    let same = match known.len() {
        _ if known.len() != name.len() => return false,
        8..=16 => parts!(8),
        4..=7 => parts!(4),
        2..=3 => parts!(2),
        _ => name == known,
    };
    let is_alike = |(one, other): (&u8, &u8)| (one ^ other) & !0x20 == 0;
    same || (name.first().zip(known.first()).is_some_and(is_alike) && is_in_other_case(name, known))
}

#[cold]
#[inline(never)]
fn is_in_other_case(name: &[u8], known: &[u8]) -> bool {
    name.eq_ignore_ascii_case(known)
}

/// Whether `bytes` are one token (RFC 3261 §25.1).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && skip(bytes, TOKEN).is_empty()
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
    let Some(at) = find(bytes, b',') else {
        return bytes.len();
    };
    let before = bytes.get(..at).unwrap_or_default();
    if find_either(before, b'"', b'<').is_none() {
        return at;
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

/// What is left of `bytes`, which begin with `%`, behind bytes that belong to `class` or are escapes (`%` and two hexadecimal
/// digits). It begins with `%` only if that begins no escape.
#[cold]
fn skip_escapes(bytes: &[u8], class: u16) -> &[u8] {
    let mut rest = bytes;
    while let [b'%', high, low, tail @ ..] = rest
        && is(*high, HEX)
        && is(*low, HEX)
    {
        rest = skip(tail, class);
    }
    rest
}

/// A place in a value being read: by what is left of it, so that no step needs more than one check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor<'a> {
    whole: &'a [u8],
    /// Always an end of `whole`.
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            whole: bytes,
            rest: bytes,
        }
    }

    /// Offset of the next byte.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.whole.len().wrapping_sub(self.rest.len())
    }

    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// What lies between here and a place before, given by what was left there; nothing if that place is behind this one.
    #[inline]
    pub(crate) fn since(&self, before: &'a [u8]) -> &'a [u8] {
        let length = before.len().saturating_sub(self.rest.len());
        before.get(..length).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    #[inline]
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn advance(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    #[inline]
    pub(crate) fn take(&mut self, classes: u16) -> &'a [u8] {
        let before = self.rest;
        self.rest = skip(before, classes);
        self.since(before)
    }

    /// Takes bytes of `class` and escapes.
    #[inline]
    pub(crate) fn take_escaped(&mut self, class: u16) -> Result<&'a [u8], Error> {
        let before = self.rest;
        self.rest = skip(before, class);
        if let [b'%', ..] = self.rest {
            self.rest = skip_escapes(self.rest, class);
            if let [b'%', ..] = self.rest {
                return self.error(ErrorKind::Uri);
            }
        }
        Ok(self.since(before))
    }

    #[inline]
    pub(crate) fn skip_blanks(&mut self) {
        self.rest = skip_blanks(self.rest);
    }

    /// Takes `byte` if it comes next.
    #[inline]
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        match self.rest {
            [first, tail @ ..] if *first == byte => {
                self.rest = tail;
                true
            }
            _ => false,
        }
    }

    /// Takes a digit: its value.
    #[inline]
    pub(crate) fn digit(&mut self) -> Option<u8> {
        let (digit, rest) = digit(self.rest)?;
        self.rest = rest;
        Some(digit)
    }

    /// The place where `rest` is left, an end of what is left here.
    #[inline]
    pub(crate) fn behind(&self, rest: &'a [u8]) -> Self {
        Self { rest, ..*self }
    }

    /// Takes `byte` with blanks around it (`SLASH`, `EQUAL`, `SEMI` and their like); the place is unchanged without it.
    #[inline(always)]
    pub(crate) fn eat_separator(&mut self, byte: u8) -> bool {
        match skip_blanks(self.rest) {
            [first, tail @ ..] if *first == byte => {
                self.rest = skip_blanks(tail);
                true
            }
            _ => false,
        }
    }

    /// The error of this kind, here.
    #[inline]
    pub(crate) fn error<T>(&self, kind: ErrorKind) -> Result<T, Error> {
        Err(Error::new(kind, self.at()))
    }

    /// A quoted string, with its quotes; the cursor stands on the first one, and after an error where the string could not
    /// go on.
    #[inline]
    pub(crate) fn quoted_string(&mut self) -> Result<&'a [u8], Error> {
        let (before, start) = (self.rest, self.at());
        match skip_quoted(before) {
            Ok(rest) => {
                self.rest = rest;
                Ok(self.since(before))
            }
            Err((rest, wrong)) => {
                self.rest = rest;
                let offset = match wrong {
                    Wrong::NoEnd => start,
                    Wrong::Escape => self.at(),
                };
                Err(Error::new(ErrorKind::Quotes, offset))
            }
        }
    }

    /// One `name [= value]` behind a semicolon: token, and token, host or quoted string.
    #[inline(always)]
    pub(crate) fn parameter(&mut self) -> Result<Parameter<'a>, Error> {
        let name = self.take(TOKEN);
        if name.is_empty() {
            return self.error(ErrorKind::Parameter);
        }
        let mut parameter = Parameter {
            name,
            value: None,
            is_token: false,
        };
        if !self.eat_separator(b'=') {
            return Ok(parameter);
        }
        if self.peek() == Some(b'"') {
            parameter.value = Some(self.quoted_string()?);
            return Ok(parameter);
        }
        let before = self.rest;
        let behind_token = skip_long(before, TOKEN);
        // A host may have more than a token.
        self.rest = match behind_token {
            [b'[' | b']' | b':', ..] => skip_long(behind_token, VALUE),
            _ => behind_token,
        };
        let value = self.since(before);
        if value.is_empty() {
            return self.error(ErrorKind::Parameter);
        }
        parameter.value = Some(value);
        parameter.is_token = behind_token.len() == self.rest.len();
        Ok(parameter)
    }
}

/// What is left behind the quoted string that `bytes` begin with.
///
/// # Errors
/// What is left where what is wrong stands, and that.
#[inline(never)]
fn skip_quoted(bytes: &[u8]) -> Result<&[u8], (&[u8], Wrong)> {
    let mut rest = bytes.get(1..).unwrap_or_default();
    while let Some(at) = find_either(rest, b'"', b'\\') {
        match rest.get(at..).unwrap_or_default() {
            [b'"', tail @ ..] => return Ok(tail),
            // quoted-pair = "\" (%x00-09 / %x0B-0C / %x0E-7F)
            [_, 0..=9 | 11..=12 | 14..=0x7f, tail @ ..] => rest = tail,
            [_, tail @ ..] => return Err((tail, Wrong::Escape)),
            [] => break,
        }
    }
    Err((rest, Wrong::NoEnd))
}

/// What is wrong with a quoted string.
enum Wrong {
    NoEnd,
    /// The byte behind a backslash.
    Escape,
}

/// See [`Cursor::parameter`].
#[derive(Clone, Copy)]
pub(crate) struct Parameter<'a> {
    pub(crate) name: &'a [u8],
    /// Never empty.
    pub(crate) value: Option<&'a [u8]>,
    is_token: bool,
}

impl<'a> Parameter<'a> {
    #[inline]
    pub(crate) fn is(&self, name: &[u8]) -> bool {
        is_name(self.name, name)
    }

    /// The value if it is a token.
    #[inline]
    pub(crate) fn token(&self) -> Option<&'a [u8]> {
        self.value.filter(|_| self.is_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sought at each place among each of some others, behind 0 to 20 bytes: in words and in what is left of them.
    #[test]
    fn finds_what_it_seeks_at_every_place() {
        for fill in [b'a', b' ', b'~', 0x80, 0xff, b'"' + 1, b'"' - 1] {
            for length in 0..20 {
                let mut bytes = vec![fill; length];
                assert_eq!(find(&bytes, b'"'), None);
                assert!(skip_to_control(&bytes).is_empty());
                for at in 0..length {
                    bytes[at] = b'"';
                    assert_eq!(find(&bytes, b'"'), Some(at));
                    assert_eq!(find_either(&bytes, b'\\', b'"'), Some(at));
                    bytes[length - 1] = b'\\';
                    assert_eq!(find_either(&bytes, b'\\', b'"'), Some(at));
                    for control in [0, b'\t', 0x1f, 0x7f] {
                        bytes[at] = control;
                        assert_eq!(skip_to_control(&bytes), &bytes[at..]);
                    }
                    bytes[length - 1] = fill;
                    bytes[at] = fill;
                }
            }
        }
    }

    #[test]
    fn long_and_short_walks_end_at_the_same_place() {
        for length in 0..20 {
            for at in 0..=length {
                let mut bytes = vec![b'a'; length];
                bytes[at..].fill(b';');
                assert_eq!(skip(&bytes, TOKEN), &bytes[at..]);
                assert_eq!(skip_long(&bytes, TOKEN), &bytes[at..]);
                assert_eq!(span(&bytes, TOKEN), at);
            }
        }
    }

    #[test]
    fn nothing_lies_between_here_and_a_place_behind() {
        let bytes = b"<sip:a@b> , <sip:c@d>";
        let mut cursor = Cursor::new(bytes);
        cursor.advance(9);
        assert_eq!(cursor.since(bytes), b"<sip:a@b>");
        assert_eq!(cursor.since(skip_blanks(cursor.rest())), b"");
    }

    #[test]
    fn names_are_alike_in_any_case_and_no_others() {
        for known in [
            "q",
            "lr",
            "tag",
            "rport",
            "expires",
            "received",
            "cnonce",
            "+sip.instance",
        ] {
            let known = known.as_bytes();
            assert!(is_name(known, known));
            assert!(is_name(&known.to_ascii_uppercase(), known));
            for at in 0..known.len() {
                let mut other = known.to_vec();
                other[at] ^= 1;
                assert!(!is_name(&other, known));
                // A letter in the other case, or another byte.
                other[at] = known[at] ^ 0x20;
                assert_eq!(is_name(&other, known), known[at].is_ascii_alphabetic());
            }
            assert!(!is_name(&known[1..], known));
        }
    }

    #[test]
    fn values_end_at_commas_outside_quotes_and_brackets() {
        for (text, at) in [
            ("", 0),
            ("a", 1),
            ("a,b", 1),
            ("a b c d e f g h,\"", 15),
            ("\"a,b\",c", 5),
            ("\"a\\\",b\",c", 7),
            ("<a,b>,c", 5),
            ("\"<\",c", 3),
            ("\"a,b", 4),
        ] {
            assert_eq!(comma(text.as_bytes()), at, "{text}");
        }
    }
}
