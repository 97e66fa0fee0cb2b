//! G4: nothing moves for noise: what moves because of a measured load evens out the real one.

use std::collections::BTreeMap;
use std::sync::Arc;

use parti_core::{AssignmentRecord, ClusterRecord, Key, MoveCause, Outcome, PartitionId, Record, Slot, Write};

use super::{Breach, Invariant, Scene};
use crate::check::mark::Mark;
use crate::told::fact::{Fact, Topic};

/// While partitions are as heavy as the list says, all of them are reported, and only the reports are noisy, a plan that moves
/// some because of their load makes the real loads more even: the sum of their squares, each by capacity, becomes less.
#[derive(Clone, Debug, Default)]
pub(super) struct LoadMoves {
    assignments: BTreeMap<Slot, Arc<AssignmentRecord>>,
    /// Whether partitions have ever become heavier or lighter than the list says, or the store has lost something.
    over: bool,
    /// The plan that was looked at last.
    seen: Option<parti_core::Generation>,
}

impl Invariant for LoadMoves {
    fn name(&self) -> &'static str {
        "load-moves"
    }

    fn guarantee(&self) -> &'static str {
        "G4"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Stored | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        self.over |= matches!(fact, Fact::PlanRegressed { .. } | Fact::Reached { mark: Mark::LoadShifted, .. });
        let Fact::Stored { write: Write::Append { key, record, .. }, outcome: Outcome::Committed(_), .. } = fact else {
            return Ok(());
        };
        match (key, record) {
            (Key::Assign(slot), Record::Assignment(record)) => {
                self.assignments.insert(*slot, Arc::clone(record));
            }
            (_, Record::Cluster(head)) if !self.over && self.seen.replace(head.generation) != Some(head.generation) => {
                return self.check(head, scene);
            }
            _ => {}
        }
        Ok(())
    }
}

impl LoadMoves {
    fn check(&self, head: &ClusterRecord, scene: &Scene<'_>) -> Result<(), Breach> {
        let Some(plan) = head.moves.plans().last().filter(|plan| plan.generation == head.generation) else {
            return Ok(());
        };
        let [caused] = &plan.causes[..] else { return Ok(()) };
        // What nobody reports is an estimate.
        let loads = &scene.options.loads;
        if loads.silent_every > 0 || loads.unmeasured_every > 0 {
            return Ok(());
        }
        let is_whole = caused.count == caused.moves.len() as u64;
        // On the way from one plan to the next, who has what is not all that counts.
        let is_settled = |record: &Arc<AssignmentRecord>| record.releasing.is_empty() && record.incoming.is_empty();
        if caused.cause != MoveCause::Load || !is_whole || !self.assignments.values().all(is_settled) {
            return Ok(());
        }
        let owned = |(slot, record): (&Slot, &Arc<AssignmentRecord>)| {
            let slot = *slot;
            record.owned.iter().map(move |grant| (grant.partition.clone(), slot)).collect::<Vec<_>>()
        };
        let mut owners: BTreeMap<PartitionId, Slot> = self.assignments.iter().flat_map(owned).collect();
        let before = squares(&owners, scene);
        for moved in &caused.moves {
            if let Some(to) = moved.to {
                owners.insert(moved.partition.clone(), to);
            }
        }
        let after = squares(&owners, scene);
        let (Some(before), Some(after)) = (before, after) else { return Ok(()) };
        if after < before {
            return Ok(());
        }
        let moved = caused.moves.first().and_then(|moved| scene.index_of(&moved.partition));
        let breach = Breach::new(format!(
            "generation {} moves {} partitions because of their load, which makes nothing more even: the sum of squares was \
             {before} and becomes {after}",
            plan.generation, caused.count
        ));
        Err(match moved {
            Some(partition) => breach.on(partition),
            None => breach,
        })
    }
}

/// The sum of the squares of the real loads, in thousandths, each by capacity; none while one of the owners is gone, which the
/// leader need not know yet, and of which nobody knows any more how much it could take.
fn squares(owners: &BTreeMap<PartitionId, Slot>, scene: &Scene<'_>) -> Option<u64> {
    let capacities = scene.ownership.loads();
    let mut loads: BTreeMap<Slot, u64> = BTreeMap::new();
    for (id, slot) in owners {
        let weight = scene.partitions.position(id).map_or(0, |at| scene.partitions.as_slice()[at].weight.get());
        *loads.entry(*slot).or_default() += u64::from(weight);
    }
    let square =
        |(slot, load): (&Slot, &u64)| Some(1_000 * load * load / u64::from(capacities.get(slot)?.capacity.max(1)));
    loads.iter().map(square).sum()
}
