//! What waits for the disk: for each key only the newest state, so that however slow the disk is, the memory is
//! bounded by the number of keys, and that by limits.rs.
//!
//! A map merged under a mutex, not a channel: a full channel could only block the SIP thread or lose the newest state,
//! while the merged map needs no more room when the same binding or ban changes again and again. Peers choose its keys, so it
//! is an ordered one, which nobody can make slow.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{
    BanRow, BindingKey, BindingRow, CallRecord, Change, DestinationKey, DestinationRow, FeatureRow,
    MessageRow,
};
use crate::limits;
use crate::source::Source;
use crate::time::UnixTime;

/// A binding to write, with the time that it was granted.
#[derive(Clone, Debug)]
pub struct KeptBinding {
    /// As it is to be written.
    pub row: Box<BindingRow>,
    /// Seconds between the acknowledgement and `row.expires`, rounded up.
    pub granted_s: u32,
}

/// Changes that were dropped at a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Lost {
    pub bindings: u64,
    pub bans: u64,
    pub known: u64,
    pub records: u64,
    pub destinations: u64,
    pub features: u64,
    pub messages: u64,
}

impl Lost {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.bindings += other.bindings;
        self.bans += other.bans;
        self.known += other.known;
        self.records += other.records;
        self.destinations += other.destinations;
        self.features += other.features;
        self.messages += other.messages;
    }

    /// Whether nothing was dropped.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} call records, {} changes of bans, {} of registrations, {} of known sources, {} of outside numbers, \
             {} of what users dialled and {} of messages that wait",
            self.records,
            self.bans,
            self.bindings,
            self.known,
            self.destinations,
            self.features,
            self.messages
        )
    }
}

/// Merged changes. `None` as a value: to be deleted.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Pending {
    pub bindings: BTreeMap<BindingKey, Option<KeptBinding>>,
    pub bans: BTreeMap<Source, Option<Box<BanRow>>>,
    pub known: BTreeMap<Source, UnixTime>,
    pub destinations: BTreeMap<DestinationKey, Option<Box<DestinationRow>>>,
    pub features: BTreeMap<String, Box<FeatureRow>>,
    pub messages: BTreeMap<u64, Option<Box<MessageRow>>>,
    pub records: BTreeMap<String, Arc<CallRecord>>,
    pub nonce_key: Option<([u8; 32], UnixTime)>,
    pub line_key: Option<[u8; 32]>,
}

impl Pending {
    /// Takes in a change at the time `now`; what is dropped at a bound is counted in `lost`.
    pub fn merge(&mut self, change: Change, now: UnixTime, lost: &mut Lost) {
        match change {
            Change::Binding(row) => {
                let key = row.key();
                let granted_s = row.expires.since(now).as_millis().div_ceil(1_000);
                let granted_s = u32::try_from(granted_s).unwrap_or(u32::MAX);
                let kept = KeptBinding { row, granted_s };
                put(
                    &mut self.bindings,
                    limits::STORE_BINDINGS_MAX,
                    key,
                    Some(kept),
                    &mut lost.bindings,
                );
            }
            Change::BindingGone(key) => {
                put(
                    &mut self.bindings,
                    limits::STORE_BINDINGS_MAX,
                    *key,
                    None,
                    &mut lost.bindings,
                );
            }
            Change::Ban(row) => {
                put(
                    &mut self.bans,
                    limits::STORE_BANS_MAX,
                    row.source,
                    Some(row),
                    &mut lost.bans,
                );
            }
            Change::BanGone(source) => {
                put(
                    &mut self.bans,
                    limits::STORE_BANS_MAX,
                    source,
                    None,
                    &mut lost.bans,
                );
            }
            Change::Known(source, time) => {
                put(
                    &mut self.known,
                    limits::KNOWN_SOURCES_MAX,
                    source,
                    time,
                    &mut lost.known,
                );
            }
            Change::Destination(row) => {
                put(
                    &mut self.destinations,
                    limits::STORE_DESTINATIONS_MAX,
                    row.key.clone(),
                    Some(row),
                    &mut lost.destinations,
                );
            }
            Change::DestinationGone(key) => {
                put(
                    &mut self.destinations,
                    limits::STORE_DESTINATIONS_MAX,
                    *key,
                    None,
                    &mut lost.destinations,
                );
            }
            Change::Feature(row) => {
                put(
                    &mut self.features,
                    limits::STORE_FEATURES_MAX,
                    row.user.clone(),
                    row,
                    &mut lost.features,
                );
            }
            Change::Message(row) => {
                put(
                    &mut self.messages,
                    limits::STORE_MESSAGES_MAX,
                    row.id,
                    Some(row),
                    &mut lost.messages,
                );
            }
            Change::MessageGone(id) => {
                put(
                    &mut self.messages,
                    limits::STORE_MESSAGES_MAX,
                    id,
                    None,
                    &mut lost.messages,
                );
            }
            Change::Record(record) => {
                let key = record.id.clone();
                put(
                    &mut self.records,
                    limits::STORE_RECORDS_MAX,
                    key,
                    record,
                    &mut lost.records,
                );
            }
            Change::NonceKey(key, made) => self.nonce_key = Some((key, made)),
            Change::LineKey(key) => self.line_key = Some(key),
        }
    }

    /// Takes in what came later than everything here.
    pub fn absorb(&mut self, later: Self, lost: &mut Lost) {
        for (key, value) in later.bindings {
            put(
                &mut self.bindings,
                limits::STORE_BINDINGS_MAX,
                key,
                value,
                &mut lost.bindings,
            );
        }
        for (key, value) in later.bans {
            put(
                &mut self.bans,
                limits::STORE_BANS_MAX,
                key,
                value,
                &mut lost.bans,
            );
        }
        for (key, value) in later.known {
            put(
                &mut self.known,
                limits::KNOWN_SOURCES_MAX,
                key,
                value,
                &mut lost.known,
            );
        }
        for (key, value) in later.destinations {
            put(
                &mut self.destinations,
                limits::STORE_DESTINATIONS_MAX,
                key,
                value,
                &mut lost.destinations,
            );
        }
        for (key, value) in later.features {
            put(
                &mut self.features,
                limits::STORE_FEATURES_MAX,
                key,
                value,
                &mut lost.features,
            );
        }
        for (key, value) in later.messages {
            put(
                &mut self.messages,
                limits::STORE_MESSAGES_MAX,
                key,
                value,
                &mut lost.messages,
            );
        }
        for (key, value) in later.records {
            put(
                &mut self.records,
                limits::STORE_RECORDS_MAX,
                key,
                value,
                &mut lost.records,
            );
        }
        self.nonce_key = later.nonce_key.or(self.nonce_key);
        self.line_key = later.line_key.or(self.line_key);
    }

    /// How many keys wait.
    pub fn len(&self) -> usize {
        self.bindings.len()
            + self.bans.len()
            + self.known.len()
            + self.destinations.len()
            + self.features.len()
            + self.messages.len()
            + self.records.len()
            + usize::from(self.nonce_key.is_some())
            + usize::from(self.line_key.is_some())
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, max: usize, key: K, value: V, lost: &mut u64) {
    if map.len() < max || map.contains_key(&key) {
        map.insert(key, value);
    } else {
        *lost += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: usize, caller: &str) -> Change {
        let record = CallRecord {
            id: id.to_string(),
            caller: caller.into(),
            ..CallRecord::default()
        };
        Change::Record(Arc::new(record))
    }

    #[test]
    fn at_the_bound_known_keys_still_change_and_others_are_counted() {
        let (mut pending, mut lost) = (Pending::default(), Lost::default());
        let now = UnixTime::default();
        for id in 0..limits::STORE_RECORDS_MAX {
            pending.merge(record(id, "a"), now, &mut lost);
        }
        assert!(lost.is_none());
        pending.merge(record(limits::STORE_RECORDS_MAX, "a"), now, &mut lost);
        assert_eq!(
            lost,
            Lost {
                records: 1,
                ..Lost::default()
            }
        );
        pending.merge(record(3, "b"), now, &mut lost);
        assert_eq!(lost.records, 1);
        assert_eq!(pending.records["3"].caller, "b");
        assert_eq!(pending.len(), limits::STORE_RECORDS_MAX);

        let mut later = Pending::default();
        later.merge(record(4, "c"), now, &mut lost);
        later.merge(record(usize::MAX, "c"), now, &mut lost);
        pending.absorb(later, &mut lost);
        assert_eq!(lost.records, 2);
        assert_eq!(pending.records["4"].caller, "c");
    }

    #[test]
    fn the_newest_state_of_a_key_is_what_waits() {
        let (mut pending, mut lost) = (Pending::default(), Lost::default());
        let source: Source = "203.0.113.7".parse().expect("a source");
        let now = UnixTime::default();
        pending.merge(
            Change::Known(source, UnixTime::from_millis(1)),
            now,
            &mut lost,
        );
        pending.merge(Change::NonceKey([1; 32], now), now, &mut lost);
        pending.merge(Change::BanGone(source), now, &mut lost);
        let mut later = Pending::default();
        later.merge(
            Change::Known(source, UnixTime::from_millis(2)),
            now,
            &mut lost,
        );
        later.merge(Change::NonceKey([2; 32], now), now, &mut lost);
        pending.absorb(later, &mut lost);
        pending.absorb(Pending::default(), &mut lost);
        assert_eq!(pending.known[&source], UnixTime::from_millis(2));
        assert_eq!(pending.nonce_key, Some(([2; 32], now)));
        assert!(pending.bans[&source].is_none());
        assert_eq!(pending.len(), 3);
    }
}
