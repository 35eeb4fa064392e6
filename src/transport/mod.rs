//! RFC 3261 §18 without sockets: where one message ends on a stream, and which way a response goes.
//!
//! Knows neither transactions nor connections: [`stream::Framer`] is the little that each connection keeps, and
//! [`via::response_flow`] is a pure function. Opening, closing and timing out connections is the business of the layers above.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod stream;
pub mod via;

pub use stream::{Frame, FrameError, Framer, Frames};
pub use via::response_flow;
