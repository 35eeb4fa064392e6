//! What it costs to relay media: calls through the server, their packets by turns through it and through bare loops
//! ([`forward`](crate::forward)) on the same processor, then beside a flood of SIP. Starts them all; they end with the measurement.
//!
//! On a shared machine microseconds say little. So they are measured in turns of a few seconds, ratios are taken in each
//! round, and what is reported is the median of the rounds.

mod calls;
mod phones;
mod report;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use sipkeep::net::sys;

use self::calls::Signalling;
use self::phones::{Phones, Tally, histogram};
use self::report::{Figures, Memory, Round};
use crate::arguments::Arguments;
use crate::flood::{FIRST_SOURCE, Generator, Kind};
use crate::forward;
use crate::process;
use crate::server::{Folder, Server, Start};

/// Where callers are, a trunk, and callees, registered phones.
const PHONES_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 9, 0, 10), Ipv4Addr::new(127, 9, 0, 9)];
/// The first ports of the bare loops: of the one that wakes for each packet, of the one that rests.
const BARE: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 9, 0, 20), 10_000);
const RESTING: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 9, 0, 21), 10_000);
const FIRST_USER: u32 = 1_000;
/// Sources of the flood; all are the scanner's.
const FLOOD_SOURCES: u32 = 1_000;
/// Between two OPTIONS.
const ASKED_EVERY: Duration = Duration::from_millis(5);
/// An OPTIONS without an answer after this time is lost.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// How long the server is asked without any media, in a round.
const QUIET: Duration = Duration::from_millis(500);
/// For everything to be in its place before it is measured.
const SETTLED: Duration = Duration::from_millis(300);

/// What to measure.
#[allow(missing_docs)]
pub struct Plan<'a> {
    pub server: &'a Path,
    pub calls: usize,
    pub rounds: usize,
    /// Datagrams a second.
    pub flood: f64,
    /// Processors of the load, and of what is measured.
    pub cores: Option<(usize, usize)>,
}

/// Measures everything; the report.
///
/// # Errors
/// What went wrong, for people.
pub fn run(arguments: &Arguments, plan: &Plan<'_>) -> Result<String, String> {
    let files = sys::raise_file_limit().map_err(|error| error.to_string())?;
    // Two phones here; two sides with two ports each in the server.
    if files < 4 * plan.calls as u64 + 100 {
        return Err(format!(
            "--calls: {files} open files are allowed (ulimit -Hn)"
        ));
    }
    if let Some((own, _)) = plan.cores {
        process::stay_on(own)?;
    }
    let phones = Phones::bind(plan.calls, PHONES_ADDRESSES.map(IpAddr::from));
    let mut phones = phones.map_err(|error| error.to_string())?;
    let folder = Folder::new()?;
    let (_, _, without) = set_up(arguments, plan, "never", &phones, &folder)?;
    let (server, mut signalling, with) = set_up(arguments, plan, "always", &phones, &folder)?;
    let (bare, bare_remotes) = bare_loop(plan, BARE.into(), false, &folder)?;
    let (resting, resting_remotes) = bare_loop(plan, RESTING.into(), true, &folder)?;
    let remotes = signalling.1.clone();
    let mut round = |_| -> Result<Round, String> {
        let part = arguments.measured / plan.rounds as u32;
        let mut asking = Asking::new();
        let (own, bare, resting) = (server.pid(), bare.pid(), resting.pid());
        let mut figures = |pid, remotes: &[SocketAddr], time, is_asked, flood: Option<f64>| {
            let phase = Phase {
                pid,
                remotes,
                time,
                is_asked,
                flood,
            };
            measure(
                arguments,
                &phase,
                &mut phones,
                &mut signalling.0,
                &mut asking,
            )
        };
        let half = part / 2;
        Ok(Round {
            quiet: figures(own, &[], QUIET, true, None)?,
            bare: figures(bare, &bare_remotes, part, false, None)?,
            resting: figures(resting, &resting_remotes, part, false, None)?,
            relay: figures(own, &remotes, part, false, None)?,
            asked: figures(own, &remotes, half, true, None)?,
            flooded: figures(own, &remotes, half, true, Some(plan.flood))?,
        })
    };
    // What was never touched before is slow once.
    round(0)?;
    let rounds: Vec<Round> = (1..=plan.rounds).map(round).collect::<Result<_, _>>()?;
    let memory = Memory {
        calls: plan.calls,
        without,
        with,
        resident_bytes: process::resident_bytes(server.pid()),
        tables: server.tables()?,
    };
    let report = report::Report { rounds, memory };
    Ok(if arguments.json {
        report.json()
    } else {
        report.table()
    })
}

/// Memory that so many calls took.
#[derive(Clone, Copy)]
pub struct Taken {
    /// Of the process, resident.
    process_bytes: u64,
    /// Of the kernel for files and sockets; `None`: it does not tell.
    kernel_bytes: Option<u64>,
}

/// A server with all calls set up: with what signalling, where each phone is to send to, what memory they took.
type Ready = (Server, (Signalling, Vec<SocketAddr>), Taken);

fn set_up(
    arguments: &Arguments,
    plan: &Plan<'_>,
    relay: &str,
    phones: &Phones,
    folder: &Folder,
) -> Result<Ready, String> {
    let target = arguments.target;
    let users = (FIRST_USER, FIRST_USER + plan.calls as u32 - 1);
    let text = configuration(arguments, users, relay);
    let (own, addresses) = (folder.join(relay), PHONES_ADDRESSES.map(IpAddr::from));
    let server = Server::start(Start {
        core: plan.cores.map(|(_, other)| other),
        ..Start::sipkeep(plan.server, &own, target, addresses[0], text)
    })?;
    let mut signalling = Signalling::register(target, addresses, users, &arguments.password)?;
    let taken = || {
        std::thread::sleep(SETTLED);
        let resident = process::resident_bytes(server.pid());
        let resident = resident.ok_or("the server has no memory")?;
        Ok::<_, String>((resident, process::kernel_bytes_of_sockets()))
    };
    let before = taken()?;
    let remotes = signalling.call_all(phones)?;
    let after = taken()?;
    let kernel = after.1.zip(before.1);
    let taken = Taken {
        process_bytes: after.0.saturating_sub(before.0),
        kernel_bytes: kernel.map(|(after, before)| after.saturating_sub(before)),
    };
    Ok((server, (signalling, remotes), taken))
}

fn configuration(arguments: &Arguments, users: (u32, u32), relay: &str) -> String {
    let target = arguments.target;
    let http = SocketAddr::new(target.ip(), target.port().wrapping_add(1));
    let [trunk, _] = PHONES_ADDRESSES;
    // While the bare loop has its turn, or a call is not relayed, nothing is heard of it.
    let mut text = format!(
        "[server]\nlisten = udp:{target}\nlog = warn\n[http]\nlisten = {http}\n[media]\nrelay = {relay}\n\
         [call]\nmedia_timeout = 0\n[trunk load]\naddresses = {trunk}\n"
    );
    for user in users.0..=users.1 {
        let password = &arguments.password;
        text.push_str(&format!("[user {user}]\npassword = {password}\n"));
    }
    text
}

/// Starts a bare loop; where each phone is to send to.
fn bare_loop(
    plan: &Plan<'_>,
    listen: SocketAddr,
    rests: bool,
    folder: &Folder,
) -> Result<(Server, Vec<SocketAddr>), String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut words = vec![
        "forward".to_owned(),
        "--listen".to_owned(),
        listen.to_string(),
    ];
    words.extend(["--calls".to_owned(), plan.calls.to_string()]);
    words.extend(rests.then(|| "--rest".to_owned()));
    let server = Server::start(Start {
        program: &own,
        words,
        folder: &folder.join(if rests { "resting" } else { "bare" }),
        configuration: None,
        target: listen,
        asked_by: None,
        user_id: None,
        core: plan.cores.map(|(_, other)| other),
        small: None,
        variables: &[],
    })?;
    let port = |place| forward::port(listen, place / 2, place % 2);
    Ok((server, (0..2 * plan.calls).map(port).collect()))
}

/// OPTIONS at a pace, and what becomes of them.
struct Asking {
    serial: u32,
    next: Instant,
    /// Those without an answer: number and when they were asked.
    open: Vec<(u32, Instant)>,
    lost: u64,
    latency: Histogram<u64>,
}

impl Asking {
    fn new() -> Self {
        Self {
            serial: 0,
            next: Instant::now(),
            open: Vec::new(),
            lost: 0,
            latency: histogram(),
        }
    }

    /// Asks if it is time, and takes answers.
    fn turn(&mut self, signalling: &mut Signalling) -> Result<(), String> {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + ASKED_EVERY;
            self.serial += 1;
            self.open.push((self.serial, now));
            signalling.ask(self.serial)?;
        } else if self.open.is_empty() {
            return Ok(());
        }
        for answered in signalling.answered()? {
            let asked = self.open.iter().position(|(own, _)| *own == answered);
            let Some(asked) = asked else { continue };
            let (_, at) = self.open.swap_remove(asked);
            self.latency
                .saturating_record(at.elapsed().as_nanos() as u64);
        }
        let before = self.open.len();
        self.open.retain(|(_, at)| at.elapsed() < LOST_AFTER);
        self.lost += (before - self.open.len()) as u64;
        Ok(())
    }

    /// What was counted since the last time.
    fn take(&mut self) -> (u64, Histogram<u64>) {
        (
            std::mem::take(&mut self.lost),
            std::mem::replace(&mut self.latency, histogram()),
        )
    }
}

/// A phase.
struct Phase<'a> {
    /// Whose time on the processor counts.
    pid: u32,
    /// Where phones send to; none of them does if it is empty.
    remotes: &'a [SocketAddr],
    time: Duration,
    /// The server is asked OPTIONS.
    is_asked: bool,
    /// Datagrams a second of a flood beside it.
    flood: Option<f64>,
}

fn measure(
    arguments: &Arguments,
    phase: &Phase<'_>,
    phones: &mut Phones,
    signalling: &mut Signalling,
    asking: &mut Asking,
) -> Result<Figures, String> {
    let mut flood = match phase.flood {
        Some(rate) => {
            let sources = Some((FIRST_SOURCE.into(), FLOOD_SOURCES));
            Some(Generator::new(arguments, Kind::Invite, rate, sources)?)
        }
        None => None,
    };
    let begun = Instant::now();
    let end = begun + phase.time;
    let cpu = process::time_on_cpu(phase.pid)?;
    let mut flooded = 0;
    let mut beside = || {
        if let Some(flood) = &mut flood
            && Instant::now() < end
        {
            flood.send_due()?;
            flooded = u64::from(flood.sent).saturating_sub(flood.unsent());
        }
        if phase.is_asked {
            asking.turn(signalling)?;
        }
        Ok(())
    };
    let tally = if phase.remotes.is_empty() {
        while Instant::now() < end {
            beside()?;
        }
        Tally::default()
    } else {
        phones.talk(phase.remotes, phase.time, beside)?
    };
    let cpu = process::time_on_cpu(phase.pid)?.saturating_sub(cpu);
    let (options_lost, options) = asking.take();
    Ok(Figures {
        tally,
        cpu,
        elapsed: begun.elapsed(),
        flooded,
        options,
        options_lost,
    })
}
