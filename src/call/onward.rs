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

use super::setup::{Invitation, text};
use super::*;
use crate::limits::{BRANCHES_MAX, REDIRECT_CONTACTS_MAX};
use crate::message::{Contact, HeaderName, Message, NameAddr};

/// A call asks where it is to go on to.
#[derive(Clone, Debug)]
pub struct Onward {
    call: CallHandle,
    /// The branch that is left.
    branch: u8,
    /// Who is left, and answers for it that the call goes on.
    pub by: Party,
    /// Who answers for the call to whoever is left, if that is an outside call; `None`: nobody, or it is none.
    pub payer: Option<Party>,
    /// Who calls, and the way that he speaks.
    pub caller: (Party, Flow),
    /// The way to whoever is left.
    pub flow: Flow,
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
}

/// What the endpoint found for an [`Onward`].
#[derive(Debug)]
pub struct Found {
    /// Where to; those that the call has tried already are left out.
    pub targets: Vec<Target>,
    /// What the branch counts as if there is none that it has not tried.
    pub status: u16,
    /// Whoever is left, as he is shown to those who are rung instead.
    pub diverting: Identity,
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
        let mut targets = found.targets;
        // A loop is cut: whoever has been rung in this call is not rung again, ...
        targets.retain(|target| !call.branches.iter().any(|branch| branch.rang(target)));
        targets.truncate(BRANCHES_MAX.saturating_sub(call.branches.len()));
        // ... and what he has forwarded before, in a call that has come back to us, he does not forward again.
        let is_redirected = matches!(onward.why, Why::Redirected(_));
        // What a failed one was counted as, those in its place are.
        self.pays_no_more(handle, onward.branch);
        let Some(call) = self.get(handle) else { return };
        if is_redirected && call.was_diverted_by(&found.diverting) {
            targets.clear();
        }
        if targets.is_empty() {
            let branch = call.branches.get_mut(onward.branch as usize);
            // Of one that failed, what it said itself stands.
            if let Some(branch) = branch.filter(|_| is_redirected) {
                branch.status = Some(found.status);
            }
        } else if let Some(kept) = call.invitation.take() {
            self.forward(&onward, &targets, &found.diverting, &kept, context);
            if let Some(call) = self.get(handle) {
                call.invitation = Some(kept);
            }
        }
        self.conclude(handle, context);
        self.sweep(handle);
    }

    fn forward(
        &mut self,
        onward: &Onward,
        targets: &[Target],
        diverting: &Identity,
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
            self.replace(onward, targets, &invitation, context);
            return;
        }
        let by = onward.by.name();
        // RFC 5806 §5.1: the last one stands before those who sent the call to him.
        let mut before: Option<Vec<u8>> = None;
        if let Some(call) = self.get(handle) {
            let left = call.branches.get(onward.branch as usize);
            let forwarding = left.and_then(|left| left.forwarding.as_ref());
            before = forwarding.map(|forwarding| forwarding.diversion.clone());
            call.record.forwarded_by = Some(by.clone());
            let id = call.record.id.clone();
            let ringing = call.branches.iter().filter(|own| own.status.is_none());
            let all = ringing.count() + targets.len();
            call.provisionals.goes_to(all, call.had_offer);
            call.ring_ourselves(handle, onward.branch, 181, context);
            context.event("forward", vec![("id", id), ("by", by.clone())]);
        }
        self.rings_anew(handle, targets, context);
        for target in targets {
            // Deflection is what RFC 5806 §4 calls it when the phone itself says that the call is to go elsewhere.
            let mut diversion = diverting.name_addr(target.ours.ip());
            diversion.extend_from_slice(b";reason=deflection");
            if let Some(before) = &before {
                diversion.extend_from_slice(b", ");
                diversion.extend_from_slice(before);
            }
            let forwarding = Forwarding {
                by: by.clone(),
                number: text(&target.to.user),
                diversion,
            };
            let forwarding = Some(Box::new(forwarding));
            self.ring(handle, &invitation, target, forwarding, context);
        }
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
        let forwarding = left.forwarding.clone();
        let id = call.record.id.clone();
        let next = targets.first().map(|target| &target.party);
        call.record.through = (call.caller.party.through()).or(next.and_then(Party::through));
        let to = next.map(Party::name).unwrap_or_default();
        context.event(
            "failover",
            vec![("id", id), ("from", onward.by.name()), ("to", to)],
        );
        self.rings_anew(onward.call, targets, context);
        for target in targets {
            self.ring(onward.call, invitation, target, forwarding.clone(), context);
        }
    }
}

impl Calls {
    /// The call goes on to these: a line among them says how long it rings from now on.
    fn rings_anew(&mut self, handle: CallHandle, targets: &[Target], context: &Context<'_>) {
        let wait = targets.first().and_then(Target::ring_timeout);
        if let (Some(wait), Some(call)) = (wait, self.get(handle)) {
            call.rings_until = context.now.mono.plus(wait);
            let until = call.rings_until;
            self.arm(until, Timer::RingTimeout(handle));
        }
    }
}

impl Call {
    /// Whether the caller's INVITE says that this one has forwarded the call already (RFC 5806 §8).
    fn was_diverted_by(&self, diverting: &Identity) -> bool {
        let request = (self.invitation.as_ref()).map(|kept| crate::message::parse(&kept.request));
        let Some(Ok(request)) = request else {
            return false;
        };
        let own = diverting.name_addr(self.caller.dialog.ours.ip());
        let own = NameAddr::parse(&own).map(|own| own.uri).unwrap_or_default();
        (request.values(HeaderName::Diversion))
            .filter_map(|value| NameAddr::parse(value).ok())
            .any(|diverted| diverted.uri == own)
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
