//! What it costs a worker to be recorded.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;
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
/// How often all events are recorded again, to time it.
const TIMES: u32 = 20;

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
    std::thread::sleep(scale.steady * 2);
    let window = begun.elapsed().as_secs_f64();
    let mut shares = Vec::new();
    let (mut rates, mut sizes, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    for (pid, before) in pids.iter().zip(before) {
        let now = used(&folder, *pid);
        let cost = cost_of_an_event(&folder, *pid);
        let events = float(now.lines - before.lines);
        let recording = cost.as_secs_f64() * events + now.writer.saturating_sub(before.writer).as_secs_f64();
        shares.push(recording / now.core.saturating_sub(before.core).as_secs_f64() * 100.0);
        rates.push(events / window);
        sizes.push(float(now.bytes - before.bytes) / window);
        costs.push(cost.as_secs_f64() * 1e6);
    }
    report.figures("flight recorder: events of a worker at rest", "1/s", rates, None)?;
    report.figures("flight recorder: what is written of them", "bytes/s", sizes, None)?;
    report.figures("flight recorder: CPU for the line of an event", "us", costs, None)?;
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

/// What it takes to make a line of what a worker was told: the same events and actions, recorded again.
fn cost_of_an_event(folder: &Path, pid: u32) -> Duration {
    let bytes = recording(folder, pid);
    let steps = Replay::new([bytes.as_slice()]).expect("a recording").filter_map(|shown| match shown {
        Shown::Step(step) => Some(*step),
        _ => None,
    });
    let steps: Vec<Step> = steps.collect();
    let worker = Worker::new(Config::default(), 1, steps[0].at).expect("a valid config");
    let mut recorder = Recorder::new("live".parse().expect("a valid name"), &worker);
    let mut out = recorder.begin(&worker, steps[0].at, None);
    let begun = ThreadTime::now();
    for _ in 0..TIMES {
        out.clear();
        for step in &steps {
            recorder.told(step.at, &step.event);
            recorder.did(&step.actions, &mut out);
        }
    }
    begun.elapsed() / (TIMES * u32::try_from(steps.len()).expect("few"))
}

fn float(number: u64) -> f64 {
    f64::from(u32::try_from(number).expect("no figure here is so large"))
}
