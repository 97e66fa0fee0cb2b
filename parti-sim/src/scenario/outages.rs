//! The store, or the way to it, is gone for a while.

use std::time::Duration;

use parti_core::Bucket;

use super::{Scenario, Stage};
use crate::fact::ProcessId;
use crate::mark::Mark;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "failover",
        shows: "the store answers nobody for 8 s, as in a failover: nobody suspends, nothing moves",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: |stage| store_outage(stage, Duration::from_secs(8), false),
        marks: &[Mark::OutcomeUnknown],
    },
    Scenario {
        name: "outage-10s",
        shows: "the server is gone for 10 s: same slots, same partitions, nothing moves",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: |stage| store_outage(stage, Duration::from_secs(10), true),
        marks: &[Mark::ConnectionLost, Mark::Suspended, Mark::Resumed],
    },
    Scenario {
        name: "outage-10min",
        shows: "the server is gone for 10 minutes: same slots, same partitions, nothing moves",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: |stage| store_outage(stage, Duration::from_secs(600), true),
        marks: &[Mark::ConnectionLost, Mark::Suspended, Mark::Resumed],
    },
    Scenario {
        name: "isolate-leader",
        shows: "the leader is cut off for half a minute: never two owners, another leads",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: |stage| isolate(stage, |stage| stage.leader().into_iter().collect()),
        marks: &[Mark::ConnectionLost, Mark::Suspended, Mark::EvictedByLease],
    },
    Scenario {
        name: "isolate-minority",
        shows: "a third of the workers are cut off for half a minute: never two owners",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: |stage| {
            isolate(stage, |stage| stage.followers().into_iter().take(stage.options().workers as usize / 3).collect());
        },
        marks: &[Mark::ConnectionLost, Mark::Suspended, Mark::EvictedByLease],
    },
    Scenario {
        name: "isolate-all",
        shows: "all workers are cut off for half a minute: same owners afterwards",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: isolate_all,
        marks: &[Mark::ConnectionLost, Mark::Suspended, Mark::Resumed],
    },
    Scenario {
        name: "store-rollback",
        shows: "the store restarts and has lost its last writes: never two owners, all is owned afterwards",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: store_rollback,
        marks: &[Mark::ConnectionLost],
    },
];

/// How soon after the store is back everything works again.
const BACK: Duration = Duration::from_secs(2);
/// How long workers are cut off.
const ISOLATION: Duration = Duration::from_secs(30);

fn store_outage(stage: &mut Stage, time: Duration, disconnected: bool) {
    stage.begin();
    stage.measure();
    stage.disturb(&format!("the store is gone for {} s", time.as_secs()), false);
    if disconnected {
        stage.world.server_down(time);
    } else {
        stage.world.store_down(time);
    }
    stage.run_for(time);
    stage.calm();
    stage.settle();
    stage.expect_nothing_moved();
    stage.expect_recovery_within(time + BACK);
    if !disconnected {
        stage.expect_orphans_within(Duration::ZERO);
    }
}

fn isolate(stage: &mut Stage, choose: impl Fn(&mut Stage) -> Vec<ProcessId>) {
    stage.begin();
    stage.measure();
    stage.disturb("some workers are cut off", true);
    for process in choose(stage) {
        stage.world.isolate(process, Some(ISOLATION), false);
    }
    stage.run_for(ISOLATION);
    stage.calm();
    stage.settle();
    let most = stage.options().crash_bound();
    stage.expect_orphans_within(most);
}

fn isolate_all(stage: &mut Stage) {
    stage.begin();
    stage.measure();
    stage.disturb("all workers are cut off", false);
    stage.world.isolate_all(ISOLATION, false);
    stage.run_for(ISOLATION);
    stage.calm();
    stage.settle();
    stage.expect_nothing_moved();
    stage.expect_recovery_within(ISOLATION + BACK);
}

fn store_rollback(stage: &mut Stage) {
    stage.begin();
    stage.start_more((stage.options().workers / 2).max(1));
    stage.run_for(Duration::from_secs(4));
    stage.measure();
    stage.disturb("the store restarts and has lost its last writes", true);
    stage.world.roll_back(Bucket::Plan, 5, Duration::from_secs(3));
    stage.world.roll_back(Bucket::Members, 30, Duration::from_secs(3));
    stage.run_for(Duration::from_secs(3));
    stage.calm();
    stage.settle();
}
