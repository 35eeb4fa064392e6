//! Lines register: their requests go out, what comes of them goes back to `line`, and which address is asked next.

use super::*;
use crate::call::ALLOW;
use crate::config::Host;
use crate::line::{Due, Manners, Next, RequestId, Silence, Slot, Turn, Way};
use crate::message::{Message, Method};
use crate::source::Sink;

/// Requests of lines between two batches of outputs: those of a stop come all at once.
const REGISTERS_AT_ONCE: usize = 200;
/// RFC 5626 §3.5.1: keeps the way through a NAT open.
const PING: &[u8] = b"\r\n\r\n";

impl Endpoint {
    /// Does what is due for lines.
    pub(super) fn lines_go_on(&mut self, now: Now) {
        for _ in 0..REGISTERS_AT_ONCE {
            let (lines, mut turn) = self.lines_turn(now);
            match lines.due(&mut turn) {
                Some(Due::Register(slot)) => self.register_line(now, slot),
                Some(Due::KeepAlive(slot)) => self.keep_alive(now, slot),
                None => return,
            }
        }
    }

    fn lines_turn(&mut self, now: Now) -> (&mut Lines, Turn<'_>) {
        let turn = Turn {
            now,
            tokens: &mut self.tokens,
            out: &mut self.out,
        };
        (&mut self.lines, turn)
    }

    /// Sends a REGISTER to the first address that has not been asked in this attempt.
    fn register_line(&mut self, now: Now, slot: Slot) {
        let reason = match self.next_way(now, slot) {
            Ok(way) => return self.send_register(now, slot, &way),
            Err(reason) => reason,
        };
        let (lines, mut turn) = self.lines_turn(now);
        lines.nowhere(slot, reason, &mut turn);
    }

    /// The way to the next address of a line.
    ///
    /// # Errors
    /// There is none (any more), in words.
    fn next_way(&mut self, now: Now, slot: Slot) -> Result<Way, String> {
        let Some((host, transport, tried)) = self.lines.target(slot) else {
            return Err("the line is gone".to_owned());
        };
        // What was registered is removed where it was registered.
        let bound = (self.lines.way(slot)).filter(|_| self.lines.is_removal(slot));
        let bound = bound.map(|way| way.flow.remote);
        let places = bound.into_iter().chain(self.places_of(host));
        let mut left = places.filter(|place| !tried.contains(place));
        let remote = match left.next() {
            Some(remote) if self.lines.may_ask_another(slot) => remote,
            _ => return Err(format!("no address of {host} is known")),
        };
        let flow = self.flow_to(now, remote, transport);
        let flow =
            flow.ok_or_else(|| format!("no way leads to {remote} over {}", transport.uri_token()))?;
        Ok(Way {
            flow,
            ours: self.contact_address(&flow),
        })
    }

    /// The addresses of a host, in the order in which they are to be tried.
    pub(super) fn places_of(&self, host: &Host) -> Vec<SocketAddr> {
        let port = host.port.unwrap_or(SIP_PORT);
        let address = host.address().map(|address| SocketAddr::new(address, port));
        address.into_iter().collect()
    }

    fn send_register(&mut self, now: Now, slot: Slot, way: &Way) {
        let Some((client, branch)) = self.transactions.reserve() else {
            // Tried again as after silence.
            let (lines, mut turn) = self.lines_turn(now);
            return lines.nowhere(slot, "too many transactions".to_owned(), &mut turn);
        };
        let manners = Manners {
            allow: ALLOW,
            branch: branch.as_bytes(),
        };
        let (tokens, buffer) = (&mut self.tokens, &mut self.buffer);
        let id = (self.lines).ask(now.mono, slot, way, &manners, tokens, buffer);
        let Some(id) = id else {
            self.transactions.release(client);
            return;
        };
        self.transactions.send(
            now.mono,
            client,
            Method::Register,
            &way.flow,
            &self.buffer,
            TransactionUser::Line(id),
            &mut self.out,
        );
    }

    /// A response to a line's REGISTER.
    pub(super) fn line_response(&mut self, now: Now, id: RequestId, response: &Message<'_>) {
        let (lines, mut turn) = self.lines_turn(now);
        let next = lines.receive_response(id, response, &mut turn);
        self.line_next(now, id.slot(), next);
    }

    /// The connection that a line's REGISTER went on.
    pub(super) fn line_connection(&self, id: RequestId) -> Option<ConnectionId> {
        self.lines.way(id.slot())?.flow.connection
    }

    /// Nobody answers a line's REGISTER.
    pub(super) fn line_unanswered(&mut self, now: Now, id: RequestId, silence: Silence) {
        let (lines, mut turn) = self.lines_turn(now);
        let next = lines.unanswered(id, silence, &mut turn);
        self.line_next(now, id.slot(), next);
    }

    fn line_next(&mut self, now: Now, slot: Slot, next: Next) {
        match (next, self.lines.way(slot)) {
            (Next::Again, Some(way)) => {
                // It may have been the first to say what our address is.
                let ours = self.contact_address(&way.flow);
                self.send_register(now, slot, &Way { ours, ..way });
            }
            (Next::Again | Next::Elsewhere, _) => self.register_line(now, slot),
            (Next::Done, _) => {}
        }
    }

    /// Whoever registered on a connection that is gone does so again.
    pub(super) fn line_connection_closed(&mut self, now: Now, connection: ConnectionId) {
        if connection.is_ours() {
            let (lines, mut turn) = self.lines_turn(now);
            lines.connection_closed(connection, &mut turn);
        }
    }

    /// Keeps a line's way open. A connection that is gone is not opened for that.
    fn keep_alive(&mut self, now: Now, slot: Slot) {
        let way = match self.lines.way(slot) {
            Some(way) => Ok(way),
            None => self.next_way(now, slot),
        };
        // Without a way there is nothing to keep open.
        let Ok(Way { flow, .. }) = way else { return };
        let is_open = flow
            .connection
            .is_none_or(|own| self.connections.is_open(own));
        if is_open && self.lines.keeps_open(now.mono, slot, &flow) {
            self.out.send(&flow, PING);
        }
    }
}
