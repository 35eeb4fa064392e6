//! Fuzz body for name resolution: answers that are right up to their question, and anything behind it. Whatever name
//! servers say, tables stay within bounds, candidates are usable, and every query ends.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use crate::limits::{
    NAME_CACHE_BYTES_MAX, NAME_CACHE_ENTRIES_MAX, NAME_CANDIDATES_MAX, NAME_QUERIES_MAX,
};
use crate::names::{Hosts, Order, Resolution, Resolver, Servers, SocketId, Target};
use crate::time::Instant;

struct Socket {
    server: SocketAddr,
    query: Vec<u8>,
}

struct Shell {
    resolver: Resolver,
    now: Instant,
    open: BTreeMap<SocketId, Socket>,
}

/// Any bytes as the answers to what a resolver asks: of each chunk two bytes for what happens, one for its length.
pub fn dns(data: &[u8]) {
    play(data);
}

/// Of two name servers; made once and then copied.
fn resolver() -> Resolver {
    static PREPARED: OnceLock<Resolver> = OnceLock::new();
    let prepared = PREPARED.get_or_init(|| {
        let servers = Servers {
            servers: vec![
                SocketAddr::from(([192, 0, 2, 53], 53)),
                SocketAddr::from(([192, 0, 2, 54], 53)),
            ],
            ..Servers::default()
        };
        Resolver::new(&[7; 32], [true, true], servers, Hosts::default())
    });
    prepared.clone()
}

/// The same; the most candidates that there were at a time.
fn play(data: &[u8]) -> usize {
    let mut shell = Shell {
        resolver: resolver(),
        now: Instant::from_micros(1),
        open: BTreeMap::new(),
    };
    let target = Target {
        host: "example.com".into(),
        port: None,
        transport: None,
    };
    let mut most = shell.resolve(&target);
    let mut rest = data;
    while let [what, which, length, behind @ ..] = rest {
        let (bytes, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        shell.step(*what, *which, bytes);
        most = most.max(shell.resolve(&target));
    }
    // Nobody says any more: all that is being asked ends.
    for _ in 0..NAME_QUERIES_MAX * 8 {
        let Some(deadline) = shell.resolver.next_deadline() else {
            break;
        };
        shell.now = shell.now.max(deadline);
        shell.resolver.expire(shell.now);
        shell.carry_out();
    }
    assert!(shell.open.is_empty(), "a query that never ends");
    most
}

impl Shell {
    fn step(&mut self, what: u8, which: u8, bytes: &[u8]) {
        let index = usize::from(which) % self.open.len().max(1);
        let Some((&id, socket)) = self.open.iter().nth(index) else {
            self.now = self.now.plus(Duration::from_secs(u64::from(which) * 60));
            return self.resolver.expire(self.now);
        };
        let server = socket.server;
        let mut answer = socket.query.clone();
        match what & 7 {
            0 => {
                self.now = self.now.plus(Duration::from_secs(u64::from(which)));
                self.resolver.expire(self.now);
            }
            1 => self.resolver.unreachable(self.now, id),
            2 => self.resolver.receive(self.now, id, server, bytes),
            _ => {
                // Counts of answers and authorities as the chunk begins, response code and flags from `what`.
                answer[2] = 0x80 | what >> 3 & 2;
                answer[3] = if what & 0x20 == 0 { 0 } else { what >> 6 };
                let (counts, records) = bytes.split_at(bytes.len().min(2));
                if let [answers, authorities] = counts {
                    (answer[7], answer[9]) = (*answers, *authorities);
                }
                answer.extend(records);
                self.resolver.receive(self.now, id, server, &answer);
            }
        }
    }

    /// How many candidates there are.
    fn resolve(&mut self, target: &Target) -> usize {
        self.carry_out();
        let resolution = self.resolver.resolve(self.now, target);
        self.carry_out();
        if let Resolution::Ready {
            candidates,
            until,
            usable_until,
        } = &resolution
        {
            assert!(usable_until >= until);
            assert!((1..=NAME_CANDIDATES_MAX).contains(&candidates.len()));
            assert!(
                until.is_some_and(|until| until > self.now),
                "holds for no time"
            );
            for candidate in candidates {
                let address = candidate.address;
                assert!(address.port() > 0 && !address.ip().is_unspecified());
            }
        }
        let (queries, entries, bytes) = self.resolver.sizes();
        assert!(queries <= NAME_QUERIES_MAX && entries <= NAME_CACHE_ENTRIES_MAX);
        assert!(bytes <= NAME_CACHE_BYTES_MAX);
        if resolution == Resolution::Pending {
            assert!(queries > 0, "waits for nothing");
        }
        match resolution {
            Resolution::Ready { candidates, .. } => candidates.len(),
            Resolution::Pending | Resolution::Failed(_) => 0,
        }
    }

    fn carry_out(&mut self) {
        while let Some(order) = self.resolver.next_order() {
            match order {
                Order::Ask {
                    socket,
                    server,
                    bytes,
                    ..
                } => {
                    let query = Socket {
                        server,
                        query: bytes,
                    };
                    assert!(self.open.insert(socket, query).is_none(), "used twice");
                }
                Order::Close { socket } => {
                    assert!(self.open.remove(&socket).is_some(), "not open");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::random::Random;

    #[test]
    fn seeds_lead_to_candidates() {
        for (seed, candidates) in [
            (&include_bytes!("../../fuzz/corpus/dns/addresses")[..], 2),
            (include_bytes!("../../fuzz/corpus/dns/services"), 2),
            (include_bytes!("../../fuzz/corpus/dns/aliases"), 0),
        ] {
            assert_eq!(super::play(seed), candidates);
        }
    }

    /// Bytes of few values, so that records come about.
    #[test]
    fn body_holds_on_random_bytes() {
        let mut random = Random::new(5);
        for _ in 0..2_000 {
            let length = random.below(600) as usize;
            let values = [0, 1, 3, 4, 5, 12, 16, 28, 33, 35, 60, 0xc0, 0xff];
            let data: Vec<u8> = (0..length)
                .map(|_| match random.below(4) {
                    0 => random.next_u64() as u8,
                    _ => values[random.below(values.len() as u64) as usize],
                })
                .collect();
            super::dns(&data);
        }
    }
}
