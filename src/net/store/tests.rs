//! The store as a whole: on real files, with real threads, and with a process that is really killed.

use super::*;
use crate::source::{Source, Transport};
use crate::store::{BanReason, BanRow, BindingRow, CallRecord};

const KEEP: Duration = Duration::from_secs(400 * 86_400);
const CLOSE: Duration = Duration::from_secs(20);

fn open(path: &Path) -> (Store, Snapshot, Secrets) {
    open_at(path, unix_now())
}

fn open_at(path: &Path, now: UnixTime) -> (Store, Snapshot, Secrets) {
    Store::open(path, now, KEEP, || {}).expect("the state file opens")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Now plus so many seconds, to the millisecond.
fn soon(seconds: u64) -> UnixTime {
    unix_now().plus(Duration::from_secs(seconds))
}

fn binding(user: &str, contact: &[u8], expires: UnixTime) -> BindingRow {
    BindingRow {
        user: user.into(),
        contact: contact.to_vec(),
        path: b"<sip:edge.example;lr>, <sip:b.example;lr>".to_vec(),
        call_id: b"a84b4c76e66710@pc33".to_vec(),
        cseq: 4_294_967_295,
        q: 700,
        instance: b"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>".to_vec(),
        reg_id: 1,
        user_agent: b"Yealink SIP-T46S \xff\xfe".to_vec(),
        transport: Transport::Udp,
        local: "192.0.2.1:5060".parse().expect("an address"),
        remote: "[2001:db8::7]:5062".parse().expect("an address"),
        since: UnixTime::from_millis(1_772_366_400_123),
        expires,
    }
}

fn ban(source: &str, until: UnixTime) -> BanRow {
    BanRow {
        source: source.parse().expect("a source"),
        reason: BanReason::Credentials,
        failures: 5,
        users: vec!["100".into(), "a,\"b\"; DROP TABLE bans".into()],
        first_seen: UnixTime::from_millis(1_772_366_400_000),
        last_seen: UnixTime::from_millis(1_772_366_401_000),
        since: UnixTime::from_millis(1_772_366_401_000),
        until,
        step: 3,
    }
}

fn record(id: &str, start_ms: u64, disposition: &'static str) -> CallRecord {
    CallRecord {
        id: id.into(),
        start: UnixTime::from_millis(start_ms),
        answer: Some(UnixTime::from_millis(start_ms + 2_000)),
        direction: "internal",
        caller: "100".into(),
        dialled: "101".into(),
        source: "192.0.2.7".into(),
        disposition,
        caller_call_id: "x@y".into(),
        ..CallRecord::default()
    }
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn on_disk(store: &Store) {
    until("everything on the disk", || store.status().pending == 0);
}

fn ask(store: &Store, query: CdrQuery) -> Result<api::Page<api::Cdr>, String> {
    assert!(store.query(7, query));
    let mut answer = None;
    until("an answer", || {
        answer = store.answers().next();
        answer.is_some()
    });
    let (ticket, page) = answer.expect("it came");
    assert_eq!(ticket, 7);
    page
}

fn all(limit: usize) -> CdrQuery {
    CdrQuery { limit, ..CdrQuery::default() }
}

#[test]
fn every_change_comes_back() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, snapshot, secrets) = open(&path);
    assert!(snapshot.bindings.is_empty() && snapshot.bans.is_empty() && snapshot.known.is_empty());
    assert_eq!((snapshot.nonce_key, secrets), (None, Secrets::default()));

    let bindings = [
        binding("100", b"sip:100@192.0.2.7:5062", soon(600)),
        binding("100", b"sip:\xc3\x28\0@192.0.2.8", soon(600)),
        BindingRow {
            transport: Transport::Tcp,
            ..binding("101", b"sip:101@[2001:db8::7]", soon(60))
        },
    ];
    let bans = [ban("203.0.113.7", soon(3_600)), ban("2001:db8::", soon(7_200))];
    let known = [("198.51.100.1", soon(0)), ("2001:db8:1::/64", soon(0))]
        .map(|(source, time)| (source.parse::<Source>().expect("a source"), time));
    for row in &bindings {
        store.keep(Change::Binding(Box::new(row.clone())));
    }
    store.keep(Change::Binding(Box::new(binding("102", b"sip:gone@x", soon(600)))));
    for row in &bans {
        store.keep(Change::Ban(Box::new(row.clone())));
    }
    store.keep(Change::Ban(Box::new(ban("203.0.113.9", soon(60)))));
    for (source, time) in known {
        store.keep(Change::Known(source, time));
    }
    store.keep(Change::NonceKey([0xa5; 32], UnixTime::from_millis(1_772_366_400_001)));
    on_disk(&store);
    store.keep(Change::BindingGone { user: "102".into(), contact: b"sip:gone@x".to_vec() });
    store.keep(Change::BanGone("203.0.113.9".parse().expect("a source")));
    store.keep_secret("password:100", "correct horse").expect("kept");
    store.keep_secrets(&[("http_token", "t0"), ("password:101", "b")]).expect("kept");
    store.close(CLOSE).expect("closed");

    let (store, mut snapshot, secrets) = open(&path);
    assert_eq!(snapshot.bindings.len(), 3);
    for row in &bindings {
        assert!(snapshot.bindings.contains(row), "{row:?} in {:?}", snapshot.bindings);
    }
    snapshot.bans.sort_by_key(|row| row.until);
    assert_eq!(snapshot.bans, bans);
    snapshot.known.sort();
    assert_eq!(snapshot.known.len(), 2);
    assert!(known.iter().all(|row| snapshot.known.contains(row)));
    assert_eq!(snapshot.nonce_key, Some(([0xa5; 32], UnixTime::from_millis(1_772_366_400_001))));
    assert_eq!(
        secrets.iter().collect::<Vec<_>>(),
        [("http_token", "t0"), ("password:100", "correct horse"), ("password:101", "b")]
    );
    assert_eq!(read_secrets(&path), Ok(secrets));
    store.close(CLOSE).expect("closed");
}

#[test]
fn call_records_are_found() {
    let folder = folder();
    let path = folder.path().join("sipkeep.db");
    let (store, ..) = open(&path);
    let full = CallRecord {
        end: Some(UnixTime::from_millis(1_772_366_409_000)),
        answered_by: Some("102".into()),
        through: Some("trunk:office-b".into()),
        forwarded_by: Some("101".into()),
        transferred_by: Some("103".into()),
        related: Some("r0".into()),
        user_agent: Some("Snom".into()),
        status: Some(200),
        ended_by: Some("caller"),
        duration_ms: Some(9_000),
        talk_ms: Some(u64::MAX),
        callee_call_id: Some("z".into()),
        ..record("full", 1_772_366_400_000, "answered")
    };
    store.keep(Change::Record(Box::new(full)));
    for serial in 0..10 {
        // Two begin in the same millisecond.
        let start = 1_772_366_500_000 + serial / 2;
        store.keep(Change::Record(Box::new(record(&format!("r_{serial}"), start, "failed"))));
    }
    store.keep(Change::Record(Box::new(record("up", 1_772_366_600_000, ""))));
    on_disk(&store);

    let page = ask(&store, CdrQuery { user: Some("102".into()), ..all(10) }).expect("a page");
    assert_eq!(
        serde_json::to_string(&page).expect("JSON"),
        concat!(
            r#"{"items":[{"id":"full","start":"2026-03-01T12:00:00.000Z","answer":"2026-03-01T12:00:02.000Z","#,
            r#""end":"2026-03-01T12:00:09.000Z","direction":"internal","caller":"100","dialled":"101","#,
            r#""answered_by":"102","through":"trunk:office-b","forwarded_by":"101","transferred_by":"103","#,
            r#""related":"r0","source":"192.0.2.7","user_agent":"Snom","disposition":"answered","status":200,"#,
            r#""ended_by":"caller","duration_ms":9000,"talk_ms":9223372036854775807,"caller_call_id":"x@y","#,
            r#""callee_call_id":"z"}],"next":null}"#
        )
    );

    let mut ids = Vec::new();
    let mut query = all(3);
    loop {
        let page = ask(&store, query.clone()).expect("a page");
        assert!(page.items.len() <= 3);
        ids.extend(page.items.into_iter().map(|item| item.id));
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    let mut expected: Vec<String> = (0..10).rev().map(|serial| format!("r_{serial}")).collect();
    expected.push("full".into());
    assert_eq!(ids, expected);

    let time = |ms| Some(UnixTime::from_millis(ms));
    let query =
        CdrQuery { since: time(1_772_366_500_001), until: time(1_772_366_500_003), ..all(100) };
    let ids: Vec<_> =
        ask(&store, query).expect("a page").items.into_iter().map(|item| item.id).collect();
    assert_eq!(ids, ["r_5", "r_4", "r_3", "r_2"]);
    assert!(ask(&store, CdrQuery { after: Some("nonsense".into()), ..all(1) }).is_err());
    assert_eq!(ask(&store, all(0)).expect("a page").items.len(), 1);
    store.close(CLOSE).expect("closed");
}
