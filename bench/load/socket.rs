//! A UDP socket with batches in and out, as the server has them, and the wait for it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use sipkeep::net::sys::{self, BATCH, Outgoing, ReceiveBatch, SendBatch};
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of socket buffer that are asked for, each way.
const BUFFER_BYTES: usize = 8 << 20;

/// A bound socket.
pub struct Udp {
    socket: Socket,
    /// Its address.
    pub local: SocketAddr,
    /// Something may wait.
    readable: bool,
    send: SendBatch,
    /// Datagrams that the kernel did not take.
    pub unsent: u64,
}

impl Udp {
    /// Binds a socket that does not block.
    ///
    /// # Errors
    /// The kernel's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        socket.set_nonblocking(true)?;
        if sys::force_receive_buffer(socket.as_fd(), BUFFER_BYTES).is_err() {
            socket.set_recv_buffer_size(BUFFER_BYTES)?;
        }
        socket.set_send_buffer_size(BUFFER_BYTES)?;
        socket.bind(&address.into())?;
        let local = socket
            .local_addr()?
            .as_socket()
            .ok_or(ErrorKind::InvalidInput)?;
        Ok(Self {
            socket,
            local,
            readable: false,
            send: SendBatch::new(),
            unsent: 0,
        })
    }

    /// Takes it for readable, for who does not wait.
    pub fn look_again(&mut self) {
        self.readable = true;
    }

    /// Receives what waits, at most a batch; 0: nothing.
    ///
    /// # Errors
    /// The kernel's; that nothing waits is none, nor that the peer is not there.
    pub fn receive(&mut self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        if !self.readable {
            return Ok(0);
        }
        match batch.receive(self.socket.as_fd()) {
            Ok(count) => {
                self.readable = count == BATCH;
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(0)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Sends all of `datagrams`; those that the kernel has no room for are counted.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&mut self, datagrams: &[Outgoing<'_>]) -> io::Result<()> {
        let mut rest = datagrams;
        while !rest.is_empty() {
            match self.send.send(self.socket.as_fd(), rest) {
                Ok(sent) => rest = &rest[sent.max(1)..],
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::ConnectionRefused => {
                        self.unsent += 1;
                        rest = &rest[1..];
                    }
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}

/// The address from which the kernel sends to `target`. Nothing is sent.
///
/// # Errors
/// The kernel's: there is no way to it.
pub fn address_towards(target: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

/// Waits for sockets.
pub struct Waiter {
    poll: Poll,
    events: Events,
}

impl Waiter {
    /// For these sockets.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(sockets: &[Udp]) -> io::Result<Self> {
        let poll = Poll::new()?;
        for (index, socket) in sockets.iter().enumerate() {
            let descriptor = socket.socket.as_raw_fd();
            poll.registry().register(
                &mut SourceFd(&descriptor),
                Token(index),
                Interest::READABLE,
            )?;
        }
        Ok(Self {
            poll,
            events: Events::with_capacity(16),
        })
    }

    /// Until one can be read, or `longest` is over (rounded up to whole milliseconds). Not at all if one is known to be
    /// readable still.
    ///
    /// # Errors
    /// The kernel's; that a signal came is none.
    pub fn wait(&mut self, sockets: &mut [Udp], longest: Duration) -> io::Result<()> {
        if sockets.iter().any(|socket| socket.readable) {
            return Ok(());
        }
        match self.poll.poll(&mut self.events, Some(longest)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &self.events {
            sockets[event.token().0].readable = true;
        }
        Ok(())
    }
}

/// What is to be sent, collected until a batch is worth a call.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Socket, end in `bytes`, and another address to send from.
    queued: Vec<(usize, usize, Option<SocketAddr>)>,
    /// Place of the socket that whoever queues calls his first.
    pub first: usize,
}

impl Outbox {
    /// Queues a datagram on a socket.
    pub fn push(&mut self, socket: usize, bytes: &[u8]) {
        self.push_from(socket, bytes, None);
    }

    /// Queues a datagram that leaves from another local address.
    pub fn push_from(&mut self, socket: usize, bytes: &[u8], local: Option<SocketAddr>) {
        self.bytes.extend_from_slice(bytes);
        self.queued
            .push((self.first + socket, self.bytes.len(), local));
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.queued.len()
    }

    /// Sends everything to `remote`, those of one socket together and in their order.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&mut self, sockets: &mut [Udp], remote: SocketAddr) -> io::Result<()> {
        for (index, socket) in sockets.iter_mut().enumerate() {
            let mut batch = [Outgoing::NONE; BATCH];
            let (mut length, mut start) = (0, 0);
            for (own, end, local) in &self.queued {
                let bytes = &self.bytes[start..*end];
                start = *end;
                if *own != index {
                    continue;
                }
                batch[length] = Outgoing {
                    remote,
                    local: *local,
                    bytes,
                };
                length += 1;
                if length == BATCH {
                    socket.send(&batch)?;
                    length = 0;
                }
            }
            socket.send(&batch[..length])?;
        }
        self.bytes.clear();
        self.queued.clear();
        Ok(())
    }
}
