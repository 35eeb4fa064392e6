//! What a phone does unasked, at any message of a call, and all the ways in which it may be called: what a server must live
//! with. Some of it no standard allows.
//!
//! A new habit within calls is a line of [`WHIMS`]; one of a called phone is a line of `rings_oddly`.

use super::*;

/// Something to do in a call, whatever state it is in.
#[derive(Clone, Copy, Debug)]
enum Whim {
    /// CANCEL, a refusal or BYE, as the state asks for.
    HangUp,
    /// RFC 3261 §15: the caller ends an early dialog by BYE.
    EndEarlyDialog,
    /// The callee does not wait for the ACK (which §15 forbids).
    EndBeforeAck,
    Hold,
    /// A re-INVITE whose offer comes from the other side.
    LateOffer,
    Update,
    Info,
    /// REFER: the other side is to speak with somebody else.
    Transfer,
}

/// What is often done stands here often.
const WHIMS: [Whim; 11] = [
    Whim::HangUp,
    Whim::HangUp,
    Whim::EndEarlyDialog,
    Whim::EndBeforeAck,
    Whim::Hold,
    Whim::Hold,
    Whim::LateOffer,
    Whim::Update,
    Whim::Info,
    Whim::Transfer,
    Whim::Transfer,
];

/// Refusals of a called phone.
const REFUSALS: [u16; 8] = [486, 603, 480, 404, 500, 503, 488, 302];
/// What it says before it answers.
const RINGING: [u16; 4] = [180, 180, 181, 183];
/// It stops ringing by itself: longer than the server's `ring_timeout` and the CANCEL after it may take.
const RINGS_MS_MAX: u64 = 150_000;

impl Phone {
    /// A message of a call was received, and answered as it should be.
    pub(super) fn follows_whim(&mut self, now: Instant, message: &Message<'_>, out: &mut Sent) {
        let own_tag = if message.is_request() {
            message.to().tag()
        } else {
            message.from().tag()
        };
        let Some(id) = self.find(message, own_tag) else {
            return;
        };
        if !self.random.chance(self.habits.whims) {
            return;
        }
        let whim = WHIMS[self.random.below(WHIMS.len() as u64) as usize];
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let (phase, has_dialog) = (call.phase, !call.dialog.remote_tag.is_empty());
        match whim {
            Whim::HangUp => self.hang_up(now, id, out),
            Whim::EndEarlyDialog if phase == Phase::Calling && has_dialog => {
                self.ends_early(id);
                self.send_bye(now, id, out);
            }
            Whim::EndBeforeAck if phase == Phase::Up => self.bye(now, id, out),
            Whim::EndEarlyDialog | Whim::EndBeforeAck => return,
            Whim::Hold => self.hold(now, id, false, out),
            Whim::LateOffer => self.hold(now, id, true, out),
            Whim::Update => {
                let offer = session(&self.user, self.address);
                self.within(now, id, Method::Update, &offer, out);
            }
            Whim::Info => self.info(now, id, out),
            Whim::Transfer => self.transfer(now, id, out),
        }
        self.whims_done += 1;
    }

    /// Sends the other side of a call to anybody, or to whoever is in another call of this phone, be it answered or ringing.
    fn transfer(&mut self, now: Instant, id: u32, out: &mut Sent) {
        let mut others = self.calls.iter().filter(|(other, call)| {
            **other != id
                && !call.dialog.remote_tag.is_empty()
                && matches!(call.phase, Phase::Calling | Phase::Up)
        });
        let replaces = others.next_back().map(|(_, call)| led::replaces(call));
        let replaces = replaces.filter(|_| self.random.chance(500));
        let number = match self.random.below(10) {
            0 => "777".to_owned(),
            1 => "9030555".to_owned(),
            _ => self.random.between(100, 118).to_string(),
        };
        let to = format!("<sip:{number}@{DOMAIN}{}>", replaces.unwrap_or_default());
        self.refers_to = Some(to);
        self.within(now, id, Method::Refer, "", out);
    }

    /// Should it be answered all the same, it is ended again.
    fn ends_early(&mut self, id: u32) {
        if let Some(call) = self.calls.get_mut(&id) {
            call.is_cancelled = true;
            let last = call.reliable.last_cseq();
            call.dialog.local_cseq = call.dialog.local_cseq.max(last);
        }
    }

    /// How a call of this phone differs from an ordinary one.
    pub(super) fn calls_oddly(&mut self, now: Instant, id: u32) {
        let (late, mute) = (self.random.chance(100), self.random.chance(20));
        if let Some(call) = self.calls.get_mut(&id) {
            (call.offers_late, call.is_mute) = (late, mute);
        }
        // Whoever hears nothing for so long hangs up.
        self.later(now, RINGS_MS_MAX, Todo::Cancel(id));
    }

    /// It rings, or says nothing; then it refuses, answers, or does neither.
    pub(super) fn rings_oddly(&mut self, now: Instant, id: u32, out: &mut Sent) {
        self.later(now, RINGS_MS_MAX, Todo::Refuse(id, 480));
        let most = self.habits.answer_ms_max;
        for _ in 0..self.random.below(4) {
            let after = self.random.between(0, most);
            self.later(now, after, Todo::Ring(id));
        }
        let is_reliable = self.habits.is_reliable && self.random.chance(600);
        if !(is_reliable && self.rings_reliably(now, id, out)) && self.random.chance(700) {
            self.rings_on(now, id, out);
        }
        let after = self.random.between(0, most);
        match self.random.below(100) {
            0..10 => {
                let status = self.any_refusal();
                self.refuse(now, id, status, out);
            }
            10..20 => {
                let status = self.any_refusal();
                self.later(now, after, Todo::Refuse(id, status));
            }
            20..28 => {}
            _ => self.later(now, after, Todo::Answer(id)),
        }
    }

    fn any_refusal(&mut self) -> u16 {
        REFUSALS[self.random.below(REFUSALS.len() as u64) as usize]
    }

    /// A provisional response, some with a session, some under another tag: a proxy before the phone has forked.
    pub(super) fn rings_on(&mut self, now: Instant, id: u32, out: &mut Sent) {
        let Some(call) = (self.calls.get_mut(&id)).filter(|call| call.phase == Phase::Ringing)
        else {
            return;
        };
        let own = call.tag.clone();
        if self.random.chance(200) {
            call.tag.extend_from_slice(b"-fork");
        }
        let status = RINGING[self.random.below(RINGING.len() as u64) as usize];
        let body = if self.random.chance(400) {
            session(&self.user, self.address)
        } else {
            String::new()
        };
        self.respond(now, id, status, &body, out);
        if let Some(call) = self.calls.get_mut(&id) {
            call.tag = own;
        }
    }

    pub(super) fn refuse_ringing(&mut self, now: Instant, id: u32, status: u16, out: &mut Sent) {
        let call = self.calls.get(&id);
        if call.is_some_and(|call| call.phase == Phase::Ringing) {
            self.refuse(now, id, status, out);
        }
    }

    /// The call is cancelled while it rings; somebody may take the receiver at that very moment.
    pub(super) fn cancelled(&mut self, now: Instant, id: u32, out: &mut Sent) {
        if self.habits.whims > 0 && self.random.chance(100) {
            self.answer(now, id, out);
        } else {
            self.refuse(now, id, 487, out);
        }
    }

    /// A proxy before the phone had forked further, and both answer: another 200, which nobody repeats.
    pub(super) fn answers_twice(&mut self, now: Instant, request: &Message<'_>, out: &mut Sent) {
        let mut dialog = Dialog::from_request(request, &self.flow, self.address);
        let tag = format!("{:x}", self.random.next_u64()).into_bytes();
        dialog.local.extend_from_slice(b";tag=");
        dialog.local.extend_from_slice(&tag);
        let mut composer = Composer::response_to(
            &mut self.buffer,
            request,
            &self.flow,
            200,
            reason_phrase(200),
            &tag,
        );
        let contact = contact(&self.user, self.address, self.transport);
        composer.field("Contact", &[contact.as_bytes()]);
        let body = session(&self.user, self.address);
        composer.finish(Some(b"application/sdp"), body.as_bytes());
        out.send(&self.flow, &self.buffer);
        self.add(now, dialog, Phase::Doubtful, None, tag);
        self.whims_done += 1;
    }
}
