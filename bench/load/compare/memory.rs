//! What a server needs for what it holds, and how soon it is there.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::server::Kind;
use super::svg::Bar;
use super::{Report, Setup, load, table};
use crate::process;
use crate::server::Server;

/// Until a server that has done something has written down what it keeps.
const SETTLED: Duration = Duration::from_secs(3);
/// Until the transactions by which something came to be are forgotten: 64·T1, and a little.
const FORGOTTEN: Duration = Duration::from_secs(35);

const OWN: &str = "sipkeep";
/// `[call] calls_max` of a configuration that does not say it.
const SHIPPED_CALLS: u32 = 1_000;
/// What the product should take at most, in the order of the columns.
const AIMS: [Option<f64>; COLUMNS] = [
    Some(50.0),
    Some(500.0),
    Some(8.0),
    None,
    Some(45.0),
    Some(6_000.0),
];
const COLUMNS: usize = 6;

/// What one server took, a value of each round.
struct Figures {
    who: &'static str,
    start_ms: Vec<f64>,
    /// With all registrations in its state file; empty: it keeps none.
    restart_ms: Vec<f64>,
    idle_mib: Vec<f64>,
    /// When it knows all who will register.
    users_mib: Vec<f64>,
    registrations_mib: Vec<f64>,
    call_bytes: Vec<f64>,
}

/// Of all servers.
pub struct Measured(Vec<Figures>);

/// Registrations that are held.
fn registrations(setup: &Setup) -> u32 {
    setup.sizes.last().copied().unwrap_or(1)
}

/// Calls that are up at a time; on a small machine not more than the product takes as it is shipped.
fn calls(setup: &Setup) -> u32 {
    let most = setup.small.map_or(u32::MAX, |_| SHIPPED_CALLS);
    registrations(setup).div_ceil(10).min(most)
}

/// The servers: whether it is ours.
fn servers(setup: &Setup) -> impl Iterator<Item = bool> {
    [true]
        .into_iter()
        .chain(setup.kamailio.iter().map(|_| false))
}

/// Measurements in a round.
pub fn steps(setup: &Setup) -> usize {
    servers(setup).count()
}

/// Seconds that a round takes, more or less.
pub fn round_s(setup: &Setup) -> f64 {
    let waits = 3.0 * SETTLED.as_secs_f64() + FORGOTTEN.as_secs_f64();
    let work = f64::from(registrations(setup)) / 10_000.0 + f64::from(calls(setup)) / 2_000.0;
    (waits + 3.0 + work) * steps(setup) as f64
}

/// Measures all servers by turns.
///
/// # Errors
/// What went wrong, for people.
pub fn measure(setup: &Setup, rounds: usize, report: &mut Report) -> Result<Measured, String> {
    let new = |is_own| Figures {
        who: if is_own { OWN } else { "Kamailio" },
        start_ms: Vec::new(),
        restart_ms: Vec::new(),
        idle_mib: Vec::new(),
        users_mib: Vec::new(),
        registrations_mib: Vec::new(),
        call_bytes: Vec::new(),
    };
    let mut all: Vec<Figures> = servers(setup).map(new).collect();
    for number in 0..rounds {
        for (figures, is_own) in all.iter_mut().zip(servers(setup)) {
            round(setup, figures, is_own, number)?;
            let last = |values: &[f64]| values.last().copied();
            let mut run = serde_json::json!({
                "row": format!("memory, {}", figures.who), "run": number,
                "start_ms": last(&figures.start_ms), "restart_ms": last(&figures.restart_ms),
                "idle_mib": last(&figures.idle_mib), "users_mib": last(&figures.users_mib), "registrations": registrations(setup),
                "registrations_mib": last(&figures.registrations_mib),
                "calls": calls(setup), "call_bytes": last(&figures.call_bytes),
            });
            let said = format!("memory, {}", figures.who);
            report.add(setup, &mut run, &said)?;
        }
    }
    Ok(Measured(all))
}

/// One round of one server.
fn round(setup: &Setup, figures: &mut Figures, is_own: bool, number: usize) -> Result<(), String> {
    let kind = |guard, filter, users| match is_own {
        true => Kind::Sipkeep {
            digest: "md5",
            guard,
            filter,
            users,
            reads_at_once: false,
        },
        false => Kind::Kamailio { is_guarded: false },
    };
    let who = figures.who;
    let folder = |name: &str| setup.folder.join(&format!("memory-{who}-{number}-{name}"));
    let start = |kind: Kind, folder: &Path| kind.start(setup, folder, 50);
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let ms = |server: &Server| server.started_in.as_secs_f64() * 1e3;

    // As it is shipped, when nothing was asked of it.
    let server = start(kind("enforce", "auto", super::USERS), &folder("idle"))?;
    figures.start_ms.push(ms(&server));
    std::thread::sleep(SETTLED);
    figures.idle_mib.push(mebibytes(resident(&server)?));
    server.stop()?;

    let small = kind("off", "off", super::USERS);
    let server = start(small, &folder("calls"))?;
    std::thread::sleep(SETTLED);
    let idle = resident(&server)?;
    let held = calls(setup);
    let text = format!(
        "held-calls --calls {held} --trunk {} --seconds 60 --window 64 --warmup 0",
        setup.trunk()
    );
    complete(&load(setup, small, &server, &words(&text))?, held)?;
    let bytes = resident(&server)?.saturating_sub(idle) as f64;
    figures.call_bytes.push(bytes / f64::from(held));
    server.stop()?;

    let (held, kept) = (registrations(setup), folder("registrations"));
    // Who registers as so many users from one address is held back by the guard.
    let large = kind("off", "off", held);
    let server = start(large, &kept)?;
    std::thread::sleep(SETTLED);
    let before = resident(&server)?;
    figures.users_mib.push(mebibytes(before));
    // What the disk does not keep up with is dropped at a bound, and not there after the restart.
    let pace = match setup.small {
        None => "--rate 10000",
        Some(_) => "--window 64",
    };
    let users = format!(
        "register-new --users 1000-{} --seconds 300 {pace} --warmup 0",
        999 + held
    );
    complete(&load(setup, large, &server, &words(&users))?, held)?;
    std::thread::sleep(FORGOTTEN);
    let bytes = resident(&server)?.saturating_sub(before);
    figures.registrations_mib.push(mebibytes(bytes));
    server.stop()?;
    // Kamailio keeps its bindings in memory alone here.
    if is_own {
        let server = start(large, &kept)?;
        figures.restart_ms.push(ms(&server));
        let there = server.tables()?["registrations"].as_u64();
        if there != Some(held.into()) {
            return Err(format!("{there:?} of {held} registrations came back"));
        }
        server.stop()?;
    }
    Ok(())
}

fn resident(server: &Server) -> Result<u64, String> {
    process::resident_bytes(server.pid()).ok_or_else(|| "the server is gone".to_owned())
}

/// What is not there takes no memory: all must be.
fn complete(report: &serde_json::Value, wanted: u32) -> Result<(), String> {
    let count = |name: &str| report[name].as_u64();
    match [count("failed"), count("lost"), count("done")] {
        [Some(0), Some(0), Some(done)] if done == u64::from(wanted) => Ok(()),
        _ => Err(format!("of {wanted} not all came to be: {report}")),
    }
}

/// Title, unit and values of everything that was measured.
fn columns<'a>(setup: &Setup, own: &'a Figures) -> [(String, &'static str, &'a [f64]); COLUMNS] {
    let held = registrations(setup);
    [
        ("first answer".to_owned(), "ms", &own.start_ms),
        (format!("first answer with {held}"), "ms", &own.restart_ms),
        ("memory when idle".to_owned(), "MiB", &own.idle_mib),
        (format!("idle with {held} users"), "MiB", &own.users_mib),
        (
            format!("memory of {held} registrations"),
            "MiB",
            &own.registrations_mib,
        ),
        ("memory of a call".to_owned(), "bytes", &own.call_bytes),
    ]
}

/// A median with its spread. Tenths only of mebibytes: of what is in bytes or milliseconds they say nothing.
fn shown(values: &[f64], unit: &str) -> String {
    let digits = usize::from(unit == "MiB");
    let text = |[median, lowest, highest]: [f64; 3]| {
        format!("{median:.digits$} {unit} ({lowest:.digits$}–{highest:.digits$})")
    };
    table::spread(values).map_or(String::new(), text)
}

/// A table for people, and for a README.
pub fn text(setup: &Setup, measured: &Measured) -> String {
    let mut text = String::new();
    for (place, own) in measured.0.iter().enumerate() {
        let columns = columns(setup, own);
        if place == 0 {
            let titles = columns
                .each_ref()
                .map(|(title, _, _)| format!(" {title:>30} |"));
            text = format!(
                "| {:<10} |{}\n| --- |{}\n",
                "",
                titles.concat(),
                " --: |".repeat(COLUMNS)
            );
        }
        let cells = columns.map(|(_, unit, values)| format!(" {:>30} |", shown(values, unit)));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {:<10} |{}", own.who, cells.concat());
    }
    let cells = AIMS.map(|aim| {
        let aim = aim.map_or(String::new(), |aim| aim.to_string());
        format!(" {aim:>30} |")
    });
    let _ = writeln!(text, "| {:<10} |{}", "aim", cells.concat());
    text.push_str(
        "\nMemory is RSS, of several processes PSS; registrations and calls are what they add to the idle server (registrations to one \
         whose configuration names all these users, which Kamailio's does not), registrations when the transactions that made them are forgotten. sipkeep is idle as it is shipped; it takes registrations \
         from one address, and 10,000 calls of one trunk, without its guard.",
    );
    text
}

/// The same for the picture.
pub fn bars(setup: &Setup, measured: &Measured) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    for (place, aim) in AIMS.into_iter().enumerate() {
        for own in &measured.0 {
            let (work, unit, values) = columns(setup, own)[place].clone();
            let Some([value, ..]) = table::spread(values) else {
                continue;
            };
            let text = shown(values, unit);
            bars.push(Bar {
                work,
                who: own.who,
                value,
                text,
                aim: aim.filter(|_| own.who == OWN),
            });
        }
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_with_their_spread() {
        assert_eq!(shown(&[7.0, 6.95, 8.0], "MiB"), "7.0 MiB (7.0–8.0)");
        assert_eq!(
            (shown(&[4.0], "ms"), shown(&[], "ms")),
            ("4 ms (4–4)".to_owned(), String::new())
        );
    }
}
