//! Any bytes as From, To, Contact and their like, and as a Via: what is read lies in them, is read alike by all who read it,
//! and has a normal form.

use std::net::SocketAddr;

use super::fuzz::is_inside;
use super::meter;
use crate::limits::MESSAGE_CONTACTS_MAX;
use crate::message::{Contact, Host, NameAddr, Uri, Via, quote, split_values, unquote};
use crate::source::{Flow, Transport};
use crate::transport::{raw_branch, response_flow};

/// The longest branch that is looked at before a message is parsed.
const RAW_BRANCH_MAX: usize = 128;

/// Any bytes as one address, and as the values of a Contact line.
///
/// # Panics
/// When a property does not hold.
pub fn name_addr(bytes: &[u8]) {
    contact_line(bytes);
    let parsed = meter::below(0, || NameAddr::parse(bytes));
    let contact = Contact::parse(bytes);
    let address = match parsed {
        Ok(address) => address,
        Err(error) => {
            assert!(error.offset <= bytes.len(), "{error}");
            assert!(contact.is_err(), "a Contact that is no address");
            return;
        }
    };
    check_parts(bytes, &address);
    assert_eq!(NameAddr::parse(address.raw), Ok(address));
    check_contact(&address, contact.ok());
    check_normal_form(&address);
}

fn check_parts(bytes: &[u8], address: &NameAddr<'_>) {
    assert!(is_inside(bytes, address.raw));
    // In this order, without a byte in two of them.
    let at = |part: &[u8]| part.as_ptr() as usize - bytes.as_ptr() as usize;
    let mut end = at(address.raw);
    for part in [address.display, address.uri, address.params.0] {
        assert!(is_inside(address.raw, part));
        if !part.is_empty() {
            assert!(at(part) >= end);
            end = at(part) + part.len();
        }
    }
    let uri = Uri::parse(address.uri).expect("a URI that was checked");
    assert_eq!(uri.raw, address.uri);
    let tags = address.params.iter();
    let tags: Vec<_> = tags
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"tag"))
        .collect();
    assert!(tags.len() <= 1, "{tags:?}");
    let tag = tags.first().and_then(|(_, value)| *value);
    assert_eq!(address.tag(), tag);
    assert_ne!(tag, Some(&b""[..]));
}

/// `q` and `expires` as they stand among the parameters; of several the last counts, and a bad one anywhere is bad.
fn check_contact(address: &NameAddr<'_>, contact: Option<Contact<'_>>) {
    let of = |wanted: &'static [u8]| {
        (address.params.iter()).filter(move |(name, _)| name.eq_ignore_ascii_case(wanted))
    };
    let is_qvalue = |value: Option<&[u8]>| {
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        let form = text.is_some_and(|text| {
            let mut bytes = text.bytes();
            matches!(bytes.next(), Some(b'0' | b'1'))
                && matches!(bytes.next(), None | Some(b'.'))
                && text.len() <= 5
                && bytes.all(|byte| byte.is_ascii_digit())
        });
        form && text.and_then(|text| text.parse::<f64>().ok()) <= Some(1.0)
    };
    let is_good = of(b"q").all(|(_, value)| is_qvalue(value));
    assert_eq!(contact.is_some(), is_good, "q");
    let Some(contact) = contact else { return };
    assert_eq!(contact.address, *address);
    assert!(contact.q <= 1000);
    assert_eq!(contact.expires.is_some(), of(b"expires").next().is_some());
}

/// Composed anew it says the same, and the same bytes the next time.
fn check_normal_form(address: &NameAddr<'_>) {
    let compose = |address: &NameAddr<'_>| {
        let mut out = Vec::new();
        address.push_display(&mut out);
        out.extend_from_slice(if out.is_empty() { b"<" } else { b" <" });
        out.extend_from_slice(address.uri);
        out.push(b'>');
        out.extend_from_slice(address.params.0);
        out
    };
    let said = |address: &NameAddr<'_>| {
        let mut out = Vec::new();
        unquote(address.display, &mut out);
        out
    };
    let composed = compose(address);
    let again = NameAddr::parse(&composed).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((again.uri, again.tag()), (address.uri, address.tag()));
    assert_eq!(again.params, address.params);
    assert_eq!(said(&again), said(address));
    assert_eq!(compose(&again), composed, "composed twice");
    let mut quoted = Vec::new();
    quote(&said(address), &mut quoted);
    quoted.extend_from_slice(b" <sip:x@y>");
    assert!(
        NameAddr::parse(&quoted).is_ok(),
        "a quoted display name parses"
    );
}

/// A line that is checked in one pass has the values that splitting it finds, each of them a Contact.
fn contact_line(bytes: &[u8]) {
    let checked = meter::below(0, || Contact::parse_line(bytes, MESSAGE_CONTACTS_MAX));
    let values: Vec<&[u8]> = split_values(bytes).collect();
    assert!(values.iter().all(|value| is_inside(bytes, value)));
    let is_each = values.iter().all(|value| Contact::parse(value).is_ok());
    match checked {
        Ok((first, count)) => {
            assert!(is_each, "a line in one piece only");
            assert_eq!(count, values.len());
            let one = values.first().and_then(|one| Contact::parse(one).ok());
            assert_eq!(one.map(|one| one.address), Some(first.address));
        }
        Err(error) => {
            assert!(error.offset <= bytes.len(), "{error}");
            // Splitting leaves out what is empty; a line may have nothing empty.
            let one = values.len() == 1 && values.first() == Some(&bytes);
            assert!(!(one && is_each), "a value that is no line");
        }
    }
}

/// Any bytes as the value of a Via line.
///
/// # Panics
/// When a property does not hold.
pub fn via(bytes: &[u8]) {
    let salvaged = meter::below(0, || Via::salvage(bytes));
    let via = match meter::below(0, || Via::parse(bytes)) {
        Ok(via) => via,
        Err(error) => return assert!(error.offset <= bytes.len(), "{error}"),
    };
    let spans = [
        via.transport,
        via.host,
        via.branch,
        via.params.0,
        via.maddr.unwrap_or_default(),
    ];
    assert!(spans.iter().all(|span| is_inside(bytes, span)));
    assert!(Host::parse(via.host).is_some());
    assert_eq!(salvaged, Ok(via), "salvaged in another way");
    let first = split_values(bytes).next().unwrap_or_default();
    assert_eq!(Via::parse(first), Ok(via), "alone in another way");
    check_via_parameters(&via);
    check_raw_branch(bytes, &via);
    check_way_back(&via);
    let composed = compose_via(&via);
    let again = Via::parse(&composed).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, via, "composed anew");
    assert_eq!(compose_via(&again), composed, "composed twice");
}

/// What was read while parsing is what is found by name.
fn check_via_parameters(via: &Via<'_>) {
    let once = [&b"branch"[..], b"rport", b"maddr", b"received"];
    let all: Vec<_> = via.params.iter().collect();
    for name in once {
        let of = all.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        assert!(of.count() <= 1, "{}", name.escape_ascii());
    }
    assert_eq!(via.params.get("branch").unwrap_or_default(), via.branch);
    assert_eq!(via.params.get("maddr"), via.maddr);
    assert_eq!(via.params.get("rport") == Some(b""), via.rport);
}

/// Where the branch that is found without parsing is this Via's, it is the whole branch.
fn check_raw_branch(bytes: &[u8], via: &Via<'_>) {
    let Some(raw) = raw_branch(bytes) else { return };
    assert!(is_inside(bytes, raw) && raw.len() <= RAW_BRANCH_MAX);
    if !via.branch.is_empty() && raw.as_ptr() == via.branch.as_ptr() {
        let short = via.branch.get(..RAW_BRANCH_MAX).unwrap_or(via.branch);
        // Bytes may be short of it where a look ends.
        let is_cut = raw.as_ptr_range().end == bytes[..bytes.len().min(1024)].as_ptr_range().end;
        assert!(raw == short || is_cut && short.starts_with(raw));
    }
}

/// An answer never goes to another host than the request's sender, and from strangers never to another port.
fn check_way_back(via: &Via<'_>) {
    let flow = Flow {
        transport: Transport::Udp,
        local: SocketAddr::from(([192, 0, 2, 1], 5060)),
        remote: SocketAddr::from(([198, 51, 100, 9], 5099)),
        connection: None,
    };
    assert_eq!(response_flow(&flow, via, false), flow);
    let back = response_flow(&flow, via, true);
    assert_eq!(back.remote.ip(), flow.remote.ip());
    assert_ne!(back.remote.port(), 0);
    assert!(!via.rport || back == flow);
}

fn compose_via(via: &Via<'_>) -> Vec<u8> {
    let port = via.port.map_or_else(String::new, |port| format!(":{port}"));
    [
        b"SIP/2.0/",
        via.transport,
        b" ",
        via.host,
        port.as_bytes(),
        via.params.0,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    /// Pieces that addresses and Vias are made of, and that break them.
    const PIECES: &[&str] = &[
        "sip:a@b",
        "<sip:a@b>",
        "<sip:%61@[::1]:5060;lr?x=y>",
        "<tel:+1-2>",
        "\"A, <B>\\\"\" ",
        "Alice ",
        "Jürgen ",
        ";tag=1",
        ";tag",
        ";tag=\"x\"",
        ";q=0.5",
        ";q=1.001",
        ";q=",
        ";expires=60",
        ";expires",
        ";a=\"b;c\"",
        " ; x = y",
        ",",
        " , ",
        ";",
        "=",
        "\"",
        "\\",
        "<",
        ">",
        "*",
        " ",
        "\r\n ",
        "SIP/2.0/UDP h",
        "SIP / 2.0 / TCP [::1]:5060",
        "SIP/2.0/UDP 192.0.2.1:99999",
        ";branch=z9hG4bK1",
        ";branch=",
        ";rport",
        ";rport=5",
        ";received=192.0.2.9",
        ";maddr=h",
        ";xbranch=b",
        "SIP/3.0/UDP h",
        "HTTP/1.1/TCP h",
    ];

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]
        #[test]
        fn hold_for_pieces(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..10)) {
            let text = pieces.concat();
            super::name_addr(text.as_bytes());
            super::via(text.as_bytes());
        }

        #[test]
        fn hold_for_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            super::name_addr(&bytes);
            super::via(&bytes);
        }
    }
}
