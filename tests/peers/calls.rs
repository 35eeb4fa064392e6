//! Registering and calling with SIPp over UDP and TCP; every call leaves its one call record.

use serde_json::{Value, json};

use super::capture::Capture;
use super::harness::{Network, Server, assert_fields};
use super::sipp::{Playing, Sipp, users};

/// A server with users 100 and 101, and 100 and 101 at .2 and .3.
struct Office {
    _capture: Capture,
    server: Server,
    tcp: bool,
}

impl Office {
    fn open(tcp: bool) -> Self {
        Self::with(tcp, "")
    }

    /// With further sections.
    fn with(tcp: bool, sections: &str) -> Self {
        let config = format!("log = debug\n\n{}{sections}", users(&["100", "101"]));
        let server = Server::start(Network::take(), &config);
        Self {
            _capture: Capture::of(&server),
            server,
            tcp,
        }
    }

    /// SIPp as user 100.
    fn caller(&self, scenario: &'static str) -> Sipp {
        Sipp::new(self.server.sip(), scenario, self.server.network.host(2))
            .tcp(self.tcp)
            .user("100")
    }

    /// User 101 registers and waits for a call with this scenario. Over TCP it takes calls on the connection on which it
    /// registered, over UDP with a second run of SIPp on the same port.
    fn callee(&self, scenario: &'static str) -> Playing {
        let sipp = |scenario| {
            Sipp::new(self.server.sip(), scenario, self.server.network.host(3))
                .tcp(self.tcp)
                .user("101")
                .caller("100")
                .service("101")
        };
        let playing = if self.tcp {
            sipp("register_and_stay").stay(6_000, scenario).start()
        } else {
            sipp("register").run();
            sipp(scenario).start()
        };
        super::harness::wait(
            std::time::Duration::from_secs(5),
            || self.server.registered() == ["101"],
            || format!("101 did not register:\n{}", self.server.log()),
        );
        // SIPp binds its port within this time; an INVITE before that is repeated after 500 ms anyway.
        std::thread::sleep(std::time::Duration::from_millis(300));
        playing
    }

    /// Plays a call; both sides must end well. Returns its record and the messages of both.
    fn play(&self, caller: Sipp, callee: &'static str) -> (Value, String, String) {
        let callee = self.callee(callee);
        let said = caller.run();
        let heard = callee.well();
        (self.server.record(), said, heard)
    }
}

/// Fields that every call from 100 to 101 has.
fn internal(record: &Value) {
    assert_fields(
        record,
        &[
            ("direction", json!("internal")),
            ("caller", json!("100")),
            ("dialled", json!("101")),
            ("through", Value::Null),
            ("forwarded_by", Value::Null),
            ("transferred_by", Value::Null),
            ("related", Value::Null),
        ],
    );
    assert!(
        record["source"].as_str().unwrap().starts_with("127."),
        "{record:#}"
    );
    assert_eq!(record["user_agent"], "SIPp", "{record:#}");
}

/// An answered call of about this many milliseconds of talk.
fn answered(record: &Value, ended_by: &str, talk_ms: std::ops::Range<u64>) {
    assert_fields(
        record,
        &[
            ("disposition", json!("answered")),
            ("status", json!(200)),
            ("answered_by", json!("101")),
            ("ended_by", json!(ended_by)),
        ],
    );
    let talk = record["talk_ms"].as_u64().unwrap();
    let duration = record["duration_ms"].as_u64().unwrap();
    assert!(talk_ms.contains(&talk), "{record:#}");
    assert!(duration >= talk && duration < talk + 10_000, "{record:#}");
    let (caller, callee) = (&record["caller_call_id"], &record["callee_call_id"]);
    assert!(
        caller.is_string() && callee.is_string() && caller != callee,
        "two legs: {record:#}"
    );
    for field in ["start", "answer", "end"] {
        let time = record[field].as_str().unwrap();
        assert!(
            time.len() == 24 && time.ends_with('Z') && time.contains('T'),
            "{field}: {time}"
        );
    }
}

/// A call that was never answered.
fn unanswered(record: &Value, disposition: &str, status: u16) {
    assert_fields(
        record,
        &[
            ("disposition", json!(disposition)),
            ("status", json!(status)),
            ("answer", Value::Null),
            ("answered_by", Value::Null),
        ],
    );
}

fn registers(tcp: bool) {
    let office = Office::open(tcp);
    let server = &office.server;
    let register = |scenario| office.caller(scenario).service("100");
    if tcp {
        let phone = register("register_and_stay").stay(1_500, "answer").start();
        super::harness::wait(
            std::time::Duration::from_secs(5),
            || server.registered() == ["100"],
            || format!("100 did not register:\n{}", server.log()),
        );
        let item = server.items("registrations").remove(0);
        assert_eq!(
            item["transport"].as_str().unwrap().to_lowercase(),
            "tcp",
            "{item:#}"
        );
        phone.well();
        // RFC 5626: the binding is gone with its connection.
        super::harness::wait(
            std::time::Duration::from_secs(5),
            || server.registered().is_empty(),
            || "the binding outlived its connection".into(),
        );
        return;
    }
    let said = register("register").run();
    assert!(said.contains("WWW-Authenticate: Digest"), "{said}");
    let item = server.items("registrations").remove(0);
    let contact = format!("sip:100@{}:5060;transport=UDP", server.network.host(2));
    assert_fields(
        &item,
        &[
            ("user", json!("100")),
            ("contact", json!(contact)),
            ("user_agent", json!("SIPp")),
        ],
    );
    assert!(
        item["source"]
            .as_str()
            .unwrap()
            .starts_with(&server.network.host(2).to_string()),
        "{item:#}"
    );
    // The same phone again: still one binding; then it goes.
    register("register").run();
    assert_eq!(server.registered(), ["100"]);
    register("register").expires(0).run();
    assert!(server.registered().is_empty());
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_phone_registers_udp() {
    registers(false);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_phone_registers_tcp() {
    registers(true);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_wrong_password_is_challenged_again() {
    let office = Office::open(false);
    let said = office
        .caller("register_wrong")
        .service("100")
        .password("wrong")
        .run();
    assert_eq!(said.matches("SIP/2.0 401").count(), 3, "{said}");
    assert!(office.server.registered().is_empty());
    assert!(
        office.server.items("bans").is_empty(),
        "two mistakes are no attack"
    );
    // A name that does not exist is answered with the same bytes, but for what is echoed or random.
    let unknown = office
        .caller("register_wrong")
        .user("999")
        .service("999")
        .run();
    assert_eq!(unknown.matches("SIP/2.0 401").count(), 3, "{unknown}");
    assert_eq!(header_names(&said), header_names(&unknown));
    // And a correct one goes on working from the same address.
    office.caller("register").service("100").run();
    assert_eq!(office.server.registered(), ["100"]);
}

/// The header names of all responses in SIPp's message log, in order.
fn header_names(messages: &str) -> Vec<Vec<&str>> {
    messages
        .split("message received")
        .skip(1)
        .map(|message| {
            let head = message.split("-----").next().unwrap();
            head.lines()
                .skip(2)
                .filter_map(|line| line.split_once(':'))
                .map(|(name, _)| name)
                .collect()
        })
        .collect()
}

fn caller_hangs_up(tcp: bool) {
    let office = Office::open(tcp);
    let (record, _, heard) = office.play(office.caller("call"), "answer");
    internal(&record);
    answered(&record, "caller", 900..3_000);
    let invite = heard
        .split("INVITE sip:")
        .nth(1)
        .expect("the callee got no INVITE");
    assert!(
        invite.contains("sip:100@"),
        "the callee sees who calls: {invite}"
    );
    assert!(
        !invite.contains("uthorization:"),
        "credentials were passed on: {invite}"
    );
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn caller_hangs_up_udp() {
    caller_hangs_up(false);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn caller_hangs_up_tcp() {
    caller_hangs_up(true);
}

fn callee_hangs_up(tcp: bool) {
    let office = Office::open(tcp);
    let (record, _, _) = office.play(office.caller("call_until_bye"), "answer_bye");
    internal(&record);
    answered(&record, "callee", 900..3_000);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn callee_hangs_up_udp() {
    callee_hangs_up(false);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn callee_hangs_up_tcp() {
    callee_hangs_up(true);
}

fn caller_cancels(tcp: bool) {
    let office = Office::open(tcp);
    let (record, _, _) = office.play(office.caller("call_cancel"), "answer_cancelled");
    internal(&record);
    unanswered(&record, "cancelled", 487);
    assert_eq!(record["ended_by"], "caller", "{record:#}");
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn caller_cancels_udp() {
    caller_cancels(false);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn caller_cancels_tcp() {
    caller_cancels(true);
}

fn callee_is_busy(tcp: bool) {
    let office = Office::open(tcp);
    let (record, _, _) = office.play(office.caller("call_refused").status(486), "answer_busy");
    internal(&record);
    unanswered(&record, "busy", 486);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn callee_is_busy_udp() {
    callee_is_busy(false);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn callee_is_busy_tcp() {
    callee_is_busy(true);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn caller_holds_and_resumes() {
    let office = Office::open(false);
    let (record, _, _) = office.play(office.caller("call_reinvite"), "answer_reinvite");
    internal(&record);
    answered(&record, "caller", 1_400..5_000);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn callee_holds() {
    let office = Office::open(false);
    let (record, _, _) = office.play(office.caller("call_held"), "answer_holds");
    internal(&record);
    answered(&record, "caller", 900..5_000);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_number_that_leads_nowhere() {
    let office = Office::open(false);
    office
        .caller("call_refused")
        .service("5551234")
        .status(404)
        .run();
    let record = office.server.record();
    assert_fields(
        &record,
        &[("caller", json!("100")), ("dialled", json!("5551234"))],
    );
    unanswered(&record, "failed", 404);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_user_that_is_away() {
    let office = Office::open(false);
    office
        .caller("call_refused")
        .service("101")
        .status(480)
        .run();
    let record = office.server.record();
    internal(&record);
    unanswered(&record, "no_answer", 480);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_user_by_address_calls_and_is_called() {
    let office = Office::with(false, "[user 102]\naddresses = {net}.9:5060\n");
    let at_address = |scenario| {
        Sipp::new(office.server.sip(), scenario, office.server.network.host(9))
            .user("102")
            .caller("102")
    };
    let callee = office.callee("answer");
    let said = at_address("call_plain").service("101").run();
    assert!(!said.contains("SIP/2.0 401"), "{said}");
    callee.well();
    let record = office.server.record();
    answered(&record, "caller", 900..3_000);
    assert_fields(
        &record,
        &[
            ("direction", json!("internal")),
            ("caller", json!("102")),
            ("dialled", json!("101")),
        ],
    );
    // It is called where its section says, without having registered.
    let callee = at_address("answer").start();
    std::thread::sleep(std::time::Duration::from_millis(300));
    office.caller("call").service("102").run();
    callee.well();
    let record = office.server.records(2).remove(0);
    assert_fields(
        &record,
        &[
            ("direction", json!("internal")),
            ("caller", json!("100")),
            ("dialled", json!("102")),
            ("answered_by", json!("102")),
            ("disposition", json!("answered")),
        ],
    );
    assert_eq!(office.server.registered(), ["101"]);
    // The address next door is a stranger, whatever it writes into From.
    let (_, messages, _) = Sipp::new(
        office.server.sip(),
        "call_plain",
        office.server.network.host(10),
    )
    .user("102")
    .service("101")
    .start()
    .finish();
    assert!(messages.contains("SIP/2.0 401"), "{messages}");
    assert_eq!(
        office.server.items("cdrs").len(),
        2,
        "an unauthenticated attempt is no record"
    );
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_trunk_calls() {
    let office = Office::with(
        false,
        "[trunk office-b]\naddresses = {net}.8:5060\nkeepalive = 0\n",
    );
    let trunk = |scenario| {
        Sipp::new(office.server.sip(), scenario, office.server.network.host(8))
            .caller("+4930123456")
            .service("101")
    };
    let callee = office.callee("answer");
    let said = trunk("call_plain").run();
    assert!(!said.contains("SIP/2.0 401"), "{said}");
    let heard = callee.well();
    assert!(
        heard.contains("+4930123456"),
        "the callee sees the trunk's caller: {heard}"
    );
    let record = office.server.record();
    answered(&record, "caller", 900..3_000);
    assert_fields(
        &record,
        &[
            ("direction", json!("incoming")),
            ("caller", json!("+4930123456")),
            ("dialled", json!("101")),
            ("through", json!("trunk:office-b")),
        ],
    );
    // A number that we do not have is not sent out again.
    trunk("call_refused_plain")
        .service("0049301")
        .status(404)
        .run();
    let record = office.server.records(2).remove(0);
    unanswered(&record, "failed", 404);
}
