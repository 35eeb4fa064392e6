//! The server side of the table: slots, the map from keys, and doing what the two server machines say.
//!
//! A non-INVITE transaction that is answered, and an INVITE whose 2xx is acknowledged, leave their slot for the ring of
//! completed ones.

use std::collections::HashMap;

use ahash::RandomState;
use slab::Slab;

use super::completed::{Completed, Kept};
use super::effects::{Effects, Report, Timer};
use super::key::{IdentityState, Keys, ServerKey};
use super::shared::{Clocks, Key, Nowhere, Shared, Side, index_of};
use super::{accept, invite_server, non_invite_server, provisional};
use crate::message::{Message, Method};
use crate::source::{Flow, Sink};
use crate::time::Instant;

/// A server transaction. Once it has ended the handle is dead, and using it is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerId {
    index: u32,
    serial: u64,
}

impl ServerId {
    /// No transaction: a dead handle from the start.
    pub const NOBODY: Self = Self {
        index: u32::MAX,
        serial: 0,
    };
}

/// What a request is to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing known, or an ACK for a 2xx: for the transaction user.
    New,
    /// A retransmission or an ACK for a failure; answered from what is kept, where there is an answer.
    Absorbed,
}

/// Which machine, in which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    /// With the retransmission of its 2xx, once there is one.
    Invite(invite_server::State, Option<accept::State>),
    Other(non_invite_server::State),
}

/// An event for either machine.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The request came again.
    Request,
    Ack,
    /// A response of this status from the transaction user.
    Respond(u16),
    Timer(Timer),
}

#[derive(Clone)]
struct Server<O> {
    serial: u64,
    key: ServerKey,
    merge: u64,
    owner: O,
    /// To be told of in [`Servers::next_unheard`], if no ACK comes.
    watched: Option<u32>,
    flow: Flow,
    machine: Machine,
    /// The last response; empty if there is none.
    bytes: Vec<u8>,
    /// A reliable provisional response that waits for its PRACK: the machine, and the bytes that it repeats.
    provisional: Option<Box<(provisional::State, Vec<u8>)>>,
    clocks: Clocks,
    /// When an INVITE was accepted, so that Timer L goes on in the ring.
    accepted: Instant,
}

/// Where a known key leads.
#[derive(Clone, Copy, Debug)]
enum Place {
    Live(u32),
    Completed(u64),
}

/// All server transactions.
#[derive(Clone)]
pub(super) struct Servers<O> {
    slots: Slab<Server<O>>,
    places: HashMap<ServerKey, Place, IdentityState>,
    /// RFC 3261 §8.2.2.2: the live transaction of a From tag, Call-ID and CSeq.
    merges: HashMap<u64, u32, RandomState>,
    /// Bytes of the responses that live transactions keep.
    held_bytes: usize,
    pub(super) completed: Completed,
    /// Whose INVITEs no ACK came for: few a step, and taken after each.
    unheard: Vec<u32>,
}

impl<O: Copy> Servers<O> {
    pub fn new(keys: &Keys, completed_max: usize) -> Self {
        Self {
            slots: Slab::new(),
            places: HashMap::default(),
            merges: HashMap::with_hasher(keys.state()),
            held_bytes: 0,
            completed: Completed::new(completed_max),
            unheard: Vec::new(),
        }
    }

    pub fn live(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of the responses that live transactions keep: with a peer's Via lines in them, whatever he makes of those.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub fn completed(&self) -> &Completed {
        &self.completed
    }

    /// Keys known, live and completed.
    #[cfg(test)]
    pub fn places(&self) -> usize {
        assert!(self.merges.len() <= self.slots.len());
        self.places.len()
    }

    pub fn receive(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: ServerKey,
        method: Method,
        out: &mut impl Sink,
    ) -> Received {
        let ack = method == Method::Ack;
        match self.places.get(&key) {
            None => Received::New,
            Some(&Place::Completed(number)) => match self.completed.get(now, number) {
                Some(Kept::Response(flow, bytes)) => {
                    out.send(&flow, bytes);
                    Received::Absorbed
                }
                // An accepted INVITE; an ACK for a 2xx is the transaction user's.
                Some(Kept::Nothing) if ack => Received::New,
                Some(Kept::Nothing) => Received::Absorbed,
                None => {
                    self.places.remove(&key);
                    Received::New
                }
            },
            Some(&Place::Live(index)) => {
                let Some(server) = self.slots.get(index as usize) else {
                    return Received::New;
                };
                let id = ServerId {
                    index,
                    serial: server.serial,
                };
                let event = if ack { Event::Ack } else { Event::Request };
                let (delivered, _) = self.run(shared, now, id, event, out);
                if delivered {
                    Received::New
                } else {
                    Received::Absorbed
                }
            }
        }
    }

    pub fn find(&self, key: ServerKey) -> Option<(ServerId, O, Flow)> {
        let &Place::Live(index) = self.places.get(&key)? else {
            return None;
        };
        let server = self.slots.get(index as usize)?;
        Some((
            ServerId {
                index,
                serial: server.serial,
            },
            server.owner,
            server.flow,
        ))
    }

    /// Whether a live transaction of another key has the same `merge`.
    pub fn is_merged(&self, merge: u64, key: ServerKey) -> bool {
        let server = self
            .merges
            .get(&merge)
            .and_then(|&index| self.slots.get(index as usize));
        server.is_some_and(|server| server.key != key)
    }

    /// Where its responses go.
    pub fn flow(&self, id: ServerId) -> Option<Flow> {
        let server = self.slots.get(id.index as usize)?;
        (server.serial == id.serial).then_some(server.flow)
    }

    /// Its responses go another way from now on, over the same transport.
    pub fn redirect(&mut self, id: ServerId, flow: &Flow) {
        if let Some(server) = self.get(id) {
            debug_assert_eq!(server.flow.transport, flow.transport);
            server.flow = *flow;
        }
    }

    /// `None`: there is a live transaction of this key.
    pub fn open(
        &mut self,
        shared: &mut Shared,
        key: ServerKey,
        merge: u64,
        request: &Message<'_>,
        flow: &Flow,
        owner: O,
    ) -> Option<ServerId> {
        if let Some(Place::Live(_)) = self.places.get(&key) {
            return None;
        }
        let serial = shared.next_serial();
        let machine = if request.method() == Method::Invite {
            Machine::Invite(invite_server::start().0, None)
        } else {
            Machine::Other(non_invite_server::start().0)
        };
        let index = index_of(self.slots.insert(Server {
            serial,
            key,
            merge,
            owner,
            watched: None,
            flow: *flow,
            machine,
            bytes: Vec::new(),
            provisional: None,
            clocks: Clocks::NEW,
            accepted: Instant::default(),
        }));
        self.places.insert(key, Place::Live(index));
        self.merges.entry(merge).or_insert(index);
        Some(ServerId { index, serial })
    }

    pub fn respond(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ServerId,
        status: u16,
        bytes: &[u8],
        out: &mut impl Sink,
    ) {
        let Some(server) = self.get(id) else { return };
        // A response that the machine will not send must not replace the one that it repeats.
        if !server.takes(status) {
            return;
        }
        if server.bytes.capacity() == 0 {
            server.bytes = shared.take_buffer();
        }
        let before = server.bytes.len();
        server.bytes.clear();
        server.bytes.extend_from_slice(bytes);
        self.held_bytes = (self.held_bytes.saturating_sub(before)).saturating_add(bytes.len());
        if status >= 200 {
            self.end_provisional(shared, now, id, provisional::Event::Final);
        }
        self.run(shared, now, id, Event::Respond(status), out);
    }

    pub fn respond_reliably(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ServerId,
        status: u16,
        bytes: &[u8],
        out: &mut impl Sink,
    ) {
        let is_ours =
            |server: &mut Server<O>| server.is_proceeding_invite() && (101..200).contains(&status);
        if !self.get(id).is_some_and(is_ours) {
            return;
        }
        self.end_provisional(shared, now, id, provisional::Event::Final);
        self.respond(shared, now, id, status, bytes, out);
        let Some(server) = self.get(id) else { return };
        let (state, effects) = provisional::start();
        server.provisional = Some(Box::new((state, bytes.to_vec())));
        let key = id.key(Timer::Provisional);
        (server.clocks).apply(&mut shared.timers, now, effects, false, key);
        self.held_bytes = self.held_bytes.saturating_add(bytes.len());
    }

    pub fn acknowledge_provisional(&mut self, shared: &mut Shared, now: Instant, id: ServerId) {
        self.end_provisional(shared, now, id, provisional::Event::Acknowledged);
    }

    /// Ends the retransmission of a reliable provisional response, if there is one.
    fn end_provisional(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ServerId,
        event: provisional::Event,
    ) {
        self.step_provisional(shared, now, id, event, &mut Nowhere);
    }

    /// One step of the retransmission of a reliable provisional response, if there is one.
    fn step_provisional(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ServerId,
        event: provisional::Event,
        out: &mut impl Sink,
    ) -> Option<Report> {
        let server = self.get(id)?;
        let (state, bytes) = &mut **server.provisional.as_mut()?;
        let (next, effects) = provisional::step(*state, event, false);
        *state = next;
        if effects.send {
            out.send(&server.flow, bytes);
        }
        let key = id.key(Timer::Provisional);
        (server.clocks).apply(&mut shared.timers, now, effects, false, key);
        if next == provisional::State::Ended {
            let length = bytes.len();
            server.provisional = None;
            self.held_bytes = self.held_bytes.saturating_sub(length);
        }
        effects.report
    }

    pub fn acknowledge(&mut self, shared: &mut Shared, id: ServerId) {
        let Some(server) = self.get(id) else { return };
        let Machine::Invite(invite_server::State::Accepted, Some(_)) = server.machine else {
            return;
        };
        let reliable = server.flow.transport.is_reliable();
        // This only stops a timer, so the time does not matter.
        let now = server.accepted;
        server.step_accept(shared, now, id, accept::Event::Acknowledged, reliable);
        // What is left is Timer L: a retransmitted INVITE gets silence.
        let until = server.accepted.plus(Timer::L.duration(reliable));
        if let Some(server) = self.free(shared, id.index) {
            self.keep(server.key, until, &server.flow, &[]);
            shared.give_buffer(server.bytes);
        }
    }

    pub fn complete(
        &mut self,
        now: Instant,
        key: ServerKey,
        flow: &Flow,
        bytes: &[u8],
        out: &mut impl Sink,
    ) {
        out.send(flow, bytes);
        let wait = Timer::J.duration(flow.transport.is_reliable());
        if !wait.is_zero() {
            self.keep(key, now.plus(wait), flow, bytes);
        }
    }

    pub fn set_owner(&mut self, id: ServerId, owner: O) {
        if let Some(server) = self.get(id) {
            server.owner = owner;
        }
    }

    /// A timer of this side has fired. `Some`: a 2xx or a reliable provisional response was never acknowledged.
    pub fn fire(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        key: Key,
        out: &mut impl Sink,
    ) -> Option<(Report, ServerId, O)> {
        let id = ServerId {
            index: key.index,
            serial: key.serial,
        };
        let server = self.get(id)?;
        let (owner, watched) = (server.owner, server.watched);
        let is_refused = matches!(
            server.machine,
            Machine::Invite(invite_server::State::Completed, _)
        );
        let report = match provisional_event(key.timer) {
            Some(event) => self.step_provisional(shared, now, id, event, out),
            None => self.run(shared, now, id, Event::Timer(key.timer), out).1,
        };
        let is_unheard =
            report == Some(Report::NotAcknowledged) || is_refused && key.timer == Timer::H;
        self.unheard.extend(watched.filter(|_| is_unheard));
        report.map(|report| (report, id, owner))
    }

    pub fn watch(&mut self, key: ServerKey, user: u32) {
        if let Some(&Place::Live(index)) = self.places.get(&key)
            && let Some(server) = self.slots.get_mut(index as usize)
        {
            server.watched = Some(user);
        }
    }

    pub fn is_heard(&mut self, id: ServerId) {
        if let Some(server) = self.get(id) {
            server.watched = None;
        }
    }

    pub fn next_unheard(&mut self) -> Option<u32> {
        self.unheard.pop()
    }

    pub fn watch_none(&mut self) {
        for (_, server) in self.slots.iter_mut() {
            server.watched = None;
        }
    }

    /// Forgets completed transactions whose time is over.
    pub fn expire(&mut self, now: Instant) {
        let places = &mut self.places;
        self.completed
            .expire(now, |key, number| forget(places, key, number));
    }

    fn get(&mut self, id: ServerId) -> Option<&mut Server<O>> {
        let server = self.slots.get_mut(id.index as usize)?;
        (server.serial == id.serial).then_some(server)
    }

    /// One event, and whatever timers of zero fire after it: whether the request is for the transaction user, and what
    /// else he must know.
    fn run(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ServerId,
        mut event: Event,
        out: &mut impl Sink,
    ) -> (bool, Option<Report>) {
        let (mut delivered, mut report) = (false, None);
        while let Some(server) = self.get(id) {
            let (flow, before) = (server.flow, server.machine);
            let reliable = flow.transport.is_reliable();
            if let Some(accept_event) = accept_event(event) {
                let effects = server.step_accept(shared, now, id, accept_event, reliable);
                if effects.send {
                    out.send(&flow, &server.bytes);
                }
                report = report.or(effects.report);
            }
            let Some(effects) = server.step(event, reliable) else {
                break;
            };
            if effects.send && !server.bytes.is_empty() {
                out.send(&flow, &server.bytes);
            }
            delivered |= effects.deliver;
            let key = id.key(Timer::G);
            let fired = server
                .clocks
                .apply(&mut shared.timers, now, effects, reliable, key);
            if server.machine != before && self.enter(shared, now, id, fired.is_some()) {
                break;
            }
            match fired {
                Some(timer) => event = Event::Timer(timer),
                None => break,
            }
        }
        (delivered, report)
    }

    /// Has entered another state; `over`: whose time is over at once. True: its slot is free.
    fn enter(&mut self, shared: &mut Shared, now: Instant, id: ServerId, over: bool) -> bool {
        use {invite_server::State as Invite, non_invite_server::State as Other};
        let Some(server) = self.get(id) else {
            return true;
        };
        match server.machine {
            Machine::Invite(Invite::Terminated, _) | Machine::Other(Other::Terminated) => {
                if let Some(server) = self.free(shared, id.index) {
                    shared.give_buffer(server.bytes);
                }
                true
            }
            Machine::Other(Other::Completed) if !over => {
                let until = now.plus(Timer::J.duration(false));
                if let Some(server) = self.free(shared, id.index) {
                    self.keep(server.key, until, &server.flow, &server.bytes);
                    shared.give_buffer(server.bytes);
                }
                true
            }
            Machine::Invite(Invite::Accepted, None) => {
                server.accepted = now;
                let (state, effects) = accept::start();
                server.machine = Machine::Invite(Invite::Accepted, Some(state));
                let key = id.key(Timer::Accept);
                server
                    .clocks
                    .apply(&mut shared.timers, now, effects, false, key);
                false
            }
            Machine::Invite(Invite::Confirmed, _) => {
                let bytes = std::mem::take(&mut server.bytes);
                self.held_bytes = self.held_bytes.saturating_sub(bytes.len());
                shared.give_buffer(bytes);
                false
            }
            Machine::Invite(Invite::Proceeding | Invite::Completed | Invite::Accepted, _) => false,
            Machine::Other(Other::Trying | Other::Proceeding | Other::Completed) => false,
        }
    }

    /// Keeps a final response in the ring.
    fn keep(&mut self, key: ServerKey, until: Instant, flow: &Flow, bytes: &[u8]) {
        let places = &mut self.places;
        let evicted = |key, number| forget(places, key, number);
        if let Some(number) = self.completed.push(key, until, flow, bytes, evicted) {
            self.places.insert(key, Place::Completed(number));
        }
    }

    /// Takes a slot out; its response, if any, is the caller's to give back.
    fn free(&mut self, shared: &mut Shared, index: u32) -> Option<Server<O>> {
        let mut server = self.slots.try_remove(index as usize)?;
        let provisional = server.provisional.as_ref().map_or(0, |kept| kept.1.len());
        (self.held_bytes) = (self.held_bytes).saturating_sub(server.bytes.len() + provisional);
        server.clocks.stop(&mut shared.timers);
        if let Some(&Place::Live(place)) = self.places.get(&server.key)
            && place == index
        {
            self.places.remove(&server.key);
        }
        if self.merges.get(&server.merge) == Some(&index) {
            self.merges.remove(&server.merge);
        }
        Some(server)
    }
}

/// An entry has left the ring; its key may lead elsewhere by now.
fn forget(places: &mut HashMap<ServerKey, Place, IdentityState>, key: ServerKey, number: u64) {
    if let Some(&Place::Completed(place)) = places.get(&key)
        && place == number
    {
        places.remove(&key);
    }
}

impl<O> Server<O> {
    fn is_proceeding_invite(&self) -> bool {
        matches!(
            self.machine,
            Machine::Invite(invite_server::State::Proceeding, _)
        )
    }

    /// Whether its machine sends a response of this status now.
    fn takes(&self, status: u16) -> bool {
        let reliable = self.flow.transport.is_reliable();
        let event = Event::Respond(status);
        let effects = match self.machine {
            Machine::Invite(state, _) => {
                invite_event(event).map(|event| invite_server::step(state, event, reliable).1)
            }
            Machine::Other(state) => {
                other_event(event).map(|event| non_invite_server::step(state, event, reliable).1)
            }
        };
        effects.is_some_and(|effects| effects.send)
    }

    /// One step of its machine.
    fn step(&mut self, event: Event, reliable: bool) -> Option<Effects> {
        match self.machine {
            Machine::Invite(state, accept) => {
                let (state, effects) = invite_server::step(state, invite_event(event)?, reliable);
                self.machine = Machine::Invite(state, accept);
                Some(effects)
            }
            Machine::Other(state) => {
                let (state, effects) =
                    non_invite_server::step(state, other_event(event)?, reliable);
                self.machine = Machine::Other(state);
                Some(effects)
            }
        }
    }

    /// One step of the retransmission of its 2xx, if there is one.
    fn step_accept(
        &mut self,
        shared: &mut Shared,
        now: Instant,
        id: ServerId,
        event: accept::Event,
        reliable: bool,
    ) -> Effects {
        let Machine::Invite(invite, Some(state)) = self.machine else {
            return Effects::NONE;
        };
        let (state, effects) = accept::step(state, event, reliable);
        self.machine = Machine::Invite(invite, Some(state));
        let key = id.key(Timer::Accept);
        self.clocks
            .apply(&mut shared.timers, now, effects, reliable, key);
        effects
    }
}

impl ServerId {
    fn key(self, timer: Timer) -> Key {
        Key {
            side: Side::Server,
            index: self.index,
            serial: self.serial,
            timer,
        }
    }
}

/// What a timer means to the retransmission of a 2xx: its 64·T1 are those of Timer L.
fn accept_event(event: Event) -> Option<accept::Event> {
    match event {
        Event::Timer(Timer::Accept) => Some(accept::Event::Interval),
        Event::Timer(Timer::L) => Some(accept::Event::Limit),
        Event::Timer(_) | Event::Request | Event::Ack | Event::Respond(_) => None,
    }
}

/// What a timer means to the retransmission of a reliable provisional response.
fn provisional_event(timer: Timer) -> Option<provisional::Event> {
    match timer {
        Timer::Provisional => Some(provisional::Event::Interval),
        Timer::ProvisionalLimit => Some(provisional::Event::Limit),
        _ => None,
    }
}

/// `None`: a timer that this machine does not have.
fn invite_event(event: Event) -> Option<invite_server::Event> {
    Some(match event {
        Event::Request => invite_server::Event::Invite,
        Event::Ack => invite_server::Event::Ack,
        Event::Respond(..200) => invite_server::Event::Provisional,
        Event::Respond(200..300) => invite_server::Event::Success,
        Event::Respond(300..) => invite_server::Event::Failure,
        Event::Timer(Timer::G) => invite_server::Event::TimerG,
        Event::Timer(Timer::H) => invite_server::Event::TimerH,
        Event::Timer(Timer::I) => invite_server::Event::TimerI,
        Event::Timer(Timer::L) => invite_server::Event::TimerL,
        Event::Timer(_) => return None,
    })
}

/// `None`: what this machine does not know.
fn other_event(event: Event) -> Option<non_invite_server::Event> {
    Some(match event {
        Event::Request => non_invite_server::Event::Request,
        Event::Respond(..200) => non_invite_server::Event::Provisional,
        Event::Respond(200..) => non_invite_server::Event::Final,
        Event::Timer(Timer::J) => non_invite_server::Event::TimerJ,
        Event::Ack | Event::Timer(_) => return None,
    })
}
