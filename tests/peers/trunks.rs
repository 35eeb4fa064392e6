//! Trunks between two servers of ours, with real SIP programs at both ends: failover, keep-alive, SIGHUP; and carriers, played
//! by SIPp, that do what carriers do.

use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::harness::{HTTP_PORT, Network, SIP_PORT, Server, TOKEN, assert_fields, wait};
use super::sipp::{Playing, Sipp};

/// How long the next question to a trunk and the wait for its answer may take: `keepalive = 10s` and 8 s.
const NOTICED: Duration = Duration::from_secs(25);
/// A call that tried nobody in vain is answered by then; one that did lost 5 s.
const AT_ONCE_MS: i64 = 3_000;

/// Writes a server's configuration; `listen` beside UDP and TCP on its address.
fn write(folder: &TempDir, network: Network, listen: &str, sections: &str) {
    let own = network.server();
    let text = format!(
        "[http]\nlisten = {own}:{HTTP_PORT}\ntoken = {TOKEN}\n\n\
         [server]\nlisten = udp:{own}:{SIP_PORT}, tcp:{own}:{SIP_PORT}{listen}\nlog = debug\n\n{sections}"
    );
    fs::write(folder.path().join("config.ini"), text).unwrap();
}

fn start(network: Network, listen: &str, sections: &str) -> Server {
    let folder = TempDir::new().unwrap();
    write(&folder, network, listen, sections);
    Server::start_in(network, folder)
}

/// User 100 calls this number over UDP, is answered, talks and hangs up; milliseconds until the answer.
#[track_caller]
fn call(server: &Server, number: &str, through: &str) -> i64 {
    let known = server.items("cdrs").len();
    (Sipp::new(server.sip(), "call_plain", server.network.host(2)).talk(200))
        .service(number)
        .run();
    let record = server.records(known + 1).remove(0);
    assert_fields(
        &record,
        &[
            ("disposition", json!("answered")),
            ("through", json!(through)),
            ("direction", json!("outgoing")),
        ],
    );
    let ms = |field: &str| record[field].as_i64().unwrap();
    ms("duration_ms") - ms("talk_ms")
}

/// The phone of user 101 behind a server, for one call.
fn phone(server: &Server) -> Playing {
    let playing =
        (Sipp::new(server.sip(), "answer", server.network.host(3)).service("101")).start();
    // SIPp binds its port within this time.
    std::thread::sleep(Duration::from_millis(400));
    playing
}

#[track_caller]
fn wait_for_state(server: &Server, trunk: &str, state: &str) -> Value {
    let path = format!("trunks/{trunk}");
    wait(
        NOTICED,
        || server.get(&path)["state"] == state,
        || {
            format!(
                "{trunk} is not {state}: {}\n{}",
                server.get(&path),
                server.log()
            )
        },
    );
    server.get(&path)
}

/// A server behind a trunk: numbers that begin with 0 are its users', and user 101's phone is at .3.
fn behind(network: Network, listen: &str, trunk: &str) -> Server {
    let phone = network.host(3);
    let sections = format!(
        "[user 101]\naddresses = {phone}:5060\n[trunk a]\nkeepalive = 0\n{trunk}\n\
         [route in]\nprefix = 0\nstrip = 1\nto = user:101\n"
    );
    start(network, listen, &sections)
}

/// A caller's server with two trunks: the first one's server is killed and started again.
fn fails_over(transport: &str, is_six: bool) {
    let [a, b, c] = [(); 3].map(|()| Network::take());
    // There is one loopback address of IPv6: ports tell the servers apart.
    let base = 20_000 + (std::process::id() % 20_000) as u16;
    let six = |number: u16| format!("[::1]:{}", base + number);
    let four = |network: Network| format!("{}:{SIP_PORT}", network.server());
    let (listen, at, from) = match is_six {
        true => (
            [0, 1, 2].map(|number| format!(", {transport}:{}", six(number))),
            [six(1), six(2)],
            six(0),
        ),
        false => ([(); 3].map(|()| String::new()), [four(b), four(c)], four(a)),
    };
    let trunk = format!("addresses = {from}\ntransport = {transport}");
    let server_b = behind(b, &listen[1], &trunk);
    let server_c = behind(c, &listen[2], &trunk);
    let sections = format!(
        "[user 100]\naddresses = {}\n\
         [trunk b]\naddresses = {}\ntransport = {transport}\nkeepalive = 10s\n\
         [trunk c]\naddresses = {}\ntransport = {transport}\nkeepalive = 10s\n\
         [route out]\nprefix = 0\nto = trunk:b, trunk:c\n",
        a.host(2),
        at[0],
        at[1]
    );
    let server = start(a, &listen[0], &sections);
    let shown = wait_for_state(&server, "b", "up");
    assert_fields(
        &shown["reached"][0],
        &[
            ("address", json!(at[0])),
            ("state", json!("up")),
            ("status", json!("200 OK")),
        ],
    );
    wait_for_state(&server, "c", "up");
    server.wait_for_log(&format!(
        "event=trunk name=b address={} transport={transport} state=up reason=\"200 OK\"",
        at[0]
    ));

    let callee = phone(&server_b);
    assert!(call(&server, "0101", "trunk:b") < AT_ONCE_MS);
    callee.well();
    let incoming = server_b.record();
    assert_fields(
        &incoming,
        &[
            ("direction", json!("incoming")),
            ("through", json!("trunk:a")),
            ("caller", json!("100")),
        ],
    );

    // Before anybody has noticed a call may lose its 5 s, once; then none does.
    let (network, folder) = server_b.cut_power();
    let killed = Instant::now();
    let callee = phone(&server_c);
    let waited = call(&server, "0101", "trunk:c");
    assert!(waited < 8_000, "{waited}");
    callee.well();
    let down = wait_for_state(&server, "b", "down");
    let reason = if transport == "tcp" {
        "no connection"
    } else {
        "no answer"
    };
    assert_eq!(down["reached"][0]["status"], reason, "{down}");
    assert!(killed.elapsed() < NOTICED, "{:?}", killed.elapsed());
    let callee = phone(&server_c);
    let waited = call(&server, "0101", "trunk:c");
    assert!(
        waited < AT_ONCE_MS,
        "{waited} ms, though it is known to be dead"
    );
    callee.well();

    let server_b = Server::start_in(network, folder);
    wait_for_state(&server, "b", "up");
    let callee = phone(&server_b);
    assert!(call(&server, "0101", "trunk:b") < AT_ONCE_MS);
    callee.well();
    let told = |state: &str| {
        let of_b = |line: &&str| {
            line.contains("event=trunk name=b") && line.contains(&format!("state={state}"))
        };
        server.log().lines().filter(of_b).count()
    };
    assert_eq!((told("up"), told("down")), (2, 1), "{}", server.log());
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_trunk_that_is_killed_is_left_and_used_again_udp() {
    fails_over("udp", false);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_trunk_that_is_killed_is_left_and_used_again_tcp() {
    fails_over("tcp", false);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_trunk_that_is_killed_is_left_and_used_again_udp_over_ipv6() {
    fails_over("udp", true);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn sighup_changes_trunks_and_leaves_the_others_alone() {
    let [a, b, c] = [(); 3].map(|()| Network::take());
    let four = |network: Network| format!("{}:{SIP_PORT}", network.server());
    let trunk = format!("addresses = {}\ntransport = udp", four(a));
    let [server_b, server_c] = [b, c].map(|network| behind(network, "", &trunk));
    let sections = |trunks: &str, to: &str| {
        format!(
            "[user 100]\naddresses = {}\n{trunks}[route out]\nprefix = 0\nto = {to}\n",
            a.host(2)
        )
    };
    let trunk =
        |name: &str, at: String| format!("[trunk {name}]\naddresses = {at}\nkeepalive = 1h\n");
    let stays = trunk("b", four(b));
    let first = format!("{}{stays}", trunk("gone", four(c)));
    let server = start(a, "", &sections(&first, "trunk:b"));
    let before = wait_for_state(&server, "b", "up");
    wait_for_state(&server, "gone", "up");
    let callee = phone(&server_b);
    let caller = (Sipp::new(server.sip(), "call_plain", a.host(2)).talk(6_000))
        .service("0101")
        .start();
    let is_up = || {
        server
            .items("calls")
            .iter()
            .any(|call| call["state"] == "answered")
    };
    wait(Duration::from_secs(5), is_up, || server.log());

    // One is gone, one is new, and one has another place in the file; nobody is there where the new one is.
    let nowhere = format!("{}:{SIP_PORT}", b.host(9));
    let second = format!("{stays}{}", trunk("c", nowhere.clone()));
    write(
        &server.folder,
        a,
        "",
        &sections(&second, "trunk:c, trunk:b"),
    );
    server.signal("HUP");
    server.wait_for_log("event=reload");
    assert!(is_up(), "the call goes on");
    assert_eq!(server.request("GET", "trunks/gone", "").0, 404);
    let after = server.get("trunks/b");
    assert_eq!(after, before, "what was known of it is kept");
    assert_eq!(
        server.get("routes/out")["to"],
        json!(["trunk:c", "trunk:b"])
    );
    caller.well();
    callee.well();
    assert_fields(
        &server.record(),
        &[
            ("disposition", json!("answered")),
            ("through", json!("trunk:b")),
            ("ended_by", json!("caller")),
        ],
    );
    let silent = wait_for_state(&server, "c", "down");
    assert_eq!(silent["reached"][0]["address"], nowhere);

    // A changed address takes effect at once.
    let third = format!("{stays}{}", trunk("c", four(c)));
    write(&server.folder, a, "", &sections(&third, "trunk:c, trunk:b"));
    server.signal("HUP");
    let at_new = || server.get("trunks/c")["reached"][0]["address"] == four(c);
    wait(Duration::from_secs(5), at_new, || server.log());
    let callee = phone(&server_c);
    assert!(call(&server, "0101", "trunk:c") < AT_ONCE_MS);
    callee.well();
}

/// A server with user 100 at .2, and carriers at .3 and .4 that are not asked whether they are there: SIPp would take that
/// for a call.
struct Office {
    server: Server,
}

impl Office {
    fn open(more: &str) -> Self {
        let network = Network::take();
        let at = |last: u8| network.host(last);
        let sections = format!(
            "{more}[user 100]\naddresses = {}\n\
             [trunk one]\naddresses = {}:5060\nkeepalive = 0\n\
             [trunk two]\naddresses = {}:5060\nkeepalive = 0\n\
             [route both]\nprefix = 0\nto = trunk:one, trunk:two\n\
             [route first]\nprefix = 1\nto = trunk:one\n",
            at(2),
            at(3),
            at(4)
        );
        Self {
            server: start(network, "", &sections),
        }
    }

    fn carrier(&self, last: u8, scenario: &'static str) -> Sipp {
        Sipp::new(self.server.sip(), scenario, self.server.network.host(last))
    }

    fn caller(&self, scenario: &'static str, number: &str) -> Sipp {
        Sipp::new(self.server.sip(), scenario, self.server.network.host(2)).service(number)
    }

    /// The carrier is there when this returns.
    fn begin(sipp: Sipp) -> Playing {
        let playing = sipp.start();
        std::thread::sleep(Duration::from_millis(400));
        playing
    }

    /// A carrier that refuses a call to it alone; what the caller and the record are told.
    fn refused(&self, status: u16, header: &str, told: u16) -> (String, Value) {
        let known = self.server.items("cdrs").len();
        let carrier = self.carrier(3, "carrier_refuses").status(status);
        let carrier = Self::begin(carrier.header(header));
        let said = self.caller("call_refused_plain", "1555").status(told).run();
        let heard = carrier.well();
        let record = self.server.records(known + 1).remove(0);
        assert_fields(
            &record,
            &[("status", json!(told)), ("through", json!("trunk:one"))],
        );
        (format!("{said}{heard}"), record)
    }
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_carrier_redirects_and_challenges_in_vain() {
    let office = Office::open("");
    // Whom it names hears nothing of it.
    let named = UdpSocket::bind((office.server.network.host(4), SIP_PORT)).unwrap();
    named.set_nonblocking(true).unwrap();
    let contact = format!("Contact: <sip:1900@{}>", office.server.network.host(4));
    let (messages, _) = office.refused(302, &contact, 480);
    assert_eq!(messages.matches("sip:1900@").count(), 1, "{messages}");
    let heard = named.recv(&mut [0; 16]).map_err(|error| error.kind());
    assert_eq!(heard, Err(ErrorKind::WouldBlock));
    let header = "Proxy-Authenticate: Digest realm=\"carrier\", nonce=\"abc\", algorithm=MD5";
    let (messages, record) = office.refused(407, header, 500);
    assert_eq!(record["disposition"], "failed");
    assert!(!messages.contains("Proxy-Authorization"), "{messages}");
    assert!(!messages.contains("Authorization:"), "{messages}");
    assert_eq!(
        messages.matches("Proxy-Authenticate").count(),
        1,
        "it is the carrier's and ours alone: {messages}"
    );
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_carrier_that_says_503_is_left_alone_for_its_time() {
    let office = Office::open("");
    let server = &office.server;
    let first = office.carrier(3, "carrier_refuses").status(503);
    let first = Office::begin(first.header("Retry-After: 6"));
    let second = Office::begin(office.carrier(4, "answer"));
    assert!(call(server, "0555", "trunk:two") < AT_ONCE_MS);
    let refused = Instant::now();
    first.well();
    second.well();
    let one = server.get("trunks/one");
    assert_eq!(one["state"], "down", "{one}");
    assert_eq!(one["reached"][0]["status"], "503 Service Unavailable");
    server.wait_for_log("retry_after_s=6");
    // Now nobody is there, and nobody waits for him.
    let second = Office::begin(office.carrier(4, "answer"));
    assert!(call(server, "0555", "trunk:two") < AT_ONCE_MS);
    second.well();
    std::thread::sleep(Duration::from_millis(6_500).saturating_sub(refused.elapsed()));
    assert_eq!(server.get("trunks/one")["state"], "unknown");
    let first = Office::begin(office.carrier(3, "answer"));
    assert!(call(server, "0555", "trunk:one") < AT_ONCE_MS);
    first.well();
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_carrier_plays_before_the_answer() {
    let office = Office::open("");
    let carrier = Office::begin(office.carrier(3, "carrier_early"));
    let said = office.caller("call_early", "1555").talk(300).run();
    carrier.well();
    // Each 183 and the 200 bring the carrier's session description.
    let carriers = format!("c=IN IP4 {}", office.server.network.host(3));
    assert_eq!(said.matches(&carriers).count(), 3, "{said}");
    let record = office.server.record();
    assert_fields(&record, &[("disposition", json!("answered"))]);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_carrier_refuses_the_prack_that_it_asks_for() {
    let office = Office::open("");
    let carrier = Office::begin(office.carrier(3, "carrier_prack"));
    let said = office.caller("call_progress", "1555").talk(300).run();
    let heard = carrier.well();
    assert!(heard.contains("RAck: 7 1 INVITE"), "{heard}");
    assert!(
        !said.contains("PRACK sip"),
        "the caller has no part in it: {said}"
    );
    let record = office.server.record();
    assert_fields(&record, &[("disposition", json!("answered"))]);
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_carrier_where_nobody_answers_is_cancelled() {
    let office = Office::open("[call]\nring_timeout = 3s\n");
    let carrier = Office::begin(office.carrier(3, "answer_cancelled"));
    (office.caller("call_refused_plain", "1555").status(480)).run();
    carrier.well();
    assert_fields(
        &office.server.record(),
        &[
            ("disposition", json!("no_answer")),
            ("status", json!(480)),
            ("ended_by", json!("server")),
        ],
    );
}
