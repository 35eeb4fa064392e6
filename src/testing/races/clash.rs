//! What clashes, and when. What needs more than a few lines is one of the `scenes`.

use super::setup::GROUPS;
use super::*;
use crate::testing::phone::led::Which::{Latest, Oldest};

/// What happens at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    /// Two or all members of a group answer.
    Answers,
    /// The caller gives up, and somebody answers.
    CancelAnswer,
    /// The caller gives up, and somebody refuses.
    CancelRefuse,
    /// The caller gives up while his call is still on its way, reliable responses and their PRACKs included.
    CancelEarly,
    /// Somebody answers when his time is over: the group's, his forwarding's, the call's own.
    AnswerTimeout,
    /// REFER, and one of the two hangs up.
    ReferBye,
    /// REFER, and somebody's re-INVITE.
    ReferHold,
    /// REFER from both sides.
    ReferRefer,
    /// The target of a transfer answers or refuses, and somebody hangs up or holds.
    TargetAnswers,
    /// REFER with Replaces of an answered call, and somebody hangs up or holds.
    Attended,
    /// REFER with Replaces of a ringing call, and it is answered, refused or cancelled.
    AttendedRinging,
    /// re-INVITEs from both sides.
    Glare,
    /// re-INVITE and BYE.
    HoldBye,
    /// UPDATE and re-INVITE.
    UpdateHold,
    /// Somebody picks up what is answered, refused or given up.
    Pickup,
    /// Two pick the same up.
    Pickups,
    /// Who rings registers elsewhere, or no more.
    Moves,
    /// A phone's power goes.
    PowerCut,
    /// The server stops or loses its power.
    Restart,
    /// Codes are dialled while a call looks for somebody.
    Codes,
    /// The administrator hangs up.
    Administrator,
    /// A session's refresh, and BYE.
    Refresh,
    /// BYE from both sides.
    Byes,
    /// Anything.
    Chaos,
}

/// All of them.
pub const CLASHES: [Clash; 24] = [
    Clash::Answers,
    Clash::CancelAnswer,
    Clash::CancelRefuse,
    Clash::CancelEarly,
    Clash::AnswerTimeout,
    Clash::ReferBye,
    Clash::ReferHold,
    Clash::ReferRefer,
    Clash::TargetAnswers,
    Clash::Attended,
    Clash::AttendedRinging,
    Clash::Glare,
    Clash::HoldBye,
    Clash::UpdateHold,
    Clash::Pickup,
    Clash::Pickups,
    Clash::Moves,
    Clash::PowerCut,
    Clash::Restart,
    Clash::Codes,
    Clash::Administrator,
    Clash::Refresh,
    Clash::Byes,
    Clash::Chaos,
];

/// When the calls of a round begin, are answered, and clash; a second call of somebody's; and its clash.
pub(super) const CALL: Duration = Duration::from_millis(1_500);
pub(super) const ANSWER: Duration = Duration::from_millis(4_000);
pub(super) const SECOND: Duration = Duration::from_millis(6_000);
pub(super) const SECOND_ANSWER: Duration = Duration::from_millis(8_500);
pub(super) const LATE: Duration = Duration::from_millis(11_000);
/// A session with a timer of 90 s is refreshed after half of it.
const REFRESH: Duration = Duration::from_secs(45);

/// Who takes part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cast {
    pub a: usize,
    pub b: usize,
    pub c: usize,
    pub d: usize,
}

impl Races {
    /// Phones that differ; now and then the carrier calls, or is called.
    pub(super) fn cast(&mut self) -> Cast {
        let all = self.fleet.phones.len() as u64;
        let mut drawn = Vec::new();
        while drawn.len() < 4 {
            let index = self.random.between(1, all - 1) as usize;
            if !drawn.contains(&index) {
                drawn.push(index);
            }
        }
        if self.random.chance(250) {
            let place = self.random.below(3) as usize;
            drawn[place] = TRUNK;
        }
        let [a, b, c, d] = drawn[..] else {
            unreachable!("four were drawn")
        };
        Cast { a, b, c, d }
    }

    /// What is dialled to reach a phone.
    pub(super) fn number(&self, index: usize) -> String {
        match index {
            TRUNK => "9030555".to_owned(),
            _ => self.fleet.phones[index].user.clone(),
        }
    }

    pub(super) fn make(&mut self, at: Duration, index: usize, order: Move) {
        self.later(at, Act::Make(index, order));
    }

    /// All of these at about the same moment, in any order.
    pub(super) fn clash(&mut self, at: Duration, mut acts: Vec<Act>) {
        for left in (1..acts.len()).rev() {
            let other = self.random.below(left as u64 + 1) as usize;
            acts.swap(left, other);
        }
        for (index, act) in acts.into_iter().enumerate() {
            let after = if index == 0 {
                Duration::ZERO
            } else {
                self.crossing()
            };
            self.later(at + after, act);
        }
    }

    pub(super) fn any<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.random.below(of.len() as u64) as usize].clone()
    }

    /// `a` calls `b`, who answers.
    pub(super) fn talk(&mut self, cast: Cast) {
        let number = self.number(cast.b);
        self.make(CALL, cast.a, dial(&number));
        self.make(ANSWER, cast.b, Move::Answer);
    }

    /// `a` calls somebody, or a group of his; who rings then.
    pub(super) fn ring(&mut self, cast: Cast) -> Vec<usize> {
        let (number, rung) = if self.random.chance(400) {
            self.any_group()
        } else {
            (self.number(cast.b), vec![cast.b])
        };
        self.make(CALL, cast.a, dial(&number));
        rung
    }

    /// A group's number and its phones.
    pub(super) fn any_group(&mut self) -> (String, Vec<usize>) {
        let (number, members) = self.any(&GROUPS);
        let is_member = |phone: &Phone| members.iter().any(|own| own.to_string() == phone.user);
        let phones = self.fleet.phones.iter().enumerate();
        let rung = phones.filter(|(_, phone)| is_member(phone));
        (number.to_owned(), rung.map(|(index, _)| index).collect())
    }

    /// Where a transfer may lead.
    fn target(&mut self, cast: Cast) -> String {
        let own = self.number(cast.c);
        let others = ["200", "300", "400", "104", "108", "777", "9030666"];
        if self.random.chance(600) {
            own
        } else {
            self.any(&others).to_owned()
        }
    }

    /// Somebody of a call hangs up, or holds, or sends something.
    fn disturbance(&mut self, of: &[usize]) -> Act {
        let who = self.any(of);
        let which = self.any(&[Oldest, Latest]);
        let late = self.random.chance(300);
        let orders = [
            Move::HangUp(which),
            Move::HangUp(which),
            Move::Hold(which, late),
            Move::Update,
            Move::Info,
        ];
        Act::Make(who, self.any(&orders))
    }

    pub(super) fn plan_clash(&mut self, clash: Clash) {
        let cast = self.cast();
        let Cast { a, b, c, d } = cast;
        let hang_up = |index| Act::Make(index, Move::HangUp(Oldest));
        let answer = |index| Act::Make(index, Move::Answer);
        let cancel = Act::Make(a, Move::Cancel);
        let late = self.random.chance(300);
        let hold = |index| Act::Make(index, Move::Hold(Oldest, late));
        match clash {
            Clash::Answers => {
                let (number, rung) = self.any_group();
                self.make(CALL, a, dial(&number));
                self.clash(ANSWER, rung.into_iter().map(answer).collect());
            }
            Clash::CancelAnswer => {
                let rung = self.ring(cast);
                let answers = rung.into_iter().map(answer);
                self.clash(ANSWER, answers.chain([cancel]).collect());
            }
            Clash::CancelRefuse => {
                let rung = self.ring(cast);
                let status = self.any(&[486, 603, 480, 503]);
                let refusals = rung.into_iter();
                let refusals = refusals.map(|index| Act::Make(index, Move::Refuse(status)));
                self.clash(ANSWER, refusals.chain([cancel]).collect());
            }
            Clash::CancelEarly => {
                let rung = self.ring(cast);
                let after = self.random.up_to(12 * self.link.delay);
                self.later(CALL + after, cancel);
                if self.random.chance(300) {
                    let at = CALL + self.random.up_to(12 * self.link.delay);
                    self.clash(at, rung.into_iter().map(answer).collect());
                }
            }
            Clash::AnswerTimeout => self.answer_timeout(a),
            Clash::ReferBye => {
                self.talk(cast);
                let refer = Move::Refer(self.target(cast));
                let (who, other) = self.any(&[(a, b), (b, a)]);
                let who_leaves = self.any(&[who, other]);
                let acts = vec![Act::Make(who, refer), hang_up(who_leaves)];
                self.clash(SECOND, acts);
                self.make(SECOND_ANSWER, c, Move::Answer);
            }
            Clash::ReferHold => {
                self.talk(cast);
                let refer = Move::Refer(self.target(cast));
                let (who, other) = self.any(&[(a, b), (b, a)]);
                let holds = self.any(&[who, other]);
                self.clash(SECOND, vec![Act::Make(who, refer), hold(holds)]);
                self.make(SECOND_ANSWER, c, Move::Answer);
            }
            Clash::ReferRefer => {
                self.talk(cast);
                let (one, other) = (self.target(cast), self.number(d));
                let acts = vec![
                    Act::Make(a, Move::Refer(one)),
                    Act::Make(b, Move::Refer(other)),
                ];
                self.clash(SECOND, acts);
                self.clash(SECOND_ANSWER, vec![answer(c), answer(d)]);
            }
            Clash::TargetAnswers => {
                self.talk(cast);
                let who = self.any(&[a, b]);
                let target = self.number(c);
                self.make(SECOND, who, Move::Refer(target));
                let reply = if self.random.chance(800) {
                    Move::Answer
                } else {
                    Move::Refuse(486)
                };
                let mut acts = vec![Act::Make(c, reply), self.disturbance(&[a, b, c])];
                if self.random.chance(300) {
                    acts.push(self.disturbance(&[a, b, c]));
                }
                // The target's INVITE may be no older than this.
                let early = self.random.up_to(8 * self.link.delay);
                let at = self.any(&[SECOND_ANSWER, SECOND + early]);
                self.clash(at, acts);
            }
            Clash::Attended => {
                self.consult(cast);
                self.make(SECOND_ANSWER, c, Move::Answer);
                let mut acts = vec![Act::Make(b, Move::ReferToOther)];
                acts.push(self.disturbance(&[a, b, c]));
                if self.random.chance(300) {
                    acts.push(self.disturbance(&[a, b, c]));
                }
                self.clash(LATE, acts);
            }
            Clash::AttendedRinging => {
                self.consult(cast);
                let reply = self.any(&[Move::Answer, Move::Answer, Move::Refuse(486)]);
                let refer = Act::Make(b, Move::ReferToOther);
                let mut acts = vec![refer, Act::Make(c, reply)];
                if self.random.chance(500) {
                    let cancels = Act::Make(b, Move::Cancel);
                    let disturbs = self.disturbance(&[a, b, c]);
                    acts.push(self.any(&[cancels, disturbs]));
                }
                self.clash(LATE, acts);
            }
            Clash::Glare => {
                self.talk(cast);
                self.clash(SECOND, vec![hold(a), hold(b)]);
            }
            Clash::HoldBye => {
                self.talk(cast);
                let (who, other) = self.any(&[(a, b), (b, a)]);
                let leaves = self.any(&[who, other, other]);
                self.clash(SECOND, vec![hold(who), hang_up(leaves)]);
            }
            Clash::UpdateHold => {
                self.talk(cast);
                let (who, other) = self.any(&[(a, b), (b, a)]);
                let second = self.any(&[hold(other), Act::Make(other, Move::Update), hold(who)]);
                self.clash(SECOND, vec![Act::Make(who, Move::Update), second]);
            }
            Clash::Pickup => {
                let rung = self.ring(cast);
                let taker = self.taker(&rung, a);
                let code = self.pickup_code(b);
                let who = self.any(&rung);
                let other = match self.random.below(4) {
                    0 => cancel,
                    1 => Act::Make(who, Move::Refuse(486)),
                    2 => Act::Make(taker, Move::Cancel),
                    _ => answer(who),
                };
                // Or as soon as it rings, when an answer waits for the caller's PRACK.
                let early = CALL + self.random.up_to(12 * self.link.delay);
                let at = self.any(&[ANSWER, early]);
                self.clash(at, vec![Act::Make(taker, dial(&code)), other]);
            }
            Clash::Pickups => {
                let rung = self.ring(cast);
                let takers = [self.taker(&rung, a), d];
                let code = self.pickup_code(b);
                let acts = takers.map(|taker| Act::Make(taker, dial(&code)));
                self.clash(ANSWER, acts.into());
            }
            Clash::Moves => {
                let rung = self.ring(cast);
                let who = self.any(&rung);
                let moves = match self.random.below(3) {
                    _ if !self.is_registering(who) => answer(who),
                    0 => Act::MoveAway(who),
                    1 => Act::Register(who),
                    _ => Act::Make(who, Move::Unregister),
                };
                let other = self.any(&[answer(who), cancel]);
                self.clash(ANSWER, vec![moves, other]);
            }
            Clash::PowerCut => self.power_cut(cast),
            Clash::Restart => {
                let goes = self.any(&[Act::Restart, Act::Stop]);
                let other = if self.random.chance(500) {
                    let rung = self.ring(cast);
                    self.any(&[answer(rung[0]), cancel])
                } else {
                    self.talk(cast);
                    let refers = Act::Make(b, Move::Refer(self.number(c)));
                    let disturbs = self.disturbance(&[a, b]);
                    self.any(&[refers, disturbs])
                };
                self.clash(SECOND, vec![goes, other]);
            }
            Clash::Codes => self.codes(a),
            Clash::Administrator => {
                let rung = self.ring(cast);
                if self.random.chance(500) {
                    let mut acts: Vec<Act> = rung.into_iter().map(answer).collect();
                    acts.push(self.any(&[Act::HangUp, Act::HangUp, cancel]));
                    acts.push(Act::HangUp);
                    self.clash(ANSWER, acts);
                } else {
                    self.make(ANSWER, rung[0], Move::Answer);
                    let refers = Act::Make(a, Move::Refer(self.number(c)));
                    let disturbs = self.disturbance(&[a, rung[0]]);
                    let other = self.any(&[refers, disturbs]);
                    self.clash(SECOND, vec![Act::HangUp, other]);
                }
            }
            Clash::Refresh => {
                self.talk(cast);
                // It begins with the answer: with the 2xx at the server, with what follows at the caller.
                let delays = self.random.below(4) as u32;
                let at = ANSWER + REFRESH + self.link.delay * delays;
                let at = at.saturating_sub(Duration::from_millis(1));
                let acts = self.any(&[
                    vec![hang_up(a)],
                    vec![hang_up(a), hang_up(b)],
                    vec![hold(b)],
                ]);
                let after = self.random.up_to(Duration::from_millis(2));
                self.clash(at + after, acts);
            }
            Clash::Byes => {
                self.talk(cast);
                self.clash(SECOND, vec![hang_up(a), hang_up(b)]);
            }
            Clash::Chaos => self.chaos(cast),
        }
    }
}
