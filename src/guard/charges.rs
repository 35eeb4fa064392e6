//! What comes of right and wrong answers: who is known, who is banned and for how long, and what becomes of neighbours
//! of whoever fails.
//!
//! ```text
//!   wrong answer ── seen before ───────────────▶ Repeated
//!     │ source not known: enough of them ──────▶ Banned; four /64 of a /56 ban that, four of those the /48
//!     │ known: the (source, user) pair waits ──▶ Delayed
//!     └ known, over too many names ────────────▶ Banned with reason `scan`: the source is watched, not dropped
//! ```

use super::*;

/// So many banned parts of a wider prefix ban it as a whole.
const PARTS_BANNED: usize = 4;
/// A source that is known for so many accounts may fail under so many times as many names.
const NAMES_PER_ACCOUNT: u32 = 3;

impl Guard {
    /// A proven source failed as `user`. `is_exempt`: a user by address or a trunk is there, so it is known whatever it
    /// does. `fingerprint` tells its answer: the same one counts once.
    pub fn charge(
        &mut self,
        now: Now,
        source: Source,
        is_exempt: impl Fn(Source) -> bool,
        offence: Offence,
        user: &[u8],
        fingerprint: u64,
    ) -> Charged {
        let Offence::Credentials = offence;
        if self.config.mode == GuardMode::Off {
            return Charged::Counted { failures: 0 };
        }
        let is_exempt_here = is_exempt(source) || self.allow.contains(source);
        let is_known = self.is_known(now, source);
        // Whoever is watched gets fewer answers however many of his are wrong.
        if !self.watched.contains(source, now.mono) {
            self.unproven.prove(self.hasher.source_and_tag(source));
        }
        let name = self.hasher.pair(source, user);
        let Some(failures) = self.failures.touch(source, || Failures::new(now)) else {
            return Charged::Counted { failures: 0 };
        };
        if failures.has(fingerprint) {
            return Charged::Repeated;
        }
        failures.add(now, (user, name), fingerprint);
        if is_exempt_here || is_known {
            let seconds = self.delays.fail(now.mono, source, user);
            let watch = (!is_exempt_here)
                .then(|| self.watch(now, source, user))
                .flatten();
            return watch.map_or(Charged::Delayed { seconds }, |row| {
                Charged::Banned(vec![row])
            });
        }
        if let Some(over) = self.bans.find(source, now.mono) {
            // On its way when the ban began, or the ban is only observed: evidence, no second ban.
            failures.begin_anew();
            return Charged::Counted {
                failures: add_to_ban(&mut self.bans, now, over, user),
            };
        }
        if !failures.is_enough(now.mono, &self.config) {
            let counted = failures.within(now.mono, self.config.failures_window);
            return Charged::Counted {
                failures: u32::try_from(counted).unwrap_or(u32::MAX),
            };
        }
        let evidence = failures.evidence(now, BanReason::Credentials);
        let mut rows = vec![self.begin_ban(now, source, evidence)];
        let mut banned = source;
        while let Some((wide, evidence)) = self.widen(now, banned, &is_exempt) {
            rows.push(self.begin_ban(now, wide, evidence));
            banned = wide;
        }
        Charged::Banned(rows)
    }

    /// The prefix around a banned one, if now enough of its parts are banned and nobody in it is known.
    fn widen(
        &self,
        now: Now,
        source: Source,
        is_exempt: impl Fn(Source) -> bool,
    ) -> Option<(Source, Evidence)> {
        let wide = source.widened()?;
        if self.bans.contains(wide, now.mono) || self.allow.any_within(wide) {
            return None;
        }
        let mut parts = wide
            .parts()
            .filter(|part| self.bans.contains(*part, now.mono))
            .filter_map(|part| self.bans.get(part));
        let mut evidence = parts.next()?.clone();
        let mut banned = 1usize;
        for part in parts {
            banned = banned.saturating_add(1);
            evidence.failures = evidence.failures.saturating_add(part.failures);
            evidence.first_seen = evidence.first_seen.min(part.first_seen);
            evidence.last_seen = evidence.last_seen.max(part.last_seen);
            part.names.iter().for_each(|name| evidence.names.add(name));
        }
        let is_neighbour = |part: Source| is_exempt(part) || self.is_known(now, part);
        let has_neighbour = || match wide.prefix_bits() {
            48 => wide.parts().any(|part| part.parts().any(is_neighbour)),
            _ => wide.parts().any(is_neighbour),
        };
        if banned < PARTS_BANNED || has_neighbour() {
            return None;
        }
        evidence.reason = BanReason::Credentials;
        evidence.since = now.unix;
        Some((wide, evidence))
    }

    /// A known source failed as `user`: evidence if it is watched, else whether it is now.
    fn watch(&mut self, now: Now, source: Source, user: &[u8]) -> Option<BanRow> {
        if self.watched.contains(source, now.mono) {
            add_to_ban(&mut self.watched, now, source, user);
            return None;
        }
        let accounts = self
            .known
            .get(source)
            .map_or(0, |known| known.accounts.count());
        let names_max = accounts.max(1).saturating_mul(NAMES_PER_ACCOUNT);
        let failures = self.failures.touch(source, || Failures::new(now))?;
        if failures.names_failed() <= names_max {
            return None;
        }
        let evidence = failures.evidence(now, BanReason::Scan);
        Some(self.begin_ban(now, source, evidence))
    }

    /// Bans for `ban`, doubled for each step, up to `ban_max`.
    fn begin_ban(&mut self, now: Now, source: Source, evidence: Evidence) -> BanRow {
        let step = self.past.get(source).map_or(0, |past| past.step_now(now));
        let doubled = 1u32
            .checked_shl(step)
            .map_or(Duration::MAX, |n| self.config.ban.saturating_mul(n));
        let duration = doubled.min(self.config.ban_max.max(self.config.ban));
        let evidence = Evidence {
            step: step.saturating_add(1),
            until: now.unix.plus(duration),
            observed: self.is_observing(),
            ..evidence
        };
        let row = evidence.row(source);
        let table = match evidence.reason {
            BanReason::Scan => &mut self.watched,
            _ => &mut self.bans,
        };
        table.insert(source, now.mono.plus(duration), evidence);
        row
    }

    /// Whether attempts of this user from this source wait now: they are refused without a look at their answer.
    pub fn is_delayed(&self, now: Now, source: Source, user: &[u8]) -> bool {
        self.config.mode == GuardMode::Enforce && self.delays.is_delayed(now.mono, source, user)
    }

    /// A right answer of `user` came from it: known for 30 days from now. True when this is worth keeping: it was not
    /// known, or the last time that this was true is an hour ago.
    pub fn succeeded(&mut self, now: Now, source: Source, user: &[u8]) -> bool {
        if self.is_known(now, source) {
            // What others behind that address tried is still told apart.
            if let Some(failures) = self.failures.get_mut(source) {
                failures.begin_anew();
            }
        } else {
            self.failures.remove(source);
        }
        self.misconfigured.succeeded(source, user);
        self.unproven.prove(self.hasher.source_and_tag(source));
        if self.bans.get(source).is_some_and(|ban| ban.observed) {
            self.bans.remove(source);
        }
        let name = self.hasher.pair(source, user);
        let until = now.mono.plus(KNOWN);
        let Some(known) = self.known.touch(source, || Known::until(until)) else {
            return false;
        };
        known.until = until;
        known.accounts.add(name);
        let is_news = known
            .kept
            .is_none_or(|kept| now.mono.since(kept) >= KNOWN_NEWS);
        if is_news {
            known.kept = Some(now.mono);
        }
        is_news
    }

    /// A binding of `user` was kept from an earlier run: one of the accounts that are known there, if it is still known.
    pub fn restore_account(&mut self, source: Source, user: &[u8]) {
        let name = self.hasher.pair(source, user);
        if let Some(known) = self.known.get_mut(source) {
            known.accounts.add(name);
        }
    }

    /// A user who exists failed at a known source. How often he did since he last answered right, when that is news: at
    /// `failures_max`, and then each time it has doubled.
    pub fn misconfigured_news(&mut self, now: Now, source: Source, user: &str) -> Option<u32> {
        let failures = self.misconfigured.failed(now.mono, source, user);
        let first = self.config.failures_max.max(1);
        let times = failures.checked_div(first)?;
        (failures.checked_rem(first) == Some(0) && times.is_power_of_two()).then_some(failures)
    }

    /// Users whose password is wrong again and again at addresses that are known good, the worst first.
    pub fn misconfigured(&self, now: Now) -> Vec<api::Misconfigured> {
        let list = self
            .misconfigured
            .list(now.mono, self.config.failures_max.max(1));
        let items = list.into_iter();
        items
            .map(|(source, user, failures)| api::Misconfigured {
                user: user.to_owned(),
                source: source.to_string(),
                failures,
            })
            .collect()
    }

    #[inline]
    pub(super) fn is_known(&self, now: Now, source: Source) -> bool {
        self.known
            .get(source)
            .is_some_and(|known| known.until > now.mono)
    }
}

/// One more failure of whoever is banned already; how many there were.
fn add_to_ban(table: &mut Bans, now: Now, source: Source, user: &[u8]) -> u32 {
    let Some(ban) = table.get_mut(source) else {
        return 0;
    };
    ban.failures = ban.failures.saturating_add(1);
    ban.names.add(user);
    ban.last_seen = now.unix;
    ban.failures
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;

    /// Fails as this user, with an answer of its own.
    fn fail_as(guard: &mut Guard, now: Now, source: Source, user: &str) -> Charged {
        let fingerprint = now.mono.as_micros() ^ u64::from_str_radix(user, 36).unwrap_or(0) << 40;
        let user = user.as_bytes();
        guard.charge(
            now,
            source,
            |_| false,
            Offence::Credentials,
            user,
            fingerprint,
        )
    }

    /// Bans an IPv6 source by its failures; what became of that.
    fn ban_v6(
        guard: &mut Guard,
        now: Now,
        source: &str,
        is_exempt: impl Fn(Source) -> bool,
    ) -> Vec<BanRow> {
        let source = source.parse().unwrap();
        let charge = |n| guard.charge(now, source, &is_exempt, Offence::Credentials, b"100", n);
        match (0..5).map(charge).last() {
            Some(Charged::Banned(rows)) => rows,
            other => panic!("{other:?}"),
        }
    }

    fn sources(rows: &[BanRow]) -> Vec<String> {
        rows.iter().map(|row| row.source.to_string()).collect()
    }

    #[test]
    fn too_many_names_put_a_known_source_on_the_budget_of_strangers() {
        let mut guard = guard_of("");
        guard.succeeded(at(1), source(1), b"100");
        guard.succeeded(at(1), source(1), b"101");
        let mut failed = 0;
        let row = loop {
            failed += 1;
            assert!(failed <= 8, "three times two, give or take one");
            match fail_as(
                &mut guard,
                at(10 + failed),
                source(1),
                &format!("n{failed}"),
            ) {
                Charged::Delayed { .. } => {}
                other => break banned(other),
            }
            assert_eq!(
                admit(&mut guard, at(20), source(1)),
                Admission::Admit(Standing::Known)
            );
        };
        assert!(failed >= 7, "{failed}");
        assert_eq!(
            (row.reason, u64::from(row.failures)),
            (BanReason::Scan, failed)
        );
        assert!(!guard.is_banned(at(20), source(1)));
        assert_eq!(
            guard.bans.iter().count(),
            0,
            "nothing that a kernel filter would be made from"
        );
        // Live flows go on; the others are strangers, and a fresh nonce is still read.
        assert_eq!(admit(&mut guard, at(20), source(1)), Admission::Watched);
        let mut watched = |stream, is_live| guard.admit_watched(at(20), source(1), stream, is_live);
        assert_eq!(watched(false, true), Admission::Admit(Standing::Known));
        assert_eq!(watched(true, false), Admission::Admit(Standing::Proven));
        let others: Vec<_> = (0..50).map(|_| watched(false, false)).collect();
        let count = |kind| {
            others
                .iter()
                .filter(|admission| **admission == kind)
                .count()
        };
        assert_eq!(count(Admission::Admit(Standing::Unproven)), 10);
        assert_eq!((count(Admission::Peek), count(Admission::Drop)), (20, 20));
        assert_eq!(
            guard.prove(at(20), source(1)),
            Admission::Admit(Standing::Proven)
        );
        // Every further failure counts for the whole source, and the pairs wait as before.
        let charged = fail_as(&mut guard, at(21), source(1), "zz");
        assert_eq!(charged, Charged::Delayed { seconds: 1 });
        let item = guard.bans(at(21), None, 10).items.remove(0);
        assert_eq!(
            (item.reason, u64::from(item.failures)),
            (BanReason::Scan, failed + 1)
        );
        // A right answer does not end it; the end does, and so does an administrator.
        guard.succeeded(at(22), source(1), b"100");
        assert_eq!(admit(&mut guard, at(22), source(1)), Admission::Watched);
        let end = guard.next_deadline().unwrap();
        let end = at(end.as_micros() / 1_000_000);
        assert_eq!(end.unix, row.until);
        assert_eq!(guard.expire(end), Some(source(1)));
        assert_eq!(
            admit(&mut guard, end, source(1)),
            Admission::Admit(Standing::Known)
        );
        // Over a restart too.
        let known = vec![(source(1), at(22).unix)];
        let mut guard = Guard::new(at(30), &config(), &[9; 32], vec![row], known);
        assert_eq!(admit(&mut guard, at(30), source(1)), Admission::Watched);
        assert!(guard.unban(at(30), source(1)));
        assert_eq!(
            admit(&mut guard, at(30), source(1)),
            Admission::Admit(Standing::Known)
        );
    }

    #[test]
    fn accounts_of_kept_bindings_count() {
        let known = vec![(source(1), at(0).unix)];
        let mut guard = Guard::new(at(1), &config(), &[7; 32], Vec::new(), known);
        for user in 0..20u32 {
            guard.restore_account(source(1), &user.to_be_bytes());
            guard.restore_account(source(2), &user.to_be_bytes());
        }
        for n in 0..30 {
            let charged = fail_as(&mut guard, at(10 + n), source(1), &format!("n{n}"));
            assert_eq!(charged, Charged::Delayed { seconds: 1 }, "{n}");
        }
        assert_eq!(guard.ban_count(), 0);
    }

    #[test]
    fn users_by_address_and_allow_are_never_watched() {
        let mut guard = guard_of("allow = 192.0.2.2");
        for n in 0..200 {
            let user = format!("n{n}");
            for source in [source(1), source(2)] {
                let charged = guard.charge(
                    at(n),
                    source,
                    |other| other == super::tests::source(1),
                    Offence::Credentials,
                    user.as_bytes(),
                    n,
                );
                assert!(
                    matches!(charged, Charged::Delayed { .. }),
                    "{n}: {charged:?}"
                );
            }
        }
        assert_eq!(guard.ban_count(), 0);
    }

    #[test]
    fn four_of_a_56_ban_it_and_four_of_those_the_48() {
        let mut guard = guard_of("");
        let nobody = |_| false;
        for n in 0..3 {
            let rows = ban_v6(
                &mut guard,
                at(1 + n),
                &format!("2001:db8:1:10{n}::"),
                nobody,
            );
            assert_eq!(rows.len(), 1);
        }
        ban_v6(&mut guard, at(4), "2001:db8:1:200::", nobody);
        let inside: Source = "2001:db8:1:1ff::7".parse().unwrap();
        assert_eq!(
            admit(&mut guard, at(5), inside),
            Admission::Admit(Standing::Unproven)
        );
        let rows = ban_v6(&mut guard, at(5), "2001:db8:1:103::", nobody);
        assert_eq!(
            sources(&rows),
            ["2001:db8:1:103::/64", "2001:db8:1:100::/56"]
        );
        assert_eq!((rows[1].failures, rows[1].first_seen), (20, at(1).unix));
        assert_eq!(
            (rows[1].reason, rows[1].since),
            (BanReason::Credentials, at(5).unix)
        );
        assert_eq!(admit(&mut guard, at(5), inside), Admission::Drop);
        assert!(guard.is_banned(at(5), inside));
        let outside: Source = "2001:db8:1:0ff::".parse().unwrap();
        assert_eq!(
            admit(&mut guard, at(5), outside),
            Admission::Admit(Standing::Unproven)
        );
        // Three more like it.
        let mut last = Vec::new();
        for block in [2, 3, 4] {
            for n in 0..4 {
                let source = format!("2001:db8:1:{block}{n:02}::");
                if !guard.is_banned(at(6), source.parse().unwrap()) {
                    last = ban_v6(&mut guard, at(6), &source, nobody);
                }
            }
        }
        assert_eq!(last.last().unwrap().source.to_string(), "2001:db8:1::/48");
        assert_eq!(admit(&mut guard, at(7), outside), Admission::Drop);
        assert_eq!(
            admit(&mut guard, at(7), "2001:db8:2::".parse().unwrap()),
            Admission::Admit(Standing::Unproven)
        );
        // Shown and lifted as what they are; kept too.
        let wide: Source = "2001:db8:1::/48".parse().unwrap();
        let page = guard.bans(at(7), None, 100);
        let shown = page
            .items
            .iter()
            .filter(|ban| ban.source == "2001:db8:1::/48");
        assert_eq!(
            shown.map(|ban| ban.discarded_estimated).collect::<Vec<_>>(),
            [1]
        );
        let mut restarted = Guard::new(at(8), &config(), &[9; 32], last, Vec::new());
        assert_eq!(admit(&mut restarted, at(8), outside), Admission::Drop);
        assert!(guard.unban(at(8), wide));
        assert_eq!(
            admit(&mut guard, at(8), outside),
            Admission::Admit(Standing::Unproven)
        );
        assert_eq!(
            admit(&mut guard, at(8), inside),
            Admission::Drop,
            "the /56 is another ban"
        );
    }

    #[test]
    fn never_a_prefix_with_somebody_known_in_it() {
        let known: Source = "2001:db8:1:1ab::".parse().unwrap();
        for case in 0..3 {
            let allow = if case == 0 {
                "allow = 2001:db8:1:1ab::/64"
            } else {
                ""
            };
            let mut guard = guard_of(allow);
            if case == 1 {
                guard.succeeded(at(1), known, b"100");
            }
            let is_exempt = |source| case == 2 && source == known;
            for block in 1..=5 {
                for n in 0..5 {
                    let source = format!("2001:db8:1:{block}{n:02}::");
                    if guard.is_banned(at(2), source.parse().unwrap()) {
                        continue;
                    }
                    let rows = ban_v6(&mut guard, at(2), &source, is_exempt);
                    let is_wide = block > 1 && n == 3;
                    assert_eq!(rows.len(), 1 + usize::from(is_wide), "{case}: {source}");
                }
            }
            assert!(!guard.is_banned(at(3), known), "{case}");
            assert!(
                !guard.is_banned(at(3), "2001:db8:1:999::".parse().unwrap()),
                "{case}"
            );
        }
    }

    #[test]
    fn a_phone_with_an_old_password_is_news_when_it_has_failed_twice_as_often() {
        let mut guard = guard_of("");
        guard.succeeded(at(1), source(7), b"204");
        let mut news = Vec::new();
        for n in 0..41 {
            news.extend(guard.misconfigured_news(at(2 + n), source(7), "205"));
        }
        assert_eq!(news, [5, 10, 20, 40]);
        let list = guard.misconfigured(at(50));
        assert_eq!(list.len(), 1);
        let phone = &list[0];
        assert_eq!(
            (&*phone.user, &*phone.source, phone.failures),
            ("205", "192.0.2.7", 41)
        );
        guard.succeeded(at(60), source(7), b"205");
        assert!(guard.misconfigured(at(60)).is_empty());
    }

    #[test]
    fn whoever_answers_no_challenge_on_a_stream_gets_fewer_and_fewer() {
        let mut guard = guard_of("");
        let mut answers = [0; 4];
        for ms in 0..240_000u64 {
            if guard.may_challenge(at_ms(5_000 + ms), source(1)) {
                answers[(ms / 60_000) as usize] += 1;
            }
        }
        assert!((20..=40).contains(&answers[0]), "{answers:?}");
        assert!(
            answers[1..].iter().all(|minute| (1..=10).contains(minute)),
            "{answers:?}"
        );
        guard.succeeded(at(300), source(1), b"100");
        assert!((0..20).all(|_| guard.may_challenge(at(300), source(1))));
    }

    #[test]
    fn what_phones_do_not_send_costs_answers_too() {
        let mut guard = guard_of("");
        let answers = |guard: &mut Guard, source, start: u64| {
            let of_second = |second| {
                let now = at(start + second);
                let is_in = admit(guard, now, source) == Admission::Admit(Standing::Unproven);
                u32::from(is_in && guard.may_answer(now, source, 600, 500))
            };
            (0..60).map(of_second).sum::<u32>()
        };
        for _ in 0..50 {
            guard.suspect(at(1), source(1));
        }
        let bad = answers(&mut guard, source(1), 100);
        let good = answers(&mut guard, source(2), 200);
        assert!(bad <= 7 && good >= 25, "{bad}, {good}");
    }
}
