//! net

pub mod log;
