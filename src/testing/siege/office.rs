//! An office after a power cut: 200 phones behind one address come back within 5 s, one with an old password.
//!
//! The seed says whether the address is the one from before or a new dynamic one, whether the server's power was gone too,
//! which phones still have their last nonce, and whether the broken phone tries again as ordinary ones do or ten times a
//! second. All others are registered within 10 s, and nobody is banned.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Act, Siege, Summary, configuration, link, password, phone, server};
use crate::source::Transport;
use crate::testing::phone::{Habits, Phone};
use crate::testing::random::Random;
use crate::testing::world::World;

const PHONES: u64 = 200;
/// In which they come back.
const BACK: Duration = Duration::from_secs(5);
/// From when the power is back.
const WITHIN: Duration = Duration::from_secs(10);
/// Then it goes on so long: a ban that comes later is one too.
const AFTER: Duration = Duration::from_secs(20);

/// Plays one seed.
///
/// # Errors
/// What does not hold.
///
/// # Panics
/// When the server sends something that does not parse, or spins.
pub fn run(seed: u64) -> Result<Summary, String> {
    let mut random = Random::new(seed).fork("office");
    let before = Ipv4Addr::new(198, 51, 100, 7);
    let has_new_address = random.chance(500);
    let after = if has_new_address {
        Ipv4Addr::new(203, 0, 113, 99)
    } else {
        before
    };
    let users: Vec<String> = (0..PHONES)
        .map(|number| (1000 + number).to_string())
        .collect();
    let config = configuration(&users, "")?;
    let world = World::new(config.clone(), server(), seed, link(&mut random));
    let address = |ip, index: usize| SocketAddr::from((ip, 20_000 + index as u16));
    let mut phones: Vec<Phone> = (users.iter().enumerate())
        .map(|(index, user)| phone(user, address(before, index), &random))
        .collect();
    // Its account was changed while it was off.
    let broken = random.below(PHONES) as usize;
    let habits = if random.chance(500) {
        Habits {
            challenges_max: 0,
            hammers_ms: Some(100),
            ..Habits::default()
        }
    } else {
        Habits {
            challenges_max: 2,
            retry_ms: (random.between(200, 2_000), random.between(2_000, 30_000)),
            ..Habits::default()
        }
    };
    let mut siege = Siege::new(world, Vec::new());
    // A working day: some are registered, and so the address is known. They take their nonces along.
    let was_here = random.chance(700);
    if was_here {
        let count = if random.chance(500) { phones.len() } else { 20 };
        let early = phones.split_off(phones.len() - count);
        siege.phones = early;
        siege.find_phones();
        for index in 0..siege.phones.len() {
            siege.plan(
                siege.now().plus(Duration::from_millis(index as u64 * 50)),
                index,
                Act::Register,
            );
        }
        siege.pass(Duration::from_secs(40));
        phones.append(&mut siege.phones);
        siege.due.clear();
    }
    let dark = Duration::from_secs(random.between(5, 5_400));
    if random.chance(500) {
        siege.world.restart(config, seed ^ 1, dark);
    } else {
        siege.pass(dark);
    }
    let keeps_nonce = random.chance(500);
    for (index, phone) in phones.iter_mut().enumerate() {
        phone.reboot(address(after, index), keeps_nonce);
    }
    let wrong = format!("{}-old", password(&users[broken]));
    phones[broken] = Phone::new(
        &users[broken],
        &wrong,
        address(after, broken),
        server(),
        Transport::Udp,
        &random.fork("broken"),
    )
    .with(habits);
    siege.phones = phones;
    siege.find_phones();

    let began = siege.now();
    for index in 0..siege.phones.len() {
        let at = began.plus(random.up_to(BACK));
        siege.plan(at, index, Act::Register);
    }
    siege.run_until(began.plus(WITHIN + AFTER));

    let broken = siege.phones.remove(broken);
    if broken.is_registered {
        return Err("the phone with the old password is registered".to_owned());
    }
    let slowest = Siege::registered_within(&siege.phones, began, WITHIN).map_err(|error| {
        format!("{error} (was here {was_here}, new address {has_new_address}, {habits:?})")
    })?;
    siege.check(&siege.phones)?;
    Ok(Summary {
        slowest,
        ..siege.summary()
    })
}
