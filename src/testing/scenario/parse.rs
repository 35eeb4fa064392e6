//! A scenario's text to its lines.

use std::net::SocketAddr;
use std::time::Duration;

use crate::source::Transport;
use crate::testing::dns::{Manner, Zone};

/// Where the server listens, unless the scenario's configuration says otherwise.
pub const SERVER: &str = "192.0.2.1:5060";
/// Agents that every scenario has, with users of the same names.
const USUAL: [(&str, &str); 3] = [
    ("alice", "192.0.2.10:5060"),
    ("bob", "192.0.2.20:5060"),
    ("carol", "192.0.2.30:5060"),
];

/// An agent as it is declared.
#[derive(Clone, Debug)]
pub struct AgentSpec {
    pub name: String,
    pub user: String,
    pub password: String,
    pub address: SocketAddr,
    pub transport: Transport,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    /// The line as it stands there.
    pub text: String,
    pub at: Duration,
    pub step: Step,
}

/// What a line says.
#[derive(Clone, Debug)]
pub enum Step {
    /// `agent > what`
    Send(String, Words),
    /// `agent < what`
    Expect(String, Words),
    /// `agent closes`
    Close(String),
    /// `agent vanishes`
    Vanish(String),
    Nothing,
    /// `server ...`
    Server(Words),
    /// `record ...`
    Record(Words),
    /// `event ...`
    Event(Words),
    /// `agent answers OPTIONS`, with this status; `agent ignores OPTIONS`: with none.
    Options(String, Option<u16>),
    /// `dns ...`
    Dns(Words),
    /// `agent sends rtp ...`
    Media(String, Words),
    /// `agent hears rtp ...`
    Heard(String, Words),
}

/// Words of a line: plain ones, `key=value`, and the header lines below.
#[derive(Clone, Debug, Default)]
pub struct Words {
    pub plain: Vec<String>,
    pub options: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
    /// What stands between the first and the last quote.
    pub quoted: Option<String>,
}

impl Words {
    fn of(text: &str) -> Self {
        let mut words = Self::default();
        let text = match (text.find('"'), text.rfind('"')) {
            (Some(start), Some(end)) if start < end => {
                words.quoted = Some(text[start + 1..end].to_owned());
                [&text[..start], &text[end + 1..]].concat()
            }
            _ => text.to_owned(),
        };
        for word in text.split_whitespace() {
            match word.split_once('=') {
                // A URI may have parameters of its own.
                Some((key, value)) if !key.contains(':') => {
                    words.options.push((key.to_owned(), value.to_owned()));
                }
                _ => words.plain.push(word.to_owned()),
            }
        }
        words
    }

    /// The value of an option.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options
            .iter()
            .find(|(own, _)| own == key)
            .map(|(_, value)| value.as_str())
    }
}

/// A whole scenario.
#[derive(Clone, Debug)]
pub struct Script {
    /// Text of its first comment.
    pub title: String,
    /// Seed of the run.
    pub seed: u64,
    /// Text of the configuration.
    pub config: String,
    /// Configurations that it is exchanged for, by name.
    pub others: Vec<(String, String)>,
    /// What the name server knows.
    pub zone: Zone,
    /// How it behaves at first.
    pub manner: Manner,
    /// Who takes part.
    pub agents: Vec<AgentSpec>,
    /// What happens, in the order of time.
    pub lines: Vec<Line>,
}

impl Script {
    /// Reads a scenario.
    ///
    /// # Errors
    /// The line that cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut script = Self {
            title: String::new(),
            seed: 1,
            config: String::new(),
            others: Vec::new(),
            zone: Zone::default(),
            manner: Manner::Answers,
            agents: Vec::new(),
            lines: Vec::new(),
        };
        for (name, address) in USUAL {
            script.agents.push(agent(&[name, address])?);
        }
        let mut in_config = false;
        // Whether that is another one than the first.
        let mut in_other = false;
        let mut blocks: Vec<(String, Vec<(String, String)>)> = Vec::new();
        for (index, raw) in text.lines().enumerate() {
            let number = index + 1;
            let line = raw.trim();
            let bad = |what: String| format!("line {number}: `{line}`: {what}");
            if script.title.is_empty() && line.starts_with('#') {
                script.title = line.trim_start_matches('#').trim().to_owned();
                continue;
            }
            let line = without_comment(line);
            let first = line.split_whitespace().next().unwrap_or_default();
            let last = script.lines.last().map_or(Duration::ZERO, |line| line.at);
            if let Some(at) = time(first, last) {
                in_config = false;
                if at < last {
                    return Err(bad("time runs backwards".into()));
                }
                for text in expanded(line[first.len()..].trim()) {
                    let step = step(&text).map_err(bad)?;
                    script.lines.push(Line {
                        number,
                        text: line.to_owned(),
                        at,
                        step,
                    });
                }
            } else if let Some(text) = line.strip_prefix('|') {
                let added = match text.trim().strip_prefix('@') {
                    Some(name) => {
                        let block = blocks.iter().find(|(own, _)| own == name);
                        block
                            .ok_or_else(|| bad("no such headers".into()))?
                            .1
                            .clone()
                    }
                    None => vec![header(text).map_err(bad)?],
                };
                let step = script.lines.last_mut().map(|line| &mut line.step);
                match (step, blocks.last_mut()) {
                    (Some(Step::Send(_, words) | Step::Expect(_, words)), _) => {
                        words.headers.extend(added);
                    }
                    (None, Some((_, block))) => block.extend(added),
                    _ => return Err(bad("a header of nothing".into())),
                }
            } else if let Some(name) = line.strip_prefix("headers ") {
                blocks.push((name.trim_end_matches(':').to_owned(), Vec::new()));
            } else if line == "config:" {
                (in_config, in_other) = (true, false);
            } else if let Some(name) = line.strip_prefix("config ") {
                let name = name.trim_end_matches(':').to_owned();
                script.others.push((name, String::new()));
                (in_config, in_other) = (true, true);
            } else if in_config {
                let other = script.others.last_mut().filter(|_| in_other);
                let config = other.map_or(&mut script.config, |(_, config)| config);
                config.push_str(line);
                config.push('\n');
            } else if let Some(seed) = line.strip_prefix("seed ") {
                script.seed = seed.trim().parse().map_err(|_| bad("not a seed".into()))?;
            } else if let Some(record) = line.strip_prefix("dns: ") {
                match Manner::of(record.trim()) {
                    Some(manner) => script.manner = manner,
                    None => script.zone.add(record).map_err(bad)?,
                }
            } else if let Some(spec) = line.strip_prefix("agent ") {
                let spec = agent(&spec.split_whitespace().collect::<Vec<_>>()).map_err(bad)?;
                script.agents.retain(|known| known.name != spec.name);
                script.agents.push(spec);
            } else if !line.is_empty() {
                return Err(bad("neither a time nor a known word".into()));
            }
        }
        script.config = completed(&script.config);
        for (_, config) in &mut script.others {
            *config = completed(config);
        }
        Ok(script)
    }
}

/// `Name: value`, or `!Name` for one that is not there.
fn header(text: &str) -> Result<(String, String), String> {
    if let Some(name) = text.trim().strip_prefix('!') {
        return Ok((format!("!{}", name.trim()), String::new()));
    }
    let (name, value) = text.split_once(':').ok_or("not a header")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// ` #` begins a comment, unless quotes or a header are around it.
fn without_comment(line: &str) -> &str {
    if line.starts_with('#') {
        return "";
    }
    let is_comment = |at: &usize| line[..*at].matches('"').count().is_multiple_of(2);
    match line.match_indices(" #").map(|(at, _)| at).find(is_comment) {
        Some(at) => line[..at].trim_end(),
        None => line,
    }
}

/// `10ms`, `1.5s`, `3m`, `1h`, or `+10ms` after the line before.
pub fn time(word: &str, last: Duration) -> Option<Duration> {
    let (word, base) = match word.strip_prefix('+') {
        Some(rest) => (rest, last),
        None => (word, Duration::ZERO),
    };
    let (number, unit_us) = if let Some(number) = word.strip_suffix("ms") {
        (number, 1_000)
    } else if let Some(number) = word.strip_suffix('s') {
        (number, 1_000_000)
    } else if let Some(number) = word.strip_suffix('m') {
        (number, 60_000_000)
    } else {
        (word.strip_suffix('h')?, 3_600_000_000)
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let mut micros = whole.parse::<u64>().ok()? * unit_us;
    let mut unit = unit_us;
    for digit in part.bytes() {
        unit /= 10;
        micros += u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?) * unit;
    }
    Some(base + Duration::from_micros(micros))
}

/// What the shorthands stand for.
fn expanded(line: &str) -> Vec<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let lines: Vec<String> = match words.as_slice() {
        [a, "registers"] => vec![
            format!("{a} > REGISTER auth=no"),
            format!("{a} < 401"),
            format!("{a} > REGISTER"),
            format!("{a} < 200"),
        ],
        [a, "calls", b] => vec![
            format!("{a} > INVITE sip:{b}@pbx"),
            format!("{a} < 100"),
            format!("{b} < INVITE"),
        ],
        [a, "talks", "to", b] => {
            let mut lines = expanded(&format!("{a} calls {b}"));
            lines.extend([
                format!("{b} > 180"),
                format!("{a} < 180"),
                format!("{b} > 200"),
                format!("{b} < ACK"),
                format!("{a} < 200"),
                format!("{a} > ACK"),
            ]);
            lines
        }
        [a, "hangs", "up", "on", b] => vec![
            format!("{a} > BYE"),
            format!("{a} < 200 BYE"),
            format!("{b} < BYE"),
            format!("{b} > 200 BYE"),
        ],
        _ => vec![line.to_owned()],
    };
    lines
}

fn step(line: &str) -> Result<Step, String> {
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let (second, third) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    match (first, second) {
        ("nothing", "") => Ok(Step::Nothing),
        ("server", _) => Ok(Step::Server(Words::of(rest))),
        ("record", _) => Ok(Step::Record(Words::of(rest))),
        ("dns", _) => Ok(Step::Dns(Words::of(rest))),
        ("event", _) => Ok(Step::Event(Words::of(rest))),
        (agent, "ignores") if third == "OPTIONS" => Ok(Step::Options(agent.into(), None)),
        (agent, "answers") => match third.strip_prefix("OPTIONS").map(str::trim) {
            Some("") => Ok(Step::Options(agent.into(), Some(200))),
            Some(status) => match status.parse() {
                Ok(status) => Ok(Step::Options(agent.into(), Some(status))),
                Err(_) => Err("not a status".into()),
            },
            None => Err("only OPTIONS are answered by themselves".into()),
        },
        (agent, ">") => Ok(Step::Send(agent.into(), Words::of(third))),
        (agent, "<") => Ok(Step::Expect(agent.into(), Words::of(third))),
        (agent, "sends") => Ok(Step::Media(agent.into(), Words::of(third))),
        (agent, "hears") => Ok(Step::Heard(agent.into(), Words::of(third))),
        (agent, "closes") => Ok(Step::Close(agent.into())),
        (agent, "vanishes") => Ok(Step::Vanish(agent.into())),
        _ => Err("not a step".into()),
    }
}

fn agent(words: &[&str]) -> Result<AgentSpec, String> {
    let [name, address, options @ ..] = words else {
        return Err("agent NAME ADDRESS:PORT".into());
    };
    let mut spec = AgentSpec {
        name: (*name).into(),
        user: (*name).into(),
        password: String::new(),
        address: address
            .parse()
            .map_err(|error| format!("{address}: {error}"))?,
        transport: Transport::Udp,
    };
    for option in options {
        match option.split_once('=') {
            None if *option == "tcp" => spec.transport = Transport::Tcp,
            Some(("user", user)) => spec.user = user.into(),
            Some(("password", password)) => spec.password = password.into(),
            _ => return Err(format!("{option}: not an option of an agent")),
        }
    }
    if spec.password.is_empty() {
        spec.password = password_of(&spec.user);
    }
    Ok(spec)
}

fn password_of(user: &str) -> String {
    format!("{user}-Wonder-71")
}

/// The configuration with what every scenario needs: an address, the usual users, passwords, trunks that are not asked
/// whether they are there.
fn completed(text: &str) -> String {
    let mut whole = String::new();
    // What the section lacks, unless it says otherwise.
    let mut open: Option<String> = None;
    let mut is_user = false;
    let close = |open: &mut Option<String>, whole: &mut String| {
        if let Some(key) = open.take() {
            whole.push_str(&key);
        }
    };
    for line in text.lines() {
        let key = line.split('=').next().unwrap_or_default().trim();
        if line.starts_with('[') {
            close(&mut open, &mut whole);
            let user = line.strip_prefix("[user ");
            open = (user.and_then(|rest| rest.split(']').next()))
                .map(|user| format!("password = {}\n", password_of(user)));
            if line.starts_with("[trunk ") {
                open = Some("keepalive = 0\n".to_owned());
            }
            is_user = user.is_some();
        } else if key == "keepalive"
            || is_user && matches!(key, "password" | "addresses" | "ha1_md5" | "ha1_sha256")
        {
            open = None;
        }
        whole.push_str(line);
        whole.push('\n');
    }
    close(&mut open, &mut whole);
    if !text.contains("[server]") {
        whole.push_str("[server]\n");
    }
    if !text.contains("listen =") {
        let listen = format!("[server]\nlisten = udp:{SERVER}, tcp:{SERVER}\n");
        whole = whole.replace("[server]\n", &listen);
    }
    if !text.contains("[registrar]") {
        // Nobody is sent anything by himself.
        whole.push_str("[registrar]\nnat_keepalive = 0\n");
    }
    for (name, _) in USUAL {
        if !text.contains(&format!("[user {name}]")) {
            whole.push_str(&format!(
                "[user {name}]\npassword = {}\n",
                password_of(name)
            ));
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let at = |word| time(word, Duration::from_secs(1)).map(|at| at.as_millis());
        assert_eq!(at("10ms"), Some(10));
        assert_eq!(at("1.5s"), Some(1500));
        assert_eq!(at("2m"), Some(120_000));
        assert_eq!(at("+20ms"), Some(1020));
        assert_eq!([at("10"), at("alice"), at("s"), at("1.xs")], [None; 4]);
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, mistake) in [
            (
                "# t\n0ms alice jumps",
                "line 2: `0ms alice jumps`: not a step",
            ),
            (
                "# t\n1s nothing\n0s nothing",
                "line 3: `0s nothing`: time runs backwards",
            ),
            (
                "# t\nagent dave",
                "line 2: `agent dave`: agent NAME ADDRESS:PORT",
            ),
            (
                "# t\nwhat",
                "line 2: `what`: neither a time nor a known word",
            ),
            (
                "# t\ndns: sip A 1.2.3",
                "line 2: `dns: sip A 1.2.3`: sip A 1.2.3: not a record of a zone",
            ),
        ] {
            assert_eq!(Script::parse(text).unwrap_err(), mistake);
        }
    }

    #[test]
    fn configuration_is_completed() {
        let script =
            Script::parse("# t\nconfig:\n[user 7]\n[user alice]\ncalls_max = 1\n0ms nothing")
                .unwrap();
        let config =
            crate::config::Config::read(&script.config, std::path::Path::new(".")).unwrap();
        let names: Vec<_> = config.users.iter().map(|user| user.name.as_str()).collect();
        assert_eq!(names, ["7", "alice", "bob", "carol"]);
        assert!(config.users.iter().all(|user| user.secret.is_some()));
    }
}
