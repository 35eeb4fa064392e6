//! Any bytes as what comes on one connection of the API: requests are read alike however they are cut.

use super::fuzz::is_inside;
use super::meter;
use crate::api::http::{HEAD_BYTES_MAX, Parsed, Refusal, Request, parse};
use crate::limits::HTTP_REQUEST_BYTES_MAX;

/// What was read: a request in words, or why there is no more.
type Seen = Result<String, Refusal>;

/// The first byte says how many lengths of pieces follow, then comes the stream.
///
/// # Panics
/// When a property does not hold.
pub fn http(data: &[u8]) {
    let Some((&count, rest)) = data.split_first() else {
        return;
    };
    let (lengths, stream) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let mut whole = Vec::new();
    let left = read(stream, &mut whole);
    let mut cut = Vec::new();
    let mut input: Vec<u8> = Vec::new();
    let mut remaining = stream;
    let mut length = lengths.iter().cycle();
    while !remaining.is_empty() && !is_over(&cut) {
        // A length for each of what the loop reads at a time at most.
        let wanted = length
            .next()
            .map_or(1024, |&length| 1 + usize::from(length) * 16);
        let (piece, tail) = remaining.split_at(wanted.min(remaining.len()));
        input.extend_from_slice(piece);
        remaining = tail;
        let left = read(&input, &mut cut);
        input.drain(..input.len() - left);
        assert!(
            input.len() < HTTP_REQUEST_BYTES_MAX,
            "more is never waited for"
        );
    }
    assert_eq!(cut, whole, "cuts do not matter");
    assert!(is_over(&whole) || input.len() == left);
}

fn is_over(seen: &[Seen]) -> bool {
    seen.last().is_some_and(Result::is_err)
}

/// Reads all requests that are there; how many bytes are left.
fn read(mut input: &[u8], seen: &mut Vec<Seen>) -> usize {
    while !is_over(seen) && !input.is_empty() {
        match meter::below(0, || parse(input)) {
            Ok(Parsed::Partial { .. }) => break,
            Ok(Parsed::Whole(request, length)) => {
                check(input, &request, length);
                seen.push(Ok(format!("{request:?}")));
                input = &input[length..];
            }
            Err(refusal) => {
                assert!(matches!(refusal.0, 400 | 413 | 431 | 501), "{refusal:?}");
                seen.push(Err(refusal));
            }
        }
    }
    input.len()
}

fn check(input: &[u8], request: &Request<'_>, length: usize) {
    assert!(length <= input.len().min(HTTP_REQUEST_BYTES_MAX));
    let head = length - request.body.len();
    assert!(head <= HEAD_BYTES_MAX);
    assert_eq!(request.body, &input[head..length]);
    assert!(request.path.starts_with('/') && !request.path.contains('?'));
    for part in [request.method, request.path, request.query] {
        assert!(is_inside(&input[..head], part.as_bytes()));
        assert!(!part.bytes().any(|byte| byte <= b' ' || byte == 0x7f));
    }
    let authorization = request.authorization.unwrap_or_default();
    assert!(is_inside(&input[..head], authorization));
    assert!(
        !authorization
            .iter()
            .any(|byte| matches!(byte, b'\r' | b'\n' | 0))
    );
    // The same bytes alone are the same request.
    let alone = parse(&input[..length]).map(|parsed| format!("{parsed:?}"));
    let whole = parse(input).map(|parsed| format!("{parsed:?}"));
    assert_eq!(alone, whole);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    const PIECES: &[&str] = &[
        "GET / HTTP/1.1\r\n",
        "POST /api/v1/bans?a=b HTTP/1.1\r\n",
        "HEAD /x HTTP/1.0\n",
        "GET http://x/ HTTP/1.1\r\n",
        "Content-Length: 3\r\n",
        "content-length:0\r\n",
        "Content-Length: 70000\r\n",
        "Content-Length: +1\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Authorization: Bearer t\r\n",
        "Expect: 100-continue\r\n",
        "\r\n",
        "\n",
        "abc",
        " ",
        ":",
        "\0",
        "\r",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
        #[test]
        fn holds_for_pieces(
            lengths in prop::collection::vec(0..4u8, 0..8),
            pieces in prop::collection::vec(prop::sample::select(PIECES), 0..12),
        ) {
            let mut data = vec![lengths.len() as u8];
            data.extend(lengths);
            data.extend_from_slice(pieces.concat().as_bytes());
            super::http(&data);
        }
    }

    /// A head of more than 16 KiB is refused also where it comes in one piece.
    #[test]
    fn holds_for_long_heads() {
        for length in [16_330, 16_350, 16_370, 16_384, 16_400, 40_000] {
            for is_ended in [true, false] {
                let mut data = vec![2, 15, 40];
                data.extend_from_slice(b"GET / HTTP/1.1\r\nA: ");
                data.extend(std::iter::repeat_n(b'b', length));
                data.extend_from_slice(if is_ended { b"\r\n\r\n" } else { b"" });
                super::http(&data);
            }
        }
    }
}
