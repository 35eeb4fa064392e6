//! RFC 3261 §7: a whole message, indexed in place.
//!
//! One pass over the line ends makes the index; then the headers that everyone relies on are read once, strictly.
//! What other headers say is not looked at here, but that they are free of control bytes and not doubled is.

use std::time::Duration;

use super::scan::{self, Cursor};
use super::*;
use crate::limits::{HEADER_LINES_MAX, MESSAGE_BYTES_MAX, MESSAGE_CONTACTS_MAX};

/// Leniency: a Call-ID may have any visible ASCII but comma and semicolon, which would end it in the headers that name a
/// Call-ID in a list or with parameters (In-Reply-To, Replaces). RFC 3261 has no `=` in it and one `@` at most, but session
/// border controllers and proxies that hide a topology put another side's Call-ID into theirs in base64, and some hang
/// their host behind one that has a host already. It is compared and repeated as bytes, so nothing else depends on it.
pub const ANY_VISIBLE_CALL_ID: bool = true;

/// A message that parsed: structure, and all the headers everyone relies on (top Via, From, To, Call-ID, CSeq,
/// Max-Forwards, Content-Length, in a request with them also Contact) validated.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    body: &'a [u8],
    start: StartLine<'a>,
    uri: Option<Uri<'a>>,
    via: Via<'a>,
    from: NameAddr<'a>,
    to: NameAddr<'a>,
    call_id: &'a [u8],
    cseq: CSeq<'a>,
    max_forwards: Option<u8>,
    contact: FirstContact<'a>,
    index: Index,
}

/// What the check of a request's Contacts leaves.
#[derive(Clone, Debug, Default)]
struct FirstContact<'a> {
    /// `None`: there is none, it is `*`, or nothing was checked.
    first: Option<Contact<'a>>,
    has_more: bool,
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
        /// Request-URI as received: it parses by [`Uri::parse`] and has no headers.
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

/// Where a header line lies: it begins with its name. 16 bits do: a message has at most 65,535 bytes.
#[derive(Clone, Copy, Debug)]
struct Line {
    name: HeaderName,
    start: u16,
    value_start: u16,
    value_end: u16,
}

/// All header lines in order, and for each name its first.
#[derive(Clone, Debug)]
struct Index {
    lines: [Line; HEADER_LINES_MAX],
    count: usize,
    /// Number of the name's first line, counted from one; 0: none.
    first: [u8; header::NAMES],
}

const _: () =
    assert!(MESSAGE_BYTES_MAX <= u16::MAX as usize && HEADER_LINES_MAX < u8::MAX as usize);

impl Index {
    /// Nothing but zeros, so that it is made by one call: what stands behind `count` is not read.
    const EMPTY: Self = Self {
        lines: [Line {
            name: HeaderName::Via,
            start: 0,
            value_start: 0,
            value_end: 0,
        }; HEADER_LINES_MAX],
        count: 0,
        first: [0; header::NAMES],
    };

    /// Adds a line; false when full.
    #[inline]
    fn push(&mut self, line: Line) -> bool {
        let Some(place) = self.lines.get_mut(self.count) else {
            return false;
        };
        *place = line;
        self.count = self.count.wrapping_add(1);
        if let Some(first) = self.first.get_mut(line.name as usize)
            && *first == 0
        {
            *first = self.count as u8;
        }
        true
    }

    fn lines(&self) -> &[Line] {
        self.lines.get(..self.count).unwrap_or_default()
    }

    /// The lines from the first of this name on.
    fn starting_at(&self, name: HeaderName) -> &[Line] {
        match self.first.get(name as usize) {
            Some(&first) if first > 0 => self
                .lines()
                .get(usize::from(first).saturating_sub(1)..)
                .unwrap_or_default(),
            _ => &[],
        }
    }

    #[inline]
    fn get<'a>(&self, bytes: &'a [u8], name: HeaderName) -> Option<(&'a [u8], usize)> {
        let line = self.starting_at(name).first()?;
        Some((line.value(bytes), usize::from(line.value_start)))
    }

    /// The header that no message does without.
    #[inline]
    fn need<'a>(&self, bytes: &'a [u8], name: HeaderName) -> Result<(&'a [u8], usize), Error> {
        self.get(bytes, name)
            .ok_or(Error::new(ErrorKind::Missing(name), bytes.len()))
    }
}

impl Line {
    #[inline]
    fn value<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes
            .get(usize::from(self.value_start)..usize::from(self.value_end))
            .unwrap_or_default()
    }

    fn raw_name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let whole = bytes.get(usize::from(self.start)..usize::from(self.value_end));
        let (name, _) = split_name(whole.unwrap_or_default()).unwrap_or_default();
        name
    }
}

/// Parses one message that fills `bytes` (bytes beyond Content-Length are ignored; the body is cut there). Without a
/// Content-Length, the body is the rest (a datagram).
///
/// # Errors
/// The first thing that is wrong, with its offset. Never panics.
pub fn parse(bytes: &[u8]) -> Result<Message<'_>, Error> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(Error::new(ErrorKind::TooLong, MESSAGE_BYTES_MAX));
    }
    let mut lines = Lines {
        rest: bytes,
        is_plain: true,
    };
    let line = match lines.next() {
        Ok(line) => line,
        Err(None) => return Err(Error::new(ErrorKind::StartLine, 0)),
        Err(Some(at)) => return Err(Error::new(ErrorKind::LineEnding, at)),
    };
    let (start, uri) = start_line(line)?;
    let mut index = Index::EMPTY;
    let body_at = header_lines(bytes, lines, &mut index)?;

    let (value, at) = index.need(bytes, HeaderName::Via)?;
    let via = Via::parse(value).map_err(|error| error.within(ErrorKind::Via, at))?;
    let (value, at) = index.need(bytes, HeaderName::From)?;
    let from = NameAddr::parse(value).map_err(|error| error.within(ErrorKind::From, at))?;
    let (value, at) = index.need(bytes, HeaderName::To)?;
    let to = NameAddr::parse(value).map_err(|error| error.within(ErrorKind::To, at))?;
    let (call_id, at) = index.need(bytes, HeaderName::CallId)?;
    check_call_id(call_id).map_err(|error| error.within(ErrorKind::CallId, at))?;
    let (value, at) = index.need(bytes, HeaderName::CSeq)?;
    let cseq = CSeq::parse(value).map_err(|error| error.within(ErrorKind::CSeq, at))?;
    let max_forwards = match index.get(bytes, HeaderName::MaxForwards) {
        Some((value, at)) => {
            let number = scan::number(value, 255).and_then(|number| u8::try_from(number).ok());
            Some(number.ok_or(Error::new(ErrorKind::MaxForwards, at))?)
        }
        None => None,
    };
    let contact = match start {
        StartLine::Request { token, .. } if token != cseq.token => {
            return Err(Error::new(ErrorKind::CSeqMethod, at));
        }
        StartLine::Request { .. } => check_contacts(bytes, &index)?,
        StartLine::Response { .. } => FirstContact::default(),
    };
    let body = body(bytes, body_at, &index)?;
    let end = body_at.saturating_add(body.len());
    let bytes = bytes.get(..end).unwrap_or(bytes);
    Ok(Message {
        bytes,
        body,
        start,
        uri,
        via,
        from,
        to,
        call_id,
        cseq,
        max_forwards,
        contact,
        index,
    })
}

/// The lines of the header part, one after the other.
struct Lines<'a> {
    rest: &'a [u8],
    /// Whether there was no control byte but HTAB and the line ends.
    is_plain: bool,
}

impl<'a> Lines<'a> {
    /// The next line without its CR and LF.
    ///
    /// # Errors
    /// How far away an LF stands without a CR before it; `None`: no line ends.
    #[inline]
    fn next(&mut self) -> Result<&'a [u8], Option<usize>> {
        let before = self.rest;
        loop {
            self.rest = scan::skip_to_control(self.rest);
            let behind_line = self.rest.len();
            self.rest = match self.rest {
                [b'\r', b'\n', tail @ ..] => {
                    self.rest = tail;
                    let length = before.len().wrapping_sub(behind_line);
                    return Ok(before.get(..length).unwrap_or_default());
                }
                [b'\n', ..] => return Err(Some(before.len().wrapping_sub(behind_line))),
                [b'\t', tail @ ..] => tail,
                [byte, tail @ ..] => {
                    self.is_plain &= !byte.is_ascii_control();
                    tail
                }
                [] => return Err(None),
            };
        }
    }
}

/// RFC 3261 §7.1, §7.2: exactly one SP between the three parts.
fn start_line(line: &[u8]) -> Result<(StartLine<'_>, Option<Uri<'_>>), Error> {
    let bad = |offset| Error::new(ErrorKind::StartLine, offset);
    let first = scan::find(line, b' ').ok_or(bad(line.len()))?;
    let (token, rest) = line.split_at_checked(first).ok_or(bad(0))?;
    let (_, rest) = rest.split_at_checked(1).ok_or(bad(first))?;
    let rest_at = first.saturating_add(1);
    if let Some(result) = is_version(token) {
        result.map_err(|kind| Error::new(kind, 0))?;
        let [a, b, c, b' ', reason @ ..] = rest else {
            return Err(bad(rest_at));
        };
        return match scan::number(&[*a, *b, *c], 699).and_then(|n| u16::try_from(n).ok()) {
            Some(status) if status >= 100 => Ok((StartLine::Response { status, reason }, None)),
            _ => Err(bad(rest_at)),
        };
    }
    if !scan::is_token(token) {
        return Err(bad(0));
    }
    let uri = match rest.strip_suffix(b" SIP/2.0") {
        Some(uri) => uri,
        None => {
            let second = memchr::memrchr(b' ', rest).ok_or(bad(line.len()))?;
            let (uri, version) = rest.split_at_checked(second).ok_or(bad(rest_at))?;
            let version_at = rest_at.saturating_add(second).saturating_add(1);
            match is_version(version.get(1..).unwrap_or_default()) {
                Some(result) => result.map_err(|kind| Error::new(kind, version_at))?,
                None => return Err(bad(version_at)),
            }
            uri
        }
    };
    let parsed = Uri::parse(uri).map_err(|error| error.within(ErrorKind::RequestUri, rest_at))?;
    if !parsed.headers.is_empty() {
        return Err(Error::new(ErrorKind::RequestUri, rest_at));
    }
    Ok((
        StartLine::Request {
            method: Method::of(token),
            token,
            uri,
        },
        Some(parsed),
    ))
}

/// Whether `token` is a SIP-Version (`None`: it is not), and ours.
pub(super) fn is_version(token: &[u8]) -> Option<Result<(), ErrorKind>> {
    if token == b"SIP/2.0" {
        return Some(Ok(()));
    }
    let [name @ .., b'/'] = token.first_chunk::<4>()? else {
        return None;
    };
    let number = token.get(4..)?;
    if !name.eq_ignore_ascii_case(b"SIP") {
        return None;
    }
    if number == b"2.0" {
        return Some(Ok(()));
    }
    let (major, minor) = number.split_at_checked(scan::find(number, b'.')?)?;
    let is_number = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let legal = is_number(major) && minor.get(1..).is_some_and(is_number);
    Some(Err(if legal {
        ErrorKind::Version
    } else {
        ErrorKind::StartLine
    }))
}

/// Fills the index with the lines behind the start line; returns where the body begins.
#[inline(never)]
fn header_lines(bytes: &[u8], mut lines: Lines<'_>, index: &mut Index) -> Result<usize, Error> {
    let at = |rest: &[u8]| bytes.len().wrapping_sub(rest.len());
    let lines_at = at(lines.rest);
    let mut to_trim = false;
    loop {
        let start = at(lines.rest);
        let line = match lines.next() {
            Ok(line) => line,
            Err(None) => return Err(Error::new(ErrorKind::Unterminated, bytes.len())),
            Err(Some(at)) => {
                return Err(Error::new(ErrorKind::LineEnding, start.wrapping_add(at)));
            }
        };
        match line {
            [] => break,
            [b' ' | b'\t', ..] => {
                // A fold (RFC 3261 §7.3.1): the last value grows. Behind the start line there is nothing to fold.
                let last = index
                    .count
                    .checked_sub(1)
                    .and_then(|last| index.lines.get_mut(last));
                let last = last.ok_or(Error::new(ErrorKind::LineEnding, start))?;
                last.value_end = start.wrapping_add(line.len()) as u16;
                to_trim = true;
            }
            [.., last] => {
                to_trim |= scan::is(*last, scan::BLANK);
                header_line(line, start, index).map_err(|kind| Error::new(kind, start))?;
            }
        }
    }
    if !lines.is_plain {
        check_control_bytes(bytes, lines_at, index)?;
    }
    if to_trim {
        trim_values(bytes, index);
    }
    Ok(at(lines.rest))
}

/// `header-name HCOLON value`, HCOLON being `*( SP / HTAB ) ":" SWS`. No sum in here is beyond the end of the message.
#[inline(never)]
fn header_line(line: &[u8], at: usize, index: &mut Index) -> Result<(), ErrorKind> {
    let (known, value) = match HeaderName::short(line) {
        Some(found) => found,
        None => named(line).ok_or(ErrorKind::HeaderName)?,
    };
    if index
        .first
        .get(known as usize)
        .is_some_and(|&first| first > 0)
        && known.is_single()
    {
        return Err(ErrorKind::Doubled(known));
    }
    let value = value.strip_prefix(b" ").unwrap_or(value);
    let value = scan::skip_blanks(value);
    let value_end = at.wrapping_add(line.len());
    let line = Line {
        name: known,
        start: at as u16,
        value_start: value_end.wrapping_sub(value.len()) as u16,
        value_end: value_end as u16,
    };
    if index.push(line) {
        Ok(())
    } else {
        Err(ErrorKind::TooManyHeaders)
    }
}

/// The header of a line whose name is a token, and what is behind the colon.
fn named(line: &[u8]) -> Option<(HeaderName, &[u8])> {
    let (name, value) = split_name(line)?;
    let known = HeaderName::of(name);
    // Names that are known are tokens.
    (known != HeaderName::Other || scan::is_token(name)).then_some((known, value))
}

/// The name of a header line, and what is behind the colon.
#[inline(always)]
fn split_name(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut name, behind) = line.split_at_checked(scan::find(line, b':')?)?;
    while let [head @ .., b' ' | b'\t'] = name {
        name = head;
    }
    Some((name, behind.get(1..)?))
}

/// There are control bytes beside the line ends: they may be escaped inside quotes (RFC 4475 §3.1.1.2), nowhere else.
#[cold]
fn check_control_bytes(bytes: &[u8], lines_at: usize, index: &Index) -> Result<(), Error> {
    let start_line = bytes.get(..lines_at.saturating_sub(2)).unwrap_or_default();
    if let Some(at) = start_line.iter().position(|byte| byte.is_ascii_control()) {
        return Err(Error::new(ErrorKind::ControlByte, at));
    }
    for line in index.lines() {
        // From the end of the name on: blanks, colon, value and folds. Names have been checked.
        let at = usize::from(line.start).saturating_add(line.raw_name(bytes).len());
        let text = bytes
            .get(at..usize::from(line.value_end))
            .unwrap_or_default();
        let (mut quoted, mut escaped) = (false, false);
        let mut rest = text;
        while let [byte, tail @ ..] = rest {
            let at = at.saturating_add(text.len().saturating_sub(rest.len()));
            rest = tail;
            match byte {
                b'\r' if tail.starts_with(b"\n") => rest = tail.get(1..).unwrap_or_default(),
                b'\r' | b'\n' => return Err(Error::new(ErrorKind::LineEnding, at)),
                b'\t' => {}
                _ if byte.is_ascii_control() && !(quoted && escaped) => {
                    return Err(Error::new(ErrorKind::ControlByte, at));
                }
                _ => {}
            }
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = quoted,
                b'"' => quoted = !quoted,
                _ => {}
            }
        }
    }
    Ok(())
}

/// Takes the blanks off both ends of every value; those at the start may reach over a fold.
#[cold]
fn trim_values(bytes: &[u8], index: &mut Index) {
    let Index { lines, count, .. } = index;
    for line in lines.iter_mut().take(*count) {
        let value = line.value(bytes);
        let behind = scan::span(value, scan::BLANK);
        let start = usize::from(line.value_start).saturating_add(behind);
        line.value_start = start as u16;
        line.value_end = start.saturating_add(scan::trim(value).len()) as u16;
    }
}

/// `callid = word [ "@" word ]`, or as [`ANY_VISIBLE_CALL_ID`] says.
fn check_call_id(value: &[u8]) -> Result<(), Error> {
    // By far the most are one word, since `@` belongs to them.
    if ANY_VISIBLE_CALL_ID && !value.is_empty() && scan::skip_long(value, scan::WORD).is_empty() {
        return Ok(());
    }
    let mut cursor = Cursor::new(value);
    let mut empty = cursor.take(scan::WORD).is_empty();
    if cursor.eat(b'@') {
        empty |= cursor.take(scan::WORD).is_empty();
    }
    if empty || !cursor.is_at_end() {
        cursor.error(ErrorKind::CallId)
    } else {
        Ok(())
    }
}

/// Every Contact is an address, or there is one line and it is `*`. There are at most [`MESSAGE_CONTACTS_MAX`].
fn check_contacts<'a>(bytes: &'a [u8], index: &Index) -> Result<FirstContact<'a>, Error> {
    let mut star = false;
    let mut room = MESSAGE_CONTACTS_MAX;
    let mut seen = false;
    let mut contact = FirstContact::default();
    for line in index.starting_at(HeaderName::Contact) {
        if line.name != HeaderName::Contact {
            continue;
        }
        let (value, at) = (line.value(bytes), usize::from(line.value_start));
        if star || (seen && value == b"*") {
            return Err(Error::new(ErrorKind::Contact, at));
        }
        star = value == b"*";
        if !star {
            let (first, count) = Contact::parse_line(value, room)
                .map_err(|error| error.within(ErrorKind::Contact, at))?;
            room = room.saturating_sub(count);
            contact.has_more = seen || count > 1;
            contact.first.get_or_insert(first);
        }
        seen = true;
    }
    Ok(contact)
}

/// RFC 3261 §18.3, §20.14.
fn body<'a>(bytes: &'a [u8], body_at: usize, index: &Index) -> Result<&'a [u8], Error> {
    let rest = bytes.get(body_at..).unwrap_or_default();
    let Some((value, at)) = index.get(bytes, HeaderName::ContentLength) else {
        return Ok(rest);
    };
    if value.is_empty() || scan::span(value, scan::DIGIT) != value.len() {
        return Err(Error::new(ErrorKind::ContentLength, at));
    }
    let length = scan::number(value, MESSAGE_BYTES_MAX as u64);
    let length = length.and_then(|length| usize::try_from(length).ok());
    length
        .and_then(|length| rest.get(..length))
        .ok_or(Error::new(ErrorKind::ContentLengthBeyond, at))
}

impl<'a> Message<'a> {
    /// Request-Line or Status-Line.
    pub fn start(&self) -> StartLine<'a> {
        self.start
    }

    /// The method of a request, or of a response's CSeq.
    pub fn method(&self) -> Method {
        self.cseq.method
    }

    /// Whether it is a request.
    pub fn is_request(&self) -> bool {
        matches!(self.start, StartLine::Request { .. })
    }

    /// The Request-URI as received; empty in a response.
    pub fn request_uri(&self) -> &'a [u8] {
        match self.start {
            StartLine::Request { uri, .. } => uri,
            StartLine::Response { .. } => b"",
        }
    }

    /// The Request-URI in parts; `None` in a response.
    pub fn uri(&self) -> Option<&Uri<'a>> {
        self.uri.as_ref()
    }

    /// The status code; 0 in a request.
    pub fn status(&self) -> u16 {
        match self.start {
            StartLine::Request { .. } => 0,
            StartLine::Response { status, .. } => status,
        }
    }

    /// The whole message as received, without bytes beyond Content-Length.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The body.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Topmost Via (RFC 3261 §20.42), the first of its line's comma-joined values.
    pub fn via(&self) -> &Via<'a> {
        &self.via
    }

    /// From (§20.20).
    pub fn from(&self) -> &NameAddr<'a> {
        &self.from
    }

    /// To (§20.39).
    pub fn to(&self) -> &NameAddr<'a> {
        &self.to
    }

    /// Call-ID (§20.8).
    pub fn call_id(&self) -> &'a [u8] {
        self.call_id
    }

    /// CSeq (§20.16).
    pub fn cseq(&self) -> CSeq<'a> {
        self.cseq
    }

    /// Max-Forwards (§20.22), if there is one.
    pub fn max_forwards(&self) -> Option<u8> {
        self.max_forwards
    }

    /// Expires (§20.19) in seconds, if there is one. One that is malformed counts as 3600 (§10.2.1.1), an overlarge one as
    /// 2^32-1.
    pub fn expires(&self) -> Option<u32> {
        self.value(HeaderName::Expires)
            .map(super::header::expiry_seconds)
    }

    /// Retry-After (§20.33): seconds, whatever follows them; an overlarge number counts as 2^32-1.
    pub fn retry_after(&self) -> Option<Duration> {
        let seconds = super::header::leading_seconds(self.value(HeaderName::RetryAfter)?)?;
        Some(Duration::from_secs(seconds.into()))
    }

    /// Min-Expires (§20.23) in seconds, read in the same way.
    pub fn min_expires(&self) -> Option<u32> {
        super::header::leading_seconds(self.value(HeaderName::MinExpires)?)
    }

    /// Every header line in order, folding included in the value.
    pub fn lines(&self) -> impl Iterator<Item = HeaderLine<'a>> + '_ {
        self.index.lines().iter().map(|line| HeaderLine {
            name: line.name,
            raw_name: line.raw_name(self.bytes),
            value: line.value(self.bytes),
        })
    }

    /// The value of the first line of this name, trimmed; folding is left in.
    pub fn value(&self, name: HeaderName) -> Option<&'a [u8]> {
        self.index.get(self.bytes, name).map(|(value, _)| value)
    }

    /// The value of each line of this name, trimmed, not split: for Authorization and its like.
    pub fn line_values(&self, name: HeaderName) -> impl Iterator<Item = &'a [u8]> + '_ {
        let lines = self.index.starting_at(name).iter();
        lines
            .filter(move |line| line.name == name)
            .map(|line| line.value(self.bytes))
    }

    /// All values of this name, over all its lines, split at commas outside quotes and angle brackets, trimmed; empty ones
    /// are left out. (Not for headers whose one value may contain commas: Authorization and its like, Date.)
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.line_values(name).flat_map(split_values)
    }

    /// Contact (§20.10): absent, `*`, or values, in a request already validated.
    pub fn contacts(&self) -> ContactValue<'_, 'a> {
        match self.value(HeaderName::Contact) {
            None => ContactValue::None,
            Some(b"*") => ContactValue::Star,
            Some(_) => ContactValue::Values(self),
        }
    }

    /// The first Contact of a request, if it is an address; `None` in a response.
    pub fn first_contact(&self) -> Option<&Contact<'a>> {
        self.contact.first.as_ref()
    }

    /// Each Contact that is an address. In a request that is every one; in a response malformed ones are left out, and what is
    /// behind the first [`MESSAGE_CONTACTS_MAX`].
    pub fn contact_values(&self) -> impl Iterator<Item = Contact<'a>> + '_ {
        // Mostly a request has one, which has been parsed.
        let only = self.contact.first.filter(|_| !self.contact.has_more);
        let all = || self.values(HeaderName::Contact).take(MESSAGE_CONTACTS_MAX);
        let parsed = only.is_none().then(all).into_iter().flatten();
        only.into_iter()
            .chain(parsed.filter_map(|value| Contact::parse(value).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTER: &str = "REGISTER sip:pbx.example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.7:5062;branch=z9hG4bK1;rport\r\n\
        Max-Forwards: 70\r\n\
        From: \"Alice\" <sip:100@pbx.example.com>;tag=a1\r\n\
        To: <sip:100@pbx.example.com>\r\n\
        Call-ID: 1234@192.0.2.7\r\n\
        CSeq: 7 REGISTER\r\n\
        Contact: <sip:100@192.0.2.7:5062>;q=0.5;expires=60, \"B\" <sip:b@[2001:db8::1]>\r\n\
        Content-Length: 0\r\n\r\n";

    fn kind(text: &str) -> ErrorKind {
        parse(text.as_bytes()).unwrap_err().kind
    }

    fn with(from: &str, to: &str) -> String {
        assert!(REGISTER.contains(from), "{from}");
        REGISTER.replacen(from, to, 1)
    }

    #[test]
    fn reads_every_view() {
        let message = parse(REGISTER.as_bytes()).unwrap();
        assert!(message.is_request());
        assert_eq!(message.method(), Method::Register);
        assert_eq!(message.request_uri(), b"sip:pbx.example.com");
        assert_eq!(message.via().host, b"192.0.2.7");
        assert_eq!(message.via().port, Some(5062));
        assert_eq!(message.via().branch, b"z9hG4bK1");
        assert!(message.via().rport);
        assert_eq!(message.from().display, b"\"Alice\"");
        assert_eq!(message.from().uri, b"sip:100@pbx.example.com");
        assert_eq!(message.from().tag(), Some(&b"a1"[..]));
        assert_eq!(message.to().tag(), None);
        assert_eq!(message.call_id(), b"1234@192.0.2.7");
        assert_eq!(message.cseq().number, 7);
        assert_eq!(message.max_forwards(), Some(70));
        let contacts: Vec<_> = message.contact_values().collect();
        assert_eq!(contacts.len(), 2);
        assert_eq!((contacts[0].q, contacts[0].expires), (500, Some(60)));
        assert_eq!(contacts[1].address.uri, b"sip:b@[2001:db8::1]");
        assert_eq!(message.lines().count(), 8);
        assert_eq!(message.bytes(), REGISTER.as_bytes());
        assert_eq!(message.body(), b"");
    }

    #[test]
    fn contacts_are_the_same_kept_or_read_again() {
        let contacts = |lines: &str| {
            let text = with(
                "Contact: <sip:100@192.0.2.7:5062>;q=0.5;expires=60, \"B\" <sip:b@[2001:db8::1]>\r\n",
                lines,
            );
            let message = parse(text.as_bytes()).unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let first = message
                .first_contact()
                .map(|contact| text(contact.address.uri));
            let all = message.contact_values();
            let all: Vec<String> = all.map(|contact| text(contact.uri.raw)).collect();
            assert_eq!(first.as_ref(), all.first(), "{lines}");
            all.join(" ")
        };
        for (lines, all) in [
            ("", ""),
            ("Contact: *\r\n", ""),
            ("Contact: sip:a@b;q=0.1\r\n", "sip:a@b"),
            ("m: <sip:a@b>\r\nContact: <sip:c@d>\r\n", "sip:a@b sip:c@d"),
            ("m: <sip:a@b>,\r\n <sip:c@d>\r\n", "sip:a@b sip:c@d"),
        ] {
            assert_eq!(contacts(lines), all);
        }
    }

    #[test]
    fn refuses_doubled_single_headers() {
        for (name, line) in [
            (HeaderName::From, "f: <sip:x@y>;tag=1"),
            (HeaderName::To, "To: <sip:100@pbx.example.com>"),
            (HeaderName::CallId, "i: 1"),
            (HeaderName::CSeq, "CSeq: 7 REGISTER"),
            (HeaderName::MaxForwards, "Max-Forwards: 70"),
            (HeaderName::ContentLength, "l: 0"),
        ] {
            let text = with("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"));
            assert_eq!(kind(&text), ErrorKind::Doubled(name), "{line}");
        }
        let text = with("\r\n\r\n", "\r\nExpires: 1\r\nExpires: 1\r\n\r\n");
        assert_eq!(kind(&text), ErrorKind::Doubled(HeaderName::Expires));
        let text = with("\r\n\r\n", "\r\nContent-Type: a/b\r\nc: a/b\r\n\r\n");
        assert_eq!(kind(&text), ErrorKind::Doubled(HeaderName::ContentType));
    }

    #[test]
    fn refuses_bare_line_ends_and_control_bytes() {
        assert_eq!(kind(&with("70\r\n", "70\n")), ErrorKind::LineEnding);
        assert_eq!(
            kind(&with("Max-Forwards: 70", "Subject: a\rb")),
            ErrorKind::LineEnding
        );
        assert_eq!(kind(&with("70\r\n", "70\r\r\n")), ErrorKind::LineEnding);
        assert_eq!(
            kind(&with("Max-Forwards: 70", "Subject: a\0b")),
            ErrorKind::ControlByte
        );
        assert_eq!(
            kind(&with("Max-Forwards: 70", "Subject: \"a\0b\"")),
            ErrorKind::ControlByte
        );
        assert_eq!(
            kind(&with("Max-Forwards: 70", "Subject: a\x7fb")),
            ErrorKind::ControlByte
        );
        assert_eq!(
            kind(&with("Max-Forwards", "Max-Forwards\0")),
            ErrorKind::HeaderName
        );
        assert_eq!(
            kind(&with("Max-Forwards", "Max\0Forwards")),
            ErrorKind::HeaderName
        );
        assert!(parse(with("Max-Forwards: 70", "Subject: \"a\\\0b\"").as_bytes()).is_ok());
        assert_eq!(
            kind(&with("SIP/2.0\r\n", "SIP/2.0\r\n folded\r\n")),
            ErrorKind::LineEnding
        );
        assert_eq!(kind(&with("\r\n\r\n", "\r\n")), ErrorKind::Unterminated);
    }

    #[test]
    fn no_byte_behind_0xff_is_taken_for_a_control_byte() {
        let response = b"SIP/2.0 200 O\tK\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n\
            Call-ID: 1\r\nCSeq: 1 OPTIONS\r\nSubject: \xff~\xff~\xff~\xff~\xff~\xff~\xff~\xff~\r\n\r\n";
        assert!(parse(response).is_ok());
        let deleted = response.map(|byte| if byte == b'~' { 0x7f } else { byte });
        // In the start line even HTAB counts then.
        let error = Error::new(ErrorKind::ControlByte, 13);
        assert_eq!(parse(&deleted).unwrap_err(), error);
    }

    #[test]
    fn refuses_a_line_that_begins_with_a_word_of_0xff() {
        let before =
            b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n\
            Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n";
        let error = Error::new(ErrorKind::HeaderName, before.len());
        for behind in [&b"Ax"[..], b"a\0:b", b"Axy: z", b""] {
            let text = [&before[..], &[0xff; 8], behind, b"\r\n\r\n"].concat();
            assert_eq!(parse(&text).unwrap_err(), error, "{behind:?}");
        }
    }

    #[test]
    fn refuses_numbers_out_of_range() {
        assert_eq!(kind(&with("CSeq: 7", "CSeq: 2147483648")), ErrorKind::CSeq);
        assert_eq!(kind(&with("CSeq: 7", "CSeq: 4294967303")), ErrorKind::CSeq);
        assert_eq!(kind(&with("CSeq: 7", "CSeq: -7")), ErrorKind::CSeq);
        assert_eq!(
            kind(&with("CSeq: 7 REGISTER", "CSeq: 7REGISTER")),
            ErrorKind::CSeq
        );
        assert_eq!(
            kind(&with("CSeq: 7 REGISTER", "CSeq: 7 INVITE")),
            ErrorKind::CSeqMethod
        );
        assert_eq!(
            kind(&with("Max-Forwards: 70", "Max-Forwards: 256")),
            ErrorKind::MaxForwards
        );
        assert_eq!(
            kind(&with("Max-Forwards: 70", "Max-Forwards:")),
            ErrorKind::MaxForwards
        );
        let beyond = ErrorKind::ContentLengthBeyond;
        assert_eq!(kind(&with("Length: 0", "Length: 1")), beyond);
        assert_eq!(kind(&with("Length: 0", "Length: 4294967296")), beyond);
        assert_eq!(
            kind(&with("Length: 0", "Length: 18446744073709551616")),
            beyond
        );
        assert_eq!(
            kind(&with("Length: 0", "Length: +0")),
            ErrorKind::ContentLength
        );
        assert!(parse(with("CSeq: 7", "CSeq: 002147483647").as_bytes()).is_ok());
    }

    #[test]
    fn reads_any_visible_call_id() {
        let call_id = |text: &str| with("Call-ID: 1234@192.0.2.7", &format!("Call-ID: {text}"));
        for text in [
            "a",
            "w(ord)<>:\\\"/[]?{}@x",
            "MTIzNDU2Nzg5MA==",
            "a@b@c",
            "a+/=@b",
            "#$&^|@",
        ] {
            let text = call_id(text);
            assert!(parse(text.as_bytes()).is_ok(), "{text}");
        }
        for text in ["", "a b", "a,b", "a;b", "ä", "a\r\n b", "a@b c"] {
            assert_eq!(kind(&call_id(text)), ErrorKind::CallId, "{text}");
        }
    }

    #[test]
    fn cuts_the_body_at_content_length() {
        let text = with("Content-Length: 0\r\n\r\n", "Content-Length: 2\r\n\r\nabc");
        let message = parse(text.as_bytes()).unwrap();
        assert_eq!(message.body(), b"ab");
        assert_eq!(message.bytes().len(), text.len() - 1);
        let text = with("Content-Length: 0\r\n\r\n", "\r\nabc");
        assert_eq!(parse(text.as_bytes()).unwrap().body(), b"abc");
    }

    #[test]
    fn reads_blanks_before_colons_and_folds_in_one_way() {
        let text = with("Content-Length: 0", "cOntent-length \t : \r\n\t0 \r\n ");
        assert_eq!(
            parse(text.as_bytes())
                .unwrap()
                .value(HeaderName::ContentLength),
            Some(&b"0"[..])
        );
        let doubled = with(
            "Max-Forwards: 70\r\n",
            "Max-Forwards: 70\r\nMax-Forwards : 9\r\n",
        );
        assert_eq!(kind(&doubled), ErrorKind::Doubled(HeaderName::MaxForwards));
    }

    #[test]
    fn bounds_lines_and_length() {
        let many = "Y: x\r\n".repeat(HEADER_LINES_MAX);
        assert_eq!(
            kind(&with("Max-", &format!("{many}Max-"))),
            ErrorKind::TooManyHeaders
        );
        let text = with(
            "\r\n\r\n",
            &format!("\r\n\r\n{}", "x".repeat(MESSAGE_BYTES_MAX)),
        );
        assert_eq!(kind(&text), ErrorKind::TooLong);
        assert_eq!(ErrorKind::TooLong.status(), 513);
    }

    #[test]
    fn knows_versions() {
        assert_eq!(
            kind(&with("SIP/2.0\r\n", "SIP/3.0\r\n")),
            ErrorKind::Version
        );
        assert_eq!(
            kind(&with("SIP/2.0\r\n", "SIP/2.\r\n")),
            ErrorKind::StartLine
        );
        assert_eq!(
            kind(&with("SIP/2.0\r\n", "HTTP/1.1\r\n")),
            ErrorKind::StartLine
        );
        assert!(parse(with("SIP/2.0\r\n", "sip/2.0\r\n").as_bytes()).is_ok());
    }

    #[test]
    fn star_stands_alone() {
        let star = |value: &str| {
            let line = format!("Contact: {value}\r\nContent-");
            let text = REGISTER
                .lines()
                .filter(|line| !line.starts_with("Contact"))
                .fold(String::new(), |text, line| text + line + "\r\n");
            let text = text.replacen("Content-", &line, 1);
            parse(text.as_bytes()).map(|m| matches!(m.contacts(), ContactValue::Star))
        };
        assert_eq!(star("*"), Ok(true));
        assert_eq!(star("<sip:a@b>"), Ok(false));
        for bad in [
            "*, <sip:a@b>",
            "<sip:a@b>, *",
            "*\r\nm: *",
            "*\r\nm: <sip:a@b>",
            "<sip:a@b>\r\nm: *",
            "*;x",
            "",
            "<sip:a@b>,",
            ",<sip:a@b>",
            "<sip:a@b>;;x",
            "<sip:a@b>;q=2",
        ] {
            assert_eq!(star(bad).unwrap_err().kind, ErrorKind::Contact, "{bad}");
        }
    }

    #[test]
    fn contacts_are_so_many() {
        let of = |count: usize, separator: &str| {
            let all = vec!["a:b"; count].join(separator);
            let text = with("Max-Forwards", &format!("m: {all}\r\nMax-Forwards"));
            parse(text.as_bytes()).map(|message| message.contact_values().count())
        };
        // Two stand there already.
        let most = MESSAGE_CONTACTS_MAX - 2;
        assert_eq!(of(most, ","), Ok(MESSAGE_CONTACTS_MAX));
        assert_eq!(of(most + 1, ",").unwrap_err().kind, ErrorKind::Contact);
        let many = vec!["a:b"; 1_000].join(",");
        let text = format!(
            "SIP/2.0 302 Moved\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\n\
             CSeq: 1 INVITE\r\nContact: {many}\r\n\r\n"
        );
        let response = parse(text.as_bytes()).unwrap();
        assert_eq!(response.contact_values().count(), MESSAGE_CONTACTS_MAX);
    }

    #[test]
    fn allocates_nothing() {
        let long = with(
            "Max-",
            &format!(
                "Subject: \"\\\0\"\r\n{}Max-",
                "V: SIP/2.0/TCP h\r\n".repeat(60)
            ),
        );
        for text in [REGISTER, &long] {
            let info = allocation_counter::measure(|| {
                let message = parse(text.as_bytes()).unwrap();
                let values = message
                    .lines()
                    .flat_map(|line| split_values(line.value))
                    .count();
                assert!(values > 8);
                assert_eq!(message.contact_values().count(), 2);
                assert!(
                    message
                        .uri()
                        .unwrap()
                        .equals(&Uri::parse(b"sip:PBX.example.com").unwrap())
                );
                assert!(salvage(text.as_bytes()).is_some());
            });
            assert_eq!(info.count_total, 0);
        }
        let info = allocation_counter::measure(|| {
            assert!(parse(&REGISTER.as_bytes()[..200]).is_err());
            let value =
                b"Digest username=\"a\", realm=\"r\", nonce=\"n\", uri=\"u\", response=\"0\"";
            assert!(DigestParams::parse(value).unwrap().is_some());
        });
        assert_eq!(info.count_total, 0);
    }

    #[test]
    fn retry_after_is_seconds_whatever_follows() {
        let of = |name: &str, value: &str| {
            let text = format!(
                "SIP/2.0 503 No\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n\
                 To: <sip:a@b>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n{name}: {value}\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            let message = super::parse(text.as_bytes()).unwrap();
            (message.retry_after(), message.min_expires())
        };
        for (value, seconds) in [
            ("120", Some(120)),
            ("60 (maintenance)", Some(60)),
            ("60;duration=3600", Some(60)),
            ("4294967296", Some(u32::MAX)),
            ("99999999999999999999999", Some(u32::MAX)),
            ("soon", None),
            ("-1", None),
        ] {
            let time = seconds.map(|seconds| std::time::Duration::from_secs(seconds.into()));
            assert_eq!(of("Retry-After", value), (time, None), "{value}");
            assert_eq!(of("Min-Expires", value), (None, seconds), "{value}");
        }
    }

    mod properties {
        use super::REGISTER;
        use crate::testing::fuzz;
        use proptest::prelude::*;

        const INVITE: &str = "INVITE sip:200;x@[2001:db8::1]:5070;user=phone SIP/2.0\r\nv:SIP/2.0/TCP\r\n a.b;branch=z9,SIP/2.0/UDP c\r\n\
            f : \"A \\\"B\\\"\" <sip:%61@b;p?h=v> ; tag = x\r\nt: sip:200@b\r\ni: a@b\r\nCSeq: 1 INVITE\r\n\
            m: sip:a@b;q=0.1,\r\n <sip:c@d>\r\nSubject:\r\n\r\nbody";

        /// Bytes that mean something to the parser.
        const TELLING: &[u8] = b"\r\n\0\t ;,:<>\"\\=?@#%[]*/.0aZ\x7f\x80\xff";

        proptest! {
            #[test]
            fn mutated_messages_keep_what_holds_for_any_bytes(
                register in any::<bool>(),
                edits in prop::collection::vec((any::<prop::sample::Index>(), 0..4u8, any::<prop::sample::Index>()), 0..6),
            ) {
                let mut bytes = if register { REGISTER } else { INVITE }.as_bytes().to_vec();
                for (at, edit, byte) in edits {
                    let at = at.index(bytes.len());
                    let byte = TELLING[byte.index(TELLING.len())];
                    match edit {
                        0 => bytes[at] = byte,
                        1 => bytes.insert(at, byte),
                        2 if bytes.len() > 1 => { bytes.remove(at); }
                        _ => bytes.truncate(at.max(1)),
                    }
                }
                fuzz::message(&bytes);
            }

            #[test]
            fn any_bytes_keep_what_holds(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
                fuzz::message(&bytes);
                fuzz::uri(&bytes);
                fuzz::auth_digest(&bytes);
            }

            #[test]
            fn any_user_survives_escaping(user in prop::collection::vec(any::<u8>(), 1..40)) {
                let mut uri = b"sip:".to_vec();
                crate::message::escape_user(&user, &mut uri);
                uri.extend_from_slice(b"@h");
                let mut again = Vec::new();
                crate::message::Uri::parse(&uri).unwrap().user_unescaped(&mut again);
                prop_assert_eq!(again, user);
            }

            #[test]
            fn composed_requests_read_as_composed(
                user in "[a-z0-9]{1,12}",
                display in "[ -~äö]{0,20}",
                tag in "[A-Za-z0-9]{1,10}",
                number in 0u32..1 << 31,
                body in prop::collection::vec(any::<u8>(), 0..200),
            ) {
                let (mut uri, mut from) = (format!("sip:{user}@h"), Vec::new());
                crate::message::quote(display.as_bytes(), &mut from);
                from.extend_from_slice(format!(" <{uri}>;tag={tag}").as_bytes());
                uri.push_str(";x=y");
                let mut buffer = Vec::new();
                let mut composer = crate::message::Composer::request(&mut buffer, b"MESSAGE", uri.as_bytes());
                composer.field("Via", &[b"SIP/2.0/UDP h;branch=", tag.as_bytes()]);
                composer.field("From", &[&from]).field("To", &[b"<", uri.as_bytes(), b">"]);
                composer.field("Call-ID", &[tag.as_bytes()]);
                composer.field("CSeq", &[number.to_string().as_bytes(), b" MESSAGE"]).number("Max-Forwards", 70);
                composer.finish(Some(b"text/plain"), &body);
                fuzz::message(&buffer);
                let message = super::parse(&buffer).unwrap();
                let mut said = Vec::new();
                crate::message::unquote(message.from().display, &mut said);
                prop_assert_eq!(said, display.as_bytes());
                prop_assert_eq!(message.from().tag(), Some(tag.as_bytes()));
                prop_assert_eq!(message.cseq().number, number);
                prop_assert_eq!(message.request_uri(), uri.as_bytes());
                prop_assert_eq!(message.body(), &body[..]);
            }
        }
    }
}
