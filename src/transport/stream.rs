//! RFC 3261 §18.3: where one message ends and the next begins on a stream; RFC 5626 §3.5.1: keep-alives between them.
//!
//! ```text
//!             CRLF ┌──────┐                   blank line           all of the body
//!                  ▼      │  token character               ┌──────┐
//!   feed() ──▶ Between ───┴─────────────────▶ Head ───────▶│ Body │───────▶ Frame::Message, Between
//!                  │ CRLFCRLF                  │           └──────┘
//!                  ▼                           ▼ no length, two lengths, no number, too long
//!            Frame::Ping                 Frame::Error, and nothing ever after
//! ```
//!
//! A message that lies in one segment is handed out as it lies there; only what a segment leaves unfinished is copied, and no
//! byte is looked at again when the next segment comes, so one byte at a time costs as much in all as everything at once.
//!
//! The length is read here by the rules of `message::parse`: whoever counts a body differently from whoever reads it lets one
//! message hide in another. So a header part that could be read in two ways (a bare CR or LF, a second Content-Length, even an equal
//! one) ends the stream. Whether the message is SIP at all is not looked at; when `message::parse` refuses its structure, the connection is
//! best closed too.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::limits::MESSAGE_BYTES_MAX;

/// End of the header part.
const BLANK_LINE: &[u8] = b"\r\n\r\n";
/// A keep-alive request (RFC 5626 §3.5.1), of which [`PONG`] is the answer.
const PING: &[u8; 4] = b"\r\n\r\n";
/// The answer to [`Frame::Ping`].
pub const PONG: &[u8] = b"\r\n";

/// Why a stream cannot be read any further. The connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A message of more than [`MESSAGE_BYTES_MAX`] bytes: 513, then close.
    TooLong,
    /// Content-Length is no number, or stands twice: 400, then close.
    ContentLength,
    /// No Content-Length (RFC 3261 §18.3 demands one): 400, then close.
    NoContentLength,
    /// CR or LF alone in the header part: 400, then close.
    LineEnding,
    /// The first byte cannot begin a start line: another protocol (TLS, for one), or out of step. Close without an answer.
    NotSip,
}

impl FrameError {
    /// The status to answer with before closing; `None`: no answer.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::TooLong => Some(513),
            Self::ContentLength | Self::NoContentLength | Self::LineEnding => Some(400),
            Self::NotSip => None,
        }
    }

    /// For the reason phrase.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "Message Too Large",
            Self::ContentLength => "Bad Content-Length",
            Self::NoContentLength => "Missing Content-Length",
            Self::LineEnding => "Bare CR or LF",
            Self::NotSip => "Not SIP",
        }
    }
}

/// One thing read from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole message, its body as long as its Content-Length says.
    Message(&'a [u8]),
    /// CRLFCRLF: answer with [`PONG`].
    Ping,
    /// The stream cannot be read any further; given once. [`Framer::refused`] has the header part.
    Error(FrameError),
}

/// What a connection keeps between two segments: nothing but a few words while no message is unfinished.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// The unfinished message from its first byte on. At most [`MESSAGE_BYTES_MAX`] bytes.
    buffer: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a start line; this many bytes of [`PING`] have come.
    Between { matched: u8 },
    /// In a header part; `buffer` has what came of it in earlier segments, and no blank line.
    Head,
    /// The header part is in `buffer`; the message has `total` bytes.
    Body { total: usize },
    /// The message in `buffer` is handed out; it goes with the next step.
    Delivered,
    /// Out of step for good.
    Failed,
}

impl Default for State {
    fn default() -> Self {
        Self::Between { matched: 0 }
    }
}

impl Framer {
    /// At the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream. Call [`Frames::next`] until it says `None`: bytes not taken are lost,
    /// and the stream with them, when `Frames` is dropped before.
    pub fn feed<'a>(&'a mut self, bytes: &'a [u8]) -> Frames<'a> {
        Frames {
            framer: self,
            rest: bytes,
        }
    }

    /// After [`Frame::Error`]: what was read of the message at fault, to answer it from. Its header part if it ended.
    pub fn refused(&self) -> &[u8] {
        if self.state == State::Failed {
            &self.buffer
        } else {
            &[]
        }
    }

    /// Whether the stream is out of step for good.
    pub fn is_failed(&self) -> bool {
        self.state == State::Failed
    }

    /// Bytes kept of an unfinished message.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }
}

/// The frames that end in one segment, in order.
#[derive(Debug)]
pub struct Frames<'a> {
    framer: &'a mut Framer,
    /// What of the segment is not yet taken.
    rest: &'a [u8],
}

/// What one step found; the bytes are borrowed in [`Frames::next`] alone.
enum Step<'a> {
    InSegment(&'a [u8]),
    InBuffer,
    Ping,
    Error(FrameError),
    Nothing,
}

impl<'a> Frames<'a> {
    /// The next frame; `None` when the rest of the segment is kept for later. It borrows from here: copy what must stay.
    #[allow(clippy::should_implement_trait)] // lends: an Iterator cannot
    pub fn next(&mut self) -> Option<Frame<'_>> {
        match self.step() {
            Step::InSegment(message) => Some(Frame::Message(message)),
            Step::InBuffer => Some(Frame::Message(&self.framer.buffer)),
            Step::Ping => Some(Frame::Ping),
            Step::Error(error) => Some(Frame::Error(error)),
            Step::Nothing => None,
        }
    }

    fn step(&mut self) -> Step<'a> {
        loop {
            match self.framer.state {
                State::Failed => {
                    self.rest = &[];
                    return Step::Nothing;
                }
                State::Delivered => {
                    self.framer.buffer.clear();
                    self.framer.state = State::default();
                }
                State::Between { matched } => {
                    let Some((&byte, tail)) = self.rest.split_first() else {
                        return Step::Nothing;
                    };
                    if PING.get(usize::from(matched)) == Some(&byte) {
                        self.rest = tail;
                        let matched = matched.saturating_add(1);
                        if usize::from(matched) == PING.len() {
                            self.framer.state = State::default();
                            return Step::Ping;
                        }
                        self.framer.state = State::Between { matched };
                    } else if matched % 2 == 0 && is_token_character(byte) {
                        self.framer.state = State::Head;
                    } else {
                        return self.fail(FrameError::NotSip, &[]);
                    }
                }
                State::Head if self.framer.buffer.is_empty() => return self.head_in_segment(),
                State::Head => {
                    if let Some(step) = self.head_in_buffer() {
                        return step;
                    }
                }
                State::Body { total } => {
                    let missing = total.saturating_sub(self.framer.buffer.len());
                    self.take_into_buffer(missing);
                    if self.framer.buffer.len() < total {
                        return Step::Nothing;
                    }
                    self.framer.state = State::Delivered;
                    return Step::InBuffer;
                }
            }
        }
    }

    /// A message begins at the start of `rest`.
    fn head_in_segment(&mut self) -> Step<'a> {
        let rest = self.rest;
        let Some(head) =
            blank_line(rest).and_then(|at| rest.get(..at.saturating_add(BLANK_LINE.len())))
        else {
            if rest.len() > MESSAGE_BYTES_MAX {
                return self.fail(FrameError::TooLong, rest);
            }
            self.take_into_buffer(rest.len());
            return Step::Nothing;
        };
        let total = match message_length(head) {
            Ok(total) => total,
            Err(error) => return self.fail(error, head),
        };
        match rest.split_at_checked(total) {
            Some((message, tail)) => {
                self.rest = tail;
                self.framer.state = State::default();
                Step::InSegment(message)
            }
            None => {
                self.take_into_buffer(rest.len());
                self.framer.state = State::Body { total };
                Step::Nothing
            }
        }
    }

    /// A header part began in an earlier segment. `None`: it is whole now.
    fn head_in_buffer(&mut self) -> Option<Step<'a>> {
        let Some(more) = rest_of_head(&self.framer.buffer, self.rest) else {
            if self.framer.buffer.len().saturating_add(self.rest.len()) > MESSAGE_BYTES_MAX {
                return Some(self.fail_in_buffer(FrameError::TooLong));
            }
            self.take_into_buffer(self.rest.len());
            return Some(Step::Nothing);
        };
        if self.framer.buffer.len().saturating_add(more) > MESSAGE_BYTES_MAX {
            return Some(self.fail_in_buffer(FrameError::TooLong));
        }
        self.take_into_buffer(more);
        match message_length(&self.framer.buffer) {
            Ok(total) => {
                self.framer.state = State::Body { total };
                None
            }
            Err(error) => Some(self.fail_in_buffer(error)),
        }
    }

    /// Moves at most `count` bytes from the segment to the buffer.
    fn take_into_buffer(&mut self, count: usize) {
        let (taken, tail) = self
            .rest
            .split_at_checked(count)
            .unwrap_or((self.rest, &[]));
        self.framer.buffer.extend_from_slice(taken);
        self.rest = tail;
    }

    /// Ends the stream over a message that lies in the segment.
    fn fail(&mut self, error: FrameError, head: &[u8]) -> Step<'a> {
        let head = head.get(..MESSAGE_BYTES_MAX).unwrap_or(head);
        self.framer.buffer.clear();
        self.framer.buffer.extend_from_slice(head);
        self.fail_in_buffer(error)
    }

    /// Ends the stream over a message whose beginning is in the buffer.
    fn fail_in_buffer(&mut self, error: FrameError) -> Step<'a> {
        self.framer.state = State::Failed;
        self.rest = &[];
        Step::Error(error)
    }
}

impl Drop for Frames<'_> {
    fn drop(&mut self) {
        if self.framer.state == State::Delivered {
            self.framer.state = State::default();
            self.framer.buffer.clear();
        }
        if self.framer.buffer.is_empty() {
            // An idle connection holds no memory here.
            self.framer.buffer = Vec::new();
        }
        if !self.rest.is_empty() {
            self.framer.state = State::Failed;
        }
    }
}

/// Where the first blank line begins. What to search for is prepared once: a stream of many short messages pays it for each.
fn blank_line(bytes: &[u8]) -> Option<usize> {
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(BLANK_LINE));
    FINDER.find(bytes)
}

/// How many bytes of `segment` belong to a header part that begins with `buffer`; `None` if it does not end in it.
fn rest_of_head(buffer: &[u8], segment: &[u8]) -> Option<usize> {
    // The blank line may lie across the cut: at most three of its bytes are in the buffer. Longest beginning first,
    // since that ends first.
    for kept in (1..BLANK_LINE.len()).rev() {
        if let Some((before, after)) = BLANK_LINE.split_at_checked(kept)
            && buffer.ends_with(before)
            && segment.starts_with(after)
        {
            return Some(after.len());
        }
    }
    blank_line(segment).map(|at| at.saturating_add(BLANK_LINE.len()))
}

/// Bytes of the message with this header part (blank line included).
fn message_length(head: &[u8]) -> Result<usize, FrameError> {
    let mut length = None;
    let mut rest = head;
    let mut is_start_line = true;
    while let Some((line, tail)) = logical_line(rest)? {
        rest = tail;
        if std::mem::take(&mut is_start_line) {
            continue;
        }
        let Some(value) = content_length_value(line) else {
            continue;
        };
        if length.is_some() {
            return Err(FrameError::ContentLength);
        }
        length = Some(number(value)?);
    }
    let total = length
        .ok_or(FrameError::NoContentLength)?
        .saturating_add(head.len());
    if total > MESSAGE_BYTES_MAX {
        return Err(FrameError::TooLong);
    }
    Ok(total)
}

/// One line with the lines folded into it, without its CRLF, and what follows; `None` at the blank line.
#[allow(clippy::type_complexity)]
fn logical_line(bytes: &[u8]) -> Result<Option<(&[u8], &[u8])>, FrameError> {
    if bytes.starts_with(b"\r\n") {
        return Ok(None);
    }
    let mut end = 0usize;
    loop {
        let rest = bytes.get(end..).unwrap_or_default();
        let Some(at) = memchr::memchr2(b'\r', b'\n', rest) else {
            return Ok(None);
        };
        let line_end = end.saturating_add(at);
        let Some(tail) = bytes
            .get(line_end..)
            .and_then(|tail| tail.strip_prefix(b"\r\n"))
        else {
            return Err(FrameError::LineEnding);
        };
        if !matches!(tail.first(), Some(b' ' | b'\t')) {
            return Ok(bytes.get(..line_end).map(|line| (line, tail)));
        }
        end = line_end.saturating_add(2);
    }
}

/// The value of a Content-Length line, its compact form included (RFC 3261 §7.3.3, §20.14).
fn content_length_value(line: &[u8]) -> Option<&[u8]> {
    if !matches!(line.first(), Some(b'c' | b'C' | b'l' | b'L')) {
        return None;
    }
    // It stands near, if anywhere.
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    // HCOLON allows blanks before the colon (RFC 3261 §25.1).
    let name = trim_end(name);
    (name.eq_ignore_ascii_case(b"Content-Length") || name.eq_ignore_ascii_case(b"l"))
        .then(|| value.strip_prefix(b":").unwrap_or_default())
}

/// Digits with blanks and folds around them; what no `usize` holds is too long in any case.
fn number(value: &[u8]) -> Result<usize, FrameError> {
    let mut digits = trim_end(value);
    while let Some((b' ' | b'\t' | b'\r' | b'\n', tail)) = digits.split_first() {
        digits = tail;
    }
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(FrameError::ContentLength);
    }
    Ok(digits.iter().fold(0usize, |number, digit| {
        let digit = usize::from(digit.wrapping_sub(b'0'));
        number.saturating_mul(10).saturating_add(digit)
    }))
}

fn trim_end(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let Some((b' ' | b'\t' | b'\r' | b'\n', head)) = rest.split_last() {
        rest = head;
    }
    rest
}

/// `token` of RFC 3261 §25.1: methods and `SIP/2.0` begin with one.
fn is_token_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame that owns its bytes.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Seen {
        Message(Vec<u8>),
        Ping,
        Error(FrameError),
    }

    fn feed(framer: &mut Framer, bytes: &[u8], seen: &mut Vec<Seen>) {
        let mut frames = framer.feed(bytes);
        while let Some(frame) = frames.next() {
            seen.push(match frame {
                Frame::Message(message) => Seen::Message(message.to_vec()),
                Frame::Ping => Seen::Ping,
                Frame::Error(error) => Seen::Error(error),
            });
        }
    }

    fn whole(bytes: &[u8]) -> Vec<Seen> {
        let mut seen = Vec::new();
        feed(&mut Framer::new(), bytes, &mut seen);
        seen
    }

    fn message(headers: &str, body: &str) -> Vec<u8> {
        format!("OPTIONS sip:pbx SIP/2.0\r\nVia: SIP/2.0/TCP a\r\n{headers}\r\n{body}").into_bytes()
    }

    fn one(bytes: &[u8]) -> Vec<Seen> {
        vec![Seen::Message(bytes.to_vec())]
    }

    fn error(bytes: &[u8]) -> FrameError {
        match whole(bytes).as_slice() {
            [Seen::Error(error)] => *error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_in_one_segment_is_not_copied() {
        let bytes = message("Content-Length: 4\r\n", "body");
        let mut framer = Framer::new();
        let mut frames = framer.feed(&bytes);
        let Some(Frame::Message(seen)) = frames.next() else {
            panic!("no message")
        };
        assert_eq!(seen.as_ptr(), bytes.as_ptr());
        assert_eq!(seen.len(), bytes.len());
        assert_eq!(frames.next(), None);
        drop(frames);
        assert_eq!(framer.buffer.capacity(), 0);
    }

    #[test]
    fn forms_of_content_length() {
        for line in [
            "Content-Length: 4\r\n",
            "content-LENGTH:4\r\n",
            "l: 4\r\n",
            "L \t: 4 \t\r\n",
            "Content-Length  :\r\n  0004\r\n",
            "Content-Length: 4\r\n \r\n",
            "Subject: x\r\n Content-Length: 9\r\nl: 4\r\n",
            "Lx: 9\r\nContent-Lengths: 9\r\nl: 4\r\n",
        ] {
            let bytes = message(line, "body");
            assert_eq!(whole(&bytes), one(&bytes), "{line:?}");
        }
    }

    #[test]
    fn lengths_that_end_the_stream() {
        for (line, expected) in [
            ("", FrameError::NoContentLength),
            (
                "Subject: Content-Length: 4\r\n",
                FrameError::NoContentLength,
            ),
            ("Content-Length: -4\r\n", FrameError::ContentLength),
            ("Content-Length: +4\r\n", FrameError::ContentLength),
            ("Content-Length: 4, 4\r\n", FrameError::ContentLength),
            ("Content-Length: 4 4\r\n", FrameError::ContentLength),
            ("Content-Length: 4\r\n 4\r\n", FrameError::ContentLength),
            ("Content-Length: 0x4\r\n", FrameError::ContentLength),
            ("Content-Length:\r\n", FrameError::ContentLength),
            ("Content-Length: 4\r\nl: 4\r\n", FrameError::ContentLength),
            ("l: 4\r\nl: 4\r\n", FrameError::ContentLength),
            ("Content-Length: 65536\r\n", FrameError::TooLong),
            ("Content-Length: 4294967300\r\n", FrameError::TooLong),
            (
                "Content-Length: 18446744073709551620\r\n",
                FrameError::TooLong,
            ),
            (
                "Content-Length: 99999999999999999999999999999999\r\n",
                FrameError::TooLong,
            ),
            (
                "Subject: a\nContent-Length: 4\r\nl: 0\r\n",
                FrameError::LineEnding,
            ),
            (
                "Subject: a\rContent-Length: 4\r\nl: 0\r\n",
                FrameError::LineEnding,
            ),
        ] {
            let bytes = message(line, "body");
            assert_eq!(error(&bytes), expected, "{line:?}");
            // What follows is not read: nobody knows where it begins.
            let mut framer = Framer::new();
            let mut seen = Vec::new();
            feed(&mut framer, &bytes, &mut seen);
            feed(&mut framer, &message("l: 0\r\n", ""), &mut seen);
            assert_eq!(seen, [Seen::Error(expected)]);
            assert!(framer.is_failed());
            assert!(bytes.starts_with(framer.refused()));
            assert!(framer.refused().ends_with(b"\r\n\r\n"));
        }
    }

    #[test]
    fn the_longest_message_and_one_byte_more() {
        let head = message("Content-Length: 00000\r\n", "").len();
        for (extra, is_ok) in [(0, true), (1, false)] {
            let length = MESSAGE_BYTES_MAX - head + extra;
            let bytes = message(
                &format!("Content-Length: {length:05}\r\n"),
                &"x".repeat(length),
            );
            for cut in [0, 1, head - 2, head, head + 1, bytes.len()] {
                let mut framer = Framer::new();
                let mut seen = Vec::new();
                feed(&mut framer, &bytes[..cut], &mut seen);
                feed(&mut framer, &bytes[cut..], &mut seen);
                let expected = if is_ok {
                    one(&bytes)
                } else {
                    vec![Seen::Error(FrameError::TooLong)]
                };
                assert_eq!(seen, expected, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_header_part_without_end_is_bounded() {
        let mut framer = Framer::new();
        let mut seen = Vec::new();
        feed(&mut framer, b"OPTIONS sip:a SIP/2.0\r\nX: ", &mut seen);
        for _ in 0..100_000 {
            feed(&mut framer, b"y", &mut seen);
        }
        assert_eq!(seen, [Seen::Error(FrameError::TooLong)]);
        assert!(framer.refused().len() <= MESSAGE_BYTES_MAX);
        assert_eq!(error(&[b'a'; MESSAGE_BYTES_MAX + 1]), FrameError::TooLong);
    }

    #[test]
    fn many_messages_and_keep_alives_in_one_segment() {
        let (first, second) = (message("l: 4\r\n", "body"), message("l: 0\r\n", ""));
        let stream = [
            b"\r\n".as_slice(),
            &first,
            b"\r\n\r\n",
            &second,
            b"\r\n\r\n\r\n\r\n\r\n",
            &first,
        ]
        .concat();
        let expected = [
            Seen::Message(first.clone()),
            Seen::Ping,
            Seen::Message(second),
            Seen::Ping,
            Seen::Ping,
            Seen::Message(first),
        ];
        assert_eq!(whole(&stream), expected);
        let mut framer = Framer::new();
        let mut seen = Vec::new();
        for byte in &stream {
            feed(&mut framer, std::slice::from_ref(byte), &mut seen);
        }
        assert_eq!(seen, expected);
        assert_eq!(framer.buffer.capacity(), 0);
    }

    #[test]
    fn other_protocols_end_the_stream_at_once() {
        for bytes in [
            b"\x16\x03\x01\x02\x00".as_slice(),
            b"\n",
            b"\rX",
            b"\r\n\rX",
            b"\0",
            b" OPTIONS",
            b"{}",
        ] {
            assert_eq!(error(bytes), FrameError::NotSip, "{bytes:?}");
        }
        assert_eq!(FrameError::NotSip.status(), None);
    }

    #[test]
    fn dropped_early_the_stream_is_given_up() {
        let bytes = message("l: 0\r\n", "").repeat(2);
        let mut framer = Framer::new();
        assert!(matches!(
            framer.feed(&bytes).next(),
            Some(Frame::Message(_))
        ));
        assert!(framer.is_failed());
    }

    #[test]
    fn slow_senders_cost_linear_time() {
        // 65,000 one-byte segments; a rescan from the start each would look at 2·10⁹ bytes and take seconds.
        let bytes = message(&format!("X: {}\r\nl: 0\r\n", "\r\n a".repeat(16_000)), "");
        let begin = std::time::Instant::now();
        let mut framer = Framer::new();
        let mut seen = Vec::new();
        for byte in &bytes {
            feed(&mut framer, std::slice::from_ref(byte), &mut seen);
        }
        assert_eq!(seen, one(&bytes));
        assert!(begin.elapsed() < std::time::Duration::from_secs(1));
    }

    fn piece() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            5 => ("[a-z]{0,20}", "[\\x00-\\x7f]{0,40}").prop_map(|(subject, body)| message(
                &format!("Subject: {subject}\r\nContent-Length: {}\r\n", body.len()), &body)),
            2 => Just(b"\r\n\r\n".to_vec()),
            2 => Just(b"\r\n".to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..6),
            1 => prop::sample::select(vec![&b"l"[..], b":", b"\r", b"\n", b" ", b"7", b"OPTIONS sip:a SIP/2.0\r\n",
                b"l: 3\r\n", b"Content-Length: 2\r\n"]).prop_map(<[u8]>::to_vec),
        ]
    }

    proptest! {
        /// However a stream is cut, the frames are the same, and idle memory is none.
        #[test]
        fn cuts_do_not_matter(
            pieces in prop::collection::vec(piece(), 0..12),
            cuts in prop::collection::vec(1usize..60, 0..60),
        ) {
            let stream = pieces.concat();
            let expected = whole(&stream);
            let mut framer = Framer::new();
            let mut seen = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                feed(&mut framer, now, &mut seen);
                rest = later;
            }
            feed(&mut framer, rest, &mut seen);
            prop_assert_eq!(seen, expected);
        }

        /// What is composed as messages comes out as those messages.
        #[test]
        fn well_formed_streams_come_out_as_they_went_in(
            bodies in prop::collection::vec("[\\x00-\\x7f]{0,80}", 1..8), gaps in prop::collection::vec(0usize..2, 8),
        ) {
            let messages: Vec<Vec<u8>> =
                bodies.iter().map(|body| message(&format!("l: {}\r\n", body.len()), body)).collect();
            let mut stream = Vec::new();
            for (message, gap) in messages.iter().zip(&gaps) {
                stream.extend(b"\r\n".repeat(*gap));
                stream.extend(message);
            }
            let expected: Vec<Seen> = messages.into_iter().map(Seen::Message).collect();
            prop_assert_eq!(whole(&stream), expected);
        }
    }
}
