//! Messages that cross: a small office on virtual time, in which everything that two people may do to a call happens within the
//! same millisecond, or so that one's message passes the other's on the wire.
//!
//! A seed is a number of rounds. In each a few calls are brought where they are to be, then two or three clash (`clash`):
//! answers, CANCELs, transfers, re-INVITEs, pickups, timeouts, an administrator, a power cut. After a time in which every
//! timer has run out both sides must agree on what is left (`checks`); then everybody hangs up at once, and nothing may be left.

mod checks;
mod clash;
mod scenes;
mod setup;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use self::clash::{CLASHES, Clash};
use super::fleet::{Fleet, Step, any_transport, read};
use super::invariants;
use super::network::Link;
use super::phone::led::Move;
use super::phone::{Habits, Phone};
use super::random::Random;
use super::world::World;
use crate::api::{Answer, Command};

use crate::source::{Place, Transport};
use crate::time::Instant;

/// Clashes of one seed.
const ROUNDS: usize = 24;
/// The first in the list of phones.
const TRUNK: usize = 0;
const CALLS_MAX: usize = 50;
const RING_TIMEOUT: Duration = Duration::from_secs(20);
/// Each member of a linear group, or all of another.
const GROUP_RINGS: Duration = Duration::from_secs(4);
/// Before the first round everybody registers.
const MORNING: Duration = Duration::from_secs(10);
/// After the beginning of a round every call is answered or over: what rings, hunts or goes on has no time left, no BYE or
/// ACK is repeated any more. Sessions of phones with timers have been refreshed once.
const SETTLED: Duration = Duration::from_secs(80);
/// After everybody has hung up everything is over: 64·T1 and a little more.
const OVER: Duration = Duration::from_secs(45);
/// Within this the server has stopped.
const STOP: Duration = Duration::from_secs(5);
/// Then the phones are off, and their registrations run out.
const SILENCE: Duration = Duration::from_secs(1_000);
/// Loss, per mille, up to which the tries of a request are enough.
const HARMLESS_LOSS: u32 = 50;
/// Lanes' places that are looked at.
const PLACES_MAX: usize = 256;

/// What happened, for people and to see that something did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rounds by what clashed: how many there were, and in how many of them a call was up when all had settled.
    pub clashes: [(usize, usize); CLASHES.len()],
    /// INVITEs of phones.
    pub invites: usize,
    /// Calls that were answered.
    pub answered: usize,
    /// Calls whose caller sent CANCEL, and those of them that were answered all the same.
    pub cancelled: (usize, usize),
    /// Answers of phones that were sent BYE or CANCEL within a second: somebody else was first.
    pub too_late: usize,
    /// re-INVITEs that got 491.
    pub glares: usize,
    /// Reliable provisional responses.
    pub pracks: usize,
    /// Records of calls that come of transfers.
    pub transfers: usize,
    /// Calls that were picked up.
    pub pickups: usize,
    /// Calls that were up when the power of the server went.
    pub interrupted: usize,
    /// What phones were told to do, and what of that found nothing to be done to.
    pub moves: (usize, usize),
}

impl Summary {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in self.clashes.iter_mut().zip(&other.clashes) {
            *own = (own.0 + other.0, own.1 + other.1);
        }
        self.invites += other.invites;
        self.answered += other.answered;
        self.cancelled.0 += other.cancelled.0;
        self.cancelled.1 += other.cancelled.1;
        self.too_late += other.too_late;
        self.glares += other.glares;
        self.pracks += other.pracks;
        self.transfers += other.transfers;
        self.pickups += other.pickups;
        self.interrupted += other.interrupted;
        self.moves.0 += other.moves.0;
        self.moves.1 += other.moves.1;
    }
}

/// What happens in a round, at one moment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    /// A phone does this.
    Make(usize, Move),
    /// A phone registers.
    Register(usize),
    /// The server hears a phone from another port; it registers from there.
    MoveAway(usize),
    PowerCut(usize),
    PowerOn(usize),
    /// The administrator hangs up whatever call there is.
    HangUp,
    /// The server is told to stop, and is started again.
    Stop,
    /// The power of the server goes.
    Restart,
}

/// What is to be known of a round when it is looked at.
#[derive(Clone, Debug, Default)]
struct Round {
    begin: Instant,
    clashes: Vec<Clash>,
    /// The server lost its power: what it knew of calls is gone.
    is_restarted: bool,
    /// The server was told to stop, or an administrator hung up.
    is_ended_by_server: bool,
}

struct Races {
    seed: u64,
    text: String,
    link: Link,
    fleet: Fleet,
    random: Random,
    /// Those of one moment in the order in which they were planned.
    plan: BinaryHeap<Reverse<(Instant, u64, Act)>>,
    planned: u64,
    restarts: u64,
    /// When each phone was cut off last.
    shaken: Vec<Option<Instant>>,
    /// Lanes' places when nobody was registered.
    places: Vec<Place>,
    round: Round,
    summary: Summary,
}

/// Plays one seed.
///
/// # Errors
/// The invariant that does not hold.
///
/// # Panics
/// When the server sends something that does not parse, or spins.
pub fn run(seed: u64) -> Result<Summary, String> {
    let mut races = Races::new(seed)?;
    for index in TRUNK + 1..races.fleet.phones.len() - 1 {
        races.fleet.register(index);
    }
    races.pass(MORNING)?;
    for number in 0..ROUNDS {
        races.play_round().map_err(|error| {
            let clashes = &races.round.clashes;
            format!("round {number} {clashes:?}: {error}")
        })?;
    }
    races.fleet.turn_off();
    races.pass(SILENCE)?;
    races.check_silence()?;
    Ok(races.summary)
}

impl Races {
    /// One round, or two on the same phones.
    fn play_round(&mut self) -> Result<(), String> {
        self.round = Round {
            begin: self.fleet.now(),
            ..Round::default()
        };
        let count = if self.random.chance(250) { 2 } else { 1 };
        for _ in 0..count {
            let clash = CLASHES[self.random.below(CLASHES.len() as u64) as usize];
            self.round.clashes.push(clash);
            self.plan_clash(clash);
        }
        self.pass(SETTLED)?;
        self.check_settled()?;
        // And this is a clash once more: both sides at once.
        for index in 0..self.fleet.phones.len() {
            let after = self.crossing();
            self.later(after, Act::Make(index, Move::HangUpAll));
        }
        self.pass(OVER)?;
        self.check_over()?;
        self.begin_anew();
        Ok(())
    }

    /// Whoever is not registered any more is again; codes are dialled away.
    fn begin_anew(&mut self) {
        for index in TRUNK + 1..self.fleet.phones.len() - 1 {
            let phone = &self.fleet.phones[index];
            if !phone.is_registered {
                self.fleet.register(index);
            }
        }
        let has_codes = self.round.clashes.contains(&Clash::Codes);
        for index in TRUNK + 1..self.fleet.phones.len() {
            if has_codes {
                for code in ["*73", "*79"] {
                    self.later(Duration::from_secs(1), Act::Make(index, dial(code)));
                }
            }
        }
    }

    fn later(&mut self, after: Duration, act: Act) {
        self.planned += 1;
        let at = self.fleet.now().plus(after);
        self.plan.push(Reverse((at, self.planned, act)));
    }

    /// How much later than the other the second of two acts happens: at the same moment, within a millisecond, while the
    /// first one's message is on its way, when it arrives at the server, or when what follows from it arrives at the other side.
    fn crossing(&mut self) -> Duration {
        let (delay, millisecond) = (self.link.delay, Duration::from_millis(1));
        let about = |random: &mut Random, at: Duration| {
            (at + random.up_to(2 * millisecond)).saturating_sub(millisecond)
        };
        match self.random.below(6) {
            0 => Duration::ZERO,
            1 => self.random.up_to(millisecond),
            2 => self.random.up_to(4 * delay),
            3 => about(&mut self.random, delay),
            4 => about(&mut self.random, 2 * delay),
            _ => self.random.up_to(2 * delay),
        }
    }

    /// Lets so much time pass.
    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let end = self.fleet.now().plus(time);
        loop {
            let next = self.plan.peek().map(|Reverse((at, _, _))| *at);
            let until = next.map_or(end, |at| at.min(end));
            if self.fleet.step(until) != Step::End {
                continue;
            }
            if next.is_none_or(|at| at > until) {
                return Ok(());
            }
            if let Some(Reverse((_, _, act))) = self.plan.pop() {
                self.act(act)?;
            }
        }
    }

    fn act(&mut self, act: Act) -> Result<(), String> {
        match act {
            Act::Make(index, order) => {
                let is_done = self.fleet.make(index, &order);
                self.summary.moves.0 += 1;
                self.summary.moves.1 += usize::from(!is_done);
            }
            Act::Register(index) => self.fleet.register(index),
            Act::MoveAway(index) => {
                self.fleet.disconnect(index);
                self.fleet.move_phone(index);
                self.is_shaken(index);
                self.fleet.register(index);
            }
            Act::PowerCut(index) => {
                self.fleet.phones[index].is_off = true;
                self.is_shaken(index);
            }
            Act::PowerOn(index) => {
                let keeps_nonce = self.random.chance(500);
                let phone = &mut self.fleet.phones[index];
                let (address, is_stream) = (phone.address, phone.transport == Transport::Tcp);
                phone.reboot(address, keeps_nonce);
                phone.is_off = false;
                self.is_shaken(index);
                if is_stream && index != TRUNK {
                    self.fleet.move_phone(index);
                } else {
                    self.fleet.disconnect(index);
                }
                if index != TRUNK && index + 1 < self.fleet.phones.len() {
                    self.fleet.register(index);
                }
            }
            Act::HangUp => {
                self.round.is_ended_by_server = true;
                self.administrator_hangs_up();
            }
            Act::Stop => {
                self.round.is_ended_by_server = true;
                self.fleet.world.stop();
                self.later(STOP, Act::Restart);
            }
            Act::Restart => self.restart()?,
        }
        Ok(())
    }

    /// It no longer hears what answers its calls.
    fn is_shaken(&mut self, index: usize) {
        self.fleet.phones[index].is_cut_off();
        self.shaken[index] = Some(self.fleet.now());
    }

    fn administrator_hangs_up(&mut self) {
        let (after, limit) = (None, CALLS_MAX);
        let world = &mut self.fleet.world;
        if let Answer::Calls(page) = world.command(Command::Calls { after, limit }) {
            for item in page.items {
                world.command(Command::Hangup { call: item.id });
            }
        }
    }

    /// The power of the server goes, or it is started again after a stop.
    fn restart(&mut self) -> Result<(), String> {
        let was_stopped = self.round.is_ended_by_server;
        if was_stopped {
            self.check_stopped()?;
        }
        self.round.is_restarted = true;
        self.restarts += 1;
        let seed = self.seed + (self.restarts << 32);
        let down = Duration::from_millis(self.random.between(1, 2_000));
        self.summary.interrupted += self.fleet.world.interrupt();
        let config = read(&self.text)?;
        self.fleet.world.restart(config, seed, down);
        for index in 0..self.fleet.phones.len() {
            self.is_shaken(index);
            if self.fleet.phones[index].transport == Transport::Tcp {
                self.fleet.phones[index].disconnected();
                if index != TRUNK && !self.fleet.phones[index].is_off {
                    self.fleet.register(index);
                }
            }
        }
        Ok(())
    }
}

fn dial(number: &str) -> Move {
    Move::Dial(number.to_owned())
}
