//! The work changes, or the workers are not alike.

use std::time::Duration;

use parti_core::{Control, Key, Partition, Revision, Slot};

use super::{Scenario, Stage};
use crate::check::invariant::Kind;
use crate::check::mark::Mark;
use crate::setting::birth::Birth;
use crate::told::fact::PartitionIndex;

/// How many zones there are: a divisor of the workers, so that the load can be even.
const ZONES: u32 = 3;

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
        name: "list-during-handoff",
        shows: "the list changes, is emptied and filled again, while partitions are on their way to others",
        workers: 30,
        partitions: 2400,
        adjust: |options| {
            options.spare_partitions = options.partitions / 10;
            options.application.drain_ms = (500, 2_000);
        },
        act: list_during_handoff,
        marks: &[Mark::PlannedJoin, Mark::PlannedList, Mark::Drained],
    },
    Scenario {
        name: "zones",
        shows: "partitions ask for a zone: they are owned there only, also when one of its workers crashes",
        workers: 30,
        partitions: 2400,
        adjust: |options| options.zones = ZONES,
        act: zones,
        marks: &[Mark::PlannedColdStart, Mark::PlannedEmergency, Mark::PlannedJoin],
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
        adjust: |options| {
            options.clock_ppm = 50_000;
            options.worker.probe_confirm_ms = 0; // the lease alone decides
        },
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
    Scenario {
        name: "mixed-versions",
        shows: "part of the fleet is newer, one worker too new to be understood: all keep out of its way, and say so",
        workers: 30,
        partitions: 2400,
        adjust: |options| options.worker.surge_wait_ms = 0,
        act: mixed_versions,
        marks: &[Mark::Undecodable, Mark::ClaimedInherited, Mark::PlannedEmergency, Mark::PlannedJoin],
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

fn list_during_handoff(stage: &mut Stage) {
    stage.begin();
    stage.measure();
    let (kept, spare) = (stage.options().partitions as usize, stage.options().spare_partitions as usize);
    stage.start_more((stage.options().workers / 3).max(1));
    let patience = Duration::from_secs(60);
    let under_way = stage.run_until(patience, |world| world.ground.observers.marks.count(Mark::Drained) > 0);
    stage.expect(Kind::Liveness, "handoffs are under way", under_way, "true", under_way);
    stage.operate("changes the list", true);
    stage.world.set_list(|partition| (spare..kept + spare).contains(&partition.index()));
    stage.run_for(Duration::from_millis(700));
    stage.operate("empties the list", true);
    stage.world.set_list(|_| false);
    stage.run_for(Duration::from_secs(10));
    let loads = stage.world.ground.observers.ownership.loads();
    let left: u64 = loads.values().map(|load| load.load).sum();
    stage.expect(Kind::Safety, "owned of an empty list", left, "0", left == 0);
    stage.operate("fills the list again", true);
    stage.world.set_list(|partition| partition.index() < kept);
    stage.settle();
}

fn zones(stage: &mut Stage) {
    let birth =
        |number: u32| Birth { labels: [("zone".into(), (number % ZONES).to_string())].into(), ..Birth::default() };
    stage.start_fleet(birth);
    stage.calm();
    stage.settle();
    stage.measure();
    expect_in_zones(stage, "owned outside their zone");
    let victim = stage.any_follower();
    stage.crash(victim);
    let most = stage.options().crash_bound();
    stage.run_for(most);
    stage.expect_orphans_within(most);
    expect_in_zones(stage, "and after a crash");
    if let Some(victim) = victim {
        let birth = stage.world.ground.process(victim).birth.clone();
        stage.operate("starts one more worker in that zone", true);
        stage.world.start(birth);
    }
    stage.settle();
    expect_in_zones(stage, "and after it was replaced");
}

/// Expects that partitions are owned in the zones that they ask for.
fn expect_in_zones(stage: &mut Stage, what: &'static str) {
    let all = stage.options().all_partitions();
    let outside = |(at, partition): &(usize, &Partition)| {
        let owners = stage.world.ground.observers.ownership.workers_on(PartitionIndex::new(*at));
        let labels = |process| &stage.world.ground.process(process).birth.labels;
        let asks_for = partition.placement.as_ref().map(|placement| &placement.requires);
        owners.iter().any(|(owner, _)| Some(labels(*owner)) != asks_for)
    };
    let outside = all.as_slice().iter().enumerate().filter(outside).count();
    stage.expect(Kind::Safety, what, outside, "0", outside == 0);
}

fn slow_worker(stage: &mut Stage) {
    stage.begin();
    let Some(slow) = stage.any_follower() else { return };
    stage.world.ground.process_mut(slow).drain_percent = 1_000_000;
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
        stage.world.links().isolate(process, Some(Duration::from_secs(20)), false);
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

fn mixed_versions(stage: &mut Stage) {
    // It has the slot that everybody would take first, and its operator a wish that would stop all that follows.
    let slot = Slot::new(0);
    let mut newer = Newer::arrive(stage, [Key::Slot(slot), Key::Control(Control::Pause)]);
    stage.start_fleet(|number| Birth { software: (number % 2).to_string(), ..Birth::default() });
    stage.calm();
    newer.live_for(stage, Duration::from_secs(30));
    stage.measure();
    let follower = stage.any_follower();
    if let Some(follower) = follower {
        stage.operate(&format!("updates {follower}"), false);
        stage.world.restart(follower, Duration::from_secs(1), Birth { software: "2".into(), ..Birth::default() });
        newer.live_for(stage, Duration::from_secs(10));
    }
    let leader = stage.leader();
    stage.crash(leader);
    newer.live_for(stage, Duration::from_secs(20));
    stage.operate("starts one more worker", true);
    let joined = stage.world.start(Birth { software: "2".into(), ..Birth::default() });
    newer.live_for(stage, Duration::from_secs(30));
    // It dies. Its record is nobody's to judge.
    stage.settle();
    newer.beat(stage);
    let touched = newer.touched;
    stage.expect(Kind::Safety, "newer records that others wrote", touched, "0", touched == 0);
    let others =
        stage.all().into_iter().filter(|process| stage.world.ground.process(*process).status.slot == Some(slot));
    let others = others.count();
    stage.expect(Kind::Safety, "others in its slot", others, "0", others == 0);
    let load = stage.world.ground.process(joined).app.count();
    stage.expect(Kind::Liveness, "owned by the one that joined", load, "> 0", load > 0);
    let most = stage.options().crash_bound();
    stage.expect_orphans_within(most);
}

/// What a newer version writes, and whether anybody else has.
struct Newer {
    written: [(Key, Revision); 2],
    beat: u64,
    touched: usize,
}

impl Newer {
    fn arrive(stage: &mut Stage, keys: [Key; 2]) -> Self {
        stage.operate("a worker of a newer version starts", false);
        Self { written: keys.map(|key| (key, stage.world.at_store().write_newer(key, 0))), beat: 0, touched: 0 }
    }

    /// Looks whether all is as it was left, and writes it again.
    fn beat(&mut self, stage: &mut Stage) {
        self.beat += 1;
        for (key, revision) in &mut self.written {
            let found = stage.world.kept.store.entry(*key).map(|entry| entry.revision);
            self.touched += usize::from(found != Some(*revision));
            *revision = stage.world.at_store().write_newer(*key, self.beat);
        }
    }

    fn live_for(&mut self, stage: &mut Stage, time: Duration) {
        let renewal = Duration::from_millis(stage.options().worker.lease_ms / 4);
        let until = stage.world.ground.now + time;
        while stage.is_on() && stage.world.ground.now < until {
            stage.run_for(renewal);
            self.beat(stage);
        }
    }
}
