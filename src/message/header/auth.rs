//! RFC 3261 §20.7, RFC 7616 §3.4, RFC 8760: `Digest` credentials and challenges.

use crate::message::scan::{self, Cursor};
use crate::message::{Error, ErrorKind};

/// Leniency: any parameter may stand quoted or as a token. RFC 2617 and 7616 fix which is which, but many phones quote
/// `qop`, `algorithm` and `nc`, and some leave the quotes off elsewhere.
pub const ANY_QUOTING: bool = true;

/// The parameters of one `Digest …` value, credentials and challenges alike; unquoted, escapes left in, each at most once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DigestParams<'a> {
    pub username: Option<&'a [u8]>,
    pub realm: Option<&'a [u8]>,
    pub nonce: Option<&'a [u8]>,
    pub uri: Option<&'a [u8]>,
    pub response: Option<&'a [u8]>,
    pub algorithm: Option<&'a [u8]>,
    pub cnonce: Option<&'a [u8]>,
    pub opaque: Option<&'a [u8]>,
    pub qop: Option<&'a [u8]>,
    pub nc: Option<&'a [u8]>,
    pub stale: Option<&'a [u8]>,
    pub domain: Option<&'a [u8]>,
}

fn is_usually_bare(name: &[u8]) -> bool {
    let bare = [b"algorithm".as_slice(), b"nc", b"stale"];
    bare.iter().any(|known| scan::is_name(name, known))
}

impl<'a> DigestParams<'a> {
    /// Parses a header value; `Ok(None)` for a scheme other than Digest.
    ///
    /// # Errors
    /// Malformed, or a parameter twice.
    pub fn parse(value: &'a [u8]) -> Result<Option<Self>, Error> {
        let mut cursor = Cursor::new(value);
        cursor.skip_blanks();
        let scheme = cursor.take(scan::TOKEN);
        if scheme.is_empty() {
            return cursor.error(ErrorKind::Digest);
        }
        if !scan::is_name(scheme, b"Digest") {
            return Ok(None);
        }
        if !cursor
            .peek()
            .is_some_and(|byte| scan::is(byte, scan::BLANK))
        {
            return cursor.error(ErrorKind::Digest);
        }
        cursor.skip_blanks();
        let mut params = Self::default();
        loop {
            let name = cursor.take(scan::TOKEN);
            if name.is_empty() || !cursor.eat_separator(b'=') {
                return cursor.error(ErrorKind::Digest);
            }
            let quoted = cursor.peek() == Some(b'"');
            if !ANY_QUOTING && quoted == is_usually_bare(name) {
                return cursor.error(ErrorKind::Digest);
            }
            let value = if quoted {
                let quoted = cursor.quoted_string()?;
                quoted
                    .strip_prefix(b"\"")
                    .and_then(|rest| rest.strip_suffix(b"\""))
            } else {
                Some(cursor.take(scan::TOKEN)).filter(|token| !token.is_empty())
            };
            let Some(value) = value else {
                return cursor.error(ErrorKind::Digest);
            };
            if let Some(place) = params.place(name)
                && place.replace(value).is_some()
            {
                return cursor.error(ErrorKind::Digest);
            }
            if !cursor.eat_separator(b',') {
                break;
            }
        }
        cursor.skip_blanks();
        if cursor.is_at_end() {
            Ok(Some(params))
        } else {
            cursor.error(ErrorKind::Digest)
        }
    }

    fn place(&mut self, name: &[u8]) -> Option<&mut Option<&'a [u8]>> {
        let is = |known: &[u8]| scan::is_name(name, known);
        // By length first: most names are then compared with two others at most.
        Some(match name.len() {
            2 if is(b"nc") => &mut self.nc,
            3 if is(b"uri") => &mut self.uri,
            3 if is(b"qop") => &mut self.qop,
            5 if is(b"realm") => &mut self.realm,
            5 if is(b"nonce") => &mut self.nonce,
            5 if is(b"stale") => &mut self.stale,
            6 if is(b"cnonce") => &mut self.cnonce,
            6 if is(b"opaque") => &mut self.opaque,
            6 if is(b"domain") => &mut self.domain,
            8 if is(b"username") => &mut self.username,
            8 if is(b"response") => &mut self.response,
            9 if is(b"algorithm") => &mut self.algorithm,
            _ => return None,
        })
    }
}
