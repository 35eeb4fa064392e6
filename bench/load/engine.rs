//! The loop: begins jobs at a pace, finds the job that an answer belongs to by its branch, repeats unanswered requests
//! (RFC 3261 §17.1: Timers A, E, B, F), measures.
//!
//! A job is one request or a row of them (a call), one at a time. Its number in the branch tells an answer's job without
//! a table: `z9hG4bK`, the run's number, the slot, the serial, eight hexadecimal digits each.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use memchr::memmem::Finder;
use sipkeep::net::sys::ReceiveBatch;
use sipkeep::time::{self, TimerId, TimerQueue};

use crate::arguments::{Arguments, Command, Pace, Scenario as Name};
use crate::message;
use crate::process::{self, CpuTime};
use crate::report::Report;
use crate::socket::{Outbox, Udp, Waiter};

/// Jobs at a time in an open loop. More that are due wait, and their latency counts from when they were due.
const JOBS_MAX: usize = 65_536;
/// Window of the closed loop unless another is said.
const WINDOW: usize = 128;
/// Timers A and E: T1, doubled. The last one is for what is left of 64·T1 and for an INVITE that rings.
const TIMERS_MS: [u64; 6] = [500, 1_000, 2_000, 4_000, 8_000, 32_000];
/// The class of the timer that ends a job.
const LAST_TIMER: usize = TIMERS_MS.len() - 1;
/// How long to wait for the answers to what is still in progress when the time is over.
const DRAIN: Duration = Duration::from_millis(1_500);
/// The longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;

/// A request in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Number of the run, so that no answer of an earlier one is taken for ours.
    pub run: u32,
    /// Place in the table of jobs.
    pub slot: u32,
    /// One more for each request from this place.
    pub serial: u32,
}

/// What an answer means to its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Provisional: the request is not repeated any more.
    Waits,
    /// Provisional, and the callee rings: time to it is measured.
    Rings,
    /// The next request of the job was composed.
    Next,
    /// The job has ended well.
    Done,
    /// It has not.
    Failed,
}

/// A scenario: composes requests, reads answers.
pub trait Scenario {
    /// Whom requests come from beside the first socket: sockets in all.
    const SOCKETS: usize;
    /// Addresses of those sockets.
    fn addresses(&self, bind: IpAddr) -> Vec<IpAddr> {
        vec![bind; Self::SOCKETS]
    }
    /// The socket that a job's requests leave by.
    fn socket(&self, _slot: u32) -> usize {
        0
    }
    /// Called once with the sockets' addresses.
    fn bound(&mut self, locals: &[SocketAddr]);
    /// What happens before the load: registrations. Sends and receives by itself.
    ///
    /// # Errors
    /// Why the load makes no sense, for people.
    fn prepare(&mut self, sockets: &mut [Udp], run: u32) -> Result<(), String>;
    /// Composes the first request of a job; false: nobody is free to make one now.
    fn begin(&mut self, job: Job, request: &mut Vec<u8>) -> bool;
    /// An answer to the job's request. `next` is the job that a further request, composed into `request`, belongs to.
    fn answer(
        &mut self,
        job: Job,
        next: Job,
        bytes: &[u8],
        request: &mut Vec<u8>,
        out: &mut Outbox,
    ) -> Verdict;
    /// An answer to a request that is no longer waited for.
    fn late(&mut self, bytes: &[u8], out: &mut Outbox);
    /// A request that came to a socket.
    fn serve(&mut self, socket: usize, bytes: &[u8], out: &mut Outbox);
    /// The job is over, however it ended.
    fn end(&mut self, slot: u32);
    /// All that it had to do has begun: the run is over with the last job.
    fn is_complete(&self) -> bool {
        false
    }
    /// Whether its own requests may come back as answers.
    fn is_echo(&self) -> bool {
        false
    }
    /// Messages that the server receives and sends for one job that goes well.
    fn messages_of_job(&self) -> u32;
}

#[derive(Default)]
struct Slot {
    serial: u32,
    is_busy: bool,
    /// It began before the measured time did.
    is_warmup: bool,
    due: time::Instant,
    timer: Option<TimerId>,
    /// Class of `timer`.
    class: usize,
    request: Vec<u8>,
}

/// What is counted while it is measured.
struct Tally {
    done: u64,
    failed: u64,
    /// The same by status.
    statuses: BTreeMap<u16, u64>,
    lost: u64,
    retransmitted: u64,
    strange: u64,
    latency: Histogram<u64>,
    ringing: Histogram<u64>,
}

struct Engine<S> {
    scenario: S,
    run: u32,
    /// Finds the branches of this run.
    finder: Finder<'static>,
    origin: Instant,
    slots: Vec<Slot>,
    free: Vec<u32>,
    timers: TimerQueue<Job>,
    out: Outbox,
    tally: Tally,
    is_warm: bool,
}

/// Plays a scenario. `prepared` is called when it has registered whom it needs.
///
/// # Errors
/// Why there is nothing to report, for people.
pub fn run<S: Scenario>(
    arguments: &Arguments,
    mut scenario: S,
    prepared: impl FnOnce(),
) -> Result<Report, String> {
    let io = |error: std::io::Error| format!("{}: {error}", arguments.target);
    let mut sockets = Vec::new();
    for address in scenario.addresses(arguments.bind) {
        sockets.push(Udp::bind(SocketAddr::new(address, 0)).map_err(io)?);
    }
    let locals: Vec<SocketAddr> = sockets.iter().map(|socket| socket.local).collect();
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
    let run = u32::from_le_bytes(bytes);
    scenario.bound(&locals);
    scenario.prepare(&mut sockets, run)?;
    prepared();
    let mut engine = Engine::new(
        scenario,
        run,
        arguments.pace.unwrap_or(Pace::Window(WINDOW)),
    );
    engine.play(arguments, &mut sockets)
}

impl<S: Scenario> Engine<S> {
    fn new(scenario: S, run: u32, pace: Pace) -> Self {
        let jobs = match pace {
            Pace::Window(window) => window,
            Pace::Rate(_) => JOBS_MAX,
        };
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_US_MAX, 3)
                .expect("constant bounds that hdrhistogram allows")
        };
        let tally = Tally {
            done: 0,
            failed: 0,
            statuses: BTreeMap::new(),
            lost: 0,
            retransmitted: 0,
            strange: 0,
            latency: histogram(),
            ringing: histogram(),
        };
        Self {
            scenario,
            run,
            finder: Finder::new(&message::prefix(run)).into_owned(),
            origin: Instant::now(),
            slots: (0..jobs).map(|_| Slot::default()).collect(),
            free: (0..jobs as u32).rev().collect(),
            timers: TimerQueue::new(&TIMERS_MS.map(Duration::from_millis)),
            out: Outbox::default(),
            tally,
            is_warm: false,
        }
    }

    fn now(&self) -> time::Instant {
        time::Instant::from_micros(self.origin.elapsed().as_micros() as u64)
    }

    fn play(&mut self, arguments: &Arguments, sockets: &mut [Udp]) -> Result<Report, String> {
        let io = |error: std::io::Error| format!("{}: {error}", arguments.target);
        let mut waiter = Waiter::new(sockets).map_err(io)?;
        let mut batch = ReceiveBatch::new();
        let mut pacer = Pacer::new(arguments.pace, self.now());
        let warm_at = self.now().plus(arguments.warmup);
        let end_at = warm_at.plus(arguments.measured);
        let mut begun = Measured::start(arguments)?;
        let mut ended = None;
        loop {
            let now = self.now();
            if !self.is_warm && now >= warm_at {
                self.is_warm = true;
                begun = Measured::start(arguments)?;
            }
            let is_complete = self.scenario.is_complete() && self.free.len() == self.slots.len();
            if now < end_at && !is_complete {
                self.begin_jobs(now, &mut pacer);
            } else if ended.is_none() {
                ended = Some((begun.end(arguments)?, self.tally.done));
            } else if self.free.len() == self.slots.len() || now >= end_at.plus(DRAIN) {
                break;
            }
            self.expire(now);
            self.out.send(sockets, arguments.target).map_err(io)?;
            let mut received = 0;
            for (index, socket) in sockets.iter_mut().enumerate() {
                let count = socket.receive(&mut batch).map_err(io)?;
                if count == 0 {
                    continue;
                }
                received += count;
                let now = self.now();
                for datagram in batch.datagrams() {
                    self.message(now, index, datagram.bytes);
                }
            }
            if received == 0 {
                let longest = if now < end_at {
                    pacer.idle(now)
                } else {
                    Duration::from_millis(5)
                };
                if longest >= Duration::from_millis(1) {
                    waiter
                        .wait(sockets, longest.min(Duration::from_millis(10)))
                        .map_err(io)?;
                }
            }
        }
        // Those of the warm-up too: a job that still hangs now says as much about the server.
        self.tally.lost += self.slots.iter().filter(|slot| slot.is_busy).count() as u64;
        let ((elapsed, cpu, server_drops), done) = ended.unwrap_or_default();
        Ok(Report {
            scenario: match arguments.command {
                Command::Load(scenario) => scenario.name(),
                _ => Name::Ping.name(),
            },
            pace: arguments.pace.unwrap_or(Pace::Window(WINDOW)),
            elapsed,
            done,
            failed: self.tally.failed,
            statuses: std::mem::take(&mut self.tally.statuses),
            lost: self.tally.lost,
            retransmitted: self.tally.retransmitted,
            strange: self.tally.strange,
            unsent: sockets.iter().map(|socket| socket.unsent).sum(),
            server_drops,
            latency: Some(self.tally.latency.clone()),
            ringing: Some(self.tally.ringing.clone()).filter(|ringing| !ringing.is_empty()),
            messages_of_job: self.scenario.messages_of_job(),
            cpu,
            resident_bytes: arguments.pid.and_then(process::resident_bytes),
        })
    }

    /// Begins what is due.
    fn begin_jobs(&mut self, now: time::Instant, pacer: &mut Pacer) {
        while let Some(due) = pacer.due(now) {
            let Some(&index) = self.free.last() else {
                return;
            };
            let slot = &mut self.slots[index as usize];
            let job = Job {
                run: self.run,
                slot: index,
                serial: slot.serial.wrapping_add(1),
            };
            if !self.scenario.begin(job, &mut slot.request) {
                return;
            }
            self.free.pop();
            pacer.take();
            slot.is_busy = true;
            slot.is_warmup = !self.is_warm;
            slot.due = due;
            self.send(now, job);
            if self.out.len() >= 64 {
                return;
            }
        }
    }

    /// Sends a slot's request for the first time.
    fn send(&mut self, now: time::Instant, job: Job) {
        let slot = &mut self.slots[job.slot as usize];
        slot.serial = job.serial;
        slot.class = 0;
        slot.timer = Some(self.timers.arm(now, 0, job));
        self.out.push(self.scenario.socket(job.slot), &slot.request);
    }

    /// Repeats what was not answered, gives up what never was.
    fn expire(&mut self, now: time::Instant) {
        while let Some(job) = self.timers.expire(now) {
            let slot = &mut self.slots[job.slot as usize];
            if slot.class == LAST_TIMER {
                self.tally.lost += u64::from(!slot.is_warmup);
                self.end(job.slot);
                continue;
            }
            self.tally.retransmitted += u64::from(!slot.is_warmup);
            slot.class += 1;
            slot.timer = Some(self.timers.arm(now, slot.class, job));
            self.out.push(self.scenario.socket(job.slot), &slot.request);
        }
    }

    fn end(&mut self, slot: u32) {
        self.scenario.end(slot);
        let own = &mut self.slots[slot as usize];
        own.is_busy = false;
        own.timer = None;
        self.free.push(slot);
    }

    /// One datagram.
    fn message(&mut self, now: time::Instant, socket: usize, bytes: &[u8]) {
        if !bytes.starts_with(b"SIP/2.0 ") && !self.scenario.is_echo() {
            self.scenario.serve(socket, bytes, &mut self.out);
            return;
        }
        let found = message::job_of(&self.finder, bytes);
        let Some((index, serial)) = found.filter(|(slot, _)| (*slot as usize) < self.slots.len())
        else {
            self.tally.strange += 1;
            return;
        };
        let slot = &mut self.slots[index as usize];
        if !slot.is_busy || slot.serial != serial {
            self.scenario.late(bytes, &mut self.out);
            return;
        }
        let job = Job {
            run: self.run,
            slot: index,
            serial,
        };
        let next = Job {
            serial: serial.wrapping_add(1),
            ..job
        };
        let verdict = self
            .scenario
            .answer(job, next, bytes, &mut slot.request, &mut self.out);
        if let Some(timer) = slot.timer.take() {
            self.timers.cancel(timer);
        }
        let (is_counted, latency) = (!slot.is_warmup, now.since(slot.due).as_micros() as u64);
        match verdict {
            Verdict::Waits | Verdict::Rings => {
                if verdict == Verdict::Rings && is_counted {
                    self.tally.ringing.saturating_record(latency.max(1));
                }
                slot.class = LAST_TIMER;
                slot.timer = Some(self.timers.arm(now, LAST_TIMER, job));
            }
            Verdict::Next => self.send(now, next),
            Verdict::Done | Verdict::Failed => {
                // The rate counts every job that ended while it was measured.
                self.tally.done += u64::from(self.is_warm && verdict == Verdict::Done);
                if is_counted && verdict == Verdict::Failed {
                    self.tally.failed += 1;
                    *self
                        .tally
                        .statuses
                        .entry(message::status(bytes))
                        .or_default() += 1;
                }
                if is_counted && verdict == Verdict::Done {
                    self.tally.latency.saturating_record(latency.max(1));
                }
                self.end(index);
            }
        }
    }
}

/// When the next job is due.
struct Pacer {
    /// Of an open loop, in microseconds.
    interval: Option<f64>,
    begun: time::Instant,
    count: u64,
}

impl Pacer {
    fn new(pace: Option<Pace>, begun: time::Instant) -> Self {
        let interval = match pace {
            Some(Pace::Rate(rate)) => Some(1e6 / rate),
            _ => None,
        };
        Self {
            interval,
            begun,
            count: 0,
        }
    }

    fn next(&self, interval: f64) -> time::Instant {
        self.begun
            .plus(Duration::from_micros((self.count as f64 * interval) as u64))
    }

    /// When the next job was due, if it is.
    fn due(&self, now: time::Instant) -> Option<time::Instant> {
        match self.interval {
            None => Some(now),
            Some(interval) => Some(self.next(interval)).filter(|due| *due <= now),
        }
    }

    fn take(&mut self) {
        self.count += 1;
    }

    /// How long nothing is due.
    fn idle(&self, now: time::Instant) -> Duration {
        // The wait is in whole milliseconds: the last one before a job is due is spent awake.
        self.interval.map_or(Duration::from_millis(10), |interval| {
            self.next(interval)
                .since(now)
                .saturating_sub(Duration::from_millis(1))
        })
    }
}

/// The server's figures at the beginning of the measured time.
struct Measured {
    at: Instant,
    cpu: Option<CpuTime>,
    drops: u64,
}

impl Measured {
    fn start(arguments: &Arguments) -> Result<Self, String> {
        let cpu = arguments.pid.map(CpuTime::of).transpose()?;
        let drops = process::socket_drops(arguments.target);
        Ok(Self {
            at: Instant::now(),
            cpu,
            drops,
        })
    }

    fn end(&self, arguments: &Arguments) -> Result<(Duration, Option<CpuTime>, u64), String> {
        let now = Self::start(arguments)?;
        let cpu = now.cpu.zip(self.cpu).map(|(now, then)| now.since(&then));
        Ok((self.at.elapsed(), cpu, now.drops.saturating_sub(self.drops)))
    }
}
