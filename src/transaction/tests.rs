//! The table on virtual time: every row of RFC 3261 Table 4, matching, ACK, CANCEL and 2xx.

mod cancel;
mod connections;
mod matching;
mod programs;
mod provisional;
mod timers;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::limits::{T1, T1_64};
use crate::message::{HeaderName, Message, Method, StartLine, compose::Composer, parse};
use crate::source::{ConnectionId, Flow, Sink, Transport};
use crate::time::Instant;

/// What left, and when.
#[derive(Default)]
struct Out {
    now: Instant,
    sent: Vec<(Instant, Flow, Vec<u8>)>,
}

impl Sink for Out {
    fn send(&mut self, flow: &Flow, bytes: &[u8]) {
        self.sent.push((self.now, *flow, bytes.to_vec()));
    }
}

fn udp() -> Flow {
    Flow {
        transport: Transport::Udp,
        local: SocketAddr::from(([192, 0, 2, 9], 5060)),
        remote: SocketAddr::from(([192, 0, 2, 1], 5062)),
        connection: None,
    }
}

fn tcp() -> Flow {
    Flow {
        transport: Transport::Tcp,
        connection: Some(ConnectionId(7)),
        ..udp()
    }
}

/// A request as it comes or goes; `route` adds two Route headers.
fn request(method: &str, branch: &str, number: u32, to_tag: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut composer = Composer::request(&mut bytes, method.as_bytes(), b"sip:bob@192.0.2.1:5062");
    let parameter = if branch.is_empty() { "" } else { ";branch=" };
    composer.field(
        "Via",
        &[
            b"SIP/2.0/UDP phone.example:5062",
            parameter.as_bytes(),
            branch.as_bytes(),
        ],
    );
    composer.field("Route", &[b"<sip:edge.example;lr>"]);
    composer.field("Route", &[b"<sip:core.example;lr>, <sip:far.example;lr>"]);
    composer.number("Max-Forwards", 33);
    composer.field("From", &[b"\"Alice\" <sip:alice@pbx.example>;tag=from1"]);
    let tag = if to_tag.is_empty() { "" } else { ";tag=" };
    composer.field(
        "To",
        &[b"<sip:bob@pbx.example>", tag.as_bytes(), to_tag.as_bytes()],
    );
    composer.field("Call-ID", &[b"call-1@phone.example"]);
    composer.field(
        "CSeq",
        &[number.to_string().as_bytes(), b" ", method.as_bytes()],
    );
    composer.field("Contact", &[b"<sip:alice@192.0.2.9>"]);
    composer.finish(Some(b"text/plain"), b"hello");
    bytes
}

/// A response to it as a peer makes it, or we do.
fn response(request: &[u8], status: u16, tag: &str) -> Vec<u8> {
    let request = parse(request).unwrap();
    let mut bytes = Vec::new();
    Composer::response_to(
        &mut bytes,
        &request,
        &udp(),
        status,
        "Whatever",
        tag.as_bytes(),
    )
    .finish(None, b"");
    bytes
}

/// A table, its clock and what left it. Owners are numbers.
struct World {
    table: Transactions<u32>,
    out: Out,
    expired: Vec<(Instant, Expired<u32>)>,
}

impl World {
    fn new() -> Self {
        Self::bounded(100, 100)
    }

    fn bounded(live_max: usize, completed_max: usize) -> Self {
        let table = Transactions::new(&[7; 32], live_max, completed_max);
        Self {
            table,
            out: Out::default(),
            expired: Vec::new(),
        }
    }

    fn now(&self) -> Instant {
        self.out.now
    }

    /// Lets time pass, from deadline to deadline; nothing may be due that was not announced.
    fn pass(&mut self, duration: Duration) {
        let end = self.now().plus(duration);
        while let Some(deadline) = self
            .table
            .next_deadline()
            .filter(|&deadline| deadline <= end)
        {
            if deadline > self.now() {
                // The moment before, nothing is due.
                let before = Instant::from_micros(deadline.as_micros() - 1).max(self.now());
                let count = self.out.sent.len();
                assert_eq!(self.table.expire(before, &mut self.out), None);
                assert_eq!(self.out.sent.len(), count);
            }
            self.out.now = deadline.max(self.now());
            while let Some(expired) = self.table.expire(self.out.now, &mut self.out) {
                self.expired.push((self.out.now, expired));
            }
            let next = self.table.next_deadline();
            assert!(next.is_none_or(|next| next > self.out.now), "no progress");
        }
        self.out.now = end;
    }

    fn pass_ms(&mut self, millis: u64) {
        self.pass(Duration::from_millis(millis));
    }

    /// When something left since the last look, in milliseconds, and its start line.
    fn take(&mut self) -> Vec<(u64, String)> {
        let line = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let words: Vec<&str> = text.split(' ').take(2).collect();
            if words[0] == "SIP/2.0" {
                words[1].to_string()
            } else {
                words[0].to_string()
            }
        };
        let sent = self.out.sent.drain(..);
        sent.map(|(at, _, bytes)| (at.as_micros() / 1000, line(&bytes)))
            .collect()
    }

    fn take_times(&mut self, what: &str) -> Vec<u64> {
        let sent = self.take();
        sent.into_iter()
            .map(|(at, line)| {
                assert_eq!(line, what);
                at
            })
            .collect()
    }

    /// When this left, among other things.
    fn take_times_of(&mut self, what: &str) -> Vec<u64> {
        let sent = self.take().into_iter();
        sent.filter(|(_, line)| line == what)
            .map(|(at, _)| at)
            .collect()
    }

    /// Sends a request of ours; its bytes and handle.
    fn client(&mut self, method: &str, flow: Flow, owner: u32) -> (ClientId, Vec<u8>) {
        let (id, branch) = self.table.reserve().expect("room");
        let branch = String::from_utf8(branch.as_bytes().to_vec()).unwrap();
        let bytes = request(method, &branch, 1, "");
        let known = Method::of(method.as_bytes());
        self.table
            .send(self.out.now, id, known, &flow, &bytes, owner, &mut self.out);
        (id, bytes)
    }

    /// A response comes; whose it is.
    fn answer(&mut self, request: &[u8], status: u16, tag: &str) -> Option<(ClientId, u32)> {
        let bytes = response(request, status, tag);
        let message = parse(&bytes).unwrap();
        self.table
            .receive_response(self.out.now, &message, &mut self.out)
    }

    /// A request comes.
    fn arrives(&mut self, bytes: &[u8]) -> Received {
        let message = parse(bytes).unwrap();
        let key = self.table.key(&message);
        self.table
            .receive(self.out.now, key, message.method(), &mut self.out)
    }

    /// A new request comes and is opened.
    fn server(&mut self, bytes: &[u8], flow: Flow, owner: u32) -> ServerId {
        assert_eq!(self.arrives(bytes), Received::New);
        let message = parse(bytes).unwrap();
        let key = self.table.key(&message);
        self.table
            .open_server(self.out.now, key, &message, &flow, owner)
            .expect("room")
    }

    fn respond(&mut self, id: ServerId, request: &[u8], status: u16) {
        let bytes = response(request, status, "to1");
        self.table
            .respond(self.out.now, id, status, &bytes, &mut self.out);
    }

    fn assert_empty(&mut self) {
        assert_eq!((self.table.live(), self.table.completed()), (0, 0));
        assert_eq!(
            (self.table.clients.slots(), self.table.servers.places()),
            (0, 0)
        );
        assert_eq!(self.table.next_deadline(), None);
        assert!(self.table.shared.timers.is_empty());
        assert_eq!(self.table.servers.held_bytes(), 0);
    }
}

const HALF: u64 = 500;

#[test]
fn responses_of_live_transactions_have_a_bound_of_their_own() {
    let live_max = 20;
    let mut world = World::bounded(live_max, 100);
    let long = vec![b'v'; 8 * crate::limits::RESPONSE_BYTES_PER_TRANSACTION];
    let open = |world: &mut World, n: u32| {
        let bytes = request("INVITE", &format!("z9hG4bK{n}"), n, "");
        let message = parse(&bytes).unwrap();
        let key = world.table.key(&message);
        (world.table).open_server(world.out.now, key, &message, &tcp(), n)
    };
    let mut opened = 0;
    while let Some(id) = open(&mut world, opened) {
        (world.table).respond(world.out.now, id, 404, &long, &mut world.out);
        opened += 1;
    }
    assert_eq!(
        opened, 3,
        "each takes what eight may have: the third goes beyond"
    );
    assert!(world.table.live() < live_max);
    // Timer H: without an ACK they are forgotten, and there is room.
    world.pass_ms(32_000);
    assert!(open(&mut world, 7).is_some());
    world.table = Transactions::new(&[7; 32], 1, 1);
    world.assert_empty();
}
// ---- owners and connections

#[test]
fn a_disowned_transaction_is_silent_and_ends() {
    let mut world = World::new();
    let (ringing, first) = world.client("INVITE", udp(), 1);
    world.answer(&first, 180, "b");
    world.table.disown(ringing);
    let (calling, second) = world.client("INVITE", udp(), 2);
    world.table.disown(calling);
    assert_eq!(world.answer(&second, 180, "b"), None);
    let (bye, third) = world.client("BYE", udp(), 3);
    world.table.disown(bye);
    assert_eq!(world.answer(&first, 200, "b"), None);
    world.pass_ms(33_000);
    assert_eq!(world.answer(&third, 200, "b"), None);
    world.pass_ms(40_000);
    assert_eq!(world.expired, []);
    world.assert_empty();
}

#[test]
fn a_disowned_invite_that_rings_has_64_t1_from_then_on() {
    let mut world = World::new();
    let (id, invite) = world.client("INVITE", udp(), 1);
    world.answer(&invite, 180, "b");
    world.pass_ms(100_000);
    world.table.disown(id);
    assert_eq!(world.table.next_deadline(), Some(Instant::default()));
    world.pass_ms(31_999);
    assert_eq!(world.table.live(), 1);
    world.pass_ms(1);
    assert_eq!(world.expired, []);
    world.assert_empty();
}

#[test]
fn a_closed_connection_fails_what_waits_on_it() {
    let mut world = World::new();
    let (done, bye) = world.client("BYE", tcp(), 0);
    assert_eq!(world.answer(&bye, 200, "b"), Some((done, 0)));
    let other = Flow {
        connection: Some(ConnectionId(9)),
        ..tcp()
    };
    let (calling, _) = world.client("INVITE", tcp(), 1);
    let (elsewhere, register) = world.client("REGISTER", other, 2);
    let (ringing, invite) = world.client("INVITE", tcp(), 3);
    world.answer(&invite, 180, "b");
    let (accepted, answered) = world.client("INVITE", tcp(), 4);
    world.answer(&answered, 200, "b");
    let (disowned, _) = world.client("BYE", tcp(), 5);
    world.table.disown(disowned);
    let server_invite = request("INVITE", "z9hG4bKs", 1, "");
    let server = world.server(&server_invite, tcp(), 6);

    world.pass_ms(100);
    world.table.connection_closed(ConnectionId(7));
    world.table.connection_closed(ConnectionId(7));
    assert_eq!(world.table.next_deadline(), Some(Instant::default()));
    world.pass_ms(0);
    let failed: Vec<_> = world
        .expired
        .drain(..)
        .map(|(_, expired)| expired)
        .collect();
    let failure = |id, owner| Expired::TransportFailed { id, owner };
    assert_eq!(failed, [failure(ringing, 3), failure(calling, 1)]);
    assert_eq!(world.answer(&answered, 200, "c"), Some((accepted, 4)));
    assert_eq!(world.answer(&register, 200, "b"), Some((elsewhere, 2)));
    world.respond(server, &server_invite, 486);
    world.pass_ms(60_000);
    world.assert_empty();
}

// ---- bounds

#[test]
fn full_means_none() {
    let mut world = World::bounded(2, 1);
    let invite = request("INVITE", "z9hG4bK1", 1, "");
    let id = world.server(&invite, udp(), 1);
    let (reserved, _) = world.table.reserve().unwrap();
    assert!(world.table.reserve().is_none());
    let second = request("INVITE", "z9hG4bK2", 2, "");
    let message = parse(&second).unwrap();
    let key = world.table.key(&message);
    assert!(
        world
            .table
            .open_server(world.out.now, key, &message, &udp(), 2_u32)
            .is_none()
    );
    world.table.release(reserved);
    world.table.release(reserved);
    assert!(
        world
            .table
            .open_server(world.out.now, key, &message, &udp(), 2_u32)
            .is_some()
    );
    world.respond(id, &invite, 500);
    assert_eq!(world.table.live(), 2);
}

#[test]
fn one_key_is_opened_once() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bK1", 1, "");
    world.server(&invite, udp(), 1);
    let message = parse(&invite).unwrap();
    let key = world.table.key(&message);
    assert!(
        world
            .table
            .open_server(world.out.now, key, &message, &udp(), 2_u32)
            .is_none()
    );
}

#[test]
fn what_lingers_longest_goes_when_too_many_do() {
    let mut world = World::bounded(3, 3);
    let mut all = Vec::new();
    for owner in 0..10 {
        let (id, invite) = world.client("INVITE", udp(), owner);
        assert_eq!(world.answer(&invite, 200, "b"), Some((id, owner)));
        let (id, bye) = world.client("BYE", udp(), owner);
        assert_eq!(world.answer(&bye, 200, "b"), Some((id, owner)));
        all.push(invite);
        assert_eq!(world.table.live(), 0);
        assert!(world.table.clients.slots() <= 3);
        world.pass_ms(10);
    }
    let known = |world: &mut World, number: usize| world.answer(&all[number], 200, "c").is_some();
    assert!(!known(&mut world, 6));
    assert!(known(&mut world, 9));
    world.pass(T1_64);
    world.assert_empty();
}

#[test]
fn the_oldest_completed_goes_first() {
    let mut world = World::bounded(10, 3);
    let requests: Vec<Vec<u8>> = (0..5)
        .map(|n| request("REGISTER", &format!("z9hG4bK{n}"), n, ""))
        .collect();
    for bytes in &requests {
        assert_eq!(world.arrives(bytes), Received::New);
        let key = world.table.key(&parse(bytes).unwrap());
        let answer = response(bytes, 200, "x");
        world
            .table
            .complete(world.out.now, key, &udp(), &answer, &mut world.out);
        world.pass_ms(10);
    }
    assert_eq!(world.table.completed(), 3);
    world.take();
    let known: Vec<Received> = requests.iter().map(|bytes| world.arrives(bytes)).collect();
    use Received::{Absorbed, New};
    assert_eq!(known, [New, New, Absorbed, Absorbed, Absorbed]);
    assert_eq!(world.take().len(), 3);
    world.pass(T1_64);
    world.assert_empty();
}

#[test]
fn branches_are_unique() {
    let mut world = World::bounded(1000, 10);
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let ids: Vec<_> = (0..1000)
            .map(|_| {
                let (id, branch) = world.table.reserve().unwrap();
                assert!(seen.insert(branch.as_bytes().to_vec()));
                id
            })
            .collect();
        ids.into_iter().for_each(|id| world.table.release(id));
    }
    assert_eq!(seen.len(), 3000);
    world.pass(T1);
    world.assert_empty();
}
