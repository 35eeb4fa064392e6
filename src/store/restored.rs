//! What counts of the rows that a start finds: until when, and whether at all. Refreshes may have been acknowledged that were
//! held back from the disk (`batches`); a power cut must not end what they promised.

use std::time::Duration;

use super::{BanRow, BindingRow};
use crate::time::UnixTime;

/// A known source is forgotten after this time.
pub const KNOWN: Duration = Duration::from_secs(30 * 86_400);
/// A ban's step is forgotten for each clean week.
pub const STEP_DAYS: u32 = 7;

/// A binding as it was written, with what the table says beyond [`BindingRow`].
#[derive(Clone, Debug)]
pub struct StoredBinding {
    /// As it was written.
    pub row: BindingRow,
    /// Seconds that were granted when this row was written.
    pub granted_s: u32,
}

impl StoredBinding {
    fn granted(&self) -> Duration {
        Duration::from_secs(u64::from(self.granted_s))
    }
}

/// When a binding that the file has expires after a restart at `now`; `None`: it is over.
///
/// After a clean stop that is what the file says. Otherwise a refresh may have been acknowledged that was not written:
/// before the stop, hence not later than `granted` from now, and by no more than `granted` beyond the row.
pub fn restored_expiry(stored: &StoredBinding, clean: bool, now: UnixTime) -> Option<UnixTime> {
    let granted = stored.granted();
    let expires = stored.row.expires;
    let restored = if clean {
        expires
    } else {
        expires.min(now).plus(granted)
    };
    // A clock that was set back must not make it immortal.
    let restored = restored.min(now.plus(granted));
    (restored > now).then_some(restored)
}

/// What a clean stop writes as the end of a binding that this run has restored at `restored` and not written since: after it
/// every row says when its binding ends. One that was written since lasts longer anyway. Of the row only this is asked, as
/// there may be many of them and a stop is to be short.
pub fn expiry_at_clean_stop(expires: UnixTime, granted_s: u32, restored: UnixTime) -> UnixTime {
    let granted = Duration::from_secs(u64::from(granted_s));
    expires.max(expires.min(restored).plus(granted))
}

/// Whether a ban still means something at `now`: it holds, or its step is not forgotten.
pub fn is_remembered(ban: &BanRow, now: UnixTime) -> bool {
    let weeks = u64::from(ban.step).saturating_add(1);
    ban.until
        .plus(Duration::from_secs(weeks * u64::from(STEP_DAYS) * 86_400))
        >= now
}

/// Whether a source that last answered right at `last_success` is still known at `now`.
pub fn is_known(last_success: UnixTime, now: UnixTime) -> bool {
    now.since(last_success) <= KNOWN
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRANTED_S: u64 = 600;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::from_millis(seconds * 1_000)
    }

    fn stored(expires: u64) -> StoredBinding {
        let place = ([192, 0, 2, 7], 5060).into();
        StoredBinding {
            row: BindingRow {
                since: at(0),
                expires: at(expires),
                ..BindingRow::plain("sip:x", place, place)
            },
            granted_s: GRANTED_S as u32,
        }
    }

    #[test]
    fn a_restored_binding_covers_every_refresh_that_may_have_waited() {
        let granted = Duration::from_secs(GRANTED_S);
        // Written at 1,000, refreshed at any time before it expired, stopped at once, restarted at any time later.
        for refreshed in (1_000..=1_600).step_by(7) {
            for restarted in (refreshed..2_400).step_by(13) {
                let acknowledged = at(refreshed).plus(granted);
                let restored = restored_expiry(&stored(1_600), false, at(restarted));
                if acknowledged > at(restarted) {
                    assert!(
                        restored >= Some(acknowledged),
                        "{refreshed} {restarted} {restored:?}"
                    );
                }
                assert!(
                    restored <= Some(at(restarted).plus(granted)),
                    "at most one interval"
                );
            }
        }
        let of = |clean, now| restored_expiry(&stored(1_600), clean, at(now));
        assert_eq!(of(true, 1_500), Some(at(1_600)));
        assert_eq!(of(true, 1_600), None);
        assert_eq!(of(false, 2_200), None);
        // The clock was set back.
        let back = restored_expiry(&stored(90_000), true, at(100));
        assert_eq!(back, Some(at(700)));
    }

    #[test]
    fn a_clean_stop_keeps_what_a_start_has_prolonged() {
        for (expires, granted_s, restarted, kept) in [
            (1_600, 600, 1_200, 1_800),
            (1_600, 600, 1_600, 2_200),
            (1_600, 600, 1_900, 2_200),
            (1_600, 0, 1_900, 1_600),
            (0, 600, 0, 600),
            // The clock was set back; how long it may last from then on the next start says.
            (1_600, 600, 1_000, 1_600),
            (1_600, 600, 900, 1_600),
            (90_000, 600, 100, 90_000),
        ] {
            let found = expiry_at_clean_stop(at(expires), granted_s, at(restarted));
            assert_eq!(found, at(kept), "{expires} {granted_s} {restarted}");
            // A start after it finds what the start before it has made of the row.
            let of = |expires, clean| {
                let stored = StoredBinding {
                    granted_s,
                    ..stored(expires)
                };
                restored_expiry(&stored, clean, at(restarted))
            };
            assert_eq!(of(kept, true), of(expires, false));
        }
    }
}
