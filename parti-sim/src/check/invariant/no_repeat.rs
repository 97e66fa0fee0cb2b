//! D4: a planned move repeats nothing, and a crash only what was not stored.

use std::collections::BTreeMap;

use parti_core::delivery::{Engine, Notice, Sequence};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, PartitionIndex, ProcessId, Topic};
use crate::told::message::MessageFact;

/// No message is finished twice, unless the first to finish it lost its hold of the partition before that was stored: its
/// process ended without a word, it was evicted, or its release took too long. What is stored as finished is never repeated,
/// unless positions were lost or a policy said where to go on. Who goes on without a lease may repeat what others do, unless
/// each effect is stored together with its position.
#[derive(Clone, Debug, Default)]
pub(super) struct NoRepeat {
    done: BTreeMap<PartitionIndex, BTreeMap<u64, Done>>,
}

#[derive(Clone, Copy, Debug)]
struct Done {
    by: ProcessId,
    sequence: Sequence,
    stored: bool,
    let_go: bool,
}

impl Invariant for NoRepeat {
    fn name(&self) -> &'static str {
        "no-repeat"
    }

    fn guarantee(&self) -> &'static str {
        "D4"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Message | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        match *fact {
            Fact::Crashed { process } => {
                self.done
                    .values_mut()
                    .for_each(|done| done.retain(|_, done| done.stored || done.let_go || done.by != process));
            }
            Fact::Message { process, partition, what } => match (what, partition, process) {
                (MessageFact::PositionsLost, _, _) => self.done.clear(),
                (MessageFact::Told(Notice::WentOn { .. }), Some(partition), _) => {
                    self.done.remove(&partition);
                }
                (MessageFact::HoldEnded, Some(partition), Some(process)) => self.lose_hold(process, partition),
                (MessageFact::LetGo, Some(partition), Some(process)) => {
                    let done = self.done.entry(partition).or_default().values_mut();
                    for done in done.filter(|done| done.by == process) {
                        done.let_go = true;
                    }
                }
                (MessageFact::PositionStored { record, .. }, Some(partition), Some(process)) => {
                    let is_known = scene.messages.is_of_this_stream(record);
                    let Some(done) = self.done.get_mut(&partition).filter(|_| is_known) else { return Ok(()) };
                    // With a consumer the position only says for people how far it has come: what is stored is acknowledged.
                    let counts = scene.options.messages.as_ref().is_some_and(|set| set.delivery.engine == Engine::Log);
                    for done in done.values_mut() {
                        done.stored |= counts && done.sequence <= record.seq;
                    }
                    // Who had the partition before and has not let it go has lost it.
                    done.retain(|_, done| done.stored || done.let_go || done.by == process);
                }
                (MessageFact::Acknowledged { number, .. }, Some(partition), _) => {
                    if let Some(done) = self.done.get_mut(&partition).and_then(|done| done.get_mut(number)) {
                        done.stored = true;
                    }
                }
                (MessageFact::Finished { sequence, number }, Some(partition), Some(process)) => {
                    return self.finished(process, partition, *sequence, *number, scene);
                }
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }
}

impl NoRepeat {
    fn lose_hold(&mut self, process: ProcessId, partition: PartitionIndex) {
        if let Some(done) = self.done.get_mut(&partition) {
            done.retain(|_, done| done.stored || done.let_go || done.by != process);
        }
    }

    fn finished(
        &mut self,
        process: ProcessId,
        partition: PartitionIndex,
        sequence: Sequence,
        number: u64,
        scene: &Scene<'_>,
    ) -> Result<(), Breach> {
        let done = Done { by: process, sequence, stored: false, let_go: false };
        let before = self.done.entry(partition).or_default().insert(number, done);
        let is_once = scene.options.messages.as_ref().is_some_and(|messages| messages.delivery.own_positions);
        let strict = |before: &Done| is_once || !scene.is_available(process) && !scene.is_available(before.by);
        match before.filter(strict) {
            None => Ok(()),
            Some(before) => Err(Breach::new(format!(
                "{process} finishes {sequence} of {}, which {} has finished{}",
                scene.name(partition),
                before.by,
                if before.stored { ", and that was stored" } else { " and has let go" }
            ))
            .by(process)
            .on(partition)),
        }
    }
}
