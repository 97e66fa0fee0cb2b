//! D5: a former owner stores nothing.

use std::collections::{BTreeMap, BTreeSet};

use parti_core::Token;

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, PartitionIndex, ProcessId, Topic};
use crate::told::message::MessageFact;

/// No position is stored under a token that is lower than one under which it was stored before. Nor under the same by
/// another process, unless the store has lost what tells tokens apart: then whoever began last stores it alone, and the one
/// before nothing any more. Positions that are lost took what they knew with them.
#[derive(Clone, Debug, Default)]
pub(super) struct CommitFenced {
    holders: BTreeMap<PartitionIndex, Holder>,
    /// Whether the store has lost what tells tokens apart.
    has_lost: bool,
}

/// Who has stored a position under the highest token.
#[derive(Clone, Debug)]
struct Holder {
    token: Token,
    by: ProcessId,
    /// Who has stored it under this token before, in a hold that has not ended.
    before: BTreeSet<ProcessId>,
}

impl Invariant for CommitFenced {
    fn name(&self) -> &'static str {
        "commit-fenced"
    }

    fn guarantee(&self) -> &'static str {
        "D5"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Message | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        match fact {
            Fact::PlanRegressed { .. } | Fact::MembersBroughtBack { .. } => self.has_lost = true,
            Fact::Message { what: MessageFact::PositionsLost, .. } => self.holders.clear(),
            Fact::Message {
                process: Some(process),
                partition: Some(partition),
                what: MessageFact::PositionStored { record, .. },
            } => {
                if let Some((highest, by)) = self.stores(*process, *partition, record.token) {
                    return Err(Breach::new(format!(
                        "{process} stores a position of {} under {}, but {by} has stored one under {highest}",
                        scene.name(*partition),
                        record.token
                    ))
                    .by(*process)
                    .on(*partition));
                }
            }
            Fact::Message {
                process: Some(process),
                partition: Some(partition),
                what: MessageFact::HoldEnded | MessageFact::LetGo | MessageFact::Stopped(_),
            } => {
                if let Some(holder) = self.holders.get_mut(partition) {
                    holder.before.remove(process);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl CommitFenced {
    /// A process stores a position. Returns who should have kept it from that, if anybody, and under which token.
    fn stores(&mut self, process: ProcessId, partition: PartitionIndex, token: Token) -> Option<(Token, ProcessId)> {
        let begins = Holder { token, by: process, before: BTreeSet::new() };
        let holder = self.holders.entry(partition).or_insert_with(|| begins.clone());
        let (highest, by) = (holder.token, holder.by);
        if token > highest {
            *holder = begins;
        } else if token < highest {
            return Some((highest, by));
        } else if by != process {
            if !self.has_lost || holder.before.contains(&process) {
                return Some((highest, by));
            }
            holder.before.insert(by);
            holder.by = process;
        }
        None
    }
}
