//! One binding of an address-of-record to a contact (RFC 3261 §10.3), packed: an ordinary phone's takes less than 400 bytes
//! with everything that points to it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use crate::source::{ConnectionId, Flow, Transport, UserId};
use crate::store::{BindingKey, BindingRow, Text};
use crate::time::{Instant, UnixTime};

/// What a registration says about one contact.
#[derive(Clone, Copy, Debug)]
pub struct NewBinding<'a> {
    /// The Contact URI.
    pub contact: &'a [u8],
    /// Contact header parameters other than `q` and `expires`, each with its semicolon.
    pub params: &'a [u8],
    /// Value of `+sip.instance` without quotes, part of `params`; empty if none.
    pub instance: &'a [u8],
    /// RFC 5626 `reg-id`; 0 if none.
    pub reg_id: u32,
    /// Path values, joined by `, ` (RFC 3327); empty if none.
    pub path: &'a [u8],
    /// Call-ID of the REGISTER.
    pub call_id: &'a [u8],
    /// CSeq number of the REGISTER.
    pub cseq: u32,
    /// Preference in thousandths.
    pub q: u16,
    /// User-Agent of the REGISTER; what is too long for a log line is cut.
    pub user_agent: &'a [u8],
    /// The way it came, and the way to reach the phone.
    pub flow: Flow,
    /// How long it lasts.
    pub lifetime: Duration,
}

/// A binding as the location service keeps it.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Contact, params, path, Call-ID and User-Agent, one behind the other.
    bytes: Box<[u8]>,
    /// Where each but the last ends.
    ends: [u16; 4],
    /// Where the instance lies within `bytes`.
    instance: (u16, u16),
    /// Preference in thousandths: higher first.
    pub q: u16,
    /// CSeq number of the last REGISTER.
    pub cseq: u32,
    /// RFC 5626 `reg-id`; 0 if none.
    pub reg_id: u32,
    /// Whose it is.
    pub user: UserId,
    /// When it was first made.
    pub since: UnixTime,
    /// When it ends, for people and for the state file.
    pub expires: UnixTime,
    /// When it ends.
    pub deadline: Instant,
    /// Grows with every refresh of any binding: the highest was refreshed last.
    pub refreshed: u64,
    /// Number of this binding, never used again; a refresh keeps it.
    pub serial: u64,
    flow: PackedFlow,
    /// The phone is behind a NAT, as its REGISTER or a session description of its has shown.
    pub(super) is_behind_nat: bool,
    /// Neighbours in the list of bindings with the same flow.
    pub(super) next: u32,
    pub(super) previous: u32,
    /// Neighbours in the list of all bindings.
    pub(super) newer: u32,
    pub(super) older: u32,
}

/// Bytes of the User-Agent that are kept.
const USER_AGENT_BYTES_MAX: usize = 128;

impl Binding {
    /// Bytes that a binding may have in all its texts, so that a response listing ten of them fits a datagram.
    pub const BYTES_MAX: usize = crate::limits::BINDING_BYTES_MAX;

    /// Whether [`super::Location::put`] takes it.
    pub fn fits(new: &NewBinding<'_>) -> bool {
        let length = text_parts(new).iter().map(|part| part.len()).sum::<usize>();
        length <= Self::BYTES_MAX
            && (new.instance.is_empty() || memchr::memmem::find(new.params, new.instance).is_some())
    }

    /// `None` if its texts are longer than [`Self::BYTES_MAX`] bytes together.
    pub(super) fn new(new: &NewBinding<'_>, user: UserId) -> Option<Self> {
        if !Self::fits(new) {
            return None;
        }
        let parts = text_parts(new);
        let mut ends = [0; 4];
        let mut end = 0;
        for (place, part) in ends.iter_mut().zip(&parts) {
            end += part.len();
            *place = end as u16;
        }
        let bytes = parts.concat().into_boxed_slice();
        // The instance is one of the parameters: kept once, found again by its bytes.
        let instance = if new.instance.is_empty() {
            (0, 0)
        } else {
            let at = memchr::memmem::find(new.params, new.instance)?;
            let start = new.contact.len() + at;
            (start as u16, (start + new.instance.len()) as u16)
        };
        Some(Self {
            bytes,
            ends,
            instance,
            q: new.q,
            cseq: new.cseq,
            reg_id: new.reg_id,
            user,
            since: UnixTime::default(),
            expires: UnixTime::default(),
            deadline: Instant::default(),
            refreshed: 0,
            serial: 0,
            flow: PackedFlow::new(&new.flow),
            is_behind_nat: false,
            next: u32::MAX,
            previous: u32::MAX,
            newer: u32::MAX,
            older: u32::MAX,
        })
    }

    /// Takes in a refresh that changes nothing but its time; `false`: it changes more, and nothing was done.
    pub(super) fn refresh(&mut self, new: &NewBinding<'_>) -> bool {
        let flow = PackedFlow::new(&new.flow);
        let own = [
            self.contact(),
            self.params(),
            self.path(),
            self.call_id(),
            self.user_agent(),
        ];
        let is_same = (self.reg_id, self.q) == (new.reg_id, new.q)
            && self.flow.is_same_peer(&flow)
            && own == text_parts(new)
            && self.instance() == new.instance;
        if is_same {
            (self.flow, self.cseq) = (flow, new.cseq);
        }
        is_same
    }

    /// The Contact URI as registered.
    pub fn contact(&self) -> &[u8] {
        self.part(0, self.ends[0])
    }

    /// What a request to it has as Request-URI (RFC 3261 §19.1.5): the Contact URI without its headers, which RFC 4475
    /// §3.3.14 wants kept in the binding.
    pub fn request_uri(&self) -> &[u8] {
        let contact = self.contact();
        let end = memchr::memchr(b'?', contact).unwrap_or(contact.len());
        contact.get(..end).unwrap_or(contact)
    }

    /// Contact header parameters as registered, each with its semicolon, without `q` and `expires`.
    pub fn params(&self) -> &[u8] {
        self.part(self.ends[0], self.ends[1])
    }

    /// Path values, joined by `, `: the Route of requests to this contact (RFC 3327 §5.3). Empty if none.
    pub fn path(&self) -> &[u8] {
        self.part(self.ends[1], self.ends[2])
    }

    /// Call-ID of its REGISTERs.
    pub fn call_id(&self) -> &[u8] {
        self.part(self.ends[2], self.ends[3])
    }

    /// User-Agent of the last REGISTER, at most 128 bytes.
    pub fn user_agent(&self) -> &[u8] {
        self.part(self.ends[3], self.bytes.len() as u16)
    }

    /// Value of `+sip.instance` without quotes; empty if none.
    pub fn instance(&self) -> &[u8] {
        self.part(self.instance.0, self.instance.1)
    }

    /// The way to the phone.
    pub fn flow(&self) -> Flow {
        self.flow.unpack()
    }

    /// Whether this is its way, as [`Flow::is_same_peer`] has it.
    pub fn is_on(&self, flow: &Flow) -> bool {
        self.flow.is_same_peer(&PackedFlow::new(flow))
    }

    /// Whether its phone speaks from this address.
    pub fn is_at(&self, address: IpAddr) -> bool {
        self.flow.remote.address == PackedAddress::bytes(address)
    }

    /// Whether both have the same way.
    pub(super) fn is_beside(&self, other: &Self) -> bool {
        self.flow.is_same_peer(&other.flow)
    }

    /// Whether the phone is behind a NAT.
    pub fn is_behind_nat(&self) -> bool {
        self.is_behind_nat
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn part(&self, start: u16, end: u16) -> &[u8] {
        self.bytes
            .get(usize::from(start)..usize::from(end))
            .unwrap_or_default()
    }

    /// Its texts as rows and keys have them, all in one piece.
    fn texts(&self) -> impl Fn(u16, u16) -> Text + use<> {
        let whole: Arc<[u8]> = Arc::from(&*self.bytes);
        move |start, end| Text::part(&whole, usize::from(start), usize::from(end))
    }

    /// What the state file knows it by.
    pub(super) fn key(&self, user: &Arc<str>) -> BindingKey {
        let text = self.texts();
        BindingKey {
            user: Arc::clone(user),
            contact: text(0, self.ends[0]),
            instance: text(self.instance.0, self.instance.1),
            reg_id: self.reg_id,
        }
    }

    /// Whether another binding of the same user has the same key.
    pub(super) fn is_kept_as(&self, other: &Self) -> bool {
        (self.contact(), self.instance(), self.reg_id)
            == (other.contact(), other.instance(), other.reg_id)
    }

    /// As the state file keeps it.
    pub(super) fn row(&self, user: &Arc<str>) -> Box<BindingRow> {
        let (flow, text) = (self.flow(), self.texts());
        Box::new(BindingRow {
            user: Arc::clone(user),
            contact: text(0, self.ends[0]),
            path: text(self.ends[1], self.ends[2]),
            call_id: text(self.ends[2], self.ends[3]),
            cseq: self.cseq,
            q: self.q,
            instance: text(self.instance.0, self.instance.1),
            reg_id: self.reg_id,
            user_agent: text(self.ends[3], self.bytes.len() as u16),
            transport: flow.transport,
            local: flow.local,
            remote: flow.remote,
            since: self.since,
            expires: self.expires,
            is_behind_nat: self.is_behind_nat,
        })
    }
}

fn text_parts<'a>(new: &NewBinding<'a>) -> [&'a [u8]; 5] {
    let user_agent = new
        .user_agent
        .get(..USER_AGENT_BYTES_MAX)
        .unwrap_or(new.user_agent);
    [new.contact, new.params, new.path, new.call_id, user_agent]
}

/// A [`Flow`] in 56 bytes instead of 88.
#[derive(Clone, Copy, Debug)]
struct PackedFlow {
    local: PackedAddress,
    remote: PackedAddress,
    transport: Transport,
    /// `u64::MAX`: none.
    connection: u64,
}

/// IPv4 as IPv4-mapped, which a canonical address never is otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PackedAddress {
    /// Scope of a link-local address; the flow label is of no use to us.
    scope: u32,
    port: u16,
    address: [u8; 16],
}

impl PackedFlow {
    fn new(flow: &Flow) -> Self {
        Self {
            local: PackedAddress::new(flow.local),
            remote: PackedAddress::new(flow.remote),
            transport: flow.transport,
            connection: flow.connection.map_or(u64::MAX, |connection| connection.0),
        }
    }

    fn is_same_peer(&self, other: &Self) -> bool {
        (self.transport, self.connection) == (other.transport, other.connection)
            && self.remote == other.remote
    }

    fn unpack(&self) -> Flow {
        Flow {
            transport: self.transport,
            local: self.local.unpack(),
            remote: self.remote.unpack(),
            connection: (self.connection != u64::MAX).then_some(ConnectionId(self.connection)),
        }
    }
}

impl PackedAddress {
    fn new(address: SocketAddr) -> Self {
        let scope = match address {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(v6) => v6.scope_id(),
        };
        Self {
            scope,
            port: address.port(),
            address: Self::bytes(address.ip()),
        }
    }

    fn bytes(address: IpAddr) -> [u8; 16] {
        match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        }
    }

    fn unpack(&self) -> SocketAddr {
        let ip = Ipv6Addr::from(self.address);
        match IpAddr::V6(ip).to_canonical() {
            IpAddr::V4(v4) => SocketAddr::from((v4, self.port)),
            IpAddr::V6(v6) => SocketAddrV6::new(v6, self.port, 0, self.scope).into(),
        }
    }
}
