//! The loop on real sockets of this machine, around a small core that echoes. Single-threaded: a test writes, lets the
//! loop turn, and reads.

mod api;
mod lanes;
mod names;
mod run;
mod streams;
mod udp;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
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
