//! Which workers may hold which partitions.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use super::class::ANYWHERE;
use super::current::NOBODY;
use super::{Labels, Problem};

/// The workers that may hold a partition are its *pool*; partitions that ask for the same labels and avoid the
/// same workers share one.
#[derive(Clone, Debug)]
pub(super) struct Pools {
    /// The pool of each partition; empty where there are no rules, so that they cost nothing then.
    of: Vec<u32>,
    /// The workers in each pool, in order.
    members: Vec<Vec<u32>>,
    /// The partitions whose pinned worker can hold them, and that worker.
    pins: BTreeMap<usize, u32>,
    /// The partitions whose pool is empty, in order.
    impossible: Vec<usize>,
}

impl Pools {
    pub(super) fn new(problem: &Problem<'_>) -> Self {
        let workers = &problem.current().workers;
        let everyone = (0..).take(workers.len()).collect();
        let (pins, impossible) = (BTreeMap::new(), Vec::new());
        let mut pools = Self { of: Vec::new(), members: vec![everyone], pins, impossible };
        if problem.rules().is_empty() {
            return pools;
        }
        pools.of = vec![ANYWHERE; problem.holders().len()];
        let (anything, nobody) = (Labels::new(), BTreeSet::new());
        let mut known = BTreeMap::from([((&anything, &nobody), ANYWHERE)]);
        for rule in problem.rules() {
            if let Some(worker) = problem.pinned(rule) {
                pools.pins.insert(rule.partition, workers.index(worker.slot));
            }
            let next = u32::try_from(known.len()).unwrap_or(NOBODY);
            let pool = *known.entry((&rule.requires, &rule.avoids)).or_insert(next);
            if pool == next {
                let able = problem.workers().iter().filter(|worker| worker.can_hold(Some(rule)));
                pools.members.push(able.map(|worker| workers.index(worker.slot)).collect());
            }
            pools.of[rule.partition] = pool;
            if pools.members(pool).is_empty() {
                pools.impossible.push(rule.partition);
            }
        }
        pools
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether every partition may be anywhere.
    pub(super) fn is_free(&self) -> bool {
        self.of.is_empty()
    }

    pub(super) fn of(&self, partition: usize) -> u32 {
        self.of.get(partition).copied().unwrap_or(ANYWHERE)
    }

    /// The workers in a pool, in order.
    pub(super) fn members(&self, pool: u32) -> &[u32] {
        &self.members[pool as usize]
    }

    /// The partitions that no worker can hold, in order.
    pub(super) fn impossible(&self) -> &[usize] {
        &self.impossible
    }

    pub(super) fn allows(&self, pool: u32, worker: u32) -> bool {
        pool == ANYWHERE || self.members(pool).binary_search(&worker).is_ok()
    }

    /// The pinned partitions whose worker can hold them, in order, and that worker.
    pub(super) fn pins(&self) -> impl Iterator<Item = (usize, u32)> {
        self.pins.iter().map(|(&partition, &worker)| (partition, worker))
    }

    pub(super) fn pin(&self, partition: usize) -> Option<u32> {
        self.pins.get(&partition).copied()
    }
}
