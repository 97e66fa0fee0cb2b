//! The store, or the way to it, is gone for a while.

use std::time::Duration;

use parti_core::{Bucket, SuspendReason};

use super::{Scenario, Stage};
use crate::check::invariant::Kind;
use crate::check::mark::Mark;
use crate::told::fact::ProcessId;
use crate::world::World;

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
        marks: &[Mark::ConnectionLost, Mark::NotPresent, Mark::Resumed],
    },
    Scenario {
        name: "outage-10min",
        shows: "the server is gone for 10 minutes: same slots, same partitions, nothing moves",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: |stage| store_outage(stage, Duration::from_secs(600), true),
        marks: &[Mark::ConnectionLost, Mark::NotPresent, Mark::Resumed],
    },
    Scenario {
        name: "outage-available",
        shows: "the server is gone for 10 minutes, and workers in Available mode go on: nothing stops, nothing moves",
        workers: 30,
        partitions: 2400,
        adjust: |options| options.worker.available = true,
        act: |stage| {
            store_outage(stage, Duration::from_secs(600), true);
            stage.expect_orphans_within(Duration::ZERO);
        },
        marks: &[Mark::ConnectionLost],
    },
    Scenario {
        name: "silent-watch",
        shows: "the watches of some workers go silent while others join: the next reading makes up for what they miss",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: silent_watch,
        marks: &[Mark::PlannedJoin, Mark::Drained],
    },
    Scenario {
        name: "isolate-leader",
        shows: "the leader is cut off for half a minute: never two owners, another leads",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: |stage| isolate(stage, |stage| stage.leader().into_iter().collect()),
        marks: &[Mark::ConnectionLost, Mark::NotPresent, Mark::EvictedByProbe],
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
        marks: &[Mark::ConnectionLost, Mark::NotPresent, Mark::EvictedByProbe],
    },
    Scenario {
        name: "isolate-all",
        shows: "all workers are cut off for half a minute: same owners afterwards",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: isolate_all,
        marks: &[Mark::ConnectionLost, Mark::NotPresent, Mark::Resumed],
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
    Scenario {
        name: "bucket-recreated",
        shows: "the plan, and later the members, are deleted and made anew: never two owners, all is owned afterwards",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: bucket_recreated,
        marks: &[Mark::StoreRegressed, Mark::WatchLost],
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
        stage.world.links().server_down(time);
    } else {
        stage.world.links().store_down(time);
    }
    stage.run_for(time / 2);
    expect_degraded(stage, disconnected);
    stage.run_for(time / 2);
    stage.calm();
    stage.settle();
    stage.expect_nothing_moved();
    if !stage.options().worker.available {
        stage.expect_recovery_within(time + BACK);
    }
    if !disconnected {
        stage.expect_orphans_within(Duration::ZERO);
    }
}

/// Expects that workers say whether and why their state is degraded.
fn expect_degraded(stage: &mut Stage, disconnected: bool) {
    let reason = disconnected.then_some(SuspendReason::ConnectionLost);
    let all = stage.all();
    let say = all.iter().filter(|process| stage.world.ground.process(**process).status.degraded == reason).count();
    let what = if disconnected { "say that the connection is lost" } else { "are not degraded" };
    stage.expect(Kind::Liveness, what, say, all.len(), say == all.len());
}

fn silent_watch(stage: &mut Stage) {
    stage.begin();
    stage.measure();
    let (_, reread_ms) = stage.options().network.reread_ms;
    let silent: Vec<_> = stage.followers().into_iter().step_by(3).collect();
    stage.disturb("the watches of a third of the workers go silent", true);
    for process in silent {
        // Longer than it takes to read again: what is read then is a snapshot, after which the watch goes on.
        let until = stage.world.ground.now + Duration::from_millis(reread_ms);
        stage.world.watchers.silence(process, Bucket::Plan, until);
    }
    let joined = (stage.options().workers / 3).max(1);
    stage.start_more(joined);
    let workers = (stage.options().workers + joined) as usize;
    let have = |world: &World| world.ground.observers.ownership.loads().values().filter(|load| load.load > 0).count();
    let all = stage.run_until(Duration::from_millis(2 * reread_ms), |world| {
        world.ground.observers.ownership.last_change() == world.ground.now && have(world) == workers
    });
    let have = have(&stage.world);
    stage.expect(Kind::Liveness, "workers that have something", have, workers, all);
    stage.calm();
    stage.settle();
}

fn isolate(stage: &mut Stage, choose: impl Fn(&mut Stage) -> Vec<ProcessId>) {
    stage.begin();
    stage.measure();
    stage.disturb("some workers are cut off", true);
    for process in choose(stage) {
        stage.world.links().isolate(process, Some(ISOLATION), false);
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
    stage.world.links().isolate_all(ISOLATION, false);
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
    stage.world.at_store().roll_back(Bucket::Plan, 5, Duration::from_secs(3));
    stage.world.at_store().roll_back(Bucket::Members, 30, Duration::from_secs(3));
    stage.run_for(Duration::from_secs(3));
    stage.calm();
    stage.settle();
}

fn bucket_recreated(stage: &mut Stage) {
    stage.begin();
    stage.measure();
    for bucket in [Bucket::Plan, Bucket::Members] {
        stage.disturb(&format!("the bucket {bucket:?} is deleted and made anew"), true);
        stage.world.at_store().recreate(bucket, false);
        stage.settle();
    }
    stage.calm();
    stage.settle();
    // Holders that only the lost records knew of are waited out; then it is a cold start.
    let most = stage.options().observed_lease() * 2 + Duration::from_millis(stage.options().worker.settle_window_ms);
    stage.expect_orphans_within(most + BACK * 2);
}
