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

    /// Puts every worker, in turn, into one of so many zones.
    pub(super) fn in_zones(mut self, zones: usize) -> Self {
        for (number, worker) in self.workers.iter_mut().enumerate() {
            worker.labels.insert("zone".into(), format!("z{}", number % zones));
        }
        self
    }

    /// Lets a partition prefer a zone.
    pub(super) fn prefer(&mut self, partition: usize, zone: usize) {
        let prefers = [("zone".into(), format!("z{zone}"))].into();
        self.rules.push(Rule { partition, prefers, ..Rule::default() });
    }

    /// Gives every partition a priority, in the order of the list.
    pub(super) fn important(mut self, priorities: &[u8]) -> Self {
        let partitions = self.partitions.iter().zip(priorities);
        let partitions = partitions.map(|(partition, priority)| partition.clone().priority(*priority)).collect();
        self.partitions = PartitionList::new(partitions).expect("distinct ids");
        self
    }

    /// Gives workers limits of their load and their partitions, in order.
    pub(super) fn limited(mut self, limits: &[(Option<u64>, Option<u32>)]) -> Self {
        for (worker, (max_load, max_partitions)) in self.workers.iter_mut().zip(limits) {
            (worker.max_load, worker.max_partitions) = (*max_load, *max_partitions);
        }
        self
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
