//! A phone that nobody knows registers while 60,000 sources that each stay below every threshold send 50,000 packets a
//! second, nothing scaled: each source sends a new REGISTER every 1.2 s.
//!
//! The flood has used up what strangers share (`unproven_total`) before the phone is plugged in. Repeats of RFC 3261
//! §17.1.2.2 at 0.5, 1.5 and 3.5 s are all that it has: it must be registered within 3 s.

use std::net::SocketAddr;
use std::time::Duration;

use super::junk::{NUMBERS, request};
use super::{Act, Flood, Forge, Siege, Summary, configuration, link, phone, server};
use crate::testing::network::Link;
use crate::testing::random::Random;
use crate::testing::world::World;

const SOURCES: u32 = 60_000;
const PACKETS_PER_SECOND: u32 = 50_000;
const WITHIN: Duration = Duration::from_secs(3);

/// Plays one seed.
///
/// # Errors
/// What does not hold.
///
/// # Panics
/// When the server sends something that does not parse, or spins.
pub fn run(seed: u64) -> Result<Summary, String> {
    let mut random = Random::new(seed).fork("newcomer");
    let users = ["1000".to_owned()];
    let config = configuration(&users, "")?;
    let way = Link {
        loss: 0,
        ..link(&mut random)
    };
    let world = World::new(config, server(), seed, way);
    let address = SocketAddr::from(([198, 51, 100, 77], 5060));
    let mut siege = Siege::new(world, vec![phone(&users[0], address, &random)]);
    let forge: Forge = Box::new(|material, out| {
        let [_, high, middle, low] = (material.number as u32 % SOURCES).to_be_bytes();
        let from = SocketAddr::from(([30, high, middle, low], 5060));
        let number = material.random.next_u64();
        let user = material.random.between(NUMBERS.0, NUMBERS.1);
        request("REGISTER", user, from, number, (";rport", b""), out);
        from
    });
    let lasts = (siege.now(), Duration::from_secs(10));
    siege.floods.push(Flood::new(
        random.fork("flood"),
        lasts,
        PACKETS_PER_SECOND,
        forge,
    ));

    let began = siege
        .now()
        .plus(Duration::from_millis(random.between(200, 1_500)));
    siege.plan(began, 0, Act::Register);
    // No longer than needed: the flood is what takes time.
    while siege.phones[0].registered_at.is_none() && siege.now() < began.plus(WITHIN) {
        siege.pass(Duration::from_millis(50));
    }
    let slowest = Siege::registered_within(&siege.phones, began, WITHIN)?;
    siege.check(&siege.phones)?;
    Ok(Summary {
        slowest,
        ..siege.summary()
    })
}
