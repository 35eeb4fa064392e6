//! When strangers' sockets are left alone for up to a millisecond, or media's for a fifth of one, so that what comes then is
//! read as one batch.
//!
//! A loop that wakes for every packet of a flood spends its time in waking: a bare one needs three times as much for a packet
//! at 100,000 a second as one that reads a millisecond later. So while most of what strangers send is not answered, their
//! sockets wake nobody; they are read when the rest is over. It grows with the flood, since a small one costs little anyway,
//! and is never so long that the receive buffer might not hold what comes. Lanes, connections and timers wake the loop as ever,
//! and who is answered is read at once: a load of honest strangers is not slowed down.
//!
//! Of media everybody's packets count: the rest is little against the 20 ms that a packet of speech is long. Each comes to
//! another socket, so that a longer one would save next to nothing.

use std::time::Duration;

use crate::time::Instant;

/// Between two readings of strangers, at most.
const REST_MAX: Duration = Duration::from_millis(1);
/// Less than this saves nothing.
const REST_MIN: Duration = Duration::from_micros(100);
/// Packets a second from which on a rest is as long as it may be; below, in proportion.
const FULL: u64 = 20_000;
/// Between two readings of media.
pub(super) const MEDIA_REST: Duration = Duration::from_micros(200);
/// How long packets are counted before the rate is judged.
const WINDOW: Duration = Duration::from_millis(10);
/// Packets of a window that nobody answered, from which on it is a flood: 5,000 a second.
const FLOOD: usize = 50;
/// Packets of media in a window from which on it rests: 5,000 a second, 50 calls.
const BUSY: usize = 50;
/// What the kernel counts a datagram of ordinary size as in a receive buffer, at most.
const DATAGRAM_BYTES: usize = 2_304;

/// See the module.
#[derive(Debug)]
pub(super) struct Rest {
    /// When the window began.
    since: Instant,
    received: usize,
    answered: usize,
    /// Of a rest, as the last window has shown; `None`: it is no flood.
    length: Option<Duration>,
    /// Packets that leave half of the buffer free.
    room: u64,
}

impl Rest {
    /// For sockets with receive buffers of so many bytes (the smallest), as the kernel counts. With none there is no rest.
    pub(super) fn new(now: Instant, receive_buffer_bytes: usize) -> Self {
        Self {
            since: now,
            received: 0,
            answered: 0,
            length: None,
            room: (receive_buffer_bytes / DATAGRAM_BYTES / 2) as u64,
        }
    }

    /// So many were read, and so many answers given to them.
    pub(super) fn count(&mut self, now: Instant, received: usize, answered: usize) {
        self.received += received;
        self.answered += answered;
        let elapsed = now.since(self.since);
        if elapsed >= WINDOW {
            let unanswered = self.received.saturating_sub(self.answered);
            let is_flood = unanswered >= FLOOD && unanswered > self.answered;
            self.length = is_flood
                .then(|| self.length_at(elapsed))
                .filter(|length| *length >= REST_MIN);
            (self.since, self.received, self.answered) = (now, 0, 0);
        }
    }

    /// How long a rest may be when so much came in this time.
    fn length_at(&self, elapsed: Duration) -> Duration {
        let received = self.received.max(1) as u64;
        let elapsed_us = elapsed.as_micros() as u64;
        let grown = REST_MAX.as_micros() as u64 * received * 1_000_000 / elapsed_us.max(1) / FULL;
        let held = self.room * elapsed_us / received;
        REST_MAX.min(Duration::from_micros(grown.min(held)))
    }

    /// For how long to leave the sockets alone; `None`: it is no flood.
    pub(super) fn length(&self) -> Option<Duration> {
        self.length
    }
}

/// Whether media is so much that it rests.
#[derive(Debug)]
pub(super) struct Busy {
    /// When the window began.
    since: Instant,
    packets: usize,
    is_busy: bool,
}

impl Busy {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            packets: 0,
            is_busy: false,
        }
    }

    /// So many were read.
    pub(super) fn count(&mut self, now: Instant, packets: usize) {
        self.packets += packets;
        let passed = now.since(self.since);
        if passed >= WINDOW {
            let usual = (passed.as_micros() / WINDOW.as_micros()) as usize;
            self.is_busy = self.packets / usual >= BUSY;
            (self.since, self.packets) = (now, 0);
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays packets a second, of which one in `answered` is answered; how long it rests then, in microseconds.
    fn rests(rest: &mut Rest, from_ms: u64, per_second: usize, answered: usize) -> u128 {
        for ms in from_ms..from_ms + 100 {
            let received = per_second / 1000;
            let answers = received.checked_div(answered).unwrap_or(0);
            rest.count(Instant::from_micros(ms * 1000), received, answers);
        }
        rest.length().map_or(0, |length| length.as_micros())
    }

    #[test]
    fn floods_that_are_not_answered_are_read_later() {
        let mut rest = Rest::new(Instant::from_micros(0), 8 << 20);
        for (ms, rate, answered, expected) in [
            (100, 1_000, 0, 0),
            (200, 6_000, 0, 300),
            (300, 12_000, 0, 600),
            (400, 200_000, 0, 1_000),
            (500, 200_000, 200, 1_000),
            (600, 200_000, 1, 0),
            (700, 200_000, 3, 1_000),
            (800, 1_000, 0, 0),
        ] {
            let length = rests(&mut rest, ms, rate, answered);
            assert_eq!(length, expected, "{rate}, one in {answered} answered");
        }
    }

    #[test]
    fn a_small_buffer_is_not_left_to_overflow() {
        // 92 packets in half of it.
        let mut rest = Rest::new(Instant::from_micros(0), 425_984);
        for (ms, rate, expected) in [
            (100, 50_000, 1_000),
            (200, 100_000, 920),
            (300, 200_000, 460),
            (400, 1_000_000, 0),
        ] {
            assert_eq!(rests(&mut rest, ms, rate, 0), expected, "{rate}");
        }
        let mut none = Rest::new(Instant::from_micros(0), 0);
        assert_eq!(rests(&mut none, 100, 200_000, 0), 0);
    }

    #[test]
    fn media_rests_where_there_is_much_of_it() {
        let mut busy = Busy::new(Instant::from_micros(0));
        for (from_ms, packets_a_ms, expected) in [(0, 4, false), (100, 6, true), (200, 1, false)] {
            for ms in from_ms..from_ms + 100 {
                busy.count(Instant::from_micros(ms * 1_000), packets_a_ms);
            }
            assert_eq!(busy.is_busy(), expected, "{packets_a_ms} in a millisecond");
        }
        // What comes after a long silence is not much.
        busy.count(Instant::from_micros(60_000_000), 60);
        assert!(!busy.is_busy());
    }
}
