//! The loop: waits, reads the clock, hands a batch of inputs to the core, sends the batch of its outputs. On mio, which is
//! edge-triggered: what a bounded batch leaves unread is remembered (`readable`, `has_work`) and read in the next turn, so
//! that a flood on one socket starves no other.
//!
//! A turn: 1. wait for an event or the nearest deadline. 2. Signals, news of connections. 3. Deadlines. 4. UDP: a bounded
//! batch of each lane, then one of strangers, in parts between which the lanes are looked at again. So a phone waits for a
//! few strangers' datagrams at most, and a flood that forges a phone's or a trunk's address leaves strangers their share.
//! While strangers' datagrams are a flood, their sockets wake nobody and are read when a rest is over (`rest`).
//! 5. Relayed media: a bounded number of packets. 6. Name servers' answers. 7. Connections, one read each in turn. 8. HTTP.
//! After each batch of inputs comes `flush`.

mod datagrams;
mod media;
mod names;

use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::admin::Admin;
use super::clock::Clock;
use super::core::Core;
use super::filter::Filter;
use super::http::Server;
use super::lanes::Lanes;
use super::log;
use super::measure::Latencies;
use super::media::MediaSockets;
use super::names::Names;
use super::peers::Routes;
use super::rest::Rest;
use super::start::Running;
use super::store::Store;
use super::streams::{News, Streams};
use super::sys::{BATCH, ReceiveBatch, Timer};
use super::udp::{SOCKETS_MAX, UdpSockets};
use crate::api::Event;
use crate::config::{Config, Listen};
use crate::endpoint::{Input, Output};
use crate::limits::{LISTEN_MAX, NAME_QUERIES_MAX, STOP_CALLS, STOP_TOTAL};
use crate::source::{Lane, Transport};
use crate::time::{Instant, Now};

/// Wakes the loop from another thread: answers of the store.
pub(super) const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
const HTTP_LISTENER: Token = Token(2);
const MEDIA: Token = Token(3);
/// The end of a rest.
const REST: Token = Token(4);
const UDP: usize = 1 << 10;
const TCP_LISTENERS: usize = 2 << 10;
const HTTP: usize = 3 << 10;
const NAMES: usize = 4 << 10;
const STREAMS: usize = 5 << 10;
const _: () = assert!(SOCKETS_MAX <= 1 << 10 && LISTEN_MAX <= 1 << 10);
const _: () = assert!(NAME_QUERIES_MAX <= 1 << 10);

/// Datagrams read from a lane at a time, before the other lanes and strangers have their turn.
pub(super) const LANE_BATCH: usize = 32;
/// Strangers' datagrams between two looks at the lanes. At 2 µs each a phone waits for 16 µs; a look costs half of one. What is
/// discarded for its source alone does not count: a whole batch of that is quicker.
pub(super) const STRANGERS_PART: usize = 8;

/// Bytes of datagrams after which outputs are sent though the batch is not at its end: the core's output arena is bounded.
const FLUSH_BYTES: usize = 128 << 10;
/// Rounds of outputs that answer news of connections that answer outputs, in one flush. The rest waits a turn.
const FLUSH_ROUNDS: usize = 8;
/// Between two looks at the routes to configured peers.
const ROUTES_EVERY: Duration = Duration::from_secs(30);

/// Sockets, store and what else outputs go to.
pub(super) struct Io {
    pub(super) registry: Registry,
    pub(super) udp: UdpSockets,
    pub(super) streams: Streams,
    pub(super) names: Names,
    pub(super) media: MediaSockets,
    pub(super) store: Store,
}

/// Signals as the handlers left them, and the pipe by which they wake the loop.
struct Signals {
    pipe: mio::net::UnixStream,
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    /// SIGTERM, SIGINT and SIGHUP. The second of the former two ends the process from within the handler, whatever the
    /// loop is waiting for.
    fn install(registry: &Registry) -> io::Result<Self> {
        let (pipe, write_end) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        write_end.set_nonblocking(true)?;
        let mut pipe = mio::net::UnixStream::from_std(pipe);
        registry.register(&mut pipe, SIGNALS, Interest::READABLE)?;
        let stop = Arc::new(AtomicBool::new(false));
        let reload = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first signal finds `stop` false and only sets it.
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        signal_hook::flag::register(SIGHUP, Arc::clone(&reload))?;
        for signal in [SIGTERM, SIGINT, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, write_end.try_clone()?)?;
        }
        Ok(Self { pipe, stop, reload })
    }
}

/// The loop with all that it owns.
pub(super) struct Shell<C> {
    pub(super) core: C,
    pub(super) io: Io,
    poll: Poll,
    pub(super) clock: Clock,
    receive: ReceiveBatch,
    /// For the lanes, which are read while a batch of strangers is being handled.
    receive_lane: ReceiveBatch,
    pub(super) lanes: Lanes,
    rest: Rest,
    rest_timer: Timer,
    /// Until when strangers' sockets are left alone, which they are then by the poll, too.
    pub(super) rest_until: Option<Instant>,
    http: Option<Server>,
    signals: Option<Signals>,
    /// What the kernel discards for us.
    pub(super) filter: Filter,
    pub(super) latencies: Latencies,
    routes: Routes,
    routes_at: Instant,
    /// For which names' addresses `routes` has been asked: the core's number for them.
    named_routes: Option<u64>,
    /// The configuration that runs and what it was made from.
    pub(super) running: Running,
    stop_by: Option<Instant>,
}

/// The sockets of a server before its core exists: whether they can be had decides if it starts at all.
pub(super) struct Bound {
    pub(super) udp: UdpSockets,
    pub(super) streams: Streams,
    pub(super) http: Option<Server>,
    /// The addresses with the ports that they got.
    pub(super) listen: Vec<Listen>,
}

/// Binds everything that the configuration says.
///
/// # Errors
/// What could not be had, and why.
pub(super) fn bind(registry: &Registry, config: &Config) -> Result<Bound, String> {
    if config.server.listen.len() > LISTEN_MAX {
        return Err(format!("listen: more than {LISTEN_MAX} addresses"));
    }
    let mut udp = UdpSockets::new();
    let mut streams = Streams::new(STREAMS);
    let mut listen = Vec::new();
    let mut listeners = 0;
    for &Listen { transport, address } in &config.server.listen {
        let address = match transport {
            Transport::Udp => udp.bind(registry, UDP, address)?,
            Transport::Tcp => {
                listeners += 1;
                streams.listen(registry, Token(TCP_LISTENERS + listeners - 1), address)?
            }
        };
        listen.push(Listen { transport, address });
    }
    let http = match config.http.listen {
        Some(address) => Some(Server::bind(registry, HTTP_LISTENER, HTTP, address)?),
        None => None,
    };
    Ok(Bound {
        udp,
        streams,
        http,
        listen,
    })
}

impl<C: Core> Shell<C> {
    /// Puts a core into its sockets. What the core has to say already (a nonce key to keep) goes out with the first turn.
    ///
    /// # Errors
    /// Why the system gives no second handle of the poll.
    pub(super) fn new(
        core: C,
        poll: Poll,
        bound: Bound,
        store: Store,
        clock: Clock,
        running: Running,
    ) -> Result<Self, String> {
        let registry = poll
            .registry()
            .try_clone()
            .map_err(|error| error.to_string())?;
        let routes = Routes::new(&running.config);
        let routes_at = clock.mono();
        let Bound {
            udp, streams, http, ..
        } = bound;
        let lanes = Lanes::new(&udp);
        let names = Names::new(NAMES, running.name_files.clone());
        let media = MediaSockets::new(&registry, MEDIA, clock.mono());
        let media = media.map_err(|error| error.to_string())?;
        let reads_at_once = std::env::var_os("SIPKEEP_READ_AT_ONCE").is_some();
        let room = if reads_at_once {
            0
        } else {
            udp.strangers_buffer_bytes()
        };
        let rest = Rest::new(clock.mono(), room);
        let rest_timer = Timer::new().map_err(|error| error.to_string())?;
        registry
            .register(
                &mut SourceFd(&rest_timer.as_raw_fd()),
                REST,
                Interest::READABLE,
            )
            .map_err(|error| error.to_string())?;
        let mut shell = Self {
            core,
            io: Io {
                registry,
                udp,
                streams,
                names,
                media,
                store,
            },
            poll,
            clock,
            receive: ReceiveBatch::new(),
            receive_lane: ReceiveBatch::new(),
            lanes,
            rest,
            rest_timer,
            rest_until: None,
            http,
            signals: None,
            filter: Filter::new(),
            latencies: Latencies::new(),
            routes,
            routes_at,
            named_routes: None,
            running,
            stop_by: None,
        };
        shell.read_name_files(shell.clock.now());
        shell.read_interfaces(shell.clock.now());
        // Bans of an earlier run hold before the first packet is read.
        shell.update_filter(shell.clock.now());
        Ok(shell)
    }

    /// Both clocks.
    #[cfg(test)]
    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Handles signals from now on.
    ///
    /// # Errors
    /// Why that cannot be.
    pub(super) fn install_signals(&mut self) -> Result<(), String> {
        let signals = Signals::install(&self.io.registry);
        self.signals = Some(signals.map_err(|error| format!("signals: {error}"))?);
        Ok(())
    }

    /// Runs until SIGTERM or SIGINT and everything is put in order, then closes the store.
    ///
    /// # Errors
    /// The kernel gives no more events, or the store could not write what was left.
    pub(super) fn run(mut self) -> Result<(), String> {
        let mut events = Events::with_capacity(1024);
        let stop_by = loop {
            self.turn(&mut events, None)
                .map_err(|error| format!("epoll: {error}"))?;
            if let Some(stop_by) = self.stop_by
                && (self.clock.mono() >= stop_by
                    || (self.core.is_idle() && self.io.streams.is_flushed()))
            {
                break stop_by;
            }
        };
        let total = stop_by.plus(STOP_TOTAL.saturating_sub(STOP_CALLS));
        let left = total.since(self.clock.mono());
        self.io
            .store
            .close(left)
            .map_err(|error| format!("state file: {error}"))
    }

    /// One turn, waiting at most `longest`.
    pub(super) fn turn(
        &mut self,
        events: &mut Events,
        longest: Option<Duration>,
    ) -> io::Result<()> {
        let wait = self.wait(longest);
        match self.poll.poll(events, wait) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
            Err(error) => return Err(error),
        }
        let now = self.clock.now();
        self.take_events(events);
        self.obey_signals(now);
        self.expire(now);
        self.lanes
            .keep_up(now, &self.clock, &self.core, &mut self.io.udp);
        self.receive_datagrams(events)?;
        self.serve_media()?;
        self.serve_names(now.mono);
        self.serve_streams();
        self.serve_http();
        self.update_filter(now);
        Ok(())
    }

    pub(super) fn update_filter(&mut self, now: Now) {
        let Io { udp, streams, .. } = &mut self.io;
        self.filter.update(&mut self.core, udp, streams, now);
    }

    /// How long nothing needs to be done; `None`: until an event.
    fn wait(&self, longest: Option<Duration>) -> Option<Duration> {
        if self.has_work() {
            return Some(Duration::ZERO);
        }
        let deadlines = [
            self.core.next_deadline(),
            self.io.streams.next_deadline(),
            Some(self.io.names.next_deadline()),
            self.http.as_ref().and_then(Server::next_deadline),
            log::next_tick(),
            self.stop_by,
            (self.routes.len() > 0).then_some(self.routes_at),
            self.filter.next_deadline(&self.core),
            self.lanes
                .next_deadline(&self.io.udp, self.core.lane_changes()),
        ];
        let next = deadlines.into_iter().flatten().min();
        let wait = next.map(|at| at.since(self.clock.mono()));
        [wait, longest].into_iter().flatten().min()
    }

    /// Whether the next turn has something to do that no event will tell.
    pub(super) fn has_work(&self) -> bool {
        self.io.udp.sockets.iter().any(|socket| socket.readable)
            || self.io.streams.has_work()
            || self.io.names.has_work()
            || self.io.media.has_work()
            || self.named_routes != Some(self.core.place_changes())
            || self.http.as_ref().is_some_and(Server::has_work)
            || self.core.outputs().len() > 0
    }

    /// Notes what can be read and written.
    fn take_events(&mut self, events: &Events) {
        for event in events {
            match event.token().0 {
                token if token >= STREAMS => {
                    self.io.streams.connection_ready(token - STREAMS, event);
                }
                token if token >= NAMES => self.io.names.socket_ready(token - NAMES),
                token if token >= HTTP => {
                    if let Some(http) = &mut self.http {
                        http.connection_ready(token - HTTP);
                    }
                }
                token if token >= TCP_LISTENERS => {
                    self.io.streams.listener_ready(token - TCP_LISTENERS);
                }
                token if token >= UDP => self.io.udp.sockets[token - UDP].readable = true,
                _ if event.token() == HTTP_LISTENER => {
                    if let Some(http) = &mut self.http {
                        http.listener_ready();
                    }
                }
                _ if event.token() == SIGNALS => self.drain_signal_pipe(),
                _ if event.token() == MEDIA => self.io.media.events_ready(),
                // The waker: answers are collected in `serve_http`. The end of a rest: `is_resting` looks at the time.
                _ => {}
            }
        }
    }

    fn drain_signal_pipe(&mut self) {
        let Some(signals) = &mut self.signals else {
            return;
        };
        let mut bytes = [0; 64];
        // What they were stands in the flags; the pipe only wakes. It ends with `WouldBlock`.
        while signals.pipe.read(&mut bytes).is_ok_and(|length| length > 0) {}
    }

    fn obey_signals(&mut self, now: Now) {
        let Some(signals) = &self.signals else { return };
        let stop = signals.stop.load(Ordering::Relaxed);
        let reload = signals.reload.swap(false, Ordering::Relaxed);
        if reload {
            self.reload(now);
        }
        if stop && self.stop_by.is_none() {
            self.stop(now);
        }
    }

    /// Begins to stop: calls have a moment to end, then the store is closed.
    pub(super) fn stop(&mut self, now: Now) {
        self.stop_by = Some(now.mono.plus(STOP_CALLS));
        log::event(now, &event(::log::Level::Info, "stop", vec![]));
        self.core.stop(now);
        flush(&mut self.core, &mut self.io, now);
    }

    /// Reads the configuration again. A mistake, or a change that needs a restart, keeps the old one.
    pub(super) fn reload(&mut self, now: Now) {
        match self.running.reread(&self.io.store) {
            Ok((config, made)) => {
                if let Err(error) = log::start(config.server.log) {
                    log::event(
                        now,
                        &event(::log::Level::Error, "log", vec![("error", error)]),
                    );
                }
                self.io.store.set_cdr_keep(config.server.cdr_keep);
                self.read_name_files(now);
                self.core.reload(now, config);
                self.read_interfaces(now);
                self.read_all_routes();
                let users = self.running.config.users.len().to_string();
                let fields = vec![("users", users), ("passwords_made", made.len().to_string())];
                log::event(now, &event(::log::Level::Info, "reload", fields));
            }
            Err(mistakes) => {
                for mistake in mistakes {
                    let fields = vec![("kept", "old configuration".into()), ("error", mistake)];
                    log::event(now, &event(::log::Level::Error, "reload", fields));
                }
            }
        }
        flush(&mut self.core, &mut self.io, now);
    }

    /// Deadlines: the core's, those of connections, the log's, routes.
    fn expire(&mut self, now: Now) {
        if self.core.next_deadline().is_some_and(|at| at <= now.mono) {
            self.core.handle_input(now, Input::Tick);
        }
        self.io.streams.expire(now.mono);
        if let Some(http) = &mut self.http {
            http.expire(now.mono);
        }
        if log::next_tick().is_some_and(|at| at <= now.mono) {
            log::tick(now);
        }
        if self.routes.len() > 0 && self.routes_at <= now.mono {
            self.read_routes();
        }
        flush(&mut self.core, &mut self.io, now);
    }

    /// Accepts, tells news, reads from each connection that has something, one after the other.
    fn serve_streams(&mut self) {
        let Self {
            core,
            io,
            clock,
            latencies,
            ..
        } = self;
        if !io.streams.has_work() {
            return;
        }
        let now = clock.now();
        let Io {
            streams, registry, ..
        } = io;
        streams.accept(now.mono, registry, |remote| {
            core.accepts_connection(now, remote)
        });
        flush(core, io, now);
        for _ in 0..64 {
            let now = clock.now();
            let Some((connection, bytes)) = io.streams.read_next(now.mono) else {
                break;
            };
            core.handle_input(now, Input::StreamBytes { connection, bytes });
            flush(core, io, now);
            latencies.record(clock.mono().since(now.mono), 1);
        }
        flush(core, io, clock.now());
    }

    /// Requests of administrators, and the store's answers to earlier ones.
    fn serve_http(&mut self) {
        let Self {
            core,
            io,
            http,
            clock,
            latencies,
            running,
            filter,
            lanes,
            ..
        } = self;
        let Some(http) = http else { return };
        for (ticket, answer) in io.store.answers() {
            http.answer(ticket, super::admin::cdrs_response(answer));
        }
        if !http.has_work() {
            return;
        }
        let now = clock.now();
        let Io {
            registry,
            udp,
            streams,
            store,
            ..
        } = &mut *io;
        let mut admin = Admin {
            core: &mut *core,
            store,
            udp,
            streams,
            filter,
            lanes,
            latencies,
            config: &running.config,
            now,
        };
        http.serve(now.mono, registry, |request, ticket| {
            admin.answer(request, ticket)
        });
        flush(core, io, now);
    }
}

/// Sends what the core has put out, tells it what became of its connections, until nothing is new.
pub(super) fn flush<C: Core>(core: &mut C, io: &mut Io, now: Now) {
    for _ in 0..FLUSH_ROUNDS {
        if core.outputs().len() > 0 {
            send_outputs(core, io, now);
        }
        // Also what a connection that became writable has waiting.
        io.streams.flush(now.mono);
        let mut is_quiet = true;
        while let Some(news) = io.streams.next_news() {
            is_quiet = false;
            let input = match news {
                News::Opened(flow) => Input::StreamOpened { flow },
                News::Closed(connection) => Input::StreamClosed { connection },
            };
            core.handle_input(now, input);
        }
        while let Some(socket) = io.names.next_unsent() {
            is_quiet = false;
            core.handle_input(now, Input::NameUnreachable { socket });
        }
        is_quiet &= !media::tell_failed(core, &mut io.media, now);
        if is_quiet {
            break;
        }
    }
}

fn send_outputs<C: Core>(core: &mut C, io: &mut Io, now: Now) {
    let Io {
        registry,
        udp,
        streams,
        names,
        media,
        store,
    } = io;
    let unsent = udp.unsent;
    for output in core.outputs() {
        match output {
            Output::Datagram { flow, .. } => udp.announce(&flow),
            Output::StreamBytes { connection, bytes } => streams.write(connection, bytes),
            Output::OpenStream { connection, remote } => {
                streams.open(now.mono, registry, connection, remote);
            }
            Output::CloseStream { connection } => streams.close(now.mono, connection),
            Output::StreamTrusted { connection } => streams.trust(connection),
            Output::Banned { source } => streams.ban(source),
            Output::Ask {
                socket,
                over,
                server,
                bytes,
            } => names.ask(registry, socket, over, server, bytes),
            Output::CloseQuery { socket } => names.close(socket),
            Output::OpenMedia { pair, address } => media.open(pair, address),
            Output::CloseMedia { pair } => media.close(pair),
            // Handed over below.
            Output::Keep(_) => {}
            Output::Event(event) => log::event(now, event),
        }
    }
    udp.send(|| {
        core.outputs().filter_map(|output| match output {
            Output::Datagram { flow, bytes } => Some((flow, bytes)),
            _ => None,
        })
    });
    if udp.unsent > unsent {
        let fields = vec![
            ("datagrams", (udp.unsent - unsent).to_string()),
            ("since_start", udp.unsent.to_string()),
        ];
        log::event(now, &event(::log::Level::Debug, "unsent", fields));
    }
    let mut keeper = store.keeper();
    core.clear_outputs_keeping(|change| keeper.keep(change));
}

/// An event of the shell itself.
pub(super) fn event(
    level: ::log::Level,
    name: &'static str,
    fields: Vec<(&'static str, String)>,
) -> Event {
    Event {
        level,
        name,
        source: None,
        fields: fields.into(),
    }
}
