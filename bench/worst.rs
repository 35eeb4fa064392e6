//! What the worst inputs of 64 KiB cost that a parser can be given: `worst/PARSER/INPUT` among the counts, with the bound
//! that `bench/counts` holds them to. Each input is a beginning, a piece again and again, and an end.

use std::hint::black_box;
use std::net::IpAddr;

use sipkeep::api::http;
use sipkeep::limits::{MESSAGE_BYTES_MAX, SDP_STREAMS_MAX};
use sipkeep::message::{
    DigestParams, HeaderName, NameAddr, Params, Uri, Via, parse, salvage, split_values,
};
use sipkeep::sdp::{Shown, part, read, rewrite};
use sipkeep::transport::Framer;

/// Name, beginning, piece, end.
type Input = (&'static str, &'static str, &'static str, &'static str);

/// What every message needs, but for To.
const HEADERS: &str = "Via: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n";

/// Behind the request line and [`HEADERS`]: each has its own To.
const MESSAGES: &[Input] = &[
    ("many_lines", "To: <sip:a@b>\r\n", "A: b\r\n", "\r\n"),
    ("folds", "To: <sip:a@b>\r\nSubject: x", "\r\n y", "\r\n\r\n"),
    (
        "empty_folds",
        "To: <sip:a@b>\r\nSubject:",
        "\r\n ",
        "\r\n\r\n",
    ),
    ("tabs", "To: <sip:a@b>\r\nSubject: x", "\t", "y\r\n\r\n"),
    ("blanks", "To: <sip:a@b>\r\nSubject: ", " ", "\r\n\r\n"),
    (
        "blanks_before_a_colon",
        "To: <sip:a@b>\r\nSubject",
        " ",
        ": x\r\n\r\n",
    ),
    (
        "escaped_controls",
        "To: <sip:a@b>\r\nSubject: \"",
        "\\\u{1}",
        "\"\r\n\r\n",
    ),
    (
        "quotes",
        "To: <sip:a@b>\r\nSubject: \u{1}",
        "\"",
        "\r\n\r\n",
    ),
    ("body", "To: <sip:a@b>\r\n\r\n", "x", ""),
    ("call_id", "To: <sip:a@b>\r\nCall-ID: ", "x", "\r\n\r\n"),
    (
        "length_of_zeros",
        "To: <sip:a@b>\r\nContent-Length: ",
        "0",
        "\r\n\r\n",
    ),
    (
        "vias",
        "To: <sip:a@b>\r\nv: SIP/2.0/UDP h",
        ",SIP/2.0/UDP h",
        "\r\n\r\n",
    ),
    ("contacts", "To: <sip:a@b>\r\nm: a:b", ",a:b", "\r\n\r\n"),
    (
        "bracketed_contacts",
        "To: <sip:a@b>\r\nm: <sip:b>",
        ",<sip:b>",
        "\r\n\r\n",
    ),
    (
        "quoted_contacts",
        "To: <sip:a@b>\r\nm: \"\"<a:b>",
        ",\"\"<a:b>",
        "\r\n\r\n",
    ),
    (
        "address_contacts",
        "To: <sip:a@b>\r\nm: sip:[::1]",
        ",sip:[::1]",
        "\r\n\r\n",
    ),
    (
        "qualified_contacts",
        "To: <sip:a@b>\r\nm: a:b",
        ",a:b;q=0",
        "\r\n\r\n",
    ),
    (
        "blank_contacts",
        "To: <sip:a@b>\r\nm: a:b",
        "\r\n ,\r\n a:b",
        "\r\n\r\n",
    ),
    (
        "contact_parameters",
        "To: <sip:a@b>\r\nm: <a:b>",
        ";q=1",
        "\r\n\r\n",
    ),
    (
        "expiring_contact",
        "To: <sip:a@b>\r\nm: <a:b>",
        ";expires=1",
        "\r\n\r\n",
    ),
    ("to_parameters", "To: <a:b>", ";a", "\r\n\r\n"),
    ("to_values", "To: <a:b>", ";a=b", "\r\n\r\n"),
    ("to_quotes", "To: <a:b>", ";a=\"\"", "\r\n\r\n"),
    ("to_blanks", "To: <a:b>", " ; a = b", "\r\n\r\n"),
    ("to_words", "To: ", "a ", "<a:b>\r\n\r\n"),
    ("to_name", "To: \"", "\\\"", "\" <a:b>\r\n\r\n"),
    ("to_words_without_address", "To: ", "a ", "\r\n\r\n"),
    ("to_users", "To: <sip:", "%41", "@b>\r\n\r\n"),
    ("to_hashes", "To: <sip:", "#", "@b>\r\n\r\n"),
    ("to_labels", "To: <sip:", "a.", "b>\r\n\r\n"),
    ("to_password", "To: <sip:a:", "%41", "@b>\r\n\r\n"),
    ("to_uri_parameters", "To: <sip:b", ";a", ">\r\n\r\n"),
    ("to_uri_values", "To: <sip:b", ";a=b", ">\r\n\r\n"),
    ("to_uri_headers", "To: <sip:b?a=", "&a=", ">\r\n\r\n"),
    ("to_digits", "To: <tel:", "1-", ">\r\n\r\n"),
];

const URIS: &[Input] = &[
    ("users", "sip:", "%41", "@b"),
    ("users_without_host", "sip:", "a", ""),
    ("user_for_nothing", "sip:", "a", "\u{7f}@"),
    ("labels", "sip:", "a.", "b"),
    ("digits", "sip:1.1.1.", "1", ""),
    ("colons", "sip:[", ":", "]"),
    ("port", "sip:b:", "0", "5060"),
    ("parameters", "sip:b", ";a", ""),
    ("values", "sip:b", ";a=b", ""),
    ("headers", "sip:b?a=", "&a=", ""),
    ("number", "tel:", "1", ""),
    ("other", "x:", "%41", ""),
];

const ADDRESSES: &[Input] = &[
    ("words", "", "a ", "<a:b>"),
    ("words_for_nothing", "", "a ", ""),
    ("name", "\"", "\\\"", "\" <a:b>"),
    ("name_without_end", "\"", "a", ""),
    ("parameters", "<a:b>", ";a", ""),
    ("tags", "<a:b>", ";tag", "=1"),
    ("quotes", "<a:b>", ";a=\"\"", ""),
    ("uri", "<sip:b", ";a=b", ">"),
];

const VIAS: &[Input] = &[
    ("parameters", "SIP/2.0/UDP h", ";a", ""),
    ("values", "SIP/2.0/UDP h", ";a=b", ""),
    ("hosts", "SIP/2.0/UDP h", ";a=[::]", ""),
    ("quotes", "SIP/2.0/UDP h", ";a=\"\"", ""),
    ("blanks", "SIP/2.0/UDP h", " ; a = b", ""),
    ("labels", "SIP/2.0/UDP ", "a.", "b"),
    ("branch", "SIP/2.0/UDP h;branch=", "a", ""),
    ("transport", "SIP/2.0/", "a", " h"),
];

const DIGESTS: &[Input] = &[
    ("parameters", "Digest a=b", ",a=b", ""),
    ("names", "Digest a=b", ",response_=b", ""),
    ("quotes", "Digest a=\"\"", ",a=\"\"", ""),
    ("escapes", "Digest nonce=\"", "\\\"", "\""),
    ("blanks", "Digest a=b", " , a = b", ""),
];

const DESCRIPTIONS: &[Input] = &[
    ("lines", "v=0\r\n", "a=b\r\n", ""),
    ("short_lines", "v=0\r\n", "\n", ""),
    (
        "streams",
        "v=0\r\nc=IN IP4 1.1.1.1\r\n",
        "m=audio 1 RTP/AVP 0\r\n",
        "",
    ),
    (
        "connections",
        "v=0\r\nm=audio 1 RTP/AVP 0\r\n",
        "c=IN IP4 1.1.1.1\r\n",
        "",
    ),
    (
        "origins",
        "v=0\r\nc=IN IP4 1.1.1.1\r\nm=audio 1 RTP/AVP 0\r\n",
        "o=- 1 1 IN IP4 1.1.1.1\r\n",
        "",
    ),
    (
        "rtcp",
        "v=0\r\nc=IN IP4 1.1.1.1\r\nm=audio 1 RTP/AVP 0\r\n",
        "a=rtcp:1 IN IP4 1.1.1.1\r\n",
        "",
    ),
    (
        "candidates",
        "v=0\r\nc=IN IP4 1.1.1.1\r\nm=audio 1 RTP/AVP 0\r\n",
        "a=candidate:1\r\n",
        "",
    ),
    (
        "directions",
        "v=0\r\nc=IN IP4 1.1.1.1\r\nm=audio 1 RTP/AVP 0\r\n",
        "a=inactive\r\n",
        "",
    ),
    (
        "formats",
        "v=0\r\nc=IN IP4 1.1.1.1\r\nm=audio 1 RTP/AVP",
        " 0",
        "\r\n",
    ),
];

const MULTIPARTS: &[Input] = &[
    ("boundaries", "--b\r\n", "--b\r\n", ""),
    ("almost", "--b\r\nA: b\r\n\r\n", "\r\n--", ""),
    ("lines", "--b\r\n", "A: b\r\n", "\r\nv=0\r\n--b--"),
    ("parts", "", "--b\r\n\r\nx\r\n", "--b--"),
];

const STREAMS: &[Input] = &[
    ("pings", "", "\r\n\r\n", ""),
    ("messages", "", "A\r\nl:0\r\n\r\n", ""),
    ("lengths", "A\r\n", "l:0\r\n", "\r\n"),
    ("names", "A\r\n", "l \r\n", "\r\n"),
    ("folds", "A\r\nl:", "\r\n ", "0\r\n\r\n"),
    ("no_end", "A\r\n", "\r", ""),
];

const REQUESTS: &[Input] = &[
    ("lines", "GET / HTTP/1.1\r\n", "A: b\r\n", "\r\n"),
    ("path", "GET /", "a", " HTTP/1.1\r\n\r\n"),
    ("value", "GET / HTTP/1.1\r\nA: ", "b", "\r\n\r\n"),
    (
        "connections",
        "GET / HTTP/1.1\r\nConnection: a",
        ",",
        "\r\n\r\n",
    ),
    (
        "chunks",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\n\r\n",
        "",
    ),
    ("empty_lines", "", "\r\n", ""),
    (
        "body",
        "POST / HTTP/1.1\r\nContent-Length: 65000\r\n\r\n",
        "x",
        "",
    ),
];

fn filled((_, begin, piece, end): &Input) -> Vec<u8> {
    let room = MESSAGE_BYTES_MAX - begin.len() - end.len();
    let pieces = piece.repeat(room / piece.len());
    [begin, pieces.as_str(), end].concat().into_bytes()
}

/// Counts one operation of `parse` on each of `inputs`: with a line for each that is bounded by its length.
fn each(
    count: &mut impl FnMut(&str, usize, &mut dyn FnMut()),
    parser: &str,
    inputs: &[Input],
    mut parse: impl FnMut(&[u8]),
) {
    for input in inputs {
        let bytes = filled(input);
        let id = format!("worst/{parser}/{}", input.0);
        count(&id, bytes.len(), &mut || parse(black_box(&bytes)));
    }
}

/// `count` is told an id, the bytes of its input and what to count.
pub fn all(mut count: impl FnMut(&str, usize, &mut dyn FnMut())) {
    let count = &mut count;
    messages(count);
    each(count, "uri", URIS, |bytes| {
        let _ = black_box(Uri::parse(bytes));
    });
    let equal = [
        ("parameters", "sip:b", ";a", ""),
        ("users", "sip:", "%41", "@b"),
    ];
    each(count, "uri_equal", &equal, |bytes| {
        let other = bytes.to_ascii_uppercase();
        let (one, other) = (Uri::parse(bytes), Uri::parse(&other));
        black_box(one.is_ok_and(|one| other.is_ok_and(|other| one.equals(&other))));
    });
    each(count, "name_addr", ADDRESSES, |bytes| {
        let _ = black_box(NameAddr::parse(bytes));
    });
    each(count, "via", VIAS, |bytes| {
        let _ = black_box(Via::parse(bytes));
    });
    each(count, "auth_digest", DIGESTS, |bytes| {
        let _ = black_box(DigestParams::parse(bytes));
    });
    each(count, "parameters", VIAS, |bytes| {
        black_box(Params(bytes.get(13..).unwrap_or_default()).get("none"));
    });
    each(count, "sdp", DESCRIPTIONS, |bytes| {
        let _ = black_box(read(bytes));
    });
    let (ports, address) = (
        [Some(20_000); SDP_STREAMS_MAX],
        IpAddr::from([192, 0, 2, 1]),
    );
    // What cannot be read is not rewritten.
    each(count, "sdp_rewrite", DESCRIPTIONS, |bytes| {
        let mut out = Vec::new();
        if read(bytes).is_err() {
            return;
        }
        rewrite(
            bytes,
            &Shown {
                address,
                ports: &ports,
            },
            &mut out,
        );
        black_box(out);
    });
    each(count, "multipart", MULTIPARTS, |bytes| {
        black_box(part(b"multipart/mixed;boundary=b", bytes));
    });
    each(count, "stream_frame", STREAMS, |bytes| {
        feed(bytes, bytes.len())
    });
    each(count, "stream_frame_in_pieces", STREAMS, |bytes| {
        feed(bytes, 1_400)
    });
    each(count, "http", REQUESTS, |bytes| {
        let _ = black_box(http::parse(bytes));
    });
}

/// As the server reads them: parsed, then each value of each line; what does not parse, for an answer.
fn messages(count: &mut impl FnMut(&str, usize, &mut dyn FnMut())) {
    for (name, begin, piece, end) in MESSAGES {
        // What stands there twice is refused at its second line.
        let headers = match begin.contains("Call-ID") {
            true => HEADERS.replace("Call-ID: 1\r\n", ""),
            false => HEADERS.to_owned(),
        };
        let begin = format!("INVITE sip:b SIP/2.0\r\n{headers}{begin}");
        let room = MESSAGE_BYTES_MAX - begin.len() - end.len();
        let bytes = [&begin, piece.repeat(room / piece.len()).as_str(), end].concat();
        let bytes = bytes.as_bytes();
        count(&format!("worst/message/{name}"), bytes.len(), &mut || {
            let _ = black_box(parse(black_box(bytes)).is_ok());
        });
        count(&format!("worst/values/{name}"), bytes.len(), &mut || {
            black_box(split_values(black_box(bytes)).count());
        });
        count(&format!("worst/salvage/{name}"), bytes.len(), &mut || {
            black_box(salvage(black_box(bytes)).is_some());
        });
        if let Ok(message) = parse(bytes) {
            count(&format!("worst/contacts/{name}"), bytes.len(), &mut || {
                black_box(message.contact_values().count());
                black_box(message.value(HeaderName::Contact));
            });
        }
    }
}

fn feed(bytes: &[u8], length: usize) {
    let mut framer = Framer::new();
    for piece in bytes.chunks(length) {
        let mut frames = framer.feed(piece);
        while let Some(frame) = frames.next() {
            black_box(&frame);
        }
    }
}
