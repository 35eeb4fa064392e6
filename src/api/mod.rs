//! The administration's vocabulary: commands, answers and events as plain data, with their JSON. No sockets.

use serde::Serialize;

use crate::source::Source;
use crate::store::BanReason;
use crate::time::UnixTime;

/// What an administrator asks of the running endpoint.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Command {
    Status,
    /// One page of a list: at most `limit` items behind the item whose cursor is `after`.
    Registrations { after: Option<String>, limit: usize },
    Calls { after: Option<String>, limit: usize },
    Bans { after: Option<String>, limit: usize },
    Ban { source: Source, duration: Option<std::time::Duration> },
    Unban { source: Source },
    Hangup { call: String },
}

/// The endpoint's answer.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Answer {
    Status(Box<Status>),
    Registrations(Page<Registration>),
    Calls(Page<CallItem>),
    Bans(Page<Ban>),
    /// A ban as made.
    Banned(Box<Ban>),
    /// Done, nothing to show.
    Done,
    NotFound(&'static str),
    /// Refused, with the reason (e.g. an address that is a trunk's).
    Refused(String),
}

/// A list's page: `{"items": [...], "next": null}`.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// `GET registrations`; strangers' bytes are made printable (lossy UTF-8).
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Registration {
    pub user: String,
    pub contact: String,
    pub source: String,
    pub transport: &'static str,
    pub user_agent: String,
    pub since: Rfc3339,
    pub expires: Rfc3339,
}

/// `GET calls`
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct CallItem {
    pub id: String,
    pub state: &'static str,
    pub direction: &'static str,
    pub caller: String,
    pub dialled: String,
    pub answered_by: Option<String>,
    pub through: Option<String>,
    pub start: Rfc3339,
    pub answer: Option<Rfc3339>,
}

/// `GET bans`
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Ban {
    pub source: String,
    pub reason: BanReason,
    pub failures: u32,
    pub users: Vec<String>,
    pub first_seen: Rfc3339,
    pub last_seen: Rfc3339,
    pub since: Rfc3339,
    /// `None`: for ever (`deny`).
    pub until: Option<Rfc3339>,
    pub discarded_estimated: u64,
}

/// `GET status`. The endpoint fills what it knows; the shell the rest (memory, kernel, lanes, store).
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Status {
    pub version: &'static str,
    pub uptime_s: u64,
    pub mode: &'static str,
    pub counts: Counts,
    pub memory_bytes: u64,
    pub latency_us: Latency,
    pub guard: GuardStatus,
    pub store: StoreStatus,
    pub misconfigured: Vec<Misconfigured>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Counts {
    pub users: usize,
    pub registrations: usize,
    pub calls: usize,
    pub lines: usize,
    pub trunks: usize,
    pub bans: usize,
}

#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub p50: u64,
    pub p99: u64,
    pub p999: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct GuardStatus {
    pub dropped: u64,
    pub kernel: KernelStatus,
    pub lanes: Vec<LaneStatus>,
    pub reassembly_failures: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct KernelStatus {
    pub active: bool,
    pub bans: usize,
    pub capacity: usize,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct LaneStatus {
    pub name: String,
    pub capacity: usize,
    pub receive_buffer_bytes: usize,
    pub drops: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct StoreStatus {
    pub ok: bool,
    pub error: Option<String>,
    pub pending: usize,
    pub sync_ms: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Misconfigured {
    pub user: String,
    pub source: String,
    pub failures: u32,
}

/// A time that is written as RFC 3339 in UTC with milliseconds: `2026-03-01T12:00:00.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rfc3339(pub UnixTime);

impl std::fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = f;
        todo!()
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Something that happened, for the log (one logfmt line) and later the event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// error, warn, info, debug.
    pub level: log::Level,
    /// `ban`, `register`, `call`, …
    pub name: &'static str,
    /// The stranger or neighbour it is about, for the log's rate limit; `None`: one of our own.
    pub source: Option<Source>,
    /// Further fields in order; values as received, the log escapes them.
    pub fields: Vec<(&'static str, String)>,
}
