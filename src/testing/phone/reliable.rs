//! The phone's 100rel (RFC 3262): reliable provisional responses are acknowledged in their early dialog; its own brings the
//! answer, so that its 2xx has none and waits for the PRACK.

use super::*;
use crate::message::{RAck, rseq};

/// What a phone keeps of reliable provisional responses in one call.
#[derive(Default)]
pub(super) struct Reliable {
    /// As caller, by tag: the early dialog, and the RSeq that was acknowledged last.
    early: BTreeMap<Vec<u8>, (Dialog, u32)>,
    /// As caller: the answer to its offer has come, by tag.
    answered: Vec<Vec<u8>>,
    /// As callee: RSeq of the response that waits for its PRACK.
    waiting: Option<u32>,
    /// As callee: its response brought the answer.
    has_answered: bool,
    /// As callee: it was picked up before the PRACK came.
    is_picked_up: bool,
}

impl Reliable {
    /// As callee: whether the answer to the caller's offer has gone already.
    pub fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// As callee: what is said to a re-INVITE later is nothing of this.
    pub fn is_over(&mut self) {
        self.has_answered = false;
    }

    /// As caller: the highest CSeq number used in an early dialog.
    pub fn last_cseq(&self) -> u32 {
        let dialogs = self.early.values().map(|(dialog, _)| dialog.local_cseq);
        dialogs.max().unwrap_or(0)
    }

    /// As callee, picked up: whether the 2xx must wait.
    pub fn holds_success(&mut self) -> bool {
        self.is_picked_up = self.waiting.is_some();
        self.is_picked_up
    }
}

/// Whether one of these headers names 100rel.
fn is_named(message: &Message<'_>, name: HeaderName) -> bool {
    message
        .values(name)
        .any(|option| option.eq_ignore_ascii_case(b"100rel"))
}

impl Phone {
    /// A provisional response to our INVITE.
    pub(super) fn provisional(
        &mut self,
        now: Instant,
        id: u32,
        response: &Message<'_>,
        out: &mut Sent,
    ) {
        let number = response.value(HeaderName::RSeq).and_then(rseq);
        let number = number.filter(|_| is_named(response, HeaderName::Require));
        let (Some(call), Some(number)) = (self.calls.get_mut(&id), number) else {
            return;
        };
        let tag = response.to().tag().unwrap_or_default().to_vec();
        let (dialog, last) = call.reliable.early.entry(tag.clone()).or_insert_with(|| {
            let mut dialog = call.dialog.clone();
            dialog.establish(response);
            (dialog, number - 1)
        });
        if number != *last + 1 {
            return;
        }
        *last = number;
        self.diary.pracks += 1;
        if !response.body().is_empty() {
            call.reliable.answered.push(tag);
        }
        let Some((client, branch)) = self.transactions.reserve() else {
            return;
        };
        let rack = format!("{number} {} INVITE", response.cseq().number);
        let cseq = dialog.next_cseq();
        let method = Method::Prack;
        let mut composer = dialog.compose(&mut self.buffer, method, cseq, branch.as_bytes());
        composer.field("RAck", &[rack.as_bytes()]);
        composer.finish(None, b"");
        let (bytes, what) = (&self.buffer, What::Prack(id));
        (self.transactions).send(now, client, method, &self.flow, bytes, what, out);
    }

    /// Our INVITE is accepted: the early dialog is the dialog, and by now there is an answer.
    pub(super) fn accepted(&mut self, now: Instant, id: u32, response: &Message<'_>) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let tag = response.to().tag().unwrap_or_default();
        if let Some((dialog, _)) = call.reliable.early.get(tag) {
            call.dialog.local_cseq = call.dialog.local_cseq.max(dialog.local_cseq);
        }
        if response.body().is_empty()
            && !call.offers_late
            && !call.reliable.answered.iter().any(|own| own == tag)
        {
            self.loses(now, format!("SDP in the answer to call {id}"), true);
        }
    }

    /// What was said to our PRACK: it acknowledges what we got, so 200; or nobody knows of the call any more.
    pub(super) fn prack_response(&mut self, now: Instant, id: u32, response: &Message<'_>) {
        let status = response.status();
        let is_over = (self.calls.get(&id)).is_none_or(|call| call.phase == Phase::Over);
        if !matches!((status, is_over), (..300, _) | (481, true)) {
            self.loses(
                now,
                format!("200 to the PRACK of call {id}, but {status}"),
                true,
            );
        }
    }

    /// Called by someone with 100rel: it rings reliably, with the answer. `false`: he has none, or we have none.
    pub(super) fn rings_reliably(&mut self, now: Instant, id: u32, out: &mut Sent) -> bool {
        let number = 1 + (self.random.next_u64() >> 40) as u32;
        let Some(call) = self.calls.get_mut(&id) else {
            return false;
        };
        let Some((server, bytes)) = &call.server else {
            return false;
        };
        let Ok(request) = parse(bytes) else {
            return false;
        };
        if !is_named(&request, HeaderName::Supported) || request.body().is_empty() {
            return false;
        }
        call.reliable.waiting = Some(number);
        call.reliable.has_answered = true;
        let reason = reason_phrase(180);
        let tag = &call.tag;
        let mut composer =
            Composer::response_to(&mut self.buffer, &request, &self.flow, 180, reason, tag);
        let contact = contact(&self.user, self.address, self.transport);
        composer.field("Contact", &[contact.as_bytes()]);
        composer.field("Require", &[b"100rel"]);
        composer.number("RSeq", number.into());
        let body = session(&self.user, self.address);
        composer.finish(Some(b"application/sdp"), body.as_bytes());
        (self.transactions).respond_reliably(now, *server, 180, &self.buffer, out);
        true
    }

    /// A PRACK for our response.
    pub(super) fn pracked(
        &mut self,
        now: Instant,
        known: Option<u32>,
        request: &Message<'_>,
        out: &mut Sent,
    ) {
        let rack = request.value(HeaderName::RAck).and_then(RAck::parse);
        let call = known.and_then(|id| self.calls.get_mut(&id));
        let matching = call.zip(rack).filter(|(call, rack)| {
            call.reliable.waiting == Some(rack.response) && rack.cseq.number == 1
        });
        let Some((call, _)) = matching else {
            return self.complete(now, request, 481, out);
        };
        call.reliable.waiting = None;
        let is_picked_up = call.reliable.is_picked_up;
        if let Some((server, _)) = &call.server {
            self.transactions.acknowledge_provisional(now, *server);
        }
        self.complete(now, request, 200, out);
        if let Some(id) = known.filter(|_| is_picked_up) {
            self.answer(now, id, out);
        }
    }
}
