//! The command line: `sipkeep` runs the server, `sipkeep check` and `ha1` work on their own, everything else asks the
//! running server over HTTP, at the address and with the token of the same configuration and state file.
//!
//! Exit codes: 0 done, 1 a mistake or a failure, 2 wrong usage.

mod arguments;
mod ask;
mod check;
mod client;
mod ha1;
mod status;
mod table;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use arguments::{Arguments, Command};
use sipkeep::config::Config;

/// What is printed and whether it went well: `Err` holds what was wrong, for standard error.
type Outcome = Result<String, String>;

const USAGE_ERROR: u8 = 2;

/// Does what the arguments say.
pub fn main() -> ExitCode {
    let arguments = match arguments::parse(lexopt::Parser::from_env()) {
        Ok(arguments) => arguments,
        Err(error) => {
            complain(&format!("{error}\nTry \"sipkeep --help\"."));
            return ExitCode::from(USAGE_ERROR);
        }
    };
    let outcome = run(&arguments);
    match outcome {
        Ok(text) => print(&text),
        Err(text) => {
            complain(&text);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome {
    let file = arguments.config.as_path();
    match &arguments.command {
        Command::Help => Ok(arguments::HELP.into()),
        Command::Version => Ok(format!("sipkeep {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Run => serve(file).map(|()| String::new()),
        Command::Check => check::check(file),
        Command::Ha1 { user } => ha1::ha1(&load(file)?, user),
        Command::Status { passwords } => ask::status(&load(file)?, *passwords, arguments.json),
        Command::List {
            list,
            limit,
            filters,
        } => ask::list(&load(file)?, *list, *limit, filters, arguments.json),
        Command::Ban { source, duration } => {
            ask::ban(&load(file)?, *source, duration.as_deref(), arguments.json)
        }
        Command::Unban { source } => ask::unban(&load(file)?, *source, arguments.json),
        Command::Hangup { call } => ask::hangup(&load(file)?, call, arguments.json),
    }
}

/// Runs the server until it is told to stop.
fn serve(file: &Path) -> Result<(), String> {
    sipkeep::net::run(file)
}

/// The configuration, or all its mistakes.
fn load(file: &Path) -> Result<Config, String> {
    Config::read_bytes(&read(file)?, file).map_err(|mistakes| {
        let lines: Vec<String> = mistakes
            .iter()
            .map(|mistake| mistake.in_file(file))
            .collect();
        lines.join("\n")
    })
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "; --config FILE names another",
            _ => "",
        };
        format!("{}: {error}{hint}", file.display())
    })
}

/// Writes to standard output. A reader that has seen enough (`sipkeep cdr | head`) is no failure.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            complain(&format!("cannot write: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Writes to standard error; if that cannot be written there is nobody to tell.
fn complain(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}
