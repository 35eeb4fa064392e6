//! Legs that go on in another call. Their peers know them by tags that name the place where they began, and so do
//! transactions that were under way: a table says where they are now.

use super::*;
use crate::message::NameAddr;

/// Slot and serial of a call, and a leg of it.
pub(in crate::call) type Place = (u32, u32, u8);

/// Places of one leg that the table knows: that in its tag, and those of the calls that it was in last, whose transactions
/// may still run.
const PLACES_MAX: usize = 4;

impl Calls {
    /// Where a leg is that was there.
    pub(in crate::call) fn moved_to(&self, place: Place) -> Option<(CallHandle, u8)> {
        if self.moved.is_empty() {
            return None;
        }
        self.moved.get(&place).copied()
    }

    /// Whose a transaction is now.
    pub(in crate::call) fn resolved(&self, owner: Owner) -> Owner {
        let place = (owner.call.index, owner.call.serial, owner.leg);
        match self.moved_to(place) {
            Some((call, leg)) => Owner { call, leg, ..owner },
            None => owner,
        }
    }

    /// Takes a leg out of a call, to be put into another one as `to`. What stays there sends and receives nothing.
    pub(in crate::call) fn take_leg(
        &mut self,
        from: CallHandle,
        leg_index: u8,
        (to, to_index): (CallHandle, u8),
    ) -> Option<Leg> {
        let call = self.get(from)?;
        let leg = call.leg_mut(leg_index)?;
        let husk = leg.husk();
        let mut leg = std::mem::replace(leg, husk);
        leg.watch.moved();
        let awaited = u32::from(leg.is_probed) + u32::from(leg.watch.refresh.is_some());
        call.waiting = call.waiting.saturating_sub(awaited);
        // Whoever waits for what the leg is asked has been told.
        call.relays.retain(|relay| relay.to != leg_index);
        if let Some(call) = self.get(to) {
            call.waiting += awaited;
        }
        let first = leg.tag_place();
        let last = Some((from.index, from.serial, leg_index));
        for place in [first, last].into_iter().flatten() {
            if !leg.places.contains(&place) {
                leg.places.push(place);
            }
        }
        while leg.places.len() > PLACES_MAX {
            // The first is that of the tag.
            let place = leg.places.remove(1);
            self.moved.remove(&place);
        }
        for place in &leg.places {
            self.moved.insert(*place, (to, to_index));
        }
        Some(leg)
    }

    /// A call is off the table.
    pub(in crate::call) fn remove(&mut self, handle: CallHandle) {
        if self.get(handle).is_none() {
            return;
        }
        let call = self.slots.remove(handle.index as usize);
        let legs = call.branches.iter().map(|branch| &branch.leg);
        for place in legs.chain([&call.caller]).flat_map(|leg| &leg.places) {
            self.moved.remove(place);
        }
    }

    /// How many places the table knows.
    #[cfg(feature = "testing")]
    pub fn moved_legs(&self) -> usize {
        self.moved.len()
    }
}

impl Leg {
    /// What is left where a leg was, or stands where it will be: its party, and no dialog that is up.
    pub(super) fn husk(&self) -> Self {
        let mut husk = Self::new(self.dialog.clone(), self.party.clone(), self.home, 0);
        husk.hides_caller = self.hides_caller;
        husk.is_withheld = self.is_withheld;
        husk.is_behind_nat = self.is_behind_nat;
        // Nothing is relayed to somebody who is not there.
        husk.trust = Trust::Owed;
        husk
    }

    /// The place that our tag on this leg names.
    pub(super) fn tag_place(&self) -> Option<Place> {
        let local = NameAddr::parse(&self.dialog.local).ok()?;
        let tag = TagParts::parse(local.tag()?)?;
        let leg = match tag.leg & CALLER {
            0 => tag.leg,
            _ => CALLER,
        };
        Some((tag.index, tag.serial, leg))
    }

    /// Whether its peer made the dialog, so that the Call-ID is his.
    pub(super) fn began_there(&self) -> bool {
        self.tag_place().is_some_and(|(_, _, leg)| leg == CALLER)
    }
}
