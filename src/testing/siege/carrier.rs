//! A carrier that makes 50 calls a second through a flood.
//!
//! The flood has the parts that 20,000 packets a second of the open Internet would have, at a twentieth of the density so
//! that a seed stays short; what all strangers share (`unproven_total`) is a twentieth too. The rest is as it is:
//! the carrier's calls, its `known_rate`, and what is forged in its name, which together with the carrier's own stays
//! below that rate.

use std::net::SocketAddr;
use std::time::Duration;

use super::junk::{NOBODY, NUMBERS, forged, request};
use super::{Act, Flood, Forge, Siege, Summary, configuration, link, phone, server};
use crate::api::{Answer, Command};
use crate::source::Source;
use crate::testing::phone::Habits;
use crate::testing::random::Random;
use crate::testing::world::World;

const PHONES: u64 = 20;
/// Of each kind of stranger, and what one sends in a second on average.
const BANNED: u32 = 20;
const BELOW_THRESHOLD: u32 = 600;

/// What is played.
#[derive(Clone, Copy, Debug)]
pub struct Play {
    /// How long the carrier calls.
    pub seconds: u64,
    /// Its calls.
    pub calls_per_second: u64,
    /// Packets a second in its name.
    pub forged: u32,
}

impl Play {
    /// 50 calls a second, and what is forged stays below `known_rate`.
    pub fn busy(seconds: u64) -> Self {
        Self {
            seconds,
            calls_per_second: 50,
            forged: 100,
        }
    }

    /// 10 calls a second, and what is forged is 25 times `known_rate`.
    pub fn silenced(seconds: u64) -> Self {
        Self {
            seconds,
            calls_per_second: 10,
            forged: 50_000,
        }
    }
}

/// Plays one seed.
///
/// # Errors
/// What does not hold.
///
/// # Panics
/// When the server sends something that does not parse, or spins.
pub fn run(seed: u64, play: Play) -> Result<Summary, String> {
    let Play {
        seconds,
        calls_per_second,
        forged,
    } = play;
    let mut random = Random::new(seed).fork("carrier");
    let users: Vec<String> = (0..PHONES)
        .map(|number| (1000 + number).to_string())
        .collect();
    let carrier = SocketAddr::from(([198, 51, 100, 4], 5060));
    let more = format!(
        "[call]\ncalls_max = 4000\n[guard]\nunproven_total = 50\n[trunk carrier]\naddresses = {carrier}\n"
    );
    let config = configuration(&users, &more)?;
    let world = World::new(config, server(), seed, link(&mut random));
    let habits = Habits {
        transactions_max: 16_384,
        impatient: 100,
        answer_ms_max: 1_000,
        talk_ms_max: 4_000,
        ..Habits::default()
    };
    let mut phones = vec![phone("4930123456", carrier, &random).with(habits)];
    phones.extend(users.iter().enumerate().map(|(index, user)| {
        let address = SocketAddr::from(([192, 168, 1, 10 + index as u8], 5060));
        phone(user, address, &random).with(Habits {
            is_moody: index % 4 == 0,
            ..habits
        })
    }));
    let mut siege = Siege::new(world, phones);
    for index in 1..siege.phones.len() {
        siege.plan(
            siege.now().plus(random.up_to(Duration::from_secs(1))),
            index,
            Act::Register,
        );
    }
    siege.pass(Duration::from_secs(8));

    let calls = Duration::from_secs(seconds);
    // To numbers of phones they would be calls: over UDP an address is all that a trunk has to show.
    let own = (carrier, forged, NOBODY);
    floods(&mut siege, &random, own, calls + Duration::from_secs(2));
    let begun = siege.now();
    for call in 0..seconds * calls_per_second {
        let at = begun.plus(Duration::from_micros(call * 1_000_000 / calls_per_second));
        // Some dial a number that leads nowhere.
        let number = if random.chance(20) {
            999
        } else {
            1000 + random.below(PHONES)
        };
        siege.plan(at, 0, Act::Call(number.to_string()));
    }
    // Ring timeout, talk, 64·T1.
    siege.pass(calls + Duration::from_secs(140));
    siege.check(&siege.phones)?;
    Siege::registered_within(&siege.phones[1..], begun, Duration::ZERO)?;
    let ours = Source::of(carrier.ip());
    if siege.world.banned.contains(&ours) {
        return Err("the carrier was banned".to_owned());
    }
    Ok(siege.summary())
}

/// Banned sources, sources that stay below every threshold, ever new ones, and the carrier's own address: from that so
/// many packets a second, to these numbers.
pub(super) fn floods(
    siege: &mut Siege,
    random: &Random,
    (carrier, own_rate, numbers): (SocketAddr, u32, (u64, u64)),
    lasts: Duration,
) {
    let address = |network: u8, number: u32| {
        let [_, high, middle, low] = number.to_be_bytes();
        SocketAddr::from(([network, high, middle, low], 5060))
    };
    for number in 0..BANNED {
        let source = Source::of(address(20, number).ip());
        let answer = siege.world.command(Command::Ban {
            source,
            duration: None,
        });
        assert!(matches!(answer, Answer::Banned(_)), "{answer:?}");
    }
    let from_banned: Forge = Box::new(move |material, out| {
        let from = address(20, material.random.below(u64::from(BANNED)) as u32);
        forged(material, (from, from), NUMBERS, out);
        from
    });
    let below_threshold: Forge = Box::new(move |material, out| {
        let from = address(30, material.number as u32 % BELOW_THRESHOLD);
        let (number, rport) = (material.random.next_u64(), (";rport", &b""[..]));
        let user = material.random.between(NUMBERS.0, NUMBERS.1);
        let method = ["REGISTER", "INVITE"][material.random.below(2) as usize];
        request(method, user, from, number, rport, out);
        from
    });
    let ever_new: Forge = Box::new(move |material, out| {
        let from = address(40, material.random.next_u64() as u32);
        forged(material, (from, from), NUMBERS, out);
        from
    });
    let own: Forge = Box::new(move |material, out| {
        forged(material, (carrier, address(40, 1)), numbers, out);
        carrier
    });
    let now = siege.now();
    for (name, rate, forge) in [
        ("banned", 400, from_banned),
        ("below", 500, below_threshold),
        ("new", 100, ever_new),
        ("own", own_rate, own),
    ] {
        siege
            .floods
            .push(Flood::new(random.fork(name), (now, lasts), rate, forge));
    }
}
