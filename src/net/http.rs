//! HTTP/1.1 (RFC 9110, RFC 9112) for administrators, in the loop: a few connections, each a small state machine around
//! [`crate::api::http`]. Bounded in size, number and time. Keep-alive; pipelined requests are answered one after the other.
//!
//! Knows no path and no token: see `admin`. No chunked requests, no TLS, no compression, no ranges.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::streams::open_listener;
use super::udp::explain;
use crate::api::http::{Parsed, Refusal, Request, parse};
use crate::limits::{HTTP_CONNECTIONS_MAX, HTTP_TIMEOUT};
use crate::time::Instant;

/// Bytes read at a time.
const READ_BYTES: usize = 4 << 10;
/// Requests of one connection that are answered before the next has its turn.
const REQUESTS_A_TURN: usize = 8;

/// An answer. Its body is JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// Further header lines, each with its CRLF.
    pub(super) lines: String,
}

/// What a handler says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The answer.
    Now(Response),
    /// [`Server::answer`] will be called with the ticket that the handler was given.
    Later,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// For a request to be whole.
    Reading,
    /// For [`Server::answer`] with this ticket.
    Waiting(u64),
    /// For the peer to close, our side being shut.
    Closing,
}

struct Connection {
    stream: TcpStream,
    state: State,
    input: Vec<u8>,
    out: Vec<u8>,
    out_start: usize,
    /// Of the request at hand: no further one after it.
    close: bool,
    /// Of the request at hand: it was HEAD, which is answered without a body.
    is_head: bool,
    /// 100 Continue was sent for the request at hand.
    continued: bool,
    deadline: Instant,
    /// In `Server::ready`.
    is_ready: bool,
}

/// The listener and its connections.
pub(super) struct Server {
    listener: TcpListener,
    /// As bound.
    pub(super) local: SocketAddr,
    listener_readable: bool,
    connections: Slab<Connection>,
    ready: Vec<usize>,
    next_ticket: u64,
    first_token: usize,
}

impl Server {
    /// Listens; tokens of connections begin at `first_token` and are `HTTP_CONNECTIONS_MAX` in number.
    ///
    /// # Errors
    /// For people, with the address.
    pub(super) fn bind(
        registry: &Registry,
        token: Token,
        first_token: usize,
        address: SocketAddr,
    ) -> Result<Self, String> {
        let result = open_listener(address).and_then(|mut listener| {
            registry.register(&mut listener, token, Interest::READABLE)?;
            let local = listener.local_addr()?;
            Ok((listener, local))
        });
        let (listener, local) = result.map_err(|error| explain("http", address, &error))?;
        Ok(Self {
            listener,
            local,
            listener_readable: true,
            connections: Slab::with_capacity(HTTP_CONNECTIONS_MAX),
            ready: Vec::with_capacity(HTTP_CONNECTIONS_MAX),
            next_ticket: 1,
            first_token,
        })
    }

    /// Somebody may be waiting to be accepted.
    pub(super) fn listener_ready(&mut self) {
        self.listener_readable = true;
    }

    /// A connection can be read or written.
    pub(super) fn connection_ready(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.is_ready, true)
        {
            self.ready.push(key);
        }
    }

    /// Whether [`serve`](Self::serve) has anything to do.
    pub(super) fn has_work(&self) -> bool {
        self.listener_readable || !self.ready.is_empty()
    }

    /// When [`expire`](Self::expire) is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        // At most 32 to look at.
        self.connections
            .iter()
            .map(|(_, connection)| connection.deadline)
            .min()
    }

    /// Closes connections whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        self.connections
            .retain(|_, connection| connection.deadline > now);
    }

    /// Accepts, reads requests, has them handled and writes the answers, as far as that goes without waiting.
    pub(super) fn serve(
        &mut self,
        now: Instant,
        registry: &Registry,
        mut handle: impl FnMut(&Request<'_>, u64) -> Reply,
    ) {
        if self.listener_readable {
            self.accept(now, registry);
        }
        for key in std::mem::take(&mut self.ready) {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            connection.is_ready = false;
            match connection.advance(now, &mut self.next_ticket, &mut handle) {
                Ok(true) => self.connection_ready(key),
                Ok(false) => {}
                // Gone, or it broke off: an administrator's browser or script notices by itself.
                Err(_) => drop(self.connections.remove(key)),
            }
        }
    }

    /// The answer to a request that was said to come later. Of a connection that is gone: nothing happens.
    pub(super) fn answer(&mut self, ticket: u64, response: Response) {
        let waiting = State::Waiting(ticket);
        let found = self
            .connections
            .iter_mut()
            .find(|(_, connection)| connection.state == waiting);
        if let Some((key, connection)) = found {
            connection.state = State::Reading;
            connection.respond(&response);
            self.connection_ready(key);
        }
    }

    fn accept(&mut self, now: Instant, registry: &Registry) {
        for _ in 0..HTTP_CONNECTIONS_MAX {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    // One that cannot be registered is closed by being dropped.
                    let _ = self.admit(now, registry, stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.listener_readable = false;
                    return;
                }
                // No descriptor left: the next event tries again, not the next turn, which would spin.
                Err(error) if is_exhausted(&error) => {
                    self.listener_readable = false;
                    self.evict();
                    return;
                }
                Err(_) => {}
            }
        }
    }

    fn admit(
        &mut self,
        now: Instant,
        registry: &Registry,
        mut stream: TcpStream,
    ) -> io::Result<()> {
        if self.connections.len() >= HTTP_CONNECTIONS_MAX && !self.evict() {
            return Err(io::Error::other("all connections are at work"));
        }
        stream.set_nodelay(true)?;
        let key = self.connections.vacant_key();
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(self.first_token + key), interest)?;
        self.connections.insert(Connection {
            stream,
            state: State::Reading,
            input: Vec::new(),
            out: Vec::new(),
            out_start: 0,
            close: false,
            is_head: false,
            continued: false,
            deadline: now.plus(HTTP_TIMEOUT),
            is_ready: false,
        });
        self.connection_ready(key);
        Ok(())
    }

    /// Closes the connection that waits longest for a request; false: each is at work on one.
    fn evict(&mut self) -> bool {
        let idle = self
            .connections
            .iter()
            .filter(|(_, connection)| !matches!(connection.state, State::Waiting(_)))
            .min_by_key(|(_, connection)| connection.deadline)
            .map(|(key, _)| key);
        if let Some(key) = idle {
            self.connections.remove(key);
        }
        idle.is_some()
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

impl Connection {
    /// Goes on as far as it can. True: there may be more to do at once, but others come first.
    ///
    /// # Errors
    /// It is to be closed.
    fn advance(
        &mut self,
        now: Instant,
        next_ticket: &mut u64,
        handle: &mut impl FnMut(&Request<'_>, u64) -> Reply,
    ) -> io::Result<bool> {
        for _ in 0..REQUESTS_A_TURN {
            if !self.write(now)? {
                return Ok(false);
            }
            match self.state {
                State::Waiting(_) => return Ok(false),
                State::Closing => {
                    return self.discard();
                }
                State::Reading if self.close => {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.state = State::Closing;
                    self.input = Vec::new();
                    continue;
                }
                State::Reading => {}
            }
            match parse(&self.input) {
                Ok(Parsed::Whole(request, length)) => {
                    self.close = !request.keep_alive;
                    self.is_head = request.method == "HEAD";
                    self.continued = false;
                    let ticket = *next_ticket;
                    *next_ticket += 1;
                    let reply = handle(&request, ticket);
                    self.input.drain(..length);
                    self.input.shrink_to(READ_BYTES);
                    self.deadline = now.plus(HTTP_TIMEOUT);
                    match reply {
                        Reply::Now(response) => self.respond(&response),
                        Reply::Later => self.state = State::Waiting(ticket),
                    }
                }
                Ok(Parsed::Partial { expects_continue }) => {
                    if expects_continue && !self.continued {
                        self.continued = true;
                        self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                        continue;
                    }
                    if !self.read()? {
                        return Ok(false);
                    }
                }
                Err(Refusal(status, reason)) => {
                    self.close = true;
                    self.is_head = false;
                    self.respond(&Response::error(status, reason));
                }
            }
        }
        Ok(true)
    }

    fn respond(&mut self, response: &Response) {
        let Response {
            status,
            body,
            lines,
        } = response;
        let connection = if self.close { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: {connection}\r\n{lines}\r\n",
            reason_phrase(*status),
            body.len(),
        );
        self.out.extend_from_slice(head.as_bytes());
        if !self.is_head {
            self.out.extend_from_slice(body);
        }
    }

    /// Writes what waits; whether nothing is left.
    fn write(&mut self, now: Instant) -> io::Result<bool> {
        while self.out_start < self.out.len() {
            match self.stream.write(&self.out[self.out_start..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.out_start += written;
                    self.deadline = now.plus(HTTP_TIMEOUT);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.out.shrink_to(READ_BYTES);
        self.out_start = 0;
        Ok(true)
    }

    /// Reads more of a request; false: nothing is there now.
    fn read(&mut self) -> io::Result<bool> {
        let mut bytes = [0; READ_BYTES];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    self.input.extend_from_slice(&bytes[..length]);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what goes nowhere, so that closing does not take our last answer from the peer (RFC 9112 §9.6).
    fn discard(&mut self) -> io::Result<bool> {
        for _ in 0..REQUESTS_A_TURN {
            if !self.read()? {
                return Ok(false);
            }
            self.input.clear();
        }
        Ok(true)
    }
}

impl Response {
    /// `body` as JSON.
    pub(super) fn json(status: u16, body: &impl serde::Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(body) => Self {
                status,
                body,
                lines: String::new(),
            },
            Err(error) => Self::error(500, &error.to_string()),
        }
    }

    /// `{"error": "…"}`
    pub(super) fn error(status: u16, reason: &str) -> Self {
        let body = serde_json::json!({ "error": reason })
            .to_string()
            .into_bytes();
        Self {
            status,
            body,
            lines: String::new(),
        }
    }

    /// With one more header line.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.lines.push_str(&format!("{name}: {value}\r\n"));
        self
    }
}

/// RFC 9110 §15
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll};

    use super::*;

    /// A server with its poll, and a handler that echoes the body, or says `Later` to /later.
    struct Bench {
        poll: Poll,
        server: Server,
        tickets: Vec<u64>,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let poll = Poll::new().unwrap();
            let address = "127.0.0.1:0".parse().unwrap();
            let server = Server::bind(poll.registry(), Token(0), 10, address).unwrap();
            Self {
                poll,
                server,
                tickets: Vec::new(),
                now: Instant::from_micros(1),
            }
        }

        fn client(&self) -> std::net::TcpStream {
            let client = std::net::TcpStream::connect(self.server.local).unwrap();
            client
                .set_read_timeout(Some(Duration::from_secs(5)))
                .unwrap();
            client
        }

        /// Serves until nothing has happened for a while.
        fn run(&mut self) {
            let mut events = Events::with_capacity(64);
            loop {
                self.poll
                    .poll(&mut events, Some(Duration::from_millis(30)))
                    .unwrap();
                if events.is_empty() && !self.server.has_work() {
                    return;
                }
                for event in &events {
                    match event.token().0 {
                        0 => self.server.listener_ready(),
                        token => self.server.connection_ready(token - 10),
                    }
                }
                let tickets = &mut self.tickets;
                self.server
                    .serve(self.now, self.poll.registry(), |request, ticket| {
                        if request.path == "/later" {
                            tickets.push(ticket);
                            return Reply::Later;
                        }
                        let body = request.body.to_vec();
                        Reply::Now(Response {
                            status: 200,
                            body,
                            lines: String::new(),
                        })
                    });
            }
        }
    }

    fn read_all(mut client: std::net::TcpStream) -> String {
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn pipelined_requests_are_answered_in_order_then_closed() {
        let mut bench = Bench::new();
        let mut client = bench.client();
        for index in 0..20 {
            let length = if index < 10 { 1 } else { 2 };
            write!(
                client,
                "POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{index}"
            )
            .unwrap();
        }
        bench.run();
        client
            .write_all(b"GET / HTTP/1.1\r\nConnection: cl")
            .unwrap();
        bench.run();
        client
            .write_all(b"ose\r\n\r\nand this is not read")
            .unwrap();
        bench.run();
        let text = read_all(client);
        let answers: Vec<&str> = text.split("HTTP/1.1 200 OK\r\n").collect();
        assert_eq!(answers.len(), 22);
        for index in 0..20 {
            assert!(
                answers[index + 1].ends_with(&format!("\r\n\r\n{index}")),
                "{text}"
            );
        }
        assert!(answers[21].contains("Connection: close"));
        bench.run();
        assert_eq!(bench.server.connections.len(), 0);
    }

    #[test]
    fn later_answers_wait_and_keep_their_order() {
        let mut bench = Bench::new();
        let mut client = bench.client();
        let body = "GET /later HTTP/1.1\r\n\r\nHEAD /x HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc";
        client.write_all(body.as_bytes()).unwrap();
        bench.run();
        assert_eq!(bench.tickets.len(), 1);
        bench
            .server
            .answer(99, Response::error(500, "nobody asked"));
        bench
            .server
            .answer(bench.tickets[0], Response::error(404, "late"));
        bench.run();
        let text = read_all(client);
        assert!(text.starts_with("HTTP/1.1 404 Not Found\r\n"), "{text}");
        assert!(
            text.contains("{\"error\":\"late\"}HTTP/1.1 200 OK\r\n"),
            "{text}"
        );
        assert!(
            text.contains("Content-Length: 3\r\n") && text.ends_with("\r\n\r\n"),
            "{text}"
        );
    }

    #[test]
    fn refusal_closes_and_reaches_a_peer_that_goes_on_sending() {
        let mut bench = Bench::new();
        let mut client = bench.client();
        client
            .write_all(b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n")
            .unwrap();
        client.write_all(&vec![b'x'; 50_000]).unwrap();
        bench.run();
        let text = read_all(client);
        assert!(
            text.starts_with("HTTP/1.1 413 Content Too Large\r\n"),
            "{text}"
        );
    }

    #[test]
    fn body_is_asked_for_with_100_continue() {
        let mut bench = Bench::new();
        let mut client = bench.client();
        let head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 2\r\n\r\n";
        client.write_all(head).unwrap();
        bench.run();
        client.write_all(b"hi").unwrap();
        bench.run();
        let text = read_all(client);
        assert!(
            text.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"),
            "{text}"
        );
    }

    #[test]
    fn bounds_in_number_and_time() {
        let mut bench = Bench::new();
        let clients: Vec<_> = (0..HTTP_CONNECTIONS_MAX + 3)
            .map(|_| bench.client())
            .collect();
        bench.run();
        assert_eq!(bench.server.connections.len(), HTTP_CONNECTIONS_MAX);
        let late = bench.now.plus(HTTP_TIMEOUT);
        assert_eq!(bench.server.next_deadline(), Some(late));
        bench.server.expire(late);
        assert_eq!(bench.server.connections.len(), 0);
        assert_eq!(bench.server.next_deadline(), None);
        drop(clients);
    }
}
