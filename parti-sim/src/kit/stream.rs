//! The stream of a cluster whose handlers work on messages.

use parti_core::delivery::Sequence;

use super::cluster::Cluster;
use super::failure::Failure;
use super::mail::DeadLetter;

impl Cluster {
    /// Publishes a message of a partition, and says which number it has in the stream. It is delivered as time passes.
    ///
    /// # Errors
    ///
    /// [`Failure::UnknownPartition`] if the cluster never had such a partition; [`Failure::NoHandler`] if nobody handles
    /// messages.
    pub fn publish(&mut self, partition: &str, payload: impl AsRef<[u8]>) -> Result<Sequence, Failure> {
        let index = self.index_of(partition)?;
        let mut delivering = self.stage.world.delivering().ok_or(Failure::NoHandler)?;
        Ok(delivering.publish_to(index, payload.as_ref()))
    }

    /// The messages that were given up, in order.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        let messages = self.stage.world.messages.as_deref();
        messages.and_then(crate::world::Messages::mail).map(|mail| mail.dead_letters()).unwrap_or_default()
    }

    /// How many messages are neither finished nor given up.
    pub fn unfinished(&self) -> usize {
        self.stage.world.ground.observers.messages.left()
    }
}
