//! Workers come and go because somebody wants it.

use std::time::Duration;

use super::{Scenario, Stage};
use crate::check::invariant::Kind;
use crate::check::mark::Mark;
use crate::setting::birth::Birth;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "cold-start",
        shows: "a fleet starts from nothing: all is owned a settle window and a second after the last worker",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: |stage| cold_start(stage, false),
        marks: &[Mark::ClaimedFresh, Mark::Led, Mark::PlannedColdStart],
    },
    Scenario {
        name: "cold-start-expected",
        shows: "the same, knowing how many workers come: all is owned as soon as they are there",
        workers: 30,
        partitions: 2400,
        adjust: |options| options.worker.expected_workers = Some(options.workers),
        act: |stage| cold_start(stage, true),
        marks: &[Mark::ClaimedFresh, Mark::Led, Mark::PlannedColdStart],
    },
    Scenario {
        name: "crowd",
        shows: "all workers of a large fleet claim a slot at the same moment: none needs more than a handful of tries",
        workers: 200,
        partitions: 2400,
        adjust: |_| {},
        act: crowd,
        marks: &[Mark::Conflict, Mark::ClaimedFresh, Mark::PlannedColdStart],
    },
    Scenario {
        name: "steady",
        shows: "nothing happens: each worker writes once per renewal interval, however many partitions there are",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: steady,
        marks: &[Mark::Renewed],
    },
    Scenario {
        name: "standby",
        shows: "more workers than slots: the others stand by, and take over the slots of those who go",
        workers: 30,
        partitions: 2400,
        adjust: |options| options.worker.slots = options.workers,
        act: standby,
        marks: &[Mark::StoodBy, Mark::Halted, Mark::PlannedLeave],
    },
    Scenario {
        name: "leave-while-joining",
        shows: "workers leave in the window in which others join: what they have does not wait for it",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: leave_while_joining,
        marks: &[Mark::PlannedLeave, Mark::PlannedJoin, Mark::Drained],
    },
    Scenario {
        name: "scale-up",
        shows: "half as many workers join: rounds of at most 20 %, hardly more moves than there must be",
        workers: 30,
        partitions: 2400,
        adjust: |_| {},
        act: scale_up,
        marks: &[Mark::PlannedJoin, Mark::Drained],
    },
    Scenario {
        name: "scale-down",
        shows: "a third of the workers leave: a partition is without an owner only while it is handed over",
        workers: 45,
        partitions: 2400,
        adjust: |_| {},
        act: scale_down,
        marks: &[Mark::PlannedLeave, Mark::Drained, Mark::Halted],
    },
    Scenario {
        name: "drain-one",
        shows: "one worker leaves whose work takes seconds to finish: nobody else waits for it",
        workers: 30,
        partitions: 2400,
        adjust: |options| options.application.drain_ms = (500, 5_000),
        act: drain_one,
        marks: &[Mark::PlannedLeave, Mark::Drained, Mark::Halted],
    },
];

/// How many tries are a handful.
const HANDFUL: u32 = 5;
/// How long a round trip and the handling around it may take.
const ROUND_TRIP: Duration = Duration::from_millis(100);
/// How long a grant may wait for those of others that leave at the same time, since one append is on its way at a time.
const QUEUE: Duration = Duration::from_millis(100);

fn cold_start(stage: &mut Stage, expected: bool) {
    stage.start_fleet(|_| Birth::default());
    stage.calm();
    stage.measure();
    stage.settle();
    let settle_window = Duration::from_millis(stage.options().worker.settle_window_ms);
    let most = if expected { Duration::from_secs(1) } else { settle_window + Duration::from_secs(1) };
    stage.expect_recovery_within(most);
}

fn crowd(stage: &mut Stage) {
    let workers = stage.options().workers;
    stage.operate(&format!("starts {workers} workers at once"), true);
    for _ in 0..workers {
        stage.world.start(Birth::default());
    }
    stage.calm();
    stage.measure();
    stage.settle();
    let most = stage.world.ground.observers.claims.values().copied().max().unwrap_or(0);
    stage.expect(Kind::Liveness, "most tries of one worker", most, format!("<= {HANDFUL}"), most <= HANDFUL);
    let settle_window = Duration::from_millis(stage.options().worker.settle_window_ms);
    stage.expect_recovery_within(settle_window + Duration::from_secs(1));
}

fn steady(stage: &mut Stage) {
    const MINUTES: u64 = 10;
    stage.begin();
    stage.measure();
    stage.run_for(Duration::from_secs(60 * MINUTES));
    let renewals = 60_000 * MINUTES / (stage.options().worker.lease_ms / 4) + 1;
    let most = renewals * u64::from(stage.options().workers);
    let writes = stage.world.ground.observers.counts.store_writes;
    stage.expect(Kind::Liveness, "store writes", writes, format!("<= {most}"), writes <= most);
    stage.expect_nothing_moved();
    stage.expect_orphans_within(Duration::ZERO);
}

fn standby(stage: &mut Stage) {
    stage.begin();
    let more = (stage.options().workers / 5).max(1);
    stage.start_more(more);
    stage.settle();
    let without = |stage: &Stage| {
        let standing_by = |process| stage.world.ground.process(process).status.slot.is_none();
        stage.all().into_iter().filter(|process| standing_by(*process)).count()
    };
    let waiting = without(stage);
    stage.expect(Kind::Safety, "workers that stand by", waiting, more, waiting == more as usize);
    stage.measure();
    stage.operate(&format!("tells {more} workers to leave"), true);
    let leaving: Vec<_> = stage.followers().into_iter().take(more as usize).collect();
    for process in leaving {
        stage.leave(process);
    }
    stage.settle();
    let waiting = without(stage);
    stage.expect(Kind::Liveness, "and after so many have left", waiting, "0", waiting == 0);
    let drain = Duration::from_millis(stage.options().application.drain_ms.1);
    stage.expect_orphans_within(drain + ROUND_TRIP);
}

fn leave_while_joining(stage: &mut Stage) {
    stage.begin();
    stage.measure();
    let count = (stage.options().workers / 5).max(1);
    let leaving: Vec<_> = stage.followers().into_iter().take(count as usize).collect();
    stage.start_more(2 * count + 1);
    stage.operate(&format!("tells {count} workers to leave"), true);
    for process in leaving {
        stage.leave(process);
    }
    let handed_over = stage.run_until(Duration::from_secs(2), |world| {
        world.ground.observers.marks.count(Mark::Halted) >= u64::from(count)
    });
    stage.expect(Kind::Liveness, "they are gone before the window closes", handed_over, "true", handed_over);
    stage.settle();
    let drain = Duration::from_millis(stage.options().application.drain_ms.1);
    stage.expect_orphans_within(drain + ROUND_TRIP);
}

fn scale_up(stage: &mut Stage) {
    stage.begin();
    let before = stage.world.ground.observers.ownership.loads();
    stage.measure();
    stage.start_more((stage.options().workers / 2).max(1));
    stage.settle();
    stage.expect_rounds_within_budget();
    let after = stage.world.ground.observers.ownership.loads();
    let least = least_moves(&before.values().map(|load| load.load).collect::<Vec<_>>(), after.len() as u64);
    let most = (least * 105).div_ceil(100);
    let moved = stage.window().moved;
    let expected = format!("{least} to {most}");
    stage.expect(Kind::Safety, "partitions moved", moved, expected, (least..=most).contains(&(moved as u64)));
    let drain = Duration::from_millis(stage.options().application.drain_ms.1);
    stage.expect_orphans_within(drain + ROUND_TRIP);
}

fn scale_down(stage: &mut Stage) {
    stage.begin();
    stage.measure();
    let leaving = stage.options().workers / 3;
    stage.operate(&format!("tells {leaving} workers to leave"), true);
    let all = stage.all();
    for process in all.into_iter().rev().take(leaving as usize) {
        stage.leave(process);
        stage.run_for(Duration::from_millis(50));
    }
    stage.settle();
    let drain = Duration::from_millis(stage.options().application.drain_ms.1);
    stage.expect_orphans_within(drain + ROUND_TRIP + QUEUE);
    expect_mostly_stayed(stage);
}

fn drain_one(stage: &mut Stage) {
    stage.begin();
    stage.measure();
    stage.operate("tells one worker to leave", true);
    if let Some(process) = stage.any_follower() {
        stage.leave(process);
    }
    stage.settle();
    let (_, longest) = stage.options().application.drain_ms;
    stage.expect_orphans_within(ROUND_TRIP);
    stage.expect_recovery_within(Duration::from_millis(longest) + ROUND_TRIP);
    expect_mostly_stayed(stage);
}

fn expect_mostly_stayed(stage: &mut Stage) {
    let window = stage.window();
    let most = window.staying.div_ceil(20);
    stage.expect(
        Kind::Safety,
        "moved between those who stay",
        window.moved,
        format!("<= {most}"),
        window.moved <= most,
    );
}

/// The least number of equal partitions that must move so that each of `workers` workers has the mean, give or take
/// 5 % or one partition: as many as the old ones have too many, or the new ones lack, whichever is more.
fn least_moves(before: &[u64], workers: u64) -> u64 {
    let total: u64 = before.iter().sum();
    let most = (total * 105 / (workers * 100)).max(total.div_ceil(workers));
    let least = (total * 95).div_ceil(workers * 100).min(total / workers);
    let too_many: u64 = before.iter().map(|load| load.saturating_sub(most)).sum();
    let too_few = (workers - before.len() as u64) * least;
    too_many.max(too_few)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_thirty_workers_to_forty_five_a_third_must_move_less_the_tolerance() {
        let before = vec![80; 30];
        assert_eq!(least_moves(&before, 45), 765);
        assert_eq!(least_moves(&[4, 4], 3), 2, "where partitions are few, whole ones count");
    }
}
