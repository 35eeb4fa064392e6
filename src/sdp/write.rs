//! A description with other addresses and ports.

use std::io::Write as _;
use std::net::IpAddr;

use super::lines::{Line, is_unspecified, lines, network_address};
use super::{is_ice, is_tcp};

/// What whoever is to read a description shall see of the streams in place of what it says.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// The address of all of them.
    pub address: IpAddr,
    /// The port of each; its RTCP has the next one. 0: it is refused. `None`, or no element: it stays as it is.
    pub ports: &'a [Option<u16>],
}

impl Shown<'_> {
    /// `IN IP4 192.0.2.1`.
    fn write_address(&self, out: &mut Vec<u8>) {
        let address = self.address;
        let kind = if address.is_ipv4() { "IP4" } else { "IP6" };
        // Writing to a Vec does not fail.
        let _ = write!(out, "IN {kind} {address}");
    }

    /// The address that means "none", in the family that is shown.
    fn write_none(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.address.is_ipv4() {
            true => b"IN IP4 0.0.0.0",
            false => b"IN IP6 ::",
        });
    }
}

/// Where in a description we are.
#[derive(Default)]
struct Section<'a> {
    /// Streams so far.
    count: usize,
    /// The new port of the present one.
    port: Option<u16>,
    /// Its port as it was.
    old_port: u16,
    /// What its `c=` line shall be, if it has none of its own.
    owed: Option<Owed<'a>>,
    /// Which streams have one of their own, wherever it stands.
    has_own: Vec<bool>,
}

/// A `c=` line that is to be put in.
struct Owed<'a> {
    /// The session's as it stood; `None`: with the address that is shown.
    kept: Option<&'a [u8]>,
    /// That of the `m=` line.
    end: &'a [u8],
}

/// Writes a description with what is to be shown. Without any port to change it is written as it is.
pub fn rewrite(description: &[u8], shown: &Shown<'_>, out: &mut Vec<u8>) {
    if shown.ports.iter().all(Option::is_none) {
        out.extend_from_slice(description);
        return;
    }
    let mut section = Section {
        has_own: connected(description),
        ..Section::default()
    };
    let mut session = None;
    for line in lines(description) {
        if !matches!(line.kind(), b'i' | b'c') {
            section.settle(shown, out);
        }
        match line.kind() {
            b'm' => section.begin(&line, session, shown, out),
            b'c' if section.count == 0 => {
                session = Some(line);
                write_connection(&line, shown, out);
            }
            b'c' => match section.port {
                Some(_) => write_connection(&line, shown, out),
                None => write_line(&line, out),
            },
            b'o' => write_origin(&line, shown, out),
            b'a' if is_ice(&line) && (section.count == 0 || section.port.is_some()) => {}
            b'a' => section.attribute(&line, shown, out),
            _ => write_line(&line, out),
        }
    }
    section.settle(shown, out);
}

/// Which streams have a `c=` line of their own. It belongs before the attributes, but not everybody puts it there.
fn connected(description: &[u8]) -> Vec<bool> {
    let mut all = Vec::new();
    for line in lines(description) {
        match (line.kind(), all.last_mut()) {
            (b'm', _) => all.push(false),
            (b'c', Some(last)) => *last = true,
            _ => {}
        }
    }
    all
}

impl<'a> Section<'a> {
    /// An `m=` line.
    fn begin(
        &mut self,
        line: &Line<'a>,
        session: Option<Line<'a>>,
        shown: &Shown<'_>,
        out: &mut Vec<u8>,
    ) {
        let media = line.media();
        let port = shown.ports.get(self.count).copied().flatten();
        let has_own = self.has_own.get(self.count).is_some_and(|has| *has);
        self.count = self.count.saturating_add(1);
        self.owed = None;
        self.old_port = media.as_ref().map_or(0, |media| media.port);
        let is_relayed =
            |media: &super::lines::Media<'_>| media.port != 0 && !is_tcp(media.protocol);
        self.port = port.filter(|_| media.as_ref().is_some_and(is_relayed));
        match (self.port, media) {
            (Some(port), Some(media)) => {
                out.extend_from_slice(b"m=");
                out.extend_from_slice(media.kind);
                let _ = write!(out, " {port}");
                out.extend_from_slice(media.rest);
                out.extend_from_slice(line.end);
                // Without any address (RFC 8866 §5.7 wants one) the other side would not know where to send.
                self.owed = (session.is_none() && !has_own).then_some(Owed {
                    kept: None,
                    end: line.end,
                });
            }
            _ => {
                write_line(line, out);
                // The session's address is not its own any more.
                let is_owed = self.old_port != 0 && !has_own;
                self.owed = session.filter(|_| is_owed).map(|own| Owed {
                    kept: Some(own.text),
                    end: line.end,
                });
            }
        }
    }

    /// The present stream has no `c=` line of its own.
    fn settle(&mut self, shown: &Shown<'_>, out: &mut Vec<u8>) {
        let Some(owed) = self.owed.take() else {
            return;
        };
        // The last line may have no end, or half of one.
        if !out.ends_with(b"\n") {
            let end: &[u8] = if out.ends_with(b"\r") { b"\n" } else { b"\r\n" };
            out.extend_from_slice(end);
        }
        match owed.kept {
            Some(text) => out.extend_from_slice(text),
            None => {
                out.extend_from_slice(b"c=");
                shown.write_address(out);
            }
        }
        out.extend_from_slice(owed.end);
    }

    fn attribute(&self, line: &Line<'_>, shown: &Shown<'_>, out: &mut Vec<u8>) {
        let (Some(port), Some(rtcp)) = (self.port, line.rtcp()) else {
            return write_line(line, out);
        };
        if port == 0 {
            return;
        }
        // With the stream's own port it says that both are one (RFC 5761 §5.1.3).
        let is_one = rtcp.port == self.old_port;
        let port = if is_one { port } else { port.saturating_add(1) };
        let _ = write!(out, "a=rtcp:{port}");
        match rtcp.address {
            None => {}
            Some(address) if is_unspecified(address) => {
                out.push(b' ');
                shown.write_none(out);
            }
            Some(_) => {
                out.push(b' ');
                shown.write_address(out);
            }
        }
        out.extend_from_slice(line.end);
    }
}

fn write_line(line: &Line<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(line.text);
    out.extend_from_slice(line.end);
}

fn write_connection(line: &Line<'_>, shown: &Shown<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"c=");
    match network_address(line.value()).is_some_and(is_unspecified) {
        true => shown.write_none(out),
        false => shown.write_address(out),
    }
    out.extend_from_slice(line.end);
}

/// `o=USER ID VERSION IN IP4 ADDRESS`: its address is a part of the session's name, not one that is used.
fn write_origin(line: &Line<'_>, shown: &Shown<'_>, out: &mut Vec<u8>) {
    let mut fields = line.value().splitn(4, |byte| *byte == b' ');
    let (user, id, version) = (fields.next(), fields.next(), fields.next());
    let (Some(user), Some(id), Some(version), Some(_)) =
        (user, id, version, fields.next().and_then(network_address))
    else {
        return write_line(line, out);
    };
    out.extend_from_slice(b"o=");
    for field in [user, id, version] {
        out.extend_from_slice(field);
        out.push(b' ');
    }
    shown.write_address(out);
    out.extend_from_slice(line.end);
}
