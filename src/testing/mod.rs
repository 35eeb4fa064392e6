//! What proves the server: fuzz bodies, a simulated network, scripted user agents. Never in the server itself.

pub mod fuzz;
pub mod fuzz_auth;
pub mod fuzz_stream;

/// A name, and what runs one input: it panics when a property does not hold.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// The fuzz targets by name: what cargo-fuzz runs, and what the tests replay the seeds with.
pub const FUZZ_TARGETS: [FuzzTarget; 5] = [
    ("auth_digest", auth_digest),
    ("message", fuzz::message),
    ("nonce", fuzz_auth::nonce),
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
