//! Session descriptions (RFC 8866): what a relay of media must know of one, and the few bytes of it that a relay changes.
//! Everything else is passed on byte for byte, be it understood or not. No time, no state, no I/O.
//!
//! [`read`] finds the media streams, [`rewrite`] writes the description with other addresses and ports, [`part`] finds it
//! within a multipart body (RFC 5621).
//!
//! What a relay changes: the address of `c=` lines and of `o=` (the other side is to see nothing of who is behind the
//! relay), the port of `m=` lines, `a=rtcp` (RFC 3605). What it takes out: lines of ICE (RFC 8839), whose candidates name
//! addresses past the relay; without them both sides use `c=` and `m=`. A stream with port 0 is refused or not there, and
//! one over TCP, or whose `m=` line nobody understands, is not relayed: these stay as they are. The address `0.0.0.0` or `::`,
//! an old way to hold, stays one of these.
//!
//! What is no description at all, or has more streams than [`SDP_STREAMS_MAX`], is not read: it is passed on as it is.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod lines;
mod multipart;
#[cfg(test)]
mod tests;
mod write;

use std::net::IpAddr;

use crate::limits::{SDP_LINES_MAX, SDP_STREAMS_MAX};
use lines::{Line, lines};
pub use multipart::part;
pub use write::{Shown, rewrite};

/// Which way media flows, as whoever describes it says (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both ways: also if nothing is said.
    #[default]
    SendRecv,
    /// He sends.
    SendOnly,
    /// He receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    fn of(attribute: &[u8]) -> Option<Self> {
        match attribute {
            b"sendrecv" => Some(Self::SendRecv),
            b"sendonly" => Some(Self::SendOnly),
            b"recvonly" => Some(Self::RecvOnly),
            b"inactive" => Some(Self::Inactive),
            _ => None,
        }
    }
}

/// Where RTCP is to be sent to (RFC 3605).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtcp {
    /// Port.
    pub port: u16,
    /// `None`: the stream's own address.
    pub address: Option<IpAddr>,
}

/// One `m=` line with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its media is `audio`.
    pub is_audio: bool,
    /// It is over UDP: anything but `TCP`, `TCP/...`. `false` too if its line is not understood.
    pub is_datagrams: bool,
    /// What it carries is RTP, whatever protects it: `RTP/AVP`, `UDP/TLS/RTP/SAVPF`.
    pub is_rtp: bool,
    /// Its port; 0: the stream is refused or over.
    pub port: u16,
    /// Its address, or the session's; `None`: there is none, or it is a name or a multicast address.
    pub address: Option<IpAddr>,
    /// `a=rtcp`.
    pub rtcp: Option<Rtcp>,
    /// Which way it flows.
    pub direction: Direction,
}

impl Stream {
    /// Whether a relay has something to do with it.
    pub fn is_relayable(&self) -> bool {
        self.port != 0 && self.is_datagrams
    }

    /// RFC 3264 §8.4, as it was done before: nothing is to be sent there.
    pub fn is_held_by_address(&self) -> bool {
        self.address.is_some_and(|address| address.is_unspecified())
    }
}

/// Why bytes are not read as a session description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// They do not begin with `v=0`.
    Malformed,
    /// There are more than [`SDP_STREAMS_MAX`] streams.
    TooManyStreams,
    /// There are more than [`SDP_LINES_MAX`] lines.
    TooManyLines,
}

/// The streams of a session description, in its order.
///
/// # Errors
/// It is none, or has too many.
pub fn read(description: &[u8]) -> Result<Vec<Stream>, Unreadable> {
    let mut lines = lines(description);
    if lines
        .next()
        .is_none_or(|line| line.text.trim_ascii_end() != b"v=0")
    {
        return Err(Unreadable::Malformed);
    }
    // One is the rule; growing would make room for four.
    let mut streams: Vec<Stream> = Vec::with_capacity(1);
    let (mut address, mut direction) = (None, Direction::default());
    let mut room = SDP_LINES_MAX;
    for line in lines {
        room = room.saturating_sub(1);
        if room == 0 {
            return Err(Unreadable::TooManyLines);
        }
        match (line.kind(), streams.last_mut()) {
            (b'm', _) => {
                if streams.len() >= SDP_STREAMS_MAX {
                    return Err(Unreadable::TooManyStreams);
                }
                let media = line.media();
                let protocol = media.as_ref().map(|media| media.protocol);
                streams.push(Stream {
                    is_audio: media.as_ref().is_some_and(|media| media.kind == b"audio"),
                    is_datagrams: protocol.is_some_and(|protocol| !is_tcp(protocol)),
                    is_rtp: protocol.is_some_and(is_rtp),
                    port: media.as_ref().map_or(0, |media| media.port),
                    address,
                    rtcp: None,
                    direction,
                });
            }
            (b'c', None) => address = line.connection(),
            (b'c', Some(stream)) => stream.address = line.connection(),
            (b'a', None) => {
                direction = Direction::of(line.value().trim_ascii_end()).unwrap_or(direction)
            }
            (b'a', Some(stream)) => {
                if let Some(own) = Direction::of(line.value().trim_ascii_end()) {
                    stream.direction = own;
                } else if let Some(rtcp) = line.rtcp() {
                    stream.rtcp = Some(Rtcp {
                        port: rtcp.port,
                        address: rtcp.address.and_then(lines::address),
                    });
                }
            }
            _ => {}
        }
    }
    Ok(streams)
}

fn is_tcp(protocol: &[u8]) -> bool {
    let first = protocol.split(|byte| *byte == b'/').next();
    first.is_some_and(|first| first.eq_ignore_ascii_case(b"TCP"))
}

fn is_rtp(protocol: &[u8]) -> bool {
    let mut parts = protocol.split(|byte| *byte == b'/');
    parts.any(|part| part.eq_ignore_ascii_case(b"RTP"))
}

/// Whether a line belongs to ICE (RFC 8839 §5).
fn is_ice(line: &Line<'_>) -> bool {
    let name = line.value().split(|byte| *byte == b':').next();
    line.kind() == b'a'
        && name.is_some_and(|name| {
            name.starts_with(b"ice-")
                || matches!(
                    name,
                    b"candidate" | b"remote-candidates" | b"end-of-candidates"
                )
        })
}
