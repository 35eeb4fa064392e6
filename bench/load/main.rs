//! `sipkeep-load`: a load generator for SIP over UDP, and the bare loops that its figures are compared with.
//!
//! Requests, registrations and whole calls, in an open loop (a rate, latencies counted from when a request was due) or a
//! closed one (a window); media of relayed calls. No TCP, no TLS; the generator is one thread and should have a core of its own.

mod arguments;
mod calls;
mod cgroup;
mod cleanup;
mod compare;
mod engine;
mod flood;
mod forward;
mod help;
mod idle;
mod lanes;
mod loops;
mod media;
mod message;
mod mix;
mod newcomers;
mod process;
mod report;
mod requests;
mod server;
mod socket;

use std::process::ExitCode;

use arguments::{Arguments, Command, Scenario};
use flood::{Flooding, Kind};
use report::Report;

fn main() -> ExitCode {
    let arguments = match arguments::parse(lexopt::Parser::from_env()) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\nTry \"sipkeep-load --help\".");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String, String> {
    if arguments.command.starts_servers() {
        cleanup::at_signals()?;
    }
    let mut report = match &arguments.command {
        Command::Help => return Ok(help::TEXT.to_owned()),
        Command::Lanes {
            server,
            rates,
            user_id,
        } => return lanes::run(arguments, server, rates, *user_id),
        Command::Idle { server } => return idle::run(arguments, server),
        Command::Mix { weights, scanners } => run_mix(arguments, weights, *scanners)?,
        Command::Compare(wanted) => return compare::run(arguments, wanted),
        Command::Media {
            server,
            calls,
            rounds,
            flood,
            cores,
        } => {
            let plan = media::Plan {
                server,
                calls: *calls,
                rounds: *rounds,
                flood: *flood,
                cores: *cores,
            };
            return media::run(arguments, &plan);
        }
        Command::Forward {
            listen,
            calls,
            rests,
        } => return forward::run(*listen, *calls, *rests),
        Command::Loop { kind, listen } => return loops::run(*kind, *listen),
        Command::Load(Scenario::Flood) => flood::run(arguments)?,
        Command::Load(Scenario::Forged) => flood::run_forged(arguments)?,
        Command::Load(Scenario::Calls | Scenario::HeldCalls) => {
            let scenario = calls::Calls::new(arguments)?;
            engine::run(arguments, scenario, || {})?
        }
        Command::Load(scenario) => {
            let scenario = requests::Requests::new(*scenario, arguments)?;
            engine::run(arguments, scenario, || {})?
        }
    };
    if let Some((program, configuration)) = &arguments.told_by {
        report.tables = Some(server::status(program, configuration)?["counts"].take());
    }
    Ok(if arguments.json {
        report.json()
    } else {
        report.table()
    })
}

fn run_mix(
    arguments: &Arguments,
    weights: &[(Scenario, u32)],
    scanners: Option<f64>,
) -> Result<Report, String> {
    let sources = flood::sources(arguments);
    let flooding = scanners.map(|rate| Flooding::start(arguments, Kind::Invite, rate, sources));
    let mix = mix::Mix::new(arguments, weights)?;
    let report = engine::run(arguments, mix, || {
        flooding.iter().for_each(Flooding::begin);
    });
    let rate = flooding.map(Flooding::stop).transpose()?;
    Ok(Report {
        flood: rate,
        ..report?
    })
}
