//! Messages out: one pass into a reused buffer. Never reads a clock, never fails.
//!
//! Escapes nothing and validates nothing, but no value can end its line: CR and LF within one become blanks.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::*;
use crate::source::Flow;

/// Writes one message: start line, then header fields in call order, then `finish`.
pub struct Composer<'b> {
    buffer: &'b mut Vec<u8>,
}

impl<'b> Composer<'b> {
    /// Clears `buffer`, writes `METHOD uri SIP/2.0`.
    pub fn request(buffer: &'b mut Vec<u8>, method: &[u8], uri: &[u8]) -> Self {
        buffer.clear();
        for part in [method, b" ", uri, b" SIP/2.0"] {
            buffer.extend_from_slice(part);
        }
        end_line(buffer, 0);
        Self { buffer }
    }

    /// Clears `buffer`, writes `SIP/2.0 status reason`.
    pub fn response(buffer: &'b mut Vec<u8>, status: u16, reason: &str) -> Self {
        buffer.clear();
        buffer.extend_from_slice(b"SIP/2.0 ");
        append_number(buffer, u64::from(status));
        buffer.push(b' ');
        buffer.extend_from_slice(reason.as_bytes());
        end_line(buffer, 0);
        Self { buffer }
    }

    /// Clears `buffer`, writes no start line: header lines that [`Composer::lines`] puts into messages.
    pub fn lines_into(buffer: &'b mut Vec<u8>) -> Self {
        buffer.clear();
        Self { buffer }
    }

    /// RFC 3261 §8.2.6.2: a response to `request`: all its Via lines, the top one stamped with `received` and `rport`
    /// (§18.2.1, RFC 3581) from `flow.remote`, From, Call-ID, CSeq, To with `to_tag` added if it has none (an empty `to_tag` is
    /// not added), and Timestamp on 100.
    pub fn response_to(
        buffer: &'b mut Vec<u8>,
        request: &Message<'_>,
        flow: &Flow,
        status: u16,
        reason: &str,
        to_tag: &[u8],
    ) -> Self {
        let mut composer = Self::response(buffer, status, reason);
        composer.repeated(request, flow);
        composer.to(request.to().raw, request.to().tag().is_some(), to_tag);
        if let (100, Some(timestamp)) = (status, request.value(HeaderName::Timestamp)) {
            composer.field("Timestamp", &[timestamp]);
        }
        composer
    }

    /// The same from a request that did not parse.
    pub fn error_response(
        buffer: &'b mut Vec<u8>,
        skeleton: &Skeleton<'_>,
        flow: &Flow,
        status: u16,
        reason: &str,
        to_tag: &[u8],
    ) -> Self {
        let mut composer = Self::response(buffer, status, reason);
        composer.vias(skeleton.via_lines(), &skeleton.via, flow);
        composer.field("From", &[skeleton.from]);
        let has_tag = match NameAddr::parse(skeleton.to) {
            Ok(to) => to.tag().is_some(),
            Err(_) => skeleton
                .to
                .windows(5)
                .any(|w| w.eq_ignore_ascii_case(b";tag=")),
        };
        composer.to(skeleton.to, has_tag, to_tag);
        composer.field("Call-ID", &[skeleton.call_id]);
        composer.field("CSeq", &[skeleton.cseq]);
        composer
    }

    /// What every response to `request` repeats: Via, From, Call-ID and CSeq; To is as the response wants it.
    pub fn repeated(&mut self, request: &Message<'_>, flow: &Flow) {
        self.vias(request.line_values(HeaderName::Via), request.via(), flow);
        let cseq = request.value(HeaderName::CSeq).unwrap_or_default();
        self.line(b"From: ", request.from().raw);
        self.line(b"Call-ID: ", request.call_id());
        self.line(b"CSeq: ", cseq);
    }

    /// One field, its name with colon and blank.
    fn line(&mut self, name: &[u8], value: &[u8]) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(name);
        self.buffer.extend_from_slice(value);
        end_line(self.buffer, start);
    }

    fn vias<'v>(&mut self, lines: impl Iterator<Item = &'v [u8]>, top: &Via<'_>, flow: &Flow) {
        for (number, line) in lines.enumerate() {
            if number == 0 {
                self.field_with("Via", |buffer| stamp(buffer, line, top, flow));
            } else {
                self.line(b"Via: ", line);
            }
        }
    }

    fn to(&mut self, to: &[u8], has_tag: bool, tag: &[u8]) {
        if has_tag || tag.is_empty() {
            self.field("To", &[to]);
        } else {
            self.field("To", &[to, b";tag=", tag]);
        }
    }

    /// One field: `Name: ` and the parts, joined. CR and LF within parts become blanks (folding is undone).
    pub fn field(&mut self, name: &str, parts: &[&[u8]]) -> &mut Self {
        self.field_with(name, |buffer| {
            for part in parts {
                buffer.extend_from_slice(part);
            }
        })
    }

    /// One field with a number.
    pub fn number(&mut self, name: &str, number: u64) -> &mut Self {
        self.field_with(name, |buffer| append_number(buffer, number))
    }

    /// One field whose value is appended by `write`. CR and LF within it become blanks too.
    pub fn field_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(name.as_bytes());
        self.buffer.extend_from_slice(b": ");
        write(self.buffer);
        end_line(self.buffer, start);
        self
    }

    /// Whole header lines that were composed before, each ended by CRLF.
    pub fn lines(&mut self, lines: &[u8]) -> &mut Self {
        self.buffer.extend_from_slice(lines);
        self
    }

    /// Content-Type (if there is a body), Content-Length, the blank line and the body.
    pub fn finish(mut self, content_type: Option<&[u8]>, body: &[u8]) {
        if let (Some(content_type), false) = (content_type, body.is_empty()) {
            self.field("Content-Type", &[content_type]);
        }
        if body.is_empty() {
            self.buffer.extend_from_slice(b"Content-Length: 0\r\n\r\n");
            return;
        }
        self.number("Content-Length", body.len() as u64);
        self.buffer.extend_from_slice(b"\r\n");
        self.buffer.extend_from_slice(body);
    }
}

/// Ends the line that begins at `start`: CR and LF that are in it so far become blanks.
fn end_line(buffer: &mut Vec<u8>, start: usize) {
    let line = buffer.get_mut(start..).unwrap_or_default();
    if !scan::skip_to_control(line).is_empty() {
        for byte in line {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
    }
    buffer.extend_from_slice(b"\r\n");
}

/// Appends a decimal number. By hand: the formatting machinery takes longer than the rest of an ordinary header line.
pub(crate) fn append_number(buffer: &mut Vec<u8>, number: u64) {
    // As many digits as u64::MAX has.
    let mut digits = [0; 20];
    let mut first = 0;
    let mut rest = number;
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' | (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            first = at;
            break;
        }
    }
    buffer.extend_from_slice(digits.get(first..).unwrap_or_default());
}

/// [`append_number`] of what an IPv4 address has four of.
fn append_octet(buffer: &mut Vec<u8>, octet: u8) {
    if octet >= 100 {
        buffer.push(b'0' | (octet / 100));
    }
    if octet >= 10 {
        buffer.push(b'0' | (octet / 10 % 10));
    }
    buffer.push(b'0' | (octet % 10));
}

/// Appends address and port as their `Display` writes them, IPv6 in brackets.
pub(crate) fn append_socket_address(buffer: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            append_address(buffer, (*address.ip()).into());
            buffer.push(b':');
            append_number(buffer, address.port().into());
        }
        SocketAddr::V6(address) => {
            // Writing to a Vec cannot fail.
            let _ = write!(buffer, "{address}");
        }
    }
}

/// Appends an address as a URI's host: IPv6 in brackets.
pub(crate) fn append_host(buffer: &mut Vec<u8>, address: IpAddr) {
    if address.is_ipv6() {
        buffer.push(b'[');
        append_address(buffer, address);
        buffer.push(b']');
    } else {
        append_address(buffer, address);
    }
}

/// Appends an address as its `Display` writes it: IPv6 without brackets.
pub(crate) fn append_address(buffer: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            append_octet(buffer, a);
            for octet in [b, c, d] {
                buffer.push(b'.');
                append_octet(buffer, octet);
            }
        }
        IpAddr::V6(address) => {
            // Writing to a Vec cannot fail.
            let _ = write!(buffer, "{address}");
        }
    }
}

/// RFC 3261 §18.2.1, RFC 3581 §4: the line with its first value's `received` and `rport` replaced by what is true.
fn stamp(buffer: &mut Vec<u8>, line: &[u8], top: &Via<'_>, flow: &Flow) {
    let remote = flow.remote.ip().to_canonical();
    let (value, others) = line
        .split_at_checked(scan::comma(line))
        .unwrap_or((line, b""));
    let mut rport = false;
    for (number, part) in split_parameters(value).enumerate() {
        let part = scan::trim(part);
        let is_named = |name: &[u8]| {
            part.split_at_checked(name.len())
                .is_some_and(|(start, rest)| {
                    start.eq_ignore_ascii_case(name)
                        && matches!(scan::trim(rest).first(), None | Some(b'='))
                })
        };
        // Both names begin with it, and the branch, which is looked at most, does not.
        let may_be_named = matches!(part.first(), Some(b'r' | b'R'));
        if number == 0 {
            buffer.extend_from_slice(part);
        } else if may_be_named && is_named(b"rport") {
            if !std::mem::replace(&mut rport, true) {
                buffer.extend_from_slice(b";rport=");
                append_number(buffer, flow.remote.port().into());
            }
        } else if !(may_be_named && is_named(b"received")) {
            buffer.push(b';');
            buffer.extend_from_slice(part);
        }
    }
    if rport || top.address != Some(remote) {
        buffer.extend_from_slice(b";received=");
        append_address(buffer, remote);
    }
    buffer.extend_from_slice(others);
}

/// What stands before, between and behind the semicolons outside quotes.
fn split_parameters(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let (part, behind) = rest?.split_at_checked(semicolon(rest?))?;
        rest = behind.get(1..);
        Some(part)
    })
}

/// Where the first semicolon outside quotes stands, else the end.
fn semicolon(bytes: &[u8]) -> usize {
    let Some(at) = scan::find_either(bytes, b';', b'"') else {
        return bytes.len();
    };
    if bytes.get(at) == Some(&b';') {
        return at;
    }
    let (mut quoted, mut escaped) = (false, false);
    let is_end = |&byte: &u8| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        byte == b';' && !quoted
    };
    bytes.iter().position(is_end).unwrap_or(bytes.len())
}

/// The usual reason phrase of a status (RFC 3261 §21 and its extensions), or that of its class.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        429 => "Provide Referrer Identity",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        469 => "Bad Info Package",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        _ => match status / 100 {
            0 | 1 => "Trying",
            2 => "OK",
            3 => "Multiple Choices",
            4 => "Bad Request",
            5 => "Server Internal Error",
            _ => "Decline",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Transport;

    #[test]
    fn numbers_and_addresses_are_as_the_library_writes_them() {
        for number in [
            0,
            1,
            9,
            10,
            99,
            100,
            65_535,
            4_294_967_295,
            u64::MAX - 1,
            u64::MAX,
        ] {
            let mut buffer = Vec::new();
            append_number(&mut buffer, number);
            assert_eq!(buffer, number.to_string().as_bytes());
        }
        for address in ["0.0.0.0", "127.0.0.1", "255.199.10.9", "::1", "2001:db8::7"] {
            let address: IpAddr = address.parse().unwrap();
            let mut buffer = Vec::new();
            append_address(&mut buffer, address);
            assert_eq!(buffer, address.to_string().as_bytes());
            for port in [0, 80, 5060, 65_535] {
                let address = SocketAddr::new(address, port);
                buffer.clear();
                append_socket_address(&mut buffer, address);
                assert_eq!(buffer, address.to_string().as_bytes());
            }
        }
    }

    fn flow(remote: &str) -> Flow {
        Flow {
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: remote.parse().unwrap(),
            connection: None,
        }
    }

    fn answer(via: &str, remote: &str) -> String {
        let request = format!(
            "OPTIONS sip:b@c SIP/2.0\r\nVia: {via}\r\nv: SIP/2.0/TCP second\r\nf: <sip:a@b>;tag=1\r\n\
             t: sip:b@c\r\ni: 1\r\nCSeq: 1 OPTIONS\r\nl: 0\r\n\r\n"
        );
        let mut buffer = Vec::new();
        let request = parse(request.as_bytes()).unwrap();
        Composer::response_to(&mut buffer, &request, &flow(remote), 200, "OK", b"t1")
            .finish(None, b"");
        let message = parse(&buffer).unwrap();
        assert_eq!(message.status(), 200);
        assert_eq!(message.to().tag(), Some(&b"t1"[..]));
        let lines: Vec<_> = message.line_values(HeaderName::Via).collect();
        assert_eq!(lines[1], b"SIP/2.0/TCP second");
        String::from_utf8(lines[0].to_vec()).unwrap()
    }

    #[test]
    fn stamps_the_topmost_via_only() {
        for (via, remote, stamped) in [
            (
                "SIP/2.0/UDP 10.0.0.1;branch=z",
                "10.0.0.1:9",
                "SIP/2.0/UDP 10.0.0.1;branch=z",
            ),
            (
                "SIP/2.0/UDP 10.0.0.2;branch=z",
                "10.0.0.1:9",
                "SIP/2.0/UDP 10.0.0.2;branch=z;received=10.0.0.1",
            ),
            (
                "SIP/2.0/UDP 10.0.0.1;rport;branch=z",
                "10.0.0.1:9",
                "SIP/2.0/UDP 10.0.0.1;rport=9;branch=z;received=10.0.0.1",
            ),
            (
                "SIP/2.0/UDP pc;received=6.6.6.6;rport=1;x=\"a;b,\\\"\", SIP/2.0/UDP p;rport",
                "[2001:db8::1]:9",
                "SIP/2.0/UDP pc;rport=9;x=\"a;b,\\\"\";received=2001:db8::1, SIP/2.0/UDP p;rport",
            ),
            (
                "SIP/2.0/UDP [::ffff:10.0.0.1]",
                "10.0.0.1:9",
                "SIP/2.0/UDP [::ffff:10.0.0.1]",
            ),
        ] {
            assert_eq!(answer(via, remote), stamped);
        }
    }

    #[test]
    fn no_value_ends_its_line() {
        let mut buffer = Vec::new();
        let mut composer = Composer::request(&mut buffer, b"A\r\nB", b"sip:a\r\n");
        composer.field("Subject", &[b"a\r\n b", b"\nEvil: x\r"]);
        composer.finish(Some(b"a/b\r\n"), b"x");
        let text = String::from_utf8(buffer).unwrap();
        assert_eq!(
            text,
            "A  B sip:a   SIP/2.0\r\nSubject: a   b Evil: x \r\nContent-Type: a/b  \r\nContent-Length: 1\r\n\r\nx"
        );
    }

    #[test]
    fn line_ends_become_blanks_wherever_they_stand_and_nothing_else_does() {
        let ended = |line: &[u8]| {
            let mut buffer = [b"\r\n", line].concat();
            end_line(&mut buffer, 2);
            buffer
        };
        for length in 0..40 {
            let line = vec![b'~'; length];
            for (at, byte) in (0..length).flat_map(|at| [(at, b'\r'), (at, b'\n')]) {
                let (mut line, mut expected) = (line.clone(), line.clone());
                line[at] = byte;
                expected[at] = b' ';
                assert_eq!(ended(&line), [b"\r\n", &expected[..], b"\r\n"].concat());
            }
        }
        for line in ["", "\u{a0}\u{ff}\u{10ffff} \u{8d}\u{8a}", "a\tb\u{7f}\u{c}"] {
            assert_eq!(ended(line.as_bytes()), format!("\r\n{line}\r\n").as_bytes());
        }
    }

    #[test]
    fn every_status_has_a_phrase() {
        assert_eq!(reason_phrase(486), "Busy Here");
        assert_eq!(reason_phrase(299), "OK");
        assert_eq!(reason_phrase(499), "Bad Request");
        assert!((0..=u16::MAX).all(|status| !reason_phrase(status).is_empty()));
    }
}
