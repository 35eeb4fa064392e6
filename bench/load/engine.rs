//! The loop: begins jobs at a pace, finds the job that an answer belongs to by its branch, repeats unanswered requests
//! (RFC 3261 §17.1: Timers A, E, B, F), measures.
//!
//! A job is one request or a row of them (a call), one at a time. Its number in the branch tells an answer's job without
//! a table: `z9hG4bK`, the run's number, the slot, the serial, eight hexadecimal digits each.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use memchr::memmem::Finder;
use sipkeep::net::sys::ReceiveBatch;
use sipkeep::time::{self, TimerId, TimerQueue};

use crate::arguments::{Arguments, Pace};
use crate::message;
use crate::process::{self, CpuTime};
use crate::report::{Outcome, Report};
use crate::socket::{Outbox, Udp, Waiter};

/// Jobs at a time in an open loop. More that are due wait, and their latency counts from when they were due.
const JOBS_MAX: usize = 65_536;
/// Window of the closed loop unless another is said.
const WINDOW: usize = 128;
/// T1, doubled up to 64·T1.
const TIMERS_MS: [u64; 7] = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000];
/// Places of Timer A's intervals among them (RFC 3261 §17.1.1.2): doubled each time. With the last one Timer B ends, 64·T1.
const INVITE_TIMERS: &[usize] = &[0, 1, 2, 3, 4, 5, 0];
/// Those of Timer E (§17.1.2.2): doubled up to T2. With the last one Timer F ends, 64·T1.
const OTHER_TIMERS: &[usize] = &[0, 1, 2, 3, 3, 3, 3, 3, 3, 3, 0];
/// Of an INVITE that rings: it is not repeated any more, and not waited for for ever.
const RINGING_TIMERS: &[usize] = &[6];
/// How long to wait for the answers to what is still in progress when the time is over.
const DRAIN: Duration = Duration::from_millis(1_500);
/// Longer than the loop takes for one turn.
const TURN: Duration = Duration::from_millis(20);
/// Between two words on how far it is.
pub const TOLD_EVERY: Duration = Duration::from_secs(10);
/// For a scenario to be warm.
const WARM_WITHIN: Duration = Duration::from_secs(600);

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
    /// Provisional: an INVITE is not repeated any more.
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
    /// What it is called in reports.
    fn name(&self) -> &'static str;
    /// What kinds of jobs it has, if they are to be told apart.
    fn kinds(&self) -> Vec<&'static str> {
        Vec::new()
    }
    /// Which of them the job in a slot is.
    fn kind(&self, _slot: u32) -> usize {
        0
    }
    /// Addresses of the sockets that it needs.
    fn addresses(&self, bind: IpAddr) -> Vec<IpAddr>;
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
    /// All has happened that must have before anything is measured.
    fn is_warm(&self) -> bool {
        true
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
    /// Places of the timers that come after `timer`.
    timers: &'static [usize],
    request: Vec<u8>,
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
    /// What is counted while it is measured, of each kind.
    tallies: Vec<Outcome>,
    strange: u64,
    is_warm: bool,
    /// Jobs that may begin still; `None`: any number.
    left: Option<u64>,
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
    let addresses = scenario.addresses(arguments.bind);
    if arguments.port != 0 && addresses.len() > 1 {
        return Err("--bind: several sockets cannot have one port".to_owned());
    }
    for address in addresses {
        sockets.push(Udp::bind(SocketAddr::new(address, arguments.port)).map_err(io)?);
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
        arguments.count,
    );
    engine.play(arguments, &mut sockets)
}

impl<S: Scenario> Engine<S> {
    fn new(scenario: S, run: u32, pace: Pace, left: Option<u64>) -> Self {
        let jobs = match pace {
            Pace::Window(window) => window,
            Pace::Rate(_) => JOBS_MAX,
        };
        let kinds = scenario.kinds().len().max(1);
        Self {
            scenario,
            run,
            finder: Finder::new(&message::prefix(run)).into_owned(),
            origin: Instant::now(),
            slots: (0..jobs).map(|_| Slot::default()).collect(),
            free: (0..jobs as u32).rev().collect(),
            timers: TimerQueue::new(&TIMERS_MS.map(Duration::from_millis)),
            out: Outbox::default(),
            tallies: (0..kinds).map(|_| Outcome::measured()).collect(),
            strange: 0,
            is_warm: false,
            left,
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
        let mut warm_at = None;
        let mut end_at = self.now().plus(WARM_WITHIN);
        let mut begun = Measured::start(arguments)?;
        let (mut ended, mut unbegun) = (None, 0);
        let mut told_at = self.now();
        loop {
            let now = self.now();
            if !arguments.json && now.since(told_at) >= TOLD_EVERY && now < end_at {
                told_at = now;
                self.tell(arguments, warm_at, now);
            }
            if warm_at.is_none() && self.scenario.is_warm() {
                let at = now.plus(arguments.warmup);
                warm_at = Some(at);
                end_at = at.plus(arguments.measured);
            }
            if !self.is_warm && warm_at.is_some_and(|at| now >= at) {
                self.is_warm = true;
                begun = Measured::start(arguments)?;
            }
            if warm_at.is_none() && now >= end_at {
                return Err(format!("{}: still not all registered", arguments.target));
            }
            let is_complete = self.is_complete();
            if now < end_at && !is_complete {
                self.begin_jobs(now, &mut pacer);
            } else if ended.is_none() {
                // Who had to do it was busy still when the time was over.
                unbegun = if is_complete { 0 } else { pacer.behind(end_at) };
                let done: Vec<u64> = self.tallies.iter().map(|tally| tally.done).collect();
                ended = Some((begun.end(arguments)?, done));
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
                // What is due sooner than a wait can be short leaves time for a look at what has come.
                let longest = match longest >= Duration::from_millis(1) {
                    true => longest.min(Duration::from_millis(10)),
                    false => Duration::ZERO,
                };
                waiter.wait(sockets, longest).map_err(io)?;
            }
        }
        // Those of the warm-up too: a job that still hangs now says as much about the server.
        for (index, slot) in self.slots.iter().enumerate() {
            let kind = self.scenario.kind(index as u32);
            self.tallies[kind].lost += u64::from(slot.is_busy);
        }
        let ((elapsed, cpu, server_drops), done) = ended.unwrap_or_default();
        let pace = arguments.pace.unwrap_or(Pace::Window(WINDOW));
        let mut report = Report::new(self.scenario.name(), pace, elapsed);
        let mut tallies = std::mem::take(&mut self.tallies);
        report.total = Outcome::measured();
        for (tally, done) in tallies.iter_mut().zip(done) {
            tally.done = done;
            report.total.add(tally);
        }
        report.kinds = self.scenario.kinds().into_iter().zip(tallies).collect();
        report.unbegun = unbegun;
        report.strange = self.strange;
        report.unsent = sockets.iter().map(|socket| socket.unsent).sum();
        report.server_drops = server_drops;
        report.messages_of_job = self.scenario.messages_of_job();
        report.cpu = cpu;
        report.resident_bytes = arguments.pid.and_then(process::resident_bytes);
        Ok(report)
    }

    /// How far it is, for people.
    fn tell(&self, arguments: &Arguments, warm_at: Option<time::Instant>, now: time::Instant) {
        let sum = |field: fn(&Outcome) -> u64| self.tallies.iter().map(field).sum::<u64>();
        match warm_at.filter(|at| now > *at) {
            Some(at) => eprintln!(
                "{} s of {}: {} done, {} failed, {} lost",
                now.since(at).as_secs(),
                arguments.measured.as_secs(),
                sum(|tally| tally.done),
                sum(|tally| tally.failed),
                sum(|tally| tally.lost),
            ),
            None => eprintln!("warming up"),
        }
    }

    /// Nothing more begins, and what began has ended.
    fn is_complete(&self) -> bool {
        (self.scenario.is_complete() || self.left == Some(0)) && self.free.len() == self.slots.len()
    }

    /// Of the kind that the job in a slot is.
    fn tally(&mut self, slot: u32) -> &mut Outcome {
        let kind = self.scenario.kind(slot);
        &mut self.tallies[kind]
    }

    /// Begins what is due.
    fn begin_jobs(&mut self, now: time::Instant, pacer: &mut Pacer) {
        while let Some(due) = pacer.due(now) {
            let Some(&index) = self.free.last().filter(|_| self.left != Some(0)) else {
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
            self.left = self.left.map(|left| left - 1);
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
        slot.timers = timers_of(&slot.request);
        self.arm(now, job);
        let slot = &self.slots[job.slot as usize];
        self.out.push(self.scenario.socket(job.slot), &slot.request);
    }

    /// Arms the next timer of a job's request; false: it had its last one.
    fn arm(&mut self, now: time::Instant, job: Job) -> bool {
        let slot = &mut self.slots[job.slot as usize];
        let Some((place, rest)) = slot.timers.split_first() else {
            return false;
        };
        slot.timers = rest;
        slot.timer = Some(self.timers.arm(now, *place, job));
        true
    }

    /// Repeats what was not answered, gives up what never was.
    fn expire(&mut self, now: time::Instant) {
        while let Some(job) = self.timers.expire(now) {
            let is_counted = u64::from(!self.slots[job.slot as usize].is_warmup);
            if !self.arm(now, job) {
                self.tally(job.slot).lost += is_counted;
                self.end(job.slot);
                continue;
            }
            self.tally(job.slot).retransmitted += is_counted;
            let slot = &self.slots[job.slot as usize];
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
            self.strange += 1;
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
        // Other requests than INVITE are repeated until the final answer (RFC 3261 §17.1.2.2).
        let is_provisional = matches!(verdict, Verdict::Waits | Verdict::Rings);
        let is_repeated = is_provisional && !is_invite(&slot.request);
        if let Some(timer) = slot.timer.take_if(|_| !is_repeated) {
            self.timers.cancel(timer);
        }
        let (is_counted, latency) = (!slot.is_warmup, now.since(slot.due).as_micros() as u64);
        match verdict {
            Verdict::Waits | Verdict::Rings => {
                if verdict == Verdict::Rings && is_counted {
                    record(&mut self.tally(index).ringing, latency);
                }
                if !is_repeated {
                    self.slots[index as usize].timers = RINGING_TIMERS;
                    self.arm(now, job);
                }
            }
            Verdict::Next => {
                let is_challenge = matches!(message::status(bytes), 401 | 407);
                self.tally(index).challenged += u64::from(is_challenge && is_counted);
                self.send(now, next);
            }
            Verdict::Done | Verdict::Failed => {
                let is_warm = self.is_warm;
                let tally = self.tally(index);
                // The rate counts every job that ended while it was measured.
                tally.done += u64::from(is_warm && verdict == Verdict::Done);
                if is_counted && verdict == Verdict::Failed {
                    tally.failed += 1;
                    *tally.statuses.entry(message::status(bytes)).or_default() += 1;
                }
                if is_counted && verdict == Verdict::Done {
                    record(&mut tally.latency, latency);
                }
                self.end(index);
            }
        }
    }
}

fn is_invite(request: &[u8]) -> bool {
    request.starts_with(b"INVITE ")
}

/// Places of the timers of a request: it is repeated with each, and given up with the last.
fn timers_of(request: &[u8]) -> &'static [usize] {
    if is_invite(request) {
        INVITE_TIMERS
    } else {
        OTHER_TIMERS
    }
}

fn record(histogram: &mut Option<Histogram<u64>>, latency_us: u64) {
    if let Some(histogram) = histogram {
        histogram.saturating_record(latency_us.max(1));
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

    /// Jobs of an open loop that were due well before `end` and were not taken. The last ones may just have had no turn.
    fn behind(&self, end: time::Instant) -> u64 {
        let time = end.since(self.begun).saturating_sub(TURN);
        let due = |interval: f64| (time.as_micros() as f64 / interval) as u64;
        self.interval
            .map_or(0, |interval| due(interval).saturating_sub(self.count))
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

/// The measured time, and of it the server's CPU time and the datagrams that its sockets lost.
type Ended = (Duration, Option<CpuTime>, Option<u64>);

/// The server's figures at the beginning of the measured time.
struct Measured {
    at: Instant,
    cpu: Option<CpuTime>,
    drops: Option<u64>,
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

    fn end(&self, arguments: &Arguments) -> Result<Ended, String> {
        let now = Self::start(arguments)?;
        let cpu = now.cpu.zip(self.cpu).map(|(now, then)| now.since(&then));
        let drops = now.drops.zip(self.drops);
        let lost = drops.map(|(now, then)| now.saturating_sub(then));
        Ok((self.at.elapsed(), cpu, lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a request is repeated, and when it is given up.
    fn times_ms(request: &[u8]) -> Vec<u64> {
        let mut at = 0;
        let times = timers_of(request).iter().map(|place| {
            at += TIMERS_MS[*place];
            at
        });
        times.collect()
    }

    #[test]
    fn requests_are_repeated_as_the_rfc_has_it() {
        let invite = times_ms(b"INVITE sip:a SIP/2.0\r\n");
        assert_eq!(invite, [500, 1_500, 3_500, 7_500, 15_500, 31_500, 32_000]);
        let other = times_ms(b"REGISTER sip:a SIP/2.0\r\n");
        assert_eq!(other[..4], [500, 1_500, 3_500, 7_500]);
        assert!(
            other[3..10]
                .windows(2)
                .all(|pair| pair[1] - pair[0] == 4_000)
        );
        assert_eq!(other[9..], [31_500, 32_000]);
    }
}
