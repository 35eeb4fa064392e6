//! Peers that come another way, or must be reached another way: a phone that registers from elsewhere (RFC 5626 §4.4), a
//! connection that is gone (RFC 3261 §18.1.1, §18.2.2).
//!
//! A trunk can be connected to: nothing ends with its connection, and the next message opens another one. A phone cannot;
//! it comes back by itself, and its answered calls wait for it. What is too long for a datagram goes over a connection that
//! the peer has open beside.

use super::*;
use crate::location::{Binding, Location};
use crate::source::ConnectionId;

impl Calls {
    /// A phone of this user has registered another way, which made or changed these bindings: its legs go on there, those
    /// that ring too. `way`: its flow, and our address on it.
    pub fn moved(
        &mut self,
        user: UserId,
        (flow, ours): (&Flow, SocketAddr),
        bindings: &[&Binding],
        location: &Location,
        context: &mut Context<'_>,
    ) {
        for (_, call) in &mut self.slots {
            for leg_index in std::iter::once(CALLER).chain(0..call.branches.len() as u8) {
                let Some(leg) = call.leg_mut(leg_index) else {
                    continue;
                };
                let is_own = matches!(&leg.party, Party::User(own, _) if *own == user);
                let Some(phone) = leg.phone.filter(|_| is_own) else {
                    continue;
                };
                let mut all = bindings.iter();
                if let Some(binding) = all.find(|binding| location.is_at(phone, binding)) {
                    leg.phone = Some(location.phone(binding));
                    (leg.dialog.flow, leg.dialog.ours) = (*flow, ours);
                    leg.lost = None;
                    call.redirect(leg_index, flow, context);
                }
            }
        }
    }

    /// The connection of callers is gone: those who wait for an answer and cannot be connected to have gone with it. An
    /// answered call stays, since a phone makes itself a new connection.
    pub fn connection_closed(&mut self, connection: ConnectionId, context: &mut Context<'_>) {
        let gone: Vec<CallHandle> = (self.slots.iter())
            .filter(|(_, call)| {
                call.state == State::Ringing
                    && call.transfer.is_none()
                    && call.caller.home.is_none()
                    && call.caller.dialog.flow.connection == Some(connection)
            })
            .map(|(index, call)| call.handle(index as u32))
            .collect();
        for handle in gone {
            let Some(call) = self.get(handle) else {
                continue;
            };
            call.cancel_branches(b"", context);
            self.refuse(handle, 487, EndedBy::Caller, context);
            self.sweep(handle);
        }
    }

    /// Something was written to a connection that was gone already. A 2xx that waits for its ACK was, if it comes again and
    /// again there: from now on it goes over a new connection to whoever can be connected to.
    pub fn written_to_nobody(&mut self, connection: ConnectionId, context: &mut Context<'_>) {
        for (_, call) in &mut self.slots {
            for leg_index in [CALLER, call.winner] {
                let Some(leg) = call.leg(leg_index) else {
                    continue;
                };
                let Some((server, _)) = leg.unacknowledged else {
                    continue;
                };
                let flow = context.transactions.flow(server);
                if flow.and_then(|flow| flow.connection) == Some(connection) {
                    context.reopen(server, leg.home);
                }
            }
        }
    }
}

impl Call {
    /// A leg's peer is on this flow now: what he is still owed an answer to is answered there, even if the connection that it
    /// came on seems to be open, and what he has not answered goes there if it must be sent again.
    pub(super) fn redirect(&self, leg_index: u8, flow: &Flow, context: &mut Context<'_>) {
        let invite = (leg_index == CALLER).then_some(self.invite);
        let leg = self.leg(leg_index).and_then(|leg| leg.unacknowledged);
        let relays = (self.relays.iter()).filter(|relay| relay.from == leg_index);
        let servers = (invite.into_iter())
            .chain(leg.map(|(server, _)| server))
            .chain(relays.map(|relay| relay.server));
        // What still rings there must hear its CANCEL.
        let branch = self.branches.get(leg_index as usize);
        let asked = (self.relays.iter()).filter(|relay| relay.to == leg_index);
        let refresh = self.leg(leg_index).and_then(|leg| leg.watch.refresh);
        let clients = (branch.map(|branch| branch.client).into_iter())
            .chain(refresh.map(|refresh| refresh.client))
            .chain(asked.map(|relay| relay.client));
        for client in clients {
            (context.transactions).redirect_request(client, flow, context.out);
        }
        for server in servers {
            let own = context.transactions.flow(server);
            if own.is_some_and(|own| own.transport == flow.transport) {
                context.transactions.redirect(server, flow);
            }
        }
    }
}

impl Leg {
    /// To be called before anything is sent on this leg: where the dialog's connection is gone and the peer can be
    /// connected to, the dialog goes on over a new connection (RFC 3261 §18.1.1).
    pub(super) fn reconnect(&mut self, context: &mut Context<'_>) {
        if let Some(flow) = context.reopened(&self.dialog.flow, self.home) {
            self.dialog.flow = flow;
        }
    }
}

impl Leg {
    /// Sends the request that was composed into the buffer. What is too long for a datagram goes over the peer's connection,
    /// if he has one, and in a datagram all the same if that turns out to be gone (RFC 3261 §18.1.1).
    pub(super) fn send(
        &self,
        client: ClientId,
        method: Method,
        owner: Owner,
        context: &mut Context<'_>,
    ) {
        let (now, flow) = (context.now.mono, &self.dialog.flow);
        let is_long = context.buffer.len() > crate::limits::DATAGRAM_REQUEST_BYTES_MAX;
        let stream = self.stream.filter(|(stream, _)| {
            let open = stream
                .connection
                .is_some_and(|own| context.connections.is_open(own));
            open && is_long && !flow.transport.is_reliable()
        });
        let other = stream.and_then(|(stream, ours)| {
            let bytes = crate::dialog::with_via(context.buffer, &stream, ours)?;
            Some((stream, bytes))
        });
        let transactions = &mut *context.transactions;
        match other {
            None => {
                transactions.send(
                    now,
                    client,
                    method,
                    flow,
                    context.buffer,
                    owner,
                    context.out,
                );
            }
            Some((stream, bytes)) => {
                transactions.send(now, client, method, &stream, &bytes, owner, context.out);
                transactions.or_else(client, flow, context.buffer);
            }
        }
    }
}

impl Context<'_> {
    /// Sends the response that was composed into the buffer to whoever sent `request`.
    pub(super) fn respond(&mut self, server: ServerId, status: u16, request: &Answerable) {
        self.reopen(server, request.way_back);
        (self.transactions).respond(self.now.mono, server, status, self.buffer, self.out);
    }

    /// The same for a reliable provisional response (RFC 3262 §3).
    pub(super) fn respond_reliably(&mut self, server: ServerId, status: u16, request: &Answerable) {
        self.reopen(server, request.way_back);
        let (now, bytes) = (self.now.mono, &*self.buffer);
        (self.transactions).respond_reliably(now, server, status, bytes, self.out);
    }

    /// RFC 3261 §18.2.2: what a server transaction sends goes over a new connection to `home` if its own is gone.
    fn reopen(&mut self, server: ServerId, home: Option<SocketAddr>) {
        let flow = self.transactions.flow(server);
        if let Some(flow) = flow.and_then(|flow| self.reopened(&flow, home)) {
            self.transactions.redirect(server, &flow);
        }
    }

    /// Another flow in place of one whose connection is gone, to `home`.
    fn reopened(&mut self, flow: &Flow, home: Option<SocketAddr>) -> Option<Flow> {
        let remote = home?;
        if self.connections.is_open(flow.connection?) {
            return None;
        }
        let connection = (self.connections).to(self.now.mono, remote, flow.local, self.out);
        Some(Flow {
            remote,
            connection: Some(connection),
            ..*flow
        })
    }
}
