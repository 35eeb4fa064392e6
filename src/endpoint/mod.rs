//! The sans-I/O top: wires the layers, owns all tables. See `lib.rs` for the run-loop contract.

use std::net::{IpAddr, SocketAddr};

use crate::api::{Answer, Command, Event};
use crate::config::Config;
use crate::source::{ConnectionId, Flow, Source};
use crate::store::{Change, Snapshot};
use crate::time::{Instant, Now};

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
    /// A deadline may have passed.
    Tick,
}

/// What goes out.
#[derive(Clone, Copy, Debug)]
pub enum Output<'a> {
    /// Send this datagram from `flow.local` to `flow.remote`.
    Datagram {
        /// The way.
        flow: Flow,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// Write these bytes to a stream (also to one that is still being opened: they wait for it, bounded).
    StreamBytes {
        /// Which.
        connection: ConnectionId,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// Open a connection. `StreamOpened` or `StreamClosed` answers.
    OpenStream {
        /// Number it will have (odd).
        connection: ConnectionId,
        /// To where.
        remote: SocketAddr,
    },
    /// Write what waits, then close.
    CloseStream {
        /// Which.
        connection: ConnectionId,
    },
    /// This connection's peer has authenticated (or is known): it leaves the bounds for strangers.
    StreamTrusted {
        /// Which.
        connection: ConnectionId,
    },
    /// A ban begins: close the connections of this source, accept no more from it.
    Banned {
        /// Whom.
        source: Source,
    },
    /// Keep this.
    Keep(&'a Change),
    /// Log this.
    Event(&'a Event),
}

/// The whole SIP server as a value.
pub struct Endpoint {}

impl Endpoint {
    /// A server with this configuration (every user with a secret or an address) and what was kept.
    pub fn new(now: Now, config: Config, seed: [u8; 32], kept: Snapshot) -> Self {
        let _ = (now, config, seed, kept);
        todo!()
    }

    /// Takes one input. Never fails, blocks or panics on a peer's bytes.
    pub fn handle_input(&mut self, now: Now, input: Input<'_>) {
        let _ = (now, input);
        todo!()
    }

    /// An administrator's command, answered at once (its messages are outputs as any others).
    pub fn command(&mut self, now: Now, command: Command) -> Answer {
        let _ = (now, command);
        todo!()
    }

    /// A new configuration; calls and registrations go on. The caller has checked that `listen` is unchanged.
    pub fn reload(&mut self, now: Now, config: Config) {
        let _ = (now, config);
        todo!()
    }

    /// Begins to stop: new calls get 503, running legs a BYE with Reason. [`Endpoint::is_idle`] tells when all are gone.
    pub fn stop(&mut self, now: Now) {
        let _ = now;
        todo!()
    }

    /// Whether no call is left.
    pub fn is_idle(&self) -> bool {
        todo!()
    }

    /// Read after every batch of inputs, sent as one batch, then cleared.
    pub fn outputs(&self) -> impl ExactSizeIterator<Item = Output<'_>> {
        std::iter::empty()
    }

    /// Forgets the outputs.
    pub fn clear_outputs(&mut self) {
        todo!()
    }

    /// When [`Input::Tick`] is due at the latest. O(1).
    pub fn next_deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// Whether a new connection from this source is to be accepted at all (guard).
    pub fn accepts_connection(&mut self, now: Now, remote: SocketAddr) -> bool {
        let _ = (now, remote);
        todo!()
    }
}
