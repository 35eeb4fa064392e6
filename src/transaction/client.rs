//! The client side of the table: slots, and doing what the two client machines say.
//!
//! `connections` has what becomes of them with their connection. A slot whose final response has come and that only waits for Timer D, K or M lingers: it no longer counts as live,
//! and the one that lingers longest goes when there are too many.

mod connections;

use std::collections::{HashMap, VecDeque};

use ahash::RandomState;
use slab::Slab;

use super::branch::Branch;
use super::effects::{Effects, Life, Report, Timer};
use super::shared::{Clocks, Key, Shared, Side, index_of};
use super::{hop, invite_client, non_invite_client};
use crate::message::{Message, Method};
use crate::source::{ConnectionId, Flow, Sink};
use crate::time::Instant;
use crate::token::Tokens;

/// A client transaction. Once it has ended the handle is dead, and using it is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientId {
    index: u32,
    serial: u64,
}

impl ClientId {
    /// No transaction: a dead handle from the start.
    pub const NOBODY: Self = Self {
        index: u32::MAX,
        serial: 0,
    };
}

/// Which machine, in which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    /// It has a branch; nothing was sent.
    Reserved,
    Invite(invite_client::State),
    Other(non_invite_client::State),
}

/// An event for either machine.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A response of this status.
    Response(u16),
    TransportError,
    Timer(Timer),
}

/// The CANCEL of an INVITE: a transaction of its own, in its INVITE's slot since it has the same branch.
#[derive(Clone)]
struct Cancel {
    /// `None`: it waits for the first provisional response (§9.1), and `bytes` are the Reason.
    state: Option<non_invite_client::State>,
    bytes: Vec<u8>,
    clocks: Clocks,
}

#[derive(Clone)]
struct Client<O> {
    serial: u64,
    token: u64,
    /// `None`: nobody wants to hear of it.
    owner: Option<O>,
    flow: Option<Flow>,
    machine: Machine,
    method: Method,
    /// The request; of an INVITE in Completed the ACK.
    bytes: Vec<u8>,
    clocks: Clocks,
    cancelled: bool,
    cancel: Option<Box<Cancel>>,
    /// Whether [`Timer::CancelLimit`] runs.
    limited: bool,
    lingers: bool,
    /// The same request for another flow, should its connection be gone.
    other: Option<Box<(Flow, Vec<u8>)>>,
    /// It was on another connection before.
    is_moved: bool,
    /// How many challenges came before it.
    tries: u8,
    /// Neighbours in the list of its connection.
    previous: Option<u32>,
    next: Option<u32>,
}

/// A request of ours that was refused with a challenge (401, 407).
#[derive(Clone, Debug)]
pub struct Refused {
    /// As it was sent.
    pub bytes: Vec<u8>,
    /// Its method.
    pub method: Method,
    /// How many challenges came before this one, as [`Transactions::count_tries`](super::Transactions::count_tries) was
    /// told.
    pub tries: u8,
    /// There was a CANCEL for it, or there will be one.
    pub is_cancelled: bool,
}

/// What came of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome<O> {
    pub deliver: Option<(ClientId, O)>,
    pub report: Option<(Report, ClientId, O)>,
}

impl<O> Outcome<O> {
    const NOTHING: Self = Self {
        deliver: None,
        report: None,
    };
}

/// All client transactions.
#[derive(Clone)]
pub(super) struct Clients<O> {
    slots: Slab<Client<O>>,
    tokens: Tokens,
    /// Slots that linger, over all, and those that wait for Timer K and for D or M, the first to end first.
    lingering: usize,
    pub(super) lingering_max: usize,
    short: VecDeque<ClientId>,
    long: VecDeque<ClientId>,
    /// First slot of each connection's list.
    connections: HashMap<ConnectionId, u32, RandomState>,
    /// Transactions that failed with their connection, to be reported.
    failed: VecDeque<(ClientId, O)>,
    /// Transactions that go on over another flow, as soon as the time is known.
    others: Vec<ClientId>,
    /// INVITEs that ring and were disowned: they get a limit as soon as the time is known.
    forgotten: Vec<ClientId>,
    /// The request that was refused with a challenge last.
    refused: Option<(ClientId, Refused)>,
}

impl<O: Copy> Clients<O> {
    pub fn new(tokens: Tokens, state: RandomState, lingering_max: usize) -> Self {
        Self {
            slots: Slab::new(),
            tokens,
            lingering: 0,
            lingering_max,
            short: VecDeque::new(),
            long: VecDeque::new(),
            connections: HashMap::with_hasher(state),
            failed: VecDeque::new(),
            others: Vec::new(),
            forgotten: Vec::new(),
            refused: None,
        }
    }

    pub fn live(&self) -> usize {
        self.slots.len() - self.lingering
    }

    pub fn reserve(&mut self, shared: &mut Shared) -> (ClientId, Branch) {
        let serial = shared.next_serial();
        let token = self.tokens.next_u64();
        let client = Client {
            serial,
            token,
            owner: None,
            flow: None,
            machine: Machine::Reserved,
            method: Method::Other,
            bytes: Vec::new(),
            clocks: Clocks::NEW,
            cancelled: false,
            cancel: None,
            limited: false,
            lingers: false,
            other: None,
            is_moved: false,
            tries: 0,
            previous: None,
            next: None,
        };
        let index = index_of(self.slots.insert(client));
        (ClientId { index, serial }, Branch::new(index, token))
    }

    pub fn release(&mut self, shared: &mut Shared, id: ClientId) {
        if self
            .get(id)
            .is_some_and(|client| client.machine == Machine::Reserved)
        {
            self.free(shared, id.index);
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub fn send(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ClientId,
        method: Method,
        flow: &Flow,
        bytes: &[u8],
        owner: O,
        out: &mut impl Sink,
    ) {
        let Some(client) = self
            .get(id)
            .filter(|client| client.machine == Machine::Reserved)
        else {
            debug_assert!(false, "sent without a reservation");
            return;
        };
        client.method = method;
        client.owner = Some(owner);
        let mut kept = shared.take_buffer();
        kept.extend_from_slice(bytes);
        client.begin(shared, now, id, *flow, kept);
        out.send(flow, bytes);
        if let Some(connection) = flow.connection {
            self.link(connection, id.index);
        }
    }

    /// Whether a branch is that of a request which is not forgotten.
    pub fn is_own_branch(&self, branch: &[u8]) -> bool {
        self.of_branch(branch).is_some()
    }

    fn of_branch(&self, branch: &[u8]) -> Option<(ClientId, &Client<O>)> {
        let (index, token) = Branch::parse(branch)?;
        let client = self.slots.get(index as usize)?;
        let id = ClientId {
            index,
            serial: client.serial,
        };
        (client.token == token).then_some((id, client))
    }

    /// A response; nobody's, if there is no transaction of its branch and method (§17.1.3).
    ///
    /// Where it came from does not matter (§18.1.2): a peer with several addresses answers from another one. Its branch
    /// proves that whoever sent it has seen the request: 64 bits of it come from SHA-256 over the seed ([`Tokens`]), and a
    /// million guesses a second for the 32 s that a request lives hit one with a probability of 2⁻³⁹.
    pub fn receive_response(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        response: &Message<'_>,
        out: &mut impl Sink,
    ) -> Option<(ClientId, O)> {
        let (id, client) = self.of_branch(response.via().branch)?;
        let (method, status) = (response.cseq().method, response.status());
        if client.machine == Machine::Reserved {
            return None;
        }
        if method == Method::Cancel && client.method == Method::Invite {
            self.run_cancel(shared, now, id, cancel_event(status), out);
            return None;
        }
        if method != client.method {
            return None;
        }
        if matches!(status, 401 | 407) && !client.lingers {
            let refused = Refused {
                bytes: client.bytes.clone(),
                method,
                tries: client.tries,
                is_cancelled: client.cancelled,
            };
            self.refused = Some((id, refused));
        }
        self.run(
            shared,
            now,
            id,
            Event::Response(status),
            Some(response),
            out,
        )
        .deliver
    }

    pub fn cancel(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ClientId,
        reason: &[u8],
        out: &mut impl Sink,
    ) {
        let Some(client) = self.get(id).filter(|client| !client.cancelled) else {
            return;
        };
        let proceeding = match client.machine {
            Machine::Invite(invite_client::State::Calling) => false,
            Machine::Invite(invite_client::State::Proceeding) => true,
            // Too late, or no INVITE: there is nothing that a CANCEL could end.
            Machine::Invite(
                invite_client::State::Completed
                | invite_client::State::Accepted
                | invite_client::State::Terminated,
            )
            | Machine::Other(_)
            | Machine::Reserved => return,
        };
        client.cancelled = true;
        let bytes = reason.to_vec();
        client.cancel = Some(Box::new(Cancel {
            state: None,
            bytes,
            clocks: Clocks::NEW,
        }));
        if proceeding {
            self.send_cancel(shared, now, id, out);
        }
    }

    pub fn disown(&mut self, id: ClientId) {
        let Some(client) = self.get(id) else { return };
        let was_owned = client.owner.take().is_some();
        if was_owned && client.is_forgotten() {
            self.forgotten.push(id);
        }
    }

    pub fn forget(&mut self, shared: &mut Shared, id: ClientId) {
        if self.get(id).is_some() {
            self.free(shared, id.index);
        }
    }

    /// Gives those their limit that were disowned while they rang.
    pub fn limit_forgotten(&mut self, shared: &mut Shared, now: Instant) {
        while let Some(id) = self.forgotten.pop() {
            if let Some(client) = self.get(id).filter(|client| client.is_forgotten()) {
                client.limit(shared, now, id);
            }
        }
    }

    pub fn take_refused(&mut self, id: ClientId) -> Option<Refused> {
        let (refused, request) = self.refused.take()?;
        (refused == id).then_some(request)
    }

    pub fn count_tries(&mut self, id: ClientId, tries: u8) {
        if let Some(client) = self.get(id) {
            client.tries = tries;
        }
    }

    pub fn next_failed(&mut self) -> Option<(ClientId, O)> {
        self.failed.pop_front()
    }

    /// Whether there is something to do at once.
    pub fn is_pending(&self) -> bool {
        !self.failed.is_empty() || !self.others.is_empty() || !self.forgotten.is_empty()
    }

    /// A timer of this side has fired.
    pub fn fire(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: Key,
        out: &mut impl Sink,
    ) -> Option<(Report, ClientId, O)> {
        let id = ClientId {
            index: key.index,
            serial: key.serial,
        };
        let client = self.get(id)?;
        if let Machine::Invite(_) = client.machine {
            let event = match key.timer {
                Timer::E => Some(non_invite_client::Event::TimerE),
                Timer::F => Some(non_invite_client::Event::TimerF),
                Timer::K => Some(non_invite_client::Event::TimerK),
                _ => None,
            };
            if let Some(event) = event {
                self.run_cancel(shared, now, id, event, out);
                return None;
            }
        }
        self.run(shared, now, id, Event::Timer(key.timer), None, out)
            .report
    }

    fn get(&mut self, id: ClientId) -> Option<&mut Client<O>> {
        let client = self.slots.get_mut(id.index as usize)?;
        (client.serial == id.serial).then_some(client)
    }

    /// One event, and whatever timers of zero fire after it.
    fn run(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ClientId,
        mut event: Event,
        response: Option<&Message<'_>>,
        out: &mut impl Sink,
    ) -> Outcome<O> {
        let mut outcome = Outcome::NOTHING;
        while let Some(client) = self.get(id) {
            let Some(flow) = client.flow else { break };
            let reliable = flow.transport.is_reliable();
            let before = client.machine;
            let Some((effects, timer)) = client.step(event, reliable) else {
                break;
            };
            if effects.acknowledge {
                if client.machine != before {
                    client.compose_acknowledge(shared, response);
                }
                out.send(&flow, &client.bytes);
            }
            if effects.send {
                out.send(&flow, &client.bytes);
            }
            if effects.deliver {
                outcome.deliver = client.owner.map(|owner| (id, owner));
            }
            if let Some(report) = effects.report {
                outcome.report = client.owner.map(|owner| (report, id, owner));
            }
            let key = id.key(timer);
            let fired = client
                .clocks
                .apply(&mut shared.timers, now, effects, reliable, key);
            if client.machine != before && self.enter(shared, now, id, out) {
                break;
            }
            match fired {
                Some(timer) => event = Event::Timer(timer),
                None => break,
            }
        }
        outcome
    }

    /// Has entered another state. True: it has ended.
    fn enter(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ClientId,
        out: &mut impl Sink,
    ) -> bool {
        use {invite_client::State as Invite, non_invite_client::State as Other};
        let Some(client) = self.get(id) else {
            return true;
        };
        match client.machine {
            Machine::Invite(Invite::Terminated) | Machine::Other(Other::Terminated) => {
                self.free(shared, id.index);
                return true;
            }
            Machine::Invite(Invite::Proceeding) => {
                if client
                    .cancel
                    .as_ref()
                    .is_some_and(|cancel| cancel.state.is_none())
                {
                    self.send_cancel(shared, now, id, out);
                } else if client.is_forgotten() {
                    client.limit(shared, now, id);
                }
            }
            Machine::Invite(Invite::Completed | Invite::Accepted) => {
                if client.machine == Machine::Invite(Invite::Accepted) {
                    shared.give_buffer(std::mem::take(&mut client.bytes));
                }
                self.linger(shared, id, true);
            }
            Machine::Other(Other::Completed) => {
                shared.give_buffer(std::mem::take(&mut client.bytes));
                self.linger(shared, id, false);
            }
            Machine::Reserved | Machine::Invite(Invite::Calling) => (),
            Machine::Other(Other::Trying | Other::Proceeding) => (),
        }
        false
    }

    /// No longer live. What lingers longest goes, if too many do.
    fn linger(&mut self, shared: &mut Shared, id: ClientId, long: bool) {
        if let Some(client) = self.get(id) {
            client.lingers = true;
            self.lingering += 1;
        }
        if long {
            self.long.push_back(id)
        } else {
            self.short.push_back(id)
        }
        while self.lingering > self.lingering_max {
            // Those of Timer K are the least loss: what comes late for them would be dropped anyway.
            let Some(oldest) = self.short.pop_front().or_else(|| self.long.pop_front()) else {
                break;
            };
            if self.get(oldest).is_some() {
                self.free(shared, oldest.index);
            }
        }
    }

    /// Composes the CANCEL of an INVITE in Proceeding and sends it.
    fn send_cancel(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ClientId,
        out: &mut impl Sink,
    ) {
        let Some(client) = self.get(id) else { return };
        client.limit(shared, now, id);
        let (Some(flow), Some(cancel)) = (client.flow, client.cancel.as_mut()) else {
            return;
        };
        let mut bytes = shared.take_buffer();
        if !hop::cancel(&client.bytes, &cancel.bytes, &mut bytes) {
            client.cancel = None;
            return;
        }
        cancel.bytes = bytes;
        let reliable = flow.transport.is_reliable();
        let (state, effects) = non_invite_client::start(reliable);
        cancel.state = Some(state);
        cancel
            .clocks
            .apply(&mut shared.timers, now, effects, reliable, id.key(Timer::E));
        out.send(&flow, &cancel.bytes);
    }

    /// An event for the CANCEL of an INVITE. Its own end is nobody's concern: the INVITE's final response, or the lack
    /// of one, is what counts.
    fn run_cancel(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ClientId,
        mut event: non_invite_client::Event,
        out: &mut impl Sink,
    ) {
        let Some(client) = self.get(id) else { return };
        let Some(flow) = client.flow else { return };
        let reliable = flow.transport.is_reliable();
        while let Some(cancel) = &mut client.cancel {
            let Some(state) = cancel.state else { return };
            let (state, effects) = non_invite_client::step(state, event, reliable);
            cancel.state = Some(state);
            if effects.send {
                out.send(&flow, &cancel.bytes);
            }
            let key = id.key(Timer::E);
            let fired = cancel
                .clocks
                .apply(&mut shared.timers, now, effects, reliable, key);
            if state == non_invite_client::State::Terminated {
                client.end_cancel(shared);
            }
            match fired {
                Some(Timer::K) => event = non_invite_client::Event::TimerK,
                _ => return,
            }
        }
    }

    fn free(&mut self, shared: &mut Shared, index: u32) {
        let Some(mut client) = self.slots.try_remove(index as usize) else {
            return;
        };
        client.clocks.stop(&mut shared.timers);
        client.end_cancel(shared);
        shared.give_buffer(std::mem::take(&mut client.bytes));
        if let Some(connection) = client.flow.and_then(|flow| flow.connection) {
            self.unlink(connection, client.previous, client.next);
        }
        if client.lingers {
            self.lingering -= 1;
            // All that wait for timers of one duration end in order, so the dead are at the front.
            for list in [&mut self.short, &mut self.long] {
                let dead = |id: &ClientId| {
                    self.slots
                        .get(id.index as usize)
                        .is_none_or(|c| c.serial != id.serial)
                };
                while list.front().is_some_and(dead) {
                    list.pop_front();
                }
            }
        }
    }

    /// Slots in all, those that linger too.
    #[cfg(test)]
    pub fn slots(&self) -> usize {
        assert!(self.short.len() + self.long.len() >= self.lingering);
        assert!(self.lingering <= self.lingering_max);
        let linked = |c: &&Client<O>| c.flow.is_some_and(|flow| flow.connection.is_some());
        let linked = self
            .slots
            .iter()
            .map(|(_, client)| client)
            .filter(linked)
            .count();
        let mut found = 0;
        for &head in self.connections.values() {
            let mut index = Some(head);
            while let Some(client) = index.map(|index| &self.slots[index as usize]) {
                index = client.next;
                found += 1;
            }
        }
        assert_eq!(found, linked, "every slot on a connection is in its list");
        self.slots.len()
    }
}

impl<O: Copy> Client<O> {
    /// One step of its machine: what to do, and the letter of its repeating timer.
    fn step(&mut self, event: Event, reliable: bool) -> Option<(Effects, Timer)> {
        match self.machine {
            Machine::Reserved => None,
            Machine::Invite(state) => {
                let (state, effects) = invite_client::step(state, invite_event(event)?, reliable);
                self.machine = Machine::Invite(state);
                Some((effects, Timer::A))
            }
            Machine::Other(state) => {
                let (state, effects) =
                    non_invite_client::step(state, other_event(event)?, reliable);
                self.machine = Machine::Other(state);
                Some((effects, Timer::E))
            }
        }
    }

    /// Its first state, with these bytes sent over this flow.
    fn begin(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ClientId,
        flow: Flow,
        bytes: Vec<u8>,
    ) {
        let reliable = flow.transport.is_reliable();
        let (machine, effects, timer) = if self.method == Method::Invite {
            let (state, effects) = invite_client::start(reliable);
            (Machine::Invite(state), effects, Timer::A)
        } else {
            let (state, effects) = non_invite_client::start(reliable);
            (Machine::Other(state), effects, Timer::E)
        };
        (self.machine, self.flow, self.bytes) = (machine, Some(flow), bytes);
        let key = id.key(timer);
        (self.clocks).apply(&mut shared.timers, now, effects, reliable, key);
    }

    /// Has entered Completed: from now on it sends the ACK, and the INVITE no more.
    fn compose_acknowledge(&mut self, shared: &mut Shared, response: Option<&Message<'_>>) {
        let mut bytes = shared.take_buffer();
        if let Some(response) = response {
            hop::acknowledge(&self.bytes, response, &mut bytes);
        }
        shared.give_buffer(std::mem::replace(&mut self.bytes, bytes));
    }

    /// An INVITE that rings and that nobody waits for must end some day: its owner had Timer C.
    fn is_forgotten(&self) -> bool {
        let proceeding = Machine::Invite(invite_client::State::Proceeding);
        self.owner.is_none() && self.machine == proceeding
    }

    /// Arms the timer after which an INVITE in Proceeding is given up.
    fn limit(&mut self, shared: &mut Shared, now: Instant, id: ClientId) {
        if !self.limited {
            self.limited = true;
            let effects = Effects::NONE.life(Life::Start(Timer::CancelLimit));
            self.clocks
                .apply(&mut shared.timers, now, effects, false, id.key(Timer::A));
        }
    }

    fn end_cancel(&mut self, shared: &mut Shared) {
        if let Some(mut cancel) = self.cancel.take() {
            cancel.clocks.stop(&mut shared.timers);
            shared.give_buffer(cancel.bytes);
        }
    }
}

impl ClientId {
    fn key(self, timer: Timer) -> Key {
        Key {
            side: Side::Client,
            index: self.index,
            serial: self.serial,
            timer,
        }
    }
}

/// `None`: a timer that this machine does not have.
fn invite_event(event: Event) -> Option<invite_client::Event> {
    Some(match event {
        Event::Response(..200) => invite_client::Event::Provisional,
        Event::Response(200..300) => invite_client::Event::Success,
        Event::Response(300..) => invite_client::Event::Failure,
        Event::TransportError => invite_client::Event::TransportError,
        Event::Timer(Timer::A) => invite_client::Event::TimerA,
        Event::Timer(Timer::B) => invite_client::Event::TimerB,
        Event::Timer(Timer::D) => invite_client::Event::TimerD,
        Event::Timer(Timer::M) => invite_client::Event::TimerM,
        Event::Timer(Timer::CancelLimit) => invite_client::Event::CancelLimit,
        Event::Timer(_) => return None,
    })
}

/// `None`: a timer that this machine does not have.
fn other_event(event: Event) -> Option<non_invite_client::Event> {
    Some(match event {
        Event::Response(status) => cancel_event(status),
        Event::TransportError => non_invite_client::Event::TransportError,
        Event::Timer(Timer::E) => non_invite_client::Event::TimerE,
        Event::Timer(Timer::F) => non_invite_client::Event::TimerF,
        Event::Timer(Timer::K) => non_invite_client::Event::TimerK,
        Event::Timer(_) => return None,
    })
}

/// A response to a request other than INVITE.
fn cancel_event(status: u16) -> non_invite_client::Event {
    match status {
        ..200 => non_invite_client::Event::Provisional,
        200.. => non_invite_client::Event::Final,
    }
}
