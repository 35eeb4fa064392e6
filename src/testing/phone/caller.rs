//! The phone calls: RFC 3261 §9.1, §13.2, §14.1, §15.1.1. How long somebody waits and talks is drawn from its seed.

use super::*;

impl Phone {
    /// Calls a number.
    pub fn call(&mut self, now: Instant, number: &str, out: &mut Sent) {
        let uri = format!("sip:{number}@{DOMAIN}");
        self.call_at(now, &uri, uri.as_bytes(), out);
    }

    /// As the call server of a carrier: calls an account of his where it is registered. False: it is not.
    pub fn call_account(&mut self, now: Instant, account: usize, out: &mut Sent) -> bool {
        let Some(carrier) = &self.carrier else {
            return false;
        };
        let to = carrier.address_of_record(account);
        let Some(contact) = carrier.contact(now, account).map(<[u8]>::to_vec) else {
            return false;
        };
        self.call_at(now, &to, &contact, out);
        true
    }

    /// Calls `target`, which is where `to` can be found.
    fn call_at(&mut self, now: Instant, to: &str, target: &[u8], out: &mut Sent) {
        let mut dialog = self.new_dialog(to);
        dialog.remote_target = target.into();
        let call_id = String::from_utf8_lossy(&dialog.call_id).into_owned();
        self.outcomes.insert(call_id, Outcome::Pending);
        let tag = dialog.local.rsplit(|byte| *byte == b'=').next();
        let tag = tag.unwrap_or_default().to_vec();
        let id = self.add(now, dialog, Phase::Calling, None, tag);
        if self.habits.whims > 0 {
            self.calls_oddly(now, id);
        }
        // One in four loses patience; some of them at the very moment when the other side may answer.
        if self.random.chance(self.habits.impatient) {
            let patience = self.random.between(0, 8_000);
            self.later(now, patience, Todo::Cancel(id));
        }
        self.invite(now, id, What::Invite(id), out);
    }

    /// Writes to a number, or asks whether messages wait: nobody minds what comes of it.
    pub fn write(&mut self, now: Instant, number: &str, out: &mut Sent) {
        let (method, body) = if number == self.user {
            (Method::Subscribe, "")
        } else {
            (Method::Message, "hello")
        };
        let mut dialog = self.new_dialog(&format!("sip:{number}@{DOMAIN}"));
        self.send_request(now, &mut dialog, method, What::Other, body, out);
    }

    pub(super) fn invite(&mut self, now: Instant, id: u32, what: What, out: &mut Sent) {
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let mut dialog = call.dialog.clone();
        let body = if call.offers_late {
            String::new()
        } else {
            session(&self.user, self.address)
        };
        let client = self.send_request(now, &mut dialog, Method::Invite, what, &body, out);
        if let Some(call) = self.calls.get_mut(&id) {
            call.dialog = dialog;
            call.client = client;
        }
    }

    /// A re-INVITE, without an offer if that is to come `late`.
    pub(super) fn hold(&mut self, now: Instant, id: u32, late: bool, out: &mut Sent) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if call.phase == Phase::Up && call.client.is_none() && call.unacknowledged.is_none() {
            call.offers_late = late;
            self.invite(now, id, What::Reinvite(id), out);
        }
    }

    /// A key is pressed.
    pub(super) fn info(&mut self, now: Instant, id: u32, out: &mut Sent) {
        self.within(now, id, Method::Info, "Signal=5\r\n", out);
    }

    /// A request that changes nothing for the phone.
    pub(super) fn within(
        &mut self,
        now: Instant,
        id: u32,
        method: Method,
        body: &str,
        out: &mut Sent,
    ) {
        let up = self.calls.get(&id).filter(|call| call.phase == Phase::Up);
        let Some(mut dialog) = up.map(|call| call.dialog.clone()) else {
            return;
        };
        self.send_request(now, &mut dialog, method, What::Within(id), body, out);
        if let Some(call) = self.calls.get_mut(&id) {
            call.dialog = dialog;
        }
    }

    pub(super) fn hang_up(&mut self, now: Instant, id: u32, out: &mut Sent) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        match call.phase {
            Phase::Doubtful | Phase::Over => {}
            Phase::Calling => self.act(now, Todo::Cancel(id), out),
            Phase::Ringing => self.refuse(now, id, 486, out),
            // RFC 3261 §15: the callee sends no BYE before the ACK.
            Phase::Up if call.unacknowledged.is_some() => call.must_end = true,
            Phase::Up => self.bye(now, id, out),
        }
    }

    pub(super) fn bye(&mut self, now: Instant, id: u32, out: &mut Sent) {
        self.enter(now, id, Phase::Over);
        self.send_bye(now, id, out);
    }

    pub(super) fn send_bye(&mut self, now: Instant, id: u32, out: &mut Sent) {
        let Some(mut dialog) = self.calls.get(&id).map(|call| call.dialog.clone()) else {
            return;
        };
        self.diary.ends(now, &dialog.call_id, End::SaidBye);
        self.send_request(now, &mut dialog, Method::Bye, What::Bye(id), "", out);
        if let Some(call) = self.calls.get_mut(&id) {
            call.dialog = dialog;
        }
    }

    pub(super) fn invite_response(
        &mut self,
        now: Instant,
        id: u32,
        response: &Message<'_>,
        out: &mut Sent,
    ) {
        let status = response.status();
        let cseq = response.cseq().number;
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if status < 200 {
            // An early dialog, which may be ended (§15).
            if status > 100 {
                call.dialog.establish(response);
            }
            self.provisional(now, id, response, out);
            return;
        }
        if self.acknowledges_again(id, cseq, out) {
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        call.client = None;
        if status == 401 && !call.is_cancelled && self.learns_within(id, response) {
            self.invite(now, id, What::Invite(id), out);
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let call_id = String::from_utf8_lossy(&call.dialog.call_id).into_owned();
        self.outcomes.insert(call_id, Outcome::Final(status));
        if status >= 300 {
            let end = End::WasRefused(status);
            self.diary.ends(now, &call.dialog.call_id, end);
            self.enter(now, id, Phase::Over);
            return;
        }
        self.diary.answered(now, &call.dialog.call_id);
        call.dialog.establish(response);
        let is_cancelled = call.is_cancelled;
        self.enter(now, id, Phase::Up);
        self.accepted(now, id, response);
        self.acknowledge(id, cseq, out);
        if is_cancelled {
            self.bye(now, id, out);
            return;
        }
        self.plan_call(now, id);
    }

    /// What happens in a call that is up.
    pub(super) fn plan_call(&mut self, now: Instant, id: u32) {
        if self.habits.is_led {
            return;
        }
        let talk = self.random.between(0, self.habits.talk_ms_max);
        self.later(now, talk, Todo::HangUp(id));
        if self.random.chance(300) {
            let when = self.random.between(0, talk);
            self.later(now, when, Todo::Hold(id));
            // A key is pressed while the other side still thinks about it.
            let soon = self.random.between(0, 200);
            self.later(now, when + soon, Todo::Info(id));
        }
    }

    pub(super) fn acknowledge(&mut self, id: u32, cseq: u32, out: &mut Sent) {
        let branch = format!("z9hG4bK{:x}", self.random.next_u64());
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let answer = if call.offers_late {
            session(&self.user, self.address)
        } else {
            String::new()
        };
        call.dialog
            .compose(&mut self.buffer, Method::Ack, cseq, branch.as_bytes())
            .finish(Some(b"application/sdp"), answer.as_bytes());
        call.acks.insert(cseq, self.buffer.clone());
        if self.random.chance(self.habits.whims) {
            // It comes late: with the next 2xx.
            return;
        }
        self.acknowledges_again(id, cseq, out);
    }

    /// Whether a 2xx came again, and its ACK went again.
    fn acknowledges_again(&self, id: u32, cseq: u32, out: &mut Sent) -> bool {
        let call = self.calls.get(&id);
        let Some((call, ack)) = call.and_then(|call| Some((call, call.acks.get(&cseq)?))) else {
            return false;
        };
        if !call.is_mute {
            out.send(&self.flow, ack);
        }
        true
    }

    /// A challenge to a request of this call; false: enough of them.
    fn learns_within(&mut self, id: u32, response: &Message<'_>) -> bool {
        let most = self.habits.challenges_max;
        let Some(call) = self
            .calls
            .get_mut(&id)
            .filter(|call| call.challenges < most)
        else {
            return false;
        };
        call.challenges += 1;
        self.proves_within |= !call.dialog.remote_tag.is_empty();
        self.learn_challenge(response);
        true
    }

    /// The response to a BYE, INFO or UPDATE: who has moved must prove who it is.
    pub(super) fn within_response(
        &mut self,
        now: Instant,
        what: What,
        response: &Message<'_>,
        out: &mut Sent,
    ) {
        match (what, response.status()) {
            (What::Bye(id), 401) if self.learns_within(id, response) => {
                self.send_bye(now, id, out);
            }
            (What::Within(id), 401) => {
                self.learns_within(id, response);
            }
            // RFC 5057: the peer has forgotten the call.
            (What::Within(id), 481) => self.hang_up(now, id, out),
            _ => {}
        }
    }

    pub(super) fn reinvite_response(
        &mut self,
        now: Instant,
        id: u32,
        client: ClientId,
        response: &Message<'_>,
        out: &mut Sent,
    ) {
        let (status, cseq) = (response.status(), response.cseq().number);
        if status < 200 {
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if call.client == Some(client) {
            call.client = None;
        }
        if self.acknowledges_again(id, cseq, out) {
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        match status {
            200..=299 => {
                call.dialog.refresh_target(response);
                self.acknowledge(id, cseq, out);
            }
            401 if self.learns_within(id, response) => {
                self.invite(now, id, What::Reinvite(id), out);
            }
            491 => {
                self.diary.glares += 1;
                self.tries_again(now, id);
            }
            // RFC 3261 §12.2.1.2: the peer has forgotten the call.
            408 | 481 => self.hang_up(now, id, out),
            _ => {}
        }
    }
}
