//! Partitions become heavier and lighter, and applications say so.

use std::time::Duration;

use parti_core::assign::{Balanced, Problem, WorkerInput, plan};
use parti_core::{PartitionList, Slot, Weight};

use super::{Scenario, Stage};
use crate::check::invariant::Kind;
use crate::check::mark::Mark;
use crate::told::fact::PartitionIndex;

const HOUR: Duration = Duration::from_secs(3_600);
/// How many times as heavy some become.
const TIMES: u64 = 10;
/// Each how-manieth partition becomes heavier.
const HEAVY_EVERY: usize = 10;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "load-shifts",
        shows: "a tenth of the partitions is ten times as heavy for an hour: the measured load is even again in three rounds",
        workers: 30,
        partitions: 2400,
        adjust: |options| {
            options.loads.report_every_ms = 10_000;
            options.loads.noise_percent = 20;
            options.application.write_every_ms = 0;
        },
        act: load_shifts,
        marks: &[Mark::PlannedLoad, Mark::LoadShifted, Mark::LoadTold],
    },
    Scenario {
        name: "flapping-load",
        shows: "for a day every report of load is up to a fifth off, and some partitions change all the time: nothing moves",
        workers: 10,
        partitions: 200,
        adjust: |options| {
            options.loads.report_every_ms = 20_000;
            options.loads.noise_percent = 20;
            // A day has many renewals and probes, which are not what this is about.
            options.worker.lease_ms = 60_000;
            options.worker.probe_confirm_ms = 0;
            options.application.write_every_ms = 0;
        },
        act: flapping_load,
        marks: &[Mark::LoadTold],
    },
];

/// Until all that applications report has come to the leader.
fn measured(stage: &Stage) -> Duration {
    Duration::from_millis(stage.options().worker.load_half_life_ms) * 3
}

fn load_shifts(stage: &mut Stage) {
    stage.begin();
    let until_measured = measured(stage);
    stage.run_for(until_measured * 2);
    stage.measure();
    shift(stage, "a tenth of the partitions becomes heavier", TIMES, is_heavy);
    let (before, least) = (peak_permille(stage), least_moves(stage));
    stage.expect(Kind::Liveness, "peak/mean of the load before", ratio(before), "> 1.10", before > 1_100);
    stage.run_for(HOUR);
    expect_even_again(stage, least);
    shift(stage, "they are as heavy as they were", 1, is_heavy);
    stage.run_for(HOUR);
    let peak = peak_permille(stage);
    stage.expect(Kind::Liveness, "peak/mean when it is over", ratio(peak), "<= 1.10", peak <= 1_100);
}

fn expect_even_again(stage: &mut Stage, least: usize) {
    let (peak, moved) = (peak_permille(stage), stage.window().moved);
    let rounds = stage.world.ground.observers.counts.rounds;
    stage.expect(Kind::Liveness, "peak/mean of the load after", ratio(peak), "<= 1.10", peak <= 1_100);
    stage.expect(Kind::Safety, "rounds", rounds, "<= 3", rounds <= 3);
    // No plan moves as few where one heavy partition is much of a worker's share: the bound takes no notice of what fits.
    let loads = loads(stage);
    let share = loads.iter().sum::<u64>() / loads.len().max(1) as u64;
    if (0..stage.options().partitions as usize).all(|at| stage.world.loads.of(PartitionIndex::new(at)) * 10 <= share) {
        let most = least * 12 / 10;
        stage.expect(Kind::Safety, "partitions moved", moved, format!("<= {most}"), moved <= most);
    }
    stage.expect_rounds_within_budget();
    stage.expect_orphans_within(Duration::from_secs(1));
}

fn flapping_load(stage: &mut Stage) {
    stage.begin();
    stage.measure();
    let until = stage.world.ground.now + HOUR * 24;
    let mut heavy = false;
    while stage.is_on() && stage.world.ground.now < until {
        stage.run_for(Duration::from_secs(20));
        heavy = !heavy;
        // One of a hundred is heavy for 20 s, then light for 20 s, all day long.
        stage.world.shift_loads(if heavy { 2 } else { 1 }, |at| at.index().is_multiple_of(100));
    }
    stage.expect_nothing_moved();
}

fn is_heavy(at: PartitionIndex) -> bool {
    // Where they are is chance, by the hash of their names: some workers have many of them, some few.
    at.index().is_multiple_of(HEAVY_EVERY)
}

fn shift(stage: &mut Stage, what: &str, times: u64, heavy: impl Fn(PartitionIndex) -> bool) {
    stage.disturb(what, true);
    stage.world.shift_loads(times, heavy);
}

/// The real load of each worker's partitions.
fn loads(stage: &Stage) -> Vec<u64> {
    let slots = owners(stage);
    let mut loads = std::collections::BTreeMap::new();
    for (at, slot) in slots.iter().enumerate() {
        *loads.entry(*slot).or_insert(0) += stage.world.loads.of(PartitionIndex::new(at));
    }
    loads.into_values().collect()
}

fn owners(stage: &Stage) -> Vec<Option<Slot>> {
    let ownership = &stage.world.ground.observers.ownership;
    let owner = |at| ownership.workers_on(PartitionIndex::new(at)).first().and_then(|(by, _)| ownership.slot_of(*by));
    (0..stage.options().partitions as usize).map(owner).collect()
}

/// The load of the most loaded worker, in thousandths of the mean.
fn peak_permille(stage: &Stage) -> u64 {
    let loads = loads(stage);
    let (most, total) = (loads.iter().max().copied().unwrap_or(0), loads.iter().sum::<u64>());
    most * 1_000 * loads.len() as u64 / total.max(1)
}

/// How many moves it takes at the least to even out the real load.
fn least_moves(stage: &Stage) -> usize {
    let real = |(at, partition): (usize, &parti_core::Partition)| {
        let load = u32::try_from(stage.world.loads.of(PartitionIndex::new(at))).ok().and_then(Weight::new);
        parti_core::Partition::new(partition.id.clone()).with_weight(load.expect("a small load"))
    };
    let list = PartitionList::new(stage.options().all_partitions().iter().enumerate().map(real).collect());
    let (list, owners) = (list.expect("each once"), owners(stage));
    let slots: std::collections::BTreeSet<Slot> = owners.iter().flatten().copied().collect();
    let workers: Vec<WorkerInput> = slots.into_iter().map(WorkerInput::new).collect();
    let problem = Problem::new(&workers, &list, &owners).expect("all are owned");
    plan(&Balanced, &problem).expect("a plan").figures.least_moves
}

fn ratio(permille: u64) -> String {
    format!("{}.{:03}", permille / 1_000, permille % 1_000)
}
