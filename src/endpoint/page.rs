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
            let targets = targets.unwrap_or_default();
            // A forged datagram leads letters elsewhere, where nobody takes them.
            let is_proven =
                |own: &Target| !user.is_some_and(|user| self.may_be_forged(&own.flow, user));
            let is_sure = targets.iter().any(is_proven);
            let (users, mut context) = self.users(now);
            (users.pages).deliver(&name, (&targets, is_sure), &mut context);
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::source::Transport;
    use crate::time::UnixTime;

    fn at(micros: u64) -> Now {
        Now {
            mono: Instant::from_micros(micros),
            unix: UnixTime::from_millis(1_772_366_400_000 + micros / 1_000),
        }
    }

    /// Whoever forges datagrams of a user by address leads letters to where nobody is.
    #[test]
    fn silence_at_a_forged_place_takes_no_letter_away() {
        let text = "[server]\nlisten = udp:192.0.2.1:5060\n\
            [user gate]\naddresses = 192.0.2.50\nstore_messages = yes\n";
        let config = Config::read_bytes(text.as_bytes(), Path::new("/tmp/x.ini")).unwrap();
        let kept = Snapshot {
            messages: vec![MessageRow {
                id: 1,
                user: "gate".into(),
                sender: "alice".into(),
                from_user: b"alice".to_vec(),
                dialled: b"gate".to_vec(),
                max_forwards: 70,
                received: at(0).unix,
                expires: at(20 * 86_400 * 1_000_000).unix,
                ..MessageRow::default()
            }],
            ..Snapshot::default()
        };
        let mut endpoint = Endpoint::new(at(0), config, [7; 32], kept);
        let flow = Flow {
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "192.0.2.50:9999".parse().unwrap(),
            connection: None,
        };
        let mut tried = 0;
        for number in 1..=12_u64 {
            let begun = number * 3 * 3_600 * 1_000_000;
            let options = format!(
                "OPTIONS sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.50:9999;branch=z9hG4bK{number}\r\n\
                 From: <sip:gate@192.0.2.1>;tag=a\r\nTo: <sip:192.0.2.1>\r\nCall-ID: o{number}\r\nCSeq: 1 OPTIONS\r\n\
                 Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
            );
            let bytes = options.as_bytes();
            endpoint.clear_outputs();
            endpoint.handle_input(at(begun), Input::Datagram { flow, bytes });
            tried += usize::from(endpoint.pages.count() == 1);
            while endpoint.pages.count() > 0
                && let Some(next) = endpoint.next_deadline()
            {
                endpoint.clear_outputs();
                let now = next.as_micros().max(begun);
                endpoint.handle_input(at(now), Input::Tick);
            }
        }
        assert_eq!((tried, endpoint.pages.kept()), (12, 1));
    }
}
