//! testing

pub mod fuzz_stream;
