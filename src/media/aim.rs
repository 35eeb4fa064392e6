//! What may be sent where. A user's session description makes us send what he likes to where he likes, from an address
//! that others trust: so what passes is media and nothing else, and no port is aimed at where other protocols are at home.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use super::Place;
use super::decide::{Near, is_hidden};
use super::ports::Ports;

/// Ports of SIP: whoever takes our word for a call's is not to hear a user's.
const SIP: std::ops::RangeInclusive<u16> = 5060..=5061;
/// The first port that anybody may have (RFC 6335 §6): below are servers.
const FIRST: u16 = 1024;

/// What is known of addresses.
#[derive(Clone, Copy)]
pub(super) struct Aims<'a> {
    pub near: Near<'a>,
    /// Ours: those that we listen at, relay at or show.
    pub own: &'a [IpAddr],
    /// Ports that we listen on.
    pub listens: &'a [u16],
    pub ports: &'a Ports,
}

impl Aims<'_> {
    /// Where a side is sent to that says it is there; `None`: nowhere. At an address of ours there are our own media ports (a
    /// carrier has sent a call back to us), reached without any NAT between, and programs whose signalling comes from there.
    pub fn at(&self, place: &Place, said: SocketAddr) -> Option<SocketAddr> {
        // Where it cannot be reached where it says, its NAT may have kept the port.
        let host = match is_hidden(&self.near, place, said.ip()) {
            true => place.host,
            false => said.ip(),
        };
        let is_own = self.own.contains(&host);
        let is_neighbour = host == place.host && !self.listens.contains(&said.port());
        let host = match is_own {
            true if is_neighbour => host,
            true if self.ports.is_in_range(said.port()) => place.local,
            true => return None,
            false => host,
        };
        let is_right = is_port(said.port())
            && !host.is_unspecified()
            && (!host.is_loopback() || place.host.is_loopback() || is_own)
            && host.is_ipv4() == place.local.is_ipv4();
        is_right.then(|| with_scope(host, said.port(), place.scope))
    }
}

/// Whether media may be at this port.
pub(super) fn is_port(port: u16) -> bool {
    port >= FIRST && !SIP.contains(&port)
}

/// Whether a stream that carries RTP passes this (RFC 7983 §7): STUN, ZRTP, DTLS, RTP and RTCP.
pub(super) fn is_of_rtp(packet: &[u8]) -> bool {
    matches!(packet.first(), Some(0..=3 | 16..=63 | 128..=191))
}

/// Whether this could be read as SIP, whose version stands in each message's first line (RFC 3261 §7.1), in any case.
pub(super) fn is_sip(packet: &[u8]) -> bool {
    memchr::memmem::find_iter(packet, b"/2.0").any(|at| {
        let before = packet.get(..at).and_then(|before| before.last_chunk::<3>());
        before.is_some_and(|name| name.eq_ignore_ascii_case(b"SIP"))
    })
}

/// A link-local address is of use only on its link (RFC 4007 §6).
pub(super) fn with_scope(host: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match host {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            SocketAddrV6::new(v6, port, 0, scope).into()
        }
        _ => SocketAddr::new(host, port),
    }
}

/// A packet's source as descriptions write it.
pub(super) fn canonical(from: SocketAddr) -> SocketAddr {
    let scope = match from {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(v6) => v6.scope_id(),
    };
    with_scope(from.ip().to_canonical(), from.port(), scope)
}
