//! Final responses to the INVITEs of the branches: the first 2xx wins, refusals are weighed (RFC 3261 §13.2.2, §16.7).

use super::media::Said;
use super::*;
use crate::message::compose::Composer;
use crate::message::{HeaderName, Message};

/// Reason of the CANCEL to branches that lost (RFC 3326).
pub(super) const COMPLETED_ELSEWHERE: &[u8] = b"SIP;cause=200;text=\"Call completed elsewhere\"";
/// Status of callees behind one INVITE when another of them has answered it: they will have no response of their own.
const FORK_LOST: u16 = 487;

impl Calls {
    /// A response that one of a call's client transactions passes up; `way`: its flow, and our address on it.
    pub fn receive_response(
        &mut self,
        id: ClientId,
        owner: Owner,
        response: &Message<'_>,
        way: (&Flow, std::net::SocketAddr),
        context: &mut Context<'_>,
    ) {
        let came = owner;
        let owner = self.resolved(owner);
        match owner.purpose {
            // Of a leg that goes on in another call nothing but the 2xx can come again.
            Purpose::Invite if owner != came && self.repeats_ack(owner, response, context) => {}
            // The call is over and forgotten, but a proxy behind the branch had forked further.
            Purpose::Invite if self.get(owner.call).is_none() => {
                if (200..300).contains(&response.status()) {
                    end_stray_answer(owner, None, response, way, context);
                }
            }
            Purpose::Invite => match response.status() {
                100 => self.is_heard(owner, response),
                101..=199 => {
                    self.is_heard(owner, response);
                    self.branch_rings(owner, response, context);
                }
                200..=299 => self.branch_answers(owner, response, way, context),
                422 if self.invites_again(owner, response, context) => {}
                300..=399 if self.redirects(owner, response) => {
                    self.branch_needs_no_media(owner, context);
                }
                status => {
                    self.doubts_line(owner, status, context);
                    self.keep_refusal(owner, response, context);
                    match self.fails_over(owner, status, EndedBy::Callee) {
                        true => self.branch_needs_no_media(owner, context),
                        false => self.branch_ends(owner, status, EndedBy::Callee, context),
                    }
                }
            },
            Purpose::Relay => self.relayed_response(id, owner, response, context),
            Purpose::Refresh => self.refresh_answered(id, owner, response, context),
            Purpose::Bye | Purpose::Probe => {
                if response.status() >= 200 {
                    self.own_request_ends(owner, response.status(), context);
                }
            }
            Purpose::Notify => {
                if response.status() >= 200 {
                    self.told(owner, response.status(), context);
                }
            }
            Purpose::Stray | Purpose::Pickup => {}
        }
    }

    /// A 2xx to the INVITE of a leg that was answered before it came to its call.
    fn repeats_ack(
        &mut self,
        owner: Owner,
        response: &Message<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        let leg = self
            .get(owner.call)
            .and_then(|call| call.leg_mut(owner.leg));
        let tag = response.to().tag().unwrap_or_default();
        let leg = leg.filter(|leg| leg.is_up && *leg.dialog.remote_tag == *tag);
        let is_it = leg.is_some();
        if let Some(leg) = leg.filter(|_| (200..300).contains(&response.status())) {
            leg.repeat_ack(response.cseq().number, context);
        }
        is_it
    }

    /// 403 before anything rings: the carrier of a line does not know it, or knows it no more. Nothing else says that alone.
    fn doubts_line(&mut self, owner: Owner, status: u16, context: &mut Context<'_>) {
        let call = self.get(owner.call);
        let branch = call.and_then(|call| call.branches.get(owner.leg as usize));
        let branch = branch.filter(|branch| branch.leg.dialog.remote_tag.is_empty());
        if let (403, Some(Party::Line(line, _))) = (status, branch.map(|branch| &branch.leg.party))
        {
            context.lines.register_soon(context.now.mono, *line);
        }
    }

    /// 2xx: the first one wins the call; any other is acknowledged and ended at once.
    pub(super) fn branch_answers(
        &mut self,
        owner: Owner,
        response: &Message<'_>,
        way: (&Flow, std::net::SocketAddr),
        context: &mut Context<'_>,
    ) {
        if self.holds_success(owner, response, way) {
            return;
        }
        let Some(call) = self.get(owner.call) else {
            return;
        };
        if let Some(branch) = call.answered_behind(owner.leg) {
            if response.to().tag().unwrap_or_default() == &*branch.leg.dialog.remote_tag {
                branch.leg.repeat_ack(branch.cseq, context);
            } else {
                // A further answer behind the same branch (a proxy forked): a dialog of its own.
                end_stray_answer(owner, Some(&branch.leg), response, way, context);
            }
            return;
        }
        let Some(leg) = call.early_dialog(owner.leg, response) else {
            return;
        };
        let owner = Owner { leg, ..owner };
        let (is_ringing, winner) = (call.state == State::Ringing && !call.is_final, call.winner);
        call.end_branch(leg, FORK_LOST, EndedBy::Callee);
        let Some(branch) = call.branches.get_mut(leg as usize) else {
            return;
        };
        branch.status = Some(response.status());
        branch.leg.dialog.establish(response);
        branch.leg.is_up = true;
        if !is_ringing || winner != NO_BRANCH {
            branch.leg.send_ack(branch.cseq, None, context);
            let reason = if winner == NO_BRANCH {
                b"".as_slice()
            } else {
                COMPLETED_ELSEWHERE
            };
            self.end_leg(owner.call, owner.leg, reason, context);
            self.pays_no_more(owner.call, owner.leg);
            self.sweep(owner.call);
            return;
        }
        if branch.had_offer || branch.early.is_negotiated {
            branch.leg.send_ack(branch.cseq, None, context);
        } else {
            branch.leg.ack_owed = Some(branch.cseq);
        }
        self.comes_back(owner);
        self.answered(owner, response, context);
    }

    /// The call is answered by this branch.
    fn answered(&mut self, owner: Owner, response: &Message<'_>, context: &mut Context<'_>) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        call.state = State::Answered;
        call.winner = owner.leg;
        call.answered = Some(context.now.mono);
        call.is_final = true;
        let callee = call.branches.get(owner.leg as usize);
        let asked = callee.map(|branch| branch.early.asked);
        let record = Arc::make_mut(&mut call.record);
        record.callee_call_id = callee.map(|branch| setup::text(&branch.leg.dialog.call_id));
        let forwarding = callee.and_then(|branch| branch.forwarding.as_ref());
        record.answered_by = callee.map(|branch| match (&branch.leg.party, forwarding) {
            (Party::User(_, name), _) => String::from(&**name),
            (_, Some(forwarding)) => setup::text(&forwarding.number),
            (_, None) => record.dialled.clone(),
        });
        record.forwarded_by = forwarding.and_then(|forwarding| forwarding.by());
        let to = callee.map(|branch| &branch.leg.party);
        let from = &call.caller.party;
        record.through = from.through().or_else(|| to.and_then(Party::through));
        let is_outside = [from.is_outside(), to.is_some_and(Party::is_outside)];
        record.direction = transfer::direction(is_outside);
        record.answer = Some(context.now.unix);
        record.status = Some(response.status());
        let is_transfer = call.transfer.is_some();
        if !is_transfer {
            call.takes_answer(owner, response, context);
            call.caller_is_answered(owner.call, owner.leg, asked);
        }
        for (index, branch) in call.branches.iter().enumerate() {
            if index != owner.leg as usize && branch.status.is_none() {
                context.transactions.cancel(
                    context.now.mono,
                    branch.client,
                    COMPLETED_ELSEWHERE,
                    context.out,
                );
            }
        }
        context.call_event("answer", CallStage::Answered, &call.record);
        keep_record(context, &call.record);
        if is_transfer {
            self.transfer_answered(owner, response, context);
        }
        self.touch(owner.call);
        self.watch_both(owner.call);
        if let Some(call) = self.get(owner.call) {
            call.settles_media(context);
        }
        self.release_media(owner.call, context);
        self.listen(owner.call, context);
    }

    /// What the caller is to see of a refusal beside its status: a carrier's Reason says more than that.
    fn keep_refusal(&mut self, owner: Owner, response: &Message<'_>, context: &mut Context<'_>) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        let to_outside = call.caller.party.is_outside();
        let Some(branch) = call.branches.get_mut(owner.leg as usize) else {
            return;
        };
        let from_outside = branch.leg.party.is_outside();
        if branch.status.is_none()
            && let Some(lines) = carriage::keep(response, from_outside, to_outside, context.buffer)
        {
            branch.refusal = lines;
        }
    }

    /// A branch is refused by its callee, or silent or unreachable (which is our own finding).
    pub(super) fn branch_ends(
        &mut self,
        owner: Owner,
        status: u16,
        by: EndedBy,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        let is_over = |branch: &Branch| branch.status.is_some();
        if call.branches.get(owner.leg as usize).is_none_or(is_over) {
            // One that was left has come to its end.
            return self.branch_needs_no_media(owner, context);
        }
        let party = (call.branches.get(owner.leg as usize)).map(|branch| branch.leg.party.clone());
        // A member of a group speaks for himself.
        let status = match self.member_declines(owner, status, context) {
            Some(status) => status,
            None => status,
        };
        let Some(call) = self.get(owner.call) else {
            return;
        };
        call.end_branch(owner.leg, best::of_branch(status), by);
        self.touch(owner.call);
        self.release_media(owner.call, context);
        self.pays_no_more(owner.call, owner.leg);
        if let Some(party) = &party {
            self.counts_no_more(owner.call, party);
        }
        let Some(call) = self.get(owner.call) else {
            return;
        };
        if status >= 600 && call.state == State::Ringing {
            // §16.7 step 5: nobody else shall answer either.
            call.cancel_branches(b"", context);
        }
        if call.state == State::Ringing && !call.is_final {
            self.sends_on(owner.call, owner.leg);
            self.conclude(owner.call, context);
        }
        self.sweep(owner.call);
    }

    /// Once every branch has refused, the caller gets the best refusal.
    pub(super) fn conclude(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        if call.state != State::Ringing
            || call.is_final
            || call.asking > 0
            || call.branches.iter().any(|branch| branch.status.is_none())
        {
            return;
        }
        // One that was left for others says nothing any more.
        let refusals = (call.branches.iter())
            .filter(|branch| !branch.is_left)
            .filter_map(|branch| Some((branch.status?, branch)))
            .filter(|(status, _)| !(300..400).contains(status));
        let best = refusals.reduce(|best, refusal| {
            if best::is_better(refusal.0, best.0) {
                refusal
            } else {
                best
            }
        });
        if !call.later.is_empty() && !call.is_declined() {
            self.try_later(handle);
            return;
        }
        if call.hunt.is_some() && !call.is_declined() {
            self.ask_next(handle, false);
            return;
        }
        // Nobody has said anything that counts; or no branch at all could be begun: we are full.
        let otherwise = match call.branches.is_empty() {
            true => (503, EndedBy::Server),
            false => (480, EndedBy::Server),
        };
        let (status, by) = best.map_or(otherwise, |(status, branch)| (status, branch.ended_by));
        let refusal = best.map(|(_, branch)| branch.refusal.clone());
        call.refusal = refusal.unwrap_or_default();
        self.refuse(handle, status, by, context);
    }
}

impl Call {
    /// The final status of an INVITE of ours is that of all callees behind it who have none.
    pub(super) fn end_branch(&mut self, leg: u8, status: u16, by: EndedBy) {
        let client = self.branches.get(leg as usize).map(|branch| branch.client);
        for branch in &mut self.branches {
            if Some(branch.client) == client && branch.status.is_none() {
                branch.status = Some(status);
                branch.ended_by = by;
            }
        }
    }

    /// The callee behind this branch's INVITE who has answered it.
    fn answered_behind(&mut self, leg: u8) -> Option<&mut Branch> {
        let client = self.branches.get(leg as usize)?.client;
        self.branches.iter_mut().find(|branch| {
            branch.client == client && branch.status.is_some_and(|status| status < 300)
        })
    }

    /// The caller is answered with this 2xx: a session begins on each leg.
    fn takes_answer(&mut self, owner: Owner, response: &Message<'_>, context: &mut Context<'_>) {
        let kept = self.kept_answer(owner.leg, response);
        let is_late = !self.had_offer && !self.is_negotiated(owner.leg);
        let mut said = Said::response(owner.leg, response, !is_late);
        if let Some(answer) = &kept {
            said = said.with(&answer.kind, &answer.body);
        }
        let body = self.passes_anyway(owner.leg, said, context);
        let kind = match &kept {
            Some(answer) => Some(&*answer.kind),
            None => response.value(HeaderName::ContentType),
        };
        self.begin_sessions(response, (kind, &body), context);
        self.answer_caller(owner, response, (kept.is_some(), kind, &body), context);
    }

    /// The answer of a callee's reliable response, if his 2xx does not repeat it and the caller has not got it reliably.
    fn kept_answer(&mut self, leg: u8, response: &Message<'_>) -> Option<super::early::Answer> {
        let branch = self.branches.get_mut(leg as usize)?;
        (branch.early.answer.take()).filter(|_| response.body().is_empty())
    }

    /// The 2xx of a branch. Where it has no SDP because the answer was in a reliable provisional response, the caller gets
    /// that, unless he has got it reliably himself.
    /// `body`: whether it was kept from a provisional response, its Content-Type, and it as he is to see it.
    fn answer_caller(
        &mut self,
        owner: Owner,
        response: &Message<'_>,
        (is_kept, kind, body): (bool, Option<&[u8]>, &[u8]),
        context: &mut Context<'_>,
    ) {
        self.provisionals.end();
        let mut composer = self.compose_answer(owner, response, context);
        let terms = self.asked.terms(self.session_s);
        (self.asked).write_answer(&mut composer, terms, self.session_s);
        match is_kept {
            true => composer.finish(kind, body),
            false => carriage::finish(composer, response, body),
        }
        context.respond(self.invite, response.status(), &self.request);
    }

    /// The caller has his 2xx: with this branch he has a dialog, in which he has used this CSeq number last.
    pub(super) fn caller_is_answered(&mut self, handle: CallHandle, leg: u8, asked: Option<u32>) {
        let tag = self.caller_tag(handle.index, leg);
        self.caller.dialog.local.extend_from_slice(b";tag=");
        self.caller.dialog.local.extend_from_slice(&tag);
        self.caller.dialog.remote_cseq = asked;
        self.caller.is_up = true;
        self.caller.unacknowledged = Some((self.invite, self.invite_cseq));
    }

    /// Begins a response to the caller's INVITE from that of a branch.
    pub(super) fn compose_answer<'b>(
        &self,
        owner: Owner,
        response: &Message<'_>,
        context: &'b mut Context<'_>,
    ) -> Composer<'b> {
        let mut composer = self.begin_answer(owner.call, owner.leg, response.status(), context);
        let party = self
            .branches
            .get(owner.leg as usize)
            .map(|branch| &branch.leg.party);
        let from_outside = party.is_some_and(Party::is_outside);
        let to_outside = self.caller.party.is_outside();
        carriage::write(&mut composer, response, from_outside, to_outside);
        composer
    }

    /// Begins a response to the caller's INVITE, from 101 to 299, within his dialog with a branch.
    pub(super) fn begin_answer<'b>(
        &self,
        handle: CallHandle,
        branch: u8,
        status: u16,
        context: &'b mut Context<'_>,
    ) -> Composer<'b> {
        let tag = self.caller_tag(handle.index, branch);
        let mut composer = self.request.response(context.buffer, status, &tag);
        let dialog = &self.caller.dialog;
        dialog.write_contact(&mut composer);
        composer
            .field("Allow", &[carriage::ALLOW])
            .field("Server", &[b"sipkeep"]);
        if !self.caller.party.is_outside() {
            composer.field("Supported", &[b"replaces"]);
        }
        composer
    }

    /// Somebody has declined for all (6xx): nobody else is asked, and who still rings is told to stop (RFC 3261 §16.7 step 5).
    pub(super) fn is_declined(&self) -> bool {
        (self.branches.iter())
            .filter(|branch| !branch.is_left)
            .any(|branch| branch.status.is_some_and(|status| status >= 600))
    }

    /// CANCEL to every branch that has no final response yet.
    pub(super) fn cancel_branches(&mut self, reason: &[u8], context: &mut Context<'_>) {
        for branch in self
            .branches
            .iter()
            .filter(|branch| branch.status.is_none())
        {
            context
                .transactions
                .cancel(context.now.mono, branch.client, reason, context.out);
        }
    }
}

impl Leg {
    /// ACK to a 2xx on this leg (§13.2.2.4): kept, to be sent again.
    pub(super) fn send_ack(
        &mut self,
        cseq: u32,
        body: Option<(&[u8], &[u8])>,
        context: &mut Context<'_>,
    ) {
        self.ack_owed = None;
        self.reconnect(context);
        // An ACK to a 2xx is a transaction of its own: a new branch, no state.
        let branch = context.stateless_branch();
        let mut composer = self
            .dialog
            .compose(context.buffer, Method::Ack, cseq, &branch);
        composer.lines(self.credentials_of(cseq));
        match body {
            Some((content_type, body)) => composer.finish(Some(content_type), body),
            None => composer.finish(None, b""),
        }
        crate::source::Sink::send(context.out, &self.dialog.flow, context.buffer);
        self.ack = Some((cseq, context.buffer.clone()));
    }

    /// The 2xx came again, so our ACK was lost; or nobody knows any more what the INVITE was for.
    pub(super) fn repeat_or_end_ack(&mut self, cseq: u32, context: &mut Context<'_>) {
        let is_known = self.ack.as_ref().is_some_and(|(number, _)| *number >= cseq);
        if is_known || self.ack_owed == Some(cseq) {
            self.repeat_ack(cseq, context);
        } else {
            self.send_ack(cseq, None, context);
        }
    }

    /// The 2xx came again, so our ACK was lost.
    pub(super) fn repeat_ack(&mut self, cseq: u32, context: &mut Context<'_>) {
        if (self.ack.as_ref()).is_some_and(|(number, _)| *number == cseq) {
            self.reconnect(context);
        }
        if let Some((number, bytes)) = &self.ack
            && *number == cseq
        {
            crate::source::Sink::send(context.out, &self.dialog.flow, bytes);
        }
    }
}

/// ACK and BYE for a 2xx that made a dialog nobody wants (§13.2.2.4). All of it is made from the response; `leg` is the one
/// whose INVITE it answers, if that is not forgotten.
///
/// It goes back the way that the response came. On a line it goes where the INVITE went: what it carries is for the carrier
/// alone, and whoever has seen the INVITE behind him could have answered it.
fn end_stray_answer(
    owner: Owner,
    leg: Option<&Leg>,
    response: &Message<'_>,
    (flow, ours): (&Flow, std::net::SocketAddr),
    context: &mut Context<'_>,
) {
    let line = leg.filter(|leg| leg.party.is_line());
    let (flow, ours) = line.map_or((flow, ours), |leg| (&leg.dialog.flow, leg.dialog.ours));
    let dialog = Dialog::from_response(response, flow, ours);
    let branch = context.stateless_branch();
    let cseq = response.cseq().number;
    let mut composer = dialog.compose(context.buffer, Method::Ack, cseq, &branch);
    composer.lines(leg.map_or(b"", |leg| leg.credentials_of(cseq)));
    composer.finish(None, b"");
    crate::source::Sink::send(context.out, &dialog.flow, context.buffer);
    let stray = Owner {
        purpose: Purpose::Stray,
        ..owner
    };
    let bye = context.say_bye(&dialog, cseq.saturating_add(1), stray, |_| {});
    // But for a challenge.
    if let Some(client) = bye.filter(|_| line.is_none()) {
        context.transactions.disown(client);
    }
}
