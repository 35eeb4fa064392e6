//! A new call: is it well-formed, who calls, which phones are rung (RFC 3261 §8.2, §13.3).

use std::sync::Arc;

use super::callee::Asking;
use super::features::Code;
use super::route::{Lead, Refusal};
use super::*;
use crate::call::{ANONYMOUS, Arrival, Asked, Hop, Identity, Party, RETRY_AFTER_S, Setup, Target};
use crate::location::Binding;
use crate::media::Trust;
use crate::message::compose::append_socket_address;
use crate::message::{HeaderName, NameAddr, Uri};
use crate::source::Who;
use crate::transaction::ServerId;

impl Endpoint {
    pub(super) fn invite(&mut self, now: Now, arrival: &Arrival<'_>, identity: Who) {
        let dialled = self.called(arrival, identity);
        let passed = match self.unacceptable(arrival) {
            None => self.passed(arrival.request, identity, &dialled),
            Some(status) => Err(status),
        };
        let passed = match passed {
            Ok(passed) => passed,
            Err(status) => return self.answer(now, arrival, status),
        };
        let server = self.transactions.open_server(
            now.mono,
            arrival.key,
            arrival.request,
            &arrival.reply,
            Owner::NOBODY,
        );
        let Some(server) = server else {
            let (_, mut context) = self.split(now);
            arrival.answer(503, Some(RETRY_AFTER_S), &mut context);
            return;
        };
        let mut setup = self.setup(arrival, identity, server, &dialled);
        setup.passed = passed;
        if let Some(wanted) = self.wants_to_pick_up(arrival, identity, &dialled) {
            let (calls, mut context) = self.split(now);
            return match wanted {
                Ok(ringing) => calls.pick_up(setup, ringing, &mut context),
                Err((status, disposition)) => {
                    calls.turn_away(&setup, status, disposition, &mut context);
                }
            };
        }
        let code = self.feature_code(arrival, identity, &dialled);
        let (is_code, is_proven) = (code.is_some(), setup.trust != Trust::Owed);
        let refusal = match code {
            Some((user, code)) => self.feature(arrival, user, &code, is_proven),
            None => self.targets(now, arrival, identity, &dialled, &mut setup),
        };
        let (calls, mut context) = self.split(now);
        match refusal {
            Some((status, disposition)) => {
                calls.turn_away(&setup, status, disposition, &mut context);
            }
            None if is_code && is_proven => calls.confirm(setup, &mut context),
            None if is_code => calls.promise(setup, &mut context),
            None => {
                calls.start(setup, &mut context);
            }
        }
    }

    /// The number that a request is for.
    pub(super) fn called(&self, arrival: &Arrival<'_>, identity: Who) -> Vec<u8> {
        match identity {
            Who::Line(line) => self.called_on_line(line, arrival.request),
            Who::User(_) | Who::Trunk(_) => {
                (arrival.request.uri().map(dialled_number)).unwrap_or_default()
            }
        }
    }

    /// What is wrong with an INVITE before anyone asks where it goes.
    fn unacceptable(&self, arrival: &Arrival<'_>) -> Option<u16> {
        let request = arrival.request;
        if self.transactions.is_merged(request, arrival.key) {
            return Some(482);
        }
        if request.max_forwards() == Some(0) {
            return Some(483);
        }
        if self.config.call.session_expires.is_some() && Asked::of(request).is_too_brief() {
            return Some(422);
        }
        let kind = request.value(HeaderName::ContentType);
        if !request.body().is_empty() && !kind.is_some_and(is_session_body) {
            return Some(415);
        }
        let mut accepts = request.values(HeaderName::Accept).peekable();
        if accepts.peek().is_some() && !accepts.any(accepts_sdp) {
            return Some(406);
        }
        None
    }

    /// Who calls or writes: his party, where a new connection leads to him, his name or number, From towards the callee.
    pub(super) fn caller(
        &self,
        arrival: &Arrival<'_>,
        identity: Who,
    ) -> (Party, Option<SocketAddr>, String, Identity) {
        let (request, flow) = (arrival.request, arrival.flow);
        let host = self.config.server.domains.first().cloned();
        match identity {
            Who::User(id) => {
                let user = self.config.users.get(id.0 as usize);
                let name = user.map(|user| user.name.clone()).unwrap_or_default();
                let display = user.map_or("", |user| user.display_name.as_str());
                let from = user_from(request.from(), display, &name, host);
                (Party::User(id, name.as_str().into()), None, name, from)
            }
            Who::Trunk(_) | Who::Line(_) => {
                let (number, from) = carrier::outside_identity(request, host);
                let number = String::from_utf8_lossy(&number).into_owned();
                let (party, home) = self.outside_caller(identity, &flow);
                (party, home, number, from)
            }
        }
    }

    /// A trunk or line that calls, and where a new connection leads to it: it may have opened the present one itself, from a
    /// port that leads nowhere.
    fn outside_caller(&self, identity: Who, flow: &Flow) -> (Party, Option<SocketAddr>) {
        let at = |addresses: &[crate::config::PeerAddress]| {
            let mut addresses = addresses.iter();
            let own = addresses.find(|own| own.address == flow.remote.ip());
            own.map(peers::socket_address)
        };
        match identity {
            Who::User(id) => (Party::User(id, "".into()), None),
            Who::Trunk(id) => {
                let trunk = self.config.trunks.get(id.0 as usize);
                let name = trunk.map_or("", |trunk| trunk.name.as_str());
                (
                    Party::Trunk(id, name.into()),
                    trunk.and_then(|own| at(&own.addresses)),
                )
            }
            Who::Line(id) => {
                let line = self.config.lines.get(id.0 as usize);
                let name = line.map_or("", |line| line.name.as_str());
                (
                    Party::Line(id, name.into()),
                    line.map(|own| {
                        let is_ours = |own: ConnectionId| own.is_ours();
                        let opened = flow.connection.is_some_and(is_ours).then_some(flow.remote);
                        let configured = || at(&own.addresses);
                        let named = || self.line_way_at(own, flow.remote.ip());
                        let usual = || SocketAddr::new(flow.remote.ip(), SIP_PORT);
                        (opened.or_else(configured).or_else(named)).unwrap_or_else(usual)
                    }),
                )
            }
        }
    }

    /// Everything about the call but its targets.
    fn setup<'a>(
        &self,
        arrival: &'a Arrival<'a>,
        identity: Who,
        server: ServerId,
        dialled: &[u8],
    ) -> Setup<'a> {
        let (request, flow) = (arrival.request, arrival.flow);
        let (caller, caller_home, caller_name, from) = self.caller(arrival, identity);
        let binding = match identity {
            Who::User(user) => (self.location.bindings(user)).find(|own| own.flow() == flow),
            Who::Trunk(_) | Who::Line(_) => None,
        };
        Setup {
            request,
            flow,
            ours: arrival.ours,
            server,
            caller,
            caller_home,
            caller_stream: match identity {
                Who::User(user) => self.stream_beside(user, &flow),
                Who::Trunk(_) | Who::Line(_) => None,
            },
            caller_phone: binding.map(|binding| self.location.phone(binding)),
            is_behind_nat: binding.is_some_and(Binding::is_behind_nat)
                || crate::call::is_behind_nat(request, &flow),
            trust: match identity {
                _ if flow.connection.is_some() => Trust::Whole,
                Who::User(user) if self.peers.is_user(&flow, user) => Trust::Owed,
                Who::User(_) => Trust::Whole,
                // A carrier's media may be at another address than its signalling, and begin before the answer.
                Who::Trunk(_) | Who::Line(_) => Trust::Bounded,
            },
            caller_contact: match identity {
                Who::Line(line) => self.lines.token(line).into(),
                Who::User(_) | Who::Trunk(_) => Box::default(),
            },
            ring_timeout: match identity {
                Who::Line(line) => self.line(line).and_then(|line| line.ring_timeout),
                Who::User(_) | Who::Trunk(_) => None,
            },
            caller_name,
            from,
            dialled: String::from_utf8_lossy(dialled).into_owned(),
            direction: match identity {
                Who::Trunk(_) | Who::Line(_) => "incoming",
                Who::User(_) => "internal",
            },
            passed: Vec::new(),
            hunt: None,
            targets: Vec::new(),
        }
    }

    /// Finds the targets; `Some`: the call cannot begin, with its status and, where the status does not say it, the
    /// record's disposition.
    fn targets(
        &mut self,
        now: Now,
        arrival: &Arrival<'_>,
        identity: Who,
        dialled: &[u8],
        setup: &mut Setup<'_>,
    ) -> Option<Refusal> {
        let lead = self.leads_to(arrival, identity, dialled);
        if matches!(&lead, Lead::Onward(to) if to.hops.iter().any(Hop::is_outside)) {
            setup.direction = direction_outside(identity);
        }
        if let Some(refusal) = self.has_no_room(identity) {
            return Some(refusal);
        }
        let caller = setup.caller.clone();
        let mut asking = Asking::new(&caller, &arrival.flow);
        let rung = match self.ring_lead(now, lead, &caller, dialled, &mut asking) {
            Ok(rung) => rung,
            Err(refusal) => return Some(refusal),
        };
        (setup.targets, setup.hunt) = (rung.targets, rung.hunt);
        let has_come_back =
            |target: &Target| target.has_come_back(arrival.request, arrival.ours.ip());
        loop {
            setup.targets.retain(|target| !has_come_back(target));
            if !setup.targets.is_empty() {
                break;
            }
            // Of a group there may be others.
            let Some(hunt) = setup.hunt.take() else {
                return Some((480, None));
            };
            match self.ring_next(now, hunt, &mut asking) {
                Ok(rung) => (setup.targets, setup.hunt) = (rung.targets, rung.hunt),
                Err(refusal) => return Some(refusal),
            }
        }
        // A user's calls may go on to the outside.
        if (setup.targets.iter()).all(|target| target.party.is_outside()) {
            setup.direction = direction_outside(identity);
        }
        None
    }

    /// Whether there is no room for another call, of this caller or at all.
    fn has_no_room(&self, identity: Who) -> Option<Refusal> {
        if self.is_stopping || self.calls.is_full() {
            return Some((503, Some("rejected")));
        }
        let is_full = match identity {
            Who::User(user) => self.is_busy(user),
            Who::Trunk(trunk) => self.is_trunk_full(trunk, 0),
            Who::Line(line) => self.is_line_full(line),
        };
        is_full.then_some((486, Some("rejected")))
    }

    /// A user dials a feature code; why it is not done, if it is not. Of whom nothing shows that he is there, it is done
    /// later (`call::promise`).
    fn feature(
        &mut self,
        arrival: &Arrival<'_>,
        user: UserId,
        code: &Code,
        is_proven: bool,
    ) -> Option<Refusal> {
        if let Some(refusal) = self.has_no_room(Who::User(user)) {
            return Some(refusal);
        }
        if !crate::call::Calls::can_confirm(arrival.request) {
            return Some((488, None));
        }
        match is_proven {
            true => self.dial_feature(user, code).err(),
            false => self.can_dial_feature(user, code).err(),
        }
    }

    pub(super) fn is_busy(&self, user: UserId) -> bool {
        let limit = self
            .config
            .users
            .get(user.0 as usize)
            .and_then(|user| user.calls_max);
        limit.is_some_and(|limit| self.calls.calls_of(user) as usize >= limit)
    }

    /// Every binding of a user but the one that he himself calls from (`own`: its flow); a user by address at that address, first, if
    /// he has none, or none that he has proved to be his. Of two users on one flow (a gateway for several telephones) one may call
    /// the other.
    pub(super) fn user_targets(
        &mut self,
        now: Now,
        user: UserId,
        own: Option<&Flow>,
        dialled: &[u8],
    ) -> Vec<Target> {
        let is_own_flow = |flow: &Flow| own == Some(flow);
        let Some(config) = self.config.users.get(user.0 as usize) else {
            return Vec::new();
        };
        let address = config.addresses.first().copied();
        let is_by_address = config.is_by_address();
        let name: Arc<str> = config.name.as_str().into();
        let party = Party::User(user, Arc::clone(&name));
        let to = |domains: &[String]| Identity {
            user: dialled.to_vec(),
            host: domains.first().cloned(),
            ..Identity::default()
        };
        let bindings = (self.location.bindings(user))
            .filter(|binding| binding.deadline > now.mono && !is_own_flow(&binding.flow()));
        // One is the rule; `collect` would make room for four.
        let mut targets = Vec::with_capacity(1);
        targets.extend(bindings.map(|binding| {
            let way = (binding.flow(), self.contact_address(&binding.flow()));
            let uri = binding.request_uri().to_vec();
            Target {
                route: binding.path().to_vec(),
                phone: Some(self.location.phone(binding)),
                is_behind_nat: binding.is_behind_nat() && binding.path().is_empty(),
                ..Target::at(way, party.clone(), uri, to(&self.config.server.domains))
            }
        }));
        let is_proven = |target: &Target| !self.may_be_forged(&target.flow, user);
        if is_by_address && !targets.iter().any(is_proven) {
            // With a port in the file there. Of a block nobody knows where in it he is until he speaks.
            let has_port = address.is_some_and(|peer| peer.port.is_some());
            let spoken = self.peers.last_flow(user).filter(|_| !has_port);
            // Who speaks over TCP has no port to be connected to, only the connection that he has opened.
            let stream = (self.peers.last_stream(user))
                .filter(|flow| {
                    flow.connection
                        .is_some_and(|own| self.connections.is_open(own))
                })
                .copied();
            let flow = (stream.filter(|_| !has_port))
                .or(spoken.copied())
                .or_else(|| {
                    let peer = peers::socket_address(&address?);
                    self.flow_to(now, peer, Transport::Udp)
                })
                .or(stream)
                .filter(|flow| !is_own_flow(flow));
            let Some(flow) = flow else { return targets };
            // What was registered from there may be anybody's word: he is called by his name, and before all the others, of
            // which there may be more than are rung.
            let is_there = |target: &Target| target.flow.is_same_peer(&flow);
            let is_behind_nat = (targets.iter()).any(|own| is_there(own) && own.is_behind_nat);
            targets.retain(|own| !is_there(own));
            let way = (flow, self.contact_address(&flow));
            let uri = request_uri(name.as_bytes(), &flow);
            let at_address = Target {
                is_behind_nat,
                stream: self.stream_beside(user, &flow),
                ..Target::at(way, party, uri, to(&self.config.server.domains))
            };
            targets.insert(0, at_address);
        }
        targets
    }

    /// Whether a datagram's address alone says that this is the user: anybody may have forged it.
    pub(super) fn may_be_forged(&self, flow: &Flow, user: UserId) -> bool {
        self.peers.may_be_forged(flow, user)
    }

    /// The connection that the peer of a UDP flow has open to us, and our address on it.
    fn stream_beside(&self, user: UserId, flow: &Flow) -> Option<(Flow, SocketAddr)> {
        let stream = self.peers.stream_beside(user, flow)?;
        let is_open = self.connections.is_open(stream.connection?);
        is_open.then(|| (*stream, self.contact_address(stream)))
    }
}

/// Of a call to the outside, for records.
fn direction_outside(caller: Who) -> &'static str {
    match caller {
        Who::User(_) => "outgoing",
        Who::Trunk(_) | Who::Line(_) => "transit",
    }
}

/// From towards the callees. The user part is what was authenticated; anonymous stays anonymous.
fn user_from(from: &NameAddr<'_>, display: &str, name: &str, host: Option<String>) -> Identity {
    if from.parts().user.eq_ignore_ascii_case(ANONYMOUS) {
        return Identity::anonymous();
    }
    let mut identity = Identity {
        user: name.as_bytes().to_vec(),
        host,
        ..Identity::default()
    };
    if display.is_empty() {
        from.push_display(&mut identity.display);
    } else {
        crate::message::header::quote(display.as_bytes(), &mut identity.display);
    }
    identity
}

/// The number that a URI names: its user part unescaped, without user parameters. Empty without a user.
pub(super) fn dialled_number(uri: &Uri<'_>) -> Vec<u8> {
    let mut number = Vec::new();
    uri.user_unescaped(&mut number);
    if let Some(end) = number.iter().position(|byte| *byte == b';') {
        number.truncate(end);
    }
    number
}

/// Request-URI of a number at a peer that is called by its address.
pub(super) fn request_uri(number: &[u8], flow: &Flow) -> Vec<u8> {
    let mut uri = b"sip:".to_vec();
    crate::message::uri::escape_user(number, &mut uri);
    uri.push(b'@');
    // Without the scope of a link-local address: it means nothing to the peer.
    let remote = std::net::SocketAddr::new(flow.remote.ip(), flow.remote.port());
    append_socket_address(&mut uri, remote);
    if flow.transport == Transport::Tcp {
        uri.extend_from_slice(b";transport=tcp");
    }
    uri
}

/// Bodies that can describe a session: SDP, or several parts of which one may be SDP.
fn is_session_body(kind: &[u8]) -> bool {
    if kind == b"application/sdp" {
        return true;
    }
    let kind = kind
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    kind.eq_ignore_ascii_case(b"application/sdp")
        || kind
            .get(..10)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"))
}

fn accepts_sdp(value: &[u8]) -> bool {
    let kind = value
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    [&b"application/sdp"[..], b"application/*", b"*/*"]
        .iter()
        .any(|own| kind.eq_ignore_ascii_case(own))
}
