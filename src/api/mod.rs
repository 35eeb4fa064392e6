//! The administration's vocabulary: commands, answers and events as plain data, with their JSON. No sockets.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;

use crate::source::Source;
use crate::store::{BanReason, CallRecord};

pub mod http;
mod rfc3339;

pub use rfc3339::{Rfc3339, Rfc3339Error};

/// What an administrator asks of the running endpoint.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Command {
    Status,
    /// One page of a list: at most `limit` items behind the item whose cursor is `after`.
    Registrations {
        after: Option<String>,
        limit: usize,
    },
    Calls {
        after: Option<String>,
        limit: usize,
    },
    Bans {
        after: Option<String>,
        limit: usize,
    },
    Ban {
        source: Source,
        duration: Option<std::time::Duration>,
    },
    Unban {
        source: Source,
    },
    Hangup {
        call: String,
    },
    /// What is known of the addresses of these trunks.
    Reached {
        trunks: Vec<String>,
    },
    /// What these users have dialled for their calls, and how many messages wait for them.
    Users {
        users: Vec<String>,
    },
    Lines {
        after: Option<String>,
        limit: usize,
    },
    /// One line by its name.
    Line {
        line: String,
    },
    /// It registers now, or a few seconds after it did so last.
    RegisterLine {
        line: String,
    },
}

/// The endpoint's answer.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Answer {
    Status(Box<Status>),
    Registrations(Page<Registration>),
    Calls(Page<CallItem>),
    Bans(Page<Ban>),
    /// For each trunk that was asked about its addresses; none of one that there is not.
    Reached(Vec<Vec<Reached>>),
    /// For each user that was asked about: what he has dialled, and how many messages wait for him.
    Users(Vec<(Dialled, usize)>),
    Lines(Page<Line>),
    /// A line as it is.
    Line(Box<Line>),
    /// A ban as made.
    Banned(Box<Ban>),
    /// Done, nothing to show.
    Done,
    /// What there is not.
    NotFound(String),
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

/// `GET cdrs`: a call record as the state file's table `call_records` has it, field for field and in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Cdr {
    pub id: String,
    pub start: Rfc3339,
    pub answer: Option<Rfc3339>,
    pub end: Option<Rfc3339>,
    /// `internal`, `incoming`, `outgoing`, `transit`
    pub direction: String,
    pub caller: String,
    pub dialled: String,
    pub answered_by: Option<String>,
    /// `line:NAME` or `trunk:NAME`
    pub through: Option<String>,
    pub forwarded_by: Option<String>,
    pub transferred_by: Option<String>,
    /// `id` of the record that it belongs to.
    pub related: Option<String>,
    pub source: String,
    pub user_agent: Option<String>,
    /// `answered`, `no_answer`, `busy`, `cancelled`, `rejected`, `failed`, `interrupted`
    pub disposition: String,
    /// SIP status code.
    pub status: Option<u16>,
    /// `caller`, `callee`, `server`
    pub ended_by: Option<String>,
    pub duration_ms: Option<u64>,
    pub talk_ms: Option<u64>,
    pub caller_call_id: String,
    pub callee_call_id: Option<String>,
    /// Reason (RFC 3326) of whoever refused, cancelled or ended it: `Q.850;cause=17;text="User busy"`
    pub reason: Option<String>,
}

/// `GET lines`
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub struct Line {
    pub name: String,
    pub account: String,
    /// `registered`, `registering`, `refused`, `unreachable`, `off`
    pub state: &'static str,
    /// SIP status code of the last answer.
    pub status: Option<u16>,
    /// The last answer in words.
    pub reason: Option<String>,
    pub since: Option<Rfc3339>,
    pub expires: Option<Rfc3339>,
    pub next_attempt: Option<Rfc3339>,
}

/// What is known of an address of a trunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Reached {
    pub address: String,
    /// `up`, `down`, `unknown`
    pub state: &'static str,
    /// Its last answer, or why there is none, in words.
    pub status: Option<String>,
    /// Since when the state is what it is.
    pub since: Option<Rfc3339>,
}

/// What a user has dialled for his calls, as `GET users` shows it: `None` where his configuration holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dialled {
    /// The number that all his calls go on to; empty: to none.
    pub forward_always: Option<String>,
    /// Whether nobody reaches him.
    pub do_not_disturb: Option<bool>,
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
    /// That wait for users who are not there.
    pub messages: usize,
    /// In progress.
    pub transactions: usize,
    /// Over, their answer kept for when the request comes again.
    pub transactions_completed: usize,
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

/// Something that happened, for the log (one logfmt line) and later the event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// error, warn, info, debug.
    pub level: log::Level,
    /// `ban`, `register`, `call`, …
    pub name: &'static str,
    /// The stranger or neighbour it is about, for the log's rate limit; `None`: one of our own.
    pub source: Option<Source>,
    /// Further fields.
    pub fields: Fields,
}

/// What an event says further, as names and values in order; values as received, the log escapes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fields {
    /// These.
    Listed(Vec<(&'static str, String)>),
    /// What a call's record says at that moment: written out only if the log wants the line.
    OfCall(CallStage, Arc<CallRecord>),
}

/// How far a call is that an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStage {
    /// It begins: who calls whom.
    Begun,
    /// It was refused before it began.
    Refused,
    /// Somebody has answered.
    Answered,
    /// It is over.
    Ended,
}

impl From<Vec<(&'static str, String)>> for Fields {
    fn from(fields: Vec<(&'static str, String)>) -> Self {
        Self::Listed(fields)
    }
}

impl Event {
    /// Its further fields.
    pub fn fields(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        match &self.fields {
            Fields::Listed(fields) => (fields.iter())
                .map(|(name, value)| (*name, Cow::Borrowed(value.as_str())))
                .collect(),
            Fields::OfCall(stage, record) => stage.fields(record),
        }
    }
}

impl CallStage {
    fn fields(self, record: &CallRecord) -> Vec<(&'static str, Cow<'_, str>)> {
        let mut fields = vec![("id", Cow::Borrowed(record.id.as_str()))];
        if matches!(self, Self::Begun | Self::Refused) {
            fields.push(("caller", record.caller.as_str().into()));
            fields.push(("dialled", record.dialled.as_str().into()));
        }
        if matches!(self, Self::Refused | Self::Ended) {
            let status = record.status.unwrap_or_default();
            fields.push(("disposition", record.disposition.into()));
            fields.push(("status", status.to_string().into()));
        }
        match self {
            Self::Begun | Self::Refused => {}
            Self::Answered => {
                let by = record.answered_by.as_deref().unwrap_or_default();
                fields.push(("by", by.into()));
            }
            Self::Ended => {
                let talk_ms = record.talk_ms.unwrap_or_default();
                fields.push(("ended_by", record.ended_by.unwrap_or_default().into()));
                fields.push(("talk_ms", talk_ms.to_string().into()));
                let reason = record.reason.as_deref();
                fields.extend(reason.map(|reason| ("reason", reason.into())));
            }
        }
        fields
    }
}

/// The JSON shapes are a promise to other people's scripts, so they stand here as literal text.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::UnixTime;

    #[test]
    fn the_events_of_a_call_say_what_its_record_says() {
        let mut record = CallRecord {
            id: "7".into(),
            caller: "100".into(),
            dialled: "200".into(),
            answered_by: Some("201".into()),
            ..CallRecord::default()
        };
        let said = |stage: CallStage, record: &CallRecord| {
            let event = Event {
                level: log::Level::Info,
                name: "call",
                source: None,
                fields: Fields::OfCall(stage, Arc::new(record.clone())),
            };
            let fields = event.fields().into_iter();
            let words: Vec<String> = fields
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            words.join(" ")
        };
        assert_eq!(
            said(CallStage::Begun, &record),
            "id=7 caller=100 dialled=200"
        );
        assert_eq!(said(CallStage::Answered, &record), "id=7 by=201");
        record.disposition = "answered";
        record.status = Some(200);
        record.ended_by = Some("callee");
        record.talk_ms = Some(1_500);
        let refused = "id=7 caller=100 dialled=200 disposition=answered status=200";
        assert_eq!(said(CallStage::Refused, &record), refused);
        let ended = "id=7 disposition=answered status=200 ended_by=callee talk_ms=1500";
        assert_eq!(said(CallStage::Ended, &record), ended);
        record.reason = Some("Q.850;cause=16".into());
        let ended = format!("{ended} reason=Q.850;cause=16");
        assert_eq!(said(CallStage::Ended, &record), ended);
    }

    fn at(millis: u64) -> Rfc3339 {
        Rfc3339(UnixTime::from_millis(millis))
    }

    fn json(value: &impl Serialize) -> String {
        serde_json::to_string(value).expect("plain data has a JSON form")
    }

    #[test]
    fn page_says_null_at_its_end() {
        let page = Page {
            items: vec![1, 2],
            next: None,
        };
        assert_eq!(json(&page), r#"{"items":[1,2],"next":null}"#);
        let page = Page::<u8> {
            items: vec![],
            next: Some("b".into()),
        };
        assert_eq!(json(&page), r#"{"items":[],"next":"b"}"#);
    }

    #[test]
    fn registration_shape() {
        let item = Registration {
            user: "100".into(),
            contact: "sip:100@192.0.2.7:5062".into(),
            source: "192.0.2.7:5062".into(),
            transport: "udp",
            user_agent: "Yea\"link".into(),
            since: at(0),
            expires: at(600_000),
        };
        assert_eq!(
            json(&item),
            concat!(
                r#"{"user":"100","contact":"sip:100@192.0.2.7:5062","source":"192.0.2.7:5062","transport":"udp","#,
                r#""user_agent":"Yea\"link","since":"1970-01-01T00:00:00.000Z","#,
                r#""expires":"1970-01-01T00:10:00.000Z"}"#
            )
        );
    }

    #[test]
    fn call_shape() {
        let item = CallItem {
            id: "c1".into(),
            state: "ringing",
            direction: "internal",
            caller: "100".into(),
            dialled: "101".into(),
            answered_by: None,
            through: None,
            start: at(1),
            answer: None,
        };
        assert_eq!(
            json(&item),
            concat!(
                r#"{"id":"c1","state":"ringing","direction":"internal","caller":"100","dialled":"101","#,
                r#""answered_by":null,"through":null,"start":"1970-01-01T00:00:00.001Z","answer":null}"#
            )
        );
    }

    #[test]
    fn line_shape() {
        let item = Line {
            name: "gd-ims".into(),
            account: "+8612345678".into(),
            state: "refused",
            status: Some(403),
            reason: Some("Forbidden".into()),
            since: None,
            expires: None,
            next_attempt: Some(at(1_000)),
        };
        assert_eq!(
            json(&item),
            concat!(
                r#"{"name":"gd-ims","account":"+8612345678","state":"refused","status":403,"#,
                r#""reason":"Forbidden","since":null,"expires":null,"#,
                r#""next_attempt":"1970-01-01T00:00:01.000Z"}"#
            )
        );
    }

    #[test]
    fn ban_shape() {
        let item = Ban {
            source: "2001:db8::/64".into(),
            reason: BanReason::Credentials,
            failures: 5,
            users: vec!["100".into(), "admin".into()],
            first_seen: at(0),
            last_seen: at(1_000),
            since: at(1_000),
            until: None,
            discarded_estimated: 2_048,
        };
        assert_eq!(
            json(&item),
            concat!(
                r#"{"source":"2001:db8::/64","reason":"credentials","failures":5,"users":["100","admin"],"#,
                r#""first_seen":"1970-01-01T00:00:00.000Z","last_seen":"1970-01-01T00:00:01.000Z","#,
                r#""since":"1970-01-01T00:00:01.000Z","until":null,"discarded_estimated":2048}"#
            )
        );
        let words = [
            BanReason::Credentials,
            BanReason::Scan,
            BanReason::Deny,
            BanReason::Manual,
        ];
        assert_eq!(json(&words), r#"["credentials","scan","deny","manual"]"#);
    }

    #[test]
    fn cdr_shape() {
        let item = Cdr {
            id: "r1".into(),
            start: at(0),
            answer: Some(at(2_000)),
            end: Some(at(5_500)),
            direction: "outgoing".into(),
            caller: "100".into(),
            dialled: "9110".into(),
            answered_by: Some("110".into()),
            through: Some("trunk:office-b".into()),
            forwarded_by: None,
            transferred_by: None,
            related: None,
            source: "192.0.2.7".into(),
            user_agent: Some("Snom".into()),
            disposition: "answered".into(),
            status: Some(200),
            ended_by: Some("caller".into()),
            duration_ms: Some(5_500),
            talk_ms: Some(3_500),
            caller_call_id: "a@b".into(),
            callee_call_id: Some("c@d".into()),
            reason: Some("Q.850;cause=16;text=\"bye\"".into()),
        };
        assert_eq!(
            json(&item),
            concat!(
                r#"{"id":"r1","start":"1970-01-01T00:00:00.000Z","answer":"1970-01-01T00:00:02.000Z","#,
                r#""end":"1970-01-01T00:00:05.500Z","direction":"outgoing","caller":"100","dialled":"9110","#,
                r#""answered_by":"110","through":"trunk:office-b","forwarded_by":null,"transferred_by":null,"#,
                r#""related":null,"source":"192.0.2.7","user_agent":"Snom","disposition":"answered","#,
                r#""status":200,"ended_by":"caller","duration_ms":5500,"talk_ms":3500,"#,
                r#""caller_call_id":"a@b","callee_call_id":"c@d","reason":"Q.850;cause=16;text=\"bye\""}"#
            )
        );
    }

    #[test]
    fn status_shape() {
        let misconfigured = Misconfigured {
            user: "102".into(),
            source: "192.0.2.9".into(),
            failures: 40,
        };
        let status = Status {
            version: "0.1.0",
            uptime_s: 7,
            mode: "enforce",
            guard: GuardStatus {
                lanes: vec![LaneStatus {
                    name: "registered".into(),
                    ..LaneStatus::default()
                }],
                ..GuardStatus::default()
            },
            store: StoreStatus {
                ok: true,
                error: None,
                pending: 3,
                sync_ms: 12,
            },
            misconfigured: vec![misconfigured],
            ..Status::default()
        };
        assert_eq!(
            json(&status),
            concat!(
                r#"{"version":"0.1.0","uptime_s":7,"mode":"enforce","#,
                r#""counts":{"users":0,"registrations":0,"calls":0,"lines":0,"trunks":0,"bans":0,"messages":0,"transactions":0,"transactions_completed":0},"#,
                r#""memory_bytes":0,"latency_us":{"p50":0,"p99":0,"p999":0},"#,
                r#""guard":{"dropped":0,"kernel":{"active":false,"bans":0,"capacity":0,"reason":null},"#,
                r#""lanes":[{"name":"registered","capacity":0,"receive_buffer_bytes":0,"drops":0}],"#,
                r#""reassembly_failures":0},"store":{"ok":true,"error":null,"pending":3,"sync_ms":12},"#,
                r#""misconfigured":[{"user":"102","source":"192.0.2.9","failures":40}]}"#
            )
        );
    }
}
