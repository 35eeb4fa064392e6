//! What a server needs for what it holds, and how soon it is there.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::server::Kind;
use super::{Setup, load, table};
use crate::process;
use crate::server::Server;

/// Registrations that are held.
const REGISTRATIONS: u32 = 100_000;
/// Calls that are up at a time.
const CALLS: u32 = 10_000;
/// Until a server that has done something has written down what it keeps.
const SETTLED: Duration = Duration::from_secs(3);

/// What one server took.
struct Figures {
    who: &'static str,
    start_ms: f64,
    restart_ms: Option<f64>,
    idle_bytes: u64,
    registrations_bytes: u64,
    call_bytes: f64,
}

/// Measures both servers; a table.
///
/// # Errors
/// What went wrong, for people.
pub fn measure(setup: &Setup, runs: usize) -> Result<String, String> {
    let mut text = format!(
        "| {:<10} | {:>14} | {:>16} | {:>10} | {:>23} | {:>12} |\n| --- | --: | --: | --: | --: | --: |\n",
        "", "first answer", "with 100,000", "idle", "100,000 registrations", "a call"
    );
    let mut all = vec![figures(setup, runs, true)?];
    if setup.kamailio.is_some() {
        all.push(figures(setup, runs, false)?);
    }
    for one in all {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let restart = one
            .restart_ms
            .map_or(String::new(), |ms| format!("{ms:.0} ms"));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {:<10} | {:>11.0} ms | {:>16} | {:>6.1} MiB | {:>19.1} MiB | {:>6.0} bytes |",
            one.who,
            one.start_ms,
            restart,
            mebibytes(one.idle_bytes),
            mebibytes(one.registrations_bytes),
            one.call_bytes,
        );
    }
    text.push_str("\nMemory is RSS, of several processes PSS; registrations and calls are what they add to the idle server.");
    Ok(text)
}

fn figures(setup: &Setup, runs: usize, is_own: bool) -> Result<Figures, String> {
    let kind = |users| match is_own {
        true => Kind::Sipkeep {
            digest: "md5",
            guard: "off",
            filter: "off",
            users,
        },
        false => Kind::Kamailio { is_guarded: false },
    };
    let who = if is_own { "sipkeep" } else { "Kamailio" };
    let mut number = 0;
    let mut folder = || {
        number += 1;
        setup.folder.join(&format!("memory-{who}-{number}"))
    };
    let start = |kind: Kind, folder: &Path| kind.start(setup, folder, super::PORT + 50);
    let mut starts = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..runs {
        let server = start(kind(super::USERS), &folder())?;
        starts.push(server.started_in.as_secs_f64() * 1e3);
        std::thread::sleep(SETTLED);
        idle.push(resident(&server)? as f64);
        server.stop()?;
    }
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();

    let kept = folder();
    let server = start(kind(REGISTRATIONS), &kept)?;
    std::thread::sleep(SETTLED);
    let before = resident(&server)?;
    let users = format!(
        "register-new --users 1000-{} --seconds 300 --window 64",
        999 + REGISTRATIONS
    );
    complete(&load(setup, &server, &words(&users))?, REGISTRATIONS)?;
    std::thread::sleep(SETTLED);
    let registrations_bytes = resident(&server)?.saturating_sub(before);
    server.stop()?;
    // Kamailio keeps its bindings in memory alone here.
    let restart_ms = match is_own {
        true => {
            let server = start(kind(REGISTRATIONS), &kept)?;
            let took = server.started_in.as_secs_f64() * 1e3;
            server.stop()?;
            Some(took)
        }
        false => None,
    };

    let server = start(kind(super::USERS), &folder())?;
    std::thread::sleep(SETTLED);
    let before = resident(&server)?;
    let calls = format!(
        "held-calls --calls {CALLS} --trunk {} --seconds 60 --window 64",
        super::TRUNK
    );
    complete(&load(setup, &server, &words(&calls))?, CALLS)?;
    let call_bytes = resident(&server)?.saturating_sub(before) as f64 / f64::from(CALLS);
    server.stop()?;

    starts.sort_by(f64::total_cmp);
    idle.sort_by(f64::total_cmp);
    Ok(Figures {
        who,
        start_ms: table::median(&starts),
        restart_ms,
        idle_bytes: table::median(&idle) as u64,
        registrations_bytes,
        call_bytes,
    })
}

fn resident(server: &Server) -> Result<u64, String> {
    process::resident_bytes(server.pid()).ok_or_else(|| "the server is gone".to_owned())
}

/// What is not there takes no memory: all must be.
fn complete(report: &serde_json::Value, wanted: u32) -> Result<(), String> {
    match report["failed"].as_u64().zip(report["lost"].as_u64()) {
        Some((0, 0)) => Ok(()),
        _ => Err(format!("of {wanted} not all came to be: {report}")),
    }
}
