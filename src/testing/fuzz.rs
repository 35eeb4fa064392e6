//! Bodies of the fuzz targets for messages, URIs and digest values: what must hold for any bytes. `fuzz/fuzz_targets/` are shims
//! over these; tests replay the corpus.

use std::net::SocketAddr;

use super::meter;
use crate::limits::{HEADER_LINES_MAX, MESSAGE_BYTES_MAX, SALVAGED_BYTES_MAX};
use crate::message::{
    CSeq, Composer, ContactValue, DigestParams, HeaderName, Host, Message, NameAddr, Params,
    Scheme, StartLine, Uri, Via, escape_user, parse, salvage, split_values,
};
use crate::source::{Flow, Transport};

/// Whether `part` lies in `whole`, as memory.
pub(super) fn is_inside(whole: &[u8], part: &[u8]) -> bool {
    let (whole, part) = (whole.as_ptr_range(), part.as_ptr_range());
    part.is_empty() || (whole.start <= part.start && part.end <= whole.end)
}

fn flow() -> Flow {
    Flow {
        transport: Transport::Udp,
        local: SocketAddr::from(([192, 0, 2, 1], 5060)),
        remote: SocketAddr::from(([198, 51, 100, 9], 5099)),
        connection: None,
    }
}

/// Line ends become blanks, as composing does.
fn unfolded(value: &[u8]) -> Vec<u8> {
    value
        .iter()
        .map(|&byte| {
            if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                byte
            }
        })
        .collect()
}

/// Any bytes as a message: parse, salvage, compose and parse again.
pub fn message(bytes: &[u8]) {
    // Nothing is copied to be read.
    match meter::below(0, || parse(bytes)) {
        Ok(message) => {
            check_index(&message);
            check_header_part(&message);
            check_spans(bytes, &message);
            check_recomposed(&message);
            check_response(&message);
        }
        Err(error) => {
            assert!(error.offset <= bytes.len(), "{error}");
            assert!(matches!(error.kind.status(), 400 | 505 | 513));
        }
    }
    let Some(skeleton) = meter::below(0, || salvage(bytes)) else {
        return;
    };
    let mut answer = Vec::new();
    Composer::error_response(&mut answer, &skeleton, &flow(), 400, "Bad Request", b"ours")
        .finish(None, b"");
    // Names, line ends, status line, tag, stamp and one `Via: ` for each line.
    assert!(answer.len() <= SALVAGED_BYTES_MAX + 256 + 7 * HEADER_LINES_MAX);
    let header = answer.strip_suffix(b"\r\n\r\n").expect("no body");
    let text: Vec<_> = header.split(|&byte| byte == b'\n').collect();
    let (last, lines) = text.split_last().expect("split is never empty");
    for line in lines {
        let line = line.strip_suffix(b"\r").expect("CR before LF");
        assert!(
            !line
                .iter()
                .any(|&byte| byte.is_ascii_control() && byte != b'\t')
        );
    }
    assert_eq!(*last, b"Content-Length: 0");
}

/// What was read of the headers that everyone relies on is what the index has of them, looked up in whichever way.
fn check_index(message: &Message<'_>) {
    let value = |name| message.value(name).unwrap_or_default();
    assert_eq!(
        Via::parse(value(HeaderName::Via)).as_ref(),
        Ok(message.via())
    );
    for (name, address) in [
        (HeaderName::From, message.from()),
        (HeaderName::To, message.to()),
    ] {
        assert_eq!(NameAddr::parse(value(name)).as_ref(), Ok(address));
    }
    assert_eq!(value(HeaderName::CallId), message.call_id());
    assert_eq!(CSeq::parse(value(HeaderName::CSeq)), Ok(message.cseq()));
    let hops = message.value(HeaderName::MaxForwards);
    let hops = hops.map(|text| {
        std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.parse().ok())
    });
    assert_eq!(hops.flatten(), message.max_forwards());
    for line in message.lines() {
        let own = || message.lines().filter(|own| own.name == line.name);
        let first = own().next().map(|own| own.value);
        assert_eq!(message.value(line.name), first);
        let values = message.line_values(line.name);
        assert!(values.eq(own().map(|own| own.value)));
    }
    if let Some(uri) = message.uri() {
        assert_eq!(Uri::parse(message.request_uri()).as_ref(), Ok(uri));
    }
}

/// What strictness promises, checked naively.
fn check_header_part(message: &Message<'_>) {
    let length = message.bytes().len() - message.body().len();
    let header = &message.bytes()[..length];
    assert!(header.ends_with(b"\r\n\r\n"));
    let mut names = Vec::new();
    for (at, &byte) in header.iter().enumerate() {
        match byte {
            b'\r' => assert_eq!(header.get(at + 1), Some(&b'\n')),
            b'\n' => assert_eq!(header[at - 1], b'\r'),
            b'\t' => {}
            _ if byte.is_ascii_control() => assert_eq!(header[at - 1], b'\\', "raw control byte"),
            _ => {}
        }
    }
    for line in header.split(|&byte| byte == b'\n').skip(1) {
        if let Some(first) = line.first()
            && !matches!(first, b' ' | b'\t' | b'\r')
        {
            let colon = line.iter().position(|&byte| byte == b':').expect("a colon");
            let name = String::from_utf8(line[..colon].to_vec()).expect("a token");
            names.push(name.trim_end_matches([' ', '\t']).to_ascii_lowercase());
        }
    }
    assert_eq!(names.len(), message.lines().count());
    for forms in [
        ["from", "f"],
        ["to", "t"],
        ["call-id", "i"],
        ["cseq", "cseq"],
    ] {
        let found = names
            .iter()
            .filter(|name| forms.contains(&name.as_str()))
            .count();
        assert_eq!(found, 1, "{forms:?}");
    }
    for forms in [
        ["content-length", "l"],
        ["max-forwards", ""],
        ["content-type", "c"],
    ] {
        assert!(
            names
                .iter()
                .filter(|name| forms.contains(&name.as_str()))
                .count()
                <= 1
        );
    }
    if let StartLine::Request { token, .. } = message.start() {
        assert_eq!(token, message.cseq().token);
    } else {
        assert!((100..700).contains(&message.status()));
    }
    assert!(message.cseq().number < 1 << 31);
}

fn check_spans(bytes: &[u8], message: &Message<'_>) {
    let via = message.via();
    let mut spans = vec![
        message.bytes(),
        message.body(),
        message.request_uri(),
        message.call_id(),
    ];
    spans.extend([via.transport, via.host, via.branch, via.params.0]);
    spans.extend([message.cseq().token, via.maddr.unwrap_or_default()]);
    for address in [message.from(), message.to()] {
        spans.extend([address.raw, address.display, address.uri, address.params.0]);
        assert!(Uri::parse(address.uri).is_ok());
        assert_ne!(address.tag(), Some(&b""[..]));
        spans.extend(
            address
                .params
                .iter()
                .flat_map(|(name, value)| [Some(name), value])
                .flatten(),
        );
    }
    for line in message.lines() {
        spans.extend([line.raw_name, line.value]);
        spans.extend(split_values(line.value));
        spans.extend(
            Params(line.value)
                .iter()
                .flat_map(|(name, value)| [Some(name), value])
                .flatten(),
        );
        assert!(
            !line
                .value
                .first()
                .is_some_and(|byte| b" \t\r\n".contains(byte))
        );
        assert!(
            !line
                .value
                .last()
                .is_some_and(|byte| b" \t\r\n".contains(byte))
        );
    }
    assert!(spans.iter().all(|span| is_inside(bytes, span)));
    if message.is_request()
        && let ContactValue::Values(values) = message.contacts()
    {
        let all = values.values(HeaderName::Contact).count();
        assert_eq!(
            values.contact_values().count(),
            all,
            "a Contact that was not validated"
        );
        assert!(all > 0);
    }
}

/// parse∘compose is the identity, folds aside.
fn check_recomposed(message: &Message<'_>) {
    use HeaderName::ContentLength;
    let compose = |message: &Message<'_>, out: &mut Vec<u8>| {
        let reason;
        let mut composer = match message.start() {
            StartLine::Request { token, uri, .. } => Composer::request(out, token, uri),
            StartLine::Response {
                status,
                reason: bytes,
            } => {
                reason = String::from_utf8_lossy(bytes);
                Composer::response(out, status, &reason)
            }
        };
        for line in message.lines().filter(|line| line.name != ContentLength) {
            let name = std::str::from_utf8(line.raw_name).expect("a token");
            composer.field(name, &[line.value]);
        }
        composer.finish(None, message.body());
    };
    let mut first = Vec::new();
    compose(message, &mut first);
    let lines = message
        .lines()
        .filter(|line| line.name != ContentLength)
        .count();
    if lines >= HEADER_LINES_MAX || first.len() > MESSAGE_BYTES_MAX {
        return; // the Content-Length that composing adds is one line too many
    }
    let again = parse(&first).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.method(), message.method());
    assert_eq!(again.status(), message.status());
    assert_eq!(again.request_uri(), message.request_uri());
    assert_eq!(again.body(), message.body());
    assert_eq!(again.from().raw, unfolded(message.from().raw));
    assert_eq!(again.to().raw, unfolded(message.to().raw));
    assert_eq!(again.from().tag(), message.from().tag());
    assert_eq!(again.to().tag(), message.to().tag());
    assert_eq!(again.call_id(), message.call_id());
    assert_eq!(again.cseq(), message.cseq());
    assert_eq!(again.max_forwards(), message.max_forwards());
    assert_eq!(
        (again.via().host, again.via().port),
        (message.via().host, message.via().port)
    );
    assert_eq!(
        (again.via().branch, again.via().rport),
        (message.via().branch, message.via().rport)
    );
    let mut second = Vec::new();
    compose(&again, &mut second);
    assert_eq!(first, second);
}

/// A response to it parses, and says the same.
fn check_response(message: &Message<'_>) {
    if !message.is_request() {
        return;
    }
    let mut bytes = Vec::new();
    Composer::response_to(&mut bytes, message, &flow(), 486, "Busy Here", b"ours")
        .finish(None, b"");
    if bytes.len() > MESSAGE_BYTES_MAX {
        return;
    }
    let response = parse(&bytes).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(response.status(), 486);
    assert_eq!(response.via().branch, message.via().branch);
    assert_eq!(
        (response.via().host, response.via().port),
        (message.via().host, message.via().port)
    );
    assert!(!response.via().rport, "rport without a value");
    let asked = message.via().params.get("rport").is_some();
    assert_eq!(response.via().params.get("rport").is_some(), asked);
    let remote = flow().remote.ip();
    let received = response.via().params.get("received");
    let differs = Host::parse(message.via().host) != Some(Host::Address(remote));
    assert_eq!(received.is_some(), differs || asked);
    assert!(received.is_none_or(|received| received == remote.to_string().as_bytes()));
    assert_eq!(response.from().tag(), message.from().tag());
    assert_eq!(
        response.to().tag(),
        Some(message.to().tag().unwrap_or(b"ours"))
    );
    assert_eq!(response.call_id(), message.call_id());
    assert_eq!(response.cseq(), message.cseq());
    let vias = |message: &Message<'_>| message.values(HeaderName::Via).count();
    assert_eq!(vias(&response), vias(message));
}

/// Any bytes as a URI and a host; two halves as two URIs to compare.
pub fn uri(bytes: &[u8]) {
    let parsed = meter::below(0, || Uri::parse(bytes));
    match parsed {
        Ok(uri) => check_uri(bytes, &uri),
        Err(error) => assert!(error.offset <= bytes.len(), "{error}"),
    }
    if let Some((one, other)) = bytes.iter().position(|&byte| byte == b'\n').map(|at| {
        let (one, other) = bytes.split_at(at);
        (one, &other[1..])
    }) && let (Ok(one), Ok(other)) = (Uri::parse(one), Uri::parse(other))
    {
        assert_eq!(
            one.equals(&other),
            other.equals(&one),
            "equality has one direction only"
        );
    }
    let _ = Host::parse_unbracketed(bytes);
    match Host::parse(bytes) {
        Some(Host::Name(name)) => assert!(is_inside(bytes, name) && !name.is_empty()),
        // As it is written canonically it is the same address.
        Some(Host::Address(address)) => {
            let text = match address {
                std::net::IpAddr::V4(address) => address.to_string(),
                std::net::IpAddr::V6(address) => format!("[{address}]"),
            };
            let again = Host::parse(text.as_bytes());
            assert_eq!(again, Some(Host::Address(address)), "{text}");
        }
        None => {}
    }
}

fn check_uri(bytes: &[u8], uri: &Uri<'_>) {
    let password = uri.password.unwrap_or_default();
    for span in [
        uri.raw,
        uri.user,
        password,
        uri.host_raw,
        uri.params.0,
        uri.headers,
    ] {
        assert!(is_inside(bytes, span));
    }
    assert_eq!(uri.raw, bytes);
    assert!(uri.equals(uri));
    assert!(
        !bytes
            .iter()
            .any(|&byte| byte <= b' ' || byte >= 0x7f || b"<>\"".contains(&byte))
    );
    let mut user = Vec::new();
    uri.user_unescaped(&mut user);
    assert!(user.len() <= uri.user.len());
    if !matches!(uri.scheme, Scheme::Sip | Scheme::Sips) {
        return;
    }
    let composed = compose_uri(uri);
    let again = Uri::parse(&composed).unwrap_or_else(|error| panic!("{error}"));
    // Of a port only leading zeros are lost.
    assert_eq!(
        Uri {
            raw: uri.raw,
            ..again
        },
        *uri,
        "composed anew"
    );
    assert_eq!(compose_uri(&again), composed, "composed twice");
    if !user.is_empty() {
        let mut composed = b"sip:".to_vec();
        escape_user(&user, &mut composed);
        composed.push(b'@');
        composed.extend_from_slice(uri.host_raw);
        let again = Uri::parse(&composed).unwrap_or_else(|error| panic!("{error}"));
        let mut user_again = Vec::new();
        again.user_unescaped(&mut user_again);
        assert_eq!(user, user_again);
        assert_eq!(again.host, uri.host);
    }
}

fn compose_uri(uri: &Uri<'_>) -> Vec<u8> {
    let mut out = match uri.scheme {
        Scheme::Sips => b"sips:".to_vec(),
        _ => b"sip:".to_vec(),
    };
    out.extend_from_slice(uri.user);
    if let Some(password) = uri.password {
        out.push(b':');
        out.extend_from_slice(password);
    }
    if !uri.user.is_empty() {
        out.push(b'@');
    }
    out.extend_from_slice(uri.host_raw);
    if let Some(port) = uri.port {
        out.extend_from_slice(format!(":{port}").as_bytes());
    }
    out.extend_from_slice(uri.params.0);
    if !uri.headers.is_empty() {
        out.push(b'?');
        out.extend_from_slice(uri.headers);
    }
    out
}

/// Any bytes as the value of Authorization or WWW-Authenticate.
pub fn auth_digest(bytes: &[u8]) {
    let params = match meter::below(0, || DigestParams::parse(bytes)) {
        Ok(Some(params)) => params,
        Ok(None) => return,
        Err(error) => return assert!(error.offset <= bytes.len(), "{error}"),
    };
    let named = [
        ("username", params.username),
        ("realm", params.realm),
        ("nonce", params.nonce),
        ("uri", params.uri),
        ("response", params.response),
        ("algorithm", params.algorithm),
        ("cnonce", params.cnonce),
        ("opaque", params.opaque),
        ("qop", params.qop),
        ("nc", params.nc),
        ("stale", params.stale),
        ("domain", params.domain),
    ];
    let mut composed = b"Digest ".to_vec();
    for (name, value) in named
        .iter()
        .filter_map(|(name, value)| Some((name, (*value)?)))
    {
        assert!(is_inside(bytes, value));
        if composed.len() > 7 {
            composed.extend_from_slice(b", ");
        }
        composed.extend_from_slice(name.as_bytes());
        composed.extend_from_slice(b"=\"");
        composed.extend_from_slice(value);
        composed.push(b'"');
    }
    if composed.len() > 7 {
        assert_eq!(DigestParams::parse(&composed), Ok(Some(params)));
    }
}
