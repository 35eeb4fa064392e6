//! A thousand lines at one carrier: whether a server registers them all in good time, refreshes them evenly over a day, and
//! does not run the carrier over when it has forgotten them all, or comes back after an absence.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::carrier::{Carrier, Policy};
use super::fleet::{Fleet, Step};
use super::network::Link;
use super::phone::Phone;
use super::random::Random;
use super::world::{Seen, World};
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::message::parse;
use crate::source::Transport;
use crate::time::Instant;

/// How REGISTERs were spread over a time, without retransmissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// In all.
    pub registers: usize,
    /// The most in a second.
    pub per_second: usize,
    /// The most in a minute.
    pub per_minute: usize,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            registers,
            per_second,
            per_minute,
        } = self;
        write!(
            f,
            "{registers} REGISTERs, at most {per_second} a second and {per_minute} a minute"
        )
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// From the start until all were registered.
    pub start: (Duration, Spread),
    /// The hours after.
    pub day: Spread,
    /// From a restart of the carrier until all were registered again.
    pub restart: (Duration, Spread),
    /// While it was absent, as it was sent.
    pub absence: Spread,
    /// From its return until all were registered again.
    pub back: (Duration, Spread),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [start, restart, back] = [self.start, self.restart, self.back];
        writeln!(f, "all registered after {:?}: {}", start.0, start.1)?;
        writeln!(f, "refreshed over {DAY:?}: {}", self.day)?;
        writeln!(
            f,
            "again {:?} after the carrier's restart: {}",
            restart.0, restart.1
        )?;
        writeln!(f, "in its absence of {ABSENCE:?}: {}", self.absence)?;
        write!(f, "again {:?} after its return: {}", back.0, back.1)
    }
}

/// The time of refreshes that is looked at.
pub const DAY: Duration = Duration::from_secs(20 * 3_600);
/// How long the carrier is absent: longer than it has granted, so that no line is left registered.
pub const ABSENCE: Duration = Duration::from_secs(4_200);
/// Longer than any line may wait, so that it is told who does.
const PATIENCE: Duration = Duration::from_secs(3 * 3_600);

/// Lines, and the carrier that they are at.
pub struct Thousand {
    fleet: Fleet,
    lines: usize,
}

impl Thousand {
    /// A server with so many lines, just started.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn new(seed: u64, lines: usize) -> Result<Self, String> {
        let server = SocketAddr::from(([192, 0, 2, 1], 5060));
        let address = SocketAddr::from(([198, 51, 100, 4], 5060));
        let mut text = format!("[server]\nlisten = udp:{server}\n");
        for line in 0..lines {
            text.push_str(&format!(
                "[line l{line}]\naccount = {}\npassword = {PASSWORD}\nserver = sip.example.net\n\
                 outbound_proxy = {address}\nkeepalive = 0\n",
                account(line)
            ));
        }
        let config =
            Config::read(&text, Path::new(".")).map_err(|mistakes| format!("{mistakes:?}"))?;
        let link = Link {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(10),
            ..Link::default()
        };
        let world = World::new(config, server, seed, link);
        let random = Random::new(seed).fork("thousand");
        let mut phone = Phone::new("4930", "", address, server, Transport::Udp, &random);
        let accounts = (0..lines).map(|line| (account(line), PASSWORD.to_owned()));
        let policy = Policy::plain("sip.example.net");
        let carrier = Carrier::new(policy, accounts, world.now().mono, &random);
        phone.carrier = Some(Box::new(carrier));
        Ok(Self {
            fleet: Fleet::new(world, vec![phone]),
            lines,
        })
    }

    fn carrier(&self) -> &Carrier {
        let own = self.fleet.phones[0].carrier.as_deref();
        own.expect("the one phone is a carrier's")
    }

    /// The server.
    pub fn server(&self) -> &Endpoint {
        &self.fleet.world.endpoint
    }

    /// Lets so much time pass.
    pub fn pass(&mut self, time: Duration) {
        let end = self.fleet.now().plus(time);
        while self.fleet.step(end) != Step::End {}
    }

    /// Until all lines are registered: how long that took, and what was sent for it.
    ///
    /// # Errors
    /// Some never are.
    pub fn register_all(&mut self) -> Result<(Duration, Spread), String> {
        let begin = self.fleet.now();
        loop {
            let now = self.fleet.now();
            let missing = |line: &usize| self.carrier().contact(now, *line).is_none();
            let Some(line) = (0..self.lines).find(missing) else {
                return Ok((now.since(begin), self.spread(begin)));
            };
            if now.since(begin) > PATIENCE {
                return Err(format!(
                    "line {line} was not registered within {PATIENCE:?}"
                ));
            }
            self.pass(Duration::from_secs(1));
        }
    }

    /// What the carrier has got since then.
    fn spread(&self, since: Instant) -> Spread {
        let all = &self.carrier().seen.registers;
        let times = all.iter().map(|(at, _)| *at).filter(|at| *at >= since);
        spread(times.map(|at| at.since(since)))
    }
}

/// Counts in whole seconds and minutes.
fn spread(times: impl Iterator<Item = Duration> + Clone) -> Spread {
    let most = |unit_s: u64| {
        let mut most = (0, 0, 0);
        for time in times.clone() {
            let unit = time.as_secs() / unit_s;
            let count = if most.0 == unit { most.1 + 1 } else { 1 };
            most = (unit, count, most.2.max(count));
        }
        most.2
    };
    Spread {
        registers: times.clone().count(),
        per_second: most(1),
        per_minute: most(60),
    }
}

const PASSWORD: &str = "Thousand-Lines-1";

fn account(line: usize) -> String {
    format!("+4930{line:05}")
}

/// Plays one seed.
///
/// # Errors
/// A line that is never registered, or what the carrier found wrong.
pub fn run(seed: u64, lines: usize) -> Result<Report, String> {
    let mut all = Thousand::new(seed, lines)?;
    let start = all.register_all()?;
    let begin = all.fleet.now();
    all.pass(DAY);
    let day = all.spread(begin);

    if let Some(carrier) = &mut all.fleet.phones[0].carrier {
        carrier.forget();
    }
    let restart = all.register_all()?;

    all.fleet.phones[0].is_off = true;
    let begin = all.fleet.now();
    let end = begin.plus(ABSENCE);
    let (mut sent, mut branches) = (Vec::new(), BTreeSet::new());
    while let Some(delivery) = all.fleet.world.run(end) {
        let Seen::Datagram(bytes) = delivery.seen else {
            continue;
        };
        if parse(&bytes).is_ok_and(|request| branches.insert(request.via().branch.to_vec())) {
            sent.push(all.fleet.now().since(begin));
        }
    }
    let absence = spread(sent.iter().copied());
    all.fleet.phones[0].is_off = false;
    let back = all.register_all()?;
    match all.carrier().faults.first() {
        Some(fault) => Err(fault.clone()),
        None => Ok(Report {
            start,
            day,
            restart,
            absence,
            back,
        }),
    }
}
