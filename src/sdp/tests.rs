//! Session descriptions as phones write them, and odd ones.

use std::net::IpAddr;

use super::*;

const PHONE: &str = "v=0\r\n\
    o=alice 53655765 2353687637 IN IP4 10.0.0.5\r\n\
    s=-\r\n\
    c=IN IP4 10.0.0.5\r\n\
    t=0 0\r\n\
    a=ice-lite\r\n\
    m=audio 49170 RTP/AVP 0 8 101\r\n\
    a=rtpmap:101 telephone-event/8000\r\n\
    a=ice-ufrag:8hhY\r\n\
    a=candidate:1 1 UDP 2130706431 10.0.0.5 49170 typ host\r\n\
    a=end-of-candidates\r\n\
    a=rtcp:49171 IN IP4 10.0.0.5\r\n\
    a=sendonly\r\n\
    m=video 0 RTP/AVP 31\r\n\
    m=image 49180 udptl t38\r\n\
    c=IN IP6 2001:db8::5\r\n\
    a=T38FaxVersion:0\r\n";

fn shown<'a>(ports: &'a [Option<u16>]) -> Shown<'a> {
    Shown {
        address: IpAddr::from([192, 0, 2, 1]),
        ports,
    }
}

fn rewritten(description: &str, ports: &[Option<u16>]) -> String {
    let mut out = Vec::new();
    rewrite(description.as_bytes(), &shown(ports), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn streams_are_read_with_what_the_session_says() {
    let streams = read(PHONE.as_bytes()).unwrap();
    let host = |text: &str| text.parse::<IpAddr>().ok();
    let audio = Stream {
        is_audio: true,
        is_datagrams: true,
        is_rtp: true,
        port: 49170,
        address: host("10.0.0.5"),
        rtcp: Some(Rtcp {
            port: 49171,
            address: host("10.0.0.5"),
        }),
        direction: Direction::SendOnly,
    };
    let video = Stream {
        is_audio: false,
        port: 0,
        rtcp: None,
        direction: Direction::SendRecv,
        ..audio
    };
    let fax = Stream {
        is_rtp: false,
        port: 49180,
        address: host("2001:db8::5"),
        ..video
    };
    assert_eq!(streams, [audio, video, fax]);
    assert!(audio.is_relayable() && fax.is_relayable() && !video.is_relayable());
}

#[test]
fn odd_descriptions_are_read() {
    let of = |text: &str| read(text.as_bytes());
    for text in ["", "v=1\r\n", "m=audio 1 RTP/AVP 0\r\n", "v=0x\r\n"] {
        assert_eq!(of(text), Err(Unreadable::Malformed), "{text:?}");
    }
    // A line that nobody understands is no stream that could be relayed; the others are.
    for odd in [
        "m=audio",
        "m=audio x RTP/AVP 0",
        "m=audio 70000 RTP/AVP 0",
        "m=",
        "m=audio 4",
        "m=audio 4/x RTP/AVP 0",
    ] {
        let streams = of(&format!(
            "v=0 \r\n{odd}\r\nm=audio  4000  RTP/AVP  0\r\nc=IN  IP4 10.0.0.5\r\na=inactive \r\n"
        ));
        let streams = streams.unwrap();
        assert!(!streams[0].is_relayable(), "{odd}");
        let host = IpAddr::from([10, 0, 0, 5]);
        let other = streams[1];
        assert_eq!((other.port, other.address), (4000, Some(host)));
        assert!(other.is_relayable() && other.is_rtp);
        assert_eq!(other.direction, Direction::Inactive);
    }
    let many = |count| format!("v=0\n{}", "m=audio 4 RTP/AVP 0\n".repeat(count));
    assert_eq!(of(&many(SDP_STREAMS_MAX)).unwrap().len(), SDP_STREAMS_MAX);
    assert_eq!(
        of(&many(SDP_STREAMS_MAX + 1)),
        Err(Unreadable::TooManyStreams)
    );
    let long = |count| format!("v=0\n{}", "a=b\n".repeat(count));
    assert_eq!(of(&long(SDP_LINES_MAX - 1)), Ok(Vec::new()));
    assert_eq!(of(&long(SDP_LINES_MAX)), Err(Unreadable::TooManyLines));
    assert_eq!(of("v=0\r\ns=-\r\n").unwrap(), []);
    // Bare LF, no end of the last line, a count of ports, a name, a direction for all.
    let streams = of("v=0\na=inactive\nc=IN IP4 phone.example\nm=audio 4000/2 RTP/SAVP 0").unwrap();
    assert_eq!((streams[0].port, streams[0].address), (4000, None));
    assert_eq!(streams[0].direction, Direction::Inactive);
    let streams = of("v=0\nm=message 9 TCP/MSRP *\nc=IN IP4 224.2.1.1/127\nm=audio 4 RTP/AVP 0\nc=IN IP4 0.0.0.0").unwrap();
    assert!(!streams[0].is_datagrams && streams[0].address.is_none());
    assert!(streams[1].is_held_by_address());
}

#[test]
fn addresses_ports_and_rtcp_are_rewritten_and_ice_goes() {
    let expected = PHONE
        .replace("IN IP6 2001:db8::5", "IN IP4 192.0.2.1")
        .replace("10.0.0.5", "192.0.2.1")
        .replace("m=audio 49170", "m=audio 20000")
        .replace("rtcp:49171", "rtcp:20001")
        .replace("m=image 49180", "m=image 20004")
        .replace("a=ice-lite\r\n", "")
        .replace("a=ice-ufrag:8hhY\r\n", "")
        .replace("a=end-of-candidates\r\n", "")
        .replace(
            "a=candidate:1 1 UDP 2130706431 192.0.2.1 49170 typ host\r\n",
            "",
        );
    // The refused stream has the session's address no more, and needs none.
    assert_eq!(
        rewritten(PHONE, &[Some(20000), None, Some(20004)]),
        expected
    );
    // A port for a stream that is refused changes nothing of it.
    assert_eq!(
        rewritten(PHONE, &[Some(20000), Some(20002), Some(20004)]),
        expected
    );
    // Families may differ.
    let mut out = Vec::new();
    let v6 = Shown {
        address: "2001:db8::1".parse().unwrap(),
        ports: &[Some(20000)],
    };
    rewrite(
        b"v=0\nc=IN IP4 10.0.0.5\nm=audio 4000 RTP/AVP 0",
        &v6,
        &mut out,
    );
    assert_eq!(out, b"v=0\nc=IN IP6 2001:db8::1\nm=audio 20000 RTP/AVP 0");
}

#[test]
fn what_is_not_relayed_stays_reachable() {
    // MSRP over TCP used the session's address.
    let text = "v=0\r\nc=IN IP4 10.0.0.5\r\nm=audio 4000 RTP/AVP 0\r\nm=message 2855 TCP/MSRP *\r\na=path:x\r\n";
    assert_eq!(
        rewritten(text, &[Some(20000), None]),
        "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 20000 RTP/AVP 0\r\n\
         m=message 2855 TCP/MSRP *\r\nc=IN IP4 10.0.0.5\r\na=path:x\r\n"
    );
    // Also behind a last line without an end.
    let text = "v=0\r\nc=IN IP4 10.0.0.5\r\nm=audio 4 RTP/AVP 0\r\nm=message 5 TCP/MSRP *";
    let out = rewritten(text, &[Some(20000)]);
    assert!(
        out.ends_with("m=message 5 TCP/MSRP *\r\nc=IN IP4 10.0.0.5"),
        "{out}"
    );
    // Its own stays, behind a title too.
    let text = "v=0\nc=IN IP4 10.0.0.5\nm=audio 4 RTP/AVP 0\nm=message 5 TCP/MSRP *\ni=chat\nc=IN IP4 10.0.0.6";
    let out = rewritten(text, &[Some(20000)]);
    assert!(
        out.ends_with("m=message 5 TCP/MSRP *\ni=chat\nc=IN IP4 10.0.0.6"),
        "{out}"
    );
}

#[test]
fn a_description_without_any_address_gets_one() {
    for (text, expected) in [
        (
            "v=0\nm=audio 4 RTP/AVP 0\na=x\n",
            "v=0\nm=audio 20000 RTP/AVP 0\nc=IN IP4 192.0.2.1\na=x\n",
        ),
        (
            "v=0\nm=audio 4 RTP/AVP 0\ni=t\na=x\n",
            "v=0\nm=audio 20000 RTP/AVP 0\ni=t\nc=IN IP4 192.0.2.1\na=x\n",
        ),
        (
            "v=0\nm=audio 4 RTP/AVP 0",
            "v=0\nm=audio 20000 RTP/AVP 0\r\nc=IN IP4 192.0.2.1",
        ),
    ] {
        assert_eq!(rewritten(text, &[Some(20000)]), expected);
    }
}

#[test]
fn hold_by_address_and_one_port_for_both_stay_what_they_are() {
    let text = "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 4000 RTP/AVP 0\r\na=rtcp:4000\r\na=rtcp-mux\r\n";
    assert_eq!(
        rewritten(text, &[Some(20000)]),
        "v=0\r\nc=IN IP4 0.0.0.0\r\nm=audio 20000 RTP/AVP 0\r\na=rtcp:20000\r\na=rtcp-mux\r\n"
    );
    let browser =
        "v=0\r\nc=IN IP4 10.0.0.5\r\nm=audio 4000 RTP/AVP 0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n";
    let out = rewritten(browser, &[Some(20000)]);
    assert!(out.ends_with("a=rtcp:20001 IN IP4 0.0.0.0\r\n"), "{out}");
}

#[test]
fn hold_by_address_is_told_in_the_family_that_is_shown() {
    let v6 = Shown {
        address: "2001:db8::1".parse().unwrap(),
        ports: &[Some(20000)],
    };
    let mut out = Vec::new();
    let text = b"v=0\nc=IN IP4 0.0.0.0\nm=audio 4000 RTP/AVP 0\na=rtcp:9 IN IP4 0.0.0.0\n";
    rewrite(text, &v6, &mut out);
    let expected = "v=0\nc=IN IP6 ::\nm=audio 20000 RTP/AVP 0\na=rtcp:20001 IN IP6 ::\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let text = "v=0\nm=audio 4000 RTP/AVP 0\nc=IN IP6 ::\n";
    let out = rewritten(text, &[Some(20000)]);
    assert_eq!(out, "v=0\nm=audio 20000 RTP/AVP 0\nc=IN IP4 0.0.0.0\n");
}

#[test]
fn of_several_ports_one_is_shown_and_an_address_behind_attributes_is_the_only_one() {
    let text =
        "v=0\nm=audio  4000/2  RTP/AVP  0\na=x\nc=IN IP4 10.0.0.5\nm=\nm=audio 4 RTP/AVP 0\n";
    assert_eq!(
        rewritten(text, &[Some(20000), None, Some(20002)]),
        "v=0\nm=audio 20000  RTP/AVP  0\na=x\nc=IN IP4 192.0.2.1\nm=\n\
         m=audio 20002 RTP/AVP 0\nc=IN IP4 192.0.2.1\n"
    );
}

#[test]
fn a_stream_that_finds_no_port_is_refused() {
    let text = "v=0\nc=IN IP4 10.0.0.5\nm=audio 4000 RTP/AVP 0\nm=video 4002 RTP/AVP 31\n\
        c=IN IP4 10.0.0.6\na=rtcp:4003 IN IP4 10.0.0.6\na=candidate:1\na=rtpmap:31 H261/90000\n";
    assert_eq!(
        rewritten(text, &[Some(20000), Some(0)]),
        "v=0\nc=IN IP4 192.0.2.1\nm=audio 20000 RTP/AVP 0\nm=video 0 RTP/AVP 31\n\
         c=IN IP4 192.0.2.1\na=rtpmap:31 H261/90000\n"
    );
}

/// A last line that is cut off behind its CR is read as it is with the LF that it gets when more follows it.
#[test]
fn half_a_line_end_belongs_to_no_field() {
    let ports = [Some(20_000)];
    // Without a protocol nobody understands it, and it stays.
    assert_eq!(
        rewritten("v=0\r\nm=audio 2 \r", &ports),
        "v=0\r\nm=audio 2 \r"
    );
    assert_eq!(
        rewritten("v=0\r\nm=audio 2 RTP/AVP\r", &ports),
        "v=0\r\nm=audio 20000 RTP/AVP\r\nc=IN IP4 192.0.2.1\r"
    );
}

#[test]
fn nothing_to_change_is_byte_for_byte() {
    for text in [PHONE, "", "v=0", "\r\n\n\r", "m=\nc=\n=", "o=x\r\nv=0"] {
        assert_eq!(rewritten(text, &[]), text);
        assert_eq!(rewritten(text, &[None, None]), text);
    }
}

#[test]
fn a_description_is_found_in_a_multipart_body() {
    let body = b"preamble\r\n--b1\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b1\r\nContent-Disposition: session\r\n\
        c: application/SDP; x=y\r\n\r\nv=0\r\ns=-\r\n--b1--\r\n";
    let found = part(b"multipart/mixed;boundary=\"b1\"", body).unwrap();
    assert_eq!(&body[found], b"v=0\r\ns=-");
    assert_eq!(part(b"multipart/mixed; boundary=b2", body), None);
    assert_eq!(part(b"multipart/mixed", body), None);
    assert_eq!(part(b"Application/SDP ; charset=utf-8", b"v=0"), Some(0..3));
    assert_eq!(part(b"text/plain", b"v=0"), None);
    assert_eq!(part(b"application/sdp", b""), None);
    let first = b"--b\n\nx\n--b\nContent-Type:application/sdp\n\nv=0\n--b--";
    let found = part(b"multipart/related;type=x;boundary=b", first).unwrap();
    assert_eq!(&first[found], b"v=0");
}
