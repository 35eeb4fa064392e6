//! RFC 3261 §17.2.3: which server transaction a request belongs to, as a keyed hash of 128 bits.
//!
//! The table keeps hashes instead of branches: they are short, of one size, and since the keys are secret a stranger
//! cannot make two requests meet.

use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;

use ahash::{AHasher, RandomState};

use super::branch::MAGIC_COOKIE;
use crate::message::{Message, Method, StartLine};
use crate::token::Tokens;

/// What identifies a server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerKey([u64; 2]);

impl Hash for ServerKey {
    /// It is a keyed hash already: its first half will do.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0[0]);
    }
}

impl ServerKey {
    /// The key of the same request from this address: what others send in its name is no retransmission of it.
    #[must_use]
    pub fn from_source(self, address: IpAddr) -> Self {
        let bits = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let [first, second] = self.0;
        // The half that varies most goes to the half that maps use.
        Self([first ^ bits as u64, second ^ (bits >> 64) as u64])
    }
}

#[cfg(test)]
impl ServerKey {
    pub(super) const fn made_up(number: u64) -> Self {
        Self([number, !number])
    }
}

/// The secret keys.
#[derive(Clone)]
pub(super) struct Keys {
    first: RandomState,
    second: RandomState,
    merge: RandomState,
}

impl Keys {
    pub fn new(tokens: &mut Tokens) -> Self {
        let mut state = || {
            RandomState::with_seeds(
                tokens.next_u64(),
                tokens.next_u64(),
                tokens.next_u64(),
                tokens.next_u64(),
            )
        };
        Self {
            first: state(),
            second: state(),
            merge: state(),
        }
    }

    /// For maps by something else than a [`ServerKey`].
    pub fn state(&self) -> RandomState {
        self.merge.clone()
    }

    /// The transaction of `request`, as if its method were `method`; an ACK counts as the INVITE.
    pub fn server(&self, request: &Message<'_>, method: Method) -> ServerKey {
        let mut both = Both([&self.first, &self.second].map(RandomState::build_hasher));
        write_key(&mut both, request, method);
        ServerKey(both.0.map(|hasher| hasher.finish()))
    }

    /// RFC 3261 §8.2.2.2: From tag, Call-ID and CSeq, which two requests share that took different ways here.
    pub fn merge(&self, request: &Message<'_>) -> u64 {
        let mut hasher = self.merge.build_hasher();
        let cseq = request.cseq();
        write(&mut hasher, request.from().tag().unwrap_or_default());
        write(&mut hasher, request.call_id());
        hasher.write_u32(cseq.number);
        write(&mut hasher, cseq.token);
        hasher.finish()
    }
}

/// What a server transaction is known by.
fn write_key(hasher: &mut impl Hasher, request: &Message<'_>, method: Method) {
    let method = if method == Method::Ack {
        Method::Invite
    } else {
        method
    };
    let token = match (method, request.start()) {
        (Method::Other, StartLine::Request { token, .. }) => token,
        _ => method.token().as_bytes(),
    };
    let via = request.via();
    write(hasher, token);
    write_lower(hasher, via.host);
    // RFC 3261 §18.1.1: without a port it is the default one.
    hasher.write_u16(via.port.unwrap_or(5060));
    if is_unique(via.branch) {
        hasher.write_u8(1);
        write(hasher, via.branch);
        return;
    }
    // RFC 2543. The To tag is left out for INVITE and ACK: an ACK carries the one of our response, and within one
    // Call-ID and From tag the CSeq number tells INVITEs apart.
    hasher.write_u8(0);
    write(hasher, via.params.0);
    write(hasher, request.request_uri());
    write(hasher, request.from().tag().unwrap_or_default());
    write(hasher, request.call_id());
    hasher.write_u32(request.cseq().number);
    if method != Method::Invite {
        write(hasher, request.to().tag().unwrap_or_default());
    }
}

/// Whether a branch was made as RFC 3261 §8.1.1.7 wants. The cookie alone tells nothing (RFC 4475 §3.2.1 sends it).
fn is_unique(branch: &[u8]) -> bool {
    let cookie = branch.get(..MAGIC_COOKIE.len());
    branch.len() > MAGIC_COOKIE.len()
        && cookie.is_some_and(|c| c.eq_ignore_ascii_case(MAGIC_COOKIE))
}

/// With the length in front, so that two fields never run together.
fn write(hasher: &mut impl Hasher, bytes: &[u8]) {
    hasher.write_usize(bytes.len());
    hasher.write(bytes);
}

/// Host names are compared without case.
fn write_lower(hasher: &mut impl Hasher, bytes: &[u8]) {
    let mut lower = [0; 64];
    hasher.write_usize(bytes.len());
    for chunk in bytes.chunks(lower.len()) {
        let part = &mut lower[..chunk.len()];
        part.copy_from_slice(chunk);
        part.make_ascii_lowercase();
        hasher.write(part);
    }
}

/// Two hashers that are told the same: it is read and prepared once.
struct Both([AHasher; 2]);

impl Hasher for Both {
    fn finish(&self) -> u64 {
        self.0[0].finish()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.iter_mut().for_each(|hasher| hasher.write(bytes));
    }

    // The length in front of each field; other numbers come seldom enough to go as bytes.
    fn write_usize(&mut self, number: usize) {
        self.0
            .iter_mut()
            .for_each(|hasher| hasher.write_usize(number));
    }
}

/// Hasher for maps by [`ServerKey`], which takes the one number that it writes as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Builds [`Identity`].
pub(super) type IdentityState = std::hash::BuildHasherDefault<Identity>;
