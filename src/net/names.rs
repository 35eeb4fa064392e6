//! The sockets and files of [`crate::names`]: a socket for each query with a port that the kernel draws, connections where
//! an answer does not fit, `/etc/resolv.conf` and `/etc/hosts`. Nothing in here waits: who asks is told what is known, and
//! the loop hands over what comes.
//!
//! The loop's part: a poll with room for tokens from `first_token` on, [`Names::ready`] for each of their events,
//! [`Names::expire`] at [`Names::next_deadline`], [`Names::reread`] on reload. Not here: what any byte of DNS means.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use slab::Slab;

use crate::limits::{NAME_FILE_BYTES_MAX, NAME_FILES_EVERY};
use crate::names::{
    Candidate, Hosts, Order, Over, Resolution, Resolver, Servers, SocketId, Target,
};
use crate::time::Instant;

/// Bytes of the longest datagram.
const DATAGRAM_BYTES: usize = 65_535;
/// Bytes read from a connection at a time.
const READ_BYTES: usize = 4 << 10;

/// Where the system's files are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// resolv.conf(5).
    pub resolv_conf: PathBuf,
    /// hosts(5).
    pub hosts: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
        }
    }
}

/// A resolver with its sockets.
pub struct Names {
    resolver: Resolver,
    sockets: Slab<Socket>,
    keys: HashMap<SocketId, usize>,
    first_token: usize,
    files: Files,
    buffer: Box<[u8]>,
}

struct Socket {
    id: SocketId,
    server: SocketAddr,
    carrier: Carrier,
}

enum Carrier {
    Udp(UdpSocket),
    Tcp(Exchange),
}

/// One query and its answer on a connection (RFC 7766 §8).
struct Exchange {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    read: Vec<u8>,
}

impl Names {
    /// Reads the system's files. Tokens of its sockets begin at `first_token`; `families`: whether we have IPv4, and
    /// whether IPv6.
    pub fn new(
        now: Instant,
        first_token: usize,
        seed: &[u8; 32],
        families: [bool; 2],
        paths: Paths,
    ) -> Self {
        let mut files = Files::new(paths);
        let (servers, hosts) = files.read(now);
        Self {
            resolver: Resolver::new(seed, families, servers, hosts),
            sockets: Slab::new(),
            keys: HashMap::new(),
            first_token,
            files,
            buffer: vec![0; DATAGRAM_BYTES].into_boxed_slice(),
        }
    }

    /// Where requests to a target go, as far as it is known; what is not is asked for.
    pub fn resolve(&mut self, now: Instant, registry: &Registry, target: &Target) -> Resolution {
        if now.since(self.files.looked_at) >= NAME_FILES_EVERY && self.files.have_changed(now) {
            self.reread(now);
        }
        let resolution = self.resolver.resolve(now, target);
        self.carry_out(now, registry);
        resolution
    }

    /// See [`Resolver::changes`].
    pub fn changes(&self) -> u64 {
        self.resolver.changes()
    }

    /// See [`Resolver::failed`].
    pub fn failed(&mut self, now: Instant, candidate: Candidate, retry_after: Option<Duration>) {
        self.resolver.failed(now, candidate, retry_after);
    }

    /// See [`Resolver::worked`].
    pub fn worked(&mut self, candidate: Candidate) {
        self.resolver.worked(candidate);
    }

    /// Reads the system's files again.
    pub fn reread(&mut self, now: Instant) {
        let (servers, hosts) = self.files.read(now);
        self.resolver.configure(now, servers, hosts);
    }

    /// See [`Resolver::next_deadline`].
    pub fn next_deadline(&self) -> Option<Instant> {
        self.resolver.next_deadline()
    }

    /// Time has passed.
    pub fn expire(&mut self, now: Instant, registry: &Registry) {
        self.resolver.expire(now);
        self.carry_out(now, registry);
    }

    /// An event of the socket with this number behind the first token.
    pub fn ready(&mut self, now: Instant, registry: &Registry, key: usize) {
        // An answer ends it, and so do a few datagrams that are none: this loop does, too.
        while let Some(socket) = self.sockets.get_mut(key) {
            let id = socket.id;
            let received = match &mut socket.carrier {
                Carrier::Udp(udp) => udp.recv_from(&mut self.buffer),
                Carrier::Tcp(exchange) => exchange
                    .go_on(&mut self.buffer)
                    .map(|length| (length, socket.server)),
            };
            match received {
                Ok((length, from)) => {
                    let bytes = &self.buffer[..length];
                    self.resolver.receive(now, id, from, bytes);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    log::debug!("name server {}: {error}", socket.server);
                    self.resolver.unreachable(now, id);
                }
            }
            self.carry_out(now, registry);
        }
    }

    fn carry_out(&mut self, now: Instant, registry: &Registry) {
        while let Some(order) = self.resolver.next_order() {
            match order {
                Order::Ask {
                    socket,
                    over,
                    server,
                    bytes,
                } => {
                    if let Err(error) = self.open(registry, socket, over, server, &bytes) {
                        log::debug!("name server {server}: {error}");
                        self.resolver.unreachable(now, socket);
                    }
                }
                Order::Close { socket } => {
                    if let Some(key) = self.keys.remove(&socket) {
                        self.sockets.remove(key);
                    }
                }
            }
        }
    }

    fn open(
        &mut self,
        registry: &Registry,
        id: SocketId,
        over: Over,
        server: SocketAddr,
        bytes: &[u8],
    ) -> io::Result<()> {
        let entry = self.sockets.vacant_entry();
        let token = Token(self.first_token + entry.key());
        let carrier = match over {
            Over::Udp => {
                let any = match server {
                    SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
                    SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
                };
                let mut udp = UdpSocket::bind(any)?;
                udp.connect(server)?;
                registry.register(&mut udp, token, Interest::READABLE)?;
                udp.send(bytes)?;
                Carrier::Udp(udp)
            }
            Over::Tcp => {
                let mut stream = TcpStream::connect(server)?;
                let both = Interest::READABLE | Interest::WRITABLE;
                registry.register(&mut stream, token, both)?;
                let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
                Carrier::Tcp(Exchange {
                    stream,
                    out: [&length.to_be_bytes(), bytes].concat(),
                    written: 0,
                    read: Vec::new(),
                })
            }
        };
        self.keys.insert(id, entry.key());
        entry.insert(Socket {
            id,
            server,
            carrier,
        });
        Ok(())
    }
}

impl Exchange {
    /// Writes what is left, then reads; the length of the whole answer, which it puts into `buffer`.
    fn go_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(length) => self.written += length,
                // Still connecting: the next event tells.
                Err(error) if error.kind() == ErrorKind::NotConnected => {
                    return Err(ErrorKind::WouldBlock.into());
                }
                Err(error) => return Err(error),
            }
        }
        loop {
            if let Some((length, answer)) = self.read.split_first_chunk::<2>()
                && let length = usize::from(u16::from_be_bytes(*length))
                && let Some(answer) = answer.get(..length)
            {
                buffer[..length].copy_from_slice(answer);
                return Ok(length);
            }
            let mut bytes = [0; READ_BYTES];
            match self.stream.read(&mut bytes)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                length => self.read.extend_from_slice(&bytes[..length]),
            }
        }
    }
}

/// What tells one state of a file from another.
type Mark = Option<(i64, i64, u64, u64)>;

/// The system's files and when they were looked at.
struct Files {
    paths: Paths,
    marks: [Mark; 2],
    looked_at: Instant,
}

impl Files {
    fn new(paths: Paths) -> Self {
        Self {
            paths,
            marks: [None; 2],
            looked_at: Instant::default(),
        }
    }

    fn marks(&self) -> [Mark; 2] {
        [&self.paths.resolv_conf, &self.paths.hosts].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            let (size, inode) = (metadata.size(), metadata.ino());
            Some((metadata.mtime(), metadata.mtime_nsec(), size, inode))
        })
    }

    fn have_changed(&mut self, now: Instant) -> bool {
        self.looked_at = now;
        self.marks() != self.marks
    }

    /// A file that is not there is an empty one.
    fn read(&mut self, now: Instant) -> (Servers, Hosts) {
        // Before they are read: a change after this is found later.
        self.marks = self.marks();
        self.looked_at = now;
        let servers = Servers::read(&text(&self.paths.resolv_conf), interface_index);
        (servers, Hosts::read(&text(&self.paths.hosts)))
    }
}

fn text(path: &Path) -> String {
    let read = File::open(path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(NAME_FILE_BYTES_MAX as u64)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    match read {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                log::warn!("{}: {error}", path.display());
            }
            String::new()
        }
    }
}

/// The index of a network interface, which a link-local address needs.
fn interface_index(name: &str) -> Option<u32> {
    if name.contains('/') || name.starts_with('.') {
        return None;
    }
    let path = Path::new("/sys/class/net").join(name).join("ifindex");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
