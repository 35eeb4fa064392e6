//! The state file as a file: its tables, opening it safely, setting a broken one aside and rescuing what can still be
//! read from it.
//!
//! The tables are for people with `sqlite3` too: times are RFC 3339 text, addresses are text, bytes of strangers are
//! text where they are text (else a blob). Values of `PRAGMA user_version`: 1 is this layout without `destinations`, 2 has
//! these but no `reason` in `call_records`, 3 has that but no `features`, 4 these but no `messages`, 5 has no `behind_nat` in
//! `registrations`, 6 no `sharer` in `messages`, 7 is this layout. What an older file lacks is added when it is opened for writing. A higher one belongs
//! to a newer sipkeep and is refused, since guessing at it could destroy what it holds.
//!
//! Not here: what a row means (`rows`), when something is written (`writer`).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, params_from_iter, types::Value};

use crate::api::Rfc3339;
use crate::time::UnixTime;

/// `PRAGMA user_version` of the layout below.
const VERSION: i64 = 7;
/// The first one with table `destinations`.
pub(super) const WITH_DESTINATIONS: i64 = 2;
/// The first one with table `features`.
pub(super) const WITH_FEATURES: i64 = 4;
/// The first one with table `messages`.
pub(super) const WITH_MESSAGES: i64 = 5;
/// `PRAGMA application_id`: "sipk". Tells our file from another program's database.
const APPLICATION_ID: i64 = 0x7369_706b;
/// How long a statement waits for somebody else's lock, e.g. a person's `sqlite3` that is writing.
const BUSY_WAIT: Duration = Duration::from_secs(1);
/// A database has a page at least.
const DATABASE_BYTES_MIN: u64 = 512;
/// How long rows are copied from a broken file.
const RESCUE_TIME: Duration = Duration::from_secs(20);

const TABLES: &str = "
CREATE TABLE meta (
  key TEXT PRIMARY KEY NOT NULL,
  value TEXT NOT NULL
);
CREATE TABLE registrations (
  user TEXT NOT NULL,
  contact TEXT NOT NULL,
  source TEXT NOT NULL,          -- the phone's address and port
  local TEXT NOT NULL,           -- our own address and port that it spoke to
  transport TEXT NOT NULL,
  user_agent TEXT NOT NULL,
  since TEXT NOT NULL,
  expires TEXT NOT NULL,         -- refreshes that change nothing else are written with a delay
  granted_s INTEGER NOT NULL,    -- seconds that the last written refresh was granted
  path TEXT NOT NULL,
  call_id TEXT NOT NULL,
  cseq INTEGER NOT NULL,
  q INTEGER NOT NULL,            -- thousandths
  instance TEXT NOT NULL,
  reg_id INTEGER NOT NULL,
  PRIMARY KEY (user, contact, instance, reg_id)
);
CREATE TABLE bans (
  source TEXT PRIMARY KEY NOT NULL,
  reason TEXT NOT NULL,
  failures INTEGER NOT NULL,
  users TEXT NOT NULL,           -- JSON list of the names it tried
  first_seen TEXT NOT NULL,
  last_seen TEXT NOT NULL,
  since TEXT NOT NULL,
  until TEXT NOT NULL,
  step INTEGER NOT NULL          -- the next ban lasts 2^step times the first
);
CREATE TABLE known (
  source TEXT PRIMARY KEY NOT NULL,
  last_success TEXT NOT NULL
);
CREATE TABLE call_records (
  id TEXT PRIMARY KEY NOT NULL,
  start TEXT NOT NULL,
  answer TEXT,
  \"end\" TEXT,
  direction TEXT NOT NULL,
  caller TEXT NOT NULL,
  dialled TEXT NOT NULL,
  answered_by TEXT,
  through TEXT,
  forwarded_by TEXT,
  transferred_by TEXT,
  related TEXT,
  source TEXT NOT NULL,
  user_agent TEXT,
  disposition TEXT NOT NULL,     -- empty while the call is up; interrupted, without an end, if the power went then
  status INTEGER,
  ended_by TEXT,
  duration_ms INTEGER,
  talk_ms INTEGER,
  caller_call_id TEXT NOT NULL,
  callee_call_id TEXT
);
CREATE INDEX call_records_by_start ON call_records (start, id);
CREATE INDEX call_records_up ON call_records (id) WHERE disposition = '';
CREATE TABLE secrets (
  name TEXT PRIMARY KEY NOT NULL,
  value TEXT NOT NULL
);
";

/// What version 2 has more than version 1.
const DESTINATIONS: &str = "
CREATE TABLE destinations (      -- outside numbers that users have called, for the brake on toll fraud
  user TEXT NOT NULL,
  number TEXT NOT NULL,          -- as a trunk is told it
  first_called TEXT NOT NULL,
  last_called TEXT NOT NULL,     -- written once a day
  PRIMARY KEY (user, number)
);
";

/// What version 3 has more than version 2.
const REASON: &str = "ALTER TABLE call_records ADD COLUMN reason TEXT";

/// What version 4 has more than version 3.
const FEATURES: &str = "
CREATE TABLE features (          -- what users have dialled for their calls; NULL: nothing, config.ini holds
  user TEXT PRIMARY KEY NOT NULL,
  forward_always TEXT,           -- the number; empty: to none
  do_not_disturb INTEGER
);
";

/// What version 5 has more than version 4.
const MESSAGES: &str = "
CREATE TABLE messages (          -- text messages that wait for users who were not there
  id INTEGER PRIMARY KEY NOT NULL,
  user TEXT NOT NULL,            -- for whom
  received TEXT NOT NULL,
  expires TEXT NOT NULL,
  sender TEXT NOT NULL,          -- a user's name or a number
  request TEXT NOT NULL,         -- Call-ID, CSeq number and From tag of his request
  from_display TEXT NOT NULL,    -- From as the user is shown it
  from_user TEXT NOT NULL,
  from_host TEXT,                -- NULL: our address
  from_tel INTEGER NOT NULL,
  dialled TEXT NOT NULL,
  max_forwards INTEGER NOT NULL,
  headers TEXT NOT NULL,
  body TEXT NOT NULL
);
";

/// What version 6 has more than version 5: 1 for a phone behind a NAT.
const BEHIND_NAT: &str = "ALTER TABLE registrations ADD COLUMN behind_nat INTEGER";

/// What version 7 has more than version 6: the user, trunk or line of whose share it is.
const SHARER: &str = "ALTER TABLE messages ADD COLUMN sharer TEXT";

/// Tables and their columns, for rescuing rows; the dearest first.
const COLUMNS: [(&str, &str); 9] = [
    ("secrets", "name, value"),
    ("meta", "key, value"),
    (
        "bans",
        "source, reason, failures, users, first_seen, last_seen, since, until, step",
    ),
    ("known", "source, last_success"),
    ("features", "user, forward_always, do_not_disturb"),
    (
        "messages",
        "id, user, received, expires, sender, request, from_display, from_user, from_host, from_tel, dialled, \
         max_forwards, headers, body, sharer",
    ),
    ("destinations", "user, number, first_called, last_called"),
    (
        "registrations",
        "user, contact, source, local, transport, user_agent, since, expires, granted_s, path, call_id, cseq, q, \
         instance, reg_id, behind_nat",
    ),
    ("call_records", super::rows::RECORD_COLUMNS),
];

/// Why the file could not be opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// It is no database, or a damaged one: to be set aside.
    Broken(String),
    /// It is sound and must not be touched: a newer version's or another program's.
    Foreign(String),
    /// The system refuses: full or read-only disk, permission, somebody's lock. May pass.
    System(String),
}

impl OpenError {
    fn of(error: &rusqlite::Error) -> Self {
        if is_broken(error) {
            Self::Broken(error.to_string())
        } else {
            Self::System(error.to_string())
        }
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Broken(text) | Self::Foreign(text) | Self::System(text)) = self;
        f.write_str(text)
    }
}

/// Whether the error says that the file itself is damaged, so that trying again cannot help.
pub(super) fn is_broken(error: &rusqlite::Error) -> bool {
    let code = match error {
        // It says where in a statement of ours the mistake is, and has its code for itself.
        rusqlite::Error::SqlInputError { error, .. } => Some(error.code),
        other => other.sqlite_error_code(),
    };
    match code {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => true,
        // "no such table", "no such column": somebody changed the layout under us.
        Some(ErrorCode::Unknown) => error.to_string().contains("no such"),
        _ => false,
    }
}

/// What shows without opening the file, which must not be done: SQLite takes a few bytes for no database and begins a new one
/// over them, and deletes the log of an empty one, which may hold everything.
pub(super) fn cut_off(path: &Path) -> Option<String> {
    let bytes = |suffix: &str| {
        fs::metadata(beside(path, suffix))
            .ok()
            .map(|file| file.len())
    };
    match bytes("")? {
        0 if bytes("-wal").is_some_and(|log| log > 0) => {
            Some("it is empty, but its log is not".into())
        }
        // With a journal it was being made, and SQLite takes back what there is of it.
        own @ 1..DATABASE_BYTES_MIN if bytes("-journal").is_none() => {
            Some(format!("it ends after {own} bytes"))
        }
        _ => None,
    }
}

/// `path` with `suffix` behind its last component: `sipkeep.db` + `-wal`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Opens the file for reading and writing, creates it if it is not there or empty, and checks all that the start
/// needs. Call records are not walked through, as that could take minutes on a slow card: damage there shows when
/// they are used.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    make_private(path).map_err(|error| OpenError::System(error.to_string()))?;
    cut_off(path).map_or(Ok(()), |reason| Err(OpenError::Broken(reason)))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection =
        Connection::open_with_flags(path, flags).map_err(|error| OpenError::of(&error))?;
    prepare(&mut connection)?;
    Ok(connection)
}

/// Opens the file for reading only, beside a server that may be running.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, OpenError> {
    cut_off(path).map_or(Ok(()), |reason| Err(OpenError::Broken(reason)))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).map_err(|error| OpenError::of(&error))?;
    connection
        .busy_timeout(BUSY_WAIT)
        .map_err(|error| OpenError::of(&error))?;
    check_version(&connection)?;
    Ok(connection)
}

/// Opens the file so that it can be read although nothing can be written beside it (full or read-only disk): first
/// without the shared-memory file, then without the log file either if that is empty.
pub(super) fn open_stuck(path: &Path) -> Result<Connection, OpenError> {
    let exclusive = || {
        let connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        Ok(connection)
    };
    let connection = exclusive().map_err(|error: rusqlite::Error| OpenError::of(&error))?;
    match check_version(&connection) {
        Ok(_) => return Ok(connection),
        Err(error) => {
            let log_bytes = fs::metadata(beside(path, "-wal")).map_or(0, |metadata| metadata.len());
            if log_bytes > 0 {
                return Err(error);
            }
        }
    }
    drop(connection);

    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                uri.push(char::from(*byte))
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection =
        Connection::open_with_flags(uri, flags).map_err(|error| OpenError::of(&error))?;
    check_version(&connection)?;
    Ok(connection)
}

/// What the system says about writing beside the file, for people: SQLite may say only "disk I/O error" when the disk
/// is full. Empty if nothing is wrong there.
pub(super) fn explain(path: &Path) -> String {
    let probe = beside(path, ".probe");
    let tried = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&probe)
        .and_then(|mut file| file.write_all(&[0; 4_096]).and_then(|()| file.sync_data()));
    match fs::remove_file(&probe).and(tried) {
        Ok(()) => String::new(),
        Err(error) => format!(": {error}"),
    }
}

/// Makes the file if it is not there, readable by its owner only from its first moment; tightens an older one. SQLite
/// gives `-wal` and `-shm` the mode of the file itself.
pub(super) fn make_private(path: &Path) -> io::Result<()> {
    // Nothing of this may run while SQLite has the file open: closing any descriptor of it drops SQLite's locks.
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    for suffix in ["", "-wal", "-shm"] {
        let path = beside(path, suffix);
        let Ok(metadata) = fs::metadata(&path) else {
            continue;
        };
        if metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}

fn prepare(connection: &mut Connection) -> Result<(), OpenError> {
    let system = |error: rusqlite::Error| OpenError::of(&error);
    connection.busy_timeout(BUSY_WAIT).map_err(system)?;
    let version = check_version(connection)?;
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA journal_size_limit = 4194304;
             PRAGMA temp_store = MEMORY;",
        )
        .map_err(system)?;
    let mode: String = connection
        .pragma_query_value(None, "journal_mode", |row| row.get(0))
        .map_err(system)?;
    if mode != "wal" {
        return Err(OpenError::System(format!(
            "its disk allows no write-ahead log (journal mode {mode})"
        )));
    }

    if version < VERSION {
        let transaction = connection.transaction().map_err(system)?;
        let steps = [
            TABLES,
            DESTINATIONS,
            REASON,
            FEATURES,
            MESSAGES,
            BEHIND_NAT,
            SHARER,
        ];
        let steps = steps.into_iter().zip(0..);
        let mut missing = steps.filter(|(_, since)| *since >= version);
        missing
            .try_for_each(|(step, _)| transaction.execute_batch(step))
            .and_then(|()| transaction.pragma_update(None, "application_id", APPLICATION_ID))
            .and_then(|()| transaction.pragma_update(None, "user_version", VERSION))
            .map_err(system)?;
        transaction.commit().map_err(system)?;
    }
    for (table, columns) in COLUMNS {
        connection
            .prepare(&format!("SELECT {columns} FROM {table}"))
            .map_err(system)?;
        if table == "call_records" {
            continue;
        }
        let verdict: String = connection
            .query_row(&format!("PRAGMA quick_check({table})"), [], |row| {
                row.get(0)
            })
            .map_err(system)?;
        if verdict != "ok" {
            return Err(OpenError::Broken(format!(
                "table {table} is damaged: {verdict}"
            )));
        }
    }
    Ok(())
}

/// Which layout the file has: one that is only read is left as it is.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// The columns of a call record that the file can be asked for: one before version 3 says nothing of reasons.
pub(super) fn record_columns(connection: &Connection) -> String {
    let all = super::rows::RECORD_COLUMNS;
    let has_reason = connection.prepare("SELECT reason FROM call_records");
    match has_reason {
        Ok(_) => all.to_owned(),
        Err(_) => all.replace(", reason", ", NULL AS reason"),
    }
}

/// 0 for an empty database, else what it says, at most [`VERSION`].
fn check_version(connection: &Connection) -> Result<i64, OpenError> {
    let number = |pragma: &str| {
        connection
            .pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .map_err(|error| OpenError::of(&error))
    };
    let (version, application) = (number("user_version")?, number("application_id")?);
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| OpenError::of(&error))?;
    if (version, application, tables) == (0, 0, 0) {
        return Ok(0);
    }
    if application != APPLICATION_ID {
        return Err(OpenError::Foreign(
            "it is the database of another program".into(),
        ));
    }
    match version {
        1..=VERSION => Ok(version),
        newer if newer > VERSION => Err(OpenError::Foreign(format!(
            "it was written by a newer sipkeep (format {newer}; this one knows {VERSION})"
        ))),
        other => Err(OpenError::Broken(format!("its format is {other}"))),
    }
}

/// Renames the file, its log and its shared memory to `….broken-20260301T120000Z`, so that nothing of it is lost.
/// Returns the new name. Nobody may have it open.
pub(super) fn set_aside(path: &Path, now: UnixTime) -> io::Result<PathBuf> {
    let time: String = Rfc3339(now)
        .to_string()
        .chars()
        .filter(|c| !"-:".contains(*c))
        .collect();
    let time = time.split('.').next().unwrap_or_default();
    let name = |serial: u32| match serial {
        0 => beside(path, &format!(".broken-{time}Z")),
        _ => beside(path, &format!(".broken-{time}Z-{serial}")),
    };
    let target = (0..1_000)
        .map(name)
        .find(|target| fs::symlink_metadata(target).is_err())
        .ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(path, &target)?;
    for suffix in ["-wal", "-shm"] {
        match fs::rename(beside(path, suffix), beside(&target, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(target)
}

/// What [`rescue`] brought over.
pub(super) struct Rescued {
    pub rows: usize,
    /// Time ran out; older call records are in the broken file only.
    pub cut_short: bool,
}

/// Copies every row that can still be read from a broken file. From both ends of each table, since reading stops at
/// the damage; the newest first and for [`RESCUE_TIME`] at most, since the start waits for it.
pub(super) fn rescue(broken: &Path, connection: &mut Connection) -> rusqlite::Result<Rescued> {
    let mut rescued = Rescued {
        rows: 0,
        cut_short: false,
    };
    if cut_off(broken).is_some() {
        return Ok(rescued);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(old) = Connection::open_with_flags(broken, flags) else {
        return Ok(rescued);
    };
    let begun = Instant::now();
    let transaction = connection.transaction()?;
    for (table, columns) in COLUMNS {
        let marks = vec!["?"; columns.split(',').count()].join(", ");
        let insert = format!("INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})");
        let mut insert = transaction.prepare(&insert)?;
        let columns = match table {
            "call_records" => record_columns(&old),
            "registrations" if old.prepare("SELECT behind_nat FROM registrations").is_err() => {
                columns.replace(", behind_nat", ", NULL")
            }
            "messages" if old.prepare("SELECT sharer FROM messages").is_err() => {
                columns.replace(", sharer", ", NULL")
            }
            _ => columns.to_owned(),
        };
        for order in ["DESC", "ASC"] {
            let select =
                format!("SELECT {columns} FROM {table} NOT INDEXED ORDER BY rowid {order}");
            let Ok(mut select) = old.prepare(&select) else {
                continue;
            };
            let count = select.column_count();
            let Ok(mut rows) = select.query([]) else {
                continue;
            };
            while let Ok(Some(row)) = rows.next() {
                if begun.elapsed() > RESCUE_TIME {
                    rescued.cut_short = true;
                    break;
                }
                let values: Result<Vec<Value>, _> = (0..count).map(|at| row.get(at)).collect();
                let Ok(values) = values else { continue };
                rescued.rows += insert.execute(params_from_iter(values))?;
            }
        }
    }
    transaction.commit()?;
    Ok(rescued)
}
