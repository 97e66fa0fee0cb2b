//! Leader: where partitions go that their workers' applications cannot work on.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::handoff::Handoff;
use crate::ids::Slot;
use crate::partition::{Partition, PartitionId};
use crate::rebalance::Roster;

/// Which workers given-up partitions are to be with, as long as those that have given them up say so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GivenUp {
    /// By id: the worker that is to have it, which has not given it up.
    pub(crate) homes: BTreeMap<PartitionId, Slot>,
    /// The places of those that are still with one that has given them up.
    pub(crate) leaving: BTreeSet<usize>,
}

impl GivenUp {
    /// Finds a home for each partition that a worker of `roster` has given up: where it is, if that worker wants it, else
    /// with whoever has the least load for its capacity. Where everyone has given it up it stays. O(P) if there is any.
    pub(crate) fn of(roster: &Roster, handoff: &Handoff) -> Self {
        let mut refusers: BTreeMap<&PartitionId, BTreeSet<Slot>> = BTreeMap::new();
        for (slot, unwanted) in &roster.unwanted {
            for id in unwanted {
                refusers.entry(id).or_default().insert(*slot);
            }
        }
        let mut given_up = Self::default();
        if refusers.is_empty() {
            return given_up;
        }
        let list = handoff.list().as_slice();
        let mut loads: BTreeMap<Slot, u64> = BTreeMap::new();
        for (partition, target) in list.iter().zip(handoff.targets()) {
            if let Some(slot) = target {
                *loads.entry(*slot).or_default() += u64::from(partition.weight.get());
            }
        }
        for (id, refusers) in refusers {
            let Ok(at) = list.binary_search_by(|partition| partition.id.cmp(id)) else { continue };
            let target = handoff.targets()[at];
            if let Some(slot) = target.filter(|slot| !refusers.contains(slot) && roster.workers.contains_key(slot)) {
                given_up.homes.insert(id.clone(), slot);
                continue;
            }
            match (home(roster, &loads, &list[at], &refusers), target) {
                (Some(home), _) => {
                    *loads.entry(home).or_default() += u64::from(list[at].weight.get());
                    given_up.homes.insert(id.clone(), home);
                    given_up.leaving.insert(at);
                }
                (None, Some(stays)) => drop(given_up.homes.insert(id.clone(), stays)),
                (None, None) => {}
            }
        }
        given_up
    }
}

/// The worker with the least load for its capacity that may own the partition and has not given it up.
fn home(
    roster: &Roster,
    loads: &BTreeMap<Slot, u64>,
    partition: &Partition,
    refusers: &BTreeSet<Slot>,
) -> Option<Slot> {
    let has_labels = |slot: &Slot| {
        let required = partition.placement.iter().flat_map(|placement| &placement.requires);
        let has = |(name, value)| roster.labels.get(slot).is_some_and(|labels| labels.get(name) == Some(value));
        required.into_iter().all(has)
    };
    let candidates = roster.workers.iter().filter(|(slot, _)| !refusers.contains(slot) && has_labels(slot));
    let load = |slot: &Slot| u128::from(loads.get(slot).copied().unwrap_or_default());
    // a/b < c/d without fractions; capacities are not zero.
    let less = |a: &(&Slot, &(_, u32)), b: &(&Slot, &(_, u32))| {
        let ((first, (_, own)), (second, (_, other))) = (*a, *b);
        (load(first) * u128::from((*other).max(1))).cmp(&(load(second) * u128::from((*own).max(1))))
    };
    candidates.min_by(less).map(|(slot, _)| *slot)
}
