//! The lines of a session description and the few of them that are taken apart (RFC 8866 §5, §9).

use std::net::IpAddr;

/// A line: `c=IN IP4 192.0.2.1`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    /// Without its end.
    pub text: &'a [u8],
    /// CR LF, LF, or at the end of the description nothing or CR (RFC 8866 §5 has parsers take LF alone).
    pub end: &'a [u8],
}

/// The lines of a description, which they are again if they are put together.
pub(super) fn lines(description: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut rest = description;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let feed = memchr::memchr(b'\n', rest);
        let length = feed.map_or(rest.len(), |feed| feed.saturating_add(1));
        let (line, behind) = rest.split_at_checked(length)?;
        rest = behind;
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let (text, end) = line.split_at_checked(text.len())?;
        Some(Line { text, end })
    })
}

/// `m=KIND PORT[/COUNT] PROTOCOL ...`. Between two fields there may be several blanks.
pub(super) struct Media<'a> {
    pub kind: &'a [u8],
    pub port: u16,
    /// What stands behind the port and its count, from the blank on.
    pub rest: &'a [u8],
    pub protocol: &'a [u8],
}

/// `a=rtcp:PORT[ IN IP4 ADDRESS]`.
pub(super) struct RtcpLine<'a> {
    pub port: u16,
    pub address: Option<&'a [u8]>,
}

impl<'a> Line<'a> {
    /// Its letter; 0 if it is not that of a description.
    pub fn kind(&self) -> u8 {
        match self.text {
            [kind, b'=', ..] => *kind,
            _ => 0,
        }
    }

    /// What stands behind `=`.
    pub fn value(&self) -> &'a [u8] {
        self.text.get(2..).unwrap_or_default()
    }

    pub fn media(&self) -> Option<Media<'a>> {
        let value = self.value();
        let at = value.iter().position(|byte| *byte == b' ')?;
        let (kind, rest) = value.split_at_checked(at)?;
        let rest = rest.trim_ascii_start();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (port, rest) = rest.split_at_checked(digits)?;
        // `/COUNT`, which nobody uses for more than one.
        let end = rest.iter().position(|byte| *byte == b' ')?;
        let (count, rest) = rest.split_at_checked(end)?;
        let is_count = |count: &[u8]| count.iter().all(u8::is_ascii_digit);
        let is_right = count.is_empty() || count.strip_prefix(b"/").is_some_and(is_count);
        Some(Media {
            kind,
            port: number(port)?,
            rest,
            protocol: fields(rest)
                .next()
                .filter(|_| is_right && !kind.is_empty())?,
        })
    }

    /// The address of a `c=` line, if it is one that a packet can be sent to.
    pub fn connection(&self) -> Option<IpAddr> {
        network_address(self.value()).and_then(address)
    }

    pub fn rtcp(&self) -> Option<RtcpLine<'a>> {
        let value = self.value().strip_prefix(b"rtcp:")?.trim_ascii_end();
        let mut halves = value.splitn(2, |byte| *byte == b' ');
        let port = number(halves.next()?)?;
        let address = match halves.next() {
            Some(rest) => Some(network_address(rest)?),
            None => None,
        };
        Some(RtcpLine { port, address })
    }
}

/// `ADDRESS` of `IN IP4 ADDRESS`.
pub(super) fn network_address(value: &[u8]) -> Option<&[u8]> {
    let mut fields = fields(value.trim_ascii_end());
    let is_right = fields.next()? == b"IN" && matches!(fields.next()?, b"IP4" | b"IP6");
    let address = fields.next()?;
    (is_right && fields.next().is_none()).then_some(address)
}

/// What stands between blanks.
fn fields(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let fields = text.split(|byte| *byte == b' ');
    fields.filter(|field| !field.is_empty())
}

/// An address as text, if it is that of one host. A scope is of no meaning to others.
pub(super) fn address(text: &[u8]) -> Option<IpAddr> {
    let address: IpAddr = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(address.to_canonical()).filter(|address| !address.is_multicast())
}

/// Whether it is the address that means "none" (RFC 3264 §8.4).
pub(super) fn is_unspecified(text: &[u8]) -> bool {
    address(text).is_some_and(|address| address.is_unspecified())
}

fn number(digits: &[u8]) -> Option<u16> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    (std::str::from_utf8(digits).ok().filter(|_| is_number))?
        .parse()
        .ok()
}
