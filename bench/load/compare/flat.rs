//! Rows that should not depend on how much a server holds: a message costs the same with ten registrations, remembered
//! transactions or bans as with a hundred thousand. Each run has a server of its own, which is filled before it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sipkeep::limits;
use sipkeep::net::store::Store;
use sipkeep::source::Source;
use sipkeep::store::{BanReason, BanRow, Change};
use sipkeep::time::UnixTime;

use super::server::Kind;
use super::{Place, Row, SHORT_S, Setup, USERS, load};
use crate::flood::FIRST_SOURCE;
use crate::server::Server;

/// What each row is at most, times the row of the smallest table.
pub const AIM: f64 = 1.2;
/// Packets a second from banned sources.
const FLOOD: &str = "50000";
/// At a time: not more than the smallest table has registrations, so that all rows have the same batches.
const WINDOW: u32 = 8;
/// Seconds for the state file to have the registrations that were just made: writing them is no part of a refresh.
const WRITTEN_S: &str = "2";
/// The port of the load, so that its Contacts are the same in each run.
const PHONES_PORT: u16 = 5_062;
/// A transaction is remembered for 64·T1: filling and measuring must be over by then.
const SECONDS_MAX: f64 = 20.0;
/// For the disk to take a part of the bans.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a server is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Registrations: the load of the row makes them before it is measured.
    Registrations,
    /// Completed transactions, whose answers are remembered.
    Transactions(u32),
    /// Bans, out of the state file.
    Bans(u32),
}

/// A server for one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fresh {
    /// Which.
    pub kind: Kind,
    /// With what.
    pub fill: Fill,
}

/// Adds the rows. `echo` and `drop` are the bare loops.
pub fn plan(setup: &Setup, rows: &mut Vec<Row>, [echo, drop]: [Place; 2]) {
    let sizes = &setup.sizes;
    let window = sizes.iter().copied().chain([WINDOW]).min().unwrap_or(1);
    let window = window.to_string();
    let users = sizes.iter().copied().chain([USERS]).max().unwrap_or(USERS);
    let sipkeep = |guard, users| Kind::Sipkeep {
        digest: "md5",
        guard,
        filter: "off",
        users,
        reads_at_once: false,
    };
    // A row for each size, behind the first of them.
    let add_all = |rows: &mut Vec<Row>, floor, row: &dyn Fn(u32) -> Row| {
        let mut first = None;
        for &size in sizes {
            let mut row = row(size).against(floor, first.map(|_| AIM));
            row.first = first;
            let own = row.add_to(rows);
            first = first.or(Some(own));
        }
    };
    let ping = ["ping", "--window", &window];
    let floor = Row::new("flat: echo", "bare echo", echo, &ping).at_most(setup, SHORT_S);
    let floor = floor.add_to(rows);
    let mut whos = vec![("sipkeep", sipkeep("off", users))];
    if setup.kamailio.is_some() {
        whos.push(("Kamailio", Kind::Kamailio { is_guarded: false }));
    }
    let bind = format!("{}:{PHONES_PORT}", setup.phones());
    for (who, kind) in whos {
        add_all(rows, floor, &|size| {
            let users = users_of(size);
            let words = [
                "register-all",
                "--window",
                &window,
                "--users",
                &users,
                "--bind",
                &bind,
                "--warmup",
                WRITTEN_S,
            ];
            let fill = Fill::Registrations;
            let place = Place::Fresh(Fresh { kind, fill });
            Row::new(&format!("flat: refresh, {size} held"), who, place, &words)
        });
    }
    let words = ["options", "--window", &window];
    add_all(rows, floor, &|size| {
        let fill = Fill::Transactions(size);
        let place = Place::Fresh(Fresh {
            kind: sipkeep("off", USERS),
            fill,
        });
        Row::new(
            &format!("flat: OPTIONS, {size} before"),
            "sipkeep",
            place,
            &words,
        )
        .at_most(setup, SECONDS_MAX)
    });
    let flood = |work: &str, who, place, size: u32| {
        let sources = size.to_string();
        let words = ["flood", "--rate", FLOOD, "--sources", &sources];
        Row::new(work, who, place, &words).at_most(setup, SHORT_S)
    };
    let smallest = sizes.first().copied().unwrap_or(1);
    let floor = flood("flat: banned", "bare loop", drop, smallest).add_to(rows);
    add_all(rows, floor, &|size| {
        let fill = Fill::Bans(size);
        let place = Place::Fresh(Fresh {
            kind: sipkeep("enforce", USERS),
            fill,
        });
        let work = format!("flat: banned, {size} bans");
        flood(&work, "sipkeep", place, size)
    });
}

/// Starts the server of a row, fills it, and gives it its load.
///
/// # Errors
/// What went wrong, for people.
pub fn run(setup: &Setup, fresh: Fresh, words: &[String]) -> Result<Value, String> {
    let folder = setup.folder.join("flat");
    // Of the run before.
    let _ = std::fs::remove_dir_all(&folder);
    if let Fill::Bans(count) = fresh.fill {
        let said = |error: std::io::Error| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(&folder).map_err(said)?;
        keep_bans(&folder.join("sipkeep.db"), count)?;
    }
    let server = fresh.kind.start(setup, &folder, 40)?;
    if let Fill::Transactions(count) = fresh.fill {
        remember(setup, &server, count)?;
    }
    let report = load(setup, fresh.kind, &server, words)?;
    server.stop()?;
    Ok(report)
}

/// Seconds that a run of it takes longer than one with a server that runs already, more or less.
pub fn around_s(fresh: Fresh, row: &Row) -> f64 {
    let count = match fresh.fill {
        Fill::Transactions(count) => f64::from(count) / 20_000.0,
        Fill::Bans(count) => f64::from(count) / 50_000.0,
        // The users of the load.
        Fill::Registrations => {
            let users = row
                .words
                .iter()
                .filter_map(|word| word.strip_prefix("1000-"));
            let last = users.filter_map(|last| last.parse::<f64>().ok());
            last.sum::<f64>() / 10_000.0
        }
    };
    1.0 + count
}

/// So many from the first on.
fn users_of(count: u32) -> String {
    format!("1000-{}", 999 + count)
}

/// Has a server answer so many requests of registered phones. What it takes to register them counts.
fn remember(setup: &Setup, server: &Server, count: u32) -> Result<(), String> {
    let (users, refreshes) = refreshes(count);
    let words = [
        "register",
        "--count",
        &refreshes.to_string(),
        "--users",
        &users_of(users),
        "--window",
        "64",
        "--warmup",
        "0",
        "--seconds",
        "25",
    ];
    let kind = Kind::Echo;
    let report = load(setup, kind, server, &words.map(str::to_owned))?;
    match (report["failed"].as_u64(), report["lost"].as_u64()) {
        (Some(0), Some(0)) => Ok(()),
        _ => Err(format!(
            "not all of {count} transactions came to be: {report}"
        )),
    }
}

/// Users, and how often they refresh beside the two requests of each by which they register.
fn refreshes(transactions: u32) -> (u32, u32) {
    let users = (transactions / 10).clamp(1, USERS);
    (users, transactions.saturating_sub(2 * users).max(1))
}

/// Writes a state file with so many bans of addresses from that of the flood on.
fn keep_bans(path: &Path, count: u32) -> Result<(), String> {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = UnixTime::from_millis(since.map_or(0, |since| since.as_millis() as u64));
    let (store, _, _) = Store::open(path, now, Duration::from_secs(86_400), || {})?;
    let begun = Instant::now();
    for number in 0..count {
        store.keep(Change::Ban(Box::new(ban(number, now))));
        // More at once than it has room for would be dropped.
        while (number as usize).is_multiple_of(limits::STORE_BANS_MAX / 2)
            && store.status().pending > 1
        {
            if begun.elapsed() > PATIENCE {
                return Err(format!("{}: {:?}", path.display(), store.status().error));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    store.close(PATIENCE)
}

fn ban(number: u32, now: UnixTime) -> BanRow {
    let address = Ipv4Addr::from_bits(FIRST_SOURCE.to_bits() + number);
    BanRow {
        source: Source::of(IpAddr::from(address)),
        reason: BanReason::Manual,
        failures: 0,
        users: Vec::new(),
        first_seen: now,
        last_seen: now,
        since: now,
        until: now.plus(Duration::from_secs(4 * 3_600)),
        step: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Folder;

    #[test]
    fn fills_are_of_the_size_wanted() {
        for count in [10, 1_000, 100_000] {
            let (users, refreshes) = refreshes(count);
            assert_eq!((2 * users + refreshes, users <= USERS), (count, true));
        }
        assert_eq!(refreshes(1), (1, 1));
        assert_eq!(users_of(10), "1000-1009");
    }

    #[test]
    fn bans_are_there_when_the_file_is_opened_again() {
        let folder = Folder::new().unwrap();
        let path = folder.join("sipkeep.db");
        keep_bans(&path, 50).unwrap();
        let now = ban(0, UnixTime::from_millis(0)).since;
        let (store, kept, _) = Store::open(&path, now, Duration::from_secs(60), || {}).unwrap();
        assert_eq!(kept.bans.len(), 50);
        let first = Source::of(IpAddr::from(FIRST_SOURCE));
        assert!(kept.bans.iter().any(|row| row.source == first));
        drop(store);
    }
}
