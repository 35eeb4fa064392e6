//! RFC 9110, RFC 9112: one HTTP/1.1 request, read in place by httparse. Bounded in size; allocates nothing.
//!
//! Knows no path and no token. No chunked requests.

use crate::limits::HTTP_REQUEST_BYTES_MAX;

/// Header lines of a request. Browsers send about 20.
const HEADER_LINES_MAX: usize = 64;
/// Bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// A whole request, borrowed from its connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// As sent; methods are case-sensitive.
    pub method: &'a str,
    /// Path of the target, percent-encoded, without the query.
    pub path: &'a str,
    /// What stands behind the first `?`, or empty.
    pub query: &'a str,
    /// Value of `Authorization`.
    pub authorization: Option<&'a [u8]>,
    /// The body.
    pub body: &'a [u8],
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
}

/// A request that cannot be answered by a handler: status and reason. The connection closes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub u16, pub &'static str);

/// What the beginning of a connection's bytes is.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A request, and how many bytes it has.
    Whole(Request<'a>, usize),
    /// More bytes are needed.
    Partial {
        /// The peer waits for 100 Continue before it sends the body (RFC 9110 §10.1.1).
        expects_continue: bool,
    },
}

/// Reads one request from the beginning of `input`. Whatever it is cut into on its way, it is read in one way: more bytes
/// behind a whole request or a refused one change nothing.
///
/// # Errors
/// What it is refused with.
pub fn parse(input: &[u8]) -> Result<Parsed<'_>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADER_LINES_MAX];
    let mut head = httparse::Request::new(&mut headers);
    // No more is looked at, so that a head which is too long is refused wherever its pieces end.
    let head_bytes = match head.parse(input.get(..HEAD_BYTES_MAX).unwrap_or(input)) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if input.len() >= HEAD_BYTES_MAX => {
            return Err(Refusal(431, "the head of the request is too long"));
        }
        Ok(httparse::Status::Partial) => {
            return Ok(Parsed::Partial {
                expects_continue: false,
            });
        }
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal(431, "too many header lines")),
        Err(_) => return Err(Refusal(400, "not an HTTP/1.1 request")),
    };
    let (Some(method), Some(target), Some(version)) = (head.method, head.path, head.version) else {
        return Err(Refusal(400, "not an HTTP/1.1 request"));
    };
    let mut authorization = None;
    let mut content_length: Option<usize> = None;
    let mut keep_alive = version == 1;
    let mut expects_continue = false;
    for header in head.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("Authorization") {
            if authorization.replace(header.value).is_some() {
                return Err(Refusal(400, "more than one Authorization"));
            }
        } else if is("Content-Length") {
            let length =
                decimal(header.value).ok_or(Refusal(400, "Content-Length is no number"))?;
            if content_length.replace(length).is_some() {
                return Err(Refusal(400, "more than one Content-Length"));
            }
        } else if is("Transfer-Encoding") {
            return Err(Refusal(
                501,
                "a request with Transfer-Encoding is not supported",
            ));
        } else if is("Connection") {
            let mut tokens = header
                .value
                .split(|&byte| byte == b',')
                .map(<[u8]>::trim_ascii);
            if tokens.any(|token| token.eq_ignore_ascii_case(b"close")) {
                keep_alive = false;
            }
        } else if is("Expect") && header.value.eq_ignore_ascii_case(b"100-continue") {
            expects_continue = true;
        }
    }
    let length = content_length.unwrap_or(0);
    let whole = head_bytes.saturating_add(length);
    if whole > HTTP_REQUEST_BYTES_MAX {
        return Err(Refusal(413, "the request is too long"));
    }
    if input.len() < whole {
        return Ok(Parsed::Partial {
            expects_continue: expects_continue && version == 1,
        });
    }
    if !target.starts_with('/') {
        return Err(Refusal(400, "the target of the request is not a path"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let body = &input[head_bytes..whole];
    let request = Request {
        method,
        path,
        query,
        authorization,
        body,
        keep_alive,
    };
    Ok(Parsed::Whole(request, whole))
}

fn decimal(value: &[u8]) -> Option<usize> {
    let digits = std::str::from_utf8(value).ok()?;
    // `parse` would also take a sign.
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(input: &str) -> Request<'_> {
        match parse(input.as_bytes()).unwrap() {
            Parsed::Whole(request, length) => {
                assert_eq!(length, input.len());
                request
            }
            partial => panic!("{partial:?}"),
        }
    }

    #[test]
    fn request_is_read_whole_or_not_at_all() {
        let text = "POST /api/v1/bans?a=b%20c HTTP/1.1\r\nHost: x\r\nauthorization: Bearer t\r\nContent-Length: 4\r\n\r\nbody";
        let request = whole(text);
        assert_eq!(
            (request.method, request.path, request.query),
            ("POST", "/api/v1/bans", "a=b%20c")
        );
        assert_eq!(request.authorization, Some(&b"Bearer t"[..]));
        assert_eq!(request.body, b"body");
        assert!(request.keep_alive);
        for length in 0..text.len() {
            let parsed = parse(&text.as_bytes()[..length]).unwrap();
            assert_eq!(
                parsed,
                Parsed::Partial {
                    expects_continue: false
                },
                "{length}"
            );
        }
        assert!(!whole("GET / HTTP/1.1\r\nConnection: foo, Close\r\n\r\n").keep_alive);
        assert!(!whole("GET / HTTP/1.0\r\n\r\n").keep_alive);
    }

    #[test]
    fn bad_requests_are_refused() {
        let status = |text: &str| match parse(text.as_bytes()) {
            Err(Refusal(status, _)) => status,
            other => panic!("{other:?}"),
        };
        assert_eq!(status("GET /\r\n\r\n"), 400);
        assert_eq!(status("\u{0}"), 400);
        assert_eq!(status("GET http://x/ HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nContent-Length: +4\r\n\r\n"), 400);
        assert_eq!(
            status("GET / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n"),
            400
        );
        assert_eq!(
            status("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n"),
            400
        );
        assert_eq!(
            status("GET / HTTP/1.1\r\nContent-Length: 65536\r\n\r\n"),
            413
        );
        assert_eq!(
            status("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            501
        );
        assert_eq!(
            status(&format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65))),
            431
        );
        assert_eq!(
            status(&format!(
                "GET / HTTP/1.1\r\nA: {}",
                "b".repeat(HEAD_BYTES_MAX)
            )),
            431
        );
        // Also where its end has come with it.
        assert_eq!(
            status(&format!(
                "GET / HTTP/1.1\r\nA: {}\r\n\r\n",
                "b".repeat(HEAD_BYTES_MAX)
            )),
            431
        );
    }
}
