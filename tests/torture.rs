//! RFC 4475 and RFC 5118: each of their messages, decided as their sections say.
//!
//! Here is what parsing alone decides: accepted and read as what, or refused and with which answer. What the server as a whole
//! makes of an accepted one (405, 415, 416, 420, 483 …) is not tested here.

use std::net::SocketAddr;

use sipkeep::message::{
    Composer, ContactValue, DigestParams, Error, ErrorKind, HeaderName, Host, Message, Method,
    NameAddr, Scheme, StartLine, Uri, Via, parse, salvage,
};
use sipkeep::source::{Flow, Transport};

/// `name section file => what holds`: a test each, its file named in every failure.
macro_rules! torture {
    ($($name:ident $section:literal $file:literal => $check:expr;)+) => {
        $(
            #[doc = concat!("Section ", $section)]
            #[test]
            fn $name() {
                let check: fn(&[u8]) = $check;
                check(include_bytes!(concat!("corpus/", $file)));
            }
        )+

        /// What holds for any bytes holds for these and for each with one byte taken out or made another.
        #[test]
        fn mutated_files_break_nothing() {
            for bytes in [$(&include_bytes!(concat!("corpus/", $file))[..]),+] {
                sipkeep::testing::fuzz::message(bytes);
                let mut mutated = bytes.to_vec();
                for at in (0..bytes.len().min(700)).step_by(7) {
                    let byte = b"\r\n\0\t ;,:<>\"\\=%"[at % 14];
                    mutated[at] = byte;
                    sipkeep::testing::fuzz::message(&mutated);
                    mutated.remove(at);
                    sipkeep::testing::fuzz::message(&mutated);
                    mutated.insert(at, bytes[at]);
                }
            }
        }

        /// No file lies in the corpus without a test of its own.
        #[test]
        fn every_file_has_its_test() {
            let tested = [$($file),+];
            for folder in ["rfc4475", "rfc5118"] {
                let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
                for entry in std::fs::read_dir(path).unwrap() {
                    let name = entry.unwrap().file_name().into_string().unwrap();
                    let file = format!("{folder}/{name}");
                    assert!(name == "manifest.tsv" || tested.contains(&file.as_str()), "{file}");
                }
            }
        }
    };
}

fn accepted(bytes: &[u8]) -> Message<'_> {
    parse(bytes).unwrap_or_else(|error| panic!("refused: {error}"))
}

fn refused(bytes: &[u8], kind: ErrorKind) -> Error {
    match parse(bytes) {
        Ok(_) => panic!("accepted"),
        Err(error) => {
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.offset <= bytes.len());
            error
        }
    }
}

/// Refused, and what can be salvaged makes a well-formed answer with this status.
fn refused_with(bytes: &[u8], kind: ErrorKind, status: u16) {
    refused(bytes, kind);
    assert_eq!(kind.status(), status);
    let skeleton = salvage(bytes).expect("nothing to answer with");
    let flow = Flow {
        transport: Transport::Udp,
        local: SocketAddr::from(([192, 0, 2, 1], 5060)),
        remote: SocketAddr::from(([198, 51, 100, 9], 5099)),
        connection: None,
    };
    let mut answer = Vec::new();
    Composer::error_response(
        &mut answer,
        &skeleton,
        &flow,
        status,
        kind.reason(),
        b"ours",
    )
    .finish(None, b"");
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with(&format!("SIP/2.0 {status} ")), "{text}");
    let header = text.strip_suffix("\r\n\r\n").unwrap();
    assert!(
        header
            .split("\r\n")
            .all(|line| !line.contains(['\r', '\n', '\0'])),
        "{text}"
    );
    let fields: Vec<_> = header
        .split("\r\n")
        .skip(1)
        .map(|line| line.split_once(": ").unwrap().0)
        .collect();
    assert_eq!(
        fields,
        ["Via", "From", "To", "Call-ID", "CSeq", "Content-Length"],
        "{text}"
    );
    assert!(text.contains(";received=198.51.100.9"), "{text}");
    assert_eq!(
        text.matches(";tag=ours").count(),
        usize::from(!skeleton.to.windows(5).any(|w| w == b";tag="))
    );
}

/// RFC 5118's files have bare LF.
fn crlf(bytes: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(!text.contains('\r'));
    text.replace('\n', "\r\n").into_bytes()
}

fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn values<'a>(message: &Message<'a>, name: HeaderName) -> Vec<&'a str> {
    message.values(name).map(utf8).collect()
}

fn user(uri: &[u8]) -> Vec<u8> {
    let mut user = Vec::new();
    Uri::parse(uri).unwrap().user_unescaped(&mut user);
    user
}

fn ipv6(text: &str) -> Host<'static> {
    Host::Address(std::net::IpAddr::V6(text.parse().unwrap()))
}

torture! {
    wsinv "RFC 4475 §3.1.1.1" "rfc4475/wsinv.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(message.method(), Method::Invite);
        assert_eq!(message.uri().unwrap().params.get("unknownparam"), Some(&b""[..]));
        assert_eq!(utf8(message.to().uri), "sip:vivekg@chair-dnrc.example.com");
        assert_eq!(message.to().tag(), Some(&b"1918181833n"[..]));
        assert_eq!(utf8(message.from().display), r#""J Rosenberg \\\"""#);
        let mut display = Vec::new();
        sipkeep::message::unquote(message.from().display, &mut display);
        assert_eq!(utf8(&display), r#"J Rosenberg \""#);
        assert_eq!(utf8(message.from().uri), "sip:jdrosen@example.com");
        assert_eq!(message.from().tag(), Some(&b"98asjd8"[..]));
        assert_eq!(message.max_forwards(), Some(68));
        assert_eq!(utf8(message.call_id()), "wsinv.ndaksdj@192.0.2.1");
        assert_eq!((message.cseq().number, message.cseq().method), (9, Method::Invite));
        assert_eq!(message.via().transport, b"UDP");
        assert_eq!(message.via().host, b"192.0.2.2");
        assert_eq!(message.via().branch, b"390skdjuw");
        let vias = values(&message, HeaderName::Via);
        assert_eq!(vias.len(), 3);
        let second = Via::parse(vias[1].as_bytes()).unwrap();
        assert_eq!((second.transport, second.host), (&b"TCP"[..], &b"spindle.example.com"[..]));
        assert_eq!(second.branch, b"z9hG4bK9ikj8");
        let third = Via::parse(vias[2].as_bytes()).unwrap();
        assert_eq!((third.host, third.branch), (&b"192.168.255.111"[..], &b"z9hG4bK30239"[..]));
        assert_eq!(message.value(HeaderName::Subject), Some(&b""[..]));
        let unknown: Vec<_> =
            message.lines().filter(|line| line.name == HeaderName::Other).map(|line| utf8(line.raw_name)).collect();
        assert_eq!(unknown, ["NewFangledHeader", "UnknownHeaderWithUnusualValue"]);
        let route = NameAddr::parse(message.value(HeaderName::Route).unwrap()).unwrap();
        let route = Uri::parse(route.uri).unwrap();
        assert_eq!(route.params.get("lr"), Some(&b""[..]));
        assert_eq!(route.params.get("unknownwith"), Some(&b"value"[..]));
        let contact = message.contact_values().next().unwrap();
        assert_eq!(utf8(contact.address.display), r#""Quoted string \"\"""#);
        assert_eq!(contact.address.params.get("newparam"), Some(&b"newvalue"[..]));
        assert_eq!(contact.q, 330);
        assert_eq!(message.body().len(), 150);
    };
    intmeth "RFC 4475 §3.1.1.2" "rfc4475/intmeth.dat" => |bytes| {
        let message = accepted(bytes);
        let token = b"!interesting-Method0123456789_*+`.%indeed'~";
        assert_eq!(message.method(), Method::Other);
        assert_eq!(message.cseq().token, token);
        assert!(matches!(message.start(), StartLine::Request { token: found, .. } if found == token));
        let uri = message.uri().unwrap();
        assert_eq!(utf8(uri.user), "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*");
        assert_eq!(utf8(uri.password.unwrap()), "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)");
        assert_eq!(uri.host, Host::Name(b"example.com"));
        assert_eq!(message.to().display, b"\"BEL:\\\x07 NUL:\\\0 DEL:\\\x7f\"");
        assert_eq!(utf8(message.from().display), "token1~` token2'+_ token3*%!.-");
        assert_eq!(message.from().params.get("fromParam''~+*_!.-%"), Some("\"работающий\"".as_bytes()));
        assert_eq!(message.from().tag(), Some(&b"_token~1'+`*%!-."[..]));
        assert_eq!(message.call_id(), br#"intmeth.word%ZK-!.*_+'@word`~)(><:\/"][?}{"#);
        assert_eq!(message.via().branch, b"z9hG4bK-.!%66*_+`'~");
        assert_eq!(message.max_forwards(), Some(255));
        let extension = message.lines().find(|line| line.name == HeaderName::Other).unwrap();
        assert_eq!(extension.raw_name, b"extensionHeader-!.%*+_`'~");
        assert_eq!(utf8(extension.value), "\u{feff}大停電");
    };
    esc01 "RFC 4475 §3.1.1.3" "rfc4475/esc01.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(utf8(message.uri().unwrap().user), "sips%3Auser%40example.com");
        assert_eq!(user(message.request_uri()), b"sips:user@example.com");
        assert_eq!(user(message.to().uri), b"user");
        assert!(Uri::parse(message.to().uri).unwrap().equals(&Uri::parse(b"sip:user@example.com").unwrap()));
        assert_eq!(user(message.from().uri), b"I have spaces");
        let contact = message.contact_values().next().unwrap();
        let uri = Uri::parse(contact.address.uri).unwrap();
        assert!(uri.equals(&Uri::parse(b"sip:caller@host5.example.net;lr;name=value%2541").unwrap()));
    };
    escnull "RFC 4475 §3.1.1.4" "rfc4475/escnull.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(user(message.to().uri), b"null-\0-null");
        let contacts: Vec<_> = message.contact_values().map(|contact| Uri::parse(contact.address.uri).unwrap()).collect();
        assert_eq!(contacts.len(), 2);
        assert!(!contacts[0].equals(&contacts[1]));
    };
    esc02 "RFC 4475 §3.1.1.5" "rfc4475/esc02.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(message.method(), Method::Other);
        assert_eq!(message.cseq().token, b"RE%47IST%45R");
        assert_eq!(message.to().display, b"\"%Z%45\"");
        assert_eq!(message.from().display, b"\"%Z%45\"");
        assert_eq!(values(&message, HeaderName::Contact).len(), 2);
        assert!(message.lines().any(|line| line.raw_name == b"C%6Fntact" && line.name == HeaderName::Other));
    };
    lwsdisp "RFC 4475 §3.1.1.6" "rfc4475/lwsdisp.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(message.from().display, b"caller");
        assert_eq!(message.from().uri, b"sip:caller@example.com");
    };
    longreq "RFC 4475 §3.1.1.7" "rfc4475/longreq.dat" => |bytes| {
        let message = accepted(bytes);
        assert!(message.to().display.starts_with(b"\"I have a user name of extreme"));
        assert!(message.from().tag().unwrap().len() > 100);
        assert!(message.from().params.get("unknownheaderparamnameNamename").is_none());
        assert_eq!(values(&message, HeaderName::Via).len(), 34);
        assert_eq!(message.via().host, b"sip33.example.com");
        let last = values(&message, HeaderName::Via)[33].as_bytes();
        let last = Via::parse(last).unwrap();
        assert_eq!(last.host, b"host.example.com");
        assert!(last.branch.starts_with(b"verylonglong"));
        assert_eq!(last.params.get("received"), Some(&b"192.0.2.5"[..]));
        assert_eq!(message.body().len(), 150);
    };
    dblreq "RFC 4475 §3.1.1.8" "rfc4475/dblreq.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(message.method(), Method::Register);
        assert_eq!(message.body(), b"");
        assert!(message.bytes().len() < bytes.len());
        assert!(message.bytes().ends_with(b"Content-Length: 0\r\n\r\n"));
    };
    semiuri "RFC 4475 §3.1.1.9" "rfc4475/semiuri.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(user(message.request_uri()), b"user;par=u@example.net");
        assert_eq!(message.uri().unwrap().params.0, b"");
        assert_eq!(values(&message, HeaderName::Accept).len(), 6);
        assert_eq!(values(&message, HeaderName::Accept)[5], "message/sipfrag");
    };
    transports "RFC 4475 §3.1.1.10" "rfc4475/transports.dat" => |bytes| {
        let message = accepted(bytes);
        let tokens: Vec<_> =
            message.values(HeaderName::Via).map(|value| utf8(Via::parse(value).unwrap().transport)).collect();
        assert_eq!(tokens, ["UDP", "SCTP", "TLS", "UNKNOWN", "TCP"]);
    };
    mpart01 "RFC 4475 §3.1.1.11" "rfc4475/mpart01.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(message.method(), Method::Message);
        assert_eq!(message.value(HeaderName::ContentType), Some(&b"multipart/mixed;boundary=7a9cbec02ceef655"[..]));
        assert_eq!(message.body().len(), 553);
        assert!(message.body().contains(&0));
        assert!(message.via().rport);
    };
    unreason "RFC 4475 §3.1.1.12" "rfc4475/unreason.dat" => |bytes| {
        let message = accepted(bytes);
        let StartLine::Response { status: 200, reason } = message.start() else { panic!() };
        assert_eq!(utf8(reason), "= 2**3 * 5**2 но сто девяносто девять - простое");
    };
    noreason "RFC 4475 §3.1.1.13" "rfc4475/noreason.dat" => |bytes| {
        assert_eq!(accepted(bytes).start(), StartLine::Response { status: 100, reason: b"" });
    };
    badinv01 "RFC 4475 §3.1.2.1" "rfc4475/badinv01.dat" => |bytes| {
        refused_with(bytes, ErrorKind::Via, 400);
        // Its Contact alone is wrong as well.
        let text = utf8(bytes).replace(";;,;,,", "");
        refused_with(text.as_bytes(), ErrorKind::Contact, 400);
    };
    clerr "RFC 4475 §3.1.2.2" "rfc4475/clerr.dat" => |bytes| {
        refused_with(bytes, ErrorKind::ContentLengthBeyond, 400);
    };
    ncl "RFC 4475 §3.1.2.3" "rfc4475/ncl.dat" => |bytes| refused_with(bytes, ErrorKind::ContentLength, 400);
    scalar02 "RFC 4475 §3.1.2.4" "rfc4475/scalar02.dat" => |bytes| {
        refused_with(bytes, ErrorKind::CSeq, 400);
        let text = utf8(bytes).replace("36893488147419103232", "1");
        refused_with(text.as_bytes(), ErrorKind::MaxForwards, 400);
        // Expires and the contact's expires are the registrar's: overlarge ones are read as the largest.
        let text = text.replace("Max-Forwards: 300", "Max-Forwards: 30");
        assert_eq!(accepted(text.as_bytes()).contact_values().next().unwrap().expires, Some(u32::MAX));
    };
    scalarlg "RFC 4475 §3.1.2.5" "rfc4475/scalarlg.dat" => |bytes| {
        refused(bytes, ErrorKind::CSeq);
        assert!(salvage(bytes).is_none());
    };
    quotbal "RFC 4475 §3.1.2.6" "rfc4475/quotbal.dat" => |bytes| refused_with(bytes, ErrorKind::To, 400);
    ltgtruri "RFC 4475 §3.1.2.7" "rfc4475/ltgtruri.dat" => |bytes| refused_with(bytes, ErrorKind::RequestUri, 400);
    lwsruri "RFC 4475 §3.1.2.8" "rfc4475/lwsruri.dat" => |bytes| refused_with(bytes, ErrorKind::RequestUri, 400);
    lwsstart "RFC 4475 §3.1.2.9" "rfc4475/lwsstart.dat" => |bytes| refused_with(bytes, ErrorKind::RequestUri, 400);
    trws "RFC 4475 §3.1.2.10" "rfc4475/trws.dat" => |bytes| refused_with(bytes, ErrorKind::StartLine, 400);
    escruri "RFC 4475 §3.1.2.11" "rfc4475/escruri.dat" => |bytes| refused_with(bytes, ErrorKind::RequestUri, 400);
    baddate "RFC 4475 §3.1.2.12" "rfc4475/baddate.dat" => |bytes| {
        // Date is not relied on: nobody reads it, and it is never passed on.
        let message = accepted(bytes);
        assert_eq!(message.value(HeaderName::Date), Some(&b"Fri, 01 Jan 2010 16:00:00 EST"[..]));
    };
    regbadct "RFC 4475 §3.1.2.13" "rfc4475/regbadct.dat" => |bytes| refused_with(bytes, ErrorKind::Contact, 400);
    badaspec "RFC 4475 §3.1.2.14" "rfc4475/badaspec.dat" => |bytes| refused_with(bytes, ErrorKind::To, 400);
    baddn "RFC 4475 §3.1.2.15" "rfc4475/baddn.dat" => |bytes| {
        refused_with(bytes, ErrorKind::Unterminated, 400);
        let complete = [bytes, b"\r\n"].concat();
        refused_with(&complete, ErrorKind::From, 400);
    };
    badvers "RFC 4475 §3.1.2.16" "rfc4475/badvers.dat" => |bytes| refused_with(bytes, ErrorKind::Version, 505);
    mismatch01 "RFC 4475 §3.1.2.17" "rfc4475/mismatch01.dat" => |bytes| {
        refused_with(bytes, ErrorKind::CSeqMethod, 400);
    };
    mismatch02 "RFC 4475 §3.1.2.18" "rfc4475/mismatch02.dat" => |bytes| {
        refused_with(bytes, ErrorKind::CSeqMethod, 400);
    };
    bigcode "RFC 4475 §3.1.2.19" "rfc4475/bigcode.dat" => |bytes| {
        refused(bytes, ErrorKind::StartLine);
        assert!(salvage(bytes).is_none());
    };
    badbranch "RFC 4475 §3.2.1" "rfc4475/badbranch.dat" => |bytes| {
        assert_eq!(accepted(bytes).via().branch, b"z9hG4bK");
    };
    insuf "RFC 4475 §3.3.1" "rfc4475/insuf.dat" => |bytes| {
        refused(bytes, ErrorKind::Missing(HeaderName::From));
        assert!(salvage(bytes).is_none(), "nothing to answer with");
    };
    unkscm "RFC 4475 §3.3.2" "rfc4475/unkscm.dat" => |bytes| {
        assert_eq!(accepted(bytes).uri().unwrap().scheme, Scheme::Other);
    };
    novelsc "RFC 4475 §3.3.3" "rfc4475/novelsc.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(message.uri().unwrap().scheme, Scheme::Other);
        assert_eq!(message.request_uri(), b"soap.beep://192.0.2.103:3002");
    };
    unksm2 "RFC 4475 §3.3.4" "rfc4475/unksm2.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(message.to().uri, b"isbn:2983792873");
        assert_eq!(message.from().uri, b"http://www.example.com");
        assert_eq!(message.contact_values().next().unwrap().address.uri, b"name:John_Smith");
    };
    bext01 "RFC 4475 §3.3.5" "rfc4475/bext01.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(values(&message, HeaderName::Require), ["nothingSupportsThis", "nothingSupportsThisEither"]);
        assert_eq!(
            values(&message, HeaderName::ProxyRequire),
            ["noProxiesSupportThis", "norDoAnyProxiesSupportThis"]
        );
    };
    invut "RFC 4475 §3.3.6" "rfc4475/invut.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(message.value(HeaderName::ContentType), Some(&b"application/unknownformat"[..]));
        assert_eq!(message.body().len(), 40);
    };
    regaut01 "RFC 4475 §3.3.7" "rfc4475/regaut01.dat" => |bytes| {
        let message = accepted(bytes);
        let authorization = message.value(HeaderName::Authorization).unwrap();
        assert_eq!(DigestParams::parse(authorization), Ok(None));
    };
    multi01 "RFC 4475 §3.3.8" "rfc4475/multi01.dat" => |bytes| {
        refused_with(bytes, ErrorKind::Doubled(HeaderName::CSeq), 400);
        let mut text = utf8(bytes).replace("CSeq: 59 INVITE\r\n", "");
        for (name, line) in [
            (HeaderName::CallId, "Call-ID: multi01.98asdh@192.0.2.2\r\n"),
            (HeaderName::To, "To: sip:other@example.net\r\n"),
            (HeaderName::From, "From: sip:caller@example.net;tag=2923420123\r\n"),
            (HeaderName::MaxForwards, "Max-Forwards: 5\r\n"),
        ] {
            refused_with(text.as_bytes(), ErrorKind::Doubled(name), 400);
            text = text.replace(line, "");
        }
        assert_eq!(accepted(text.as_bytes()).contact_values().count(), 2);
    };
    mcl01 "RFC 4475 §3.3.9" "rfc4475/mcl01.dat" => |bytes| {
        refused_with(bytes, ErrorKind::Doubled(HeaderName::ContentLength), 400);
        let equal = utf8(bytes).replace("Length: 13", "Length: 5");
        refused_with(equal.as_bytes(), ErrorKind::Doubled(HeaderName::ContentLength), 400);
    };
    bcast "RFC 4475 §3.3.10" "rfc4475/bcast.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(message.status(), 200);
        assert_eq!(values(&message, HeaderName::Via).len(), 2);
    };
    zeromf "RFC 4475 §3.3.11" "rfc4475/zeromf.dat" => |bytes| {
        assert_eq!(accepted(bytes).max_forwards(), Some(0));
    };
    cparam01 "RFC 4475 §3.3.12" "rfc4475/cparam01.dat" => |bytes| {
        let contact = accepted(bytes).contact_values().next().unwrap();
        assert_eq!(contact.address.uri, b"sip:+19725552222@gw1.example.net");
        assert_eq!(contact.address.params.get("unknownparam"), Some(&b""[..]));
    };
    cparam02 "RFC 4475 §3.3.13" "rfc4475/cparam02.dat" => |bytes| {
        let contact = accepted(bytes).contact_values().next().unwrap();
        assert_eq!(contact.address.uri, b"sip:+19725552222@gw1.example.net;unknownparam");
        assert_eq!(contact.address.params.0, b"");
    };
    regescrt "RFC 4475 §3.3.14" "rfc4475/regescrt.dat" => |bytes| {
        let contact = accepted(bytes).contact_values().next().unwrap();
        assert_eq!(Uri::parse(contact.address.uri).unwrap().headers, b"Route=%3Csip:sip.example.com%3E");
    };
    sdp01 "RFC 4475 §3.3.15" "rfc4475/sdp01.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(values(&message, HeaderName::Accept), ["text/nobodyKnowsThis"]);
        assert_eq!(message.body().len(), 150);
    };
    inv2543 "RFC 4475 §3.4.1" "rfc4475/inv2543.dat" => |bytes| {
        let message = accepted(bytes);
        assert_eq!(message.via().branch, b"");
        assert_eq!(message.from().tag(), None);
        assert_eq!(message.max_forwards(), None);
        assert_eq!(message.to().params.get("user"), Some(&b"phone"[..]));
        assert!(message.body().starts_with(b"v=0\r\n"));
        assert!(message.body().ends_with(b"\r\n"), "without Content-Length the body is the rest");
        assert!(matches!(message.contacts(), ContactValue::None));
    };
    /* in the RFC's archive, described by no section */
    test_dat "RFC 4475" "rfc4475/test.dat" => |bytes| {
        refused(bytes, ErrorKind::StartLine);
        assert!(salvage(bytes).is_none());
    };

    ipv6_good "RFC 5118 §4.1" "rfc5118/ipv6-good" => |bytes| {
        let bytes = crlf(bytes);
        let message = accepted(&bytes);
        assert_eq!(message.uri().unwrap().host, ipv6("2001:db8::10"));
        assert_eq!(message.via().host, b"[2001:db8::9:1]");
        assert_eq!(message.contact_values().next().unwrap().address.uri, b"sip:caller@[2001:db8::1]");
    };
    ipv6_bad "RFC 5118 §4.2" "rfc5118/ipv6-bad" => |bytes| {
        refused_with(&crlf(bytes), ErrorKind::RequestUri, 400);
    };
    port_ambiguous "RFC 5118 §4.3" "rfc5118/port-ambiguous" => |bytes| {
        let bytes = crlf(bytes);
        let uri = *accepted(&bytes).uri().unwrap();
        assert_eq!((uri.host, uri.port), (ipv6("2001:db8::10:5070"), None));
    };
    port_unambiguous "RFC 5118 §4.4" "rfc5118/port-unambiguous" => |bytes| {
        let bytes = crlf(bytes);
        let uri = *accepted(&bytes).uri().unwrap();
        assert_eq!((uri.host, uri.port), (ipv6("2001:db8::10"), Some(5070)));
    };
    via_received_with_delimiter "RFC 5118 §4.5" "rfc5118/via-received-param-with-delim" => |bytes| {
        let bytes = crlf(bytes);
        let received = accepted(&bytes).via().params.get("received").unwrap();
        assert_eq!(Host::parse_unbracketed(received), Some(ipv6("2001:db8::9:255")));
    };
    via_received_without_delimiter "RFC 5118 §4.5" "rfc5118/via-received-param-no-delim" => |bytes| {
        let bytes = crlf(bytes);
        let received = accepted(&bytes).via().params.get("received").unwrap();
        assert_eq!(received, b"2001:db8::9:255");
        assert_eq!(Host::parse_unbracketed(received), Some(ipv6("2001:db8::9:255")));
    };
    ipv6_in_sdp "RFC 5118 §4.6" "rfc5118/ipv6-in-sdp" => |bytes| {
        let bytes = crlf(bytes);
        // The RFC counts 17 bytes more than there are (RFC 4475 §3.1.2.2 decides that); its point is the addresses.
        refused_with(&bytes, ErrorKind::ContentLengthBeyond, 400);
        let corrected = utf8(&bytes).replace("Content-Length: 268", "Content-Length: 251");
        let message = accepted(corrected.as_bytes());
        assert_eq!(message.uri().unwrap().host, ipv6("2001:db8::10"));
        assert!(utf8(message.body()).contains("c=IN IP6 2001:db8::20\r\n"));
    };
    multiple_addresses_in_header "RFC 5118 §4.7" "rfc5118/mult-ip-in-header" => |bytes| {
        let bytes = crlf(bytes);
        let message = accepted(&bytes);
        assert_eq!((message.via().host, message.via().port), (&b"[2001:db8::9:1]"[..], Some(6050)));
        assert_eq!(values(&message, HeaderName::Via).len(), 3);
        assert!(message.values(HeaderName::Via).all(|value| Via::parse(value).is_ok()));
    };
    multiple_addresses_in_sdp "RFC 5118 §4.8" "rfc5118/mult-ip-in-sdp" => |bytes| {
        let bytes = crlf(bytes);
        assert!(utf8(accepted(&bytes).body()).contains("c=IN IP4 192.0.2.1\r\n"));
    };
    ipv4_mapped "RFC 5118 §4.9" "rfc5118/ipv4-mapped-ipv6" => |bytes| {
        let bytes = crlf(bytes);
        let message = accepted(&bytes);
        let ipv4 = |text: &str| Host::Address(std::net::IpAddr::V4(text.parse().unwrap()));
        assert_eq!(Host::parse(message.via().host), Some(ipv4("192.0.2.10")));
        assert_eq!(message.via().port, Some(19823));
        let contact = message.contact_values().next().unwrap();
        assert_eq!(Uri::parse(contact.address.uri).unwrap().host, ipv4("192.0.2.2"));
    };
    three_colons "RFC 5118 §4.10" "rfc5118/ipv6-bug-abnf-3-colons" => |bytes| {
        let mut bytes = crlf(bytes);
        refused(&bytes, ErrorKind::Unterminated);
        bytes.extend_from_slice(b"\r\n");
        let message = accepted(&bytes);
        assert_eq!(message.uri().unwrap().host, ipv6("2001:db8::192.0.2.1"));
        assert_eq!(Uri::parse(message.to().uri).unwrap().host, ipv6("2001:db8::192.0.2.1"));
    };
    two_colons "RFC 5118 §4.10" "rfc5118/ipv6-correct-abnf-2-colons" => |bytes| {
        let mut bytes = crlf(bytes);
        refused(&bytes, ErrorKind::Unterminated);
        bytes.extend_from_slice(b"\r\n");
        assert_eq!(accepted(&bytes).uri().unwrap().host, ipv6("2001:db8::192.0.2.1"));
    };
}
