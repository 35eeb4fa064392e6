//! A name server made of text: its records as lines, its answers as bytes. The simulator has one, and the tests that start
//! the built server put one behind sockets.
//!
//! ```text
//! sip.example.org 60 A 192.0.2.9            # a name, how long it holds (3600 s if not said), what it is
//! sip.example.org AAAA 2001:db8::9
//! www.example.org CNAME sip.example.org
//! _sip._udp.example.org SRV 10 60 5060 sip.example.org
//! example.org NAPTR 10 50 s SIP+D2U _sip._udp.example.org
//! example.org SOA 30                        # how long there is nothing
//! ```

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of an answer by UDP (RFC 1035 §4.2.1); a longer one is cut off.
const DATAGRAM_MAX: usize = 512;
/// Where the question begins.
const HEADER: usize = 12;

const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const NAPTR: u16 = 35;

#[derive(Clone, Debug)]
struct Record {
    /// In lower case.
    owner: String,
    ttl: u32,
    kind: u16,
    data: Vec<u8>,
    /// Of an alias.
    target: String,
}

/// The records of a name server.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    records: Vec<Record>,
}

impl Zone {
    /// Reads lines of records.
    ///
    /// # Errors
    /// The line that is none.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut zone = Self::default();
        for line in text.lines() {
            zone.add(line)?;
        }
        Ok(zone)
    }

    /// One record more; an empty line is none.
    ///
    /// # Errors
    /// Why it is no record.
    pub fn add(&mut self, line: &str) -> Result<(), String> {
        let words = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = words.split_ascii_whitespace().collect();
        if !words.is_empty() {
            let record = record(&words).ok_or(format!("{line}: not a record of a zone"))?;
            self.records.push(record);
        }
        Ok(())
    }

    /// All records of this name go.
    pub fn remove(&mut self, name: &str) {
        let name = name.to_ascii_lowercase();
        self.records.retain(|record| record.owner != name);
    }

    /// The answer to a query, of any length; `None`: it is no query. Aliases are followed; a name without a record does not
    /// exist, for as long as the SOA of one of its parents says.
    pub fn answer(&self, query: &[u8]) -> Option<Vec<u8>> {
        let question = Question::read(query)?;
        let mut name = question.name.clone();
        let mut answers = Vec::new();
        let mut exists = false;
        for _ in 0..20 {
            let own = || self.records.iter().filter(|record| record.owner == name);
            exists |= own().next().is_some();
            let before = answers.len();
            answers.extend(own().filter(|record| record.kind == question.kind));
            let alias = own().find(|record| record.kind == CNAME);
            let Some(alias) = alias.filter(|_| answers.len() == before) else {
                break;
            };
            answers.push(alias);
            name = alias.target.clone();
        }
        let authority = (self.records.iter())
            .filter(|_| answers.is_empty())
            .find(|record| record.kind == SOA && is_within(&name, &record.owner));
        let mut bytes = header(query, if exists { 0 } else { 3 });
        bytes[7] = answers.len() as u8;
        bytes[9] = authority.iter().len() as u8;
        bytes.extend(question.bytes);
        for record in answers.into_iter().chain(authority) {
            record.write(&mut bytes);
        }
        Some(bytes)
    }

    /// The same by UDP: what is too long is cut off.
    pub fn answer_datagram(&self, query: &[u8]) -> Option<Vec<u8>> {
        let answer = self.answer(query)?;
        match answer.len() {
            ..=DATAGRAM_MAX => Some(answer),
            _ => cut_off(query),
        }
    }
}

/// An answer that says only that it would be too long for a datagram; `None`: that is no query.
pub fn cut_off(query: &[u8]) -> Option<Vec<u8>> {
    let question = Question::read(query)?;
    let mut bytes = header(query, 0);
    bytes[2] |= 0x02;
    bytes.extend(question.bytes);
    Some(bytes)
}

/// What is asked, as `name TYPE`.
pub fn question(query: &[u8]) -> Option<String> {
    let question = Question::read(query)?;
    let kind = match question.kind {
        A => "A".to_owned(),
        AAAA => "AAAA".to_owned(),
        SRV => "SRV".to_owned(),
        NAPTR => "NAPTR".to_owned(),
        other => other.to_string(),
    };
    Some(format!("{} {kind}", question.name))
}

/// How a name server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manner {
    /// As it should.
    Answers,
    /// It says nothing.
    Silent,
    /// There is nobody.
    Absent,
    /// It always has an excuse (SERVFAIL).
    Excuses,
    /// It is as it should be, but somebody is quicker: with another id, about another name, from another address.
    Forged,
}

impl Manner {
    /// In the words of a scenario.
    pub fn of(text: &str) -> Option<Self> {
        Some(match text {
            "answers" => Self::Answers,
            "is silent" => Self::Silent,
            "is absent" => Self::Absent,
            "fails" => Self::Excuses,
            "is forged" => Self::Forged,
            _ => return None,
        })
    }
}

/// A name server of the simulator.
#[derive(Clone, Debug)]
pub struct NameServer {
    /// What it knows.
    pub zone: Zone,
    /// How it behaves.
    pub manner: Manner,
    /// What it was asked, as `name TYPE`.
    pub asked: Vec<String>,
}

/// Where the simulator's name server is.
pub const NAME_SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), 53);
/// Where whoever forges answers would like everybody to go.
pub const FORGED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 66);

impl NameServer {
    /// One that knows nothing.
    pub fn new() -> Self {
        Self {
            zone: Zone::default(),
            manner: Manner::Answers,
            asked: Vec::new(),
        }
    }

    /// What comes back to a query, in this order, and from where. `is_datagram`: by UDP.
    pub fn replies(&mut self, query: &[u8], is_datagram: bool) -> Vec<(SocketAddr, Vec<u8>)> {
        self.asked.extend(question(query));
        let answer = match is_datagram {
            true => self.zone.answer_datagram(query),
            false => self.zone.answer(query),
        };
        let Some(mut answer) = answer else {
            return Vec::new();
        };
        let mut replies = Vec::new();
        match self.manner {
            Manner::Silent | Manner::Absent => return replies,
            Manner::Excuses => {
                answer = header(query, 2);
                answer.extend(Question::read(query).into_iter().flat_map(|own| own.bytes));
            }
            Manner::Forged if is_datagram => replies = forgeries(query),
            Manner::Answers | Manner::Forged => {}
        }
        replies.push((NAME_SERVER, answer));
        replies
    }
}

impl Default for NameServer {
    fn default() -> Self {
        Self::new()
    }
}

/// Answers that lead to [`FORGED`], each with something wrong.
fn forgeries(query: &[u8]) -> Vec<(SocketAddr, Vec<u8>)> {
    let Some(question) = Question::read(query) else {
        return Vec::new();
    };
    let mut lie = header(query, 0);
    lie[7] = 1;
    lie.extend(&question.bytes);
    let record = Record {
        owner: question.name.clone(),
        ttl: 86_400,
        kind: A,
        data: FORGED.octets().into(),
        target: String::new(),
    };
    record.write(&mut lie);
    let (mut id, mut name) = (lie.clone(), lie.clone());
    id[1] ^= 1;
    // The first letter of the name.
    name[HEADER + 1] ^= 1;
    let elsewhere = SocketAddr::new(NAME_SERVER.ip(), 5353);
    vec![(NAME_SERVER, id), (NAME_SERVER, name), (elsewhere, lie)]
}

/// Of an answer: the query's id, flags, one question and nothing else.
fn header(query: &[u8], code: u8) -> Vec<u8> {
    let recursion_desired = query[2] & 1;
    vec![
        query[0],
        query[1],
        0x80 | recursion_desired,
        0x80 | code,
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        0,
    ]
}

struct Question {
    /// In lower case.
    name: String,
    kind: u16,
    /// As it stands in the query.
    bytes: Vec<u8>,
}

impl Question {
    fn read(query: &[u8]) -> Option<Self> {
        let is_query = *query.get(2)? & 0x80 == 0;
        let mut at = HEADER;
        let mut labels = Vec::new();
        loop {
            let length = usize::from(*query.get(at)?);
            let label = query.get(at + 1..at + 1 + length)?;
            at += 1 + length;
            if length == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        }
        let kind = query.get(at..at + 2)?;
        let bytes = query.get(HEADER..at + 4)?.to_vec();
        is_query.then(|| Self {
            name: labels.join("."),
            kind: u16::from_be_bytes([kind[0], kind[1]]),
            bytes,
        })
    }
}

impl Record {
    fn write(&self, bytes: &mut Vec<u8>) {
        write_name(bytes, &self.owner);
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(self.ttl.to_be_bytes());
        bytes.extend((self.data.len() as u16).to_be_bytes());
        bytes.extend(&self.data);
    }
}

fn write_name(bytes: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
}

fn is_within(name: &str, parent: &str) -> bool {
    let rest = name.strip_suffix(parent);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn record(words: &[&str]) -> Option<Record> {
    let (owner, rest) = words.split_first()?;
    let (ttl, rest) = match rest.first()?.parse() {
        Ok(ttl) => (ttl, rest.get(1..)?),
        Err(_) => (3_600, rest),
    };
    let (kind, words) = rest.split_first()?;
    let number = |at: usize| Some(words.get(at)?.parse::<u16>().ok()?.to_be_bytes());
    let mut record = Record {
        owner: owner.to_ascii_lowercase(),
        ttl,
        kind: 0,
        data: Vec::new(),
        target: String::new(),
    };
    let data = &mut record.data;
    record.kind = match *kind {
        "A" => {
            data.extend(words.first()?.parse::<Ipv4Addr>().ok()?.octets());
            A
        }
        "AAAA" => {
            data.extend(words.first()?.parse::<Ipv6Addr>().ok()?.octets());
            AAAA
        }
        "CNAME" => {
            record.target = words.first()?.to_ascii_lowercase();
            write_name(data, words.first()?);
            CNAME
        }
        "SRV" => {
            for at in 0..3 {
                data.extend(number(at)?);
            }
            write_name(data, words.get(3)?);
            SRV
        }
        "NAPTR" => {
            data.extend([number(0)?, number(1)?].as_flattened());
            for text in [*words.get(2)?, words.get(3)?, ""] {
                data.push(text.len() as u8);
                data.extend(text.as_bytes());
            }
            write_name(data, words.get(4)?);
            NAPTR
        }
        "SOA" => {
            let minimum: u32 = words.first()?.parse().ok()?;
            write_name(data, "ns");
            write_name(data, "us");
            for value in [1, 1, 1, 1, minimum] {
                data.extend(value.to_be_bytes());
            }
            SOA
        }
        _ => return None,
    };
    Some(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::rdata::RData;
    use simple_dns::{CLASS, Name, Packet, QTYPE, RCODE, TYPE};

    const ZONE: &str = "www.example.org 60 CNAME sip.example.org\nsip.example.org A 192.0.2.9 # one\n\
        _sip._udp.example.org SRV 10 60 5070 sip.example.org\nexample.org SOA 30\n\
        example.org NAPTR 10 50 s SIP+D2U _sip._udp.example.org\nsip.example.org AAAA 2001:db8::9\n";

    fn query(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(0x1234);
        let name = Name::new_unchecked(name);
        let question = simple_dns::Question::new(name, QTYPE::TYPE(kind), CLASS::IN.into(), false);
        packet.questions.push(question);
        packet.build_bytes_vec().unwrap()
    }

    /// Another library reads what is written here.
    #[test]
    fn answers_are_those_of_a_name_server() {
        let zone = Zone::read(ZONE).unwrap();
        let answer = |name, kind| zone.answer(&query(name, kind)).unwrap();
        let bytes = answer("WWW.example.org", TYPE::A);
        let packet = Packet::parse(&bytes).unwrap();
        let data: Vec<_> = packet
            .answers
            .iter()
            .map(|own| (own.ttl, &own.rdata))
            .collect();
        assert!(
            matches!(data[..], [(60, RData::CNAME(_)), (3_600, RData::A(a))] if a.address == 0xc000_0209)
        );
        assert_eq!(packet.questions[0].qname.to_string(), "WWW.example.org");
        let bytes = answer("_sip._udp.example.org", TYPE::SRV);
        let packet = Packet::parse(&bytes).unwrap();
        let RData::SRV(srv) = &packet.answers[0].rdata else {
            panic!("{packet:?}");
        };
        let numbers = (srv.priority, srv.weight, srv.port);
        assert_eq!(numbers, (10, 60, 5_070));
        assert_eq!(srv.target.to_string(), "sip.example.org");
        let bytes = answer("example.org", TYPE::NAPTR);
        let packet = Packet::parse(&bytes).unwrap();
        let RData::NAPTR(naptr) = &packet.answers[0].rdata else {
            panic!("{packet:?}");
        };
        assert_eq!(naptr.services.to_string(), "SIP+D2U");
        assert_eq!(naptr.replacement.to_string(), "_sip._udp.example.org");
    }

    #[test]
    fn what_there_is_not_is_said_to_be_not_there() {
        let zone = Zone::read(ZONE).unwrap();
        for (name, code) in [
            ("sip.example.org", RCODE::NoError),
            ("none.example.org", RCODE::NameError),
        ] {
            let bytes = zone.answer(&query(name, TYPE::SRV)).unwrap();
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!((packet.rcode(), packet.answers.len()), (code, 0));
            let RData::SOA(soa) = &packet.name_servers[0].rdata else {
                panic!("{packet:?}");
            };
            assert_eq!(soa.minimum, 30);
        }
        let bytes = zone.answer(&query("example.com", TYPE::A)).unwrap();
        assert!(Packet::parse(&bytes).unwrap().name_servers.is_empty());
    }

    #[test]
    fn what_is_too_long_for_a_datagram_is_cut_off() {
        let records = |count: u8| {
            let line = |n| format!("sip.example.org A 192.0.2.{n}\n");
            Zone::read(&(0..count).map(line).collect::<String>()).unwrap()
        };
        let query = query("sip.example.org", TYPE::A);
        let whole = records(15).answer_datagram(&query).unwrap();
        assert_eq!(Packet::parse(&whole).unwrap().answers.len(), 15);
        let cut = records(16).answer_datagram(&query).unwrap();
        let packet = Packet::parse(&cut).unwrap();
        assert!(packet.has_flags(simple_dns::PacketFlag::TRUNCATION));
        assert!(packet.answers.is_empty() && packet.questions.len() == 1);
        assert_eq!(records(16).answer(&query).unwrap().len(), 529);
    }

    #[test]
    fn mistakes_are_told() {
        for line in [
            "a",
            "a A",
            "a A b",
            "a 60 SRV 1 2 3",
            "a MX b",
            "a SRV 1 2 x b",
        ] {
            assert!(Zone::read(line).is_err(), "{line}");
        }
        assert_eq!(Zone::default().answer(b"short"), None);
    }
}
