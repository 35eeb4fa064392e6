//! RFC 3339 times in UTC: what the API, the state file and the log show, and what people pass as `since` and `until`.
//!
//! Written always in one form, 24 bytes with milliseconds and `Z`, so that sorting the text sorts the times. Read more
//! freely: any number of decimals, an offset, a blank for the `T`, or a date alone (its midnight in UTC). Leap seconds
//! are read as the last millisecond of their minute. No time zones and no years before 1970 or after 9999.

use serde::Serialize;

use crate::time::UnixTime;

/// 9999-12-31T23:59:59.999Z in milliseconds: the last time that RFC 3339 §5.6 has digits for.
const LAST_MILLIS: u64 = 253_402_300_799_999;
const DAY_MILLIS: u64 = 86_400_000;

/// A time that is written as RFC 3339 in UTC with milliseconds: `2026-03-01T12:00:00.000Z`. Times after the year 9999
/// are written as its last millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rfc3339(pub UnixTime);

impl std::fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = self.0.as_millis().min(LAST_MILLIS);
        let (year, month, day) = civil_from_days(millis / DAY_MILLIS);
        let of_day = millis % DAY_MILLIS;
        let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
        let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
        )
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text is not a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339Error;

impl std::fmt::Display for Rfc3339Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not a time like 2026-03-01T12:00:00Z or 2026-03-01")
    }
}

impl std::error::Error for Rfc3339Error {}

impl std::str::FromStr for Rfc3339 {
    type Err = Rfc3339Error;

    /// Reads RFC 3339 §5.6 `date-time`, or a date alone. Decimals beyond the millisecond are cut off.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.as_bytes())
            .map(|millis| Self(UnixTime::from_millis(millis)))
            .ok_or(Rfc3339Error)
    }
}

fn parse(text: &[u8]) -> Option<u64> {
    let mut reader = Reader(text);
    let year = reader.digits(4)?;
    reader.one_of(b"-")?;
    let month = reader.digits(2)?;
    reader.one_of(b"-")?;
    let day = reader.digits(2)?;
    if year < 1970 || !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * DAY_MILLIS;
    if reader.0.is_empty() {
        return Some(midnight);
    }

    reader.one_of(b"Tt ")?;
    let hour = reader.digits(2)?;
    reader.one_of(b":")?;
    let minute = reader.digits(2)?;
    reader.one_of(b":")?;
    let second = reader.digits(2)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut milli = reader.decimals()?;
    if second == 60 {
        milli = 999;
    }
    let local = midnight + (hour * 60 + minute) * 60_000 + second.min(59) * 1_000 + milli;

    let millis = match reader.one_of(b"Zz+-")? {
        sign @ (b'+' | b'-') => {
            let hours = reader.digits(2)?;
            reader.one_of(b":")?;
            let minutes = reader.digits(2)?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = (hours * 60 + minutes) * 60_000;
            if sign == b'+' {
                local.checked_sub(offset)?
            } else {
                local.checked_add(offset)?
            }
        }
        _ => local,
    };
    (reader.0.is_empty() && millis <= LAST_MILLIS).then_some(millis)
}

/// The bytes not read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// One byte, if it is one of `set`.
    fn one_of(&mut self, set: &[u8]) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        set.contains(&first).then(|| self.0 = rest)?;
        Some(first)
    }

    /// A number of exactly `count` digits.
    fn digits(&mut self, count: usize) -> Option<u64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits.iter().try_fold(0, |number, byte| {
            byte.is_ascii_digit()
                .then(|| number * 10 + u64::from(byte - b'0'))
        })
    }

    /// Milliseconds out of `.123456`; 0 if there is no point. A point without digits is refused.
    fn decimals(&mut self) -> Option<u64> {
        if self.one_of(b".").is_none() {
            return Some(0);
        }
        let count = self
            .0
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        let milli = (0..3).fold(0, |number, place| {
            number * 10 + digits.get(place).map_or(0, |byte| u64::from(byte - b'0'))
        });
        (count > 0).then_some(milli)
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days between 0000-03-01 and 1970-01-01. Counting years from March puts the leap day last.
const DAYS_TO_EPOCH: u64 = 719_468;
/// Days of 400 years, after which the calendar repeats.
const DAYS_OF_ERA: u64 = 146_097;

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar, from 1970 on.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_OF_ERA + day_of_era - DAYS_TO_EPOCH
}

/// (year, month, day) of a number of days since 1970-01-01.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_EPOCH;
    let (era, day_of_era) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era + year_of_era / 100 - 365 * year_of_era - year_of_era / 4;
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(millis: u64) -> String {
        Rfc3339(UnixTime::from_millis(millis)).to_string()
    }

    fn read(text: &str) -> Option<u64> {
        text.parse::<Rfc3339>().ok().map(|time| time.0.as_millis())
    }

    #[test]
    fn known_times() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_772_366_400_000, "2026-03-01T12:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST_MILLIS, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(written(millis), text);
            assert_eq!(read(text), Some(millis), "{text}");
        }
        assert_eq!(written(u64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn read_more_freely_than_written() {
        for (text, millis) in [
            ("2026-03-01", 1_772_323_200_000),
            ("2026-03-01T12:00:00Z", 1_772_366_400_000),
            ("2026-03-01 12:00:00z", 1_772_366_400_000),
            ("2026-03-01t13:00:00.5+01:00", 1_772_366_400_500),
            ("2026-03-01T06:30:00.1239999-05:30", 1_772_366_400_123),
            ("2016-12-31T23:59:60Z", 1_483_228_799_999),
        ] {
            assert_eq!(read(text), Some(millis), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "now",
            "2026-3-1",
            "2026-02-29",
            "2100-02-29T00:00:00Z",
            "2026-00-01",
            "2026-13-01",
            "2026-04-31",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "2026-03-01T24:00:00Z",
            "2026-03-01T12:60:00Z",
            "2026-03-01T12:00:61Z",
            "2026-03-01T12:00:00",
            "2026-03-01T12:00:00.Z",
            "2026-03-01T12:00:00Zx",
            "2026-03-01T12:00:00+0100",
            "2026-03-01T12:00:00+24:00",
            "+026-03-01T12:00:00Z",
            "2026-03-01T12:00:00é",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..=LAST_MILLIS / DAY_MILLIS {
            assert_eq!(civil_from_days(days), (year, month, day));
            assert_eq!(days_from_civil(year, month, day), days);
            day += 1;
            if day > days_of_month(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!(year, 10_000);
    }

    proptest! {
        #[test]
        fn read_of_written_is_the_identity(millis in 0..=LAST_MILLIS) {
            prop_assert_eq!(read(&written(millis)), Some(millis));
        }

        #[test]
        fn text_sorts_as_time(a in 0..=LAST_MILLIS, b in 0..=LAST_MILLIS) {
            prop_assert_eq!(written(a).cmp(&written(b)), a.cmp(&b));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = read(&text);
        }
    }
}
