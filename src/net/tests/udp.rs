//! Datagrams: each is answered from the address that was asked, on every socket and in both families.

use super::*;

#[test]
fn datagrams_are_answered_from_the_address_that_was_asked() {
    let mut bench = Bench::new();
    let client = udp_client();
    for index in 0..150u8 {
        let to = SocketAddr::from(([127, 0, 0, 1 + index % 2], bench.udp.port()));
        client.send_to(&[index; 10], to).unwrap();
    }
    bench.run();
    for index in 0..150u8 {
        let mut bytes = [0; 100];
        let (length, from) = client.recv_from(&mut bytes).unwrap();
        assert_eq!(bytes[..length], [index; 10]);
        assert_eq!(
            from,
            SocketAddr::from(([127, 0, 0, 1 + index % 2], bench.udp.port()))
        );
    }
    let flow = bench.shell.core.datagrams[1];
    assert_eq!(
        flow.local,
        SocketAddr::from(([127, 0, 0, 2], bench.udp.port()))
    );
    assert_eq!(flow.remote, client.local_addr().unwrap());
    assert!(bench.shell.latencies.status().p50 > 0);
}

#[test]
fn several_sockets_and_both_families_have_a_batch_each() {
    let mut bench = Bench::with(
        "[server]\nlisten = udp:0.0.0.0:5060, udp:127.0.0.1:5062, udp:[::1]:5064, tcp:127.0.0.1:5060\n[http]\nlisten =\n",
    );
    let ports: Vec<_> = bench
        .shell
        .io
        .udp
        .strangers
        .iter()
        .map(|&place| bench.shell.io.udp.sockets[place].local)
        .collect();
    let v6 = UdpSocket::bind("[::1]:0").unwrap();
    v6.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let v4 = udp_client();
    for _ in 0..3 {
        v4.send_to(b"a", ("127.0.0.1", ports[0].port())).unwrap();
        v4.send_to(b"b", ports[1]).unwrap();
        v6.send_to(b"c", ports[2]).unwrap();
    }
    bench.run();
    let mut bytes = [0; 10];
    for _ in 0..3 {
        assert_eq!(v6.recv_from(&mut bytes).unwrap(), (1, ports[2]));
    }
    let mut from = Vec::new();
    for _ in 0..6 {
        from.push(v4.recv_from(&mut bytes).unwrap().1.port());
    }
    assert_eq!(
        from.iter().filter(|port| **port == ports[0].port()).count(),
        3
    );
    assert_eq!(
        from.iter().filter(|port| **port == ports[1].port()).count(),
        3
    );
    assert_eq!(bench.shell.io.udp.unsent, 0);
}

/// An answer whose local address is gone (a new lease), or whose port is no longer listened on, still finds a way out.
#[test]
fn answers_from_addresses_of_the_past_leave_all_the_same() {
    let mut bench = Bench::new();
    let client = udp_client();
    let remote = client.local_addr().unwrap();
    for local in ["203.0.113.9:5060", "127.0.0.1:1"] {
        let mut local: SocketAddr = local.parse().unwrap();
        if local.port() == 5060 {
            local.set_port(bench.udp.port());
        }
        let flow = Flow {
            transport: Transport::Udp,
            local,
            remote,
            connection: None,
        };
        bench
            .shell
            .core
            .out
            .push(Owned::Datagram(flow, b"hello".to_vec()));
        bench.run();
        let mut bytes = [0; 10];
        assert_eq!(client.recv_from(&mut bytes).unwrap(), (5, bench.udp));
    }
    let flow = Flow {
        transport: Transport::Udp,
        local: "[::1]:5060".parse().unwrap(),
        remote: "[::1]:5060".parse().unwrap(),
        connection: None,
    };
    bench
        .shell
        .core
        .out
        .push(Owned::Datagram(flow, b"no such family".to_vec()));
    bench.run();
    assert_eq!(bench.shell.io.udp.unsent, 1);
}
