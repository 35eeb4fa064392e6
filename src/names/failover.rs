//! Addresses that did not work lately (RFC 3263 §4.3): a request timed out there, its transport failed, or it got a 503.
//! They are tried last, not never: if nothing else works, they may.

use std::net::SocketAddr;
use std::time::Duration;

use crate::limits::{NAME_FAILED_HOLD, NAME_FAILED_HOLD_MAX, NAME_FAILED_MAX};
use crate::source::Transport;
use crate::time::Instant;

#[derive(Clone)]
struct Failed {
    transport: Transport,
    address: SocketAddr,
    until: Instant,
    /// It has said so itself, and whatever else it answers meanwhile takes nothing of that back.
    is_stated: bool,
}

/// See the module. A short list: what is not in it works.
#[derive(Clone, Default)]
pub(super) struct Failover(Vec<Failed>);

impl Failover {
    /// It did not work; `hold`: what its Retry-After says.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        transport: Transport,
        address: SocketAddr,
        hold: Option<Duration>,
    ) {
        self.0.retain(|failed| failed.until > now);
        (self.0).retain(|failed| (failed.transport, failed.address) != (transport, address));
        if self.0.len() >= NAME_FAILED_MAX
            && let Some(first) =
                (0..self.0.len()).min_by_key(|&index| self.0.get(index).map(|failed| failed.until))
        {
            self.0.swap_remove(first);
        }
        let is_stated = hold.is_some();
        let hold = hold.unwrap_or(NAME_FAILED_HOLD).min(NAME_FAILED_HOLD_MAX);
        self.0.push(Failed {
            transport,
            address,
            until: now.plus(hold),
            is_stated,
        });
    }

    /// It works; whether that is news.
    pub(super) fn worked(&mut self, transport: Transport, address: SocketAddr) -> bool {
        let before = self.0.len();
        (self.0).retain(|failed| {
            failed.is_stated || (failed.transport, failed.address) != (transport, address)
        });
        self.0.len() < before
    }

    /// Until when it is to be tried last; `None`: it is not.
    pub(super) fn failed_until(
        &self,
        now: Instant,
        transport: Transport,
        address: SocketAddr,
    ) -> Option<Instant> {
        let is_it = |failed: &&Failed| {
            (failed.transport, failed.address) == (transport, address) && failed.until > now
        };
        self.0.iter().find(is_it).map(|failed| failed.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::default().plus(Duration::from_secs(seconds))
    }

    fn address(n: usize) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], n as u16))
    }

    #[test]
    fn an_address_is_held_back_for_its_time_or_until_it_works() {
        let mut failover = Failover::default();
        let retry_after = Some(Duration::from_secs(7_200));
        failover.failed(at(0), Transport::Udp, address(1), None);
        failover.failed(at(0), Transport::Udp, address(2), retry_after);
        failover.failed(at(0), Transport::Udp, address(3), None);
        assert!(
            !failover.worked(Transport::Udp, address(2)),
            "it has said so"
        );
        assert!(failover.worked(Transport::Udp, address(3)));
        assert!(!failover.worked(Transport::Udp, address(3)));
        for (n, seconds, failed) in [
            (1, 59, true),
            (1, 60, false),
            (2, 3_599, true),
            (2, 3_600, false),
            (3, 0, false),
        ] {
            let is_failed = |transport| failover.failed_until(at(seconds), transport, address(n));
            assert_eq!(is_failed(Transport::Udp).is_some(), failed, "{n} {seconds}");
            assert_eq!(is_failed(Transport::Tcp), None);
        }
    }

    #[test]
    fn the_list_is_bounded() {
        let mut failover = Failover::default();
        for n in 0..=NAME_FAILED_MAX {
            let hold = Some(Duration::from_secs(10 + n as u64));
            failover.failed(at(0), Transport::Udp, address(n), hold);
        }
        assert_eq!(failover.0.len(), NAME_FAILED_MAX);
        let until = |n| failover.failed_until(at(0), Transport::Udp, address(n));
        assert_eq!((until(0), until(1)), (None, Some(at(11))));
    }
}
