//! Values of config.ini: durations, numbers, addresses, address blocks, names. Each function says what is wrong with
//! a text in words that follow `key: `.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{Host, Listen, PeerAddress, Prefix, PublicAddress, UriFormat};
use crate::source::Transport;

/// Bytes of a user's or trunk's name, a display name or a password.
pub(super) const NAME_BYTES_MAX: usize = 64;
pub(super) const TEXT_BYTES_MAX: usize = 128;

/// The widest blocks of addresses of a user: 10.0.0.0/8, and what a provider has of IPv6.
const BLOCK_BITS_MIN_V4: u8 = 8;
const BLOCK_BITS_MIN_V6: u8 = 32;

const SECOND: u64 = 1_000;
/// Units of durations in milliseconds, the longest first.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400 * SECOND),
    ("h", 3_600 * SECOND),
    ("m", 60 * SECOND),
    ("s", SECOND),
    ("ms", 1),
];

/// A text as it is shown in a mistake: quoted, printable, cut at 60 characters.
pub(super) fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    // escape_debug hides quotes behind a backslash, which the file does not have.
    shown = shown.replace("\\\"", "\"").replace("\\'", "'");
    let more = if text.chars().nth(60).is_some() {
        "…"
    } else {
        ""
    };
    format!("\"{shown}{more}\"")
}

/// Reads a duration with its unit: `500ms`, `60s`, `10m`, `4h`, `7d`.
///
/// # Errors
/// What is wrong with it, for people: no unit, not a number, too long to count.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(format!(
            "{} is not a duration, such as 500ms, 60s, 10m, 4h or 7d",
            quote(text)
        ));
    }
    if unit.is_empty() {
        let silly = number.len() > 9 || number.bytes().all(|digit| digit == b'0');
        let example = if silly { "60" } else { number };
        return Err(format!(
            "{} needs a unit (ms, s, m, h or d), as in {example}s or {example}m",
            quote(text)
        ));
    }
    let Some((_, unit_ms)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!(
            "{} has the unit {}, which is none of ms, s, m, h, d",
            quote(text),
            quote(unit)
        ));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*unit_ms))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{} is too long", quote(text)))
}

/// Writes a duration as config.ini has it, with the largest unit that needs no fraction; milliseconds at least.
pub fn duration_text(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".into();
    }
    let (unit, unit_ms) = UNITS
        .iter()
        .find(|(_, unit)| ms % unit == 0)
        .unwrap_or(&("ms", 1));
    format!("{}{unit}", ms / unit_ms)
}

/// A duration within bounds, both included.
pub(super) fn duration(text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    let value = parse_duration(text)?;
    if value < min || value > max {
        let (min, max) = (duration_text(min), duration_text(max));
        return Err(format!("{} is out of range, {min} to {max}", quote(text)));
    }
    Ok(value)
}

/// A duration of whole seconds within bounds.
pub(super) fn seconds(text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    let value = duration(text, min, max)?;
    if value.subsec_millis() != 0 {
        return Err(format!("{} is not a number of whole seconds", quote(text)));
    }
    Ok(value)
}

/// A whole number within bounds, both included.
pub(super) fn number(text: &str, min: u64, max: u64) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{} is not a whole number", quote(text)));
    }
    match text.parse::<u64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(format!("{} is out of range, {min} to {max}", quote(text))),
    }
}

/// A number of calls or a rate: empty means no limit, 0 none at all.
pub(super) fn limit(text: &str, max: u64) -> Result<Option<u64>, String> {
    if text.is_empty() {
        Ok(None)
    } else {
        number(text, 0, max).map(Some)
    }
}

/// `FIRST-LAST`: UDP ports, with at least one even one that the next one follows.
pub(super) fn ports(text: &str) -> Result<(u16, u16), String> {
    let wrong = || format!("{} is not as in 16384-32767", quote(text));
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let port = |text: &str| number(text.trim(), 1024, 65_535).map(|port| port as u16);
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(wrong());
    }
    match u32::from(first) + u32::from(first & 1) < u32::from(last) {
        true => Ok((first, last)),
        false => Err(format!("{} has no even port and the next one", quote(text))),
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names = || choices.iter().map(|(name, _)| *name);
    let all = names().collect::<Vec<_>>().join(", ");
    Err(format!(
        "{} is none of {all}{}",
        quote(text),
        did_you_mean(text, names())
    ))
}

/// An element of `[server] listen`; without a transport it is UDP and TCP.
pub(super) fn listen(text: &str) -> Result<Vec<Listen>, String> {
    let (transports, rest): (&[Transport], &str) = match text.split_once(':') {
        Some(("udp", rest)) => (&[Transport::Udp], rest),
        Some(("tcp", rest)) => (&[Transport::Tcp], rest),
        Some((scheme @ ("tls" | "ws" | "wss"), _)) => {
            return Err(format!("{scheme}: is not yet in this version"));
        }
        Some((scheme, _))
            if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && !is_ip(text) =>
        {
            let known = ["udp", "tcp", "tls", "ws", "wss"];
            let hint = did_you_mean(scheme, known.into_iter());
            return Err(format!("unknown transport {}{hint}", quote(scheme)));
        }
        _ => (&[Transport::Udp, Transport::Tcp], text),
    };
    let address = socket_address(rest, "udp:0.0.0.0:5060")?;
    Ok(transports
        .iter()
        .map(|&transport| Listen { transport, address })
        .collect())
}

/// An address and port to listen on.
pub(super) fn socket_address(text: &str, example: &str) -> Result<SocketAddr, String> {
    let Ok(mut address) = text.parse::<SocketAddr>() else {
        if is_ip(text) {
            return Err(format!("{} needs a port, as in {example}", quote(text)));
        }
        return Err(format!(
            "{} is not an IP address and port, as in {example}",
            quote(text)
        ));
    };
    if let IpAddr::V4(v4) = address.ip().to_canonical() {
        address.set_ip(IpAddr::V4(v4)); // the IPv4-mapped form is IPv4 for us
    }
    if address.port() == 0 {
        return Err(format!("{} has port 0", quote(text)));
    }
    if address.ip().is_multicast() || address.ip() == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(format!("{} is not an address of one host", quote(text)));
    }
    Ok(address)
}

fn is_ip(text: &str) -> bool {
    let inside = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    text.parse::<IpAddr>().is_ok() || inside.is_some_and(|t| t.parse::<Ipv6Addr>().is_ok())
}

/// RFC 3966 §5.1.1: visual separators say nothing.
pub fn without_separators(number: &[u8]) -> Cow<'_, [u8]> {
    let is_separator = |byte: &u8| matches!(byte, b'-' | b'.' | b'(' | b')' | b' ');
    match number.iter().any(is_separator) {
        true => (number.iter().copied())
            .filter(|byte| !is_separator(byte))
            .collect(),
        false => Cow::Borrowed(number),
    }
}

/// Codes that mean something else: [`Call::feature_codes`](super::Call::feature_codes).
const FEATURE_CODES: [&str; 4] = ["*72", "*73", "*78", "*79"];

/// Digits, `*` and `#` that are dialled for something to be done; empty: none.
pub(super) fn code(text: &str) -> Result<Option<String>, String> {
    let is_key = |letter: char| letter.is_ascii_digit() || matches!(letter, '*' | '#');
    if !text.chars().all(is_key) || text.len() > 8 {
        return Err(format!(
            "{text:?} is not a code, at most 8 of 0 to 9, * and #"
        ));
    }
    let mut codes = FEATURE_CODES.iter();
    if let Some(code) =
        codes.find(|code| !text.is_empty() && (text.starts_with(**code) || code.starts_with(text)))
    {
        return Err(format!("{text:?} is not to be told from the code {code}"));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// `auto`, or an address that others can send to.
pub(super) fn public_address(text: &str) -> Result<PublicAddress, String> {
    if text == "auto" {
        return Ok(PublicAddress::Auto);
    }
    let address = text.parse::<IpAddr>().map_err(|_| {
        format!(
            "{} is neither auto nor an address like 203.0.113.1",
            quote(text)
        )
    })?;
    let address = address.to_canonical();
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return Err(format!("nobody can send to {address}"));
    }
    Ok(PublicAddress::Address(address))
}

/// A peer's address with an optional port: `192.168.1.50`, `[2001:db8::7]:5062`, `2001:db8::7`.
pub(super) fn peer_address(text: &str) -> Result<PeerAddress, String> {
    if text.contains('/') {
        return prefix(text).and_then(|_| {
            Err(format!(
                "{} is a block of addresses, which only users have",
                quote(text)
            ))
        });
    }
    let inside = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    let (address, port) = if let Ok(address) = text.parse::<IpAddr>() {
        (address, None)
    } else if let Some(Ok(address)) = inside.map(str::parse::<Ipv6Addr>) {
        (IpAddr::V6(address), None)
    } else if let Ok(socket) = text.parse::<SocketAddr>() {
        (socket.ip(), Some(socket.port()))
    } else {
        return Err(format!("{} is not an IP address", quote(text)));
    };
    let address = address.to_canonical();
    if port == Some(0) {
        return Err(format!("{} has port 0", quote(text)));
    }
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified() || address.is_multicast() || broadcast {
        return Err(format!("{} is not an address of one host", quote(text)));
    }
    Ok(PeerAddress { address, port })
}

/// What a user is known by: [`peer_address`], or a block of addresses, which has no port.
pub(super) fn user_address(text: &str) -> Result<UserAddress, String> {
    let Some((_, length)) = text.split_once('/') else {
        return peer_address(text).map(UserAddress::Address);
    };
    if length.contains([':', ']']) {
        return Err(format!(
            "{} is a block with a port: write it without, its user is called where he last spoke from",
            quote(text)
        ));
    }
    let block = source_prefix(text)?;
    let (width, bits_min) = match block.address {
        IpAddr::V4(_) => (32, BLOCK_BITS_MIN_V4),
        IpAddr::V6(_) => (128, BLOCK_BITS_MIN_V6),
    };
    if block.bits < bits_min {
        return Err(format!(
            "{} is wider than /{bits_min}: everybody there would be this user",
            quote(text)
        ));
    }
    if block.bits < width {
        return Ok(UserAddress::Block(block));
    }
    Ok(UserAddress::Address(PeerAddress {
        address: block.address,
        port: None,
    }))
}

/// An element of a user's `addresses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserAddress {
    Address(PeerAddress),
    Block(Prefix),
}

/// An address or a CIDR block, `192.168.1.64/28`.
pub(super) fn prefix(text: &str) -> Result<Prefix, String> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let Ok(written) = address.parse::<IpAddr>() else {
        let what = if bits.is_some() {
            "a block of IP addresses"
        } else {
            "an IP address or block"
        };
        return Err(format!("{} is not {what}", quote(text)));
    };
    let width = if written.is_ipv4() { 32 } else { 128 };
    let mut bits = match bits {
        Some(bits) => number(bits, 0, width).map_err(|_| {
            format!(
                "{} has a prefix length that is not 0 to {width}",
                quote(text)
            )
        })?,
        None => width,
    };
    let address = written.to_canonical();
    if address.is_ipv4() && written.is_ipv6() {
        bits = bits
            .checked_sub(96)
            .ok_or_else(|| format!("{} mixes IPv4 and IPv6: write it as IPv4", quote(text)))?;
    }
    let bits = bits as u8; // at most 128
    let network = network_of(address, bits);
    if network != address {
        return Err(format!(
            "{} has bits set behind its length, did you mean \"{network}/{bits}\"?",
            quote(text)
        ));
    }
    Ok(Prefix { address, bits })
}

/// A prefix that packets can come from: not one of multicast addresses, and not the unspecified or the broadcast address.
pub(super) fn source_prefix(text: &str) -> Result<Prefix, String> {
    let prefix = prefix(text)?;
    let is_single = prefix.bits == if prefix.address.is_ipv4() { 32 } else { 128 };
    let is_broadcast = prefix.address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let why = match prefix.address {
        address if address.is_multicast() => "multicast",
        address if address.is_unspecified() && is_single => "the unspecified address",
        _ if is_broadcast => "the broadcast address",
        _ => return Ok(prefix),
    };
    Err(format!("{} is nobody's address: {why}", quote(text)))
}

/// The address with all bits behind the first `bits` cleared.
fn network_of(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32_u32.saturating_sub(bits))
                .unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(bits))
                .unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl Prefix {
    /// The block of this address alone.
    pub fn of(address: IpAddr) -> Self {
        let address = address.to_canonical();
        let bits = if address.is_ipv4() { 32 } else { 128 };
        Self { address, bits }
    }

    /// The block of so many bits that an address lies in.
    pub fn around(address: IpAddr, bits: u8) -> Self {
        let address = network_of(address.to_canonical(), bits);
        Self { address, bits }
    }

    /// Its first and last address as numbers: those of IPv6, with IPv4 where IPv4-mapped addresses are, so that both have
    /// one order.
    pub fn span(&self) -> (u128, u128) {
        let (first, bits) = match self.address {
            IpAddr::V4(v4) => (v4.to_ipv6_mapped(), u32::from(self.bits) + 96),
            IpAddr::V6(v6) => (v6, u32::from(self.bits)),
        };
        let first = first.to_bits();
        (first, first | u128::MAX.checked_shr(bits).unwrap_or(0))
    }

    /// Whether all of `other` lies in this block.
    pub fn covers(&self, other: &Self) -> bool {
        self.bits <= other.bits && self.contains(other.address)
    }

    /// Whether they have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// Whether `address` lies in this block; IPv4-mapped IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && network_of(address, self.bits) == self.address
    }
}

impl std::fmt::Display for Prefix {
    /// `192.168.1.64/28`; a single address without its length.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        if self.bits == width {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.bits)
        }
    }
}

impl std::fmt::Display for PeerAddress {
    /// `192.168.1.50`, `192.168.1.50:5062`, `[2001:db8::7]:5062`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(f),
            None => self.address.fmt(f),
        }
    }
}

impl std::fmt::Display for Listen {
    /// `udp:0.0.0.0:5060`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.transport.uri_token(), self.address)
    }
}

/// A SIP domain in lower case: a host name (RFC 3261 §25.1 `hostname`) or an address, IPv6 in brackets.
pub(super) fn domain(text: &str) -> Result<String, String> {
    let inside = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Ok(address) = inside.unwrap_or(text).parse::<IpAddr>() {
        return Ok(match address {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        });
    }
    let label = |label: &str| {
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        label.len() <= 63
            && edge(label.chars().next())
            && edge(label.chars().last())
            && label.chars().all(inner)
    };
    let all_digits = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if text.len() > 253 || all_digits || !text.split('.').all(label) {
        return Err(format!("{} is not a host name or an address", quote(text)));
    }
    Ok(text.to_ascii_lowercase())
}

/// The user part of an address-of-record that can stand in a URI unescaped (`#` goes out as %23).
pub(super) fn user_name(text: &str) -> Result<(), String> {
    name(text, "-_.+*#")
}

/// The name of a trunk or line.
pub(super) fn plain_name(text: &str) -> Result<(), String> {
    name(text, "-_.")
}

fn name(text: &str, others: &str) -> Result<(), String> {
    if text.len() > NAME_BYTES_MAX {
        return Err(format!(
            "the name is longer than {NAME_BYTES_MAX} characters"
        ));
    }
    match text
        .chars()
        .find(|&c| !(c.is_ascii_alphanumeric() || others.contains(c)))
    {
        Some(c) => Err(format!(
            "{} in the name: use letters, digits and {others}",
            quote(c.encode_utf8(&mut [0; 4]))
        )),
        None => Ok(()),
    }
}

/// The name of a call level.
pub(super) fn level(text: &str) -> Result<String, String> {
    plain_name(text).map(|()| text.to_owned())
}

/// What a dialled number may begin with, or what is put in front of one: digits, `*` and `#`, perhaps with `+` before them.
pub(super) fn digits(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_digit = |c: char| c.is_ascii_digit() || matches!(c, '*' | '#');
    if text.len() > NAME_BYTES_MAX {
        return Err(format!("is longer than {NAME_BYTES_MAX} digits"));
    }
    match digits.chars().find(|&c| !is_digit(c)) {
        Some(c) => {
            let found = quote(c.encode_utf8(&mut [0; 4]));
            Err(format!(
                "{found} is none of 0 to 9, * and #, or a + before them"
            ))
        }
        None => Ok(text.to_owned()),
    }
}

/// Parameters of a URI (RFC 3261 §25.1 `uri-parameters`) as they follow it. The first `;` may be left out: behind a blank it
/// begins a comment.
pub(super) fn uri_parameters(text: &str) -> Result<String, String> {
    let text = text.strip_prefix(';').unwrap_or(text);
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("is longer than {TEXT_BYTES_MAX} characters"));
    }
    let is_paramchar = |c: char| c.is_ascii_alphanumeric() || "-_.!~*'()[]/:&+$".contains(c);
    let is_word = |word: &str| !word.is_empty() && word.chars().all(is_paramchar);
    let mut parameters = String::new();
    for parameter in text.split(';').filter(|_| !text.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, "x"));
        if !is_word(name) || !is_word(value) {
            let example = "user=phone;cpc=ordinary";
            let shown = quote(parameter);
            return Err(format!(
                "{shown} is not a parameter of a URI, as in {example}"
            ));
        }
        parameters.push(';');
        parameters.push_str(parameter);
    }
    Ok(parameters)
}

/// `yes` or `no`.
pub(super) fn yes(text: &str) -> Result<bool, String> {
    choice(text, &[("yes", true), ("no", false)])
}

/// What a peer is reached over.
pub(super) fn transport(text: &str) -> Result<Transport, String> {
    match text {
        "tls" => Err("tls is not yet in this version".into()),
        _ => choice(text, &[("udp", Transport::Udp), ("tcp", Transport::Tcp)]),
    }
}

/// How a peer is told a number.
pub(super) fn uri_format(text: &str) -> Result<UriFormat, String> {
    choice(text, &[("sip", UriFormat::Sip), ("tel", UriFormat::Tel)])
}

/// `host`, `host:port`, the host being a name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn host(text: &str) -> Result<Host, String> {
    let inside_brackets = |at: usize| text.get(at..).is_some_and(|rest| rest.contains(']'));
    let (name, port) = match text.rfind(':').filter(|at| !inside_brackets(*at)) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    if name.contains(':') && !name.starts_with('[') {
        return Err(format!(
            "{} is not a host or host:port (an IPv6 address stands in brackets)",
            quote(text)
        ));
    }
    let port = match port {
        None => None,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => return Err(format!("{} is not a port", quote(port))),
        },
    };
    Ok(Host {
        name: domain(name)?,
        port,
    })
}

/// A user name or password that is sent in a digest: anything that can be shown, and stands in quotes.
pub(super) fn credential(text: &str) -> Result<String, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("is longer than {TEXT_BYTES_MAX} bytes"));
    }
    match text.chars().any(char::is_control) {
        true => Err("contains a control character".into()),
        false => Ok(text.to_owned()),
    }
}

/// A digest of `N` bytes in hexadecimal.
pub(super) fn hex<const N: usize>(text: &str) -> Result<[u8; N], String> {
    // The value is a secret and is not shown.
    let wrong = || format!(r#"is not {} hexadecimal digits, see "sipkeep ha1""#, N * 2);
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).ok_or_else(wrong);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Ok(bytes)
}

/// `, did you mean "password"?` if one of `candidates` is near `text`, else nothing.
pub(super) fn did_you_mean<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let most = |name: &str| (name.len() / 3).max(1);
    // Each letter that one has more is a step: most candidates need not be compared.
    let near = candidates.filter(|name| name.len().abs_diff(text.len()) <= most(name));
    let nearest = near.map(|name| (distance(text, name), name)).min();
    match nearest {
        Some((distance, name)) if distance <= most(name) => {
            format!(", did you mean \"{name}\"?")
        }
        _ => String::new(),
    }
}

/// Edit distance with exchanged neighbours as one step, upper and lower case as equal. Texts longer than any name
/// are at a distance that nothing accepts.
fn distance(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    if left.len() > NAME_BYTES_MAX || right.len() > NAME_BYTES_MAX {
        return usize::MAX;
    }
    let is_same = |i: usize, j: usize| left[i].eq_ignore_ascii_case(&right[j]);
    // The rows of the letter before last, of the last, and of this one.
    let mut rows = [[0_usize; NAME_BYTES_MAX + 1]; 3];
    for i in 0..=left.len() {
        rows.rotate_left(1);
        for j in 0..=right.len() {
            rows[2][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = usize::from(!is_same(i - 1, j - 1));
                let mut least = (rows[1][j] + 1)
                    .min(rows[2][j - 1] + 1)
                    .min(rows[1][j - 1] + change);
                if i > 1 && j > 1 && is_same(i - 1, j - 2) && is_same(i - 2, j - 1) {
                    least = least.min(rows[0][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[2][right.len()]
}
