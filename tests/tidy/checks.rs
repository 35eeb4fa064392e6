//! The rules: each a function from a file to its findings.

use std::collections::BTreeSet;

use super::tables::*;
use super::text::*;

/// Does `path` name `what` or something in it?
pub fn is_within(path: &str, what: &str) -> bool {
    path.strip_prefix(what)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

pub fn check_layers(file: &File) -> Vec<String> {
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

pub fn may_import(layer: &str, allowed: &[&str], imported: &str) -> bool {
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

pub fn check_purity(file: &File) -> Vec<String> {
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
            let mut exempt = file.layer() == Some("testing")
                && ["std::fs", "std::env", "std::process"].contains(impure);
            // One request is read from bytes, without a socket.
            exempt |= file.path == "src/api/http.rs" && *impure == "httparse";
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
pub fn check_maps(file: &File) -> Vec<String> {
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
pub fn type_arguments(inside: &str) -> usize {
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

pub fn check_panics(file: &File) -> Vec<String> {
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

pub fn check_unsafe(file: &File) -> Vec<String> {
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

pub fn check_unfinished(file: &File) -> Vec<String> {
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

pub fn check_head(file: &File) -> Vec<String> {
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

pub fn check_length(file: &File) -> Vec<String> {
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
pub fn check_events(file: &File) -> Vec<String> {
    let lines = file.text.lines().take(file.product().lines().count());
    (lines.enumerate())
        .filter(|(_, line)| line.contains("\"event="))
        .map(|(number, _)| format!("{}:{}: event in a message", file.path, number + 1))
        .collect()
}

/// In any text of the project, comments included.
pub fn check_workshop(path: &str, text: &str) -> Vec<String> {
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
pub fn check_top_level(entries: &BTreeSet<String>) -> Vec<String> {
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
