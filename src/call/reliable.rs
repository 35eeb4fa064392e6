//! Reliable provisional responses (RFC 3262), which are a matter of each leg.
//!
//! **To the callees** 100rel is offered (`Supported`), required of nobody. A reliable response is taken in the order of its
//! RSeq, once, and acknowledged in its early dialog; what a callee answers to the PRACK changes nothing.
//!
//! **To the caller** provisional responses are reliable if he requires it; if he only supports it, when the callee's was:
//! SDP in an unreliable response is a preview, and some callees' 2xx says otherwise; in a reliable one it is the answer.
//! (For whoever requires 100rel it becomes that: RFC 3261 §13.2.1 has the 2xx repeat it.) One is on its way at a time; its
//! retransmission is the transaction layer's. Each early dialog counts its RSeq by itself, as behind a proxy that forks.
//!
//! **Between them.** Where a response with SDP is reliable on both sides (and from then on), the callee's PRACK waits for
//! the caller's: it brings the answer to a late offer, or an offer, whose answer is in the callee's 2xx. Otherwise we
//! acknowledge at once, and an answer that the caller did not get reliably is repeated in his 2xx.
//!
//! **Late offers** (RFC 3264, RFC 6337 §2.2): the offer may come in a reliable response only, and its answer only in the
//! PRACK. A caller who has no PRACK could not bring it, and several callees' offers have no one answer. So to a late offer
//! 100rel is offered only if the caller has it and there is one branch; else the offer is in the 2xx, the answer in the ACK.

use std::borrow::Cow;

use super::early::Answer;
use super::media::Said;
use super::*;
use crate::message::{HeaderName, Message, RAck, rseq};

/// Reliable responses that wait for the PRACK of the one before, for each call. A callee's that finds no place is not
/// taken: he repeats it.
const WAITING_MAX: usize = 8;

/// What the caller says about 100rel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Nothing,
    Supported,
    Required,
}

/// A reliable provisional response to the caller.
#[derive(Clone, Copy, Debug)]
struct Sent {
    status: u16,
    /// Whose early dialog it belongs to.
    branch: u8,
    rseq: u32,
    has_session: bool,
    /// RSeq of the callee's response, if its PRACK waits for the caller's.
    prack: Option<u32>,
}

/// A 2xx that must wait (RFC 3262 §3): as it came, and how.
#[derive(Clone, Debug)]
struct Held {
    owner: Owner,
    bytes: Box<[u8]>,
    flow: Flow,
    ours: SocketAddr,
}

/// The provisional responses of one call to its caller.
#[derive(Clone, Debug)]
pub(super) struct Provisionals {
    wish: Wish,
    /// Whether callees are offered 100rel.
    is_offered: bool,
    /// The one that waits for its PRACK; it still may come after the final response.
    sent: Option<Sent>,
    /// Those that wait for it.
    waiting: Vec<(Sent, Box<[u8]>)>,
    held: Vec<Held>,
}

impl Provisionals {
    /// For this INVITE, which goes to so many targets.
    pub fn new(invite: &Message<'_>, targets: usize) -> Self {
        let wish = if names_100rel(invite, HeaderName::Require) {
            Wish::Required
        } else if names_100rel(invite, HeaderName::Supported) {
            Wish::Supported
        } else {
            Wish::Nothing
        };
        let mut provisionals = Self {
            wish,
            is_offered: false,
            sent: None,
            waiting: Vec::new(),
            held: Vec::new(),
        };
        provisionals.goes_to(targets, !invite.body().is_empty());
        provisionals
    }

    /// For a call that has no caller's INVITE. `is_offered`: its branches have been offered 100rel.
    pub fn for_nobody(is_offered: bool) -> Self {
        Self {
            wish: Wish::Nothing,
            is_offered,
            sent: None,
            waiting: Vec::new(),
            held: Vec::new(),
        }
    }

    /// So many targets ring from now on, at first or after a redirection.
    pub fn goes_to(&mut self, targets: usize, has_offer: bool) {
        self.is_offered = has_offer || self.wish != Wish::Nothing && targets == 1;
    }

    /// Whether callees are offered 100rel.
    pub fn is_offered(&self) -> bool {
        self.is_offered
    }

    /// The INVITE has its final response: none follows. A PRACK for the last one may still come.
    pub fn end(&mut self) {
        self.waiting.clear();
    }

    /// Whether somebody has answered, and the caller hears of it with his PRACK.
    pub fn has_answer(&self) -> bool {
        !self.held.is_empty()
    }

    /// RFC 3262 §3: no 2xx while SDP in a provisional response is not acknowledged. One that waits is needless then, unless it
    /// has the offer that the INVITE lacks.
    fn holds_success(&self, is_late: bool) -> bool {
        self.sent.is_some_and(|sent| sent.has_session)
            || is_late && self.waiting.iter().any(|(sent, _)| sent.has_session)
    }
}

impl Calls {
    /// 101 to 199: to the caller, with the tag of this early dialog. SDP passes only from callees behind one INVITE, since
    /// a caller cannot play two early media.
    pub(super) fn branch_rings(
        &mut self,
        owner: Owner,
        response: &Message<'_>,
        context: &mut Context<'_>,
    ) {
        // One more early dialog is over. Of the caller nobody knows that he would understand it (RFC 6228 §5).
        if response.status() == 199 && !names_100rel(response, HeaderName::Require) {
            return;
        }
        let Some(call) = self.get(owner.call) else {
            return;
        };
        if call.state != State::Ringing || call.is_final || call.is_declined() {
            return;
        }
        // A trunk that was left for another, before the CANCEL has reached it.
        if (call.branches.get(owner.leg as usize)).is_none_or(|branch| branch.is_left) {
            return;
        }
        let rang = call.early_dialogs();
        let Some(leg) = call.early_dialog(owner.leg, response) else {
            return;
        };
        let owner = Owner { leg, ..owner };
        let (is_transfer, mut is_new) = (call.transfer.is_some(), false);
        match is_transfer {
            true => is_new = call.ring_nobody(owner, response, context),
            false => call.ring_caller(owner, response, context),
        }
        // Nothing else of it is shown: a phone may say it as often as it likes.
        if call.early_dialogs() != rang {
            self.touch(owner.call);
        }
        if is_new {
            self.transfer_rings(owner.call, response.status(), context);
        }
    }

    /// PRACK (§3). From the caller it acknowledges the response that is on its way; callees have none of ours.
    pub(super) fn prack(
        &mut self,
        located: Located,
        arrival: &Arrival<'_>,
        context: &mut Context<'_>,
    ) {
        let request = arrival.request;
        let Some(rack) = request.value(HeaderName::RAck).and_then(RAck::parse) else {
            return arrival.answer(400, None, context);
        };
        let Some(call) = self.get(located.call) else {
            return;
        };
        let cseq = call.invite_cseq;
        let is_it = |sent: &mut Sent| {
            located.leg == CALLER
                && sent.branch == located.branch
                && (sent.rseq, cseq) == (rack.response, rack.cseq.number)
                && rack.cseq.method == Method::Invite
        };
        let Some(sent) = call.provisionals.sent.take_if(is_it) else {
            return arrival.answer(481, None, context);
        };
        let now = context.now.mono;
        context
            .transactions
            .acknowledge_provisional(now, call.invite);
        // Whoever knows its number has received it.
        call.is_proven(CALLER, context);
        self.pass_prack(located, sent, arrival, context);
        self.release_success(located.call, context);
        if let Some(call) = self.get(located.call) {
            call.ring_again(context);
        }
    }

    /// What the caller's PRACK means for the callee: his own, with the answer or the offer that it brings.
    fn pass_prack(
        &mut self,
        located: Located,
        sent: Sent,
        arrival: &Arrival<'_>,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(located.call) else {
            return;
        };
        let is_late = !call.had_offer;
        let is_over = call.state == State::Ending;
        let branch = (call.branches.get_mut(sent.branch as usize))
            .filter(|branch| !is_over && branch.status.is_none_or(|status| status < 300));
        let Some(branch) = branch else {
            return arrival.answer(200, None, context);
        };
        let early = &mut branch.early;
        let was_negotiated = early.is_negotiated;
        if sent.has_session {
            early.is_negotiated |= sent.prack.is_some();
            early.answer = None;
        }
        let body = arrival.request.body();
        let brings_answer = is_late && sent.has_session && !was_negotiated;
        match sent.prack {
            // Not linked with a PRACK to the callee: there is no way for an offer.
            None if body.is_empty() => arrival.answer(200, None, context),
            None => arrival.answer(488, None, context),
            Some(number) if body.is_empty() || brings_answer => {
                arrival.answer(200, None, context);
                let kind = arrival.request.value(HeaderName::ContentType);
                let answer = Said::answer(CALLER, arrival.request);
                let body = match brings_answer {
                    true => call.passes_anyway(sent.branch, answer, context),
                    false => Cow::Borrowed(body),
                };
                let answer = kind.map(|kind| (kind, &*body));
                call.send_prack((located.call, sent.branch), number, answer, context);
            }
            Some(number) => {
                if !self.relay(located, arrival, Some(number), context)
                    && let Some(call) = self.get(located.call)
                {
                    call.send_prack((located.call, sent.branch), number, None, context);
                }
            }
        }
    }

    /// Keeps a callee's 2xx while SDP in a provisional response to the caller is not acknowledged (§3). `true`: it waits.
    pub(super) fn holds_success(
        &mut self,
        owner: Owner,
        response: &Message<'_>,
        (flow, ours): (&Flow, SocketAddr),
    ) -> bool {
        let Some(call) = self.get(owner.call) else {
            return false;
        };
        if call.state != State::Ringing || call.is_final || !call.awaits_prack() {
            return false;
        }
        let held = &mut call.provisionals.held;
        let is_known = held.iter().any(|held| *held.bytes == *response.bytes());
        if !is_known && held.len() < crate::limits::BRANCHES_MAX {
            held.push(Held {
                owner,
                bytes: response.bytes().into(),
                flow: *flow,
                ours,
            });
        }
        true
    }

    /// What waited for a PRACK waits no longer: it came, or the call is over.
    pub(super) fn release_success(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        for held in std::mem::take(&mut call.provisionals.held) {
            if let Ok(response) = crate::message::parse(&held.bytes) {
                self.branch_answers(held.owner, &response, (&held.flow, held.ours), context);
            }
        }
    }

    /// The INVITE is refused while a response waits for its PRACK: that may still come (§3), so the call stays for 64·T1.
    pub(super) fn await_prack(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        if call.provisionals.sent.is_some() {
            call.waiting += 1;
            let until = context.now.mono.plus(crate::limits::T1_64);
            self.arm(until, Timer::Prack(handle));
        }
    }

    /// It is waited for no longer.
    pub(super) fn prack_timeout(&mut self, handle: CallHandle) {
        if let Some(call) = self.get(handle) {
            call.waiting = call.waiting.saturating_sub(1);
        }
        self.sweep(handle);
    }

    /// No PRACK within 64·T1: the INVITE is rejected (§3).
    pub(super) fn provisional_not_acknowledged(&mut self, owner: Owner, context: &mut Context<'_>) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        if call.state == State::Ringing {
            call.cancel_branches(b"", context);
            self.refuse(owner.call, 504, EndedBy::Server, context);
            self.sweep(owner.call);
        }
    }
}

impl Call {
    /// Whether the caller's 2xx has to wait for a PRACK (§3).
    pub(super) fn awaits_prack(&self) -> bool {
        self.provisionals.holds_success(!self.had_offer)
    }

    /// A provisional response of a callee, in its early dialog.
    fn ring_caller(&mut self, owner: Owner, response: &Message<'_>, context: &mut Context<'_>) {
        let number = self.reliable_number(response);
        let is_reliable = match self.provisionals.wish {
            Wish::Nothing => false,
            Wish::Supported => number.is_some(),
            Wish::Required => true,
        };
        // As if it had been lost.
        if is_reliable && self.provisionals.waiting.len() >= WAITING_MAX {
            return;
        }
        if !self.take(owner.leg, number, response) {
            return;
        }
        // An offer cannot be in an unreliable response (RFC 3261 §13.2.1), so it is not made reliable.
        let may_pass = self.had_offer || number.is_some() || !is_reliable;
        let passes = may_pass && self.is_alone(owner.leg);
        let said = Said::response(owner.leg, response, self.had_offer);
        let body = match passes && !response.body().is_empty() {
            true => self.passes_anyway(owner.leg, said, context),
            false => Cow::Borrowed(&b""[..]),
        };
        let has_session = is_reliable && !body.is_empty();
        if number.is_some() && !response.body().is_empty() {
            self.keep_answer(owner.leg, response);
        }
        let is_linked = is_reliable && (has_session || self.is_negotiated(owner.leg));
        let prack = number.filter(|_| is_linked);
        if is_reliable {
            let sent = Sent {
                status: response.status(),
                branch: owner.leg,
                rseq: self.next_number(owner.leg, context),
                has_session,
                prack,
            };
            let mut composer = self.compose_answer(owner, response, context);
            composer.field("Require", &[b"100rel"]);
            composer.number("RSeq", sent.rseq.into());
            carriage::finish(composer, response, &body);
            self.caller
                .watch
                .sending(response.value(HeaderName::ContentType), &body);
            self.send_reliably(sent, context);
        } else {
            let composer = self.compose_answer(owner, response, context);
            carriage::finish(composer, response, &body);
            context.respond(self.invite, response.status(), &self.request);
        }
        if let (Some(number), None) = (number, prack) {
            self.send_prack((owner.call, owner.leg), number, None, context);
        }
    }

    /// The same where nobody waits for the response but the callee for his PRACK. `false`: it is not taken.
    fn ring_nobody(
        &mut self,
        owner: Owner,
        response: &Message<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        let number = self.reliable_number(response);
        let is_taken = self.take(owner.leg, number, response);
        if let (true, Some(number)) = (is_taken, number) {
            self.send_prack((owner.call, owner.leg), number, None, context);
        }
        is_taken
    }

    /// §4: takes a callee's response, a reliable one in the order of its number and once. Its Contact counts from then on,
    /// its Record-Route too if it has one: some leave it out where they had it before, or the other way round.
    fn take(&mut self, leg: u8, number: Option<u32>, response: &Message<'_>) -> bool {
        let Some(branch) = self.branches.get_mut(leg as usize) else {
            return false;
        };
        let early = &mut branch.early;
        if number.is_some() {
            if (early.taken).is_some_and(|last| last.checked_add(1) != number) {
                return false;
            }
            early.taken = number;
        }
        let dialog = &mut branch.leg.dialog;
        let has_route = (response.values(HeaderName::RecordRoute).next()).is_some();
        if dialog.remote_tag.is_empty() || number.is_some() && has_route {
            dialog.establish(response);
        } else if number.is_some() {
            dialog.refresh_target(response);
        }
        true
    }

    /// SDP in a callee's reliable response is his answer to the INVITE's offer: until the caller has it reliably it is kept.
    fn keep_answer(&mut self, leg: u8, response: &Message<'_>) {
        if let Some(branch) = (self.branches.get_mut(leg as usize)).filter(|_| self.had_offer) {
            let kind = response.value(HeaderName::ContentType).unwrap_or_default();
            branch.early.answer = Some(Answer {
                kind: kind.into(),
                body: response.body().into(),
            });
        }
    }

    pub(super) fn is_negotiated(&self, leg: u8) -> bool {
        let branch = self.branches.get(leg as usize);
        branch.is_some_and(|branch| branch.early.is_negotiated)
    }

    /// §3: the number of our next response in this early dialog. The first is random, from 1 to 2³¹ − 1.
    fn next_number(&mut self, leg: u8, context: &mut Context<'_>) -> u32 {
        let Some(branch) = self.branches.get_mut(leg as usize) else {
            return 0;
        };
        let used = &mut branch.early.used;
        *used = match *used {
            0 => (context.tokens.next_u64() % 0x7fff_ffff) as u32 + 1,
            last => last.saturating_add(1),
        };
        *used
    }

    /// The RSeq of a callee's response that is to be acknowledged.
    fn reliable_number(&self, response: &Message<'_>) -> Option<u32> {
        let is_reliable = self.provisionals.is_offered
            && names_100rel(response, HeaderName::Require)
            && response.to().tag().is_some();
        response
            .value(HeaderName::RSeq)
            .filter(|_| is_reliable)
            .and_then(rseq)
    }

    /// A provisional response of our own to the caller, within the early dialog of a branch; reliable if he requires it.
    pub(super) fn ring_ourselves(
        &mut self,
        handle: CallHandle,
        branch: u8,
        status: u16,
        context: &mut Context<'_>,
    ) {
        if self.transfer.is_some() {
            return;
        }
        let is_reliable = self.provisionals.wish == Wish::Required;
        if is_reliable && self.provisionals.waiting.len() >= WAITING_MAX {
            return;
        }
        let rseq = is_reliable.then(|| self.next_number(branch, context));
        let mut composer = self.begin_answer(handle, branch, status, context);
        if let Some(rseq) = rseq {
            composer.field("Require", &[b"100rel"]);
            composer.number("RSeq", rseq.into());
        }
        composer.finish(None, b"");
        match rseq {
            None => context.respond(self.invite, status, &self.request),
            Some(rseq) => {
                let sent = Sent {
                    status,
                    branch,
                    rseq,
                    has_session: false,
                    prack: None,
                };
                self.send_reliably(sent, context);
            }
        }
    }

    /// Sends what is composed, or lets it wait for the PRACK of the one before.
    fn send_reliably(&mut self, sent: Sent, context: &mut Context<'_>) {
        if self.provisionals.sent.is_some() {
            let bytes = context.buffer.as_slice().into();
            self.provisionals.waiting.push((sent, bytes));
            return;
        }
        self.provisionals.sent = Some(sent);
        context.respond_reliably(self.invite, sent.status, &self.request);
    }

    /// The next response that waits.
    fn ring_again(&mut self, context: &mut Context<'_>) {
        if self.provisionals.waiting.is_empty() || self.is_final {
            return;
        }
        let (sent, bytes) = self.provisionals.waiting.remove(0);
        context.buffer.clear();
        context.buffer.extend_from_slice(&bytes);
        self.send_reliably(sent, context);
    }

    /// Our PRACK to a callee. What he answers, or whether he does, changes nothing: there are cores that refuse every PRACK
    /// and set up the call all the same.
    fn send_prack(
        &mut self,
        (handle, leg): (CallHandle, u8),
        number: u32,
        session: Option<(&[u8], &[u8])>,
        context: &mut Context<'_>,
    ) {
        let Some(branch) = self.branches.get_mut(leg as usize) else {
            return;
        };
        let Some((client, via_branch)) = context.transactions.reserve() else {
            // Full: he repeats his response, which is taken then.
            branch.early.taken = number.checked_sub(1);
            return;
        };
        branch.leg.reconnect(context);
        let dialog = &mut branch.leg.dialog;
        let cseq = dialog.next_cseq();
        let mut composer =
            dialog.compose(context.buffer, Method::Prack, cseq, via_branch.as_bytes());
        write_rack(&mut composer, number, branch.cseq);
        match session {
            Some((kind, body)) => composer.finish(Some(kind), body),
            None => composer.finish(None, b""),
        }
        let (now, flow, method) = (context.now.mono, dialog.flow, Method::Prack);
        let owner = Owner {
            call: handle,
            leg,
            purpose: Purpose::Stray,
        };
        let transactions = &mut *context.transactions;
        let (buffer, out) = (&*context.buffer, &mut *context.out);
        transactions.send(now, client, method, &flow, buffer, owner, out);
        // But for a challenge.
        if !branch.leg.party.is_line() {
            transactions.disown(client);
        }
    }
}

/// `RAck` for a response to the INVITE of a branch, which has this CSeq number.
pub(super) fn write_rack(composer: &mut crate::message::Composer<'_>, number: u32, cseq: u32) {
    composer.field_with("RAck", |line| {
        crate::message::compose::append_number(line, number.into());
        line.push(b' ');
        crate::message::compose::append_number(line, cseq.into());
        line.extend_from_slice(b" INVITE");
    });
}

/// Whether a header of option tags (RFC 3261 §20.32, §20.37) names 100rel.
pub(super) fn names_100rel(message: &Message<'_>, name: HeaderName) -> bool {
    message
        .values(name)
        .any(|option| option.eq_ignore_ascii_case(b"100rel"))
}
