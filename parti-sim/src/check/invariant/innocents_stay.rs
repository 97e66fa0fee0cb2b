//! D7: a message is not given up for what another one did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parti_core::delivery::Sequence;

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, PartitionIndex, ProcessId, Topic};
use crate::told::message::MessageFact;
use crate::world::clock::Moment;

/// For how long a last try has its process to itself, and waits for that, by the slowest clock.
const SOLITUDE: Duration = Duration::from_secs(9);

/// A message that has neither failed nor ended a process does not become a dead letter because it was in hand whenever
/// another one ended its process. One that was in hand when a process crashed by itself, was suspended or lost its hold may
/// be suspected; and so may one that was in hand with others for very long.
#[derive(Clone, Debug, Default)]
pub(super) struct InnocentsStay {
    in_hand: BTreeMap<ProcessId, InHand>,
    /// What may be suspected of its own accord.
    suspected: BTreeSet<u64>,
    /// The number of each message that was ever begun: where positions are lost, so is that it was finished, or cleared of
    /// what it was suspected of.
    numbers: BTreeMap<(PartitionIndex, Sequence), u64>,
    /// Which message of each partition a process has stored to be tried: before it is handed out, and so also where the hold
    /// or the process ends in between.
    counted: BTreeMap<(ProcessId, PartitionIndex), Sequence>,
    /// Whose message is about to end it.
    dying: Option<ProcessId>,
}

/// The number of each message that a process has in hand or has finished and not stored, and since when.
type InHand = BTreeMap<(PartitionIndex, Sequence), (u64, Moment)>;

impl Invariant for InnocentsStay {
    fn name(&self) -> &'static str {
        "innocents-stay"
    }

    fn guarantee(&self) -> &'static str {
        "D7"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Message | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        match *fact {
            Fact::Crashed { process } | Fact::Halted { process } => {
                let in_hand = self.in_hand.remove(&process).unwrap_or_default();
                let counted = self.counted.iter().filter(|((of, _), _)| *of == process);
                let unbegun = counted
                    .map(|((_, partition), sequence)| (*partition, *sequence))
                    .filter(|counted| !in_hand.contains_key(counted));
                self.suspected.extend(unbegun.filter_map(|counted| self.numbers.get(&counted)));
                self.counted.retain(|(of, _), _| *of != process);
                let is_long = |(_, begun): &(u64, Moment)| scene.now.since(*begun) >= SOLITUDE;
                if self.dying.take() != Some(process) || in_hand.values().any(is_long) {
                    self.suspected.extend(in_hand.values().map(|(number, _)| *number));
                }
            }
            Fact::Message { what: MessageFact::PositionsLost, .. } => self.suspected.extend(self.numbers.values()),
            Fact::Message { process: Some(process), partition: Some(partition), what } => {
                return self.observe_message(process, partition, what, scene);
            }
            _ => {}
        }
        Ok(())
    }
}

impl InnocentsStay {
    fn observe_message(
        &mut self,
        process: ProcessId,
        partition: PartitionIndex,
        what: &MessageFact,
        scene: &Scene<'_>,
    ) -> Result<(), Breach> {
        let in_hand = self.in_hand.entry(process).or_default();
        match what {
            MessageFact::Begun { sequence, number, .. } => {
                if in_hand.values().any(|(_, begun)| scene.now.since(*begun) >= SOLITUDE) {
                    self.suspected.insert(*number);
                }
                in_hand.insert((partition, *sequence), (*number, scene.now));
                self.numbers.insert((partition, *sequence), *number);
            }
            // As long as it is not stored that it is finished, it counts as if it were in hand.
            MessageFact::PositionStored { record, .. } => {
                in_hand.retain(|(of, sequence), _| *of != partition || *sequence > record.seq);
                match record.failed {
                    Some(failed) => _ = self.counted.insert((process, partition), failed.seq),
                    None => _ = self.counted.remove(&(process, partition)),
                }
                // Whoever has had it before has lost its hold.
                for (_, others) in self.in_hand.iter().filter(|(other, _)| **other != process) {
                    let lost = others.iter().filter(|((of, _), _)| *of == partition);
                    self.suspected.extend(lost.map(|(_, (number, _))| *number));
                }
            }
            MessageFact::Returned { from, .. } => {
                let back = in_hand.iter().filter(|((of, sequence), _)| *of == partition && sequence >= from);
                self.suspected.extend(back.map(|(_, (number, _))| *number));
                in_hand.retain(|(of, sequence), _| *of != partition || sequence < from);
            }
            MessageFact::Dropped | MessageFact::HoldEnded | MessageFact::LetGo | MessageFact::Stopped(_) => {
                let lost = in_hand.iter().filter(|((of, _), _)| *of == partition).map(|(_, (number, _))| *number);
                self.suspected.extend(lost);
                let counted = self.counted.remove(&(process, partition)).map(|sequence| (partition, sequence));
                self.suspected.extend(counted.and_then(|counted| self.numbers.get(&counted)));
                in_hand.retain(|(of, _), _| *of != partition);
            }
            MessageFact::Kills { number } => {
                self.dying = Some(process);
                self.suspected.insert(*number);
            }
            MessageFact::Buried { number, sequence } => {
                let Some(options) = &scene.options.messages else { return Ok(()) };
                let is_innocent = !options.is_poison(*number) && !self.suspected.contains(number);
                if is_innocent && options.delivery.max_tries > 1 {
                    let name = scene.name(partition);
                    let sentence = format!(
                        "{process} gives up {sequence} of {name} (message {number}), which never failed and ended no process"
                    );
                    return Err(Breach::new(sentence).by(process).on(partition));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
