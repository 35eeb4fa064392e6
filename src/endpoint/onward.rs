//! A call is to go on to somebody else: where that is (RFC 3261 §16.5, §16.7 step 4).

use super::brake::charge;
use super::callee::{Asking, Rung, told_of};
use super::invite::dialled_number;
use super::route::Refusal;
use super::*;
use crate::call::{Cause, EndedBy, Found, Onward, Party, Why};
use crate::message::Uri;

impl Endpoint {
    /// Answers every call that asks where it is to go on to.
    pub(super) fn calls_go_on(&mut self, now: Now) {
        while let Some(onward) = self.calls.next_onward() {
            let found = self.found(now, &onward);
            let (calls, mut context) = self.split(now);
            calls.go_on(onward, found, &mut context);
        }
    }

    /// A local user who redirects a call calls on: what he names is a number that he dials, wherever it says that it is.
    /// He is in the call already, so his own `calls_max` counts him once. Nobody else redirects.
    fn found(&mut self, now: Now, onward: &Onward) -> Found {
        let mut asking = Asking::of(onward);
        let rung = match &onward.why {
            Why::Redirected(uris) => return self.redirected(now, onward, uris, &mut asking),
            Why::Transferred(uri) => self.transferred_to(now, onward, uri, &mut asking),
            Why::Failed(alternatives, by) => {
                if *by == EndedBy::Server {
                    self.reach_doubt(now, &onward.flow);
                    self.line_doubt(now, &onward.by, &onward.flow);
                }
                let rung = self.hop_targets(now, (**alternatives).clone(), &mut asking);
                rung.map(|mut rung| {
                    // The call that failed was his, and so is this one. Who sent it there has sent it here.
                    charge(&mut rung.targets, onward.payer.as_ref());
                    told_of(&mut rung.targets, &onward.chain, &alternatives.number);
                    for target in &mut rung.targets {
                        target.role.is_member |= onward.is_member;
                    }
                    rung
                })
            }
            Why::Unreached { cause, .. } => self.instead_of(now, onward, *cause, &mut asking),
            Why::Next { hunt, .. } => {
                asking.been.clone_from(&hunt.been);
                self.ring_next(now, hunt.clone(), &mut asking)
            }
        };
        match rung {
            Ok(rung) => Found {
                targets: rung.targets,
                status: 480,
                hunt: rung.hunt,
            },
            Err((status, _)) => Found::nobody(status),
        }
    }

    /// Where the calls of a user go on to whom the call has not reached.
    fn instead_of(
        &mut self,
        now: Now,
        onward: &Onward,
        cause: Cause,
        asking: &mut Asking<'_>,
    ) -> Result<Rung, Refusal> {
        let Party::User(user, _) = &onward.by else {
            return Err((480, None));
        };
        let config = self.config.users.get(user.0 as usize);
        let forwards = config.map(|user| &user.forwards);
        let to = forwards.and_then(|forwards| match cause {
            Cause::Busy => forwards.busy.clone(),
            Cause::NoAnswer => forwards.no_answer.clone(),
            // It is registered, so whoever called has waited for an answer.
            Cause::Offline => (forwards.offline.clone()).or_else(|| forwards.no_answer.clone()),
            Cause::Always | Cause::Disturbed | Cause::Deflected | Cause::DeflectedRinging => None,
        });
        let to = to.ok_or((480, None))?;
        self.send_on(now, *user, cause, to.as_bytes(), asking)
    }

    /// A local user who transfers his call dials what he names: for the other party, by his own rights and at his expense.
    fn transferred_to(
        &mut self,
        now: Now,
        onward: &Onward,
        uri: &[u8],
        asking: &mut Asking<'_>,
    ) -> Result<Rung, Refusal> {
        let number = self.named_number(uri, onward).ok_or((404, None))?;
        let Party::User(by, _) = &onward.by else {
            return Err((403, None));
        };
        // Since the last reload there may be no such user any more.
        if self.config.users.get(by.0 as usize).is_none() {
            return Err((403, None));
        }
        asking.source = onward.flow.remote.ip();
        let lead = self.lead(onward.by.who(), &number);
        self.ring_lead(now, lead, &onward.by, &number, asking)
    }

    fn redirected(
        &mut self,
        now: Now,
        onward: &Onward,
        uris: &[Box<[u8]>],
        asking: &mut Asking<'_>,
    ) -> Found {
        let mut found = Found::nobody(480);
        let Party::User(by, _) = &onward.by else {
            return found;
        };
        asking.source = onward.flow.remote.ip();
        for uri in uris {
            asking.more = (found.targets.iter())
                .filter(|target| target.payer.is_some())
                .count();
            match self.redirected_to(now, onward, *by, uri, asking) {
                // One group at a time.
                Ok(rung) if rung.hunt.is_some() && found.hunt.is_some() => {}
                Ok(rung) => {
                    found.targets.extend(rung.targets);
                    found.hunt = found.hunt.or(rung.hunt);
                }
                // Busy says more than that nobody is there.
                Err((status, _)) if found.status == 480 => found.status = status,
                Err(_) => {}
            }
        }
        for target in &mut found.targets {
            target.role.is_member |= onward.is_member;
        }
        found
    }

    /// The number in a URI that somebody has named for a call to go to; `None`: it is at a host that is none of ours.
    fn named_number(&self, uri: &[u8], onward: &Onward) -> Option<Vec<u8>> {
        let uri = Uri::parse(uri).ok()?;
        let is_ours = !uri.user.is_empty() && self.is_our_host(&uri, &onward.flow);
        is_ours.then(|| dialled_number(&uri))
    }

    /// Where one URI of a redirection leads, or why it does not.
    fn redirected_to(
        &mut self,
        now: Now,
        onward: &Onward,
        by: UserId,
        uri: &[u8],
        asking: &mut Asking<'_>,
    ) -> Result<Rung, Refusal> {
        let number = self.named_number(uri, onward).ok_or((480u16, None))?;
        // Since the last reload there may be no such user any more.
        if self.config.users.get(by.0 as usize).is_none() {
            return Err((480, None));
        }
        let cause = match onward.has_rung {
            true => Cause::DeflectedRinging,
            false => Cause::Deflected,
        };
        self.send_on(now, by, cause, &number, asking)
    }
}
