//! What may happen to the machine that the server runs on: it is killed between any two writes, stopped for a while, put to
//! sleep, its clocks jump.
//!
//! The time of the network and of peers is the true one ([`World::now`]); what the server reads from its clocks is
//! [`World::clock`].

use super::*;

/// Packets that a stopped process' sockets hold; what comes when they are full is lost.
const WAITING_MAX: usize = 2_000;

/// When a process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillAt {
    /// At once.
    Now,
    /// After so many more of its outputs: datagrams sent, connections opened, changes kept.
    Output(u32),
    /// When it begins to write the next batch to the disk, which is there as a whole, or not at all.
    Batch(bool),
    /// When the next batch has been written.
    Committed,
}

/// Why nothing is heard from a process that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// It is stopped: its clocks go on.
    Stopped,
    /// The whole machine sleeps: its monotonic clock does not go on (`CLOCK_MONOTONIC`), the wall clock does.
    Asleep,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Up,
    Paused {
        pause: Pause,
        since: Instant,
        until: Instant,
    },
    Down,
}

/// The machine.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    state: State,
    armed: Option<KillAt>,
    /// For how long its monotonic clock stood.
    slept: Duration,
    /// How far its wall clock is ahead, in milliseconds.
    ahead_ms: i64,
    /// What came while the process was stopped.
    waiting: Vec<Packet>,
    /// When the last process ended.
    died_at: Option<Instant>,
    /// Its timers do not go any more: what a server that forgets what is due looks like.
    is_numb: bool,
}

impl Machine {
    /// Whether one more output is written. Not by whoever is dead.
    pub fn writes(&mut self) -> bool {
        if let Some(KillAt::Output(left)) = &mut self.armed {
            if *left == 0 {
                (self.armed, self.state) = (None, State::Down);
            } else {
                *left -= 1;
            }
        }
        self.state != State::Down
    }
}

impl World {
    /// Both clocks as the server reads them.
    pub fn clock(&self) -> Now {
        let Machine {
            slept, ahead_ms, ..
        } = self.machine;
        let unix = self.now.unix.as_millis().saturating_add_signed(ahead_ms);
        let mono = self.now.mono.as_micros();
        Now {
            mono: Instant::from_micros(mono.saturating_sub(slept.as_micros() as u64)),
            unix: UnixTime::from_millis(unix),
        }
    }

    /// Whether there is a process.
    pub fn is_down(&self) -> bool {
        self.machine.state == State::Down
    }

    /// When the process ended that was there last, if there is none.
    pub fn died_at(&self) -> Option<Instant> {
        self.machine.died_at
    }

    /// Whether there is one, and it runs.
    pub fn is_up(&self) -> bool {
        self.machine.state == State::Up
    }

    /// Kills the process, then or now.
    pub fn kill(&mut self, at: KillAt) {
        match at {
            KillAt::Now => {
                self.machine.state = State::Down;
                self.bury(false);
            }
            later => self.machine.armed = Some(later),
        }
    }

    /// It was to be killed at something that has not happened: now. False: it is not to be killed.
    pub fn kill_if_armed(&mut self) -> bool {
        let is_armed = self.machine.armed.is_some() && !self.is_down();
        if is_armed {
            self.kill(KillAt::Now);
        }
        is_armed
    }

    /// A clean stop has come to its end: what is left is written. True: all of it could be.
    pub fn close_down(&mut self) -> bool {
        let is_written = self.disk.close(self.now.mono);
        self.machine.state = State::Down;
        self.forget_process();
        is_written
    }

    /// A new process begins on the disk of the one before.
    pub fn start(&mut self, config: Config, seed: u64) {
        self.machine.state = State::Up;
        (self.machine.armed, self.machine.died_at) = (None, None);
        self.begin(config, seed);
    }

    /// Nothing is heard from the process until then.
    pub fn pause(&mut self, pause: Pause, until: Instant) {
        if self.is_up() {
            let since = self.now.mono;
            self.machine.state = State::Paused {
                pause,
                since,
                until,
            };
        }
    }

    /// The wall clock is set.
    pub fn jump(&mut self, millis: i64) {
        self.machine.ahead_ms += millis;
    }

    /// From now on nothing that is due is done.
    pub fn numb(&mut self) {
        self.machine.is_numb = true;
    }

    /// A server that is not right says this.
    pub fn say(&mut self, to: SocketAddr, bytes: &[u8]) {
        let bytes = match &mut self.door {
            Some(door) => door.leaves(self.now, to, bytes),
            None => Some(bytes.to_vec()),
        };
        if let Some(bytes) = bytes {
            let packet = Packet {
                from: self.server,
                to,
                payload: Payload::Datagram(bytes),
            };
            self.network.send(self.now.mono, to.ip(), packet);
        }
    }

    /// A process is dead: what it had in memory is gone, and its connections.
    fn bury(&mut self, keeps_batch: bool) {
        self.disk.kill(keeps_batch);
        self.forget_process();
    }

    fn forget_process(&mut self) {
        self.machine.armed = None;
        self.machine.died_at.get_or_insert(self.now.mono);
        self.machine.waiting.clear();
        self.network.break_streams(self.server);
        self.connections.clear();
        self.by_peer.clear();
        // The next server counts its own from the beginning.
        self.dead.clear();
        self.queries.clear();
        self.media.clear();
        self.endpoint.clear_outputs();
    }

    /// A packet has come to where it was sent: a process that is stopped reads it later, and one that is not there never.
    pub(super) fn reach(&mut self, packet: Packet) -> Option<Delivery> {
        let is_ours = packet.to.ip() == self.server.ip();
        match self.machine.state {
            _ if !is_ours => self.deliver(packet),
            State::Up => self.deliver(packet),
            State::Down => None,
            State::Paused { pause, .. } => {
                let is_stream = matches!(
                    packet.payload,
                    Payload::Opened(_) | Payload::Bytes(..) | Payload::Closed(_)
                );
                // Nobody repeats a datagram to a machine that sleeps but its sender.
                let is_kept = is_stream
                    || pause == Pause::Stopped && self.machine.waiting.len() < WAITING_MAX;
                if is_kept {
                    self.machine.waiting.push(packet);
                }
                None
            }
        }
    }

    /// When the server wants to be woken.
    pub(super) fn own_deadline(&self) -> Option<Instant> {
        match self.machine.state {
            State::Down => None,
            State::Paused { until, .. } => Some(until),
            State::Up if self.machine.is_numb => None,
            State::Up => {
                let deadline = self.endpoint.next_deadline()?;
                Some(deadline.plus(self.machine.slept))
            }
        }
    }

    /// When its writer has something to do.
    pub(super) fn disk_deadline(&self) -> Option<Instant> {
        match self.machine.state {
            State::Up => self.disk.next_deadline(),
            State::Paused { .. } | State::Down => None,
        }
    }

    /// Something that is due, and not the server's own: true.
    pub(super) fn machine_is_due(&mut self) -> bool {
        let now = self.now.mono;
        match self.machine.state {
            State::Up => {}
            State::Down => return true,
            State::Paused { until, .. } if until > now => return true,
            State::Paused { pause, since, .. } => {
                self.wake(pause, since);
                return true;
            }
        }
        if self.disk_deadline().is_none_or(|at| at > now) {
            return false;
        }
        if self.disk.tick(now) {
            self.disk_wrote();
        }
        true
    }

    /// The process goes on: with what has waited for it.
    fn wake(&mut self, pause: Pause, since: Instant) {
        self.machine.state = State::Up;
        if pause == Pause::Asleep {
            self.machine.slept += self.now.mono.since(since);
        }
        for packet in std::mem::take(&mut self.machine.waiting) {
            if self.is_down() {
                return;
            }
            let delivery = self.deliver(packet);
            assert_eq!(delivery, None, "a packet to the server is nobody else's");
        }
    }

    /// A batch begins to be written, or was.
    fn disk_wrote(&mut self) {
        let is_writing = self.disk.is_writing();
        let keeps_batch = match self.machine.armed {
            Some(KillAt::Batch(keeps_batch)) if is_writing => keeps_batch,
            Some(KillAt::Committed) if !is_writing => true,
            _ => return,
        };
        self.machine.state = State::Down;
        self.bury(keeps_batch);
    }

    /// Hands what is to be kept over to the disk, in the turn in which it was put out, and forgets the outputs.
    pub(super) fn keep_outputs(&mut self) {
        if self.is_down() {
            return self.endpoint.clear_outputs();
        }
        let clock = Now {
            mono: self.now.mono,
            unix: self.clock().unix,
        };
        let (disk, door) = (&mut self.disk, &self.door);
        self.endpoint.clear_outputs_keeping(|change| {
            if door.as_ref().is_none_or(|door| !door.forgets(&change)) {
                disk.keep(clock, change);
            }
        });
    }

    /// The process may have died while it wrote its outputs.
    pub(super) fn bury_if_dead(&mut self) {
        if self.is_down() {
            self.bury(false);
        }
    }
}
