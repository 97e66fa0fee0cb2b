//! Prints what the assignment calculator takes and reaches in every case, as text or as JSON.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use parti_benches::{Case, Event, SIZES, Size, Weights};
use parti_core::PartitionList;
use parti_core::assign::Balanced;
use peak_alloc::PeakAlloc;
use serde::Serialize;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Measures the assignment calculator in every case that has a bound.
#[derive(Parser)]
struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Only cases of at most so many partitions.
    #[arg(long, default_value_t = usize::MAX)]
    up_to: usize,
}

#[derive(Serialize)]
struct Row {
    partitions: usize,
    workers: u32,
    weights: Weights,
    event: Event,
    milliseconds: f64,
    ratio: f64,
    rounds: usize,
    moved: usize,
    least_moves: usize,
    moves_to_least: f64,
    largest_round: f64,
    peak_to_mean: f64,
    least_to_mean: f64,
    bytes_per_partition: f64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut rows = Vec::new();
    if !args.json {
        println!(
            "{:>9} x {:<5} {:<20} {:<17} {:>8} {:>6} {:>6} {:>8} {:>8} {:>6} {:>6} {:>6} {:>6} {:>6}",
            "partitions",
            "workers",
            "weights",
            "event",
            "ms",
            "ratio",
            "rounds",
            "moved",
            "least",
            "m/l",
            "round%",
            "peak",
            "low",
            "B/part"
        );
    }
    for size in SIZES.into_iter().filter(|size| size.partitions <= args.up_to) {
        for weights in Weights::ALL {
            for event in Event::ALL {
                let row = measure(size, weights, event);
                if !args.json {
                    println!(
                        "{:>9} x {:<5} {:<20} {:<17} {:>8.3} {:>6.2} {:>6} {:>8} {:>8} {:>6.3} {:>6.1} {:>6.3} {:>6.3} {:>6.1}",
                        row.partitions,
                        row.workers,
                        format!("{weights:?}"),
                        format!("{event:?}"),
                        row.milliseconds,
                        row.ratio,
                        row.rounds,
                        row.moved,
                        row.least_moves,
                        row.moves_to_least,
                        row.largest_round * 100.0,
                        row.peak_to_mean,
                        row.least_to_mean,
                        row.bytes_per_partition
                    );
                }
                rows.push(row);
            }
        }
    }
    ExitCode::SUCCESS
}

fn measure(size: Size, weights: Weights, event: Event) -> Row {
    let mut case = Case::new(size, weights, event);
    let tries = (3_000_000 / size.partitions).clamp(3, 30);
    let hashing = best_of(tries, || hash_all(&case.partitions));
    let time = best_of(tries, || case.plan(&Balanced));
    let before = PeakAlloc.current_usage();
    PeakAlloc.reset_peak_usage();
    drop(black_box(case.plan(&Balanced)));
    let bytes = PeakAlloc.peak_usage() - before;
    let rounds = case.rounds(&Balanced);
    let moved: usize = rounds.iter().map(|round| round.figures.moved).sum();
    let least = rounds[0].figures.least_moves;
    let last = rounds[rounds.len() - 1].figures;
    Row {
        partitions: size.partitions,
        workers: size.workers,
        weights,
        event,
        milliseconds: time.as_secs_f64() * 1e3,
        ratio: time.as_secs_f64() / hashing.as_secs_f64(),
        rounds: rounds.len(),
        moved,
        least_moves: least,
        moves_to_least: moved as f64 / least.max(1) as f64,
        largest_round: rounds
            .iter()
            .map(|r| r.figures.staying_moved as f64 / case.holders.len() as f64)
            .fold(0.0, f64::max),
        peak_to_mean: last.after.peak_permille as f64 / 1000.0,
        least_to_mean: last.after.least_permille as f64 / 1000.0,
        bytes_per_partition: bytes as f64 / size.partitions as f64,
    }
}

fn best_of<T>(tries: usize, mut work: impl FnMut() -> T) -> Duration {
    (0..tries)
        .map(|_| {
            let start = Instant::now();
            let out = black_box(work());
            let took = start.elapsed();
            drop(out);
            took
        })
        .min()
        .unwrap_or_default()
}

fn hash_all(partitions: &PartitionList) -> u64 {
    partitions
        .as_slice()
        .iter()
        .fold(0, |all, partition| all ^ xxhash_rust::xxh3::xxh3_64(partition.id.as_str().as_bytes()))
}
