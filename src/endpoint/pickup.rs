//! Call pickup: who may take a call that rings at somebody else, and which he means (RFC 3891, `[call] pickup`).
//!
//! Members of a same group may take each other's calls. Where there is no group at all everybody may take everybody's: a
//! small office expects that, and as soon as somebody cares he makes groups. Everybody may take his own, on another phone.

use super::route::Refusal;
use super::*;
use crate::call::{Arrival, Replaces, Ringing};
use crate::config::without_separators;
use crate::message::HeaderName;
use crate::source::Who;

/// Whether one user may take what rings at the other.
pub(super) fn may_pick_up(config: &Config, who: UserId, rung: UserId) -> bool {
    let mut groups = config.groups.iter();
    who == rung
        || config.groups.is_empty()
        || groups.any(|group| group.members.contains(&who) && group.members.contains(&rung))
}

impl Endpoint {
    /// Which ringing call an INVITE is to take, or why it does not; `None`: it is a call as any other.
    pub(super) fn wants_to_pick_up(
        &self,
        arrival: &Arrival<'_>,
        identity: Who,
        dialled: &[u8],
    ) -> Option<Result<Ringing, Refusal>> {
        let replaces = arrival.request.value(HeaderName::Replaces);
        if replaces.is_none() && !self.is_ours(arrival.request, &arrival.flow) {
            return None;
        }
        let found = self.to_pick_up(replaces, identity, dialled)?;
        let Who::User(user) = identity else {
            return Some(found);
        };
        Some(found.and_then(|ringing| {
            if self.is_stopping {
                return Err((503, Some("rejected")));
            }
            // What rings at himself is among his calls already.
            if self.is_busy(user) && !self.calls.is_counted_in(ringing, user) {
                return Err((486, Some("rejected")));
            }
            Ok(ringing)
        }))
    }

    /// The same of whoever may have one call more.
    pub(super) fn to_pick_up(
        &self,
        replaces: Option<&[u8]>,
        identity: Who,
        dialled: &[u8],
    ) -> Option<Result<Ringing, Refusal>> {
        if let Some(replaces) = replaces {
            return Some(self.named(identity, replaces));
        }
        let Who::User(user) = identity else {
            return None;
        };
        Some(self.meant(user, &self.picked(dialled)?))
    }

    /// What stands behind the code; `None`: something else was dialled.
    fn picked(&self, dialled: &[u8]) -> Option<Vec<u8>> {
        let code = self.config.call.pickup.as_ref()?.as_bytes();
        if self.is_no_code(dialled) {
            return None;
        }
        let is_name =
            |number: &&[u8]| self.auth.user(number).is_some() || self.groups.find(number).is_some();
        let bare = without_separators(dialled);
        let exact = dialled.strip_prefix(code).filter(is_name);
        exact
            .or_else(|| bare.strip_prefix(code))
            .map(<[u8]>::to_vec)
    }

    /// What rings longest in the groups of a user; or at the user, or for the group, with this number.
    fn meant(&self, user: UserId, number: &[u8]) -> Result<Ringing, Refusal> {
        let config = &self.config;
        let may = |rung: UserId| may_pick_up(config, user, rung);
        if number.is_empty() {
            let found = (self.calls).longest_ringing(user, |rung| rung != user && may(rung), None);
            return found.ok_or((480, None));
        }
        if let Some(rung) = self.auth.user(number) {
            if !may(rung) {
                return Err((403, None));
            }
            let found = (self.calls).longest_ringing(user, |other| other == rung, None);
            return found.ok_or((480, None));
        }
        let group = self.groups.find(number);
        let group = group.and_then(|group| config.groups.get(group.0 as usize));
        let group = group.ok_or((404, None))?;
        if !group.members.contains(&user) {
            return Err((403, None));
        }
        let found = (self.calls).longest_ringing(user, |_| true, Some(&group.name));
        found.ok_or((480, None))
    }

    /// The call that a Replaces names: it must ring (RFC 3891 §3), at somebody whose calls this one may take.
    fn named(&self, identity: Who, replaces: &[u8]) -> Result<Ringing, Refusal> {
        let replaces = Replaces::parse(replaces).ok_or((400, None))?;
        if !self.calls.is_named(&replaces) {
            return Err((481, None));
        }
        let Who::User(user) = identity else {
            return Err((403, None));
        };
        match self.calls.named_ringing(&replaces) {
            Some((ringing, rung)) if may_pick_up(&self.config, user, rung) => Ok(ringing),
            // It is answered, or a call that he himself makes, or somebody else's: to tell which would say too much.
            _ => Err((403, None)),
        }
    }
}
