//! Servers beside each other: the product, Kamailio as fast as it can be had, and loops that only receive and send, all on one
//! core, in turns, so that a slow minute of the machine falls on all of them. Every figure is the median of the turns.
//!
//! What counts are the ratios to the bare loop of the same run: CPU time of all processes of a server for each request, call
//! or dropped packet. The load is this program once more, as a process of its own on a core of its own.

mod memory;
mod server;
mod svg;
mod table;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde_json::Value;

use self::server::Kind;
use crate::arguments::{Arguments, Compare};
use crate::process;
use crate::server::{Folder, Server};

/// Where the phones and the load in general come from.
const PHONES: Ipv4Addr = Ipv4Addr::new(127, 0, 7, 2);
/// Where calls come from that nobody challenges.
const TRUNK: Ipv4Addr = Ipv4Addr::new(127, 0, 7, 3);
/// Where floods come from; banned.
const BANNED: Ipv4Addr = Ipv4Addr::new(127, 0, 7, 4);
/// The first server's port.
const PORT: u16 = 25_071;
/// Users that most servers know.
const USERS: u32 = 256;
/// Packets a second of the floods.
const FLOODS: [&str; 4] = ["20000", "50000", "100000", "200000"];

/// What all parts of a comparison need to know.
pub struct Setup {
    load: PathBuf,
    server: PathBuf,
    kamailio: Option<PathBuf>,
    cores: Option<(usize, usize)>,
    password: String,
    seconds: f64,
    folder: Folder,
}

/// One server doing one work.
struct Row {
    work: String,
    who: &'static str,
    /// Which of the servers.
    server: usize,
    /// Of the load's command line.
    words: Vec<String>,
    /// The row whose CPU time is 1.
    floor: usize,
    /// Times the floor, at most.
    aim: Option<f64>,
    /// The load's reports.
    runs: Vec<Value>,
}

/// Compares; the table.
///
/// # Errors
/// What went wrong, for people.
pub fn run(arguments: &Arguments, wanted: &Compare) -> Result<String, String> {
    let output = &wanted.output;
    fs::create_dir_all(output).map_err(|error| format!("{}: {error}", output.display()))?;
    let setup = Setup {
        load: std::env::current_exe().map_err(|error| error.to_string())?,
        server: wanted.server.clone(),
        kamailio: wanted.kamailio.clone(),
        cores: wanted.cores,
        password: arguments.password.clone(),
        seconds: arguments.measured.as_secs_f64(),
        folder: Folder::new()?,
    };
    let (kinds, mut rows) = plan(&setup);
    let chosen = |row: &Row| row.work.contains(&wanted.rows);
    let is_needed = |index: usize| {
        (rows.iter().enumerate()).any(|(place, row)| {
            row.server == index
                && (chosen(row)
                    || rows
                        .iter()
                        .any(|other| chosen(other) && other.floor == place))
        })
    };
    let mut servers = Vec::new();
    for (index, kind) in kinds.iter().enumerate() {
        let port = PORT + index as u16;
        let folder = setup.folder.join(&index.to_string());
        let start = || kind.start(&setup, &folder, port);
        servers.push(is_needed(index).then(start).transpose()?);
    }
    for (kind, server) in kinds.iter().zip(&servers) {
        let Some(server) = server else { continue };
        kind.ban(server, BANNED)?;
    }
    // The filter of the kernel is rebuilt with the ban.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let path = output.join("runs.jsonl");
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut lines = fs::File::create(&path).map_err(said)?;
    for number in 0..wanted.rounds {
        for row in &mut rows {
            let Some(server) = &servers[row.server] else {
                continue;
            };
            let mut report = load(&setup, server, &row.words)?;
            if matches!(kinds[row.server], Kind::Sipkeep { filter: "auto", .. }) {
                // What the kernel's filter discards counts as lost at the socket, and was dealt with all the same.
                let each = |busy: f64, rate: f64| busy * 1e6 / rate.max(1e-9);
                let busy = report["cpu_busy"].as_f64().zip(report["rate"].as_f64());
                report["cpu_us"] = busy.map(|(busy, rate)| each(busy, rate)).into();
            }
            report["row"] = format!("{}, {}", row.work, row.who).into();
            report["run"] = number.into();
            writeln!(lines, "{report}").map_err(said)?;
            row.runs.push(report);
            eprint!(".");
        }
    }
    eprintln!();
    drop(servers);
    let mut text = format!(
        "{} runs of {} s each, {}; medians\n\n",
        wanted.rounds,
        setup.seconds,
        machine()
    );
    let lines = table::lines(&rows);
    text.push_str(&table::text(&lines));
    let svg = output.join("compare.svg");
    fs::write(&svg, svg::draw(&lines)).map_err(|error| format!("{}: {error}", svg.display()))?;
    if "memory".contains(&wanted.rows) {
        let _ = writeln!(text, "\n{}", memory::measure(&setup, wanted.rounds)?);
    }
    let path = output.join("compare.md");
    fs::write(&path, &text).map_err(|error| format!("{}: {error}", path.display()))?;
    let _ = write!(
        text,
        "\nEvery run, this table and a picture: {}",
        output.display()
    );
    Ok(text)
}

/// Servers and rows.
fn plan(setup: &Setup) -> (Vec<Kind>, Vec<Row>) {
    let sipkeep = |digest, guard, filter| Kind::Sipkeep {
        digest,
        guard,
        filter,
        users: USERS,
    };
    let mut kinds = vec![
        Kind::Echo,
        sipkeep("md5", "off", "off"),
        sipkeep("sha256", "off", "off"),
        Kind::Drop { is_late: false },
        Kind::Drop { is_late: true },
        sipkeep("md5", "enforce", "off"),
        sipkeep("md5", "enforce", "auto"),
    ];
    let has_kamailio = setup.kamailio.is_some();
    if has_kamailio {
        kinds.push(Kind::Kamailio { is_guarded: false });
        kinds.push(Kind::Kamailio { is_guarded: true });
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut add = |work: &str, who, server, words: &[&str], floor: Option<usize>, aim| {
        let place = rows.len();
        rows.push(Row {
            work: work.to_owned(),
            who,
            server,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            floor: floor.unwrap_or(place),
            aim,
            runs: Vec::new(),
        });
        place
    };
    let trunk = TRUNK.to_string();
    let floor = Some(add(
        "receive and send back",
        "bare loop",
        0,
        &["ping"],
        None,
        None,
    ));
    let calls = ["calls", "--trunk", &trunk];
    let works: [(&str, &[&str], Option<f64>); 4] = [
        ("OPTIONS answered", &["options"], Some(1.4)),
        ("REGISTER, 401", &["register-401"], Some(1.7)),
        ("REGISTER refresh, MD5", &["register"], Some(2.0)),
        ("complete call", &calls, Some(24.0)),
    ];
    for (work, words, aim) in works {
        add(work, "sipkeep", 1, words, floor, aim);
        if work.ends_with("MD5") {
            add(
                "REGISTER refresh, SHA-256",
                "sipkeep",
                2,
                words,
                floor,
                Some(2.2),
            );
        }
        if has_kamailio {
            add(work, "Kamailio", 7, words, floor, None);
        }
    }
    for rate in FLOODS {
        let work = format!("banned, {rate}/s");
        let words = ["flood", "--rate", rate];
        let floor = Some(add(&work, "bare loop", 3, &words, None, None));
        add(&work, "bare loop, late", 4, &words, floor, None);
        add(&work, "sipkeep", 5, &words, floor, Some(1.15));
        add(&work, "sipkeep, kernel", 6, &words, floor, Some(0.0));
        if has_kamailio {
            add(&work, "Kamailio", 8, &words, floor, None);
        }
    }
    (kinds, rows)
}

/// One run of the load against a server; its report.
fn load(setup: &Setup, server: &Server, words: &[String]) -> Result<Value, String> {
    let is_flood = words.first().is_some_and(|word| word == "flood");
    let bind = if is_flood { BANNED } else { PHONES };
    let users = format!("1000-{}", 999 + USERS);
    let mut command = process::on_core(&setup.load, setup.cores.map(|cores| cores.0));
    command
        .args(words.iter().take(1))
        .args([
            "--target",
            &server.target.to_string(),
            "--bind",
            &bind.to_string(),
        ])
        .args([
            "--pid",
            &server.pid().to_string(),
            "--seconds",
            &setup.seconds.to_string(),
        ])
        .args([
            "--warmup",
            "0.5",
            "--password",
            &setup.password,
            "--users",
            &users,
            "--json",
        ])
        .args(words.iter().skip(1));
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {said}", words.join(" ")));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{command:?}: {error}"))
}

/// Processor and kernel.
fn machine() -> String {
    let first = |path: &str, name: &str| -> Option<String> {
        let text = fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.rsplit(": ").next()?.trim().to_owned())
    };
    let processor =
        first("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned());
    let kernel = first("/proc/sys/kernel/osrelease", "").unwrap_or_default();
    format!("{processor}, Linux {kernel}")
}
