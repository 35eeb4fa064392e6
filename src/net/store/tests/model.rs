//! Random programs of changes, flushes and restarts against a plain model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Bind {
        user: u8,
        seconds: u16,
        moved: bool,
    },
    Unbind {
        user: u8,
    },
    Ban {
        source: u8,
        step: u32,
    },
    Unban {
        source: u8,
    },
    Call {
        number: u8,
    },
    Forget {
        number: u8,
    },
    Dial {
        user: u8,
        number: Option<u8>,
        off: Option<bool>,
    },
    Write {
        id: u8,
    },
    Read {
        id: u8,
    },
    Answer {
        call: u8,
    },
    End {
        call: u8,
    },
    Flush,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_u8, 60..600_u16, any::<bool>())
            .prop_map(|(user, seconds, moved)| Step::Bind { user, seconds, moved }),
        1 => (0..3_u8).prop_map(|user| Step::Unbind { user }),
        2 => (0..3_u8, 0..9_u32).prop_map(|(source, step)| Step::Ban { source, step }),
        1 => (0..3_u8).prop_map(|source| Step::Unban { source }),
        2 => (0..3_u8).prop_map(|number| Step::Call { number }),
        1 => (0..3_u8).prop_map(|number| Step::Forget { number }),
        2 => (0..3_u8, any::<Option<u8>>(), any::<Option<bool>>())
            .prop_map(|(user, number, off)| Step::Dial { user, number, off }),
        2 => (0..3_u8).prop_map(|id| Step::Write { id }),
        1 => (0..3_u8).prop_map(|id| Step::Read { id }),
        2 => (0..5_u8).prop_map(|call| Step::Answer { call }),
        2 => (0..5_u8).prop_map(|call| Step::End { call }),
        1 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..25)
}

/// What must come back.
#[derive(Default)]
struct Model {
    bindings: BTreeMap<String, BindingRow>,
    bans: BTreeMap<Source, BanRow>,
    destinations: BTreeMap<DestinationKey, DestinationRow>,
    features: BTreeMap<String, FeatureRow>,
    messages: BTreeMap<u64, MessageRow>,
    records: BTreeMap<String, &'static str>,
}

impl Model {
    fn apply(&mut self, step: &Step) -> Option<Change> {
        let source = |last: u8| Source::of([203, 0, 113, last].into());
        Some(match *step {
            Step::Bind {
                user,
                seconds,
                moved,
            } => {
                let mut row = binding(&user.to_string(), b"sip:x", soon(seconds.into()));
                row.cseq = u32::from(seconds);
                if moved {
                    row.remote.set_port(seconds);
                }
                self.bindings.insert(row.user.to_string(), row.clone());
                Change::Binding(Box::new(row))
            }
            Step::Unbind { user } => {
                self.bindings.remove(&user.to_string());
                gone(&user.to_string(), b"sip:x")
            }
            Step::Ban { source: last, step } => {
                let row = BanRow {
                    source: source(last),
                    step,
                    ..ban("192.0.2.1", soon(600))
                };
                self.bans.insert(row.source, row.clone());
                Change::Ban(Box::new(row))
            }
            Step::Unban { source: last } => {
                self.bans.remove(&source(last));
                Change::BanGone(source(last))
            }
            Step::Call { number } => {
                let mut row = destination("100", &[b'1', number]);
                let before = self.destinations.get(&row.key);
                row.last_called = UnixTime::from_millis(
                    before.map_or(0, |row| row.last_called.as_millis() + 86_400_000),
                );
                self.destinations.insert(row.key.clone(), row.clone());
                Change::Destination(Box::new(row))
            }
            Step::Forget { number } => {
                let key = destination("100", &[b'1', number]).key;
                self.destinations.remove(&key);
                Change::DestinationGone(Box::new(key))
            }
            Step::Dial { user, number, off } => {
                let row = FeatureRow {
                    user: user.to_string(),
                    forward_always: number.map(|number| number.to_string()),
                    do_not_disturb: off,
                };
                match row.is_empty() {
                    true => drop(self.features.remove(&row.user)),
                    false => drop(self.features.insert(row.user.clone(), row.clone())),
                }
                Change::Feature(Box::new(row))
            }
            Step::Write { id } => {
                let row = message(id.into(), "100");
                self.messages.insert(row.id, row.clone());
                Change::Message(Box::new(row))
            }
            Step::Read { id } => {
                self.messages.remove(&id.into());
                Change::MessageGone(id.into())
            }
            Step::Answer { call } => {
                let id = call.to_string();
                if self.records.contains_key(&id) {
                    return None; // ids are never used again
                }
                self.records.insert(id.clone(), "interrupted");
                Change::Record(Arc::new(record(&id, call.into(), "")))
            }
            Step::End { call } => {
                let id = call.to_string();
                self.records.insert(id.clone(), "answered");
                Change::Record(Arc::new(record(&id, call.into(), "answered")))
            }
            Step::Flush | Step::Restart => return None,
        })
    }

    fn check(&self, snapshot: Snapshot) {
        let bindings: Vec<_> = self.bindings.values().cloned().collect();
        assert_eq!(snapshot.bindings, bindings);
        let mut bans = snapshot.bans;
        bans.sort_by_key(|row| row.source);
        assert_eq!(bans, self.bans.values().cloned().collect::<Vec<_>>());
        let mut destinations = snapshot.destinations;
        destinations.sort_by(|a, b| a.key.cmp(&b.key));
        let expected: Vec<_> = self.destinations.values().cloned().collect();
        assert_eq!(destinations, expected);
        let expected: Vec<_> = self.messages.values().cloned().collect();
        assert_eq!(snapshot.messages, expected);
        let mut features = snapshot.features;
        features.sort_by(|a, b| a.user.cmp(&b.user));
        assert_eq!(
            features,
            self.features.values().cloned().collect::<Vec<_>>()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_kept_comes_back(steps in steps()) {
        let folder = folder();
        let path = folder.path().join("sipkeep.db");
        let mut model = Model::default();
        let (mut store, ..) = open(&path);
        for step in &steps {
            match (model.apply(step), step) {
                (Some(change), _) => store.keep(change),
                (None, Step::Flush) => store.keep_secret("written", "now").expect("kept"),
                (None, Step::Restart) => {
                    store.close(CLOSE).expect("closed");
                    let (again, snapshot, _) = open(&path);
                    model.check(snapshot);
                    store = again;
                }
                (None, _) => {}
            }
        }
        store.close(CLOSE).expect("closed");
        let (store, snapshot, _) = open(&path);
        model.check(snapshot);
        let page = ask(&store, all(1_000)).expect("a page");
        let records: BTreeMap<String, String> =
            page.items.into_iter().map(|item| (item.id, item.disposition)).collect();
        let expected: BTreeMap<String, String> =
            model.records.iter().map(|(id, word)| (id.clone(), (*word).to_owned())).collect();
        assert_eq!(records, expected);
        store.close(CLOSE).expect("closed");
    }
}
