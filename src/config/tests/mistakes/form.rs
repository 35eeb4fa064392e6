//! Lines, sections and keys, whatever their values are.

use super::Wrong;

pub(super) const WRONG: Wrong = &[
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
];
