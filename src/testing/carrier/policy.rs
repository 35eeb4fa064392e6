//! How carriers differ.

use std::time::Duration;

use crate::testing::random::Random;

/// How long a nonce is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NonceLife {
    /// For this time.
    Lasts(Duration),
    /// For one request.
    Once,
}

/// How a carrier behaves. Chances are per mille.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The domain of its accounts' addresses-of-record.
    pub domain: String,
    /// Realm of its challenges.
    pub realm: String,
    /// The user name in credentials is `account@domain`; 403 to any other.
    pub is_user_with_domain: bool,
    /// 401, or 407, to a REGISTER.
    pub challenges_registers_with: u16,
    /// It challenges BYE and everything else within dialogs too, not re-INVITE alone.
    pub challenges_within: bool,
    /// It offers SHA-256, before MD5.
    pub offers_sha256: bool,
    /// Its challenges have `qop`.
    pub has_qop: bool,
    /// How long it takes a nonce.
    pub nonce: NonceLife,
    /// It says `stale` of nonces that it has not minted, or has forgotten: those of before its restart.
    pub knows_strange_nonces: bool,
    /// Seconds that it grants, from and to, and never more than was asked for.
    pub grant_s: (u64, u64),
    /// The least that may be asked for, in seconds; 423 to less.
    pub expires_min_s: u64,
    /// What it grants stands in the header Expires, not behind the Contact.
    pub grants_in_header: bool,
    /// Another Contact of each account that it names too, and for how long.
    pub other_contact: Option<(String, u64)>,
    /// It gives a Service-Route and wants it in calls.
    pub has_service_route: bool,
    /// It gives P-Associated-URI.
    pub has_associated_uris: bool,
    /// It refuses a refresh or an INVITE: 503 with Retry-After.
    pub busy: u32,
    /// Who comes before a Retry-After is over is at fault: not where the 503 may have been lost.
    pub minds_haste: bool,
}

impl Policy {
    /// The friendliest of all: nothing but a 401, MD5, and an hour.
    pub fn plain(domain: &str) -> Self {
        Self {
            domain: domain.to_owned(),
            realm: domain.to_owned(),
            is_user_with_domain: false,
            challenges_registers_with: 401,
            challenges_within: false,
            offers_sha256: false,
            has_qop: true,
            nonce: NonceLife::Lasts(Duration::from_secs(300)),
            knows_strange_nonces: true,
            grant_s: (3_600, 3_600),
            expires_min_s: 0,
            grants_in_header: false,
            other_contact: None,
            has_service_route: false,
            has_associated_uris: false,
            busy: 0,
            minds_haste: true,
        }
    }

    /// One of all that there may be.
    pub fn any(domain: &str, random: &mut Random) -> Self {
        let mut yes = |per_mille| random.chance(per_mille);
        let mut policy = Self {
            realm: if yes(500) { domain } else { "carrier" }.to_owned(),
            is_user_with_domain: yes(300),
            challenges_registers_with: if yes(800) { 401 } else { 407 },
            challenges_within: yes(300),
            offers_sha256: yes(300),
            has_qop: yes(700),
            knows_strange_nonces: yes(500),
            grants_in_header: yes(300),
            other_contact: yes(300).then(|| (format!("sip:other@{domain}"), 7_200)),
            has_service_route: yes(400),
            has_associated_uris: yes(400),
            busy: if yes(400) { 30 } else { 0 },
            ..Self::plain(domain)
        };
        policy.nonce = match random.below(4) {
            0 => NonceLife::Once,
            _ => NonceLife::Lasts(Duration::from_secs(random.between(30, 3_600))),
        };
        // Short ones are rare: a day of them is long.
        policy.grant_s = match random.below(16) {
            0 => (60, 120),
            1..6 => (300, 1_200),
            _ => (600, 3_600),
        };
        if random.chance(300) {
            policy.expires_min_s = random.between(300, 3_600);
        }
        policy
    }

    /// The values of its challenges.
    pub(super) fn challenges(&self, nonce: &str, is_stale: bool) -> Vec<String> {
        let qop = if self.has_qop { ", qop=\"auth\"" } else { "" };
        let stale = if is_stale { ", stale=TRUE" } else { "" };
        let realm = &self.realm;
        let value = |algorithm: &str| {
            format!("Digest realm=\"{realm}\", nonce=\"{nonce}\"{algorithm}{qop}{stale}")
        };
        let mut values = Vec::new();
        if self.offers_sha256 {
            values.push(value(", algorithm=SHA-256"));
        }
        values.push(value(", algorithm=MD5"));
        values
    }
}
