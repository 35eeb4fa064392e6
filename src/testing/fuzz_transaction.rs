//! Fuzz body of the transactions: a program of what comes, what their users answer and how time passes, beside a model of
//! RFC 3261 §17 and RFC 6026. Not a message may leave that the model does not send, none too early or too late, and none
//! may be missing; what an owner is told is what the RFCs tell him, and 64·T1 after the last final response nothing is left.
//! INVITEs are cancelled, provisional responses wait for their PRACK (RFC 3262), and connections close, with and without another
//! one to the same peer.

use std::net::SocketAddr;
use std::time::Duration;

use crate::limits::{T1, T1_64, T2, T4};
use crate::message::{Composer, HeaderName, Method, parse};
use crate::source::{ConnectionId, Flow, Sink, Transport};
use crate::time::Instant;
use crate::transaction::{ClientId, Expired, Received, ServerId, Transactions};

/// Steps of one program.
const STEPS_MAX: usize = 64;
/// More than a program can open: nothing is evicted.
const ROOM: usize = 2 * STEPS_MAX;

const PAUSES_MS: [u64; 16] = [
    0, 1, 20, 499, 500, 501, 1_000, 1_500, 3_500, 4_000, 5_000, 7_500, 31_999, 32_000, 32_001,
    64_000,
];
const STATUSES: [u16; 8] = [100, 180, 183, 200, 202, 302, 486, 603];

/// What left, and when.
#[derive(Default)]
struct Out {
    now: Instant,
    sent: Vec<(Instant, Sent)>,
}

/// A message that left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Sent {
    /// The transaction's own ACK, for the INVITE of this branch.
    Ack(Vec<u8>),
    /// The same for its CANCEL.
    Cancel(Vec<u8>),
    /// What its user gave it, byte for byte.
    Given(Vec<u8>),
}

impl Sink for Out {
    fn send(&mut self, _: &Flow, bytes: &[u8]) {
        let message = parse(bytes).expect("what is sent parses");
        let sent = match message.method() {
            Method::Ack => Sent::Ack(message.via().branch.to_vec()),
            Method::Cancel => Sent::Cancel(message.via().branch.to_vec()),
            _ => Sent::Given(bytes.to_vec()),
        };
        self.sent.push((self.now, sent));
    }
}

/// RFC 3261 Figures 5 to 8 and RFC 6026, the states that act alike under one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No response yet: Calling, Trying, and the INVITE server before its user says anything.
    Trying,
    Proceeding,
    Completed,
    Confirmed,
    Accepted,
    Over,
}

/// RFC 3261 §9.1: what has become of the wish to cancel an INVITE.
enum Cancel {
    No,
    /// It is sent after the first provisional response.
    Wanted,
    /// A transaction of its own, which nobody hears of.
    Sent(Box<Model>),
}

/// A provisional response that is sent until its PRACK comes.
struct Provisional {
    bytes: Vec<u8>,
    repeat: (Instant, Duration),
    end: Instant,
}

/// One transaction as the RFCs have it.
struct Model {
    is_client: bool,
    is_invite: bool,
    is_reliable: bool,
    phase: Phase,
    /// What is sent again: a client's request, a server's last response.
    bytes: Vec<u8>,
    /// Timers A, E, G, and the user's for a 2xx: when, and the interval that led there.
    repeat: Option<(Instant, Duration)>,
    /// Timers B, D, F, H, I, J, K, L, M.
    end: Option<Instant>,
    /// The ACK of a 2xx has come.
    is_acknowledged: bool,
    cancel: Cancel,
    provisional: Option<Provisional>,
    /// What it is on, if it is a reliable transport; 0: that is gone.
    connection: u64,
    /// It was on another one before.
    is_moved: bool,
}

impl Model {
    fn new(is_client: bool, is_invite: bool, is_reliable: bool) -> Self {
        Self {
            is_client,
            is_invite,
            is_reliable,
            phase: Phase::Trying,
            bytes: Vec::new(),
            repeat: None,
            end: None,
            is_acknowledged: false,
            cancel: Cancel::No,
            provisional: None,
            connection: 0,
            is_moved: false,
        }
    }

    /// When something happens by itself next.
    fn next(&self) -> Option<Instant> {
        let cancel = match &self.cancel {
            Cancel::Sent(cancel) => cancel.next(),
            Cancel::No | Cancel::Wanted => None,
        };
        let own = self.provisional.as_ref();
        let provisional = own.map(|own| own.repeat.0.min(own.end));
        let repeat = self.repeat.map(|(at, _)| at);
        [repeat, self.end, cancel, provisional]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether it waits for a final response, or for its user to give one.
    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Trying | Phase::Proceeding)
    }

    /// A client's.
    fn branch(&self) -> Vec<u8> {
        let request = parse(&self.bytes).expect("parses");
        request.via().branch.to_vec()
    }

    /// 64·T1 later the INVITE is given up, whatever becomes of it.
    fn send_cancel(&mut self, now: Instant) -> Sent {
        let mut cancel = Self::new(true, false, self.is_reliable);
        cancel.end = Some(now.plus(T1_64));
        if !self.is_reliable {
            cancel.begin_repeating(now);
        }
        self.end = cancel.end;
        self.cancel = Cancel::Sent(Box::new(cancel));
        Sent::Cancel(self.branch())
    }

    fn go(&mut self, now: Instant, phase: Phase, end: Option<Duration>) {
        (self.phase, self.repeat) = (phase, None);
        self.end = end.map(|time| now.plus(time));
        if end == Some(Duration::ZERO) {
            (self.phase, self.end) = (Phase::Over, None);
        }
        if self.phase == Phase::Over {
            self.cancel = Cancel::No;
        }
    }

    fn begin_repeating(&mut self, now: Instant) {
        self.repeat = Some((now.plus(T1), T1));
    }

    /// A timer that is due now: what is sent, and what the owner is told.
    fn fire(&mut self, now: Instant) -> (Option<Sent>, Option<Told>) {
        if let Cancel::Sent(cancel) = &mut self.cancel
            && cancel.next() == Some(now)
        {
            let (again, _) = cancel.fire(now);
            return (again.map(|_| Sent::Cancel(self.branch())), None);
        }
        if let Some(own) = &mut self.provisional {
            let (at, interval) = own.repeat;
            if at == now {
                // RFC 3262 §3: no T2.
                own.repeat = (at.plus(2 * interval), 2 * interval);
                return (Some(Sent::Given(own.bytes.clone())), None);
            }
            if own.end == now {
                self.provisional = None;
                return (None, Some(Told::ProvisionalNotAcknowledged));
            }
        }
        if let Some((at, interval)) = self.repeat
            && at == now
        {
            let next = match (self.is_client, self.is_invite, self.phase) {
                (true, true, _) => 2 * interval,
                (true, false, Phase::Proceeding) => T2,
                _ => T2.min(2 * interval),
            };
            self.repeat = Some((at.plus(next), next));
            return (Some(Sent::Given(self.bytes.clone())), None);
        }
        let told = match (self.is_client, self.phase) {
            (true, Phase::Trying | Phase::Proceeding) => Some(Told::Timeout),
            (false, Phase::Accepted) if !self.is_acknowledged => Some(Told::NotAcknowledged),
            _ => None,
        };
        self.go(now, Phase::Over, None);
        (None, told)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Timeout,
    NotAcknowledged,
    ProvisionalNotAcknowledged,
    /// Its connection is gone.
    Failed,
}

/// What a program has brought about.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Messages that were sent again by timers.
    again: usize,
    /// Owners who were told that time was over.
    told: usize,
    cancels: usize,
    unacknowledged: usize,
    failed: usize,
}

struct Run<'a> {
    data: &'a [u8],
    table: Transactions<u32>,
    out: Out,
    told: Vec<(Instant, u32, Told)>,
    /// What owners are to be told.
    to_tell: Vec<(Instant, u32, Told)>,
    models: Vec<Model>,
    clients: Vec<(u32, ClientId)>,
    /// Model, handle, request.
    servers: Vec<(u32, Option<ServerId>, Vec<u8>)>,
    /// The number of the connection that there is now.
    connection: u64,
    counts: Counts,
}

/// Plays one program.
///
/// # Panics
/// When a property does not hold.
pub fn transaction_steps(data: &[u8]) {
    play(data);
}

fn play(data: &[u8]) -> Counts {
    let mut run = Run {
        data,
        table: Transactions::new(&[7; 32], ROOM, ROOM),
        out: Out::default(),
        told: Vec::new(),
        to_tell: Vec::new(),
        models: Vec::new(),
        clients: Vec::new(),
        servers: Vec::new(),
        connection: 1,
        counts: Counts::default(),
    };
    for _ in 0..STEPS_MAX {
        if run.data.is_empty() {
            break;
        }
        run.step();
    }
    run.end();
    run.counts
}

impl Run<'_> {
    /// The next byte; zeros behind the end.
    fn byte(&mut self) -> usize {
        let (first, rest) = self.data.split_first().unwrap_or((&0, &[]));
        self.data = rest;
        usize::from(*first)
    }

    fn step(&mut self) {
        let what = self.byte();
        let (which, status) = (self.byte(), STATUSES[what / 16 % 8]);
        match what % 16 {
            0 | 1 => self.send(which),
            2..=4 if !self.clients.is_empty() => self.answer(which % self.clients.len(), status),
            5 | 6 => self.arrive(which),
            7 if !self.servers.is_empty() => self.again(which % self.servers.len(), false),
            8 if !self.servers.is_empty() => self.again(which % self.servers.len(), true),
            9 | 10 if !self.servers.is_empty() => {
                self.respond(which % self.servers.len(), status);
            }
            11 if !self.servers.is_empty() => self.acknowledge(which % self.servers.len()),
            12 => self.stray(which, status),
            13 => self.step_beside(which % 4, which / 4, status),
            14 if which % 8 == 0 => self.close(which % 16 == 0),
            _ => self.pass(Duration::from_millis(PAUSES_MS[which % PAUSES_MS.len()])),
        }
    }

    /// What is beside requests and final responses.
    fn step_beside(&mut self, what: usize, which: usize, status: u16) {
        let (clients, servers) = (self.clients.len(), self.servers.len());
        match what {
            0 if clients > 0 => self.cancel(which % clients),
            1 if clients > 0 => self.answer_cancel(which % clients, status),
            2 if servers > 0 => self.respond_reliably(which % servers, status),
            3 if servers > 0 => self.acknowledge_provisional(which % servers),
            _ => {}
        }
    }

    /// What has left in this step, in any order.
    fn expect(&mut self, wanted: impl IntoIterator<Item = Sent>) {
        let now = self.out.now;
        let mut wanted: Vec<_> = wanted.into_iter().map(|sent| (now, sent)).collect();
        let mut sent = std::mem::take(&mut self.out.sent);
        wanted.sort();
        sent.sort();
        assert_eq!(sent, wanted);
        let is_cancel = |sent: &&(Instant, Sent)| matches!(sent.1, Sent::Cancel(_));
        self.counts.cancels += sent.iter().filter(is_cancel).count();
    }

    fn model(&self, is_client: bool, which: usize) -> Model {
        let mut model = Model::new(is_client, which & 1 == 0, which & 2 != 0);
        model.connection = self.connection;
        model
    }

    fn flow(&self, is_reliable: bool) -> Flow {
        flow(is_reliable.then_some(ConnectionId(self.connection)))
    }

    /// A user sends a request.
    fn send(&mut self, which: usize) {
        let (now, owner) = (self.out.now, self.models.len() as u32);
        let mut model = self.model(true, which);
        let method = if model.is_invite { "INVITE" } else { "OPTIONS" };
        let (id, branch) = self.table.reserve().expect("room");
        model.bytes = request(method, branch.as_bytes(), owner);
        let method = Method::of(method.as_bytes());
        let flow = self.flow(model.is_reliable);
        let (table, out) = (&mut self.table, &mut self.out);
        table.send(now, id, method, &flow, &model.bytes, owner, out);
        self.expect(Some(Sent::Given(model.bytes.clone())));
        model.end = Some(now.plus(T1_64));
        if !model.is_reliable {
            model.begin_repeating(now);
        }
        self.models.push(model);
        self.clients.push((owner, id));
    }

    /// A response to it comes.
    fn answer(&mut self, number: usize, status: u16) {
        let (owner, id) = self.clients[number];
        let (now, model) = (self.out.now, &mut self.models[owner as usize]);
        let bytes = response(&model.bytes, status, "b");
        let response = parse(&bytes).expect("parses");
        let got = self.table.receive_response(now, &response, &mut self.out);
        let (before, is_open) = (model.phase, model.is_open());
        let is_delivered = match before {
            Phase::Trying | Phase::Proceeding => true,
            Phase::Accepted => (200..300).contains(&status),
            _ => false,
        };
        assert_eq!(
            got,
            is_delivered.then_some((id, owner)),
            "{before:?} {status}"
        );
        let has_ack = model.is_invite && status >= 300 && (is_open || before == Phase::Completed);
        let mut sent = has_ack.then(|| Sent::Ack(response.via().branch.to_vec()));
        match (is_open, model.is_invite, status) {
            (false, ..) => {}
            // Timer B is of Calling only, Timer F is not; what ends a cancelled INVITE is not touched.
            (_, true, ..200) if before == Phase::Trying => {
                model.go(now, Phase::Proceeding, None);
                if let Cancel::Wanted = model.cancel {
                    sent = Some(model.send_cancel(now));
                }
            }
            (_, true, ..200) => {}
            (_, false, ..200) => model.phase = Phase::Proceeding,
            (_, true, 200..300) => model.go(now, Phase::Accepted, Some(T1_64)),
            (_, is_invite, _) => {
                let time = if is_invite { T1_64 } else { T4 };
                let time = if model.is_reliable {
                    Duration::ZERO
                } else {
                    time
                };
                model.go(now, Phase::Completed, Some(time));
            }
        }
        self.expect(sent);
    }

    /// A new request comes, and its user takes it or answers at once.
    fn arrive(&mut self, which: usize) {
        let (now, owner) = (self.out.now, self.models.len() as u32);
        let mut model = self.model(false, which);
        let method = if model.is_invite { "INVITE" } else { "MESSAGE" };
        let bytes = request(method, format!("z9hG4bK{owner}").as_bytes(), owner);
        assert_eq!(self.receive(&bytes), Received::New);
        let message = parse(&bytes).expect("parses");
        let (key, flow) = (self.table.key(&message), self.flow(model.is_reliable));
        let mut id = None;
        if which & 4 != 0 && !model.is_invite {
            model.bytes = response(&bytes, 200, "x");
            let out = &mut self.out;
            self.table.complete(now, key, &flow, &model.bytes, out);
            self.expect(Some(Sent::Given(model.bytes.clone())));
            let time = if model.is_reliable {
                Duration::ZERO
            } else {
                T1_64
            };
            model.go(now, Phase::Completed, Some(time));
        } else {
            id = self.table.open_server(now, key, &message, &flow, owner);
            assert!(id.is_some() && self.out.sent.is_empty());
        }
        self.models.push(model);
        self.servers.push((owner, id, bytes));
    }

    fn receive(&mut self, bytes: &[u8]) -> Received {
        let message = parse(bytes).expect("parses");
        let (now, key) = (self.out.now, self.table.key(&message));
        self.table
            .receive(now, key, message.method(), &mut self.out)
    }

    /// It comes again, or its ACK does.
    fn again(&mut self, number: usize, is_ack: bool) {
        let (owner, _, bytes) = &self.servers[number];
        let owner = *owner as usize;
        let is_ack = is_ack && self.models[owner].is_invite;
        let bytes = match is_ack {
            true => request("ACK", format!("z9hG4bK{owner}").as_bytes(), owner as u32),
            false => bytes.clone(),
        };
        let received = self.receive(&bytes);
        let (now, model) = (self.out.now, &mut self.models[owner]);
        let is_new = model.phase == Phase::Over || is_ack && model.phase == Phase::Accepted;
        assert_eq!(received == Received::New, is_new, "{:?}", model.phase);
        let is_repeated = matches!(model.phase, Phase::Proceeding | Phase::Completed);
        let sent = (is_repeated && !is_ack).then(|| Sent::Given(model.bytes.clone()));
        if is_ack && model.phase == Phase::Completed {
            let time = if model.is_reliable {
                Duration::ZERO
            } else {
                T4
            };
            model.go(now, Phase::Confirmed, Some(time));
        }
        self.expect(sent);
    }

    /// Its user responds.
    fn respond(&mut self, number: usize, status: u16) {
        let (owner, Some(id), bytes) = &self.servers[number] else {
            return;
        };
        let bytes = response(bytes, status, "to1");
        let (now, model) = (self.out.now, &mut self.models[*owner as usize]);
        self.table.respond(now, *id, status, &bytes, &mut self.out);
        if model.is_open() && status >= 200 {
            model.provisional = None;
        }
        let is_success = (200..300).contains(&status);
        let is_sent = match model.phase {
            Phase::Trying | Phase::Proceeding => true,
            // A 2xx of another dialog, which is a proxy's matter; its user knows the handle until the ACK.
            Phase::Accepted => is_success && !model.is_acknowledged,
            _ => false,
        };
        match (model.phase, model.is_invite, status) {
            (Phase::Trying | Phase::Proceeding, _, ..200) => model.phase = Phase::Proceeding,
            (Phase::Trying | Phase::Proceeding, true, 200..300) => {
                model.go(now, Phase::Accepted, Some(T1_64));
                model.begin_repeating(now);
            }
            (Phase::Trying | Phase::Proceeding, true, _) => {
                model.go(now, Phase::Completed, Some(T1_64));
                if !model.is_reliable {
                    model.begin_repeating(now);
                }
            }
            (Phase::Trying | Phase::Proceeding, false, _) => {
                let time = if model.is_reliable {
                    Duration::ZERO
                } else {
                    T1_64
                };
                model.go(now, Phase::Completed, Some(time));
            }
            _ => {}
        }
        if is_sent {
            model.bytes.clone_from(&bytes);
        }
        self.expect(is_sent.then_some(Sent::Given(bytes)));
    }

    /// The ACK of its 2xx has come to its user.
    fn acknowledge(&mut self, number: usize) {
        let (owner, Some(id), _) = &self.servers[number] else {
            return;
        };
        self.table.acknowledge(*id);
        let model = &mut self.models[*owner as usize];
        if model.phase == Phase::Accepted {
            (model.is_acknowledged, model.repeat) = (true, None);
        }
        self.expect(None);
    }

    /// The user of an INVITE gives it up.
    fn cancel(&mut self, number: usize) {
        let (owner, id) = self.clients[number];
        let now = self.out.now;
        let reason = b"SIP;cause=200";
        self.table.cancel(now, id, reason, &mut self.out);
        let model = &mut self.models[owner as usize];
        let mut sent = None;
        match (model.is_invite, model.phase, &model.cancel) {
            (true, Phase::Trying, Cancel::No) => model.cancel = Cancel::Wanted,
            (true, Phase::Proceeding, Cancel::No) => sent = Some(model.send_cancel(now)),
            // There is nothing that a CANCEL could end, or there was one.
            _ => {}
        }
        self.expect(sent);
    }

    /// A response to the CANCEL comes, or to one that was never sent.
    fn answer_cancel(&mut self, number: usize, status: u16) {
        let (owner, _) = self.clients[number];
        let (now, model) = (self.out.now, &mut self.models[owner as usize]);
        let bytes = response(&request("CANCEL", &model.branch(), owner), status, "b");
        let response = parse(&bytes).expect("parses");
        let got = self.table.receive_response(now, &response, &mut self.out);
        assert_eq!(got, None, "an INVITE's user hears nothing of its CANCEL");
        match &mut model.cancel {
            Cancel::Sent(cancel) if cancel.is_open() && status < 200 => {
                cancel.phase = Phase::Proceeding;
            }
            Cancel::Sent(cancel) if cancel.is_open() => {
                let time = if cancel.is_reliable {
                    Duration::ZERO
                } else {
                    T4
                };
                cancel.go(now, Phase::Completed, Some(time));
            }
            _ => {}
        }
        self.expect(None);
    }

    /// The user of an INVITE answers provisionally, and wants to know that it was heard.
    fn respond_reliably(&mut self, number: usize, status: u16) {
        let (owner, Some(id), bytes) = &self.servers[number] else {
            return;
        };
        let bytes = response(bytes, status, "to1");
        let (now, model) = (self.out.now, &mut self.models[*owner as usize]);
        (self.table).respond_reliably(now, *id, status, &bytes, &mut self.out);
        let is_sent = model.is_invite && model.is_open() && (101..200).contains(&status);
        if is_sent {
            model.phase = Phase::Proceeding;
            model.bytes.clone_from(&bytes);
            model.provisional = Some(Provisional {
                bytes: bytes.clone(),
                repeat: (now.plus(T1), T1),
                end: now.plus(T1_64),
            });
        }
        self.expect(is_sent.then_some(Sent::Given(bytes)));
    }

    /// The PRACK has come to its user.
    fn acknowledge_provisional(&mut self, number: usize) {
        if let (owner, Some(id), _) = &self.servers[number] {
            self.table.acknowledge_provisional(self.out.now, *id);
            self.models[*owner as usize].provisional = None;
        }
        self.expect(None);
    }

    /// The connection is gone. `goes_on`: there is another one to the same peer, to which a transaction is moved once.
    fn close(&mut self, goes_on: bool) {
        let (now, gone) = (self.out.now, self.connection);
        self.connection += 1;
        let flow = self.flow(true);
        let (table, out) = (&mut self.table, &mut self.out);
        match goes_on {
            true => table.reconnected(ConnectionId(gone), &flow, out),
            false => table.connection_closed(ConnectionId(gone)),
        }
        let mut sent = Vec::new();
        for (owner, model) in self.models.iter_mut().enumerate() {
            let is_there = model.is_client && model.is_reliable && model.connection == gone;
            if !is_there || model.phase == Phase::Over {
                continue;
            }
            if goes_on && !model.is_moved {
                (model.is_moved, model.connection) = (true, self.connection);
                if model.phase == Phase::Trying {
                    sent.push(Sent::Given(model.bytes.clone()));
                }
                if let Cancel::Sent(cancel) = &model.cancel
                    && cancel.phase == Phase::Trying
                {
                    sent.push(Sent::Cancel(model.branch()));
                }
            } else if model.is_open() {
                model.go(now, Phase::Over, None);
                self.to_tell.push((now, owner as u32, Told::Failed));
            } else {
                model.connection = 0;
            }
        }
        self.expect(sent);
    }

    /// A response comes that nobody waits for: of no branch of ours, or of another method.
    fn stray(&mut self, which: usize, status: u16) {
        let asked = match self.clients.get(which / 2) {
            Some((owner, _)) if which & 1 == 0 => {
                let bytes = &self.models[*owner as usize].bytes;
                let request = parse(bytes).expect("parses");
                self::request("PRACK", request.via().branch, *owner)
            }
            _ => request("INVITE", b"z9hG4bKnobody", 0),
        };
        let bytes = response(&asked, status, "b");
        let response = parse(&bytes).expect("parses");
        let now = self.out.now;
        let got = self.table.receive_response(now, &response, &mut self.out);
        assert_eq!(got, None);
        self.expect(None);
    }

    /// Lets time pass, for the table from deadline to deadline, for the model from timer to timer.
    fn pass(&mut self, time: Duration) {
        let (from, end) = (self.out.now, self.out.now.plus(time));
        while let Some(deadline) = self.table.next_deadline().filter(|at| *at <= end) {
            self.out.now = deadline.max(self.out.now);
            while let Some(expired) = self.table.expire(self.out.now, &mut self.out) {
                let told = match expired {
                    Expired::Timeout { .. } => Told::Timeout,
                    Expired::NotAcknowledged { .. } => Told::NotAcknowledged,
                    Expired::ProvisionalNotAcknowledged { .. } => Told::ProvisionalNotAcknowledged,
                    Expired::TransportFailed { .. } => Told::Failed,
                };
                self.told.push((self.out.now, expired.owner(), told));
            }
            let next = self.table.next_deadline();
            assert!(next.is_none_or(|next| next > self.out.now), "no progress");
        }
        self.out.now = end;
        let (mut sent, mut told) = (Vec::new(), std::mem::take(&mut self.to_tell));
        for (owner, model) in self.models.iter_mut().enumerate() {
            while let Some(at) = model.next().filter(|at| *at <= end) {
                assert!(at >= from);
                let (again, word) = model.fire(at);
                sent.extend(again.map(|again| (at, again)));
                told.extend(word.map(|word| (at, owner as u32, word)));
            }
        }
        for list in [&mut sent, &mut self.out.sent] {
            list.sort();
        }
        told.sort();
        self.told.sort();
        let count = |what: Told| told.iter().filter(|(_, _, own)| *own == what).count();
        self.counts.again += sent.len();
        self.counts.told += told.len();
        self.counts.unacknowledged += count(Told::ProvisionalNotAcknowledged);
        self.counts.failed += count(Told::Failed);
        assert_eq!(std::mem::take(&mut self.out.sent), sent);
        assert_eq!(std::mem::take(&mut self.told), told);
    }

    /// Everyone does his duty, then there is silence.
    fn end(&mut self) {
        for number in 0..self.servers.len() {
            self.respond(number, 603);
        }
        for number in 0..self.clients.len() {
            self.answer(number, 487);
        }
        // What was confirmed late lasts a little longer than all else.
        self.pass(T1_64);
        assert!(self.models.iter().all(|model| model.phase == Phase::Over));
        assert_eq!((self.table.live(), self.table.completed()), (0, 0));
        assert_eq!(self.table.next_deadline(), None);
    }
}

fn flow(connection: Option<ConnectionId>) -> Flow {
    Flow {
        transport: match connection {
            Some(_) => Transport::Tcp,
            None => Transport::Udp,
        },
        local: SocketAddr::from(([192, 0, 2, 9], 5060)),
        remote: SocketAddr::from(([192, 0, 2, 1], 5062)),
        connection,
    }
}

fn request(method: &str, branch: &[u8], number: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(300);
    let number = number.to_string();
    let mut composer = Composer::request(&mut bytes, method.as_bytes(), b"sip:bob@192.0.2.1:5062");
    composer
        .field("Via", &[b"SIP/2.0/UDP 192.0.2.1:5062;branch=", branch])
        .number("Max-Forwards", 70)
        .field("From", &[b"<sip:alice@pbx.example>;tag=from1"])
        .field("To", &[b"<sip:bob@pbx.example>"])
        .field(HeaderName::CallId.text(), &[b"call-", number.as_bytes()])
        .field("CSeq", &[b"1 ", method.as_bytes()]);
    composer.finish(None, b"");
    bytes
}

fn response(request: &[u8], status: u16, tag: &str) -> Vec<u8> {
    let request = parse(request).expect("parses");
    let mut bytes = Vec::with_capacity(300);
    Composer::response_to(
        &mut bytes,
        &request,
        &flow(None),
        status,
        "Whatever",
        tag.as_bytes(),
    )
    .finish(None, b"");
    bytes
}

#[cfg(test)]
mod tests {
    use crate::testing::random::Random;

    #[test]
    fn random_programs_are_the_rfcs() {
        let mut random = Random::new(17);
        let mut all = super::Counts::default();
        for number in 0..3_000 {
            let length = random.below(120);
            let data: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
            let result = std::panic::catch_unwind(|| super::play(&data));
            let of = result.unwrap_or_else(|_| panic!("{number}: {data:?}"));
            all.again += of.again;
            all.told += of.told;
            all.cancels += of.cancels;
            all.unacknowledged += of.unacknowledged;
            all.failed += of.failed;
        }
        assert!(all.again > 40_000 && all.told > 3_000, "{all:?}");
        assert!(all.cancels > 40 && all.unacknowledged > 15, "{all:?}");
        assert!(all.failed > 100, "{all:?}");
    }
}
