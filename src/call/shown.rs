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
    /// With whom; `None`: the watcher is not to know.
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
    /// The calls of a user: what rings first, then in the order of their ids. O(calls).
    pub fn shown(&self, user: UserId) -> Vec<ShownDialog> {
        let is_he = |leg: &Leg| matches!(leg.party, Party::User(own, _) if own == user);
        let mut all: Vec<ShownDialog> = (self.slots.iter())
            .filter(|(_, call)| call.state != State::Ending)
            .flat_map(|(_, call)| {
                let own = is_he(&call.caller).then(|| call.shown_caller()).flatten();
                own.into_iter()
                    .chain(call.shown_callee(|branch| is_he(&branch.leg)))
            })
            .collect();
        all.sort_unstable_by(|a, b| (a.progress, &a.id).cmp(&(b.progress, &b.id)));
        all
    }

    /// The calls that ring because a group was called: at its members, or where a member's calls go on to.
    pub fn shown_of_group(&self, name: &str, members: &[UserId]) -> Vec<ShownDialog> {
        let is_member =
            |leg: &Leg| matches!(&leg.party, Party::User(own, _) if members.contains(own));
        let elsewhere = |call: &Call| {
            let mut shown = call.shown_callee(|branch| branch.role.is_member)?;
            // Whoever that is shares no group with the watcher: nothing is taken from him.
            shown.ids = None;
            Some(shown)
        };
        let mut all: Vec<ShownDialog> = (self.slots.iter())
            .filter(|(_, call)| call.state == State::Ringing && call.rings_group(name))
            .filter_map(|(_, call)| {
                let own = call.shown_callee(|branch| is_member(&branch.leg));
                own.or_else(|| elsewhere(call))
            })
            .collect();
        all.sort_unstable_by(|a, b| (a.progress, &a.id).cmp(&(b.progress, &b.id)));
        all
    }

    /// The users some of whose calls have changed since this was asked last, in the order of their names.
    pub fn take_touched(&mut self) -> Vec<UserId> {
        std::mem::take(&mut self.touched).into_iter().collect()
    }

    /// The same of groups: whoever rings for one need not be a member of it.
    pub fn take_touched_groups(&mut self) -> BTreeSet<Box<str>> {
        std::mem::take(&mut self.touched_groups)
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
        self.touched.extend(users);
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
            remote: Some(self.other_number(CALLER)),
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
            remote: Some(self.other_number(0)),
            ids: ids.filter(|_| progress == Progress::Early),
        })
    }

    /// The number of whoever this side speaks with.
    fn other_number(&self, leg: u8) -> String {
        let record = &self.record;
        match leg {
            CALLER => (record.answered_by.clone()).unwrap_or_else(|| record.dialled.clone()),
            _ => record.caller.clone(),
        }
    }
}

impl Branch {
    /// Its phone has said that it rings: there is a dialog.
    fn has_rung(&self) -> bool {
        !self.leg.dialog.remote_tag.is_empty()
    }
}
