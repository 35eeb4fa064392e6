//! Plays every file in `tests/scenarios`. `SCENARIO=part-of-a-name` plays only some of them.

use std::fs;
use std::path::Path;

use sipkeep::testing::scenario;

/// Fewer than these would mean that they were not found.
const SCENARIOS_MIN: usize = 1;

#[test]
fn scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= SCENARIOS_MIN, "only {} scenarios found", files.len());
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let mut failures = Vec::new();
    let mut played = 0;
    for file in files {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        if !name.contains(&wanted) {
            continue;
        }
        played += 1;
        let text = fs::read_to_string(&file).expect("a readable scenario");
        match scenario::play(&text) {
            Ok(()) => println!("scenario {name}: ok"),
            Err(error) => {
                println!("scenario {name}: FAILED");
                failures.push(format!("tests/scenarios/{name}.txt: {error}"));
            }
        }
    }
    println!("{played} scenarios, {} failed", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
