//! The brake on toll fraud, where a number has been found to lead outside: who answers for the call, and may he make it.

use super::callee::{Asking, Rung};
use super::*;
use crate::brake::UNHEARD_STOP;
use crate::call::{Alternatives, Arrival, Party, Target};
use crate::source::Who;

/// The local user who answers for a call: who dials, or who sends on a call that came to him. Nobody answers for what comes
/// from outside and goes out again by a route that the file has for it.
pub(super) struct Payer<'a> {
    /// He.
    pub party: &'a Party,
    /// The phone that says so.
    pub source: IpAddr,
    /// Outside calls of his that are about to begin beside this one.
    pub more: usize,
}

impl Endpoint {
    /// [`Endpoint::hop_targets`], as far as the brake lets this user call outside; 403 if it does not: to call again changes
    /// nothing (RFC 3261 §21.4.4), and a phone does not take it for the callee's being busy, nor for a server to be left.
    pub(super) fn hop_targets_for(
        &mut self,
        now: Now,
        alternatives: Alternatives,
        asking: &mut Asking<'_>,
        payer: Option<Payer<'_>>,
    ) -> Result<Rung, super::route::Refusal> {
        let is_emergency = alternatives.is_emergency;
        let payer = payer.filter(|_| !is_emergency);
        let number = payer.as_ref().map(|_| alternatives.number.clone());
        let mut rung = self.hop_targets(now, alternatives, asking)?;
        if is_emergency {
            let outside = rung.targets.iter_mut().filter(|target| is_unpaid(target));
            outside.for_each(|target| target.is_exempt = true);
        }
        // What somebody has sent on is his.
        let goes_outside = rung.targets.iter().any(is_unpaid);
        if let (Some(payer), Some(number)) = (payer, number)
            && goes_outside
        {
            if self.is_braked(now, &payer, &number) {
                return Err((403, None));
            }
            charge(&mut rung.targets, Some(payer.party));
        }
        Ok(rung)
    }

    /// A user's INVITE has been taken up. Whether its answer is heard says whether it was his, if nothing but a datagram's
    /// address does.
    pub(super) fn watch(&mut self, arrival: &Arrival<'_>, identity: Who) {
        if let Who::User(user) = identity
            && arrival.flow.transport == Transport::Udp
            && self.peers.is_user(&arrival.flow, user)
        {
            self.transactions.watch(arrival.key, user.0);
        }
    }

    /// Tells the brake of calls by address that nobody acknowledged.
    pub(super) fn calls_unheard(&mut self, now: Now) {
        while let Some(user) = self.transactions.next_unheard() {
            let stops = self.brake.unheard(now, UserId(user));
            if let Some(user) = self.config.users.get(user as usize).filter(|_| stops) {
                let fields = vec![
                    ("user", user.name.clone()),
                    ("reason", "no_ack".to_owned()),
                    ("seconds", UNHEARD_STOP.as_secs().to_string()),
                    ("mode", self.mode_name().to_owned()),
                ];
                self.event(log::Level::Warn, "outside_stopped", fields);
            }
        }
    }

    /// Whether the brake stops this call; if not, it is one.
    fn is_braked(&mut self, now: Now, payer: &Payer<'_>, number: &[u8]) -> bool {
        let Party::User(user, name) = payer.party else {
            return false;
        };
        let calls = self.calls.outside_calls_of(*user);
        let calls = u32::try_from(payer.more).map_or(u32::MAX, |more| calls.saturating_add(more));
        if let Some(limit) = self.brake.refuses(now, *user, number, calls) {
            if let Some(refused) = self.brake.refused(now, *user) {
                let fields = vec![
                    ("user", name.to_string()),
                    ("number", String::from_utf8_lossy(number).into_owned()),
                    ("source", payer.source.to_canonical().to_string()),
                    ("limit", limit.key().to_owned()),
                    ("refused", refused.to_string()),
                    ("mode", self.mode_name().to_owned()),
                ];
                self.event(log::Level::Warn, "outside_limit", fields);
            }
            if !self.brake.is_observing() {
                return true;
            }
        }
        self.brake.goes_out(now, *user, number, &mut self.changes);
        self.keep_changes();
        false
    }
}

/// Says of those that are outside that they count among this user's outside calls.
pub(super) fn charge(targets: &mut [Target], payer: Option<&Party>) {
    for target in targets.iter_mut().filter(|target| is_unpaid(target)) {
        target.payer = payer.cloned();
    }
}

/// Whether a target is an outside call for which somebody has yet to answer.
fn is_unpaid(target: &Target) -> bool {
    target.party.is_outside() && target.payer.is_none() && !target.is_exempt
}
