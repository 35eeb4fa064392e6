//! A stolen password: somebody calls expensive numbers in a user's name, from several places at once, for hours, among people
//! who call their customers. In between the power goes.
//!
//! What must hold whatever the seed: the user whose password it is never has more outside calls at a time than he may, nor
//! more new numbers in any hour; the others are never refused anything because of him.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::fleet::{Fleet, Step};
use super::network::Link;
use super::phone::{Habits, Outcome, Phone};
use super::random::Random;
use super::world::World;
use crate::api::{Answer, Command};
use crate::config::Config;
use crate::source::Transport;
use crate::time::UnixTime;

const CALLS_MAX: usize = 2;
const NEW_MAX: usize = 20;
const HOUR: Duration = Duration::from_secs(3_600);
/// The place of the carrier in the list of phones; then come the thieves, then honest people.
const CARRIER: usize = 0;
const THIEVES: usize = 3;
const HONEST: usize = 3;
const CUSTOMERS: u64 = 8;
/// Of all of them together, between two calls.
const PAUSE: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Outside calls of the user whose password was stolen, ...
    pub out: usize,
    /// ... calls of his that were refused, ...
    pub refused: usize,
    /// ... and numbers that he got to call.
    pub numbers: usize,
    /// Answered calls of the others.
    pub answered: usize,
}

/// When each user called each number first, as the API shows his outside calls.
#[derive(Default)]
struct Ledger {
    firsts: BTreeMap<(String, String), UnixTime>,
}

/// Plays one seed, for so many hours.
///
/// # Errors
/// What does not hold.
///
/// # Panics
/// When the server sends something that does not parse, or spins.
pub fn run(seed: u64, hours: u32) -> Result<Summary, String> {
    let mut random = Random::new(seed).fork("fraud");
    let server = SocketAddr::from(([192, 0, 2, 1], 5060));
    let carrier = SocketAddr::from(([198, 51, 100, 4], 5060));
    let text = format!(
        "[server]\nlisten = udp:{server}, tcp:{server}\n[trunk carrier]\naddresses = {carrier}\n\
         [user 100]\npassword = Stolen-Word-100\n[user 101]\npassword = Honest-Word-101\n\
         [user 102]\npassword = Honest-Word-102\n[user 103]\npassword = Honest-Word-103\n"
    );
    let config = Config::read(&text, Path::new(".")).map_err(|mistakes| format!("{mistakes:?}"))?;
    let link = Link {
        delay: Duration::from_millis(random.between(1, 80)),
        loss: 10,
        ..Link::default()
    };
    let world = World::new(config.clone(), server, seed, link);
    let phone = |user: &str, password: &str, address: SocketAddr, habits: Habits| {
        let own = random.fork(&address.to_string());
        Phone::new(user, password, address, server, Transport::Udp, &own).with(habits)
    };
    let habits = Habits {
        transactions_max: 4_096,
        ..Habits::default()
    };
    let mut phones = vec![phone("4930123456", "", carrier, habits)];
    for place in 0..THIEVES as u8 {
        let address = SocketAddr::from(([203, 0, 113, 7 + place], 5060));
        phones.push(phone("100", "Stolen-Word-100", address, habits));
    }
    for place in 0..HONEST as u8 {
        let (user, address) = (
            (101 + place).to_string(),
            SocketAddr::from(([192, 168, 1, 10 + place], 5060)),
        );
        phones.push(phone(
            &user,
            &format!("Honest-Word-{user}"),
            address,
            habits,
        ));
    }
    let mut fleet = Fleet::new(world, phones);
    for index in CARRIER + 1..fleet.phones.len() {
        fleet.register(index);
    }
    let mut ledger = Ledger::default();
    let begin = fleet.now();
    let end = begin.plus(HOUR * hours);
    let power_cut = begin.plus(random.up_to(HOUR * hours));
    let mut is_cut = false;
    let mut next = begin.plus(PAUSE);
    while fleet.now() < end {
        if !is_cut && fleet.now() >= power_cut {
            is_cut = true;
            fleet
                .world
                .restart(config.clone(), seed + 1, Duration::from_secs(2));
        }
        if fleet.step(next) == Step::End {
            next = next.plus(random.up_to(PAUSE * 2));
            somebody_calls(&mut fleet, &mut random);
        }
        ledger.look(&mut fleet.world)?;
    }
    ledger.check_hours()?;
    ledger.summary(&fleet)
}

fn somebody_calls(fleet: &mut Fleet, random: &mut Random) {
    let index = random.between(1, (THIEVES + HONEST) as u64) as usize;
    if index > THIEVES && !fleet.phones[index].is_idle() {
        return;
    }
    let number = match index {
        // Each number again and again; from time to time somebody in the house.
        ..=THIEVES if random.chance(50) => 101.to_string(),
        ..=THIEVES => format!("90090{}", 1_000 + random.below(300)),
        _ if random.chance(200) => (101 + random.below(3)).to_string(),
        _ => format!("9030{}", 5_000 + random.below(CUSTOMERS)),
    };
    fleet.call(index, &number);
}

impl Ledger {
    /// What must hold at any time.
    fn look(&mut self, world: &mut World) -> Result<(), String> {
        let list = world.command(Command::Calls {
            after: None,
            limit: 1_000,
        });
        let Answer::Calls(page) = list else {
            return Err("calls: no list".into());
        };
        let mut at_a_time: BTreeMap<&str, usize> = BTreeMap::new();
        for call in page.items.iter().filter(|call| call.through.is_some()) {
            let count = at_a_time.entry(&call.caller).or_default();
            *count += 1;
            if *count > CALLS_MAX {
                return Err(format!("{} has {count} outside calls", call.caller));
            }
            let key = (call.caller.clone(), call.dialled.clone());
            self.firsts.entry(key).or_insert(call.start.0);
        }
        Ok(())
    }

    /// New numbers in any hour.
    fn check_hours(&self) -> Result<(), String> {
        for ((user, number), begin) in &self.firsts {
            let of_user = self.firsts.iter().filter(|((own, _), _)| own == user);
            let in_hour = of_user
                .filter(|(_, first)| *first >= begin && first.since(*begin) < HOUR)
                .count();
            if in_hour > NEW_MAX {
                return Err(format!(
                    "{user} called {in_hour} new numbers in the hour after {number}"
                ));
            }
        }
        Ok(())
    }

    fn summary(&self, fleet: &Fleet) -> Result<Summary, String> {
        let mut summary = Summary {
            numbers: self.firsts.keys().filter(|(user, _)| user == "100").count(),
            ..Summary::default()
        };
        for (index, phone) in fleet.phones.iter().enumerate().skip(CARRIER + 1) {
            for (call_id, outcome) in &phone.outcomes {
                match outcome {
                    Outcome::Final(403) if index <= THIEVES => summary.refused += 1,
                    _ if index <= THIEVES => summary.out += 1,
                    Outcome::Final(403) => {
                        return Err(format!("{} was refused {call_id}", phone.user));
                    }
                    Outcome::Final(200) => summary.answered += 1,
                    _ => {}
                }
            }
        }
        Ok(summary)
    }
}
