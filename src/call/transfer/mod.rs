//! Transfers (RFC 3515, RFC 5589): a user sends the other party of his call to somebody else.
//!
//! ```text
//!   A ◀── call 1 ──▶ B        B: REFER in his dialog of call 1 / 202, NOTIFY 100
//!   A ◀── call 1 ──▶ B   call 2 rings C, NOTIFY 180; its caller's place is A's
//!   A ◀── call 2 ──▶ C        C answers: A's leg goes on in call 2 (`place`), both are joined (`join`),
//!                             B: NOTIFY 200, BYE; call 1 is over
//! ```
//!
//! Where a call of the transfer leads is asked and answered as for a redirection (`onward`): whom the user names is a number
//! that he dials, by his rights and at his expense. Until somebody answers call 1 is as it was: when nobody does B is told
//! and has A again. If B hangs up before, A waits in call 2 alone; if A does, C stops ringing.
//!
//! A REFER with Replaces names a second call of B's. When that has been answered A and C are joined at once; when it still
//! rings, its branches ring on for A. Both ends are ours, so no INVITE with Replaces needs to go out.
//!
//! The party's dialog is never given up: he keeps his phone's call, and hears by a re-INVITE whom he talks to.

mod attended;
mod join;
mod place;
mod refer;

pub(super) use attended::answered_branch;
pub(super) use join::{BUSY, JOIN_MAX, Join};
pub(super) use place::Place;
pub use refer::Replaces;

use super::onward::{Onward, Why};
use super::setup::Kept;
use super::*;
use crate::message::compose::{append_number, reason_phrase};
use crate::message::{Message, NameAddr, Uri};
use refer::Refer;

/// What a NOTIFY of a transfer has for its body (RFC 3515 §2.4.5).
const SIPFRAG: &[u8] = b"message/sipfrag;version=2.0";

/// On the call to the target: what it is for.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    /// The call that is transferred.
    from: CallHandle,
    /// Which leg of it goes on here, while it is still there.
    party: Option<u8>,
    /// Who transfers, as the target is shown him.
    by: Identity,
}

/// On the call that is transferred: who wants that, and what he is to hear of it.
#[derive(Clone, Debug)]
pub(super) struct Referral {
    /// Who transfers.
    leg: u8,
    /// CSeq number of his REFER, which tells its NOTIFYs from others'.
    id: u32,
    /// The call to the target, until it is decided what becomes of it.
    to: Option<CallHandle>,
    /// He wants to hear of it, and can.
    is_told: bool,
    /// A NOTIFY waits for its answer.
    is_waiting: bool,
    /// What the next one says.
    due: Option<u16>,
    /// What has become of it.
    outcome: Option<u16>,
}

impl Transfer {
    /// The value of Referred-By (RFC 3892) on the way to a target.
    pub(super) fn referred_by(&self, ours: SocketAddr) -> Vec<u8> {
        self.by.name_addr(ours.ip())
    }
}

impl Referral {
    /// Who transfers.
    pub(super) fn leg(&self) -> u8 {
        self.leg
    }
}

impl Calls {
    /// REFER within a dialog of a call.
    pub(super) fn refer(
        &mut self,
        located: Located,
        arrival: &Arrival<'_>,
        context: &mut Context<'_>,
    ) {
        let is_full = self.is_full();
        let Some(call) = self.get(located.call) else {
            return;
        };
        let Some(leg) = call.leg(located.leg) else {
            return;
        };
        // Whoever is outside transfers nothing at our expense.
        if leg.party.is_outside() {
            return arrival.answer(403, None, context);
        }
        let refer = match Refer::of(arrival.request) {
            Ok(refer) => refer,
            Err(status) => return arrival.answer(status, None, context),
        };
        // One at a time; before there is an answer there is nobody to be transferred.
        let is_free = call.state == State::Answered
            && call.referral.is_none()
            && call.join.is_none()
            && call
                .leg(call.other(located.leg))
                .is_some_and(|leg| leg.is_up);
        if !is_free {
            return arrival.answer(491, None, context);
        }
        if is_full {
            return arrival.answer(503, Some(RETRY_AFTER_S), context);
        }
        let dialog = &leg.dialog;
        arrival.answer_with(202, b"", context, |composer| {
            dialog.write_contact(composer);
            if !refer.is_told {
                composer.field("Refer-Sub", &[b"false"]);
            }
        });
        call.referral = Some(Box::new(Referral {
            leg: located.leg,
            id: arrival.request.cseq().number,
            to: None,
            is_told: refer.is_told,
            is_waiting: false,
            due: None,
            outcome: None,
        }));
        self.tell(located.call, 100, context);
        match &refer.replaces {
            Some(replaces) => self.transfer_to_dialog(located, replaces, context),
            None => self.transfer_to_number(located, &refer, arrival.request, context),
        }
    }

    /// A blind transfer: the call to the target begins, and asks where that is.
    fn transfer_to_number(
        &mut self,
        located: Located,
        refer: &Refer,
        request: &Message<'_>,
        context: &mut Context<'_>,
    ) {
        let mut number = Vec::new();
        if let Ok(uri) = Uri::parse(&refer.uri) {
            uri.user_unescaped(&mut number);
        }
        let end = memchr::memchr(b';', &number).unwrap_or(number.len());
        let dialled = setup::text(number.get(..end).unwrap_or(&number));
        let hops = request.max_forwards().unwrap_or(70);
        let Some((handle, mut onward)) =
            self.begin_transfer((located.call, located.leg), dialled, hops, context)
        else {
            return;
        };
        if let Some(call) = self.get(handle) {
            call.asking += 1;
        }
        onward.why = Why::Transferred(refer.uri.clone());
        self.onward.push_back(onward);
    }

    /// The call to the target, without anybody in it as yet, and the question where it is to go on to.
    fn begin_transfer(
        &mut self,
        (from, by_leg): (CallHandle, u8),
        dialled: String,
        hops: u8,
        context: &mut Context<'_>,
    ) -> Option<(CallHandle, Onward)> {
        let serial = self.next_serial;
        let (session_s, rings) = (self.session_s, self.ring_timeout);
        let host = self.host.clone();
        let call = self.get(from)?;
        let party = call.other(by_leg);
        let (by, leg) = (call.leg(by_leg)?, call.leg(party)?);
        let mut shown = call.shown(party);
        if !shown.is_anonymous() {
            shown.host.clone_from(&host);
        }
        let mut composer = leg.dialog.compose_relayed(
            context.buffer,
            Method::Invite,
            1,
            b"z9hG4bK-transfer",
            hops,
        );
        composer.field("User-Agent", &[b"sipkeep"]);
        composer.finish(None, b"");
        let record = Arc::new(CallRecord {
            dialled,
            ..call.related_record(party, by_leg, context)
        });
        let onward = Onward {
            call: from,
            branch: NO_BRANCH,
            by: by.party.clone(),
            payer: None,
            caller: (leg.party.clone(), leg.dialog.flow),
            flow: by.dialog.flow,
            chain: Vec::new(),
            rung: Vec::new(),
            is_member: false,
            has_rung: false,
            why: Why::Transferred(Box::default()),
        };
        let new = Call {
            serial,
            state: State::Ringing,
            caller: leg.husk(),
            branches: Vec::with_capacity(1),
            winner: NO_BRANCH,
            invite: ServerId::NOBODY,
            invite_cseq: 0,
            request: Answerable::default(),
            had_offer: false,
            provisionals: Provisionals::for_nobody(false),
            is_final: false,
            refusal: Box::default(),
            reason: Box::default(),
            waiting: 0,
            relays: Vec::new(),
            invitation: Some(Box::new(Kept {
                request: context.buffer.as_slice().into(),
                from: shown,
            })),
            hunt: None,
            later: Vec::new(),
            asking: 0,
            passed: call.passed.clone(),
            asked: session::Asked::default(),
            session_s,
            record,
            started: context.now.mono,
            rings_until: context.now.mono,
            rings,
            expires: None,
            answered: None,
            counted: Vec::new(),
            is_listened_to: false,
            transfer: Some(Box::new(Transfer {
                from,
                party: Some(party),
                by: Identity {
                    user: by.party.name().into_bytes(),
                    host,
                    ..Identity::default()
                },
            })),
            referral: None,
            join: None,
            promise: None,
        };
        let handle = CallHandle {
            index: self.slots.insert(new) as u32,
            serial,
        };
        self.next_serial = self.next_serial.wrapping_add(1);
        self.live += 1;
        let call = self.get(from)?;
        if let Some(referral) = &mut call.referral {
            referral.to = Some(handle);
        }
        let id = call.record.id.clone();
        let new = self.get(handle)?;
        let (to, by) = (new.record.dialled.clone(), onward.by.name());
        let fields = [
            ("id", &new.record.id),
            ("of", &id),
            ("by", &by),
            ("to", &to),
        ];
        let fields = fields.map(|(name, value)| (name, value.clone()));
        context.event("transfer", fields.to_vec());
        Some((
            handle,
            Onward {
                call: handle,
                ..onward
            },
        ))
    }

    /// The call of a transfer goes to these.
    pub(super) fn transfer_goes_to(&mut self, handle: CallHandle, targets: &[Target]) {
        let (Some(call), Some(first)) = (self.get(handle), targets.first()) else {
            return;
        };
        let is_outside = [&call.caller.party, &first.party].map(Party::is_outside);
        let record = Arc::make_mut(&mut call.record);
        record.direction = direction(is_outside);
        record.through = (call.caller.party.through()).or_else(|| first.party.through());
    }

    /// A target rings: whoever transfers hears of it.
    pub(super) fn transfer_rings(
        &mut self,
        handle: CallHandle,
        status: u16,
        context: &mut Context<'_>,
    ) {
        let call = self.get(handle);
        let transfer = call.and_then(|call| call.transfer.as_ref());
        if let Some(from) = transfer.map(|transfer| transfer.from) {
            self.tell(from, status, context);
        }
    }

    /// A target has answered, and the call is his: the other party joins him.
    pub(super) fn transfer_answered(
        &mut self,
        owner: Owner,
        response: &Message<'_>,
        context: &mut Context<'_>,
    ) {
        self.take_party(owner.call, 200, context);
        let Some(call) = self.get(owner.call) else {
            return;
        };
        let own_s = call.session_s;
        let Some(leg) = call.leg_mut(owner.leg) else {
            return;
        };
        leg.watch.agree(context.now.mono, response, own_s);
        let offer = session::Description::of(response).filter(|_| leg.ack_owed.is_some());
        let offer = offer.map(|offer| (owner.leg, offer));
        if let (None, Some(owed)) = (&offer, leg.ack_owed) {
            leg.send_ack(owed, None, context);
        }
        self.join(owner.call, offer, context);
        self.sweep(owner.call);
    }

    /// The party's leg goes on in the call to the target, and the call that it was in is over. `status` is what becomes of
    /// the transfer; 0: that is open.
    pub(super) fn take_party(
        &mut self,
        handle: CallHandle,
        status: u16,
        context: &mut Context<'_>,
    ) {
        let transfer = self.get(handle).and_then(|call| call.transfer.as_mut());
        let party = transfer.and_then(|own| Some((own.from, own.party.take()?)));
        let Some((from, party)) = party else { return };
        self.finish_relays(from, context);
        let Some(leg) = self.take_leg(from, party, (handle, CALLER)) else {
            return;
        };
        self.count_over(from, party, handle);
        if let Some(call) = self.get(handle) {
            call.caller = leg;
            call.open_media(context);
        }
        self.touch(handle);
        let by = match party {
            CALLER => EndedBy::Callee,
            _ => EndedBy::Caller,
        };
        self.finish(from, 200, "answered", by, context);
        if status != 0 {
            self.tell(from, status, context);
        }
    }

    /// Whoever is counted for a leg is counted in another call now.
    pub(super) fn count_over(&mut self, from: CallHandle, leg: u8, to: CallHandle) {
        let Some(call) = self.get(from) else { return };
        let Some(party) = call.leg(leg).map(|leg| leg.party.clone()) else {
            return;
        };
        let payer = match leg {
            CALLER => None,
            _ => (call.branches.get(leg as usize)).and_then(|branch| {
                let payer = branch.payer.clone().filter(|_| branch.pays)?;
                Some((payer, Side::Outside))
            }),
        };
        let mut moved = Vec::new();
        let own = |(other, side): &(Party, Side)| *other == party && *side != Side::Outside;
        let own = call.counted.iter().position(own);
        moved.extend(own.map(|at| call.counted.swap_remove(at)));
        let paid = payer.and_then(|payer| call.counted.iter().position(|one| *one == payer));
        moved.extend(paid.map(|at| call.counted.swap_remove(at)));
        self.counted_over(from, moved, to);
    }

    /// Whether this leg was that of somebody who transfers: the call goes on without him, in the one to the target.
    pub(super) fn transferor_leaves(
        &mut self,
        handle: CallHandle,
        leg: u8,
        context: &mut Context<'_>,
    ) -> bool {
        let referral = self.get(handle).and_then(|call| call.referral.as_mut());
        let Some(referral) = referral.filter(|own| own.leg == leg) else {
            return false;
        };
        let Some(to) = referral.to.take() else {
            return false;
        };
        // His dialog is over, and so is his subscription in it.
        referral.is_told = false;
        self.take_party(to, 0, context);
        true
    }

    /// A call is over while a transfer of it is under way: nobody is left for whom the target would ring. That is its party's
    /// doing, or ours, with this reason.
    pub(super) fn end_transfer(
        &mut self,
        handle: CallHandle,
        by: EndedBy,
        reason: &[u8],
        context: &mut Context<'_>,
    ) {
        let referral = self.get(handle).and_then(|call| call.referral.as_mut());
        let Some(to) = referral.and_then(|referral| referral.to.take()) else {
            return;
        };
        if let Some(call) = self.get(to) {
            call.cancel_branches(reason, context);
        }
        let (status, by) = match by {
            EndedBy::Server => (480, by),
            // Whoever is transferred is the caller there.
            EndedBy::Caller | EndedBy::Callee => (487, EndedBy::Caller),
        };
        self.refuse(to, status, by, context);
        self.sweep(to);
    }

    /// Nobody has answered a transfer: who asked for it has his call again; if he has gone meanwhile, it is over.
    pub(super) fn transfer_fails(
        &mut self,
        handle: CallHandle,
        status: u16,
        context: &mut Context<'_>,
    ) {
        let Some(transfer) = self.get(handle).and_then(|call| call.transfer.as_ref()) else {
            return;
        };
        match transfer.party {
            Some(_) => {
                let from = transfer.from;
                self.tell(from, status, context);
            }
            None => {
                let reason = format!("SIP;cause={status};text=\"Transfer failed\"");
                self.end_leg(handle, CALLER, reason.as_bytes(), context);
            }
        }
    }

    /// Tells whoever transfers what has become of it (RFC 3515 §2.4.4), when he has answered the NOTIFY before.
    fn tell(&mut self, handle: CallHandle, status: u16, context: &mut Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        let Some(mut referral) = call.referral.take() else {
            return;
        };
        if status >= 200 {
            referral.to = None;
            referral.outcome = Some(status);
        }
        let leg_index = referral.leg;
        let is_told = referral.is_told && call.leg(leg_index).is_some_and(|leg| leg.is_up);
        if is_told && referral.is_waiting {
            referral.due = Some(status);
            call.referral = Some(referral);
            return;
        }
        let owner = Owner {
            call: handle,
            leg: leg_index,
            purpose: Purpose::Notify,
        };
        let is_sent = is_told && call.notify(owner, referral.id, status, context);
        referral.is_waiting = is_sent;
        let is_over = referral.outcome.is_some() && !is_sent;
        call.referral = Some(referral);
        if is_over {
            self.referral_ends(handle, context);
        }
    }

    /// A NOTIFY of a transfer has its answer, or none.
    pub(super) fn told(&mut self, owner: Owner, status: u16, context: &mut Context<'_>) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        call.waiting = call.waiting.saturating_sub(1);
        if let Some(referral) = &mut call.referral {
            referral.is_waiting = false;
            // RFC 6665 §4.2.2: he knows nothing of it any more.
            referral.is_told &= status < 300;
            let (due, is_over) = (referral.due.take(), referral.outcome.is_some());
            match due {
                Some(status) => self.tell(owner.call, status, context),
                None if is_over => self.referral_ends(owner.call, context),
                None => {}
            }
        }
        self.sweep(owner.call);
    }

    /// Nothing more is said of a transfer. If the party has gone, so does whoever transferred him.
    fn referral_ends(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        let Some(referral) = call.referral.take() else {
            return;
        };
        if call.state == State::Ending {
            self.end_leg(handle, referral.leg, b"", context);
        }
        self.sweep(handle);
    }
}

impl Call {
    /// A party as the target of a transfer is shown him.
    fn shown(&self, party: u8) -> Identity {
        let Some(leg) = self.leg(party) else {
            return Identity::default();
        };
        // A caller is shown as the callee has seen him, a callee as he was called.
        let shown = match party {
            CALLER => self.leg(self.winner).map(|leg| &leg.dialog.local),
            _ => Some(&leg.dialog.remote),
        };
        let Some(address) = shown.and_then(|shown| NameAddr::parse(shown).ok()) else {
            return Identity::anonymous();
        };
        let mut identity = Identity::default();
        address.push_display(&mut identity.display);
        match &leg.party {
            Party::User(_, name) if party != CALLER => {
                identity.user = name.as_bytes().to_vec();
            }
            _ => {
                address.parts().user_unescaped(&mut identity.user);
                let end = memchr::memchr(b';', &identity.user).unwrap_or(identity.user.len());
                identity.user.truncate(end);
            }
        }
        match identity.is_anonymous() {
            true => Identity::anonymous(),
            false => identity,
        }
    }

    /// The number or name that records have for a leg.
    fn recorded(&self, leg: u8) -> String {
        let record = &self.record;
        match leg {
            CALLER => record.caller.clone(),
            _ => (record.answered_by.clone()).unwrap_or_else(|| record.dialled.clone()),
        }
    }

    /// The record of a call that comes of this one by a transfer of this party.
    fn related_record(&self, party: u8, by: u8, context: &mut Context<'_>) -> CallRecord {
        let flow = self.leg(party).map(|leg| leg.dialog.flow);
        let call_id = self.leg(party).map(|leg| setup::text(&leg.dialog.call_id));
        CallRecord {
            id: setup::new_id(context),
            start: context.now.unix,
            direction: "internal",
            caller: self.recorded(party),
            transferred_by: self.leg(by).map(|leg| leg.party.name()),
            related: Some(self.record.id.clone()),
            source: flow.map_or_else(String::new, |flow| {
                flow.remote.ip().to_canonical().to_string()
            }),
            caller_call_id: call_id.unwrap_or_default(),
            ..CallRecord::default()
        }
    }

    /// Sends a NOTIFY of a transfer; `false`: no transaction was free.
    fn notify(&mut self, owner: Owner, id: u32, status: u16, context: &mut Context<'_>) -> bool {
        let Some(leg) = self.leg_mut(owner.leg) else {
            return false;
        };
        let Some((client, branch)) = context.transactions.reserve() else {
            return false;
        };
        leg.reconnect(context);
        let dialog = &mut leg.dialog;
        let cseq = dialog.next_cseq();
        let mut composer = dialog.compose(context.buffer, Method::Notify, cseq, branch.as_bytes());
        dialog.write_contact(&mut composer);
        composer.field_with("Event", |line| {
            line.extend_from_slice(b"refer;id=");
            append_number(line, id.into());
        });
        let state: &[u8] = match status {
            // As long as Timer C lets anything ring.
            0..200 => b"active;expires=185",
            _ => b"terminated;reason=noresource",
        };
        composer
            .field("Subscription-State", &[state])
            .field("User-Agent", &[b"sipkeep"]);
        let body = format!("SIP/2.0 {status} {}\r\n", reason_phrase(status));
        composer.finish(Some(SIPFRAG), body.as_bytes());
        leg.send(client, Method::Notify, owner, context);
        self.waiting += 1;
        true
    }
}

/// What a record calls a call between these: is the caller outside, and the callee?
pub(super) fn direction(is_outside: [bool; 2]) -> &'static str {
    match is_outside {
        [false, false] => "internal",
        [false, true] => "outgoing",
        [true, false] => "incoming",
        [true, true] => "transit",
    }
}
