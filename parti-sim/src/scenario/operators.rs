//! Operators make wishes, which hold whoever leads.

use std::time::Duration;

use parti_core::{Control, Slot};

use super::{Scenario, Stage};
use crate::check::invariant::Kind;
use crate::check::mark::Mark;
use crate::setting::birth::Birth;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "drain-slot",
        shows: "an operator drains a slot: its worker owns nothing, whoever leads, until it may again",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: drain_slot,
        marks: &[Mark::Wished, Mark::Drained, Mark::Crashed, Mark::PlannedRequested],
    },
    Scenario {
        name: "pause-rebalancing",
        shows: "while an operator has paused rebalancing, orphans are placed and nothing else moves, whoever leads",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: pause_rebalancing,
        marks: &[Mark::Wished, Mark::PlannedEmergency, Mark::PlannedJoin],
    },
    Scenario {
        name: "maintenance",
        shows: "workers that are gone in a maintenance find what they had when they come back: nothing moves",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: maintenance,
        marks: &[Mark::WaitedForMaintenance, Mark::ClaimedTakenOver],
    },
];

/// How many partitions are owned by this slot.
fn load_of(stage: &Stage, slot: Slot) -> u64 {
    stage.world.ground.observers.ownership.loads().get(&slot).map_or(0, |load| load.load)
}

fn drain_slot(stage: &mut Stage) {
    stage.begin_with_ordinals();
    let slot = Slot::new(stage.options().workers / 2);
    stage.measure();
    stage.operate("drains a slot", true);
    stage.world.at_store().wish(Control::Drain(slot), true);
    stage.settle();
    let load = load_of(stage, slot);
    stage.expect(Kind::Safety, "owned by the drained slot", load, "0", load == 0);
    let leader = stage.leader();
    stage.replace(leader);
    stage.settle();
    let load = load_of(stage, slot);
    stage.expect(Kind::Safety, "and under the next leader", load, "0", load == 0);
    stage.operate("no longer drains it", true);
    stage.world.at_store().wish(Control::Drain(slot), false);
    stage.world.at_store().wish(Control::Rebalance, true);
    stage.settle();
    let load = load_of(stage, slot);
    stage.expect(Kind::Liveness, "owned by it afterwards", load, "> 0", load > 0);
}

fn pause_rebalancing(stage: &mut Stage) {
    stage.begin();
    let joined = (stage.options().workers / 3).max(2);
    stage.operate("pauses rebalancing", false);
    stage.world.at_store().wish(Control::Pause, true);
    stage.run_for(Duration::from_secs(1));
    stage.measure();
    // They are given what the crashed one had, and no more.
    stage.start_more(joined);
    let leader = stage.leader();
    stage.crash(leader);
    stage.run_for(Duration::from_secs(60));
    let unowned = stage.world.ground.observers.ownership.unowned();
    stage.expect(Kind::Liveness, "orphans while it is paused", unowned, "0", unowned == 0);
    stage.expect_nothing_moved();
    stage.operate("resumes rebalancing", true);
    stage.world.at_store().wish(Control::Pause, false);
    stage.settle();
    let moved = stage.window().moved;
    stage.expect(Kind::Liveness, "moved afterwards", moved, "> 0", moved > 0);
}

fn maintenance(stage: &mut Stage) {
    stage.begin_with_ordinals();
    stage.operate("begins a maintenance", false);
    stage.world.at_store().wish(Control::Maintenance, true);
    stage.run_for(Duration::from_secs(1));
    stage.measure();
    let gone: Vec<_> = stage.followers().into_iter().take(stage.options().workers as usize / 3).collect();
    let births: Vec<_> = gone.iter().map(|process| stage.world.ground.process(*process).birth.clone()).collect();
    stage.disturb("a third of the machines are turned off", false);
    for process in gone {
        stage.crash(Some(process));
    }
    stage.run_for(Duration::from_secs(120));
    stage.operate("turns them on again", false);
    for birth in births {
        stage.world.start(Birth { predecessor_is_dead: true, ..birth });
    }
    stage.run_for(Duration::from_secs(5));
    stage.calm();
    stage.operate("ends the maintenance", false);
    stage.world.at_store().wish(Control::Maintenance, false);
    stage.settle();
    stage.expect_nothing_moved();
}
