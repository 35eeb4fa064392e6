//! Fuzz body of the whole server: bytes choose what five user agents, forgers and an administrator do, and when.
//!
//! The first byte says what has happened before (nothing, registered phones, a call that rings or is up). Agents fill in tags,
//! branches and digests, so that a few bytes reach far into a call; then bytes are turned over, repeated, cut into pieces,
//! sent from elsewhere and out of turn. Whatever comes: no panic, every message that the server sends parses, tables stay
//! within their bounds, every call that ended has one record, and once everybody is silent nothing is left.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use super::agent::{Agent, Wishes};
use super::dns::{Manner, NAME_SERVER, Zone};
use super::network::Link;
use super::world::{Seen, World};
use crate::api::{Answer, Command};
use crate::config::Config;
use crate::message::parse;
use crate::source::{Source, Transport};

const CONFIG: &str = "[server]
listen = udp:192.0.2.1:5060, tcp:192.0.2.1:5060
[registrar]
bindings_per_user_max = 2
[guard]
unproven_burst = 1000
unproven_rate = 1000
[call]
ring_timeout = 30s
calls_max = 4
[user alice]
password = fuzz-Phone-1
forward_offline = 200
forward_no_answer = 9030
forward_no_answer_after = 20s
[user bob]
store_messages = yes
password = fuzz-Phone-2
calls_max = 2
forward_busy = alice
[user 900]
addresses = 192.0.2.60
[group 200]
members = bob, 900, alice
strategy = circular
ring_timeout = 10s
next = 201
[group 201]
members = alice, bob
next = 8030
[trunk office]
addresses = 192.0.2.70:5060
keepalive = 40m
incoming = bob
[line gd]
account = +49302
server = carrier.example
outbound_proxy = 192.0.2.80:5060
password = Line-Secret-3
register = no
keepalive = 0
[line named]
account = +49303
server = carrier.example
password = Line-Secret-4
register = no
keepalive = 0
[route trunk]
prefix = 9
strip = 1
to = trunk:office
[route line]
prefix = 8
strip = 1
to = line:gd
";

/// What the name server knows at first.
const ZONE: &str = "_sip._udp.carrier.example 7200 SRV 10 50 5060 a.carrier.example
_sip._udp.carrier.example 7200 SRV 10 50 5060 b.carrier.example
a.carrier.example 7200 A 192.0.2.81
b.carrier.example 7200 A 192.0.2.82
carrier.example SOA 900
";

/// How it behaves then.
const MANNERS: [Manner; 5] = [
    Manner::Answers,
    Manner::Silent,
    Manner::Absent,
    Manner::Excuses,
    Manner::Forged,
];

/// Where the line's carrier is: nobody else ever sees what the line's password makes.
const CARRIER: &str = "192.0.2.80:5060";

/// Name, user, address, connection, password.
const AGENTS: [(&str, &str, &str, Transport, &str); 7] = [
    (
        "a",
        "alice",
        "192.0.2.10:5060",
        Transport::Udp,
        "fuzz-Phone-1",
    ),
    (
        "b",
        "bob",
        "192.0.2.20:5060",
        Transport::Udp,
        "fuzz-Phone-2",
    ),
    (
        "c",
        "bob",
        "192.0.2.30:41000",
        Transport::Tcp,
        "fuzz-Phone-2",
    ),
    ("d", "900", "192.0.2.60:5060", Transport::Udp, "-"),
    ("e", "+49301", "192.0.2.70:5060", Transport::Udp, "-"),
    ("f", "mallory", "203.0.113.9:5060", Transport::Udp, "guess"),
    ("g", "+49302", CARRIER, Transport::Udp, "-"),
];

const PAUSES_MS: [u64; 12] = [
    0, 1, 20, 100, 500, 1_000, 2_000, 4_000, 31_000, 32_000, 61_000, 600_000,
];

const METHODS: [&str; 14] = [
    "INVITE",
    "REGISTER",
    "BYE",
    "ACK",
    "CANCEL",
    "INVITE",
    "UPDATE",
    "INFO",
    "OPTIONS",
    "PRACK",
    "MESSAGE",
    "SUBSCRIBE",
    "REFER",
    "BREW",
];

const TARGETS: [&str; 12] = [
    "",
    "sip:8030@pbx",
    "sip:bob@pbx",
    "sip:alice@pbx",
    "sip:900@pbx",
    "sip:9030@pbx",
    "sip:404@pbx",
    "tel:9030",
    "sip:200@pbx",
    "sip:201@pbx",
    "sip:*72900@pbx",
    "sip:*73@pbx",
];

const STATUSES: [u16; 14] = [
    100, 180, 183, 200, 200, 200, 407, 302, 401, 408, 481, 486, 491, 603,
];

/// Statuses that ask for a password, and in which header.
const CHALLENGES: [(u16, &str); 2] = [(401, "WWW-Authenticate"), (407, "Proxy-Authenticate")];

const BODIES: [&str; 3] = ["", "none", "other"];

/// Steps of one program. More would only repeat, and many short programs find more than a few long ones.
const STEPS_MAX: usize = 96;

/// Both of alice's and bob's UDP phones register: the first REGISTER of each is challenged.
const REGISTERED: &[u8] = &[
    3, 0, 1, 0, 0, 3, 0, 1, 0, 0, // alice
    3, 1, 1, 0, 0, 3, 1, 1, 0, 0, // bob
];
/// Bob's other phone registers over TCP.
const REGISTERED_TCP: &[u8] = &[3, 2, 1, 0, 0, 3, 2, 1, 0, 0];
/// Alice calls bob, whose phone rings.
const RINGING: &[u8] = &[3, 0, 0, 2, 0, 7, 1, 1, 0];
/// Bob answers, alice acknowledges.
const ANSWERED: &[u8] = &[7, 1, 3, 0, 3, 0, 3, 0, 0];
/// The trunk calls bob, who answers.
const INCOMING: &[u8] = &[3, 4, 0, 2, 0, 7, 1, 3, 0, 3, 4, 3, 0, 0];
/// Alice calls out through the trunk, which answers.
const OUTGOING: &[u8] = &[3, 0, 0, 5, 0, 7, 4, 3, 0, 3, 0, 3, 0, 0];

/// Alice calls out on the line, which asks for a password first.
const ON_LINE: &[u8] = &[3, 0, 0, 1, 0, 7, 6, 6, 0, 7, 6, 3, 1, 3, 0, 3, 0, 0];

/// What has happened before a program begins, as programs.
const BEFORE: [&[&[u8]]; 9] = [
    &[],
    &[REGISTERED],
    &[REGISTERED, REGISTERED_TCP],
    &[REGISTERED, RINGING],
    &[REGISTERED, RINGING, ANSWERED],
    &[REGISTERED, REGISTERED_TCP, RINGING],
    &[REGISTERED, INCOMING],
    &[REGISTERED, OUTGOING],
    &[REGISTERED, ON_LINE],
];

#[derive(Clone)]
struct Program<'a> {
    data: &'a [u8],
    world: World,
    agents: Vec<Agent>,
    /// What is still to be written of a message that was cut, and by whom.
    rest: Vec<(usize, Vec<u8>)>,
    is_stopped: bool,
}

fn config() -> Config {
    Config::read(CONFIG, Path::new(".")).expect("the configuration above")
}

/// Plays one program.
///
/// # Panics
/// When a property does not hold.
pub fn endpoint(data: &[u8]) {
    let (before, data) = data.split_first().unwrap_or((&0, b""));
    let mut program: Program<'_> = Program::prepared(usize::from(*before) % BEFORE.len());
    program.play(data);
    program.check_end();
}

impl<'a> Program<'a> {
    fn new() -> Self {
        let server: SocketAddr = ([192, 0, 2, 1], 5060).into();
        let mut world = World::new(config(), server, 1, Link::default());
        world.name_server.zone = Zone::read(ZONE).expect("the zone above");
        let agents: Vec<Agent> = AGENTS
            .iter()
            .map(|(name, user, address, transport, password)| {
                let address = address.parse().expect("the address above");
                Agent::new(name, user, password, address, *transport)
            })
            .collect();
        for agent in agents
            .iter()
            .filter(|agent| agent.transport == Transport::Tcp)
        {
            world.listen(agent.address);
        }
        Self {
            data: b"",
            world,
            agents,
            rest: Vec::new(),
            is_stopped: false,
        }
    }

    /// The world after one of [`BEFORE`], which is played once and then copied: programs are many and short.
    fn prepared(before: usize) -> Self {
        static PREPARED: OnceLock<[Program<'static>; BEFORE.len()]> = OnceLock::new();
        let prepared = PREPARED.get_or_init(|| BEFORE.map(Program::after));
        prepared[before].clone()
    }

    /// A world in which this has happened.
    fn after(programs: &[&'a [u8]]) -> Self {
        let mut program = Self::new();
        for data in programs {
            program.play(data);
        }
        program
    }

    fn play(&mut self, data: &'a [u8]) {
        self.data = data;
        for _ in 0..STEPS_MAX {
            if self.data.is_empty() {
                break;
            }
            self.step();
            self.settle(Duration::ZERO);
            self.check();
        }
    }

    /// The next byte; zeros behind the end.
    fn byte(&mut self) -> usize {
        match self.data.split_first() {
            Some((first, rest)) => {
                self.data = rest;
                usize::from(*first)
            }
            None => 0,
        }
    }

    fn agent(&mut self) -> usize {
        self.byte() % AGENTS.len()
    }

    fn step(&mut self) {
        match self.byte() % 20 {
            0..=2 => {
                let pause = PAUSES_MS[self.byte() % PAUSES_MS.len()];
                self.settle(Duration::from_millis(pause));
            }
            3..=6 => self.request(),
            7..=10 => {
                let index = self.agent();
                let status = STATUSES[self.byte() % STATUSES.len()];
                let how = self.byte();
                let is_reliable = how & 3 == 2;
                let mut wishes = Wishes {
                    method: (how & 3 == 1 || is_reliable).then(|| "INVITE".into()),
                    to_tag: (how & 28 == 4).then(|| "other".into()),
                    body: Some(BODIES[(how >> 5) % 3].into())
                        .filter(|body: &String| !body.is_empty()),
                    ..Wishes::default()
                };
                if let Some((_, name)) = CHALLENGES.iter().find(|(own, _)| *own == status) {
                    let stale = how >> 6 & 1 == 1;
                    let nonce = how >> 2 & 3;
                    let value = format!("Digest realm=\"c\", nonce=\"{nonce}\", stale={stale}");
                    wishes.headers.push(((*name).into(), value));
                }
                if is_reliable {
                    let rseq = 1 + (how >> 2 & 7);
                    wishes.headers.push(("Require".into(), "100rel".into()));
                    wishes.headers.push(("RSeq".into(), rseq.to_string()));
                }
                if let Ok(bytes) = self.agents[index].response(status, &wishes) {
                    self.send(index, index, bytes);
                }
            }
            11 => {
                let (index, from) = (self.agent(), self.agent());
                let bytes = self.agents[index].last_sent.clone();
                self.send(index, from, bytes);
            }
            12 => {
                let (index, from) = (self.agent(), self.agent());
                let mut bytes = self.agents[index].last_sent.clone();
                let at = self.byte() * 256 + self.byte();
                let value = self.byte() as u8;
                if !bytes.is_empty() {
                    let at = at % bytes.len();
                    bytes[at] = value;
                }
                self.send(index, from, bytes);
            }
            13 => {
                let index = self.agent();
                let length = self.byte().min(self.data.len());
                let (bytes, rest) = self.data.split_at(length);
                self.data = rest;
                self.send(index, index, bytes.to_vec());
            }
            14 => {
                let index = self.agent();
                self.world.close(self.agents[index].address);
            }
            15 => self.administrate(),
            16 => self.forge(),
            17 => self.cut(),
            18 => {
                for (index, rest) in std::mem::take(&mut self.rest) {
                    self.world.write(self.agents[index].address, &rest);
                }
            }
            _ => {
                // Two at one moment: the later one is there before the first has its answer.
                self.request();
                self.request();
            }
        }
    }

    /// What an agent said, or says now, from where nobody is: a stranger's address, or another port of somebody's.
    fn forge(&mut self) {
        let index = self.agent();
        let what = self.byte();
        let from = match what % 4 {
            0 => SocketAddr::from(([198, 51, 100, (what >> 2) as u8], 5060)),
            1 => SocketAddr::from(([198, 51, (what >> 2) as u8, self.byte() as u8], 5060)),
            _ => {
                let mut address = self.agents[(what >> 2) % AGENTS.len()].address;
                address.set_port(40_000 + (what >> 5) as u16);
                address
            }
        };
        let bytes = if what & 128 == 0 {
            self.agents[index].last_sent.clone()
        } else {
            let method = METHODS[self.byte() % METHODS.len()];
            let bytes = self.agents[index].request(method, &Wishes::default());
            bytes.unwrap_or_default()
        };
        self.world.send(from, &bytes);
    }

    /// Of a request only the beginning comes on its connection; the rest may follow.
    fn cut(&mut self) {
        let is_stream = |agent: &Agent| agent.transport == Transport::Tcp;
        let Some(index) = self.agents.iter().position(is_stream) else {
            return;
        };
        let address = self.agents[index].address;
        let method = METHODS[self.byte() % METHODS.len()];
        let at = self.byte() * 256 + self.byte();
        if let Ok(mut bytes) = self.agents[index].request(method, &Wishes::default())
            && (self.world.is_connected(address) || self.world.connect(address))
        {
            self.rest.push((index, bytes.split_off(at % bytes.len())));
            self.world.write(address, &bytes);
        }
    }

    fn request(&mut self) {
        let index = self.agent();
        let method = METHODS[self.byte() % METHODS.len()];
        let target = TARGETS[self.byte() % TARGETS.len()];
        let how = self.byte();
        let mut wishes = Wishes {
            uri: Some(target.to_owned())
                .filter(|target| !target.is_empty() && method != "REGISTER"),
            body: Some(BODIES[how % 3].to_owned()).filter(|body| !body.is_empty()),
            call: (how & 16 != 0).then_some(1 + (how >> 5)),
            auth: (how & 12 == 12).then(|| "wrong".into()),
            ..Wishes::default()
        };
        if method == "REGISTER" && how & 3 == 3 {
            wishes.headers.push(("Expires".into(), "0".into()));
        }
        if let ("INVITE", 4 | 8) = (method, how & 12) {
            let name = if how & 4 != 0 { "Supported" } else { "Require" };
            wishes.headers.push((name.into(), "100rel".into()));
        }
        if let Ok(bytes) = self.agents[index].request(method, &wishes) {
            self.send(index, index, bytes);
        }
    }

    /// What agent `index` says, from the address (and the connection) of agent `from`.
    fn send(&mut self, index: usize, from: usize, bytes: Vec<u8>) {
        let (address, transport) = (self.agents[from].address, self.agents[from].transport);
        self.agents[index].last_sent = bytes.clone();
        if transport == Transport::Udp {
            self.world.send(address, &bytes);
        } else if self.world.is_connected(address) || self.world.connect(address) {
            self.world.write(address, &bytes);
        }
    }

    fn administrate(&mut self) {
        let what = self.byte();
        let source = Source::of(self.agents[what / 16 % AGENTS.len()].address.ip());
        match what % 8 {
            0 | 1 => {
                if let Answer::Calls(page) = self.world.command(Command::Calls {
                    after: None,
                    limit: 1,
                }) && let Some(call) = page.items.first()
                {
                    let call = call.id.clone();
                    self.world.command(Command::Hangup { call });
                }
            }
            2 => {
                self.world.command(Command::Ban {
                    source,
                    duration: None,
                });
            }
            3 => {
                self.world.command(Command::Unban { source });
            }
            4 => {
                self.world.command(Command::Registrations {
                    after: None,
                    limit: 3,
                });
            }
            5 => {
                self.world.reload(config());
            }
            7 => self.resolve(what),
            // Rare, since nothing begins after it.
            6 if what == 0xfe => {
                self.is_stopped = true;
                self.world.stop();
            }
            _ => {}
        }
    }

    /// Names: the name server changes its manners, one of its records goes and a reload asks again, or bytes come on the
    /// socket of a query, from the name server or from somebody else.
    fn resolve(&mut self, what: usize) {
        match what >> 3 & 3 {
            0 => self.world.name_server.manner = MANNERS[(what >> 5) % MANNERS.len()],
            1 => {
                self.world.name_server.zone.remove("a.carrier.example");
                self.world.reload(config());
            }
            which => {
                let from = match which {
                    2 => NAME_SERVER,
                    _ => self.agents[0].address,
                };
                let length = self.byte().min(self.data.len());
                let (bytes, rest) = self.data.split_at(length);
                self.data = rest;
                self.world.input_answer(what >> 5, from, bytes);
            }
        }
    }

    /// Lets time pass and agents read.
    fn settle(&mut self, time: Duration) {
        let until = self.world.now().mono.plus(time);
        while let Some(delivery) = self.world.run(until) {
            let now = self.world.now().mono;
            let agent = self
                .agents
                .iter_mut()
                .find(|agent| agent.address == delivery.to);
            // The answer to a message that does not parse repeats what it was given.
            let is_refusal =
                |bytes: &[u8]| bytes.starts_with(b"SIP/2.0 400") || bytes.starts_with(b"SIP/2.0 5");
            if let Seen::Datagram(bytes) = &delivery.seen
                && !is_refusal(bytes)
                && let Err(error) = parse(bytes)
            {
                panic!(
                    "the server sent this ({error}):\n{}",
                    String::from_utf8_lossy(bytes)
                );
            }
            if let Seen::Datagram(bytes) | Seen::Bytes(bytes) = &delivery.seen {
                let has_answer = memchr::memmem::find(bytes, b"uthorization: ").is_some();
                let is_carriers = delivery.to.to_string() == CARRIER;
                assert!(
                    !has_answer || is_carriers && !bytes.starts_with(b"SIP/2.0"),
                    "{} was sent credentials:\n{}",
                    delivery.to,
                    String::from_utf8_lossy(bytes)
                );
            }
            match (agent, delivery.seen) {
                (Some(agent), Seen::Datagram(bytes)) => agent.receive_datagram(now, bytes),
                (Some(agent), Seen::Bytes(bytes)) => agent.receive_stream(now, &bytes),
                (Some(agent), Seen::Closed) => agent.disconnected(now),
                (None, _) | (_, Seen::Media(_)) => {}
            }
        }
        for agent in &mut self.agents {
            agent.inbox.clear();
        }
    }

    /// Bounds, at any time.
    fn check(&self) {
        let census = self.world.endpoint.census();
        assert!(census.calls_live <= 4, "{census:?}");
        assert!(census.bindings <= 4, "{census:?}");
        assert!(census.streams <= 4, "{census:?}");
        // Each step begins a request or two for each of the branches at most.
        assert!(census.transactions_live <= 8 * STEPS_MAX, "{census:?}");
        assert_eq!(census.outputs_dropped, 0, "{census:?}");
        assert!(census.names_asked <= 1, "{census:?}");
    }

    /// Silence: after the longest registration, the probe of a call and 64·T1 nothing is left.
    fn check_end(&mut self) {
        // Names are asked for as long as they stand there; a silent name server would only make it long.
        self.world.name_server.manner = Manner::Answers;
        for index in 0..self.agents.len() {
            self.world.close(self.agents[index].address);
        }
        let end = self.world.now().mono.plus(Duration::from_secs(2 * 3600));
        while self.world.run(end).is_some() {}
        let census = self.world.endpoint.census();
        assert!(!census.has_calls, "{census:?}");
        assert_eq!(census.calls_live, 0, "{census:?}");
        assert_eq!(census.transactions_live, census.asked, "{census:?}");
        assert_eq!(census.transactions_completed, 0, "{census:?}");
        assert_eq!((census.bindings, census.streams), (0, 0), "{census:?}");
        assert_eq!((census.pages, census.subscriptions), (0, 0), "{census:?}");
        for (up, over, record) in self.world.records.values() {
            assert!(
                *over == 1 && *up <= 1,
                "kept {up} times up, {over} times over: {record:?}"
            );
        }
        if self.is_stopped {
            assert!(self.world.endpoint.is_idle());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random::Random;

    fn live(program: &Program<'_>) -> usize {
        program.world.endpoint.census().calls_live
    }

    #[test]
    fn what_has_happened_before_has() {
        let states = BEFORE.map(|before| {
            let program = Program::after(before);
            let up = (program.world.records.values()).any(|(up, over, _)| (*up, *over) == (1, 0));
            let bindings = program.world.endpoint.census().bindings;
            (bindings, live(&program), up)
        });
        let expected = [
            (0, 0, false),
            (2, 0, false),
            (3, 0, false),
            (2, 1, false),
            (2, 1, true),
            (3, 1, false),
            (2, 1, true),
            (2, 1, true),
            (2, 1, true),
        ];
        assert_eq!(states, expected);
    }

    #[test]
    fn names_are_within_reach() {
        // An administrator's step, 15, of which some are about names: the name server falls silent, all is asked again.
        let mut program = Program::after(&[&[0, 5]]);
        let asked = program.world.name_server.asked.len();
        let known = program.world.endpoint.census().names_known;
        program.play(&[15, 0x27, 15, 0x0f, 0, 2]);
        assert!(program.world.name_server.asked.len() > asked);
        assert_eq!((known, program.world.endpoint.census().names_asked), (2, 1));
        // Bytes on the socket of a query: from the name server, from somebody else.
        program.play(&[15, 0x17, 3, 1, 2, 3, 15, 0x1f, 3, 1, 2, 3]);
        assert_eq!(program.world.endpoint.census().names_asked, 1);
        program.check_end();
        assert_eq!(program.world.endpoint.census().names_asked, 0);
    }

    #[test]
    fn a_call_is_within_reach() {
        let mut program = Program::after(&[REGISTERED, RINGING, &[0, 5], ANSWERED, &[0, 5]]);
        assert_eq!(live(&program), 1);
        // Alice's BYE, bob's 200.
        program.play(&[3, 0, 2, 0, 0, 7, 1, 3, 0]);
        assert_eq!((live(&program), program.world.ended.len()), (0, 1));
        program.check_end();
    }

    #[test]
    fn messages_come_in_pieces() {
        let bindings = |program: &Program<'_>| program.world.endpoint.census().bindings;
        // A REGISTER over TCP is challenged; the one with credentials comes in two pieces.
        let mut program = Program::after(&[&[3, 2, 1, 0, 0], &[17, 1, 0, 40], &[0, 5]]);
        assert_eq!(bindings(&program), 0);
        program.play(&[18]);
        assert_eq!(bindings(&program), 1);
    }

    /// Steps that lead somewhere: calls, answers, ends. Random bytes alone would seldom agree on who is called by whom.
    const FRAGMENTS: [&[u8]; 60] = [
        &[3, 0, 0, 2, 0], // alice: INVITE sip:bob@pbx
        &[3, 0, 0, 2, 1], // without an offer
        &[3, 1, 0, 3, 0], // bob: INVITE sip:alice@pbx
        &[3, 4, 0, 2, 0], // trunk: INVITE sip:bob@pbx
        &[3, 0, 0, 5, 0], // alice: INVITE sip:9030@pbx
        &[3, 3, 0, 3, 0], // user by address: INVITE sip:alice@pbx
        &[3, 0, 0, 0, 0], // re-INVITE, or INVITE with credentials
        &[3, 1, 0, 0, 0], // bob: re-INVITE
        &[3, 1, 0, 0, 1], // without an offer
        &[3, 0, 2, 0, 0], // BYEs
        &[3, 1, 2, 0, 0],
        &[3, 4, 2, 0, 0],
        &[3, 0, 3, 0, 0], // ACKs
        &[3, 1, 3, 0, 0],
        &[3, 4, 3, 0, 0],
        &[3, 0, 4, 0, 0], // CANCELs
        &[3, 1, 4, 0, 0],
        &[7, 1, 3, 1], // bob: 200 to INVITE
        &[7, 1, 3, 0], // 200 to whatever is open
        &[7, 0, 3, 0],
        &[7, 2, 3, 0],
        &[7, 4, 3, 0],
        REGISTERED_TCP,
        &[3, 0, 7, 0, 2], // INFO
        INCOMING,
        &[17, 0, 1, 7], // cut, and the rest
        &[18],
        &[16, 0, 0],      // alice's last from a stranger
        &[16, 1, 34],     // bob's from another port of bob's
        &[16, 0, 131],    // alice's next from another port
        &[3, 0, 0, 2, 6], // INVITEs with 100rel, supported and required
        &[3, 0, 0, 2, 9],
        &[3, 0, 0, 2, 4], // without an offer
        &[7, 1, 2, 10],   // bob: reliable 183, RSeq 3, 4, 5; in another dialog; 180 without SDP
        &[7, 1, 2, 14],
        &[7, 1, 2, 18],
        &[7, 1, 2, 6],
        &[7, 1, 1, 46],
        &[7, 4, 2, 10],   // the trunk
        &[3, 0, 9, 0, 0], // alice: PRACK, with a body
        &[3, 0, 9, 0, 0],
        &[3, 0, 9, 0, 2],
        &[3, 4, 9, 0, 0], // the trunk
        &[3, 0, 6, 0, 2], // UPDATEs
        &[3, 1, 6, 0, 2],
        ON_LINE,
        &[3, 0, 0, 1, 0], // alice: INVITE sip:8030@pbx
        &[3, 6, 0, 2, 0], // line: INVITE sip:bob@pbx
        &[3, 6, 2, 0, 0], // BYE
        &[3, 6, 3, 0, 0], // ACK
        &[7, 6, 3, 1],    // 200 to INVITE
        &[7, 6, 3, 0],    // to whatever is open
        &[7, 6, 1, 1],    // 180
        &[7, 6, 2, 10],   // a reliable 183
        &[7, 6, 6, 0],    // 407
        &[7, 6, 8, 4],    // 401, another nonce
        &[7, 6, 8, 72],   // 401, stale
        &[16, 6, 0],      // the line's last from a stranger
        &[16, 6, 98],     // and from another port of the line's
        &[7, 1, 8, 4],    // bob: 401
    ];

    #[test]
    fn random_programs() {
        let cases = std::env::var("CASES").ok();
        let cases = cases.and_then(|text| text.parse().ok()).unwrap_or(300);
        for seed in 0..cases {
            let mut random = Random::new(seed);
            // Mostly registered phones first, so that the rest is not all challenges.
            let mut data = vec![random.below(BEFORE.len() as u64) as u8];
            let steps = random.between(5, 60);
            for _ in 0..steps {
                if random.chance(800) {
                    let index = random.below(FRAGMENTS.len() as u64) as usize;
                    data.extend_from_slice(FRAGMENTS[index]);
                } else if random.chance(600) {
                    data.extend_from_slice(&[0, random.below(10) as u8]);
                } else {
                    data.extend((0..6).map(|_| random.next_u64() as u8));
                }
            }
            let result = std::panic::catch_unwind(|| endpoint(&data));
            assert!(result.is_ok(), "seed {seed}: {data:?}");
        }
    }
}
