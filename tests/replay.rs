//! The fuzz targets' seeds and former findings, replayed on stable Rust.

use std::path::Path;

use sipkeep::testing::{FUZZ_TARGETS, meter};

#[test]
fn every_target_holds_on_its_corpus() {
    meter::install(|run| allocation_counter::measure(run).bytes_total);
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    for (target, body) in FUZZ_TARGETS {
        let shim = fuzz.join("fuzz_targets").join(target).with_extension("rs");
        assert!(shim.exists(), "{target} is no target of cargo-fuzz");
        let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("name = \"{target}\"\n")));
        let mut seeds = 0;
        for entry in std::fs::read_dir(fuzz.join("corpus").join(target)).expect("a corpus") {
            body(&std::fs::read(entry.unwrap().path()).unwrap());
            seeds += 1;
        }
        assert!(seeds > 0, "{target} has no seeds");
    }
}

#[test]
fn every_target_of_cargo_fuzz_is_replayed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap();
        assert!(
            FUZZ_TARGETS.iter().any(|(target, _)| *target == name),
            "{name}"
        );
        let shim = std::fs::read_to_string(&path).unwrap();
        assert!(shim.contains(&format!("::{name}(bytes);")), "{shim}");
    }
}
