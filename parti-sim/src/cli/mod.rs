//! The command line.

mod exhaustive;
mod output;
mod record;
mod replay;
mod rounds;
mod speed;
mod swarm;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Args, Parser, Subcommand};
use exhaustive::ExhaustiveArgs;
use output::{TRACE_LINES, USAGE, json};
use parti_sim::{Keep, Outcome, Plain, Plant, Repeatable, Scenario};
use record::RecordArgs;
use replay::ReplayArgs;
use rounds::PlanArgs;
use speed::SpeedArgs;
use swarm::SwarmArgs;

/// Many workers in one thread, against a model of the store, under a virtual clock.
#[derive(Debug, Parser)]
#[command(name = "parti-sim", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play a scenario, and print what happened and what was measured; `list` names them all.
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

#[derive(Debug, Args)]
struct ScenarioArgs {
    /// Which scenario, or `list`, or `all`.
    name: String,
    /// How many workers it starts with.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    workers: Option<u32>,
    /// How many partitions there are.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    partitions: Option<u32>,
    /// Decides everything that chance decides.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Write every line of the trace to this file.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write a page that draws what happened to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Play it with a deliberate bug, to see it caught.
    #[arg(long, value_enum)]
    plant: Option<Plant>,
}

/// Runs the command that was given.
pub(crate) fn run() -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let code = match Cli::parse().command {
        Command::Scenario(args) => scenario(&args, &mut out),
        Command::Swarm(args) => swarm::swarm(&args, &mut out),
        Command::Exhaustive(args) => exhaustive::exhaustive(&args, &mut out),
        Command::Record(args) => record::record(&args, &mut out),
        Command::Replay(args) => replay::replay(&args, &mut out),
        Command::Speed(args) => speed::speed(&args, &mut out),
        Command::Plan(args) => plan(&args, &mut out),
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

fn scenario(args: &ScenarioArgs, out: &mut impl Write) -> io::Result<u8> {
    if args.name == "list" {
        for scenario in Scenario::all() {
            writeln!(out, "{:<28}{}", scenario.name, scenario.shows)?;
        }
        return Ok(0);
    }
    let chosen = if args.name == "all" { Scenario::all() } else { Scenario::named(&args.name).into_iter().collect() };
    if chosen.is_empty() {
        writeln!(io::stderr(), "parti-sim: there is no scenario {:?}: `scenario list` names them all", args.name)?;
        return Ok(USAGE);
    }
    let mut worst = 0;
    for scenario in chosen {
        let code = play(&scenario, args, out)?;
        worst = if worst == 0 { code } else { worst.min(code.max(1)) };
    }
    Ok(worst)
}

fn play(scenario: &Scenario, args: &ScenarioArgs, out: &mut impl Write) -> io::Result<u8> {
    let mut options = scenario.options(args.seed, args.workers, args.partitions);
    options.plant = args.plant;
    let began = Instant::now();
    let outcome = scenario.run(&options, Keep { trace: args.trace.is_some(), recording: args.report.is_some() });
    let took = began.elapsed().as_secs_f64();
    if let (Some(path), Some(trace)) = (&args.trace, &outcome.trace) {
        let repeatable = Repeatable::Scenario(*scenario, Box::new(options.clone()));
        repeatable.write(trace, &mut io::BufWriter::new(std::fs::File::create(path)?))?;
    }
    if let Some(path) = &args.report {
        std::fs::write(path, outcome.report(scenario.shows))?;
    }
    if args.json {
        writeln!(out, "{}", json(&outcome.figures))?;
        return Ok(outcome.exit_code());
    }
    writeln!(out, "{}", Plain(&outcome))?;
    if outcome.violation.is_some() {
        explain(scenario, args, &outcome, out)?;
    }
    let ratio = outcome.virtual_s / took.max(1e-9);
    writeln!(
        out,
        "{}; {:.0} s of virtual time in {took:.2} s, {ratio:.0} times real time, {} events",
        if outcome.figures.held { "held" } else { "DID NOT HOLD" },
        outcome.virtual_s,
        outcome.events,
    )?;
    Ok(outcome.exit_code())
}

/// Plays it again with a trace, and prints the lines that lead to the breach.
fn explain(scenario: &Scenario, args: &ScenarioArgs, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    let Some(violation) = &outcome.violation else { return Ok(()) };
    let again = scenario.run(&outcome.options, Keep { trace: true, recording: false });
    let trace = again.trace.expect("it was asked for");
    writeln!(out, "the last lines of the trace that touch it:")?;
    for line in trace.last(TRACE_LINES, |line| violation.concerns(line)) {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "options: {}", json(&outcome.options))?;
    let plant = args.plant.map(|plant| format!(" --plant {plant}")).unwrap_or_default();
    let figures = &outcome.figures;
    writeln!(
        out,
        "repeat it: cargo run -p parti-sim -- scenario {} --workers {} --partitions {} --seed {}{plant}",
        figures.scenario, figures.workers, figures.partitions, figures.seed
    )
}
