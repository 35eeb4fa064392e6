//! Lines over real sockets: one server is the carrier of another one.

use super::*;

/// Waits until a server says this of itself.
fn until(
    server: &Server,
    token: &str,
    path: &str,
    is_so: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let begin = Instant::now();
    loop {
        let text = server.get(path, Some(token));
        let body = text.split_once("\r\n\r\n").map_or("null", |(_, body)| body);
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        if is_so(&json) {
            return json;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "{path}: {json}\n{}",
            server.errors()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_registers_at_another_one_and_leaves_it_when_it_stops() {
    let carrier_site = Site::new(
        "[user 100]\npassword = Carrier-71-x\n[user 101]\npassword = Carrier-72-x\n[user 102]\npassword = Carrier-73-x\n",
    );
    let carrier = carrier_site.start();
    let carrier_token = carrier_site.token();
    let server = carrier.sip.ip();
    let lines = format!(
        "[line one]\naccount = 100\nserver = {server}\npassword = Carrier-71-x\nkeepalive = 1s\n\
         [line two]\naccount = 101\nserver = carrier.invalid\noutbound_proxy = {server}:5060\ntransport = tcp\n\
         password = Carrier-72-x\n\
         [line bad]\naccount = 102\nserver = {server}\npassword = wrong-one-9\n\
         [line off]\naccount = 100\nserver = {server}\nregister = no\n"
    );
    let site = Site::new(&lines);
    let office = site.start();
    assert!(
        office.out().contains("  lines      4\n"),
        "{}",
        office.out()
    );
    let token = site.token();

    let state = |json: &serde_json::Value, index: usize| json["items"][index]["state"].clone();
    let json = until(&office, &token, "/api/v1/lines", |json| {
        state(json, 0) == "registered"
            && state(json, 1) == "registered"
            && state(json, 2) == "refused"
    });
    let names: Vec<_> = (json["items"].as_array().unwrap().iter())
        .map(|item| item["name"].clone())
        .collect();
    assert_eq!(
        (names, &json["next"]),
        (
            vec!["one".into(), "two".into(), "bad".into(), "off".into()],
            &serde_json::Value::Null
        )
    );
    let bad = &json["items"][2];
    assert_eq!(
        bad["reason"],
        "Unauthorized: user name or password is wrong"
    );
    assert_eq!(
        (&bad["status"], &bad["expires"]),
        (&401.into(), &serde_json::Value::Null)
    );
    assert!(bad["next_attempt"].is_string(), "{bad}");
    assert_eq!(state(&json, 3), "off");
    assert_eq!(office.status(&token)["counts"]["lines"], 4);
    until(&office, &token, "/api/v1/lines/two", |json| {
        json["account"] == "101"
    });
    assert!(
        office
            .get("/api/v1/lines/none", Some(&token))
            .starts_with("HTTP/1.1 404 ")
    );

    let at_carrier = until(&carrier, &carrier_token, "/api/v1/registrations", |json| {
        json["items"]
            .as_array()
            .is_some_and(|items| items.len() == 2)
    });
    let transports: Vec<_> = (at_carrier["items"].as_array().unwrap().iter())
        .map(|item| (item["user"].clone(), item["transport"].clone()))
        .collect();
    assert_eq!(
        transports,
        [("100".into(), "udp".into()), ("101".into(), "tcp".into())]
    );
    // A wrong password is nothing that its own carrier bans for.
    assert_eq!(carrier.status(&carrier_token)["counts"]["bans"], 0);

    let table = site.command().arg("lines").output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.contains("registered") && table.contains("user name or password is wrong"),
        "{table}"
    );

    // The connection of the second one breaks: it is back at once, on another one.
    drop(carrier);
    office.wait_for_log("event=line line=two account=101 state=registering");
    let carrier = carrier_site.start();
    until(&carrier, &carrier_token, "/api/v1/registrations", |json| {
        json["items"]
            .as_array()
            .is_some_and(|items| items.iter().any(|item| item["user"] == "101"))
    });

    let (status, time) = office.stop();
    assert!(
        status.success() && time < Duration::from_secs(5),
        "{status} after {time:?}"
    );
    until(&carrier, &carrier_token, "/api/v1/registrations", |json| {
        json["items"].as_array().is_some_and(Vec::is_empty)
    });
}
