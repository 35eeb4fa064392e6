//! The session description within a body (RFC 5621, RFC 2046 §5.1).

use std::ops::Range;

use memchr::memmem;

/// Parts of a multipart body that are looked at.
const PARTS_MAX: usize = 16;

/// Where the session description lies in a body of this Content-Type; `None`: there is none.
pub fn part(kind: &[u8], body: &[u8]) -> Option<Range<usize>> {
    if kind == b"application/sdp" && !body.is_empty() {
        return Some(0..body.len());
    }
    let (name, params) = split_kind(kind);
    if name.eq_ignore_ascii_case(b"application/sdp") {
        return (!body.is_empty()).then_some(0..body.len());
    }
    let is_multipart = name
        .get(..10)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"));
    let boundary = boundary(params).filter(|_| is_multipart)?;
    let mut delimiter = b"--".to_vec();
    delimiter.extend_from_slice(boundary);
    let mut at = next_delimiter(body, &delimiter, 0)?;
    for _ in 0..PARTS_MAX {
        // Behind the delimiter's line.
        let begin = line_end(body, at.end)?;
        let next = next_delimiter(body, &delimiter, begin)?;
        let part = body.get(begin..next.start)?;
        if let Some(content) = described(part) {
            let start = begin.checked_add(content)?;
            return (start < next.start).then_some(start..next.start);
        }
        at = next;
    }
    None
}

/// `multipart/mixed` and `; boundary=...`.
fn split_kind(kind: &[u8]) -> (&[u8], &[u8]) {
    let end = kind.iter().position(|byte| *byte == b';');
    let (name, params) = kind.split_at(end.unwrap_or(kind.len()).min(kind.len()));
    (name.trim_ascii(), params)
}

fn boundary(params: &[u8]) -> Option<&[u8]> {
    let mut params = params.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let value = params.find_map(|param| {
        let name = param.get(..9)?;
        name.eq_ignore_ascii_case(b"boundary=")
            .then(|| param.get(9..))?
    })?;
    let bare = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    Some(bare.unwrap_or(value)).filter(|value| !value.is_empty() && value.len() <= 70)
}

/// The next line that begins with the delimiter: from the line end before it, which belongs to it.
fn next_delimiter(body: &[u8], delimiter: &[u8], from: usize) -> Option<Range<usize>> {
    let rest = body.get(from..)?;
    for found in memmem::find_iter(rest, delimiter) {
        let start = from.checked_add(found)?;
        let end = start.checked_add(delimiter.len())?;
        let before = body.get(..start)?;
        if before.is_empty() || start == from {
            return Some(start..end);
        }
        let Some(line) = before.strip_suffix(b"\n") else {
            continue;
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        return Some(line.len().max(from)..end);
    }
    None
}

/// Where the next line begins.
fn line_end(body: &[u8], from: usize) -> Option<usize> {
    let end = memchr::memchr(b'\n', body.get(from..)?)?;
    from.checked_add(end)?.checked_add(1)
}

/// Where the content of a part begins whose Content-Type is that of a session description.
fn described(part: &[u8]) -> Option<usize> {
    let mut at = 0usize;
    let mut is_description = false;
    loop {
        let end = line_end(part, at)?;
        let line = part.get(at..end)?.trim_ascii();
        at = end;
        if line.is_empty() {
            return is_description.then_some(at);
        }
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (
            halves.next()?.trim_ascii_end(),
            halves.next().unwrap_or_default(),
        );
        if name.eq_ignore_ascii_case(b"Content-Type") || name.eq_ignore_ascii_case(b"c") {
            let (kind, _) = split_kind(value.trim_ascii());
            is_description = kind.eq_ignore_ascii_case(b"application/sdp");
        }
    }
}
