//! Relayed media in the real program: packets on real ports, which are closed when the call is over.

use super::records::{header, receive};
use super::*;

fn socket(address: IpAddr, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((address, port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A phone: where it signals from, its RTP and its RTCP, and what it knows the server by.
struct Phone {
    signalling: UdpSocket,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    server: SocketAddr,
}

impl Phone {
    fn new(signalling: UdpSocket, server: SocketAddr) -> Self {
        signalling.connect(server).unwrap();
        let address = signalling.local_addr().unwrap().ip();
        // Two ports, one behind the other.
        let mut pairs = (0..100).filter_map(|_| {
            let rtp = socket(address, 0);
            let port = rtp.local_addr().unwrap().port().checked_add(1)?;
            let rtcp = UdpSocket::bind((address, port)).ok()?;
            rtcp.set_read_timeout(Some(PATIENCE)).unwrap();
            Some((rtp, rtcp))
        });
        let (rtp, rtcp) = pairs.next().expect("two ports");
        Self {
            signalling,
            rtp,
            rtcp,
            server,
        }
    }

    fn local(&self) -> SocketAddr {
        self.signalling.local_addr().unwrap()
    }

    fn description(&self) -> String {
        let media = self.rtp.local_addr().unwrap();
        let (ip, port) = (media.ip(), media.port());
        let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
        format!(
            "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n"
        )
    }
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
    let media = line("m=audio ");
    let port = media.split(' ').next().unwrap().parse().unwrap();
    let connection = line("c=IN ");
    let (family, ip) = connection.split_once(' ').unwrap();
    let ip: IpAddr = ip.parse().unwrap();
    assert_eq!(family == "IP4", ip.is_ipv4(), "{connection}");
    SocketAddr::new(ip, port)
}

fn with_body(mut text: String, body: &str) -> String {
    text.push_str("Content-Type: application/sdp\r\n");
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text
}

fn rtp(ssrc: u8, number: u8) -> [u8; 13] {
    [0x80, 8, 0, number, 0, 0, 0, 1, 0, 0, 0, ssrc, 0x55]
}

fn rtcp(ssrc: u8, number: u8) -> [u8; 13] {
    [0x80, 200, 0, number, 0, 0, 0, ssrc, 0, 0, 0, 0, 0x55]
}

/// Packets of one side reach the other from the port that it was told, in their order.
fn pass(
    (from, to): (&UdpSocket, SocketAddr),
    (other, told): (&UdpSocket, SocketAddr),
    packet: impl Fn(u8) -> [u8; 13],
) {
    for number in 0..100 {
        from.send_to(&packet(number), to).unwrap();
    }
    for number in 0..100 {
        let mut bytes = [0; 100];
        let (length, source) = other.recv_from(&mut bytes).unwrap();
        assert_eq!((source, &bytes[..length]), (told, &packet(number)[..]));
    }
}

/// The port of a stream's RTCP.
fn next(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), address.port() + 1)
}

/// User 100 calls 101; RTP and RTCP pass both ways through ports that are open for that long and no longer.
fn talk(caller: &Phone, callee: &Phone) {
    let (local, sip) = (caller.local(), caller.server);
    let dialog = |method: &str, number: u32, to_tag: &str, branch: &str| {
        format!(
            "{method} sip:101@{sip} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{branch};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:100@{sip}>;tag=a\r\nTo: <sip:101@{sip}>{to_tag}\r\n\
             Call-ID: media\r\nCSeq: {number} {method}\r\nContact: <sip:100@{local}>\r\n"
        )
    };
    let invite = with_body(dialog("INVITE", 1, "", "1"), &caller.description());
    caller.signalling.send(invite.as_bytes()).unwrap();
    let received = receive(&callee.signalling, "INVITE ");
    let callees = described(&received);
    assert_eq!(callees.ip(), callee.server.ip());
    let mut answer = "SIP/2.0 200 OK\r\n".to_owned();
    for name in ["Via", "From", "Call-ID", "CSeq"] {
        answer.push_str(&format!("{name}: {}\r\n", header(&received, name)));
    }
    answer.push_str(&format!("To: {};tag=b\r\n", header(&received, "To")));
    answer.push_str(&format!("Contact: <sip:101@{}>\r\n", callee.local()));
    let answer = with_body(answer, &callee.description());
    callee.signalling.send(answer.as_bytes()).unwrap();
    let accepted = receive(&caller.signalling, "SIP/2.0 200 ");
    let callers = described(&accepted);
    assert_eq!(callers.ip(), sip.ip());
    assert_ne!(callers.port(), callees.port());
    receive(&callee.signalling, "ACK ");
    let tag = header(&accepted, "To")
        .split(";tag=")
        .nth(1)
        .unwrap()
        .to_owned();
    let to_tag = format!(";tag={tag}");
    let ack = dialog("ACK", 1, &to_tag, "2") + "Content-Length: 0\r\n\r\n";
    caller.signalling.send(ack.as_bytes()).unwrap();
    // The ACK is handled before what comes after it is sent.
    caller.signalling.send(b"\r\n\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let by_caller = (&caller.rtp, callers);
    let by_callee = (&callee.rtp, callees);
    pass(by_caller, by_callee, |number| rtp(1, number));
    pass(by_callee, by_caller, |number| rtp(2, number));
    let by_caller = (&caller.rtcp, next(callers));
    let by_callee = (&callee.rtcp, next(callees));
    pass(by_caller, by_callee, |number| rtcp(1, number));
    pass(by_callee, by_caller, |number| rtcp(2, number));
    assert!(UdpSocket::bind(callers).is_err() && UdpSocket::bind(next(callees)).is_err());
    let bye = dialog("BYE", 2, &to_tag, "3") + "Content-Length: 0\r\n\r\n";
    caller.signalling.send(bye.as_bytes()).unwrap();
    receive(&caller.signalling, "SIP/2.0 200 ");
    let begin = Instant::now();
    while [callers, next(callers), callees, next(callees)]
        .iter()
        .any(|port| UdpSocket::bind(port).is_err())
    {
        assert!(begin.elapsed() < PATIENCE, "the ports stay open");
        std::thread::sleep(Duration::from_millis(10));
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
        let signalling = socket(address.into(), 5060);
        Phone::new(signalling, server.sip)
    });
    talk(&caller, &callee);
}

/// Who has IPv4 only and who has IPv6 only speak to each other, without anybody having to ask for a relay.
#[test]
fn media_passes_between_ipv4_and_ipv6() {
    let v6 = IpAddr::from(std::net::Ipv6Addr::LOCALHOST);
    let site = Site::new("");
    let first = Ipv4Addr::from(u32::from(site.address) ^ 0x00c0_0000);
    let second = socket(v6, 0);
    let at = second.local_addr().unwrap();
    // A port that nobody has, for the server.
    let listen = socket(v6, 0).local_addr().unwrap();
    site.write_listening(
        &format!(", udp:{listen}"),
        &format!("[user 100]\naddresses = {first}\n[user 101]\naddresses = {at}\n"),
    );
    let server = site.start();
    let four = Phone::new(socket(first.into(), 5060), server.sip);
    let six = Phone::new(second, listen);
    talk(&four, &six);
}
