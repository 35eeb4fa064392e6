//! How many calls everybody is in: for the limits of users, trunks and lines, and of outside calls.

use super::*;

/// On which side of a call somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Caller,
    Callee,
    /// On neither by this: he answers for an outside call of it.
    Outside,
}

/// How many calls everybody is in.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Of each user: both directions together.
    pub users: Vec<u32>,
    /// From each trunk, and to it.
    pub trunks: Vec<[u32; 2]>,
    /// Of each line: both directions together.
    pub lines: Vec<u32>,
    /// Of each user: those to trunks and lines that he answers for.
    pub outside: Vec<u32>,
}

impl Counts {
    pub fn of(&mut self, party: &Party, side: Side) -> Option<&mut u32> {
        match party {
            Party::User(id, _) if side == Side::Outside => self.outside.get_mut(id.0 as usize),
            Party::User(id, _) => self.users.get_mut(id.0 as usize),
            Party::Line(id, _) => self.lines.get_mut(id.0 as usize),
            Party::Trunk(id, _) => {
                let [calls_from, calls_to] = self.trunks.get_mut(id.0 as usize)?;
                Some(match side {
                    Side::Caller => calls_from,
                    Side::Callee | Side::Outside => calls_to,
                })
            }
        }
    }
}

/// What says that this party is in the call in this slot, if it is a user.
pub(super) fn entry(party: &Party, side: Side, slot: u32) -> Option<(UserId, u32)> {
    match party {
        Party::User(user, _) if side != Side::Outside => Some((*user, slot)),
        _ => None,
    }
}

impl Calls {
    /// How many calls a user is in, both directions together.
    pub fn calls_of(&self, user: UserId) -> u32 {
        (self.counts.users.get(user.0 as usize).copied()).unwrap_or(0)
    }

    /// How many calls there are from a trunk, and to it.
    pub fn calls_of_trunk(&self, trunk: TrunkId) -> [u32; 2] {
        (self.counts.trunks.get(trunk.0 as usize).copied()).unwrap_or_default()
    }

    /// How many calls a line is in, both directions together.
    pub fn calls_of_line(&self, line: LineId) -> u32 {
        (self.counts.lines.get(line.0 as usize).copied()).unwrap_or_default()
    }

    /// How many outside calls a user answers for: those that he dialled, and those that he sent on.
    pub fn outside_calls_of(&self, user: UserId) -> u32 {
        (self.counts.outside.get(user.0 as usize).copied()).unwrap_or(0)
    }

    /// In how many calls users, trunks and lines are, all of them together.
    #[cfg(feature = "testing")]
    pub fn counted(&self) -> u64 {
        let counts = (self.counts.users.iter()).chain(self.counts.trunks.as_flattened());
        let counts = counts.chain(&self.counts.lines).chain(&self.counts.outside);
        counts.map(|count| u64::from(*count)).sum()
    }

    pub(super) fn count_in(&mut self, handle: CallHandle, party: &Party, side: Side) {
        if let Some(count) = self.counts.of(party, side) {
            *count += 1;
        }
        if let Some(call) = self.get(handle) {
            call.counted.push((party.clone(), side));
            self.by_user.extend(entry(party, side, handle.index));
        }
        self.touch(handle);
    }

    /// These are counted in this call no longer.
    pub(super) fn count_out(&mut self, handle: CallHandle, counted: Vec<(Party, Side)>) {
        for (party, side) in counted {
            if let Some(count) = self.counts.of(&party, side) {
                *count = count.saturating_sub(1);
            }
            self.is_in_no_longer(handle, &party);
        }
    }

    /// Who was counted in one call is counted in another one now.
    pub(super) fn counted_over(
        &mut self,
        from: CallHandle,
        moved: Vec<(Party, Side)>,
        to: CallHandle,
    ) {
        for (party, side) in moved {
            self.is_in_no_longer(from, &party);
            self.by_user.extend(entry(&party, side, to.index));
            if let Some(call) = self.get(to) {
                call.counted.push((party, side));
            }
        }
    }

    fn is_in_no_longer(&mut self, handle: CallHandle, party: &Party) {
        if let Party::User(user, _) = party
            && self.get(handle).is_none_or(|call| !call.counts_user(*user))
        {
            self.by_user.remove(&(*user, handle.index));
        }
    }

    /// The slots of the calls that a user is in.
    pub(super) fn calls_with(&self, user: UserId) -> impl Iterator<Item = u32> {
        let own = self.by_user.range((user, 0)..=(user, u32::MAX));
        own.map(|(_, slot)| *slot)
    }

    /// One callee is not in this call any more, which goes on.
    pub(super) fn count_out_one(&mut self, handle: CallHandle, party: &Party, side: Side) {
        let Some(call) = self.get(handle) else { return };
        let is_it = |(own, own_side): &(Party, Side)| own == party && *own_side == side;
        if let Some(place) = call.counted.iter().position(is_it) {
            let one = call.counted.swap_remove(place);
            self.count_out(handle, vec![one]);
        }
    }

    /// An outside branch counts among the calls of whoever answers for it, ...
    pub(super) fn pays(&mut self, handle: CallHandle, leg: u8) {
        let branch = (self.get(handle)).and_then(|call| call.branches.get_mut(leg as usize));
        let Some(branch) = branch.filter(|branch| !branch.pays) else {
            return;
        };
        if let Some(payer) = branch.payer.clone() {
            branch.pays = true;
            self.count_in(handle, &payer, Side::Outside);
        }
    }

    /// ... and no more: it has ended, and the call goes on.
    pub(super) fn pays_no_more(&mut self, handle: CallHandle, leg: u8) {
        let Some(call) = self.get(handle) else { return };
        let client = call.branches.get(leg as usize).map(|branch| branch.client);
        let mut of_invite = (call.branches.iter_mut())
            .filter(|branch| Some(branch.client) == client && branch.pays);
        let Some(branch) = of_invite.next() else {
            return;
        };
        branch.pays = false;
        if let Some(payer) = branch.payer.clone() {
            self.count_out_one(handle, &payer, Side::Outside);
        }
    }
}

impl Call {
    /// Whether this party is counted as being in the call.
    pub(super) fn counts(&self, party: &Party) -> bool {
        (self.counted.iter()).any(|(own, side)| own == party && *side != Side::Outside)
    }

    pub(super) fn counts_user(&self, user: UserId) -> bool {
        let is_he = |party: &Party| matches!(party, Party::User(own, _) if *own == user);
        (self.counted.iter()).any(|(own, side)| is_he(own) && *side != Side::Outside)
    }
}
