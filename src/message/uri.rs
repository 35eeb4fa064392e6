//! RFC 3261 §19.1, RFC 3966: URIs.

use super::*;
use std::net::IpAddr;

/// Schemes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scheme {
    Sip,
    Sips,
    Tel,
    Other,
}

/// Host part of a SIP URI or sent-by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// IPv4 address or IPv6 reference, canonical.
    Address(IpAddr),
    /// A name.
    Name(&'a [u8]),
}

impl<'a> Host<'a> {
    /// Parses `host` (RFC 3261 §25), IPv6 references in brackets; `None` if malformed.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let _ = bytes;
        todo!()
    }
}

/// A URI in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// The whole.
    pub raw: &'a [u8],
    /// Its scheme.
    pub scheme: Scheme,
    /// User part still escaped, without password; for `tel:` the number. Empty if none.
    pub user: &'a [u8],
    /// Host; for tel and unknown schemes an empty name.
    pub host: Host<'a>,
    /// Host as received, with brackets.
    pub host_raw: &'a [u8],
    /// Port.
    pub port: Option<u16>,
    /// URI parameters from the first `;`.
    pub params: Params<'a>,
    /// Headers behind `?`, as received.
    pub headers: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Parses a SIP, SIPS, tel or other absolute URI that fills `bytes`.
    ///
    /// # Errors
    /// Offset is within `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let _ = bytes;
        todo!()
    }

    /// The user part unescaped, into `out` (cleared first). A raw `#` is read.
    pub fn user_unescaped(&self, out: &mut Vec<u8>) {
        let _ = out;
        todo!()
    }

    /// Equality of RFC 3261 §19.1.4.
    pub fn equals(&self, other: &Uri<'_>) -> bool {
        let _ = other;
        todo!()
    }
}
