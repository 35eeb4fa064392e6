//! Contact (RFC 3261 §20.10).

use crate::message::scan::{self, Cursor};
use crate::message::{Error, ErrorKind, Message, NameAddr, Uri};

/// One Contact value.
#[derive(Clone, Copy, Debug)]
pub struct Contact<'a> {
    /// URI, display name, parameters.
    pub address: NameAddr<'a>,
    /// The URI in parts.
    pub uri: Uri<'a>,
    /// `q` in thousandths (RFC 3261 §20.10), 1000 if absent.
    pub q: u16,
    /// `expires` in seconds, as [`Message::expires`] reads them.
    pub expires: Option<u32>,
}

/// What Contact says.
pub enum ContactValue<'m, 'a> {
    /// No Contact header.
    None,
    /// `Contact: *`, alone.
    Star,
    /// One or more.
    Values(&'m Message<'a>),
}

impl<'a> Contact<'a> {
    /// Parses one value.
    ///
    /// # Errors
    /// Not an address, or a `q` that is no qvalue. Offset is within `value`.
    pub fn parse(value: &'a [u8]) -> Result<Self, Error> {
        let mut cursor = Cursor::new(value);
        let contact = Self::take(&mut cursor)?;
        if !cursor.is_at_end() {
            return cursor.error(ErrorKind::Address);
        }
        contact.ok_or(BAD_Q)
    }

    /// Parses a whole header line: values joined by commas, none of them empty or `*`, at most so many. The first, and how
    /// many there are.
    pub(crate) fn parse_line(value: &'a [u8], most: usize) -> Result<(Self, usize), Error> {
        let mut cursor = Cursor::new(value);
        let mut first = None;
        for count in 1..=most {
            let one = Self::take(&mut cursor)?.ok_or(BAD_Q)?;
            let first = *first.get_or_insert(one);
            if !cursor.eat(b',') {
                return Ok((first, count));
            }
        }
        cursor.error(ErrorKind::Contact)
    }

    /// Takes one value of a list; `None` if its `q` is no qvalue.
    #[inline]
    fn take(cursor: &mut Cursor<'a>) -> Result<Option<Self>, Error> {
        let (mut q, mut expires) = (Some(1000), None);
        let mut uri = Uri::EMPTY;
        let address = NameAddr::take(cursor, &mut uri, |parameter| {
            if parameter.is(b"q") {
                q = q.and(parameter.value.and_then(thousandths));
            } else if parameter.is(b"expires") {
                expires = Some(expiry_seconds(parameter.value.unwrap_or_default()));
            }
        })?;
        Ok(q.map(|q| Self {
            address,
            uri,
            q,
            expires,
        }))
    }
}

const BAD_Q: Error = Error::new(ErrorKind::Contact, 0);

/// delta-seconds of an expiry (§20.19, §25.1): a malformed one counts as 3600 (§10.2.1.1), an overlarge one as 2^32-1.
pub(crate) fn expiry_seconds(value: &[u8]) -> u32 {
    if value.is_empty() || scan::span(value, scan::DIGIT) != value.len() {
        return 3600;
    }
    let number = scan::number(value, u64::from(u32::MAX));
    number
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or(u32::MAX)
}

/// The delta-seconds that a value begins with, an overlarge one as 2^32-1; `None`: it begins with no digit.
pub(crate) fn leading_seconds(value: &[u8]) -> Option<u32> {
    let digits = scan::span(value, scan::DIGIT);
    let (digits, _) = value.split_at_checked(digits)?;
    (!digits.is_empty()).then(|| expiry_seconds(digits))
}

/// `qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )`, in thousandths.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, rest) = value.split_first()?;
    let digits = match rest {
        [] => rest,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let mut fraction = 0u16;
    for place in 0..3 {
        let digit = digits.get(place).copied().unwrap_or(b'0');
        if !digit.is_ascii_digit() {
            return None;
        }
        fraction = fraction
            .saturating_mul(10)
            .saturating_add(u16::from(digit.wrapping_sub(b'0')));
    }
    match (whole, fraction) {
        (b'0', _) => Some(fraction),
        (b'1', 0) => Some(1000),
        _ => None,
    }
}
