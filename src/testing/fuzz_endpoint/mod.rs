//! Fuzz body of the whole server: bytes choose what five user agents, forgers and an administrator do, and when.
//!
//! The first byte says what has happened before (nothing, registered phones, a call that rings or is up), and whether media
//! goes through relays. Agents fill in tags,
//! branches and digests, so that a few bytes reach far into a call; then bytes are turned over, repeated, cut into pieces,
//! sent from elsewhere and out of turn. Whatever comes: no panic, every message that the server sends parses, tables stay
//! within their bounds, every call that ended has one record, and once everybody is silent nothing is left.

mod setup;
mod steps;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use self::setup::*;
use super::agent::Agent;
use super::dns::{Manner, Zone};
use super::network::Link;
use super::world::{Seen, World};
use crate::limits::BRANCHES_MAX;
use crate::message::parse;
use crate::source::Transport;

#[derive(Clone)]
struct Program<'a> {
    data: &'a [u8],
    world: World,
    agents: Vec<Agent>,
    /// What is still to be written of a message that was cut, and by whom.
    rest: Vec<(usize, Vec<u8>)>,
    is_stopped: bool,
    /// Media goes through relays.
    is_relayed: bool,
}

/// Plays one program.
///
/// # Panics
/// When a property does not hold.
pub fn endpoint(data: &[u8]) {
    let (before, data) = data.split_first().unwrap_or((&0, b""));
    let mut program: Program<'_> = Program::prepared(usize::from(*before));
    program.play(data);
    program.check_end();
}

impl<'a> Program<'a> {
    fn new(is_relayed: bool) -> Self {
        let server: SocketAddr = ([192, 0, 2, 1], 5060).into();
        let mut world = World::new(config(is_relayed), server, 1, Link::default());
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
            is_relayed,
        }
    }

    /// The world after one of [`BEFORE`], with relays or without, which is played once and then copied: programs are many and
    /// short.
    fn prepared(which: usize) -> Self {
        static PREPARED: OnceLock<Vec<Program<'static>>> = OnceLock::new();
        let prepared = PREPARED.get_or_init(|| {
            let mut prepared = Vec::with_capacity(2 * BEFORE.len());
            for is_relayed in [false, true] {
                for before in BEFORE {
                    prepared.push(Program::after(is_relayed, before));
                }
            }
            prepared
        });
        prepared[which % prepared.len()].clone()
    }

    /// A world in which this has happened.
    fn after(is_relayed: bool, programs: &[&'a [u8]]) -> Self {
        let mut program = Self::new(is_relayed);
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
        match self.byte() % 24 {
            0..=2 => {
                let pause = PAUSES_MS[self.byte() % PAUSES_MS.len()];
                self.settle(Duration::from_millis(pause));
            }
            3..=6 => self.request(),
            7..=10 => self.respond(),
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
            20 => self.talk(),
            21 => self.transfer(),
            22 => self.replace(),
            23 => self.subscribe(),
            _ => {
                // Two at one moment: the later one is there before the first has its answer.
                self.request();
                self.request();
            }
        }
    }

    /// Lets time pass and agents read.
    fn settle(&mut self, time: Duration) {
        let until = self.world.now().mono.plus(time);
        while let Some(delivery) = self.world.run(until) {
            let now = self.world.now().mono;
            // Only hosts that signalling has named get media.
            let is_media = matches!(delivery.seen, Seen::Media(_));
            let is_known = AGENTS.iter().any(|(_, _, address, ..)| {
                (address.parse()).is_ok_and(|own: SocketAddr| own.ip() == delivery.to.ip())
            });
            assert!(!is_media || is_known, "media went to {}", delivery.to);
            let agent = self
                .agents
                .iter_mut()
                .find(|agent| agent.address == delivery.to);
            // The answer to a message that does not parse repeats what it was given.
            let is_refusal =
                |bytes: &[u8]| bytes.starts_with(b"SIP/2.0 400") || bytes.starts_with(b"SIP/2.0 5");
            // What keeps a NAT's mapping alive is none (RFC 5626 §3.5.1).
            if let Seen::Datagram(bytes) = &delivery.seen
                && bytes != b"\r\n\r\n"
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
        assert!(census.subscriptions <= STEPS_MAX, "{census:?}");
        assert!(
            census.counted <= (4 * (1 + 2 * BRANCHES_MAX)) as u64,
            "{census:?}"
        );
        let relays = self.world.media_ports().len();
        assert!(relays <= PORT_PAIRS, "{relays} pairs of ports, {census:?}");
        assert!(census.has_calls || relays + census.media == 0, "{census:?}");
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
        assert_eq!((census.counted, census.moved_legs), (0, 0), "{census:?}");
        let relays = self.world.media_ports().len();
        assert_eq!((census.media, relays), (0, 0), "{census:?}");
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
