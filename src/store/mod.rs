//! What is kept over restarts: rows in and out as plain data, and by which rules they get to the disk and back: `pending` merges
//! what waits, `batches` says what is written when, `restored` what counts at the next start. The SQLite writer (`net::store`)
//! runs on its own thread; the simulator's disk keeps the same rules.

pub mod batches;
pub mod pending;
pub mod restored;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::source::Transport;
use crate::time::UnixTime;

/// What the state file held at start.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Bindings, expired ones left out.
    pub bindings: Vec<BindingRow>,
    /// Bans, ended ones included while their step counts (a step is forgotten for each clean week).
    pub bans: Vec<BanRow>,
    /// Sources that answered right, with the time of the last right answer.
    pub known: Vec<(crate::source::Source, UnixTime)>,
    /// Outside numbers that users have called.
    pub destinations: Vec<DestinationRow>,
    /// What users have dialled for their calls.
    pub features: Vec<FeatureRow>,
    /// MESSAGEs that wait for users who were not there, the first one first.
    pub messages: Vec<MessageRow>,
    /// The nonce key of the last run and when that run made it.
    pub nonce_key: Option<([u8; 32], UnixTime)>,
    /// The key that our Contacts on lines are made with.
    pub line_key: Option<[u8; 32]>,
}

/// Bytes of a piece of memory that several share: all texts of a row are one, and its key has them too.
#[derive(Clone, Default)]
pub struct Text {
    /// `None`: no bytes.
    whole: Option<Arc<[u8]>>,
    start: u32,
    end: u32,
}

impl Text {
    /// What lies in this part of `whole`; nothing, if it does not lie within.
    pub fn part(whole: &Arc<[u8]>, start: usize, end: usize) -> Self {
        let range = u32::try_from(start).ok().zip(u32::try_from(end).ok());
        match range.filter(|_| start < end && end <= whole.len()) {
            Some((start, end)) => Self {
                whole: Some(Arc::clone(whole)),
                start,
                end,
            },
            None => Self::default(),
        }
    }
}

impl std::ops::Deref for Text {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let whole = self.whole.as_deref().unwrap_or_default();
        (whole.get(self.start as usize..self.end as usize)).unwrap_or_default()
    }
}

impl From<Vec<u8>> for Text {
    fn from(bytes: Vec<u8>) -> Self {
        let whole: Arc<[u8]> = bytes.into();
        Self::part(&whole, 0, whole.len())
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl std::hash::Hash for Text {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self))
    }
}

/// A binding, as in table `registrations`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BindingRow {
    /// Address-of-record's user.
    pub user: Arc<str>,
    /// The Contact URI.
    pub contact: Text,
    pub path: Text,
    pub call_id: Text,
    pub cseq: u32,
    pub q: u16,
    pub instance: Text,
    pub reg_id: u32,
    pub user_agent: Text,
    pub transport: Transport,
    /// Our side and the peer's of the flow it came on.
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub since: UnixTime,
    pub expires: UnixTime,
    /// The phone is behind a NAT.
    pub is_behind_nat: bool,
}

/// What tells a binding from all others. Contact URIs alone do not: two phones behind different NATs may register the same
/// one, and are told apart by instance and `reg-id` (RFC 5626 §6).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub struct BindingKey {
    pub user: Arc<str>,
    pub contact: Text,
    pub instance: Text,
    pub reg_id: u32,
}

impl BindingRow {
    /// One of user 100's for tests, over UDP, that says nothing which need not be said.
    #[cfg(test)]
    pub(crate) fn plain(contact: &str, local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            user: "100".into(),
            contact: contact.as_bytes().to_vec().into(),
            path: Text::default(),
            call_id: Text::default(),
            cseq: 1,
            q: 1_000,
            instance: Text::default(),
            reg_id: 0,
            user_agent: Text::default(),
            transport: Transport::Udp,
            local,
            remote,
            since: UnixTime::default(),
            expires: UnixTime::default(),
            is_behind_nat: false,
        }
    }

    /// Its key.
    pub fn key(&self) -> BindingKey {
        BindingKey {
            user: self.user.clone(),
            contact: self.contact.clone(),
            instance: self.instance.clone(),
            reg_id: self.reg_id,
        }
    }
}

/// Why a source is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum BanReason {
    Credentials,
    Scan,
    Deny,
    Manual,
}

/// A ban, as in table `bans`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BanRow {
    pub source: crate::source::Source,
    pub reason: BanReason,
    pub failures: u32,
    /// Names it tried, at most 8.
    pub users: Vec<String>,
    pub first_seen: UnixTime,
    pub last_seen: UnixTime,
    pub since: UnixTime,
    pub until: UnixTime,
    /// How often it was banned: the next ban is `ban` · 2^step, up to `ban_max`.
    pub step: u32,
}

/// An outside number that a user has called, as in table `destinations`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationRow {
    /// Who, and which number.
    pub key: DestinationKey,
    /// When he called it first: that counts as a new one for an hour.
    pub first_called: UnixTime,
    /// When he called it last, as far as it was written: to the day.
    pub last_called: UnixTime,
}

/// What tells it from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub struct DestinationKey {
    pub user: String,
    /// As a trunk is told it.
    pub number: Vec<u8>,
}

/// What a user has dialled for his calls, as in table `features`. Where he has dialled nothing his configuration holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureRow {
    /// Who: the key.
    pub user: String,
    /// The number that all his calls go on to; empty: to none. `None`: not dialled.
    pub forward_always: Option<String>,
    /// Whether nobody reaches him; `None`: not dialled.
    pub do_not_disturb: Option<bool>,
}

impl FeatureRow {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.forward_always.is_none() && self.do_not_disturb.is_none()
    }
}

/// A MESSAGE that waits for a user who was not there, as in table `messages`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageRow {
    /// The key: grows, so that it tells their order.
    pub id: u64,
    /// For whom.
    pub user: String,
    /// When it came.
    pub received: UnixTime,
    /// When it means nothing any more, by its sender's word (Expires) or by its age.
    pub expires: UnixTime,
    /// Who sent it, for the log: a user's name or a number.
    pub sender: String,
    /// Whose share of the room it takes: a user's, trunk's or line's. Empty in files of earlier builds: the sender's.
    pub sharer: String,
    /// Call-ID, CSeq number and From tag of his request: it is kept once.
    pub request: Vec<u8>,
    /// From towards the user: the display name as it stands in a header.
    pub from_display: Vec<u8>,
    /// Its user part, unescaped.
    pub from_user: Vec<u8>,
    /// Its host; `None`: our address as the user's phone knows it.
    pub from_host: Option<String>,
    /// It is a telephone number without a host.
    pub from_tel: bool,
    /// The number that was written to, which To shows.
    pub dialled: Vec<u8>,
    /// Max-Forwards that it goes on with.
    pub max_forwards: u8,
    /// Header lines that go on with it, each ended by CRLF; with Date, and Content-Type if it has one.
    pub headers: Vec<u8>,
    /// Its body.
    pub body: Vec<u8>,
}

/// A call record, field for field as in table `call_records`; `disposition` empty while the call is up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct CallRecord {
    pub id: String,
    pub start: UnixTime,
    pub answer: Option<UnixTime>,
    pub end: Option<UnixTime>,
    pub direction: &'static str,
    pub caller: String,
    pub dialled: String,
    pub answered_by: Option<String>,
    pub through: Option<String>,
    pub forwarded_by: Option<String>,
    pub transferred_by: Option<String>,
    pub related: Option<String>,
    pub source: String,
    pub user_agent: Option<String>,
    pub disposition: &'static str,
    pub status: Option<u16>,
    pub ended_by: Option<&'static str>,
    pub duration_ms: Option<u64>,
    pub talk_ms: Option<u64>,
    pub caller_call_id: String,
    pub callee_call_id: Option<String>,
    /// Reason (RFC 3326) of whoever refused, cancelled or ended it, as he wrote it; at most
    /// [`crate::limits::CALL_REASON_BYTES_MAX`], without control characters.
    pub reason: Option<String>,
}

/// Which call records are wanted; `None`: any. Records of calls that are still up are never among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CdrQuery {
    /// Started at this time or later.
    pub since: Option<UnixTime>,
    /// Started before this time.
    pub until: Option<UnixTime>,
    /// The caller, the dialled number or who answered.
    pub user: Option<String>,
    /// Records in one page: 1 to [`crate::limits::CDR_PAGE_MAX`]; what lies outside counts as the nearer of them.
    pub limit: usize,
    /// `next` of the page before: start and id of its last record, joined by `_`.
    pub after: Option<String>,
}

impl CdrQuery {
    /// Start and id in `after`.
    ///
    /// # Errors
    /// A text for whoever asked: it is no `next` of a page (HTTP: 400).
    pub fn cursor(&self) -> Result<Option<(&str, &str)>, String> {
        let Some(after) = &self.after else {
            return Ok(None);
        };
        match after.split_once('_') {
            Some(cursor) => Ok(Some(cursor)),
            None => Err("after: not the next of an earlier page".into()),
        }
    }
}

/// One thing to keep. The endpoint emits it; the shell hands it to the writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A binding was made or refreshed.
    Binding(Box<BindingRow>),
    /// A binding is gone.
    BindingGone(Box<BindingKey>),
    /// A ban was made or changed.
    Ban(Box<BanRow>),
    /// A ban was lifted and its step forgotten.
    BanGone(crate::source::Source),
    /// A source answered right (at most one change an hour for a source).
    Known(crate::source::Source, UnixTime),
    /// A user has called a new outside number, or one again that he called before (at most one change a day).
    Destination(Box<DestinationRow>),
    /// An outside number is forgotten.
    DestinationGone(Box<DestinationKey>),
    /// A user has dialled something for his calls; a row in which he has dialled nothing is gone.
    Feature(Box<FeatureRow>),
    /// A MESSAGE is to wait for its user.
    Message(Box<MessageRow>),
    /// The one of this id waits no longer.
    MessageGone(u64),
    /// A call was answered (`disposition` empty: `interrupted` if the power goes now) or ended. The call shares it, and
    /// copies it only if it is still held when it must say more.
    Record(Arc<CallRecord>),
    /// This run's nonce key.
    NonceKey([u8; 32], UnixTime),
    /// The key of Contacts on lines: made once, for all runs.
    LineKey([u8; 32]),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_parts_of_what_they_share_and_equal_by_their_bytes() {
        let whole: Arc<[u8]> = b"sip:100@h".to_vec().into();
        let user = Text::part(&whole, 4, 7);
        assert_eq!((&*user, Arc::strong_count(&whole)), (&b"100"[..], 2));
        assert_eq!(user, Text::from(b"100".to_vec()));
        for (start, end) in [(4, 4), (7, 4), (4, 10), (usize::MAX, 4)] {
            assert_eq!(Text::part(&whole, start, end), Text::default());
        }
        assert_eq!(Text::default(), Text::from(Vec::new()));
    }
}
