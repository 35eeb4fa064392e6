//! MESSAGEs that wait for users who were not there: how many there may be, in which order they go, and when they are over. What
//! is said of them to the outside is `page`'s matter.
//!
//! ```text
//!              put           begins               taken by a phone, refused for good, too old
//!   (nothing) ─────▶ waits ─────────▶ under way ─────────────────────────────────────────────▶ (nothing)
//!                      ▲                  │ nobody there
//!                      └──────────────────┘
//! ```
//!
//! They go in the order in which they came. One that has been tried often goes behind the others: what never gets to a phone (too
//! long for its network, say) keeps none of them back. If no phone ever says anything to it, it is given up.
//!
//! Each change is kept with the state file, so that a restart finds what was accepted. A message that a phone took in the moment
//! of a power cut may come to it twice; none is lost.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::limits::{
    LETTER_RETRY, LETTER_SILENCES_MAX, LETTER_SILENT_AGE, LETTER_SWEEP, LETTER_TRIES, LETTERS_MAX,
    LETTERS_PER_PAIR_MAX, LETTERS_PER_SENDER_MAX, LETTERS_PER_USER_MAX,
};
use crate::store::MessageRow;
use crate::time::UnixTime;

/// One that waits.
#[derive(Clone, Debug)]
struct Letter {
    row: MessageRow,
    /// How often it did not get there, in this run, and how often of these no phone said anything.
    tries: u32,
    silences: u32,
}

/// Of one user.
#[derive(Clone, Debug, Default)]
struct Waiting {
    /// Never empty.
    letters: VecDeque<Letter>,
    /// The first one is on its way to him.
    is_under_way: bool,
    /// When it last did not get there.
    failed: Option<Instant>,
}

/// All that wait. By the users' names, since a reload changes numbers.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    users: BTreeMap<Box<str>, Waiting>,
    count: usize,
    /// How many of each sharer.
    shares: BTreeMap<Box<str>, usize>,
    next_id: u64,
    /// When it is looked for those that are over.
    sweep_at: Option<Instant>,
}

impl Mailbox {
    /// What was kept.
    pub fn new(now: Now, mut rows: Vec<MessageRow>) -> Self {
        let mut mailbox = Self {
            users: BTreeMap::new(),
            count: 0,
            shares: BTreeMap::new(),
            next_id: 1,
            sweep_at: None,
        };
        rows.sort_by_key(|row| row.id);
        for mut row in rows {
            mailbox.next_id = mailbox.next_id.max(row.id.saturating_add(1));
            if row.sharer.is_empty() {
                row.sharer.clone_from(&row.sender);
            }
            mailbox.insert(now, row);
        }
        mailbox
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The same for one user.
    pub fn waiting(&self, user: &str) -> usize {
        self.users.get(user).map_or(0, |user| user.letters.len())
    }

    /// The next one for a user, if he has any and none is under way.
    pub fn next(&self, user: &str) -> Option<&MessageRow> {
        let user = self.users.get(user).filter(|user| !user.is_under_way)?;
        user.letters.front().map(|letter| &letter.row)
    }

    /// Whether one is on its way to this user for the first time: what did not get there once may never do.
    pub fn is_newly_under_way(&self, user: &str) -> bool {
        let user = self.users.get(user).filter(|user| user.is_under_way);
        let first = user.and_then(|user| user.letters.front());
        first.is_some_and(|letter| letter.tries == 0)
    }

    /// Whether it is too early to try a user again who is only heard from.
    pub fn has_just_failed(&self, now: Instant, user: &str) -> bool {
        let failed = self.users.get(user).and_then(|user| user.failed);
        failed.is_some_and(|at| now.since(at) < LETTER_RETRY)
    }

    /// Whether one more of this sharer's can wait for a user, after so many for others.
    pub fn has_room(&self, user: &str, sharer: &str, ahead: usize) -> bool {
        let letters = self
            .users
            .get(user)
            .into_iter()
            .flat_map(|user| &user.letters);
        let own = letters
            .filter(|letter| *letter.row.sharer == *sharer)
            .count();
        self.waiting(user) < LETTERS_PER_USER_MAX
            && self.count + ahead < LETTERS_MAX
            && own < LETTERS_PER_PAIR_MAX
            && self.shares.get(sharer).copied().unwrap_or(0) + ahead < LETTERS_PER_SENDER_MAX
    }

    /// Has a copy of `letter` wait for a user; its id, or that of the same request which waits already. `None`: there is no room.
    pub fn put(
        &mut self,
        now: Now,
        (user, sharer): (&str, &str),
        letter: &MessageRow,
        out: &mut Outputs,
    ) -> Option<u64> {
        let own = self.users.get(user).map(|user| &user.letters);
        let is_same =
            |row: &&MessageRow| row.request == letter.request && row.sender == letter.sender;
        let mut rows = own.into_iter().flatten().map(|letter| &letter.row);
        if let Some(same) = rows.find(is_same) {
            return Some(same.id);
        }
        if !self.has_room(user, sharer, 0) {
            return None;
        }
        let row = MessageRow {
            id: self.next_id,
            user: user.to_owned(),
            sharer: sharer.to_owned(),
            ..letter.clone()
        };
        self.next_id = self.next_id.saturating_add(1);
        out.keep(Change::Message(Box::new(row.clone())));
        let id = row.id;
        self.insert(now, row);
        Some(id)
    }

    fn insert(&mut self, now: Now, row: MessageRow) {
        self.count += 1;
        *self.shares.entry(row.sharer.as_str().into()).or_default() += 1;
        self.sweep_at.get_or_insert(now.mono.plus(LETTER_SWEEP));
        let user = self.users.entry(row.user.as_str().into()).or_default();
        user.letters.push_back(Letter {
            row,
            tries: 0,
            silences: 0,
        });
    }

    /// One waits no longer.
    pub fn remove(&mut self, user: &str, id: u64, out: &mut Outputs) -> Option<MessageRow> {
        let waiting = self.users.get_mut(user)?;
        let at = waiting.place(id)?;
        let Letter { row, .. } = waiting.letters.remove(at)?;
        self.count -= 1;
        if let Some(share) = self.shares.get_mut(&*row.sharer) {
            *share -= 1;
            if *share == 0 {
                self.shares.remove(&*row.sharer);
            }
        }
        if waiting.letters.is_empty() {
            self.users.remove(user);
        }
        out.keep(Change::MessageGone(id));
        Some(row)
    }

    /// The first one is on its way to its user.
    pub fn begins(&mut self, user: &str) {
        if let Some(user) = self.users.get_mut(user) {
            user.is_under_way = true;
        }
    }

    /// It is so no longer, and will be removed.
    pub fn ends(&mut self, user: &str) {
        if let Some(user) = self.users.get_mut(user) {
            (user.is_under_way, user.failed) = (false, None);
        }
    }

    /// The one of this id did not get to its user, and waits as before, or behind the others. `is_silent`: no phone said anything.
    /// `true`: that was so too often and for too long.
    pub fn fails(&mut self, now: Now, user: &str, id: u64, is_silent: bool) -> bool {
        let Some(user) = self.users.get_mut(user) else {
            return false;
        };
        (user.is_under_way, user.failed) = (false, Some(now.mono));
        let at = user.place(id);
        let Some(letter) = at.and_then(|at| user.letters.get_mut(at)) else {
            return false;
        };
        letter.tries = letter.tries.saturating_add(1);
        letter.silences = letter.silences.saturating_add(u32::from(is_silent));
        let waited = now.unix.since(letter.row.received);
        let is_lost = letter.silences >= LETTER_SILENCES_MAX && waited >= LETTER_SILENT_AGE;
        if letter.tries.is_multiple_of(LETTER_TRIES) && at == Some(0) {
            user.letters.rotate_left(1);
        }
        is_lost
    }

    /// Users whom a new configuration does not have lose what waits for them.
    pub fn reload(&mut self, is_user: impl Fn(&str) -> bool, out: &mut Outputs) {
        let gone = |row: &MessageRow| !is_user(&row.user);
        self.remove_all(gone, out);
    }

    /// When [`Mailbox::expire`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.sweep_at
    }

    /// Those that are over, taken out, the first one first.
    pub fn expire(&mut self, now: Now, out: &mut Outputs) -> Vec<MessageRow> {
        if self.sweep_at.is_none_or(|at| at > now.mono) {
            return Vec::new();
        }
        let over = self.remove_all(|row| is_over(row, now.unix), out);
        self.sweep_at = (self.count > 0).then(|| now.mono.plus(LETTER_SWEEP));
        over
    }

    fn remove_all(
        &mut self,
        is_gone: impl Fn(&MessageRow) -> bool,
        out: &mut Outputs,
    ) -> Vec<MessageRow> {
        let rows = self.users.values().flat_map(|user| &user.letters);
        let gone: Vec<(Box<str>, u64)> = rows
            .map(|letter| &letter.row)
            .filter(|row| is_gone(row))
            .map(|row| (row.user.as_str().into(), row.id))
            .collect();
        gone.into_iter()
            .filter_map(|(user, id)| self.remove(&user, id, out))
            .collect()
    }
}

impl Waiting {
    /// Where the one of this id is.
    fn place(&self, id: u64) -> Option<usize> {
        self.letters.iter().position(|letter| letter.row.id == id)
    }
}

/// Whether it means nothing any more.
pub(super) fn is_over(row: &MessageRow, now: UnixTime) -> bool {
    row.expires <= now
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Output;

    fn at(seconds: u64) -> Now {
        Now {
            mono: Instant::from_micros(seconds * 1_000_000),
            unix: UnixTime::from_millis(seconds * 1_000),
        }
    }

    fn letter(request: &str) -> MessageRow {
        MessageRow {
            sender: "alice".into(),
            request: request.into(),
            expires: UnixTime::from_millis(10_000_000),
            ..MessageRow::default()
        }
    }

    fn ids(mailbox: &Mailbox, user: &str) -> Vec<u64> {
        let user = mailbox.users.get(user);
        user.map_or_else(Vec::new, |user| {
            user.letters.iter().map(|own| own.row.id).collect()
        })
    }

    /// What was kept, in few words.
    fn kept(out: &mut Outputs) -> Vec<String> {
        let mut kept = Vec::new();
        for output in out.iter() {
            match output {
                Output::Keep(Change::Message(row)) => kept.push(format!("{} {}", row.id, row.user)),
                Output::Keep(Change::MessageGone(id)) => kept.push(format!("-{id}")),
                other => panic!("{other:?}"),
            }
        }
        out.clear();
        kept
    }

    #[test]
    fn they_wait_in_order_each_once_and_go_on_after_a_restart() {
        let (mut mailbox, mut out) = (Mailbox::new(at(0), Vec::new()), Outputs::default());
        for (user, request) in [("bob", "1"), ("carol", "1"), ("bob", "2"), ("bob", "1")] {
            assert!(
                mailbox
                    .put(at(0), (user, "alice"), &letter(request), &mut out)
                    .is_some()
            );
        }
        assert_eq!(kept(&mut out), ["1 bob", "2 carol", "3 bob"]);
        assert_eq!((mailbox.count(), mailbox.waiting("bob")), (3, 2));
        assert_eq!(mailbox.next("bob").map(|row| row.id), Some(1));
        mailbox.begins("bob");
        assert!(mailbox.next("bob").is_none() && mailbox.is_newly_under_way("bob"));
        assert!(!mailbox.fails(at(10), "bob", 1, false));
        assert!(mailbox.has_just_failed(at(69).mono, "bob"));
        assert!(!mailbox.has_just_failed(at(70).mono, "bob"));
        assert!(mailbox.remove("bob", 1, &mut out).is_some());
        assert!(mailbox.remove("bob", 1, &mut out).is_none());
        assert_eq!(kept(&mut out), ["-1"]);

        // As the state file hands them over, in any order.
        let rows = [("bob", 7), ("bob", 3)].map(|(user, id)| MessageRow {
            id,
            user: user.into(),
            ..letter(&id.to_string())
        });
        let mut mailbox = Mailbox::new(at(0), rows.into());
        assert_eq!(ids(&mailbox, "bob"), [3, 7]);
        assert_eq!(
            mailbox.put(at(0), ("bob", "alice"), &letter("7"), &mut out),
            Some(7)
        );
        assert_eq!(
            mailbox.put(at(0), ("bob", "alice"), &letter("8"), &mut out),
            Some(8)
        );
    }

    #[test]
    fn a_full_one_takes_none_and_loses_none() {
        let (mut mailbox, mut out) = (Mailbox::new(at(0), Vec::new()), Outputs::default());
        for index in 0..LETTERS_MAX {
            let user = (index / LETTERS_PER_USER_MAX).to_string();
            let letter = letter(&index.to_string());
            let sharer = format!("s{}", index / LETTERS_PER_PAIR_MAX);
            let who = (user.as_str(), sharer.as_str());
            assert!(mailbox.put(at(0), who, &letter, &mut out).is_some());
            let is_last = (index + 1) % LETTERS_PER_USER_MAX == 0;
            let one_more = self::letter("one more");
            assert!(
                !is_last
                    || mailbox
                        .put(at(0), (&user, "zoe"), &one_more, &mut out)
                        .is_none()
            );
        }
        assert!(
            mailbox
                .put(at(0), ("new", "zoe"), &letter("x"), &mut out)
                .is_none()
        );
        assert_eq!(mailbox.count(), LETTERS_MAX);
        assert!(mailbox.remove("0", 1, &mut out).is_some());
        assert!(
            mailbox
                .put(at(0), ("new", "zoe"), &letter("x"), &mut out)
                .is_some()
        );
    }

    #[test]
    fn one_sender_leaves_room_for_others() {
        let (mut mailbox, mut out) = (Mailbox::new(at(0), Vec::new()), Outputs::default());
        for index in 0..LETTERS_PER_SENDER_MAX {
            let user = (index / LETTERS_PER_PAIR_MAX).to_string();
            let one = letter(&index.to_string());
            assert!((mailbox.put(at(0), (&user, "alice"), &one, &mut out)).is_some());
            if (index + 1) % LETTERS_PER_PAIR_MAX == 0 {
                assert!(!mailbox.has_room(&user, "alice", 0) && mailbox.has_room(&user, "zoe", 0));
            }
        }
        assert!(!mailbox.has_room("new", "alice", 0) && mailbox.has_room("new", "zoe", 0));
        let more = letter("more");
        assert!((mailbox.put(at(0), ("new", "alice"), &more, &mut out)).is_none());
        // What waits already is told again that it does.
        assert_eq!(
            mailbox.put(at(0), ("0", "alice"), &letter("0"), &mut out),
            Some(1)
        );
        assert!(mailbox.remove("0", 1, &mut out).is_some());
        assert_eq!(
            mailbox.shares.get("alice"),
            Some(&(LETTERS_PER_SENDER_MAX - 1))
        );
        assert!(mailbox.has_room("new", "alice", 0));
        assert!(
            !mailbox.has_room("new", "alice", 1),
            "another's comes first"
        );
        assert!((mailbox.put(at(0), ("new", "alice"), &more, &mut out)).is_some());
        mailbox.reload(|_| false, &mut out);
        assert!(mailbox.shares.is_empty());
    }

    /// A number behind a trunk may be a user's name.
    #[test]
    fn a_share_is_whose_it_was_after_a_restart() {
        let (mut mailbox, mut out) = (Mailbox::new(at(0), Vec::new()), Outputs::default());
        assert!((mailbox.put(at(0), ("bob", "trunk:t"), &letter("1"), &mut out)).is_some());
        let rows = out.iter().map(|output| match output {
            Output::Keep(Change::Message(row)) => (**row).clone(),
            other => panic!("{other:?}"),
        });
        let earlier = MessageRow {
            id: 9,
            user: "bob".into(),
            ..letter("9")
        };
        let rows: Vec<MessageRow> = rows.chain([earlier]).collect();
        let mut mailbox = Mailbox::new(at(0), rows);
        assert_eq!(mailbox.shares.get("trunk:t"), Some(&1));
        assert_eq!(mailbox.shares.get("alice"), Some(&1), "of an earlier build");
        assert!(mailbox.remove("bob", 1, &mut out).is_some());
        assert!(mailbox.remove("bob", 9, &mut out).is_some());
        assert!(mailbox.shares.is_empty());
    }

    #[test]
    fn what_does_not_get_there_goes_behind_the_others_and_at_last_away() {
        let (mut mailbox, mut out) = (Mailbox::new(at(0), Vec::new()), Outputs::default());
        for request in ["1", "2", "3"] {
            assert!((mailbox.put(at(0), ("bob", "alice"), &letter(request), &mut out)).is_some());
        }
        let fails = |mailbox: &mut Mailbox, now: u64, is_silent: bool| {
            let id = mailbox.next("bob").expect("one waits").id;
            mailbox.begins("bob");
            (id, mailbox.fails(at(now), "bob", id, is_silent))
        };
        let tried: Vec<u64> = (0..7).map(|now| fails(&mut mailbox, now, true).0).collect();
        assert_eq!(tried, [1, 1, 1, 2, 2, 2, 3]);
        assert_eq!(ids(&mailbox, "bob"), [3, 1, 2]);
        mailbox.begins("bob");
        assert!(
            !mailbox.is_newly_under_way("bob"),
            "the others need not wait for it"
        );
        assert!(!mailbox.fails(at(8), "bob", 3, true));
        assert!(!mailbox.fails(at(9), "bob", 3, true));
        assert_eq!(ids(&mailbox, "bob"), [1, 2, 3]);
        // A phone that says that it is not there now is one that will have it.
        assert!((10..60).all(|now| !fails(&mut mailbox, now, false).1));
        let day = LETTER_SILENT_AGE.as_secs();
        assert!(
            (60..day)
                .step_by(60)
                .all(|now| !fails(&mut mailbox, now, true).1)
        );
        assert!(fails(&mut mailbox, day, true).1);
        // After few tries it waits as long as all others.
        let late = MessageRow {
            received: UnixTime::from_millis(day * 1_000),
            ..letter("4")
        };
        assert!(
            mailbox
                .put(at(day), ("carol", "alice"), &late, &mut out)
                .is_some()
        );
        let id = mailbox.next("carol").expect("one waits").id;
        assert!((1..10).all(|n| !mailbox.fails(at((n + 1) * day), "carol", id, true)));
        assert!(mailbox.fails(at(11 * day), "carol", id, true));
    }

    #[test]
    fn old_ones_go_and_so_do_those_of_users_who_are_gone() {
        let (mut mailbox, mut out) = (Mailbox::new(at(0), Vec::new()), Outputs::default());
        let short = MessageRow {
            expires: UnixTime::from_millis(3_700_000),
            ..letter("short")
        };
        assert_eq!(mailbox.next_deadline(), None);
        for (user, letter) in [("bob", &letter("1")), ("bob", &short), ("carol", &short)] {
            assert!(
                mailbox
                    .put(at(1), (user, "alice"), letter, &mut out)
                    .is_some()
            );
        }
        assert_eq!(mailbox.next_deadline(), Some(at(3_601).mono));
        assert!(mailbox.expire(at(3_600), &mut out).is_empty());
        assert!(mailbox.expire(at(3_601), &mut out).is_empty());
        kept(&mut out);
        let over = mailbox.expire(at(7_201), &mut out);
        assert_eq!(over.iter().map(|row| row.id).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(kept(&mut out), ["-2", "-3"]);
        mailbox.reload(|user| user != "bob", &mut out);
        assert_eq!(kept(&mut out), ["-1"]);
        assert!(mailbox.expire(at(10_801), &mut out).is_empty());
        assert_eq!((mailbox.count(), mailbox.next_deadline()), (0, None));
    }
}
