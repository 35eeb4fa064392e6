//! Digests as a carrier checks them (RFC 3261 §22, RFC 7616): nonces that last for a while or for one request, each `nc`
//! once, the user name with or without the domain.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use md5::Md5;
use sha2::{Digest, Sha256};

use super::{Carrier, NonceLife};
use crate::message::{DigestParams, HeaderName, Message};
use crate::testing::random::Random;
use crate::time::Instant;

/// Nonces are forgotten after this; before, they are known to be stale.
const NONCES_KEPT: Duration = Duration::from_secs(7_200);

/// What the credentials of a request are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Those of this account.
    Right(usize),
    /// Of nobody.
    Wrong,
    /// There are none, or they are right with an old nonce.
    None { is_stale: bool },
}

struct Nonce {
    minted: Instant,
    /// The `nc` values that came with it.
    used: BTreeSet<u32>,
}

/// Nonces that were given.
pub(super) struct Nonces {
    life: NonceLife,
    random: Random,
    known: BTreeMap<String, Nonce>,
    order: VecDeque<(Instant, String)>,
}

impl Nonces {
    pub fn new(life: NonceLife, random: &Random) -> Self {
        Self {
            life,
            random: random.fork("nonces"),
            known: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    pub fn mint(&mut self, now: Instant) -> String {
        let text = format!("{:016x}", self.random.next_u64());
        let nonce = Nonce {
            minted: now,
            used: BTreeSet::new(),
        };
        self.known.insert(text.clone(), nonce);
        self.order.push_back((now, text.clone()));
        text
    }

    pub fn forget(&mut self) {
        self.known.clear();
        self.order.clear();
    }

    pub fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.order.front()
            && now.since(*at) > NONCES_KEPT
            && let Some((_, nonce)) = self.order.pop_front()
        {
            self.known.remove(&nonce);
        }
    }

    fn is_fresh(&self, now: Instant, nonce: &Nonce) -> bool {
        match self.life {
            NonceLife::Lasts(time) => now.since(nonce.minted) < time,
            NonceLife::Once => nonce.used.is_empty(),
        }
    }
}

impl Carrier {
    /// Whose credentials a request has in its header of this name.
    pub(super) fn check(
        &mut self,
        now: Instant,
        request: &Message<'_>,
        name: HeaderName,
    ) -> Credentials {
        let none = Credentials::None { is_stale: false };
        let mut ours = None;
        for value in request.line_values(name) {
            let Ok(Some(params)) = DigestParams::parse(value) else {
                self.fault(format!("credentials {:?}", String::from_utf8_lossy(value)));
                continue;
            };
            if params.realm == Some(self.policy.realm.as_bytes()) {
                ours = Some(params);
            } else {
                self.fault(format!(
                    "credentials for another realm: {:?}",
                    String::from_utf8_lossy(value)
                ));
            }
        }
        let Some(params) = ours else { return none };
        let Some(account) = self.account_of(&params) else {
            return Credentials::Wrong;
        };
        if params.uri != Some(request.request_uri()) {
            self.fault(format!(
                "credentials for {} in a request to {}",
                String::from_utf8_lossy(params.uri.unwrap_or_default()),
                String::from_utf8_lossy(request.request_uri())
            ));
        }
        if !self.is_right(account, &params, request.cseq().token) {
            return Credentials::Wrong;
        }
        let nonce = String::from_utf8_lossy(params.nonce.unwrap_or_default()).into_owned();
        let Some(known) = self.nonces.known.get(&nonce) else {
            let is_stale = self.policy.knows_strange_nonces;
            return Credentials::None { is_stale };
        };
        let nc = params.nc.and_then(|nc| std::str::from_utf8(nc).ok());
        let nc = nc.and_then(|nc| u32::from_str_radix(nc, 16).ok());
        let (is_fresh, has_used) = (
            self.nonces.is_fresh(now, known),
            nc.is_some_and(|nc| known.used.contains(&nc)),
        );
        if has_used {
            self.fault(format!("nc {nc:?} came twice with the nonce {nonce}"));
        }
        if !is_fresh || has_used {
            return Credentials::None { is_stale: true };
        }
        if let Some(known) = self.nonces.known.get_mut(&nonce) {
            known.used.insert(nc.unwrap_or_default());
        }
        Credentials::Right(account)
    }

    fn account_of(&self, params: &DigestParams<'_>) -> Option<usize> {
        let name = String::from_utf8_lossy(params.username?);
        let user = match name.split_once('@') {
            Some((user, domain)) if self.policy.is_user_with_domain => {
                (domain == self.policy.domain).then_some(user)?
            }
            None if !self.policy.is_user_with_domain => &*name,
            _ => return None,
        };
        self.by_user.get(user).copied()
    }

    /// RFC 7616 §3.4.1, RFC 2617 §3.2.2.1 without qop.
    fn is_right(&self, account: usize, params: &DigestParams<'_>, method: &[u8]) -> bool {
        let Some(account) = self.accounts.get(account) else {
            return false;
        };
        let is_sha256 = match params.algorithm {
            Some(b"SHA-256") => true,
            Some(b"MD5") | None => false,
            Some(_) => return false,
        };
        if is_sha256 && !self.policy.offers_sha256 || params.qop.is_some() != self.policy.has_qop {
            return false;
        }
        let hash = |parts: &[&[u8]]| {
            let joined = parts.join(&b':');
            let bytes = if is_sha256 {
                Sha256::digest(&joined).to_vec()
            } else {
                Md5::digest(&joined).to_vec()
            };
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            digits.into_bytes()
        };
        let field = Option::unwrap_or_default;
        let realm = self.policy.realm.as_bytes();
        let first = hash(&[field(params.username), realm, account.password.as_bytes()]);
        let second = hash(&[method, field(params.uri)]);
        let nonce = field(params.nonce);
        let expected = if params.qop.is_some() {
            let (nc, cnonce, qop) = (field(params.nc), field(params.cnonce), field(params.qop));
            hash(&[&first, nonce, nc, cnonce, qop, &second])
        } else {
            hash(&[&first, nonce, &second])
        };
        params.response == Some(&expected)
    }
}
