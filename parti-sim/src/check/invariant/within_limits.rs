//! No worker is given more than its limit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parti_core::{AssignmentRecord, Key, Outcome, PartitionId, Record, Slot, Write};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, Topic};

/// Whenever the plan grants something to a worker, then all that this worker has by the plan, what it is yet to give up
/// included, is within its limit.
#[derive(Clone, Debug, Default)]
pub(super) struct WithinLimits {
    assignments: BTreeMap<Slot, Arc<AssignmentRecord>>,
    /// The partitions that were ever taken from the list: what they weigh, a leader may not know any more.
    unlisted: BTreeSet<PartitionId>,
}

impl Invariant for WithinLimits {
    fn name(&self) -> &'static str {
        "within-limits"
    }

    fn guarantee(&self) -> &'static str {
        "limits are hard"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Stored | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        if !scene.options.mix.has_limits() {
            return Ok(());
        }
        if let Fact::Listed { partition, listed: false } = fact {
            self.unlisted.insert(scene.name(*partition).clone());
        }
        let Fact::Stored { write: Write::Append { key: Key::Assign(slot), record, .. }, outcome, .. } = fact else {
            return Ok(());
        };
        let (Record::Assignment(record), Outcome::Committed(_)) = (record, outcome) else { return Ok(()) };
        let before = self.assignments.insert(*slot, Arc::clone(record));
        let had = |id: &PartitionId| {
            let owned = before.iter().flat_map(|before| &before.owned);
            owned.map(|grant| &grant.partition).any(|other| other == id)
        };
        if record.owned.iter().all(|grant| had(&grant.partition)) {
            return Ok(());
        }
        let weight = |id: &PartitionId| {
            let place = scene.partitions.position(id);
            place.map_or(0, |place| u64::from(scene.partitions.as_slice()[place].weight.get()))
        };
        let counts = |id: &&PartitionId| !self.unlisted.contains(*id);
        let owned = record.owned.iter().map(|grant| &grant.partition);
        let load: u64 = owned.clone().chain(record.releasing.iter().filter(counts)).map(weight).sum();
        let partitions = record.owned.len() + record.releasing.len();
        if scene.options.mix.is_within_limits(partitions, load) {
            return Ok(());
        }
        let newest = owned.clone().find(|id| !had(id)).and_then(|id| scene.index_of(id));
        let breach = Breach::new(format!(
            "generation {} grants more to {} than it can take: it has {partitions} partitions of weight {load} then",
            record.generation,
            slot.worker_name()
        ));
        Err(match newest {
            Some(partition) => breach.on(partition),
            None => breach,
        })
    }
}
