//! What may be where: the tables of the rules.

/// What each layer (folder or file of `src/`) may import of the crate, besides [`LEAVES`] and itself.
/// The order is that of the layers: a line names only what stands above it here.
pub const LAYERS: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("time", &[]),
    ("source", &[]),
    ("store", &[]),
    ("config", &[]),
    ("api", &[]),
    ("action", &[]),
    ("nonce", &[]),
    ("token", &[]),
    ("bpf", &[]),
    ("guard", &[]),
    ("brake", &[]),
    ("names", &[]),
    ("message", &[]),
    ("sdp", &[]),
    ("transport", &["message"]),
    ("transaction", &["transport", "message"]),
    ("dialog", &["transaction", "transport", "message"]),
    ("auth", &["transaction", "transport", "message"]),
    ("location", &["transaction", "transport", "message"]),
    ("media", &["sdp"]),
    (
        "registrar",
        &[
            "dialog",
            "auth",
            "location",
            "media",
            "transaction",
            "transport",
            "message",
        ],
    ),
    (
        "line",
        &[
            "dialog",
            "auth",
            "location",
            "media",
            "transaction",
            "transport",
            "message",
        ],
    ),
    (
        "call",
        &[
            "sdp",
            "line",
            "dialog",
            "auth",
            "location",
            "media",
            "transaction",
            "transport",
            "message",
        ],
    ),
    (
        "trunk",
        &[
            "dialog",
            "auth",
            "location",
            "media",
            "transaction",
            "transport",
            "message",
        ],
    ),
    (
        "subscription",
        &[
            "call",
            "line",
            "dialog",
            "auth",
            "location",
            "media",
            "transaction",
            "transport",
            "message",
        ],
    ),
    ("reach", &["transaction", "transport", "message"]),
    ("endpoint", &[EVERYTHING_BUT_NET]),
    ("testing", &[EVERYTHING_BUT_NET]),
    ("net", &[EVERYTHING]),
    ("cli", &[EVERYTHING]),
    ("main", &[EVERYTHING]),
];

/// All layers, `net` too; nobody but tests imports `testing`.
pub const EVERYTHING: &str = "*";
/// All layers that do no input or output.
pub const EVERYTHING_BUT_NET: &str = "* without net";

/// Plain data and bounds: any layer may import these, in the order of this list among themselves.
pub const LEAVES: &[&str] = &[
    "limits", "time", "source", "store", "config", "api", "action", "nonce", "token",
];

/// What may not be named below `net` and `main`: the path, and what to do instead.
pub const IMPURE: &[(&str, &str)] = &[
    (
        "std::time::Instant",
        "time is an argument: crate::time::Now",
    ),
    (
        "std::time::SystemTime",
        "time is an argument: crate::time::Now",
    ),
    (
        "std::thread",
        "the SIP path has one thread; others belong to net",
    ),
    ("std::sync::Mutex", "the SIP path has one thread"),
    ("std::sync::RwLock", "the SIP path has one thread"),
    ("std::fs", "files belong to net and main"),
    ("std::env", "the environment belongs to main"),
    ("std::process", "processes belong to main"),
    ("std::io::stdin", "terminals belong to main"),
    ("std::io::stdout", "terminals belong to main"),
    ("std::io::stderr", "terminals belong to main"),
    ("std::os", "sockets belong to net"),
    ("std::net::TcpStream", "sockets belong to net"),
    ("std::net::TcpListener", "sockets belong to net"),
    ("std::net::UdpSocket", "sockets belong to net"),
    ("std::net::ToSocketAddrs", "names are resolved by net"),
    (
        "std::hash::RandomState",
        "keys come from the seed: ahash's RandomState::with_seeds",
    ),
    (
        "std::collections::hash_map::RandomState",
        "keys come from the seed",
    ),
    (
        "std::collections::hash_map::DefaultHasher",
        "keys come from the seed",
    ),
    (
        "ahash::AHashMap",
        "its keys do not come from the seed: name the hasher",
    ),
    (
        "ahash::AHashSet",
        "its keys do not come from the seed: name the hasher",
    ),
    (
        "ahash::HashMap",
        "its keys do not come from the seed: name the hasher",
    ),
    (
        "ahash::HashSet",
        "its keys do not come from the seed: name the hasher",
    ),
    (
        "ahash::RandomState::new",
        "keys come from the seed: RandomState::with_seeds",
    ),
    (
        "ahash::RandomState::default",
        "keys come from the seed: RandomState::with_seeds",
    ),
    (
        "RandomState::new",
        "keys come from the seed: RandomState::with_seeds",
    ),
    (
        "RandomState::default",
        "keys come from the seed: RandomState::with_seeds",
    ),
    ("rand", "randomness comes from the seed"),
    ("getrandom", "randomness comes from the seed"),
    ("rusqlite", "the database belongs to net"),
    ("mio", "sockets belong to net"),
    ("socket2", "sockets belong to net"),
    ("libc", "system calls belong to net"),
    ("signal_hook", "signals belong to net"),
    ("httparse", "HTTP belongs to net and api::http"),
    ("lexopt", "arguments belong to main"),
    ("log::error", "the core emits events and never logs"),
    ("log::warn", "the core emits events and never logs"),
    ("log::info", "the core emits events and never logs"),
    ("log::debug", "the core emits events and never logs"),
    ("log::trace", "the core emits events and never logs"),
    ("log::log", "the core emits events and never logs"),
];

/// Layers that may do input and output.
pub const SHELL: &[&str] = &["net", "cli", "main"];

/// Macros that print, for the layers below the shell.
pub const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln"];

/// Macros that say a thing is not finished, or is being looked for; nowhere.
pub const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

/// Layers that read a peer's bytes and never panic; their head says so to clippy.
pub const PANIC_FREE: &[&str] = &[
    "message",
    "names",
    "transport",
    "guard",
    "auth",
    "nonce",
    "line",
];

/// The lints of that head.
pub const PANIC_LINTS: &[&str] = &[
    "clippy::unwrap_used",
    "clippy::expect_used",
    "clippy::panic",
    "clippy::indexing_slicing",
    "clippy::arithmetic_side_effects",
];

/// The only file with unsafe code.
pub const UNSAFE: &str = "src/net/sys.rs";

/// Lines of a file without its tests, above which it is looked at again.
pub const LINES_MAX: usize = 800;

/// Files above that which were looked at, with the reason to leave them whole.
pub const LONG_FILES: &[(&str, &str)] = &[];

/// The visible top level, besides LICENSE*.
pub const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "bench",
    "fuzz",
    "tests",
    "config.ini",
    "README.md",
    "CHANGELOG.md",
    ".ci",
];

/// What building and running leaves at the top level; .gitignore names it.
pub const LEFT_BY_RUNNING: &[&str] = &["target", "sipkeep.db"];

/// Words of a workshop, not of the product. In pieces, because this file is read too.
pub const WORKSHOP: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!(".lib", "rary"),
    concat!("CONTRACT", ".md"),
    concat!("SPEC", ".md"),
    concat!("DESIGN", ".md"),
    concat!("SECURITY", ".md §"),
    concat!("DEPENDENCIES", ".md"),
    concat!("PEERS", ".md"),
    concat!("SPEC", " \""),
    concat!("SPEC", " §"),
    concat!("DESIGN", " §"),
    concat!("clau", "de"),
    concat!("anthro", "pic"),
    concat!("chat", "gpt"),
    concat!("language ", "model"),
    concat!("sub", "agent"),
    concat!("work", "tree"),
    concat!("/ro", "ot/"),
];
