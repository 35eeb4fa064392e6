//! A second reader of SIP messages, which knows nothing of `message`: it splits lines, and what it takes for the branch, the tags
//! and the rest must be what `message` takes for them. It reads as the phone, the proxy or the capture filter of somebody else
//! does, who was written from the same RFC and has never seen ours.

use crate::message::{HeaderName, Message, parse};

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First<'a> {
    /// Method and Request-URI.
    Request(&'a [u8], &'a [u8]),
    /// Status code.
    Response(u32),
}

/// What everybody relies on in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading<'a> {
    /// The first line.
    pub first: First<'a>,
    /// Of the topmost Via.
    pub branch: &'a [u8],
    /// Of From.
    pub from_tag: &'a [u8],
    /// Of To; empty: none.
    pub to_tag: &'a [u8],
    /// Whom To names.
    pub to: &'a [u8],
    /// Call-ID.
    pub call_id: &'a [u8],
    /// Number and method.
    pub cseq: (u32, &'a [u8]),
    /// Max-Forwards.
    pub max_forwards: Option<u32>,
    /// Values of Contact.
    pub contacts: Vec<&'a [u8]>,
    /// The body.
    pub body: &'a [u8],
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, what)
}

fn number(bytes: &[u8]) -> Option<u32> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// The bytes before the first of these outside quotes and angle brackets, and those behind it.
fn split_outside(bytes: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    let (mut is_quoted, mut is_escaped, mut depth) = (false, false, 0);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' if depth == 0 => is_quoted = !is_quoted,
            _ if is_quoted => {}
            b'<' => depth = 1,
            b'>' => depth = 0,
            _ if *byte == separator && depth == 0 => return (&bytes[..at], Some(&bytes[at + 1..])),
            _ => {}
        }
    }
    (bytes, None)
}

/// The parameter of this name behind an address or a Via.
fn parameter<'a>(value: &'a [u8], name: &[u8]) -> &'a [u8] {
    let mut rest = split_outside(value, b';').1;
    while let Some(text) = rest {
        let (one, more) = split_outside(text, b';');
        let (key, is) = split_outside(one, b'=');
        if key.trim_ascii().eq_ignore_ascii_case(name) {
            return is.unwrap_or_default().trim_ascii();
        }
        rest = more;
    }
    b""
}

/// The URI of an address.
pub fn uri(value: &[u8]) -> &[u8] {
    let (address, _) = split_outside(value, b';');
    let (_, bracketed) = split_bracket(address);
    bracketed.unwrap_or(address).trim_ascii()
}

/// What stands in angle brackets, outside quotes.
fn split_bracket(address: &[u8]) -> (&[u8], Option<&[u8]>) {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in address.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b'<' if !is_quoted => {
                let inside = &address[at + 1..];
                let end = inside.iter().position(|byte| *byte == b'>');
                return (&address[..at], Some(&inside[..end.unwrap_or(inside.len())]));
            }
            _ => {}
        }
    }
    (address, None)
}

/// The `expires` of a Contact's value, in seconds.
pub fn contact_expires(value: &[u8]) -> Option<u32> {
    number(parameter(value, b"expires"))
}

/// The user part of a URI.
pub fn user(uri: &[u8]) -> &[u8] {
    let behind = uri
        .iter()
        .position(|byte| *byte == b':')
        .map_or(0, |at| at + 1);
    let rest = &uri[behind..];
    let end = rest.iter().position(|byte| *byte == b'@');
    end.map_or(b"", |end| &rest[..end])
}

/// What a header is called, in full or by its letter.
fn is_called(name: &[u8], full: &str, letter: &str) -> bool {
    name.eq_ignore_ascii_case(full.as_bytes()) || name.eq_ignore_ascii_case(letter.as_bytes())
}

/// Reads a message.
///
/// # Errors
/// Why it is none.
pub fn read(bytes: &[u8]) -> Result<Reading<'_>, String> {
    let end = find(bytes, b"\r\n\r\n").ok_or("no empty line")?;
    let (head, body) = (&bytes[..end + 2], &bytes[end + 4..]);
    let line_end = find(head, b"\r\n").ok_or("no line")?;
    let first = first_line(&head[..line_end])?;
    let mut reading = Reading {
        first,
        branch: b"",
        from_tag: b"",
        to_tag: b"",
        to: b"",
        call_id: b"",
        cseq: (0, b""),
        max_forwards: None,
        contacts: Vec::new(),
        body,
    };
    let mut length = None;
    let mut has_via = false;
    let mut rest = &head[line_end + 2..];
    while !rest.is_empty() {
        let (line, behind) = one_line(rest)?;
        rest = behind;
        let colon = line.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or("a line without a colon")?;
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if is_called(name, "Via", "v") {
            if !std::mem::replace(&mut has_via, true) {
                let (top, _) = split_outside(value, b',');
                reading.branch = parameter(top, b"branch");
            }
        } else if is_called(name, "From", "f") {
            reading.from_tag = parameter(value, b"tag");
        } else if is_called(name, "To", "t") {
            (reading.to, reading.to_tag) = (uri(value), parameter(value, b"tag"));
        } else if is_called(name, "Call-ID", "i") {
            reading.call_id = value;
        } else if is_called(name, "CSeq", "cseq") {
            let space = value.iter().position(|byte| byte.is_ascii_whitespace());
            let (count, method) = value.split_at(space.ok_or("CSeq without a method")?);
            let count = number(count).ok_or("CSeq without a number")?;
            reading.cseq = (count, method.trim_ascii());
        } else if is_called(name, "Max-Forwards", "max-forwards") {
            reading.max_forwards = number(value);
        } else if is_called(name, "Contact", "m") {
            let mut values = Some(value);
            while let Some(text) = values {
                let (one, more) = split_outside(text, b',');
                reading.contacts.push(one.trim_ascii());
                values = more;
            }
        } else if is_called(name, "Content-Length", "l") {
            length = Some(number(value).ok_or("Content-Length is no number")?);
        }
    }
    if let Some(length) = length {
        let body = reading.body.get(..length as usize);
        reading.body = body.ok_or("less than Content-Length says")?;
    }
    Ok(reading)
}

/// A message, and what follows it.
pub type Cut<'a> = (&'a [u8], &'a [u8]);

/// The first whole message of a stream and what follows it. Keep-alives before it are skipped (RFC 5626 §3.5.1). `None`: it is not
/// all there yet.
///
/// # Errors
/// Why nobody can tell where it ends (RFC 3261 §18.3).
pub fn frame(stream: &[u8]) -> Result<Option<Cut<'_>>, String> {
    let begin = stream.iter().position(|byte| !b"\r\n".contains(byte));
    let stream = &stream[begin.unwrap_or(stream.len())..];
    let Some(end) = find(stream, b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, body) = (&stream[..end + 2], end + 4);
    let mut length = None;
    let mut rest = head;
    while !rest.is_empty() {
        let (line, behind) = one_line(rest)?;
        rest = behind;
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or_default());
        if is_called(name.trim_ascii(), "Content-Length", "l") {
            length = value.get(1..).and_then(|value| number(value.trim_ascii()));
        }
    }
    let length = length.ok_or("nothing says how long its body is")?;
    Ok(stream.split_at_checked(body + length as usize))
}

fn first_line(line: &[u8]) -> Result<First<'_>, String> {
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let (one, two, three) = (words.next(), words.next(), words.next());
    let (Some(one), Some(two)) = (one, two) else {
        return Err("a first line of one word".to_owned());
    };
    if one.eq_ignore_ascii_case(b"SIP/2.0") {
        let status = number(two).ok_or("a status that is no number")?;
        return Ok(First::Response(status));
    }
    match three {
        Some(version) if version.eq_ignore_ascii_case(b"SIP/2.0") => Ok(First::Request(one, two)),
        _ => Err("neither request nor response".to_owned()),
    }
}

/// A header line with those that go on with it (RFC 3261 §7.3.1), and what follows.
fn one_line(rest: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let mut from = 0;
    loop {
        let end = from + find(&rest[from..], b"\r\n").ok_or("a line without an end")?;
        let behind = &rest[end + 2..];
        if !matches!(behind.first(), Some(b' ' | b'\t')) {
            return Ok((&rest[..end], behind));
        }
        from = end + 2;
    }
}

/// Compares this reading with that of `message`.
///
/// # Errors
/// What they differ in.
pub fn compare(reading: &Reading<'_>, message: &Message<'_>) -> Result<(), String> {
    let first = match message.is_request() {
        true => First::Request(message.cseq().token, message.request_uri()),
        false => First::Response(message.status().into()),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let same = |what: &str, one: &[u8], other: &[u8]| match one == other {
        true => Ok(()),
        false => Err(format!(
            "{what}: {:?} here, {:?} there",
            text(one),
            text(other)
        )),
    };
    if reading.first != first {
        return Err(format!(
            "first line: {:?} here, {first:?} there",
            reading.first
        ));
    }
    same("branch", reading.branch, message.via().branch)?;
    let (from, to) = (message.from().tag(), message.to().tag());
    same("From tag", reading.from_tag, from.unwrap_or_default())?;
    same("To tag", reading.to_tag, to.unwrap_or_default())?;
    same("To", reading.to, message.to().uri)?;
    same("Call-ID", reading.call_id, message.call_id())?;
    let cseq = message.cseq();
    same("CSeq method", reading.cseq.1, cseq.token)?;
    if reading.cseq.0 != cseq.number {
        return Err(format!(
            "CSeq: {} here, {} there",
            reading.cseq.0, cseq.number
        ));
    }
    if reading.max_forwards != message.max_forwards().map(u32::from) {
        return Err(format!("Max-Forwards: {:?} here", reading.max_forwards));
    }
    same("body", reading.body, message.body())?;
    if message.value(HeaderName::Contact) == Some(b"*") {
        return Ok(());
    }
    let theirs = message.contact_values().next();
    if let (Some(ours), Some(theirs)) = (reading.contacts.first(), theirs) {
        same("Contact", uri(ours), theirs.address.uri)?;
    }
    Ok(())
}

/// Whether both understand a message in the same way, where both understand it; `None`: one of them does not.
///
/// # Errors
/// What they differ in.
pub fn agree(bytes: &[u8]) -> Result<Option<Reading<'_>>, String> {
    match (read(bytes), parse(bytes)) {
        (Ok(reading), Ok(message)) => {
            compare(&reading, &message)?;
            Ok(Some(reading))
        }
        (Err(why), Ok(_)) => Err(format!("only message reads it, for here: {why}")),
        (_, Err(_)) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:101@pbx SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.7:5062;rport;branch=z9hG4bK1, SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK2\r\n\
        v: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK3\r\n\
        Max-Forwards: 70\r\n\
        f: \"A; tag=no <\\\" \" <sip:100;tag=no@pbx>\r\n ;x=\"tag\" ; tag = a1\r\n\
        To: <sip:101@pbx>\r\n\
        i: 1234@192.0.2.7\r\n\
        CSeq: 7 INVITE\r\n\
        m: \"one, two\" <sip:100@192.0.2.7:5062;lr>;expires=60, <sip:b@[2001:db8::1]>\r\n\
        l: 4\r\n\r\nbodymore";

    #[test]
    fn it_reads_what_message_reads() {
        let reading = agree(INVITE.as_bytes()).unwrap().unwrap();
        assert_eq!(reading.first, First::Request(b"INVITE", b"sip:101@pbx"));
        assert_eq!(
            (reading.branch, reading.from_tag),
            (&b"z9hG4bK1"[..], &b"a1"[..])
        );
        assert_eq!(
            (reading.to_tag, reading.cseq),
            (&b""[..], (7, &b"INVITE"[..]))
        );
        assert_eq!((reading.contacts.len(), reading.body), (2, &b"body"[..]));
        assert_eq!(uri(reading.contacts[0]), b"sip:100@192.0.2.7:5062;lr");
        assert_eq!(contact_expires(reading.contacts[0]), Some(60));
        assert_eq!(user(reading.to), b"101");
    }

    #[test]
    fn a_stream_is_cut_into_its_messages() {
        let end = INVITE.len() - "more".len();
        let (whole, more) = INVITE.as_bytes().split_at(end);
        let stream = [b"\r\n\r\n", whole, b"\r\n", whole, more].concat();
        let (first, behind) = frame(&stream).unwrap().unwrap();
        assert_eq!(first, whole);
        let (second, behind) = frame(behind).unwrap().unwrap();
        assert_eq!((second, behind), (whole, more));
        for end in 0..whole.len() {
            assert_eq!(frame(&whole[..end]), Ok(None), "{end}");
        }
        assert!(frame(b"OPTIONS sip:a SIP/2.0\r\nVia: x\r\n\r\n").is_err());
    }

    #[test]
    fn a_difference_is_seen() {
        let message = parse(INVITE.as_bytes()).unwrap();
        for (from, to) in [
            ("tag = a1", "tag = a2"),
            ("branch=z9hG4bK1", "branch=z9hG4bK4"),
            ("CSeq: 7", "CSeq: 8"),
            ("To: <sip:101@pbx>", "To: <sip:101@pbx>;tag=1"),
            ("l: 4", "l: 5"),
            ("1234@", "1235@"),
            ("sip:101@pbx SIP", "sip:102@pbx SIP"),
            ("Forwards: 70", "Forwards: 7"),
            ("\" <sip:100@", "\" <sip:200@"),
        ] {
            let other = INVITE.replacen(from, to, 1);
            let reading = read(other.as_bytes()).unwrap();
            assert!(compare(&reading, &message).is_err(), "{from}");
        }
    }
}
