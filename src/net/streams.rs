//! TCP connections of the loop (RFC 3261 §18 without its framing): accepting within bounds, connecting, reading in turns,
//! writing from bounded buffers, closing after what waits was written.
//!
//! Strangers have bounds, so many in all and so many a source; at each of them the one silent longest goes.
//! Bytes pass through unread; who may connect and who is trusted the core decides.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use slab::Slab;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::sys;
use super::udp::explain;
use crate::limits::{
    ACCEPT_PAUSE, CONNECT_TIMEOUT, CONNECTION_CLOSE_TIMEOUT, CONNECTION_IDLE,
    CONNECTION_OUT_BYTES_MAX, CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX,
    CONNECTIONS_UNAUTHENTICATED_MAX, STRANGER_OUT_BYTES_MAX,
};
use crate::source::{ConnectionId, Flow, Source, Transport};
use crate::time::Instant;

/// Connections accepted in one turn of the loop, so that a flood of them does not keep packets waiting.
const ACCEPT_BATCH: usize = 64;
/// Bytes read from one connection before the next has its turn.
const READ_BYTES: usize = 16 << 10;
/// Connections looked at before the rest of the loop has its turn.
const READS_MAX: usize = 64;
/// Between two lines in the log about the same lack.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// Waiting connections of a listener in the kernel.
const BACKLOG: i32 = 512;
/// A write buffer that is larger than this is given back once it is empty: idle costs nothing.
const BUFFER_KEPT_BYTES: usize = 2 << 10;

/// What the core is to be told, in the order in which it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Accepted or established.
    Opened(Flow),
    /// Gone.
    Closed(ConnectionId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// We are connecting; nothing can be written yet.
    Connecting,
    /// Bytes go both ways.
    Open,
    /// The core has forgotten it. What waits is written, then our side is shut, then the peer has a moment to read it.
    Closing,
}

struct Connection {
    id: ConnectionId,
    stream: TcpStream,
    remote: SocketAddr,
    state: State,
    /// Counts as a stranger's: accepted, and the core has not said that it trusts the peer.
    stranger: bool,
    /// When it is looked at again; kept in `Streams::deadlines` too.
    deadline: Option<Instant>,
    /// Bytes that wait to be written, from `out_start`.
    out: Vec<u8>,
    out_start: usize,
    /// In `Streams::readable`.
    is_readable: bool,
    /// In `Streams::dirty`.
    is_dirty: bool,
    /// Our side was shut.
    is_shut: bool,
}

struct Listener {
    socket: TcpListener,
    local: SocketAddr,
    readable: bool,
}

/// All SIP connections and their listeners.
pub(super) struct Streams {
    listeners: Vec<Listener>,
    connections: Slab<Connection>,
    ids: HashMap<ConnectionId, usize>,
    /// Number of the next accepted connection: even.
    next_accepted: u64,
    strangers: usize,
    strangers_of: HashMap<Source, usize>,
    /// Connections to read from, each once, in turn.
    readable: VecDeque<usize>,
    /// Connections with bytes to write that no write was tried for yet.
    dirty: Vec<usize>,
    news: VecDeque<News>,
    deadlines: BTreeSet<(Instant, usize)>,
    /// No accept before this: the process has no file descriptor left.
    accept_paused_until: Option<Instant>,
    /// When that was last said in the log.
    warned_at: Option<Instant>,
    buffer: Box<[u8]>,
    first_token: usize,
}

impl Streams {
    /// Tokens of its connections begin at `first_token`.
    pub(super) fn new(first_token: usize) -> Self {
        Self {
            listeners: Vec::new(),
            connections: Slab::new(),
            ids: HashMap::new(),
            next_accepted: 2,
            strangers: 0,
            strangers_of: HashMap::new(),
            readable: VecDeque::new(),
            dirty: Vec::new(),
            news: VecDeque::new(),
            deadlines: BTreeSet::new(),
            accept_paused_until: None,
            warned_at: None,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            first_token,
        }
    }

    /// Listens; the address with its port.
    ///
    /// # Errors
    /// For people, with the address.
    pub(super) fn listen(
        &mut self,
        registry: &Registry,
        token: Token,
        address: SocketAddr,
    ) -> Result<SocketAddr, String> {
        let result = open_listener(address).and_then(|mut socket| {
            registry.register(&mut socket, token, Interest::READABLE)?;
            let local = socket.local_addr()?;
            Ok((socket, local))
        });
        let (socket, local) = result.map_err(|error| explain("tcp", address, &error))?;
        self.listeners.push(Listener {
            socket,
            local,
            readable: true,
        });
        Ok(local)
    }

    /// The listeners and their addresses.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (SocketAddr, BorrowedFd<'_>)> {
        self.listeners
            .iter()
            .map(|listener| (listener.local, listener.socket.as_fd()))
    }

    /// Connections there are, those that are being closed included.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Their sockets.
    #[cfg(test)]
    pub(super) fn connection_sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let connections = self.connections.iter();
        connections.map(|(_, connection)| connection.stream.as_fd())
    }

    /// Listener number `index` has somebody waiting.
    pub(super) fn listener_ready(&mut self, index: usize) {
        if let Some(listener) = self.listeners.get_mut(index) {
            listener.readable = true;
        }
    }

    /// An event of the connection with this number behind the first token.
    pub(super) fn connection_ready(&mut self, key: usize, event: &mio::event::Event) {
        let Some(connection) = self.connections.get_mut(key) else {
            return; // closed earlier in this turn
        };
        if connection.state == State::Connecting {
            self.finish_connect(key);
        }
        if event.is_writable() {
            self.mark_dirty(key);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.mark_readable(key);
        }
    }

    /// Whether there is work that needs no event.
    pub(super) fn has_work(&self) -> bool {
        let accept = self.accept_paused_until.is_none()
            && self.listeners.iter().any(|listener| listener.readable);
        accept || !self.readable.is_empty() || !self.dirty.is_empty() || !self.news.is_empty()
    }

    /// What the core is to be told next.
    pub(super) fn next_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Accepts who waits, a bounded number, those that `accepts` lets in.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        registry: &Registry,
        mut accepts: impl FnMut(SocketAddr) -> bool,
    ) {
        if self.accept_paused_until.is_some() {
            return;
        }
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPT_BATCH {
                if !self.listeners[index].readable {
                    break;
                }
                match self.listeners[index].socket.accept() {
                    Ok((stream, remote)) => {
                        let remote = canonical(remote);
                        // Whom the guard discards gets no answer: dropping the stream closes it.
                        if accepts(remote)
                            && let Err(error) = self.admit(now, registry, index, stream, remote)
                        {
                            log::debug!("connection from {} not taken: {error}", remote.ip());
                        }
                    }
                    Err(error) => self.accept_failed(now, index, &error),
                }
            }
        }
    }

    fn accept_failed(&mut self, now: Instant, index: usize, error: &io::Error) {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => self.listeners[index].readable = false,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                // As at the bound for strangers: room for the next is made by the one silent longest.
                if self.evict(|_| true) {
                    return;
                }
                // The waiting connection stays in the kernel, and would be refused again at once. `expire` tries again.
                self.accept_paused_until = Some(now.plus(ACCEPT_PAUSE));
                self.listeners[index].readable = false;
                if self.warned_at.is_none_or(|at| now.since(at) >= WARN_EVERY) {
                    self.warned_at = Some(now);
                    log::warn!("connections have to wait: {error}");
                }
            }
            // The peer has gone already, and the like: the next one.
            _ => {}
        }
    }

    fn admit(
        &mut self,
        now: Instant,
        registry: &Registry,
        listener: usize,
        stream: TcpStream,
        remote: SocketAddr,
    ) -> io::Result<()> {
        let local = canonical(stream.local_addr()?);
        debug_assert_eq!(local.port(), self.listeners[listener].local.port());
        // It begins with the listener's filter, which would go on as it is now.
        sys::detach_filter(stream.as_fd())?;
        let source = Source::of(remote.ip());
        if self
            .strangers_of
            .get(&source)
            .is_some_and(|&n| n >= CONNECTIONS_PER_SOURCE_MAX)
        {
            self.evict(|connection| Source::of(connection.remote.ip()) == source);
        } else if self.strangers >= CONNECTIONS_UNAUTHENTICATED_MAX {
            self.evict(|_| true);
        }
        if self.connections.len() >= CONNECTIONS_MAX {
            return Err(io::Error::other("too many connections"));
        }
        let id = ConnectionId(self.next_accepted);
        self.next_accepted += 2;
        let key = self.insert(registry, id, stream, remote, State::Open)?;
        self.connections[key].stranger = true;
        self.strangers += 1;
        *self.strangers_of.entry(source).or_default() += 1;
        self.set_deadline(key, Some(now.plus(CONNECTION_IDLE)));
        let flow = Flow {
            transport: Transport::Tcp,
            local,
            remote,
            connection: Some(id),
        };
        self.news.push_back(News::Opened(flow));
        Ok(())
    }

    fn insert(
        &mut self,
        registry: &Registry,
        id: ConnectionId,
        mut stream: TcpStream,
        remote: SocketAddr,
        state: State,
    ) -> io::Result<usize> {
        // It works without these options, and an emulated kernel may lack one.
        if let Err(error) = tune(&stream) {
            log::debug!("connection with {}: {error}", remote.ip());
        }
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(self.first_token + key), interest)?;
        entry.insert(Connection {
            id,
            stream,
            remote,
            state,
            stranger: false,
            deadline: None,
            out: Vec::new(),
            out_start: 0,
            is_readable: false,
            is_dirty: false,
            is_shut: false,
        });
        self.ids.insert(id, key);
        Ok(key)
    }

    /// Opens a connection; [`News`] tell whether it came to be.
    pub(super) fn open(
        &mut self,
        now: Instant,
        registry: &Registry,
        id: ConnectionId,
        remote: SocketAddr,
    ) {
        let opened = if self.connections.len() < CONNECTIONS_MAX {
            connect(remote, self.own_address(remote))
                .and_then(|stream| self.insert(registry, id, stream, remote, State::Connecting))
        } else {
            Err(io::Error::other("too many connections"))
        };
        match opened {
            Ok(key) => self.set_deadline(key, Some(now.plus(CONNECT_TIMEOUT))),
            Err(_) => self.news.push_back(News::Closed(id)),
        }
    }

    /// Where a connection to this peer begins: at the one address of its family that we listen on, which is the one that
    /// peers know us by and call back. `None`: wherever the kernel likes.
    fn own_address(&self, remote: SocketAddr) -> Option<SocketAddr> {
        let mut own = (self.listeners.iter())
            .map(|listener| listener.local)
            .filter(|own| own.is_ipv4() == remote.is_ipv4());
        let mut only = own.next()?;
        // From the loopback nothing leads outside, and the other way round.
        let leads_there = own.next().is_none()
            && !only.ip().is_unspecified()
            && only.ip().is_loopback() == remote.ip().is_loopback();
        only.set_port(0);
        leads_there.then_some(only)
    }

    /// A connection being opened has an event: it is established, or failed, or the event was for nothing.
    fn finish_connect(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        let local = match connection.stream.take_error() {
            Ok(None) => match connection.stream.peer_addr() {
                Ok(_) => connection.stream.local_addr(),
                Err(error) if error.kind() == ErrorKind::NotConnected => return,
                Err(error) => Err(error),
            },
            Ok(Some(error)) | Err(error) => Err(error),
        };
        let Ok(local) = local else {
            self.drop_connection(key);
            return;
        };
        connection.state = State::Open;
        self.news.push_back(News::Opened(Flow {
            transport: Transport::Tcp,
            local: canonical(local),
            remote: connection.remote,
            connection: Some(connection.id),
        }));
        self.set_deadline(key, None);
        self.mark_dirty(key);
    }

    /// Reads once from the connection whose turn it is. `None`: nothing waits.
    pub(super) fn read_next(&mut self, now: Instant) -> Option<(ConnectionId, &[u8])> {
        // Bounded, for the sake of connections that are being closed while their peers go on sending.
        for _ in 0..READS_MAX {
            let key = self.readable.pop_front()?;
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            connection.is_readable = false;
            if connection.state == State::Connecting {
                continue;
            }
            match connection.stream.read(&mut self.buffer) {
                Ok(0) => self.end_of_stream(now, key),
                Ok(length) => {
                    let id = connection.id;
                    let is_open = connection.state == State::Open;
                    let is_stranger = connection.stranger;
                    // Even a short read may have a FIN behind it: only `WouldBlock` ends a connection's turns.
                    self.mark_readable(key);
                    if !is_open {
                        continue; // being closed: what it says goes nowhere
                    }
                    if is_stranger {
                        self.set_deadline(key, Some(now.plus(CONNECTION_IDLE)));
                    }
                    return Some((id, &self.buffer[..length]));
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {}
                    ErrorKind::Interrupted => self.mark_readable(key),
                    _ => self.drop_connection(key),
                },
            }
        }
        None
    }

    /// The peer says no more (FIN). What waits for it is still written: it may only have shut its side.
    fn end_of_stream(&mut self, now: Instant, key: usize) {
        let connection = &self.connections[key];
        if connection.is_shut || (connection.out.is_empty() && !connection.is_dirty) {
            self.drop_connection(key);
        } else {
            self.close_gently(now, key);
        }
    }

    /// Queues bytes for a connection; too many that the peer does not take: it is closed.
    pub(super) fn write(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(&key) = self.ids.get(&id) else {
            // Whoever writes here does not know yet, or came late: its transaction need not wait for an answer.
            self.news.push_back(News::Closed(id));
            return;
        };
        let connection = &mut self.connections[key];
        let bound = if connection.stranger {
            STRANGER_OUT_BYTES_MAX
        } else {
            CONNECTION_OUT_BYTES_MAX
        };
        if connection.out.len() - connection.out_start + bytes.len() > bound {
            self.drop_connection(key);
            return;
        }
        connection.out.extend_from_slice(bytes);
        self.mark_dirty(key);
    }

    /// Writes what was queued, one write a connection.
    pub(super) fn flush(&mut self, now: Instant) {
        for position in 0..self.dirty.len() {
            let key = self.dirty[position];
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            connection.is_dirty = false;
            if connection.state == State::Connecting {
                continue;
            }
            if write_out(connection).is_err() {
                self.drop_connection(key);
            } else {
                self.shut_if_done(now, key);
            }
        }
        self.dirty.clear();
    }

    /// Writes what waits, then closes. The core is told at once.
    pub(super) fn close(&mut self, now: Instant, id: ConnectionId) {
        let Some(&key) = self.ids.get(&id) else {
            return;
        };
        if self.connections[key].state == State::Connecting {
            self.drop_connection(key);
        } else {
            self.close_gently(now, key);
            self.mark_dirty(key);
        }
    }

    fn close_gently(&mut self, now: Instant, key: usize) {
        let connection = &mut self.connections[key];
        if connection.state != State::Closing {
            connection.state = State::Closing;
            self.ids.remove(&connection.id);
            self.news.push_back(News::Closed(connection.id));
            self.set_deadline(key, Some(now.plus(CONNECTION_CLOSE_TIMEOUT)));
        }
        self.shut_if_done(now, key);
    }

    /// Shuts our side of a closing connection once all is written. Closing it before the peer has read would lose the
    /// bytes if it had sent some that we did not read (RFC 1122 §4.2.2.13).
    fn shut_if_done(&mut self, now: Instant, key: usize) {
        let connection = &mut self.connections[key];
        if connection.state == State::Closing && connection.out.is_empty() && !connection.is_shut {
            connection.is_shut = true;
            if connection.stream.shutdown(Shutdown::Write).is_err() {
                self.drop_connection(key);
                return;
            }
            self.set_deadline(key, Some(now.plus(CONNECTION_CLOSE_TIMEOUT)));
            self.mark_readable(key);
        }
    }

    /// Its peer has authenticated: no longer a stranger's.
    pub(super) fn trust(&mut self, id: ConnectionId) {
        let Some(&key) = self.ids.get(&id) else {
            return;
        };
        if self.connections[key].stranger {
            self.forget_stranger(key);
            self.set_deadline(key, None);
        }
    }

    /// Closes all connections of a source.
    pub(super) fn ban(&mut self, source: Source) {
        let of_source = |connection: &Connection| source.covers(Source::of(connection.remote.ip()));
        let keys: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, connection)| of_source(connection))
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.drop_connection(key);
        }
    }

    /// When [`expire`](Self::expire) is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let first = self.deadlines.first().map(|&(at, _)| at);
        [first, self.accept_paused_until]
            .into_iter()
            .flatten()
            .min()
    }

    /// Closes what has been silent, connecting or closing for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.accept_paused_until.is_some_and(|until| until <= now) {
            self.accept_paused_until = None;
            for listener in &mut self.listeners {
                listener.readable = true;
            }
        }
        while let Some(&(at, key)) = self.deadlines.first() {
            if at > now {
                break;
            }
            self.drop_connection(key);
        }
    }

    /// Whether bytes wait to be written to a peer.
    pub(super) fn is_flushed(&self) -> bool {
        self.connections
            .iter()
            .all(|(_, connection)| connection.out.is_empty())
    }

    /// Closes the one that has been silent longest, of the strangers that `of` means.
    /// False: there is none.
    fn evict(&mut self, of: impl Fn(&Connection) -> bool) -> bool {
        // Every stranger has a deadline, which comes the sooner the longer it is silent; trusted ones have none.
        let silent = self.deadlines.iter().map(|&(_, key)| key).find(|&key| {
            let connection = &self.connections[key];
            connection.stranger && of(connection)
        });
        if let Some(key) = silent {
            self.drop_connection(key);
        }
        silent.is_some()
    }

    /// Closes at once; the core is told unless it knows.
    fn drop_connection(&mut self, key: usize) {
        if self.connections[key].stranger {
            self.forget_stranger(key);
        }
        self.set_deadline(key, None);
        let connection = self.connections.remove(key);
        if connection.state != State::Closing {
            self.ids.remove(&connection.id);
            self.news.push_back(News::Closed(connection.id));
        }
    }

    fn forget_stranger(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        connection.stranger = false;
        self.strangers -= 1;
        let source = Source::of(connection.remote.ip());
        if let Some(count) = self.strangers_of.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.strangers_of.remove(&source);
            }
        }
    }

    fn set_deadline(&mut self, key: usize, deadline: Option<Instant>) {
        let connection = &mut self.connections[key];
        if let Some(old) = connection.deadline {
            self.deadlines.remove(&(old, key));
        }
        if let Some(new) = deadline {
            self.deadlines.insert((new, key));
        }
        connection.deadline = deadline;
    }

    fn mark_readable(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.is_readable, true)
        {
            self.readable.push_back(key);
        }
    }

    fn mark_dirty(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.is_dirty, true)
        {
            self.dirty.push(key);
        }
    }
}

/// Writes until nothing is left or the socket takes no more.
fn write_out(connection: &mut Connection) -> io::Result<()> {
    while connection.out_start < connection.out.len() {
        match connection
            .stream
            .write(&connection.out[connection.out_start..])
        {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => connection.out_start += written,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {
                    connection.out.drain(..connection.out_start);
                    connection.out_start = 0;
                    return Ok(());
                }
                ErrorKind::Interrupted => {}
                _ => return Err(error),
            },
        }
    }
    connection.out.clear();
    connection.out_start = 0;
    connection.out.shrink_to(BUFFER_KEPT_BYTES);
    Ok(())
}

pub(super) fn open_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // For connections of a former run that the kernel still remembers; a second listener is refused all the same.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Begins to connect, from an address of ours if one is given.
fn connect(remote: SocketAddr, from: Option<SocketAddr>) -> io::Result<TcpStream> {
    let Some(from) = from else {
        return TcpStream::connect(remote);
    };
    let socket = Socket::new(
        Domain::for_address(remote),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    socket.bind(&from.into())?;
    match socket.connect(&remote.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// IPv4-mapped addresses as IPv4, without flow label.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, v6.port())),
            None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
        },
        v4 => v4,
    }
}

/// Sends at once, and notices within two minutes that a peer has vanished, with or without anything to say to it.
fn tune(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(15))
            .with_retries(4),
    )?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(60)))
}
