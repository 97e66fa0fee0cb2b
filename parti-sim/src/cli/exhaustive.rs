//! `exhaustive`: every state of small worlds.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::output::USAGE;
use clap::Args;
use parti_sim::exhaustive::{self, Beginning, Bounds, Fault, Found, Level, Orders, Progress};
use parti_sim::{Kind, Plant};

/// How often progress is shown.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct ExhaustiveArgs {
    /// How many workers.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4))]
    workers: u32,
    /// How many partitions.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4))]
    partitions: u32,
    /// What there is at first; all beginnings, one after the other, unless told otherwise.
    #[arg(long, value_enum, value_delimiter = ',')]
    from: Vec<Beginning>,
    /// Let workers ask for each other and for themselves.
    #[arg(long)]
    probes: bool,
    /// How many servers there are, to which workers are connected in turn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    servers: u32,
    /// Which things may come in any order, if nothing goes wrong.
    #[arg(long, value_enum, default_value_t = Orders::Requests)]
    orders: Orders,
    /// How often something may go wrong.
    #[arg(long, default_value_t = 1)]
    faults: u32,
    /// What may go wrong; everything, unless told otherwise.
    #[arg(long, value_enum, value_delimiter = ',')]
    kinds: Vec<Fault>,
    /// How many of the last writes of a bucket a loss may take.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=3))]
    lost: u32,
    /// The longest path.
    #[arg(long, default_value_t = 10_000)]
    depth: u32,
    /// For how many minutes to go on with each beginning.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Plant a deliberate bug, to see it caught.
    #[arg(long, value_enum)]
    plant: Option<Plant>,
    /// Print how often each mechanism was reached.
    #[arg(long)]
    marks: bool,
    /// Print one JSON object a line, one for each beginning.
    #[arg(long)]
    json: bool,
}

pub(super) fn exhaustive(args: &ExhaustiveArgs, out: &mut impl Write) -> io::Result<u8> {
    let Ok(limit) = Duration::try_from_secs_f64(args.minutes * 60.0) else {
        writeln!(io::stderr(), "parti-sim: --minutes must be a number from 0, but is {}", args.minutes)?;
        return Ok(USAGE);
    };
    let beginnings = if args.from.is_empty() { &Beginning::ALL[..] } else { &args.from };
    for beginning in beginnings {
        let bounds = Bounds {
            workers: args.workers,
            partitions: args.partitions,
            beginning: *beginning,
            probes: args.probes,
            servers: args.servers,
            lost: args.lost,
            orders: args.orders,
            faults: args.faults,
            kinds: if args.kinds.is_empty() { Fault::ALL.to_vec() } else { args.kinds.clone() },
            depth: args.depth,
            plant: args.plant,
        };
        let began = Instant::now();
        let mut shown = began;
        let found = exhaustive::search(&bounds, |progress| {
            if shown.elapsed() > PROGRESS_EVERY {
                shown = Instant::now();
                show(*beginning, progress, began.elapsed());
            }
            began.elapsed() < limit
        });
        if args.json {
            writeln!(out, "{}", as_json(args, &bounds, &found, began.elapsed()))?;
        } else {
            report(args, &bounds, &found, began.elapsed(), out)?;
        }
        if let Some(failure) = &found.failure {
            return Ok(if failure.violation.kind == Kind::Safety { 1 } else { 3 });
        }
    }
    Ok(0)
}

/// Progress is for a person who waits; when nobody reads it, nothing is lost.
fn show(beginning: Beginning, progress: &Progress, elapsed: Duration) {
    let Progress { seen, distinct, open, depth, faults, after } = progress;
    let seconds = elapsed.as_secs();
    let _ = writeln!(
        io::stderr(),
        "{beginning}, {seconds} s: {seen} states seen, {distinct} distinct, {open} of them still to be looked at, \
         {faults} faults, {after:?} after the last, depth {depth}"
    );
}

fn report(
    args: &ExhaustiveArgs,
    bounds: &Bounds,
    found: &Found,
    took: Duration,
    out: &mut impl Write,
) -> io::Result<()> {
    let Bounds { workers, partitions, beginning, servers, .. } = bounds;
    let Progress { seen, distinct, depth, .. } = found.progress;
    writeln!(
        out,
        "{beginning}: {workers} workers, {partitions} partitions, {}: {seen} states seen, {distinct} distinct, \
         depth {depth}, {:.1} s",
        if bounds.probes { format!("probes at {servers} servers") } else { "no probes".into() },
        took.as_secs_f64()
    )?;
    for (faults, level) in found.levels.iter().enumerate() {
        let Level { states, depth, complete, within } = level;
        let extent = match (complete, faults) {
            (true, _) => "all of them".into(),
            (false, 0) => format!("all of them that come sooner than {within:?} after the beginning"),
            (false, _) => format!("all of them that come sooner than {within:?} after the last fault"),
        };
        writeln!(out, "  {faults} faults: {states} states, {extent}, depth {depth}")?;
    }
    if args.marks {
        for (mark, count) in found.marks.iter() {
            writeln!(out, "  {:<24}{count:>12}", format!("{mark:?}"))?;
        }
    }
    let Some(failure) = &found.failure else { return writeln!(out, "held") };
    writeln!(out, "\n{}\n", failure.violation)?;
    for line in &failure.path {
        writeln!(out, "{line}")?;
    }
    writeln!(out, "\nrepeat it: {}", repeat(args, bounds))
}

fn as_json(args: &ExhaustiveArgs, bounds: &Bounds, found: &Found, took: Duration) -> serde_json::Value {
    let level = |(faults, level): (usize, &Level)| {
        let within_s = (!level.complete).then_some(level.within.as_secs_f64());
        serde_json::json!({
            "faults": faults,
            "states": level.states,
            "complete": level.complete,
            "within_s": within_s,
            "depth": level.depth,
        })
    };
    let failure = found.failure.as_ref().map(|failure| {
        serde_json::json!({
            "violation": failure.violation.to_string(),
            "path": failure.path.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "repeat": repeat(args, bounds),
        })
    });
    let marks = found.marks.iter().map(|(mark, count)| (format!("{mark:?}"), count.into()));
    serde_json::json!({
        "from": bounds.beginning.to_string(),
        "workers": bounds.workers,
        "partitions": bounds.partitions,
        "probes": bounds.probes,
        "states_seen": found.progress.seen,
        "states": found.progress.distinct,
        "seconds": took.as_secs_f64(),
        "levels": found.levels.iter().enumerate().map(level).collect::<Vec<_>>(),
        "marks": marks.collect::<serde_json::Map<_, _>>(),
        "failure": failure,
    })
}

/// The command that finds it again.
fn repeat(args: &ExhaustiveArgs, bounds: &Bounds) -> String {
    let Bounds { workers, partitions, beginning, servers, lost, .. } = bounds;
    let kinds: Vec<_> = bounds.kinds.iter().map(ToString::to_string).collect();
    let plant = args.plant.map(|plant| format!(" --plant {plant}")).unwrap_or_default();
    let probes = if bounds.probes { format!(" --probes --servers {servers}") } else { String::new() };
    format!(
        "cargo run --release -p parti-sim -- exhaustive --workers {workers} --partitions {partitions} \
         --from {beginning}{probes} --orders {} --faults {} --lost {lost} --kinds {}{plant}",
        bounds.orders,
        bounds.faults,
        kinds.join(",")
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ExhaustiveArgs,
    }

    #[test]
    fn what_was_seen_is_one_json_object_for_each_beginning() {
        let Line { args } =
            Line::parse_from(["exhaustive", "--workers", "1", "--from", "fresh", "--faults", "0", "--json"]);
        let mut out = Vec::new();
        assert_eq!(exhaustive(&args, &mut out).expect("memory can be written to"), 0);
        let told: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert_eq!((&told["from"], &told["failure"]), (&"fresh".into(), &serde_json::Value::Null));
        assert!(told["levels"][0]["states"].as_u64().is_some_and(|states| states > 1), "{told}");
    }
}
