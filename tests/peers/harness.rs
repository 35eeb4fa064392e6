//! What every test here uses: addresses, the server as a child process, its HTTP API, other programs, a counting relay.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The API's token in every configuration here that does not say otherwise.
pub const TOKEN: &str = "a-token-of-the-tests";

/// SIP port of every server here.
pub const SIP_PORT: u16 = 5060;

/// HTTP port of every server here.
pub const HTTP_PORT: u16 = 8080;

/// How long a server may take to answer `/health` after its start.
const START: Duration = Duration::from_secs(15);

/// How long a server may take to stop.
pub const STOP: Duration = Duration::from_secs(5);

/// 127.x.y.0/24 of one test: the server is .1, its phones and strangers are others.
#[derive(Clone, Copy, Debug)]
pub struct Network([u8; 3]);

impl Network {
    /// One that no other test of this run has; other runs on this machine very likely have another 127.x.
    pub fn take() -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let run = u8::try_from(std::process::id() % 200).unwrap();
        Self([127, 20 + run, NEXT.fetch_add(1, Ordering::Relaxed)])
    }

    /// Another /24, in a network namespace that has it.
    pub const fn of(first: [u8; 3]) -> Self {
        Self(first)
    }

    /// An address of it.
    pub const fn host(self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.0;
        Ipv4Addr::new(a, b, c, last)
    }

    /// The server's.
    pub fn server(self) -> Ipv4Addr {
        self.host(1)
    }

    /// `{net}` of a configuration or script becomes `127.x.y`.
    pub fn fill(self, text: &str) -> String {
        let [a, b, c] = self.0;
        text.replace("{net}", &format!("{a}.{b}.{c}"))
    }
}

/// A running server.
pub struct Server {
    pub network: Network,
    pub folder: TempDir,
    child: Child,
}

impl Server {
    /// Starts one on the network's first address and waits until it is healthy. `config` continues section `[server]`
    /// (so it may begin with keys of it); `{net}` in it is the network.
    pub fn start(network: Network, config: &str) -> Self {
        let folder = TempDir::new().unwrap();
        write_config(folder.path(), network, config);
        Self::start_in(network, folder)
    }

    /// Starts one in a folder that has its `config.ini`.
    pub fn start_in(network: Network, folder: TempDir) -> Self {
        let mut server = Self::begin_in(network, folder);
        server.wait_for_health(200);
        server
    }

    /// The same without waiting.
    pub fn begin_in(network: Network, folder: TempDir) -> Self {
        Self::begin_by(Command::new(program()), network, folder)
    }

    /// The same through a command that runs the program, or is it.
    pub fn begin_by(command: Command, network: Network, folder: TempDir) -> Self {
        let child = spawn(command, folder.path());
        Self {
            network,
            folder,
            child,
        }
    }

    /// Waits until `/health` has this status.
    pub fn wait_for_health(&mut self, wanted: u16) {
        let deadline = Instant::now() + START;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "the server ended with {status} at its start:\n{}",
                    self.log()
                );
            }
            let health = http(self.http(), "GET", "/health", None, "");
            if health.as_ref().is_ok_and(|(status, _)| *status == wanted) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "/health is not {wanted}, but {health:?}:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where SIP is served.
    pub fn sip(&self) -> SocketAddr {
        SocketAddr::from((self.network.server(), SIP_PORT))
    }

    /// Where HTTP is served.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::from((self.network.server(), HTTP_PORT))
    }

    /// All that it printed since the folder was made.
    pub fn log(&self) -> String {
        fs::read(self.folder.path().join("server.log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Waits until the log has this.
    pub fn wait_for_log(&self, text: &str) {
        wait(
            Duration::from_secs(5),
            || self.log().contains(text),
            || format!("the log never said {text:?}:\n{}", self.log()),
        );
    }

    /// Asks the API: `path` below `/api/v1/`.
    pub fn request(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, body) = http(
            self.http(),
            method,
            &format!("/api/v1/{path}"),
            Some(TOKEN),
            body,
        )
        .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.log()));
        let value = if body.trim().is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
        };
        (status, value)
    }

    /// `GET` that must be well.
    pub fn get(&self, path: &str) -> Value {
        let (status, value) = self.request("GET", path, "");
        assert_eq!(status, 200, "GET {path}: {value}");
        value
    }

    /// The items of a list.
    pub fn items(&self, path: &str) -> Vec<Value> {
        let value = self.get(path);
        value["items"]
            .as_array()
            .unwrap_or_else(|| panic!("{path} is no list: {value}"))
            .clone()
    }

    /// Users that have a binding, sorted.
    pub fn registered(&self) -> Vec<String> {
        let mut users: Vec<String> = self
            .items("registrations")
            .iter()
            .map(|item| item["user"].as_str().unwrap().to_owned())
            .collect();
        users.sort();
        users
    }

    /// Waits until there are `number` call records that say how the call went (one that the power cut off has no end) and
    /// no call is up, and returns them, newest first.
    /// Half a second later there must still be that many.
    pub fn records(&self, number: usize) -> Vec<Value> {
        let ended = || -> Vec<Value> {
            self.items("cdrs")
                .into_iter()
                .filter(|record| {
                    record["disposition"]
                        .as_str()
                        .is_some_and(|how| !how.is_empty())
                })
                .collect()
        };
        wait(
            Duration::from_secs(10),
            || ended().len() >= number && self.items("calls").is_empty(),
            || {
                format!(
                    "expected {number} call records: {:#?}\n{}",
                    self.items("cdrs"),
                    self.log()
                )
            },
        );
        thread::sleep(Duration::from_millis(500));
        let records = self.items("cdrs");
        assert_eq!(records.len(), number, "too many call records: {records:#?}");
        records
    }

    /// The one call record of the test so far.
    pub fn record(&self) -> Value {
        self.records(1).remove(0)
    }

    /// Sends a signal: `TERM`, `HUP`, `KILL`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Waits for its end.
    pub fn wait_for_end(&mut self, within: Duration) -> ExitStatus {
        wait_for_child(&mut self.child, within)
            .unwrap_or_else(|| panic!("the server did not end within {within:?}:\n{}", self.log()))
    }

    /// `kill -9`, as a power cut; its folder stays.
    pub fn cut_power(mut self) -> (Network, TempDir) {
        self.child.kill().unwrap();
        self.wait_for_end(STOP);
        let folder = std::mem::replace(&mut self.folder, TempDir::new().unwrap());
        (self.network, folder)
    }

    /// Runs a subcommand of the program with this server's configuration.
    pub fn command(&self, arguments: &[&str]) -> Finished {
        command_in(self.folder.path(), arguments, "")
    }

    /// Its state file.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("sipkeep.db")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal("TERM");
            if wait_for_child(&mut self.child, STOP + Duration::from_secs(1)).is_none() {
                let _ = self.child.kill();
                let _ = self.child.wait();
                if !thread::panicking() {
                    panic!("the server had to be killed:\n{}", self.log());
                }
            }
        }
        if thread::panicking() {
            eprintln!("--- the server's log ---\n{}", self.log());
        }
    }
}

/// Writes `config.ini` for a server on this network; see [`Server::start`].
pub fn write_config(folder: &Path, network: Network, config: &str) {
    let head = format!(
        "[http]\nlisten = {{net}}.1:{HTTP_PORT}\ntoken = {TOKEN}\n\n\
         [server]\nlisten = udp:{{net}}.1:{SIP_PORT}, tcp:{{net}}.1:{SIP_PORT}\n"
    );
    fs::write(
        folder.join("config.ini"),
        network.fill(&format!("{head}{config}")),
    )
    .unwrap();
}

/// The program: this build's, or another one (a release, say) that `SIPKEEP_BINARY` names.
pub fn program() -> String {
    std::env::var("SIPKEEP_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_sipkeep").to_owned())
}

/// Starts the program as it stands, with its output in `server.log`. What its folder has of the system's files about
/// names, `resolv.conf` and `hosts`, it reads instead of those.
fn spawn(mut command: Command, folder: &Path) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("server.log"))
        .unwrap();
    for (variable, name) in [
        ("SIPKEEP_RESOLV_CONF", "resolv.conf"),
        ("SIPKEEP_HOSTS", "hosts"),
    ] {
        if folder.join(name).exists() {
            command.env(variable, folder.join(name));
        }
    }
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Runs the program with arguments in a folder.
pub fn command_in(folder: &Path, arguments: &[&str], input: &str) -> Finished {
    let mut tool = Tool::of(&program());
    tool.command.current_dir(folder).args(arguments);
    tool.input = Some(input.to_owned());
    tool.run(Duration::from_secs(10))
}

/// Sends a signal to one process.
pub fn signal(id: u32, name: &str) {
    let status = Command::new("sh")
        .arg("-c")
        .arg(format!("kill -{name} {id}"))
        .status()
        .unwrap();
    assert!(status.success(), "kill -{name} {id}");
}

fn wait_for_child(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until `done`, or panics with `text`.
#[track_caller]
pub fn wait(within: Duration, mut done: impl FnMut() -> bool, text: impl FnOnce() -> String) {
    let deadline = Instant::now() + within;
    while !done() {
        assert!(Instant::now() < deadline, "{}", text());
        thread::sleep(Duration::from_millis(50));
    }
}

/// One HTTP request on a connection of its own: status and body.
pub fn http(
    server: SocketAddr,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let authorization = token.map_or(String::new(), |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {server}\r\n{authorization}Connection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let malformed = || std::io::Error::other(format!("no HTTP answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(malformed)?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(malformed)?;
    Ok((status, body.to_owned()))
}

/// Another program: its output goes to files, it is killed when it is dropped.
pub struct Tool {
    pub command: Command,
    input: Option<String>,
    /// Its input stays open: [`Running::say`].
    is_spoken_to: bool,
}

/// A program that is running.
pub struct Running {
    name: String,
    child: Child,
    output: TempDir,
    input: Option<ChildStdin>,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    /// `None`: killed by a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Tool {
    pub fn of(program: &str) -> Self {
        let mut command = Command::new(program);
        command.env("LC_ALL", "C.UTF-8");
        Self {
            command,
            input: None,
            is_spoken_to: false,
        }
    }

    /// It will be told what to do, a line at a time.
    pub fn spoken_to(mut self) -> Self {
        self.is_spoken_to = true;
        self
    }

    /// The same with arguments.
    pub fn with<'a>(program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let mut tool = Self::of(program);
        tool.command.args(arguments);
        tool
    }

    pub fn start(mut self) -> Running {
        let output = TempDir::new().unwrap();
        let name = self.command.get_program().to_string_lossy().into_owned();
        let file = |name| File::create(output.path().join(name)).unwrap();
        let stdin = if self.input.is_some() || self.is_spoken_to {
            Stdio::piped()
        } else {
            Stdio::null()
        };
        let mut child = self
            .command
            .stdin(stdin)
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name}: {error}; `tests/run peers` installs what is needed")
            });
        let mut input = child.stdin.take();
        if let (Some(text), Some(mut stdin)) = (self.input, input.take_if(|_| !self.is_spoken_to)) {
            // A program that does not read its input is no mistake of ours.
            let _ = stdin.write_all(text.as_bytes());
        }
        Running {
            name,
            child,
            output,
            input,
        }
    }

    /// Starts it and waits for its end.
    pub fn run(self, within: Duration) -> Finished {
        self.start().finish(within)
    }
}

impl Running {
    pub fn stdout(&self) -> String {
        self.read("stdout")
    }

    pub fn stderr(&self) -> String {
        self.read("stderr")
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.output.path().join(name)).unwrap()).into_owned()
    }

    /// Gives it a line of input.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("Tool::spoken_to");
        writeln!(input, "{line}").unwrap_or_else(|error| panic!("{}: {line}: {error}", self.name));
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until its output has this text.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str, within: Duration) {
        let deadline = Instant::now() + within;
        while !self.stdout().contains(text) {
            let alive = self.is_alive();
            assert!(
                (alive && Instant::now() < deadline) || self.stdout().contains(text),
                "{} (alive: {alive}) never said {text:?}:\n{}\n{}",
                self.name,
                self.stdout(),
                self.read("stderr")
            );
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self, within: Duration) -> Finished {
        let status = wait_for_child(&mut self.child, within);
        let finished = Finished {
            code: status.and_then(|status| status.code()),
            stdout: self.read("stdout"),
            stderr: self.read("stderr"),
        };
        assert!(
            status.is_some(),
            "{} did not end within {within:?}: {finished:#?}",
            self.name
        );
        finished
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Finished {
    /// It must have ended with 0.
    #[track_caller]
    pub fn well(self) -> Self {
        assert_eq!(
            self.code,
            Some(0),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Both outputs.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// What went through a [`Relay`].
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Datagrams from the program to the server, as they were passed on.
    pub requests: Vec<String>,
    /// Datagrams from the server, and how many requests had been passed on before each.
    pub answers: Vec<(usize, String)>,
}

impl Traffic {
    /// Requests with credentials.
    pub fn digests(&self) -> usize {
        self.requests
            .iter()
            .filter(|request| request.contains("uthorization: Digest"))
            .count()
    }
}

/// Stands between a program and the server, counts and keeps what passes, and may give the program another name.
/// The server sees the relay's address.
pub struct Relay {
    pub address: SocketAddr,
    traffic: Arc<Mutex<Traffic>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens on port 5060 of `outside`, speaks to the server from `inside`. `rename`: (from, to) in requests.
    pub fn start(
        outside: Ipv4Addr,
        inside: Ipv4Addr,
        server: SocketAddr,
        rename: Option<(&'static str, &'static str)>,
    ) -> Self {
        let program_side = UdpSocket::bind((outside, SIP_PORT)).unwrap();
        let server_side = UdpSocket::bind((inside, SIP_PORT)).unwrap();
        for socket in [&program_side, &server_side] {
            socket
                .set_read_timeout(Some(Duration::from_millis(1)))
                .unwrap();
        }
        let traffic = Arc::new(Mutex::new(Traffic::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopping) = (Arc::clone(&traffic), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut program = None;
            let mut buffer = [0; 65_536];
            while !stopping.load(Ordering::Relaxed) {
                if let Ok((length, from)) = program_side.recv_from(&mut buffer) {
                    program = Some(from);
                    let mut text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    if let Some((old, new)) = rename {
                        text = text.replace(old, new);
                    }
                    shared.lock().unwrap().requests.push(text.clone());
                    server_side.send_to(text.as_bytes(), server).unwrap();
                }
                if let Ok((length, _)) = server_side.recv_from(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    let mut traffic = shared.lock().unwrap();
                    let before = traffic.requests.len();
                    traffic.answers.push((before, text));
                    drop(traffic);
                    if let Some(program) = program {
                        // The program may have ended meanwhile.
                        let _ = program_side.send_to(&buffer[..length], program);
                    }
                }
            }
        });
        let address = SocketAddr::from((outside, SIP_PORT));
        Self {
            address,
            traffic,
            stop,
            thread: Some(thread),
        }
    }

    /// What passed so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic.lock().unwrap().clone()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "the relay panicked");
        }
    }
}

/// Asserts fields of a JSON object.
#[track_caller]
pub fn assert_fields(object: &Value, fields: &[(&str, Value)]) {
    for (name, wanted) in fields {
        assert_eq!(&object[*name], wanted, "field {name} of {object:#}");
    }
}
