//! RFC 3261 §18 without sockets: which streams are open, where one message ends on a stream, and which way a response goes.
//!
//! Knows no transactions: [`stream::Framer`] is the little that each connection keeps, and [`via::response_flow`] is a pure
//! function. Sockets, and timing connections out, are `net`'s.

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

pub mod connections;
pub mod stream;
pub mod via;

pub use connections::{Connections, Stream};
pub use stream::{Frame, FrameError, Framer, Frames};
pub use via::{raw_branch, raw_tags, reconnect_address, response_flow};
