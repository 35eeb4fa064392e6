//! REGISTER as a user agent sends it (RFC 3261 §10.2).

use std::net::SocketAddr;

use super::registration::Registration;
use crate::config::{Host, Line};
use crate::dialog::write_via;
use crate::message::compose::{Composer, append_number, append_socket_address};
use crate::message::{Method, escape_user};
use crate::source::{Flow, Transport};

/// The way that a request goes: to whom, and our own address as it stands in Via and Contact.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// The way.
    pub flow: Flow,
    /// Ours.
    pub ours: SocketAddr,
}

/// What stands in every REGISTER of every line.
#[derive(Clone, Copy, Debug)]
pub struct Manners<'a> {
    /// Methods for Allow.
    pub allow: &'a [u8],
    /// Via branch.
    pub branch: &'a [u8],
}

/// The Request-URI: the domain of the registrar, without a user (§10.2).
pub(super) fn registrar_uri(line: &Line) -> Vec<u8> {
    let mut uri = b"sip:".to_vec();
    let Host { name, port } = &line.server;
    uri.extend_from_slice(name.as_bytes());
    if let Some(port) = port {
        uri.push(b':');
        append_number(&mut uri, u64::from(*port));
    }
    uri
}

/// The address-of-record: account and domain, without a port (§10.3 step 5 compares them).
pub(super) fn address_of_record(line: &Line) -> Vec<u8> {
    let mut uri = b"sip:".to_vec();
    escape_user(line.account.as_bytes(), &mut uri);
    uri.push(b'@');
    uri.extend_from_slice(line.server.name.as_bytes());
    uri
}

/// Writes a REGISTER. `expires` 0 removes the binding (§10.2.2); `authorization` are whole header lines.
pub(super) fn compose(
    own: &Registration,
    way: &Way,
    expires: u64,
    manners: &Manners<'_>,
    authorization: &[u8],
    buffer: &mut Vec<u8>,
) {
    let method = Method::Register.token().as_bytes();
    let aor = address_of_record(&own.config);
    let mut composer = Composer::request(buffer, method, &registrar_uri(&own.config));
    write_via(&mut composer, &way.flow, way.ours, manners.branch);
    composer
        .number("Max-Forwards", 70)
        .field("From", &[b"<", &aor, b">;tag=", &own.tag])
        .field("To", &[b"<", &aor, b">"])
        .field("Call-ID", &[&own.call_id])
        .field_with("CSeq", |line| {
            append_number(line, own.cseq.into());
            line.push(b' ');
            line.extend_from_slice(method);
        })
        .field_with("Contact", |line| contact(own, way, expires, line))
        .number("Expires", expires)
        .lines(authorization)
        .field("Supported", &[b"path"])
        .field("Allow", &[manners.allow])
        .field("User-Agent", &[b"sipkeep"]);
    composer.finish(None, b"");
}

fn contact(own: &Registration, way: &Way, expires: u64, line: &mut Vec<u8>) {
    line.extend_from_slice(b"<sip:");
    line.extend_from_slice(&own.token);
    line.push(b'@');
    append_socket_address(line, way.ours);
    if way.flow.transport == Transport::Tcp {
        line.extend_from_slice(b";transport=tcp");
    }
    line.extend_from_slice(b">;expires=");
    append_number(line, expires);
}
