//! What is due for calls, and when. The wheel has no cancel, and most calls are over long before their timers are due: those
//! that nobody waits for any more are thrown out now and then.

use super::*;
use crate::limits::CALL_TIMERS_MIN;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Nobody has answered in time.
    RingTimeout(CallHandle),
    /// The caller's own limit for ringing is over.
    Expired(CallHandle),
    /// A PRACK for a response before a refusal is waited for no longer.
    Prack(CallHandle),
    /// Something may be due to see whether this leg's peer is still there.
    Watch(CallHandle, u8),
    /// A trunk that has said nothing so far is waited for no longer.
    Silence(CallHandle, u8),
    /// A user has rung for as long as he wants before the call goes on.
    NoAnswer(CallHandle, u8),
    /// A call that we took ourselves has been shown for long enough.
    Confirmed(CallHandle),
    /// A relayed re-INVITE has had no final answer for Timer C.
    Relay(CallHandle, ClientId),
    /// Its audio may have stopped.
    Audio(CallHandle),
    /// What joins two legs is tried again.
    Join(CallHandle),
}

impl Timer {
    fn call(self) -> CallHandle {
        match self {
            Self::RingTimeout(call)
            | Self::Expired(call)
            | Self::Prack(call)
            | Self::Confirmed(call)
            | Self::Watch(call, _)
            | Self::Silence(call, _)
            | Self::NoAnswer(call, _)
            | Self::Relay(call, _)
            | Self::Audio(call)
            | Self::Join(call) => call,
        }
    }
}

impl Calls {
    /// When [`Calls::expire`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Handles one timer that is due; `false` when there is none.
    pub fn expire(&mut self, context: &mut Context<'_>) -> bool {
        let Some(timer) = self.timers.expire(context.now.mono) else {
            return false;
        };
        match timer {
            Timer::RingTimeout(handle) => self.ring_timeout(handle, 480, context),
            Timer::Expired(handle) => self.ring_timeout(handle, 487, context),
            Timer::Prack(handle) => self.prack_timeout(handle),
            Timer::Watch(handle, leg) => self.watched(handle, leg, context),
            Timer::Silence(handle, leg) => self.silence(handle, leg, context),
            Timer::NoAnswer(handle, leg) => self.no_answer(handle, leg),
            Timer::Confirmed(handle) => self.confirmed(handle, context),
            Timer::Relay(handle, client) => self.relay_timeout(handle, client, context),
            Timer::Audio(handle) => self.listened(handle, context),
            Timer::Join(handle) => self.join_on(handle, context),
        }
        true
    }

    /// Arms a timer. Most calls are over long before theirs are due: when their number has doubled since the last time, those
    /// that nobody waits for any more are thrown out, so that live calls bound them.
    pub(super) fn arm(&mut self, at: Instant, timer: Timer) {
        if self.timers.len() >= self.timers_max {
            let slots = &self.slots;
            self.timers.retain(|due, timer| {
                let handle = timer.call();
                let call = slots.get(handle.index as usize);
                call.is_some_and(|call| call.serial == handle.serial && call.awaits(due, timer))
            });
            self.timers_max = (self.timers.len() * 2).max(CALL_TIMERS_MIN);
        }
        self.timers.arm(at, timer);
    }

    /// How many timers are armed.
    #[cfg(feature = "testing")]
    pub fn timers(&self) -> usize {
        self.timers.len()
    }
}

impl Call {
    /// Whether a timer of this call that is due then would do anything.
    fn awaits(&self, due: Instant, timer: Timer) -> bool {
        match timer {
            Timer::RingTimeout(_)
            | Timer::Expired(_)
            | Timer::Silence(..)
            | Timer::NoAnswer(..) => self.state == State::Ringing,
            Timer::Prack(_) => true,
            Timer::Audio(_) | Timer::Confirmed(_) => self.state == State::Answered,
            Timer::Join(_) => self.join.is_some(),
            Timer::Watch(_, leg) => {
                self.state == State::Answered
                    && self.leg(leg).is_some_and(|leg| leg.watch.awaits(due))
            }
            Timer::Relay(_, client) => self.relays.iter().any(|relay| relay.client == client),
        }
    }
}
