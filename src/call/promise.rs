//! What is done for a caller only when he has shown that he is there.
//!
//! Who is known by nothing but the address of a datagram may be somebody else who forges it. So for his INVITE alone nothing is
//! done that lasts, and nothing that others notice: it is answered, with a session in which nobody sends. The tag of that 2xx
//! goes to him and to nobody else, so whoever acknowledges it is he, and then it is done. A phone that dials a feature code
//! sees no difference; one that picks a call up is asked for its offer once more.
//!
//! ```text
//!   D: INVITE / 200 (nobody sends), ACK
//!                             A: 200 (nobody sends), ACK
//!                             the others: CANCEL, "Call completed elsewhere"
//!                             A: re-INVITE (none) / 200 (offer)
//!   D: re-INVITE (offer) / 200 (answer), ACK
//!                             A: ACK (answer)
//! ```
//!
//! So does a call wait to be picked up whose caller has yet to acknowledge a reliable response with SDP (RFC 3262 §3): his 2xx
//! may not overtake that.

use super::transfer::{BUSY, JOIN_MAX};
use super::*;
use crate::message::compose::reason_phrase;

/// On a call that has been answered to see whether its caller is there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Promise {
    /// When it is waited for no longer that what he wants can be done; `None`: he has not been heard.
    until: Option<Instant>,
}

/// A caller who has shown that he is there, and what he wants.
#[derive(Debug)]
pub struct Heard {
    /// His call.
    pub call: CallHandle,
    /// He.
    pub caller: Party,
    /// The number that he has dialled.
    pub dialled: String,
    /// His INVITE.
    pub request: Box<[u8]>,
}

impl Calls {
    /// Answers a call; what it is for is to be done when the answer is acknowledged ([`Calls::next_heard`]).
    pub fn promise(&mut self, setup: Setup<'_>, context: &mut Context<'_>) {
        let handle = self.answer_silently(setup, context);
        if let Some(call) = self.get(handle) {
            call.promise = Some(Promise::default());
        }
    }

    /// The next call of which it is known that its caller is there. To be followed by [`Calls::is_done`],
    /// [`Calls::pick_up_heard`] or [`Calls::cannot_be_done`].
    pub fn next_heard(&mut self) -> Option<Heard> {
        while let Some(handle) = self.heard.pop_front() {
            let is_open = |call: &&mut Call| call.state == State::Answered;
            if let Some(call) = self.get(handle).filter(is_open)
                && let Some(kept) = (call.invitation.as_ref()).filter(|_| call.promise.is_some())
            {
                return Some(Heard {
                    call: handle,
                    caller: call.caller.party.clone(),
                    dialled: call.record.dialled.clone(),
                    request: kept.request.clone(),
                });
            }
        }
        None
    }

    /// What the call is for cannot be done: its caller hears why.
    pub fn cannot_be_done(&mut self, own: CallHandle, status: u16, context: &mut Context<'_>) {
        let phrase = reason_phrase(status);
        let reason = format!("SIP;cause={status};text=\"{phrase}\"");
        self.end_leg(own, CALLER, reason.as_bytes(), context);
        let disposition = ending::disposition(status);
        self.finish(own, status, disposition, EndedBy::Server, context);
        self.sweep(own);
    }

    /// The caller of `own` takes a call that rings: his leg goes on in it.
    pub fn pick_up_heard(&mut self, own: CallHandle, ringing: Ringing, context: &mut Context<'_>) {
        let now = context.now.mono;
        let call = self.get(ringing.call()).filter(|call| call.can_be_taken());
        let Some(call) = call else {
            return self.cannot_be_done(own, 480, context);
        };
        let Some(answer) = call.first_answer(None, context.now.unix.as_millis()) else {
            return self.cannot_be_done(own, 488, context);
        };
        let owner = Owner {
            call: ringing.call(),
            leg: call.branches.len() as u8,
            purpose: Purpose::Pickup,
        };
        if call.awaits_prack() {
            let promise = self.get(own).and_then(|own| own.promise);
            let until = promise.and_then(|promise| promise.until);
            return match until.is_some_and(|until| now < until) {
                true => self.arm(now.plus(BUSY), Timer::Confirmed(own)),
                false => self.cannot_be_done(own, 480, context),
            };
        }
        self.finish_relays(own, context);
        let Some(leg) = self.take_leg(own, CALLER, (owner.call, owner.leg)) else {
            return;
        };
        let is_counted = (self.get(owner.call)).is_some_and(|call| call.counts(&leg.party));
        if !is_counted {
            self.count_over(own, CALLER, owner.call);
        }
        self.dissolve(own);
        self.taken_by(ringing, leg, context);
        self.answer_picked_up(owner, &answer, None, context);
        self.is_picked_up(owner.call, context);
    }

    /// A call whose only leg goes on in another one: that is the call, with its record.
    fn dissolve(&mut self, handle: CallHandle) {
        self.touch(handle);
        let Some(call) = self.get(handle) else { return };
        call.state = State::Ending;
        (call.invitation, call.promise) = (None, None);
        let counted = std::mem::take(&mut call.counted);
        self.live -= 1;
        self.count_out(handle, counted);
        self.ended.push_back(handle);
        self.sweep(handle);
    }
}

impl Call {
    /// The caller has acknowledged our answer; whether that is what was waited for.
    pub(super) fn is_heard(&mut self, now: Instant) -> bool {
        let Some(promise) = &mut self.promise else {
            return false;
        };
        promise.until.get_or_insert(now.plus(JOIN_MAX));
        true
    }
}
