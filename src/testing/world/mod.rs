//! The server and its peers on virtual time: the production [`Endpoint`], a [`Network`], and a clock that only this moves.
//!
//! Does what the shell (`net`) does, without sockets: inputs in, outputs out, `Tick` when a deadline has passed, accepted
//! connections with even numbers. Peers are addresses; whoever plays them takes what [`World::run`] hands out. What may happen
//! to the machine is in `mishaps`.

mod mishaps;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use self::mishaps::Machine;
pub use self::mishaps::{KillAt, Pause};
use super::disk::{Disk, INTERRUPTED};
use super::dns::{Manner, NAME_SERVER, NameServer};
use super::network::{Link, Network, Packet, Payload};
use super::random::Random;
use super::years::door::Door;
use crate::api::{Answer, Command, Event};
use crate::config::Config;
use crate::endpoint::{Endpoint, Input, Output};
use crate::names::{Hosts, Servers};
use crate::source::{Component, ConnectionId, Flow, MediaPair, Over, SocketId, Source, Transport};
use crate::store::{CallRecord, Change, Snapshot};
use crate::time::{Instant, Now, UnixTime};

/// 2026-01-01T00:00:00Z, when every simulation begins.
const BEGIN_UNIX_MS: u64 = 1_767_225_600_000;
/// Ticks at one moment. A deadline that is still there after so many will never go: the server would spin.
const TICKS_MAX: u32 = 1000;

/// What a peer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A datagram.
    Datagram(Vec<u8>),
    /// Bytes of its connection.
    Bytes(Vec<u8>),
    /// Its connection was closed.
    Closed,
    /// A packet that a relay of ours sent on.
    Media(Vec<u8>),
}

/// Something that reached a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Which peer.
    pub to: SocketAddr,
    /// What.
    pub seen: Seen,
}

/// What was read of a batch of outputs.
struct Batch {
    to_peers: Vec<(SocketAddr, Payload)>,
    opened: Vec<(ConnectionId, SocketAddr)>,
    banned: Vec<Source>,
    /// Connections that nobody is at the other end of any more.
    written_to_gone: Vec<ConnectionId>,
}

/// The server in its surroundings.
#[derive(Clone)]
pub struct World {
    /// The server.
    pub endpoint: Endpoint,
    /// The network.
    pub network: Network,
    /// What the server wanted logged.
    pub events: Vec<Event>,
    /// Call records by id: how often each was kept while up and when over, and as it was kept last.
    pub records: BTreeMap<String, (u32, u32, CallRecord)>,
    /// Ids of the records of calls that are over, in the order in which they ended.
    pub ended: Vec<String>,
    /// When each of those was.
    pub over_at: BTreeMap<String, Instant>,
    /// Sources banned at any time.
    pub banned: BTreeSet<Source>,
    /// Bytes of the datagrams that the server sent to each address, and how many those were.
    pub received: BTreeMap<IpAddr, (u64, u64)>,
    /// At how many moments the server was woken by a deadline of its own.
    pub wakes: u64,
    /// Who knows about names, at [`NAME_SERVER`].
    pub name_server: NameServer,
    /// Where it keeps what is to last.
    pub disk: Disk,
    /// Who looks at everything that leaves the server.
    pub door: Option<Box<Door>>,
    /// What has happened to it.
    machine: Machine,
    /// Queries that wait for an answer.
    queries: BTreeSet<SocketId>,
    last_query: SocketId,
    /// Ports of relays that are open, by their pair.
    media: BTreeMap<MediaPair, u16>,
    now: Now,
    server: SocketAddr,
    connections: BTreeMap<ConnectionId, SocketAddr>,
    by_peer: BTreeMap<SocketAddr, ConnectionId>,
    next_connection: u64,
    next_port: u16,
    listeners: BTreeSet<SocketAddr>,
    /// Connections whose peers are gone without a word.
    dead: BTreeSet<ConnectionId>,
    ticks: (Instant, u32),
}

impl World {
    /// A server that was just started. `server`: the one address that it listens on, with every transport.
    pub fn new(config: Config, server: SocketAddr, seed: u64, link: Link) -> Self {
        let bytes = Random::new(seed).fork("server").bytes();
        let now = Now {
            mono: Instant::from_micros(1_000_000),
            unix: UnixTime::from_millis(BEGIN_UNIX_MS),
        };
        let mut world = Self {
            endpoint: Endpoint::new(now, config, bytes, Snapshot::default()),
            network: Network::new(Random::new(seed).fork("network"), link),
            events: Vec::new(),
            records: BTreeMap::new(),
            ended: Vec::new(),
            over_at: BTreeMap::new(),
            banned: BTreeSet::new(),
            received: BTreeMap::new(),
            wakes: 0,
            name_server: NameServer::new(),
            disk: Disk::default(),
            door: None,
            machine: Machine::default(),
            queries: BTreeSet::new(),
            last_query: SocketId(0),
            media: BTreeMap::new(),
            now,
            server,
            connections: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            next_connection: 2,
            next_port: 40_000,
            listeners: BTreeSet::new(),
            dead: BTreeSet::new(),
            ticks: (Instant::default(), 0),
        };
        world.tell_name_files();
        world.take_outputs();
        world
    }

    /// The time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// A peer that takes connections which the server opens.
    pub fn listen(&mut self, peer: SocketAddr) {
        self.listeners.insert(peer);
    }

    /// The peer takes none any more.
    pub fn refuse(&mut self, peer: SocketAddr) {
        self.listeners.remove(&peer);
    }

    /// Whether a peer has a connection.
    pub fn is_connected(&self, peer: SocketAddr) -> bool {
        self.by_peer.contains_key(&peer)
    }

    /// A datagram to the server. `from` may be forged; what answers it goes to whoever has that address.
    pub fn send(&mut self, from: SocketAddr, bytes: &[u8]) {
        let packet = Packet {
            from,
            to: self.server,
            payload: Payload::Datagram(bytes.to_vec()),
        };
        self.network.send(self.now.mono, from.ip(), packet);
    }

    /// A packet to a port of the server's relay.
    pub fn send_media(&mut self, from: SocketAddr, to_port: u16, bytes: &[u8]) {
        let packet = Packet {
            from,
            to: SocketAddr::new(self.server.ip(), to_port),
            payload: Payload::Datagram(bytes.to_vec()),
        };
        self.network.send(self.now.mono, from.ip(), packet);
    }

    /// Ports of relays that are open: the even one of each pair.
    pub fn media_ports(&self) -> impl ExactSizeIterator<Item = u16> {
        self.media.values().copied()
    }

    /// What came to a port of a relay goes on as the endpoint says.
    fn forward(&mut self, packet: &Packet, bytes: &[u8]) {
        let port = packet.to.port();
        let mut pairs = self.media.iter();
        let Some((&pair, &even)) = pairs.find(|(_, even)| **even == port & !1) else {
            return;
        };
        let component = match port == even {
            true => Component::Rtp,
            false => Component::Rtcp,
        };
        let (now, clock) = (self.now.mono, self.clock().mono);
        let forward = (self.endpoint).forward(clock, (pair, component), packet.from, bytes);
        let Some(forward) = forward else { return };
        let even = self.media.get(&forward.pair).expect("a port that is open");
        let from = SocketAddr::new(self.server.ip(), even + (port & 1));
        let on = Packet {
            from,
            to: forward.remote,
            payload: Payload::Datagram(bytes.to_vec()),
        };
        self.network.send(now, forward.remote.ip(), on);
    }

    /// Opens a connection to the server, unless it is not accepted. A peer has at most one.
    pub fn connect(&mut self, from: SocketAddr) -> bool {
        if !self.is_up() || !self.endpoint.accepts_connection(self.clock(), from) {
            return false;
        }
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 2;
        self.connections.insert(connection, from);
        self.by_peer.insert(from, connection);
        self.send_payload(from, Payload::Opened(connection));
        true
    }

    /// Bytes on a peer's connection; nothing without one.
    pub fn write(&mut self, from: SocketAddr, bytes: &[u8]) {
        if let Some(connection) = self.by_peer.get(&from) {
            self.send_payload(from, Payload::Bytes(*connection, bytes.to_vec()));
        }
    }

    /// A peer closes its connection, and one that was opened to it meanwhile.
    pub fn close(&mut self, from: SocketAddr) {
        self.by_peer.remove(&from);
        let of_peer = (self.connections.iter()).filter(|(_, peer)| **peer == from);
        let connections: Vec<_> = of_peer.map(|(connection, _)| *connection).collect();
        for connection in connections {
            self.send_payload(from, Payload::Closed(connection));
        }
    }

    /// A peer's connection is dead without a word (its power went, its NAT forgot): what is written to it goes nowhere.
    pub fn vanish(&mut self, peer: SocketAddr) {
        if let Some(connection) = self.by_peer.remove(&peer) {
            self.dead.insert(connection);
        }
    }

    fn send_payload(&mut self, from: SocketAddr, payload: Payload) {
        let packet = Packet {
            from,
            to: self.server,
            payload,
        };
        self.network.send(self.now.mono, from.ip(), packet);
    }

    /// An administrator's command.
    pub fn command(&mut self, command: Command) -> Answer {
        let answer = self.endpoint.command(self.clock(), command);
        self.take_outputs();
        answer
    }

    /// The server begins to stop.
    pub fn stop(&mut self) {
        self.endpoint.stop(self.clock());
        self.take_outputs();
    }

    /// A new configuration.
    pub fn reload(&mut self, config: Config) {
        self.endpoint.reload(self.clock(), config);
        self.take_outputs();
    }

    /// The power goes, and is back `after` that: a server with another seed and what the one before had kept. Connections
    /// are gone, with what they would have brought it; all else that is under way still arrives.
    pub fn restart(&mut self, config: Config, seed: u64, after: Duration) {
        self.set(self.now.mono.plus(after));
        // Time goes on for all others; what was under way does not wait for us.
        self.network.lose_until(self.now.mono);
        self.network.break_streams(self.server);
        self.connections.clear();
        self.by_peer.clear();
        // The next server counts its own from the beginning.
        self.dead.clear();
        self.disk.kill(false);
        self.begin(config, seed);
    }

    /// A new process, with what the disk has.
    fn begin(&mut self, config: Config, seed: u64) {
        let bytes = Random::new(seed).fork("server").bytes();
        let clock = self.clock();
        let (kept, _) = self.disk.start(clock.unix);
        self.endpoint = Endpoint::new(clock, config, bytes, kept);
        self.queries.clear();
        self.media.clear();
        self.last_query = SocketId(0);
        self.tell_name_files();
        self.take_outputs();
    }

    /// As the store does at the next start: what was up when the power went was interrupted. How many calls that were.
    pub fn interrupt(&mut self) -> usize {
        let up = self.records.values_mut().filter(|(_, over, _)| *over == 0);
        let mut count = 0;
        for (_, over, record) in up {
            (*over, record.disposition) = (1, INTERRUPTED);
            count += 1;
        }
        count
    }

    /// What stands in the server's resolv.conf and hosts.
    fn tell_name_files(&mut self) {
        let servers = Servers {
            servers: vec![NAME_SERVER],
            ..Servers::default()
        };
        let input = Input::NameFiles {
            servers: &servers,
            hosts: &Hosts::default(),
        };
        self.endpoint.handle_input(self.clock(), input);
    }

    /// Bytes on the socket of a query that waits, from whom one likes; nothing without one.
    pub fn input_answer(&mut self, which: usize, from: SocketAddr, bytes: &[u8]) {
        let index = which % self.queries.len().max(1);
        if let Some(&socket) = self.queries.iter().nth(index) {
            let input = Input::NameAnswer {
                socket,
                from,
                bytes,
            };
            self.endpoint.handle_input(self.clock(), input);
            self.take_outputs();
        }
    }

    /// The server has learned that its packets to `remote` begin at `local`, which is its only address from now on.
    pub fn route(&mut self, remote: IpAddr, local: IpAddr) {
        self.server.set_ip(local);
        (self.endpoint).handle_input(self.clock(), Input::Route { remote, local });
        self.take_outputs();
    }

    /// The relay's port could not be opened: another program has it.
    pub fn fail_media(&mut self, port: u16) {
        let mut pairs = self.media.iter();
        let pair = pairs
            .find(|(_, even)| **even == port)
            .map(|(pair, _)| *pair);
        if let Some(pair) = pair {
            let is_taken = true;
            (self.endpoint).handle_input(self.clock(), Input::MediaFailed { pair, is_taken });
            self.take_outputs();
        }
    }

    /// Bytes to the server from `from` at this moment, past the network.
    pub fn input_datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        let flow = self.flow(from, None);
        self.endpoint
            .handle_input(self.clock(), Input::Datagram { flow, bytes });
        self.take_outputs();
    }

    /// Lets time pass until something reaches a peer, or until `until`: then `None`, and it is `until`.
    ///
    /// # Panics
    /// When the server asks to be woken again and again for a deadline that does not go.
    pub fn run(&mut self, until: Instant) -> Option<Delivery> {
        loop {
            let Some(next) = self.next_moment().filter(|next| *next <= until) else {
                self.set(until);
                return None;
            };
            self.set(next);
            match self.network.receive(self.now.mono) {
                Some(packet) => {
                    if let Some(delivery) = self.reach(packet) {
                        return Some(delivery);
                    }
                }
                None => self.tick(),
            }
        }
    }

    /// When something happens next.
    pub fn next_moment(&self) -> Option<Instant> {
        let arrival = self.network.next_arrival();
        [arrival, self.own_deadline(), self.disk_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn set(&mut self, mono: Instant) {
        let passed = mono.since(self.now.mono);
        if passed.is_zero() {
            return;
        }
        // Wall-clock time in whole milliseconds, without losing the rest of each step.
        let begin = Instant::from_micros(1_000_000);
        let since = Duration::from_millis(mono.since(begin).as_millis() as u64);
        self.now = Now {
            mono,
            unix: UnixTime::from_millis(BEGIN_UNIX_MS).plus(since),
        };
    }

    /// The server's own deadline or the disk's has come.
    fn tick(&mut self) {
        if self.machine_is_due() {
            return;
        }
        let (at, count) = &mut self.ticks;
        if *at == self.now.mono {
            *count += 1;
            assert!(
                *count < TICKS_MAX,
                "a deadline that does not go at {:?}",
                self.now
            );
        } else {
            self.ticks = (self.now.mono, 1);
            self.wakes += 1;
        }
        self.endpoint.handle_input(self.clock(), Input::Tick);
        self.take_outputs();
    }

    fn flow(&self, remote: SocketAddr, connection: Option<ConnectionId>) -> Flow {
        let transport = if connection.is_some() {
            Transport::Tcp
        } else {
            Transport::Udp
        };
        Flow {
            transport,
            local: self.server,
            remote,
            connection,
        }
    }

    /// A packet has arrived, at the server or at a peer.
    fn deliver(&mut self, packet: Packet) -> Option<Delivery> {
        let Packet { from, to, payload } = packet;
        if let Payload::Query(socket, over, query) = payload {
            self.answer(socket, over, &query);
            return None;
        }
        if to.ip() == self.server.ip() && to != self.server {
            let Payload::Datagram(bytes) = &payload else {
                return None;
            };
            let bytes = bytes.clone();
            self.forward(&Packet { from, to, payload }, &bytes);
            return None;
        }
        if to != self.server {
            let seen = match payload {
                Payload::Datagram(bytes) if from != self.server => Seen::Media(bytes),
                Payload::Datagram(bytes) => Seen::Datagram(bytes),
                Payload::Bytes(_, bytes) => Seen::Bytes(bytes),
                Payload::Closed(connection) => {
                    if self.by_peer.get(&to) == Some(&connection) {
                        self.by_peer.remove(&to);
                    }
                    Seen::Closed
                }
                Payload::Opened(_) | Payload::Query(..) | Payload::Answer(..) => return None,
            };
            return Some(Delivery { to, seen });
        }
        let input = match &payload {
            Payload::Datagram(bytes) => Input::Datagram {
                flow: self.flow(from, None),
                bytes,
            },
            Payload::Opened(connection) => Input::StreamOpened {
                flow: self.flow(from, Some(*connection)),
            },
            Payload::Bytes(connection, bytes) => Input::StreamBytes {
                connection: *connection,
                bytes,
            },
            Payload::Closed(connection) => {
                self.connections.remove(connection)?;
                Input::StreamClosed {
                    connection: *connection,
                }
            }
            // Its socket is closed: nobody hears it.
            Payload::Answer(socket, ..) if !self.queries.contains(socket) => return None,
            Payload::Answer(socket, _, None) => Input::NameUnreachable { socket: *socket },
            Payload::Answer(socket, _, Some(bytes)) => Input::NameAnswer {
                socket: *socket,
                from,
                bytes,
            },
            Payload::Query(..) => return None,
        };
        self.endpoint.handle_input(self.clock(), input);
        self.take_outputs();
        None
    }

    /// The name server has got a query.
    fn answer(&mut self, socket: SocketId, over: Over, query: &[u8]) {
        let replies = self.name_server.replies(query, over == Over::Udp);
        let replies = replies.into_iter().map(|(from, bytes)| (from, Some(bytes)));
        let is_absent = self.name_server.manner == Manner::Absent;
        let nobody = is_absent.then_some((NAME_SERVER, None));
        for (from, bytes) in replies.chain(nobody) {
            let packet = Packet {
                from,
                to: self.server,
                payload: Payload::Answer(socket, over, bytes),
            };
            self.network.send(self.now.mono, NAME_SERVER.ip(), packet);
        }
    }

    /// Does what the outputs say, as the shell would.
    fn take_outputs(&mut self) {
        let mut to_peers = Vec::new();
        let mut opened = Vec::new();
        let mut banned = Vec::new();
        let mut written_to_gone = Vec::new();
        for output in self.endpoint.outputs() {
            // The process may be killed between any two of them.
            if !self.machine.writes() {
                break;
            }
            match output {
                Output::Datagram { flow, bytes } => {
                    assert_eq!(
                        flow.local, self.server,
                        "sent from an address that is not ours"
                    );
                    let bytes = match &mut self.door {
                        Some(door) => door.leaves(self.now, flow.remote, bytes),
                        None => Some(bytes.to_vec()),
                    };
                    let Some(bytes) = bytes else { continue };
                    let (sum, count) = self.received.entry(flow.remote.ip()).or_default();
                    (*sum, *count) = (*sum + bytes.len() as u64, *count + 1);
                    to_peers.push((flow.remote, Payload::Datagram(bytes)));
                }
                Output::StreamBytes { connection, .. } if self.dead.contains(&connection) => {}
                Output::StreamBytes { connection, bytes } => {
                    match self.connections.get(&connection) {
                        Some(peer) => {
                            if let Some(door) = &mut self.door {
                                door.flows(self.now, connection, *peer, bytes);
                            }
                            to_peers.push((*peer, Payload::Bytes(connection, bytes.to_vec())));
                        }
                        None => written_to_gone.push(connection),
                    }
                }
                Output::OpenStream { connection, remote } => {
                    self.connections.insert(connection, remote);
                    opened.push((connection, remote));
                }
                Output::CloseStream { connection } => {
                    if let Some(door) = &mut self.door {
                        door.closes(self.now, connection);
                    }
                    if let Some(peer) = self.connections.remove(&connection)
                        && !self.dead.contains(&connection)
                    {
                        to_peers.push((peer, Payload::Closed(connection)));
                    }
                }
                Output::StreamTrusted { .. } => {}
                Output::Ask {
                    socket,
                    over,
                    server,
                    bytes,
                } => {
                    assert_eq!(server, NAME_SERVER, "asks whom nobody has named");
                    assert!(self.last_query < socket, "a socket is used twice");
                    self.last_query = socket;
                    self.queries.insert(socket);
                    to_peers.push((server, Payload::Query(socket, over, bytes.to_vec())));
                }
                Output::CloseQuery { socket } => {
                    self.queries.remove(&socket);
                }
                Output::OpenMedia { pair, address } => {
                    assert_eq!(address.ip(), self.server.ip(), "not an address of ours");
                    assert_eq!(address.port() % 2, 0, "RTP has an odd port");
                    let is_free = !self.media.values().any(|own| *own == address.port());
                    assert!(is_free, "a port is opened twice");
                    let before = self.media.insert(pair, address.port());
                    assert!(before.is_none(), "a pair is opened twice");
                }
                Output::CloseMedia { pair } => {
                    assert!(self.media.remove(&pair).is_some(), "a pair is closed twice");
                }
                Output::Banned { source } => {
                    if let Some(door) = &mut self.door {
                        door.bans(source);
                    }
                    banned.push(source);
                }
                Output::Keep(change)
                    if (self.door.as_mut()).is_some_and(|door| !door.keeps(self.now, change)) => {}
                Output::Keep(Change::Record(record)) => {
                    let entry = self.records.entry(record.id.clone()).or_default();
                    let is_over = !record.disposition.is_empty();
                    if is_over {
                        entry.1 += 1;
                        self.ended.push(record.id.clone());
                        self.over_at.insert(record.id.clone(), self.now.mono);
                    } else {
                        entry.0 += 1;
                    }
                    entry.2 = (**record).clone();
                }
                Output::Keep(_) => {}
                Output::Event(event) => match &mut self.door {
                    Some(door) => door.says(self.now, event),
                    None => self.events.push(event.clone()),
                },
            }
        }
        self.keep_outputs();
        self.send_outputs(Batch {
            to_peers,
            opened,
            banned,
            written_to_gone,
        });
        self.bury_if_dead();
    }

    /// What is to be done about a batch of outputs when all of them were read.
    fn send_outputs(&mut self, batch: Batch) {
        let mut closed = Vec::new();
        let is_dead = self.is_down();
        for source in batch.banned {
            self.banned.insert(source);
            for (connection, peer) in &self.connections {
                if Source::of(peer.ip()) == source {
                    closed.push((*connection, *peer));
                }
            }
        }
        for (connection, remote) in batch.opened {
            if self.listeners.contains(&remote) {
                self.by_peer.insert(remote, connection);
                self.next_port += 1;
                self.send_payload(remote, Payload::Opened(connection));
            } else {
                self.send_payload(remote, Payload::Closed(connection));
            }
        }
        for (peer, payload) in batch.to_peers {
            let packet = Packet {
                from: self.server,
                to: peer,
                payload,
            };
            self.network.send(self.now.mono, peer.ip(), packet);
        }
        for (connection, peer) in closed {
            let packet = Packet {
                from: self.server,
                to: peer,
                payload: Payload::Closed(connection),
            };
            self.network.send(self.now.mono, peer.ip(), packet);
            self.send_payload(peer, Payload::Closed(connection));
        }
        for connection in batch.written_to_gone.into_iter().filter(|_| !is_dead) {
            let input = Input::StreamClosed { connection };
            self.endpoint.handle_input(self.clock(), input);
            self.take_outputs();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer whose connection is trusted: the server itself closes none of these.
    const PEER: ([u8; 4], u16) = ([198, 51, 100, 4], 5060);

    fn world() -> (World, Config) {
        let server = SocketAddr::from(([192, 0, 2, 1], 5060));
        let text = format!(
            "[server]\nlisten = tcp:{server}\n\
             [trunk carrier]\naddresses = 198.51.100.4\ntransport = tcp\nkeepalive = 0\n"
        );
        let config = Config::read(&text, std::path::Path::new(".")).expect("a configuration");
        let link = Link {
            delay: Duration::from_millis(30),
            ..Link::default()
        };
        (World::new(config.clone(), server, 1, link), config)
    }

    fn pass(world: &mut World, time: Duration) -> Vec<Seen> {
        let until = world.now().mono.plus(time);
        std::iter::from_fn(|| world.run(until))
            .map(|delivery| delivery.seen)
            .collect()
    }

    #[test]
    fn a_connection_under_way_does_not_reach_the_next_server() {
        let peer = SocketAddr::from(PEER);
        let (mut world, config) = world();
        assert!(world.connect(peer));
        // Nothing that the server would answer, and so learn that there is nobody.
        world.write(peer, b"\r\n");
        world.restart(config, 2, Duration::from_millis(10));
        assert_eq!(pass(&mut world, Duration::from_secs(1)), []);
        assert_eq!(world.endpoint.census().streams, 0);
        // The next one is a connection of its own.
        assert!(world.connect(peer));
        world.write(peer, b"\r\n\r\n");
        let seen = pass(&mut world, Duration::from_secs(1));
        assert_eq!(seen, [Seen::Bytes(b"\r\n".to_vec())]);
        world.close(peer);
        pass(&mut world, Duration::from_secs(1));
        assert_eq!(world.endpoint.census().streams, 0);
    }
}
