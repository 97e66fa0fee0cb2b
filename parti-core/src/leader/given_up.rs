//! Leader: where partitions may go that their workers' applications cannot work on.

use alloc::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::Slot;
use crate::leader::handoff::Handoff;
use crate::leader::rebalance::Roster;
use crate::partition::{Partition, PartitionId};

/// Which workers given-up partitions are not to be with, as long as those that have given them up say so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GivenUp {
    /// By id: the workers that it is not to be with. One that everyone has given up stays where it is.
    pub(crate) avoids: BTreeMap<PartitionId, BTreeSet<Slot>>,
    /// The places of those that are still with one that has given them up, though others could have them.
    pub(crate) leaving: BTreeSet<usize>,
}

impl GivenUp {
    /// Reads from the roster what its workers have given up. O(P) if there is any.
    pub(crate) fn of(roster: &Roster, handoff: &Handoff) -> Self {
        let mut refusers: BTreeMap<&PartitionId, BTreeSet<Slot>> = BTreeMap::new();
        for (slot, unwanted) in &roster.unwanted {
            for id in unwanted {
                refusers.entry(id).or_default().insert(*slot);
            }
        }
        let mut given_up = Self::default();
        let list = handoff.list().as_slice();
        for (id, mut refusers) in refusers {
            let Ok(at) = list.binary_search_by(|partition| partition.id.cmp(id)) else { continue };
            let target = handoff.targets()[at];
            let is_taker = |slot: &Slot| is_taker(roster, *slot, &list[at]);
            if roster.workers.keys().any(|slot| !refusers.contains(slot) && is_taker(slot)) {
                if !target.is_some_and(|slot| !refusers.contains(&slot) && roster.workers.contains_key(&slot)) {
                    given_up.leaving.insert(at);
                }
            } else if let Some(stays) = target.filter(is_taker) {
                refusers.remove(&stays);
            } else {
                continue;
            }
            given_up.avoids.insert(id.clone(), refusers);
        }
        given_up
    }
}

/// Whether the partition could be given to the worker in `slot`, if it wants it.
fn is_taker(roster: &Roster, slot: Slot, partition: &Partition) -> bool {
    let mut requires = partition.placement.iter().map(|placement| &placement.requires);
    let is_present = roster.workers.contains_key(&slot) && !roster.away.contains(&slot);
    is_present && requires.all(|requires| roster.has_labels(slot, requires))
}
