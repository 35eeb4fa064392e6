//! Session descriptions on their way from one leg to the other, and the relay of the media that they describe.
//!
//! Every offer decides anew whether the two sides could hear each other (`crate::media`); once a relay has begun it stays
//! until its branch is over. Each branch has a relay of its own, and callees whom a proxy behind one INVITE forks share it,
//! as they share the offer. Without a relay a body passes byte for byte.
//!
//! Ports are kept with the offer, so what fails for want of them is an INVITE (503) or a re-INVITE (503); an answer that
//! suddenly has more streams than its offer goes on without a relay.

use std::borrow::Cow;
use std::ops::Range;

use super::*;
use crate::media::{Exchange, Full, Place, Side as End};
use crate::message::{HeaderName, Message};
use crate::sdp::{self, Stream};

/// Reason of the BYE to both sides of a relayed call that has had no audio for too long (RFC 3326).
const NO_AUDIO: &[u8] = b"SIP;cause=408;text=\"No audio\"";
/// The same where the ports of a relay could not be opened.
const NO_PORT: &[u8] = b"SIP;cause=503;text=\"No port for media\"";
/// The same where the two sides have no media that both know.
pub(super) const NO_MEDIA: &[u8] = b"SIP;cause=488;text=\"No common media\"";

/// Why a description does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// No port is left for its media.
    Full,
    /// It would have to be relayed, and nobody knows what it says.
    Unreadable,
}

impl From<Full> for Unfit {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl Unfit {
    /// What whoever made the offer is told.
    pub fn status(self) -> u16 {
        match self {
            Self::Full => 503,
            Self::Unreadable => 488,
        }
    }

    /// Reason of a BYE for it (RFC 3326).
    pub fn reason(self) -> &'static [u8] {
        match self {
            Self::Full => NO_PORT,
            Self::Unreadable => NO_MEDIA,
        }
    }
}

/// A body that a leg sent for the other one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'m> {
    leg: u8,
    exchange: Exchange,
    kind: Option<&'m [u8]>,
    body: &'m [u8],
}

impl<'m> Said<'m> {
    /// An offer.
    pub fn offer(leg: u8, message: &Message<'m>) -> Self {
        Self::of(leg, Exchange::Offer, message)
    }

    /// An answer.
    pub fn answer(leg: u8, message: &Message<'m>) -> Self {
        Self::of(leg, Exchange::Answer, message)
    }

    /// An answer if the other side has made an offer; a refusal may follow a provisional one.
    pub fn response(leg: u8, message: &Message<'m>, had_offer: bool) -> Self {
        match had_offer {
            true if message.status() < 200 => Self::of(leg, Exchange::Preview, message),
            true => Self::answer(leg, message),
            false => Self::offer(leg, message),
        }
    }

    /// An offer that was kept until it could be made.
    pub fn kept(leg: u8, offer: &'m super::session::Description) -> Self {
        Self {
            leg,
            exchange: Exchange::Offer,
            kind: Some(&offer.kind),
            body: &offer.body,
        }
    }

    fn of(leg: u8, exchange: Exchange, message: &Message<'m>) -> Self {
        Self {
            leg,
            exchange,
            kind: message.value(HeaderName::ContentType),
            body: message.body(),
        }
    }

    /// The same with another body and its type.
    pub fn with(self, kind: &'m [u8], body: &'m [u8]) -> Self {
        Self {
            kind: Some(kind),
            body,
            ..self
        }
    }

    fn end(&self) -> End {
        match self.leg == CALLER {
            true => End::Caller,
            false => End::Callee,
        }
    }

    /// The body with the ports of a relay in its `part` that is the description.
    fn rewritten(
        self,
        id: MediaId,
        part: Range<usize>,
        streams: &[Stream],
        context: &mut Context<'_>,
    ) -> Cow<'m, [u8]> {
        let of = |range: Option<&'m [u8]>| range.unwrap_or_default();
        let mut body = of(self.body.get(..part.start)).to_vec();
        let description = (of(self.body.get(part.clone())), streams);
        (context.media).rewrite(id, self.end(), description, &mut body, context.out);
        body.extend_from_slice(of(self.body.get(part.end..)));
        Cow::Owned(body)
    }
}

impl Call {
    /// What the leg across sees of a body, `branch` being the callee's.
    ///
    /// # Errors
    /// It must be relayed, and there are not ports enough, or it is an offer that cannot be read.
    pub(super) fn passes<'m>(
        &mut self,
        branch: u8,
        said: Said<'m>,
        context: &mut Context<'_>,
    ) -> Result<Cow<'m, [u8]>, Unfit> {
        let as_it_is = Ok(Cow::Borrowed(said.body));
        if said.body.is_empty() {
            self.awaits_offer(branch, said, context)?;
            return as_it_is;
        }
        let part = said.kind.and_then(|kind| sdp::part(kind, said.body));
        let Some(part) = part else { return as_it_is };
        let Some(description) = said.body.get(part.clone()) else {
            return as_it_is;
        };
        let read = sdp::read(description);
        self.sees_nat(said.leg, read.as_deref().unwrap_or_default(), context);
        let streams = match (read, said.exchange) {
            (Ok(streams), _) => streams,
            (Err(_), Exchange::Offer) => {
                let is_needed = || self.needs_relay(branch, &[], said.end(), context);
                return if self.has_relay(branch) || is_needed().is_some() {
                    Err(Unfit::Unreadable)
                } else {
                    as_it_is
                };
            }
            // Whoever gets it knows no more of it than we do.
            (Err(_), Exchange::Preview) => return as_it_is,
            (Err(_), Exchange::Answer) => {
                self.end_relay(branch, context);
                return as_it_is;
            }
        };
        if said.exchange == Exchange::Offer {
            self.begins_relay(branch, &streams, said.end(), context);
        }
        let Some(id) = self.relay_of(branch) else {
            return as_it_is;
        };
        let host = self
            .leg(said.leg)
            .map(|leg| leg.dialog.flow.remote.ip().to_canonical());
        let Some(host) = host else { return as_it_is };
        let who = (said.end(), host);
        let now = context.now.mono;
        (context.media).describe(now, id, who, &streams, said.exchange, context.out)?;
        // Not before: what another fork has refused this one may have taken.
        if self.state == State::Answered {
            context.media.answered(id, context.out);
        }
        Ok(said.rewritten(id, part, &streams, context))
    }

    /// The same where it is too late to refuse: what cannot be relayed is not.
    pub(super) fn passes_anyway<'m>(
        &mut self,
        branch: u8,
        said: Said<'m>,
        context: &mut Context<'_>,
    ) -> Cow<'m, [u8]> {
        self.passes(branch, said, context).unwrap_or_else(|_unfit| {
            self.end_relay(branch, context);
            Cow::Borrowed(said.body)
        })
    }

    /// What the leg across is shown of a body that passed before, be it for the same branch.
    pub(super) fn passed<'m>(
        &self,
        branch: u8,
        said: Said<'m>,
        context: &mut Context<'_>,
    ) -> Cow<'m, [u8]> {
        let as_it_is = Cow::Borrowed(said.body);
        let part = said.kind.and_then(|kind| sdp::part(kind, said.body));
        let (Some(id), Some(part)) = (self.relay_of(branch), part) else {
            return as_it_is;
        };
        let description = said.body.get(part.clone()).unwrap_or_default();
        let Ok(streams) = sdp::read(description) else {
            return as_it_is;
        };
        said.rewritten(id, part, &streams, context)
    }

    /// A phone may say where it is in its descriptions alone: its NAT writes everything else anew. Who called it has been
    /// answered then; the next call is relayed.
    fn sees_nat(&mut self, leg: u8, streams: &[Stream], context: &mut Context<'_>) {
        let Some(leg) = self.leg_mut(leg) else { return };
        if leg.is_behind_nat || !context.media.shows_nat(&leg.place(), streams) {
            return;
        }
        if let Party::User(user, _) = leg.party {
            leg.is_behind_nat = true;
            context.media.found_behind_nat(user, leg.dialog.flow);
        }
    }

    /// An INVITE without an offer: if its media would be relayed, ports are kept for the one that comes.
    fn awaits_offer(
        &mut self,
        branch: u8,
        said: Said<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Unfit> {
        let is_first = self.state == State::Ringing && said.leg == CALLER;
        if !is_first || said.exchange != Exchange::Offer {
            return Ok(());
        }
        self.begins_relay(branch, &[], End::Caller, context);
        match self.relay_of(branch) {
            Some(id) => Ok(context.media.reserve_one(id)?),
            None => Ok(()),
        }
    }

    fn begins_relay(&mut self, branch: u8, offer: &[Stream], from: End, context: &mut Context<'_>) {
        if self.has_relay(branch) {
            return;
        }
        let Some(places) = self.needs_relay(branch, offer, from, context) else {
            return;
        };
        let now = context.now.mono;
        let is_open = places.iter().all(|place| place.trust != Trust::Owed);
        let id = context.media.begin(now, places, is_open);
        if let (State::Ringing, Party::User(_, name)) = (self.state, &self.caller.party) {
            context.media.rings_for(id, name);
        }
        self.set_relay(branch, Some(id));
    }

    /// Where the caller and this branch are, if what passes between them must be relayed.
    fn needs_relay(
        &self,
        branch: u8,
        offer: &[Stream],
        from: End,
        context: &Context<'_>,
    ) -> Option<[Place; 2]> {
        let places = [self.leg(CALLER)?.place(), self.leg(branch)?.place()];
        (context.media.is_needed(&places, offer, from)).then_some(places)
    }

    /// The call is answered, be it that the description had come before.
    pub(super) fn settles_media(&self, context: &mut Context<'_>) {
        if let Some(id) = self.relay_of(self.winner) {
            context.media.answered(id, context.out);
        }
    }

    /// Callees behind one INVITE share it.
    fn set_relay(&mut self, branch: u8, id: Option<MediaId>) {
        let client = self
            .branches
            .get(branch as usize)
            .map(|branch| branch.client);
        for branch in &mut self.branches {
            if Some(branch.client) == client {
                branch.media = id;
            }
        }
    }

    pub(super) fn end_relay(&mut self, branch: u8, context: &mut Context<'_>) {
        if let Some(id) = self.relay_of(branch) {
            context.media.end(id, context.out);
            for branch in &mut self.branches {
                branch.media = branch.media.filter(|own| *own != id);
            }
        }
    }

    /// Whether media to and from this branch is relayed.
    pub(super) fn has_relay(&self, branch: u8) -> bool {
        self.relay_of(branch).is_some()
    }

    fn relay_of(&self, branch: u8) -> Option<MediaId> {
        self.branches.get(branch as usize)?.media
    }

    /// The offer of a relayed request is refused.
    pub(super) fn withdraws(&self, relay: &Relay, context: &mut Context<'_>) {
        let branch = if relay.from == CALLER {
            relay.to
        } else {
            relay.from
        };
        if relay.has_offer {
            self.offer_is_refused(branch, context);
        }
    }

    /// The same of an offer that passed to or from this branch, and went no further or was refused.
    pub(super) fn offer_is_refused(&self, branch: u8, context: &mut Context<'_>) {
        if let Some(id) = self.relay_of(branch) {
            context.media.withdraw(id);
        }
    }

    /// The peer of a leg answers a refresh of ours: the same description as before, or where he is now.
    pub(super) fn hears_again(&mut self, leg: u8, answer: &Message<'_>, context: &mut Context<'_>) {
        let branch = if leg == CALLER { self.winner } else { leg };
        let said = Said::answer(leg, answer);
        if !said.body.is_empty() {
            let _shown_to_nobody = self.passes_anyway(branch, said, context);
        }
    }

    /// Whoever has this leg has acknowledged: he receives what we send him.
    pub(super) fn is_proven(&mut self, leg: u8, context: &mut Context<'_>) {
        if let Some(leg) = self.leg_mut(leg)
            && std::mem::replace(&mut leg.trust, Trust::Whole) != Trust::Whole
        {
            self.open_media(context);
        }
    }

    /// Media flows between those who both are there.
    pub(super) fn open_media(&self, context: &mut Context<'_>) {
        let is_proven = |leg: &Leg| leg.trust == Trust::Whole;
        for branch in (self.branches.iter()).filter(|branch| is_proven(&branch.leg)) {
            if let Some(id) = branch.media.filter(|_| is_proven(&self.caller)) {
                context.media.open(context.now.mono, id);
            }
        }
    }
}

impl Calls {
    /// Gives back the ports of branches that are over.
    pub(super) fn release_media(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        for index in 0..call.branches.len() {
            let Some(id) = call.branches[index].media else {
                continue;
            };
            let is_needed = |(place, branch): (usize, &Branch)| {
                branch.media == Some(id)
                    && match call.state {
                        // The answer of one that was left may cross its CANCEL, and wins the call then.
                        State::Ringing => branch.status.is_none() || branch.is_left,
                        State::Answered => place == call.winner as usize,
                        State::Ending => false,
                    }
            };
            if !call.branches.iter().enumerate().any(is_needed) {
                call.end_relay(index as u8, context);
            }
        }
    }

    /// What the branches ring with is described to somebody else from now on: nothing of it holds any more.
    pub(super) fn end_media(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        for leg in 0..call.branches.len() {
            call.end_relay(leg as u8, context);
        }
    }

    /// The INVITE of a branch has come to its end while others ring, or are about to.
    pub(super) fn branch_needs_no_media(&mut self, owner: Owner, context: &mut Context<'_>) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        let id = call.relay_of(owner.leg);
        let may_answer =
            |branch: &Branch| branch.media == id && branch.status.is_none_or(|status| status < 300);
        if !call.branches.iter().any(may_answer) {
            call.end_relay(owner.leg, context);
        }
    }

    /// The audio of an answered call is watched from now on, if it is relayed.
    pub(super) fn listen(&mut self, handle: CallHandle, context: &Context<'_>) {
        let Some(timeout) = context.media.timeout() else {
            return;
        };
        let Some(call) = self.get(handle) else { return };
        let is_relayed = call.state == State::Answered && call.relay_of(call.winner).is_some();
        if is_relayed && !std::mem::replace(&mut call.is_listened_to, true) {
            self.arm(context.now.mono.plus(timeout), Timer::Audio(handle));
        }
    }

    /// It is time to ask whether there is any audio.
    pub(super) fn listened(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        let now = context.now.mono;
        let Some(call) = self.get(handle) else { return };
        call.is_listened_to = false;
        if call.state != State::Answered {
            return;
        }
        let silent_at = (call.relay_of(call.winner)).and_then(|id| context.media.silent_at(id));
        match silent_at {
            Some(at) if at <= now => {
                self.end_call(handle, EndedBy::Server, NO_AUDIO, context);
                self.sweep(handle);
            }
            Some(at) => {
                call.is_listened_to = true;
                self.arm(at, Timer::Audio(handle));
            }
            None => self.listen(handle, context),
        }
    }

    /// The ports of a stream could not be opened. While it rings its branch fails; afterwards the call ends, unless it has
    /// another stream that goes on.
    pub fn media_failed(&mut self, id: MediaId, goes_on: bool, context: &mut Context<'_>) {
        let place = |call: &Call| (call.branches.iter()).position(|own| own.media == Some(id));
        let mut calls = self.slots.iter();
        let found = calls.find_map(|(index, call)| Some((call.handle(index as u32), place(call)?)));
        let Some((handle, leg)) = found else { return };
        let Some(call) = self.get(handle) else { return };
        let Some(branch) = call.branches.get(leg) else {
            return;
        };
        if call.state != State::Ringing || call.transfer.is_some() {
            if !goes_on {
                self.hang_up(handle, 503, NO_PORT, context);
            }
            return;
        }
        let (now, client) = (context.now.mono, branch.client);
        (context.transactions).cancel(now, client, NO_PORT, context.out);
        let owner = Owner {
            call: handle,
            leg: leg as u8,
            purpose: Purpose::Invite,
        };
        call.end_relay(leg as u8, context);
        self.branch_ends(owner, 503, EndedBy::Server, context);
    }

    /// A new configuration: calls may have a time without audio now.
    pub fn listen_to_all(&mut self, context: &Context<'_>) {
        for handle in self.all() {
            self.listen(handle, context);
        }
    }
}

impl Leg {
    fn place(&self) -> Place {
        let flow = &self.dialog.flow;
        Place {
            host: flow.remote.ip().to_canonical(),
            local: flow.local.ip(),
            shown: self.dialog.ours.ip(),
            scope: match flow.local {
                SocketAddr::V6(v6) => v6.scope_id(),
                SocketAddr::V4(_) => 0,
            },
            is_behind_nat: self.is_behind_nat,
            trust: self.trust,
        }
    }
}

/// Whether whoever sent a request is behind a NAT: he writes another address of his than the one that it came from, into
/// his Via, or if nobody stands between into his Contact.
pub fn is_behind_nat(request: &Message<'_>, flow: &Flow) -> bool {
    let source = flow.remote.ip().to_canonical();
    if (request.via().address).is_some_and(|address| address != source) {
        return true;
    }
    let contact = request.first_contact();
    let address = contact.and_then(|contact| contact.uri.host.address());
    let is_other = |address| address != source && crate::media::is_private(address);
    address.is_some_and(is_other) && request.values(HeaderName::RecordRoute).next().is_none()
}
