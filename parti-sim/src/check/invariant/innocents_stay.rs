//! D7: a message is not given up for what another one did.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parti_core::Token;
use parti_core::delivery::{Failed, Sequence};

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, PartitionIndex, ProcessId, Topic};
use crate::told::message::MessageFact;
use crate::world::clock::Moment;

/// For how long a last try has its process to itself, and waits for that, by the slowest clock.
const SOLITUDE: Duration = Duration::from_secs(9);

/// A message that has neither failed nor ended a process does not become a dead letter because it was in hand whenever
/// another one ended its process. One that was in hand when a process crashed by itself, was suspended or lost its hold may
/// be suspected; and so may one that was in hand with others for very long. Between the write that counts a message and its
/// being handed out nobody can tell whether it was: one that was counted by a process that then ended, or by a hold that was
/// lost, is suspected whether it was begun or not.
#[derive(Clone, Debug, Default)]
pub(super) struct InnocentsStay {
    in_hand: BTreeMap<ProcessId, InHand>,
    /// What may be suspected of its own accord.
    suspected: BTreeSet<u64>,
    numbers: BTreeMap<(PartitionIndex, Sequence), u64>,
    /// What was ever begun: where positions are lost, so is that it was finished, or cleared of what it was suspected of.
    begun: BTreeSet<u64>,
    /// What is stored of each partition to have been tried.
    stored: BTreeMap<PartitionIndex, Failed>,
    /// Which message of each partition a process has counted as tried, and with which token: that is stored before it is
    /// handed out, and so also where the hold or the process ends in between, or has ended while the write was under way.
    /// Then nobody can tell that it was not.
    counted: BTreeMap<(ProcessId, PartitionIndex), (Token, Sequence)>,
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
                    .map(|((_, partition), (_, sequence))| (*partition, *sequence))
                    .filter(|counted| !in_hand.contains_key(counted));
                self.suspected.extend(unbegun.filter_map(|counted| self.numbers.get(&counted)));
                self.counted.retain(|(of, _), _| *of != process);
                let is_long = |(_, begun): &(u64, Moment)| scene.now.since(*begun) >= SOLITUDE;
                if self.dying.take() != Some(process) || in_hand.values().any(is_long) {
                    self.suspected.extend(in_hand.values().map(|(number, _)| *number));
                }
            }
            Fact::Message { partition: Some(partition), what: MessageFact::Stored { sequence, number }, .. } => {
                self.numbers.insert((partition, *sequence), *number);
            }
            Fact::Message { what: MessageFact::PositionsLost, .. } => {
                self.suspected.extend(&self.begun);
                self.stored.clear();
            }
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
                self.begun.insert(*number);
            }
            // As long as it is not stored that it is finished, it counts as if it were in hand.
            MessageFact::PositionStored { record, .. } => {
                in_hand.retain(|(of, sequence), _| *of != partition || *sequence > record.seq);
                // Whoever has had it before has lost its hold, with what it has in hand and with what it has counted.
                let is_earlier =
                    |of: PartitionIndex, (token, _): &(Token, Sequence)| of == partition && *token != record.token;
                let earlier = self.counted.iter().filter(|((_, of), counted)| is_earlier(*of, counted));
                let counted = earlier.filter_map(|(_, (_, sequence))| self.numbers.get(&(partition, *sequence)));
                self.suspected.extend(counted);
                self.counted.retain(|(_, of), counted| !is_earlier(*of, counted));
                let before = self.stored.remove(&partition);
                match record.failed {
                    Some(failed) => {
                        self.stored.insert(partition, failed);
                        if before.is_none_or(|before| before.seq != failed.seq || before.times < failed.times) {
                            self.counted.insert((process, partition), (record.token, failed.seq));
                        }
                    }
                    None => _ = self.counted.remove(&(process, partition)),
                }
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
                let counted = self.counted.remove(&(process, partition)).map(|(_, sequence)| (partition, sequence));
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
