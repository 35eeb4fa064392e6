//! Sieges: the production endpoint on virtual time, honest phones, and floods of packets whose sources may be forged.
//!
//! | play | who is inside | who is outside |
//! | --- | --- | --- |
//! | `office` | 200 phones behind one address after a power cut | one of them, whose password is wrong |
//! | `carrier` | a trunk that makes 50 calls a second | banned, patient and forged sources |
//! | `line` | a line that registers, calls and is called | the same, and whoever forges its carrier's address |
//! | `victim` | a phone that registers and calls | whoever forges its address |
//! | `newcomer` | a phone that nobody knows yet | 60,000 sources below every threshold |
//!
//! A play is a function from a seed to what happened, or to what does not hold; `invariants` has what must hold in all of
//! them. Floods do not go through the simulated network: their packets arrive when they are due, so that a second of
//! 50,000 costs no more than the server's work on them. There is no queue in front of the server: what a kernel's buffer
//! loses is not played here.

pub mod carrier;
pub(super) mod junk;
pub mod line;
pub mod newcomer;
pub mod office;
pub mod victim;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::invariants;
use super::network::Link;
use super::phone::{Phone, Sent};
use super::random::Random;
use super::world::{Delivery, Seen, World};
use crate::config::Config;
use crate::message::{HeaderName, parse};
use crate::source::Transport;
use crate::time::Instant;

/// Where the server is.
const SERVER: ([u8; 4], u16) = ([192, 0, 2, 1], 5060);
/// Credentials of phones that forgers know: of those who registered before the first flood. Who hears a packet on its way
/// and is faster than it is takes its place; no guard can tell, so that is not played.
const OVERHEARD_MAX: usize = 32;

/// What happened, for people and to see that something did. Plays add to what they have of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packets of floods.
    pub flood: u64,
    /// Phones that registered.
    pub registered: usize,
    /// The longest time that one of them took, from when it was to begin.
    pub slowest: Duration,
    /// Calls that got a final response.
    pub calls: usize,
    /// Sources banned.
    pub banned: usize,
}

impl Summary {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.flood += other.flood;
        self.registered += other.registered;
        self.slowest = self.slowest.max(other.slowest);
        self.calls += other.calls;
        self.banned += other.banned;
    }
}

/// A plan of a phone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    Register,
    Call(String),
    /// A carrier calls an account of his.
    CallAccount(usize),
}

/// What a flood's packets are made from.
pub(super) struct Material<'a> {
    pub(super) random: &'a mut Random,
    /// How many this flood has sent.
    pub(super) number: u64,
    /// Authorization values of phones.
    pub(super) overheard: &'a [Vec<u8>],
}

/// Writes a packet and says where it comes from.
type Forge = Box<dyn FnMut(&mut Material<'_>, &mut Vec<u8>) -> SocketAddr>;

/// Packets from outside.
struct Flood {
    random: Random,
    next: Instant,
    until: Instant,
    /// Between two packets on average.
    gap: Duration,
    sent: u64,
    bytes_sent: u64,
    forge: Forge,
}

impl Flood {
    /// So many packets a second, from `from` for so long.
    fn new(random: Random, (from, lasts): (Instant, Duration), rate: u32, forge: Forge) -> Self {
        Self {
            random,
            next: from,
            until: from.plus(lasts),
            gap: Duration::from_secs(1) / rate,
            sent: 0,
            bytes_sent: 0,
            forge,
        }
    }

    fn next(&self) -> Option<Instant> {
        Some(self.next).filter(|next| *next < self.until)
    }
}

struct Siege {
    world: World,
    phones: Vec<Phone>,
    floods: Vec<Flood>,
    by_address: BTreeMap<SocketAddr, usize>,
    /// When each phone does something by itself; some entries are of the past.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    plan: BinaryHeap<Reverse<(Instant, (usize, Act))>>,
    /// See [`OVERHEARD_MAX`].
    overheard: Vec<Vec<u8>>,
    buffer: Vec<u8>,
    /// Calls to accounts that were not registered.
    uncalled: usize,
    /// `TRACE=1`: every message of a phone on standard output.
    is_traced: bool,
}

fn server() -> SocketAddr {
    SocketAddr::from(SERVER)
}

/// The server's configuration: `more`, and these users with [`password`].
fn configuration(users: &[String], more: &str) -> Result<Config, String> {
    let address = server();
    let mut text = format!("[server]\nlisten = udp:{address}, tcp:{address}\n{more}");
    for user in users {
        text.push_str(&format!("[user {user}]\npassword = {}\n", password(user)));
    }
    Config::read(&text, Path::new(".")).map_err(|mistakes| format!("{mistakes:?}"))
}

fn password(user: &str) -> String {
    format!("Siege-Phone-{user}")
}

fn phone(user: &str, address: SocketAddr, random: &Random) -> Phone {
    let password = password(user);
    Phone::new(user, &password, address, server(), Transport::Udp, random)
}

/// Good lines with a packet lost now and then.
fn link(random: &mut Random) -> Link {
    Link {
        delay: Duration::from_millis(random.between(1, 60)),
        jitter: Duration::from_millis(random.between(0, 30)),
        loss: random.below(11) as u32,
        duplicate: random.below(30) as u32,
        reorder: random.below(30) as u32,
        hold: Duration::from_millis(random.between(1, 200)),
        corrupt: 0,
    }
}

/// What is due next.
fn take_due<T: Ord>(heap: &mut BinaryHeap<Reverse<(Instant, T)>>, now: Instant) -> Option<T> {
    if heap.peek().is_none_or(|Reverse((at, _))| *at > now) {
        return None;
    }
    heap.pop().map(|Reverse((_, what))| what)
}

impl Siege {
    fn new(world: World, phones: Vec<Phone>) -> Self {
        let mut siege = Self {
            world,
            phones,
            floods: Vec::new(),
            by_address: BTreeMap::new(),
            due: BinaryHeap::new(),
            plan: BinaryHeap::new(),
            overheard: Vec::new(),
            buffer: Vec::new(),
            uncalled: 0,
            is_traced: std::env::var("TRACE").is_ok(),
        };
        siege.find_phones();
        siege
    }

    /// Phones are where their address says.
    fn find_phones(&mut self) {
        let places = self.phones.iter().enumerate();
        self.by_address = places
            .map(|(index, phone)| (phone.address, index))
            .collect();
    }

    fn now(&self) -> Instant {
        self.world.now().mono
    }

    fn plan(&mut self, at: Instant, phone: usize, act: Act) {
        self.plan.push(Reverse((at, (phone, act))));
    }

    /// Lets so much time pass.
    fn pass(&mut self, time: Duration) {
        self.run_until(self.now().plus(time));
    }

    /// Lets everybody act until `end`.
    fn run_until(&mut self, end: Instant) {
        loop {
            let now = self.now();
            let floods = self.floods.iter().filter_map(Flood::next).min();
            let due = self.due.peek().map(|Reverse((at, _))| *at);
            let planned = self.plan.peek().map(|Reverse((at, _))| *at);
            let next = [floods, due, planned].into_iter().flatten().min();
            let until = next.unwrap_or(end).min(end).max(now);
            if let Some(delivery) = self.world.run(until) {
                self.deliver(delivery);
                continue;
            }
            self.act();
            if until >= end {
                return;
            }
        }
    }

    /// Everything that is due at this moment.
    fn act(&mut self) {
        let now = self.now();
        for flood in &mut self.floods {
            while flood.next().is_some_and(|at| at <= now) {
                self.buffer.clear();
                let mut material = Material {
                    random: &mut flood.random,
                    number: flood.sent,
                    overheard: &self.overheard,
                };
                let from = (flood.forge)(&mut material, &mut self.buffer);
                flood.sent += 1;
                flood.bytes_sent += self.buffer.len() as u64;
                let gap = flood.random.up_to(flood.gap * 2);
                flood.next = flood.next.plus(gap.max(Duration::from_micros(1)));
                self.world.input_datagram(from, &self.buffer);
            }
        }
        while let Some((index, act)) = take_due(&mut self.plan, now) {
            let mut sent = Sent::default();
            match act {
                Act::Register => self.phones[index].register(now, &mut sent),
                Act::Call(number) => self.phones[index].call(now, &number, &mut sent),
                Act::CallAccount(account) => {
                    let is_called = self.phones[index].call_account(now, account, &mut sent);
                    self.uncalled += usize::from(!is_called);
                }
            }
            self.post(index, sent);
        }
        while let Some(index) = take_due(&mut self.due, now) {
            let phone = &mut self.phones[index];
            if phone.next_deadline().is_some_and(|at| at <= now) {
                let mut sent = Sent::default();
                phone.tick(now, &mut sent);
                self.post(index, sent);
            }
        }
    }

    fn deliver(&mut self, delivery: Delivery) {
        let Some(index) = self.by_address.get(&delivery.to).copied() else {
            return;
        };
        let Seen::Datagram(bytes) = delivery.seen else {
            return;
        };
        if self.is_traced {
            self.trace(index, "<", &bytes);
        }
        // The refusal of what was malformed repeats it: nothing that the phone ever sent.
        if bytes.starts_with(b"SIP/2.0 400 ") && parse(&bytes).is_err() {
            return;
        }
        let now = self.now();
        let mut sent = Sent::default();
        self.phones[index].receive(now, &bytes, &mut sent);
        self.post(index, sent);
    }

    /// What a phone sends goes onto the network.
    fn post(&mut self, index: usize, sent: Sent) {
        let address = self.phones[index].address;
        for bytes in sent.0 {
            if self.is_traced {
                self.trace(index, ">", &bytes);
            }
            if self.floods.is_empty() && self.overheard.len() < OVERHEARD_MAX {
                self.overhear(&bytes);
            }
            self.world.send(address, &bytes);
        }
        if let Some(at) = self.phones[index].next_deadline() {
            self.due.push(Reverse((at, index)));
        }
    }

    fn overhear(&mut self, bytes: &[u8]) {
        let Ok(message) = parse(bytes) else { return };
        if let Some(value) = message.value(HeaderName::Authorization) {
            self.overheard.push(value.to_vec());
        }
    }

    fn trace(&self, index: usize, way: &str, bytes: &[u8]) {
        let Ok(message) = parse(bytes) else { return };
        let at = self.now().as_micros() / 1000;
        let line = bytes.split(|byte| *byte == b'\r').next();
        println!(
            "{at:>8} {} {way} {} | {} | {}",
            self.phones[index].address,
            String::from_utf8_lossy(line.unwrap_or_default()),
            String::from_utf8_lossy(message.call_id()),
            message.cseq().number
        );
    }

    /// What must hold whatever the play.
    fn check(&self, honest: &[Phone]) -> Result<(), String> {
        invariants::nobody_honest_is_banned(&self.world, honest)?;
        invariants::nothing_honest_is_lost(honest)?;
        invariants::nobody_is_accused(honest)?;
        invariants::every_call_has_its_record(&self.world, honest)?;
        match self.world.endpoint.census().outputs_dropped {
            0 => Ok(()),
            dropped => Err(format!("{dropped} outputs found no room")),
        }
    }

    /// Every one of these is registered, within so long from `began`; the longest time that one took.
    fn registered_within(
        honest: &[Phone],
        began: Instant,
        within: Duration,
    ) -> Result<Duration, String> {
        let mut slowest = Duration::ZERO;
        let mut late = Vec::new();
        for phone in honest {
            let took = phone.registered_at.map(|at| at.since(began));
            match took {
                Some(took) if took <= within && phone.is_registered => slowest = slowest.max(took),
                _ => late.push(format!("{} {took:?}", phone.user)),
            }
        }
        if late.is_empty() {
            return Ok(slowest);
        }
        Err(format!(
            "{} of {} phones are not registered within {within:?}: {}",
            late.len(),
            honest.len(),
            late.join(", ")
        ))
    }

    fn summary(&self) -> Summary {
        Summary {
            flood: self.floods.iter().map(|flood| flood.sent).sum(),
            registered: self
                .phones
                .iter()
                .filter(|phone| phone.is_registered)
                .count(),
            slowest: Duration::ZERO,
            calls: self.phones.iter().map(|phone| phone.outcomes.len()).sum(),
            banned: self.world.banned.len(),
        }
    }
}
