//! Seeds of the simulated office (`testing::simulate`). `SEED=123` plays that one only, `SEEDS=1000` that many.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sipkeep::testing::simulate::{self, Summary};

/// As many as a minute on a slow machine allows without optimization.
const SEEDS: u64 = 200;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: not a number")))
}

#[test]
fn simulate() {
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..number("SEEDS").unwrap_or(SEEDS) + 1,
    };
    let is_single = seeds.end - seeds.start == 1;
    let mut all = Summary::default();
    for seed in seeds {
        let result = catch_unwind(AssertUnwindSafe(|| simulate::run(seed)));
        match result {
            Ok(Ok(summary)) => {
                all.calls += summary.calls;
                all.answered += summary.answered;
                all.cancelled += summary.cancelled;
                all.junk += summary.junk;
                all.banned += summary.banned;
            }
            Ok(Err(error)) => panic!("SEED={seed} {error}"),
            Err(_) => panic!("SEED={seed} panicked, see above"),
        }
    }
    println!("{all:?}");
    // A simulation in which nothing happens proves nothing.
    if !is_single {
        assert!(all.answered > 0 && all.cancelled > 0 && all.banned > 0, "{all:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = || simulate::run(7).unwrap_or_else(|error| panic!("SEED=7 {error}"));
    assert_eq!(run(), run());
}
