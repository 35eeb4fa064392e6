//! A scanner's flood: INVITEs to foreign numbers, from as many addresses as wanted, at a rate or as fast as it goes;
//! and strangers each of whom is seen once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sipkeep::net::sys::{BATCH, ReceiveBatch};

use crate::arguments::{Arguments, Command, Pace, Scenario};
use crate::engine::{Job, TOLD_EVERY};
use crate::message;
use crate::process::{self, CpuTime};
use crate::report::Report;
use crate::socket::{Outbox, Udp};

/// The first of the addresses that the flood comes from.
pub const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);
/// The same over IPv6.
const FIRST_SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
/// No forged source comes twice: longer than any flood of them.
const FORGED_LASTS: Duration = Duration::from_secs(86_400);

/// What a flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A scanner's calls to foreign numbers.
    Invite,
    /// A first REGISTER, as any phone sends it.
    Register,
}

/// Sends at a rate.
pub struct Generator {
    sockets: [Udp; 1],
    batch: ReceiveBatch,
    out: Outbox,
    request: Vec<u8>,
    run: u32,
    target: SocketAddr,
    domain: String,
    kind: Kind,
    rate: f64,
    /// The first address it comes from and how many there are, over IPv6 a /64 each; `None`: that of the socket.
    sources: Option<(IpAddr, u32)>,
    begun: Instant,
    /// Datagrams in all.
    most: u32,
    /// Datagrams composed so far; the kernel may have refused some.
    pub sent: u32,
    /// Datagrams that came back.
    pub answers: u64,
}

impl Generator {
    /// Begins now.
    ///
    /// # Errors
    /// The kernel's, for people.
    pub fn new(
        arguments: &Arguments,
        kind: Kind,
        rate: f64,
        sources: Option<(IpAddr, u32)>,
    ) -> Result<Self, String> {
        let target = arguments.target;
        let bind = match sources {
            Some((IpAddr::V4(_), _)) => Ipv4Addr::UNSPECIFIED.into(),
            Some((IpAddr::V6(_), _)) => Ipv6Addr::UNSPECIFIED.into(),
            None => arguments.bind,
        };
        let socket = Udp::bind(SocketAddr::new(bind, 0));
        let mut bytes = [0; 4];
        getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
        Ok(Self {
            sockets: [socket.map_err(|error| format!("{target}: {error}"))?],
            batch: ReceiveBatch::new(),
            out: Outbox::default(),
            request: Vec::new(),
            run: u32::from_le_bytes(bytes),
            target,
            domain: arguments.domain(),
            kind,
            rate,
            sources,
            begun: Instant::now(),
            most: u32::MAX,
            sent: 0,
            answers: 0,
        })
    }

    /// Datagrams that the kernel did not take.
    pub fn unsent(&self) -> u64 {
        self.sockets[0].unsent
    }

    /// Sends what is due, at most a batch; sleeps for a moment if nothing is.
    ///
    /// # Errors
    /// The kernel's, for people.
    pub fn step(&mut self) -> Result<(), String> {
        if !self.send_due()? {
            std::thread::sleep(Duration::from_micros(50));
        }
        Ok(())
    }

    /// The same without sleeping; whether something was due.
    ///
    /// # Errors
    /// The kernel's, for people.
    pub fn send_due(&mut self) -> Result<bool, String> {
        let io = |error: std::io::Error| format!("{}: {error}", self.target);
        let due = self.begun.elapsed().as_secs_f64() * self.rate;
        while self.out.len() < BATCH && self.sent < self.most && f64::from(self.sent) < due {
            let source = self
                .sources
                .map(|(first, count)| nth(first, self.sent % count));
            let job = Job {
                run: self.run,
                slot: 0,
                serial: self.sent,
            };
            compose(self.kind, job, &self.domain, &mut self.request);
            self.out.push_from(0, &self.request, source);
            self.sent = self.sent.wrapping_add(1);
        }
        let is_any = self.out.len() > 0;
        self.out.send(&mut self.sockets, self.target).map_err(io)?;
        self.sockets[0].look_again();
        self.answers += self.sockets[0].receive(&mut self.batch).map_err(io)? as u64;
        Ok(is_any)
    }
}

/// Sends for the warm-up and the measured time. `done` counts what was sent, `strange` what came back.
///
/// # Errors
/// The kernel's, for people.
pub fn run(arguments: &Arguments) -> Result<Report, String> {
    let times = (arguments.warmup, arguments.warmup + arguments.measured);
    play(Scenario::Flood, arguments, times, u32::MAX)
}

/// Sends once from each of the sources.
///
/// # Errors
/// The kernel's, for people.
pub fn run_forged(arguments: &Arguments) -> Result<Report, String> {
    let times = (Duration::ZERO, FORGED_LASTS);
    play(Scenario::Forged, arguments, times, arguments.sources)
}

/// Until the second of the times, or until `most` are sent; measured from the first on.
fn play(
    scenario: Scenario,
    arguments: &Arguments,
    (warmup, end): (Duration, Duration),
    most: u32,
) -> Result<Report, String> {
    let pace = arguments.pace.unwrap_or(Pace::Rate(f64::INFINITY));
    let Pace::Rate(rate) = pace else {
        return Err(format!(
            "{}: nothing comes back, so there is no --window",
            scenario.name()
        ));
    };
    let kind = match scenario {
        Scenario::Forged => Kind::Register,
        _ => Kind::Invite,
    };
    let mut generator = Generator::new(arguments, kind, rate, sources(arguments))?;
    generator.most = most;
    let read = || -> Result<(Option<CpuTime>, Option<u64>), String> {
        let cpu = arguments.pid.map(CpuTime::of).transpose()?;
        Ok((cpu, process::socket_drops(arguments.target)))
    };
    let warm_at = generator.begun + warmup;
    let end_at = generator.begun + end;
    let mut first = None;
    let mut told_at = generator.begun;
    let last = loop {
        let now = Instant::now();
        if !arguments.json && now.duration_since(told_at) >= TOLD_EVERY {
            told_at = now;
            let elapsed = now.duration_since(generator.begun).as_secs();
            match scenario {
                Scenario::Forged => eprintln!("{elapsed} s: {} of {most} sent", generator.sent),
                _ => eprintln!("{elapsed} s of {}: {} sent", end.as_secs(), generator.sent),
            }
        }
        if first.is_none() && now >= warm_at {
            first = Some((now, generator.sent, generator.unsent(), read()?));
        }
        if now >= end_at || generator.sent == most {
            break now;
        }
        // Without sleep, each as it is due: what comes in bursts would be read in batches that a flood does not have.
        if !generator.send_due()? {
            std::hint::spin_loop();
        }
    };
    // What waits at the server still is its work of the measured time.
    std::thread::sleep(Duration::from_millis(100));
    let (cpu, drops) = read()?;
    let (first_at, first_sent, first_unsent, (first_cpu, first_drops)) =
        first.unwrap_or((generator.begun, 0, 0, (None, None)));
    let unsent = generator.unsent() - first_unsent;
    let elapsed = last.duration_since(first_at);
    let mut report = Report::new(scenario.name(), pace, elapsed);
    let sent = u64::from(generator.sent.wrapping_sub(first_sent));
    report.total.done = sent.saturating_sub(unsent);
    report.strange = generator.answers;
    report.unsent = unsent;
    let drops = drops.zip(first_drops);
    report.server_drops = drops.map(|(now, then)| now.saturating_sub(then));
    report.messages_of_job = 1;
    report.cpu = cpu.zip(first_cpu).map(|(now, then)| now.since(&then));
    report.resident_bytes = arguments.pid.and_then(process::resident_bytes);
    Ok(report)
}

/// A thread that floods once it is told to.
pub struct Flooding {
    is_on: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Result<f64, String>>,
}

impl Flooding {
    /// With so many datagrams a second, from so many sources from the first on; `None`: from our own address.
    pub fn start(
        arguments: &Arguments,
        kind: Kind,
        rate: f64,
        sources: Option<(IpAddr, u32)>,
    ) -> Self {
        let (is_on, is_over) = (Arc::default(), Arc::default());
        let flood = {
            let arguments = arguments.clone();
            let (is_on, is_over) = (Arc::clone(&is_on), Arc::clone(&is_over));
            move || flood(&arguments, (kind, rate, sources), &is_on, &is_over)
        };
        Self {
            is_on,
            is_over,
            thread: std::thread::spawn(flood),
        }
    }

    /// From now on.
    pub fn begin(&self) {
        self.is_on.store(true, Ordering::Relaxed);
    }

    /// Datagrams a second that were sent.
    ///
    /// # Errors
    /// The kernel's, for people.
    pub fn stop(self) -> Result<f64, String> {
        self.is_over.store(true, Ordering::Relaxed);
        let result = self.thread.join();
        result.map_err(|_| "the flood's thread panicked".to_owned())?
    }
}

/// Datagrams a second that were sent.
fn flood(
    arguments: &Arguments,
    (kind, rate, sources): (Kind, f64, Option<(IpAddr, u32)>),
    is_on: &AtomicBool,
    is_over: &AtomicBool,
) -> Result<f64, String> {
    while !is_on.load(Ordering::Relaxed) && !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut generator = Generator::new(arguments, kind, rate, sources)?;
    let begun = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        generator.step()?;
    }
    let sent = u64::from(generator.sent).saturating_sub(generator.unsent());
    Ok(sent as f64 / begun.elapsed().as_secs_f64().max(1e-9))
}

/// Where the flood of the arguments comes from: the first address and how many; `None`: our own.
pub fn sources(arguments: &Arguments) -> Option<(IpAddr, u32)> {
    let is_many = arguments.sources > 1;
    // Scanners are not to be taken for the phones that they come beside, where there is another address for them.
    let is_mix = matches!(arguments.command, Command::Mix { .. });
    let is_apart = is_mix && arguments.is_to_loopback();
    (is_many || is_apart).then(|| (first_source(arguments.target), arguments.sources))
}

fn first_source(target: SocketAddr) -> IpAddr {
    match target {
        SocketAddr::V4(_) => FIRST_SOURCE.into(),
        SocketAddr::V6(_) => FIRST_SOURCE_V6.into(),
    }
}

/// The address that a source has.
fn nth(first: IpAddr, number: u32) -> SocketAddr {
    let address = match first {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().wrapping_add(number)).into(),
        IpAddr::V6(first) => {
            let network = u128::from(number) << 64;
            Ipv6Addr::from_bits(first.to_bits().wrapping_add(network)).into()
        }
    };
    SocketAddr::new(address, 0)
}

fn compose(kind: Kind, job: Job, domain: &str, out: &mut Vec<u8>) {
    out.clear();
    let branch = message::branch(job);
    match kind {
        Kind::Invite => invite(&branch, domain.as_bytes(), out),
        Kind::Register => register(&branch, domain.as_bytes(), out),
    }
}

fn register(branch: &[u8], domain: &[u8], out: &mut Vec<u8>) {
    let unique = &branch[7..];
    let parts: [&[u8]; 14] = [
        b"REGISTER sip:",
        domain,
        b" SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.66:5071;branch=",
        branch,
        b";rport\r\nMax-Forwards: 70\r\nFrom: <sip:100@",
        domain,
        b">;tag=",
        unique,
        b"\r\nTo: <sip:100@",
        domain,
        b">\r\nCall-ID: ",
        unique,
        b"\r\nCSeq: 1 REGISTER\r\nContact: <sip:100@192.0.2.66:5071>\r\nExpires: 3600\r\n",
        b"User-Agent: Desk Phone 5.1\r\nContent-Length: 0\r\n\r\n",
    ];
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn invite(branch: &[u8], domain: &[u8], out: &mut Vec<u8>) {
    let unique = &branch[7..];
    let parts: [&[u8]; 15] = [
        b"INVITE sip:900442030000000@",
        domain,
        b" SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.66:5071;branch=",
        branch,
        b";rport\r\nMax-Forwards: 70\r\nFrom: \"100\" <sip:100@",
        domain,
        b">;tag=",
        unique,
        b"\r\nTo: <sip:900442030000000@",
        domain,
        b">\r\nCall-ID: ",
        unique,
        b"\r\nCSeq: 1 INVITE\r\nContact: <sip:100@192.0.2.66:5071>\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n",
        b"User-Agent: pplsip\r\nAccept: application/sdp\r\n",
        b"Content-Length: 0\r\n\r\n",
    ];
    for part in parts {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments;

    #[test]
    fn a_flood_comes_from_where_it_can() {
        let v4 = |count| Some((FIRST_SOURCE.into(), count));
        let v6 = |count| Some((FIRST_SOURCE_V6.into(), count));
        for (word, target, bind, count, expected) in [
            ("flood", "127.0.0.1:1", "127.0.0.1", "1", None),
            ("flood", "127.0.0.1:1", "127.0.0.1", "9", v4(9)),
            ("forged", "127.0.0.1:1", "127.0.0.1", "1", None),
            ("flood", "[::1]:1", "::1", "9", v6(9)),
            ("mix", "127.7.0.1:1", "127.0.0.1", "1", v4(1)),
            ("mix", "127.7.0.1:1", "127.0.0.1", "9", v4(9)),
            ("mix", "192.0.2.1:1", "192.0.2.9", "1", None),
            ("mix", "[::1]:1", "::1", "1", None),
            ("mix", "[::1]:1", "::1", "9", v6(9)),
        ] {
            let words = [word, "--target", target, "--bind", bind, "--sources", count];
            let arguments = arguments::parse(lexopt::Parser::from_args(words)).unwrap();
            assert_eq!(sources(&arguments), expected, "{words:?}");
        }
        let second = nth(FIRST_SOURCE_V6.into(), 1).ip();
        assert_eq!(second.to_string(), "fd00:0:0:1::1");
    }
}
