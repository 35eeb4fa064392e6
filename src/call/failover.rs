//! A trunk fails and the call goes on to the next one: of the route that led there, of its own addresses, or its `next`.
//!
//! Failed is what cannot be reached, says nothing at all for [`TRUNK_SILENCE`], or answers 5xx (RFC 3261 §21.5: the server's
//! failure, not the callee's) before anything rings. Who answers 4xx or 6xx has spoken for the callee, and once it rings the
//! caller waits for that callee.
//!
//! The silent one is sent CANCEL as soon as it says anything. If it answers all the same before the others do, it has
//! the call.

use super::onward::Why;
use super::*;
use crate::limits::TRUNK_SILENCE;
use crate::message::Message;

/// Who is still to be tried for one number, and has not been.
#[derive(Clone, Debug)]
pub struct Alternatives {
    /// The number as the trunks are told it.
    pub number: Box<[u8]>,
    /// The next one last.
    pub hops: Vec<Hop>,
    /// It is a call for help: no limit on outside calls holds for it.
    pub is_emergency: bool,
}

/// One of those.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Whom it leads to.
    pub to: HopTo,
    /// Which address of the trunk; 0 of others.
    pub address: usize,
    /// The address of the line, whose order may be another by the time it is tried.
    pub way: Option<SocketAddr>,
}

/// Whom a hop leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HopTo {
    /// A trunk, a line or a user.
    Party(Party),
    /// A ringing group, by its name.
    Group(Box<str>),
}

impl Hop {
    /// Whom it leads to, if that is no group.
    pub fn party(&self) -> Option<&Party> {
        match &self.to {
            HopTo::Party(party) => Some(party),
            HopTo::Group(_) => None,
        }
    }

    /// Whether it leads to a trunk or line.
    pub fn is_outside(&self) -> bool {
        self.party().is_some_and(Party::is_outside)
    }
}

impl Calls {
    /// A branch with alternatives has been rung.
    pub(super) fn watch_silence(&mut self, handle: CallHandle, leg: u8, context: &mut Context<'_>) {
        let at = context.now.mono.plus(TRUNK_SILENCE);
        self.arm(at, Timer::Silence(handle, leg));
    }

    /// What a provisional response to a branch says of its alternatives: a trunk that is there is given time, and one where
    /// it rings has the call.
    pub(super) fn is_heard(&mut self, owner: Owner, response: &Message<'_>) {
        let call = self.get(owner.call);
        if let Some(branch) = call.and_then(|call| call.branches.get_mut(owner.leg as usize)) {
            branch.is_heard = true;
            if response.status() > 100 {
                branch.alternatives = None;
            }
        }
    }

    /// A trunk has had its time to say anything.
    pub(super) fn silence(&mut self, handle: CallHandle, leg: u8, context: &mut Context<'_>) {
        let owner = Owner {
            call: handle,
            leg,
            purpose: Purpose::Invite,
        };
        let call = self.get(handle);
        let branch = call.and_then(|call| call.branches.get(leg as usize));
        let Some(branch) = branch.filter(|branch| !branch.is_heard) else {
            return;
        };
        let until = branch.asked_at.plus(TRUNK_SILENCE);
        if until > context.now.mono {
            // It has asked for a password meanwhile, and got it.
            return self.arm(until, Timer::Silence(handle, leg));
        }
        let client = branch.client;
        if self.fails_over(owner, 408, EndedBy::Server) {
            let now = context.now.mono;
            context.transactions.cancel(now, client, b"", context.out);
        }
    }

    /// A branch has failed with this status; whether another is tried in its place.
    pub(super) fn fails_over(&mut self, owner: Owner, status: u16, by: EndedBy) -> bool {
        // 401 and 407: it wants a password, which says nothing of the callee.
        let is_failure = matches!(status, 401 | 407 | 500..600) || by == EndedBy::Server;
        let Some(call) = self.get(owner.call) else {
            return false;
        };
        let may = call.state == State::Ringing && !call.is_final && !call.is_declined();
        let branch = call.branches.get_mut(owner.leg as usize);
        let Some(branch) = branch.filter(|branch| may && is_failure && branch.status.is_none())
        else {
            return false;
        };
        let Some(alternatives) = branch.alternatives.take() else {
            return false;
        };
        let trunk = branch.leg.party.clone();
        call.end_branch(owner.leg, best::of_branch(status), by);
        // It has room for another call again.
        self.count_out_one(owner.call, &trunk, Side::Callee);
        self.ask(owner.call, owner.leg, Why::Failed(alternatives, by));
        true
    }

    /// A trunk that the call has left for another has answered all the same.
    pub(super) fn comes_back(&mut self, owner: Owner) {
        let call = self.get(owner.call);
        let branch = call.and_then(|call| call.branches.get_mut(owner.leg as usize));
        if let Some(branch) = branch.filter(|branch| branch.is_left) {
            branch.is_left = false;
            let trunk = branch.leg.party.clone();
            self.count_in(owner.call, &trunk, Side::Callee);
            self.pays(owner.call, owner.leg);
        }
    }
}
