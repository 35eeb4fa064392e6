//! Bans: when they begin and end, whom they never hit, and what everybody else notices of them.

use std::time::Duration;

use sipkeep::api::{Answer, Command};
use sipkeep::config::Config;
use sipkeep::source::Source;
use sipkeep::store::{BanReason, BanRow, Change, Snapshot};

use super::harness::*;

/// The ban that is kept.
fn row(outcome: &Outcome) -> Option<&BanRow> {
    outcome.kept.iter().find_map(|change| match change {
        Change::Ban(row) => Some(&**row),
        _ => None,
    })
}

/// Fails until it is banned.
#[track_caller]
fn ban(site: &mut Site, from: &str) -> Outcome {
    for n in 0..30 {
        let outcome = site.fail(from, "100", n);
        if !outcome.banned.is_empty() {
            assert_eq!(n, 4, "after five");
            return outcome;
        }
        site.jump(Duration::from_secs(2));
    }
    panic!("no ban");
}

fn source(text: &str) -> Source {
    Source::of(text.parse::<std::net::SocketAddr>().unwrap().ip())
}

#[test]
fn five_failures_ban_and_then_there_is_silence() {
    let mut site = Site::new();
    let outcome = ban(&mut site, STRANGER);
    assert!(outcome.is_silent(), "not even to the fifth");
    assert_eq!(outcome.banned, [source(STRANGER)]);
    let (name, fields) = &outcome.events[0];
    assert_eq!(*name, "ban");
    assert_eq!(
        (
            fields["source"].as_str(),
            fields["reason"].as_str(),
            fields["failures"].as_str()
        ),
        ("203.0.113.7", "credentials", "5")
    );
    assert!(!fields["until"].is_empty());
    let kept = row(&outcome).unwrap();
    assert_eq!(
        (kept.reason, kept.failures, kept.users.as_slice()),
        (BanReason::Credentials, 5, ["100".to_owned()].as_slice())
    );
    // Whatever it says, from whatever port.
    for n in 0..200 {
        let method = ["REGISTER", "INVITE", "OPTIONS", "BYE"][n % 4];
        let from = format!("203.0.113.7:{}", 1_024 + n);
        assert!(site.udp(&from, Request::new(method).text()).is_silent());
        site.pass(Duration::from_secs(60));
    }
    // Its neighbour is nobody's business.
    site.prove("203.0.113.8:41000");
    // Four hours, and not a day.
    site.pass(Duration::from_secs(3 * 3600));
    assert_eq!(site.counts().2, 0);
    site.prove(STRANGER);
}

#[test]
fn a_right_answer_in_time_keeps_the_ban_away() {
    let mut site = Site::new();
    for n in 0..4 {
        site.fail(STRANGER, "100", n);
    }
    site.prove(STRANGER);
    // Known from now on: its failures delay one user of that source, and ban nobody.
    for n in 10..60 {
        let outcome = site.fail(STRANGER, "100", n);
        assert!(outcome.banned.is_empty());
        site.jump(Duration::from_millis(100));
    }
    assert_eq!(site.counts().2, 0);
    let challenge = site.challenge(STRANGER);
    let request = Request::new("REGISTER")
        .user("101")
        .sign(&challenge, "101", "hundred-one-kXq7");
    assert_eq!(
        site.udp(STRANGER, request.text()).statuses(),
        [200],
        "the rest of the office"
    );
}

#[test]
fn over_tcp_a_ban_closes_the_door() {
    let mut site = Site::new();
    let connection = site.connect(STRANGER, 2);
    let mut answers = 0;
    let mut banned = false;
    for n in 0..10 {
        let outcome = site.tcp(connection, Request::new("REGISTER").user("100").text());
        let Some((_, challenge)) = outcome.written.first() else {
            break;
        };
        let request = Request::new("REGISTER")
            .user("100")
            .sign(challenge, "100", &n.to_string());
        let outcome = site.tcp(connection, request.text());
        answers += outcome.written.len();
        if outcome.banned == [source(STRANGER)] {
            banned = true;
            assert!(outcome.is_silent());
        }
    }
    assert!(banned);
    assert_eq!(answers, 4);
    assert!(
        !site
            .endpoint
            .accepts_connection(site.now, STRANGER.parse().unwrap())
    );
    assert!(
        site.endpoint
            .accepts_connection(site.now, "203.0.113.8:1".parse().unwrap())
    );
    // Bytes that were on their way.
    let inner = Request::new("REGISTER")
        .text()
        .replace("Content-Length: 0", "Content-Length: x");
    assert!(site.tcp(connection, format!("\r\n\r\n{inner}")).is_silent());
    assert!(
        site.udp(STRANGER, Request::new("REGISTER").text())
            .is_silent()
    );
}

#[test]
fn guesses_in_one_segment_end_at_the_fifth() {
    let mut site = Site::new();
    let connection = site.connect(STRANGER, 2);
    let outcome = site.tcp(connection, Request::new("REGISTER").user("100").text());
    let challenge = outcome.only();
    let guesses: String = (1..=15)
        .map(|n| {
            let password = if n == 15 {
                PASSWORD.to_owned()
            } else {
                n.to_string()
            };
            Request::new("REGISTER")
                .user("100")
                .sign_nth(&challenge, "100", &password, n)
                .text()
        })
        .collect();
    let outcome = site.tcp(connection, guesses);
    assert_eq!(outcome.statuses(), [401; 4]);
    assert_eq!(outcome.banned, [source(STRANGER)]);
    assert_eq!(site.counts(), (0, 0, 1));
}

#[test]
fn bans_double_up_to_a_week() {
    let mut site = Site::new();
    for hours in [4, 8, 16, 32, 64, 128, 168, 168] {
        let outcome = ban(&mut site, STRANGER);
        let kept = row(&outcome).unwrap();
        assert_eq!(
            kept.until.since(kept.since),
            Duration::from_secs(hours * 3_600)
        );
        site.pass(Duration::from_secs(hours * 3_600 + 100));
        assert_eq!(site.counts().2, 0);
    }
}

#[test]
fn a_restart_keeps_the_ban_and_its_step() {
    let mut site = Site::new();
    let outcome = ban(&mut site, STRANGER);
    let kept = || Snapshot {
        bans: vec![row(&outcome).unwrap().clone()],
        ..Snapshot::default()
    };
    site.jump(Duration::from_secs(3_600));
    let mut site = Site::restarted(CONFIG, site.now, kept());
    assert_eq!(site.counts().2, 1);
    assert!(
        site.udp(STRANGER, Request::new("REGISTER").text())
            .is_silent()
    );
    assert!(
        !site
            .endpoint
            .accepts_connection(site.now, STRANGER.parse().unwrap())
    );
    site.pass(Duration::from_secs(3 * 3_600 + 10));
    assert_eq!(site.counts().2, 0, "by the wall clock it is over");
    let again = ban(&mut site, STRANGER);
    let second = row(&again).unwrap();
    assert_eq!(
        second.until.since(second.since),
        Duration::from_secs(8 * 3_600)
    );
    // And when it ended while the server was down.
    site.jump(Duration::from_secs(86_400));
    let mut site = Site::restarted(CONFIG, site.now, kept());
    assert_eq!(site.counts().2, 0);
    let again = ban(&mut site, STRANGER);
    let second = row(&again).unwrap();
    assert_eq!(
        second.until.since(second.since),
        Duration::from_secs(8 * 3_600)
    );
}

#[test]
fn unban_works_at_once() {
    let mut site = Site::new();
    ban(&mut site, STRANGER);
    let command = Command::Unban {
        source: source(STRANGER),
    };
    assert!(matches!(
        site.endpoint.command(site.now, command),
        Answer::Done
    ));
    let changes: Vec<_> = site
        .endpoint
        .outputs()
        .map(|output| format!("{output:?}"))
        .collect();
    assert!(
        changes.iter().any(|change| change.contains("BanGone")),
        "{changes:?}"
    );
    site.endpoint.clear_outputs();
    let again = Command::Unban {
        source: source(STRANGER),
    };
    let Answer::NotFound(text) = site.endpoint.command(site.now, again) else {
        panic!("there is no ban any more");
    };
    assert_eq!(text, "no such ban: 203.0.113.7");
    assert!(
        site.endpoint
            .accepts_connection(site.now, STRANGER.parse().unwrap())
    );
    site.jump(Duration::from_secs(60));
    site.prove(STRANGER);
}

/// Whoever is told that a ban is lifted finds it lifted: under a wider one nothing is, and its name is told.
#[test]
fn what_a_wider_ban_covers_is_not_lifted() {
    let mut site = Site::new();
    let ask = |site: &mut Site, command| site.endpoint.command(site.now, command);
    let widths = ["2001:db8:0:7::/64", "2001:db8::/56", "2001:db8::/48"];
    for text in widths {
        let command = Command::Ban {
            source: text.parse().unwrap(),
            duration: None,
        };
        assert!(matches!(ask(&mut site, command), Answer::Banned(_)));
    }
    site.endpoint.clear_outputs();
    let unban = |text: &str| Command::Unban {
        source: text.parse().unwrap(),
    };
    for (text, wider) in [
        (widths[0], widths[2]),
        (widths[1], widths[2]),
        ("2001:db8:0:9::/64", widths[2]),
    ] {
        let Answer::Refused(reason) = ask(&mut site, unban(text)) else {
            panic!("{text} is still dropped");
        };
        let expected = format!("{text} lies in {wider}, which is banned: lift that first");
        assert_eq!(reason, expected);
    }
    assert_eq!(site.endpoint.outputs().count(), 0);
    let inside: std::net::SocketAddr = "[2001:db8:0:7::1]:5060".parse().unwrap();
    for text in [widths[2], widths[1], widths[0]] {
        assert!(!site.endpoint.accepts_connection(site.now, inside));
        assert!(
            matches!(ask(&mut site, unban(text)), Answer::Done),
            "{text}"
        );
    }
    assert!(site.endpoint.accepts_connection(site.now, inside));
}

#[test]
fn every_ban_shows_why_and_until_when() {
    let mut site = Site::new();
    ban(&mut site, STRANGER);
    let command = Command::Bans {
        after: None,
        limit: 10,
    };
    let Answer::Bans(page) = site.endpoint.command(site.now, command) else {
        panic!()
    };
    let shown = serde_json::to_value(&page.items[0]).unwrap();
    assert_eq!(shown["source"], "203.0.113.7");
    assert_eq!(shown["reason"], "credentials");
    assert_eq!(shown["failures"], 5);
    assert_eq!(shown["users"], serde_json::json!(["100"]));
    assert!(shown["until"].is_string() && shown["first_seen"].is_string());
}

#[test]
fn trunks_and_users_by_address_cannot_be_banned() {
    let config = format!("{CONFIG}[trunk six]\naddresses = [2001:db8::7]:5060\n");
    for (from, near) in [
        (USER, "192.0.2.2:9999"),
        (TRUNK, "198.51.100.4:9999"),
        ("[2001:db8::7]:5060", "[2001:db8::8]:5060"),
    ] {
        let mut site = Site::of(&config);
        // Something there tries to register as others, from the address itself and from beside it.
        for n in 0..40 {
            for from in [from, near] {
                let outcome = site.fail(from, "100", n);
                assert!(outcome.banned.is_empty(), "{from}");
                assert!(row(&outcome).is_none());
                site.jump(Duration::from_millis(300));
            }
        }
        assert_eq!(site.counts().2, 0, "{from}");
        let command = Command::Ban {
            source: source(from),
            duration: None,
        };
        let answer = site.endpoint.command(site.now, command);
        assert!(matches!(answer, Answer::Refused(_)), "{from} {answer:?}");
        assert_eq!(
            site.udp(from, Request::new("OPTIONS").by("102").text())
                .statuses(),
            [200],
            "{from}"
        );
    }
}

#[test]
fn a_forger_cannot_have_his_victim_banned() {
    let mut site = Site::new();
    let own = site.challenge(STRANGER);
    // He gets no nonce of the victim's; his own is a foreign one there.
    for n in 0..500 {
        let request = Request::new("REGISTER")
            .user("100")
            .sign(&own, "100", &n.to_string());
        let outcome = site.udp("203.0.113.99:5060", request.text());
        assert!(outcome.banned.is_empty());
        site.jump(Duration::from_millis(200));
    }
    assert_eq!(site.counts().2, 0);
    site.jump(Duration::from_secs(60));
    site.prove("203.0.113.99:5060");
}

#[test]
fn an_office_behind_one_address_comes_back_after_a_power_cut() {
    let mut users = String::new();
    for n in 0..40 {
        users.push_str(&format!("[user 2{n:02}]\npassword = phone-{n}-kXq7\n"));
    }
    let mut site = Site::of(&format!("{CONFIG}{users}"));
    site.prove("203.0.113.7:5060");
    // One phone is broken, all others come at once.
    for n in 0..40 {
        let (user, from) = (format!("2{n:02}"), format!("203.0.113.7:{}", 20_000 + n));
        let broken = site.fail("203.0.113.7:19999", "100", n);
        assert!(broken.banned.is_empty());
        let challenge = site
            .udp(&from, Request::new("REGISTER").user(&user).text())
            .only();
        let contact = format!("<sip:{user}@10.1.1.1:{}>", 20_000 + n);
        let request = Request::new("REGISTER").user(&user).contact(&contact);
        let outcome = site.udp(
            &from,
            request
                .sign(&challenge, &user, &format!("phone-{n}-kXq7"))
                .text(),
        );
        assert_eq!(outcome.statuses(), [200], "{user}");
    }
    assert_eq!(site.counts(), (41, 0, 0));
}

#[test]
fn a_password_cracker_gets_five_guesses() {
    // As svcrack does: a request, then the same with a guess for the challenge; 100 a second.
    let mut site = Site::new();
    let mut guesses = 0;
    let mut banned = Vec::new();
    let mut challenge: Option<String> = None;
    for n in 0..3_000 {
        let request = Request::new("REGISTER").user("100");
        let request = match &challenge {
            Some(challenge) => {
                guesses += 1;
                request.sign(challenge, "100", &format!("{n:04}"))
            }
            None => request,
        };
        let outcome = site.udp(STRANGER, request.text());
        challenge = outcome.sent.first().map(|(_, text)| text.clone());
        banned.extend(outcome.banned);
        assert!(
            !outcome
                .kept
                .iter()
                .any(|change| matches!(change, Change::Binding(_)))
        );
        site.pass(Duration::from_millis(10));
    }
    assert_eq!((guesses, banned.len()), (5, 1));
    let dropped = site.status().guard.dropped;
    assert!(dropped > 2_900, "{dropped}");
}

#[test]
fn an_ipv6_ban_holds_for_the_whole_64() {
    let mut site = Site::new();
    for n in 0..5 {
        let from = format!("[2001:db8:5:5::{n}]:5060");
        site.fail(&from, "100", n);
        site.jump(Duration::from_secs(2));
    }
    assert_eq!(site.counts().2, 1);
    assert!(
        site.udp(
            "[2001:db8:5:5:ffff::1]:5060",
            Request::new("REGISTER").text()
        )
        .is_silent()
    );
    site.prove("[2001:db8:5:6::1]:5060");
}

#[test]
fn observing_says_and_does_nothing() {
    let config = format!("{CONFIG}[guard]\nmode = observe\n");
    let mut site = Site::of(&config);
    let mut said = 0;
    for n in 0..40 {
        let outcome = site.fail(STRANGER, "100", n);
        assert_eq!(outcome.statuses(), [401]);
        assert!(outcome.banned.is_empty() && row(&outcome).is_none());
        said += outcome
            .events
            .iter()
            .filter(|(name, fields)| *name == "ban" && fields["mode"] == "observe")
            .count();
    }
    assert_eq!(said, 1);
    assert!(
        site.endpoint
            .accepts_connection(site.now, STRANGER.parse().unwrap())
    );
    site.prove(STRANGER);
    // An administrator's ban is no more than said either, and does not come to life in the next run.
    let command = Command::Ban {
        source: source("203.0.113.9:1"),
        duration: None,
    };
    assert!(matches!(
        site.endpoint.command(site.now, command),
        Answer::Banned(_)
    ));
    let acts: Vec<_> = site
        .endpoint
        .outputs()
        .map(|output| format!("{output:?}"))
        .collect();
    assert!(
        !acts
            .iter()
            .any(|act| act.starts_with("Banned") || act.starts_with("Keep")),
        "{acts:?}"
    );
    site.endpoint.clear_outputs();
    site.prove("203.0.113.9:5060");
}

#[test]
fn turning_observation_off_begins_with_a_clean_slate() {
    let observe = format!("{CONFIG}[guard]\nmode = observe\n");
    let mut site = Site::of(&observe);
    for n in 0..10 {
        site.fail(STRANGER, "100", n);
    }
    let config = Config::read(CONFIG, std::path::Path::new(".")).unwrap();
    site.endpoint.reload(site.now, config);
    site.pass(Duration::from_secs(120));
    assert_eq!(site.counts().2, 0);
    site.prove(STRANGER);
}

#[test]
fn a_neighbours_guesses_do_not_delay_a_registered_phone() {
    let mut site = Site::new();
    site.prove("203.0.113.7:5060");
    // Somebody behind the same address guesses at this very user, and waits ever longer.
    let mut answered = 0;
    for n in 0..60 {
        answered += site.fail("203.0.113.7:6666", "100", n).sent.len();
        if n % 20 == 19 {
            site.prove("203.0.113.7:5060");
        }
        site.jump(Duration::from_secs(1));
    }
    assert!(answered < 30, "{answered} of 60");
    assert_eq!(site.counts(), (1, 0, 0));
}

#[test]
fn what_deny_names_is_never_answered_and_allow_never_banned() {
    let config = format!(
        "{CONFIG}[guard]\ndeny = 203.0.113.0/24, 2001:db8:66::/48\nallow = 203.0.114.0/24\n"
    );
    let mut site = Site::of(&config);
    for from in [STRANGER, "203.0.113.255:1", "[2001:db8:66:1::1]:5060"] {
        for method in ["REGISTER", "INVITE", "OPTIONS"] {
            assert!(site.udp(from, Request::new(method).text()).is_silent());
        }
        assert!(
            !site
                .endpoint
                .accepts_connection(site.now, from.parse().unwrap())
        );
    }
    for n in 0..50 {
        assert!(site.fail("203.0.114.9:5060", "100", n).banned.is_empty());
        site.jump(Duration::from_millis(500));
    }
    assert_eq!(site.counts().2, 0);
    let command = Command::Ban {
        source: source("203.0.114.9:1"),
        duration: None,
    };
    let answer = site.endpoint.command(site.now, command);
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
}

#[test]
fn a_ban_of_a_prefix_is_shown_kept_and_lifted_as_what_it_is() {
    let mut site = Site::of(&CONFIG.replace("addresses = 192.0.2.3", "addresses = 2001:db8:2::7"));
    let mut last = Outcome::default();
    for subnet in 0..4 {
        for n in 0..5 {
            last = site.fail(&format!("[2001:db8:1:{subnet}::5]:5060"), "100", n);
            site.jump(Duration::from_secs(1));
        }
    }
    let wide: Source = "2001:db8:1::/56".parse().unwrap();
    let own: Source = "2001:db8:1:3::/64".parse().unwrap();
    assert_eq!(last.banned, [own, wide], "their connections are closed");
    let kept: Vec<_> = (last.kept.iter())
        .filter_map(|change| match change {
            Change::Ban(row) => Some((**row).clone()),
            _ => None,
        })
        .collect();
    assert_eq!(kept.len(), 2);
    let inside = "[2001:db8:1:ff::1]:5060";
    let register = || Request::new("REGISTER").user("100").text();
    assert!(site.udp(inside, register()).is_silent());
    let connection = site.connect(inside, 2);
    assert_eq!(site.tcp(connection, register()).closed, [connection]);
    let kept = Snapshot {
        bans: kept,
        ..Snapshot::default()
    };
    let mut restarted = Site::restarted(CONFIG, site.now, kept);
    assert!(restarted.udp(inside, register()).is_silent());
    let command = Command::Bans {
        after: None,
        limit: 10,
    };
    let Answer::Bans(page) = site.endpoint.command(site.now, command) else {
        panic!("no list")
    };
    let items = page.items.iter();
    let shown: Vec<_> = items
        .map(|ban| (ban.source.as_str(), ban.failures))
        .collect();
    assert_eq!(
        shown[..2],
        [("2001:db8:1:3::/64", 5), ("2001:db8:1::/56", 20)],
        "newest first"
    );
    assert_eq!(shown.len(), 5);
    let unban =
        |site: &mut Site, source| site.endpoint.command(site.now, Command::Unban { source });
    assert!(matches!(unban(&mut site, wide), Answer::Done));
    assert!(!matches!(unban(&mut site, wide), Answer::Done));
    assert_eq!(site.udp(inside, register()).statuses(), [401]);
    assert!(site.udp("[2001:db8:1:3::5]:5060", register()).is_silent());
    // By hand too, but not where a user by address is.
    for (source, is_banned) in [("2001:db8:1::/48", true), ("2001:db8:2::/48", false)] {
        let command = Command::Ban {
            source: source.parse().unwrap(),
            duration: None,
        };
        let answer = site.endpoint.command(site.now, command);
        assert_eq!(
            matches!(answer, Answer::Banned(_)),
            is_banned,
            "{source}: {answer:?}"
        );
    }
    assert!(site.udp(inside, register()).is_silent());
}

#[test]
fn observing_says_what_it_would_do_to_neighbours_and_does_not() {
    let config = CONFIG.replace("[server]\n", "[guard]\nmode = observe\n[server]\n");
    let mut site = Site::of(&config);
    site.prove("192.0.2.7:5060");
    let mut said = Vec::new();
    for n in 0..30 {
        let outcome = site.fail("192.0.2.7:5070", &format!("name{n}"), n);
        assert_eq!(outcome.statuses(), [401], "{n}");
        assert!(
            outcome.banned.is_empty() && outcome.kept.is_empty(),
            "{outcome:#?}"
        );
        said.extend(outcome.events);
    }
    let bans: Vec<_> = said.iter().filter(|(name, _)| *name == "ban").collect();
    assert_eq!(bans.len(), 1, "{bans:?}");
    assert_eq!(
        (&*bans[0].1["reason"], &*bans[0].1["mode"]),
        ("scan", "observe")
    );
    for _ in 0..100 {
        let outcome = site.udp("192.0.2.7:5070", Request::new("OPTIONS").text());
        assert_eq!(outcome.statuses(), [200], "as known as ever");
    }
    let before = site.status().guard.dropped;
    for n in 0..100 {
        site.udp(
            STRANGER,
            Request::new("REGISTER").user(&n.to_string()).text(),
        );
    }
    assert!(
        site.status().guard.dropped > before,
        "what would have been dropped"
    );
}
