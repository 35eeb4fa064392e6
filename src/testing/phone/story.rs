//! What a phone has seen of its calls, and what it did itself: what the server's records are held against.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// Why a call is over for a phone, or what it did to have it end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It sent CANCEL.
    Cancelled,
    /// It sent BYE.
    SaidBye,
    /// It sent REFER: if that succeeds the call is over.
    Referred,
    /// It sent this refusal.
    Refused(u16),
    /// It was sent CANCEL.
    HeardCancel,
    /// It was sent BYE.
    HeardBye,
    /// Its INVITE got this refusal.
    WasRefused(u16),
}

/// One call as a phone has seen it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Its own INVITE began it.
    pub is_own: bool,
    /// When that was, or when theirs came.
    pub begun: Instant,
    /// When its 2xx was sent, or the first one came.
    pub answered: Option<Instant>,
    /// How it ended, in this order: where messages cross there are several.
    pub ends: Vec<(Instant, End)>,
}

impl Story {
    /// Whether the phone did this.
    pub fn has(&self, end: End) -> bool {
        self.ends.iter().any(|(_, own)| *own == end)
    }
}

/// Final responses to one INVITE by status and To tag.
pub type Finals = BTreeSet<(u16, Vec<u8>)>;

/// All that a phone has seen.
#[derive(Clone, Debug, Default)]
pub struct Diary {
    /// Its calls by Call-ID.
    pub calls: BTreeMap<Vec<u8>, Story>,
    /// For each INVITE of its own (Call-ID, CSeq number) the final responses that came, by status and To tag.
    pub finals: BTreeMap<(Vec<u8>, u32), Finals>,
    /// re-INVITEs that were refused because two of them crossed.
    pub glares: u32,
    /// Reliable provisional responses that it acknowledged.
    pub pracks: u32,
}

impl Diary {
    /// A call begins.
    pub(super) fn begins(&mut self, now: Instant, call_id: &[u8], is_own: bool) {
        let story = Story {
            is_own,
            begun: now,
            answered: None,
            ends: Vec::new(),
        };
        self.calls.entry(call_id.to_vec()).or_insert(story);
    }

    /// It is answered.
    pub(super) fn answered(&mut self, now: Instant, call_id: &[u8]) {
        if let Some(story) = self.calls.get_mut(call_id) {
            story.answered.get_or_insert(now);
        }
    }

    /// It ends, or is to.
    pub(super) fn ends(&mut self, now: Instant, call_id: &[u8], end: End) {
        if let Some(story) = self.calls.get_mut(call_id) {
            story.ends.push((now, end));
        }
    }

    /// An INVITE is sent.
    pub(super) fn asks(&mut self, call_id: &[u8], cseq: u32) {
        self.finals.entry((call_id.to_vec(), cseq)).or_default();
    }

    /// A response came.
    pub(super) fn hears(&mut self, response: &Message<'_>) {
        if response.status() < 200 || response.cseq().method != Method::Invite {
            return;
        }
        let key = (response.call_id().to_vec(), response.cseq().number);
        if let Some(finals) = self.finals.get_mut(&key) {
            let tag = response.to().tag().unwrap_or_default().to_vec();
            finals.insert((response.status(), tag));
        }
    }
}
