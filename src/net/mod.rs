//! net

pub mod log;
pub mod store;
