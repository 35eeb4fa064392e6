//! A disk that fills up under the running server, a small tmpfs in a mount namespace: phones register and call as before, one
//! line of the log says what is wrong and `/health` while it lasts, a server that is killed meanwhile starts again with what
//! it had, and once there is room everything comes to the file.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;

use super::desk::{How, Outcome, PASSWORD, Phone};
use super::harness::{Network, Server, program, wait};

/// Of the disk: the state file with its log and some room.
const DISK_KIB: u32 = 2_048;
/// The server tries again after a minute at the latest.
const AGAIN: Duration = Duration::from_secs(90);
/// How long the disk stays full.
const FULL: Duration = Duration::from_secs(8);

/// A file system of its own, which is there as long as this is.
struct Disk {
    holder: Child,
    folder: TempDir,
    path: PathBuf,
}

impl Disk {
    fn mount() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("disk");
        fs::create_dir(&path).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={DISK_KIB}k disk \"$0\" && echo && exec sleep infinity"
        );
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = [0];
        let mounted = std::io::Read::read(holder.stdout.as_mut().unwrap(), &mut said);
        assert_eq!(
            mounted.unwrap(),
            1,
            "no tmpfs can be mounted; tests/run looks whether it can"
        );
        Self {
            holder,
            folder,
            path,
        }
    }

    /// A command that runs the server where this disk is.
    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()))
            .arg(format!("--wd={}", self.folder.path().display()))
            .arg(program());
        command
    }

    /// A file of the disk as it is seen from here.
    fn file(&self, name: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.id());
        let path = self.path.join(name);
        Path::new(&root).join(path.strip_prefix("/").unwrap())
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.file("filler"))
            .unwrap();
        for size in [65_536, 4_096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.file("filler")).unwrap();
    }

    /// What SQLite finds in a copy of the state file.
    fn rows(&self, sql: &str) -> Vec<String> {
        let folder = TempDir::new().unwrap();
        for suffix in ["", "-wal"] {
            let from = self.file(&format!("sipkeep.db{suffix}"));
            if from.exists() {
                fs::copy(from, folder.path().join(format!("copy{suffix}"))).unwrap();
            }
        }
        let copy = Connection::open(folder.path().join("copy")).unwrap();
        let verdict: String = copy
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(verdict, "ok");
        let mut statement = copy.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The namespace and what is mounted there end with it.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A call from one phone to the other; its Call-ID.
fn call(caller: &mut Phone, callee: &mut Phone, id: &str) -> String {
    let dialled = callee.user.clone();
    let outcome = caller.call(callee, &dialled, id, How::Answered);
    let Ok(Outcome::Up(call)) = outcome else {
        panic!("{outcome:?}");
    };
    caller.hang_up(callee, &call, false).unwrap();
    call.id
}

fn lines(server: &Server, event: &str) -> usize {
    server.log().matches(&format!(" event={event} ")).count()
}

#[test]
#[ignore = "mounts a tmpfs as root: tests/run peers"]
fn a_disk_that_fills_up_stops_no_call_and_loses_nothing_once_there_is_room() {
    let disk = Disk::mount();
    let network = Network::take();
    let users: String = (100..103)
        .map(|user| format!("[user {user}]\npassword = {PASSWORD}\n"))
        .collect();
    let folder = TempDir::new().unwrap();
    let config = format!("state = {}/sipkeep.db\n\n{users}", disk.path.display());
    super::harness::write_config(folder.path(), network, &config);
    // Nothing of it but the state file is on that disk.
    let start = |folder: TempDir, health| {
        let mut command = disk.command();
        command
            .arg("--config")
            .arg(folder.path().join("config.ini"));
        let mut server = Server::begin_by(command, network, folder);
        server.wait_for_health(health);
        server
    };
    let server = start(folder, 200);
    let is_over = Arc::new(AtomicBool::new(false));
    let [mut caller, mut callee] = [("100", 2), ("101", 3)]
        .map(|(user, host)| Phone::udp(user, network.host(host), server.sip(), &is_over));
    callee.register(1, 600).unwrap();
    let mut ids = vec![call(&mut caller, &mut callee, "before")];
    let is_kept = |server: &Server| server.get("status")["store"]["pending"] == 0;
    wait(
        Duration::from_secs(5),
        || is_kept(&server),
        || "nothing is kept".into(),
    );

    // Full: the office goes on.
    disk.fill();
    let begun = Instant::now();
    let mut number = 0;
    while begun.elapsed() < FULL {
        number += 1;
        ids.push(call(&mut caller, &mut callee, &format!("full{number}")));
        caller.register(number, 600).unwrap();
    }
    let (status, body) = super::harness::http(server.http(), "GET", "/health", None, "").unwrap();
    assert!(status == 503 && body.contains("full"), "{status} {body}");
    let store = server.get("status")["store"].clone();
    assert_eq!(store["ok"], false, "{store}");
    assert!(store["error"].as_str().unwrap().contains("full"), "{store}");
    assert!(
        store["pending"].as_u64().unwrap() > u64::from(number),
        "{store}"
    );
    assert_eq!(lines(&server, "store_failed"), 1, "{}", server.log());

    // Killed meanwhile: what the file had is there, and what came later is made good.
    let mut lost = ids.split_off(1);
    let (_, folder) = server.cut_power();
    let server = start(folder, 503);
    assert_eq!(server.registered(), ["101"]);
    ids.push(call(&mut caller, &mut callee, "after"));
    caller.register(1, 600).unwrap();
    let (status, ban) = server.request("POST", "bans", r#"{"source": "203.0.113.7", "for": "4h"}"#);
    assert!((200..300).contains(&status), "{status} {ban}");

    disk.make_room();
    let is_well = || is_kept(&server) && server.get("status")["store"]["ok"] == true;
    wait(AGAIN, is_well, || {
        format!("never made good:\n{}", server.log())
    });
    assert_eq!(lines(&server, "store_recovered"), 1, "{}", server.log());
    let dispositions =
        "SELECT caller_call_id FROM call_records WHERE disposition = 'answered' ORDER BY rowid";
    let kept = disk.rows(dispositions);
    lost.retain(|id| !kept.contains(id));
    assert_eq!(kept[..1], ids[..1]);
    assert_eq!(kept.last(), ids.last());
    assert_eq!(
        disk.rows("SELECT user FROM registrations ORDER BY user"),
        ["100", "101"]
    );
    assert_eq!(disk.rows("SELECT source FROM bans"), ["203.0.113.7"]);
    let (status, _) = super::harness::http(server.http(), "GET", "/health", None, "").unwrap();
    assert_eq!(status, 200);

    // Full once more, without a kill: nothing at all is lost.
    disk.fill();
    for number in 0..20 {
        ids.push(call(&mut caller, &mut callee, &format!("again{number}")));
    }
    callee.register(2, 600).unwrap();
    let is_said = || server.get("status")["store"]["ok"] == false;
    wait(Duration::from_secs(10), is_said, || {
        "a full disk is not seen".into()
    });
    disk.make_room();
    wait(AGAIN, is_well, || {
        format!("never made good:\n{}", server.log())
    });
    let kept = disk.rows(dispositions);
    let missing: Vec<_> = ids.iter().filter(|id| !kept.contains(id)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(
        disk.rows("SELECT user FROM registrations ORDER BY user"),
        ["100", "101", "101"]
    );
    println!(
        "{} calls on a full disk, {} of them lost by a kill",
        number + 21,
        lost.len()
    );
}
