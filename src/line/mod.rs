//! External lines: accounts at carriers, where we register as a phone does (RFC 3261 §10.2), and what calls on them need of
//! that: our Contact, credentials, the way to the peer, its Service-Route.
//!
//! Composes and reads messages; what goes where, and by which transaction, is `endpoint`'s.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod credentials;
mod registration;

use std::collections::HashMap;
use std::net::SocketAddr;

use ahash::RandomState;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config;
use crate::message::{Message, Method};
use crate::source::{Flow, LineId};
use crate::time::{Instant, Now};
use crate::token::Tokens;

use credentials::Asked;
pub use credentials::Why;
use registration::Registration;

/// Characters of the user part of our Contact on a line: 96 bits.
pub const TOKEN_BYTES: usize = 24;

/// The user part of our Contact on a line.
type Token = [u8; TOKEN_BYTES];

/// All lines of the configuration, and those that were removed from it but are not de-registered yet.
#[derive(Clone, Debug)]
pub struct Lines {
    key: [u8; 32],
    /// By [`LineId`]: the slot.
    lines: Vec<usize>,
    slots: slab::Slab<Registration>,
    by_token: HashMap<Token, LineId, RandomState>,
}

impl Lines {
    /// The lines of a configuration. `key` is secret and the same at each start: the Contacts that registrars still know from
    /// the run before are those of this one.
    pub fn new(now: Now, lines: &[config::Line], key: [u8; 32], hasher: RandomState) -> Self {
        let mut all = Self {
            key,
            lines: Vec::new(),
            slots: slab::Slab::new(),
            by_token: HashMap::with_hasher(hasher),
        };
        all.reload(now, lines);
        all
    }

    /// Another configuration. A line that is registered at the same place for the same account stays registered; any other is
    /// de-registered there first.
    pub fn reload(&mut self, _now: Now, lines: &[config::Line]) {
        let mut old = std::mem::take(&mut self.slots);
        self.by_token.clear();
        let mut places = Vec::with_capacity(lines.len());
        for (line, index) in lines.iter().zip(0..) {
            let token = token(&self.key, line);
            let same = old.iter().find(|(_, own)| own.is_of(line, &token));
            let same = same.map(|(slot, _)| slot);
            let registration = match same {
                Some(slot) => {
                    let mut registration = old.remove(slot);
                    registration.reload(line);
                    registration
                }
                None => Registration::new(line, token),
            };
            places.push(self.slots.insert(registration));
            self.by_token.insert(token, LineId(index));
        }
        self.lines = places;
    }

    /// How many the configuration has.
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// User part of our Contact on this line; empty if there is none. Nobody else but its registrar knows it, so that it
    /// tells which line a call comes in on. It stays the same for as long as account, server and the way there do.
    pub fn token(&self, line: LineId) -> &[u8] {
        self.get(line).map_or(b"", |own| &own.token)
    }

    /// The line whose Contact has this user part. O(1).
    pub fn of_token(&self, user: &[u8]) -> Option<LineId> {
        let token: &Token = user.try_into().ok()?;
        self.by_token.get(token).copied()
    }

    /// Answers the challenges of a 401 or 407 to a request of ours with this method and Request-URI: appends an
    /// Authorization or Proxy-Authorization header line for each realm. The caller guarantees that `response` came from the
    /// line's peer, and counts how often he tries.
    ///
    /// # Errors
    /// Why no challenge can be answered; `out` is as it was.
    pub fn authorize(
        &mut self,
        line: LineId,
        response: &Message<'_>,
        method: Method,
        uri: &[u8],
        tokens: &mut Tokens,
        out: &mut Vec<u8>,
    ) -> Result<(), Why> {
        let own = self.get_mut(line).ok_or(Why::NoLine)?;
        let asked = Asked { method, uri };
        own.credentials.authorize(response, &asked, tokens, out)
    }

    /// Whether the line has a registration that runs.
    pub fn is_registered(&self, line: LineId) -> bool {
        self.get(line).is_some_and(|own| own.bound.is_some())
    }

    /// Service-Route of its registrar (RFC 3608), values joined by `, ` as a dialog's route set is; empty: none.
    pub fn service_route(&self, line: LineId) -> &[u8] {
        let bound = self.get(line).and_then(|own| own.bound.as_ref());
        bound.map_or(b"", |bound| &bound.service_route)
    }

    /// The first `sip:` or `tel:` URI of its registrar's P-Associated-URI (RFC 7315 §4.1): the identity that calls go out with.
    pub fn public_identity(&self, line: LineId) -> Option<&[u8]> {
        let bound = self.get(line)?.bound.as_ref()?;
        Some(&*bound.public_identity).filter(|uri| !uri.is_empty())
    }

    /// The way on which it last registered. A connection may have been closed since.
    pub fn flow(&self, line: LineId) -> Option<Flow> {
        Some(self.get(line)?.bound.as_ref()?.flow)
    }

    /// Our own address as its peer sees it: `received` and `rport` of our Via in its last answer (RFC 3581).
    pub fn learned_address(&self, line: LineId) -> Option<SocketAddr> {
        self.get(line)?.learned
    }

    /// Registers again soon, since a call says that the peer does not know us (any more). As often as one likes: never more
    /// than once in a while.
    pub fn register_soon(&mut self, now: Instant, line: LineId) {
        if let Some(own) = self.get_mut(line) {
            own.hurry(now);
        }
    }

    fn get(&self, line: LineId) -> Option<&Registration> {
        self.slots.get(*self.lines.get(line.0 as usize)?)
    }

    fn get_mut(&mut self, line: LineId) -> Option<&mut Registration> {
        self.slots.get_mut(*self.lines.get(line.0 as usize)?)
    }
}

/// A keyed hash of whatever makes it another registration.
fn token(key: &[u8; 32], line: &config::Line) -> Token {
    let mut block = [0; 64];
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(b"sipkeep line");
    let proxy = line.outbound_proxy.as_ref().map(ToString::to_string);
    for part in [
        line.name.as_str(),
        &line.account,
        &line.server.to_string(),
        proxy.as_deref().unwrap_or_default(),
        line.transport.uri_token(),
    ] {
        mac.update(part.as_bytes());
        mac.update(&[0]);
    }
    let hash: [u8; 32] = mac.finalize().into_bytes().into();
    let mut token = [0; TOKEN_BYTES];
    let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    for (to, digit) in token.iter_mut().zip(digits) {
        *to = char::from_digit(u32::from(digit), 16).map_or(b'0', |digit| digit as u8);
    }
    token
}
