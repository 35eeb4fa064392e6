//! The loop on real sockets of this machine, around a small core that echoes. Single-threaded: a test writes, lets the
//! loop turn, and reads.

mod lanes;
mod names;
mod streams;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Poll, Waker};

use super::clock::{Clock, unix};
use super::core::Core;
use super::event_loop::{self, Shell, WAKER};
use super::start::Running;
use super::store::Store;
use crate::api::{Answer, Command, Dialled, Reached, Rfc3339};
use crate::config::Config;
use crate::endpoint::{Input, Output};
use crate::guard::{KernelEntry, KernelMark};
use crate::limits;
use crate::source::{ConnectionId, Flow, Over, Place, SocketId, Source, Transport};
use crate::store::Change;
use crate::time::{Instant, Now, UnixTime};

/// An output that owns its bytes.
#[derive(Clone, Debug)]
enum Owned {
    Datagram(Flow, Vec<u8>),
    Bytes(ConnectionId, Vec<u8>),
    Open(ConnectionId, SocketAddr),
    Close(ConnectionId),
    Trusted(ConnectionId),
    Banned(Source),
    Ask(SocketId, Over, SocketAddr, Vec<u8>),
    CloseQuery(SocketId),
    Keep(Change),
}

/// Echoes datagrams and stream bytes; `close` and `trust` on a stream do that; `open ADDRESS` in a datagram connects there.
#[derive(Default)]
pub(super) struct Echo {
    out: Vec<Owned>,
    opened: Vec<Flow>,
    closed: Vec<ConnectionId>,
    datagrams: Vec<Flow>,
    bytes_in: usize,
    ticks: usize,
    deadline: Option<Instant>,
    refuse: bool,
    reloads: usize,
    routes: Vec<(std::net::IpAddr, std::net::IpAddr)>,
    name_servers: Vec<SocketAddr>,
    interfaces: Vec<Vec<std::net::IpAddr>>,
    name_answers: Vec<(SocketId, Vec<u8>)>,
    unreachable: Vec<SocketId>,
    place_changes: u64,
    place_addresses: Vec<std::net::IpAddr>,
    commands: Vec<Command>,
    stopped: bool,
    busy: bool,
    lane_changes: u64,
    discarded: u64,
    places: Vec<Place>,
    /// Payloads in the order of their handling.
    payloads: Vec<Vec<u8>>,
    /// Called with the number of datagrams handled before this one.
    on_datagram: Option<Box<dyn FnMut(usize)>>,
}

impl Core for Echo {
    fn forward(
        &mut self,
        _: crate::time::Instant,
        _: (crate::source::MediaPair, crate::source::Component),
        _: SocketAddr,
        _: &[u8],
    ) -> Option<crate::media::Forward> {
        None
    }

    fn handle_input(&mut self, _: Now, input: Input<'_>) {
        match input {
            Input::Datagram { flow, bytes } => {
                if let Some(on_datagram) = &mut self.on_datagram {
                    on_datagram(self.datagrams.len());
                }
                self.datagrams.push(flow);
                self.payloads.push(bytes.to_vec());
                let text = String::from_utf8_lossy(bytes);
                match text.strip_prefix("open ") {
                    None if bytes == b"banned" => self.discarded += 1,
                    None if bytes == b"silence" => {}
                    Some(address) => {
                        let id = ConnectionId(self.datagrams.len() as u64 * 2 + 1);
                        self.out.push(Owned::Open(id, address.parse().unwrap()));
                        self.out.push(Owned::Bytes(id, b"early".to_vec()));
                    }
                    None => self.out.push(Owned::Datagram(flow, bytes.to_vec())),
                }
            }
            Input::StreamOpened { flow } => self.opened.push(flow),
            Input::StreamBytes { connection, bytes } => {
                self.bytes_in += bytes.len();
                self.out.push(Owned::Bytes(connection, bytes.to_vec()));
                match bytes {
                    b"close" => self.out.push(Owned::Close(connection)),
                    b"trust" => self.out.push(Owned::Trusted(connection)),
                    _ => {}
                }
            }
            Input::StreamClosed { connection } => self.closed.push(connection),
            Input::Route { remote, local } => self.routes.push((remote, local)),
            Input::Interfaces { addresses } => self.interfaces.push(addresses.to_vec()),
            Input::NameFiles { servers, .. } => self.name_servers = servers.servers.clone(),
            Input::NameAnswer { socket, bytes, .. } => {
                self.name_answers.push((socket, bytes.to_vec()));
                self.out.push(Owned::CloseQuery(socket));
            }
            Input::NameUnreachable { socket } => self.unreachable.push(socket),
            Input::MediaFailed { .. } => {}
            Input::Tick => {
                self.ticks += 1;
                self.deadline = None;
            }
        }
    }

    fn command(&mut self, _: Now, command: Command) -> Answer {
        self.commands.push(command.clone());
        match command {
            Command::Status => Answer::Status(Box::default()),
            Command::Ban { source, .. } if source.address().is_loopback() => {
                Answer::Refused("that is us".into())
            }
            Command::Ban { source, .. } => {
                self.out.push(Owned::Banned(source));
                Answer::Done
            }
            Command::Hangup { call } => Answer::NotFound(format!("no such call: {call}")),
            Command::Line { .. } => Answer::NotFound("no such line".into()),
            Command::Users { users } => {
                let user = |name: &String| (dialled(name), usize::from(name == "101"));
                Answer::Users(users.iter().map(user).collect())
            }
            Command::Reached { trunks } => {
                Answer::Reached(trunks.iter().map(|name| reached(name)).collect())
            }
            _ => Answer::Done,
        }
    }

    fn reload(&mut self, _: Now, _: Config) {
        self.reloads += 1;
    }

    fn stop(&mut self, _: Now) {
        self.stopped = true;
    }

    fn is_idle(&self) -> bool {
        !self.busy
    }

    fn outputs(&self) -> impl ExactSizeIterator<Item = Output<'_>> {
        self.out.iter().map(|output| match output {
            Owned::Datagram(flow, bytes) => Output::Datagram { flow: *flow, bytes },
            Owned::Bytes(connection, bytes) => Output::StreamBytes {
                connection: *connection,
                bytes,
            },
            Owned::Open(connection, remote) => Output::OpenStream {
                connection: *connection,
                remote: *remote,
            },
            Owned::Ask(socket, over, server, bytes) => Output::Ask {
                socket: *socket,
                over: *over,
                server: *server,
                bytes,
            },
            Owned::CloseQuery(socket) => Output::CloseQuery { socket: *socket },
            Owned::Close(connection) => Output::CloseStream {
                connection: *connection,
            },
            Owned::Trusted(connection) => Output::StreamTrusted {
                connection: *connection,
            },
            Owned::Banned(source) => Output::Banned { source: *source },
            Owned::Keep(change) => Output::Keep(change),
        })
    }

    fn clear_outputs_keeping(&mut self, mut keep: impl FnMut(Change)) {
        for output in self.out.drain(..) {
            if let Owned::Keep(change) = output {
                keep(change);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn accepts_connection(&mut self, _: Now, _: SocketAddr) -> bool {
        !self.refuse
    }

    fn kernel_mark(&self) -> KernelMark {
        KernelMark::default()
    }

    fn kernel_list(&mut self, _: Now, _: usize) -> Vec<KernelEntry> {
        Vec::new()
    }

    fn kernel_holds(&mut self, _: &[KernelEntry], _: bool) {}

    fn lane_changes(&self) -> u64 {
        self.lane_changes
    }

    fn lane_places(&self, _: Now, places_max: usize) -> Vec<Place> {
        self.places.iter().copied().take(places_max).collect()
    }

    fn discarded(&self) -> u64 {
        self.discarded
    }

    fn place_changes(&self) -> u64 {
        self.place_changes
    }

    fn place_addresses(&self) -> Vec<std::net::IpAddr> {
        self.place_addresses.clone()
    }
}

/// A running shell.
pub(super) struct Bench<C = Echo> {
    pub(super) shell: Shell<C>,
    pub(super) events: Events,
    pub(super) udp: SocketAddr,
    pub(super) tcp: SocketAddr,
    http: Option<SocketAddr>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with("[http]\nlisten =\n")
    }

    fn with(text: &str) -> Self {
        Self::around(text, |_, _| Echo::default())
    }
}

impl<C: Core> Bench<C> {
    /// With this configuration, but any free ports; the first UDP and the first TCP address are those to talk to.
    pub(super) fn around(text: &str, core: impl FnOnce(Now, Config) -> C) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.ini");
        std::fs::write(&path, text).unwrap();
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), WAKER).unwrap();
        let state = folder.path().join("state.db");
        let keep = Duration::from_secs(86_400);
        let wake = move || waker.wake().unwrap();
        let (store, _, secrets) = Store::open(&state, unix(), keep, wake).unwrap();
        let file = Config::read(text, folder.path()).unwrap();
        let mut config = file.clone();
        for listen in &mut config.server.listen {
            listen.address.set_port(0);
        }
        if let Some(http) = &mut config.http.listen {
            http.set_port(0);
        }
        let bound = event_loop::bind(poll.registry(), &config).unwrap();
        let address = |transport| {
            let listen = bound
                .listen
                .iter()
                .find(|listen| listen.transport == transport);
            SocketAddr::from(([127, 0, 0, 1], listen.unwrap().address.port()))
        };
        let (udp, tcp) = (address(Transport::Udp), address(Transport::Tcp));
        let http = bound.http.as_ref().map(|http| http.local);
        let running = Running::for_test(path, file, secrets, &store, &bound);
        let clock = Clock::new();
        let core = core(clock.now(), running.config.clone());
        let shell = Shell::new(core, poll, bound, store, clock, running).unwrap();
        Self {
            shell,
            events: Events::with_capacity(64),
            udp,
            tcp,
            http,
            folder,
        }
    }

    /// Turns until nothing happens for a moment.
    pub(super) fn run(&mut self) {
        loop {
            self.shell
                .turn(&mut self.events, Some(Duration::from_millis(20)))
                .unwrap();
            if self.events.is_empty() && !self.shell.has_work() {
                return;
            }
        }
    }

    fn connect(&mut self) -> TcpStream {
        let client = TcpStream::connect(self.tcp).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        self.run();
        client
    }
}

fn udp_client() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

fn text_of(stream: &mut TcpStream, length: usize) -> String {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

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

#[test]
fn port_that_is_taken_is_said_in_words() {
    let bench = Bench::new();
    let poll = Poll::new().unwrap();
    for (transport, address) in [("udp", bench.udp), ("tcp", bench.tcp)] {
        let text = format!("[server]\nlisten = {transport}:{address}\n[http]\nlisten =\n");
        let config = Config::read(&text, bench.folder.path()).unwrap();
        let error = event_loop::bind(poll.registry(), &config).err().unwrap();
        assert!(
            error.contains(&format!(
                "port {} is in use by this process",
                address.port()
            )),
            "{error}"
        );
    }
    let config = Config::read(
        "[server]\nlisten = udp:203.0.113.9:5999\n",
        bench.folder.path(),
    )
    .unwrap();
    let error = event_loop::bind(poll.registry(), &config).err().unwrap();
    assert!(
        error.contains("this machine has no address 203.0.113.9"),
        "{error}"
    );
}

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

#[test]
fn deadline_of_the_core_is_kept() {
    let mut bench = Bench::new();
    bench.run();
    let now = bench.shell.now();
    bench.shell.core.deadline = Some(now.mono.plus(Duration::from_millis(50)));
    let begin = std::time::Instant::now();
    while bench.shell.core.ticks == 0 {
        bench.shell.turn(&mut bench.events, None).unwrap();
    }
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(49), "{waited:?}");
    assert!(waited < Duration::from_secs(2), "{waited:?}");
}

/// What the core says to keep is in the state file after the end of `run`, which waits for calls to end.
#[test]
fn stop_waits_for_calls_and_closes_the_store() {
    let mut bench = Bench::new();
    let begin = std::time::Instant::now();
    let now = bench.shell.now();
    let key = Change::NonceKey([7; 32], UnixTime::from_millis(1_000));
    bench.shell.core.out.push(Owned::Keep(key));
    bench.shell.core.busy = true;
    bench.shell.stop(now);
    assert!(bench.shell.core.stopped);
    let Bench { shell, folder, .. } = bench;
    shell.run().unwrap();
    let took = begin.elapsed();
    assert!(
        took >= limits::STOP_CALLS && took < Duration::from_secs(5),
        "{took:?}"
    );
    let path = folder.path().join("state.db");
    let (_, snapshot, _) = Store::open(&path, unix(), Duration::from_secs(1), || {}).unwrap();
    assert_eq!(snapshot.nonce_key.unwrap().0, [7; 32]);
}

#[test]
fn reload_keeps_the_old_configuration_on_a_mistake_and_refuses_a_new_address() {
    let text = "[user 100]\npassword = kx7-mmq2-9\n[http]\nlisten =\n";
    let mut bench = Bench::with(text);
    let path = bench.folder.path().join("config.ini");
    let reload = |bench: &mut Bench, text: &str| {
        std::fs::write(&path, text).unwrap();
        let now = bench.shell.now();
        bench.shell.reload(now);
        bench.shell.core.reloads
    };
    assert_eq!(bench.shell.core.interfaces.len(), 1);
    assert_eq!(reload(&mut bench, "[user 100]\npasword = x\n"), 0);
    assert_eq!(
        reload(
            &mut bench,
            &format!("[server]\nlisten = udp:127.0.0.1:5099\n{text}")
        ),
        0
    );
    let listen = bench.shell.running.config.server.listen.clone();
    assert_eq!(
        reload(
            &mut bench,
            &format!("{text}[user 101]\n[trunk a]\naddresses = 127.0.0.3\n")
        ),
        1
    );
    let config = &bench.shell.running.config;
    assert_eq!(config.server.listen, listen);
    let crate::config::Secret::Password(made) = config.users[1].secret.clone().unwrap() else {
        panic!("no password was made")
    };
    assert_eq!(made.len(), 14);
    let local = std::net::IpAddr::from([127, 0, 0, 1]);
    assert_eq!(bench.shell.core.routes, [([127, 0, 0, 3].into(), local)]);
    let interfaces = &bench.shell.core.interfaces;
    assert_eq!(interfaces.len(), 2);
    assert!(interfaces.iter().all(|own| own.contains(&local)));
    // The same password again: it was kept.
    assert_eq!(reload(&mut bench, &format!("{text}[user 101]\n")), 2);
    let again = bench.shell.running.config.users[1].secret.clone();
    assert_eq!(again, Some(crate::config::Secret::Password(made.clone())));
    let state = bench.folder.path().join("state.db");
    let kept = super::store::read_secrets(&state).unwrap();
    assert_eq!(kept.get("password:101"), Some(made.as_str()));
}

const WITH_HTTP: &str = "[user 100]\npassword = kx7-mmq2-9\ndisplay_name = Anna\ncalls_max = 2\nlevels = far, night\n\
    do_not_disturb = yes\nforward_busy = 102\n\
    [user 101]\naddresses = 192.0.2.7, [2001:db8::7]:5062\nforward_always = 100\ndo_not_disturb = yes\nstore_messages = yes\n[user 102]\n\
    [trunk office]\naddresses = 198.51.100.4:5060, 198.51.100.5\nincoming = 100\ncaller_id = +49301\n\
    request_uri_parameters = user=phone;x=1\nuri_format = tel\ncalls_in_max = 2\ncalls_out_max = 0\nnext = trunk:spare\n\
    [trunk spare]\naddresses = 198.51.100.6\ntransport = tcp\nkeepalive = 0\n\
    [trunk third]\naddresses = 198.51.100.7\n";

/// What the small core says that users have dialled.
fn dialled(user: &str) -> Dialled {
    let number = match user {
        "100" => Some("101"),
        "101" => Some(""),
        _ => None,
    };
    Dialled {
        forward_always: number.map(str::to_owned),
        do_not_disturb: (user == "101").then_some(false),
    }
}

/// What the small core knows of a trunk's addresses.
fn reached(name: &str) -> Vec<Reached> {
    let one = |address: &str, state, status: Option<&str>| Reached {
        address: address.to_owned(),
        state,
        status: status.map(str::to_owned),
        since: status.map(|_| Rfc3339(UnixTime::from_millis(1_000))),
    };
    let mut reached = vec![one("198.51.100.9:5060", "down", Some("no answer"))];
    match name {
        "office" => reached.insert(0, one(name, "up", Some("200 OK"))),
        "third" => reached = vec![one(name, "unknown", None)],
        _ => {}
    }
    reached
}

impl<C: Core> Bench<C> {
    /// Sends one request, runs the loop, reads the answer: status, head, body.
    fn ask_with(
        &mut self,
        token: &str,
        request: &str,
        body: &str,
    ) -> (u16, String, serde_json::Value) {
        let mut client = TcpStream::connect(self.http.unwrap()).unwrap();
        client
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let head = format!(
            "{request} HTTP/1.1\r\nHost: x\r\n{token}Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client.write_all(head.as_bytes()).unwrap();
        let mut text = Vec::new();
        // An answer may have to wait for the store's thread.
        for _ in 0..100 {
            self.run();
            match client.read_to_end(&mut text) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (
            status,
            format!("{head}\r\n"),
            serde_json::from_str(body).unwrap_or_default(),
        )
    }

    pub(super) fn ask(&mut self, request: &str, body: &str) -> (u16, serde_json::Value) {
        let token = self.shell.running.config.http.token.clone().unwrap();
        let (status, _, body) =
            self.ask_with(&format!("Authorization: bearer {token}\r\n"), request, body);
        (status, body)
    }
}

#[test]
fn api_needs_its_token() {
    let mut bench = Bench::with(WITH_HTTP);
    let token = bench.shell.running.config.http.token.clone().unwrap();
    assert_eq!(token.len(), 32);
    let wrong = [
        String::new(),
        "Authorization: Bearer \r\n".into(),
        format!("Authorization: Bearer {}\r\n", &token[1..]),
        format!("Authorization: Bearer {token}x\r\n"),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: {token}\r\n"),
        "Authorization: é\r\n".into(),
    ];
    for header in wrong {
        for path in ["/api/v1/status", "/api/v1/nothing", "/api/v1/events"] {
            let (status, head, body) = bench.ask_with(&header, &format!("GET {path}"), "");
            assert_eq!(
                (status, body["error"].as_str()),
                (401, Some("a bearer token is needed"))
            );
            assert!(head.contains("WWW-Authenticate: Bearer\r\n"));
        }
    }
    assert!(bench.shell.core.commands.is_empty());
    assert_eq!(
        bench.ask_with("", "GET /health", "").2,
        serde_json::json!({ "ok": true })
    );
    assert_eq!(bench.ask("GET /api/v1/status", "").0, 200);
}

#[test]
fn api_answers_what_is_not_there() {
    let mut bench = Bench::with(WITH_HTTP);
    for path in [
        "/x",
        "/api",
        "/api/v1/",
        "/api/v1/x",
        "/api/v1/users/100/x",
        "/api/v2/status",
    ] {
        assert_eq!(bench.ask(&format!("GET {path}"), "").0, 404, "{path}");
    }
    // Only the core knows which lines there are.
    assert_eq!(bench.ask("GET /api/v1/lines/a", "").0, 404);
    let asked = std::mem::take(&mut bench.shell.core.commands);
    assert!(matches!(asked.as_slice(), [Command::Line { line }] if line == "a"));
    let later = [
        "GET /",
        "GET /metrics",
        "GET /openapi/version",
        "PUT /api/v1/lines/a",
        "PUT /api/v1/groups/200",
        "PUT /api/v1/routes/a",
        "DELETE /api/v1/routes/a",
        "GET /api/v1/events",
        "GET /api/v1/openapi.json",
        "POST /api/v1/calls",
        "PUT /api/v1/users/100",
        "DELETE /api/v1/trunks/a",
    ];
    for request in later {
        let (status, body) = bench.ask(request, "");
        assert_eq!(
            (status, body["error"].as_str()),
            (501, Some("not yet in this version")),
            "{request}"
        );
    }
    let token = bench.shell.running.config.http.token.clone().unwrap();
    let header = format!("Authorization: Bearer {token}\r\n");
    for (request, allow) in [
        ("POST /health", "GET, HEAD"),
        ("DELETE /api/v1/status", "GET, HEAD"),
        ("PUT /api/v1/bans", "GET, HEAD, POST"),
        ("GET /api/v1/calls/1", "DELETE"),
    ] {
        let (status, head, _) = bench.ask_with(&header, request, "");
        assert_eq!(status, 405, "{request}");
        assert!(head.contains(&format!("Allow: {allow}\r\n")), "{head}");
    }
    let bad = [
        "GET /api/v1/calls?limit=0",
        "GET /api/v1/calls?limit=1001",
        "GET /api/v1/calls?limit=x",
        "GET /api/v1/calls?x=1",
        "GET /api/v1/calls?limit=1&limit=2",
        "GET /api/v1/status?limit=1",
        "GET /api/v1/cdrs?since=yesterday",
        "GET /api/v1/cdrs?after=x",
        "GET /api/v1/users?after=nobody",
        "DELETE /api/v1/bans/x",
        "GET /api/v1/users/%zz",
        "GET /api/v1/users/%ff",
    ];
    for request in bad {
        let (status, body) = bench.ask(request, "");
        assert!(
            status == 400 && body["error"].is_string(),
            "{request} {status} {body}"
        );
    }
    assert!(bench.shell.core.commands.is_empty());
}

#[test]
fn api_commands_and_their_parameters() {
    let mut bench = Bench::with(WITH_HTTP);
    let done = (200, serde_json::json!({ "ok": true }));
    assert_eq!(
        bench.ask("GET /api/v1/registrations?limit=7&after=a%20b", ""),
        done
    );
    assert_eq!(bench.ask("GET /api/v1/calls?after=", ""), done);
    assert_eq!(bench.ask("GET /api/v1/bans", ""), done);
    assert_eq!(bench.ask("DELETE /api/v1/bans/2001:db8::%2F64", ""), done);
    assert_eq!(bench.ask("DELETE /api/v1/bans/2001:db8::/64", ""), done);
    assert_eq!(bench.ask("DELETE /api/v1/calls/a%2Fb", "").0, 404);
    let body = r#"{"source": "203.0.113.7", "for": "4h"}"#;
    assert_eq!(bench.ask("POST /api/v1/bans", body), done);
    assert_eq!(
        bench
            .ask("POST /api/v1/bans", r#"{"source": "127.0.0.1"}"#)
            .0,
        409
    );
    let said = format!("{:?}", bench.shell.core.commands);
    let expected = "[Registrations { after: Some(\"a b\"), limit: 7 }, Calls { after: None, limit: 100 }, \
         Bans { after: None, limit: 100 }, ";
    assert!(said.starts_with(expected), "{said}");
    let v6: Source = "2001:db8::".parse().unwrap();
    let unbans = bench.shell.core.commands[3..5].iter();
    let unbans: Vec<bool> = unbans
        .map(|c| matches!(c, Command::Unban { source } if *source == v6))
        .collect();
    assert_eq!(unbans, [true, true]);
    assert!(matches!(&bench.shell.core.commands[5], Command::Hangup { call } if call == "a/b"));
    let Command::Ban { source, duration } = &bench.shell.core.commands[6] else {
        panic!("{said}")
    };
    assert_eq!(source.to_string(), "203.0.113.7");
    assert_eq!(*duration, Some(Duration::from_secs(4 * 3600)));
    for body in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"source": 7}"#,
        r#"{"source": "x"}"#,
        r#"{"source": "192.0.2.1", "for": "4"}"#,
        r#"{"source": "192.0.2.1", "for": "0s"}"#,
        r#"{"source": "192.0.2.1", "fro": "4h"}"#,
    ] {
        let (status, answer) = bench.ask("POST /api/v1/bans", body);
        assert!(
            status == 400 && answer["error"].is_string(),
            "{body} {status}"
        );
    }
    assert_eq!(bench.shell.core.commands.len(), 8);
}

#[test]
fn api_asks_about_lines() {
    let mut bench = Bench::with(WITH_HTTP);
    for (request, status) in [
        ("GET /api/v1/lines?limit=7&after=a%20b", 200),
        ("GET /api/v1/lines/gd%2Fims", 404),
        ("POST /api/v1/lines/gd-ims/register", 200),
    ] {
        assert_eq!(bench.ask(request, "").0, status, "{request}");
    }
    let said = format!("{:?}", bench.shell.core.commands);
    let expected = "[Lines { after: Some(\"a b\"), limit: 7 }, Line { line: \"gd/ims\" }, \
        RegisterLine { line: \"gd-ims\" }]";
    assert_eq!(said, expected);
    assert_eq!(bench.ask("GET /api/v1/lines/a/register", "").0, 405);
}

#[test]
fn api_lists_users_and_trunks_without_secrets() {
    let mut bench = Bench::with(WITH_HTTP);
    let (status, page) = bench.ask("GET /api/v1/users?limit=2", "");
    let anna = serde_json::json!({ "name": "100", "display_name": "Anna", "addresses": [], "calls_max": 2, "levels": ["far", "night"],
        "do_not_disturb": true, "forward_always": "101", "forward_busy": "102", "forward_no_answer": null,
        "forward_no_answer_after": "20s", "forward_offline": null, "store_messages": false, "messages_waiting": 0,
        "dialled": { "forward_always": "101", "do_not_disturb": null } });
    let by_address = serde_json::json!(
        { "name": "101", "display_name": "", "addresses": ["192.0.2.7", "[2001:db8::7]:5062"], "calls_max": null, "levels": [],
        "do_not_disturb": false, "forward_always": null, "forward_busy": null, "forward_no_answer": null,
        "forward_no_answer_after": "20s", "forward_offline": null, "store_messages": true, "messages_waiting": 1,
        "dialled": { "forward_always": "", "do_not_disturb": false } });
    assert_eq!(status, 200);
    assert_eq!(
        page,
        serde_json::json!({ "items": [anna, by_address], "next": "101" })
    );
    let page = bench.ask("GET /api/v1/users?after=101", "").1;
    assert_eq!(
        (page["items"][0]["name"].as_str(), page["next"].as_str()),
        (Some("102"), None)
    );
    assert_eq!(bench.ask("GET /api/v1/users/100", ""), (200, anna));
    assert_eq!(bench.ask("GET /api/v1/users/999", "").0, 404);
}

#[test]
fn api_lists_blocks_of_users_and_groups_with_them() {
    let text = format!(
        "{WITH_HTTP}[user gate]\naddresses = 192.0.2.80, 192.0.2.64/28, 2001:db8:7::/64\nstore_messages = yes\n\
         [user yard]\naddresses = 203.0.113.0/24\n[group 200]\nmembers = gate, 100, yard\nstrategy = linear\n"
    );
    let mut bench = Bench::with(&text);
    let addresses = |user: &serde_json::Value| user["addresses"].clone();
    let gate = bench.ask("GET /api/v1/users/gate", "").1;
    assert_eq!(
        addresses(&gate),
        serde_json::json!(["192.0.2.80", "192.0.2.64/28", "2001:db8:7::/64"])
    );
    assert_eq!(
        (&gate["store_messages"], &gate["messages_waiting"]),
        (&true.into(), &0.into())
    );
    let page = bench.ask("GET /api/v1/users?after=gate", "").1;
    let listed: Vec<_> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(addresses)
        .collect();
    assert_eq!(listed, [serde_json::json!(["203.0.113.0/24"])]);
    assert_eq!(
        bench.ask("GET /api/v1/groups/200", "").1["members"],
        serde_json::json!(["gate", "100", "yard"])
    );
}

#[test]
fn api_lists_trunks_with_what_is_known_of_their_addresses() {
    let mut bench = Bench::with(WITH_HTTP);
    let reached = |address: &str, state: &str, status: Option<&str>| {
        let since = status.map(|_| "1970-01-01T00:00:01.000Z");
        serde_json::json!({ "address": address, "state": state, "status": status, "since": since })
    };
    let office = serde_json::json!({
        "name": "office", "addresses": ["198.51.100.4:5060", "198.51.100.5"], "transport": "udp",
        "keepalive": "30s", "incoming": "100", "caller_id": "+49301", "request_uri_parameters": "user=phone;x=1",
        "uri_format": "tel", "calls_in_max": 2, "calls_out_max": 0, "next": "trunk:spare", "state": "up",
        "reached": [
            reached("office", "up", Some("200 OK")),
            reached("198.51.100.9:5060", "down", Some("no answer")),
        ] });
    let spare = serde_json::json!({
        "name": "spare", "addresses": ["198.51.100.6"], "transport": "tcp",
        "keepalive": "0", "incoming": null, "caller_id": null, "request_uri_parameters": "",
        "uri_format": "sip", "calls_in_max": null, "calls_out_max": null, "next": null, "state": "down",
        "reached": [reached("198.51.100.9:5060", "down", Some("no answer"))] });
    let third = bench.ask("GET /api/v1/trunks/third", "").1;
    assert_eq!(third["state"], "unknown");
    assert_eq!(
        third["reached"],
        serde_json::json!([reached("third", "unknown", None)])
    );
    assert_eq!(
        bench.ask("GET /api/v1/trunks/office", ""),
        (200, office.clone())
    );
    assert_eq!(
        bench.ask("GET /api/v1/trunks?limit=2", "").1,
        serde_json::json!({ "items": [office, spare], "next": "spare" })
    );
    let rest = bench.ask("GET /api/v1/trunks?after=spare", "").1;
    assert_eq!(rest, serde_json::json!({ "items": [third], "next": null }));
    assert_eq!(bench.ask("GET /api/v1/trunks/nobody", "").0, 404);
    assert_eq!(bench.ask("GET /api/v1/trunks?after=nobody", "").0, 400);
    assert_eq!(bench.ask_with("", "GET /api/v1/trunks", "").0, 401);
}

#[test]
fn api_lists_groups() {
    let mut bench = Bench::with(WITH_HTTP);
    assert_eq!(
        bench.ask("GET /api/v1/groups", "").1,
        serde_json::json!({ "items": [], "next": null })
    );
    let mut bench = Bench::with(
        "[http]\nlisten = 127.0.0.1:1\n[user 100]\n[user 101]\n\
         [group 200]\nmembers = 101, 100\nstrategy = linear\nring_timeout = 15s\nnext = 201\n\
         [group 201]\nmembers = 100\n",
    );
    let first = serde_json::json!({
        "name": "200", "members": ["101", "100"], "strategy": "linear", "ring_timeout": "15s", "next": "201" });
    let second = serde_json::json!({
        "name": "201", "members": ["100"], "strategy": "all", "ring_timeout": "1m", "next": null });
    assert_eq!(
        bench.ask("GET /api/v1/groups?limit=1", "").1,
        serde_json::json!({ "items": [first], "next": "200" })
    );
    assert_eq!(bench.ask("GET /api/v1/groups/201", ""), (200, second));
    assert_eq!(bench.ask("GET /api/v1/groups/202", "").0, 404);
    assert_eq!(bench.ask_with("", "GET /api/v1/groups", "").0, 401);
}

#[test]
fn api_lists_routes() {
    let mut bench = Bench::with(WITH_HTTP);
    // What holds without any in the file.
    let default = serde_json::json!({
        "name": "", "prefix": "9", "strip": 1, "prepend": "",
        "to": ["trunk:office", "trunk:spare", "trunk:third"], "level": null });
    assert_eq!(
        bench.ask("GET /api/v1/routes", "").1,
        serde_json::json!({ "items": [default], "next": null })
    );
    assert_eq!(bench.ask("GET /api/v1/routes/", "").0, 404);
    let text = format!(
        "{WITH_HTTP}[route far]\nprefix = +00\nstrip = 3\nprepend = *1\nto = trunk:spare, user:100\nlevel = far\n\
         [route all]\nto = trunk:office\n"
    );
    let mut bench = Bench::with(&text);
    let far = serde_json::json!({
        "name": "far", "prefix": "+00", "strip": 3, "prepend": "*1",
        "to": ["trunk:spare", "user:100"], "level": "far" });
    let all = serde_json::json!({
        "name": "all", "prefix": "", "strip": 0, "prepend": "", "to": ["trunk:office"], "level": null });
    assert_eq!(bench.ask("GET /api/v1/routes/far", ""), (200, far.clone()));
    assert_eq!(
        bench.ask("GET /api/v1/routes", "").1,
        serde_json::json!({ "items": [far, all], "next": null })
    );
    assert_eq!(
        bench.ask("GET /api/v1/routes?limit=1", "").1["next"],
        serde_json::json!("far")
    );
    assert_eq!(bench.ask("GET /api/v1/routes/nobody", "").0, 404);
    assert_eq!(bench.ask_with("", "GET /api/v1/routes/far", "").0, 401);
}

#[test]
fn api_status_has_what_the_shell_knows() {
    let mut bench = Bench::with(WITH_HTTP);
    let client = udp_client();
    client.send_to(b"x", bench.udp).unwrap();
    bench.run();
    let status = bench.ask("GET /api/v1/status", "").1;
    assert!(status["memory_bytes"].as_u64().unwrap() > 1_000_000);
    assert!(status["latency_us"]["p50"].as_u64().unwrap() > 0);
    for (lane, name) in ["peers", "phones", "strangers"].iter().enumerate() {
        let lane = &status["guard"]["lanes"][lane];
        assert_eq!(lane["name"], *name);
        assert!(lane["receive_buffer_bytes"].as_u64().unwrap() > 4096);
        assert_eq!(lane["drops"], 0);
        let capacity = lane["capacity"].as_u64().unwrap();
        assert_eq!(capacity > 100, *name != "strangers", "{lane}");
    }
    let kernel = &status["guard"]["kernel"];
    assert_eq!(
        (&kernel["active"], &kernel["bans"]),
        (&true.into(), &0.into())
    );
    assert!(kernel["capacity"].as_u64().unwrap() > 10);
    assert_eq!(status["store"]["ok"], true);
    assert!(status["guard"]["reassembly_failures"].is_u64());
}

#[test]
fn api_call_records_come_from_the_store() {
    let mut bench = Bench::with(WITH_HTTP);
    let record = |id: &str, second: u64| crate::store::CallRecord {
        id: id.into(),
        start: UnixTime::from_millis(unix().as_millis() - 60_000 + second * 1_000),
        end: Some(unix()),
        direction: "internal",
        caller: "100".into(),
        dialled: "101".into(),
        disposition: "answered",
        ..Default::default()
    };
    for (id, second) in [("a", 1), ("b", 2), ("c", 3)] {
        bench
            .shell
            .core
            .out
            .push(Owned::Keep(Change::Record(Arc::new(record(id, second)))));
    }
    bench.run();
    let mut page = serde_json::Value::Null;
    for _ in 0..100 {
        page = bench.ask("GET /api/v1/cdrs?limit=2&user=100", "").1;
        if page["items"]
            .as_array()
            .is_some_and(|items| items.len() == 2)
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        (
            page["items"][0]["id"].as_str(),
            page["items"][1]["id"].as_str()
        ),
        (Some("c"), Some("b"))
    );
    let next = page["next"].as_str().unwrap().to_owned();
    let page = bench
        .ask(&format!("GET /api/v1/cdrs?limit=2&after={next}"), "")
        .1;
    assert_eq!(
        (page["items"][0]["id"].as_str(), page["next"].as_str()),
        (Some("a"), None)
    );
    assert_eq!(
        bench.ask("GET /api/v1/cdrs?until=2020-01-01", "").1["items"],
        serde_json::json!([])
    );
}
