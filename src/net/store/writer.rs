//! The thread that writes the state file.
//!
//! When is written what, and what waits for others, is said in `store::batches`, and what counts at the next start in
//! `store::restored`. Every commit waits for the disk (`synchronous=FULL`). A clean stop, which `meta` has as `closed`, writes
//! the exact times of refreshes that waited, and those of bindings that were restored with more than their row says and not
//! refreshed since (see [`keep_restored`]).
//!
//! Failures. What could not be written stays in the merged backlog. A damaged file is set aside and a new one begun with the
//! rows that can be rescued; bindings that are missing in it come back with their next refresh, as a refresh of a row that is
//! not there is no mere refresh. A file that was deleted under us is written anew from the one that is still open.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use log::Level;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};

use super::rows;
use super::schema::{self, OpenError};
use super::{Shared, State, locked, unix_now};
use crate::api::Rfc3339;
use crate::limits;
use crate::net::log::say;
use crate::store::batches::Batches;
use crate::store::pending::Lost;
use crate::store::restored::{KNOWN, STEP_DAYS, expiry_at_clean_stop};
use crate::time::UnixTime;

/// From the start to the first removal of what is out of date: a board without a clock of its own may begin with a wild
/// time and learn the right one from the network, and what was removed by the wrong time would be gone.
const UPKEEP_FIRST: Duration = Duration::from_secs(600);
/// Between two removals, and between two batches while there is more to remove.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(3_600);
const UPKEEP_MORE: Duration = Duration::from_secs(5);
/// Call records removed in one transaction: some tens of milliseconds on a slow card.
const UPKEEP_RECORDS: u32 = 500;
/// A disk that damages every file it is given must not be filled with damaged files.
const SET_ASIDE_INTERVAL: Duration = Duration::from_secs(600);
/// A write that takes longer is logged.
const SLOW: Duration = Duration::from_secs(2);
/// Commits whose slowest is `sync_ms`.
const SYNCS_SHOWN: usize = 16;

/// A secret to be written now: (name, value)s, and where to say how it went.
pub(super) struct SecretRequest {
    pub secrets: Vec<(String, String)>,
    pub done: std::sync::mpsc::Sender<Result<(), String>>,
}

/// The thread's own state.
pub(super) struct Writer {
    shared: Arc<Shared>,
    path: PathBuf,
    /// Held as long as anything may be written.
    _lock: File,
    connection: Option<Connection>,
    /// Device and inode of the file that is open.
    identity: Option<(u64, u64)>,
    batches: Batches<Instant>,
    secrets: Vec<SecretRequest>,
    /// The marks of this start are not on the disk yet.
    starting: bool,
    /// When it was, by the time that bindings were restored at.
    started: UnixTime,
    /// When this run has restored bindings with more than their rows say, as the stop before it was not clean.
    restored: Option<UnixTime>,
    upkeep_at: Instant,
    broken: bool,
    set_aside_at: Option<Instant>,
    syncs_ms: VecDeque<u64>,
    was_slow: bool,
    lost_logged: Lost,
}

/// Why an attempt failed.
struct Refusal {
    /// For people.
    text: String,
    /// It is only somebody else's lock.
    busy: bool,
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self { text, busy: false }
    }
}

/// What one attempt writes.
struct Batch {
    held: bool,
    upkeep: bool,
    closing: bool,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        path: PathBuf,
        lock: File,
        connection: Option<Connection>,
        started: UnixTime,
    ) -> Self {
        let identity = connection.as_ref().and_then(|_| identity(&path));
        Self {
            shared,
            path,
            _lock: lock,
            connection,
            identity,
            batches: Batches::default(),
            secrets: Vec::new(),
            starting: true,
            started,
            restored: None,
            upkeep_at: Instant::now() + UPKEEP_FIRST,
            broken: false,
            set_aside_at: None,
            syncs_ms: VecDeque::new(),
            was_slow: false,
            lost_logged: Lost::default(),
        }
    }

    /// Until [`Shared::stop`]; then writes what is left.
    pub(super) fn run(mut self) {
        loop {
            let deadline = self.wait_until_due();
            self.work(deadline.is_some());
            let Some(deadline) = deadline else { continue };
            // Somebody else's lock passes; a full disk does not within the seconds that a stop may take.
            while self.batches.is_failing()
                && locked(&self.shared.state).busy
                && Instant::now() < deadline
            {
                self.work(true);
            }
            break;
        }
        let shared = Arc::clone(&self.shared);
        let left = self.batches.left();
        drop(self);
        let mut state = locked(&shared.state);
        let error = state.error.take().unwrap_or_default();
        state.finished = Some(match left {
            0 if error.is_empty() => Ok(()),
            _ => Err(format!("{left} changes could not be written: {error}")),
        });
        shared.finished.notify_all();
    }

    /// Sleeps until there is something to do. Some: the store is being closed, by then at the latest.
    fn wait_until_due(&self) -> Option<Instant> {
        let mut state = locked(&self.shared.state);
        loop {
            if let Some(deadline) = state.stop {
                return Some(deadline);
            }
            let due = self.due(&state);
            let left = due
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())?;
            // While changes are being gathered, further ones need not wake us.
            state.asleep = state.first.is_none();
            state = super::wait_for(&self.shared.changed, state, left);
            state.asleep = false;
        }
    }

    fn due(&self, state: &MutexGuard<'_, State>) -> Instant {
        let now = Instant::now();
        if !state.secrets.is_empty() {
            return now;
        }
        match self.batches.due(state.first) {
            Some(due) if self.batches.is_failing() => due,
            due => due.map_or(self.upkeep_at, |due| due.min(self.upkeep_at)),
        }
    }

    /// Takes what is pending and tries to write it. Every error ends in `status`, the log and a later attempt.
    pub(super) fn work(&mut self, closing: bool) {
        let now = Instant::now();
        let (pending, cdr_keep) = {
            let mut state = locked(&self.shared.state);
            state.first = None;
            self.secrets.append(&mut state.secrets);
            state.backlog = self.batches.backlog().len() + state.pending.len();
            state.writing_since = Some(now);
            (std::mem::take(&mut state.pending), state.cdr_keep)
        };
        let mut lost = Lost::default();
        self.batches.begin(now, pending, &mut lost);

        let result = self.attempt(closing, cdr_keep);
        let answer = result
            .as_ref()
            .map_err(|refusal| refusal.text.clone())
            .copied();
        for request in self.secrets.drain(..) {
            // Nobody waits any more: the request has timed out.
            let _ = request.done.send(answer.clone());
        }
        if now.elapsed() > SLOW {
            if !self.was_slow {
                let seconds = format!("{:.1}", now.elapsed().as_secs_f32());
                say(Level::Warn, "store_slow", [("seconds", seconds)]);
            }
            self.was_slow = true;
        } else {
            self.was_slow = false;
        }
        self.report(result, lost);
    }

    /// Tells `status` and the log how it went; never logs under the mutex, as a log may be slow.
    fn report(&mut self, result: Result<(), Refusal>, lost: Lost) {
        let (text, busy) = match result {
            Ok(()) => (None, false),
            Err(refusal) => (Some(refusal.text), refusal.busy),
        };
        let mut state = locked(&self.shared.state);
        state.lost.add(lost);
        let lost = state.lost;
        state.writing_since = None;
        state.backlog = self.batches.backlog().len();
        state.sync_ms = self.syncs_ms.iter().copied().max().unwrap_or(0);
        state.busy = busy;
        let pending = state.backlog + state.pending.len();
        let before = std::mem::replace(&mut state.error, text.clone());
        drop(state);

        let path = || self.path.display().to_string();
        if let Some(text) = text {
            // Once for each kind of failure, not for each attempt.
            if before.as_ref() != Some(&text) {
                let pending = pending.to_string();
                let fields = [("path", path()), ("error", text), ("pending", pending)];
                say(Level::Error, "store_failed", fields);
            }
            self.batches.failed(Instant::now());
        } else if self.batches.succeeded() {
            say(Level::Warn, "store_recovered", [("path", path())]);
        }
        if lost != self.lost_logged {
            say(Level::Error, "store_lost", [("lost", lost.to_string())]);
            self.lost_logged = lost;
        }
    }

    fn attempt(&mut self, closing: bool, cdr_keep: Duration) -> Result<(), Refusal> {
        self.follow_file()?;
        if self.connection.is_none() {
            self.reopen()?;
        }
        self.write(closing, cdr_keep).map_err(|error| {
            let code = error.sqlite_error_code();
            self.broken |= schema::is_broken(&error);
            let busy = matches!(
                code,
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
            );
            if !busy && code != Some(ErrorCode::DiskFull) {
                self.connection = None;
            }
            let unclear = matches!(
                code,
                Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen)
            );
            let reason = if unclear {
                schema::explain(&self.path)
            } else {
                String::new()
            };
            Refusal {
                text: format!("{error}{reason}"),
                busy,
            }
        })
    }

    fn write(&mut self, closing: bool, cdr_keep: Duration) -> rusqlite::Result<()> {
        let Some(mut connection) = self.connection.take() else {
            return Ok(());
        };
        let result = self.write_to(&mut connection, closing, cdr_keep);
        self.connection = Some(connection);
        result
    }

    fn write_to(
        &mut self,
        connection: &mut Connection,
        closing: bool,
        cdr_keep: Duration,
    ) -> rusqlite::Result<()> {
        let now = Instant::now();
        #[cfg(test)]
        {
            let pages = self
                .shared
                .pages_max
                .load(std::sync::atomic::Ordering::Relaxed);
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        }
        if !closing {
            (self.batches).hold_back(Instant::now, |key| rows::find_binding(connection, key))?;
        }
        let batch = Batch {
            held: closing || self.batches.is_held_due(now),
            upkeep: now >= self.upkeep_at,
            closing,
        };
        let idle = self.batches.backlog().is_empty() && self.secrets.is_empty();
        if idle && !batch.held && !batch.upkeep && !closing && !self.starting {
            return Ok(());
        }

        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let more = self.fill(&transaction, &batch, cdr_keep)?;
        let begun = Instant::now();
        transaction.commit()?;
        if self.syncs_ms.len() == SYNCS_SHOWN {
            self.syncs_ms.pop_front();
        }
        self.syncs_ms
            .push_back(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));

        self.batches.written(batch.held);
        self.starting = false;
        if batch.upkeep {
            self.upkeep_at = now + if more { UPKEEP_MORE } else { UPKEEP_INTERVAL };
        }
        Ok(())
    }

    /// The statements of one transaction. True: there is more to remove.
    fn fill(
        &mut self,
        transaction: &Transaction<'_>,
        batch: &Batch,
        cdr_keep: Duration,
    ) -> rusqlite::Result<bool> {
        if self.starting {
            let was_cut = mark_start(transaction, self.started)?;
            self.restored = was_cut.then_some(self.started);
        }
        for request in &self.secrets {
            for (name, value) in &request.secrets {
                rows::put_secret(transaction, name, value)?;
            }
        }
        let backlog = self.batches.backlog();
        if let Some((key, made)) = &backlog.nonce_key {
            rows::put_secret(
                transaction,
                super::NONCE_KEY,
                &rows::nonce_key_text(key, *made),
            )?;
        }
        if let Some(key) = &backlog.line_key {
            rows::put_secret(transaction, super::LINE_KEY, &rows::key_text(key))?;
        }
        for (key, kept) in self.batches.bindings(batch.held) {
            tolerate(
                "registrations",
                match kept {
                    Some(kept) => rows::put_binding(transaction, &kept.row, kept.granted_s),
                    None => rows::remove_binding(transaction, key),
                },
            )?;
        }
        for (source, ban) in &backlog.bans {
            tolerate(
                "bans",
                match ban {
                    Some(ban) => rows::put_ban(transaction, ban),
                    None => rows::remove_ban(transaction, *source),
                },
            )?;
        }
        for (source, time) in &backlog.known {
            tolerate("known", rows::put_known(transaction, *source, *time))?;
        }
        for (key, destination) in &backlog.destinations {
            tolerate(
                "destinations",
                match destination {
                    Some(row) => rows::put_destination(transaction, row),
                    None => rows::remove_destination(transaction, key),
                },
            )?;
        }
        for feature in backlog.features.values() {
            tolerate("features", rows::put_feature(transaction, feature))?;
        }
        for (id, message) in &backlog.messages {
            tolerate(
                "messages",
                match message {
                    Some(row) => rows::put_message(transaction, row),
                    None => rows::remove_message(transaction, *id),
                },
            )?;
        }
        for record in backlog.records.values() {
            tolerate("call_records", rows::put_record(transaction, record))?;
        }
        let more = batch.upkeep && remove_old(transaction, unix_now(), cdr_keep)?;
        if batch.closing {
            if let Some(restored) = self.restored {
                keep_restored(transaction, restored)?;
            }
            transaction.execute(
                "REPLACE INTO meta (key, value) VALUES ('closed', ?1)",
                [Rfc3339(unix_now()).to_string()],
            )?;
        }
        Ok(more)
    }

    fn reopen(&mut self) -> Result<(), String> {
        let mut connection = None;
        if !self.broken {
            match schema::open(&self.path) {
                Ok(opened) => connection = Some(opened),
                Err(OpenError::Broken(_)) => self.broken = true,
                Err(error) => return Err(format!("{error}{}", schema::explain(&self.path))),
            }
        }
        if connection.is_none() {
            if self
                .set_aside_at
                .is_some_and(|at| at.elapsed() < SET_ASIDE_INTERVAL)
            {
                return Err("the file is damaged again: is the disk failing?".into());
            }
            connection = Some(replace_broken(&self.path, "damaged", unix_now())?);
            self.set_aside_at = Some(Instant::now());
            self.broken = false;
        }
        self.identity = identity(&self.path);
        self.connection = connection;
        Ok(())
    }

    /// Sees whether the path still leads to the file that is open; a deleted one is written anew.
    fn follow_file(&mut self) -> Result<(), String> {
        let Some(connection) = &self.connection else {
            return Ok(());
        };
        let found = identity(&self.path);
        if found == self.identity {
            return Ok(());
        }
        if found.is_some() {
            return Err("the file was replaced by another one; a restart reads it".into());
        }
        let path = self.path.display().to_string();
        say(Level::Error, "store_file_gone", [("path", path)]);
        let copy = schema::beside(&self.path, ".new");
        let text = |error: &dyn std::fmt::Display| format!("the file was deleted, and: {error}");
        let _ = fs::remove_file(&copy);
        schema::make_private(&copy).map_err(|error| text(&error))?;
        let name = copy
            .to_str()
            .ok_or_else(|| text(&"its name is not UTF-8"))?;
        connection
            .execute("VACUUM INTO ?1", [name])
            .map_err(|error| text(&error))?;
        // Closing the old one removes its log by name, so it comes before the new file gets one.
        self.connection = None;
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(schema::beside(&self.path, suffix));
        }
        fs::rename(&copy, &self.path).map_err(|error| text(&error))
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path)
        .ok()
        .map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Sets a broken file aside, begins a new one and copies into it what can still be read.
pub(super) fn replace_broken(
    path: &Path,
    reason: &str,
    now: UnixTime,
) -> Result<Connection, String> {
    let aside = schema::set_aside(path, now)
        .map_err(|error| format!("it is broken ({reason}) and cannot be set aside: {error}"))?;
    let mut connection = schema::open(path).map_err(|error| error.to_string())?;
    let rescued = schema::rescue(&aside, &mut connection).map_err(|error| error.to_string())?;
    let fields = [
        ("path", path.display().to_string()),
        ("reason", reason.to_owned()),
        ("kept_as", aside.display().to_string()),
        ("rows_rescued", rescued.rows.to_string()),
        ("all_tried", (!rescued.cut_short).to_string()),
    ];
    say(Level::Error, "store_set_aside", fields);
    Ok(connection)
}

/// A row that SQLite will never take must not keep the others from the disk.
fn tolerate(table: &str, result: rusqlite::Result<()>) -> rusqlite::Result<()> {
    match result {
        Err(error)
            if matches!(
                error.sqlite_error_code(),
                Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch)
            ) =>
        {
            let fields = [("table", table.to_owned()), ("error", error.to_string())];
            say(Level::Error, "store_row_refused", fields);
            Ok(())
        }
        other => other,
    }
}

/// A call that was up: where and when it ended nobody knows.
pub(super) const MARK_INTERRUPTED: &str = "UPDATE call_records \
     SET disposition = 'interrupted', ended_by = 'server' WHERE disposition = ''";

/// The calls that were up when the last run ended were interrupted; from now on the file is not cleanly closed. True: the last
/// run did not close it either.
fn mark_start(transaction: &Transaction<'_>, started: UnixTime) -> rusqlite::Result<bool> {
    let is_new = transaction.execute(
        "INSERT OR IGNORE INTO meta (key, value) VALUES ('created', ?1)",
        [Rfc3339(started).to_string()],
    )? > 0;
    let was_closed = transaction.execute("DELETE FROM meta WHERE key = 'closed'", [])? > 0;
    let interrupted = transaction.execute(MARK_INTERRUPTED, [])?;
    if interrupted > 0 {
        let fields = [("count", interrupted.to_string())];
        say(Level::Warn, "calls_interrupted", fields);
    }
    Ok(!was_closed && !is_new)
}

/// Before a clean stop, after which every row says when its binding ends: those that this run has restored at `restored` with
/// more than their row says and not written since. Only they are written again: mostly they are few, as phones refresh. A row
/// that cannot be read stays as it is; the next start tells of it.
fn keep_restored(transaction: &Transaction<'_>, restored: UnixTime) -> rusqlite::Result<()> {
    let found = rows::load(
        transaction,
        "SELECT rowid, expires, granted_s FROM registrations",
        rows::binding_end,
    )?;
    for (place, expires, granted_s) in found.rows {
        let kept = expiry_at_clean_stop(expires, granted_s, restored);
        if kept != expires {
            rows::set_binding_end(transaction, place, kept)?;
        }
    }
    Ok(())
}

/// Removes what is out of date. True: there are more call records to remove.
pub(super) fn remove_old(
    transaction: &Transaction<'_>,
    now: UnixTime,
    cdr_keep: Duration,
) -> rusqlite::Result<bool> {
    let text = Rfc3339(now).to_string();
    let before = |age: Duration| {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Rfc3339(UnixTime::from_millis(now.as_millis().saturating_sub(age))).to_string()
    };
    transaction.execute(
        "DELETE FROM registrations WHERE datetime(expires, '+' || granted_s || ' seconds') < datetime(?1)",
        [&text],
    )?;
    transaction.execute(
        "DELETE FROM bans WHERE datetime(until, '+' || (?2 * (step + 1)) || ' days') < datetime(?1)",
        params![&text, i64::from(STEP_DAYS)],
    )?;
    transaction.execute("DELETE FROM known WHERE last_success < ?1", [before(KNOWN)])?;
    transaction.execute(
        "DELETE FROM known WHERE rowid IN
           (SELECT rowid FROM known ORDER BY last_success DESC LIMIT -1 OFFSET ?1)",
        [i64::try_from(limits::KNOWN_SOURCES_MAX).unwrap_or(i64::MAX)],
    )?;
    transaction.execute(
        "DELETE FROM destinations WHERE rowid IN
           (SELECT rowid FROM destinations ORDER BY last_called DESC LIMIT -1 OFFSET ?1)",
        [i64::try_from(limits::DESTINATIONS_MAX).unwrap_or(i64::MAX)],
    )?;
    // Those that could not be read; others the endpoint removes.
    transaction.execute(
        "DELETE FROM messages WHERE datetime(expires, '+1 day') < datetime(?1)",
        [&text],
    )?;
    let removed = transaction.execute(
        "DELETE FROM call_records WHERE rowid IN
           (SELECT rowid FROM call_records WHERE start < ?1 AND disposition <> '' ORDER BY start LIMIT ?2)",
        params![before(cdr_keep), UPKEEP_RECORDS],
    )?;
    Ok(removed == UPKEEP_RECORDS as usize)
}
