//! Which addresses of our peers can be reached: each is asked by OPTIONS again and again (RFC 3261 §11), and what a peer says
//! over calls counts too.
//!
//! ```text
//!              an answer, or a sign of life         no answer, no connection, 503
//!   Unknown ───────────────────────────────▶ Up ◀──────────────────────────────────▶ Down
//!      └──────────────────── no answer, no connection, 503 ───────────────────────────┘
//! ```
//!
//! An answer is any final response but 408 and 503: whoever says 404, 405 or 501 is there. An address that left an INVITE
//! unanswered is in doubt and asked at once; until it answers it counts as one that cannot be reached, but nobody is told.
//! One that said 503 with `Retry-After` is not asked before (§21.5.4).
//!
//! Nobody is ever given up: whoever is down is asked more often at first, and calls go there when nobody else is left. What
//! is not asked (no interval) is known by its failures only, and they are forgotten after [`REACH_FORGET`].
//!
//! Pure: what is to be sent, and by which way, is the endpoint's matter, and so is whom a call tries first.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use ahash::RandomState;

use crate::limits::{
    REACH_ANSWER, REACH_ASKED_MAX, REACH_DOWN, REACH_FORGET, REACH_HOLD_MAX, REACH_SPACING,
};
use crate::source::{ReachId, Transport};
use crate::time::{Instant, Now, UnixTime};
use crate::token::Tokens;
use crate::transaction::ClientId;

/// An address of a peer, and how often it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it is, in words of config.ini: `trunk`.
    pub kind: &'static str,
    /// Its name there.
    pub name: Box<str>,
    /// How it is called.
    pub transport: Transport,
    /// Where it is called.
    pub address: SocketAddr,
    /// Between two questions; `None`: it is not asked.
    pub every: Option<Duration>,
}

/// Whether an address can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing is known of it as yet.
    #[default]
    Unknown,
    /// It has answered.
    Up,
    /// It has not.
    Down,
}

impl State {
    /// In words.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What the state follows from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cause {
    /// Nothing has been heard.
    #[default]
    Nothing,
    /// It answered with this status code.
    Answered(u16),
    /// It took part in a call.
    Spoke,
    /// It said nothing for [`REACH_ANSWER`].
    Silent,
    /// There is no connection to it.
    NoConnection,
    /// We have no way to it: no route, or no address of our own of its kind.
    NoWay,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Whether it can be reached.
    pub state: State,
    /// Why.
    pub cause: Cause,
    /// Since when.
    pub since: Option<UnixTime>,
}

/// An address can be reached from now on, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Which.
    pub peer: Peer,
    /// What is known of it.
    pub known: Known,
    /// Not asked before this has passed: its Retry-After.
    pub hold: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Entry {
    serial: u32,
    peer: Peer,
    known: Known,
    /// An INVITE was left unanswered since the last sign of life.
    is_doubted: bool,
    /// Failures one after the other.
    failures: usize,
    /// Until when it is not to be asked, nor called before others.
    held: Option<Instant>,
    /// The question that waits for its answer.
    question: Option<ClientId>,
    /// When the last one was sent.
    asked: Option<Instant>,
    due: Option<Due>,
}

/// What is to be done about an entry, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// It is asked.
    Ask(Instant),
    /// Its answer is waited for no longer.
    Answer(Instant),
    /// It is not asked, and what it did wrong is forgotten.
    Forget(Instant),
}

/// All of them.
#[derive(Clone)]
pub struct Reach {
    entries: slab::Slab<Entry>,
    next_serial: u32,
    by_address: HashMap<(Transport, SocketAddr), u32, RandomState>,
    /// Who is to be asked next, and when.
    asks: BTreeSet<(Instant, u32)>,
    /// Whose answer is given up or whose failure is forgotten, and when.
    ends: BTreeSet<(Instant, u32)>,
    /// Questions that wait for an answer.
    waiting: usize,
    /// Those that nobody waits for any more.
    over: Vec<ClientId>,
    tokens: Tokens,
}

impl Reach {
    /// Nobody yet.
    pub fn new(hasher: RandomState, tokens: Tokens) -> Self {
        Self {
            entries: slab::Slab::new(),
            next_serial: 1,
            by_address: HashMap::with_hasher(hasher),
            asks: BTreeSet::new(),
            ends: BTreeSet::new(),
            waiting: 0,
            over: Vec::new(),
            tokens,
        }
    }

    /// Whom to know of from now on. What is known of an address that stays its peer's is kept.
    pub fn reload(&mut self, now: Instant, peers: Vec<Peer>) {
        let empty = HashMap::with_hasher(self.by_address.hasher().clone());
        let mut left = std::mem::replace(&mut self.by_address, empty);
        // All that are new begin one after the other.
        let mut first = Duration::ZERO;
        for peer in peers {
            let key = (peer.transport, peer.address);
            if self.by_address.contains_key(&key) {
                continue;
            }
            let old = (left.get(&key).copied()).filter(|slot| {
                (self.entries.get(*slot as usize))
                    .is_some_and(|old| (old.peer.kind, &old.peer.name) == (peer.kind, &peer.name))
            });
            let slot = match old {
                Some(slot) => {
                    left.remove(&key);
                    self.change(now, slot, peer);
                    slot
                }
                None => {
                    let slot = self.add(peer);
                    let every = self
                        .entries
                        .get(slot as usize)
                        .and_then(|own| own.peer.every);
                    if let Some(every) = every {
                        let wait = first + self.part_of(REACH_SPACING);
                        self.set(slot, Some(Due::Ask(now.plus(wait))));
                        first += REACH_SPACING;
                        if first >= every {
                            first = Duration::ZERO;
                        }
                    }
                    slot
                }
            };
            self.by_address.insert(key, slot);
        }
        let mut gone: Vec<u32> = left.into_values().collect();
        gone.sort_unstable();
        gone.into_iter().for_each(|slot| self.remove(slot));
    }

    /// How many addresses there are, and how many of them have a question under way.
    pub fn count(&self) -> (usize, usize) {
        (self.entries.len(), self.waiting)
    }

    /// When [`Reach::expire`] or [`Reach::next_ask`] has something to do. O(log n).
    pub fn next_deadline(&self) -> Option<Instant> {
        let ask = (self.asks.first()).filter(|_| self.waiting < REACH_ASKED_MAX);
        let end = self.ends.first();
        ask.into_iter().chain(end).map(|(at, _)| *at).min()
    }

    /// The next address that is to be asked now. To be followed by [`Reach::sent`], [`Reach::failed`] or
    /// [`Reach::postpone`].
    pub fn next_ask(&mut self, now: Instant) -> Option<(ReachId, Transport, SocketAddr)> {
        let (at, slot) = *self.asks.first()?;
        if at > now || self.waiting >= REACH_ASKED_MAX {
            return None;
        }
        self.set(slot, Some(Due::Answer(now.plus(REACH_ANSWER))));
        let own = self.entries.get_mut(slot as usize)?;
        (own.asked, own.held) = (Some(now), None);
        let id = ReachId {
            index: slot,
            serial: own.serial,
        };
        Some((id, own.peer.transport, own.peer.address))
    }

    /// The question is under way.
    pub fn sent(&mut self, id: ReachId, question: ClientId) {
        if let Some(own) = self.asked(id) {
            own.question = Some(question);
        }
    }

    /// The question could not be sent, which says nothing of its peer: we are full.
    pub fn postpone(&mut self, now: Instant, id: ReachId) {
        if self.asked(id).is_some() {
            self.ask_in(now, id.index, REACH_DOWN[0]);
        }
    }

    /// A final response to the question, and its Retry-After.
    pub fn answered(
        &mut self,
        now: Now,
        id: ReachId,
        status: u16,
        hold: Option<Duration>,
    ) -> Option<News> {
        self.asked(id)?.question = None;
        match (status, hold) {
            (503, Some(hold)) => self.hold_slot(now, id.index, hold),
            (408 | 503, _) => self.fails(now, id.index, Cause::Answered(status)),
            _ => self.lives(now, id.index, Cause::Answered(status)),
        }
    }

    /// No answer will come: there is no connection, or no way.
    pub fn failed(&mut self, now: Now, id: ReachId, cause: Cause) -> Option<News> {
        self.asked(id)?.question = None;
        self.fails(now, id.index, cause)
    }

    /// The next question that nobody waits for any more: its transaction is to be forgotten. To be asked after whatever was
    /// told here.
    pub fn next_over(&mut self) -> Option<ClientId> {
        self.over.pop()
    }

    /// Gives up one question whose answer has not come in time; `None`: there is none.
    pub fn expire(&mut self, now: Now) -> Option<Option<News>> {
        let (at, slot) = *self.ends.first()?;
        if at > now.mono {
            return None;
        }
        let own = self.entries.get_mut(slot as usize)?;
        if matches!(own.due, Some(Due::Forget(_))) {
            own.forget();
            self.set(slot, None);
            return Some(None);
        }
        Some(self.fails(now, slot, Cause::Silent))
    }

    /// A message from there that only its peer can have sent: an answer, a request within a dialog of ours.
    pub fn spoke(&mut self, now: Now, transport: Transport, from: SocketAddr) -> Option<News> {
        let slot = *self.by_address.get(&(transport, from))?;
        let own = self.entries.get_mut(slot as usize)?;
        let is_up = own.known.state == State::Up && !own.is_doubted;
        match own.due {
            _ if own.held.is_some_and(|until| until > now.mono) => None,
            // A busy one costs nothing: its next question moves away twice in its time.
            Some(Due::Ask(at)) if is_up && at.since(now.mono) > own.every() / 2 => None,
            None if is_up => None,
            Some(_) | None => self.lives(now, slot, Cause::Spoke),
        }
    }

    /// A message in the name of a peer who is down: perhaps he is back, so he is asked.
    pub fn called(&mut self, now: Instant, transport: Transport, from: SocketAddr) {
        let Some(&slot) = self.by_address.get(&(transport, from)) else {
            return;
        };
        if (self.entries.get(slot as usize)).is_some_and(|own| own.known.state == State::Down) {
            self.ask_soon(now, slot);
        }
    }

    /// It has left an INVITE unanswered, or could not be reached with it.
    pub fn doubt(&mut self, now: Now, transport: Transport, address: SocketAddr) -> Option<News> {
        let slot = *self.by_address.get(&(transport, address))?;
        let own = self.entries.get_mut(slot as usize)?;
        if own.peer.every.is_none() {
            return self.fails(now, slot, Cause::Silent);
        }
        own.is_doubted = true;
        self.ask_soon(now.mono, slot);
        None
    }

    /// It has answered a call with 503 and wants to be left alone for so long.
    pub fn hold(
        &mut self,
        now: Now,
        transport: Transport,
        address: SocketAddr,
        hold: Duration,
    ) -> Option<News> {
        let slot = *self.by_address.get(&(transport, address))?;
        self.hold_slot(now, slot, hold)
    }

    /// Whether a call should try this address before those of which that is not so.
    pub fn is_living(&self, now: Instant, transport: Transport, address: SocketAddr) -> bool {
        self.entry(transport, address).is_none_or(|own| {
            own.known.state != State::Down
                && !own.is_doubted
                && own.held.is_none_or(|until| until <= now)
        })
    }

    /// What is known of an address.
    pub fn known(&self, transport: Transport, address: SocketAddr) -> Option<Known> {
        self.entry(transport, address).map(|own| own.known)
    }
}

impl Reach {
    fn entry(&self, transport: Transport, address: SocketAddr) -> Option<&Entry> {
        let slot = *self.by_address.get(&(transport, address))?;
        self.entries.get(slot as usize)
    }

    /// The entry of a question that waits for its answer.
    fn asked(&mut self, id: ReachId) -> Option<&mut Entry> {
        (self.entries.get_mut(id.index as usize))
            .filter(|own| own.serial == id.serial && own.is_asked())
    }

    fn add(&mut self, peer: Peer) -> u32 {
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        let entry = Entry {
            serial,
            peer,
            known: Known::default(),
            is_doubted: false,
            failures: 0,
            held: None,
            question: None,
            asked: None,
            due: None,
        };
        self.entries.insert(entry) as u32
    }

    /// An address stays its peer's; how often it is asked may be another matter now.
    fn change(&mut self, now: Instant, slot: u32, peer: Peer) {
        let Some(own) = self.entries.get_mut(slot as usize) else {
            return;
        };
        let (old, new) = (own.peer.every, peer.every);
        own.peer = peer;
        if old == new || own.is_asked() {
            return;
        }
        match new {
            Some(every) => {
                let wait = self.part_of(every);
                self.set(slot, Some(Due::Ask(now.plus(wait))));
            }
            None => {
                own.forget();
                self.set(slot, None);
            }
        }
    }

    fn remove(&mut self, slot: u32) {
        self.set(slot, None);
        let old = self.entries.try_remove(slot as usize);
        self.over.extend(old.and_then(|old| old.question));
    }

    fn set(&mut self, slot: u32, due: Option<Due>) {
        let Some(own) = self.entries.get_mut(slot as usize) else {
            return;
        };
        self.over.extend(own.question.take());
        match std::mem::replace(&mut own.due, due) {
            Some(Due::Ask(at)) => drop(self.asks.remove(&(at, slot))),
            Some(Due::Forget(at)) => drop(self.ends.remove(&(at, slot))),
            Some(Due::Answer(at)) => {
                self.ends.remove(&(at, slot));
                self.waiting -= 1;
            }
            None => {}
        }
        match due {
            Some(Due::Ask(at)) => drop(self.asks.insert((at, slot))),
            Some(Due::Forget(at)) => drop(self.ends.insert((at, slot))),
            Some(Due::Answer(at)) => {
                self.ends.insert((at, slot));
                self.waiting += 1;
            }
            None => {}
        }
    }

    /// It is there.
    fn lives(&mut self, now: Now, slot: u32, cause: Cause) -> Option<News> {
        let own = self.entries.get_mut(slot as usize)?;
        (own.failures, own.is_doubted, own.held) = (0, false, None);
        let every = own.peer.every;
        let news = own.becomes(now, State::Up, cause);
        match every {
            Some(every) => self.ask_in(now.mono, slot, every),
            None => self.set(slot, None),
        }
        news
    }

    /// It is not.
    fn fails(&mut self, now: Now, slot: u32, cause: Cause) -> Option<News> {
        let own = self.entries.get_mut(slot as usize)?;
        let wait = REACH_DOWN.get(own.failures).copied();
        own.failures = own.failures.saturating_add(1);
        own.is_doubted = false;
        let every = own.peer.every;
        let news = own.becomes(now, State::Down, cause);
        match every {
            Some(every) => self.ask_in(now.mono, slot, wait.map_or(every, |wait| every.min(wait))),
            None => self.set(slot, Some(Due::Forget(now.mono.plus(REACH_FORGET)))),
        }
        news
    }

    /// It wants to be left alone.
    fn hold_slot(&mut self, now: Now, slot: u32, hold: Duration) -> Option<News> {
        let hold = hold.min(REACH_HOLD_MAX);
        let until = now.mono.plus(hold);
        let own = self.entries.get_mut(slot as usize)?;
        (own.held, own.is_doubted) = (Some(until), false);
        let news = own.becomes(now, State::Down, Cause::Answered(503));
        let due = match own.peer.every {
            Some(_) => Due::Ask(until),
            None => Due::Forget(until),
        };
        self.set(slot, Some(due));
        news.map(|news| News {
            hold: Some(hold),
            ..news
        })
    }

    /// Asks again after about this time: nobody's questions shall come together.
    fn ask_in(&mut self, now: Instant, slot: u32, wait: Duration) {
        let at = now.plus(wait - wait / 10 + self.part_of(wait / 5));
        self.set(slot, Some(Due::Ask(at)));
    }

    /// Asks at once, unless that has just been done.
    fn ask_soon(&mut self, now: Instant, slot: u32) {
        let Some(own) = self.entries.get(slot as usize) else {
            return;
        };
        let Some(Due::Ask(at)) = own.due else { return };
        let soonest = own.asked.map_or(now, |asked| asked.plus(REACH_DOWN[0] / 5));
        let soonest = own.held.map_or(soonest, |held| held.max(soonest)).max(now);
        if soonest < at {
            self.set(slot, Some(Due::Ask(soonest)));
        }
    }

    /// Any time from nothing to `whole`, in milliseconds.
    fn part_of(&mut self, whole: Duration) -> Duration {
        let millis = whole.as_millis() as u64;
        Duration::from_millis(self.tokens.next_u64() % (millis + 1))
    }
}

impl Entry {
    /// Whether a question waits for its answer.
    fn is_asked(&self) -> bool {
        matches!(self.due, Some(Due::Answer(_)))
    }

    fn every(&self) -> Duration {
        self.peer.every.unwrap_or_default()
    }

    fn forget(&mut self) {
        (self.failures, self.is_doubted, self.held) = (0, false, None);
        self.known = Known::default();
    }

    fn becomes(&mut self, now: Now, state: State, cause: Cause) -> Option<News> {
        let is_news = self.known.state != state;
        if is_news {
            self.known.since = Some(now.unix);
        }
        (self.known.state, self.known.cause) = (state, cause);
        is_news.then(|| News {
            peer: self.peer.clone(),
            known: self.known,
            hold: None,
        })
    }
}

#[cfg(test)]
mod tests;
