//! testing

pub mod fuzz;
pub mod fuzz_auth;
