//! Lines at registrars that do odd things, played by SIPp.

use std::time::Duration;

use serde_json::{Value, json};

use super::capture::Capture;
use super::harness::{Network, SIP_PORT, Server, assert_fields, wait};
use super::kamailio::PASSWORD;
use super::sipp::{Many, Playing, Sipp};

const WITHIN: Duration = Duration::from_secs(15);

/// The one line of a server.
pub fn line(server: &Server) -> Value {
    let mut lines = server.items("lines");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.remove(0)
}

/// Waits until its line is in this state, and returns it.
#[track_caller]
pub fn wait_for_state(server: &Server, state: &str, within: Duration) -> Value {
    wait(
        within,
        || line(server)["state"] == state,
        || format!("not {state}: {:#}\n{}", line(server), server.log()),
    );
    line(server)
}

/// Seconds from now until a time of the API.
fn seconds_until(time: &Value) -> i64 {
    let time = time.as_str().unwrap_or_else(|| panic!("no time: {time}"));
    let state = rusqlite::Connection::open_in_memory().unwrap();
    let sql = "SELECT unixepoch(?1) - unixepoch('now')";
    state.query_row(sql, [time], |row| row.get(0)).unwrap()
}

/// A server whose line registers at SIPp.
struct Line {
    _capture: Capture,
    server: Server,
}

impl Line {
    /// `registrar` begins first. `keys` continue the section of the line.
    fn register(
        keys: &str,
        registrar: impl FnOnce(Sipp) -> Sipp,
        scenario: &'static str,
    ) -> (Self, Playing) {
        let network = Network::take();
        let at = (network.server(), SIP_PORT).into();
        let capture = Capture::at(at);
        let registrar = registrar(Sipp::new(at, scenario, network.host(10))).start();
        std::thread::sleep(Duration::from_millis(300));
        let config = format!(
            "log = debug\n\n[line carrier]\naccount = 5551000\nserver = carrier.test\n\
             outbound_proxy = {{net}}.10:5060\npassword = {PASSWORD}\nkeepalive = 0\n{keys}"
        );
        let server = Server::start(network, &config);
        (
            Self {
                _capture: capture,
                server,
            },
            registrar,
        )
    }

    /// Waits until the line is in this state, with these fields.
    #[track_caller]
    fn is(&self, state: &str, fields: &[(&str, Value)]) -> Value {
        let line = wait_for_state(&self.server, state, WITHIN);
        assert_fields(
            &line,
            &[("name", json!("carrier")), ("account", json!("5551000"))],
        );
        assert_fields(&line, fields);
        line
    }

    /// Refused, and the scenario sees nothing more for a while.
    #[track_caller]
    fn is_in_no_hurry(&self, registrar: Playing) {
        let line = self.is("refused", &[("status", json!(401))]);
        assert!(seconds_until(&line["next_attempt"]) > 2, "{line:#}");
        registrar.well();
    }
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_registrar_wants_longer_registrations() {
    let (line, registrar) = Line::register("expires = 60s\n", |sipp| sipp, "line_423");
    let line = line.is("registered", &[("status", json!(200))]);
    registrar.well();
    let expires = seconds_until(&line["expires"]);
    assert!((7_100..=7_200).contains(&expires), "{line:#}");
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_registrar_is_overloaded() {
    let after = |sipp: Sipp| sipp.place("AFTER", "4").place("PAUSE", "3800");
    let (line, registrar) = Line::register("", after, "line_503");
    wait(
        WITHIN,
        || self::line(&line.server)["status"] == 503,
        || format!("{:#}", self::line(&line.server)),
    );
    let waiting = self::line(&line.server);
    let next = seconds_until(&waiting["next_attempt"]);
    assert!((2..10).contains(&next), "{waiting:#}");
    line.is("registered", &[("status", json!(200))]);
    registrar.well();
}

/// Wrong credentials, as it seems: one try with them, and then not at once again.
#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_registrar_takes_no_credentials() {
    let (line, registrar) = Line::register("", |sipp| sipp, "line_nonces");
    line.is_in_no_hurry(registrar);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_registrar_calls_every_nonce_stale() {
    let (line, registrar) = Line::register("", |sipp| sipp, "line_nonces_stale");
    line.is_in_no_hurry(registrar);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_registrar_takes_a_call_id_once() {
    let calls = |calls| {
        move |sipp: Sipp| {
            sipp.many(Many {
                calls,
                per_second: 10,
                within: Duration::from_secs(20),
            })
        }
    };
    let (line, registrar) = Line::register("", calls(1), "line_call_id");
    line.is("refused", &[("status", json!(400))]);
    registrar.well();

    let (line, registrar) = Line::register("new_call_id = yes\n", calls(2), "line_call_id");
    line.is("registered", &[("status", json!(200))]);
    registrar.well();
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_proxy_asks_for_the_credentials() {
    let (line, registrar) = Line::register("", |sipp| sipp, "line_proxy");
    line.is("registered", &[("status", json!(200))]);
    registrar.well();
}
