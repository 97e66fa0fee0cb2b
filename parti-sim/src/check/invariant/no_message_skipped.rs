//! D1: nothing is lost or skipped.

use parti_core::delivery::{PositionRecord, Sequence, StopReason};

use super::{Breach, Invariant, Scene};
use crate::check::messages::Kept;
use crate::told::fact::{Fact, PartitionIndex, ProcessId, Topic};
use crate::told::message::MessageFact;

/// A stored position never passes a message that is not finished, and nobody acknowledges one; nor does a position pass one that the limits removed unread while nobody has
/// said so. Once all faults are over, every stored message of a partition that somebody works on is finished, is a dead
/// letter, or was told of.
///
/// A partition whose position does not fit the stream is stopped until a person decides, where the settings say so; and
/// where the store has lost writes, its owner may have a token below one that is stored.
#[derive(Clone, Debug, Default)]
pub(super) struct NoMessageSkipped {
    regressed: bool,
}

impl Invariant for NoMessageSkipped {
    fn name(&self) -> &'static str {
        "no-message-skipped"
    }

    fn guarantee(&self) -> &'static str {
        "D1"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Message | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        match fact {
            Fact::PlanRegressed { .. } => self.regressed = true,
            Fact::Message { partition: Some(partition), what: MessageFact::PositionStored { record, .. }, .. } => {
                return passes_nothing(*partition, record, scene);
            }
            Fact::Message {
                process: Some(process),
                partition: Some(partition),
                what: MessageFact::Acknowledged { sequence, number },
            } => return acknowledges(*process, *partition, (*sequence, *number), scene),
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, scene: &Scene<'_>) -> Result<(), Breach> {
        let owed = scene.messages.all().find(|(partition, kept)| self.is_owed(*partition, kept, scene));
        let Some((partition, kept)) = owed else { return Ok(()) };
        let left = kept.unfinished.len() + kept.removed.len();
        let first = kept.unfinished.keys().chain(kept.removed.keys()).min().copied().unwrap_or_default();
        Err(Breach::new(format!(
            "{left} messages of {} were never finished, the first of them {first}, and nobody said why",
            scene.name(partition)
        ))
        .on(partition))
    }
}

impl NoMessageSkipped {
    /// Whether messages of a partition are to be finished still.
    fn is_owed(&self, partition: PartitionIndex, kept: &Kept, scene: &Scene<'_>) -> bool {
        let tells = |reason: &StopReason| match reason {
            StopReason::Misfit(_) => true,
            StopReason::Fenced { .. } => self.regressed,
            StopReason::Edited
            | StopReason::StreamChanged
            | StopReason::Unfit { .. }
            | StopReason::Unreadable { .. } => false,
        };
        let is_told = kept.stopped.values().any(tells);
        let is_held = scene.ownership.is_listed(partition) && scene.is_owed(partition) && scene.has_room(partition);
        let is_left = !kept.unfinished.is_empty() || !kept.removed.is_empty();
        is_left && is_held && !is_told
    }
}

/// What is acknowledged is gone, so nobody may acknowledge what is not finished.
fn acknowledges(
    process: ProcessId,
    partition: PartitionIndex,
    (sequence, number): (Sequence, u64),
    scene: &Scene<'_>,
) -> Result<(), Breach> {
    let is_open = |kept: &Kept| kept.unfinished.get(&sequence) == Some(&number);
    if !scene.messages.of(partition).is_some_and(is_open) {
        return Ok(());
    }
    let name = scene.name(partition);
    let sentence = format!("{process} acknowledges {sequence} of {name}, which is not finished");
    Err(Breach::new(sentence).by(process).on(partition))
}

fn passes_nothing(partition: PartitionIndex, record: &PositionRecord, scene: &Scene<'_>) -> Result<(), Breach> {
    let Some(kept) = scene.messages.of(partition).filter(|_| scene.messages.is_of_this_stream(record)) else {
        return Ok(());
    };
    let (name, through) = (scene.name(partition), record.through);
    if let Some(first) = kept.first().filter(|first| *first <= through) {
        let sentence = format!("the stored position of {name} is {through}, but {first} is not finished");
        return Err(Breach::new(sentence).on(partition));
    }
    if let Some((first, _)) = kept.removed.first_key_value().filter(|(first, _)| **first <= through) {
        let sentence = format!("{first} of {name} was removed unread, and the position {through} passes it in silence");
        return Err(Breach::new(sentence).on(partition));
    }
    Ok(())
}
