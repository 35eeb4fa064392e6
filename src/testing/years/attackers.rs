//! Who is no friend: forgers who send in the name of honest phones and of the carrier, and have heard what those answered to
//! challenges; crackers who guess passwords from an address of their own, or from behind the NAT of honest phones; scanners with
//! thousands of addresses. Their packets arrive when they are due, past the network: what is lost of them matters to nobody.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::judge;
use crate::message::{HeaderName, parse};
use crate::source::Source;
use crate::testing::random::Random;
use crate::testing::reader::{self, First};
use crate::testing::siege::Material;
use crate::testing::siege::junk::{forged, request};
use crate::testing::simulate::wrong_credentials;
use crate::testing::world::{Seen, World};
use crate::time::Instant;

/// Between two packets of a cracker.
const GUESS: Duration = Duration::from_millis(700);
/// He comes back so often, and for so long, to see whether he is banned still.
const LINGERS: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(600));
/// Numbers of users, and a few that nobody has: their passwords are guessed, and they are called.
const USERS: (u64, u64) = (97, 120);
/// Whose passwords somebody behind a phone's NAT guesses: nobody's who is there himself, for it is he who would wait for it. More names
/// than so many a NAT that is known is a scanner for.
const ELSEWHERE: (u64, u64) = (100, 103);
/// What stands in the branch of a guess.
const GUESSING: &[u8] = b"z9hG4bKg";

/// What somebody does.
#[derive(Clone, Debug)]
enum Attack {
    /// In the name of this address; `None`: from many of their own.
    Flood(Option<SocketAddr>),
    Crack(Box<Cracker>),
}

/// Somebody who guesses passwords.
#[derive(Clone, Debug)]
struct Cracker {
    address: SocketAddr,
    /// Whose passwords he guesses.
    users: (u64, u64),
    challenge: Option<Vec<u8>>,
    /// When one process has answered his wrong passwords, and to which of his requests: the network doubles some.
    wrong: BTreeMap<Vec<u8>, Instant>,
}

#[derive(Clone, Debug)]
struct Attacker {
    attack: Attack,
    next: Instant,
    gap: Duration,
    /// Then he sends seldom ...
    hurries_until: Instant,
    /// ... and nothing any more.
    until: Instant,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Attackers {
    random: Random,
    all: Vec<Attacker>,
    /// What phones have answered to challenges: Authorization values.
    overheard: Vec<Vec<u8>>,
    buffer: Vec<u8>,
    /// Packets that they have sent.
    pub sent: u64,
    /// Who is banned is answered all the same.
    pub are_answered: bool,
    /// What was read in two ways of what they sent, the first of it.
    pub misread: Option<String>,
}

impl Attackers {
    /// Nobody yet.
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed).fork("attackers"),
            all: Vec::new(),
            overheard: Vec::new(),
            buffer: Vec::new(),
            sent: 0,
            are_answered: false,
            misread: None,
        }
    }

    /// Somebody sends so many packets a second in the name of `victim`, or from everywhere.
    pub fn flood(&mut self, now: Instant, victim: Option<SocketAddr>, rate: u32, lasts: Duration) {
        let gap = Duration::from_secs(1) / rate.max(1);
        self.add(now, Attack::Flood(victim), gap, lasts);
    }

    /// They have heard what phones have sent.
    pub fn overhear(&mut self, messages: &[Vec<u8>]) {
        let parsed = messages.iter().filter_map(|bytes| parse(bytes).ok());
        let values = parsed
            .filter_map(|message| message.value(HeaderName::Authorization).map(<[u8]>::to_vec));
        self.overheard = values.collect();
    }

    /// Somebody guesses passwords; `behind`: from behind the NAT that has this address.
    pub fn crack(&mut self, now: Instant, behind: Option<IpAddr>, lasts: Duration) {
        let count = self.all.len();
        let cracker = Cracker {
            address: match behind {
                Some(nat) => SocketAddr::new(nat, 50_000 + count as u16),
                None => SocketAddr::from(([198, 18, 0, 1 + count as u8], 5060)),
            },
            users: behind.map_or(USERS, |_| ELSEWHERE),
            challenge: None,
            wrong: BTreeMap::new(),
        };
        self.add(now, Attack::Crack(Box::new(cracker)), GUESS, lasts);
    }

    fn add(&mut self, now: Instant, attack: Attack, gap: Duration, lasts: Duration) {
        let hurries_until = now.plus(lasts);
        let lingers = matches!(attack, Attack::Crack(_)).then_some(LINGERS.1);
        self.all.push(Attacker {
            attack,
            next: now,
            gap,
            hurries_until,
            until: hurries_until.plus(lingers.unwrap_or_default()),
        });
    }

    /// When the next packet is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let live = self.all.iter().filter(|own| own.next < own.until);
        live.map(|own| own.next).min()
    }

    /// Sends what is due.
    pub fn act(&mut self, now: Instant, world: &mut World) {
        for own in &mut self.all {
            if own.next > now || own.next >= own.until {
                continue;
            }
            let gap = match own.next < own.hurries_until {
                true => own.gap,
                false => LINGERS.0,
            };
            own.next = own.next.plus(gap);
            self.buffer.clear();
            let from = match &own.attack {
                Attack::Flood(victim) => {
                    let number = self.random.next_u64();
                    let any = [198, 19, number as u8, (number >> 8) as u8];
                    let own = SocketAddr::from((any, 5060));
                    let collector = SocketAddr::from(([198, 18, 1, 1], 5060));
                    let from = victim.unwrap_or(own);
                    let mut material = Material {
                        random: &mut self.random,
                        number,
                        overheard: &self.overheard,
                    };
                    forged(&mut material, (from, collector), USERS, &mut self.buffer);
                    from
                }
                Attack::Crack(cracker) => {
                    cracker.guess(&mut self.random, &mut self.buffer);
                    cracker.address
                }
            };
            self.sent += 1;
            if self.sent.is_multiple_of(4)
                && let Err(what) = reader::agree(&self.buffer)
            {
                let text = String::from_utf8_lossy(&self.buffer);
                (self.misread).get_or_insert_with(|| format!("read in two ways, {what}: {text}"));
            }
            if world.is_up() {
                world.input_datagram(from, &self.buffer);
                if self.are_answered && world.banned.contains(&Source::of(from.ip())) {
                    world.say(from, b"SIP/2.0 403 Forbidden\r\n\r\n");
                }
            }
        }
    }

    /// Something came to nobody's phone.
    ///
    /// # Errors
    /// It should not have.
    pub fn hear(&mut self, now: Instant, to: SocketAddr, seen: &Seen) -> Result<(), String> {
        let Seen::Datagram(bytes) = seen else {
            return Ok(());
        };
        for own in &mut self.all {
            if let Attack::Crack(cracker) = &mut own.attack
                && cracker.address == to
            {
                return cracker.hear(now, bytes);
            }
        }
        Ok(())
    }

    /// The server has begun anew, and must learn again who they are.
    pub fn meet_another(&mut self) {
        for own in &mut self.all {
            if let Attack::Crack(cracker) = &mut own.attack {
                cracker.wrong.clear();
            }
        }
    }
}

impl Cracker {
    /// One more password; without a challenge he asks for one.
    fn guess(&self, random: &mut Random, out: &mut Vec<u8>) {
        let (from, to) = self.users;
        let (user, number) = (random.between(from, to), random.next_u64());
        let lines = match &self.challenge {
            Some(challenge) => wrong_credentials(challenge, user, number),
            None => String::new(),
        };
        let more = (";rport", lines.as_bytes());
        request("REGISTER", user, self.address, number, more, out);
        // So that he knows which of his requests an answer is to.
        if self.challenge.is_some()
            && let Some(at) = memchr::memmem::find(out, b"z9hG4bK")
        {
            out.splice(at..at + 7, GUESSING.iter().copied());
        }
    }

    fn hear(&mut self, now: Instant, bytes: &[u8]) -> Result<(), String> {
        let Ok(reading) = reader::read(bytes) else {
            return Ok(());
        };
        let First::Response(401) = reading.first else {
            return Ok(());
        };
        let is_stale = memchr::memmem::find(bytes, b"stale=true").is_some();
        if reading.branch.starts_with(GUESSING) && !is_stale {
            self.wrong.entry(reading.branch.to_vec()).or_insert(now);
        }
        if let Ok(message) = parse(bytes)
            && let Some(value) = message.value(HeaderName::WwwAuthenticate)
        {
            self.challenge = Some(value.to_vec());
        }
        let mut wrong: Vec<_> = self.wrong.values().copied().collect();
        wrong.sort();
        match self.users == ELSEWHERE {
            true => judge::a_neighbour_is_held_up(&wrong, self.address),
            false => judge::a_cracker_is_banned(&wrong, self.address),
        }
    }
}
