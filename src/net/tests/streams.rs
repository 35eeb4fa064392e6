//! Connections that break, on real sockets: what the core hears of it, and that the next message makes a new one.

use super::*;
use crate::endpoint::Endpoint;
use crate::store::Snapshot;

/// The peer is gone at once, and what we write is answered with a reset.
fn reset(stream: TcpStream) {
    let socket = socket2::SockRef::from(&stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn writes_to_a_connection_that_was_reset_are_told() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let open = |bench: &mut Bench, id| {
        bench.shell.core.out.push(Owned::Open(id, address));
        bench.run();
    };
    let id = ConnectionId(7);
    open(&mut bench, id);
    reset(listener.accept().unwrap().0);
    // The core does not know yet; whether a read or the write finds out does not matter.
    (bench.shell.core.out).push(Owned::Bytes(id, b"one".to_vec()));
    bench.run();
    let told = bench.shell.core.closed.len();
    assert!(told > 0);
    assert_eq!(bench.shell.io.streams.len(), 0);
    // Who writes there all the same is told again, so that nothing waits for an answer.
    (bench.shell.core.out).push(Owned::Bytes(id, b"two".to_vec()));
    bench.run();
    assert_eq!(bench.shell.core.closed, vec![id; told + 1]);
    open(&mut bench, ConnectionId(9));
    (bench.shell.core.out).push(Owned::Bytes(ConnectionId(9), b"more".to_vec()));
    bench.run();
    assert_eq!(text_of(&mut listener.accept().unwrap().0, 4), "more");
}

/// Whoever lets in by addresses, or calls back, knows the one that we listen on.
#[test]
fn a_connection_begins_at_the_address_that_is_listened_on() {
    for (listen, expected) in [
        ("tcp:127.0.0.5:5060", [127, 0, 0, 5]),
        ("tcp:127.0.0.5:5060, tcp:[::1]:5060", [127, 0, 0, 5]),
        ("tcp:0.0.0.0:5060", [127, 0, 0, 1]),
        ("tcp:127.0.0.5:5060, tcp:127.0.0.6:5060", [127, 0, 0, 1]),
        ("tcp:[::1]:5060", [127, 0, 0, 1]),
    ] {
        let text = format!("[http]\nlisten =\n[server]\nlisten = udp:127.0.0.1:5060, {listen}\n");
        let mut bench = Bench::with(&text);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = Owned::Open(ConnectionId(7), listener.local_addr().unwrap());
        bench.shell.core.out.push(open);
        bench.run();
        // What the kernel has to say about it comes with the next turn.
        bench.run();
        let (_, from) = listener.accept().unwrap();
        assert_eq!(from.ip(), std::net::IpAddr::from(expected), "{listen}");
        let opened: Vec<SocketAddr> = bench
            .shell
            .core
            .opened
            .iter()
            .map(|flow| flow.local)
            .collect();
        assert_eq!(opened, [from], "{listen}");
    }
}

/// A trunk resets the connection under an INVITE: that fails, and the next one finds the trunk on another connection.
#[test]
fn an_invite_after_a_reset_goes_over_a_new_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let trunk = listener.local_addr().unwrap();
    let text = format!(
        "[http]\nlisten =\n[user 100]\naddresses = 127.0.0.3\n\
         [trunk office]\naddresses = {trunk}\ntransport = tcp\nkeepalive = 0\n"
    );
    let mut bench = Bench::around(&text, |now, config| {
        Endpoint::new(now, config, [7; 32], Snapshot::default())
    });
    bench.shell.read_all_routes();
    let caller = UdpSocket::bind("127.0.0.3:0").unwrap();
    caller
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let own = caller.local_addr().unwrap();
    for (call, is_reset) in [(1, true), (2, false)] {
        let invite = format!(
            "INVITE sip:9{call}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{call}\r\n\
             From: <sip:100@127.0.0.1>;tag=1\r\nTo: <sip:9{call}@127.0.0.1>\r\nCall-ID: {call}\r\n\
             CSeq: 1 INVITE\r\nContact: <sip:100@{own}>\r\nMax-Forwards: 70\r\n\r\n"
        );
        caller.send_to(invite.as_bytes(), bench.udp).unwrap();
        bench.run();
        let status = |caller: &UdpSocket| {
            let mut bytes = [0; 1500];
            let length = caller.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[8..length.min(11)]).into_owned()
        };
        assert_eq!(status(&caller), "100");
        let (mut peer, _) = listener.accept().unwrap();
        let begin = format!("INVITE sip:{call}@{trunk};transport=tcp SIP/2.0\r\n");
        assert_eq!(text_of(&mut peer, begin.len()), begin);
        if is_reset {
            reset(peer);
            bench.run();
            assert_eq!(status(&caller), "500");
        }
    }
}
