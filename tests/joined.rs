//! Servers that are joined by trunks both ways and send each other the same number: how such calls end, and what they cost.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sipkeep::config::Config;
use sipkeep::endpoint::{Endpoint, Input, Output};
use sipkeep::message::{Method, parse};
use sipkeep::source::{Flow, Transport};
use sipkeep::store::Snapshot;
use sipkeep::time::{Instant, Now, UnixTime};

const PHONE: &str = "192.0.2.50:5060";

/// Two servers on one network, and a phone at the first of them.
struct Joined {
    servers: [Endpoint; 2],
    now: Now,
    /// From, to, bytes.
    under_way: VecDeque<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// INVITEs between the servers, retransmissions included.
    invites: usize,
    /// Max-Forwards of the last one.
    hops: Option<u8>,
    /// Final statuses that the phone has got.
    answers: Vec<u16>,
    /// Whatever is between the servers keeps no headers that it does not know.
    loses_marks: bool,
}

/// One of the two: users, and trunks to each of the other's ports.
fn config(own: usize, ports: usize, more: &str) -> Config {
    let host = |server: usize| format!("198.51.100.{}", server + 1);
    let listen: Vec<_> = (0..ports)
        .map(|port| format!("udp:{}:{}", host(own), 5060 + port))
        .collect();
    let mut text = format!("[server]\nlisten = {}\n", listen.join(", "));
    let mut to = Vec::new();
    for port in 0..ports {
        let address = format!("{}:{}", host(1 - own), 5060 + port);
        text += &format!("[trunk t{port}]\naddresses = {address}\nkeepalive = 0\n{more}\n");
        to.push(format!("trunk:t{port}"));
    }
    text += &format!("[route out]\nprefix = 0\nto = {}\n", to.join(", "));
    if own == 0 {
        text += &format!("[user 100]\naddresses = {PHONE}\n");
    }
    Config::read(&text, Path::new(".")).expect("a good configuration")
}

impl Joined {
    fn new(ports: usize, more: &str) -> Self {
        let now = Now {
            mono: Instant::from_micros(1_000_000),
            unix: UnixTime::from_millis(1_790_000_000_000),
        };
        let server = |own: usize| {
            let seed = [own as u8 + 1; 32];
            Endpoint::new(now, config(own, ports, more), seed, Snapshot::default())
        };
        Self {
            servers: [server(0), server(1)],
            now,
            under_way: VecDeque::new(),
            invites: 0,
            hops: None,
            answers: Vec::new(),
            loses_marks: false,
        }
    }

    fn call(&mut self, number: &str) {
        let text = format!(
            "INVITE sip:{number}@198.51.100.1 SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK-{number}\r\n\
             From: <sip:100@198.51.100.1>;tag=phone\r\nTo: <sip:{number}@198.51.100.1>\r\n\
             Call-ID: call-{number}\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\nContact: <sip:100@{PHONE}>\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let to = "198.51.100.1:5060".parse().unwrap();
        let phone = PHONE.parse().unwrap();
        self.under_way.push_back((phone, to, text.into_bytes()));
    }

    /// Lets `time` pass, with everything that happens in it.
    fn pass(&mut self, time: Duration) {
        let end = self.now.mono.plus(time);
        loop {
            while let Some((from, to, bytes)) = self.under_way.pop_front() {
                self.deliver(from, to, bytes);
            }
            let due = self
                .servers
                .iter()
                .filter_map(Endpoint::next_deadline)
                .min();
            let Some(due) = due.filter(|due| *due <= end) else {
                break;
            };
            let step = due.since(self.now.mono);
            self.now.mono = self.now.mono.plus(step);
            self.now.unix = self.now.unix.plus(step);
            for index in 0..2 {
                self.servers[index].handle_input(self.now, Input::Tick);
                self.take(index);
            }
        }
        self.now.mono = end;
    }

    fn deliver(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        if to == PHONE.parse().unwrap() {
            let message = parse(&bytes).expect("a message");
            if message.status() >= 200 && message.cseq().method == Method::Invite {
                self.answers.push(message.status());
                let ack = ack_of(&bytes);
                self.under_way.push_back((to, from, ack));
            }
            return;
        }
        let index = usize::from(to.ip() != SocketAddr::from(([198, 51, 100, 1], 0)).ip());
        let flow = Flow {
            transport: Transport::Udp,
            local: to,
            remote: from,
            connection: None,
        };
        let input = Input::Datagram {
            flow,
            bytes: &bytes,
        };
        self.servers[index].handle_input(self.now, input);
        self.take(index);
    }

    fn take(&mut self, index: usize) {
        for output in self.servers[index].outputs() {
            let Output::Datagram { flow, bytes } = output else {
                continue;
            };
            let mut bytes = bytes.to_vec();
            let message = parse(&bytes).expect("what we send parses");
            if message.is_request() && message.method() == Method::Invite {
                self.invites += 1;
                self.hops = message.max_forwards();
                assert!(self.invites < 10_000, "it grows and grows");
            }
            if self.loses_marks {
                let text = String::from_utf8(bytes).expect("text");
                let kept: Vec<&str> = (text.split("\r\n"))
                    .filter(|line| !line.starts_with("X-Sipkeep-"))
                    .collect();
                bytes = kept.join("\r\n").into_bytes();
            }
            self.under_way.push_back((flow.local, flow.remote, bytes));
        }
        self.servers[index].clear_outputs();
    }

    /// Nothing is left of it.
    fn is_over(&self) -> bool {
        (self.servers.iter()).all(|server| {
            let census = server.census();
            !census.has_calls && census.counted == 0 && census.transactions_live == 0
        })
    }
}

/// The ACK of the phone to a final response.
fn ack_of(response: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(response);
    let mut ack = "ACK sip:0@198.51.100.1 SIP/2.0\r\n".to_owned();
    for line in text.lines() {
        if ["Via", "From", "To", "Call-ID"]
            .iter()
            .any(|name| line.starts_with(name))
        {
            ack += &format!("{line}\r\n");
        }
    }
    ack += "CSeq: 1 ACK\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
    ack.into_bytes()
}

#[test]
fn a_call_goes_back_to_where_it_came_from_by_no_route() {
    let mut joined = Joined::new(1, "");
    joined.call("0441");
    joined.pass(Duration::from_secs(120));
    assert_eq!((joined.answers.as_slice(), joined.invites), (&[404][..], 1));
    assert!(joined.is_over());
}

#[test]
fn a_loop_over_two_trunks_is_noticed_on_its_second_round() {
    let mut joined = Joined::new(2, "");
    joined.call("0441");
    joined.pass(Duration::from_secs(120));
    assert_eq!(joined.answers, [482]);
    assert!(joined.invites <= 4, "{}", joined.invites);
    assert!(joined.is_over());
    // The same number again is another call.
    let before = joined.invites;
    joined.call("0442");
    joined.pass(Duration::from_secs(120));
    assert_eq!(joined.answers, [482, 482]);
    assert_eq!(joined.invites, 2 * before);
}

#[test]
fn without_the_marks_max_forwards_ends_it_and_nothing_grows() {
    let mut joined = Joined::new(2, "");
    joined.loses_marks = true;
    joined.call("0441");
    joined.pass(Duration::from_secs(120));
    assert_eq!(
        (joined.answers.as_slice(), joined.hops),
        (&[483][..], Some(0))
    );
    assert_eq!(joined.invites, 70, "one for each hop");
    assert!(joined.is_over());
}

#[test]
fn trunks_that_are_full_do_not_multiply_a_loop() {
    // Each hop has two others to try when one fails with 503.
    // Where the marks are lost it costs what the trunks can hold, and the calls of one ring time at most.
    for (loses_marks, most) in [(false, 8), (true, 1_000)] {
        let mut joined = Joined::new(3, "calls_out_max = 2");
        joined.loses_marks = loses_marks;
        joined.call("0441");
        joined.pass(Duration::from_secs(300));
        assert_eq!(joined.answers.len(), 1, "{:?}", joined.answers);
        assert!(joined.invites <= most, "{loses_marks} {}", joined.invites);
        assert!(joined.is_over());
    }
}
