//! Who sent a request (RFC 3261 §22): the source's address, or credentials. Until that is known nothing is remembered,
//! and the answer goes to the datagram's own source (RFC 3261 §8.2.7).

use super::invite::dialled_number;
use super::*;
use crate::api::Rfc3339;
use crate::auth::{Presented, Verified};
use crate::call::{Arrival, Located, Party, is_behind_nat};
use crate::config::without_separators;
use crate::guard::{Charged, Standing};
use crate::message::compose::{Composer, reason_phrase};
use crate::message::{HeaderName, Message, Method, NameAddr, Uri};
use crate::source::{Offence, Sink, Who};
use crate::store::{BanReason, BanRow};
use crate::subscription;
use crate::transaction::ServerKey;

/// A request of which nobody knows yet who sent it. All that it can have is an answer that leaves nothing behind: the
/// [`Arrival`] that transactions and calls are made from comes out of it in this file only, with who it is.
#[derive(Debug)]
pub(super) struct Unknown<'a> {
    arrival: Arrival<'a>,
    /// What the guard knows of its source.
    pub standing: Standing,
}

impl<'a> Unknown<'a> {
    /// `ours`: our address on `flow`; `reply`: where its responses go.
    pub fn new(
        request: &'a Message<'a>,
        flow: &Flow,
        ours: SocketAddr,
        reply: Flow,
        key: ServerKey,
        standing: Standing,
    ) -> Self {
        let arrival = Arrival {
            request,
            flow: *flow,
            ours,
            reply,
            key,
            was_behind_nat: false,
        };
        Self { arrival, standing }
    }

    /// The request.
    pub fn request(&self) -> &'a Message<'a> {
        self.arrival.request
    }

    /// The way it came.
    pub fn flow(&self) -> &Flow {
        &self.arrival.flow
    }
}

impl Endpoint {
    /// Who sent this, and it as one whose sender is known; `None`: not known, and whatever was to be answered has been.
    pub(super) fn identify<'a>(
        &mut self,
        now: Now,
        unknown: &Unknown<'a>,
    ) -> Option<(Who, Arrival<'a>)> {
        let request = unknown.request();
        let flow = unknown.flow();
        let is_register = request.method() == Method::Register;
        let by_address = match self.peers.lookup(flow) {
            _ if !is_register && let Some(line) = self.line_of(request, flow) => {
                Some(Who::Line(line))
            }
            Some(Who::User(_)) => (self.user_at(request, flow))
                .filter(|user| self.may_register_as(request, *user))
                .map(Who::User),
            Some(Who::Trunk(trunk)) => Some(Who::Trunk(trunk)).filter(|_| !is_register),
            Some(Who::Line(_)) => {
                self.is_on_no_line(now, request, flow);
                None
            }
            None => None,
        };
        if let Some(who) = by_address {
            return Some((who, unknown.arrival.authenticated()));
        }
        if self.may_be_carriers(request, flow) {
            return None;
        }
        let (user, arrival) = self.authenticate(now, unknown)?;
        if !self.may_call_himself(request, user) {
            self.answer(now, &arrival, 403);
            return None;
        }
        Some((Who::User(user), arrival))
    }

    /// The user that a request is from by the address that it came from; of several who share that address, the one that
    /// it says it is from. `None`: it is nobody's there, or it does not say whose.
    pub(super) fn user_at(&self, request: &Message<'_>, flow: &Flow) -> Option<UserId> {
        let first = self.peers.users(flow).next()?;
        if self.peers.users(flow).all(|user| user == first) {
            return Some(first);
        }
        (self.peers.users(flow)).find(|user| self.may_call_himself(request, *user))
    }

    /// A request of a dialog from its peer, or from the leg's user at a new address; `None`: it has been answered.
    pub(super) fn of_dialog<'a>(
        &mut self,
        now: Now,
        located: Located,
        unknown: &Unknown<'a>,
    ) -> Option<Arrival<'a>> {
        if self.is_peer(located, unknown.flow()) {
            return Some(unknown.arrival);
        }
        let who = self.calls.party(located).map(Party::who);
        self.prove(now, who, unknown)
    }

    /// The same of a subscription: from where its user is known to be, or with his credentials.
    pub(super) fn of_subscription<'a>(
        &mut self,
        now: Now,
        located: subscription::Located,
        unknown: &Unknown<'a>,
    ) -> Option<Arrival<'a>> {
        let who = Who::User(located.user);
        let is_known = match self.peers.lookup_alone(unknown.flow()) {
            Some(_) => self.peers.is_user(unknown.flow(), located.user),
            None => located.is_from_peer || self.is_registered(located.user, unknown.flow()),
        };
        if is_known {
            return Some(unknown.arrival);
        }
        self.prove(now, Some(who), unknown)
    }

    /// A request within a dialog of `peer` that came from elsewhere; `None`: it is not his, and has been answered.
    fn prove<'a>(
        &mut self,
        now: Now,
        peer: Option<Who>,
        unknown: &Unknown<'a>,
    ) -> Option<Arrival<'a>> {
        // The phone has a new address (carrier NAT, TCP reconnect): it proves that it is itself. From says nothing
        // here: towards a callee it is the number that was dialled, which may be another's, or a trunk's.
        let (user, arrival) = match self.peers.lookup_alone(unknown.flow()) {
            // That address is somebody else.
            Some(_) => (None, unknown.arrival.authenticated()),
            None => {
                let (user, arrival) = self.authenticate(now, unknown)?;
                (Some(user), arrival)
            }
        };
        if user.is_some() && peer == user.map(Who::User) {
            return Some(arrival);
        }
        self.answer(now, &arrival, 403);
        None
    }

    /// An ACK that counts: from the peer of its leg (so it is marked), or at least from his address.
    pub(super) fn acknowledging<'a>(
        &self,
        located: Located,
        unknown: &Unknown<'a>,
    ) -> Option<(Located, Arrival<'a>)> {
        let known = self.calls.remote(located).map(|remote| remote.ip());
        let is_from_peer = self.is_peer(located, unknown.flow());
        let mut located = located;
        located.is_from_peer = is_from_peer;
        (is_from_peer || known == Some(unknown.flow().remote.ip()))
            .then_some((located, unknown.arrival))
    }

    /// A CANCEL that came the way of its INVITE, and whose that is.
    pub(super) fn cancelling<'a>(&self, unknown: &Unknown<'a>) -> Option<(Owner, Arrival<'a>)> {
        let flow = unknown.flow();
        let invite = self.transactions.invite_key(unknown.request());
        let own = self.transactions.find(invite.from_source(flow.remote.ip()));
        // A trunk or line may have several addresses, and cancel from another one.
        let found = own.or_else(|| {
            let mut others = self.peers.addresses(&self.config, flow).into_iter();
            others.find_map(|address| self.transactions.find(invite.from_source(address)))
        });
        // A neighbour writes whatever port he likes into his Via: only where the INVITE came from counts. When its call is
        // over a CANCEL changes nothing, and it is enough that both are answered at one place.
        let known = unknown.arrival.authenticated();
        let (_, TransactionUser::Call(owner), way) = found? else {
            return None;
        };
        let is_its_way = match self.calls.leg_of(owner, flow) {
            Some(located) => {
                // Of whoever is known by his address another connection will do once that one is closed.
                let is_gone = |own| !self.connections.is_open(own);
                let has_returned = way.connection.is_some_and(is_gone) && flow.connection.is_some();
                let is_outside = self.calls.party(located).is_some_and(Party::is_outside);
                located.is_from_peer || (has_returned || is_outside) && self.is_peer(located, flow)
            }
            None => {
                [known.flow.remote, known.reply.remote].contains(&way.remote)
                    && way.connection == flow.connection
            }
        };
        is_its_way.then_some((owner, known))
    }

    /// Whether a flow is the one that a leg's peer speaks on (where its phone has registered last), or another address of
    /// the same trunk or user.
    fn is_peer(&self, located: Located, flow: &Flow) -> bool {
        located.is_from_peer
            || match (self.calls.party(located), self.peers.lookup(flow)) {
                (Some(Party::Trunk(own, _)), Some(Who::Trunk(trunk))) => *own == trunk,
                (Some(Party::Line(own, _)), Some(_)) => self.peers.is_line(flow, *own),
                (Some(Party::User(own, _)), Some(Who::User(_))) => self.peers.is_user(flow, *own),
                _ => false,
            }
    }

    /// Whose credentials this request carries, whatever it says of itself; `None`: nobody's, and it has been answered.
    fn authenticate<'a>(
        &mut self,
        now: Now,
        unknown: &Unknown<'a>,
    ) -> Option<(UserId, Arrival<'a>)> {
        let source = unknown.flow().source();
        match self.auth.present(now, unknown.request(), source) {
            Presented::Malformed if self.may_tell(now, source, unknown.standing) => {
                self.answer_unknown(unknown, 400);
                None
            }
            Presented::None | Presented::Malformed => {
                self.challenge(now, unknown, unknown.standing, false);
                None
            }
            Presented::Stale => {
                self.challenge(now, unknown, unknown.standing, true);
                None
            }
            Presented::Fresh(credentials) => {
                // A fresh nonce for this source: the packet is proven, and may be charged.
                let standing = if unknown.standing == Standing::Unproven {
                    Standing::Proven
                } else {
                    unknown.standing
                };
                // RFC 7616 §3.4.6: 400, before anything is known of the digest, so that the answer tells nothing of it,
                // and without a strike, for it may be a phone's habit.
                if is_diverted(unknown.request(), credentials.uri) {
                    if self.may_tell(now, source, standing) {
                        self.answer_unknown(unknown, 400);
                    }
                    return None;
                }
                let own = credentials.user;
                let name = self.name_of(own).unwrap_or(credentials.username);
                if self.guard.is_delayed(now, source, name)
                    && !own.is_some_and(|own| self.is_registered(own, unknown.flow()))
                {
                    return None;
                }
                match self.auth.verify(&credentials, unknown.request()) {
                    Verified::Accepted(user) => {
                        self.accepted(now, unknown.flow(), user);
                        let mut arrival = unknown.arrival.authenticated();
                        arrival.was_behind_nat = credentials.is_marked();
                        Some((user, arrival))
                    }
                    // RFC 3261 §8.2.2.2: what came here a second way carries the credentials of the first, and is no
                    // replay.
                    Verified::Stale if self.is_merged(unknown) => {
                        self.answer_unknown(unknown, 482);
                        None
                    }
                    Verified::Stale => {
                        self.challenge(now, unknown, standing, true);
                        None
                    }
                    Verified::Wrong { fingerprint } => {
                        let user = (own, credentials.username);
                        if self.failed(now, source, user, fingerprint) {
                            self.challenge(now, unknown, standing, false);
                        }
                        None
                    }
                }
            }
        }
    }

    fn is_merged(&self, unknown: &Unknown<'_>) -> bool {
        (self.transactions).is_merged(unknown.request(), unknown.arrival.key)
    }

    /// RFC 3261 §8.2.7: a final response that nothing remembers, whoever asks. His request's copy gets it again, and
    /// nobody else's can be taken for one.
    pub(super) fn answer_unknown(&mut self, unknown: &Unknown<'_>, status: u16) {
        (self.refusal(unknown.request(), unknown.flow(), status)).finish(None, b"");
        self.send_unknown(unknown);
    }

    /// Sends what is composed, and forgets it.
    pub(super) fn send_unknown(&mut self, unknown: &Unknown<'_>) {
        self.out.send(&unknown.arrival.reply, &self.buffer);
    }

    /// The name as it is configured: a name may be written with escapes in many ways.
    fn name_of(&self, user: Option<UserId>) -> Option<&[u8]> {
        let user = self.config.users.get(user?.0 as usize)?;
        Some(user.name.as_bytes())
    }

    /// Whether this flow is one that this user is registered from, and so proved to be his: what another one behind the
    /// same address guesses does not delay him.
    pub(super) fn is_registered(&self, user: UserId, flow: &Flow) -> bool {
        (self.location.bindings(user)).any(|binding| binding.is_on(flow))
    }

    /// A user by address registers without a password, but only himself.
    fn may_register_as(&self, request: &Message<'_>, user: UserId) -> bool {
        request.method() != Method::Register || self.names(&request.to().parts(), user)
    }

    /// A right answer came from this source.
    fn accepted(&mut self, now: Now, flow: &Flow, user: UserId) {
        let source = flow.source();
        let users = &self.config.users;
        let name = users.get(user.0 as usize).map_or("", |own| &own.name);
        if self.guard.succeeded(now, source, name.as_bytes()) {
            self.out.keep(Change::Known(source, now.unix));
        }
        if let Some(connection) = flow.connection
            && let Some(stream) = self.connections.get_mut(connection)
            && !stream.is_trusted
        {
            stream.is_trusted = true;
            self.out.trust_stream(connection);
        }
    }

    /// A wrong answer to a fresh nonce, as `user`: who that is, if he exists, and his name as it came. `true`: still to be
    /// answered.
    fn failed(
        &mut self,
        now: Now,
        source: Source,
        (own, sent): (Option<UserId>, &[u8]),
        fingerprint: u64,
    ) -> bool {
        let users = &self.config.users;
        let own = own.and_then(|own| users.get(own.0 as usize));
        let name = own.map_or(sent, |own| own.name.as_bytes());
        let peers = &self.peers;
        let is_exempt = |source| peers.has_source(source);
        let charged = self.guard.charge(
            now,
            source,
            is_exempt,
            Offence::Credentials,
            name,
            fingerprint,
        );
        let is_neighbour = match &charged {
            Charged::Delayed { .. } => true,
            Charged::Banned(rows) => rows.iter().any(|row| row.reason == BanReason::Scan),
            Charged::Counted { .. } | Charged::Repeated => false,
        };
        let mended = own.filter(|_| is_neighbour);
        let news = mended.and_then(|own| {
            let failures = self.guard.misconfigured_news(now, source, &own.name)?;
            Some((own.name.clone(), failures))
        });
        if let Some((user, failures)) = news {
            let fields = vec![
                ("user", user),
                ("source", source.to_string()),
                ("failures", failures.to_string()),
            ];
            self.stranger_event("misconfigured", source, fields);
        }
        let user = String::from_utf8_lossy(sent).into_owned();
        let mut fields = vec![("source", source.to_string()), ("user", user)];
        match charged {
            Charged::Banned(rows) => return self.begin_bans(rows, &fields),
            Charged::Counted { failures } => fields.push(("failures", failures.to_string())),
            Charged::Delayed { seconds } => fields.push(("delay_s", seconds.to_string())),
            Charged::Repeated => return true,
        }
        self.stranger_event("failure", source, fields);
        true
    }

    /// Bans begin, of a source and perhaps of prefixes around it. `true`: it is still answered.
    fn begin_bans(&mut self, rows: Vec<BanRow>, failure: &[(&'static str, String)]) -> bool {
        let is_enforced = !self.guard.is_observing();
        let mut is_answered = true;
        for row in rows {
            let source = row.source;
            let (reason, is_dropped) = match row.reason {
                BanReason::Scan => ("scan", false),
                _ => ("credentials", true),
            };
            let user = failure.iter().find(|(name, _)| *name == "user");
            let mut fields = vec![
                ("source", source.to_string()),
                ("reason", reason.to_owned()),
                ("failures", row.failures.to_string()),
            ];
            fields.extend(user.cloned());
            fields.push(("until", Rfc3339(row.until).to_string()));
            fields.push(("mode", self.mode_name().to_owned()));
            self.stranger_event("ban", source, fields);
            if is_enforced {
                self.out.keep(Change::Ban(Box::new(row)));
                if is_dropped {
                    self.out.banned(source);
                    is_answered = false;
                }
            }
        }
        is_answered
    }

    /// Whether whoever has not answered a challenge right may be told that something is wrong: a stranger whose datagrams
    /// prove nothing never, one on a stream a few times.
    pub(super) fn may_tell(&mut self, now: Now, source: Source, standing: Standing) -> bool {
        match standing {
            Standing::Unproven => false,
            Standing::Proven => self.guard.may_challenge(now, source),
            Standing::Known | Standing::Exempt => true,
        }
    }

    pub(super) fn stranger_event(
        &mut self,
        name: &'static str,
        source: Source,
        fields: Vec<(&'static str, String)>,
    ) {
        self.out.event(Event {
            level: log::Level::Warn,
            name,
            source: Some(source),
            fields: fields.into(),
        });
    }

    /// REGISTER: To is the authenticated user. Others: From is, or P-Preferred-Identity with an anonymous From.
    fn may_call_himself(&self, request: &Message<'_>, user: UserId) -> bool {
        if request.method() == Method::Register {
            return self.names(&request.to().parts(), user);
        }
        self.names(&request.from().parts(), user)
            || is_anonymous(request.from())
                && request
                    .value(HeaderName::PPreferredIdentity)
                    .and_then(|value| NameAddr::parse(value).ok())
                    .is_some_and(|preferred| self.names(&preferred.parts(), user))
    }

    /// Whether a URI is this user's address-of-record here.
    fn names(&self, uri: &Uri<'_>, user: UserId) -> bool {
        let Some(own) = self.config.users.get(user.0 as usize) else {
            return false;
        };
        if !uri.user.contains(&b'%') {
            return uri.user == own.name.as_bytes();
        }
        let mut name = Vec::new();
        uri.user_unescaped(&mut name);
        name == own.name.as_bytes()
    }

    /// 401 with a fresh nonce: one datagram, no memory of it. The bytes are the same for users who exist and who do not.
    fn challenge(&mut self, now: Now, unknown: &Unknown<'_>, standing: Standing, stale: bool) {
        let source = unknown.flow().source();
        let tag = self.request_tag(unknown.request());
        // Phones learn from our answers where they are, and say nothing else from then on: only the first request, of which
        // nothing is remembered, shows that there is a NAT.
        let request = unknown.request();
        let is_behind_nat =
            is_behind_nat(request, unknown.flow()) || self.auth.is_marked(request, source);
        let kind = (stale, is_behind_nat);
        self.header_lines.clear();
        self.auth
            .challenge(now, source, kind, &mut self.header_lines);
        let mut composer = Composer::response_to(
            &mut self.buffer,
            unknown.request(),
            unknown.flow(),
            401,
            reason_phrase(401),
            &tag,
        );
        composer.lines(&self.header_lines);
        composer.finish(None, b"");
        let (asked, answer) = (unknown.request().bytes().len(), self.buffer.len());
        let may = match standing {
            Standing::Unproven => self.guard.may_answer(now, source, asked, answer),
            standing => self.may_tell(now, source, standing),
        };
        if !may {
            return;
        }
        // Unproven or not: only to where it came from.
        self.out.send(unknown.flow(), &self.buffer);
    }
}

/// Whether an INVITE that begins a call, or a MESSAGE, asks for another number than its digest was computed for: whoever
/// stands between could have changed it. Phones write the same number in both, however they write host, port and
/// parameters; SIPp writes none in the digest, which then says nothing of it. A request within a dialog goes to our Contact
/// and begins nothing, and its digest is for our Contact's user part, which is nobody's number; REGISTER has no number.
fn is_diverted(request: &Message<'_>, uri: &[u8]) -> bool {
    let number = |uri: &Uri<'_>| without_separators(&dialled_number(uri)).into_owned();
    if !matches!(request.method(), Method::Invite | Method::Message) || request.to().tag().is_some()
    {
        return false;
    }
    // As a rule they are the same.
    if uri == request.request_uri() {
        return false;
    }
    let computed_for = Uri::parse(uri).as_ref().map(number).unwrap_or_default();
    !computed_for.is_empty() && Some(computed_for) != request.uri().map(number)
}

/// RFC 3323 §4.1.1.3 and what phones make of it.
fn is_anonymous(from: &NameAddr<'_>) -> bool {
    from.parts().user.eq_ignore_ascii_case(b"anonymous")
}
