//! RFC 3261 §17, RFC 6026: transactions.
//!
//! Four machines, one pure function in a file each ([`invite_client`], [`non_invite_client`], [`invite_server`],
//! [`non_invite_server`]), with the retransmission of a 2xx ([`accept`]) and of a reliable provisional response
//! ([`provisional`], RFC 3262) beside them; and the [`Transactions`] table that owns the state, the bytes and the timers
//! and obeys what the machines say ([`effects`]). No I/O, no clock: the time is an argument, messages leave through a
//! [`crate::source::Sink`].

pub mod accept;
mod branch;
mod client;
mod completed;
pub mod effects;
mod hop;
pub mod invite_client;
pub mod invite_server;
mod key;
pub mod non_invite_client;
pub mod non_invite_server;
pub mod provisional;
mod server;
mod shared;
mod table;
#[cfg(test)]
mod tests;

pub use branch::Branch;
pub use client::{ClientId, Refused};
pub use key::ServerKey;
pub use server::{Received, ServerId};
pub use table::{Expired, Transactions};
