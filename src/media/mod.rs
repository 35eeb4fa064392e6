//! The relay of media: which calls need one, through which ports, and where each packet goes. No I/O and no messages: it is
//! told what the two sides of a call say of their streams (`sdp`), and says what each of them is shown.
//!
//! ```text
//!             what he says                          what he is shown
//!   caller ──▶ describe(Caller) ──▶ [stream: port for the callee] ──▶ callee
//!   caller ◀── [stream: port for the caller] ◀── describe(Callee) ◀── callee
//!
//!   packet at a port of one side ──▶ forward ──▶ from the other side's port of that stream to where that side is
//! ```
//!
//! Each side of a stream has an even port for RTP and the next one for RTCP ([`MediaPair`]). Both sides' ports are reserved
//! with the offer, so that an answer never fails for want of them; they are opened when they are shown. Media is not looked
//! into, but for the SSRC: SRTP, DTLS, video and T.38 pass as they are.
//!
//! Where a side is: `latch`. Which calls: `decide`. Ports: `ports`.
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

mod aim;
mod decide;
mod latch;
mod ports;
mod session;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ahash::RandomState;

use crate::action::Outputs;
use crate::config::{Config, MediaLatch, MediaRelay, Prefix, PublicAddress};
use crate::limits::{LISTEN_MAX, RINGING_PAIRS_MIN, RINGING_PAIRS_PART, SDP_STREAMS_MAX};
use crate::sdp::{Shown, Stream};
use crate::source::{Component, Flow, MediaPair, UserId};
use crate::time::Instant;
use crate::token::Tokens;

use aim::Aims;
use decide::Near;
pub use decide::is_private;
use ports::Ports;
use session::Session;

/// The relay of one call with one callee: slot and serial (serials are never used twice).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaId {
    index: u32,
    serial: u32,
}

/// On which side of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The caller's.
    Caller,
    /// The callee's.
    Callee,
}

impl Side {
    /// The one across.
    pub fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

/// What a session description is (RFC 3264).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// It holds once it is answered.
    Offer,
    /// The same as [`Self::Answer`], but within an answered call it holds no longer if the offer is refused in the end.
    Preview,
    /// It holds, and so does the other side's offer.
    Answer,
}

/// One side as its signalling shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where its signalling comes from.
    pub host: IpAddr,
    /// Our address that it reaches.
    pub local: IpAddr,
    /// The same as it is shown to it.
    pub shown: IpAddr,
    /// The link that both are on, if their addresses are link-local (RFC 4007 §6).
    pub scope: u32,
    /// Its signalling comes from another address than it says itself.
    pub is_behind_nat: bool,
    /// Whether what is sent to it may go wherever it says.
    pub trust: Trust,
}

/// Whether a side is known to receive what it is sent. Its address alone says nothing over UDP: it may be forged, and the
/// session description with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// It is: it has credentials or a connection, or has acknowledged something.
    Whole,
    /// It is a configured peer's address. Away from that address only a few packets go.
    Bounded,
    /// Nothing goes to it as yet, or comes from it.
    Owed,
}

/// No port is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Where a packet goes on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// It leaves by this pair's port of the same component.
    pub pair: MediaPair,
    /// To whom.
    pub remote: SocketAddr,
}

/// To which stream of which session a pair belongs.
#[derive(Clone, Copy, Debug)]
struct Owned {
    session: u32,
    stream: u8,
    side: Side,
}

/// Phones that are found to be behind a NAT in one input.
const FOUND_MAX: usize = 64;
/// Addresses of ours that are known at a time.
const OWN_ADDRESSES_MAX: usize = 256;
const _: () = assert!(LISTEN_MAX + 1 < OWN_ADDRESSES_MAX);
/// Packets a second, of all calls, to sides of [`Trust::Bounded`] away from their addresses.
const BOUNDED_PER_SECOND: u32 = 1_000;

/// All relays.
#[derive(Clone)]
pub struct Media {
    sessions: slab::Slab<Session>,
    next_serial: u32,
    /// Pairs that are open.
    pairs: slab::Slab<Owned>,
    ports: Ports,
    relay: MediaRelay,
    latch: MediaLatch,
    local_networks: Vec<Prefix>,
    /// Addresses of ours: the file's, this machine's where we listen on all of them, and those that relays have.
    own: Vec<IpAddr>,
    /// How many of them are the file's; they come first.
    own_of_file: usize,
    /// Ports that we listen on.
    listens: Vec<u16>,
    timeout: Option<Duration>,
    /// Packets of the present second to sides of [`Trust::Bounded`] away from their addresses.
    bounded: (u64, u32),
    /// Pairs that the ringing calls of each user have, by his name.
    ringing: HashMap<u64, usize, RandomState>,
    /// Phones that were found to be behind a NAT.
    behind_nat: Vec<(UserId, Flow)>,
    /// Packets that nobody was to be sent.
    dropped: u64,
}

impl Media {
    /// No relay yet.
    pub fn new(config: &Config, tokens: Tokens, hasher: RandomState) -> Self {
        let ringing = HashMap::with_hasher(hasher.clone());
        let mut media = Self {
            sessions: slab::Slab::new(),
            next_serial: 1,
            pairs: slab::Slab::new(),
            ports: Ports::new(config.media.ports, tokens, hasher),
            relay: config.media.relay,
            latch: config.media.latch,
            local_networks: Vec::new(),
            own: Vec::new(),
            own_of_file: 0,
            listens: Vec::new(),
            timeout: None,
            bounded: (0, 0),
            ringing,
            behind_nat: Vec::new(),
            dropped: 0,
        };
        media.reload(config);
        media
    }

    /// A new configuration: relays that there are go on with their ports.
    pub fn reload(&mut self, config: &Config) {
        self.relay = config.media.relay;
        self.latch = config.media.latch;
        self.ports.set_range(config.media.ports);
        self.local_networks
            .clone_from(&config.server.local_networks);
        self.timeout = config.call.media_timeout;
        let listens = config.server.listen.iter().map(|listen| listen.address);
        self.listens = listens.clone().map(|address| address.port()).collect();
        let public = match config.server.public_address {
            Some(PublicAddress::Address(address)) => Some(address),
            _ => None,
        };
        // Which addresses this machine has now is told anew.
        self.own.clear();
        for address in listens.map(|address| address.ip()).chain(public) {
            self.have(address);
        }
        self.own_of_file = self.own.len();
        let relays = self.sessions.iter().map(|(_, session)| session);
        let sides =
            relays.flat_map(|relay| [Side::Caller, Side::Callee].map(|side| *relay.place(side)));
        for place in sides.collect::<Vec<Place>>() {
            self.have(place.local);
            self.have(place.shown);
        }
    }

    /// We have this address: nothing but media goes there. Beyond the bound the one that was told longest ago is forgotten: a
    /// provider may give another one each day.
    pub fn have(&mut self, address: IpAddr) {
        if address.is_unspecified() || self.own.contains(&address) {
            return;
        }
        if self.own.len() >= OWN_ADDRESSES_MAX {
            self.own.remove(self.own_of_file);
        }
        self.own.push(address);
    }

    /// Whether it is known that we have it.
    #[cfg(test)]
    pub fn has(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    /// Whether a call between these two is relayed; `offer` is what the first of them says, if anything.
    pub fn is_needed(&self, places: &[Place; 2], offer: &[Stream], from: Side) -> bool {
        let near = Near(&self.local_networks);
        match self.relay {
            MediaRelay::Never => false,
            MediaRelay::Always => true,
            MediaRelay::Auto => decide::is_needed(&near, places, offer, from),
        }
    }

    /// Whether a phone shows by its description that it is behind a NAT.
    pub fn shows_nat(&self, place: &Place, streams: &[Stream]) -> bool {
        let near = Near(&self.local_networks);
        let said = (streams.iter().filter(|stream| stream.is_relayable()))
            .filter_map(|stream| stream.address);
        let mut said = said.into_iter();
        said.any(|said| decide::shows_nat(&near, place, said))
    }

    /// Such a phone of this user's is on this flow; [`Media::next_behind_nat`] tells. One too many is found by its next call.
    pub fn found_behind_nat(&mut self, user: UserId, flow: Flow) {
        if self.behind_nat.len() < FOUND_MAX {
            self.behind_nat.push((user, flow));
        }
    }

    /// The next of those that were found.
    pub fn next_behind_nat(&mut self) -> Option<(UserId, Flow)> {
        self.behind_nat.pop()
    }

    /// Begins a relay between the caller's place and the callee's. Until [`Media::open`] nothing passes if it is not open.
    pub fn begin(&mut self, now: Instant, places: [Place; 2], is_open: bool) -> MediaId {
        let serial = self.next_serial;
        self.next_serial = self.next_serial.wrapping_add(1);
        for place in &places {
            self.have(place.local);
            self.have(place.shown);
        }
        let session = Session::new(serial, places, is_open, now);
        let index = self.sessions.insert(session) as u32;
        MediaId { index, serial }
    }

    /// A relay is for a call of this user's that rings: its ports are among his share of them until it is answered.
    pub fn rings_for(&mut self, id: MediaId, user: &str) {
        let key = self.ringing.hasher().hash_one(user);
        if let Some(session) = self.session_mut(id) {
            session.sharer = Some(key);
        }
    }

    /// The call is answered: it has the ports that it has, and those of streams that are refused are given back.
    pub fn answered(&mut self, id: MediaId, out: &mut Outputs) {
        let Some(session) = self.session_mut(id) else {
            return;
        };
        let (sharer, pairs) = (session.sharer.take(), session.pairs());
        let closed = session.answered();
        self.shares(sharer, pairs, 0);
        self.close(None, closed, out);
    }

    /// Pairs of a user's share that were one number and are another now.
    fn shares(&mut self, sharer: Option<u64>, before: usize, now: usize) {
        let Some(sharer) = sharer else { return };
        let share = self.ringing.entry(sharer).or_default();
        *share = share.saturating_sub(before).saturating_add(now);
        if *share == 0 {
            self.ringing.remove(&sharer);
        }
    }

    /// Gives pairs back.
    fn close(
        &mut self,
        sharer: Option<u64>,
        closed: Vec<(u16, Option<MediaPair>)>,
        out: &mut Outputs,
    ) {
        self.shares(sharer, closed.len(), 0);
        for (port, pair) in closed {
            self.ports.release(port);
            if let Some(pair) = pair {
                self.pairs.try_remove(pair.0 as usize);
                out.close_media(pair);
            }
        }
    }

    /// Keeps ports for the streams of an offer.
    fn reserve(&mut self, id: MediaId, streams: &[Stream]) -> Result<(), Full> {
        let Some(session) =
            (self.sessions.get_mut(id.index as usize)).filter(|own| own.serial == id.serial)
        else {
            return Ok(());
        };
        let (sharer, before) = (session.sharer, session.pairs());
        if let Some(sharer) = sharer {
            let most = (self.ports.range() / RINGING_PAIRS_PART).max(RINGING_PAIRS_MIN);
            let share = self.ringing.get(&sharer).copied().unwrap_or(0);
            if share.saturating_add(session.lacks(streams)) > most {
                return Err(Full);
            }
        }
        session.reserve(streams, &mut self.ports)?;
        let now = session.pairs();
        self.shares(sharer, before, now);
        Ok(())
    }

    /// What one side says of its streams, and where it says so from now.
    ///
    /// # Errors
    /// There are not ports enough for its streams. What held before holds on.
    pub fn describe(
        &mut self,
        now: Instant,
        id: MediaId,
        (side, host): (Side, IpAddr),
        streams: &[Stream],
        exchange: Exchange,
        out: &mut Outputs,
    ) -> Result<(), Full> {
        let streams = streams.get(..SDP_STREAMS_MAX).unwrap_or(streams);
        // An answer has no streams that its offer had not.
        if exchange == Exchange::Offer {
            self.reserve(id, streams)?;
        }
        let Some(session) =
            (self.sessions.get_mut(id.index as usize)).filter(|own| own.serial == id.serial)
        else {
            return Ok(());
        };
        session.moved(side, host);
        let aims = Aims {
            near: Near(&self.local_networks),
            own: &self.own,
            listens: &self.listens,
            ports: &self.ports,
        };
        let closed = session.describe(now, side, streams, exchange, &aims);
        let sharer = session.sharer;
        self.close(sharer, closed, out);
        Ok(())
    }

    /// What the side across from `from` is shown of these streams: our address and a port for each that is relayed, which
    /// is open from now on; 0 for those that have none.
    pub fn show(
        &mut self,
        id: MediaId,
        from: Side,
        streams: &[Stream],
        out: &mut Outputs,
    ) -> Option<(IpAddr, Vec<Option<u16>>)> {
        let session =
            (self.sessions.get_mut(id.index as usize)).filter(|own| own.serial == id.serial)?;
        let to = from.other();
        let (local, shown, scope) = session.addresses(to);
        let mut ports = Vec::with_capacity(streams.len());
        for (index, stream) in streams.iter().enumerate().take(SDP_STREAMS_MAX) {
            if !stream.is_relayable() {
                ports.push(None);
                continue;
            }
            // Streams in one bundle (RFC 9143) have one port here too.
            let is_same = |other: &Stream| {
                other.is_relayable() && (other.address, other.port) == (stream.address, stream.port)
            };
            let first = streams.iter().position(is_same).unwrap_or(index);
            let Some(half) = session.half_mut(first, to) else {
                ports.push(Some(0));
                continue;
            };
            if let (Some(port), None) = (half.port, half.pair) {
                let owned = Owned {
                    session: id.index,
                    stream: first as u8,
                    side: to,
                };
                let pair = MediaPair(self.pairs.insert(owned) as u32);
                half.pair = Some(pair);
                out.open_media(pair, aim::with_scope(local, port, scope));
            }
            ports.push(half.port.or(Some(0)));
        }
        Some((shown, ports))
    }

    /// Writes a description as the side across from `from` is to see it.
    pub fn rewrite(
        &mut self,
        id: MediaId,
        from: Side,
        (description, streams): (&[u8], &[Stream]),
        written: &mut Vec<u8>,
        out: &mut Outputs,
    ) {
        match self.show(id, from, streams, out) {
            Some((address, ports)) => {
                let shown = Shown {
                    address,
                    ports: &ports,
                };
                crate::sdp::rewrite(description, &shown, written);
            }
            None => written.extend_from_slice(description),
        }
    }

    /// Keeps ports for a call whose offer comes later, with one stream as it is hoped.
    ///
    /// # Errors
    /// There are none.
    pub fn reserve_one(&mut self, id: MediaId) -> Result<(), Full> {
        let one = Stream {
            is_audio: true,
            is_datagrams: true,
            is_rtp: true,
            port: 1,
            address: None,
            rtcp: None,
            direction: crate::sdp::Direction::SendRecv,
        };
        self.reserve(id, &[one])
    }

    /// An offer within a session was refused: what held before holds on.
    pub fn withdraw(&mut self, id: MediaId) {
        if let Some(session) = self.session_mut(id) {
            session.withdraw();
        }
    }

    /// Packets pass from now on.
    pub fn open(&mut self, now: Instant, id: MediaId) {
        if let Some(session) = self.session_mut(id) {
            session.open(now);
        }
    }

    /// Ends a relay: its ports are given back.
    pub fn end(&mut self, id: MediaId, out: &mut Outputs) {
        if self.session_mut(id).is_none() {
            return;
        }
        let Some(session) = self.sessions.try_remove(id.index as usize) else {
            return;
        };
        self.close(session.sharer, session.into_ports().collect(), out);
    }

    /// The sockets of a pair could not be opened; `is_taken`: another program has one of the ports, which is left alone for a
    /// while. Whose it was, and whether another stream of it goes on.
    pub fn failed(
        &mut self,
        now: Instant,
        pair: MediaPair,
        is_taken: bool,
    ) -> Option<(MediaId, bool)> {
        let owned = *self.pairs.get(pair.0 as usize)?;
        let session = self.sessions.get_mut(owned.session as usize)?;
        let serial = session.serial;
        let goes_on = session.has_others(owned.stream.into());
        let half = session.half_mut(owned.stream as usize, owned.side)?;
        if let Some(port) = half.port.filter(|_| is_taken) {
            self.ports.shun(now, port);
        }
        let index = owned.session;
        Some((MediaId { index, serial }, goes_on))
    }

    /// A packet that came to a port of ours: where it goes on to; `None`: nowhere. The same bytes are to be sent.
    pub fn forward(
        &mut self,
        now: Instant,
        (pair, component): (MediaPair, Component),
        from: SocketAddr,
        packet: &[u8],
    ) -> Option<Forward> {
        let forward = self.find_way(now, (pair, component), from, packet);
        if forward.is_none() {
            self.dropped = self.dropped.saturating_add(1);
        }
        forward
    }

    fn find_way(
        &mut self,
        now: Instant,
        (pair, component): (MediaPair, Component),
        from: SocketAddr,
        packet: &[u8],
    ) -> Option<Forward> {
        let owned = *self.pairs.get(pair.0 as usize)?;
        let session = self.sessions.get_mut(owned.session as usize)?;
        let from = aim::canonical(from);
        let place = (owned.stream as usize, owned.side, component);
        let forward = session.forward(now, place, from, packet, self.latch)?;
        // A carrier may send a call back to us: then one relay's media goes to another's port, and on from there to somebody
        // else. Nothing goes that way twice, so nothing goes round, whatever descriptions say.
        let is_ours =
            |place: SocketAddr| self.own.contains(&place.ip()) && self.ports.is_used(place.port());
        if is_ours(from) && is_ours(forward.remote) {
            return None;
        }
        if session.is_bounded(owned.side.other(), forward.remote)
            && !(session.takes_one() && takes_one(&mut self.bounded, now))
        {
            return None;
        }
        Some(forward)
    }

    /// When a relay has had no audio for as long as a call may have none, if nothing comes until then; `None`: it needs
    /// none (it is on hold, or has no audio stream).
    pub fn silent_at(&self, id: MediaId) -> Option<Instant> {
        let session =
            (self.sessions.get(id.index as usize)).filter(|own| own.serial == id.serial)?;
        Some(session.silent_since()?.plus(self.timeout?))
    }

    /// How long a call may have no audio.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Relays, pairs of ports that are reserved, pairs that are open.
    pub fn counts(&self) -> [usize; 3] {
        [self.sessions.len(), self.ports.len(), self.pairs.len()]
    }

    /// Packets that nobody was to be sent, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn session_mut(&mut self, id: MediaId) -> Option<&mut Session> {
        (self.sessions.get_mut(id.index as usize)).filter(|own| own.serial == id.serial)
    }
}

/// Whether one more packet may go in this second.
fn takes_one((second, count): &mut (u64, u32), now: Instant) -> bool {
    let present = now.as_micros() / 1_000_000;
    if *second != present {
        (*second, *count) = (present, 0);
    }
    *count = count.saturating_add(1);
    *count <= BOUNDED_PER_SECOND
}
