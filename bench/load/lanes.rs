//! What floods leave of the service of those who are known: registered phones that refresh on flows of their own, and a
//! trunk whose address is forged; and of those who come for the first time. Starts a server of its own, which ends with the measurement.
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
use crate::server::{Folder, Server, Start};

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
/// For who has registered to get a place.
const PLACES_WITHIN: Duration = Duration::from_millis(600);

/// A flood that runs beside a measurement.
#[derive(Clone, Copy)]
struct Flood {
    name: &'static str,
    rate: f64,
    kind: Kind,
    sources: (Ipv4Addr, u32),
}

/// One line of the report.
struct Line {
    who: &'static str,
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
    let (own, text) = (folder.join("server"), configuration(arguments));
    let start = Start::sipkeep(server, &own, arguments.target, TRUNK_ADDRESS.into(), text);
    let server = Server::start(Start { user_id, ..start })?;
    let mut arguments = Arguments {
        bind: PHONES_ADDRESS.into(),
        users: (FIRST_USER, FIRST_USER + PHONES - 1),
        flows: PHONES as usize,
        pid: Some(server.pid()),
        pace: Some(Pace::Rate(REFRESHES)),
        ..arguments.clone()
    };
    for number in 0..BANNED.1 {
        let address = Ipv4Addr::from_bits(BANNED.0.to_bits() + number);
        server.ask(&["ban", &address.to_string()])?;
    }
    let mut lines: Vec<Line> = Vec::new();
    let phones = |flood: Option<&Flood>, lines: &mut Vec<Line>| {
        measure(
            &arguments,
            &server,
            "phones",
            flood,
            lines,
            |arguments, prepared| {
                let scenario = Requests::new(Scenario::Register, arguments)?;
                engine::run(arguments, scenario, prepared)
            },
        )
    };
    phones(None, &mut lines)?;
    let kinds = [
        ("banned", Kind::Invite, BANNED),
        ("quiet", Kind::Register, (FIRST_SOURCE, QUIET_SOURCES)),
        ("new", Kind::Register, (FIRST_SOURCE, NEW_SOURCES)),
    ];
    for (name, kind, sources) in kinds {
        for &rate in rates {
            let flood = Flood {
                name,
                rate,
                kind,
                sources,
            };
            phones(Some(&flood), &mut lines)?;
        }
    }
    let forged = Flood {
        name: "forged trunk",
        rate: rates.first().copied().unwrap_or(REFRESHES),
        kind: Kind::Register,
        sources: (TRUNK_ADDRESS, 1),
    };
    phones(Some(&forged), &mut lines)?;
    let quiet = Flood {
        name: "quiet",
        rate: forged.rate,
        kind: Kind::Register,
        sources: (FIRST_SOURCE, QUIET_SOURCES),
    };
    for flood in [None, Some(&quiet)] {
        measure(
            &arguments,
            &server,
            "newcomers",
            flood,
            &mut lines,
            |arguments, prepared| newcomers::run(arguments, NEWCOMERS, NEWCOMERS_USERS, prepared),
        )?;
    }
    arguments.pace = Some(Pace::Rate(CALLS));
    arguments.trunk = Some(TRUNK_ADDRESS.into());
    let trunk = |flood: Option<&Flood>, lines: &mut Vec<Line>| {
        measure(
            &arguments,
            &server,
            "trunk",
            flood,
            lines,
            |arguments, prepared| {
                let scenario = Calls::new(arguments)?;
                engine::run(arguments, scenario, prepared)
            },
        )
    };
    trunk(None, &mut lines)?;
    trunk(Some(&forged), &mut lines)?;
    let status = server.status()?;
    Ok(if arguments.json {
        as_json(&lines, &status)
    } else {
        as_table(&lines, &status)
    })
}

/// One measurement, beside a flood or none.
fn measure(
    arguments: &Arguments,
    server: &Server,
    who: &'static str,
    flood: Option<&Flood>,
    lines: &mut Vec<Line>,
    play: impl Fn(&Arguments, &dyn Fn()) -> Result<Report, String>,
) -> Result<(), String> {
    let before = server.drops()?;
    let start = |flood: &Flood| {
        let (first, count) = flood.sources;
        let sources = Some((first.into(), count));
        Flooding::start(arguments, flood.kind, flood.rate, sources)
    };
    let flooding = flood.map(start);
    let report = play(arguments, &|| {
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
    let drops = drops.iter().zip(&before).map(|(now, then)| now - then);
    let p99 = |report: &Report| report.total.latency_at(0.99);
    let alone = lines.iter().find(|line| line.who == who);
    let alone = alone.map_or(p99(&report), |line| p99(&line.report));
    lines.push(Line {
        who,
        flood: flood.map_or("none", |flood| flood.name),
        rate,
        ratio: p99(&report) as f64 / alone.max(1) as f64,
        drops: drops.collect(),
        report,
    });
    Ok(())
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
        "{:<10}{:<14}{:>9}{:>8}{:>6}{:>10}{:>8}{:>8}{:>9}{:>7}{:>6}  dropped: peers, phones, strangers\n",
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
            "{:<10}{:<14}{:>9.0}{:>8}{:>6}{:>10}{:>8}{:>8}{:>9}{:>7.1}{:>5.0}%  {}\n",
            line.who,
            line.flood,
            line.rate,
            total.done,
            total.lost + total.failed,
            total.retransmitted,
            total.latency_at(0.5),
            total.latency_at(0.99),
            total.latency_at(1.0),
            line.ratio,
            report.busy() * 100.0,
            drops.join(", "),
        ));
    }
    let resident = lines.last().and_then(|line| line.report.resident_bytes);
    text.push_str(&format!(
        "lanes {}\nserver holds {}; {:.1} MiB",
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
            "who": line.who, "flood": line.flood, "flood_rate": line.rate, "p99_ratio": line.ratio,
            "drops": line.drops, "report": serde_json::from_str::<Value>(&report.json()).unwrap_or_default(),
        })
    };
    let lines: Vec<Value> = lines.iter().map(line).collect();
    json!({ "scenario": "lanes", "lines": lines, "lanes": status["guard"]["lanes"] }).to_string()
}
