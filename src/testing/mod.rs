//! testing

pub mod fuzz;
