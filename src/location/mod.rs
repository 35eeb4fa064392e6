//! The location service: which contacts an address-of-record has, and on which flow each is reached (RFC 3261 §10,
//! RFC 5626 §3).
//!
//! A slab of bindings; each user has a short list of slots, in the order that callers try them; a keyed index leads from a flow to the
//! bindings that came on it; one list has all of them, the one refreshed last first. Expiry is a wheel of whole seconds that holds a few entries for a slot, however often a phone
//! refreshes.
//!
//! What a REGISTER may do is `registrar`'s to decide: nothing here reads a message. Nothing here logs or writes either: what
//! must be kept over a restart comes back as [`Change`]s.

mod binding;
mod phone;

pub use binding::{Binding, NewBinding};
pub use phone::Phone;

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

use crate::api;
use crate::config;
use crate::source::{ConnectionId, Flow, Transport, UserId};
use crate::store::{BindingRow, Change};
use crate::time::wheel::Wheel;
use crate::time::{Instant, Now};

/// End of a list.
const NIL: u32 = u32::MAX;

/// All bindings of all users.
#[derive(Clone, Debug)]
pub struct Location {
    users: Vec<UserBindings>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    count: usize,
    /// Hash of a flow → first of the bindings on flows with this hash.
    flows: HashMap<u64, u32, RandomState>,
    /// Made at the first binding, since the time is not known before.
    wheel: Option<Wheel<u32>>,
    /// Head of the list of all bindings: the one refreshed last.
    newest: u32,
    refreshes: u64,
    serials: u64,
    /// Grows whenever a UDP flow gets its first binding or loses its last one.
    flow_changes: u64,
    /// Those that have lost their last one since they were asked for.
    left: Vec<Flow>,
}

#[derive(Clone, Debug)]
struct UserBindings {
    name: Arc<str>,
    /// Slots: highest `q` first, then the one refreshed last.
    slots: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    binding: Option<Binding>,
    /// The earliest time that the wheel will name this slot.
    armed: Option<Instant>,
}

/// Names a binding until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingId(u32);

impl Location {
    /// No bindings yet. `seed` keys the index of flows.
    pub fn new(users: &[config::User], seed: &[u8; 32]) -> Self {
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&seed[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let keys = RandomState::with_seeds(word(0), word(8), word(16), word(24));
        Self {
            users: users
                .iter()
                .map(|user| UserBindings::new(&user.name))
                .collect(),
            slots: Vec::new(),
            free: Vec::new(),
            count: 0,
            flows: HashMap::with_hasher(keys),
            wheel: None,
            newest: NIL,
            refreshes: 0,
            serials: 0,
            flow_changes: 0,
            left: Vec::new(),
        }
    }

    /// What was kept over a restart. Left out: rows of unknown users, of streams (their connections are gone), and expired ones.
    pub fn restore(&mut self, now: Now, rows: &[BindingRow]) {
        let mut rows: Vec<&BindingRow> = rows
            .iter()
            .filter(|row| row.transport == Transport::Udp && row.expires > now.unix)
            .collect();
        // The order of the file means nothing; what ends last was refreshed last, as good as always.
        rows.sort_by_cached_key(|row| (row.expires, row.key()));
        let users: HashMap<String, u32, RandomState> = self
            .users
            .iter()
            .zip(0..)
            .map(|(user, index)| (String::from(&*user.name), index))
            .fold(
                HashMap::with_hasher(self.flows.hasher().clone()),
                |mut users, (name, index)| {
                    users.insert(name, index);
                    users
                },
            );
        for row in rows {
            let Some(&index) = users.get(&*row.user) else {
                continue;
            };
            // The file keeps no other parameters: those come back with the next refresh.
            let mut params = Vec::new();
            if !row.instance.is_empty() {
                params.extend_from_slice(b";+sip.instance=\"");
                params.extend_from_slice(&row.instance);
                params.push(b'"');
            }
            if row.reg_id != 0 {
                params.extend_from_slice(format!(";reg-id={}", row.reg_id).as_bytes());
            }
            let new = NewBinding {
                contact: &row.contact,
                params: &params,
                instance: &row.instance,
                reg_id: row.reg_id,
                path: &row.path,
                call_id: &row.call_id,
                cseq: row.cseq,
                q: row.q,
                user_agent: &row.user_agent,
                flow: Flow {
                    transport: row.transport,
                    local: row.local,
                    remote: row.remote,
                    connection: None,
                },
                lifetime: row.expires.since(now.unix),
            };
            // The file has it already; one that is too long was made by other hands and is left out.
            if let Some(id) = self.put(now, UserId(index), None, &new, &mut Vec::new())
                && let Some(binding) = self.binding_mut(id.0)
            {
                binding.since = row.since;
                binding.expires = row.expires;
                binding.is_behind_nat = row.is_behind_nat;
            }
        }
    }

    /// A new configuration: bindings follow their user's name. Those of users that are gone are dropped.
    pub fn reload(&mut self, users: &[config::User]) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut old: HashMap<Arc<str>, (u32, Vec<u32>), RandomState> =
            HashMap::with_hasher(self.flows.hasher().clone());
        for (user, index) in std::mem::take(&mut self.users).into_iter().zip(0..) {
            if !user.slots.is_empty() {
                old.insert(user.name, (index, user.slots));
            }
        }
        for (user, index) in users.iter().zip(0..) {
            let mut entry = UserBindings::new(&user.name);
            if let Some((_, slots)) = old.remove(user.name.as_str()) {
                for &slot in &slots {
                    if let Some(binding) = self.binding_mut(slot) {
                        binding.user = UserId(index);
                    }
                }
                entry.slots = slots;
            }
            self.users.push(entry);
        }
        // No output may depend on a map's order.
        let mut gone: Vec<_> = old.into_iter().collect();
        gone.sort_by_key(|&(_, (index, _))| index);
        for (name, (_, slots)) in gone {
            for slot in slots {
                self.unlink_flow(slot);
                if let Some(binding) = self.take(slot) {
                    self.note_left(&binding.flow());
                    changes.push(Change::BindingGone(Box::new(binding.key(&name))));
                }
            }
        }
        changes
    }

    /// The name of a user; `None` for a handle of no user.
    pub fn user_name(&self, user: UserId) -> Option<&str> {
        self.users.get(user.0 as usize).map(|user| &*user.name)
    }

    /// A user's bindings: highest `q` first, then the one refreshed last.
    pub fn bindings(&self, user: UserId) -> impl Iterator<Item = &Binding> {
        self.entries(user).map(|(_, binding)| binding)
    }

    /// The same with their names.
    pub fn entries(&self, user: UserId) -> impl Iterator<Item = (BindingId, &Binding)> {
        let slots = self
            .users
            .get(user.0 as usize)
            .map(|user| user.slots.as_slice());
        slots
            .unwrap_or_default()
            .iter()
            .filter_map(|&slot| self.binding(slot).map(|binding| (BindingId(slot), binding)))
    }

    /// Whose registration came on this very flow: same transport, address and port, on a stream the same connection. Of several
    /// users the one whose binding came on it last.
    pub fn has_flow(&self, flow: &Flow) -> Option<UserId> {
        self.on_flow(flow).map(|binding| binding.user)
    }

    /// That binding.
    pub fn on_flow(&self, flow: &Flow) -> Option<&Binding> {
        let mut slot = self.flows.get(&self.flow_key(flow)).copied().unwrap_or(NIL);
        while let Some(binding) = self.binding(slot) {
            if binding.is_on(flow) {
                return Some(binding);
            }
            slot = binding.next;
        }
        None
    }

    /// Makes a binding, in place of another one of the same user if `replaces` says so: that keeps its number and the time that it was
    /// first made. `None`, and nothing changed: no such user, or its texts are too long.
    pub fn put(
        &mut self,
        now: Now,
        user: UserId,
        replaces: Option<BindingId>,
        new: &NewBinding<'_>,
        changes: &mut Vec<Change>,
    ) -> Option<BindingId> {
        self.users.get(user.0 as usize)?;
        if let Some(BindingId(slot)) = replaces
            && self.refresh(now, user, slot, new, changes)
        {
            return replaces;
        }
        let mut binding = Binding::new(new, user)?;
        binding.since = now.unix;
        binding.expires = now.unix.plus(new.lifetime);
        binding.deadline = now.mono.plus(new.lifetime);
        self.refreshes += 1;
        binding.refreshed = self.refreshes;
        // A refresh on the way that the last one came: then no index changes.
        let replaced = replaces.and_then(|BindingId(slot)| self.binding(slot));
        let stays = replaced.is_some_and(|old| old.previous == NIL && old.is_beside(&binding));
        if !stays && new.flow.connection.is_none() && self.has_flow(&new.flow).is_none() {
            self.flow_changes += 1;
        }
        // A phone that changes its Contact is where it was: some find out what their NAT makes of them, and write that.
        let address = new.flow.remote.ip();
        let is_same = |own: &Binding| own.is_behind_nat && own.is_at(address);
        binding.is_behind_nat = self.bindings(user).any(is_same);
        let old = replaces.and_then(|BindingId(slot)| match stays {
            true => self.lift(slot),
            false => self.unlist(slot),
        });
        match &old {
            Some(old) => {
                binding.since = old.since;
                binding.serial = old.serial;
            }
            None => {
                self.serials += 1;
                binding.serial = self.serials;
            }
        }
        if let Some(old) = old.as_ref().filter(|old| !old.is_kept_as(&binding)) {
            self.report_gone(old, changes);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        self.arm(now.mono, slot, binding.deadline);
        match &old {
            Some(old) if stays => (binding.previous, binding.next) = (old.previous, old.next),
            _ => self.link_flow(slot, &mut binding),
        }
        self.count += 1;
        self.list(user, slot, binding.q);
        self.slots[slot as usize].binding = Some(binding);
        self.link(slot);
        self.report(user, slot, changes);
        if let Some(old) = old.filter(|_| !stays) {
            self.note_left(&old.flow());
        }
        Some(BindingId(slot))
    }

    /// [`Self::put`] of what is there already but for its time: nothing but the order of bindings changes. `false`: there is
    /// more to it, and nothing was done.
    fn refresh(
        &mut self,
        now: Now,
        user: UserId,
        slot: u32,
        new: &NewBinding<'_>,
        changes: &mut Vec<Change>,
    ) -> bool {
        let address = new.flow.remote.ip();
        let is_behind_nat =
            (self.bindings(user)).any(|own| own.is_behind_nat && own.is_at(address));
        let refreshed = self.refreshes + 1;
        let Some(binding) = self.binding_mut(slot) else {
            return false;
        };
        // One that came on a flow last is the first of that flow's.
        if binding.user != user || binding.previous != NIL || !binding.refresh(new) {
            return false;
        }
        binding.is_behind_nat = is_behind_nat;
        binding.expires = now.unix.plus(new.lifetime);
        binding.deadline = now.mono.plus(new.lifetime);
        binding.refreshed = refreshed;
        let (deadline, q) = (binding.deadline, binding.q);
        let (newer, older) = (binding.newer, binding.older);
        self.refreshes = refreshed;
        self.arm(now.mono, slot, deadline);
        self.unlink(newer, older);
        self.link(slot);
        let entry = &mut self.users[user.0 as usize];
        entry.slots.retain(|&other| other != slot);
        self.list(user, slot, q);
        self.report(user, slot, changes);
        true
    }

    /// A user's phone on this flow is behind a NAT.
    pub fn set_behind_nat(&mut self, user: UserId, flow: &Flow, changes: &mut Vec<Change>) {
        let is_new = |binding: &Binding| binding.is_on(flow) && !binding.is_behind_nat;
        let new = self.entries(user).filter(|(_, binding)| is_new(binding));
        let new: Vec<BindingId> = new.map(|(id, _)| id).collect();
        for BindingId(slot) in new {
            if let Some(binding) = self.binding_mut(slot) {
                binding.is_behind_nat = true;
            }
            self.report(user, slot, changes);
        }
    }

    /// Removes a binding.
    pub fn remove(&mut self, id: BindingId, changes: &mut Vec<Change>) {
        if let Some(binding) = self.unlist(id.0) {
            self.note_left(&binding.flow());
            self.report_gone(&binding, changes);
        }
    }

    /// Bindings over a stream live with their connection.
    pub fn connection_closed(&mut self, connection: ConnectionId, changes: &mut Vec<Change>) {
        let key = self.connection_key(connection);
        let mut slot = self.flows.get(&key).copied().unwrap_or(NIL);
        while let Some(binding) = self.binding(slot) {
            let next = binding.next;
            if binding.flow().connection == Some(connection) {
                self.remove(BindingId(slot), changes);
            }
            slot = next;
        }
    }

    /// When [`Location::expire`] is due at the latest. O(1).
    pub fn next_deadline(&self) -> Option<Instant> {
        self.wheel.as_ref()?.next_deadline()
    }

    /// Removes the bindings that have expired: none early, none more than a second late.
    pub fn expire(&mut self, now: Now, changes: &mut Vec<Change>) {
        while let Some(slot) = self.wheel.as_mut().and_then(|wheel| wheel.expire(now.mono)) {
            let place = &mut self.slots[slot as usize];
            if place.armed.is_none_or(|armed| armed > now.mono) {
                // Left over from before an earlier time was asked for; another entry stands for the slot.
                continue;
            }
            place.armed = None;
            let Some(deadline) = place.binding.as_ref().map(|binding| binding.deadline) else {
                continue;
            };
            if deadline <= now.mono {
                self.remove(BindingId(slot), changes);
            } else {
                self.arm(now.mono, slot, deadline);
            }
        }
    }

    /// Removes those of one user's bindings that have expired by now to the millisecond, so that no answer names one.
    pub fn expire_user(&mut self, now: Now, user: UserId, changes: &mut Vec<Change>) {
        let expired: Vec<BindingId> = self
            .entries(user)
            .filter(|(_, binding)| binding.deadline <= now.mono)
            .map(|(id, _)| id)
            .collect();
        for id in expired {
            self.remove(id, changes);
        }
    }

    /// How many bindings there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Another number than before whenever the set of UDP flows that bindings are on has changed: a refresh from where the
    /// phone was changes nothing. O(1).
    pub fn flow_changes(&self) -> u64 {
        self.flow_changes
    }

    /// A UDP flow that has lost its last binding since this was asked last; it may have another one by now. Whoever changes
    /// bindings asks until there is none.
    pub fn next_left(&mut self) -> Option<Flow> {
        self.left.pop()
    }

    /// All bindings, the one refreshed last first.
    pub fn recent(&self) -> impl Iterator<Item = &Binding> {
        let next = |binding: &&Binding| self.binding(binding.older);
        std::iter::successors(self.binding(self.newest), next)
    }

    /// One page of all bindings in the order of the configuration's users, then of age. The cursor is `USER.BINDING`
    /// (both numbers); a reload between two pages may repeat or skip some. One that is none of ours counts as none.
    pub fn page(&self, after: Option<&str>, limit: usize) -> api::Page<api::Registration> {
        let limit = limit.max(1);
        let cursor = after.and_then(|after| {
            let (user, serial) = after.split_once('.')?;
            Some((user.parse::<usize>().ok()?, serial.parse::<u64>().ok()?))
        });
        let (first, mut last_serial) = cursor.unwrap_or((0, 0));
        let mut items = Vec::new();
        let mut next = None;
        let mut last = None;
        for (index, user) in self.users.iter().enumerate().skip(first) {
            let mut bindings: Vec<&Binding> = user
                .slots
                .iter()
                .filter_map(|&slot| self.binding(slot))
                .filter(|binding| binding.serial > last_serial)
                .collect();
            last_serial = 0;
            bindings.sort_by_key(|binding| binding.serial);
            for binding in bindings {
                if items.len() == limit {
                    next = last;
                    return api::Page { items, next };
                }
                items.push(registration(&user.name, binding));
                last = Some(format!("{index}.{}", binding.serial));
            }
        }
        api::Page { items, next }
    }

    fn binding(&self, slot: u32) -> Option<&Binding> {
        self.slots.get(slot as usize)?.binding.as_ref()
    }

    fn binding_mut(&mut self, slot: u32) -> Option<&mut Binding> {
        self.slots.get_mut(slot as usize)?.binding.as_mut()
    }

    /// Takes a binding out of everything but the wheel.
    fn unlist(&mut self, slot: u32) -> Option<Binding> {
        self.unlink_flow(slot);
        self.lift(slot)
    }

    /// Takes a binding out of everything but the wheel and the index of flows, where it keeps its place.
    fn lift(&mut self, slot: u32) -> Option<Binding> {
        let user = self.binding(slot)?.user;
        if let Some(entry) = self.users.get_mut(user.0 as usize) {
            entry.slots.retain(|&other| other != slot);
        }
        self.take(slot)
    }

    /// Takes a binding out of its slot and the list of all.
    fn take(&mut self, slot: u32) -> Option<Binding> {
        let binding = self.slots.get_mut(slot as usize)?.binding.take()?;
        self.unlink(binding.newer, binding.older);
        self.free.push(slot);
        self.count -= 1;
        Some(binding)
    }

    /// Makes the neighbours of a binding in the list of all each other's.
    fn unlink(&mut self, newer: u32, older: u32) {
        match self.binding_mut(newer) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        if let Some(older) = self.binding_mut(older) {
            older.newer = newer;
        }
    }

    /// Puts a slot among its user's: before all with the same `q`.
    fn list(&mut self, user: UserId, slot: u32, q: u16) {
        let is_before = |&other: &u32| self.binding(other).is_some_and(|other| other.q > q);
        let place = (self.users[user.0 as usize].slots).partition_point(is_before);
        self.users[user.0 as usize].slots.insert(place, slot);
    }

    /// Takes a binding out of the index of flows.
    fn unlink_flow(&mut self, slot: u32) {
        let Some(binding) = self.binding(slot) else {
            return;
        };
        let (previous, next, flow) = (binding.previous, binding.next, binding.flow());
        if let Some(next) = self.binding_mut(next) {
            next.previous = previous;
        }
        if let Some(previous) = self.binding_mut(previous) {
            previous.next = next;
            return;
        }
        let key = self.flow_key(&flow);
        if next == NIL {
            self.flows.remove(&key);
        } else {
            self.flows.insert(key, next);
        }
    }

    /// A binding that was on this flow is not any more.
    fn note_left(&mut self, flow: &Flow) {
        if flow.connection.is_none() && self.has_flow(flow).is_none() {
            self.flow_changes += 1;
            self.left.push(*flow);
        }
    }

    /// Puts a binding at the head of the list of its flow.
    fn link_flow(&mut self, slot: u32, binding: &mut Binding) {
        let key = self.flow_key(&binding.flow());
        binding.previous = NIL;
        binding.next = self.flows.insert(key, slot).unwrap_or(NIL);
        if let Some(next) = self.binding_mut(binding.next) {
            next.previous = slot;
        }
    }

    /// Puts a binding at the head of the list of all.
    fn link(&mut self, slot: u32) {
        let older = std::mem::replace(&mut self.newest, slot);
        if let Some(binding) = self.binding_mut(slot) {
            (binding.newer, binding.older) = (NIL, older);
        }
        if let Some(older) = self.binding_mut(older) {
            older.newer = slot;
        }
    }

    fn report(&self, user: UserId, slot: u32, changes: &mut Vec<Change>) {
        let entry = self.users.get(user.0 as usize);
        if let (Some(binding), Some(entry)) = (self.binding(slot), entry) {
            changes.push(Change::Binding(binding.row(&entry.name)));
        }
    }

    fn report_gone(&self, binding: &Binding, changes: &mut Vec<Change>) {
        if let Some(user) = self.users.get(binding.user.0 as usize) {
            changes.push(Change::BindingGone(Box::new(binding.key(&user.name))));
        }
    }

    /// Makes the wheel name this slot at `deadline`, or before. Nothing to do while it does: a refresh only moves the
    /// deadline away, and an entry that comes early is armed anew. For an earlier deadline a further entry is needed: half-way
    /// to it, so that even one who asks for a little less each time leaves a dozen behind and not thousands.
    fn arm(&mut self, now: Instant, slot: u32, deadline: Instant) {
        let place = &mut self.slots[slot as usize];
        let at = match place.armed {
            Some(armed) if armed <= deadline => return,
            Some(_) => now.plus(deadline.since(now) / 2),
            None => deadline,
        };
        place.armed = Some(at);
        self.wheel
            .get_or_insert_with(|| Wheel::new(now))
            .arm(at, slot);
    }

    fn flow_key(&self, flow: &Flow) -> u64 {
        match flow.connection {
            Some(connection) => self.connection_key(connection),
            None => self
                .flows
                .hasher()
                .hash_one((0u8, flow.transport, flow.remote)),
        }
    }

    fn connection_key(&self, connection: ConnectionId) -> u64 {
        self.flows.hasher().hash_one((1u8, connection))
    }
}

impl UserBindings {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            slots: Vec::new(),
        }
    }
}

fn registration(user: &str, binding: &Binding) -> api::Registration {
    let flow = binding.flow();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    api::Registration {
        user: user.to_owned(),
        contact: text(binding.contact()),
        source: flow.remote.ip().to_string(),
        transport: flow.transport.uri_token(),
        user_agent: text(binding.user_agent()),
        since: api::Rfc3339(binding.since),
        expires: api::Rfc3339(binding.expires),
    }
}

#[cfg(test)]
mod tests;
