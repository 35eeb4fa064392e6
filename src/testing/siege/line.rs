//! A line that registers at its carrier, calls and is called, while somebody sends 1,000 packets a second in the carrier's
//! name, and all strangers of the play `carrier` are there.
//!
//! The flood begins before the line is registered and ends after it was taken back. What is forged is everything that
//! the play `victim` knows, to numbers of phones: over UDP a carrier's address is all that a forger needs to seem to be a
//! trunk, but a line is called at its Contact, which he cannot know. So none of it may be a call.

use std::net::SocketAddr;
use std::time::Duration;

use super::carrier::floods;
use super::junk::NUMBERS;
use super::{Act, Siege, Summary, configuration, link, phone, server};
use crate::source::{Lane, Source};
use crate::testing::carrier::{Carrier, NonceLife, Policy};
use crate::testing::phone::{Habits, Outcome};
use crate::testing::random::Random;
use crate::testing::world::World;

const PHONES: u64 = 6;
const LINES: usize = 3;
const FORGED_PER_SECOND: u32 = 1_000;
/// In which phones and lines register: four tries of each request (RFC 3261 §17.1.2.2), for the way is good.
const MORNING: Duration = Duration::from_secs(5);
const BUSY: Duration = Duration::from_secs(3);
const CALLS: u64 = 30;
/// Ring timeout, talk, 64·T1.
const WIND_DOWN: Duration = Duration::from_secs(140);
/// Stopping, and what is forged meanwhile.
const STOP: Duration = Duration::from_secs(3);

/// Plays one seed.
///
/// # Errors
/// What does not hold.
///
/// # Panics
/// When the server sends something that does not parse, or spins.
pub fn run(seed: u64) -> Result<Summary, String> {
    let mut random = Random::new(seed).fork("line");
    let users: Vec<String> = (0..PHONES).map(|user| (1000 + user).to_string()).collect();
    let carrier = SocketAddr::from(([198, 51, 100, 4], 5060));
    let more = lines(carrier, &users);
    let config = configuration(&users, &more)?;
    let world = World::new(config, server(), seed, link(&mut random));
    let habits = Habits {
        impatient: 100,
        answer_ms_max: 1_000,
        talk_ms_max: 4_000,
        ..Habits::default()
    };
    let mut edge = phone("4930123456", carrier, &random).with(Habits {
        transactions_max: 4_096,
        ..habits
    });
    let policy = Policy {
        nonce: NonceLife::Lasts(Duration::from_secs(random.between(1, 60))),
        challenges_within: random.chance(500),
        has_service_route: random.chance(500),
        ..Policy::plain("sip.example.net")
    };
    let accounts = (0..LINES).map(|line| (account(line), PASSWORD.to_owned()));
    let begin = world.now().mono;
    edge.carrier = Some(Box::new(Carrier::new(policy, accounts, begin, &random)));
    let mut phones = vec![edge];
    phones.extend(users.iter().enumerate().map(|(index, user)| {
        let address = SocketAddr::from(([192, 168, 1, 10 + index as u8], 5060));
        phone(user, address, &random).with(habits)
    }));
    let mut siege = Siege::new(world, phones);
    let own = (carrier, FORGED_PER_SECOND, NUMBERS);
    floods(&mut siege, &random, own, MORNING + BUSY);
    for index in 1..siege.phones.len() {
        siege.plan(
            begin.plus(Duration::from_millis(random.below(500))),
            index,
            Act::Register,
        );
    }
    for _ in 0..CALLS {
        let at = begin.plus(MORNING + random.up_to(BUSY));
        let line = random.below(LINES as u64) as usize;
        if random.chance(500) {
            siege.plan(at, 0, Act::CallAccount(line));
        } else {
            let caller = 1 + random.below(PHONES) as usize;
            siege.plan(at, caller, Act::Call(format!("9{line}030555")));
        }
    }
    siege.pass(MORNING + BUSY + WIND_DOWN);
    check(&siege)?;
    let registered = siege.summary();

    let now = siege.now();
    let own = (carrier, FORGED_PER_SECOND, NUMBERS);
    let mut sent: u64 = registered.flood;
    siege.floods.clear();
    floods(&mut siege, &random, own, STOP);
    siege.world.stop();
    siege.pass(STOP);
    sent += siege.summary().flood;
    let edge = edge_of(&siege);
    if let Some(line) = (0..LINES).find(|line| edge.contact(siege.now(), *line).is_some()) {
        return Err(format!(
            "line {line} is registered after the server was stopped at {now:?}"
        ));
    }
    no_fault(edge)?;
    Ok(Summary {
        flood: sent,
        ..registered
    })
}

const PASSWORD: &str = "Siege-Line-1";

fn account(line: usize) -> String {
    format!("+493055{line}")
}

/// The carrier's lines, each of which calls a phone of its own.
fn lines(carrier: SocketAddr, users: &[String]) -> String {
    let mut text =
        "[call]\ncalls_max = 400\n[guard]\nunproven_total = 50\noutside_calls_max =\n".to_owned();
    for (line, user) in users.iter().take(LINES).enumerate() {
        text.push_str(&format!(
            "[line l{line}]\naccount = {}\npassword = {PASSWORD}\nserver = sip.example.net\n\
             outbound_proxy = {carrier}\nincoming = {user}\n\
             [route out{line}]\nprefix = 9{line}\nstrip = 2\nto = line:l{line}\n",
            account(line)
        ));
    }
    text
}

fn edge_of(siege: &Siege) -> &Carrier {
    let edge = siege.phones[0].carrier.as_deref();
    edge.expect("the first phone is a carrier's")
}

fn no_fault(edge: &Carrier) -> Result<(), String> {
    if edge.faults.is_empty() {
        Ok(())
    } else {
        Err(format!("{:#?}", edge.faults))
    }
}

fn check(siege: &Siege) -> Result<(), String> {
    siege.check(&siege.phones)?;
    let edge = edge_of(siege);
    no_fault(edge)?;
    for line in 0..LINES {
        if edge.contact(siege.now(), line).is_none() {
            return Err(format!("line {line} is not registered"));
        }
    }
    if siege.uncalled > 0 {
        return Err(format!(
            "{} calls to lines that were not registered",
            siege.uncalled
        ));
    }
    let outcomes = || siege.phones.iter().flat_map(|phone| &phone.outcomes);
    let is_refused = |outcome: &Outcome| matches!(outcome, Outcome::Final(401 | 403 | 404 | 407));
    if let Some((call_id, outcome)) = outcomes().find(|(_, outcome)| is_refused(outcome)) {
        return Err(format!(
            "the call {call_id} of somebody who may: {outcome:?}"
        ));
    }
    let honest = outcomes().count();
    let recorded = siege.world.records.len();
    if recorded > honest {
        return Err(format!(
            "{recorded} records of {honest} calls: some were forged"
        ));
    }
    let ours = siege.phones[0].address.ip();
    if siege.world.banned.contains(&Source::of(ours)) {
        return Err("the carrier was banned".to_owned());
    }
    let places = siege.world.endpoint.lane_places(siege.world.now(), 64);
    if !(places.iter()).any(|place| place.address == ours && place.lane == Lane::Peers) {
        return Err(format!("the carrier has no lane: {places:?}"));
    }
    Ok(())
}
