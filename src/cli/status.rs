//! `sipkeep status` for people.

use std::fmt::Write as _;

use serde_json::Value;

use super::table::{self, Show, column, printable, span};

/// The answer of `GET status` as text. What an answer does not have is shown as `-`: the server may be of another
/// version than this command.
pub fn text(status: &Value, terminal: bool) -> String {
    let at = |path: &str| {
        let found = path
            .split('.')
            .try_fold(status, |value, key| value.get(key));
        match found {
            None | Some(Value::Null) => "-".to_owned(),
            Some(Value::String(text)) => printable(text),
            Some(other) => printable(&other.to_string()),
        }
    };
    let number = |path: &str| at(path).parse::<u64>().ok();
    let is = |path: &str| at(path) == "true";
    let mut rows = Vec::new();
    let mut row = |title: &str, text: String| rows.push(vec![title.to_owned(), text]);
    let uptime = number("uptime_s").map_or_else(|| "-".into(), span);
    row("sipkeep", format!("{}, up {uptime}", at("version")));
    let counts = [
        "users",
        "registrations",
        "calls",
        "lines",
        "trunks",
        "bans",
        "messages",
    ];
    for name in counts {
        row(name, at(&format!("counts.{name}")));
    }
    row(
        "memory",
        number("memory_bytes").map_or_else(|| "-".into(), bytes),
    );
    let latency = ["p50", "p99", "p999"].map(|name| at(&format!("latency_us.{name}")));
    row(
        "latency",
        format!(
            "{} us; 99 %: {} us; 99.9 %: {} us",
            latency[0], latency[1], latency[2]
        ),
    );
    row(
        "guard",
        format!("{}, {} packets discarded", at("mode"), at("guard.dropped")),
    );
    let kernel = if is("guard.kernel.active") {
        let held = format!(
            "{} bans of {}",
            at("guard.kernel.bans"),
            at("guard.kernel.capacity")
        );
        match at("guard.kernel.reason").as_str() {
            "-" => held,
            reason => format!("{held}, {reason}"),
        }
    } else {
        format!("off: {}", at("guard.kernel.reason"))
    };
    row("kernel filter", kernel);
    if number("guard.reassembly_failures").is_some_and(|failures| failures > 0) {
        row(
            "reassembly",
            format!("{} datagrams failed", at("guard.reassembly_failures")),
        );
    }
    let store = if is("store.ok") {
        format!(
            "ok, {} changes wait, sync {} ms",
            at("store.pending"),
            at("store.sync_ms")
        )
    } else {
        format!(
            "FAILED: {}, {} changes wait",
            at("store.error"),
            at("store.pending")
        )
    };
    row("state file", store);
    let mut text = table::align(&rows, &[false, false]);
    let list = |path: &str| {
        let found = path
            .split('.')
            .try_fold(status, |value, key| value.get(key));
        found
            .and_then(Value::as_array)
            .filter(|items| !items.is_empty())
    };
    if let Some(lanes) = list("guard.lanes") {
        let columns = [
            column("lane", "name", Show::Text),
            column("capacity", "capacity", Show::Number),
            column("receive buffer", "receive_buffer_bytes", Show::Number),
            column("drops", "drops", Show::Number),
        ];
        text = text + "\n" + &table::table(&columns, lanes, 0, terminal);
    }
    if let Some(phones) = list("misconfigured") {
        let columns = [
            column("user", "user", Show::Text),
            column("source", "source", Show::Text),
            column("failures", "failures", Show::Number),
        ];
        // To a string: cannot fail.
        let _ = write!(text, "\nPhones with a wrong password:\n");
        text += &table::table(&columns, phones, 0, terminal);
    }
    text
}

fn bytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_of_a_status_is_shown() {
        let status = json!({
            "version": "0.1.0", "uptime_s": 7_500, "mode": "enforce",
            "counts": {"users": 3, "registrations": 2, "calls": 1, "lines": 0, "trunks": 0, "bans": 4, "messages": 5},
            "memory_bytes": 12_345_678, "latency_us": {"p50": 40, "p99": 90, "p999": 200},
            "guard": {"dropped": 17,
                "kernel": {"active": false, "bans": 0, "capacity": 0, "reason": "not yet"},
                "lanes": [{"name": "all", "capacity": 0, "receive_buffer_bytes": 212_992, "drops": 1}],
                "reassembly_failures": 2},
            "store": {"ok": false, "error": "disk full", "pending": 7, "sync_ms": 3},
            "misconfigured": [{"user": "100", "source": "192.168.1.9", "failures": 12}]
        });
        let expected = "\
sipkeep        0.1.0, up 2h 5m
users          3
registrations  2
calls          1
lines          0
trunks         0
bans           4
messages       5
memory         12.3 MB
latency        40 us; 99 %: 90 us; 99.9 %: 200 us
guard          enforce, 17 packets discarded
kernel filter  off: not yet
reassembly     2 datagrams failed
state file     FAILED: disk full, 7 changes wait

lane  capacity  receive buffer  drops
all          0          212992      1

Phones with a wrong password:
user  source       failures
100   192.168.1.9        12
";
        assert_eq!(text(&status, true), expected);
    }

    #[test]
    fn an_answer_of_another_version_is_shown_as_far_as_it_goes() {
        let kernel = json!({"active": true});
        let shown = text(
            &json!({"store": {"ok": true}, "guard": {"kernel": kernel}}),
            true,
        );
        assert!(shown.starts_with("sipkeep        -, up -\n"), "{shown}");
        assert!(
            shown.contains("state file     ok, - changes wait"),
            "{shown}"
        );
        assert!(shown.contains("kernel filter  - bans of -\n"), "{shown}");
        let kernel = json!({"active": true, "bans": 3, "capacity": 700, "reason": "UDP only"});
        let shown = text(&json!({"guard": {"kernel": kernel}}), true);
        assert!(
            shown.contains("kernel filter  3 bans of 700, UDP only\n"),
            "{shown}"
        );
    }
}
