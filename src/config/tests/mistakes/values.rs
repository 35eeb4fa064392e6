//! Values by themselves: durations, numbers, words.

use super::Wrong;

pub(super) const WRONG: Wrong = &[
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
];
