//! Why bytes are not a SIP message, and where.

/// What is wrong, in words for a reason phrase or a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorKind,
    /// Byte offset of the trouble within the message.
    pub offset: usize,
}

/// Kinds of errors; `status` maps each to the response it deserves. (H1 extends this.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Not a Request-Line or Status-Line.
    StartLine,
}

impl ErrorKind {
    /// 400, 505, 513: what a proven source's request is answered with (RFC 3261 §21.4.1, §21.5.6, §21.5.7).
    pub fn status(self) -> u16 {
        todo!()
    }

    /// For a reason phrase: `Bad Via`, `Content-Length beyond datagram`.
    pub fn reason(self) -> &'static str {
        todo!()
    }
}
