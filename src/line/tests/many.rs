//! A thousand lines of one carrier.

use std::collections::BTreeMap;

use super::*;

fn thousand(keepalive: &str) -> Vec<config::Line> {
    let section = |number: u32| {
        format!(
            "[line l{number}]\naccount = +4930{number:06}\nserver = sip.example.com\n\
             outbound_proxy = 192.0.2.9\npassword = {PASSWORD}\n{keepalive}\n"
        )
    };
    lines_of(&(0..1_000).map(section).collect::<String>())
}

/// The busiest second: how many REGISTERs, and when it was.
fn busiest(sent: &[(Instant, Vec<u8>)], from: Instant) -> (usize, u64) {
    let mut seconds = BTreeMap::new();
    for (at, _) in sent.iter().filter(|(at, _)| *at >= from) {
        *seconds.entry(at.as_micros() / 1_000_000).or_insert(0) += 1;
    }
    let most = seconds.into_iter().map(|(second, count)| (count, second));
    most.max().unwrap_or((0, 0))
}

#[test]
fn a_day_of_a_thousand_lines_has_no_busy_second() {
    let mut bench = Bench::new(&thousand("keepalive = 0"));
    let begin = bench.now.mono;
    bench.run(Duration::from_secs(120), &mut |_, _| granted(3_600));
    let registered = (0..1_000)
        .filter(|line| bench.lines.is_registered(LineId(*line)))
        .count();
    assert_eq!(registered, 1_000);
    let (start, _) = busiest(&bench.sent, begin);
    assert!(start <= 20, "{start} in a second of the start");

    // Twice as often as it would be for 1,800 s, at most.
    bench.run(Duration::from_secs(86_400), &mut |_, _| granted(3_600));
    let count = bench.sent.len();
    assert!((48_000..62_000).contains(&count), "{count} in a day");
    let (day, second) = busiest(&bench.sent, begin.plus(Duration::from_secs(120)));
    println!("{count} REGISTERs in a day, {day} in its busiest second ({second})");
    assert!(day <= 10, "{day} in a second");

    // Everybody's registrar is away for an hour, and comes back.
    bench.run(Duration::from_secs(7_200), &mut |_, _| None);
    let back = bench.now.mono;
    bench.run(Duration::from_secs(3_600), &mut |_, _| granted(3_600));
    let (storm, _) = busiest(&bench.sent, back);
    println!("{storm} in the busiest second after an hour without a registrar");
    assert!(storm <= 12, "{storm} in a second");
    let registered = (0..1_000)
        .filter(|line| bench.lines.is_registered(LineId(*line)))
        .count();
    assert_eq!(registered, 1_000);
}

#[test]
fn one_keep_alive_is_for_all_on_a_way() {
    let mut bench = Bench::new(&thousand("keepalive = 20s"));
    bench.run(Duration::from_secs(600), &mut |_, _| granted(3_600));
    assert!((29..=40).contains(&bench.pings), "{}", bench.pings);
}

#[test]
fn a_stop_of_a_thousand_lines_is_no_matter_of_minutes() {
    let mut bench = Bench::new(&thousand("keepalive = 0"));
    bench.run(Duration::from_secs(120), &mut |_, _| granted(3_600));
    bench.lines.stop(bench.now);
    let before = bench.sent.len();
    bench.step(&mut |_, _| said(200, &[]));
    assert_eq!(bench.sent.len() - before, 1_000);
    assert!(bench.lines.is_idle());
}

#[test]
fn lost_connections_of_all_do_not_bring_them_back_at_once() {
    let mut bench = Bench::new(&thousand("keepalive = 0"));
    bench.transport = Transport::Tcp;
    bench.run(Duration::from_secs(200), &mut |_, _| granted(3_600));
    bench.connections = 1;
    let closed = bench.now.mono;
    let (lines, mut turn) = bench.turn();
    lines.connection_closed(ConnectionId(1), &mut turn);
    bench.run(Duration::from_secs(110), &mut |_, _| granted(3_600));
    let (most, _) = busiest(&bench.sent, closed);
    assert!(most <= 20, "{most} in a second");
    let registered = (0..1_000)
        .filter(|line| bench.lines.is_registered(LineId(*line)))
        .count();
    assert_eq!(registered, 1_000);
}
