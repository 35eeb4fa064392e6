//! UDP sockets of the loop: binding, batches in, batches out. Which socket an answer leaves by; what could not be sent.
//!
//! No SIP. Addresses are those of ip(7) `IP_PKTINFO`: what came to one address is answered from it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::sys::{self, BATCH, Outgoing, ReceiveBatch, SendBatch};
use crate::source::{Flow, Transport};

/// Bytes of receive buffer that are asked for: about 6,500 datagrams of 420 bytes, 30 ms of a flood of 200,000 a second.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// A priority class: whose packets a socket receives. Lower numbers are read first, and to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    /// 0 is read first.
    pub(super) priority: u8,
    /// As `status` shows it.
    pub(super) name: &'static str,
}

/// Everybody whom no other lane is for. The lanes of known peers come before it.
pub(super) const STRANGERS: Lane = Lane {
    priority: 1,
    name: "strangers",
};

/// A bound socket.
pub(super) struct UdpSocket {
    socket: Socket,
    /// As bound; the address may be unspecified.
    pub(super) local: SocketAddr,
    /// Whose packets it receives.
    pub(super) lane: Lane,
    /// Something may wait to be read.
    pub(super) readable: bool,
    /// Receive buffer obtained, as the kernel counts (twice what was asked for, with its bookkeeping).
    pub(super) receive_buffer_bytes: usize,
    /// Datagrams that the kernel dropped because that buffer was full.
    pub(super) drops: u64,
    /// Last value of the kernel's own counter, which wraps.
    drops_seen: u32,
    /// Outputs of the batch at hand that leave by it.
    waiting: usize,
}

impl UdpSocket {
    /// Binds a socket that shares its port with nobody.
    ///
    /// # Errors
    /// For people, with the address.
    pub(super) fn bind(
        registry: &Registry,
        token: Token,
        address: SocketAddr,
    ) -> Result<Self, String> {
        let socket = Self::open(address).map_err(|error| explain("udp", address, &error))?;
        registry
            .register(
                &mut SourceFd(&socket.socket.as_raw_fd()),
                token,
                Interest::READABLE,
            )
            .map_err(|error| explain("udp", address, &error))?;
        Ok(socket)
    }

    fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        sys::receive_control_messages(socket.as_fd(), address.is_ipv6())?;
        if sys::force_receive_buffer(socket.as_fd(), RECEIVE_BUFFER_BYTES).is_err() {
            // Not privileged: the kernel then gives what net.core.rmem_max allows, which `status` shows.
            socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        }
        // Neither SO_REUSEADDR nor SO_REUSEPORT: another program on this port makes this fail, whatever that one set.
        socket.bind(&address.into())?;
        let local = socket
            .local_addr()?
            .as_socket()
            .ok_or(ErrorKind::InvalidInput)?;
        let receive_buffer_bytes = socket.recv_buffer_size()?;
        Ok(Self {
            socket,
            local,
            lane: STRANGERS,
            readable: true,
            receive_buffer_bytes,
            drops: 0,
            drops_seen: 0,
            waiting: 0,
        })
    }

    /// Receives a batch. False: nothing waits any more once it is dealt with.
    pub(super) fn receive(&mut self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        let result = batch.receive(self.socket.as_fd());
        // A short batch means that the kernel met an empty queue: what comes later is a new edge for epoll.
        self.readable = match &result {
            Ok(count) => *count == BATCH,
            Err(error) => error.kind() == ErrorKind::Interrupted,
        };
        result
    }

    /// The flow of a received datagram; `None` if it is from nowhere that could be answered.
    pub(super) fn flow(&mut self, datagram: &sys::Received<'_>) -> Option<Flow> {
        if let Some(drops) = datagram.drops {
            self.drops += u64::from(drops.wrapping_sub(self.drops_seen));
            self.drops_seen = drops;
        }
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

/// All UDP sockets, those of the lower lane numbers first, with the buffers they share.
pub(super) struct UdpSockets {
    pub(super) sockets: Vec<UdpSocket>,
    send: SendBatch,
    /// Datagrams that could not be sent (buffer full, unreachable). SIP repeats what matters.
    pub(super) unsent: u64,
}

impl UdpSockets {
    pub(super) fn new() -> Self {
        Self {
            sockets: Vec::new(),
            send: SendBatch::new(),
            unsent: 0,
        }
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
