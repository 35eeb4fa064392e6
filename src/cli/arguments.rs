//! The arguments as typed values, and the help text.

use std::path::PathBuf;

use lexopt::prelude::{Long, Short, Value, ValueExt};
use sipkeep::api::Rfc3339;
use sipkeep::source::Source;

pub const HELP: &str = "\
sipkeep, a SIP server and small PBX

Usage: sipkeep [COMMAND] [OPTIONS]

  (no command)           run the server
  check                  read the configuration, print what will run or every mistake

Ask the running server:
  status [--passwords]   how it is; the passwords and the API token that were made by the server
  registrations          phones that are registered
  calls                  calls that are up
  lines                  external lines and their state
  bans                   banned addresses
  cdr                    call records, newest first
      --since TIME, --until TIME, --user USER    only these
      --limit NUMBER     how many (100)
  ban ADDRESS [--for 4h] refuse everything from this address
  unban ADDRESS          lift a ban
  hangup CALL            end a call, by its id in \"calls\"

  ha1 USER               read a password, print what can stand for it in the configuration

Options:
  --config FILE          the configuration (./config.ini)
  --json                 what the server answers, for scripts
  --help, --version
";

/// Call records shown unless `--limit` says otherwise.
const CDR_LIMIT: usize = 100;

#[derive(Debug, PartialEq)]
pub struct Arguments {
    pub config: PathBuf,
    pub json: bool,
    pub command: Command,
}

#[derive(Debug, PartialEq)]
pub enum Command {
    Run,
    Help,
    Version,
    Check,
    Status {
        passwords: bool,
    },
    List {
        list: List,
        limit: Option<usize>,
        filters: Vec<(&'static str, String)>,
    },
    /// `duration` as it was written, which the server reads the same way.
    Ban {
        source: Source,
        duration: Option<String>,
    },
    Unban {
        source: Source,
    },
    Hangup {
        call: String,
    },
    Ha1 {
        user: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum List {
    Registrations,
    Calls,
    Lines,
    Bans,
    Cdr,
}

/// Everything that may follow a command, before it is known whether it fits.
#[derive(Default)]
struct Given {
    words: Vec<String>,
    config: Option<PathBuf>,
    json: bool,
    passwords: bool,
    duration: Option<String>,
    limit: Option<usize>,
    filters: Vec<(&'static str, String)>,
}

/// Reads the arguments.
///
/// # Errors
/// What is wrong with them, in words.
pub fn parse(mut parser: lexopt::Parser) -> Result<Arguments, lexopt::Error> {
    let mut given = Given::default();
    let mut ends = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("config") | Short('c') => given.config = Some(parser.value()?.into()),
            Long("json") => given.json = true,
            Long("passwords") => given.passwords = true,
            Long("for") => given.duration = Some(duration(parser.value()?.string()?)?),
            Long("limit") => {
                let limit: std::num::NonZeroUsize = parser.value()?.parse()?;
                given.limit = Some(limit.get());
            }
            Long(name @ ("since" | "until" | "user")) => {
                let name = ["since", "until", "user"]
                    .into_iter()
                    .find(|known| *known == name);
                let value = parser.value()?.string()?;
                if name != Some("user") {
                    value
                        .parse::<Rfc3339>()
                        .map_err(|error| format!("\"{value}\" is {error}"))?;
                }
                given.filters.extend(name.map(|name| (name, value)));
            }
            Long("help") | Short('h') => ends = ends.or(Some(Command::Help)),
            Long("version") | Short('V') => ends = ends.or(Some(Command::Version)),
            Value(word) => given.words.push(word.string()?),
            _ => return Err(argument.unexpected()),
        }
    }
    let config = given.config.clone().unwrap_or_else(|| "config.ini".into());
    let json = given.json;
    let command = ends.map_or_else(|| command(&mut given), Ok)?;
    Ok(Arguments {
        config,
        json,
        command,
    })
}

fn command(given: &mut Given) -> Result<Command, lexopt::Error> {
    let mut words = std::mem::take(&mut given.words).into_iter();
    let name = words.next().unwrap_or_default();
    let mut word = |what: &str| words.next().ok_or(format!("\"{name}\" needs {what}"));
    let list = |list| Command::List {
        list,
        limit: None,
        filters: Vec::new(),
    };
    let mut takes_json = true;
    let command = match name.as_str() {
        "" | "check" | "ha1" => {
            takes_json = false;
            match name.as_str() {
                "" => Command::Run,
                "check" => Command::Check,
                _ => Command::Ha1 {
                    user: word("a user")?,
                },
            }
        }
        "status" => Command::Status {
            passwords: std::mem::take(&mut given.passwords),
        },
        "registrations" => list(List::Registrations),
        "calls" => list(List::Calls),
        "lines" => list(List::Lines),
        "bans" => list(List::Bans),
        "cdr" => Command::List {
            list: List::Cdr,
            limit: Some(given.limit.take().unwrap_or(CDR_LIMIT)),
            filters: std::mem::take(&mut given.filters),
        },
        "ban" => Command::Ban {
            source: source(&word("an address")?)?,
            duration: given.duration.take(),
        },
        "unban" => Command::Unban {
            source: source(&word("an address")?)?,
        },
        "hangup" => Command::Hangup {
            call: word("the id of a call")?,
        },
        _ => return Err(format!("unknown command \"{name}\"").into()),
    };
    if let Some(more) = words.next() {
        return Err(lexopt::Error::UnexpectedArgument(more.into()));
    }
    let left = [
        (given.json && !takes_json, "--json"),
        (given.passwords, "--passwords"),
        (given.duration.is_some(), "--for"),
        (given.limit.is_some(), "--limit"),
        (!given.filters.is_empty(), "--since, --until and --user"),
    ];
    match left.iter().find(|(left, _)| *left) {
        Some((_, option)) if name.is_empty() => Err(format!("{option} needs a command").into()),
        Some((_, option)) => Err(format!("{option} is not for \"{name}\"").into()),
        None => Ok(command),
    }
}

fn duration(text: String) -> Result<String, String> {
    sipkeep::config::parse_duration(&text).map(|_| text)
}

fn source(text: &str) -> Result<Source, String> {
    text.parse()
        .map_err(|error| format!("\"{text}\" is {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Arguments, String> {
        parse(lexopt::Parser::from_args(line.split_whitespace())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_may_be_named_before_or_after_the_command() {
        for line in [
            "--config x.ini check",
            "check --config x.ini",
            "check --config=x.ini",
        ] {
            let arguments = of(line).unwrap();
            assert_eq!(
                (arguments.config, arguments.command),
                ("x.ini".into(), Command::Check)
            );
        }
        let arguments = of("").unwrap();
        assert_eq!(
            (arguments.config, arguments.command),
            ("config.ini".into(), Command::Run)
        );
    }

    #[test]
    fn commands_are_read() {
        let list = |list, limit| Command::List {
            list,
            limit,
            filters: vec![],
        };
        let v4: Source = "203.0.113.7".parse().unwrap();
        let v6: Source = "2001:db8::".parse().unwrap();
        for (line, command) in [
            ("status", Command::Status { passwords: false }),
            (
                "--json status --passwords",
                Command::Status { passwords: true },
            ),
            ("registrations --json", list(List::Registrations, None)),
            ("calls", list(List::Calls, None)),
            ("lines", list(List::Lines, None)),
            ("bans", list(List::Bans, None)),
            ("cdr", list(List::Cdr, Some(100))),
            ("cdr --limit 5", list(List::Cdr, Some(5))),
            (
                "ban 203.0.113.7 --for 4h",
                Command::Ban {
                    source: v4,
                    duration: Some("4h".into()),
                },
            ),
            (
                "ban --for 4h 203.0.113.7",
                Command::Ban {
                    source: v4,
                    duration: Some("4h".into()),
                },
            ),
            (
                "ban 2001:db8::/64",
                Command::Ban {
                    source: v6,
                    duration: None,
                },
            ),
            ("unban 2001:db8::7", Command::Unban { source: v6 }),
            ("hangup c1", Command::Hangup { call: "c1".into() }),
            ("ha1 100", Command::Ha1 { user: "100".into() }),
            ("check --help --version", Command::Help),
            ("--version", Command::Version),
        ] {
            assert_eq!(
                of(line).map(|arguments| arguments.command),
                Ok(command),
                "{line}"
            );
        }
        let Ok(Command::List { filters, .. }) =
            of("cdr --user 100 --since 2026-01-01").map(|arguments| arguments.command)
        else {
            panic!("a list");
        };
        assert_eq!(
            filters,
            [
                ("user", "100".to_owned()),
                ("since", "2026-01-01".to_owned())
            ]
        );
    }

    #[test]
    fn wrong_usage_is_told() {
        for (line, error) in [
            ("chek", "unknown command \"chek\""),
            ("check all", "unexpected argument \"all\""),
            ("ban", "\"ban\" needs an address"),
            (
                "ban pbx.example",
                "\"pbx.example\" is not an address that anybody sends from",
            ),
            (
                "ban 192.0.2.1 --for 4",
                "\"4\" needs a unit (ms, s, m, h or d), as in 4s or 4m",
            ),
            (
                "cdr --since yesterday",
                "\"yesterday\" is not a time like 2026-03-01T12:00:00Z or 2026-03-01",
            ),
            (
                "cdr --limit 0",
                "cannot parse argument \"0\": number would be zero for non-zero type",
            ),
            ("hangup", "\"hangup\" needs the id of a call"),
            ("ha1", "\"ha1\" needs a user"),
            ("check --json", "--json is not for \"check\""),
            ("--json", "--json needs a command"),
            ("calls --passwords", "--passwords is not for \"calls\""),
            ("unban 192.0.2.1 --for 4h", "--for is not for \"unban\""),
            ("bans --limit 4", "--limit is not for \"bans\""),
            (
                "calls --user 1",
                "--since, --until and --user is not for \"calls\"",
            ),
            ("--colour", "invalid option '--colour'"),
            ("check --config", "missing argument for option '--config'"),
        ] {
            assert_eq!(of(line), Err(error.to_owned()), "{line}");
        }
    }
}
