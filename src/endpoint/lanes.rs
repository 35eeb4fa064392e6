//! Whose packets are to be received apart from those of strangers: trunks, lines and users by address, and the phones that are
//! registered, each where its registration came from (RFC 5626 §3: address and port).
//!
//! Who has a place when there are too few: trunks and lines always, then users by address, then phones, the one that registered or
//! refreshed last first. A banned phone has none. The others are received among strangers, known sources all the same.
//!
//! Not here: how a shell receives them apart. To the endpoint a packet is the same whichever way it came.

use std::collections::HashSet;

use super::*;
use crate::config::{PeerAddress, Prefix};
use crate::source::{Lane, Place};

/// Bindings looked at for each place: several accounts of one phone share a flow.
const BINDINGS_PER_PLACE: usize = 8;

impl Endpoint {
    /// Another number than before whenever [`Endpoint::lane_places`] may have changed, but for the order of activity.
    /// O(1).
    pub fn lane_changes(&self) -> u64 {
        self.lane_changes.wrapping_add(self.location.flow_changes())
    }

    /// Who has a place in a lane, each once, in the order of who is to have one rather than others; at most `places_max`.
    pub fn lane_places(&self, now: Now, places_max: usize) -> Vec<Place> {
        let mut places = Vec::new();
        let mut seen = HashSet::with_hasher(self.tag_hasher.clone());
        let trunks = (self.config.trunks.iter())
            .filter(|trunk| trunk.transport == Transport::Udp)
            .flat_map(|trunk| &trunk.addresses);
        let lines = (self.config.lines.iter()).filter(|line| line.transport == Transport::Udp);
        let is_udp = |line| {
            let line = self.line(line);
            line.is_some_and(|line| line.transport == Transport::Udp)
        };
        let hosts = self.peers.line_hosts().filter(|(line, _)| is_udp(*line));
        let hosts: Vec<PeerAddress> = hosts.map(|(_, host)| host).collect();
        let lines = lines.flat_map(|line| &line.addresses).chain(&hosts);
        let users = self.config.users.iter().flat_map(|user| &user.addresses);
        let peers = trunks.chain(lines).chain(users);
        let peers = peers.map(|peer| (Prefix::of(peer.address), peer.port));
        let blocks = self.config.users.iter().flat_map(|user| &user.blocks);
        let peers = (peers.chain(blocks.map(|block| (*block, None)))).map(|(block, port)| Place {
            address: block.address,
            bits: block.bits,
            port,
            lane: Lane::Peers,
        });
        let phones = (self.location.recent())
            .take(places_max.saturating_mul(BINDINGS_PER_PLACE))
            .map(|binding| binding.flow())
            .filter(|flow| flow.transport == Transport::Udp)
            // By its address it is in the other lane already.
            .filter(|flow| self.peers.lookup(flow).is_none())
            .filter(|flow| !self.guard.is_banned(now, flow.source()))
            .map(|flow| Place {
                address: flow.remote.ip(),
                bits: Prefix::of(flow.remote.ip()).bits,
                port: Some(flow.remote.port()),
                lane: Lane::Phones,
            });
        for place in peers.chain(phones) {
            if places.len() == places_max {
                break;
            }
            if seen.insert((place.address, place.bits, place.port)) {
                places.push(place);
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::api::{Answer, Command};
    use crate::store::BindingRow;
    use crate::time::UnixTime;

    const TEXT: &str = "[user 100]\npassword = kx7-mmq2-9\n[user 101]\naddresses = 192.0.2.1\n\
        [trunk a]\naddresses = 198.51.100.4:5060, 198.51.100.5\n\
        [trunk b]\naddresses = 198.51.100.6\ntransport = tcp\n";

    fn config(text: &str) -> Config {
        Config::read(text, Path::new(".")).expect("a good configuration")
    }

    fn now() -> Now {
        Now {
            mono: Instant::from_micros(5_000_000),
            unix: UnixTime::from_millis(1_750_000_000_000),
        }
    }

    /// Registered from `remote`; who expires later was refreshed later.
    fn row(remote: &str, expires_s: u64) -> BindingRow {
        let remote: SocketAddr = remote.parse().unwrap();
        let local = "192.0.2.50:5060".parse().unwrap();
        BindingRow {
            call_id: remote.to_string().into_bytes().into(),
            since: now().unix,
            expires: now().unix.plus(Duration::from_secs(expires_s)),
            ..BindingRow::plain(&format!("sip:100@{remote}"), local, remote)
        }
    }

    fn endpoint(text: &str, bindings: Vec<BindingRow>) -> Endpoint {
        let kept = Snapshot {
            bindings,
            ..Snapshot::default()
        };
        Endpoint::new(now(), config(text), [7; 32], kept)
    }

    fn shown(endpoint: &Endpoint, places_max: usize) -> Vec<String> {
        let places = endpoint.lane_places(now(), places_max);
        (places.iter())
            .map(|place| match (place.lane, place.port) {
                (lane, Some(port)) => format!("{lane:?} {}", SocketAddr::new(place.address, port)),
                (lane, None) => format!("{lane:?} {}", place.address),
            })
            .collect()
    }

    #[test]
    fn trunks_then_users_by_address_then_phones_by_activity() {
        let rows = vec![
            row("203.0.113.7:5062", 60),
            row("203.0.113.8:5060", 300),
            row("[2001:db8::7]:5060", 120),
            // By its address it has a place already.
            row("192.0.2.1:7000", 400),
            row("198.51.100.4:5061", 20),
        ];
        let endpoint = endpoint(TEXT, rows);
        let expected = [
            "Peers 198.51.100.4:5060",
            "Peers 198.51.100.5",
            "Peers 192.0.2.1",
            "Phones 203.0.113.8:5060",
            "Phones [2001:db8::7]:5060",
            "Phones 203.0.113.7:5062",
            "Phones 198.51.100.4:5061",
        ];
        assert_eq!(shown(&endpoint, 100), expected);
        for places_max in 0..expected.len() {
            assert_eq!(shown(&endpoint, places_max), expected[..places_max]);
        }
    }

    #[test]
    fn a_block_is_one_place_and_so_are_the_phones_in_it() {
        let text = "[user 100]\npassword = kx7-mmq2-9\n[user 101]\naddresses = 203.0.113.0/28\n\
             [user 102]\naddresses = 203.0.113.0/28\n";
        let rows = vec![row("203.0.113.7:5062", 60), row("203.0.113.16:5062", 60)];
        let endpoint = endpoint(text, rows);
        assert_eq!(
            shown(&endpoint, 100),
            ["Peers 203.0.113.0", "Phones 203.0.113.16:5062"]
        );
        assert_eq!(endpoint.lane_places(now(), 1)[0].bits, 28);
    }

    #[test]
    fn lines_are_peers_where_they_are_called() {
        let text = "[user 100]\npassword = kx7-mmq2-9\n\
             [line a]\naccount = 1\nserver = 198.51.100.7\naddresses = 198.51.100.8:5070\n\
             [line b]\naccount = 2\nserver = b.example\noutbound_proxy = 198.51.100.9:5080\n\
             [line c]\naccount = 3\nserver = 198.51.100.10\ntransport = tcp\n";
        let expected = [
            "Peers 198.51.100.8:5070",
            "Peers 198.51.100.7",
            "Peers 198.51.100.9:5080",
        ];
        assert_eq!(shown(&endpoint(text, Vec::new()), 100), expected);
    }

    #[test]
    fn phones_on_one_flow_are_one_place() {
        let mut other = row("203.0.113.7:5062", 70);
        other.contact = b"sip:other@203.0.113.7".to_vec().into();
        let endpoint = endpoint(TEXT, vec![row("203.0.113.7:5062", 60), other]);
        assert_eq!(endpoint.location.count(), 2);
        assert_eq!(shown(&endpoint, 100)[3..], ["Phones 203.0.113.7:5062"]);
    }

    #[test]
    fn a_banned_phone_loses_its_place_until_the_end_of_the_ban() {
        let mut endpoint = endpoint(TEXT, vec![row("203.0.113.7:5062", 60)]);
        let source: Source = "203.0.113.7".parse().unwrap();
        let before = endpoint.lane_changes();
        let ban = Command::Ban {
            source,
            duration: None,
        };
        assert!(matches!(endpoint.command(now(), ban), Answer::Banned(_)));
        assert_ne!(endpoint.lane_changes(), before);
        assert_eq!(shown(&endpoint, 100).len(), 3);
        let before = endpoint.lane_changes();
        endpoint.command(now(), Command::Unban { source });
        assert_ne!(endpoint.lane_changes(), before);
        assert_eq!(shown(&endpoint, 100)[3..], ["Phones 203.0.113.7:5062"]);
    }

    #[test]
    fn reloads_and_ends_of_registrations_are_noticed() {
        let mut endpoint = endpoint(TEXT, vec![row("203.0.113.7:5062", 60)]);
        let before = endpoint.lane_changes();
        let fewer = "[user 100]\npassword = kx7-mmq2-9\n[trunk c]\naddresses = 198.51.100.9\n";
        endpoint.reload(now(), config(fewer));
        assert_ne!(endpoint.lane_changes(), before);
        let expected = ["Peers 198.51.100.9", "Phones 203.0.113.7:5062"];
        assert_eq!(shown(&endpoint, 100), expected);
        let before = endpoint.lane_changes();
        let later = Now {
            mono: now().mono.plus(Duration::from_secs(62)),
            ..now()
        };
        endpoint.handle_input(later, Input::Tick);
        assert_ne!(endpoint.lane_changes(), before);
        assert_eq!(shown(&endpoint, 100), expected[..1]);
    }
}
