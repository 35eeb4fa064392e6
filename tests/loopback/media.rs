//! Relayed media in the real program: packets on real ports, which are closed when the call is over.

use super::records::{header, receive};
use super::*;

fn phone(address: Ipv4Addr, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((address, port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn description(media: &UdpSocket) -> String {
    let (ip, port) = (
        media.local_addr().unwrap().ip(),
        media.local_addr().unwrap().port(),
    );
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n"
    )
}

/// Where a message's session description says that media is to go.
fn described(message: &str) -> SocketAddr {
    let line = |name: &str| {
        let rest = message
            .split(&format!("\r\n{name}"))
            .nth(1)
            .expect("such a line");
        rest.split("\r\n").next().unwrap().to_owned()
    };
    let port = line("m=audio ").split(' ').next().unwrap().to_owned();
    format!("{}:{port}", line("c=IN IP4 ")).parse().unwrap()
}

fn with_body(mut text: String, body: &str) -> String {
    text.push_str("Content-Type: application/sdp\r\n");
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text
}

fn rtp(ssrc: u8, number: u8) -> [u8; 13] {
    [0x80, 8, 0, number, 0, 0, 0, 1, 0, 0, 0, ssrc, 0x55]
}

/// Packets of one side reach the other from the port that it was told, in their order.
fn pass(from: &UdpSocket, to: SocketAddr, other: &UdpSocket, told: SocketAddr, ssrc: u8) {
    for number in 0..100 {
        from.send_to(&rtp(ssrc, number), to).unwrap();
    }
    for number in 0..100 {
        let mut bytes = [0; 100];
        let (length, source) = other.recv_from(&mut bytes).unwrap();
        assert_eq!((source, &bytes[..length]), (told, &rtp(ssrc, number)[..]));
    }
}

#[test]
fn media_passes_through_the_ports_that_each_side_is_shown() {
    let site = Site::new("");
    let base = u32::from(site.address);
    let [first, second] = [0x00c0_0000, 0x0080_0000].map(|bits| Ipv4Addr::from(base ^ bits));
    site.write(&format!(
        "[media]\nrelay = always\n[user 100]\naddresses = {first}\n[user 101]\naddresses = {second}\n"
    ));
    let server = site.start();
    let [caller, callee] = [first, second].map(|address| {
        let socket = phone(address, 5060);
        socket.connect(server.sip).unwrap();
        socket
    });
    let [caller_media, callee_media] = [first, second].map(|address| phone(address, 0));
    let (local, sip) = (caller.local_addr().unwrap(), server.sip);
    let dialog = |method: &str, number: u32, to_tag: &str, branch: &str| {
        format!(
            "{method} sip:101@{sip} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:100@{sip}>;tag=a\r\nTo: <sip:101@{sip}>{to_tag}\r\n\
             Call-ID: media\r\nCSeq: {number} {method}\r\nContact: <sip:100@{local}>\r\n"
        )
    };
    let invite = with_body(dialog("INVITE", 1, "", "1"), &description(&caller_media));
    caller.send(invite.as_bytes()).unwrap();
    let received = receive(&callee, "INVITE ");
    let callees = described(&received);
    assert_eq!(callees.ip(), sip.ip());
    let mut answer = "SIP/2.0 200 OK\r\n".to_owned();
    for name in ["Via", "From", "Call-ID", "CSeq"] {
        answer.push_str(&format!("{name}: {}\r\n", header(&received, name)));
    }
    answer.push_str(&format!("To: {};tag=b\r\n", header(&received, "To")));
    answer.push_str(&format!("Contact: <sip:101@{second}:5060>\r\n"));
    callee
        .send(with_body(answer, &description(&callee_media)).as_bytes())
        .unwrap();
    let accepted = receive(&caller, "SIP/2.0 200 ");
    let callers = described(&accepted);
    assert_eq!(callers.ip(), sip.ip());
    assert_ne!(callers.port(), callees.port());
    receive(&callee, "ACK ");
    let tag = header(&accepted, "To")
        .split(";tag=")
        .nth(1)
        .unwrap()
        .to_owned();
    let to_tag = format!(";tag={tag}");
    let ack = dialog("ACK", 1, &to_tag, "2") + "Content-Length: 0\r\n\r\n";
    caller.send(ack.as_bytes()).unwrap();
    // The ACK is handled before what comes after it is sent.
    caller.send(b"\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    pass(&caller_media, callers, &callee_media, callees, 1);
    pass(&callee_media, callees, &caller_media, callers, 2);
    // Its RTCP has the next port.
    let next = |address: SocketAddr| SocketAddr::new(address.ip(), address.port() + 1);
    let rtcp_port = callee_media.local_addr().unwrap().port() + 1;
    if let Ok(rtcp) = UdpSocket::bind((second, rtcp_port)) {
        rtcp.set_read_timeout(Some(PATIENCE)).unwrap();
        caller_media
            .send_to(&[0x80, 200, 0, 1, 0, 0, 0, 1], next(callers))
            .unwrap();
        let mut bytes = [0; 100];
        assert_eq!(rtcp.recv_from(&mut bytes).unwrap(), (8, next(callees)));
    }
    assert!(UdpSocket::bind(callers).is_err() && UdpSocket::bind(next(callees)).is_err());
    let bye = dialog("BYE", 2, &to_tag, "3") + "Content-Length: 0\r\n\r\n";
    caller.send(bye.as_bytes()).unwrap();
    receive(&caller, "SIP/2.0 200 ");
    let begin = Instant::now();
    while [callers, next(callers), callees, next(callees)]
        .iter()
        .any(|port| UdpSocket::bind(port).is_err())
    {
        assert!(begin.elapsed() < PATIENCE, "the ports stay open");
        std::thread::sleep(Duration::from_millis(10));
    }
}
