//! RFC 3261 §12: the peer state of one leg. A dialog knows how to compose a request within itself and whether a request
//! belongs to it; what the request means is the call's business.
//!
//! Our tags carry a handle and a secret: a request within a dialog is found by its To tag without a table, and a tag
//! that we did not make finds nothing. The tag proves nothing about who sent it: the call compares flows as well.

use std::net::SocketAddr;

use crate::message::compose::{Composer, append_number, append_socket_address};
use crate::message::{Message, Method, NameAddr};
use crate::source::Flow;
use crate::token::{hex, read_hex};

/// Which call and which of its legs a tag belongs to, or which subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagParts {
    /// Slot of the call or subscription.
    pub index: u32,
    /// Its serial: slots are used again, serials are not.
    pub serial: u32,
    /// Leg, as the call numbers them; a subscription's is none of theirs.
    pub leg: u8,
    /// What nobody can guess.
    pub secret: u64,
}

/// `;tag=` and a tag of ours.
const TAG_BYTES: usize = 5 + 34;

impl TagParts {
    /// The tag: 34 hexadecimal digits.
    pub fn compose(self) -> [u8; 34] {
        let mut tag = [0; 34];
        tag[..8].copy_from_slice(&hex::<8>(self.index.into()));
        tag[8..16].copy_from_slice(&hex::<8>(self.serial.into()));
        tag[16..18].copy_from_slice(&hex::<2>(self.leg.into()));
        tag[18..].copy_from_slice(&hex::<16>(self.secret));
        tag
    }

    /// The parts of one of our tags; `None` for any other.
    pub fn parse(tag: &[u8]) -> Option<Self> {
        if tag.len() != 34 {
            return None;
        }
        Some(Self {
            index: u32::try_from(read_hex(tag.get(..8)?)?).ok()?,
            serial: u32::try_from(read_hex(tag.get(8..16)?)?).ok()?,
            leg: u8::try_from(read_hex(tag.get(16..18)?)?).ok()?,
            secret: read_hex(tag.get(18..)?)?,
        })
    }
}

/// One dialog, or one that may become one.
#[derive(Clone, Debug)]
pub struct Dialog {
    /// Call-ID.
    pub call_id: Box<[u8]>,
    /// Our side as it stands in our From, with our tag.
    pub local: Vec<u8>,
    /// The peer's side as it stands in our To, with its tag once it has one.
    pub remote: Vec<u8>,
    /// The peer's tag; empty before it is known, or from an RFC 2543 peer.
    pub remote_tag: Box<[u8]>,
    /// The peer's Contact URI (§12.2.1.1).
    pub remote_target: Box<[u8]>,
    /// Route values joined by `, `, in the order in which we send them; empty: none.
    pub route_set: Box<[u8]>,
    /// The CSeq number that we used last.
    pub local_cseq: u32,
    /// The CSeq number that the peer used last; `None` before its first request.
    pub remote_cseq: Option<u32>,
    /// The way to the peer.
    pub flow: Flow,
    /// Our address as it stands in Via and Contact.
    pub ours: SocketAddr,
    /// User part of our Contact; empty: [`CONTACT_USER`].
    pub contact_user: Box<[u8]>,
}

impl Dialog {
    /// The dialog that a request makes at its UAS (§12.1.1). `local` is its To, without our tag as yet.
    pub fn from_request(request: &Message<'_>, flow: &Flow, ours: SocketAddr) -> Self {
        // With room for our tag.
        let mut local = Vec::with_capacity(request.to().raw.len().saturating_add(TAG_BYTES));
        local.extend_from_slice(request.to().raw);
        Self {
            call_id: request.call_id().into(),
            local,
            remote: request.from().raw.to_vec(),
            remote_tag: request.from().tag().unwrap_or_default().into(),
            // RFC 2543 peers may leave Contact out: then From is where they are.
            remote_target: contact_of(request).unwrap_or(request.from().uri).into(),
            route_set: joined(request.values(crate::message::HeaderName::RecordRoute)),
            local_cseq: 0,
            remote_cseq: Some(request.cseq().number),
            flow: *flow,
            ours,
            contact_user: Box::default(),
        }
    }

    /// The dialog that a 2xx makes of our own request, from the response alone; its CSeq number is the last we used.
    pub fn from_response(response: &Message<'_>, flow: &Flow, ours: SocketAddr) -> Self {
        let mut dialog = Self {
            call_id: response.call_id().into(),
            local: response.from().raw.to_vec(),
            remote: Vec::new(),
            remote_tag: Box::default(),
            remote_target: response.to().uri.into(),
            route_set: Box::default(),
            local_cseq: response.cseq().number,
            remote_cseq: None,
            flow: *flow,
            ours,
            contact_user: Box::default(),
        };
        dialog.establish(response);
        dialog
    }

    /// Takes over what a dialog-forming response says (§12.1.2): tag, Contact and the Record-Route values turned around.
    pub fn establish(&mut self, response: &Message<'_>) {
        // A 2xx says as a rule what the provisional response before it has said.
        if *self.remote != *response.to().raw {
            self.remote = response.to().raw.to_vec();
        }
        let tag = response.to().tag().unwrap_or_default();
        if *self.remote_tag != *tag {
            self.remote_tag = tag.into();
        }
        let mut routes: Vec<_> = response
            .values(crate::message::HeaderName::RecordRoute)
            .collect();
        routes.reverse();
        self.route_set = joined(routes.into_iter());
        self.refresh_target(response);
    }

    /// A target refresh (§12.2.1.2, §12.2.2): the Contact of a re-INVITE or UPDATE, or of its 2xx.
    pub fn refresh_target(&mut self, message: &Message<'_>) {
        // As a rule it is what it was.
        if !is_contact(message, &self.remote_target)
            && let Some(contact) = contact_of(message)
            && *contact != *self.remote_target
        {
            self.remote_target = contact.into();
        }
    }

    /// Our tag; empty before there is one.
    pub fn local_tag(&self) -> &[u8] {
        let local = NameAddr::parse(&self.local).ok();
        local.and_then(|local| local.tag()).unwrap_or_default()
    }

    /// Whether a request with our tag belongs here: same Call-ID, same peer tag (§12.2.2).
    pub fn owns(&self, request: &Message<'_>) -> bool {
        *request.call_id() == *self.call_id
            && *request.from().tag().unwrap_or_default() == *self.remote_tag
    }

    /// Checks the CSeq of a new request (§12.2.2): `false` if it is older than the last; ACK and CANCEL do not count.
    pub fn accept_cseq(&mut self, number: u32) -> bool {
        let in_order = self.remote_cseq.is_none_or(|last| number > last);
        if in_order {
            self.remote_cseq = Some(number);
        }
        in_order
    }

    /// The number for our next request.
    pub fn next_cseq(&mut self) -> u32 {
        // 2^31 requests in one dialog cannot happen; a peer must still never see the number go back.
        self.local_cseq = self.local_cseq.saturating_add(1);
        self.local_cseq
    }

    /// `Contact` of ours within the dialog.
    pub fn write_contact(&self, composer: &mut Composer<'_>) {
        let user = match &*self.contact_user {
            b"" => CONTACT_USER,
            user => user,
        };
        write_contact_of(composer, user, &self.flow, self.ours);
    }

    /// Begins a request within the dialog (§12.2.1.1): Request-URI, Via, Route, From, To, Call-ID, CSeq, Max-Forwards.
    pub fn compose<'b>(
        &self,
        buffer: &'b mut Vec<u8>,
        method: Method,
        cseq: u32,
        branch: &[u8],
    ) -> Composer<'b> {
        self.compose_relayed(buffer, method, cseq, branch, 70)
    }

    /// The same for a request that has come some way already: with this Max-Forwards.
    pub fn compose_relayed<'b>(
        &self,
        buffer: &'b mut Vec<u8>,
        method: Method,
        cseq: u32,
        branch: &[u8],
        max_forwards: u8,
    ) -> Composer<'b> {
        let first = first_route(&self.route_set);
        let strict = first.filter(|route| !is_loose(route));
        let target = strict.and_then(route_uri).unwrap_or(&self.remote_target);
        let mut composer = Composer::request(buffer, method.token().as_bytes(), target);
        write_via(&mut composer, &self.flow, self.ours, branch);
        if strict.is_some() {
            // A strict router stands in the Request-URI; the target goes to the end of the list.
            let rest = self
                .route_set
                .get(first.map_or(0, <[u8]>::len)..)
                .unwrap_or_default();
            let rest = rest.strip_prefix(b", ").unwrap_or(rest);
            let joint: &[u8] = if rest.is_empty() { b"" } else { b", " };
            composer.field("Route", &[rest, joint, b"<", &self.remote_target, b">"]);
        } else if !self.route_set.is_empty() {
            composer.field("Route", &[&self.route_set]);
        }
        composer.field("From", &[&self.local]);
        composer.field("To", &[&self.remote]);
        composer.field("Call-ID", &[&self.call_id]);
        composer.field_with("CSeq", |line| {
            append_number(line, cseq.into());
            line.push(b' ');
            line.extend_from_slice(method.token().as_bytes());
        });
        composer.number("Max-Forwards", max_forwards.into());
        composer
    }
}

/// `Via` of a request of ours, with `rport` (RFC 3581).
pub fn write_via(composer: &mut Composer<'_>, flow: &Flow, ours: SocketAddr, branch: &[u8]) {
    composer.field_with("Via", |line| {
        line.extend_from_slice(b"SIP/2.0/");
        line.extend_from_slice(flow.transport.via_token().as_bytes());
        line.push(b' ');
        append_socket_address(line, ours);
        line.extend_from_slice(b";branch=");
        line.extend_from_slice(branch);
        line.extend_from_slice(b";rport");
    });
}

/// A request of ours with the top Via, its first header, as it is on another flow (RFC 3261 §18.1.1); the branch stays.
pub fn with_via(request: &[u8], flow: &Flow, ours: SocketAddr) -> Option<Vec<u8>> {
    let line_end = |from: usize| {
        let rest = request.get(from..)?;
        Some(from + memchr::memmem::find(rest, b"\r\n")? + 2)
    };
    let via = line_end(0)?;
    let rest = line_end(via)?;
    let parsed = crate::message::parse(request).ok()?;
    let mut line = Vec::with_capacity(128);
    write_via(
        &mut Composer::lines_into(&mut line),
        flow,
        ours,
        parsed.via().branch,
    );
    Some([request.get(..via)?, &line, request.get(rest..)?].concat())
}

/// User part of our Contact. No user can have this name, and no number leads there: the digest of a re-INVITE, which phones
/// compute for our Contact, is none of a call to somebody.
pub const CONTACT_USER: &[u8] = b"~";

/// `Contact` of ours: where requests within the dialog reach us.
pub fn write_contact(composer: &mut Composer<'_>, flow: &Flow, ours: SocketAddr) {
    write_contact_of(composer, CONTACT_USER, flow, ours);
}

fn write_contact_of(composer: &mut Composer<'_>, user: &[u8], flow: &Flow, ours: SocketAddr) {
    let transport: &[u8] = if flow.transport == crate::source::Transport::Tcp {
        b";transport=tcp"
    } else {
        b""
    };
    composer.field_with("Contact", |line| {
        line.extend_from_slice(b"<sip:");
        line.extend_from_slice(user);
        line.push(b'@');
        append_socket_address(line, ours);
        line.extend_from_slice(transport);
        line.push(b'>');
    });
}

/// The URI of the first Contact; `None`: there is none, or it is no address.
fn contact_of<'a>(message: &Message<'a>) -> Option<&'a [u8]> {
    let uri = match message.first_contact() {
        Some(contact) => contact.address.uri,
        None => {
            let mut values = message.values(crate::message::HeaderName::Contact);
            NameAddr::parse(values.next()?).ok()?.uri
        }
    };
    // Headers are not part of a Request-URI (RFC 3261 §19.1.5). It parses, or the value would not.
    if !uri.contains(&b'?') {
        return Some(uri);
    }
    let headers = crate::message::Uri::parse(uri).ok()?.headers.len();
    uri.get(..uri.len() - headers)
        .map(|uri| uri.strip_suffix(b"?").unwrap_or(uri))
}

/// Whether the first Contact is this URI and nothing else.
fn is_contact(message: &Message<'_>, uri: &[u8]) -> bool {
    let mut values = message.values(crate::message::HeaderName::Contact);
    let value = values.next().and_then(|value| value.strip_prefix(b"<"));
    value.and_then(|value| value.strip_suffix(b">")) == Some(uri)
}

fn joined<'a>(values: impl Iterator<Item = &'a [u8]>) -> Box<[u8]> {
    let mut joined = Vec::new();
    for value in values {
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(value);
    }
    joined.into()
}

/// The first value of a joined route set.
fn first_route(route_set: &[u8]) -> Option<&[u8]> {
    let mut inside = false;
    let end = route_set.iter().position(|byte| {
        match byte {
            b'<' => inside = true,
            b'>' => inside = false,
            _ => {}
        }
        *byte == b',' && !inside
    });
    route_set
        .get(..end.unwrap_or(route_set.len()))
        .filter(|route| !route.is_empty())
}

fn route_uri(route: &[u8]) -> Option<&[u8]> {
    NameAddr::parse(route).ok().map(|route| route.uri)
}

/// §16.12.1.2: `lr` in the URI. What does not parse is taken for loose: it stays in the list as it was received.
fn is_loose(route: &&[u8]) -> bool {
    NameAddr::parse(route).map_or(true, |route| route.parts().params.get("lr").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parse;
    use crate::source::Transport;

    const HEAD: &str = "Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
        From: <sip:a@192.0.2.7>;tag=1\r\nTo: <sip:b@192.0.2.9>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n";

    fn flow() -> Flow {
        Flow {
            transport: Transport::Udp,
            local: SocketAddr::from(([192, 0, 2, 9], 5060)),
            remote: SocketAddr::from(([192, 0, 2, 7], 5060)),
            connection: None,
        }
    }

    #[test]
    fn the_target_is_the_uri_of_the_first_contact_without_headers() {
        for (contact, target) in [
            (
                "<sip:x@192.0.2.7;transport=tcp>;q=1",
                "sip:x@192.0.2.7;transport=tcp",
            ),
            ("<sip:x@192.0.2.7>, <sip:y@192.0.2.7>", "sip:x@192.0.2.7"),
            ("\"<sip:z@192.0.2.1>\" <sip:x@192.0.2.7>", "sip:x@192.0.2.7"),
            ("sip:x@192.0.2.7;expires=9", "sip:x@192.0.2.7"),
            ("<sip:x@192.0.2.7?Replaces=1>", "sip:x@192.0.2.7"),
        ] {
            for start in ["INVITE sip:b@192.0.2.9 SIP/2.0", "SIP/2.0 200 OK"] {
                let text =
                    format!("{start}\r\n{HEAD}Contact: {contact}\r\nContent-Length: 0\r\n\r\n");
                let message = parse(text.as_bytes()).unwrap();
                let ours = flow().local;
                let dialog = match message.is_request() {
                    true => Dialog::from_request(&message, &flow(), ours),
                    false => Dialog::from_response(&message, &flow(), ours),
                };
                let found = String::from_utf8_lossy(&dialog.remote_target);
                assert_eq!(found, target, "{start} {contact}");
            }
        }
    }

    #[test]
    fn a_response_moves_the_target_only_with_another_contact() {
        let mut target = b"sip:x@192.0.2.7".as_slice();
        let text =
            |contact: &str| format!("SIP/2.0 200 OK\r\n{HEAD}{contact}Content-Length: 0\r\n\r\n");
        let first = text("Contact: <sip:x@192.0.2.7>\r\n");
        let first = parse(first.as_bytes()).unwrap();
        let mut dialog = Dialog::from_response(&first, &flow(), flow().local);
        for (contact, moved) in [
            ("", None),
            ("Contact: <sip:x@192.0.2.7>\r\n", None),
            ("Contact: <sip:x@192.0.2.7>;isfocus\r\n", None),
            (
                "Contact: <sip:x@192.0.2.7:5062>\r\n",
                Some("sip:x@192.0.2.7:5062"),
            ),
            ("Contact: *\r\n", None),
            ("Contact: <sip:x@192.0.2.7>\r\n", Some("sip:x@192.0.2.7")),
        ] {
            let text = text(contact);
            dialog.establish(&parse(text.as_bytes()).unwrap());
            target = moved.map_or(target, str::as_bytes);
            assert_eq!(*dialog.remote_target, *target, "{contact}");
        }
    }
}
