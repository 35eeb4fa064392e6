//! RFC 3261 §7, §19, §20, §25: bytes ↔ views. No time, no state, no I/O, no allocation in parsing.

pub mod compose;
pub mod error;
pub mod header;
pub mod method;
pub mod parse;
pub mod uri;

pub use error::{Error, ErrorKind};
pub use header::{
    CSeq, Contact, ContactValue, HeaderLine, HeaderName, NameAddr, Params, Via, auth::DigestParams,
};
pub use method::Method;
pub use parse::{Message, Skeleton, StartLine, parse, salvage};
pub use uri::{Host, Scheme, Uri};
