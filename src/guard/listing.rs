//! Bans as the administration lists them: newest first, then the entries of `deny`; one page at a time, without
//! sorting the whole table (a page of 100,000 bans is found in one pass).

use std::collections::BinaryHeap;

use super::Guard;
use crate::api;
use crate::source::Source;
use crate::store::BanReason;
use crate::time::{Now, UnixTime};

/// Where a page goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cursor {
    /// Behind the ban that began so long before the end of time (newest first), of this source.
    Ban(u64, Source),
    /// Behind this entry of `deny`.
    Deny(usize),
}

impl Cursor {
    fn ban(since: UnixTime, source: Source) -> Self {
        Self::Ban(u64::MAX.saturating_sub(since.as_millis()), source)
    }

    fn read(text: &str) -> Option<Self> {
        match text.split_once('_')? {
            ("deny", at) => at.parse().ok().map(Self::Deny),
            (since, source) => Some(Self::ban(
                UnixTime::from_millis(since.parse().ok()?),
                source.parse().ok()?,
            )),
        }
    }

    fn write(self) -> String {
        match self {
            Self::Ban(age, source) => format!("{}_{source}", u64::MAX.saturating_sub(age)),
            Self::Deny(at) => format!("deny_{at}"),
        }
    }
}

impl Guard {
    /// A page of bans and `deny` entries: at most `limit` behind `after`, which is the `next` of the page before. A
    /// cursor that is none begins at the start.
    pub fn bans(&self, now: Now, after: Option<&str>, limit: usize) -> api::Page<api::Ban> {
        let _ = now;
        let after = after.and_then(Cursor::read);
        let limit = limit.max(1);
        // The first `limit` + 1 behind `after`, the last of them on top.
        let mut first = BinaryHeap::new();
        let bans = (self.bans.iter())
            .chain(self.watched.iter())
            .map(|(source, ban)| Cursor::ban(ban.since, source));
        let deny = (0..self.deny.as_slice().len()).map(Cursor::Deny);
        for cursor in bans
            .chain(deny)
            .filter(|cursor| after.is_none_or(|after| *cursor > after))
        {
            if first.len() <= limit {
                first.push(cursor);
            } else if first.peek().is_some_and(|last| cursor < *last) {
                first.pop();
                first.push(cursor);
            }
        }
        let mut cursors = first.into_sorted_vec();
        let more = cursors.len() > limit;
        cursors.truncate(limit);
        let next = cursors.last().filter(|_| more).map(|cursor| cursor.write());
        api::Page {
            items: cursors
                .into_iter()
                .filter_map(|cursor| self.item(cursor))
                .collect(),
            next,
        }
    }

    /// The ban of this source as the administration shows it.
    pub fn ban_of(&self, source: Source) -> Option<api::Ban> {
        let table = [&self.bans, &self.watched];
        let (ban, table) = table
            .into_iter()
            .find_map(|table| Some((table.get(source)?, table)))?;
        let (last_seen, discarded_estimated) = table.traffic(source);
        Some(api::Ban {
            source: source.to_string(),
            reason: ban.reason,
            failures: ban.failures,
            users: ban.names.strings(),
            first_seen: api::Rfc3339(ban.first_seen),
            last_seen: api::Rfc3339(last_seen.max(ban.last_seen)),
            since: api::Rfc3339(ban.since),
            until: Some(api::Rfc3339(ban.until)),
            discarded_estimated,
        })
    }

    fn item(&self, cursor: Cursor) -> Option<api::Ban> {
        let range = match cursor {
            Cursor::Ban(_, source) => return self.ban_of(source),
            Cursor::Deny(at) => self.deny.as_slice().get(at)?,
        };
        let since = api::Rfc3339(self.since);
        Some(api::Ban {
            source: format!("{}/{}", range.prefix.address, range.prefix.bits),
            reason: BanReason::Deny,
            failures: 0,
            users: Vec::new(),
            first_seen: since,
            last_seen: since,
            since,
            until: None,
            discarded_estimated: range.discarded,
        })
    }
}
