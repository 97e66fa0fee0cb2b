//! G1, G8: nobody can renew what they do not hold.

use std::collections::BTreeMap;

use parti_core::{Instance, Outcome, Record, Revision, Slot, Write};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, Topic};

/// Every write of a member record that gets into the store rests on the record's last revision, or on its absence:
/// the chain of a tenure is never broken by a write that did not know of the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct OneTenure {
    last: BTreeMap<Slot, (Revision, Option<Instance>)>,
}

impl Invariant for OneTenure {
    fn name(&self) -> &'static str {
        "one-tenure"
    }

    fn guarantee(&self) -> &'static str {
        "G1"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Stored | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Scene<'_>) -> Result<(), Breach> {
        if let Fact::PlanRegressed { .. } = fact {
            self.last.clear();
        }
        let Fact::Stored { process, write, outcome: Outcome::Committed(revision), .. } = *fact else { return Ok(()) };
        let parti_core::Key::Slot(slot) = write.key() else { return Ok(()) };
        let (expected, instance) = match write {
            Write::Create { record, .. } => (None, instance_of(record)),
            Write::Update { record, expected, .. } => (Some(*expected), instance_of(record)),
            Write::Delete { expected, .. } => (Some(*expected), None),
            Write::Append { .. } => return Ok(()),
        };
        let before = self.last.insert(slot, (revision, instance));
        let fits = match (before, expected) {
            (Some((last, _)), Some(expected)) => last == expected,
            (Some((_, holder)), None) => holder.is_none(),
            (None, _) => true,
        };
        if fits {
            return Ok(());
        }
        let expected = expected.map_or("absence".into(), |expected| format!("revision {expected}"));
        let found = before.map_or(Revision::default(), |(last, _)| last);
        Err(Breach::new(format!("{process} wrote slot.{slot} on {expected}, but its last revision was {found}"))
            .by(process))
    }
}

fn instance_of(record: &Record) -> Option<Instance> {
    match record {
        Record::Member(record) => Some(record.instance),
        Record::Leader(_) | Record::Assignment(_) | Record::Cluster(_) | Record::Control(_) => None,
    }
}
