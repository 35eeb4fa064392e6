//! Rules over the source text that the compiler does not know: which layer may import which, what may not be
//! reached below the network shell, where unsafe code is, how long a file is, what stands at the top level.
//!
//! The text is read as tokens are: comments and literals are blanked first, `use` trees are written out. A rule is a
//! function from a file to its findings, and each has a test that it finds something.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// What each layer (folder or file of `src/`) may import of the crate, besides [`LEAVES`] and itself.
/// The order is that of the layers: a line names only what stands above it here.
const LAYERS: &[(&str, &[&str])] = &[
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
const EVERYTHING: &str = "*";
/// All layers that do no input or output.
const EVERYTHING_BUT_NET: &str = "* without net";

/// Plain data and bounds: any layer may import these, in the order of this list among themselves.
const LEAVES: &[&str] = &[
    "limits", "time", "source", "store", "config", "api", "action", "nonce", "token",
];

/// What may not be named below `net` and `main`: the path, and what to do instead.
const IMPURE: &[(&str, &str)] = &[
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
    ("httparse", "HTTP belongs to net"),
    ("lexopt", "arguments belong to main"),
    ("log::error", "the core emits events and never logs"),
    ("log::warn", "the core emits events and never logs"),
    ("log::info", "the core emits events and never logs"),
    ("log::debug", "the core emits events and never logs"),
    ("log::trace", "the core emits events and never logs"),
    ("log::log", "the core emits events and never logs"),
];

/// Layers that may do input and output.
const SHELL: &[&str] = &["net", "cli", "main"];

/// Macros that print, for the layers below the shell.
const PRINTING: &[&str] = &["print", "println", "eprint", "eprintln"];

/// Macros that say a thing is not finished, or is being looked for; nowhere.
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

/// Layers that read a peer's bytes and never panic; their head says so to clippy.
const PANIC_FREE: &[&str] = &[
    "message",
    "names",
    "transport",
    "guard",
    "auth",
    "nonce",
    "line",
];

/// The lints of that head.
const PANIC_LINTS: &[&str] = &[
    "clippy::unwrap_used",
    "clippy::expect_used",
    "clippy::panic",
    "clippy::indexing_slicing",
    "clippy::arithmetic_side_effects",
];

/// The only file with unsafe code.
const UNSAFE: &str = "src/net/sys.rs";

/// Lines of a file without its tests, above which it is looked at again.
const LINES_MAX: usize = 800;

/// Files above that which were looked at, with the reason to leave them whole.
const LONG_FILES: &[(&str, &str)] = &[];

/// The visible top level, besides LICENSE*.
const TOP_LEVEL: &[&str] = &[
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
const LEFT_BY_RUNNING: &[&str] = &["target", "sipkeep.db"];

/// Words of a workshop, not of the product. In pieces, because this file is read too.
const WORKSHOP: &[&str] = &[
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

/// A source file: where it is, its text, and its text without comments and literals.
struct File {
    path: String,
    text: String,
    code: String,
}

impl File {
    fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            text: text.into(),
            code: blank(text),
        }
    }

    /// `message` for src/message/uri.rs, `limits` for src/limits.rs; `None` for lib.rs and what is not in src.
    fn layer(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        let name = first.strip_suffix(".rs").unwrap_or(first);
        (name != "lib").then_some(name)
    }

    /// Its code up to the unit tests, which stand last.
    fn product(&self) -> &str {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return "";
        }
        let mut from = 0;
        while let Some(at) = self.code[from..].find("#[cfg(test)]") {
            let after = self.code[from + at + "#[cfg(test)]".len()..].trim_start();
            if after.starts_with("mod ") {
                return &self.code[..from + at];
            }
            from += at + 1;
        }
        &self.code
    }

    /// Is it impure by right?
    fn in_shell(&self) -> bool {
        self.layer().is_none_or(|layer| SHELL.contains(&layer))
    }
}

/// The text with comments, string and character literals as blanks; lines stay where they are.
fn blank(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    // Pushes blanks for what is skipped.
    let skip = |out: &mut String, from: usize, to: usize| {
        out.extend(
            bytes[from..to]
                .iter()
                .map(|&c| if c == '\n' { '\n' } else { ' ' }),
        );
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let word_before = at > 0 && (bytes[at - 1].is_alphanumeric() || bytes[at - 1] == '_');
        let end = if rest.starts_with(&['/', '/']) {
            at + rest.iter().position(|&c| c == '\n').unwrap_or(rest.len())
        } else if rest.starts_with(&['/', '*']) {
            at + block_comment(rest)
        } else if rest[0] == '"' {
            at + quoted(rest, '"')
        } else if !word_before && matches!(rest[0], 'r' | 'b' | 'c') && literal_prefix(rest) > 0 {
            let prefix = literal_prefix(rest);
            if rest[..prefix].contains(&'r') {
                at + raw_string(rest, prefix)
            } else {
                at + prefix + quoted(&rest[prefix..], rest[prefix])
            }
        } else if rest[0] == '\'' && is_char_literal(rest) {
            at + quoted(rest, '\'')
        } else {
            out.push(rest[0]);
            at += 1;
            continue;
        };
        skip(&mut out, at, end);
        at = end;
    }
    out
}

/// Length of a block comment, which may hold others.
fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with(&['/', '*']) {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(&['*', '/']) {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of a literal that begins and ends with this quote.
fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of `r`, `b`, `br`, `c`, `cr` if a literal begins here, else 0.
fn literal_prefix(rest: &[char]) -> usize {
    for prefix in ["br", "cr", "r", "b", "c"] {
        let length = prefix.len();
        if !rest.iter().copied().take(length).eq(prefix.chars()) {
            continue;
        }
        let after = &rest[length..];
        let hashes = after.iter().take_while(|&&c| c == '#').count();
        let quote = after.get(hashes).copied();
        let raw = prefix.ends_with('r');
        if (raw && quote == Some('"'))
            || (!raw
                && hashes == 0
                && (quote == Some('"') || (prefix == "b" && quote == Some('\''))))
        {
            return length;
        }
    }
    0
}

/// Length of a raw string whose prefix has this length.
fn raw_string(rest: &[char], prefix: usize) -> usize {
    let hashes = rest[prefix..].iter().take_while(|&&c| c == '#').count();
    let mut end = vec!['"'];
    end.extend(std::iter::repeat_n('#', hashes));
    let body = prefix + hashes + 1;
    (body..rest.len())
        .find(|&at| rest[at..].starts_with(&end))
        .map_or(rest.len(), |at| at + end.len())
}

/// `'a'` and `'\n'`, not the lifetime `'a`.
fn is_char_literal(rest: &[char]) -> bool {
    rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'')
}

/// Every path of the code, `use` trees written out: (line, `std::time::Instant`).
fn paths(code: &str) -> Vec<(usize, String)> {
    let chars: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    let mut line = 1;
    while at < chars.len() {
        if chars[at] == '\n' {
            line += 1;
        }
        let begins = is_word(chars[at])
            && !chars[at].is_ascii_digit()
            && (at == 0
                || !(is_word(chars[at - 1]) || chars[at - 1] == ':' || chars[at - 1] == '.'));
        if !begins {
            at += 1;
            continue;
        }
        let start_line = line;
        let end = path(&chars, at, String::new(), start_line, &mut found);
        line += chars[at..end].iter().filter(|&&c| c == '\n').count();
        at = end;
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Reads one path or tree that begins at `at`; returns where it ends.
fn path(
    chars: &[char],
    mut at: usize,
    mut prefix: String,
    line: usize,
    found: &mut Vec<(usize, String)>,
) -> usize {
    loop {
        let start = at;
        while at < chars.len() && is_word(chars[at]) {
            at += 1;
        }
        prefix.extend(&chars[start..at]);
        let next = skip_blanks(chars, at);
        if !chars[next.min(chars.len())..].starts_with(&[':', ':']) {
            found.push((line, prefix));
            return at;
        }
        let next = skip_blanks(chars, next + 2);
        match chars.get(next) {
            Some(&c) if is_word(c) => {
                prefix.push_str("::");
                at = next;
            }
            Some('{') => {
                prefix.push_str("::");
                let mut inner = skip_blanks(chars, next + 1);
                let mut inner_line = line + newlines(&chars[start..inner]);
                while inner < chars.len() && chars[inner] != '}' {
                    let end = if is_word(chars[inner]) {
                        path(chars, inner, prefix.clone(), inner_line, found)
                    } else {
                        inner + 1
                    };
                    let after = skip_blanks(chars, end);
                    inner_line += newlines(&chars[inner..after]);
                    inner = after;
                }
                return (inner + 1).min(chars.len());
            }
            Some('*') => {
                found.push((line, format!("{prefix}::*")));
                return next + 1;
            }
            _ => {
                found.push((line, prefix));
                return next.min(chars.len());
            }
        }
    }
}

fn skip_blanks(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() && chars[at].is_whitespace() {
        at += 1;
    }
    at
}

fn newlines(chars: &[char]) -> usize {
    chars.iter().filter(|&&c| c == '\n').count()
}

/// Words of the code with their lines.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(number, line)| {
        line.split(|c: char| !is_word(c))
            .filter(|word| !word.is_empty())
            .map(move |word| (number + 1, word))
    })
}

/// Macro calls of the code: `todo!` is (line, `todo`).
fn macros(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for (at, _) in line.match_indices('!') {
            if line[at + 1..].trim_start().starts_with('=') {
                continue;
            }
            let name = line[..at]
                .rsplit(|c: char| !is_word(c))
                .next()
                .unwrap_or("");
            if !name.is_empty() {
                found.push((number + 1, name));
            }
        }
    }
    found
}

/// Does `path` name `what` or something in it?
fn is_within(path: &str, what: &str) -> bool {
    path.strip_prefix(what)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn check_layers(file: &File) -> Vec<String> {
    let Some(layer) = file.layer() else {
        return Vec::new();
    };
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![format!(
            "{}: layer {layer:?} has no line in the table of layers",
            file.path
        )];
    };
    let mut findings = Vec::new();
    for (line, path) in paths(file.product()) {
        let mut segments = path.split("::");
        let imported = match segments.next() {
            Some("crate" | "sipkeep") => segments.next(),
            // A file right below src/ is a child of the crate's root.
            Some("super") if file.path == format!("src/{layer}.rs") => segments.next(),
            Some("super") if file.path == format!("src/{layer}/mod.rs") => segments.next(),
            _ => None,
        };
        let Some(imported) = imported else { continue };
        // `crate::Thing` of the root and macros by path are not layers.
        if !imported.starts_with(|c: char| c.is_ascii_lowercase()) || imported == "invariant" {
            continue;
        }
        if imported == layer || may_import(layer, allowed, imported) {
            continue;
        }
        findings.push(format!(
            "{}:{line}: {layer} may not import {path}",
            file.path
        ));
    }
    findings
}

fn may_import(layer: &str, allowed: &[&str], imported: &str) -> bool {
    let rank = |name: &str| LEAVES.iter().position(|leaf| *leaf == name);
    match (rank(layer), rank(imported)) {
        (Some(own), Some(other)) => return other < own,
        (None, Some(_)) => return true,
        _ => {}
    }
    if imported == "testing" {
        return false;
    }
    allowed.contains(&EVERYTHING)
        || (allowed.contains(&EVERYTHING_BUT_NET) && imported != "net")
        || allowed.contains(&imported)
}

fn check_purity(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    if file.in_shell() {
        return findings;
    }
    for (line, path) in paths(file.product()) {
        for (impure, instead) in IMPURE {
            let glob = path.strip_suffix("::*").is_some_and(|module| {
                impure
                    .rsplit_once("::")
                    .is_some_and(|(parent, _)| parent == module)
            });
            // The scripted user agents and the scenario player may read files.
            let exempt = file.layer() == Some("testing")
                && ["std::fs", "std::env", "std::process"].contains(impure);
            // A word alone is a local name, unless it is what a crate is called and a path follows.
            let alone = !path.contains("::");
            if (is_within(&path, impure) || glob) && !alone && !exempt {
                findings.push(format!("{}:{line}: {path}: {instead}", file.path));
            }
        }
    }
    if file.layer() != Some("testing") {
        for (line, name) in macros(file.product()) {
            if PRINTING.contains(&name) {
                findings.push(format!("{}:{line}: {name}!: only main prints", file.path));
            }
        }
    }
    findings
}

/// A std map with its default hasher, whose keys are random.
fn check_maps(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    if file.in_shell() {
        return findings;
    }
    let code = file.product();
    for (name, parameters) in [("HashMap", 3), ("HashSet", 2)] {
        for (at, _) in code.match_indices(name) {
            if code[..at].ends_with(is_word) {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let after = &code[at + name.len()..];
            let generic = after
                .strip_prefix("::<")
                .or_else(|| after.strip_prefix('<'));
            let wrong = match generic {
                Some(inside) => type_arguments(inside) < parameters,
                None => ["::new(", "::with_capacity(", "::from("]
                    .iter()
                    .any(|f| after.starts_with(f)),
            };
            if wrong {
                findings.push(format!(
                    "{}:{line}: {name} with the default hasher: name ahash's RandomState, keyed by the seed",
                    file.path
                ));
            }
        }
    }
    findings
}

/// Arguments of a list whose `<` was read.
fn type_arguments(inside: &str) -> usize {
    let mut depth = 0_i32;
    let mut commas = 0;
    let mut last = ' ';
    let mut previous = ' ';
    for c in inside.chars() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' if previous == '-' => {}
            '>' if depth == 0 => return commas + usize::from(last != ','),
            '>' | ')' | ']' => depth -= 1,
            ',' if depth == 0 => commas += 1,
            _ => {}
        }
        if !c.is_whitespace() {
            last = c;
        }
        previous = c;
    }
    commas + 1
}

fn check_panics(file: &File) -> Vec<String> {
    let Some(layer) = file.layer().filter(|layer| PANIC_FREE.contains(layer)) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    if file.path == format!("src/{layer}/mod.rs") || file.path == format!("src/{layer}.rs") {
        let dense: String = file.code.split_whitespace().collect();
        let head = dense
            .find("#![cfg_attr(not(test),deny(")
            .map_or("", |at| dense[at..].split(']').next().unwrap_or(""));
        for lint in PANIC_LINTS {
            if !head.contains(lint) {
                findings.push(format!("{}: its head does not deny {lint}", file.path));
            }
        }
    }
    let texts = file.text.lines();
    for (number, (line, text)) in file.product().lines().zip(texts).enumerate() {
        let lifts = line.contains("allow(") || line.contains("expect(clippy");
        let reasoned = text.contains("reason") || text.contains("//");
        if lifts && !reasoned && PANIC_LINTS.iter().any(|lint| line.contains(lint)) {
            findings.push(format!(
                "{}:{}: a lifted lint says its reason",
                file.path,
                number + 1
            ));
        }
    }
    findings
}

fn check_unsafe(file: &File) -> Vec<String> {
    if file.path == UNSAFE {
        let lines: Vec<&str> = file.text.lines().collect();
        return words(&file.code)
            .filter(|(_, word)| *word == "unsafe")
            .filter(|(line, _)| {
                let above = &lines[line.saturating_sub(6)..*line];
                !above
                    .iter()
                    .any(|line| line.to_uppercase().contains("SAFETY"))
            })
            .map(|(line, _)| format!("{}:{line}: an unsafe block says its SAFETY", file.path))
            .collect();
    }
    words(&file.code)
        .filter(|(_, word)| ["unsafe", "unsafe_code"].contains(word))
        .map(|(line, _)| format!("{}:{line}: unsafe code stands in {UNSAFE} alone", file.path))
        .collect()
}

fn check_unfinished(file: &File) -> Vec<String> {
    let mut findings: Vec<String> = macros(&file.code)
        .into_iter()
        .filter(|(_, name)| UNFINISHED.contains(name))
        .map(|(line, name)| format!("{}:{line}: {name}!", file.path))
        .collect();
    for (number, line) in file.code.lines().enumerate() {
        if line.trim() == "#[ignore]" {
            findings.push(format!(
                "{}:{}: an ignored test says why",
                file.path,
                number + 1
            ));
        }
    }
    findings
}

fn check_head(file: &File) -> Vec<String> {
    let first = file.text.lines().next().unwrap_or("");
    if first.starts_with("//!") || first.starts_with("#![") {
        Vec::new()
    } else {
        vec![format!(
            "{}:1: a file begins with its purpose (//!)",
            file.path
        )]
    }
}

fn check_length(file: &File) -> Vec<String> {
    let lines = file.product().lines().count();
    let reason = LONG_FILES.iter().find(|(path, _)| *path == file.path);
    match (lines > LINES_MAX, reason) {
        (true, None) => vec![format!(
            "{}: {lines} lines without tests, more than {LINES_MAX}: split it, or list it here with the reason",
            file.path
        )],
        (false, Some(_)) => vec![format!(
            "{}: is short again: take it off the list",
            file.path
        )],
        _ => Vec::new(),
    }
}

/// An event whose name and fields stand in a message's text would be one quoted value of the log line.
fn check_events(file: &File) -> Vec<String> {
    let lines = file.text.lines().take(file.product().lines().count());
    (lines.enumerate())
        .filter(|(_, line)| line.contains("\"event="))
        .map(|(number, _)| format!("{}:{}: event in a message", file.path, number + 1))
        .collect()
}

/// In any text of the project, comments included.
fn check_workshop(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let lower = line.to_lowercase();
        for word in WORKSHOP {
            let found = if word.chars().any(char::is_uppercase) {
                line.contains(word)
            } else {
                lower.contains(word)
            };
            if found {
                findings.push(format!("{path}:{}: {word:?}", number + 1));
            }
        }
    }
    findings
}

/// `entries`: names at the top level, hidden ones left out.
fn check_top_level(entries: &BTreeSet<String>) -> Vec<String> {
    let mut findings = Vec::new();
    for entry in entries {
        let licence = entry.starts_with("LICENSE");
        let left = LEFT_BY_RUNNING.iter().any(|name| entry.starts_with(name));
        if !TOP_LEVEL.contains(&entry.as_str()) && !licence && !left {
            findings.push(format!("{entry}: does not belong at the top level"));
        }
    }
    for wanted in TOP_LEVEL {
        if !entries.contains(*wanted) {
            findings.push(format!("{wanted}: is missing"));
        }
    }
    if !entries.iter().any(|entry| entry.starts_with("LICENSE")) {
        findings.push("LICENSE*: is missing".into());
    }
    findings
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below `folder`, without what building leaves and hidden folders.
fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap().to_string_lossy().into_owned();
        if entry.is_dir() {
            if !["target", "artifacts", ".git"].contains(&name.as_str()) {
                walk(&entry, found);
            }
        } else if name != ".git" && !name.starts_with("sipkeep.db") {
            found.push(entry);
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap()
        .to_string_lossy()
        .replace('\\', "/")
}

/// All Rust files of src, tests, bench and fuzz.
fn rust_files() -> Vec<File> {
    let mut found = Vec::new();
    for folder in ["src", "tests", "bench", "fuzz"] {
        if root().join(folder).is_dir() {
            walk(&root().join(folder), &mut found);
        }
    }
    let files: Vec<File> = found
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| File::new(&relative(path), &fs::read_to_string(path).unwrap()))
        .collect();
    assert!(files.len() > 10, "the source was not found");
    files
}

#[track_caller]
fn none(findings: &[String]) {
    let mut list = String::new();
    for finding in findings {
        let _ = writeln!(list, "  {finding}");
    }
    assert!(findings.is_empty(), "{} findings:\n{list}", findings.len());
}

#[track_caller]
fn over_source(check: fn(&File) -> Vec<String>) {
    let files = rust_files();
    let source = files.iter().filter(|file| file.path.starts_with("src/"));
    none(&source.flat_map(check).collect::<Vec<_>>());
}

#[track_caller]
fn over_all(check: fn(&File) -> Vec<String>) {
    none(&rust_files().iter().flat_map(check).collect::<Vec<_>>());
}

#[test]
fn imports_point_one_way() {
    over_source(check_layers);
}

#[test]
fn the_core_does_no_input_or_output() {
    over_source(check_purity);
}

#[test]
fn maps_are_keyed_by_the_seed() {
    over_source(check_maps);
}

#[test]
fn a_peers_bytes_cannot_panic() {
    over_source(check_panics);
    for layer in PANIC_FREE {
        assert!(
            root().join(format!("src/{layer}/mod.rs")).exists()
                || root().join(format!("src/{layer}.rs")).exists(),
            "{layer} is not there any more"
        );
    }
}

#[test]
fn unsafe_code_stands_in_one_file() {
    over_all(check_unsafe);
}

#[test]
fn nothing_is_left_unfinished() {
    over_all(check_unfinished);
}

#[test]
fn events_are_logged_as_events() {
    over_source(check_events);
}

#[test]
fn a_file_begins_with_its_purpose() {
    over_source(check_head);
}

#[test]
fn files_are_short_enough_to_read() {
    over_source(check_length);
}

#[test]
fn texts_speak_of_the_product_alone() {
    let mut found = Vec::new();
    walk(root(), &mut found);
    let mut findings = Vec::new();
    for path in found {
        // A fuzzer's corpus and captures are not texts.
        if let Ok(text) = fs::read_to_string(&path) {
            findings.extend(check_workshop(&relative(&path), &text));
        }
    }
    none(&findings);
}

#[test]
fn the_top_level_is_the_users() {
    let mut entries = BTreeSet::new();
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') || name == ".ci" {
            entries.insert(name);
        }
    }
    none(&check_top_level(&entries));
}

/// Each rule finds what it is for, and nothing in what looks alike.
mod rules {
    use super::*;

    fn count(check: fn(&File) -> Vec<String>, path: &str, text: &str) -> usize {
        check(&File::new(path, text)).len()
    }

    #[test]
    fn literals_and_comments_are_blank() {
        let text =
            "a \"x // y\" b // c\n'\"' d '\\'' r#\"q\"e\"# f /* g /* h */ i */ j b'k' 'l b\"m\" n";
        let code: Vec<String> = blank(text).split_whitespace().map(String::from).collect();
        assert_eq!(code, ["a", "b", "d", "f", "j", "'l", "n"]);
        assert_eq!(blank(text).lines().count(), text.lines().count());
    }

    #[test]
    fn use_trees_are_written_out() {
        let code = "use std::{\n time::{Instant, Duration as D},\n fs::{self},\n};\nlet x = crate::a::B::<u8>::new();";
        let found = paths(code);
        for path in [
            (2, "std::time::Instant"),
            (2, "std::time::Duration"),
            (3, "std::fs::self"),
        ] {
            assert!(found.contains(&(path.0, path.1.into())), "{found:?}");
        }
        assert!(found.contains(&(5, "crate::a::B".into())), "{found:?}");
    }

    #[test]
    fn a_layer_below_does_not_know_those_above() {
        let upward = "use crate::{limits::T1, call::Call};";
        assert_eq!(count(check_layers, "src/message/parse.rs", upward), 1);
        assert_eq!(count(check_layers, "src/endpoint/mod.rs", upward), 0);
        assert_eq!(count(check_layers, "src/registrar/mod.rs", upward), 1);
        assert_eq!(
            count(
                check_layers,
                "src/call/mod.rs",
                "let a = crate::net::run();"
            ),
            1
        );
        assert_eq!(
            count(
                check_layers,
                "src/guard/mod.rs",
                "use crate::message::Message;"
            ),
            1
        );
        assert_eq!(
            count(
                check_layers,
                "src/guard/mod.rs",
                "use super::message::Message;"
            ),
            1
        );
        assert_eq!(
            count(check_layers, "src/net/mod.rs", "use crate::testing::Net;"),
            1
        );
        assert_eq!(
            count(check_layers, "src/source.rs", "use crate::api::Page;"),
            1
        );
        assert_eq!(count(check_layers, "src/unheard_of/mod.rs", ""), 1);
        let tested = "fn a() {}\n#[cfg(test)]\nmod tests { use crate::call::Call; }";
        assert_eq!(count(check_layers, "src/message/parse.rs", tested), 0);
        assert_eq!(
            count(
                check_layers,
                "src/message/parse.rs",
                "// crate::call\nconst A: &str = \"crate::call\";"
            ),
            0
        );
    }

    #[test]
    fn impurity_is_found() {
        for impure in [
            "use std::time::{Duration, Instant};",
            "use std::time::*;",
            "let a = std::fs::read(\"x\");",
            "use std::net::UdpSocket;",
            "log::warn!(\"x\");",
            "use std::thread;",
            "fn a() { println!(\"x\"); }",
            "let s = RandomState::new();",
            "getrandom::fill(&mut bytes);",
        ] {
            assert!(
                count(check_purity, "src/call/mod.rs", impure) > 0,
                "{impure}"
            );
            assert_eq!(count(check_purity, "src/net/udp.rs", impure), 0, "{impure}");
        }
        let pure = "use std::net::SocketAddr; use std::time::Duration; use log::Level; let rand = 1; a.rand();";
        assert_eq!(count(check_purity, "src/call/mod.rs", pure), 0);
    }

    #[test]
    fn default_hashers_are_found() {
        let path = "src/location/mod.rs";
        assert_eq!(
            count(
                check_maps,
                path,
                "let a: HashMap<u8, (u8, u8)> = HashMap::new();"
            ),
            2
        );
        assert_eq!(count(check_maps, path, "a: HashSet<Vec<u8>>"), 1);
        assert_eq!(
            count(
                check_maps,
                path,
                "a: HashMap<u8, Vec<u8>, RandomState>, b: HashSet<u8, RandomState>"
            ),
            0
        );
        assert_eq!(count(check_maps, path, "HashMap::with_hasher(state)"), 0);
        assert_eq!(count(check_maps, "src/net/http.rs", "HashMap::new()"), 0);
    }

    #[test]
    fn a_head_without_its_lints_is_found() {
        let head = "#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used,\n clippy::panic, \
                    clippy::indexing_slicing, clippy::arithmetic_side_effects))]";
        assert_eq!(count(check_panics, "src/guard/mod.rs", head), 0);
        assert_eq!(
            count(check_panics, "src/guard/mod.rs", "//! guard"),
            PANIC_LINTS.len()
        );
        assert_eq!(
            count(
                check_panics,
                "src/guard/mod.rs",
                &head.replace("clippy::panic,", "")
            ),
            1
        );
        let lifted = "#[allow(clippy::indexing_slicing)]\nfn a() {}";
        assert_eq!(count(check_panics, "src/guard/table.rs", lifted), 1);
        let reasoned = "#[allow(clippy::indexing_slicing, reason = \"a table of 256 and a u8\")]";
        assert_eq!(count(check_panics, "src/guard/table.rs", reasoned), 0);
        assert_eq!(count(check_panics, "src/call/mod.rs", lifted), 0);
    }

    #[test]
    fn unsafe_code_is_found() {
        assert_eq!(count(check_unsafe, "src/net/udp.rs", "unsafe { a() }"), 1);
        assert_eq!(
            count(check_unsafe, "src/net/udp.rs", "#![allow(unsafe_code)]"),
            1
        );
        assert_eq!(count(check_unsafe, UNSAFE, "unsafe { a() }"), 1);
        assert_eq!(
            count(
                check_unsafe,
                UNSAFE,
                "// SAFETY: a is alive\nunsafe { a() }"
            ),
            0
        );
        assert_eq!(
            count(
                check_unsafe,
                "src/net/udp.rs",
                "// unsafe\nlet a = \"unsafe\";"
            ),
            0
        );
    }

    #[test]
    fn unfinished_work_is_found() {
        for (macro_name, _) in [("todo", 0), ("unimplemented", 0), ("dbg", 0)] {
            assert_eq!(
                count(
                    check_unfinished,
                    "src/a.rs",
                    &format!("fn a() {{ {macro_name}!(1) }}")
                ),
                1
            );
        }
        assert_eq!(
            count(
                check_unfinished,
                "tests/a.rs",
                "#[test]\n#[ignore]\nfn a() {}"
            ),
            1
        );
        assert_eq!(
            count(
                check_unfinished,
                "src/a.rs",
                "// todo!()\nassert!(todo != 1);"
            ),
            0
        );
    }

    #[test]
    fn an_event_in_a_message_is_found() {
        let logged = "fn a() { log::warn!(\n\"event=slow seconds={s}\"\n); }";
        assert_eq!(count(check_events, "src/net/a.rs", logged), 1);
        let tested = format!("#[cfg(test)]\nmod tests {{\n{logged}\n}}");
        assert_eq!(count(check_events, "src/net/a.rs", &tested), 0);
    }

    #[test]
    fn length_counts_without_tests() {
        let long = "fn a() {}\n".repeat(LINES_MAX + 1);
        assert_eq!(count(check_length, "src/a.rs", &long), 1);
        let tested = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}");
        assert_eq!(count(check_length, "src/a.rs", &tested), 0);
        assert_eq!(count(check_head, "src/a.rs", "use a;"), 1);
    }

    #[test]
    fn workshop_words_are_found() {
        for word in WORKSHOP {
            assert_eq!(
                check_workshop("a", &format!("see {word} x")).len(),
                1,
                "{word}"
            );
        }
        assert!(
            check_workshop(
                "a",
                "a User-Agent, specified in RFC 3261; the network's library"
            )
            .is_empty()
        );
    }

    #[test]
    fn strange_and_missing_entries_are_found() {
        let mut entries: BTreeSet<String> = TOP_LEVEL.iter().map(ToString::to_string).collect();
        assert_eq!(check_top_level(&entries), ["LICENSE*: is missing"]);
        entries.insert("LICENSE-MIT".into());
        entries.insert("target".into());
        assert!(check_top_level(&entries).is_empty());
        entries.insert("notes.md".into());
        entries.remove("README.md");
        assert_eq!(check_top_level(&entries).len(), 2);
    }
}
