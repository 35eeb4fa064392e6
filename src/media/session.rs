//! The streams of one relay: what each side says of them, its ports, where it is.

use std::net::{IpAddr, SocketAddr};

use super::aim::{Aims, is_of_rtp, is_port, is_sip};
use super::latch::{Latch, kind};
use super::ports::Ports;
use super::{Exchange, Forward, Full, Place, Side, Trust};
use crate::config::MediaLatch;
use crate::limits::RELAYED_STREAMS_MAX;
use crate::sdp::{Direction, Stream};
use crate::source::{Component, MediaPair};
use crate::time::Instant;

/// Packets of a call to a side of [`Trust::Bounded`] away from its address: five seconds of audio.
const BOUNDED_PACKETS: u16 = 250;

/// One side of a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Half {
    /// Our even port that it sends to.
    pub port: Option<u16>,
    /// The same once it is open.
    pub pair: Option<MediaPair>,
    /// What it said last, if that holds.
    said: Option<Stream>,
    rtp: Latch,
    rtcp: Latch,
}

/// Both sides of all streams.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub serial: u32,
    /// The caller's and the callee's.
    places: [Place; 2],
    streams: Vec<[Half; 2]>,
    /// An offer that changes a session and has no answer yet.
    offered: Option<(Side, Vec<Stream>)>,
    /// As they were before an answer that may not hold.
    former: Option<Vec<[Half; 2]>>,
    is_answered: bool,
    /// Whose share of the ports it takes while it rings.
    pub sharer: Option<u64>,
    is_open: bool,
    /// Packets that may still go to a side of [`Trust::Bounded`] away from its address.
    bounded: u16,
    /// When audio came last, or might have begun to.
    heard: Instant,
}

impl Half {
    fn latch_mut(&mut self, component: Component) -> &mut Latch {
        match component {
            Component::Rtp => &mut self.rtp,
            Component::Rtcp => &mut self.rtcp,
        }
    }

    fn latch(&self, component: Component) -> &Latch {
        match component {
            Component::Rtp => &self.rtp,
            Component::Rtcp => &self.rtcp,
        }
    }

    fn is_live(&self) -> bool {
        self.said.is_some_and(|said| said.is_relayable())
    }

    /// Media is to flow both ways, as far as this side says.
    fn wants_both_ways(&self) -> bool {
        self.said.is_some_and(|said| {
            said.is_relayable()
                && said.direction == Direction::SendRecv
                && !said.is_held_by_address()
        })
    }

    fn describe(&mut self, stream: Stream, place: &Place, aims: &Aims<'_>) {
        self.said = Some(stream);
        let at = |address: Option<IpAddr>, port| {
            let address = address.filter(|_| stream.is_relayable());
            address.and_then(|address| aims.at(place, SocketAddr::new(address, port)))
        };
        self.rtp.describe(at(stream.address, stream.port));
        let rtcp = match stream.rtcp {
            Some(rtcp) => {
                let own = rtcp.address.filter(|address| !address.is_unspecified());
                at(own.or(stream.address), rtcp.port)
            }
            None => at(stream.address, stream.port.checked_add(1).unwrap_or(0)),
        };
        self.rtcp.describe(rtcp);
    }
}

impl Session {
    pub fn new(serial: u32, places: [Place; 2], is_open: bool, now: Instant) -> Self {
        Self {
            serial,
            places,
            streams: Vec::new(),
            offered: None,
            former: None,
            is_answered: false,
            sharer: None,
            is_open,
            bounded: BOUNDED_PACKETS,
            heard: now,
        }
    }

    /// One side.
    pub fn place(&self, side: Side) -> &Place {
        let [caller, callee] = &self.places;
        match side {
            Side::Caller => caller,
            Side::Callee => callee,
        }
    }

    /// The address that a side's ports are bound to, the one it is shown, and their link.
    pub fn addresses(&self, side: Side) -> (IpAddr, IpAddr, u32) {
        let place = self.place(side);
        (place.local, place.shown, place.scope)
    }

    /// Whether only so many packets go there, which is where this side is to be.
    pub fn is_bounded(&self, side: Side, remote: SocketAddr) -> bool {
        let place = self.place(side);
        place.trust == Trust::Bounded && place.host != remote.ip()
    }

    /// Takes one of them; `false`: none is left.
    pub fn takes_one(&mut self) -> bool {
        let left = self.bounded.checked_sub(1);
        self.bounded = left.unwrap_or(0);
        left.is_some()
    }

    /// Signalling of a side comes from this host now.
    pub fn moved(&mut self, side: Side, host: IpAddr) {
        let [caller, callee] = &mut self.places;
        match side {
            Side::Caller => caller.host = host,
            Side::Callee => callee.host = host,
        }
    }

    pub fn half_mut(&mut self, stream: usize, side: Side) -> Option<&mut Half> {
        let [caller, callee] = self.streams.get_mut(stream)?;
        Some(match side {
            Side::Caller => caller,
            Side::Callee => callee,
        })
    }

    fn half(&self, stream: usize, side: Side) -> Option<&Half> {
        let [caller, callee] = self.streams.get(stream)?;
        Some(match side {
            Side::Caller => caller,
            Side::Callee => callee,
        })
    }

    /// Pairs that it has.
    pub fn pairs(&self) -> usize {
        let halves = self.streams.iter().flatten();
        halves.filter(|half| half.port.is_some()).count()
    }

    /// Which of these streams are relayed: the first few that can be.
    fn relayed(streams: &[Stream]) -> impl Iterator<Item = usize> {
        let all = streams.iter().enumerate();
        let relayable = all.filter(|(_, stream)| stream.is_relayable());
        relayable.map(|(index, _)| index).take(RELAYED_STREAMS_MAX)
    }

    /// Pairs that it would have to be given for these streams.
    pub fn lacks(&self, streams: &[Stream]) -> usize {
        let of = |index: usize| match self.streams.get(index) {
            Some(halves) => halves.iter().filter(|half| half.port.is_none()).count(),
            None => 2,
        };
        Self::relayed(streams).map(of).sum()
    }

    /// Ports for both sides of all these streams.
    pub fn reserve(&mut self, streams: &[Stream], ports: &mut Ports) -> Result<(), Full> {
        if self.streams.len() < streams.len() {
            // Nearly all calls have one, and a vector would take room for four.
            let more = streams.len().saturating_sub(self.streams.len());
            self.streams.reserve_exact(more);
            self.streams.resize_with(streams.len(), Default::default);
        }
        let mut taken = Vec::new();
        let relayed: Vec<usize> = Self::relayed(streams).collect();
        let wanted = self.streams.iter_mut().enumerate();
        let wanted = wanted.filter(|(index, _)| relayed.contains(index));
        let halves = wanted.flat_map(|(_, own)| own);
        let mut result = Ok(());
        for half in halves.filter(|half| half.port.is_none()) {
            match ports.reserve() {
                Ok(port) => {
                    half.port = Some(port);
                    taken.push(port);
                }
                Err(full) => {
                    result = Err(full);
                    break;
                }
            }
        }
        if result.is_err() {
            for half in self.streams.iter_mut().flatten() {
                if half.port.is_some_and(|port| taken.contains(&port)) {
                    half.port = None;
                }
            }
            taken.into_iter().for_each(|port| ports.release(port));
        }
        result
    }

    /// Takes what a side says. The ports of streams that are over are given back.
    pub fn describe(
        &mut self,
        now: Instant,
        side: Side,
        streams: &[Stream],
        exchange: Exchange,
        aims: &Aims<'_>,
    ) -> Vec<(u16, Option<MediaPair>)> {
        let is_first = self
            .streams
            .iter()
            .flatten()
            .all(|half| half.said.is_none());
        match exchange {
            Exchange::Preview if self.is_answered => {
                self.former.get_or_insert_with(|| self.streams.clone());
            }
            _ => self.former = None,
        }
        if exchange == Exchange::Offer && !is_first {
            self.offered = Some((side, streams.to_vec()));
            return Vec::new();
        }
        if let Some((offerer, offered)) = (self.offered.take()).filter(|(own, _)| *own != side) {
            self.take(offerer, &offered, aims);
        }
        self.take(side, streams, aims);
        self.heard = now;
        match exchange {
            Exchange::Answer if self.is_answered => self.refused(),
            _ => Vec::new(),
        }
    }

    /// The call is answered: from now on nobody else may take a stream that has been refused.
    pub fn answered(&mut self) -> Vec<(u16, Option<MediaPair>)> {
        match std::mem::replace(&mut self.is_answered, true) {
            false => self.refused(),
            true => Vec::new(),
        }
    }

    /// Whether another stream than this one is relayed.
    pub fn has_others(&self, stream: usize) -> bool {
        let mut all = self.streams.iter().enumerate();
        all.any(|(index, halves)| index != stream && halves.iter().all(|half| half.pair.is_some()))
    }

    /// Takes the ports of streams that one side has refused.
    fn refused(&mut self) -> Vec<(u16, Option<MediaPair>)> {
        let is_over = |halves: &&mut [Half; 2]| {
            let refused = |half: &Half| half.said.is_some() && !half.is_live();
            halves.iter().any(refused)
        };
        let over = self.streams.iter_mut().filter(is_over).flatten();
        over.filter_map(|half| Some((half.port.take()?, half.pair.take())))
            .collect()
    }

    fn take(&mut self, side: Side, streams: &[Stream], aims: &Aims<'_>) {
        let place = *self.place(side);
        for (index, stream) in streams.iter().enumerate() {
            if let Some(half) = self.half_mut(index, side) {
                half.describe(*stream, &place, aims);
            }
        }
    }

    /// No answer comes to the offer, or none that holds.
    pub fn withdraw(&mut self) {
        self.offered = None;
        for (own, former) in self
            .streams
            .iter_mut()
            .zip(self.former.take().unwrap_or_default())
        {
            for (own, former) in own.iter_mut().zip(former) {
                *own = Half {
                    port: own.port,
                    pair: own.pair,
                    ..former
                };
            }
        }
    }

    /// Packets pass from now on.
    pub fn open(&mut self, now: Instant) {
        self.is_open = true;
        for place in &mut self.places {
            place.trust = Trust::Whole;
        }
        self.heard = now;
    }

    /// See [`super::Media::forward`].
    pub fn forward(
        &mut self,
        now: Instant,
        (stream, side, component): (usize, Side, Component),
        from: SocketAddr,
        packet: &[u8],
        latch: MediaLatch,
    ) -> Option<Forward> {
        if !self.is_open {
            return None;
        }
        let kind = kind(packet);
        let host = self.place(side).host;
        let half = self.half_mut(stream, side)?;
        let is_host = from.ip() == host || half.rtp.names(from.ip()) || half.rtcp.names(from.ip());
        if latch == MediaLatch::Signalled && !is_host {
            return None;
        }
        if !is_port(from.port()) {
            return None;
        }
        let is_audio = half.said.is_none_or(|said| said.is_audio);
        let has_rtp = half.said.is_none_or(|said| said.is_rtp);
        let is_media = !has_rtp || kind.ssrc.is_some();
        if !half.latch_mut(component).hear(from, kind.ssrc, is_media) {
            return None;
        }
        let passes = match has_rtp {
            true => is_of_rtp(packet),
            false => !is_sip(packet),
        };
        if !passes {
            return None;
        }
        if is_audio && kind.is_rtp && component == Component::Rtp {
            self.heard = now;
        }
        let other = self.half(stream, side.other())?;
        if other.said.is_some_and(|said| said.is_held_by_address()) {
            return None;
        }
        Some(Forward {
            pair: other.pair?,
            remote: other.latch(component).remote()?,
        })
    }

    /// Since when no audio has come, if some is to come both ways.
    pub fn silent_since(&self) -> Option<Instant> {
        let is_talk = |halves: &&[Half; 2]| {
            let is_audio = |half: &Half| half.said.is_some_and(|said| said.is_audio);
            halves
                .iter()
                .all(|half| is_audio(half) && half.wants_both_ways())
        };
        (self.is_open && self.streams.iter().any(|halves| is_talk(&halves))).then_some(self.heard)
    }

    /// All ports.
    pub fn into_ports(self) -> impl Iterator<Item = (u16, Option<MediaPair>)> {
        let halves = self.streams.into_iter().flatten();
        halves.filter_map(|half| Some((half.port?, half.pair)))
    }
}
