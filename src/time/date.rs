//! RFC 3261 §20.17: `Date`, an RFC 1123 date that is always in GMT.

use super::UnixTime;

/// The form of a date: `A` is any capital, `a` any small letter, `0` any digit.
const FORM: &[u8; 29] = b"Aaa, 00 Aaa 0000 00:00:00 GMT";

/// Appends `Sat, 13 Nov 2010 23:29:00 GMT`.
pub fn append(time: UnixTime, out: &mut Vec<u8>) {
    const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    const MONTHS: [&[u8; 3]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let seconds = time.as_millis() / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years that begin in March have their leap day last; eras of 400 of them are alike. 719,468 days lie between
    // March 1st of the year 0 and the epoch.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let two = |number: u64| [number / 10, number].map(|number| b'0' + (number % 10) as u8);
    let mut text = *FORM;
    text[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    text[5..7].copy_from_slice(&two(day));
    text[8..11].copy_from_slice(MONTHS[month as usize]);
    text[12..14].copy_from_slice(&two(year / 100));
    text[14..16].copy_from_slice(&two(year));
    text[17..19].copy_from_slice(&two(second / 3600));
    text[20..22].copy_from_slice(&two(second / 60 % 60));
    text[23..25].copy_from_slice(&two(second % 60));
    out.extend_from_slice(&text);
}

/// Whether a text has the form of such a date.
pub fn is_date(text: &[u8]) -> bool {
    let is_of_form = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        b'A' => byte.is_ascii_uppercase(),
        b'a' => byte.is_ascii_lowercase(),
        other => byte == other,
    };
    text.len() == FORM.len() && text.iter().zip(FORM).all(is_of_form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        // Seconds as `date -u -d @N` names them.
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_289_690_940, "Sat, 13 Nov 2010 23:29:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (1_735_689_600, "Wed, 01 Jan 2025 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            let mut out = Vec::new();
            append(UnixTime::from_millis(seconds * 1000 + 999), &mut out);
            assert!(is_date(&out));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_date() {
        for text in [
            "",
            "Sat, 13 Nov 2010 23:29:00",
            "Sat, 13 Nov 2010 23:29:00 CET",
            "Sat, 13 Nov 2010 23:29:0x GMT",
            "Sat,  3 Nov 2010 23:29:00 GMT",
            "2010-11-13T23:29:00Z         ",
            "Sat, 13 Nov 2010 23:29:00 GMT ",
        ] {
            assert!(!is_date(text.as_bytes()), "{text}");
        }
    }
}
