//! Rules over the source text that the compiler does not know: which layer may import which, what may not be
//! reached below the network shell, where unsafe code is, how long a file is, what stands at the top level.
//!
//! The text is read as tokens are: comments and literals are blanked first, `use` trees are written out. A rule is a
//! function from a file to its findings, and each has a test that it finds something.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use checks::*;
use tables::PANIC_FREE;
use text::*;

mod checks;
mod rules;
mod tables;
mod text;

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
