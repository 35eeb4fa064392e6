//! From a SIP domain to the addresses of its servers (RFC 3263), without I/O and without a clock.
//!
//! ```text
//!  resolve(target) ──▶ Ready: candidates in order │ Failed: why │ Pending: look again when `changes` has changed
//!      │ what no cache knows
//!      ▼
//!  Order::Ask, one socket for each ──▶ the shell ──▶ receive(socket, from, bytes), unreachable(socket), expire(now)
//! ```
//!
//! | file | what it is | RFC |
//! | --- | --- | --- |
//! | `name` | a domain name as a value | 1035 §3.1, 4343 |
//! | `wire` | queries and answers as bytes | 1035 §4, 2782, 3403, 3596 |
//! | `system` | the texts of `/etc/resolv.conf` and `/etc/hosts` | resolv.conf(5), hosts(5) |
//! | `cache` | what was answered, bounded, by time to live | 2308, 8767 |
//! | `query` | one question, asked from server to server until it is answered | 5452 |
//! | `failover` | addresses that did not work lately | 3263 §4.3 |
//! | `service` | which record comes first | 2782, 3403 |
//! | `resolver` | the steps from a URI's host to addresses | 3263 §4 |
//!
//! Nobody waits in here: who is told `Pending` holds on to his own work, and everybody else's goes on.
//!
//! The wire format is read by code of our own: a general library reserves memory for as many records as a header of
//! twelve bytes announces, reads the records of forty types, each of which can spoil an answer, and is larger than this
//! folder. The tests hold one such library against it.
//!
//! Not here: search lists and `ndots` of resolv.conf. A SIP domain is written out in full (RFC 3261 §19.1.1); a call, and
//! the credentials with it, must not go to whatever `pbx.some.domain` happens to exist.
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

mod cache;
mod failover;
mod name;
mod query;
mod resolver;
mod service;
mod system;
#[cfg(test)]
mod tests;
mod wire;

pub use crate::source::{Over, SocketId};
pub use query::Order;
pub use resolver::{Candidate, Failure, Resolution, Resolver, Target};
pub use system::{Hosts, Servers};
