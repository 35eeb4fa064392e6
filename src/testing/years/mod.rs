//! Whole years of the server's life, half an hour a seed: 20 phones, some behind NATs, some over TCP, a carrier, at least 50 calls,
//! forgers and crackers, and a plan of what goes wrong: the network (it loses, doubles, reorders, delays, corrupts, and NATs
//! change), the disk (full, slow, a batch lost with the power), the process (killed at any write, stopped, put to sleep), both
//! clocks, and the configuration, which is read again.
//!
//! | file | what |
//! | --- | --- |
//! | `plan` | what is to happen, as data: drawn from the seed, written and read as text |
//! | `people` | phones, NATs, the carrier, their configuration |
//! | `attackers` | forgers, crackers, scanners |
//! | `faults` | how the plan's entries are carried out |
//! | `door` | what leaves the server, to peers and to the disk, is looked at |
//! | `judge` | the list of what must hold |
//! | `shrink` | a plan that fails is made as small as it can be |
//!
//! ```text
//!   0 s  everybody registers   30 s … 1,080 s  calls and faults   1,400 s  all calls are over: judged
//!   then everybody is off      1,800 s  nothing is left: judged, and what the disk has
//! ```

pub mod attackers;
pub mod door;
mod faults;
pub mod judge;
pub mod people;
pub mod plan;
pub mod shrink;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::hash::Hasher;
use std::time::Duration;

use self::attackers::Attackers;
use self::door::{Door, Sabotage};
use self::judge::{Ended, Facts, Troubles};
use self::people::{CARRIER, People, RING_TIMEOUT};
use self::plan::{Deed, Plan};
use super::fleet::{Fleet, Step, read};
use super::invariants;
use super::network::Link;
use super::phone::Outcome;
use super::random::Random;
use super::reader;
use super::world::World;
use crate::config::Config;
use crate::time::Instant;

/// All calls are over.
const OVER: Duration = Duration::from_secs(1_400);
/// The end, if nothing is left.
const END: Duration = Duration::from_secs(1_800);
/// Who was gone without a word is missed by the server after two probes: so often it is looked once more.
const LAST_LOOKS: u32 = 20;
/// Between two looks at what must hold at any time.
const LOOK: Duration = Duration::from_secs(10);
/// Lines that are no more have unregistered after this.
const GOODBYE: Duration = Duration::from_secs(6);
/// What was to be kept so long before the end is on the disk.
const KEPT: Duration = Duration::from_secs(40);

/// What happened, for people and to see that something did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls that somebody began.
    pub calls: usize,
    /// Calls that were answered.
    pub answered: usize,
    /// INVITEs that got no final answer: somebody was cut off, or the server was gone.
    pub unanswered: usize,
    /// What went wrong by plan, by its kind.
    pub faults: BTreeMap<&'static str, usize>,
    /// Processes that were killed.
    pub kills: usize,
    /// Processes that were stopped.
    pub stops: usize,
    /// Batches that were written to the disk.
    pub writes: u64,
    /// Packets on the network.
    pub packets: u64,
    /// Packets of attackers.
    pub attacks: u64,
    /// Sources that were banned.
    pub banned: usize,
    /// Datagrams that were corrupted.
    pub corrupted: usize,
    /// What did not hold, and needed not: see `judge`.
    pub excused: usize,
    /// Of all that the server has sent, when and to whom.
    pub trace: u64,
    /// Virtual time.
    pub time: Duration,
}

impl Summary {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.unanswered += other.unanswered;
        for (kind, count) in &other.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
        self.kills += other.kills;
        self.stops += other.stops;
        self.writes += other.writes;
        self.packets += other.packets;
        self.attacks += other.attacks;
        self.banned += other.banned;
        self.corrupted += other.corrupted;
        self.excused += other.excused;
        self.trace ^= other.trace;
        self.time += other.time;
    }
}

/// What follows from an entry of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Then {
    /// What was wrong with a way is over.
    WayOver,
    Register(usize),
    PowerOn(usize, bool),
    KillIfArmed,
    Start,
    /// The stop has ended, or must by then; of which process.
    Stopping(Instant, u64),
    DiskIsFast,
    Look,
}

/// Something that is wrong with a way.
#[derive(Clone, Copy, Debug)]
struct Way {
    trouble: plan::Trouble,
    much: u32,
    until: Instant,
    whose: Option<usize>,
}

struct Years {
    seed: u64,
    config: Config,
    /// What the file says after the next reload.
    next_config: Config,
    text: String,
    /// Calls at a time.
    calls_max: usize,
    fleet: Fleet,
    random: Random,
    begin: Instant,
    /// What is still to happen, the next one last.
    plan: Vec<(u64, Deed)>,
    queue: BinaryHeap<Reverse<(Instant, u64, Then)>>,
    queued: u64,
    attackers: Attackers,
    /// The way of everybody while nothing is wrong.
    link: Link,
    ways: Vec<Way>,
    troubles: Troubles,
    ends: Vec<Ended>,
    tainted: BTreeSet<Vec<u8>>,
    sabotage: Option<Sabotage>,
    excuses: RefCell<BTreeSet<String>>,
    /// How the process is to be killed.
    armed: Option<&'static str>,
    /// Until when what is heard may be noise, and may be taken for what it was not.
    noisy_until: Instant,
    damaging_until: Instant,
    /// After how many milliseconds the next process begins.
    down_ms: u64,
    /// The process has ended, and everybody knows.
    is_mourned: bool,
    was_closed: bool,
    starts: u64,
    /// The disk's own time, ordinarily, and the longest of late, with until when that may matter.
    sync: Duration,
    slow: (Duration, Instant),
    /// When the disk was full last.
    full: Option<(Instant, Instant)>,
    /// When the wall clock jumped last.
    jumped: Instant,
    /// When nothing was heard from the process last.
    paused: Option<(Instant, Instant)>,
    summary: Summary,
}

/// Plays one seed.
///
/// # Errors
/// What does not hold.
///
/// # Panics
/// When the server spins.
pub fn run(seed: u64) -> Result<Summary, String> {
    play(seed, &plan_of(seed), None)
}

/// What is to happen in a seed.
pub fn plan_of(seed: u64) -> Plan {
    Plan::draw(seed, people::NUMBERS)
}

/// Plays a seed with a plan of its own or another one, and with a server that is not right.
///
/// # Errors
/// What does not hold.
///
/// # Panics
/// When the server spins.
pub fn play(seed: u64, plan: &Plan, sabotage: Option<Sabotage>) -> Result<Summary, String> {
    let mut years = Years::new(seed, plan, sabotage)?;
    years.pass_until(OVER)?;
    years.check_calls()?;
    years.fall_silent()?;
    years.pass_until(END)?;
    for _ in 0..LAST_LOOKS {
        if invariants::nothing_is_left(&years.fleet.world).is_ok() {
            break;
        }
        years.pass_until(years.passed() + Duration::from_secs(30))?;
    }
    years.check_end()?;
    Ok(years.summary())
}

impl Years {
    fn new(seed: u64, plan: &Plan, sabotage: Option<Sabotage>) -> Result<Self, String> {
        let People {
            text,
            calls_max,
            mut fleet,
            honest,
        } = People::new(seed, sabotage)?;
        let mut random = Random::new(seed).fork("years");
        let sync = Duration::from_millis(random.between(1, 60));
        let world = &mut fleet.world;
        world.disk.set_sync(sync);
        world.door = Some(Box::new(Door::new(honest, world.disk.rows(), sabotage)));
        let begin = world.now().mono;
        let mut entries = plan.entries.clone();
        entries.reverse();
        let mut years = Self {
            seed,
            config: read(&text)?,
            next_config: read(&people::changed(&text))?,
            text,
            calls_max,
            link: world.network.link(people::server().ip()),
            fleet,
            random,
            begin,
            plan: entries,
            queue: BinaryHeap::new(),
            queued: 0,
            attackers: Attackers::new(seed),
            ways: Vec::new(),
            troubles: Troubles::default(),
            ends: Vec::new(),
            tainted: BTreeSet::new(),
            sabotage,
            excuses: RefCell::default(),
            armed: None,
            noisy_until: begin,
            damaging_until: begin,
            down_ms: 0,
            is_mourned: false,
            was_closed: false,
            starts: 0,
            sync,
            slow: (sync, begin),
            full: None,
            jumped: Instant::default(),
            paused: None,
            summary: Summary::default(),
        };
        years.later(LOOK, Then::Look);
        match sabotage {
            Some(Sabotage::ChargeHonest) => years.fleet.spoils = 1,
            Some(Sabotage::AnswerBanned) => years.attackers.are_answered = true,
            // Phones would not know what to do about it.
            Some(Sabotage::Misread) => {
                years.noisy_until = begin.plus(END);
                years.calm_down();
            }
            _ => {}
        }
        Ok(years)
    }

    fn now(&self) -> Instant {
        self.fleet.now()
    }

    fn passed(&self) -> Duration {
        self.now().since(self.begin)
    }

    fn later(&mut self, after: Duration, then: Then) {
        self.queued += 1;
        let at = self.now().plus(after);
        self.queue.push(Reverse((at, self.queued, then)));
    }

    /// When something of the plan, or something that follows from it, is due.
    fn next_deadline(&self) -> Option<Instant> {
        let planned = self
            .plan
            .last()
            .map(|(at, _)| self.begin.plus(Duration::from_millis(*at)));
        let queued = self.queue.peek().map(|Reverse((at, _, _))| *at);
        let attack = self.attackers.next_deadline();
        [planned, queued, attack].into_iter().flatten().min()
    }

    /// Lets time pass until so long after the beginning.
    fn pass_until(&mut self, since_begin: Duration) -> Result<(), String> {
        let end = self.begin.plus(since_begin);
        loop {
            let next = self.next_deadline();
            let until = next.map_or(end, |at| at.min(end));
            let step = self.fleet.step(until);
            if self.fleet.world.is_down() && !self.is_mourned {
                self.mourn();
            }
            while let Some(phone) = self.fleet.closed.pop() {
                self.lost_connection(phone);
            }
            match step {
                Step::Elsewhere(delivery) => {
                    let now = self.now();
                    self.attackers.hear(now, delivery.to, &delivery.seen)?;
                }
                Step::Received(_) | Step::Acted => {}
                Step::End if next.is_none_or(|at| at > until) => return Ok(()),
                Step::End => self.act()?,
            }
        }
    }

    /// Everything of the plan that is due.
    fn act(&mut self) -> Result<(), String> {
        let now = self.now();
        while let Some((at, deed)) = self.plan.last().copied() {
            if self.begin.plus(Duration::from_millis(at)) > now {
                break;
            }
            self.plan.pop();
            self.commit(deed);
        }
        self.attackers.act(now, &mut self.fleet.world);
        while let Some(Reverse((at, _, then))) = self.queue.peek().copied() {
            if at > now {
                break;
            }
            self.queue.pop();
            self.follow(then)?;
        }
        Ok(())
    }

    /// What was found by those who look at each packet.
    fn check_faults(&self) -> Result<(), String> {
        let door = self.fleet.world.door.as_deref();
        let found = door.and_then(|door| door.faults.first());
        match found.or(self.attackers.misread.as_ref()) {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            world: &self.fleet.world,
            phones: &self.fleet.phones,
            troubles: &self.troubles,
            ends: &self.ends,
            tainted: &self.tainted,
            excuses: &self.excuses,
        }
    }

    /// What must hold at any time.
    fn look(&mut self) -> Result<(), String> {
        self.taint();
        self.calm_down();
        self.check_faults()?;
        if !self.fleet.world.is_up() {
            return Ok(());
        }
        invariants::tables_are_bounded(&self.fleet.world, self.calls_max)?;
        judge::tables_fit_the_office(&self.facts(), self.mishaps())?;
        judge::nobody_is_left_in_a_call(&self.facts(), RING_TIMEOUT)
    }

    /// Whatever belongs to a message that was corrupted may go wrong: it, and the other side of its call.
    fn taint(&mut self) {
        let World {
            network, records, ..
        } = &mut self.fleet.world;
        for bytes in network.damaged.drain(..) {
            self.summary.corrupted += 1;
            if let Ok(reading) = reader::read(&bytes) {
                self.tainted.insert(reading.call_id.to_vec());
            }
        }
        if self.tainted.is_empty() {
            return;
        }
        for (_, _, record) in records.values() {
            let callee = record.callee_call_id.iter();
            let legs = || callee.clone().chain([&record.caller_call_id]);
            if legs().any(|call_id| self.tainted.contains(call_id.as_bytes())) {
                self.tainted
                    .extend(legs().map(|call_id| call_id.clone().into_bytes()));
            }
        }
    }

    /// What must hold when all calls are over.
    fn check_calls(&mut self) -> Result<(), String> {
        self.look()?;
        judge::every_request_is_answered(&self.facts())?;
        let carrier = self.fleet.phones[CARRIER].carrier.as_deref();
        let faults = carrier.map_or(&[][..], |carrier| &carrier.faults);
        // He does not know a request again that a machine repeats when it goes on.
        let is_excused = self.paused.is_some() || !self.tainted.is_empty();
        match faults.first() {
            Some(fault) if !is_excused => Err(format!("the carrier: {fault}")),
            Some(fault) => {
                self.facts().excuse(fault);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// After how many things a phone may be somewhere else.
    fn mishaps(&self) -> usize {
        let all = self.summary.faults.iter();
        let moves = all.filter(|(kind, _)| ["rebind", "reboot", "disconnect"].contains(*kind));
        moves.map(|(_, count)| count).sum()
    }

    /// Nobody says anything any more.
    fn fall_silent(&mut self) -> Result<(), String> {
        self.fleet
            .world
            .reload(read(&people::without_carrier(&self.text))?);
        self.pass_until(self.passed() + GOODBYE)?;
        self.fleet.turn_off();
        if self.sabotage == Some(Sabotage::StopTicking) {
            self.fleet.world.numb();
        }
        Ok(())
    }

    /// What must hold when nobody has spoken for long.
    fn check_end(&mut self) -> Result<(), String> {
        self.taint();
        let now = self.now();
        let sure = Instant::from_micros(now.as_micros().saturating_sub(KEPT.as_micros() as u64));
        let World { door, disk, .. } = &mut self.fleet.world;
        if let Some(door) = door {
            door.look_at_disk(now, sure, disk.rows());
        }
        self.check_faults()?;
        if self.sabotage == Some(Sabotage::DoubleRecord) {
            judge::double_a_record(self.fleet.world.disk.rows_mut());
        }
        let facts = self.facts();
        invariants::nothing_is_left(facts.world)?;
        judge::every_answered_call_is_one_record(&facts, facts.world.disk.rows())?;
        if self.ends.is_empty() && self.tainted.is_empty() && self.paused.is_none() {
            invariants::every_call_has_its_record(facts.world, facts.phones)?;
        }
        Ok(())
    }

    fn summary(&self) -> Summary {
        let world = &self.fleet.world;
        let mut summary = Summary {
            writes: world.disk.commits(),
            packets: world.network.sent(),
            attacks: self.attackers.sent,
            banned: world.banned.len(),
            time: self.passed(),
            excused: self.excuses.borrow().len(),
            trace: (world.door.as_deref()).map_or(0, |door| door.trace.finish()),
            ..self.summary.clone()
        };
        for outcome in (self.fleet.phones.iter()).flat_map(|phone| phone.outcomes.values()) {
            match outcome {
                Outcome::Final(200..=299) => summary.answered += 1,
                Outcome::Final(_) => {}
                Outcome::Pending | Outcome::Timeout | Outcome::Cut => summary.unanswered += 1,
            }
        }
        summary
    }
}
