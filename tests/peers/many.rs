//! Many calls of SIPp at once: a thousand that are up for a minute, and hundreds over a network that loses every fifth packet.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::capture::Capture;
use super::harness::{Network, Server, assert_fields, wait};
use super::sipp::{Many, Sipp};

/// Users by address at .2 and .3, and calls between them.
struct Office(Server);

impl Office {
    fn open() -> Self {
        let config = "log = warn\n[call]\ncalls_max = 1100\n\n\
            [user 100]\naddresses = {net}.2:5060\n\n[user 101]\naddresses = {net}.3:5060\n";
        Self(Server::start(Network::take(), config))
    }

    fn sipp(&self, scenario: &'static str, host: u8, many: Many) -> Sipp {
        Sipp::new(self.0.sip(), scenario, self.0.network.host(host)).many(many)
    }

    /// All records, whatever the size of a page.
    fn records(&self) -> Vec<serde_json::Value> {
        let mut records = Vec::new();
        let mut path = "cdrs?limit=500".to_owned();
        loop {
            let page = self.0.get(&path);
            records.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => path = format!("cdrs?limit=500&after={next}"),
                None => return records,
            }
        }
    }

    /// Calls from .2 to .3, all of which must end well, with their records; `meanwhile` looks on while they are up. .3 answers
    /// until it is stopped: where packets are lost SIPp takes some that come again for further calls.
    fn play(
        &self,
        (caller, callee): (&'static str, &'static str),
        many: Many,
        talk_ms: u32,
        meanwhile: impl FnOnce(&Server),
    ) {
        let _capture = Capture::of(&self.0);
        let calls = many.calls * 2;
        let callee = self.sipp(callee, 3, Many { calls, ..many }).start();
        std::thread::sleep(Duration::from_millis(500));
        let caller = self.sipp(caller, 2, many).service("101");
        let caller = caller.talk(talk_ms).start();
        meanwhile(&self.0);
        caller.well();
        drop(callee);
        wait(
            Duration::from_secs(40),
            || self.0.items("calls").is_empty(),
            || format!("calls are left: {:#?}", self.0.items("calls")),
        );
        // The last ones are on their way to the disk.
        wait(
            Duration::from_secs(20),
            || self.records().len() >= many.calls,
            || format!("{} records", self.records().len()),
        );
        let records = self.records();
        assert_eq!(records.len(), many.calls, "a record for each call");
        for record in &records {
            assert_fields(
                record,
                &[
                    ("caller", json!("100")),
                    ("dialled", json!("101")),
                    ("answered_by", json!("101")),
                    ("disposition", json!("answered")),
                    ("ended_by", json!("caller")),
                    ("status", json!(200)),
                ],
            );
            let talked = record["talk_ms"].as_u64().unwrap();
            assert!(talked + 500 >= u64::from(talk_ms), "{record:#}");
        }
    }
}

#[test]
#[ignore = "needs SIPp: tests/run peers"]
fn a_thousand_calls_are_up_for_a_minute() {
    let many = Many {
        calls: 1_000,
        per_second: 100,
        within: Duration::from_secs(150),
    };
    Office::open().play(("call_plain", "answer"), many, 60_000, |server| {
        wait(
            Duration::from_secs(60),
            || server.get("status")["counts"]["calls"] == json!(1_000),
            || format!("{:#}", server.get("status")),
        );
    });
}

/// Over a network of its own, where every fifth SIP packet is lost, whoever sent it.
#[test]
#[ignore = "needs SIPp, and root or user namespaces for a network of its own: tests/run peers"]
fn no_record_is_lost_with_the_packets() {
    const INSIDE: &str = "SIPKEEP_TEST_LOSES_PACKETS";
    if std::env::var_os(INSIDE).is_some() {
        let many = Many {
            calls: 200,
            per_second: 20,
            within: Duration::from_secs(120),
        };
        Office::open().play(("call_lossy", "answer_lossy"), many, 1_000, |_| ());
        return;
    }
    let rules = "add table inet loss; \
        add chain inet loss input { type filter hook input priority 0; }; \
        add rule inet loss input udp dport 5060 numgen random mod 100 < 20 counter drop";
    let script =
        format!("ip link set lo up && nft '{rules}' && \"$@\" && nft list table inet loss");
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-c", &script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "peers::many::no_record_is_lost_with_the_packets"])
        .args(["--include-ignored", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    // The rule has done something: `counter packets N bytes M drop`.
    let lost = said.split("counter packets ").nth(1).expect(&said);
    let lost: u32 = lost.split(' ').next().unwrap().parse().unwrap();
    assert!(lost > 200, "{said}");
    println!("{lost} packets lost");
}
