//! The load generator against the real server, each of its subcommands once and short: what it says must be there and make
//! sense. No figure is asserted.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

const SERVER: &str = env!("CARGO_BIN_EXE_sipkeep");
const PORT: u16 = 5060;
const PATIENCE: Duration = Duration::from_secs(20);

/// 127.x.y.1 in a /24 that nobody else has, other runs on this machine very likely included.
fn address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // Away from 127.64.0.0/10, where floods come from: registered phones and forged sources are not to meet.
    let second = 32 | (high & 0x1f);
    let third = low.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
    Ipv4Addr::new(127, second, third, 1)
}

/// Runs the load generator; what it prints.
fn load(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sipkeep-load"))
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(words: &[&str]) -> Value {
    let text = load(&[words, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A server with users from 1000 on, and a trunk.
struct Server {
    child: Child,
    folder: TempDir,
    address: Ipv4Addr,
}

impl Server {
    fn start(users: u32) -> Self {
        let address = address();
        let folder = tempfile::tempdir().unwrap();
        let mut text = format!(
            "[server]\nlisten = udp:{address}:{PORT}\nlog = error\n[http]\nlisten = {address}:8080\n[guard]\nmode = off\n"
        );
        for user in 1_000..1_000 + users {
            text.push_str(&format!("[user {user}]\npassword = n7-wetter-koffer\n"));
        }
        std::fs::write(folder.path().join("config.ini"), text).unwrap();
        let child = Command::new(SERVER)
            .arg("--config")
            .arg(folder.path().join("config.ini"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self {
            child,
            folder,
            address,
        };
        let begin = Instant::now();
        while std::net::TcpStream::connect((address, 8080)).is_err() {
            assert_eq!(server.child.try_wait().unwrap(), None, "the server ended");
            assert!(begin.elapsed() < PATIENCE, "the server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// A scenario against it, short.
    fn load(&self, words: &[&str]) -> Value {
        let target = format!("{}:{PORT}", self.address);
        let phones = Ipv4Addr::from_bits(self.address.to_bits() + 1).to_string();
        let (pid, config) = (self.child.id().to_string(), self.config());
        let all = [
            "--target",
            &target,
            "--bind",
            &phones,
            "--pid",
            &pid,
            "--server",
            SERVER,
            "--config",
            &config,
            "--warmup",
            "0.1",
            "--seconds",
            "0.4",
        ];
        json(&[&words[..1], &all, &words[1..]].concat())
    }

    fn config(&self) -> String {
        let path = self.folder.path().join("config.ini");
        path.to_string_lossy().into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn count(report: &Value, name: &str) -> u64 {
    report[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no {name}: {report}"))
}

#[test]
fn scenarios_tell_what_the_server_holds() {
    let server = Server::start(8);
    let users = ["--users", "1000-1007"];
    let refresh = server.load(
        &[
            &[
                "register",
                "--count",
                "20",
                "--warmup",
                "0",
                "--seconds",
                "20",
            ][..],
            &users,
        ]
        .concat(),
    );
    // As long as they take.
    assert_eq!(
        (count(&refresh, "done"), count(&refresh, "failed")),
        (20, 0),
        "{refresh}"
    );
    assert_eq!(count(&refresh["tables"], "registrations"), 8);
    // Each user removed what was there, registered, and so many refreshes.
    let remembered = count(&refresh["tables"], "transactions_completed");
    assert!(remembered >= 8 + 20, "{refresh}");
    assert!(count(&refresh, "resident_bytes") > 1_000_000);
    let all = server.load(&["register-all", "--window", "4", "--users", "1000-1003"]);
    assert!(
        count(&all, "done") > 0 && count(&all, "failed") == 0,
        "{all}"
    );
}

/// Faster than a wait can be short: answers are heard all the same.
#[test]
fn an_open_loop_may_be_fast() {
    let server = Server::start(1);
    let report = server.load(&["options", "--rate", "3000"]);
    assert!(
        count(&report, "done") > 0 && count(&report, "failed") == 0,
        "{report}"
    );
}

#[test]
fn a_mix_tells_its_kinds_apart() {
    let server = Server::start(24);
    let users = ["--users", "1000-1023"];
    let closed = [
        "mix",
        "--mix",
        "register=5,options=3,calls=2,register-401=1",
        "--window",
        "6",
    ];
    let open = ["mix", "--rate", "40", "--scanners", "100", "--sources", "5"];
    for (words, kinds) in [(&closed[..], 4), (&open[..], 3)] {
        let report = server.load(&[words, &users].concat());
        let parts = report["kinds"].as_array().unwrap();
        assert_eq!(parts.len(), kinds);
        let sum: u64 = parts.iter().map(|part| count(part, "done")).sum();
        assert!(sum > 0 && sum == count(&report, "done"), "{report}");
        assert_eq!(count(&report, "failed"), 0, "{report}");
        for part in parts {
            assert!(
                part["kind"].is_string() && part["latency_us"]["p99"].is_u64(),
                "{part}"
            );
        }
        let flood = report["flood_rate"].as_f64();
        assert_eq!(
            flood.is_some_and(|rate| rate > 0.0),
            words.contains(&"--scanners")
        );
        assert!(count(&report["tables"], "registrations") >= 16, "{report}");
    }
}

#[test]
fn an_idle_server_is_watched() {
    let target = format!("{}:15060", address());
    let report = json(&[
        "idle",
        "--server",
        SERVER,
        "--seconds",
        "1",
        "--target",
        &target,
    ]);
    assert!(
        report["ticks"].is_u64() && report["wakes"].is_u64(),
        "{report}"
    );
    assert_eq!(count(&report["tables"], "registrations"), 1);
    let threads = report["threads"].as_array().unwrap();
    assert!(
        threads.iter().any(|thread| thread["name"] == "sipkeep"),
        "{report}"
    );
}

#[test]
fn a_wrong_password_fails_and_ends() {
    let server = Server::start(4);
    let words = [
        "register-new",
        "--users",
        "1000-1003",
        "--password",
        "wrong",
        "--warmup",
        "0",
    ];
    let report = server.load(&words);
    // Asked for credentials once each, refused then.
    assert_eq!(
        ["failed", "challenged", "lost"].map(|name| count(&report, name)),
        [4, 4, 0]
    );
    assert_eq!(report["failed_by_status"]["401"], 4);
}

/// A load on a server that is gone is no measurement.
#[test]
fn a_server_that_has_ended_is_an_error() {
    let mut server = Server::start(1);
    // As long as nobody has waited for it, its number stands in /proc.
    server.child.kill().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let output = Command::new(env!("CARGO_BIN_EXE_sipkeep-load"))
        .args(["flood", "--rate", "100", "--seconds", "0.2", "--target"])
        .arg(format!("{}:{PORT}", server.address))
        .args(["--pid", &server.child.id().to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("has ended"),
        "{said}"
    );
}

/// Text, picture and lines of JSON of a comparison.
fn compare(rows: &str, more: &[&str]) -> (String, String, Vec<Value>) {
    let output = tempfile::tempdir().unwrap();
    let folder = output.path().to_string_lossy().into_owned();
    let target = format!("{}:25071", address());
    let words = [
        "compare",
        "--server",
        SERVER,
        "--kamailio",
        "no",
        "--cores",
        "-",
        "--rounds",
        "1",
        "--seconds",
        "0.3",
        "--target",
        &target,
        "--output",
        &folder,
        "--rows",
        rows,
    ];
    load(&[&words, more].concat());
    let read = |name: &str| std::fs::read_to_string(Path::new(&folder).join(name)).unwrap();
    let lines = read("runs.jsonl");
    let mut lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let about = lines.next().unwrap();
    let version = about["sipkeep"].as_str().unwrap();
    assert!(version.starts_with("sipkeep ") && about["machine"].is_string());
    (read("compare.md"), read("compare.svg"), lines.collect())
}

#[test]
fn a_comparison_has_its_floor() {
    let (table, picture, lines) = compare("REGISTER, 401", &[]);
    assert_eq!(lines.len(), 2, "{table}");
    assert_eq!(lines[0]["row"], "REGISTER, 401, bare echo");
    assert!(
        count(&lines[1], "done") > 0 && lines[1]["tables"]["users"] == 256,
        "{}",
        lines[1]
    );
    assert!(
        table.contains("| REGISTER, 401") && picture.starts_with("<svg"),
        "{table}"
    );
}

#[test]
fn a_comparison_of_nothing_is_a_mistake() {
    let output = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sipkeep-load"))
        .args(["compare", "--server", SERVER, "--rows", "walk", "--output"])
        .arg(output.path())
        .output()
        .unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("walk"));
}

#[test]
fn lanes_are_measured() {
    let target = format!("{}:15060", address());
    let words = ["lanes", "--server", SERVER, "--target", &target];
    let report = json(
        &[
            &words[..],
            &["--seconds", "0.3", "--warmup", "0.1", "--rates", "500"],
        ]
        .concat(),
    );
    let lines = report["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 14, "{report}");
    let of = |server| lines.iter().filter(move |line| line["server"] == server);
    let counts = ["as shipped", "late", "at once"].map(|server| of(server).count());
    assert_eq!(counts, [10, 2, 2], "{report}");
    let held = |line: &Value| count(&line["report"]["tables"], "registrations");
    assert!(lines.iter().all(|line| held(line) >= 100), "{report}");
}

#[test]
fn memory_is_measured() {
    let (table, picture, lines) = compare("memory", &["--sizes", "2,30"]);
    assert_eq!(lines.len(), 1, "{table}");
    let line = &lines[0];
    assert_eq!(
        (count(line, "registrations"), count(line, "calls")),
        (30, 3)
    );
    for name in ["start_ms", "restart_ms", "idle_mib"] {
        assert!(line[name].as_f64().unwrap() > 0.0, "{line}");
    }
    assert!(
        table.contains("30 registrations") && picture.contains("first answer"),
        "{table}"
    );
}

/// Whoever interrupts a measurement finds neither servers nor folders behind it.
#[test]
fn nothing_is_left_of_an_interrupted_measurement() {
    let target = format!("{}:15060", address());
    let mut child = Command::new(env!("CARGO_BIN_EXE_sipkeep-load"))
        .args([
            "idle",
            "--server",
            SERVER,
            "--seconds",
            "60",
            "--target",
            &target,
        ])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let http = target.replace(":15060", ":15061");
    let begin = Instant::now();
    while std::net::TcpStream::connect(&http).is_err() {
        assert_eq!(child.try_wait().unwrap(), None);
        assert!(begin.elapsed() < PATIENCE, "the server does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    let folder = std::env::temp_dir().join(format!("sipkeep-load-{}-0", child.id()));
    assert!(folder.is_dir());
    let killed = Command::new("kill")
        .args(["-s", "INT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    // The kernel closes the sockets of who was killed a moment later.
    let begin = Instant::now();
    while std::net::TcpStream::connect(&http).is_ok() {
        assert!(begin.elapsed() < PATIENCE, "the server lives");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!folder.exists());
}

#[test]
fn flat_rows_hold_what_they_say() {
    let (table, picture, lines) = compare("flat", &["--sizes", "4,40"]);
    assert_eq!(lines.len(), 2 + 3 * 2, "{table}");
    let held = |row: &str, name: &str| {
        let line = lines
            .iter()
            .find(|line| line["row"] == format!("{row}, sipkeep"));
        let line = line.unwrap_or_else(|| panic!("no {row}: {table}"));
        assert!(count(line, "done") > 0, "{line}");
        count(&line["tables"], name)
    };
    for size in [4, 40] {
        assert_eq!(
            held(&format!("flat: refresh, {size} held"), "registrations"),
            size
        );
        let row = format!("flat: OPTIONS, {size} before");
        assert_eq!(held(&row, "transactions_completed"), size);
        assert_eq!(held(&format!("flat: banned, {size} bans"), "bans"), size);
    }
    assert!(
        table.contains("× first") && picture.contains("× first"),
        "{table}"
    );
}
