//! A small machine: a control group of the kernel (cgroups(7), version 1 or 2) that holds a process and all that it begins to a
//! part of a processor and so much memory. The group is gone with its value.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::cleanup::{self, Left};

/// Microseconds in which the part of a processor may be used up, as container runtimes have it: who has used it waits for the
/// rest of them, which is where the latencies of a small machine come from.
const PERIOD_US: u64 = 100_000;

/// What a small machine has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Part of one processor.
    pub cpu: f64,
    /// Of memory; `None`: as much as there is.
    pub memory_bytes: Option<u64>,
}

impl std::fmt::Display for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of a processor", self.cpu)?;
        match self.memory_bytes {
            Some(bytes) => write!(f, " and {} MiB", bytes >> 20),
            None => Ok(()),
        }
    }
}

/// One of the folders that make up a group, and what is written there.
#[derive(Debug, PartialEq, Eq)]
struct Controller {
    folder: PathBuf,
    /// Name and text.
    limits: Vec<(&'static str, String)>,
}

/// See the module.
pub struct Cgroup {
    folders: Vec<PathBuf>,
}

impl Cgroup {
    /// A new group.
    ///
    /// # Errors
    /// The machine has no such groups, or we may not make one, for people.
    pub fn new(limits: Limits) -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sipkeep-small-{}-{number}", std::process::id());
        let read =
            |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let (mounts, own) = (read("/proc/self/mounts")?, read("/proc/self/cgroup")?);
        Self::make(&plan(&mounts, &own, limits, &name)?)
    }

    fn make(controllers: &[Controller]) -> Result<Self, String> {
        // What was made is taken away again if the rest fails.
        let mut own = Self {
            folders: Vec::new(),
        };
        for controller in controllers {
            let folder = &controller.folder;
            let said = |what: &Path, error: std::io::Error| {
                format!(
                    "--small: {}: {error} (root may make control groups)",
                    what.display()
                )
            };
            fs::create_dir(folder).map_err(|error| said(folder, error))?;
            own.folders.push(folder.clone());
            cleanup::remember(Left::Cgroup(folder.clone()));
            for (name, text) in &controller.limits {
                let path = folder.join(name);
                fs::write(&path, text).map_err(|error| said(&path, error))?;
            }
        }
        Ok(own)
    }

    /// A command that enters the group before it becomes the program of `command`, so that nothing it does is outside.
    pub fn enter(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.arg("-c").arg(
            "while [ \"$1\" != -- ]; do echo $$ >\"$1/cgroup.procs\" || exit 125; shift; done; shift; exec \"$@\"",
        );
        inside.arg("sh").args(&self.folders).arg("--");
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            Left::Cgroup(folder.clone()).clear();
        }
    }
}

/// Which folders to make. Version 1 has one hierarchy for each controller, and a group of ours lies below our own, so that what
/// holds us holds it too. Version 2 has one for all; below a group with processes nothing can be limited, so it is made at the top.
fn plan(mounts: &str, own: &str, limits: Limits, name: &str) -> Result<Vec<Controller>, String> {
    let quota = (limits.cpu * PERIOD_US as f64).round() as u64;
    let memory = limits.memory_bytes;
    let unified = || mounted(mounts, "cgroup2", None);
    let mut controllers = Vec::new();
    let needed = [Some("cpu"), memory.map(|_| "memory")];
    let old = needed.into_iter().flatten();
    let old: Option<Vec<_>> = old
        .map(|name| mounted(mounts, "cgroup", Some(name)))
        .collect();
    if let Some(folders) = old {
        for (folder, controller) in folders.into_iter().zip(["cpu", "memory"]) {
            let limits = match (controller, memory) {
                ("memory", Some(bytes)) => vec![("memory.limit_in_bytes", bytes.to_string())],
                _ => vec![
                    ("cpu.cfs_period_us", PERIOD_US.to_string()),
                    ("cpu.cfs_quota_us", quota.to_string()),
                ],
            };
            let below = folder.join(own_path(own, controller).trim_start_matches('/'));
            let folder = if below.is_dir() { below } else { folder };
            controllers.push(Controller {
                folder: folder.join(name),
                limits,
            });
        }
        return Ok(controllers);
    }
    let folder = unified().ok_or("--small: no control groups are mounted (cgroups(7))")?;
    let offered = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    let offered: Vec<&str> = offered.split_ascii_whitespace().collect();
    for controller in needed.into_iter().flatten() {
        if !offered.contains(&controller) {
            return Err(format!(
                "--small: {}: no controller {controller:?}",
                folder.display()
            ));
        }
        // It may be on already, and whether it is shows when its limit is written.
        let _ = fs::write(
            folder.join("cgroup.subtree_control"),
            format!("+{controller}"),
        );
    }
    let mut texts = vec![("cpu.max", format!("{quota} {PERIOD_US}"))];
    if let Some(bytes) = memory {
        texts.push(("memory.max", bytes.to_string()));
    }
    controllers.push(Controller {
        folder: folder.join(name),
        limits: texts,
    });
    Ok(controllers)
}

/// Where a hierarchy is mounted: of this type, with this option.
fn mounted(mounts: &str, kind: &str, option: Option<&str>) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, place, own, options, ..] = fields[..] else {
            return None;
        };
        let has = |option: &str| options.split(',').any(|own| own == option);
        (own == kind && option.is_none_or(has)).then(|| PathBuf::from(place))
    })
}

/// Our own group in the hierarchy of a controller: `4:cpu,cpuacct:/path`.
fn own_path<'a>(own: &'a str, controller: &str) -> &'a str {
    let path = own.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let mut controllers = controllers.split(',');
        controllers.any(|own| own == controller).then_some(path)
    });
    path.unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Folder;

    const LIMITS: Limits = Limits {
        cpu: 0.1,
        memory_bytes: Some(64 << 20),
    };

    #[test]
    fn version_1_lies_below_our_own_group() {
        let top = Folder::new().unwrap();
        fs::create_dir_all(top.join("memory/own")).unwrap();
        fs::create_dir_all(top.join("cpu")).unwrap();
        let mount =
            |name: &str| format!("cgroup {} cgroup rw,{name} 0 0\n", top.join(name).display());
        let mounts = mount("cpu") + &mount("memory");
        let own = "4:memory:/own\n1:cpu,cpuacct:/gone\n0::/\n";
        let planned = plan(&mounts, own, LIMITS, "x").unwrap();
        let [cpu, memory] = &planned[..] else {
            panic!("{planned:?}");
        };
        assert_eq!(cpu.folder, top.join("cpu/x"));
        assert_eq!(memory.folder, top.join("memory/own/x"));
        let [_, quota] = &cpu.limits[..] else {
            panic!("{cpu:?}");
        };
        assert_eq!(quota, &("cpu.cfs_quota_us", "10000".to_owned()));
        assert_eq!(memory.limits[0].1, "67108864");

        // Made, entered by who is started, and taken away: here its files are ordinary ones.
        let group = Cgroup::make(&planned).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$"]);
        let output = group.enter(&command).output().unwrap();
        let number = String::from_utf8(output.stdout).unwrap();
        for folder in group.folders.clone() {
            assert_eq!(
                fs::read_to_string(folder.join("cgroup.procs")).unwrap(),
                number
            );
            fs::remove_dir_all(&folder).unwrap();
            fs::create_dir(&folder).unwrap();
        }
        drop(group);
        assert!(!top.join("cpu/x").exists() && !top.join("memory/own/x").exists());
    }

    #[test]
    fn version_2_is_one_folder() {
        let top = Folder::new().unwrap();
        fs::create_dir(top.join("")).unwrap_or(());
        fs::write(top.join("cgroup.controllers"), "cpuset cpu memory\n").unwrap();
        let mounts = format!("cgroup2 {} cgroup2 rw 0 0\n", top.join("").display());
        let planned = plan(&mounts, "0::/own\n", LIMITS, "x").unwrap();
        let expected = [
            ("cpu.max", "10000 100000".to_owned()),
            ("memory.max", "67108864".to_owned()),
        ];
        assert_eq!(
            (planned[0].limits.as_slice(), planned.len()),
            (&expected[..], 1)
        );
        fs::write(top.join("cgroup.controllers"), "cpuset cpu\n").unwrap();
        assert!(
            plan(&mounts, "0::/own\n", LIMITS, "x")
                .unwrap_err()
                .contains("memory")
        );
        let cpu = Limits {
            memory_bytes: None,
            ..LIMITS
        };
        assert!(plan(&mounts, "0::/own\n", cpu, "x").is_ok());
    }

    #[test]
    fn who_may_not_is_told() {
        assert!(
            plan("proc /proc proc rw 0 0\n", "", LIMITS, "x")
                .unwrap_err()
                .contains("no control groups")
        );
        let controller = Controller {
            folder: "/proc/nowhere/x".into(),
            limits: Vec::new(),
        };
        assert!(
            Cgroup::make(&[controller])
                .err()
                .unwrap()
                .contains("/proc/nowhere/x")
        );
    }
}
