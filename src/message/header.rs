//! Typed views of header values (RFC 3261 §20, §25). (H1 splits this into header/{via,name_addr,cseq,contact,params,auth}.rs)

use super::*;

/// Header names that sipkeep knows, compact forms included (RFC 3261 §7.3.3). (H1 completes the list.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum HeaderName {
    Via, From, To, CallId, CSeq, MaxForwards, Contact, ContentLength, ContentType, ContentDisposition,
    ContentEncoding, ContentLanguage, Expires, MinExpires, Authorization, ProxyAuthorization, WwwAuthenticate,
    ProxyAuthenticate, AuthenticationInfo, Route, RecordRoute, Path, ServiceRoute, Require, ProxyRequire, Supported,
    Unsupported, Allow, AllowEvents, Accept, AcceptEncoding, AcceptLanguage, UserAgent, Server, Date, Timestamp,
    Subject, AlertInfo, CallInfo, UserToUser, Reason, Diversion, HistoryInfo, Privacy, PAssertedIdentity,
    PPreferredIdentity, PCalledPartyId, PAssociatedUri, RetryAfter, Warning, Event, SubscriptionState, ReferTo,
    ReferredBy, Replaces, SessionExpires, MinSe, RAck, RSeq, MimeVersion, Organization, Priority, InReplyTo, ReplyTo,
    ErrorInfo, Other,
}

/// One header line.
#[derive(Clone, Copy, Debug)]
pub struct HeaderLine<'a> {
    /// Which header.
    pub name: HeaderName,
    /// The name as received.
    pub raw_name: &'a [u8],
    /// The value, trimmed of blanks, folding left in.
    pub value: &'a [u8],
}

/// RFC 3261 §20.16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'a> {
    /// Below 2^31.
    pub number: u32,
    /// The method.
    pub method: Method,
    /// Its token.
    pub token: &'a [u8],
}

/// A topmost Via (§20.42).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, as received.
    pub transport: &'a [u8],
    /// Host of sent-by as received, IPv6 references with their brackets.
    pub host: &'a [u8],
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
}

impl<'a> NameAddr<'a> {
    /// Parses one value.
    ///
    /// # Errors
    /// Offset is within `value`.
    pub fn parse(value: &'a [u8]) -> Result<Self, Error> {
        let _ = value;
        todo!()
    }

    /// The tag parameter; `None` without, never empty.
    pub fn tag(&self) -> Option<&'a [u8]> {
        todo!()
    }
}

/// `;name=value` lists (generic-param, uri-parameter). Values may be tokens, hosts or quoted strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params<'a>(pub &'a [u8]);

impl<'a> Params<'a> {
    /// The parameter of this name (case-insensitive): `None` if absent, empty without a value.
    /// Quoted values come with their quotes.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        let _ = name;
        todo!()
    }

    /// Name and value (if any) of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        std::iter::empty()
    }
}

/// One Contact value.
#[derive(Clone, Copy, Debug)]
pub struct Contact<'a> {
    /// URI, display name, parameters.
    pub address: NameAddr<'a>,
    /// `q` in thousandths (RFC 3261 §20.10), 1000 if absent.
    pub q: u16,
    /// `expires` in seconds; a malformed one counts as 3600 (§10.2.1.1), an overlarge one as 2^32-1.
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

/// RFC 3261 §20.7, RFC 7616 §3.4, RFC 8760: `Digest` credentials and challenges.
pub mod auth {
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

    impl<'a> DigestParams<'a> {
        /// Parses a header value; `Ok(None)` for a scheme other than Digest.
        ///
        /// # Errors
        /// Malformed, or a parameter twice.
        pub fn parse(value: &'a [u8]) -> Result<Option<Self>, crate::message::Error> {
            let _ = value;
            todo!()
        }
    }
}
