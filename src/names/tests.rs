//! The rules of RFC 3263 on virtual time, against name servers made of text and another library's wire format.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::limits::*;
use crate::source::Transport;
use crate::time::Instant;

mod answers;
mod steps;
mod trouble;

/// A resolver, its clock, and the sockets that it has open.
struct World {
    resolver: Resolver,
    now: Instant,
    open: BTreeMap<SocketId, (Over, SocketAddr, Vec<u8>)>,
    /// `name KIND` of each query, in order.
    asked: Vec<String>,
}

impl World {
    fn new() -> Self {
        Self::with(&["192.0.2.53:53"], "")
    }

    fn with(servers: &[&str], hosts: &str) -> Self {
        let servers = Servers {
            servers: servers.iter().map(|text| text.parse().unwrap()).collect(),
            ..Servers::default()
        };
        Self::of(servers, Hosts::read(hosts), [true, true])
    }

    fn of(servers: Servers, hosts: Hosts, families: [bool; 2]) -> Self {
        Self {
            resolver: Resolver::new(&[7; 32], families, servers, hosts),
            now: Instant::from_micros(1),
            open: BTreeMap::new(),
            asked: Vec::new(),
        }
    }

    /// Does what the shell would.
    fn carry_out(&mut self) {
        while let Some(order) = self.resolver.next_order() {
            match order {
                Order::Ask {
                    socket,
                    over,
                    server,
                    bytes,
                } => {
                    self.asked.push(question(&bytes));
                    let former = self.open.insert(socket, (over, server, bytes));
                    assert!(former.is_none(), "a socket is used once");
                }
                Order::Close { socket } => {
                    self.open.remove(&socket).expect("an open socket");
                }
            }
        }
        assert_eq!(self.open.len(), self.resolver.sizes().0);
        assert_eq!(
            self.open.is_empty(),
            self.resolver.next_deadline().is_none()
        );
    }

    fn resolve(&mut self, target: &str) -> Resolution {
        let resolution = self.resolver.resolve(self.now, &read_target(target));
        self.carry_out();
        resolution
    }

    /// Every server answers from this zone until nothing is being asked.
    fn answer(&mut self, zone: &str) {
        while let Some((&socket, (over, server, query))) = self.open.iter().next() {
            let (over, server, answer) = (*over, *server, answer(zone, query));
            assert!(over == Over::Tcp || answer.len() <= 512);
            self.receive(socket, server, &answer);
        }
    }

    fn receive(&mut self, socket: SocketId, from: SocketAddr, bytes: &[u8]) {
        self.resolver.receive(self.now, socket, from, bytes);
        self.carry_out();
    }

    /// Resolves with the help of a zone.
    fn resolve_by(&mut self, target: &str, zone: &str) -> Resolution {
        for _ in 0..20 {
            match self.resolve(target) {
                Resolution::Pending => self.answer(zone),
                resolution => return resolution,
            }
        }
        panic!("asks for ever: {:?}", self.asked);
    }

    /// Candidates as text.
    fn candidates(&mut self, target: &str, zone: &str) -> Vec<String> {
        texts(&self.resolve_by(target, zone))
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while let Some(deadline) = self.resolver.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            self.resolver.expire(self.now);
            self.carry_out();
        }
        self.now = end;
    }

    fn only(&self) -> (SocketId, Over, SocketAddr, Vec<u8>) {
        assert_eq!(self.open.len(), 1);
        let (socket, (over, server, bytes)) = self.open.first_key_value().unwrap();
        (*socket, *over, *server, bytes.clone())
    }
}

/// `example.com:5070;tcp`, port and transport optional.
fn read_target(text: &str) -> Target {
    let (rest, transport) = match text.split_once(';') {
        Some((rest, "tcp")) => (rest, Some(Transport::Tcp)),
        Some((rest, _)) => (rest, Some(Transport::Udp)),
        None => (text, None),
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().unwrap())),
        _ => (rest, None),
    };
    Target {
        host: host.into(),
        port,
        transport,
    }
}

fn texts(resolution: &Resolution) -> Vec<String> {
    let Resolution::Ready { candidates, .. } = resolution else {
        panic!("{resolution:?}");
    };
    let text = |candidate: &Candidate| {
        format!("{} {}", candidate.transport.uri_token(), candidate.address)
    };
    candidates.iter().map(text).collect()
}

fn until(resolution: &Resolution) -> Instant {
    match resolution {
        Resolution::Ready { until, .. } => until.unwrap(),
        other => panic!("{other:?}"),
    }
}

/// `name KIND` of a query.
fn question(query: &[u8]) -> String {
    let packet = simple_dns::Packet::parse(query).unwrap();
    let question = &packet.questions[0];
    let name = question.qname.to_string().to_lowercase();
    let simple_dns::QTYPE::TYPE(kind) = question.qtype else {
        panic!("{question:?}")
    };
    format!("{name} {kind:?}")
}

/// One record of a line: `name ttl TYPE data`.
fn record(line: &'static str) -> simple_dns::ResourceRecord<'static> {
    use simple_dns::rdata::{A, AAAA, CNAME, NAPTR, RData, SOA, SRV};
    use simple_dns::{CLASS, CharacterString, Name, ResourceRecord};
    let words: Vec<&'static str> = line.split_ascii_whitespace().collect();
    let number = |at: usize| words[at].parse::<u16>().unwrap();
    let name = |at: usize| Name::new(words[at]).unwrap();
    let data = match words[2] {
        "A" => RData::A(A {
            address: words[3].parse::<std::net::Ipv4Addr>().unwrap().to_bits(),
        }),
        "AAAA" => RData::AAAA(AAAA {
            address: words[3].parse::<std::net::Ipv6Addr>().unwrap().to_bits(),
        }),
        "CNAME" => RData::CNAME(CNAME(name(3))),
        "SRV" => RData::SRV(SRV {
            priority: number(3),
            weight: number(4),
            port: number(5),
            target: name(6),
        }),
        "NAPTR" => RData::NAPTR(NAPTR {
            order: number(3),
            preference: number(4),
            flags: CharacterString::new(words[5].as_bytes()).unwrap(),
            services: CharacterString::new(words[6].as_bytes()).unwrap(),
            regexp: CharacterString::new(b"").unwrap(),
            replacement: name(7),
        }),
        "SOA" => RData::SOA(SOA {
            mname: Name::new("ns").unwrap(),
            rname: Name::new("us").unwrap(),
            serial: 1,
            refresh: 1,
            retry: 1,
            expire: 1,
            minimum: words[3].parse().unwrap(),
        }),
        kind => panic!("{kind}"),
    };
    ResourceRecord::new(name(0), CLASS::IN, words[1].parse().unwrap(), data)
}

/// The answer of a server that knows the lines of a zone: `name ttl TYPE data`. It follows aliases. A name that it does not
/// know does not exist; its SOA, if it has one, says for how long.
fn answer(zone: &str, query: &[u8]) -> Vec<u8> {
    // Leaked for the test's time: the library borrows texts.
    let zone: &'static str = Box::leak(zone.to_owned().into_boxed_str());
    let asked = simple_dns::Packet::parse(query).unwrap();
    let mut packet = simple_dns::Packet::new_reply(asked.id());
    packet.questions = asked.questions.clone();
    let text = question(query);
    let (mut name, kind) = text.split_once(' ').unwrap();
    let words = |line: &'static str| line.split_ascii_whitespace().collect::<Vec<_>>();
    let lines = || zone.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut exists = false;
    for _ in 0..20 {
        let own: Vec<_> = lines().filter(|line| words(line)[0] == name).collect();
        exists |= !own.is_empty();
        let wanted: Vec<_> = (own.iter()).filter(|line| words(line)[2] == kind).collect();
        packet
            .answers
            .extend(wanted.iter().map(|line| record(line)));
        let alias = own.iter().find(|line| words(line)[2] == "CNAME");
        let Some(alias) = alias.filter(|_| wanted.is_empty()) else {
            break;
        };
        packet.answers.push(record(alias));
        name = words(alias)[3];
    }
    if !exists {
        *packet.rcode_mut() = simple_dns::RCODE::NameError;
    }
    if packet.answers.is_empty() {
        let soa = lines().find(|line| words(line)[2] == "SOA");
        packet.name_servers.extend(soa.map(record));
    }
    packet.build_bytes_vec_compressed().unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
