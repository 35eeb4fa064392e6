//! Who a packet comes from, and which way an answer goes: leaf types that every layer may import.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Transport protocol of a flow (RFC 3261 §18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// A socket of the shell's that one query to a name server is sent on; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u64);

/// How a name server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Over {
    /// A datagram, from a port that the kernel draws.
    Udp,
    /// A connection; two bytes of length stand before the message (RFC 7766 §8), which are the shell's.
    Tcp,
}

impl ConnectionId {
    /// The endpoint opened it.
    pub const fn is_ours(self) -> bool {
        self.0 % 2 == 1
    }
}

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

    /// Whether both lead to one peer: same transport, address and port, on a stream the very connection (RFC 5626 §3). Our
    /// own side does not count: a peer may speak to any of our addresses.
    pub fn is_same_peer(&self, other: &Self) -> bool {
        (self.transport, self.remote, self.connection)
            == (other.transport, other.remote, other.connection)
    }
}

/// A source as the guard counts it: an IPv4 address or an IPv6 /64. Bans also know IPv6 /56 and /48, which no packet has
/// as its source but which cover the sources in them.
///
/// 64 bits. IPv6 keeps its upper half; the rest lies where multicast addresses would, which nobody sends from:
///
/// ```text
/// an IPv6 /64      pp pp pp pp pp pp pp pp
/// an IPv6 /56      ff pp pp pp pp pp pp pp
/// an IPv6 /48      ff ff pp pp pp pp pp pp
/// an IPv4 address  ff ff ff ff aa bb cc dd
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(u64);

const IPV4_TAG: u64 = 0xffff_ffff_0000_0000;
const P48_TAG: u64 = 0xffff_0000_0000_0000;
const P56_TAG: u64 = 0xff00_0000_0000_0000;

impl Source {
    /// The source of an address; IPv4-mapped IPv6 counts as IPv4. A multicast address, which is nobody's, counts as ::.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(IPV4_TAG | u64::from(v4.to_bits())),
            IpAddr::V6(v6) if v6.is_multicast() => Self(0),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 64) as u64),
        }
    }

    /// The first address of this source: the address itself, or the network address of the prefix.
    pub fn address(self) -> IpAddr {
        match self.0 & IPV4_TAG == IPV4_TAG {
            true => IpAddr::V4(Ipv4Addr::from_bits(self.0 as u32)),
            false => IpAddr::V6(Ipv6Addr::from_bits(u128::from(self.span().0) << 64)),
        }
    }

    /// How many bits of the address count: 32 of an IPv4 address, 64, 56 or 48 of an IPv6 address.
    pub const fn prefix_bits(self) -> u8 {
        match self.0 {
            bits if bits & IPV4_TAG == IPV4_TAG => 32,
            bits if bits & P48_TAG == P48_TAG => 48,
            bits if bits & P56_TAG == P56_TAG => 56,
            _ => 64,
        }
    }

    /// The next wider prefix around it: the /56 of a /64, the /48 of a /56.
    pub const fn widened(self) -> Option<Self> {
        match self.prefix_bits() {
            64 => Some(Self(P56_TAG | self.0 >> 8)),
            56 => Some(Self(P48_TAG | (self.0 & !P56_TAG) >> 8)),
            _ => None,
        }
    }

    /// The 256 sources that it is made of, one step narrower; of a /64 or an IPv4 address none.
    pub fn parts(self) -> impl Iterator<Item = Self> {
        let (first, tag) = match self.prefix_bits() {
            56 => (self.0 << 8, 0),
            48 => ((self.0 & !P48_TAG) << 8, P56_TAG),
            _ => (0, 0),
        };
        let count = if matches!(self.prefix_bits(), 56 | 48) {
            256
        } else {
            0
        };
        (0..count).map(move |part| Self(tag | first | part))
    }

    /// First and last of the packets' sources, as [`Source::bits`], that it covers.
    pub const fn span(self) -> (u64, u64) {
        match self.prefix_bits() {
            56 => (self.0 << 8, self.0 << 8 | 0xff),
            48 => (self.0 << 16, self.0 << 16 | 0xffff),
            _ => (self.0, self.0),
        }
    }

    /// Whether packets from `other` (a single source) are within this one.
    pub const fn covers(self, other: Self) -> bool {
        let (first, last) = self.span();
        first <= other.0 && other.0 <= last
    }

    /// The 64 bits themselves, for hashing.
    pub const fn bits(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for Source {
    /// `203.0.113.7`, `2001:db8::/64`, `2001:db8::/56` or `2001:db8::/48`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address() {
            IpAddr::V4(v4) => v4.fmt(f),
            IpAddr::V6(v6) => write!(f, "{v6}/{}", self.prefix_bits()),
        }
    }
}

/// A text is not that of a source: no address, or a multicast one, which nobody sends from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSource;

impl std::fmt::Display for NoSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not an address that anybody sends from")
    }
}

impl std::error::Error for NoSource {}

impl std::str::FromStr for Source {
    type Err = NoSource;

    /// Reads an address, with or without `/64`, `/56` or `/48` behind an IPv6 one.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let of = |address: &str| match address.parse::<IpAddr>() {
            Ok(address) if !address.to_canonical().is_multicast() => Ok(Self::of(address)),
            _ => Err(NoSource),
        };
        let wider = |source: Self| source.widened().unwrap_or(source);
        match text
            .split_once('/')
            .filter(|(address, _)| address.contains(':'))
        {
            Some((address, "64")) => of(address),
            Some((address, "56")) => of(address).map(wider),
            Some((address, "48")) => of(address).map(wider).map(wider),
            _ => of(text),
        }
    }
}

/// A local user: index into the configuration's users. Valid until the next reload, which remaps what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(pub u32);

/// A trunk: index into the configuration's trunks. Valid until the next reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrunkId(pub u32);

/// A ringing group: index into the configuration's groups. Valid until the next reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

/// An external line: index into the configuration's lines. Valid until the next reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineId(pub u32);

/// A subscription: slot and serial (serials are never used twice).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionId {
    /// Its slot.
    pub index: u32,
    /// Which of those that had the slot.
    pub serial: u32,
}

/// A peer's address that is asked whether it can be reached: slot and serial (serials are never used twice).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReachId {
    /// Its slot.
    pub index: u32,
    /// Which of those that had the slot.
    pub serial: u32,
}

/// Two UDP ports of ours that media is relayed through, an even one for RTP and the next one for RTCP, while they are open.
/// The number is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaPair(pub u32);

/// One of the two ports of a [`MediaPair`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The even one: media, and with RFC 5761 its RTCP too.
    Rtp,
    /// The odd one.
    Rtcp,
}

/// Who a source is by its address alone: the one table that guard, authentication and lanes read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// A user with `addresses`.
    User(UserId),
    /// A trunk.
    Trunk(TrunkId),
    /// An external line. Many may have one carrier: the address alone says that it is one of his, the request which.
    Line(LineId),
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
    /// Of the sender, canonical; of a block the first.
    pub address: IpAddr,
    /// So many bits of it count: fewer than all for a block, which has no port.
    pub bits: u8,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        text.parse().expect("a source")
    }

    #[test]
    fn sources_are_written_as_they_are_read() {
        for (text, written, bits) in [
            ("203.0.113.7", "203.0.113.7", 32),
            ("255.255.255.255", "255.255.255.255", 32),
            ("::ffff:203.0.113.7", "203.0.113.7", 32),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64", 64),
            ("2001:db8:1:2::/64", "2001:db8:1:2::/64", 64),
            ("2001:db8:1:2ff::/56", "2001:db8:1:200::/56", 56),
            ("2001:db8:1:2ff::7/48", "2001:db8:1::/48", 48),
            ("::1", "::/64", 64),
            ("::/56", "::/56", 56),
            ("::/48", "::/48", 48),
            ("fdff:ffff:ffff:ffff::/56", "fdff:ffff:ffff:ff00::/56", 56),
        ] {
            let source = source(text);
            assert_eq!(
                (source.to_string().as_str(), source.prefix_bits()),
                (written, bits),
                "{text}"
            );
            assert_eq!(source.to_string().parse(), Ok(source), "{text}");
        }
        for text in [
            "203.0.113.7/32",
            "2001:db8::/47",
            "2001:db8::/",
            "/64",
            "::/64/64",
            "ff02::1",
            "ff02::/64",
            "224.0.0.1",
            "",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }

    #[test]
    fn prefixes_cover_their_sources_only() {
        let narrow = source("2001:db8:1:2ff::");
        let wide = narrow.widened().unwrap();
        let wider = wide.widened().unwrap();
        assert_eq!(
            (wide, wider),
            (source("2001:db8:1:200::/56"), source("2001:db8:1::/48"))
        );
        assert_eq!(
            (wider.widened(), source("192.0.2.1").widened()),
            (None, None)
        );
        assert!(narrow.covers(narrow) && wide.covers(narrow) && wider.covers(narrow));
        for (outside, by_wider) in [
            ("2001:db8:1:300::", true),
            ("2001:db8:1:1ff::", true),
            ("2001:db8:2::", false),
            ("192.0.2.1", false),
        ] {
            assert!(!wide.covers(source(outside)), "{outside}");
            assert_eq!(wider.covers(source(outside)), by_wider, "{outside}");
        }
        let parts: Vec<_> = wide.parts().collect();
        assert_eq!((parts.len(), parts[0xff]), (256, narrow));
        assert!(parts.iter().all(|part| part.widened() == Some(wide)));
        let parts: Vec<_> = wider.parts().collect();
        assert_eq!((parts.len(), parts[2]), (256, wide));
        assert!(parts.iter().all(|part| part.widened() == Some(wider)));
        assert_eq!(
            narrow.parts().count() + source("192.0.2.1").parts().count(),
            0
        );
    }
}
