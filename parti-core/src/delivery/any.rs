//! Delivery by whichever engine the stream asks for.

use super::event::Event;
use super::log::LogDelivery;
use super::order::Order;
use super::queue::QueueDelivery;
use super::settings::{DeliveryConfig, DeliveryConfigError, Engine};
use super::status::LaneStatus;
use crate::partition::PartitionId;
#[cfg(feature = "planted-bugs")]
use crate::planted::PlantedBug;
use crate::time::Instant;

/// Delivers the messages of every partition that one worker owns, by the [engine](DeliveryConfig::engine) of its settings.
/// See the [module](crate::delivery).
#[derive(Clone, Debug)]
pub struct Delivery<M> {
    by: By<M>,
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one for each worker")]
enum By<M> {
    Log(LogDelivery<M>),
    Queue(QueueDelivery<M>),
}

impl<M> Delivery<M> {
    /// Delivery for a worker that owns nothing yet.
    ///
    /// # Errors
    ///
    /// [`DeliveryConfigError`] for the first rule that a setting breaks.
    pub fn new(config: DeliveryConfig, now: Instant) -> Result<Self, DeliveryConfigError> {
        let by = match config.engine {
            Engine::Log => By::Log(LogDelivery::new(config, now)?),
            Engine::Queue => By::Queue(QueueDelivery::new(config, now)?),
        };
        Ok(Self { by })
    }

    /// The same with a deliberate bug.
    #[cfg(feature = "planted-bugs")]
    #[doc(hidden)]
    #[must_use]
    pub fn with_planted_bug(mut self, bug: PlantedBug) -> Self {
        match &mut self.by {
            By::Log(delivery) => delivery.plant(bug),
            By::Queue(delivery) => delivery.plant(bug),
        }
        self
    }

    /// Something has happened. `now` counts as the latest instant given so far.
    pub fn handle(&mut self, now: Instant, event: Event<M>) {
        match &mut self.by {
            By::Log(delivery) => delivery.handle(now, event),
            By::Queue(delivery) => delivery.handle(now, event),
        }
    }

    /// The next thing to do, until there is none.
    pub fn poll_order(&mut self) -> Option<Order<M>> {
        match &mut self.by {
            By::Log(delivery) => delivery.poll_order(),
            By::Queue(delivery) => delivery.poll_order(),
        }
    }

    /// When [`Event::Timeout`] is to be given, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.by {
            By::Log(delivery) => delivery.poll_timeout(),
            By::Queue(delivery) => delivery.poll_timeout(),
        }
    }

    /// What is known of each partition, in order.
    pub fn lanes(&self) -> impl Iterator<Item = LaneStatus<'_>> {
        let (log, queue) = match &self.by {
            By::Log(delivery) => (Some(delivery.lanes()), None),
            By::Queue(delivery) => (None, Some(delivery.lanes())),
        };
        log.into_iter().flatten().chain(queue.into_iter().flatten())
    }

    /// What is known of one partition, if it is delivered.
    pub fn lane(&self, partition: &PartitionId) -> Option<LaneStatus<'_>> {
        match &self.by {
            By::Log(delivery) => delivery.lane(partition),
            By::Queue(delivery) => delivery.lane(partition),
        }
    }
}
