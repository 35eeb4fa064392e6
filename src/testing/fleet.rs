//! Phones that live by themselves, and the server: who acts next, and what goes where.
//!
//! A phone behind a NAT is not where it thinks it is: a fleet knows its place outside, which may change in the middle of
//! a call, and so may a TCP phone's connection.

use std::net::SocketAddr;
use std::path::Path;

use super::phone::led::Move;
use super::phone::{Phone, Sent};
use super::random::Random;
use super::world::{Delivery, Seen, World};
use crate::config::Config;
use crate::source::Transport;
use crate::time::Instant;

/// Messages that strangers may have heard.
const OVERHEARD_MAX: usize = 64;

/// What happened in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Something reached this phone, and it has done what it had to.
    Received(usize),
    /// Something reached nobody's phone.
    Elsewhere(Delivery),
    /// Phones have done what they planned for this moment.
    Acted,
    /// It is `end`.
    End,
}

/// Phones and their world.
pub struct Fleet {
    /// The server and its network.
    pub world: World,
    /// The phones.
    pub phones: Vec<Phone>,
    /// The first messages that phones sent.
    pub overheard: Vec<Vec<u8>>,
    /// Phones whose connection was closed by the server, and who must make another one.
    pub closed: Vec<usize>,
    /// What does not parse is noise, and no fault of the server: the network corrupts datagrams.
    pub is_noisy: bool,
    /// So many answers to challenges go out wrong, though no phone is.
    pub spoils: u32,
    /// From where the server hears each phone.
    places: Vec<SocketAddr>,
    /// Where phones were before, and still may have a connection that they know nothing of.
    left: Vec<SocketAddr>,
    begin: Instant,
    /// `TRACE=1`: every message of a phone on standard output.
    is_traced: bool,
}

impl Fleet {
    /// Each phone is where its address says.
    pub fn new(world: World, phones: Vec<Phone>) -> Self {
        Self {
            begin: world.now().mono,
            places: phones.iter().map(|phone| phone.address).collect(),
            world,
            phones,
            overheard: Vec::new(),
            closed: Vec::new(),
            is_noisy: false,
            spoils: 0,
            left: Vec::new(),
            is_traced: std::env::var("TRACE").is_ok(),
        }
    }

    /// A phone is behind a NAT: the server hears it from there.
    pub fn put_behind(&mut self, index: usize, place: SocketAddr) {
        self.places[index] = place;
    }

    /// From where the server hears a phone.
    pub fn place(&self, index: usize) -> SocketAddr {
        self.places[index]
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.world.now().mono
    }

    /// A phone registers.
    pub fn register(&mut self, index: usize) {
        self.act(index, |phone, now, sent| phone.register(now, sent));
    }

    /// A phone calls a number.
    pub fn call(&mut self, index: usize, number: &str) {
        self.act(index, |phone, now, sent| phone.call(now, number, sent));
    }

    /// The call server of a carrier calls an account of his where it is registered. False: it is not.
    pub fn call_account(&mut self, index: usize, account: usize) -> bool {
        let mut is_called = false;
        self.act(index, |phone, now, sent| {
            is_called = phone.call_account(now, account, sent);
        });
        is_called
    }

    /// A phone writes to a number.
    pub fn write(&mut self, index: usize, number: &str) {
        self.act(index, |phone, now, sent| phone.write(now, number, sent));
    }

    /// A phone does what it is told, unless it is off. `false`: there was nothing to be done.
    pub fn make(&mut self, index: usize, order: &Move) -> bool {
        let mut is_done = false;
        self.act(index, |phone, now, sent| {
            is_done = !phone.is_off && phone.make(now, order, sent);
        });
        is_done
    }

    fn act(&mut self, index: usize, act: impl FnOnce(&mut Phone, Instant, &mut Sent)) {
        let now = self.now();
        let mut sent = Sent::default();
        act(&mut self.phones[index], now, &mut sent);
        self.post(index, sent);
    }

    /// From now on the server hears this phone from another port. What goes to the one before is lost; a connection there
    /// stays with the server until it writes on it.
    pub fn move_phone(&mut self, index: usize) {
        let before = self.places[index];
        self.left.push(before);
        self.places[index].set_port(before.port() + 1);
    }

    /// The connection of a TCP phone breaks.
    pub fn disconnect(&mut self, index: usize) {
        self.world.close(self.places[index]);
        self.phones[index].disconnected();
    }

    /// Nobody says anything any more, nor takes a connection.
    pub fn turn_off(&mut self) {
        for (phone, place) in self.phones.iter_mut().zip(&self.places) {
            phone.is_off = true;
            self.world.refuse(*place);
            self.world.close(*place);
        }
        for place in std::mem::take(&mut self.left) {
            self.world.close(place);
        }
    }

    /// Lets time pass until somebody has something to do, at most until `end`.
    pub fn step(&mut self, end: Instant) -> Step {
        let now = self.now();
        let deadline = self.phones.iter().filter_map(Phone::next_deadline).min();
        let until = deadline.unwrap_or(end).min(end).max(now);
        if let Some(delivery) = self.world.run(until) {
            return self.deliver(delivery);
        }
        let now = self.now();
        for index in 0..self.phones.len() {
            if (self.phones[index].next_deadline()).is_some_and(|at| at <= now) {
                self.act(index, |phone, now, sent| phone.tick(now, sent));
            }
        }
        if now >= end { Step::End } else { Step::Acted }
    }

    fn deliver(&mut self, delivery: Delivery) -> Step {
        let Some(index) = (self.places.iter()).position(|place| *place == delivery.to) else {
            // Whoever has left a connection behind resets it.
            if matches!(delivery.seen, Seen::Bytes(_)) {
                self.world.close(delivery.to);
            }
            return Step::Elsewhere(delivery);
        };
        if let (Seen::Datagram(bytes) | Seen::Bytes(bytes), true) = (&delivery.seen, self.is_traced)
        {
            self.trace(&format!("{} <", delivery.to), bytes);
        }
        if delivery.seen == Seen::Closed {
            self.closed.push(index);
        }
        let is_noisy = self.is_noisy;
        self.act(index, |phone, now, sent| match delivery.seen {
            Seen::Datagram(bytes) if is_noisy && is_noise(&bytes) => {}
            Seen::Datagram(bytes) => phone.receive(now, &bytes, sent),
            Seen::Bytes(bytes) => phone.receive_stream(now, &bytes, sent),
            Seen::Closed => phone.disconnected(),
            Seen::Media(_) => {}
        });
        Step::Received(index)
    }

    /// What a phone sends goes onto the network.
    fn post(&mut self, index: usize, sent: Sent) {
        let (place, transport) = (self.places[index], self.phones[index].transport);
        for mut bytes in sent.0 {
            if self.is_traced {
                self.trace(&format!("{place} >"), &bytes);
            }
            if self.spoils > 0 && spoil(&mut bytes) {
                self.spoils -= 1;
            }
            if self.overheard.len() < OVERHEARD_MAX {
                self.overheard.push(bytes.clone());
            }
            if transport == Transport::Udp {
                self.world.send(place, &bytes);
            } else if self.world.is_connected(place) || self.world.connect(place) {
                self.world.write(place, &bytes);
            }
        }
    }

    fn trace(&self, who: &str, bytes: &[u8]) {
        let at = self.now().since(self.begin).as_millis();
        let Ok(message) = crate::message::parse(bytes) else {
            return;
        };
        let line = bytes
            .split(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        println!(
            "{at:>7} {who} {} | {} | {}",
            String::from_utf8_lossy(line),
            String::from_utf8_lossy(message.call_id()),
            message.cseq().number
        );
    }
}

/// Neither a message nor a keep-alive.
fn is_noise(bytes: &[u8]) -> bool {
    crate::message::parse(bytes).is_err() && !bytes.iter().all(|byte| b"\r\n".contains(byte))
}

/// Turns a digit of the answer to a challenge over; false: there is none.
fn spoil(bytes: &mut [u8]) -> bool {
    const RESPONSE: &[u8] = b"response=\"";
    let Some(at) = memchr::memmem::find(bytes, RESPONSE) else {
        return false;
    };
    let digit = &mut bytes[at + RESPONSE.len()];
    *digit = if *digit == b'0' { b'1' } else { b'0' };
    true
}

/// A configuration as it stands in a play's own text.
///
/// # Errors
/// What is wrong with it.
pub fn read(text: &str) -> Result<Config, String> {
    Config::read(text, Path::new(".")).map_err(|mistakes| format!("{mistakes:?}"))
}

/// What a phone or a carrier speaks.
pub(super) fn any_transport(random: &mut Random) -> Transport {
    if random.chance(300) {
        Transport::Tcp
    } else {
        Transport::Udp
    }
}
