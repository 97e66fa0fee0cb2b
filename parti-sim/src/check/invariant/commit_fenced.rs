//! D5: a former owner stores nothing.

use std::collections::BTreeMap;

use parti_core::Token;

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, PartitionIndex, ProcessId, Topic};
use crate::told::message::MessageFact;

/// No position is stored under a token that is lower than one under which it was stored before, nor under the same by
/// another process. Positions that are lost took what they knew with them.
#[derive(Clone, Debug, Default)]
pub(super) struct CommitFenced {
    highest: BTreeMap<PartitionIndex, (Token, ProcessId)>,
}

impl Invariant for CommitFenced {
    fn name(&self) -> &'static str {
        "commit-fenced"
    }

    fn guarantee(&self) -> &'static str {
        "D5"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        topic == Topic::Message
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        match fact {
            Fact::Message { what: MessageFact::PositionsLost, .. } => self.highest.clear(),
            Fact::Message {
                process: Some(process),
                partition: Some(partition),
                what: MessageFact::PositionStored { record, .. },
            } => {
                let token = record.token;
                let before = self.highest.insert(*partition, (token, *process));
                let is_former =
                    |(highest, by): &(Token, ProcessId)| token < *highest || (token == *highest && by != process);
                if let Some((highest, by)) = before.filter(is_former) {
                    return Err(Breach::new(format!(
                        "{process} stores a position of {} under {token}, but {by} has stored one under {highest}",
                        scene.name(*partition)
                    ))
                    .by(*process)
                    .on(*partition));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
