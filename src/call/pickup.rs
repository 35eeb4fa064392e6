//! A call is picked up: somebody calls who takes what rings elsewhere (RFC 3891, RFC 5359 §2.15).
//!
//! ```text
//!   D: INVITE (offer D)
//!                             A: 200 (an answer with nothing in it), ACK
//!                             the others: CANCEL, "Call completed elsewhere"
//!                             A: re-INVITE (offer D) / 200 (answer) / ACK
//!   D: 200 (answer), ACK
//! ```
//!
//! Both have made an offer, and neither's is an answer to the other's: so the caller's INVITE is answered with a session in
//! which nobody sends, and then he is offered the other's (`transfer::join`). A caller without an offer gets it at once, and his
//! ACK has the answer.
//!
//! Whoever picks up is a branch of the call: it is one call with one record, answered by him. Of whom nothing shows that the
//! INVITE is his, and where a reliable response to the caller has yet to be acknowledged, that begins with the ACK of an
//! answer that takes nothing as yet (`promise`).

use super::confirm::{offers_plain_audio, silent_session};
use super::media::Said;
use super::transfer::answered_branch;
use super::*;
use crate::limits::CALLEE_LEGS_MAX;
use crate::message::Message;
use crate::message::compose::reason_phrase;

/// An INVITE of whoever has picked up, that waits for its final response.
#[derive(Clone, Debug)]
pub(super) struct Answering {
    server: ServerId,
    request: Answerable,
    cseq: u32,
    asked: session::Asked,
}

/// A call that rings, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ringing {
    call: CallHandle,
    leg: u8,
}

impl Ringing {
    pub(super) fn call(self) -> CallHandle {
        self.call
    }
}

impl Calls {
    /// Who is rung by the branch that a Replaces names; `None`: it names none that rings.
    pub fn named_ringing(&self, replaces: &Replaces) -> Option<(Ringing, UserId)> {
        let (handle, leg) = self.find_dialog(replaces)?;
        let call = self.slots.get(handle.index as usize)?;
        let branch = (call.branches.get(leg as usize)).filter(|branch| branch.rings(call))?;
        match branch.leg.party {
            Party::User(user, _) => Some((Ringing { call: handle, leg }, user)),
            Party::Trunk(..) | Party::Line(..) => None,
        }
    }

    /// Whether a Replaces names a dialog of a call.
    pub fn is_named(&self, replaces: &Replaces) -> bool {
        self.find_dialog(replaces).is_some()
    }

    /// What rings longest at one of these users, or for this group, and does not come from `by` himself.
    pub fn longest_ringing(
        &self,
        by: UserId,
        is_rung: impl Fn(UserId) -> bool,
        group: Option<&str>,
    ) -> Option<Ringing> {
        let is_other =
            |call: &&Call| !matches!(call.caller.party, Party::User(own, _) if own == by);
        let found = (self.slots.iter())
            .map(|(index, call)| (call.handle(index as u32), call))
            .filter(|(_, call)| call.state == State::Ringing && is_other(call))
            .filter(|(_, call)| group.is_none_or(|group| call.rings_group(group)))
            .filter_map(|(handle, call)| {
                let rings = |branch: &Branch| {
                    let party = &branch.leg.party;
                    branch.rings(call) && matches!(party, Party::User(user, _) if is_rung(*user))
                };
                let leg = u8::try_from(call.branches.iter().position(rings)?).ok()?;
                Some((
                    (call.started, &call.record.id),
                    Ringing { call: handle, leg },
                ))
            });
        let longest = found.min_by(|(a, _), (b, _)| a.cmp(b));
        longest.map(|(_, ringing)| ringing)
    }

    /// Whether somebody is counted as being in this call, so that it is no further one for him if he takes it.
    pub fn is_counted_in(&self, ringing: Ringing, user: UserId) -> bool {
        let call = self.slots.get(ringing.call.index as usize);
        let call = call.filter(|call| call.serial == ringing.call.serial);
        call.is_some_and(|call| call.counts_user(user))
    }

    /// Whoever calls takes a call that rings. 488: the two have no offer and answer for each other.
    pub fn pick_up(&mut self, setup: Setup<'_>, ringing: Ringing, context: &mut Context<'_>) {
        let is_full = self.is_full();
        let call = self.get(ringing.call).filter(|call| call.can_be_taken());
        let Some(call) = call else {
            return self.turn_away(&setup, 480, None, context);
        };
        let waits = setup.trust == Trust::Owed || call.awaits_prack();
        let id = context.now.unix.as_millis();
        let answer = call.first_answer(Some(setup.request).filter(|_| !waits), id);
        let answer = answer.filter(|_| !waits || Self::can_confirm(setup.request));
        let Some(answer) = answer else {
            return self.turn_away(&setup, 488, None, context);
        };
        if waits && is_full {
            return self.turn_away(&setup, 503, Some("rejected"), context);
        }
        if waits {
            return self.promise(setup, context);
        }
        let owner = Owner {
            call: ringing.call,
            leg: call.branches.len() as u8,
            purpose: Purpose::Pickup,
        };
        let leg = self.taker(&setup, owner, context);
        let Some(call) = self.get(ringing.call) else {
            return;
        };
        if !call.counts(&setup.caller) {
            self.count_in(ringing.call, &setup.caller, Side::Callee);
        }
        let offer = session::Description::of(setup.request);
        self.taken_by(ringing, leg, context);
        self.answer_picked_up(owner, &answer, offer, context);
        self.is_picked_up(ringing.call, context);
    }

    /// The call is answered by this leg, and nobody else is wanted.
    pub(super) fn taken_by(&mut self, ringing: Ringing, leg: Leg, context: &mut Context<'_>) {
        let Some(call) = self.get(ringing.call) else {
            return;
        };
        let by = leg.party.name();
        let rung = call.branches.get(ringing.leg as usize);
        let rung = rung.map(|branch| branch.leg.party.name());
        call.winner = call.branches.len() as u8;
        call.state = State::Answered;
        call.answered = Some(context.now.mono);
        call.is_final = true;
        let (from, to) = (call.caller.party.is_outside(), leg.party.is_outside());
        let record = Arc::make_mut(&mut call.record);
        record.direction = transfer::direction([from, to]);
        record.through = call.caller.party.through();
        record.answered_by = Some(by.clone());
        record.answer = Some(context.now.unix);
        record.status = Some(200);
        record.callee_call_id = Some(setup::text(&leg.dialog.call_id));
        let fields = [
            ("id", record.id.clone()),
            ("by", by),
            ("rang", rung.unwrap_or_default()),
        ];
        call.branches.push(answered_branch(leg, context.now.mono));
        context.event("pickup", fields.to_vec());
        keep_record(context, &call.record);
        call.cancel_branches(branch::COMPLETED_ELSEWHERE, context);
        self.release_media(ringing.call, context);
    }

    /// What follows once both have been answered, or are about to be.
    pub(super) fn is_picked_up(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        self.touch(handle);
        self.watch_both(handle);
        self.listen(handle, context);
        self.sweep(handle);
    }

    /// The leg of whoever picks up, whose INVITE waits.
    fn taker(&mut self, setup: &Setup<'_>, owner: Owner, context: &mut Context<'_>) -> Leg {
        let request = setup.request;
        let secret = context.tokens.next_u64();
        let mut leg = Leg::new(
            Dialog::from_request(request, &setup.flow, setup.ours),
            setup.caller.clone(),
            setup.caller_home,
            secret,
        );
        let tag = TagParts {
            index: owner.call.index,
            serial: owner.call.serial,
            leg: owner.leg,
            secret,
        };
        leg.dialog.local.extend_from_slice(b";tag=");
        leg.dialog.local.extend_from_slice(&tag.compose());
        (leg.phone, leg.stream) = (setup.caller_phone, setup.caller_stream);
        leg.is_up = true;
        leg.is_behind_nat = setup.is_behind_nat;
        leg.trust = setup.trust;
        leg.is_withheld = setup.is_withheld();
        leg.watch.learn(request);
        let asked = session::Asked::of(request);
        leg.watch
            .begin(context.now.mono, asked.terms(self.session_s));
        let may_connect = setup.caller_home.is_some();
        leg.answering = Some(Box::new(Answering {
            server: setup.server,
            request: Answerable::of(request, &setup.flow, may_connect, context.buffer),
            cseq: request.cseq().number,
            asked,
        }));
        let transactions = &mut *context.transactions;
        transactions.set_server_owner(setup.server, owner);
        let mut composer = crate::message::Composer::response_to(
            context.buffer,
            request,
            &setup.flow,
            100,
            reason_phrase(100),
            b"",
        );
        composer.field("Server", &[b"sipkeep"]);
        composer.finish(None, b"");
        let now = context.now.mono;
        transactions.respond(now, setup.server, 100, context.buffer, context.out);
        leg
    }

    /// The caller's INVITE is answered, and he is joined with whoever has picked up.
    pub(super) fn answer_picked_up(
        &mut self,
        owner: Owner,
        answer: &FirstAnswer,
        offer: Option<session::Description>,
        context: &mut Context<'_>,
    ) {
        let handle = owner.call;
        let Some(call) = self.get(handle) else { return };
        if call.transfer.is_some() {
            // It rang for the party of a transfer, whose INVITE is long answered.
            self.take_party(handle, 200, context);
            return self.join(handle, offer.map(|offer| (owner.leg, offer)), context);
        }
        call.provisionals.end();
        call.invitation = None;
        let terms = call.asked.terms(call.session_s);
        let description = match answer {
            FirstAnswer::Nothing(body) => Some((&b"application/sdp"[..], body.as_bytes().into())),
            FirstAnswer::Offer => offer.as_ref().map(|offer| {
                let said = Said::kept(owner.leg, offer);
                (&*offer.kind, call.passes_anyway(owner.leg, said, context))
            }),
        };
        let mut composer = call.begin_answer(handle, owner.leg, 200, context);
        (call.asked).write_answer(&mut composer, terms, call.session_s);
        match &description {
            Some((kind, body)) => composer.finish(Some(kind), body),
            None => composer.finish(None, b""),
        }
        context.respond(call.invite, 200, &call.request);
        call.caller.watch.begin(context.now.mono, terms);
        let asked = call.invite_cseq;
        call.caller_is_answered(handle, owner.leg, Some(asked));
        if matches!(answer, FirstAnswer::Nothing(_)) {
            self.join(handle, offer.map(|offer| (owner.leg, offer)), context);
        }
    }

    /// Whoever has picked up cancels before he has his answer: the call is over.
    pub(super) fn cancel_pickup(
        &mut self,
        owner: Owner,
        arrival: &Arrival<'_>,
        context: &mut Context<'_>,
    ) {
        let leg = self.get(owner.call).and_then(|call| call.leg(owner.leg));
        let Some(leg) = leg else {
            return arrival.answer(200, None, context);
        };
        let tag = leg.dialog.local_tag().to_vec();
        let is_waiting = leg.answering.is_some();
        arrival.answer_tagged(200, None, &tag, context);
        if is_waiting {
            self.end_call(owner.call, EndedBy::Callee, b"", context);
            self.sweep(owner.call);
        }
    }
}

impl Leg {
    /// This leg gets the other's description: as the answer to its offer, in the ACK or in the 2xx that it waits for, or in that
    /// as the offer that its own INVITE lacks. `false`: it waits for none.
    pub(super) fn takes_description(
        &mut self,
        kind: &[u8],
        body: &[u8],
        session_s: Option<u32>,
        context: &mut Context<'_>,
    ) -> bool {
        let description = Some((kind, body)).filter(|_| !body.is_empty());
        if let Some(cseq) = self.ack_owed {
            self.watch.sending(Some(kind), body);
            self.send_ack(cseq, description, context);
            return true;
        }
        let Some(answering) = self.answering.take() else {
            return false;
        };
        self.watch.sending(Some(kind), body);
        let tag = self.dialog.local_tag().to_vec();
        let mut composer = answering.request.response(context.buffer, 200, &tag);
        self.dialog.write_contact(&mut composer);
        composer
            .field("Allow", &[carriage::ALLOW])
            .field("Supported", &[b"replaces"])
            .field("Server", &[b"sipkeep"]);
        let terms = answering.asked.terms(session_s);
        (answering.asked).write_answer(&mut composer, terms, session_s);
        match description {
            Some((kind, body)) => composer.finish(Some(kind), body),
            None => composer.finish(None, b""),
        }
        context.respond(answering.server, 200, &answering.request);
        self.unacknowledged = Some((answering.server, answering.cseq));
        true
    }

    /// Its INVITE gets a refusal instead, if it waits for a response.
    pub(super) fn refuse_answering(&mut self, status: u16, context: &mut Context<'_>) -> bool {
        let Some(answering) = self.answering.take() else {
            return false;
        };
        let tag = self.dialog.local_tag().to_vec();
        let mut composer = answering.request.response(context.buffer, status, &tag);
        composer.field("Server", &[b"sipkeep"]);
        composer.finish(None, b"");
        context.respond(answering.server, status, &answering.request);
        self.is_up = false;
        true
    }
}

/// What the caller's INVITE is answered with when his call is picked up.
pub(super) enum FirstAnswer {
    /// Nobody sends: he has made an offer, which is not the other's.
    Nothing(String),
    /// The other's offer: he has made none.
    Offer,
}

impl Call {
    /// Whether it rings, and may be answered by one more.
    pub(super) fn can_be_taken(&self) -> bool {
        let is_free = self.state == State::Ringing
            && !self.is_final
            && !self.is_declined()
            && !self.provisionals.has_answer();
        is_free && self.branches.len() < CALLEE_LEGS_MAX
    }

    /// What the caller is answered first; `None`: the two cannot be joined. `taking`: the INVITE of whoever takes the call,
    /// unless he is to be asked for his offer anew.
    pub(super) fn first_answer(
        &self,
        taking: Option<&Message<'_>>,
        id: u64,
    ) -> Option<FirstAnswer> {
        if self.transfer.is_some() {
            return Some(FirstAnswer::Nothing(String::new()));
        }
        let kept = self.invitation.as_ref()?;
        let request = crate::message::parse(&kept.request).ok()?;
        let has_offer = taking.map(|taking| !taking.body().is_empty());
        match (request.body().is_empty(), has_offer) {
            (true, Some(false)) => return None,
            (true, Some(true)) => return Some(FirstAnswer::Offer),
            (true, None) => {}
            (false, _) if offers_plain_audio(&request) => {}
            (false, _) => return None,
        }
        let ours = self.caller.dialog.ours.ip();
        Some(FirstAnswer::Nothing(silent_session(&request, ours, id)))
    }
}

impl Branch {
    /// It rings at somebody, who may still answer.
    fn rings(&self, call: &Call) -> bool {
        call.state == State::Ringing
            && !call.is_final
            && !call.provisionals.has_answer()
            && self.status.is_none()
            && !self.is_left
    }
}
