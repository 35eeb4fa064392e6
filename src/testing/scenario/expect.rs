//! What a scenario asserts about a message that an agent received.

use std::collections::BTreeMap;

use super::parse::Words;
use super::play::unescaped;
use crate::message::{HeaderName, Message, parse};

/// The option that says since when the message may have come.
pub const SINCE: &str = "since";

/// A line below a message that is no header of it: a pattern of its body.
const BODY: &str = "Body";

/// Values bound by `$name`.
pub type Variables = BTreeMap<String, String>;

/// Whether `bytes` are what the line wants; `previous` is what the agent took before.
pub fn check(
    bytes: &[u8],
    wanted: &Words,
    previous: &[u8],
    variables: &mut Variables,
) -> Result<(), String> {
    let what = wanted.plain.first().map_or("", String::as_str);
    match what {
        "ping" => {
            let found = if bytes == b"\r\n\r\n" {
                "CRLF CRLF"
            } else {
                "no"
            };
            return compare("ping", "CRLF CRLF", found);
        }
        "pong" => return compare("pong", "CRLF", if bytes == b"\r\n" { "CRLF" } else { "no" }),
        "closed" => {
            return compare(
                "connection",
                "closed",
                if bytes == b"closed" { "closed" } else { "no" },
            );
        }
        _ => {}
    }
    let message = parse(bytes).map_err(|error| format!("it does not parse: {error}"))?;
    let token = text(message.cseq().token);
    if message.is_request() {
        compare("method", what, &token)?;
    } else {
        compare("status", what, &message.status().to_string())?;
    }
    for word in wanted.plain.iter().skip(1) {
        if word == "again" {
            if bytes != previous {
                return Err("these are not the bytes that came before".into());
            }
        } else {
            compare("method", word, &token)?;
        }
    }
    if let Some(quoted) = &wanted.quoted
        && message.body() != unescaped(quoted)
    {
        return Err(format!("the body is not {quoted:?}"));
    }
    let of_message = |(key, _): &&(String, String)| key != SINCE;
    for (key, value) in wanted.options.iter().filter(of_message) {
        check_value(key, value, &part(&message, key)?, variables)?;
    }
    for (name, value) in &wanted.headers {
        if let Some(name) = name.strip_prefix('!') {
            if let Some(found) = header(&message, name) {
                return Err(format!("there is a header {name}: {found}"));
            }
            continue;
        }
        if name == BODY {
            let value = text(&unescaped(value));
            check_value(name, &value, &text(message.body()), variables)?;
            continue;
        }
        let found = header(&message, name).ok_or(format!("there is no header {name}"))?;
        check_value(name, value, &found, variables)?;
    }
    Ok(())
}

/// The part of a message that an option is about; what is not there is `none`.
fn part(message: &Message<'_>, key: &str) -> Result<String, String> {
    let or_none = |value: Option<&[u8]>| value.map_or("none".to_owned(), text);
    Ok(match key {
        "to_tag" => or_none(message.to().tag()),
        "from_tag" => or_none(message.from().tag()),
        "branch" => text(message.via().branch),
        "call_id" => text(message.call_id()),
        "cseq" => message.cseq().number.to_string(),
        "contact" => {
            let contact = message.contact_values().next();
            or_none(contact.map(|contact| contact.address.uri))
        }
        "uri" if message.is_request() => text(message.request_uri()),
        "length" => message.bytes().len().to_string(),
        "headers" => {
            let names: Vec<_> = message.lines().map(|line| text(line.raw_name)).collect();
            names.join(",")
        }
        "body" => session_name(message.body()),
        "sdp" => streams(message.body()),
        "max_forwards" => message
            .max_forwards()
            .map_or("none".into(), |hops| hops.to_string()),
        _ => return Err(format!("`{key}` is nothing that a message has")),
    })
}

/// `ADDRESS:PORT` of each stream of a session description.
fn streams(body: &[u8]) -> String {
    let streams = crate::sdp::read(body).unwrap_or_default();
    let texts = streams.iter().map(|stream| {
        let address = stream
            .address
            .map_or("none".into(), |address| address.to_string());
        format!("{address}:{}", stream.port)
    });
    let texts: Vec<String> = texts.collect();
    texts.join(",")
}

/// The `s=` line of a session description, `none` of an empty body.
fn session_name(body: &[u8]) -> String {
    if body.is_empty() {
        return "none".into();
    }
    let line = body
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"s="));
    line.map_or_else(|| text(body), |name| text(name.trim_ascii_end()))
}

/// All values of a header, joined.
fn header(message: &Message<'_>, name: &str) -> Option<String> {
    let known = HeaderName::of(name.as_bytes());
    let values: Vec<String> = message
        .lines()
        .filter(|line| {
            line.name == known
                && (known != HeaderName::Other
                    || line.raw_name.eq_ignore_ascii_case(name.as_bytes()))
        })
        .map(|line| text(line.value))
        .collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// `$x` binds or compares, `!$x` differs from it, `!text` differs, `*` stands for anything.
pub fn check_value(
    key: &str,
    wanted: &str,
    found: &str,
    variables: &mut Variables,
) -> Result<(), String> {
    if let Some(name) = wanted.strip_prefix('$') {
        return match variables.get(name) {
            Some(bound) => compare(key, bound, found),
            None => {
                variables.insert(name.to_owned(), found.to_owned());
                Ok(())
            }
        };
    }
    if let Some(other) = wanted.strip_prefix('!') {
        let other = match other.strip_prefix('$') {
            Some(name) => variables.get(name).ok_or(format!("${name} is not bound"))?,
            None => other,
        };
        return if matches(other, found) {
            Err(format!("{key} is {found}, which it should not be"))
        } else {
            Ok(())
        };
    }
    if matches(wanted, found) {
        Ok(())
    } else {
        Err(format!("{key} is `{found}`, not `{wanted}`"))
    }
}

fn compare(key: &str, wanted: &str, found: &str) -> Result<(), String> {
    if wanted == found {
        Ok(())
    } else {
        Err(format!("{key} is `{found}`, not `{wanted}`"))
    }
}

/// Whether `text` is `pattern`, where `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text) in [
            ("a*c", "abc"),
            ("*", ""),
            ("abc", "abc"),
            ("*b*", "abc"),
            ("a*b*c", "aXbYc"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("a*c", "ab"),
            ("abc", "abcd"),
            ("*b", "abc"),
            ("a*b*c", "acb"),
            ("", "x"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn variables_bind_once() {
        let mut variables = Variables::new();
        assert!(check_value("tag", "!$x", "1", &mut variables).is_err());
        check_value("tag", "$x", "1", &mut variables).unwrap();
        check_value("tag", "$x", "1", &mut variables).unwrap();
        assert!(check_value("tag", "$x", "2", &mut variables).is_err());
        check_value("tag", "!$x", "2", &mut variables).unwrap();
        assert!(check_value("tag", "!$x", "1", &mut variables).is_err());
    }
}
