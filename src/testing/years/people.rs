//! Who lives with the server: the office's phones, some of them behind NATs, some over TCP, the carrier, and the configuration
//! that knows them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use super::door::Sabotage;
use super::plan::{BEHIND_NAT, PHONES, is_stream};
use crate::source::{Source, Transport};
use crate::testing::carrier::{Carrier, Policy};
use crate::testing::dns::Zone;
use crate::testing::fleet::{Fleet, any_transport, read};
use crate::testing::network::Link;
use crate::testing::phone::{Habits, Phone};
use crate::testing::random::Random;
use crate::testing::world::World;
use crate::time::Instant;

/// The carrier's place in the list of phones.
pub const CARRIER: usize = 0;
/// Calls at a time: some offices have a bound that they reach.
const CALLS_MAX: [usize; 2] = [60, 5];
/// How long the server lets a phone ring.
pub const RING_TIMEOUT: Duration = Duration::from_secs(30);
/// The last two phones share a user, so that calls fork.
const USERS: usize = PHONES - 1;
/// What may be dialled besides users: groups, outside numbers, one that leads nowhere.
const FURTHER: [&str; 7] = ["200", "300", "400", "9030555", "9030556", "9030557", "777"];
/// The carrier's domain.
const DOMAIN: &str = "ims.example.org";
/// How many numbers may be called.
pub const NUMBERS: usize = PHONES + 1 + FURTHER.len();

/// Where the server is.
pub fn server() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 5060))
}

fn carrier_address() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 4], 5060))
}

/// What a phone thinks that it has.
fn phone_address(phone: usize) -> SocketAddr {
    let last = 10 + phone as u8;
    match phone {
        BEHIND_NAT.. => SocketAddr::from(([10, 0, 0, last], 5060)),
        _ => SocketAddr::from(([198, 51, 100, last], 5060)),
    }
}

/// From where the server hears it.
fn place(phone: usize) -> SocketAddr {
    match phone {
        BEHIND_NAT.. => {
            let behind = phone - BEHIND_NAT;
            let nat = [203, 0, 113, 1 + (behind / 4) as u8];
            SocketAddr::from((nat, 40_000 + 1_000 * (behind % 4) as u16))
        }
        _ => phone_address(phone),
    }
}

/// The user of a phone.
fn user(phone: usize) -> String {
    (99 + phone.min(USERS)).to_string()
}

/// What somebody dials to reach this of [`NUMBERS`].
pub fn number(callee: usize) -> String {
    match callee {
        CARRIER => FURTHER[3].to_owned(),
        1..=PHONES => user(callee),
        _ => FURTHER[(callee - PHONES - 1) % FURTHER.len()].to_owned(),
    }
}

/// How the carrier knows us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// By our address.
    Trunk(Transport),
    /// By an account; the server knows the carrier by its name alone.
    Line { by_name: bool },
}

/// The office.
pub struct People {
    /// The configuration's text.
    pub text: String,
    /// Calls at a time, as it says.
    pub calls_max: usize,
    /// Everybody and the server.
    pub fleet: Fleet,
    /// The sources that nobody may ever ban.
    pub honest: BTreeSet<Source>,
}

fn configuration(kind: Kind, calls_max: usize, random: &mut Random) -> String {
    let (address, ring) = (server(), RING_TIMEOUT.as_secs());
    let mut text = format!(
        "[server]\nlisten = udp:{address}, tcp:{address}\n\
         [registrar]\nexpires_default = 6m\nnat_keepalive = 25s\n\
         [guard]\noutside_calls_max =\nnew_destinations_per_hour =\n\
         [call]\nring_timeout = {ring}s\ncalls_max = {calls_max}\nsession_expires = 3m\nmedia_timeout = 0\n"
    );
    if random.chance(400) {
        text.push_str("[media]\nrelay = always\n");
    }
    let carrier = carrier_address();
    text.push_str(&match kind {
        Kind::Trunk(transport) => format!(
            "[trunk carrier]\naddresses = {carrier}\ntransport = {}\nkeepalive = 2m\n",
            transport.uri_token()
        ),
        Kind::Line { by_name } => {
            let proxy = match by_name {
                true => String::new(),
                false => format!("outbound_proxy = {carrier}\n"),
            };
            format!(
                "[line carrier]\naccount = +493012345\npassword = Years-Line\nserver = {DOMAIN}\n\
                 {proxy}keepalive = 1m\nexpires = 10m\nincoming = 200\n"
            )
        }
    });
    for user in 100..100 + USERS {
        let more = match user {
            104 => "forward_no_answer = 105\nforward_no_answer_after = 5s\n",
            105 => "calls_max = 1\nforward_busy = 106\n",
            106 => "forward_offline = 107\n",
            108 => "forward_always = 200\n",
            109 => "do_not_disturb = yes\n",
            _ if user % 2 == 0 => "store_messages = yes\n",
            _ => "",
        };
        write!(text, "[user {user}]\npassword = Years-Phone-{user}\n{more}").expect("a string");
    }
    let groups = [
        ("200", "100, 101, 102", "all"),
        ("300", "103, 101, 112", "linear"),
        ("400", "102, 113, 100", "circular"),
    ];
    for (name, members, strategy) in groups {
        write!(
            text,
            "[group {name}]\nmembers = {members}\nstrategy = {strategy}\nring_timeout = 8s\n"
        )
        .expect("a string");
    }
    text
}

/// The configuration after somebody has changed it: users who may be called otherwise, a group less, another limit.
pub fn changed(text: &str) -> String {
    let (kept, _) = text.split_once("[group 400]").unwrap_or((text, ""));
    kept.replace("do_not_disturb = yes", "forward_always = 110")
        .replace("ring_timeout = 8s", "ring_timeout = 12s")
        .replace("forward_busy = 106", "forward_busy = 111")
}

/// The configuration of who has nobody to ask for ever whether he is there, nor anywhere to register for ever.
pub fn without_carrier(text: &str) -> String {
    let text = text.replace("keepalive = 2m", "keepalive = 0");
    let Some((before, line)) = text.split_once("[line carrier]") else {
        return text;
    };
    let (_, users) = line.split_once("[user 100]").unwrap_or(("", ""));
    format!("{before}[user 100]{users}")
}

/// What a server that is not right takes for its configuration.
fn sabotaged(text: String, sabotage: Option<Sabotage>) -> String {
    match sabotage {
        Some(Sabotage::NoBound) => {
            let [_, reached] = CALLS_MAX;
            text.replace(
                &format!("calls_max = {reached}\nsession"),
                "calls_max = 60\nsession",
            )
        }
        Some(Sabotage::ForgiveCrackers) => {
            text.replace("[guard]\n", "[guard]\nfailures_max = 1000\n")
        }
        _ => text,
    }
}

/// The way of everybody while nothing is wrong with it: what is lost is repeated in time.
fn link(random: &mut Random) -> Link {
    Link {
        delay: Duration::from_millis(random.between(1, 60)),
        jitter: Duration::from_millis(random.between(0, 20)),
        loss: random.below(21) as u32,
        duplicate: random.below(31) as u32,
        reorder: random.below(31) as u32,
        hold: Duration::from_millis(random.between(1, 300)),
        corrupt: 0,
    }
}

impl People {
    /// The office of a seed.
    ///
    /// # Errors
    /// Its configuration is wrong.
    pub fn new(seed: u64, sabotage: Option<Sabotage>) -> Result<Self, String> {
        let mut random = Random::new(seed).fork("people");
        let kind = match random.chance(300) {
            true => Kind::Line {
                by_name: random.chance(500),
            },
            false => Kind::Trunk(any_transport(&mut random)),
        };
        let calls_max = CALLS_MAX[usize::from(random.chance(300))];
        let text = sabotaged(configuration(kind, calls_max, &mut random), sabotage);
        let mut world = World::new(read(&text)?, server(), seed, link(&mut random));
        world.name_server.zone =
            Zone::read(&format!("{DOMAIN} 300 A {}\n", carrier_address().ip()))?;
        if kind == Kind::Trunk(Transport::Tcp) {
            world.listen(carrier_address());
        }
        let habits = Habits {
            whims: random.between(1, 15) as u32,
            retry_ms: (5_000, 30_000),
            answer_ms_max: 9_000,
            talk_ms_max: 150_000,
            ..Habits::default()
        };
        let now = world.now().mono;
        let mut phones = vec![carrier(kind, &random, habits, now)];
        for phone in 1..=PHONES {
            let user = user(phone);
            let transport = match is_stream(phone) {
                true => Transport::Tcp,
                false => Transport::Udp,
            };
            let own = random.fork(&format!("phone {phone}"));
            let password = format!("Years-Phone-{user}");
            let address = phone_address(phone);
            let new = Phone::new(&user, &password, address, server(), transport, &own);
            phones.push(new.with(Habits {
                is_reliable: phone % 3 != 0,
                ..habits
            }));
        }
        let mut fleet = Fleet::new(world, phones);
        for phone in BEHIND_NAT..=PHONES {
            fleet.put_behind(phone, place(phone));
        }
        let places = (0..=PHONES).map(|phone| fleet.place(phone).ip());
        let honest = places.map(Source::of).collect();
        Ok(Self {
            text,
            calls_max,
            fleet,
            honest,
        })
    }
}

fn carrier(kind: Kind, random: &Random, habits: Habits, now: Instant) -> Phone {
    let own = random.fork("carrier");
    let habits = Habits {
        transactions_max: 1_024,
        ..habits
    };
    let transport = match kind {
        Kind::Trunk(transport) => transport,
        Kind::Line { .. } => Transport::Udp,
    };
    let address = carrier_address();
    let mut phone = Phone::new("4930123456", "", address, server(), transport, &own).with(habits);
    if matches!(kind, Kind::Line { .. }) {
        let account = ("+493012345".to_owned(), "Years-Line".to_owned());
        let policy = Policy::plain(DOMAIN);
        phone.carrier = Some(Box::new(Carrier::new(policy, [account], now, &own)));
    }
    phone
}
