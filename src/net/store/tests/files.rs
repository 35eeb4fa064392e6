//! The state file as a file: modes, locks, other programs, damage, and what goes on when it is taken away.

use super::*;

#[test]
fn files_are_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let mode = |suffix: &str| {
        let metadata = std::fs::metadata(schema::beside(&path, suffix)).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    let (store, ..) = open(&path);
    for suffix in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(suffix), 0o600, "{suffix}");
    }
    store.close(CLOSE).expect("closed");

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("loosened");
    let (store, ..) = open(&path);
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(suffix), 0o600, "{suffix}");
    }
    store.close(CLOSE).expect("closed");
}

#[test]
fn a_second_process_is_told_who_holds_it() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).expect("a link");
    for path in [&path, &link] {
        let error = Store::open(path, soon(0), KEEP, || {})
            .map(drop)
            .expect_err("held");
        assert!(error.contains("sipkeep.db is in use by process"), "{error}");
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        assert!(error.contains("sipkeep.db.lock"), "{error}");
    }
    assert_eq!(read_secrets(&path), Ok(Secrets::default()));
    store.close(CLOSE).expect("closed");
    open(&link).0.close(CLOSE).expect("free again");
}

#[test]
fn places_that_cannot_be_used_are_named() {
    let folder = folder();
    let cases = [
        folder.path().to_owned(),
        folder.path().join("missing/sipkeep.db"),
        PathBuf::from("/proc/sipkeep.db"),
    ];
    for path in cases {
        let error = Store::open(&path, soon(0), KEEP, || {})
            .map(drop)
            .expect_err("unusable");
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
    }
    // Nothing that is no file is touched.
    let pipe = std::os::unix::net::UnixListener::bind(folder.path().join("pipe")).expect("made");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions();
    let before = mode(&folder.path().join("pipe"));
    let error = Store::open(&folder.path().join("pipe"), soon(0), KEEP, || {})
        .map(drop)
        .expect_err("unusable");
    assert!(error.ends_with("pipe: it is no ordinary file"), "{error}");
    assert_eq!(mode(&folder.path().join("pipe")), before);
    drop(pipe);
    let error = read_secrets(&folder.path().join("none.db")).expect_err("not there");
    assert!(error.contains("none.db"), "{error}");
}

#[test]
fn newer_and_foreign_files_are_refused_untouched() {
    let folder = folder();
    for (name, sql, word) in [
        (
            "newer.db",
            "PRAGMA application_id = 1936289899; PRAGMA user_version = 8; CREATE TABLE x (y)",
            "newer",
        ),
        ("foreign.db", "CREATE TABLE x (y)", "another program"),
    ] {
        let path = folder.path().join(name);
        Connection::open(&path)
            .and_then(|other| other.execute_batch(sql))
            .expect("made");
        let before = std::fs::read(&path).expect("read");
        let error = Store::open(&path, soon(0), KEEP, || {})
            .map(drop)
            .expect_err("refused");
        assert!(error.contains(word), "{error}");
        assert_eq!(std::fs::read(&path).expect("read"), before);
    }
}

#[test]
fn a_file_of_version_1_is_carried_over() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    let row = binding("100", b"sip:100@192.0.2.7", soon(600));
    store.keep(Change::Binding(Box::new(row.clone())));
    store.keep_secret("password:100", "dear").expect("kept");
    store.close(CLOSE).expect("closed");
    let version = || {
        let connection = Connection::open(&path).expect("opens");
        let version = connection.pragma_query_value(None, "user_version", |row| row.get(0));
        version.expect("a version")
    };
    Connection::open(&path)
        .and_then(|old| {
            old.execute_batch(
                "DROP TABLE messages; DROP TABLE features; DROP TABLE destinations; ALTER TABLE call_records DROP COLUMN reason;
                 ALTER TABLE registrations DROP COLUMN behind_nat;
                 PRAGMA user_version = 1; VACUUM",
            )
        })
        .expect("as it was");
    // Who only reads it leaves it as it is.
    let secrets = read_secrets(&path).expect("read");
    assert_eq!((secrets.get("password:100"), version()), (Some("dear"), 1));

    let (store, snapshot, secrets) = open(&path);
    let known = BindingRow {
        is_behind_nat: false,
        ..row
    };
    assert_eq!(snapshot.bindings, [known]);
    assert!(snapshot.destinations.is_empty());
    assert!(snapshot.features.is_empty());
    assert_eq!((secrets.get("password:100"), version()), (Some("dear"), 7));
    store.keep(Change::Feature(Box::new(feature("100", "200"))));
    store.keep(Change::Destination(Box::new(destination("100", b"004420"))));
    store.close(CLOSE).expect("closed");
    Connection::open(&path)
        .and_then(|old| {
            old.execute_batch(
                "DROP TABLE messages; DROP TABLE features;
                 ALTER TABLE registrations DROP COLUMN behind_nat; PRAGMA user_version = 3",
            )
        })
        .expect("as it was a little later");
    let (store, snapshot, _) = open(&path);
    assert_eq!(snapshot.destinations, [destination("100", b"004420")]);
    assert_eq!((snapshot.features.len(), version()), (0, 7));
    store.keep(Change::Feature(Box::new(feature("100", "200"))));
    store.close(CLOSE).expect("closed");
    Connection::open(&path)
        .and_then(|old| {
            old.execute_batch(
                "DROP TABLE messages; ALTER TABLE registrations DROP COLUMN behind_nat; PRAGMA user_version = 4",
            )
        })
        .expect("as it was later still");
    let (store, snapshot, _) = open(&path);
    assert_eq!((snapshot.messages.len(), version()), (0, 7));
    assert_eq!(snapshot.features, [feature("100", "200")]);
    store.keep(Change::Message(Box::new(message(1, "100"))));
    store.close(CLOSE).expect("closed");
    Connection::open(&path)
        .and_then(|old| {
            old.execute_batch(
                "ALTER TABLE messages DROP COLUMN sharer; ALTER TABLE registrations DROP COLUMN behind_nat;
                 PRAGMA user_version = 5",
            )
        })
        .expect("as it was even later");
    let (store, snapshot, _) = open(&path);
    assert_eq!((snapshot.messages.len(), version()), (1, 7));
    store.close(CLOSE).expect("closed");
    Connection::open(&path)
        .and_then(|old| {
            old.execute_batch("ALTER TABLE messages DROP COLUMN sharer; PRAGMA user_version = 6")
        })
        .expect("as it was before this");
    let (store, snapshot, _) = open(&path);
    let sharers: Vec<_> = snapshot.messages.iter().map(|row| &*row.sharer).collect();
    assert_eq!((&*sharers, version()), (&[""][..], 7));
    assert_eq!(set_aside_files(folder.path()), Vec::<PathBuf>::new());
    store.close(CLOSE).expect("closed");
}

#[test]
fn a_file_of_version_2_is_carried_over_and_can_be_read_as_it_is() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    let old = record("old", 1_772_366_400_000, "answered");
    store.keep(Change::Record(Arc::new(old)));
    store.close(CLOSE).expect("closed");
    Connection::open(&path)
        .and_then(|old| {
            old.execute_batch(
                "DROP TABLE messages; DROP TABLE features; ALTER TABLE call_records DROP COLUMN reason;
                 ALTER TABLE registrations DROP COLUMN behind_nat;
                 PRAGMA user_version = 2; VACUUM",
            )
        })
        .expect("as it was");
    // Beside a server that cannot write it.
    let connection = schema::open_read_only(&path).expect("opens");
    assert!(schema::record_columns(&connection).ends_with(", NULL AS reason"));
    let page = reader::page(&connection, &all(10)).expect("a page");
    assert_eq!((page.items.len(), &page.items[0].reason), (1, &None));
    drop(connection);
    // What is rescued from a broken one has none either.
    let rescued = folder.path().join("rescued.db");
    let mut connection = schema::open(&rescued).expect("opens");
    let rows = schema::rescue(&path, &mut connection)
        .expect("rescued")
        .rows;
    assert!(rows > 0);
    let page = reader::page(&connection, &all(10)).expect("a page");
    assert_eq!((page.items.len(), &page.items[0].reason), (1, &None));

    let (store, ..) = open(&path);
    let reason = Some("Q.850;cause=17".to_owned());
    let new = CallRecord {
        reason: reason.clone(),
        ..record("new", 1_772_366_500_000, "busy")
    };
    store.keep(Change::Record(Arc::new(new)));
    on_disk(&store);
    let page = ask(&store, all(10)).expect("a page");
    let reasons: Vec<_> = (page.items.iter())
        .map(|item| (item.id.as_str(), item.reason.clone()))
        .collect();
    assert_eq!(reasons, [("new", reason), ("old", None)]);
    store.close(CLOSE).expect("closed");
    let version = Connection::open(&path)
        .and_then(|file| file.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)));
    assert_eq!(version, Ok(7));
}

fn set_aside_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    // Reading the broken file leaves a log and shared memory of its own beside it.
    paths.retain(|path| {
        let name = path.to_string_lossy();
        name.contains(".broken-") && !name.ends_with("-wal") && !name.ends_with("-shm")
    });
    paths.sort();
    paths
}

#[test]
fn garbage_is_set_aside_never_overwritten() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let now = UnixTime::from_millis(1_772_366_400_000);
    for serial in 0..2 {
        let garbage = vec![0x30 + serial; 8_192];
        std::fs::write(&path, &garbage).expect("written");
        let _ = std::fs::remove_file(schema::beside(&path, "-wal"));
        let (store, snapshot, _) = open_at(&path, now);
        assert!(snapshot.bindings.is_empty());
        assert!(store.status().ok);
        store.keep_secret("http_token", "t").expect("kept");
        store.close(CLOSE).expect("closed");
        let aside = set_aside_files(folder.path());
        assert_eq!(aside.len(), usize::from(serial) + 1);
        assert_eq!(
            std::fs::read(&aside[usize::from(serial)]).expect("read"),
            garbage
        );
        assert!(aside[0].ends_with("sipkeep.db.broken-20260301T120000Z"));
    }
}

/// SQLite would begin a new database over the first and delete the log of the second.
#[test]
fn what_is_left_of_a_file_is_set_aside() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let log = schema::beside(&path, "-wal");
    let now = UnixTime::from_millis(1_772_366_400_000);
    for (serial, (own, of_log)) in [(&b"S"[..], &b""[..]), (b"", b"all that there was")]
        .into_iter()
        .enumerate()
    {
        std::fs::write(&path, own).expect("written");
        std::fs::write(&log, of_log).expect("written");
        let error = read_secrets(&path).expect_err("broken");
        assert!(error.contains("sipkeep.db: it "), "{error}");
        let (store, ..) = open_at(&path, now);
        assert!(store.status().ok);
        store.close(CLOSE).expect("closed");
        let aside = set_aside_files(folder.path());
        assert_eq!(aside.len(), serial + 1);
        let read = |suffix| std::fs::read(schema::beside(&aside[serial], suffix)).expect("there");
        assert_eq!((&*read(""), &*read("-wal")), (own, of_log));
    }
}

#[test]
fn a_layout_that_somebody_changed_is_set_aside_and_rescued() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    store.keep_secret("password:100", "dear").expect("kept");
    store.close(CLOSE).expect("closed");
    Connection::open(&path)
        .and_then(|edited| edited.execute_batch("ALTER TABLE bans RENAME COLUMN users TO people"))
        .expect("edited");
    let (store, _, secrets) = open(&path);
    assert!(store.status().ok);
    assert_eq!(secrets.get("password:100"), Some("dear"));
    assert_eq!(set_aside_files(folder.path()).len(), 1);
    store.close(CLOSE).expect("closed");
}

/// Overwrites the root page of a table with 0xff.
fn damage(path: &Path, table: &str) {
    use std::os::unix::fs::FileExt;
    let connection = Connection::open(path).expect("opens");
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u32>(0));
    let page: u32 = connection
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?1",
            [table],
            |row| row.get(0),
        )
        .expect("a table");
    let size = number("PRAGMA page_size").expect("a size");
    connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .expect("checkpoint");
    drop(connection);
    let file = OpenOptions::new().write(true).open(path).expect("opens");
    file.write_all_at(
        &vec![0xff; size as usize],
        u64::from(page - 1) * u64::from(size),
    )
    .expect("written");
}

#[test]
fn what_a_damaged_file_still_holds_is_rescued() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    let row = binding("100", b"sip:100@192.0.2.7", soon(600));
    store.keep(Change::Binding(Box::new(row.clone())));
    store.keep(Change::Ban(Box::new(ban("203.0.113.7", soon(600)))));
    store.keep(Change::Record(Arc::new(record(
        "r1",
        1_772_366_400_000,
        "answered",
    ))));
    store.keep(Change::Destination(Box::new(destination("100", b"004420"))));
    store.keep(Change::Feature(Box::new(feature("100", "200"))));
    store.keep_secret("password:100", "dear").expect("kept");
    store.close(CLOSE).expect("closed");
    damage(&path, "bans");

    let (store, snapshot, secrets) = open(&path);
    assert_eq!(secrets.get("password:100"), Some("dear"));
    assert_eq!(snapshot.bindings, [row]);
    assert!(snapshot.bans.is_empty());
    assert_eq!(snapshot.features, [feature("100", "200")]);
    assert_eq!(snapshot.destinations, [destination("100", b"004420")]);
    assert_eq!(ask(&store, all(10)).expect("a page").items.len(), 1);
    assert_eq!(set_aside_files(folder.path()).len(), 1);
    store.close(CLOSE).expect("closed");
}

#[test]
fn damage_that_shows_while_running_is_made_good() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    store.keep_secret("password:100", "dear").expect("kept");
    store.close(CLOSE).expect("closed");
    damage(&path, "call_records");

    // The start does not walk through call records, so it does not see it.
    let (store, _, secrets) = open(&path);
    assert_eq!(secrets.get("password:100"), Some("dear"));
    store.keep(Change::Record(Arc::new(record(
        "r1",
        1_772_366_400_000,
        "answered",
    ))));
    until("a new file", || {
        store.status().ok && store.status().pending == 0
    });
    assert_eq!(ask(&store, all(10)).expect("a page").items[0].id, "r1");
    assert_eq!(set_aside_files(folder.path()).len(), 1);
    store.close(CLOSE).expect("closed");
    let (store, _, secrets) = open(&path);
    assert_eq!(secrets.get("password:100"), Some("dear"));
    store.close(CLOSE).expect("closed");
}

#[test]
fn rows_that_cannot_be_read_are_left_out() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    for user in ["100", "101", "102", "103"] {
        store.keep(Change::Binding(Box::new(binding(
            user,
            b"sip:x",
            soon(600),
        ))));
    }
    for source in ["203.0.113.1", "203.0.113.2", "203.0.113.3"] {
        store.keep(Change::Ban(Box::new(ban(source, soon(600)))));
        store.keep(Change::Known(source.parse().expect("a source"), soon(0)));
    }
    for id in ["r1", "r2", "r3"] {
        store.keep(Change::Record(Arc::new(record(
            id,
            1_772_366_400_000,
            "failed",
        ))));
    }
    store.close(CLOSE).expect("closed");
    Connection::open(&path)
        .and_then(|edited| {
            edited.execute_batch(
                "UPDATE registrations SET source = 'somewhere' WHERE user = '100';
                 UPDATE registrations SET expires = 'tomorrow' WHERE user = '101';
                 UPDATE registrations SET cseq = -1 WHERE user = '102';
                 UPDATE bans SET users = '100, 101' WHERE source = '203.0.113.1';
                 UPDATE bans SET reason = x'00ff' WHERE source = '203.0.113.2';
                 UPDATE known SET last_success = 'x' WHERE source = '203.0.113.3';
                 UPDATE call_records SET status = 'OK' WHERE id = 'r3';
                 UPDATE call_records SET start = x'ff' WHERE id = 'r2';
                 INSERT INTO secrets VALUES ('nonce_key', 'nonsense');",
            )
        })
        .expect("edited");

    let (store, snapshot, secrets) = open(&path);
    assert_eq!(
        snapshot
            .bindings
            .iter()
            .map(|row| &*row.user)
            .collect::<Vec<_>>(),
        ["103"]
    );
    assert_eq!(snapshot.bans.len(), 1);
    assert_eq!(snapshot.known.len(), 2);
    assert_eq!(snapshot.nonce_key, None);
    assert_eq!(secrets, Secrets::default());
    let page = ask(&store, all(10)).expect("a page");
    assert_eq!(
        page.items.iter().map(|item| &*item.id).collect::<Vec<_>>(),
        ["r1"]
    );
    assert!(store.status().ok);
    store.close(CLOSE).expect("closed");
}

#[test]
fn a_deleted_file_is_written_anew() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    store.keep_secret("password:100", "dear").expect("kept");
    store.keep(Change::Ban(Box::new(ban("203.0.113.7", soon(600)))));
    on_disk(&store);
    std::fs::remove_file(&path).expect("deleted");
    store.keep(Change::Ban(Box::new(ban("203.0.113.8", soon(600)))));
    until("a new file", || path.exists());
    on_disk(&store);
    assert_eq!(store.status().error, None);
    store.close(CLOSE).expect("closed");
    let (store, snapshot, secrets) = open(&path);
    assert_eq!(
        (snapshot.bans.len(), secrets.get("password:100")),
        (2, Some("dear"))
    );
    store.close(CLOSE).expect("closed");
}

#[test]
fn a_replaced_file_is_said_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    let other = folder.path().join("other.db");
    std::fs::write(&other, b"").expect("made");
    std::fs::rename(&other, &path).expect("replaced");
    store.keep(Change::Ban(Box::new(ban("203.0.113.8", soon(600)))));
    until("the error", || !store.status().ok);
    assert!(
        store
            .status()
            .error
            .is_some_and(|error| error.contains("replaced"))
    );
    assert_eq!(std::fs::metadata(&path).expect("there").len(), 0);
    assert!(store.close(CLOSE).is_err());
}
