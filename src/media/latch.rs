//! Where one side of a stream is to be sent media to: where it says, until something comes from it; then where that came
//! from, since behind a NAT nobody knows his own address.
//!
//! Only its host counts as it: the one that its signalling comes from, or the one that it describes. What comes from
//! elsewhere neither passes nor is learned from (`latch = any` takes whoever comes first). The port is learned: the one that
//! it has named before any other, and for good after [`PACKETS`] packets of one SSRC from one port, until it describes
//! itself again: neighbours behind the same NAT cannot take its place then. What has no SSRC in a stream of RTP (STUN, DTLS)
//! says where it is only as long as nothing else does, and never for good.

use std::net::{IpAddr, SocketAddr};

/// Packets from one port, with one SSRC, after which no other one counts.
pub(super) const PACKETS: u8 = 5;
/// Ports and SSRCs that are counted at a time: audio and video of a bundle, and a neighbour's.
const COUNTED: usize = 4;

/// How sure we are of what was learned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Sure {
    /// Nothing was heard since it has described itself.
    #[default]
    Not,
    /// By what is no media.
    ByOther,
    /// By media.
    ByMedia,
    /// By media from the port that it has named.
    AsSaid,
    /// For good.
    Fixed,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latch {
    /// Where it says.
    pub said: Option<SocketAddr>,
    learned: Option<SocketAddr>,
    sure: Sure,
    counts: [Count; COUNTED],
}

/// Packets from a port: of the two hosts that count one will have it. None at all: a free place.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    ssrc: u32,
    port: u16,
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
        self.sure = Sure::Not;
        self.counts = Default::default();
    }

    /// A packet from a host that may be it: whether it is taken. `is_media`: it is what the stream carries.
    pub fn hear(&mut self, from: SocketAddr, ssrc: Option<u32>, is_media: bool) -> bool {
        if self.sure == Sure::Fixed {
            return self.learned == Some(from);
        }
        let sure = match is_media {
            false => Sure::ByOther,
            true if self.said == Some(from) => Sure::AsSaid,
            true => Sure::ByMedia,
        };
        if sure < self.sure {
            return true;
        }
        (self.learned, self.sure) = (Some(from), sure);
        if is_media && self.count(from.port(), ssrc.unwrap_or(0)) >= PACKETS {
            self.sure = Sure::Fixed;
        }
        true
    }

    /// How many packets have come from this port with this SSRC, this one with them. One that finds no place takes that of
    /// whoever has fewest.
    fn count(&mut self, port: u16, ssrc: u32) -> u8 {
        let is_it = |own: &Count| own.packets > 0 && (own.port, own.ssrc) == (port, ssrc);
        let known = self.counts.iter().position(is_it);
        let place = match known {
            Some(known) => self.counts.get_mut(known),
            None => self.counts.iter_mut().min_by_key(|own| own.packets),
        };
        let Some(place) = place else { return 0 };
        let before = if known.is_some() { place.packets } else { 0 };
        let packets = before.saturating_add(1);
        *place = Count {
            ssrc,
            port,
            packets,
        };
        packets
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
