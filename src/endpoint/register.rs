//! REGISTER: who may register what; the bindings themselves are the registrar's work.

use std::time::Duration;

use super::identity::Unknown;
use super::*;
use crate::call::Arrival;
use crate::location::Binding;
use crate::message::compose::Composer;
use crate::message::{HeaderName, Host, Message, Uri};
use crate::registrar;
use crate::source::Who;

/// Between two lines about strangers who ask for another host.
const MINUTE: Duration = Duration::from_secs(60);

impl Endpoint {
    pub(super) fn register(&mut self, now: Now, unknown: &Unknown<'_>) {
        let Some((Who::User(user), arrival)) = self.identify(now, unknown) else {
            return;
        };
        if let Some(status) = self.unsupported(arrival.request, &arrival.flow) {
            self.send(now, &arrival, status);
            return;
        }
        let Some(own) = self.config.users.get(user.0 as usize) else {
            return;
        };
        let bindings_before = self.location.bindings(user).count();
        let flows_before: Vec<(u64, Flow)> = match self.calls.calls_of(user) {
            0 => Vec::new(),
            _ => (self.location.bindings(user))
                .map(|binding| (binding.serial, binding.flow()))
                .collect(),
        };
        let was_behind_nat = self.was_behind_nat(&arrival, user);
        self.header_lines.clear();
        let (peers, config, ours) = (&self.peers, &self.config, arrival.ours);
        let registered = registrar::register(
            now,
            arrival.request,
            &arrival.flow,
            user,
            &own.name,
            &self.config.registrar,
            &mut self.location,
            &|uri, flow| is_forbidden(uri, flow, ours, peers, config),
            &|flow| peers.may_be_forged(flow, user),
            &mut self.header_lines,
            &mut self.changes,
        );
        self.keep_changes();
        if registered.status == 200
            && self.calls.calls_of(user) > 0
            && !self.may_be_forged(&arrival.flow, user)
        {
            self.move_legs(now, user, &arrival, &flows_before);
        }
        let tag = self.request_tag(arrival.request);
        let mut composer = Composer::response_to(
            &mut self.buffer,
            arrival.request,
            &arrival.flow,
            registered.status,
            registered.reason,
            &tag,
        );
        composer
            .lines(&self.header_lines)
            .field("Server", &[b"sipkeep"]);
        composer.finish(None, b"");
        self.send(now, &arrival, registered.status);
        if registered.status == 200 {
            self.phone_is_back(now, user, &arrival);
        }
        let is_behind_nat =
            || was_behind_nat || crate::call::is_behind_nat(arrival.request, &arrival.flow);
        if registered.status == 200 && is_behind_nat() {
            self.is_behind_nat(now.mono, user, &arrival.flow);
        }
        let bindings = self.location.bindings(user).count();
        if registered.status != 200 || bindings != bindings_before {
            let own = self.config.users.get(user.0 as usize);
            let user_name = own.map(|own| own.name.clone()).unwrap_or_default();
            let agent = arrival
                .request
                .value(HeaderName::UserAgent)
                .unwrap_or_default();
            let fields = vec![
                ("user", user_name),
                ("source", arrival.flow.remote.to_string()),
                ("transport", arrival.flow.transport.uri_token().to_owned()),
                ("status", registered.status.to_string()),
                ("bindings", bindings.to_string()),
                ("user_agent", String::from_utf8_lossy(agent).into_owned()),
            ];
            let name = if bindings < bindings_before {
                "unregister"
            } else {
                "register"
            };
            self.event(log::Level::Info, name, fields);
        }
    }

    /// A phone has registered, which is more than to ask who has: what waits for its user can go to him.
    fn phone_is_back(&mut self, now: Now, user: UserId, arrival: &Arrival<'_>) {
        let request = arrival.request;
        let is_of_request = |binding: &Binding| {
            (binding.call_id(), binding.cseq) == (request.call_id(), request.cseq().number)
        };
        let own = self.config.users.get(user.0 as usize);
        if let Some(own) = own
            && self.location.bindings(user).any(is_of_request)
        {
            // Whoever forges it must not have him tried again and again.
            let heard = self.may_be_forged(&arrival.flow, user);
            self.pages.is_back(now.mono, &own.name, heard);
        }
    }

    /// Whether a phone that registers is known to be behind a NAT: it said so when it was challenged, or before it knew its
    /// address outside.
    fn was_behind_nat(&self, arrival: &Arrival<'_>, user: UserId) -> bool {
        let address = arrival.flow.remote.ip();
        let is_there = |binding: &Binding| binding.is_behind_nat() && binding.is_at(address);
        arrival.was_behind_nat || self.location.bindings(user).any(is_there)
    }

    /// A phone in a call has registered from elsewhere (its NAT has a new mapping, it lost its connection): what the other
    /// side has to say must reach it there. `before`: the user's bindings, by number, and their flows.
    fn move_legs(&mut self, now: Now, user: UserId, arrival: &Arrival<'_>, before: &[(u64, Flow)]) {
        let (flow, request) = (&arrival.flow, arrival.request);
        let is_of_request = |binding: &&Binding| {
            binding.flow() == *flow
                && (binding.call_id(), binding.cseq) == (request.call_id(), request.cseq().number)
        };
        let (users, mut context) = self.users(now);
        let elsewhere: Vec<&Binding> = (users.location.bindings(user))
            .filter(is_of_request)
            .filter(|binding| !before.contains(&(binding.serial, *flow)))
            .collect();
        if elsewhere.is_empty() {
            return;
        }
        let way = (flow, arrival.ours);
        (users.calls).moved(user, way, &elsewhere, users.location, &mut context);
    }

    /// With a `domain` set, a stranger's request for another host gets no answer, whatever its method. Once a minute the
    /// log says so, for it may be a phone that was set up with the wrong name.
    pub(super) fn is_strange_host(&mut self, now: Now, request: &Message<'_>, flow: &Flow) -> bool {
        let server = &self.config.server;
        let address = flow.remote.ip();
        let is_strange = !server.domains.is_empty()
            && !server
                .local_networks
                .iter()
                .any(|network| network.contains(address))
            && !self.is_ours(request, flow);
        let is_news = |last: Instant| now.mono.since(last) >= MINUTE;
        if is_strange && self.strange_host_said.is_none_or(is_news) {
            self.strange_host_said = Some(now.mono);
            let source = flow.source();
            let uri = String::from_utf8_lossy(request.request_uri()).into_owned();
            let fields = vec![("source", source.to_string()), ("uri", uri)];
            self.stranger_event("strange_host", source, fields);
        }
        is_strange
    }

    /// Whether a request's URI has this server for its host: one of the domains, or an address of ours. Without domains
    /// any host is.
    pub(super) fn is_ours(&self, request: &Message<'_>, flow: &Flow) -> bool {
        (request.uri()).is_some_and(|uri| self.is_our_host(uri, flow))
    }

    /// The same of any URI that came on this flow.
    pub(super) fn is_our_host(&self, uri: &Uri<'_>, flow: &Flow) -> bool {
        let domains = &self.config.server.domains;
        domains.is_empty()
            || match uri.host {
                Host::Name(name) => {
                    name.is_empty()
                        || domains
                            .iter()
                            .any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
                }
                Host::Address(address) => {
                    address == flow.local.ip() || address == self.contact_address(flow).ip()
                }
            }
    }
}

/// A Contact that would make us call somebody else in a user's name: ourselves, a loopback, a multicast group, a trunk.
fn is_forbidden(
    uri: &Uri<'_>,
    flow: &Flow,
    ours: SocketAddr,
    peers: &Peers,
    config: &Config,
) -> bool {
    if uri.params.get("maddr").is_some() {
        return true;
    }
    let port = uri.port.unwrap_or(5060);
    match uri.host {
        Host::Address(address) => {
            let is_own = SocketAddr::new(address, port) == ours
                || config.server.listen.iter().any(|listen| {
                    listen.address.port() == port
                        && (address == flow.local.ip() || address == listen.address.ip())
                });
            let is_loopback = address.is_loopback() && !flow.remote.ip().is_loopback();
            is_own
                || is_loopback
                || address.is_multicast()
                || address.is_unspecified()
                || peers.is_trunk(address, port, flow.remote.ip())
        }
        Host::Name(name) => {
            let name = name.strip_suffix(b".").unwrap_or(name);
            name.eq_ignore_ascii_case(b"localhost") && !flow.remote.ip().is_loopback()
                || (config.server.domains.iter())
                    .any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
        }
    }
}
