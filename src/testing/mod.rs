//! What proves the server: fuzz bodies, a simulated network, scripted user agents. Never in the server itself.
//!
//! `network` and `world` put the production endpoint on virtual time; `agent` is a user agent that a script plays,
//! `scenario` plays such scripts from text files; `phone` plays itself, and a `fleet` of them lives with the server on a
//! bad network: in `simulate` as people do, among strangers, in `storm` as nobody should, in `races` so that whatever may cross
//! does. In `years` all of it meets whatever else may happen to a server: its `disk`, its process and its clocks too, and a second
//! `reader` reads what it sends. `siege` has them besieged, `fraud` one of them robbed of his password. With a `carrier` before it a phone is where external lines register: for a `day`, or a
//! `thousand` of them at once.
//! `invariants` is what must hold in all of these.
//!
//! `fuzz` and its like are what must hold for any bytes, each body for `fuzz/fuzz_targets` and for the tests; a `meter` tells them
//! what parsing allocates.

pub mod agent;
pub mod carrier;
pub mod day;
pub mod disk;
pub mod dns;
pub mod fleet;
pub mod fraud;
pub mod fuzz;
pub mod fuzz_address;
pub mod fuzz_auth;
pub mod fuzz_config;
pub mod fuzz_dns;
pub mod fuzz_endpoint;
pub mod fuzz_filter;
pub mod fuzz_http;
pub mod fuzz_sdp;
pub mod fuzz_stream;
pub mod fuzz_transaction;
pub mod invariants;
pub mod meter;
pub mod network;
pub mod phone;
pub mod races;
pub mod random;
pub mod reader;
pub mod scenario;
pub mod siege;
pub mod simulate;
pub mod storm;
pub mod thousand;
pub mod world;
pub mod years;

/// What a fuzz target does with its bytes; it panics when a property does not hold.
pub type FuzzBody = fn(&[u8]);

/// The fuzz targets by name: what the tests replay the seeds with. What cargo-fuzz runs calls them one by one: in a program
/// with a single one, much less is looked at after each input.
pub const FUZZ_TARGETS: [(&str, FuzzBody); 14] = [
    ("auth_digest", auth_digest),
    ("config", fuzz_config::config),
    ("dns", fuzz_dns::dns),
    ("endpoint", fuzz_endpoint::endpoint),
    ("filter", fuzz_filter::filter),
    ("http", fuzz_http::http),
    ("message", fuzz::message),
    ("name_addr", fuzz_address::name_addr),
    ("nonce", fuzz_auth::nonce),
    ("sdp", fuzz_sdp::sdp),
    ("stream_frame", fuzz_stream::stream_frame),
    ("transaction_steps", fuzz_transaction::transaction_steps),
    ("uri", fuzz::uri),
    ("via", fuzz_address::via),
];

/// Digest values as text, and as a server that checks them.
///
/// # Panics
/// When a property does not hold.
pub fn auth_digest(bytes: &[u8]) {
    fuzz::auth_digest(bytes);
    fuzz_auth::auth_digest(bytes);
}
