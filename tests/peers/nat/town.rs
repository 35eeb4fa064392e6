//! A public street with the server, homes behind their own NATs, all with the same private addresses, and houses without
//! a NAT.
//!
//! ```text
//!   server 203.0.113.1 ──┬── .11 router ── 192.168.1.1 ── 192.168.1.10, .11 …   home A: masquerade
//!                        ├── .12 router ── 192.168.1.1 ── 192.168.1.10, .11 …   home B: masquerade random
//!                        └── .30, .31 …                                         without a NAT
//! ```

use std::net::Ipv4Addr;

use super::super::harness::{Network, Server, wait};
use super::space::Space;

/// The public street.
const STREET: [u8; 3] = [203, 0, 113];

/// How a home's router chooses ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// It keeps the port of its phone where it is free.
    Keeps,
    /// It takes any.
    Random,
}

/// See the module.
pub struct Town {
    street: Space,
}

/// A router and who is behind it.
pub struct Home {
    router: Space,
    inside: Ipv4Addr,
}

/// Where a phone stands.
pub struct Place {
    space: Space,
    pub address: Ipv4Addr,
}

impl Town {
    pub fn new() -> Self {
        Self::at(Self::network().server())
    }

    /// One whose server is somewhere else than in the street, which has this address.
    pub fn at(address: Ipv4Addr) -> Self {
        let street = Space::new();
        street.ip(&format!(
            "link add street type bridge\naddr add {address}/24 dev street\nlink set street up\n"
        ));
        Self { street }
    }

    pub fn network() -> Network {
        Network::of(STREET)
    }

    /// Everything that the server does or is asked happens in the street.
    pub fn enter<T: Send>(&self, something: impl FnOnce() -> T + Send) -> T {
        self.street.enter(something)
    }

    /// A place without a NAT.
    pub fn house(&self, last: u8) -> Place {
        let space = Space::new();
        let address = Self::network().host(last);
        attach(&self.street, "street", &space, (last, address));
        let server = Self::network().server();
        space.ip(&format!("route add default via {server}"));
        Place { space, address }
    }

    /// A home whose router has this address outside, and 192.168.1.1 inside.
    pub fn home(&self, last: u8, nat: Nat) -> Home {
        self.home_with(last, nat, Network::of([192, 168, 1]).host(1))
    }

    /// The same with another address inside.
    pub fn home_with(&self, last: u8, nat: Nat, inside: Ipv4Addr) -> Home {
        let router = Space::new();
        let address = Self::network().host(last);
        attach(&self.street, "street", &router, (last, address));
        router.ip(&format!(
            "link add home type bridge\naddr add {inside}/24 dev home\nlink set home up\n"
        ));
        let flags = match nat {
            Nat::Keeps => "",
            Nat::Random => "random",
        };
        router.nft(&format!(
            "table ip router {{\n\
             chain out {{ type nat hook postrouting priority srcnat; oifname eth0 masquerade {flags}; }}\n\
             chain through {{ type filter hook forward priority filter; policy drop;\n\
             ct state established,related accept; iifname home accept; }}\n}}\n"
        ));
        router.set("ipv4/ip_forward", "1");
        Home { router, inside }
    }
}

impl Home {
    /// A place in it.
    pub fn room(&self, last: u8) -> Place {
        let space = Space::new();
        let [a, b, c, _] = self.inside.octets();
        let address = Ipv4Addr::new(a, b, c, last);
        attach(&self.router, "home", &space, (last, address));
        space.ip(&format!("route add default via {}", self.inside));
        Place { space, address }
    }

    /// What comes to these ports of its router goes on to one inside: `udp dport 5060`.
    pub fn forwards(&self, ports: &str, to: Ipv4Addr) {
        self.router.nft(&format!(
            "table ip router {{\n\
             chain to {{ type nat hook prerouting priority dstnat; iifname eth0 {ports} dnat to {to}; }}\n\
             chain through {{ ct status dnat accept; }}\n}}\n"
        ));
    }

    /// Its router forgets who sent something and got an answer when nothing has passed for so long.
    pub fn forgets_after(&self, seconds: u32) {
        for name in [
            "nf_conntrack_udp_timeout",
            "nf_conntrack_udp_timeout_stream",
        ] {
            self.router
                .set(&format!("netfilter/{name}"), &seconds.to_string());
        }
    }
}

impl Place {
    /// Does something there.
    pub fn enter<T: Send>(&self, something: impl FnOnce() -> T + Send) -> T {
        self.space.enter(something)
    }
}

/// Wires a namespace to a bridge in another one, with an address on its `eth0`.
fn attach(to: &Space, bridge: &str, space: &Space, (last, address): (u8, Ipv4Addr)) {
    let id = space.id();
    to.ip(&format!(
        "link add wire{last} type veth peer name eth0 netns {id}\nlink set wire{last} master {bridge} up\n"
    ));
    space.ip(&format!(
        "addr add {address}/24 dev eth0\nlink set eth0 up\n"
    ));
}

/// Waits until all these users are registered.
#[track_caller]
pub fn registered(server: &Server, users: &[&str]) {
    wait(
        std::time::Duration::from_secs(20),
        || server.registered() == users,
        || format!("{:?} registered:\n{}", server.registered(), server.log()),
    );
}
