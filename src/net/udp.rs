//! UDP sockets of the loop: binding, batches in, batches out. Which socket an answer leaves by; what could not be sent.
//!
//! Each address that is listened on has a group of three sockets (socket(7) `SO_REUSEPORT`), a lane each: one for
//! strangers, one for registered phones, one for trunks and users by address. A program in the kernel chooses among them
//! by the sender (`lanes` makes it); each has a receive buffer of its own, so that strangers fill none but theirs.
//!
//! - The first socket is bound alone, so that another program on the port is noticed, and shares it only then. Who shares
//!   the port afterwards, a process of the same user, gets nothing: the program names the first three only.
//! - No socket of a group is closed before all are: the kernel would move the last into its place.
//! - A socket for IPv6 takes no IPv4, so each family has groups of its own.
//! - Where the kernel refuses any of it there is one socket, in the strangers' lane, and `status` shows lanes without
//!   places.
//!
//! No SIP. Where all addresses are listened on, ip(7) `IP_PKTINFO` tells which of them a datagram came to; it is answered from it. Answers leave by any
//! socket of the group, which all have the same address: by the first.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::lanes;
use super::sys::{self, BATCH, Outgoing, ReceiveBatch, SendBatch};
use crate::limits::{LISTEN_MAX, RECEIVE_BUFFER_BYTES};
use crate::source::{Flow, Lane, Transport};

/// Lanes in the order of their sockets within a group: what the kernel's program returns is the index here.
pub(super) const GROUP: [Lane; 3] = [Lane::Strangers, Lane::Phones, Lane::Peers];

/// Sockets that there may be.
pub(super) const SOCKETS_MAX: usize = LISTEN_MAX * GROUP.len();

/// A bound socket.
pub(super) struct UdpSocket {
    socket: Socket,
    /// As bound; the address may be unspecified.
    pub(super) local: SocketAddr,
    /// Whose packets it receives.
    pub(super) lane: Lane,
    /// What its events carry.
    token: Token,
    /// Something may wait to be read.
    pub(super) readable: bool,
    /// Receive buffer obtained, as the kernel counts (twice what was asked for, with its bookkeeping).
    pub(super) receive_buffer_bytes: usize,
    /// Datagrams that were received and dropped: held back, and there was no room for them.
    pub(super) unheld: u64,
    /// Datagrams that the kernel dropped because that buffer was full, as last asked, and its own counter then, which wraps.
    drops: (u64, u32),
    /// Outputs of the batch at hand that leave by it.
    waiting: usize,
}

impl UdpSocket {
    /// Opens a socket and binds it, if it is the first of its group to a port that nobody else has.
    fn open(address: SocketAddr, lane: Lane) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if address.ip().is_unspecified() {
            sys::receive_control_messages(socket.as_fd(), address.is_ipv6())?;
        }
        if sys::force_receive_buffer(socket.as_fd(), RECEIVE_BUFFER_BYTES).is_err() {
            // Not privileged: the kernel then gives what net.core.rmem_max allows, which `status` shows.
            socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        }
        if lane != GROUP[0] {
            socket.set_reuse_port(true)?;
        }
        // The first has neither SO_REUSEADDR nor SO_REUSEPORT: another program on this port makes this fail, whatever
        // that one set.
        socket.bind(&address.into())?;
        let local = socket
            .local_addr()?
            .as_socket()
            .ok_or(ErrorKind::InvalidInput)?;
        let receive_buffer_bytes = socket.recv_buffer_size()?;
        Ok(Self {
            socket,
            local,
            lane,
            token: Token(usize::MAX),
            readable: true,
            receive_buffer_bytes,
            unheld: 0,
            drops: (0, 0),
            waiting: 0,
        })
    }

    /// Opens the rest of the group of a bound socket. `steer` gives the group its first program.
    ///
    /// # Errors
    /// The kernel's; the socket is alone again then.
    fn share(&self, steer: impl Fn(&Self) -> io::Result<()>) -> io::Result<[Self; 2]> {
        let share = || {
            self.socket.set_reuse_port(true)?;
            let [_, second, third] = GROUP;
            let others = [
                Self::open(self.local, second)?,
                Self::open(self.local, third)?,
            ];
            steer(self)?;
            Ok(others)
        };
        share().inspect_err(|_| {
            // It worked a moment ago, or was never set.
            let _ = self.socket.set_reuse_port(false);
        })
    }

    fn register(&self, registry: &Registry) -> io::Result<()> {
        let descriptor = self.socket.as_raw_fd();
        registry.register(&mut SourceFd(&descriptor), self.token, Interest::READABLE)
    }

    fn deregister(&self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut SourceFd(&self.socket.as_raw_fd()))
    }

    /// Datagrams lost since it was opened.
    pub(super) fn drops(&mut self) -> u64 {
        if let Ok(queue) = sys::receive_queue(self.as_fd()) {
            let (drops, seen) = &mut self.drops;
            *drops += u64::from(queue.drops.wrapping_sub(*seen));
            *seen = queue.drops;
        }
        self.drops.0 + self.unheld
    }

    /// Receives a batch of at most `most`. `readable` says afterwards whether more may wait once it is dealt with.
    ///
    /// # Errors
    /// `WouldBlock` when nothing waits.
    pub(super) fn receive(&mut self, batch: &mut ReceiveBatch, most: usize) -> io::Result<usize> {
        let result = batch.receive_at_most(self.socket.as_fd(), most);
        // A short batch means that the kernel met an empty queue: what comes later is a new edge for epoll.
        self.readable = match &result {
            Ok(count) => *count == most.min(BATCH),
            Err(error) => error.kind() == ErrorKind::Interrupted,
        };
        result
    }

    /// The flow of a received datagram; `None` if it is from nowhere that could be answered.
    pub(super) fn flow(&self, datagram: &sys::Received<'_>) -> Option<Flow> {
        let local = match datagram.local {
            Some((IpAddr::V4(v4), _)) => SocketAddr::from((v4, self.local.port())),
            Some((IpAddr::V6(v6), scope)) => {
                SocketAddrV6::new(v6, self.local.port(), 0, scope).into()
            }
            None => self.local,
        };
        let remote = datagram.remote;
        let answerable = remote.port() != 0
            && !remote.ip().is_unspecified()
            && !remote.ip().is_multicast()
            && !local.ip().is_unspecified();
        answerable.then_some(Flow {
            transport: Transport::Udp,
            local,
            remote,
            connection: None,
        })
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// All UDP sockets, with the buffers they share.
pub(super) struct UdpSockets {
    /// Those of a group one behind the other, in the order of [`GROUP`].
    pub(super) sockets: Vec<UdpSocket>,
    /// Places of the first socket of each group.
    pub(super) groups: Vec<usize>,
    /// Places of the lanes' sockets in the order in which they are read.
    pub(super) lanes: Vec<usize>,
    /// Places of the strangers' sockets.
    pub(super) strangers: Vec<usize>,
    send: SendBatch,
    /// Datagrams that could not be sent (buffer full, unreachable). SIP repeats what matters.
    pub(super) unsent: u64,
}

impl UdpSockets {
    pub(super) fn new() -> Self {
        Self {
            sockets: Vec::new(),
            groups: Vec::new(),
            lanes: Vec::new(),
            strangers: Vec::new(),
            send: SendBatch::new(),
            unsent: 0,
        }
    }

    /// Binds sockets to an address that no other program has; their events carry `token` and those that follow it, one
    /// for each place in `sockets`. The address with the port that it got.
    ///
    /// # Errors
    /// For people, with the address.
    pub(super) fn bind(
        &mut self,
        registry: &Registry,
        token: usize,
        address: SocketAddr,
    ) -> Result<SocketAddr, String> {
        let in_words = |error: io::Error| explain("udp", address, &error);
        let first = UdpSocket::open(address, GROUP[0]).map_err(in_words)?;
        let local = first.local;
        let others = match first.share(lanes::steer_to_strangers) {
            Ok(others) => {
                self.groups.push(self.sockets.len());
                Some(others)
            }
            Err(error) => {
                ::log::warn!("udp:{local}: no lanes, strangers share a queue with phones: {error}");
                None
            }
        };
        for mut socket in std::iter::once(first).chain(others.into_iter().flatten()) {
            let place = self.sockets.len();
            socket.token = Token(token + place);
            socket.register(registry).map_err(in_words)?;
            if socket.lane == Lane::Strangers {
                self.strangers.push(place);
            } else {
                self.lanes.push(place);
            }
            self.sockets.push(socket);
        }
        let sockets = &self.sockets;
        self.lanes.sort_by_key(|&place| sockets[place].lane);
        Ok(local)
    }

    fn strangers(&self) -> impl Iterator<Item = &UdpSocket> {
        self.strangers.iter().map(|&place| &self.sockets[place])
    }

    /// The smallest receive buffer of strangers.
    pub(super) fn strangers_buffer_bytes(&self) -> usize {
        let bytes = self.strangers().map(|socket| socket.receive_buffer_bytes);
        bytes.min().unwrap_or(0)
    }

    /// Whether everything from strangers that had come was read.
    pub(super) fn are_strangers_read(&self) -> bool {
        self.strangers().all(|socket| !socket.readable)
    }

    /// Their sockets are to be read though no event said so.
    pub(super) fn strangers_may_be_readable(&mut self) {
        for &place in &self.strangers {
            self.sockets[place].readable = true;
        }
    }

    /// No event tells any more that something came from strangers.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn ignore_strangers(&self, registry: &Registry) -> io::Result<()> {
        self.strangers()
            .try_for_each(|socket| socket.deregister(registry))
    }

    /// Events tell it again, what is there already included.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn watch_strangers(&self, registry: &Registry) -> io::Result<()> {
        self.strangers()
            .try_for_each(|socket| socket.register(registry))
    }

    /// The socket that an output leaves by: bound to just this address, else to all of its family and port, else any of its
    /// family (a port that is no longer listened on, from before a restart).
    fn index_for(&self, flow: &Flow) -> Option<usize> {
        let same_family = |socket: &UdpSocket| socket.local.is_ipv4() == flow.remote.is_ipv4();
        let same_port = |socket: &UdpSocket| socket.local.port() == flow.local.port();
        let wide = |socket: &UdpSocket| socket.local.ip().is_unspecified();
        let find = |wanted: &dyn Fn(&UdpSocket) -> bool| {
            self.sockets
                .iter()
                .position(|socket| same_family(socket) && wanted(socket))
        };
        find(&|socket| same_port(socket) && socket.local.ip() == flow.local.ip())
            .or_else(|| find(&|socket| same_port(socket) && wide(socket)))
            .or_else(|| find(&wide))
            .or_else(|| find(&|_| true))
    }

    /// Notes an output, so that [`send`](Self::send) knows which sockets have any. Counts one that has no way out.
    pub(super) fn announce(&mut self, flow: &Flow) {
        match self.index_for(flow) {
            Some(index) => self.sockets[index].waiting += 1,
            None => self.unsent += 1,
        }
    }

    /// Sends the announced outputs, those of one socket together and in their order.
    pub(super) fn send<'a, I: Iterator<Item = (Flow, &'a [u8])>>(
        &mut self,
        outputs: impl Fn() -> I,
    ) {
        for index in 0..self.sockets.len() {
            let mut waiting = std::mem::take(&mut self.sockets[index].waiting);
            if waiting == 0 {
                continue;
            }
            let mut batch = [Outgoing::NONE; BATCH];
            let mut length = 0;
            for (flow, bytes) in outputs() {
                if self.index_for(&flow) != Some(index) {
                    continue;
                }
                // A socket bound to one address cannot send from another.
                let bound = self.sockets[index].local.ip();
                let local = (bound.is_unspecified() && !flow.local.ip().is_unspecified())
                    .then_some(flow.local);
                batch[length] = Outgoing {
                    remote: flow.remote,
                    local,
                    bytes,
                };
                length += 1;
                waiting -= 1;
                if length == BATCH || waiting == 0 {
                    self.send_batch(index, &mut batch[..length]);
                    length = 0;
                }
                if waiting == 0 {
                    break;
                }
            }
        }
    }

    fn send_batch(&mut self, index: usize, batch: &mut [Outgoing<'_>]) {
        let mut done = 0;
        while done < batch.len() {
            match self
                .send
                .send(self.sockets[index].socket.as_fd(), &batch[done..])
            {
                Ok(sent) => done += sent.max(1),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => {
                        // The device's queue is full; waiting would only make later packets late.
                        self.unsent += (batch.len() - done) as u64;
                        return;
                    }
                    // The address that was asked is no longer ours (a new lease): from whichever we have now.
                    _ if batch[done].local.take().is_some() && is_local_fault(&error) => {}
                    _ => {
                        self.unsent += 1;
                        done += 1;
                    }
                },
            }
        }
    }
}

/// Errors of a send that come of its local address.
fn is_local_fault(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EADDRNOTAVAIL | libc::ENETUNREACH | libc::EHOSTUNREACH)
    )
}

/// Why an address could not be listened on, for people.
pub(super) fn explain(transport: &str, address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            "{transport}:{address}: port {port} is in use by {}",
            super::holder::of(transport, address)
        ),
        ErrorKind::AddrNotAvailable => {
            format!(
                "{transport}:{address}: this machine has no address {}",
                address.ip()
            )
        }
        ErrorKind::PermissionDenied => {
            format!("{transport}:{address}: no permission to use port {port}")
        }
        _ => format!("{transport}:{address}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn join(address: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::open(address, Lane::Phones)
    }

    /// Where the kernel takes no programs there is one socket as before, and nobody else can have its port.
    #[test]
    fn without_programs_a_socket_stays_alone() {
        let first = UdpSocket::open(ANY, Lane::Strangers).unwrap();
        let refused = first.share(|_| Err(ErrorKind::Unsupported.into()));
        assert_eq!(refused.err().unwrap().kind(), ErrorKind::Unsupported);
        let joined = join(first.local).err().unwrap();
        assert_eq!(joined.kind(), ErrorKind::AddrInUse);
        let client = std::net::UdpSocket::bind(ANY).unwrap();
        for _ in 0..100 {
            client.send_to(b"x", first.local).unwrap();
        }
        let mut first = first;
        let mut batch = ReceiveBatch::new();
        assert_eq!(first.receive(&mut batch, BATCH).unwrap(), BATCH);
        assert_eq!(first.receive(&mut batch, BATCH).unwrap(), 100 - BATCH);
    }

    /// A socket that another program of this user adds to a group gets nothing, and its end changes nothing.
    #[test]
    fn who_joins_a_group_gets_nothing() {
        let mut first = UdpSocket::open(ANY, Lane::Strangers).unwrap();
        let _others = first.share(lanes::steer_to_strangers).unwrap();
        let mut joined = join(first.local).unwrap();
        let mut batch = ReceiveBatch::new();
        for is_joined in [true, false] {
            for _ in 0..50 {
                // Another port each: it is by this that the kernel spreads datagrams if nobody says otherwise.
                let client = std::net::UdpSocket::bind(ANY).unwrap();
                client.send_to(b"x", first.local).unwrap();
            }
            assert_eq!(first.receive(&mut batch, BATCH).unwrap(), 50);
            if is_joined {
                assert!(joined.receive(&mut batch, BATCH).is_err());
                joined = UdpSocket::open(ANY, Lane::Strangers).unwrap();
            }
        }
    }
}
