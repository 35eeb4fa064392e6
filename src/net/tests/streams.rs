//! Connections on real sockets: opened, echoed, bounded and closed; what the core hears of those that break, and that the next
//! message makes a new one.

use super::*;
use crate::endpoint::Endpoint;
use crate::store::Snapshot;

#[test]
fn stream_is_opened_echoed_and_closed() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    let flow = bench.shell.core.opened[0];
    assert_eq!(
        (flow.local, flow.remote),
        (bench.tcp, client.local_addr().unwrap())
    );
    let id = flow.connection.unwrap();
    assert_eq!(id.0 % 2, 0);
    client.write_all(b"hello").unwrap();
    bench.run();
    assert_eq!(text_of(&mut client, 5), "hello");
    // The last bytes and the FIN come together: they are answered, then it is closed.
    client.write_all(b"last").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    bench.run();
    assert_eq!(text_of(&mut client, 4), "last");
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    bench.run();
    assert_eq!(bench.shell.core.closed, [id]);
    assert_eq!(bench.shell.io.streams.len(), 0);
    assert_eq!(bench.shell.io.streams.next_deadline(), None);
}

#[test]
fn close_writes_what_waits_first() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.write_all(b"close").unwrap();
    // Not read by us any more; closing without reading it would reset the connection and lose the answer.
    bench.run();
    client.write_all(b"more").unwrap();
    bench.run();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "close");
    assert_eq!(bench.shell.core.closed.len(), 1);
    assert_eq!(bench.shell.core.bytes_in, 5);
    drop(client);
    bench.run();
    assert_eq!(bench.shell.io.streams.len(), 0);
}

#[test]
fn large_streams_pass_in_turns() {
    let mut bench = Bench::new();
    let mut clients: Vec<TcpStream> = (0..3).map(|_| bench.connect()).collect();
    let bytes: Vec<u8> = (0..60_000u32).map(|n| n as u8).collect();
    for client in &mut clients {
        client.write_all(&bytes).unwrap();
    }
    bench.run();
    for client in &mut clients {
        let mut back = vec![0; bytes.len()];
        client.read_exact(&mut back).unwrap();
        assert_eq!(back, bytes);
    }
}

/// A peer that sends and never reads is closed at the bound of its write buffer.
#[test]
fn peer_that_does_not_read_is_closed() {
    let mut bench = Bench::new();
    let mut client = bench.connect();
    client.write_all(b"trust").unwrap();
    bench.run();
    client.set_nonblocking(true).unwrap();
    let chunk = vec![b'x'; 64 << 10];
    for _ in 0..2_000 {
        let written = client.write(&chunk);
        let _ = bench.shell.turn(&mut bench.events, Some(Duration::ZERO));
        if bench.shell.core.closed.len() == 1 {
            break;
        }
        assert!(written.is_ok_and(|length| length > 0) || bench.shell.core.closed.is_empty());
    }
    assert_eq!(bench.shell.core.closed.len(), 1);
    assert_eq!(bench.shell.io.streams.len(), 0);
}

#[test]
fn strangers_are_bounded_for_each_source_and_the_silent_longest_goes() {
    let mut bench = Bench::new();
    let mut clients: Vec<TcpStream> = (0..limits::CONNECTIONS_PER_SOURCE_MAX)
        .map(|_| bench.connect())
        .collect();
    // The first speaks, so that the second is the one silent longest; the third is trusted and does not count.
    clients[0].write_all(b"hello").unwrap();
    bench.run();
    let ids: Vec<_> = bench
        .shell
        .core
        .opened
        .iter()
        .map(|flow| flow.connection.unwrap())
        .collect();
    let _one_more = bench.connect();
    assert_eq!(bench.shell.core.closed, [ids[1]]);
    assert_eq!(
        bench.shell.io.streams.len(),
        limits::CONNECTIONS_PER_SOURCE_MAX
    );
    clients[2].write_all(b"trust").unwrap();
    bench.run();
    let _another = bench.connect();
    assert_eq!(bench.shell.core.closed, [ids[1]]);
    assert_eq!(
        bench.shell.io.streams.len(),
        limits::CONNECTIONS_PER_SOURCE_MAX + 1
    );
}

#[test]
fn silent_strangers_are_closed_trusted_peers_are_not() {
    let mut bench = Bench::new();
    let mut trusted = bench.connect();
    trusted.write_all(b"trust").unwrap();
    let stranger = bench.connect();
    let at = bench.shell.io.streams.next_deadline().unwrap();
    let ids: Vec<_> = bench
        .shell
        .core
        .opened
        .iter()
        .map(|flow| flow.connection.unwrap())
        .collect();
    bench
        .shell
        .io
        .streams
        .expire(Instant::from_micros(at.as_micros() - 1));
    assert_eq!(bench.shell.io.streams.len(), 2);
    bench.shell.io.streams.expire(at);
    bench.run();
    assert_eq!(bench.shell.core.closed, [ids[1]]);
    assert_eq!(bench.shell.io.streams.next_deadline(), None);
    drop(stranger);
}

#[test]
fn guard_refuses_and_bans() {
    let mut bench = Bench::new();
    let mut one = bench.connect();
    one.write_all(b"trust").unwrap();
    bench.run();
    bench.shell.core.refuse = true;
    let mut two = TcpStream::connect(bench.tcp).unwrap();
    bench.run();
    assert_eq!(two.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(bench.shell.core.opened.len(), 1);
    let source = Source::of([127, 0, 0, 1].into());
    bench.shell.core.out.push(Owned::Banned(source));
    bench.run();
    assert_eq!(bench.shell.io.streams.len(), 0);
    assert_eq!(bench.shell.core.closed.len(), 1);
    assert_eq!(text_of(&mut one, 5), "trust");
    assert_eq!(one.read(&mut [0; 1]).unwrap_or(0), 0);
}

#[test]
fn opened_connections_carry_what_waited_for_them() {
    let mut bench = Bench::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = udp_client();
    let text = format!("open {}", listener.local_addr().unwrap());
    client.send_to(text.as_bytes(), bench.udp).unwrap();
    bench.run();
    let (mut peer, _) = listener.accept().unwrap();
    assert_eq!(text_of(&mut peer, 5), "early");
    let flow = bench.shell.core.opened[0];
    assert_eq!(flow.local, peer.peer_addr().unwrap());
    assert_eq!(flow.remote, listener.local_addr().unwrap());
    peer.write_all(b"back").unwrap();
    bench.run();
    assert_eq!(text_of(&mut peer, 4), "back");
    // Nobody there: the core hears that it is closed, and no deadline stays behind.
    let gone = listener.local_addr().unwrap();
    drop((listener, peer));
    bench.run();
    assert_eq!(bench.shell.core.closed.len(), 1);
    client
        .send_to(format!("open {gone}").as_bytes(), bench.udp)
        .unwrap();
    bench.run();
    assert_eq!(bench.shell.core.closed.len(), 2);
    assert_eq!(bench.shell.core.opened.len(), 1);
    assert_eq!(bench.shell.io.streams.next_deadline(), None);
}

/// A connection that nobody answers is given up. The backlog of a listener that accepts nobody swallows the handshake.
#[test]
fn connect_timeout() {
    let mut bench = Bench::new();
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let _full: Vec<_> = (0..2)
        .map(|_| {
            let client =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address.into());
            client
        })
        .collect();
    bench
        .shell
        .core
        .out
        .push(Owned::Open(ConnectionId(7), address));
    bench.run();
    assert_eq!(bench.shell.io.streams.len(), 1);
    assert!(bench.shell.core.opened.is_empty());
    let at = bench.shell.io.streams.next_deadline().unwrap();
    bench.shell.io.streams.expire(at);
    bench.run();
    assert_eq!(bench.shell.core.closed, [ConnectionId(7)]);
    assert_eq!(bench.shell.io.streams.len(), 0);
}

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
