//! Who sent a request (RFC 3261 §22): the source's address, or credentials. Until that is known nothing is remembered,
//! and the answer goes to the datagram's own source (RFC 3261 §8.2.7).

use super::*;
use crate::api::Rfc3339;
use crate::auth::{Presented, Verified};
use crate::call::Arrival;
use crate::guard::{Charged, Standing};
use crate::message::compose::{Composer, reason_phrase};
use crate::message::{HeaderName, Message, Method, NameAddr, Uri};
use crate::source::{Offence, Sink, Who};

impl Endpoint {
    /// Who sent this; `None`: not known, and whatever was to be answered has been.
    pub(super) fn identify(
        &mut self,
        now: Now,
        arrival: &Arrival<'_>,
        standing: Standing,
    ) -> Option<Who> {
        let by_address = self.peers.lookup(&arrival.flow);
        match by_address {
            Some(Who::User(user)) if self.may_register_as(arrival.request, user) => {
                return by_address;
            }
            Some(who) if arrival.request.method() != Method::Register => return Some(who),
            _ => {}
        }
        let user = self.authenticate(now, arrival, standing)?;
        self.check_identity(now, arrival, user)
    }

    /// Whose credentials this request carries, whatever it says of itself; `None`: nobody's, and it has been answered.
    pub(super) fn authenticate(
        &mut self,
        now: Now,
        arrival: &Arrival<'_>,
        standing: Standing,
    ) -> Option<UserId> {
        let source = arrival.flow.source();
        match self.auth.present(now, arrival.request, source) {
            Presented::Malformed if standing != Standing::Unproven => {
                self.answer(now, arrival, 400);
                None
            }
            Presented::None | Presented::Malformed => {
                self.challenge(now, arrival, standing, false);
                None
            }
            Presented::Stale => {
                self.challenge(now, arrival, standing, true);
                None
            }
            Presented::Fresh(credentials) => {
                // A fresh nonce for this source: the packet is proven, and may be charged.
                let standing = if standing == Standing::Unproven {
                    Standing::Proven
                } else {
                    standing
                };
                if self.guard.is_delayed(now, source, credentials.username)
                    && !(self.auth.user(credentials.username))
                        .is_some_and(|user| self.is_registered(user, &arrival.flow))
                {
                    return None;
                }
                match self.auth.verify(&credentials, arrival.request) {
                    Verified::Accepted(user) => {
                        self.accepted(now, arrival, credentials.username);
                        Some(user)
                    }
                    Verified::Stale => {
                        self.challenge(now, arrival, standing, true);
                        None
                    }
                    Verified::Wrong { fingerprint } => {
                        let name = credentials.username;
                        if self.failed(now, source, name, fingerprint) {
                            self.challenge(now, arrival, standing, false);
                        }
                        None
                    }
                }
            }
        }
    }

    /// Whether this flow is one that this user is registered from, and so proved to be his: what another one behind the
    /// same address guesses does not delay him, and his dialogs go on there.
    pub(super) fn is_registered(&self, user: UserId, flow: &Flow) -> bool {
        (self.location.bindings(user)).any(|binding| {
            let own = binding.flow();
            (own.transport, own.remote, own.connection)
                == (flow.transport, flow.remote, flow.connection)
        })
    }

    /// A user by address registers without a password, but only himself.
    fn may_register_as(&self, request: &Message<'_>, user: UserId) -> bool {
        request.method() != Method::Register || self.names(request.to().uri, user)
    }

    /// A right answer came from this source.
    fn accepted(&mut self, now: Now, arrival: &Arrival<'_>, name: &[u8]) {
        let source = arrival.flow.source();
        if self.guard.succeeded(now, source, name) {
            self.out.keep(Change::Known(source, now.unix));
        }
        if let Some(connection) = arrival.flow.connection
            && let Some(stream) = self.connections.get_mut(connection)
            && !stream.is_trusted
        {
            stream.is_trusted = true;
            self.out.trust_stream(connection);
        }
    }

    /// A wrong answer to a fresh nonce; `true`: still to be answered.
    fn failed(&mut self, now: Now, source: Source, name: &[u8], fingerprint: u64) -> bool {
        let user = String::from_utf8_lossy(name).into_owned();
        let who = self.peers.has_source(source);
        match self
            .guard
            .charge(now, source, who, Offence::Credentials, name, fingerprint)
        {
            Charged::Banned(row) => {
                let fields = vec![
                    ("source", source.to_string()),
                    ("reason", "credentials".to_owned()),
                    ("failures", row.failures.to_string()),
                    ("user", user),
                    ("until", Rfc3339(row.until).to_string()),
                    ("mode", self.mode_name().to_owned()),
                ];
                let is_enforced = self.config.guard.mode == crate::config::GuardMode::Enforce;
                self.stranger_event("ban", source, fields);
                if is_enforced {
                    self.out.keep(Change::Ban(row));
                    self.out.banned(source);
                }
                !is_enforced
            }
            Charged::Counted { failures } => {
                let failures = failures.to_string();
                let fields = vec![
                    ("source", source.to_string()),
                    ("user", user),
                    ("failures", failures),
                ];
                self.stranger_event("failure", source, fields);
                true
            }
            Charged::Delayed { seconds } => {
                let seconds = seconds.to_string();
                let fields = vec![
                    ("source", source.to_string()),
                    ("user", user),
                    ("delay_s", seconds),
                ];
                self.stranger_event("failure", source, fields);
                true
            }
            Charged::Repeated => true,
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
            fields,
        });
    }

    /// REGISTER: To is the authenticated user. Others: From is, or P-Preferred-Identity with an anonymous From.
    fn check_identity(&mut self, now: Now, arrival: &Arrival<'_>, user: UserId) -> Option<Who> {
        let request = arrival.request;
        let is_own = if request.method() == Method::Register {
            self.names(request.to().uri, user)
        } else {
            self.names(request.from().uri, user)
                || is_anonymous(request.from())
                    && request
                        .value(HeaderName::PPreferredIdentity)
                        .and_then(|value| NameAddr::parse(value).ok())
                        .is_some_and(|preferred| self.names(preferred.uri, user))
        };
        if is_own {
            return Some(Who::User(user));
        }
        self.answer(now, arrival, 403);
        None
    }

    /// Whether a URI is this user's address-of-record here.
    fn names(&self, uri: &[u8], user: UserId) -> bool {
        let Some(own) = self.config.users.get(user.0 as usize) else {
            return false;
        };
        let Ok(uri) = Uri::parse(uri) else {
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
    fn challenge(&mut self, now: Now, arrival: &Arrival<'_>, standing: Standing, stale: bool) {
        let source = arrival.flow.source();
        let tag = self.request_tag(arrival.request);
        self.lines.clear();
        self.auth.challenge(now, source, stale, &mut self.lines);
        let mut composer = Composer::response_to(
            &mut self.buffer,
            arrival.request,
            &arrival.flow,
            401,
            reason_phrase(401),
            &tag,
        );
        composer.lines(&self.lines);
        composer.finish(None, b"");
        let (asked, answer) = (arrival.request.bytes().len(), self.buffer.len());
        if standing == Standing::Unproven && !self.guard.may_answer(now, source, asked, answer) {
            return;
        }
        // Unproven or not: only to where it came from.
        self.out.send(&arrival.flow, &self.buffer);
    }
}

/// RFC 3323 §4.1.1.3 and what phones make of it.
fn is_anonymous(from: &NameAddr<'_>) -> bool {
    Uri::parse(from.uri).is_ok_and(|uri| uri.user.eq_ignore_ascii_case(b"anonymous"))
}
