//! `[server] public_address`: the address behind a NAT that peers outside of our own networks are shown in Via and Contact,
//! as the file says or as the lines' peers see it (`received`, `rport`: RFC 3581 §4). Relayed session descriptions say the same address.

use super::*;
use crate::config::PublicAddress;
use crate::message::Message;

/// Our address as it is seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    address: IpAddr,
    /// The port that stands for this UDP address of ours. Of a connection no other peer can use it.
    port: Option<(SocketAddr, u16)>,
    /// Who says so. Behind some NATs every peer sees another port: what one says is not weighed against another's word.
    by: IpAddr,
}

impl Endpoint {
    /// What peers on this flow are shown in place of an address of ours with this port; `None`: that itself.
    pub(super) fn public_address(&self, flow: &Flow, port: u16) -> Option<SocketAddr> {
        let server = &self.config.server;
        let public = match server.public_address? {
            PublicAddress::Address(address) => SocketAddr::new(address, port),
            PublicAddress::Auto => {
                let seen = self.seen_from_outside?;
                let own = seen
                    .port
                    .filter(|(local, _)| flow.transport == Transport::Udp && *local == flow.local);
                SocketAddr::new(seen.address, own.map_or(port, |(_, port)| port))
            }
        };
        let is_near = |network: &crate::config::Prefix| network.contains(flow.remote.ip());
        (public.is_ipv4() == flow.local.is_ipv4() && !server.local_networks.iter().any(is_near))
            .then_some(public)
    }

    /// A response to a request of ours, `ours` in its Via: the peer of a line says where it came from. What was registered
    /// with another address is registered anew.
    pub(super) fn sees_us(
        &mut self,
        now: Now,
        user: TransactionUser,
        flow: &Flow,
        ours: SocketAddr,
        response: &Message<'_>,
    ) {
        let server = &self.config.server;
        if server.public_address != Some(PublicAddress::Auto)
            || (server.local_networks.iter()).any(|near| near.contains(flow.remote.ip()))
        {
            return;
        }
        let is_lines = match user {
            TransactionUser::Line(_) => self.peers.lines(flow).next().is_some(),
            TransactionUser::Call(owner) => self.is_from_line(owner, flow),
            _ => false,
        };
        let Some(learned) = crate::line::learned(response, ours).filter(|_| is_lines) else {
            return;
        };
        let is_udp = flow.transport == Transport::Udp;
        let seen = Seen {
            address: learned.ip(),
            by: flow.remote.ip(),
            port: match is_udp {
                true => Some((flow.local, learned.port())),
                // What UDP has shown still holds.
                false => self.seen_from_outside.and_then(|seen| seen.port),
            },
        };
        let before = self.seen_from_outside;
        let is_others = |before: Seen| before.by != seen.by && self.peers.has_address(before.by);
        if before == Some(seen) || before.is_some_and(is_others) {
            return;
        }
        self.seen_from_outside = Some(seen);
        let fields = vec![("address", learned.to_string())];
        self.event(log::Level::Info, "public_address", fields);
        let lines = (0..self.config.lines.len() as u32).map(LineId);
        for line in lines {
            if before.is_some() || self.lines.is_registered(line) {
                self.lines.register_soon(now.mono, line);
            }
        }
    }
}
