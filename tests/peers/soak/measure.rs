//! What a server takes, and what it has said.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;

use super::noise::is_scanner;
use crate::peers::harness::Server;

/// More memory at the end than after the warm-up, in KiB. What grows in between has bounds: the pages of the guard's fixed tables
/// that come to be used (some 5 MiB by this load), SQLite's cache of pages (2 MiB), the answers of 32 s. Most of it is there after
/// a minute. A leak of a hundred bytes for each registration of an hour would be more.
const DRIFT_KIB: u64 = 8 * 1_024;
/// Lines about strangers in a second. They are counted on another clock than they are stamped by: one more may be.
const LINES: usize = 10 + 1;

/// At one moment.
#[derive(Clone, Debug)]
pub struct Measure {
    anonymous_kib: u64,
    resident_kib: u64,
    threads: u64,
    descriptors: BTreeMap<String, usize>,
    /// `GET status`.
    status: Value,
    log_bytes: u64,
    cpu_ticks: u64,
}

/// A field of the kernel's status of the server's process.
fn of_process(server: &Server, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next());
    value.unwrap().parse().unwrap()
}

/// Its own memory, without that of files.
pub fn own_memory_kib(server: &Server) -> u64 {
    of_process(server, "RssAnon:")
}

impl Measure {
    pub fn of(server: &Server) -> Self {
        // The last question's connection may be there for a moment, and this one's is.
        std::thread::sleep(Duration::from_millis(200));
        let own = format!("/proc/{}", server.id());
        let mut descriptors = BTreeMap::new();
        for entry in fs::read_dir(format!("{own}/fd")).unwrap() {
            // One that was closed meanwhile is none.
            if let Ok(target) = fs::read_link(entry.unwrap().path()) {
                let kind = target.to_string_lossy();
                let kind = kind.split(['[', ':']).next().unwrap().to_owned();
                *descriptors.entry(kind).or_insert(0) += 1;
            }
        }
        let stat = fs::read_to_string(format!("{own}/stat")).unwrap();
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
        Self {
            anonymous_kib: own_memory_kib(server),
            resident_kib: of_process(server, "VmRSS:"),
            threads: of_process(server, "Threads:"),
            descriptors,
            status: server.get("status"),
            log_bytes: fs::metadata(server.folder.path().join("server.log"))
                .unwrap()
                .len(),
            cpu_ticks: ticks(11) + ticks(12),
        }
    }

    fn count(&self, name: &str) -> u64 {
        self.status["counts"][name].as_u64().unwrap()
    }

    /// The end, beside the start and what there was after the warm-up.
    pub fn check(&self, fresh: &Self, warm: &Self, server: &Server) {
        for name in ["calls", "transactions", "transactions_completed"] {
            assert_eq!(self.count(name), 0, "{name} are left: {}", self.status);
        }
        assert_eq!(self.threads, fresh.threads, "threads");
        assert_eq!(
            self.descriptors,
            fresh.descriptors,
            "file descriptors:\n{}",
            sockets(server)
        );
        assert_eq!(self.status["store"]["ok"], true, "{}", self.status);
        let drift = self.anonymous_kib.saturating_sub(warm.anonymous_kib);
        assert!(
            drift <= DRIFT_KIB,
            "{drift} KiB more than after the warm-up"
        );
    }
}

/// TCP sockets of this server's address as the kernel lists them, for people.
fn sockets(server: &Server) -> String {
    let address = format!("{:08X}", server.network.server().to_bits().to_be());
    let all = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let own = all.lines().filter(|line| line.contains(&address));
    own.collect::<Vec<_>>().join("\n")
}

/// All of them, side by side.
pub fn table(measures: &[(&str, &Measure)]) -> String {
    type Row = (&'static str, fn(&Measure) -> u64);
    let rows: [Row; 13] = [
        ("own memory, KiB", |m| m.anonymous_kib),
        ("resident, KiB", |m| m.resident_kib),
        ("file descriptors", |m| {
            m.descriptors.values().sum::<usize>() as u64
        }),
        ("threads", |m| m.threads),
        ("calls", |m| m.count("calls")),
        ("transactions", |m| m.count("transactions")),
        ("remembered", |m| m.count("transactions_completed")),
        ("registrations", |m| m.count("registrations")),
        ("bans", |m| m.count("bans")),
        ("log, KiB", |m| m.log_bytes / 1_024),
        ("p99, us", |m| {
            m.status["latency_us"]["p99"].as_u64().unwrap()
        }),
        ("discarded", |m| {
            m.status["guard"]["dropped"].as_u64().unwrap()
        }),
        ("CPU, ticks", |m| m.cpu_ticks),
    ];
    let mut text = format!("{:<18}", "");
    // Writing to a string cannot fail.
    for (name, _) in measures {
        let _ = write!(text, "{name:>10}");
    }
    for (name, value) in rows {
        let _ = write!(text, "\n{name:<18}");
        for (_, measure) in measures {
            let _ = write!(text, "{:>10}", value(measure));
        }
    }
    text
}

/// What the log says in sum.
pub struct Log {
    lines: usize,
    /// The most lines about strangers in a second.
    about_strangers: usize,
    strangers: usize,
    errors: Vec<String>,
}

/// The value of a field of a line.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = line.split(' ').filter_map(|field| field.split_once('='));
    fields.find(|(own, _)| *own == name).map(|(_, value)| value)
}

impl Log {
    pub fn of(server: &Server) -> Self {
        let text = server.log();
        let mut seconds: BTreeMap<&str, usize> = BTreeMap::new();
        let street = server.network.host(60)..=server.network.host(250);
        for line in text.lines() {
            let source = field(line, "source").unwrap_or_default();
            let host = source.split(':').next().unwrap_or_default();
            let is_stranger = |host: Ipv4Addr| is_scanner(host) || street.contains(&host);
            let is_by_administrator = field(line, "reason") == Some("manual")
                || field(line, "by") == Some("administrator");
            if host.parse().is_ok_and(is_stranger) && !is_by_administrator {
                let second = field(line, "time").and_then(|time| time.split('.').next());
                *seconds.entry(second.unwrap()).or_insert(0) += 1;
            }
        }
        let is_error =
            |line: &&str| field(line, "level") == Some("error") || line.contains("panicked at");
        Self {
            lines: text.lines().count(),
            about_strangers: seconds.values().copied().max().unwrap_or(0),
            strangers: seconds.values().sum(),
            errors: text.lines().filter(is_error).map(str::to_owned).collect(),
        }
    }

    /// Bounded by what there is to say, and nothing went wrong.
    pub fn check(&self) {
        assert!(self.errors.is_empty(), "{:#?}", self.errors);
        assert!(
            self.about_strangers <= LINES && self.strangers > 0,
            "{} lines about strangers in a second",
            self.about_strangers
        );
    }
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "log: {} lines, {} about strangers, {} of these in a second at most, {} errors",
            self.lines,
            self.strangers,
            self.about_strangers,
            self.errors.len()
        )
    }
}
