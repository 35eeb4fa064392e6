//! The legs of an answered call are watched: session refreshes, by us and by the peer, and probes of whoever has no
//! session timer (RFC 4028 §7.4, §9, §10; RFC 3311; RFC 5057).

use super::media::Said;
use super::session::{Asked, Due, Refresh};
use super::*;
use crate::message::compose::{Composer, reason_phrase};
use crate::message::{HeaderName, Message};

/// Reason of the BYE to both sides of a session that nobody refreshed (RFC 3326).
const EXPIRED: &[u8] = b"SIP;cause=408;text=\"Session expired\"";

impl Calls {
    /// Both legs of a call that has just been answered are watched from now on.
    pub(super) fn watch_both(&mut self, handle: CallHandle) {
        let winner = self.get(handle).map_or(NO_BRANCH, |call| call.winner);
        self.watch(handle, CALLER);
        self.watch(handle, winner);
    }

    /// Arms the timer of a leg for what is due on it next.
    pub(super) fn watch(&mut self, handle: CallHandle, leg_index: u8) {
        let leg = self.get(handle).and_then(|call| call.leg_mut(leg_index));
        if let Some(at) = leg.and_then(|leg| leg.watch.arm()) {
            self.arm(at, Timer::Watch(handle, leg_index));
        }
    }

    /// The timer of a leg has fired.
    pub(super) fn watched(&mut self, handle: CallHandle, leg_index: u8, context: &mut Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        if call.state != State::Answered {
            return;
        }
        let Some(leg) = call.leg_mut(leg_index).filter(|leg| leg.is_up) else {
            return;
        };
        match leg.watch.fired(context.now.mono) {
            Due::Later => {}
            Due::Probe => self.probe(handle, leg_index, context),
            Due::Refresh => self.refresh(handle, leg_index, context),
            Due::Expired => {
                self.end_call(handle, EndedBy::Server, EXPIRED, context);
                self.sweep(handle);
            }
        }
        self.watch(handle, leg_index);
    }

    /// Sends a refresh (§7.4): an UPDATE, or to a peer who takes none a re-INVITE with what he was sent last.
    fn refresh(&mut self, handle: CallHandle, leg_index: u8, context: &mut Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        let own_s = call.session_s;
        let is_crossing = call.is_negotiating();
        let Some(leg) = call.leg_mut(leg_index) else {
            return;
        };
        // The peer has refreshed the session meanwhile, but left our last re-INVITE without a final response: it ends before
        // there is another one.
        let unanswered = leg.watch.refresh.map(|refresh| refresh.client);
        if let Some(client) = unanswered {
            let now = context.now.mono;
            context.transactions.cancel(now, client, b"", context.out);
        }
        let reserved = if is_crossing || unanswered.is_some() {
            None
        } else {
            context.transactions.reserve()
        };
        let Some((client, branch)) = reserved else {
            leg.watch.postpone(context.now.mono);
            return;
        };
        leg.reconnect(context);
        let cseq = leg.dialog.next_cseq();
        let description = leg.watch.description();
        let method = match description {
            Some(_) => Method::Invite,
            None => Method::Update,
        };
        let mut composer = leg
            .dialog
            .compose(context.buffer, method, cseq, branch.as_bytes());
        leg.dialog.write_contact(&mut composer);
        composer.field("Allow", &[carriage::ALLOW]);
        leg.watch.write_refresh(&mut composer, own_s);
        match description {
            Some(description) => composer.finish(Some(&description.kind), &description.body),
            None => composer.finish(None, b""),
        }
        leg.watch.refreshing(Refresh {
            client,
            method,
            cseq,
        });
        let owner = Owner {
            call: handle,
            leg: leg_index,
            purpose: Purpose::Refresh,
        };
        leg.send(client, method, owner, context);
        call.waiting += 1;
    }

    /// A response to a refresh of ours.
    pub(super) fn refresh_answered(
        &mut self,
        id: ClientId,
        owner: Owner,
        response: &Message<'_>,
        context: &mut Context<'_>,
    ) {
        let status = response.status();
        let Some(call) = self.get(owner.call).filter(|_| status >= 200) else {
            return;
        };
        let own_s = call.session_s;
        let Some(leg) = call.leg_mut(owner.leg) else {
            return;
        };
        let Some(refresh) = leg.watch.refresh.filter(|refresh| refresh.client == id) else {
            // The 2xx came again: the ACK was lost.
            leg.repeat_ack(response.cseq().number, context);
            return;
        };
        if status < 300 {
            leg.dialog.refresh_target(response);
            leg.watch.agree(context.now.mono, response, own_s);
            let is_invite = refresh.method == Method::Invite;
            if !(is_invite && self.join_answered(owner, response, context))
                && let Some(call) = self.get(owner.call)
            {
                if let Some(leg) = call.leg_mut(owner.leg).filter(|_| is_invite) {
                    leg.send_ack(refresh.cseq, None, context);
                }
                call.hears_again(owner.leg, response, context);
            }
        } else if status == 422 {
            leg.watch.raise(response, own_s);
        }
        self.refresh_ends(owner, status, context);
    }

    /// A refresh of ours has its final status, the peer's or what was found in place of one.
    pub(super) fn refresh_ends(&mut self, owner: Owner, status: u16, context: &mut Context<'_>) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        call.waiting = call.waiting.saturating_sub(1);
        let is_joining = call.join.is_some();
        let Some(leg) = call.leg_mut(owner.leg) else {
            return;
        };
        leg.watch.refresh = None;
        let now = context.now.mono;
        if is_joining {
            self.join_ends(owner, status, context);
            self.watch_both(owner.call);
            return self.sweep(owner.call);
        }
        match status {
            200..=299 => {}
            // RFC 4028 §10, RFC 5057: the peer has no such dialog, or is no more.
            408 | 481 => self.peer_is_gone(owner, status == 481, context),
            491 => {
                // RFC 3261 §14.1: 2.1 to 4 s for whoever chose the Call-ID, up to 2 s for the other.
                let steps = context.tokens.next_u64();
                let wait_ms = if owner.leg == CALLER {
                    steps % 201 * 10
                } else {
                    2_100 + steps % 191 * 10
                };
                leg.watch.back_off(now, Duration::from_millis(wait_ms));
            }
            // He takes no UPDATE, whatever he said, and there is nothing to offer him: he is only asked whether he is there.
            405 | 501 => leg.watch.begin(now, None),
            _ => leg.watch.refused(now),
        }
        self.watch(owner.call, owner.leg);
        self.sweep(owner.call);
    }

    /// An UPDATE without a session description refreshes this leg and changes nothing: the other one hears nothing of it.
    pub(super) fn refreshed(
        &mut self,
        located: Located,
        arrival: &Arrival<'_>,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(located.call) else {
            return;
        };
        let own_s = call.session_s;
        let Some(leg) = call.leg_mut(located.leg) else {
            return;
        };
        let request = arrival.request;
        leg.dialog.refresh_target(request);
        leg.watch.learn(request);
        let asked = Asked::of(request);
        let terms = asked.terms(own_s);
        let mut composer = Composer::response_to(
            context.buffer,
            request,
            &arrival.flow,
            200,
            reason_phrase(200),
            b"",
        );
        leg.dialog.write_contact(&mut composer);
        composer
            .field("Allow", &[carriage::ALLOW])
            .field("Server", &[b"sipkeep"]);
        asked.write_answer(&mut composer, terms, own_s);
        composer.finish(None, b"");
        arrival.send(200, context);
        leg.watch.begin(context.now.mono, terms);
        self.watch(located.call, located.leg);
    }

    /// Asks the peer of a leg whether he still knows of the call.
    fn probe(&mut self, handle: CallHandle, leg_index: u8, context: &mut Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        let Some(leg) = call.leg_mut(leg_index) else {
            return;
        };
        leg.watch.begin(context.now.mono, None);
        let Some((client, branch)) = context.transactions.reserve() else {
            return;
        };
        leg.reconnect(context);
        let cseq = leg.dialog.next_cseq();
        leg.dialog
            .compose(context.buffer, Method::Options, cseq, branch.as_bytes())
            .finish(None, b"");
        let owner = Owner {
            call: handle,
            leg: leg_index,
            purpose: Purpose::Probe,
        };
        leg.send(client, Method::Options, owner, context);
        leg.is_probed = true;
        call.waiting += 1;
    }
}

impl Call {
    /// The call is answered, and this is the callee's 2xx: a session begins on each leg.
    /// `answer` is what the caller is sent, with its Content-Type.
    pub(super) fn begin_sessions(
        &mut self,
        response: &Message<'_>,
        answer: (Option<&[u8]>, &[u8]),
        context: &mut Context<'_>,
    ) {
        let (own_s, now) = (self.session_s, context.now.mono);
        let kept = self.invitation.take();
        let winner = self.winner;
        let keeps_offer = self
            .branches
            .get_mut(winner as usize)
            .is_some_and(|branch| {
                branch.leg.watch.agree(now, response, own_s);
                branch.leg.watch.keeps_descriptions()
            });
        // What this callee was offered is read again only if it may have to be offered again.
        let kept = kept.as_ref().filter(|_| keeps_offer);
        if let Some(request) = kept.and_then(|kept| crate::message::parse(&kept.request).ok()) {
            let offer = self.passed(winner, Said::offer(CALLER, &request), context);
            if let Some(branch) = self.branches.get_mut(winner as usize) {
                let kind = request.value(HeaderName::ContentType);
                branch.leg.watch.sending(kind, &offer);
            }
        }
        let watch = &mut self.caller.watch;
        watch.begin(now, self.asked.terms(own_s));
        watch.sending(answer.0, answer.1);
    }

    /// Whether an offer or its answer is under way, on either leg: a refresh would cross it, and makes itself needless if
    /// it goes well.
    fn is_negotiating(&self) -> bool {
        let is_open = |leg: &Leg| leg.ack_owed.is_some() || leg.unacknowledged.is_some();
        (self.relays.iter()).any(|relay| relay.method != Method::Info)
            || self.join.is_some()
            || is_open(&self.caller)
            || self.leg(self.winner).is_some_and(is_open)
    }

    /// Whether a refresh of ours waits for its answer, on either leg.
    pub(super) fn is_refreshing(&self) -> bool {
        self.refreshes().next().is_some()
    }

    /// The call ends: nobody waits for the answer to a re-INVITE that refreshes.
    pub(super) fn cancel_refreshes(&self, context: &mut Context<'_>) {
        for client in self.refreshes() {
            let now = context.now.mono;
            context.transactions.cancel(now, client, b"", context.out);
        }
    }

    /// Refreshes of ours that wait for their answer.
    pub(super) fn refreshes(&self) -> impl Iterator<Item = ClientId> {
        let legs = [Some(&self.caller), self.leg(self.winner)];
        (legs.into_iter().flatten()).filter_map(|leg| Some(leg.watch.refresh?.client))
    }
}
