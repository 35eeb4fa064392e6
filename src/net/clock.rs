//! The clocks. Read here and nowhere below.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::time::{Instant, Now, UnixTime};

/// Turns the machine's clocks into [`Now`].
pub(super) struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            origin: std::time::Instant::now(),
        }
    }

    /// Both clocks.
    pub(super) fn now(&self) -> Now {
        Now {
            mono: self.mono(),
            unix: unix(),
        }
    }

    /// The monotonic clock alone.
    pub(super) fn mono(&self) -> Instant {
        // One second ahead of its origin, so that "a while ago" can be said at the start, too.
        let elapsed = self.origin.elapsed() + Duration::from_secs(1);
        Instant::from_micros(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
    }
}

/// The wall clock; the epoch, if it is set to before that.
pub(super) fn unix() -> UnixTime {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixTime::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}
