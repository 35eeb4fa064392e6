//! Tests of the reader as its users see it: texts in, typed values or lines of mistakes out.

mod calls;
mod mistakes;

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
