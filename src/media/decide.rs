//! Which calls are relayed if nobody says so (`relay = auto`): those whose sides could not hear each other.
//!
//! - One is behind a NAT: its signalling comes from another address than it says itself, or it describes a private address
//!   while its signalling comes from a public one.
//! - One is within our own networks and the other is not.
//! - They do not have one family of addresses.
//!
//! It is decided with each offer, from what is known by then: the callee of a call has said nothing of his media yet.

use std::net::IpAddr;

use super::{Place, Side};
use crate::config::Prefix;
use crate::sdp::Stream;

/// Our own networks.
#[derive(Clone, Copy, Debug)]
pub struct Near<'a>(pub &'a [Prefix]);

impl Near<'_> {
    /// Whether an address can be reached from within only.
    pub fn contains(&self, address: IpAddr) -> bool {
        is_private(address) || self.0.iter().any(|network| network.contains(address))
    }
}

/// RFC 1918, RFC 6598, RFC 4193, link-local, loopback.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || is_shared
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// Whether this side cannot be where it says that its media is to go.
pub(super) fn is_hidden(near: &Near<'_>, place: &Place, said: IpAddr) -> bool {
    said != place.host
        && near.contains(said)
        && (place.is_behind_nat || !near.contains(place.host) || said.is_loopback())
}

/// Whether a phone at this place shows by what it describes that it is behind a NAT: a private address that is not the one
/// its signalling comes from, which comes from outside, or from a network of ours that the private one is not in.
pub(super) fn shows_nat(near: &Near<'_>, place: &Place, said: IpAddr) -> bool {
    let is_listed = |address| near.0.iter().any(|network| network.contains(address));
    let is_elsewhere = !near.contains(place.host) || is_listed(place.host) && !is_listed(said);
    said != place.host && is_private(said) && !said.is_loopback() && is_elsewhere
}

pub(super) fn is_needed(
    near: &Near<'_>,
    places: &[Place; 2],
    offer: &[Stream],
    from: Side,
) -> bool {
    let [caller, callee] = places;
    if caller.is_behind_nat || callee.is_behind_nat {
        return true;
    }
    if near.contains(caller.host) != near.contains(callee.host) {
        return true;
    }
    if caller.host.is_ipv4() != callee.host.is_ipv4() {
        return true;
    }
    let (own, other) = match from {
        Side::Caller => (caller, callee),
        Side::Callee => (callee, caller),
    };
    let said = (offer.iter().filter(|stream| stream.is_relayable()))
        .filter_map(|stream| stream.address)
        .filter(|address| !address.is_unspecified());
    let mut said = said.into_iter();
    said.any(|said| is_hidden(near, own, said) || said.is_ipv4() != other.host.is_ipv4())
}
