//! Passwords that every scanner tries first. They are refused, because a phone with one of them is an open door.

/// Tried first by password crackers for SIP, in lower case.
const COMMON: &[&str] = &[
    "3cx",
    "abc123",
    "abcd1234",
    "access",
    "admin",
    "admin123",
    "administrator",
    "asterisk",
    "azerty",
    "callcenter",
    "changeit",
    "changeme",
    "cisco",
    "default",
    "dragon",
    "extension",
    "football",
    "freepbx",
    "freeswitch",
    "grandstream",
    "guest",
    "hello",
    "iloveyou",
    "letmein",
    "linksys",
    "login",
    "master",
    "monkey",
    "nopassword",
    "office",
    "p@ssw0rd",
    "pa55word",
    "pass",
    "pass123",
    "pass1234",
    "passw0rd",
    "password",
    "password1",
    "password12",
    "password123",
    "password1234",
    "pbx",
    "phone",
    "polycom",
    "private",
    "public",
    "q1w2e3r4",
    "qwerty",
    "qwerty123",
    "qwertyuiop",
    "qwertz",
    "root",
    "secret",
    "secret123",
    "server",
    "sip",
    "sip123",
    "sipkeep",
    "siptest",
    "snom",
    "support",
    "system",
    "tel",
    "telephone",
    "test",
    "test123",
    "test1234",
    "testing",
    "testtest",
    "toor",
    "trixbox",
    "user",
    "voice",
    "voip",
    "voip123",
    "welcome",
    "welcome1",
    "yealink",
    "zoiper",
    "1q2w3e4r",
    "1q2w3e",
    "1qaz2wsx",
];

/// Why this password of `user` must not be used, in words that follow `password: `.
pub fn weakness(password: &str, user: &str) -> Option<&'static str> {
    let (password, user) = (password.to_lowercase(), user.to_lowercase());
    if password == user {
        Some("is equal to the user name")
    } else if password == user.chars().rev().collect::<String>() {
        Some("is the user name reversed")
    } else if COMMON.contains(&password.as_str()) {
        Some("is one of the common passwords that are tried first")
    } else if is_digit_sequence(password.as_bytes()) {
        Some("is a plain sequence of digits")
    } else {
        None
    }
}

/// `1234`, `98765`, `0000`, `67890`: each digit follows its neighbour by the same step of -1, 0 or 1.
fn is_digit_sequence(password: &[u8]) -> bool {
    let all = |step: u8| {
        password
            .windows(2)
            .all(|pair| (pair[0] - b'0' + step) % 10 == pair[1] - b'0')
    };
    password.iter().all(u8::is_ascii_digit) && (all(0) || all(1) || all(9))
}
