//! When addresses are asked, what follows from answers and silence, and what a reload keeps.

use super::*;

fn at(seconds: u64) -> Now {
    millis(seconds * 1_000)
}

fn millis(millis: u64) -> Now {
    Now {
        mono: Instant::from_micros(millis * 1_000),
        unix: UnixTime::from_millis(millis),
    }
}

fn address(number: u32) -> SocketAddr {
    SocketAddr::from((std::net::Ipv4Addr::from(0xc633_0000 + number), 5060))
}

fn peer(number: u32, every_s: u64) -> Peer {
    Peer {
        kind: "trunk",
        name: format!("t{number}").into(),
        transport: Transport::Udp,
        address: address(number),
        every: (every_s > 0).then(|| Duration::from_secs(every_s)),
    }
}

fn reach(peers: Vec<Peer>) -> Reach {
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let mut reach = Reach::new(hasher, Tokens::new(&[7; 32], "reach"));
    reach.reload(at(0).mono, peers);
    reach
}

/// The one address: asked at its deadline, which is returned.
fn ask(reach: &mut Reach) -> (Now, ReachId) {
    let mono = reach.next_deadline().expect("it is asked");
    let now = millis(mono.as_micros() / 1_000);
    let (id, ..) = reach.next_ask(now.mono).expect("it is due");
    assert!(reach.next_ask(now.mono).is_none());
    (now, id)
}

fn is_living(reach: &Reach, now: Now, number: u32) -> bool {
    reach.is_living(now.mono, Transport::Udp, address(number))
}

fn state(reach: &Reach, number: u32) -> (State, Cause) {
    let known = reach.known(Transport::Udp, address(number)).expect("known");
    (known.state, known.cause)
}

fn seconds_between(a: Now, b: Now) -> f64 {
    b.mono.since(a.mono).as_secs_f64()
}

#[test]
fn a_thousand_are_asked_over_half_a_minute_and_stay_apart() {
    let mut reach = reach((0..1_000).map(|number| peer(number, 30)).collect());
    let mut asked = vec![0; 130];
    while let Some(mono) = reach.next_deadline().filter(|mono| *mono < at(120).mono) {
        let now = millis(mono.as_micros() / 1_000);
        let (id, ..) = reach.next_ask(mono).expect("due");
        reach.answered(now, id, 200, None);
        asked[(mono.as_micros() / 1_000_000) as usize] += 1;
    }
    let (least, most) = (asked[..120].iter().min(), asked.iter().max());
    assert!(*most.unwrap() < 70 && *least.unwrap() > 10, "{asked:?}");
}

#[test]
fn one_alone_is_asked_at_once() {
    let reach = reach(vec![peer(0, 30)]);
    assert!(reach.next_deadline().unwrap() <= millis(30).mono);
    assert_eq!(reach.count(), (1, 0));
}

#[test]
fn who_is_dead_is_asked_after_5_and_10_s_and_then_as_often_as_others() {
    let mut reach = reach(vec![peer(0, 30)]);
    let mut waits = Vec::new();
    for _ in 0..5 {
        let (now, _) = ask(&mut reach);
        let given_up = reach.next_deadline().unwrap();
        assert_eq!(given_up, now.mono.plus(REACH_ANSWER));
        let end = millis(given_up.as_micros() / 1_000);
        let news = reach.expire(end).expect("it is over");
        assert_eq!(news.is_some(), waits.is_empty(), "said once");
        assert_eq!(state(&reach, 0), (State::Down, Cause::Silent));
        assert!(!is_living(&reach, end, 0));
        waits.push(reach.next_deadline().unwrap().since(end.mono).as_secs_f64());
    }
    for (wait, wanted) in waits.iter().zip([5.0, 10.0, 30.0, 30.0, 30.0]) {
        assert!((wait / wanted - 1.0).abs() <= 0.1, "{waits:?}");
    }
    let (now, id) = ask(&mut reach);
    let news = reach.answered(now, id, 200, None).expect("it is back");
    assert_eq!(news.known.state, State::Up);
    let (then, _) = ask(&mut reach);
    let wait = seconds_between(now, then);
    assert!((27.0..=33.0).contains(&wait), "{wait}");
}

#[test]
fn what_counts_as_an_answer() {
    for (status, expected) in [
        (200, State::Up),
        (401, State::Up),
        (404, State::Up),
        (405, State::Up),
        (408, State::Down),
        (483, State::Up),
        (500, State::Up),
        (501, State::Up),
        (503, State::Down),
        (603, State::Up),
    ] {
        let mut reach = reach(vec![peer(0, 30)]);
        let (now, id) = ask(&mut reach);
        let news = reach.answered(now, id, status, None).expect("news");
        assert_eq!(news.known.state, expected, "{status}");
        assert_eq!(state(&reach, 0), (expected, Cause::Answered(status)));
    }
}

#[test]
fn at_most_so_many_wait_for_an_answer() {
    let number = REACH_ASKED_MAX as u32 + 10;
    let mut reach = reach((0..number).map(|number| peer(number, 30)).collect());
    let late = at(60);
    let mut asked = Vec::new();
    while let Some((id, ..)) = reach.next_ask(late.mono) {
        asked.push(id);
    }
    assert_eq!(asked.len(), REACH_ASKED_MAX);
    // Nobody wakes us for those who cannot be asked.
    assert_eq!(reach.next_deadline(), Some(late.mono.plus(REACH_ANSWER)));
    reach.answered(late, asked[0], 200, None);
    assert!(reach.next_deadline().unwrap() <= late.mono);
    assert!(reach.next_ask(late.mono).is_some());
    assert_eq!(reach.count(), (number as usize, REACH_ASKED_MAX));
}

#[test]
fn a_reload_keeps_what_is_known_of_those_who_stay() {
    let mut reach = reach(vec![peer(0, 30), peer(1, 30), peer(2, 30)]);
    let late = at(40);
    let mut asked = Vec::new();
    while let Some((id, _, from)) = reach.next_ask(late.mono) {
        asked.push((id, from));
    }
    asked.sort_by_key(|(_, from)| *from);
    assert!(reach.answered(late, asked[0].0, 200, None).is_some());
    assert!(reach.answered(late, asked[1].0, 503, None).is_some());
    let renamed = Peer {
        name: "other".into(),
        ..peer(1, 30)
    };
    reach.reload(late.mono, vec![renamed, peer(3, 30), peer(0, 30)]);
    assert_eq!(state(&reach, 0), (State::Up, Cause::Answered(200)));
    assert_eq!(state(&reach, 1), (State::Unknown, Cause::Nothing));
    assert_eq!(state(&reach, 3), (State::Unknown, Cause::Nothing));
    assert_eq!(reach.known(Transport::Udp, address(2)), None);
    assert_eq!(reach.count(), (3, 0));
    // An answer to one who is gone, or whose slot is another's.
    assert_eq!(reach.answered(late, asked[2].0, 200, None), None);
    assert_eq!(reach.answered(late, asked[1].0, 200, None), None);
    assert_eq!(state(&reach, 3), (State::Unknown, Cause::Nothing));
    let next = reach.next_deadline().unwrap();
    assert!(
        next <= late.mono.plus(Duration::from_millis(60)),
        "new: soon"
    );
}

#[test]
fn what_is_not_asked_is_known_by_its_failures_for_a_minute() {
    let mut reach = reach(vec![peer(0, 0)]);
    assert_eq!(reach.next_deadline(), None);
    assert!(is_living(&reach, at(1), 0));
    let news = reach
        .doubt(at(1), Transport::Udp, address(0))
        .expect("news");
    assert_eq!(news.known.state, State::Down);
    assert!(!is_living(&reach, at(60), 0));
    let forgotten = at(1).mono.plus(REACH_FORGET);
    assert_eq!(reach.next_deadline(), Some(forgotten));
    assert_eq!(reach.expire(at(61)), Some(None));
    assert!(is_living(&reach, at(61), 0));
    assert_eq!(state(&reach, 0), (State::Unknown, Cause::Nothing));
    assert_eq!(reach.next_deadline(), None);
    let spoke = |reach: &mut Reach, now| reach.spoke(now, Transport::Udp, address(0));
    assert!(spoke(&mut reach, at(62)).is_some());
    assert!(spoke(&mut reach, at(63)).is_none(), "said once");
    assert_eq!(reach.next_deadline(), None);
}

#[test]
fn a_busy_one_is_not_asked() {
    let mut reach = reach(vec![peer(0, 30)]);
    let (now, id) = ask(&mut reach);
    reach.answered(now, id, 200, None);
    for second in 1..600 {
        assert!(
            reach
                .spoke(at(second), Transport::Udp, address(0))
                .is_none()
        );
        assert!(reach.next_deadline().unwrap() > at(second).mono);
    }
    // From another address, or another way, it says nothing of this one.
    reach.spoke(at(601), Transport::Tcp, address(0));
    reach.spoke(at(601), Transport::Udp, address(1));
    let due = reach.next_deadline().unwrap();
    assert!(due <= at(633).mono, "{due:?}");
}

#[test]
fn a_retry_after_has_a_bound() {
    let mut reach = reach(vec![peer(0, 30)]);
    let hold = Duration::from_secs(u32::MAX.into());
    let held = reach.hold(at(1), Transport::Udp, address(0), hold);
    assert_eq!(held.unwrap().hold, Some(REACH_HOLD_MAX));
    assert_eq!(reach.next_deadline(), Some(at(1).mono.plus(REACH_HOLD_MAX)));
    assert!(reach.spoke(at(2), Transport::Udp, address(0)).is_none());
    reach.called(at(2).mono, Transport::Udp, address(0));
    reach.doubt(at(2), Transport::Udp, address(0));
    assert_eq!(reach.next_deadline(), Some(at(1).mono.plus(REACH_HOLD_MAX)));
    assert_eq!(state(&reach, 0).0, State::Down);
}

#[test]
fn a_question_that_nobody_waits_for_is_forgotten() {
    let mut transactions = crate::transaction::Transactions::<u32>::new(&[1; 32], 8, 8);
    let mut reach = reach(vec![peer(0, 30)]);
    let mut question = || transactions.reserve().expect("room").0;
    for end in [
        |reach: &mut Reach, now: Now| drop(reach.spoke(now, Transport::Udp, address(0))),
        |reach: &mut Reach, now: Now| {
            drop(reach.hold(now, Transport::Udp, address(0), REACH_FORGET))
        },
        |reach: &mut Reach, now: Now| drop(reach.expire(at(now.unix.as_millis() / 1_000 + 9))),
        |reach: &mut Reach, now: Now| reach.reload(now.mono, Vec::new()),
    ] {
        let (now, id) = ask(&mut reach);
        let client = question();
        reach.sent(id, client);
        assert_eq!(reach.next_over(), None);
        end(&mut reach, now);
        assert_eq!(reach.next_over(), Some(client));
        assert_eq!(reach.next_over(), None);
        assert_eq!(reach.count().1, 0);
    }
    assert_eq!(reach.count(), (0, 0));
    assert_eq!(reach.next_deadline(), None);
}
