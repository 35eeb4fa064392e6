//! SUBSCRIBE: who may subscribe to what (RFC 6665 §4.2.1).

use super::identity::Unknown;
use super::invite::dialled_number;
use super::*;
use crate::call::{Arrival, RETRY_AFTER_S};
use crate::source::Who;
use crate::subscription::{Asked, Package, Subscriber, refuse};

impl Endpoint {
    /// A SUBSCRIBE outside a dialog.
    pub(super) fn subscribe(&mut self, now: Now, arrival: &Arrival<'_>, identity: Who) {
        let request = arrival.request;
        let asked = match Asked::of(request) {
            Ok(asked) => asked,
            Err(status) => {
                let (_, mut context) = self.users(now);
                return refuse(arrival, status, &mut context);
            }
        };
        if !self.is_ours(request, &arrival.flow) {
            return self.answer(now, arrival, 404);
        }
        // Messages wait for users: a trunk has none, and a user his own. What number a phone has for its mailbox is no matter,
        // unless it is another user's.
        let mut resource = request.uri().map(dialled_number).unwrap_or_default();
        let own = self.auth.user(&resource);
        if asked.package == Package::Dialog {
            // Under their names, however those were written.
            let name = std::str::from_utf8(&resource).unwrap_or_default();
            let group = lamps::group(&self.config, name).map(|group| &group.name);
            let user = own.and_then(|own| self.config.users.get(own.0 as usize));
            let Some(name) = user.map(|user| &user.name).or(group) else {
                return self.answer(now, arrival, 404);
            };
            resource = name.as_bytes().to_vec();
        }
        let user = match (identity, own) {
            // Whose calls there are everybody may see.
            (Who::User(user), _) if asked.package == Package::Dialog => user,
            (Who::User(user), None) => user,
            (Who::User(user), Some(own)) if own == user => user,
            _ => return self.answer(now, arrival, 403),
        };
        let name = self.config.users.get(user.0 as usize);
        let name = name.map(|own| own.name.clone()).unwrap_or_default();
        let may_be_forged = self.may_be_forged(&arrival.flow, user);
        let is_stopping = self.is_stopping;
        let (users, mut context) = self.users(now);
        if is_stopping {
            return arrival.answer(503, Some(RETRY_AFTER_S), &mut context);
        }
        let lamps = sight(users.calls, users.config, users.auth);
        let subscriber = Subscriber {
            user,
            name: &name,
            may_be_forged,
        };
        (users.subscriptions).begin(arrival, &asked, subscriber, &resource, &lamps, &mut context);
    }

    /// A request with a To tag that no call knows: of a subscription, or of nothing.
    pub(super) fn within_subscription(&mut self, now: Now, unknown: &Unknown<'_>) {
        let Some(located) = (self.subscriptions).locate(unknown.request(), unknown.flow()) else {
            // A To tag proves nothing; strangers get silence.
            if self.may_tell(now, unknown.flow().source(), unknown.standing) {
                self.answer_unknown(unknown, 481);
            }
            return;
        };
        let Some(arrival) = self.of_subscription(now, located, unknown) else {
            return;
        };
        if let Some(status) = self.unsupported_extension(arrival.request, &arrival.flow) {
            self.send(now, &arrival, status);
            return;
        }
        let (users, mut context) = self.users(now);
        let lamps = sight(users.calls, users.config, users.auth);
        (users.subscriptions).receive(located, &arrival, &lamps, &mut context);
    }
}
