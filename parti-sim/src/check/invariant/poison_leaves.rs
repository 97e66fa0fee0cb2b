//! D7: a message that ends its process leaves after so many tries.

use std::collections::BTreeMap;

use parti_core::delivery::{Notice, Sequence};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, PartitionIndex, ProcessId, Topic};
use crate::told::message::MessageFact;

/// How many processes a message may end before it is counted: the first, and one that takes the first message at the
/// position for it.
const UNCOUNTED: u32 = 2;

/// A message ends no more processes than it has tries, and two that did not know it, while the position stays; and as many
/// again for each owner that let the partition go in good order meanwhile. Who gets further than the one before and stores
/// or acknowledges that, be it that it arrives only after its end, is not counted: the next one begins so much nearer.
/// Positions that are lost took the count with them.
#[derive(Clone, Debug, Default)]
pub(super) struct PoisonLeaves {
    killed: BTreeMap<PartitionIndex, Killed>,
    /// The last message of each partition that was acknowledged: where that is stored in place of a position, or before it.
    acknowledged: BTreeMap<PartitionIndex, Sequence>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Killed {
    number: u64,
    times: u32,
    /// How often the partition was let go since the first time.
    let_go: u32,
    /// How far the partition was stored or acknowledged as finished when it ended the last one.
    at: Sequence,
    /// Who that was, and whether it is counted.
    last: Option<(ProcessId, bool)>,
}

impl Invariant for PoisonLeaves {
    fn name(&self) -> &'static str {
        "poison-leaves"
    }

    fn guarantee(&self) -> &'static str {
        "D7"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        topic == Topic::Message
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        let Fact::Message { process, partition, what } = *fact else { return Ok(()) };
        match (what, partition) {
            (MessageFact::PositionsLost | MessageFact::MadeAnew { .. } | MessageFact::SuffixLost { .. }, _) => {
                self.killed.clear();
                self.acknowledged.clear();
            }
            (MessageFact::Told(Notice::WentOn { .. }), Some(partition)) => {
                self.killed.remove(&partition);
            }
            (MessageFact::LetGo, Some(partition)) => {
                self.killed.entry(partition).and_modify(|killed| killed.let_go += 1);
            }
            (MessageFact::PositionStored { record, .. }, Some(partition)) => {
                if let Some(killed) = self.killed.get_mut(&partition) {
                    killed.observe_further(process, record.seq);
                }
            }
            (MessageFact::Acknowledged { sequence, .. }, Some(partition)) => {
                let last = self.acknowledged.entry(partition).or_default();
                *last = (*last).max(*sequence);
                if let Some(killed) = self.killed.get_mut(&partition) {
                    killed.observe_further(process, *sequence);
                }
            }
            (MessageFact::Kills { number }, Some(partition)) => {
                let killed = self.killed.entry(partition).or_default();
                if killed.number != *number {
                    *killed = Killed { number: *number, ..Killed::default() };
                }
                let position = scene.messages.of(partition).and_then(|kept| kept.position.as_ref());
                let acknowledged = self.acknowledged.get(&partition).copied().unwrap_or_default();
                let at = position.map_or(acknowledged, |record| record.seq.max(acknowledged));
                let is_counted = std::mem::replace(&mut killed.at, at) == at;
                killed.times += u32::from(is_counted);
                killed.last = process.map(|process| (process, is_counted));
                let tries = scene.options.messages.as_ref().map_or(0, |messages| messages.delivery.max_tries);
                let Killed { times, let_go, .. } = *killed;
                if times > tries + UNCOUNTED * (1 + let_go) {
                    let name = scene.name(partition);
                    let sentence =
                        format!("message {number} of {name} has ended {times} processes, and has {tries} tries");
                    return Err(Breach::new(sentence).on(partition));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Killed {
    /// It was stored or acknowledged that messages are finished: by the last process that was ended, that was still on its way.
    fn observe_further(&mut self, by: Option<ProcessId>, seq: Sequence) {
        if let Some((last, is_counted)) = self.last.as_mut()
            && by == Some(*last)
            && seq > self.at
        {
            self.at = seq;
            self.times -= u32::from(std::mem::replace(is_counted, false));
        }
    }
}
