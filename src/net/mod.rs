//! net

pub mod store;
