//! A slow and obvious version, to compare the fast one with.

use alloc::vec;
use alloc::vec::Vec;

use super::WorkerInput;
use super::testing::Group;

/// What a plan for partitions of equal weight costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) moved: usize,
    pub(super) staying_moved: usize,
    pub(super) another_round: bool,
}

/// Plans for partitions that weigh 1, one at a time, with a look at every worker each time, by counts alone.
pub(super) fn balanced(group: &Group) -> Cost {
    let workers: Vec<_> = group.workers.iter().filter(|worker| !worker.draining).collect();
    let capacity: u64 = workers.iter().map(|worker| u64::from(worker.capacity.get())).sum();
    let total = group.holders.len() as u64;
    let mut counts = vec![0_u64; workers.len()];
    for holder in group.holders.iter().flatten() {
        if let Some(index) = workers.iter().position(|worker| worker.slot == *holder) {
            counts[index] += 1;
        }
    }
    let unassigned = total - counts.iter().sum::<u64>();
    if workers.is_empty() {
        let leaving = group.holders.iter().flatten().count();
        return Cost { moved: leaving, staying_moved: 0, another_round: false };
    }
    let epsilon = u64::from(group.options.epsilon_permille);
    let share = |index: usize| total * u64::from(workers[index].capacity.get());
    let upper =
        |index: usize| (share(index) * (1000 + epsilon) / (1000 * capacity)).max(share(index).div_ceil(capacity));
    let lower = |index: usize| (share(index) * (1000 - epsilon)).div_ceil(1000 * capacity).min(share(index) / capacity);
    let relative = |count: u64, index: usize| count * capacity * 1_000_000 / u64::from(workers[index].capacity.get());
    let everyone = 0..workers.len();
    // Where a partition goes does not matter to the costs, as long as those below their bounds come first.
    for _ in 0..unassigned {
        let to = everyone.clone().min_by_key(|&index| (counts[index] >= lower(index), relative(counts[index], index)));
        counts[to.expect("there are workers")] += 1;
    }
    let staying = total - unassigned;
    let budget = match u64::from(group.options.move_budget_percent) {
        100.. => staying,
        percent => {
            (0..staying).take_while(|moved| moved * 100 < staying * percent).last().unwrap_or(0).max(1).min(staying)
        }
    };
    let mut moved = 0;
    let another_round = loop {
        let uneven = everyone.clone().any(|index| counts[index] > upper(index) || counts[index] < lower(index));
        if !uneven || moved == budget {
            break uneven;
        }
        let from = everyone.clone().max_by_key(|&index| (counts[index] > upper(index), relative(counts[index], index)));
        let to = everyone.clone().min_by_key(|&index| (counts[index] >= lower(index), relative(counts[index], index)));
        counts[from.expect("there are workers")] -= 1;
        counts[to.expect("there are workers")] += 1;
        moved += 1;
    };
    let staying_moved = usize::try_from(moved).expect("a small group");
    Cost { moved: staying_moved + usize::try_from(unassigned).expect("a small group"), staying_moved, another_round }
}

/// Which of the partitions without an owner could have one, though nobody has room for them: one at a time, with a look at
/// every worker, and at everything that it has.
///
/// Of each, whether some worker that may hold it would have room beside what is as important as it or more.
pub(super) fn waiting(group: &Group) -> Vec<Waiting> {
    let problem = group.problem();
    let mut waiting = Vec::new();
    for (partition, wanted) in group.partitions.iter().enumerate() {
        if group.holders[partition].is_some() {
            continue;
        }
        let workers: Vec<_> = group.workers.iter().filter(|worker| worker.can_hold(problem.rule(partition))).collect();
        let has_room = |worker: &&WorkerInput| {
            let has = |other: &usize| group.holders[*other] == Some(worker.slot);
            let kept = (0..group.holders.len())
                .filter(has)
                .filter(|&other| priority(group, other) >= priority(group, partition));
            let weight = |other: usize| u64::from(group.partitions.as_slice()[other].weight.get());
            let load = kept.clone().map(weight).sum::<u64>() + u64::from(wanted.weight.get());
            worker.max_load.is_none_or(|most| load <= most)
                && worker.max_partitions.is_none_or(|most| kept.count() < most as usize)
        };
        let (may_be_held, has_room) = (!workers.is_empty(), workers.iter().any(has_room));
        waiting.push(Waiting { partition, priority: priority(group, partition), may_be_held, has_room });
    }
    waiting
}

/// A partition without an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) partition: usize,
    pub(super) priority: u8,
    /// Whether a worker may hold it, be there room or not.
    pub(super) may_be_held: bool,
    /// Whether one would have room if all that is less important made way.
    pub(super) has_room: bool,
}

/// Where all weigh 1 and may be anywhere: how many of each priority, the highest first, find no room.
pub(super) fn without_room(group: &Group) -> Vec<(u8, usize)> {
    let room = |worker: &WorkerInput| {
        let load = worker.max_load.map_or(usize::MAX, |most| usize::try_from(most).expect("a small limit"));
        load.min(worker.max_partitions.map_or(usize::MAX, |most| most as usize))
    };
    let staying = group.workers.iter().filter(|worker| !worker.draining);
    let mut left = staying.map(room).fold(0, usize::saturating_add);
    let mut without = Vec::new();
    for priority in (0..=u8::MAX).rev() {
        let count = (0..group.holders.len()).filter(|&partition| self::priority(group, partition) == priority).count();
        if count > left {
            without.push((priority, count - left));
        }
        left = left.saturating_sub(count);
    }
    without
}

fn priority(group: &Group, partition: usize) -> u8 {
    group.partitions.as_slice()[partition].placement.as_ref().map_or(0, |placement| placement.priority)
}
