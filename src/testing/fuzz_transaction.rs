//! Fuzz body of the transactions: a program of what comes, what their users answer and how time passes, beside a model of
//! RFC 3261 §17 and RFC 6026. Not a message may leave that the model does not send, none too early or too late, and none
//! may be missing; what an owner is told is what the RFCs tell him, and 64·T1 after the last final response nothing is left.
//!
//! CANCEL, connections that close and reliable provisional responses are played in `transaction`'s own tests.

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
    /// What its user gave it, byte for byte.
    Given(Vec<u8>),
}

impl Sink for Out {
    fn send(&mut self, _: &Flow, bytes: &[u8]) {
        let message = parse(bytes).expect("what is sent parses");
        let sent = match message.method() {
            Method::Ack => Sent::Ack(message.via().branch.to_vec()),
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
}

impl Model {
    /// When something happens by itself next.
    fn next(&self) -> Option<Instant> {
        self.repeat
            .map(|(at, _)| at)
            .into_iter()
            .chain(self.end)
            .min()
    }

    fn go(&mut self, now: Instant, phase: Phase, end: Option<Duration>) {
        (self.phase, self.repeat) = (phase, None);
        self.end = end.map(|time| now.plus(time));
        if end == Some(Duration::ZERO) {
            (self.phase, self.end) = (Phase::Over, None);
        }
    }

    fn begin_repeating(&mut self, now: Instant) {
        self.repeat = Some((now.plus(T1), T1));
    }

    /// A timer that is due now: what is sent, and what the owner is told.
    fn fire(&mut self, now: Instant) -> (Option<Sent>, Option<Told>) {
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
}

struct Run<'a> {
    data: &'a [u8],
    table: Transactions<u32>,
    out: Out,
    told: Vec<(Instant, u32, Told)>,
    models: Vec<Model>,
    clients: Vec<(u32, ClientId)>,
    /// Model, handle, request.
    servers: Vec<(u32, Option<ServerId>, Vec<u8>)>,
    timed: [usize; 2],
}

/// Plays one program.
///
/// # Panics
/// When a property does not hold.
pub fn transaction_steps(data: &[u8]) {
    play(data);
}

/// The same; how many messages were sent again by timers, and how often an owner was told that time was over.
fn play(data: &[u8]) -> [usize; 2] {
    let mut run = Run {
        data,
        table: Transactions::new(&[7; 32], ROOM, ROOM),
        out: Out::default(),
        told: Vec::new(),
        models: Vec::new(),
        clients: Vec::new(),
        servers: Vec::new(),
        timed: [0, 0],
    };
    for _ in 0..STEPS_MAX {
        if run.data.is_empty() {
            break;
        }
        run.step();
    }
    run.end();
    run.timed
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
            _ => self.pass(Duration::from_millis(PAUSES_MS[which % PAUSES_MS.len()])),
        }
    }

    fn expect(&mut self, count: usize, wanted: Option<Sent>) {
        let sent = self.out.sent.split_off(count);
        let wanted: Vec<_> = wanted
            .map(|sent| (self.out.now, sent))
            .into_iter()
            .collect();
        assert_eq!(sent, wanted);
    }

    fn model(&self, is_client: bool, which: usize) -> Model {
        Model {
            is_client,
            is_invite: which & 1 == 0,
            is_reliable: which & 2 != 0,
            phase: Phase::Trying,
            bytes: Vec::new(),
            repeat: None,
            end: None,
            is_acknowledged: false,
        }
    }

    /// A user sends a request.
    fn send(&mut self, which: usize) {
        let (now, owner) = (self.out.now, self.models.len() as u32);
        let mut model = self.model(true, which);
        let method = if model.is_invite { "INVITE" } else { "OPTIONS" };
        let (id, branch) = self.table.reserve().expect("room");
        model.bytes = request(method, branch.as_bytes(), owner);
        let method = Method::of(method.as_bytes());
        let flow = flow(model.is_reliable);
        let (table, out) = (&mut self.table, &mut self.out);
        table.send(now, id, method, &flow, &model.bytes, owner, out);
        self.expect(0, Some(Sent::Given(model.bytes.clone())));
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
        let before = model.phase;
        let is_open = matches!(before, Phase::Trying | Phase::Proceeding);
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
        let branch = response.via().branch.to_vec();
        match (is_open, model.is_invite, status) {
            (false, ..) => {}
            // Timer B is of Calling only, Timer F is not.
            (_, true, ..200) => model.go(now, Phase::Proceeding, None),
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
        self.expect(0, has_ack.then_some(Sent::Ack(branch)));
    }

    /// A new request comes, and its user takes it or answers at once.
    fn arrive(&mut self, which: usize) {
        let (now, owner) = (self.out.now, self.models.len() as u32);
        let mut model = self.model(false, which);
        let method = if model.is_invite { "INVITE" } else { "MESSAGE" };
        let bytes = request(method, format!("z9hG4bK{owner}").as_bytes(), owner);
        assert_eq!(self.receive(&bytes), Received::New);
        let message = parse(&bytes).expect("parses");
        let (key, flow) = (self.table.key(&message), flow(model.is_reliable));
        let mut id = None;
        if which & 4 != 0 && !model.is_invite {
            model.bytes = response(&bytes, 200, "x");
            let out = &mut self.out;
            self.table.complete(now, key, &flow, &model.bytes, out);
            self.expect(0, Some(Sent::Given(model.bytes.clone())));
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
        self.expect(0, sent);
    }

    /// Its user responds.
    fn respond(&mut self, number: usize, status: u16) {
        let (owner, Some(id), bytes) = &self.servers[number] else {
            return;
        };
        let bytes = response(bytes, status, "to1");
        let (now, model) = (self.out.now, &mut self.models[*owner as usize]);
        self.table.respond(now, *id, status, &bytes, &mut self.out);
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
        self.expect(0, is_sent.then_some(Sent::Given(bytes)));
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
        self.expect(0, None);
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
        self.expect(0, None);
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
                    other => panic!("{other:?}"),
                };
                self.told.push((self.out.now, expired.owner(), told));
            }
            let next = self.table.next_deadline();
            assert!(next.is_none_or(|next| next > self.out.now), "no progress");
        }
        self.out.now = end;
        let (mut sent, mut told) = (Vec::new(), Vec::new());
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
        self.timed = [self.timed[0] + sent.len(), self.timed[1] + told.len()];
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

fn flow(is_reliable: bool) -> Flow {
    Flow {
        transport: if is_reliable {
            Transport::Tcp
        } else {
            Transport::Udp
        },
        local: SocketAddr::from(([192, 0, 2, 9], 5060)),
        remote: SocketAddr::from(([192, 0, 2, 1], 5062)),
        connection: is_reliable.then_some(ConnectionId(7)),
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
        &flow(false),
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
        let mut timed = [0, 0];
        for number in 0..3_000 {
            let length = random.below(120);
            let data: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
            let result = std::panic::catch_unwind(|| super::play(&data));
            let of = result.unwrap_or_else(|_| panic!("{number}: {data:?}"));
            timed = [timed[0] + of[0], timed[1] + of[1]];
        }
        assert!(timed[0] > 50_000 && timed[1] > 3_000, "{timed:?}");
    }
}
