//! D5: no position moves back by itself.

use std::collections::BTreeMap;

use parti_core::delivery::{Notice, PositionRecord, Sequence};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, PartitionIndex, Topic};
use crate::told::message::MessageFact;

/// A stored position only grows, and stays one of the same stream, unless it did not fit the stream, which was told, and
/// the policy said where to go on; or unless positions were lost. What a stream has lost is not finished any more where nothing
/// of the partition was there: its numbers may be given again, and to messages of this partition.
#[derive(Clone, Debug, Default)]
pub(super) struct PositionMonotone {
    stored: BTreeMap<PartitionIndex, PositionRecord>,
    /// The lowest end that the stream ever fell back to: who had read further may still say so.
    lost_after: Option<Sequence>,
}

impl Invariant for PositionMonotone {
    fn name(&self) -> &'static str {
        "position-monotone"
    }

    fn guarantee(&self) -> &'static str {
        "D5"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        topic == Topic::Message
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        match fact {
            Fact::Message { what: MessageFact::PositionsLost, .. } => self.stored.clear(),
            Fact::Message { what: MessageFact::SuffixLost { last }, .. } => {
                self.lost_after = Some(self.lost_after.map_or(*last, |lowest| lowest.min(*last)));
            }
            Fact::Message { partition: Some(partition), what: MessageFact::Told(Notice::WentOn { .. }), .. } => {
                self.stored.remove(partition);
            }
            Fact::Message {
                process: Some(process),
                partition: Some(partition),
                what: MessageFact::PositionStored { record, .. },
            } => {
                let before = self.stored.insert(*partition, record.clone());
                let goes_back = |before: &PositionRecord| {
                    let through =
                        self.lost_after.map_or(before.through, |last| before.through.min(before.seq.max(last)));
                    record.created != before.created || record.seq < before.seq || record.through < through
                };
                if let Some(before) = before.filter(goes_back) {
                    return Err(Breach::new(format!(
                        "{process} stores {} through {} as the position of {}, which was {} through {}",
                        record.seq,
                        record.through,
                        scene.name(*partition),
                        before.seq,
                        before.through
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
