//! What it costs to decide about a packet: `guard/admit/...`, in nanoseconds for each, the best of many short runs.
//!
//! `cargo bench --bench guard [-- FILTER]`

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use sipkeep::config::{self, Config};
use sipkeep::guard::{Admission, Guard};
use sipkeep::limits;
use sipkeep::nonce::Nonces;
use sipkeep::source::Source;
use sipkeep::time::{Instant, Now, UnixTime};

const ROUNDS: usize = 15;
/// Operations that are timed at once.
const RUN: usize = 1 << 14;
const OPERATIONS: usize = 1 << 20;

fn main() {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with("--"));
    let bench = |name: &str, run: fn() -> f64| {
        if filter
            .as_ref()
            .is_none_or(|filter| name.contains(filter.as_str()))
        {
            println!("{name:<32} {:>8.1} ns", run());
        }
    };
    bench("guard/admit/banned_100k", banned_100k);
    bench("guard/admit/unproven_full", unproven_full);
    bench("guard/admit/unproven_forged", unproven_forged);
    bench("guard/admit/known", known);
    bench("nonce/mint", nonce_mint);
    bench("nonce/fresh", nonce_fresh);
}

fn at(micros: u64) -> Now {
    Now {
        mono: Instant::from_micros(micros),
        unix: UnixTime::from_millis(1_790_000_000_000 + micros / 1000),
    }
}

/// Sources as scanners have them: all over the address space, no two alike (an odd factor permutes 32 bits).
fn source(n: usize) -> Source {
    Source::of(IpAddr::V4(Ipv4Addr::from_bits(
        (n as u32).wrapping_mul(0x9e37_79b1),
    )))
}

/// The guard as it faces a flood: 100,000 bans, a full table of unproven sources.
fn guard() -> Guard {
    let config: config::Guard = Config::read("", Path::new("/"))
        .expect("the defaults")
        .guard;
    let mut guard = Guard::new(at(0), &config, &[42; 32], Vec::new(), Vec::new());
    for n in 0..100_000 {
        guard
            .ban(at(0), source(n), Some(Duration::from_secs(3600)))
            .expect("a ban");
    }
    for n in 0..limits::UNPROVEN_SOURCES_MAX {
        guard.admit(at(0), source(1_000_000 + n), false, false);
    }
    for n in 0..10_000 {
        guard.succeeded(at(0), source(2_000_000 + n), b"100");
    }
    guard
}

/// Nanoseconds for each operation: the best of many short runs, each over other items, since a long run on a busy
/// machine measures the others. The order is shuffled beforehand, so that no prefetcher helps.
fn measure<T>(items: &[T], mut operation: impl FnMut(usize, &T)) -> f64 {
    let (mut best, mut n) = (f64::MAX, 0);
    for _ in 0..ROUNDS {
        for run in items.chunks_exact(RUN) {
            let start = std::time::Instant::now();
            for item in run {
                operation(n, item);
                n += 1;
            }
            best = best.min(start.elapsed().as_nanos() as f64 / RUN as f64);
        }
    }
    best
}

/// So many sources from `first` on, in an order without pattern.
fn shuffled(first: usize, count: usize) -> Vec<Source> {
    let mut state = 1u64;
    (0..OPERATIONS)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            source(first + (state >> 33) as usize % count)
        })
        .collect()
}

/// 100,000 packets a second of these sources.
fn admit(first: usize, count: usize) -> f64 {
    let mut guard = guard();
    let mut admitted = 0u64;
    let ns = measure(&shuffled(first, count), |n, source| {
        let admission = guard.admit(at(1_000_000 + n as u64 * 10), *source, false, false);
        admitted += u64::from(matches!(admission, Admission::Admit(_)));
    });
    black_box(admitted);
    ns
}

fn banned_100k() -> f64 {
    admit(0, 100_000)
}

fn unproven_full() -> f64 {
    admit(1_000_000, limits::UNPROVEN_SOURCES_MAX)
}

/// A million sources, each new to the table most of the time.
fn unproven_forged() -> f64 {
    admit(3_000_000, 1_000_000)
}

fn known() -> f64 {
    admit(2_000_000, 10_000)
}

fn nonce_mint() -> f64 {
    let mut nonces = Nonces::new(at(0), &[42; 32], None);
    measure(&shuffled(0, 1_000)[..1 << 16], |n, source| {
        black_box(nonces.mint(at(n as u64), *source, b"sipkeep", false));
    })
}

fn nonce_fresh() -> f64 {
    let mut nonces = Nonces::new(at(0), &[42; 32], None);
    let minted: Vec<_> = shuffled(0, 1_000)[..1 << 16]
        .iter()
        .map(|source| (*source, nonces.mint(at(0), *source, b"sipkeep", false)))
        .collect();
    measure(&minted, |n, (source, text)| {
        assert!(
            nonces
                .fresh(at(n as u64), *source, b"sipkeep", text)
                .is_some()
        );
    })
}
