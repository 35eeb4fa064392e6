//! The brake against models of it, over many random steps and restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;
use crate::testing::random::Random;

const USER: UserId = UserId(0);

fn config(guard: &str, users: &[&str]) -> Config {
    let users: String = users
        .iter()
        .map(|user| format!("[user {user}]\n"))
        .collect();
    let text = format!("[guard]\n{guard}\n{users}");
    Config::read(&text, Path::new(".")).expect("a good configuration")
}

/// Seconds after a beginning in this century.
fn at(seconds: u64) -> Now {
    Now {
        mono: Instant::from_micros(seconds * 1_000_000),
        unix: UnixTime::from_millis(1_790_000_000_000 + seconds * 1_000),
    }
}

/// A brake, and the table that its changes make.
struct Site {
    brake: Brake,
    table: BTreeMap<DestinationKey, DestinationRow>,
    written: usize,
}

impl Site {
    fn new(config: &Config) -> Self {
        let brake = Brake::new(at(0), config, Vec::new(), &mut Vec::new());
        Self {
            brake,
            table: BTreeMap::new(),
            written: 0,
        }
    }

    fn write(&mut self, changes: Vec<Change>) {
        for change in changes {
            self.written += 1;
            match change {
                Change::Destination(row) => drop(self.table.insert(row.key.clone(), *row)),
                Change::DestinationGone(key) => {
                    self.table.remove(&*key).expect("it was there");
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(self.table.len(), self.brake.count());
    }

    fn restart(&mut self, now: Now, config: &Config) {
        let (rows, mut changes) = (self.table.values().cloned().collect(), Vec::new());
        self.brake = Brake::new(now, config, rows, &mut changes);
        self.write(changes);
    }

    /// Whether a call goes out.
    fn calls(&mut self, now: Now, user: UserId, number: &str, calls: u32) -> bool {
        let number = number.as_bytes();
        if self.brake.refuses(now, user, number, calls).is_some() {
            return false;
        }
        let mut changes = Vec::new();
        self.brake.goes_out(now, user, number, &mut changes);
        self.write(changes);
        true
    }
}

/// A cracked account over 100,000 random steps, with restarts, beside an honest one that it must not touch: never more calls
/// at a time, never more new numbers in any hour, and never refused without one of both being so.
#[test]
fn a_cracked_account_gets_no_further_whatever_it_does() {
    for seed in 0..4 {
        let mut random = Random::new(seed);
        let calls_max = random.between(0, 4) as u32;
        let new_max = random.between(0, 25) as usize;
        let text =
            format!("outside_calls_max = {calls_max}\nnew_destinations_per_hour = {new_max}");
        let config = config(&text, &["100", "101"]);
        let mut site = Site::new(&config);
        let mut seconds = 0;
        let (mut calls, mut ever, mut new) = (0u32, BTreeSet::new(), Vec::<u64>::new());
        let mut dialled = vec!["0".to_owned()];
        let (mut out, mut refused) = (0, 0);
        for _ in 0..25_000 {
            seconds += random.below(120) * random.below(3);
            new.retain(|first| seconds - first < 3_600);
            match random.below(100) {
                0 => site.restart(at(seconds), &config),
                1 => {
                    let mut changes = Vec::new();
                    site.brake.reload(&config, &mut changes);
                    site.write(changes);
                }
                2..40 => calls = calls.saturating_sub(1),
                choice => {
                    // Of all that was ever dialled, refused or not, or one that never was.
                    let number = match choice {
                        40..70 => dialled[random.below(dialled.len() as u64) as usize].clone(),
                        _ => format!("00{}", random.below(1_000_000)),
                    };
                    if dialled.len() < 900 {
                        dialled.push(number.clone());
                    }
                    let is_new = !ever.contains(&number);
                    let may = calls < calls_max && (!is_new || new.len() < new_max);
                    assert_eq!(
                        site.calls(at(seconds), USER, &number, calls),
                        may,
                        "seed {seed}: {number} at {seconds}"
                    );
                    if may {
                        calls += 1;
                        if is_new && ever.len() < DESTINATIONS_PER_USER_MAX {
                            new.push(seconds);
                            ever.insert(number);
                        }
                        out += 1;
                    } else {
                        refused += 1;
                    }
                }
            }
            assert!(calls <= calls_max && new.len() <= new_max);
            if ever.len() >= DESTINATIONS_PER_USER_MAX {
                break;
            }
        }
        assert!(refused > 0 && (out > 0 || calls_max == 0), "seed {seed}");
        let other = site.calls(at(seconds), UserId(1), "0123", 0);
        assert_eq!(other, calls_max > 0 && new_max > 0, "seed {seed}");
    }
}

/// Twenty new numbers an hour, each ten times: 480 numbers in a day, as many as twenty an hour are, and none refused twice is
/// an old friend.
#[test]
fn repetition_makes_no_new_number_an_old_friend() {
    let config = config("", &["100"]);
    let mut site = Site::new(&config);
    let mut out = BTreeSet::new();
    for second in 0..86_400 {
        let number = format!("0090{}", second / 60 * 60 + second % 6);
        if site.calls(at(second), USER, &number, 1) {
            out.insert(number);
        }
    }
    assert_eq!(out.len(), 20 * 24);
    assert_eq!(site.brake.count(), out.len());
}

/// The same fifty customers every day, all of them before noon: the first hours are slow, and then never again, whatever
/// restarts there are. The state file is written to once a day for each.
#[test]
fn an_honest_office_is_stopped_on_its_first_day_only() {
    let config = config("", &["100"]);
    let mut site = Site::new(&config);
    let mut random = Random::new(1);
    for day in 0..400 {
        if random.chance(100) {
            site.restart(at(day * 86_400), &config);
        }
        site.written = 0;
        let mut refused = 0;
        for call in 0..500u64 {
            let customer = format!("030{}", 5_000 + call % 50);
            let now = at(day * 86_400 + 8 * 3_600 + call * 28);
            refused += u32::from(!site.calls(now, USER, &customer, 1));
        }
        assert_eq!(refused > 0, day == 0, "day {day}");
        assert!(site.written <= 50, "day {day}: {}", site.written);
    }
    assert_eq!(site.brake.count(), 50);
}

#[test]
fn an_hour_is_any_hour_over_restarts() {
    let config = config("new_destinations_per_hour = 2", &["100"]);
    let mut site = Site::new(&config);
    assert!(site.calls(at(100), USER, "1", 0));
    assert!(site.calls(at(1_000), USER, "2", 0));
    site.restart(at(1_001), &config);
    assert!(!site.calls(at(3_699), USER, "3", 0));
    site.restart(at(3_699), &config);
    assert!(!site.calls(at(3_699), USER, "3", 0));
    assert!(site.calls(at(3_700), USER, "3", 0));
    assert!(!site.calls(at(4_599), USER, "4", 0));
    assert!(site.calls(at(4_600), USER, "4", 0));
    // The clock of a board may begin in the past: old friends are no new numbers because of that.
    let past = Now {
        unix: UnixTime::from_millis(1_000),
        ..at(0)
    };
    site.restart(past, &config);
    assert!(site.calls(past, USER, "4", 0) && site.calls(past, USER, "5", 0));
}

#[test]
fn the_ones_called_longest_ago_are_forgotten_at_the_bounds() {
    let names: Vec<String> = (0..80).map(|name| name.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let config = config("new_destinations_per_hour =", &names);
    let mut site = Site::new(&config);
    let max = DESTINATIONS_PER_USER_MAX as u64;
    for number in 0..max {
        site.calls(at(number), USER, &number.to_string(), 0);
    }
    assert_eq!(site.brake.count(), DESTINATIONS_PER_USER_MAX);
    site.calls(at(max), USER, "0", 0);
    site.calls(at(max + 1), USER, "new", 0);
    let is_known = |site: &Site, number: &str| {
        site.brake.callers[0]
            .numbers
            .contains_key(number.as_bytes())
    };
    assert!(is_known(&site, "0") && is_known(&site, "new") && !is_known(&site, "1"));
    assert!(site.brake.count() > DESTINATIONS_PER_USER_MAX * 9 / 10);
    // All users together.
    for user in 1..names.len() as u32 {
        for number in 0..max {
            let seconds = u64::from(user) * max + number;
            let (mut changes, number) = (Vec::new(), number.to_string());
            let now = at(10_000 + seconds);
            (site.brake).goes_out(now, UserId(user), number.as_bytes(), &mut changes);
            for change in changes {
                match change {
                    Change::Destination(row) => drop(site.table.insert(row.key.clone(), *row)),
                    Change::DestinationGone(key) => drop(site.table.remove(&*key)),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(site.brake.count() <= DESTINATIONS_MAX);
    }
    assert_eq!(site.table.len(), site.brake.count());
    assert!(
        site.brake.callers[0].numbers.is_empty(),
        "the oldest of all"
    );
    assert_eq!(
        site.brake.callers[79].numbers.len(),
        DESTINATIONS_PER_USER_MAX
    );
    // A file that has too many for a user.
    let rows = (0..2_000u32).map(|number| DestinationRow {
        key: DestinationKey {
            user: "7".into(),
            number: number.to_string().into_bytes(),
        },
        first_called: at(0).unix,
        last_called: at(number.into()).unix,
    });
    let mut changes = Vec::new();
    let brake = Brake::new(at(9_000), &config, rows.collect(), &mut changes);
    assert!(brake.count() <= DESTINATIONS_PER_USER_MAX);
    assert_eq!(brake.count() + changes.len(), 2_000);
    assert!(brake.callers[7].numbers.contains_key(&b"1999"[..]));
}

#[test]
fn a_number_too_long_to_remember_is_always_new() {
    let config = config("new_destinations_per_hour = 2", &["100"]);
    let mut site = Site::new(&config);
    let long = "1".repeat(DESTINATION_BYTES_MAX + 1);
    assert!(site.calls(at(0), USER, &long, 0) && site.calls(at(0), USER, &long, 0));
    assert!(!site.calls(at(0), USER, &long, 0));
    assert_eq!(site.brake.count(), 0);
}

#[test]
fn after_a_reload_users_are_the_same_by_name() {
    let first = config("new_destinations_per_hour = 1", &["100", "101"]);
    let mut site = Site::new(&first);
    assert!(site.calls(at(0), UserId(0), "1", 0) && site.calls(at(0), UserId(1), "2", 0));
    let second = config("new_destinations_per_hour = 1", &["99", "101"]);
    let mut changes = Vec::new();
    site.brake.reload(&second, &mut changes);
    site.write(changes);
    assert_eq!(site.brake.count(), 1, "100 is forgotten");
    assert!(site.calls(at(1), UserId(1), "2", 0) && !site.calls(at(1), UserId(1), "1", 0));
    assert!(site.calls(at(1), UserId(0), "1", 0), "99 has called nobody");
    site.restart(at(2), &first);
    assert_eq!(site.brake.count(), 1, "99 is forgotten at a start too");
}

#[test]
fn limits_may_be_off() {
    let long_ago = || (0..100u32).map(|number| number.to_string());
    let off = config("outside_calls_max =\nnew_destinations_per_hour =", &["100"]);
    let mut site = Site::new(&off);
    assert!(long_ago().all(|number| site.calls(at(0), USER, &number, 1_000)));
    let on = config("", &["100"]);
    site.brake.reload(&on, &mut Vec::new());
    assert!(
        long_ago().all(|number| site.calls(at(0), USER, &number, 1)),
        "known meanwhile"
    );
    assert_eq!(site.brake.refuses(at(0), USER, b"1", 2), Some(Limit::Calls));
    let mode_off = config("mode = off\noutside_calls_max = 0", &["100"]);
    site.brake.reload(&mode_off, &mut Vec::new());
    assert!(site.calls(at(0), USER, "new", 5));
    assert_eq!(site.brake.count(), 100, "and nothing is remembered");
    assert_eq!(site.brake.refuses(at(0), UserId(9), b"1", 9), None, "gone");
}

#[test]
fn the_log_is_told_once_a_minute_of_each() {
    let mut brake = Site::new(&config("", &["100", "101"])).brake;
    assert_eq!(brake.refused(at(0), USER), Some(1));
    assert_eq!(brake.refused(at(0), UserId(1)), Some(1));
    let told = (1..=120).filter_map(|second| brake.refused(at(second), USER));
    assert_eq!(told.collect::<Vec<_>>(), [60, 60]);
}

#[test]
fn help_is_a_short_number_or_one_written_down() {
    let text = "[trunk t]\naddresses = 192.0.2.9\n[route a]\nprefix = 0\nstrip = 1\nto = trunk:t\n\
        [route b]\nprefix = 110\nprepend = 030\nto = trunk:t\n\
        [route c]\nprefix = 1234\nlevel = far\nto = trunk:t\n\
        [route d]\nprefix = 8\nstrip = 1\nprepend = 0900123\nto = trunk:t\n";
    let config = Config::read(text, Path::new(".")).expect("a good configuration");
    for (route, dialled, told, expected) in [
        (0, "0112", "112", true),
        (0, "015", "15", true),
        (0, "00112", "0112", false),
        (0, "0", "", false),
        (0, "0+11", "+11", false),
        (0, "0*11", "*11", false),
        (1, "110", "030110", true),
        (1, "1105", "0301105", false),
        (1, "1105", "1105", false),
        (2, "1234", "1234", false),
        (3, "8", "0900123", false),
    ] {
        let is_emergency = is_emergency(dialled.as_bytes(), told.as_bytes(), &config.routes[route]);
        assert_eq!(is_emergency, expected, "{dialled} as {told}");
    }
}

/// Three calls in ten minutes that nobody acknowledges stop that user's outside calls for an hour, and nobody else's; those
/// that are further apart do not.
#[test]
fn calls_that_nobody_acknowledges_stop_their_user() {
    let other = UserId(1);
    let both = ["100", "101"];
    let mut site = Site::new(&config("", &both));
    for (minute, stops) in [(0, false), (4, false), (10, false), (13, true), (14, false)] {
        assert_eq!(site.brake.unheard(at(minute * 60), USER), stops, "{minute}");
    }
    let refuses = |brake: &Brake, minute: u64, user| brake.refuses(at(minute * 60), user, b"1", 0);
    assert_eq!(refuses(&site.brake, 72, USER), Some(Limit::Unheard));
    assert_eq!(refuses(&site.brake, 72, other), None);
    assert_eq!(refuses(&site.brake, 73, USER), None);
    // He is told of once, however long it goes on, and a reload forgets nothing.
    let told = |n: &u64| site.brake.unheard(at(74 * 60 + n * 60), USER);
    assert_eq!((0..60).filter(told).collect::<Vec<_>>(), [2]);
    site.brake
        .reload(&config("", &["101", "100"]), &mut Vec::new());
    assert_eq!(refuses(&site.brake, 180, other), Some(Limit::Unheard));
    assert_eq!(refuses(&site.brake, 180, USER), None);
    site.brake
        .reload(&config("mode = off", &both), &mut Vec::new());
    assert_eq!(refuses(&site.brake, 180, USER), None);
    assert!((0..9).all(|_| !site.brake.unheard(at(0), other)));
}
