//! RFC 3261 §7, §19, §20, §25: bytes ↔ views. No time, no state, no I/O, no allocation in parsing.
//!
//! Strict, so that what one layer reads every layer reads: single headers doubled, numbers out of range, bare CR or LF are
//! refused. What is read beyond the RFC's grammar is a named constant, with who needs it: [`uri::RAW_HASH_IN_USER`],
//! [`uri::UNDERSCORE_IN_HOST`], [`uri::THREE_COLONS_IN_IPV6`], [`header::auth::ANY_QUOTING`], [`header::UTF8_OUTSIDE_QUOTES`],
//! [`parse::ANY_VISIBLE_CALL_ID`].
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

pub mod compose;
pub mod error;
pub mod header;
pub mod method;
pub mod parse;
pub mod salvage;
mod scan;
pub mod uri;

pub use compose::{Composer, reason_phrase};
pub use error::{Error, ErrorKind};
pub use header::{
    CSeq, Contact, ContactValue, HeaderLine, HeaderName, NameAddr, Params, RAck, Via,
    auth::DigestParams, printable, quote, rseq, split_values, unquote,
};
pub use method::Method;
pub use parse::{Message, StartLine, parse};
pub use salvage::{Skeleton, salvage};
pub use uri::{Host, Scheme, Uri, escape_user};
