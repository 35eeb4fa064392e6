//! What proves the server: fuzz bodies, a simulated network, scripted user agents. Never in the server itself.
//!
//! `network` and `world` put the production endpoint on virtual time; `agent` is a user agent that a script plays,
//! `scenario` plays such scripts from text files; `phone` plays itself, and `simulate` lets many of them live with the
//! server on a bad network.

pub mod agent;
pub mod fuzz;
pub mod fuzz_auth;
pub mod fuzz_endpoint;
pub mod fuzz_stream;
pub mod network;
pub mod phone;
pub mod random;
pub mod scenario;
pub mod simulate;
pub mod world;
