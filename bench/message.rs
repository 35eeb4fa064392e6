//! `message/parse`: nanoseconds of one parse, and as a multiple of one memchr pass that finds the same line ends, measured in
//! turns in the same run. Aim 15, accepted 25; over that the exit code is 1.
//!
//! cargo bench --bench message

mod fixtures;

use std::hint::black_box;
use std::time::{Duration, Instant};

use sipkeep::message::{Composer, HeaderName, parse, salvage};
use sipkeep::source::{Flow, Transport};

use fixtures::{INVITE, OK, REGISTER};

const ACCEPTED: f64 = 25.0;

/// Nanoseconds of one call of `body`, over a stretch that is short against a time slice.
fn time(mut body: impl FnMut()) -> f64 {
    const CALLS: u32 = 50;
    let start = Instant::now();
    for _ in 0..CALLS {
        body();
    }
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

/// The tenth of the samples from below: the work is the same each time, so what is above it is the machine's other work.
fn undisturbed(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 10]
}

/// Both in turns until `duration` is over; the undisturbed times.
fn in_turns(duration: Duration, mut one: impl FnMut(), mut other: impl FnMut()) -> (f64, f64) {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    let start = Instant::now();
    while start.elapsed() < duration {
        ones.push(time(&mut one));
        others.push(time(&mut other));
    }
    (undisturbed(&mut ones), undisturbed(&mut others))
}

/// Finds every line end, one by one, as a parser needs them.
fn line_ends(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).fold(0, |sum, at| sum ^ black_box(at))
}

fn main() {
    let duration = Duration::from_millis(1500);
    let mut over = false;
    for (id, text) in [
        ("register_500B", REGISTER),
        ("invite_sdp_1200B", INVITE),
        ("ok_200", OK),
    ] {
        let bytes = text.as_bytes();
        if let Err(error) = parse(bytes) {
            panic!("{id}: {error}");
        }
        let (parsed, pass) = in_turns(
            duration,
            || {
                black_box(parse(black_box(bytes)).is_ok());
            },
            || {
                black_box(line_ends(black_box(bytes)));
            },
        );
        let ratio = parsed / pass;
        over |= ratio > ACCEPTED;
        println!(
            "message/parse/{id:<20} {parsed:>7.0} ns {:>5} bytes {pass:>5.0} ns memchr {ratio:>6.1} x",
            bytes.len()
        );
    }
    let flow = Flow {
        transport: Transport::Udp,
        local: "192.168.1.1:5060".parse().expect("an address"),
        remote: "192.168.1.50:5062".parse().expect("an address"),
        connection: None,
    };
    let request = parse(REGISTER.as_bytes()).expect("parsed above");
    let mut buffer = Vec::new();
    let (composed, salvaged) = in_turns(
        duration,
        || {
            let mut composer =
                Composer::response_to(&mut buffer, &request, &flow, 200, "OK", b"c0ffee");
            for value in request.values(HeaderName::Contact) {
                composer.field("Contact", &[value]);
            }
            composer.finish(None, b"");
            black_box(buffer.len());
        },
        || {
            black_box(salvage(black_box(REGISTER.as_bytes())).is_some());
        },
    );
    println!("message/compose/ok_200           {composed:>7.0} ns");
    println!("message/salvage/register_500B    {salvaged:>7.0} ns");
    if over {
        println!("over {ACCEPTED} times one memchr pass");
        std::process::exit(1);
    }
}
