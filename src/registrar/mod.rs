//! RFC 3261 §10.3: what a REGISTER does to the bindings of its address-of-record, for an authenticated user.
//!
//! Steps 1 to 3 (Request-URI, Require, authentication) and 5 (whose address-of-record To is) are done when this is called.
//! Here are steps 6 (`*`), 7 (each contact) and 8 (the answer), with RFC 3327 (Path) and RFC 5626 §6 (outbound). Everything is
//! planned first and then done, so a REGISTER that fails has changed nothing.
//!
//! No GRUU (RFC 5627), no third-party registration, no events (RFC 3680).

mod answer;
mod request;

use crate::config;
use crate::location::{Binding, BindingId, Location, NewBinding};
use crate::message::{ContactValue, Message, Uri};
use crate::source::{Flow, UserId};
use crate::store::Change;
use crate::time::Now;

use request::{ContactUri, Registration, Wanted};

/// How a REGISTER is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: &'static str,
}

impl Registered {
    const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }
}

/// Registers, refreshes, removes or lists the bindings of `user`, whose name is `user_name`.
///
/// `forbidden`: whether a Contact or Path URI must not be registered from this flow (403). `lines` gets header lines for the response,
/// each ended by CRLF, appended: on 200 a Contact with `expires` for each binding, Date, Path, Supported and Require where due;
/// on 423 Min-Expires. `changes` gets what is to be kept.
///
/// `may_be_forged`: whether nothing but a datagram's address says that it is the user who speaks on this flow. A REGISTER on
/// such a flow sees only bindings that were made on such a flow: no other is refreshed, moved, removed or evicted by it.
#[allow(clippy::too_many_arguments)]
pub fn register(
    now: Now,
    request: &Message<'_>,
    flow: &Flow,
    user: UserId,
    user_name: &str,
    config: &config::Registrar,
    location: &mut Location,
    forbidden: &dyn Fn(&Uri<'_>, &Flow) -> bool,
    may_be_forged: &dyn Fn(&Flow) -> bool,
    lines: &mut Vec<u8>,
    changes: &mut Vec<Change>,
) -> Registered {
    if location.user_name(user) != Some(user_name) {
        // A handle from before a reload: nobody's bindings may be touched with it.
        return Registered::new(500, "Server Internal Error");
    }
    location.expire_user(now, user, changes);
    let sight = &Sight::new(flow, may_be_forged);
    let outcome = match request.contacts() {
        ContactValue::None => Ok(None),
        ContactValue::Star => remove_all(request, user, sight, location, changes).map(|()| None),
        ContactValue::Values(_) => {
            Registration::read(request, flow, config, forbidden).and_then(|wanted| {
                update(
                    now, request, flow, user, sight, config, location, wanted, changes,
                )
            })
        }
    };
    match outcome {
        Ok(done) => {
            answer::success(now, location, user, done.as_ref(), lines);
            Registered::new(200, "OK")
        }
        Err(refused) => {
            if refused.status == 423 {
                answer::min_expires(config, lines);
            }
            refused
        }
    }
}

/// Which bindings a REGISTER may touch.
struct Sight<'a> {
    flow: &'a Flow,
    may_be_forged: &'a dyn Fn(&Flow) -> bool,
    /// It may be forged itself.
    is_forgeable: bool,
}

impl<'a> Sight<'a> {
    fn new(flow: &'a Flow, may_be_forged: &'a dyn Fn(&Flow) -> bool) -> Self {
        Self {
            flow,
            may_be_forged,
            is_forgeable: may_be_forged(flow),
        }
    }

    /// Anybody can have made this binding. Its flow says so, also after a restart: on that nobody is asked for more.
    fn is_unproven(&self, binding: &Binding) -> bool {
        match binding.is_on(self.flow) {
            true => self.is_forgeable,
            false => (self.may_be_forged)(&binding.flow()),
        }
    }

    fn sees(&self, binding: &Binding) -> bool {
        !self.is_forgeable || self.is_unproven(binding)
    }
}

/// Step 6: `Contact: *`.
fn remove_all(
    request: &Message<'_>,
    user: UserId,
    sight: &Sight<'_>,
    location: &mut Location,
    changes: &mut Vec<Change>,
) -> Result<(), Registered> {
    if request.expires() != Some(0) {
        return Err(Registered::new(400, "Contact * Needs Expires 0"));
    }
    let all: Vec<BindingId> = location
        .entries(user)
        .filter(|(_, binding)| sight.sees(binding))
        .map(|(id, binding)| check_order(request, binding).map(|()| id))
        .collect::<Result<_, _>>()?;
    for id in all {
        location.remove(id, changes);
    }
    Ok(())
}

/// Steps 6 and 7: a request that is not newer than what it would change is out of order, and fails as a whole. (Step 7 has 500 for
/// updates that do not succeed.)
fn check_order(request: &Message<'_>, binding: &Binding) -> Result<(), Registered> {
    if binding.call_id() == request.call_id() && request.cseq().number <= binding.cseq {
        return Err(Registered::new(500, "CSeq Out Of Order"));
    }
    Ok(())
}

/// What is to become of a user's bindings.
#[derive(Debug)]
struct Plan {
    /// For each wanted contact the binding it updates or removes.
    matched: Vec<Option<BindingId>>,
    /// Further bindings that go.
    removed: Vec<BindingId>,
}

/// Step 7, for all contacts together.
#[allow(clippy::too_many_arguments)]
fn update<'r>(
    now: Now,
    request: &Message<'_>,
    flow: &Flow,
    user: UserId,
    sight: &Sight<'_>,
    config: &config::Registrar,
    location: &mut Location,
    registration: Registration<'r>,
    changes: &mut Vec<Change>,
) -> Result<Option<Registration<'r>>, Registered> {
    let user_agent = request
        .value(crate::message::HeaderName::UserAgent)
        .unwrap_or_default();
    let bindings: Vec<NewBinding<'_>> = registration
        .contacts
        .iter()
        .map(|wanted| NewBinding {
            contact: wanted.uri.raw,
            params: &wanted.params,
            instance: wanted.instance(),
            reg_id: wanted.reg_id,
            path: &registration.path,
            call_id: request.call_id(),
            cseq: request.cseq().number,
            q: wanted.q,
            user_agent,
            flow: *flow,
            lifetime: wanted.lifetime,
        })
        .collect();
    let plan = plan(
        request,
        user,
        sight,
        config,
        location,
        &registration.contacts,
        &bindings,
    )?;
    for id in plan.removed {
        location.remove(id, changes);
    }
    // Removals first: then no binding is made that the next one takes the place of.
    for (wanted, matched) in registration.contacts.iter().zip(&plan.matched) {
        if let (true, Some(id)) = (wanted.is_removal(), matched) {
            location.remove(*id, changes);
        }
    }
    // Of contacts with the same q callers try the one first that was refreshed last; within a request that is the first.
    for ((wanted, new), matched) in registration
        .contacts
        .iter()
        .zip(&bindings)
        .zip(&plan.matched)
        .rev()
    {
        if !wanted.is_removal() {
            let made = location.put(now, user, *matched, new, changes);
            debug_assert!(made.is_some(), "planned, so it fits");
        }
    }
    Ok(Some(registration))
}

/// A binding that the user has.
#[derive(Debug)]
struct Current<'l> {
    id: BindingId,
    binding: &'l Binding,
    uri: ContactUri<'l>,
    /// No contact has been found to mean it.
    is_free: bool,
}

impl<'l> Current<'l> {
    fn new((id, binding): (BindingId, &'l Binding)) -> Self {
        Self {
            id,
            binding,
            uri: ContactUri::of(binding),
            is_free: true,
        }
    }

    /// A contact means it.
    fn take(&mut self, request: &Message<'_>) -> Result<(), Registered> {
        self.is_free = false;
        check_order(request, self.binding)
    }
}

/// Finds out what is to be done, and whether all of it may be.
fn plan(
    request: &Message<'_>,
    user: UserId,
    sight: &Sight<'_>,
    config: &config::Registrar,
    location: &Location,
    contacts: &[Wanted<'_>],
    bindings: &[NewBinding<'_>],
) -> Result<Plan, Registered> {
    let (mut current, mut unseen) = (Vec::new(), Vec::new());
    for entry in location.entries(user) {
        if sight.sees(entry.1) {
            current.push(Current::new(entry));
        } else {
            unseen.push(entry);
        }
    }
    let mut plan = Plan {
        matched: Vec::with_capacity(contacts.len()),
        removed: Vec::new(),
    };
    for wanted in contacts {
        // Of several one that is proven, if it is so itself. Then one that is as it asks to be, with a reg-id or without: so no
        // two without have the same contact. Then, since equality of URIs is not transitive (§19.1.4), the very same text.
        let found = (current.iter_mut())
            .filter(|own| own.is_free && wanted.is_same(own.binding, &own.uri))
            .min_by_key(|own| {
                let is_other_kind = (wanted.reg_id == 0) != (own.binding.reg_id == 0);
                let is_other_text = own.binding.contact() != wanted.uri.raw;
                let is_unproven = sight.is_unproven(own.binding);
                (is_unproven, is_other_kind, is_other_text)
            });
        plan.matched.push(found.as_ref().map(|own| own.id));
        if let Some(own) = found {
            own.take(request)?;
        }
    }
    // A new contact of a phone that registered another one before takes its place: its address has changed.
    for (wanted, matched) in contacts.iter().zip(&mut plan.matched) {
        if wanted.is_removal() || matched.is_some() {
            continue;
        }
        for own in &mut current {
            if own.is_free && wanted.supersedes(own.binding, request.call_id()) {
                own.take(request)?;
                match matched {
                    None => *matched = Some(own.id),
                    Some(_) => plan.removed.push(own.id),
                }
            }
        }
    }
    let added = contacts
        .iter()
        .filter(|wanted| !wanted.is_removal())
        .count();
    // The state file would know both by one key, and lose the one that it is not allowed to touch.
    let is_kept_as = |binding: &Binding| {
        let key = (binding.contact(), binding.instance(), binding.reg_id);
        (bindings.iter()).any(|new| key == (new.contact, new.instance, new.reg_id))
    };
    if added > 0 && unseen.iter().any(|(_, binding)| is_kept_as(binding)) {
        return Err(Registered::new(403, "Contact Registered Elsewhere"));
    }
    let mut kept: Vec<(BindingId, &Binding)> = (current.iter())
        .filter(|own| own.is_free)
        .map(|own| (own.id, own.binding))
        .collect();
    if added > 0 {
        // Those that anybody can have made go first, whoever asks.
        kept.sort_by_cached_key(|(_, binding)| (!sight.is_unproven(binding), binding.refreshed));
        let room = config
            .bindings_per_user_max
            .checked_sub(added.saturating_add(unseen.len()));
        let Some(room) = room else {
            return Err(Registered::new(403, "Too Many Contacts"));
        };
        // At the bound the one refreshed longest ago goes.
        let surplus = kept.len().saturating_sub(room);
        plan.removed.extend(kept.drain(..surplus).map(|(id, _)| id));
        let mut checked = check_size(contacts, bindings, &kept, &unseen);
        // Nor do they leave a proven one without its line.
        while checked.is_err()
            && !sight.is_forgeable
            && let Some((id, binding)) = kept.first()
            && sight.is_unproven(binding)
        {
            plan.removed.push(*id);
            kept.remove(0);
            checked = check_size(contacts, bindings, &kept, &unseen);
        }
        checked?;
    }
    Ok(plan)
}

/// Every binding fits its bound, and the answer that lists them all fits a datagram.
fn check_size(
    contacts: &[Wanted<'_>],
    bindings: &[NewBinding<'_>],
    kept: &[(BindingId, &Binding)],
    unseen: &[(BindingId, &Binding)],
) -> Result<(), Registered> {
    let mut listed: usize = (kept.iter().chain(unseen))
        .map(|(_, binding)| answer::line_bytes(binding.contact(), binding.params()))
        .sum();
    for (_, new) in contacts
        .iter()
        .zip(bindings)
        .filter(|(wanted, _)| !wanted.is_removal())
    {
        if !Binding::fits(new) {
            return Err(Registered::new(403, "Contact Too Long"));
        }
        listed = listed.saturating_add(answer::line_bytes(new.contact, new.params));
    }
    if listed > crate::limits::LISTED_CONTACTS_BYTES_MAX {
        return Err(Registered::new(403, "Too Many Contacts"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
