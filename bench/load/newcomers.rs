//! Phones that the server has never heard of: each registers once, from an address of its own, with the retransmissions
//! of RFC 3261 §17.1.2.2 and no others, so that what a flood leaves of a stranger's service is seen.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use sipkeep::message::parse;

use crate::arguments::{Arguments, Pace};
use crate::engine::Job;
use crate::message::{self, User};
use crate::process::{self, CpuTime};
use crate::report::Report;

/// The addresses that they come from, one after the other.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 30, 0, 1);
static NEXT_ADDRESS: AtomicU32 = AtomicU32::new(0);

/// RFC 3261 §17.1.1.1.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const GIVES_UP: Duration = Duration::from_secs(32);

/// What became of one.
struct Outcome {
    /// Until 200; `None`: it gave up.
    took: Option<Duration>,
    refused: Option<u16>,
    retransmitted: u64,
}

/// Lets `per_second` come for as long as `arguments` say, once `prepared` has returned. They are the users from
/// `first_user` on, `users` of them by turns.
///
/// # Errors
/// What went wrong, for people.
pub fn run(
    arguments: &Arguments,
    per_second: f64,
    (first_user, users): (u32, u32),
    prepared: impl FnOnce(),
) -> Result<Report, String> {
    prepared();
    let cpu = || arguments.pid.map(CpuTime::of).transpose();
    let before = cpu()?;
    let begun = Instant::now();
    let mut threads = Vec::new();
    while begun.elapsed() < arguments.measured {
        let number = threads.len() as u32;
        let due = Duration::from_secs_f64(f64::from(number) / per_second);
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let (arguments, user) = (arguments.clone(), first_user + number % users);
        threads.push(std::thread::spawn(move || register(&arguments, user)));
    }
    let elapsed = begun.elapsed();
    let after = cpu()?;
    let mut report = Report::new("newcomers", Pace::Rate(per_second), elapsed);
    report.messages_of_job = 4;
    report.cpu = after.zip(before).map(|(now, then)| now.since(&then));
    report.resident_bytes = arguments.pid.and_then(process::resident_bytes);
    let mut latency = Histogram::new(3).map_err(|error| error.to_string())?;
    let total = &mut report.total;
    for thread in threads {
        let outcome = thread.join().map_err(|_| "a phone's thread panicked")??;
        total.retransmitted += outcome.retransmitted;
        match (outcome.took, outcome.refused) {
            (Some(took), _) => {
                total.done += 1;
                latency
                    .record(took.as_micros() as u64)
                    .map_err(|error| error.to_string())?;
            }
            (None, Some(status)) => {
                total.failed += 1;
                *total.statuses.entry(status).or_default() += 1;
            }
            (None, None) => total.lost += 1,
        }
    }
    total.latency = Some(latency);
    Ok(report)
}

/// One phone: challenged, answered, registered.
fn register(arguments: &Arguments, number: u32) -> Result<Outcome, String> {
    let run = NEXT_ADDRESS.fetch_add(1, Ordering::Relaxed);
    let address = Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + run);
    let said = |error: std::io::Error| format!("{address}: {error}");
    let socket = UdpSocket::bind((address, 0)).map_err(said)?;
    let local = socket.local_addr().map_err(said)?;
    socket.connect(arguments.target).map_err(said)?;
    let domain = arguments.domain();
    let mut user = User::new(number, &domain, &arguments.password, run);
    let begun = Instant::now();
    let mut outcome = Outcome {
        took: None,
        refused: None,
        retransmitted: 0,
    };
    for serial in 0..2 {
        let job = Job {
            run,
            slot: number,
            serial,
        };
        let mut request = Vec::new();
        user.register(&message::branch(job), local, &domain, &mut request);
        let Some(answer) = exchange(&socket, &request, &mut outcome).map_err(said)? else {
            return Ok(outcome);
        };
        match (message::status(&answer), parse(&answer)) {
            (200, _) => {
                outcome.took = Some(begun.elapsed());
                return Ok(outcome);
            }
            (401, Ok(answer)) if serial == 0 && user.challenged(&answer) => {}
            (status, _) => outcome.refused = Some(status),
        }
    }
    Ok(outcome)
}

/// A client transaction; `None`: no answer within 64·T1.
fn exchange(
    socket: &UdpSocket,
    request: &[u8],
    outcome: &mut Outcome,
) -> std::io::Result<Option<Vec<u8>>> {
    let begun = Instant::now();
    let mut buffer = vec![0; 4_096];
    let mut interval = T1;
    let mut next = begun;
    loop {
        let now = Instant::now();
        if now.duration_since(begun) >= GIVES_UP {
            return Ok(None);
        }
        if now >= next {
            outcome.retransmitted += u64::from(next > begun);
            socket.send(request)?;
            next = now + interval;
            interval = (interval * 2).min(T2);
        }
        let wait = next.duration_since(now).max(Duration::from_millis(1));
        socket.set_read_timeout(Some(wait))?;
        match socket.recv(&mut buffer) {
            Ok(length) => return Ok(Some(buffer[..length].to_vec())),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) => {}
            Err(error) => return Err(error),
        }
    }
}
