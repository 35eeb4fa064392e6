//! A phone that lives by itself: registers and refreshes, calls, rings, answers or refuses, puts on hold, hangs up, and
//! retransmits as RFC 3261 §17 demands. It is built on the crate's own transaction layer and dialogs; what it does
//! when is drawn from its seed.
//!
//! It reports what a person at the phone would know: which calls got an answer, and which never ended.

mod callee;
mod reliable;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::Duration;

use super::agent::{DOMAIN, session};
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
    Info(u32),
    Bye(u32),
    Prack(u32),
    Other,
}

/// What the phone will do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Todo {
    Refresh,
    Answer(u32),
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
    Over,
}

struct Call {
    dialog: Dialog,
    phase: Phase,
    /// Our INVITE or re-INVITE that is under way.
    client: Option<ClientId>,
    challenges: u32,
    is_cancelled: bool,
    /// Their INVITE, to answer it.
    server: Option<(ServerId, Vec<u8>)>,
    /// Our 2xx that waits for its ACK: transaction and CSeq number.
    unacknowledged: Option<(ServerId, u32)>,
    /// Our ACKs by CSeq number.
    acks: BTreeMap<u32, Vec<u8>>,
    must_end: bool,
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
    pub lost: Vec<String>,
    /// What it does when. Set it before the phone does anything.
    pub habits: Habits,
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
            habits: Habits::default(),
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
        if !keeps_nonce {
            (self.challenge, self.nc) = (None, 0);
        }
        let own = format!("sip:{}@{DOMAIN}", self.user);
        let target = self.registration.remote_target.clone();
        self.registration = self.new_dialog(&own);
        self.registration.remote_target = target;
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
        let refreshes = usize::from(self.is_refreshing);
        self.calls.values().all(|call| call.phase == Phase::Over)
            && self.transactions.live() <= refreshes
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
            Todo::Answer(call) => self.answer(now, call, out),
            Todo::Cancel(id) => {
                if let Some(call) = self.calls.get_mut(&id)
                    && call.phase == Phase::Calling
                    && let Some(client) = call.client
                {
                    call.is_cancelled = true;
                    self.transactions.cancel(now, client, b"", out);
                }
            }
            Todo::Hold(id) => self.hold(now, id, out),
            Todo::Info(id) => self.info(now, id, out),
            Todo::HangUp(id) => self.hang_up(now, id, out),
        }
    }

    /// Registers, or refreshes.
    pub fn register(&mut self, now: Instant, out: &mut Sent) {
        self.register_challenges = 0;
        self.is_refreshing = true;
        self.send_register(now, out);
        if let Some(every) = self.habits.hammers_ms {
            self.later(now, every, Todo::Refresh);
        }
    }

    /// The next registration, unless one is begun by the clock anyway.
    fn register_later(&mut self, now: Instant, (from, to): (u64, u64)) {
        self.is_refreshing = false;
        if self.habits.hammers_ms.is_none() {
            let wait = if from < to {
                self.random.between(from, to)
            } else {
                from
            };
            self.later(now, wait, Todo::Refresh);
        }
    }

    fn send_register(&mut self, now: Instant, out: &mut Sent) {
        let mut dialog = self.registration.clone();
        self.send_request(now, &mut dialog, Method::Register, What::Register, out);
        self.registration = dialog;
    }

    /// Calls a number.
    pub fn call(&mut self, now: Instant, number: &str, out: &mut Sent) {
        let dialog = self.new_dialog(&format!("sip:{number}@{DOMAIN}"));
        let call_id = String::from_utf8_lossy(&dialog.call_id).into_owned();
        self.outcomes.insert(call_id, Outcome::Pending);
        let id = self.add(dialog, Phase::Calling, None, Vec::new());
        // One in four loses patience; some of them at the very moment when the other side may answer.
        if self.random.chance(self.habits.impatient) {
            let patience = self.random.between(0, 8_000);
            self.later(now, patience, Todo::Cancel(id));
        }
        self.invite(now, id, What::Invite(id), out);
    }

    /// Writes to a number, or asks whether messages wait: nobody minds what comes of it.
    pub fn write(&mut self, now: Instant, number: &str, out: &mut Sent) {
        let method = if number == self.user {
            Method::Subscribe
        } else {
            Method::Message
        };
        let mut dialog = self.new_dialog(&format!("sip:{number}@{DOMAIN}"));
        self.send_request(now, &mut dialog, method, What::Other, out);
    }

    fn add(
        &mut self,
        dialog: Dialog,
        phase: Phase,
        server: Option<(ServerId, Vec<u8>)>,
        tag: Vec<u8>,
    ) -> u32 {
        let id = self.next_call;
        self.next_call += 1;
        let call = Call {
            dialog,
            phase,
            client: None,
            challenges: 0,
            is_cancelled: false,
            server,
            unacknowledged: None,
            acks: BTreeMap::new(),
            must_end: false,
            tag,
            reliable: reliable::Reliable::default(),
        };
        self.calls.insert(id, call);
        id
    }

    fn invite(&mut self, now: Instant, id: u32, what: What, out: &mut Sent) {
        let Some(mut dialog) = self.calls.get(&id).map(|call| call.dialog.clone()) else {
            return;
        };
        let client = self.send_request(now, &mut dialog, Method::Invite, what, out);
        if let Some(call) = self.calls.get_mut(&id) {
            call.dialog = dialog;
            call.client = client;
        }
    }

    /// Composes and sends a request within a dialog, or one that makes one.
    fn send_request(
        &mut self,
        now: Instant,
        dialog: &mut Dialog,
        method: Method,
        what: What,
        out: &mut Sent,
    ) -> Option<ClientId> {
        let (client, branch) = self.transactions.reserve()?;
        let cseq = dialog.next_cseq();
        let credentials = (dialog.remote_tag.is_empty())
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
        if method == Method::Subscribe {
            composer.field("Event", &[b"message-summary"]);
            composer.number("Expires", SUBSCRIPTION_S);
        }
        let (kind, body) = match method {
            Method::Invite => ("application/sdp", session(&self.user, self.address)),
            Method::Info => ("application/dtmf-relay", "Signal=5\r\n".to_owned()),
            Method::Message => ("text/plain", "hello".to_owned()),
            _ => ("", String::new()),
        };
        composer.finish(Some(kind.as_bytes()), body.as_bytes());
        self.transactions
            .send(now, client, method, &self.flow, &self.buffer, what, out);
        Some(client)
    }

    fn credentials(&mut self, method: Method, uri: &[u8]) -> Option<Vec<u8>> {
        let challenge = self.challenge.as_ref()?;
        let params = DigestParams::parse(challenge).ok().flatten()?;
        self.nc += 1;
        let login = Login {
            user: &self.user,
            secret: &self.secret,
            method: method.token().as_bytes(),
            uri,
            nc: self.nc,
            cnonce: b"5f0c",
        };
        digest::answer(&params, &login)
    }

    fn hold(&mut self, now: Instant, id: u32, out: &mut Sent) {
        let may = self.calls.get(&id).is_some_and(|call| {
            call.phase == Phase::Up && call.client.is_none() && call.unacknowledged.is_none()
        });
        if may {
            self.invite(now, id, What::Reinvite(id), out);
        }
    }

    /// A key is pressed.
    fn info(&mut self, now: Instant, id: u32, out: &mut Sent) {
        let up = self.calls.get(&id).filter(|call| call.phase == Phase::Up);
        let Some(mut dialog) = up.map(|call| call.dialog.clone()) else {
            return;
        };
        self.send_request(now, &mut dialog, Method::Info, What::Info(id), out);
        if let Some(call) = self.calls.get_mut(&id) {
            call.dialog = dialog;
        }
    }

    fn hang_up(&mut self, now: Instant, id: u32, out: &mut Sent) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        match call.phase {
            Phase::Over => {}
            Phase::Calling => self.act(now, Todo::Cancel(id), out),
            Phase::Ringing => self.refuse(now, id, 486, out),
            // RFC 3261 §15: the callee sends no BYE before the ACK.
            Phase::Up if call.unacknowledged.is_some() => call.must_end = true,
            Phase::Up => self.bye(now, id, out),
        }
    }

    fn bye(&mut self, now: Instant, id: u32, out: &mut Sent) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.phase = Phase::Over;
        let mut dialog = call.dialog.clone();
        self.send_request(now, &mut dialog, Method::Bye, What::Bye(id), out);
        if let Some(call) = self.calls.get_mut(&id) {
            call.dialog = dialog;
        }
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
            if let Frame::Message(message) = frame {
                messages.push(message.to_vec());
            }
        }
        drop(frames);
        for message in messages {
            self.receive(now, &message, out);
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
        let message = match parse(bytes) {
            Ok(message) => message,
            Err(error) => panic!(
                "the server sent this ({error}):\n{}",
                String::from_utf8_lossy(bytes)
            ),
        };
        if message.is_request() {
            self.request(now, &message, out);
            return;
        }
        let Some((id, what)) = self.transactions.receive_response(now, &message, out) else {
            return;
        };
        match what {
            What::Register => self.register_response(now, &message, out),
            What::Invite(call) => self.invite_response(now, call, &message, out),
            What::Reinvite(call) => self.reinvite_response(now, call, id, &message, out),
            What::Prack(call) => self.prack_response(call, &message),
            What::Incoming(_) | What::Info(_) | What::Bye(_) | What::Other => {}
        }
    }

    fn learn_challenge(&mut self, response: &Message<'_>) {
        if let Some(challenge) = response.value(HeaderName::WwwAuthenticate) {
            (self.challenge, self.nc) = (Some(challenge.to_vec()), 0);
        }
    }

    fn register_response(&mut self, now: Instant, response: &Message<'_>, out: &mut Sent) {
        match response.status() {
            100..=199 => {}
            401 => {
                self.learn_challenge(response);
                if self.register_challenges < self.habits.challenges_max {
                    self.register_challenges += 1;
                    self.send_register(now, out);
                } else {
                    self.is_registered = false;
                    self.register_later(now, self.habits.retry_ms);
                }
            }
            200..=299 => {
                self.is_registered = true;
                self.registered_at.get_or_insert(now);
                self.register_later(now, (200_000, 300_000));
            }
            _ => {
                self.is_registered = false;
                self.register_later(now, self.habits.retry_ms);
            }
        }
    }

    fn invite_response(&mut self, now: Instant, id: u32, response: &Message<'_>, out: &mut Sent) {
        let status = response.status();
        if status < 200 {
            self.provisional(now, id, response, out);
            return;
        }
        let cseq = response.cseq().number;
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if let Some(ack) = call.acks.get(&cseq) {
            out.send(&self.flow, ack);
            return;
        }
        call.client = None;
        if status == 401 && call.challenges < self.habits.challenges_max && !call.is_cancelled {
            call.challenges += 1;
            self.learn_challenge(response);
            self.invite(now, id, What::Invite(id), out);
            return;
        }
        let call_id = String::from_utf8_lossy(&call.dialog.call_id).into_owned();
        self.outcomes.insert(call_id, Outcome::Final(status));
        if status >= 300 {
            call.phase = Phase::Over;
            return;
        }
        call.dialog.establish(response);
        call.phase = Phase::Up;
        let is_cancelled = call.is_cancelled;
        self.accepted(id, response);
        self.acknowledge(id, cseq, out);
        if is_cancelled {
            self.bye(now, id, out);
            return;
        }
        self.plan_call(now, id);
    }

    /// What happens in a call that is up.
    fn plan_call(&mut self, now: Instant, id: u32) {
        let talk = self.random.between(0, self.habits.talk_ms_max);
        self.later(now, talk, Todo::HangUp(id));
        if self.random.chance(300) {
            let when = self.random.between(0, talk);
            self.later(now, when, Todo::Hold(id));
            // A key is pressed while the other side still thinks about it.
            let soon = self.random.between(0, 200);
            self.later(now, when + soon, Todo::Info(id));
        }
    }

    fn acknowledge(&mut self, id: u32, cseq: u32, out: &mut Sent) {
        let branch = format!("z9hG4bK{:x}", self.random.next_u64());
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.dialog
            .compose(&mut self.buffer, Method::Ack, cseq, branch.as_bytes())
            .finish(None, b"");
        out.send(&self.flow, &self.buffer);
        call.acks.insert(cseq, self.buffer.clone());
    }

    fn reinvite_response(
        &mut self,
        now: Instant,
        id: u32,
        client: ClientId,
        response: &Message<'_>,
        out: &mut Sent,
    ) {
        let (status, cseq) = (response.status(), response.cseq().number);
        if status < 200 {
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if let Some(ack) = call.acks.get(&cseq) {
            out.send(&self.flow, ack);
            return;
        }
        if call.client == Some(client) {
            call.client = None;
        }
        match status {
            200..=299 => {
                call.dialog.refresh_target(response);
                self.acknowledge(id, cseq, out);
            }
            // RFC 3261 §12.2.1.2: the peer has forgotten the call.
            408 | 481 => self.hang_up(now, id, out),
            _ => {}
        }
    }

    fn expired(&mut self, now: Instant, expired: Expired<What>, out: &mut Sent) {
        match expired {
            Expired::Timeout { owner, .. } | Expired::TransportFailed { owner, .. } => {
                self.lost.push(format!("{owner:?} unanswered at {now:?}"));
                match owner {
                    What::Register => self.register_later(now, (5_000, 5_000)),
                    What::Invite(id) => {
                        if let Some(call) = self.calls.get_mut(&id) {
                            call.phase = Phase::Over;
                            let call_id =
                                String::from_utf8_lossy(&call.dialog.call_id).into_owned();
                            self.outcomes.insert(call_id, Outcome::Timeout);
                        }
                    }
                    What::Reinvite(id) => {
                        if let Some(call) = self.calls.get_mut(&id) {
                            call.client = None;
                        }
                        self.hang_up(now, id, out);
                    }
                    What::Incoming(_)
                    | What::Info(_)
                    | What::Bye(_)
                    | What::Prack(_)
                    | What::Other => {}
                }
            }
            Expired::ProvisionalNotAcknowledged { owner, .. } => {
                self.lost
                    .push(format!("{owner:?} without PRACK at {now:?}"));
                if let What::Incoming(id) = owner {
                    self.refuse(now, id, 504, out);
                }
            }
            Expired::NotAcknowledged { owner, .. } => {
                self.lost
                    .push(format!("{owner:?} not acknowledged at {now:?}"));
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
