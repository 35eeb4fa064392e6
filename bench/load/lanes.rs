//! What floods leave of the service of those who are known: registered phones that refresh on flows of their own, and a
//! trunk whose address is forged; and of those who come for the first time. Starts servers of its own, one after the other, which
//! end with the measurement.
//!
//! What it costs to read a flood late shows beside one that is read at all: banned, without the kernel's filter, with a server
//! that does and with one that reads at once.
//!
//! Latencies are those of `register` and `calls` in an open loop. On a machine of few processors generator, server and
//! phones take time from each other: only the comparison with the first line says something.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::arguments::{Arguments, Pace, Scenario};
use crate::calls::Calls;
use crate::engine;
use crate::flood::{FIRST_SOURCE, Flooding, Kind};
use crate::newcomers;
use crate::report::{Report, held};
use crate::requests::Requests;
use crate::server::{Folder, READ_AT_ONCE, Server, Start};

/// Refreshes a second of all phones together.
const REFRESHES: f64 = 200.0;
/// Calls a second of the trunk.
const CALLS: f64 = 10.0;
/// Phones, each on a flow of its own.
const PHONES: u32 = 100;
const FIRST_USER: u32 = 1_000;
/// Phones that nobody has seen before, how many come in a second, and as which users.
const NEWCOMERS: f64 = 10.0;
const NEWCOMERS_USERS: (u32, u32) = (2_000, 100);
/// Where phones and the trunk are.
const PHONES_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 9);
const TRUNK_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 10);
/// The first of the addresses that are banned, and how many.
const BANNED: (Ipv4Addr, u32) = (Ipv4Addr::new(127, 63, 0, 1), 10);
/// Sources that each stay below every threshold.
const QUIET_SOURCES: u32 = 60_000;
/// Sources before one comes again: 127.64.0.0/10 and what follows it.
const NEW_SOURCES: u32 = 12_000_000;
/// The server whose table of lanes is shown.
const SHIPPED: &str = "as shipped";
/// For who has registered to get a place.
const PLACES_WITHIN: Duration = Duration::from_millis(600);

/// Who is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Phones,
    Newcomers,
    Trunk,
}

impl Who {
    const fn name(self) -> &'static str {
        match self {
            Self::Phones => "phones",
            Self::Newcomers => "newcomers",
            Self::Trunk => "trunk",
        }
    }
}

/// A flood that runs beside a measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Flood {
    name: &'static str,
    rate: f64,
    kind: Kind,
    sources: (Ipv4Addr, u32),
}

/// A server, and what is measured with it: who is served, beside which flood.
struct Part {
    /// What is said of the server.
    name: &'static str,
    /// Of its configuration, besides what all have.
    configuration: &'static str,
    /// Of its environment.
    variables: &'static [(&'static str, &'static str)],
    measurements: Vec<(Who, Option<Flood>)>,
}

/// One line of the report.
struct Line {
    server: &'static str,
    who: Who,
    flood: &'static str,
    /// Datagrams a second, as sent.
    rate: f64,
    report: Report,
    /// p99 against that without flood.
    ratio: f64,
    /// Datagrams lost in the lanes' queues: peers', phones', strangers'.
    drops: Vec<u64>,
}

/// Measures everything; the report.
///
/// # Errors
/// What went wrong, for people.
pub fn run(
    arguments: &Arguments,
    server: &Path,
    rates: &[f64],
    user_id: Option<u32>,
) -> Result<String, String> {
    let folder = Folder::new()?;
    let parts = parts(rates);
    let count: usize = parts.iter().map(|part| part.measurements.len()).sum();
    let mut lines: Vec<Line> = Vec::new();
    let mut shipped = None;
    for (number, part) in parts.iter().enumerate() {
        let own = folder.join(&number.to_string());
        let text = configuration(arguments) + part.configuration;
        let server = Server::start(Start {
            user_id,
            variables: part.variables,
            ..Start::sipkeep(server, &own, arguments.target, TRUNK_ADDRESS.into(), text)
        })?;
        for number in 0..BANNED.1 {
            let address = Ipv4Addr::from_bits(BANNED.0.to_bits() + number);
            server.ask(&["ban", &address.to_string()])?;
        }
        let arguments = Arguments {
            bind: PHONES_ADDRESS.into(),
            users: (FIRST_USER, FIRST_USER + PHONES - 1),
            flows: PHONES as usize,
            pid: Some(server.pid()),
            pace: Some(Pace::Rate(REFRESHES)),
            ..arguments.clone()
        };
        for (who, flood) in &part.measurements {
            let line = measure(&arguments, (part.name, &server), *who, *flood, &lines)?;
            lines.push(line);
            if let Some(line) = lines.last().filter(|_| !arguments.json) {
                eprintln!("{}/{count}  {}", lines.len(), line.in_short());
            }
        }
        // What is said of a server at the end is said of the first.
        shipped = match shipped {
            None => Some(server.status()?),
            told => told,
        };
        server.stop()?;
    }
    let status = shipped.unwrap_or_default();
    Ok(if arguments.json {
        as_json(&lines, &status)
    } else {
        as_table(&lines, &status)
    })
}

/// What is measured, server after server.
fn parts(rates: &[f64]) -> [Part; 3] {
    let first = rates.first().copied().unwrap_or(REFRESHES);
    let flood = |name, kind, sources| {
        move |rate| Flood {
            name,
            rate,
            kind,
            sources,
        }
    };
    let banned = flood("banned", Kind::Invite, BANNED);
    let quiet = flood("quiet", Kind::Register, (FIRST_SOURCE, QUIET_SOURCES));
    let new = flood("new", Kind::Register, (FIRST_SOURCE, NEW_SOURCES));
    let forged = flood("forged trunk", Kind::Register, (TRUNK_ADDRESS, 1));
    let beside = |flood| (Who::Phones, Some(flood));
    let mut measurements = vec![(Who::Phones, None)];
    measurements.extend(rates.iter().copied().map(banned).map(beside));
    measurements.extend(rates.iter().copied().map(quiet).map(beside));
    measurements.extend(rates.iter().copied().map(new).map(beside));
    measurements.push(beside(forged(first)));
    measurements.push((Who::Newcomers, None));
    measurements.extend([quiet(first), banned(first)].map(|flood| (Who::Newcomers, Some(flood))));
    measurements.extend([None, Some(forged(first))].map(|flood| (Who::Trunk, flood)));
    let shipped = Part {
        name: SHIPPED,
        configuration: "",
        variables: &[],
        measurements,
    };
    // Where the kernel discards a flood, nothing of it is there to be read, late or at once.
    let reading = |name, variables| Part {
        name,
        configuration: "[guard]\nkernel_filter = off\n",
        variables,
        measurements: [Who::Phones, Who::Newcomers]
            .map(|who| (who, Some(banned(first))))
            .into(),
    };
    [
        shipped,
        reading("late", &[]),
        reading("at once", &[READ_AT_ONCE]),
    ]
}

/// One measurement, beside a flood or none. `before`: the lines of those that are over.
fn measure(
    arguments: &Arguments,
    (name, server): (&'static str, &Server),
    who: Who,
    flood: Option<Flood>,
    before: &[Line],
) -> Result<Line, String> {
    let drops_before = server.drops()?;
    let flooding = flood.map(|flood| {
        let (first, count) = flood.sources;
        let sources = Some((first.into(), count));
        Flooding::start(arguments, flood.kind, flood.rate, sources)
    });
    let report = serve(arguments, who, || {
        // Phones have registered, and get their places before the flood begins.
        std::thread::sleep(PLACES_WITHIN);
        if let Some(flooding) = &flooding {
            flooding.begin();
        }
    });
    let rate = flooding.map_or(Ok(0.0), Flooding::stop);
    let (mut report, rate) = (report?, rate?);
    let drops = server.drops()?;
    report.tables = Some(server.tables()?);
    let drops = drops.iter().zip(&drops_before);
    let p99 = |report: &Report| report.total.latency_at(0.99);
    let alone = before.iter().find(|line| line.who == who);
    let alone = alone.map_or(p99(&report), |line| p99(&line.report));
    Ok(Line {
        server: name,
        who,
        flood: flood.map_or("none", |flood| flood.name),
        rate,
        ratio: p99(&report) as f64 / alone.max(1) as f64,
        drops: drops.map(|(now, then)| now - then).collect(),
        report,
    })
}

/// Those who are served do what they do; `prepared` is called when they have registered.
fn serve(arguments: &Arguments, who: Who, prepared: impl FnOnce()) -> Result<Report, String> {
    match who {
        Who::Phones => {
            let scenario = Requests::new(Scenario::Register, arguments)?;
            engine::run(arguments, scenario, prepared)
        }
        Who::Newcomers => newcomers::run(arguments, NEWCOMERS, NEWCOMERS_USERS, prepared),
        Who::Trunk => {
            let arguments = Arguments {
                pace: Some(Pace::Rate(CALLS)),
                trunk: Some(TRUNK_ADDRESS.into()),
                ..arguments.clone()
            };
            engine::run(&arguments, Calls::new(&arguments)?, prepared)
        }
    }
}

impl Line {
    /// For who waits for the others.
    fn in_short(&self) -> String {
        let total = &self.report.total;
        format!(
            "{}, {}, flood {}: p99 {} us, {} lost, {} repeated",
            self.server,
            self.who.name(),
            self.flood,
            total.latency_at(0.99),
            total.lost + total.failed + self.report.unbegun,
            total.retransmitted,
        )
    }
}

fn configuration(arguments: &Arguments) -> String {
    let target = arguments.target;
    let http = SocketAddr::new(target.ip(), target.port().wrapping_add(1));
    let mut text = format!(
        "[server]\nlisten = udp:{target}\n[http]\nlisten = {http}\n[trunk load]\naddresses = {TRUNK_ADDRESS}\n"
    );
    let phones = FIRST_USER..FIRST_USER + PHONES;
    let newcomers = NEWCOMERS_USERS.0..NEWCOMERS_USERS.0 + NEWCOMERS_USERS.1;
    for user in phones.chain(newcomers) {
        text.push_str(&format!(
            "[user {user}]\npassword = {}\n",
            arguments.password
        ));
    }
    text
}

fn as_table(lines: &[Line], status: &Value) -> String {
    let mut text = format!(
        "{:<12}{:<10}{:<14}{:>9}{:>8}{:>6}{:>10}{:>8}{:>8}{:>9}{:>7}{:>6}  dropped: peers, phones, strangers\n",
        "server",
        "who",
        "flood",
        "sent/s",
        "done",
        "lost",
        "repeated",
        "p50 us",
        "p99 us",
        "max us",
        "ratio",
        "busy"
    );
    for line in lines {
        let report = &line.report;
        let drops: Vec<String> = line.drops.iter().take(3).map(u64::to_string).collect();
        let total = &report.total;
        text.push_str(&format!(
            "{:<12}{:<10}{:<14}{:>9.0}{:>8}{:>6}{:>10}{:>8}{:>8}{:>9}{:>7.1}{:>5.0}%  {}\n",
            line.server,
            line.who.name(),
            line.flood,
            line.rate,
            total.done,
            total.lost + total.failed + report.unbegun,
            total.retransmitted,
            total.latency_at(0.5),
            total.latency_at(0.99),
            total.latency_at(1.0),
            line.ratio,
            report.busy() * 100.0,
            drops.join(", "),
        ));
    }
    let shipped = lines.iter().rfind(|line| line.server == SHIPPED);
    let resident = shipped.and_then(|line| line.report.resident_bytes);
    text.push_str(&format!(
        "{SHIPPED}: lanes {}\nserver holds {}; {:.1} MiB",
        status["guard"]["lanes"],
        held(&status["counts"]),
        resident.unwrap_or(0) as f64 / f64::from(1 << 20)
    ));
    text
}

fn as_json(lines: &[Line], status: &Value) -> String {
    let line = |line: &Line| {
        let report = &line.report;
        json!({
            "server": line.server, "who": line.who.name(), "flood": line.flood, "flood_rate": line.rate, "p99_ratio": line.ratio,
            "drops": line.drops, "report": serde_json::from_str::<Value>(&report.json()).unwrap_or_default(),
        })
    };
    let lines: Vec<Value> = lines.iter().map(line).collect();
    json!({ "scenario": "lanes", "lines": lines, "lanes": status["guard"]["lanes"] }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_measured_is_measured_without_a_flood_first() {
        let parts = parts(&[5.0, 7.0]);
        let [shipped, late, at_once] = &parts;
        for who in [Who::Phones, Who::Newcomers, Who::Trunk] {
            let first = (shipped.measurements.iter()).find(|(own, _)| *own == who);
            assert_eq!(first, Some(&(who, None)));
        }
        // A flood of each kind with each rate, and that of the trunk's address.
        let phones = (shipped.measurements.iter()).filter(|(who, _)| *who == Who::Phones);
        assert_eq!(phones.count(), 1 + 3 * 2 + 1);
        // They differ in one thing alone.
        assert_eq!(late.measurements, at_once.measurements);
        assert_eq!(late.configuration, at_once.configuration);
        assert_eq!(
            (late.variables, at_once.variables),
            (&[][..], &[READ_AT_ONCE][..])
        );
        let rates = late
            .measurements
            .iter()
            .map(|(_, flood)| flood.map(|flood| flood.rate));
        assert!(rates.eq([Some(5.0); 2]));
    }
}
