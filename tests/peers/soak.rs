//! A mixed load for as long as one likes, and what it leaves behind: offices that register, call, dial and write, phones over
//! TCP that come and go, crackers and an administrator, scanners, broken messages, reloads. After it and a quiet time the server
//! must be as it was: no call, no transaction, no file descriptor or thread more, and memory within what its tables may take.
//!
//! `SOAK_SECONDS=3600 cargo test --test all -- --ignored --nocapture peers::soak::` takes an hour; `SIPKEEP_BINARY=…` with
//! another build of the server.

mod measure;
mod noise;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sipkeep::testing::random::Random;

use self::measure::Measure;
use self::noise::Scanners;
use super::crash::load::{self, Counts, End, OFFICES, Office};
use super::crash::street::Street;
use super::desk::{How, Outcome, PASSWORD, Phone};
use super::harness::{Network, Server, wait, write_config};

/// Seconds of load, unless `SOAK_SECONDS` says otherwise.
const SECONDS: u64 = 60;
/// Of it one part in so many comes before the first measurement.
const WARM_UP: u32 = 6;
/// Users who come over TCP, 801 onward.
const COMING: u32 = 6;
/// Between two reloads.
const RELOAD: Duration = Duration::from_secs(3);
/// How often its memory is looked at.
const SAMPLES: u32 = 12;
/// Until what was answered is forgotten (RFC 3261 §17, 64·T1), on a busy machine.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Until calls and connections have ended.
const QUIET: Duration = Duration::from_secs(20);

/// What a soak counts beside [`Counts`].
#[derive(Debug, Default)]
struct Tally {
    over_tcp: AtomicU64,
    calls_over_tcp: AtomicU64,
    subscriptions: AtomicU64,
    reloads: AtomicU64,
}

fn config(more: &str) -> String {
    let coming: String = (801..=800 + COMING + 1)
        .map(|user| format!("[user {user}]\npassword = {PASSWORD}\n"))
        .collect();
    // Each call has ports of ours, so that one that is left shows.
    format!(
        "log = info\n\n[media]\nrelay = always\n\n{}{coming}{more}",
        load::users()
    )
}

/// Phones over TCP: register, call each other, leave with and without a word.
fn come_and_go(server: &Server, mut random: Random, end: &End, tally: &Tally) {
    let mut number = 0;
    while !end.has_come() {
        number += 1;
        let user = 801 + random.below(u64::from(COMING) / 2) as u32 * 2;
        let host = server.network.host(30 + (user - 801) as u8);
        let phone = |user: u32| Phone::tcp(&user.to_string(), host, server.sip(), &end.is_over);
        let (Some(mut one), Some(mut other)) = (phone(user), phone(user + 1)) else {
            panic!("no connection is taken");
        };
        // Not both: a call forks to every binding, and one that went without a word may be there for a moment yet.
        other.unregister_all().unwrap();
        other.register(1, 600).unwrap();
        if random.chance(500) {
            let dialled = other.user.clone();
            let outcome = one.call(&mut other, &dialled, &format!("t{number}"), How::Answered);
            let Ok(Outcome::Up(call)) = outcome else {
                panic!("{outcome:?}");
            };
            std::thread::sleep(random.up_to(Duration::from_millis(300)));
            let ended = match random.chance(500) {
                true => other.hang_up(&mut one, &call, true),
                false => one.hang_up(&mut other, &call, false),
            };
            ended.unwrap();
            tally.calls_over_tcp.fetch_add(1, Ordering::Relaxed);
        }
        if random.chance(300) {
            other.unregister_all().unwrap();
        }
        tally.over_tcp.fetch_add(2, Ordering::Relaxed);
        std::thread::sleep(random.up_to(Duration::from_millis(200)));
    }
}

/// A lamp key that is switched on and off, each time with a new challenge.
fn watch(server: &Server, mut random: Random, end: &End, tally: &Tally) {
    let host = server.network.host(40);
    let mut number = 0;
    while !end.has_come() {
        number += 1;
        let mut lamp = Phone::udp("807", host, server.sip(), &end.is_over);
        let id = format!("l{number}");
        assert_eq!(lamp.subscribe("102", &id, 600), Ok(200));
        lamp.idle(random.up_to(Duration::from_millis(1_000)));
        assert_eq!(lamp.subscribe("102", &format!("m{number}"), 0), Ok(200));
        lamp.idle(Duration::from_millis(100));
        tally.subscriptions.fetch_add(1, Ordering::Relaxed);
    }
}

fn reload(server: &Server, end: &End, tally: &Tally) {
    let mut next = Instant::now() + RELOAD;
    while !end.has_come() {
        std::thread::sleep(Duration::from_millis(50));
        if Instant::now() < next {
            continue;
        }
        next += RELOAD;
        let number = tally.reloads.fetch_add(1, Ordering::Relaxed);
        let more = if number.is_multiple_of(2) {
            "[user 900]\npassword = b8n-wqt3-4\n"
        } else {
            ""
        };
        write_config(server.folder.path(), server.network, &config(more));
        server.signal("HUP");
    }
}

/// A server and all that plays on it.
struct Soak {
    server: Server,
    offices: Vec<Office>,
    street: Street,
    random: Random,
    end: End,
    tally: Tally,
    scanners: Scanners,
}

impl Soak {
    fn new(random: Random) -> Self {
        let server = Server::start(Network::take(), &config(""));
        let end = End::default();
        let offices = 1..=OFFICES;
        Self {
            offices: offices
                .map(|office| Office::new(office, &server, &random, &end))
                .collect(),
            street: Street::new(&server, &random, &end),
            server,
            random,
            end,
            tally: Tally::default(),
            scanners: Scanners::new(),
        }
    }

    /// All of it for so long, until the last call has ended; the server's own memory in KiB meanwhile.
    fn play(&mut self, time: Duration) -> Vec<u64> {
        let mut memory = Vec::new();
        let seed = self.random.next_u64();
        let random = |name: &str| Random::new(seed).fork(name);
        let Self {
            server,
            offices,
            street,
            end,
            tally,
            scanners,
            ..
        } = self;
        let (server, end, tally, scanners) = (&*server, &*end, &*tally, &*scanners);
        end.rests.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let offices = offices.iter_mut();
            let mut threads: Vec<_> = offices
                .map(|office| scope.spawn(|| office.live()))
                .collect();
            threads.push(scope.spawn(|| street.live()));
            threads.push(scope.spawn(|| come_and_go(server, random("tcp"), end, tally)));
            threads.push(scope.spawn(|| watch(server, random("lamps"), end, tally)));
            threads.push(scope.spawn(|| reload(server, end, tally)));
            threads.push(scope.spawn(|| scanners.scan(server, random("scan"), end)));
            threads.push(scope.spawn(|| scanners.tools(server, end)));
            let begun = Instant::now();
            // A load that has ended by itself has failed.
            while begun.elapsed() < time && threads.iter().all(|thread| !thread.is_finished()) {
                std::thread::sleep(Duration::from_millis(50));
                if begun.elapsed() >= time / SAMPLES * memory.len() as u32 {
                    memory.push(measure::own_memory_kib(server));
                }
            }
            end.rests.store(true, Ordering::Relaxed);
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        });
        self.wait_for(QUIET, |status| {
            status["counts"]["calls"] == 0
                && status["counts"]["transactions"] == 0
                && status["store"]["pending"] == 0
        });
        memory
    }

    fn wait_for(&self, within: Duration, is_so: impl Fn(&Value) -> bool) {
        let status = || self.server.get("status");
        wait(
            within,
            || is_so(&status()),
            || format!("never quiet: {}", status()),
        );
    }
}

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn a_long_mixed_load_leaves_nothing_behind() {
    let number = |name: &str| {
        let text = std::env::var(name).ok();
        text.map(|text| text.parse::<u64>().unwrap())
    };
    let time = Duration::from_secs(number("SOAK_SECONDS").unwrap_or(SECONDS));
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}, {} s", time.as_secs());
    let mut soak = Soak::new(Random::new(seed).fork("soak"));
    soak.server.get("cdrs");
    let fresh = Measure::of(&soak.server);
    soak.play(time / WARM_UP);
    let warm = Measure::of(&soak.server);
    let memory = soak.play(time - time / WARM_UP);
    let loaded = Measure::of(&soak.server);
    soak.wait_for(FORGOTTEN, |status| {
        status["counts"]["transactions_completed"] == 0
    });
    let quiet = Measure::of(&soak.server);

    let mut counts = Counts::default();
    let offices = soak.offices.iter();
    offices.for_each(|office| counts.add(office.counts));
    counts.add(soak.street.counts);
    println!("{counts:?}\n{:?}\n{:?}", soak.tally, soak.scanners);
    let moments = [
        ("start", &fresh),
        ("warm", &warm),
        ("load", &loaded),
        ("quiet", &quiet),
    ];
    println!("{}", measure::table(&moments));
    println!("own memory during the load, KiB: {memory:?}");
    let log = measure::Log::of(&soak.server);
    println!("{log}");

    quiet.check(&fresh, &warm, &soak.server);
    log.check();
    let over_tcp = soak.tally.calls_over_tcp.load(Ordering::Relaxed);
    check_records(&soak.server, &soak.offices, over_tcp);
    let reloads = soak.tally.reloads.load(Ordering::Relaxed);
    let read = soak.server.log().matches(" event=reload ").count() as u64;
    // Two signals in quick succession may be one.
    assert!(read > 0 && read <= reloads, "{read} of {reloads} reloads");
}

/// Each call has one record, which says what became of it.
fn check_records(server: &Server, offices: &[Office], over_tcp: u64) {
    let state = rusqlite::Connection::open_with_flags(
        server.state(),
        rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
    )
    .unwrap();
    let sql = "SELECT caller_call_id, disposition FROM call_records";
    let mut statement = state.prepare(sql).unwrap();
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    let mut found = std::collections::BTreeMap::<String, String>::new();
    for row in rows {
        let (id, disposition): (String, String) = row.unwrap();
        let twice = found.insert(id.clone(), disposition);
        assert_eq!(twice, None, "{id} has two records");
    }
    for (id, called) in offices.iter().flat_map(|office| &office.calls) {
        let wanted = called.ended.map(|(ended, _)| ended);
        assert_eq!(found.remove(id).as_deref(), wanted, "{id}");
    }
    let is_over_tcp = |id: &&String| id.starts_with('t');
    assert_eq!(found.keys().filter(is_over_tcp).count() as u64, over_tcp);
    let other = found
        .keys()
        .find(|id| !id.starts_with('t') && !id.starts_with('f'));
    assert_eq!(other, None, "nobody has called");
}
