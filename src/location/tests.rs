//! The location service by itself: expiry, flows, restarts, reloads, pages, and what it costs.

use super::*;
use crate::time::UnixTime;
use proptest::prelude::*;
use std::time::Duration;

const SEED: [u8; 32] = [9; 32];

fn user(name: &str) -> config::User {
    config::User {
        name: name.into(),
        secret: None,
        display_name: String::new(),
        addresses: Vec::new(),
        blocks: Vec::new(),
        calls_max: None,
        levels: Vec::new(),
        do_not_disturb: false,
        forwards: config::Forwards::default(),
        stores_messages: false,
        line: 1,
    }
}

fn users(count: usize) -> Vec<config::User> {
    (0..count).map(|number| user(&number.to_string())).collect()
}

fn at_ms(millis: u64) -> Now {
    Now {
        mono: Instant::from_micros(5_000_000_000 + millis * 1000),
        unix: UnixTime::from_millis(1_750_000_000_000 + millis),
    }
}

/// That a binding without an instance is gone.
fn gone(user: &str, contact: &str) -> Change {
    Change::BindingGone(Box::new(crate::store::BindingKey {
        user: user.into(),
        contact: contact.as_bytes().to_vec().into(),
        instance: crate::store::Text::default(),
        reg_id: 0,
    }))
}

fn flow(port: u16) -> Flow {
    Flow {
        transport: Transport::Udp,
        local: "[fe80::1%3]:5060"
            .parse()
            .unwrap_or("[fe80::1]:5060".parse().unwrap()),
        remote: format!("203.0.113.7:{port}").parse().unwrap(),
        connection: None,
    }
}

fn stream(port: u16, connection: u64) -> Flow {
    Flow {
        transport: Transport::Tcp,
        connection: Some(ConnectionId(connection)),
        ..flow(port)
    }
}

fn new<'a>(contact: &'a str, flow: Flow, seconds: u64) -> NewBinding<'a> {
    NewBinding {
        contact: contact.as_bytes(),
        params: b"",
        instance: b"",
        reg_id: 0,
        path: b"",
        call_id: b"call",
        cseq: 1,
        q: 1000,
        user_agent: b"",
        flow,
        lifetime: Duration::from_secs(seconds),
    }
}

fn contacts(location: &Location, user: u32) -> Vec<String> {
    let bindings = location.bindings(UserId(user));
    bindings
        .map(|binding| String::from_utf8(binding.contact().to_vec()).unwrap())
        .collect()
}

fn rows(changes: &[Change]) -> Vec<BindingRow> {
    let row = |change: &Change| match change {
        Change::Binding(row) => Some((**row).clone()),
        _ => None,
    };
    changes.iter().filter_map(row).collect()
}

#[test]
fn every_text_and_the_flow_come_back_as_they_went_in() {
    let mut location = Location::new(&users(1), &SEED);
    let mut changes = Vec::new();
    for flow in [
        flow(1),
        stream(2, 0),
        Flow {
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: std::net::SocketAddrV6::new("fe80::2".parse().unwrap(), 7, 0, 3).into(),
            ..flow(1)
        },
    ] {
        let given = NewBinding {
            contact: b"sip:c",
            params: b";x;+sip.instance=\"<urn:i>\";y",
            instance: b"<urn:i>",
            reg_id: 3,
            path: b"<sip:p;lr>",
            call_id: b"id@h",
            cseq: 9,
            q: 250,
            user_agent: b"Phone/2",
            flow,
            lifetime: Duration::from_secs(60),
        };
        let id = location
            .put(at_ms(0), UserId(0), None, &given, &mut changes)
            .unwrap();
        let (_, binding) = location
            .entries(UserId(0))
            .find(|(other, _)| *other == id)
            .unwrap();
        assert_eq!(binding.contact(), given.contact);
        assert_eq!(binding.params(), given.params);
        assert_eq!(binding.instance(), given.instance);
        assert_eq!(binding.path(), given.path);
        assert_eq!(binding.call_id(), given.call_id);
        assert_eq!(binding.user_agent(), given.user_agent);
        assert_eq!((binding.reg_id, binding.cseq, binding.q), (3, 9, 250));
        assert_eq!(binding.flow(), flow);
        assert_eq!(location.has_flow(&flow), Some(UserId(0)));
    }
    assert_eq!(
        location.put(
            at_ms(0),
            UserId(1),
            None,
            &new("sip:a", flow(1), 60),
            &mut changes
        ),
        None
    );
}

#[test]
fn ends_within_a_second_after_its_time_and_never_before() {
    let mut location = Location::new(&users(1), &SEED);
    let mut changes = Vec::new();
    location.put(
        at_ms(300),
        UserId(0),
        None,
        &new("sip:a", flow(1), 60),
        &mut changes,
    );
    assert_eq!(location.next_deadline(), Some(at_ms(61_000).mono));
    location.expire(at_ms(60_299), &mut changes);
    assert_eq!(location.count(), 1);
    changes.clear();
    location.expire(at_ms(61_000), &mut changes);
    let gone = gone("0", "sip:a");
    assert_eq!(changes, [gone]);
    assert_eq!((location.count(), location.next_deadline()), (0, None));
}

#[test]
fn a_refresh_moves_the_end_both_ways() {
    let mut location = Location::new(&users(1), &SEED);
    let mut changes = Vec::new();
    let mut id = location.put(
        at_ms(0),
        UserId(0),
        None,
        &new("sip:a", flow(1), 60),
        &mut changes,
    );
    for (second, lifetime, end) in [
        (30, 600, 630),
        (40, 100, 140),
        (50, 3600, 3650),
        (3649, 5, 3654),
    ] {
        let now = at_ms(second * 1000);
        location.expire(now, &mut changes);
        id = location.put(
            now,
            UserId(0),
            id,
            &new("sip:a", flow(1), lifetime),
            &mut changes,
        );
        let binding = location.bindings(UserId(0)).next().unwrap();
        assert_eq!(binding.deadline, at_ms(end * 1000).mono);
        assert_eq!(binding.since, at_ms(0).unix);
        assert!(location.next_deadline() <= Some(binding.deadline));
    }
    location.expire(at_ms(3_653_999), &mut changes);
    assert_eq!(location.count(), 1);
    location.expire(at_ms(3_654_000), &mut changes);
    assert_eq!(location.count(), 0);
}

/// A phone that registers all the time, whatever it asks for, leaves a handful of entries in the wheel.
/// A refresh stays in its place, but comes first from then on, in the user's list and in that of all.
#[test]
fn a_mere_refresh_moves_nothing_but_its_time() {
    let mut location = Location::new(&users(1), &SEED);
    let mut changes = Vec::new();
    let mut put = |location: &mut Location, ms, replaces, contact, port| {
        let new = new(contact, flow(port), 60);
        location.put(at_ms(ms), UserId(0), replaces, &new, &mut changes)
    };
    let a = put(&mut location, 0, None, "sip:a", 1);
    put(&mut location, 1, None, "sip:b", 2);
    put(&mut location, 2, None, "sip:c", 3);
    assert_eq!(contacts(&location, 0), ["sip:c", "sip:b", "sip:a"]);
    assert_eq!(put(&mut location, 3, a, "sip:a", 1), a);
    assert_eq!(contacts(&location, 0), ["sip:a", "sip:c", "sip:b"]);
    let recent = |location: &Location| -> Vec<u64> {
        let numbers = location.recent().map(|binding| binding.serial);
        numbers.collect()
    };
    assert_eq!(recent(&location), [1, 3, 2]);
    // From another port it is made anew.
    put(&mut location, 4, a, "sip:a", 4);
    assert_eq!((recent(&location), location.count()), (vec![1, 3, 2], 3));
    assert!(location.has_flow(&flow(1)).is_none() && location.has_flow(&flow(4)).is_some());
    let rows = rows(&changes);
    assert_eq!(rows[3].expires, at_ms(60_003).unix);
}

#[test]
fn refreshing_does_not_fill_the_wheel() {
    let wheel_after = |lifetime: &dyn Fn(u64) -> u64, replaced: bool| {
        let mut location = Location::new(&users(1), &SEED);
        let mut id = None;
        for number in 0..3_000 {
            let now = at_ms(number);
            if !replaced && let Some(id) = id.take() {
                location.remove(id, &mut Vec::new());
            }
            let new = new("sip:a", flow(1), lifetime(number));
            id = location.put(now, UserId(0), id, &new, &mut Vec::new());
        }
        assert_eq!((location.count(), location.slots.len()), (1, 1));
        location.wheel.as_ref().unwrap().len()
    };
    for replaced in [true, false] {
        assert_eq!(wheel_after(&|_| 3600, replaced), 1);
        assert!(wheel_after(&|number| 3600 - number, replaced) <= 13);
        assert!(wheel_after(&|number| if number % 2 == 0 { 3600 } else { 60 }, replaced) <= 3);
    }
}

#[test]
fn several_bindings_on_one_flow() {
    let mut location = Location::new(&users(3), &SEED);
    let mut changes = Vec::new();
    let put = |location: &mut Location, user, contact: &str, flow| {
        location
            .put(
                at_ms(0),
                UserId(user),
                None,
                &new(contact, flow, 60),
                &mut Vec::new(),
            )
            .unwrap()
    };
    let first = put(&mut location, 0, "sip:a", flow(1));
    let second = put(&mut location, 1, "sip:b", flow(1));
    let third = put(&mut location, 2, "sip:c", flow(1));
    assert_eq!(location.has_flow(&flow(1)), Some(UserId(2)));
    location.remove(second, &mut changes);
    location.remove(third, &mut changes);
    assert_eq!(location.has_flow(&flow(1)), Some(UserId(0)));
    // The same address and port, but another transport
    let on_tcp = Flow {
        transport: Transport::Tcp,
        ..flow(1)
    };
    assert_eq!(location.has_flow(&on_tcp), None);
    location.remove(first, &mut changes);
    assert_eq!(location.has_flow(&flow(1)), None);
    assert!(location.flows.is_empty());
    // Twice removed is once removed.
    changes.clear();
    location.remove(first, &mut changes);
    assert_eq!((changes.len(), location.count()), (0, 0));
}

#[test]
fn a_restart_keeps_what_can_be_reached() {
    let mut location = Location::new(&users(2), &SEED);
    let mut changes = Vec::new();
    let outbound = NewBinding {
        params: b";a;+sip.instance=\"<urn:i>\";reg-id=2",
        instance: b"<urn:i>",
        reg_id: 2,
        path: b"<sip:p;lr>",
        user_agent: b"Phone",
        ..new("sip:old", flow(1), 600)
    };
    location.put(at_ms(0), UserId(1), None, &outbound, &mut changes);
    location.put(
        at_ms(0),
        UserId(1),
        None,
        &new("sip:stream", stream(2, 2), 600),
        &mut changes,
    );
    location.put(
        at_ms(0),
        UserId(1),
        None,
        &new("sip:brief", flow(3), 60),
        &mut changes,
    );
    location.put(
        at_ms(0),
        UserId(0),
        None,
        &new("sip:gone", flow(4), 600),
        &mut changes,
    );
    location.put(
        at_ms(1000),
        UserId(1),
        None,
        &new("sip:new", flow(5), 600),
        &mut changes,
    );
    let rows = rows(&changes);
    // Another process: the monotonic clock begins elsewhere, the user has another number, one user is gone.
    let now = Now {
        mono: Instant::from_micros(77),
        unix: at_ms(100_000).unix,
    };
    for rows in [rows.clone(), rows.iter().rev().cloned().collect()] {
        let mut restored = Location::new(&[user("1")], &SEED);
        restored.restore(now, &rows);
        assert_eq!(contacts(&restored, 0), ["sip:new", "sip:old"]);
        let old = restored.bindings(UserId(0)).nth(1).unwrap();
        assert_eq!(old.params(), b";+sip.instance=\"<urn:i>\";reg-id=2");
        assert_eq!((old.instance(), old.reg_id), (&b"<urn:i>"[..], 2));
        assert_eq!(
            (old.path(), old.user_agent()),
            (&b"<sip:p;lr>"[..], &b"Phone"[..])
        );
        assert_eq!((old.call_id(), old.cseq), (&b"call"[..], 1));
        assert_eq!(
            (old.since, old.expires),
            (at_ms(0).unix, at_ms(600_000).unix)
        );
        assert_eq!(old.deadline, now.mono.plus(Duration::from_secs(500)));
        assert_eq!(restored.has_flow(&flow(1)), Some(UserId(0)));
        assert_eq!(
            (restored.has_flow(&flow(3)), restored.has_flow(&flow(4))),
            (None, None)
        );
        assert_eq!(restored.count(), 2);
    }
}

#[test]
fn a_reload_follows_names() {
    let mut location = Location::new(&users(4), &SEED);
    let mut changes = Vec::new();
    for number in 0..4u16 {
        let contact = format!("sip:{number}");
        let new = new(&contact, flow(number), 60);
        location.put(at_ms(0), UserId(number.into()), None, &new, &mut changes);
    }
    let changes = location.reload(&[user("new"), user("3"), user("1")]);
    assert_eq!(changes, [gone("0", "sip:0"), gone("2", "sip:2")]);
    assert_eq!(
        (contacts(&location, 0), contacts(&location, 1)),
        (vec![], vec!["sip:3".into()])
    );
    assert_eq!(contacts(&location, 2), ["sip:1"]);
    assert_eq!(location.has_flow(&flow(1)), Some(UserId(2)));
    assert_eq!(
        (location.has_flow(&flow(0)), location.has_flow(&flow(2))),
        (None, None)
    );
    assert_eq!(location.count(), 2);
    assert_eq!(location.user_name(UserId(2)), Some("1"));
    let mut changes = Vec::new();
    location.expire(at_ms(60_000), &mut changes);
    assert_eq!((location.count(), changes.len()), (0, 2));
}

#[test]
fn pages_show_each_binding_once() {
    let mut location = Location::new(&users(5), &SEED);
    for number in 0..12u16 {
        let contact = format!("sip:{number}");
        let new = new(&contact, flow(number), 60);
        location.put(
            at_ms(0),
            UserId(u32::from(number % 5) & !1),
            None,
            &new,
            &mut Vec::new(),
        );
    }
    let whole = location.page(None, 100);
    assert_eq!((whole.items.len(), &whole.next), (12, &None));
    let names = |page: &api::Page<api::Registration>| -> Vec<String> {
        page.items
            .iter()
            .map(|item| format!("{} {}", item.user, item.contact))
            .collect()
    };
    for limit in [1, 2, 5, 11, 12] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = location.page(after.as_deref(), limit);
            assert!(page.items.len() <= limit);
            seen.extend(names(&page));
            // A refresh between two pages moves nothing.
            let (id, _) = location.entries(UserId(2)).last().unwrap();
            let contact = contacts(&location, 2).pop().unwrap();
            location.put(
                at_ms(1),
                UserId(2),
                Some(id),
                &new(&contact, flow(1), 60),
                &mut Vec::new(),
            );
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, names(&whole), "limit {limit}");
    }
    assert_eq!(location.page(Some("nonsense"), 0).items.len(), 1);
    let item = &whole.items[0];
    assert_eq!(
        (item.source.as_str(), item.transport),
        ("203.0.113.7", "udp")
    );
    assert_eq!(item.expires, api::Rfc3339(at_ms(60_000).unix));
}

/// The wheel's entry, the index's (a key, a slot and a control byte at the worst load just after growing), the user's list.
const BYTES_AROUND: usize = 16 + 2 * (16 + 1) + 8;

#[test]
fn an_ordinary_binding_is_small() {
    let given = NewBinding {
        contact: b"sip:100@192.168.178.24:5062;line=8d3f1c2ab7;transport=udp",
        call_id: b"2f1c4a0b-9d7e-4c55-8a3e-0d1b5f6c7a89@192.168.178.24",
        user_agent: b"Yealink SIP-T46S 66.86.0.15",
        ..new("", flow(1), 600)
    };
    let binding = Binding::new(&given, UserId(0)).unwrap();
    // Two words of the allocator for the texts.
    let bytes = size_of::<Slot>() + binding.heap_bytes() + 16 + BYTES_AROUND;
    assert!(
        bytes < 400,
        "{bytes} bytes, of which {} a slot",
        size_of::<Slot>()
    );
}

/// Lanes are made anew when this says so: not at every refresh.
#[test]
fn flows_that_come_and_go_are_noticed_and_refreshes_are_not() {
    let mut location = Location::new(&users(2), &SEED);
    let mut noticed = {
        let mut before = 0;
        move |location: &Location| {
            let is_news = location.flow_changes() != before;
            before = location.flow_changes();
            is_news
        }
    };
    let changes = &mut Vec::new();
    let (one, two) = (UserId(0), UserId(1));
    let first = location.put(at_ms(0), one, None, &new("sip:a", flow(1), 60), changes);
    assert!(noticed(&location));
    let first = location.put(at_ms(0), one, first, &new("sip:a", flow(1), 60), changes);
    assert!(!noticed(&location), "a refresh");
    let other = location.put(at_ms(0), two, None, &new("sip:b", flow(1), 30), changes);
    assert!(!noticed(&location), "another account of the same phone");
    location.remove(other.unwrap(), changes);
    assert!(!noticed(&location), "the flow has a binding still");
    let first = location.put(at_ms(0), one, first, &new("sip:a", flow(2), 60), changes);
    assert!(noticed(&location), "the phone has moved");
    location.put(
        at_ms(0),
        two,
        None,
        &new("sip:b", stream(3, 3), 60),
        changes,
    );
    location.connection_closed(ConnectionId(3), changes);
    assert!(!noticed(&location), "a stream needs no lane");
    location.remove(first.unwrap(), changes);
    assert!(noticed(&location), "removed");
    location.put(at_ms(0), one, None, &new("sip:a", flow(1), 60), changes);
    noticed(&location);
    location.expire(at_ms(61_000), changes);
    assert!(noticed(&location), "expired");
    location.put(
        at_ms(61_000),
        one,
        None,
        &new("sip:a", flow(1), 60),
        changes,
    );
    noticed(&location);
    location.reload(&[]);
    assert!(noticed(&location), "its user is gone");
}

proptest! {
    /// The lists of flows stay whole under any order of coming and going.
    #[test]
    fn flows_are_found_as_long_as_a_binding_is_on_them(
        program in prop::collection::vec((0u8..4, 0u16..6, 0usize..20), 1..120),
    ) {
        let mut location = Location::new(&users(1), &SEED);
        // In the order of their last refresh.
        let mut model: Vec<(BindingId, u16)> = Vec::new();
        let number_flow = |number: u16| if number.is_multiple_of(2) { flow(number) } else { stream(number, number.into()) };
        for (what, number, which) in program {
            match what {
                0 | 1 => {
                    let contact = format!("sip:{which}");
                    let new = new(&contact, number_flow(number), 60);
                    let replaces = (what == 1 && !model.is_empty()).then(|| model.remove(which % model.len()).0);
                    let id = location.put(at_ms(0), UserId(0), replaces, &new, &mut Vec::new()).unwrap();
                    model.push((id, number));
                }
                2 if !model.is_empty() => {
                    let (id, _) = model.remove(which % model.len());
                    location.remove(id, &mut Vec::new());
                }
                _ => {
                    location.connection_closed(ConnectionId(number.into()), &mut Vec::new());
                    model.retain(|(_, other)| *other != number || number % 2 == 0);
                }
            }
            for number in 0..6 {
                let is_live = model.iter().any(|(_, other)| *other == number);
                prop_assert_eq!(location.has_flow(&number_flow(number)).is_some(), is_live);
            }
            let recent: Vec<Flow> = location.recent().map(Binding::flow).collect();
            let expected: Vec<Flow> = model.iter().rev().map(|(_, number)| number_flow(*number)).collect();
            prop_assert_eq!(recent, expected);
            prop_assert_eq!(location.count(), model.len());
            prop_assert_eq!(location.bindings(UserId(0)).count(), model.len());
            prop_assert!(location.flows.len() <= 6);
        }
    }
}

#[test]
fn a_phone_is_found_at_its_binding_and_by_its_name_once_that_is_gone() {
    let mut location = Location::new(&users(1), &SEED);
    let mut changes = Vec::new();
    let named = |instance: &'static str, reg_id, call_id: &'static str, flow| NewBinding {
        params: instance.as_bytes(),
        instance: instance.as_bytes(),
        reg_id,
        call_id: call_id.as_bytes(),
        ..new("sip:c", flow, 60)
    };
    let mut put = |location: &mut Location, replaces, new| {
        let id = location.put(at_ms(0), UserId(0), replaces, &new, &mut changes);
        id.expect("a binding")
    };
    let is_at = |location: &Location, phone, id: BindingId| {
        location.is_at(phone, location.binding(id.0).unwrap())
    };
    for (instance, reg_id) in [("", 0), ("<urn:i>", 1)] {
        let other = put(&mut location, None, named("", 0, "other", flow(9)));
        let own = put(
            &mut location,
            None,
            named(instance, reg_id, "own", stream(1, 2)),
        );
        let phone = location.phone(location.binding(own.0).unwrap());
        assert!(is_at(&location, phone, own) && !is_at(&location, phone, other));
        // Whatever takes the place of its binding is the phone, if it names itself or not.
        let own = put(
            &mut location,
            Some(own),
            named("", 0, "reset", stream(1, 4)),
        );
        assert!(is_at(&location, phone, own));
        // What has its name stands beside: another flow of the phone.
        let beside = put(
            &mut location,
            None,
            named(instance, reg_id, "own", stream(1, 6)),
        );
        assert!(!is_at(&location, phone, beside));
        location.connection_closed(ConnectionId(4), &mut Vec::new());
        assert!(is_at(&location, phone, beside) && !is_at(&location, phone, other));
        let second = put(&mut location, None, named("<URN:I>", 2, "own", flow(1)));
        assert!(!is_at(&location, phone, second), "another reg-id, or none");
        location.remove(second, &mut Vec::new());
        location.connection_closed(ConnectionId(6), &mut Vec::new());
        let back = put(
            &mut location,
            None,
            named("<URN:I>", 1, "new", stream(1, 8)),
        );
        assert_eq!(
            is_at(&location, phone, back),
            reg_id == 1,
            "without regard to case"
        );
        location.remove(back, &mut Vec::new());
        location.remove(other, &mut Vec::new());
    }
}

#[test]
fn a_phone_behind_a_nat_is_that_whatever_contact_it_registers_from_there() {
    let mut location = Location::new(&users(2), &SEED);
    let mut changes = Vec::new();
    let user = UserId(0);
    let is = |location: &Location| -> Vec<bool> {
        (location.bindings(user))
            .map(Binding::is_behind_nat)
            .collect()
    };
    let first = new("sip:a@10.0.0.5", flow(1), 60);
    let id = location.put(at_ms(0), user, None, &first, &mut changes);
    assert_eq!(is(&location), [false]);
    location.set_behind_nat(UserId(1), &flow(1), &mut changes);
    location.set_behind_nat(user, &flow(2), &mut changes);
    assert_eq!((is(&location), changes.len()), (vec![false], 1));
    location.set_behind_nat(user, &flow(1), &mut changes);
    location.set_behind_nat(user, &flow(1), &mut changes);
    assert_eq!((is(&location), changes.len()), (vec![true], 2));
    assert!(rows(&changes)[1].is_behind_nat);
    // Its NAT gives it another port; then it writes the address that it has found out.
    let other = new("sip:a@203.0.113.7:2", flow(2), 60);
    location.put(at_ms(1), user, None, &other, &mut changes);
    location.put(at_ms(1), UserId(1), None, &other, &mut changes);
    assert_eq!(is(&location), [true, true]);
    assert!(!location.bindings(UserId(1)).any(Binding::is_behind_nat));
    // After a restart.
    let mut again = Location::new(&users(2), &SEED);
    again.restore(at_ms(2), &rows(&changes)[1..2]);
    assert_eq!(is(&again), [true]);
    // Somewhere else nobody knows.
    let moved = Flow {
        remote: "198.51.100.9:1".parse().unwrap(),
        ..flow(1)
    };
    let elsewhere = new("sip:a@10.0.0.5", moved, 60);
    location.put(at_ms(3), user, id, &elsewhere, &mut changes);
    let mut flags = is(&location);
    flags.sort_unstable();
    assert_eq!(flags, [false, true]);
}
