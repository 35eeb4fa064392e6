//! `kill -9` at random moments while bans are made and phones register: whatever was acknowledged over a second, and the
//! time that the disk takes, before is there after the restart.
//!
//! `POWER_CUTS=200 cargo test --test all -- --ignored peers::power::` cuts that often; `SEED=…` at the same moments.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use sipkeep::auth::digest::{self, Login};
use sipkeep::config::Secret;
use sipkeep::message::{DigestParams, HeaderName, parse};
use sipkeep::testing::random::Random;

use super::harness::{Network, Server};

/// Unless `POWER_CUTS` says otherwise.
const CUTS: u64 = 10;
/// Users, 1000 onward. With one registration each in a run of the server none pushes another out.
const USERS: u64 = 200;
/// The server may lose what is younger, and the disk's own time.
const YOUNG: Duration = Duration::from_secs(1);
/// From a start to its cut.
const LIFE_MS: (u64, u64) = (1_100, 3_000);
/// Between two acknowledgements: two hundred cuts' bans stay below what the guard holds.
const PACE: Duration = Duration::from_millis(8);
const PASSWORD: &str = "n7-wetter-koffer";

/// What was acknowledged, and when.
#[derive(Default)]
struct Acknowledged {
    /// Sources, with the end of the ban.
    bans: BTreeMap<String, (Instant, String)>,
    /// (user, Contact).
    registrations: BTreeMap<(String, String), Instant>,
}

struct Phones {
    socket: UdpSocket,
    server: SocketAddr,
    /// The last challenge, and how often it was answered.
    challenge: Option<(Vec<u8>, u32)>,
    number: u64,
}

impl Phones {
    fn new(server: &Server) -> Self {
        let socket = UdpSocket::bind((server.network.host(2), 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        Self {
            socket,
            server: server.sip(),
            challenge: None,
            number: 0,
        }
    }

    /// Registers; `true` when the server has said 200.
    fn register(&mut self, user: &str, contact: &str) -> bool {
        for _ in 0..4 {
            let Some(answer) = self.exchange(user, contact) else {
                continue;
            };
            let answer = parse(&answer).unwrap();
            match (answer.status(), answer.value(HeaderName::WwwAuthenticate)) {
                (200, _) => return true,
                (401, Some(challenge)) => self.challenge = Some((challenge.to_vec(), 0)),
                (status, _) => panic!("REGISTER of {user}: {status}"),
            }
        }
        panic!("{user} could not register");
    }

    fn exchange(&mut self, user: &str, contact: &str) -> Option<Vec<u8>> {
        self.number += 1;
        let (number, local) = (self.number, self.socket.local_addr().unwrap());
        let host = self.server.ip();
        let uri = format!("sip:{host}");
        let secret = Secret::Password(PASSWORD.to_owned());
        let credentials = self.challenge.as_mut().map(|(challenge, nc)| {
            *nc += 1;
            let params = DigestParams::parse(challenge).unwrap().unwrap();
            let login = Login {
                user,
                secret: &secret,
                method: b"REGISTER",
                uri: uri.as_bytes(),
                nc: *nc,
                cnonce: b"5f0c3a",
            };
            let value = digest::answer(&params, &login).unwrap();
            format!("Authorization: {}\r\n", String::from_utf8(value).unwrap())
        });
        let request = format!(
            "REGISTER sip:{host} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{number};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{host}>;tag={number}\r\nTo: <sip:{user}@{host}>\r\n\
             Call-ID: {contact}\r\nCSeq: {number} REGISTER\r\nContact: <{contact}>\r\nExpires: 3600\r\n{}\
             Content-Length: 0\r\n\r\n",
            credentials.unwrap_or_default()
        );
        self.socket
            .send_to(request.as_bytes(), self.server)
            .unwrap();
        let mut buffer = [0; 65_535];
        loop {
            let length = self.socket.recv(&mut buffer).ok()?;
            let is_ours =
                parse(&buffer[..length]).is_ok_and(|answer| answer.cseq().number as u64 == number);
            if is_ours {
                return Some(buffer[..length].to_vec());
            }
        }
    }
}

/// All items of a list, page by page.
fn all(server: &Server, path: &str) -> Vec<serde_json::Value> {
    let mut items = Vec::new();
    let mut after = String::new();
    loop {
        let page = server.get(&format!("{path}?limit=1000{after}"));
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => {
                after = format!("&after={}", next.replace('/', "%2F").replace(':', "%3A"))
            }
            None => return items,
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let cuts = number("POWER_CUTS").unwrap_or(CUTS);
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}, {cuts} cuts");
    let mut random = Random::new(seed).fork("power");
    let users: String = (0..USERS)
        .map(|user| format!("[user {}]\npassword = {PASSWORD}\n", 1000 + user))
        .collect();
    let mut server = Server::start(Network::take(), &format!("\n{users}"));
    let mut known = Acknowledged::default();
    let (mut made, mut late, mut slowest_start) = (0u32, 0, Duration::ZERO);
    for cut in 0..cuts {
        let mut fresh = Acknowledged::default();
        let mut phones = Phones::new(&server);
        let end = Instant::now() + Duration::from_millis(random.between(LIFE_MS.0, LIFE_MS.1));
        let mut user = random.below(USERS);
        while Instant::now() < end {
            made += 1;
            let source = Ipv4Addr::from_bits(0x1400_0000 + made).to_string();
            let body = format!("{{\"source\": \"{source}\", \"for\": \"4h\"}}");
            let (status, ban) = server.request("POST", "bans", &body);
            assert!((200..300).contains(&status), "{status} {ban}");
            let until = ban["until"].as_str().unwrap().to_owned();
            fresh.bans.insert(source, (Instant::now(), until));
            user = (user + 1) % USERS;
            let name = (1000 + user).to_string();
            let contact = format!("sip:{name}@{}:{}", server.network.host(2), 10_000 + cut);
            if phones.register(&name, &contact) {
                fresh.registrations.insert((name, contact), Instant::now());
            }
            std::thread::sleep(PACE);
        }
        let sync =
            Duration::from_millis(server.get("status")["store"]["sync_ms"].as_u64().unwrap());
        let killed = Instant::now();
        let (network, folder) = server.cut_power();
        server = Server::start_in(network, folder);
        slowest_start = slowest_start.max(killed.elapsed());
        let is_old = |at: &Instant| killed.duration_since(*at) > YOUNG + sync;

        // Of this run what is old enough, of those before everything.
        late += fresh.bans.values().filter(|(at, _)| !is_old(at)).count();
        fresh.bans.retain(|_, (at, _)| is_old(at));
        fresh.registrations.retain(|_, at| is_old(at));
        known.bans.append(&mut fresh.bans);
        let bans: BTreeMap<String, String> = (all(&server, "bans").iter())
            .map(|ban| {
                let text = |field: &str| ban[field].as_str().unwrap().to_owned();
                (text("source"), text("until"))
            })
            .collect();
        let lost: Vec<_> = (known.bans.iter())
            .filter(|(source, (_, until))| bans.get(*source) != Some(until))
            .collect();
        assert!(
            lost.is_empty(),
            "SEED={seed}, cut {cut}: {} bans of {} were lost, among them {:?}",
            lost.len(),
            known.bans.len(),
            lost[0]
        );
        let kept: Vec<(String, String)> = (all(&server, "registrations").iter())
            .map(|item| {
                let text = |field: &str| item[field].as_str().unwrap().to_owned();
                (text("user"), text("contact"))
            })
            .collect();
        for (user, contact) in fresh.registrations.keys().chain(known.registrations.keys()) {
            let is_kept = kept
                .iter()
                .any(|(own, uri)| own == user && uri.contains(contact));
            assert!(is_kept, "SEED={seed}, cut {cut}: {contact} was lost");
        }
        known.registrations = fresh.registrations;
    }
    assert!(!known.bans.is_empty(), "nothing was old enough");
    println!(
        "{cuts} cuts: {} bans kept, {late} too young to count, slowest from kill to healthy {slowest_start:?}",
        known.bans.len()
    );
}
