//! The server's door: whatever leaves it passes here, bytes to peers and rows to the disk, and is held against what must hold
//! at any time. What that is stands in `judge`; here is what has to be remembered for it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash};
use std::net::SocketAddr;
use std::time::Duration;

use super::judge;
use crate::api::{Event, Registration};
use crate::source::{ConnectionId, Source};
use crate::store::pending::{Lost, Pending};
use crate::store::{BanReason, Change};
use crate::testing::disk::Rows;
use crate::testing::reader::{self, First, Reading};
use crate::time::{Instant, Now, UnixTime};

/// What a server that is not right may do: each is played so that it is seen that somebody notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// No BYE of it ever leaves.
    DropByes,
    /// The record of an answered call is forgotten when the call is over.
    ForgetRecord,
    /// A row that has been on the disk for long is gone after a restart.
    LoseWrite,
    /// The key of its nonces is not kept.
    ForgetNonceKey,
    /// An honest source is banned.
    BanHonest,
    /// Right answers to a challenge are counted as wrong ones.
    ChargeHonest,
    /// A banned source is answered.
    AnswerBanned,
    /// In the end nothing is done any more that is due, so that something is left over.
    StopTicking,
    /// What it sends means something else to others than to itself.
    Misread,
    /// No refusal of an INVITE ever leaves.
    DropRefusals,
    /// It takes more calls than it may.
    NoBound,
    /// Who guesses passwords is not banned soon.
    ForgiveCrackers,
    /// An answered call has two records.
    DoubleRecord,
}

impl Sabotage {
    /// All of them, and what is said about it.
    pub const ALL: [(Self, &str); 13] = [
        (Self::DropByes, "is left in a call"),
        (Self::ForgetRecord, "interrupted when it was over"),
        (Self::LoseWrite, "not on the disk as it was kept: bindings"),
        (
            Self::ForgetNonceKey,
            "not on the disk as it was kept: the key of the nonces",
        ),
        (
            Self::BanHonest,
            "honest source was charged: Event { level: Warn, name: \"ban\"",
        ),
        (Self::ChargeHonest, "an honest source was charged"),
        (Self::AnswerBanned, "something was sent to the banned"),
        (Self::StopTicking, "after silence there is left"),
        (Self::Misread, "the server would not read what it sent"),
        (Self::DropRefusals, "the INVITE of"),
        (Self::NoBound, "tables out of bounds"),
        (Self::ForgiveCrackers, "it is not banned"),
        (Self::DoubleRecord, "the answered call"),
    ];
}

/// Contacts that a user was told are registered.
#[derive(Clone, Debug)]
struct Granted {
    at: Instant,
    /// Each with its end.
    contacts: Vec<(Vec<u8>, Instant)>,
}

/// How much later than it was made a 200 may come once more.
const REPEATED: Duration = Duration::from_secs(40);

/// See the module.
#[derive(Clone, Debug)]
pub struct Door {
    /// What must not be, in order. One is enough.
    pub faults: Vec<String>,
    /// What is done to the server.
    pub sabotage: Option<Sabotage>,
    /// Datagrams that left.
    pub sent: u64,
    /// The network corrupts what honest phones send, so that it may be taken for anything.
    pub is_damaging: bool,
    /// Everything that left, when, and to whom: two runs of a seed have the same.
    pub trace: DefaultHasher,
    honest: BTreeSet<Source>,
    /// Honest sources from which somebody else sends what is wrong: a cracker behind the same NAT, or a forger who has heard what they
    /// answered to challenges.
    pub shared: BTreeSet<Source>,
    banned: BTreeSet<Source>,
    /// What has left on each connection and is no whole message yet.
    streams: BTreeMap<ConnectionId, Vec<u8>>,
    granted: BTreeMap<Vec<u8>, Granted>,
    /// What was surely to be kept, and what was wanted kept since.
    sure: Rows,
    later: Vec<(Now, Change)>,
    /// Whose record is forgotten.
    victim: Option<String>,
}

impl Door {
    /// Of a server whose disk has these rows, with these honest sources around it.
    pub fn new(honest: BTreeSet<Source>, rows: &Rows, sabotage: Option<Sabotage>) -> Self {
        Self {
            faults: Vec::new(),
            sabotage,
            sent: 0,
            is_damaging: false,
            trace: DefaultHasher::new(),
            honest,
            shared: BTreeSet::new(),
            banned: BTreeSet::new(),
            streams: BTreeMap::new(),
            granted: BTreeMap::new(),
            sure: rows.clone(),
            later: Vec::new(),
            victim: None,
        }
    }

    /// Something is not as it must be.
    pub fn fault(&mut self, at: Instant, what: &str) {
        if self.faults.is_empty() {
            let millis = at.as_micros() / 1_000;
            self.faults.push(format!("at {millis} ms: {what}"));
        }
    }

    fn hold(&mut self, at: Instant, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.fault(at, &what);
        }
    }

    /// A datagram leaves; `None`: it does not.
    pub fn leaves(&mut self, now: Now, to: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        self.sent += 1;
        let mut bytes = bytes.to_vec();
        match self.sabotage {
            Some(Sabotage::DropByes) if bytes.starts_with(b"BYE ") => return None,
            Some(Sabotage::DropRefusals) if is_refusal(&bytes) => return None,
            Some(Sabotage::Misread) if self.sent.is_multiple_of(100) => misread(&mut bytes),
            _ => {}
        }
        // What is registered over a connection lives with it, and is kept nowhere.
        if let Some(reading) = self.look(now.mono, to, &bytes) {
            self.note(now.mono, &reading);
        }
        Some(bytes)
    }

    /// Bytes leave on a connection: the messages in them are looked at as those of datagrams are.
    pub fn flows(&mut self, now: Now, connection: ConnectionId, to: SocketAddr, bytes: &[u8]) {
        let mut waiting = self.streams.remove(&connection).unwrap_or_default();
        waiting.extend_from_slice(bytes);
        let mut rest = waiting.as_slice();
        loop {
            match reader::frame(rest) {
                Ok(Some((message, behind))) => {
                    self.sent += 1;
                    self.look(now.mono, to, message);
                    rest = behind;
                }
                Ok(None) => break,
                Err(what) => {
                    let sent = String::from_utf8_lossy(rest);
                    self.fault(now.mono, &format!("a stream ends in {what}: {sent}"));
                    return;
                }
            }
        }
        if rest.iter().any(|byte| !b"\r\n".contains(byte)) {
            let rest = rest.to_vec();
            self.streams.insert(connection, rest);
        }
    }

    /// The server closes a connection, or loses it.
    pub fn closes(&mut self, now: Now, connection: ConnectionId) {
        if let Some(rest) = self.streams.remove(&connection) {
            let rest = String::from_utf8_lossy(&rest);
            self.fault(now.mono, &format!("a stream ends within a message: {rest}"));
        }
    }

    /// A message leaves.
    fn look<'a>(&mut self, now: Instant, to: SocketAddr, bytes: &'a [u8]) -> Option<Reading<'a>> {
        (now, to, bytes).hash(&mut self.trace);
        let is_banned = self.banned.contains(&Source::of(to.ip()));
        self.hold(now, judge::a_banned_source_gets_nothing(is_banned, to));
        match judge::all_read_the_same(bytes) {
            Ok(reading) => reading,
            Err(what) => {
                self.fault(now, &what);
                None
            }
        }
    }

    /// What a phone is told of its registration counts.
    fn note(&mut self, now: Instant, reading: &Reading<'_>) {
        let First::Response(200..=299) = reading.first else {
            return;
        };
        if reading.cseq.1 != b"REGISTER" {
            return;
        }
        let contacts = reading.contacts.iter().filter_map(|value| {
            let (seconds, uri) = (reader::contact_expires(value)?, reader::uri(value));
            let lasts = Duration::from_secs(seconds.into()).saturating_sub(REPEATED);
            // One over TCP lives with its connection.
            let is_stream = memchr::memmem::find(uri, b"transport=tcp").is_some();
            (!is_stream).then(|| (uri.to_vec(), now.plus(lasts)))
        });
        let granted = Granted {
            at: now,
            contacts: contacts.collect(),
        };
        self.granted
            .insert(reader::user(reading.to).to_vec(), granted);
    }

    /// A ban begins.
    pub fn bans(&mut self, source: Source) {
        self.banned.insert(source);
        if let Err(what) = judge::an_honest_source_is_not_banned(&self.honest, source) {
            self.faults.push(what);
        }
    }

    /// Something is logged.
    pub fn says(&mut self, now: Now, event: &Event) {
        let is_shared = event
            .source
            .is_some_and(|source| self.shared.contains(&source));
        if !self.is_damaging && !is_shared {
            let verdict = judge::an_honest_source_is_not_charged(&self.honest, event);
            self.hold(now.mono, verdict);
        }
    }

    /// A change is to be kept. False: nobody is told of it.
    pub fn keeps(&mut self, now: Now, change: &Change) -> bool {
        if let (Some(Sabotage::ForgetRecord), Change::Record(record)) = (self.sabotage, change)
            && record.disposition == "answered"
        {
            self.victim.get_or_insert_with(|| record.id.clone());
        }
        if self.forgets(change) {
            // The loss of a record is to be seen by who was in the call, not from here.
            if matches!(change, Change::Record(_)) {
                return false;
            }
        }
        self.later.push((now, change.clone()));
        true
    }

    /// Whether sabotage keeps this from the disk.
    pub fn forgets(&self, change: &Change) -> bool {
        match (self.sabotage, change) {
            (Some(Sabotage::ForgetNonceKey), Change::NonceKey(..)) => true,
            (Some(Sabotage::ForgetRecord), Change::Record(record)) => {
                self.victim.as_ref() == Some(&record.id) && !record.disposition.is_empty()
            }
            _ => false,
        }
    }

    /// The process is gone, and its connections.
    pub fn ends(&mut self) {
        self.streams.clear();
    }

    /// The process is gone, or simply looked at: what was to be kept until `sure` is on the disk.
    pub fn look_at_disk(&mut self, now: Instant, sure: Instant, rows: &Rows) {
        let mut touched = Pending::default();
        for (at, change) in std::mem::take(&mut self.later) {
            if at.mono <= sure {
                self.sure.take(change, at.unix);
            } else {
                touched.merge(change, at.unix, &mut Lost::default());
            }
        }
        let verdict = judge::nothing_acknowledged_is_lost(&self.sure, &touched, rows);
        self.hold(now, verdict);
    }

    /// A new process begins with these rows.
    pub fn begins(&mut self, rows: &Rows, now: UnixTime) {
        self.sure = rows.clone();
        let bans = rows.bans.values();
        let holding = bans.filter(|ban| ban.until > now && ban.reason != BanReason::Scan);
        self.banned = holding.map(|ban| ban.source).collect();
    }

    /// What it says is registered: what phones were told until `sure`, and since the wall clock jumped last.
    pub fn look_at_registrations(
        &mut self,
        now: Instant,
        (jumped, sure): (Instant, Instant),
        registrations: &[Registration],
    ) {
        let mut verdict = Ok(());
        // What may be lost with this process is not asked of the next one either.
        self.granted.retain(|_, granted| granted.at <= sure);
        for (user, granted) in &self.granted {
            if granted.at < jumped {
                continue;
            }
            let live = granted.contacts.iter().filter(|(_, until)| *until > now);
            for (contact, _) in live {
                verdict = verdict
                    .and_then(|()| judge::a_registration_lasts(user, contact, registrations));
            }
        }
        self.hold(now, verdict);
    }
}

/// Whether it says no to an INVITE, but not for want of credentials.
fn is_refusal(bytes: &[u8]) -> bool {
    let [.., status, _, _] = bytes.first_chunk::<11>().copied().unwrap_or_default();
    let is_challenge = bytes.starts_with(b"SIP/2.0 401") || bytes.starts_with(b"SIP/2.0 407");
    let is_invite = || memchr::memmem::find(bytes, b" INVITE\r\n").is_some();
    bytes.starts_with(b"SIP/2.0 ")
        && (b'4'..=b'6').contains(&status)
        && !is_challenge
        && is_invite()
}

/// A message that has a field twice: each reader takes another one for it.
fn misread(bytes: &mut Vec<u8>) {
    const FIELD: &[u8] = b"\r\nCall-ID: ";
    if let Some(at) = memchr::memmem::find(bytes, FIELD) {
        bytes.splice(at..at, b"\r\nCall-ID: 1".iter().copied());
    }
}
