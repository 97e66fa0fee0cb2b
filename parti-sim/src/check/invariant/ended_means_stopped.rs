//! G1: whoever ends another's tenure, or takes it over, does so when that one works on nothing any more.

use std::collections::BTreeMap;

use parti_core::{Key, Outcome, Slot, Write};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, PartitionIndex, ProcessId, Topic};
use crate::world::clock::Moment;

/// At the write that ends a tenure, or hands it to another process, its holder has stopped: nothing needs to be granted to
/// anybody to see that it was too early.
///
/// It says nothing of who goes on without a lease; of who took a slot from under a process that knows its predecessor dead,
/// and takes that one for it; nor, for as long as a lease lasts, of records that the store has lost
/// and of those who know more than it.
#[derive(Clone, Debug, Default)]
pub(super) struct EndedMeansStopped {
    /// Who wrote the record that is there, and since when it has the slot.
    holders: BTreeMap<Slot, (ProcessId, Moment)>,
    /// When each process has started.
    started: BTreeMap<ProcessId, Moment>,
    /// Until when the store may know less than its clients.
    unsure_until: Moment,
}

impl Invariant for EndedMeansStopped {
    fn name(&self) -> &'static str {
        "ended-means-stopped"
    }

    fn guarantee(&self) -> &'static str {
        "G1"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Stored | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        match *fact {
            Fact::PlanRegressed { .. } | Fact::Forgotten { .. } => {
                self.unsure_until = scene.now + scene.options.observed_lease();
            }
            Fact::Started { process, .. } => {
                self.started.insert(process, scene.now);
            }
            Fact::Stored { process, write, outcome: Outcome::Committed(_), .. } => {
                let Key::Slot(slot) = write.key() else { return Ok(()) };
                let before = self.holders.remove(&slot);
                if let Write::Create { .. } | Write::Update { .. } = write {
                    let same = before.filter(|(holder, _)| *holder == process);
                    self.holders.insert(slot, same.unwrap_or((process, scene.now)));
                }
                if let Some((before, since)) = before.filter(|(before, _)| *before != process) {
                    let known_dead = scene.options.mix.dead_predecessors;
                    if known_dead && self.started.get(&process).is_some_and(|started| *started < since) {
                        return Ok(()); // it is no predecessor
                    }
                    return self.check(before, process, slot, scene);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl EndedMeansStopped {
    fn check(&self, holder: ProcessId, by: ProcessId, slot: Slot, scene: &Scene<'_>) -> Result<(), Breach> {
        // It may be in another slot by now.
        let is_there = scene.ownership.slot_of(holder) == Some(slot);
        if scene.is_available(holder) || !is_there || scene.now < self.unsure_until {
            return Ok(());
        }
        let mut all = (0..scene.partitions.as_slice().len()).map(PartitionIndex::new);
        let works_on = |partition: &PartitionIndex| {
            scene.ownership.workers_on(*partition).iter().any(|(process, _)| *process == holder)
        };
        let Some(partition) = all.find(works_on) else { return Ok(()) };
        let name = scene.name(partition);
        let sentence = format!("{by} ended the tenure of {holder} in slot.{slot}, which works on {name} still");
        Err(Breach::new(sentence).by(holder).on(partition))
    }
}
