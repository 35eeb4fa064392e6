//! The real program on real sockets of this machine: start, second start, registration, HTTP, signals, floods of connections.
//!
//! Each server has an address of 127.0.0.0/8 of its own, so that tests can run side by side and beside other servers.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use md5::{Digest, Md5};

mod brake;
mod lines;
mod media;
mod messages;
mod records;
mod state;

/// For anything that should happen at once, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with a configuration, and an address that nobody else has.
struct Site {
    folder: tempfile::TempDir,
    address: Ipv4Addr,
}

/// A running server; killed when it is dropped.
struct Server {
    child: Child,
    sip: SocketAddr,
    http: SocketAddr,
    out: PathBuf,
    errors: PathBuf,
}

impl Site {
    /// `text`: what stands in config.ini behind `listen`.
    fn new(text: &str) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let last = NEXT.fetch_add(1, Ordering::Relaxed);
        // 127.64.0.0/10, away from the addresses that other tests use.
        let address = Ipv4Addr::new(127, 64 | (high & 0x3f), low, last);
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            address,
        };
        site.write(text);
        site
    }

    fn write(&self, text: &str) {
        self.write_listening("", text);
    }

    /// The same with more to listen at, as `, udp:[::1]:5060`.
    fn write_listening(&self, more: &str, text: &str) {
        let address = self.address;
        let text = format!(
            "[server]\nlisten = udp:{address}:5060, tcp:{address}:5060{more}\n[http]\nlisten = {address}:8080\n{text}"
        );
        std::fs::write(self.folder.path().join("config.ini"), text).unwrap();
    }

    fn command(&self) -> Command {
        self.command_by(Command::new("env"))
    }

    /// Through another program.
    fn command_by(&self, mut command: Command) -> Command {
        command
            .arg(env!("CARGO_BIN_EXE_sipkeep"))
            .arg("--config")
            .arg(self.folder.path().join("config.ini"));
        command.stdin(Stdio::null());
        command
    }

    /// Starts the server and waits until it answers.
    fn start(&self) -> Server {
        self.start_by(|| Command::new("env"))
    }

    /// The same through a program that runs the one it is given, as `env` does.
    fn start_by(&self, by: impl Fn() -> Command) -> Server {
        let out = self.folder.path().join("out");
        let errors = self.folder.path().join("errors");
        let mut command = self.command_by(by());
        command.stdout(std::fs::File::create(&out).unwrap());
        command.stderr(std::fs::File::create(&errors).unwrap());
        let mut server = Server {
            child: command.spawn().unwrap(),
            sip: SocketAddr::from((self.address, 5060)),
            http: SocketAddr::from((self.address, 8080)),
            out,
            errors,
        };
        let begin = Instant::now();
        while TcpStream::connect(server.http).is_err() {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("{status}: {}", server.errors());
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "does not start: {}",
                server.errors()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(server.get("/health", None).contains(r#"{"ok":true}"#));
        server
    }

    /// Runs the program to its end: exit code, standard output and error.
    fn run(&self) -> (Option<i32>, String, String) {
        let output = self.command().output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    fn token(&self) -> String {
        let secrets = sipkeep::net::store::read_secrets(&self.folder.path().join("sipkeep.db"));
        secrets.unwrap().get("http_token").unwrap().to_owned()
    }
}

impl Server {
    fn out(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap()
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(&self.errors).unwrap()
    }

    /// Waits until a line of the log has `text`.
    fn wait_for_log(&self, text: &str) {
        let begin = Instant::now();
        while !self.errors().contains(text) {
            assert!(
                begin.elapsed() < PATIENCE,
                "no {text:?} in the log: {}",
                self.errors()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The whole answer to a GET.
    fn get(&self, path: &str, token: Option<&str>) -> String {
        let mut client = TcpStream::connect(self.http).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let token = token.unwrap_or_default();
        write!(
            client,
            "GET {path} HTTP/1.1\r\n{token}Connection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    }

    /// The JSON of `GET status`.
    fn status(&self, token: &str) -> serde_json::Value {
        let text = self.get("/api/v1/status", Some(token));
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// What waits and what was lost in the server's UDP sockets: strangers', phones', peers' (proc(5) /proc/net/udp).
    fn queues(&self) -> Vec<Queue> {
        let IpAddr::V4(address) = self.sip.ip() else {
            panic!("not IPv4")
        };
        let local = format!("{:08X}:{:04X}", address.to_bits().to_be(), self.sip.port());
        let text = std::fs::read_to_string("/proc/net/udp").unwrap();
        let mut queues: Vec<Queue> = (text.lines().map(str::split_whitespace))
            .map(Iterator::collect::<Vec<&str>>)
            .filter(|fields| fields[1] == local)
            .map(|fields| Queue {
                bytes: u64::from_str_radix(fields[4].split_once(':').unwrap().1, 16).unwrap(),
                drops: fields[12].parse().unwrap(),
            })
            .collect();
        // The kernel lists the one that was bound last first.
        queues.reverse();
        queues
    }

    /// Which of these sockets receives what `socket` sends: its bytes must mean nothing. `None`: the kernel discards it.
    fn lane_of(&self, socket: &UdpSocket) -> Option<usize> {
        let is_filled = |queues: &[Queue]| queues.iter().position(|queue| queue.bytes > 0);
        self.signal("STOP");
        socket.send(b"\r\n\r\n").unwrap();
        let lane = is_filled(&self.queues());
        self.signal("CONT");
        let begin = Instant::now();
        while is_filled(&self.queues()).is_some() {
            assert!(begin.elapsed() < PATIENCE, "nothing is read");
            std::thread::sleep(Duration::from_millis(1));
        }
        lane
    }

    /// Waits until a socket is received in this lane.
    fn wait_for_lane(&self, socket: &UdpSocket, lane: usize) {
        let begin = Instant::now();
        while self.lane_of(socket) != Some(lane) {
            assert!(begin.elapsed() < PATIENCE, "never in lane {lane}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(process)
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// SIGTERM; how it ended and how long that took.
    fn stop(mut self) -> (ExitStatus, Duration) {
        let begin = Instant::now();
        self.signal("TERM");
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, begin.elapsed());
            }
            assert!(begin.elapsed() < PATIENCE, "does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A socket of the server.
struct Queue {
    bytes: u64,
    drops: u64,
}

const STRANGERS: usize = 0;
const PHONES: usize = 1;
const PEERS: usize = 2;

/// Where a telephone's messages go.
enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// A telephone that registers.
struct Phone {
    wire: Wire,
    local: SocketAddr,
    server: SocketAddr,
    cseq: u32,
}

impl Phone {
    fn udp(server: SocketAddr) -> Self {
        Self::udp_at(IpAddr::from([127, 0, 0, 1]), server)
    }

    fn udp_at(address: IpAddr, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((address, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(server).unwrap();
        let local = socket.local_addr().unwrap();
        Self {
            wire: Wire::Udp(socket),
            local,
            server,
            cseq: 0,
        }
    }

    /// The socket of one that speaks UDP.
    fn socket(&self) -> &UdpSocket {
        match &self.wire {
            Wire::Udp(socket) => socket,
            Wire::Tcp(_) => panic!("TCP"),
        }
    }

    fn tcp(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let local = stream.local_addr().unwrap();
        Self {
            wire: Wire::Tcp(stream),
            local,
            server,
            cseq: 0,
        }
    }

    /// Sends a REGISTER with these further header lines; the response.
    fn register(&mut self, user: &str, lines: &str) -> String {
        self.cseq += 1;
        let Self {
            local,
            server,
            cseq,
            ..
        } = self;
        let (token, parameter) = match &self.wire {
            Wire::Udp(_) => ("UDP", ""),
            Wire::Tcp(_) => ("TCP", ";transport=tcp"),
        };
        let port = local.port();
        let request = format!(
            "REGISTER sip:{server} SIP/2.0\r\nVia: SIP/2.0/{token} {local};branch=z9hG4bK{port}x{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{server}>;tag={port}\r\nTo: <sip:{user}@{server}>\r\n\
             Call-ID: {port}\r\nCSeq: {cseq} REGISTER\r\nContact: <sip:{user}@{local}{parameter}>\r\n{lines}\
             Content-Length: 0\r\n\r\n"
        );
        let mut bytes = [0; 4096];
        let length = match &mut self.wire {
            Wire::Udp(socket) => {
                socket.send(request.as_bytes()).unwrap();
                socket.recv(&mut bytes).unwrap()
            }
            Wire::Tcp(stream) => {
                stream.write_all(request.as_bytes()).unwrap();
                stream.read(&mut bytes).unwrap()
            }
        };
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// Challenge, answer, 200.
    fn log_in(&mut self, user: &str, password: &str) -> String {
        let challenge = self.register(user, "");
        assert!(challenge.starts_with("SIP/2.0 401 "), "{challenge}");
        let value = |name: &str| {
            let start = challenge.find(&format!("{name}=\"")).unwrap() + name.len() + 2;
            challenge[start..].split('"').next().unwrap().to_owned()
        };
        let (realm, nonce, uri) = (
            value("realm"),
            value("nonce"),
            format!("sip:{}", self.server),
        );
        let ha1 = md5(&format!("{user}:{realm}:{password}"));
        let ha2 = md5(&format!("REGISTER:{uri}"));
        let response = md5(&format!("{ha1}:{nonce}:00000001:c:auth:{ha2}"));
        let line = format!(
            "Authorization: Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             response=\"{response}\", algorithm=MD5, qop=auth, nc=00000001, cnonce=\"c\"\r\n"
        );
        self.register(user, &line)
    }
}

fn md5(text: &str) -> String {
    Md5::digest(text.as_bytes())
        .iter()
        .fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        })
}

#[test]
fn first_start_shows_a_password_that_works_until_after_the_next_start() {
    let site = Site::new("[user 100]\n[user 101]\n");
    let server = site.start();
    let banner = server.out();
    let password = |user: &str| {
        let line = banner
            .lines()
            .find(|line| line.contains(&format!("user  {user} ")))
            .unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    let (anna, bert) = (password("100"), password("101"));
    assert_ne!(anna, bert);
    let host = site.address.to_string();
    assert!(
        banner.contains(&format!("udp:{host}:5060, tcp:{host}:5060")),
        "{banner}"
    );
    assert!(
        banner.contains(&format!("server or domain  {host}\n")),
        "{banner}"
    );
    assert!(banner.contains(&format!("http://{host}:8080/")), "{banner}");

    let mut phone = Phone::udp(server.sip);
    assert!(phone.log_in("100", &anna).starts_with("SIP/2.0 200 "));
    let mut phone = Phone::tcp(server.sip);
    assert!(phone.log_in("101", &bert).starts_with("SIP/2.0 200 "));
    let mut cracker = Phone::udp(server.sip);
    assert!(!cracker.log_in("101", &anna).starts_with("SIP/2.0 200 "));
    let token = site.token();
    assert_eq!(server.status(&token)["counts"]["registrations"], 2);
    let (status, took) = server.stop();
    assert!(
        status.success() && took < Duration::from_secs(5),
        "{status} {took:?}"
    );

    // The registration over UDP is kept; the one over TCP went with its connection.
    let server = site.start();
    assert!(!server.out().contains("password"), "{}", server.out());
    assert_eq!(site.token(), token);
    assert_eq!(server.status(&token)["counts"]["registrations"], 1);
    let mut phone = Phone::udp(server.sip);
    assert!(phone.log_in("101", &bert).starts_with("SIP/2.0 200 "));
}

#[test]
fn second_process_does_not_start_and_says_why() {
    let site = Site::new("[user 100]\n");
    let server = site.start();
    let port = format!(
        "port 5060 is in use by sipkeep (process {})",
        server.child.id()
    );
    let (code, out, errors) = site.run();
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(errors.contains(&port), "{errors}");
    // Another state file, the same port: not even the file is made.
    let path = site.folder.path().join("config.ini");
    let text = std::fs::read_to_string(&path).unwrap();
    let other = text.replace("[server]\n", "[server]\nstate = other.db\n");
    std::fs::write(&path, &other).unwrap();
    let (code, out, errors) = site.run();
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(errors.contains(&port), "{errors}");
    let files = std::fs::read_dir(site.folder.path()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names.filter(|name| name.starts_with("other")).collect();
    assert_eq!(left, [""; 0]);
    // The same state file, another port.
    std::fs::write(
        &path,
        text.replace(":5060", ":5070").replace(":8080", ":8081"),
    )
    .unwrap();
    let (code, out, errors) = site.run();
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        errors.contains("sipkeep.db is in use by process"),
        "{errors}"
    );
    std::fs::write(&path, other).unwrap();
    drop(server);
    // Those failed starts have made no password that nobody was shown.
    let server = site.start();
    assert!(server.out().contains("password"), "{}", server.out());
}

#[test]
fn mistakes_are_printed_all_at_once() {
    let site = Site::new("[user 100]\npasword = x\n[trunk a]\n");
    let (code, out, errors) = site.run();
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        errors.contains("config.ini:6: [user 100] unknown key \"pasword\""),
        "{errors}"
    );
    assert!(errors.contains("config.ini:7: [trunk a]"), "{errors}");
    assert!(!site.folder.path().join("sipkeep.db").exists());
}

#[test]
fn hangup_signal_reads_the_configuration_again() {
    let site = Site::new("[user 100]\npassword = kx7-mmq2-9\n");
    let server = site.start();
    let token = site.token();
    let mut phone = Phone::udp(server.sip);
    assert!(
        phone
            .log_in("100", "kx7-mmq2-9")
            .starts_with("SIP/2.0 200 ")
    );
    site.write("[user 100]\npasword = kx7-mmq2-9\n");
    server.signal("HUP");
    server.wait_for_log("config.ini:6: [user 100] unknown key");
    assert_eq!(server.status(&token)["counts"]["users"], 1);
    let path = site.folder.path().join("config.ini");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("tcp:", "udp:[::1]:5999, tcp:");
    std::fs::write(&path, text.replace("pasword", "password")).unwrap();
    server.signal("HUP");
    server.wait_for_log("[server] listen has changed: needs a restart");
    site.write("[user 100]\npassword = kx7-mmq2-9\n[user 101]\npassword = b8n-wqt3-4\n");
    server.signal("HUP");
    server.wait_for_log("event=reload users=2");
    let counts = server.status(&token)["counts"].clone();
    assert_eq!(
        (counts["users"].as_u64(), counts["registrations"].as_u64()),
        (Some(2), Some(1))
    );
    let mut phone = Phone::udp(server.sip);
    assert!(
        phone
            .log_in("101", "b8n-wqt3-4")
            .starts_with("SIP/2.0 200 ")
    );
    assert!(server.stop().0.success());
}

/// CVE class AST-2016-005: idle connections that stop the service.
#[test]
fn idle_connections_do_not_stop_the_service() {
    let site = Site::new("[user 100]\npassword = kx7-mmq2-9\n");
    let server = site.start();
    // From 40 sources more than 512 in all, and more than 16 from one.
    let mut idle = Vec::new();
    for number in 0..700u16 {
        let source = Ipv4Addr::new(127, 3, 0, 1 + (number % 40) as u8);
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&server.sip.into()).unwrap();
        idle.push(socket);
    }
    let mut phone = Phone::tcp(server.sip);
    assert!(
        phone
            .log_in("100", "kx7-mmq2-9")
            .starts_with("SIP/2.0 200 ")
    );
    let mut phone = Phone::udp(server.sip);
    assert!(
        phone
            .log_in("100", "kx7-mmq2-9")
            .starts_with("SIP/2.0 200 ")
    );
    // The first have been closed for the later ones.
    let mut first = TcpStream::from(idle.swap_remove(0));
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(first.read(&mut [0; 1]).unwrap_or(0), 0);
}

/// What is allocated at the start fits a small machine. Pages of the program's file are left out: they are shared, and a
/// test's build is many times as large as the one that is shipped.
#[test]
fn memory_at_the_start_is_small() {
    let site = Site::new("[user 100]\n");
    let server = site.start();
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kibibytes < 6 * 1024, "{line}");
}

/// Whether the command can be run and says yes.
fn succeeds(command: &mut Command) -> bool {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The kernel discards for a server of an ordinary user: `nobody`, if these tests run as root.
#[test]
fn kernel_filter_needs_no_privilege() {
    let site = Site::new("[guard]\ndeny = 192.0.2.1, 198.51.100.0/24\n");
    let as_nobody = || {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
        ]);
        command
    };
    let is_root = succeeds(Command::new("sh").args(["-c", "test $(id -u) = 0"]));
    let program = env!("CARGO_BIN_EXE_sipkeep");
    if is_root {
        let owned = succeeds(
            Command::new("chown")
                .arg("-R")
                .arg("65534")
                .arg(site.folder.path()),
        );
        if !owned || !succeeds(as_nobody().args(["test", "-x", program])) {
            println!("skipped: nobody cannot run {program}, or there is no setpriv");
            return;
        }
    }
    let server = site.start_by(|| {
        if is_root {
            as_nobody()
        } else {
            Command::new("env")
        }
    });
    let kernel = server.status(&site.token())["guard"]["kernel"].clone();
    assert_eq!(kernel["active"], true, "{kernel}");
    assert_eq!(kernel["bans"], 2, "{kernel}");
    let process = server.child.id();
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let capabilities = status.lines().find(|line| line.starts_with("CapEff:"));
    assert_eq!(capabilities, Some("CapEff:\t0000000000000000"));
}

/// With the option memory that was the default before Linux 6.8, in a network namespace of its own.
#[test]
fn three_hundred_bans_fit_into_little_memory() {
    // Scattered over half of what is neither multicast nor unspecified.
    let deny: Vec<String> = (0..300)
        .map(|n: u32| Ipv4Addr::from_bits(n.wrapping_mul(0x9e37_79b1) >> 1 | 1 << 30).to_string())
        .collect();
    let site = Site::new(&format!("[guard]\ndeny = {}\n", deny.join(", ")));
    let prepare = "echo 20480 > /proc/sys/net/core/optmem_max && ip link set lo up";
    if !succeeds(Command::new("unshare").args(["-n", "sh", "-c", prepare])) {
        println!("skipped: no network namespace with an option memory of its own can be made here");
        return;
    }
    let script = format!(
        "{prepare} || exit 1\n\"$0\" --config \"$1\" >&2 & server=$!\n\
         for turn in $(seq 200); do \"$0\" --config \"$1\" status --json 2>/dev/null && break; sleep 0.1; done\n\
         kill $server; wait $server"
    );
    let output = Command::new("unshare")
        .args(["-n", "sh", "-c", &script, env!("CARGO_BIN_EXE_sipkeep")])
        .arg(site.folder.path().join("config.ini"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect(&errors);
    let kernel = &status["guard"]["kernel"];
    assert_eq!(
        (&kernel["active"], &kernel["bans"]),
        (&true.into(), &300.into()),
        "{kernel}"
    );
    let capacity = kernel["capacity"].as_u64().unwrap();
    assert!((300..2_000).contains(&capacity), "{kernel}");
}

/// Strangers have filled their queue and send on: a registered phone gets every answer, and nothing of it is lost.
#[test]
fn a_registered_phone_is_served_while_strangers_fill_their_queue() {
    let site = Site::new("[user 100]\npassword = kx7-mmq2-9\n");
    let server = site.start();
    let stranger = |last| Phone::udp_at(IpAddr::from([127, 0, 0, last]), server.sip);
    let mut phone = stranger(9);
    assert!(
        phone
            .log_in("100", "kx7-mmq2-9")
            .starts_with("SIP/2.0 200 ")
    );
    server.wait_for_lane(phone.socket(), PHONES);
    let strangers: Vec<Phone> = (1..6).map(|last| stranger(100 + last)).collect();
    assert_eq!(server.lane_of(strangers[0].socket()), Some(STRANGERS));
    server.signal("STOP");
    let flood = |count: u32| {
        for _ in 0..count {
            for stranger in &strangers {
                stranger.socket().send(&[b'x'; 1_000]).unwrap();
            }
        }
    };
    let mut sent = 0;
    while server.queues()[STRANGERS].drops == 0 {
        flood(100);
        sent += 1;
        assert!(sent < 1_000, "no buffer is that large");
    }
    server.signal("CONT");
    for _ in 0..20 {
        flood(200);
        assert!(
            phone
                .log_in("100", "kx7-mmq2-9")
                .starts_with("SIP/2.0 200 ")
        );
    }
    let lanes = server.status(&site.token())["guard"]["lanes"].clone();
    let drops = |lane: usize| lanes[lane]["drops"].as_u64().unwrap();
    assert_eq!(lanes[2]["name"], "strangers");
    assert!(drops(2) > 0, "{lanes}");
    assert_eq!((drops(0), drops(1)), (0, 0), "{lanes}");
}

/// A lane is a queue and no privilege: who is banned gets no answer there either, and a known source is thinned.
#[test]
fn the_guard_holds_in_lanes() {
    let site = Site::new("[guard]\nknown_rate = 5\n[user 100]\npassword = kx7-mmq2-9\n");
    let server = site.start();
    let mut phone = Phone::udp_at(IpAddr::from([127, 0, 0, 9]), server.sip);
    assert!(
        phone
            .log_in("100", "kx7-mmq2-9")
            .starts_with("SIP/2.0 200 ")
    );
    server.wait_for_lane(phone.socket(), PHONES);
    let answers = |phone: &mut Phone, requests: u32| {
        let socket = phone.socket().try_clone().unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let message = |number: u32| {
            format!(
                "OPTIONS sip:{sip} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKo{number};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:100@{sip}>;tag=a\r\nTo: <sip:{sip}>\r\nCall-ID: o{number}\r\n\
             CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
                sip = server.sip,
            )
        };
        for number in 0..requests {
            socket.send(message(number).as_bytes()).unwrap();
        }
        let mut bytes = [0; 2_048];
        let mut answers = 0;
        while answers < requests && socket.recv(&mut bytes).is_ok() {
            answers += 1;
        }
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        answers
    };
    // What showed the lane may have used up the rate of that second.
    let answers_in_the_end = |phone: &mut Phone, requests: u32| {
        let begin = Instant::now();
        loop {
            let answers = answers(phone, requests);
            if answers > 0 || begin.elapsed() > PATIENCE {
                return answers;
            }
        }
    };
    let thinned = answers_in_the_end(&mut phone, 100);
    assert!(thinned > 0 && thinned < 100, "{thinned} of 100");
    let command = |words: &[&str]| assert!(site.command().args(words).status().unwrap().success());
    command(&["ban", "127.0.0.9"]);
    assert_eq!(answers(&mut phone, 3), 0);
    // It is received where the kernel's filter is, and with it not at all.
    let begin = Instant::now();
    while server.lane_of(phone.socket()) == Some(PHONES) {
        assert!(begin.elapsed() < PATIENCE, "has its place still");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(answers(&mut phone, 3), 0);
    command(&["unban", "127.0.0.9"]);
    assert!(answers_in_the_end(&mut phone, 3) > 0);
    server.wait_for_lane(phone.socket(), PHONES);
}

/// Trunks come and go with the configuration, and their places with them.
#[test]
fn hangup_signal_changes_who_has_a_place() {
    let user = "[user 100]\npassword = kx7-mmq2-9\n";
    let site = Site::new(user);
    let server = site.start();
    let token = site.token();
    let trunk = Phone::udp_at(IpAddr::from([127, 0, 0, 9]), server.sip);
    assert_eq!(server.lane_of(trunk.socket()), Some(STRANGERS));
    let peers = || {
        let lanes = server.status(&token)["guard"]["lanes"].clone();
        let capacity = |lane: usize| lanes[lane]["capacity"].as_u64().unwrap();
        assert!(capacity(0) > 100, "{lanes}");
        capacity(0) - capacity(1)
    };
    assert_eq!(peers(), 0);
    site.write(&format!(
        "{user}[trunk a]\naddresses = 127.0.0.9, 127.0.0.10:5060\n"
    ));
    server.signal("HUP");
    server.wait_for_lane(trunk.socket(), PEERS);
    assert_eq!(peers(), 2);
    site.write(user);
    server.signal("HUP");
    server.wait_for_lane(trunk.socket(), STRANGERS);
    assert_eq!(peers(), 0);
}
