//! Challenges (401, 407) of a line's peer to requests of ours are answered with the line's credentials, on any method:
//! the request goes out once more as a new transaction, with the next CSeq number (RFC 3261 §22.2).
//!
//! Only a line has credentials, and only its own peer gets an answer: a right branch proves that the request was seen, not
//! who saw it. `endpoint` checks where the response came from before it asks here. What a callee, a phone or a trunk asks
//! for is never answered, and never passed on: a caller could answer it with his own password.

use super::*;
use crate::message::{Composer, DigestParams, HeaderName, Message};
use crate::transaction::{Branch as ViaBranch, Refused};

/// How often one request is sent again: for its first challenge, and once more for a proxy that has one beside the
/// server's or for a nonce that was too old.
const TRIES_MAX: u8 = 2;

impl Calls {
    /// A 401 or 407 from the peer of the line that a transaction's leg is on. `true`: it is answered, and what has been
    /// asked for goes on; else the response is a refusal as any other.
    pub fn challenged(
        &mut self,
        id: ClientId,
        owner: Owner,
        response: &Message<'_>,
        context: &mut Context<'_>,
    ) -> bool {
        let owner = self.resolved(owner);
        let refused = context.transactions.take_refused(id);
        let Some(refused) = refused.filter(|refused| !refused.is_cancelled) else {
            return false;
        };
        let Some(call) = self.get(owner.call) else {
            return false;
        };
        if refused.tries >= TRIES_MAX || !call.may_ask_again(owner) {
            return false;
        }
        let Some((leg, line)) = call.leg_mut(owner.leg).and_then(|leg| match leg.party {
            Party::Line(line, _) => Some((leg, line)),
            Party::User(..) | Party::Trunk(..) => None,
        }) else {
            return false;
        };
        let Ok(request) = crate::message::parse(&refused.bytes) else {
            return false;
        };
        if is_wrong_answer(&request, response) {
            return false;
        }
        let mut credentials = Vec::new();
        let authorized =
            context
                .lines
                .authorize(line, response, &request, context.tokens, &mut credentials);
        if authorized.is_err() {
            return false;
        }
        let Some((client, branch)) = context.transactions.reserve() else {
            return false;
        };
        leg.reconnect(context);
        let last = request.cseq().number.max(leg.dialog.local_cseq);
        leg.dialog.local_cseq = last.saturating_add(1);
        let cseq = leg.dialog.local_cseq;
        leg.compose_again(&request, cseq, &branch, &credentials, context.buffer);
        leg.send(client, refused.method, owner, context);
        (context.transactions).count_tries(client, refused.tries.saturating_add(1));
        if refused.method == Method::Invite {
            leg.credentials = Some((cseq, credentials.into()));
        }
        self.goes_on_as((id, client), cseq, owner, &refused, context);
        true
    }

    /// Whatever waits for a transaction waits for the one that took its place.
    fn goes_on_as(
        &mut self,
        (old, new): (ClientId, ClientId),
        cseq: u32,
        owner: Owner,
        refused: &Refused,
        context: &mut Context<'_>,
    ) {
        let Some(call) = self.get(owner.call) else {
            return;
        };
        match owner.purpose {
            Purpose::Invite => {
                for branch in &mut call.branches {
                    if branch.client == old {
                        (branch.client, branch.cseq) = (new, cseq);
                        (branch.asked_at, branch.is_heard) = (context.now.mono, false);
                        // The responses to a new INVITE are numbered anew (RFC 3262 §3).
                        branch.early.taken = None;
                    }
                }
            }
            Purpose::Relay => {
                let relay = call.relays.iter_mut().find(|relay| relay.client == old);
                if let Some(relay) = relay {
                    (relay.client, relay.cseq) = (new, cseq);
                }
                if refused.method == Method::Invite {
                    let at = context.now.mono.plus(crate::limits::TIMER_C);
                    self.arm(at, Timer::Relay(owner.call, new));
                }
            }
            Purpose::Refresh => {
                let leg = call.leg_mut(owner.leg);
                if let Some(refresh) = leg.and_then(|leg| leg.watch.refresh.as_mut()) {
                    (refresh.client, refresh.cseq) = (new, cseq);
                }
            }
            // Nobody asks for them by name.
            Purpose::Bye | Purpose::Probe | Purpose::Notify | Purpose::Pickup | Purpose::Stray => {}
        }
    }
}

impl Call {
    /// Whether a request of this kind is still wanted.
    fn may_ask_again(&self, owner: Owner) -> bool {
        match owner.purpose {
            // The call is over, or somebody else has it: a new INVITE would ring for nobody.
            Purpose::Invite => {
                let branch = self.branches.get(owner.leg as usize);
                self.state == State::Ringing
                    && !self.is_final
                    && !self.is_declined()
                    && branch.is_some_and(|branch| branch.status.is_none())
            }
            Purpose::Relay | Purpose::Refresh => self.state != State::Ending,
            Purpose::Bye | Purpose::Probe | Purpose::Notify | Purpose::Pickup | Purpose::Stray => {
                true
            }
        }
    }
}

impl Leg {
    /// Composes a refused request once more: all that it said, with another branch and CSeq number, and these credentials
    /// in place of others.
    fn compose_again(
        &self,
        refused: &Message<'_>,
        cseq: u32,
        branch: &ViaBranch,
        credentials: &[u8],
        buffer: &mut Vec<u8>,
    ) {
        let token = refused.cseq().token;
        let mut composer = Composer::request(buffer, token, refused.request_uri());
        crate::dialog::write_via(
            &mut composer,
            &self.dialog.flow,
            self.dialog.ours,
            branch.as_bytes(),
        );
        for line in refused.lines() {
            match line.name {
                HeaderName::CSeq => {
                    composer.field_with("CSeq", |value| {
                        crate::message::compose::append_number(value, cseq.into());
                        value.push(b' ');
                        value.extend_from_slice(token);
                    });
                    composer.lines(credentials);
                }
                HeaderName::Via
                | HeaderName::Authorization
                | HeaderName::ProxyAuthorization
                | HeaderName::ContentType
                | HeaderName::ContentLength => {}
                _ => {
                    if let Ok(name) = std::str::from_utf8(line.raw_name) {
                        composer.field(name, &[line.value]);
                    }
                }
            }
        }
        let kind = refused.value(HeaderName::ContentType);
        composer.finish(kind, refused.body());
    }

    /// The credentials of the INVITE with this CSeq number, which its ACK repeats (RFC 3261 §22.1).
    pub(super) fn credentials_of(&self, cseq: u32) -> &[u8] {
        match &self.credentials {
            Some((own, lines)) if *own == cseq => lines,
            _ => b"",
        }
    }
}

/// Whether the refused request has answered this very question: then another answer would be as wrong, unless the nonce was
/// merely too old (RFC 7616 §3.3) or another realm asks.
fn is_wrong_answer(request: &Message<'_>, response: &Message<'_>) -> bool {
    let (asked, answered) = match response.status() {
        401 => (HeaderName::WwwAuthenticate, HeaderName::Authorization),
        _ => (
            HeaderName::ProxyAuthenticate,
            HeaderName::ProxyAuthorization,
        ),
    };
    let digest = |value| DigestParams::parse(value).ok().flatten();
    let answers: Vec<DigestParams<'_>> = request.line_values(answered).filter_map(digest).collect();
    let mut challenges = response.line_values(asked).filter_map(digest).peekable();
    challenges.peek().is_some()
        && challenges.all(|challenge| {
            let is_stale =
                (challenge.stale).is_some_and(|stale| stale.eq_ignore_ascii_case(b"true"));
            let is_same = |answer: &DigestParams<'_>| answer.realm == challenge.realm;
            !is_stale && answers.iter().any(is_same)
        })
}
