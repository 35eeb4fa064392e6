//! The table of all transactions: RFC 3261 §17 for the layers above.
//!
//! Everything is bounded. Live transactions are at most `live_max`, beyond it there is `None`; completed server
//! transactions at most `completed_max`, and client transactions whose final response has come at most `live_max`
//! again: of these the oldest go. It keeps its own copy of the bytes that it may have to send again.

use super::branch::Branch;
use super::client::{ClientId, Clients, Refused};
use super::effects::Report;
use super::key::{Keys, ServerKey};
use super::server::{Received, ServerId, Servers};
use super::shared::{Shared, Side};
use crate::limits::RESPONSE_BYTES_PER_TRANSACTION;
use crate::message::{Message, Method};
use crate::source::{ConnectionId, Flow, Sink};
use crate::time::Instant;
use crate::token::Tokens;

/// What came to an end without the owner having done anything. The handle in it is dead already, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired<O> {
    /// No final response: 64·T1 after the request (Timers B, F), or after the CANCEL of an INVITE (RFC 3261 §9.1).
    /// To be treated as a 408 (§8.1.3.1).
    Timeout {
        /// Which.
        id: ClientId,
        /// Whose.
        owner: O,
    },
    /// The connection is gone. To be treated as a 503 (§8.1.3.1).
    TransportFailed {
        /// Which.
        id: ClientId,
        /// Whose.
        owner: O,
    },
    /// No ACK for a 2xx within 64·T1: the dialog stands, and its session is to be ended with BYE (§13.3.1.4).
    NotAcknowledged {
        /// Which.
        id: ServerId,
        /// Whose.
        owner: O,
    },
    /// No PRACK for a reliable provisional response within 64·T1: the INVITE is to be rejected with 5xx (RFC 3262 §3).
    /// The handle of its transaction lives.
    ProvisionalNotAcknowledged {
        /// Which.
        id: ServerId,
        /// Whose.
        owner: O,
    },
}

impl<O: Copy> Expired<O> {
    /// Whose it was.
    pub fn owner(self) -> O {
        match self {
            Self::Timeout { owner, .. }
            | Self::TransportFailed { owner, .. }
            | Self::NotAcknowledged { owner, .. }
            | Self::ProvisionalNotAcknowledged { owner, .. } => owner,
        }
    }

    /// The same for an owner who is known by another name among his own.
    pub fn of<P>(self, owner: P) -> Expired<P> {
        match self {
            Self::Timeout { id, .. } => Expired::Timeout { id, owner },
            Self::TransportFailed { id, .. } => Expired::TransportFailed { id, owner },
            Self::NotAcknowledged { id, .. } => Expired::NotAcknowledged { id, owner },
            Self::ProvisionalNotAcknowledged { id, .. } => {
                Expired::ProvisionalNotAcknowledged { id, owner }
            }
        }
    }
}

/// All transactions. `O` is what the owner of one wants to be told by.
///
/// Handles carry a serial: whatever is done with the handle of a transaction that has ended does nothing.
#[derive(Clone)]
pub struct Transactions<O> {
    pub(super) clients: Clients<O>,
    pub(super) servers: Servers<O>,
    keys: Keys,
    pub(super) shared: Shared,
    live_max: usize,
}

impl<O: Copy> Transactions<O> {
    /// An empty table: at most `live_max` live transactions of both sides together, at most `completed_max` completed
    /// server transactions (and [`crate::limits::COMPLETED_BYTES_MAX`] of their responses). Memory comes as it is needed.
    pub fn new(seed: &[u8; 32], live_max: usize, completed_max: usize) -> Self {
        let mut tokens = Tokens::new(seed, "transaction");
        let keys = Keys::new(&mut tokens);
        let live_max = live_max.min(u32::MAX as usize / 4);
        Self {
            clients: Clients::new(tokens, keys.state(), live_max),
            servers: Servers::new(&keys, completed_max),
            keys,
            shared: Shared::new(),
            live_max,
        }
    }

    /// Other bounds, as [`Transactions::new`] takes them. What is there already stays: it goes as it ends.
    pub fn set_limits(&mut self, live_max: usize, completed_max: usize) {
        self.live_max = live_max.min(u32::MAX as usize / 4);
        self.clients.lingering_max = self.live_max;
        self.servers.completed.entries_max = completed_max;
    }

    /// RFC 3261 §17.2.3: branch, sent-by and method, an ACK counting as INVITE. Without the magic cookie, what RFC 2543
    /// compared. The flow is no part of it: a retransmission may come another way.
    pub fn key(&self, request: &Message<'_>) -> ServerKey {
        self.keys.server(request, request.method())
    }

    /// The key of the INVITE that a CANCEL means (§9.2).
    pub fn invite_key(&self, cancel: &Message<'_>) -> ServerKey {
        self.keys.server(cancel, Method::Invite)
    }

    /// Every request comes here first. [`Received::New`]: nothing known, or the ACK of a 2xx under its INVITE's branch.
    pub fn receive(
        &mut self,
        now: Instant,
        key: ServerKey,
        method: Method,
        out: &mut impl Sink,
    ) -> Received {
        self.servers
            .receive(&mut self.shared, now, key, method, out)
    }

    /// A live transaction, and the flow its responses go: for CANCEL, with [`Transactions::invite_key`]. The flow is as
    /// it was given to [`Transactions::open_server`].
    pub fn find(&self, key: ServerKey) -> Option<(ServerId, O, Flow)> {
        self.servers.find(key)
    }

    /// RFC 3261 §8.2.2.2: no To tag, and From tag, Call-ID and CSeq of a live transaction of another branch: it has
    /// come here twice on different ways, and this one, whose key is `key`, gets 482.
    pub fn is_merged(&self, request: &Message<'_>, key: ServerKey) -> bool {
        request.to().tag().is_none() && self.servers.is_merged(self.keys.merge(request), key)
    }

    /// A new server transaction. `flow`: where its responses go. `None`: full (of transactions, or of the responses that
    /// they keep, [`crate::limits::RESPONSE_BYTES_PER_TRANSACTION`]), or there is one of this key already.
    ///
    /// Whoever opens it must answer it: RFC 3261 knows no timer for a request without a final response, so the time
    /// is of no use here yet.
    pub fn open_server(
        &mut self,
        _now: Instant,
        key: ServerKey,
        request: &Message<'_>,
        flow: &Flow,
        owner: impl Into<O>,
    ) -> Option<ServerId> {
        let held_max = (self.live_max).saturating_mul(RESPONSE_BYTES_PER_TRANSACTION);
        if self.live() >= self.live_max || self.servers.held_bytes() >= held_max {
            return None;
        }
        let merge = self.keys.merge(request);
        self.servers
            .open(&mut self.shared, key, merge, request, flow, owner.into())
    }

    /// Sends a response and keeps it for retransmission: a provisional one for when the request comes again, a final
    /// one as RFC 3261 §17.2 says. An INVITE's 2xx is sent again after T1, 2·T1 … T2 until [`Transactions::acknowledge`],
    /// or for 64·T1, and then [`Expired::NotAcknowledged`]. After a final response only a 2xx to INVITE may follow
    /// another; everything else is dropped.
    pub fn respond(
        &mut self,
        now: Instant,
        id: ServerId,
        status: u16,
        bytes: &[u8],
        out: &mut impl Sink,
    ) {
        self.servers
            .respond(&mut self.shared, now, id, status, bytes, out);
    }

    /// An INVITE whose final response must be acknowledged, or [`Transactions::next_unheard`] says that it was not: `user` is
    /// whatever the caller likes. Without effect when the INVITE has no transaction.
    pub fn watch(&mut self, key: ServerKey, user: u32) {
        self.servers.watch(key, user);
    }

    /// The answer to a watched INVITE was heard, be it that no ACK comes.
    pub fn is_heard(&mut self, id: ServerId) {
        self.servers.is_heard(id);
    }

    /// Whose INVITE, of those watched, no ACK came for within 64·T1, whatever the final response was (Timer H, §13.3.1.4):
    /// after [`Transactions::expire`], until `None`.
    pub fn next_unheard(&mut self) -> Option<u32> {
        self.servers.next_unheard()
    }

    /// Nothing is watched any more: users have other numbers. O(live).
    pub fn watch_none(&mut self) {
        self.servers.watch_none();
    }

    /// Sends a reliable provisional response to an INVITE (RFC 3262 §3), and sends it again after T1, 2·T1, 4·T1 … until
    /// [`Transactions::acknowledge_provisional`] or a final response; after 64·T1, [`Expired::ProvisionalNotAcknowledged`].
    /// Only one at a time: it takes the place of one that is not acknowledged.
    pub fn respond_reliably(
        &mut self,
        now: Instant,
        id: ServerId,
        status: u16,
        bytes: &[u8],
        out: &mut impl Sink,
    ) {
        self.servers
            .respond_reliably(&mut self.shared, now, id, status, bytes, out);
    }

    /// The PRACK for the reliable provisional response has come.
    pub fn acknowledge_provisional(&mut self, now: Instant, id: ServerId) {
        self.servers
            .acknowledge_provisional(&mut self.shared, now, id);
    }

    /// The ACK for an INVITE's 2xx has come. The handle is dead afterwards.
    pub fn acknowledge(&mut self, id: ServerId) {
        self.servers.acknowledge(&mut self.shared, id);
    }

    /// A request other than INVITE that is answered at once, without a live transaction: sends the final response, and
    /// keeps it for 64·T1 (Timer J) on an unreliable transport.
    pub fn complete(
        &mut self,
        now: Instant,
        key: ServerKey,
        flow: &Flow,
        bytes: &[u8],
        out: &mut impl Sink,
    ) {
        self.servers.complete(now, key, flow, bytes, out);
    }

    /// Another owner from now on.
    pub fn set_server_owner(&mut self, id: ServerId, owner: impl Into<O>) {
        self.servers.set_owner(id, owner.into());
    }

    /// Where a live server transaction's responses go.
    pub fn flow(&self, id: ServerId) -> Option<Flow> {
        self.servers.flow(id)
    }

    /// They go another way from now on, retransmissions too: the peer has another address, or its connection is gone
    /// (RFC 3261 §18.2.2). The transport stays.
    pub fn redirect(&mut self, id: ServerId, flow: &Flow) {
        self.servers.redirect(id, flow);
    }

    /// The same for a request that waits for its final response, and for its CANCEL. What has had no response is sent again
    /// there at once over a connection, by its timer over UDP.
    pub fn redirect_request(&mut self, id: ClientId, flow: &Flow, out: &mut impl Sink) {
        self.clients.redirect(id, flow, out);
    }

    /// A place for a request, and the branch to compose it with. `None`: full. It must be sent or released.
    pub fn reserve(&mut self) -> Option<(ClientId, Branch)> {
        if self.live() >= self.live_max {
            return None;
        }
        Some(self.clients.reserve(&mut self.shared))
    }

    /// Sends the request that was reserved. Any method but ACK: that of a 2xx is no transaction, the others are sent here.
    #[allow(clippy::too_many_arguments)]
    pub fn send(
        &mut self,
        now: Instant,
        id: ClientId,
        method: Method,
        flow: &Flow,
        bytes: &[u8],
        owner: impl Into<O>,
        out: &mut impl Sink,
    ) {
        let owner = owner.into();
        self.clients
            .send(&mut self.shared, now, id, method, flow, bytes, owner, out);
    }

    /// Of a request that was sent over a connection: if that is gone before any response has come, the request goes in
    /// these bytes over this flow, a UDP one (RFC 3261 §18.1.1).
    pub fn or_else(&mut self, id: ClientId, flow: &Flow, bytes: &[u8]) {
        self.clients.or_else(id, flow, bytes);
    }

    /// Reserved, but not sent.
    pub fn release(&mut self, id: ClientId) {
        self.clients.release(&mut self.shared, id);
    }

    /// A response. `Some` if its owner is to see it: every provisional one, the first final one, every 2xx to INVITE
    /// (further branches, RFC 6026 §7.2). The ACK to a failure is sent here (RFC 3261 §17.1.1.3). A response of no
    /// transaction, a retransmitted one or one to a CANCEL: `None`.
    pub fn receive_response(
        &mut self,
        now: Instant,
        response: &Message<'_>,
        out: &mut impl Sink,
    ) -> Option<(ClientId, O)> {
        self.clients
            .receive_response(&mut self.shared, now, response, out)
    }

    /// The request that was refused with the challenge (401, 407) which [`Transactions::receive_response`] has just
    /// delivered. Once.
    pub fn take_refused(&mut self, id: ClientId) -> Option<Refused> {
        self.clients.take_refused(id)
    }

    /// A request was sent that answers a challenge: so many came before it.
    pub fn count_tries(&mut self, id: ClientId, tries: u8) {
        self.clients.count_tries(id, tries);
    }

    /// Whether a branch is that of a request of ours which is not forgotten.
    pub fn is_own_branch(&self, branch: &[u8]) -> bool {
        self.clients.is_own_branch(branch)
    }

    /// RFC 3261 §9.1: CANCELs an INVITE now, or as soon as its first provisional response comes. The answer to the CANCEL
    /// is absorbed; the INVITE's final response comes to the owner as ever, a 2xx that crossed too. 64·T1 after the
    /// CANCEL without one: [`Expired::Timeout`]. `reason`: value of a Reason header (RFC 3326), or empty. Without effect
    /// once there is a final response.
    pub fn cancel(&mut self, now: Instant, id: ClientId, reason: &[u8], out: &mut impl Sink) {
        self.clients.cancel(&mut self.shared, now, id, reason, out);
    }

    /// The owner no longer wants to hear of it; it runs on for the RFC's timers. An INVITE that still rings is given up
    /// after 64·T1, so cancel it first.
    pub fn disown(&mut self, id: ClientId) {
        self.clients.disown(id);
    }

    /// It ends here and now, whatever its peer still says: not for an INVITE whose 2xx must be acknowledged.
    pub fn forget(&mut self, id: ClientId) {
        self.clients.forget(&mut self.shared, id);
    }

    /// Whether client transactions would be lost with a connection that have not been moved to it from another one.
    pub fn waits_on(&self, connection: ConnectionId) -> bool {
        self.clients.waits_on(connection)
    }

    /// A connection is gone, and there is another one to the same peer: client transactions go on over it. What has had no
    /// response is sent again there, which the peer takes for a retransmission if he has seen it. Each is moved once, so that
    /// a peer who closes every connection has no more than two; then they fail.
    pub fn reconnected(&mut self, connection: ConnectionId, flow: &Flow, out: &mut impl Sink) {
        (self.clients).reconnected(&mut self.shared, connection, flow, out);
    }

    /// A connection is gone: client transactions on it without a final response fail, which
    /// [`Transactions::expire`] tells. Server transactions stay until they are answered, as an INVITE's does after a
    /// transport error (RFC 6026); what they send goes nowhere until [`Transactions::redirect`] says where.
    pub fn connection_closed(&mut self, connection: ConnectionId) {
        self.clients.connection_closed(&mut self.shared, connection);
    }

    /// When [`Transactions::expire`] has something to do; the origin of time, if that is at once. O(1).
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.clients.is_pending() {
            return Some(Instant::default());
        }
        let timer = self.shared.timers.next_deadline();
        let completed = self.servers.completed().next_deadline();
        timer.into_iter().chain(completed).min()
    }

    /// Does what is due: retransmits and forgets, and returns the first thing that an owner must know. To be called
    /// until `None`; then the next deadline lies after `now`.
    pub fn expire(&mut self, now: Instant, out: &mut impl Sink) -> Option<Expired<O>> {
        self.clients.limit_forgotten(&mut self.shared, now);
        self.clients.try_others(&mut self.shared, now, out);
        if let Some((id, owner)) = self.clients.next_failed() {
            return Some(Expired::TransportFailed { id, owner });
        }
        while let Some(key) = self.shared.timers.expire(now) {
            let expired = match key.side {
                Side::Client => {
                    let report = self.clients.fire(&mut self.shared, now, key, out);
                    report.map(|(report, id, owner)| match report {
                        Report::Transport => Expired::TransportFailed { id, owner },
                        Report::Timeout
                        | Report::NotAcknowledged
                        | Report::ProvisionalNotAcknowledged => Expired::Timeout { id, owner },
                    })
                }
                Side::Server => {
                    let report = self.servers.fire(&mut self.shared, now, key, out);
                    report.map(|(report, id, owner)| match report {
                        Report::ProvisionalNotAcknowledged => {
                            Expired::ProvisionalNotAcknowledged { id, owner }
                        }
                        Report::NotAcknowledged | Report::Timeout | Report::Transport => {
                            Expired::NotAcknowledged { id, owner }
                        }
                    })
                }
            };
            if expired.is_some() {
                return expired;
            }
        }
        self.servers.expire(now);
        None
    }

    /// Transactions that are in progress. A client transaction that has its final response, and a completed server
    /// transaction, no longer are.
    pub fn live(&self) -> usize {
        self.clients.live() + self.servers.live()
    }

    /// Completed server transactions whose response is kept.
    pub fn completed(&self) -> usize {
        self.servers.completed().len()
    }
}
