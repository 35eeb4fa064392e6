//! A request that parsed finds its owner (RFC 3261 §8.2, §9.2, §12.2.2, §17.2).

use super::*;
use crate::call::{Arrival, Party};
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

/// The value of `Allow`.
pub(super) const ALLOW: &[u8] = crate::call::ALLOW;

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
        if is_stranger && (is_scanner(request) || self.is_strange_host(now, request, flow)) {
            return;
        }
        if let Some(who) = self.peers.lookup(flow) {
            self.peers.spoke(who, flow);
        }
        // Until its sender is known, to where it came from and nowhere else.
        let reply = response_flow(flow, request.via(), standing == Standing::Exempt);
        let arrival = Arrival {
            request,
            flow: *flow,
            ours: self.contact_address(flow),
            reply,
            key,
        };
        match method {
            Method::Ack => self.ack(now, &arrival),
            Method::Cancel => self.cancel(now, &arrival, standing),
            Method::Register => self.register(now, &arrival, standing),
            _ if request.to().tag().is_some() => self.within(now, &arrival, standing),
            Method::Options => self.options(now, &arrival, standing),
            _ => self.outside(now, &arrival, standing),
        }
    }

    /// An ACK cannot be challenged: it counts from the address of the leg's peer only.
    fn ack(&mut self, now: Now, arrival: &Arrival<'_>) {
        let Some(located) = self.calls.locate(arrival.request, &arrival.flow) else {
            return;
        };
        let known = self.calls.remote(located).map(|remote| remote.ip());
        if self.is_peer(located, &arrival.flow) || known == Some(arrival.flow.remote.ip()) {
            let (calls, mut context) = self.split(now);
            calls.receive(located, arrival, &mut context);
        }
    }

    /// RFC 3261 §9.2. A CANCEL cannot be challenged either: it counts only from the flow of its INVITE.
    fn cancel(&mut self, now: Now, arrival: &Arrival<'_>, standing: Standing) {
        let key = self.transactions.invite_key(arrival.request);
        let key = key.from_source(arrival.flow.remote.ip());
        // Where the INVITE is answered: that is its flow, or with a Via without `rport` the port named there.
        let known = arrival.authenticated();
        let found = self.transactions.find(key).filter(|(_, _, flow)| {
            [known.flow.remote, known.reply.remote].contains(&flow.remote)
                && flow.connection == arrival.flow.connection
        });
        match found {
            Some((_, owner, _)) => {
                let (calls, mut context) = self.split(now);
                calls.cancel(owner, &known, &mut context);
            }
            None if standing == Standing::Unproven => {}
            None => self.answer_stateless(arrival, 481),
        }
    }

    /// A final response that nothing remembers: no one else's request can be taken for a copy of what it answers.
    fn answer_stateless(&mut self, arrival: &Arrival<'_>, status: u16) {
        let tag = self.request_tag(arrival.request);
        let mut composer = Composer::response_to(
            &mut self.buffer,
            arrival.request,
            &arrival.flow,
            status,
            reason_phrase(status),
            &tag,
        );
        composer.field("Server", &[b"sipkeep"]);
        composer.finish(None, b"");
        crate::source::Sink::send(&mut self.out, &arrival.reply, &self.buffer);
    }

    /// A request with a To tag belongs to a dialog, or to nothing.
    fn within(&mut self, now: Now, arrival: &Arrival<'_>, standing: Standing) {
        let Some(located) = self.calls.locate(arrival.request, &arrival.flow) else {
            // A To tag proves nothing; strangers get silence.
            if standing != Standing::Unproven {
                self.answer(now, arrival, 481);
            }
            return;
        };
        if !self.is_peer(located, &arrival.flow) {
            // The phone has a new address (carrier NAT, TCP reconnect): it proves that it is itself. From says nothing
            // here: towards a callee it is the number that was dialled, which may be another's, or a trunk's.
            let user = match self.peers.lookup(&arrival.flow) {
                // That address is somebody else.
                Some(_) => None,
                None => match self.authenticate(now, arrival, standing) {
                    Some(user) => Some(user),
                    None => return,
                },
            };
            let party = self.calls.party(located);
            if !matches!((party, user), (Some(Party::User(own, _)), Some(user)) if *own == user) {
                self.answer(now, arrival, 403);
                return;
            }
        }
        // A BYE ends the call whatever else it asks for.
        if arrival.request.method() != Method::Bye && self.refuse_extensions(now, arrival) {
            return;
        }
        let (calls, mut context) = self.split(now);
        calls.receive(located, arrival, &mut context);
    }

    /// Whether a flow is the one that a leg's peer speaks on, another address of the same trunk or user, or one that the
    /// same user has registered from since (a phone registers again first when it has lost its connection).
    fn is_peer(&self, located: crate::call::Located, flow: &Flow) -> bool {
        located.is_from_peer
            || match (self.calls.party(located), self.peers.lookup(flow)) {
                (Some(Party::Trunk(own, _)), Some(Who::Trunk(trunk))) => *own == trunk,
                (Some(Party::User(own, _)), Some(Who::User(user))) => *own == user,
                (Some(Party::User(own, _)), None) => self.is_registered(*own, flow),
                _ => false,
            }
    }

    /// OPTIONS outside a dialog: what we can do, told to those we know; a stranger's is not worth an answer.
    fn options(&mut self, now: Now, arrival: &Arrival<'_>, standing: Standing) {
        if !matches!(standing, Standing::Known | Standing::Exempt) {
            let presented = self
                .auth
                .present(now, arrival.request, arrival.flow.source());
            if !matches!(presented, crate::auth::Presented::Fresh(_))
                || self.identify(now, arrival, standing).is_none()
            {
                return;
            }
        }
        if self.refuse_unsupported(now, arrival) {
            return;
        }
        let tag = self.request_tag(arrival.request);
        let mut composer = Composer::response_to(
            &mut self.buffer,
            arrival.request,
            &arrival.flow,
            200,
            reason_phrase(200),
            &tag,
        );
        composer
            .field("Allow", &[ALLOW])
            .field("Accept", &[b"application/sdp"]);
        composer
            .field("Supported", &[b"path, outbound"])
            .field("Server", &[b"sipkeep"]);
        composer.finish(None, b"");
        // OPTIONS changes nothing: answered anew each time it comes, it needs no memory.
        crate::source::Sink::send(&mut self.out, &arrival.reply, &self.buffer);
    }

    /// Whatever else begins outside a dialog is authenticated before anything is said about it.
    fn outside(&mut self, now: Now, arrival: &Arrival<'_>, standing: Standing) {
        let Some(identity) = self.identify(now, arrival, standing) else {
            return;
        };
        let arrival = &arrival.authenticated();
        if self.refuse_unsupported(now, arrival) {
            return;
        }
        match arrival.request.method() {
            Method::Invite => self.invite(now, arrival, identity),
            Method::Bye | Method::Prack | Method::Update | Method::Info | Method::Notify => {
                self.answer(now, arrival, 481);
            }
            Method::Subscribe | Method::Publish => self.answer(now, arrival, 489),
            _ if arrival.request.method() == Method::Other => self.answer(now, arrival, 501),
            _ => self.answer(now, arrival, 405),
        }
    }

    /// RFC 3261 §8.2.2.1, §8.2.2.3: a Request-URI or an extension that we do not have. `true`: refused.
    pub(super) fn refuse_unsupported(&mut self, now: Now, arrival: &Arrival<'_>) -> bool {
        let scheme = arrival
            .request
            .uri()
            .map_or(Scheme::Other, |uri| uri.scheme);
        // `sips` asks for TLS on every hop, which we cannot promise.
        if !matches!(scheme, Scheme::Sip | Scheme::Tel) {
            self.answer(now, arrival, 416);
            return true;
        }
        self.refuse_extensions(now, arrival)
    }

    /// RFC 3261 §8.2.2.3: `Require` and `Proxy-Require` name what we do not have. `true`: answered with 420.
    fn refuse_extensions(&mut self, now: Now, arrival: &Arrival<'_>) -> bool {
        let request = arrival.request;
        let supported = |option: &&[u8]| {
            request.method() == Method::Register
                && [&b"path"[..], b"outbound"]
                    .iter()
                    .any(|own| option.eq_ignore_ascii_case(own))
        };
        let mut unsupported: Vec<&[u8]> = (request.values(HeaderName::Require))
            .chain(request.values(HeaderName::ProxyRequire))
            .filter(|option| !supported(option))
            .collect();
        if unsupported.is_empty() {
            return false;
        }
        unsupported.truncate(16);
        let list = unsupported.join(&b", "[..]);
        let tag = self.request_tag(request);
        let mut composer = Composer::response_to(
            &mut self.buffer,
            request,
            &arrival.flow,
            420,
            reason_phrase(420),
            &tag,
        );
        composer
            .field("Unsupported", &[&list])
            .field("Server", &[b"sipkeep"]);
        composer.finish(None, b"");
        let (_, mut context) = self.split(now);
        arrival.send(420, &mut context);
        true
    }

    /// A final response of our own with nothing to say but its status.
    pub(super) fn answer(&mut self, now: Now, arrival: &Arrival<'_>, status: u16) {
        let (_, mut context) = self.split(now);
        arrival.answer(status, None, &mut context);
    }

    /// [`Endpoint::stateless_tag`] of a request.
    pub(super) fn request_tag(&self, request: &Message<'_>) -> [u8; 16] {
        let from = request.from().tag().unwrap_or_default();
        let number = request.cseq().number.to_le_bytes();
        self.stateless_tag(&[request.via().branch, request.call_id(), from, &number])
    }
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
