//! REGISTER: who may register what; the bindings themselves are the registrar's work.

use std::time::Duration;

use super::identity::Unknown;
use super::*;
use crate::call::{Arrival, Phone};
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
        let flows_before: Vec<Flow> = match self.calls.calls_of(user) {
            0 => Vec::new(),
            _ => (self.location.bindings(user))
                .map(|binding| binding.flow())
                .collect(),
        };
        self.lines.clear();
        let (peers, config) = (&self.peers, &self.config);
        let registered = registrar::register(
            now,
            arrival.request,
            &arrival.flow,
            user,
            &own.name,
            &self.config.registrar,
            &mut self.location,
            &|uri, flow| is_forbidden(uri, flow, peers, config),
            &mut self.lines,
            &mut self.changes,
        );
        self.keep_changes();
        if registered.status == 200 && self.calls.calls_of(user) > 0 {
            self.move_dialogs(user, &arrival, &flows_before);
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
        composer.lines(&self.lines).field("Server", &[b"sipkeep"]);
        composer.finish(None, b"");
        self.send(now, &arrival, registered.status);
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

    /// A phone in a call has registered from elsewhere (its NAT has a new mapping, it lost its connection): what the other
    /// side has to say must reach it there. Gone is a flow whose binding this one has replaced; and a connection that is
    /// closed, if it was this very phone's, or if this one was not there before and is at the same address or the user's
    /// only one.
    fn move_dialogs(&mut self, user: UserId, arrival: &Arrival<'_>, before: &[Flow]) {
        let flow = &arrival.flow;
        let after: Vec<Flow> = (self.location.bindings(user))
            .map(|binding| binding.flow())
            .collect();
        if !after.contains(flow) {
            return;
        }
        let phones: Vec<Phone> = (self.location.bindings(user))
            .filter(|binding| binding.flow() == *flow)
            .map(|binding| self.phone(binding))
            .collect();
        let (is_new, is_only) = (!before.contains(flow), after.len() == 1);
        let connections = &self.connections;
        self.calls.moved(user, (flow, arrival.ours), |own, phone| {
            before.contains(own) && !after.contains(own)
                || own.connection.is_some_and(|connection| {
                    let is_same = phone.is_some_and(|phone| phones.contains(&phone));
                    let is_near = is_only || own.remote.ip() == flow.remote.ip();
                    !connections.is_open(connection) && (is_same || is_new && is_near)
                })
        });
    }

    /// Which of its user's phones a binding is: the same with the same instance (RFC 5626 §4.1), or else the same Contact.
    pub(super) fn phone(&self, binding: &Binding) -> Phone {
        let name = if binding.instance().is_empty() {
            (binding.contact().to_vec(), 0)
        } else {
            (binding.instance().to_ascii_lowercase(), binding.reg_id)
        };
        Phone(self.tag_hasher.hash_one(name))
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
                Host::Address(address) => address == flow.local.ip(),
            }
    }
}

/// A Contact that would make us call somebody else in a user's name: ourselves, a loopback, a multicast group, a trunk.
fn is_forbidden(uri: &Uri<'_>, flow: &Flow, peers: &Peers, config: &Config) -> bool {
    if uri.params.get("maddr").is_some() {
        return true;
    }
    let port = uri.port.unwrap_or(5060);
    match uri.host {
        Host::Address(address) => {
            let is_own = config.server.listen.iter().any(|listen| {
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
