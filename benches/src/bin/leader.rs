//! Prints what a leader of many workers takes for a heartbeat, at rest and for each decision, as text or as JSON.

use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use clap::Parser;
use parti_benches::leader::{Change, Fleet, SIZE, Timings};
use parti_benches::{Size, hash_all};
use parti_core::PartitionList;
use peak_alloc::PeakAlloc;
use serde::Serialize;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What a heartbeat may take, in microseconds.
const HEARTBEAT_BOUND_US: f64 = 5.0;
/// What a decision may take, in milliseconds.
const DECISION_BOUND_MS: f64 = 50.0;
/// How much of a core a leader of a group at rest may take, in percent.
const IDLE_BOUND_PERCENT: f64 = 5.0;
/// How long a group at rest is looked at, in its own time.
const IDLE: parti_core::Duration = parti_core::Duration::from_secs(10);
/// How many rounds of heartbeats are timed; the best counts.
const BEATS: usize = 50;

/// Measures a leader: heartbeats, rest, decisions, memory.
#[derive(Parser)]
struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// How many workers there are.
    #[arg(long, default_value_t = SIZE.workers)]
    workers: u32,
    /// How many partitions there are.
    #[arg(long, default_value_t = SIZE.partitions)]
    partitions: usize,
    /// How often all changes are gone through; the best time of each counts.
    #[arg(long, default_value_t = 3)]
    times: usize,
}

/// Everything measured.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    size: Size,
    /// One heartbeat, from the event until the next deadline is known.
    heartbeat_us: f64,
    heartbeat_bound_us: f64,
    /// How much of a core the leader takes while nothing happens but heartbeats and probes.
    idle_percent: f64,
    idle_bound_percent: f64,
    decision_bound_ms: f64,
    /// Hashing every partition id once, on the same machine: what times are compared with where it is busy or slow.
    hashing_ms: f64,
    changes: Vec<Row>,
    /// What the leader holds at rest, and the most that it holds while anything of the above goes on.
    bytes_at_rest: usize,
    bytes_at_peak: usize,
    /// Whether every heartbeat and every decision was within its bound.
    held: bool,
}

/// One change, measured.
#[derive(Serialize)]
struct Row {
    change: String,
    /// The longest decision, from the event that made it due until all actions were polled.
    decision_ms: f64,
    /// The longest of the other events, such as a decision that nothing is to change.
    longest_other_ms: f64,
    /// All events until the leader was at rest, heartbeats included.
    total_ms: f64,
    events: usize,
    plans: usize,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let size = Size { workers: args.workers.max(10), partitions: args.partitions.max(100) };
    let report = Report::measure(size, args.times.max(1));
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        report.print(&mut out)?;
    }
    if report.held { Ok(()) } else { Err(io::Error::other("a bound does not hold")) }
}

impl Report {
    fn measure(size: Size, times: usize) -> Self {
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let (mut fleet, first) = Fleet::new(size);
        let bytes_at_rest = MEMORY.current_usage() - before;
        let mut changes = vec![Row::new("cold-start", &first)];
        for time in 0..times {
            for (at, change) in (1..).zip(Change::ALL) {
                let row = Row::new(change.name(), &fleet.bring(change));
                if time == 0 {
                    changes.push(row);
                } else {
                    changes[at].keep_best(&row);
                }
            }
        }
        let bytes_at_peak = MEMORY.peak_usage() - before;
        let heartbeat_us = (0..BEATS).map(|_| heartbeat(&mut fleet)).min().unwrap_or_default().as_secs_f64() * 1e6;
        let idle = (0..times).map(|_| fleet.idle(IDLE)).min().unwrap_or_default();
        let idle_percent = idle.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
        let longest = |row: &Row| row.decision_ms.max(row.longest_other_ms);
        let held = heartbeat_us <= HEARTBEAT_BOUND_US
            && idle_percent <= IDLE_BOUND_PERCENT
            && changes.iter().all(|row| longest(row) <= DECISION_BOUND_MS);
        Self {
            size,
            heartbeat_us,
            heartbeat_bound_us: HEARTBEAT_BOUND_US,
            idle_percent,
            idle_bound_percent: IDLE_BOUND_PERCENT,
            decision_bound_ms: DECISION_BOUND_MS,
            hashing_ms: ms((0..times).map(|_| hashing(fleet.list())).min().unwrap_or_default()),
            changes,
            bytes_at_rest,
            bytes_at_peak,
            held,
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Size { workers, partitions } = self.size;
        writeln!(out, "a leader of {workers} workers and {partitions} partitions")?;
        writeln!(out, "heartbeat     {:>9.3} us   (<= {})", self.heartbeat_us, self.heartbeat_bound_us)?;
        writeln!(out, "idle          {:>9.3} %    (<= {}) of a core", self.idle_percent, self.idle_bound_percent)?;
        writeln!(out, "hashing       {:>9.3} ms, every id once", self.hashing_ms)?;
        writeln!(out, "memory        {:>9} bytes at rest, {} at the peak", self.bytes_at_rest, self.bytes_at_peak)?;
        writeln!(
            out,
            "\nchange        decision ms (<= {})  other ms  total ms   events plans",
            self.decision_bound_ms
        )?;
        for row in &self.changes {
            writeln!(
                out,
                "{:<13} {:>19.3} {:>9.3} {:>9.1} {:>8} {:>5}",
                row.change, row.decision_ms, row.longest_other_ms, row.total_ms, row.events, row.plans
            )?;
        }
        writeln!(out, "\n{}", if self.held { "held" } else { "NOT HELD" })
    }
}

impl Row {
    fn new(change: &str, timings: &Timings) -> Self {
        let longest = timings.decisions.iter().map(|(_, took)| *took).max().unwrap_or_default();
        Self {
            change: change.into(),
            decision_ms: ms(longest),
            longest_other_ms: ms(timings.longest_other),
            total_ms: ms(timings.total),
            events: timings.events,
            plans: timings.decisions.len(),
        }
    }

    fn keep_best(&mut self, other: &Self) {
        self.decision_ms = self.decision_ms.min(other.decision_ms);
        self.longest_other_ms = self.longest_other_ms.min(other.longest_other_ms);
        self.total_ms = self.total_ms.min(other.total_ms);
    }
}

/// The mean over one heartbeat of every worker.
fn heartbeat(fleet: &mut Fleet) -> Duration {
    let beats = fleet.heartbeats();
    let count = u32::try_from(beats.len()).unwrap_or(u32::MAX);
    let start = Instant::now();
    for beat in beats {
        drop(fleet.handle(beat));
    }
    start.elapsed() / count
}

fn hashing(list: &PartitionList) -> Duration {
    let start = Instant::now();
    black_box(hash_all(list));
    start.elapsed()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
