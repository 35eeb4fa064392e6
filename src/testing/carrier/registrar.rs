//! The carrier's registrar: RFC 3261 §10.3 in the order of its steps, RFC 3608, RFC 3455 §4.1.

use super::{Binding, Carrier, Credentials, Verdict};
use crate::message::{ContactValue, HeaderName, Message, Uri};
use crate::source::Flow;
use crate::time::Instant;

use std::time::Duration;

impl Carrier {
    pub(super) fn register(&mut self, now: Instant, request: &Message<'_>, flow: &Flow) -> Verdict {
        let Some(index) = self.registering(request) else {
            self.seen.refused += 1;
            return self.refuse(request, flow, 404);
        };
        self.seen.registers.push((now, index));
        self.check_register(now, request, index);
        if self.contact(now, index).is_some() && self.random.chance(self.policy.busy) {
            return self.puts_off(now, request, flow, index);
        }
        let name = match self.policy.challenges_registers_with {
            401 => HeaderName::Authorization,
            _ => HeaderName::ProxyAuthorization,
        };
        match self.check(now, request, name) {
            Credentials::Right(own) if own == index => {}
            Credentials::Right(_) | Credentials::Wrong => {
                self.seen.refused += 1;
                return self.refuse(request, flow, 403);
            }
            Credentials::None { is_stale } => {
                let status = self.policy.challenges_registers_with;
                return self.challenge(now, request, flow, status, is_stale);
            }
        }
        let wanted = match self.wanted(request, index) {
            Ok(wanted) => wanted,
            Err(fault) => {
                self.fault(fault);
                return self.refuse(request, flow, 400);
            }
        };
        self.bind(now, request, flow, index, wanted)
    }

    /// The account in To.
    fn registering(&mut self, request: &Message<'_>) -> Option<usize> {
        let uri = Uri::parse(request.to().uri).ok()?;
        let user = String::from_utf8_lossy(uri.user).into_owned();
        let is_ours = uri
            .host_raw
            .eq_ignore_ascii_case(self.policy.domain.as_bytes());
        self.by_user.get(&user).copied().filter(|_| is_ours)
    }

    /// RFC 3261 §10.2: what every REGISTER must be like.
    fn check_register(&mut self, now: Instant, request: &Message<'_>, index: usize) {
        let target = String::from_utf8_lossy(request.request_uri()).into_owned();
        if target != format!("sip:{}", self.policy.domain) {
            self.fault(format!("a REGISTER to {target}"));
        }
        let (from, to) = (request.from().uri, request.to().uri);
        if from != to {
            self.fault("a REGISTER whose From is not its To".to_owned());
        }
        let (call_id, cseq) = (request.call_id().to_vec(), request.cseq().number);
        let Some(account) = self.accounts.get_mut(index) else {
            return;
        };
        let is_early = account.not_before.take().is_some_and(|at| now < at);
        // What was overtaken by its successor has a number of its own too.
        let is_again = account.last == Some((call_id.clone(), cseq));
        if (account.last.as_ref()).is_none_or(|last| last.0 != call_id || last.1 < cseq) {
            account.last = Some((call_id, cseq));
        }
        if is_again {
            self.fault(format!("two REGISTERs with CSeq {cseq} at {now:?}"));
        }
        if is_early && self.policy.minds_haste {
            self.fault(format!(
                "a REGISTER before what Retry-After said at {now:?}"
            ));
        }
    }

    fn puts_off(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        flow: &Flow,
        index: usize,
    ) -> Verdict {
        let after = self.random.between(5, 300);
        if let Some(account) = self.accounts.get_mut(index) {
            account.not_before = Some(now.plus(Duration::from_secs(after)));
        }
        self.seen.refused += 1;
        self.answer(request, flow, 503, &[("Retry-After", after.to_string())])
    }

    /// The Contact and for how many seconds; `None`: it is to be removed.
    fn wanted(
        &mut self,
        request: &Message<'_>,
        index: usize,
    ) -> Result<Option<(Vec<u8>, u64)>, String> {
        let header = request.expires();
        match request.contacts() {
            ContactValue::None => Err("a REGISTER without Contact".to_owned()),
            ContactValue::Star if header == Some(0) => Ok(None),
            ContactValue::Star => Err("Contact: * without Expires: 0".to_owned()),
            ContactValue::Values(_) => {
                let mut values = request.contact_values();
                let Some(contact) = values.next() else {
                    return Err("a REGISTER with a Contact that is none".to_owned());
                };
                if values.next().is_some() {
                    return Err("a line with two Contacts".to_owned());
                }
                let seconds = contact.expires.or(header).unwrap_or(3_600);
                let uri = contact.address.uri.to_vec();
                if Uri::parse(&uri).map_or(true, |uri| uri.user.is_empty()) {
                    return Err(format!(
                        "the Contact {} of account {index} names nobody",
                        String::from_utf8_lossy(&uri)
                    ));
                }
                Ok((seconds > 0).then_some((uri, u64::from(seconds))))
            }
        }
    }

    fn bind(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        flow: &Flow,
        index: usize,
        wanted: Option<(Vec<u8>, u64)>,
    ) -> Verdict {
        let (call_id, cseq) = (request.call_id().to_vec(), request.cseq().number);
        let Some((uri, seconds)) = wanted else {
            self.seen.removed += 1;
            if let Some(account) = self.accounts.get_mut(index) {
                (account.binding, account.granted_until) = (None, now);
            }
            return self.granted(request, flow, None);
        };
        if seconds < self.policy.expires_min_s {
            self.seen.refused += 1;
            let least = self.policy.expires_min_s.to_string();
            return self.answer(request, flow, 423, &[("Min-Expires", least)]);
        }
        let (from, to) = self.policy.grant_s;
        let grant = self.random.between(from, to).min(seconds);
        let until = now.plus(Duration::from_secs(grant));
        let binding = Binding {
            uri: uri.clone(),
            call_id,
            cseq,
            until,
        };
        let live = self
            .accounts
            .get(index)
            .and_then(|own| own.binding.as_ref());
        if let Some(live) = live.filter(|live| live.until > now) {
            // RFC 3261 §10.3 step 7: what is older than what is there was overtaken.
            if live.call_id == binding.call_id && live.cseq >= binding.cseq {
                return self.refuse(request, flow, 500);
            }
            if live.uri != uri {
                self.fault(format!(
                    "two Contacts of account {index}: {} and {}",
                    String::from_utf8_lossy(&live.uri.clone()),
                    String::from_utf8_lossy(&uri)
                ));
            }
        }
        if let Some(account) = self.accounts.get_mut(index) {
            if account.binding.is_some() && account.granted_until < now {
                (self.seen.lapses).push((index, account.granted_at, now));
            }
            account.binding = Some(binding);
            (account.granted_at, account.granted_until) = (now, until);
            account.registered += 1;
        }
        self.granted(request, flow, Some((uri, grant)))
    }

    /// 200 with what there is.
    fn granted(
        &mut self,
        request: &Message<'_>,
        flow: &Flow,
        own: Option<(Vec<u8>, u64)>,
    ) -> Verdict {
        let mut lines = Vec::new();
        if let Some((uri, seconds)) = &self.policy.other_contact {
            lines.push(("Contact", format!("<{uri}>;expires={seconds}")));
        }
        if let Some((uri, seconds)) = own {
            let uri = String::from_utf8_lossy(&uri).into_owned();
            if self.policy.grants_in_header {
                lines.push(("Contact", format!("<{uri}>")));
                lines.push(("Expires", seconds.to_string()));
            } else {
                lines.push(("Contact", format!("<{uri}>;q=0.7;expires={seconds}")));
            }
            if self.random.chance(500) {
                lines.reverse();
            }
        }
        if self.policy.has_service_route {
            lines.push(("Service-Route", self.service_route(self.epoch)));
        }
        if self.policy.has_associated_uris {
            let to = String::from_utf8_lossy(request.to().uri).into_owned();
            lines.push(("P-Associated-URI", format!("<{to}>, <tel:+4930555>")));
        }
        self.answer(request, flow, 200, &lines)
    }
}
