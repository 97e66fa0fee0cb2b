//! `swarm`: many random worlds, one after the other or several at once.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use parti_sim::swarm::{self, Plan, Run, WithMessages};
use parti_sim::{Kind, Marks, Plant, Repeatable, Violation};

use super::output::{TRACE_LINES, json};

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
    /// Which worlds have messages that follow the assignment. What else happens in a world does not depend on it.
    #[arg(long, value_enum, default_value_t)]
    messages: WithMessages,
    /// Plant a deliberate bug, to see it caught.
    #[arg(long, value_enum)]
    plant: Option<Plant>,
    /// Make the worlds in which the planted bug shows soon, but leave the bug out.
    #[arg(long, requires = "plant")]
    without_bug: bool,
    /// Print how often each mechanism was reached.
    #[arg(long)]
    marks: bool,
    /// Go on after a failure, and count what was found: by invariant, and by the faults that it takes.
    #[arg(long)]
    keep_going: bool,
    /// Print one line of JSON: worlds, simulated hours, and what was found.
    #[arg(long)]
    json: bool,
}

/// What all threads add to.
#[derive(Default)]
struct Sum {
    marks: Marks,
    seeds: u64,
    events: u64,
    virtual_s: f64,
    /// By what failed, and the faults that it takes.
    found: BTreeMap<Group, Found>,
}

enum Failure {
    Broken(Violation),
    NotDeterministic,
}

/// Failures that are probably one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    /// The invariant that does not hold.
    what: &'static str,
    /// The kinds of faults before, in order of their names.
    after: Vec<String>,
}

/// What was found of a group.
struct Found {
    count: u64,
    first_seed: u64,
    failure: Failure,
}

impl Failure {
    fn what(&self) -> &'static str {
        match self {
            Self::Broken(violation) => violation.invariant,
            Self::NotDeterministic => "same-trace",
        }
    }

    /// The worst comes last.
    fn exit_code(&self) -> (u8, u8) {
        match self {
            Self::Broken(violation) if violation.kind == Kind::Safety => (3, 1),
            Self::NotDeterministic => (2, 5),
            Self::Broken(_) => (1, 3),
        }
    }

    fn sentence(&self) -> String {
        match self {
            Self::Broken(violation) => violation.to_string(),
            Self::NotDeterministic => "two runs gave different traces".into(),
        }
    }
}

impl Sum {
    fn add(&mut self, seed: u64, group: Group, failure: Failure) {
        let found = self.found.entry(group);
        let found = found.or_insert(Found { count: 0, first_seed: u64::MAX, failure: Failure::NotDeterministic });
        found.count += 1;
        if seed < found.first_seed {
            (found.first_seed, found.failure) = (seed, failure);
        }
    }

    fn hours(&self) -> f64 {
        self.virtual_s / 3600.0
    }

    /// 0 if nothing was found, else the code of the worst.
    fn exit_code(&self) -> u8 {
        self.found.values().map(|found| found.failure.exit_code()).max().map_or(0, |(_, code)| code)
    }
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
    if args.json {
        writeln!(out, "{}", json(&as_json(args, &sum, seconds)))?;
        return Ok(sum.exit_code());
    }
    writeln!(
        out,
        "{} worlds from seed {}, {:.1} simulated hours, {} events in {seconds:.1} s: {:.0} times real time",
        sum.seeds,
        args.start,
        sum.hours(),
        sum.events,
        sum.virtual_s / seconds.max(1e-9)
    )?;
    if args.marks {
        for (mark, count) in sum.marks.iter() {
            writeln!(out, "  {:<24}{count:>12}", format!("{mark:?}"))?;
        }
    }
    if args.keep_going {
        tell_groups(args, &sum, out)?;
    } else {
        tell_first(args, &sum, out)?;
    }
    Ok(sum.exit_code())
}

/// Everything about the failure with the lowest seed.
fn tell_first(args: &SwarmArgs, sum: &Sum, out: &mut impl Write) -> io::Result<()> {
    match sum.found.values().min_by_key(|found| found.first_seed) {
        None => writeln!(out, "held"),
        Some(Found { first_seed, failure: Failure::NotDeterministic, .. }) => {
            writeln!(out, "seed {first_seed} gave two different traces")?;
            writeln!(out, "repeat it: {} --twice", repeat(args, *first_seed))
        }
        Some(Found { first_seed, failure: Failure::Broken(violation), .. }) => {
            report(args, *first_seed, violation, out)
        }
    }
}

/// One line for each group, the most frequent first, and how to repeat its first world.
fn tell_groups(args: &SwarmArgs, sum: &Sum, out: &mut impl Write) -> io::Result<()> {
    if sum.found.is_empty() {
        return writeln!(out, "held");
    }
    let failures: u64 = sum.found.values().map(|found| found.count).sum();
    writeln!(out, "{failures} failures of {} kinds", sum.found.len())?;
    let mut groups: Vec<_> = sum.found.iter().collect();
    groups.sort_by_key(|(_, found)| (std::cmp::Reverse(found.count), found.first_seed));
    for (group, found) in groups {
        let after = if group.after.is_empty() { "no fault".into() } else { group.after.join(", ") };
        writeln!(out, "\n{:>6} x {} after {after}", found.count, group.what)?;
        writeln!(out, "         seed {}: {}", found.first_seed, found.failure.sentence())?;
        writeln!(out, "         repeat it: {}", repeat_failure(args, found))?;
    }
    Ok(())
}

fn as_json(args: &SwarmArgs, sum: &Sum, seconds: f64) -> serde_json::Value {
    let failures = sum.found.iter().map(|(group, found)| {
        serde_json::json!({
            "invariant": group.what,
            "after": group.after,
            "count": found.count,
            "first_seed": found.first_seed,
            "sentence": found.failure.sentence(),
            "repeat": repeat_failure(args, found),
        })
    });
    serde_json::json!({
        "start": args.start,
        "worlds": sum.seeds,
        "simulated_hours": sum.hours(),
        "events": sum.events,
        "seconds": seconds,
        "failures": failures.collect::<Vec<_>>(),
    })
}

fn repeat_failure(args: &SwarmArgs, found: &Found) -> String {
    let twice = if matches!(found.failure, Failure::NotDeterministic) { " --twice" } else { "" };
    format!("{}{twice}", repeat(args, found.first_seed))
}

/// The group of a failure: by the faults that are left when the world is made as small as it can be, or without
/// `shrink` by all that came before.
fn group_of(failure: &Failure, plan: &Plan, shrink: bool) -> Group {
    let what = failure.what();
    let after = match failure {
        Failure::NotDeterministic => Vec::new(),
        Failure::Broken(violation) if shrink => {
            let least = swarm::shrink(plan, violation);
            least.plan.faults_before(least.violation.at)
        }
        Failure::Broken(violation) => plan.faults_before(violation.at),
    };
    Group { what, after }
}

fn plan_of(args: &SwarmArgs, seed: u64) -> Plan {
    let plan = Plan::with_messages(seed, args.plant, args.lossy, args.messages);
    if args.without_bug { plan.without_bug() } else { plan }
}

/// Takes seeds until there are none left or one has failed.
fn work(args: &SwarmArgs, sum: &Mutex<Sum>, next: &AtomicU64, began: Instant, shows_progress: bool) {
    let until = args.seconds.map(|seconds| began + Duration::from_secs(seconds));
    let mut shown = began;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let is_over = number >= args.seeds || until.is_some_and(|until| Instant::now() >= until);
        let stops = || !args.keep_going && !sum.lock().expect("no thread panicked").found.is_empty();
        if is_over || stops() {
            return;
        }
        let seed = args.start + number;
        let plan = plan_of(args, seed);
        let run = swarm::run(&plan, args.twice);
        let failure = match &run {
            Run { violation: Some(violation), .. } => Some(Failure::Broken(violation.clone())),
            Run { trace: Some(trace), .. } if swarm::run(&plan, true).trace.as_ref() != Some(trace) => {
                Some(Failure::NotDeterministic)
            }
            Run { .. } => None,
        };
        let failure = failure.map(|failure| (group_of(&failure, &plan, args.keep_going && !args.no_shrink), failure));
        let mut sum = sum.lock().expect("no thread panicked");
        sum.marks.add(&run.marks);
        sum.seeds += 1;
        sum.events += run.events;
        sum.virtual_s += run.virtual_s;
        if let Some((group, failure)) = failure {
            if args.keep_going {
                // A long search may be ended before its report: what it has found until then is known already.
                let _ = writeln!(io::stderr(), "{}: {} ({})", repeat(args, seed), failure.sentence(), group.what);
            }
            sum.add(seed, group, failure);
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
    let failures: u64 = sum.found.values().map(|found| found.count).sum();
    let held = if failures == 0 { "held".into() } else { format!("with {failures} failures") };
    let hours = sum.hours();
    format!("{} worlds {held} in {seconds} s, {hours:.1} simulated hours; about {left} s to go", sum.seeds)
}

/// The command that lets the world of one seed happen again.
fn repeat(args: &SwarmArgs, seed: u64) -> String {
    let without = if args.without_bug { " --without-bug" } else { "" };
    let plant = args.plant.map(|plant| format!(" --plant {plant}{without}")).unwrap_or_default();
    let lossy = if args.lossy { " --lossy" } else { "" };
    let messages = match args.messages {
        WithMessages::Some => String::new(),
        WithMessages::None | WithMessages::All => {
            let value = args.messages.to_possible_value().expect("no variant is hidden");
            format!(" --messages {}", value.get_name())
        }
    };
    format!("cargo run --release -p parti-sim -- swarm --start {seed} --seeds 1{plant}{lossy}{messages}")
}

fn report(args: &SwarmArgs, seed: u64, violation: &Violation, out: &mut impl Write) -> io::Result<()> {
    let plan = plan_of(args, seed);
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: SwarmArgs,
    }

    fn swarm_of(line: &str) -> (u8, String) {
        let Line { args } = Line::parse_from(line.split(' '));
        let mut out = Vec::new();
        let code = swarm(&args, &mut out).expect("memory can be written to");
        (code, String::from_utf8(out).expect("text"))
    }

    #[test]
    fn worlds_and_simulated_hours_are_counted_also_where_nothing_fails() {
        let (code, text) = swarm_of("swarm --seeds 3 --json");
        let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((code, &told["worlds"], &told["failures"]), (0, &3.into(), &serde_json::json!([])));
        assert!(told["simulated_hours"].as_f64().is_some_and(|hours| hours > 0.0), "{text}");
        let (code, text) = swarm_of("swarm --seeds 3 --keep-going");
        assert_eq!(code, 0);
        assert!(text.starts_with("3 worlds from seed 0, ") && text.ends_with("held\n"), "{text}");
    }

    #[test]
    fn who_asks_for_messages_gets_them_and_repeats_them() {
        let events = |line: &str| {
            let (code, text) = swarm_of(&format!("swarm --start 3 --seeds 2 --json{line}"));
            let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(code, 0, "{text}");
            told["events"].as_u64().expect("a number")
        };
        assert!(events(" --messages all") > events(" --messages none"));
        let repeats = |line: &str| repeat(&Line::parse_from(line.split(' ')).args, 3);
        assert!(repeats("swarm --messages all").ends_with(" --start 3 --seeds 1 --messages all"));
        assert!(repeats("swarm --messages some").ends_with(" --start 3 --seeds 1"));
    }

    #[test]
    fn it_goes_on_after_a_failure_and_groups_what_it_finds() {
        let line = "swarm --seeds 60 --keep-going --no-shrink --plant work-through-suspension";
        let (code, text) = swarm_of(&format!("{line} --json"));
        let told: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let failures = told["failures"].as_array().expect("a list");
        assert_eq!((code, &told["worlds"]), (1, &60.into()), "{text}");
        let count: u64 = failures.iter().filter_map(|failure| failure["count"].as_u64()).sum();
        assert!(count > 1 && count >= failures.len() as u64, "{text}");
        let (_, text) = swarm_of(line);
        assert!(text.contains(&format!("{count} failures of {} kinds", failures.len())), "{text}");
        for failure in failures {
            let repeat = failure["repeat"].as_str().expect("a command");
            assert!(text.contains(repeat) && repeat.contains(&failure["first_seed"].to_string()), "{text}");
        }
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_failure() {
        let broken = |kind| {
            Failure::Broken(Violation {
                invariant: "some",
                guarantee: "G0",
                kind,
                sentence: String::new(),
                at: parti_sim::Moment::START,
                process: None,
                partition: None,
                partition_id: None,
            })
        };
        let mut sum = Sum::default();
        let group = |name: &str| Group { what: "some", after: vec![name.into()] };
        assert_eq!(sum.exit_code(), 0);
        sum.add(7, group("crash"), broken(Kind::Liveness));
        assert_eq!(sum.exit_code(), 3);
        sum.add(8, group("pause"), Failure::NotDeterministic);
        assert_eq!(sum.exit_code(), 5);
        sum.add(9, group("roll-back plan"), broken(Kind::Safety));
        assert_eq!(sum.exit_code(), 1);
        sum.add(5, group("crash"), broken(Kind::Liveness));
        let crash = &sum.found[&group("crash")];
        assert_eq!((crash.count, crash.first_seed), (2, 5));
    }
}
