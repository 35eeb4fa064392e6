//! What somebody who is known can make the server keep is bounded too, and goes when its time is over (CVE-2021-41145,
//! CVE-2026-57191): MESSAGEs to phones that answer nothing, subscriptions.

use std::path::Path;
use std::time::Duration;

use sipkeep::config::Config;
use sipkeep::limits::{
    LETTER_AGE_MAX, LETTER_BYTES_MAX, LETTER_SWEEP, LETTERS_PER_PAIR_MAX, LETTERS_PER_USER_MAX,
    PAGES_PER_SENDER_MAX, SUBSCRIPTIONS_PER_USER_MAX,
};
use sipkeep::store::{Change, MessageRow, Snapshot};

use super::harness::{
    CONFIG, Call, OTHER, Outcome, Request, Site, USER, answer, header, status, tag,
};

/// A user by address (102 at USER, 103 at OTHER) writes.
fn message(from: &str, to: &str) -> Request {
    let mut request = Request::new("MESSAGE")
        .by(from)
        .line("Content-Type: text/plain");
    request.uri = format!("sip:{to}@192.0.2.100");
    request.body = "hello".to_owned();
    request
}

/// What was sent that begins so.
fn sent(outcome: &Outcome, begin: &str) -> String {
    let mut texts = outcome.sent.iter().map(|(_, text)| text);
    let found = texts.find(|text| text.starts_with(begin));
    found
        .unwrap_or_else(|| panic!("no {begin}: {outcome:#?}"))
        .clone()
}

fn subscribe(user: &str, number: usize) -> Request {
    let mut request = Request::new("SUBSCRIBE")
        .user(user)
        .contact(&format!("<sip:{user}@10.1.1.1:{}>", 5_000 + number))
        .line("Event: message-summary");
    request.uri = format!("sip:{user}@192.0.2.100");
    request
}

#[test]
fn messages_to_a_silent_phone_are_so_many_at_a_time() {
    let mut site = Site::new();
    for _ in 0..PAGES_PER_SENDER_MAX {
        let outcome = site.udp(USER, message("102", "103").text());
        assert!(outcome.to(OTHER).starts_with("MESSAGE "), "{outcome:?}");
    }
    let outcome = site.udp(USER, message("102", "103").text());
    assert_eq!(outcome.statuses(), [503]);
    assert!(header(&outcome.only(), "Retry-After").is_some());
    // Another sender's go on.
    let outcome = site.udp(OTHER, message("103", "102").text());
    let outgoing = outcome.to(USER).to_owned();
    let outcome = site.udp(USER, answer(&outgoing, 200, "x", "", ""));
    assert_eq!(outcome.statuses(), [200]);
    assert_eq!(site.endpoint.census().pages, PAGES_PER_SENDER_MAX);
    // Each is answered in time, and gone.
    let answers = site.pass(Duration::from_secs(31)).statuses();
    assert_eq!(answers, [480].repeat(PAGES_PER_SENDER_MAX));
    assert_eq!(site.endpoint.census().pages, 0);
    let outcome = site.udp(USER, message("102", "103").text());
    assert!(outcome.to(OTHER).starts_with("MESSAGE "), "{outcome:?}");
}

/// What waits for a user who is not there is bounded, of each sender too, and what was accepted stays.
#[test]
fn messages_that_wait_for_a_user_are_so_many_and_go_after_their_time() {
    let config = format!(
        "{CONFIG}[user 104]\npassword = waits-long-7Kx\nstore_messages = yes\n\
         [user 105]\naddresses = 192.0.2.5\n[user 106]\naddresses = 192.0.2.6\n[user 107]\naddresses = 192.0.2.7\n"
    );
    let mut site = Site::of(&config);
    // Over a connection, which shows that it is they.
    let mut senders = Vec::new();
    for (number, user) in ["102", "103", "105", "106", "107"].iter().enumerate() {
        let address = format!("192.0.2.{}:5060", &user[2..]);
        senders.push((*user, site.connect(&address, number as u64)));
    }
    let written = |site: &mut Site, (user, connection), body: &str| {
        let mut request = message(user, "104");
        request.body = body.to_owned();
        site.tcp(connection, request.text())
    };
    for sender in &senders[..LETTERS_PER_USER_MAX / LETTERS_PER_PAIR_MAX] {
        for _ in 0..LETTERS_PER_PAIR_MAX {
            let outcome = written(&mut site, *sender, "hello");
            assert_eq!(outcome.statuses(), [202]);
            let kept =
                |change: &Change| matches!(change, Change::Message(row) if row.user == "104");
            assert!(outcome.kept.iter().any(kept), "{outcome:?}");
        }
        let outcome = written(&mut site, *sender, "one more");
        assert_eq!((outcome.statuses(), outcome.kept.len()), (vec![480], 0));
    }
    let last = senders[senders.len() - 1];
    let outcome = written(&mut site, last, "of another sender");
    assert_eq!((outcome.statuses(), outcome.kept.len()), (vec![480], 0));
    assert_eq!(site.endpoint.census().letters, LETTERS_PER_USER_MAX);
    let gone = site.pass(LETTER_AGE_MAX + LETTER_SWEEP).events;
    let gone = gone.iter().filter(|(name, _)| *name == "message_expired");
    assert_eq!(gone.count(), LETTERS_PER_USER_MAX);
    assert_eq!(site.endpoint.census().letters, 0);
    let outcome = written(&mut site, last, &"x".repeat(LETTER_BYTES_MAX));
    assert_eq!(outcome.statuses(), [480]);
    let outcome = written(&mut site, last, &"x".repeat(LETTER_BYTES_MAX - 512));
    assert_eq!(outcome.statuses(), [202]);
}

/// What waited when the last run ended waits on, but for whoever is no user any more.
#[test]
fn messages_wait_over_a_restart_for_users_only() {
    let config = format!("{CONFIG}[user 104]\npassword = waits-long-7Kx\nstore_messages = yes\n");
    let mut site = Site::of(&config);
    let connection = site.connect(USER, 1);
    let outcome = site.tcp(connection, message("102", "104").text());
    let messages: Vec<MessageRow> = (outcome.kept.into_iter())
        .filter_map(|change| match change {
            Change::Message(row) => Some(*row),
            _ => None,
        })
        .collect();
    assert_eq!(messages.len(), 1);
    for (config, letters) in [(config.as_str(), 1), (CONFIG, 0)] {
        let kept = Snapshot {
            messages: messages.clone(),
            ..Snapshot::default()
        };
        let site = Site::restarted(config, site.now, kept);
        assert_eq!(site.endpoint.census().letters, letters);
    }
}

#[test]
fn subscriptions_of_a_user_are_so_many_and_end() {
    let mut site = Site::new();
    for number in 0..SUBSCRIPTIONS_PER_USER_MAX {
        let outcome = site.udp(USER, subscribe("102", number).text());
        assert_eq!(outcome.statuses(), [200], "{number}");
        let notify = sent(&outcome, "NOTIFY ");
        site.udp(USER, answer(&notify, 200, "", "", ""));
    }
    let outcome = site.udp(USER, subscribe("102", 999).text());
    assert_eq!(outcome.statuses(), [503]);
    assert_eq!(
        site.udp(OTHER, subscribe("103", 0).text()).statuses(),
        [200]
    );
    // Who says nothing to his NOTIFY has none any more.
    site.pass(Duration::from_secs(33));
    assert_eq!(
        site.endpoint.census().subscriptions,
        SUBSCRIPTIONS_PER_USER_MAX
    );
    let ended = site.pass(Duration::from_secs(3_601));
    let last = |text: &str| text.contains("Subscription-State: terminated;reason=timeout\r\n");
    let told = ended.sent.iter().filter(|(_, text)| last(text)).count();
    assert!(told >= SUBSCRIPTIONS_PER_USER_MAX);
    assert_eq!(site.endpoint.census().subscriptions, 0);
}

#[test]
fn a_long_subscribe_is_not_kept() {
    let mut site = Site::new();
    let route = format!("Record-Route: <sip:{}@192.0.2.66;lr>", "x".repeat(5_000));
    let outcome = site.udp(USER, subscribe("102", 0).line(&route).text());
    assert_eq!(outcome.statuses(), [513]);
    assert_eq!(site.endpoint.census().subscriptions, 0);
}

#[test]
fn subscriptions_end_with_their_user_and_with_the_run() {
    let refresh = |granted: &str| {
        let mut request = subscribe("102", 0);
        request.from = header(granted, "From").unwrap().to_owned();
        request.to = header(granted, "To").unwrap().to_owned();
        request.call_id = header(granted, "Call-ID").unwrap().to_owned();
        assert!(!tag(&request.to).is_empty());
        request.cseq = 2;
        request
    };
    let granted = |site: &mut Site| {
        let outcome = site.udp(USER, subscribe("102", 0).text());
        sent(&outcome, "SIP/2.0 200 ")
    };
    let mut site = Site::new();
    let first = granted(&mut site);
    let refreshed = site.udp(USER, refresh(&first).text());
    assert_eq!(refreshed.statuses(), [200]);
    // A reload that changes nothing for him leaves it.
    let reload = |site: &mut Site, text: &str| {
        let config = Config::read(text, Path::new(".")).expect("a good configuration");
        site.endpoint.reload(site.now, config);
        site.endpoint.clear_outputs();
    };
    reload(
        &mut site,
        &format!("[user 099]\npassword = another-one-7Kx\n{CONFIG}"),
    );
    assert_eq!(site.endpoint.census().subscriptions, 1);
    reload(&mut site, &CONFIG.replace("102", "112"));
    assert_eq!(site.endpoint.census().subscriptions, 0);
    // Another run knows nothing of it, and says so: the phone begins anew.
    let mut site = Site::restarted(CONFIG, site.now, Snapshot::default());
    let outcome = site.udp(USER, refresh(&first).text());
    assert_eq!(status(&outcome.only()), 481);
}

/// Whoever is in a call hears of its end also when no transaction is free to repeat it.
#[test]
fn a_bye_goes_out_when_there_is_no_transaction_for_it() {
    let mut config = CONFIG.to_owned();
    config.push_str("[call]\ncalls_max = 1\n[registrar]\nbindings_per_user_max = 16\n[user phones]\naddresses = 192.0.2.9\n");
    for sender in 0..6 {
        config.push_str(&format!("[user s{sender}]\naddresses = 10.0.0.{sender}\n"));
    }
    let mut site = Site::of(&config);
    let call = Call::up(&mut site);
    for port in 6000..6016 {
        let contact = format!("<sip:phones@192.0.2.9:{port}>");
        let register = Request::new("REGISTER").user("phones").contact(&contact);
        let outcome = site.udp(&format!("192.0.2.9:{port}"), register.text());
        assert_eq!(outcome.statuses(), [200]);
    }
    let mut is_full = false;
    for number in 0..6 * PAGES_PER_SENDER_MAX {
        let sender = number / PAGES_PER_SENDER_MAX;
        let page = message(&format!("s{sender}"), "phones");
        let outcome = site.udp(&format!("10.0.0.{sender}:5060"), page.text());
        is_full |= outcome.statuses() == [503];
    }
    assert!(is_full);
    let outcome = site.udp(USER, call.within("BYE", 2).text());
    assert!(outcome.to(USER).starts_with("SIP/2.0 200 "), "{outcome:?}");
    assert!(outcome.to(OTHER).starts_with("BYE "), "{outcome:?}");
    assert_eq!(site.counts().1, 0);
    assert!(!site.endpoint.census().has_calls);
}
