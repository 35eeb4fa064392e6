//! The phones of relayed calls: each sends a packet of RTP every 20 ms to where it is told, and counts what comes to it.
//!
//! Packets of all phones are spread evenly over the 20 ms. Who is late (a processor that somebody else has) sends what is due
//! at once. A packet's delay is from when it was really sent to when the kernel had it for the other phone, whenever that
//! reads it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant, UNIX_EPOCH};

use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use sipkeep::net::sys::{self, ReceiveBatch, Received};

/// Between two packets of a phone.
const INTERVAL: Duration = Duration::from_millis(20);
/// RTP's header and 20 ms of PCMA (RFC 3551 §4.5.14).
pub const PACKET_BYTES: usize = 12 + 160;
/// Packets sent before those that have come are looked at.
const PART: usize = 16;
/// Packets of a phone that are read at a time.
const READ: usize = 8;
/// How long what is under way when the time is over may take.
const DRAIN: Duration = Duration::from_millis(300);
/// The longest delay that is told apart, in nanoseconds.
const DELAY_NS_MAX: u64 = 10_000_000_000;

/// One side of a call.
struct Phone {
    socket: UdpSocket,
    local: SocketAddr,
    /// Packets that it has sent in this phase.
    sent: u32,
    /// The highest number that has come to it in this phase, and a bit for each of the 64 before it and itself.
    highest: u32,
    seen: u64,
}

/// What became of the packets of a phase.
#[allow(missing_docs)]
pub struct Tally {
    pub sent: u64,
    /// Each counted once.
    pub received: u64,
    pub twice: u64,
    /// Our own kernel did not take them.
    pub unsent: u64,
    /// They came to the wrong phone, or in another phase than they were sent in.
    pub strange: u64,
    /// Nanoseconds from sending to receiving.
    pub delay: Histogram<u64>,
    /// Of sending.
    pub elapsed: Duration,
}

/// All of them: those of call N at the places 2N and 2N + 1.
pub struct Phones {
    phones: Vec<Phone>,
    poll: Poll,
    events: Events,
    batch: ReceiveBatch,
    phase: u32,
}

impl Tally {
    fn new() -> Self {
        Self {
            sent: 0,
            received: 0,
            twice: 0,
            unsent: 0,
            strange: 0,
            delay: histogram(),
            elapsed: Duration::ZERO,
        }
    }

    /// Adds those of another phase.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.twice += other.twice;
        self.unsent += other.unsent;
        self.strange += other.strange;
        self.elapsed += other.elapsed;
        self.delay += &other.delay;
    }

    /// Sent, and never received.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

/// For delays, in nanoseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, DELAY_NS_MAX, 3)
        .expect("constant bounds that hdrhistogram allows")
}

impl Phone {
    /// Whether this number comes for the first time. One that is more than 64 late counts as one that has come before.
    fn is_new(&mut self, number: u32) -> bool {
        if self.seen == 0 || number > self.highest {
            let ahead = number - self.highest;
            let kept = self.seen.checked_shl(ahead).unwrap_or(0);
            self.seen = kept | 1;
            self.highest = number;
            return true;
        }
        let bit = 1u64.checked_shl(self.highest - number).unwrap_or(0);
        let is_new = self.seen & bit == 0 && bit != 0;
        self.seen |= bit;
        is_new
    }
}

impl Phones {
    /// Binds the sockets of so many calls, callers' at one address and callees' at another.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(calls: usize, addresses: [IpAddr; 2]) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut phones = Vec::new();
        for place in 0..2 * calls {
            let socket = UdpSocket::bind(SocketAddr::new(addresses[place % 2], 0))?;
            socket.set_nonblocking(true)?;
            sys::receive_timestamps(socket.as_fd())?;
            let descriptor = socket.as_raw_fd();
            let mut source = SourceFd(&descriptor);
            poll.registry()
                .register(&mut source, Token(place), Interest::READABLE)?;
            let local = socket.local_addr()?;
            phones.push(Phone {
                socket,
                local,
                sent: 0,
                highest: 0,
                seen: 0,
            });
        }
        Ok(Self {
            phones,
            poll,
            events: Events::with_capacity(1024),
            batch: ReceiveBatch::new(),
            phase: 0,
        })
    }

    /// Where a phone is.
    pub fn local(&self, place: usize) -> SocketAddr {
        self.phones[place].local
    }

    /// All talk for so long, each to its place in `remotes`. `beside` is done between packets, again and again, until the
    /// last packet has come.
    ///
    /// # Errors
    /// The kernel's, or those of `beside`, for people.
    pub fn talk(
        &mut self,
        remotes: &[SocketAddr],
        time: Duration,
        mut beside: impl FnMut() -> Result<(), String>,
    ) -> Result<Tally, String> {
        let io = |error: io::Error| format!("media: {error}");
        self.phase += 1;
        for phone in &mut self.phones {
            (phone.sent, phone.highest, phone.seen) = (0, 0, 0);
        }
        let mut tally = Tally::new();
        let mut due_count = 0u64;
        let begun = Instant::now();
        let gap = INTERVAL.as_nanos() as u64 / self.phones.len() as u64;
        loop {
            let elapsed = begun.elapsed();
            if elapsed >= time {
                break;
            }
            let due = elapsed.as_nanos() as u64 / gap;
            let until = due.min(due_count + PART as u64);
            for number in due_count..until {
                let place = (number % self.phones.len() as u64) as usize;
                self.send(place, remotes[place], &mut tally).map_err(io)?;
            }
            due_count = until;
            self.receive(Duration::ZERO, &mut tally).map_err(io)?;
            beside()?;
        }
        tally.elapsed = begun.elapsed();
        let ended = Instant::now();
        while ended.elapsed() < DRAIN {
            self.receive(Duration::from_millis(1), &mut tally)
                .map_err(io)?;
            beside()?;
        }
        Ok(tally)
    }

    fn send(&mut self, place: usize, remote: SocketAddr, tally: &mut Tally) -> io::Result<()> {
        let phone = &mut self.phones[place];
        phone.sent += 1;
        let mut packet = [0xd5; PACKET_BYTES];
        // Version 2, PCMA, sequence number, timestamp, SSRC: RFC 3550 §5.1.
        packet[..2].copy_from_slice(&[0x80, 8]);
        packet[2..4].copy_from_slice(&(phone.sent as u16).to_be_bytes());
        packet[4..8].copy_from_slice(&phone.sent.wrapping_mul(160).to_be_bytes());
        packet[8..12].copy_from_slice(&(place as u32).to_be_bytes());
        packet[12..16].copy_from_slice(&self.phase.to_be_bytes());
        packet[16..20].copy_from_slice(&phone.sent.to_be_bytes());
        packet[20..28]
            .copy_from_slice(&unix_nanos(UNIX_EPOCH.elapsed().unwrap_or_default()).to_be_bytes());
        match phone.socket.send_to(&packet, remote) {
            Ok(_) => tally.sent += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => tally.unsent += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn receive(&mut self, longest: Duration, tally: &mut Tally) -> io::Result<()> {
        match self.poll.poll(&mut self.events, Some(longest)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            let place = event.token().0;
            let phone = &mut self.phones[place];
            loop {
                match self.batch.receive_at_most(phone.socket.as_fd(), READ) {
                    Ok(received) => {
                        for packet in self.batch.datagrams() {
                            count(phone, place, self.phase, &packet, tally);
                        }
                        if received < READ {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// Counts a packet that came to a phone.
fn count(phone: &mut Phone, place: usize, phase: u32, received: &Received, tally: &mut Tally) {
    let packet = received.bytes;
    let number = |at: usize| Some(u32::from_be_bytes(*packet.get(at..)?.first_chunk()?));
    let time = || Some(u64::from_be_bytes(*packet.get(20..)?.first_chunk()?));
    let is_own = packet.len() == PACKET_BYTES
        && number(8) == Some(place as u32 ^ 1)
        && number(12) == Some(phase);
    let (Some(number), Some(sent_at)) = (number(16).filter(|_| is_own), time()) else {
        tally.strange += 1;
        return;
    };
    if phone.is_new(number) {
        tally.received += 1;
        let came_at = unix_nanos(received.stamp.unwrap_or_default());
        let delay = came_at.saturating_sub(sent_at).max(1);
        tally.delay.saturating_record(delay);
    } else {
        tally.twice += 1;
    }
}

fn unix_nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_counted_where_it_comes() {
        let host = IpAddr::from([127, 0, 0, 1]);
        let mut phones = Phones::bind(2, [host; 2]).unwrap();
        let across = |place: usize| phones.local(place ^ 1);
        let right: Vec<SocketAddr> = (0..4).map(across).collect();
        let time = Duration::from_millis(100);
        let tally = phones.talk(&right, time, || Ok(())).unwrap();
        // 5 packets of each at most: on a busy machine fewer are due in time.
        assert!((4..=20).contains(&tally.sent), "{}", tally.sent);
        assert_eq!((tally.lost(), tally.twice, tally.strange), (0, 0, 0));
        assert_eq!(tally.delay.len(), tally.sent);
        assert!(tally.delay.value_at_quantile(0.5) > 1);
        // All to one: the others are none of its.
        let wrong = vec![right[0]; 4];
        let tally = phones.talk(&wrong, time, || Ok(())).unwrap();
        assert!(tally.received > 0 && tally.strange >= 3 * tally.received - 3);
        assert_eq!(tally.lost(), tally.sent - tally.received);
    }

    #[test]
    fn numbers_count_once() {
        let mut phones = Phones::bind(1, [IpAddr::from([127, 0, 0, 1]); 2]).unwrap();
        let phone = &mut phones.phones[0];
        let new: Vec<bool> = [1, 3, 2, 3, 2, 90, 89, 1, 90]
            .into_iter()
            .map(|number| phone.is_new(number))
            .collect();
        let expected = [true, true, true, false, false, true, true, false, false];
        assert_eq!(new, expected);
    }
}
