//! Seeds of the simulated office (`testing::simulate`), of the storm (`testing::storm`), of the races (`testing::races`) and of
//! the day of lines (`testing::day`). `SEED=123` plays that one only, `SEEDS=1000` that many:
//! `SEEDS=1000 cargo test --profile simulation --test all simulate::day`.
//!
//! The years (`testing::years`) are played on all cores, without `SEEDS` for two minutes at most; `FROM=5000` begins there. What
//! fails is made smaller (`SHRINK=0`: it is not) and printed as a plan, which `SEED=123 PLAN='…'` plays again.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sipkeep::testing::years::door::Sabotage;
use sipkeep::testing::years::plan::{Deed, Plan};
use sipkeep::testing::{day, fraud, races, simulate, storm, thousand, years};

/// As many as a minute on a slow machine allows without optimization.
const OFFICE_SEEDS: u64 = 300;
/// These are longer.
const STORM_SEEDS: u64 = 100;
const DAY_SEEDS: u64 = 100;
const RACES_SEEDS: u64 = 100;
/// Each is a working afternoon.
const FRAUD_SEEDS: u64 = 5;
/// Half an hour each, on all cores ...
const YEARS_SEEDS: u64 = 2_000;
/// ... for so long at most, if nobody says how many.
const YEARS_LAST: Duration = Duration::from_secs(120);
/// Within so many of them everything that may go wrong does.
const ALL_KINDS: u64 = 1_000;
/// One call in so many, at most, may go wrong with an excuse.
const EXCUSED: usize = 20;
/// Plays that a failure is made smaller with.
const SHRINK_PLAYS: usize = 300;
/// Seeds within which each sabotage must be noticed.
const SABOTAGE_SEEDS: u64 = 12;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: not a number")),
    )
}

fn seeds(by_default: u64) -> Range<u64> {
    match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..number("SEEDS").unwrap_or(by_default) + 1,
    }
}

/// Plays these seeds and adds up what happened; a failure says which ones failed. True: there was more than one, so that every
/// kind of thing should have happened.
fn play<S>(seeds: Range<u64>, run: fn(u64) -> Result<S, String>, mut add: impl FnMut(S)) -> bool {
    let is_single = seeds.end - seeds.start == 1;
    let mut failures = Vec::new();
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(Ok(summary)) => add(summary),
            Ok(Err(error)) => failures.push(format!("SEED={seed} {error}")),
            Err(_) => failures.push(format!("SEED={seed} panicked, see above")),
        }
    }
    let count = failures.len();
    failures.truncate(10);
    assert!(count == 0, "{count} failed:\n{}", failures.join("\n"));
    !is_single
}

#[test]
fn simulate() {
    let mut all = simulate::Summary::default();
    let are_many = play(seeds(OFFICE_SEEDS), simulate::run, |summary| {
        all.add(&summary);
    });
    println!("{all:?}");
    // A simulation in which nothing happens proves nothing.
    if are_many {
        assert!(
            all.answered > 0 && all.cancelled > 0 && all.banned > 0,
            "{all:?}"
        );
    }
}

#[test]
fn storm() {
    let mut all = storm::Summary::default();
    let are_many = play(seeds(STORM_SEEDS), storm::run, |summary| all.add(&summary));
    println!("{all:?}");
    if are_many {
        assert!(
            all.answered * 4 > all.calls && all.cancelled > 0 && all.refused > 0,
            "{all:?}"
        );
        assert!(all.whims > 0 && all.mishaps > 0, "{all:?}");
        // What a bad line really loses is little.
        assert!(all.timeouts * 200 < all.calls, "{all:?}");
    }
}

#[test]
fn races() {
    let mut all = races::Summary::default();
    let are_many = play(seeds(RACES_SEEDS), races::run, |summary| all.add(&summary));
    println!("{all:?}");
    if are_many {
        // Each kind of clash, and those that may end in two ways in both of them.
        assert!(all.clashes.iter().all(|(count, _)| *count > 0), "{all:?}");
        let (cancelled, answered) = all.cancelled;
        assert!(0 < answered && answered < cancelled, "{all:?}");
        assert!(
            all.too_late > 0 && all.glares > 0 && all.pracks > 0,
            "{all:?}"
        );
        assert!(all.transfers > 0 && all.pickups > 0, "{all:?}");
    }
}

#[test]
fn fraud() {
    let mut all = fraud::Summary::default();
    let hours = 5;
    let seeds = seeds(FRAUD_SEEDS);
    let count = (seeds.end - seeds.start) as usize;
    play(
        seeds,
        |seed| fraud::run(seed, 5),
        |summary: fraud::Summary| {
            all.out += summary.out;
            all.refused += summary.refused;
            all.numbers += summary.numbers;
            all.answered += summary.answered;
        },
    );
    println!("{all:?}");
    // As many numbers as may be, or nearly; so it is the brake that has stopped them.
    assert!(all.refused > 0 && all.answered > 0, "{all:?}");
    assert!(all.numbers > count * hours * 20 * 8 / 10, "{all:?}");
}

#[test]
fn day() {
    let mut all = day::Summary::default();
    let are_many = play(seeds(DAY_SEEDS), day::run, |summary| all.add(&summary));
    println!("{all:?}");
    if are_many {
        assert!(all.answered * 4 > all.out + all.into, "{all:?}");
        assert!(all.out > 0 && all.into > 0 && all.forgotten > 0, "{all:?}");
        assert!(
            all.refused > 0 && all.mishaps > 0 && all.power_cuts > 0,
            "{all:?}"
        );
        // What a bad way really loses is little.
        assert!(all.timeouts * 20 < all.into, "{all:?}");
    }
}

#[test]
fn a_thousand_lines() {
    let report = thousand::run(1, 1_000).unwrap_or_else(|error| panic!("{error}"));
    println!("1,000 lines: {report}");
    let (start, spread) = report.start;
    // Two REGISTERs each, one line every 100 ms after the first ten.
    assert!(start <= Duration::from_secs(110) && spread.registers == 2_000);
    // Half of an hour, which is what was granted; then the longest back-off.
    assert!(report.restart.0 <= Duration::from_secs(2_100));
    assert!(report.back.0 <= Duration::from_secs(1_900));
    for spread in [
        spread,
        report.day,
        report.restart.1,
        report.absence,
        report.back.1,
    ] {
        assert!(spread.per_second <= 40, "{spread:?}");
    }
    // An even day would be 70 a minute. Those that have started together drift apart.
    assert!(report.day.per_minute <= 400 && report.back.1.per_minute <= 400);
    // 5 s, 10 s, 20 s … half an hour: ten tries of each line, and no more.
    assert!(report.absence.registers <= 15_000, "{:?}", report.absence);
}

/// Bytes that a server with so many registered lines has on its heap.
fn heap(lines: usize) -> u64 {
    let mut all = thousand::Thousand::new(1, lines).expect("a configuration");
    all.register_all().expect("they register");
    // Until the transactions are forgotten.
    all.pass(Duration::from_secs(60));
    let mut copy = None;
    let info = allocation_counter::measure(|| copy = Some(all.server().clone()));
    u64::try_from(info.bytes_current).expect("it has some")
}

#[test]
fn a_line_takes_little_memory() {
    let per_line = (heap(1_000) - heap(0)) / 1_000;
    println!("1,000 lines: {per_line} bytes each");
    assert!((500..4_096).contains(&per_line), "{per_line} bytes a line");
}

/// What does not hold, if the seed fails with this plan.
fn years_fail(seed: u64, plan: &Plan, sabotage: Option<Sabotage>) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| years::play(seed, plan, sabotage))) {
        Ok(outcome) => outcome.err(),
        Err(_) => Some("panicked, see above".to_owned()),
    }
}

/// What kind of failure it is: its words, without who, when and how many.
fn kind_of(error: &str) -> Vec<&str> {
    let words = error.split_ascii_whitespace();
    let is_general = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    words.filter(is_general).take(6).collect()
}

#[test]
fn failures_of_one_kind_differ_in_whom_they_befall() {
    let one = "the INVITE of 7f3a@101 from 198.51.100.11:5060: Timeout";
    let other = "the INVITE of 99@102 from 198.51.100.12:5060: Pending";
    assert_eq!(kind_of(one), kind_of(other));
    let third = "at 1200 ms: something was sent to the banned 198.18.0.1:5060";
    assert_ne!(kind_of(one), kind_of(third));
    assert!(kind_of(third).len() > 3);
}

/// The smallest plan that fails in this way, and how to play it again.
fn failed_years(seed: u64, plan: &Plan, error: &str) -> String {
    let mut small = plan.clone();
    if std::env::var("SHRINK").as_deref() != Ok("0") {
        let kind = kind_of(error);
        small = years::shrink::shrink(plan, SHRINK_PLAYS, |plan| {
            years_fail(seed, plan, None).is_some_and(|why| kind_of(&why) == kind)
        });
    }
    let why = years_fail(seed, &small, None).unwrap_or_else(|| error.to_owned());
    format!(
        "SEED={seed} {error}\n  made smaller: {why}\n  again: \
         SEED={seed} PLAN='{small}' cargo test --profile simulation --test all simulate::years -- --exact"
    )
}

/// CPU time of this thread so far (proc(5)), whatever else the machine does.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// All that the threads have in common.
#[derive(Default)]
struct Played {
    all: years::Summary,
    cpu: Duration,
    seeds: u64,
    failures: Vec<String>,
}

/// Plays the next seed, and the next, until there is none or no time is left.
fn play_years(next: &AtomicU64, end: u64, until: Option<Instant>, played: &Mutex<Played>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let is_over = until.is_some_and(|until| Instant::now() > until);
        if seed >= end || is_over || played.lock().unwrap().failures.len() >= 3 {
            return;
        }
        let plan = match std::env::var("PLAN") {
            Ok(text) => text.parse().unwrap_or_else(|error| panic!("PLAN: {error}")),
            Err(_) => years::plan_of(seed),
        };
        let begun = cpu_time();
        match catch_unwind(AssertUnwindSafe(|| years::play(seed, &plan, None))) {
            Ok(Ok(summary)) => {
                let took = cpu_time().saturating_sub(begun);
                let mut played = played.lock().unwrap();
                played.all.add(&summary);
                played.cpu += took;
                played.seeds += 1;
            }
            Ok(Err(error)) => {
                let text = failed_years(seed, &plan, &error);
                played.lock().unwrap().failures.push(text);
            }
            Err(_) => {
                let text = failed_years(seed, &plan, "panicked, see above");
                played.lock().unwrap().failures.push(text);
            }
        }
    }
}

#[test]
fn years() {
    let seeds = match (number("SEED"), number("FROM")) {
        (None, Some(from)) => from..from + number("SEEDS").unwrap_or(YEARS_SEEDS),
        _ => seeds(YEARS_SEEDS),
    };
    let is_bounded = number("SEED").or(number("SEEDS")).is_none();
    let begun = Instant::now();
    let until = is_bounded.then(|| begun + YEARS_LAST);
    let (next, played) = (AtomicU64::new(seeds.start), Mutex::new(Played::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| play_years(&next, seeds.end, until, &played));
        }
    });
    let Played {
        all,
        cpu,
        seeds: count,
        failures,
    } = played.into_inner().unwrap();
    let took = begun.elapsed();
    println!(
        "years: {count} seeds, {} calls, {} answered, {} faults, {} kills, {} stops, {} writes, {} packets ({} corrupted), \
         {} of attackers, {} banned, {} excused, {:.1} days in {:.0} s, {:.1} ms of CPU a seed\nfaults: {:?}",
        all.calls,
        all.answered,
        all.faults.values().sum::<usize>(),
        all.kills,
        all.stops,
        all.writes,
        all.packets,
        all.corrupted,
        all.attacks,
        all.banned,
        all.excused,
        all.time.as_secs_f64() / 86_400.0,
        took.as_secs_f64(),
        cpu.as_secs_f64() * 1e3 / count.max(1) as f64,
        all.faults,
    );
    assert!(
        failures.is_empty(),
        "{} failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    if count >= 100 {
        assert!(
            all.calls as u64 >= 50 * count && all.answered * 3 > all.calls,
            "{all:?}"
        );
        assert!(all.kills > 0 && all.stops > 0 && all.writes > 0, "{all:?}");
        assert!(
            all.banned > 0 && all.corrupted > 0 && all.attacks > 0,
            "{all:?}"
        );
        // What is excused is little, or the judge is a kind one.
        assert!(all.excused * EXCUSED < all.calls, "{all:?}");
    }
    if count >= ALL_KINDS {
        assert!(all.faults.keys().copied().eq(Deed::FAULT_KINDS), "{all:?}");
    }
}

/// A judge who never finds anything would be of no use: a server that is not right is found out soon, and for what it does.
#[test]
fn years_notice_every_sabotage() {
    let mut otherwise = Vec::new();
    for (sabotage, sign) in Sabotage::ALL {
        let mut seeds = 1..=SABOTAGE_SEEDS;
        // What is needed for it to be seen happens in every plan.
        let harm = "400000 crack 40; 600000 kill now 2000; 700000 crack 20";
        let found = seeds.find_map(|seed| {
            let plan = format!("{}; {harm}", years::plan_of(seed));
            let plan = plan.parse().expect("a plan");
            let why = years_fail(seed, &plan, Some(sabotage))?;
            let unbroken = years_fail(seed, &plan, None);
            assert_eq!(unbroken, None, "SEED={seed} PLAN='{plan}'");
            Some((seed, why))
        });
        let Some((seed, why)) = found else {
            panic!("{sabotage:?} was not noticed in {SABOTAGE_SEEDS} seeds");
        };
        let line = why.lines().next().unwrap_or("");
        println!("{sabotage:?}: noticed in seed {seed}: {line}");
        if !why.contains(sign) {
            otherwise.push((sabotage, seed, sign));
        }
    }
    assert!(otherwise.is_empty(), "noticed otherwise: {otherwise:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 7..=12 {
        let run = || years::run(seed).unwrap_or_else(|error| panic!("SEED={seed} {error}"));
        let first = run();
        assert_eq!(first, run());
        assert_ne!(first.trace, 0);
    }
    let run = || simulate::run(7).unwrap_or_else(|error| panic!("SEED=7 {error}"));
    assert_eq!(run(), run());
    let run = || storm::run(7).unwrap_or_else(|error| panic!("SEED=7 {error}"));
    assert_eq!(run(), run());
    let run = || races::run(7).unwrap_or_else(|error| panic!("SEED=7 {error}"));
    assert_eq!(run(), run());
    let run = || day::run(7).unwrap_or_else(|error| panic!("SEED=7 {error}"));
    assert_eq!(run(), run());
}
