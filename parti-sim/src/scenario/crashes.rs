//! Processes end without a word, or stop for a while and come back.

use std::time::Duration;

use parti_core::Token;

use super::{Scenario, Stage};
use crate::check::invariant::Kind;
use crate::check::mark::Mark;
use crate::setting::birth::Birth;
use crate::told::fact::{PartitionIndex, ProcessId};
use crate::world::World;

/// How long a round trip and the handling around it may take.
const ROUND_TRIP: Duration = Duration::from_millis(100);
const EVICTED: &[Mark] = &[Mark::Crashed, Mark::PlannedEmergency];

pub(super) const SCENARIOS: &[Scenario] = &[
    crash_scenario(
        "crash",
        "a worker dies: its partitions go to others within the bound, and no other moves",
        |stage| {
            crash(stage, |stage| vec![stage.any_follower()]);
        },
    ),
    crash_scenario("leader-crash", "the leader dies: the same bound as for any other", |stage| {
        crash(stage, |stage| vec![stage.leader()]);
    }),
    crash_scenario("crash-leader-and-follower", "the leader and another worker die together", |stage| {
        crash(stage, |stage| vec![stage.leader(), stage.any_follower()]);
    }),
    crash_scenario("crash-three", "three workers die at once", |stage| {
        crash(stage, |stage| stage.followers().into_iter().rev().take(3).map(Some).collect());
    }),
    Scenario {
        name: "crash-during-scaling",
        shows: "a worker dies while the leader waits for more to join: its partitions do not wait",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: crash_during_scaling,
        marks: EVICTED,
    },
    Scenario {
        name: "crash-during-handoff",
        shows: "a worker dies while partitions are on their way to others",
        workers: 30,
        partitions: 2400,
        adjust: |options| options.application.drain_ms = (1_000, 4_000),
        act: crash_during_handoff,
        marks: EVICTED,
    },
    Scenario {
        name: "death-at-each-step",
        shows: "at each step of a handoff the leader, a worker that gives or one that receives dies",
        workers: 12,
        partitions: 600,
        adjust: |options| options.application.drain_ms = (20, 200),
        act: death_at_each_step,
        marks: &[Mark::PlannedJoin, Mark::Drained, Mark::Released, Mark::PlannedEmergency],
    },
    Scenario {
        name: "regrant",
        shows: "the receiver leaves or dies while the giver drains: it gets all back after that, with higher tokens",
        workers: 30,
        partitions: 2400,
        adjust: |options| {
            options.zones = options.workers;
            options.application.drain_ms = (4_000, 6_000);
        },
        act: regrant,
        marks: &[Mark::PlannedJoin, Mark::Drained, Mark::Released, Mark::PlannedEmergency, Mark::Halted, Mark::Crashed],
    },
    Scenario {
        name: "false-alarm",
        shows: "probes say for a while that nobody listens where workers are: nothing moves",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: false_alarm,
        marks: &[Mark::NobodyListened],
    },
    Scenario {
        name: "leader-killed-often",
        shows: "the leader is killed every 5 s for a minute, and replaced: never two owners, stable afterwards",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: leader_killed_often,
        marks: EVICTED,
    },
    Scenario {
        name: "pause",
        shows: "a worker stops for longer than its lease and wakes: never two owners, its stale token is refused",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: |stage| pause(stage, 2),
        marks: &[Mark::Paused, Mark::EvictedByLease, Mark::StaleTokenRefused, Mark::SlotLost],
    },
    Scenario {
        name: "pause-short",
        shows: "a worker stops for less than its lease: nothing moves",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: pause_short,
        marks: &[Mark::Paused],
    },
];

const fn crash_scenario(name: &'static str, shows: &'static str, act: fn(&mut Stage)) -> Scenario {
    Scenario { name, shows, workers: 30, partitions: 2400, adjust: |_| {}, act, marks: EVICTED }
}

fn crash(stage: &mut Stage, choose: impl Fn(&mut Stage) -> Vec<Option<ProcessId>>) {
    stage.begin();
    stage.measure();
    for victim in choose(stage) {
        stage.crash(victim);
    }
    stage.settle();
    let most = stage.options().crash_bound();
    stage.expect_recovery_within(most);
    let moved = stage.window().moved;
    let most = stage.window().staying.div_ceil(20);
    stage.expect(Kind::Safety, "survivors' partitions moved", moved, format!("<= {most}, for balance"), moved <= most);
}

fn crash_during_scaling(stage: &mut Stage) {
    stage.begin();
    let victim = stage.any_follower();
    stage.measure();
    stage.start_more((stage.options().workers / 2).max(1));
    stage.crash(victim);
    stage.settle();
    let most = stage.options().crash_bound();
    stage.expect_orphans_within(most);
}

fn crash_during_handoff(stage: &mut Stage) {
    stage.begin();
    let victim = stage.any_follower();
    stage.measure();
    stage.start_more((stage.options().workers / 2).max(1));
    let patience = Duration::from_secs(60);
    let under_way = stage.run_until(patience, |world| world.ground.observers.marks.count(Mark::Drained) > 0);
    stage.expect(Kind::Liveness, "handoffs are under way", under_way, "true", under_way);
    stage.run_for(Duration::from_millis(500));
    stage.crash(victim);
    stage.settle();
    let most = stage.options().crash_bound();
    stage.expect_orphans_within(most);
}

fn death_at_each_step(stage: &mut Stage) {
    type Choice = fn(&mut Stage, ProcessId) -> Option<ProcessId>;
    let victims: [(&str, Choice); 3] = [
        ("the leader", |stage, _| stage.leader()),
        ("a worker that gives", |stage, new| stage.followers().into_iter().find(|process| *process != new)),
        ("the worker that receives", |_, new| Some(new)),
    ];
    stage.begin();
    stage.measure();
    for (who, choose) in victims {
        for step in [Mark::PlannedJoin, Mark::Drained, Mark::Released, Mark::Acquired] {
            if !stage.is_on() {
                return;
            }
            stage.operate("starts one more worker", true);
            let new = stage.world.start(Birth::default());
            let joined = stage.world.ground.observers.marks.count(Mark::PlannedJoin);
            let under_way = |world: &World| world.ground.observers.marks.count(Mark::PlannedJoin) > joined;
            let mut reached = stage.run_until(Duration::from_secs(30), under_way);
            if step != Mark::PlannedJoin {
                let count = stage.world.ground.observers.marks.count(step);
                reached &=
                    stage.run_until(Duration::from_secs(30), |world| world.ground.observers.marks.count(step) > count);
            }
            stage.expect(Kind::Liveness, "the step is reached", reached, "true", reached);
            let victim = choose(stage, new);
            stage.disturb(&format!("{who} is about to die"), true);
            stage.crash(victim);
            stage.settle();
        }
    }
    let most = stage.options().crash_bound();
    stage.expect_orphans_within(most);
}

fn regrant(stage: &mut Stage) {
    // One worker in each zone: what it has can go to a second one there, and back to itself only.
    let zones = stage.options().zones.max(1);
    let in_zone =
        |number: u32| Birth { labels: [("zone".into(), (number % zones).to_string())].into(), ..Birth::default() };
    stage.start_fleet(in_zone);
    stage.calm();
    stage.settle();
    stage.measure();
    for crashes in [false, true] {
        if !stage.is_on() {
            return;
        }
        stage.operate("starts a second worker in a zone", true);
        let drained = stage.world.ground.observers.marks.count(Mark::Drained);
        let receiver = stage.world.start(in_zone(1));
        let patience = Duration::from_secs(60);
        let on_their_way =
            stage.run_until(patience, |world| world.ground.observers.marks.count(Mark::Drained) > drained);
        stage.expect(Kind::Liveness, "partitions are on their way", on_their_way, "true", on_their_way);
        stage.run_for(Duration::from_millis(500));
        let draining = draining(stage);
        if crashes {
            stage.crash(Some(receiver));
        } else {
            stage.operate("tells it to leave", true);
            stage.leave(receiver);
        }
        stage.settle();
        let ownership = &stage.world.ground.observers.ownership;
        let is_back = |(partition, from, token): &&(PartitionIndex, ProcessId, Token)| matches!(ownership.workers_on(*partition), [(owner, new)] if owner == from && new > token);
        let back = draining.iter().filter(is_back).count();
        let (all, held) = (draining.len(), back == draining.len() && back > 0);
        stage.expect(Kind::Safety, "back with a higher token", back, format!("{all}, and > 0"), held);
    }
    let moved = stage.window().moved;
    stage.expect(Kind::Safety, "elsewhere than before", moved, "0", moved == 0);
    stage.expect_orphans_within(ROUND_TRIP);
}

/// What applications are about to finish with, and under which token.
fn draining(stage: &Stage) -> Vec<(PartitionIndex, ProcessId, Token)> {
    let holds = stage.world.ground.living().flat_map(|(id, process)| process.app.holds().map(move |hold| (id, hold)));
    let draining = holds.filter(|(_, (_, hold))| hold.draining);
    draining.map(|(process, (partition, hold))| (partition, process, hold.token)).collect()
}

fn false_alarm(stage: &mut Stage) {
    stage.begin();
    stage.measure();
    // Two thirds of what it takes to be believed, again and again.
    let alarm = Duration::from_millis(stage.options().worker.probe_confirm_ms) * 2 / 3;
    for process in stage.all() {
        stage.world.ground.process_mut(process).falsely_gone_until = stage.world.ground.now + alarm;
        stage.run_for(alarm * 2);
    }
    stage.settle();
    stage.expect_nothing_moved();
    stage.expect_orphans_within(Duration::ZERO);
}

fn leader_killed_often(stage: &mut Stage) {
    stage.begin();
    stage.measure();
    for _ in 0..12 {
        let leader = stage.leader();
        stage.crash(leader);
        stage.run_for(Duration::from_secs(2));
        stage.world.start(Birth::default());
        stage.run_for(Duration::from_secs(3));
    }
    stage.settle();
}

fn pause(stage: &mut Stage, leases: u32) {
    stage.begin();
    let Some(victim) = stage.any_follower() else { return };
    stage.measure();
    let lease = Duration::from_millis(stage.options().worker.lease_ms);
    stage.disturb("a worker stops for longer than its lease", true);
    stage.world.pause(victim, lease * leases);
    stage.run_for(lease * leases);
    stage.calm();
    stage.settle();
    let most = stage.options().crash_bound();
    stage.expect_orphans_within(most);
}

fn pause_short(stage: &mut Stage) {
    stage.begin();
    let Some(victim) = stage.any_follower() else { return };
    stage.measure();
    let lease = Duration::from_millis(stage.options().worker.lease_ms);
    stage.disturb("a worker stops for half its lease", false);
    stage.world.pause(victim, lease / 2);
    stage.run_for(lease / 2);
    stage.calm();
    stage.settle();
    stage.expect_nothing_moved();
    stage.expect_orphans_within(lease / 2 + Duration::from_millis(10));
}
