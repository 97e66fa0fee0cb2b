//! `swarm`: many random worlds, one after the other or several at once.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use parti_sim::swarm::{self, Plan, Run};
use parti_sim::{Kind, Marks, Plant, Repeatable, Violation};

use super::{TRACE_LINES, json};

/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // each is a switch of the command line
pub(super) struct SwarmArgs {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Begin no other seed after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// How many threads; each world runs in one.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    jobs: u64,
    /// Let every world happen twice, and compare the traces.
    #[arg(long)]
    twice: bool,
    /// Write the trace of the shrunk failure to this file, for `replay`.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Print the failure as it is, without looking for a smaller one.
    #[arg(long)]
    no_shrink: bool,
    /// Let the store lose what it had acknowledged, be made anew, or hold what is not a record in every world, and not
    /// only in one of ten.
    #[arg(long)]
    lossy: bool,
    /// Plant a deliberate bug, to see it caught.
    #[arg(long, value_enum)]
    plant: Option<Plant>,
    /// Print how often each mechanism was reached.
    #[arg(long)]
    marks: bool,
}

/// What all threads add to.
#[derive(Default)]
struct Sum {
    marks: Marks,
    seeds: u64,
    events: u64,
    virtual_s: f64,
    /// The failure with the lowest seed.
    failure: Option<(u64, Failure)>,
}

enum Failure {
    Broken(Violation),
    NotDeterministic,
}

pub(super) fn swarm(args: &SwarmArgs, out: &mut impl Write) -> io::Result<u8> {
    let began = Instant::now();
    let sum = Mutex::new(Sum::default());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for job in 0..args.jobs {
            let (sum, next) = (&sum, &next);
            scope.spawn(move || work(args, sum, next, began, job == 0));
        }
    });
    let sum = sum.into_inner().expect("no thread panicked");
    let seconds = began.elapsed().as_secs_f64();
    writeln!(
        out,
        "{} seeds from {}, {} events, {:.0} s of virtual time in {seconds:.1} s: {:.0} times real time",
        sum.seeds,
        args.start,
        sum.events,
        sum.virtual_s,
        sum.virtual_s / seconds.max(1e-9)
    )?;
    if args.marks {
        for (mark, count) in sum.marks.iter() {
            writeln!(out, "  {:<24}{count:>12}", format!("{mark:?}"))?;
        }
    }
    match sum.failure {
        None => {
            writeln!(out, "held")?;
            Ok(0)
        }
        Some((seed, Failure::NotDeterministic)) => {
            writeln!(out, "seed {seed} gave two different traces")?;
            writeln!(out, "repeat it: {} --twice", repeat(args, seed))?;
            Ok(5)
        }
        Some((seed, Failure::Broken(violation))) => {
            report(args, seed, &violation, out)?;
            Ok(if violation.kind == Kind::Safety { 1 } else { 3 })
        }
    }
}

/// Takes seeds until there are none left or one has failed.
fn work(args: &SwarmArgs, sum: &Mutex<Sum>, next: &AtomicU64, began: Instant, shows_progress: bool) {
    let until = args.seconds.map(|seconds| began + Duration::from_secs(seconds));
    let mut shown = began;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let is_over = number >= args.seeds || until.is_some_and(|until| Instant::now() >= until);
        if is_over || sum.lock().expect("no thread panicked").failure.is_some() {
            return;
        }
        let seed = args.start + number;
        let plan = Plan::random(seed, args.plant, args.lossy);
        let run = swarm::run(&plan, args.twice);
        let failure = match &run {
            Run { violation: Some(violation), .. } => Some(Failure::Broken(violation.clone())),
            Run { trace: Some(trace), .. } if swarm::run(&plan, true).trace.as_ref() != Some(trace) => {
                Some(Failure::NotDeterministic)
            }
            Run { .. } => None,
        };
        let mut sum = sum.lock().expect("no thread panicked");
        sum.marks.add(&run.marks);
        sum.seeds += 1;
        sum.events += run.events;
        sum.virtual_s += run.virtual_s;
        if let Some(failure) = failure
            && sum.failure.as_ref().is_none_or(|(lowest, _)| seed < *lowest)
        {
            sum.failure = Some((seed, failure));
        }
        if shows_progress && shown.elapsed() > PROGRESS_EVERY {
            shown = Instant::now();
            // Progress is for a person who waits; when nobody reads it, nothing is lost.
            let _ = writeln!(io::stderr(), "{}", progress(args, &sum, began.elapsed()));
        }
    }
}

/// How far it is, and how long it still takes if it goes on like this.
fn progress(args: &SwarmArgs, sum: &Sum, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let by_seeds = seconds * (args.seeds - sum.seeds) / sum.seeds.max(1);
    let left = args.seconds.map_or(by_seeds, |limit| by_seeds.min(limit.saturating_sub(seconds)));
    format!("{} seeds held in {seconds} s, {} events; about {left} s to go", sum.seeds, sum.events)
}

/// The command that lets the world of one seed happen again.
fn repeat(args: &SwarmArgs, seed: u64) -> String {
    let plant = args.plant.map(|plant| format!(" --plant {plant}")).unwrap_or_default();
    let lossy = if args.lossy { " --lossy" } else { "" };
    format!("cargo run --release -p parti-sim -- swarm --start {seed} --seeds 1{plant}{lossy}")
}

fn report(args: &SwarmArgs, seed: u64, violation: &Violation, out: &mut impl Write) -> io::Result<()> {
    let plan = Plan::random(seed, args.plant, args.lossy);
    writeln!(out, "\nseed {seed}: {violation}")?;
    writeln!(out, "repeat it: {}", repeat(args, seed))?;
    let (plan, violation) = if args.no_shrink {
        (plan, violation.clone())
    } else {
        let shrunk = swarm::shrink(&plan, violation);
        writeln!(
            out,
            "\nshrunk in {} runs to {} acts, {} workers, {} partitions: {}",
            shrunk.runs,
            shrunk.plan.acts.len(),
            shrunk.plan.options.workers,
            shrunk.plan.options.partitions,
            shrunk.violation
        )?;
        (shrunk.plan, shrunk.violation)
    };
    let repeatable = Repeatable::Swarm(Box::new(plan.clone()));
    let trace = repeatable.trace();
    for line in trace.last(TRACE_LINES, |line| violation.concerns(line)) {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "plan: {}", json(&plan))?;
    if let Some(path) = &args.save {
        repeatable.write(&trace, &mut io::BufWriter::new(std::fs::File::create(path)?))?;
        writeln!(out, "repeat the shrunk one: cargo run -p parti-sim -- replay {}", path.display())?;
    }
    Ok(())
}
