//! Prints what a fleet on a real nats-server takes for what matters to its users, and whether that is within the bounds
//! that it is held to. Starts its own servers and workers on this machine, and ends them.
//!
//! ```sh
//! cargo run --release -p parti-benches --bin live              # about 6 minutes
//! cargo run --release -p parti-benches --bin live -- --quick   # less than one
//! ```

#[path = "../../../../parti-nats/tests/processes/mod.rs"]
mod processes;
mod recorder;
mod report;
mod resources;
mod scenes;
mod stage;
#[path = "../../../../parti-nats/tests/support/mod.rs"]
mod support;

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use parti_nats::Config;
use processes::agent::{self, Spec};
use report::Report;
use stage::Stage;

/// Measures fleets of workers on a nats-server that it starts: `NATS_SERVER`, or what `scripts/nats-server` finds.
#[derive(Debug, Parser)]
struct Args {
    /// Print JSON besides the table, which then goes to standard error.
    #[arg(long)]
    json: bool,
    /// Fewer repetitions, smaller fleets and a lease of 2 s only.
    #[arg(long)]
    quick: bool,
    /// Fail if a bound is missed.
    #[arg(long)]
    check: bool,
    /// Only the parts whose name contains this: start 1, start 10, start 50, start 200, handoff, leave, crash, silence,
    /// steady, recorder, large, cluster.
    #[arg(long, default_value = "")]
    only: String,
}

fn main() -> io::Result<ExitCode> {
    if let Some(spec) = Spec::from_environment() {
        agent::run(&spec);
        return Ok(ExitCode::SUCCESS);
    }
    let args = Args::parse();
    let mut report = Report::new(args.json);
    report.header()?;
    for (name, part) in parts(args.quick) {
        if name.contains(&args.only) {
            // What does not come to its end is a figure too, and the rest is measured all the same.
            match panic::catch_unwind(AssertUnwindSafe(|| part(&mut report))) {
                Ok(measured) => measured?,
                Err(_) => report.count(&format!("{name}: did not come to its end"), 1)?,
            }
        }
    }
    report.footer()?;
    Ok(if args.check && !report.holds() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

type Part = Box<dyn Fn(&mut Report) -> io::Result<()>>;

/// What is measured, in this order.
fn parts(quick: bool) -> Vec<(String, Part)> {
    let two_seconds = Config { lease: Duration::from_secs(2), ..Config::default() };
    let scale = if quick { Scale::QUICK } else { Scale::FULL };
    let start = |workers: &u32| -> (String, Part) {
        let workers = *workers;
        (format!("start {workers}"), Box::new(move |report| scenes::start(report, workers)))
    };
    let mut parts: Vec<_> = scale.starts.iter().map(start).collect();
    let default = (Config::default(), 30);
    let short = (two_seconds, if quick { 20 } else { 50 });
    for (config, workers) in if quick { vec![short] } else { vec![default, short] } {
        let stage = move || Stage::new(config.clone(), workers, scale.repetitions);
        let of = |scene: fn(&Stage, &mut Report) -> io::Result<()>| {
            let stage = stage.clone();
            Box::new(move |report: &mut Report| scene(&stage(), report)) as Part
        };
        parts.push(("handoff".into(), of(scenes::handoff)));
        parts.push(("leave".into(), of(scenes::leave)));
        parts.push(("leave".into(), of(scenes::leader_leaves)));
        parts.push(("crash".into(), of(scenes::crash)));
        parts.push(("crash".into(), of(scenes::leader_crashes)));
        parts.push(("silence".into(), of(scenes::silence)));
    }
    parts.push(("steady".into(), Box::new(move |report| resources::steady(report, scale))));
    parts.push(("recorder".into(), Box::new(move |report| recorder::recorder(report, scale))));
    if !quick {
        parts.push(("large".into(), Box::new(resources::large)));
        parts.push(("thousand".into(), Box::new(resources::thousand)));
        parts.push(("cluster".into(), Box::new(scenes::cluster)));
    }
    parts
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Of each disturbance.
    repetitions: u32,
    /// How many workers start at once.
    starts: &'static [u32],
    /// How long a fleet at rest is watched.
    steady: Duration,
}

impl Scale {
    const QUICK: Self = Self { repetitions: 4, starts: &[1, 10, 50], steady: Duration::from_secs(6) };
    const FULL: Self = Self { repetitions: 20, starts: &[1, 10, 50, 200], steady: Duration::from_secs(15) };
}
