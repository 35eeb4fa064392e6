//! 200 calls between phones and a trunk that do anything at any message, on a network that loses, doubles and reorders,
//! while phones lose their power, their NAT's mapping or their connection: some 20 minutes, from one seed.
//!
//! What must hold whatever the seed: every INVITE gets its final answer; every call is one record; a phone that is there
//! learns that its call is over; tables stay within their bounds; nobody is banned; after silence nothing is left.
//!
//! What a phone does is a matter of `phone` (its habits `whims`), what befalls it is one of its mishaps.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use super::fleet::{Fleet, Step, any_transport, read};
use super::invariants;
use super::network::Link;
use super::phone::{Habits, Outcome, Phone};
use super::random::Random;
use super::world::World;
use crate::source::Transport;
use crate::time::Instant;

const CALLS: u64 = 200;
/// Phones of users. Before them in the list stands the trunk.
const PHONES: u64 = 20;
const TRUNK: usize = 0;
const CALLS_MAX: usize = 100;
const RING_TIMEOUT: Duration = Duration::from_secs(40);
/// Before the first call everybody registers.
const MORNING: Duration = Duration::from_secs(30);
/// In which the calls begin.
const BUSY: Duration = Duration::from_secs(600);
/// Within this after the last one, every phone has come to the end of its calls: ringing, talk, several times 64·T1.
const WIND_DOWN: Duration = Duration::from_secs(400);
/// Within this again, the server has found out who is gone: two probes.
const PROBES: Duration = Duration::from_secs(1_300);
/// Then the phones are off, and their registrations run out.
const SILENCE: Duration = Duration::from_secs(1_000);
/// Between two looks at what must hold at any time.
const LOOK: Duration = Duration::from_secs(10);
/// Per mille of what reaches a phone that a mishap follows.
const MISHAPS: u32 = 3;
/// Loss, per mille, up to which seven tries of a request are enough: with more some are really never answered.
const HARMLESS_LOSS: u32 = 50;

/// What happened, for people and to see that something did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls that a phone began.
    pub calls: usize,
    /// Calls that were answered.
    pub answered: usize,
    /// Calls that their caller cancelled.
    pub cancelled: usize,
    /// Calls that were refused otherwise.
    pub refused: usize,
    /// INVITEs that got no final answer in time, on a bad line.
    pub timeouts: usize,
    /// INVITEs whose phone was cut off before the answer.
    pub cut: usize,
    /// What phones did unasked.
    pub whims: u32,
    /// Phones that lost their power, place or connection.
    pub mishaps: u32,
    /// Virtual time.
    pub time: Duration,
}

impl Summary {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.cancelled += other.cancelled;
        self.refused += other.refused;
        self.timeouts += other.timeouts;
        self.cut += other.cut;
        self.whims += other.whims;
        self.mishaps += other.mishaps;
        self.time += other.time;
    }
}

/// What befalls a phone.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    /// The power goes, and is back after some time: it knows nothing of its calls.
    PowerCut,
    /// Its NAT gives it another port, or it is on another network: the server hears it from there.
    Moved,
    /// Its connection breaks.
    Disconnected,
}

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Plan {
    Register(usize),
    Call(usize, usize),
    PowerOn(usize),
    Look,
}

struct Storm {
    /// The configuration.
    text: String,
    fleet: Fleet,
    random: Random,
    plan: BinaryHeap<Reverse<(Instant, Plan)>>,
    /// When each phone was cut off last.
    shaken: Vec<Option<Instant>>,
    is_harmless: bool,
    has_mishaps: bool,
    mishaps: u32,
}

/// Plays one seed.
///
/// # Errors
/// The invariant that does not hold.
///
/// # Panics
/// When the server sends something that does not parse, or spins.
pub fn run(seed: u64) -> Result<Summary, String> {
    let mut storm = Storm::new(seed)?;
    let begin = storm.fleet.now();
    storm.make_plan();
    storm.pass(MORNING + BUSY + WIND_DOWN)?;
    storm.has_mishaps = false;
    storm.pass(PROBES)?;
    storm.check_calls()?;
    storm.fleet.turn_off();
    storm.ask_no_more()?;
    storm.pass(SILENCE)?;
    invariants::nothing_is_left(&storm.fleet.world)?;
    invariants::nobody_honest_is_banned(&storm.fleet.world, &storm.fleet.phones)?;
    Ok(Summary {
        time: storm.fleet.now().since(begin),
        ..storm.summary()
    })
}

impl Storm {
    fn new(seed: u64) -> Result<Self, String> {
        let mut random = Random::new(seed).fork("storm");
        let server = SocketAddr::from(([192, 0, 2, 1], 5060));
        let carrier = SocketAddr::from(([198, 51, 100, 4], 5060));
        let carrier_transport = any_transport(&mut random);
        let (ring_timeout, transport) = (RING_TIMEOUT.as_secs(), carrier_transport.via_token());
        let mut text = format!(
            "[server]\nlisten = udp:{server}, tcp:{server}\n\
             [call]\nring_timeout = {ring_timeout}s\ncalls_max = {CALLS_MAX}\n\
             [trunk carrier]\naddresses = {carrier}\ntransport = {}\n",
            transport.to_lowercase()
        );
        // Relayed calls have ports to give back, and may find none. Nobody talks here, so nobody must be missed.
        let media = Random::new(seed).fork("media").below(4);
        if media >= 2 {
            text.push_str("[media]\nrelay = always\n");
            text = text.replace("calls_max", "media_timeout = 0\ncalls_max");
        }
        if media == 3 {
            text.push_str("ports = 20000-20015\n");
        }
        // Two phones share a user, so that calls fork.
        for user in 100..100 + PHONES - 1 {
            text.push_str(&format!("[user {user}]\npassword = Storm-Phone-{user}\n"));
        }
        let config = read(&text)?;
        let loss = if random.chance(500) {
            random.below(u64::from(HARMLESS_LOSS) + 1)
        } else {
            random.between(u64::from(HARMLESS_LOSS), 200)
        };
        let link = Link {
            delay: Duration::from_millis(random.between(1, 100)),
            jitter: Duration::from_millis(random.between(0, 60)),
            loss: loss as u32,
            duplicate: random.below(150) as u32,
            reorder: random.below(150) as u32,
            hold: Duration::from_millis(random.between(1, 900)),
            corrupt: 0,
        };
        let mut world = World::new(config, server, seed, link);
        world.listen(carrier);
        let habits = Habits {
            whims: random.between(5, 60) as u32,
            answer_ms_max: 12_000,
            talk_ms_max: 100_000,
            ..Habits::default()
        };
        let mut phones = vec![
            Phone::new(
                "4930123456",
                "",
                carrier,
                server,
                carrier_transport,
                &random.fork("carrier"),
            )
            .with(Habits {
                transactions_max: 4_096,
                ..habits
            }),
        ];
        phones.extend((0..PHONES).map(|number| {
            let user = (100 + number.min(PHONES - 2)).to_string();
            let address = SocketAddr::from(([198, 51, 100, 10 + number as u8], 5060));
            let password = format!("Storm-Phone-{user}");
            let transport = any_transport(&mut random);
            let own = random.fork(&format!("phone {number}"));
            Phone::new(&user, &password, address, server, transport, &own).with(Habits {
                is_reliable: number % 3 != 0,
                ..habits
            })
        }));
        Ok(Self {
            text,
            shaken: vec![None; phones.len()],
            fleet: Fleet::new(world, phones),
            random,
            plan: BinaryHeap::new(),
            is_harmless: link.loss <= HARMLESS_LOSS,
            has_mishaps: true,
            mishaps: 0,
        })
    }

    /// Registrations and calls.
    fn make_plan(&mut self) {
        let all = self.fleet.phones.len();
        for index in TRUNK + 1..all {
            let after = self.random.up_to(Duration::from_secs(5));
            self.later(after, Plan::Register(index));
        }
        for _ in 0..CALLS {
            let after = MORNING + self.random.up_to(BUSY);
            let caller = self.random.below(all as u64) as usize;
            let callee = self.random.below(all as u64) as usize;
            self.later(after, Plan::Call(caller, callee));
        }
        self.later(LOOK, Plan::Look);
    }

    /// A trunk that does not answer is asked for ever whether it is back, over a new connection each time: until the
    /// configuration says otherwise.
    fn ask_no_more(&mut self) -> Result<(), String> {
        let text = (self.text).replace("[trunk carrier]\n", "[trunk carrier]\nkeepalive = 0\n");
        self.fleet.world.reload(read(&text)?);
        Ok(())
    }

    fn later(&mut self, after: Duration, plan: Plan) {
        self.plan
            .push(Reverse((self.fleet.now().plus(after), plan)));
    }

    /// Lets so much time pass.
    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let end = self.fleet.now().plus(time);
        loop {
            let next = self.plan.peek().map(|Reverse((at, _))| *at);
            let until = next.map_or(end, |at| at.min(end));
            match self.fleet.step(until) {
                Step::Received(index) if self.has_mishaps && self.random.chance(MISHAPS) => {
                    self.strike(index);
                }
                Step::Received(_) | Step::Elsewhere(_) | Step::Acted => {}
                Step::End => {
                    if next.is_none_or(|at| at > until) {
                        return Ok(());
                    }
                    if let Some(Reverse((_, plan))) = self.plan.pop() {
                        self.follow(plan)?;
                    }
                }
            }
        }
    }

    fn follow(&mut self, plan: Plan) -> Result<(), String> {
        match plan {
            Plan::Register(index) if !self.fleet.phones[index].is_off => {
                self.fleet.register(index);
            }
            Plan::Call(caller, callee) if !self.fleet.phones[caller].is_off => {
                let number = self.number_of(caller, callee);
                self.fleet.call(caller, &number);
            }
            // The power is gone.
            Plan::Register(_) | Plan::Call(..) => {}
            Plan::PowerOn(index) => self.power_on(index),
            Plan::Look => {
                self.look()?;
                self.later(LOOK, Plan::Look);
            }
        }
        Ok(())
    }

    /// What the caller dials; now and then a number that leads nowhere.
    fn number_of(&mut self, caller: usize, callee: usize) -> String {
        if self.random.chance(30) {
            "777".to_owned()
        } else if callee == TRUNK && caller != TRUNK {
            "9030555".to_owned()
        } else {
            self.fleet.phones[callee.max(TRUNK + 1)].user.clone()
        }
    }

    /// Something befalls a phone that has just received something.
    fn strike(&mut self, index: usize) {
        if self.fleet.phones[index].is_off {
            return;
        }
        let mishap = match self.random.below(4) {
            0 => Mishap::PowerCut,
            1 if self.fleet.phones[index].transport == Transport::Tcp => Mishap::Disconnected,
            _ => Mishap::Moved,
        };
        let soon = self.random.up_to(Duration::from_secs(8));
        match mishap {
            Mishap::PowerCut => {
                self.fleet.phones[index].is_off = true;
                let after = self.random.up_to(Duration::from_secs(90));
                self.later(after, Plan::PowerOn(index));
            }
            // A trunk stays where it is configured to be.
            Mishap::Moved if index == TRUNK => return,
            Mishap::Moved => {
                self.fleet.move_phone(index);
                self.fleet.phones[index].disconnected();
                self.later(soon, Plan::Register(index));
            }
            Mishap::Disconnected => {
                self.fleet.disconnect(index);
                if index != TRUNK {
                    self.fleet.move_phone(index);
                    self.later(soon, Plan::Register(index));
                }
            }
        }
        self.fleet.phones[index].is_cut_off();
        self.shaken[index] = Some(self.fleet.now());
        self.mishaps += 1;
    }

    fn power_on(&mut self, index: usize) {
        let keeps_nonce = self.random.chance(500);
        let phone = &mut self.fleet.phones[index];
        let is_stream = phone.transport == Transport::Tcp;
        let address = phone.address;
        phone.reboot(address, keeps_nonce);
        phone.is_off = false;
        self.shaken[index] = Some(self.fleet.now());
        if index == TRUNK {
            self.fleet.disconnect(index);
        } else {
            if is_stream {
                self.fleet.move_phone(index);
            }
            self.fleet.register(index);
        }
    }

    /// What must hold at any time.
    fn look(&self) -> Result<(), String> {
        let Fleet { world, phones, .. } = &self.fleet;
        invariants::tables_are_bounded(world, CALLS_MAX)?;
        let rings_max = self.is_harmless.then_some(RING_TIMEOUT);
        invariants::nobody_is_half_open(world, phones, &self.shaken, rings_max)
    }

    /// What must hold when all calls are over.
    fn check_calls(&self) -> Result<(), String> {
        let Fleet { world, phones, .. } = &self.fleet;
        invariants::every_call_has_its_record(world, phones)?;
        for (phone, shaken) in phones.iter().zip(&self.shaken) {
            // Who has moved may wait for the answer to a re-INVITE as long as it likes.
            let is_well = phone.is_idle() || shaken.is_some() && !phone.is_in_call();
            if !is_well {
                let (address, business) = (phone.address, phone.business());
                return Err(format!("the phone at {address}: {business}"));
            }
            let outcomes = || phone.outcomes.iter();
            if let Some((call_id, _)) = outcomes().find(|(_, own)| **own == Outcome::Pending) {
                return Err(format!("the INVITE of {call_id} has no final answer"));
            }
        }
        if self.is_harmless {
            invariants::every_request_is_answered(phones, &self.shaken)?;
            if let Some(phone) = phones
                .iter()
                .skip(TRUNK + 1)
                .find(|phone| !phone.is_registered)
            {
                return Err(format!("the phone at {} is not registered", phone.address));
            }
        }
        let census = world.endpoint.census();
        if census.has_calls || census.counted != 0 {
            return Err(format!("calls that do not end: {census:?}"));
        }
        Ok(())
    }

    fn summary(&self) -> Summary {
        let mut summary = Summary {
            mishaps: self.mishaps,
            whims: self.fleet.phones.iter().map(|phone| phone.whims_done).sum(),
            ..Summary::default()
        };
        for outcome in (self.fleet.phones.iter()).flat_map(|phone| phone.outcomes.values()) {
            summary.calls += 1;
            let count = match outcome {
                Outcome::Final(200..=299) => &mut summary.answered,
                Outcome::Final(487) => &mut summary.cancelled,
                Outcome::Final(_) => &mut summary.refused,
                Outcome::Timeout => &mut summary.timeouts,
                Outcome::Pending | Outcome::Cut => &mut summary.cut,
            };
            *count += 1;
        }
        summary
    }
}
