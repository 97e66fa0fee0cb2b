//! G9: generations only grow, and nobody applies an older assignment after a newer one.

use std::collections::BTreeMap;

use parti_core::{Generation, Outcome, Position, Record, Slot, Tenure, Write};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, ProcessId, Topic};

/// The generations in the plan never go back, nor do those that a worker follows within one tenure, nor the revision
/// that a tenure has applied.
#[derive(Clone, Debug, Default)]
pub(super) struct Monotone {
    in_plan: Generation,
    known: BTreeMap<ProcessId, (Option<Tenure>, Generation)>,
    applied: BTreeMap<Slot, (Option<Tenure>, Position)>,
}

impl Monotone {
    fn observe_plan(&mut self, generation: Generation, process: ProcessId) -> Result<(), Breach> {
        let before = std::mem::replace(&mut self.in_plan, generation);
        if generation >= before {
            return Ok(());
        }
        Err(Breach::new(format!("{process} wrote generation {generation} after generation {before}")).by(process))
    }

    fn observe_applied(&mut self, slot: Slot, record: &Record, process: ProcessId) -> Result<(), Breach> {
        let Record::Member(record) = record else { return Ok(()) };
        match self.applied.insert(slot, (record.tenure, record.applied)) {
            Some((tenure, before)) if tenure == record.tenure && record.applied < before => Err(Breach::new(format!(
                "{process} in {} says that it has applied revision {}, but the same tenure had applied {before}",
                slot.worker_name(),
                record.applied
            ))
            .by(process)),
            Some(_) | None => Ok(()),
        }
    }
}

impl Invariant for Monotone {
    fn name(&self) -> &'static str {
        "monotone"
    }

    fn guarantee(&self) -> &'static str {
        "G9"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Stored | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Scene<'_>) -> Result<(), Breach> {
        match *fact {
            Fact::PlanRegressed { .. } => {
                *self = Self::default();
                Ok(())
            }
            Fact::Status { process, after, .. } => {
                let known = (after.tenure, after.generation);
                match self.known.insert(process, known) {
                    Some((tenure, before)) if tenure == after.tenure && after.generation < before => Err(Breach::new(
                        format!("{process} followed generation {before}, and now {}", after.generation),
                    )
                    .by(process)),
                    Some(_) | None => Ok(()),
                }
            }
            Fact::Stored { process, write, outcome: Outcome::Committed(_), .. } => match (write.key(), write) {
                (
                    parti_core::Key::Slot(slot),
                    Write::Create { record, .. } | Write::Update { record, .. } | Write::Append { record, .. },
                ) => self.observe_applied(slot, record, process),
                (_, Write::Append { record: Record::Assignment(_) | Record::Cluster(_), .. }) => {
                    self.observe_plan(generation_of(write), process)
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

fn generation_of(write: &Write) -> Generation {
    match write {
        Write::Append { record: Record::Assignment(record), .. } => record.generation,
        Write::Append { record: Record::Cluster(record), .. } => record.generation,
        _ => Generation::default(),
    }
}
