//! The work changes, or the workers are not alike.

use std::time::Duration;

use parti_core::Slot;

use super::{Scenario, Stage};
use crate::invariant::Kind;
use crate::mark::Mark;
use crate::process::Birth;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "list-change",
        shows: "a tenth of the partitions go and as many come: the others stay where they are",
        workers: 30,
        partitions: 2400,
        adjust: |options| options.spare_partitions = options.partitions / 10,
        act: list_change,
        marks: &[Mark::PlannedList],
    },
    Scenario {
        name: "slow-worker",
        shows: "one worker drains longer than it may while others join: it is cancelled, nobody waits for it",
        workers: 30,
        partitions: 2400,
        adjust: |options| options.worker.release_timeout_ms = 5_000,
        act: slow_worker,
        marks: &[Mark::ReleaseTimedOut, Mark::Drained],
    },
    Scenario {
        name: "clocks",
        shows: "clocks run up to 5 % fast or slow while a worker is cut off: never two owners",
        workers: 30,
        partitions: 2400,
        adjust: |options| options.clock_ppm = 50_000,
        act: clocks,
        marks: &[Mark::Suspended, Mark::EvictedByLease],
    },
    Scenario {
        name: "capacities",
        shows: "a third of the workers can take twice as much: load follows capacity",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: capacities,
        marks: &[Mark::PlannedColdStart],
    },
];

fn list_change(stage: &mut Stage) {
    stage.begin();
    stage.measure();
    let (kept, spare) = (stage.options().partitions as usize, stage.options().spare_partitions as usize);
    stage.operate("changes the list", true);
    stage.world.set_list(|partition| (spare..kept + spare).contains(&partition.index()));
    stage.settle();
    let window = stage.window();
    let most = window.staying / 5;
    stage.expect(Kind::Safety, "partitions moved", window.moved, format!("<= {most}"), window.moved <= most);
    stage.expect_recovery_within(Duration::from_secs(1) + stage.quiet());
}

fn slow_worker(stage: &mut Stage) {
    stage.begin();
    let Some(slow) = stage.any_follower() else { return };
    stage.world.process_mut(slow).drain_percent = 1_000_000;
    stage.measure();
    stage.start_more((stage.options().workers / 2).max(1));
    stage.settle();
    let timeout = Duration::from_millis(stage.options().worker.release_timeout_ms);
    stage.expect_orphans_within(timeout);
}

fn clocks(stage: &mut Stage) {
    stage.begin();
    stage.measure();
    for process in stage.all() {
        if !stage.is_on() {
            return;
        }
        stage.disturb(&format!("{process} is cut off"), true);
        stage.world.isolate(process, Some(Duration::from_secs(20)), false);
        stage.run_for(Duration::from_secs(30));
    }
    stage.calm();
    stage.settle();
}

fn capacities(stage: &mut Stage) {
    stage.start_fleet(|number| Birth {
        preferred_slot: Some(Slot::new(number)),
        capacity: if number.is_multiple_of(3) { 2 } else { 1 },
        ..Birth::default()
    });
    stage.calm();
    stage.measure();
    stage.settle();
}
