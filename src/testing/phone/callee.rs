//! The phone as it is called: RFC 3261 §8.2, §9.2, §13.3, §14.2, §15.1.2. What a person decides, the seed does.

use super::*;

impl Phone {
    pub(super) fn request(&mut self, now: Instant, request: &Message<'_>, out: &mut Sent) {
        let key = self.transactions.key(request);
        let method = request.method();
        if self.transactions.receive(now, key, method, out) == Received::Absorbed {
            return;
        }
        let known = self.find(request, request.to().tag());
        match method {
            Method::Ack => self.acknowledged(now, known, request, out),
            Method::Prack => self.pracked(now, known, request, out),
            Method::Cancel => {
                let found = self
                    .transactions
                    .find(self.transactions.invite_key(request));
                let status = if found.is_some() { 200 } else { 481 };
                self.complete(now, request, status, out);
                if let Some((_, What::Incoming(id), _)) = found
                    && self
                        .calls
                        .get(&id)
                        .is_some_and(|call| call.phase == Phase::Ringing)
                {
                    if let Some(call) = self.calls.get(&id) {
                        let call_id = &call.dialog.call_id;
                        self.diary.ends(now, call_id, End::HeardCancel);
                    }
                    self.cancelled(now, id, out);
                }
            }
            Method::Invite if request.to().tag().is_none() => self.rings(now, request, out),
            Method::Invite => self.reinvited(now, known, request, out),
            Method::Bye => {
                let reason = request.value(HeaderName::Reason).unwrap_or_default();
                self.accused |= memchr::memmem::find(reason, b"No ACK").is_some();
                let is_up = known.and_then(|id| self.calls.get_mut(&id));
                let status = match is_up {
                    Some(call) => {
                        let end = End::HeardBye;
                        self.diary.ends(now, &call.dialog.call_id, end);
                        (call.phase, call.since) = (Phase::Over, now);
                        if let Some((server, _)) = call.unacknowledged.take() {
                            self.transactions.acknowledge(server);
                        }
                        200
                    }
                    None => 481,
                };
                self.complete(now, request, status, out);
            }
            Method::Message => self.complete(now, request, 200, out),
            Method::Notify => self.notified(now, known, request, out),
            Method::Update => self.updated(now, known, request, out),
            _ => {
                let is_up = known
                    .and_then(|id| self.calls.get(&id))
                    .is_some_and(|call| matches!(call.phase, Phase::Calling | Phase::Up));
                self.complete(now, request, if is_up { 200 } else { 481 }, out);
            }
        }
    }

    pub(super) fn complete(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        status: u16,
        out: &mut Sent,
    ) {
        self.complete_with(now, request, status, "", out);
    }

    /// With a session description, unless that is empty.
    fn complete_with(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        status: u16,
        body: &str,
        out: &mut Sent,
    ) {
        let key = self.transactions.key(request);
        let reason = reason_phrase(status);
        let tag = b"phone";
        let mut composer =
            Composer::response_to(&mut self.buffer, request, &self.flow, status, reason, tag);
        if !body.is_empty() {
            let contact = contact(&self.user, self.address, self.transport);
            composer.field("Contact", &[contact.as_bytes()]);
        }
        composer.finish(Some(b"application/sdp"), body.as_bytes());
        self.transactions
            .complete(now, key, &self.flow, &self.buffer, out);
    }

    /// UPDATE (RFC 3311 §5.2): an offer in it is answered, unless another one is under way.
    fn updated(&mut self, now: Instant, known: Option<u32>, request: &Message<'_>, out: &mut Sent) {
        let call = known.and_then(|id| self.calls.get(&id));
        let has_offer = !request.body().is_empty();
        let status = match call {
            // It has overtaken the ACK, and comes again.
            Some(call) if call.phase == Phase::Doubtful => 500,
            Some(call) if !matches!(call.phase, Phase::Calling | Phase::Up) => 481,
            Some(call) if has_offer && call.phase == Phase::Up && call.client.is_some() => 491,
            Some(call) if has_offer && call.unacknowledged.is_some() => 500,
            Some(_) => 200,
            None => 481,
        };
        let answer = if has_offer && status == 200 {
            session(&self.user, self.address)
        } else {
            String::new()
        };
        self.complete_with(now, request, status, &answer, out);
    }

    /// A call comes in. The phone rings and is answered, or is busy, or nobody is at home.
    fn rings(&mut self, now: Instant, request: &Message<'_>, out: &mut Sent) {
        let key = self.transactions.key(request);
        let id = self.next_call;
        let what = What::Incoming(id);
        let Some(server) = self
            .transactions
            .open_server(now, key, request, &self.flow, what)
        else {
            return;
        };
        let dialog = Dialog::from_request(request, &self.flow, self.address);
        let tag = format!("{:x}", self.random.next_u64()).into_bytes();
        let bytes = request.bytes().to_vec();
        let added = self.add(now, dialog, Phase::Ringing, Some((server, bytes)), tag);
        assert_eq!(added, id);
        if self.habits.is_led {
            self.rings_led(now, id, out);
            return;
        }
        if self.habits.whims > 0 {
            self.rings_oddly(now, id, out);
            return;
        }
        match self.random.below(100) {
            _ if !self.habits.is_moody => self.answered_soon(now, id, out),
            0..15 => self.refuse(now, id, 486, out),
            15..20 => self.refuse(now, id, 603, out),
            20..30 => self.respond(now, id, 180, "", out),
            30..40 => self.refuse(now, id, 302, out),
            _ => self.answered_soon(now, id, out),
        }
    }

    fn answered_soon(&mut self, now: Instant, id: u32, out: &mut Sent) {
        let is_reliable = self.habits.is_reliable && self.rings_reliably(now, id, out);
        if !is_reliable && self.random.chance(700) {
            self.respond(now, id, 180, "", out);
        }
        let after = self.random.between(0, self.habits.answer_ms_max);
        self.later(now, after, Todo::Answer(id));
    }

    /// A response to the INVITE of a call that rings, or to a re-INVITE.
    pub(super) fn respond(
        &mut self,
        now: Instant,
        id: u32,
        status: u16,
        body: &str,
        out: &mut Sent,
    ) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some((server, bytes)) = &call.server else {
            return;
        };
        call.is_heard |= (101..200).contains(&status);
        let Ok(request) = parse(bytes) else { return };
        let mut composer = Composer::response_to(
            &mut self.buffer,
            &request,
            &self.flow,
            status,
            reason_phrase(status),
            &call.tag,
        );
        if status == 302 {
            // Somebody of a small office, perhaps the caller, perhaps nobody.
            let number = 100 + self.random.below(24);
            let contact = format!("<sip:{number}@{DOMAIN}>");
            composer.field("Contact", &[contact.as_bytes()]);
        }
        if (101..300).contains(&status) {
            let contact = contact(&self.user, self.address, self.transport);
            composer.field("Contact", &[contact.as_bytes()]);
            if status >= 200 {
                self.model.write_answer(&mut composer, &request);
            }
        }
        composer.finish(Some(b"application/sdp"), body.as_bytes());
        self.transactions
            .respond(now, *server, status, &self.buffer, out);
    }

    pub(super) fn refuse(&mut self, now: Instant, id: u32, status: u16, out: &mut Sent) {
        self.respond(now, id, status, "", out);
        self.enter(now, id, Phase::Over);
        if let Some(call) = self.calls.get_mut(&id) {
            let end = End::Refused(status);
            self.diary.ends(now, &call.dialog.call_id, end);
            call.server = None;
        }
    }

    pub(super) fn answer(&mut self, now: Instant, id: u32, out: &mut Sent) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if call.phase != Phase::Ringing || call.reliable.holds_success() {
            return;
        }
        (call.phase, call.since) = (Phase::Up, now);
        self.diary.answered(now, &call.dialog.call_id);
        call.dialog.local.extend_from_slice(b";tag=");
        call.dialog.local.extend_from_slice(&call.tag);
        let invite = call.server.clone();
        self.accept(now, id, out);
        if let Some(call) = self.calls.get_mut(&id) {
            call.reliable.is_over();
        }
        if let Some((_, bytes)) = invite
            && self.random.chance(self.habits.whims)
            && let Ok(request) = parse(&bytes)
        {
            self.answers_twice(now, &request, out);
        }
        self.plan_call(now, id);
    }

    /// 200 to the INVITE or re-INVITE that the call holds.
    fn accept(&mut self, now: Instant, id: u32, out: &mut Sent) {
        let has_answered = (self.calls.get(&id)).is_some_and(|call| call.reliable.has_answered());
        let body = if has_answered {
            String::new()
        } else {
            session(&self.user, self.address)
        };
        self.respond(now, id, 200, &body, out);
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let Some((server, bytes)) = call.server.take() else {
            return;
        };
        if let Ok(request) = parse(&bytes) {
            call.unacknowledged = Some((server, request.cseq().number));
        }
    }

    fn reinvited(
        &mut self,
        now: Instant,
        known: Option<u32>,
        request: &Message<'_>,
        out: &mut Sent,
    ) {
        let key = self.transactions.key(request);
        let what = known.map_or(What::Other, What::Incoming);
        let Some(server) = self
            .transactions
            .open_server(now, key, request, &self.flow, what)
        else {
            return;
        };
        let call = known.and_then(|id| self.calls.get_mut(&id));
        let status = match &call {
            None => 481,
            // An early dialog: the 2xx to our own INVITE is still on its way.
            Some(call) if !matches!(call.phase, Phase::Calling | Phase::Up) => 481,
            Some(call) if call.client.is_some() => 491,
            Some(call) if call.unacknowledged.is_some() => 500,
            Some(_) => 200,
        };
        if status == 200
            && let (Some(call), Some(id)) = (call, known)
        {
            call.server = Some((server, request.bytes().to_vec()));
            call.dialog.refresh_target(request);
            self.accept(now, id, out);
            return;
        }
        let reason = reason_phrase(status);
        Composer::response_to(
            &mut self.buffer,
            request,
            &self.flow,
            status,
            reason,
            b"phone",
        )
        .finish(None, b"");
        self.transactions
            .respond(now, server, status, &self.buffer, out);
    }

    fn acknowledged(
        &mut self,
        now: Instant,
        known: Option<u32>,
        request: &Message<'_>,
        out: &mut Sent,
    ) {
        let Some(id) = known else { return };
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        if call.phase == Phase::Doubtful {
            self.enter(now, id, Phase::Up);
            self.plan_call(now, id);
            return;
        }
        let number = request.cseq().number;
        let Some((server, _)) = call.unacknowledged.take_if(|(_, cseq)| *cseq == number) else {
            return;
        };
        let must_end = call.must_end;
        self.transactions.acknowledge(server);
        if must_end {
            self.hang_up(now, id, out);
        }
    }
}
