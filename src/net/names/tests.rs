//! On real sockets of the loopback, against a small server that answers when it has its turn: nothing here waits for a clock.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use mio::{Events, Poll};

use super::*;
use crate::names::{Candidate, Order, Resolution, Resolver, Target};
use crate::source::Transport;

const FIRST_TOKEN: usize = 7;

/// A name server of one address: each name has it. It cuts off what is asked by UDP if it is told so.
struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    streams: Vec<TcpStream>,
    cuts_off: bool,
    asked: Vec<(Over, SocketAddr)>,
}

impl Server {
    fn start(local: &str) -> Self {
        // The port of one must be free for the other.
        let (udp, tcp) = (0..100)
            .find_map(|_| {
                let udp = UdpSocket::bind((local, 0)).unwrap();
                let tcp = TcpListener::bind(udp.local_addr().unwrap()).ok()?;
                Some((udp, tcp))
            })
            .expect("a port free for both");
        udp.set_nonblocking(true).unwrap();
        tcp.set_nonblocking(true).unwrap();
        Self {
            udp,
            tcp,
            streams: Vec::new(),
            cuts_off: false,
            asked: Vec::new(),
        }
    }

    fn address(&self) -> SocketAddr {
        self.udp.local_addr().unwrap()
    }

    fn serve(&mut self) {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = self.udp.recv_from(&mut buffer) {
            self.asked.push((Over::Udp, from));
            let mut bytes = answer(&buffer[..length]);
            if self.cuts_off {
                bytes.truncate(length);
                bytes[2] |= 0x02;
                bytes[6..12].fill(0);
            }
            self.udp.send_to(&bytes, from).unwrap();
        }
        while let Ok((stream, from)) = self.tcp.accept() {
            self.asked.push((Over::Tcp, from));
            stream.set_nonblocking(true).unwrap();
            self.streams.push(stream);
        }
        for stream in &mut self.streams {
            if let Ok(length @ 1..) = stream.read(&mut buffer) {
                let bytes = answer(&buffer[2..length]);
                let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                // In pieces, as a network may deliver it.
                stream.write_all(&length[..1]).unwrap();
                stream.write_all(&length[1..]).unwrap();
                stream.write_all(&bytes).unwrap();
            }
        }
    }
}

/// One A record for a question for A, nothing otherwise.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut packet = simple_dns::Packet::parse(query).unwrap().into_reply();
    let question = packet.questions[0].clone();
    if question.qtype == simple_dns::QTYPE::TYPE(simple_dns::TYPE::A) {
        let address = u32::from_be_bytes([192, 0, 2, 1]);
        let data = simple_dns::rdata::RData::A(simple_dns::rdata::A { address });
        let class = simple_dns::CLASS::IN;
        let record = simple_dns::ResourceRecord::new(question.qname, class, 60, data);
        packet.answers.push(record);
    }
    packet.build_bytes_vec_compressed().unwrap()
}

/// A resolver in a loop of its own, with files of its own.
struct Loop {
    poll: Poll,
    names: Names,
    resolver: Resolver,
    folder: tempfile::TempDir,
    now: Instant,
}

impl Loop {
    fn start(hosts: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths {
            resolv_conf: folder.path().join("resolv.conf"),
            hosts: folder.path().join("hosts"),
        };
        fs::write(&paths.hosts, hosts).unwrap();
        let now = Instant::from_micros(1);
        let mut names = Names::new(FIRST_TOKEN, paths);
        let (servers, hosts) = names.read_files(now);
        Self {
            poll: Poll::new().unwrap(),
            names,
            resolver: Resolver::new(&[7; 32], [true, true], servers, hosts),
            folder,
            now,
        }
    }

    fn configure(&mut self, (servers, hosts): (Servers, Hosts)) {
        self.resolver.configure(self.now, servers, hosts);
    }

    /// Does what the loop does with the core's outputs.
    fn carry_out(&mut self) {
        loop {
            while let Some(order) = self.resolver.next_order() {
                match order {
                    Order::Ask {
                        socket,
                        over,
                        server,
                        bytes,
                    } => (self.names).ask(self.poll.registry(), socket, over, server, &bytes),
                    Order::Close { socket } => self.names.close(socket),
                }
            }
            let Some(socket) = self.names.next_unsent() else {
                return;
            };
            self.resolver.unreachable(self.now, socket);
        }
    }

    fn read(&mut self) {
        while let Some(received) = self.names.read_next() {
            match received {
                Received::Answer(socket, from, bytes) => {
                    self.resolver.receive(self.now, socket, from, bytes);
                }
                Received::Ended(socket) => self.resolver.unreachable(self.now, socket),
            }
            self.carry_out();
        }
    }

    /// Ports of resolv.conf are 53, which a test has not got.
    fn ask(&mut self, servers: &[SocketAddr]) {
        let servers = Servers {
            servers: servers.to_vec(),
            ..Servers::default()
        };
        let (_, hosts) = self.names.read_files(self.now);
        self.configure((servers, hosts));
    }

    fn resolve(&mut self, target: &Target) -> Resolution {
        let resolution = self.resolver.resolve(self.now, target);
        self.carry_out();
        resolution
    }

    /// Until the servers have answered.
    fn resolve_by(&mut self, target: &Target, servers: &mut [Server]) -> Resolution {
        let mut events = Events::with_capacity(16);
        for _ in 0..1_000 {
            match self.resolve(target) {
                Resolution::Pending => {}
                resolution => return resolution,
            }
            servers.iter_mut().for_each(Server::serve);
            let tick = Some(Duration::from_millis(10));
            self.poll.poll(&mut events, tick).unwrap();
            for event in &events {
                let key = event.token().0 - FIRST_TOKEN;
                self.names.socket_ready(key);
            }
            self.read();
        }
        panic!("no answer");
    }
}

fn target(host: &str) -> Target {
    Target {
        host: host.into(),
        port: None,
        transport: None,
    }
}

fn candidates(resolution: Resolution) -> Vec<Candidate> {
    match resolution {
        Resolution::Ready { candidates, .. } => candidates,
        other => panic!("{other:?}"),
    }
}

fn known(address: &str) -> Vec<Candidate> {
    vec![Candidate {
        transport: Transport::Udp,
        address: address.parse().unwrap(),
    }]
}

#[test]
fn a_name_is_resolved_over_udp_from_a_port_for_each_query() {
    for local in ["127.0.0.1", "::1"] {
        let mut servers = [Server::start(local)];
        let mut own = Loop::start("");
        own.ask(&[servers[0].address()]);
        let resolution = own.resolve_by(&target("example.com"), &mut servers);
        assert_eq!(candidates(resolution), known("192.0.2.1:5060"));
        let mut ports: Vec<u16> = servers[0].asked.iter().map(|(_, at)| at.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!((servers[0].asked.len(), ports.len()), (5, 5));
        assert!(own.names.sockets.is_empty() && own.names.keys.is_empty());
        assert_eq!(own.resolver.next_deadline(), None);
    }
}

#[test]
fn what_is_cut_off_is_asked_for_by_tcp() {
    let mut servers = [Server::start("127.0.0.1")];
    servers[0].cuts_off = true;
    let mut own = Loop::start("");
    own.ask(&[servers[0].address()]);
    let resolution = own.resolve_by(&target("example.com"), &mut servers);
    assert_eq!(candidates(resolution), known("192.0.2.1:5060"));
    let by_tcp = |(over, _): &&(Over, SocketAddr)| *over == Over::Tcp;
    assert_eq!(servers[0].asked.iter().filter(by_tcp).count(), 5);
    assert!(own.names.sockets.is_empty());
}

#[test]
fn a_server_that_is_not_there_leads_to_the_next() {
    let gone = Server::start("127.0.0.1").address();
    let mut servers = [Server::start("127.0.0.1")];
    let mut own = Loop::start("");
    own.ask(&[gone, servers[0].address()]);
    // The kernel says that nobody listens there; no time passes.
    let resolution = own.resolve_by(&target("example.com"), &mut servers);
    assert_eq!(candidates(resolution), known("192.0.2.1:5060"));
}

#[test]
fn a_connection_that_ends_without_an_answer_leads_to_the_next() {
    let mut servers = [Server::start("127.0.0.1")];
    let closing = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp_only = Servers {
        servers: vec![closing.local_addr().unwrap(), servers[0].address()],
        tcp_only: true,
        ..Servers::default()
    };
    drop(closing);
    let mut own = Loop::start("");
    own.configure((tcp_only, Hosts::default()));
    let resolution = own.resolve_by(&target("example.com"), &mut servers);
    assert_eq!(candidates(resolution), known("192.0.2.1:5060"));
}

#[test]
fn silence_ends_with_its_deadline_and_leaves_no_socket() {
    let silent = Server::start("127.0.0.1");
    let mut own = Loop::start("");
    own.ask(&[silent.address()]);
    assert_eq!(own.resolve(&target("example.com")), Resolution::Pending);
    assert_eq!(own.names.sockets.len(), 5);
    while let Some(deadline) = own.resolver.next_deadline() {
        own.now = deadline;
        own.resolver.expire(own.now);
        own.carry_out();
    }
    assert!(own.names.sockets.is_empty());
    let resolution = own.resolve(&target("example.com"));
    assert!(matches!(resolution, Resolution::Failed(_)));
}

#[test]
fn files_are_read_again_when_they_have_changed_and_it_is_time_to_look() {
    let mut own = Loop::start("192.0.2.7 pbx");
    let resolution = own.resolve(&target("pbx"));
    assert_eq!(candidates(resolution), known("192.0.2.7:5060"));
    fs::write(own.folder.path().join("hosts"), "192.0.2.88 pbx").unwrap();
    let nearly = own.now.plus(NAME_FILES_EVERY - Duration::from_micros(1));
    assert!(own.names.changed_files(nearly).is_none());
    own.now = own.names.next_deadline();
    let files = own.names.changed_files(own.now).unwrap();
    own.configure(files);
    let resolution = own.resolve(&target("pbx"));
    assert_eq!(candidates(resolution), known("192.0.2.88:5060"));
    own.now = own.names.next_deadline();
    assert!(own.names.changed_files(own.now).is_none(), "as before");
    assert!(own.names.next_deadline() > own.now);
}

#[test]
fn the_systems_own_files_can_be_read() {
    let mut files = Files::new(Paths::from_environment());
    let (servers, _) = files.read(Instant::default());
    assert!(!servers.servers.is_empty());
    assert_eq!(interface_index("lo"), Some(1));
    assert_eq!(
        (interface_index("../lo"), interface_index("none")),
        (None, None)
    );
}
