//! D3: one worker works on a partition's messages, and on as many at a time as it has asked for.

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, PartitionIndex, ProcessId, Topic};
use crate::told::message::MessageFact;

/// Nobody begins a message of a partition that it may not work on, nor more messages at once than it has asked for; and at
/// no moment two of those whose mode is not `Available` are at work on messages of one partition.
///
/// Where the store has lost writes, two may work on one partition for a while: `no-duplicate` says when.
#[derive(Clone, Debug, Default)]
pub(super) struct OneProcessor {
    regressed: bool,
}

impl Invariant for OneProcessor {
    fn name(&self) -> &'static str {
        "one-processor"
    }

    fn guarantee(&self) -> &'static str {
        "D3"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Message | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        match fact {
            Fact::PlanRegressed { .. } => self.regressed = true,
            Fact::Message {
                process: Some(process),
                partition: Some(partition),
                what: MessageFact::Begun { most, .. },
            } => return self.begins(*process, *partition, *most, scene),
            _ => {}
        }
        Ok(())
    }
}

impl OneProcessor {
    fn begins(
        &self,
        process: ProcessId,
        partition: PartitionIndex,
        most: u32,
        scene: &Scene<'_>,
    ) -> Result<(), Breach> {
        let name = scene.name(partition);
        let workers = scene.ownership.workers_on(partition);
        let broken = |sentence| Err(Breach::new(sentence).by(process).on(partition));
        if !workers.iter().any(|(worker, _)| *worker == process) {
            return broken(format!("{process} begins a message of {name}, on which it may not work"));
        }
        let Some(kept) = scene.messages.of(partition) else { return Ok(()) };
        let count = kept.in_hand.get(&process).map_or(0, std::collections::BTreeMap::len);
        if count > most as usize {
            return broken(format!("{process} has {count} messages of {name} in hand, and asked for {most}"));
        }
        let is_other = |(worker, _): &&(ProcessId, _)| *worker != process && kept.in_hand.contains_key(worker);
        let other = workers.iter().find(is_other).filter(|_| !self.regressed);
        match other.filter(|(other, _)| !scene.is_available(process) && !scene.is_available(*other)) {
            None => Ok(()),
            Some((other, _)) => broken(format!("{process} begins a message of {name} while {other} is at work on one")),
        }
    }
}
