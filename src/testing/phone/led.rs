//! A phone that does what a play tells it, at the moment that it names: whoever wants messages to cross has to be exact.
//! With `is_led` a phone rings until it is told otherwise, and hangs up only when told, or when its transfer has succeeded.

use super::*;

/// What a phone is told to do. What does not fit what it is in is left.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Move {
    /// Calls a number.
    Dial(String),
    /// Answers what rings longest.
    Answer,
    /// Refuses what rings longest.
    Refuse(u16),
    /// Cancels its latest call that waits for an answer.
    Cancel,
    /// Ends the oldest call, or the latest, whatever state that is in.
    HangUp(Which),
    /// Ends every call.
    HangUpAll,
    /// re-INVITE; its offer may come late.
    Hold(Which, bool),
    /// UPDATE with an offer.
    Update,
    /// A key is pressed.
    Info,
    /// REFER: the other side of the oldest call is to call this number.
    Refer(String),
    /// REFER with Replaces: the other side of the oldest call is to have the latest one.
    ReferToOther,
    /// Every registration of it is taken back.
    Unregister,
}

/// One of a phone's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// The one that began first.
    Oldest,
    /// The one that began last.
    Latest,
}

/// For how long who owns the Call-ID waits before it tries a re-INVITE again, in milliseconds, and who does not
/// (RFC 3261 §14.1).
const GLARE_OWNER_MS: (u64, u64) = (2_100, 4_000);
const GLARE_OTHER_MS: (u64, u64) = (0, 2_000);

impl Phone {
    /// Does it. `false`: there is nothing that it could be done to.
    pub fn make(&mut self, now: Instant, order: &Move, out: &mut Sent) -> bool {
        match order {
            Move::Dial(number) => {
                self.call(now, number, out);
                true
            }
            Move::Answer => self.with_one(Which::Oldest, &[Phase::Ringing], |phone, id| {
                phone.answer(now, id, out);
            }),
            Move::Refuse(status) => self.with_one(Which::Oldest, &[Phase::Ringing], |phone, id| {
                phone.refuse(now, id, *status, out);
            }),
            Move::Cancel => self.with_one(Which::Latest, &[Phase::Calling], |phone, id| {
                phone.act(now, Todo::Cancel(id), out);
            }),
            Move::HangUp(which) => {
                let any = [Phase::Calling, Phase::Ringing, Phase::Up];
                self.with_one(*which, &any, |phone, id| phone.hang_up(now, id, out))
            }
            Move::HangUpAll => {
                let ids: Vec<u32> = self.calls.keys().copied().collect();
                let is_one = self.is_in_call();
                for id in ids {
                    self.hang_up(now, id, out);
                }
                is_one
            }
            Move::Hold(which, late) => self.with_one(*which, &[Phase::Up], |phone, id| {
                phone.hold(now, id, *late, out);
            }),
            Move::Update => self.with_one(Which::Latest, &[Phase::Up], |phone, id| {
                let offer = session(&phone.user, phone.address);
                phone.within(now, id, Method::Update, &offer, out);
            }),
            Move::Info => self.with_one(Which::Latest, &[Phase::Up], |phone, id| {
                phone.info(now, id, out);
            }),
            Move::Refer(number) => {
                let to = format!("<sip:{number}@{DOMAIN}>");
                self.refer(now, to, out)
            }
            Move::ReferToOther => self.refer_to_other(now, out),
            Move::Unregister => {
                self.unregister(now, out);
                true
            }
        }
    }

    fn with_one(
        &mut self,
        which: Which,
        phases: &[Phase],
        act: impl FnOnce(&mut Self, u32),
    ) -> bool {
        let mut fitting = (self.calls.iter()).filter(|(_, call)| phases.contains(&call.phase));
        let found = match which {
            Which::Oldest => fitting.next(),
            Which::Latest => fitting.next_back(),
        };
        let id = found.map(|(id, _)| *id);
        if let Some(id) = id {
            act(self, id);
        }
        id.is_some()
    }

    fn refer(&mut self, now: Instant, to: String, out: &mut Sent) -> bool {
        self.refers_to = Some(to);
        self.with_one(Which::Oldest, &[Phase::Up], |phone, id| {
            if let Some(call) = phone.calls.get(&id) {
                let call_id = &call.dialog.call_id;
                phone.diary.ends(now, call_id, End::Referred);
            }
            phone.within(now, id, Method::Refer, "", out);
        })
    }

    /// The latest call may be up or wait for its answer: then it must have an early dialog.
    fn refer_to_other(&mut self, now: Instant, out: &mut Sent) -> bool {
        let has_dialog = |call: &Call| {
            !call.dialog.remote_tag.is_empty() && matches!(call.phase, Phase::Calling | Phase::Up)
        };
        let mut others = self.calls.values().filter(|call| has_dialog(call));
        let (first, last) = (others.next(), others.next_back());
        let (Some(_), Some(other)) = (first, last) else {
            return false;
        };
        self.diary.ends(now, &other.dialog.call_id, End::Referred);
        let number = other_number(&other.dialog.remote);
        let to = format!("<sip:{number}@{DOMAIN}{}>", replaces(other));
        self.refer(now, to, out)
    }

    /// Two re-INVITEs have crossed: once more, after the time that the RFC gives.
    pub(super) fn tries_again(&mut self, now: Instant, id: u32) {
        let Some(call) = self.calls.get(&id).filter(|_| self.habits.is_led) else {
            return;
        };
        let story = self.diary.calls.get(&*call.dialog.call_id);
        let (from, to) = match story.is_some_and(|story| story.is_own) {
            true => GLARE_OWNER_MS,
            false => GLARE_OTHER_MS,
        };
        let wait = self.random.between(from / 10, to / 10) * 10;
        self.later(now, wait, Todo::Hold(id));
    }

    /// A led phone rings: reliably where it can.
    pub(super) fn rings_led(&mut self, now: Instant, id: u32, out: &mut Sent) {
        let is_reliable = self.habits.is_reliable && self.rings_reliably(now, id, out);
        if !is_reliable {
            let status = match self.random.below(10) {
                // It has it, and says no more: over TCP its connection would be taken for dead otherwise.
                0 => 100,
                1 | 2 => 183,
                _ => 180,
            };
            self.respond(now, id, status, "", out);
        }
    }

    /// NOTIFY of a transfer: who hears that it has succeeded hangs up, or leaves that to the server.
    pub(super) fn notified(
        &mut self,
        now: Instant,
        known: Option<u32>,
        request: &Message<'_>,
        out: &mut Sent,
    ) {
        let up = known.filter(|id| {
            let call = self.calls.get(id);
            call.is_some_and(|call| call.phase == Phase::Up)
        });
        let is_of_call = request.to().tag().is_some() && self.habits.is_led;
        let status = if is_of_call && up.is_none() { 481 } else { 200 };
        self.complete(now, request, status, out);
        let has_succeeded = request.body().starts_with(b"SIP/2.0 2");
        if let Some(id) = up.filter(|_| is_of_call && has_succeeded)
            && self.random.chance(500)
        {
            self.hang_up(now, id, out);
        }
    }
}

/// Replaces of a call, as the headers part of a URI.
pub(super) fn replaces(call: &Call) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (call_id, to) = (text(&call.dialog.call_id), text(&call.dialog.remote_tag));
    let from = match call.dialog.local_tag() {
        b"" => text(&call.tag),
        own => text(own),
    };
    format!("?Replaces={call_id}%3Bto-tag%3D{to}%3Bfrom-tag%3D{from}")
}

/// The user part of whom a call is with.
fn other_number(remote: &[u8]) -> String {
    let text = String::from_utf8_lossy(remote);
    let user = text
        .split_once("sip:")
        .and_then(|(_, rest)| rest.split_once('@'));
    user.map_or_else(|| "100".to_owned(), |(user, _)| user.to_owned())
}
