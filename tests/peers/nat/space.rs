//! Network namespaces without a name: they end with the program that holds them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::panic;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace. A program that waits for its input holds it, so that it ends with this process at the latest.
pub struct Space {
    holder: Child,
    door: File,
}

impl Space {
    /// An empty one, with its loopback up.
    pub fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args(["--net", "cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, of util-linux");
        // What it is told comes back once it is inside.
        writeln!(holder.stdin.as_mut().unwrap(), "inside").unwrap();
        let mut answer = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap())
            .read_line(&mut answer)
            .unwrap();
        assert_eq!(answer, "inside\n", "only root may make namespaces");
        let door = File::open(format!("/proc/{}/ns/net", holder.id())).unwrap();
        let space = Self { holder, door };
        space.ip("link set lo up");
        space
    }

    /// Whom `ip` knows it by.
    pub fn id(&self) -> u32 {
        self.holder.id()
    }

    /// Does something in there: what it opens or starts stays inside.
    pub fn enter<T: Send>(&self, something: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            move_into_link_name_space(self.door.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            something()
        };
        let result = thread::scope(|scope| scope.spawn(inside).join());
        result.unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// `ip` with these commands, one a line.
    #[track_caller]
    pub fn ip(&self, commands: &str) {
        self.feed("ip", &["-batch", "-"], commands);
    }

    /// `nft` with this ruleset.
    #[track_caller]
    pub fn nft(&self, rules: &str) {
        self.feed("nft", &["-f", "-"], rules);
    }

    /// Writes one of the kernel's settings of networks: `ipv4/ip_forward`.
    #[track_caller]
    pub fn set(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/net/{name}");
        let written = self.enter(|| fs::write(&path, value));
        written.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    #[track_caller]
    fn feed(&self, program: &str, arguments: &[&str], input: &str) {
        let output = self.enter(|| {
            let mut child = Command::new(program)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("{program}: {error}"));
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(input.as_bytes()).unwrap();
            drop(stdin);
            child.wait_with_output().unwrap()
        });
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {errors}\n{input}");
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
