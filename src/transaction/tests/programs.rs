//! The table under random programs of events, beside a model of what the RFC wants.

use super::cancel::answer_cancel;
use super::*;
use proptest::prelude::*;

/// One line of a program. Numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Line {
    Send {
        invite: bool,
        stream: Option<bool>,
    },
    Answer {
        client: usize,
        status: u16,
    },
    AnswerCancel {
        client: usize,
    },
    Cancel {
        client: usize,
    },
    Disown {
        client: usize,
    },
    Arrive {
        invite: bool,
        stream: bool,
        at_once: bool,
    },
    Again {
        server: usize,
        ack: bool,
    },
    Respond {
        server: usize,
        status: u16,
    },
    Acknowledge {
        server: usize,
    },
    RespondReliably {
        server: usize,
    },
    Prack {
        server: usize,
    },
    Close {
        first: bool,
    },
    Pass {
        millis: u64,
    },
}

fn line() -> impl Strategy<Value = Line> {
    use Line::*;
    let status = || prop_oneof![100u16..200, 200u16..300, 300u16..700];
    let which = || any::<usize>();
    prop_oneof![
        3 => (any::<bool>(), any::<Option<bool>>())
            .prop_map(|(invite, stream)| Send { invite, stream }),
        6 => (which(), status()).prop_map(|(client, status)| Answer { client, status }),
        1 => which().prop_map(|client| AnswerCancel { client }),
        2 => which().prop_map(|client| Cancel { client }),
        1 => which().prop_map(|client| Disown { client }),
        3 => (any::<bool>(), any::<bool>(), any::<bool>())
            .prop_map(|(invite, stream, at_once)| Arrive { invite, stream, at_once }),
        3 => (which(), any::<bool>()).prop_map(|(server, ack)| Again { server, ack }),
        5 => (which(), status()).prop_map(|(server, status)| Respond { server, status }),
        2 => which().prop_map(|server| Acknowledge { server }),
        2 => which().prop_map(|server| RespondReliably { server }),
        1 => which().prop_map(|server| Prack { server }),
        1 => any::<bool>().prop_map(|first| Close { first }),
        4 => prop_oneof![0u64..2000, 0u64..40_000].prop_map(|millis| Pass { millis }),
    ]
}

/// What the owner of a client transaction remembers.
struct Sent {
    id: ClientId,
    bytes: Vec<u8>,
    invite: bool,
    disowned: bool,
    cancelled: bool,
    /// Final responses that were delivered.
    successes: usize,
    failures: usize,
    /// When the first came.
    ended: Option<Instant>,
    reported: bool,
    unreliable: bool,
}

/// What the owner of a server transaction remembers.
struct Came {
    /// `None`: answered at once.
    id: Option<ServerId>,
    bytes: Vec<u8>,
    invite: bool,
    unreliable: bool,
    /// Its final response, and when it was sent first.
    answered: Option<(u16, Instant)>,
    acknowledged: bool,
    not_acknowledged: bool,
    /// When the ACK of a failure came.
    confirmed: Option<Instant>,
    /// When its reliable provisional response was sent that waits for its PRACK.
    unpracked: Option<Instant>,
}

impl Came {
    /// Until when a retransmission is absorbed; `None`: for ever, since it is not answered.
    fn known_until(&self) -> Option<Instant> {
        let (status, at) = self.answered?;
        let tcp = Duration::ZERO;
        Some(match (self.invite, status) {
            (false, _) => at.plus(if self.unreliable { T1_64 } else { tcp }),
            (true, 200..300) => at.plus(T1_64),
            (true, _) => match self.confirmed {
                Some(at) => at.plus(if self.unreliable {
                    crate::limits::T4
                } else {
                    tcp
                }),
                None => at.plus(T1_64),
            },
        })
    }
}

struct Run {
    world: World,
    clients: Vec<Sent>,
    servers: Vec<Came>,
    /// Whether nothing is evicted, so that the model is exact.
    roomy: bool,
    live_max: usize,
    completed_max: usize,
}

impl Run {
    fn flow(stream: Option<bool>) -> Flow {
        match stream {
            None => udp(),
            Some(true) => tcp(),
            Some(false) => Flow {
                connection: Some(ConnectionId(9)),
                ..tcp()
            },
        }
    }

    fn send(&mut self, invite: bool, stream: Option<bool>) {
        let Some((id, branch)) = self.world.table.reserve() else {
            assert!(!self.roomy);
            return;
        };
        let method = if invite { "INVITE" } else { "OPTIONS" };
        let branch = String::from_utf8(branch.as_bytes().to_vec()).unwrap();
        let bytes = request(method, &branch, 1, "");
        let (now, flow, owner) = (self.world.now(), Self::flow(stream), self.clients.len());
        let (table, out) = (&mut self.world.table, &mut self.world.out);
        table.send(
            now,
            id,
            Method::of(method.as_bytes()),
            &flow,
            &bytes,
            owner as u32,
            out,
        );
        self.clients.push(Sent {
            id,
            bytes,
            invite,
            disowned: false,
            cancelled: false,
            successes: 0,
            failures: 0,
            ended: None,
            reported: false,
            unreliable: stream.is_none(),
        });
    }

    fn answer(&mut self, number: usize, status: u16) {
        let now = self.world.now();
        let bytes = std::mem::take(&mut self.clients[number].bytes);
        let got = self.world.answer(&bytes, status, "b");
        let client = &mut self.clients[number];
        client.bytes = bytes;
        let linger = match (client.invite, client.unreliable) {
            (true, _) => T1_64,
            (false, true) => crate::limits::T4,
            (false, false) => Duration::ZERO,
        };
        // What must reach the owner, by RFC 3261 §17.1 and RFC 6026.
        let accepted = client.successes > 0;
        let wanted = !client.disowned
            && !client.reported
            && match client.ended {
                None => true,
                Some(at) => {
                    client.invite
                        && accepted
                        && (200..300).contains(&status)
                        && now < at.plus(linger)
                }
            };
        if let Some(delivered) = got {
            assert_eq!(delivered, (client.id, number as u32));
            assert!(wanted, "delivered twice, or to nobody");
            match status {
                ..200 => (),
                200..300 => client.successes += 1,
                300.. => client.failures += 1,
            }
            if status >= 200 {
                client.ended.get_or_insert(now);
            }
        } else {
            assert!(!wanted || !self.roomy, "kept from its owner");
        }
        assert!(client.failures == 0 || client.successes == 0);
        assert!(client.failures <= 1 && (client.invite || client.successes <= 1));
    }

    fn arrive(&mut self, invite: bool, stream: bool, at_once: bool) {
        let number = self.servers.len() as u32;
        let method = if invite { "INVITE" } else { "MESSAGE" };
        let bytes = request(method, &format!("z9hG4bK{number}"), number, "");
        assert_eq!(self.world.arrives(&bytes), Received::New);
        let flow = if stream { tcp() } else { udp() };
        let message = parse(&bytes).unwrap();
        let (now, key) = (self.world.now(), self.world.table.key(&message));
        let mut came = Came {
            id: None,
            bytes: bytes.clone(),
            invite,
            unreliable: !stream,
            answered: None,
            acknowledged: false,
            not_acknowledged: false,
            confirmed: None,
            unpracked: None,
        };
        if at_once && !invite {
            let answer = response(&bytes, 200, "x");
            let (table, out) = (&mut self.world.table, &mut self.world.out);
            table.complete(now, key, &flow, &answer, out);
            came.answered = Some((200, now));
        } else {
            came.id = self
                .world
                .table
                .open_server(now, key, &message, &flow, number);
            if came.id.is_none() {
                assert!(!self.roomy);
                return;
            }
        }
        self.servers.push(came);
    }

    fn again(&mut self, number: usize, ack: bool) {
        let now = self.world.now();
        let came = &self.servers[number];
        let ack = ack && came.invite;
        let text = String::from_utf8(came.bytes.clone()).unwrap();
        let text = if ack {
            text.replace("INVITE", "ACK")
        } else {
            text
        };
        let count = self.world.out.sent.len();
        let received = self.world.arrives(text.as_bytes());
        let sent = self.world.out.sent.len() - count;
        let came = &mut self.servers[number];
        let accepted = came
            .answered
            .is_some_and(|(status, _)| (200..300).contains(&status));
        if self.roomy {
            let known = came.known_until().is_none_or(|until| now < until);
            let new = !known || (ack && accepted && came.invite);
            assert_eq!(
                received,
                if new {
                    Received::New
                } else {
                    Received::Absorbed
                }
            );
        }
        assert!(sent <= 1 && (sent == 0 || (received == Received::Absorbed && !ack)));
        if ack && !accepted && came.answered.is_some() && received == Received::Absorbed {
            came.confirmed.get_or_insert(now);
        }
    }

    fn respond(&mut self, number: usize, status: u16) {
        let now = self.world.now();
        let came = &mut self.servers[number];
        let Some(id) = came.id else { return };
        let count = self.world.out.sent.len();
        let answer = response(&came.bytes, status, "to1");
        self.world
            .table
            .respond(now, id, status, &answer, &mut self.world.out);
        let sent = self.world.out.sent.len() - count;
        let success = (200..300).contains(&status);
        let expected = match came.answered {
            None => true,
            // A further 2xx, while Accepted lasts and is a live transaction.
            Some((first, at)) => {
                let accepted = came.invite && (200..300).contains(&first);
                accepted && success && !came.acknowledged && now < at.plus(T1_64)
            }
        };
        assert_eq!(sent, usize::from(expected));
        if status >= 200 {
            came.answered.get_or_insert((status, now));
            came.unpracked = None;
        }
    }

    fn respond_reliably(&mut self, number: usize) {
        let now = self.world.now();
        let came = &mut self.servers[number];
        let Some(id) = came.id else { return };
        let count = self.world.out.sent.len();
        let bytes = response(&came.bytes, 183, "to1");
        let (table, out) = (&mut self.world.table, &mut self.world.out);
        table.respond_reliably(now, id, 183, &bytes, out);
        let is_sent = came.invite && came.answered.is_none();
        assert_eq!(self.world.out.sent.len() - count, usize::from(is_sent));
        if is_sent {
            came.unpracked = Some(now);
        }
    }

    fn prack(&mut self, number: usize) {
        let came = &mut self.servers[number];
        if let Some(id) = came.id {
            let now = self.world.out.now;
            self.world.table.acknowledge_provisional(now, id);
            came.unpracked = None;
        }
    }

    fn acknowledge(&mut self, number: usize) {
        let came = &mut self.servers[number];
        if let Some(id) = came.id {
            self.world.table.acknowledge(id);
            let success = |(status, _)| (200..300).contains(&status);
            let accepted = came.invite && came.answered.is_some_and(success);
            came.acknowledged |= accepted && !came.not_acknowledged;
        }
    }

    fn step(&mut self, line: Line) {
        let (clients, servers) = (self.clients.len(), self.servers.len());
        let now = self.world.now();
        match line {
            Line::Send { invite, stream } => self.send(invite, stream),
            Line::Arrive {
                invite,
                stream,
                at_once,
            } => self.arrive(invite, stream, at_once),
            Line::Close { first } => {
                self.world
                    .table
                    .connection_closed(ConnectionId(if first { 7 } else { 9 }));
                self.world.pass_ms(0);
            }
            Line::Pass { millis } => self.world.pass_ms(millis),
            Line::Answer { client, status } if clients > 0 => {
                self.answer(client % clients, status);
            }
            Line::AnswerCancel { client } if clients > 0 => {
                let client = &self.clients[client % clients];
                if client.invite {
                    answer_cancel(&mut self.world, &client.bytes);
                }
            }
            Line::Cancel { client } if clients > 0 => {
                let client = &mut self.clients[client % clients];
                client.cancelled = true;
                self.world
                    .table
                    .cancel(now, client.id, b"", &mut self.world.out);
            }
            Line::Disown { client } if clients > 0 => {
                let client = &mut self.clients[client % clients];
                client.disowned = true;
                self.world.table.disown(client.id);
            }
            Line::Again { server, ack } if servers > 0 => self.again(server % servers, ack),
            Line::Respond { server, status } if servers > 0 => {
                self.respond(server % servers, status);
            }
            Line::Acknowledge { server } if servers > 0 => self.acknowledge(server % servers),
            Line::RespondReliably { server } if servers > 0 => {
                self.respond_reliably(server % servers);
            }
            Line::Prack { server } if servers > 0 => self.prack(server % servers),
            Line::Answer { .. }
            | Line::AnswerCancel { .. }
            | Line::Cancel { .. }
            | Line::Disown { .. }
            | Line::Again { .. }
            | Line::Respond { .. }
            | Line::Acknowledge { .. }
            | Line::RespondReliably { .. }
            | Line::Prack { .. } => (),
        }
        self.check();
    }

    /// What expired, and the bounds.
    fn check(&mut self) {
        for (at, expired) in self.world.expired.drain(..) {
            match expired {
                Expired::Timeout { id, owner } | Expired::TransportFailed { id, owner } => {
                    let client = &mut self.clients[owner as usize];
                    assert_eq!(client.id, id);
                    assert!(!client.reported && !client.disowned && client.ended.is_none());
                    client.reported = true;
                }
                Expired::NotAcknowledged { id, owner } => {
                    let came = self.servers.iter_mut().find(|came| came.id == Some(id));
                    let came = came.expect("of ours");
                    let _ = owner;
                    assert!(!came.not_acknowledged && !came.acknowledged);
                    let (_, sent) = came.answered.expect("answered");
                    assert_eq!(at, sent.plus(T1_64));
                    came.not_acknowledged = true;
                }
                Expired::ProvisionalNotAcknowledged { id, .. } => {
                    let came = self.servers.iter_mut().find(|came| came.id == Some(id));
                    let sent = came.expect("of ours").unpracked.take();
                    assert_eq!(sent.map(|sent| sent.plus(T1_64)), Some(at));
                }
            }
        }
        let table = &self.world.table;
        assert!(table.live() <= self.live_max);
        assert!(table.completed() <= self.completed_max);
        let (clients, servers) = (table.clients.slots(), table.servers.live());
        assert!(clients <= 2 * self.live_max);
        assert!(table.servers.places() <= servers + table.completed());
        assert!(table.shared.timers.len() <= 4 * clients + 2 * servers);
    }

    /// Everyone does his duty, then there is silence.
    fn end(mut self) {
        for number in 0..self.servers.len() {
            if self.servers[number].answered.is_none() {
                self.respond(number, 603);
            }
        }
        let now = self.world.now();
        for client in &self.clients {
            self.world
                .table
                .cancel(now, client.id, b"", &mut self.world.out);
        }
        self.world.pass(Duration::from_secs(300));
        self.check();
        self.world.assert_empty();
        assert!(self.world.table.shared.timers.is_empty());
        if self.roomy {
            for client in &self.clients {
                let told = client.disowned || client.reported || client.ended.is_some();
                assert!(told, "an owner that never hears");
            }
            for came in self.servers.iter().filter(|came| came.invite) {
                let success = came.answered.is_some_and(|(s, _)| (200..300).contains(&s));
                assert_eq!(came.not_acknowledged, success && !came.acknowledged);
            }
        }
    }
}

fn run(program: Vec<Line>, live_max: usize, completed_max: usize) {
    let roomy = live_max > program.len() && completed_max > program.len();
    let world = World::bounded(live_max, completed_max);
    let (clients, servers) = (Vec::new(), Vec::new());
    let mut run = Run {
        world,
        clients,
        servers,
        roomy,
        live_max,
        completed_max,
    };
    for line in program {
        run.step(line);
    }
    run.end();
}

/// A program is long, so a quarter of the usual number (or of `PROPTEST_CASES`) will do.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases.div_ceil(4),
        ..usual
    }
}

proptest! {
    #![proptest_config(config())]

    /// With room for all: every delivery, every silence and every end is what the RFC says, and nothing is left
    /// after five quiet minutes. (`World::pass` checks at each deadline that nothing was due before.)
    #[test]
    fn with_room(program in prop::collection::vec(line(), 0..120)) {
        run(program, 1000, 1000);
    }

    /// Without: the bounds hold, nothing is delivered twice, nothing is left.
    #[test]
    fn at_the_bounds(
        program in prop::collection::vec(line(), 0..120),
        live_max in 0usize..6,
        completed_max in 0usize..4,
    ) {
        run(program, live_max, completed_max);
    }
}
