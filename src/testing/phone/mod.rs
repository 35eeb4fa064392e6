//! A phone that lives by itself: registers and refreshes, calls, rings, answers or refuses, puts on hold, hangs up, and
//! retransmits as RFC 3261 §17 demands. It is built on the crate's own transaction layer and dialogs; what it does
//! when is drawn from its seed.
//!
//! It reports what a person at the phone would know: which calls got an answer, and which never ended.

mod callee;
mod caller;
pub mod led;
mod register;
mod reliable;
pub mod story;
mod whims;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use self::story::{Diary, End};
use super::agent::{DOMAIN, session};
use super::carrier::{Carrier, Verdict};
use super::random::Random;
use crate::auth::digest::{self, Login};
use crate::config::Secret;
use crate::dialog::Dialog;
use crate::message::{Composer, DigestParams, HeaderName, Message, Method, parse, reason_phrase};
use crate::source::{ConnectionId, Flow, Sink, Transport};
use crate::time::Instant;
use crate::transaction::{ClientId, Expired, Received, ServerId, Transactions};
use crate::transport::{Frame, Framer};

/// Seconds for which a phone subscribes.
const SUBSCRIPTION_S: u64 = 300;

/// RFC 5626 §4.4.1.
const PING: &[u8] = b"\r\n\r\n";

/// A phone has a few calls at most.
const TRANSACTIONS_MAX: usize = 256;

/// How a phone and whoever sits at it behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// Transactions at a time: more for what stands for many phones (a carrier).
    pub transactions_max: usize,
    /// Challenges answered for one request before the phone gives up.
    pub challenges_max: u32,
    /// How long it waits after a refused registration, in milliseconds, from and to.
    pub retry_ms: (u64, u64),
    /// It begins a registration every so many milliseconds, whatever becomes of the one before: broken.
    pub hammers_ms: Option<u64>,
    /// Callers who lose patience, per mille.
    pub impatient: u32,
    /// Called, it is sometimes busy or not at home.
    pub is_moody: bool,
    /// It has 100rel (RFC 3262), and rings reliably where the caller has it too.
    pub is_reliable: bool,
    /// It is answered within this time, in milliseconds ...
    pub answer_ms_max: u64,
    /// ... and one side hangs up within this.
    pub talk_ms_max: u64,
    /// After a message of a call it does something that nobody expects, per mille (`whims`). With any it is called, and
    /// calls, in all the ways that there are.
    pub whims: u32,
    /// It rings until a play tells it what to do (`led`).
    pub is_led: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            transactions_max: TRANSACTIONS_MAX,
            challenges_max: 4,
            retry_ms: (30_000, 30_000),
            hammers_ms: None,
            impatient: 250,
            is_moody: true,
            is_reliable: false,
            answer_ms_max: 8_000,
            talk_ms_max: 60_000,
            whims: 0,
            is_led: false,
        }
    }
}

/// Phones differ in what they know of session timers (RFC 4028). None refreshes by itself: the server is to.
#[derive(Clone, Copy, Debug)]
struct Model {
    knows_timers: bool,
    takes_update: bool,
}

impl Model {
    fn of(user: &str) -> Self {
        let last = user.bytes().last().unwrap_or_default();
        Self {
            knows_timers: last & 1 == 1,
            takes_update: last & 2 == 2,
        }
    }

    fn write_offer(self, composer: &mut Composer<'_>) {
        if self.knows_timers {
            composer
                .field("Supported", &[b"timer"])
                .field("Session-Expires", &[b"90"]);
        }
        self.write_allow(composer);
    }

    fn write_answer(self, composer: &mut Composer<'_>, request: &Message<'_>) {
        if self.knows_timers && request.value(HeaderName::SessionExpires).is_some() {
            composer
                .field("Require", &[b"timer"])
                .field("Session-Expires", &[b"90;refresher=uac"]);
        }
        self.write_allow(composer);
    }

    fn write_allow(self, composer: &mut Composer<'_>) {
        let update: &[u8] = if self.takes_update { b", UPDATE" } else { b"" };
        composer.field("Allow", &[b"INVITE, ACK, CANCEL, BYE, OPTIONS", update]);
    }
}

/// What a transaction of the phone is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Register,
    /// The INVITE of a call of ours.
    Invite(u32),
    Reinvite(u32),
    Incoming(u32),
    /// INFO or UPDATE.
    Within(u32),
    Bye(u32),
    Prack(u32),
    Other,
}

/// What the phone will do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Todo {
    Refresh,
    Ring(u32),
    Answer(u32),
    Refuse(u32, u16),
    Cancel(u32),
    Hold(u32),
    Info(u32),
    HangUp(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Our INVITE has no final response.
    Calling,
    /// Theirs has none of ours.
    Ringing,
    Up,
    /// We answered once more under another tag: no dialog before its ACK comes.
    Doubtful,
    Over,
}

struct Call {
    dialog: Dialog,
    phase: Phase,
    /// Since when it is in this phase.
    since: Instant,
    /// It rings, and the server was told so.
    is_heard: bool,
    /// Our INVITE or re-INVITE that is under way.
    client: Option<ClientId>,
    challenges: u32,
    is_cancelled: bool,
    /// Their INVITE, to answer it.
    server: Option<(ServerId, Vec<u8>)>,
    /// Our 2xx that waits for its ACK: transaction and CSeq number.
    unacknowledged: Option<(ServerId, u32)>,
    /// Our INVITE under way has no offer: the ACK to its 2xx brings the answer.
    offers_late: bool,
    /// It never acknowledges a 2xx.
    is_mute: bool,
    /// Our ACKs by CSeq number.
    acks: BTreeMap<u32, Vec<u8>>,
    must_end: bool,
    /// Ours.
    tag: Vec<u8>,
    reliable: reliable::Reliable,
}

/// How a call of this phone went, as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No final response yet.
    Pending,
    /// This final response.
    Final(u16),
    /// None came in the time that RFC 3261 gives.
    Timeout,
    /// The phone lost its power or its way to the server before one came.
    Cut,
}

impl Outcome {
    /// Who was cut off before needs no other reason.
    fn time_out(&mut self) {
        if *self == Self::Pending {
            *self = Self::Timeout;
        }
    }
}

/// Something that a phone never got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// When it gave up.
    pub at: Instant,
    /// What, for people.
    pub what: String,
    /// Another phone owes it: the ACK to a 2xx, or the answer to INFO or UPDATE, which no server may give in its place
    /// (RFC 4320). Otherwise it is the server's.
    pub is_relayed: bool,
}

/// A call of a phone that is not over for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open<'a> {
    /// Its Call-ID.
    pub call_id: &'a [u8],
    /// Answered; otherwise it rings and the server was told so.
    pub is_up: bool,
    /// Since when.
    pub since: Instant,
}

/// Datagrams or stream bytes that the phone sends.
#[derive(Debug, Default)]
pub struct Sent(pub Vec<Vec<u8>>);

impl Sink for Sent {
    fn send(&mut self, _flow: &Flow, bytes: &[u8]) {
        self.0.push(bytes.to_vec());
    }
}

/// A phone.
pub struct Phone {
    /// Its user.
    pub user: String,
    /// Where it is.
    pub address: SocketAddr,
    /// How it speaks.
    pub transport: Transport,
    /// Turned off: it neither sends nor reads.
    pub is_off: bool,
    /// How its own calls went, by Call-ID.
    pub outcomes: BTreeMap<String, Outcome>,
    /// The server ended a call because an ACK never came, although this phone and the other one send theirs.
    pub accused: bool,
    /// Its last REGISTER got a 200.
    pub is_registered: bool,
    /// When its first one did.
    pub registered_at: Option<Instant>,
    /// Transactions of its own that never got a final response, and 2xx of its own that never got an ACK.
    pub lost: Vec<Lost>,
    /// What it did unasked.
    pub whims_done: u32,
    /// What it has seen.
    pub diary: Diary,
    /// Refer-To of its next REFER.
    refers_to: Option<String>,
    /// Its REGISTER takes its bindings back.
    is_leaving: bool,
    /// What it does when. Set it before the phone does anything.
    pub habits: Habits,
    /// It is the call server of this carrier.
    pub carrier: Option<Box<Carrier>>,
    secret: Secret,
    model: Model,
    flow: Flow,
    random: Random,
    transactions: Transactions<What>,
    registration: Dialog,
    register_challenges: u32,
    is_refreshing: bool,
    challenge: Option<Vec<u8>>,
    nc: u32,
    /// A request within a dialog was challenged: the server does not know it where it is now.
    proves_within: bool,
    calls: BTreeMap<u32, Call>,
    next_call: u32,
    todo: BinaryHeap<Reverse<(Instant, Todo)>>,
    framer: Framer,
    buffer: Vec<u8>,
}

impl Phone {
    /// A phone that was just plugged in.
    pub fn new(
        user: &str,
        password: &str,
        address: SocketAddr,
        server: SocketAddr,
        transport: Transport,
        random: &Random,
    ) -> Self {
        let mut random = random.fork(user);
        let seed = random.bytes();
        let connection = (transport == Transport::Tcp).then_some(ConnectionId(0));
        let flow = Flow {
            transport,
            local: address,
            remote: server,
            connection,
        };
        let mut phone = Self {
            user: user.into(),
            address,
            transport,
            is_off: false,
            outcomes: BTreeMap::new(),
            accused: false,
            is_registered: false,
            registered_at: None,
            lost: Vec::new(),
            whims_done: 0,
            diary: Diary::default(),
            refers_to: None,
            is_leaving: false,
            proves_within: false,
            habits: Habits::default(),
            carrier: None,
            secret: Secret::Password(password.into()),
            model: Model::of(user),
            flow,
            registration: Dialog {
                call_id: Box::default(),
                local: Vec::new(),
                remote: Vec::new(),
                remote_tag: Box::default(),
                remote_target: Box::default(),
                route_set: Box::default(),
                local_cseq: 0,
                remote_cseq: None,
                flow,
                ours: address,
                contact_user: Box::default(),
            },
            random,
            transactions: Transactions::new(&seed, TRANSACTIONS_MAX, TRANSACTIONS_MAX),
            register_challenges: 0,
            is_refreshing: false,
            challenge: None,
            nc: 0,
            calls: BTreeMap::new(),
            next_call: 1,
            todo: BinaryHeap::new(),
            framer: Framer::new(),
            buffer: Vec::new(),
        };
        let own = format!("sip:{user}@{DOMAIN}");
        phone.registration = phone.new_dialog(&own);
        phone.registration.remote_target = format!("sip:{DOMAIN}").into_bytes().into();
        phone
    }

    /// With these habits.
    pub fn with(mut self, habits: Habits) -> Self {
        if habits.transactions_max != self.habits.transactions_max {
            let most = habits.transactions_max;
            self.transactions = Transactions::new(&self.random.bytes(), most, most);
        }
        self.habits = habits;
        self
    }

    /// The power is back, or it was carried elsewhere: it knows its account and perhaps its last nonce, nothing else.
    pub fn reboot(&mut self, address: SocketAddr, keeps_nonce: bool) {
        let mut random = self.random.fork("reboot");
        let most = self.habits.transactions_max;
        self.transactions = Transactions::new(&random.bytes(), most, most);
        self.random = random;
        self.address = address;
        self.flow.local = address;
        self.todo.clear();
        self.calls.clear();
        self.is_registered = false;
        self.registered_at = None;
        self.is_refreshing = false;
        self.lost.clear();
        self.proves_within = false;
        self.framer = Framer::new();
        self.is_cut_off();
        if !keeps_nonce {
            (self.challenge, self.nc) = (None, 0);
        }
        let own = format!("sip:{}@{DOMAIN}", self.user);
        let target = self.registration.remote_target.clone();
        self.registration = self.new_dialog(&own);
        self.registration.remote_target = target;
    }

    /// It no longer hears what answers its calls: the power was gone, or the way.
    pub fn is_cut_off(&mut self) {
        for outcome in self.outcomes.values_mut() {
            if *outcome == Outcome::Pending {
                *outcome = Outcome::Cut;
            }
        }
    }

    fn new_dialog(&mut self, to: &str) -> Dialog {
        let call_id = format!("{:016x}@{}", self.random.next_u64(), self.user);
        let tag = self.random.next_u64();
        Dialog {
            call_id: call_id.into_bytes().into(),
            local: format!("<sip:{}@{DOMAIN}>;tag={tag:x}", self.user).into_bytes(),
            remote: format!("<{to}>").into_bytes(),
            remote_tag: Box::default(),
            remote_target: to.as_bytes().into(),
            route_set: Box::default(),
            local_cseq: 0,
            remote_cseq: None,
            flow: self.flow,
            ours: self.address,
            contact_user: Box::default(),
        }
    }

    /// When the phone next does something by itself.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.is_off {
            return None;
        }
        let todo = self.todo.peek().map(|Reverse((at, _))| *at);
        todo.into_iter()
            .chain(self.transactions.next_deadline())
            .min()
    }

    /// Whether it is in no call and waits for nothing but its next refresh.
    pub fn is_idle(&self) -> bool {
        !self.is_in_call() && self.transactions.live() <= usize::from(self.is_refreshing)
    }

    /// Whether it has a call that is not over.
    pub fn is_in_call(&self) -> bool {
        (self.calls.values()).any(|call| !matches!(call.phase, Phase::Doubtful | Phase::Over))
    }

    /// Its calls that are not over, without those whose INVITE waits for an answer.
    pub fn open_calls(&self) -> impl Iterator<Item = Open<'_>> {
        self.calls.values().filter_map(|call| {
            let is_open = match call.phase {
                Phase::Up => true,
                Phase::Ringing => call.is_heard,
                Phase::Calling | Phase::Doubtful | Phase::Over => false,
            };
            is_open.then_some(Open {
                call_id: &call.dialog.call_id,
                is_up: call.phase == Phase::Up,
                since: call.since,
            })
        })
    }

    /// The call that a message belongs to; what has no To tag yet, to the latest of its Call-ID.
    fn find(&self, message: &Message<'_>, own_tag: Option<&[u8]>) -> Option<u32> {
        (self.calls.iter().rev())
            .find(|(_, call)| {
                *call.dialog.call_id == *message.call_id()
                    && own_tag.is_none_or(|tag| tag == call.tag)
            })
            .map(|(id, _)| *id)
    }

    fn enter(&mut self, now: Instant, id: u32, phase: Phase) {
        if let Some(call) = self.calls.get_mut(&id) {
            (call.phase, call.since) = (phase, now);
        }
    }

    /// What keeps it from being idle, for people.
    pub fn business(&self) -> String {
        let calls: Vec<String> = (self.calls.values())
            .filter(|call| call.phase != Phase::Over)
            .map(|call| {
                let call_id = String::from_utf8_lossy(&call.dialog.call_id);
                let (waits, ends) = (call.unacknowledged.is_some(), call.must_end);
                format!(
                    "{call_id} {:?}, waits for ACK: {waits}, to be ended: {ends}",
                    call.phase
                )
            })
            .collect();
        format!("{} transactions, calls {calls:?}", self.transactions.live())
    }

    /// What is due.
    pub fn tick(&mut self, now: Instant, out: &mut Sent) {
        if self.is_off {
            return;
        }
        while let Some(expired) = self.transactions.expire(now, out) {
            self.expired(now, expired, out);
        }
        while let Some(Reverse((at, todo))) = self.todo.peek().copied() {
            if at > now {
                break;
            }
            self.todo.pop();
            self.act(now, todo, out);
        }
    }

    fn later(&mut self, now: Instant, millis: u64, todo: Todo) {
        self.todo
            .push(Reverse((now.plus(Duration::from_millis(millis)), todo)));
    }

    fn act(&mut self, now: Instant, todo: Todo, out: &mut Sent) {
        match todo {
            Todo::Refresh => self.register(now, out),
            Todo::Ring(id) => self.rings_on(now, id, out),
            Todo::Answer(call) => self.answer(now, call, out),
            Todo::Refuse(id, status) => self.refuse_ringing(now, id, status, out),
            Todo::Cancel(id) => {
                if let Some(call) = self.calls.get_mut(&id)
                    && call.phase == Phase::Calling
                    && let Some(client) = call.client
                {
                    call.is_cancelled = true;
                    self.diary.ends(now, &call.dialog.call_id, End::Cancelled);
                    self.transactions.cancel(now, client, b"", out);
                }
            }
            Todo::Hold(id) => self.hold(now, id, false, out),
            Todo::Info(id) => self.info(now, id, out),
            Todo::HangUp(id) => self.hang_up(now, id, out),
        }
    }

    fn add(
        &mut self,
        now: Instant,
        dialog: Dialog,
        phase: Phase,
        server: Option<(ServerId, Vec<u8>)>,
        tag: Vec<u8>,
    ) -> u32 {
        let id = self.next_call;
        self.next_call += 1;
        let is_own = phase == Phase::Calling;
        self.diary.begins(now, &dialog.call_id, is_own);
        let call = Call {
            dialog,
            phase,
            since: now,
            is_heard: false,
            client: None,
            challenges: 0,
            is_cancelled: false,
            server,
            unacknowledged: None,
            offers_late: false,
            is_mute: false,
            acks: BTreeMap::new(),
            must_end: false,
            tag,
            reliable: reliable::Reliable::default(),
        };
        self.calls.insert(id, call);
        id
    }

    /// Composes and sends a request within a dialog, or one that makes one.
    fn send_request(
        &mut self,
        now: Instant,
        dialog: &mut Dialog,
        method: Method,
        what: What,
        body: &str,
        out: &mut Sent,
    ) -> Option<ClientId> {
        let (client, branch) = self.transactions.reserve()?;
        let cseq = dialog.next_cseq();
        let credentials = (dialog.remote_tag.is_empty() || self.proves_within)
            .then(|| self.credentials(method, &dialog.remote_target))
            .flatten();
        let mut composer = dialog.compose(&mut self.buffer, method, cseq, branch.as_bytes());
        let contact = contact(&self.user, self.address, self.transport);
        composer.field("Contact", &[contact.as_bytes()]);
        if method == Method::Invite {
            self.model.write_offer(&mut composer);
        }
        if let Some(credentials) = &credentials {
            composer.field("Authorization", &[credentials]);
        }
        if method == Method::Invite && self.habits.is_reliable {
            composer.field("Supported", &[b"100rel"]);
        }
        if let (Method::Refer, Some(to)) = (method, &self.refers_to) {
            composer.field("Refer-To", &[to.as_bytes()]);
        }
        if method == Method::Register && self.is_leaving {
            composer.number("Expires", 0);
        }
        if method == Method::Subscribe {
            composer.field("Event", &[b"message-summary"]);
            composer.number("Expires", SUBSCRIPTION_S);
        }
        let kind = match method {
            Method::Info => "application/dtmf-relay",
            Method::Message => "text/plain",
            _ => "application/sdp",
        };
        composer.finish(Some(kind.as_bytes()), body.as_bytes());
        if method == Method::Invite {
            self.diary.asks(&dialog.call_id, cseq);
        }
        self.transactions
            .send(now, client, method, &self.flow, &self.buffer, what, out);
        Some(client)
    }

    /// Its connection is gone, and with it what was half read.
    pub fn disconnected(&mut self) {
        self.framer = Framer::new();
        self.transactions.connection_closed(ConnectionId(0));
    }

    /// Bytes of its connection.
    pub fn receive_stream(&mut self, now: Instant, bytes: &[u8], out: &mut Sent) {
        let mut messages = Vec::new();
        let mut frames = self.framer.feed(bytes);
        while let Some(frame) = frames.next() {
            match frame {
                Frame::Message(message) => messages.push(message.to_vec()),
                Frame::Ping => messages.push(PING.to_vec()),
                Frame::Error(_) => {}
            }
        }
        drop(frames);
        for message in messages {
            if message == PING {
                self.pinged(out);
            } else {
                self.receive(now, &message, out);
            }
        }
    }

    /// One message.
    ///
    /// # Panics
    /// When the server sends what does not parse.
    pub fn receive(&mut self, now: Instant, bytes: &[u8], out: &mut Sent) {
        if self.is_off {
            return;
        }
        if bytes.iter().all(|byte| b"\r\n".contains(byte)) {
            // Phones discard it (RFC 3261 §7.5).
            if self.carrier.is_some() {
                self.pinged(&mut Sent::default());
            }
            return;
        }
        let message = match parse(bytes) {
            Ok(message) => message,
            Err(error) => panic!(
                "the server sent this ({error}):\n{}",
                String::from_utf8_lossy(bytes)
            ),
        };
        if message.is_request() {
            match (self.carrier.as_mut()).map(|carrier| carrier.admit(now, &message, &self.flow)) {
                None | Some(Verdict::Pass) => self.request(now, &message, out),
                Some(Verdict::Absorb) => {}
                Some(Verdict::Answer(answer)) => out.send(&self.flow, &answer),
            }
        } else {
            self.response(now, &message, out);
        }
        if self.habits.whims > 0 {
            self.follows_whim(now, &message, out);
        }
    }

    /// A keep-alive (RFC 5626 §4.4.1). On a stream it is answered.
    fn pinged(&mut self, out: &mut Sent) {
        if let Some(carrier) = &mut self.carrier {
            carrier.seen.pings += 1;
            out.send(&self.flow, b"\r\n");
        }
    }

    fn response(&mut self, now: Instant, response: &Message<'_>, out: &mut Sent) {
        self.diary.hears(response);
        let Some((id, what)) = self.transactions.receive_response(now, response, out) else {
            return;
        };
        match what {
            What::Register => self.register_response(now, response, out),
            What::Invite(call) => self.invite_response(now, call, response, out),
            What::Reinvite(call) => self.reinvite_response(now, call, id, response, out),
            What::Within(_) | What::Bye(_) => self.within_response(now, what, response, out),
            What::Prack(call) => self.prack_response(now, call, response),
            What::Incoming(_) | What::Other => {}
        }
    }

    /// Whether it was cut off while it waited for the answer to this INVITE.
    fn was_cut_off(&self, owner: What) -> bool {
        let What::Invite(id) = owner else {
            return false;
        };
        let call_id = self.calls.get(&id).map(|call| &call.dialog.call_id);
        let call_id = call_id.map(|call_id| String::from_utf8_lossy(call_id));
        call_id.is_some_and(|call_id| self.outcomes.get(&*call_id) == Some(&Outcome::Cut))
    }

    fn loses(&mut self, at: Instant, what: String, is_relayed: bool) {
        self.lost.push(Lost {
            at,
            what,
            is_relayed,
        });
    }

    fn expired(&mut self, now: Instant, expired: Expired<What>, out: &mut Sent) {
        match expired {
            Expired::Timeout { owner, .. } | Expired::TransportFailed { owner, .. } => {
                if !self.was_cut_off(owner) {
                    let is_relayed = matches!(owner, What::Within(_) | What::Prack(_));
                    self.loses(now, format!("the answer to its {owner:?}"), is_relayed);
                }
                match owner {
                    What::Register => self.register_later(now, (5_000, 5_000)),
                    What::Invite(id) => {
                        self.enter(now, id, Phase::Over);
                        if let Some(call) = self.calls.get(&id) {
                            let call_id = String::from_utf8_lossy(&call.dialog.call_id);
                            let outcome = self.outcomes.entry(call_id.into_owned());
                            outcome
                                .and_modify(|outcome| outcome.time_out())
                                .or_insert(Outcome::Timeout);
                        }
                    }
                    What::Reinvite(id) => {
                        if let Some(call) = self.calls.get_mut(&id) {
                            call.client = None;
                        }
                        self.hang_up(now, id, out);
                    }
                    What::Incoming(_)
                    | What::Within(_)
                    | What::Bye(_)
                    | What::Prack(_)
                    | What::Other => {}
                }
            }
            Expired::ProvisionalNotAcknowledged { owner, .. } => {
                self.loses(now, format!("the PRACK to its {owner:?}"), true);
                if let What::Incoming(id) = owner {
                    self.refuse_ringing(now, id, 504, out);
                }
            }
            Expired::NotAcknowledged { owner, .. } => {
                self.loses(now, format!("the ACK to its {owner:?}"), true);
                if let What::Incoming(id) = owner {
                    if let Some(call) = self.calls.get_mut(&id) {
                        call.unacknowledged = None;
                    }
                    self.hang_up(now, id, out);
                }
            }
        }
    }
}

fn contact(user: &str, address: SocketAddr, transport: Transport) -> String {
    let transport = if transport == Transport::Tcp {
        ";transport=tcp"
    } else {
        ""
    };
    format!("<sip:{user}@{address}{transport}>")
}
