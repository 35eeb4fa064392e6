//! Phones behind a NAT that have registered over UDP are sent four bytes now and then, so that the NAT does not forget the
//! way to them: CRLFCRLF, which every SIP element discards (RFC 3261 §7.5). It needs no answer, and makes no transaction.
//!
//! The way from outside to a phone lasts for as long as packets take it; how long without any nobody knows but the NAT.
//! Once it is lost only the phone can make another one, by registering again, so a longer interval cannot be tried out. The
//! interval is therefore the file's, a short one, and grows with the number of such phones alone: all of them together get
//! [`NAT_KEEPALIVES_PER_SECOND`] at most.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use ahash::RandomState;

use super::Endpoint;
use crate::limits::NAT_KEEPALIVES_PER_SECOND;
use crate::location::Binding;
use crate::message::{Host, Uri};
use crate::source::{Flow, Sink};
use crate::time::Instant;

/// What is sent.
const KEEPALIVE: &[u8] = b"\r\n\r\n";
/// Those that are due within this time go together.
const TOGETHER: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct KeepAlive {
    /// In the order of their times.
    queue: VecDeque<(Instant, Flow)>,
    known: HashSet<Flow, RandomState>,
}

impl KeepAlive {
    pub(super) fn new(hasher: RandomState) -> Self {
        Self {
            queue: VecDeque::new(),
            known: HashSet::with_hasher(hasher),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.front().map(|(at, _)| *at)
    }

    /// How long a flow waits between two.
    fn interval(&self, own: Duration) -> Duration {
        let least = self.known.len().div_ceil(NAT_KEEPALIVES_PER_SECOND);
        own.max(Duration::from_secs(least as u64))
    }
}

impl Endpoint {
    /// A phone behind a NAT has registered on this flow.
    pub(super) fn keep_phone_alive(&mut self, now: Instant, flow: &Flow) {
        let Some(own) = self.config.registrar.nat_keepalive else {
            return;
        };
        if flow.connection.is_none() && self.keepalive.known.insert(*flow) {
            let at = now.plus(self.keepalive.interval(own));
            // The interval may have been a longer one when those before were queued.
            let place = (self.keepalive.queue).partition_point(|(other, _)| *other <= at);
            self.keepalive.queue.insert(place, (at, *flow));
        }
    }

    /// Those who have registered before: a new configuration, or a restart.
    pub(super) fn keep_all_alive(&mut self, now: Instant) {
        self.keepalive.queue.clear();
        self.keepalive.known.clear();
        let flows = (self.location.recent()).filter(|binding| self.is_phone_behind_nat(binding));
        let flows: Vec<Flow> = flows.map(Binding::flow).collect();
        for flow in flows {
            self.keep_phone_alive(now, &flow);
        }
    }

    /// Whether the phone at a binding is behind a NAT, as far as is known. What it wrote into its Via is not kept over a
    /// restart: until it registers again one from outside counts as if it were, since many are, and none is the worse for it.
    pub(super) fn is_phone_behind_nat(&self, binding: &Binding) -> bool {
        let source = binding.flow().remote.ip().to_canonical();
        let is_near = |address| {
            let mut near = self.config.server.local_networks.iter();
            crate::media::is_private(address) || near.any(|network| network.contains(address))
        };
        // He says in his Contact that he is elsewhere than where he came from.
        let says_so =
            |uri: Uri<'_>| matches!(uri.host, Host::Address(address) if address != source);
        let has_no_proxy = binding.path().is_empty();
        has_no_proxy
            && (binding.is_behind_nat
                || binding.is_restored && !is_near(source)
                || Uri::parse(binding.request_uri()).is_ok_and(says_so))
    }

    /// Sends those that are due.
    pub(super) fn tick_keepalive(&mut self, now: Instant) {
        let Some(own) = self.config.registrar.nat_keepalive else {
            return;
        };
        if self.keepalive.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        let until = now.plus(TOGETHER);
        let next = now.plus(self.keepalive.interval(own));
        while let Some(&(_, flow)) = self.keepalive.queue.front().filter(|(at, _)| *at <= until) {
            self.keepalive.queue.pop_front();
            if self.location.has_flow(&flow).is_none() {
                self.keepalive.known.remove(&flow);
                continue;
            }
            self.out.send(&flow, KEEPALIVE);
            self.keepalive.queue.push_back((next, flow));
        }
    }
}
