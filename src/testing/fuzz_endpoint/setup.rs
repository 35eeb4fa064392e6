//! Who takes part in a program, what they may say, and what has happened before it.

use std::path::Path;

use crate::config::Config;
use crate::source::Transport;
use crate::testing::dns::Manner;

pub(super) const CONFIG: &str = "[server]
listen = udp:192.0.2.1:5060, tcp:192.0.2.1:5060
[registrar]
bindings_per_user_max = 2
[guard]
unproven_burst = 1000
unproven_rate = 1000
MEDIA[call]
ring_timeout = 30s
calls_max = 4
[user alice]
password = fuzz-Phone-1
forward_offline = 200
forward_no_answer = 9030
forward_no_answer_after = 20s
[user bob]
store_messages = yes
password = fuzz-Phone-2
calls_max = 2
forward_busy = alice
[user 900]
addresses = 192.0.2.60
[group 200]
members = bob, 900, alice
strategy = circular
ring_timeout = 10s
next = 201
[group 201]
members = alice, bob
next = 8030
[trunk office]
addresses = 192.0.2.70:5060
keepalive = 40m
incoming = bob
[line gd]
account = +49302
server = carrier.example
outbound_proxy = 192.0.2.80:5060
password = Line-Secret-3
register = no
keepalive = 0
[line named]
account = +49303
server = carrier.example
password = Line-Secret-4
register = no
keepalive = 0
[route trunk]
prefix = 9
strip = 1
to = trunk:office
[route line]
prefix = 8
strip = 1
to = line:gd
";

/// What the name server knows at first.
pub(super) const ZONE: &str = "_sip._udp.carrier.example 7200 SRV 10 50 5060 a.carrier.example
_sip._udp.carrier.example 7200 SRV 10 50 5060 b.carrier.example
a.carrier.example 7200 A 192.0.2.81
b.carrier.example 7200 A 192.0.2.82
carrier.example SOA 900
";

/// How it behaves then.
pub(super) const MANNERS: [Manner; 5] = [
    Manner::Answers,
    Manner::Silent,
    Manner::Absent,
    Manner::Excuses,
    Manner::Forged,
];

/// Where the line's carrier is: nobody else ever sees what the line's password makes.
pub(super) const CARRIER: &str = "192.0.2.80:5060";

/// Name, user, address, connection, password.
pub(super) const AGENTS: [(&str, &str, &str, Transport, &str); 7] = [
    (
        "a",
        "alice",
        "192.0.2.10:5060",
        Transport::Udp,
        "fuzz-Phone-1",
    ),
    (
        "b",
        "bob",
        "192.0.2.20:5060",
        Transport::Udp,
        "fuzz-Phone-2",
    ),
    (
        "c",
        "bob",
        "192.0.2.30:41000",
        Transport::Tcp,
        "fuzz-Phone-2",
    ),
    ("d", "900", "192.0.2.60:5060", Transport::Udp, "-"),
    ("e", "+49301", "192.0.2.70:5060", Transport::Udp, "-"),
    ("f", "mallory", "203.0.113.9:5060", Transport::Udp, "guess"),
    ("g", "+49302", CARRIER, Transport::Udp, "-"),
];

pub(super) const PAUSES_MS: [u64; 12] = [
    0, 1, 20, 100, 500, 1_000, 2_000, 4_000, 31_000, 32_000, 61_000, 600_000,
];

pub(super) const METHODS: [&str; 14] = [
    "INVITE",
    "REGISTER",
    "BYE",
    "ACK",
    "CANCEL",
    "INVITE",
    "UPDATE",
    "INFO",
    "OPTIONS",
    "PRACK",
    "MESSAGE",
    "SUBSCRIBE",
    "REFER",
    "BREW",
];

pub(super) const TARGETS: [&str; 17] = [
    "",
    "sip:8030@pbx",
    "sip:bob@pbx",
    "sip:alice@pbx",
    "sip:900@pbx",
    "sip:9030@pbx",
    "sip:404@pbx",
    "tel:9030",
    "sip:200@pbx",
    "sip:201@pbx",
    "sip:*72900@pbx",
    "sip:*73@pbx",
    "sip:*8@pbx",
    "sip:*8bob@pbx",
    "sip:*8200@pbx",
    "sip:*78@pbx",
    "sip:*79@pbx",
];

pub(super) const STATUSES: [u16; 14] = [
    100, 180, 183, 200, 200, 200, 407, 302, 401, 408, 481, 486, 491, 603,
];

/// Statuses that ask for a password, and in which header.
pub(super) const CHALLENGES: [(u16, &str); 2] =
    [(401, "WWW-Authenticate"), (407, "Proxy-Authenticate")];

pub(super) const BODIES: [&str; 3] = ["", "none", "other"];

/// Steps of one program. More would only repeat, and many short programs find more than a few long ones.
pub(super) const STEPS_MAX: usize = 96;

/// Both of alice's and bob's UDP phones register: the first REGISTER of each is challenged.
pub(super) const REGISTERED: &[u8] = &[
    3, 0, 1, 0, 0, 3, 0, 1, 0, 0, // alice
    3, 1, 1, 0, 0, 3, 1, 1, 0, 0, // bob
];
/// Bob's other phone registers over TCP.
pub(super) const REGISTERED_TCP: &[u8] = &[3, 2, 1, 0, 0, 3, 2, 1, 0, 0];
/// Alice calls bob, whose phone rings.
pub(super) const RINGING: &[u8] = &[3, 0, 0, 2, 0, 7, 1, 1, 0];
/// Bob answers, alice acknowledges.
pub(super) const ANSWERED: &[u8] = &[7, 1, 3, 0, 3, 0, 3, 0, 0];
/// The trunk calls bob, who answers.
pub(super) const INCOMING: &[u8] = &[3, 4, 0, 2, 0, 7, 1, 3, 0, 3, 4, 3, 0, 0];
/// Alice calls out through the trunk, which answers.
pub(super) const OUTGOING: &[u8] = &[3, 0, 0, 5, 0, 7, 4, 3, 0, 3, 0, 3, 0, 0];

/// Alice calls out on the line, which asks for a password first.
pub(super) const ON_LINE: &[u8] = &[3, 0, 0, 1, 0, 7, 6, 6, 0, 7, 6, 3, 1, 3, 0, 3, 0, 0];

/// What has happened before a program begins, as programs.
pub(super) const BEFORE: [&[&[u8]]; 9] = [
    &[],
    &[REGISTERED],
    &[REGISTERED, REGISTERED_TCP],
    &[REGISTERED, RINGING],
    &[REGISTERED, RINGING, ANSWERED],
    &[REGISTERED, REGISTERED_TCP, RINGING],
    &[REGISTERED, INCOMING],
    &[REGISTERED, OUTGOING],
    &[REGISTERED, ON_LINE],
];

/// Packages that are subscribed to.
pub(super) const EVENTS: [&str; 3] = ["dialog", "message-summary", "conference"];

/// Session descriptions that not every phone sends: no audio, a stream that is refused, ports of somebody else's, two streams.
pub(super) const DESCRIPTIONS: [&str; 4] = [
    "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n",
    "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 0 RTP/AVP 8\r\n",
    "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 20000 RTP/AVP 8\r\na=rtcp:20003\r\n",
    "v=0\r\no=- 1 1 IN IP4 192.0.2.20\r\ns=-\r\nt=0 0\r\nm=audio 30000 RTP/AVP 8\r\nc=IN IP4 192.0.2.20\r\n\
     m=video 30002 RTP/AVP 99\r\nc=IN IP4 192.0.2.30\r\na=rtcp-mux\r\n",
];

/// Pairs of ports for that.
pub(super) const PORT_PAIRS: usize = 6;

/// The configuration, in which media is relayed or is not. There are fewer ports than calls could want.
pub(super) fn config(is_relayed: bool) -> Config {
    let media = if is_relayed {
        "[media]\nrelay = always\nports = 20000-20011\n"
    } else {
        ""
    };
    let text = CONFIG.replace("MEDIA", media);
    Config::read(&text, Path::new(".")).expect("the configuration above")
}
