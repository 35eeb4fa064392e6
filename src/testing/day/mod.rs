//! A day of external lines: one server, a few phones, two carriers (one over UDP, one over TCP) that challenge, refuse,
//! forget and fall silent, and calls both ways, from one seed.
//!
//! What must hold whatever the seed: a line whose carrier is there is registered again within the time that its back-off allows; every
//! INVITE gets its final answer and every call is one record; REGISTERs come at a bounded rate; a carrier never sees two
//! Contacts of one line, nor anything else that is one of [`Carrier::faults`]; carriers are never banned and keep their
//! lane; when the server stops, no line is registered any more, and after silence nothing is left.
//!
//! The way to the carriers loses, doubles and reorders up to 30 % each; the way to the phones is an office's own.

mod checks;
mod setup;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use self::checks::back_within;
use self::setup::carrier_address;
use super::carrier::{Carrier, Policy};
use super::dns::{Manner, Zone};
use super::fleet::{Fleet, Step, read};
use super::invariants;
use super::network::Link;
use super::phone::{Habits, Outcome, Phone};
use super::random::Random;
use super::world::World;
use crate::source::{Lane, Source, Transport};
use crate::time::Instant;

/// Accounts at each carrier. Carriers are the first in the list of phones, phones follow.
const ACCOUNTS: [usize; 2] = [3, 1];
const CARRIERS: usize = ACCOUNTS.len();
/// The first registers; the others are users by address.
const PHONES: usize = 4;
const CALLS: u64 = 30;
const CALLS_MAX: usize = 50;

const DAY: Duration = Duration::from_secs(86_400);
/// Before the first call everybody registers.
const MORNING: Duration = Duration::from_secs(300);
/// Within this after the last call, every phone has come to the end of its calls: ringing, talk, several times 64·T1, and
/// for whoever is gone two probes.
const WIND_DOWN: Duration = Duration::from_secs(2_000);
/// The same before the power of the server goes: nobody calls then.
const QUIET: Duration = Duration::from_secs(900);
/// How long a question to name servers is under way at most, in seconds.
const QUESTION_S: usize = 30;
/// Within this the server has stopped.
const STOP: Duration = Duration::from_secs(6);
/// Then the phones are off, and their registrations run out.
const SILENCE: Duration = Duration::from_secs(1_000);
/// Between two looks at what must hold at any time.
const LOOK: Duration = Duration::from_secs(120);
/// A carrier's absence, in seconds, from and to.
const ABSENCE_S: (u64, u64) = (60, 3_600);
/// For how long name servers are silent at most.
const NO_NAMES_MAX: Duration = Duration::from_secs(6 * 3_600);
/// Loss, per mille, up to which the tries of a request are enough: with more some are really never answered.
const HARMLESS_LOSS: u32 = 50;

/// What happened, for people and to see that something did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls that phones began.
    pub out: usize,
    /// Calls that carriers began.
    pub into: usize,
    /// Calls that were answered.
    pub answered: usize,
    /// INVITEs of carriers that got no final answer in time, on a bad way.
    pub timeouts: usize,
    /// Calls on lines that were refused because the carrier had forgotten them.
    pub forgotten: u32,
    /// REGISTERs, without retransmissions.
    pub registers: usize,
    /// Those that were refused: 403, 423, 503.
    pub refused: u32,
    /// How often carriers were restarted or absent.
    pub mishaps: u32,
    /// How often the power of the server went.
    pub power_cuts: u32,
    /// The longest time in which a line was not registered although its carrier was there.
    pub slowest: Duration,
    /// The most REGISTERs of one line in a minute.
    pub most_in_a_minute: usize,
}

impl Summary {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.out += other.out;
        self.into += other.into;
        self.answered += other.answered;
        self.timeouts += other.timeouts;
        self.forgotten += other.forgotten;
        self.registers += other.registers;
        self.refused += other.refused;
        self.mishaps += other.mishaps;
        self.power_cuts += other.power_cuts;
        self.slowest = self.slowest.max(other.slowest);
        self.most_in_a_minute = self.most_in_a_minute.max(other.most_in_a_minute);
    }
}

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Plan {
    Register(usize),
    /// This phone calls out on a line: carrier and account.
    CallOut(usize, (usize, usize)),
    /// This carrier calls an account of its own.
    CallIn((usize, usize)),
    Leave(usize),
    Return(usize),
    Restart(usize),
    /// The name servers fall silent, or answer again.
    Names(Manner),
    /// The administrator has the configuration read again.
    Reload,
    PowerCut,
    Look,
}

/// What befell a carrier.
#[derive(Clone, Copy, Debug)]
struct Presence {
    /// Since when it is there.
    since: Instant,
    /// How long it was not, before.
    absence: Duration,
}

struct Day {
    seed: u64,
    text: String,
    fleet: Fleet,
    random: Random,
    plan: BinaryHeap<Reverse<(Instant, Plan)>>,
    presence: [Presence; CARRIERS],
    power_cut: Option<Instant>,
    /// When each carrier went away, was back or was restarted.
    mishaps: [Vec<Instant>; CARRIERS],
    /// When each phone was cut off last.
    shaken: Vec<Option<Instant>>,
    is_harmless: bool,
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
    let mut day = Day::new(seed)?;
    day.make_plan();
    day.pass(MORNING + DAY + WIND_DOWN)?;
    day.check_calls()?;
    day.check_carriers()?;
    day.stop()?;
    day.fleet.turn_off();
    day.pass(SILENCE)?;
    // Names are looked at again for ever; a question is answered or given up within seconds.
    for _ in 0..QUESTION_S {
        if day.fleet.world.endpoint.census().names_asked > 0 {
            day.pass(Duration::from_secs(1))?;
        }
    }
    invariants::nothing_is_left(&day.fleet.world)?;
    invariants::nobody_honest_is_banned(&day.fleet.world, &day.fleet.phones)?;
    Ok(day.summary())
}

/// Carrier and account of every line.
fn lines() -> impl Iterator<Item = (usize, usize)> {
    (0..CARRIERS).flat_map(|carrier| (0..ACCOUNTS[carrier]).map(move |account| (carrier, account)))
}

impl Day {
    fn make_plan(&mut self) {
        self.later(Duration::ZERO, Plan::Register(CARRIERS));
        self.later(LOOK, Plan::Look);
        if self.random.chance(300) {
            let after = MORNING + self.random.up_to(DAY);
            self.power_cut = Some(self.now().plus(after));
            self.later(after, Plan::PowerCut);
        }
        // A server that has just been started knows no name.
        if self.power_cut.is_none() && self.random.chance(300) {
            let after = MORNING + self.random.up_to(DAY);
            self.later(after, Plan::Names(Manner::Silent));
            let silence = self.random.up_to(NO_NAMES_MAX);
            self.later(after + silence, Plan::Names(Manner::Answers));
        }
        for _ in 0..self.random.below(3) {
            let after = MORNING + self.random.up_to(DAY);
            self.later(after, Plan::Reload);
        }
        for _ in 0..CALLS {
            let after = MORNING + self.random.up_to(DAY);
            let carrier = self.random.below(CARRIERS as u64) as usize;
            let line = (
                carrier,
                self.random.below(ACCOUNTS[carrier] as u64) as usize,
            );
            let plan = if self.random.chance(500) {
                let phone = CARRIERS + self.random.below(PHONES as u64) as usize;
                Plan::CallOut(phone, line)
            } else {
                Plan::CallIn(line)
            };
            if !self.is_quiet(self.now().plus(after)) {
                self.later(after, plan);
            }
        }
        for carrier in 0..CARRIERS {
            for _ in 0..self.random.below(3) {
                let after = MORNING + self.random.up_to(DAY);
                let plan = if self.random.chance(500) {
                    Plan::Restart(carrier)
                } else {
                    Plan::Leave(carrier)
                };
                self.later(after, plan);
            }
        }
    }

    /// Nobody calls at this time: an interrupted call would have no end.
    fn is_quiet(&self, at: Instant) -> bool {
        (self.power_cut).is_some_and(|cut| at.plus(QUIET) > cut && at < cut.plus(QUIET))
    }

    fn now(&self) -> Instant {
        self.fleet.now()
    }

    fn later(&mut self, after: Duration, plan: Plan) {
        self.plan.push(Reverse((self.now().plus(after), plan)));
    }

    /// Lets so much time pass.
    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let end = self.now().plus(time);
        loop {
            let next = self.plan.peek().map(|Reverse((at, _))| *at);
            let until = next.map_or(end, |at| at.min(end));
            if self.fleet.step(until) != Step::End {
                continue;
            }
            if next.is_none_or(|at| at > until) {
                return Ok(());
            }
            if let Some(Reverse((_, plan))) = self.plan.pop() {
                self.follow(plan)?;
            }
        }
    }

    fn follow(&mut self, plan: Plan) -> Result<(), String> {
        match plan {
            Plan::Register(phone) => self.fleet.register(phone),
            Plan::CallOut(phone, (carrier, account)) => {
                let far = self.random.between(100_000, 999_999);
                self.fleet
                    .call(phone, &format!("9{carrier}{account}0{far}"));
                self.summary.out += 1;
            }
            Plan::CallIn((carrier, account)) => self.call_in(carrier, account),
            Plan::Leave(carrier) => self.leave(carrier),
            Plan::Return(carrier) => {
                self.fleet.phones[carrier].is_off = false;
                self.fleet.world.listen(carrier_address(carrier));
                self.is_back(carrier);
            }
            Plan::Restart(carrier) => self.restart(carrier),
            Plan::Names(manner) => self.fleet.world.name_server.manner = manner,
            Plan::Reload => self.fleet.world.reload(read(&self.text)?),
            Plan::PowerCut => self.cut_power()?,
            Plan::Look => {
                self.look()?;
                self.later(LOOK, Plan::Look);
            }
        }
        Ok(())
    }

    fn carrier(&self, carrier: usize) -> &Carrier {
        let own = self.fleet.phones[carrier].carrier.as_deref();
        own.expect("the first of the list are carriers")
    }

    fn call_in(&mut self, carrier: usize, account: usize) {
        if !self.fleet.phones[carrier].is_off && self.fleet.call_account(carrier, account) {
            self.summary.into += 1;
        }
    }

    /// A carrier's connection is dead, and nobody says so.
    fn vanish(&mut self, carrier: usize) {
        self.fleet.world.vanish(carrier_address(carrier));
        self.fleet.phones[carrier].disconnected();
    }

    /// A carrier can not be reached any more. Its connection breaks at once, or it is only silent, and may be lost.
    fn leave(&mut self, carrier: usize) {
        if self.fleet.phones[carrier].is_off {
            return;
        }
        let (from, to) = ABSENCE_S;
        let absence = Duration::from_secs(self.random.between(from, to));
        match self.random.below(3) {
            0 => {
                self.fleet.world.refuse(carrier_address(carrier));
                self.fleet.disconnect(carrier);
            }
            1 => self.vanish(carrier),
            _ => {}
        }
        let phone = &mut self.fleet.phones[carrier];
        phone.is_off = true;
        phone.is_cut_off();
        self.presence[carrier].absence = self.still_missed(carrier) + absence;
        self.later(absence, Plan::Return(carrier));
        self.shake(carrier);
    }

    /// For how long its lines may have tried in vain already, because it was absent shortly before.
    fn still_missed(&self, carrier: usize) -> Duration {
        let Presence { since, absence } = self.presence[carrier];
        let here = self.now().since(since);
        match here <= back_within(absence, self.is_harmless) {
            true if !absence.is_zero() => absence + here,
            _ => Duration::ZERO,
        }
    }

    fn is_back(&mut self, carrier: usize) {
        self.presence[carrier].since = self.now();
        self.shake(carrier);
        self.summary.mishaps += 1;
    }

    fn shake(&mut self, carrier: usize) {
        self.mishaps[carrier].push(self.now());
        self.shaken[carrier] = Some(self.now());
    }

    /// A carrier forgets its registrations, nonces and calls.
    fn restart(&mut self, carrier: usize) {
        if self.fleet.phones[carrier].is_off {
            return;
        }
        if self.random.chance(500) {
            self.fleet.disconnect(carrier);
        } else {
            self.vanish(carrier);
        }
        let address = carrier_address(carrier);
        let phone = &mut self.fleet.phones[carrier];
        phone.reboot(address, false);
        if let Some(edge) = &mut phone.carrier {
            edge.forget();
        }
        self.presence[carrier].absence = self.still_missed(carrier);
        self.is_back(carrier);
        // Somebody calls before its lines know.
        let after = self.random.up_to(Duration::from_secs(300));
        let account = self.random.below(ACCOUNTS[carrier] as u64) as usize;
        let phone = CARRIERS + self.random.below(PHONES as u64) as usize;
        if !self.is_quiet(self.now().plus(after)) {
            self.later(after, Plan::CallOut(phone, (carrier, account)));
        }
    }

    /// The power of the server goes, and is back soon.
    fn cut_power(&mut self) -> Result<(), String> {
        let after = Duration::from_secs(self.random.between(1, 60));
        let config = read(&self.text)?;
        let seed = self.seed ^ 0x5eed;
        self.fleet.world.restart(config, seed, after);
        for phone in &mut self.fleet.phones {
            phone.disconnected();
            if let Some(carrier) = &mut phone.carrier {
                carrier.excuse();
            }
        }
        self.summary.power_cuts += 1;
        Ok(())
    }

    /// The server stops, on a good way: no line stays registered.
    fn stop(&mut self) -> Result<(), String> {
        for carrier in 0..CARRIERS {
            let way = Link {
                delay: Duration::from_millis(20),
                ..Link::default()
            };
            (self.fleet.world.network).set_link(carrier_address(carrier).ip(), way);
            if let Some(own) = &mut self.fleet.phones[carrier].carrier {
                own.policy.busy = 0;
            }
        }
        // Who is not answered asks for ever.
        self.fleet.world.name_server.manner = Manner::Answers;
        let end = self.now();
        self.plan
            .retain(|Reverse((_, plan))| matches!(plan, Plan::Return(_)));
        let away: Vec<bool> = self.fleet.phones.iter().map(|phone| phone.is_off).collect();
        self.fleet.world.stop();
        self.pass(STOP)?;
        let now = self.now();
        let left = lines().find(|(carrier, account)| {
            !away[*carrier] && self.carrier(*carrier).contact(now, *account).is_some()
        });
        match left {
            Some((carrier, account)) => Err(format!(
                "line c{carrier}{account} is registered after the server has stopped at {end:?}"
            )),
            None => Ok(()),
        }
    }

    fn summary(&self) -> Summary {
        let outcomes = (self.fleet.phones.iter()).flat_map(|phone| phone.outcomes.values());
        let count = |wanted| outcomes.clone().filter(|own| **own == wanted).count();
        let carriers = || (0..CARRIERS).map(|carrier| self.carrier(carrier));
        Summary {
            answered: count(Outcome::Final(200)),
            timeouts: count(Outcome::Timeout),
            forgotten: carriers().map(|own| own.seen.unregistered).sum(),
            registers: carriers().map(|own| own.seen.registers.len()).sum(),
            refused: carriers().map(|own| own.seen.refused).sum(),
            most_in_a_minute: carriers()
                .map(|own| own.most_registers_within(Duration::from_secs(60)))
                .max()
                .unwrap_or_default(),
            ..self.summary
        }
    }
}
