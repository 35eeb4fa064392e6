//! Messages that wait, in the real program: what was accepted outlives `kill -9`, and what was delivered does not come again.

use super::records::{answer, header, receive};
use super::*;

fn socket(address: Ipv4Addr, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 5060)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    socket
}

fn request(socket: &UdpSocket, method: &str, to: &str, from: &str, body: &str) {
    let (local, server) = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
    let text = format!(
        "{method} sip:{to}@{server} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{body};rport\r\nMax-Forwards: 70\r\n\
         From: <sip:{from}@{server}>;tag={body}\r\nTo: <sip:{to}@{server}>\r\nCall-ID: {body}\r\nCSeq: 1 {method}\r\n\
         Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.send(text.as_bytes()).unwrap();
}

/// Waits until everything is on the disk, then cuts the power. The server after it, and how many messages wait there.
fn after_a_power_cut(site: &Site, mut server: Server) -> (Server, u64) {
    let token = site.token();
    let begin = Instant::now();
    while server.status(&token)["store"]["pending"] != 0 {
        assert!(begin.elapsed() < PATIENCE, "it is never kept");
        std::thread::sleep(Duration::from_millis(10));
    }
    server.signal("KILL");
    server.child.wait().unwrap();
    let server = site.start();
    let waiting = server.status(&token)["counts"]["messages"].as_u64();
    (server, waiting.unwrap())
}

#[test]
fn what_was_accepted_is_delivered_after_a_power_cut_and_once() {
    let site = Site::new("");
    let base = u32::from(site.address);
    // Who has a block only is not there before he has spoken.
    let [writer, reader] =
        [0x00a0_0000, 0x0060_0000].map(|bits| Ipv4Addr::from((base ^ bits) & !1));
    site.write(&format!(
        "[trunk writer]\naddresses = {writer}\nincoming = 101\nkeepalive = 0\n[user 101]\naddresses = {reader}/31\nstore_messages = yes\n"
    ));
    let server = site.start();
    let [writer, reader] = [writer, reader].map(|address| socket(address, server.sip));
    for body in ["one", "two"] {
        request(&writer, "MESSAGE", "101", "100", body);
        receive(&writer, "SIP/2.0 202 ");
    }
    let (server, waiting) = after_a_power_cut(&site, server);
    assert_eq!(waiting, 2);
    request(&reader, "OPTIONS", "100", "101", "here");
    for body in ["one", "two"] {
        let message = receive(&reader, "MESSAGE sip:101@");
        assert!(message.ends_with(&format!("\r\n\r\n{body}")), "{message}");
        assert!(header(&message, "From").starts_with("<sip:100@"));
        assert!(header(&message, "Date").ends_with(" GMT"));
        answer(&reader, &message, 200);
    }
    server.wait_for_log("event=message_delivered caller=100 dialled=101 user=101 status=200");
    let (token, begin) = (site.token(), Instant::now());
    while server.status(&token)["counts"]["messages"] != 0 {
        assert!(begin.elapsed() < PATIENCE, "it waits for ever");
        std::thread::sleep(Duration::from_millis(10));
    }
    let (server, waiting) = after_a_power_cut(&site, server);
    assert_eq!(waiting, 0);
    assert!(server.stop().0.success());
}
