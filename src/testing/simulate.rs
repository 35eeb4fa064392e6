//! Many phones, one server, a bad network and strangers who send junk: a small office for some minutes, from one seed.
//!
//! What must hold whatever the seed: every INVITE gets a final response; every call that was answered is exactly one record;
//! no honest source is banned; no table grows beyond its bound; after silence nothing is left.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::fleet::{Fleet, Step};
use super::invariants;
use super::network::Link;
use super::phone::{Habits, Outcome, Phone};
use super::random::Random;
use super::world::{Delivery, Seen, World};
use crate::config::Config;
use crate::source::Transport;
use crate::time::Instant;

const PHONES: u64 = 20;
const CALLS: u64 = 16;
/// Messages between them, and subscriptions.
const MESSAGES: u64 = 20;
/// In which the calls begin.
const BUSY: Duration = Duration::from_secs(120);
/// Within this after the last one, every call must have come to its end by itself: ring timeout, talk, 64·T1.
const WIND_DOWN: Duration = Duration::from_secs(240);
/// Then the phones are off, and their registrations run out.
const SILENCE: Duration = Duration::from_secs(1_000);

/// What happened, for people and to see that something did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls that a phone began.
    pub calls: usize,
    /// Calls that were answered.
    pub answered: usize,
    /// Calls that their caller cancelled.
    pub cancelled: usize,
    /// Junk messages sent.
    pub junk: usize,
    /// Strangers that were banned.
    pub banned: usize,
}

impl Summary {
    /// Both together.
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.answered += other.answered;
        self.cancelled += other.cancelled;
        self.junk += other.junk;
        self.banned += other.banned;
    }
}

struct Office {
    fleet: Fleet,
    random: Random,
    strangers: Vec<SocketAddr>,
    /// The last challenge that each stranger got.
    challenges: Vec<Option<Vec<u8>>>,
    junk: usize,
}

/// Plays one seed.
///
/// # Errors
/// The invariant that does not hold.
///
/// # Panics
/// When the server sends something that does not parse, or spins.
pub fn run(seed: u64) -> Result<Summary, String> {
    let mut office = Office::new(seed)?;
    office.play();
    office.check_calls()?;
    office.fall_silent();
    office.check_silence()
}

/// What is planned for a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Register,
    /// To the phone of this number in the list.
    Call(usize),
    /// The same; to itself it subscribes.
    Write(usize),
}

impl Office {
    fn new(seed: u64) -> Result<Self, String> {
        let mut random = Random::new(seed);
        let server = SocketAddr::from(([192, 0, 2, 1], 5060));
        let mut text = format!("[server]\nlisten = udp:{server}, tcp:{server}\n");
        text.push_str("[call]\nring_timeout = 40s\ncalls_max = 50\n");
        // Two phones share a user, so that calls fork.
        for number in 0..PHONES - 1 {
            text.push_str(&format!(
                "[user {}]\npassword = Sim-Phone-{number}\nstore_messages = {}\n",
                100 + number,
                ["yes", "no"][number as usize % 2]
            ));
        }
        let config =
            Config::read(&text, Path::new(".")).map_err(|mistakes| format!("{mistakes:?}"))?;
        let link = Link {
            delay: Duration::from_millis(random.between(1, 60)),
            jitter: Duration::from_millis(random.between(0, 30)),
            loss: random.below(100) as u32,
            duplicate: random.below(100) as u32,
            reorder: random.below(100) as u32,
            hold: Duration::from_millis(random.between(1, 700)),
            corrupt: 0,
        };
        let world = World::new(config, server, seed, link);
        let phones = (0..PHONES)
            .map(|number| {
                let user = number.min(PHONES - 2);
                let address = Ipv4Addr::new(198, 51, 100, 10 + number as u8);
                let transport = if number % 5 == 4 {
                    Transport::Tcp
                } else {
                    Transport::Udp
                };
                Phone::new(
                    &(100 + user).to_string(),
                    &format!("Sim-Phone-{user}"),
                    SocketAddr::new(IpAddr::V4(address), 5060),
                    server,
                    transport,
                    &random.fork(&format!("phone {number}")),
                )
                .with(Habits {
                    is_reliable: number % 3 != 0,
                    ..Habits::default()
                })
            })
            .collect();
        let strangers: Vec<_> = (1..=4)
            .map(|last| SocketAddr::from(([203, 0, 113, last], 5060)))
            .collect();
        Ok(Self {
            fleet: Fleet::new(world, phones),
            random: random.fork("office"),
            challenges: vec![None; strangers.len()],
            strangers,
            junk: 0,
        })
    }

    /// Registrations, calls, junk.
    fn play(&mut self) {
        let begin = self.fleet.world.now().mono;
        let mut plan: Vec<(Instant, usize, Deed)> = Vec::new();
        for phone in 0..self.fleet.phones.len() {
            plan.push((
                begin.plus(self.random.up_to(Duration::from_secs(5))),
                phone,
                Deed::Register,
            ));
        }
        let start = begin.plus(Duration::from_secs(20));
        for _ in 0..CALLS {
            let at = start.plus(self.random.up_to(BUSY));
            let caller = self.random.below(PHONES) as usize;
            let callee = self.random.below(PHONES) as usize;
            plan.push((at, caller, Deed::Call(callee)));
        }
        for _ in 0..MESSAGES {
            let at = start.plus(self.random.up_to(BUSY));
            let sender = self.random.below(PHONES) as usize;
            let receiver = match self.random.chance(300) {
                true => sender,
                false => self.random.below(PHONES) as usize,
            };
            plan.push((at, sender, Deed::Write(receiver)));
        }
        plan.sort_unstable();
        for (at, index, deed) in plan {
            self.run_until(at, true);
            match deed {
                Deed::Register => self.fleet.register(index),
                Deed::Write(receiver) => {
                    let number = self.fleet.phones[receiver].user.clone();
                    self.fleet.write(index, &number);
                }
                Deed::Call(callee) => {
                    // Some dial a number that leads nowhere.
                    let number = if self.random.chance(50) {
                        "999".to_owned()
                    } else {
                        self.fleet.phones[callee].user.clone()
                    };
                    self.fleet.call(index, &number);
                }
            }
        }
        let end = self.fleet.world.now().mono.plus(WIND_DOWN);
        self.run_until(end, true);
    }

    /// Lets everybody act until `end`.
    fn run_until(&mut self, end: Instant, with_junk: bool) {
        loop {
            match self.fleet.step(end) {
                Step::End => return,
                Step::Elsewhere(delivery) => self.deliver(&delivery),
                Step::Received(_) | Step::Acted => {}
            }
            if with_junk && self.random.chance(100) {
                self.send_junk();
            }
        }
    }

    /// To nobody's phone.
    fn deliver(&mut self, delivery: &Delivery) {
        if let Some(stranger) = self.strangers.iter().position(|own| *own == delivery.to)
            && let Seen::Datagram(bytes) = &delivery.seen
        {
            self.remember_challenge(stranger, bytes);
        }
    }

    fn remember_challenge(&mut self, stranger: usize, bytes: &[u8]) {
        let Ok(message) = crate::message::parse(bytes) else {
            return;
        };
        if let Some(value) = message.value(crate::message::HeaderName::WwwAuthenticate) {
            self.challenges[stranger] = Some(value.to_vec());
        }
    }

    /// One message of a stranger: under his own address, or a phone's.
    fn send_junk(&mut self) {
        self.junk += 1;
        let stranger = self.random.below(self.strangers.len() as u64) as usize;
        let phone = self.random.below(PHONES) as usize;
        let world = &mut self.fleet.world;
        let own = self.strangers[stranger];
        let forged = self.fleet.phones[phone].address;
        let from = if self.random.chance(500) { own } else { forged };
        let number = self.random.next_u64();
        let user = 100 + self.random.below(PHONES + 5);
        let head = |method: &str, cseq: u32, more: &str| {
            format!(
                "{method} sip:{user}@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bK{number:x};rport\r\n\
                 From: <sip:{user}@pbx>;tag={number:x}\r\nTo: <sip:{user}@pbx>\r\nCall-ID: {number:x}\r\n\
                 CSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContact: <sip:x@{own}>\r\n{more}Content-Length: 0\r\n\r\n"
            )
            .into_bytes()
        };
        // The first stranger guesses passwords and nothing else.
        let kind = if stranger == 0 {
            3
        } else {
            self.random.below(8)
        };
        match kind {
            0 => world.send(from, &head("OPTIONS", 1, "")),
            1 => world.send(from, &head("INVITE", 1, "")),
            2 => world.send(from, &head("CANCEL", 1, "")),
            3 => {
                let challenge = self.challenges[stranger].clone().unwrap_or_default();
                let credentials = wrong_credentials(&challenge, user, number);
                // Wrong credentials under a phone's address must not hurt that phone.
                world.send(from, &head("REGISTER", 2, &credentials));
            }
            4 => {
                let bytes: Vec<u8> = (0..self.random.below(200))
                    .map(|_| self.random.next_u64() as u8)
                    .collect();
                world.send(from, &bytes);
            }
            5 => {
                let response = format!(
                    "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{:08x}{number:016x}\r\n\
                     From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\
                     Contact: <sip:x@{own}>\r\nContent-Length: 0\r\n\r\n",
                    number % 8
                );
                world.send(from, response.as_bytes());
            }
            // What a phone sent, with a bit turned over, or as it was but from elsewhere.
            _ => {
                let count = self.fleet.overheard.len() as u64;
                let index = self.random.below(count) as usize;
                let Some(mut bytes) = self.fleet.overheard.get(index).cloned() else {
                    return;
                };
                if self.random.chance(700) {
                    let at = self.random.below(bytes.len() as u64) as usize;
                    bytes[at] ^= 1 << self.random.below(8);
                }
                world.send(own, &bytes);
            }
        }
    }

    /// Whether every caller knows how his call went, and the records agree.
    fn check_calls(&self) -> Result<(), String> {
        for phone in &self.fleet.phones {
            if !phone.is_registered {
                return Err(format!(
                    "phone {} at {} is not registered",
                    phone.user, phone.address
                ));
            }
        }
        invariants::nobody_is_accused(&self.fleet.phones)?;
        invariants::every_call_has_its_record(&self.fleet.world, &self.fleet.phones)?;
        let census = self.fleet.world.endpoint.census();
        if census.has_calls {
            return Err(format!("calls that do not end: {census:?}"));
        }
        if let Some(phone) = self.fleet.phones.iter().find(|phone| !phone.is_idle()) {
            return Err(format!(
                "the phone at {}: {}",
                phone.address,
                phone.business()
            ));
        }
        Ok(())
    }

    fn fall_silent(&mut self) {
        self.fleet.turn_off();
        let end = self.fleet.world.now().mono.plus(SILENCE);
        self.run_until(end, false);
    }

    fn check_silence(&self) -> Result<Summary, String> {
        invariants::nothing_is_left(&self.fleet.world)?;
        invariants::nobody_honest_is_banned(&self.fleet.world, &self.fleet.phones)?;
        let outcomes = || {
            self.fleet
                .phones
                .iter()
                .flat_map(|phone| phone.outcomes.values())
        };
        let count = |wanted: u16| {
            outcomes()
                .filter(|outcome| **outcome == Outcome::Final(wanted))
                .count()
        };
        Ok(Summary {
            calls: outcomes().count(),
            answered: count(200),
            cancelled: count(487),
            junk: self.junk,
            banned: self.fleet.world.banned.len(),
        })
    }
}

/// An Authorization line with a wrong password, for whatever challenge there is.
pub(super) fn wrong_credentials(challenge: &[u8], user: u64, number: u64) -> String {
    use crate::auth::digest::{Login, answer};
    let params = crate::message::DigestParams::parse(challenge)
        .ok()
        .flatten();
    let user = user.to_string();
    let secret = crate::config::Secret::Password(format!("guess {number:x}"));
    let login = Login {
        user: &user,
        secret: &secret,
        method: b"REGISTER",
        uri: b"sip:192.0.2.1",
        nc: 1,
        cnonce: b"1",
    };
    match params.and_then(|params| answer(&params, &login)) {
        Some(value) => format!("Authorization: {}\r\n", String::from_utf8_lossy(&value)),
        None => String::new(),
    }
}
