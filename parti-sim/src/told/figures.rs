//! What a run is measured by.

use std::time::Duration;

use serde::Serialize;

use crate::check::ownership::{Load, Ownership};
use crate::setting::options::Options;
use crate::world::clock::Moment;

/// What adds up since the measuring began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Committed writes.
    pub(crate) store_writes: u64,
    /// Published plans.
    pub(crate) plans: u64,
    /// Published plans that took a partition from a worker that stays.
    pub(crate) rounds: u64,
    /// The most partitions that one plan took from workers that stay.
    pub(crate) largest_round: usize,
    /// Events that workers were given.
    pub(crate) events: u64,
}

/// What a run is measured by; its fields are what `--json` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Which scenario.
    pub scenario: String,
    /// Decides everything that chance decides.
    pub seed: u64,
    /// How many workers the scenario started with.
    pub workers: u32,
    /// How many partitions there were.
    pub partitions: u32,
    /// Whether every expectation and every invariant held.
    pub held: bool,
    /// Seconds until the last moment at which a partition did not have exactly one owner.
    pub recovery_s: f64,
    /// Partitions that went elsewhere although their worker's slot still has a worker.
    pub moved: usize,
    /// The share of the partitions that stayed where their worker's slot still has a worker.
    pub affinity: f64,
    /// Plans that moved something.
    pub rounds: u64,
    /// Partition-seconds without an owner.
    pub orphan_ps: f64,
    /// The longest time that one partition had no owner, in seconds.
    pub max_orphan_s: f64,
    /// Partition-seconds with an owner too many.
    pub dup_ps: f64,
    /// The heaviest load divided by the mean.
    pub peak_mean: f64,
    /// Committed writes.
    pub store_writes: u64,
    /// Published plans.
    pub plans: u64,
}

impl Figures {
    /// Looks at the window that is open since the measuring began.
    pub(crate) fn take(scenario: &str, options: &Options, ownership: &Ownership, counts: &Counts, now: Moment) -> Self {
        let window = ownership.figures(now);
        let stayed = window.staying - window.moved;
        Self {
            scenario: scenario.into(),
            seed: options.seed,
            workers: options.workers,
            partitions: options.partitions,
            held: false,
            recovery_s: seconds(window.recovery),
            moved: window.moved,
            affinity: if window.staying == 0 { 1.0 } else { rounded(ratio(stayed as u64, window.staying as u64)) },
            rounds: counts.rounds,
            orphan_ps: seconds(window.orphan),
            max_orphan_s: seconds(window.longest_orphan),
            dup_ps: seconds(window.duplicate),
            peak_mean: rounded(peak_mean(ownership)),
            store_writes: counts.store_writes,
            plans: counts.plans,
        }
    }
}

/// The heaviest load per unit of capacity, divided by the mean; 1 where there is no load.
fn peak_mean(ownership: &Ownership) -> f64 {
    let loads = ownership.loads();
    let total: u64 = loads.values().map(|load| load.load).sum();
    let capacities: u64 = loads.values().map(|load| u64::from(load.capacity)).sum();
    let relative = |load: &Load| ratio(load.load * capacities, total * u64::from(load.capacity));
    if total == 0 { 1.0 } else { loads.values().map(relative).fold(0.0, f64::max) }
}

#[expect(clippy::cast_precision_loss, reason = "for display only")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

/// Whole milliseconds, as seconds.
fn seconds(duration: Duration) -> f64 {
    rounded(duration.as_secs_f64())
}

/// Three digits after the point say all that there is to say.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
