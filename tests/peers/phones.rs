//! Telephones with real media call each other through the server: baresip, Linphone, and PJSUA2, which is driven by
//! `telephone.py` in a Python environment of its own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::baresip::Baresip;
use super::harness::{Network, Running, Server, Tool, assert_fields, wait};
use super::linphone::Linphone;
use super::sipp::{password, users};
use super::sound::assert_tone;

const WITHIN: Duration = Duration::from_secs(15);

/// The Python that has `pjsua2`.
fn python() -> PathBuf {
    std::env::var_os("PEERS_PYTHON").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers-venv/bin/python"),
        PathBuf::from,
    )
}

/// PJSUA2 as 101 with this job.
fn pjsua2(server: &Server, address: Ipv4Addr, transport: &str, job: &[&str]) -> Running {
    let python = python();
    let mut tool = Tool::of(python.to_str().unwrap());
    tool.command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/telephone.py"))
        .args([
            &server.sip().to_string(),
            &address.to_string(),
            "101",
            &password("101"),
            transport,
            "40",
        ])
        .args(job);
    tool.start()
}

/// RTP packets that PJSUA2 received in a second and a half.
fn packets(output: &str) -> u32 {
    let line = output
        .lines()
        .find(|line| line.starts_with("rx "))
        .unwrap_or_else(|| panic!("{output}"));
    line[3..].parse().unwrap()
}

/// Waits until just these users are registered.
#[track_caller]
fn registered(server: &Server, users: &[&str]) {
    wait(
        WITHIN,
        || server.registered() == users,
        || format!("{:?} registered:\n{}", server.registered(), server.log()),
    );
}

fn talk(transport: &str) {
    let server = Server::start(Network::take(), &format!("\n{}", users(&["100", "101"])));
    let network = server.network;
    let mut baresip = Baresip::start(&server, network.host(4), ("100", transport, 400));
    registered(&server, &["100"]);

    // baresip calls, and hangs up.
    let mut phone = pjsua2(&server, network.host(5), transport, &["answer"]);
    phone.wait_for("registered", WITHIN);
    let uri = format!("sip:101@{}", network.server());
    baresip.command("dial", &uri);
    phone.wait_for("confirmed", WITHIN);
    baresip.wait_for("CALL_ESTABLISHED", 0);
    phone.wait_for("rx ", WITHIN);
    assert!(packets(&phone.stdout()) > 20, "{}", phone.stdout());
    baresip.command("hangup", "");
    phone.wait_for("disconnected", WITHIN);
    phone.finish(WITHIN).well();
    let record = server.record();
    assert_fields(
        &record,
        &[
            ("caller", json!("100")),
            ("dialled", json!("101")),
            ("answered_by", json!("101")),
            ("disposition", json!("answered")),
            ("ended_by", json!("caller")),
        ],
    );
    assert!(
        record["user_agent"].as_str().unwrap().contains("baresip"),
        "{record:#}"
    );

    // PJSUA2 calls, and hangs up.
    baresip.read();
    let seen = baresip.said.len();
    let mut phone = pjsua2(&server, network.host(5), transport, &["call", "100"]);
    phone.wait_for("confirmed", WITHIN);
    baresip.wait_for("CALL_ESTABLISHED", seen);
    let output = phone.finish(Duration::from_secs(30)).well().stdout;
    assert!(packets(&output) > 20, "{output}");
    baresip.wait_for("CALL_CLOSED", seen);
    let record = server.records(2).remove(0);
    assert_fields(
        &record,
        &[
            ("caller", json!("101")),
            ("dialled", json!("100")),
            ("answered_by", json!("100")),
            ("disposition", json!("answered")),
            ("ended_by", json!("caller")),
        ],
    );
}

#[test]
#[ignore = "needs baresip and PJSUA2: tests/run peers"]
fn baresip_and_pjsua2_talk_udp() {
    talk("udp");
}

#[test]
#[ignore = "needs baresip and PJSUA2: tests/run peers"]
fn baresip_and_pjsua2_talk_tcp() {
    talk("tcp");
}

/// Each hears the other one's tone, and not its own.
#[test]
#[ignore = "needs baresip: tests/run peers"]
fn two_baresips_hear_each_other() {
    let server = Server::start(Network::take(), &format!("\n{}", users(&["100", "101"])));
    let network = server.network;
    let mut caller = Baresip::start(&server, network.host(4), ("100", "udp", 400));
    let mut callee = Baresip::start(&server, network.host(5), ("101", "tcp", 700));
    registered(&server, &["100", "101"]);
    caller.command("dial", &format!("sip:101@{}", network.server()));
    caller.wait_for("CALL_ESTABLISHED", 0);
    callee.wait_for("CALL_ESTABLISHED", 0);
    std::thread::sleep(Duration::from_secs(4));
    callee.command("hangup", "");
    caller.wait_for("CALL_CLOSED", 0);
    callee.wait_for("CALL_CLOSED", 0);
    assert_tone(&caller.heard(), 700);
    assert_tone(&callee.heard(), 400);
    let record = server.record();
    assert_fields(
        &record,
        &[
            ("disposition", json!("answered")),
            ("ended_by", json!("callee")),
        ],
    );
}

#[test]
#[ignore = "needs baresip and Linphone: tests/run peers"]
fn baresip_and_linphone_hear_each_other() {
    let server = Server::start(Network::take(), &format!("\n{}", users(&["100", "101"])));
    let network = server.network;
    let mut baresip = Baresip::start(&server, network.host(4), ("100", "udp", 400));
    let mut linphone = Linphone::start(&server, "101", 700);
    registered(&server, &["100", "101"]);

    // Linphone calls.
    linphone
        .running
        .say(&format!("call sip:100@{}", network.server()));
    baresip.wait_for("CALL_ESTABLISHED", 0);
    std::thread::sleep(Duration::from_secs(4));
    linphone.running.say("terminate");
    baresip.wait_for("CALL_CLOSED", 0);
    assert_tone(&baresip.heard(), 700);
    linphone.running.wait_for("ended (No error)", WITHIN);
    assert_tone(&linphone.heard(), 400);

    // baresip calls.
    let seen = baresip.said.len();
    baresip.command("dial", &format!("sip:101@{}", network.server()));
    baresip.wait_for("CALL_ESTABLISHED", seen);
    std::thread::sleep(Duration::from_secs(4));
    baresip.command("hangup", "");
    baresip.wait_for("CALL_CLOSED", seen);
    assert_tone(&baresip.heard(), 700);
    for record in server.records(2) {
        assert_fields(
            &record,
            &[
                ("disposition", json!("answered")),
                ("ended_by", json!("caller")),
            ],
        );
    }
    linphone.running.say("quit");
    linphone.running.finish(WITHIN);
}
