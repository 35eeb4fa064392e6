//! The bare relay: two sockets for each call, all watched by one poll. What comes to one is sent, from the buffer that it was
//! received into, out of the other to whom that was heard from last. It asks nothing and knows nobody: no ports to open, no
//! look at who sends, no clock, no SIP. It wakes for each packet, or, if it rests, looks five times a
//! millisecond at what has come.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use sipkeep::net::sys::{self, Outgoing, ReceiveBatch, SendBatch};

/// Packets of one socket at a time, as the server takes them.
const PART: usize = 8;
/// As the server rests.
const REST: Duration = Duration::from_micros(200);

/// One side of a call.
struct Port {
    socket: UdpSocket,
    /// Who was heard last.
    remote: Option<SocketAddr>,
}

struct Relay {
    ports: Vec<Port>,
    receive: ReceiveBatch,
    send: SendBatch,
    forwarded: u64,
    unsent: u64,
}

/// Forwards until SIGTERM or SIGINT; then how many.
///
/// # Errors
/// The kernel's, for people.
pub fn run(listen: SocketAddr, calls: usize, rests: bool) -> Result<String, String> {
    turn_until_signal(listen, calls, rests).map_err(|error| format!("{listen}: {error}"))
}

/// The address of the port of one side of a call.
pub fn port(listen: SocketAddr, call: usize, side: usize) -> SocketAddr {
    let offset = u16::try_from(2 * call + side).unwrap_or(u16::MAX);
    SocketAddr::new(listen.ip(), listen.port().wrapping_add(offset))
}

fn turn_until_signal(listen: SocketAddr, calls: usize, rests: bool) -> io::Result<String> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    sys::raise_file_limit()?;
    let mut poll = Poll::new()?;
    let mut ports = Vec::new();
    for place in 0..2 * calls {
        let socket = UdpSocket::bind(port(listen, place / 2, place % 2))?;
        socket.set_nonblocking(true)?;
        let descriptor = socket.as_raw_fd();
        (poll.registry()).register(&mut SourceFd(&descriptor), Token(place), Interest::READABLE)?;
        ports.push(Port {
            socket,
            remote: None,
        });
    }
    let mut relay = Relay {
        ports,
        receive: ReceiveBatch::new(),
        send: SendBatch::new(),
        forwarded: 0,
        unsent: 0,
    };
    let mut events = Events::with_capacity(1024);
    let longest = if rests {
        Duration::ZERO
    } else {
        Duration::from_millis(100)
    };
    while !stop.load(Ordering::Relaxed) {
        if rests {
            std::thread::sleep(REST);
        }
        match poll.poll(&mut events, Some(longest)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            while relay.forward(event.token().0)? {}
        }
    }
    Ok(format!(
        "{} datagrams forwarded, {} not sent",
        relay.forwarded, relay.unsent
    ))
}

impl Relay {
    /// A batch of one port; whether more may wait.
    fn forward(&mut self, place: usize) -> io::Result<bool> {
        let (own, other) = (place, place ^ 1);
        let received = match (self.receive).receive_at_most(self.ports[own].socket.as_fd(), PART) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            // Whom it sent to was not there.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(true),
            Err(error) => return Err(error),
        };
        let mut outgoing = [Outgoing::NONE; PART];
        let mut count = 0;
        for datagram in self.receive.datagrams() {
            self.ports[own].remote = Some(datagram.remote);
            let Some(remote) = self.ports[other].remote else {
                continue;
            };
            outgoing[count] = Outgoing {
                remote,
                local: None,
                bytes: datagram.bytes,
            };
            count += 1;
        }
        let mut rest = &outgoing[..count];
        while !rest.is_empty() {
            let sent = match (self.send).send(self.ports[other].socket.as_fd(), rest) {
                Ok(sent) => sent.max(1),
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(_) => {
                    self.unsent += 1;
                    1
                }
            };
            self.forwarded += sent as u64;
            rest = &rest[sent..];
        }
        Ok(received == PART)
    }
}
