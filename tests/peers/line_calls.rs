//! Lines at carriers that do odd things, played by SIPp: calls.

use std::time::Duration;

use serde_json::{Value, json};

use super::capture::Capture;
use super::harness::{Network, Server, assert_fields};
use super::kamailio::PASSWORD;
use super::sipp::{Playing, Sipp};

/// The realm of the carrier's digest, as in the scenarios.
const REALM: &str = "carrier.test";

/// 100 and 101 at .2 and .3, a line to .10 that is not registered.
struct Office {
    _capture: Capture,
    server: Server,
}

impl Office {
    /// `keys` continue the section of the line.
    fn open(keys: &str) -> Self {
        let config = format!(
            "log = debug\n\n[user 100]\naddresses = {{net}}.2:5060\n\n[user 101]\naddresses = {{net}}.3:5060\n\n\
             [line carrier]\naccount = 5551000\nserver = {REALM}\noutbound_proxy = {{net}}.10:5060\n\
             password = {PASSWORD}\nregister = no\nkeepalive = 0\nincoming = 101\n{keys}"
        );
        let server = Server::start(Network::take(), &config);
        Self {
            _capture: Capture::of(&server),
            server,
        }
    }

    /// SIPp at .host.
    fn at(&self, host: u8, scenario: &'static str) -> Sipp {
        Sipp::new(self.server.sip(), scenario, self.server.network.host(host))
            .place("REALM", REALM)
            .place("ELSEWHERE", self.server.network.host(9).to_string())
    }

    fn carrier(&self, scenario: &'static str) -> Playing {
        let playing = self.at(10, scenario).start();
        // SIPp binds its port within this time.
        std::thread::sleep(Duration::from_millis(300));
        playing
    }

    /// 100 calls a number outside.
    fn caller(&self, scenario: &'static str) -> Sipp {
        self.at(2, scenario).caller("100").service("94930123")
    }

    /// The record of the one call, which went out.
    fn record(&self, fields: &[(&str, Value)]) -> Value {
        let record = self.server.record();
        assert_fields(
            &record,
            &[
                ("direction", json!("outgoing")),
                ("caller", json!("100")),
                ("dialled", json!("94930123")),
            ],
        );
        assert_fields(&record, fields);
        record
    }
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn reliable_responses_that_nobody_acknowledges() {
    let office = Office::open("");
    let carrier = office.carrier("line_prack_405");
    office.caller("call_progress").run();
    carrier.well();
    office.record(&[
        ("disposition", json!("answered")),
        ("through", json!("line:carrier")),
    ]);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn ringing_and_early_media_in_turn() {
    let office = Office::open("");
    let carrier = office.carrier("line_early");
    office.caller("call_early").run();
    carrier.well();
    office.record(&[
        ("disposition", json!("answered")),
        ("through", json!("line:carrier")),
    ]);
}

/// Nobody is called at what the carrier's 302 names.
#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_carrier_redirects() {
    let office = Office::open("");
    let carrier = office.carrier("line_302");
    let elsewhere = office.at(9, "line_silent").place("STAY", "1000").start();
    let said = office
        .caller("call_refused_plain")
        .status(480)
        .start()
        .finish()
        .1;
    carrier.well();
    assert_eq!(elsewhere.messages(), "", "nobody follows");
    drop(elsewhere);
    let elsewhere = office.server.network.host(9).to_string();
    assert!(!said.contains(&elsewhere), "{said}");
    office.record(&[("status", json!(480)), ("answer", Value::Null)]);
}

/// A carrier that takes no notice is left for the next one, and hears nothing more.
#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_carrier_says_nothing() {
    let office = Office::open(&format!(
        "\n[line second]\naccount = 5552000\nserver = second.test\noutbound_proxy = {{net}}.11:5060\n\
         password = {PASSWORD}\nregister = no\nkeepalive = 0\n"
    ));
    let silent = office.carrier("line_silent");
    let second = office.at(11, "answer").start();
    let said = office.caller("call_plain").run();
    let heard = second.well();
    assert!(heard.contains("INVITE sip:4930123@second.test"), "{heard}");
    assert!(heard.contains("From: <sip:5552000@second.test>"), "{heard}");
    drop(silent);
    assert_eq!(said.matches("SIP/2.0 180").count(), 1, "{said}");
    let fields = [
        ("disposition", json!("answered")),
        ("through", json!("line:second")),
    ];
    office.record(&fields);
}

/// Whoever rings for ever is cancelled after the line's own time.
#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn nobody_answers() {
    let office = Office::open("ring_timeout = 3s\n");
    let carrier = office.carrier("answer_cancelled");
    office.caller("call_refused_plain").status(480).run();
    carrier.well();
    let record = office.record(&[("disposition", json!("no_answer"))]);
    let rang = record["duration_ms"].as_u64().unwrap();
    assert!((3_000..5_000).contains(&rang), "{record:#}");
}

/// What a phone asks for, it is not given: the credentials are the carrier's.
#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_phone_asks_for_the_lines_credentials() {
    let office = Office::open("");
    for (phone, world) in [
        ("answer_407", "call_refused_plain"),
        ("answer_bye_407", "call_plain"),
    ] {
        let callee = office.at(3, phone).start();
        std::thread::sleep(Duration::from_millis(300));
        let said = office
            .at(10, world)
            .caller("4930123")
            .service("5551000")
            .status(500)
            .run();
        let heard = callee.well();
        assert!(heard.contains("Proxy-Authenticate: Digest"), "{heard}");
        for messages in [&heard, &said] {
            assert!(!messages.contains("uthorization"), "{messages}");
        }
        assert!(!said.contains("Authenticate"), "{said}");
    }
}
