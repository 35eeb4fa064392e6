//! Fuzz body of the whole server: bytes choose what five user agents, forgers and an administrator do, and when.
//!
//! Agents fill in tags, branches and digests, so that a few bytes reach far into a call; then bytes are turned over, repeated,
//! sent from elsewhere and out of turn. Whatever comes: no panic, every message that the server sends parses, tables stay
//! within their bounds, every call that ended has one record, and once everybody is silent nothing is left.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::agent::{Agent, Wishes};
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
[user bob]
password = fuzz-Phone-2
calls_max = 2
[user 900]
addresses = 192.0.2.60
[trunk office]
addresses = 192.0.2.70:5060
incoming = bob
";

/// Name, user, address, connection, password.
const AGENTS: [(&str, &str, &str, Transport, &str); 6] = [
    ("a", "alice", "192.0.2.10:5060", Transport::Udp, "fuzz-Phone-1"),
    ("b", "bob", "192.0.2.20:5060", Transport::Udp, "fuzz-Phone-2"),
    ("c", "bob", "192.0.2.30:41000", Transport::Tcp, "fuzz-Phone-2"),
    ("d", "900", "192.0.2.60:5060", Transport::Udp, "-"),
    ("e", "+49301", "192.0.2.70:5060", Transport::Udp, "-"),
    ("f", "mallory", "203.0.113.9:5060", Transport::Udp, "guess"),
];

const PAUSES_MS: [u64; 12] =
    [0, 1, 20, 100, 500, 1_000, 2_000, 4_000, 31_000, 32_000, 61_000, 600_000];

const METHODS: [&str; 14] = [
    "INVITE", "REGISTER", "BYE", "ACK", "CANCEL", "INVITE", "UPDATE", "INFO", "OPTIONS", "PRACK",
    "MESSAGE", "SUBSCRIBE", "REFER", "BREW",
];

const TARGETS: [&str; 8] = [
    "", "", "sip:bob@pbx", "sip:alice@pbx", "sip:900@pbx", "sip:9030@pbx", "sip:404@pbx", "tel:9030",
];

const STATUSES: [u16; 14] =
    [100, 180, 183, 200, 200, 200, 202, 302, 401, 408, 481, 486, 491, 603];

const BODIES: [&str; 3] = ["", "none", "other"];

/// Steps of one program. More would only repeat.
const STEPS_MAX: usize = 256;

struct Program<'a> {
    data: &'a [u8],
    world: World,
    agents: Vec<Agent>,
    is_stopped: bool,
}

/// Plays one program.
///
/// # Panics
/// When a property does not hold.
pub fn endpoint(data: &[u8]) {
    let config = Config::read(CONFIG, Path::new(".")).expect("the configuration above");
    let server: SocketAddr = ([192, 0, 2, 1], 5060).into();
    let mut world = World::new(config, server, 1, Link::default());
    let agents: Vec<Agent> = AGENTS
        .iter()
        .map(|(name, user, address, transport, password)| {
            let address = address.parse().expect("the address above");
            Agent::new(name, user, password, address, *transport)
        })
        .collect();
    for agent in agents.iter().filter(|agent| agent.transport == Transport::Tcp) {
        world.listen(agent.address);
    }
    let mut program = Program { data, world, agents, is_stopped: false };
    for _ in 0..STEPS_MAX {
        if program.data.is_empty() {
            break;
        }
        program.step();
        program.settle(Duration::ZERO);
        program.check();
    }
    program.check_end();
}

impl Program<'_> {
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
        match self.byte() % 16 {
            0..=2 => {
                let pause = PAUSES_MS[self.byte() % PAUSES_MS.len()];
                self.settle(Duration::from_millis(pause));
            }
            3..=6 => self.request(),
            7..=10 => {
                let index = self.agent();
                let status = STATUSES[self.byte() % STATUSES.len()];
                let how = self.byte();
                let wishes = Wishes {
                    method: (how & 3 == 1).then(|| "INVITE".into()),
                    to_tag: (how & 28 == 4).then(|| "other".into()),
                    body: Some(BODIES[(how >> 5) % 3].into()).filter(|body: &String| !body.is_empty()),
                    ..Wishes::default()
                };
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
            _ => self.administrate(),
        }
    }

    fn request(&mut self) {
        let index = self.agent();
        let method = METHODS[self.byte() % METHODS.len()];
        let target = TARGETS[self.byte() % TARGETS.len()];
        let how = self.byte();
        let mut wishes = Wishes {
            uri: Some(target.to_owned()).filter(|target| !target.is_empty() && method != "REGISTER"),
            body: Some(BODIES[how % 3].to_owned()).filter(|body| !body.is_empty()),
            call: (how & 16 != 0).then_some(1 + (how >> 5)),
            auth: (how & 12 == 12).then(|| "wrong".into()),
            ..Wishes::default()
        };
        if method == "REGISTER" && how & 3 == 3 {
            wishes.headers.push(("Expires".into(), "0".into()));
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
                if let Answer::Calls(page) =
                    self.world.command(Command::Calls { after: None, limit: 1 })
                    && let Some(call) = page.items.first()
                {
                    let call = call.id.clone();
                    self.world.command(Command::Hangup { call });
                }
            }
            2 => {
                self.world.command(Command::Ban { source, duration: None });
            }
            3 => {
                self.world.command(Command::Unban { source });
            }
            4 => {
                self.world.command(Command::Registrations { after: None, limit: 3 });
            }
            5 => {
                let config = Config::read(CONFIG, Path::new(".")).expect("the configuration above");
                self.world.reload(config);
            }
            // Rare, since nothing begins after it.
            6 if what == 0xfe => {
                self.is_stopped = true;
                self.world.stop();
            }
            _ => {}
        }
    }

    /// Lets time pass and agents read.
    fn settle(&mut self, time: Duration) {
        let until = self.world.now().mono.plus(time);
        while let Some(delivery) = self.world.run(until) {
            let now = self.world.now().mono;
            let agent = self.agents.iter_mut().find(|agent| agent.address == delivery.to);
            // The answer to a message that does not parse repeats what it was given.
            let is_refusal =
                |bytes: &[u8]| bytes.starts_with(b"SIP/2.0 400") || bytes.starts_with(b"SIP/2.0 5");
            if let Seen::Datagram(bytes) = &delivery.seen
                && !is_refusal(bytes)
                && let Err(error) = parse(bytes)
            {
                panic!("the server sent this ({error}):\n{}", String::from_utf8_lossy(bytes));
            }
            match (agent, delivery.seen) {
                (Some(agent), Seen::Datagram(bytes)) => agent.receive_datagram(now, bytes),
                (Some(agent), Seen::Bytes(bytes)) => agent.receive_stream(now, &bytes),
                (Some(agent), Seen::Closed) => agent.disconnected(now),
                (None, _) => {}
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
        assert!(census.transactions_live <= 4 * STEPS_MAX, "{census:?}");
        assert_eq!(census.outputs_dropped, 0, "{census:?}");
    }

    /// Silence: after the longest registration, the probe of a call and 64·T1 nothing is left.
    fn check_end(&mut self) {
        for index in 0..self.agents.len() {
            self.world.close(self.agents[index].address);
        }
        let end = self.world.now().mono.plus(Duration::from_secs(2 * 3600));
        while self.world.run(end).is_some() {}
        let census = self.world.endpoint.census();
        assert!(!census.has_calls, "{census:?}");
        assert_eq!(census.calls_live, 0, "{census:?}");
        assert_eq!(census.transactions_live, 0, "{census:?}");
        assert_eq!(census.transactions_completed, 0, "{census:?}");
        assert_eq!((census.bindings, census.streams), (0, 0), "{census:?}");
        for (up, over, record) in self.world.records.values() {
            assert!(*over == 1 && *up <= 1, "kept {up} times up, {over} times over: {record:?}");
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

    /// A program in which a call is answered and ended, to see that programs get that far.
    const CALL: [u8; 51] = [
        3, 0, 1, 0, 0, // alice: REGISTER
        3, 0, 1, 0, 0, // again, with credentials
        3, 1, 1, 0, 0, 3, 1, 1, 0, 0, // bob
        3, 0, 0, 2, 0, // alice: INVITE sip:bob@pbx
        7, 1, 1, 0, // bob: 180
        0, 5, // a second
        7, 1, 3, 0, // bob: 200
        3, 0, 3, 0, 0, // alice: ACK
        0, 5, //
        3, 0, 2, 0, 0, // alice: BYE
        7, 1, 3, 0, // bob: 200
    ];

    #[test]
    fn a_call_is_within_reach() {
        endpoint(&CALL);
    }

    #[test]
    fn random_programs() {
        let cases = std::env::var("CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
        for seed in 0..cases {
            let mut random = Random::new(seed);
            // Registered phones first, so that the rest is not all challenges.
            let mut data = CALL[..20].to_vec();
            let length = random.between(20, 900);
            data.extend((0..length).map(|_| random.next_u64() as u8));
            let result = std::panic::catch_unwind(|| endpoint(&data));
            assert!(result.is_ok(), "seed {seed}: {data:?}");
        }
    }
}
