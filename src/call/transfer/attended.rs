//! A transfer to somebody whom the transferor has called himself before (RFC 5589 §7): both far ends are joined here.
//!
//! Answered or still ringing, the consultation is a call of ours as well, so its other end is taken over as it is. It must
//! be one of the same user: whoever knows the tags of somebody else's call has it transferred by nobody.

use super::*;
use crate::message::HeaderName;
use crate::transaction::ClientId;

impl Calls {
    /// A REFER with Replaces.
    pub(super) fn transfer_to_dialog(
        &mut self,
        located: Located,
        replaces: &Replaces,
        context: &mut Context<'_>,
    ) {
        match self.consultation(located, replaces) {
            Ok((other, leg, State::Answered)) => self.join_calls(located, (other, leg), context),
            Ok((other, ..)) => self.take_ringing(located, other, context),
            Err(status) => self.tell(located.call, status, context),
        }
    }

    /// The call that the transferor has with the target, his leg of it and how far it is; or why there is none.
    fn consultation(
        &mut self,
        located: Located,
        replaces: &Replaces,
    ) -> Result<(CallHandle, u8, State), u16> {
        const NONE: u16 = 481;
        let (other, leg) = self.find_dialog(replaces).ok_or(NONE)?;
        let by = self
            .get(located.call)
            .and_then(|call| call.leg(located.leg));
        let by = by.map(|leg| leg.party.clone()).ok_or(NONE)?;
        let call = self.get(other).ok_or(NONE)?;
        let is_own = call.leg(leg).is_some_and(|leg| leg.party == by);
        if !is_own || other == located.call {
            return Err(NONE);
        }
        let is_up = |leg| call.leg(leg).is_some_and(|leg| leg.is_up);
        match call.state {
            // RFC 3891 §3.
            State::Answered if replaces.is_early_only => Err(486),
            State::Answered if !(is_up(leg) && is_up(call.other(leg))) => Err(NONE),
            State::Answered if call.referral.is_some() || call.join.is_some() => Err(491),
            State::Ringing if call.is_final || leg != CALLER || call.transfer.is_some() => {
                Err(NONE)
            }
            State::Ending => Err(NONE),
            state => Ok((other, leg, state)),
        }
    }

    /// The leg whose dialog a Replaces names. Whoever is asked writes his peer's tag first or his own, as he takes us for
    /// the one who has the dialog or for a proxy on the way to him: both must be right, and so it is clear which is ours.
    pub(in crate::call) fn find_dialog(&self, replaces: &Replaces) -> Option<(CallHandle, u8)> {
        let tags = [&replaces.to_tag, &replaces.from_tag];
        let orders = [tags, [tags[1], tags[0]]];
        orders.into_iter().find_map(|[own, other]| {
            let (call, tag) = self.of_tag(own)?;
            let is_it = |leg: &Leg| {
                leg.dialog.call_id == replaces.call_id && leg.dialog.remote_tag == *other
            };
            let leg = match tag.leg & CALLER {
                0 => {
                    let client = call.branches.get(tag.leg as usize)?.client;
                    let mut all = call.branches.iter();
                    let is_it = |own: &Branch| own.client == client && is_it(&own.leg);
                    u8::try_from(all.position(is_it)?).ok()?
                }
                _ => is_it(&call.caller).then_some(CALLER)?,
            };
            Some((call.handle(tag.index), leg))
        })
    }

    /// Both calls have been answered: their far ends are one call from now on.
    fn join_calls(
        &mut self,
        located: Located,
        (second, leg): (CallHandle, u8),
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(second) else { return };
        let far = call.other(leg);
        let dialled = call.recorded(far);
        let from = (located.call, located.leg);
        let Some((handle, _)) = self.begin_transfer(from, dialled, 70, context) else {
            return;
        };
        self.finish_relays(second, context);
        let Some(far_leg) = self.take_leg(second, far, (handle, 0)) else {
            self.refuse(handle, 481, EndedBy::Server, context);
            return self.sweep(handle);
        };
        self.count_over(second, far, handle);
        let branch = (self.get(second)).and_then(|call| call.branches.get(far as usize));
        let branch = match branch {
            Some(branch) => Branch {
                leg: far_leg,
                // The relay of the call that is over ends with it.
                media: None,
                ..branch.clone()
            },
            None => answered_branch(far_leg, context.now.mono),
        };
        if let Some(call) = self.get(handle) {
            let is_outside = [&call.caller.party, &branch.leg.party].map(Party::is_outside);
            let record = Arc::make_mut(&mut call.record);
            record.direction = direction(is_outside);
            record.through = (call.caller.party.through()).or(branch.leg.party.through());
            record.answer = Some(context.now.unix);
            record.answered_by = Some(record.dialled.clone());
            record.status = Some(200);
            record.callee_call_id = Some(setup::text(&branch.leg.dialog.call_id));
            call.branches.push(branch);
            (call.winner, call.state, call.is_final) = (0, State::Answered, true);
            call.answered = Some(context.now.mono);
            call.invitation = None;
            keep_record(context, &call.record);
        }
        self.take_party(handle, 200, context);
        let by = match leg {
            CALLER => EndedBy::Caller,
            _ => EndedBy::Callee,
        };
        self.finish(second, 200, "answered", by, context);
        self.end_leg(second, leg, b"", context);
        self.sweep(second);
        self.join(handle, None, context);
        self.watch_both(handle);
        self.sweep(handle);
    }

    /// The consultation still rings: it rings on for the other party, and the transferor hears what becomes of it.
    fn take_ringing(&mut self, located: Located, second: CallHandle, context: &mut Context<'_>) {
        let Some(call) = self.get(second) else { return };
        let dialled = call.record.dialled.clone();
        let from = (located.call, located.leg);
        let Some((handle, _)) = self.begin_transfer(from, dialled, 70, context) else {
            return;
        };
        self.finish_relays(second, context);
        self.end_media(second, context);
        let count = self.get(second).map_or(0, |call| call.branches.len());
        let legs: Vec<Option<Leg>> = (0..count)
            .map(|leg| self.take_leg(second, leg as u8, (handle, leg as u8)))
            .collect();
        let Some(call) = self.get(second) else { return };
        let mut branches = std::mem::take(&mut call.branches);
        for (branch, leg) in branches.iter_mut().zip(legs) {
            branch.leg = leg.unwrap_or_else(|| branch.leg.clone());
        }
        let caller = call.caller.party.clone();
        let source = call.caller.dialog.flow.remote.ip();
        let (own, others): (Vec<_>, Vec<_>) = std::mem::take(&mut call.counted)
            .into_iter()
            .partition(|(party, side)| *party == caller && *side == Side::Caller);
        call.counted = own;
        // Whoever has called another phone of his own was counted once: that one is in the call that goes on.
        let rings_himself = !caller.is_outside()
            && branches.iter().any(|branch| {
                branch.leg.party == caller && branch.status.is_none_or(|status| status < 300)
            });
        let (had_offer, invite_cseq) = (call.had_offer, call.invite_cseq);
        let is_offered = call.provisionals.is_offered();
        let (invitation, later) = (call.invitation.take(), std::mem::take(&mut call.later));
        let hunt = call.hunt.take().map(|mut hunt| {
            // Whoever is rung from now on is rung by his rights as before.
            hunt.by = hunt.by.or_else(|| caller.dialler(source));
            hunt
        });
        let (passed, until, rings) = (call.passed.clone(), call.rings_until, call.rings);
        let silent: Vec<u8> = (0u8..)
            .zip(&branches)
            .filter(|(_, branch)| branch.alternatives.is_some())
            .map(|(leg, _)| leg)
            .collect();
        if let Some(call) = self.get(handle) {
            let first = branches.first().map(|branch| &branch.leg.party);
            let is_outside = [
                call.caller.party.is_outside(),
                first.is_some_and(Party::is_outside),
            ];
            let record = Arc::make_mut(&mut call.record);
            record.direction = direction(is_outside);
            record.through = (call.caller.party.through()).or(first.and_then(Party::through));
            (call.branches, call.later) = (branches, later);
            (call.had_offer, call.invite_cseq) = (had_offer, invite_cseq);
            call.provisionals = reliable::Provisionals::for_nobody(is_offered);
            (call.passed, call.rings_until, call.rings) = (passed, until, rings);
            call.hunt = hunt;
            // Whoever is rung from now on is shown the other party, and has no offer of the one who has gone.
            let shown = call.invitation.take().map(|own| own.from);
            call.invitation = invitation.zip(shown).map(|(mut kept, shown)| {
                (kept.request, kept.from) = (without_offer(&kept.request), shown);
                kept
            });
        }
        self.counted_over(second, others, handle);
        if rings_himself {
            self.count_in(handle, &caller, Side::Callee);
        }
        self.touch(handle);
        self.arm(until, Timer::RingTimeout(handle));
        for leg in silent {
            self.watch_silence(handle, leg, context);
        }
        for leg in 0..count {
            self.watch_answer(handle, leg as u8, context);
        }
        self.refuse(second, 487, EndedBy::Caller, context);
        self.sweep(second);
        self.tell(located.call, 180, context);
    }
}

/// An INVITE without its body: who is rung with it makes the offer.
fn without_offer(request: &[u8]) -> Box<[u8]> {
    // It parsed when it came.
    let Ok(request) = crate::message::parse(request) else {
        return request.into();
    };
    let mut buffer = Vec::with_capacity(request.bytes().len());
    let mut composer = Composer::request(&mut buffer, b"INVITE", request.request_uri());
    for line in request.lines() {
        let is_of_body = matches!(
            line.name,
            HeaderName::ContentLength
                | HeaderName::ContentType
                | HeaderName::ContentDisposition
                | HeaderName::ContentEncoding
                | HeaderName::ContentLanguage
                | HeaderName::MimeVersion
        );
        if let (false, Ok(name)) = (is_of_body, std::str::from_utf8(line.raw_name)) {
            composer.field(name, &[line.value]);
        }
    }
    composer.finish(None, b"");
    buffer.into()
}

/// The branch of a leg that was a caller's.
pub(in crate::call) fn answered_branch(leg: Leg, now: Instant) -> Branch {
    Branch {
        leg,
        client: ClientId::NOBODY,
        cseq: 0,
        intervals_tried: 0,
        status: Some(200),
        ended_by: EndedBy::Callee,
        refusal: Box::default(),
        early: Early::new(0),
        forwarding: None,
        role: Role::default(),
        payer: None,
        pays: false,
        alternatives: None,
        had_offer: false,
        asked_at: now,
        is_heard: true,
        is_left: false,
        media: None,
    }
}
