//! `speed`: how much faster than real time the simulator is.

use std::io::{self, Write};

use clap::Args;
use cpu_time::ThreadTime;
use parti_sim::{Keep, Scenario};

use super::output::USAGE;
use super::scenario::chosen;

/// The largest group that is measured: its cold start.
const LARGE: (u32, u32) = (200, 10_000);

#[derive(Debug, Args)]
pub(super) struct SpeedArgs {
    /// Which scenarios: names, or patterns such as `crash*`; all, unless told otherwise.
    names: Vec<String>,
    /// How often each is played; the fastest time counts, since the others tell of what else the machine did.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Print one JSON object a line, one for each scenario.
    #[arg(long)]
    json: bool,
}

/// One scenario, played.
struct Timed {
    virtual_s: f64,
    cpu_s: f64,
    events: u64,
    /// Of how many workers at first, and how many partitions: not all scenarios have the usual 30 and 2 400.
    size: (u32, u32),
}

pub(super) fn speed(args: &SpeedArgs, out: &mut impl Write) -> io::Result<u8> {
    let all = ["all".to_owned()];
    let scenarios = match chosen(if args.names.is_empty() { &all } else { &args.names }) {
        Ok(scenarios) => scenarios,
        Err(unknown) => {
            writeln!(io::stderr(), "parti-sim: {unknown}")?;
            return Ok(USAGE);
        }
    };
    if !args.json {
        writeln!(
            out,
            "{:<28}{:>12}{:>12}{:>12}{:>12}{:>16}",
            "scenario", "size", "virtual s", "cpu s", "events", "times as fast"
        )?;
    }
    for scenario in &scenarios {
        show(args, scenario.name, &time(scenario, args.repeat, None), out)?;
    }
    if args.names.is_empty()
        && let Some(scenario) = Scenario::named("cold-start")
    {
        show(args, "cold-start, large", &time(&scenario, args.repeat, Some(LARGE)), out)?;
    }
    Ok(0)
}

fn time(scenario: &Scenario, repeat: u32, size: Option<(u32, u32)>) -> Timed {
    let options = scenario.options(1, size.map(|(workers, _)| workers), size.map(|(_, partitions)| partitions));
    let play = |_| {
        let began = ThreadTime::now(); // what it takes in real time where it has a processor to itself
        let outcome = scenario.run(&options, Keep::default());
        let cpu_s = began.elapsed().as_secs_f64();
        Timed {
            virtual_s: outcome.virtual_s,
            cpu_s,
            events: outcome.events,
            size: (options.workers, options.partitions),
        }
    };
    (0..repeat).map(play).min_by(|one, other| one.cpu_s.total_cmp(&other.cpu_s)).expect("it is played at least once")
}

fn show(args: &SpeedArgs, name: &str, timed: &Timed, out: &mut impl Write) -> io::Result<()> {
    let Timed { virtual_s, cpu_s, events, size: (workers, partitions) } = timed;
    let ratio = virtual_s / cpu_s.max(1e-9);
    if args.json {
        let object = serde_json::json!({
            "scenario": name,
            "workers": workers,
            "partitions": partitions,
            "virtual_s": virtual_s,
            "cpu_s": cpu_s,
            "events": events,
            "times_real_time": ratio,
        });
        writeln!(out, "{object}")?;
    } else {
        let size = format!("{workers} x {partitions}");
        writeln!(out, "{name:<28}{size:>12}{virtual_s:>12.1}{cpu_s:>12.3}{events:>12}{ratio:>16.0}")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scenario_is_one_json_object() {
        let args = SpeedArgs { names: vec!["cold-start".into()], repeat: 1, json: true };
        let mut out = Vec::new();
        assert_eq!(speed(&args, &mut out).expect("memory can be written to"), 0);
        let told: serde_json::Value = serde_json::from_slice(&out).expect("one line of JSON");
        assert_eq!((&told["scenario"], &told["workers"]), (&"cold-start".into(), &30.into()));
        assert!(told["times_real_time"].as_f64().is_some_and(|ratio| ratio > 0.0), "{told}");
    }
}
