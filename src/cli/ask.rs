//! Commands that ask the running server: which path, and how its answer is shown.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sipkeep::config::Config;
use sipkeep::limits::PAGE_MAX;
use sipkeep::net::HTTP_TOKEN;
use sipkeep::net::store::read_secrets;
use sipkeep::source::Source;

use super::Outcome;
use super::arguments::List;
use super::client::{Client, Reply};
use super::table::{self, Column, Show, column};

/// The running server of this configuration.
pub struct Server {
    client: Client,
}

impl Server {
    /// Finds its address and token.
    ///
    /// # Errors
    /// In words, if it has no HTTP or the token cannot be read.
    pub fn of(config: &Config) -> Result<Self, String> {
        let Some(address) = config.http.listen else {
            return Err("[http] listen is empty, so the running server cannot be asked".into());
        };
        let token = match &config.http.token {
            Some(token) => token.clone(),
            None => {
                let secrets = read_secrets(&config.server.state)?;
                let missing = || {
                    let file = config.server.state.display();
                    format!(
                        "state file {file}: no token yet; the server makes it at its first start"
                    )
                };
                secrets.get(HTTP_TOKEN).ok_or_else(missing)?.to_owned()
            }
        };
        Ok(Self {
            client: Client { address, token },
        })
    }

    /// The body of an answer that says yes; otherwise its error in words.
    fn ask(&self, method: &str, path: &str, body: &str) -> Result<String, String> {
        let Reply { status, body } = self.client.ask(method, &format!("/api/v1/{path}"), body)?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let said = serde_json::from_str::<Value>(&body).ok();
        let said = said
            .as_ref()
            .and_then(|body| body.get("error"))
            .and_then(Value::as_str);
        Err(match (status, said) {
            (401, _) => "the server refuses the token: was it started with another configuration or state file?".into(),
            (_, Some(said)) => format!("{} ({status})", table::printable(said)),
            (_, None) => format!("the server answers {status}"),
        })
    }

    fn value(&self, path: &str) -> Result<(String, Value), String> {
        let body = self.ask("GET", path, "")?;
        let value = parse(&body)?;
        Ok((body, value))
    }
}

fn parse(body: &str) -> Result<Value, String> {
    serde_json::from_str(body).map_err(|error| format!("the server's answer is no JSON: {error}"))
}

/// `sipkeep status`.
pub fn status(config: &Config, passwords: bool, json: bool) -> Outcome {
    let shown = if passwords {
        generated(config, json)?
    } else {
        String::new()
    };
    if passwords && json {
        return Ok(shown);
    }
    let asked = Server::of(config).and_then(|server| server.value("status"));
    let (body, value) = match asked {
        Ok(asked) => asked,
        // The passwords are there whether the server runs or not.
        Err(error) if passwords => return Ok(format!("{shown}\n({error})\n")),
        Err(error) => return Err(error),
    };
    if json {
        return Ok(line_end(body));
    }
    let blank = if passwords { "\n" } else { "" };
    Ok(shown + blank + &super::status::text(&value, std::io::stdout().is_terminal()))
}

/// The passwords that the server made, for the users that have none in the file, and the API's token likewise.
fn generated(config: &Config, json: bool) -> Outcome {
    let users = config
        .users
        .iter()
        .filter(|user| user.secret.is_none() && !user.is_by_address());
    let names: Vec<&str> = users.map(|user| user.name.as_str()).collect();
    let has_token = config.http.listen.is_some() && config.http.token.is_none();
    let (mut found, mut token): (Vec<Option<String>>, _) = (Vec::new(), None);
    if !names.is_empty() || has_token {
        let secrets = match read_secrets(&config.server.state) {
            Err(error) if !names.is_empty() => return Err(error),
            secrets => secrets.unwrap_or_default(),
        };
        let secret = |name: &&str| secrets.get(&format!("password:{name}")).map(str::to_owned);
        found = names.iter().map(secret).collect();
        token = secrets.get(HTTP_TOKEN).map(str::to_owned);
    }
    let pairs = || names.iter().zip(&found);
    if json {
        let mut object: serde_json::Map<String, Value> = pairs()
            .map(|(name, password)| ((*name).to_owned(), json!(password)))
            .collect();
        if has_token {
            // No user can have this name.
            object.insert("[http] token".into(), json!(token));
        }
        return Ok(format!("{}\n", Value::Object(object)));
    }
    let token = if has_token {
        let token = token.unwrap_or_else(|| AT_NEXT_START.into());
        format!("API token: {token}\n")
    } else {
        String::new()
    };
    if names.is_empty() {
        let text = "Every user has a password of its own in the configuration.\n";
        return Ok(text.to_owned() + &token);
    }
    let mut rows = vec![vec!["user".to_owned(), "password".to_owned()]];
    rows.extend(pairs().map(|(name, password)| {
        let password = password.clone().unwrap_or_else(|| AT_NEXT_START.into());
        vec![(*name).to_owned(), password]
    }));
    Ok(table::align(&rows, &[false, false]) + &token)
}

/// In place of a secret that there is not yet.
const AT_NEXT_START: &str = "(made at the next start)";

/// `sipkeep registrations`, `calls`, `lines`, `bans`, `cdr`: all pages of the list.
pub fn list(
    config: &Config,
    list: List,
    limit: Option<usize>,
    filters: &[(&'static str, String)],
    json: bool,
) -> Outcome {
    let server = Server::of(config)?;
    let (path, columns) = shape(list);
    let limit = limit.unwrap_or(usize::MAX);
    let mut items: Vec<Value> = Vec::new();
    let mut next = None;
    loop {
        let path = query(
            path,
            filters,
            limit.saturating_sub(items.len()),
            next.as_deref(),
        );
        let (body, mut value) = server.value(&path)?;
        let page = value
            .get_mut("items")
            .and_then(Value::as_array_mut)
            .map(std::mem::take);
        let first = items.is_empty();
        let Some(mut page) = page else {
            return Err("the server's answer has no items".into());
        };
        let more = value.get("next").and_then(Value::as_str).map(str::to_owned);
        if json && first && (more.is_none() || page.len() >= limit) {
            return Ok(line_end(body)); // all of it, byte for byte
        }
        // A server that says "more" without any would never end this.
        let ends = page.is_empty() || more.is_none() || more == next;
        items.append(&mut page);
        next = more;
        if ends || items.len() >= limit {
            break;
        }
    }
    items.truncate(limit);
    if json {
        return Ok(format!("{}\n", json!({"items": items, "next": next})));
    }
    let mut text = table::table(columns, &items, now(), std::io::stdout().is_terminal());
    if items.is_empty() {
        text = "none\n".into();
    } else if next.is_some() {
        let _ = writeln!(text, "... and more: --limit NUMBER"); // to a string: cannot fail
    }
    Ok(text)
}

/// The path and query of one page.
fn query(
    path: &str,
    filters: &[(&'static str, String)],
    limit: usize,
    after: Option<&str>,
) -> String {
    let mut query = format!("{path}?limit={}", limit.min(PAGE_MAX));
    let filters = filters.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in filters.chain(after.map(|after| ("after", after))) {
        query = query + "&" + name + "=" + &escape(value);
    }
    query
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}"); // to a string: cannot fail
        }
    }
    escaped
}

/// Where a list is, and its columns.
fn shape(list: List) -> (&'static str, &'static [Column]) {
    use Show::{Distance, List as Many, Number, Talk, Text, Time};
    match list {
        List::Registrations => (
            "registrations",
            const {
                &[
                    column("user", "user", Text),
                    column("contact", "contact", Text),
                    column("source", "source", Text),
                    column("transport", "transport", Text),
                    column("since", "since", Distance),
                    column("expires", "expires", Distance),
                    column("user agent", "user_agent", Text),
                ]
            },
        ),
        List::Calls => (
            "calls",
            const {
                &[
                    column("id", "id", Text),
                    column("state", "state", Text),
                    column("direction", "direction", Text),
                    column("caller", "caller", Text),
                    column("dialled", "dialled", Text),
                    column("answered by", "answered_by", Text),
                    column("through", "through", Text),
                    column("start", "start", Distance),
                    column("answer", "answer", Distance),
                ]
            },
        ),
        List::Lines => (
            "lines",
            const {
                &[
                    column("name", "name", Text),
                    column("account", "account", Text),
                    column("state", "state", Text),
                    column("status", "status", Number),
                    column("reason", "reason", Text),
                    column("since", "since", Distance),
                    column("expires", "expires", Distance),
                    column("next attempt", "next_attempt", Distance),
                ]
            },
        ),
        List::Bans => (
            "bans",
            const {
                &[
                    column("source", "source", Text),
                    column("reason", "reason", Text),
                    column("failures", "failures", Number),
                    column("users", "users", Many),
                    column("since", "since", Distance),
                    column("until", "until", Distance),
                    column("last seen", "last_seen", Distance),
                    column("discarded", "discarded_estimated", Number),
                ]
            },
        ),
        List::Cdr => (
            "cdrs",
            const {
                &[
                    column("start (UTC)", "start", Time),
                    column("direction", "direction", Text),
                    column("caller", "caller", Text),
                    column("dialled", "dialled", Text),
                    column("answered by", "answered_by", Text),
                    column("through", "through", Text),
                    column("disposition", "disposition", Text),
                    column("status", "status", Number),
                    column("talk", "talk_ms", Talk),
                    column("ended by", "ended_by", Text),
                    column("reason", "reason", Text),
                ]
            },
        ),
    }
}

/// `sipkeep ban ADDR [--for 4h]`.
pub fn ban(config: &Config, source: Source, duration: Option<&str>, json: bool) -> Outcome {
    let mut request = json!({"source": source.to_string()});
    if let Some(duration) = duration {
        request["for"] = json!(duration);
    }
    let body = Server::of(config)?.ask("POST", "bans", &request.to_string())?;
    if json {
        return Ok(line_end(body));
    }
    let until = parse(&body)
        .ok()
        .and_then(|ban| Some(ban.get("until")?.as_str()?.to_owned()));
    let until = until.map_or_else(String::new, |until| {
        format!(" until {}", table::printable(&until))
    });
    Ok(format!("{source} is banned{until}\n"))
}

/// `sipkeep unban ADDR`.
pub fn unban(config: &Config, source: Source, json: bool) -> Outcome {
    // With its length: the /64 and the /48 that begins with it are two bans.
    let path = format!("bans/{source}");
    let body = Server::of(config)?.ask("DELETE", &path, "")?;
    Ok(if json {
        line_end(body)
    } else {
        format!("{source} is not banned any more\n")
    })
}

/// `sipkeep hangup CALL`.
pub fn hangup(config: &Config, call: &str, json: bool) -> Outcome {
    let body = Server::of(config)?.ask("DELETE", &format!("calls/{}", escape(call)), "")?;
    Ok(if json {
        line_end(body)
    } else {
        format!("{call} is ended\n")
    })
}

/// A line end behind a body that has none.
fn line_end(mut body: String) -> String {
    if !body.is_empty() && !body.ends_with('\n') {
        body.push('\n');
    }
    body
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server that gives these answers in turn, then the request lines and bodies that it got.
    fn serve(answers: Vec<(u16, &'static str)>) -> (Config, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let answer = |(status, body): (u16, &str)| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
                reader.read_line(&mut first).unwrap();
                while line != "\r\n" {
                    line.clear();
                    reader.read_line(&mut line).unwrap();
                    if let Some(value) = line.strip_prefix("Content-Length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut sent = vec![0; length];
                reader.read_exact(&mut sent).unwrap();
                let length = body.len();
                write!(
                    stream,
                    "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}"
                )
                .unwrap();
                let first = first.replace(" HTTP/1.1\r\n", "");
                format!("{first} {}", String::from_utf8(sent).unwrap())
                    .trim()
                    .to_owned()
            };
            answers.into_iter().map(answer).collect()
        });
        let ini = format!("[http]\nlisten = {address}\ntoken = a-token-of-this-test\n");
        (
            Config::read(&ini, std::path::Path::new("")).unwrap(),
            server,
        )
    }

    #[test]
    fn json_is_what_the_server_says() {
        let body = r#"{"items":[{"source":"203.0.113.7","a":1}],"next":null}"#;
        let (config, server) = serve(vec![(200, body)]);
        assert_eq!(
            list(&config, List::Bans, None, &[], true),
            Ok(format!("{body}\n"))
        );
        assert_eq!(server.join().unwrap(), ["GET /api/v1/bans?limit=1000"]);
    }

    #[test]
    fn pages_are_followed() {
        let (config, server) = serve(vec![
            (200, r#"{"items":[{"user":"100"}],"next":"a b&c"}"#),
            (200, r#"{"items":[{"user":"101"}],"next":"d"}"#),
            (200, r#"{"items":[{"user":"102"}],"next":null}"#),
        ]);
        let expected = "{\"items\":[{\"user\":\"100\"},{\"user\":\"101\"},{\"user\":\"102\"}],\"next\":null}\n";
        assert_eq!(
            list(&config, List::Registrations, None, &[], true),
            Ok(expected.into())
        );
        let asked = server.join().unwrap();
        assert_eq!(
            asked[1],
            "GET /api/v1/registrations?limit=1000&after=a%20b%26c"
        );
        assert_eq!(asked[2], "GET /api/v1/registrations?limit=1000&after=d");
    }

    #[test]
    fn call_records_end_at_their_limit() {
        let (config, server) = serve(vec![
            (
                200,
                r#"{"items":[{"caller":"1"},{"caller":"2"}],"next":"2"}"#,
            ),
            (200, r#"{"items":[{"caller":"3"}],"next":"3"}"#),
        ]);
        let filters = [("user", "100".to_owned())];
        let text = list(&config, List::Cdr, Some(3), &filters, false).unwrap();
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.ends_with("... and more: --limit NUMBER\n"), "{text}");
        let expected = [
            "GET /api/v1/cdrs?limit=3&user=100",
            "GET /api/v1/cdrs?limit=1&user=100&after=2",
        ];
        assert_eq!(server.join().unwrap(), expected);
    }

    #[test]
    fn a_server_that_never_ends_its_list_is_left() {
        let (config, server) = serve(vec![(200, r#"{"items":[],"next":"a"}"#)]);
        assert_eq!(
            list(&config, List::Calls, None, &[], false).as_deref(),
            Ok("none\n")
        );
        drop(server);
    }

    #[test]
    fn errors_are_told_in_the_servers_words() {
        for (status, body, error) in [
            (
                501,
                r#"{"error": "not yet in this version"}"#,
                "not yet in this version (501)",
            ),
            (
                404,
                r#"{"error": "no such\u001b call"}"#,
                "no such\u{fffd} call (404)",
            ),
            (500, "oops", "the server answers 500"),
            (
                200,
                "oops",
                "the server's answer is no JSON: expected value at line 1 column 1",
            ),
            (200, "{}", "the server's answer has no items"),
        ] {
            let (config, _server) = serve(vec![(status, body)]);
            assert_eq!(
                list(&config, List::Lines, None, &[], false),
                Err(error.into())
            );
        }
        let (config, _server) = serve(vec![(401, r#"{"error":"x"}"#)]);
        let error = status(&config, false, false).unwrap_err();
        assert!(error.starts_with("the server refuses the token"), "{error}");
    }

    #[test]
    fn bans_are_made_and_lifted() {
        let body = r#"{"source":"203.0.113.7","until":"2026-03-01T16:00:00.000Z"}"#;
        let reason =
            r#"{"error":"2001:db8::/64 lies in 2001:db8::/56, which is banned: lift that first"}"#;
        let replies = vec![(201, body), (200, "{}"), (409, reason), (204, "")];
        let (config, server) = serve(replies);
        let source: Source = "203.0.113.7".parse().unwrap();
        let said = ban(&config, source, Some("4h"), false);
        assert_eq!(
            said.unwrap(),
            "203.0.113.7 is banned until 2026-03-01T16:00:00.000Z\n"
        );
        let said = unban(&config, "2001:db8::7".parse().unwrap(), false);
        assert_eq!(said.unwrap(), "2001:db8::/64 is not banned any more\n");
        let said = unban(&config, "2001:db8::/56".parse().unwrap(), false).unwrap_err();
        assert!(said.contains("lift that first"), "{said}");
        assert_eq!(hangup(&config, "a/b", false).unwrap(), "a/b is ended\n");
        let expected = [
            r#"POST /api/v1/bans {"for":"4h","source":"203.0.113.7"}"#,
            "DELETE /api/v1/bans/2001:db8::/64",
            "DELETE /api/v1/bans/2001:db8::/56",
            "DELETE /api/v1/calls/a%2Fb",
        ];
        assert_eq!(server.join().unwrap(), expected);
    }

    #[test]
    fn without_http_or_token_it_says_why() {
        let of = |ini: &str| {
            let config = Config::read(ini, std::path::Path::new("/nowhere")).unwrap();
            Server::of(&config).map(|_| ()).unwrap_err()
        };
        let expected = "[http] listen is empty, so the running server cannot be asked";
        assert_eq!(of("[http]\nlisten =\n"), expected);
        let expected = "state file /nowhere/sipkeep.db: it does not exist; the server makes it at its first start";
        assert_eq!(of(""), expected);
    }

    #[test]
    fn made_passwords_are_shown_without_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sipkeep.db");
        let (store, ..) = sipkeep::net::store::Store::open(
            &file,
            sipkeep::time::UnixTime::default(),
            std::time::Duration::from_secs(1),
            || {},
        )
        .unwrap();
        store
            .keep_secrets(&[
                ("password:100", "zebra-lamp"),
                ("password:7", "old"),
                ("http_token", "t0ken"),
            ])
            .unwrap();
        let users = "[user 100]\n[user 101]\n[user 102]\npassword = own;word\n[user 103]\naddresses = 10.0.0.1\n";
        let config = Config::read(&format!("[http]\nlisten =\n{users}"), folder.path()).unwrap();
        let expected = "\
user  password
100   zebra-lamp
101   (made at the next start)

([http] listen is empty, so the running server cannot be asked)
";
        assert_eq!(status(&config, true, false).unwrap(), expected);
        let expected = "{\"100\":\"zebra-lamp\",\"101\":null}\n";
        assert_eq!(status(&config, true, true).unwrap(), expected);
        // The token too, unless the file has one of its own or there is no API.
        let of = |http: &str, users: &str| {
            let text = format!("[http]\nlisten = 127.0.0.1:1\n{http}{users}");
            generated(
                &Config::read(&text, folder.path()).unwrap(),
                !users.is_empty(),
            )
        };
        let expected = "{\"100\":\"zebra-lamp\",\"[http] token\":\"t0ken\"}\n";
        assert_eq!(of("", "[user 100]\n").unwrap(), expected);
        let shown = of("", "").unwrap();
        assert!(shown.ends_with("\nAPI token: t0ken\n"), "{shown}");
        let shown = of("token = my-own-token-of-the-file\n", "").unwrap();
        assert!(!shown.contains("oken"), "{shown}");
        drop(store); // the file was read while it was in use
    }
}
