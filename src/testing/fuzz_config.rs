//! Any bytes as config.ini: read twice it is the same, every mistake stands on a line of the file and can be shown, and
//! what makes no difference to people makes none.

use std::path::Path;
use std::time::Duration;

use super::meter;
use crate::config::{Config, Mistake, duration_text, parse_duration};

/// What a file of nothing takes: all defaults, and the sections that are not in it.
const ALLOCATED_FOR_NOTHING: usize = 64 << 10;

/// Each byte may begin a line that is a mistake, with its text for people.
const ALLOCATED_PER_BYTE: usize = 400;

type Read = Result<Config, Vec<Mistake>>;

fn read(bytes: &[u8]) -> Read {
    Config::read_bytes(bytes, Path::new("/etc/sipkeep/config.ini"))
}

/// # Panics
/// When a property does not hold.
pub fn config(bytes: &[u8]) {
    let most = ALLOCATED_FOR_NOTHING + ALLOCATED_PER_BYTE * bytes.len();
    let first = meter::below(most, || read(bytes));
    let again = read(bytes);
    assert_eq!(again, first, "read twice");
    let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
    match &first {
        Ok(config) => {
            check_durations(config);
            let warnings = config.warnings();
            assert_eq!(again.map(|again| again.warnings()), Ok(warnings.clone()));
            check_mistakes(&warnings, lines);
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            check_mistakes(mistakes, lines);
            assert!(mistakes.is_sorted_by_key(|mistake| mistake.line));
        }
    }
    check_spellings(bytes, &first);
}

/// They stand in the file, and print on one line without doing anything to a terminal.
fn check_mistakes(mistakes: &[Mistake], lines: usize) {
    for mistake in mistakes {
        assert!(mistake.line <= lines, "{mistake:?}");
        assert!(!mistake.text.is_empty());
        let shown = mistake.in_file(Path::new("config.ini"));
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}

/// What a duration is shown as is the same duration.
fn check_durations(config: &Config) {
    let (registrar, guard, call) = (&config.registrar, &config.guard, &config.call);
    let of_lines = config.lines.iter().map(|line| line.expires);
    let all = [
        config.server.cdr_keep,
        registrar.expires_min,
        registrar.expires_default,
        registrar.expires_max,
        guard.failures_window,
        guard.ban,
        guard.ban_max,
        call.ring_timeout,
    ];
    let some = [
        registrar.nat_keepalive,
        call.session_expires,
        call.media_timeout,
    ];
    for duration in all
        .into_iter()
        .chain(some.into_iter().flatten())
        .chain(of_lines)
    {
        assert_eq!(parse_duration(&duration_text(duration)), Ok(duration));
    }
    assert!(registrar.expires_min <= registrar.expires_max);
    assert!(call.ring_timeout > Duration::ZERO);
}

/// A byte order mark, an empty line before everything, other line ends, or comments at the end: the text's length says which,
/// since reading is slow beside all else.
fn check_spellings(bytes: &[u8], first: &Read) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match bytes.len() % 4 {
        // A line that is as long as it may be would be longer.
        0 if !text.starts_with('\u{feff}') && bytes.len() < 60_000 => {
            let marked = read(format!("\u{feff}{text}").as_bytes());
            assert_eq!(&marked, first, "with a byte order mark");
        }
        1 if !text.starts_with('\u{feff}') => {
            // Texts name lines too, so only where the mistakes are is compared.
            let moved = read(format!("\n{text}").as_bytes());
            let places = |read: &Read, by: usize| {
                let mistakes = read.as_ref().err();
                let place = |one: &Mistake| one.line + by * usize::from(one.line > 0);
                mistakes.map(|all| all.iter().map(place).collect::<Vec<_>>())
            };
            assert_eq!(places(&moved, 0), places(first, 1), "a line further down");
        }
        2 if !text.contains('\r') => {
            let other = read(text.replace('\n', "\r\n").as_bytes());
            assert_eq!(&other, first, "with other line ends");
        }
        _ => {
            let longer = read(format!("{text}\n ; a comment\n\n# = [\n").as_bytes());
            assert_eq!(&longer, first, "with comments at its end");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    const LINES: &[&str] = &[
        "[server]",
        "[user a]",
        "[user b]",
        "[user a",
        "[trunk t]",
        "[line l]",
        "[group g]",
        "[route r]",
        "[guard]",
        "[what ever x]",
        "listen = udp:192.0.2.1:5060",
        "listen =",
        "password = kx7-mmq2-9",
        "pasword = x ; comment",
        "addresses = 192.0.2.0/28",
        "addresses = 192.0.2.9",
        "members = a, b",
        "incoming = a",
        "prefix = 9",
        "to = trunk:t",
        "account = +1",
        "server = carrier.example",
        "mode = off",
        "ban = 5m",
        "ban",
        "= x",
        "# [",
        "",
        "\u{7}",
        "forward_always = b",
        "levels = x",
        "level = x",
        "next = g",
        "nat_keepalive = 10s",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
        #[test]
        fn holds_for_lines(lines in prop::collection::vec(prop::sample::select(LINES), 0..16)) {
            super::config(lines.join("\n").as_bytes());
        }
    }
}
