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

/// How many priorities there are where room is short: each has as many partitions as any other.
const PRIORITIES: u8 = 4;

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
        name: "zone-lost",
        shows: "partitions prefer a zone, which is lost and comes back: spilled, then home again, and nothing else moves",
        workers: 30,
        partitions: 2400,
        adjust: |options| options.mix.preferred_zones = ZONES,
        act: zone_lost,
        marks: &[Mark::PlannedColdStart, Mark::PlannedEmergency, Mark::PlannedJoin],
    },
    Scenario {
        name: "too-little-room",
        shows: "a third of the workers is lost, and the rest is too small: the least important partitions wait until it is back",
        workers: 30,
        partitions: 2400,
        adjust: |options| {
            // With all workers there is a fifth more room than is needed, without a third of them a fifth less.
            options.mix.max_load = (options.partitions * 6).div_ceil(options.workers * 5);
            options.mix.priorities = PRIORITIES;
        },
        act: too_little_room,
        marks: &[Mark::PlannedEmergency, Mark::WithoutRoom, Mark::RoomForAll, Mark::PlannedJoin],
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
    stage.start_fleet(in_zone);
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

fn zone_lost(stage: &mut Stage) {
    stage.start_fleet(in_zone);
    stage.calm();
    stage.settle();
    let outside = spilled(stage);
    stage.expect(Kind::Liveness, "outside the zone that they prefer", outside, "0", outside == 0);
    stage.measure();
    stage.disturb("a zone is lost", true);
    let zone_of = |stage: &Stage, process| stage.world.ground.process(process).birth.labels.get("zone").cloned();
    let lost: Vec<_> = stage.all().into_iter().filter(|of| zone_of(stage, *of).as_deref() == Some("0")).collect();
    let births = lost.iter().map(|process| stage.world.ground.process(*process).birth.clone()).collect::<Vec<_>>();
    for process in lost {
        stage.crash(Some(process));
    }
    stage.settle();
    let away = spilled(stage);
    let moved = stage.window().moved;
    stage.expect(Kind::Safety, "moved when it is lost", moved, "0", moved == 0);
    stage.operate("starts the workers of the zone again", true);
    stage.measure();
    for birth in births {
        stage.world.start(birth);
    }
    stage.settle();
    let outside = spilled(stage);
    stage.expect(Kind::Liveness, "outside the zone once it is back", outside, "0", outside == 0);
    // All that is away, or as much as each of its workers needs to have its share but for 5 %, in whole partitions.
    let (partitions, workers) = (stage.options().partitions as usize, stage.options().workers as usize);
    let least = away.max((partitions * 95).div_ceil(workers * 100) * workers / ZONES as usize);
    let (moved, most) = (stage.window().moved, least * 105 / 100);
    stage.expect(Kind::Safety, "moved when it is back", moved, format!("<= {most}"), moved <= most);
    stage.expect_rounds_within_budget();
}

fn too_little_room(stage: &mut Stage) {
    stage.start_fleet(in_zone);
    stage.calm();
    stage.settle();
    let lost: Vec<_> = stage.all().into_iter().step_by(ZONES as usize).collect();
    let births = lost.iter().map(|process| stage.world.ground.process(*process).birth.clone()).collect::<Vec<_>>();
    stage.disturb("a zone is lost", true);
    for process in lost {
        stage.crash(Some(process));
    }
    stage.run_for(stage.options().crash_bound() + stage.quiet());
    let left = stage.all().len() * stage.options().mix.max_load as usize;
    let (unowned, important) = without_owner(stage);
    let expected = (stage.options().partitions as usize).saturating_sub(left);
    stage.expect(Kind::Safety, "without an owner while the zone is gone", unowned, expected, unowned == expected);
    stage.expect(Kind::Safety, "of those, not of the lowest priority", important, "0", important == 0);
    stage.measure();
    stage.operate("starts the workers of the zone again", true);
    for birth in births {
        stage.world.start(birth);
    }
    stage.settle();
    stage.expect_rounds_within_budget();
}

/// How many partitions nobody works on, and how many of them are not of the lowest priority.
fn without_owner(stage: &Stage) -> (usize, usize) {
    let unowned = stage.world.ground.observers.ownership.all_unowned();
    let priority = |index: PartitionIndex| stage.options().mix.priority(u32::try_from(index.index()).unwrap_or(0));
    let priorities: Vec<_> = unowned.map(|(index, _)| priority(index)).collect();
    (priorities.len(), priorities.iter().filter(|priority| **priority > 0).count())
}

fn in_zone(number: u32) -> Birth {
    Birth { labels: [("zone".into(), (number % ZONES).to_string())].into(), ..Birth::default() }
}

/// How many partitions are not with a worker that they prefer.
fn spilled(stage: &Stage) -> usize {
    let all = stage.options().all_partitions();
    let is_spilled = |(at, partition): &(usize, &Partition)| {
        let owners = stage.world.ground.observers.ownership.workers_on(PartitionIndex::new(*at));
        let labels = |process| &stage.world.ground.process(process).birth.labels;
        let mut prefers = partition.placement.iter().flat_map(|placement| &placement.prefers);
        owners.iter().any(|(owner, _)| prefers.any(|(name, value)| labels(*owner).get(name) != Some(value)))
    };
    all.as_slice().iter().enumerate().filter(is_spilled).count()
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
