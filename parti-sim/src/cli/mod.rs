//! The command line.

mod exhaustive;
mod output;
mod record;
mod replay;
mod rounds;
mod scenario;
mod speed;
mod swarm;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use exhaustive::ExhaustiveArgs;
use output::USAGE;
use record::RecordArgs;
use replay::ReplayArgs;
use rounds::PlanArgs;
use scenario::ScenarioArgs;
use speed::SpeedArgs;
use swarm::SwarmArgs;

/// Many workers in one thread, against a model of the store, under a virtual clock.
#[derive(Debug, Parser)]
#[command(name = "parti-sim", version)]
struct Cli {
    /// What to do; without it, the scenarios are listed.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play scenarios, and print what happened and what was measured; `list` names them all.
    Scenario(ScenarioArgs),
    /// Let many random worlds happen, one for each seed, with every invariant checked after every event.
    Swarm(SwarmArgs),
    /// Look at every state of small worlds: every order of messages, faults and timers, within bounds.
    Exhaustive(ExhaustiveArgs),
    /// Write into documents how far the swarm has searched.
    Record(RecordArgs),
    /// Let what a trace file tells of happen again, and show it, all or in part.
    Replay(ReplayArgs),
    /// Measure how much faster than real time each scenario is.
    Speed(SpeedArgs),
    /// Show the rounds in which a group goes from one number of workers to another.
    Plan(PlanArgs),
}

impl Command {
    fn run(self, out: &mut impl Write) -> io::Result<u8> {
        match self {
            Self::Scenario(args) => scenario::scenario(&args, out),
            Self::Swarm(args) => swarm::swarm(&args, out),
            Self::Exhaustive(args) => exhaustive::exhaustive(&args, out),
            Self::Record(args) => record::record(&args, out),
            Self::Replay(args) => replay::replay(&args, out),
            Self::Speed(args) => speed::speed(&args, out),
            Self::Plan(args) => plan(&args, out),
        }
    }
}

/// Runs the command that was given.
pub(crate) fn run() -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let code = match Cli::parse().command {
        None => scenario::list(&mut out).map(|()| 0),
        Some(command) => command.run(&mut out),
    };
    match code.and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Nobody reads what is printed any more, or a file cannot be written.
            let _ = writeln!(io::stderr(), "parti-sim: {error}");
            ExitCode::from(USAGE)
        }
    }
}

/// Prints the rounds of a change.
fn plan(args: &PlanArgs, out: &mut impl Write) -> io::Result<u8> {
    let rounds = rounds::run(args).map_err(io::Error::other)?;
    writeln!(out, "{}", rounds.trim_end())?;
    Ok(0)
}
