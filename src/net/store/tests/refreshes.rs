//! Mere refreshes of bindings wait, so that a flash card lives, and are never lost.

use super::*;
use crate::api::Rfc3339;
use crate::store::restored::{StoredBinding, expiry_at_clean_stop};

#[test]
fn a_mere_refresh_waits_and_is_never_lost() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    let first = binding("100", b"sip:100@192.0.2.7", soon(600));
    store.keep(Change::Binding(Box::new(first.clone())));
    on_disk(&store);
    let on_file = || {
        let connection = schema::open_read_only(&path).expect("opens");
        rows::find_binding(&connection, &first.key())
            .expect("read")
            .map(|stored| stored.row)
    };
    assert_eq!(on_file(), Some(first.clone()));
    let refresh = BindingRow {
        cseq: 7,
        expires: first.expires.plus(Duration::from_millis(500)),
        ..first.clone()
    };
    store.keep(Change::Binding(Box::new(refresh.clone())));
    on_disk(&store);
    assert_eq!(on_file(), Some(first.clone()), "it waits");
    // Anything else goes to the disk at once, with the newest time.
    let moved = BindingRow {
        remote: "192.0.2.99:5060".parse().expect("an address"),
        ..refresh
    };
    store.keep(Change::Binding(Box::new(moved.clone())));
    on_disk(&store);
    assert_eq!(on_file(), Some(moved.clone()));
    // One that waits must not come back after the binding is gone.
    let again = BindingRow {
        cseq: 8,
        ..moved.clone()
    };
    store.keep(Change::Binding(Box::new(again)));
    on_disk(&store);
    store.keep(Change::BindingGone(Box::new(moved.key())));
    on_disk(&store);
    assert_eq!(on_file(), None);
    store.keep(Change::Binding(Box::new(moved.clone())));
    on_disk(&store);
    let last = BindingRow {
        expires: moved.expires.plus(Duration::from_millis(1)),
        ..moved
    };
    store.keep(Change::Binding(Box::new(last.clone())));
    store.close(CLOSE).expect("closed");
    let (store, snapshot, _) = open(&path);
    assert_eq!(
        snapshot.bindings,
        [last],
        "a clean stop writes the exact time"
    );
    store.close(CLOSE).expect("closed");
}

#[test]
fn a_refresh_that_waited_survives_a_power_cut() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    let first = binding("100", b"sip:100@192.0.2.7", soon(60));
    store.keep(Change::Binding(Box::new(first.clone())));
    store.keep(Change::Record(Arc::new(record(
        "up",
        1_772_366_400_000,
        "",
    ))));
    on_disk(&store);
    std::thread::sleep(Duration::from_millis(1_500));
    let refreshed = BindingRow {
        cseq: 5,
        expires: soon(60),
        ..first.clone()
    };
    assert!(refreshed.expires > first.expires);
    store.keep(Change::Binding(Box::new(refreshed.clone())));
    on_disk(&store);

    // What a power cut would leave. By another process: closing a file here would drop SQLite's locks on it.
    let cut = folder.path().join("cut.db");
    for suffix in ["", "-wal"] {
        let copied = std::process::Command::new("cp")
            .args([schema::beside(&path, suffix), schema::beside(&cut, suffix)])
            .status();
        assert!(copied.expect("cp runs").success());
    }
    let (after, snapshot, _) = open(&cut);
    let [row] = &snapshot.bindings[..] else {
        panic!("{:?}", snapshot.bindings)
    };
    assert_eq!(row.cseq, first.cseq, "the refresh was not written");
    assert!(row.expires >= refreshed.expires && row.expires <= soon(60));
    let page = ask(&after, all(10)).expect("a page");
    assert_eq!(page.items[0].disposition, "interrupted");
    assert_eq!(page.items[0].ended_by.as_deref(), Some("server"));
    // The end of the call is not known to this run any more, and an earlier state changes nothing.
    after.keep(Change::Record(Arc::new(record(
        "up",
        1_772_366_400_000,
        "",
    ))));
    after.close(CLOSE).expect("closed");
    let (after, ..) = open(&cut);
    assert_eq!(
        ask(&after, all(10)).expect("a page").items[0].disposition,
        "interrupted"
    );
    after.close(CLOSE).expect("closed");

    store.keep(Change::Record(Arc::new(record(
        "up",
        1_772_366_400_000,
        "answered",
    ))));
    store.close(CLOSE).expect("closed");
    let (store, ..) = open(&path);
    let page = ask(&store, all(10)).expect("a page");
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.items[0].disposition, "answered");
    store.close(CLOSE).expect("closed");
}

/// Its phone was told that it lasts longer than the row says, and may not refresh it before that.
#[test]
fn what_a_power_cut_may_have_prolonged_outlasts_a_clean_stop_too() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let cut = folder.path().join("cut.db");
    let (store, ..) = open(&path);
    let first = binding("100", b"sip:100@192.0.2.7", soon(60));
    store.keep(Change::Binding(Box::new(first.clone())));
    on_disk(&store);
    for suffix in ["", "-wal"] {
        let copied = std::process::Command::new("cp")
            .args([schema::beside(&path, suffix), schema::beside(&cut, suffix)])
            .status();
        assert!(copied.expect("cp runs").success());
    }
    store.close(CLOSE).expect("closed");
    let (store, snapshot, _) = open(&path);
    let only = |snapshot: &Snapshot| snapshot.bindings[0].expires;
    assert_eq!(
        only(&snapshot),
        first.expires,
        "a clean stop prolongs nothing"
    );
    store.close(CLOSE).expect("closed");

    std::thread::sleep(Duration::from_millis(1_100));
    let (store, snapshot, _) = open(&cut);
    let restored = only(&snapshot);
    assert!(restored >= first.expires.plus(Duration::from_secs(1)));
    // Another one is made in this run: of that the exact time is known.
    let second = binding("101", b"sip:101@192.0.2.7", soon(60));
    store.keep(Change::Binding(Box::new(second.clone())));
    store.close(CLOSE).expect("closed");
    for _ in 0..2 {
        let (store, snapshot, _) = open(&cut);
        assert_eq!(only(&snapshot), restored);
        assert_eq!(snapshot.bindings[1].expires, second.expires);
        store.close(CLOSE).expect("closed");
    }
}

/// Whatever a power cut has left and whatever the clock says then, also in rows that somebody has edited: each is as the
/// rule says that the simulated disk goes by.
#[test]
fn a_clean_stop_writes_of_each_row_what_the_rule_says() {
    const NOON: u64 = 1_772_366_400_000;
    /// The last millisecond that the file has digits for.
    const LAST: u64 = 253_402_300_799_999;
    const DAY: u64 = 86_400_000;
    let at = UnixTime::from_millis;
    let ends = [
        0,
        NOON - DAY,
        NOON - 1,
        NOON,
        NOON + 1,
        NOON + 599_999,
        NOON + 600_000,
        NOON + DAY,
        LAST - 1,
        LAST,
    ];
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    open(&path).0.close(CLOSE).expect("closed");
    let read = || -> Vec<StoredBinding> {
        let connection = schema::open(&path).expect("opens");
        let sql = "SELECT * FROM registrations ORDER BY user, contact";
        let loaded = rows::load(&connection, sql, rows::binding).expect("read");
        assert_eq!(loaded.skipped, 1);
        loaded.rows
    };
    let mut changed = Vec::new();
    for restored in [0, NOON - DAY, NOON, NOON + 1, NOON + 3_600_000, LAST] {
        let connection = schema::open(&path).expect("opens");
        connection
            .execute_batch("DELETE FROM meta WHERE key = 'closed'; DELETE FROM registrations")
            .expect("as after a power cut");
        for end in ends {
            for granted_s in [0, 1, 600, 3_600, u32::MAX] {
                let row = binding(&granted_s.to_string(), end.to_string().as_bytes(), at(end));
                rows::put_binding(&connection, &row, granted_s).expect("put");
            }
        }
        for (user, text) in [("edited", "2026-03-01 14:00:00+02:00"), ("odd", "soon")] {
            let row = binding(user, b"sip:x", at(NOON));
            rows::put_binding(&connection, &row, 600).expect("put");
            connection
                .execute(
                    "UPDATE registrations SET expires = ?2 WHERE user = ?1",
                    [user, text],
                )
                .expect("edited");
        }
        drop(connection);

        let before = read();
        let (store, ..) = open_at(&path, at(restored));
        store.close(CLOSE).expect("closed");
        let after = read();
        assert_eq!((before.len(), after.len()), (51, 51));
        let mut count = 0;
        for (before, after) in before.into_iter().zip(after) {
            let end = expiry_at_clean_stop(before.row.expires, before.granted_s, at(restored));
            let expected = BindingRow {
                expires: at(end.as_millis().min(LAST)),
                ..before.row.clone()
            };
            assert_eq!(
                (&after.row, after.granted_s),
                (&expected, before.granted_s),
                "of {} granted for {} s, restored at {}",
                Rfc3339(before.row.expires),
                before.granted_s,
                Rfc3339(at(restored)),
            );
            count += usize::from(after.row.expires != before.row.expires);
        }
        changed.push(count);
    }
    assert!(changed.is_sorted() && changed[0] > 0, "{changed:?}");
    assert!(changed.iter().all(|count| *count < 51), "{changed:?}");
}
