//! The office of the races: its configuration, who sits where, and the ways between.

use super::*;

/// Users that register, one of them with two phones.
const USERS: u64 = 9;
/// The user who is known by his address.
pub(super) const BY_ADDRESS: &str = "109";
/// Who has two phones.
const WITH_TWO: u64 = 101;
/// The groups, one of each kind.
pub(super) const GROUPS: [(&str, [u64; 3]); 3] = [
    ("200", [100, 101, 102]),
    ("300", [103, 101, 102]),
    ("400", [102, 103, 100]),
];

pub(super) fn server() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 5060))
}

fn trunk_address() -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 4], 5060))
}

fn phone_address(number: u64) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 10 + number as u8], 5060))
}

/// The way that all go: half of the seeds lose nothing and are exact, so that what crosses is known to the microsecond.
fn link(random: &mut Random) -> Link {
    let delay = Duration::from_millis(random.between(1, 60));
    if random.chance(500) {
        return Link {
            delay,
            ..Link::default()
        };
    }
    Link {
        delay,
        jitter: Duration::from_micros(random.between(0, 30_000)),
        loss: random.below(u64::from(HARMLESS_LOSS) + 1) as u32,
        duplicate: random.below(100) as u32,
        reorder: random.below(100) as u32,
        hold: Duration::from_millis(random.between(1, 400)),
        corrupt: 0,
    }
}

fn configuration(random: &mut Random, trunk: Transport) -> String {
    let address = server();
    let trunk = trunk.via_token().to_lowercase();
    let ring_timeout = RING_TIMEOUT.as_secs();
    let mut text = format!(
        "[server]\nlisten = udp:{address}, tcp:{address}\n\
         [call]\nring_timeout = {ring_timeout}s\ncalls_max = {CALLS_MAX}\n\
         [guard]\noutside_calls_max =\nnew_destinations_per_hour =\n\
         [trunk carrier]\naddresses = {}\ntransport = {trunk}\nkeepalive = 0\n",
        trunk_address()
    );
    if random.chance(500) {
        // Nobody talks here, so nobody must be missed.
        text.push_str("[media]\nrelay = always\n");
        text = text.replace("ring_timeout", "media_timeout = 0\nring_timeout");
    }
    for user in 100..100 + USERS {
        text.push_str(&format!("[user {user}]\npassword = Race-Phone-{user}\n"));
        text.push_str(match user {
            104 => "forward_no_answer = 105\nforward_no_answer_after = 5s\n",
            105 => "calls_max = 1\nforward_busy = 106\n",
            106 => {
                "forward_offline = 107\nforward_no_answer = 90307\nforward_no_answer_after = 6s\n"
            }
            108 => "forward_always = 200\n",
            _ => "",
        });
    }
    let by_address = phone_address(USERS + 1).ip();
    text.push_str(&format!("[user {BY_ADDRESS}]\naddresses = {by_address}\n"));
    for ((name, members), strategy) in GROUPS.iter().zip(["all", "linear", "circular"]) {
        let [a, b, c] = members;
        let ring_timeout = GROUP_RINGS.as_secs();
        text.push_str(&format!(
            "[group {name}]\nmembers = {a}, {b}, {c}\nstrategy = {strategy}\nring_timeout = {ring_timeout}s\n"
        ));
        if random.chance(400) {
            let next = ["104", "107", "90308"][random.below(3) as usize];
            text.push_str(&format!("next = {next}\n"));
        }
    }
    text
}

impl Races {
    pub(super) fn new(seed: u64) -> Result<Self, String> {
        let mut random = Random::new(seed).fork("races");
        let trunk_transport = any_transport(&mut random);
        let text = configuration(&mut random, trunk_transport);
        let link = link(&mut random);
        let mut world = World::new(read(&text)?, server(), seed, link);
        world.listen(trunk_address());
        let habits = Habits {
            is_led: true,
            is_moody: false,
            impatient: 0,
            ..Habits::default()
        };
        let own = random.fork("trunk");
        let trunk = Phone::new(
            "4930123456",
            "",
            trunk_address(),
            server(),
            trunk_transport,
            &own,
        );
        let mut phones = vec![trunk.with(habits)];
        let second = std::iter::once(WITH_TWO);
        let users = (100..100 + USERS).chain(second);
        for (number, user) in (0..).zip(users) {
            let (user, password) = (user.to_string(), format!("Race-Phone-{user}"));
            let transport = any_transport(&mut random);
            let own = random.fork(&format!("phone {number}"));
            let address = phone_address(number);
            let phone = Phone::new(&user, &password, address, server(), transport, &own);
            phones.push(phone.with(Habits {
                is_reliable: number % 2 == 0,
                ..habits
            }));
        }
        let own = random.fork("by address");
        let address = phone_address(USERS + 1);
        let transport = Transport::Udp;
        let phone = Phone::new(BY_ADDRESS, "", address, server(), transport, &own);
        phones.push(phone.with(habits));
        let places = world.endpoint.lane_places(world.now(), PLACES_MAX);
        Ok(Self {
            seed,
            text,
            link,
            shaken: vec![None; phones.len()],
            fleet: Fleet::new(world, phones),
            random,
            plan: BinaryHeap::new(),
            planned: 0,
            restarts: 0,
            places,
            round: Round::default(),
            summary: Summary::default(),
        })
    }
}
