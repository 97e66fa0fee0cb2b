//! The plainest strategy: deal them out.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::{Ordering, Reverse};

use super::{Answer, Problem, Strategy, StrategyError};

/// Deals the partitions, in order of their ids, to the workers, in order of their slots: each worker has as many as any
/// other of its capacity, or one more, and one of twice the capacity is dealt to twice as often. Weights and holders do not
/// count.
///
/// A change of the workers moves most partitions, in rounds of the move budget; for everything but the smallest and the
/// most regular groups [`Balanced`](super::Balanced) is better. Partitions with a rule are dealt on their own, to the
/// workers that can hold them, so that counts can then differ by more; what they prefer, or
/// are to be apart from, does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundRobin;

impl Strategy for RoundRobin {
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
        let (workers, pools) = (&problem.current().workers, problem.pools());
        let capacities = workers.capacities();
        let hand = |member: &u32| Hand { worker: *member, with_next: 1, capacity: capacities[*member as usize] };
        let table = |pool: u32| pools.members(pool).iter().map(hand).map(Reverse).collect();
        let mut tables: Vec<BinaryHeap<Reverse<Hand>>> = (0..).take(pools.len()).map(table).collect();
        let mut deal = |partition: usize| {
            let mut next = tables[pools.of(partition) as usize].peek_mut()?;
            next.0.with_next += 1;
            Some(next.0.worker)
        };
        let mut owner = |partition: usize| pools.pin(partition).or_else(|| deal(partition));
        let slot = |partition: usize| owner(partition).and_then(|worker| workers.slot(worker));
        Ok(Answer::new((0..problem.holders().len()).map(slot).collect()))
    }
}

/// What a worker was dealt of a pool. The least is the one whose turn it is: that with the next one has the least for its
/// capacity, and of several the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hand {
    worker: u32,
    /// How many it has with the next one.
    with_next: u64,
    capacity: u32,
}

impl Ord for Hand {
    fn cmp(&self, other: &Self) -> Ordering {
        let (own, others) = (u128::from(self.with_next), u128::from(other.with_next));
        let by_load = (own * u128::from(other.capacity)).cmp(&(others * u128::from(self.capacity)));
        by_load.then(self.worker.cmp(&other.worker))
    }
}

impl PartialOrd for Hand {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use core::num::NonZeroU32;

    use super::super::testing::{Group, slots};
    use super::*;

    #[test]
    fn deals_in_order_within_one() {
        let group = Group::new(3, 8);
        let plan = group.plan(&RoundRobin);
        assert_eq!(plan.owners, slots([0, 1, 2, 0, 1, 2, 0, 1]));
    }

    #[test]
    fn a_worker_of_twice_the_capacity_is_dealt_to_twice_as_often() {
        let mut group = Group::new(3, 8);
        group.workers[1].capacity = NonZeroU32::new(2).expect("not zero");
        let plan = group.plan(&RoundRobin);
        assert_eq!(plan.owners, slots([1, 0, 1, 2, 1, 0, 1, 2]));
    }

    #[test]
    fn counts_are_within_one_of_what_the_capacity_asks_for() {
        let mut group = Group::new(7, 1_000);
        for (worker, capacity) in group.workers.iter_mut().zip([3, 1, 4, 1, 5, 9, 2]) {
            worker.capacity = NonZeroU32::new(capacity).expect("not zero");
        }
        let plan = group.plan(&RoundRobin);
        for worker in &group.workers {
            let count = plan.owners.iter().filter(|owner| **owner == Some(worker.slot)).count();
            let share = 1_000 * worker.capacity.get() as usize;
            assert!((count * 25).abs_diff(share) <= 25, "{worker:?}: {count}");
        }
    }

    #[test]
    fn a_partition_with_a_rule_is_dealt_to_those_that_can_hold_it() {
        let mut group = Group::new(3, 4);
        group.workers[1].labels.insert("zone".into(), "a".into());
        group.require(0, "zone", "a");
        group.require(1, "zone", "b");
        let plan = group.plan(&RoundRobin);
        assert_eq!(plan.owners[0], slots([1])[0]);
        assert_eq!(plan.owners[1], None);
        assert_eq!(plan.figures.unassigned, 1);
    }

    #[test]
    fn rounds_of_the_budget_end_within_one() {
        let mut group = Group::new(3, 100);
        group.rounds(&RoundRobin);
        group.add_workers(1);
        let rounds = group.rounds(&RoundRobin);
        assert!(rounds.len() > 1 && rounds.iter().all(|round| round.figures.staying_moved <= 20));
        let mut counts = [0; 4];
        for slot in group.holders.iter().flatten() {
            counts[slot.value() as usize] += 1;
        }
        assert_eq!(counts, [25; 4]);
    }
}
