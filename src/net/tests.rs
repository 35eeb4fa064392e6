//! The loop on real sockets of this machine, around a small core that echoes. Single-threaded: a test writes, lets the
//! loop turn, and reads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use mio::{Events, Poll, Waker};

use super::clock::{Clock, unix};
use super::core::Core;
use super::event_loop::{self, Shell, WAKER};
use super::start::Running;
use super::store::Store;
use crate::api::{Answer, Command, Event, Status};
use crate::config::Config;
use crate::endpoint::{Input, Output};
use crate::limits;
use crate::source::{ConnectionId, Flow, Source, Transport};
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
    Keep(Change),
    Event(Event),
}

/// Echoes datagrams and stream bytes; `close` and `trust` on a stream do that; `open ADDRESS` in a datagram connects there.
#[derive(Default)]
struct Echo {
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
    commands: Vec<Command>,
    stopped: bool,
    busy: bool,
}

impl Core for Echo {
    fn handle_input(&mut self, _: Now, input: Input<'_>) {
        match input {
            Input::Datagram { flow, bytes } => {
                self.datagrams.push(flow);
                let text = String::from_utf8_lossy(bytes);
                match text.strip_prefix("open ") {
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
            Input::Tick => {
                self.ticks += 1;
                self.deadline = None;
            }
        }
    }

    fn command(&mut self, _: Now, command: Command) -> Answer {
        self.commands.push(command.clone());
        match command {
            Command::Status => Answer::Status(Box::new(Status::default())),
            Command::Ban { source, .. } if source.address().is_loopback() => {
                Answer::Refused("that is us".into())
            }
            Command::Ban { source, .. } => {
                self.out.push(Owned::Banned(source));
                Answer::Done
            }
            Command::Hangup { .. } => Answer::NotFound("no such call"),
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
            Owned::Bytes(connection, bytes) => {
                Output::StreamBytes { connection: *connection, bytes }
            }
            Owned::Open(connection, remote) => {
                Output::OpenStream { connection: *connection, remote: *remote }
            }
            Owned::Close(connection) => Output::CloseStream { connection: *connection },
            Owned::Trusted(connection) => Output::StreamTrusted { connection: *connection },
            Owned::Banned(source) => Output::Banned { source: *source },
            Owned::Keep(change) => Output::Keep(change),
            Owned::Event(event) => Output::Event(event),
        })
    }

    fn clear_outputs(&mut self) {
        self.out.clear();
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn accepts_connection(&mut self, _: Now, _: SocketAddr) -> bool {
        !self.refuse
    }
}

/// A running shell.
struct Bench {
    shell: Shell<Echo>,
    events: Events,
    udp: SocketAddr,
    tcp: SocketAddr,
    http: Option<SocketAddr>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::with("[http]\nlisten =\n")
    }

    /// With this configuration, but any free ports; the first UDP and the first TCP address are those to talk to.
    fn with(text: &str) -> Self {
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
            let listen = bound.listen.iter().find(|listen| listen.transport == transport);
            SocketAddr::from(([127, 0, 0, 1], listen.unwrap().address.port()))
        };
        let (udp, tcp) = (address(Transport::Udp), address(Transport::Tcp));
        let http = bound.http.as_ref().map(|http| http.local);
        let running = Running::for_test(path, file, secrets, &store, &bound);
        let core = Echo::default();
        let shell = Shell::new(core, poll, bound, store, Clock::new(), running).unwrap();
        Self { shell, events: Events::with_capacity(64), udp, tcp, http, folder }
    }

    /// Turns until nothing happens for a moment.
    fn run(&mut self) {
        loop {
            self.shell.turn(&mut self.events, Some(Duration::from_millis(20))).unwrap();
            if self.events.is_empty() && !self.shell.has_work() {
                return;
            }
        }
    }

    fn connect(&mut self) -> TcpStream {
        let client = TcpStream::connect(self.tcp).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        self.run();
        client
    }
}

fn udp_client() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
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
        assert_eq!(from, SocketAddr::from(([127, 0, 0, 1 + index % 2], bench.udp.port())));
    }
    let flow = bench.shell.core.datagrams[1];
    assert_eq!(flow.local, SocketAddr::from(([127, 0, 0, 2], bench.udp.port())));
    assert_eq!(flow.remote, client.local_addr().unwrap());
    assert!(bench.shell.latencies.status().p50 > 0);
}
