//! MESSAGE outside a dialog: who sent it, whose phones it is for, and for whom it is kept (RFC 3428).

use super::route::Lead;
use super::*;
use crate::call::{Arrival, HopTo, PageSetup, Party, RETRY_AFTER_S, Target, Written, letter};
use crate::source::{GroupId, Who};
use crate::store::MessageRow;

/// Whom a MESSAGE is for.
#[derive(Debug, Default)]
struct Readers {
    /// Phones that get it at once.
    targets: Vec<Target>,
    /// Whose phones those are, as far as it is kept for them if it does not reach them.
    keepers: Vec<Box<str>>,
    /// For whom it is kept in any case.
    absent: Vec<Box<str>>,
}

impl Endpoint {
    pub(super) fn page(&mut self, now: Now, arrival: &Arrival<'_>, identity: Who) {
        let request = arrival.request;
        if self.transactions.is_merged(request, arrival.key) {
            return self.answer(now, arrival, 482);
        }
        if request.max_forwards() == Some(0) {
            return self.answer(now, arrival, 483);
        }
        let dialled = self.called(arrival, identity);
        let users = match self.leads_to(arrival, identity, &dialled) {
            Lead::User(user) => vec![user],
            Lead::Group(group) => self.others_in(group, identity),
            Lead::Onward(to) => match to.hops.last().map(|hop| &hop.to) {
                Some(HopTo::Party(Party::User(user, _))) => vec![*user],
                Some(HopTo::Group(name)) => match self.groups.find(name.as_bytes()) {
                    Some(group) => self.others_in(group, identity),
                    None => Vec::new(),
                },
                // It may cost money, and there is neither a record nor a limit for it.
                _ => return self.answer(now, arrival, 403),
            },
            Lead::Forbidden => return self.answer(now, arrival, 403),
            Lead::Nowhere => return self.answer(now, arrival, 404),
        };
        let (sender, _, sender_name, from) = self.caller(arrival, identity);
        // Who may be anybody leaves nothing that lasts.
        let is_somebody = match identity {
            Who::User(user) => !self.may_be_forged(&arrival.flow, user),
            Who::Trunk(_) | Who::Line(_) => true,
        };
        let letter = match is_somebody && users.iter().any(|user| self.keeps(*user, identity)) {
            true => {
                let written = Written {
                    sender: &sender_name,
                    from: &from,
                    from_outside: sender.is_outside(),
                    dialled: &dialled,
                };
                letter(now, request, &written, &mut self.buffer)
            }
            false => None,
        };
        let kept = letter.is_some();
        let readers = self.readers(now, users, (arrival, identity, &sender), &dialled, kept);
        if readers.targets.is_empty() {
            return self.keep_only(
                now,
                arrival,
                &readers.absent,
                letter,
                (&sender, &sender_name),
            );
        }
        let is_full = self.is_stopping || self.pages.is_full(&sender);
        let server = match is_full {
            true => None,
            false => self.transactions.open_server(
                now.mono,
                arrival.key,
                request,
                &arrival.reply,
                Owner::NOBODY,
            ),
        };
        let (users, mut context) = self.users(now);
        let Some(server) = server else {
            return arrival.answer(503, Some(RETRY_AFTER_S), &mut context);
        };
        let mut is_kept = false;
        if let Some(letter) = &letter {
            for user in &readers.absent {
                is_kept |= (users.pages).keep(now, (user, &sender), letter, context.out);
            }
        }
        let setup = PageSetup {
            arrival: *arrival,
            server,
            sender,
            sender_name,
            from,
            dialled: String::from_utf8_lossy(&dialled).into_owned(),
            targets: readers.targets,
            letter: letter.map(Box::new),
            keepers: readers.keepers,
            is_kept,
        };
        users.pages.start(setup, &mut context);
    }

    /// Whether what does not reach this user is kept. What somebody writes to himself is not.
    fn keeps(&self, user: UserId, sender: Who) -> bool {
        let config = self.config.users.get(user.0 as usize);
        config.is_some_and(|config| config.stores_messages) && sender != Who::User(user)
    }

    /// Where the phones of these users are, and for whom it is kept if they are not there. Without `may_keep` it is for nobody.
    fn readers(
        &mut self,
        now: Now,
        users: Vec<UserId>,
        (arrival, identity, sender): (&Arrival<'_>, Who, &Party),
        dialled: &[u8],
        may_keep: bool,
    ) -> Readers {
        let mut readers = Readers::default();
        for user in users {
            let is_own = identity == Who::User(user);
            let own = is_own.then_some(&arrival.flow);
            let found = self.user_targets(now, user, own, dialled);
            let config = self.config.users.get(user.0 as usize);
            let keeps = config.filter(|_| may_keep && self.keeps(user, identity));
            let Some(name) = keeps.map(|user| Box::from(user.name.as_str())) else {
                readers.targets.extend(found);
                continue;
            };
            // What he is being sent came before. Those ahead of him take their room first.
            let is_behind = self.pages.is_delivering(&name)
                && self.pages.has_room(&name, sender, readers.absent.len());
            match found.is_empty() || is_behind {
                true => readers.absent.push(name),
                false => {
                    readers.targets.extend(found);
                    readers.keepers.push(name);
                }
            }
        }
        readers
    }

    /// No phone is there for it.
    fn keep_only(
        &mut self,
        now: Now,
        arrival: &Arrival<'_>,
        absent: &[Box<str>],
        letter: Option<MessageRow>,
        (sender, sender_name): (&Party, &str),
    ) {
        let Some(letter) = letter.filter(|_| !self.is_stopping) else {
            return self.answer(now, arrival, 480);
        };
        let mut is_kept = false;
        for user in absent {
            is_kept |= (self.pages).keep(now, (user, sender), &letter, &mut self.out);
        }
        let status = if is_kept { 202 } else { 480 };
        let fields = vec![
            ("caller", sender_name.to_owned()),
            (
                "dialled",
                String::from_utf8_lossy(&letter.dialled).into_owned(),
            ),
            ("status", status.to_string()),
        ];
        self.event(log::Level::Info, "message", fields);
        self.answer(now, arrival, status);
    }

    /// Whoever is not in the configuration has nothing waiting when he comes back.
    pub(super) fn forget_letters(&mut self) {
        let auth = &self.auth;
        let is_user = |name: &str| auth.user(name.as_bytes()).is_some();
        self.pages.reload(is_user, &mut self.out);
    }

    /// Takes what waits to users who are there now.
    pub(super) fn letters_go(&mut self, now: Now) {
        while !self.is_stopping
            && let Some((name, dialled)) = self.pages.next_due()
        {
            let user = self.auth.user(name.as_bytes());
            let targets = user.map(|user| self.user_targets(now, user, None, &dialled));
            let (users, mut context) = self.users(now);
            (users.pages).deliver(&name, &targets.unwrap_or_default(), &mut context);
        }
    }

    /// The members of a group, but whoever writes to it.
    fn others_in(&self, group: GroupId, sender: Who) -> Vec<UserId> {
        let group = self.config.groups.get(group.0 as usize);
        let members = group.map_or_else(Vec::new, |group| group.members.clone());
        let others = members.into_iter();
        others.filter(|user| sender != Who::User(*user)).collect()
    }
}
