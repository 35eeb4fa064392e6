//! What a server on the Internet hears all day: scanners under their own and other names, bytes that are no message, over UDP
//! and TCP, and SIPVicious if it is there.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sipkeep::testing::random::Random;
use socket2::{Domain, Socket, Type};

use crate::peers::crash::load::End;
use crate::peers::harness::Server;

/// The longest pause between two of them.
const PACE: Duration = Duration::from_millis(8);
/// Addresses that they come from: 127.96.0.0 onward.
const SOURCES: u64 = 4_096;
const FIRST: u32 = 0x7f60_0000;

/// How many there were.
#[derive(Debug)]
pub struct Scanners {
    datagrams: AtomicU64,
    connections: AtomicU64,
    /// SIPVicious ran so often.
    tools: AtomicU64,
}

/// Whether it is one of their addresses.
pub fn is_scanner(address: Ipv4Addr) -> bool {
    (FIRST..FIRST + SOURCES as u32).contains(&address.to_bits())
}

impl Scanners {
    pub const fn new() -> Self {
        Self {
            datagrams: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            tools: AtomicU64::new(0),
        }
    }

    /// Until the load ends.
    pub fn scan(&self, server: &Server, mut random: Random, end: &End) {
        while !end.has_come() {
            let source = Ipv4Addr::from_bits(FIRST + random.below(SOURCES) as u32);
            let text = message(&mut random, source, server.sip());
            match random.chance(50) {
                true => self.connect(source, server.sip(), &text),
                false => {
                    let socket = UdpSocket::bind((source, 0)).unwrap();
                    for _ in 0..=random.below(3) {
                        // Nobody minds whether it comes.
                        let _ = socket.send_to(&text, server.sip());
                        self.datagrams.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            std::thread::sleep(random.up_to(PACE));
        }
    }

    fn connect(&self, source: Ipv4Addr, server: SocketAddr, text: &[u8]) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        if socket.connect(&server.into()).is_ok() {
            // It may have been closed for a newer one.
            let _ = TcpStream::from(socket).write_all(text);
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// SIPVicious one after the other, until the load ends.
    pub fn tools(&self, server: &Server, end: &End) {
        let target = server.network.server().to_string();
        for arguments in [["svmap", "-m", "INVITE"], ["svwar", "-m", "REGISTER"]]
            .iter()
            .cycle()
        {
            let child = Command::new(arguments[0])
                .args(&arguments[1..])
                .args(["-p", "5060", &target])
                .env("HOME", server.folder.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let Ok(mut child) = child else {
                // Then it is not there, and our own noise is all.
                while !end.has_come() {
                    std::thread::sleep(Duration::from_millis(50));
                }
                return;
            };
            while !end.has_come() && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = child.kill();
            let _ = child.wait();
            self.tools.fetch_add(1, Ordering::Relaxed);
            if end.has_come() {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

/// A scanner's request, whole or not, or bytes.
fn message(random: &mut Random, source: Ipv4Addr, server: SocketAddr) -> Vec<u8> {
    let number = random.next_u64();
    let method =
        ["OPTIONS", "REGISTER", "INVITE", "SUBSCRIBE", "ACK", "BYE"][random.below(6) as usize];
    let agent = [
        "friendly-scanner",
        "sipcli/v1.8",
        "Yealink SIP-T46S 66.86.0.15",
    ][random.below(3) as usize];
    let user = 100 + random.below(1_000);
    let mut text = format!(
        "{method} sip:{user}@{server} SIP/2.0\r\nVia: SIP/2.0/UDP {source}:5060;branch=z9hG4bK{number:x};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@{server}>;tag={number:x}\r\nTo: <sip:{user}@{server}>\r\n\
         Call-ID: {number:x}\r\nCSeq: 1 {method}\r\nUser-Agent: {agent}\r\nContact: <sip:{user}@{source}>\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes();
    match random.below(10) {
        0 => text.truncate(random.below(text.len() as u64) as usize),
        1 => {
            for _ in 0..=random.below(8) {
                let at = random.below(text.len() as u64) as usize;
                text[at] = random.below(256) as u8;
            }
        }
        2 => text = random.bytes().repeat(1 + random.below(40) as usize),
        _ => {}
    }
    text
}
