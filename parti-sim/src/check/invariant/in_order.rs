//! D2: the lowest unfinished message of a partition comes first, always.

use parti_core::delivery::Engine;

use super::{Breach, Invariant, Scene};
use crate::told::fact::{Fact, PartitionIndex, ProcessId, Topic};
use crate::told::message::MessageFact;

/// Whoever begins a message of a partition has every earlier one in hand that is stored and not finished.
///
/// Who has read what the stream has lost hands it out until it has noticed, and so does who reads a stream that was made
/// anew as if it were the one before. Two of which one goes on without a lease pull from one consumer of a work queue, each
/// some of its messages; where one makes it anew, the other may be given the place by chance that it expects next.
#[derive(Clone, Debug, Default)]
pub(super) struct InOrder;

impl Invariant for InOrder {
    fn name(&self) -> &'static str {
        "in-order"
    }

    fn guarantee(&self) -> &'static str {
        "D2"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        topic == Topic::Message
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        let Fact::Message {
            process: Some(process),
            partition: Some(partition),
            what: MessageFact::Begun { sequence, number, .. },
        } = fact
        else {
            return Ok(());
        };
        let Some(kept) = scene.messages.of(*partition).filter(|kept| kept.knows(*sequence, *number)) else {
            return Ok(());
        };
        let is_judged = kept.position.as_ref().is_some_and(|record| scene.messages.is_of_this_stream(record));
        if !is_judged || share_a_consumer(scene, *process, *partition) {
            return Ok(());
        }
        let in_hand = kept.in_hand.get(process);
        let is_here = |earlier: &_| in_hand.is_some_and(|in_hand| in_hand.contains_key(earlier));
        match kept.unfinished.range(..*sequence).find(|(earlier, _)| !is_here(*earlier)) {
            None => Ok(()),
            Some((earlier, _)) => Err(Breach::new(format!(
                "{process} begins {sequence} of {}, but {earlier} is not finished",
                scene.name(*partition)
            ))
            .by(*process)
            .on(*partition)),
        }
    }
}

/// Whether another worker is at work on the partition's consumer as well, and one of the two has no lease to end its work.
fn share_a_consumer(scene: &Scene<'_>, process: ProcessId, partition: PartitionIndex) -> bool {
    let is_queue = scene.options.messages.as_ref().is_some_and(|set| set.delivery.engine == Engine::Queue);
    let workers = scene.ownership.workers_on(partition);
    let mut others = workers.iter().filter(|(other, _)| *other != process);
    is_queue && others.any(|(other, _)| scene.is_available(process) || scene.is_available(*other))
}
