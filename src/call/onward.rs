//! A call goes on to somebody else: a callee redirects it (RFC 3261 §8.1.3.4, §16.7 step 4), or a trunk has failed
//! (`failover`).
//!
//! ```text
//!   call: a branch says 3xx ──▶ Onward ──▶ endpoint: which of these are ours, where do they lead
//!   call: new branches, 181 to the caller ◀── Found ◀──┘        (dial plan, limits, bindings)
//! ```
//!
//! The call knows who is to be left and what he said; where a number leads, and whether he may call it, is the endpoint's
//! matter. In between the branch is neither ringing nor refused, so the call cannot conclude. Whatever else makes a call go
//! on (forwarding, groups, routes) needs no more than another reason to ask.
//!
//! Against toll fraud: a redirection is an order to call somebody, and whoever gives it must be somebody who may. A local
//! user's is followed as if he himself called that number. A trunk's is not followed at all, for nobody's rights cover it:
//! else whoever answers behind a carrier could make us call through another one.

use super::setup::Invitation;
use super::*;
use crate::limits::{BRANCHES_MAX, REDIRECT_CONTACTS_MAX};
use crate::message::{Contact, Message};

/// A call asks where it is to go on to.
#[derive(Clone, Debug)]
pub struct Onward {
    pub(super) call: CallHandle,
    /// The branch that is left; `NO_BRANCH`: none.
    pub(super) branch: u8,
    /// Who is left, and answers for it that the call goes on.
    pub by: Party,
    /// Who answers for the call to whoever is left, if that is an outside call; `None`: nobody, or it is none.
    pub payer: Option<Party>,
    /// Who calls, and the way that he speaks.
    pub caller: (Party, Flow),
    /// The way to whoever is left.
    pub flow: Flow,
    /// Who has sent the call on before.
    pub chain: Vec<Diverted>,
    /// Whom the call has rung.
    pub rung: Vec<Party>,
    /// He was rung as a member of a group.
    pub is_member: bool,
    /// His phone has rung.
    pub has_rung: bool,
    /// Where to.
    pub why: Why,
}

/// Why a call goes on.
#[derive(Clone, Debug)]
pub enum Why {
    /// Whoever is left named these URIs, to be rung at once.
    Redirected(Vec<Box<[u8]>>),
    /// He failed, and these are to be tried in his place. Who says so: he himself, or we, because he is silent or cannot be
    /// reached.
    Failed(Box<Alternatives>, EndedBy),
    /// He, a user, is not reached.
    Unreached {
        /// Why.
        cause: Cause,
        /// The call has rung for as long as it may: if there is nobody to go on to, it ends.
        is_over: bool,
    },
    /// Nobody of a group takes the call.
    Next {
        /// Who is still to be rung.
        hunt: Box<Hunt>,
        /// Those who ring have had their time.
        is_over: bool,
    },
    /// He transfers his call to this URI.
    Transferred(Box<[u8]>),
}

/// What the endpoint found for an [`Onward`].
#[derive(Debug)]
pub struct Found {
    /// Where to; those that the call has tried already are left out.
    pub targets: Vec<Target>,
    /// What a branch that was redirected counts as if there is none that the call has not tried.
    pub status: u16,
    /// The ringing group that these are of.
    pub hunt: Option<Box<Hunt>>,
}

impl Found {
    /// Nobody, and this is why.
    pub fn nobody(status: u16) -> Self {
        Self {
            targets: Vec::new(),
            status,
            hunt: None,
        }
    }
}

/// Contacts of one 3xx that come after others, by `q`.
#[derive(Clone, Debug)]
pub(super) struct Later {
    branch: u8,
    uris: Vec<Box<[u8]>>,
}

impl Calls {
    /// The next call that asks where it is to go on to. To be asked after whatever may have changed a call, and each time
    /// to be answered with [`Calls::go_on`].
    pub fn next_onward(&mut self) -> Option<Onward> {
        self.onward.pop_front()
    }

    /// A refusal that is a redirection: whether it is followed.
    pub(super) fn redirects(&mut self, owner: Owner, response: &Message<'_>) -> bool {
        let mut groups = groups(response);
        let Some(call) = self.get(owner.call) else {
            return false;
        };
        let is_declined = call.is_declined();
        let Some(branch) = call.branches.get(owner.leg as usize) else {
            return false;
        };
        // 305 and 380 ask for something else than to be left for another.
        let is_followed = matches!(response.status(), 300..=302)
            && matches!(branch.leg.party, Party::User(..))
            && branch.status.is_none()
            && call.state == State::Ringing
            && !call.is_final
            && !is_declined;
        if !is_followed || groups.is_empty() {
            return false;
        }
        call.end_branch(owner.leg, response.status(), EndedBy::Callee);
        let first = groups.remove(0);
        // The last one is tried next: what somebody named who was himself named goes before.
        let later = groups.into_iter().rev().map(|uris| Later {
            branch: owner.leg,
            uris,
        });
        call.later.extend(later);
        self.ask(owner.call, owner.leg, Why::Redirected(first));
        true
    }

    /// Nobody rings any more: those are tried who were named for this case.
    pub(super) fn try_later(&mut self, handle: CallHandle) {
        if let Some(later) = self.get(handle).and_then(|call| call.later.pop()) {
            self.ask(handle, later.branch, Why::Redirected(later.uris));
        }
    }

    /// Asks where to go on to from this branch.
    pub(super) fn ask(&mut self, handle: CallHandle, branch: u8, why: Why) {
        let Some(call) = self.get(handle) else { return };
        let Some(left) = call.branches.get(branch as usize) else {
            return;
        };
        let onward = Onward {
            call: handle,
            branch,
            by: left.leg.party.clone(),
            payer: left.payer.clone(),
            caller: (call.caller.party.clone(), call.caller.dialog.flow),
            flow: left.leg.dialog.flow,
            chain: (left.forwarding.as_ref()).map_or_else(Vec::new, |own| own.chain.clone()),
            rung: call.rung(),
            is_member: left.role.is_member,
            has_rung: !left.leg.dialog.remote_tag.is_empty(),
            why,
        };
        call.asking += 1;
        self.onward.push_back(onward);
    }

    /// The answer to an [`Onward`].
    pub fn go_on(&mut self, onward: Onward, found: Found, context: &mut Context<'_>) {
        let handle = onward.call;
        let Some(call) = self.get(handle) else { return };
        call.asking = call.asking.saturating_sub(1);
        if call.state != State::Ringing || call.is_final {
            return;
        }
        let Found {
            mut targets,
            status,
            hunt,
        } = found;
        // A loop is cut: whoever has been rung in this call is not rung again, ...
        targets.retain(|target| !call.branches.iter().any(|branch| branch.rang(target)));
        // ... and what he has forwarded before, in a call that has come back to us, he does not forward again.
        if !matches!(onward.why, Why::Failed(..)) {
            call.retain_undiverted(&mut targets);
        }
        targets.truncate(BRANCHES_MAX.saturating_sub(call.branches.len()));
        // Nobody is in two groups at once with one call.
        if hunt.is_some() && call.hunt.is_some() {
            targets.clear();
        }
        let is_found = !targets.is_empty();
        // Of a group nobody was left who may be rung now: those are who come after.
        let searches_on = !is_found && hunt.is_some() && call.hunt.is_none();
        let hunt = match searches_on {
            true => {
                call.hunt = hunt;
                None
            }
            false => hunt,
        };
        if matches!(onward.why, Why::Redirected(_) | Why::Failed(..)) {
            // What a failed one was counted as, those in its place are.
            self.pays_no_more(handle, onward.branch);
        }
        let kept = self.get(handle).and_then(|call| call.invitation.take());
        if let Some(kept) = kept {
            if is_found {
                self.move_on(&onward, &targets, hunt, &kept, context);
            }
            if let Some(call) = self.get(handle) {
                call.invitation = Some(kept);
            }
        }
        let is_over = match &onward.why {
            Why::Redirected(_) if !is_found => {
                let call = self.get(handle);
                let branch = call.and_then(|call| call.branches.get_mut(onward.branch as usize));
                // Of one that failed, what it said itself stands.
                if let Some(branch) = branch {
                    branch.status = Some(status);
                }
                if !searches_on {
                    self.sends_on(handle, onward.branch);
                }
                false
            }
            Why::Unreached { is_over, .. } | Why::Next { is_over, .. } => *is_over,
            Why::Transferred(_) if !is_found && !searches_on => {
                self.refuse(handle, status, EndedBy::Server, context);
                false
            }
            Why::Redirected(_) | Why::Failed(..) | Why::Transferred(_) => false,
        };
        if searches_on {
            self.ask_next(handle, is_over);
        }
        if !is_found && !searches_on && self.rings_nobody(handle) {
            self.refuse(handle, status, EndedBy::Server, context);
        }
        // Others who were asked at the same time may have found somebody.
        let call = self.get(handle);
        let is_last =
            call.is_some_and(|call| call.asking == 0 && call.rings_until <= context.now.mono);
        match is_over && !is_found && is_last {
            true => self.nobody_answers(handle, 480, context),
            false => self.conclude(handle, context),
        }
        self.sweep(handle);
    }

    /// A transfer has found nobody at all who could be rung.
    fn rings_nobody(&mut self, handle: CallHandle) -> bool {
        self.get(handle).is_some_and(|call| {
            let is_idle = call.asking == 0 && call.later.is_empty() && call.hunt.is_none();
            is_idle && call.transfer.is_some() && call.branches.is_empty()
        })
    }

    /// Rings those who were found.
    fn move_on(
        &mut self,
        onward: &Onward,
        targets: &[Target],
        hunt: Option<Box<Hunt>>,
        kept: &setup::Kept,
        context: &mut Context<'_>,
    ) {
        let handle = onward.call;
        // It parsed when it came.
        let Ok(request) = crate::message::parse(&kept.request) else {
            return;
        };
        let invitation = Invitation {
            request: &request,
            from: &kept.from,
        };
        if matches!(onward.why, Why::Failed(..)) {
            return self.replace(onward, targets, &invitation, context);
        }
        match &onward.why {
            Why::Unreached { .. } => {
                self.leave(handle, |branch| branch.leg.party == onward.by, context);
            }
            Why::Next { .. } => self.leave(handle, |branch| branch.role.is_member, context),
            Why::Transferred(_) => self.transfer_goes_to(handle, targets),
            Why::Redirected(_) | Why::Failed(..) => {}
        }
        let is_new_stage = !matches!(onward.why, Why::Redirected(_));
        let Some(call) = self.get(handle) else { return };
        if let Some(outside) = targets.first().filter(|target| target.party.is_outside()) {
            let from = &call.caller.party;
            let record = Arc::make_mut(&mut call.record);
            record.through = from.through().or_else(|| outside.party.through());
            record.direction = transfer::direction([from.is_outside(), true]);
        }
        let rings = hunt.as_ref().map(|hunt| hunt.rings);
        let otherwise = is_new_stage.then_some(call.rings);
        if hunt.is_some() {
            call.hunt = hunt;
        }
        let ringing = call.branches.iter().filter(|own| own.status.is_none());
        let all = ringing.count() + targets.len();
        call.provisionals.goes_to(all, call.had_offer);
        self.tells_of_forwarding(handle, onward.branch, targets, context);
        self.rings_anew(handle, targets, rings, otherwise, context);
        for target in targets {
            self.ring(handle, &invitation, target, context);
        }
    }

    /// The caller hears that his call goes on to somebody else: 181, but not while others ring for the same number. `tag`: in
    /// which of his early dialogs.
    pub(super) fn tells_of_forwarding(
        &mut self,
        handle: CallHandle,
        branch: u8,
        targets: &[Target],
        context: &mut Context<'_>,
    ) {
        let is_alone = !targets.iter().any(|target| target.role.is_member);
        let forwarding = (targets.first()).and_then(|target| target.forwarding.as_ref());
        let Some((forwarding, call)) = forwarding.zip(self.get(handle)) else {
            return;
        };
        let Some(last) = forwarding.last().filter(|_| is_alone) else {
            return;
        };
        let fields = vec![
            ("id", call.record.id.clone()),
            ("by", last.by.to_string()),
            ("cause", last.cause.word().to_owned()),
        ];
        Arc::make_mut(&mut call.record).forwarded_by = Some(last.by.to_string());
        call.ring_ourselves(handle, branch, 181, context);
        context.event("forward", fields);
    }
}

impl Calls {
    /// Rings others in place of a branch that failed. Whoever forwarded the call there has forwarded it here.
    fn replace(
        &mut self,
        onward: &Onward,
        targets: &[Target],
        invitation: &Invitation<'_>,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(onward.call) else {
            return;
        };
        let Some(left) = call.branches.get_mut(onward.branch as usize) else {
            return;
        };
        left.is_left = true;
        let id = call.record.id.clone();
        let next = targets.first().map(|target| &target.party);
        let through = (call.caller.party.through()).or(next.and_then(Party::through));
        Arc::make_mut(&mut call.record).through = through;
        let to = next.map(Party::name).unwrap_or_default();
        context.event(
            "failover",
            vec![("id", id), ("from", onward.by.name()), ("to", to)],
        );
        self.rings_anew(onward.call, targets, None, None, context);
        for target in targets {
            self.ring(onward.call, invitation, target, context);
        }
    }
}

impl Calls {
    /// The call goes on to these: how long it rings from now on is what their group says, or a line among them, or what holds
    /// otherwise.
    fn rings_anew(
        &mut self,
        handle: CallHandle,
        targets: &[Target],
        group: Option<Duration>,
        otherwise: Option<Duration>,
        context: &Context<'_>,
    ) {
        let line = targets.first().and_then(Target::ring_timeout);
        let Some(wait) = group.or(line).or(otherwise) else {
            return;
        };
        let Some(call) = self.get(handle) else { return };
        call.rings_until = context.now.mono.plus(wait);
        let (until, expires) = (call.rings_until, call.expires.take());
        self.arm(until, Timer::RingTimeout(handle));
        if let Some(at) = expires {
            self.arm(at, Timer::Expired(handle));
        }
    }
}

impl Call {
    /// Leaves out those to whom somebody sends the call on who has done so already, as the caller's INVITE says.
    fn retain_undiverted(&self, targets: &mut Vec<Target>) {
        let request = (self.invitation.as_ref()).map(|kept| crate::message::parse(&kept.request));
        if let Some(Ok(request)) = request {
            let ours = self.caller.dialog.ours.ip();
            targets.retain(|target| !target.has_come_back(&request, ours));
        }
    }
}

impl Branch {
    /// Whether a target is the one that this branch rings or rang: the user, or the number at the trunk's
    /// address.
    fn rang(&self, target: &Target) -> bool {
        let is_same_number = match &target.party {
            Party::User(..) => true,
            Party::Trunk(..) | Party::Line(..) => {
                let dialog = &self.leg.dialog;
                dialog.flow.remote == target.flow.remote && *dialog.remote_target == *target.uri
            }
        };
        self.leg.party == target.party && is_same_number
    }
}

/// The Contacts of a redirection in the order of their `q`, those with the same one together (RFC 3261 §16.6: at once).
fn groups(response: &Message<'_>) -> Vec<Vec<Box<[u8]>>> {
    if !(300..400).contains(&response.status()) {
        return Vec::new();
    }
    let mut contacts: Vec<Contact<'_>> = response
        .contact_values()
        .take(REDIRECT_CONTACTS_MAX)
        .collect();
    contacts.sort_by_key(|contact| std::cmp::Reverse(contact.q));
    contacts
        .chunk_by(|a, b| a.q == b.q)
        .map(|group| {
            group
                .iter()
                .map(|contact| contact.address.uri.into())
                .collect()
        })
        .collect()
}
