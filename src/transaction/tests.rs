//! The table on virtual time: every row of RFC 3261 Table 4, matching, ACK, CANCEL and 2xx.

mod programs;

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
    }
}

const HALF: u64 = 500;

// ---- Table 4, client side

#[test]
fn timers_a_and_b_on_udp() {
    let mut world = World::new();
    let (id, _) = world.client("INVITE", udp(), 1);
    world.pass_ms(31_999);
    assert_eq!(
        world.take_times("INVITE"),
        [0, 500, 1500, 3500, 7500, 15_500, 31_500]
    );
    assert_eq!(world.expired, []);
    world.pass_ms(1);
    assert_eq!(
        world.expired,
        [(
            Instant::from_micros(32_000_000),
            Expired::Timeout { id, owner: 1 }
        )]
    );
    assert_eq!(world.take(), []);
    world.assert_empty();
}

#[test]
fn timer_b_alone_on_tcp() {
    let mut world = World::new();
    let (id, _) = world.client("INVITE", tcp(), 1);
    world.pass_ms(40_000);
    assert_eq!(world.take_times("INVITE"), [0]);
    assert_eq!(
        world.expired,
        [(
            Instant::from_micros(32_000_000),
            Expired::Timeout { id, owner: 1 }
        )]
    );
    world.assert_empty();
}

#[test]
fn a_provisional_response_ends_timers_a_and_b() {
    for flow in [udp(), tcp()] {
        let mut world = World::new();
        let (id, invite) = world.client("INVITE", flow, 1);
        assert_eq!(world.answer(&invite, 100, ""), Some((id, 1)));
        assert_eq!(world.table.next_deadline(), None);
        world.pass_ms(180_000);
        assert_eq!(world.answer(&invite, 180, "b"), Some((id, 1)));
        assert_eq!(world.answer(&invite, 180, "b"), Some((id, 1)));
        assert_eq!(world.take_times("INVITE"), [0]);
        assert_eq!(world.expired, []);
    }
}

#[test]
fn timer_d_on_udp_resends_the_ack() {
    let mut world = World::new();
    let (id, invite) = world.client("INVITE", udp(), 1);
    world.pass_ms(100);
    assert_eq!(world.answer(&invite, 486, "b"), Some((id, 1)));
    world.pass_ms(31_999);
    assert_eq!(world.answer(&invite, 486, "b"), None);
    assert_eq!(
        world.take(),
        [
            (0, "INVITE".into()),
            (100, "ACK".into()),
            (32_099, "ACK".into())
        ]
    );
    assert_eq!(world.table.live(), 0);
    assert_eq!(world.table.clients.slots(), 1);
    world.pass_ms(1);
    assert_eq!(world.answer(&invite, 486, "b"), None);
    assert_eq!(world.take(), []);
    assert_eq!(world.expired, []);
    world.assert_empty();
}

#[test]
fn timer_d_is_zero_on_tcp() {
    let mut world = World::new();
    let (id, invite) = world.client("INVITE", tcp(), 1);
    assert_eq!(world.answer(&invite, 486, "b"), Some((id, 1)));
    assert_eq!(world.take(), [(0, "INVITE".into()), (0, "ACK".into())]);
    world.assert_empty();
    assert_eq!(world.answer(&invite, 486, "b"), None);
    assert_eq!(world.take(), []);
}

#[test]
fn timer_m_lets_every_2xx_through_on_both() {
    for flow in [udp(), tcp()] {
        let mut world = World::new();
        let (id, invite) = world.client("INVITE", flow, 1);
        assert_eq!(world.answer(&invite, 200, "b"), Some((id, 1)));
        world.take();
        world.pass_ms(31_999);
        assert_eq!(world.answer(&invite, 200, "b"), Some((id, 1)));
        assert_eq!(world.answer(&invite, 200, "another"), Some((id, 1)));
        assert_eq!(world.answer(&invite, 180, "b"), None);
        assert_eq!(world.answer(&invite, 486, "b"), None);
        world.pass_ms(1);
        assert_eq!(world.answer(&invite, 200, "b"), None);
        assert_eq!(world.take(), [], "a 2xx is acknowledged by its owner");
        world.assert_empty();
    }
}

#[test]
fn timers_e_and_f_on_udp() {
    let mut world = World::new();
    let (id, _) = world.client("REGISTER", udp(), 1);
    world.pass_ms(31_999);
    let times = world.take_times("REGISTER");
    // §17.1.2.2: 500 ms, 1 s, 2 s, 4 s, 4 s, 4 s, ...
    assert_eq!(
        times,
        [
            0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
        ]
    );
    world.pass_ms(1);
    assert_eq!(
        world.expired,
        [(
            Instant::from_micros(32_000_000),
            Expired::Timeout { id, owner: 1 }
        )]
    );
    world.assert_empty();
}

#[test]
fn timer_e_is_t2_after_a_provisional_response() {
    let mut world = World::new();
    let (id, bytes) = world.client("REGISTER", udp(), 1);
    world.pass_ms(600);
    assert_eq!(world.answer(&bytes, 100, ""), Some((id, 1)));
    world.pass_ms(40_000);
    // The one at 1500 was set before; then every 4 s.
    let times = world.take_times("REGISTER");
    assert_eq!(
        times,
        [
            0, 500, 1500, 5500, 9500, 13_500, 17_500, 21_500, 25_500, 29_500
        ]
    );
    assert_eq!(
        world.expired,
        [(
            Instant::from_micros(32_000_000),
            Expired::Timeout { id, owner: 1 }
        )]
    );
}

#[test]
fn timer_f_alone_on_tcp() {
    let mut world = World::new();
    let (id, _) = world.client("BYE", tcp(), 1);
    world.pass_ms(40_000);
    assert_eq!(world.take_times("BYE"), [0]);
    assert_eq!(
        world.expired,
        [(
            Instant::from_micros(32_000_000),
            Expired::Timeout { id, owner: 1 }
        )]
    );
    world.assert_empty();
}

#[test]
fn timer_k_absorbs_retransmitted_responses() {
    let mut world = World::new();
    let (id, bytes) = world.client("BYE", udp(), 1);
    assert_eq!(world.answer(&bytes, 200, "b"), Some((id, 1)));
    world.pass_ms(4999);
    assert_eq!(world.answer(&bytes, 200, "b"), None);
    assert_eq!(world.table.clients.slots(), 1);
    world.pass_ms(1);
    world.assert_empty();
    assert_eq!(world.take_times("BYE"), [0]);

    let (id, bytes) = world.client("BYE", tcp(), 2);
    assert_eq!(world.answer(&bytes, 200, "b"), Some((id, 2)));
    world.assert_empty();
}

// ---- Table 4, server side

#[test]
fn timers_g_and_h_on_udp() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bKg", 1, "");
    let id = world.server(&invite, udp(), 1);
    world.respond(id, &invite, 486);
    world.pass_ms(31_999);
    let times = world.take_times("486");
    assert_eq!(
        times,
        [
            0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
        ]
    );
    assert_eq!(world.table.live(), 1);
    world.pass_ms(1);
    assert_eq!(world.expired, [], "RFC 6026: Timer H tells nobody");
    world.assert_empty();
}

#[test]
fn timer_h_alone_on_tcp() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bKh", 1, "");
    let id = world.server(&invite, tcp(), 1);
    world.respond(id, &invite, 486);
    world.pass_ms(31_999);
    assert_eq!(world.take_times("486"), [0]);
    assert_eq!(world.table.live(), 1);
    world.pass_ms(1);
    world.assert_empty();
}

#[test]
fn timer_i_absorbs_acks() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bKi", 1, "");
    let ack = request("ACK", "z9hG4bKi", 1, "to1");
    let id = world.server(&invite, udp(), 1);
    world.respond(id, &invite, 486);
    world.pass_ms(700);
    assert_eq!(world.arrives(&ack), Received::Absorbed);
    world.pass_ms(4999);
    assert_eq!(world.arrives(&ack), Received::Absorbed);
    assert_eq!(world.arrives(&invite), Received::Absorbed);
    assert_eq!(world.take_times("486"), [0, 500]);
    world.pass_ms(1);
    world.assert_empty();
    assert_eq!(world.arrives(&ack), Received::New);

    let id = world.server(&invite, tcp(), 1);
    world.respond(id, &invite, 486);
    assert_eq!(world.arrives(&ack), Received::Absorbed);
    world.assert_empty();
}

#[test]
fn timer_j_answers_retransmissions_from_the_ring() {
    let mut world = World::new();
    let bytes = request("MESSAGE", "z9hG4bKj", 1, "");
    let id = world.server(&bytes, udp(), 1);
    assert_eq!(world.arrives(&bytes), Received::Absorbed);
    assert_eq!(world.take(), [], "Trying: nothing to repeat");
    world.respond(id, &bytes, 100);
    assert_eq!(world.arrives(&bytes), Received::Absorbed);
    assert_eq!(world.take_times("100"), [0, 0]);
    world.respond(id, &bytes, 202);
    assert_eq!((world.table.live(), world.table.completed()), (0, 1));
    world.respond(id, &bytes, 500);
    world.pass_ms(31_999);
    assert_eq!(world.arrives(&bytes), Received::Absorbed);
    assert_eq!(world.take_times("202"), [0, 31_999]);
    world.pass_ms(1);
    world.assert_empty();
    assert_eq!(world.arrives(&bytes), Received::New);
    assert_eq!(world.take(), []);
}

#[test]
fn an_old_answer_that_goes_leaves_the_new_one() {
    let mut world = World::new();
    let bytes = request("MESSAGE", "z9hG4bKj", 1, "");
    let key = world.table.key(&parse(&bytes).unwrap());
    let answer = response(&bytes, 200, "x");
    world
        .table
        .complete(world.out.now, key, &udp(), &answer, &mut world.out);
    // The request comes again when its time is over, but before that was noticed.
    world.out.now = Instant::default().plus(T1_64);
    assert_eq!(world.arrives(&bytes), Received::New);
    world
        .table
        .complete(world.out.now, key, &udp(), &answer, &mut world.out);
    assert_eq!(world.table.completed(), 2);
    world.pass_ms(1000);
    assert_eq!(world.table.completed(), 1);
    assert_eq!(world.arrives(&bytes), Received::Absorbed);
    assert_eq!(world.take_times("200"), [0, 32_000, 33_000]);
    world.pass(T1_64);
    world.assert_empty();
}

#[test]
fn timer_j_is_zero_on_tcp() {
    let mut world = World::new();
    let bytes = request("MESSAGE", "z9hG4bKj", 1, "");
    let id = world.server(&bytes, tcp(), 1);
    world.respond(id, &bytes, 200);
    world.assert_empty();
    let message = parse(&bytes).unwrap();
    let key = world.table.key(&message);
    let answer = response(&bytes, 200, "x");
    world
        .table
        .complete(world.out.now, key, &tcp(), &answer, &mut world.out);
    world.assert_empty();
    assert_eq!(world.take_times("200"), [0, 0]);
}

#[test]
fn timer_l_and_the_retransmission_of_2xx() {
    // §13.3.1.4: on reliable transports too.
    for flow in [udp(), tcp()] {
        let mut world = World::new();
        let invite = request("INVITE", "z9hG4bKl", 1, "");
        let id = world.server(&invite, flow, 1);
        world.respond(id, &invite, 200);
        world.pass_ms(10_000);
        assert_eq!(world.arrives(&invite), Received::Absorbed);
        world.pass_ms(21_999);
        let times = world.take_times("200");
        assert_eq!(
            times,
            [
                0, 500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500
            ]
        );
        assert_eq!(world.expired, []);
        world.pass_ms(1);
        let end = Instant::from_micros(32_000_000);
        assert_eq!(
            world.expired,
            [(end, Expired::NotAcknowledged { id, owner: 1 })]
        );
        assert_eq!(world.take(), []);
        world.assert_empty();
    }
}

#[test]
fn an_acknowledged_2xx_leaves_only_its_key() {
    for flow in [udp(), tcp()] {
        let mut world = World::new();
        world.pass_ms(5000);
        let invite = request("INVITE", "z9hG4bKl", 1, "");
        let ack = request("ACK", "z9hG4bKl", 1, "to1");
        let id = world.server(&invite, flow, 1);
        world.respond(id, &invite, 200);
        assert_eq!(
            world.arrives(&ack),
            Received::New,
            "an ACK in Accepted is the core's"
        );
        world.pass_ms(600);
        world.table.acknowledge(id);
        world.table.acknowledge(id);
        assert_eq!((world.table.live(), world.table.completed()), (0, 1));
        world.pass_ms(31_399);
        assert_eq!(world.arrives(&invite), Received::Absorbed);
        assert_eq!(world.arrives(&ack), Received::New);
        assert_eq!(world.take_times("200"), [5000, 5500]);
        world.pass_ms(1);
        assert_eq!(world.expired, []);
        world.assert_empty();
        assert_eq!(world.arrives(&invite), Received::New);
    }
}

#[test]
fn a_retransmitted_invite_gets_the_last_response() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bKp", 1, "");
    let id = world.server(&invite, udp(), 1);
    assert_eq!(world.arrives(&invite), Received::Absorbed);
    assert_eq!(world.take(), []);
    world.respond(id, &invite, 100);
    world.respond(id, &invite, 180);
    assert_eq!(world.arrives(&invite), Received::Absorbed);
    world.respond(id, &invite, 486);
    world.respond(id, &invite, 200);
    assert_eq!(world.arrives(&invite), Received::Absorbed);
    let lines: Vec<String> = world.take().into_iter().map(|(_, line)| line).collect();
    assert_eq!(lines, ["100", "180", "180", "486", "486"]);
}

// ---- matching, §17.1.3 and §17.2.3

#[test]
fn a_response_needs_branch_and_method() {
    let mut world = World::new();
    let (id, invite) = world.client("INVITE", udp(), 1);
    let good = String::from_utf8(response(&invite, 180, "b")).unwrap();
    let branch = good
        .split("branch=")
        .nth(1)
        .unwrap()
        .split(['\r', ';'])
        .next()
        .unwrap()
        .to_string();
    let last = branch.chars().next_back().unwrap();
    let wrong = format!(
        "{}{}",
        &branch[..branch.len() - 1],
        if last == '0' { '1' } else { '0' }
    );
    let elsewhere = branch.replacen("00000000", "00000001", 1);
    for bad in [
        good.replace(&branch, &wrong),
        good.replace(&branch, &elsewhere),
        good.replace(&branch, "z9hG4bK776asdhds"),
        good.replace("CSeq: 1 INVITE", "CSeq: 1 BYE"),
        good.replace("CSeq: 1 INVITE", "CSeq: 1 CANCEL"),
    ] {
        assert_ne!(bad, good);
        let message = parse(bad.as_bytes()).unwrap();
        assert_eq!(
            world
                .table
                .receive_response(Instant::default(), &message, &mut world.out),
            None
        );
    }
    let message = parse(good.as_bytes()).unwrap();
    let got = world
        .table
        .receive_response(Instant::default(), &message, &mut world.out);
    assert_eq!(got, Some((id, 1)));
}

#[test]
fn a_reused_slot_is_not_reached_by_the_old_branch() {
    let mut world = World::new();
    let (old_id, old) = world.client("BYE", tcp(), 1);
    assert!(world.answer(&old, 200, "b").is_some());
    let (id, new) = world.client("BYE", tcp(), 2);
    assert_eq!(world.answer(&old, 200, "b"), None);
    world.table.disown(old_id);
    world
        .table
        .cancel(Instant::default(), old_id, b"", &mut world.out);
    world.table.release(old_id);
    assert_eq!(world.answer(&new, 200, "b"), Some((id, 2)));
}

#[test]
fn a_request_is_known_by_branch_sent_by_and_method() {
    let world = World::new();
    let key = |text: &str| {
        let bytes = text.as_bytes().to_vec();
        world.table.key(&parse(&bytes).unwrap())
    };
    let invite = String::from_utf8(request("INVITE", "z9hG4bKm", 1, "")).unwrap();
    assert_eq!(
        key(&invite),
        key(&invite.replace("phone.example:5062", "PHONE.example:5062"))
    );
    assert_eq!(key(&invite), key(&invite.replace("INVITE", "ACK")));
    assert_ne!(key(&invite), key(&invite.replace("INVITE", "CANCEL")));
    assert_ne!(key(&invite), key(&invite.replace("z9hG4bKm", "z9hG4bKM")));
    assert_ne!(
        key(&invite),
        key(&invite.replace("phone.example:5062", "phone.example:5063"))
    );
    assert_ne!(
        key(&invite),
        key(&invite.replace("phone.example:5062", "phone2.example:5062"))
    );
    assert_ne!(
        key(&invite.replace("INVITE", "FOO")),
        key(&invite.replace("INVITE", "BAR"))
    );
    let cancel = invite.replace("INVITE", "CANCEL");
    assert_eq!(
        world.table.invite_key(&parse(cancel.as_bytes()).unwrap()),
        key(&invite)
    );
    let default = invite.replace("phone.example:5062", "phone.example");
    assert_eq!(
        key(&default),
        key(&invite.replace("phone.example:5062", "phone.example:5060"))
    );
    // Other keys for another server.
    let other: Transactions<u32> = Transactions::new(&[8; 32], 1, 1);
    assert_ne!(other.key(&parse(invite.as_bytes()).unwrap()), key(&invite));
}

#[test]
fn rfc_2543_requests_are_matched_by_their_headers() {
    for branch in ["", "1", "z9hG4bK"] {
        let world = World::new();
        let key = |text: &str| world.table.key(&parse(text.as_bytes()).unwrap());
        let invite = String::from_utf8(request("INVITE", branch, 1, "")).unwrap();
        let ack = String::from_utf8(request("ACK", branch, 1, "to1")).unwrap();
        assert_eq!(
            key(&invite),
            key(&ack),
            "the ACK has the To tag of our response"
        );
        let cancel = invite.replace("INVITE", "CANCEL");
        assert_eq!(
            world.table.invite_key(&parse(cancel.as_bytes()).unwrap()),
            key(&invite)
        );
        for (from, to) in [
            ("sip:bob@192.0.2.1:5062 ", "sip:rob@192.0.2.1:5062 "),
            ("tag=from1", "tag=from2"),
            ("call-1", "call-2"),
            ("CSeq: 1", "CSeq: 2"),
            ("phone.example", "phone2.example"),
            ("5062\r\n", "5062;x=y\r\n"),
        ] {
            let from = if from.ends_with("\r\n") && !branch.is_empty() {
                "branch="
            } else {
                from
            };
            let to = if from == "branch=" { "branch=7" } else { to };
            assert_ne!(invite.replace(from, to), invite);
            assert_ne!(key(&invite), key(&invite.replace(from, to)), "{from}");
        }
        let bye = String::from_utf8(request("BYE", branch, 1, "to1")).unwrap();
        assert_ne!(key(&bye), key(&bye.replace("tag=to1", "tag=to2")));
        assert_eq!(
            key(&bye),
            key(&bye.replace("Max-Forwards: 33", "Max-Forwards: 34"))
        );
    }
}

#[test]
fn merged_requests() {
    let mut world = World::new();
    let first = request("INVITE", "z9hG4bK1", 1, "");
    let second = request("INVITE", "z9hG4bK2", 1, "");
    let in_dialog = request("INVITE", "z9hG4bK3", 1, "to1");
    let later = request("INVITE", "z9hG4bK4", 2, "");
    let merged = |world: &World, bytes: &[u8]| world.table.is_merged(&parse(bytes).unwrap());
    assert!(!merged(&world, &first));
    let id = world.server(&first, udp(), 1);
    assert!(!merged(&world, &first), "a retransmission is none");
    assert!(merged(&world, &second));
    assert!(!merged(&world, &in_dialog));
    assert!(!merged(&world, &later));
    world.respond(id, &first, 200);
    world.table.acknowledge(id);
    assert!(!merged(&world, &second), "over");
}

// ---- ACK and CANCEL

/// Values of all lines of a name.
fn lines<'a>(message: &Message<'a>, name: HeaderName) -> Vec<&'a [u8]> {
    message
        .lines()
        .filter(|line| line.name == name)
        .map(|line| line.value)
        .collect()
}

#[test]
fn the_ack_for_a_failure_is_made_from_the_invite() {
    let mut world = World::new();
    let (_, bytes) = world.client("INVITE", udp(), 1);
    world.answer(&bytes, 404, "their-tag");
    let (_, flow, ack) = world.out.sent.pop().unwrap();
    let (ack, invite) = (parse(&ack).unwrap(), parse(&bytes).unwrap());
    assert_eq!(flow, udp());
    let StartLine::Request { method, uri, .. } = ack.start() else {
        panic!()
    };
    assert_eq!((method, uri), (Method::Ack, invite.request_uri()));
    assert_eq!(
        lines(&ack, HeaderName::Via),
        lines(&invite, HeaderName::Via)
    );
    assert_eq!(
        lines(&ack, HeaderName::Route),
        lines(&invite, HeaderName::Route)
    );
    assert_eq!(ack.from().raw, invite.from().raw);
    assert_eq!(ack.to().raw, b"<sip:bob@pbx.example>;tag=their-tag");
    assert_eq!(ack.call_id(), invite.call_id());
    assert_eq!((ack.cseq().number, ack.cseq().method), (1, Method::Ack));
    assert_eq!(ack.max_forwards(), Some(70));
    assert!(lines(&ack, HeaderName::Contact).is_empty());
    assert_eq!(ack.body(), b"");
}

#[test]
fn cancel_is_made_from_the_invite() {
    let mut world = World::new();
    let (id, bytes) = world.client("INVITE", udp(), 1);
    world.answer(&bytes, 180, "b");
    world.table.cancel(
        world.out.now,
        id,
        b"SIP;cause=200;text=\"elsewhere\"",
        &mut world.out,
    );
    let (_, _, cancel) = world.out.sent.pop().unwrap();
    let (cancel, invite) = (parse(&cancel).unwrap(), parse(&bytes).unwrap());
    assert_eq!(cancel.method(), Method::Cancel);
    assert_eq!(cancel.request_uri(), invite.request_uri());
    assert_eq!(
        lines(&cancel, HeaderName::Via),
        lines(&invite, HeaderName::Via)
    );
    assert_eq!(
        lines(&cancel, HeaderName::Route),
        lines(&invite, HeaderName::Route)
    );
    assert_eq!(cancel.from().raw, invite.from().raw);
    assert_eq!(
        cancel.to().raw,
        invite.to().raw,
        "no tag, though the 180 had one"
    );
    assert_eq!(
        (cancel.cseq().number, cancel.cseq().method),
        (1, Method::Cancel)
    );
    assert_eq!(cancel.max_forwards(), Some(70));
    assert_eq!(
        lines(&cancel, HeaderName::Reason),
        [b"SIP;cause=200;text=\"elsewhere\""]
    );
}

/// The answer of a peer to the CANCEL of `invite`.
fn answer_cancel(world: &mut World, invite: &[u8]) {
    let text = String::from_utf8(response(invite, 200, "b")).unwrap();
    let text = text.replace("CSeq: 1 INVITE", "CSeq: 1 CANCEL");
    let message = parse(text.as_bytes()).unwrap();
    assert_eq!(
        world
            .table
            .receive_response(world.out.now, &message, &mut world.out),
        None
    );
}

#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut world = World::new();
    let (id, invite) = world.client("INVITE", udp(), 1);
    world.pass_ms(100);
    world.table.cancel(world.out.now, id, b"", &mut world.out);
    assert_eq!(world.take_times("INVITE"), [0]);
    world.pass_ms(100);
    assert_eq!(world.answer(&invite, 100, ""), Some((id, 1)));
    world.pass_ms(700);
    assert_eq!(world.take_times("CANCEL"), [200, 700]);
    world.table.cancel(world.out.now, id, b"", &mut world.out);
    answer_cancel(&mut world, &invite);
    assert_eq!(world.answer(&invite, 487, "b"), Some((id, 1)));
    world.pass_ms(60_000);
    assert_eq!(world.take_times("ACK"), [900]);
    assert_eq!(world.expired, []);
    world.assert_empty();
}

#[test]
fn cancel_never_sent_when_the_final_response_comes_first() {
    for status in [200, 486] {
        let mut world = World::new();
        let (id, invite) = world.client("INVITE", udp(), 1);
        world.table.cancel(world.out.now, id, b"", &mut world.out);
        assert_eq!(world.answer(&invite, status, "b"), Some((id, 1)));
        world.pass_ms(60_000);
        assert!(world.take().iter().all(|(_, line)| line != "CANCEL"));
        world.table.cancel(world.out.now, id, b"", &mut world.out);
        world.assert_empty();
    }
}

#[test]
fn cancel_of_a_silent_invite_leaves_timer_b() {
    let mut world = World::new();
    let (id, _) = world.client("INVITE", udp(), 1);
    world.pass_ms(10_000);
    world.table.cancel(world.out.now, id, b"", &mut world.out);
    world.pass_ms(60_000);
    assert_eq!(
        world.expired,
        [(
            Instant::from_micros(32_000_000),
            Expired::Timeout { id, owner: 1 }
        )]
    );
    world.assert_empty();
}

#[test]
fn a_2xx_that_crosses_the_cancel_reaches_the_owner() {
    for flow in [udp(), tcp()] {
        let mut world = World::new();
        let (id, invite) = world.client("INVITE", flow, 1);
        world.answer(&invite, 180, "b");
        world.table.cancel(world.out.now, id, b"", &mut world.out);
        world.pass_ms(20_000);
        assert_eq!(world.answer(&invite, 200, "b"), Some((id, 1)));
        world.pass_ms(31_999);
        assert_eq!(world.answer(&invite, 200, "c"), Some((id, 1)));
        world.pass_ms(1);
        assert_eq!(world.expired, []);
        world.assert_empty();
    }
}

#[test]
fn a_cancelled_invite_without_a_final_response_ends() {
    for (flow, answered) in [(udp(), false), (udp(), true), (tcp(), false), (tcp(), true)] {
        let mut world = World::new();
        let (id, invite) = world.client("INVITE", flow, 1);
        world.pass_ms(HALF / 2);
        world.answer(&invite, 180, "b");
        world.pass_ms(9_750);
        world.table.cancel(world.out.now, id, b"", &mut world.out);
        if answered {
            answer_cancel(&mut world, &invite);
        }
        world.pass_ms(60_000);
        let end = Instant::from_micros(42_000_000);
        assert_eq!(world.expired, [(end, Expired::Timeout { id, owner: 1 })]);
        let cancels = world
            .take()
            .iter()
            .filter(|(_, line)| line == "CANCEL")
            .count();
        assert_eq!(cancels, if answered || flow == tcp() { 1 } else { 11 });
        world.assert_empty();
    }
}

#[test]
fn an_unanswered_cancel_ends_with_its_invite() {
    let mut world = World::new();
    let (id, invite) = world.client("INVITE", tcp(), 1);
    world.answer(&invite, 180, "b");
    world.table.cancel(world.out.now, id, b"", &mut world.out);
    assert_eq!(world.answer(&invite, 487, "b"), Some((id, 1)));
    world.assert_empty();
}

#[test]
fn disowning_a_cancelled_invite_does_not_prolong_it() {
    let mut world = World::new();
    let (id, invite) = world.client("INVITE", udp(), 1);
    world.answer(&invite, 180, "b");
    world.table.cancel(world.out.now, id, b"", &mut world.out);
    world.pass_ms(10_000);
    world.table.disown(id);
    world.pass_ms(22_000);
    assert_eq!(world.expired, []);
    world.assert_empty();
}

#[test]
fn find_for_cancel() {
    let mut world = World::new();
    let invite = request("INVITE", "z9hG4bKc", 1, "");
    let cancel = request("CANCEL", "z9hG4bKc", 1, "");
    let key = world.table.invite_key(&parse(&cancel).unwrap());
    assert_eq!(world.table.find(key), None);
    let id = world.server(&invite, udp(), 1);
    world.table.set_server_owner(id, 5);
    assert_eq!(world.table.find(key), Some((id, 5, udp())));
    assert_eq!(
        world.arrives(&cancel),
        Received::New,
        "a transaction of its own"
    );
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
            .open_server(world.out.now, key, &message, &udp(), 2)
            .is_none()
    );
    world.table.release(reserved);
    world.table.release(reserved);
    assert!(
        world
            .table
            .open_server(world.out.now, key, &message, &udp(), 2)
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
            .open_server(world.out.now, key, &message, &udp(), 2)
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
