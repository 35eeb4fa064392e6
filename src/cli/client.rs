//! A small HTTP/1.1 client for one server: ours. One connection a request, a body with its length, no redirects, no
//! encryption (the API listens on loopback unless its owner says otherwise).

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Until the connection is there; it is the same machine or one nearby.
const CONNECT: Duration = Duration::from_secs(3);
/// Until the whole answer is there. A query over years of call records takes a while on a flash card.
const ANSWER: Duration = Duration::from_secs(30);
/// Bytes of one answer; a page is far smaller.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Header lines of an answer.
const HEADERS_MAX: usize = 64;

pub struct Client {
    pub address: SocketAddr,
    pub token: String,
}

#[derive(Debug, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Client {
    /// Sends one request; `path` begins with `/`, `body` is JSON.
    ///
    /// # Errors
    /// In words, if there is no answer or none that HTTP knows.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Result<Reply, String> {
        let address = reachable(self.address);
        let at = |error: std::io::Error| self.unanswered(&error);
        let mut stream = TcpStream::connect_timeout(&address, CONNECT).map_err(at)?;
        stream.set_write_timeout(Some(CONNECT)).map_err(at)?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
             Accept: application/json\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.token,
            body.len()
        );
        stream.write_all(request.as_bytes()).map_err(at)?;
        self.receive(&mut stream)
    }

    fn receive(&self, stream: &mut TcpStream) -> Result<Reply, String> {
        let deadline = Instant::now() + ANSWER;
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 16_384];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.unanswered(&ErrorKind::TimedOut.into()));
            }
            stream
                .set_read_timeout(Some(left))
                .map_err(|error| self.unanswered(&error))?;
            let ended = match stream.read(&mut chunk) {
                Ok(count) => {
                    bytes.extend_from_slice(&chunk[..count]);
                    count == 0
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.unanswered(&error)),
            };
            match parse(&bytes, ended) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) if bytes.len() <= ANSWER_BYTES_MAX => {}
                Ok(None) => return Err(self.strange("is too long")),
                Err(what) => return Err(self.strange(what)),
            }
        }
    }

    fn unanswered(&self, error: &std::io::Error) -> String {
        let address = self.address;
        match error.kind() {
            ErrorKind::ConnectionRefused => {
                format!("no server at {address} ([http] listen): is sipkeep running?")
            }
            ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                format!("the server at {address} ([http] listen) does not answer in time")
            }
            _ => format!("cannot ask the server at {address} ([http] listen): {error}"),
        }
    }

    fn strange(&self, what: &str) -> String {
        let address = self.address;
        format!("the answer of {address} {what}: is that another program than sipkeep?")
    }
}

/// Where a server that listens on every address is asked: on this machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let mut address = listen;
    match listen.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(v6) if v6.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// The answer if `bytes` hold all of it. `ended`: no more bytes will come.
fn parse(bytes: &[u8], ended: bool) -> Result<Option<Reply>, &'static str> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if ended => return Err("ends too early"),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err("is not HTTP"),
    };
    let status = response.code.unwrap_or(0);
    let header = |name: &str| {
        let found = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| header.value)
    };
    if header("Transfer-Encoding").is_some() {
        return Err("has a body without a length");
    }
    let body = &bytes[head..];
    let length = match header("Content-Length") {
        // RFC 9110 §15.3.5: there is no body, and need be no length.
        None if status == 204 => 0,
        None if ended => body.len(),
        None => return Ok(None),
        Some(value) => std::str::from_utf8(value)
            .ok()
            .and_then(|value| value.trim().parse::<usize>().ok())
            .filter(|length| *length <= ANSWER_BYTES_MAX)
            .ok_or("has a length that is no number or too large")?,
    };
    match body.get(..length) {
        None if ended => Err("ends too early"),
        None => Ok(None),
        Some(body) => {
            let body = String::from_utf8(body.to_vec()).map_err(|_| "is not UTF-8")?;
            Ok(Some(Reply { status, body }))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const ANSWERED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"ok\":true}";

    #[test]
    fn an_answer_is_read_at_any_cut() {
        for cut in 0..ANSWERED.len() {
            assert_eq!(parse(&ANSWERED[..cut], false), Ok(None), "{cut}");
            assert_eq!(
                parse(&ANSWERED[..cut], true),
                Err("ends too early"),
                "{cut}"
            );
        }
        let reply = Reply {
            status: 200,
            body: "{\"ok\":true}".into(),
        };
        assert_eq!(parse(ANSWERED, false), Ok(Some(reply)));
    }

    #[test]
    fn answers_of_other_forms() {
        let to_end = b"HTTP/1.1 404 Not Found\r\n\r\nx";
        assert_eq!(parse(to_end, false), Ok(None));
        assert_eq!(
            parse(to_end, true),
            Ok(Some(Reply {
                status: 404,
                body: "x".into()
            }))
        );
        let none = Reply {
            status: 204,
            body: String::new(),
        };
        assert_eq!(
            parse(b"HTTP/1.1 204 No Content\r\n\r\n", false),
            Ok(Some(none))
        );
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n", false), Err("is not HTTP"));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(parse(chunked, false), Err("has a body without a length"));
        let wrong = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n";
        assert!(parse(wrong, false).is_err());
        let latin = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff";
        assert_eq!(parse(latin, false), Err("is not UTF-8"));
    }

    #[test]
    fn a_request_goes_out_with_token_and_length() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"{}") {
                let mut one = [0];
                stream.read_exact(&mut one).unwrap();
                bytes.push(one[0]);
            }
            stream.write_all(ANSWERED).unwrap();
            String::from_utf8(bytes).unwrap()
        });
        let client = Client {
            address,
            token: "t0ken".into(),
        };
        let reply = client.ask("POST", "/api/v1/bans", "{}").unwrap();
        assert_eq!(
            reply,
            Reply {
                status: 200,
                body: "{\"ok\":true}".into()
            }
        );
        let request = server.join().unwrap();
        assert!(
            request.starts_with("POST /api/v1/bans HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(
            request.contains("\r\nAuthorization: Bearer t0ken\r\n"),
            "{request}"
        );
        assert!(request.contains("\r\nContent-Length: 2\r\n"), "{request}");
        assert!(
            request.contains(&format!("\r\nHost: {address}\r\n")),
            "{request}"
        );
    }

    #[test]
    fn a_server_that_does_not_run_is_told_so() {
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let client = Client {
            address,
            token: String::new(),
        };
        let error = client.ask("GET", "/api/v1/status", "").unwrap_err();
        assert_eq!(
            error,
            format!("no server at {address} ([http] listen): is sipkeep running?")
        );
    }

    #[test]
    fn a_server_on_every_address_is_asked_on_this_machine() {
        for (listen, asked) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
