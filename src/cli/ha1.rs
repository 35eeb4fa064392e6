//! `sipkeep ha1 USER`: what can stand in config.ini instead of a password (RFC 7616 §3.4.2, A1).

use std::fmt::Write as _;
use std::io::{BufRead, IsTerminal};

use sipkeep::auth::digest;
use sipkeep::config::{Config, password_weakness};

use super::{Outcome, complain};

pub fn ha1(config: &Config, user: &str) -> Outcome {
    let password = if std::io::stdin().is_terminal() {
        rpassword::prompt_password(format!("Password of {user}: "))
    } else {
        first_line(&mut std::io::stdin().lock())
    };
    let password = password.map_err(|error| format!("cannot read the password: {error}"))?;
    if password.is_empty() {
        return Err("the password is empty".into());
    }
    if let Some(weakness) = password_weakness(&password, user) {
        return Err(format!("the password {weakness}"));
    }
    let realm = config.server.realm();
    // Beside what can be pasted or piped into the file.
    complain(&format!(
        "For [user {user}], while the realm is \"{realm}\" ({}):",
        if config.server.domains.is_empty() {
            "[server] has no domain"
        } else {
            "the first domain of [server]"
        }
    ));
    Ok(lines(user, realm, &password))
}

/// The first line of standard input without its line end.
fn first_line(input: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The lines for the file.
fn lines(user: &str, realm: &str, password: &str) -> String {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    };
    let md5 = hex(&digest::ha1_md5(user, realm, password));
    let sha256 = hex(&digest::ha1_sha256(user, realm, password));
    format!("ha1_md5 = {md5}\nha1_sha256 = {sha256}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7616 §3.9.1: Mufasa's A1 under both algorithms, as its response values come out of them.
    #[test]
    fn lines_for_the_file() {
        let text = lines("Mufasa", "http-auth@example.org", "Circle of Life");
        let md5 = "ha1_md5 = 3d78807defe7de2157e2b0b6573a855f";
        let sha256 =
            "ha1_sha256 = 7987c64c30e25f1b74be53f966b49b90f2808aa92faf9a00262392d7b4794232";
        assert!(text.contains(md5) && text.contains(sha256), "{text}");
        let ini = format!("[registrar]\ndigest = sha256, md5\n[user Mufasa]\n{text}");
        assert!(
            Config::read(&ini, std::path::Path::new("")).is_ok(),
            "{ini}"
        );
    }

    #[test]
    fn the_first_line_is_the_password() {
        for (input, password) in [("a b\r\nc", "a b"), ("x", "x"), ("", ""), (" y \n", " y ")] {
            assert_eq!(first_line(&mut input.as_bytes()).unwrap(), password);
        }
    }
}
