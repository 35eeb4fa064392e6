//! Plays every file in `tests/scenarios`. `SCENARIO=part-of-a-name` plays only some of them.

use std::fs;
use std::path::Path;

use sipkeep::testing::scenario;

/// Fewer than these would mean that they were not found.
const SCENARIOS_MIN: usize = 100;

#[test]
fn scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of scenarios")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(
        files.len() >= SCENARIOS_MIN,
        "only {} scenarios found",
        files.len()
    );
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let mut failures = Vec::new();
    let mut played = 0;
    for file in files {
        let name = file
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if !name.contains(&wanted) {
            continue;
        }
        played += 1;
        let text = fs::read_to_string(&file).expect("a readable scenario");
        match scenario::play(&text) {
            Ok(()) => println!("scenario {name}: ok"),
            Err(error) => {
                println!("scenario {name}: FAILED");
                failures.push(format!("tests/scenarios/{name}.txt: {error}"));
            }
        }
    }
    println!("{played} scenarios, {} failed", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Subscriptions that nobody has accepted a NOTIFY for have a part of the room, and not for long.
#[test]
fn forged_subscriptions_leave_room() {
    let mut text = String::from(
        "# forged subscriptions leave room\nagent gate 192.0.2.50:5060\nagent gates 192.0.2.50:43000 user=gate tcp\n\
         config:\n  [user gate]\n  addresses = 192.0.2.50\n",
    );
    for number in 0..64 {
        text += &format!(
            "0ms gate > SUBSCRIBE sip:gate@pbx from=192.0.2.50:9999 call_id=f{number} from_tag=f{number}\n\
             | Event: message-summary;id={number}\n"
        );
    }
    for (time, agent, call_id, status) in [
        ("1s", "gate", "one", 503),
        ("2s", "gates", "two", 200),
        ("40s", "gate", "three", 200),
    ] {
        text += &format!(
            "{time} {agent} > SUBSCRIBE sip:gate@pbx call_id={call_id} from_tag={call_id}\n| Event: message-summary\n\
             {time} {agent} < {status} SUBSCRIBE\n"
        );
        if status == 200 {
            text += &format!(
                "{time} {agent} < NOTIFY call_id={call_id}\n{time} {agent} > 200 NOTIFY\n"
            );
        }
        if status == 503 {
            text += "1s server has subscriptions=64\n";
        }
    }
    text += "41s server has subscriptions=2\n";
    scenario::play(&text).unwrap();
}

/// Each user has a phone that is switched off, so each short call leaves an INVITE behind that nobody answers for 64·T1.
/// What is left of them keeps no new call out, and does not grow.
#[test]
fn short_calls_beside_dead_phones() {
    let mut text = String::from(
        "# what is left of ended calls does not count against new ones\nagent desk 192.0.2.21:5060 user=bob\n\
         config:\n  [call]\n  calls_max = 1\n\
         0ms alice registers\n0ms desk registers\n0ms bob registers\n",
    );
    // The first caller never acknowledges, and so is owed a BYE.
    text.push_str(
        "0ms carol registers\n\
         1s carol > INVITE sip:bob@pbx\n1s carol < 100\n1s bob < INVITE\n1s desk < INVITE\n\
         1s bob > 200\n1s bob < ACK\n1s carol < 200\n\
         1s bob > BYE\n1s bob < 200 BYE\n1s record caller=carol disposition=answered\n",
    );
    for call in 1..100 {
        let at = 1000 + call * 4;
        text.push_str(&format!(
            "{at}ms alice > INVITE sip:bob@pbx\n{at}ms alice < 100\n{at}ms bob < INVITE\n{at}ms desk < INVITE\n\
             {at}ms bob > 200\n{at}ms bob < ACK\n{at}ms alice < 200\n{at}ms alice > ACK\n\
             {at}ms alice hangs up on bob\n{at}ms record disposition=answered\n"
        ));
        if call == 68 {
            text.push_str(&format!("{at}ms carol < BYE\n{at}ms carol > 200 BYE\n"));
        }
    }
    // The first INVITEs would come again from here on; those that are forgotten do not.
    text.push_str("1500ms server has calls=0 transactions=68\n");
    for sent in [500, 1500, 3500, 7500, 15_500, 31_500] {
        for call in 32..100 {
            text.push_str(&format!("{}ms desk < INVITE\n", 1000 + sent + call * 4));
        }
    }
    if let Err(error) = scenario::play(&text) {
        panic!("{error}");
    }
}

/// A call's timers are due long after a short call: what is kept of them is bounded by the calls that there are, 1,024 beside.
#[test]
fn timers_of_calls_that_are_over_have_a_bound() {
    let mut text = String::from("# t\n0ms alice registers\n0ms bob registers\n");
    for call in 0..600 {
        let at = 1000 + call * 10;
        text += &format!("{at}ms alice talks to bob\n{at}ms alice hangs up on bob\n");
        text += &format!("{at}ms record disposition=answered\n");
    }
    scenario::play(&text).unwrap();
}

/// The lines of a scenario in which bob's phone is called.
fn ringing(invite: &str) -> String {
    format!(
        "# t\n0ms alice registers\n0ms bob registers\n1s alice > INVITE sip:bob@pbx\n{invite}1s alice < 100\n1s bob < INVITE\n"
    )
}

/// Behind a proxy there may be any number of phones; 32 early dialogs are taken part in.
#[test]
fn early_dialogs_have_a_bound() {
    let mut text = ringing("");
    for fork in 0..40 {
        text += &format!("1s bob > 180 to_tag=fork{fork}\n");
        if fork < 32 {
            text += &format!("1s alice < 180 to_tag=$t{fork}\n");
        }
    }
    // One that was left out may answer all the same.
    text +=
        "3s bob > 200 to_tag=fork39\n3s bob < ACK to_tag=fork39\n3s alice < 200\n3s alice > ACK\n";
    text += "4s alice > BYE\n4s alice < 200 BYE\n4s bob < BYE to_tag=fork39\n4s bob > 200 BYE\n";
    text += "4s record disposition=answered\n";
    scenario::play(&text).unwrap();
}

/// RFC 3262 §3: one reliable response is on its way at a time, eight wait for it; what comes beside is as if lost.
#[test]
fn reliable_responses_that_wait_have_a_bound() {
    let mut text = ringing("| Require: 100rel\n");
    for number in 1..=20 {
        text += &format!("1s bob > 183 body=s{number}\n| Require: 100rel\n| RSeq: {number}\n");
    }
    for number in 1..=9 {
        text += &format!("1s alice < 183 body=s{number}\n1s alice > PRACK\n1s alice < 200 PRACK\n");
        text += &format!("1s bob < PRACK\n| RAck: {number} 1 INVITE\n1s bob > 200 PRACK\n");
    }
    // The callee repeats what was not taken.
    text +=
        "2s bob > 183 INVITE body=s10\n| Require: 100rel\n| RSeq: 10\n2s alice < 183 body=s10\n";
    text += "2s alice > PRACK\n2s alice < 200 PRACK\n2s bob < PRACK\n2s bob > 200 PRACK\n";
    text += "3s bob > 486 INVITE\n3s bob < ACK\n3s alice < 486\n3s alice > ACK\n3s record disposition=busy\n";
    scenario::play(&text).unwrap();
}
