//! Who a packet comes from, and which way an answer goes: leaf types that every layer may import.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Transport protocol of a flow (RFC 3261 §18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// RFC 3261 §18 over UDP, unreliable.
    Udp,
    /// RFC 3261 §18 over TCP, reliable.
    Tcp,
}

impl Transport {
    /// Whether retransmission timers are zero on it (RFC 3261 §17).
    pub const fn is_reliable(self) -> bool {
        matches!(self, Self::Tcp)
    }

    /// The token of a Via header: `UDP`, `TCP`.
    pub const fn via_token(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    /// The value of a URI's transport parameter: `udp`, `tcp`.
    pub const fn uri_token(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// A stream connection. The shell's listener side and the endpoint's opening side draw from one
/// counter each (even: accepted, odd: opened by the endpoint), so a number is never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The way between us and a peer (RFC 5626 §3): everything needed to answer from where we were asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// UDP or a stream.
    pub transport: Transport,
    /// Our own address and port on it. The address is the one the peer sent to (`IP_PKTINFO`), never a wildcard
    /// when the flow came from an input.
    pub local: SocketAddr,
    /// The peer's address and port, canonical (no IPv4-mapped IPv6).
    pub remote: SocketAddr,
    /// The connection, on a stream.
    pub connection: Option<ConnectionId>,
}

impl Flow {
    /// The source that the guard knows this flow's peer as.
    pub fn source(&self) -> Source {
        Source::of(self.remote.ip())
    }
}

/// A source as the guard counts it: an IPv4 address or an IPv6 /64.
///
/// 64 bits: IPv6 keeps its upper half; IPv4 lies in `::/64`'s place under a prefix nobody is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(u64);

/// Upper half of `64:ff9b:1::/64`-like local space: no packet on the wire comes from ffff::/64.
const IPV4_TAG: u64 = 0xffff_ffff_0000_0000;

impl Source {
    /// The source of an address; IPv4-mapped IPv6 counts as IPv4.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(IPV4_TAG | u64::from(v4.to_bits())),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64),
        }
    }

    /// The first address of this source: the address itself, or the /64's network address.
    pub fn address(self) -> IpAddr {
        if self.0 & IPV4_TAG == IPV4_TAG {
            IpAddr::V4(Ipv4Addr::from_bits(self.0 as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(u128::from(self.0) << 64))
        }
    }

    /// The 64 bits themselves, for hashing.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for Source {
    /// `203.0.113.7` or `2001:db8::/64`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address() {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

impl std::str::FromStr for Source {
    type Err = std::net::AddrParseError;

    /// Reads an address, with or without `/64` behind an IPv6 one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = text
            .strip_suffix("/64")
            .filter(|a| a.contains(':'))
            .unwrap_or(text);
        address.parse().map(Self::of)
    }
}

/// A local user: index into the configuration's users. Valid until the next reload, which remaps what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub u32);

/// A trunk: index into the configuration's trunks. Valid until the next reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrunkId(pub u32);

/// Who a source is by its address alone: the one table that guard, authentication and lanes read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// A user with `addresses`.
    User(UserId),
    /// A trunk.
    Trunk(TrunkId),
}

/// Whose packets a queue of received datagrams is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Trunks and users by address.
    Peers,
    /// Registered phones, by address and port.
    Phones,
    /// Everybody else.
    Strangers,
}

/// A place in a lane: packets from there are received on its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Of the sender, canonical.
    pub address: IpAddr,
    /// `None`: any port.
    pub port: Option<u16>,
    /// Where.
    pub lane: Lane,
}

/// What a proven source can be charged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offence {
    /// A wrong answer to a fresh nonce.
    Credentials,
}

/// Where composed messages go: the endpoint's output queue, or a test's list.
pub trait Sink {
    /// Sends `bytes` along `flow`. A full queue drops and counts: SIP repeats what matters.
    fn send(&mut self, flow: &Flow, bytes: &[u8]);
}
