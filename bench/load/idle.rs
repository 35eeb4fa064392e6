//! What a server does that has nothing to do: its time on the processor and how often each of its threads wakes, with the
//! configuration that is shipped and a phone that has registered and says no more.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::arguments::Arguments;
use crate::message::{self, User};
use crate::process::{self, CpuTime, Thread};
use crate::report::held;
use crate::server::{Folder, Server, Start};
use crate::socket::Udp;

/// Where the trunk would be. It is never asked, so that only the server's own wake-ups count.
const TRUNK: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 10);
const PHONE: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 9);
const USERS: [u32; 3] = [100, 101, 102];
/// Between two words on how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Until the first writing of the state file is over.
const SETTLED: Duration = Duration::from_secs(3);

/// What was seen.
struct Seen {
    elapsed: Duration,
    cpu: CpuTime,
    on_cpu: Duration,
    /// Those that were there at the end, with what they did meanwhile.
    threads: Vec<Thread>,
    resident_bytes: u64,
    tables: Value,
}

/// Measures it; the report.
///
/// # Errors
/// What went wrong, for people.
pub fn run(arguments: &Arguments, server: &Path) -> Result<String, String> {
    let folder = Folder::new()?;
    let (own, target) = (folder.join("server"), arguments.target);
    let text = configuration(target, &arguments.password);
    let server = Server::start(Start::sipkeep(server, &own, target, TRUNK.into(), text))?;
    let _phone = register(target, &arguments.password)?;
    std::thread::sleep(SETTLED.min(arguments.measured));
    let seen = watch(&server, arguments.measured, !arguments.json)?;
    Ok(if arguments.json {
        seen.json()
    } else {
        seen.table()
    })
}

fn watch(server: &Server, time: Duration, is_told: bool) -> Result<Seen, String> {
    let pid = server.pid();
    let read = || {
        Ok::<_, String>((
            CpuTime::of(pid)?,
            process::time_on_cpu(pid)?,
            process::threads(pid)?,
        ))
    };
    let begun = Instant::now();
    let (cpu, on_cpu, threads) = read()?;
    wait(time, |elapsed| {
        if is_told {
            eprintln!("{} s of {}", elapsed.as_secs(), time.as_secs());
        }
    });
    let (cpu_after, on_cpu_after, threads_after) = read()?;
    let elapsed = begun.elapsed();
    let since = |thread: Thread| {
        let before = threads.iter().find(|before| before.id == thread.id);
        thread.since(before)
    };
    Ok(Seen {
        elapsed,
        cpu: cpu_after.since(&cpu),
        on_cpu: on_cpu_after.saturating_sub(on_cpu),
        threads: threads_after.into_iter().map(since).collect(),
        resident_bytes: process::resident_bytes(pid).unwrap_or(0),
        tables: server.tables()?,
    })
}

/// Sleeps so long; `tell` hears from time to time how long it was.
fn wait(time: Duration, tell: impl Fn(Duration)) {
    let begun = Instant::now();
    loop {
        let left = time.saturating_sub(begun.elapsed());
        std::thread::sleep(left.min(TOLD_EVERY));
        if left <= TOLD_EVERY {
            return;
        }
        tell(begun.elapsed());
    }
}

/// One phone registers for an hour.
fn register(target: SocketAddr, password: &str) -> Result<[Udp; 1], String> {
    let socket = Udp::bind(SocketAddr::new(PHONE.into(), 0));
    let mut sockets = [socket.map_err(|error| format!("{PHONE}: {error}"))?];
    let domain = target.ip().to_string();
    let mut user = [User::new(USERS[0], &domain, password, std::process::id())];
    let run = std::process::id();
    message::register_all(user.iter_mut(), &mut sockets, 0, target, &domain, run)?;
    Ok(sockets)
}

fn configuration(target: SocketAddr, password: &str) -> String {
    let http = SocketAddr::new(target.ip(), target.port().wrapping_add(1));
    let mut text = format!(
        "[server]\nlisten = udp:{target}, tcp:{target}\n[http]\nlisten = {http}\n\
         [trunk carrier]\naddresses = {TRUNK}\nkeepalive = 0\n"
    );
    for user in USERS {
        text.push_str(&format!("[user {user}]\npassword = {password}\n"));
    }
    text
}

impl Seen {
    fn ticks(&self) -> u64 {
        process::ticks(self.cpu.total())
    }

    fn wakes(&self) -> u64 {
        self.threads.iter().map(|thread| thread.voluntary).sum()
    }

    fn a_minute(&self, count: u64) -> f64 {
        count as f64 * 60.0 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn json(&self) -> String {
        let threads = self.threads.iter().map(|thread| {
            json!({ "name": thread.name, "wakes": thread.voluntary, "preempted": thread.involuntary })
        });
        json!({
            "scenario": "idle", "seconds": self.elapsed.as_secs_f64(), "ticks": self.ticks(),
            "cpu_ms": self.on_cpu.as_secs_f64() * 1e3, "wakes": self.wakes(),
            "wakes_a_minute": self.a_minute(self.wakes()), "threads": threads.collect::<Vec<_>>(),
            "resident_bytes": self.resident_bytes, "tables": self.tables,
        })
        .to_string()
    }

    fn table(&self) -> String {
        let seconds = self.elapsed.as_secs_f64();
        let mut text = format!("{:<16} {seconds:.0} s\n", "idle");
        let mut line = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<16} {value}");
        };
        let (ticks, cpu) = (self.ticks(), self.on_cpu.as_secs_f64() * 1e3);
        line(
            "CPU",
            format!("{ticks} ticks of 10 ms; {cpu:.2} ms by the scheduler's word"),
        );
        let wakes = self.wakes();
        line(
            "wake-ups",
            format!("{wakes}, {:.1} a minute", self.a_minute(wakes)),
        );
        for thread in &self.threads {
            line("", format!("{} of {}", thread.voluntary, thread.name));
        }
        let mebibytes = self.resident_bytes as f64 / f64::from(1 << 20);
        line("server memory", format!("{mebibytes:.1} MiB"));
        line("server holds", held(&self.tables));
        text.truncate(text.trim_end().len());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_wakes_are_added() {
        let thread = |voluntary| Thread {
            id: 1,
            name: "x".to_owned(),
            voluntary,
            involuntary: 1,
        };
        let seen = Seen {
            elapsed: Duration::from_secs(120),
            cpu: CpuTime {
                user: Duration::from_millis(20),
                system: Duration::from_millis(10),
                ..CpuTime::default()
            },
            on_cpu: Duration::from_micros(31_500),
            threads: vec![thread(3), thread(5)],
            resident_bytes: 1 << 20,
            tables: json!({ "registrations": 1 }),
        };
        let read: Value = serde_json::from_str(&seen.json()).unwrap();
        assert_eq!((&read["ticks"], &read["wakes"]), (&json!(3), &json!(8)));
        assert_eq!(
            (&read["wakes_a_minute"], &read["cpu_ms"]),
            (&json!(4.0), &json!(31.5))
        );
        assert!(seen.table().contains("1 registrations"));
    }
}
