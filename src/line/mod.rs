//! External lines: accounts at carriers, where we register as a phone does (RFC 3261 §10.2), and what calls on them need of
//! that: our Contact, credentials, the way to the peer, its Service-Route.
//!
//! Files: `registration` (one line as a machine), `request` and `answer` (REGISTER and what comes of it), `credentials`
//! (RFC 3261 §22), `pace` (how often).
//!
//! Composes and reads messages; what goes where, and by which transaction, is `endpoint`'s.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod answer;
mod credentials;
mod pace;
mod registration;
mod request;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use ahash::RandomState;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::action::Outputs;
use crate::api::{self, Page};
use crate::config::{self, Host};
use crate::limits::{LINE_POSTPONED, LINES_LEAVING_MAX};
use crate::message::Message;
use crate::source::{ConnectionId, Flow, LineId, Transport};
use crate::time::{Instant, Now};
use crate::token::Tokens;

pub use answer::learned;
pub use credentials::Why;
use pace::Pace;
use registration::{Phase, Registration};
pub use request::{Manners, Way};

/// Characters of the user part of our Contact on a line: 96 bits.
pub const TOKEN_BYTES: usize = 24;

/// The user part of our Contact on a line.
type Token = [u8; TOKEN_BYTES];

/// A registration, of a line of the configuration or of one that is gone from it. Its slot may be another's later: it is for
/// use at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(u32);

/// A REGISTER of ours; serials are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    slot: Slot,
    serial: u32,
}

impl RequestId {
    /// Whose it is.
    pub fn slot(self) -> Slot {
        self.slot
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A REGISTER is to be sent: [`Lines::ask`], [`Lines::nowhere`] or [`Lines::postpone`].
    Register(Slot),
    /// Its way is to be kept open: a double CRLF to its peer (RFC 5626 §3.5.1).
    KeepAlive(Slot),
}

/// What follows a response, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing now.
    Done,
    /// A further REGISTER to the same address.
    Again,
    /// One to another address, or [`Lines::nowhere`].
    Elsewhere,
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// 64·T1 have passed.
    NoAnswer,
    /// There is no connection to the peer.
    NoConnection,
    /// Somebody else asks for the password in its place, from this address.
    Stranger(SocketAddr),
}

/// What a registration needs of the rest to go on.
pub struct Turn<'a> {
    /// The time.
    pub now: Now,
    /// For tags, Call-IDs, jitter.
    pub tokens: &'a mut Tokens,
    /// Where events go.
    pub out: &'a mut Outputs,
}

/// All lines of the configuration, and those that were removed from it but are not de-registered yet.
#[derive(Clone, Debug)]
pub struct Lines {
    key: [u8; 32],
    /// By [`LineId`].
    lines: Vec<Slot>,
    slots: slab::Slab<Registration>,
    by_token: HashMap<Token, LineId, RandomState>,
    /// When something is to be done for whom: one entry for each that waits for anything.
    timers: BTreeSet<(Instant, Slot)>,
    pace: Pace,
    next_serial: u32,
    is_stopping: bool,
    /// Who is still to be de-registered.
    leaving: BTreeSet<Slot>,
    /// When each way was kept open last.
    kept_open: HashMap<Flow, Instant, RandomState>,
}

impl Lines {
    /// The lines of a configuration. `key` is secret and the same at each start: the Contacts that registrars still know from
    /// the run before are those of this one.
    pub fn new(now: Now, lines: &[config::Line], key: [u8; 32], hasher: RandomState) -> Self {
        let mut all = Self {
            key,
            lines: Vec::new(),
            slots: slab::Slab::new(),
            by_token: HashMap::with_hasher(hasher.clone()),
            timers: BTreeSet::new(),
            pace: Pace::new(now.mono),
            next_serial: 1,
            is_stopping: false,
            leaving: BTreeSet::new(),
            kept_open: HashMap::with_hasher(hasher),
        };
        all.reload(now, lines);
        all
    }

    /// Another configuration. A line that registers at the same place for the same account stays registered; any other is
    /// de-registered as it was registered.
    pub fn reload(&mut self, now: Now, lines: &[config::Line]) {
        if self.is_stopping {
            return;
        }
        let mut old: HashMap<Token, Slot, RandomState> =
            HashMap::with_hasher(self.by_token.hasher().clone());
        for slot in std::mem::take(&mut self.lines) {
            if let Some(own) = self.slots.get(slot.0 as usize) {
                old.insert(own.token, slot);
            }
        }
        self.by_token.clear();
        for (line, index) in lines.iter().zip(0..) {
            let token = token(&self.key, line);
            let slot = match old.remove(&token).or_else(|| self.revive(now, &token)) {
                Some(slot) => slot,
                None => Slot(self.slots.insert(Registration::new(now, line, token)) as u32),
            };
            if let Some(own) = self.slots.get_mut(slot.0 as usize) {
                own.reload(now, line);
            }
            self.arm(slot);
            self.lines.push(slot);
            self.by_token.insert(token, LineId(index));
        }
        let mut gone: Vec<Slot> = old.into_values().collect();
        gone.sort_unstable();
        for slot in gone {
            self.leave(now, slot, true);
        }
    }

    /// A line that is back before it was de-registered: its binding is the one that is wanted again, and a request that
    /// removes it may still be on its way. It goes on as the same registration, whose requests the registrar can tell apart
    /// (RFC 3261 §10.3 step 7); another one, with a Call-ID of its own, might lose its binding to that request.
    fn revive(&mut self, now: Now, token: &Token) -> Option<Slot> {
        let is_it = |slot: &&Slot| {
            let own = self.slots.get(slot.0 as usize);
            own.is_some_and(|own| own.is_gone && own.token == *token)
        };
        let slot = self.leaving.iter().find(is_it).copied()?;
        self.leaving.remove(&slot);
        self.slots.get_mut(slot.0 as usize)?.stay(now.mono);
        Some(slot)
    }

    /// De-registers all that are registered. [`Lines::is_idle`] tells when that is done.
    pub fn stop(&mut self, now: Now) {
        self.is_stopping = true;
        for slot in self.lines.clone() {
            self.leave(now, slot, false);
        }
    }

    fn leave(&mut self, now: Now, slot: Slot, is_gone: bool) {
        let Some(own) = self.slots.get_mut(slot.0 as usize) else {
            return;
        };
        own.leave(now.mono, is_gone);
        self.leaving.insert(slot);
        self.settle(slot);
        if self.leaving.len() > LINES_LEAVING_MAX
            && let Some(first) = self.leaving.pop_first()
        {
            self.forget(first);
        }
    }

    /// Whether nobody is still to be de-registered.
    pub fn is_idle(&self) -> bool {
        self.leaving.is_empty()
    }

    /// How many the configuration has.
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// When [`Lines::due`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// User part of our Contact on this line; empty if there is none. Nobody else but its registrar knows it, so that it
    /// tells which line a call comes in on. It stays the same for as long as account, server and the way there do.
    pub fn token(&self, line: LineId) -> &[u8] {
        self.get(line).map_or(b"", |own| &own.token)
    }

    /// The line whose Contact has this user part. O(1).
    pub fn of_token(&self, user: &[u8]) -> Option<LineId> {
        let token: &Token = user.try_into().ok()?;
        self.by_token.get(token).copied()
    }

    /// Answers the challenges of a 401 or 407 to a request of ours: appends an Authorization or Proxy-Authorization header
    /// line for each realm, those that `request` has answered already among them. The caller guarantees that `response`
    /// came from the line's peer, and counts how often he tries.
    ///
    /// # Errors
    /// Why no challenge can be answered; `out` is as it was.
    pub fn authorize(
        &mut self,
        line: LineId,
        response: &Message<'_>,
        request: &Message<'_>,
        tokens: &mut Tokens,
        out: &mut Vec<u8>,
    ) -> Result<(), Why> {
        let own = self.get_mut(line).ok_or(Why::NoLine)?;
        own.credentials.authorize(response, request, tokens, out)
    }

    /// Whether the line has a registration that runs.
    pub fn is_registered(&self, line: LineId) -> bool {
        self.get(line).is_some_and(|own| own.bound.is_some())
    }

    /// Service-Route of its registrar (RFC 3608), values joined by `, ` as a dialog's route set is; empty: none.
    pub fn service_route(&self, line: LineId) -> &[u8] {
        let bound = self.get(line).and_then(|own| own.bound.as_ref());
        bound.map_or(b"", |bound| &bound.service_route)
    }

    /// The first `sip:` or `tel:` URI of its registrar's P-Associated-URI (RFC 7315 §4.1): the identity that calls go out with.
    pub fn public_identity(&self, line: LineId) -> Option<&[u8]> {
        let bound = self.get(line)?.bound.as_ref()?;
        Some(&*bound.public_identity).filter(|uri| !uri.is_empty())
    }

    /// The way on which it last registered. A connection may have been closed since.
    pub fn flow(&self, line: LineId) -> Option<Flow> {
        Some(self.get(line)?.bound.as_ref()?.way.flow)
    }

    /// Our own address as its peer sees it: `received` and `rport` of our Via in its last answer (RFC 3581).
    pub fn learned_address(&self, line: LineId) -> Option<SocketAddr> {
        self.get(line)?.learned
    }

    /// Path of its registration (RFC 3327): the way on which its registrar reaches us; empty: none.
    pub fn path(&self, line: LineId) -> &[u8] {
        let bound = self.get(line).and_then(|own| own.bound.as_ref());
        bound.map_or(b"", |bound| &bound.path)
    }

    /// Registers again soon: a call says that the peer does not know us (any more), or our address is another one. It may be
    /// asked for as often as one likes; a `Retry-After` is obeyed. `false`: there is no such line, or it is not to register.
    pub fn register_soon(&mut self, now: Instant, line: LineId) -> bool {
        self.hurry(line, |own| own.hurry(now))
    }

    /// The same, whatever its registrar has asked for: a person wants it.
    pub fn register_now(&mut self, now: Instant, line: LineId) -> bool {
        self.hurry(line, |own| own.hurry_anyway(now))
    }

    fn hurry(&mut self, line: LineId, hurry: impl FnOnce(&mut Registration)) -> bool {
        let Some(slot) = self.lines.get(line.0 as usize).copied() else {
            return false;
        };
        let Some(own) = self.slots.get_mut(slot.0 as usize) else {
            return false;
        };
        hurry(own);
        let is_wanted = !own.is_removal();
        self.arm(slot);
        is_wanted
    }

    /// Our address towards a line's peer is another one: what was asked in vain from the former may work now.
    pub fn rerouted(&mut self, now: Instant, line: LineId) {
        if let Some(slot) = self.lines.get(line.0 as usize).copied()
            && let Some(own) = self.slots.get_mut(slot.0 as usize)
        {
            own.rerouted(now);
            self.arm(slot);
        }
    }

    /// One page of all lines in the order of the configuration: those behind the one with the name `after`.
    pub fn page(&self, now: Now, after: Option<&str>, limit: usize) -> Page<api::Line> {
        let mut own = self
            .lines
            .iter()
            .filter_map(|slot| self.slots.get(slot.0 as usize))
            .peekable();
        if let Some(after) = after {
            while own.next_if(|own| own.config.name != after).is_some() {}
            own.next();
        }
        let items: Vec<api::Line> = own.by_ref().take(limit).map(|own| own.item(now)).collect();
        let next = own.peek().and(items.last()).map(|item| item.name.clone());
        Page { items, next }
    }

    /// The line with this name.
    pub fn find(&self, name: &str) -> Option<LineId> {
        let is_it = |slot: &Slot| {
            self.slots
                .get(slot.0 as usize)
                .is_some_and(|own| own.config.name == name)
        };
        let index = self.lines.iter().position(is_it)?;
        u32::try_from(index).ok().map(LineId)
    }

    /// A line as people are shown it.
    pub fn item(&self, now: Now, line: LineId) -> Option<api::Line> {
        self.get(line).map(|own| own.item(now))
    }

    /// What is to be done now: to be asked until `None`.
    pub fn due(&mut self, turn: &mut Turn<'_>) -> Option<Due> {
        let now = turn.now.mono;
        while let Some(&(at, slot)) = self.timers.first() {
            if at > now {
                return None;
            }
            let Some(own) = self.slots.get_mut(slot.0 as usize) else {
                self.timers.pop_first();
                continue;
            };
            own.expire(turn);
            if own.keepalive.is_some_and(|at| at <= now) {
                own.keep_alive_again(now);
                self.arm(slot);
                return Some(Due::KeepAlive(slot));
            }
            if let Phase::Waiting(at) = own.phase
                && at <= now
            {
                // A stop has no time, and whoever goes makes room.
                let taken = match own.is_removal() {
                    true => Ok(()),
                    false => self.pace.take(now),
                };
                match taken {
                    Ok(()) => {
                        own.phase = Phase::Waiting(now.plus(crate::limits::LINE_HURRY));
                        self.arm(slot);
                        return Some(Due::Register(slot));
                    }
                    Err(later) => own.phase = Phase::Waiting(later),
                }
            }
            self.settle(slot);
        }
        None
    }

    /// The line of the configuration that a registration is of; `None`: it is gone from there.
    pub fn line_of(&self, slot: Slot) -> Option<LineId> {
        let own = self.slots.get(slot.0 as usize)?;
        self.by_token.get(&own.token).copied()
    }

    /// Where a registration's requests go, by which transport, and which addresses it has asked in this attempt.
    pub fn target(&self, slot: Slot) -> Option<(&Host, Transport, &[SocketAddr])> {
        let own = self.slots.get(slot.0 as usize)?;
        Some((own.config.next_host(), own.config.transport, own.tried()))
    }

    /// The way of the request that is on its way, or else of what is bound.
    pub fn way(&self, slot: Slot) -> Option<Way> {
        let own = self.slots.get(slot.0 as usize)?;
        match &own.phase {
            Phase::Asking(attempt) => Some(attempt.way),
            Phase::Off | Phase::Waiting(_) => own.bound.as_ref().map(|bound| bound.way),
        }
    }

    /// Whether a way is to be kept open now for this registration: another one has perhaps just done it.
    pub fn keeps_open(&mut self, now: Instant, slot: Slot, flow: &Flow) -> bool {
        let own = self.slots.get(slot.0 as usize);
        let Some(every) = own.and_then(|own| own.config.keepalive) else {
            return false;
        };
        let last = self.kept_open.get(flow);
        if last.is_some_and(|last| now.since(*last) < every.mul_f32(0.75)) {
            return false;
        }
        if self.kept_open.len() > self.slots.len() {
            // With ways that nobody uses any more: all are begun anew.
            self.kept_open.clear();
        }
        self.kept_open.insert(*flow, now);
        true
    }

    /// Whether the next REGISTER of this registration removes its binding.
    pub fn is_removal(&self, slot: Slot) -> bool {
        self.slots
            .get(slot.0 as usize)
            .is_some_and(Registration::is_removal)
    }

    /// Whether it may ask another address in this attempt.
    pub fn may_ask_another(&self, slot: Slot) -> bool {
        self.slots
            .get(slot.0 as usize)
            .is_some_and(Registration::may_ask_another)
    }

    /// Composes the next REGISTER, for this way. `None`: there is no such registration.
    pub fn ask(
        &mut self,
        now: Instant,
        slot: Slot,
        way: &Way,
        manners: &Manners<'_>,
        tokens: &mut Tokens,
        buffer: &mut Vec<u8>,
    ) -> Option<RequestId> {
        let serial = self.next_serial;
        let own = self.slots.get_mut(slot.0 as usize)?;
        own.ask(now, way, serial, manners, tokens, buffer);
        self.next_serial = serial.wrapping_add(1);
        self.arm(slot);
        Some(RequestId { slot, serial })
    }

    /// It is not known yet whom to ask: it is due again when somebody says [`Lines::register_soon`], or after
    /// [`LINE_POSTPONED`].
    pub fn postpone(&mut self, now: Instant, slot: Slot) {
        if let Some(own) = self.slots.get_mut(slot.0 as usize)
            && let Phase::Waiting(at) = &mut own.phase
        {
            *at = now.plus(LINE_POSTPONED);
            self.arm(slot);
        }
    }

    /// Where a line may ask is known anew: it does so soon, if it has not been answered and there is somebody whom it has not
    /// asked.
    pub fn look_again(
        &mut self,
        now: Instant,
        line: LineId,
        known: impl Iterator<Item = SocketAddr>,
    ) {
        let Some(slot) = self.lines.get(line.0 as usize).copied() else {
            return;
        };
        if let Some(own) = self.slots.get_mut(slot.0 as usize) {
            own.look_again(now, known);
            self.arm(slot);
        }
    }

    /// How many REGISTERs wait for an answer.
    #[cfg(feature = "testing")]
    pub fn waiting(&self) -> usize {
        let is_asking = |own: &&Registration| matches!(own.phase, Phase::Asking(_));
        let all = self.slots.iter().map(|(_, own)| own);
        all.filter(is_asking).count()
    }

    /// There is nobody to ask, or nobody further: `reason` says why to people.
    pub fn nowhere(&mut self, slot: Slot, reason: String, turn: &mut Turn<'_>) {
        if let Some(own) = self.slots.get_mut(slot.0 as usize) {
            own.nowhere(reason, turn);
            self.settle(slot);
        }
    }

    /// A response to a REGISTER.
    pub fn receive_response(
        &mut self,
        id: RequestId,
        response: &Message<'_>,
        turn: &mut Turn<'_>,
    ) -> Next {
        let Some(own) = self.asking(id) else {
            return Next::Done;
        };
        let next = own.receive(response, turn);
        self.settle(id.slot);
        next
    }

    /// Nobody answers a REGISTER.
    pub fn unanswered(&mut self, id: RequestId, silence: Silence, turn: &mut Turn<'_>) -> Next {
        let Some(own) = self.asking(id) else {
            return Next::Done;
        };
        let next = own.silent(silence, turn);
        self.settle(id.slot);
        next
    }

    /// A connection is gone: whoever registered on it does so again.
    pub fn connection_closed(&mut self, connection: ConnectionId, turn: &mut Turn<'_>) {
        let is_on = |own: &Registration| {
            own.bound
                .as_ref()
                .is_some_and(|bound| bound.way.flow.connection == Some(connection))
        };
        let lost = self.slots.iter().filter(|(_, own)| is_on(own));
        let lost: Vec<Slot> = lost.map(|(slot, _)| Slot(slot as u32)).collect();
        for slot in lost {
            if let Some(own) = self.slots.get_mut(slot.0 as usize) {
                own.flow_lost(turn);
                self.settle(slot);
            }
        }
    }

    /// Requests that waited for an answer on a connection go on over another one.
    pub fn moved(&mut self, connection: ConnectionId, flow: &Flow) {
        for (_, own) in &mut self.slots {
            if let Phase::Asking(attempt) = &own.phase
                && attempt.way.flow.connection == Some(connection)
            {
                own.moved(flow);
            }
        }
    }

    /// The registration whose request that is, if it still waits for it.
    fn asking(&mut self, id: RequestId) -> Option<&mut Registration> {
        let own = self.slots.get_mut(id.slot.0 as usize)?;
        let is_it = matches!(&own.phase, Phase::Asking(attempt) if attempt.request == id.serial);
        is_it.then_some(own)
    }

    /// After whatever may have changed when something is due, or ended a removal.
    fn settle(&mut self, slot: Slot) {
        self.arm(slot);
        let own = self.slots.get(slot.0 as usize);
        if self.leaving.contains(&slot) && own.is_none_or(|own| !own.is_leaving()) {
            self.leaving.remove(&slot);
            self.forget(slot);
        }
    }

    /// Its entry among the timers is that of its next deadline.
    fn arm(&mut self, slot: Slot) {
        let Some(own) = self.slots.get_mut(slot.0 as usize) else {
            return;
        };
        let due = own.due();
        if own.armed == due {
            return;
        }
        let before = std::mem::replace(&mut own.armed, due);
        self.timers.extend(due.map(|at| (at, slot)));
        if let Some(at) = before {
            self.timers.remove(&(at, slot));
        }
    }

    /// Frees the slot of one that is gone from the configuration.
    fn forget(&mut self, slot: Slot) {
        let own = self.slots.get(slot.0 as usize);
        if own.is_some_and(|own| own.is_gone) {
            let own = self.slots.remove(slot.0 as usize);
            if let Some(at) = own.armed {
                self.timers.remove(&(at, slot));
            }
        }
    }

    fn get(&self, line: LineId) -> Option<&Registration> {
        self.slots.get(self.lines.get(line.0 as usize)?.0 as usize)
    }

    fn get_mut(&mut self, line: LineId) -> Option<&mut Registration> {
        self.slots
            .get_mut(self.lines.get(line.0 as usize)?.0 as usize)
    }
}

/// A keyed hash of whatever makes it another registration.
fn token(key: &[u8; 32], line: &config::Line) -> Token {
    let mut block = [0; 64];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(b"sipkeep line");
    let proxy = line.outbound_proxy.as_ref().map(ToString::to_string);
    for part in [
        line.name.as_str(),
        &line.account,
        &line.server.to_string(),
        proxy.as_deref().unwrap_or_default(),
        line.transport.uri_token(),
    ] {
        mac.update(part.as_bytes());
        mac.update(&[0]);
    }
    let hash: [u8; 32] = mac.finalize().into_bytes().into();
    let mut token = [0; TOKEN_BYTES];
    let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    for (to, digit) in token.iter_mut().zip(digits) {
        *to = char::from_digit(u32::from(digit), 16).map_or(b'0', |digit| digit as u8);
    }
    token
}

#[cfg(test)]
mod tests;
