//! Disks that are full, slow or hang.

use super::*;

#[test]
fn a_full_disk_is_shown_and_made_good() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    store
        .shared
        .pages_max
        .store(1, std::sync::atomic::Ordering::Relaxed);
    for serial in 0..500 {
        store.keep(Change::Record(Arc::new(record(
            &format!("r{serial:03}"),
            serial,
            "answered",
        ))));
    }
    until("the error", || !store.status().ok);
    assert_eq!(
        store.status().error.as_deref(),
        Some("database or disk is full")
    );
    // As with any later change, which joins those that wait.
    store.keep(Change::Ban(Box::new(ban("203.0.113.7", soon(600)))));
    until("all counted", || store.status().pending == 501);
    assert!(
        store
            .keep_secret("password:100", "x")
            .expect_err("full")
            .contains("full")
    );
    assert_eq!(store.status().pending, 501);

    store
        .shared
        .pages_max
        .store(u32::MAX - 1, std::sync::atomic::Ordering::Relaxed);
    until("made good", || store.status().ok);
    assert_eq!(store.status().pending, 0);
    assert_eq!(ask(&store, all(1_000)).expect("a page").items.len(), 500);
    store.close(CLOSE).expect("closed");
    let (store, snapshot, secrets) = open(&path);
    assert_eq!(
        (snapshot.bans.len(), secrets.get("password:100")),
        (1, None)
    );
    store.close(CLOSE).expect("closed");
}

#[test]
fn closing_on_a_full_disk_says_what_is_lost() {
    let folder = folder();
    let (store, ..) = open(&folder.path().join("sipkeep.db"));
    store
        .shared
        .pages_max
        .store(1, std::sync::atomic::Ordering::Relaxed);
    for serial in 0..500 {
        store.keep(Change::Record(Arc::new(record(
            &format!("r{serial}"),
            serial,
            "answered",
        ))));
    }
    let error = store.close(CLOSE).expect_err("full");
    assert_eq!(
        error,
        "500 changes could not be written: database or disk is full"
    );
}

#[test]
fn a_slow_disk_delays_nobody_and_merges() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    let other = Connection::open(&path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let begun = Instant::now();
    for serial in 0..10_000 {
        let user = (100 + serial % 10).to_string();
        store.keep(Change::Binding(Box::new(binding(
            &user,
            b"sip:x",
            soon(600 + serial),
        ))));
    }
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(store.status().pending, 10);
    until("the error", || !store.status().ok);
    assert_eq!(store.status().pending, 10);
    other.execute_batch("ROLLBACK").expect("unlocked");
    until("made good", || {
        store.status().ok && store.status().pending == 0
    });
    store.close(CLOSE).expect("closed");
    let (store, snapshot, _) = open(&path);
    assert_eq!(snapshot.bindings.len(), 10);
    store.close(CLOSE).expect("closed");
}

#[test]
fn closing_waits_no_longer_than_asked() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    let other = Connection::open(&path).expect("opens");
    other.execute_batch("BEGIN IMMEDIATE").expect("locked");
    store.keep(Change::Ban(Box::new(ban("203.0.113.7", soon(600)))));
    let begun = Instant::now();
    let error = store.close(Duration::from_millis(300)).expect_err("locked");
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(error, "the disk has not taken 1 changes within 0 s");
}

#[test]
fn every_commit_waits_for_the_disk() {
    let folder = folder();
    let connection = schema::open(&folder.path().join("sipkeep.db")).expect("opens");
    let pragma = |name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, String>(0))
            .or_else(|_| {
                connection.pragma_query_value(None, name, |row| {
                    row.get::<_, i64>(0).map(|number| number.to_string())
                })
            })
    };
    assert_eq!(pragma("journal_mode").as_deref(), Ok("wal"));
    assert_eq!(pragma("synchronous").as_deref(), Ok("2"), "FULL");
    assert_eq!(pragma("user_version").as_deref(), Ok("7"));
}

#[test]
fn a_disk_that_hangs_is_shown_while_it_does() {
    let folder = folder();
    let (store, ..) = open(&folder.path().join("sipkeep.db"));
    locked(&store.shared.state).writing_since = Instant::now().checked_sub(Duration::from_secs(9));
    let status = store.status();
    assert!(!status.ok);
    assert_eq!(
        status.error.as_deref(),
        Some("the disk has not answered for 9 s")
    );
    locked(&store.shared.state).writing_since = None;
    assert!(store.status().ok);
    locked(&store.shared.state).lost.records = 3;
    let status = store.status();
    assert!(status.ok, "the disk is well, and what is lost is lost");
    assert!(
        status
            .error
            .is_some_and(|error| error.starts_with("lost so far: 3 call records"))
    );
    store.close(CLOSE).expect("closed");
}
