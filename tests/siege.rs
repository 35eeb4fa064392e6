//! Seeds of the sieges (`testing::siege`), each play on its own. `SEED=123` plays that one only, `SEEDS=1000` that many:
//! `SEEDS=1000 cargo test --profile simulation --test all siege::`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sipkeep::testing::siege::carrier::{self, Play};
use sipkeep::testing::siege::{Summary, line, newcomer, office, victim};

/// Of each play.
const SEEDS: u64 = 100;
/// Of the carrier's calls in each seed; `SECONDS=60` plays a whole minute.
const SECONDS: u64 = 4;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text}: not a number")),
    )
}

/// Plays all the seeds; a failure says which one.
fn play(name: &str, run: impl Fn(u64) -> Result<Summary, String>) -> Summary {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..number("SEEDS").unwrap_or(SEEDS) + 1,
    };
    let mut all = Summary::default();
    let mut failures = Vec::new();
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(Ok(summary)) => all.add(&summary),
            Ok(Err(error)) => failures.push(format!("SEED={seed} {name}: {error}")),
            Err(_) => failures.push(format!("SEED={seed} {name} panicked, see above")),
        }
    }
    println!("{name}: {all:?}");
    let count = failures.len();
    failures.truncate(10);
    assert!(count == 0, "{count} failed:\n{}", failures.join("\n"));
    all
}

#[test]
fn office() {
    let all = play("office", office::run);
    assert!(all.registered > 0, "nothing happened: {all:?}");
}

#[test]
fn carrier() {
    let seconds = number("SECONDS").unwrap_or(SECONDS);
    let all = play("carrier", |seed| carrier::run(seed, Play::busy(seconds)));
    assert!(all.calls > 0 && all.flood > 0, "nothing happened: {all:?}");
}

#[test]
fn carrier_forged_without_end() {
    let seconds = number("SECONDS").unwrap_or(SECONDS);
    let all = play("carrier_forged_without_end", |seed| {
        carrier::run(seed, Play::silenced(seconds))
    });
    assert!(all.calls > 0 && all.flood > 0, "nothing happened: {all:?}");
}

#[test]
fn line() {
    let all = play("line", line::run);
    assert!(all.calls > 0 && all.flood > 0, "nothing happened: {all:?}");
}

#[test]
fn victim() {
    let all = play("victim", victim::run);
    assert!(all.calls > 0 && all.flood > 0, "nothing happened: {all:?}");
}

#[test]
fn newcomer() {
    let all = play("newcomer", newcomer::run);
    assert!(
        all.registered > 0 && all.flood > 0,
        "nothing happened: {all:?}"
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert_eq!(office::run(7), office::run(7));
    assert_eq!(victim::run(7), victim::run(7));
}
