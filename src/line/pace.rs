//! How often registrars are asked: what is waited for after an answer, and that lines do not all ask at once.

use std::time::Duration;

use crate::limits::{
    LINE_ATTEMPTS_AT_ONCE, LINE_ATTEMPTS_EVERY, LINE_BACKOFF_MAX, LINE_BACKOFF_MIN, LINE_GRANT_MAX,
    LINE_GRANT_MIN, LINE_RETRY_AFTER_MAX,
};
use crate::time::Instant;
use crate::token::Tokens;

/// A part of `whole`: drawn evenly from `low` to `high` thousandths of it.
pub(super) fn part(whole: Duration, low: u64, high: u64, tokens: &mut Tokens) -> Duration {
    let span = high.saturating_sub(low).saturating_add(1);
    let drawn = tokens.next_u64().checked_rem(span).unwrap_or(0);
    let thousandths = u128::from(low.saturating_add(drawn));
    let micros = (whole.as_micros().saturating_mul(thousandths)).div_euclid(1_000);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// What is waited after so many failures in a row: 5 s, twice that with each further one, up to half an hour; a fifth more or
/// less, so that lines of one carrier do not come back together. What the peer asks for (`Retry-After`), up to an hour, is
/// waited at least.
pub(super) fn backoff(
    failures: u32,
    retry_after: Option<Duration>,
    tokens: &mut Tokens,
) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let nominal = LINE_BACKOFF_MIN.saturating_mul(1 << doublings);
    let own = part(nominal.min(LINE_BACKOFF_MAX), 800, 1_200, tokens).min(LINE_BACKOFF_MAX);
    let asked = retry_after.unwrap_or_default().min(LINE_RETRY_AFTER_MAX);
    // A little later than asked, never earlier.
    own.max(part(asked, 1_000, 1_100, tokens))
}

/// How long a registration counts that was granted for so long.
pub(super) fn granted(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into()).clamp(LINE_GRANT_MIN, LINE_GRANT_MAX)
}

/// When a registration that runs for so long is refreshed: at about half of it, drawn so widely that the lines of a site that
/// has just started spread over time. A minute leaves half a minute for a lost answer, an hour nine failures.
pub(super) fn refresh(granted: Duration, tokens: &mut Tokens) -> Duration {
    part(granted, 400, 550, tokens)
}

/// A bucket of attempts: some at once, then one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When the bucket would be full again.
    full: Instant,
}

impl Pace {
    pub fn new(now: Instant) -> Self {
        Self { full: now }
    }

    /// Takes an attempt now.
    ///
    /// # Errors
    /// When there is one again.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let ahead = LINE_ATTEMPTS_EVERY.saturating_mul(LINE_ATTEMPTS_AT_ONCE.saturating_sub(1));
        let waits = self.full.since(now.plus(ahead));
        if !waits.is_zero() {
            return Err(now.plus(waits));
        }
        self.full = self.full.max(now).plus(LINE_ATTEMPTS_EVERY);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(at: u64) -> Instant {
        Instant::from_micros(at * 1_000_000)
    }

    #[test]
    fn back_off_doubles_up_to_half_an_hour() {
        let mut tokens = Tokens::new(&[1; 32], "test");
        for (failures, low, high) in [
            (1, 4.0, 6.0),
            (2, 8.0, 12.0),
            (3, 16.0, 24.0),
            (9, 1_024.0, 1_536.0),
            (10, 1_440.0, 1_800.0),
            (u32::MAX, 1_440.0, 1_800.0),
        ] {
            for _ in 0..100 {
                let waited = backoff(failures, None, &mut tokens).as_secs_f64();
                assert!((low..=high).contains(&waited), "{failures}: {waited}");
            }
        }
    }

    #[test]
    fn what_the_peer_asks_for_is_waited_up_to_an_hour() {
        let mut tokens = Tokens::new(&[1; 32], "test");
        for (asked, low, high) in [
            (0, 4.0, 6.0),
            (120, 120.0, 132.0),
            (86_400, 3_600.0, 3_960.0),
        ] {
            let asked = Some(Duration::from_secs(asked));
            let waited = backoff(1, asked, &mut tokens).as_secs_f64();
            assert!((low..=high).contains(&waited), "{asked:?}: {waited}");
        }
    }

    #[test]
    fn some_at_once_then_one_after_the_other() {
        let mut pace = Pace::new(seconds(0));
        let now = seconds(100);
        for _ in 0..LINE_ATTEMPTS_AT_ONCE {
            assert_eq!(pace.take(now), Ok(()));
        }
        assert_eq!(pace.take(now), Err(now.plus(LINE_ATTEMPTS_EVERY)));
        let then = now.plus(LINE_ATTEMPTS_EVERY);
        assert_eq!(pace.take(then), Ok(()));
        assert_eq!(pace.take(then), Err(then.plus(LINE_ATTEMPTS_EVERY)));
    }

    #[test]
    fn short_and_long_grants_are_bounded() {
        assert_eq!(granted(1), LINE_GRANT_MIN);
        assert_eq!(granted(3_600), Duration::from_secs(3_600));
        assert_eq!(granted(u32::MAX), LINE_GRANT_MAX);
        let mut tokens = Tokens::new(&[1; 32], "test");
        for _ in 0..100 {
            let refreshed = refresh(Duration::from_secs(60), &mut tokens).as_secs_f64();
            assert!((24.0..=33.0).contains(&refreshed), "{refreshed}");
        }
    }
}
