//! External lines as the two ends of a call: which of them a request comes in on, whom it calls and who calls, and the way
//! out to a number.

use super::invite::dialled_number;
use super::lines::candidate;
use super::route::is_telephone_number;
use super::*;
use crate::call::{Hop, Identity, OnLine, Party, Target, append_tel};
use crate::config::{Host, Line, UriFormat};
use crate::limits::LINE_WAYS_MAX;
use crate::line::RequestId;
use crate::message::{HeaderName, Message, Method, NameAddr, escape_user};
use crate::source::Who;

/// Between two lines of the log about requests from carriers that are on no line.
const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

impl Endpoint {
    /// The line that a request outside a dialog comes in on. Its carrier's address is not enough, which many customers have
    /// in common: it calls our Contact, which he alone knows, it came on the connection that the line has opened, or from an
    /// address that is trusted as a trunk's is. There the account says which of several lines it is.
    pub(super) fn line_of(&self, request: &Message<'_>, flow: &Flow) -> Option<LineId> {
        let own = (self.line_called(request))
            .filter(|line| self.peers.is_lines_machine(flow.remote.ip(), *line));
        if own.is_some() {
            return own;
        }
        // Where a user or a trunk is, it is he who speaks.
        if !matches!(self.peers.lookup(flow), Some(Who::Line(_))) {
            return None;
        }
        let is_trusted = |(line, is_trusted): &(LineId, bool)| {
            *is_trusted
                || flow.connection.is_some() && self.opened_connection(*line) == flow.connection
        };
        let mut trusted = self.peers.lines(flow).filter(is_trusted).peekable();
        let (first, _) = *trusted.peek()?;
        let called = called_numbers(request);
        let is_called = |line: LineId| {
            let account = self.line(line).map(|line| line.account.as_bytes());
            account.is_some_and(|account| called.iter().any(|number| number == account))
        };
        let by_account = trusted.map(|(line, _)| line).find(|line| is_called(*line));
        Some(by_account.unwrap_or(first))
    }

    /// The line whose Contact a request calls.
    fn line_called(&self, request: &Message<'_>) -> Option<LineId> {
        request.uri().and_then(|uri| self.lines.of_token(uri.user))
    }

    /// Whether a datagram may be a carrier's although its address is nobody's: it calls a line's Contact, and nobody has said
    /// since the start where the name leads that the line knows him by. Then it gets no answer, so that it comes again.
    pub(super) fn may_be_carriers(&self, request: &Message<'_>, flow: &Flow) -> bool {
        let line = self.line_called(request);
        let line = line.and_then(|line| self.line_places.get(line.0 as usize));
        flow.connection.is_none()
            && line.is_some_and(|line| self.places.addresses(line.place).next().is_none())
    }

    /// The connection that a line has opened.
    fn opened_connection(&self, line: LineId) -> Option<ConnectionId> {
        self.lines
            .flow(line)?
            .connection
            .filter(|own| own.is_ours())
    }

    pub(super) fn line(&self, line: LineId) -> Option<&Line> {
        self.config.lines.get(line.0 as usize)
    }

    /// A request came from a carrier's address and is on none of his lines: he calls us in a way that nobody has configured.
    /// Once a minute the log says what would make it his.
    pub(super) fn is_on_no_line(&mut self, now: Now, request: &Message<'_>, flow: &Flow) {
        let Some((line, _)) = self.peers.lines(flow).next() else {
            return;
        };
        let is_news = |last: Instant| now.mono.since(last) >= MINUTE;
        if !self.no_line_said.is_none_or(is_news) {
            return;
        }
        self.no_line_said = Some(now.mono);
        let source = flow.source();
        let name = self.line(line).map(|line| line.name.clone());
        let fields = vec![
            ("source", source.to_string()),
            ("line", name.unwrap_or_default()),
            (
                "uri",
                String::from_utf8_lossy(request.request_uri()).into_owned(),
            ),
            (
                "hint",
                format!(
                    "not the line's contact: addresses = {} in its section trusts it",
                    source.address()
                ),
            ),
        ];
        self.stranger_event("no_line", source, fields);
    }

    /// The number that a request on a line calls (RFC 7315 §4.2, RFC 3261 §8.2.2.1): our Contact is none.
    pub(super) fn called_on_line(&self, line: LineId, request: &Message<'_>) -> Vec<u8> {
        let numbers = called_numbers(request).into_iter();
        let mut numbers = numbers.filter(|number| self.lines.of_token(number).is_none());
        let account = || self.line(line).map(|line| line.account.as_bytes().to_vec());
        numbers.next().or_else(account).unwrap_or_default()
    }

    /// Whether it is the carrier who says that a request on a line calls this number, and not the caller, who could choose
    /// one that leads out again: To is his own, and not every carrier takes a P-Called-Party-ID out that he has made up.
    pub(super) fn is_carriers_number(
        &self,
        line: LineId,
        request: &Message<'_>,
        number: &[u8],
    ) -> bool {
        self.line(line)
            .is_some_and(|line| line.account.as_bytes() == number)
            || (request.uri()).is_some_and(|uri| dialled_number(uri) == number)
    }

    /// Whether a line has all the calls that it may have.
    pub(super) fn is_line_full(&self, line: LineId) -> bool {
        let limit = self.line(line).and_then(|line| line.calls_max);
        limit.is_some_and(|limit| self.calls.calls_of_line(line) as usize >= limit)
    }

    /// Where the calls of a line may go, in the order in which that is to be tried: first where it is registered.
    pub(super) fn line_ways(&self, id: LineId) -> Vec<SocketAddr> {
        let Some(line) = self.line(id) else {
            return Vec::new();
        };
        let mut ways = (self.places_of(line.next_host(), line.transport)).unwrap_or_default();
        if let Some(flow) = self.lines.flow(id) {
            ways.retain(|own| *own != flow.remote);
            ways.insert(0, flow.remote);
        }
        ways.truncate(LINE_WAYS_MAX);
        ways
    }

    /// Where a line's server or proxy listens at this address, as far as its name says so.
    pub(super) fn line_way_at(&self, line: &Line, address: IpAddr) -> Option<SocketAddr> {
        let ways = (self.places_of(line.next_host(), line.transport)).unwrap_or_default();
        let named = ways.into_iter().find(|way| way.ip() == address);
        named.or_else(|| Some(SocketAddr::new(address, line.next_host().port?)))
    }

    /// A number at one of the addresses of a line, if there is a way to it and the carrier knows the line at present.
    pub(super) fn line_target(
        &mut self,
        now: Now,
        id: LineId,
        hop: &Hop,
        number: &[u8],
    ) -> Option<Target> {
        let is_known = !self.line(id)?.register || self.lines.is_registered(id);
        let peer = hop.way.filter(|_| is_known)?;
        let is_open = |own| self.connections.is_open(own);
        let registered = (self.lines.flow(id))
            .filter(|flow| flow.remote == peer && flow.connection.is_some_and(is_open));
        let transport = self.line(id)?.transport;
        let flow = match registered {
            Some(flow) => flow,
            None => self.flow_to(now, peer, transport)?,
        };
        let line = self.line(id)?;
        let is_tel = line.uri_format == UriFormat::Tel && is_telephone_number(number);
        let on_line = OnLine {
            contact_user: self.lines.token(id).into(),
            from: Identity {
                user: line.account.as_bytes().to_vec(),
                host: Some(line.server.name.clone()),
                ..Identity::default()
            },
            identity: match self.lines.public_identity(id) {
                Some(uri) => uri.to_vec(),
                None => at_server(line.account.as_bytes(), &line.server.name),
            },
            ring_timeout: line.ring_timeout,
        };
        let to = Identity {
            user: number.to_vec(),
            host: context_of(&line.server, is_tel),
            is_tel,
            ..Identity::default()
        };
        let uri = request_uri_of(line, number, is_tel);
        let way = (flow, self.contact_address(&flow));
        Some(Target {
            route: self.lines.service_route(id).to_vec(),
            line: Some(Box::new(on_line)),
            ..Target::at(way, hop.party()?.clone(), uri, to)
        })
    }

    /// The same of a line's REGISTER: from where it went, or from an address of that line.
    pub(super) fn may_ask_line(&self, id: RequestId, flow: &Flow) -> bool {
        let way = self.lines.way(id.slot());
        way.is_some_and(|way| way.flow.is_same_peer(flow))
            || (self.lines.line_of(id.slot())).is_some_and(|line| self.peers.is_line(flow, line))
    }

    /// An address of a line has left an INVITE unanswered, or was not to be reached with it: for a while it comes last, and
    /// a line that is registered there looks whether it still is.
    pub(super) fn line_doubt(&mut self, now: Now, party: &Party, flow: &Flow) {
        let Party::Line(line, _) = party else { return };
        self.places.failed(now.mono, candidate(flow), None);
        let bound = self.lines.flow(*line);
        if bound.is_some_and(|bound| bound.remote == flow.remote) {
            self.lines.register_soon(now.mono, *line);
        }
    }

    /// An address of a line has answered a request of a call. A 503 that does not say for how long is about that call only
    /// (RFC 3261 §21.5.4).
    pub(super) fn line_answered(&mut self, now: Now, flow: &Flow, response: &Message<'_>) {
        let is_invite = response.cseq().method == Method::Invite;
        match (response.status(), response.retry_after()) {
            (503, wait @ Some(_)) if is_invite => {
                self.places.failed(now.mono, candidate(flow), wait);
            }
            (503, _) => {}
            _ => self.places.worked(now.mono, candidate(flow)),
        }
    }

    /// Whether a response to a request of a line's leg came from that line's peer: only he gets credentials.
    pub(super) fn is_from_line(&self, owner: Owner, flow: &Flow) -> bool {
        let located = self.calls.leg_of(owner, flow);
        match located.and_then(|located| self.calls.party(located)) {
            Some(Party::Line(line, _)) => self.peers.is_line(flow, *line),
            _ => false,
        }
    }
}

/// Request-URI of a number on a line. Its domain is the carrier's, wherever the packets go.
fn request_uri_of(line: &Line, number: &[u8], is_tel: bool) -> Vec<u8> {
    let mut uri = Vec::with_capacity(64);
    if is_tel {
        append_tel(&mut uri, number, context_of(&line.server, true).as_deref());
        return uri;
    }
    uri = at_server(number, &line.server.to_string());
    if line.user_phone {
        uri.extend_from_slice(b";user=phone");
    }
    uri
}

fn at_server(user: &[u8], server: &str) -> Vec<u8> {
    let mut uri = b"sip:".to_vec();
    escape_user(user, &mut uri);
    uri.push(b'@');
    uri.extend_from_slice(server.as_bytes());
    uri
}

/// Host of a line's URIs; of a telephone number its context, which an address is not (RFC 3966 §3).
fn context_of(server: &Host, is_tel: bool) -> Option<String> {
    let host = crate::message::Host::parse(server.name.as_bytes());
    let is_address = host.is_some_and(|host| host.address().is_some());
    (!is_tel || !is_address).then(|| server.name.clone())
}

/// The numbers that a request may be for, the one that says most first: who was called before a proxy put our Contact there
/// (P-Called-Party-ID), To, the Request-URI.
fn called_numbers(request: &Message<'_>) -> Vec<Vec<u8>> {
    let called = request.value(HeaderName::PCalledPartyId);
    let called = called.and_then(|value| NameAddr::parse(value).ok());
    let uris = [
        called.map(|called| called.parts()),
        Some(request.to().parts()),
        request.uri().copied(),
    ];
    let numbers = uris.iter().flatten().map(dialled_number);
    numbers.filter(|number| !number.is_empty()).collect()
}

/// Who calls from outside, as his trunk or line asserts it (RFC 3325 §9.1), else as he says himself; and his number for
/// records, which is the true one.
pub(super) fn outside_identity(request: &Message<'_>, host: Option<String>) -> (Vec<u8>, Identity) {
    let asserted = (request.values(HeaderName::PAssertedIdentity))
        .filter_map(|value| NameAddr::parse(value).ok())
        .map(|asserted| (dialled_number(&asserted.parts()), asserted))
        .find(|(number, _)| !number.is_empty());
    let from = *request.from();
    let own = dialled_number(&from.parts());
    let said = Identity {
        user: own.clone(),
        host: Some(String::from_utf8_lossy(from.parts().host_raw).into_owned()),
        ..Identity::default()
    };
    let number = asserted.as_ref().map_or(own, |(number, _)| number.clone());
    if said.is_anonymous() || crate::call::hides_identity(request) {
        return (number, Identity::anonymous());
    }
    let mut identity = Identity {
        user: number.clone(),
        host,
        ..Identity::default()
    };
    if let Some((_, asserted)) = &asserted {
        asserted.push_display(&mut identity.display);
    }
    if identity.display.is_empty() {
        from.push_display(&mut identity.display);
    }
    (number, identity)
}
