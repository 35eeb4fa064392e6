//! Every section and key that config.ini may have, with default and meaning: the one table that the reader, its
//! suggestions and the documentation's tests go by.

/// A kind of section.
#[derive(Clone, Copy, Debug)]
pub struct SectionSpec {
    /// First word of its header: `user`.
    pub kind: &'static str,
    /// An example of the second word, for sections that have one; `None`: there is one such section.
    pub example: Option<&'static str>,
    /// Whether this version has it. Otherwise it is refused with `not yet in this version`.
    pub ready: bool,
    /// Its keys, in the order of the documentation.
    pub keys: &'static [KeySpec],
}

impl SectionSpec {
    /// The key of that name.
    pub fn key(&self, name: &str) -> Option<&'static KeySpec> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// A key of a section.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// Its name, exactly as in the file.
    pub name: &'static str,
    /// What holds when the key is not in the file, as it would be written there.
    pub default: &'static str,
    /// What it is for, in a few words.
    pub doc: &'static str,
    /// Whether this version has it. Otherwise it is refused, with any value.
    pub ready: bool,
    /// Whether the key may be written with nothing behind `=` although its default is something.
    pub may_be_empty: bool,
}

const fn key(name: &'static str, default: &'static str, doc: &'static str) -> KeySpec {
    KeySpec {
        name,
        default,
        doc,
        ready: true,
        may_be_empty: default.is_empty(),
    }
}

/// A key for which empty means something else than its default.
const fn or_empty(name: &'static str, default: &'static str, doc: &'static str) -> KeySpec {
    KeySpec {
        may_be_empty: true,
        ..key(name, default, doc)
    }
}

const fn later(name: &'static str, default: &'static str, doc: &'static str) -> KeySpec {
    KeySpec {
        ready: false,
        ..key(name, default, doc)
    }
}

/// The section kinds, in the order of the documentation.
pub fn known_keys() -> &'static [SectionSpec] {
    SECTIONS
}

/// The section of that kind.
pub(super) fn section(kind: &str) -> Option<&'static SectionSpec> {
    SECTIONS.iter().find(|section| section.kind == kind)
}

/// What local_networks is when it is not given: RFC 1918, RFC 4193, link-local and loopback.
pub(super) const LOCAL_NETWORKS: &str = "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7, \
    169.254.0.0/16, fe80::/10, 127.0.0.0/8, ::1/128";

const SECTIONS: &[SectionSpec] = &[
    SectionSpec {
        kind: "server",
        example: None,
        ready: true,
        keys: SERVER,
    },
    SectionSpec {
        kind: "tls",
        example: None,
        ready: false,
        keys: TLS,
    },
    SectionSpec {
        kind: "http",
        example: None,
        ready: true,
        keys: HTTP,
    },
    SectionSpec {
        kind: "registrar",
        example: None,
        ready: true,
        keys: REGISTRAR,
    },
    SectionSpec {
        kind: "guard",
        example: None,
        ready: true,
        keys: GUARD,
    },
    SectionSpec {
        kind: "call",
        example: None,
        ready: true,
        keys: CALL,
    },
    SectionSpec {
        kind: "media",
        example: None,
        ready: true,
        keys: MEDIA,
    },
    SectionSpec {
        kind: "user",
        example: Some("100"),
        ready: true,
        keys: USER,
    },
    SectionSpec {
        kind: "line",
        example: Some("carrier"),
        ready: true,
        keys: LINE,
    },
    SectionSpec {
        kind: "trunk",
        example: Some("office-b"),
        ready: true,
        keys: TRUNK,
    },
    SectionSpec {
        kind: "group",
        example: Some("200"),
        ready: true,
        keys: GROUP,
    },
    SectionSpec {
        kind: "route",
        example: Some("outside"),
        ready: true,
        keys: ROUTE,
    },
];

const SERVER: &[KeySpec] = &[
    key(
        "listen",
        "udp:0.0.0.0:5060, tcp:0.0.0.0:5060",
        "addresses to listen on",
    ),
    key(
        "domain",
        "",
        "SIP domains, the first is the digest realm; empty: any host is ours",
    ),
    key(
        "public_address",
        "",
        "address shown to the outside: an address, or auto (learned from the lines' answers)",
    ),
    key(
        "local_networks",
        LOCAL_NETWORKS,
        "who is shown the inside address",
    )
    .empty_is_default(),
    key("state", "sipkeep.db", "what the server learned"),
    key("cdr_keep", "400d", "how long call records are kept"),
    later(
        "run_as",
        "",
        "Unix user to become once the sockets are bound",
    ),
    key("log", "info", "error, warn, info, debug, trace"),
];

const TLS: &[KeySpec] = &[
    later("certificate", "", "PEM file"), //
    later("private_key", "", "PEM file"),
];

const HTTP: &[KeySpec] = &[
    or_empty(
        "listen",
        "127.0.0.1:8080",
        "address of the API; empty: no HTTP",
    ),
    key("token", "", "bearer token; empty: made at first start"),
    later(
        "legacy_openapi",
        "no",
        "answer in the manner of miniSIPServer to other hosts too",
    ),
];

const REGISTRAR: &[KeySpec] = &[
    key("digest", "md5", r#"md5, sha256, or "sha256, md5""#),
    key("expires_min", "60s", "shorter registrations are refused"),
    key(
        "expires_default",
        "10m",
        "for phones that do not ask for a time",
    ),
    key("expires_max", "1h", "longer registrations are shortened"),
    key(
        "nat_keepalive",
        "4s",
        "how often a phone behind a NAT is sent four bytes over UDP, or an OPTIONS; 0: never",
    ),
    key(
        "bindings_per_user_max",
        "10",
        "phones of one user at a time",
    ),
];

const GUARD: &[KeySpec] = &[
    key(
        "mode",
        "enforce",
        "enforce; observe: only say what would be done; off",
    ),
    key("failures_max", "5", "failed authentications ..."),
    key("failures_window", "60s", "... within this time ..."),
    key(
        "ban",
        "4h",
        "... ban the source for this long; each repetition doubles it ...",
    ),
    key("ban_max", "7d", "... up to this"),
    or_empty(
        "unproven_rate",
        "1",
        "answers a second to a source that has proved nothing ...",
    ),
    key("unproven_burst", "10", "... after this many at once"),
    or_empty(
        "unproven_total",
        "1000",
        "answers a second to all such sources together",
    ),
    or_empty("known_rate", "2000", "packets a second of one known source"),
    key(
        "allow",
        "",
        "addresses or blocks that are known from the start",
    ),
    key("deny", "", "addresses or blocks that are always discarded"),
    key(
        "kernel_filter",
        "auto",
        "drop banned sources inside the kernel",
    ),
    or_empty(
        "outside_calls_max",
        "2",
        "outside calls of one user at a time",
    ),
    or_empty(
        "new_destinations_per_hour",
        "20",
        "outside numbers that a user never called before",
    ),
];

const CALL: &[KeySpec] = &[
    key("ring_timeout", "60s", "how long a call rings"),
    or_empty("calls_max", "1000", "calls at a time"),
    key(
        "session_expires",
        "30m",
        "how long a call lasts that nobody refreshes (RFC 4028); 0: no session timers",
    ),
    key(
        "media_timeout",
        "60s",
        "how long a relayed call lasts without audio; 0: it does not matter",
    ),
    or_empty(
        "pickup",
        "*8",
        "code that takes what rings in one's groups, or with a number behind it what rings there",
    ),
    key(
        "feature_codes",
        "yes",
        "*72NUMBER forwards all calls, *73 none; *78 is do not disturb, *79 its end",
    ),
];

const MEDIA: &[KeySpec] = &[
    key(
        "relay",
        "auto",
        "auto: media passes through us where the two sides could not hear each other; always, never",
    ),
    key("ports", "16384-32767", "UDP ports of the relay"),
    key(
        "latch",
        "signalled",
        "signalled: RTP only from addresses that signalling or SDP named; any: the first comer",
    ),
];

const USER: &[KeySpec] = &[
    key(
        "password",
        "",
        "empty, without ha1_* and addresses: made at first start",
    ),
    key("ha1_md5", "", r#"instead of password, see "sipkeep ha1""#),
    key(
        "ha1_sha256",
        "",
        r#"instead of password, see "sipkeep ha1""#,
    ),
    key("display_name", "", "shown to who is called"),
    key(
        "addresses",
        "",
        "IP address authorization: 192.168.1.50, 192.168.1.64/28, [2001:db8::7]:5062 need no password",
    ),
    key("calls_max", "", "calls at a time, both directions together"),
    key("levels", "", "call levels that this user has"),
    later("caller_id", "", "number shown on outgoing calls"),
    key("do_not_disturb", "no", "incoming calls are refused"),
    key("forward_always", "", "number that all calls go to"),
    key(
        "forward_busy",
        "",
        "number that calls go to when the user is busy",
    ),
    key(
        "forward_no_answer",
        "",
        "number that calls go to when nobody answers",
    ),
    key(
        "forward_offline",
        "",
        "number that calls go to when no phone is registered",
    ),
    key(
        "forward_no_answer_after",
        "20s",
        "how long it rings before that",
    ),
    key(
        "store_messages",
        "no",
        "text messages are kept until a phone is there",
    ),
];

const LINE: &[KeySpec] = &[
    key("account", "", "user name at the carrier"),
    key("server", "", "the carrier's SIP server or logical domain"),
    key("outbound_proxy", "", "where messages really go"),
    key("password", "", "the account's password"),
    key(
        "realm",
        "",
        "empty: whatever the line's registrar names first",
    ),
    key("auth_user", "", "default: account"),
    key(
        "auth_user_with_domain",
        "no",
        "the user name of the digest is account@server",
    ),
    key("register", "yes", "whether to register"),
    key("expires", "1h", "how long a registration is asked for"),
    key("keepalive", "25s", "keeps the NAT mapping open; 0: none"),
    key("transport", "udp", "udp, tcp, tls"),
    key(
        "addresses",
        "",
        "further addresses that this carrier calls from",
    ),
    key(
        "incoming",
        "",
        "user, group or number that incoming calls go to",
    ),
    key("shared", "yes", "every local user may call out on it"),
    key("calls_max", "", "calls at a time"),
    key("ring_timeout", "", "how long its calls ring"),
    key("user_phone", "no", "add ;user=phone to Request-URIs"),
    key("uri_format", "sip", "sip, tel"),
    key("new_call_id", "no", "a fresh Call-ID for each REGISTER"),
];

const TRUNK: &[KeySpec] = &[
    key(
        "addresses",
        "",
        "the peer; without a port: any port of it, and 5060 to call it",
    ),
    key("transport", "udp", "udp, tcp"),
    key(
        "keepalive",
        "30s",
        "how often it is asked whether it is there (OPTIONS); 0: never",
    ),
    key(
        "incoming",
        "",
        "user, group or number that its calls go to; empty: by the called number",
    ),
    key("caller_id", "", "number shown on calls to it"),
    key(
        "request_uri_parameters",
        "",
        "parameters added to Request-URIs",
    ),
    key("uri_format", "sip", "sip, tel"),
    key("calls_in_max", "", "calls from it at a time"),
    key("calls_out_max", "", "calls to it at a time"),
    key(
        "next",
        "",
        "line:NAME or trunk:NAME to try when a call fails",
    ),
];

const GROUP: &[KeySpec] = &[
    key("members", "", "users that ring"),
    key(
        "strategy",
        "all",
        "all: at once; linear: one after the other; circular: the same, from behind the last one",
    ),
    key(
        "ring_timeout",
        "60s",
        "how long it rings, at each member if they ring one after the other",
    ),
    key(
        "next",
        "",
        "user, group or number that the call goes to when nobody answers",
    ),
];

const ROUTE: &[KeySpec] = &[
    key(
        "prefix",
        "",
        "the longest matching prefix wins; without this line: every number",
    ),
    key("strip", "0", "digits removed"),
    key("prepend", "", "digits put in front"),
    key("to", "", "line:, trunk:, user:, group: in the order to try"),
    key("level", "", "call level that a user needs"),
];

impl KeySpec {
    /// A key that may stand empty and then means its default.
    const fn empty_is_default(self) -> Self {
        Self {
            may_be_empty: true,
            ..self
        }
    }
}
