//! Telephones with real media call each other through the server: baresip, Linphone, PJSUA2.

use std::time::Duration;

use serde_json::json;

use super::baresip::Baresip;
use super::capture::Capture;
use super::harness::{Network, Server, assert_fields, wait};
use super::linphone::Linphone;
use super::pjsua2::Pjsua2;
use super::sipp::users;
use super::sound::assert_tone;

const WITHIN: Duration = Duration::from_secs(15);

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
    let _capture = Capture::of(&server);
    let mut baresip = Baresip::start(&server, network.host(4), ("100", transport, 400));
    registered(&server, &["100"]);
    let mut phone = Pjsua2::start(&server, network.host(5), "101", transport);

    // baresip calls, and hangs up.
    baresip.command("dial", &format!("sip:101@{}", network.server()));
    phone.wait_for("confirmed");
    baresip.wait_for("CALL_ESTABLISHED", 0);
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(phone.packets() > 20);
    baresip.command("hangup", "");
    phone.wait_for("disconnected 200");
    let record = server.record();
    let answered = |caller: &str, dialled: &str| {
        [
            ("caller", json!(caller)),
            ("dialled", json!(dialled)),
            ("answered_by", json!(dialled)),
            ("disposition", json!("answered")),
            ("ended_by", json!("caller")),
        ]
    };
    assert_fields(&record, &answered("100", "101"));
    assert!(
        record["user_agent"].as_str().unwrap().contains("baresip"),
        "{record:#}"
    );

    // PJSUA2 calls, and hangs up.
    baresip.read();
    let seen = baresip.said.len();
    phone.tell("call 100");
    phone.wait_for("confirmed");
    baresip.wait_for("CALL_ESTABLISHED", seen);
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(phone.packets() > 20);
    phone.tell("hangup");
    phone.wait_for("disconnected 200");
    baresip.wait_for("CALL_CLOSED", seen);
    assert_fields(&server.records(2).remove(0), &answered("101", "100"));
    phone.quit();
}

/// What a call's two sides can do while it is up, each in turn.
fn hold_digits_codec_update(transport: &str) {
    let server = Server::start(Network::take(), &format!("\n{}", users(&["100", "101"])));
    let network = server.network;
    let _capture = Capture::of(&server);
    let mut one = Pjsua2::start(&server, network.host(4), "100", transport);
    let mut other = Pjsua2::start(&server, network.host(5), "101", transport);
    one.tell("call 101");
    for phone in [&mut one, &mut other] {
        phone.wait_for("confirmed");
    }
    std::thread::sleep(Duration::from_millis(500));
    for is_caller in [true, false] {
        let (this, that) = if is_caller {
            (&mut one, &mut other)
        } else {
            (&mut other, &mut one)
        };
        this.tell("hold");
        that.wait_for("media remote-hold");
        this.wait_for("media local-hold");
        this.tell("resume");
        that.wait_for("media active");
        this.wait_for("media active");
        // By RTP (RFC 4733) and by INFO.
        this.tell("dtmf 15#");
        for digit in ["1", "5", "#"] {
            that.wait_for(&format!("digit {digit} rtp"));
        }
        this.tell("info 42");
        for digit in ["4", "2"] {
            that.wait_for(&format!("digit {digit} info"));
        }
        let codec = if is_caller { "PCMA" } else { "PCMU" };
        this.tell(&format!("codec {codec}"));
        for phone in [&mut *that, &mut *this] {
            let media = phone.wait_for("media active");
            assert!(media.ends_with(codec), "{media}");
        }
        this.tell("update");
        this.wait_for("transaction UPDATE 200");
        let before = that.packets();
        std::thread::sleep(Duration::from_millis(1_000));
        assert!(that.packets() > before + 20, "no sound after all this");
    }
    other.tell("hangup");
    one.wait_for("disconnected 200");
    other.wait_for("disconnected 200");
    let fields = [
        ("disposition", json!("answered")),
        ("ended_by", json!("callee")),
    ];
    assert_fields(&server.record(), &fields);
    one.quit();
    other.quit();
}

#[test]
#[ignore = "needs PJSUA2: tests/run peers"]
fn hold_digits_codec_update_udp() {
    hold_digits_codec_update("udp");
}

#[test]
#[ignore = "needs PJSUA2: tests/run peers"]
fn hold_digits_codec_update_tcp() {
    hold_digits_codec_update("tcp");
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
    // What baresip sends on loopback leaves from 127.0.0.1, so that one of them seems to be behind a NAT; and no relay would
    // take the other one's media, which comes from no place that it has ever named.
    let config = format!("\n[media]\nrelay = never\n\n{}", users(&["100", "101"]));
    let server = Server::start(Network::take(), &config);
    let network = server.network;
    let _capture = Capture::of(&server);
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
    let _capture = Capture::of(&server);
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

/// Both sides require reliable provisional responses, and a session timer that is refreshed within the call.
#[test]
#[ignore = "needs PJSUA2: tests/run peers"]
fn reliable_responses_and_a_session_refresh() {
    let server = Server::start(Network::take(), &format!("\n{}", users(&["100", "101"])));
    let network = server.network;
    let mut capture = Capture::of(&server);
    let options = ["100rel", "timer"];
    let mut one = Pjsua2::start_with(&server, network.host(4), ("100", "udp"), &options);
    let mut other = Pjsua2::start_with(&server, network.host(5), ("101", "tcp"), &options);
    one.tell("call 101");
    for phone in [&mut one, &mut other] {
        phone.wait_for("confirmed");
    }
    // Whoever refreshes does so when half of the 90 seconds are over.
    std::thread::sleep(Duration::from_secs(55));
    one.tell("hangup");
    one.wait_for("disconnected 200");
    other.wait_for("disconnected 200");
    assert_fields(&server.record(), &[("disposition", json!("answered"))]);
    one.quit();
    other.quit();
    let server = network.server();
    for prack in [
        format!("sip.Method == PRACK && ip.src == {server}"),
        format!("sip.Method == PRACK && ip.dst == {server}"),
        format!("sip.Status-Code == 200 && sip.CSeq.method == PRACK && ip.src == {server}"),
    ] {
        assert!(capture.count(&prack) > 0, "none of {prack}");
    }
    let refreshes =
        "(sip.Method == UPDATE || sip.Method == INVITE && sip.to.tag) && sip.Session-Expires";
    assert!(capture.count(refreshes) > 0, "no refresh");
}
