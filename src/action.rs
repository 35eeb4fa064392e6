//! What the layers hand upward: outputs, as values in one bounded queue. They are ranges into a byte arena, so an
//! output outlives the transaction that made it, and the shell sends a whole batch at once.

use std::net::SocketAddr;

use crate::api::Event;
use crate::limits::OUTPUT_ARENA_BYTES;
use crate::source::{ConnectionId, Flow, MediaPair, Over, Sink, SocketId, Source};
use crate::store::Change;

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
    /// Open a socket, send these bytes to a name server, hand over what comes from anybody until it is closed:
    /// `NameAnswer`. If that cannot be, or ends: `NameUnreachable`.
    Ask {
        /// Its name from now on.
        socket: SocketId,
        /// How.
        over: Over,
        /// Whom.
        server: SocketAddr,
        /// The query.
        bytes: &'a [u8],
    },
    /// The socket of a query is not needed any more, whether it exists or not.
    CloseQuery {
        /// Which.
        socket: SocketId,
    },
    /// Open two UDP sockets, bound to this address and to the next port, and hand over what comes to them:
    /// `Endpoint::forward`. If that cannot be: `MediaFailed`.
    OpenMedia {
        /// Their name from now on.
        pair: MediaPair,
        /// Address of the first.
        address: SocketAddr,
    },
    /// Close them, whether they exist or not.
    CloseMedia {
        /// Which.
        pair: MediaPair,
    },
    /// Keep this.
    Keep(&'a Change),
    /// Log this.
    Event(&'a Event),
}

/// [`Output`] as it waits in the queue: bytes as a range of the arena.
#[derive(Clone, Debug)]
enum Queued {
    Datagram {
        flow: Flow,
        range: (u32, u32),
    },
    StreamBytes {
        connection: ConnectionId,
        range: (u32, u32),
    },
    OpenStream {
        connection: ConnectionId,
        remote: SocketAddr,
    },
    CloseStream {
        connection: ConnectionId,
    },
    StreamTrusted {
        connection: ConnectionId,
    },
    Banned {
        source: Source,
    },
    Ask {
        socket: SocketId,
        over: Over,
        server: SocketAddr,
        range: (u32, u32),
    },
    CloseQuery {
        socket: SocketId,
    },
    OpenMedia {
        pair: MediaPair,
        address: SocketAddr,
    },
    CloseMedia {
        pair: MediaPair,
    },
    Keep(Change),
    Event(Event),
}

/// The queue of outputs between two batches.
#[derive(Clone, Debug, Default)]
pub struct Outputs {
    arena: Vec<u8>,
    queue: Vec<Queued>,
    dropped: u64,
    /// The log is told of this batch's already.
    is_told: bool,
}

impl Outputs {
    /// All outputs in the order in which they were made.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Output<'_>> {
        self.queue.iter().map(|queued| match queued {
            Queued::Datagram { flow, range } => Output::Datagram {
                flow: *flow,
                bytes: self.bytes(*range),
            },
            Queued::StreamBytes { connection, range } => Output::StreamBytes {
                connection: *connection,
                bytes: self.bytes(*range),
            },
            Queued::OpenStream { connection, remote } => Output::OpenStream {
                connection: *connection,
                remote: *remote,
            },
            Queued::CloseStream { connection } => Output::CloseStream {
                connection: *connection,
            },
            Queued::StreamTrusted { connection } => Output::StreamTrusted {
                connection: *connection,
            },
            Queued::Banned { source } => Output::Banned { source: *source },
            Queued::Ask {
                socket,
                over,
                server,
                range,
            } => Output::Ask {
                socket: *socket,
                over: *over,
                server: *server,
                bytes: self.bytes(*range),
            },
            Queued::CloseQuery { socket } => Output::CloseQuery { socket: *socket },
            Queued::OpenMedia { pair, address } => Output::OpenMedia {
                pair: *pair,
                address: *address,
            },
            Queued::CloseMedia { pair } => Output::CloseMedia { pair: *pair },
            Queued::Keep(change) => Output::Keep(change),
            Queued::Event(event) => Output::Event(event),
        })
    }

    /// Forgets all; the memory stays for the next batch.
    pub fn clear(&mut self) {
        self.is_told = false;
        self.arena.clear();
        self.queue.clear();
    }

    /// The same; what is to be kept is handed over instead.
    pub fn clear_keeping(&mut self, mut keep: impl FnMut(Change)) {
        self.is_told = false;
        self.arena.clear();
        for queued in self.queue.drain(..) {
            if let Queued::Keep(change) = queued {
                keep(change);
            }
        }
    }

    /// Messages that did not fit since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes written to a connection.
    pub fn stream(&mut self, connection: ConnectionId, bytes: &[u8]) {
        if let Some(range) = self.push_bytes(bytes) {
            self.queue.push(Queued::StreamBytes { connection, range });
        }
    }

    /// Opens a connection.
    pub fn open_stream(&mut self, connection: ConnectionId, remote: SocketAddr) {
        self.queue.push(Queued::OpenStream { connection, remote });
    }

    /// Closes a connection.
    pub fn close_stream(&mut self, connection: ConnectionId) {
        self.queue.push(Queued::CloseStream { connection });
    }

    /// Lifts a connection out of the strangers' bounds.
    pub fn trust_stream(&mut self, connection: ConnectionId) {
        self.queue.push(Queued::StreamTrusted { connection });
    }

    /// Says that a source is banned from now on.
    pub fn banned(&mut self, source: Source) {
        self.queue.push(Queued::Banned { source });
    }

    /// A query to a name server. One that does not fit is as one that was lost.
    pub fn ask(&mut self, socket: SocketId, over: Over, server: SocketAddr, bytes: &[u8]) {
        if let Some(range) = self.push_bytes(bytes) {
            self.queue.push(Queued::Ask {
                socket,
                over,
                server,
                range,
            });
        }
    }

    /// Closes the socket of a query.
    pub fn close_query(&mut self, socket: SocketId) {
        self.queue.push(Queued::CloseQuery { socket });
    }

    /// Opens the sockets of a pair of ports.
    pub fn open_media(&mut self, pair: MediaPair, address: SocketAddr) {
        self.queue.push(Queued::OpenMedia { pair, address });
    }

    /// Closes them.
    pub fn close_media(&mut self, pair: MediaPair) {
        self.queue.push(Queued::CloseMedia { pair });
    }

    /// Something to keep over restarts.
    pub fn keep(&mut self, change: Change) {
        self.queue.push(Queued::Keep(change));
    }

    /// Something to log.
    pub fn event(&mut self, event: Event) {
        self.queue.push(Queued::Event(event));
    }

    fn push_bytes(&mut self, bytes: &[u8]) -> Option<(u32, u32)> {
        let start = self.arena.len();
        if start + bytes.len() > OUTPUT_ARENA_BYTES {
            self.dropped += 1;
            if !std::mem::replace(&mut self.is_told, true) {
                self.event(Event {
                    level: log::Level::Debug,
                    name: "outputs_dropped",
                    source: None,
                    fields: vec![("since_start", self.dropped.to_string())].into(),
                });
            }
            return None;
        }
        self.arena.extend_from_slice(bytes);
        Some((start as u32, self.arena.len() as u32))
    }

    fn bytes(&self, (start, end): (u32, u32)) -> &[u8] {
        &self.arena[start as usize..end as usize]
    }
}

impl Sink for Outputs {
    fn send(&mut self, flow: &Flow, bytes: &[u8]) {
        match flow.connection {
            Some(connection) => self.stream(connection, bytes),
            None => {
                if let Some(range) = self.push_bytes(bytes) {
                    self.queue.push(Queued::Datagram { flow: *flow, range });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Transport;

    fn flow() -> Flow {
        let address = "127.0.0.1:5060".parse().unwrap();
        Flow {
            transport: Transport::Udp,
            local: address,
            remote: address,
            connection: None,
        }
    }

    #[test]
    fn outputs_come_in_order_and_outlive_their_makers() {
        let mut outputs = Outputs::default();
        for text in [&b"one"[..], b"two"] {
            outputs.send(&flow(), text);
        }
        outputs.close_stream(ConnectionId(2));
        let seen: Vec<_> = outputs
            .iter()
            .map(|output| match output {
                Output::Datagram { bytes, .. } => String::from_utf8_lossy(bytes).into_owned(),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(
            seen,
            ["one", "two", "CloseStream { connection: ConnectionId(2) }"]
        );
        outputs.clear();
        assert_eq!(outputs.iter().len(), 0);
    }

    #[test]
    fn a_full_arena_drops_and_counts() {
        let mut outputs = Outputs::default();
        let message = vec![0; 60_000];
        for _ in 0..20 {
            outputs.send(&flow(), &message);
        }
        let sent = |outputs: &Outputs| {
            let is_sent = |output: &Output<'_>| matches!(output, Output::Datagram { .. });
            outputs.iter().filter(is_sent).count()
        };
        let told = |outputs: &Outputs| {
            let events = outputs.iter().filter_map(|output| match output {
                Output::Event(event) => Some((event.name, event.fields()[0].1.to_string())),
                _ => None,
            });
            events.collect::<Vec<_>>()
        };
        assert_eq!(sent(&outputs), OUTPUT_ARENA_BYTES / message.len());
        let dropped = 20 - sent(&outputs) as u64;
        assert_eq!(outputs.dropped(), dropped);
        // Once for each batch.
        assert_eq!(told(&outputs), [("outputs_dropped", "1".to_owned())]);
        outputs.clear();
        for _ in 0..20 {
            outputs.send(&flow(), &message);
        }
        let expected = ("outputs_dropped", (dropped + 1).to_string());
        assert_eq!(told(&outputs), [expected]);
    }
}
