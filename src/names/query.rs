//! One question, asked from server to server until it is answered, and what makes an answer one (RFC 5452 §9).
//!
//! ```text
//!            ┌── timeout, unreachable, an excuse: the next server, as often as resolv.conf says ──┐
//!            ▼                                                                                     │
//!  ask ──▶ by UDP ── cut off, letters in another case, too many wrong answers ──▶ by TCP ──────────┤
//!            │                                                                      │              ▼
//!            └───────────────── the answer ◀────────────────────────────────────────┘        Failed
//! ```
//!
//! Each try has an id, a mixture of cases (draft-vixie-dnsext-dns0x20) and a socket of its own, whose port the kernel draws.
//! What does not come from the asked server, with this id and this question to the letter, is as if it had not come.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::cache::Question;
use super::system::Servers;
use super::wire::{self, Authority, Head, Likeness, NAME_ERROR, NO_ERROR, Record};
use crate::limits::{NAME_QUERIES_MAX, NAME_STALE_AFTER, NAME_WRONG_ANSWERS_MAX};
use crate::source::{Over, SocketId};
use crate::time::Instant;
use crate::token::Tokens;

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Open a socket, send these bytes to the server, hand over what comes until it is closed. If that cannot be:
    /// [`super::Resolver::unreachable`].
    Ask {
        /// Its name from now on.
        socket: SocketId,
        /// How.
        over: Over,
        /// Whom.
        server: SocketAddr,
        /// The message.
        bytes: Vec<u8>,
    },
    /// It is not needed any more, whether it exists or not.
    Close {
        /// Which.
        socket: SocketId,
    },
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Somebody answered.
    Answer {
        /// Of the answer section.
        records: Vec<Record>,
        /// Who says that there is nothing.
        authority: Option<Authority>,
        /// There is no such name.
        is_name_error: bool,
    },
    /// Nobody did.
    Failed,
}

#[derive(Clone)]
struct Query {
    question: Question,
    /// Index of the server that was asked first.
    first: usize,
    /// Tries before this one.
    tries: usize,
    started: Instant,
    /// An answer whose time is over is used by now.
    is_late: bool,
    /// Of this try.
    socket: SocketId,
    over: Over,
    server: SocketAddr,
    sent: Vec<u8>,
    wrong: u32,
    deadline: Instant,
}

/// All questions that are being asked.
#[derive(Clone)]
pub(super) struct Queries {
    servers: Servers,
    tokens: Tokens,
    running: Vec<Query>,
    orders: VecDeque<Order>,
    /// Index of the server that is asked first: the one that answered last, or with `rotate` the next in turn.
    preferred: usize,
    sockets: u64,
}

impl Queries {
    pub(super) fn new(seed: &[u8; 32], servers: Servers) -> Self {
        Self {
            servers: servers.or_this_host(),
            tokens: Tokens::new(seed, "name queries"),
            running: Vec::new(),
            orders: VecDeque::new(),
            preferred: 0,
            sockets: 0,
        }
    }

    /// Asks these from now on; whether they are others.
    pub(super) fn set_servers(&mut self, servers: Servers) -> bool {
        let servers = servers.or_this_host();
        let others = self.servers != servers;
        if others {
            self.servers = servers;
            self.preferred = 0;
        }
        others
    }

    /// Asks, unless this is being asked or too many are: when one of them ends, it may be said again.
    pub(super) fn ask(&mut self, now: Instant, question: &Question) {
        let is_asked = self.running.iter().any(|query| query.question == *question);
        if is_asked || self.running.len() >= NAME_QUERIES_MAX {
            return;
        }
        let first = self.preferred;
        if self.servers.rotate {
            self.preferred = self.preferred.wrapping_add(1);
        }
        let over = self.first_over();
        if let Some(query) = self.try_server(now, question, first, 0, over) {
            self.running.push(query);
        }
    }

    fn first_over(&self) -> Over {
        match self.servers.tcp_only {
            true => Over::Tcp,
            false => Over::Udp,
        }
    }

    /// A fresh id, mixture of cases and socket. `None` only if there are no servers, which does not happen.
    fn try_server(
        &mut self,
        now: Instant,
        question: &Question,
        first: usize,
        tries: usize,
        over: Over,
    ) -> Option<Query> {
        let index = first
            .wrapping_add(tries)
            .checked_rem(self.servers.servers.len())?;
        let server = *self.servers.servers.get(index)?;
        let id = self.tokens.next_u64() as u16;
        let mut case = 0;
        let labels: Vec<u8> = (question.name.wire().iter().enumerate())
            .map(|(at, &byte)| {
                if at.is_multiple_of(64) {
                    case = self.tokens.next_u64();
                }
                // Lengths, at most 63, are no letters.
                let upper = byte.is_ascii_lowercase() && case >> (at & 63) & 1 == 1;
                if upper {
                    byte.to_ascii_uppercase()
                } else {
                    byte
                }
            })
            .collect();
        self.sockets = self.sockets.wrapping_add(1);
        let socket = SocketId(self.sockets);
        let bytes = wire::compose(id, &labels, question.kind);
        self.orders.push_back(Order::Ask {
            socket,
            over,
            server,
            bytes: bytes.clone(),
        });
        Some(Query {
            question: question.clone(),
            first,
            tries,
            started: now,
            is_late: false,
            socket,
            over,
            server,
            sent: bytes,
            wrong: 0,
            deadline: now.plus(self.servers.timeout),
        })
    }

    /// What came on a socket; the question, if that ends it.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        socket: SocketId,
        from: SocketAddr,
        bytes: &[u8],
    ) -> Option<(Question, Reply)> {
        let index = self.position(socket)?;
        let query = self.running.get_mut(index)?;
        let is_server =
            (from.ip().to_canonical(), from.port()) == (query.server.ip(), query.server.port());
        let (likeness, head) = match is_server {
            true => wire::head(bytes, &query.sent),
            false => (Likeness::Foreign, None),
        };
        match (likeness, query.over, head) {
            (Likeness::Foreign, Over::Udp, _) | (_, Over::Udp, None) => {
                query.wrong = query.wrong.saturating_add(1);
                if query.wrong >= NAME_WRONG_ANSWERS_MAX {
                    self.again_by_tcp(now, index);
                }
                None
            }
            (Likeness::OtherCase, Over::Udp, _) => {
                self.again_by_tcp(now, index);
                None
            }
            (Likeness::Same, Over::Udp, Some(head)) if head.is_truncated => {
                self.again_by_tcp(now, index);
                None
            }
            (Likeness::Foreign, Over::Tcp, _) | (_, Over::Tcp, None) => self.next(now, index),
            (Likeness::Same, _, Some(head)) | (Likeness::OtherCase, Over::Tcp, Some(head)) => {
                match reply(head) {
                    Some(reply) => self.answered(index, reply),
                    None => self.next(now, index),
                }
            }
        }
    }

    /// The server cannot be reached, closed the connection, or there is no socket; the question, if that ends it.
    pub(super) fn unreachable(
        &mut self,
        now: Instant,
        socket: SocketId,
    ) -> Option<(Question, Reply)> {
        let index = self.position(socket)?;
        self.next(now, index)
    }

    /// One whose time is over, if that ends it. To be called until there is none that [`Queries::is_due`].
    pub(super) fn expire(&mut self, now: Instant) -> Option<(Question, Reply)> {
        let index = (self.running.iter()).position(|query| query.deadline <= now)?;
        self.next(now, index)
    }

    /// Whether some try has taken its time.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.running.iter().any(|query| query.deadline <= now)
    }

    /// Notes which have kept their askers waiting for too long; whether there are more of them.
    pub(super) fn note_late(&mut self, now: Instant) -> bool {
        let late = |query: &&mut Query| !query.is_late && query.late_at() <= now;
        let mut any = false;
        for query in self.running.iter_mut().filter(late) {
            query.is_late = true;
            any = true;
        }
        any
    }

    /// Whether an answer whose time is over may be used now.
    pub(super) fn is_late(&self, question: &Question) -> bool {
        let query = self
            .running
            .iter()
            .find(|query| query.question == *question);
        query.is_some_and(|query| query.is_late)
    }

    /// When [`Queries::expire`] or [`Queries::note_late`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.running.iter().map(|query| match query.is_late {
            true => query.deadline,
            false => query.deadline.min(query.late_at()),
        });
        deadlines.min()
    }

    /// What the shell is to do next.
    pub(super) fn next_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// How many are being asked.
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    fn position(&self, socket: SocketId) -> Option<usize> {
        self.running.iter().position(|query| query.socket == socket)
    }

    /// The same server, where nobody else can answer.
    fn again_by_tcp(&mut self, now: Instant, index: usize) {
        if let Some(query) = self.running.get(index) {
            self.go_on(now, index, query.tries, Over::Tcp);
        }
    }

    /// The next server; the question, if each was asked as often as may be.
    fn next(&mut self, now: Instant, index: usize) -> Option<(Question, Reply)> {
        let tries = self.running.get(index)?.tries.saturating_add(1);
        let count = self.servers.servers.len();
        if tries >= count.saturating_mul(self.servers.attempts) {
            return self.end(index, Reply::Failed);
        }
        self.go_on(now, index, tries, self.first_over());
        None
    }

    fn go_on(&mut self, now: Instant, index: usize, tries: usize, over: Over) {
        let Some(query) = self.running.get(index) else {
            return;
        };
        let (question, first) = (query.question.clone(), query.first);
        let (started, is_late) = (query.started, query.is_late);
        self.orders.push_back(Order::Close {
            socket: query.socket,
        });
        let next = self.try_server(now, &question, first, tries, over);
        if let (Some(next), Some(query)) = (next, self.running.get_mut(index)) {
            *query = Query {
                started,
                is_late,
                ..next
            };
        }
    }

    fn answered(&mut self, index: usize, reply: Reply) -> Option<(Question, Reply)> {
        if let Some(query) = self.running.get(index)
            && !self.servers.rotate
            && let Some(server) = (self.servers.servers.iter()).position(|at| *at == query.server)
        {
            self.preferred = server;
        }
        self.end(index, reply)
    }

    fn end(&mut self, index: usize, reply: Reply) -> Option<(Question, Reply)> {
        if index >= self.running.len() {
            return None;
        }
        let query = self.running.swap_remove(index);
        self.orders.push_back(Order::Close {
            socket: query.socket,
        });
        Some((query.question, reply))
    }
}

impl Query {
    fn late_at(&self) -> Instant {
        self.started.plus(NAME_STALE_AFTER)
    }
}

/// The answer; `None` for an excuse, for what is malformed, and for what was cut off.
fn reply(head: Head<'_>) -> Option<Reply> {
    let is_answer = matches!(head.response_code, NO_ERROR | NAME_ERROR) && !head.is_truncated;
    let (records, authority) = is_answer.then(|| head.records()).flatten()?;
    Some(Reply::Answer {
        records,
        authority,
        is_name_error: head.response_code == NAME_ERROR,
    })
}
