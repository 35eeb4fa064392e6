//! What others may see of a user's calls on their lamp keys (RFC 4235): which there are, and how far they are.

use super::*;

/// One call of a user, as somebody else is shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownDialog {
    /// The same for as long as it lasts.
    pub id: String,
    /// How far it is.
    pub progress: Progress,
    /// The user called, and was not called.
    pub is_initiator: bool,
    /// With whom; `None`: he does not want to be known, or the watcher is not to know.
    pub remote: Option<String>,
    /// The dialog that rings, for an INVITE with Replaces that takes the call; `None`: there is none, or it is not for the
    /// watcher.
    pub ids: Option<DialogIds>,
}

/// A dialog as the phone in it knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialogIds {
    /// Call-ID.
    pub call_id: Box<[u8]>,
    /// The phone's tag.
    pub local_tag: Box<[u8]>,
    /// Our tag.
    pub remote_tag: Box<[u8]>,
}

/// States of RFC 4235 §3.7.1, in the order in which a watcher needs them most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// It rings.
    Early,
    /// An INVITE is under way.
    Trying,
    /// They talk.
    Confirmed,
}

impl Calls {
    /// The calls of a user: what rings first, then in the order of their ids. O(his calls).
    pub fn shown(&self, user: UserId) -> Vec<ShownDialog> {
        let is_he = |leg: &Leg| matches!(leg.party, Party::User(own, _) if own == user);
        let mut all: Vec<ShownDialog> = (self.calls_with(user))
            .filter_map(|slot| self.look_at(slot))
            .flat_map(|call| {
                let own = is_he(&call.caller).then(|| call.shown_caller()).flatten();
                own.into_iter()
                    .chain(call.shown_callee(|branch| is_he(&branch.leg)))
            })
            .collect();
        all.sort_unstable_by(|a, b| (a.progress, &a.id).cmp(&(b.progress, &b.id)));
        all
    }

    /// The calls that ring because a group was called: at its members, or where a member's calls go on to. All calls are asked
    /// whether they are such ones: no more often than something that is shown of a group's calls has changed.
    pub fn shown_of_group(&self, name: &str, members: &[UserId]) -> Vec<ShownDialog> {
        let is_member =
            |leg: &Leg| matches!(&leg.party, Party::User(own, _) if members.contains(own));
        let elsewhere = |call: &Call| {
            let mut shown = call.shown_callee(|branch| branch.role.is_member)?;
            // Whoever that is shares no group with the watcher: nothing is taken from him.
            shown.ids = None;
            Some(shown)
        };
        let is_its = |call: &Call| call.state == State::Ringing && call.rings_group(name);
        let mut all: Vec<ShownDialog> = (self.slots.iter())
            .filter(|(_, call)| is_its(call))
            .filter_map(|(slot, _)| self.look_at(slot as u32))
            .filter_map(|call| {
                let own = call.shown_callee(|branch| is_member(&branch.leg));
                own.or_else(|| elsewhere(call))
            })
            .collect();
        all.sort_unstable_by(|a, b| (a.progress, &a.id).cmp(&(b.progress, &b.id)));
        all
    }

    fn look_at(&self, slot: u32) -> Option<&Call> {
        #[cfg(feature = "testing")]
        self.looks
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let call = self.slots.get(slot as usize)?;
        (call.state != State::Ending).then_some(call)
    }

    /// Calls that a user is shown in and that [`Calls::calls_with`] does not know as his, or that it knows in vain.
    #[cfg(feature = "testing")]
    pub fn misplaced(&self) -> usize {
        let shown = self.slots.iter().flat_map(|(slot, call)| {
            let callee = |user: &UserId| {
                let is_he = |branch: &Branch| matches!(branch.leg.party, Party::User(own, _) if own == *user);
                call.shown_callee(is_he).is_some()
            };
            let user = |leg: &Leg| match leg.party {
                Party::User(user, _) => Some(user),
                Party::Trunk(..) | Party::Line(..) => None,
            };
            let caller = user(&call.caller).filter(|_| call.shown_caller().is_some());
            let callees = call
                .branches
                .iter()
                .filter_map(move |branch| user(&branch.leg));
            (caller.into_iter().chain(callees.filter(callee))).map(move |user| (user, slot as u32))
        });
        let unknown = shown.filter(|place| !self.by_user.contains(place)).count();
        let is_vain = |(user, slot): &&(UserId, u32)| {
            let call = self.slots.get(*slot as usize);
            !call.is_some_and(|call| call.counts_user(*user))
        };
        unknown + self.by_user.iter().filter(is_vain).count()
    }

    /// How often a call was looked at for what is shown of it.
    #[cfg(feature = "testing")]
    pub fn looks(&self) -> u64 {
        self.looks.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The users some of whose calls have changed since [`Calls::forget_touched`], ascending.
    pub fn touched(&self) -> &[UserId] {
        &self.touched
    }

    /// The same of groups: whoever rings for one need not be a member of it.
    pub fn touched_groups(&self) -> &BTreeSet<Box<str>> {
        &self.touched_groups
    }

    /// Whoever is shown calls has been told.
    pub fn forget_touched(&mut self) {
        self.touched.clear();
        self.touched_groups.clear();
    }

    /// Something has changed that is shown of a call.
    pub(super) fn touch(&mut self, handle: CallHandle) {
        let Some(call) = self.slots.get(handle.index as usize) else {
            return;
        };
        let legs = call.branches.iter().map(|branch| &branch.leg);
        let users = legs
            .chain([&call.caller])
            .filter_map(|leg| match leg.party {
                Party::User(user, _) => Some(user),
                Party::Trunk(..) | Party::Line(..) => None,
            });
        for user in users {
            if let Err(place) = self.touched.binary_search(&user) {
                self.touched.insert(place, user);
            }
        }
        let group = call.hunt.as_ref().map(|hunt| hunt.group.clone());
        self.touched_groups.extend(group);
    }
}

impl Call {
    /// Whether it rings because this group was called.
    pub(super) fn rings_group(&self, name: &str) -> bool {
        self.hunt.as_ref().is_some_and(|hunt| *hunt.group == *name)
    }

    fn shown_caller(&self) -> Option<ShownDialog> {
        // The party of a transfer has his call still where he was.
        let is_elsewhere = !self.caller.is_up && self.transfer.is_some();
        let progress = match self.state {
            State::Answered if self.caller.is_up => Progress::Confirmed,
            State::Ringing if self.caller.is_up => Progress::Confirmed,
            State::Ringing if self.branches.iter().any(Branch::has_rung) => Progress::Early,
            State::Ringing => Progress::Trying,
            State::Answered | State::Ending => return None,
        };
        (!is_elsewhere).then(|| ShownDialog {
            id: format!("{}-a", self.record.id),
            progress,
            is_initiator: true,
            remote: self.other_number(CALLER),
            ids: None,
        })
    }

    fn shown_callee(&self, is_his: impl Fn(&Branch) -> bool) -> Option<ShownDialog> {
        let branch = match self.state {
            State::Answered => (self.branches.get(self.winner as usize))
                .filter(|branch| branch.leg.is_up && is_his(branch))?,
            State::Ringing => {
                let ringing = || {
                    let branches = self.branches.iter().filter(|branch| is_his(branch));
                    branches.filter(|branch| branch.status.is_none() && !branch.is_left)
                };
                // Of several phones the first that says that it rings.
                let first = ringing().find(|branch| branch.has_rung());
                first.or_else(|| ringing().next())?
            }
            State::Ending => return None,
        };
        let progress = match self.state {
            State::Answered => Progress::Confirmed,
            _ if branch.has_rung() => Progress::Early,
            _ => Progress::Trying,
        };
        let dialog = &branch.leg.dialog;
        let our_tag = crate::message::NameAddr::parse(&dialog.local).ok();
        let ids = our_tag.and_then(|local| local.tag()).map(|tag| DialogIds {
            call_id: dialog.call_id.clone(),
            local_tag: dialog.remote_tag.clone(),
            remote_tag: tag.into(),
        });
        Some(ShownDialog {
            id: format!("{}-b", self.record.id),
            progress,
            is_initiator: false,
            remote: self.other_number(0),
            ids: ids.filter(|_| progress == Progress::Early),
        })
    }

    /// The number of whoever this side speaks with; `None`: he does not want to be known.
    fn other_number(&self, leg: u8) -> Option<String> {
        let record = &self.record;
        let is_withheld = |leg: u8| self.leg(leg).is_some_and(|leg| leg.is_withheld);
        match leg {
            CALLER if is_withheld(self.winner) => None,
            CALLER => (record.answered_by.clone()).or_else(|| Some(record.dialled.clone())),
            _ => Some(record.caller.clone()).filter(|_| !is_withheld(CALLER)),
        }
    }
}

impl Call {
    /// How many phones have said that they ring.
    pub(super) fn early_dialogs(&self) -> usize {
        self.branches.iter().filter(|own| own.has_rung()).count()
    }
}

impl Branch {
    /// Its phone has said that it rings: there is a dialog.
    fn has_rung(&self) -> bool {
        !self.leg.dialog.remote_tag.is_empty()
    }
}
