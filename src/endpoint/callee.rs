//! Who is rung for a number: users, with what they have set for their calls; ringing groups; and what lies outside.
//!
//! Whoever sends a call on answers for it: where it goes to is a number that he dials, with his levels, his limits and the
//! brake on his outside calls, be it his phone that says so (3xx), his keys in the file or what he has dialled.

use super::brake::Payer;
use super::route::{Lead, Refusal};
use super::*;
use crate::call::{
    Cause, Dialler, Diverted, Forwarding, Hunt, Identity, Onward, Party, Role, Target, Why,
};
use crate::config::Strategy;
use crate::limits::FORWARDS_MAX;
use crate::source::GroupId;

/// Who is rung for a number.
#[derive(Debug)]
pub(super) struct Rung {
    /// At once, never empty.
    pub targets: Vec<Target>,
    /// The group that these are of.
    pub hunt: Option<Box<Hunt>>,
}

impl From<Vec<Target>> for Rung {
    fn from(targets: Vec<Target>) -> Self {
        Self {
            targets,
            hunt: None,
        }
    }
}

/// For whom a number is looked up, and what has been before.
pub(super) struct Asking<'a> {
    /// Who calls, and the way that he speaks.
    pub caller: (&'a Party, &'a Flow),
    /// The phone that has the call go there, for the log.
    pub source: IpAddr,
    /// Who dials, if it is not the caller.
    pub by: Option<Dialler>,
    /// Who has sent the call on, the last one last: then it is he who dials.
    pub chain: Vec<Diverted>,
    /// Outside calls of whoever dials that are about to begin beside this one.
    pub more: usize,
    /// It is a member of a group who is looked for.
    pub is_member: bool,
    /// Users whom the call has reached before: none is rung twice.
    pub seen: Vec<UserId>,
    /// Groups that it has been in.
    pub been: Vec<Box<str>>,
}

impl<'a> Asking<'a> {
    /// For a number that somebody dials.
    pub fn new(caller: &'a Party, flow: &'a Flow) -> Self {
        Self {
            caller: (caller, flow),
            source: flow.remote.ip(),
            by: None,
            chain: Vec::new(),
            more: 0,
            is_member: false,
            seen: Vec::new(),
            been: Vec::new(),
        }
    }

    /// For a call that is to go on.
    pub fn of(onward: &'a Onward) -> Self {
        let (caller, flow) = &onward.caller;
        let id = |party: &Party| match party {
            Party::User(user, _) => Some(*user),
            Party::Trunk(..) | Party::Line(..) => None,
        };
        let by = match &onward.why {
            Why::Next { hunt, .. } => hunt.by.clone(),
            Why::Transferred(_) => onward.by.dialler(onward.flow.remote.ip()),
            // Of what is tried in the place of his outside call he dials the rest too.
            Why::Failed(..) => {
                let payer = onward.payer.as_ref();
                payer.and_then(|payer| payer.dialler(flow.remote.ip()))
            }
            Why::Redirected(_) | Why::Unreached { .. } => None,
        };
        let source = by.as_ref().map_or(flow.remote.ip(), |by| by.source);
        Self {
            source,
            by,
            chain: onward.chain.clone(),
            is_member: onward.is_member,
            seen: onward.rung.iter().filter_map(id).collect(),
            ..Self::new(caller, flow)
        }
    }
}

impl Endpoint {
    /// Who is rung for a number that the caller dials, or whoever has sent the call on last.
    pub(super) fn ring_number(
        &mut self,
        now: Now,
        number: &[u8],
        asking: &mut Asking<'_>,
    ) -> Result<Rung, Refusal> {
        let by = self.dialling(asking).ok_or((480, None))?;
        let lead = self.lead(by.who(), number);
        self.ring_lead(now, lead, &by, number, asking)
    }

    /// The same where it is known where the number leads. `number`: as those are told it who are here.
    pub(super) fn ring_lead(
        &mut self,
        now: Now,
        lead: Lead,
        by: &Party,
        number: &[u8],
        asking: &mut Asking<'_>,
    ) -> Result<Rung, Refusal> {
        match lead {
            Lead::User(user) => self.ring_user(now, user, number, asking),
            Lead::Group(group) => self.ring_group(now, group, number, asking),
            Lead::Onward(alternatives) => {
                let payer = Payer {
                    party: by,
                    source: asking.source,
                    more: asking.more,
                };
                let payer = matches!(by, Party::User(..)).then_some(payer);
                self.hop_targets_for(now, alternatives, asking, payer)
            }
            Lead::Forbidden => Err((403, None)),
            Lead::Nowhere => Err((404, None)),
        }
    }

    /// Who dials; `None`: since the last reload there is no such user any more.
    fn dialling(&self, asking: &Asking<'_>) -> Option<Party> {
        let by = asking.by.as_ref().map(|by| &by.name);
        let name = asking.chain.last().map(|last| &last.by).or(by);
        let Some(name) = name else {
            return Some(asking.caller.0.clone());
        };
        let user = self.auth.user(name.as_bytes())?;
        Some(Party::User(user, name.clone()))
    }

    /// A user: his phones, or where his calls go on to.
    pub(super) fn ring_user(
        &mut self,
        now: Now,
        user: UserId,
        number: &[u8],
        asking: &mut Asking<'_>,
    ) -> Result<Rung, Refusal> {
        let is_caller = matches!(asking.caller.0, Party::User(own, _) if *own == user);
        let Some(config) = self.config.users.get(user.0 as usize) else {
            return Err((480, None));
        };
        // Who calls a group that he is in, or transfers a call to it, means the others.
        let by = asking.by.as_ref();
        let is_he = is_caller || by.is_some_and(|by| *by.name == *config.name);
        if asking.is_member && is_he || asking.seen.contains(&user) {
            return Err((480, None));
        }
        asking.seen.push(user);
        if let Some(to) = self.features.forward_always(config) {
            let to = to.to_owned();
            return self.send_on(now, user, Cause::Always, to.as_bytes(), asking);
        }
        let forwards = config.forwards.clone();
        let (is_busy, is_off) = (self.is_busy(user), self.features.do_not_disturb(config));
        // What he has set for calls that he does not take is for calls to himself.
        let own = |to: Option<String>| to.filter(|_| !asking.is_member);
        if is_busy || is_off {
            let status = if is_busy { 486 } else { 480 };
            let to = own(forwards.busy).ok_or((status, None))?;
            let cause = if is_busy {
                Cause::Busy
            } else {
                Cause::Disturbed
            };
            let rung = self.send_on(now, user, cause, to.as_bytes(), asking);
            return rung.map_err(|_| (status, None));
        }
        let flow = is_caller.then_some(asking.caller.1);
        let mut targets = self.user_targets(now, user, flow, number);
        if targets.is_empty() {
            let to = own(forwards.offline).ok_or((480, None))?;
            return self.send_on(now, user, Cause::Offline, to.as_bytes(), asking);
        }
        let waits = forwards.no_answer.is_some() || forwards.offline.is_some();
        let role = Role {
            is_member: asking.is_member,
            sends_on: !asking.is_member && (waits || forwards.busy.is_some()),
            no_answer_after: (waits && !asking.is_member).then_some(forwards.no_answer_after),
        };
        targets.iter_mut().for_each(|target| target.role = role);
        Ok(targets.into())
    }

    /// A user's call goes on to a number, as if he had dialled it.
    pub(super) fn send_on(
        &mut self,
        now: Now,
        user: UserId,
        cause: Cause,
        number: &[u8],
        asking: &mut Asking<'_>,
    ) -> Result<Rung, Refusal> {
        let config = self.config.users.get(user.0 as usize);
        let name = config.map(|user| user.name.as_str()).unwrap_or_default();
        let has_sent = asking.chain.iter().any(|before| *before.by == *name);
        if has_sent || asking.chain.len() >= FORWARDS_MAX {
            let fields = vec![
                ("by", name.to_owned()),
                ("to", String::from_utf8_lossy(number).into_owned()),
            ];
            self.event(log::Level::Warn, "forward_loop", fields);
            return Err((480, None));
        }
        asking.chain.push(Diverted {
            by: name.into(),
            identity: Identity {
                user: name.as_bytes().to_vec(),
                host: self.config.server.domains.first().cloned(),
                ..Identity::default()
            },
            cause,
        });
        let rung = self.ring_number(now, number, asking);
        let chain = asking.chain.clone();
        asking.chain.pop();
        // That he has dialled a wrong number is nothing to the caller.
        let mut rung = rung.map_err(|(status, _)| match status {
            404 => (480, None),
            status => (status, None),
        })?;
        told_of(&mut rung.targets, &chain, number);
        Ok(rung)
    }

    /// A group: those of its members who can be rung, or its next.
    pub(super) fn ring_group(
        &mut self,
        now: Now,
        group: GroupId,
        number: &[u8],
        asking: &mut Asking<'_>,
    ) -> Result<Rung, Refusal> {
        let Some(config) = self.config.groups.get(group.0 as usize) else {
            return Err((480, None));
        };
        let name: Box<str> = config.name.as_str().into();
        if asking.been.contains(&name) {
            return Err((480, None));
        }
        asking.been.push(name.clone());
        if asking.is_member {
            let members = config.members.clone();
            return self.ring_instead(now, &members, number, asking);
        }
        let users = (config.members.iter())
            .filter_map(|member| self.config.users.get(member.0 as usize))
            .map(|user| Box::from(user.name.as_str()));
        let mut left: Vec<Box<str>> = users.collect();
        let (strategy, rings) = (config.strategy, config.ring_timeout);
        if strategy == Strategy::Circular {
            let turn = self.groups.turn(group).min(left.len());
            left.rotate_left(turn);
        }
        left.reverse();
        let hunt = Box::new(Hunt {
            group: name,
            number: number.into(),
            left,
            rings,
            by: asking.by.clone(),
            chain: asking.chain.clone(),
            been: asking.been.clone(),
        });
        match strategy {
            Strategy::All => self.ring_all(now, hunt, asking),
            Strategy::Linear | Strategy::Circular => self.ring_next(now, hunt, asking),
        }
    }

    /// The members of a group in the place of a member of another one who has sent his calls there: a call is in one group at a
    /// time, so all of them at once, and for as long as he would have been rung.
    fn ring_instead(
        &mut self,
        now: Now,
        members: &[UserId],
        number: &[u8],
        asking: &mut Asking<'_>,
    ) -> Result<Rung, Refusal> {
        let mut targets = Vec::new();
        let mut refusal = (480, None);
        for member in members {
            match self.ring_user(now, *member, number, asking) {
                Ok(rung) => add_new(&mut targets, rung.targets),
                Err((status, _)) => refusal = busiest(refusal, status),
            }
        }
        match targets.is_empty() {
            true => Err(refusal),
            false => Ok(targets.into()),
        }
    }

    /// All members at once.
    fn ring_all(
        &mut self,
        now: Now,
        mut hunt: Box<Hunt>,
        asking: &mut Asking<'_>,
    ) -> Result<Rung, Refusal> {
        let mut targets: Vec<Target> = Vec::new();
        let mut refusal = (480, None);
        while let Some(member) = hunt.left.pop() {
            match self.ring_member(now, &member, &hunt, asking) {
                Ok(found) => add_new(&mut targets, found),
                Err(status) => refusal = busiest(refusal, status),
            }
        }
        match targets.is_empty() {
            true => self.ring_after(now, &hunt, refusal, asking),
            false => Ok(Rung {
                targets,
                hunt: Some(hunt),
            }),
        }
    }

    /// The next member of a group who can be rung; behind the last one the group's next.
    pub(super) fn ring_next(
        &mut self,
        now: Now,
        mut hunt: Box<Hunt>,
        asking: &mut Asking<'_>,
    ) -> Result<Rung, Refusal> {
        let mut refusal = (480, None);
        while let Some(member) = hunt.left.pop() {
            match self.ring_member(now, &member, &hunt, asking) {
                Ok(targets) => {
                    self.groups.was_rung(&self.config, &hunt.group, &member);
                    return Ok(Rung {
                        targets,
                        hunt: Some(hunt),
                    });
                }
                Err(status) => refusal = busiest(refusal, status),
            }
        }
        self.ring_after(now, &hunt, refusal, asking)
    }

    fn ring_member(
        &mut self,
        now: Now,
        member: &str,
        hunt: &Hunt,
        asking: &mut Asking<'_>,
    ) -> Result<Vec<Target>, u16> {
        let user = self.auth.user(member.as_bytes()).ok_or(480u16)?;
        asking.is_member = true;
        let rung = self.ring_user(now, user, &hunt.number, asking);
        asking.is_member = false;
        let mut targets = rung.map_err(|(status, _)| status)?.targets;
        for target in &mut targets {
            target.role.is_member = true;
        }
        told_of(&mut targets, &hunt.chain, &hunt.number);
        Ok(targets)
    }

    /// Where a group's calls go on to that nobody takes: a number that the caller dials, or whoever sent the call to the
    /// group.
    fn ring_after(
        &mut self,
        now: Now,
        hunt: &Hunt,
        refusal: Refusal,
        asking: &mut Asking<'_>,
    ) -> Result<Rung, Refusal> {
        let group = self.groups.find(hunt.group.as_bytes());
        let config = group.and_then(|group| self.config.groups.get(group.0 as usize));
        let next = config.and_then(|group| group.next.clone());
        let next = next.ok_or(refusal)?;
        let mut rung = match self.ring_number(now, next.as_bytes(), asking) {
            Ok(rung) => rung,
            Err((status @ (403 | 486), _)) => return Err((status, None)),
            Err(_) => return Err(refusal),
        };
        told_of(&mut rung.targets, &hunt.chain, next.as_bytes());
        Ok(rung)
    }
}

/// Says of those who are rung who has sent the call to them.
pub(super) fn told_of(targets: &mut [Target], chain: &[Diverted], number: &[u8]) {
    if chain.is_empty() {
        return;
    }
    for target in targets {
        // Outside as it is told there.
        let number = match target.party.is_outside() {
            true => target.to.user.as_slice(),
            false => number,
        };
        // To a carrier every user of ours is the account of the line.
        let told_as = target.line.as_ref().map(|line| line.from.clone());
        target.forwarding.get_or_insert_with(|| {
            Box::new(Forwarding {
                chain: chain.to_vec(),
                number: number.into(),
                told_as,
            })
        });
    }
}

/// Adds those of `found` that are not rung already.
fn add_new(targets: &mut Vec<Target>, found: Vec<Target>) {
    for one in found {
        if !(targets.iter()).any(|own| own.flow == one.flow && own.uri == one.uri) {
            targets.push(one);
        }
    }
}

/// That somebody is busy says more than that another is away.
fn busiest(refusal: Refusal, status: u16) -> Refusal {
    match status {
        486 => (486, None),
        _ => refusal,
    }
}
