//! RFC 3261 §18.2.2, RFC 3581 §4: which way a response goes.
//!
//! `maddr` is never followed and no name is ever resolved: either would send bytes of our making to an address that
//! the request's sender chose.

use std::net::SocketAddr;

use crate::message::Via;
use crate::source::Flow;

/// Port of a sent-by without one (RFC 3261 §18.2.2; TLS is not served here).
const DEFAULT_PORT: u16 = 5060;

/// The flow on which a request that came on `flow` with this top Via is answered.
///
/// On a stream that is the connection itself. A datagram of an untrusted sender is answered where it came from, whatever
/// its Via says; so is one with `rport` (RFC 3581 §4). Only a trusted sender without `rport` is answered at the
/// port of its sent-by (5060 if it names none), at the address that the datagram came from, which is what `received` would say.
pub fn response_flow(flow: &Flow, via: &Via<'_>, trusted: bool) -> Flow {
    if flow.transport.is_reliable() || !trusted || has_rport(via) {
        return *flow;
    }
    Flow {
        remote: reconnect_address(flow, via),
        ..*flow
    }
}

/// Where a sender's Via says that he can be reached, at the address that his request came from: the way of a response whose
/// connection is gone (RFC 3261 §18.2.2). Not for whoever may be anybody.
pub fn reconnect_address(flow: &Flow, via: &Via<'_>) -> SocketAddr {
    let port = match via.port {
        // Nothing can be sent to port 0: then rather where it came from.
        Some(0) => flow.remote.port(),
        Some(port) => port,
        None => DEFAULT_PORT,
    };
    let mut address = flow.remote;
    address.set_port(port);
    address
}

/// Bytes of a message that [`raw_branch`] looks at: the topmost Via stands well before.
const BRANCH_WITHIN: usize = 1_024;
/// Bytes of a message that [`raw_tags`] looks at: some trunks put a dozen Route and Record-Route lines first.
const TAGS_WITHIN: usize = 2_048;
/// Bytes of a branch that count.
const BRANCH_BYTES_MAX: usize = 128;

/// The first branch parameter of a message that was not parsed: in what phones send, that of the topmost Via. It tells
/// a retransmission, which repeats it byte for byte, and is good for nothing else.
pub fn raw_branch(bytes: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"branch=";
    let head = bytes.get(..BRANCH_WITHIN).unwrap_or(bytes);
    let start = memchr::memmem::find(head, NAME)?.saturating_add(NAME.len());
    let rest = head.get(start..)?;
    let rest = rest.get(..BRANCH_BYTES_MAX).unwrap_or(rest);
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b';' | b',' | b' ' | b'\t' | b'\r' | b'\n'));
    rest.get(..end.unwrap_or(rest.len()))
        .filter(|branch| !branch.is_empty())
}

/// Tags of a message that was not parsed, wherever they stand in its first 2 KiB; at most four.
pub fn raw_tags(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    const NAME: &[u8] = b"tag=";
    let head = bytes.get(..TAGS_WITHIN).unwrap_or(bytes);
    let places = memchr::memmem::find_iter(head, NAME).take(4);
    places.filter_map(move |at| {
        let rest = head.get(at.saturating_add(NAME.len())..)?;
        let end = (rest.iter())
            .position(|byte| matches!(byte, b';' | b',' | b' ' | b'\t' | b'\r' | b'\n'));
        rest.get(..end.unwrap_or(rest.len()))
    })
}

/// With or without a value: a proxy that stamps a value itself still asks for the symmetric way.
fn has_rport(via: &Via<'_>) -> bool {
    via.rport || via.params.get("rport").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Params;
    use crate::source::{ConnectionId, Transport};

    #[test]
    fn the_branch_is_found_without_parsing() {
        let long = [b"x branch=".as_slice(), &[b'b'; 500]].concat();
        for (bytes, branch) in [
            (
                &b"OPTIONS sip:a SIP/2.0\r\nv: SIP/2.0/UDP a;branch=z9hG4bK1;rport\r\n"[..],
                Some(&b"z9hG4bK1"[..]),
            ),
            (
                b"Via: SIP/2.0/UDP a;branch=z9hG4bK2\r\nVia: SIP/2.0/UDP b;branch=z9hG4bK3",
                Some(b"z9hG4bK2"),
            ),
            (
                b"Via: SIP/2.0/UDP a;branch=z9hG4bK4, SIP/2.0/UDP b",
                Some(b"z9hG4bK4"),
            ),
            (b"Via: SIP/2.0/UDP a;branch=cut", Some(b"cut")),
            (b"Via: SIP/2.0/UDP a;branch=\r\n", None),
            (b"Via: SIP/2.0/UDP a;branch", None),
            (b"", None),
            (&long, Some(&[b'b'; BRANCH_BYTES_MAX])),
        ] {
            assert_eq!(raw_branch(bytes), branch, "{}", bytes.escape_ascii());
        }
        let far = [&[b' '; BRANCH_WITHIN - 10][..], b"branch=far away"].concat();
        assert_eq!(raw_branch(&far), Some(&b"far"[..]), "what lies within");
        let too_far = [&[b' '; BRANCH_WITHIN][..], b"branch=far"].concat();
        assert_eq!(raw_branch(&too_far), None);
    }

    #[test]
    fn tags_are_found_without_parsing() {
        let tags = |bytes: &'static [u8]| raw_tags(bytes).collect::<Vec<_>>();
        assert_eq!(
            tags(b"From: <sip:a>;tag=1;x\r\nTo: <sip:b>;tag=22\r\nX: tag="),
            [&b"1"[..], b"22", b""]
        );
        assert_eq!(tags(b"a;tag=1 tag=2,tag=3;tag=4;tag=5").len(), 4);
        assert_eq!(tags(b"nothing").len(), 0);
    }

    fn flow(transport: Transport) -> Flow {
        Flow {
            transport,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "203.0.113.7:41000".parse().unwrap(),
            connection: (transport == Transport::Tcp).then_some(ConnectionId(2)),
        }
    }

    fn via(port: Option<u16>, rport: bool) -> Via<'static> {
        Via {
            transport: b"UDP",
            host: b"10.0.0.1",
            address: Some([10, 0, 0, 1].into()),
            port,
            branch: b"z9hG4bK1",
            rport,
            maddr: Some(b"198.51.100.66"),
            params: Params(if rport {
                b";rport;branch=z9hG4bK1"
            } else {
                b";maddr=198.51.100.66;branch=z9hG4bK1"
            }),
        }
    }

    #[test]
    fn strangers_are_answered_where_they_came_from() {
        let flow = flow(Transport::Udp);
        for via in [via(None, false), via(Some(5070), false), via(Some(0), true)] {
            assert_eq!(response_flow(&flow, &via, false), flow);
        }
    }

    #[test]
    fn trusted_senders_choose_the_port_but_never_the_address() {
        let flow = flow(Transport::Udp);
        let port = |via| {
            let answer = response_flow(&flow, &via, true);
            assert_eq!(answer.remote.ip(), flow.remote.ip());
            assert_eq!(answer.local, flow.local);
            answer.remote.port()
        };
        assert_eq!(port(via(None, false)), 5060);
        assert_eq!(port(via(Some(5070), false)), 5070);
        assert_eq!(port(via(Some(5070), true)), 41000);
        assert_eq!(port(via(Some(0), false)), 41000);
    }

    #[test]
    fn streams_are_answered_on_their_connection() {
        let flow = flow(Transport::Tcp);
        assert_eq!(response_flow(&flow, &via(Some(5070), false), true), flow);
    }
}
