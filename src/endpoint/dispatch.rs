//! A request that parsed finds its owner (RFC 3261 §8.2, §9.2, §12.2.2, §17.2).

use super::identity::Unknown;
use super::*;
use crate::call::{ACCEPT, ALLOW, ALLOW_EVENTS, Arrival};
use crate::guard::Standing;
use crate::message::compose::{Composer, reason_phrase};
use crate::message::{HeaderName, Message, Method, Scheme};
use crate::source::Who;
use crate::transaction::Received;
use crate::transport::response_flow;

/// User-Agents of well-known scanners, compared in lower case: a stranger who calls himself that gets no answer. This
/// never bans: a name proves nothing.
const SCANNERS: [&[u8]; 9] = [
    b"friendly-scanner",
    b"sipvicious",
    b"sipcli",
    b"sip-scan",
    b"sundayddr",
    b"iwar",
    b"vaxsip",
    b"pplsip",
    b"friendly-request",
];

impl Endpoint {
    pub(super) fn request(
        &mut self,
        now: Now,
        flow: &Flow,
        standing: Standing,
        request: &Message<'_>,
    ) {
        let key = (self.transactions.key(request)).from_source(flow.remote.ip());
        let method = request.method();
        if self
            .transactions
            .receive(now.mono, key, method, &mut self.out)
            == Received::Absorbed
        {
            return;
        }
        let is_stranger = matches!(standing, Standing::Unproven | Standing::Proven);
        if is_stranger && is_scanner(request) {
            self.guard.suspect(now, flow.source());
            return;
        }
        if is_stranger && self.is_strange_host(now, request, flow) {
            return;
        }
        if let Some(who) = self.peers.lookup(flow) {
            let is_outside = matches!(who, Who::Trunk(_) | Who::Line(_));
            if is_outside && method == Method::Ack && self.absorbs_elsewhere(now, request, flow) {
                return;
            }
            self.user_spoke(now, request, flow);
            self.reach.called(now.mono, flow.transport, flow.remote);
        }
        // Until its sender is known, to where it came from and nowhere else.
        let reply = response_flow(flow, request.via(), standing == Standing::Exempt);
        let ours = self.contact_address(flow);
        let unknown = Unknown::new(request, flow, ours, reply, key, standing);
        match method {
            Method::Ack => self.ack(now, &unknown),
            Method::Cancel => self.cancel(now, &unknown),
            Method::Register => self.register(now, &unknown),
            _ if request.to().tag().is_some() => self.within(now, &unknown),
            Method::Options => self.options(now, &unknown),
            _ => self.outside(now, &unknown),
        }
    }

    /// A user by address has spoken. Within a dialog From does not tell those who share an address apart: towards a callee it
    /// is the number that was dialled.
    fn user_spoke(&mut self, now: Now, request: &Message<'_>, flow: &Flow) {
        let first = self.peers.users(flow).next();
        let is_alone = || (self.peers.users(flow)).all(|user| Some(user) == first);
        let is_told = request.to().tag().is_none() || is_alone();
        if let Some(user) = self.user_at(request, flow).filter(|_| is_told) {
            self.peers.spoke(user, flow);
            if let Some(own) = self.config.users.get(user.0 as usize) {
                self.pages.is_back(now.mono, &own.name, true);
            }
        }
    }

    /// A trunk or line acknowledges a refusal from another address than that of its INVITE.
    fn absorbs_elsewhere(&mut self, now: Now, ack: &Message<'_>, flow: &Flow) -> bool {
        let key = self.transactions.key(ack);
        let others = self.peers.addresses(&self.config, flow).into_iter();
        let mut others = others.filter(|address| *address != flow.remote.ip());
        others.any(|address| {
            let key = key.from_source(address);
            let received = (self.transactions).receive(now.mono, key, Method::Ack, &mut self.out);
            received == Received::Absorbed
        })
    }

    /// An ACK cannot be challenged: it counts from the address of the leg's peer only.
    fn ack(&mut self, now: Now, unknown: &Unknown<'_>) {
        if let Some(located) = self.calls.locate(unknown.request(), unknown.flow())
            && let Some((located, arrival)) = self.acknowledging(located, unknown)
        {
            self.reach_spoke(now, &arrival.flow);
            let (calls, mut context) = self.split(now);
            calls.receive(located, &arrival, &mut context);
        }
    }

    /// RFC 3261 §9.2. A CANCEL cannot be challenged either: it counts only from the flow of its INVITE.
    fn cancel(&mut self, now: Now, unknown: &Unknown<'_>) {
        match self.cancelling(unknown) {
            Some((owner, arrival)) => {
                let (calls, mut context) = self.split(now);
                calls.cancel(owner, &arrival, &mut context);
            }
            None if self.may_tell(now, unknown.flow().source(), unknown.standing) => {
                self.answer_unknown(unknown, 481);
            }
            None => {}
        }
    }

    /// A request with a To tag belongs to a dialog, or to nothing.
    fn within(&mut self, now: Now, unknown: &Unknown<'_>) {
        let Some(located) = self.calls.locate(unknown.request(), unknown.flow()) else {
            self.within_subscription(now, unknown);
            return;
        };
        let Some(arrival) = self.of_dialog(now, located, unknown) else {
            return;
        };
        self.reach_spoke(now, &arrival.flow);
        // A BYE ends the call whatever else it asks for.
        if arrival.request.method() != Method::Bye
            && let Some(status) = self.unsupported_extension(arrival.request, &arrival.flow)
        {
            self.send(now, &arrival, status);
            return;
        }
        let (calls, mut context) = self.split(now);
        calls.receive(located, &arrival, &mut context);
    }

    /// OPTIONS outside a dialog: what we can do, told to those we know; a stranger's is not worth an answer. It changes
    /// nothing: answered anew each time it comes, it needs no memory.
    fn options(&mut self, now: Now, unknown: &Unknown<'_>) {
        let request = unknown.request();
        if !matches!(unknown.standing, Standing::Known | Standing::Exempt) {
            let presented = (self.auth).present(now, request, unknown.flow().source());
            if !matches!(presented, crate::auth::Presented::Fresh(_))
                || self.identify(now, unknown).is_none()
            {
                return;
            }
        }
        if self.unsupported(request, unknown.flow()).is_some() {
            self.send_unknown(unknown);
            return;
        }
        let tag = self.request_tag(request);
        let mut composer = Composer::response_to(
            &mut self.buffer,
            request,
            unknown.flow(),
            200,
            reason_phrase(200),
            &tag,
        );
        composer.lines(&self.abilities);
        composer.finish(None, b"");
        self.send_unknown(unknown);
    }

    /// Whatever else begins outside a dialog is authenticated before anything is said about it.
    fn outside(&mut self, now: Now, unknown: &Unknown<'_>) {
        let Some((identity, arrival)) = self.identify(now, unknown) else {
            return;
        };
        let arrival = &arrival;
        if let Some(status) = self.unsupported(arrival.request, &arrival.flow) {
            self.send(now, arrival, status);
            return;
        }
        match arrival.request.method() {
            Method::Invite => {
                self.invite(now, arrival, identity);
                self.watch(arrival, identity);
            }
            Method::Bye | Method::Prack | Method::Update | Method::Info | Method::Notify => {
                self.answer(now, arrival, 481);
            }
            Method::Message => self.page(now, arrival, identity),
            Method::Subscribe => self.subscribe(now, arrival, identity),
            Method::Publish => self.answer(now, arrival, 489),
            // Nobody has a phone called by us that is in no call; a transfer is a matter of the call's dialog.
            Method::Refer => self.answer(now, arrival, 403),
            _ => self.answer(now, arrival, 405),
        }
    }

    /// RFC 3261 §8.2.2.1, §8.2.2.3: a Request-URI or an extension that we do not have. `Some`: the refusal is composed.
    pub(super) fn unsupported(&mut self, request: &Message<'_>, flow: &Flow) -> Option<u16> {
        let scheme = request.uri().map_or(Scheme::Other, |uri| uri.scheme);
        // `sips` asks for TLS on every hop, which we cannot promise.
        if !matches!(scheme, Scheme::Sip | Scheme::Tel) {
            self.refusal(request, flow, 416).finish(None, b"");
            return Some(416);
        }
        self.unsupported_extension(request, flow)
    }

    /// RFC 3261 §8.2.2.3: `Require` and `Proxy-Require` name what we do not have. `Some`: a 420 is composed.
    pub(super) fn unsupported_extension(
        &mut self,
        request: &Message<'_>,
        flow: &Flow,
    ) -> Option<u16> {
        let requires = [HeaderName::Require, HeaderName::ProxyRequire];
        if (requires.iter()).all(|name| request.value(*name).is_none()) {
            return None;
        }
        let own: &[&[u8]] = match request.method() {
            Method::Register => &[b"path", b"outbound"],
            // Session timers (RFC 4028) are a matter of these two, unless they are off.
            Method::Invite if self.config.call.session_expires.is_some() => {
                &[b"100rel", b"replaces", b"timer"]
            }
            Method::Invite => &[b"100rel", b"replaces"],
            Method::Update if self.config.call.session_expires.is_some() => &[b"100rel", b"timer"],
            _ => &[b"100rel"],
        };
        let supported = |option: &&[u8]| own.iter().any(|own| option.eq_ignore_ascii_case(own));
        let mut unsupported: Vec<&[u8]> = (requires.iter())
            .flat_map(|name| request.values(*name))
            .filter(|option| !supported(option))
            .collect();
        if unsupported.is_empty() {
            return None;
        }
        unsupported.truncate(16);
        let list = unsupported.join(&b", "[..]);
        let mut composer = self.refusal(request, flow, 420);
        composer.field("Unsupported", &[&list]);
        composer.finish(None, b"");
        Some(420)
    }

    /// Begins a final response of our own.
    pub(super) fn refusal(
        &mut self,
        request: &Message<'_>,
        flow: &Flow,
        status: u16,
    ) -> Composer<'_> {
        let tag = self.request_tag(request);
        let reason = reason_phrase(status);
        let mut composer =
            Composer::response_to(&mut self.buffer, request, flow, status, reason, &tag);
        composer.field("Server", &[b"sipkeep"]);
        composer
    }

    /// A final response of our own with nothing to say but its status.
    pub(super) fn answer(&mut self, now: Now, arrival: &Arrival<'_>, status: u16) {
        let (_, mut context) = self.split(now);
        arrival.answer(status, None, &mut context);
    }

    /// Sends the final response that is composed.
    pub(super) fn send(&mut self, now: Now, arrival: &Arrival<'_>, status: u16) {
        let (_, mut context) = self.split(now);
        arrival.send(status, &mut context);
    }

    /// [`Endpoint::stateless_tag`] of a request.
    pub(super) fn request_tag(&self, request: &Message<'_>) -> [u8; 16] {
        let from = request.from().tag().unwrap_or_default();
        let number = request.cseq().number.to_le_bytes();
        self.stateless_tag(&[request.via().branch, request.call_id(), from, &number])
    }
}

/// Header lines that say what we can do (RFC 3261 §11.2).
pub(super) fn abilities(config: &Config) -> Vec<u8> {
    let mut lines = Vec::new();
    let timer: &[u8] = match config.call.session_expires {
        Some(_) => b", timer",
        None => b"",
    };
    Composer::lines_into(&mut lines)
        .field("Allow", &[ALLOW])
        .field("Allow-Events", &[ALLOW_EVENTS])
        .field("Accept", &[ACCEPT])
        .field("Supported", &[b"100rel, path, outbound, replaces", timer])
        .field("Server", &[b"sipkeep"]);
    lines
}

fn is_scanner(request: &Message<'_>) -> bool {
    let Some(agent) = request.value(HeaderName::UserAgent) else {
        return false;
    };
    SCANNERS.iter().any(|scanner| {
        agent
            .get(..scanner.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scanner))
    })
}
