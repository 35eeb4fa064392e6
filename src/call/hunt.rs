//! A call looks for somebody who takes it: ringing groups, and users who send on what they do not take.
//!
//! ```text
//!   users who are rung                            asks the endpoint                 rung in their place
//!   all phones refuse ──────────────────────────▶ busy, no answer, offline ──────▶ where the user's calls go on to
//!   his time is over (Timer::NoAnswer) ─────────▶ no answer, offline ────────────▶ the same; else his phones ring on
//!   a group: everybody refuses, time is over ───▶ next member, next ─────────────▶ the next member, or the group's next
//! ```
//!
//! A user is rung at most once in a call, with all his phones, so his branches are those of his party. Whoever is left for
//! others gets a CANCEL; if his answer has crossed it, he has the call.
//!
//! A member of a group who declines takes only himself out, and what he has set for calls that he does not take holds for
//! calls to himself, not to the group: else the first member's mailbox would have all of the group's calls.

use std::net::IpAddr;

use super::onward::{Onward, Why};
use super::*;

/// As what somebody is rung.
#[derive(Clone, Copy, Debug, Default)]
pub struct Role {
    /// As a member of a group: his refusal is his own.
    pub is_member: bool,
    /// His calls go on to somewhere else if he does not take them; it has not been asked yet where.
    pub sends_on: bool,
    /// So long after he is rung.
    pub no_answer_after: Option<Duration>,
}

/// Who dials what a call goes on to, by his rights and at his expense, if that is not the caller: who has transferred it.
#[derive(Clone, Debug)]
pub struct Dialler {
    /// The user's name.
    pub name: Arc<str>,
    /// His phone, for the log.
    pub source: IpAddr,
}

/// A ringing group that a call is in.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// Its name.
    pub group: Box<str>,
    /// The number that was called, as its members are told it.
    pub number: Box<[u8]>,
    /// Members who were not rung, by name, the next one last.
    pub left: Vec<Box<str>>,
    /// How long it rings at those who are rung.
    pub rings: Duration,
    /// Who has dialled the group, if it is not the caller.
    pub by: Option<Dialler>,
    /// Who has sent the call on to the group.
    pub chain: Vec<Diverted>,
    /// Groups that the call has been in, this one included.
    pub been: Vec<Box<str>>,
}

impl Calls {
    /// A user's branches are over: his calls may go on to somebody else. Whether that is asked.
    pub(super) fn sends_on(&mut self, handle: CallHandle, leg: u8) -> bool {
        let Some(call) = self.get(handle) else {
            return false;
        };
        if call.state != State::Ringing || call.is_final {
            return false;
        }
        let Some(cause) = call.unreached(leg) else {
            return false;
        };
        let party = call.branches.get(leg as usize).map(|own| &own.leg.party);
        let Some(party) = party.cloned() else {
            return false;
        };
        for branch in call.of_party_mut(&party) {
            branch.role.sends_on = false;
        }
        let why = Why::Unreached {
            cause,
            is_over: false,
        };
        self.ask(handle, leg, why);
        true
    }

    /// A user is rung: how long he wants that before the call goes on. All of his phones have one time.
    pub(super) fn watch_answer(&mut self, handle: CallHandle, leg: u8, context: &Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        let Some(branch) = call.branches.get(leg as usize) else {
            return;
        };
        let party = &branch.leg.party;
        let mut before = call.branches.iter().take(leg as usize);
        if let Some(after) = branch.role.no_answer_after
            && !before.any(|other| other.leg.party == *party)
        {
            let at = context.now.mono.plus(after);
            // Else the end of all ringing comes first, and asks the same.
            if at < call.rings_until {
                self.arm(at, Timer::NoAnswer(handle, leg));
            }
        }
    }

    /// A user has not answered for as long as he wants it.
    pub(super) fn no_answer(&mut self, handle: CallHandle, leg: u8) {
        let Some(call) = self.get(handle) else { return };
        if call.state == State::Ringing && !call.is_final && call.still_rings(leg) {
            let why = Why::Unreached {
                cause: call.silence_of(leg),
                is_over: false,
            };
            self.ask(handle, leg, why);
        }
    }

    /// The time to ring is over. Whether it is asked where the call goes on to.
    pub(super) fn rings_no_longer(&mut self, handle: CallHandle) -> bool {
        let Some(call) = self.get(handle) else {
            return false;
        };
        if call.hunt.is_some() {
            self.ask_next(handle, true);
            return true;
        }
        // All of them, each user once: of several whom a phone has named one may have somebody to go on to.
        let is_first = |leg: &u8| {
            let mut before = call.branches.iter().take((*leg).into());
            let own = call.branches.get(*leg as usize);
            !before.any(|other| own.is_some_and(|own| own.leg.party == other.leg.party))
        };
        let asked: Vec<(u8, Cause)> = (0..call.branches.len() as u8)
            .filter(|leg| call.still_rings(*leg) && is_first(leg))
            .map(|leg| (leg, call.silence_of(leg)))
            .collect();
        let is_asked = !asked.is_empty();
        for (leg, cause) in asked {
            let is_over = true;
            self.ask(handle, leg, Why::Unreached { cause, is_over });
        }
        is_asked
    }

    /// Asks who is next in the group that the call is in. `is_over`: those who ring have had their time.
    pub(super) fn ask_next(&mut self, handle: CallHandle, is_over: bool) {
        // From now on it is in none, or in another one.
        self.touch(handle);
        let Some(call) = self.get(handle) else { return };
        if let Some(hunt) = call.hunt.take() {
            let onward = Onward {
                call: handle,
                branch: NO_BRANCH,
                by: call.caller.party.clone(),
                payer: None,
                caller: (call.caller.party.clone(), call.caller.dialog.flow),
                flow: call.caller.dialog.flow,
                chain: hunt.chain.clone(),
                rung: call.rung(),
                is_member: false,
                has_rung: false,
                why: Why::Next { hunt, is_over },
            };
            call.asking += 1;
            self.onward.push_back(onward);
        }
    }

    /// The call leaves these branches for others.
    pub(super) fn leave(
        &mut self,
        handle: CallHandle,
        is_left: impl Fn(&Branch) -> bool,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(handle) else { return };
        let legs = (0..call.branches.len() as u8)
            .filter(|leg| {
                let branch = call.branches.get(*leg as usize);
                branch.is_some_and(|branch| !branch.is_left && is_left(branch))
            })
            .collect::<Vec<u8>>();
        for leg in legs {
            self.pays_no_more(handle, leg);
            let Some(call) = self.get(handle) else { return };
            let Some(branch) = call.branches.get_mut(leg as usize) else {
                return;
            };
            branch.is_left = true;
            let (party, client) = (branch.leg.party.clone(), branch.client);
            if branch.status.is_none() {
                call.end_branch(leg, 480, EndedBy::Server);
                let now = context.now.mono;
                context.transactions.cancel(now, client, b"", context.out);
            }
            self.counts_no_more(handle, &party);
        }
    }

    /// Whoever has no branch any more that may answer, or has, is in the call no longer.
    pub(super) fn counts_no_more(&mut self, handle: CallHandle, party: &Party) {
        let Some(call) = self.get(handle) else { return };
        let is_in = |branch: &Branch| branch.status.is_none_or(|status| status < 300);
        if !(call.branches.iter()).any(|branch| branch.leg.party == *party && is_in(branch)) {
            self.count_out_one(handle, party, Side::Callee);
        }
    }

    /// A member of a group has declined with this status: his other phones stop, and what it counts as.
    pub(super) fn member_declines(
        &mut self,
        owner: Owner,
        status: u16,
        context: &mut Context<'_>,
    ) -> Option<u16> {
        let call = self.get(owner.call)?;
        let branch = call.branches.get(owner.leg as usize)?;
        if status < 600 || !branch.role.is_member {
            return None;
        }
        let (client, party) = (branch.client, branch.leg.party.clone());
        let is_other = |other: &&Branch| {
            other.leg.party == party && other.client != client && other.status.is_none()
        };
        for other in call.branches.iter().filter(is_other) {
            let now = context.now.mono;
            (context.transactions).cancel(now, other.client, b"", context.out);
        }
        // "Busy everywhere" is everywhere that he is.
        Some(if status == 600 { 486 } else { 480 })
    }
}

impl Call {
    fn of_party_mut<'a>(&'a mut self, party: &'a Party) -> impl Iterator<Item = &'a mut Branch> {
        (self.branches.iter_mut()).filter(move |branch| branch.leg.party == *party)
    }

    /// Whom it has rung.
    pub(super) fn rung(&self) -> Vec<Party> {
        (self.branches.iter())
            .map(|branch| branch.leg.party.clone())
            .collect()
    }

    /// Whether this branch rings at a user whose calls go on to somewhere else.
    fn still_rings(&self, leg: u8) -> bool {
        let branch = self.branches.get(leg as usize);
        branch.is_some_and(|branch| {
            let of_party = |own: &&Branch| own.leg.party == branch.leg.party;
            let mut own = self.branches.iter().filter(of_party);
            branch.role.sends_on && own.any(|own| own.status.is_none())
        })
    }

    /// What it means that a user's phones do not answer: one from which nothing has come at all is not there.
    fn silence_of(&self, leg: u8) -> Cause {
        let party = self.branches.get(leg as usize).map(|own| &own.leg.party);
        let mut own = (self.branches.iter()).filter(|own| Some(&own.leg.party) == party);
        match own.any(|branch| branch.is_heard) {
            true => Cause::NoAnswer,
            false => Cause::Offline,
        }
    }

    /// Why the user of this branch has not been reached, if all his branches are over and his calls go on then. What says
    /// nothing of that (a session that no phone of his can have, another redirection) is his answer.
    fn unreached(&self, leg: u8) -> Option<Cause> {
        let party = &self.branches.get(leg as usize)?.leg.party;
        let own = || (self.branches.iter()).filter(|branch| branch.leg.party == *party);
        let may =
            |branch: &Branch| branch.role.sends_on && !branch.is_left && branch.status.is_some();
        if !own().all(may) {
            return None;
        }
        let best = own().reduce(|best, other| {
            let is_better = |new: Option<u16>, old: Option<u16>| {
                new.zip(old)
                    .is_some_and(|(new, old)| best::is_better(new, old))
            };
            if is_better(other.status, best.status) {
                other
            } else {
                best
            }
        })?;
        match best.status? {
            // Who declines wants the call as little as who is busy (3GPP TS 22.082 §1.1: user determined user busy).
            486 | 600.. => Some(Cause::Busy),
            408 | 480 if best.ended_by == EndedBy::Callee => Some(Cause::NoAnswer),
            408 | 480 => Some(self.silence_of(leg)),
            404 | 410 | 500..600 => Some(Cause::Offline),
            _ => None,
        }
    }
}
