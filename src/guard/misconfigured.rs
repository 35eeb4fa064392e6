//! Phones with an old password behind addresses that are known good: not banned, but shown, so that somebody mends them.
//! A short list; at its bound the one that failed longest ago goes.

use std::time::Duration;

use crate::limits;
use crate::source::Source;
use crate::time::Instant;

/// One that has not tried for so long is mended, or gone.
const SILENT: Duration = Duration::from_secs(86_400);

#[derive(Clone, Debug)]
struct Phone {
    source: Source,
    user: Box<str>,
    failures: u32,
    last: Instant,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Misconfigured(Vec<Phone>);

impl Misconfigured {
    /// `user` failed once more from there. How often it did since it last answered right.
    pub fn failed(&mut self, now: Instant, source: Source, user: &str) -> u32 {
        self.0.retain(|phone| now.since(phone.last) < SILENT);
        let is_it = |phone: &&mut Phone| phone.source == source && *phone.user == *user;
        if let Some(phone) = self.0.iter_mut().find(is_it) {
            phone.failures = phone.failures.saturating_add(1);
            phone.last = now;
            return phone.failures;
        }
        if self.0.len() >= limits::MISCONFIGURED_MAX {
            let places = self.0.iter().enumerate();
            if let Some((at, _)) = places.min_by_key(|(_, phone)| phone.last) {
                self.0.swap_remove(at);
            }
        }
        self.0.push(Phone {
            source,
            user: user.into(),
            failures: 1,
            last: now,
        });
        1
    }

    /// It answered right.
    pub fn succeeded(&mut self, source: Source, user: &[u8]) {
        self.0
            .retain(|phone| phone.source != source || phone.user.as_bytes() != user);
    }

    /// Source, user and failures of those that failed at least so often, the worst first.
    pub fn list(&self, now: Instant, failures_min: u32) -> Vec<(Source, &str, u32)> {
        let is_shown =
            |phone: &&Phone| phone.failures >= failures_min && now.since(phone.last) < SILENT;
        let mut list: Vec<_> = (self.0.iter().filter(is_shown))
            .map(|phone| (phone.source, &*phone.user, phone.failures))
            .collect();
        list.sort_unstable_by_key(|(source, user, failures)| {
            (std::cmp::Reverse(*failures), *source, *user)
        });
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn those_that_fail_again_and_again_until_they_are_mended() {
        let (here, there) = ("192.0.2.7".parse().unwrap(), "192.0.2.8".parse().unwrap());
        let mut phones = Misconfigured::default();
        for n in 1..=40 {
            assert_eq!(phones.failed(at(u64::from(n)), here, "205"), n);
        }
        phones.failed(at(50), there, "205");
        phones.failed(at(50), here, "206");
        assert_eq!(phones.list(at(50), 5), [(here, "205", 40)]);
        assert_eq!(phones.list(at(50), 1).len(), 3);
        phones.succeeded(here, b"205");
        assert_eq!(
            phones.list(at(50), 1),
            [(here, "206", 1), (there, "205", 1)]
        );
        assert!(
            phones.list(at(50 + 86_400), 1).is_empty(),
            "silent for a day"
        );
        for n in 0..1_000 {
            phones.failed(at(60 + n), here, &n.to_string());
        }
        let list = phones.list(at(2_000), 1);
        assert_eq!(list.len(), limits::MISCONFIGURED_MAX);
        assert!(
            list.iter()
                .all(|(_, user, _)| user.parse::<usize>().unwrap() >= 1_000 - list.len())
        );
    }
}
