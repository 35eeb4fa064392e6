//! Requests within the dialogs of a call: ACK, BYE, re-INVITE and what passes from leg to leg (RFC 3261 §12.2.2, §14, §15).

use std::borrow::Cow;

use super::media::Said;
use super::*;
use crate::message::compose::{Composer, reason_phrase};
use crate::message::{HeaderName, Message};
use crate::source::ConnectionId;

/// What a request within a dialog was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    pub(super) call: CallHandle,
    pub(super) leg: u8,
    /// Which branch the caller speaks with: while it rings each has a dialog of its own.
    pub(super) branch: u8,
    /// It came from where this leg's peer is known to be.
    pub is_from_peer: bool,
}

impl Calls {
    /// The dialog that a request with a To tag belongs to (§12.2.2); `None`: none of ours.
    pub fn locate(&self, request: &Message<'_>, flow: &Flow) -> Option<Located> {
        let (call, tag) = self.of_tag(request.to().tag()?)?;
        let leg_index = if tag.leg & CALLER == 0 {
            call.callee_of(tag.leg, request)?
        } else {
            CALLER
        };
        let leg = call.leg(leg_index)?;
        leg.dialog.owns(request).then(|| Located {
            call: call.handle(tag.index),
            leg: leg_index,
            branch: tag.leg & !CALLER,
            is_from_peer: leg.is_from(flow),
        })
    }

    /// Whether a tag is ours, of a call that is not forgotten.
    pub fn is_own_tag(&self, tag: &[u8]) -> bool {
        self.of_tag(tag).is_some()
    }

    /// The call that one of our tags belongs to, and what the tag says.
    pub(super) fn of_tag(&self, tag: &[u8]) -> Option<(&Call, TagParts)> {
        let (bytes, mut tag) = (tag, TagParts::parse(tag)?);
        let place = match tag.leg & CALLER {
            0 => tag.leg,
            _ => CALLER,
        };
        if let Some((call, leg)) = self.moved_to((tag.index, tag.serial, place)) {
            (tag.index, tag.serial, tag.leg) = (call.index, call.serial, leg);
            let call = self.slots.get(call.index as usize)?;
            // Early dialogs that he had beside this one are over.
            if *call.leg(leg)?.dialog.local_tag() != *bytes {
                return None;
            }
            if leg == CALLER {
                // He speaks with whoever has answered this one.
                tag.leg |= call.winner;
            }
        }
        let call = self.slots.get(tag.index as usize)?;
        let leg_index = if tag.leg & CALLER == 0 {
            tag.leg
        } else {
            CALLER
        };
        let is_ours = call.serial == tag.serial && call.leg(leg_index)?.secret == tag.secret;
        is_ours.then_some((call, tag))
    }

    /// Whose leg it is: he may prove himself when his address has changed.
    pub fn party(&self, located: Located) -> Option<&Party> {
        let call = self.slots.get(located.call.index as usize)?;
        call.leg(located.leg).map(|leg| &leg.party)
    }

    /// The address that the leg's peer was last seen at.
    pub fn remote(&self, located: Located) -> Option<std::net::SocketAddr> {
        let call = self.slots.get(located.call.index as usize)?;
        call.leg(located.leg).map(|leg| leg.dialog.flow.remote)
    }

    /// The connection of the leg that a transaction belongs to.
    pub fn connection_of(&self, owner: Owner) -> Option<ConnectionId> {
        self.own_leg(owner)?.dialog.flow.connection
    }

    /// Who was sent the INVITE of a transaction, and where; `None`: it is that of another request.
    pub fn invited(&self, owner: Owner) -> Option<(Party, Flow)> {
        let leg = (self.own_leg(owner)).filter(|_| owner.purpose == Purpose::Invite)?;
        Some((leg.party.clone(), leg.dialog.flow))
    }

    fn own_leg(&self, owner: Owner) -> Option<&Leg> {
        let owner = self.resolved(owner);
        let call = self.slots.get(owner.call.index as usize)?;
        call.leg(owner.leg)
            .filter(|_| call.serial == owner.call.serial)
    }

    /// The leg that a transaction belongs to, for what came on `flow`; `None`: the call is over.
    pub fn leg_of(&self, owner: Owner, flow: &Flow) -> Option<Located> {
        let owner = self.resolved(owner);
        let call = self.slots.get(owner.call.index as usize)?;
        let is_from_peer = call.leg(owner.leg)?.is_from(flow);
        (call.serial == owner.call.serial).then_some(Located {
            call: owner.call,
            leg: owner.leg,
            branch: if owner.leg == CALLER {
                call.winner
            } else {
                owner.leg
            },
            is_from_peer,
        })
    }

    /// A request within a dialog whose sender is in order.
    pub fn receive(&mut self, located: Located, arrival: &Arrival<'_>, context: &mut Context<'_>) {
        let Located {
            call: handle,
            leg: leg_index,
            ..
        } = located;
        let Some(call) = self.get(handle) else { return };
        let request = arrival.request;
        // An ACK proves nothing: nothing goes to where it came from.
        if request.method() == Method::Ack {
            self.acknowledged(located, request, context);
            return;
        }
        if !call.accept_cseq(located, request.cseq().number) {
            // §12.2.2: out of order.
            arrival.answer(500, None, context);
            return;
        }
        let Some(leg) = call.leg_mut(leg_index) else {
            return;
        };
        (leg.dialog.flow, leg.dialog.ours) = (arrival.flow, arrival.ours);
        leg.lost = None;
        // Our tag is in nothing but what was sent to him: he hears us, even if his ACK never comes.
        if let Some((server, _)) = leg.unacknowledged {
            context.transactions.is_heard(server);
        }
        if request.max_forwards() == Some(0) && request.method() != Method::Bye {
            arrival.answer(483, None, context);
            return;
        }
        let method = request.method();
        // A PRACK may come late, and BYEs may cross.
        if call.has_ended(located) && !matches!(method, Method::Prack | Method::Bye) {
            arrival.answer(481, None, context);
            return;
        }
        // Who waits for the target of a transfer has an answered dialog.
        let is_answered = call.state == State::Answered || call.transfer.is_some();
        let own_s = call.session_s;
        let is_refresh = session::refreshes(method) && own_s.is_some();
        if is_refresh && session::Asked::of(request).is_too_brief() {
            arrival.answer(422, None, context);
            return;
        }
        match method {
            Method::Bye => self.bye(located, arrival, context),
            Method::Update if is_answered && request.body().is_empty() => {
                self.refreshed(located, arrival, context);
            }
            Method::Options => arrival.answer(200, None, context),
            Method::Prack => self.prack(located, arrival, context),
            // RFC 2976 §2.2: it says nothing but that its sender is there; the other side has no part in it.
            Method::Info if is_keep_alive(request) => arrival.answer(200, None, context),
            Method::Invite | Method::Update | Method::Info | Method::Message => {
                self.relay(located, arrival, None, context);
            }
            Method::Refer => self.refer(located, arrival, context),
            // RFC 6665 §4.5.2: no subscription lives in a call's dialog, neither of theirs nor of ours.
            Method::Subscribe | Method::Publish => arrival.answer(489, None, context),
            Method::Notify => arrival.answer(481, None, context),
            _ => arrival.answer(405, None, context),
        }
    }

    /// ACK to our 2xx (§13.2.2.4): it may bring the answer to a late offer.
    fn acknowledged(&mut self, located: Located, request: &Message<'_>, context: &mut Context<'_>) {
        let Some(call) = self.get(located.call) else {
            return;
        };
        let other = call.other(located.leg);
        let session_s = call.session_s;
        let waits = |leg: &Leg| leg.ack_owed.is_some() || leg.answering.is_some();
        let brings_answer = call.join.is_none() && call.leg(other).is_some_and(waits);
        // From elsewhere it may say that the 2xx has come, but not what the answer to the offer is: the 2xx goes on.
        if brings_answer && !located.is_from_peer {
            return;
        }
        let Some(leg) = call.leg_mut(located.leg) else {
            return;
        };
        let Some((server, _)) = leg
            .unacknowledged
            .take_if(|(_, cseq)| *cseq == request.cseq().number)
        else {
            return;
        };
        context.transactions.acknowledge(server);
        let bye = leg.bye_after_ack.take();
        call.is_proven(located.leg, context);
        let is_promised = call.is_heard(context.now.mono);
        if brings_answer {
            let kind = request.value(HeaderName::ContentType).unwrap_or_default();
            let branch = if other == CALLER { located.leg } else { other };
            let answer = Said::answer(located.leg, request);
            let answer = call.passes_anyway(branch, answer, context);
            if let Some(leg) = call.leg_mut(other) {
                leg.takes_description(kind, &answer, session_s, context);
            }
        }
        let is_joining = call.join.is_some();
        if is_promised {
            self.heard.push_back(located.call);
        }
        if let Some(reason) = bye {
            self.end_leg(located.call, located.leg, &reason, context);
        }
        if is_joining {
            self.join_on(located.call, context);
        }
        self.sweep(located.call);
    }

    fn bye(&mut self, located: Located, arrival: &Arrival<'_>, context: &mut Context<'_>) {
        let Some(call) = self.get(located.call) else {
            return;
        };
        // An early dialog of the caller that another one has won against is over already, and not the call.
        let is_answered = call.state == State::Answered;
        if is_answered && located.leg == CALLER && call.has_ended(located) {
            return arrival.answer(481, None, context);
        }
        arrival.answer(200, None, context);
        let state = call.state;
        let reason = arrival.request.value(HeaderName::Reason);
        call.take_reason(reason.unwrap_or_default());
        let Some(leg) = call.leg_mut(located.leg) else {
            return;
        };
        leg.is_up = false;
        leg.bye_after_ack = None;
        if let Some(cseq) = leg.ack_owed {
            // Nobody will bring an answer to his offer any more, but his 2xx must be acknowledged (§13.2.2.4).
            leg.send_ack(cseq, None, context);
        }
        if self.transferor_leaves(located.call, located.leg, context) {
            return self.sweep(located.call);
        }
        let Some(call) = self.get(located.call) else {
            return;
        };
        let Some(leg) = call.leg(located.leg) else {
            return;
        };
        // Our 2xx goes on until its ACK comes: who says BYE may mean the early dialog (§15) and not have seen it.
        let from_outside = leg.party.is_outside();
        let by = if located.leg == CALLER {
            EndedBy::Caller
        } else {
            EndedBy::Callee
        };
        match state {
            State::Answered if located.leg == CALLER || call.winner == located.leg => {
                if let Some(other) = call.leg_mut(call.other(located.leg)) {
                    let to_outside = other.party.is_outside();
                    let kept =
                        carriage::keep(arrival.request, from_outside, to_outside, context.buffer);
                    other.farewell = kept.unwrap_or_default();
                }
                // The Reason is among what passes.
                self.end_call(located.call, by, b"", context);
            }
            // §15.1.2: a caller may end an early dialog with BYE.
            State::Ringing if located.leg == CALLER => {
                let reason = arrival.request.value(HeaderName::Reason);
                call.cancel_branches(reason.unwrap_or_default(), context);
                self.refuse(located.call, 487, by, context);
            }
            State::Ringing | State::Answered | State::Ending => {}
        }
        self.sweep(located.call);
    }

    /// Passes a request on to the other leg; `rseq` is what a PRACK acknowledges there. `false`: it was answered here.
    pub(super) fn relay(
        &mut self,
        located: Located,
        arrival: &Arrival<'_>,
        rseq: Option<u32>,
        context: &mut Context<'_>,
    ) -> bool {
        let refused = |status, retry_after, context: &mut Context<'_>| {
            arrival.answer(status, retry_after, context);
            false
        };
        let Located {
            call: handle,
            leg: from,
            ..
        } = located;
        let Some(call) = self.get(handle) else {
            return false;
        };
        let request = arrival.request;
        let method = request.method();
        let has_offer = makes_offer(method, request.body());
        let across = (call.across(located, method, has_offer))
            .and_then(|to| call.glare(from, to, method, has_offer).map(|()| to));
        let to = match across {
            Ok(to) => to,
            Err((status, may_retry)) => {
                let retry_after = may_retry.then(|| context.retry_after());
                return refused(status, retry_after, context);
            }
        };
        let owner = Owner {
            call: handle,
            leg: from,
            purpose: Purpose::Relay,
        };
        let Some((client, branch)) = context.transactions.reserve() else {
            return refused(503, None, context);
        };
        let callee = if from == CALLER { to } else { from };
        // An INFO may have any body.
        let is_offer = has_offer && !request.body().is_empty();
        let body = match is_offer {
            true => call.passes(callee, Said::offer(from, request), context),
            false => Ok(Cow::Borrowed(request.body())),
        };
        let body = match body {
            Ok(body) => body,
            Err(unfit) => {
                context.transactions.release(client);
                return refused(unfit.status(), None, context);
            }
        };
        let Some(server) = context.transactions.open_server(
            context.now.mono,
            arrival.key,
            request,
            &arrival.reply,
            owner,
        ) else {
            context.transactions.release(client);
            if is_offer {
                call.offer_is_refused(callee, context);
            }
            return refused(503, None, context);
        };
        let may_connect = call.leg(from).is_some_and(|leg| leg.home.is_some());
        let from_outside = call.leg(from).is_some_and(|leg| leg.party.is_outside());
        if is_target_refresh(method)
            && let Some(leg) = call.leg_mut(from)
        {
            leg.dialog.refresh_target(request);
            leg.watch.learn(request);
        }
        if method == Method::Invite {
            Composer::response_to(
                context.buffer,
                request,
                &arrival.flow,
                100,
                reason_phrase(100),
                b"",
            )
            .finish(None, b"");
            let now = context.now.mono;
            context
                .transactions
                .respond(now, server, 100, context.buffer, context.out);
        }
        let own_s = call.session_s;
        let rack = rseq.zip(call.branches.get(to as usize).map(|branch| branch.cseq));
        let Some(leg) = call.leg_mut(to) else {
            return false;
        };
        leg.reconnect(context);
        let cseq = leg.dialog.next_cseq();
        let is_early = to == CALLER && !leg.is_up;
        let early = is_early.then(|| call.caller_dialog(handle.index, from));
        let Some(dialog) = early
            .as_ref()
            .or_else(|| call.leg(to).map(|leg| &leg.dialog))
        else {
            return false;
        };
        // As from the caller's INVITE to the branches: what goes in circles over several servers must end.
        let hops = request.max_forwards().unwrap_or(70).saturating_sub(1);
        let branch = branch.as_bytes();
        let mut composer = dialog.compose_relayed(context.buffer, method, cseq, branch, hops);
        if is_target_refresh(method) {
            dialog.write_contact(&mut composer);
            composer.field("Allow", &[carriage::ALLOW]);
        }
        if let Some((rseq, cseq)) = rack {
            reliable::write_rack(&mut composer, rseq, cseq);
        }
        // While it rings there is no session to refresh.
        let refreshes = session::refreshes(method) && call.state == State::Answered;
        if let Some(leg) = call.leg(to).filter(|_| refreshes) {
            leg.watch.write_refresh(&mut composer, own_s);
        }
        match call.leg(to) {
            Some(leg) => leg.carry(&mut composer, request, from_outside),
            None => return false,
        }
        carriage::finish(composer, request, &body);
        if let Some(leg) = call.leg_mut(to) {
            if refreshes {
                let kind = request.value(HeaderName::ContentType);
                leg.watch.offering(kind, &body);
            }
            leg.send(client, method, Owner { leg: to, ..owner }, context);
        }
        call.relays.push(Relay {
            from,
            to,
            server,
            client,
            method,
            request: Answerable::of(request, &arrival.flow, may_connect, context.buffer),
            has_offer,
            had_offer: !request.body().is_empty(),
            cseq,
            asked_cseq: request.cseq().number,
            is_quiet: reliable::names_100rel(request, HeaderName::Require),
            asked: session::Asked::of(request),
            is_answered: false,
        });
        if method == Method::Invite {
            let at = context.now.mono.plus(crate::limits::TIMER_C);
            self.arm(at, Timer::Relay(handle, client));
        }
        self.listen(handle, context);
        true
    }

    /// The answer to a relayed request.
    pub(super) fn relayed_response(
        &mut self,
        id: ClientId,
        owner: Owner,
        response: &Message<'_>,
        context: &mut Context<'_>,
    ) {
        let status = response.status();
        let Some(call) = self.get(owner.call) else {
            return;
        };
        let Some(position) = call.relays.iter().position(|relay| relay.client == id) else {
            // The 2xx to a re-INVITE that was settled came again: the ACK was lost.
            let is_success =
                (200..300).contains(&status) && response.cseq().method == Method::Invite;
            if let Some(leg) = call.leg_mut(owner.leg).filter(|_| is_success) {
                leg.repeat_or_end_ack(response.cseq().number, context);
            }
            return;
        };
        if status < 200 {
            // To a caller who wants them reliable only, there is none.
            if status > 100 && !call.relays[position].is_quiet {
                call.pass_response(position, response, context);
            }
            return;
        }
        let (method, cseq) = (call.relays[position].method, call.relays[position].cseq);
        let was_answered = call.relays[position].is_answered;
        let had_offer = call.relays[position].had_offer;
        let own_s = call.session_s;
        if status < 300
            && is_target_refresh(method)
            && let Some(leg) = call.leg_mut(owner.leg)
        {
            leg.dialog.refresh_target(response);
            if session::refreshes(method) {
                leg.watch.agree(context.now.mono, response, own_s);
            }
            if method == Method::Invite {
                if had_offer || was_answered {
                    leg.send_ack(cseq, None, context);
                } else {
                    leg.ack_owed = Some(cseq);
                }
            }
        }
        if !was_answered {
            call.pass_response(position, response, context);
        }
        let relay = call.relays.swap_remove(position);
        if status >= 300 {
            call.withdraws(&relay, context);
        }
        if status < 300
            && method == Method::Invite
            && !was_answered
            && let Some(leg) = call.leg_mut(relay.from)
        {
            leg.unacknowledged = Some((relay.server, relay.asked_cseq));
        }
        if status == 422
            && let Some(leg) = call.leg_mut(owner.leg)
        {
            leg.watch.raise(response, own_s);
        }
        let is_vital = call.is_vital(&relay);
        if matches!(status, 408 | 481) && is_vital {
            // RFC 5057: the peer has no such dialog any more.
            self.peer_is_gone(owner, status == 481, context);
        }
        self.watch_both(owner.call);
        self.listen(owner.call, context);
        self.sweep(owner.call);
    }

    /// A relayed request found nobody. When it is only that there is no connection (480), the call goes on: whoever made it
    /// makes another one, and the request can be repeated then.
    pub(super) fn relay_unanswered(
        &mut self,
        id: ClientId,
        owner: Owner,
        status: u16,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        let Some(position) = call.relays.iter().position(|relay| relay.client == id) else {
            return;
        };
        let relay = call.relays.swap_remove(position);
        call.withdraws(&relay, context);
        relay.settle(relay.refusal(status), context);
        if status == 408 && call.is_vital(&relay) {
            self.peer_is_gone(owner, false, context);
        }
        self.sweep(owner.call);
    }

    /// A re-INVITE has had no final answer for Timer C (RFC 3261 §16.6 step 11): whoever sent it is told, the other side
    /// gets a CANCEL, and the call goes on.
    pub(super) fn relay_timeout(
        &mut self,
        handle: CallHandle,
        client: ClientId,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(handle) else { return };
        let waiting = call.relays.iter_mut().find(|relay| relay.client == client);
        if let Some(relay) = waiting.filter(|relay| !relay.is_answered) {
            relay.settle(408, context);
            relay.is_answered = true;
            context
                .transactions
                .cancel(context.now.mono, client, b"", context.out);
        }
    }

    /// CANCEL of a re-INVITE: passed on; the other side's final response ends it.
    pub(super) fn cancel_relay(&mut self, owner: Owner, reason: &[u8], context: &mut Context<'_>) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        let relay = call.relays.iter().find(|relay| {
            relay.from == owner.leg && relay.method == Method::Invite && !relay.is_answered
        });
        if let Some(relay) = relay {
            context
                .transactions
                .cancel(context.now.mono, relay.client, reason, context.out);
        }
    }

    /// The call ends while requests are under way: whoever waits for an answer gets 487.
    pub(super) fn finish_relays(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        for relay in call.relays.iter_mut().filter(|relay| !relay.is_answered) {
            relay.settle(487, context);
            relay.is_answered = true;
            if relay.method == Method::Invite {
                context
                    .transactions
                    .cancel(context.now.mono, relay.client, b"", context.out);
            }
        }
    }
}

impl Call {
    /// Whether the dialog of a request is over, as we see it: the call is, or another early dialog has won against this one.
    fn has_ended(&self, located: Located) -> bool {
        let branch = if located.leg == CALLER {
            located.branch
        } else {
            located.leg
        };
        match self.state {
            State::Ringing => false,
            State::Answered => branch != self.winner,
            State::Ending => true,
        }
    }

    /// Whether a request's failure says something of the call: it was between the two sides that speak with each other. A
    /// PRACK's says nothing.
    fn is_vital(&self, relay: &Relay) -> bool {
        let branch = if relay.to == CALLER {
            relay.from
        } else {
            relay.to
        };
        branch == self.winner && relay.method != Method::Prack
    }

    /// §14.1, §14.2, RFC 3311 §5.2: whether this request may go now; otherwise the status, and whether it says when to try
    /// again.
    fn glare(&self, from: u8, to: u8, method: Method, has_offer: bool) -> Result<(), (u16, bool)> {
        const LATER: Result<(), (u16, bool)> = Err((500, true));
        const GLARE: Result<(), (u16, bool)> = Err((491, false));
        if self.relays.len() >= RELAYS_MAX {
            return LATER;
        }
        if has_offer && (self.is_refreshing() || self.join.is_some()) {
            return GLARE;
        }
        // While it rings each early dialog is by itself.
        let pending = self
            .relays
            .iter()
            .filter(|relay| [(from, to), (to, from)].contains(&(relay.from, relay.to)));
        for relay in pending {
            let is_own = relay.from == from;
            let collides = has_offer && relay.has_offer;
            let is_second = is_own && (method, relay.method) == (Method::Update, Method::Update);
            if collides && !is_own {
                return GLARE;
            }
            if collides || is_second {
                return LATER;
            }
        }
        // §14.1: no INVITE while the other side's is in progress, as ours there is until its ACK.
        if method == Method::Invite && self.leg(to).is_some_and(|leg| leg.unacknowledged.is_some())
        {
            return GLARE;
        }
        let leg = self.leg(from);
        // An offer of ours to this side is not yet acknowledged by the other: the same glare, seen later.
        if has_offer && leg.is_some_and(|leg| leg.ack_owed.is_some()) {
            return GLARE;
        }
        if has_offer && leg.is_some_and(|leg| leg.unacknowledged.is_some()) {
            return LATER;
        }
        Ok(())
    }

    /// Passes a response back to whoever sent the relayed request.
    fn pass_response(
        &mut self,
        position: usize,
        response: &Message<'_>,
        context: &mut Context<'_>,
    ) {
        let Some(relay) = self.relays.get(position) else {
            return;
        };
        let (from, to) = (relay.from, relay.to);
        let is_exchange = makes_offer(relay.method, b"v=0");
        let branch = if from == CALLER { to } else { from };
        let said = Said::response(to, response, relay.had_offer);
        let body = match response.body() {
            [] => Cow::Borrowed(&b""[..]),
            _ if is_exchange && response.status() < 300 => {
                self.passes_anyway(branch, said, context)
            }
            // RFC 3261 §21.4.26: it tells of what could be agreed upon, with the addresses of a side that is not to be seen.
            _ if is_exchange && self.has_relay(branch) => Cow::Borrowed(&b""[..]),
            body => Cow::Borrowed(body),
        };
        let Some(relay) = self.relays.get(position) else {
            return;
        };
        let Some(leg) = self.leg(from) else {
            return;
        };
        let status = response.status();
        let status = if status >= 300 {
            relay.refusal(status)
        } else {
            status
        };
        let mut composer = relay.request.response(context.buffer, status, b"");
        if is_target_refresh(relay.method) && status < 300 {
            leg.dialog.write_contact(&mut composer);
            composer.field("Allow", &[carriage::ALLOW]);
        }
        let is_refreshed = session::refreshes(relay.method)
            && (200..300).contains(&status)
            && self.state == State::Answered
            && self.is_vital(relay);
        let terms = relay.asked.terms(self.session_s);
        if is_refreshed {
            (relay.asked).write_answer(&mut composer, terms, self.session_s);
        }
        let from_outside = (self.leg(relay.to)).is_some_and(|leg| leg.party.is_outside());
        carriage::write(
            &mut composer,
            response,
            from_outside,
            leg.party.is_outside(),
        );
        carriage::finish(composer, response, &body);
        context.respond(relay.server, status, &relay.request);
        if let Some(leg) = self.leg_mut(from).filter(|_| is_refreshed) {
            leg.watch.begin(context.now.mono, terms);
            leg.watch
                .sending(response.value(HeaderName::ContentType), &body);
        }
    }
}

/// RFC 3261 §12.2.1.2, RFC 3311 §5.1: whose Contact is where later requests go.
fn is_target_refresh(method: Method) -> bool {
    matches!(method, Method::Invite | Method::Update)
}

/// RFC 3264: a re-INVITE brings an offer or asks for one; UPDATE and PRACK with a body bring one.
fn makes_offer(method: Method, body: &[u8]) -> bool {
    match method {
        Method::Invite => true,
        Method::Update | Method::Prack => !body.is_empty(),
        _ => false,
    }
}

/// An INFO of an old device that only asks whether the call is still there.
fn is_keep_alive(info: &Message<'_>) -> bool {
    info.body().is_empty() && info.value(HeaderName::InfoPackage).is_none()
}

impl Relay {
    /// What whoever sent the request is told when it is refused with this status. A PRACK that matches is never refused
    /// for itself (RFC 3262 §3): what is refused is its offer.
    fn refusal(&self, status: u16) -> u16 {
        if self.method == Method::Prack {
            return 488;
        }
        best::towards_caller(status)
    }

    /// A final response of our own to whoever sent the relayed request.
    fn settle(&self, status: u16, context: &mut Context<'_>) {
        self.request
            .response(context.buffer, status, b"")
            .finish(None, b"");
        context.respond(self.server, status, &self.request);
    }
}
