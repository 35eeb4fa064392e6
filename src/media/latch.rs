//! Where one side of a stream is to be sent media to: where it says, until something comes from it; then where that came
//! from, since behind a NAT nobody knows his own address.
//!
//! Only its host counts as it: the one that its signalling comes from, or the one that it describes. What comes from
//! elsewhere neither passes nor is learned from (`latch = any` takes whoever comes first). The port is learned, and is
//! fixed after [`PACKETS`] packets of one SSRC, until it describes itself again: neighbours behind the same NAT cannot take
//! its place then.

use std::net::{IpAddr, SocketAddr};

/// Packets from one port, with one SSRC, after which no other one counts.
pub(super) const PACKETS: u8 = 5;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latch {
    /// Where it says.
    pub said: Option<SocketAddr>,
    learned: Option<SocketAddr>,
    ssrc: Option<u32>,
    packets: u8,
}

impl Latch {
    /// It has described itself: the port may be another one from now on. Where it was heard last is right until then,
    /// unless it names another place than before.
    pub fn describe(&mut self, said: Option<SocketAddr>) {
        if said != self.said {
            self.learned = None;
        }
        self.said = said;
        self.packets = 0;
        self.ssrc = None;
    }

    /// A packet from a host that may be it: whether it is taken.
    pub fn hear(&mut self, from: SocketAddr, ssrc: Option<u32>) -> bool {
        let is_known = self.learned == Some(from);
        if self.packets >= PACKETS {
            return is_known;
        }
        let goes_on = is_known && self.ssrc == ssrc;
        self.packets = if goes_on {
            self.packets.saturating_add(1)
        } else {
            1
        };
        (self.learned, self.ssrc) = (Some(from), ssrc);
        true
    }

    /// Where it is.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.learned.or(self.said)
    }

    /// Whether it describes this host.
    pub fn names(&self, host: IpAddr) -> bool {
        self.said.is_some_and(|said| said.ip() == host)
    }
}

/// What a packet is, as far as a relay cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// Of RTP (RFC 3550 §5.1) and RTCP (§6.4), encrypted or not. `None`: it is neither.
    pub ssrc: Option<u32>,
    /// It is RTP.
    pub is_rtp: bool,
}

/// Looks at the first bytes of a packet. RTCP is told from RTP as RFC 5761 §4 says.
pub(super) fn kind(packet: &[u8]) -> Kind {
    let number = |at: usize| -> Option<u32> {
        let bytes = packet.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*bytes))
    };
    match packet {
        [first, second, ..] if first >> 6 == 2 => {
            let is_rtcp = (192..=223).contains(second);
            let ssrc = number(if is_rtcp { 4 } else { 8 });
            Kind {
                ssrc,
                is_rtp: !is_rtcp && ssrc.is_some(),
            }
        }
        _ => Kind {
            ssrc: None,
            is_rtp: false,
        },
    }
}
