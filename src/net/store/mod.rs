//! The state file: one SQLite database, written on a thread of its own and read by another, so that no call ever waits
//! for a disk.
//!
//! ```text
//!  loop ──keep──▶ pending (merged map, mutex) ──▶ writer thread ──▶ STATE, STATE-wal
//!       ──query─▶ queue ──▶ reader thread ──answers, wake──▶ loop
//! ```
//!
//! What is promised: a change given to [`Store::keep`] over a second, and one sync of the disk, before a power cut is
//! there after it. Whatever the disk does, nothing here blocks the caller or grows without a bound; `status` and the log
//! tell. The lock on `STATE.lock` keeps a second process out.
//!
//! Not here: what is kept and when (the endpoint's `Output::Keep`), what the rows mean (`crate::store`).

mod reader;
mod rows;
mod schema;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use log::Level;
use rusqlite::Connection;

use self::reader::Reader;
use self::schema::OpenError;
use self::writer::{SecretRequest, Writer};
use crate::api::{self, StoreStatus};
use crate::limits;
use crate::net::log::say;
use crate::store::pending::{Lost, Pending};
use crate::store::restored::{is_known, is_remembered, restored_expiry};
use crate::store::{CdrQuery, Change, Snapshot};
use crate::time::UnixTime;

/// Name of the secret that is the nonce key; never among [`Secrets`].
const NONCE_KEY: &str = "nonce_key";
/// The same, of the key of Contacts on lines.
const LINE_KEY: &str = "line_key";
/// A write that has not come back for this long is shown as an error while it lasts.
const STUCK: Duration = Duration::from_secs(5);
/// How long [`Store::keep_secret`] waits for the disk.
const SECRET_WAIT: Duration = Duration::from_secs(30);

/// The handle for the loop.
pub struct Store {
    shared: Arc<Shared>,
    reader: Arc<Reader>,
}

/// Between the loop and the writer.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// To the writer: there is something to do.
    changed: Condvar,
    /// From the writer: it has ended.
    finished: Condvar,
    /// `PRAGMA max_page_count`, to play a full disk.
    #[cfg(test)]
    pages_max: std::sync::atomic::AtomicU32,
}

/// Under the mutex only for moments: the writer takes `pending` out as a whole.
#[derive(Default)]
struct State {
    pending: Pending,
    /// When the first of `pending` came.
    first: Option<Instant>,
    /// The writer needs a wake-up for a change.
    asleep: bool,
    secrets: Vec<SecretRequest>,
    cdr_keep: Duration,
    /// To be closed, by then at the latest.
    stop: Option<Instant>,
    finished: Option<Result<(), String>>,
    // What the writer reports.
    backlog: usize,
    lost: Lost,
    error: Option<String>,
    /// `error` is only somebody else's lock.
    busy: bool,
    sync_ms: u64,
    writing_since: Option<Instant>,
}

/// A panic elsewhere does not make plain data wrong.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition
        .wait(guard)
        .unwrap_or_else(PoisonError::into_inner)
}

fn wait_for<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    time: Duration,
) -> MutexGuard<'a, T> {
    condition
        .wait_timeout(guard, time)
        .unwrap_or_else(PoisonError::into_inner)
        .0
}

fn unix_now() -> UnixTime {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    UnixTime::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Takes changes, see [`Store::keeper`].
pub struct Keeper<'a> {
    shared: &'a Shared,
    /// With the time of the first one.
    begun: Option<(MutexGuard<'a, State>, UnixTime)>,
}

impl Keeper<'_> {
    /// As [`Store::keep`].
    pub fn keep(&mut self, change: Change) {
        let begin = || (locked(&self.shared.state), unix_now());
        let (state, now) = self.begun.get_or_insert_with(begin);
        let State { pending, lost, .. } = &mut **state;
        pending.merge(change, *now, lost);
        if state.first.is_none() {
            state.first = Some(Instant::now());
            if state.asleep {
                self.shared.changed.notify_one();
            }
        }
    }
}

/// Name → value: generated passwords (`password:100`), `http_token`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<String, String>);

impl Secrets {
    /// The secret of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets a secret here; [`Store::keep_secret`] makes it last.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// (name, value), sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Store {
    /// Locks `STATE.lock`, opens or creates the file (a broken one is set aside under another name and what can be
    /// read is taken over), reads what is kept and starts the threads. Calls that were up when the last run ended
    /// become `interrupted`. `now` decides what has expired; `wake` is called on the reader's thread after each answer.
    ///
    /// # Errors
    /// A text for people: another process holds the file, it belongs to a newer version or another program, or it
    /// cannot be read or created. A file that can be read but not written (full disk) is no error here: `status` tells.
    pub fn open(
        path: &Path,
        now: UnixTime,
        cdr_keep: Duration,
        wake: impl Fn() + Send + 'static,
    ) -> Result<(Self, Snapshot, Secrets), String> {
        let path = real_path(path)?;
        let lock = lock(&path)?;
        let failed =
            |text: &dyn std::fmt::Display| format!("state file {}: {text}", path.display());

        if std::fs::metadata(&path).is_ok_and(|file| file.len() == 0) {
            // Whatever it held is gone, or somebody made it for us; a broken one is spoken of below.
            let fields = [("path", path.display().to_string())];
            say(Level::Warn, "store_empty", fields);
        }
        let mut stuck = None;
        let (connection, kept) = match schema::open(&path) {
            Ok(connection) => {
                let kept = load(&connection, now).map_err(|error| failed(&error))?;
                (Some(connection), kept)
            }
            Err(OpenError::Broken(reason)) => {
                let connection =
                    writer::replace_broken(&path, &reason, now).map_err(|text| failed(&text))?;
                let kept = load(&connection, now).map_err(|error| failed(&error))?;
                (Some(connection), kept)
            }
            Err(error @ OpenError::Foreign(_)) => return Err(failed(&error)),
            Err(OpenError::System(reason)) => {
                // Better to serve calls with what was kept than not at all, but not without the passwords.
                let kept = schema::open_stuck(&path)
                    .ok()
                    .and_then(|connection| load(&connection, now).ok())
                    .ok_or_else(|| failed(&format!("{reason}{}", schema::explain(&path))))?;
                stuck = Some(reason);
                (None, kept)
            }
        };

        let shared = Arc::new(Shared::default());
        #[cfg(test)]
        shared
            .pages_max
            .store(u32::MAX - 1, std::sync::atomic::Ordering::Relaxed);
        locked(&shared.state).cdr_keep = cdr_keep;
        let mut writer = Writer::new(Arc::clone(&shared), path.clone(), lock, connection, now);
        if let Some(reason) = stuck {
            let fields = [("path", path.display().to_string()), ("error", reason)];
            say(Level::Error, "store_read_only", fields);
        }
        writer.work(false);
        let reader = Reader::start(path.clone(), wake).map_err(|error| failed(&error))?;
        std::thread::Builder::new()
            .name("store-write".into())
            .spawn(move || writer.run())
            .map_err(|error| failed(&error))?;
        let (snapshot, secrets) = kept;
        Ok((Self { shared, reader }, snapshot, secrets))
    }

    /// Keeps a change: on the disk in about a second. Never blocks and never fails; at a bound the change is dropped,
    /// counted and logged.
    pub fn keep(&self, change: Change) {
        self.keeper().keep(change);
    }

    /// To keep several changes at once. It locks the writer out from the first of them until it is dropped.
    pub fn keeper(&self) -> Keeper<'_> {
        Keeper {
            shared: &self.shared,
            begun: None,
        }
    }

    /// Keeps a secret and waits for the disk. For the start, before the loop runs.
    ///
    /// # Errors
    /// Why it could not be written; it will not be tried again.
    pub fn keep_secret(&self, name: &str, value: &str) -> Result<(), String> {
        self.keep_secrets(&[(name, value)])
    }

    /// As [`Store::keep_secret`], any number of them (name, value) with one sync of the disk.
    ///
    /// # Errors
    /// Why none of them could be written.
    pub fn keep_secrets(&self, secrets: &[(&str, &str)]) -> Result<(), String> {
        let is_change = |name: &str| [NONCE_KEY, LINE_KEY].contains(&name);
        if let Some((name, _)) = secrets.iter().find(|(name, _)| is_change(name)) {
            return Err(format!("{name} is kept as a change"));
        }
        let (done, outcome) = std::sync::mpsc::channel();
        let secrets = secrets
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        locked(&self.shared.state)
            .secrets
            .push(SecretRequest { secrets, done });
        self.shared.changed.notify_one();
        outcome
            .recv_timeout(SECRET_WAIT)
            .unwrap_or_else(|_| Err("the disk does not answer".into()))
    }

    /// Asks for call records; `ticket` comes back with the answer in [`Store::answers`]. False: busy, nothing will come.
    pub fn query(&self, ticket: u64, query: CdrQuery) -> bool {
        self.reader.ask(ticket, query)
    }

    /// The answers since the last time: ticket, and a page or the reason why there is none.
    pub fn answers(
        &self,
    ) -> impl Iterator<Item = (u64, Result<api::Page<api::Cdr>, String>)> + use<> {
        self.reader.answers().into_iter()
    }

    /// How long call records are kept, after a change of the configuration.
    pub fn set_cdr_keep(&self, cdr_keep: Duration) {
        locked(&self.shared.state).cdr_keep = cdr_keep;
    }

    /// How it is doing. `pending` are changes that are not on the disk, without refreshes that may wait (see
    /// `writer`); `sync_ms` is the slowest of the last 16 commits.
    pub fn status(&self) -> StoreStatus {
        let state = locked(&self.shared.state);
        let stuck = state
            .writing_since
            .map(|since| since.elapsed())
            .filter(|time| *time > STUCK);
        let mut error = match (&state.error, stuck) {
            (_, Some(time)) => Some(format!(
                "the disk has not answered for {} s",
                time.as_secs()
            )),
            (error, None) => error.clone(),
        };
        let ok = error.is_none();
        if !state.lost.is_none() {
            let lost = format!("lost so far: {}", state.lost);
            error = Some(error.map_or(lost.clone(), |error| format!("{error}; {lost}")));
        }
        StoreStatus {
            ok,
            error,
            pending: state.backlog + state.pending.len(),
            sync_ms: state.sync_ms,
        }
    }

    /// Writes everything that is left and lets go of the file.
    ///
    /// # Errors
    /// What could not be written, and why; or that the disk took longer than `timeout` (it is still being tried then,
    /// until the process ends).
    pub fn close(self, timeout: Duration) -> Result<(), String> {
        let deadline = Instant::now() + timeout;
        self.stop(deadline);
        let mut state = locked(&self.shared.state);
        loop {
            if let Some(result) = state.finished.take() {
                return result;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let pending = state.backlog + state.pending.len();
                return Err(format!(
                    "the disk has not taken {pending} changes within {} s",
                    timeout.as_secs()
                ));
            }
            state = wait_for(&self.shared.finished, state, left);
        }
    }

    fn stop(&self, deadline: Instant) {
        self.reader.stop();
        locked(&self.shared.state).stop.get_or_insert(deadline);
        self.shared.changed.notify_one();
    }
}

impl Drop for Store {
    /// The threads end after one more attempt to write; nobody waits for it.
    fn drop(&mut self) {
        self.stop(Instant::now());
    }
}

/// The generated passwords and tokens of a state file, for the command line; a server may be using the file.
///
/// # Errors
/// A text for people, naming the file.
pub fn read_secrets(path: &Path) -> Result<Secrets, String> {
    let failed = |error: &dyn std::fmt::Display| format!("state file {}: {error}", path.display());
    if !path.exists() {
        return Err(failed(
            &"it does not exist; the server makes it at its first start",
        ));
    }
    let path = real_path(path)?;
    let connection = match schema::open_read_only(&path) {
        Err(OpenError::System(_)) => schema::open_stuck(&path),
        other => other,
    };
    let connection = connection.map_err(|error| failed(&error))?;
    load_secrets(&connection)
        .map(|loaded| loaded.secrets)
        .map_err(|error| failed(&error))
}

/// Without symbolic links: SQLite puts its log beside the real file, and so must the lock be.
fn real_path(path: &Path) -> Result<PathBuf, String> {
    if let Ok(real) = path.canonicalize() {
        if real.is_dir() {
            return Err(format!("state file {}: it is a folder", path.display()));
        }
        // Not a device nor a pipe: its mode would be changed, for the whole system.
        if !real.is_file() {
            return Err(format!(
                "state file {}: it is no ordinary file",
                path.display()
            ));
        }
        return Ok(real);
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let folder = folder
        .canonicalize()
        .map_err(|error| format!("state file {}: its folder: {error}", path.display()))?;
    let name = path
        .file_name()
        .ok_or_else(|| format!("state file {}: not a name", path.display()))?;
    Ok(folder.join(name))
}

/// Takes the lock, which lasts as long as the returned file. It holds our process number, for people only.
fn lock(path: &Path) -> Result<File, String> {
    let lock_path = schema::beside(path, ".lock");
    let failed =
        |error: &dyn std::fmt::Display| format!("lock file {}: {error}", lock_path.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        // On a disk that has become read-only the old file will do.
        .or_else(|error| File::open(&lock_path).map_err(|_| error))
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // Only to say more; the refusal stands without it.
            let _ = file.read_to_string(&mut owner);
            let owner = match owner.trim().parse::<u32>() {
                Ok(number) => format!("process {number}"),
                Err(_) => "another process".to_owned(),
            };
            return Err(format!(
                "state file {} is in use by {owner}, which holds {}",
                path.display(),
                lock_path.display()
            ));
        }
        Err(TryLockError::Error(error)) => return Err(failed(&error)),
    }
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    if let Err(error) = written {
        let fields = [("error", error.to_string())];
        say(Level::Debug, "store_lock_unnamed", fields);
    }
    Ok(file)
}

fn load(connection: &Connection, now: UnixTime) -> rusqlite::Result<(Snapshot, Secrets)> {
    let clean = connection.query_row(
        "SELECT count(*) FROM meta WHERE key = 'closed'",
        [],
        |row| row.get::<_, i64>(0),
    )? > 0;
    let registrations = rows::load(
        connection,
        "SELECT * FROM registrations ORDER BY user, contact, instance, reg_id",
        rows::binding,
    )?;
    let bans = rows::load(
        connection,
        &format!(
            "SELECT * FROM bans ORDER BY until DESC LIMIT {}",
            limits::BANS_MAX
        ),
        rows::ban,
    )?;
    let known = rows::load(
        connection,
        &format!(
            "SELECT * FROM known ORDER BY last_success DESC LIMIT {}",
            limits::KNOWN_SOURCES_MAX
        ),
        rows::known,
    )?;
    let features = match schema::version(connection)? >= schema::WITH_FEATURES {
        true => rows::load(
            connection,
            &format!("SELECT * FROM features LIMIT {}", limits::FEATURES_MAX),
            rows::feature,
        )
        .map(|loaded| kept("features", loaded))?,
        false => Vec::new(),
    };
    let messages = match schema::version(connection)? >= schema::WITH_MESSAGES {
        true => rows::load(
            connection,
            &format!(
                "SELECT * FROM messages ORDER BY id LIMIT {}",
                limits::LETTERS_MAX
            ),
            rows::message,
        )
        .map(|loaded| kept("messages", loaded))?,
        false => Vec::new(),
    };
    let destinations = match schema::version(connection)? >= schema::WITH_DESTINATIONS {
        true => rows::load(
            connection,
            &format!(
                "SELECT * FROM destinations ORDER BY last_called DESC LIMIT {}",
                limits::DESTINATIONS_MAX
            ),
            rows::destination,
        )
        .map(|loaded| kept("destinations", loaded))?,
        false => Vec::new(),
    };
    let bindings = kept("registrations", registrations)
        .into_iter()
        .filter_map(|stored| {
            let expires = restored_expiry(&stored, clean, now)?;
            Some(crate::store::BindingRow {
                expires,
                ..stored.row
            })
        });
    let mut bans = kept("bans", bans);
    bans.retain(|ban| is_remembered(ban, now));
    let mut known = kept("known", known);
    known.retain(|(_, last_success)| is_known(*last_success, now));
    let loaded = load_secrets(connection)?;
    let snapshot = Snapshot {
        bindings: bindings.collect(),
        bans,
        known,
        destinations,
        features,
        messages,
        nonce_key: loaded.nonce_key,
        line_key: loaded.line_key,
    };
    Ok((snapshot, loaded.secrets))
}

/// What table `secrets` holds: people's, and our own.
struct LoadedSecrets {
    secrets: Secrets,
    nonce_key: Option<([u8; 32], UnixTime)>,
    line_key: Option<[u8; 32]>,
}

fn load_secrets(connection: &Connection) -> rusqlite::Result<LoadedSecrets> {
    let loaded = rows::load(connection, "SELECT name, value FROM secrets", rows::secret)?;
    let mut secrets: BTreeMap<String, String> = kept("secrets", loaded).into_iter().collect();
    let mut own = |name| secrets.remove(name);
    Ok(LoadedSecrets {
        nonce_key: own(NONCE_KEY).and_then(|text| rows::nonce_key(&text)),
        line_key: own(LINE_KEY).and_then(|text| rows::key(&text)),
        secrets: Secrets(secrets),
    })
}

/// The rows; one log line about those that were left out.
fn kept<T>(table: &str, loaded: rows::Loaded<T>) -> Vec<T> {
    if let Some(reason) = loaded.reason {
        let fields = [
            ("table", table.to_owned()),
            ("rows", loaded.skipped.to_string()),
            ("reason", reason),
        ];
        say(Level::Warn, "store_row_skipped", fields);
    }
    loaded.rows
}
