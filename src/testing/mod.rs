//! What proves the server: fuzz bodies, a simulated network, scripted user agents. Never in the server itself.
//!
//! `network` and `world` put the production endpoint on virtual time; `agent` is a user agent that a script plays,
//! `scenario` plays such scripts from text files; `phone` plays itself, and a `fleet` of them lives with the server on a
//! bad network: in `simulate` as people do, among strangers, in `storm` as nobody should, in `races` so that whatever may cross
//! does. `siege` has them besieged, `fraud` one of them robbed of his password. With a `carrier` before it a phone is where external lines register: for a `day`, or a
//! `thousand` of them at once.
//! `invariants` is what must hold in all of these.

pub mod agent;
pub mod carrier;
pub mod day;
pub mod dns;
pub mod fleet;
pub mod fraud;
pub mod fuzz;
pub mod fuzz_auth;
pub mod fuzz_dns;
pub mod fuzz_endpoint;
pub mod fuzz_filter;
pub mod fuzz_sdp;
pub mod fuzz_stream;
pub mod invariants;
pub mod network;
pub mod phone;
pub mod races;
pub mod random;
pub mod scenario;
pub mod siege;
pub mod simulate;
pub mod storm;
pub mod thousand;
pub mod world;

/// What a fuzz target does with its bytes; it panics when a property does not hold.
pub type FuzzBody = fn(&[u8]);

/// The fuzz targets by name: what cargo-fuzz runs, and what the tests replay the seeds with.
pub const FUZZ_TARGETS: [(&str, FuzzBody); 9] = [
    ("auth_digest", auth_digest),
    ("dns", fuzz_dns::dns),
    ("endpoint", fuzz_endpoint::endpoint),
    ("filter", fuzz_filter::filter),
    ("message", fuzz::message),
    ("nonce", fuzz_auth::nonce),
    ("sdp", fuzz_sdp::sdp),
    ("stream_frame", fuzz_stream::stream_frame),
    ("uri", fuzz::uri),
];

/// Digest values as text, and as a server that checks them.
fn auth_digest(bytes: &[u8]) {
    fuzz::auth_digest(bytes);
    fuzz_auth::auth_digest(bytes);
}

/// Runs the target of this name.
///
/// # Panics
/// When there is none, or when its property does not hold.
pub fn fuzz_target(name: &str, bytes: &[u8]) {
    let (_, body) = FUZZ_TARGETS
        .iter()
        .find(|(own, _)| *own == name)
        .expect("a target's name");
    body(bytes);
}
