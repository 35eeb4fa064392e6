//! Why bytes are not a SIP message, and where.

use super::HeaderName;

/// What is wrong, in words for a reason phrase or a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Byte offset of the trouble within what was parsed.
    pub offset: usize,
}

impl Error {
    pub(crate) const fn new(kind: ErrorKind, offset: usize) -> Self {
        Self { kind, offset }
    }

    /// The same trouble seen from where its bytes lie in something larger, named after that.
    pub(crate) fn within(self, kind: ErrorKind, start: usize) -> Self {
        Self {
            kind,
            offset: self.offset.saturating_add(start),
        }
    }
}

impl std::fmt::Display for Error {
    /// `Bad Via at byte 71`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}", self.kind.reason(), self.offset)
    }
}

impl std::error::Error for Error {}

/// Kinds of errors; `status` maps each to the response it deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// More than [`crate::limits::MESSAGE_BYTES_MAX`] bytes.
    TooLong,
    /// More than [`crate::limits::HEADER_LINES_MAX`] header lines.
    TooManyHeaders,
    /// Not a Request-Line or Status-Line.
    StartLine,
    /// A start line of another SIP version (RFC 3261 §21.5.6).
    Version,
    /// The Request-URI is malformed, or has headers (RFC 3261 §19.1.1).
    RequestUri,
    /// CR or LF alone, or a fold behind the start line.
    LineEnding,
    /// NUL or another control byte in the header part, other than a quoted pair.
    ControlByte,
    /// A header line without a colon, or its name is no token.
    HeaderName,
    /// No blank line behind the header lines.
    Unterminated,
    /// A header that may stand once stands twice.
    Doubled(HeaderName),
    /// A header that no message does without is missing.
    Missing(HeaderName),
    /// The topmost Via is malformed, or not of SIP/2.0.
    Via,
    /// From is malformed.
    From,
    /// To is malformed.
    To,
    /// Call-ID is malformed.
    CallId,
    /// CSeq is malformed or its number not below 2^31.
    CSeq,
    /// CSeq names another method than the Request-Line.
    CSeqMethod,
    /// Max-Forwards is no number from 0 to 255.
    MaxForwards,
    /// Content-Length is no number.
    ContentLength,
    /// Content-Length is larger than what came.
    ContentLengthBeyond,
    /// A Contact is malformed, or `*` is not alone.
    Contact,
    /// A quoted string does not end, or has an illegal escape.
    Quotes,
    /// A parameter without name or value, or with illegal bytes, or doubled.
    Parameter,
    /// Not a name-addr or addr-spec.
    Address,
    /// A URI has no scheme, or illegal bytes or escapes.
    Uri,
    /// A host is no name, IPv4 address or IPv6 reference.
    Host,
    /// A port is no number up to 65535.
    Port,
    /// Not the parameters of a Digest.
    Digest,
}

impl ErrorKind {
    /// 400, 505, 513: what a proven source's request is answered with (RFC 3261 §21.4.1, §21.5.6, §21.5.7).
    pub const fn status(self) -> u16 {
        match self {
            Self::TooLong => 513,
            Self::Version => 505,
            _ => 400,
        }
    }

    /// For a reason phrase: `Bad Via`, `Content-Length beyond datagram`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "Message Too Large",
            Self::TooManyHeaders => "Too many header fields",
            Self::StartLine => "Bad start line",
            Self::Version => "Version Not Supported",
            Self::RequestUri => "Bad Request-URI",
            Self::LineEnding => "Bare CR or LF",
            Self::ControlByte => "Control byte in header",
            Self::HeaderName => "Bad header field name",
            Self::Unterminated => "No blank line behind header",
            Self::Doubled(name) => match name {
                HeaderName::From => "Doubled From",
                HeaderName::To => "Doubled To",
                HeaderName::CallId => "Doubled Call-ID",
                HeaderName::CSeq => "Doubled CSeq",
                HeaderName::MaxForwards => "Doubled Max-Forwards",
                HeaderName::ContentLength => "Doubled Content-Length",
                HeaderName::ContentType => "Doubled Content-Type",
                HeaderName::Expires => "Doubled Expires",
                _ => "Doubled header field",
            },
            Self::Missing(name) => match name {
                HeaderName::Via => "Missing Via",
                HeaderName::From => "Missing From",
                HeaderName::To => "Missing To",
                HeaderName::CallId => "Missing Call-ID",
                HeaderName::CSeq => "Missing CSeq",
                _ => "Missing header field",
            },
            Self::Via => "Bad Via",
            Self::From => "Bad From",
            Self::To => "Bad To",
            Self::CallId => "Bad Call-ID",
            Self::CSeq => "Bad CSeq",
            Self::CSeqMethod => "CSeq method mismatch",
            Self::MaxForwards => "Bad Max-Forwards",
            Self::ContentLength => "Bad Content-Length",
            Self::ContentLengthBeyond => "Content-Length beyond datagram",
            Self::Contact => "Bad Contact",
            Self::Quotes => "Bad quoted string",
            Self::Parameter => "Bad parameter",
            Self::Address => "Bad address",
            Self::Uri => "Bad URI",
            Self::Host => "Bad host",
            Self::Port => "Bad port",
            Self::Digest => "Bad Digest parameters",
        }
    }
}
