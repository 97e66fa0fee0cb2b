//! The plainest strategy: deal them out.

use alloc::vec;

use super::{Answer, Problem, Strategy, StrategyError};

/// Deals the partitions, in order of their ids, to the workers, in order of their slots: each worker has as many as any
/// other, or one more. Weights, capacities and holders do not count.
///
/// A change of the workers moves most partitions, in rounds of the move budget; for everything but the smallest and the
/// most regular groups [`Balanced`](super::Balanced) is better. Partitions with a rule are dealt on their own, to the
/// workers that can hold them, so that counts can then differ by more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoundRobin;

impl Strategy for RoundRobin {
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
        let (workers, pools) = (&problem.current().workers, problem.pools());
        let mut dealt = vec![0_usize; pools.len()];
        let mut deal = |partition: usize| {
            let pool = pools.of(partition);
            let (members, turn) = (pools.members(pool), &mut dealt[pool as usize]);
            let member = members.get(turn.checked_rem(members.len())?)?;
            *turn += 1;
            Some(*member)
        };
        let mut owner = |partition: usize| pools.pin(partition).or_else(|| deal(partition));
        let slot = |partition: usize| owner(partition).and_then(|worker| workers.slot(worker));
        Ok(Answer::new((0..problem.holders().len()).map(slot).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Group, slots};
    use super::*;

    #[test]
    fn deals_in_order_within_one() {
        let group = Group::new(3, 8);
        let plan = group.plan(&RoundRobin);
        assert_eq!(plan.owners, slots([0, 1, 2, 0, 1, 2, 0, 1]));
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
