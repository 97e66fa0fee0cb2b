//! Groups of partitions that may be held by the same workers.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::survey::NOBODY;
use super::{Labels, Problem};

/// The group of the partitions that may be anywhere.
pub(super) const ANYWHERE: u32 = 0;

/// Which group each partition is in, and which workers each group may use. Costs nothing where there are no rules.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    /// The group of each partition; empty where all may be anywhere.
    of: Vec<u32>,
    /// For each group, whether each worker may hold its partitions.
    allowed: Vec<Vec<bool>>,
    /// For each group, those workers.
    members: Vec<Vec<u32>>,
    /// Partitions whose pinned worker can hold them, and its index.
    pins: BTreeMap<usize, u32>,
    /// Partitions that no worker can hold, in order.
    impossible: Vec<usize>,
}

impl Groups {
    pub(super) fn new(problem: &Problem<'_>) -> Self {
        let roster = &problem.survey.roster;
        let everyone: Vec<_> = (0..).take(roster.len()).collect();
        let mut groups = Self {
            of: Vec::new(),
            allowed: vec![vec![true; roster.len()]],
            members: vec![everyone],
            pins: BTreeMap::new(),
            impossible: Vec::new(),
        };
        if problem.rules.is_empty() {
            return groups;
        }
        let anything = Labels::new();
        groups.of = vec![ANYWHERE; problem.holders.len()];
        let mut known = BTreeMap::from([(&anything, ANYWHERE)]);
        for rule in &problem.rules {
            if let Some(worker) = problem.pinned(rule) {
                groups.pins.insert(rule.partition, roster.index(worker.slot));
            }
            let next = u32::try_from(known.len()).unwrap_or(NOBODY);
            let group = *known.entry(&rule.requires).or_insert(next);
            if group == next {
                let staying = problem.workers.iter().filter(|worker| !worker.draining);
                let allowed: Vec<_> = staying.map(|worker| worker.can_hold(Some(rule))).collect();
                groups.members.push((0..).zip(&allowed).filter(|&(_, &can)| can).map(|(worker, _)| worker).collect());
                groups.allowed.push(allowed);
            }
            groups.of[rule.partition] = group;
            if groups.members(group).is_empty() {
                groups.impossible.push(rule.partition);
            }
        }
        groups
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

    /// The workers that may hold partitions of `group`, in order.
    pub(super) fn members(&self, group: u32) -> &[u32] {
        &self.members[group as usize]
    }

    /// The partitions that no worker can hold, in order.
    pub(super) fn impossible(&self) -> &[usize] {
        &self.impossible
    }

    pub(super) fn allows(&self, group: u32, worker: usize) -> bool {
        self.allowed[group as usize][worker]
    }

    /// The pinned partitions whose worker can hold them, in order, and the index of that worker.
    pub(super) fn pins(&self) -> impl Iterator<Item = (usize, u32)> {
        self.pins.iter().map(|(&partition, &worker)| (partition, worker))
    }

    pub(super) fn pin(&self, partition: usize) -> Option<u32> {
        if self.pins.is_empty() { None } else { self.pins.get(&partition).copied() }
    }
}
