//! Via (RFC 3261 §20.42, RFC 3581).

use std::net::IpAddr;

use crate::message::scan::{self, Cursor};
use crate::message::uri::{take_host, take_port};
use crate::message::{Error, ErrorKind, Params};

/// A topmost Via (§20.42).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, as received.
    pub transport: &'a [u8],
    /// Host of sent-by as received, IPv6 references with their brackets.
    pub host: &'a [u8],
    /// The same, if it is an address.
    pub address: Option<IpAddr>,
    /// Port of sent-by.
    pub port: Option<u16>,
    /// The branch; empty when there is none (RFC 2543).
    pub branch: &'a [u8],
    /// Whether `rport` stands there without a value (RFC 3581).
    pub rport: bool,
    /// Value of `maddr`.
    pub maddr: Option<&'a [u8]>,
    /// All parameters as received, from the first `;`.
    pub params: Params<'a>,
}

impl<'a> Via<'a> {
    /// Parses one value, or the first of several that are joined by commas. `branch`, `rport`, `maddr` and `received` stand
    /// at most once.
    ///
    /// # Errors
    /// Malformed, or not of SIP/2.0. Offset is within `value`.
    pub fn parse(value: &'a [u8]) -> Result<Self, Error> {
        let mut cursor = Cursor::new(value);
        let mut via = Self::take_sent_by(&mut cursor, b"2.0")?;
        let behind_sent_by = cursor.rest();
        let (mut rport, mut received) = (false, false);
        while cursor.eat_separator(b';') {
            let parameter = cursor.parameter()?;
            let doubled = if parameter.is(b"branch") {
                let doubled = !via.branch.is_empty();
                via.branch = parameter.token().unwrap_or_default();
                doubled || via.branch.is_empty()
            } else if parameter.is(b"rport") {
                via.rport = parameter.value.is_none();
                std::mem::replace(&mut rport, true)
            } else if parameter.is(b"maddr") {
                let maddr = parameter.value.unwrap_or_default();
                via.maddr.replace(maddr).is_some()
            } else if parameter.is(b"received") {
                std::mem::replace(&mut received, true)
            } else {
                false
            };
            if doubled {
                return cursor.error(ErrorKind::Parameter);
            }
        }
        via.params = Params(cursor.since(scan::skip_blanks(behind_sent_by)));
        cursor.skip_blanks();
        match cursor.peek() {
            None | Some(b',') => Ok(via),
            Some(_) => cursor.error(ErrorKind::Via),
        }
    }

    /// Reads protocol and sent-by, and of the parameters what can be had: for the answer to a broken request.
    pub(crate) fn salvage(value: &'a [u8]) -> Result<Self, Error> {
        let value = value.get(..scan::comma(value)).unwrap_or(value);
        let mut cursor = Cursor::new(value);
        // Of any version: 505 has a Via of that version to repeat.
        let version = value.split(|&byte| byte == b'/').nth(1).map(scan::trim);
        let mut via = Self::take_sent_by(&mut cursor, version.unwrap_or_default())?;
        via.params = Params(scan::trim(cursor.rest()));
        if !via.params.0.is_empty() && !via.params.0.starts_with(b";") {
            return cursor.error(ErrorKind::Via);
        }
        via.branch = via.params.get("branch").unwrap_or_default();
        via.rport = via.params.get("rport").is_some_and(<[u8]>::is_empty);
        via.maddr = via.params.get("maddr");
        Ok(via)
    }

    /// `sent-protocol LWS sent-by`
    #[inline(always)]
    fn take_sent_by(cursor: &mut Cursor<'a>, version: &[u8]) -> Result<Self, Error> {
        cursor.skip_blanks();
        let transport = match cursor.rest() {
            // By far the most common spelling, in one comparison.
            [b'S', b'I', b'P', b'/', b'2', b'.', b'0', b'/', next, ..]
                if !scan::is(*next, scan::BLANK) =>
            {
                cursor.advance(8);
                cursor.take(scan::TOKEN)
            }
            _ => {
                let protocol = cursor.take(scan::TOKEN);
                if !protocol.eq_ignore_ascii_case(b"SIP")
                    || !cursor.eat_separator(b'/')
                    || cursor.take(scan::TOKEN) != version
                    || !cursor.eat_separator(b'/')
                {
                    return cursor.error(ErrorKind::Via);
                }
                cursor.take(scan::TOKEN)
            }
        };
        if transport.is_empty()
            || !cursor
                .peek()
                .is_some_and(|byte| scan::is(byte, scan::BLANK))
        {
            return cursor.error(ErrorKind::Via);
        }
        cursor.skip_blanks();
        let start = cursor.rest();
        let address = take_host(cursor)?.address();
        let host = cursor.since(start);
        let port = if cursor.eat_separator(b':') {
            Some(take_port(cursor)?)
        } else {
            None
        };
        Ok(Self {
            transport,
            host,
            address,
            port,
            branch: b"",
            rport: false,
            maddr: None,
            params: Params(b""),
        })
    }
}
