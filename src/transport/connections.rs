//! The streams that are open, and opening one to a peer that is known by its address (RFC 3261 §18.1.1).
//!
//! Numbers only: sockets, time-outs and limits are `net`'s.

use std::collections::HashMap;
use std::net::SocketAddr;

use ahash::RandomState;

use super::Framer;
use crate::action::Outputs;
use crate::limits::T1_64;
use crate::source::{ConnectionId, Flow, Transport};
use crate::time::Instant;

/// A stream connection.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its flow.
    pub flow: Flow,
    /// Where its messages end.
    pub framer: Framer,
    /// Whether its peer is known, by address or by credentials.
    pub is_trusted: bool,
    /// When it brought bytes last, or was opened.
    pub heard: Instant,
    /// It has brought some.
    pub has_spoken: bool,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Connections {
    streams: HashMap<ConnectionId, Stream, RandomState>,
    /// Connections that we opened, by where they lead.
    opened: HashMap<SocketAddr, ConnectionId, RandomState>,
    next: u64,
}

impl Connections {
    /// None yet. Those that we open get odd numbers; accepted ones have even ones.
    pub fn new(hasher: RandomState) -> Self {
        Self {
            streams: HashMap::with_hasher(hasher.clone()),
            opened: HashMap::with_hasher(hasher),
            next: 1,
        }
    }

    /// Whether messages can be written to it.
    pub fn is_open(&self, connection: ConnectionId) -> bool {
        self.streams.contains_key(&connection)
    }

    /// The stream of a connection.
    pub fn get_mut(&mut self, connection: ConnectionId) -> Option<&mut Stream> {
        self.streams.get_mut(&connection)
    }

    /// Whether it has brought nothing for 64·T1. With a request unanswered all that time, its peer is gone without a FIN.
    pub fn is_silent(&self, connection: ConnectionId, now: Instant) -> bool {
        let stream = self.streams.get(&connection);
        stream.is_some_and(|stream| now.since(stream.heard) >= T1_64)
    }

    /// One that was accepted, or that is established now.
    pub fn insert(&mut self, connection: ConnectionId, stream: Stream) {
        self.streams.insert(connection, stream);
    }

    /// It is gone.
    pub fn remove(&mut self, connection: ConnectionId) -> Option<Stream> {
        let stream = self.streams.remove(&connection)?;
        if self.opened.get(&stream.flow.remote) == Some(&connection) {
            self.opened.remove(&stream.flow.remote);
        }
        Some(stream)
    }

    /// The connection that we have opened to `remote`, or open now.
    pub fn to(
        &mut self,
        now: Instant,
        remote: SocketAddr,
        local: SocketAddr,
        out: &mut Outputs,
    ) -> ConnectionId {
        if let Some(connection) = self.opened.get(&remote) {
            return *connection;
        }
        let connection = ConnectionId(self.next);
        self.next = self.next.saturating_add(2);
        self.opened.insert(remote, connection);
        let flow = Flow {
            transport: Transport::Tcp,
            local,
            remote,
            connection: Some(connection),
        };
        self.streams.insert(
            connection,
            Stream {
                flow,
                framer: Framer::new(),
                is_trusted: true,
                heard: now,
                has_spoken: false,
            },
        );
        out.open_stream(connection, remote);
        out.trust_stream(connection);
        connection
    }

    /// Another connection in place of one that we opened and whose peer has closed it; `None`: he was never there, or it is
    /// his to open another one.
    pub fn again(&mut self, now: Instant, closed: &Stream, out: &mut Outputs) -> Option<Flow> {
        let is_ours = closed.flow.connection.is_some_and(ConnectionId::is_ours);
        if !is_ours || !closed.has_spoken {
            return None;
        }
        let connection = self.to(now, closed.flow.remote, closed.flow.local, out);
        Some(Flow {
            connection: Some(connection),
            ..closed.flow
        })
    }

    /// How many there are, and how many of them we opened.
    pub fn count(&self) -> (usize, usize) {
        (self.streams.len(), self.opened.len())
    }
}
