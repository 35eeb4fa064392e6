//! Random programs of REGISTERs against the same rules once more, over a plain list, for contacts whose equality a test knows without reading URIs.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Contacts that are equal stand in one row (RFC 3261 §19.1.4).
const URIS: [&[&str]; 4] = [
    &["sip:1@h", "sip:1@H", "sip:%31@h"],
    &["sip:2@h"],
    &["sip:1@h:5060"],
    &["sip:1@h;transport=tcp", "sip:1@h;transport=TCP"],
];
const INSTANCES: [&str; 3] = ["", "<urn:uuid:a>", "<urn:uuid:b>"];

#[derive(Clone, Debug)]
struct Asked {
    class: usize,
    spelling: usize,
    instance: usize,
    reg_id: u32,
    expires: Option<u32>,
    q: u16,
}

#[derive(Clone, Debug)]
enum Step {
    Register {
        call_id: u8,
        cseq: u32,
        expires: Option<u32>,
        flow: u16,
        contacts: Vec<Asked>,
    },
    Star {
        call_id: u8,
        cseq: u32,
        expires: Option<u32>,
    },
    Wait(u64),
    Close(u16),
}

#[derive(Clone, Debug, PartialEq)]
struct Kept {
    contact: String,
    class: usize,
    instance: usize,
    reg_id: u32,
    call_id: u8,
    cseq: u32,
    q: u16,
    ends: u64,
    flow: u16,
    refreshed: u64,
}

#[derive(Default)]
struct Model {
    list: Vec<Kept>,
    now: u64,
    refreshes: u64,
}

const MAX: usize = 4;

fn same(asked: (usize, usize, u32), kept: (usize, usize, u32)) -> bool {
    let (class, instance, reg_id) = asked;
    if reg_id > 0 && kept.2 > 0 {
        return instance == kept.1 && reg_id == kept.2;
    }
    if reg_id > 0 || kept.2 > 0 {
        return class == kept.0 && (instance == kept.1 || instance == 0 || kept.1 == 0);
    }
    class == kept.0
}

impl Model {
    fn step(&mut self, step: &Step) -> u16 {
        match step {
            Step::Wait(seconds) => {
                self.now += seconds;
                self.list.retain(|kept| kept.ends > self.now);
                200
            }
            Step::Close(flow) => {
                self.list.retain(|kept| kept.flow != *flow || flow % 2 == 0);
                200
            }
            Step::Star { expires, .. } if *expires != Some(0) => 400,
            Step::Star { call_id, cseq, .. } => {
                if self
                    .list
                    .iter()
                    .any(|kept| kept.call_id == *call_id && kept.cseq >= *cseq)
                {
                    return 500;
                }
                self.list.clear();
                200
            }
            Step::Register {
                call_id,
                cseq,
                expires,
                flow,
                contacts,
            } => {
                let before = self.list.clone();
                let status = self.register(*call_id, *cseq, *expires, *flow, contacts);
                if status != 200 {
                    self.list = before;
                }
                status
            }
        }
    }

    fn register(
        &mut self,
        call_id: u8,
        cseq: u32,
        expires: Option<u32>,
        flow: u16,
        contacts: &[Asked],
    ) -> u16 {
        let life = |asked: &Asked| asked.expires.or(expires).unwrap_or(600);
        if contacts.iter().any(|asked| (1..60).contains(&life(asked))) {
            return 423;
        }
        let key = |asked: &Asked| {
            (
                asked.class,
                asked.instance,
                if asked.instance == 0 { 0 } else { asked.reg_id },
            )
        };
        let mut wanted: Vec<Asked> = Vec::new();
        for asked in contacts {
            wanted.retain(|earlier| !same(key(asked), key(earlier)));
            wanted.push(asked.clone());
        }
        let adding = wanted.iter().filter(|asked| life(asked) > 0).count();
        if adding > 1
            && wanted
                .iter()
                .any(|asked| life(asked) > 0 && key(asked).2 > 0)
        {
            return 400;
        }
        // Everything that existed, with a mark: taken by a wanted contact, or not.
        let mut old: Vec<(Kept, bool)> = self.list.drain(..).map(|kept| (kept, false)).collect();
        old.sort_by_key(|(kept, _)| (u16::MAX - kept.q, u64::MAX - kept.refreshed));
        let mut is_known = Vec::new();
        for asked in &wanted {
            let text = URIS[asked.class][asked.spelling % URIS[asked.class].len()];
            let fits = |(kept, taken): &(Kept, bool)| {
                !taken && same(key(asked), (kept.class, kept.instance, kept.reg_id))
            };
            let kind = |(kept, _): &(Kept, bool)| (kept.reg_id == 0) == (key(asked).2 == 0);
            let is_text = |entry: &(Kept, bool)| entry.0.contact == text;
            let find = |has: &dyn Fn(&(Kept, bool)) -> bool| {
                old.iter().position(|entry| fits(entry) && has(entry))
            };
            let found = find(&|entry| kind(entry) && is_text(entry))
                .or_else(|| find(&kind))
                .or_else(|| find(&is_text))
                .or_else(|| find(&|_| true));
            if let Some(found) = found {
                if old[found].0.call_id == call_id && old[found].0.cseq >= cseq {
                    return 500;
                }
                old[found].1 = true;
            }
            is_known.push(found.is_some());
        }
        for (asked, known) in wanted.iter().zip(is_known) {
            if known || life(asked) == 0 {
                continue;
            }
            for (kept, taken) in &mut old {
                if !*taken && kept.call_id == call_id && (key(asked).2 == 0 || kept.reg_id == 0) {
                    if kept.cseq >= cseq {
                        return 500;
                    }
                    *taken = true;
                }
            }
        }
        let mut list: Vec<Kept> = old
            .into_iter()
            .filter(|(_, taken)| !taken)
            .map(|(kept, _)| kept)
            .collect();
        if adding > MAX {
            return 403;
        }
        if adding > 0 {
            list.sort_by_key(|kept| kept.refreshed);
            let surplus = list.len().saturating_sub(MAX - adding);
            list.drain(..surplus);
        }
        for asked in wanted.iter().rev().filter(|asked| life(asked) > 0) {
            self.refreshes += 1;
            list.push(Kept {
                contact: URIS[asked.class][asked.spelling % URIS[asked.class].len()].into(),
                class: asked.class,
                instance: asked.instance,
                reg_id: key(asked).2,
                call_id,
                cseq,
                q: asked.q,
                ends: self.now + u64::from(life(asked).min(3600)),
                flow,
                refreshed: self.refreshes,
            });
        }
        self.list = list;
        200
    }

    /// As callers try them.
    fn ordered(&self) -> Vec<&Kept> {
        let mut list: Vec<&Kept> = self.list.iter().collect();
        list.sort_by_key(|kept| (u16::MAX - kept.q, u64::MAX - kept.refreshed));
        list
    }
}

fn flow(number: u16) -> Flow {
    let remote = format!("203.0.113.7:{}", 1000 + number);
    // Odd: a stream.
    if number % 2 == 1 {
        tcp(&remote, u64::from(number))
    } else {
        udp(&remote)
    }
}

fn asked() -> impl Strategy<Value = Asked> {
    let expires = prop_oneof![
        6 => Just(None),
        3 => prop::sample::select(vec![60u32, 61, 90, 3600, 9000]).prop_map(Some),
        3 => Just(Some(0)),
        1 => Just(Some(59)),
    ];
    let q = prop::sample::select(vec![1000u16, 1000, 500, 0]);
    (
        0..URIS.len(),
        0usize..3,
        0..INSTANCES.len(),
        0u32..3,
        expires,
        q,
    )
        .prop_map(|(class, spelling, instance, reg_id, expires, q)| Asked {
            class,
            spelling,
            instance,
            reg_id,
            expires,
            q,
        })
}

fn step() -> impl Strategy<Value = Step> {
    let expires = || prop_oneof![4 => Just(None), 1 => Just(Some(120u32)), 1 => Just(Some(0u32))];
    let register = (
        0u8..3,
        0u32..40,
        expires(),
        0u16..5,
        prop_oneof![
            4 => prop::collection::vec(asked(), 1..2),
            1 => prop::collection::vec(asked(), 2..6),
        ],
    );
    prop_oneof![
        12 => register.prop_map(|(call_id, cseq, expires, flow, contacts)| Step::Register {
            call_id, cseq, expires, flow, contacts,
        }),
        1 => (0u8..3, 0u32..40, expires()).prop_map(|(call_id, cseq, expires)| Step::Star {
            call_id, cseq, expires,
        }),
        4 => (0u64..200).prop_map(Step::Wait),
        1 => (0u16..5).prop_map(Step::Close),
    ]
}

fn header(expires: Option<u32>) -> String {
    expires
        .map(|seconds| format!("Expires: {seconds}\n"))
        .unwrap_or_default()
}

fn run(desk: &mut Desk, step: &Step) -> u16 {
    match step {
        Step::Register {
            call_id,
            cseq,
            expires,
            flow: number,
            contacts,
        } => {
            desk.flow = flow(*number);
            let mut headers = header(*expires);
            for asked in contacts {
                let uri = URIS[asked.class][asked.spelling % URIS[asked.class].len()];
                headers.push_str(&format!(
                    "Contact: <{uri}>;q={}.{:03}",
                    asked.q / 1000,
                    asked.q % 1000
                ));
                if asked.instance > 0 {
                    headers.push_str(&format!(";+sip.instance=\"{}\"", INSTANCES[asked.instance]));
                }
                if asked.reg_id > 0 {
                    headers.push_str(&format!(";reg-id={}", asked.reg_id));
                }
                if let Some(seconds) = asked.expires {
                    headers.push_str(&format!(";expires={seconds}"));
                }
                headers.push('\n');
            }
            desk.register(&format!("call-{call_id}"), *cseq, &headers)
        }
        Step::Star {
            call_id,
            cseq,
            expires,
        } => desk.register(
            &format!("call-{call_id}"),
            *cseq,
            &format!("Contact: *\n{}", header(*expires)),
        ),
        Step::Wait(seconds) => {
            desk.now += seconds;
            desk.changes.clear();
            desk.location.expire(at(desk.now), &mut desk.changes);
            200
        }
        Step::Close(number) => {
            desk.changes.clear();
            desk.location
                .connection_closed(ConnectionId(u64::from(*number)), &mut desk.changes);
            200
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]
    #[test]
    fn behaves_as_a_plain_list(steps in prop::collection::vec(step(), 1..40)) {
        let mut desk = Desk::new();
        desk.settings.bindings_per_user_max = MAX;
        let mut model = Model::default();
        // What the state file holds after every change so far, by its key.
        let mut file: BTreeMap<BindingKey, BindingRow> = BTreeMap::new();
        for step in &steps {
            let status = run(&mut desk, step);
            prop_assert_eq!(status, model.step(step), "{:?}", step);
            prop_assert!(status == 200 || desk.changes.is_empty());
            for change in desk.changes.drain(..) {
                match change {
                    Change::Binding(row) => drop(file.insert(row.key(), *row)),
                    Change::BindingGone(key) => {
                        prop_assert!(file.remove(&key).is_some(), "{:?} was there", key);
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
            let seen: Vec<_> = desk.location.bindings(USER).map(|binding| (
                String::from_utf8(binding.contact().to_vec()).unwrap(),
                String::from_utf8(binding.instance().to_vec()).unwrap(),
                (binding.reg_id, binding.cseq, binding.q),
                String::from_utf8(binding.call_id().to_vec()).unwrap(),
                binding.deadline, binding.flow(),
            )).collect();
            let expected: Vec<_> = model.ordered().into_iter().map(|kept| (
                kept.contact.clone(),
                INSTANCES[kept.instance].to_owned(),
                (kept.reg_id, kept.cseq, kept.q),
                format!("call-{}", kept.call_id),
                at(kept.ends).mono, flow(kept.flow),
            )).collect();
            prop_assert_eq!(seen, expected, "after {:?}", step);
            prop_assert_eq!(desk.location.count(), model.list.len());
            for number in 0..5 {
                let is_live = model.list.iter().any(|kept| kept.flow == number);
                prop_assert_eq!(desk.location.has_flow(&flow(number)), is_live.then_some(USER));
            }
            // A start from that file finds each of them again.
            let in_file: Vec<_> = file.values().map(|row| (
                &*row.contact, &*row.instance, row.reg_id, &*row.call_id, row.cseq, row.remote,
            )).collect();
            let mut kept: Vec<_> = desk.location.bindings(USER).collect();
            kept.sort_by_key(|binding| (binding.contact(), binding.instance(), binding.reg_id));
            let kept: Vec<_> = kept.into_iter().map(|binding| (
                binding.contact(), binding.instance(), binding.reg_id, binding.call_id(),
                binding.cseq, binding.flow().remote,
            )).collect();
            prop_assert_eq!(in_file, kept);
            if status == 200 && !matches!(step, Step::Wait(_) | Step::Close(_)) {
                prop_assert_eq!(desk.contacts().len(), model.list.len());
            }
        }
        // The whole user's time passes: nothing stays behind.
        desk.now += 3601;
        desk.location.expire(at(desk.now), &mut desk.changes);
        prop_assert_eq!(desk.location.count(), 0);
    }
}
