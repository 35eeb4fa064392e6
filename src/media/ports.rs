//! Pairs of ports: an even one and the next, each chosen at random, so that nobody knows where the next call's media is.

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroU64;
use std::time::Duration;

use ahash::RandomState;

use super::Full;
use crate::time::Instant;
use crate::token::Tokens;

/// Places tried at random before the range is searched.
const GUESSES: usize = 16;
/// How long a port that another program has is left alone.
const SHUNNED: Duration = Duration::from_secs(3_600);
/// Ports that are left alone at a time; the first goes.
const SHUNNED_MAX: usize = 1_024;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Ports {
    /// The first even port, and how many pairs there are from it on.
    first: u16,
    pairs: u16,
    used: HashSet<u16, RandomState>,
    shunned: VecDeque<(Instant, u16)>,
    tokens: Tokens,
}

impl Ports {
    pub fn new(range: (u16, u16), tokens: Tokens, hasher: RandomState) -> Self {
        let mut ports = Self {
            first: 0,
            pairs: 0,
            used: HashSet::with_hasher(hasher),
            shunned: VecDeque::new(),
            tokens,
        };
        ports.set_range(range);
        ports
    }

    /// First and last port, both included.
    pub fn set_range(&mut self, (first, last): (u16, u16)) {
        let even = first.saturating_add(first & 1);
        let count = u32::from(last)
            .saturating_add(1)
            .saturating_sub(even.into())
            / 2;
        self.first = even;
        self.pairs = count as u16;
    }

    /// A pair that nobody has: its even port.
    pub fn reserve(&mut self) -> Result<u16, Full> {
        let pairs = NonZeroU64::new(self.pairs.into()).ok_or(Full)?;
        let mut place = 0;
        for _ in 0..GUESSES {
            place = (self.tokens.next_u64() % pairs) as u16;
            if let Some(port) = self.take(place) {
                return Ok(port);
            }
        }
        let all = (0..self.pairs).cycle().skip(place.into());
        let mut all = all.take(self.pairs.into());
        all.find_map(|place| self.take(place)).ok_or(Full)
    }

    fn take(&mut self, place: u16) -> Option<u16> {
        if place >= self.pairs {
            return None;
        }
        let port = self.first.saturating_add(place.saturating_mul(2));
        let is_shunned = self.shunned.iter().any(|(_, own)| *own == port);
        (!is_shunned && self.used.insert(port)).then_some(port)
    }

    /// Gives a pair back.
    pub fn release(&mut self, port: u16) {
        self.used.remove(&port);
    }

    /// Leaves a pair alone for a while.
    pub fn shun(&mut self, now: Instant, port: u16) {
        self.shunned
            .retain(|(until, own)| *until > now && *own != port);
        if self.shunned.len() >= SHUNNED_MAX {
            self.shunned.pop_front();
        }
        self.shunned.push_back((now.plus(SHUNNED), port));
    }

    /// Whether it is one of those that calls may get, or of a pair that somebody has.
    pub fn is_in_range(&self, port: u16) -> bool {
        let pair = port.checked_sub(self.first).map(|offset| offset / 2);
        pair.is_some_and(|pair| pair < self.pairs) || self.is_used(port)
    }

    /// Whether it is one of a pair that somebody has.
    pub fn is_used(&self, port: u16) -> bool {
        self.used.contains(&(port & !1))
    }

    /// Pairs that there are, used or not.
    pub fn range(&self) -> usize {
        self.pairs.into()
    }

    pub fn len(&self) -> usize {
        self.used.len()
    }
}
