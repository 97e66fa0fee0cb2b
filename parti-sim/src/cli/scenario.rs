//! `scenario`: what is done to a fleet, and what came of it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use parti_sim::{Keep, Outcome, Plain, Plant, Repeatable, Scenario};

use super::output::{TRACE_LINES, USAGE, json};

#[derive(Debug, Args)]
pub(super) struct ScenarioArgs {
    /// Which scenarios: names, patterns such as `crash*`, `all`, or `list`.
    #[arg(required = true)]
    names: Vec<String>,
    /// How many workers it starts with.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    workers: Option<u32>,
    /// How many partitions there are.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    partitions: Option<u32>,
    /// Decides everything that chance decides.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object a line, one for each scenario.
    #[arg(long)]
    json: bool,
    /// Write every line of the trace to this file; of several scenarios, the last one's stays.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write a page that draws what happened to this file; of several scenarios, the last one's stays.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Play it with a deliberate bug, to see it caught.
    #[arg(long, value_enum)]
    plant: Option<Plant>,
}

/// Names every scenario, and says how to play one.
pub(super) fn list(out: &mut impl Write) -> io::Result<()> {
    for scenario in Scenario::all() {
        writeln!(out, "{:<28}{}", scenario.name, scenario.shows)?;
    }
    writeln!(out, "\nplay one: cargo run -p parti-sim -- scenario rolling-update")
}

pub(super) fn scenario(args: &ScenarioArgs, out: &mut impl Write) -> io::Result<u8> {
    if args.names.iter().any(|name| name == "list") {
        return list(out).map(|()| 0);
    }
    let chosen = match chosen(&args.names) {
        Ok(chosen) => chosen,
        Err(unknown) => {
            writeln!(io::stderr(), "parti-sim: {unknown}")?;
            return Ok(USAGE);
        }
    };
    let mut worst = 0;
    for scenario in chosen {
        let code = play(&scenario, args, out)?;
        worst = if worst == 0 { code } else { worst.min(code.max(1)) };
    }
    Ok(worst)
}

/// The scenarios that these names and patterns mean, in the order in which they are listed; or which name means none.
pub(super) fn chosen(names: &[String]) -> Result<Vec<Scenario>, String> {
    let means = |name: &str, scenario: &Scenario| name == "all" || is_like(name.as_bytes(), scenario.name.as_bytes());
    let all = Scenario::all();
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|scenario| means(name, scenario))) {
        let near = |scenario: &&Scenario| strsim::damerau_levenshtein(unknown, scenario.name);
        let nearest = all.iter().min_by_key(near).filter(|scenario| near(scenario) <= unknown.len() / 2);
        let hint = nearest.map(|scenario| format!(" did you mean {:?}?", scenario.name)).unwrap_or_default();
        return Err(format!("there is no scenario {unknown:?}:{hint} `scenario list` names them all"));
    }
    Ok(all.into_iter().filter(|scenario| names.iter().any(|name| means(name, scenario))).collect())
}

/// Whether a text is as a pattern says, in which `*` means any letters.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skipped| is_like(rest, &text[skipped..])),
        Some((letter, rest)) => text.split_first().is_some_and(|(first, text)| first == letter && is_like(rest, text)),
    }
}

fn play(scenario: &Scenario, args: &ScenarioArgs, out: &mut impl Write) -> io::Result<u8> {
    let mut options = scenario.options(args.seed, args.workers, args.partitions);
    options.plant = args.plant;
    let began = Instant::now();
    let outcome = scenario.run(&options, Keep { trace: args.trace.is_some(), recording: args.report.is_some() });
    let took = began.elapsed().as_secs_f64();
    let mut unwritten = 0;
    // What cannot be written is no reason to keep the result for oneself.
    let mut wrote = |path: &Path, written: io::Result<()>| {
        if let Err(error) = written {
            unwritten = USAGE;
            let _ = writeln!(io::stderr(), "parti-sim: {} cannot be written: {error}", path.display());
        }
    };
    if let (Some(path), Some(trace)) = (&args.trace, &outcome.trace) {
        let repeatable = Repeatable::Scenario(*scenario, Box::new(options.clone()));
        let file = File::create(path);
        wrote(path, file.and_then(|file| repeatable.write(trace, &mut io::BufWriter::new(file))));
    }
    if let Some(path) = &args.report {
        wrote(path, std::fs::write(path, outcome.report(scenario.shows)));
    }
    let code = outcome.exit_code();
    let code = if code == 0 { unwritten } else { code };
    if args.json {
        writeln!(out, "{}", json(&outcome.figures))?;
        return Ok(code);
    }
    writeln!(out, "{}", Plain(&outcome))?;
    if outcome.violation.is_some() {
        explain(scenario, &outcome, out)?;
    }
    if let (Some(plant), true) = (args.plant, outcome.figures.held) {
        writeln!(
            out,
            "the planted bug {plant} does no harm here; worlds that are made to show it: \
             cargo run --release -p parti-sim -- swarm --plant {plant} --seeds 2000"
        )?;
    }
    let ratio = outcome.virtual_s / took.max(1e-9);
    writeln!(
        out,
        "{}; {:.0} s of virtual time in {took:.2} s, {ratio:.0} times real time, {} events",
        outcome.verdict(),
        outcome.virtual_s,
        outcome.events,
    )?;
    Ok(code)
}

/// Plays it again with a trace, and prints the lines that lead to the breach.
fn explain(scenario: &Scenario, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    let Some(violation) = &outcome.violation else { return Ok(()) };
    let again = scenario.run(&outcome.options, Keep { trace: true, recording: false });
    let trace = again.trace.expect("it was asked for");
    writeln!(out, "the last lines of the trace that touch it:")?;
    for line in trace.last(TRACE_LINES, |line| violation.concerns(line)) {
        writeln!(out, "  {line}")?;
    }
    writeln!(out, "options: {}", json(&outcome.options))?;
    writeln!(out, "repeat it: {}", outcome.again())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: ScenarioArgs,
    }

    fn told(line: &str) -> (u8, String) {
        let Line { args } = Line::parse_from(std::iter::once("scenario").chain(line.split(' ')));
        let mut out = Vec::new();
        let code = scenario(&args, &mut out).expect("memory can be written to");
        (code, String::from_utf8(out).expect("text"))
    }

    fn names(patterns: &[&str]) -> Result<Vec<&'static str>, String> {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).into()).collect();
        chosen(&patterns).map(|chosen| chosen.iter().map(|scenario| scenario.name).collect())
    }

    #[test]
    fn names_and_patterns_choose_and_a_wrong_one_is_told_what_is_near() {
        assert_eq!(names(&["crash", "cold-start"]), Ok(vec!["cold-start", "crash"]));
        assert_eq!(names(&["outage-10*"]), Ok(vec!["outage-10s", "outage-10min"]));
        assert_eq!(names(&["all"]).map(|all| all.len()), Ok(Scenario::all().len()));
        let wrong = names(&["crash", "rolling-updaet"]).expect_err("there is none");
        assert!(wrong.contains("did you mean \"rolling-update\"?") && wrong.contains("scenario list"), "{wrong}");
        let far = names(&["zzz"]).expect_err("there is none");
        assert!(!far.contains("did you mean"), "{far}");
    }

    #[test]
    fn a_fleet_that_is_too_small_is_told_in_words_that_nothing_was_shown_and_why() {
        let (code, text) = told("crash --workers 1 --partitions 4");
        assert_eq!(code, 4, "{text}");
        for part in ["NOTHING WAS SHOWN", "a process crashed (Crashed)", "give it 2 or more"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(Line::try_parse_from(["scenario", "crash", "--workers", "0"]).is_err());
        assert!(Line::try_parse_from(["scenario", "crash", "--partitions", "0"]).is_err());
    }

    #[test]
    fn a_file_that_cannot_be_written_does_not_hide_the_result() {
        let (code, text) = told("crash --workers 3 --partitions 12 --report /nowhere/page.html");
        assert_eq!(code, USAGE);
        assert!(text.contains("held; "), "{text}");
    }

    #[test]
    fn a_planted_bug_that_does_no_harm_here_is_told_where_it_does() {
        let (code, text) = told("cold-start --workers 3 --partitions 12 --plant evict-without-condition");
        assert_eq!(code, 0);
        assert!(text.contains("swarm --plant evict-without-condition --seeds 2000"), "{text}");
    }
}
