//! The command line: `check`, the tables and their JSON, `ban`, `unban`, `ha1`.

use std::fs;

use md5::{Digest, Md5};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::harness::{Network, Server, command_in};

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn check_names_every_mistake_with_its_line() {
    let folder = TempDir::new().unwrap();
    let mistakes = "[server]\n\
                    listen = udp:127.0.0.1:5060\n\
                    [user 100]\n\
                    pasword = x\n\
                    [registrar]\n\
                    expires_min = soon\n\
                    expires_min = 60s\n\
                    [nonsense]\n\
                    [trunk far]\n\
                    addresses = far-away\n";
    fs::write(folder.path().join("config.ini"), mistakes).unwrap();
    let finished = command_in(folder.path(), &["check"], "");
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    let all = finished.all();
    assert!(
        all.contains(r#"config.ini:4: [user 100] unknown key "pasword", did you mean "password"?"#),
        "{all}"
    );
    for line in [6, 7, 8, 10] {
        assert!(
            all.contains(&format!("config.ini:{line}: ")),
            "line {line}: {all}"
        );
    }
    assert!(
        !folder.path().join("sipkeep.db").exists(),
        "checking leaves nothing behind"
    );
    // Starting with it says the same.
    let started = command_in(folder.path(), &[], "");
    assert_ne!(started.code, Some(0));
    assert!(started.all().contains("config.ini:4: "), "{started:#?}");
}

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn check_says_what_will_run() {
    let folder = TempDir::new().unwrap();
    let config = "[user 100]\n[user 101]\naddresses = 203.0.113.50\n[trunk office-b]\naddresses = 198.51.100.4\n";
    fs::write(folder.path().join("config.ini"), config).unwrap();
    let finished = command_in(folder.path(), &["check"], "").well();
    assert!(finished.stdout.contains("5060"), "{finished:#?}");
    // A public address on UDP is as strong as the network against forged sources.
    assert!(finished.all().contains("203.0.113.50"), "{finished:#?}");
    // An empty file runs; another name may stand before or behind the subcommand.
    fs::write(folder.path().join("empty.ini"), "").unwrap();
    command_in(folder.path(), &["--config", "empty.ini", "check"], "").well();
    command_in(folder.path(), &["check", "--config", "empty.ini"], "").well();
    let missing = command_in(folder.path(), &["check", "--config", "nowhere.ini"], "");
    assert_ne!(missing.code, Some(0));
    assert!(missing.all().contains("nowhere.ini"), "{missing:#?}");
}

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn weak_passwords_are_refused() {
    let folder = TempDir::new().unwrap();
    for weak in ["100", "password", "1234"] {
        fs::write(
            folder.path().join("config.ini"),
            format!("[user 100]\npassword = {weak}\n"),
        )
        .unwrap();
        let finished = command_in(folder.path(), &["check"], "");
        assert_eq!(finished.code, Some(1), "{weak}: {finished:#?}");
        assert!(
            finished.all().contains("config.ini:2: "),
            "{weak}: {finished:#?}"
        );
    }
}

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn tables_and_json() {
    let server = Server::start(Network::take(), "\n[user 100]\n[user 101]\n");
    let status: Value = json_of(&server, &["status", "--json"]);
    assert_eq!(keys(&status), keys(&server.get("status")));
    assert_eq!(status["counts"]["users"], 2);
    for list in ["registrations", "calls", "bans"] {
        assert_eq!(
            json_of(&server, &[list, "--json"]),
            server.get(list),
            "{list}"
        );
    }
    assert_eq!(json_of(&server, &["cdr", "--json"]), server.get("cdrs"));
    // For people: words, not JSON.
    for command in ["status", "registrations", "calls", "bans", "cdr"] {
        let finished = server.command(&[command]).well();
        assert!(!finished.stdout.contains('{'), "{command}: {finished:#?}");
    }
    // The passwords that this start made, for every user once, and never by the API.
    let passwords = json_of(&server, &["status", "--passwords", "--json"]);
    assert!(passwords["101"].is_string(), "{passwords}");
    let made = passwords["100"].as_str().unwrap();
    let table = server.command(&["status", "--passwords"]).well().stdout;
    assert!(table.contains(made), "{table}");
    let banner = server.log();
    assert!(banner.contains(made), "shown at the first start:\n{banner}");
    assert!(!server.get("status").to_string().contains(made));
    // A command that does not exist, and a server that is not there.
    assert_ne!(server.command(&["frobnicate"]).code, Some(0));
    let folder = TempDir::new().unwrap();
    fs::write(
        folder.path().join("config.ini"),
        "[http]\nlisten = 127.0.0.1:1\ntoken = x-token-x\n",
    )
    .unwrap();
    let alone = command_in(folder.path(), &["status"], "");
    assert_ne!(alone.code, Some(0), "{alone:#?}");
    assert!(alone.stderr.contains("127.0.0.1:1"), "{alone:#?}");
}

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn bans_by_hand() {
    let server = Server::start(
        Network::take(),
        "\n[user 100]\n[guard]\nallow = 192.0.2.0/24\ndeny = 198.51.100.0/24\n",
    );
    let deny = server.items("bans");
    assert_eq!(deny.len(), 1, "{deny:#?}");
    assert_eq!(deny[0]["reason"], "deny");
    assert_eq!(deny[0]["until"], Value::Null);

    server
        .command(&["ban", "203.0.113.7", "--for", "4h"])
        .well();
    server.command(&["ban", "2001:db8:1:2::7"]).well();
    let bans = server.items("bans");
    let find = |source: &str| bans.iter().find(|ban| ban["source"] == source).cloned();
    let ban = find("203.0.113.7").unwrap_or_else(|| panic!("{bans:#?}"));
    assert_eq!(ban["reason"], "manual");
    assert_eq!(ban["users"], json!([]));
    assert!(ban["until"].is_string(), "{ban:#}");
    // Those of the configuration are listed, but nobody was banned for them.
    assert_eq!(server.get("status")["counts"]["bans"], bans.len() - 1);
    let six = bans.iter().find(|ban| {
        ban["source"]
            .as_str()
            .unwrap()
            .starts_with("2001:db8:1:2::")
    });
    assert!(six.is_some(), "an IPv6 source is its /64: {bans:#?}");
    let table = server.command(&["bans"]).well().stdout;
    assert!(
        table.contains("203.0.113.7") && table.contains("manual"),
        "{table}"
    );

    // Who is allowed cannot be banned.
    let refused = server.command(&["ban", "192.0.2.9"]);
    assert_ne!(refused.code, Some(0), "{refused:#?}");
    assert_ne!(server.command(&["ban", "not-an-address"]).code, Some(0));

    server.command(&["unban", "203.0.113.7"]).well();
    assert!(
        server
            .items("bans")
            .iter()
            .all(|ban| ban["source"] != "203.0.113.7")
    );
    assert_ne!(
        server.command(&["unban", "203.0.113.7"]).code,
        Some(0),
        "there is no such ban any more"
    );
    let (status, error) = server.request("DELETE", "bans/203.0.113.7", "");
    assert_eq!(status, 404, "{error}");
    assert!(error["error"].is_string(), "{error}");
    let (status, error) = server.request("POST", "bans", r#"{"source": "x"}"#);
    assert_eq!(status, 400, "{error}");
}

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn ha1_prints_what_the_configuration_takes() {
    let folder = TempDir::new().unwrap();
    fs::write(
        folder.path().join("config.ini"),
        "[server]\ndomain = sip.example.org\n",
    )
    .unwrap();
    let finished = command_in(folder.path(), &["ha1", "100"], "a long secret\n").well();
    let md5 = Md5::digest(b"100:sip.example.org:a long secret");
    let md5: String = md5.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(
        finished.stdout.contains(&format!("ha1_md5 = {md5}")),
        "{finished:#?}"
    );
    assert!(finished.stdout.contains("ha1_sha256 = "), "{finished:#?}");
    // Its lines are taken as they are.
    let lines: Vec<&str> = finished
        .stdout
        .lines()
        .filter(|line| line.starts_with("ha1_"))
        .collect();
    fs::write(
        folder.path().join("config.ini"),
        format!("[user 100]\n{}\n", lines.join("\n")),
    )
    .unwrap();
    command_in(folder.path(), &["check"], "").well();
}

fn json_of(server: &Server, arguments: &[&str]) -> Value {
    let finished = server.command(arguments).well();
    serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {finished:#?}"))
}

fn keys(value: &Value) -> Vec<&String> {
    let mut keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    keys.sort();
    keys
}
