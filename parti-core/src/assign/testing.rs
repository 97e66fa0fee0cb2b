//! What the tests of the calculator share.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use super::{Options, Plan, Problem, Rule, Strategy, WorkerInput, plan};
use crate::ids::Slot;
use crate::partition::{Partition, PartitionId, PartitionList, Weight};

/// A group to plan for, round after round.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) workers: Vec<WorkerInput>,
    pub(super) partitions: PartitionList,
    pub(super) holders: Vec<Option<Slot>>,
    pub(super) rules: Vec<Rule>,
    pub(super) options: Options,
}

impl Group {
    /// Workers of capacity 1 in slots from 0, partitions of weight 1, and nobody holds anything.
    pub(super) fn new(workers: u32, partitions: usize) -> Self {
        Self::weighing(workers, &vec![1; partitions])
    }

    pub(super) fn weighing(workers: u32, weights: &[u32]) -> Self {
        let partition = |(n, &weight): (usize, &u32)| {
            let id = PartitionId::new(format!("p{n:06}")).expect("a valid id");
            Partition::new(id).with_weight(Weight::new(weight).expect("a weight of at least 1"))
        };
        let partitions = weights.iter().enumerate().map(partition).collect();
        Self {
            workers: (0..workers).map(|slot| WorkerInput::new(Slot::new(slot))).collect(),
            partitions: PartitionList::new(partitions).expect("distinct ids"),
            holders: vec![None; weights.len()],
            rules: Vec::new(),
            options: Options::default(),
        }
    }

    pub(super) fn require(&mut self, partition: usize, name: &str, value: &str) {
        let requires = [(name.into(), value.into())].into();
        self.rules.push(Rule { partition, requires, ..Rule::default() });
    }

    pub(super) fn add_workers(&mut self, count: u32) {
        let next = self.workers.iter().map(|worker| worker.slot.value() + 1).max().unwrap_or(0);
        self.workers.extend((next..next + count).map(|slot| WorkerInput::new(Slot::new(slot))));
    }

    pub(super) fn problem(&self) -> Problem<'_> {
        let problem = Problem::new(&self.workers, &self.partitions, &self.holders).expect("a valid problem");
        problem.with_rules(&self.rules).expect("valid rules").with_options(self.options)
    }

    pub(super) fn plan(&self, strategy: &dyn Strategy) -> Plan {
        plan(strategy, &self.problem()).expect("a plan")
    }

    /// Plans and applies, until no other round is needed.
    pub(super) fn rounds(&mut self, strategy: &dyn Strategy) -> Vec<Plan> {
        let mut rounds = Vec::new();
        loop {
            let plan = self.plan(strategy);
            self.holders.clone_from(&plan.owners);
            rounds.push(plan);
            assert!(rounds.len() <= 1000, "the rounds do not end");
            if !rounds[rounds.len() - 1].another_round {
                return rounds;
            }
        }
    }
}

pub(super) fn slots<const N: usize>(slots: [u32; N]) -> Vec<Option<Slot>> {
    slots.iter().map(|&slot| Some(Slot::new(slot))).collect()
}
