//! Calls that are over and only wait for somebody who is silent: so many of them may be, then the oldest is forgotten.

use super::*;

impl Calls {
    /// Forgets the oldest of the ended calls while there are too many.
    pub(super) fn forget_surplus(&mut self, context: &mut Context<'_>) {
        let ended_max = (self.live_max)
            .saturating_mul(crate::limits::ENDED_PER_CALL)
            .saturating_add(64);
        while self.slots.len().saturating_sub(self.live) > ended_max {
            let Some(handle) = self.ended.pop_front() else {
                return;
            };
            self.forget(handle, context);
        }
        while let Some(&first) = self.ended.front()
            && self.get(first).is_none()
        {
            self.ended.pop_front();
        }
        // Those that came to their end behind one that waits.
        if self.ended.len() > ended_max.saturating_mul(2) {
            let slots = &self.slots;
            self.ended.retain(|handle| {
                let call = slots.get(handle.index as usize);
                call.is_some_and(|call| call.serial == handle.serial)
            });
        }
    }

    /// Nothing of it is waited for any more. Whoever was owed a BYE gets it now; a BYE that is under way runs on by itself.
    fn forget(&mut self, handle: CallHandle, context: &mut Context<'_>) {
        let Some(call) = self.get(handle) else { return };
        let silent = (call.branches.iter())
            .filter(|branch| branch.status.is_none())
            .map(|branch| branch.client);
        let relays = call.relays.iter().map(|relay| relay.client);
        for client in silent.chain(relays).chain(call.refreshes()) {
            context.transactions.forget(client);
        }
        for leg_index in [CALLER].into_iter().chain(0..call.branches.len() as u8) {
            let leg = self.get(handle).and_then(|call| call.leg_mut(leg_index));
            let Some((server, _)) = leg.and_then(|leg| leg.unacknowledged.take()) else {
                continue;
            };
            context.transactions.acknowledge(server);
            let leg = self.get(handle).and_then(|call| call.leg_mut(leg_index));
            if let Some(reason) = leg.and_then(|leg| leg.bye_after_ack.take()) {
                self.end_leg(handle, leg_index, &reason, context);
            }
        }
        // Whoever has transferred the call away, and waits for nothing but the answer to his NOTIFY.
        let referral = self.get(handle).and_then(|call| call.referral.take());
        if let Some(referral) = referral {
            self.end_leg(handle, referral.leg(), b"", context);
        }
        self.remove(handle);
    }
}
