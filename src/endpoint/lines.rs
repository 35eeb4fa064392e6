//! Lines register: their requests go out, what comes of them goes back to `line`, and which address is asked next.

use super::*;
use crate::call::ALLOW;
use crate::config::{Host, PeerAddress};
use crate::line::{Due, Manners, Next, RequestId, Silence, Slot, Turn, Way};
use crate::message::{Message, Method};
use crate::names::{Candidate, Target};
use crate::source::Sink;

/// Requests of lines between two batches of outputs: those of a stop come all at once.
const REGISTERS_AT_ONCE: usize = 200;
/// RFC 5626 §3.5.1: keeps the way through a NAT open.
const PING: &[u8] = b"\r\n\r\n";

/// Where a line's packets go.
#[derive(Clone, Copy, Debug)]
pub(super) struct LinePlace {
    pub(super) place: PlaceId,
    /// Of its server, where that is not the same: it may call all the same.
    server: Option<PlaceId>,
    /// Of the place's changes.
    seen: u64,
    /// The line is registered where its name leads no more.
    is_left: bool,
}

/// Why there is no way.
enum Nowhere {
    /// The name has not been answered for yet.
    Asked,
    /// In words.
    Because(String),
}

fn target(host: &Host, transport: Transport) -> Target {
    Target {
        host: host.name.clone(),
        port: host.port,
        transport: Some(transport),
    }
}

pub(super) fn candidate(flow: &Flow) -> Candidate {
    Candidate {
        transport: flow.transport,
        address: flow.remote,
    }
}

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
            // Whatever comes of it, `places_moved` says so.
            Err(Nowhere::Asked) => return self.lines.postpone(now.mono, slot),
            Err(Nowhere::Because(reason)) => reason,
        };
        let (lines, mut turn) = self.lines_turn(now);
        lines.nowhere(slot, reason, &mut turn);
    }

    /// The way to the next address of a line.
    ///
    /// # Errors
    /// There is none (any more), or none yet.
    fn next_way(&mut self, now: Now, slot: Slot) -> Result<Way, Nowhere> {
        let because = |reason| Err(Nowhere::Because(reason));
        let Some((host, transport, tried)) = self.lines.target(slot) else {
            return because("the line is gone".to_owned());
        };
        // What was registered is removed where it was registered.
        let bound_way = (self.lines.way(slot)).filter(|_| self.lines.is_removal(slot));
        let bound = bound_way.map(|way| way.flow.remote);
        let places = match (self.places_of(host, transport), bound) {
            (Ok(places), _) => places,
            (Err(_), Some(_)) => Vec::new(),
            (Err(Unknown::Asked), None) if tried.is_empty() => return Err(Nowhere::Asked),
            (Err(unknown), None) => return because(format!("{host}: {unknown}")),
        };
        let left = bound.into_iter().chain(places);
        let left: Vec<SocketAddr> = left.filter(|place| !tried.contains(place)).collect();
        if left.is_empty() || !self.lines.may_ask_another(slot) {
            return because(format!("no further address of {host} is known"));
        }
        // There is perhaps no IPv6 here, whatever the name has.
        let mut flows = left.iter();
        let flow = flows.find_map(|remote| self.flow_to(now, *remote, transport));
        // Nobody asks the kernel any more how to reach who is not in the file.
        let same = bound_way.filter(|way| left.contains(&way.flow.remote));
        let Some(flow) = flow.or_else(|| same.map(|way| way.flow)) else {
            let left: Vec<String> = left.iter().map(ToString::to_string).collect();
            let (left, transport) = (left.join(", "), transport.uri_token());
            return because(format!("no way leads to {left} over {transport}"));
        };
        Ok(Way {
            flow,
            ours: self.contact_address(&flow),
        })
    }

    /// The addresses of a line's host, in the order in which they are to be tried (RFC 3263 §4.3).
    pub(super) fn places_of(
        &self,
        host: &Host,
        transport: Transport,
    ) -> Result<Vec<SocketAddr>, Unknown> {
        let place = self.places.find(&target(host, transport));
        let candidates = match place {
            Some(place) => self.places.candidates(place)?,
            // Of a line that the configuration has no more.
            None => &[],
        };
        Ok(candidates.iter().map(|own| own.address).collect())
    }

    /// Names may lead elsewhere than before: whoever is not registered and has perhaps waited for that tries it, and the
    /// tables of who is who are brought up to date.
    pub(super) fn places_moved(&mut self, now: Now) {
        self.places_seen = self.places.changes();
        for (line, index) in self.line_places.iter_mut().zip(0..) {
            let changes = self.places.changes_of(line.place);
            let is_moved = std::mem::replace(&mut line.seen, changes) != changes;
            let id = LineId(index);
            match self.places.candidates(line.place) {
                Ok(known) if is_moved => {
                    let known = known.iter().map(|own| own.address);
                    self.lines.look_again(now.mono, id, known);
                }
                // It says so itself, and is tried again like any other failure.
                Err(Unknown::Failed(_)) if is_moved && !self.lines.is_registered(id) => {
                    self.lines.register_soon(now.mono, id);
                }
                _ => {}
            }
        }
        if self.addresses_seen != self.places.address_changes() {
            self.lines_moved(now);
        }
    }

    /// Addresses of lines' servers and proxies may be others now. Where a line is registered its carrier calls from,
    /// whatever its name says by now; a line that is registered where its name leads no more does so elsewhere soon.
    pub(super) fn lines_moved(&mut self, now: Now) {
        self.addresses_seen = self.places.address_changes();
        let mut hosts = Vec::with_capacity(self.config.lines.len());
        let lines = self.config.lines.iter().zip(&mut self.line_places);
        for (index, (line, own)) in lines.enumerate() {
            let at = |address, host: &Host| PeerAddress {
                address,
                port: host.port,
            };
            let ways = self.places.addresses(own.place);
            let mut all: Vec<_> = ways.map(|address| at(address, line.next_host())).collect();
            let id = LineId(index as u32);
            let bound = self.lines.flow(id).map(|flow| flow.remote.ip());
            let bound = bound.map(|bound| at(bound, line.next_host()));
            let left = bound.filter(|bound| !all.contains(bound));
            let was_left = std::mem::replace(&mut own.is_left, left.is_some());
            if left.is_some() && !was_left {
                self.lines.register_soon(now.mono, id);
            }
            all.extend(left);
            let server = own.server.into_iter();
            let servers = server.flat_map(|place| self.places.addresses(place));
            all.extend(servers.map(|address| at(address, &line.server)));
            hosts.push(all);
        }
        if self.peers.set_line_hosts(&self.config, hosts) {
            self.lane_changes += 1;
        }
        self.forget_routes();
    }

    /// Our address towards a peer is another one: a line that registered with the former is called there in vain, and one
    /// that could not register perhaps can now.
    pub(super) fn lines_rerouted(&mut self, now: Now, remote: IpAddr) {
        for (line, own) in (0..).map(LineId).zip(&self.line_places) {
            let is_news = match self.lines.flow(line) {
                Some(bound) if bound.remote.ip() == remote => {
                    let local = self.local_to(remote, bound.transport);
                    local.is_some_and(|local| local.ip() != bound.local.ip())
                }
                Some(_) => false,
                None => (self.places.addresses(own.place)).any(|address| address == remote),
            };
            if is_news {
                self.lines.rerouted(now.mono, line);
            }
        }
    }

    /// What is known of ways to addresses that nobody has any more.
    fn forget_routes(&mut self) {
        let peers = &self.peers;
        (self.routes).retain(|remote, _| peers.has_address(remote.to_canonical()));
    }

    /// What the names of the lines of a configuration are resolved as, and what was seen of it.
    pub(super) fn line_places(
        now: Now,
        config: &Config,
        places: &mut Places,
        out: &mut Outputs,
    ) -> Vec<LinePlace> {
        let ways =
            (config.lines.iter()).map(|line| (target(line.next_host(), line.transport), true));
        let proxied = (config.lines.iter())
            .filter(|line| line.outbound_proxy.is_some())
            .map(|line| (target(&line.server, line.transport), false));
        let mut ids = places.reload(now.mono, ways.chain(proxied), out);
        let mut servers = ids.split_off(config.lines.len()).into_iter();
        let own = |(place, line): (PlaceId, &crate::config::Line)| LinePlace {
            place,
            server: line.outbound_proxy.as_ref().and_then(|_| servers.next()),
            seen: places.changes_of(place),
            is_left: false,
        };
        ids.into_iter().zip(&config.lines).map(own).collect()
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
        if let Some(way) = self.lines.way(id.slot()) {
            let candidate = candidate(&way.flow);
            match response.status() {
                503 => (self.places).failed(now.mono, candidate, response.retry_after()),
                _ => self.places.worked(now.mono, candidate),
            }
        }
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
        if let Some(way) = self.lines.way(id.slot()) {
            (self.places).failed(now.mono, candidate(&way.flow), None);
        }
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
