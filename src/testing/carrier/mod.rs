//! A carrier: a registrar and the edge of a call server, as external lines meet them. It knows its accounts, challenges
//! whatever they send, grants registrations as it pleases and forgets them when it is restarted.
//!
//! It stands in front of a [`Phone`](super::phone::Phone), which is its call server: what it lets pass the phone answers,
//! and the calls to a line are the phone's. Nothing here is taken from how sipkeep itself registers phones: digests,
//! nonces and bindings are its own, so that both sides cannot be wrong alike. What no line may do is written to
//! [`Carrier::faults`].
//!
//! ```text
//!  line ──▶ Carrier::admit ──Pass──▶ Phone::receive
//!               │ Answer: 200 to REGISTER, 401, 403, 407, 423, 503
//!               │ Absorb: the ACK to one of those
//! ```

mod credentials;
mod policy;
mod registrar;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use self::credentials::{Credentials, Nonces};
pub use self::policy::{NonceLife, Policy};
use super::random::Random;
use crate::message::{Composer, HeaderName, Message, Method, Uri, reason_phrase};
use crate::source::Flow;
use crate::time::Instant;

/// How long an answer is kept for retransmissions of its request: 64·T1 and the network's delays.
const ANSWERS_KEPT: Duration = Duration::from_secs(40);
/// Mistakes that are kept for people; one is too many.
const FAULTS_MAX: usize = 10;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The call server's.
    Pass,
    /// These bytes answer it.
    Answer(Vec<u8>),
    /// It asks for no answer.
    Absorb,
}

/// Branch and method of a request: what its retransmissions have in common.
type RequestKey = (Vec<u8>, Vec<u8>);

/// A registered Contact.
#[derive(Clone, Debug)]
struct Binding {
    uri: Vec<u8>,
    call_id: Vec<u8>,
    cseq: u32,
    until: Instant,
}

/// An account.
#[derive(Clone, Debug)]
struct Account {
    user: String,
    password: String,
    binding: Option<Binding>,
    granted_at: Instant,
    /// When the last grant ends, or ended, whatever became of it since: until then its line need not know that it was
    /// forgotten.
    granted_until: Instant,
    /// Call-ID and CSeq number of the last REGISTER that was read.
    last: Option<(Vec<u8>, u32)>,
    /// 503 said so.
    not_before: Option<Instant>,
    registered: u32,
}

/// What a carrier has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When each REGISTER came and of which account, without retransmissions.
    pub registers: Vec<(Instant, usize)>,
    /// INVITEs of lines that were let through.
    pub calls: u32,
    /// INVITEs of lines that were refused because the account was not registered.
    pub unregistered: u32,
    /// CRLF that keeps a mapping open.
    pub pings: u64,
    /// REGISTERs that were refused: 403, 423, 503.
    pub refused: u32,
    /// Registrations that their line took back.
    pub removed: u32,
    /// Registrations that ended without a refresh: of which account, when granted, and when the next one came.
    pub lapses: Vec<(usize, Instant, Instant)>,
}

/// A carrier.
pub struct Carrier {
    /// How it behaves.
    pub policy: Policy,
    /// What it has seen.
    pub seen: Seen,
    /// What a line did that no line may do.
    pub faults: Vec<String>,
    accounts: Vec<Account>,
    by_user: BTreeMap<String, usize>,
    nonces: Nonces,
    /// For retransmissions.
    verdicts: BTreeMap<RequestKey, Verdict>,
    verdict_order: VecDeque<(Instant, RequestKey)>,
    /// How often it was restarted: a Service-Route of its own each time.
    epoch: u32,
    random: Random,
}

impl Carrier {
    /// A carrier with these accounts, user names and passwords; none is registered. `now`: from when on they may be.
    pub fn new(
        policy: Policy,
        accounts: impl IntoIterator<Item = (String, String)>,
        now: Instant,
        random: &Random,
    ) -> Self {
        let random = random.fork(&policy.domain);
        let accounts: Vec<Account> = (accounts.into_iter())
            .map(|(user, password)| Account {
                user,
                password,
                binding: None,
                granted_at: now,
                granted_until: now,
                last: None,
                not_before: None,
                registered: 0,
            })
            .collect();
        let by_user = (accounts.iter().enumerate())
            .map(|(index, account)| (account.user.clone(), index))
            .collect();
        Self {
            nonces: Nonces::new(policy.nonce, &random),
            policy,
            seen: Seen::default(),
            faults: Vec::new(),
            accounts,
            by_user,
            verdicts: BTreeMap::new(),
            verdict_order: VecDeque::new(),
            epoch: 0,
            random: random.fork("registrar"),
        }
    }

    /// It is restarted and knows nothing but its accounts.
    pub fn forget(&mut self) {
        self.epoch += 1;
        self.nonces.forget();
        self.verdicts.clear();
        self.verdict_order.clear();
        for account in &mut self.accounts {
            (account.binding, account.last, account.not_before) = (None, None, None);
        }
    }

    /// The server that the lines are on has lost its power, and forgotten what it was told to wait for.
    pub fn excuse(&mut self) {
        for account in &mut self.accounts {
            account.not_before = None;
        }
    }

    /// The Contact at which an account is called, if it is registered.
    pub fn contact(&self, now: Instant, account: usize) -> Option<&[u8]> {
        let binding = self.accounts.get(account)?.binding.as_ref()?;
        (binding.until > now).then_some(&binding.uri)
    }

    /// The address-of-record of an account.
    pub fn address_of_record(&self, account: usize) -> String {
        let user = (self.accounts.get(account)).map_or("", |account| account.user.as_str());
        format!("sip:{user}@{}", self.policy.domain)
    }

    /// Since when an account should be registered again and is not.
    pub fn overdue_since(&self, now: Instant, account: usize) -> Option<Instant> {
        if self.contact(now, account).is_some() {
            return None;
        }
        let granted_until = self.accounts.get(account)?.granted_until;
        (granted_until <= now).then_some(granted_until)
    }

    /// How many accounts there are.
    pub fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// How often an account was granted a registration, refreshes included.
    pub fn grants(&self, account: usize) -> u32 {
        (self.accounts.get(account)).map_or(0, |account| account.registered)
    }

    /// The most REGISTERs of one account within any such span.
    pub fn most_registers_within(&self, span: Duration) -> usize {
        let mut by_account: BTreeMap<usize, VecDeque<Instant>> = BTreeMap::new();
        let mut most = 0;
        for (at, account) in &self.seen.registers {
            let recent = by_account.entry(*account).or_default();
            recent.push_back(*at);
            while recent.front().is_some_and(|first| at.since(*first) > span) {
                recent.pop_front();
            }
            most = most.max(recent.len());
        }
        most
    }

    /// What becomes of a request that a line sent.
    pub fn admit(&mut self, now: Instant, request: &Message<'_>, flow: &Flow) -> Verdict {
        self.expire(now);
        let branch = request.via().branch.to_vec();
        match request.method() {
            Method::Ack => return self.acknowledge(branch),
            // It matches its INVITE, or the call server says that there is none.
            Method::Cancel => return Verdict::Pass,
            _ => {}
        }
        let key = (branch, request.cseq().token.to_vec());
        if let Some(verdict) = self.verdicts.get(&key) {
            return verdict.clone();
        }
        let verdict = match request.method() {
            Method::Register => self.register(now, request, flow),
            _ => self.serve(now, request, flow),
        };
        self.verdict_order.push_back((now, key.clone()));
        self.verdicts.insert(key, verdict.clone());
        verdict
    }

    /// RFC 3261 §17.1.1.3: the ACK to what was refused here has its INVITE's branch.
    fn acknowledge(&self, branch: Vec<u8>) -> Verdict {
        match self.verdicts.get(&(branch, b"INVITE".to_vec())) {
            Some(Verdict::Answer(_)) => Verdict::Absorb,
            _ => Verdict::Pass,
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.verdict_order.front()
            && now.since(*at) > ANSWERS_KEPT
            && let Some((_, key)) = self.verdict_order.pop_front()
        {
            self.verdicts.remove(&key);
        }
        self.nonces.expire(now);
    }

    /// A request that is no registration.
    fn serve(&mut self, now: Instant, request: &Message<'_>, flow: &Flow) -> Verdict {
        let is_within = request.to().tag().is_some();
        match request.method() {
            Method::Options if !is_within => return self.answer(request, flow, 200, &[]),
            Method::Invite | Method::Message => {}
            _ if self.policy.challenges_within => {}
            _ => return Verdict::Pass,
        }
        let account = match self.check(now, request, HeaderName::ProxyAuthorization) {
            Credentials::Right(account) => account,
            Credentials::Wrong => return self.refuse(request, flow, 403),
            Credentials::None { is_stale } => {
                return self.challenge(now, request, flow, 407, is_stale);
            }
        };
        if is_within || request.method() != Method::Invite {
            return Verdict::Pass;
        }
        let Some(contact) = self.contact(now, account).map(<[u8]>::to_vec) else {
            self.seen.unregistered += 1;
            return self.refuse(request, flow, 403);
        };
        self.check_invite(request, &contact);
        if self.random.chance(self.policy.busy) {
            let after = self.random.between(1, 60).to_string();
            return self.answer(request, flow, 503, &[("Retry-After", after)]);
        }
        self.seen.calls += 1;
        Verdict::Pass
    }

    /// What a carrier may ask of the INVITE of a line.
    fn check_invite(&mut self, request: &Message<'_>, registered: &[u8]) {
        let user = |uri: &[u8]| Uri::parse(uri).map(|uri| uri.user.to_vec());
        let contact = request.contact_values().next();
        let contact = contact.map(|contact| contact.address.uri.to_vec());
        if contact.as_deref().map(user) != Some(user(registered)) {
            let text = format!(
                "the Contact of a call is {}, registered is {}",
                String::from_utf8_lossy(contact.as_deref().unwrap_or_default()),
                String::from_utf8_lossy(registered)
            );
            self.fault(text);
        }
        let route = request.values(HeaderName::Route).next();
        let route = route.map(|value| String::from_utf8_lossy(value).into_owned());
        let is_right = match (&route, self.policy.has_service_route) {
            // A line whose 200 was lost may have the one from before.
            (Some(route), true) => {
                let before = self.epoch.saturating_sub(1);
                *route == self.service_route(self.epoch) || *route == self.service_route(before)
            }
            (None, true) => false,
            (_, false) => true,
        };
        if !is_right {
            self.fault(format!("the Route of a call is {route:?}"));
        }
    }

    fn service_route(&self, epoch: u32) -> String {
        format!("<sip:edge{epoch}.{};lr>", self.policy.domain)
    }

    fn refuse(&mut self, request: &Message<'_>, flow: &Flow, status: u16) -> Verdict {
        self.answer(request, flow, status, &[])
    }

    fn challenge(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        flow: &Flow,
        status: u16,
        is_stale: bool,
    ) -> Verdict {
        let name = if status == 401 {
            "WWW-Authenticate"
        } else {
            "Proxy-Authenticate"
        };
        let nonce = self.nonces.mint(now);
        let values = self.policy.challenges(&nonce, is_stale);
        let lines: Vec<_> = values.into_iter().map(|value| (name, value)).collect();
        self.answer(request, flow, status, &lines)
    }

    fn answer(
        &mut self,
        request: &Message<'_>,
        flow: &Flow,
        status: u16,
        lines: &[(&str, String)],
    ) -> Verdict {
        let tag = format!("{:x}", self.random.next_u64());
        let mut bytes = Vec::new();
        let reason = reason_phrase(status);
        let mut composer =
            Composer::response_to(&mut bytes, request, flow, status, reason, tag.as_bytes());
        for (name, value) in lines {
            composer.field(name, &[value.as_bytes()]);
        }
        composer.finish(None, b"");
        Verdict::Answer(bytes)
    }

    fn fault(&mut self, text: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(text);
        }
    }
}
