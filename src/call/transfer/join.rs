//! Two legs that have not spoken with each other yet are joined: an offer of one, the answer of the other (RFC 3264,
//! RFC 3725 §4.1).
//!
//! ```text
//!   the leg of the target            the other leg
//!   200 (offer)     ──────────────▶  re-INVITE (offer)
//!   ACK (answer)    ◀──────────────  200 (answer) / ACK          a target that was rung without an offer
//!
//!   re-INVITE (none) / 200 (offer)   re-INVITE (offer)
//!   ACK (answer)    ◀──────────────  200 (answer) / ACK          two that have answered somebody else
//! ```
//!
//! What either side offers is fresh: no description of a call that is over, no direction of a hold that is, goes on into the
//! new one, and whether their media is relayed is decided anew (`media`). Both sides are people who talk already, so nobody waits for long. While it goes on a re-INVITE of either side gets
//! 491, and one of ours that meets theirs (491) is sent again. If one does not take the offer there is no call.

use super::*;
use crate::call::media::{NO_MEDIA, Said};
use crate::call::session::{Description, Refresh};
use crate::message::Message;

/// How long two sides are tried to be joined: as long as a 2xx waits for its ACK.
pub(in crate::call) const JOIN_MAX: Duration = crate::limits::T1_64;
/// How long one waits for something else on the leg to come to its end.
pub(in crate::call) const BUSY: Duration = Duration::from_millis(500);

/// The exchange as far as it has come.
#[derive(Clone, Debug)]
pub(in crate::call) struct Join {
    /// Whose offer it is, and what.
    offer: Option<(u8, Description)>,
    /// Who is asked for one first.
    first: u8,
    /// A re-INVITE is under way.
    is_asking: bool,
    until: Instant,
}

impl Calls {
    /// Joins both legs of an answered call; `offer`: one has brought his already, and waits for the ACK with the answer.
    pub(in crate::call) fn join(
        &mut self,
        handle: CallHandle,
        offer: Option<(u8, Description)>,
        context: &mut Context<'_>,
    ) {
        if let Some(call) = self.get(handle) {
            if offer.is_none() {
                // Whatever either side has described was for somebody else.
                call.end_relay(call.winner, context);
            }
            call.join = Some(Box::new(Join {
                offer,
                first: CALLER,
                is_asking: false,
                until: context.now.mono.plus(JOIN_MAX),
            }));
        }
        self.join_on(handle, context);
    }

    /// The next re-INVITE, now or as soon as its leg is free.
    pub(in crate::call) fn join_on(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        let Some(call) = self
            .get(handle)
            .filter(|call| call.state == State::Answered)
        else {
            return;
        };
        let own_s = call.session_s;
        let Some(join) = call.join.take_if(|join| !join.is_asking) else {
            return;
        };
        if context.now.mono >= join.until {
            return self.cannot_join(handle, context);
        }
        let asked = match &join.offer {
            Some((from, _)) => call.other(*from),
            None => join.first,
        };
        let offer = join.offer.clone();
        call.join = Some(join);
        let is_free = |leg: &&mut Leg| {
            leg.unacknowledged.is_none() && leg.ack_owed.is_none() && leg.watch.refresh.is_none()
        };
        let leg = call.leg_mut(asked).filter(is_free);
        let reserved = leg.and_then(|_| context.transactions.reserve());
        let Some((client, branch)) = reserved else {
            let at = context.now.mono.plus(BUSY);
            return self.arm(at, Timer::Join(handle));
        };
        let offer = match &offer {
            Some((from, offer)) => {
                match call.passes(call.winner, Said::kept(*from, offer), context) {
                    Ok(body) => Some((&*offer.kind, body)),
                    Err(unfit) => {
                        context.transactions.release(client);
                        return self.end_joined(handle, unfit.reason(), context);
                    }
                }
            }
            None => None,
        };
        let Some(leg) = call.leg_mut(asked) else {
            return;
        };
        leg.reconnect(context);
        let cseq = leg.dialog.next_cseq();
        let dialog = &leg.dialog;
        let mut composer = dialog.compose(context.buffer, Method::Invite, cseq, branch.as_bytes());
        dialog.write_contact(&mut composer);
        composer.field("Allow", &[carriage::ALLOW]);
        leg.watch.write_refresh(&mut composer, own_s);
        match &offer {
            Some((kind, body)) => composer.finish(Some(kind), body),
            None => composer.finish(None, b""),
        }
        leg.watch.refreshing(Refresh {
            client,
            method: Method::Invite,
            cseq,
        });
        if let Some((kind, body)) = &offer {
            leg.watch.offering(Some(kind), body);
        }
        let owner = Owner {
            call: handle,
            leg: asked,
            purpose: Purpose::Refresh,
        };
        leg.send(client, Method::Invite, owner, context);
        call.waiting += 1;
        if let Some(join) = &mut call.join {
            join.is_asking = true;
        }
        self.listen(handle, context);
    }

    /// A 2xx to a re-INVITE of ours on this leg: whether it is one that joins. Its ACK may have to wait.
    pub(in crate::call) fn join_answered(
        &mut self,
        owner: Owner,
        response: &Message<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        let Some(call) = self.get(owner.call) else {
            return false;
        };
        let session_s = call.session_s;
        let Some(mut join) = call.join.take_if(|join| join.is_asking) else {
            return false;
        };
        let cseq = response.cseq().number;
        let branch = call.winner;
        join.is_asking = false;
        match (join.offer.take(), Description::of(response)) {
            (None, Some(offer)) => {
                let other = call.other(owner.leg);
                let waits = call.leg(other).is_some_and(|leg| leg.answering.is_some());
                if let Some(leg) = call.leg_mut(owner.leg) {
                    leg.ack_owed = Some(cseq);
                }
                if waits {
                    // The INVITE that has picked up has no offer: this one's goes into its 2xx, the answer comes in its ACK.
                    let said = Said::kept(owner.leg, &offer);
                    let body = call.passes_anyway(branch, said, context);
                    if let Some(other) = call.leg_mut(other) {
                        other.takes_description(&offer.kind, &body, session_s, context);
                    }
                    self.listen(owner.call, context);
                    return true;
                }
                join.offer = Some((owner.leg, offer));
                call.join = Some(join);
            }
            (Some((from, _)), Some(answer)) => {
                let body = call.passes_anyway(branch, Said::answer(owner.leg, response), context);
                if let Some(leg) = call.leg_mut(owner.leg) {
                    leg.send_ack(cseq, None, context);
                }
                if let Some(other) = call.leg_mut(from) {
                    other.takes_description(&answer.kind, &body, session_s, context);
                }
            }
            // Neither offer nor answer.
            _ => {
                if let Some(leg) = call.leg_mut(owner.leg) {
                    leg.send_ack(cseq, None, context);
                }
                join.until = context.now.mono;
                call.join = Some(join);
            }
        }
        true
    }

    /// The re-INVITE that joins has come to its end with this status.
    pub(in crate::call) fn join_ends(
        &mut self,
        owner: Owner,
        status: u16,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        if call.state != State::Answered || call.join.is_none() {
            return;
        }
        let began_there = call.leg(owner.leg).is_some_and(Leg::began_there);
        if status >= 300 {
            call.offer_is_refused(call.winner, context);
        }
        let Some(join) = call.join.as_mut() else {
            return;
        };
        join.is_asking = false;
        match status {
            200..=299 => self.join_on(owner.call, context),
            // With a longer interval.
            422 => {
                let at = context.now.mono.plus(BUSY);
                self.arm(at, Timer::Join(owner.call));
            }
            491 => {
                // RFC 3261 §14.1: 2.1 to 4 s for whoever chose the Call-ID, up to 2 s for the other.
                let steps = context.tokens.next_u64();
                let wait_ms = match began_there {
                    true => steps % 201 * 10,
                    false => 2_100 + steps % 191 * 10,
                };
                let at = context.now.mono.plus(Duration::from_millis(wait_ms));
                self.arm(at, Timer::Join(owner.call));
            }
            408 | 481 => self.peer_is_gone(owner, status == 481, context),
            // There are phones that cannot be asked for an offer.
            _ if join.offer.is_none() && join.first == CALLER => {
                join.first = call.winner;
                self.join_on(owner.call, context);
            }
            _ => self.cannot_join(owner.call, context),
        }
    }

    fn cannot_join(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        self.end_joined(handle, NO_MEDIA, context);
    }

    fn end_joined(&mut self, handle: CallHandle, reason: &[u8], context: &mut Context<'_>) {
        self.end_call(handle, EndedBy::Server, reason, context);
        self.sweep(handle);
    }
}
