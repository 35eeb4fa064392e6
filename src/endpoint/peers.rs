//! The one table source → who: users by address, trunks and lines. Guard, authentication and lanes read only this.
//!
//! The socket's address decides, never a header. A configured port counts over UDP; over TCP a peer's port is drawn anew
//! for every connection.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use ahash::RandomState;

use super::blocks::Blocks;
use crate::config::{Config, PeerAddress};
use crate::source::{Flow, LineId, Source, Transport, TrunkId, UserId, Who};

/// The port of a peer that was configured without one and has not spoken (RFC 3261 §19.1.2).
const DEFAULT_PORT: u16 = 5060;

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: Option<u16>,
    transport: Option<Transport>,
    who: Who,
    /// The address says who it is. Where that of a line is only where its packets go, the request must say it as well:
    /// many customers of one carrier have it in common.
    is_trusted: bool,
}

/// Where a user by address last spoke from.
#[derive(Clone, Copy, Debug, Default)]
struct Spoken {
    datagram: Option<Flow>,
    /// The connection, open or not.
    stream: Option<Flow>,
    /// That was later.
    is_stream_last: bool,
}

/// Who is who by address alone.
#[derive(Clone, Debug)]
pub struct Peers {
    by_address: HashMap<IpAddr, Vec<Entry>, RandomState>,
    /// The blocks of users, who all are trusted, whatever port they speak from.
    blocks: Blocks<UserId>,
    /// The sources that those addresses lie in.
    sources: HashSet<Source, RandomState>,
    /// Where each line's server and proxy are, as far as that is known: beside the addresses that it has in the file.
    line_hosts: Vec<Vec<PeerAddress>>,
    /// Where users by address last spoke from.
    spoken: HashMap<UserId, Spoken, RandomState>,
    hasher: RandomState,
}

impl Peers {
    /// The table of a configuration.
    pub fn new(config: &Config, hasher: RandomState) -> Self {
        let mut peers = Self {
            by_address: HashMap::with_hasher(hasher.clone()),
            blocks: Blocks::new(),
            sources: HashSet::with_hasher(hasher.clone()),
            line_hosts: vec![Vec::new(); config.lines.len()],
            spoken: HashMap::with_hasher(hasher.clone()),
            hasher,
        };
        peers.fill(config);
        peers
    }

    /// A new configuration in place of `old`; `user` finds a user's place in it.
    pub fn reload(&mut self, old: &Config, config: &Config, user: impl Fn(&str) -> Option<UserId>) {
        let mut peers = Self::new(config, self.hasher.clone());
        for (id, spoken) in &self.spoken {
            let name = old.users.get(id.0 as usize).map(|user| user.name.as_str());
            let Some(id) = name.and_then(&user) else {
                continue;
            };
            let flows = match spoken.is_stream_last {
                true => [spoken.datagram, spoken.stream],
                false => [spoken.stream, spoken.datagram],
            };
            for flow in flows.iter().flatten() {
                // An address that the file no longer gives him is perhaps another's by now.
                if peers.is_user(flow, id) {
                    peers.spoke(id, flow);
                }
            }
        }
        *self = peers;
    }

    /// These are the addresses of the server and proxy of each line now. `true`: they are others than before.
    pub fn set_line_hosts(&mut self, config: &Config, hosts: Vec<Vec<PeerAddress>>) -> bool {
        let is_other = self.line_hosts != hosts;
        if is_other {
            self.line_hosts = hosts;
            self.by_address.clear();
            self.blocks = Blocks::new();
            self.sources.clear();
            self.fill(config);
        }
        is_other
    }

    /// The addresses that a line has beside those in the file.
    pub fn line_hosts(&self) -> impl Iterator<Item = (LineId, PeerAddress)> {
        let lines = self.line_hosts.iter().zip(0..);
        lines.flat_map(|(hosts, line)| hosts.iter().map(move |host| (LineId(line), *host)))
    }

    /// Who a flow's peer is, if its address says so.
    ///
    /// Of a line that is: whose carrier it is. Whether a request is the line's, [`Peers::lines`] helps to find out.
    /// Of users who share an address: one of them. Which of them a request is from, [`Peers::users`] helps to find out.
    pub fn lookup(&self, flow: &Flow) -> Option<Who> {
        // Where a carrier is by its name's word only, a user's own address or block says more.
        let mut others = None;
        for entry in self.at(flow) {
            if entry.is_trusted {
                return Some(entry.who);
            }
            others.get_or_insert(entry.who);
        }
        let user = self.blocks.at(flow.remote.ip()).first();
        user.map(|user| Who::User(*user)).or(others)
    }

    /// The users that have this address, some perhaps twice.
    pub fn users(&self, flow: &Flow) -> impl Iterator<Item = UserId> {
        let exact = self.at(flow).filter_map(|entry| match entry.who {
            Who::User(user) => Some(user),
            Who::Trunk(_) | Who::Line(_) => None,
        });
        exact.chain(self.blocks.at(flow.remote.ip()).iter().copied())
    }

    /// Whether this user has this address, alone or with others.
    pub fn is_user(&self, flow: &Flow, user: UserId) -> bool {
        self.users(flow).any(|own| own == user)
    }

    /// The same of a user or trunk, whose address is enough.
    pub fn lookup_alone(&self, flow: &Flow) -> Option<Who> {
        self.lookup(flow)
            .filter(|who| matches!(who, Who::User(_) | Who::Trunk(_)))
    }

    /// Whether a datagram's address alone says that this is the user: anybody may have forged it.
    pub fn may_be_forged(&self, flow: &Flow, user: UserId) -> bool {
        flow.transport == Transport::Udp && self.is_user(flow, user)
    }

    /// The lines that have this address, and whether they trust it as a trunk's is trusted. Those that do come first.
    pub fn lines(&self, flow: &Flow) -> impl Iterator<Item = (LineId, bool)> {
        self.at(flow).filter_map(|entry| match entry.who {
            Who::Line(line) => Some((line, entry.is_trusted)),
            Who::User(_) | Who::Trunk(_) => None,
        })
    }

    /// All addresses of the trunk or line that a flow's peer is.
    pub fn addresses(&self, config: &Config, flow: &Flow) -> Vec<IpAddr> {
        let mut all = Vec::new();
        if let Some(Who::Trunk(trunk)) = self.lookup(flow)
            && let Some(trunk) = config.trunks.get(trunk.0 as usize)
        {
            all.extend(
                trunk
                    .addresses
                    .iter()
                    .map(|peer| peer.address.to_canonical()),
            );
        }
        for (line, _) in self.lines(flow) {
            let hosts = self.line_hosts.get(line.0 as usize);
            let line = config.lines.get(line.0 as usize);
            let addresses = line.into_iter().flat_map(|line| &line.addresses);
            let addresses = hosts.into_iter().flatten().chain(addresses);
            all.extend(addresses.map(|peer| peer.address.to_canonical()));
        }
        all
    }

    /// Whether a flow's peer is that of a line: its server or proxy, or one of its addresses in the file.
    pub fn is_line(&self, flow: &Flow, line: LineId) -> bool {
        self.lines(flow).any(|(own, _)| own == line)
    }

    /// The same, whichever port and transport it speaks from. That is enough for what else says who it is, since a carrier
    /// may call from another port than the one that answers, and large requests come over TCP (RFC 3261 §18.1.1).
    pub fn is_lines_machine(&self, address: IpAddr, line: LineId) -> bool {
        let entries = self.by_address.get(&address).into_iter().flatten();
        entries.into_iter().any(|own| own.who == Who::Line(line))
    }

    fn at(&self, flow: &Flow) -> impl Iterator<Item = &Entry> {
        let (transport, port) = (flow.transport, flow.remote.port());
        let port_counts = transport == Transport::Udp;
        let entries = self.by_address.get(&flow.remote.ip());
        entries.into_iter().flatten().filter(move |entry| {
            entry.transport.is_none_or(|own| own == transport)
                && (!port_counts || entry.port.is_none_or(|own| own == port))
        })
    }

    /// Whether nobody may register this address and port as his phone, because it is a trunk's: whoever called him
    /// would call out through the trunk. A trunk's machine is the trunk on every port, since a carrier listens on several.
    /// Only a phone that itself speaks from that address (`registrant`), which it has proved by answering a challenge
    /// there, may name a port that is not the trunk's: it runs on that machine, or behind the same NAT.
    pub fn is_trunk(&self, address: IpAddr, port: u16, registrant: IpAddr) -> bool {
        self.by_address.get(&address).is_some_and(|entries| {
            entries.iter().any(|entry| {
                matches!(entry.who, Who::Trunk(_) | Who::Line(_))
                    && (address != registrant || entry.port.is_none_or(|own| own == port))
            })
        })
    }

    /// Whether any entry has this address.
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.by_address.contains_key(&address) || !self.blocks.at(address).is_empty()
    }

    /// Whether any entry lies in this source, an IPv6 /64 included: it is never banned.
    pub fn has_source(&self, source: Source) -> bool {
        self.sources.contains(&source) || self.blocks.has_source(source)
    }

    /// Whether any entry lies in this source or in a prefix that is one.
    pub fn any_within(&self, source: Source) -> bool {
        let is_prefix = matches!(source.prefix_bits(), 48 | 56);
        self.has_source(source) || is_prefix && self.sources.iter().any(|own| source.covers(*own))
    }

    /// A user by address has spoken: without a configured port, that is where he is called.
    pub fn spoke(&mut self, user: UserId, flow: &Flow) {
        let spoken = self.spoken.entry(user).or_default();
        spoken.is_stream_last = flow.transport == Transport::Tcp;
        match flow.transport {
            Transport::Udp => spoken.datagram = Some(*flow),
            Transport::Tcp => spoken.stream = Some(*flow),
        }
    }

    /// The connection that a user last spoke on from the address of a UDP flow that is his: known of users by address
    /// only, since behind a NAT an address is not one peer's.
    pub fn stream_beside(&self, user: UserId, flow: &Flow) -> Option<&Flow> {
        let stream = self.spoken.get(&user)?.stream.as_ref()?;
        let is_beside = flow.transport == Transport::Udp
            && stream.remote.ip() == flow.remote.ip()
            && self.is_user(flow, user);
        is_beside.then_some(stream)
    }

    /// Where a user by address last spoke from over UDP.
    pub fn last_flow(&self, user: UserId) -> Option<&Flow> {
        self.spoken.get(&user)?.datagram.as_ref()
    }

    /// The connection, open or not, that a user by address spoke on last, if he has not spoken over UDP since then.
    pub fn last_stream(&self, user: UserId) -> Option<&Flow> {
        let spoken = self.spoken.get(&user)?;
        spoken.stream.as_ref().filter(|_| spoken.is_stream_last)
    }

    fn fill(&mut self, config: &Config) {
        for (user, id) in config.users.iter().zip(0..) {
            self.add(Who::User(UserId(id)), None, &user.addresses, true);
            for block in &user.blocks {
                self.blocks.add(*block, UserId(id));
            }
        }
        for (trunk, id) in config.trunks.iter().zip(0..) {
            let (who, transport) = (Who::Trunk(TrunkId(id)), Some(trunk.transport));
            self.add(who, transport, &trunk.addresses, true);
        }
        for (line, id) in config.lines.iter().zip(0..) {
            let (who, transport) = (Who::Line(LineId(id)), Some(line.transport));
            self.add(who, transport, &line.addresses, true);
            let hosts = self.line_hosts.get(id as usize).cloned();
            let hosts = hosts.unwrap_or_default();
            // Where nothing is registered the carrier is configured to call us.
            self.add(who, transport, &hosts, !line.register);
        }
    }

    fn add(
        &mut self,
        who: Who,
        transport: Option<Transport>,
        addresses: &[PeerAddress],
        is_trusted: bool,
    ) {
        for peer in addresses {
            self.sources.insert(Source::of(peer.address));
            let entries = self
                .by_address
                .entry(peer.address.to_canonical())
                .or_default();
            entries.push(Entry {
                port: peer.port,
                transport,
                who,
                is_trusted,
            });
            // An entry with a port says more than one without.
            entries.sort_by_key(|entry| (!entry.is_trusted, entry.port.is_none()));
        }
    }
}

/// Where a configured peer is called.
pub fn socket_address(peer: &crate::config::PeerAddress) -> SocketAddr {
    SocketAddr::new(peer.address, peer.port.unwrap_or(DEFAULT_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn peers(text: &str) -> Peers {
        let config = Config::read(text, Path::new(".")).expect("a good configuration");
        Peers::new(&config, RandomState::with_seeds(1, 2, 3, 4))
    }

    fn flow(transport: Transport, remote: &str) -> Flow {
        Flow {
            transport,
            local: "127.0.0.1:5060".parse().unwrap(),
            remote: remote.parse().unwrap(),
            connection: None,
        }
    }

    #[test]
    fn address_port_and_transport_decide() {
        let peers = peers(
            "[user 100]\naddresses = 192.0.2.1, [2001:db8::7]:5062\n\
             [trunk t]\naddresses = 192.0.2.9:5080\n[trunk u]\naddresses = 192.0.2.9:5090\n\
             transport = udp\n",
        );
        let who = |transport, remote| peers.lookup(&flow(transport, remote));
        assert_eq!(
            who(Transport::Udp, "192.0.2.1:9999"),
            Some(Who::User(UserId(0)))
        );
        assert_eq!(
            who(Transport::Tcp, "192.0.2.1:9999"),
            Some(Who::User(UserId(0)))
        );
        assert_eq!(
            who(Transport::Udp, "[2001:db8::7]:5062"),
            Some(Who::User(UserId(0)))
        );
        assert_eq!(who(Transport::Udp, "[2001:db8::7]:5060"), None);
        assert_eq!(
            who(Transport::Udp, "192.0.2.9:5080"),
            Some(Who::Trunk(TrunkId(0)))
        );
        assert_eq!(
            who(Transport::Udp, "192.0.2.9:5090"),
            Some(Who::Trunk(TrunkId(1)))
        );
        assert_eq!(who(Transport::Udp, "192.0.2.9:5060"), None);
        assert_eq!(who(Transport::Tcp, "192.0.2.9:5080"), None);
        assert_eq!(who(Transport::Udp, "192.0.2.2:5060"), None);
    }

    #[test]
    fn a_block_is_its_users_and_so_is_a_shared_address() {
        let peers = peers(
            "[user 100]\naddresses = 192.0.2.64/28, 192.0.2.1\n[user 101]\naddresses = 192.0.2.1, 2001:db8::/56\n",
        );
        let users = |remote| -> Vec<u32> {
            let flow = flow(Transport::Udp, remote);
            assert_eq!(
                peers.lookup(&flow).is_some(),
                peers.users(&flow).next().is_some()
            );
            peers.users(&flow).map(|user| user.0).collect()
        };
        assert_eq!(users("192.0.2.63:5060"), [0; 0]);
        assert_eq!(users("192.0.2.64:5060"), [0]);
        assert_eq!(users("192.0.2.79:1"), [0]);
        assert_eq!(users("192.0.2.80:1"), [0; 0]);
        assert_eq!(users("192.0.2.1:7000"), [0, 1]);
        assert_eq!(users("[2001:db8:0:fe::1]:1"), [1]);
        assert!(peers.is_user(&flow(Transport::Tcp, "192.0.2.1:7"), UserId(1)));
        assert!(!peers.is_user(&flow(Transport::Udp, "192.0.2.70:7"), UserId(1)));
        let source = |text: &str| text.parse::<Source>().unwrap();
        assert!(peers.has_source(source("192.0.2.70")), "never banned");
        assert!(peers.has_source(source("2001:db8:0:a::/64")));
        assert!(!peers.has_source(source("2001:db8:0:100::/64")));
        assert!(peers.any_within(source("2001:db8::/48")));
        assert!(!peers.any_within(source("2001:db8:0:100::/56")));
        assert!(peers.has_address("192.0.2.64".parse().unwrap()));
    }

    #[test]
    fn a_lines_carrier_is_not_the_line() {
        let text = "[line a]\naccount = 1\nserver = a.example\naddresses = 192.0.2.9:5070\n\
             [line b]\naccount = 2\nserver = a.example\n\
             [line c]\naccount = 3\nserver = c.example:5090\nregister = no\ntransport = tcp\n\
             [trunk t]\naddresses = 192.0.2.8:5060\n";
        let config = Config::read(text, Path::new(".")).expect("a good configuration");
        let mut peers = Peers::new(&config, RandomState::with_seeds(1, 2, 3, 4));
        let lines = |peers: &Peers, transport, remote| {
            let lines: Vec<_> = peers.lines(&flow(transport, remote)).collect();
            lines
                .iter()
                .map(|(line, own)| (line.0, *own))
                .collect::<Vec<_>>()
        };
        assert!(lines(&peers, Transport::Udp, "192.0.2.8:5060").is_empty());
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let host = |text, port| PeerAddress {
            address: at(text),
            port,
        };
        let hosts = vec![
            vec![host("192.0.2.8", None)],
            vec![host("192.0.2.8", None)],
            vec![host("192.0.2.8", Some(5090))],
        ];
        assert!(peers.set_line_hosts(&config, hosts.clone()));
        assert!(!peers.set_line_hosts(&config, hosts));
        // Without a port in the file any port; over TCP the port says nothing.
        assert_eq!(
            lines(&peers, Transport::Udp, "192.0.2.8:7000"),
            [(0, false), (1, false)]
        );
        assert_eq!(lines(&peers, Transport::Tcp, "192.0.2.8:7000"), [(2, true)]);
        assert_eq!(lines(&peers, Transport::Udp, "192.0.2.9:5070"), [(0, true)]);
        assert!(lines(&peers, Transport::Udp, "192.0.2.9:5060").is_empty());
        // The trunk there says more.
        let trunk = flow(Transport::Udp, "192.0.2.8:5060");
        assert_eq!(peers.lookup(&trunk), Some(Who::Trunk(TrunkId(0))));
        assert_eq!(
            peers.lookup_alone(&flow(Transport::Udp, "192.0.2.8:1")),
            None
        );
        let all = peers.addresses(&config, &flow(Transport::Udp, "192.0.2.9:5070"));
        assert_eq!(all, [at("192.0.2.8"), at("192.0.2.9")]);
        assert!(peers.is_trunk(at("192.0.2.8"), 5080, at("192.0.2.77")));
        assert!(peers.has_source("192.0.2.8".parse().unwrap()));
        let machine = at("192.0.2.9");
        assert!(peers.is_lines_machine(machine, LineId(0)), "any port");
        assert!(!peers.is_lines_machine(machine, LineId(1)));
        let moved = vec![vec![host("192.0.2.7", None)], Vec::new(), Vec::new()];
        assert!(peers.set_line_hosts(&config, moved));
        assert!(!peers.is_line(&flow(Transport::Udp, "192.0.2.8:7000"), LineId(0)));
        assert!(peers.is_line(&flow(Transport::Udp, "192.0.2.7:5060"), LineId(0)));
        assert!(!peers.has_source("203.0.113.1".parse().unwrap()));
    }

    #[test]
    fn a_trunks_machine_is_nobodys_phone() {
        let peers = peers(
            "[user 100]\naddresses = 192.0.2.1\n[trunk t]\naddresses = 192.0.2.9:5080, 192.0.2.10\n",
        );
        let is_trunk = |address: &str, port, registrant: &str| {
            peers.is_trunk(address.parse().unwrap(), port, registrant.parse().unwrap())
        };
        assert!(!is_trunk("192.0.2.1", 5060, "192.0.2.77"), "a user's");
        assert!(is_trunk("192.0.2.9", 5080, "192.0.2.77"));
        assert!(is_trunk("192.0.2.9", 5060, "192.0.2.77"), "another port");
        assert!(!is_trunk("192.0.2.9", 5060, "192.0.2.9"), "a phone there");
        assert!(is_trunk("192.0.2.9", 5080, "192.0.2.9"), "not on its port");
        assert!(is_trunk("192.0.2.10", 7000, "192.0.2.10"), "any port of it");
    }

    #[test]
    fn a_user_without_a_port_is_called_where_he_spoke_from() {
        let mut peers = peers("[user 100]\naddresses = 192.0.2.1\n");
        assert!(peers.last_flow(UserId(0)).is_none());
        let spoken = flow(Transport::Udp, "192.0.2.1:7000");
        peers.spoke(UserId(0), &spoken);
        assert_eq!(peers.last_flow(UserId(0)), Some(&spoken));
    }

    #[test]
    fn a_user_is_called_over_the_connection_that_he_spoke_on_last() {
        let read = |text: &str| Config::read(text, Path::new(".")).expect("a good configuration");
        let config = read("[user 100]\naddresses = 192.0.2.1\n");
        let mut peers = Peers::new(&config, RandomState::with_seeds(1, 2, 3, 4));
        let stream = flow(Transport::Tcp, "192.0.2.1:7000");
        let datagram = flow(Transport::Udp, "192.0.2.1:5060");
        for (last, found) in [
            (&stream, Some(&stream)),
            (&datagram, None),
            (&stream, Some(&stream)),
            (&datagram, None),
        ] {
            peers.spoke(UserId(0), last);
            assert_eq!(peers.last_stream(UserId(0)), found);
            peers.reload(&config, &config, |_| Some(UserId(0)));
            assert_eq!(peers.last_stream(UserId(0)), found, "after a reload");
        }
        assert_eq!(peers.last_flow(UserId(0)), Some(&datagram));
    }

    #[test]
    fn a_connection_is_beside_a_flow_of_the_same_address_only() {
        let mut peers = peers(
            "[user 100]\naddresses = 192.0.2.1, 192.0.2.2\n[trunk t]\naddresses = 192.0.2.9\n",
        );
        let stream = flow(Transport::Tcp, "192.0.2.1:7000");
        peers.spoke(UserId(0), &stream);
        assert!(
            peers.last_flow(UserId(0)).is_none(),
            "he has not spoken over UDP"
        );
        for (transport, remote, found) in [
            (Transport::Udp, "192.0.2.1:5060", Some(&stream)),
            (Transport::Udp, "192.0.2.2:5060", None),
            (Transport::Udp, "192.0.2.9:5060", None),
            (Transport::Udp, "203.0.113.1:5060", None),
            (Transport::Tcp, "192.0.2.1:5060", None),
        ] {
            assert_eq!(
                peers.stream_beside(UserId(0), &flow(transport, remote)),
                found,
                "{remote}"
            );
        }
    }

    #[test]
    fn after_a_reload_a_user_is_called_only_where_he_still_is() {
        let read = |text: &str| Config::read(text, Path::new(".")).expect("a good configuration");
        let old = read("[user 100]\naddresses = 192.0.2.1\n[user 101]\naddresses = 192.0.2.2\n");
        let mut peers = Peers::new(&old, RandomState::with_seeds(1, 2, 3, 4));
        let spoken = flow(Transport::Udp, "192.0.2.1:7000");
        let stays = flow(Transport::Udp, "192.0.2.2:7000");
        peers.spoke(UserId(0), &spoken);
        peers.spoke(UserId(1), &stays);
        let new = read("[user 101]\naddresses = 192.0.2.2\n[user 100]\naddresses = 192.0.2.6\n");
        let place = |name: &str| (new.users.iter().zip(0..)).find(|(user, _)| user.name == name);
        peers.reload(&old, &new, |name| {
            place(name).map(|(_, index)| UserId(index))
        });
        assert_eq!(peers.last_flow(UserId(1)), None, "192.0.2.1 is gone");
        assert_eq!(peers.last_flow(UserId(0)), Some(&stays));
    }
}
