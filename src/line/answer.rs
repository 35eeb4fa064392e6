//! What a registrar's answer says (RFC 3261 §10.2.4 to §10.2.8, RFC 3608, RFC 7315).

use std::net::{IpAddr, SocketAddr};

use crate::limits::{LINE_REASON_BYTES_MAX, LINE_ROUTE_BYTES_MAX};
use crate::message::{
    Contact, HeaderName, Host, Message, NameAddr, Scheme, StartLine, printable, reason_phrase,
};

/// RFC 3261 §19.1.2: the port of a URI without one.
const SIP_PORT: u16 = 5060;

/// What a 2xx to a REGISTER says of our own Contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    /// It is bound for so many seconds.
    For(u32),
    /// It is among the Contacts, but for no time.
    Not,
    /// It is not among them: how many others there are.
    Missing(usize),
}

/// How long our Contact is bound: this user part at this address. Registrars rewrite hosts, ports and parameters: where none
/// has the address that was sent, all with our user part are ours, and the one that lasts longest counts. Some list no Contacts
/// at all: then it is the time that they say, or that was asked for.
pub(super) fn granted(
    response: &Message<'_>,
    token: &[u8],
    ours: SocketAddr,
    asked: u32,
) -> Granted {
    // Of the one that was sent, and of any.
    let (mut same, mut longest) = (None, None);
    let mut others = 0_usize;
    let mut is_listed = false;
    for value in response.values(HeaderName::Contact) {
        is_listed = true;
        let Ok(contact) = Contact::parse(value) else {
            continue;
        };
        let uri = &contact.uri;
        if uri.user != token {
            others = others.saturating_add(1);
            continue;
        }
        let seconds = contact.expires.or(response.expires()).unwrap_or(asked);
        longest = longest.max(Some(seconds));
        let is_same = uri.host == Host::Address(ours.ip().to_canonical())
            && uri.port.unwrap_or(SIP_PORT) == ours.port();
        if is_same {
            same = same.max(Some(seconds));
        }
    }
    if !is_listed {
        longest = Some(response.expires().unwrap_or(asked));
    }
    match same.or(longest) {
        Some(0) => Granted::Not,
        Some(seconds) => Granted::For(seconds),
        None => Granted::Missing(others),
    }
}

/// Service-Route (RFC 3608 §5), values joined by `, `; empty: none, or too long to be repeated in every request.
pub(super) fn service_route(response: &Message<'_>) -> Box<[u8]> {
    joined(response, HeaderName::ServiceRoute)
}

/// Path (RFC 3327 §5.1): the way on which the registrar reaches us. The same.
pub(super) fn path(response: &Message<'_>) -> Box<[u8]> {
    joined(response, HeaderName::Path)
}

fn joined(response: &Message<'_>, name: HeaderName) -> Box<[u8]> {
    let mut joined = Vec::new();
    for value in response.values(name) {
        if NameAddr::parse(value).is_err() {
            continue;
        }
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(value);
    }
    if joined.len() > LINE_ROUTE_BYTES_MAX {
        joined.clear();
    }
    joined.into()
}

/// The first `sip:` or `tel:` URI of P-Associated-URI (RFC 7315 §4.1), or empty.
pub(super) fn public_identity(response: &Message<'_>) -> Box<[u8]> {
    let uris = response
        .values(HeaderName::PAssociatedUri)
        .filter_map(|value| {
            let uri = NameAddr::parse(value).ok()?.parts();
            let is_usable = matches!(uri.scheme, Scheme::Sip | Scheme::Tel)
                && uri.raw.len() <= LINE_ROUTE_BYTES_MAX;
            is_usable.then_some(uri.raw)
        });
    let mut uris = uris;
    uris.next().unwrap_or_default().into()
}

/// Our own address as the peer sees it: `received` and `rport` of our Via (RFC 3581 §4). Without `rport` no port is known, and
/// so nothing.
pub fn learned(response: &Message<'_>, ours: SocketAddr) -> Option<SocketAddr> {
    let via = response.via();
    let parameter = |wanted: &[u8]| {
        let found = via
            .params
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        std::str::from_utf8(found?.1?).ok()
    };
    let port = parameter(b"rport")?
        .parse()
        .ok()
        .filter(|port| *port != 0)?;
    let address = match parameter(b"received") {
        None => ours.ip(),
        Some(text) => text
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .ok()?
            .to_canonical(),
    };
    Some(SocketAddr::new(address, port))
}

/// The reason phrase as people may read it; the usual one if there is none.
pub(super) fn phrase(response: &Message<'_>) -> String {
    let StartLine::Response { status, reason } = response.start() else {
        return String::new();
    };
    let mut phrase = printable(reason, LINE_REASON_BYTES_MAX);
    if phrase.is_empty() {
        phrase.push_str(reason_phrase(status));
    }
    phrase
}
