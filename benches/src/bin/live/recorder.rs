//! What it costs a worker to be recorded.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use parti_benches::process::{core_time, core_time_of_thread};
use parti_core::recording::{Recorder, Replay, Shown, Step};
use parti_core::{Config, Worker};

use crate::Scale;
use crate::processes::agent::Spec;
use crate::processes::fleet::Fleet;
use crate::report::Report;
use crate::stage::{PATIENCE, Stage};
use crate::support::{Server, folder};

/// How much of what a worker takes its recorder may take.
const MAX_PERCENT: f64 = 1.0;
/// The thread that writes.
const WRITER: &str = "parti-recorder";
/// How long lines wait for others, as in `parti-nats`.
const TOGETHER: Duration = Duration::from_secs(10);
/// How many events are kept to time it, how many times lines are made, and how long other work has the core before each.
const SAMPLES: usize = 300;
const BATCHES: u32 = 50;
const REST: Duration = Duration::from_millis(5);

/// What one process has used and recorded so far.
struct Used {
    core: Duration,
    writer: Duration,
    bytes: u64,
    lines: u64,
}

/// A fleet of 10 with 1 000 partitions at rest, at the default config: every one of them is recorded.
pub(crate) fn recorder(report: &mut Report, scale: Scale) -> io::Result<()> {
    let stage = Stage { server: Server::start(), config: Config::default(), workers: 10, repetitions: 1 };
    let folder = folder();
    let spec = Spec { partitions: 1_000, tick: None, record: Some(folder.clone()), ..stage.spec() };
    let mut fleet = Fleet::new(spec, &[]);
    fleet.start_many(stage.workers);
    fleet.settle(PATIENCE);
    std::thread::sleep(Duration::from_secs(1));

    let pids: Vec<_> = fleet.processes().into_iter().map(|id| fleet.pid(id)).collect();
    let before: Vec<_> = pids.iter().map(|pid| used(&folder, *pid)).collect();
    let begun = Instant::now();
    std::thread::sleep(scale.steady * 4);
    let window = begun.elapsed();
    let seconds = window.as_secs_f64();
    let mut shares = Vec::new();
    let (mut rates, mut sizes, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut writers, mut workers) = (Vec::new(), Vec::new());
    for (pid, before) in pids.iter().zip(before) {
        let now = used(&folder, *pid);
        let events = float(now.lines - before.lines);
        let at_once = u128::from(now.lines - before.lines) * TOGETHER.as_millis() / window.as_millis();
        let cost = cost_of_an_event(&folder, *pid, usize::try_from(at_once.max(1)).expect("few"));
        let writer = now.writer.saturating_sub(before.writer).as_secs_f64();
        let worker = now.core.saturating_sub(before.core).as_secs_f64();
        shares.push((cost.as_secs_f64() * events + writer) / worker * 100.0);
        writers.push(writer / seconds * 1e6);
        workers.push(worker / seconds * 1e6);
        rates.push(events / seconds);
        sizes.push(float(now.bytes - before.bytes) / seconds);
        costs.push(cost.as_secs_f64() * 1e6);
    }
    report.figures("flight recorder: events of a worker at rest", "1/s", rates, None)?;
    report.figures("flight recorder: what is written of them", "bytes/s", sizes, None)?;
    report.figures("flight recorder: CPU of the worker for an event", "us", costs, None)?;
    report.figures("flight recorder: CPU of the thread that writes", "us/s", writers, None)?;
    report.figures("flight recorder: CPU of the worker", "us/s", workers, None)?;
    report.figures("flight recorder: share of a worker's CPU", "%", shares, Some(MAX_PERCENT))?;
    drop(fleet);
    std::fs::remove_dir_all(folder)
}

fn recording(folder: &Path, pid: u32) -> Vec<u8> {
    std::fs::read(folder.join(format!("{pid}-0.rec"))).expect("it is recorded")
}

fn used(folder: &Path, pid: u32) -> Used {
    let bytes = recording(folder, pid);
    let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
    Used { core: core_time(pid), writer: core_time_of_thread(pid, WRITER), bytes: bytes.len() as u64, lines }
}

/// What it takes to record one thing that a worker was told.
///
/// As in a process, where other work comes between: to keep it for later is timed alone after a rest, and so are the lines of
/// the `at_once` events that come in [`TOGETHER`]. Both would seem to cost a tenth if they were done again and again.
fn cost_of_an_event(folder: &Path, pid: u32, at_once: usize) -> Duration {
    let bytes = recording(folder, pid);
    let steps = Replay::new([bytes.as_slice()]).expect("a recording").filter_map(|shown| match shown {
        Shown::Step(step) => Some(*step),
        _ => None,
    });
    let steps: Vec<Step> = steps.collect();
    let worker = Worker::new(Config::default(), 1, steps[0].at).expect("a valid config");
    let mut recorder = Recorder::new("live".parse().expect("a valid name"), &worker);
    let mut out = recorder.begin(&worker, steps[0].at, None);
    out.reserve(1024 * 1024);
    let (mut kept, mut asked) = (Vec::with_capacity(SAMPLES), Vec::with_capacity(8 * SAMPLES));
    // Those from before are of its start.
    let latest = |most: usize| steps[steps.len().saturating_sub(most)..].iter();
    let keeping = typical(latest(SAMPLES).map(|step| {
        std::thread::sleep(REST);
        let begun = Instant::now();
        kept.push((step.at, step.event.clone(), step.actions.len()));
        asked.extend_from_slice(&step.actions);
        begun.elapsed()
    }));
    let making = typical((0..BATCHES).map(|_| {
        std::thread::sleep(REST);
        out.clear();
        let begun = Instant::now();
        for step in latest(at_once) {
            recorder.told(step.at, &step.event);
            recorder.did(&step.actions, &mut out);
        }
        begun.elapsed()
    }));
    keeping + making / u32::try_from(latest(at_once).len()).expect("few")
}

/// The mean of these times but for the longest tenth, in which somebody else had the core.
fn typical(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort();
    times.truncate((times.len() * 9).div_ceil(10));
    times.iter().sum::<Duration>() / u32::try_from(times.len()).expect("few")
}

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).expect("no figure here is so large"))
}
