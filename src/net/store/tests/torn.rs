//! The power goes while a batch is written, and only part of it has reached the disk: `testing::disk` takes such a batch for one
//! that was never written.

use super::*;

/// A third of a page: what is cut is the head of one, its middle or its end.
const STEP: usize = 1_373;

/// What the store finds in these files: ids of records, and how many bans.
fn found(database: &[u8], log: &[u8]) -> (Vec<String>, usize) {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    std::fs::write(&path, database).expect("written");
    std::fs::write(folder.path().join("sipkeep.db-wal"), log).expect("written");
    let (store, snapshot, _) = open(&path);
    let page = ask(&store, all(1_000)).expect("a page");
    store.close(CLOSE).expect("closed");
    let ids = page.items.into_iter().map(|item| item.id);
    (ids.collect(), snapshot.bans.len())
}

/// Keeps so many records and bans in one batch: nothing can be written until all of them wait.
fn keep_at_once(store: &Store, path: &Path, numbers: std::ops::Range<u8>) {
    let other = Connection::open(path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    for number in numbers {
        let record = record(&format!("r{number:03}"), number.into(), "answered");
        store.keep(Change::Record(Arc::new(record)));
        let source = format!("203.0.113.{number}");
        store.keep(Change::Ban(Box::new(ban(&source, soon(600)))));
    }
    other.execute_batch("ROLLBACK").expect("unlocked");
    on_disk(store);
}

#[test]
fn a_torn_write_is_a_batch_that_never_was() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let log = folder.path().join("sipkeep.db-wal");
    let (store, ..) = open(&path);
    keep_at_once(&store, &path, 0..40);
    let before = std::fs::read(&log).expect("a log").len();
    keep_at_once(&store, &path, 40..80);
    // As they are on the disk, with the store still open.
    let (database, log) = (std::fs::read(&path), std::fs::read(&log));
    let (database, log) = (database.expect("a database"), log.expect("a log"));
    assert!(log.len() > before + 4 * STEP, "{before} {}", log.len());
    let (ids, bans) = found(&database, &log);
    assert_eq!((ids.len(), bans), (80, 80));
    for end in (before..log.len()).step_by(STEP) {
        let (kept, torn) = log.split_at(end);
        // Nothing came behind the cut, or blocks of zeros, or what was there before.
        for rest in [0, torn.len()] {
            let missing = [kept, &vec![0; rest]].concat();
            assert_eq!(found(&database, &missing).1, 40, "cut at {end}, {rest}");
        }
        let stale = [kept, &vec![0xa5; torn.len()]].concat();
        let (ids, bans) = found(&database, &stale);
        assert_eq!((ids.len(), bans), (40, 40), "cut at {end}");
    }
    store.close(CLOSE).expect("closed");
}
