//! Servers beside each other: the product, Kamailio as one would tune it, and loops that only receive and send, all on one core,
//! in turns, each work right behind the loop that it is compared with, so that a slow minute of the machine falls on
//! both. Every figure is the median of the turns, a ratio that of the ratios of each turn.
//!
//! What counts are these ratios: CPU time of all processes of a server for each request, call or dropped packet. The load is
//! this program once more, as a process of its own on a core of its own.

mod flat;
mod memory;
mod progress;
mod server;
mod svg;
mod table;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use self::progress::Progress;
use self::server::Kind;
use crate::arguments::{Arguments, Compare};
use crate::cgroup::Limits;
use crate::cleanup::{self, Left};
use crate::process;
use crate::server::{Folder, Server};

/// Users that most servers know.
const USERS: u32 = 256;
/// Calls at a time: what all of them send at once fits into a receive buffer of the size that a server without privilege gets.
const CALLS_WINDOW: &str = "64";
/// Refreshes with either digest.
const REFRESH_MD5: &str = "REGISTER refresh, MD5";
const REFRESH_SHA256: &str = "REGISTER refresh, SHA-256";
/// Packets a second of the floods.
const FLOODS: [&str; 4] = ["20000", "50000", "100000", "200000"];
/// Of each run, before it is measured.
const WARMUP_S: f64 = 0.5;
/// What leaves nothing behind, a loop's work or a banned source's packet, is measured no longer than this in a turn; what is
/// remembered for a while has as long as was asked for.
const SHORT_S: f64 = 12.0;
/// What a run takes beside its time: to start the load, to register its users, to wait for the last answers.
const AROUND_S: f64 = 0.8;

/// What all parts of a comparison need to know.
pub struct Setup {
    load: PathBuf,
    server: PathBuf,
    kamailio: Option<PathBuf>,
    cores: Option<(usize, usize)>,
    password: String,
    seconds: f64,
    /// What tables hold in the rows that should not depend on it.
    sizes: Vec<u32>,
    /// What the servers have of the machine; `None`: all of a core.
    small: Option<Limits>,
    folder: Folder,
    /// The first server's address; all have this one, each a port of its own.
    first: SocketAddrV4,
}

impl Setup {
    fn near(&self, distance: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.ip().to_bits().wrapping_add(distance))
    }

    /// Where the phones and the load in general come from.
    fn phones(&self) -> Ipv4Addr {
        self.near(1)
    }

    /// Where calls come from that nobody challenges.
    fn trunk(&self) -> Ipv4Addr {
        self.near(2)
    }

    /// Where floods come from; banned.
    fn banned(&self) -> Ipv4Addr {
        self.near(3)
    }
}

/// A server that does a work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// One of those that run all the time.
    Running(usize),
    /// One of its own in each run.
    Fresh(flat::Fresh),
}

/// One server doing one work.
struct Row {
    work: String,
    who: &'static str,
    place: Place,
    /// Of the load's command line.
    words: Vec<String>,
    /// The row whose CPU time is 1; `None`: this one's.
    floor: Option<usize>,
    /// The row that the aim is about in place of the floor: the same work with the smallest table, or with MD5.
    first: Option<usize>,
    /// Times the floor, at most; with `first` times that.
    aim: Option<f64>,
    /// The load's reports.
    runs: Vec<Value>,
}

impl Row {
    /// One that is compared with nothing yet.
    fn new(work: &str, who: &'static str, place: Place, words: &[&str]) -> Self {
        Self {
            work: work.to_owned(),
            who,
            place,
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            floor: None,
            first: None,
            aim: None,
            runs: Vec::new(),
        }
    }

    /// Measured no longer than so many seconds in a turn.
    fn at_most(mut self, setup: &Setup, seconds: f64) -> Self {
        let seconds = setup.seconds.min(seconds).to_string();
        self.words.extend(["--seconds".to_owned(), seconds]);
        self
    }

    /// Seconds of a turn.
    fn seconds(&self, setup: &Setup) -> f64 {
        let place = self.words.iter().position(|word| word == "--seconds");
        let own = place.and_then(|place| self.words.get(place + 1)?.parse().ok());
        own.unwrap_or(setup.seconds)
    }

    /// Compared with the row in that place; at most so many times as much.
    fn against(self, floor: usize, aim: Option<f64>) -> Self {
        let floor = Some(floor);
        Self { floor, aim, ..self }
    }

    /// Stands behind the others; its place.
    fn add_to(self, rows: &mut Vec<Self>) -> usize {
        rows.push(self);
        rows.len() - 1
    }
}

/// What is said while it is measured.
struct Report {
    lines: Lines,
    progress: Progress,
}

impl Report {
    /// One measurement is over.
    fn add(&mut self, setup: &Setup, run: &mut Value, said: &str) -> Result<(), String> {
        run["small"] = setup.small.map(|small| small.to_string()).into();
        self.lines.add(run)?;
        self.progress.step(said);
        Ok(())
    }
}

/// Every run as a line of JSON.
struct Lines {
    path: PathBuf,
    file: fs::File,
}

impl Lines {
    /// `about`: the first line.
    fn new(output: &Path, about: &Value) -> Result<Self, String> {
        let path = output.join("runs.jsonl");
        let said = |error: std::io::Error| format!("{}: {error}", path.display());
        fs::create_dir_all(output).map_err(said)?;
        let file = fs::File::create(&path).map_err(said)?;
        let mut lines = Self { path, file };
        lines.add(about)?;
        Ok(lines)
    }

    fn add(&mut self, line: &Value) -> Result<(), String> {
        writeln!(self.file, "{line}").map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

/// Compares; the table.
///
/// # Errors
/// What went wrong, for people.
pub fn run(arguments: &Arguments, wanted: &Compare) -> Result<String, String> {
    let output = &wanted.output;
    let SocketAddr::V4(first) = arguments.target else {
        return Err("--target: over IPv4 only".to_owned());
    };
    let setup = Setup {
        load: std::env::current_exe().map_err(|error| error.to_string())?,
        server: wanted.server.clone(),
        kamailio: wanted.kamailio.clone(),
        cores: wanted.cores,
        password: arguments.password.clone(),
        seconds: arguments.measured.as_secs_f64(),
        sizes: wanted.sizes.clone(),
        small: wanted.small,
        folder: Folder::new()?,
        first,
    };
    let (kinds, mut rows) = plan(&setup);
    let chosen = chosen(&rows, &wanted.rows);
    let has_memory = "memory".contains(&wanted.rows);
    let time = estimate(&setup, &rows, &chosen, has_memory) * wanted.rounds as u32;
    let steps = chosen.len() + if has_memory { memory::steps(&setup) } else { 0 };
    if steps == 0 {
        return Err(format!("--rows: none has {:?} in its name", wanted.rows));
    }
    let mut report = Report {
        lines: Lines::new(output, &about(&setup))?,
        progress: Progress::begin(steps * wanted.rounds, time),
    };
    measure(
        &setup,
        &kinds,
        &mut rows,
        &chosen,
        wanted.rounds,
        &mut report,
    )?;
    let mut text = format!(
        "{} runs of {} s each ({} s of what leaves nothing behind: loops, floods), {}{}; medians, ratios of each turn\n\n",
        wanted.rounds,
        setup.seconds,
        setup.seconds.min(SHORT_S),
        machine(),
        (setup.small).map_or(String::new(), |small| format!(", servers with {small}")),
    );
    let measured = table::lines(&rows);
    text.push_str(&table::text(&measured));
    let mut bars = table::bars(&measured);
    if has_memory {
        let figures = memory::measure(&setup, wanted.rounds, &mut report)?;
        let _ = writeln!(text, "\n{}", memory::text(&setup, &figures));
        bars.extend(memory::bars(&setup, &figures));
    }
    let said = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let (svg, path) = (output.join("compare.svg"), output.join("compare.md"));
    fs::write(&svg, svg::draw(&bars)).map_err(|error| said(&svg, error))?;
    fs::write(&path, &text).map_err(|error| said(&path, error))?;
    let _ = write!(
        text,
        "\nEvery run, this table and a picture: {}",
        output.display()
    );
    Ok(text)
}

/// Runs all rows by turns. The servers that run all the time end with it.
fn measure(
    setup: &Setup,
    kinds: &[Kind],
    rows: &mut [Row],
    chosen: &[usize],
    rounds: usize,
    report: &mut Report,
) -> Result<(), String> {
    let servers = start(setup, kinds, rows, chosen)?;
    for number in 0..rounds {
        for &place in chosen {
            let mut run = run_row(setup, kinds, &servers, &rows[place])?;
            let row = &mut rows[place];
            run["row"] = format!("{}, {}", row.work, row.who).into();
            run["run"] = number.into();
            let said = format!("{}, {}: {} µs", row.work, row.who, run["cpu_us"]);
            report.add(setup, &mut run, &said)?;
            row.runs.push(run);
        }
    }
    Ok(())
}

/// Places of the rows that are wanted and of those that they are compared with. Rows that should not depend on what is held take
/// so long that they are measured only when they are asked for.
fn chosen(rows: &[Row], wanted: &str) -> Vec<usize> {
    let is_wanted = |row: &Row| {
        row.work.contains(wanted) && row.work.starts_with("flat") == wanted.starts_with("flat")
    };
    let mut is_chosen: Vec<bool> = rows.iter().map(is_wanted).collect();
    // What a row is compared with stands before it, and may be compared with another one itself.
    for (place, row) in rows.iter().enumerate().rev() {
        if is_chosen[place] {
            let others = [row.floor, row.first].into_iter().flatten();
            others.for_each(|other| is_chosen[other] = true);
        }
    }
    (0..rows.len()).filter(|&place| is_chosen[place]).collect()
}

/// What one round takes, more or less.
fn estimate(setup: &Setup, rows: &[Row], chosen: &[usize], has_memory: bool) -> Duration {
    let fresh = |row: &Row| match row.place {
        Place::Running(_) => 0.0,
        Place::Fresh(fresh) => flat::around_s(fresh, row),
    };
    let each = |row: &Row| row.seconds(setup) + WARMUP_S + AROUND_S + fresh(row);
    let seconds = chosen.iter().map(|&place| each(&rows[place]));
    let memory = if has_memory {
        memory::round_s(setup)
    } else {
        0.0
    };
    Duration::from_secs_f64(seconds.sum::<f64>() + memory)
}

/// Starts the servers that run all the time, as far as rows that are measured need them.
fn start(
    setup: &Setup,
    kinds: &[Kind],
    rows: &[Row],
    chosen: &[usize],
) -> Result<Vec<Option<Server>>, String> {
    let mut servers = Vec::new();
    for (index, kind) in kinds.iter().enumerate() {
        let is_needed = (chosen.iter()).any(|&place| rows[place].place == Place::Running(index));
        let folder = setup.folder.join(&index.to_string());
        let start = || kind.start(setup, &folder, index as u16);
        let server = is_needed.then(start).transpose()?;
        if let Some(server) = &server {
            kind.ban(server, setup.banned())?;
        }
        servers.push(server);
    }
    // The filter of the kernel is rebuilt with the ban.
    std::thread::sleep(Duration::from_secs(1));
    Ok(servers)
}

/// One run of a row.
fn run_row(
    setup: &Setup,
    kinds: &[Kind],
    servers: &[Option<Server>],
    row: &Row,
) -> Result<Value, String> {
    let index = match row.place {
        Place::Fresh(fresh) => return flat::run(setup, fresh, &row.words),
        Place::Running(index) => index,
    };
    let Some(server) = &servers[index] else {
        return Err(format!("{}: its server was not started", row.work));
    };
    let mut report = load(setup, kinds[index], server, &row.words)?;
    if matches!(kinds[index], Kind::Sipkeep { filter: "auto", .. }) {
        // What the kernel's filter discards counts as lost at the socket, and was dealt with all the same.
        report["server_drops"] = 0.into();
        let each = |busy: f64, rate: f64| busy * 1e6 / rate.max(1e-9);
        let busy = report["cpu_busy"].as_f64().zip(report["rate"].as_f64());
        report["cpu_us"] = busy.map(|(busy, rate)| each(busy, rate)).into();
    }
    Ok(report)
}

/// Servers that run all the time, and rows.
fn plan(setup: &Setup) -> (Vec<Kind>, Vec<Row>) {
    let mut kinds = Vec::new();
    let mut place = |kind| {
        kinds.push(kind);
        Place::Running(kinds.len() - 1)
    };
    let sipkeep = |digest, guard, filter, reads_at_once| Kind::Sipkeep {
        digest,
        guard,
        filter,
        users: USERS,
        reads_at_once,
    };
    let echo = place(Kind::Echo);
    let md5 = place(sipkeep("md5", "off", "off", false));
    let sha256 = place(sipkeep("sha256", "off", "off", false));
    // Its memory at the end is that of calls alone.
    let calls = place(sipkeep("md5", "off", "off", false));
    let has_kamailio = setup.kamailio.is_some();
    let mut kamailio = |is_guarded| has_kamailio.then(|| place(Kind::Kamailio { is_guarded }));
    let (kamailio, kamailio_calls, kamailio_guarded) =
        (kamailio(false), kamailio(false), kamailio(true));
    let mut rows: Vec<Row> = Vec::new();

    let trunk = setup.trunk().to_string();
    let call = ["calls", "--window", CALLS_WINDOW, "--trunk", &trunk];
    let refresh = ["register"];
    let works: [(&str, &[&str], _, _, f64); 5] = [
        ("OPTIONS answered", &["options"], md5, kamailio, 1.4),
        ("REGISTER, 401", &["register-401"], md5, kamailio, 1.7),
        (REFRESH_MD5, &refresh, md5, kamailio, 2.0),
        (REFRESH_SHA256, &refresh, sha256, None, 1.1),
        ("complete call", &call, calls, kamailio_calls, 24.0),
    ];
    let mut refresh_md5 = None;
    for (work, words, own, peer, aim) in works {
        let floor = Row::new(work, "bare echo", echo, &["ping"]).at_most(setup, SHORT_S);
        let floor = floor.add_to(&mut rows);
        let mut row = Row::new(work, "sipkeep", own, words).against(floor, Some(aim));
        // The other digest is what it is to be as cheap as.
        row.first = refresh_md5.filter(|_| work == REFRESH_SHA256);
        let place = row.add_to(&mut rows);
        if work == REFRESH_MD5 {
            refresh_md5 = Some(place);
        }
        if let Some(peer) = peer {
            let row = Row::new(work, "Kamailio", peer, words);
            row.against(floor, None).add_to(&mut rows);
        }
    }

    let drop = place(Kind::Drop { is_late: false });
    let drop_late = place(Kind::Drop { is_late: true });
    let late = place(sipkeep("md5", "enforce", "off", false));
    let at_once = place(sipkeep("md5", "enforce", "off", true));
    let filtered = place(sipkeep("md5", "enforce", "auto", false));
    for rate in FLOODS {
        let work = format!("banned, {rate}/s");
        let words = ["flood", "--rate", rate];
        let row = |who, place| Row::new(&work, who, place, &words).at_most(setup, SHORT_S);
        let bare = row("bare loop", drop).add_to(&mut rows);
        let own = row("sipkeep, at once", at_once).against(bare, Some(1.15));
        own.add_to(&mut rows);
        let bare_late = row("bare loop, late", drop_late).add_to(&mut rows);
        let own = row("sipkeep", late).against(bare_late, Some(1.15));
        own.add_to(&mut rows);
        let own = row("sipkeep, kernel", filtered).against(bare, Some(0.0));
        own.add_to(&mut rows);
        if let Some(peer) = kamailio_guarded {
            row("Kamailio", peer).against(bare, None).add_to(&mut rows);
        }
    }
    flat::plan(setup, &mut rows, [echo, drop]);
    (kinds, rows)
}

/// One run of the load against a server; its report.
fn load(setup: &Setup, kind: Kind, server: &Server, words: &[String]) -> Result<Value, String> {
    let is_flood = words.first().is_some_and(|word| word == "flood");
    let bind = if is_flood {
        setup.banned()
    } else {
        setup.phones()
    };
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
            &WARMUP_S.to_string(),
            "--password",
            &setup.password,
            "--users",
            &users,
            "--json",
        ])
        .args(words.iter().skip(1));
    if matches!(kind, Kind::Sipkeep { .. }) {
        command.arg("--server").arg(&setup.server);
        command.arg("--config").arg(server.configuration());
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = cleanup::start(&mut command);
    let child = child.map_err(|error| format!("{command:?}: {error}"))?;
    let left = Left::Processes(child.id());
    let output = child.wait_with_output();
    left.forget();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {said}", words.join(" ")));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{command:?}: {error}"))
}

/// What is compared, and where.
fn about(setup: &Setup) -> Value {
    let version = |program: &Path, word: &str| {
        let output = Command::new(program).arg(word).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().next().map(str::to_owned)
    };
    serde_json::json!({
        "sipkeep": version(&setup.server, "--version"),
        "kamailio": setup.kamailio.as_deref().and_then(|program| version(program, "-v")),
        "machine": machine(),
        "seconds": setup.seconds,
        "small": setup.small.map(|small| small.to_string()),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(kamailio: Option<PathBuf>) -> Setup {
        Setup {
            load: PathBuf::new(),
            server: PathBuf::new(),
            kamailio,
            cores: None,
            password: String::new(),
            seconds: 2.0,
            sizes: vec![10, 1_000],
            small: None,
            folder: Folder::new().unwrap(),
            first: SocketAddrV4::new(Ipv4Addr::new(127, 0, 7, 1), 25_071),
        }
    }

    #[test]
    fn rows_bring_what_they_are_compared_with() {
        let (_, rows) = plan(&setup(None));
        let works = |wanted| {
            let chosen = chosen(&rows, wanted).into_iter();
            let works = chosen.map(|place| (rows[place].work.as_str(), rows[place].who));
            works.collect::<Vec<_>>()
        };
        let options = |who| ("OPTIONS answered", who);
        assert_eq!(works("OPTIONS"), ["bare echo", "sipkeep"].map(options));
        // That of MD5 brings its own floor.
        let digests = [REFRESH_MD5, REFRESH_SHA256].into_iter();
        let refreshes = digests.flat_map(|work| [(work, "bare echo"), (work, "sipkeep")]);
        assert!(refreshes.eq(works("SHA")));
        let sha256 = rows.iter().rfind(|row| row.work == REFRESH_SHA256);
        let first = sha256.and_then(|row| Some(&rows[row.first?]));
        assert!(first.is_some_and(|row| (row.work.as_str(), row.who) == (REFRESH_MD5, "sipkeep")));
        let flat = works("flat: banned, 1000");
        let smallest = ("flat: banned, 10 bans", "sipkeep");
        assert_eq!(flat[..2], [("flat: banned", "bare loop"), smallest]);
        assert_eq!(flat.len(), 3);
        assert!(works("").iter().all(|(work, _)| !work.starts_with("flat")));
        assert!(
            works("flat")
                .iter()
                .all(|(work, _)| work.starts_with("flat"))
        );
        assert_eq!(works("flat").len(), 2 + 3 * 2);
        assert!(works("walk").is_empty());
        let (kinds, rows) = plan(&setup(Some("kamailio".into())));
        assert!(
            rows.iter()
                .any(|row| row.who == "Kamailio" && row.work.starts_with("flat"))
        );
        let is_there = |row: &Row| match row.place {
            Place::Running(index) => index < kinds.len(),
            Place::Fresh(_) => true,
        };
        assert!(
            rows.iter()
                .all(|row| is_there(row) && row.floor.is_none_or(|floor| floor < rows.len()))
        );
    }

    #[test]
    fn time_is_estimated() {
        let setup = setup(None);
        let (_, rows) = plan(&setup);
        let two = estimate(&setup, &rows, &[0, 1], false);
        assert_eq!(two, Duration::from_secs_f64(2.0 * (2.0 + 0.5 + 0.8)));
        assert!(estimate(&setup, &rows, &[0, 1], true) > two + Duration::from_secs(10));
        let flat = chosen(&rows, "flat: banned, 1000");
        assert!(estimate(&setup, &rows, &flat, false) > two);
    }

    #[test]
    fn what_leaves_nothing_behind_is_measured_briefly() {
        let setup = Setup {
            seconds: 60.0,
            ..setup(None)
        };
        let (_, rows) = plan(&setup);
        for row in &rows {
            let is_brief = row.who.starts_with("bare") || row.work.contains("banned");
            let remembers_transactions = row.work.contains(" before");
            let seconds = match (is_brief, remembers_transactions) {
                (true, _) => SHORT_S,
                (_, true) => 20.0,
                _ => 60.0,
            };
            assert_eq!(row.seconds(&setup), seconds, "{}, {}", row.work, row.who);
        }
    }
}
