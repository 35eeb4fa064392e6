//! When what is to be kept is written, and what is written together. Whoever writes says the time and does as he is told: the
//! writer of the state file on its thread, the simulator's disk on virtual time.
//!
//! Changes are gathered for 200 ms and written in one transaction, at most about one a second, so that a change is
//! begun to be written within a second of its `keep`.
//!
//! Refreshes. A phone that refreshes its registration changes nothing but the expiry, and a hundred phones would make
//! a commit a second for ever, which wears out a flash card. So a refresh that moves nothing but `expires`, `since`
//! and CSeq, and by no more than was granted before, waits up to 30 s for others. The promise holds all the same: the
//! binding itself is on the disk, and after a stop that was not clean every binding is restored with `granted_s` more, which
//! is never less than was acknowledged and never more than one full interval from the restart (see
//! [`restored_expiry`](super::restored::restored_expiry)).
//!
//! Failures. What could not be written stays in the merged backlog, and is tried again after 1, 2, 4 … 60 s.

use std::collections::BTreeMap;
use std::ops::Add;
use std::time::Duration;

use super::BindingKey;
use super::pending::{KeptBinding, Lost, Pending};
use super::restored::StoredBinding;
use crate::limits;

/// How long the first change of a batch waits for company.
pub const GATHER: Duration = Duration::from_millis(200);
/// Between the beginnings of two writes; under a second by what a busy machine may need to wake us.
pub const WRITE_INTERVAL: Duration = Duration::from_millis(800);
/// How long a mere refresh may wait.
pub const REFRESH_HELD: Duration = Duration::from_secs(30);
/// After a first failure; each further one in a row doubles it ...
pub const RETRY_MIN: Duration = Duration::from_secs(1);
/// ... up to this.
pub const RETRY_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
struct Failure<T> {
    retry_at: T,
    delay: Duration,
}

/// What was taken in and is not on the disk. `T`: a point in time.
#[derive(Clone, Debug)]
pub struct Batches<T> {
    backlog: Pending,
    held: BTreeMap<BindingKey, KeptBinding>,
    held_since: Option<T>,
    last_write: Option<T>,
    failure: Option<Failure<T>>,
}

impl<T> Default for Batches<T> {
    fn default() -> Self {
        Self {
            backlog: Pending::default(),
            held: BTreeMap::new(),
            held_since: None,
            last_write: None,
            failure: None,
        }
    }
}

impl<T: Copy + Ord + Add<Duration, Output = T>> Batches<T> {
    /// When the next attempt to write is due; `first`: when the first change came that was not taken in yet.
    pub fn due(&self, first: Option<T>) -> Option<T> {
        if let Some(failure) = &self.failure {
            return Some(failure.retry_at);
        }
        let gathered = first.map(|first| {
            let rested = self.last_write.map_or(first, |last| last + WRITE_INTERVAL);
            rested.max(first + GATHER)
        });
        let held = self.held_since.map(|since| since + REFRESH_HELD);
        gathered.into_iter().chain(held).min()
    }

    /// An attempt begins, with what came since the one before.
    pub fn begin(&mut self, now: T, pending: Pending, lost: &mut Lost) {
        for key in pending.bindings.keys() {
            self.held.remove(key);
        }
        self.backlog.absorb(pending, lost);
        self.last_write = Some(now);
    }

    /// Moves mere refreshes out of the backlog. `stored`: what the disk has of a binding; `now`: from when on they wait.
    ///
    /// # Errors
    /// Those of `stored`.
    pub fn hold_back<E>(
        &mut self,
        now: impl Fn() -> T,
        mut stored: impl FnMut(&BindingKey) -> Result<Option<StoredBinding>, E>,
    ) -> Result<(), E> {
        let mut refreshes = Vec::new();
        for (key, kept) in &self.backlog.bindings {
            let Some(kept) = kept else { continue };
            if let Some(stored) = stored(key)?
                && is_mere_refresh(&stored, kept)
            {
                refreshes.push(key.clone());
            }
        }
        for key in refreshes {
            if self.held.len() >= limits::STORE_BINDINGS_MAX {
                break;
            }
            if let Some(Some(kept)) = self.backlog.bindings.remove(&key) {
                self.held_since.get_or_insert_with(&now);
                self.held.insert(key, kept);
            }
        }
        Ok(())
    }

    /// Whether refreshes that were held back have waited long enough to be written with this batch.
    pub fn is_held_due(&self, now: T) -> bool {
        self.held_since
            .is_some_and(|since| now >= since + REFRESH_HELD)
    }

    /// What a batch writes, bindings apart.
    pub fn backlog(&self) -> &Pending {
        &self.backlog
    }

    /// The bindings that a batch writes, with those that were held back or without; `None` as a value: to be deleted.
    pub fn bindings(
        &self,
        with_held: bool,
    ) -> impl Iterator<Item = (&BindingKey, Option<&KeptBinding>)> {
        let held = (self.held.iter())
            .filter(move |_| with_held)
            .map(|(key, kept)| (key, Some(kept)));
        let backlog = (self.backlog.bindings.iter()).map(|(key, kept)| (key, kept.as_ref()));
        held.chain(backlog)
    }

    /// How much there is that was not written, refreshes that may wait included.
    pub fn left(&self) -> usize {
        self.backlog.len() + self.held.len()
    }

    /// A batch is on the disk.
    pub fn written(&mut self, with_held: bool) {
        self.backlog = Pending::default();
        if with_held {
            self.held = BTreeMap::new();
            self.held_since = None;
        }
    }

    /// An attempt has failed at `now`: everything waits for the next one.
    pub fn failed(&mut self, now: T) {
        let delay = (self.failure).map_or(RETRY_MIN, |failure| (failure.delay * 2).min(RETRY_MAX));
        self.failure = Some(Failure {
            retry_at: now + delay,
            delay,
        });
    }

    /// An attempt has succeeded, be there something to write or not. True: the one before had failed.
    pub fn succeeded(&mut self) -> bool {
        self.failure.take().is_some()
    }

    /// Whether the last attempt has failed.
    pub fn is_failing(&self) -> bool {
        self.failure.is_some()
    }
}

/// Whether the file need not know of it at once: see the head of this file.
fn is_mere_refresh(stored: &StoredBinding, kept: &KeptBinding) -> bool {
    let mut as_stored = (*kept.row).clone();
    as_stored.cseq = stored.row.cseq;
    as_stored.since = stored.row.since;
    as_stored.expires = stored.row.expires;
    let granted = Duration::from_secs(u64::from(stored.granted_s));
    as_stored == stored.row
        && kept.granted_s <= stored.granted_s
        && (stored.row.expires..=stored.row.expires.plus(granted)).contains(&kept.row.expires)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::store::{BindingRow, Change};
    use crate::time::UnixTime;

    const BEGIN: UnixTime = UnixTime::from_millis(1_772_366_400_000);

    fn binding(expires_s: u64, contact: &str) -> BindingRow {
        let place = ([192, 0, 2, 7], 5060).into();
        BindingRow {
            since: BEGIN,
            expires: BEGIN.plus(Duration::from_secs(expires_s)),
            ..BindingRow::plain(contact, place, place)
        }
    }

    fn pending(rows: Vec<BindingRow>, at_s: u64) -> Pending {
        let mut pending = Pending::default();
        let now = BEGIN.plus(Duration::from_secs(at_s));
        for row in rows {
            pending.merge(Change::Binding(Box::new(row)), now, &mut Lost::default());
        }
        pending
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_change_waits_for_company_and_for_the_write_before() {
        let mut batches = Batches::default();
        assert_eq!(batches.due(None), None);
        assert_eq!(batches.due(Some(ms(1_000))), Some(ms(1_200)));
        batches.begin(
            ms(1_200),
            pending(vec![binding(60, "sip:a")], 1),
            &mut Lost::default(),
        );
        assert_eq!((batches.left(), batches.bindings(false).count()), (1, 1));
        batches.written(false);
        assert_eq!(batches.left(), 0);
        assert_eq!(batches.due(Some(ms(1_300))), Some(ms(2_000)));
        assert_eq!(batches.due(Some(ms(5_000))), Some(ms(5_200)));
    }

    #[test]
    fn a_mere_refresh_waits_and_a_change_does_not() {
        let on_disk = StoredBinding {
            row: binding(60, "sip:a"),
            granted_s: 60,
        };
        let stored = |key: &BindingKey| -> Result<_, Infallible> {
            Ok((*key.contact == *b"sip:a").then(|| on_disk.clone()))
        };
        let mut batches = Batches::default();
        let rows = vec![binding(90, "sip:a"), binding(90, "sip:b")];
        batches.begin(ms(0), pending(rows, 30), &mut Lost::default());
        assert_eq!(batches.hold_back(|| ms(0), stored), Ok(()));
        let written: Vec<_> = batches
            .bindings(false)
            .map(|(key, _)| &*key.contact)
            .collect();
        assert_eq!(written, [b"sip:b"]);
        batches.written(false);
        assert_eq!((batches.left(), batches.due(None)), (1, Some(ms(30_000))));
        assert!(!batches.is_held_due(ms(29_999)) && batches.is_held_due(ms(30_000)));
        batches.written(true);
        assert_eq!((batches.left(), batches.due(None)), (0, None));
        // More than was granted before is none.
        batches.begin(
            ms(0),
            pending(vec![binding(200, "sip:a")], 30),
            &mut Lost::default(),
        );
        assert_eq!(batches.hold_back(|| ms(0), stored), Ok(()));
        assert_eq!(batches.bindings(false).count(), 1);
    }

    #[test]
    fn what_failed_is_tried_again_later_and_later() {
        let mut batches = Batches::default();
        batches.begin(
            ms(0),
            pending(vec![binding(60, "sip:a")], 0),
            &mut Lost::default(),
        );
        let mut waits = Vec::new();
        for _ in 0..8 {
            batches.failed(ms(0));
            waits.extend(batches.due(Some(ms(0))));
        }
        let waits: Vec<u64> = waits.iter().map(Duration::as_secs).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(batches.is_failing() && batches.succeeded() && !batches.succeeded());
        assert_eq!(batches.left(), 1);
    }
}
