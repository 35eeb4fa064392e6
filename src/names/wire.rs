//! Queries and answers as bytes (RFC 1035 §4). Only what RFC 3263 needs is read: addresses, aliases, SRV (RFC 2782), NAPTR
//! (RFC 3403), and from an SOA how long there is nothing (RFC 2308). All else is skipped by its length.
//!
//! Queries have no EDNS: an answer by UDP then has 512 bytes, which no network cuts into fragments that a stranger could
//! exchange; a longer one is asked for by TCP.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::name::{Builder, Name};
use crate::limits::NAME_RECORDS_READ_MAX;

/// What is asked for (RFC 1035 §3.2.2 and the RFCs of each).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// IPv4 addresses.
    A = 1,
    /// IPv6 addresses (RFC 3596).
    Aaaa = 28,
    /// Hosts and ports of a service (RFC 2782).
    Srv = 33,
    /// Services of a domain (RFC 3403).
    Naptr = 35,
}

const CNAME: u16 = 5;
const SOA: u16 = 6;
const CLASS_IN: u16 = 1;

/// Header flags (RFC 1035 §4.1.1).
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;
const RESPONSE_CODE: u16 = 0x000f;

/// There is an answer, or nothing of this kind.
pub(super) const NO_ERROR: u16 = 0;
/// There is no such name.
pub(super) const NAME_ERROR: u16 = 3;

/// A host that offers a service (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Srv {
    /// The lowest is tried first.
    pub(crate) priority: u16,
    /// Its share among those of the same priority.
    pub(crate) weight: u16,
    /// Of the host.
    pub(crate) port: u16,
    /// The host; the root: the service is decidedly not there.
    pub(crate) host: Name,
}

/// A service that a domain has (RFC 3403 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Naptr {
    /// The lowest that has something for us is the only one that counts.
    pub(crate) order: u16,
    /// Among those, the lowest is tried first.
    pub(crate) preference: u16,
    /// `s`: the replacement has SRV records.
    pub(crate) flags: Box<[u8]>,
    /// `SIP+D2U` and the like.
    pub(crate) service: Box<[u8]>,
    /// Whether it rewrites by an expression, which SIP has no use for.
    pub(crate) has_regexp: bool,
    /// Where to go on.
    pub(crate) replacement: Name,
}

/// What one record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    /// Of an A record.
    A(Ipv4Addr),
    /// Of an AAAA record.
    Aaaa(Ipv6Addr),
    /// The name is called so in truth.
    Cname(Name),
    /// Of an SRV record.
    Srv(Srv),
    /// Of a NAPTR record.
    Naptr(Naptr),
}

impl Data {
    /// Which question it answers; `None` for an alias, which answers any.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::A(_) => Some(Kind::A),
            Self::Aaaa(_) => Some(Kind::Aaaa),
            Self::Srv(_) => Some(Kind::Srv),
            Self::Naptr(_) => Some(Kind::Naptr),
            Self::Cname(_) => None,
        }
    }

    /// Bytes that it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let beside = match self {
            Self::A(_) | Self::Aaaa(_) => 0,
            Self::Cname(name) => name.wire().len(),
            Self::Srv(srv) => srv.host.wire().len(),
            Self::Naptr(naptr) => [&*naptr.flags, &*naptr.service, naptr.replacement.wire()]
                .iter()
                .fold(0, |sum: usize, part| sum.saturating_add(part.len())),
        };
        beside.saturating_add(size_of::<Self>())
    }
}

/// A record of the answer section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) owner: Name,
    /// Seconds.
    pub(super) ttl: u32,
    pub(super) data: Data,
}

/// The SOA of the authority section: how long nothing is nothing (RFC 2308 §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) owner: Name,
    /// Seconds: the lower of the record's time to live and its minimum.
    pub(super) ttl: u32,
}

/// A query for the name `labels` in wire format, whose case is kept.
pub(super) fn compose(id: u16, labels: &[u8], kind: Kind) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(labels.len().saturating_add(16));
    for half in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        bytes.extend(half.to_be_bytes());
    }
    bytes.extend_from_slice(labels);
    bytes.extend((kind as u16).to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    bytes
}

/// How an answer's head relates to what was asked (RFC 5452 §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    /// Same id, same question to the letter.
    Same,
    /// The question differs in the case of its letters: from a server that does not keep it, or from a guesser.
    OtherCase,
    /// Not an answer to this query.
    Foreign,
}

/// An answer whose header was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'a> {
    bytes: &'a [u8],
    /// Cut off: to be asked again by TCP.
    pub(super) is_truncated: bool,
    /// [`NO_ERROR`], [`NAME_ERROR`] or a server's excuse.
    pub(super) response_code: u16,
    answers: u16,
    authorities: u16,
    /// Where the answer section begins.
    at: usize,
}

/// Holds an answer against the query that it claims to be for.
pub(super) fn head<'a>(bytes: &'a [u8], query: &[u8]) -> (Likeness, Option<Head<'a>>) {
    head_of(bytes, query).map_or((Likeness::Foreign, None), |(likeness, head)| {
        (likeness, Some(head))
    })
}

fn head_of<'a>(bytes: &'a [u8], query: &[u8]) -> Option<(Likeness, Head<'a>)> {
    let mut reader = Reader { bytes, at: 0 };
    let id = reader.bytes(2)?;
    let flags = reader.half()?;
    let [questions, answers, authorities] = [reader.half()?, reader.half()?, reader.half()?];
    reader.half()?;
    // Nothing precedes a question, so it is not compressed: all bytes behind the header are as they were sent.
    let asked = query.get(12..)?;
    let question = reader.bytes(asked.len())?;
    if query.get(..2) != Some(id) || flags & (RESPONSE | OPCODE) != RESPONSE || questions != 1 {
        return None;
    }
    let likeness = if question == asked {
        Likeness::Same
    } else if question.eq_ignore_ascii_case(asked) {
        Likeness::OtherCase
    } else {
        return None;
    };
    let head = Head {
        bytes,
        is_truncated: flags & TRUNCATED != 0,
        response_code: flags & RESPONSE_CODE,
        answers,
        authorities,
        at: reader.at,
    };
    Some((likeness, head))
}

impl Head<'_> {
    /// The records of the answer section that RFC 3263 has a use for, and who answers for there being none. `None`: it is
    /// malformed, or longer than anything that is asked for. Additional records are not looked at: what was not asked for
    /// may be anybody's.
    pub(super) fn records(&self) -> Option<(Vec<Record>, Option<Authority>)> {
        let mut reader = Reader {
            bytes: self.bytes,
            at: self.at,
        };
        let total = usize::from(self.answers).saturating_add(usize::from(self.authorities));
        if total > NAME_RECORDS_READ_MAX {
            return None;
        }
        let mut records = Vec::new();
        for _ in 0..self.answers {
            let fields = reader.record()?;
            if let Some(data) = fields.data()? {
                let Fields { owner, ttl, .. } = fields;
                records.push(Record { owner, ttl, data });
            }
        }
        let mut authority = None;
        for _ in 0..self.authorities {
            let fields = reader.record()?;
            if authority.is_none() && (fields.kind, fields.class) == (SOA, CLASS_IN) {
                authority = Some(fields.authority()?);
            }
        }
        Some((records, authority))
    }
}

/// A record whose data was not read.
struct Fields<'a> {
    owner: Name,
    kind: u16,
    class: u16,
    ttl: u32,
    /// The whole message, at the record's data ...
    data: Reader<'a>,
    /// ... and where that ends.
    end: usize,
}

impl Fields<'_> {
    /// `Some(None)`: of a kind that is of no use. `None`: malformed.
    fn data(&self) -> Option<Option<Data>> {
        let mut reader = self.data;
        if self.class != CLASS_IN {
            return Some(None);
        }
        let data = match self.kind {
            1 => Data::A(Ipv4Addr::from(<[u8; 4]>::try_from(reader.bytes(4)?).ok()?)),
            28 => Data::Aaaa(Ipv6Addr::from(
                <[u8; 16]>::try_from(reader.bytes(16)?).ok()?,
            )),
            CNAME => Data::Cname(reader.name()?),
            33 => Data::Srv(Srv {
                priority: reader.half()?,
                weight: reader.half()?,
                port: reader.half()?,
                host: reader.name()?,
            }),
            35 => Data::Naptr(Naptr {
                order: reader.half()?,
                preference: reader.half()?,
                flags: reader.text()?.into(),
                service: reader.text()?.into(),
                has_regexp: !reader.text()?.is_empty(),
                replacement: reader.name()?,
            }),
            _ => return Some(None),
        };
        (reader.at == self.end).then_some(Some(data))
    }

    /// Of an SOA record.
    fn authority(self) -> Option<Authority> {
        let mut reader = self.data;
        reader.name()?;
        reader.name()?;
        reader.bytes(16)?;
        let minimum = reader.ttl()?;
        (reader.at == self.end).then_some(Authority {
            owner: self.owner,
            ttl: self.ttl.min(minimum),
        })
    }
}

/// A message being read; every step is within it or `None`.
#[derive(Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let bytes = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    fn half(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes(2)?.try_into().ok()?))
    }

    /// Seconds; with the highest bit none (RFC 2181 §8).
    fn ttl(&mut self) -> Option<u32> {
        let seconds = u32::from_be_bytes(self.bytes(4)?.try_into().ok()?);
        Some(if seconds >> 31 == 0 { seconds } else { 0 })
    }

    /// A character-string (RFC 1035 §3.3).
    fn text(&mut self) -> Option<&'a [u8]> {
        let length = *self.bytes(1)?.first()?;
        self.bytes(usize::from(length))
    }

    /// A name, compressed or not (RFC 1035 §4.1.4). A pointer leads to before the bytes that it ends, so there is no loop.
    fn name(&mut self) -> Option<Name> {
        let mut builder = Builder::default();
        let mut behind = None;
        let mut start = self.at;
        loop {
            let length = *self.bytes(1)?.first()?;
            match length {
                0 => break,
                1..=63 => builder.push(self.bytes(usize::from(length))?)?,
                0xc0.. => {
                    let low = *self.bytes(1)?.first()?;
                    let to = usize::from(u16::from_be_bytes([length & 0x3f, low]));
                    if to >= start {
                        return None;
                    }
                    behind.get_or_insert(self.at);
                    (self.at, start) = (to, to);
                }
                _ => return None,
            }
        }
        if let Some(behind) = behind {
            self.at = behind;
        }
        builder.finish()
    }

    fn record(&mut self) -> Option<Fields<'a>> {
        let owner = self.name()?;
        let (kind, class, ttl) = (self.half()?, self.half()?, self.ttl()?);
        let length = usize::from(self.half()?);
        let data = *self;
        self.bytes(length)?;
        Some(Fields {
            owner,
            kind,
            class,
            ttl,
            data,
            end: self.at,
        })
    }
}
