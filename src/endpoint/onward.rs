//! A call is to go on to somebody else: where that is (RFC 3261 §16.5, §16.7 step 4).

use super::brake::{Payer, charge};
use super::invite::dialled_number;
use super::route::Lead;
use super::*;
use crate::call::{EndedBy, Found, Identity, Onward, Party, Target, Why};
use crate::message::Uri;
use crate::source::Who;

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
        let mut found = Found {
            targets: Vec::new(),
            status: 480,
            diverting: Identity {
                host: self.config.server.domains.first().cloned(),
                ..Identity::default()
            },
        };
        let uris = match &onward.why {
            Why::Redirected(uris) => uris,
            Why::Failed(alternatives, by) => {
                if *by == EndedBy::Server {
                    self.reach_doubt(now, &onward.flow);
                    self.line_doubt(now, &onward.by, &onward.flow);
                }
                let (caller, flow) = &onward.caller;
                let targets = self.hop_targets(now, (**alternatives).clone(), (caller, flow));
                found.targets = targets.unwrap_or_default();
                // The call that failed was his, and so is this one.
                charge(&mut found.targets, onward.payer.as_ref());
                return found;
            }
        };
        let Party::User(by, name) = &onward.by else {
            return found;
        };
        found.diverting.user = name.as_bytes().to_vec();
        for uri in uris {
            let more = (found.targets.iter())
                .filter(|target| target.payer.is_some())
                .count();
            match self.redirected_to(now, onward, (*by, more), uri) {
                Ok(targets) => found.targets.extend(targets),
                // Busy says more than that nobody is there.
                Err(status) if found.status == 480 => found.status = status,
                Err(_) => {}
            }
        }
        found
    }

    /// Where one URI of a redirection leads, or why it does not. Others of this one lead to `more` outside calls already.
    fn redirected_to(
        &mut self,
        now: Now,
        onward: &Onward,
        (by, more): (UserId, usize),
        uri: &[u8],
    ) -> Result<Vec<Target>, u16> {
        let uri = Uri::parse(uri)
            .ok()
            .filter(|uri| !uri.user.is_empty() && self.is_our_host(uri, &onward.flow));
        let number = uri.as_ref().map(dialled_number).ok_or(480u16)?;
        // Since the last reload there may be no such user any more.
        if self.config.users.get(by.0 as usize).is_none() {
            return Err(480);
        }
        let (caller, flow) = &onward.caller;
        let payer = Payer {
            party: &onward.by,
            source: onward.flow.remote.ip(),
            more,
        };
        let targets = match self.lead(Who::User(by), &number) {
            Lead::User(user) if self.is_busy(user) => return Err(486),
            Lead::User(user) => {
                let is_caller = matches!(caller, Party::User(own, _) if *own == user);
                self.user_targets(now, user, is_caller.then_some(flow), &number)
            }
            Lead::Onward(alternatives) => self
                .hop_targets_for(now, alternatives, (caller, flow), Some(payer))
                .map_err(|(status, _)| status)?,
            Lead::Forbidden => return Err(403),
            Lead::Nowhere => Vec::new(),
        };
        Ok(targets)
    }
}
