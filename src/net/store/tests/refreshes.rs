//! Mere refreshes of bindings wait, so that a flash card lives, and are never lost.

use super::*;

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
        // The row has the time of the writer's start, a moment later.
        let kept = only(&snapshot);
        assert!(kept >= restored && kept <= restored.plus(Duration::from_secs(1)));
        assert_eq!(snapshot.bindings[1].expires, second.expires);
        store.close(CLOSE).expect("closed");
    }
}
