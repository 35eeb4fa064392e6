//! Lines against a registrar that is a function from a REGISTER to an answer, on virtual time.

mod machine;
mod many;

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::Config;
use crate::message::{Composer, Message, parse, reason_phrase};
use crate::time::UnixTime;

pub(super) const PASSWORD: &str = "Carrier-Secret-9";

pub(super) fn lines_of(text: &str) -> Vec<config::Line> {
    Config::read(text, Path::new("."))
        .expect("a good configuration")
        .lines
}

/// One line at `192.0.2.9`, with these further keys.
pub(super) fn one(keys: &str) -> Vec<config::Line> {
    lines_of(&format!(
        "[line a]\naccount = 100\nserver = 192.0.2.9\npassword = {PASSWORD}\n{keys}\n"
    ))
}

/// An answer: status and header lines. `$us` stands for our Contact's URI.
pub(super) type Said = (u16, Vec<String>);

/// A registrar's answer to a REGISTER; `None`: silence.
pub(super) type Registrar<'a> = &'a mut dyn FnMut(&Bench, &Message<'_>) -> Option<Said>;

/// The lines, their surroundings, and how many REGISTERs were sent when.
pub(super) struct Bench {
    pub lines: Lines,
    pub now: Now,
    pub tokens: Tokens,
    pub out: Outputs,
    /// Of each REGISTER: when, and the first address-of-record in it.
    pub sent: Vec<(Instant, Vec<u8>)>,
    /// Keep-alives.
    pub pings: usize,
    /// Addresses of everybody's server.
    pub addresses: Vec<SocketAddr>,
    pub transport: Transport,
    /// Who asks for the password where nobody answers.
    pub stranger: Option<SocketAddr>,
    /// Connections that were opened.
    pub connections: u64,
}

impl Bench {
    pub fn new(lines: &[config::Line]) -> Self {
        let now = Now {
            mono: Instant::from_micros(1_000_000),
            unix: UnixTime::from_millis(1_750_000_000_000),
        };
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        Self {
            lines: Lines::new(now, lines, [7; 32], hasher),
            now,
            tokens: Tokens::new(&[3; 32], "test"),
            out: Outputs::default(),
            sent: Vec::new(),
            pings: 0,
            addresses: vec!["192.0.2.9:5060".parse().unwrap()],
            transport: Transport::Udp,
            stranger: None,
            connections: 0,
        }
    }

    pub fn turn(&mut self) -> (&mut Lines, Turn<'_>) {
        let turn = Turn {
            now: self.now,
            tokens: &mut self.tokens,
            out: &mut self.out,
        };
        (&mut self.lines, turn)
    }

    pub fn set(&mut self, at: Instant) {
        let passed = at.since(self.now.mono);
        self.now = Now {
            mono: at,
            unix: self.now.unix.plus(passed),
        };
    }

    /// Lets time pass; the registrar answers at once.
    pub fn run(&mut self, time: Duration, registrar: Registrar<'_>) {
        let until = self.now.mono.plus(time);
        while let Some(at) = self.lines.next_deadline().filter(|at| *at <= until) {
            self.set(at.max(self.now.mono));
            self.step(registrar);
        }
        self.set(until);
    }

    /// Everything that is due now.
    pub fn step(&mut self, registrar: Registrar<'_>) {
        loop {
            let (lines, mut turn) = self.turn();
            match lines.due(&mut turn) {
                None => break,
                Some(Due::KeepAlive(slot)) => {
                    if let Some(way) = self.lines.way(slot) {
                        self.pings +=
                            usize::from(self.lines.keeps_open(self.now.mono, slot, &way.flow));
                    }
                }
                Some(Due::Register(slot)) => self.register(slot, registrar),
            }
        }
        self.out.clear();
    }

    fn register(&mut self, slot: Slot, registrar: Registrar<'_>) {
        let mut again = None;
        loop {
            let tried = self.lines.target(slot).map(|(_, _, tried)| tried.to_vec());
            let tried = tried.unwrap_or_default();
            let next = self
                .addresses
                .iter()
                .copied()
                .find(|own| !tried.contains(own));
            let way = again
                .take()
                .or_else(|| next.map(|remote| self.way_to(remote)));
            let Some(way) = way else {
                let (lines, mut turn) = self.turn();
                return lines.nowhere(slot, "nobody is left".to_owned(), &mut turn);
            };
            let manners = Manners {
                allow: b"INVITE",
                branch: b"z9hG4bK1",
            };
            let mut request = Vec::new();
            let id = (self.lines).ask(
                self.now.mono,
                slot,
                &way,
                &manners,
                &mut self.tokens,
                &mut request,
            );
            let Some(id) = id else { return };
            let request = parse(&request).expect("a REGISTER that parses");
            self.sent.push((self.now.mono, request.to().uri.to_vec()));
            let next = match registrar(self, &request) {
                Some(said) => self.respond(id, &request, &way, &said),
                None => {
                    let silence = self.stranger.map_or(Silence::NoAnswer, Silence::Stranger);
                    let (lines, mut turn) = self.turn();
                    lines.unanswered(id, silence, &mut turn)
                }
            };
            match next {
                Next::Again => again = self.lines.way(slot),
                Next::Elsewhere => {}
                Next::Done => return,
            }
        }
    }

    fn way_to(&self, remote: SocketAddr) -> Way {
        let local = "192.0.2.1:5060".parse().unwrap();
        let connection = self
            .transport
            .is_reliable()
            .then_some(ConnectionId(self.connections * 2 + 1));
        let flow = Flow {
            transport: self.transport,
            local,
            remote,
            connection,
        };
        Way { flow, ours: local }
    }

    /// A response to a REGISTER as the wire brings it.
    fn respond(&mut self, id: RequestId, request: &Message<'_>, way: &Way, said: &Said) -> Next {
        let (status, headers) = said;
        let mut lines = String::new();
        let us = String::from_utf8_lossy(request.contact_values().next().unwrap().address.uri)
            .into_owned();
        for header in headers {
            lines.push_str(&header.replace("$us", &us));
            lines.push_str("\r\n");
        }
        let mut bytes = Vec::new();
        let flow = Flow {
            remote: "203.0.113.5:1024".parse().unwrap(),
            ..way.flow
        };
        let reason = reason_phrase(*status);
        let mut composer = Composer::response_to(&mut bytes, request, &flow, *status, reason, b"t");
        composer.lines(lines.as_bytes());
        composer.finish(None, b"");
        let response = parse(&bytes).expect("an answer that parses");
        let (lines, mut turn) = self.turn();
        lines.receive_response(id, &response, &mut turn)
    }

    pub fn item(&self, index: u32) -> api::Line {
        self.lines.item(self.now, LineId(index)).expect("a line")
    }
}

/// An answer that grants this Contact so many seconds.
pub(super) fn granted(seconds: u64) -> Option<Said> {
    Some((200, vec![format!("Contact: <$us>;expires={seconds}")]))
}

pub(super) fn said(status: u16, headers: &[&str]) -> Option<Said> {
    Some((
        status,
        headers.iter().map(|header| (*header).to_owned()).collect(),
    ))
}
