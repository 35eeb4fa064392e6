//! Floods: who still gets through, and what they cost those whose addresses are forged.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;

use sipkeep::endpoint::Input;
use sipkeep::source::{Flow, Transport};

use super::harness::*;

/// Requests of many sources, one after the other, each with a branch of its own.
struct Flood {
    text: Vec<u8>,
    branch: usize,
    sources: u32,
    sent: u32,
}

impl Flood {
    fn new(sources: u32) -> Self {
        let mut request = Request::new("REGISTER").user("100");
        request.via = "SIP/2.0/UDP 10.1.1.1:5060;rport;branch=z9hG4bK00000000".to_owned();
        let text = request.text();
        let branch = text.find("z9hG4bK0").unwrap() + 7;
        Self {
            text: text.into_bytes(),
            branch,
            sources,
            sent: 0,
        }
    }

    /// The next one; how many answers it got.
    fn send(&mut self, site: &mut Site) -> usize {
        let digits = format!("{:08}", self.sent);
        self.text[self.branch..self.branch + 8].copy_from_slice(digits.as_bytes());
        let address = Ipv4Addr::from_bits(0x0b00_0000 + self.sent % self.sources);
        self.sent += 1;
        let flow = Flow {
            transport: Transport::Udp,
            local: SERVER.parse().unwrap(),
            remote: SocketAddr::new(address.into(), 5060),
            connection: None,
        };
        let bytes = &self.text;
        site.endpoint
            .handle_input(site.now, Input::Datagram { flow, bytes });
        let answers = site.endpoint.outputs().len();
        site.endpoint.clear_outputs();
        answers
    }
}

/// A phone as RFC 3261 §17.1.2.2 has it: what is not answered goes out again after 500 ms, 1 s, 2 s.
struct Newcomer {
    request: Request,
    text: String,
    next: Duration,
    interval: Duration,
}

impl Newcomer {
    fn send(request: Request, now: Duration) -> Self {
        let text = request.text();
        Self {
            request,
            text,
            next: now,
            interval: Duration::from_millis(500),
        }
    }
}

/// How many answers whoever sends this every 50 ms gets, minute by minute. `None`: no connection any more.
fn answers_by_minute(
    site: &mut Site,
    mut send: impl FnMut(&mut Site, u32) -> Outcome,
) -> Vec<usize> {
    let mut minutes = vec![0; 4];
    for n in 0..4 * 60 * 20u32 {
        minutes[n as usize / 1_200] += send(site, n).statuses().len();
        site.jump(Duration::from_millis(50));
    }
    minutes
}

#[track_caller]
fn fewer_and_fewer(minutes: &[usize]) {
    assert!(minutes[0] <= 40, "{minutes:?}");
    assert!(
        minutes[1..].iter().all(|answers| *answers <= 10),
        "{minutes:?}"
    );
}

#[test]
fn whoever_tries_many_names_gets_fewer_and_fewer_answers() {
    for method in ["REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE"] {
        let number = |n: u32| Request::new(method).user(&(100 + n).to_string()).text();
        let minutes = answers_by_minute(&mut Site::new(), |site, n| site.udp(STRANGER, number(n)));
        fewer_and_fewer(&minutes);
        assert!(
            method == "OPTIONS" || minutes[0] >= 10,
            "{method}: {minutes:?}"
        );
        let mut site = Site::new();
        let connection = site.connect(STRANGER, 2);
        let minutes = answers_by_minute(&mut site, |site, n| site.tcp(connection, number(n)));
        fewer_and_fewer(&minutes);
        assert!(
            method == "OPTIONS" || minutes[0] >= 20,
            "{method} on a stream: {minutes:?}"
        );
    }
}

#[test]
fn an_echoed_nonce_is_no_licence_to_scan() {
    let mut site = Site::new();
    let challenge = site.challenge(STRANGER);
    let value = header(&challenge, "WWW-Authenticate").unwrap();
    let (_, nonce) = value.split_once("nonce=\"").unwrap();
    let nonce = nonce.split('"').next().unwrap();
    let minutes = answers_by_minute(&mut site, |site, n| {
        let request = Request::new("REGISTER").user(&(100 + n).to_string());
        let line = match n % 3 {
            0 => format!("X-Nonce: nonce=\"{nonce}\""),
            1 => format!("Authorization: Digest realm=\"sipkeep\", nonce=\"{nonce}\""),
            _ => format!("Authorization: Digest realm=\"other\", nonce=\"{nonce}\""),
        };
        site.udp(STRANGER, request.line(&line).text())
    });
    fewer_and_fewer(&minutes);
}

#[test]
fn malformed_messages_on_a_stream_get_fewer_and_fewer_answers() {
    let mut site = Site::new();
    let connection = site.connect(STRANGER, 2);
    let bad = Request::new("REGISTER").line("CSeq: 2 REGISTER").text();
    let minutes = answers_by_minute(&mut site, |site, _| site.tcp(connection, &bad));
    fewer_and_fewer(&minutes);
    assert!(minutes[0] >= 5, "400s: {minutes:?}");
}

/// A phone of its own user, at a port of its own.
fn phone_of(user: u32) -> (String, String, String) {
    (
        format!("{user}"),
        format!("secret-kXq7-{user}"),
        format!("203.0.113.50:{}", 20_000 + user),
    )
}

fn office(users: u32) -> Site {
    let mut config = "[server]\nlisten = udp:192.0.2.100:5060\n".to_owned();
    for user in 0..users {
        let (name, password, _) = phone_of(1_000 + user);
        config += &format!("[user {name}]\npassword = {password}\n");
    }
    Site::of(&config)
}

#[test]
fn two_hundred_phones_come_back_at_once_from_an_address_that_nobody_knows() {
    const PHONES: u32 = 200;
    const BROKEN: u32 = 1_007;
    let mut site = office(PHONES);
    let mut waiting: BTreeMap<u32, Newcomer> = (1_000..1_000 + PHONES)
        .map(|user| {
            let request = Request::new("REGISTER").user(&user.to_string());
            // All of them within five seconds.
            let now = Duration::from_millis(u64::from(user * 7_919 % 5_000));
            (user, Newcomer::send(request, now))
        })
        .collect();
    for ms in 0..10_000u64 {
        let now = Duration::from_millis(ms);
        for user in waiting.keys().copied().collect::<Vec<_>>() {
            let phone = waiting.get_mut(&user).unwrap();
            if phone.next > now {
                continue;
            }
            phone.next = now + phone.interval;
            phone.interval = (phone.interval * 2).min(Duration::from_secs(4));
            let (name, password, from) = phone_of(user);
            let outcome = site.udp(&from, &phone.text);
            match outcome.statuses()[..] {
                [] => {}
                [401] => {
                    // The broken one tries again each second.
                    let (password, pause) = match user {
                        BROKEN => ("an old one".to_owned(), 1_000),
                        _ => (password, 5),
                    };
                    let request = Request::new("REGISTER").user(&name);
                    let request = request.sign(&outcome.only(), &name, &password);
                    let next = now + Duration::from_millis(pause);
                    waiting.insert(user, Newcomer::send(request, next));
                }
                [200] => drop(waiting.remove(&user)),
                _ => panic!("{outcome:#?}"),
            }
        }
        site.jump(Duration::from_millis(1));
    }
    assert_eq!(waiting.keys().copied().collect::<Vec<_>>(), [BROKEN]);
    assert_eq!(site.counts(), (PHONES as usize - 1, 0, 0));
}

#[test]
fn a_phone_with_an_old_password_is_shown_and_its_neighbours_are_untouched() {
    let mut site = Site::new();
    site.prove("192.0.2.7:5060");
    let mut events = Vec::new();
    for n in 0..40 {
        site.jump(Duration::from_secs(301));
        events.extend(site.fail("192.0.2.7:5070", "101", n).events);
    }
    let status = site.status();
    let [phone] = &status.misconfigured[..] else {
        panic!("{:?}", status.misconfigured)
    };
    assert_eq!(
        (&*phone.user, &*phone.source, phone.failures),
        ("101", "192.0.2.7", 40)
    );
    let said: Vec<_> = events
        .iter()
        .filter(|(name, _)| *name == "misconfigured")
        .collect();
    assert_eq!(said.len(), 4, "5, 10, 20, 40: {said:?}");
    assert_eq!(said[3].1["failures"], "40");
    assert_eq!((said[3].1["user"].as_str(), site.counts().2), ("101", 0));
    site.prove("192.0.2.7:5060");
    // Names that nobody has are no phones of ours.
    for n in 0..10 {
        site.jump(Duration::from_secs(301));
        site.fail("192.0.2.7:5070", "nobody", n);
    }
    assert_eq!(site.status().misconfigured.len(), 1);
    // Mended.
    site.jump(Duration::from_secs(301));
    let challenge = site.challenge("192.0.2.7:5070");
    let request = Request::new("REGISTER").user("101");
    let right = request.sign(&challenge, "101", "hundred-one-kXq7");
    assert_eq!(site.udp("192.0.2.7:5070", right.text()).statuses(), [200]);
    assert!(site.status().misconfigured.is_empty());
}

#[test]
fn a_scanning_neighbour_does_not_touch_live_phones() {
    let mut site = office(3);
    let (name, password, live) = phone_of(1_000);
    let register = |site: &mut Site, from: &str| {
        let challenge = site
            .udp(from, Request::new("REGISTER").user(&name).text())
            .only();
        let request = Request::new("REGISTER").user(&name);
        site.udp(from, request.sign(&challenge, &name, &password).text())
    };
    assert_eq!(register(&mut site, &live).statuses(), [200]);
    let scanner = "203.0.113.50:9";
    let mut scans = Vec::new();
    for n in 0..30 {
        scans.extend(site.fail(scanner, &format!("admin{n}"), n).events);
        site.jump(Duration::from_millis(10));
    }
    let bans: Vec<_> = scans.iter().filter(|(name, _)| *name == "ban").collect();
    assert_eq!(bans.len(), 1, "{bans:?}");
    assert_eq!(
        (&*bans[0].1["reason"], &*bans[0].1["source"]),
        ("scan", "203.0.113.50")
    );
    assert_eq!(site.counts().2, 1);
    // Two hundred requests a second of the scanner ...
    for n in 0..2_000u32 {
        site.jump(Duration::from_millis(5));
        site.udp(
            scanner,
            Request::new("REGISTER").user(&n.to_string()).text(),
        );
        // ... and the phone that was there goes on.
        if n % 500 == 499 {
            assert_eq!(register(&mut site, &live).statuses(), [200], "{n}");
        }
    }
    let challenge = site
        .udp(&live, Request::new("REGISTER").user(&name).text())
        .only();
    // So does one with a nonce of ours, from a port that nobody knew, once the scanner has not used up the second's
    // twenty looks.
    site.jump(Duration::from_secs(1));
    let request = Request::new("REGISTER").user(&name);
    let other = site.udp(
        "203.0.113.50:7",
        request.sign(&challenge, &name, &password).text(),
    );
    assert_eq!(other.statuses(), [200]);
    // The scanner itself hears little.
    site.jump(Duration::from_secs(60));
    let minutes = answers_by_minute(&mut site, |site, n| {
        site.udp(
            scanner,
            Request::new("REGISTER").user(&n.to_string()).text(),
        )
    });
    fewer_and_fewer(&minutes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever is sent in the name of a source that knows nothing of it: nobody is banned, nothing is kept, and a nonce
    /// that the owner has lets him in at once.
    #[test]
    fn forged_packets_cost_the_owner_his_token_bucket_at_most(
        packets in proptest::collection::vec((0u8..9, 0u64..40), 1..400)
    ) {
        let mut site = Site::new();
        // The owner of the address was challenged before; the forger has a nonce of his own.
        let own = site.challenge("203.0.113.9:5060");
        let his = site.challenge("198.51.100.200:5060");
        for (kind, pause) in packets {
            site.jump(Duration::from_millis(pause));
            let request = Request::new("REGISTER").user("100");
            let text = match kind {
                0 => request.text(),
                1 => request.sign(&his, "100", "guess").text(),
                2 => request.sign(&his, "100", PASSWORD).text(),
                3 => "junk \0\r\n\r\n".to_owned(),
                4 => request.line("CSeq: 9 INVITE").text(),
                5 => {
                    let mut invite = Request::new("INVITE").sdp();
                    invite.via = "SIP/2.0/UDP 10.1.1.1;maddr=203.0.113.9;branch=z9hG4bKm".to_owned();
                    invite.text()
                }
                6 => answer(&request.text(), 401, "x", "", ""),
                7 => request.line("User-Agent: friendly-scanner").text(),
                _ => request.line("Authorization: Digest username=\"100\", realm=\"sipkeep\", nonce=\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\", uri=\"sip:a\", response=\"00000000000000000000000000000000\"").text(),
            };
            let outcome = site.udp("203.0.113.9:5061", text);
            prop_assert!(outcome.banned.is_empty() && outcome.kept.is_empty(), "{:#?}", outcome);
            prop_assert!(outcome.sent.iter().all(|(to, _)| to.port() == 5061));
        }
        prop_assert_eq!(site.counts(), (0, 0, 0));
        // Peeked at within a second at the latest, whatever the forger still sends.
        site.jump(Duration::from_secs(1));
        let request = Request::new("REGISTER").user("100");
        let outcome = site.udp("203.0.113.9:5060", request.sign(&own, "100", PASSWORD).text());
        prop_assert_eq!(outcome.statuses(), [200]);
        // Now that he is known, no budget holds for him.
        for _ in 0..100 {
            let outcome = site.udp("203.0.113.9:5060", Request::new("OPTIONS").by("100").text());
            prop_assert_eq!(outcome.statuses(), [200]);
        }
    }
}

#[test]
fn a_newcomer_registers_during_a_flood_of_sources_that_stay_below_every_threshold() {
    let mut site = Site::new();
    let mut flood = Flood::new(60_000);
    let step = Duration::from_micros(20); // 50,000 a second
    let mut now = Duration::ZERO;
    let mut answers = 0;
    let mut phone: Option<Newcomer> = None;
    let start = Duration::from_millis(1_300);
    let registered = loop {
        now += step;
        site.jump(step);
        answers += flood.send(&mut site);
        if phone.is_none() && now >= start {
            phone = Some(Newcomer::send(Request::new("REGISTER").user("100"), now));
        }
        let Some(own) = phone.as_mut().filter(|own| own.next <= now) else {
            assert!(
                now < start + Duration::from_secs(3),
                "it is still not registered"
            );
            continue;
        };
        own.next = now + own.interval;
        own.interval *= 2;
        let outcome = site.udp(STRANGER, &own.text);
        match outcome.statuses()[..] {
            [] => {}
            [401] => {
                let request = Request::new("REGISTER").user("100");
                let request = request.sign(&outcome.only(), "100", PASSWORD);
                phone = Some(Newcomer::send(request, now + Duration::from_millis(5)));
            }
            [200] => break now,
            _ => panic!("{outcome:#?} to {:#?}", own.request),
        }
    };
    assert!(
        registered - start >= Duration::from_millis(400),
        "the flood was none"
    );
    // Those who ask once share what is left.
    let most = 1_000.0 + registered.as_secs_f64() * 1_000.0;
    assert!(
        answers as f64 <= most,
        "{answers} answers in {registered:?}"
    );
    assert_eq!(site.counts(), (1, 0, 0));
}
