//! G8: a leader that has lost leadership cannot change any assignment.

use parti_core::{Outcome, Record, Term, Write};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, ProcessId, Topic};

/// What gets into `plan` is written by one process per term, and terms never go back.
#[derive(Clone, Debug, Default)]
pub(super) struct OneWriter {
    newest: Option<(Term, ProcessId)>,
}

impl Invariant for OneWriter {
    fn name(&self) -> &'static str {
        "one-writer"
    }

    fn guarantee(&self) -> &'static str {
        "G8"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Stored | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, _: &Scene<'_>) -> Result<(), Breach> {
        if let Fact::PlanRegressed { .. } = fact {
            self.newest = None; // the store forgot whom it had accepted
        }
        let Fact::Stored { process, write, outcome: Outcome::Committed(revision), .. } = *fact else { return Ok(()) };
        let Some(term) = term_of(write) else { return Ok(()) };
        match self.newest {
            Some((newest, writer)) if term < newest || (term == newest && process != writer) => {
                Err(Breach::new(format!(
                    "{process} wrote {} at revision {revision} in term {term}, but {writer} had begun term {newest}",
                    write.key()
                ))
                .by(process))
            }
            Some(_) | None => {
                self.newest = Some((term, process));
                Ok(())
            }
        }
    }
}

fn term_of(write: &Write) -> Option<Term> {
    let (Write::Create { record, .. } | Write::Update { record, .. } | Write::Append { record, .. }) = write else {
        return None;
    };
    match record {
        Record::Assignment(record) => Some(record.term),
        Record::Cluster(record) => Some(record.term),
        Record::Member(_) | Record::Leader(_) | Record::Control(_) => None,
    }
}
