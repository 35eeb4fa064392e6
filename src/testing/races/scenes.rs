//! Clashes that need more than two moves.

use super::clash::{ANSWER, CALL, Cast, LATE, SECOND, SECOND_ANSWER};
use super::*;
use crate::testing::phone::led::Which::{Latest, Oldest};

impl Races {
    /// `a` and `b` talk, and `b` calls `c`.
    pub(super) fn consult(&mut self, cast: Cast) {
        self.talk(cast);
        let number = self.number(cast.c);
        self.make(SECOND, cast.b, dial(&number));
    }

    pub(super) fn is_registering(&self, index: usize) -> bool {
        index != TRUNK && index + 1 < self.fleet.phones.len()
    }

    /// Somebody who may pick up what rings at these: mostly another member.
    pub(super) fn taker(&mut self, rung: &[usize], not: usize) -> usize {
        let (_, members) = self.any_group();
        let others: Vec<usize> = (members.into_iter())
            .filter(|index| *index != not && (!rung.contains(index) || rung.len() > 1))
            .collect();
        self.any(&others)
    }

    pub(super) fn pickup_code(&mut self, rung: usize) -> String {
        let user = &self.fleet.phones[rung.max(1)].user;
        let codes = ["*8".to_owned(), format!("*8{user}"), "*8200".to_owned()];
        self.any(&codes)
    }

    /// An answer that arrives when the time of who answers is over.
    pub(super) fn answer_timeout(&mut self, a: usize) {
        let (number, rings) = self.any(&[
            ("200", GROUP_RINGS),
            ("300", GROUP_RINGS),
            ("400", GROUP_RINGS),
            ("104", Duration::from_secs(5)),
            ("106", Duration::from_secs(6)),
            ("107", RING_TIMEOUT),
        ]);
        self.make(CALL, a, dial(number));
        // The caller's INVITE is there after one delay, or challenged first; the answer takes one itself.
        let delays = self.any(&[0, 2]);
        let times = if number == "107" {
            1
        } else {
            self.random.between(1, 2) as u32
        };
        let over = CALL + rings * times + self.link.delay * delays;
        let about = self.any(&[Duration::from_millis(1), 2 * self.link.delay]);
        let at = (over + self.random.up_to(2 * about)).saturating_sub(about);
        for index in TRUNK + 1..self.fleet.phones.len() {
            if index != a {
                let after = self.any(&[Duration::ZERO, self.link.delay]);
                self.make(at + after, index, Move::Answer);
            }
        }
    }

    /// A phone's power goes while it does something, and is back when it is.
    pub(super) fn power_cut(&mut self, cast: Cast) {
        let Cast { a, b, c, .. } = cast;
        let victim = if self.random.chance(500) {
            let rung = self.ring(cast);
            let victim = self.any(&[a, rung[0]]);
            let other = self.any(&[Move::Answer, Move::Cancel, Move::HangUp(Oldest)]);
            let who = self.any(&[a, rung[0]]);
            self.clash(ANSWER, vec![Act::PowerCut(victim), Act::Make(who, other)]);
            victim
        } else {
            self.consult(cast);
            self.make(SECOND_ANSWER, c, Move::Answer);
            let victim = self.any(&[a, b, c]);
            let refer = Act::Make(b, Move::ReferToOther);
            self.clash(LATE, vec![Act::PowerCut(victim), refer]);
            victim
        };
        let after = LATE + Duration::from_millis(self.random.between(500, 30_000));
        self.later(after, Act::PowerOn(victim));
    }

    /// A call looks for one who takes it, while its members dial codes.
    pub(super) fn codes(&mut self, a: usize) {
        let number = self.any(&["300", "400", "104", "108", "200"]);
        self.make(CALL, a, dial(number));
        for index in TRUNK + 1..self.fleet.phones.len() {
            if index == a || self.random.chance(500) {
                continue;
            }
            let code = self.any(&["*78", "*79", "*73", "*72107", "*72300", "*72103"]);
            let at = CALL + self.random.up_to(3 * GROUP_RINGS);
            self.make(at, index, dial(code));
        }
        let at = CALL + GROUP_RINGS * 2;
        for index in TRUNK + 1..self.fleet.phones.len() {
            let after = self.crossing();
            self.make(at + after, index, Move::Answer);
        }
    }

    /// Four phones, and whatever comes to their minds.
    pub(super) fn chaos(&mut self, cast: Cast) {
        let Cast { a, b, c, d } = cast;
        self.consult(cast);
        let four = [a, b, c, d];
        for at in [ANSWER, SECOND_ANSWER, LATE, LATE + ANSWER] {
            for who in four {
                let other = self.any(&four);
                let number = self.number(other);
                let which = self.any(&[Oldest, Latest]);
                let orders = [
                    Move::Answer,
                    Move::Answer,
                    Move::Refuse(486),
                    Move::Refuse(302),
                    Move::Cancel,
                    Move::HangUp(which),
                    Move::Hold(which, false),
                    Move::Hold(which, true),
                    Move::Update,
                    Move::Refer(number.clone()),
                    Move::ReferToOther,
                    dial("*8"),
                    dial(&number),
                ];
                let order = self.any(&orders);
                let after = self.crossing();
                self.make(at + after, who, order);
            }
        }
    }
}
