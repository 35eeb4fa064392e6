//! Where the names of the configuration lead at present. Whoever has a name there has a [`PlaceId`] and looks up what is
//! known: nobody waits for a name server. All names are resolved from the start, and again in the background when their
//! time is over; until the new answer is there the last one holds.
//!
//! (A place in a lane is something else: `lanes`.)
//!
//! Few are asked about at a time, the one that waits longest first, so that names whose servers are silent keep no other
//! from its turn for long.
//!
//! Not here: what an answer means (`names`), and what to do when a place cannot be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::action::Outputs;
use crate::api::Event;
use crate::limits::{
    NAME_RETRY, NAME_TTL_MIN, PLACE_ADDRESSES_HOLD, PLACE_ADDRESSES_MAX, PLACES_ASKED_MAX,
};
use crate::names::{
    Candidate, Failure, Hosts, Order, Resolution, Resolver, Servers, SocketId, Target,
};
use crate::time::Instant;

/// A name of the configuration. Another configuration may give it another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceId(u32);

/// Why there is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is being asked for, for the first time.
    Asked,
    /// It was asked for.
    Failed(Failure),
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Asked => f.write_str("no name server has answered yet"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// Candidates, and until when they hold if nobody answers; `None`: for ever.
type Found = (Vec<Candidate>, Option<Instant>);

/// One name and what is known of it.
#[derive(Clone)]
struct Place {
    target: Target,
    /// Something is sent there; else it is asked for only to know who calls, and may well be unknown to all name servers.
    is_way: bool,
    /// In the order in which they are to be tried; empty as long as `unknown` says why.
    candidates: Vec<Candidate>,
    unknown: Unknown,
    /// Until when `candidates` hold if nobody answers; `None`: for ever.
    usable_until: Option<Instant>,
    /// The addresses of `candidates`, and those that were among them lately, with since when they are not.
    addresses: Vec<(IpAddr, Option<Instant>)>,
    /// When to resolve it: its key in `Places::due`.
    due: Option<Instant>,
    changes: u64,
}

impl Place {
    fn new(target: Target) -> Self {
        Self {
            target,
            is_way: false,
            candidates: Vec::new(),
            unknown: Unknown::Asked,
            usable_until: None,
            addresses: Vec::new(),
            due: None,
            changes: 0,
        }
    }

    /// Takes over what was found; whether anything is different now.
    fn take(&mut self, now: Instant, found: Result<Found, Failure>) -> bool {
        match found {
            Ok((candidates, usable_until)) => {
                self.usable_until = usable_until;
                self.replace(now, candidates)
            }
            // What the resolver had to forget for other names still holds here.
            Err(Failure::NoAnswer) if self.is_usable(now) => false,
            Err(failure) => {
                let unknown = Unknown::Failed(failure);
                let was = std::mem::replace(&mut self.unknown, unknown);
                self.replace(now, Vec::new()) || was != unknown
            }
        }
    }

    fn is_usable(&self, now: Instant) -> bool {
        !self.candidates.is_empty() && self.usable_until.is_none_or(|until| until > now)
    }

    /// Other candidates; whether they, or the addresses, are others indeed.
    fn replace(&mut self, now: Instant, candidates: Vec<Candidate>) -> bool {
        let mut is_other = self.candidates != candidates;
        let is_present = |address| candidates.iter().any(|own| own.address.ip() == address);
        for (address, gone) in &mut self.addresses {
            *gone = match is_present(*address) {
                true => None,
                false => gone.or(Some(now)),
            };
        }
        let before = self.addresses.len();
        let is_held = |gone: Instant| now.since(gone) < PLACE_ADDRESSES_HOLD;
        (self.addresses).retain(|(_, gone)| gone.is_none_or(is_held));
        is_other |= self.addresses.len() < before;
        for address in candidates.iter().map(|own| own.address.ip()) {
            if !self.addresses.iter().any(|(own, _)| *own == address) {
                self.addresses.push((address, None));
            }
        }
        // Those that have been gone for longest are the first to be left out.
        (self.addresses).sort_by_key(|(_, gone)| gone.map(std::cmp::Reverse));
        self.addresses.truncate(PLACE_ADDRESSES_MAX);
        self.candidates = candidates;
        is_other
    }

    /// What has changed, for the log.
    fn event(&self, was_known: bool) -> Event {
        let (level, field) = match &*self.candidates {
            [] if !self.is_way => (log::Level::Debug, ("error", self.unknown.to_string())),
            [] => (log::Level::Warn, ("error", self.unknown.to_string())),
            candidates => {
                let level = match was_known {
                    true => log::Level::Debug,
                    false => log::Level::Info,
                };
                let texts: Vec<String> = candidates.iter().map(ToString::to_string).collect();
                (level, ("to", texts.join(", ")))
            }
        };
        Event {
            level,
            name: "resolve",
            source: None,
            fields: vec![("name", self.target.to_string()), field].into(),
        }
    }

    /// The addresses, sorted.
    fn all_addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = self.addresses.iter().map(|(own, _)| *own).collect();
        all.sort_unstable();
        all
    }

    /// When the first address is no longer held.
    fn held_until(&self) -> Option<Instant> {
        let gone = self.addresses.iter().filter_map(|(_, gone)| *gone).min();
        gone.map(|gone| gone.plus(PLACE_ADDRESSES_HOLD))
    }
}

/// All names of a configuration.
#[derive(Clone)]
pub struct Places {
    resolver: Resolver,
    places: Vec<Place>,
    by_target: BTreeMap<Target, PlaceId>,
    /// Who is to be resolved when.
    due: BTreeSet<(Instant, PlaceId)>,
    /// Who waits for name servers, at most [`PLACES_ASKED_MAX`].
    asked: Vec<PlaceId>,
    /// The shell has said whom to ask.
    is_told: bool,
    /// Of the resolver's changes, those that `asked` has seen.
    seen: u64,
    changes: u64,
    address_changes: u64,
}

impl Places {
    /// Knows no names yet. `families`: whether we have IPv4, and whether IPv6.
    pub fn new(seed: &[u8; 32], families: [bool; 2]) -> Self {
        let nobody = (Servers::default(), Hosts::default());
        Self {
            resolver: Resolver::new(seed, families, nobody.0, nobody.1),
            places: Vec::new(),
            by_target: BTreeMap::new(),
            due: BTreeSet::new(),
            asked: Vec::new(),
            is_told: false,
            seen: 0,
            changes: 0,
            address_changes: 0,
        }
    }

    /// These are the names from now on, and whether something is sent there; the place of each, in their order. What is known of those that stay is kept, and
    /// what is an address is known at once. All names are asked for again: somebody has perhaps mended a record.
    pub fn reload(
        &mut self,
        now: Instant,
        targets: impl IntoIterator<Item = (Target, bool)>,
        out: &mut Outputs,
    ) -> Vec<PlaceId> {
        let mut former = std::mem::take(&mut self.by_target);
        let mut kept: Vec<Option<Place>> = self.places.drain(..).map(Some).collect();
        self.due.clear();
        self.asked.clear();
        self.resolver.ask_again(now);
        let mut ids = Vec::new();
        for (target, is_way) in targets {
            if let Some(&id) = self.by_target.get(&target) {
                if let Some(place) = self.places.get_mut(id.0 as usize) {
                    place.is_way |= is_way;
                }
                ids.push(id);
                continue;
            }
            let id = PlaceId(self.places.len() as u32);
            let place = (former.remove(&target)).and_then(|id| kept.get_mut(id.0 as usize)?.take());
            self.by_target.insert(target.clone(), id);
            self.places.push(Place {
                due: None,
                is_way,
                ..place.unwrap_or_else(|| Place::new(target))
            });
            self.resolve_at(id, Some(now));
            ids.push(id);
        }
        self.changes += 1;
        self.address_changes += 1;
        self.go_on(now, out);
        ids
    }

    /// What the system's files say. Before that nobody is asked.
    pub fn configure(&mut self, now: Instant, servers: &Servers, hosts: &Hosts, out: &mut Outputs) {
        let before = self.resolver.changes();
        (self.resolver).configure(now, servers.clone(), hosts.clone());
        if !self.is_told || self.resolver.changes() != before {
            self.is_told = true;
            for id in self.ids() {
                self.resolve_at(id, Some(now));
            }
        }
        self.go_on(now, out);
    }

    /// Bytes on the socket of a query.
    pub fn receive(
        &mut self,
        now: Instant,
        socket: SocketId,
        from: SocketAddr,
        bytes: &[u8],
        out: &mut Outputs,
    ) {
        self.resolver.receive(now, socket, from, bytes);
        self.go_on(now, out);
    }

    /// The socket of a query is of no use.
    pub fn unreachable(&mut self, now: Instant, socket: SocketId, out: &mut Outputs) {
        self.resolver.unreachable(now, socket);
        self.go_on(now, out);
    }

    /// Time has passed.
    pub fn expire(&mut self, now: Instant, out: &mut Outputs) {
        if self.next_deadline().is_some_and(|at| at <= now) {
            self.resolver.expire(now);
            self.go_on(now, out);
        }
    }

    /// When [`Places::expire`] has something to do. O(1) in the number of names.
    pub fn next_deadline(&self) -> Option<Instant> {
        let has_room = self.asked.len() < PLACES_ASKED_MAX;
        let due = (self.due.first()).filter(|_| has_room).map(|(at, _)| *at);
        due.into_iter().chain(self.resolver.next_deadline()).min()
    }

    /// Where requests to a place go, in the order in which that is to be tried (RFC 3263 §4.3), never empty. O(1).
    ///
    /// # Errors
    /// Why nothing is known at present.
    pub fn candidates(&self, id: PlaceId) -> Result<&[Candidate], Unknown> {
        match self.places.get(id.0 as usize) {
            Some(place) if !place.candidates.is_empty() => Ok(&place.candidates),
            Some(place) => Err(place.unknown),
            None => Err(Unknown::Asked),
        }
    }

    /// The place of a name, if it is one of these.
    pub fn find(&self, target: &Target) -> Option<PlaceId> {
        self.by_target.get(target).copied()
    }

    /// From where a place may call: all its addresses, and those that it had within [`PLACE_ADDRESSES_HOLD`]. A request sent
    /// to a name whose addresses take turns is followed by others from the address that it went to.
    pub fn addresses(&self, id: PlaceId) -> impl Iterator<Item = IpAddr> {
        let place = self.places.get(id.0 as usize);
        let addresses = place.into_iter().flat_map(|place| &place.addresses);
        addresses.map(|(address, _)| *address)
    }

    /// Another number whenever candidates, reasons or addresses of some place have changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Another number whenever addresses of some place have changed.
    pub fn address_changes(&self) -> u64 {
        self.address_changes
    }

    /// The same as [`Places::changes`] of one place.
    pub fn changes_of(&self, id: PlaceId) -> u64 {
        self.places
            .get(id.0 as usize)
            .map_or(0, |place| place.changes)
    }

    /// How many wait for name servers.
    pub fn asked(&self) -> usize {
        self.asked.len()
    }

    /// All places.
    pub fn ids(&self) -> impl Iterator<Item = PlaceId> + use<> {
        (0..self.places.len() as u32).map(PlaceId)
    }

    /// There is a way to an address now, or another one: whoever needed it looks again.
    pub fn is_reached(&mut self, address: IpAddr) {
        for place in &mut self.places {
            if (place.candidates.iter()).any(|own| own.address.ip() == address) {
                place.changes += 1;
                self.changes += 1;
            }
        }
    }

    /// A request timed out there, its transport failed, or it was answered with 503; `retry_after`: what that said. For a
    /// while it comes last, wherever it is one of several (RFC 3263 §4.3).
    pub fn failed(&mut self, now: Instant, candidate: Candidate, retry_after: Option<Duration>) {
        let was = self.resolver.failed_until(now, candidate);
        self.resolver.failed(now, candidate, retry_after);
        if was.is_some() {
            return;
        }
        for id in self.ids() {
            let Some(place) = self.places.get_mut(id.0 as usize) else {
                continue;
            };
            if place.candidates.len() < 2 || !place.candidates.contains(&candidate) {
                continue;
            }
            let before = place.candidates.clone();
            let resolver = &self.resolver;
            (place.candidates).sort_by_key(|own| resolver.failed_until(now, *own).is_some());
            if place.candidates != before {
                place.changes += 1;
                self.changes += 1;
            }
            // Beyond its time it has its place again.
            let back = self.resolver.failed_until(now, candidate);
            let due = place.due.into_iter().chain(back).min();
            self.resolve_at(id, due);
        }
    }

    /// Whether an address comes last at present because it did not work.
    pub fn is_failed(&self, now: Instant, candidate: Candidate) -> bool {
        self.resolver.failed_until(now, candidate).is_some()
    }

    /// A request was answered there.
    pub fn worked(&mut self, now: Instant, candidate: Candidate) {
        if !self.resolver.worked(candidate) {
            return;
        }
        for id in self.ids() {
            let place = self.places.get(id.0 as usize);
            if place.is_some_and(|place| place.candidates.contains(&candidate)) {
                self.resolve_at(id, Some(now));
            }
        }
    }

    /// When a place is to be resolved; `None`: when its answer is there, or never.
    fn resolve_at(&mut self, id: PlaceId, at: Option<Instant>) {
        let Some(place) = self.places.get_mut(id.0 as usize) else {
            return;
        };
        if let Some(former) = std::mem::replace(&mut place.due, at) {
            self.due.remove(&(former, id));
        }
        self.due.extend(at.map(|at| (at, id)));
    }

    /// Resolves what can be: who waits for what was learned, then who is due. Hands over what the resolver orders.
    fn go_on(&mut self, now: Instant, out: &mut Outputs) {
        if self.seen != self.resolver.changes() {
            self.seen = self.resolver.changes();
            for id in std::mem::take(&mut self.asked) {
                self.resolve(now, id, out);
            }
        }
        while self.asked.len() < PLACES_ASKED_MAX
            && let Some(&(at, id)) = self.due.first()
            && at <= now
        {
            self.resolve_at(id, None);
            self.resolve(now, id, out);
        }
        while let Some(order) = self.resolver.next_order() {
            match order {
                Order::Ask {
                    socket,
                    over,
                    server,
                    bytes,
                } => out.ask(socket, over, server, &bytes),
                Order::Close { socket } => out.close_query(socket),
            }
        }
    }

    fn resolve(&mut self, now: Instant, id: PlaceId, out: &mut Outputs) {
        let Some(place) = self.places.get_mut(id.0 as usize) else {
            return;
        };
        if !self.is_told && !place.target.is_address() {
            // As soon as it is known whom to ask, all of them are due.
            return;
        }
        let resolution = (self.resolver).resolve_again(now, &place.target, &place.candidates);
        let (found, again) = match resolution {
            Resolution::Pending => {
                if !self.asked.contains(&id) {
                    self.asked.push(id);
                }
                return;
            }
            Resolution::Ready {
                candidates,
                until,
                usable_until,
            } => (Ok((candidates, usable_until)), until),
            Resolution::Failed(failure) => (Err(failure), retry(now, failure)),
        };
        let before = (place.candidates.clone(), place.unknown);
        let addresses = place.all_addresses();
        if place.take(now, found) {
            place.changes += 1;
            self.changes += 1;
        }
        if place.all_addresses() != addresses {
            self.address_changes += 1;
        }
        let is_other = (&before.0, before.1) != (&place.candidates, place.unknown);
        if is_other && !place.target.is_address() {
            out.event(place.event(!before.0.is_empty()));
        }
        let back = match &*place.candidates {
            [] | [_] => None,
            several => several
                .iter()
                .filter_map(|own| self.resolver.failed_until(now, *own))
                .min(),
        };
        let again = [again, back, place.held_until()];
        self.resolve_at(id, again.into_iter().flatten().min());
    }
}

/// When to look again at a name that leads nowhere. Who does not answer may be late, and is not asked more often for it.
fn retry(now: Instant, failure: Failure) -> Option<Instant> {
    match failure {
        Failure::NotAName => None,
        Failure::NoAnswer => Some(now.plus(NAME_TTL_MIN)),
        Failure::NotOffered | Failure::NoAddress => Some(now.plus(NAME_RETRY)),
    }
}

#[cfg(test)]
mod tests;
