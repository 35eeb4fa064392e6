//! A ringing group of phones behind NATs and a device that never registers.

use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::super::harness::{Running, Server, Tool, assert_fields, signal, wait};
use super::super::sipp::{Sipp, users};
use super::phone::{Kind, Phone, TONES, each_hears};
use super::town::{Nat, Town, registered};

/// What passes in the street.
struct Street {
    running: Running,
    folder: TempDir,
}

impl Street {
    fn watch() -> Self {
        let folder = TempDir::new().unwrap();
        let mut tool = Tool::of("tshark");
        tool.command
            .args(["-q", "-i", "street", "-f", "udp port 5060"]);
        tool.command.arg("-w").arg(folder.path().join("capture"));
        let running = tool.start();
        wait(
            Duration::from_secs(30),
            || running.stderr().contains("Capturing on"),
            || running.stderr(),
        );
        // It says so a little before it does so.
        std::thread::sleep(Duration::from_secs(1));
        Self { running, folder }
    }

    /// Who was told that the call was answered elsewhere: host and port.
    fn told_elsewhere(self) -> Vec<String> {
        std::thread::sleep(Duration::from_secs(1));
        signal(self.running.id(), "INT");
        self.running.finish(Duration::from_secs(10));
        let mut tool = Tool::of("tshark");
        tool.command
            .arg("-r")
            .arg(self.folder.path().join("capture"));
        tool.command.args([
            "-Y",
            "sip.Method == CANCEL && sip.Reason contains \"Call completed elsewhere\"",
            "-T",
            "fields",
            "-e",
            "ip.dst",
        ]);
        let found = tool.run(Duration::from_secs(60)).well().stdout;
        let mut hosts: Vec<String> = found.lines().map(str::to_owned).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

/// All ring. First the device takes the call, then a phone behind a NAT does; the others are told each time. Then the device
/// calls a phone behind a NAT.
#[test]
#[ignore = "needs root, SIPp, tshark, baresip, Linphone and PJSUA2: tests/run peers"]
fn a_group_behind_nats_rings_with_a_device_known_by_its_address() {
    const USERS: [&str; 4] = ["100", "101", "102", "103"];
    let town = Town::new();
    let (one, other) = (town.home(11, Nat::Keeps), town.home(12, Nat::Random));
    let places = [one.room(10), other.room(10), town.house(30), one.room(11)];
    let device = town.house(50);
    let config = format!(
        "\n{}[user 900]\naddresses = 203.0.113.50\n\n[group 200]\nmembers = 100, 101, 102, 900\n",
        users(&USERS)
    );
    town.enter(|| {
        let server = Server::start(Town::network(), &config);
        let kinds = [Kind::Baresip, Kind::Pjsua2, Kind::Linphone, Kind::Pjsua2];
        let mut phones: Vec<Phone> = (0..4)
            .map(|at| {
                let who = (USERS[at], TONES[at]);
                Phone::start_with(kinds[at], &server, &places[at], who, ("udp", false))
            })
            .collect();
        registered(&server, &USERS);
        let (caller, members) = phones.split_last_mut().unwrap();
        let sipp = |scenario| Sipp::new(server.sip(), scenario, device.address);

        // The device says what it hears.
        let street = Street::watch();
        let answers = sipp("answer").ring(1_500).echo();
        let answering = device.enter(|| answers.start());
        caller.dial("200");
        for member in members.iter_mut() {
            member.rings();
        }
        caller.is_up();
        for member in members.iter_mut() {
            member.is_over();
        }
        std::thread::sleep(Duration::from_millis(500));
        let own = caller.tone;
        each_hears(&mut [(caller, own)], 1_500);
        caller.hang_up();
        caller.is_over();
        answering.well();
        let everybody = ["203.0.113.11", "203.0.113.12", "203.0.113.30"];
        assert_eq!(street.told_elsewhere(), everybody);

        // PJSUA2 behind the other NAT.
        let street = Street::watch();
        let ringing = device.enter(|| sipp("answer_cancelled").start());
        caller.dial("200");
        for member in members.iter_mut() {
            member.rings();
        }
        ringing.wait_for("180 Ringing");
        members[1].answer();
        members[1].is_up();
        caller.is_up();
        ringing.well();
        members[0].is_over();
        members[2].is_over();
        std::thread::sleep(Duration::from_millis(500));
        let answerer = &mut members[1];
        let tones = (caller.tone, answerer.tone);
        each_hears(&mut [(caller, tones.1), (answerer, tones.0)], 1_500);
        members[1].hang_up();
        members[1].is_over();
        caller.is_over();
        let others = ["203.0.113.11", "203.0.113.30", "203.0.113.50"];
        assert_eq!(street.told_elsewhere(), others);

        // The device calls, and says what it hears as soon as it has acknowledged.
        let calling = device.enter(|| sipp("call_plain").caller("900").talk(3_500).echo().start());
        members[1].rings();
        members[1].answer();
        members[1].is_up();
        std::thread::sleep(Duration::from_millis(500));
        let own = members[1].tone;
        each_hears(&mut [(&mut members[1], own)], 1_500);
        members[1].is_over();
        calling.well();

        let records = server.records(3);
        let calls = [
            ("900", "101", "101"),
            ("103", "200", "101"),
            ("103", "200", "900"),
        ];
        for (record, (caller, dialled, by)) in records.iter().zip(calls) {
            let fields = [
                ("disposition", json!("answered")),
                ("caller", json!(caller)),
                ("dialled", json!(dialled)),
                ("answered_by", json!(by)),
            ];
            assert_fields(record, &fields);
        }
    });
}
