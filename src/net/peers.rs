//! Which of our addresses the kernel would use towards each configured peer: asked with a socket that sends nothing.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::config::Config;

/// Peers asked about in one turn of [`Routes::refresh`], three system calls each.
const BATCH: usize = 64;

/// The configured peers with the local address towards each.
#[derive(Default)]
pub(super) struct Routes {
    peers: Vec<IpAddr>,
    known: HashMap<IpAddr, IpAddr>,
    next: usize,
}

impl Routes {
    /// All peers of a configuration that can be asked about; what is known of them is asked again.
    pub(super) fn new(config: &Config) -> Self {
        let users = config.users.iter().flat_map(|user| &user.addresses);
        let trunks = config.trunks.iter().flat_map(|trunk| &trunk.addresses);
        let lines = config.lines.iter().flat_map(|line| &line.addresses);
        let hosts = (config.lines.iter()).filter_map(|line| line.next_host().address());
        let peers = users.chain(trunks).chain(lines).map(|peer| peer.address);
        let peers: BTreeSet<IpAddr> = peers.chain(hosts).collect();
        Self {
            peers: peers.into_iter().collect(),
            known: HashMap::new(),
            next: 0,
        }
    }

    /// How many peers there are.
    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    /// Asks about the next few peers: (peer, our address) where that is news. Networks come and go while we run.
    pub(super) fn refresh(&mut self) -> Vec<(IpAddr, IpAddr)> {
        let mut news = Vec::new();
        for _ in 0..self.peers.len().min(BATCH) {
            let peer = self.peers[self.next % self.peers.len()];
            self.next = (self.next + 1) % self.peers.len();
            // No route to it: nothing to tell, and asked again in its turn.
            if let Some(local) = local_address(peer)
                && self.known.insert(peer, local) != Some(local)
            {
                news.push((peer, local));
            }
        }
        news
    }
}

/// Our address towards `remote`; `None` without a route.
pub(super) fn local_address(remote: IpAddr) -> Option<IpAddr> {
    let any = match remote {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(remote, 5060)).ok()?;
    let local = socket.local_addr().ok()?.ip().to_canonical();
    (!local.is_unspecified()).then_some(local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_from_loopback_and_told_once() {
        let text = "[trunk a]\naddresses = 127.0.0.9\n[user 100]\naddresses = [::1]:5070\n";
        let config = Config::read(text, std::path::Path::new("")).unwrap();
        let mut routes = Routes::new(&config);
        assert_eq!(routes.len(), 2);
        let news = routes.refresh();
        let local = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(news[0], (IpAddr::from([127, 0, 0, 9]), local));
        assert_eq!(
            news[1],
            (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into())
        );
        assert_eq!(routes.refresh(), []);
    }
}
