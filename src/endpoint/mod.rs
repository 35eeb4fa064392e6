//! The sans-I/O top: wires the layers and owns all tables. `lib.rs` has the contract of its run loop.
//!
//! `input` takes bytes to messages, `dispatch` takes requests to their owner, `identity` finds out who sent them,
//! `carrier` which line a request comes in on and how a number is called on one, `public` which address we show outside,
//! `route` where a number leads, `brake` whether its caller may make one more outside call, `lines` how external lines register, `invite` begins a call (`page` for a MESSAGE, `onward` when a callee names another one), `subscribe` what may be
//! subscribed to, `lamps` what is seen of calls, `pickup` who may take them, `keepalive` who is sent something now and then so that he can be reached, `lanes` whose packets are to be received first, `admin` answers administrators.

mod admin;
mod blocks;
mod brake;
mod callee;
mod carrier;
#[cfg(feature = "testing")]
mod census;
mod dispatch;
mod features;
mod groups;
mod identity;
mod input;
mod invite;
mod keepalive;
mod lamps;
mod lanes;
mod lines;
mod onward;
mod page;
mod passed;
mod peers;
mod pickup;
mod places;
mod public;
mod reach;
mod register;
mod route;
mod subscribe;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use ahash::RandomState;

use crate::action::Outputs;
use crate::api::Event;
use crate::auth::Authenticator;
use crate::brake::Brake;
use crate::call::{CallHandle, Calls, Context, Owner, Pages, TransactionUser};
use crate::config::Config;
use crate::guard::{Admission, Guard};
use crate::limits::{COMPLETED_TRANSACTIONS_MIN, TRANSACTIONS_PER_CALL};
use crate::line::Lines;
use crate::location::Location;
use crate::media::{Forward, Media};
use crate::names::{Hosts, Servers};
use crate::reach::Reach;
use crate::source::{
    Component, ConnectionId, Flow, LineId, MediaPair, SocketId, Source, Transport, TrunkId, UserId,
};
use crate::store::{Change, Snapshot};
use crate::subscription::Subscriptions;
use crate::time::{Instant, Now};
use crate::token::Tokens;
use crate::transaction::Transactions;
use crate::transport::Connections;

pub use crate::action::Output;
#[cfg(feature = "testing")]
pub use census::Census;
use features::Features;
use groups::Groups;
use lamps::sight;
use peers::Peers;
pub use places::{PlaceId, Places, Unknown};

/// What comes in.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A UDP datagram; `flow.connection` is `None`.
    Datagram {
        /// From where to where.
        flow: Flow,
        /// As received.
        bytes: &'a [u8],
    },
    /// A connection was accepted, or one that the endpoint opened is established.
    StreamOpened {
        /// Its flow.
        flow: Flow,
    },
    /// Bytes of a stream, in order, cut anywhere.
    StreamBytes {
        /// Which.
        connection: ConnectionId,
        /// As received.
        bytes: &'a [u8],
    },
    /// A connection is gone (closed, reset, or could not be opened). Its number is never used again.
    StreamClosed {
        /// Which.
        connection: ConnectionId,
    },
    /// Which of our addresses the kernel would use towards `remote`: given before the first message to a configured peer.
    Route {
        /// A trunk's or user's address.
        remote: IpAddr,
        /// Ours.
        local: IpAddr,
    },
    /// The addresses that this machine has: at the start, and with each new configuration. Where `listen` is a wildcard they are ours.
    Interfaces {
        /// Of interfaces that are up.
        addresses: &'a [IpAddr],
    },
    /// What resolv.conf(5) and hosts(5) say: at the start, and when they say something else. Before that nobody is asked
    /// about a name.
    NameFiles {
        /// Whom to ask.
        servers: &'a Servers,
        /// What nobody needs to be asked about.
        hosts: &'a Hosts,
    },
    /// Bytes that came on the socket of [`Output::Ask`], from a connection without their length.
    NameAnswer {
        /// Which.
        socket: SocketId,
        /// Who sent them.
        from: SocketAddr,
        /// As received.
        bytes: &'a [u8],
    },
    /// [`Output::Ask`] could not be carried out, its server refuses, or the connection has ended without an answer.
    NameUnreachable {
        /// Which.
        socket: SocketId,
    },
    /// [`Output::OpenMedia`] could not be carried out.
    MediaFailed {
        /// Which.
        pair: MediaPair,
        /// Another program has one of the ports. Else there are too many files open, or something of that kind.
        is_taken: bool,
    },
    /// A deadline may have passed.
    Tick,
}

/// What a peer is told of a transport that we do not listen on (RFC 3261 §19.1.2).
const SIP_PORT: u16 = 5060;

/// Calls that a stop ends between two batches of outputs.
const HANG_UPS_AT_ONCE: usize = 200;

/// The transaction users that work on a [`Context`], and where phones are.
struct Users<'a> {
    config: &'a Config,
    auth: &'a Authenticator,
    location: &'a Location,
    calls: &'a mut Calls,
    pages: &'a mut Pages,
    subscriptions: &'a mut Subscriptions,
}

/// The whole SIP server as a value.
#[derive(Clone)]
pub struct Endpoint {
    config: Config,
    started: Now,
    is_stopping: bool,
    /// Calls that the stop has still to end.
    to_hang_up: Vec<CallHandle>,
    guard: Guard,
    brake: Brake,
    auth: Authenticator,
    location: Location,
    transactions: Transactions<TransactionUser>,
    calls: Calls,
    pages: Pages,
    subscriptions: Subscriptions,
    lines: Lines,
    media: Media,
    keepalive: keepalive::KeepAlive,
    peers: Peers,
    reach: Reach,
    places: Places,
    /// Where each line's packets go.
    line_places: Vec<lines::LinePlace>,
    groups: Groups,
    features: Features,
    /// Of the changes of `places`, those that the lines have seen.
    places_seen: u64,
    /// The same of their addresses and the table of peers.
    addresses_seen: u64,
    connections: Connections,
    /// Which address of ours the kernel would use towards a configured peer.
    routes: HashMap<IpAddr, IpAddr, RandomState>,
    tokens: Tokens,
    /// Makes the To tag of stateless answers (RFC 3261 §8.2.7): the same for the same request.
    tag_hasher: RandomState,
    out: Outputs,
    buffer: Vec<u8>,
    header_lines: Vec<u8>,
    /// What every answer to OPTIONS says of us.
    abilities: Vec<u8>,
    changes: Vec<Change>,
    /// Our address as it is seen from outside.
    seen_from_outside: Option<public::Seen>,
    /// When a stranger who asked for another host was last spoken of.
    strange_host_said: Option<Instant>,
    /// The same of a carrier's request that is on no line.
    no_line_said: Option<Instant>,
    /// Grows with whatever but a registration changes who has a place in a lane.
    lane_changes: u64,
}

impl Endpoint {
    /// A server with this configuration (every user with a secret or an address) and what was kept.
    pub fn new(now: Now, config: Config, seed: [u8; 32], kept: Snapshot) -> Self {
        let mut tokens = Tokens::new(&seed, "hash");
        let mut hasher = || {
            let mut next = || tokens.next_u64();
            RandomState::with_seeds(next(), next(), next(), next())
        };
        let (live_max, completed_max) = transactions_max(&config);
        let auth = Authenticator::new(now, &config, &seed, kept.nonce_key);
        let mut location = Location::new(&config.users, &seed);
        location.restore(now, &kept.bindings);
        let mut guard = Guard::new(now, &config.guard, &seed, kept.bans, kept.known);
        for binding in &kept.bindings {
            guard.restore_account(Source::of(binding.remote.ip()), binding.user.as_bytes());
        }
        let (key, made) = auth.key();
        let mut reach = Reach::new(hasher(), Tokens::new(&seed, "reach"));
        reach.reload(now.mono, Self::reach_peers(&config));
        let mut changes = Vec::new();
        let brake = Brake::new(now, &config, kept.destinations, &mut changes);
        let features = Features::new(kept.features, &config, hasher(), &mut changes);
        let mut out = Outputs::default();
        out.keep(Change::NonceKey(key, made));
        changes.drain(..).for_each(|change| out.keep(change));
        let mut places = Places::new(&seed, families(&config));
        let line_places = Self::line_places(now, &config, &mut places, &mut out);
        // Made once: registrars know the Contacts of the run before for as long as they last.
        let line_key = kept.line_key.unwrap_or_else(|| {
            let key = Tokens::new(&seed, "line").next_key();
            out.keep(Change::LineKey(key));
            key
        });
        let groups = Groups::new(&config, hasher());
        let mut endpoint = Self {
            started: now,
            is_stopping: false,
            to_hang_up: Vec::new(),
            guard,
            brake,
            auth,
            location,
            transactions: Transactions::new(&seed, live_max, completed_max),
            calls: Calls::new(now.mono, &config),
            pages: Pages::new(now, kept.messages, hasher()),
            subscriptions: Subscriptions::new(now.mono, hasher()),
            lines: Lines::new(now, &config.lines, line_key, hasher()),
            media: Media::new(&config, Tokens::new(&seed, "media"), hasher()),
            keepalive: keepalive::KeepAlive::new(hasher()),
            peers: Peers::new(&config, hasher()),
            reach,
            places,
            line_places,
            groups,
            features,
            places_seen: 0,
            addresses_seen: 0,
            connections: Connections::new(hasher()),
            routes: HashMap::with_hasher(hasher()),
            tokens: Tokens::new(&seed, "call"),
            tag_hasher: hasher(),
            out,
            buffer: Vec::with_capacity(2048),
            changes,
            header_lines: Vec::with_capacity(1024),
            abilities: dispatch::abilities(&config),
            seen_from_outside: None,
            strange_host_said: None,
            no_line_said: None,
            lane_changes: 0,
            config,
        };
        endpoint.forget_letters();
        endpoint.lines_moved(now);
        endpoint.keep_all_alive(now.mono);
        endpoint
    }

    /// Takes one input. Never fails, blocks or panics on a peer's bytes.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>) {
        match input {
            Input::Datagram { flow, bytes } => self.datagram(now, &flow, bytes),
            Input::StreamOpened { flow } => self.stream_opened(now, flow),
            Input::StreamBytes { connection, bytes } => self.stream_bytes(now, connection, bytes),
            Input::StreamClosed { connection } => self.stream_closed(now, connection),
            Input::Route { remote, local } => {
                self.media.have(local);
                if self.routes.insert(remote, local) != Some(local) {
                    self.lines_rerouted(now, remote);
                }
                self.places.is_reached(remote);
            }
            Input::Interfaces { addresses } => self.have_interfaces(addresses),
            Input::NameFiles { servers, hosts } => {
                (self.places).configure(now.mono, servers, hosts, &mut self.out);
            }
            Input::NameAnswer {
                socket,
                from,
                bytes,
            } => {
                (self.places).receive(now.mono, socket, from, bytes, &mut self.out);
            }
            Input::NameUnreachable { socket } => {
                (self.places).unreachable(now.mono, socket, &mut self.out);
            }
            Input::MediaFailed { pair, is_taken } => {
                if let Some((media, goes_on)) = self.media.failed(now.mono, pair, is_taken) {
                    let (calls, mut context) = self.split(now);
                    calls.media_failed(media, goes_on, &mut context);
                }
            }
            Input::Tick => self.tick(now),
        }
        if self.places_seen != self.places.changes() {
            self.places_moved(now);
        }
        self.callers_are_heard(now);
        self.calls_go_on(now);
        self.take_nats(now.mono);
        self.letters_go(now);
        self.light_lamps(now);
    }

    /// Those that we listen on are ours. Which of them lead to whom is another matter ([`Input::Route`]).
    fn have_interfaces(&mut self, addresses: &[IpAddr]) {
        for address in addresses.iter().filter(|address| !address.is_loopback()) {
            let is_listened = self.config.server.listen.iter().any(|listen| {
                let own = listen.address.ip();
                own.is_unspecified() && own.is_ipv4() == address.is_ipv4()
            });
            if is_listened {
                self.media.have(*address);
            }
        }
    }

    /// A new configuration; calls and registrations go on. The caller has checked that `listen` is unchanged.
    pub fn reload(&mut self, now: Now, config: Config) {
        self.changes.extend(self.location.reload(&config.users));
        self.auth.reload(&config);
        self.guard.reload(now, &config.guard);
        self.brake.reload(&config, &mut self.changes);
        self.transactions.watch_none();
        let auth = &self.auth;
        let user = |name: &str| auth.user(name.as_bytes());
        let mut trunks = HashMap::with_hasher(self.tag_hasher.clone());
        for (index, trunk) in config.trunks.iter().enumerate() {
            trunks.insert(trunk.name.as_str(), TrunkId(index as u32));
        }
        let mut lines = HashMap::with_hasher(self.tag_hasher.clone());
        for (index, line) in config.lines.iter().enumerate() {
            lines.insert(line.name.as_str(), LineId(index as u32));
        }
        self.peers.reload(&self.config, &config, user);
        let trunk = |name: &str| trunks.get(name).copied();
        let line = |name: &str| lines.get(name).copied();
        self.calls.reload(&config, user, trunk, line);
        let (live_max, completed_max) = transactions_max(&config);
        self.transactions.set_limits(live_max, completed_max);
        self.media.reload(&config);
        self.subscriptions.reload(user);
        self.reload_reach(now, Self::reach_peers(&config));
        self.line_places = Self::line_places(now, &config, &mut self.places, &mut self.out);
        self.lines.reload(now, &config.lines);
        self.groups.reload(&self.config, &config);
        self.features.reload(&config, &mut self.changes);
        self.forget_letters();
        self.abilities = dispatch::abilities(&config);
        self.config = config;
        self.keep_all_alive(now.mono);
        let (calls, context) = self.split(now);
        calls.listen_to_all(&context);
        self.lines_moved(now);
        self.lane_changes += 1;
        self.keep_changes();
    }

    /// Begins to stop: new calls get 503, running legs a BYE with Reason, lines are de-registered. [`Endpoint::is_idle`] tells when all are gone.
    pub fn stop(&mut self, now: Now) {
        self.is_stopping = true;
        self.reload_reach(now, Vec::new());
        self.to_hang_up = self.calls.all();
        self.lines.stop(now);
        self.hang_up_some(now);
    }

    /// A few calls at a time: the outputs of all of them at once would not fit.
    fn hang_up_some(&mut self, now: Now) {
        let left = self.to_hang_up.len().saturating_sub(HANG_UPS_AT_ONCE);
        for handle in self.to_hang_up.split_off(left) {
            let (calls, mut context) = self.split(now);
            calls.hang_up(
                handle,
                503,
                b"SIP;cause=503;text=\"Server stops\"",
                &mut context,
            );
        }
    }

    /// Whether no call is left, not even one whose BYE waits for its answer, and no line waits for the answer to its
    /// de-registration.
    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.lines.is_idle()
    }

    /// Read after every batch of inputs, sent as one batch, then cleared.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = Output<'_>> {
        self.out.iter()
    }

    /// Forgets the outputs.
    pub fn clear_outputs(&mut self) {
        self.out.clear();
    }

    /// The same, and hands over what [`Output::Keep`] showed: a shell that keeps it needs no copy.
    pub fn clear_outputs_keeping(&mut self, keep: impl FnMut(Change)) {
        self.out.clear_keeping(keep);
    }

    /// When [`Input::Tick`] is due at the latest. O(1).
    pub fn next_deadline(&self) -> Option<Instant> {
        if !self.to_hang_up.is_empty() {
            return Some(Instant::default());
        }
        [
            self.transactions.next_deadline(),
            self.calls.next_deadline(),
            self.pages.next_deadline(),
            self.subscriptions.next_deadline(),
            self.reach.next_deadline(),
            self.lines.next_deadline(),
            self.location.next_deadline(),
            self.guard.next_deadline(),
            self.places.next_deadline(),
            self.keepalive.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// A packet that came to a port of [`Output::OpenMedia`]: where the same bytes go on to; `None`: nowhere. It makes no
    /// outputs, and costs no more than a look at three tables.
    pub fn forward(
        &mut self,
        now: Instant,
        place: (MediaPair, Component),
        from: SocketAddr,
        packet: &[u8],
    ) -> Option<Forward> {
        self.media.forward(now, place, from, packet)
    }

    /// Where the names of the configuration lead.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// Where a line's packets go.
    #[cfg(feature = "testing")]
    pub fn line_place(&self, line: LineId) -> Option<PlaceId> {
        let line = self.line_places.get(line.0 as usize);
        line.map(|line| line.place)
    }

    /// Another number whenever a packet was discarded for its source alone, which costs next to nothing (a look for a branch or a
    /// nonce in it costs more, and is not counted). O(1).
    pub fn discarded(&self) -> u64 {
        self.guard.unread()
    }

    /// Another number whenever [`Endpoint::place_addresses`] may have changed. O(1).
    pub fn place_changes(&self) -> u64 {
        self.places.address_changes()
    }

    /// The addresses of all names, to be asked about as those of configured peers: [`Input::Route`].
    pub fn place_addresses(&self) -> Vec<IpAddr> {
        let places = self.places.ids();
        let addresses: BTreeSet<IpAddr> = places
            .flat_map(|place| self.places.addresses(place))
            .collect();
        addresses.into_iter().collect()
    }

    /// Whether a new connection from this source is to be accepted at all (guard).
    pub fn accepts_connection(&mut self, now: Now, remote: SocketAddr) -> bool {
        let who = self.peers.has_address(remote.ip().to_canonical());
        let source = Source::of(remote.ip());
        let admission = match self.guard.admit(now, source, who, true) {
            Admission::Watched => self.guard.admit_watched(now, source, true, false),
            admission => admission,
        };
        matches!(admission, Admission::Admit(_))
    }

    /// The calls, and what they need of the rest.
    fn split(&mut self, now: Now) -> (&mut Calls, Context<'_>) {
        let (users, context) = self.users(now);
        (users.calls, context)
    }

    /// Whoever uses transactions, and what they need of the rest.
    fn users(&mut self, now: Now) -> (Users<'_>, Context<'_>) {
        let users = Users {
            config: &self.config,
            auth: &self.auth,
            location: &self.location,
            calls: &mut self.calls,
            pages: &mut self.pages,
            subscriptions: &mut self.subscriptions,
        };
        let context = Context {
            now,
            transactions: &mut self.transactions,
            connections: &mut self.connections,
            lines: &mut self.lines,
            media: &mut self.media,
            out: &mut self.out,
            tokens: &mut self.tokens,
            buffer: &mut self.buffer,
        };
        (users, context)
    }

    fn keep_changes(&mut self) {
        for change in self.changes.drain(..) {
            self.out.keep(change);
        }
        self.forget_left();
    }

    fn event(
        &mut self,
        level: log::Level,
        name: &'static str,
        fields: Vec<(&'static str, String)>,
    ) {
        self.out.event(Event {
            level,
            name,
            source: None,
            fields: fields.into(),
        });
    }

    /// Our address as peers on this flow are to write to: the address that they reach, and a port that we listen on.
    /// Outside of our own networks the public one, if there is one.
    fn contact_address(&self, flow: &Flow) -> SocketAddr {
        let port = match flow.transport {
            Transport::Udp => flow.local.port(),
            Transport::Tcp => (self.listen(Transport::Tcp, flow.local.ip()))
                .map_or(flow.local.port(), |listen| listen.port()),
        };
        let inside = SocketAddr::new(flow.local.ip(), port);
        self.public_address(flow, port).unwrap_or(inside)
    }

    /// The address that we listen on with this transport for an address of ours: that one, else a wildcard, else any of
    /// its family.
    fn listen(&self, transport: Transport, local: IpAddr) -> Option<SocketAddr> {
        let listens = || {
            (self.config.server.listen.iter())
                .filter(|listen| listen.transport == transport)
                .map(|listen| listen.address)
                .filter(|address| address.is_ipv4() == local.is_ipv4())
        };
        let exact = listens().find(|address| address.ip() == local);
        exact
            .or_else(|| listens().find(|address| address.ip().is_unspecified()))
            .or_else(|| listens().next())
    }

    /// From where we speak to a peer that has not spoken first.
    fn local_to(&self, remote: IpAddr, transport: Transport) -> Option<SocketAddr> {
        let route = self.routes.get(&remote).copied();
        let listen = self.listen(transport, route.unwrap_or(remote));
        if listen.is_none() && transport == Transport::Udp {
            return None;
        }
        let local_ip = listen
            .map(|listen| listen.ip())
            .filter(|address| !address.is_unspecified())
            .or(route)?;
        let port = listen.map_or(SIP_PORT, |listen| listen.port());
        Some(SocketAddr::new(local_ip, port))
    }

    /// The way to a peer that has not spoken first. Over TCP the connection that leads there is used, or opened.
    fn flow_to(&mut self, now: Now, remote: SocketAddr, transport: Transport) -> Option<Flow> {
        let local = self.local_to(remote.ip(), transport)?;
        let connection = match transport {
            Transport::Udp => None,
            Transport::Tcp => Some((self.connections).to(now.mono, remote, local, &mut self.out)),
        };
        Some(Flow {
            transport,
            local,
            remote,
            connection,
        })
    }
}

/// Whether we have IPv4, and whether IPv6.
fn families(config: &Config) -> [bool; 2] {
    let has = |is_v4: bool| {
        let mut listens = config.server.listen.iter();
        listens.any(|listen| listen.address.is_ipv4() == is_v4)
    };
    [has(true), has(false)]
}

/// Live and completed transactions that this configuration may need.
fn transactions_max(config: &Config) -> (usize, usize) {
    let calls_max = config.call.calls_max;
    let live_max = calls_max
        .saturating_mul(TRANSACTIONS_PER_CALL)
        .saturating_add(4096);
    (
        live_max,
        COMPLETED_TRANSACTIONS_MIN.max(calls_max.saturating_mul(32)),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// With a wildcard, calls that have been show few of our addresses.
    #[test]
    fn addresses_that_are_listened_on_are_ours_from_the_start() {
        let now = Now {
            mono: Instant::default(),
            unix: crate::time::UnixTime::from_millis(1_772_366_400_000),
        };
        let machine = ["127.0.0.1", "192.0.2.1", "192.0.2.9", "2001:db8::9"];
        let machine = machine.map(|text| text.parse::<IpAddr>().unwrap());
        for (listen, ours) in [
            ("udp:0.0.0.0:5060", &machine[1..3]),
            ("udp:[::]:5060", &machine[3..]),
            ("udp:192.0.2.1:5060", &machine[1..2]),
        ] {
            let text = format!("[server]\nlisten = {listen}\n");
            let config = Config::read_bytes(text.as_bytes(), Path::new("/tmp/x.ini")).unwrap();
            let mut endpoint = Endpoint::new(now, config, [7; 32], Snapshot::default());
            let addresses = &machine;
            endpoint.handle_input(now, Input::Interfaces { addresses });
            let known = machine.iter().filter(|own| endpoint.media.has(**own));
            assert!(known.eq(ours), "{listen}");
        }
    }

    /// A provider that gives another address each day makes none of the new ones unknown.
    #[test]
    fn addresses_that_come_and_go_leave_room_for_those_that_are() {
        let now = Now {
            mono: Instant::default(),
            unix: crate::time::UnixTime::from_millis(1_772_366_400_000),
        };
        let text = "[server]\nlisten = udp:0.0.0.0:5060\npublic_address = 198.51.100.1\n";
        let config = || Config::read_bytes(text.as_bytes(), Path::new("/tmp/x.ini")).unwrap();
        let mut endpoint = Endpoint::new(now, config(), [7; 32], Snapshot::default());
        let day = |day: u16| IpAddr::from([203, 0, day.to_be_bytes()[0], day.to_be_bytes()[1]]);
        let public = IpAddr::from([198, 51, 100, 1]);
        for number in 0..1_000 {
            let addresses = &[day(number)];
            endpoint.handle_input(now, Input::Interfaces { addresses });
            assert!(
                endpoint.media.has(day(number)) && endpoint.media.has(public),
                "{number}"
            );
        }
        assert!(!endpoint.media.has(day(0)));
        endpoint.reload(now, config());
        assert!(!endpoint.media.has(day(999)) && endpoint.media.has(public));
    }
}
