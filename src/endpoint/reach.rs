//! Asking the addresses of trunks whether they can be reached, by OPTIONS outside any dialog (RFC 3261 §11.1), and telling
//! the log what came of it.

use super::*;
use crate::api::Reached;
use crate::call::ACCEPT;
use crate::dialog::{Dialog, write_contact};
use crate::message::compose::{append_host, append_socket_address, reason_phrase};
use crate::message::{Message, Method};
use crate::reach::{Cause, Known, News, Peer, State};
use crate::source::ReachId;
use crate::token::hex;

impl Endpoint {
    /// The addresses that a configuration wants to be asked, or at least to be known.
    pub(super) fn reach_peers(config: &Config) -> Vec<Peer> {
        let of_trunk = |trunk: &crate::config::Trunk| {
            let (name, transport, every) = (trunk.name.clone(), trunk.transport, trunk.keepalive);
            let addresses = trunk.addresses.iter().map(peers::socket_address);
            let peers = addresses.map(move |address| Peer {
                kind: "trunk",
                name: name.as_str().into(),
                transport,
                address,
                every,
            });
            peers.collect::<Vec<Peer>>()
        };
        config.trunks.iter().flat_map(of_trunk).collect()
    }

    /// Takes over whom a new configuration knows.
    pub(super) fn reload_reach(&mut self, now: Now, peers: Vec<Peer>) {
        self.reach.reload(now.mono, peers);
        self.reach_news(None);
    }

    /// Asks everybody whose turn it is, and gives up who has not answered.
    pub(super) fn tick_reach(&mut self, now: Now) {
        while let Some(news) = self.reach.expire(now) {
            self.reach_news(news);
        }
        while let Some((id, transport, address)) = self.reach.next_ask(now.mono) {
            let news = match self.flow_to(now, address, transport) {
                Some(flow) => {
                    self.ask(now, id, &flow);
                    None
                }
                None => self.reach.failed(now, id, Cause::NoWay),
            };
            self.reach_news(news);
        }
    }

    /// One OPTIONS. Each is a Call-ID of its own: there is nothing between two of them that a peer would have to remember.
    fn ask(&mut self, now: Now, id: ReachId, flow: &Flow) {
        let Some((client, branch)) = self.transactions.reserve() else {
            return self.reach.postpone(now.mono, id);
        };
        let call_id = [0, 1].map(|_| hex::<16>(self.tokens.next_u64()));
        let ours = self.contact_address(flow);
        let dialog = Dialog {
            call_id: call_id.as_flattened().into(),
            local: self.own_address(ours),
            remote: [b"<", &request_uri(flow)[..], b">"].concat(),
            remote_tag: Box::default(),
            remote_target: request_uri(flow).into(),
            route_set: Box::default(),
            local_cseq: 1,
            remote_cseq: None,
            flow: *flow,
            ours,
            contact_user: Box::default(),
        };
        let branch = branch.as_bytes();
        let mut composer = dialog.compose(&mut self.buffer, Method::Options, 1, branch);
        write_contact(&mut composer, flow, ours);
        composer
            .field("Accept", &[ACCEPT])
            .field("User-Agent", &[b"sipkeep"]);
        composer.finish(None, b"");
        self.reach.sent(id, client);
        self.transactions.send(
            now.mono,
            client,
            Method::Options,
            flow,
            &self.buffer,
            TransactionUser::Reach(id),
            &mut self.out,
        );
    }

    /// Our side of such a question, with a tag: nobody's name, so that no peer looks for a user.
    pub(super) fn own_address(&mut self, ours: SocketAddr) -> Vec<u8> {
        let mut local = b"<sip:".to_vec();
        match self.config.server.domains.first() {
            Some(domain) => local.extend_from_slice(domain.as_bytes()),
            None => append_host(&mut local, ours.ip()),
        }
        local.extend_from_slice(b">;tag=");
        local.extend_from_slice(&hex::<16>(self.tokens.next_u64()));
        local
    }

    /// A response that belongs to a question of ours.
    pub(super) fn reach_answered(&mut self, now: Now, id: ReachId, response: &Message<'_>) {
        if response.status() >= 200 {
            let hold = response.retry_after();
            let news = self.reach.answered(now, id, response.status(), hold);
            self.reach_news(news);
        }
    }

    /// No answer will come to a question of ours.
    pub(super) fn reach_failed(&mut self, now: Now, id: ReachId, is_timeout: bool) {
        let cause = match is_timeout {
            true => Cause::Silent,
            false => Cause::NoConnection,
        };
        let news = self.reach.failed(now, id, cause);
        self.reach_news(news);
    }

    /// What a response to a request of ours says of the address that it came from: that it is there, or, with 503 to an
    /// INVITE, that it wants to be left alone (RFC 3261 §21.5.4).
    pub(super) fn reach_responded(&mut self, now: Now, flow: &Flow, response: &Message<'_>) {
        let hold = response
            .retry_after()
            .filter(|_| response.status() == 503 && response.cseq().method == Method::Invite);
        let (transport, remote) = (flow.transport, flow.remote);
        let news = match hold {
            Some(hold) => self.reach.hold(now, transport, remote, hold),
            None => self.reach.spoke(now, transport, remote),
        };
        self.reach_news(news);
    }

    /// A request within a dialog came this way.
    pub(super) fn reach_spoke(&mut self, now: Now, flow: &Flow) {
        let news = self.reach.spoke(now, flow.transport, flow.remote);
        self.reach_news(news);
    }

    /// An address has left an INVITE unanswered, or was not to be reached with it.
    pub(super) fn reach_doubt(&mut self, now: Now, flow: &Flow) {
        let news = self.reach.doubt(now, flow.transport, flow.remote);
        self.reach_news(news);
    }

    /// After whatever has told [`Reach`] anything: forgets questions that it does not wait for, and tells the log, once
    /// for each change.
    fn reach_news(&mut self, news: Option<News>) {
        while let Some(question) = self.reach.next_over() {
            self.transactions.forget(question);
        }
        let Some(news) = news else { return };
        let mut fields = vec![
            ("name", news.peer.name.to_string()),
            ("address", news.peer.address.to_string()),
            ("transport", news.peer.transport.uri_token().to_owned()),
            ("state", news.known.state.word().to_owned()),
            ("reason", words(news.known.cause).unwrap_or_default()),
        ];
        if let Some(hold) = news.hold {
            fields.push(("retry_after_s", hold.as_secs().to_string()));
        }
        let level = match news.known.state {
            State::Up | State::Unknown => log::Level::Info,
            State::Down => log::Level::Warn,
        };
        self.event(level, news.peer.kind, fields);
    }

    /// What is known of these addresses, for people.
    pub(super) fn reached(
        &self,
        transport: Transport,
        addresses: &[crate::config::PeerAddress],
    ) -> Vec<Reached> {
        let reached = |address: SocketAddr| {
            let known = self.reach.known(transport, address);
            let Known {
                state,
                cause,
                since,
            } = known.unwrap_or_default();
            Reached {
                address: address.to_string(),
                state: state.word(),
                status: words(cause),
                since: since.map(crate::api::Rfc3339),
            }
        };
        (addresses.iter().map(peers::socket_address))
            .map(reached)
            .collect()
    }
}

/// `sip:192.0.2.9:5060`, with the transport where it is not UDP.
fn request_uri(flow: &Flow) -> Vec<u8> {
    let mut uri = b"sip:".to_vec();
    append_socket_address(
        &mut uri,
        SocketAddr::new(flow.remote.ip(), flow.remote.port()),
    );
    if flow.transport == Transport::Tcp {
        uri.extend_from_slice(b";transport=tcp");
    }
    uri
}

/// Why an address is taken to be as it is.
fn words(cause: Cause) -> Option<String> {
    Some(match cause {
        Cause::Nothing => return None,
        Cause::Answered(status) => format!("{status} {}", reason_phrase(status)),
        Cause::Spoke => "heard in a call".to_owned(),
        Cause::Silent => "no answer".to_owned(),
        Cause::NoConnection => "no connection".to_owned(),
        Cause::NoWay => "no way there from here".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::api::{Answer, Command};
    use crate::time::UnixTime;

    const TEXT: &str = "[server]\nlisten = udp:192.0.2.1:5060\n[trunk a]\naddresses = 198.51.100.4, 198.51.100.5:5070\n\
        [trunk b]\naddresses = 198.51.100.6\ntransport = tcp\n[trunk c]\naddresses = [2001:db8::9]\n";

    fn at(millis: u64) -> Now {
        Now {
            mono: Instant::from_micros(millis * 1_000),
            unix: UnixTime::from_millis(millis),
        }
    }

    fn shown(endpoint: &mut Endpoint, trunk: &str) -> Vec<String> {
        let command = Command::Reached {
            trunks: vec!["nobody".into(), trunk.into()],
        };
        let Answer::Reached(reached) = endpoint.command(at(0), command) else {
            panic!("another answer");
        };
        assert_eq!(reached[0], []);
        let text = |one: &Reached| {
            let since = one.since.map_or("-".to_owned(), |since| since.to_string());
            let status = one.status.as_deref().unwrap_or("-");
            format!("{} {} {status} {since}", one.address, one.state)
        };
        reached[1].iter().map(text).collect()
    }

    #[test]
    fn what_is_known_of_a_trunk_is_shown_in_words() {
        let config = Config::read(TEXT, Path::new(".")).expect("a good configuration");
        let mut endpoint = Endpoint::new(at(0), config, [7; 32], Snapshot::default());
        assert_eq!(
            shown(&mut endpoint, "a"),
            [
                "198.51.100.4:5060 unknown - -",
                "198.51.100.5:5070 unknown - -"
            ]
        );
        endpoint.handle_input(at(1_000), Input::Tick);
        // The second address answers from where it was asked, the first one not at all.
        let asked: Vec<(Flow, Vec<u8>)> = (endpoint.outputs())
            .filter_map(|output| match output {
                Output::Datagram { flow, bytes } => Some((flow, bytes.to_vec())),
                _ => None,
            })
            .collect();
        let (flow, bytes) = (asked.iter())
            .find(|(flow, _)| flow.remote.port() == 5070)
            .expect("it is asked");
        let text = String::from_utf8_lossy(bytes);
        let lines: String = (text.lines())
            .filter(|line| !line.starts_with("OPTIONS") && !line.starts_with("Contact"))
            .map(|line| format!("{line}\r\n"))
            .collect();
        let answer = format!("SIP/2.0 501 Not Implemented\r\n{lines}");
        let input = Input::Datagram {
            flow: *flow,
            bytes: answer.as_bytes(),
        };
        endpoint.handle_input(at(1_500), input);
        endpoint.handle_input(at(9_000), Input::Tick);
        assert_eq!(
            shown(&mut endpoint, "a"),
            [
                "198.51.100.4:5060 down no answer 1970-01-01T00:00:09.000Z",
                "198.51.100.5:5070 up 501 Not Implemented 1970-01-01T00:00:01.500Z"
            ]
        );
        let no_way = "down no way there from here 1970-01-01T00:00:01.000Z";
        assert_eq!(
            shown(&mut endpoint, "c"),
            [format!("[2001:db8::9]:5060 {no_way}")]
        );
        // A server that stops asks nobody.
        endpoint.stop(at(9_000));
        endpoint.clear_outputs();
        endpoint.handle_input(at(9_000), Input::Tick);
        endpoint.handle_input(at(90_000), Input::Tick);
        let is_sent = |output: Output<'_>| matches!(output, Output::Datagram { .. });
        assert!(!endpoint.outputs().any(is_sent));
        assert_eq!(endpoint.reach.next_deadline(), None);
        assert!(endpoint.reach.count().0 == 0 && endpoint.transactions.live() == 0);
    }
}
