//! A name server for the built server, and lines that register where their names lead.
//!
//! It has port 53, since resolv.conf names no other: on Linux that takes root, or `net.ipv4.ip_unprivileged_port_start`.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sipkeep::testing::dns::{Zone, cut_off, question};
use tempfile::TempDir;

use super::harness::{Network, Server, wait, write_config};

/// Between two looks at whether it is to end.
const TICK: Duration = Duration::from_millis(20);

/// A name server on an address of its own; it ends when it is dropped.
pub struct DnsServer {
    address: Ipv4Addr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    zone: Mutex<Zone>,
    /// `udp name TYPE` or `tcp name TYPE`, in the order of the queries.
    asked: Mutex<Vec<String>>,
    cuts_off: AtomicBool,
    is_ending: AtomicBool,
}

impl DnsServer {
    /// Starts one that knows the lines of a zone, as `sipkeep::testing::dns` reads them.
    pub fn start(address: Ipv4Addr, zone: &str) -> Self {
        let no_port = |error| {
            panic!(
                "{address}:53 cannot be had: {error}; port 53 takes root or ip_unprivileged_port_start"
            )
        };
        let udp = UdpSocket::bind((address, 53)).unwrap_or_else(no_port);
        let tcp = TcpListener::bind((address, 53)).unwrap();
        udp.set_read_timeout(Some(TICK)).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared {
            zone: Mutex::new(Zone::read(zone).unwrap()),
            asked: Mutex::new(Vec::new()),
            cuts_off: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
        });
        let (by_udp, by_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            thread::spawn(move || by_udp.serve_udp(&udp)),
            thread::spawn(move || by_tcp.serve_tcp(&tcp)),
        ];
        Self {
            address,
            shared,
            threads,
        }
    }

    /// It knows these lines from now on.
    pub fn set_zone(&self, zone: &str) {
        *self.shared.zone.lock().unwrap() = Zone::read(zone).unwrap();
    }

    /// Answers by UDP only that the answer is too long for a datagram.
    pub fn set_cuts_off(&self, cuts_off: bool) {
        self.shared.cuts_off.store(cuts_off, Ordering::Relaxed);
    }

    /// `udp name TYPE` or `tcp name TYPE` of every query so far.
    pub fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The server of this folder, which is not started yet, asks here, and reads `hosts` of the folder.
    pub fn configure(&self, folder: &Path, hosts: &str) {
        let text = format!("nameserver {}\n", self.address);
        std::fs::write(folder.join("resolv.conf"), text).unwrap();
        std::fs::write(folder.join("hosts"), hosts).unwrap();
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(
                ended.is_ok() || thread::panicking(),
                "the name server failed"
            );
        }
    }
}

impl Shared {
    fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    fn serve_udp(&self, udp: &UdpSocket) {
        let mut buffer = [0; 512];
        while !self.is_ending() {
            let Ok((length, from)) = udp.recv_from(&mut buffer) else {
                continue;
            };
            let query = &buffer[..length];
            self.note("udp", query);
            let answer = match self.cuts_off.load(Ordering::Relaxed) {
                true => cut_off(query),
                false => self.zone.lock().unwrap().answer_datagram(query),
            };
            if let Some(answer) = answer {
                // Who asked has perhaps gone.
                let _ = udp.send_to(&answer, from);
            }
        }
    }

    fn serve_tcp(&self, tcp: &TcpListener) {
        while !self.is_ending() {
            match tcp.accept() {
                Ok((stream, _)) => self.answer_stream(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(TICK),
                Err(error) => panic!("accept: {error}"),
            }
        }
    }

    /// One query a connection (RFC 7766 §8).
    fn answer_stream(&self, mut stream: TcpStream) {
        stream.set_nonblocking(false).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
        if stream.read_exact(&mut query).is_err() {
            return;
        }
        self.note("tcp", &query);
        if let Some(answer) = self.zone.lock().unwrap().answer(&query) {
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            let _ = stream.write_all(&[&length[..], &answer].concat());
        }
    }

    fn note(&self, over: &str, query: &[u8]) {
        let question = question(query).expect("the server asks a question");
        self.asked
            .lock()
            .unwrap()
            .push(format!("{over} {question}"));
    }
}

/// A registrar that lets everybody in.
struct Registrar {
    socket: UdpSocket,
}

impl Registrar {
    fn start(address: (Ipv4Addr, u16)) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        Self { socket }
    }

    /// Answers the next REGISTER, which it returns.
    fn register(&self) -> String {
        let mut buffer = [0; 4096];
        let (length, from) = self
            .socket
            .recv_from(&mut buffer)
            .expect("a REGISTER in time");
        let request = String::from_utf8(buffer[..length].to_vec()).unwrap();
        assert!(request.starts_with("REGISTER "), "{request}");
        let mut answer = "SIP/2.0 200 OK\r\n".to_owned();
        for line in request.lines() {
            let name = line.split(':').next().unwrap();
            if ["Via", "From", "Call-ID", "CSeq", "Contact"].contains(&name) {
                answer.push_str(&format!("{line}\r\n"));
            } else if name == "To" {
                answer.push_str(&format!("{line};tag=registrar\r\n"));
            }
        }
        answer.push_str("Expires: 3600\r\nContent-Length: 0\r\n\r\n");
        self.socket.send_to(answer.as_bytes(), from).unwrap();
        request
    }
}

/// A server with one line, `gd` at `host`.
fn start(network: Network, dns: &DnsServer, hosts: &str, host: &str) -> Server {
    let folder = TempDir::new().unwrap();
    let config = format!(
        "[line gd]\naccount = 100\nserver = {host}\npassword = Carrier-71-x\nkeepalive = 0\n"
    );
    write_config(folder.path(), network, &config);
    dns.configure(folder.path(), hosts);
    Server::start_in(network, folder)
}

fn wait_until_registered(server: &Server) {
    let state = || server.get("lines/gd")["state"].as_str().map(str::to_owned);
    wait(
        Duration::from_secs(5),
        || state().as_deref() == Some("registered"),
        || format!("the line is {:?}:\n{}", state(), server.log()),
    );
}

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn a_line_registers_where_the_records_of_its_domain_say() {
    let network = Network::take();
    let (far, near) = (network.host(21), network.host(22));
    let zone = format!(
        "_sip._udp.carrier.example SRV 20 1 5060 far.carrier.example\n\
         _sip._udp.carrier.example SRV 10 1 5080 near.carrier.example\n\
         far.carrier.example A {far}\nnear.carrier.example A {near}\n"
    );
    let dns = DnsServer::start(network.host(53), &zone);
    let registrar = Registrar::start((near, 5080));
    let server = start(network, &dns, "", "carrier.example");
    let request = registrar.register();
    assert!(
        request.starts_with("REGISTER sip:carrier.example SIP/2.0\r\n"),
        "{request}"
    );
    wait_until_registered(&server);
    server.wait_for_log(&format!(
        "event=resolve name=carrier.example to=\"udp {near}:5080, udp {far}:5060\""
    ));
    let asked = dns.asked();
    assert!(
        asked.contains(&"udp _sip._udp.carrier.example SRV".to_owned()),
        "{asked:?}"
    );
    // Its port is the kernel's choice, and no other kind of query leaves.
    assert!(
        asked.iter().all(|query| query.starts_with("udp ")),
        "{asked:?}"
    );
    drop(registrar);
}

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn a_long_answer_comes_by_tcp_and_hosts_come_before_it() {
    let network = Network::take();
    let (first, second) = (network.host(21), network.host(22));
    let dns = DnsServer::start(
        network.host(53),
        &format!("sip.carrier.example A {first}\n"),
    );
    dns.set_cuts_off(true);
    let registrars = [first, second].map(|address| Registrar::start((address, 5060)));
    let server = start(network, &dns, "", "sip.carrier.example");
    registrars[0].register();
    wait_until_registered(&server);
    let asked = dns.asked();
    assert!(
        asked.contains(&"tcp sip.carrier.example A".to_owned()),
        "{asked:?}"
    );
    let hosts = server.folder.path().join("hosts");
    std::fs::write(hosts, format!("{second} sip.carrier.example\n")).unwrap();
    server.signal("HUP");
    server.wait_for_log("event=reload");
    let (status, _) = server.request("POST", "lines/gd/register", "");
    assert_eq!(status, 200);
    registrars[1].register();
}

#[test]
#[ignore = "part of the peers' stage: tests/run peers"]
fn a_name_that_leads_nowhere_is_told_and_found_as_soon_as_it_is_there() {
    let network = Network::take();
    let dns = DnsServer::start(network.host(53), "carrier.example SOA 900\n");
    let registrar = Registrar::start((network.host(21), 5060));
    let server = start(network, &dns, "", "sip.carrier.example");
    let reason = "the name has no address that can be reached from here";
    server.wait_for_log(&format!(
        "event=resolve name=sip.carrier.example error=\"{reason}\""
    ));
    let line = server.get("lines/gd");
    assert_eq!(line["state"], "unreachable", "{line}");
    assert_eq!(line["reason"], format!("sip.carrier.example: {reason}"));
    dns.set_zone(&format!("sip.carrier.example A {}\n", network.host(21)));
    // It would hold for a quarter of an hour; a reload looks at once.
    server.signal("HUP");
    registrar.register();
    wait_until_registered(&server);
}
