//! Tests of the reader as its users see it: texts in, typed values or lines of mistakes out.

use super::*;

fn read(text: &str) -> Result<Config, Vec<String>> {
    let config = Config::read(text, Path::new("/etc/sipkeep"));
    config.map_err(|all| {
        all.iter()
            .map(|one| one.in_file(Path::new("config.ini")))
            .collect()
    })
}

#[test]
fn empty_file_runs_with_the_documented_defaults() {
    let config = read("").unwrap();
    let listen: Vec<String> = config
        .server
        .listen
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(listen, ["udp:0.0.0.0:5060", "tcp:0.0.0.0:5060"]);
    assert_eq!(config.server.realm(), "sipkeep");
    assert_eq!(config.server.state, Path::new("/etc/sipkeep/sipkeep.db"));
    assert_eq!(config.server.cdr_keep, Duration::from_secs(400 * 86_400));
    assert_eq!(config.server.log, log::LevelFilter::Info);
    assert_eq!(config.server.local_networks.len(), 8);
    assert_eq!(
        config.http,
        Http {
            listen: "127.0.0.1:8080".parse().ok(),
            token: None
        }
    );
    let registrar = Registrar {
        digest: DigestOffer::Md5,
        expires_min: Duration::from_secs(60),
        expires_default: Duration::from_secs(600),
        expires_max: Duration::from_secs(3_600),
        bindings_per_user_max: 10,
        nat_keepalive: Some(Duration::from_secs(4)),
    };
    assert_eq!(config.registrar, registrar);
    let guard = Guard {
        mode: GuardMode::Enforce,
        failures_max: 5,
        failures_window: Duration::from_secs(60),
        ban: Duration::from_secs(4 * 3_600),
        ban_max: Duration::from_secs(7 * 86_400),
        unproven_rate: Some(1),
        unproven_burst: 10,
        unproven_total: Some(1_000),
        known_rate: Some(2_000),
        allow: vec![],
        deny: vec![],
        kernel_filter: true,
        outside_calls_max: Some(2),
        new_destinations_per_hour: Some(20),
    };
    assert_eq!(config.guard, guard);
    assert_eq!(
        config.call,
        Call {
            ring_timeout: Duration::from_secs(60),
            calls_max: 1_000,
            session_expires: Some(Duration::from_secs(1_800)),
            media_timeout: Some(Duration::from_secs(60)),
            feature_codes: true,
            pickup: Some("*8".into()),
        }
    );
    assert_eq!(
        config.media,
        Media {
            relay: MediaRelay::Auto,
            ports: (16_384, 32_767),
            latch: MediaLatch::Signalled,
        }
    );
    assert_eq!((config.users.len(), config.trunks.len()), (0, 0));
    assert_eq!(config.warnings(), []);
}

/// The mistakes of a text that must have some.
fn mistakes(text: &str) -> Vec<String> {
    read(text).expect_err(text)
}

#[test]
fn all_keys_of_this_version_are_read() {
    let text = "\u{feff}; a comment\r\n\
        [server]\r\n\
        listen = udp:192.0.2.1:5062, tcp:[::]:5060\t; two\r\n\
        domain = PBX.example.com, [2001:DB8::1], 192.0.2.1\r\n\
        local_networks = 192.168.7.0/24,::ffff:10.0.0.0/104\r\n\
        state = /var/lib/sipkeep.db\r\n\
        cdr_keep = 7d\r\n\
        log = debug\r\n\
        \r\n\
        [ http ]\r\n\
        listen =\r\n\
        token = c29tZXRoaW5nbG9uZw==\r\n\
        [registrar]\r\n\
        digest = sha256,md5\r\n\
        expires_min = 30s\r\n\
        expires_default = 2m\r\n\
        expires_max = 2h\r\n\
        bindings_per_user_max = 3\r\n\
        [guard]\r\n\
        mode = observe\r\n\
        failures_max = 3\r\n\
        failures_window = 2m\r\n\
        ban = 500ms\r\n";
    // The ban is too short: the only mistake of this text.
    let expected = "config.ini:23: [guard] ban: \"500ms\" is out of range, 1s to 3650d";
    assert_eq!(mistakes(text), [expected]);
    let rest = "ban_max = 30d\n\
        unproven_rate =\n\
        unproven_burst = 0\n\
        unproven_total = 0\n\
        known_rate =\n\
        allow = 203.0.113.0/28, 2001:db8:1::/48\n\
        deny = 198.51.100.9\n\
        [call]\n\
        ring_timeout = 20s\n\
        calls_max = 0\n\
        session_expires = 0\n\
        media_timeout = 0\n\
        [user 100]\n\
        password = blue;horse#7   ; neither ; nor # behind a letter begins a comment\n\
        display_name = Zoë at the desk\n\
        addresses = 192.168.1.50, [2001:db8::7]:5062, ::ffff:192.168.1.51\n\
        calls_max = 2\n\
        [user bob.o-b_1+*#]\n\
        ha1_md5 = 0123456789abcdef0123456789ABCDEF\n\
        ha1_sha256 = 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n\
        [user 102]\n\
        [trunk office-b]\n\
        addresses = 192.168.1.50:5099, 198.51.100.4:5060\n\
        transport = tcp\n\
        incoming = bob.o-b_1+*#\n";
    let text = text.replace("500ms", "1d") + rest;
    let shared = "config.ini:46: [trunk office-b] addresses: 192.168.1.50:5099 is an address of \
        [user 100], line 39";
    assert_eq!(mistakes(&text), [shared]);
    let text = text.replace("50:5099", "52:5099");
    let config = read(&text).unwrap();
    let shown: Vec<String> = config
        .server
        .listen
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(shown, ["udp:192.0.2.1:5062", "tcp:[::]:5060"]);
    assert_eq!(
        config.server.domains,
        ["pbx.example.com", "[2001:db8::1]", "192.0.2.1"]
    );
    let shown: Vec<String> = config
        .server
        .local_networks
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(shown, ["192.168.7.0/24", "10.0.0.0/8"]);
    assert_eq!(config.server.state, Path::new("/var/lib/sipkeep.db"));
    assert_eq!(config.server.cdr_keep, Duration::from_secs(7 * 86_400));
    assert_eq!(config.server.log, log::LevelFilter::Debug);
    let token = Some("c29tZXRoaW5nbG9uZw==".to_owned());
    assert_eq!(
        config.http,
        Http {
            listen: None,
            token
        }
    );
    assert_eq!(config.registrar.digest, DigestOffer::Sha256AndMd5);
    assert_eq!(config.registrar.expires_min.as_secs(), 30);
    assert_eq!(config.registrar.expires_default.as_secs(), 120);
    assert_eq!(config.registrar.expires_max.as_secs(), 7_200);
    assert_eq!(config.registrar.bindings_per_user_max, 3);
    let guard = &config.guard;
    assert_eq!((guard.mode, guard.failures_max), (GuardMode::Observe, 3));
    assert_eq!(guard.failures_window.as_secs(), 120);
    assert_eq!(
        (guard.ban.as_secs(), guard.ban_max.as_secs()),
        (86_400, 30 * 86_400)
    );
    assert_eq!((guard.unproven_rate, guard.unproven_burst), (None, 0));
    assert_eq!((guard.unproven_total, guard.known_rate), (Some(0), None));
    assert!(guard.allow[1].contains("2001:db8:1:7::9".parse().unwrap()));
    assert!(guard.deny[0].contains("::ffff:198.51.100.9".parse().unwrap()));
    assert!(!guard.deny[0].contains("198.51.100.8".parse().unwrap()));
    assert_eq!(
        config.call,
        Call {
            ring_timeout: Duration::from_secs(20),
            calls_max: 0,
            session_expires: None,
            media_timeout: None,
            feature_codes: true,
            pickup: Some("*8".into()),
        }
    );
    let [first, bob, third] = &config.users[..] else {
        panic!("three users")
    };
    assert_eq!(
        (first.name.as_str(), first.line, first.calls_max),
        ("100", 36, Some(2))
    );
    assert_eq!(first.secret, Some(Secret::Password("blue;horse#7".into())));
    assert_eq!(first.display_name, "Zoë at the desk");
    let shown: Vec<String> = first.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["192.168.1.50", "[2001:db8::7]:5062", "192.168.1.51"]
    );
    let Some(Secret::Ha1 {
        md5: Some(md5),
        sha256: Some(sha256),
    }) = &bob.secret
    else {
        panic!("two digests");
    };
    assert_eq!((md5[0], md5[15], sha256[31]), (0x01, 0xef, 0x1f));
    assert_eq!((third.secret.clone(), third.calls_max), (None, None));
    let [trunk] = &config.trunks[..] else {
        panic!("one trunk")
    };
    assert_eq!(
        (trunk.name.as_str(), trunk.transport),
        ("office-b", Transport::Tcp)
    );
    assert_eq!(trunk.incoming.as_deref(), Some("bob.o-b_1+*#"));
    assert_eq!(trunk.addresses[1].port, Some(5060));
}

/// A text, and the mistakes in it without `config.ini:`.
const WRONG: &[(&str, &[&str])] = &[
    // Lines
    ("listen = 1", &["1: key \"listen\" before any [section]"]),
    ("hello", &["1: expected \"key = value\" or \"[section]\""]),
    ("[guard]\n= 5", &["2: [guard] nothing before \"=\""]),
    (
        "[guard]\nban\u{1} = 4h",
        &["2: [guard] control character U+0001"],
    ),
    (
        "[guard]\nban = 4h\rmode = off",
        &["2: [guard] control character U+000D"],
    ),
    (
        "[guard",
        &["1: [guard] missing \"]\" (a blank before # or ; begins a comment)"],
    ),
    (
        "[user #1]",
        &[
            "1: [user] missing \"]\" (a blank before # or ; begins a comment)",
            "1: [user] needs a name, as in [user 100]",
        ],
    ),
    ("[guard] mode = off", &["1: [guard] text after \"]\""]),
    ("[]\nanything = 1", &["1: [] section without a name"]),
    ("[user 1 2]", &["1: [user 1] a section's name is one word"]),
    // Sections
    (
        "[usr 100]\npassword = x",
        &["1: [usr 100] unknown section \"usr\", did you mean \"user\"?"],
    ),
    (
        "[Guard]",
        &["1: [Guard] unknown section \"Guard\", did you mean \"guard\"?"],
    ),
    (
        "[elephant]",
        &["1: [elephant] unknown section \"elephant\""],
    ),
    ("[user]", &["1: [user] needs a name, as in [user 100]"]),
    (
        "[trunk]\naddresses = 192.0.2.1",
        &["1: [trunk] needs a name, as in [trunk office-b]"],
    ),
    (
        "[server main]",
        &["1: [server main] there is one section [server], without a name"],
    ),
    (
        "[user a@b]",
        &["1: [user a@b] \"@\" in the name: use letters, digits and -_.+*#"],
    ),
    (
        "[user Zoë]",
        &["1: [user Zoë] \"ë\" in the name: use letters, digits and -_.+*#"],
    ),
    (
        "[trunk a+b]\naddresses = 192.0.2.1",
        &["1: [trunk a+b] \"+\" in the name: use letters, digits and -_."],
    ),
    (
        "[user 100]\n\n[user 100]",
        &["3: [user 100] duplicate section, the first is on line 1"],
    ),
    (
        "[call]\n[guard]\n[call]",
        &["3: [call] duplicate section, the first is on line 1"],
    ),
    // Keys
    (
        "[user 100]\npasword = x",
        &["2: [user 100] unknown key \"pasword\", did you mean \"password\"?"],
    ),
    (
        "[user 100]\nPassword = x",
        &["2: [user 100] unknown key \"Password\", did you mean \"password\"?"],
    ),
    (
        "[guard]\nabn = 4h",
        &["2: [guard] unknown key \"abn\", did you mean \"ban\"?"],
    ),
    (
        "[guard]\nring_timeout = 4s",
        &["2: [guard] unknown key \"ring_timeout\", it belongs in [call]"],
    ),
    (
        "[call]\nmembers = 1",
        &["2: [call] unknown key \"members\", it belongs in [group 200]"],
    ),
    (
        "[guard]\nelephant = 4h",
        &["2: [guard] unknown key \"elephant\""],
    ),
    (
        "[guard]\nban = 4h\nban = 5h",
        &["3: [guard] duplicate key \"ban\", the first is on line 2"],
    ),
    // What comes later: refused with any value, also its default
    (
        "[tls]\ncertificate = a.pem",
        &["1: [tls] not yet in this version"],
    ),
    (
        "[line gd-ims]\nacount = 1",
        &[
            "1: [line gd-ims] account: is needed, as in account = +8612345678",
            "1: [line gd-ims] server: is needed, as in server = sip.example.com",
            "2: [line gd-ims] unknown key \"acount\", did you mean \"account\"?",
        ],
    ),
    (
        "[group 200]\nmembers = 100",
        &["2: [group 200] members: no user \"100\""],
    ),
    (
        "[server]\npublic_address = 0.0.0.0",
        &["2: [server] public_address: nobody can send to 0.0.0.0"],
    ),
    (
        "[server]\npublic_address = pbx.example.com",
        &[
            "2: [server] public_address: \"pbx.example.com\" is neither auto nor an address like 203.0.113.1",
        ],
    ),
    (
        "[http]\nlegacy_openapi = no",
        &["2: [http] legacy_openapi: not yet in this version"],
    ),
    (
        "[guard]\noutside_calls_max = 100001\nnew_destinations_per_hour = 513",
        &[
            "2: [guard] outside_calls_max: \"100001\" is out of range, 0 to 100000",
            "3: [guard] new_destinations_per_hour: \"513\" is out of range, 0 to 512",
        ],
    ),
    (
        "[guard]\nkernel_filter = yes",
        &["2: [guard] kernel_filter: \"yes\" is none of auto, off"],
    ),
    (
        "[user 1]\nstore_messages = 7",
        &["2: [user 1] store_messages: \"7\" is none of yes, no"],
    ),
    // Durations
    (
        "[guard]\nban = 4",
        &["2: [guard] ban: \"4\" needs a unit (ms, s, m, h or d), as in 4s or 4m"],
    ),
    (
        "[guard]\nban = 0",
        &["2: [guard] ban: \"0\" needs a unit (ms, s, m, h or d), as in 60s or 60m"],
    ),
    (
        "[guard]\nban = 4w",
        &["2: [guard] ban: \"4w\" has the unit \"w\", which is none of ms, s, m, h, d"],
    ),
    (
        "[guard]\nban = 1h30m",
        &["2: [guard] ban: \"1h30m\" has the unit \"h30m\", which is none of ms, s, m, h, d"],
    ),
    (
        "[guard]\nban = -4h",
        &["2: [guard] ban: \"-4h\" is not a duration, such as 500ms, 60s, 10m, 4h or 7d"],
    ),
    (
        "[guard]\nban = 0s",
        &["2: [guard] ban: \"0s\" is out of range, 1s to 3650d"],
    ),
    (
        "[guard]\nban = 99999999999999999999d",
        &["2: [guard] ban: \"99999999999999999999d\" is too long"],
    ),
    (
        "[guard]\nban = 18446744073709551615d",
        &["2: [guard] ban: \"18446744073709551615d\" is too long"],
    ),
    (
        "[guard]\nban =",
        &["2: [guard] ban: is empty; without this line it is 4h"],
    ),
    (
        "[guard]\nban = \"4h\"",
        &["2: [guard] ban: values are written without quotes"],
    ),
    (
        "[guard]\nban = 2d\nban_max = 1d",
        &["3: [guard] ban_max: 1d is less than ban (2d)"],
    ),
    (
        "[guard]\nban_max = 1d\nban = 2d",
        &["3: [guard] ban: 2d is more than ban_max (1d)"],
    ),
    (
        "[registrar]\nexpires_min = 1500ms",
        &["2: [registrar] expires_min: \"1500ms\" is not a number of whole seconds"],
    ),
    (
        "[registrar]\nexpires_min = 2h",
        &["2: [registrar] expires_min: \"2h\" is out of range, 1s to 1h"],
    ),
    (
        "[registrar]\nexpires_default = 30s\nexpires_min = 60s",
        &["3: [registrar] expires_min: 1m is more than expires_default (30s)"],
    ),
    (
        "[registrar]\nexpires_default = 30m\nexpires_max = 20m",
        &["3: [registrar] expires_max: 20m is less than expires_default (30m)"],
    ),
    (
        "[media]\nrelay = yes\nports = 20000-20000\nlatch = on",
        &[
            "2: [media] relay: \"yes\" is none of auto, always, never",
            "3: [media] ports: \"20000-20000\" has no even port and the next one",
            "4: [media] latch: \"on\" is none of signalled, any",
        ],
    ),
    (
        "[media]\nports = 20000\n[call]\nmedia_timeout = 1ms",
        &[
            "2: [media] ports: \"20000\" is not as in 16384-32767",
            "4: [call] media_timeout: \"1ms\" is out of range, 1s to 1d",
        ],
    ),
    (
        "[media]\nports = 20001-20002",
        &["2: [media] ports: \"20001-20002\" has no even port and the next one"],
    ),
    (
        "[media]\nports = 9000-8000",
        &["2: [media] ports: \"9000-8000\" is not as in 16384-32767"],
    ),
    (
        "[call]\npickup = pick",
        &["2: [call] pickup: \"pick\" is not a code, at most 8 of 0 to 9, * and #"],
    ),
    (
        "[call]\npickup = *7",
        &["2: [call] pickup: \"*7\" is not to be told from the code *72"],
    ),
    (
        "[call]\nsession_expires = 60s",
        &["2: [call] session_expires: \"60s\" is out of range, 90s to 1d"],
    ),
    (
        "[call]\nsession_expires = 1800",
        &[
            "2: [call] session_expires: \"1800\" needs a unit (ms, s, m, h or d), as in 1800s or 1800m",
        ],
    ),
    // A wrong value is one mistake, not two
    (
        "[registrar]\nexpires_min = 60\nexpires_max = 30s",
        &["2: [registrar] expires_min: \"60\" needs a unit (ms, s, m, h or d), as in 60s or 60m"],
    ),
    // Numbers
    (
        "[guard]\nfailures_max = five",
        &["2: [guard] failures_max: \"five\" is not a whole number"],
    ),
    (
        "[guard]\nfailures_max = 0",
        &["2: [guard] failures_max: \"0\" is out of range, 1 to 10000"],
    ),
    (
        "[guard]\nunproven_rate = -1",
        &["2: [guard] unproven_rate: \"-1\" is not a whole number"],
    ),
    (
        "[guard]\nunproven_burst =",
        &["2: [guard] unproven_burst: is empty; without this line it is 10"],
    ),
    (
        "[guard]\nknown_rate = 99999999999999999999",
        &["2: [guard] known_rate: \"99999999999999999999\" is out of range, 0 to 10000000"],
    ),
    (
        "[call]\ncalls_max = 1e3",
        &["2: [call] calls_max: \"1e3\" is not a whole number"],
    ),
    (
        "[registrar]\nbindings_per_user_max = 0",
        &["2: [registrar] bindings_per_user_max: \"0\" is out of range, 1 to 100"],
    ),
    // Words
    (
        "[guard]\nmode = enforced",
        &[
            "2: [guard] mode: \"enforced\" is none of enforce, observe, off, did you mean \"enforce\"?",
        ],
    ),
    (
        "[server]\nlog = verbose",
        &["2: [server] log: \"verbose\" is none of error, warn, info, debug, trace"],
    ),
    (
        "[registrar]\ndigest = md5, sha256",
        &["2: [registrar] digest: \"md5, sha256\" is none of md5, sha256 and \"sha256, md5\""],
    ),
    // Addresses
    (
        "[server]\nlisten = upd:0.0.0.0:5060",
        &["2: [server] listen: unknown transport \"upd\", did you mean \"udp\"?"],
    ),
    (
        "[server]\nlisten = tls:0.0.0.0:5061",
        &["2: [server] listen: tls: is not yet in this version"],
    ),
    (
        "[server]\nlisten = wss:[::]:443",
        &["2: [server] listen: wss: is not yet in this version"],
    ),
    (
        "[server]\nlisten = udp:0.0.0.0",
        &["2: [server] listen: \"0.0.0.0\" needs a port, as in udp:0.0.0.0:5060"],
    ),
    (
        "[server]\nlisten = ::1",
        &["2: [server] listen: \"::1\" needs a port, as in udp:0.0.0.0:5060"],
    ),
    (
        "[server]\nlisten = udp:0.0.0.0:70000",
        &[
            "2: [server] listen: \"0.0.0.0:70000\" is not an IP address and port, as in udp:0.0.0.0:5060",
        ],
    ),
    (
        "[server]\nlisten = udp:0.0.0.0:0",
        &["2: [server] listen: \"0.0.0.0:0\" has port 0"],
    ),
    (
        "[server]\nlisten = udp:localhost:5060",
        &[
            "2: [server] listen: \"localhost:5060\" is not an IP address and port, as in udp:0.0.0.0:5060",
        ],
    ),
    (
        "[server]\nlisten = udp:224.0.1.75:5060",
        &["2: [server] listen: \"224.0.1.75:5060\" is not an address of one host"],
    ),
    (
        "[server]\nlisten =",
        &[
            "2: [server] listen: is empty; without this line it is udp:0.0.0.0:5060, tcp:0.0.0.0:5060",
        ],
    ),
    (
        "[server]\nlisten = udp:0.0.0.0:5060, 0.0.0.0:5060",
        &["2: [server] listen: \"udp:0.0.0.0:5060\" is there twice"],
    ),
    (
        "[server]\nlisten = tcp:0.0.0.0:5060, tcp:127.0.0.1:5060",
        &["2: [server] listen: \"tcp:127.0.0.1:5060\" and \"tcp:0.0.0.0:5060\" overlap"],
    ),
    (
        "[server]\nlisten = udp:1, ,tcp:2",
        &[
            "2: [server] listen: \"1\" is not an IP address and port, as in udp:0.0.0.0:5060",
            "2: [server] listen: an element of the list is empty",
            "2: [server] listen: \"2\" is not an IP address and port, as in udp:0.0.0.0:5060",
        ],
    ),
    (
        "[http]\nlisten = 8080",
        &["2: [http] listen: \"8080\" is not an IP address and port, as in 127.0.0.1:8080"],
    ),
    (
        "[http]\ntoken = a b",
        &["2: [http] token: may have letters, digits and -._~+/= only"],
    ),
    (
        "[server]\ndomain = pbx_1.example",
        &["2: [server] domain: \"pbx_1.example\" is not a host name or an address"],
    ),
    (
        "[server]\ndomain = a.example, A.example",
        &["2: [server] domain: \"a.example\" is there twice"],
    ),
    (
        "[server]\ndomain = 1.2.3",
        &["2: [server] domain: \"1.2.3\" is not a host name or an address"],
    ),
    (
        "[guard]\nallow = 10.0.0.1/8",
        &[
            "2: [guard] allow: \"10.0.0.1/8\" has bits set behind its length, did you mean \"10.0.0.0/8\"?",
        ],
    ),
    (
        "[guard]\nallow = 10.0.0.0/33",
        &["2: [guard] allow: \"10.0.0.0/33\" has a prefix length that is not 0 to 32"],
    ),
    (
        "[guard]\nallow = ::ffff:10.0.0.0/64",
        &["2: [guard] allow: \"::ffff:10.0.0.0/64\" mixes IPv4 and IPv6: write it as IPv4"],
    ),
    (
        "[guard]\ndeny = example.com",
        &["2: [guard] deny: \"example.com\" is not an IP address or block"],
    ),
    (
        "[guard]\nallow = ::\ndeny = ff02::1, 224.0.0.0/4, 0.0.0.0, 255.255.255.255",
        &[
            "2: [guard] allow: \"::\" is nobody's address: the unspecified address",
            "3: [guard] deny: \"ff02::1\" is nobody's address: multicast",
            "3: [guard] deny: \"224.0.0.0/4\" is nobody's address: multicast",
            "3: [guard] deny: \"0.0.0.0\" is nobody's address: the unspecified address",
            "3: [guard] deny: \"255.255.255.255\" is nobody's address: the broadcast address",
        ],
    ),
    (
        "[guard]\nallow = 192.0.2.0/24\ndeny = 192.0.2.0/24",
        &["3: [guard] deny: 192.0.2.0/24 is in allow as well"],
    ),
    (
        "[user 1]\naddresses = 192.168.1.64/28:5060, [2001:db8::/64]:5060, 0.0.0.0/0, 2001::/16, 224.0.0.0/24",
        &[
            "2: [user 1] addresses: \"192.168.1.64/28:5060\" is a block with a port: write it without, its user is called where he last spoke from",
            "2: [user 1] addresses: \"[2001:db8::/64]:5060\" is a block with a port: write it without, its user is called where he last spoke from",
            "2: [user 1] addresses: \"0.0.0.0/0\" is wider than /8: everybody there would be this user",
            "2: [user 1] addresses: \"2001::/16\" is wider than /32: everybody there would be this user",
            "2: [user 1] addresses: \"224.0.0.0/24\" is nobody's address: multicast",
        ],
    ),
    (
        "[trunk b]\naddresses = 192.168.1.64/28",
        &[
            "2: [trunk b] addresses: \"192.168.1.64/28\" is a block of addresses, which only users have",
        ],
    ),
    (
        "[user 1]\naddresses = 10.0.0.0/24, 10.0.0.0/24, ::ffff:10.0.0.128/121",
        &[
            "2: [user 1] addresses: 10.0.0.0/24 is there twice",
            "2: [user 1] addresses: 10.0.0.128/25 and 10.0.0.0/24 overlap",
        ],
    ),
    (
        "[user 1]\naddresses = 10.0.0.0/24, 2001:db8::/64\n[user 2]\naddresses = 10.0.0.64/28, 10.0.1.1\n\
         [user 3]\naddresses = 10.0.0.0/16, 2001:db8::/56\n[user 4]\naddresses = 10.0.0.7\n\
         [trunk b]\naddresses = [2001:db8::9]:5060",
        &[
            "4: [user 2] addresses: 10.0.0.64/28 overlaps 10.0.0.0/24 of [user 1], line 2",
            "6: [user 3] addresses: 10.0.0.0/16 overlaps 10.0.0.0/24 of [user 1], line 2",
            "6: [user 3] addresses: 2001:db8::/56 overlaps 2001:db8::/64 of [user 1], line 2",
            "8: [user 4] addresses: 10.0.0.7 lies in 10.0.0.0/24 of [user 1], line 2",
            "10: [trunk b] addresses: 2001:db8::9 lies in 2001:db8::/64 of [user 1], line 2",
        ],
    ),
    (
        "[user 1]\naddresses = 10.0.0.1:5060\n[trunk b]\naddresses = 10.0.0.1:5070\ntransport = tcp",
        &["4: [trunk b] addresses: 10.0.0.1:5070 is an address of [user 1], line 2"],
    ),
    (
        "[user 1]\naddresses = 192.168.1.65/28",
        &[
            "2: [user 1] addresses: \"192.168.1.65/28\" has bits set behind its length, did you mean \"192.168.1.64/28\"?",
        ],
    ),
    (
        "[user 1]\naddresses = phone.example",
        &["2: [user 1] addresses: \"phone.example\" is not an IP address"],
    ),
    (
        "[user 1]\naddresses = 0.0.0.0",
        &["2: [user 1] addresses: \"0.0.0.0\" is not an address of one host"],
    ),
    (
        "[user 1]\naddresses = 10.0.0.1:0",
        &["2: [user 1] addresses: \"10.0.0.1:0\" has port 0"],
    ),
    (
        "[user 1]\naddresses = 10.0.0.1, ::ffff:10.0.0.1",
        &["2: [user 1] addresses: 10.0.0.1 is there twice"],
    ),
    (
        "[user 1]\naddresses = 10.0.0.1:5060\n[trunk b]\naddresses = 10.0.0.1",
        &["4: [trunk b] addresses: 10.0.0.1 is an address of [user 1], line 2"],
    ),
    // Users
    (
        "[user 100]\npassword = 100",
        &["2: [user 100] password: is equal to the user name"],
    ),
    (
        "[user Bob]\npassword = bOB",
        &["2: [user Bob] password: is equal to the user name"],
    ),
    (
        "[user 100]\npassword = 001",
        &["2: [user 100] password: is the user name reversed"],
    ),
    (
        "[user 100]\npassword = PassWord",
        &["2: [user 100] password: is one of the common passwords that are tried first"],
    ),
    (
        "[user 100]\npassword = 1234",
        &["2: [user 100] password: is a plain sequence of digits"],
    ),
    (
        "[user 100]\npassword = 987654",
        &["2: [user 100] password: is a plain sequence of digits"],
    ),
    (
        "[user 100]\npassword = 0000",
        &["2: [user 100] password: is a plain sequence of digits"],
    ),
    (
        "[user 100]\npassword = 67890123",
        &["2: [user 100] password: is a plain sequence of digits"],
    ),
    (
        "[user 1]\nha1_md5 = 00",
        &["2: [user 1] ha1_md5: is not 32 hexadecimal digits, see \"sipkeep ha1\""],
    ),
    (
        "[user 1]\npassword = tall;tree\nha1_md5 = 0123456789abcdef0123456789abcdef",
        &["2: [user 1] password: there is ha1_md5 or ha1_sha256 as well, keep one of them"],
    ),
    (
        "[registrar]\ndigest = sha256\n[user 1]\nha1_md5 = 0123456789abcdef0123456789abcdef",
        &["4: [user 1] ha1_sha256 is missing, [registrar] digest offers sha256"],
    ),
    (
        "[user 1]\nha1_sha256 = 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        &["2: [user 1] ha1_md5 is missing, [registrar] digest offers md5"],
    ),
    (
        "[user 1]\ndisplay_name = a \"b\" c",
        &["2: [user 1] display_name: must not contain \" or \\"],
    ),
    // Trunks
    (
        "[trunk b]",
        &["1: [trunk b] addresses: needs at least one, the trunk is known by them"],
    ),
    (
        "[trunk b]\naddresses = 192.0.2.1\ntransport = tls",
        &["3: [trunk b] transport: tls is not yet in this version"],
    ),
    (
        "[user bob]\n[trunk b]\naddresses = 192.0.2.1\nincoming = bbo",
        &[
            "4: [trunk b] incoming: no user or group \"bbo\", and no route for that number, did you mean \"bob\"?",
        ],
    ),
    (
        "[trunk b]\naddresses = 192.0.2.1\nincoming = reception",
        &["3: [trunk b] incoming: no user or group \"reception\", and no route for that number"],
    ),
    (
        "[user 770]\n[trunk b]\naddresses = 192.0.2.1\nincoming = 77",
        &[
            "4: [trunk b] incoming: no user or group \"77\", and no route for that number, did you mean \"770\"?",
        ],
    ),
    (
        "[trunk b]\naddresses = 192.0.2.1\nincoming = user:100",
        &["3: [trunk b] incoming: no user \"user:100\""],
    ),
    (
        "[trunk b]\naddresses = 192.0.2.1\nnext = trunk:b",
        &["3: [trunk b] next: is this trunk itself"],
    ),
    (
        "[trunk bravo]\naddresses = 192.0.2.1\nnext = trunk:brava",
        &["3: [trunk bravo] next: no trunk \"brava\", did you mean \"bravo\"?"],
    ),
    (
        "[user 1]\n[trunk b]\naddresses = 192.0.2.1\nnext = user:1",
        &["4: [trunk b] next: \"user:1\" is no trunk and no line"],
    ),
    (
        "[trunk b]\naddresses = 192.0.2.1\nnext = line:a",
        &["3: [trunk b] next: no line \"a\""],
    ),
    (
        "[trunk b]\naddresses = 192.0.2.1\nuri_format = tle\ncalls_in_max = x\ncalls_out_max = -1\n\
         caller_id = a b\nrequest_uri_parameters = user=phone;;x",
        &[
            "3: [trunk b] uri_format: \"tle\" is none of sip, tel, did you mean \"tel\"?",
            "4: [trunk b] calls_in_max: \"x\" is not a whole number",
            "5: [trunk b] calls_out_max: \"-1\" is not a whole number",
            "6: [trunk b] caller_id: \" \" in the name: use letters, digits and -_.+*#",
            "7: [trunk b] request_uri_parameters: \"\" is not a parameter of a URI, as in \
             user=phone;cpc=ordinary",
        ],
    ),
    // The dial plan
    (
        "[route a]\nprefix = 0",
        &["1: [route a] to: needs at least one, as in to = line:carrier"],
    ),
    (
        "[user 100]\n[route a]\nto = trunk:x, user:10, 100, carrier:y, line:z, group:200, user:100, user:100",
        &[
            "3: [route a] to: no trunk \"x\"",
            "3: [route a] to: no user \"10\", did you mean \"100\"?",
            "3: [route a] to: \"100\" is none of line:NAME, trunk:NAME, user:NAME and group:NAME",
            "3: [route a] to: \"carrier:y\" is none of line:NAME, trunk:NAME, user:NAME and group:NAME",
            "3: [route a] to: no line \"z\"",
            "3: [route a] to: no group \"200\"",
            "3: [route a] to: one of them is there twice",
        ],
    ),
    (
        "[user 1]\n[route a]\nto = user:1\nprefix = 0 30\nstrip = 65\nprepend = 0+\nlevel = a b",
        &[
            "4: [route a] prefix: \" \" is none of 0 to 9, * and #, or a + before them",
            "5: [route a] strip: \"65\" is out of range, 0 to 64",
            "6: [route a] prepend: \"+\" is none of 0 to 9, * and #, or a + before them",
            "7: [route a] level: \" \" in the name: use letters, digits and -_.",
        ],
    ),
    (
        "[user 1]\n[route a]\nprefix = #31\nto = user:1",
        &[
            "3: [route a] prefix: is empty; without this line the route is for every number \
           (a # behind a blank begins a comment: prefix =#31)",
        ],
    ),
    (
        "[user 1]\nlevels = far,\n[route a]\nprefix = 9\nto = user:1\n[route b]\nprefix = 9\nto = user:1",
        &[
            "2: [user 1] levels: an element of the list is empty",
            "7: [route b] prefix: \"9\" is that of [route a], line 4",
        ],
    ),
    (
        "[user 1]\n[route a]\nto = user:1\n[route b]\nto = user:1",
        &["4: [route b] prefix: \"\" is that of [route a], line 2"],
    ),
];

#[test]
fn each_mistake_is_told_with_its_line() {
    for (text, expected) in WRONG {
        let expected: Vec<String> = expected
            .iter()
            .map(|one| format!("config.ini:{one}"))
            .collect();
        assert_eq!(mistakes(text), expected, "in {text:?}");
    }
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_lines() {
    let text = "[user 100]\npasword = x\n[trunk b]\ntransport = sctp\n[guard]\nban = 4\n[server]\nlog = loud\n";
    let lines: Vec<String> = mistakes(text)
        .iter()
        .map(|one| one.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    let expected = [
        "config.ini:2:",
        "config.ini:3:",
        "config.ini:4:",
        "config.ini:6:",
        "config.ini:8:",
    ];
    assert_eq!(lines, expected);
}

/// Guessing what was meant takes no memory of its own.
#[test]
fn many_mistakes_take_little_memory() {
    let text = format!("[server]\n{}", "lisstem =\n".repeat(300));
    let info = allocation_counter::measure(|| {
        let mistakes = read(&text).unwrap_err();
        assert!(
            mistakes[0].ends_with("did you mean \"listen\"?"),
            "{}",
            mistakes[0]
        );
        assert_eq!(mistakes.len(), 300);
    });
    assert!(info.bytes_total < 400 * 1024, "{info:?}");
}

/// Each says which section it is in, so a name has no length that many could repeat.
#[test]
fn a_long_name_is_not_told_with_every_mistake() {
    let text = format!("[user {}]\n{}", "n".repeat(2_000), "wrong\n".repeat(300));
    let info = allocation_counter::measure(|| {
        let mistakes = Config::read(&text, Path::new("/")).unwrap_err();
        assert!(mistakes.len() >= 300);
        assert!(mistakes.iter().all(|one| one.section.chars().count() < 80));
    });
    assert!(info.bytes_total < 500 * 1024, "{info:?}");
}

#[test]
fn secrets_are_never_shown_in_a_mistake() {
    for text in [
        "[user 1]\nhorse-battery",
        "[user 1]\npassword = horse-battery\npassword = horse-battery",
        "[user 1]\nha1_md5 = horse-battery",
        "[http]\ntoken = horse-battery;!",
        "[user horse]\npassword = esroh",
    ] {
        let all = mistakes(text).join("\n");
        assert!(!all.contains("battery") && !all.contains("esroh"), "{all}");
    }
    let secret = read("[user 1]\npassword = horse-battery").unwrap();
    assert!(!format!("{secret:?}").contains("horse"));
}

#[test]
fn durations_not_given_make_room_for_those_which_are() {
    let of = |text: &str| {
        let registrar = read(&format!("[registrar]\n{text}")).unwrap().registrar;
        [
            registrar.expires_min,
            registrar.expires_default,
            registrar.expires_max,
        ]
        .map(|duration| duration.as_secs())
    };
    assert_eq!(of("expires_max = 5m"), [60, 300, 300]);
    assert_eq!(of("expires_max = 30s"), [30, 30, 30]);
    assert_eq!(of("expires_min = 1h"), [3_600, 3_600, 3_600]);
    assert_eq!(of("expires_default = 2h"), [60, 7_200, 7_200]);
    assert_eq!(of("expires_default = 5s"), [5, 5, 3_600]);
    let guard = read("[guard]\nban = 30d").unwrap().guard;
    assert_eq!(guard.ban_max, guard.ban);
    let guard = read("[guard]\nban_max = 1h").unwrap().guard;
    assert_eq!(guard.ban.as_secs(), 3_600);
}

#[test]
fn an_address_without_transport_listens_on_both() {
    let config = read("[server]\nlisten = [::]:5060, 192.0.2.1:5070").unwrap();
    let shown: Vec<String> = config
        .server
        .listen
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = [
        "udp:[::]:5060",
        "tcp:[::]:5060",
        "udp:192.0.2.1:5070",
        "tcp:192.0.2.1:5070",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn empty_means_no_limit_or_the_default_where_it_says_so() {
    let config = read("[call]\ncalls_max =\n[server]\nlocal_networks =\n[user 1]\ncalls_max =");
    let config = config.unwrap();
    assert_eq!(config.call.calls_max, 100_000);
    assert_eq!(config.server.local_networks.len(), 8);
    assert_eq!(config.users[0].calls_max, None);
    assert_eq!(
        read("[user 1]\ncalls_max = 0").unwrap().users[0].calls_max,
        Some(0)
    );
}

#[test]
fn bytes_that_are_not_text_name_their_line() {
    let path = Path::new("/etc/config.ini");
    let mistakes = Config::read_bytes(b"[guard]\n\nmode = \xff\n", path).unwrap_err();
    let expected = "/etc/config.ini:3: not UTF-8 text, save the file in that encoding";
    assert_eq!(mistakes[0].in_file(path), expected);
    let config = Config::read_bytes(b"", path).unwrap();
    assert_eq!(config.server.state, Path::new("/etc/sipkeep.db"));
    let config = Config::read_bytes(b"", Path::new("config.ini")).unwrap();
    assert_eq!(config.server.state, Path::new("sipkeep.db"));
}

#[test]
fn a_line_without_end_is_refused_and_the_rest_is_read() {
    let text = format!("[guard]\nallow = {}\nban = 4\n", "1".repeat(70_000));
    let mistakes = mistakes(&text);
    assert_eq!(
        mistakes[0],
        "config.ini:2: [guard] line is longer than 65536 bytes"
    );
    assert_eq!(mistakes.len(), 2);
}

#[test]
fn users_share_an_address_or_a_block_and_call_back_within_their_own() {
    let text = "[user 1]\naddresses = 10.0.0.1, 10.1.0.0/16, 10.2.0.7/32\n\
        [user 2]\naddresses = 10.0.0.1, 10.0.0.1:5070, 10.1.0.0/16\n\
        [user 3]\naddresses = 10.3.0.0/16, 10.3.0.7:5070\n[trunk b]\naddresses = 10.0.0.2\n";
    // The second of user 2 is an address that he has already, on every port.
    assert!(read(text).is_err());
    let config = read(&text.replace(" 10.0.0.1:5070,", "")).unwrap();
    let shown: Vec<_> = config.users.iter().map(User::address_texts).collect();
    let expected = [
        vec!["10.0.0.1", "10.2.0.7", "10.1.0.0/16"],
        vec!["10.0.0.1", "10.1.0.0/16"],
        vec!["10.3.0.7:5070", "10.3.0.0/16"],
    ];
    assert_eq!(shown, expected);
}

#[test]
fn warnings_tell_what_is_allowed_but_risky() {
    let text = "[http]\nlisten = 0.0.0.0:8080\ntoken = short\n\
        [guard]\nallow = 0.0.0.0/0\ndeny = 198.51.100.0/24\n\
        [user 1]\naddresses = 192.168.1.5, 203.0.113.7:5060\n\
        [user 2]\naddresses = 198.51.100.3\n\
        [trunk b]\naddresses = 198.51.100.4\n\
        [user 3]\npassword = 7-chars\n[user 4]\npassword = 8-charsé\n\
        [server]\nlisten = udp:0.0.0.0:5060\n[trunk c]\naddresses = 198.18.0.4\ntransport = tcp\n";
    let all = |config: &Config| -> Vec<String> {
        config
            .warnings()
            .iter()
            .map(|one| one.in_file(Path::new("config.ini")))
            .collect()
    };
    let config = read(text).unwrap();
    let forged = "is a public address, and over UDP its sender can be forged: whoever does that \
        calls as this user";
    let expected = [
        "config.ini: [http] listen: 0.0.0.0:8080 is reachable from other hosts and is not encrypted".to_owned(),
        "config.ini: [http] token: shorter than 16 characters, it can be guessed".into(),
        "config.ini: [guard] allow: 0.0.0.0/0 is everybody".into(),
        format!("config.ini:7: [user 1] addresses: 203.0.113.7:5060 {forged}"),
        format!("config.ini:9: [user 2] addresses: 198.51.100.3 {forged}"),
        "config.ini:9: [user 2] addresses: 198.51.100.3 is denied by 198.51.100.0/24 in [guard]".into(),
        "config.ini:11: [trunk b] addresses: 198.51.100.4 is denied by 198.51.100.0/24 in [guard]".into(),
        "config.ini:13: [user 3] password: shorter than 8 characters, whoever sees one of its digests finds it by trying".into(),
        "config.ini:19: [trunk c] transport: [server] listen has no tcp, it cannot reach us".into(),
    ];
    assert_eq!(all(&config), expected);
    let blocks =
        "[guard]\ndeny = 10.1.2.3\n[user 1]\naddresses = 10.1.0.0/16, 172.0.0.0/8, fd00:1::/64\n";
    let expected = [
        "config.ini:4: [user 1] addresses: 10.1.0.0/16 is denied by 10.1.2.3 in [guard]".to_owned(),
        "config.ini:4: [user 1] addresses: 172.0.0.0/8 is a public block, and over UDP its sender can be forged: \
         whoever does that calls as this user"
            .into(),
    ];
    let blocks = all(&read(blocks).unwrap());
    assert_eq!(blocks.len(), 2, "{blocks:?}");
    for (found, expected) in blocks.iter().zip(expected) {
        assert_eq!(
            found.split_once("addresses:").unwrap().1,
            expected.split_once("addresses:").unwrap().1
        );
    }
    let tcp = "[server]\nlisten = tcp:0.0.0.0:5060\n[user 1]\naddresses = 203.0.113.7\n";
    assert_eq!(all(&read(tcp).unwrap()), [""; 0]);
    let local = "[server]\nlocal_networks = 203.0.113.0/24\n[user 1]\naddresses = 203.0.113.7\n";
    assert_eq!(all(&read(local).unwrap()), [""; 0]);
}

#[test]
fn who_switches_the_brake_off_is_told_what_that_means() {
    let warnings = |guard: &str, rest: &str| -> Vec<String> {
        let config = read(&format!("[guard]\n{guard}\n{rest}")).unwrap();
        let keys = |one: Mistake| one.text.split(',').next().unwrap_or_default().to_owned();
        config.warnings().into_iter().map(keys).collect()
    };
    let open = "[user 1]\n[trunk b]\naddresses = 198.51.100.4\nincoming = 1\n";
    let empty = "outside_calls_max =\nnew_destinations_per_hour =";
    let both = [
        "outside_calls_max: is empty",
        "new_destinations_per_hour: is empty",
    ];
    let limits = "[guard]\noutside_calls_max = 0\nnew_destinations_per_hour = 512";
    let guard = read(limits).unwrap().guard;
    assert_eq!(guard.outside_calls_max, Some(0));
    assert_eq!(guard.new_destinations_per_hour, Some(512));
    assert_eq!(warnings("", open), [""; 0]);
    assert_eq!(warnings(empty, open), both);
    assert_eq!(warnings("outside_calls_max =", open), both[..1]);
    assert_eq!(
        warnings("mode = observe", open),
        ["mode: is not enforce"; 1]
    );
    assert_eq!(warnings(empty, "[user 1]\n"), [""; 0], "nothing outside");
    let closed = open.replace("[user 1]\n", "[user 1]\nlevels = far\n")
        + "[route out]\nto = trunk:b\nlevel = far\n[route in]\nprefix = 7\nto = user:1\n";
    assert_eq!(warnings(empty, &closed), [""; 0]);
}

#[test]
fn durations_are_written_as_they_are_read() {
    for text in [
        "1ms", "1500ms", "1s", "90s", "1m", "10m", "1h", "36h", "1d", "400d",
    ] {
        assert_eq!(duration_text(parse_duration(text).unwrap()), text);
    }
    assert_eq!(duration_text(Duration::ZERO), "0s");
    assert_eq!(duration_text(parse_duration("60s").unwrap()), "1m");
}

/// Every value of the table's ready keys can be written in a file as it stands there, except what is secret or a list
/// of its own; and no two keys of a section have one name.
#[test]
fn the_table_of_keys_is_sound() {
    for section in known_keys() {
        let names: Vec<&str> = section.keys.iter().map(|key| key.name).collect();
        for (index, key) in section.keys.iter().enumerate() {
            assert!(!names[..index].contains(&key.name), "{} twice", key.name);
            assert!(!key.doc.is_empty());
            let name = section
                .example
                .map_or_else(String::new, |example| format!(" {example}"));
            let mut text = format!("[{}{name}]\n{} = {}\n", section.kind, key.name, key.default);
            if section.kind == "trunk" && key.name != "addresses" {
                text += "addresses = 192.0.2.1\n";
            }
            match read(&text) {
                Ok(_) => assert!(section.ready && key.ready, "{text}"),
                // These kinds cannot do without a key that has no default.
                Err(all) if section.ready && key.ready => {
                    let is_trunk = text.starts_with("[trunk office-b]\naddresses =");
                    let needs = is_trunk || matches!(section.kind, "route" | "line" | "group");
                    assert!(needs, "{all:?}");
                }
                Err(all) => assert!(all[0].ends_with("not yet in this version"), "{all:?}"),
            }
        }
    }
}

#[test]
fn trunks_and_the_dial_plan_are_read() {
    let config = read(
        "[trunk a]\naddresses = 192.0.2.1\ncaller_id = +4930\nrequest_uri_parameters = user=phone;cpc=1\n\
         uri_format = tel\ncalls_in_max = 2\ncalls_out_max = 0\nnext = trunk:b\n\
         [trunk b]\naddresses = 192.0.2.2\nrequest_uri_parameters =;lr\n\
         [user 1]\nlevels = near, far\n\
         [route x]\nprefix =#31\nstrip = 3\nprepend = +49\nto = trunk:b, user:1, trunk:a\nlevel = far\n\
         [route y]\nto = trunk:a\n[route z]\nprefix = 0\nto = trunk:a\n",
    )
    .unwrap();
    let [a, b] = &config.trunks[..] else {
        panic!("two trunks")
    };
    assert_eq!(a.caller_id.as_deref(), Some("+4930"));
    let parameters = [&a.request_uri_parameters, &b.request_uri_parameters];
    assert_eq!(parameters, [";user=phone;cpc=1", ";lr"]);
    assert_eq!(
        (a.uri_format, b.uri_format),
        (UriFormat::Tel, UriFormat::Sip)
    );
    assert_eq!((a.calls_in_max, a.calls_out_max), (Some(2), Some(0)));
    assert_eq!((b.calls_in_max, b.calls_out_max), (None, None));
    assert_eq!(
        (a.next, b.next),
        (Some(Destination::Trunk(TrunkId(1))), None)
    );
    assert_eq!(config.users[0].levels, ["near", "far"]);
    let [x, y, z] = &config.routes[..] else {
        panic!("three routes")
    };
    assert_eq!(
        (x.prefix.as_str(), x.strip, x.prepend.as_str()),
        ("#31", 3, "+49")
    );
    let to = [
        Destination::Trunk(TrunkId(1)),
        Destination::User(UserId(0)),
        Destination::Trunk(TrunkId(0)),
    ];
    assert_eq!(
        (x.to.as_slice(), x.level.as_deref()),
        (&to[..], Some("far"))
    );
    assert_eq!([x, y, z].map(Route::is_for_transit), [false, false, true]);
    // Nobody calls out from b by z if b has a user for its calls.
    let warnings: Vec<String> = config.warnings().into_iter().map(|one| one.text).collect();
    let expected = "level: is empty, and [trunk b] has no incoming: whoever calls from there can call out by it";
    assert_eq!(warnings, [expected]);
}

#[test]
fn lines_are_read() {
    let config = read(
        "[user 100]\n[line ims]\naccount = +8612345678\nserver = GD.ctcims.cn\noutbound_proxy = [2001:db8::9]:5070\n\
         password = a;b c\nauth_user_with_domain = yes\nexpires = 30m\nkeepalive = 0\ntransport = tcp\n\
         addresses = 192.0.2.7\nincoming = 100\nshared = no\ncalls_max = 2\nring_timeout = 30s\nuser_phone = yes\n\
         uri_format = tel\nnew_call_id = yes\nrealm = r\nauth_user = me\n\
         [line b]\naccount = 5\nserver = sip.example.com:5062\naddresses = 192.0.2.7\n",
    )
    .unwrap();
    let [ims, b] = &config.lines[..] else {
        panic!("two lines")
    };
    assert_eq!(
        (
            ims.server.to_string().as_str(),
            b.server.to_string().as_str()
        ),
        ("gd.ctcims.cn", "sip.example.com:5062")
    );
    let proxy = ims.outbound_proxy.as_ref().map(ToString::to_string);
    assert_eq!(proxy.as_deref(), Some("[2001:db8::9]:5070"));
    assert_eq!((ims.password.0.as_str(), ims.keepalive), ("a;b c", None));
    assert!(ims.auth_user_with_domain && ims.user_phone && ims.new_call_id && !ims.shared);
    assert!(b.register && b.shared && !b.new_call_id && b.calls_max.is_none());
    assert_eq!(
        (ims.expires, b.expires),
        (Duration::from_secs(1800), Duration::from_secs(3600))
    );
    assert_eq!(b.keepalive, Some(Duration::from_secs(25)));
    assert_eq!(
        (ims.calls_max, ims.ring_timeout),
        (Some(2), Some(Duration::from_secs(30)))
    );
    assert_eq!(ims.uri_format, UriFormat::Tel);
    // Without a route 9 leads to the shared lines.
    assert_eq!(config.routes[0].to, [Destination::Line(LineId(1))]);
    assert!(
        !format!("{config:?}").contains("a;b c"),
        "no password in a debug text"
    );
}

#[test]
fn lines_that_are_not_right() {
    for (text, mistake) in [
        (
            "[line a]\nserver = b.example\n",
            "account: is needed, as in account = +8612345678",
        ),
        (
            "[line a]\naccount = 1\n",
            "server: is needed, as in server = sip.example.com",
        ),
        (
            "[line a]\naccount = 1\nserver = b.example:0\n",
            "server: \"0\" is not a port",
        ),
        (
            "[line a]\naccount = 1\nserver = 2001:db8::1\n",
            "server: \"2001:db8::1\" is not a host or host:port (an IPv6 address stands in brackets)",
        ),
        (
            "[line a]\naccount = 1\nserver = b.example\ntransport = tls\n",
            "transport: tls is not yet in this version",
        ),
        (
            "[line a]\naccount = 1\nserver = b.example\nshared = no\nincoming = 7\n",
            "shared: with no, incoming must be a user: he alone may call out on this line",
        ),
        (
            "[trunk t]\naddresses = 192.0.2.1\n[line a]\naccount = 1\nserver = b.example\naddresses = 192.0.2.1\n",
            "addresses: 192.0.2.1 is an address of [trunk t], line 2",
        ),
        ("[route r]\nto = line:b\n", "to: no line \"b\""),
        (
            "[user 100]\n[line a]\naccount = 1\nserver = b.example\nincoming = 10O\n",
            "config.ini:5: [line a] incoming: no user or group \"10O\", and no route for that number, did you mean \"100\"?",
        ),
        (
            "[line a]\naccount = 1\nserver = b.example\nincoming = 9030\n",
            "incoming: \"9030\" leads nowhere by the default for 9: a call from outside goes out again only by a route \
             with a prefix, and not back",
        ),
        (
            "[line a]\naccount = 1\nserver = b.example\nincoming = 030\n[route r]\nprefix = 0\nto = line:a\n",
            "incoming: \"030\" leads nowhere by [route r]: a call from outside goes out again only by a route \
             with a prefix, and not back",
        ),
    ] {
        let all = read(text).expect_err(text);
        assert!(
            all.iter().any(|one| one.ends_with(mistake)),
            "{all:?} {mistake}"
        );
    }
}

#[test]
fn calls_on_a_line_may_go_to_whatever_a_number_leads_to() {
    let line = "[line a]\naccount = 1\nserver = b.example\nincoming";
    for text in [
        format!("[user 100]\n{line} = 100\n"),
        format!("[user 100]\n{line} = 700\n[route r]\nprefix = 7\nto = user:100\n"),
        format!(
            "{line} = 030\n[line c]\naccount = 2\nserver = c.example\n[route r]\nprefix = 0\nto = line:a, line:c\n"
        ),
    ] {
        read(&text).expect(&text);
    }
}

#[test]
fn without_a_route_a_leading_9_leads_to_the_trunks() {
    let config =
        read("[trunk a]\naddresses = 192.0.2.1\n[trunk b]\naddresses = 192.0.2.2\n").unwrap();
    let [route] = &config.routes[..] else {
        panic!("one route")
    };
    assert!(route.is_default() && !route.is_for_transit());
    assert_eq!((route.prefix.as_str(), route.strip), ("9", 1));
    let to = [0, 1].map(|index| Destination::Trunk(TrunkId(index)));
    assert_eq!(route.to, to);
    assert_eq!(read("").unwrap().routes, []);
}

#[test]
fn the_shipped_file_serves_three_users_with_passwords_of_their_own() {
    let config = read(include_str!("../../config.ini")).unwrap();
    let names: Vec<&str> = config.users.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(names, ["100", "101", "102"]);
    assert!(
        config
            .users
            .iter()
            .all(|user| user.secret.is_none() && user.addresses.is_empty())
    );
    let mut same = read("").unwrap();
    same.users = config.users.clone();
    assert_eq!(config, same, "everything else is the default");
    assert_eq!(config.warnings(), []);
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC*") {
        drop(Config::read(&text, Path::new("")));
    }

    #[test]
    fn any_lines_of_the_right_kind_are_read_without_a_panic(
        lines in proptest::collection::vec(
            "(\\[(server|guard|user 1|user 2|trunk b|group 3|registrar|call|http)\\])|\
             ((listen|domain|ban|ban_max|expires_min|expires_max|password|addresses|incoming|allow|\
             ha1_md5|calls_max|digest|members|next) ?= ?[0-9a-f:./,\\[\\]udptc shmé-]{0,20})",
            0..20,
        )
    ) {
        if let Err(mistakes) = Config::read(&lines.join("\n"), Path::new("")) {
            proptest::prop_assert!(!mistakes.is_empty());
            proptest::prop_assert!(mistakes.is_sorted_by_key(|mistake| mistake.line));
            proptest::prop_assert!(mistakes.iter().all(|mistake| mistake.line > 0));
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(0_u8.., 0..400)) {
        drop(Config::read_bytes(&bytes, Path::new("")));
    }
}

#[test]
fn what_may_be_wrong_with_a_line_is_said() {
    let text = "[server]\nlisten = udp:0.0.0.0:5060\n[guard]\ndeny = 198.51.100.0/24\n\
        [line a]\naccount = 100\nserver = sip.example.com\ntransport = tcp\n\
        auth_user = hundred@other\nauth_user_with_domain = yes\n\
        [line b]\naccount = 100\nserver = sip.example.com\noutbound_proxy = 198.51.100.4\nregister = no\n\
        addresses = 198.51.100.5\n\
        [line c]\naccount = 101\nserver = sip.example.com\npassword = x\n";
    let config = Config::read(text, Path::new("")).unwrap();
    let warnings: Vec<String> = (config.warnings().into_iter())
        .map(|one| format!("{} {} {}", one.line, one.section, one.text))
        .collect();
    let expected = [
        "5 [line a] password: is empty, a registration that is asked for one fails",
        "5 [line a] transport: [server] listen has no tcp, the line cannot be used",
        "5 [line a] auth_user_with_domain: hundred@other has a domain already, none is added",
        "11 [line b] account: is that of [line a], line 5, too",
        "11 [line b] 198.51.100.4 is denied by 198.51.100.0/24 in [guard]",
        "11 [line b] 198.51.100.5 is denied by 198.51.100.0/24 in [guard]",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn users_whose_calls_go_on() {
    let config = read(
        "[call]\nfeature_codes = no\n[user 100]\ndo_not_disturb = yes\nforward_always = 101\nforward_busy = 200\n\
         forward_no_answer = 0170-555\nforward_no_answer_after = 15s\nforward_offline = 0011\nlevels = far\n\
         [user 101]\n[group 200]\nmembers = 100\n\
         [route a]\nprefix = 0\nto = user:101\n[route b]\nprefix = 001\nto = user:101\nlevel = far\n",
    )
    .unwrap();
    assert!(!config.call.feature_codes);
    let [user, other] = &config.users[..] else {
        panic!("two users")
    };
    assert!(user.do_not_disturb && !other.do_not_disturb);
    let numbers = user.forwards.numbers();
    assert_eq!(
        numbers.map(|(_, number)| number),
        [Some("101"), Some("200"), Some("0170-555"), Some("0011")]
    );
    assert_eq!(user.forwards.no_answer_after, Duration::from_secs(15));
    assert_eq!(
        other.forwards.numbers().map(|(_, number)| number),
        [None; 4]
    );
    assert_eq!(other.forwards.no_answer_after, Duration::from_secs(20));
    for (text, mistake) in [
        (
            "[user 100]\nforward_always = 100\n",
            "2: [user 100] forward_always: is this user himself",
        ),
        (
            "[user 100]\nforward_busy = 10\n[group 101]\nmembers = 100\n",
            "2: [user 100] forward_busy: no user or group \"10\", and no route for that number, did you mean \"100\"?",
        ),
        (
            "[user 100]\nforward_offline = 0011\n[route b]\nprefix = 001\nto = user:100\nlevel = far\n",
            "2: [user 100] forward_offline: \"0011\" is for users with level \"far\", by [route b]: this one has it not",
        ),
        (
            "[user 100]\nforward_no_answer = a b\n",
            "2: [user 100] forward_no_answer: \" \" in the name: use letters, digits and -_.+*#",
        ),
    ] {
        assert_eq!(
            read(text).expect_err(text),
            [format!("config.ini:{mistake}")]
        );
    }
}

#[test]
fn groups_of_users() {
    let config = read(
        "[user 100]\n[user 101]\n[user 102]\n\
         [group 200]\nmembers = 102, 100\nstrategy = circular\nring_timeout = 15s\nnext = 201\n\
         [group 201]\nmembers = 101\nnext = 0170555\n\
         [route out]\nprefix = 0\nto = trunk:b, group:201\n\
         [trunk b]\naddresses = 192.0.2.1\nincoming = 200\n\
         [line c]\naccount = 1\nserver = b.example\nincoming = 201\n",
    )
    .unwrap();
    let [first, second] = &config.groups[..] else {
        panic!("two groups")
    };
    assert_eq!(first.members, [UserId(2), UserId(0)]);
    assert_eq!(
        (first.strategy, first.ring_timeout, first.next.as_deref()),
        (Strategy::Circular, Duration::from_secs(15), Some("201"))
    );
    assert_eq!(
        (second.strategy, second.ring_timeout, second.next.as_deref()),
        (Strategy::All, Duration::from_secs(60), Some("0170555"))
    );
    assert_eq!(config.routes[0].to[1], Destination::Group(GroupId(1)));
    assert_eq!(config.destination_text(config.routes[0].to[1]), "group:201");
}

#[test]
fn groups_that_are_not_right() {
    for (text, mistake) in [
        (
            "[group 200]\n",
            "1: [group 200] members: needs at least one user, as in members = 100",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 10, 100, 100\n",
            "3: [group 200] members: no user \"10\", did you mean \"100\"?",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 100, 100\n",
            "3: [group 200] members: one of them is there twice",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 100\n[group 201]\nmembers = 100, 200\n",
            "5: [group 201] members: \"200\" is a group: members are users (next leads to another group)",
        ),
        (
            "[user 100]\n[group 100]\nmembers = 100\n",
            "2: [group 100] is the name of [user 100], line 1, too",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 100\nstrategy = liner\n",
            "4: [group 200] strategy: \"liner\" is none of all, linear, circular, did you mean \"linear\"?",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 100\nnext = 100\n",
            "4: [group 200] next: \"100\" is a member, and has been rung by then",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 100\nnext = 20\n",
            "4: [group 200] next: no user or group \"20\", and no route for that number, did you mean \"200\"?",
        ),
        (
            "[user 100]\n[group 200]\nmembers = 100\nnext = 200\n",
            "4: [group 200] next: leads back to this group",
        ),
        (
            "[user 1]\n[group 2]\nmembers = 1\nnext = 3\n[group 3]\nmembers = 1\nnext = 4\n\
             [group 4]\nmembers = 1\nnext = 3\n",
            "7: [group 3] next: leads back to this group",
        ),
        (
            "[line a]\naccount = 1\nserver = b.example\nincoming = 20\n[user 200]\n",
            "4: [line a] incoming: no user or group \"20\", and no route for that number, did you mean \"200\"?",
        ),
    ] {
        let all = read(text).expect_err(text);
        let mistake = format!("config.ini:{mistake}");
        assert!(all.contains(&mistake), "{all:?} {mistake}");
    }
    let members: Vec<String> = (100..133).map(|name| name.to_string()).collect();
    let mut text: String = members
        .iter()
        .map(|name| format!("[user {name}]\n"))
        .collect();
    text += &format!("[group 200]\nmembers = {}\n", members.join(", "));
    assert_eq!(
        read(&text).unwrap_err(),
        ["config.ini:35: [group 200] members: more than 32 of them"]
    );
    // A loop is told at each of its groups, and not at one that merely leads into it.
    let text = "[user 1]\n[group 2]\nmembers = 1\nnext = 3\n[group 3]\nmembers = 1\nnext = 3\n";
    assert_eq!(read(text).unwrap_err().len(), 1);
}
