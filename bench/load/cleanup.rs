//! What must not be left behind when somebody interrupts a measurement: servers, control groups, folders. Each of them is known
//! here for as long as its value lives.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// For the last process of a control group to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// As a shell has it for who was interrupted.
const INTERRUPTED: i32 = 130;

/// Something that would stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// A process that leads a group of processes.
    Processes(u32),
    /// A folder of the kernel's control groups, empty but for what the kernel has there.
    Cgroup(PathBuf),
    /// A folder with all that is in it.
    Folder(PathBuf),
}

static LEFT: Mutex<Vec<Left>> = Mutex::new(Vec::new());

fn all() -> MutexGuard<'static, Vec<Left>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// It is there from now on.
pub fn remember(left: Left) {
    all().push(left);
}

/// Starts a program in a group of processes of its own. Nobody who interrupts comes between its start and the note of it.
///
/// # Errors
/// The kernel's.
pub fn start(command: &mut Command) -> io::Result<Child> {
    let mut all = all();
    let child = command.process_group(0).spawn()?;
    all.push(Left::Processes(child.id()));
    Ok(child)
}

impl Left {
    /// Takes it away, and forgets it. What is gone already does no harm.
    pub fn clear(&self) {
        self.take_away();
        self.forget();
    }

    fn take_away(&self) {
        match self {
            Self::Processes(leader) => signal(*leader, "KILL"),
            Self::Cgroup(folder) => remove_cgroup(folder),
            Self::Folder(folder) => drop(std::fs::remove_dir_all(folder)),
        }
    }

    /// It has gone by itself.
    pub fn forget(&self) {
        all().retain(|other| other != self);
    }
}

/// To a whole group of processes.
pub fn signal(leader: u32, name: &str) {
    // It may have ended already.
    let _ = Command::new("kill")
        .args(["-s", name, "--", &format!("-{leader}")])
        .stderr(Stdio::null())
        .status();
}

fn remove_cgroup(folder: &Path) {
    let begun = Instant::now();
    while let Err(error) = std::fs::remove_dir(folder) {
        if begun.elapsed() > GONE_WITHIN {
            eprintln!("{}: {error}: it stays", folder.display());
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// From now on SIGINT and SIGTERM end this program only when nothing is left.
///
/// # Errors
/// The kernel's, for people.
pub fn at_signals() -> Result<(), String> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| error.to_string())?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            // Held until the end: meanwhile nothing is started.
            let mut all = all();
            clear_all(&mut all);
            std::process::exit(INTERRUPTED);
        }
    });
    Ok(())
}

/// Processes first: as long as they live neither their control group nor what they write goes away.
fn clear_all(left: &mut [Left]) {
    left.sort_by_key(|left| match left {
        Left::Processes(_) => 0,
        Left::Cgroup(_) => 1,
        Left::Folder(_) => 2,
    });
    left.iter().for_each(Left::take_away);
}
