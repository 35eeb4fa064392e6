//! What waits for users goes to them: when, and what their phones' answers mean.

use super::super::{letter, mailbox};
use super::*;

impl Pages {
    /// How many wait for users who are not there.
    pub fn kept(&self) -> usize {
        self.mailbox.count()
    }

    /// The same for one user.
    pub fn kept_for(&self, user: &str) -> usize {
        self.mailbox.waiting(user)
    }

    /// Whether one is on its way to this user: what is written to him now goes behind it. Not behind one that did not get to him
    /// before: it may be long until it does.
    pub fn is_delivering(&self, user: &str) -> bool {
        self.mailbox.is_newly_under_way(user)
    }

    /// Whether one more of this sender's can wait for him, after so many for others.
    pub fn has_room(&self, user: &str, sender: &Party, ahead: usize) -> bool {
        self.mailbox.has_room(user, &key(sender), ahead)
    }

    /// Has a letter wait for a user; `false`: there is no room.
    pub fn keep(
        &mut self,
        now: Now,
        (user, sender): (&str, &Party),
        letter: &MessageRow,
        out: &mut Outputs,
    ) -> bool {
        let who = (user, &*key(sender));
        self.mailbox.put(now, who, letter, out).is_some()
    }

    /// Users whom a new configuration does not have lose what waits for them.
    pub fn reload(&mut self, is_user: impl Fn(&str) -> bool, out: &mut Outputs) {
        self.mailbox.reload(is_user, out);
    }

    /// A phone of this user has registered, or `heard`: he is known by his address and has said something. Whoever is only heard
    /// while he is being tried has not come back since.
    pub fn is_back(&mut self, now: Instant, user: &str, heard: bool) {
        let is_news = |page: &Page| !(heard && matches!(page.origin, Origin::Mailbox(_)));
        let pages = self.slots.iter_mut().map(|(_, page)| page);
        for page in pages.filter(|page| is_news(page)) {
            for member in page.members.iter_mut().filter(|own| *own.user == *user) {
                member.is_back = true;
            }
        }
        if !(heard && self.mailbox.has_just_failed(now, user)) {
            self.is_due(user);
        }
    }

    /// The next letter of this user can go, if he has any.
    pub(super) fn is_due(&mut self, user: &str) {
        if self.mailbox.next(user).is_some() && !self.due.iter().any(|own| **own == *user) {
            self.due.push_back(user.into());
        }
    }

    /// A user to whom a letter is to be taken ([`Pages::deliver`]), and the number that it was written to.
    pub fn next_due(&mut self) -> Option<(Box<str>, Vec<u8>)> {
        while self.slots.len() < PAGES_MAX
            && let Some(user) = self.due.pop_front()
        {
            if let Some(letter) = self.mailbox.next(&user) {
                let dialled = letter.dialled.clone();
                return Some((user, dialled));
            }
        }
        None
    }

    /// Sends the next letter of a user to all his phones. If he has none it waits. `is_sure`: one of them is where nobody else can
    /// have led us; only then does silence count against the letter.
    pub fn deliver(
        &mut self,
        user: &str,
        (targets, is_sure): (&[Target], bool),
        context: &mut Context<'_>,
    ) {
        let Some(row) = self.mailbox.next(user) else {
            return;
        };
        if mailbox::is_over(row, context.now.unix) {
            let id = row.id;
            if let Some(row) = self.mailbox.remove(user, id, context.out) {
                told(&row, "message_expired", None, context);
            }
            return self.is_due(user);
        }
        if targets.is_empty() {
            return;
        }
        let (letter, from, id) = (row.id, letter::from(row), self.vacant(0));
        let mut waiting = 0;
        for target in targets.iter().take(BRANCHES_MAX) {
            let write = |mut composer: Composer<'_>| {
                composer.lines(&row.headers);
                composer.finish(None, &row.body);
            };
            let is_sent = send(&from, row.max_forwards, target, id, context, write);
            waiting += usize::from(is_sent);
        }
        if waiting == 0 {
            // No transaction was free: it is tried when he is heard from again.
            return;
        }
        self.mailbox.begins(user);
        self.insert(Page {
            serial: self.next_serial,
            origin: Origin::Mailbox(letter),
            sender_name: String::new(),
            dialled: String::new(),
            members: vec![Member {
                user: user.into(),
                keeps: false,
                waiting,
                is_taken: false,
                is_away: false,
                is_back: false,
                has_answered: !is_sure,
                kept: None,
            }],
            letter: None,
            is_kept: false,
            refusal: None,
            is_answered: true,
        });
    }

    /// A phone has taken a letter.
    pub(super) fn delivered(
        &mut self,
        user: &str,
        letter: u64,
        status: u16,
        context: &mut Context<'_>,
    ) {
        self.mailbox.ends(user);
        if let Some(row) = self.mailbox.remove(user, letter, context.out) {
            told(&row, "message_delivered", Some(status), context);
        }
    }

    /// No phone has taken it. `status`: all have refused it for good.
    pub(super) fn undelivered(
        &mut self,
        letter: u64,
        member: &Member,
        status: Option<u16>,
        context: &mut Context<'_>,
    ) {
        let user = &*member.user;
        let end = match status {
            Some(_) => {
                self.mailbox.ends(user);
                Some("message_refused")
            }
            None => (self.mailbox)
                .fails(context.now, user, letter, !member.has_answered)
                .then_some("message_unanswered"),
        };
        if let Some(end) = end
            && let Some(row) = self.mailbox.remove(user, letter, context.out)
        {
            told(&row, end, status, context);
        }
        if end.is_some() || member.is_back {
            self.is_due(user);
        }
    }

    /// Takes away what is older than it may be.
    pub(super) fn sweep(&mut self, context: &mut Context<'_>) {
        for row in self.mailbox.expire(context.now, context.out) {
            told(&row, "message_expired", None, context);
        }
    }
}

/// The log: what became of a letter.
fn told(row: &MessageRow, name: &'static str, status: Option<u16>, context: &mut Context<'_>) {
    let mut fields = vec![
        ("caller", row.sender.clone()),
        (
            "dialled",
            String::from_utf8_lossy(&row.dialled).into_owned(),
        ),
        ("user", row.user.clone()),
    ];
    fields.extend(status.map(|status| ("status", status.to_string())));
    let waited = context.now.unix.since(row.received);
    fields.push(("waited_s", waited.as_secs().to_string()));
    context.event(name, fields);
}

/// Whether a refusal says that the phone is not there at the moment: of its proxy that it has lost it, or of itself that nobody
/// reads.
pub(super) fn is_away(status: u16) -> bool {
    // 430: RFC 5626 §11.6.
    matches!(status, 404 | 408 | 410 | 430 | 480 | 503 | 504)
}

/// Whether a refusal says that this message will never be taken, be it for its content (400, 406, 413, 415, 488, 493, 513, 606),
/// since the phone knows no such requests (405, 416, 420, 501, 505), or since the user does not want it (603).
pub(super) fn is_for_good(status: u16) -> bool {
    matches!(status, 400 | 406 | 413 | 415 | 488 | 493 | 513 | 603 | 606)
        || matches!(status, 405 | 416 | 420 | 501 | 505)
}
