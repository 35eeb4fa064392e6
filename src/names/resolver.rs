//! The steps of RFC 3263 §4 from a URI's host, port and transport to candidates, over what the cache knows.
//!
//! Each call begins anew; what is missing is asked for and the caller comes back. So there is no state of a resolution,
//! and many callers with one domain ask once. All that may be needed is asked for at once: it takes one round trip, and a
//! server that swallows questions for NAPTR, as some home routers do, makes nobody wait twice.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::cache::{Cache, Outcome, Question};
use super::failover::Failover;
use super::name::Name;
use super::query::{Order, Queries, Reply};
use super::service::{Services, draw, services};
use super::system::{Hosts, Servers};
use super::wire::{Authority, Data, Kind, Record, Srv};
use crate::limits::{
    NAME_ALIASES_MAX, NAME_CANDIDATES_MAX, NAME_HOSTS_MAX, NAME_NEGATIVE_TTL,
    NAME_NEGATIVE_TTL_MAX, NAME_RECORDS_MAX, NAME_STALE, NAME_TTL_MAX, NAME_TTL_MIN,
};
use crate::source::{SocketId, Transport};
use crate::time::Instant;
use crate::token::Tokens;

/// RFC 3261 §19.1.2: where SIP is without a port.
const SIP_PORT: u16 = 5060;

/// What a SIP URI says about where to go (RFC 3263 §4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// `maddr` or the host: a name, an IPv4 address, or an IPv6 address with or without brackets.
    pub host: String,
    /// Said expressly.
    pub port: Option<u16>,
    /// Settled: of a domain's services those over it are used, and no others.
    pub transport: Option<Transport>,
}

impl Target {
    /// Whether its host is an address, which needs no name server.
    pub fn is_address(&self) -> bool {
        numeric(&self.host).is_some()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// A place that a request may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// How.
    pub transport: Transport,
    /// Where.
    pub address: SocketAddr,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transport.uri_token(), self.address)
    }
}

/// What is known of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// These, never empty, in the order in which they are to be tried (RFC 3263 §4.3). Each call draws a new order by
    /// weight: one transaction uses one list.
    Ready {
        /// At most [`NAME_CANDIDATES_MAX`].
        candidates: Vec<Candidate>,
        /// When to resolve again; `None`: an address needs no resolving.
        until: Option<Instant>,
        /// Until when they hold if nobody answers any more; `None`: for ever.
        usable_until: Option<Instant>,
    },
    /// It is being asked for: resolve again when [`Resolver::changes`] has changed.
    Pending,
    /// It cannot be reached now.
    Failed(Failure),
}

/// Why a target cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The host is neither a name nor an address.
    NotAName,
    /// SIP is not offered there, or over no transport that we have.
    NotOffered,
    /// The name has no address of a kind that we can use.
    NoAddress,
    /// No name server answers, and nothing is known from before.
    NoAnswer,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAName => "neither a name nor an address",
            Self::NotOffered => "no SIP is offered there over UDP or TCP",
            Self::NoAddress => "the name has no address that can be reached from here",
            Self::NoAnswer => "no name server answers",
        })
    }
}

impl std::error::Error for Failure {}

/// What is resolved and remembered. It owns no socket: [`Resolver::next_order`] says what to do with them.
#[derive(Clone)]
pub struct Resolver {
    hosts: Hosts,
    queries: Queries,
    cache: Cache,
    failover: Failover,
    tokens: Tokens,
    /// Whether IPv4 addresses, and whether IPv6 addresses are of use.
    families: [bool; 2],
    changes: u64,
}

impl Resolver {
    /// Knows nothing yet. `families`: whether we have IPv4, and whether IPv6.
    pub fn new(seed: &[u8; 32], families: [bool; 2], servers: Servers, hosts: Hosts) -> Self {
        Self {
            hosts,
            queries: Queries::new(seed, servers),
            cache: Cache::default(),
            failover: Failover::default(),
            tokens: Tokens::new(seed, "name choices"),
            families,
            changes: 0,
        }
    }

    /// The system's files say something else. Other servers may know other names, so all is asked again; what was known
    /// holds until they answer.
    pub fn configure(&mut self, now: Instant, servers: Servers, hosts: Hosts) {
        if self.queries.set_servers(servers) {
            self.cache.expire_all(now);
            self.changed();
        }
        if self.hosts != hosts {
            self.hosts = hosts;
            self.changed();
        }
    }

    /// All is to be asked again, as if its time were over: somebody has perhaps mended what was wrong.
    pub fn ask_again(&mut self, now: Instant) {
        self.cache.expire_all(now);
        self.changed();
    }

    /// Where requests to a target go.
    pub fn resolve(&mut self, now: Instant, target: &Target) -> Resolution {
        self.resolve_again(now, target, &[])
    }

    /// The same for whoever has used these before: among equals he stays with what he has, in its order, instead of with
    /// what a new draw or a server that turns its answers round would give him.
    pub fn resolve_again(
        &mut self,
        now: Instant,
        target: &Target,
        former: &[Candidate],
    ) -> Resolution {
        if let Some(address) = numeric(&target.host) {
            let candidate = Candidate {
                transport: target.transport.unwrap_or(Transport::Udp),
                address: SocketAddr::new(address, target.port.unwrap_or(SIP_PORT)),
            };
            return Resolution::Ready {
                candidates: vec![candidate],
                until: None,
                usable_until: None,
            };
        }
        let Some(name) = Name::parse(&target.host) else {
            return Resolution::Failed(Failure::NotAName);
        };
        let mut found = Found::new(now);
        let transport = target.transport.unwrap_or(Transport::Udp);
        match target.port {
            Some(port) => self.add_host(now, &name, transport, port, &mut found),
            // Who writes a domain into /etc/hosts means this address, not what its services are elsewhere.
            None if self.hosts.get(&name).is_some() => {
                self.add_host(now, &name, transport, SIP_PORT, &mut found);
            }
            None => self.add_domain(now, &name, target.transport, &mut found),
        }
        self.conclude(now, found, former)
    }

    /// Bytes that came on the socket of an order. What does not answer its query is ignored.
    pub fn receive(&mut self, now: Instant, socket: SocketId, from: SocketAddr, bytes: &[u8]) {
        let ended = self.queries.receive(now, socket, from, bytes);
        self.learn(now, ended);
    }

    /// An order could not be carried out, its server refused, or the connection ended without an answer.
    pub fn unreachable(&mut self, now: Instant, socket: SocketId) {
        let ended = self.queries.unreachable(now, socket);
        self.learn(now, ended);
    }

    /// Time has passed.
    pub fn expire(&mut self, now: Instant) {
        while self.queries.is_due(now) {
            let ended = self.queries.expire(now);
            self.learn(now, ended);
        }
        if self.queries.note_late(now) {
            self.changed();
        }
    }

    /// When [`Resolver::expire`] has something to do; nothing while nobody is asked.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.queries.next_deadline()
    }

    /// What the shell is to do next, until there is nothing; to be read after every call.
    pub fn next_order(&mut self) -> Option<Order> {
        self.queries.next_order()
    }

    /// How often something was learned: whoever was told `Pending` looks again when this is another number.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// A request timed out there, its transport failed, or it was answered with 503; `retry_after`: what that said. For a
    /// while it comes last.
    pub fn failed(&mut self, now: Instant, candidate: Candidate, retry_after: Option<Duration>) {
        let Candidate { transport, address } = candidate;
        self.failover.failed(now, transport, address, retry_after);
    }

    /// A request was answered there; whether it had failed before.
    pub fn worked(&mut self, candidate: Candidate) -> bool {
        self.failover.worked(candidate.transport, candidate.address)
    }

    /// Until when it comes last, because it did not work; `None`: it does not.
    pub fn failed_until(&self, now: Instant, candidate: Candidate) -> Option<Instant> {
        let Candidate { transport, address } = candidate;
        self.failover.failed_until(now, transport, address)
    }

    /// Queries being asked, answers remembered, bytes of these.
    pub fn sizes(&self) -> (usize, usize, usize) {
        let (entries, bytes) = self.cache.size();
        (self.queries.len(), entries, bytes)
    }

    fn changed(&mut self) {
        self.changes = self.changes.wrapping_add(1);
    }

    fn learn(&mut self, now: Instant, ended: Option<(Question, Reply)>) {
        match ended {
            Some((
                question,
                Reply::Answer {
                    records,
                    authority,
                    is_name_error,
                },
            )) => {
                let (outcome, ttl) = outcome(&question, records, authority, is_name_error);
                self.cache.insert(question, outcome, now.plus(ttl));
            }
            Some((question, Reply::Failed)) => self.cache.insert_failure(now, question),
            None => return,
        }
        self.changed();
    }

    /// What is known about a question; what is not, or not any more, is asked.
    fn look_up(&mut self, now: Instant, name: &Name, kind: Kind) -> Known {
        let mut question = Question {
            name: name.clone(),
            kind,
        };
        let mut until = now.plus(NAME_TTL_MAX);
        let mut usable_until = until.plus(NAME_STALE);
        for _ in 0..=NAME_ALIASES_MAX {
            let is_late = self.queries.is_late(&question);
            let known = self.cache.get(now, &question);
            let failed = known.is_some_and(|entry| entry.outcome == Outcome::Failed);
            let known = known.filter(|entry| entry.fresh_until > now || is_late);
            let Some(entry) = known else {
                self.queries.ask(now, &question);
                return if failed {
                    Known::AskedAgain
                } else {
                    Known::Asked { is_late }
                };
            };
            // Beyond its time it is looked at again soon: the answer is on its way.
            until = until.min(entry.fresh_until.max(now.plus(NAME_TTL_MIN)));
            usable_until = usable_until.min(entry.usable_until);
            match entry.outcome.clone() {
                Outcome::Alias(name) => question.name = name,
                outcome => return Known::Is(outcome, until, usable_until),
            }
        }
        Known::Is(Outcome::Nothing, until, usable_until)
    }

    /// RFC 3263 §4.1 and §4.2 for a domain without a port.
    fn add_domain(
        &mut self,
        now: Instant,
        name: &Name,
        transport: Option<Transport>,
        found: &mut Found,
    ) {
        let ours = [Transport::Udp, Transport::Tcp];
        let ours = ours
            .iter()
            .filter(|own| transport.is_none_or(|t| t == **own));
        let usual: Vec<(Transport, Name)> = ours
            .filter_map(|&own| {
                let protocol = match own {
                    Transport::Udp => "_udp",
                    Transport::Tcp => "_tcp",
                };
                Some((own, name.of_service(["_sip", protocol])?))
            })
            .collect();
        for (_, service) in &usual {
            self.look_up(now, service, Kind::Srv);
        }
        let mut hosts = Found::new(now);
        let host_transport = transport.unwrap_or(Transport::Udp);
        self.add_host(now, name, host_transport, SIP_PORT, &mut hosts);
        let said = match self.services(now, name, transport, found) {
            _ if found.is_pending => return,
            Services::Some(services) => services,
            Services::NotOurs => return found.is_refused = true,
            Services::Unsaid => Vec::new(),
        };
        // Where NAPTR says nothing or leads nowhere, it is the services by their usual names; where there are no SRV records
        // at all (RFC 3263 §4.2), the domain itself is the host.
        let has_services = self.add_services(now, &said, found)
            || (!found.is_pending && self.add_services(now, &usual, found));
        if !has_services && !found.is_pending {
            found.append(hosts);
        }
    }

    /// What the domain's NAPTR records say (RFC 3263 §4.1): which of our transports it offers, and what its services are
    /// called; if the transport is settled, only the latter. Then nobody is waited for long: a server that swallows these
    /// questions says nothing, until it does.
    fn services(
        &mut self,
        now: Instant,
        name: &Name,
        transport: Option<Transport>,
        found: &mut Found,
    ) -> Services {
        let known = match self.look_up(now, name, Kind::Naptr) {
            Known::Asked { is_late: true } if transport.is_some() => Known::AskedAgain,
            known => known,
        };
        let mut own = Found::new(now);
        let outcome = own.note(now, known);
        if transport.is_some() {
            // Whatever there is beside it is an answer.
            (own.is_tried_again, own.is_unanswered) = (false, false);
        }
        found.append(own);
        let Some(outcome) = outcome else {
            return Services::Unsaid;
        };
        let records = outcome.iter().filter_map(|data| match data {
            Data::Naptr(naptr) => Some(naptr),
            _ => None,
        });
        services(records, transport)
    }

    /// Adds the hosts of these services in order; whether there are any, or decidedly none.
    fn add_services(
        &mut self,
        now: Instant,
        services: &[(Transport, Name)],
        found: &mut Found,
    ) -> bool {
        let mut hosts = Vec::new();
        let mut is_said = false;
        for (preference, (transport, service)) in services.iter().enumerate() {
            let Some(records) = found.note(now, self.look_up(now, service, Kind::Srv)) else {
                continue;
            };
            is_said |= !records.is_empty();
            let records = records.into_iter().filter_map(|data| match data {
                Data::Srv(srv) => Some(srv),
                _ => None,
            });
            let drawn = draw(records.collect(), &mut self.tokens);
            hosts.extend((drawn.into_iter()).map(|srv| (preference, *transport, srv)));
        }
        // A host that is the root: decidedly not here (RFC 2782).
        hosts.retain(|(_, _, srv): &(usize, Transport, Srv)| !srv.host.is_root() && srv.port > 0);
        found.is_refused |= is_said && hosts.is_empty();
        let mut last = None;
        for (preference, transport, srv) in hosts.into_iter().take(NAME_HOSTS_MAX) {
            if last.replace((preference, srv.priority)) != Some((preference, srv.priority)) {
                found.rank = found.rank.saturating_add(1);
            }
            self.add_host(now, &srv.host, transport, srv.port, found);
        }
        is_said
    }

    /// The addresses of one host, IPv6 first (RFC 7984, RFC 6724).
    fn add_host(
        &mut self,
        now: Instant,
        name: &Name,
        transport: Transport,
        port: u16,
        found: &mut Found,
    ) {
        let [has_v4, has_v6] = self.families;
        let kinds = [(has_v6, Kind::Aaaa), (has_v4, Kind::A)];
        let mut addresses: Vec<IpAddr> = Vec::new();
        match self.hosts.get(name) {
            Some(own) => {
                addresses.extend(own.iter().filter(|address| address.is_ipv6()));
                addresses.extend(own.iter().filter(|address| address.is_ipv4()));
            }
            None => {
                for (_, kind) in kinds.into_iter().filter(|(is_ours, _)| *is_ours) {
                    let known = found.note(now, self.look_up(now, name, kind));
                    addresses.extend(known.into_iter().flatten().filter_map(|data| match data {
                        Data::A(v4) => Some(IpAddr::V4(v4)),
                        Data::Aaaa(v6) => Some(IpAddr::V6(v6).to_canonical()),
                        _ => None,
                    }));
                }
            }
        }
        for address in addresses {
            let is_ours = if address.is_ipv4() { has_v4 } else { has_v6 };
            let candidate = Candidate {
                transport,
                address: SocketAddr::new(address, port),
            };
            if is_ours
                && !address.is_unspecified()
                && !address.is_multicast()
                && !found.candidates.iter().any(|(_, own)| *own == candidate)
            {
                found.candidates.push((found.rank, candidate));
            }
        }
    }

    fn conclude(&self, now: Instant, found: Found, former: &[Candidate]) -> Resolution {
        let mut candidates = found.candidates;
        if found.is_pending || (found.is_tried_again && candidates.is_empty()) {
            return Resolution::Pending;
        }
        if candidates.is_empty() {
            return Resolution::Failed(if found.is_refused {
                Failure::NotOffered
            } else if found.is_unanswered {
                Failure::NoAnswer
            } else {
                Failure::NoAddress
            });
        }
        // Stable: among those that work, and among those that do not, the order stays.
        candidates.sort_by_cached_key(|(rank, candidate)| {
            let place = former.iter().position(|own| own == candidate);
            let is_failed = self.failed_until(now, *candidate).is_some();
            (is_failed, *rank, place.unwrap_or(usize::MAX))
        });
        candidates.truncate(NAME_CANDIDATES_MAX);
        Resolution::Ready {
            candidates: (candidates.into_iter())
                .map(|(_, candidate)| candidate)
                .collect(),
            until: Some(found.until),
            usable_until: Some(found.usable_until),
        }
    }
}

/// What a question is known to be answered with.
enum Known {
    /// This, until then, and until then if nobody answers.
    Is(Outcome, Instant, Instant),
    /// It is being asked; `is_late`: for longer than one waits who has an old answer.
    Asked { is_late: bool },
    /// Nobody answered the last time, and it is being asked again: no reason to wait if there is something else.
    AskedAgain,
}

/// What was found on the way.
struct Found {
    /// Each with its rank: what has the same is equally good (RFC 2782, RFC 3403).
    candidates: Vec<(u32, Candidate)>,
    rank: u32,
    /// The first of what it is made of that has to be asked again.
    until: Instant,
    /// The first of it that may not be used any more then.
    usable_until: Instant,
    /// Something is being asked.
    is_pending: bool,
    /// Something that nobody answered is being asked again.
    is_tried_again: bool,
    /// Something was asked, and nobody answers.
    is_unanswered: bool,
    /// The domain says that it has nothing for us.
    is_refused: bool,
}

impl Found {
    fn new(now: Instant) -> Self {
        Self {
            candidates: Vec::new(),
            rank: 0,
            until: now.plus(NAME_TTL_MAX),
            usable_until: now.plus(NAME_TTL_MAX).plus(NAME_STALE),
            is_pending: false,
            is_tried_again: false,
            is_unanswered: false,
            is_refused: false,
        }
    }

    /// Takes the records out of what was looked up, and notes what it was beside them. `None`: it is being asked.
    fn note(&mut self, now: Instant, known: Known) -> Option<Vec<Data>> {
        let (outcome, until) = match known {
            Known::Is(outcome, until, usable_until) => {
                self.usable_until = self.usable_until.min(usable_until);
                (outcome, until)
            }
            Known::AskedAgain => {
                self.is_tried_again = true;
                (Outcome::Failed, now.plus(NAME_TTL_MIN))
            }
            Known::Asked { .. } => {
                self.is_pending = true;
                return None;
            }
        };
        self.until = self.until.min(until);
        match outcome {
            Outcome::Records(records) => return Some(records),
            Outcome::Failed => self.is_unanswered = true,
            Outcome::Nothing | Outcome::Alias(_) => {}
        }
        Some(Vec::new())
    }

    fn append(&mut self, other: Self) {
        self.candidates.extend(other.candidates);
        self.until = self.until.min(other.until);
        self.usable_until = self.usable_until.min(other.usable_until);
        self.is_pending |= other.is_pending;
        self.is_tried_again |= other.is_tried_again;
        self.is_unanswered |= other.is_unanswered;
    }
}

/// A host that is an address.
fn numeric(host: &str) -> Option<IpAddr> {
    let inside = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match inside {
        Some(v6) => Some(IpAddr::V6(v6.parse().ok()?)),
        None => host.parse().ok(),
    }
}

/// What an answer says about its question, and how long that holds. Only records that the question leads to by its aliases
/// count: all others a name server may have from anybody.
fn outcome(
    question: &Question,
    records: Vec<Record>,
    authority: Option<Authority>,
    is_name_error: bool,
) -> (Outcome, Duration) {
    let mut name = &question.name;
    let mut ttl = u32::MAX;
    for _ in 0..=NAME_ALIASES_MAX {
        let own = records.iter().filter(|record| record.owner == *name);
        let wanted = own
            .clone()
            .filter(|record| record.data.kind() == Some(question.kind))
            .take(NAME_RECORDS_MAX);
        if let Some(shortest) = wanted.clone().map(|record| record.ttl).min() {
            let data = wanted.map(|record| record.data.clone()).collect();
            return (Outcome::Records(data), positive(ttl.min(shortest)));
        }
        let mut aliases = own.filter_map(|record| match &record.data {
            Data::Cname(target) => Some((target, record.ttl)),
            _ => None,
        });
        let Some((target, alias_ttl)) = aliases.next() else {
            break;
        };
        (name, ttl) = (target, ttl.min(alias_ttl));
    }
    // Who answers for there being nothing must be a parent of the name.
    let authority = authority.filter(|authority| name.is_within(&authority.owner));
    if *name != question.name && authority.is_none() && !is_name_error {
        return (Outcome::Alias(name.clone()), positive(ttl));
    }
    let negative = authority.map_or(NAME_NEGATIVE_TTL, |authority| {
        Duration::from_secs(ttl.min(authority.ttl).into())
    });
    let negative = negative.clamp(NAME_TTL_MIN, NAME_NEGATIVE_TTL_MAX);
    (Outcome::Nothing, negative)
}

fn positive(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into()).clamp(NAME_TTL_MIN, NAME_TTL_MAX)
}
