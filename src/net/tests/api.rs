//! The HTTP API through the loop: its token, its paths and parameters, and what each answers.

use std::sync::Arc;

use super::*;

const WITH_HTTP: &str = "[user 100]\npassword = kx7-mmq2-9\ndisplay_name = Anna\ncalls_max = 2\nlevels = far, night\n\
    do_not_disturb = yes\nforward_busy = 102\n\
    [user 101]\naddresses = 192.0.2.7, [2001:db8::7]:5062\nforward_always = 100\ndo_not_disturb = yes\nstore_messages = yes\n[user 102]\n\
    [trunk office]\naddresses = 198.51.100.4:5060, 198.51.100.5\nincoming = 100\ncaller_id = +49301\n\
    request_uri_parameters = user=phone;x=1\nuri_format = tel\ncalls_in_max = 2\ncalls_out_max = 0\nnext = trunk:spare\n\
    [trunk spare]\naddresses = 198.51.100.6\ntransport = tcp\nkeepalive = 0\n\
    [trunk third]\naddresses = 198.51.100.7\n";

#[test]
fn needs_its_token() {
    let mut bench = Bench::with(WITH_HTTP);
    let token = bench.shell.running.config.http.token.clone().unwrap();
    assert_eq!(token.len(), 32);
    let wrong = [
        String::new(),
        "Authorization: Bearer \r\n".into(),
        format!("Authorization: Bearer {}\r\n", &token[1..]),
        format!("Authorization: Bearer {token}x\r\n"),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: {token}\r\n"),
        "Authorization: é\r\n".into(),
    ];
    for header in wrong {
        for path in ["/api/v1/status", "/api/v1/nothing", "/api/v1/events"] {
            let (status, head, body) = bench.ask_with(&header, &format!("GET {path}"), "");
            assert_eq!(
                (status, body["error"].as_str()),
                (401, Some("a bearer token is needed"))
            );
            assert!(head.contains("WWW-Authenticate: Bearer\r\n"));
        }
    }
    assert!(bench.shell.core.commands.is_empty());
    assert_eq!(
        bench.ask_with("", "GET /health", "").2,
        serde_json::json!({ "ok": true })
    );
    assert_eq!(bench.ask("GET /api/v1/status", "").0, 200);
}

#[test]
fn answers_what_is_not_there() {
    let mut bench = Bench::with(WITH_HTTP);
    for path in [
        "/x",
        "/api",
        "/api/v1/",
        "/api/v1/x",
        "/api/v1/users/100/x",
        "/api/v2/status",
    ] {
        assert_eq!(bench.ask(&format!("GET {path}"), "").0, 404, "{path}");
    }
    // Only the core knows which lines there are.
    assert_eq!(bench.ask("GET /api/v1/lines/a", "").0, 404);
    let asked = std::mem::take(&mut bench.shell.core.commands);
    assert!(matches!(asked.as_slice(), [Command::Line { line }] if line == "a"));
    let later = [
        "GET /",
        "GET /metrics",
        "GET /openapi/version",
        "PUT /api/v1/lines/a",
        "PUT /api/v1/groups/200",
        "PUT /api/v1/routes/a",
        "DELETE /api/v1/routes/a",
        "GET /api/v1/events",
        "GET /api/v1/openapi.json",
        "POST /api/v1/calls",
        "PUT /api/v1/users/100",
        "DELETE /api/v1/trunks/a",
    ];
    for request in later {
        let (status, body) = bench.ask(request, "");
        assert_eq!(
            (status, body["error"].as_str()),
            (501, Some("not yet in this version")),
            "{request}"
        );
    }
    let token = bench.shell.running.config.http.token.clone().unwrap();
    let header = format!("Authorization: Bearer {token}\r\n");
    for (request, allow) in [
        ("POST /health", "GET, HEAD"),
        ("DELETE /api/v1/status", "GET, HEAD"),
        ("PUT /api/v1/bans", "GET, HEAD, POST"),
        ("GET /api/v1/calls/1", "DELETE"),
    ] {
        let (status, head, _) = bench.ask_with(&header, request, "");
        assert_eq!(status, 405, "{request}");
        assert!(head.contains(&format!("Allow: {allow}\r\n")), "{head}");
    }
    let bad = [
        "GET /api/v1/calls?limit=0",
        "GET /api/v1/calls?limit=1001",
        "GET /api/v1/calls?limit=x",
        "GET /api/v1/calls?x=1",
        "GET /api/v1/calls?limit=1&limit=2",
        "GET /api/v1/status?limit=1",
        "GET /api/v1/cdrs?since=yesterday",
        "GET /api/v1/cdrs?after=x",
        "GET /api/v1/users?after=nobody",
        "DELETE /api/v1/bans/x",
        "GET /api/v1/users/%zz",
        "GET /api/v1/users/%ff",
    ];
    for request in bad {
        let (status, body) = bench.ask(request, "");
        assert!(
            status == 400 && body["error"].is_string(),
            "{request} {status} {body}"
        );
    }
    assert!(bench.shell.core.commands.is_empty());
}

#[test]
fn commands_and_their_parameters() {
    let mut bench = Bench::with(WITH_HTTP);
    let done = (200, serde_json::json!({ "ok": true }));
    assert_eq!(
        bench.ask("GET /api/v1/registrations?limit=7&after=a%20b", ""),
        done
    );
    assert_eq!(bench.ask("GET /api/v1/calls?after=", ""), done);
    assert_eq!(bench.ask("GET /api/v1/bans", ""), done);
    assert_eq!(bench.ask("DELETE /api/v1/bans/2001:db8::%2F64", ""), done);
    assert_eq!(bench.ask("DELETE /api/v1/bans/2001:db8::/64", ""), done);
    assert_eq!(bench.ask("DELETE /api/v1/calls/a%2Fb", "").0, 404);
    let body = r#"{"source": "203.0.113.7", "for": "4h"}"#;
    assert_eq!(bench.ask("POST /api/v1/bans", body), done);
    assert_eq!(
        bench
            .ask("POST /api/v1/bans", r#"{"source": "127.0.0.1"}"#)
            .0,
        409
    );
    let said = format!("{:?}", bench.shell.core.commands);
    let expected = "[Registrations { after: Some(\"a b\"), limit: 7 }, Calls { after: None, limit: 100 }, \
         Bans { after: None, limit: 100 }, ";
    assert!(said.starts_with(expected), "{said}");
    let v6: Source = "2001:db8::".parse().unwrap();
    let unbans = bench.shell.core.commands[3..5].iter();
    let unbans: Vec<bool> = unbans
        .map(|c| matches!(c, Command::Unban { source } if *source == v6))
        .collect();
    assert_eq!(unbans, [true, true]);
    assert!(matches!(&bench.shell.core.commands[5], Command::Hangup { call } if call == "a/b"));
    let Command::Ban { source, duration } = &bench.shell.core.commands[6] else {
        panic!("{said}")
    };
    assert_eq!(source.to_string(), "203.0.113.7");
    assert_eq!(*duration, Some(Duration::from_secs(4 * 3600)));
    for body in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"source": 7}"#,
        r#"{"source": "x"}"#,
        r#"{"source": "192.0.2.1", "for": "4"}"#,
        r#"{"source": "192.0.2.1", "for": "0s"}"#,
        r#"{"source": "192.0.2.1", "fro": "4h"}"#,
    ] {
        let (status, answer) = bench.ask("POST /api/v1/bans", body);
        assert!(
            status == 400 && answer["error"].is_string(),
            "{body} {status}"
        );
    }
    assert_eq!(bench.shell.core.commands.len(), 8);
}

#[test]
fn asks_about_lines() {
    let mut bench = Bench::with(WITH_HTTP);
    for (request, status) in [
        ("GET /api/v1/lines?limit=7&after=a%20b", 200),
        ("GET /api/v1/lines/gd%2Fims", 404),
        ("POST /api/v1/lines/gd-ims/register", 200),
    ] {
        assert_eq!(bench.ask(request, "").0, status, "{request}");
    }
    let said = format!("{:?}", bench.shell.core.commands);
    let expected = "[Lines { after: Some(\"a b\"), limit: 7 }, Line { line: \"gd/ims\" }, \
        RegisterLine { line: \"gd-ims\" }]";
    assert_eq!(said, expected);
    assert_eq!(bench.ask("GET /api/v1/lines/a/register", "").0, 405);
}

#[test]
fn lists_users_and_trunks_without_secrets() {
    let mut bench = Bench::with(WITH_HTTP);
    let (status, page) = bench.ask("GET /api/v1/users?limit=2", "");
    let anna = serde_json::json!({ "name": "100", "display_name": "Anna", "addresses": [], "calls_max": 2, "levels": ["far", "night"],
        "do_not_disturb": true, "forward_always": "101", "forward_busy": "102", "forward_no_answer": null,
        "forward_no_answer_after": "20s", "forward_offline": null, "store_messages": false, "messages_waiting": 0,
        "dialled": { "forward_always": "101", "do_not_disturb": null } });
    let by_address = serde_json::json!(
        { "name": "101", "display_name": "", "addresses": ["192.0.2.7", "[2001:db8::7]:5062"], "calls_max": null, "levels": [],
        "do_not_disturb": false, "forward_always": null, "forward_busy": null, "forward_no_answer": null,
        "forward_no_answer_after": "20s", "forward_offline": null, "store_messages": true, "messages_waiting": 1,
        "dialled": { "forward_always": "", "do_not_disturb": false } });
    assert_eq!(status, 200);
    assert_eq!(
        page,
        serde_json::json!({ "items": [anna, by_address], "next": "101" })
    );
    let page = bench.ask("GET /api/v1/users?after=101", "").1;
    assert_eq!(
        (page["items"][0]["name"].as_str(), page["next"].as_str()),
        (Some("102"), None)
    );
    assert_eq!(bench.ask("GET /api/v1/users/100", ""), (200, anna));
    assert_eq!(bench.ask("GET /api/v1/users/999", "").0, 404);
}

#[test]
fn lists_blocks_of_users_and_groups_with_them() {
    let text = format!(
        "{WITH_HTTP}[user gate]\naddresses = 192.0.2.80, 192.0.2.64/28, 2001:db8:7::/64\nstore_messages = yes\n\
         [user yard]\naddresses = 203.0.113.0/24\n[group 200]\nmembers = gate, 100, yard\nstrategy = linear\n"
    );
    let mut bench = Bench::with(&text);
    let addresses = |user: &serde_json::Value| user["addresses"].clone();
    let gate = bench.ask("GET /api/v1/users/gate", "").1;
    assert_eq!(
        addresses(&gate),
        serde_json::json!(["192.0.2.80", "192.0.2.64/28", "2001:db8:7::/64"])
    );
    assert_eq!(
        (&gate["store_messages"], &gate["messages_waiting"]),
        (&true.into(), &0.into())
    );
    let page = bench.ask("GET /api/v1/users?after=gate", "").1;
    let listed: Vec<_> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(addresses)
        .collect();
    assert_eq!(listed, [serde_json::json!(["203.0.113.0/24"])]);
    assert_eq!(
        bench.ask("GET /api/v1/groups/200", "").1["members"],
        serde_json::json!(["gate", "100", "yard"])
    );
}

#[test]
fn lists_trunks_with_what_is_known_of_their_addresses() {
    let mut bench = Bench::with(WITH_HTTP);
    let reached = |address: &str, state: &str, status: Option<&str>| {
        let since = status.map(|_| "1970-01-01T00:00:01.000Z");
        serde_json::json!({ "address": address, "state": state, "status": status, "since": since })
    };
    let office = serde_json::json!({
        "name": "office", "addresses": ["198.51.100.4:5060", "198.51.100.5"], "transport": "udp",
        "keepalive": "30s", "incoming": "100", "caller_id": "+49301", "request_uri_parameters": "user=phone;x=1",
        "uri_format": "tel", "calls_in_max": 2, "calls_out_max": 0, "next": "trunk:spare", "state": "up",
        "reached": [
            reached("office", "up", Some("200 OK")),
            reached("198.51.100.9:5060", "down", Some("no answer")),
        ] });
    let spare = serde_json::json!({
        "name": "spare", "addresses": ["198.51.100.6"], "transport": "tcp",
        "keepalive": "0", "incoming": null, "caller_id": null, "request_uri_parameters": "",
        "uri_format": "sip", "calls_in_max": null, "calls_out_max": null, "next": null, "state": "down",
        "reached": [reached("198.51.100.9:5060", "down", Some("no answer"))] });
    let third = bench.ask("GET /api/v1/trunks/third", "").1;
    assert_eq!(third["state"], "unknown");
    assert_eq!(
        third["reached"],
        serde_json::json!([reached("third", "unknown", None)])
    );
    assert_eq!(
        bench.ask("GET /api/v1/trunks/office", ""),
        (200, office.clone())
    );
    assert_eq!(
        bench.ask("GET /api/v1/trunks?limit=2", "").1,
        serde_json::json!({ "items": [office, spare], "next": "spare" })
    );
    let rest = bench.ask("GET /api/v1/trunks?after=spare", "").1;
    assert_eq!(rest, serde_json::json!({ "items": [third], "next": null }));
    assert_eq!(bench.ask("GET /api/v1/trunks/nobody", "").0, 404);
    assert_eq!(bench.ask("GET /api/v1/trunks?after=nobody", "").0, 400);
    assert_eq!(bench.ask_with("", "GET /api/v1/trunks", "").0, 401);
}

#[test]
fn lists_groups() {
    let mut bench = Bench::with(WITH_HTTP);
    assert_eq!(
        bench.ask("GET /api/v1/groups", "").1,
        serde_json::json!({ "items": [], "next": null })
    );
    let mut bench = Bench::with(
        "[http]\nlisten = 127.0.0.1:1\n[user 100]\n[user 101]\n\
         [group 200]\nmembers = 101, 100\nstrategy = linear\nring_timeout = 15s\nnext = 201\n\
         [group 201]\nmembers = 100\n",
    );
    let first = serde_json::json!({
        "name": "200", "members": ["101", "100"], "strategy": "linear", "ring_timeout": "15s", "next": "201" });
    let second = serde_json::json!({
        "name": "201", "members": ["100"], "strategy": "all", "ring_timeout": "1m", "next": null });
    assert_eq!(
        bench.ask("GET /api/v1/groups?limit=1", "").1,
        serde_json::json!({ "items": [first], "next": "200" })
    );
    assert_eq!(bench.ask("GET /api/v1/groups/201", ""), (200, second));
    assert_eq!(bench.ask("GET /api/v1/groups/202", "").0, 404);
    assert_eq!(bench.ask_with("", "GET /api/v1/groups", "").0, 401);
}

#[test]
fn lists_routes() {
    let mut bench = Bench::with(WITH_HTTP);
    // What holds without any in the file.
    let default = serde_json::json!({
        "name": "", "prefix": "9", "strip": 1, "prepend": "",
        "to": ["trunk:office", "trunk:spare", "trunk:third"], "level": null });
    assert_eq!(
        bench.ask("GET /api/v1/routes", "").1,
        serde_json::json!({ "items": [default], "next": null })
    );
    assert_eq!(bench.ask("GET /api/v1/routes/", "").0, 404);
    let text = format!(
        "{WITH_HTTP}[route far]\nprefix = +00\nstrip = 3\nprepend = *1\nto = trunk:spare, user:100\nlevel = far\n\
         [route all]\nto = trunk:office\n"
    );
    let mut bench = Bench::with(&text);
    let far = serde_json::json!({
        "name": "far", "prefix": "+00", "strip": 3, "prepend": "*1",
        "to": ["trunk:spare", "user:100"], "level": "far" });
    let all = serde_json::json!({
        "name": "all", "prefix": "", "strip": 0, "prepend": "", "to": ["trunk:office"], "level": null });
    assert_eq!(bench.ask("GET /api/v1/routes/far", ""), (200, far.clone()));
    assert_eq!(
        bench.ask("GET /api/v1/routes", "").1,
        serde_json::json!({ "items": [far, all], "next": null })
    );
    assert_eq!(
        bench.ask("GET /api/v1/routes?limit=1", "").1["next"],
        serde_json::json!("far")
    );
    assert_eq!(bench.ask("GET /api/v1/routes/nobody", "").0, 404);
    assert_eq!(bench.ask_with("", "GET /api/v1/routes/far", "").0, 401);
}

#[test]
fn status_has_what_the_shell_knows() {
    let mut bench = Bench::with(WITH_HTTP);
    let client = udp_client();
    client.send_to(b"x", bench.udp).unwrap();
    bench.run();
    let status = bench.ask("GET /api/v1/status", "").1;
    assert!(status["memory_bytes"].as_u64().unwrap() > 1_000_000);
    assert!(status["latency_us"]["p50"].as_u64().unwrap() > 0);
    for (lane, name) in ["peers", "phones", "strangers"].iter().enumerate() {
        let lane = &status["guard"]["lanes"][lane];
        assert_eq!(lane["name"], *name);
        assert!(lane["receive_buffer_bytes"].as_u64().unwrap() > 4096);
        assert_eq!(lane["drops"], 0);
        let capacity = lane["capacity"].as_u64().unwrap();
        assert_eq!(capacity > 100, *name != "strangers", "{lane}");
    }
    let kernel = &status["guard"]["kernel"];
    assert_eq!(
        (&kernel["active"], &kernel["bans"]),
        (&true.into(), &0.into())
    );
    assert!(kernel["capacity"].as_u64().unwrap() > 10);
    assert_eq!(status["store"]["ok"], true);
    assert!(status["guard"]["reassembly_failures"].is_u64());
}

#[test]
fn call_records_come_from_the_store() {
    let mut bench = Bench::with(WITH_HTTP);
    let record = |id: &str, second: u64| crate::store::CallRecord {
        id: id.into(),
        start: UnixTime::from_millis(unix().as_millis() - 60_000 + second * 1_000),
        end: Some(unix()),
        direction: "internal",
        caller: "100".into(),
        dialled: "101".into(),
        disposition: "answered",
        ..Default::default()
    };
    for (id, second) in [("a", 1), ("b", 2), ("c", 3)] {
        bench
            .shell
            .core
            .out
            .push(Owned::Keep(Change::Record(Arc::new(record(id, second)))));
    }
    bench.run();
    let mut page = serde_json::Value::Null;
    for _ in 0..100 {
        page = bench.ask("GET /api/v1/cdrs?limit=2&user=100", "").1;
        if page["items"]
            .as_array()
            .is_some_and(|items| items.len() == 2)
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        (
            page["items"][0]["id"].as_str(),
            page["items"][1]["id"].as_str()
        ),
        (Some("c"), Some("b"))
    );
    let next = page["next"].as_str().unwrap().to_owned();
    let page = bench
        .ask(&format!("GET /api/v1/cdrs?limit=2&after={next}"), "")
        .1;
    assert_eq!(
        (page["items"][0]["id"].as_str(), page["next"].as_str()),
        (Some("a"), None)
    );
    assert_eq!(
        bench.ask("GET /api/v1/cdrs?until=2020-01-01", "").1["items"],
        serde_json::json!([])
    );
}
