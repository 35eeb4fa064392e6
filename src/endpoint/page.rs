//! MESSAGE outside a dialog: who sent it, and whose phones it is for (RFC 3428).

use super::route::Lead;
use super::*;
use crate::call::{Arrival, HopTo, PageSetup, Party, RETRY_AFTER_S};
use crate::source::{GroupId, Who};

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
        let mut targets = Vec::with_capacity(1);
        for user in users {
            let own = (identity == Who::User(user)).then_some(&arrival.flow);
            targets.extend(self.user_targets(now, user, own, &dialled));
        }
        if targets.is_empty() {
            return self.answer(now, arrival, 480);
        }
        let (sender, _, sender_name, from) = self.caller(arrival, identity);
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
        let setup = PageSetup {
            arrival: *arrival,
            server,
            sender,
            sender_name,
            from,
            dialled: String::from_utf8_lossy(&dialled).into_owned(),
            targets,
        };
        users.pages.start(setup, &mut context);
    }

    /// The members of a group, but whoever writes to it.
    fn others_in(&self, group: GroupId, sender: Who) -> Vec<UserId> {
        let group = self.config.groups.get(group.0 as usize);
        let members = group.map_or_else(Vec::new, |group| group.members.clone());
        let others = members.into_iter();
        others.filter(|user| sender != Who::User(*user)).collect()
    }
}
