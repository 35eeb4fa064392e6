//! The simulated server's disk. What is written when, what is held back and what counts at the next start are production's own
//! rules (`store::pending`, `batches`, `restored`); here is what SQLite and the thread that writes do about them: a batch is there
//! as a whole or not at all, it takes as long as the disk likes, and on a full disk it fails.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use crate::source::Source;
use crate::store::batches::Batches;
use crate::store::pending::{KeptBinding, Lost, Pending};
use crate::store::restored::{
    StoredBinding, expiry_at_clean_stop, is_known, is_remembered, restored_expiry,
};
use crate::store::{
    BanRow, BindingKey, BindingRow, CallRecord, Change, DestinationKey, DestinationRow, FeatureRow,
    MessageRow, Snapshot,
};
use crate::time::{Instant, Now, UnixTime};

/// What the store says of a call that was up when the power went.
pub const INTERRUPTED: &str = "interrupted";

/// What a state file holds.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Rows {
    pub bindings: BTreeMap<BindingKey, StoredBinding>,
    pub bans: BTreeMap<Source, BanRow>,
    pub known: BTreeMap<Source, UnixTime>,
    pub destinations: BTreeMap<DestinationKey, DestinationRow>,
    pub features: BTreeMap<String, FeatureRow>,
    pub messages: BTreeMap<u64, MessageRow>,
    pub records: BTreeMap<String, Arc<CallRecord>>,
    pub nonce_key: Option<([u8; 32], UnixTime)>,
    pub line_key: Option<[u8; 32]>,
}

/// A row that is there, or one that is not.
fn set<K: Ord + Clone, V>(rows: &mut BTreeMap<K, V>, key: &K, row: Option<V>) {
    match row {
        Some(row) => drop(rows.insert(key.clone(), row)),
        None => drop(rows.remove(key)),
    }
}

impl Rows {
    /// Takes in a change by itself, at this time.
    pub fn take(&mut self, change: Change, now: UnixTime) {
        let mut pending = Pending::default();
        pending.merge(change, now, &mut Lost::default());
        let bindings = (pending.bindings.iter()).map(|(key, kept)| (key, kept.as_ref()));
        self.write(&pending, bindings);
    }

    /// One transaction.
    fn write<'a>(
        &mut self,
        batch: &Pending,
        bindings: impl Iterator<Item = (&'a BindingKey, Option<&'a KeptBinding>)>,
    ) {
        for (key, kept) in bindings {
            let stored = kept.map(|kept| StoredBinding {
                row: (*kept.row).clone(),
                granted_s: kept.granted_s,
            });
            set(&mut self.bindings, key, stored);
        }
        for (key, row) in &batch.bans {
            set(&mut self.bans, key, row.as_deref().cloned());
        }
        for (source, last) in &batch.known {
            self.known.insert(*source, *last);
        }
        for (key, row) in &batch.destinations {
            set(&mut self.destinations, key, row.as_deref().cloned());
        }
        for (user, row) in &batch.features {
            set(
                &mut self.features,
                user,
                Some((**row).clone()).filter(|row| !row.is_empty()),
            );
        }
        for (id, row) in &batch.messages {
            set(&mut self.messages, id, row.as_deref().cloned());
        }
        for (id, record) in &batch.records {
            // An ended record is never replaced by its own earlier state.
            let is_over = |record: &Arc<CallRecord>| !record.disposition.is_empty();
            if is_over(record) || !self.records.get(id).is_some_and(is_over) {
                self.records.insert(id.clone(), Arc::clone(record));
            }
        }
        self.nonce_key = batch.nonce_key.or(self.nonce_key);
        self.line_key = batch.line_key.or(self.line_key);
    }

    /// The calls that were up when the last run ended were interrupted. How many.
    fn interrupt(&mut self) -> usize {
        let up = self.records.values_mut();
        let mut count = 0;
        for record in up.filter(|record| record.disposition.is_empty()) {
            *record = Arc::new(CallRecord {
                disposition: INTERRUPTED,
                ended_by: Some("server"),
                ..(**record).clone()
            });
            count += 1;
        }
        count
    }

    fn snapshot(&self, clean: bool, now: UnixTime) -> Snapshot {
        let bindings = self.bindings.values().filter_map(|stored| {
            let expires = restored_expiry(stored, clean, now)?;
            Some(BindingRow {
                expires,
                ..stored.row.clone()
            })
        });
        let bans = self.bans.values().filter(|ban| is_remembered(ban, now));
        let known = self.known.iter().filter(|(_, last)| is_known(**last, now));
        Snapshot {
            bindings: bindings.collect(),
            bans: bans.cloned().collect(),
            known: known.map(|(source, last)| (*source, *last)).collect(),
            destinations: self.destinations.values().cloned().collect(),
            features: self.features.values().cloned().collect(),
            messages: self.messages.values().cloned().collect(),
            nonce_key: self.nonce_key,
            line_key: self.line_key,
        }
    }
}

/// A batch that is being written.
#[derive(Clone, Copy, Debug)]
struct Writing {
    until: Duration,
    with_held: bool,
}

/// The disk, and the thread that writes to it.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// How long a batch takes; `None`: whatever is to be kept is there at once.
    sync: Option<Duration>,
    /// Since the beginning of time, as all times here.
    full_until: Duration,
    rows: Rows,
    batches: Batches<Duration>,
    pending: Pending,
    first: Option<Duration>,
    lost: Lost,
    writing: Option<Writing>,
    was_closed: bool,
    /// When this run has restored bindings with more than their rows say.
    restored: Option<UnixTime>,
    commits: u64,
}

fn since_begin(at: Instant) -> Duration {
    Duration::from_micros(at.as_micros())
}

impl Disk {
    /// A disk that takes so long for each batch.
    pub fn new(sync: Duration) -> Self {
        Self {
            sync: Some(sync),
            ..Self::default()
        }
    }

    /// From now on each batch takes so long.
    pub fn set_sync(&mut self, sync: Duration) {
        self.sync = Some(sync);
    }

    /// Nothing can be written until then.
    pub fn fill_until(&mut self, until: Instant) {
        self.full_until = since_begin(until);
    }

    /// What is on it.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The same, to do it harm.
    pub fn rows_mut(&mut self) -> &mut Rows {
        &mut self.rows
    }

    /// Batches that were written as a whole.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// Whether a batch is being written.
    pub fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Whether everything that was to be kept is on it, but for what was dropped at a bound.
    pub fn is_done(&self) -> bool {
        self.pending.is_empty() && self.batches.left() == 0 && self.writing.is_none()
    }

    /// The server wants this kept.
    pub fn keep(&mut self, now: Now, change: Change) {
        if self.sync.is_none() {
            return self.rows.take(change, now.unix);
        }
        self.pending.merge(change, now.unix, &mut self.lost);
        self.first.get_or_insert(since_begin(now.mono));
    }

    /// When there is something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let at = match &self.writing {
            Some(writing) => Some(writing.until),
            None => self.batches.due(self.first),
        };
        at.map(|at| Instant::from_micros(at.as_micros() as u64))
    }

    /// Does what is due. True: a batch begins to be written, or ends to be.
    pub fn tick(&mut self, now: Instant) -> bool {
        let now = since_begin(now);
        if let Some(writing) = self.writing {
            if now < writing.until {
                return false;
            }
            self.commit(writing);
            return true;
        }
        if self.batches.due(self.first).is_none_or(|due| due > now) {
            return false;
        }
        self.begin(now);
        if now < self.full_until {
            self.batches.failed(now);
            return false;
        }
        let rows = &self.rows;
        let stored = |key: &BindingKey| Ok::<_, Infallible>(rows.bindings.get(key).cloned());
        let Ok(()) = self.batches.hold_back(|| now, stored);
        let with_held = self.batches.is_held_due(now);
        if self.batches.backlog().is_empty() && !with_held {
            self.batches.succeeded();
            return false;
        }
        let until = now + self.sync.unwrap_or_default();
        self.writing = Some(Writing { until, with_held });
        true
    }

    fn begin(&mut self, now: Duration) {
        self.first = None;
        let pending = std::mem::take(&mut self.pending);
        self.batches.begin(now, pending, &mut self.lost);
    }

    fn commit(&mut self, writing: Writing) {
        let bindings = self.batches.bindings(writing.with_held);
        self.rows.write(self.batches.backlog(), bindings);
        self.batches.written(writing.with_held);
        self.batches.succeeded();
        self.writing = None;
        self.commits += 1;
    }

    /// The process is killed, or the power goes. `keeps_batch`: a batch that is being written is there as a whole, else it is
    /// not at all.
    pub fn kill(&mut self, keeps_batch: bool) {
        if let Some(writing) = self.writing.filter(|_| keeps_batch) {
            self.commit(writing);
        }
        self.forget();
        self.was_closed = self.sync.is_none();
    }

    /// A clean stop writes what is left, with the exact times of bindings. True: it could.
    pub fn close(&mut self, now: Instant) -> bool {
        let now = since_begin(now);
        if let Some(writing) = self.writing {
            self.commit(writing);
        }
        if now < self.full_until {
            self.kill(false);
            return false;
        }
        self.begin(now);
        self.commit(Writing {
            until: now,
            with_held: true,
        });
        if let Some(restored) = self.restored {
            for stored in self.rows.bindings.values_mut() {
                let expires = &mut stored.row.expires;
                *expires = expiry_at_clean_stop(*expires, stored.granted_s, restored);
            }
        }
        self.forget();
        self.was_closed = true;
        true
    }

    fn forget(&mut self) {
        self.batches = Batches::default();
        self.pending = Pending::default();
        (self.first, self.writing) = (None, None);
    }

    /// The server starts: what it finds, and how many calls were up when it ended.
    pub fn start(&mut self, now: UnixTime) -> (Snapshot, usize) {
        let was_closed = std::mem::take(&mut self.was_closed);
        let interrupted = self.rows.interrupt();
        self.restored = (!was_closed).then_some(now);
        (self.rows.snapshot(was_closed, now), interrupted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Now {
        Now {
            mono: Instant::from_micros(millis * 1_000),
            unix: UnixTime::from_millis(1_772_366_400_000 + millis),
        }
    }

    fn known(last: u8) -> Change {
        Change::Known(Source::of([198, 51, 100, last].into()), at(0).unix)
    }

    /// Lets time pass in steps to each deadline.
    fn pass(disk: &mut Disk, until: u64) {
        while let Some(due) = disk.next_deadline().filter(|due| *due <= at(until).mono) {
            disk.tick(due);
        }
    }

    #[test]
    fn a_batch_is_there_as_a_whole_or_not_at_all() {
        for keeps_batch in [false, true] {
            let mut disk = Disk::new(Duration::from_millis(50));
            disk.keep(at(1_000), known(1));
            disk.keep(at(1_010), known(2));
            pass(&mut disk, 1_199);
            assert!(!disk.is_writing());
            pass(&mut disk, 1_249);
            assert!(disk.is_writing() && disk.rows().known.is_empty());
            disk.kill(keeps_batch);
            let (snapshot, _) = disk.start(at(2_000).unix);
            assert_eq!(snapshot.known.len(), if keeps_batch { 2 } else { 0 });
        }
    }

    #[test]
    fn a_full_disk_keeps_what_waits_for_when_it_has_room() {
        let mut disk = Disk::new(Duration::from_millis(5));
        disk.fill_until(at(10_000).mono);
        disk.keep(at(1_000), known(1));
        pass(&mut disk, 10_000);
        assert!(disk.rows().known.is_empty() && !disk.is_done());
        pass(&mut disk, 30_000);
        assert!(disk.rows().known.len() == 1 && disk.is_done());
    }

    #[test]
    fn a_clean_stop_loses_nothing_and_interrupts_nothing_twice() {
        let mut disk = Disk::new(Duration::from_millis(5));
        let record = CallRecord {
            id: "1".into(),
            ..CallRecord::default()
        };
        disk.keep(at(1_000), Change::Record(Arc::new(record)));
        assert!(disk.close(at(1_001).mono));
        assert_eq!(disk.start(at(2_000).unix).1, 1);
        assert_eq!(disk.rows().records["1"].disposition, INTERRUPTED);
        disk.kill(false);
        assert_eq!(disk.start(at(3_000).unix).1, 0);
    }
}
