//! Client transactions and their connection: a list for each, and what becomes of them when it is gone (RFC 3261 §18.4): they
//! go on over another one to the same peer, or over UDP, or they fail.

use super::*;

impl<O: Copy> Clients<O> {
    pub fn connection_closed(&mut self, shared: &mut Shared, connection: ConnectionId) {
        let mut following = self.connections.remove(&connection);
        while let Some(index) = following {
            following = self.take_out(index);
            self.fail(shared, index);
        }
    }

    /// Whether there are some on this connection that began there and have no final response.
    pub fn waits_on(&self, connection: ConnectionId) -> bool {
        let at = |index: u32| self.slots.get(index as usize);
        let first = self
            .connections
            .get(&connection)
            .and_then(|&index| at(index));
        std::iter::successors(first, |client| client.next.and_then(at))
            .any(|client| !client.lingers && !client.is_moved)
    }

    /// Those of a closed connection go on over `flow`.
    pub fn reconnected(
        &mut self,
        shared: &mut Shared,
        connection: ConnectionId,
        flow: &Flow,
        out: &mut impl Sink,
    ) {
        let mut following = self.connections.remove(&connection);
        while let Some(index) = following {
            following = self.take_out(index);
            match (self.slots.get_mut(index as usize), flow.connection) {
                (Some(client), Some(connection)) if !client.is_moved => {
                    client.is_moved = true;
                    client.flow = Some(*flow);
                    client.send_unanswered(flow, out);
                    self.link(connection, index);
                }
                _ => self.fail(shared, index),
            }
        }
    }

    pub fn redirect(&mut self, id: ClientId, flow: &Flow, out: &mut impl Sink) {
        let Some(client) = self.get(id).filter(|client| !client.lingers) else {
            return;
        };
        let Some(own) = client.flow.filter(|own| own.transport == flow.transport) else {
            return;
        };
        let (previous, next) = (client.previous.take(), client.next.take());
        client.flow = Some(*flow);
        if flow.transport.is_reliable() && own != *flow {
            client.send_unanswered(flow, out);
        }
        if let Some(connection) = own.connection {
            self.unlink(connection, previous, next);
        }
        if let Some(connection) = flow.connection {
            self.link(connection, id.index);
        }
    }

    /// Takes a slot off the list of its connection, which is gone; the one behind it.
    fn take_out(&mut self, index: u32) -> Option<u32> {
        let client = self.slots.get_mut(index as usize)?;
        client.previous = None;
        // Freeing it must not look for the connection.
        client.flow = client.flow.map(|flow| Flow {
            connection: None,
            ..flow
        });
        client.next.take()
    }

    pub fn or_else(&mut self, id: ClientId, flow: &Flow, bytes: &[u8]) {
        if let Some(client) = self.get(id) {
            client.other = Some(Box::new((*flow, bytes.to_vec())));
        }
    }

    /// Begins those anew whose connection is gone and who have another flow.
    pub fn try_others(&mut self, shared: &mut Shared, now: Instant, out: &mut impl Sink) {
        for id in std::mem::take(&mut self.others) {
            let Some(client) = self.get(id) else { continue };
            let Some((flow, bytes)) = client.other.take().map(|other| *other) else {
                continue;
            };
            client.clocks.stop(&mut shared.timers);
            shared.give_buffer(std::mem::take(&mut client.bytes));
            client.begin(shared, now, id, flow, bytes);
            out.send(&flow, &client.bytes);
        }
    }

    /// Its connection is gone, and it with it, unless it has another flow.
    fn fail(&mut self, shared: &mut Shared, index: u32) {
        let Some(client) = self.slots.get(index as usize) else {
            return;
        };
        let id = ClientId {
            index,
            serial: client.serial,
        };
        if client.other.is_some() && client.is_unanswered() {
            self.others.push(id);
            return;
        }
        // No timer is armed by it, so the time does not matter.
        let now = Instant::default();
        let outcome = self.run(shared, now, id, Event::TransportError, None, &mut Nowhere);
        if let Some((_, id, owner)) = outcome.report {
            self.failed.push_back((id, owner));
        }
    }

    /// Puts a slot at the head of its connection's list.
    pub(super) fn link(&mut self, connection: ConnectionId, index: u32) {
        let next = self.connections.insert(connection, index);
        if let Some(next) = next.and_then(|next| self.slots.get_mut(next as usize)) {
            next.previous = Some(index);
        }
        if let Some(client) = self.slots.get_mut(index as usize) {
            client.next = next;
        }
    }

    pub(super) fn unlink(
        &mut self,
        connection: ConnectionId,
        previous: Option<u32>,
        next: Option<u32>,
    ) {
        match previous.and_then(|previous| self.slots.get_mut(previous as usize)) {
            Some(client) => client.next = next,
            None => match next {
                Some(next) => {
                    self.connections.insert(connection, next);
                }
                None => {
                    self.connections.remove(&connection);
                }
            },
        }
        if let Some(client) = next.and_then(|next| self.slots.get_mut(next as usize)) {
            client.previous = previous;
        }
    }
}

impl<O: Copy> Client<O> {
    /// It has sent its request and had no response.
    fn is_unanswered(&self) -> bool {
        let calling = Machine::Invite(invite_client::State::Calling);
        let trying = Machine::Other(non_invite_client::State::Trying);
        self.machine == calling || self.machine == trying
    }

    /// Sends what has had no response: the request, a CANCEL.
    fn send_unanswered(&self, flow: &Flow, out: &mut impl Sink) {
        if self.is_unanswered() {
            out.send(flow, &self.bytes);
        }
        if let Some(cancel) = &self.cancel
            && cancel.state == Some(non_invite_client::State::Trying)
        {
            out.send(flow, &cancel.bytes);
        }
    }
}

/// A lost connection takes nothing.
struct Nowhere;

impl Sink for Nowhere {
    fn send(&mut self, _flow: &Flow, _bytes: &[u8]) {}
}
