//! What proves the server: fuzz bodies, a simulated network, scripted user agents. Never in the server itself.

pub mod fuzz;
pub mod fuzz_auth;
pub mod fuzz_stream;
