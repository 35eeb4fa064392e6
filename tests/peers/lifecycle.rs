//! Starting, stopping, reading the configuration again, and a power cut, with calls by SIPp in between.

use std::fs;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::harness::{
    HTTP_PORT, Network, STOP, Server, TOKEN, assert_fields, command_in, wait, write_config,
};
use super::sipp::{Playing, Sipp, users};

const WITHIN: Duration = Duration::from_secs(5);

fn phone(server: &Server, scenario: &'static str, host: u8, user: &str) -> Sipp {
    Sipp::new(server.sip(), scenario, server.network.host(host))
        .user(user)
        .service(user)
}

/// A call from 100 to 101 that is up; 101 is registered.
fn call_up(server: &Server, caller: &'static str, callee: &'static str) -> (Playing, Playing) {
    phone(server, "register", 3, "101").run();
    let callee = phone(server, callee, 3, "101").start();
    std::thread::sleep(Duration::from_millis(300));
    let caller = phone(server, caller, 2, "100").service("101").start();
    wait(
        WITHIN,
        || {
            server
                .items("calls")
                .iter()
                .any(|call| call["state"] == "answered")
        },
        || format!("the call did not come up:\n{}", server.log()),
    );
    (caller, callee)
}

/// Call records as the state file has them, for when the server is not there to be asked.
fn kept_records(server: &Server) -> Vec<(String, String, Option<String>, Option<i64>)> {
    let state =
        Connection::open_with_flags(server.state(), OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let mut statement = state
        .prepare("SELECT caller, disposition, ended_by, talk_ms FROM call_records")
        .unwrap();
    let rows = statement
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn sigterm_ends_calls_and_refuses_new_ones() {
    let config = format!(
        "\n{}[user 102]\naddresses = {{net}}.9\n",
        users(&["100", "101"])
    );
    let mut server = Server::start(Network::take(), &config);
    let (caller, callee) = call_up(&server, "call_ended", "answer_ended");
    server.signal("TERM");
    let began = Instant::now();
    // The callee takes two seconds to answer its BYE; until then the server is still there for this one.
    callee.wait_for("BYE sip:");
    Sipp::new(server.sip(), "call_refused_plain", server.network.host(9))
        .caller("102")
        .service("101")
        .status(503)
        .run();
    let status = server.wait_for_end(STOP);
    assert!(began.elapsed() < STOP, "{:?}", began.elapsed());
    assert_eq!(status.code(), Some(0), "{}", server.log());
    // Their scenarios ask for a Reason in the BYE.
    for messages in [caller.well(), callee.well()] {
        assert!(messages.contains("\nReason: "), "{messages}");
    }
    let kept = kept_records(&server);
    let answered: Vec<_> = kept
        .iter()
        .filter(|record| record.1 == "answered")
        .collect();
    assert_eq!(answered.len(), 1, "{kept:?}");
    assert_eq!(answered[0].0, "100");
    assert_eq!(answered[0].2.as_deref(), Some("server"));
    assert!(
        kept.iter().all(|record| record.1 != "interrupted"),
        "{kept:?}"
    );
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn sighup_reads_the_configuration_again() {
    let network = Network::take();
    let server = Server::start(network, &format!("\n{}", users(&["100", "101"])));
    let (caller, callee) = call_up(&server, "call_until_bye", "answer");
    // One more user; the call and the registration go on.
    write_config(
        server.folder.path(),
        network,
        &format!("\n{}", users(&["100", "101", "103"])),
    );
    server.signal("HUP");
    wait(
        WITHIN,
        || server.get("status")["counts"]["users"] == 3,
        || format!("the new user is not there:\n{}", server.log()),
    );
    phone(&server, "register", 4, "103").run();
    assert_eq!(server.registered(), ["101", "103"]);
    assert_eq!(server.items("calls").len(), 1);

    // A mistake keeps what was, and says where it is.
    write_config(
        server.folder.path(),
        network,
        "pasword = x\n\n[user 100]\nunheard_of = 1\n",
    );
    let text = fs::read_to_string(server.folder.path().join("config.ini")).unwrap();
    server.signal("HUP");
    for key in ["pasword", "unheard_of"] {
        let line = 1 + text.lines().position(|line| line.starts_with(key)).unwrap();
        server.wait_for_log(&format!("config.ini:{line}"));
    }
    assert_eq!(server.get("status")["counts"]["users"], 3);
    phone(&server, "register", 4, "103").run();

    // Another address to listen on needs a restart.
    let moved = text
        .split("pasword")
        .next()
        .unwrap()
        .replace(":5060", ":5070");
    fs::write(
        server.folder.path().join("config.ini"),
        moved + &users(&["100", "101", "103"]),
    )
    .unwrap();
    server.signal("HUP");
    server.wait_for_log("needs a restart");
    phone(&server, "register", 4, "103").run();

    // The call that was up all the time is ended by an administrator.
    let call = server.items("calls").remove(0);
    server
        .command(&["hangup", call["id"].as_str().unwrap()])
        .well();
    caller.well();
    callee.well();
    let record = server.record();
    assert_fields(
        &record,
        &[
            ("disposition", json!("answered")),
            ("ended_by", json!("server")),
        ],
    );
}

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn a_second_server_does_not_start() {
    let network = Network::take();
    let server = Server::start(network, "\n[user 100]\n");
    // The same folder, so the same state file, but other ports.
    let config = fs::read_to_string(server.folder.path().join("config.ini")).unwrap();
    let other = config
        .replace(":5060", ":5070")
        .replace(&format!(":{HTTP_PORT}"), ":8081");
    fs::write(server.folder.path().join("other.ini"), &other).unwrap();
    let finished = command_in(server.folder.path(), &["--config", "other.ini"], "");
    assert_ne!(finished.code, Some(0), "{finished:#?}");
    assert!(
        finished.all().contains("sipkeep.db"),
        "it says which file: {finished:#?}"
    );
    // Another folder, but the same SIP port.
    let folder = TempDir::new().unwrap();
    let other = config.replace(&format!(":{HTTP_PORT}"), ":8081");
    fs::write(folder.path().join("config.ini"), other).unwrap();
    let finished = command_in(folder.path(), &[], "");
    assert_ne!(finished.code, Some(0), "{finished:#?}");
    assert!(
        finished.all().contains(&server.sip().to_string()),
        "it says which address: {finished:#?}"
    );
    // The same HTTP port.
    fs::write(
        folder.path().join("config.ini"),
        config.replace(":5060", ":5070"),
    )
    .unwrap();
    let finished = command_in(folder.path(), &[], "");
    assert_ne!(finished.code, Some(0), "{finished:#?}");
    assert!(
        finished.all().contains(&server.http().to_string()),
        "it says which address: {finished:#?}"
    );
    // The first one does not care.
    assert_eq!(server.get("status")["counts"]["users"], 1);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_power_cut_loses_nothing_acknowledged() {
    let server = Server::start(Network::take(), &format!("\n{}", users(&["100", "101"])));
    let (caller, callee) = call_up(&server, "call_until_bye", "answer");
    let (status, ban) = server.request("POST", "bans", r#"{"source": "203.0.113.7", "for": "4h"}"#);
    assert!((200..300).contains(&status), "{status} {ban}");
    let before = registration(&server);
    // Acknowledged over a second ago, and the time that the disk took.
    let sync_ms = server.get("status")["store"]["sync_ms"].as_u64().unwrap();
    std::thread::sleep(Duration::from_millis(1_100 + sync_ms));

    let (network, folder) = server.cut_power();
    drop(caller);
    drop(callee);
    let server = Server::start_in(network, folder);
    let after = registration(&server);
    for field in [
        "user",
        "contact",
        "source",
        "transport",
        "user_agent",
        "since",
    ] {
        assert_eq!(after[field], before[field], "{field}");
    }
    // A refresh that the disk had not yet may have been lost, so it may last longer now, but never less.
    assert!(
        after["expires"].as_str() >= before["expires"].as_str(),
        "{before:#} {after:#}"
    );
    let bans = server.items("bans");
    assert_eq!(bans.len(), 1, "{bans:#?}");
    assert_fields(
        &bans[0],
        &[
            ("source", json!("203.0.113.7")),
            ("reason", json!("manual")),
            ("until", ban["until"].clone()),
        ],
    );
    let record = server.record();
    assert_fields(
        &record,
        &[
            ("disposition", json!("interrupted")),
            ("caller", json!("100")),
            ("dialled", json!("101")),
            ("answered_by", json!("101")),
        ],
    );
    assert!(record["answer"].is_string(), "{record:#}");

    // The phone is called without having registered anew.
    let callee = phone(&server, "answer", 3, "101").start();
    std::thread::sleep(Duration::from_millis(300));
    phone(&server, "call", 2, "100").service("101").run();
    callee.well();
    assert_eq!(server.records(2)[0]["disposition"], "answered");
}

/// The one registration.
fn registration(server: &Server) -> Value {
    let mut items = server.items("registrations");
    assert_eq!(items.len(), 1, "{items:#?}");
    items.remove(0)
}

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn the_state_file_is_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start(Network::take(), "\n[user 100]\n");
    let mode = fs::metadata(server.state()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The API asks for its token; health does not.
    for token in [None, Some("wrong"), Some("a-token-of-the-test")] {
        let (status, _) =
            super::harness::http(server.http(), "GET", "/api/v1/status", token, "").unwrap();
        assert_eq!(status, 401, "{token:?}");
    }
    let (status, body) = super::harness::http(server.http(), "GET", "/health", None, "").unwrap();
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["ok"], true);
    assert!(!server.log().contains(TOKEN), "the token is not printed");
}
