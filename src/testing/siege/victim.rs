//! A victim whose address is forged: REGISTER with junk, with credentials of others, INVITE, responses, `maddr`.
//!
//! ```text
//!   1  nobody is at the address; 500 forged packets a second: no ban, no more bytes to it than came from it
//!   2  they stop; its phone is plugged in: registered within the 32 s of one transaction after the other
//!   3  1,000 forged packets a second, below `known_rate`: the phone refreshes and calls, and loses nothing
//! ```
//!
//! In half of the seeds the forger also strikes in the middle of the first registration, when nothing but the nonce that
//! the phone has just got can let it in; then with 10 packets a second, for the server looks for nonces in 20 packets a
//! second of a source that is over its budget and no more. A forger above that keeps a newcomer out, as the contract of
//! the token bucket says, but no phone that has registered once in the last 30 days.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::junk::{NUMBERS, forged};
use super::{Act, Flood, Forge, Siege, Summary, configuration, link, phone, server};
use crate::testing::network::Link;
use crate::testing::phone::Habits;
use crate::testing::random::Random;
use crate::testing::world::World;

const VICTIM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 77));
/// Where a forger would like answers to go.
const COLLECTOR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 200));
/// Nobody there, then somebody.
const EMPTY: (Duration, u32) = (Duration::from_secs(4), 500);
const BUSY: (Duration, u32) = (Duration::from_secs(8), 1_000);
/// RFC 3261 §17.1.2.2: Timer F of a request without credentials, and of one with.
const REGISTERED_WITHIN: Duration = Duration::from_secs(64);
/// A challenge to a source that has said less than it is long: it is not longer than this.
const CHALLENGE_BYTES_MAX: u64 = 700;

/// Plays one seed.
///
/// # Errors
/// What does not hold.
///
/// # Panics
/// When the server sends something that does not parse, or spins.
pub fn run(seed: u64) -> Result<Summary, String> {
    let mut random = Random::new(seed).fork("victim");
    let users: Vec<String> = (1000..1010u64).map(|user| user.to_string()).collect();
    let config = configuration(&users, "")?;
    let way = link(&mut random);
    let world = World::new(config, server(), seed, way);
    let habits = Habits {
        answer_ms_max: 1_000,
        talk_ms_max: 3_000,
        ..Habits::default()
    };
    let phones = (users.iter().enumerate())
        .map(|(index, user)| {
            let address = if index == 0 {
                VICTIM
            } else {
                IpAddr::from([198, 51, 100, 10 + index as u8])
            };
            phone(user, SocketAddr::new(address, 5060), &random).with(habits)
        })
        .collect();
    let mut siege = Siege::new(world, phones);
    for index in 1..siege.phones.len() {
        siege.plan(
            siege.now().plus(random.up_to(Duration::from_secs(1))),
            index,
            Act::Register,
        );
    }
    siege.pass(Duration::from_secs(6));

    // 1: nobody is there.
    let (lasts, rate) = EMPTY;
    flood(&mut siege, &random, "empty", lasts, rate);
    siege.pass(lasts + Duration::from_secs(1));
    let came: u64 = siege.floods.iter().map(|flood| flood.bytes_sent).sum();
    let (went, _) = siege
        .world
        .received
        .get(&VICTIM)
        .copied()
        .unwrap_or_default();
    if went > came + CHALLENGE_BYTES_MAX {
        return Err(format!("{went} bytes to the victim for {came} in its name"));
    }

    // 2: its phone is plugged in.
    let strikes = random.chance(500);
    if strikes {
        // Whatever was owed has come back by then: the phone is to be challenged at once, and nothing lost but by the flood.
        siege
            .world
            .network
            .set_link(VICTIM, Link { loss: 0, ..way });
        siege.pass(Duration::from_secs(200));
    }
    let began = siege.now();
    siege.plan(began, 0, Act::Register);
    if strikes {
        // The server has just answered the phone's first packet: the rest of the bucket goes, and then all that comes back.
        let answered = way.delay + way.jitter + way.hold + Duration::from_millis(1);
        siege.run_until(began.plus(answered));
        flood(
            &mut siege,
            &random,
            "burst",
            Duration::from_millis(14),
            1_000,
        );
        flood(&mut siege, &random, "drip", Duration::from_secs(20), 10);
        siege.pass(Duration::from_secs(21));
    }
    siege.run_until(began.plus(REGISTERED_WITHIN));
    let victim = &siege.phones[..1];
    let slowest = Siege::registered_within(victim, began, REGISTERED_WITHIN)
        .map_err(|error| format!("plugged in (struck: {strikes}): {error}"))?;
    siege.world.network.set_link(VICTIM, way);

    // 3: it lives on during a flood in its name.
    let (lasts, rate) = BUSY;
    let begun = siege.now();
    flood(&mut siege, &random, "busy", lasts, rate);
    for second in 0..8 {
        let at = begun.plus(Duration::from_millis(second * 1_000 + random.below(1_000)));
        siege.plan(at, 0, Act::Register);
        let other = 1 + random.below(9) as usize;
        let (caller, callee) = if random.chance(500) {
            (0, other)
        } else {
            (other, 0)
        };
        let number = siege.phones[callee].user.clone();
        let at = begun.plus(Duration::from_millis(second * 1_000 + random.below(1_000)));
        siege.plan(at, caller, Act::Call(number));
    }
    // Ring timeout, talk, 64·T1.
    siege.pass(lasts + Duration::from_secs(140));
    siege.check(&siege.phones)?;
    if !siege.phones[0].is_registered {
        return Err("the victim's phone is not registered any more".to_owned());
    }
    if let Some((bytes, _)) = siege.world.received.get(&COLLECTOR) {
        return Err(format!("{bytes} bytes where a forged Via pointed"));
    }
    Ok(Summary {
        slowest,
        ..siege.summary()
    })
}

/// Forged packets from now on, half of them with the phone's own port.
fn flood(siege: &mut Siege, random: &Random, name: &str, lasts: Duration, rate: u32) {
    let forge: Forge = Box::new(|material, out| {
        let port = if material.random.chance(500) {
            5060
        } else {
            material.random.between(1024, 65_535) as u16
        };
        let from = SocketAddr::new(VICTIM, port);
        let collector = SocketAddr::new(COLLECTOR, 5060);
        forged(material, (from, collector), NUMBERS, out);
        from
    });
    let now = siege.now();
    siege
        .floods
        .push(Flood::new(random.fork(name), (now, lasts), rate, forge));
}
