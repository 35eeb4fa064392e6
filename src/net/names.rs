//! What the resolver of the core needs of the system: a socket for each query with a port that the kernel draws,
//! connections where an answer does not fit, `/etc/resolv.conf` and `/etc/hosts`. Nothing in here waits.
//!
//! The loop's part: a poll with room for tokens from `first_token` on, [`Names::socket_ready`] for each of their events,
//! [`Names::next_unsent`] and [`Names::read_next`] until there is nothing, [`Names::changed_files`] at
//! [`Names::next_deadline`]. Not here: what any byte of DNS means, and whom to ask.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use slab::Slab;

use crate::limits::{NAME_FILE_BYTES_MAX, NAME_FILES_EVERY};
use crate::names::{Hosts, Servers};
use crate::source::{Over, SocketId};
use crate::time::Instant;

/// Bytes of the longest datagram.
const DATAGRAM_BYTES: usize = 65_535;
/// Bytes read from a connection at a time.
const READ_BYTES: usize = 4 << 10;

/// Where the system's files are.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    /// resolv.conf(5).
    pub(super) resolv_conf: PathBuf,
    /// hosts(5).
    pub(super) hosts: PathBuf,
}

impl Paths {
    /// As the environment says: `SIPKEEP_RESOLV_CONF`, `SIPKEEP_HOSTS`; without these, those in `/etc`.
    pub(super) fn from_environment() -> Self {
        let path = |name, usual: &str| {
            let own = std::env::var_os(name).filter(|value| !value.is_empty());
            own.map_or_else(|| usual.into(), PathBuf::from)
        };
        Self {
            resolv_conf: path("SIPKEEP_RESOLV_CONF", "/etc/resolv.conf"),
            hosts: path("SIPKEEP_HOSTS", "/etc/hosts"),
        }
    }
}

/// The sockets of queries, and the files.
pub(super) struct Names {
    sockets: Slab<Socket>,
    keys: HashMap<SocketId, usize>,
    /// Numbers of sockets that may have something to read.
    readable: VecDeque<usize>,
    /// Queries that could not be sent.
    unsent: VecDeque<SocketId>,
    first_token: usize,
    files: Files,
    buffer: Box<[u8]>,
}

/// What came on the socket of a query.
pub(super) enum Received<'a> {
    /// These bytes.
    Answer(SocketId, SocketAddr, &'a [u8]),
    /// It is of no use any more.
    Ended(SocketId),
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
    /// Without a socket yet, whose tokens will begin at `first_token`.
    pub(super) fn new(first_token: usize, paths: Paths) -> Self {
        Self {
            sockets: Slab::new(),
            keys: HashMap::new(),
            readable: VecDeque::new(),
            unsent: VecDeque::new(),
            first_token,
            files: Files::new(paths),
            buffer: vec![0; DATAGRAM_BYTES].into_boxed_slice(),
        }
    }

    /// Reads the system's files.
    pub(super) fn read_files(&mut self, now: Instant) -> (Servers, Hosts) {
        self.files.read(now)
    }

    /// The same, if it is time to look and they have changed.
    pub(super) fn changed_files(&mut self, now: Instant) -> Option<(Servers, Hosts)> {
        let is_due = self.next_deadline() <= now;
        (is_due && self.files.have_changed(now)).then(|| self.files.read(now))
    }

    /// When the files are to be looked at.
    pub(super) fn next_deadline(&self) -> Instant {
        self.files.looked_at.plus(NAME_FILES_EVERY)
    }

    /// Sends a query; if that cannot be, [`Names::next_unsent`] will tell.
    pub(super) fn ask(
        &mut self,
        registry: &Registry,
        id: SocketId,
        over: Over,
        server: SocketAddr,
        bytes: &[u8],
    ) {
        if let Err(error) = self.open(registry, id, over, server, bytes) {
            log::debug!("name server {server}: {error}");
            self.unsent.push_back(id);
        }
    }

    /// Closes the socket of a query, if it has one.
    pub(super) fn close(&mut self, id: SocketId) {
        if let Some(key) = self.keys.remove(&id) {
            self.sockets.remove(key);
        }
    }

    /// An event of the socket with this number behind the first token.
    pub(super) fn socket_ready(&mut self, key: usize) {
        if self.sockets.contains(key) && !self.readable.contains(&key) {
            self.readable.push_back(key);
        }
    }

    /// Whether the next turn has something to do that no event will tell.
    pub(super) fn has_work(&self) -> bool {
        !self.readable.is_empty() || !self.unsent.is_empty()
    }

    /// The next query that could not be sent.
    pub(super) fn next_unsent(&mut self) -> Option<SocketId> {
        self.unsent.pop_front()
    }

    /// The next thing that has come. Datagrams of one socket come one after the other; a few that answer nothing end it.
    pub(super) fn read_next(&mut self) -> Option<Received<'_>> {
        while let Some(&key) = self.readable.front() {
            let Some(socket) = self.sockets.get_mut(key) else {
                self.readable.pop_front();
                continue;
            };
            let (id, server) = (socket.id, socket.server);
            let received = match &mut socket.carrier {
                Carrier::Udp(udp) => udp.recv_from(&mut self.buffer),
                Carrier::Tcp(exchange) => exchange
                    .go_on(&mut self.buffer)
                    .map(|length| (length, server)),
            };
            match received {
                Ok((length, from)) => {
                    return Some(Received::Answer(id, from, &self.buffer[..length]));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.readable.pop_front();
                    if error.kind() != ErrorKind::WouldBlock {
                        log::debug!("name server {server}: {error}");
                        return Some(Received::Ended(id));
                    }
                }
            }
        }
        None
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
