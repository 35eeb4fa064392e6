//! What was answered, by name and kind: bounded in entries and bytes, the one used longest ago goes.
//!
//! An entry has two ends. Until `fresh_until` nobody is asked again. From then until `usable_until` it still holds if nobody
//! answers (RFC 8767): a line stays up while the name servers are down.

use std::collections::BTreeMap;

use super::name::Name;
use super::wire::{Data, Kind};
use crate::limits::{NAME_CACHE_BYTES_MAX, NAME_CACHE_ENTRIES_MAX, NAME_RETRY, NAME_STALE};
use crate::time::Instant;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    pub(super) name: Name,
    pub(super) kind: Kind,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// These, all of the kind asked for.
    Records(Vec<Data>),
    /// The same has to be asked of this name.
    Alias(Name),
    /// There is nothing of the kind.
    Nothing,
    /// Nobody answered, or with an excuse only.
    Failed,
}

impl Outcome {
    fn bytes(&self) -> usize {
        match self {
            Self::Records(records) => records
                .iter()
                .fold(0, |sum: usize, record| sum.saturating_add(record.bytes())),
            Self::Alias(name) => name.wire().len(),
            Self::Nothing | Self::Failed => 0,
        }
    }
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) outcome: Outcome,
    pub(super) fresh_until: Instant,
    pub(super) usable_until: Instant,
    /// Key into `Cache::by_use`.
    used: u64,
    bytes: usize,
}

/// See the module.
#[derive(Clone, Default)]
pub(super) struct Cache {
    entries: BTreeMap<Question, Entry>,
    by_use: BTreeMap<u64, Question>,
    uses: u64,
    bytes: usize,
}

impl Cache {
    /// What is known, fresh or still usable.
    pub(super) fn get(&mut self, now: Instant, question: &Question) -> Option<&Entry> {
        if self.entries.get(question)?.usable_until <= now {
            self.remove(question);
            return None;
        }
        self.uses = self.uses.saturating_add(1);
        let entry = self.entries.get_mut(question)?;
        if let Some(question) = self.by_use.remove(&entry.used) {
            self.by_use.insert(self.uses, question);
        }
        entry.used = self.uses;
        Some(entry)
    }

    /// Remembers an answer.
    pub(super) fn insert(&mut self, question: Question, outcome: Outcome, fresh_until: Instant) {
        self.remove(&question);
        // Twice the question, and the nodes that hold it.
        let names = question.name.wire().len().saturating_mul(2);
        let bytes = outcome.bytes().saturating_add(names).saturating_add(256);
        while self.entries.len() >= NAME_CACHE_ENTRIES_MAX
            || self.bytes.saturating_add(bytes) > NAME_CACHE_BYTES_MAX
        {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            self.remove(&oldest);
        }
        self.uses = self.uses.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.by_use.insert(self.uses, question.clone());
        let entry = Entry {
            outcome,
            fresh_until,
            usable_until: fresh_until.plus(NAME_STALE),
            used: self.uses,
            bytes,
        };
        self.entries.insert(question, entry);
    }

    /// Nobody answered: what is known holds until it is asked again, or it is known that nobody does.
    pub(super) fn insert_failure(&mut self, now: Instant, question: Question) {
        let retry = now.plus(NAME_RETRY);
        match self.entries.get_mut(&question) {
            Some(entry) if entry.usable_until > now => entry.fresh_until = retry,
            _ => self.insert(question, Outcome::Failed, retry),
        }
    }

    /// All of it is to be asked again, of other servers.
    pub(super) fn expire_all(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.fresh_until = entry.fresh_until.min(now);
        }
    }

    fn remove(&mut self, question: &Question) {
        if let Some(entry) = self.entries.remove(question) {
            self.by_use.remove(&entry.used);
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
    }

    /// Entries and bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    fn question(n: usize) -> Question {
        Question {
            name: Name::parse(&format!("h{n}.example.com")).unwrap(),
            kind: Kind::A,
        }
    }

    fn at(seconds: u64) -> Instant {
        Instant::default().plus(Duration::from_secs(seconds))
    }

    fn address() -> Outcome {
        Outcome::Records(vec![Data::A(Ipv4Addr::LOCALHOST)])
    }

    #[test]
    fn the_one_used_longest_ago_goes() {
        let mut cache = Cache::default();
        for n in 0..NAME_CACHE_ENTRIES_MAX {
            cache.insert(question(n), address(), at(60));
        }
        assert!(cache.get(at(0), &question(0)).is_some());
        cache.insert(question(NAME_CACHE_ENTRIES_MAX), address(), at(60));
        assert!(cache.get(at(0), &question(0)).is_some());
        assert!(cache.get(at(0), &question(1)).is_none());
        assert_eq!(cache.size().0, NAME_CACHE_ENTRIES_MAX);
    }

    #[test]
    fn an_answer_outlives_its_time_while_nobody_answers_but_not_for_ever() {
        let mut cache = Cache::default();
        let stale = NAME_STALE.as_secs();
        cache.insert(question(1), address(), at(60));
        cache.insert_failure(at(61), question(1));
        let entry = cache.get(at(61), &question(1)).unwrap();
        assert_eq!((&entry.outcome, entry.fresh_until), (&address(), at(91)));
        cache.insert_failure(at(59 + stale), question(1));
        assert!(cache.get(at(59 + stale), &question(1)).is_some());
        cache.insert_failure(at(60 + stale), question(1));
        let entry = cache.get(at(60 + stale), &question(1)).unwrap();
        assert_eq!(entry.outcome, Outcome::Failed);
    }

    proptest! {
        #[test]
        fn entries_and_bytes_are_bounded_and_counted(
            steps in proptest::collection::vec((0u8..3, 0usize..60, 0usize..800), 0..100)
        ) {
            let mut cache = Cache::default();
            for (step, n, records) in steps {
                match step {
                    0 => { cache.get(at(n as u64), &question(n)); }
                    1 => cache.insert_failure(at(n as u64), question(n)),
                    _ => {
                        let data = vec![Data::Cname(question(0).name); records];
                        cache.insert(question(n), Outcome::Records(data), at(60));
                    }
                }
                let bytes: usize = cache.entries.values().map(|entry| entry.bytes).sum();
                prop_assert_eq!(cache.size(), (cache.by_use.len(), bytes));
                prop_assert!(bytes <= NAME_CACHE_BYTES_MAX);
                for (used, question) in &cache.by_use {
                    prop_assert_eq!(cache.entries[question].used, *used);
                }
            }
        }
    }
}
