//! How calls end: BYE, CANCEL, refusals, ring timeout, a far end that is gone; and the record (RFC 3261 §9, §15).

use super::*;
use crate::limits::{CALL_REASON_BYTES_MAX, CARRIED_BYTES_MAX};
use crate::message::compose::Composer;
use crate::message::{HeaderName, printable};
use crate::source::Sink;
use crate::transaction::Expired;

/// When a ring timeout that came while the call was about to go on is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Calls {
    /// The caller's INVITE gets its refusal, and the record is written. Branches that still ring are the caller's (of this
    /// function) to cancel.
    pub(super) fn refuse(
        &mut self,
        handle: CallHandle,
        status: u16,
        by: EndedBy,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(handle) else { return };
        if call.is_final {
            return;
        }
        call.is_final = true;
        if let Some(reason) = carriage::line(&call.refusal, b"Reason: ") {
            call.reason = reason.into();
        }
        call.provisionals.end();
        if call.transfer.is_none() {
            call.refuse_caller(handle, status, context);
        }
        let disposition = match (status, by) {
            // Nobody cancelled: the INVITE's own time was over.
            (487, EndedBy::Server) => "no_answer",
            _ => disposition(status),
        };
        self.finish(handle, status, disposition, by, context);
        self.transfer_fails(handle, status, context);
        self.finish_relays(handle, context);
        // Whoever has answered meanwhile gets ACK and BYE.
        self.release_success(handle, context);
        self.await_prack(handle, context);
    }

    /// Writes the record and counts the parties out; what still runs is only waited for.
    pub(super) fn finish(
        &mut self,
        handle: CallHandle,
        status: u16,
        disposition: &'static str,
        by: EndedBy,
        context: &mut Context<'_>,
    ) {
        self.touch(handle);
        let Some(call) = self.get(handle) else { return };
        if call.state == State::Ending {
            return;
        }
        call.state = State::Ending;
        self.release_media(handle, context);
        let Some(call) = self.get(handle) else { return };
        call.invitation = None;
        call.later.clear();
        call.hunt = None;
        let counted = std::mem::take(&mut call.counted);
        let record = Arc::make_mut(&mut call.record);
        record.end = Some(context.now.unix);
        record.disposition = disposition;
        record.status = Some(status);
        record.ended_by = Some(match by {
            EndedBy::Caller => "caller",
            EndedBy::Callee => "callee",
            EndedBy::Server => "server",
        });
        let reason = printable(&call.reason, CALL_REASON_BYTES_MAX);
        let millis = |since: Instant| context.now.mono.since(since).as_millis() as u64;
        record.duration_ms = Some(millis(call.started));
        record.talk_ms = Some(call.answered.map_or(0, millis));
        if !reason.is_empty() {
            record.reason = Some(reason);
        }
        context.call_event("end", CallStage::Ended, &call.record);
        keep_record(context, &call.record);
        self.live -= 1;
        self.count_out(handle, counted);
        self.ended.push_back(handle);
        self.forget_surplus(context);
    }

    /// RFC 3261 §9.2: the caller's CANCEL is answered with 200. The INVITE gets 487, every branch a CANCEL for the same
    /// reason (RFC 3326: a phone shows no missed call that was answered elsewhere); whoever answers all the same gets ACK
    /// and BYE.
    pub fn cancel(&mut self, owner: Owner, arrival: &Arrival<'_>, context: &mut Context<'_>) {
        if owner.purpose == Purpose::Pickup {
            return self.cancel_pickup(owner, arrival, context);
        }
        let of_call = Some(owner).filter(|owner| owner.purpose == Purpose::Invite);
        match of_call.and_then(|owner| self.get(owner.call)) {
            Some(call) => {
                // With the tag of the INVITE's own final response, be it sent already or the 487 that follows.
                let tag = call.caller_tag(owner.call.index, call.winner);
                arrival.answer_tagged(200, None, &tag, context);
            }
            None => arrival.answer(200, None, context),
        }
        let reason = arrival.request.value(HeaderName::Reason);
        let reason = reason.unwrap_or_default();
        if owner.purpose == Purpose::Relay {
            self.cancel_relay(owner, reason, context);
            return;
        }
        let Some(call) = self.get(owner.call) else {
            return;
        };
        if call.state != State::Ringing {
            return;
        }
        call.take_reason(reason);
        call.cancel_branches(reason, context);
        if arrival.flow.connection.is_some() {
            // A trunk's connection may have closed while it rang: it has made this one instead.
            call.redirect(CALLER, &arrival.flow, context);
        }
        self.refuse(owner.call, 487, EndedBy::Caller, context);
        self.sweep(owner.call);
    }

    /// Nobody answered in time: ours (480), or the INVITE's own (487, RFC 3261 §13.3.1).
    pub(super) fn ring_timeout(
        &mut self,
        handle: CallHandle,
        status: u16,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(handle) else { return };
        if call.state != State::Ringing || call.is_final {
            return;
        }
        let until = call.rings_until;
        if status == 480 && until > context.now.mono {
            // It has gone on to a line that gives it more time.
            return self.arm(until, Timer::RingTimeout(handle));
        }
        if status == 480 && call.asking > 0 {
            // It is about to go on: two of these timers may be due at once.
            return self.arm(
                context.now.mono.plus(LOOK_AGAIN),
                Timer::RingTimeout(handle),
            );
        }
        if status == 480 && self.rings_no_longer(handle) {
            return;
        }
        self.nobody_answers(handle, status, context);
    }

    /// The same, and there is nobody to go on to.
    pub(super) fn nobody_answers(
        &mut self,
        handle: CallHandle,
        status: u16,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(handle) else { return };
        call.cancel_branches(b"", context);
        self.refuse(handle, status, EndedBy::Server, context);
        self.sweep(handle);
    }

    /// Ends a call from our side: an administrator, a stop, a far end that is gone. `reason` is a Reason header's value.
    pub fn hang_up(
        &mut self,
        handle: CallHandle,
        status: u16,
        reason: &[u8],
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(handle) else { return };
        match call.state {
            State::Ringing => {
                call.cancel_branches(reason, context);
                self.refuse(handle, status, EndedBy::Server, context);
            }
            State::Answered => self.end_call(handle, EndedBy::Server, reason, context),
            State::Ending => {}
        }
        self.sweep(handle);
    }

    /// An answered call is over: BYE to every leg that is still up.
    pub(super) fn end_call(
        &mut self,
        handle: CallHandle,
        by: EndedBy,
        reason: &[u8],
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(handle) else { return };
        let winner = call.winner;
        call.join = None;
        call.cancel_refreshes(context);
        self.end_transfer(handle, by, reason, context);
        self.finish_relays(handle, context);
        self.end_leg(handle, CALLER, reason, context);
        self.end_leg(handle, winner, reason, context);
        // The record tells a far end that is gone from a call that somebody ended.
        let is_promised = self.get(handle).is_some_and(|call| call.promise.is_some());
        let (status, disposition) = match (by, cause(reason)) {
            // What it was for has not been done.
            (EndedBy::Server, _) if is_promised => (408, "failed"),
            _ if is_promised => (487, "cancelled"),
            (EndedBy::Server, Some(408)) => (408, "answered"),
            _ => (200, "answered"),
        };
        self.finish(handle, status, disposition, by, context);
    }

    /// BYE on one leg, now or as soon as the peer has acknowledged our 2xx.
    pub(super) fn end_leg(
        &mut self,
        handle: CallHandle,
        leg_index: u8,
        reason: &[u8],
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(handle) else { return };
        let Some(leg) = call.leg_mut(leg_index) else {
            return;
        };
        // An administrator's reason has the cause 200, which is no refusal.
        let refusal = cause(reason).filter(|status| *status >= 300).unwrap_or(487);
        if !leg.is_up || leg.refuse_answering(refusal, context) {
            return;
        }
        if let Some(cseq) = leg.ack_owed {
            // Nobody will bring an answer to the offer any more, but the 2xx must be acknowledged (§13.2.2.4).
            leg.send_ack(cseq, None, context);
        }
        if leg.unacknowledged.is_some() {
            leg.bye_after_ack = Some(reason.into());
            return;
        }
        leg.is_up = false;
        leg.bye_after_ack = None;
        leg.reconnect(context);
        let cseq = leg.dialog.next_cseq();
        let owner = Owner {
            call: handle,
            leg: leg_index,
            purpose: Purpose::Bye,
        };
        let farewell = std::mem::take(&mut leg.farewell);
        let is_awaited = context.say_bye(&leg.dialog, cseq, owner, |composer| {
            composer.lines(&farewell);
            if !reason.is_empty() {
                composer.field("Reason", &[reason]);
            }
        });
        call.waiting += u32::from(is_awaited.is_some());
    }

    /// A BYE or probe of ours has its answer.
    pub(super) fn own_request_ends(
        &mut self,
        owner: Owner,
        status: u16,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        call.waiting = call.waiting.saturating_sub(1);
        if let Some(leg) = call.leg_mut(owner.leg) {
            leg.lost = None;
            leg.is_probed &= owner.purpose != Purpose::Probe;
        }
        // RFC 5057: these two say that the peer has no such dialog, or is no more.
        if owner.purpose == Purpose::Probe && matches!(status, 408 | 481) {
            self.peer_is_gone(owner, status == 481, context);
        }
        self.sweep(owner.call);
    }

    /// A probe had no connection to go on. Its peer is waited for until the next one.
    fn out_of_reach(&mut self, owner: Owner, context: &mut Context<'_>) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        call.waiting = call.waiting.saturating_sub(1);
        let now = context.now.mono;
        let since = call.leg_mut(owner.leg).map(|leg| {
            leg.is_probed = false;
            *leg.lost.get_or_insert(now)
        });
        if since.is_some_and(|since| now.since(since) >= RETURN_TIME) {
            self.peer_is_gone(owner, false, context);
        }
        self.sweep(owner.call);
    }

    /// The peer of a leg has forgotten the dialog, or answers nothing: the call ends. Only one that has forgotten gets no
    /// BYE; one that merely does not answer may still be there.
    pub(super) fn peer_is_gone(
        &mut self,
        owner: Owner,
        has_forgotten: bool,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        if call.state != State::Answered {
            return;
        }
        // Who has not acknowledged our 2xx may not have seen it: it has not forgotten the dialog, it does not know of it yet.
        if has_forgotten
            && let Some(leg) = call.leg_mut(owner.leg)
            && leg.unacknowledged.is_none()
        {
            leg.is_up = false;
        }
        if self.transferor_leaves(owner.call, owner.leg, context) {
            return self.end_leg(owner.call, owner.leg, b"", context);
        }
        self.end_call(
            owner.call,
            EndedBy::Server,
            b"SIP;cause=408;text=\"Peer is gone\"",
            context,
        );
    }

    /// What the transaction layer gave up on.
    pub fn expired(&mut self, expired: Expired<Owner>, context: &mut Context<'_>) {
        let owner = self.resolved(expired.owner());
        match expired.of(owner) {
            Expired::Timeout { id, owner } => self.unanswered(id, owner, 408, context),
            // The connection is gone: an offline phone, not a broken server.
            Expired::TransportFailed { id, owner } => self.unanswered(id, owner, 480, context),
            Expired::NotAcknowledged { id, owner } => self.not_acknowledged(id, owner, context),
            Expired::ProvisionalNotAcknowledged { owner, .. } => {
                self.provisional_not_acknowledged(owner, context);
            }
        }
    }

    /// A phone that cannot be reached is offline; a trunk is broken.
    fn unreachable_status(&mut self, owner: Owner, status: u16) -> u16 {
        let leg = self.get(owner.call).and_then(|call| call.leg(owner.leg));
        match leg {
            Some(leg) if leg.party.is_outside() && status == 480 => 503,
            _ => status,
        }
    }

    fn unanswered(&mut self, id: ClientId, owner: Owner, status: u16, context: &mut Context<'_>) {
        match owner.purpose {
            Purpose::Invite => {
                let status = self.unreachable_status(owner, status);
                if self.fails_over(owner, status, EndedBy::Server) {
                    return;
                }
                self.branch_ends(owner, status, EndedBy::Server, context);
            }
            Purpose::Relay => self.relay_unanswered(id, owner, status, context),
            Purpose::Probe if status != 408 => self.out_of_reach(owner, context),
            Purpose::Bye | Purpose::Probe => self.own_request_ends(owner, status, context),
            Purpose::Refresh => self.refresh_ends(owner, status, context),
            Purpose::Notify => self.told(owner, status, context),
            Purpose::Stray | Purpose::Pickup => {}
        }
    }

    /// Our 2xx was never acknowledged (§13.3.1.4): the dialog is ended.
    fn not_acknowledged(&mut self, id: ServerId, owner: Owner, context: &mut Context<'_>) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        let other = call.other(owner.leg);
        let Some(leg) = call.leg_mut(owner.leg) else {
            return;
        };
        if leg.unacknowledged.is_none_or(|(server, _)| server != id) {
            return;
        }
        leg.unacknowledged = None;
        let reason = leg.bye_after_ack.take().unwrap_or_default();
        if call.state == State::Answered {
            self.end_call(
                owner.call,
                EndedBy::Server,
                b"SIP;cause=408;text=\"No ACK\"",
                context,
            );
        } else {
            self.end_leg(owner.call, owner.leg, &reason, context);
            self.end_leg(owner.call, other, b"", context);
        }
        self.sweep(owner.call);
    }
}

impl Call {
    /// Why it ends, as whoever ends it says (RFC 3326).
    pub(super) fn take_reason(&mut self, reason: &[u8]) {
        if !reason.is_empty() && reason.len() <= CARRIED_BYTES_MAX {
            self.reason = reason.into();
        }
    }
}

impl Context<'_> {
    /// Sends a BYE. `None`: no transaction was free, so it went out once, and nothing repeats it; better than that the peer
    /// hears nothing.
    pub(super) fn say_bye(
        &mut self,
        dialog: &Dialog,
        cseq: u32,
        owner: Owner,
        lines: impl FnOnce(&mut Composer<'_>),
    ) -> Option<ClientId> {
        let reserved = self.transactions.reserve();
        let stateless;
        let branch = match &reserved {
            Some((_, branch)) => branch.as_bytes(),
            None => {
                stateless = self.stateless_branch();
                &stateless
            }
        };
        let mut composer = dialog.compose(self.buffer, Method::Bye, cseq, branch);
        lines(&mut composer);
        composer.finish(None, b"");
        let (now, flow, bytes) = (self.now.mono, &dialog.flow, &*self.buffer);
        match reserved {
            Some((client, _)) => {
                (self.transactions).send(now, client, Method::Bye, flow, bytes, owner, self.out);
                Some(client)
            }
            None => {
                Sink::send(self.out, flow, bytes);
                None
            }
        }
    }
}

impl Call {
    /// The final response to the caller's INVITE, if it is a refusal.
    fn refuse_caller(&self, handle: CallHandle, status: u16, context: &mut Context<'_>) {
        let tag = self.caller_tag(handle.index, NO_BRANCH);
        let mut composer = self.request.response(context.buffer, status, &tag);
        if status == 503 {
            composer.number("Retry-After", RETRY_AFTER_S);
        }
        composer.lines(&self.refusal).field("Server", &[b"sipkeep"]);
        composer.finish(None, b"");
        context.respond(self.invite, status, &self.request);
    }
}

/// Seconds after which a caller that was turned away may try again.
pub const RETRY_AFTER_S: u64 = 10;

/// The cause in a Reason header's value of our own (RFC 3326).
fn cause(reason: &[u8]) -> Option<u16> {
    let params = reason.strip_prefix(b"SIP")?;
    let cause = crate::message::Params(params).get("cause")?;
    std::str::from_utf8(cause).ok()?.parse().ok()
}

/// What a final status means for the record.
pub(super) fn disposition(status: u16) -> &'static str {
    match status {
        486 | 600 => "busy",
        408 | 480 => "no_answer",
        487 => "cancelled",
        403 | 603 => "rejected",
        _ => "failed",
    }
}
