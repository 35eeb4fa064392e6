//! What is wrong with a file, and how that is told.

use super::*;

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
