//! What waits for the disk: for each key only the newest state, so that however slow the disk is, the memory is
//! bounded by the number of keys, and that by limits.rs.
//!
//! A map merged under a mutex, not a channel: a full channel could only block the SIP thread or lose the newest state,
//! while the merged map needs no more room when the same binding or ban changes again and again.

use std::collections::HashMap;

use crate::limits;
use crate::source::Source;
use crate::store::{BanRow, BindingRow, CallRecord, Change};
use crate::time::UnixTime;

/// User and contact.
pub(super) type BindingKey = (String, Vec<u8>);

/// A binding to write, with the time that it was granted.
#[derive(Debug)]
pub(super) struct KeptBinding {
    pub row: Box<BindingRow>,
    /// Seconds between the acknowledgement and `row.expires`, rounded up.
    pub granted_s: u32,
}

/// Changes that were dropped at a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    pub bindings: u64,
    pub bans: u64,
    pub known: u64,
    pub records: u64,
}

impl Lost {
    pub(super) fn add(&mut self, other: Self) {
        self.bindings += other.bindings;
        self.bans += other.bans;
        self.known += other.known;
        self.records += other.records;
    }

    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} call records, {} changes of bans, {} of registrations and {} of known sources",
            self.records, self.bans, self.bindings, self.known
        )
    }
}

/// Merged changes. `None` as a value: to be deleted.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub bindings: HashMap<BindingKey, Option<KeptBinding>>,
    pub bans: HashMap<Source, Option<Box<BanRow>>>,
    pub known: HashMap<Source, UnixTime>,
    pub records: HashMap<String, Box<CallRecord>>,
    pub nonce_key: Option<([u8; 32], UnixTime)>,
}

impl Pending {
    /// Takes in a change at the time `now`; what is dropped at a bound is counted in `lost`.
    pub(super) fn merge(&mut self, change: Change, now: UnixTime, lost: &mut Lost) {
        match change {
            Change::Binding(row) => {
                let key = (row.user.clone(), row.contact.clone());
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
            Change::BindingGone { user, contact } => {
                let key = (user, contact);
                put(&mut self.bindings, limits::STORE_BINDINGS_MAX, key, None, &mut lost.bindings);
            }
            Change::Ban(row) => {
                put(&mut self.bans, limits::STORE_BANS_MAX, row.source, Some(row), &mut lost.bans);
            }
            Change::BanGone(source) => {
                put(&mut self.bans, limits::STORE_BANS_MAX, source, None, &mut lost.bans);
            }
            Change::Known(source, time) => {
                put(&mut self.known, limits::KNOWN_SOURCES_MAX, source, time, &mut lost.known);
            }
            Change::Record(record) => {
                let key = record.id.clone();
                put(&mut self.records, limits::STORE_RECORDS_MAX, key, record, &mut lost.records);
            }
            Change::NonceKey(key, made) => self.nonce_key = Some((key, made)),
        }
    }

    /// Takes in what came later than everything here.
    pub(super) fn absorb(&mut self, later: Self, lost: &mut Lost) {
        for (key, value) in later.bindings {
            put(&mut self.bindings, limits::STORE_BINDINGS_MAX, key, value, &mut lost.bindings);
        }
        for (key, value) in later.bans {
            put(&mut self.bans, limits::STORE_BANS_MAX, key, value, &mut lost.bans);
        }
        for (key, value) in later.known {
            put(&mut self.known, limits::KNOWN_SOURCES_MAX, key, value, &mut lost.known);
        }
        for (key, value) in later.records {
            put(&mut self.records, limits::STORE_RECORDS_MAX, key, value, &mut lost.records);
        }
        self.nonce_key = later.nonce_key.or(self.nonce_key);
    }

    pub(super) fn len(&self) -> usize {
        self.bindings.len()
            + self.bans.len()
            + self.known.len()
            + self.records.len()
            + usize::from(self.nonce_key.is_some())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn put<K: Eq + std::hash::Hash, V>(
    map: &mut HashMap<K, V>,
    max: usize,
    key: K,
    value: V,
    lost: &mut u64,
) {
    if map.len() < max || map.contains_key(&key) {
        map.insert(key, value);
    } else {
        *lost += 1;
    }
}
