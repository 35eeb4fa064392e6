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
fn six_hours_of_a_thousand_lines_have_no_busy_second() {
    let mut bench = Bench::new(&thousand("keepalive = 0"));
    let begin = bench.now.mono;
    bench.run(Duration::from_secs(120), &mut |_, _| granted(3_600));
    let registered = (0..1_000)
        .filter(|line| bench.lines.is_registered(LineId(*line)))
        .count();
    assert_eq!(registered, 1_000);
    let (start, _) = busiest(&bench.sent, begin);
    assert!(start <= 20, "{start} in a second of the start");

    // About every 1,700 s each.
    bench.run(Duration::from_secs(21_600), &mut |_, _| granted(3_600));
    let count = bench.sent.len();
    assert!((12_000..15_500).contains(&count), "{count} in six hours");
    let (day, second) = busiest(&bench.sent, begin.plus(Duration::from_secs(120)));
    println!("{count} REGISTERs in six hours, {day} in the busiest second ({second})");
    assert!(day <= 10, "{day} in a second");

    // Everybody's registrar is away for an hour, and comes back.
    bench.run(Duration::from_secs(5_400), &mut |_, _| None);
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

/// What one line takes, as far as its parts are known here: the registration itself and what it points to.
#[test]
fn a_line_takes_little_memory() {
    let mut bench = Bench::new(&thousand("keepalive = 20s"));
    let challenge = |request: &Message<'_>| match request
        .value(crate::message::HeaderName::Authorization)
    {
        Some(_) => said(
            200,
            &[
                "Contact: <$us>;expires=3600",
                "Service-Route: <sip:orig@scscf.ims.example.com:6060;lr>",
                "P-Associated-URI: <sip:+4930000000@ims.example.com>",
            ],
        ),
        None => said(
            401,
            &[
                "WWW-Authenticate: Digest realm=\"ims.example.com\", nonce=\"0123456789abcdef0123456789abcdef\", qop=\"auth\"",
            ],
        ),
    };
    bench.run(Duration::from_secs(200), &mut |_, request| {
        challenge(request)
    });
    let of_config = |line: &config::Line| {
        let texts = [
            &line.name,
            &line.account,
            &line.server.name,
            &line.password.0,
        ];
        texts.map(String::capacity).iter().sum::<usize>()
            + line
                .outbound_proxy
                .as_ref()
                .map_or(0, |proxy| proxy.name.capacity())
    };
    let mut bytes = 0;
    for (_, own) in &bench.lines.slots {
        let bound = own.bound.as_ref().expect("registered");
        bytes += size_of_val(own) + of_config(&own.config) + own.credentials.heap_bytes();
        bytes += bound.service_route.len() + bound.path.len() + bound.public_identity.len();
        // Its entries in the tables: timer, token.
        bytes += 2 * (size_of::<(Instant, Slot)>() + size_of::<(Token, LineId)>());
    }
    let each = bytes / bench.lines.slots.len();
    println!("{each} bytes a line");
    assert!(each < 2_560, "{each}");
}
