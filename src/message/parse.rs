//! RFC 3261 §7: a whole message, indexed in place.

use super::*;

/// A message that parsed: structure, and all the headers everyone relies on (top Via, From, To, Call-ID, CSeq,
/// Max-Forwards, Content-Length, in a request with them also Contact) validated.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    _todo: &'a [u8],
}

/// RFC 3261 §7.1 and §7.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// Request-Line.
    Request {
        /// The method.
        method: Method,
        /// Its token as received (for [`Method::Other`]).
        token: &'a [u8],
        /// Request-URI as received: an absolute URI whose characters are legal; [`Uri::parse`] tells more.
        uri: &'a [u8],
    },
    /// Status-Line.
    Response {
        /// 100 to 699.
        status: u16,
        /// May be empty.
        reason: &'a [u8],
    },
}

/// Parses one message that fills `bytes` (bytes beyond Content-Length are ignored; the body is cut there). Without a
/// Content-Length, the body is the rest (a datagram).
///
/// # Errors
/// The first thing that is wrong, with its offset. Never panics.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, Error> {
    let _ = bytes;
    todo!()
}

/// What can be had of a request that does not parse: enough to answer it with 400 (RFC 3261 §8.2.6), or `None`
/// when it is no request, is an ACK, or a header that an answer needs (a top Via whose branch can be echoed safely,
/// From, To, Call-ID, CSeq) is missing or contains bytes that would break the answer.
pub fn salvage(bytes: &[u8]) -> Option<Skeleton<'_>> {
    let _ = bytes;
    todo!()
}

/// See [`salvage`]. `compose::Composer::error_response` writes the answer from it.
#[derive(Clone, Debug)]
pub struct Skeleton<'a> {
    /// Its method token.
    pub method: &'a [u8],
    /// Values of the Via lines, in order; From, To, Call-ID, CSeq.
    pub from: &'a [u8],
    #[allow(missing_docs)]
    pub to: &'a [u8],
    #[allow(missing_docs)]
    pub call_id: &'a [u8],
    #[allow(missing_docs)]
    pub cseq: &'a [u8],
}

impl<'a> Message<'a> {
    /// Request-Line or Status-Line.
    pub fn start(&self) -> StartLine<'a> {
        todo!()
    }

    /// The method of a request, or of a response's CSeq.
    pub fn method(&self) -> Method {
        todo!()
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        todo!()
    }

    /// The Request-URI as received; empty in a response.
    pub fn request_uri(&self) -> &'a [u8] {
        todo!()
    }

    /// The status code; 0 in a request.
    pub fn status(&self) -> u16 {
        todo!()
    }

    /// The whole message as received, without bytes beyond Content-Length.
    pub fn bytes(&self) -> &'a [u8] {
        todo!()
    }

    /// The body.
    pub fn body(&self) -> &'a [u8] {
        todo!()
    }

    /// Topmost Via (RFC 3261 §20.42), the first of its line's comma-joined values.
    pub fn via(&self) -> &Via<'a> {
        todo!()
    }

    /// From (§20.20).
    pub fn from(&self) -> &NameAddr<'a> {
        todo!()
    }

    /// To (§20.39).
    pub fn to(&self) -> &NameAddr<'a> {
        todo!()
    }

    /// Call-ID (§20.8).
    pub fn call_id(&self) -> &'a [u8] {
        todo!()
    }

    /// CSeq (§20.16).
    pub fn cseq(&self) -> CSeq<'a> {
        todo!()
    }

    /// Max-Forwards (§20.22), if there is one.
    pub fn max_forwards(&self) -> Option<u8> {
        todo!()
    }

    /// Every header line in order, folding included in the value.
    pub fn lines(&self) -> impl Iterator<Item = HeaderLine<'a>> + '_ {
        std::iter::empty()
    }

    /// The value of the first line of this name, trimmed; folding is left in.
    pub fn value(&self, name: HeaderName) -> Option<&'a [u8]> {
        let _ = name;
        todo!()
    }

    /// All values of this name, over all its lines, split at commas outside quotes and angle brackets, trimmed.
    /// (Not for headers whose one value may contain commas: Authorization and its like, Date.)
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &'a [u8]> + '_ {
        let _ = name;
        std::iter::empty()
    }

    /// Contact (§20.10): absent, `*`, or values, already validated.
    pub fn contacts(&self) -> ContactValue<'_, 'a> {
        todo!()
    }
}
