//! UDP: a batch of each lane, then strangers in parts between which the lanes are looked at again, or later if they are a flood.

use super::*;

impl<C: Core> Shell<C> {
    /// UDP: the lanes, then strangers.
    pub(in crate::net) fn receive_datagrams(&mut self, events: &mut Events) -> io::Result<()> {
        self.read_lanes();
        if self.is_resting() {
            return Ok(());
        }
        for index in 0..self.io.udp.strangers.len() {
            let place = self.io.udp.strangers[index];
            if !self.io.udp.sockets[place].readable {
                continue;
            }
            let received = self.receive(place, BATCH);
            let mut now = self.clock.now();
            let at = now.mono;
            let mut handled = 0;
            while handled < received {
                if handled > 0 {
                    self.look_at_lanes(events)?;
                    now = self.clock.now();
                }
                handled = self.handle_datagrams(place, handled..received, STRANGERS_PART, at, now);
            }
            self.batch_done(place, received);
        }
        self.rest_or_listen()
    }

    /// Whether it is too early to read strangers' sockets. They are read before if `lanes` asks for it.
    fn is_resting(&mut self) -> bool {
        let Some(until) = self.rest_until else {
            return false;
        };
        if until > self.clock.mono() && self.io.udp.are_strangers_read() {
            return true;
        }
        self.io.udp.strangers_may_be_readable();
        false
    }

    /// Strangers' sockets have been read: leaves them alone for a while if that was a flood, else has the poll watch them.
    fn rest_or_listen(&mut self) -> io::Result<()> {
        let Io { udp, registry, .. } = &mut self.io;
        let now = self.clock.mono();
        // Time passes though nothing comes.
        self.rest.count(now, 0, 0);
        match self.rest.length() {
            Some(length) if udp.are_strangers_read() => {
                if self.rest_until.is_none() {
                    udp.ignore_strangers(registry)?;
                }
                self.rest_timer.set(length)?;
                self.rest_until = Some(now.plus(length));
            }
            None if self.rest_until.take().is_some() => udp.watch_strangers(registry)?,
            _ => {}
        }
        Ok(())
    }

    /// Takes what events there are and reads the lanes that have something.
    fn look_at_lanes(&mut self, events: &mut Events) -> io::Result<()> {
        if self.io.udp.lanes.is_empty() {
            return Ok(());
        }
        match self.poll.poll(events, Some(Duration::ZERO)) {
            Ok(()) => self.take_events(events),
            Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
            Err(error) => return Err(error),
        }
        self.read_lanes();
        Ok(())
    }

    /// A bounded batch of each lane.
    fn read_lanes(&mut self) {
        for index in 0..self.io.udp.lanes.len() {
            let place = self.io.udp.lanes[index];
            if self.io.udp.sockets[place].readable {
                let received = self.receive(place, LANE_BATCH);
                let now = self.clock.now();
                self.handle_datagrams(place, 0..received, received, now.mono, now);
                self.batch_done(place, received);
            }
        }
    }

    /// Receives from a socket, at most so many; how many.
    fn receive(&mut self, place: usize, most: usize) -> usize {
        let socket = &mut self.io.udp.sockets[place];
        let batch = match socket.lane {
            Lane::Strangers => &mut self.receive,
            Lane::Peers | Lane::Phones => &mut self.receive_lane,
        };
        socket.receive(batch, most).unwrap_or_else(|error| {
            if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
                let fields = vec![("error", error.to_string())];
                let event = event(::log::Level::Warn, "receive", fields);
                log::event(self.clock.now(), &event);
            }
            0
        })
    }

    /// Hands datagrams of a received batch to the core, until it has had so many that it did not discard at once, and sends
    /// what it makes of them. `at`: when they were received. The place behind the last one.
    fn handle_datagrams(
        &mut self,
        place: usize,
        part: Range<usize>,
        costly_max: usize,
        at: Instant,
        now: Now,
    ) -> usize {
        let Self {
            core,
            io,
            lanes,
            clock,
            latencies,
            ..
        } = self;
        let batch = match io.udp.sockets[place].lane {
            Lane::Strangers => &self.receive,
            Lane::Peers | Lane::Phones => &self.receive_lane,
        };
        let (mut end, mut costly) = (part.start, 0);
        let mut bytes_in = 0;
        let mut answered = 0;
        while end < part.end && costly < costly_max {
            end += 1;
            let Some(datagram) = batch.datagram(end - 1) else {
                continue;
            };
            let socket = &mut io.udp.sockets[place];
            let (Some(flow), bytes) = (socket.flow(&datagram), datagram.bytes) else {
                continue;
            };
            if lanes.hold(socket, &flow, bytes) {
                continue;
            }
            let discarded = core.discarded();
            core.handle_input(now, Input::Datagram { flow, bytes });
            if core.discarded() != discarded {
                continue;
            }
            costly += 1;
            bytes_in += bytes.len();
            if bytes_in >= FLUSH_BYTES {
                answered += core.outputs().len();
                flush(core, io, now);
                bytes_in = 0;
            }
        }
        answered += core.outputs().len();
        let count = end - part.start;
        if io.udp.sockets[place].lane == Lane::Strangers {
            self.rest.count(now.mono, count, answered);
        }
        flush(core, io, now);
        latencies.record(clock.mono().since(at), count);
        end
    }

    /// A socket's batch was handled. Handles also what was held back because of datagrams that might have been in it.
    fn batch_done(&mut self, place: usize, received: usize) {
        if !self.lanes.is_swapping() {
            return;
        }
        let is_empty = !self.io.udp.sockets[place].readable;
        let now = self.clock.now();
        let held = self.lanes.batch_done(place, received, is_empty, now.mono);
        let Some(held) = held else { return };
        let mut bytes_in = 0;
        for (flow, bytes) in held.datagrams() {
            self.core.handle_input(now, Input::Datagram { flow, bytes });
            bytes_in += bytes.len();
            if bytes_in >= FLUSH_BYTES {
                flush(&mut self.core, &mut self.io, now);
                bytes_in = 0;
            }
        }
        flush(&mut self.core, &mut self.io, now);
    }
}
