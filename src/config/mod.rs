//! config.ini: text → (section, key, value, line) → typed [`Config`] with defaults, and every mistake at once.
//!
//! Reads no file: the shell hands over the bytes. `ini` knows lines, `keys` the names, `value` the forms of values,
//! `read` what fits together.

mod ini;
mod keys;
mod password;
mod read;
mod value;
mod warning;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::source::{GroupId, LineId, Transport, TrunkId, UserId};

pub use keys::{KeySpec, SectionSpec, known_keys};
pub use password::weakness as password_weakness;
pub use value::{duration_text, parse_duration, without_separators};

/// The whole configuration, all defaults filled in. Passwords may still be missing: see [`User::secret`].
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Config {
    pub server: Server,
    pub http: Http,
    pub registrar: Registrar,
    pub guard: Guard,
    pub call: Call,
    pub media: Media,
    pub users: Vec<User>,
    pub trunks: Vec<Trunk>,
    pub lines: Vec<Line>,
    pub groups: Vec<Group>,
    /// Never empty if there are trunks or shared lines: without any in the file there is [`Route::is_default`].
    pub routes: Vec<Route>,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Addresses to listen on.
    pub listen: Vec<Listen>,
    /// SIP domains, lower case; the first is the digest realm. Empty: realm `sipkeep`, any host is ours.
    pub domains: Vec<String>,
    /// What everybody else is shown in its place; `None`: the same.
    pub public_address: Option<PublicAddress>,
    /// Who is shown the inside address.
    pub local_networks: Vec<Prefix>,
    /// State file, resolved against the folder of the configuration file.
    pub state: PathBuf,
    /// How long call records are kept.
    pub cdr_keep: Duration,
    /// Log level.
    pub log: log::LevelFilter,
}

impl Server {
    /// The digest realm.
    pub fn realm(&self) -> &str {
        self.domains.first().map_or("sipkeep", String::as_str)
    }
}

/// `[server] public_address`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicAddress {
    /// This one, with the ports that we listen on.
    Address(IpAddr),
    /// What the lines' peers say that our packets come from.
    Auto,
}

/// One element of `listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listen {
    /// UDP or TCP.
    pub transport: Transport,
    /// Address (may be unspecified) and port.
    pub address: SocketAddr,
}

/// An address block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    /// Network address, canonical (IPv4-mapped as IPv4), host bits zero.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub bits: u8,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Http {
    /// `None`: no HTTP.
    pub listen: Option<SocketAddr>,
    /// Empty in the file: from the state file.
    pub token: Option<String>,
}

/// Digest algorithms offered, in the order of their challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DigestOffer {
    Md5,
    Sha256,
    Sha256AndMd5,
}

/// `[registrar]`
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Registrar {
    pub digest: DigestOffer,
    pub expires_min: Duration,
    pub expires_default: Duration,
    pub expires_max: Duration,
    pub bindings_per_user_max: usize,
    /// How often phones behind a NAT are sent something over UDP; `None`: never.
    pub nat_keepalive: Option<Duration>,
}

/// `[guard] mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum GuardMode {
    Enforce,
    Observe,
    Off,
}

/// `[guard]`; for a rate, `None` is no limit.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Guard {
    pub mode: GuardMode,
    pub failures_max: u32,
    pub failures_window: Duration,
    pub ban: Duration,
    pub ban_max: Duration,
    pub unproven_rate: Option<u32>,
    pub unproven_burst: u32,
    pub unproven_total: Option<u32>,
    pub known_rate: Option<u32>,
    pub allow: Vec<Prefix>,
    pub deny: Vec<Prefix>,
    /// Whether the kernel is asked to discard banned sources (`auto`), or not (`off`).
    pub kernel_filter: bool,
    /// Outside calls of one user at a time; `None`: no limit.
    pub outside_calls_max: Option<u32>,
    /// Outside numbers in an hour that a user never called before; `None`: no limit.
    pub new_destinations_per_hour: Option<u32>,
}

/// `[call]`
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Call {
    pub ring_timeout: Duration,
    pub calls_max: usize,
    /// The session interval that we want (RFC 4028), in whole seconds; `None`: no session timers.
    pub session_expires: Option<Duration>,
    /// How long a relayed call may have no audio; `None`: for ever.
    pub media_timeout: Option<Duration>,
    /// Whether users dial `*72NUMBER` and its like.
    pub feature_codes: bool,
    /// What is dialled to take a call that rings elsewhere; `None`: nothing.
    pub pickup: Option<String>,
}

/// `[media] relay`: which calls' media passes through us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaRelay {
    /// Those whose sides could not hear each other.
    Auto,
    /// All.
    Always,
    /// None.
    Never,
}

/// `[media] latch`: whose packets are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaLatch {
    /// Those from the address of the signalling or of the session description.
    Signalled,
    /// Those of whoever comes first.
    Any,
}

/// `[media]`
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Media {
    pub relay: MediaRelay,
    /// First and last UDP port; a pair of an even one and the next is among them.
    pub ports: (u16, u16),
    pub latch: MediaLatch,
}

/// What a user's credentials are made from.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// In clear.
    Password(String),
    /// `ha1_md5`, `ha1_sha256`: lower-case hex as `sipkeep ha1` prints them; at least one.
    Ha1 {
        /// MD5(user:realm:password)
        md5: Option<[u8; 16]>,
        /// SHA-256(user:realm:password)
        sha256: Option<[u8; 32]>,
    },
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// `[user NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// The section's name: the user part of its address-of-record.
    pub name: String,
    /// `None` in the file and without `addresses`: main fills in the generated password before anything runs.
    pub secret: Option<Secret>,
    /// Shown to callees; empty: none.
    pub display_name: String,
    /// IP address authorization: an address, and a port if one is given.
    pub addresses: Vec<PeerAddress>,
    /// The same for all addresses of a block.
    pub blocks: Vec<Prefix>,
    /// Calls at a time, both directions together.
    pub calls_max: Option<usize>,
    /// Call levels, for routes that ask for one.
    pub levels: Vec<String>,
    /// Nobody reaches him.
    pub do_not_disturb: bool,
    /// Who gets his calls in his place.
    pub forwards: Forwards,
    /// MESSAGEs that do not reach him are kept until he is there.
    pub stores_messages: bool,
    /// Line of the section in the file.
    pub line: usize,
}

/// Where a user's calls go on to: numbers that he may dial; `None`: nowhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forwards {
    /// All calls, at once.
    pub always: Option<String>,
    /// Those that come while he is busy.
    pub busy: Option<String>,
    /// Those that he does not answer ...
    pub no_answer: Option<String>,
    /// ... for so long.
    pub no_answer_after: Duration,
    /// Those that come while no phone of his is there.
    pub offline: Option<String>,
}

impl Forwards {
    /// The numbers with their keys.
    pub fn numbers(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("forward_always", self.always.as_deref()),
            ("forward_busy", self.busy.as_deref()),
            ("forward_no_answer", self.no_answer.as_deref()),
            ("forward_offline", self.offline.as_deref()),
        ]
    }
}

impl User {
    /// Whether an address says that it is he.
    pub fn is_by_address(&self) -> bool {
        !self.addresses.is_empty() || !self.blocks.is_empty()
    }

    /// His addresses and blocks as config.ini has them.
    pub fn address_texts(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(ToString::to_string);
        addresses
            .chain(self.blocks.iter().map(ToString::to_string))
            .collect()
    }
}

/// An address with an optional port: `192.168.1.50`, `[2001:db8::7]:5062`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct PeerAddress {
    pub address: IpAddr,
    pub port: Option<u16>,
}

/// `[trunk NAME]`
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Trunk {
    pub name: String,
    pub addresses: Vec<PeerAddress>,
    pub transport: Transport,
    /// How often it is asked whether it is there; `None`: not at all.
    pub keepalive: Option<Duration>,
    /// User or group that its calls go to, or number that they dial; `None`: by the called number.
    pub incoming: Option<String>,
    /// Number shown on calls to it; `None`: the caller's own.
    pub caller_id: Option<String>,
    /// What follows the Request-URI of calls to it: empty, or `;name=value` once or several times.
    pub request_uri_parameters: String,
    pub uri_format: UriFormat,
    /// Calls from it at a time.
    pub calls_in_max: Option<usize>,
    /// Calls to it at a time.
    pub calls_out_max: Option<usize>,
    /// The trunk or line to try when a call to this one fails.
    pub next: Option<Destination>,
    /// Line of the section in the file.
    pub line: usize,
}

/// `[line NAME]`: an account at a carrier.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Line {
    pub name: String,
    /// User part of its address-of-record.
    pub account: String,
    /// The carrier's SIP server or domain: in From, To, Request-URI and digest.
    pub server: Host,
    /// Where its packets go; `None`: to `server`.
    pub outbound_proxy: Option<Host>,
    pub password: Password,
    /// The digest realm; `None`: what its peer names first.
    pub realm: Option<String>,
    /// User name of the digest; `None`: the account.
    pub auth_user: Option<String>,
    /// The digest's user name is followed by `@` and the server.
    pub auth_user_with_domain: bool,
    pub register: bool,
    /// How long a registration is asked for, in whole seconds.
    pub expires: Duration,
    /// How often its NAT mapping is kept open; `None`: not at all.
    pub keepalive: Option<Duration>,
    pub transport: Transport,
    /// What this carrier calls from beside the server or proxy: trusted as a trunk's addresses are.
    pub addresses: Vec<PeerAddress>,
    /// User, group or number that its calls go to; `None`: by the called number.
    pub incoming: Option<String>,
    /// Whether every local user may call out on it, or only the one in `incoming`.
    pub shared: bool,
    /// Calls at a time, both directions together.
    pub calls_max: Option<usize>,
    /// How long its calls ring; `None`: as all others.
    pub ring_timeout: Option<Duration>,
    /// Request-URIs get `;user=phone` (RFC 3261 §19.1.1).
    pub user_phone: bool,
    pub uri_format: UriFormat,
    /// Each REGISTER has a Call-ID of its own, against RFC 3261 §10.2.4: for registrars that refuse a second one.
    pub new_call_id: bool,
    /// Line of the section in the file.
    pub line: usize,
}

impl Line {
    /// Where its packets go: to the proxy, if it has one.
    pub fn next_host(&self) -> &Host {
        self.outbound_proxy.as_ref().unwrap_or(&self.server)
    }
}

/// `host` or `host:port`: a domain, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Host {
    /// In lower case.
    pub name: String,
    pub port: Option<u16>,
}

impl Host {
    /// The address, if it is one and no name.
    pub fn address(&self) -> Option<IpAddr> {
        let name = self.name.trim_start_matches('[').trim_end_matches(']');
        Some(name.parse::<IpAddr>().ok()?.to_canonical())
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        match self.port {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}

/// A password in clear, which `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

/// `[group NAME]`: users who are rung for one number.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The section's name: the number. No user has the same.
    pub name: String,
    /// Places in [`Config::users`], in the order of the file: at least one, at most
    /// [`crate::limits::GROUP_MEMBERS_MAX`], nobody twice.
    pub members: Vec<UserId>,
    /// Who of them is rung when.
    pub strategy: Strategy,
    /// How long it rings; where they are rung one after the other, at each of them.
    pub ring_timeout: Duration,
    /// User, group or number that the call goes to when nobody answers.
    pub next: Option<String>,
    /// Line of the section in the file.
    pub line: usize,
}

/// `[group] strategy`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Everybody at once.
    All,
    /// One after the other, each time from the first.
    Linear,
    /// One after the other, each time from behind whoever was rung last.
    Circular,
}

impl Strategy {
    /// As the file has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Linear => "linear",
            Self::Circular => "circular",
        }
    }
}

/// How a trunk or line is told the number that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriFormat {
    /// `sip:NUMBER@PEER`
    Sip,
    /// `tel:NUMBER` (RFC 3966)
    Tel,
}

impl UriFormat {
    /// As the file has it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sip => "sip",
            Self::Tel => "tel",
        }
    }
}

/// `[route NAME]`: numbers that begin with its prefix go its way. Of several the one with the longest prefix counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Empty: not in the file.
    pub name: String,
    /// Digits, `*` and `#`, perhaps with `+` before them; empty: every number.
    pub prefix: String,
    /// Characters removed at the front of the number ...
    pub strip: usize,
    /// ... before these are put there.
    pub prepend: String,
    /// Who is called, in this order: the next one where the one before cannot be reached. At least one.
    pub to: Vec<Destination>,
    /// The call level that a user needs.
    pub level: Option<String>,
    /// Line of the section; 0: not in the file.
    pub line: usize,
}

impl Route {
    /// A leading 9 leads to these and is removed: what holds with lines or trunks but without any route in the file.
    fn outside(to: Vec<Destination>) -> Self {
        Self {
            name: String::new(),
            prefix: "9".into(),
            strip: 1,
            prepend: String::new(),
            to,
            level: None,
            line: 0,
        }
    }

    /// The route of a number without separators: that of the longest prefix. Without a number there is nothing to dial,
    /// whatever a route would put in front.
    pub fn of<'a>(routes: &'a [Self], number: &[u8]) -> Option<&'a Self> {
        (routes.iter())
            .filter(|route| !number.is_empty() && number.starts_with(route.prefix.as_bytes()))
            .max_by_key(|route| route.prefix.len())
    }

    /// The number as those are told it whom this route leads to; empty: nothing is left of it.
    pub fn translated(&self, number: &[u8]) -> Vec<u8> {
        let rest = number.get(self.strip..).unwrap_or_default();
        [self.prepend.as_bytes(), rest].concat()
    }

    /// Whether it is not in the file, but what holds without any.
    pub fn is_default(&self) -> bool {
        self.name.is_empty()
    }

    /// Whether calls that come from a trunk or line may go out to another one by it. Against toll fraud, since whoever dials a
    /// number of ours is anybody: the file must have it, say which numbers it is for, and ask for no level, which only
    /// users have.
    pub fn is_for_transit(&self) -> bool {
        !self.is_default() && !self.prefix.is_empty() && self.level.is_none()
    }
}

/// Who a route calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A trunk: its place in [`Config::trunks`].
    Trunk(TrunkId),
    /// A line: its place in [`Config::lines`].
    Line(LineId),
    /// A user: his place in [`Config::users`].
    User(UserId),
    /// A ringing group: its place in [`Config::groups`].
    Group(GroupId),
}

/// One mistake in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// 1-based.
    pub line: usize,
    /// `[user 100]`, or empty before any section.
    pub section: String,
    /// `unknown key "pasword", did you mean "password"?`
    pub text: String,
}

impl Mistake {
    /// The whole line for people: `config.ini:12: [user 100] unknown key "pasword", did you mean "password"?`.
    pub fn in_file(&self, file: &Path) -> String {
        let file = file.display();
        let line = if self.line == 0 {
            String::new()
        } else {
            format!(":{}", self.line)
        };
        let blank = if self.section.is_empty() { "" } else { " " };
        format!("{file}{line}: {}{blank}{}", self.section, self.text)
    }
}

impl Config {
    /// Reads a configuration. `folder` is that of the file.
    ///
    /// # Errors
    /// Every mistake, in the order of their lines; never empty.
    pub fn read(text: &str, folder: &Path) -> Result<Self, Vec<Mistake>> {
        read::read(text, folder)
    }

    /// Reads the bytes of the file at `path`, which says what `state` is relative to.
    ///
    /// # Errors
    /// As [`Config::read`]; bytes that are not UTF-8 are one mistake, on the line of the first such byte.
    pub fn read_bytes(bytes: &[u8], path: &Path) -> Result<Self, Vec<Mistake>> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::read(text, path.parent().unwrap_or(Path::new(""))),
            Err(error) => {
                let before = bytes.iter().take(error.valid_up_to());
                Err(vec![Mistake {
                    line: before.filter(|byte| **byte == b'\n').count() + 1,
                    section: String::new(),
                    text: "not UTF-8 text, save the file in that encoding".into(),
                }])
            }
        }
    }

    /// A destination as the file has it: `trunk:NAME`.
    pub fn destination_text(&self, to: Destination) -> String {
        let name = match to {
            Destination::Trunk(id) => {
                (self.trunks.get(id.0 as usize)).map(|own| ("trunk", &own.name))
            }
            Destination::Line(id) => (self.lines.get(id.0 as usize)).map(|own| ("line", &own.name)),
            Destination::User(id) => (self.users.get(id.0 as usize)).map(|own| ("user", &own.name)),
            Destination::Group(id) => {
                (self.groups.get(id.0 as usize)).map(|own| ("group", &own.name))
            }
        };
        name.map_or_else(String::new, |(kind, name)| format!("{kind}:{name}"))
    }

    /// What is allowed but worth a second look, in the order of the file as far as it has lines (0: none). In
    /// words for people, like mistakes.
    pub fn warnings(&self) -> Vec<Mistake> {
        warning::warnings(self)
    }
}

#[cfg(test)]
mod tests;
