//! What the kernel tells of the server's process: CPU time, memory, datagrams that its socket lost. proc(5).

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Clock ticks of /proc/PID/stat a second: `USER_HZ`, 100 on every architecture that Linux has today.
const TICKS_A_SECOND: u64 = 100;

/// CPU time since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In the program.
    pub user: Duration,
    /// In the kernel. What a sender's packets cost on the receiving side of the loopback is the sender's.
    pub system: Duration,
    /// Both, of the thread that the process began with.
    pub first_thread: Duration,
}

impl CpuTime {
    /// Of a process and those that it has begun, as far as they run still.
    ///
    /// # Errors
    /// There is none of this number, for people.
    pub fn of(pid: u32) -> Result<Self, String> {
        let mut sum = Self::of_one(pid)?;
        for child in children(pid) {
            // It may have ended just now.
            if let Ok(time) = Self::of(child) {
                sum.user += time.user;
                sum.system += time.system;
            }
        }
        Ok(sum)
    }

    fn of_one(pid: u32) -> Result<Self, String> {
        let (user, system) = times(&format!("/proc/{pid}/stat"))?;
        let (first_user, first_system) = times(&format!("/proc/{pid}/task/{pid}/stat"))?;
        Ok(Self {
            user,
            system,
            first_thread: first_user + first_system,
        })
    }

    /// What was used since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
            first_thread: self.first_thread.saturating_sub(earlier.first_thread),
        }
    }

    /// User and system together.
    pub fn total(&self) -> Duration {
        self.user + self.system
    }
}

fn times(path: &str) -> Result<(Duration, Duration), String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    if has_ended(&text) {
        return Err(format!("{path}: the process has ended"));
    }
    read_times(&text).ok_or_else(|| format!("{path}: not understood"))
}

/// Whether only its number is left until its parent has heard of its end: no load on it means anything.
fn has_ended(text: &str) -> bool {
    let state = text.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| state.starts_with(['Z', 'X']))
}

/// utime and stime, the 14th and 15th field.
fn read_times(text: &str) -> Option<(Duration, Duration)> {
    // The second field is a name in parentheses, which may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut next = || {
        let ticks: u64 = fields.next()?.parse().ok()?;
        Some(Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND))
    };
    Some((next()?, next()?))
}

/// Time on a processor of all threads of a process so far, to the nanosecond: /proc/PID/task/TID/schedstat.
///
/// # Errors
/// There is none of this number, or the kernel does not count it, for people.
pub fn time_on_cpu(pid: u32) -> Result<Duration, String> {
    let folder = format!("/proc/{pid}/task");
    let said = |error: std::io::Error| format!("{folder}: {error}");
    let mut total = Duration::ZERO;
    for task in fs::read_dir(&folder).map_err(said)? {
        let text = fs::read_to_string(task.map_err(said)?.path().join("schedstat"));
        let text = text.map_err(said)?;
        let first = text.split_ascii_whitespace().next();
        let nanos = first.and_then(|first| first.parse().ok());
        total += Duration::from_nanos(nanos.ok_or(format!("{folder}: not understood"))?);
    }
    Ok(total)
}

/// Clock ticks of this length.
pub fn ticks(time: Duration) -> u64 {
    time.as_millis() as u64 * TICKS_A_SECOND / 1_000
}

/// A thread and how often it left the processor: /proc/PID/task/TID/status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thread {
    /// Its number.
    pub id: u32,
    /// As it calls itself.
    pub name: String,
    /// By itself, to wait: as often it has woken.
    pub voluntary: u64,
    /// Because somebody else had to run.
    pub involuntary: u64,
}

impl Thread {
    /// What came since `earlier`; `None`: it was not there.
    pub fn since(self, earlier: Option<&Self>) -> Self {
        let (voluntary, involuntary) =
            earlier.map_or((0, 0), |earlier| (earlier.voluntary, earlier.involuntary));
        Self {
            voluntary: self.voluntary.saturating_sub(voluntary),
            involuntary: self.involuntary.saturating_sub(involuntary),
            ..self
        }
    }
}

/// Threads of a process that run now.
///
/// # Errors
/// There is none of this number, for people.
pub fn threads(pid: u32) -> Result<Vec<Thread>, String> {
    let folder = format!("/proc/{pid}/task");
    let said = |error: std::io::Error| format!("{folder}: {error}");
    let mut threads = Vec::new();
    for task in fs::read_dir(&folder).map_err(said)? {
        // It may have ended just now.
        let Ok(text) = fs::read_to_string(task.map_err(said)?.path().join("status")) else {
            continue;
        };
        threads.push(read_thread(&text).ok_or(format!("{folder}: not understood"))?);
    }
    threads.sort_by_key(|thread| thread.id);
    Ok(threads)
}

fn read_thread(text: &str) -> Option<Thread> {
    let value = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    };
    Some(Thread {
        id: value("Pid")?.parse().ok()?,
        name: value("Name")?.to_owned(),
        voluntary: value("voluntary_ctxt_switches")?.parse().ok()?,
        involuntary: value("nonvoluntary_ctxt_switches")?.parse().ok()?,
    })
}

/// Bytes that the kernel keeps for the UDP sockets of all processes, with their files and what polls wait for:
/// slabinfo(5), which only root may read. What they have to be read is not in it.
pub fn kernel_bytes_of_sockets() -> Option<u64> {
    Some(read_slabs(&fs::read_to_string("/proc/slabinfo").ok()?))
}

fn read_slabs(text: &str) -> u64 {
    // Objects and the bytes of one.
    let slab = |name: &str| -> (u64, u64) {
        let line = text.lines().find_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            (fields.next() == Some(name)).then_some(fields)
        });
        let mut numbers = line.into_iter().flatten().map(|field| field.parse().ok());
        let mut next = |skipped| numbers.nth(skipped).flatten().unwrap_or(0);
        (next(0), next(1))
    };
    let own = ["UDP", "sock_inode_cache", "eventpoll_epi", "eventpoll_pwq"].map(slab);
    let own: u64 = own.into_iter().map(|(count, bytes)| count * bytes).sum();
    // One of each for a socket; others have them, too.
    let (sockets, _) = slab("sock_inode_cache");
    own + sockets * (slab("filp").1 + slab("dentry").1)
}

/// A program that is to run on one processor.
pub fn on_core(program: &Path, core: Option<usize>) -> Command {
    match core {
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Keeps this process, and what threads it begins, on one processor.
///
/// # Errors
/// There is no such processor, for people.
pub fn stay_on(core: usize) -> Result<(), String> {
    let own = std::process::id().to_string();
    let output = Command::new("taskset")
        .args(["-cp", &core.to_string(), &own])
        .output()
        .map_err(|error| format!("taskset: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    output.status.success().then_some(()).ok_or(said)
}

/// Processes that a process has begun and not lost.
fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut numbers = Vec::new();
    for number in text.split_ascii_whitespace() {
        numbers.extend(number.parse::<u32>().ok());
    }
    numbers
}

/// Resident memory in bytes; of several processes the part of each in what they share (PSS) together.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    match children(pid).is_empty() {
        true => kibibytes(&format!("/proc/{pid}/status"), "VmRSS:"),
        false => proportional_bytes(pid),
    }
}

fn proportional_bytes(pid: u32) -> Option<u64> {
    let own = kibibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:")?;
    let below = children(pid).into_iter().filter_map(proportional_bytes);
    Some(own + below.sum::<u64>())
}

/// A line `NAME 123 kB` of a file of proc(5), in bytes.
fn kibibytes(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1_024)
}

/// Datagrams that sockets bound to this IPv4 address (or to all) and port lost, in this network namespace. `None`: there are no such
/// sockets here, so nobody can tell.
pub fn socket_drops(address: SocketAddr) -> Option<u64> {
    let text = fs::read_to_string("/proc/net/udp").ok()?;
    read_drops(&text, address)
}

fn read_drops(text: &str, address: SocketAddr) -> Option<u64> {
    let IpAddr::V4(ip) = address.ip() else {
        return None;
    };
    let local = |ip: u32| format!("{:08X}:{:04X}", ip.swap_bytes(), address.port());
    let wanted = [local(ip.to_bits()), local(0)];
    (text.lines().skip(1))
        .filter(|line| {
            line.split_ascii_whitespace()
                .nth(1)
                .is_some_and(|own| wanted.iter().any(|one| one == own))
        })
        .filter_map(|line| line.split_ascii_whitespace().last()?.parse::<u64>().ok())
        .reduce(|one, other| one + other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_the_name() {
        let text = "7 (a) b c) S 1 7 7 0 -1 4194304 151 0 0 0 120 30 0 0 20 0 5 0 1 2 3";
        let expected = (Duration::from_millis(1_200), Duration::from_millis(300));
        assert_eq!(read_times(text), Some(expected));
        assert_eq!(read_times("7 (a) S 1"), None);
        assert!(has_ended("7 (a S) Z 1") && !has_ended("7 (a Z) S 1"));
        assert!(CpuTime::of(std::process::id()).is_ok());
        assert!(proportional_bytes(std::process::id()).unwrap() > 100_000);
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
    }

    #[test]
    fn threads_and_their_waits_are_read() {
        let text = "Name:\tstore-write\nTgid:\t7\nPid:\t9\nvoluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t3\n";
        let thread = read_thread(text).unwrap();
        assert_eq!((thread.id, thread.name.as_str()), (9, "store-write"));
        assert_eq!((thread.voluntary, thread.involuntary), (40, 3));
        let later = Thread {
            voluntary: 45,
            ..thread.clone()
        };
        let since = later.clone().since(Some(&thread));
        assert_eq!((since.voluntary, since.involuntary), (5, 0));
        assert_eq!(later.since(None).voluntary, 45);
        assert_eq!(read_thread("Name:\tx\n"), None);
        assert!(!threads(std::process::id()).unwrap().is_empty());
        assert_eq!(ticks(Duration::from_millis(1_239)), 123);
    }

    #[test]
    fn what_the_kernel_counts_is_read() {
        assert!(time_on_cpu(std::process::id()).unwrap() > Duration::ZERO);
        let text = "# name <active_objs> <num_objs> <objsize>\n\
             UDPv6 7 8 1472 22 8 : tunables 0 0 0\n\
             UDP 10 22 1280 25 8 : tunables 0 0 0\n\
             sock_inode_cache 11 12 800 1 1 : tunables 0 0 0\n\
             filp 100 120 192 21 1 : tunables 0 0 0\n";
        assert_eq!(read_slabs(text), 12_800 + 11 * (800 + 192));
    }

    #[test]
    fn drops_of_one_socket() {
        let text = "  sl  local_address rem_address   st drops\n \
             1: 0300007F:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 0 41\n \
             2: 0400007F:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 0 7\n \
             3: 00000000:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 1 2 0 1\n";
        let drops = |address: &str| read_drops(text, address.parse().unwrap());
        assert_eq!(drops("127.0.0.3:5060"), Some(42));
        assert_eq!((drops("127.0.0.3:5061"), drops("[::1]:5060")), (None, None));
    }
}
