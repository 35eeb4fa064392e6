//! The configuration of a day, and who takes part in it.

use super::*;

fn server() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 5060))
}

pub(super) fn carrier_address(carrier: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 4 + carrier as u8], 5060))
}

fn phone_address(phone: usize) -> SocketAddr {
    SocketAddr::from(([192, 168, 1, 10 + phone as u8], 5060))
}

/// The user of a phone.
fn number(phone: usize) -> String {
    (100 + phone).to_string()
}

/// User name and password of an account.
fn account(carrier: usize, account: usize) -> (String, String) {
    let user = format!("+4930{carrier}{account}00");
    let password = format!("Day-Line-{carrier}{account}");
    (user, password)
}

/// The configuration for carriers of these policies.
fn configuration(policies: &[Policy], random: &mut Random) -> String {
    let address = server();
    let mut text = format!(
        "[server]\nlisten = udp:{address}, tcp:{address}\n\
         [call]\nring_timeout = 40s\ncalls_max = {CALLS_MAX}\n"
    );
    for phone in 0..PHONES {
        text.push_str(&format!("[user {}]\n", number(phone)));
        if phone == 0 {
            text.push_str("password = Day-Phone-100\n");
        } else {
            text.push_str(&format!("addresses = {}\n", phone_address(phone)));
        }
    }
    for (carrier, policy) in policies.iter().enumerate() {
        for index in 0..ACCOUNTS[carrier] {
            let (user, password) = account(carrier, index);
            let expires = ["5m", "30m", "1h", "1h", "1h", "2h"][random.below(6) as usize];
            let keepalive = ["0", "25s", "2m", "5m"][random.below(4) as usize];
            let mut proxy = String::new();
            let incoming = ["100", "101", "102", ""][random.below(4) as usize];
            let transport = transport_of(carrier).uri_token();
            // The others find it by its name.
            if random.chance(500) {
                proxy = format!("outbound_proxy = {}\n", carrier_address(carrier));
            }
            text.push_str(&format!(
                "[line c{carrier}{index}]\naccount = {user}\npassword = {password}\nserver = {}\n\
                 {proxy}auth_user_with_domain = {}\nexpires = {expires}\n\
                 keepalive = {keepalive}\nincoming = {incoming}\ntransport = {transport}\nnew_call_id = {}\n",
                policy.domain,
                if policy.is_user_with_domain { "yes" } else { "no" },
                if random.chance(200) { "yes" } else { "no" },
            ));
            text.push_str(&format!(
                "[route out{carrier}{index}]\nprefix = 9{carrier}{index}\nstrip = 3\nto = line:c{carrier}{index}{}\n",
                if random.chance(300) { ", line:c10" } else { "" }
                    .trim_end_matches(&format!(", line:c{carrier}{index}"))
            ));
        }
    }
    // A call that a line has no one for goes by its number.
    text.push_str("[route in]\nprefix = +4930\nto = user:103\n");
    text
}

/// What name servers know of carriers: the service of one that is called over TCP, the address of any other.
fn zone(policies: &[Policy], random: &mut Random) -> Result<Zone, String> {
    let mut text = String::new();
    for (carrier, policy) in policies.iter().enumerate() {
        let (address, domain) = (carrier_address(carrier), &policy.domain);
        let lasts = random.between(30, 7_200);
        if transport_of(carrier) == Transport::Tcp {
            let port = address.port();
            text.push_str(&format!(
                "_sip._tcp.{domain} {lasts} SRV 10 50 {port} edge.{domain}\nedge."
            ));
        }
        text.push_str(&format!("{domain} {lasts} A {}\n", address.ip()));
    }
    Zone::read(&text)
}

pub(super) fn transport_of(carrier: usize) -> Transport {
    if carrier == 0 {
        Transport::Udp
    } else {
        Transport::Tcp
    }
}

impl Day {
    pub(super) fn new(seed: u64) -> Result<Self, String> {
        let mut random = Random::new(seed).fork("day");
        let mut policies: Vec<Policy> = (0..CARRIERS)
            .map(|carrier| Policy::any(&format!("ims{carrier}.example.org"), &mut random))
            .collect();
        let loss = if random.chance(500) {
            random.below(u64::from(HARMLESS_LOSS) + 1) as u32
        } else {
            random.between(u64::from(HARMLESS_LOSS), 300) as u32
        };
        let is_harmless = loss <= HARMLESS_LOSS;
        for policy in &mut policies {
            policy.minds_haste = is_harmless;
        }
        let text = configuration(&policies, &mut random);
        let office = Link {
            delay: Duration::from_millis(random.between(1, 20)),
            ..Link::default()
        };
        let mut world = World::new(read(&text)?, server(), seed, office);
        world.name_server.zone = zone(&policies, &mut random)?;
        let way = Link {
            delay: Duration::from_millis(random.between(5, 100)),
            jitter: Duration::from_millis(random.between(0, 60)),
            loss,
            duplicate: random.below(301) as u32,
            reorder: random.below(301) as u32,
            hold: Duration::from_millis(random.between(1, 900)),
            corrupt: 0,
        };
        let now = world.now().mono;
        let habits = Habits {
            whims: random.below(20) as u32,
            answer_ms_max: 12_000,
            talk_ms_max: 100_000,
            ..Habits::default()
        };
        let mut phones = Vec::new();
        for (carrier, policy) in policies.into_iter().enumerate() {
            let address = carrier_address(carrier);
            world.network.set_link(address.ip(), way);
            if transport_of(carrier) == Transport::Tcp {
                world.listen(address);
            }
            let own = random.fork(&policy.domain);
            let accounts = (0..ACCOUNTS[carrier]).map(|index| account(carrier, index));
            let transport = transport_of(carrier);
            let user = format!("+4940{carrier}555");
            let mut phone = Phone::new(&user, "", address, server(), transport, &own);
            phone.carrier = Some(Box::new(Carrier::new(policy, accounts, now, &own)));
            phones.push(phone.with(Habits {
                transactions_max: 4_096,
                ..habits
            }));
        }
        for phone in 0..PHONES {
            let own = random.fork(&format!("phone {phone}"));
            let (user, password) = (number(phone), format!("Day-Phone-{}", number(phone)));
            let address = phone_address(phone);
            let phone = Phone::new(&user, &password, address, server(), Transport::Udp, &own);
            phones.push(phone.with(Habits {
                challenges_max: 8,
                ..habits
            }));
        }
        let presence = Presence {
            since: now,
            absence: Duration::ZERO,
        };
        Ok(Self {
            seed,
            text,
            shaken: vec![None; phones.len()],
            fleet: Fleet::new(world, phones),
            random,
            plan: BinaryHeap::new(),
            presence: [presence; CARRIERS],
            power_cut: None,
            mishaps: Default::default(),
            is_harmless,
            summary: Summary::default(),
        })
    }
}
