//! The only impure folder: sockets, clocks, files, signals and HTTP around one [`crate::endpoint::Endpoint`].
//!
//! ```text
//!  start ──▶ event_loop ──▶ udp (sys), streams, http (admin) ──▶ core ──▶ outputs ──▶ udp, streams, store, log
//!                       ▲ lanes: who is received first
//! ```
//!
//! `names` is not in the loop yet: nothing that is configured has a name to resolve.
//!
//! One thread runs all of it but the disk and the log's writer. Not here: what any byte of SIP means.

mod admin;
mod clock;
mod core;
mod event_loop;
mod filter;
mod holder;
mod http;
mod lanes;
pub mod log;
mod measure;
mod media;
mod names;
mod peers;
mod rest;
mod start;
pub mod store;
mod streams;
pub mod sys;
#[cfg(test)]
mod tests;
mod udp;

pub use start::{HTTP_TOKEN, run};
