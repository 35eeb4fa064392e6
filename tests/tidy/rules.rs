//! Each rule finds what it is for, and nothing in what looks alike.
use std::collections::BTreeSet;

use super::checks::*;
use super::tables::{LINES_MAX, PANIC_LINTS, TOP_LEVEL, UNSAFE, WORKSHOP};
use super::text::*;

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
