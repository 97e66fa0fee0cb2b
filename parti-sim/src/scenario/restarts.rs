//! Workers restart, and everything is as it was.

use std::time::Duration;

use parti_core::Slot;

use super::{Scenario, Stage};
use crate::check::invariant::Kind;
use crate::check::mark::Mark;
use crate::setting::birth::Birth;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "rolling-update",
        shows: "each worker in turn restarts in its slot, the leader too: nothing moves, nothing is rebalanced",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: rolling_update,
        marks: &[Mark::Halted, Mark::ClaimedInherited],
    },
    Scenario {
        name: "rolling-update-surge",
        shows: "each worker's successor starts before it stops, and waits for its slot: nothing moves",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: rolling_update_surge,
        marks: &[Mark::Halted, Mark::StoodBy, Mark::ClaimedInherited],
    },
    Scenario {
        name: "surge-wait-runs-out",
        shows: "successors come whose predecessors stay: they wait for as long as they may, then take slots of their own",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: surge_wait_runs_out,
        marks: &[Mark::AwaitedOtherVersion, Mark::ClaimedFresh, Mark::PlannedJoin, Mark::Drained],
    },
    Scenario {
        name: "pod-crashes",
        shows: "each pod in turn is killed and started again by a platform that knows: it goes on, and nothing moves",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: pod_crashes,
        marks: &[Mark::Crashed, Mark::ClaimedTakenOver],
    },
    Scenario {
        name: "restart-all",
        shows: "all workers stop and start again: same slots, same partitions, nothing moves",
        workers: 64,
        partitions: 2400,
        adjust: |_| {},
        act: |stage| restart_all(stage, false),
        marks: &[Mark::Halted, Mark::ClaimedInherited],
    },
    Scenario {
        name: "crash-all",
        shows: "all workers are killed and start again: same slots, same partitions, nothing moves",
        workers: 64,
        partitions: 2400,
        adjust: |_| {},
        act: |stage| restart_all(stage, true),
        marks: &[Mark::Crashed, Mark::ClaimedTakenOver],
    },
];

/// How long a process takes from its end to the start of the next.
const GAP: Duration = Duration::from_secs(2);
/// How long one restart may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a restart may add to the gap.
const SLACK: Duration = Duration::from_secs(1);

fn rolling_update(stage: &mut Stage) {
    stage.begin_with_ordinals();
    stage.measure();
    stage.operate("begins a rolling update", false);
    for process in stage.all().into_iter().rev() {
        let birth = stage.world.ground.process(process).birth.clone();
        stage.operate(&format!("restarts {process}"), false);
        stage.world.restart(process, GAP, Birth { predecessor_is_dead: true, ..birth });
        wait_until_even(stage);
    }
    stage.settle();
    stage.expect_nothing_moved();
    let drain = Duration::from_millis(stage.options().application.drain_ms.1);
    stage.expect_orphans_within(GAP + drain + SLACK);
}

fn pod_crashes(stage: &mut Stage) {
    stage.begin_with_ordinals();
    stage.measure();
    stage.operate("kills one pod after the other", false);
    for process in stage.all() {
        stage.replace(Some(process));
        let even = stage.run_until(PATIENCE, |world| world.ground.observers.ownership.is_even());
        stage.run_for(Duration::from_secs(1));
        if !even {
            stage.expect(Kind::Liveness, "a pod goes on", "it does not", "within a minute", false);
        }
    }
    stage.settle();
    stage.expect_nothing_moved();
    stage.expect_orphans_within(SLACK);
}

fn rolling_update_surge(stage: &mut Stage) {
    stage.start_fleet(|_| Birth { software: "1".into(), ..Birth::default() });
    stage.calm();
    stage.settle();
    stage.measure();
    stage.operate("begins a rolling update with surge", false);
    for process in stage.all() {
        stage.operate(&format!("replaces {process}"), false);
        stage.world.start(Birth { software: "2".into(), ..Birth::default() });
        stage.run_for(Duration::from_secs(5));
        stage.world.command(process, parti_core::Command::Restart);
        wait_until_even(stage);
    }
    stage.settle();
    stage.expect_nothing_moved();
    let drain = Duration::from_millis(stage.options().application.drain_ms.1);
    stage.expect_orphans_within(drain + SLACK);
}

fn surge_wait_runs_out(stage: &mut Stage) {
    stage.start_fleet(|_| Birth { software: "1".into(), ..Birth::default() });
    stage.calm();
    stage.settle();
    let old_slots: Vec<_> = stage.world.ground.observers.ownership.loads().into_keys().collect();
    stage.measure();
    let count = (stage.options().workers / 2).max(1) as usize;
    stage.operate(&format!("starts {count} workers of another version, and stops none"), true);
    let birth = || Birth { software: "2".into(), ..Birth::default() };
    let newcomers: Vec<_> = (0..count).map(|_| stage.world.start(birth())).collect();
    let slots_of = |world: &World| -> Vec<Slot> {
        newcomers.iter().filter_map(|process| world.ground.process(*process).status.slot).collect()
    };
    let surge_wait = Duration::from_millis(stage.options().worker.surge_wait_ms);
    stage.run_for(surge_wait.saturating_sub(SLACK));
    let early = slots_of(&stage.world).len();
    stage.expect(Kind::Liveness, "slots taken while they may wait", early, "0", early == 0);
    stage.expect_nothing_moved();
    stage.run_until(PATIENCE, |world| slots_of(world).len() == count);
    stage.settle();
    let fresh = slots_of(&stage.world).into_iter().filter(|slot| !old_slots.contains(slot)).count();
    stage.expect(Kind::Liveness, "slots of their own afterwards", fresh, count, fresh == count);
    let moved = stage.window().moved;
    stage.expect(Kind::Liveness, "partitions moved to them", moved, "> 0", moved > 0);
    stage.expect_rounds_within_budget();
    let drain = Duration::from_millis(stage.options().application.drain_ms.1);
    stage.expect_orphans_within(drain + SLACK);
}

fn restart_all(stage: &mut Stage, killed: bool) {
    stage.begin();
    stage.measure();
    stage.operate("stops all workers", false);
    for process in stage.all() {
        if killed {
            stage.world.crash(process);
        } else {
            stage.world.command(process, parti_core::Command::Restart);
        }
    }
    stage.run_for(Duration::from_secs(5));
    stage.start_fleet(|_| Birth::default());
    stage.settle();
    stage.expect_nothing_moved();
    let slots: Vec<_> = stage.world.ground.observers.ownership.loads().into_keys().collect();
    let expected: Vec<_> = (0..stage.options().workers).map(Slot::new).collect();
    let same = slots == expected;
    stage.expect(Kind::Safety, "same slots", same, "true", same);
}

/// Waits until the worker that was restarted is gone, and everything has an owner again.
fn wait_until_even(stage: &mut Stage) {
    let halted = stage.world.ground.observers.marks.count(Mark::Halted);
    let stopped = stage.run_until(PATIENCE, |world| world.ground.observers.marks.count(Mark::Halted) > halted);
    let even = stage.run_until(PATIENCE, |world| world.ground.observers.ownership.is_even());
    if !stopped || !even {
        stage.expect(Kind::Liveness, "a restart ends", "it does not", "within a minute", false);
    }
}
