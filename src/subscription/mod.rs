//! Event notification (RFC 6665), our side as notifier: who has subscribed to what, and the NOTIFYs that tell him.
//!
//! ```text
//!              SUBSCRIBE             Expires: 0, or its time is over
//!              / 200, NOTIFY         / NOTIFY terminated
//!   (nothing) ──────────────▶ Active ────────────────────────────────▶ (nothing)
//!                             │ ▲  │   a NOTIFY is refused, or not answered
//!                             └─┘  └─────────────────────────────────▶ (nothing)
//!                 SUBSCRIBE / 200, NOTIFY
//! ```
//!
//! A subscription is a dialog of its own; it outlives no restart, since phones subscribe again when a refresh gets 481. One
//! NOTIFY at a time is under way, so that none overtakes another; what changes meanwhile is said by the next one, which has
//! the whole state. What there is to subscribe to is in `package`, what a NOTIFY says of calls in `lamp`; who may subscribe to
//! whom the endpoint decides.
//!
//! A SUBSCRIBE of a user by address over UDP may be forged. What it makes is unproven until a NOTIFY has been accepted, of
//! which whoever forges an address knows nothing: it takes the place of nothing that is proven before, there are fewer of
//! them, and nobody accepts them for longer than a NOTIFY waits.

mod lamp;
mod package;

pub use lamp::Lamps;
pub use package::{Asked, Package};

use std::collections::HashMap;

use ahash::RandomState;
use slab::Slab;

use crate::call::{Arrival, Context, RETRY_AFTER_S, TransactionUser};
use crate::dialog::{Dialog, TagParts, write_contact};
use crate::limits::{
    SUBSCRIPTION_BYTES_MAX, SUBSCRIPTION_MIN, SUBSCRIPTIONS_MAX, SUBSCRIPTIONS_PER_USER_MAX,
    SUBSCRIPTIONS_UNPROVEN_MAX, SUBSCRIPTIONS_UNPROVEN_PER_USER_MAX,
};
use crate::message::compose::append_number;
use crate::message::{HeaderName, Message, Method};
use lamp::{Lamp, View};

use crate::source::{Flow, SubscriptionId, UserId};
use crate::time::Instant;
use crate::time::wheel::Wheel;

/// The leg in our tags: none that a call has.
const LEG: u8 = 0x40;

#[derive(Clone, Debug)]
struct Subscription {
    serial: u32,
    /// Who subscribed.
    user: UserId,
    name: Box<str>,
    package: Package,
    /// The `id` of its Event; empty: none.
    id: Box<[u8]>,
    /// Whose state it is: the number that was subscribed to.
    resource: Box<[u8]>,
    dialog: Dialog,
    /// Part of our tag.
    secret: u64,
    deadline: Instant,
    /// It is the user's: he has proved it, or accepted a NOTIFY.
    is_proven: bool,
    /// A NOTIFY waits for its answer.
    is_waiting: bool,
    /// Another one is to follow.
    is_due: bool,
    /// What is told of calls, if it is about those.
    lamp: Option<Box<Lamp>>,
}

/// Who subscribes.
#[derive(Clone, Copy, Debug)]
pub struct Subscriber<'a> {
    /// The user.
    pub user: UserId,
    /// His name.
    pub name: &'a str,
    /// Nothing but a datagram's address says that it is he.
    pub may_be_forged: bool,
}

/// A request within a subscription's dialog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    id: SubscriptionId,
    /// Who subscribed.
    pub user: UserId,
    /// It came from where he is known to be.
    pub is_from_peer: bool,
}

/// All subscriptions.
#[derive(Clone, Debug)]
pub struct Subscriptions {
    slots: Slab<Subscription>,
    /// How many of them are unproven.
    unproven: usize,
    next_serial: u32,
    /// Slots of each user who has any.
    users: HashMap<UserId, Vec<u32>, RandomState>,
    /// Names slots whose time may be over.
    wheel: Wheel<u32>,
    /// Slots of those who watch a name.
    watchers: HashMap<Box<str>, Vec<u32>, RandomState>,
    /// For each slot the earliest time that the wheel will name it.
    armed: Vec<Option<Instant>>,
}

impl Subscriptions {
    /// No subscriptions yet.
    pub fn new(now: Instant, hasher: RandomState) -> Self {
        Self {
            slots: Slab::new(),
            unproven: 0,
            next_serial: 1,
            users: HashMap::with_hasher(hasher.clone()),
            watchers: HashMap::with_hasher(hasher),
            wheel: Wheel::new(now),
            armed: Vec::new(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// A new configuration: users get the indices of the same names. Who is gone from the file has no subscriptions.
    pub fn reload(&mut self, user: impl Fn(&str) -> Option<UserId>) {
        self.users.clear();
        let users = &mut self.users;
        let watchers = &mut self.watchers;
        watchers.clear();
        self.slots.retain(|slot, own| match user(&own.name) {
            Some(user) => {
                own.user = user;
                users.entry(user).or_default().push(slot as u32);
                if let Some(lamp) = &own.lamp {
                    let slots = watchers.entry(lamp.watched.clone()).or_default();
                    slots.push(slot as u32);
                }
                true
            }
            None => false,
        });
        self.unproven = (self.slots.iter())
            .filter(|(_, own)| !own.is_proven)
            .count();
    }

    /// A SUBSCRIBE of this user, outside a dialog, to what is his to know: of calls, to those of the user or group with this
    /// name.
    pub fn begin(
        &mut self,
        arrival: &Arrival<'_>,
        asked: &Asked<'_>,
        subscriber: Subscriber<'_>,
        resource: &[u8],
        lamps: &dyn Lamps,
        context: &mut Context<'_>,
    ) {
        let mut dialog = Dialog::from_request(arrival.request, &arrival.flow, arrival.ours);
        let kept = [&dialog.local[..], &dialog.remote, &dialog.remote_target];
        let also = [&dialog.route_set[..], &dialog.call_id, asked.id, resource];
        let bytes: usize = kept.iter().chain(&also).map(|part| part.len()).sum();
        if bytes > SUBSCRIPTION_BYTES_MAX {
            return arrival.answer(513, None, context);
        }
        let Subscriber { user, name, .. } = subscriber;
        let is_proven = !subscriber.may_be_forged;
        match self.older(user, &dialog, asked, resource) {
            // §4.5.1, RFC 3261 §8.2.2.2: it has come here twice, on different ways.
            Some(slot) if self.is_repeated(slot, &dialog) => {
                return arrival.answer(482, None, context);
            }
            // The phone was restarted, and does not know of it any more.
            Some(slot) if is_proven || !self.is_proven(slot) => self.remove(slot),
            // Or somebody else says so: it goes when the phone has accepted a NOTIFY of the new one.
            Some(_) | None => {}
        }
        if !self.has_room(user, is_proven) {
            return arrival.answer(503, Some(RETRY_AFTER_S), context);
        }
        let id = SubscriptionId {
            index: self.slots.vacant_key() as u32,
            serial: self.next_serial,
        };
        self.next_serial = self.next_serial.wrapping_add(1);
        let secret = context.tokens.next_u64();
        let tag = TagParts {
            index: id.index,
            serial: id.serial,
            leg: LEG,
            secret,
        };
        let tag = tag.compose();
        dialog.local.extend_from_slice(b";tag=");
        dialog.local.extend_from_slice(&tag);
        let now = context.now.mono;
        let lamp = watched(asked.package, resource).map(|watched| {
            let slots = self.watchers.entry(watched.into()).or_default();
            slots.push(id.index);
            Box::new(Lamp::new(watched, entity(arrival.request), now))
        });
        self.slots.insert(Subscription {
            serial: id.serial,
            user,
            name: name.into(),
            package: asked.package,
            id: asked.id.into(),
            resource: resource.into(),
            dialog,
            secret,
            deadline: context.now.mono,
            is_proven,
            is_waiting: false,
            is_due: false,
            lamp,
        });
        self.unproven += usize::from(!is_proven);
        self.users.entry(user).or_default().push(id.index);
        if is_proven {
            // Of those that anybody can have made there may be more.
            self.remove_older(id);
        }
        self.grant(id, arrival, asked, &tag, (lamps, context));
    }

    /// The subscription that a request with a To tag belongs to; `None`: none of ours.
    pub fn locate(&self, request: &Message<'_>, flow: &Flow) -> Option<Located> {
        let (id, own) = self.of_tag(request.to().tag()?)?;
        own.dialog.owns(request).then(|| Located {
            id,
            user: own.user,
            is_from_peer: own.dialog.flow.is_same_peer(flow),
        })
    }

    /// Whether a tag is ours, of a subscription that is not over.
    pub fn is_own_tag(&self, tag: &[u8]) -> bool {
        self.of_tag(tag).is_some()
    }

    fn of_tag(&self, tag: &[u8]) -> Option<(SubscriptionId, &Subscription)> {
        let tag = TagParts::parse(tag).filter(|tag| tag.leg == LEG)?;
        let id = SubscriptionId {
            index: tag.index,
            serial: tag.serial,
        };
        let own = self.slots.get(tag.index as usize)?;
        (own.serial == tag.serial && own.secret == tag.secret).then_some((id, own))
    }

    /// A request within a subscription's dialog whose sender is in order.
    pub fn receive(
        &mut self,
        located: Located,
        arrival: &Arrival<'_>,
        lamps: &dyn Lamps,
        context: &mut Context<'_>,
    ) {
        let Some(own) = self.get(located.id) else {
            return;
        };
        if !own.dialog.accept_cseq(arrival.request.cseq().number) {
            // RFC 3261 §12.2.2: out of order.
            return arrival.answer(500, None, context);
        }
        (own.dialog.flow, own.dialog.ours) = (arrival.flow, arrival.ours);
        match arrival.request.method() {
            Method::Subscribe => {}
            Method::Options => return arrival.answer(200, None, context),
            _ => return arrival.answer(481, None, context),
        }
        match Asked::of(arrival.request) {
            Err(status) => refuse(arrival, status, context),
            // §4.5.2: a dialog has one subscription.
            Ok(asked) if asked.package != own.package || *asked.id != *own.id => {
                arrival.answer(481, None, context);
            }
            Ok(asked) => {
                own.dialog.refresh_target(arrival.request);
                self.grant(located.id, arrival, &asked, b"", (lamps, context));
            }
        }
    }

    /// The answer to a NOTIFY.
    pub fn receive_response(
        &mut self,
        id: SubscriptionId,
        response: &Message<'_>,
        lamps: &dyn Lamps,
        context: &mut Context<'_>,
    ) {
        let Some(own) = self.get(id).filter(|_| response.status() >= 200) else {
            return;
        };
        own.is_waiting = false;
        if response.status() < 300 && !own.is_proven {
            own.is_proven = true;
            self.unproven -= 1;
            self.remove_older(id);
        }
        let Some(own) = self.get(id) else { return };
        // §4.2.2: whoever refuses a NOTIFY knows nothing of it any more, unless he asks for time.
        if response.status() >= 300 && response.value(HeaderName::RetryAfter).is_none() {
            self.remove(id.index);
        } else if own.is_due {
            self.changed(id, lamps, context);
        }
    }

    /// A NOTIFY has reached nobody (§4.2.2).
    pub fn unanswered(&mut self, id: SubscriptionId) {
        if self.get(id).is_some() {
            self.remove(id.index);
        }
    }

    /// When [`Subscriptions::expire`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_deadline()
    }

    /// Ends one subscription that was not refreshed; `false` when there is none whose time is over.
    pub fn expire(&mut self, lamps: &dyn Lamps, context: &mut Context<'_>) -> bool {
        let now = context.now.mono;
        while let Some(slot) = self.wheel.expire(now) {
            let Some(armed) = self.armed.get_mut(slot as usize) else {
                continue;
            };
            if armed.is_none_or(|armed| armed > now) {
                // Left over from before an earlier time was asked for.
                continue;
            }
            *armed = None;
            let Some(own) = self.slots.get(slot as usize) else {
                continue;
            };
            let (deadline, own_is_due) = (own.deadline, own.is_due && !own.is_waiting);
            let id = SubscriptionId {
                index: slot,
                serial: own.serial,
            };
            if deadline <= now {
                self.end(id, lamps, context);
                return true;
            }
            self.arm(now, slot, deadline);
            if own_is_due {
                self.deferred(id, lamps, context);
                return true;
            }
        }
        false
    }

    /// 200, and at once the state (§4.2.1.2, §4.2.1.3).
    fn grant(
        &mut self,
        id: SubscriptionId,
        arrival: &Arrival<'_>,
        asked: &Asked<'_>,
        tag: &[u8],
        (lamps, context): (&dyn Lamps, &mut Context<'_>),
    ) {
        arrival.answer_with(200, tag, context, |composer| {
            // RFC 3261 §12.1.1: it makes a dialog.
            for route in arrival.request.line_values(HeaderName::RecordRoute) {
                composer.field("Record-Route", &[route]);
            }
            write_contact(composer, &arrival.flow, arrival.ours);
            composer.number("Expires", asked.duration.as_secs());
        });
        if asked.duration.is_zero() {
            return self.end(id, lamps, context);
        }
        let now = context.now.mono;
        let deadline = now.plus(asked.duration);
        if let Some(own) = self.get(id) {
            own.deadline = deadline;
            self.arm(now, id.index, deadline);
        }
        let watched = self.watched_by(id);
        self.notify(id, &mut View::new(lamps, &watched), context);
    }

    /// Something has happened to the calls of these users, or to groups' that they are in.
    pub fn touched(&mut self, names: &[&str], lamps: &dyn Lamps, context: &mut Context<'_>) {
        for name in names {
            let slots = self.watchers.get(*name).cloned().unwrap_or_default();
            let mut view = View::new(lamps, name);
            for index in slots {
                let serial = self.slots.get(index as usize).map(|own| own.serial);
                if let Some(serial) = serial {
                    self.changed_as(SubscriptionId { index, serial }, &mut view, context);
                }
            }
        }
    }

    /// What may be said only now is so to all who watch the same, as a rule: they have been told the same. It is looked up once.
    fn deferred(&mut self, id: SubscriptionId, lamps: &dyn Lamps, context: &mut Context<'_>) {
        let watched = self.watched_by(id);
        let Some(slots) = self.watchers.get(&watched).cloned() else {
            return self.changed(id, lamps, context);
        };
        let mut view = View::new(lamps, &watched);
        for index in slots {
            let own = self.slots.get(index as usize);
            if let Some(own) = own.filter(|own| own.is_due && !own.is_waiting) {
                let serial = own.serial;
                self.changed_as(SubscriptionId { index, serial }, &mut view, context);
            }
        }
    }

    /// Whether anybody watches anything: most servers have no lamp keys.
    pub fn is_any_watched(&self) -> bool {
        !self.watchers.is_empty()
    }

    /// Whether anybody watches this name.
    pub fn is_watched(&self, name: &str) -> bool {
        self.watchers.contains_key(name)
    }

    /// The state may be another: says so, now or when it may be said.
    fn changed(&mut self, id: SubscriptionId, lamps: &dyn Lamps, context: &mut Context<'_>) {
        let watched = self.watched_by(id);
        self.changed_as(id, &mut View::new(lamps, &watched), context);
    }

    /// The name that a subscription watches; empty: none.
    fn watched_by(&self, id: SubscriptionId) -> Box<str> {
        let own = self.slots.get(id.index as usize);
        let own = own.filter(|own| own.serial == id.serial);
        let lamp = own.and_then(|own| own.lamp.as_ref());
        lamp.map(|lamp| lamp.watched.clone()).unwrap_or_default()
    }

    /// The same with what there is to see. What may not be said yet is not looked at either.
    fn changed_as(&mut self, id: SubscriptionId, view: &mut View<'_>, context: &mut Context<'_>) {
        let now = context.now.mono;
        let Some(own) = self.get(id) else { return };
        if own.is_waiting {
            own.is_due = true;
            return;
        }
        own.is_due = false;
        if let Some(lamp) = &mut own.lamp {
            if let Some(at) = lamp.waits_until(now) {
                own.is_due = true;
                return self.arm(now, id.index, at);
            }
            if lamp.shows(view.of(own.user)) {
                return;
            }
            lamp.tells();
        }
        self.notify(id, view, context);
    }

    /// Says the state, now or as soon as the NOTIFY before has its answer.
    fn notify(&mut self, id: SubscriptionId, view: &mut View<'_>, context: &mut Context<'_>) {
        let Some(own) = self.get(id) else { return };
        own.is_due = own.is_waiting;
        if own.is_waiting {
            return;
        }
        own.is_waiting = own.send_notify(id, true, view, context);
        if !own.is_waiting {
            // No transaction was free. The phone misses its NOTIFY, and subscribes anew (§4.1.2.4).
            self.remove(id.index);
        }
    }

    /// Says the state for the last time.
    fn end(&mut self, id: SubscriptionId, lamps: &dyn Lamps, context: &mut Context<'_>) {
        let watched = self.watched_by(id);
        if let Some(own) = self.get(id) {
            let view = &mut View::new(lamps, &watched);
            own.send_notify(id, false, view, context);
            self.remove(id.index);
        }
    }

    /// Whether one more fits; those that anybody can have made have a part of the room.
    fn has_room(&self, user: UserId, is_proven: bool) -> bool {
        let own = self.users.get(&user).map_or(&[][..], Vec::as_slice);
        let is_bounded =
            self.slots.len() < SUBSCRIPTIONS_MAX && own.len() < SUBSCRIPTIONS_PER_USER_MAX;
        let unproven = || own.iter().filter(|slot| !self.is_proven(**slot)).count();
        is_bounded
            && (is_proven
                || self.unproven < SUBSCRIPTIONS_UNPROVEN_MAX
                    && unproven() < SUBSCRIPTIONS_UNPROVEN_PER_USER_MAX)
    }

    fn is_proven(&self, slot: u32) -> bool {
        (self.slots.get(slot as usize)).is_some_and(|own| own.is_proven)
    }

    /// Those that this one, which has been proved now, takes the place of.
    fn remove_older(&mut self, id: SubscriptionId) {
        let Some(new) = self.slots.get(id.index as usize) else {
            return;
        };
        let is_older = |slot: &u32| {
            (self.slots.get(*slot as usize))
                .is_some_and(|own| own.serial != id.serial && own.is_of_phone(new))
        };
        let slots = self.users.get(&new.user).into_iter().flatten();
        let older: Vec<u32> = slots.copied().filter(is_older).collect();
        for slot in older {
            self.remove(slot);
        }
    }

    /// The subscription that a new one of the same phone takes the place of: an unproven one, if there is one.
    fn older(
        &self,
        user: UserId,
        dialog: &Dialog,
        asked: &Asked<'_>,
        resource: &[u8],
    ) -> Option<u32> {
        let is_older = |own: &Subscription| {
            let is_same_dialog =
                own.dialog.call_id == dialog.call_id && own.dialog.remote_tag == dialog.remote_tag;
            let is_same_phone = is_same_phone(&own.dialog, dialog);
            own.package == asked.package
                && *own.id == *asked.id
                && *own.resource == *resource
                && (is_same_dialog || is_same_phone)
        };
        let is_older = |slot: &u32| self.slots.get(*slot as usize).is_some_and(is_older);
        let slots = self.users.get(&user)?.iter().copied().filter(is_older);
        slots.min_by_key(|slot| {
            let is_other_dialog = !self.is_repeated(*slot, dialog);
            (is_other_dialog, self.is_proven(*slot))
        })
    }

    /// Whether a SUBSCRIBE that would make `dialog` has made the one in this slot.
    fn is_repeated(&self, slot: u32, dialog: &Dialog) -> bool {
        self.slots.get(slot as usize).is_some_and(|own| {
            own.dialog.call_id == dialog.call_id
                && own.dialog.remote_tag == dialog.remote_tag
                && own.dialog.remote_cseq >= dialog.remote_cseq
        })
    }

    fn get(&mut self, id: SubscriptionId) -> Option<&mut Subscription> {
        (self.slots.get_mut(id.index as usize)).filter(|own| own.serial == id.serial)
    }

    fn remove(&mut self, slot: u32) {
        let Some(own) = self.slots.try_remove(slot as usize) else {
            return;
        };
        self.unproven -= usize::from(!own.is_proven);
        if let Some(lamp) = &own.lamp
            && let Some(slots) = self.watchers.get_mut(&lamp.watched)
        {
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.watchers.remove(&lamp.watched);
            }
        }
        if let Some(slots) = self.users.get_mut(&own.user) {
            slots.retain(|other| *other != slot);
            if slots.is_empty() {
                self.users.remove(&own.user);
            }
        }
    }

    /// Makes the wheel name this slot at `deadline`, or before. A refresh only moves the deadline away; for an earlier one a
    /// further entry is needed, half-way to it, so that whoever asks for less and less leaves a dozen behind.
    fn arm(&mut self, now: Instant, slot: u32, deadline: Instant) {
        let index = slot as usize;
        if self.armed.len() <= index {
            self.armed.resize(index + 1, None);
        }
        let at = match self.armed[index] {
            Some(armed) if armed <= deadline => return,
            Some(_) => now.plus(deadline.since(now) / 2),
            None => deadline,
        };
        self.armed[index] = Some(at);
        self.wheel.arm(at, slot);
    }
}

impl Subscription {
    /// Whether the same phone has subscribed to the same.
    fn is_of_phone(&self, other: &Self) -> bool {
        (self.package, &self.id, &self.resource) == (other.package, &other.id, &other.resource)
            && is_same_phone(&self.dialog, &other.dialog)
    }

    /// Sends a NOTIFY (§4.2.2); `false`: no transaction was free.
    fn send_notify(
        &mut self,
        id: SubscriptionId,
        is_active: bool,
        view: &mut View<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        let Some((client, branch)) = context.transactions.reserve() else {
            return false;
        };
        let cseq = self.dialog.next_cseq();
        let dialog = &self.dialog;
        let mut composer = dialog.compose(context.buffer, Method::Notify, cseq, branch.as_bytes());
        dialog.write_contact(&mut composer);
        let joint: &[u8] = if self.id.is_empty() { b"" } else { b";id=" };
        composer.field("Event", &[self.package.name(), joint, &self.id]);
        let left = self.deadline.since(context.now.mono);
        composer.field_with("Subscription-State", |line| {
            if is_active {
                line.extend_from_slice(b"active;expires=");
                append_number(line, left.as_secs());
            } else {
                line.extend_from_slice(b"terminated;reason=timeout");
            }
        });
        composer.field("User-Agent", &[b"sipkeep"]);
        let body = match &mut self.lamp {
            Some(lamp) => lamp.body(view.of(self.user)),
            None => b"Messages-Waiting: no\r\n".to_vec(),
        };
        composer.finish(Some(self.package.content_type()), &body);
        context.transactions.send(
            context.now.mono,
            client,
            Method::Notify,
            &self.dialog.flow,
            context.buffer,
            TransactionUser::Subscription(id),
            context.out,
        );
        true
    }
}

/// Whether both are with one phone: it writes the same Contact at the same address.
fn is_same_phone(one: &Dialog, other: &Dialog) -> bool {
    one.remote_target == other.remote_target && one.flow.remote.ip() == other.flow.remote.ip()
}

/// Whose calls are watched.
fn watched(package: Package, resource: &[u8]) -> Option<&str> {
    match package {
        Package::Dialog => std::str::from_utf8(resource).ok(),
        Package::MessageSummary => None,
    }
}

/// The URI that is subscribed to, without parameters.
fn entity<'a>(request: &Message<'a>) -> &'a [u8] {
    let uri = request.request_uri();
    let end = uri.iter().position(|byte| matches!(byte, b';' | b'?'));
    uri.get(..end.unwrap_or(uri.len())).unwrap_or(uri)
}

/// Refuses a SUBSCRIBE.
pub fn refuse(arrival: &Arrival<'_>, status: u16, context: &mut Context<'_>) {
    if status != 423 {
        return arrival.answer(status, None, context);
    }
    let tag = context.stateless_branch();
    arrival.answer_with(status, &tag, context, |composer| {
        composer.number("Min-Expires", SUBSCRIPTION_MIN.as_secs());
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A phone that refreshes all the time, whatever it asks for, leaves a handful of entries in the wheel.
    #[test]
    fn refreshing_does_not_fill_the_wheel() {
        let entries_after = |lifetime: fn(u64) -> u64| {
            let begin = Instant::from_micros(0);
            let mut all = Subscriptions::new(begin, RandomState::with_seeds(1, 2, 3, 4));
            for number in 0..1_000 {
                let now = begin.plus(Duration::from_millis(number));
                all.arm(now, 0, now.plus(Duration::from_secs(lifetime(number))));
            }
            all.wheel.len()
        };
        assert_eq!(entries_after(|_| 3600), 1);
        assert!(entries_after(|number| 3600 - number) <= 13);
        assert!(entries_after(|number| if number % 2 == 0 { 3600 } else { 60 }) <= 3);
    }
}
