//! Queries to name servers on sockets of the loopback, and what the core is told beside.

use super::*;

/// A query that the core puts out with the next turn.
fn ask(bench: &mut Bench<Echo>, socket: u64, over: Over, server: SocketAddr) {
    let query = Owned::Ask(SocketId(socket), over, server, b"query".to_vec());
    bench.shell.core.out.push(query);
    bench.run();
    // What the kernel has to say about it comes with the next turn.
    bench.run();
}

#[test]
fn an_answer_reaches_the_core_and_the_socket_is_closed() {
    let mut bench = Bench::new();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    ask(&mut bench, 1, Over::Udp, server.local_addr().unwrap());
    let mut buffer = [0; 64];
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"query");
    server.send_to(b"answer", from).unwrap();
    bench.run();
    let answers = [(SocketId(1), b"answer".to_vec())];
    assert_eq!(bench.shell.core.name_answers, answers);
    // Nobody has that port any more.
    assert!(UdpSocket::bind(("0.0.0.0", from.port())).is_ok());
}

#[test]
fn an_answer_over_tcp_is_put_together() {
    let mut bench = Bench::new();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    ask(&mut bench, 1, Over::Tcp, server.local_addr().unwrap());
    let (mut stream, _) = server.accept().unwrap();
    bench.run();
    let mut query = [0; 7];
    stream.read_exact(&mut query).unwrap();
    assert_eq!(&query, b"\0\x05query");
    for part in [&b"\0"[..], b"\x06ans", b"wer"] {
        stream.write_all(part).unwrap();
        bench.run();
    }
    let answers = [(SocketId(1), b"answer".to_vec())];
    assert_eq!(bench.shell.core.name_answers, answers);
}

#[test]
fn the_core_is_told_of_a_server_that_cannot_be_asked() {
    let mut bench = Bench::new();
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    ask(&mut bench, 1, Over::Udp, address);
    assert_eq!(bench.shell.core.unreachable, [SocketId(1)]);
    // Not even sent: the loopback has no such address.
    ask(&mut bench, 2, Over::Udp, "[fe80::1]:53".parse().unwrap());
    assert_eq!(bench.shell.core.unreachable, [SocketId(1), SocketId(2)]);
}

#[test]
fn the_files_are_read_at_the_start_and_on_reload() {
    let mut bench = Bench::new();
    let here: SocketAddr = "127.0.0.1:53".parse().unwrap();
    assert_eq!(bench.shell.core.name_servers, [here]);
    let file = bench.folder.path().join("resolv.conf");
    std::fs::write(file, "nameserver 192.0.2.53\n").unwrap();
    let now = bench.shell.now();
    bench.shell.reload(now);
    let there: SocketAddr = "192.0.2.53:53".parse().unwrap();
    assert_eq!(bench.shell.core.name_servers, [there]);
}

#[test]
fn the_way_to_the_address_of_a_name_is_known_at_once() {
    let mut bench = Bench::new();
    bench.run();
    bench.shell.core.place_addresses = vec![[127, 0, 0, 9].into()];
    bench.shell.core.place_changes += 1;
    bench.run();
    let local = [127, 0, 0, 1].into();
    let routes = [([127, 0, 0, 9].into(), local)];
    assert_eq!(bench.shell.core.routes, routes);
    // Told once.
    bench.shell.core.place_changes += 1;
    bench.run();
    assert_eq!(bench.shell.core.routes, routes);
}
