//! `kill -9` at random moments, under registrations, calls, feature codes, messages and bans, at the start and while the server
//! stops: what was acknowledged over a second before (and what the disk and this machine took) is there after the restart,
//! what was taken back is not, nothing is there twice, and the state file is whole.
//!
//! Two servers side by side, each with a load of its own, which goes on with the next one where it was left.
//! `CRASHES=1000 cargo test --test all -- --ignored --nocapture peers::crash::` kills that often; `SEED=…` at the same moments.

mod check;
mod history;
pub(super) mod load;
mod noise;
pub(super) mod street;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sipkeep::testing::random::Random;
use tempfile::TempDir;

use self::check::{Finds, Moment};
use self::load::{Counts, End, OFFICES, Office};
use self::noise::Noise;
use self::street::Street;
use super::desk::Phone;
use super::harness::{Network, Server};

/// Kills, unless `CRASHES` says otherwise.
const CRASHES: u64 = 20;
/// Servers side by side.
const SERVERS: u64 = 2;
/// What is younger may be lost, and what the disk's own time and this machine's noise add.
const YOUNG: Duration = Duration::from_secs(1);
/// From a start to its kill, in milliseconds.
const LIFE_MS: (u64, u64) = (300, 2_700);
/// Of 1,000 kills so many are followed by another while the server starts.
const AT_START: u32 = 150;
/// So many come while it stops.
const AT_STOP: u32 = 80;
/// Between a start or a stop and the kill.
const AT_ONCE: Duration = Duration::from_millis(150);

/// What the kills of one server have shown.
#[derive(Clone, Copy, Debug, Default)]
struct Report {
    kills: u64,
    counts: Counts,
    finds: Finds,
    slowest_start: Duration,
    /// The most that was allowed to be lost.
    window: Duration,
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let kills = number("CRASHES").unwrap_or(CRASHES);
    let seed = number("SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SEED={seed}, {kills} kills of {SERVERS} servers side by side");
    let reports: Vec<Report> = std::thread::scope(|scope| {
        let sites: Vec<_> = (0..SERVERS)
            .map(|site| {
                let random = Random::new(seed).fork(&format!("crash {site}"));
                scope.spawn(move || Site::new(random).play(kills.div_ceil(SERVERS)))
            })
            .collect();
        let ended = sites.into_iter().map(|site| site.join());
        ended
            .map(|report| report.unwrap_or_else(|_| panic!("SEED={seed}")))
            .collect()
    });
    let mut all = Report::default();
    for report in reports {
        all.kills += report.kills;
        all.counts.add(report.counts);
        all.finds.add(report.finds);
        all.slowest_start = all.slowest_start.max(report.slowest_start);
        all.window = all.window.max(report.window);
    }
    println!(
        "{} kills\nasked for: {:?}\nfound: {:?}",
        all.kills, all.counts, all.finds
    );
    println!(
        "slowest start {:?}, greatest loss {:?} of at most {:?}",
        all.slowest_start, all.finds.loss, all.window
    );
    assert!(
        all.finds.bindings > 0 && all.finds.bans > 0 && all.finds.records > 0,
        "nothing was checked"
    );
}

/// One server after the other on the same folder, and its load.
struct Site {
    random: Random,
    server: Option<Server>,
    end: End,
    offices: Vec<Office>,
    street: Street,
    /// Somebody unknown, with a challenge of the run that is up.
    stranger: Phone,
    noise: Noise,
    /// The folder of the noise.
    _folder: TempDir,
    report: Report,
    log_seen: usize,
}

impl Site {
    fn new(random: Random) -> Self {
        let config = format!("log = info\n\n{}", load::users());
        let server = Server::start(Network::take(), &config);
        let end = End::default();
        let offices = 1..=OFFICES;
        let offices = offices.map(|office| Office::new(office, &server, &random, &end));
        let stranger = server.network.host(59);
        let folder = tempfile::tempdir().unwrap();
        Self {
            offices: offices.collect(),
            street: Street::new(&server, &random, &end),
            stranger: Phone::udp("101", stranger, server.sip(), &end.is_over),
            noise: Noise::watch(folder.path()),
            _folder: folder,
            random,
            server: Some(server),
            end,
            report: Report::default(),
            log_seen: 0,
        }
    }

    fn play(mut self, kills: u64) -> Report {
        let mut has_nonce = false;
        while self.report.kills < kills {
            let begun = Instant::now();
            if !has_nonce {
                self.stranger.knock();
                has_nonce = self.stranger.heard(YOUNG).is_some();
            }
            let (moment, left) = self.live_and_die();
            self.report.window = self.report.window.max(moment.killed - moment.limit);
            let is_next_run = self.restart(left);
            self.check(&moment);
            // A nonce counts as long as the run after the one that made it.
            has_nonce &= is_next_run && moment.limit > begun;
            if has_nonce {
                self.check_nonce();
            }
            for office in &mut self.offices {
                let counts = std::mem::take(&mut office.counts);
                self.report.counts.add(counts);
            }
            let counts = std::mem::take(&mut self.street.counts);
            self.report.counts.add(counts);
        }
        self.end()
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Puts the load on it until it is killed: when, and what is left of it.
    fn live_and_die(&mut self) -> (Moment, (Network, TempDir)) {
        self.end.is_over.store(false, Ordering::Relaxed);
        let life = Duration::from_millis(self.random.between(LIFE_MS.0, LIFE_MS.1));
        let stops = self.random.chance(AT_STOP);
        let while_stopping = self.random.up_to(AT_ONCE);
        let Self {
            server,
            end,
            offices,
            street,
            noise,
            ..
        } = self;
        let server = server.take().unwrap();
        let (killed, late, left) = std::thread::scope(|scope| {
            let offices = offices
                .iter_mut()
                .map(|office| scope.spawn(|| office.live()));
            let mut threads: Vec<_> = offices.collect();
            threads.push(scope.spawn(|| street.live()));
            std::thread::sleep(life);
            let sync_ms = server.get("status")["store"]["sync_ms"].as_u64().unwrap();
            let late = Duration::from_millis(sync_ms) + noise.late();
            if stops {
                end.is_over.store(true, Ordering::Relaxed);
                threads.drain(..).for_each(|thread| thread.join().unwrap());
                server.signal("TERM");
                std::thread::sleep(while_stopping);
            }
            let killed = Instant::now();
            let left = server.cut_power();
            end.is_over.store(true, Ordering::Relaxed);
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
            (killed, late, left)
        });
        self.report.kills += 1;
        self.end.is_over.store(false, Ordering::Relaxed);
        check::is_whole(&left.1.path().join("sipkeep.db"));
        let limit = killed - YOUNG - late;
        (Moment { killed, limit }, left)
    }

    /// Starts it again, perhaps after starts that are cut off as well. Whether there were none.
    fn restart(&mut self, (network, mut folder): (Network, TempDir)) -> bool {
        let mut is_first = true;
        while self.random.chance(AT_START) {
            let server = Server::begin_in(network, folder);
            std::thread::sleep(self.random.up_to(AT_ONCE));
            (_, folder) = server.cut_power();
            check::is_whole(&folder.path().join("sipkeep.db"));
            self.report.kills += 1;
            is_first = false;
        }
        let begun = Instant::now();
        self.server = Some(Server::start_in(network, folder));
        self.report.slowest_start = self.report.slowest_start.max(begun.elapsed());
        is_first
    }

    /// Stops it in order: nothing of what it has may be lost then.
    fn end(mut self) -> Report {
        let moment = Moment {
            killed: Instant::now(),
            limit: Instant::now(),
        };
        let mut server = self.server.take().unwrap();
        server.signal("TERM");
        let status = server.wait_for_end(super::harness::STOP);
        assert!(status.success(), "{status}: {}", server.log());
        let (network, folder) = server.cut_power();
        check::is_whole(&folder.path().join("sipkeep.db"));
        self.server = Some(Server::start_in(network, folder));
        self.check(&moment);
        self.report
    }
}
