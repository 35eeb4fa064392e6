//! What the kernel should discard for us: bans that are proven and in force, and `deny`, the busiest first. Whoever it does
//! not hold is discarded in user space by the same rule, so anything in doubt is left out here.
//!
//! Left out are bans that are only observed, those with reason `scan` (a known source, never dropped as a whole), sources
//! that are exempt, and `deny` entries with a source of `allow` among them.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv6Addr};

use super::Guard;
use super::ranges::Range;
use crate::config::{GuardMode, Prefix};
use crate::source::Source;
use crate::store::BanReason;
use crate::time::{Instant, Now};

/// What a source sent counts half after so many seconds. Long enough that, of a source that the kernel holds, a sample of
/// 1 in 1,024 comes within it at 10 packets a second.
const HALF_LIFE_S: f32 = 600.0;

/// The bits of an IPv6 address that tell one source from another.
const UPPER_HALF: u128 = (u64::MAX as u128) << 64;

/// How busy a discarded source was lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// Packets up to `at`, older ones less and less.
    recent: f32,
    /// Of all its packets so many are in `recent`.
    counted: u64,
    at: Instant,
}

impl Load {
    /// `discarded`: all its packets up to `now`.
    pub fn update(&mut self, now: Instant, discarded: u64) {
        let new = discarded.saturating_sub(self.counted);
        let half_lives = now.since(self.at).as_secs_f32() / HALF_LIFE_S;
        self.recent = self.recent * (-half_lives).exp2() + new as f32;
        self.counted = discarded;
        self.at = now;
    }

    /// Packets lately.
    pub fn recent(self) -> f32 {
        self.recent
    }
}

/// An entry of the kernel's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelEntry {
    /// Whose packets; of IPv6 at most 64 bits.
    pub prefix: Prefix,
    /// It is an entry of `deny`, and which.
    deny: Option<usize>,
}

/// Tells when the kernel's list has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelMark {
    /// Counts up with each change.
    pub changes: u64,
    /// Counts up with each ban of an administrator. It is in force as soon as it is made, by us; the sooner the kernel has
    /// it the better.
    pub commands: u64,
    /// Counts up with each command of an administrator that may let packets through: the change is to be in the kernel
    /// before the command's answer.
    pub lifts: u64,
    /// Packets that were discarded in user space. When the kernel does not hold all, others may have become busier.
    pub discarded: u64,
}

impl Guard {
    /// Whether [`Guard::kernel_list`] may have changed. O(1).
    pub fn kernel_mark(&self) -> KernelMark {
        KernelMark {
            changes: self.bans.changes(),
            commands: self.commands,
            lifts: self.lifts,
            discarded: self.dropped,
        }
    }

    /// What the kernel should discard now, the busiest first, at most so many entries of each family. Empty unless bans are
    /// enforced and the kernel is to be asked. `is_exempt`: the source is one of a user by address, a line or a trunk,
    /// or a prefix with such a one in it.
    pub fn kernel_list(
        &mut self,
        now: Now,
        family_max: usize,
        is_exempt: impl Fn(Source) -> bool,
    ) -> Vec<KernelEntry> {
        if self.config.mode != GuardMode::Enforce || !self.config.kernel_filter {
            return Vec::new();
        }
        let Self {
            bans, deny, allow, ..
        } = self;
        let mut busiest = [Busiest::new(family_max), Busiest::new(family_max)];
        let [v4, v6] = &mut busiest;
        let mut push = |entry: KernelEntry, recent: f32, since: u64| {
            let list = if entry.prefix.address.is_ipv4() {
                &mut *v4
            } else {
                &mut *v6
            };
            list.push(Candidate {
                entry,
                recent,
                since,
            });
        };
        for (at, range) in deny.iter_mut().enumerate() {
            range.load.update(now.mono, range.discarded);
            if !allow.overlaps(range) {
                push(range.entry(at), range.load.recent(), u64::MAX);
            }
        }
        for (source, ban, recent) in bans.by_load(now.mono) {
            let is_whole = !ban.observed && ban.reason != BanReason::Scan;
            if is_whole && !allow.any_within(source) && !is_exempt(source) {
                push(KernelEntry::ban(source), recent, ban.since.as_millis());
            }
        }
        busiest
            .into_iter()
            .flat_map(Busiest::into_sorted)
            .map(|candidate| candidate.entry)
            .collect()
    }

    /// Notes what the kernel holds of a list that [`Guard::kernel_list`] gave: of those a packet that comes up to us is one
    /// of a sample of [`crate::limits::KERNEL_SAMPLE`]. Without `begin`, only that it holds nothing else any more.
    pub fn kernel_holds(&mut self, held: &[KernelEntry], begin: bool) {
        let bans = held.iter().filter(|entry| entry.deny.is_none());
        self.bans.hold(bans.map(KernelEntry::source), begin);
        let mut denied: Vec<(usize, Prefix)> = held
            .iter()
            .filter_map(|entry| Some((entry.deny?, entry.prefix)))
            .collect();
        denied.sort_unstable_by_key(|(at, _)| *at);
        for (at, range) in self.deny.iter_mut().enumerate() {
            let listed = denied
                .binary_search_by_key(&at, |(at, _)| *at)
                .ok()
                .and_then(|found| denied.get(found));
            // Another entry may stand there since the configuration was read again.
            let is_it = listed.is_some_and(|(_, prefix)| *prefix == range.entry(at).prefix);
            range.held = is_it && (begin || range.held);
        }
    }
}

/// What might go to the kernel.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    entry: KernelEntry,
    recent: f32,
    /// When its ban began, in ms; later than all of them for `deny`.
    since: u64,
}

impl Candidate {
    /// The busier first. Equally busy: what was banned last is most likely still sending.
    fn order(&self, other: &Self) -> Ordering {
        let loads = other.recent.total_cmp(&self.recent);
        let address = |candidate: &Self| candidate.entry.prefix.address;
        loads
            .then(other.since.cmp(&self.since))
            .then_with(|| address(self).cmp(&address(other)))
    }
}

/// The busiest of any number of candidates, in memory for a few times as many as are wanted.
#[derive(Debug)]
struct Busiest {
    candidates: Vec<Candidate>,
    most: usize,
}

impl Busiest {
    fn new(most: usize) -> Self {
        Self {
            candidates: Vec::new(),
            most,
        }
    }

    fn push(&mut self, candidate: Candidate) {
        if self.candidates.len() >= self.most.saturating_mul(2).max(1) {
            self.cut();
        }
        self.candidates.push(candidate);
    }

    fn cut(&mut self) {
        if self.most < self.candidates.len() {
            self.candidates
                .select_nth_unstable_by(self.most, Candidate::order);
            self.candidates.truncate(self.most);
        }
    }

    fn into_sorted(mut self) -> Vec<Candidate> {
        self.cut();
        self.candidates.sort_unstable_by(Candidate::order);
        self.candidates
    }
}

impl KernelEntry {
    fn ban(source: Source) -> Self {
        Self {
            prefix: Prefix {
                address: source.address(),
                bits: source.prefix_bits(),
            },
            deny: None,
        }
    }

    /// The source that is banned.
    fn source(&self) -> Source {
        let source = Source::of(self.prefix.address);
        let wide = source.widened();
        match self.prefix.bits {
            56 => wide.unwrap_or(source),
            48 => wide.and_then(Source::widened).unwrap_or(source),
            _ => source,
        }
    }
}

impl Range {
    fn entry(&self, at: usize) -> KernelEntry {
        // A source is a /64: an entry that is longer means all of it.
        let prefix = match self.prefix.address {
            IpAddr::V6(v6) if self.prefix.bits > 64 => Prefix {
                address: Ipv6Addr::from_bits(v6.to_bits() & UPPER_HALF).into(),
                bits: 64,
            },
            _ => self.prefix,
        };
        KernelEntry {
            prefix,
            deny: Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Offence;
    use crate::time::UnixTime;
    use std::time::Duration;

    fn at(seconds: u64) -> Now {
        Now {
            mono: Instant::from_micros(seconds * 1_000_000),
            unix: UnixTime::from_millis(1_790_000_000_000 + seconds * 1_000),
        }
    }

    fn guard(lines: &str) -> Guard {
        let text = format!("[guard]\n{lines}");
        let config = crate::config::Config::read(&text, std::path::Path::new("/")).unwrap();
        Guard::new(at(0), &config.guard, &[7; 32], Vec::new(), Vec::new())
    }

    fn source(text: &str) -> Source {
        text.parse().unwrap()
    }

    fn list(guard: &mut Guard, now: Now) -> Vec<String> {
        let list = guard.kernel_list(now, 100, |_| false);
        list.iter().map(|entry| entry.prefix.to_string()).collect()
    }

    #[test]
    fn multicast_in_deny_never_becomes_loopback() {
        let mut config = guard("").config;
        config.deny = [("ff02::1", 128), ("2001:db8::9", 128), ("ff00::", 8)]
            .map(|(address, bits)| Prefix {
                address: address.parse().unwrap(),
                bits,
            })
            .to_vec();
        let mut guard = Guard::new(at(0), &config, &[7; 32], Vec::new(), Vec::new());
        let mut shown = list(&mut guard, at(1));
        shown.sort();
        assert_eq!(shown, ["2001:db8::/64", "ff00::/8"]);
        config.deny.pop();
        guard.reload(at(2), &config);
        let mut shown = list(&mut guard, at(2));
        shown.sort();
        assert_eq!(shown, ["2001:db8::/64", "ff02::/64"]);
    }

    #[test]
    fn bans_of_prefixes_are_held_as_such() {
        let mut guard = guard("allow = 2001:db8:3::7");
        for text in [
            "2001:db8:1::/56",
            "2001:db8:2::/48",
            "2001:db8:1::/64",
            "192.0.2.1",
        ] {
            guard.ban(at(1), source(text), None).unwrap();
        }
        let entries = guard.kernel_list(at(2), 100, |_| false);
        let mut shown: Vec<_> = entries
            .iter()
            .map(|entry| entry.prefix.to_string())
            .collect();
        shown.sort();
        assert_eq!(
            shown,
            [
                "192.0.2.1",
                "2001:db8:1::/56",
                "2001:db8:1::/64",
                "2001:db8:2::/48"
            ]
        );
        assert!(guard.ban(at(1), source("2001:db8:3::/48"), None).is_err());
        guard.kernel_holds(&entries, true);
        guard.admit(at(3), source("2001:db8:2:99::"), false, false);
        let wide = guard.ban_of(source("2001:db8:2::/48")).unwrap();
        assert_eq!(
            wide.discarded_estimated,
            u64::from(crate::limits::KERNEL_SAMPLE)
        );
    }

    fn packets(guard: &mut Guard, now: Now, text: &str, count: u32) {
        for _ in 0..count {
            guard.admit(now, source(text), false, false);
        }
    }

    fn discarded(guard: &Guard, text: &str) -> u64 {
        guard.ban_of(source(text)).unwrap().discarded_estimated
    }

    #[test]
    fn busiest_come_first_and_past_traffic_counts_less() {
        let mut guard = guard("deny = 198.51.100.0/24, 2001:db8:9::5/128");
        for (n, text) in ["192.0.2.1", "192.0.2.2", "2001:db8::/64"]
            .iter()
            .enumerate()
        {
            guard.ban(at(n as u64), source(text), None).unwrap();
        }
        let idle = ["198.51.100.0/24", "192.0.2.2", "192.0.2.1"];
        let idle_v6 = ["2001:db8:9::/64", "2001:db8::/64"];
        assert_eq!(
            list(&mut guard, at(5)),
            [idle.as_slice(), &idle_v6].concat(),
            "newest first"
        );
        packets(&mut guard, at(6), "192.0.2.1", 100);
        packets(&mut guard, at(6), "198.51.100.77", 50);
        packets(&mut guard, at(6), "2001:db8::1", 1);
        assert_eq!(
            list(&mut guard, at(6)),
            [
                "192.0.2.1",
                "198.51.100.0/24",
                "192.0.2.2",
                "2001:db8::/64",
                "2001:db8:9::/64"
            ]
        );
        // An hour later 100 packets count as two.
        packets(&mut guard, at(3_606), "192.0.2.2", 3);
        assert_eq!(list(&mut guard, at(3_606))[..2], ["192.0.2.2", "192.0.2.1"]);
        let two = guard.kernel_list(at(3_606), 1, |_| false);
        assert_eq!(two.len(), 2, "one of each family");
        assert_eq!(two[0].prefix.to_string(), "192.0.2.2");
    }

    #[test]
    fn busiest_of_many_are_found_in_little_memory() {
        let mut guard = guard("");
        for n in 0..200u32 {
            let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + n);
            let source = Source::of(address.into());
            guard.ban(at(0), source, None).unwrap();
            for _ in 0..n * 7 % 200 {
                guard.admit(at(1), source, false, false);
            }
        }
        let list = guard.kernel_list(at(1), 10, |_| false);
        let packets = |entry: &KernelEntry| match entry.prefix.address {
            std::net::IpAddr::V4(v4) => (v4.to_bits() - 0x0a00_0000) * 7 % 200,
            std::net::IpAddr::V6(_) => 0,
        };
        let busiest: Vec<u32> = list.iter().map(packets).collect();
        assert_eq!(busiest, (190..200).rev().collect::<Vec<_>>());
    }

    #[test]
    fn only_what_is_dropped_as_a_whole_is_listed() {
        let mut guard =
            guard("allow = 192.0.2.9, 203.0.113.128/25\ndeny = 203.0.113.0/24, 198.51.100.7");
        guard
            .ban(at(0), source("192.0.2.1"), Some(Duration::from_secs(10)))
            .unwrap();
        guard.ban(at(0), source("192.0.2.2"), None).unwrap();
        for n in 0..5 {
            let proven = source("192.0.2.3");
            guard.charge(at(1), proven, |_| false, Offence::Credentials, b"100", n);
        }
        let exempt = source("192.0.2.2");
        let of = |guard: &mut Guard, now| {
            let list = guard.kernel_list(now, 100, |source| source == exempt);
            list.iter()
                .map(|entry| entry.prefix.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(&mut guard, at(2)),
            ["198.51.100.7", "192.0.2.3", "192.0.2.1"]
        );
        assert_eq!(
            of(&mut guard, at(10)),
            ["198.51.100.7", "192.0.2.3"],
            "one has ended"
        );
        guard.bans.get_mut(source("192.0.2.3")).unwrap().reason = BanReason::Scan;
        assert_eq!(of(&mut guard, at(10)), ["198.51.100.7"]);
    }

    #[test]
    fn nothing_is_listed_unless_it_is_to_be_done() {
        for lines in ["mode = observe", "mode = off", "kernel_filter = off"] {
            let mut guard = guard(&format!("{lines}\ndeny = 192.0.2.0/24"));
            if !lines.ends_with("= off") {
                guard.ban(at(0), source("198.51.100.1"), None).unwrap();
            }
            assert!(list(&mut guard, at(1)).is_empty(), "{lines}");
        }
    }

    #[test]
    fn every_change_is_marked_and_commands_apart() {
        let mut guard = guard("");
        let mut before = guard.kernel_mark();
        let mut marked = |guard: &Guard| {
            let mark = guard.kernel_mark();
            let change = (
                mark.changes != before.changes,
                mark.commands != before.commands,
                mark.lifts != before.lifts,
            );
            before = mark;
            change
        };
        assert_eq!(marked(&guard), (false, false, false));
        guard
            .ban(at(0), source("192.0.2.1"), Some(Duration::from_secs(5)))
            .unwrap();
        assert_eq!(marked(&guard), (true, true, false));
        packets(&mut guard, at(1), "192.0.2.1", 3);
        assert_eq!(marked(&guard), (false, false, false));
        assert!(guard.expire(at(5)).is_some());
        assert_eq!(marked(&guard), (true, false, false));
        for n in 0..5 {
            guard.charge(
                at(6),
                source("192.0.2.3"),
                |_| false,
                Offence::Credentials,
                b"100",
                n,
            );
        }
        assert_eq!(marked(&guard), (true, false, false));
        guard.unban(at(7), source("192.0.2.3"));
        assert_eq!(marked(&guard), (true, false, true));
        let config = guard.config.clone();
        guard.reload(at(8), &config);
        assert!(marked(&guard).2);
    }

    #[test]
    fn sampled_packets_count_for_those_that_are_not_seen() {
        let mut guard = guard("deny = 198.51.100.0/24");
        for text in ["192.0.2.1", "192.0.2.2"] {
            guard.ban(at(0), source(text), None).unwrap();
        }
        let deny = |guard: &Guard| guard.bans(at(0), None, 10).items[2].discarded_estimated;
        let all = guard.kernel_list(at(1), 10, |_| false);
        let held = &all[..2];
        assert_eq!(held[1].prefix.to_string(), "192.0.2.1");
        // What was on its way when the kernel began counts as what it is.
        guard.kernel_holds(held, false);
        for text in ["192.0.2.1", "192.0.2.2", "198.51.100.9"] {
            packets(&mut guard, at(1), text, 1);
        }
        guard.kernel_holds(held, true);
        for text in ["192.0.2.1", "192.0.2.2", "198.51.100.9"] {
            packets(&mut guard, at(2), text, 2);
        }
        assert_eq!(discarded(&guard, "192.0.2.1"), 1 + 2 * 1_024);
        assert_eq!(discarded(&guard, "192.0.2.2"), 3);
        assert_eq!(deny(&guard), 1 + 2 * 1_024);
        // Another list: what stays is held on, what is new not yet, what is gone not any more.
        let other = [all[1], all[2]];
        guard.kernel_holds(&other, false);
        for text in ["192.0.2.1", "192.0.2.2", "198.51.100.9"] {
            packets(&mut guard, at(3), text, 1);
        }
        assert_eq!(discarded(&guard, "192.0.2.1"), 1 + 3 * 1_024);
        assert_eq!(discarded(&guard, "192.0.2.2"), 4);
        assert_eq!(deny(&guard), 2 + 2 * 1_024);
    }
}
