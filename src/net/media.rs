//! Sockets of relayed media: two for each pair of ports that the core opens, read in turn a few packets at a time, what is
//! received sent on from the buffer that it was received into. Where it goes the core says, packet by packet.
//!
//! SIP is handled before: in a turn of the loop only [`PACKETS`] packets are taken from all of them together, and of those
//! [`PART`] from one socket before the next has its turn. What cannot be sent is lost, as a packet on the way would be.
//!
//! They have a poll of their own, which the loop's poll watches. Where there are many packets, waking for each of them
//! takes longer than reading it. Then the loop watches them no more, and a timer says when to look at them (`rest`).

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use super::rest::{Busy, MEDIA_REST};
use super::sys::{Outgoing, ReceiveBatch, SendBatch, Timer};
use crate::media::Forward;
use crate::source::{Component, MediaPair};
use crate::time::Instant;

/// Packets of one turn: at 4 µs each SIP waits for a quarter of a millisecond at most.
const PACKETS: usize = 64;
/// Packets of one socket at a time.
const PART: usize = 8;
/// Sockets that the poll names at a time.
const EVENTS: usize = 1024;

/// An even port and the next.
struct Pair {
    rtp: Port,
    rtcp: Port,
}

struct Port {
    socket: UdpSocket,
    /// It stands in the queue of those that are to be read.
    is_queued: bool,
}

/// See the module.
pub(super) struct MediaSockets {
    poll: Poll,
    events: Events,
    /// In the loop's poll.
    token: Token,
    /// The poll may have events.
    has_events: bool,
    busy: Busy,
    /// They are left alone until the timer says so.
    is_resting: bool,
    timer: Timer,
    /// By number.
    pairs: Vec<Option<Pair>>,
    /// Those that may have something to read, in turn.
    ready: VecDeque<(MediaPair, Component)>,
    /// Those that could not be opened, and why.
    failed: VecDeque<(MediaPair, io::Error)>,
    send: SendBatch,
    /// Packets that were not sent on because the kernel did not take them.
    pub(super) unsent: u64,
}

impl Pair {
    fn open(registry: &Registry, tokens: [Token; 2], address: SocketAddr) -> io::Result<Self> {
        let open = |address: SocketAddr, token| {
            let socket = UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            registry.register(
                &mut SourceFd(&socket.as_raw_fd()),
                token,
                Interest::READABLE,
            )?;
            Ok::<_, io::Error>(Port {
                socket,
                is_queued: false,
            })
        };
        let [rtp, rtcp] = tokens;
        let mut next = address;
        next.set_port(
            address
                .port()
                .checked_add(1)
                .ok_or(ErrorKind::InvalidInput)?,
        );
        Ok(Self {
            rtp: open(address, rtp)?,
            rtcp: open(next, rtcp)?,
        })
    }

    fn port(&mut self, component: Component) -> &mut Port {
        match component {
            Component::Rtp => &mut self.rtp,
            Component::Rtcp => &mut self.rtcp,
        }
    }
}

impl MediaSockets {
    /// `token`: of the event by which the loop's poll says that [`events_ready`](Self::events_ready).
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn new(registry: &Registry, token: Token, now: Instant) -> io::Result<Self> {
        let media = Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            token,
            has_events: false,
            busy: Busy::new(now),
            is_resting: false,
            timer: Timer::new()?,
            pairs: Vec::new(),
            ready: VecDeque::new(),
            failed: VecDeque::new(),
            send: SendBatch::new(),
            unsent: 0,
        };
        media.watch(registry)?;
        let descriptor = media.timer.as_raw_fd();
        registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)?;
        Ok(media)
    }

    fn watch(&self, registry: &Registry) -> io::Result<()> {
        let descriptor = self.poll.as_raw_fd();
        registry.register(&mut SourceFd(&descriptor), self.token, Interest::READABLE)
    }

    /// Opens a pair; [`next_failed`](Self::next_failed) tells if that could not be.
    pub(super) fn open(&mut self, pair: MediaPair, address: SocketAddr) {
        let index = pair.0 as usize;
        if self.pairs.len() <= index {
            self.pairs.resize_with(index + 1, || None);
        }
        let tokens = [0, 1].map(|component| Token(2 * index + component));
        match Pair::open(self.poll.registry(), tokens, address) {
            Ok(opened) => self.pairs[index] = Some(opened),
            Err(error) => self.failed.push_back((pair, error)),
        }
    }

    /// Closes a pair; closing takes its sockets off the poll.
    pub(super) fn close(&mut self, pair: MediaPair) {
        if let Some(place) = self.pairs.get_mut(pair.0 as usize) {
            *place = None;
        }
        self.failed.retain(|(failed, _)| *failed != pair);
    }

    /// The next pair that could not be opened.
    pub(super) fn next_failed(&mut self) -> Option<(MediaPair, io::Error)> {
        self.failed.pop_front()
    }

    /// Sockets have something to be read, or may after a rest.
    pub(super) fn events_ready(&mut self) {
        self.has_events = true;
    }

    /// Takes what events there are.
    fn take_events(&mut self) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let mut count = 0;
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            let Token(token) = event.token();
            let component = match token % 2 {
                0 => Component::Rtp,
                _ => Component::Rtcp,
            };
            self.queue(MediaPair((token / 2) as u32), component);
            count += 1;
        }
        events.clear();
        self.events = events;
        self.has_events = count == EVENTS;
        Ok(())
    }

    fn queue(&mut self, pair: MediaPair, component: Component) {
        let Some(Some(opened)) = self.pairs.get_mut(pair.0 as usize) else {
            return;
        };
        if !std::mem::replace(&mut opened.port(component).is_queued, true) {
            self.ready.push_back((pair, component));
        }
    }

    /// Whether something waits to be read, and no event tells it.
    pub(super) fn has_work(&self) -> bool {
        !self.ready.is_empty() || self.has_events
    }

    /// Sends on what waits, as much as a turn allows.
    ///
    /// # Errors
    /// The kernel gives no more events.
    pub(super) fn serve(
        &mut self,
        now: Instant,
        registry: &Registry,
        batch: &mut ReceiveBatch,
        way: impl FnMut((MediaPair, Component), SocketAddr, &[u8]) -> Option<Forward>,
    ) -> io::Result<()> {
        if !self.has_work() {
            return Ok(());
        }
        // Also while some are in the queue: one that is never empty keeps no other from getting there.
        self.take_events()?;
        let packets = self.send_on(batch, way);
        self.busy.count(now, packets);
        if self.has_work() {
            return Ok(());
        }
        self.rest_or_listen(registry)
    }

    /// Everything has been read: leaves the sockets alone for a while if there is much, else has the loop's poll watch them.
    fn rest_or_listen(&mut self, registry: &Registry) -> io::Result<()> {
        if self.busy.is_busy() {
            if !self.is_resting {
                registry.deregister(&mut SourceFd(&self.poll.as_raw_fd()))?;
            }
            self.is_resting = true;
            return self.timer.set(MEDIA_REST);
        }
        if std::mem::replace(&mut self.is_resting, false) {
            self.watch(registry)?;
        }
        Ok(())
    }

    /// How many packets were received.
    fn send_on(
        &mut self,
        batch: &mut ReceiveBatch,
        mut way: impl FnMut((MediaPair, Component), SocketAddr, &[u8]) -> Option<Forward>,
    ) -> usize {
        let mut packets = 0;
        let mut left = PACKETS;
        while left > 0 {
            let Some((pair, component)) = self.ready.pop_front() else {
                break;
            };
            // Closed meanwhile; another that has its number now queues itself.
            let Some(Some(opened)) = self.pairs.get_mut(pair.0 as usize) else {
                continue;
            };
            let port = opened.port(component);
            if !std::mem::replace(&mut port.is_queued, false) {
                continue;
            }
            let received = match batch.receive_at_most(port.socket.as_fd(), PART) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    self.queue(pair, component);
                    continue;
                }
                // Nothing waits, or what waited was an error, which is taken by asking.
                Err(_) => continue,
            };
            left = left.saturating_sub(received.max(1));
            packets += received;
            let mut outgoing = [Outgoing::NONE; PART];
            let mut count = 0;
            let mut to = None;
            for datagram in batch.datagrams() {
                let Some(forward) = way((pair, component), datagram.remote, datagram.bytes) else {
                    continue;
                };
                if to.is_some_and(|to| to != forward.pair) {
                    self.send(to, component, &outgoing[..count]);
                    count = 0;
                }
                to = Some(forward.pair);
                outgoing[count] = Outgoing {
                    remote: forward.remote,
                    local: None,
                    bytes: datagram.bytes,
                };
                count += 1;
            }
            self.send(to, component, &outgoing[..count]);
            if received == PART {
                self.queue(pair, component);
            }
        }
        packets
    }

    fn send(&mut self, pair: Option<MediaPair>, component: Component, packets: &[Outgoing<'_>]) {
        let opened = pair.and_then(|pair| self.pairs.get_mut(pair.0 as usize)?.as_mut());
        let Some(opened) = opened else { return };
        let socket = &opened.port(component).socket;
        let mut done = 0;
        while done < packets.len() {
            match self.send.send(socket.as_fd(), &packets[done..]) {
                Ok(sent) => done += sent.max(1),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.unsent += 1;
                    done += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    fn phone() -> UdpSocket {
        let phone = UdpSocket::bind("127.0.0.1:0").unwrap();
        let limit = Some(Duration::from_secs(5));
        phone.set_read_timeout(limit).unwrap();
        phone
    }

    /// An even port that is free with the next one.
    fn free_port() -> SocketAddr {
        loop {
            let first = UdpSocket::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap();
            let even = SocketAddr::new(first.ip(), first.port() & !1);
            let next = SocketAddr::new(first.ip(), even.port() | 1);
            if UdpSocket::bind(even).is_ok() && UdpSocket::bind(next).is_ok() {
                return even;
            }
        }
    }

    const TOKEN: Token = Token(7);

    fn wait(poll: &mut Poll, media: &mut MediaSockets) {
        let mut events = Events::with_capacity(16);
        poll.poll(&mut events, Some(Duration::from_secs(5)))
            .unwrap();
        for event in &events {
            assert_eq!(event.token(), TOKEN);
            media.events_ready();
        }
    }

    #[test]
    fn packets_leave_by_the_other_pair_and_take_turns() {
        // As many as an ordinary receive buffer takes.
        const EACH: u8 = 200;
        let mut poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let now = Instant::from_micros(0);
        let mut media = MediaSockets::new(&registry, TOKEN, now).unwrap();
        let (one, other) = (MediaPair(0), MediaPair(3));
        let here = free_port();
        media.open(one, here);
        let there = free_port();
        media.open(other, there);
        assert!(media.next_failed().is_none());
        let (alice, bob, bobs_rtcp) = (phone(), phone(), phone());
        let next = |address: SocketAddr| SocketAddr::new(address.ip(), address.port() + 1);
        for index in 0..EACH {
            alice.send_to(&[index], here).unwrap();
            alice.send_to(&[index], next(here)).unwrap();
        }
        let mut batch = ReceiveBatch::new();
        let mut order = Vec::new();
        let mut turns = 0;
        while order.len() < 2 * usize::from(EACH) {
            if !media.has_work() {
                wait(&mut poll, &mut media);
            }
            let before = order.len();
            let way = |(pair, component), from, _: &[u8]| {
                assert_eq!((pair, from), (one, alice.local_addr().unwrap()));
                order.push(component);
                let to = match component {
                    Component::Rtp => &bob,
                    Component::Rtcp => &bobs_rtcp,
                };
                Some(Forward {
                    pair: other,
                    remote: to.local_addr().unwrap(),
                })
            };
            media.serve(now, &registry, &mut batch, way).unwrap();
            assert!(order.len() - before < PACKETS + PART);
            turns += 1;
            assert!(turns < 100, "only {} came", order.len());
        }
        assert!(turns > 1);
        // A socket that has much does not keep the other waiting.
        let first = order[0];
        let second = order.iter().position(|component| *component != first);
        assert_eq!(second, Some(PART));
        for (phone, place) in [(bob, there), (bobs_rtcp, next(there))] {
            for index in 0..EACH {
                let mut bytes = [0; 10];
                assert_eq!(phone.recv_from(&mut bytes).unwrap(), (1, place));
                assert_eq!(bytes[0], index);
            }
        }
        media.close(one);
        media.close(other);
        assert!(UdpSocket::bind(here).is_ok() && UdpSocket::bind(there).is_ok());
    }

    #[test]
    fn a_flood_at_one_port_keeps_no_other_waiting() {
        let poll = Poll::new().unwrap();
        let now = Instant::from_micros(0);
        let mut media = MediaSockets::new(poll.registry(), TOKEN, now).unwrap();
        let (flooded, other) = (free_port(), free_port());
        media.open(MediaPair(0), flooded);
        let alice = phone();
        let flood = || {
            for _ in 0..PACKETS {
                alice.send_to(b"x", flooded).unwrap();
            }
        };
        flood();
        flood();
        let mut batch = ReceiveBatch::new();
        media.events_ready();
        media
            .serve(now, poll.registry(), &mut batch, |_, _, _| None)
            .unwrap();
        assert!(media.has_work());
        media.open(MediaPair(1), other);
        alice.send_to(b"y", other).unwrap();
        flood();
        let mut heard = Vec::new();
        let way = |(pair, _), _, packet: &[u8]| {
            heard.push((pair, packet.to_vec()));
            None
        };
        media.serve(now, poll.registry(), &mut batch, way).unwrap();
        assert!(heard.contains(&(MediaPair(1), b"y".to_vec())));
        assert!(media.has_work());
    }

    /// Where there is much, nothing but the timer wakes the loop; where there is little again, each packet does.
    #[test]
    fn much_is_read_after_a_rest() {
        let mut poll = Poll::new().unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let mut now = Instant::from_micros(0);
        let mut media = MediaSockets::new(&registry, TOKEN, now).unwrap();
        let (one, other) = (MediaPair(0), MediaPair(1));
        let here = free_port();
        media.open(one, here);
        media.open(other, free_port());
        let (alice, bob) = (phone(), phone());
        let to = bob.local_addr().unwrap();
        let mut batch = ReceiveBatch::new();
        let mut heard = 0;
        // Packets that come in 10 ms each, and whether they are so many that media rests then.
        for (packets, is_resting) in [(60, true), (60, true), (1, false), (1, false)] {
            for _ in 0..packets {
                alice.send_to(b"x", here).unwrap();
            }
            heard += packets;
            now = now.plus(Duration::from_millis(10));
            while heard > 0 {
                wait(&mut poll, &mut media);
                while media.has_work() {
                    let way = |_, _, _: &[u8]| {
                        heard -= 1;
                        let pair = other;
                        Some(Forward { pair, remote: to })
                    };
                    media.serve(now, &registry, &mut batch, way).unwrap();
                }
            }
            assert_eq!(media.is_resting, is_resting);
            for _ in 0..packets {
                bob.recv(&mut [0; 10]).unwrap();
            }
        }
        let mut events = Events::with_capacity(16);
        let nothing = Some(Duration::from_millis(20));
        poll.poll(&mut events, nothing).unwrap();
        assert!(events.is_empty(), "the timer goes on");
    }

    #[test]
    fn a_port_that_somebody_has_is_told() {
        let poll = Poll::new().unwrap();
        let now = Instant::from_micros(0);
        let mut media = MediaSockets::new(poll.registry(), TOKEN, now).unwrap();
        let address = free_port();
        let holder = UdpSocket::bind(SocketAddr::new(address.ip(), address.port() + 1)).unwrap();
        media.open(MediaPair(0), address);
        let (pair, error) = media.next_failed().unwrap();
        assert_eq!((pair, error.kind()), (MediaPair(0), ErrorKind::AddrInUse));
        // Nothing of it is left.
        drop(holder);
        media.open(MediaPair(0), address);
        assert!(media.next_failed().is_none());
    }
}
