//! Delivery from a stream that removes what is acknowledged: a durable consumer for each partition.

use alloc::string::String;

use super::consumer::Pulled;
use super::event::{Answer, Event, StreamState};
use super::lanes::{Fate, Lanes};
use super::order::Order;
use super::queue_lane::QueueLane;
use super::scope::Reading;
use super::settings::{DeliveryConfig, DeliveryConfigError};
use super::status::LaneStatus;
use crate::ids::CallId;
use crate::partition::PartitionId;
#[cfg(feature = "planted-bugs")]
use crate::planted::PlantedBug;
use crate::time::Instant;

/// What is read of the stream is the consumers' to know.
const READING: Reading = Reading { tail: None, can_ask: false };

/// Delivers the messages of every partition that one worker owns, from a stream that removes what is acknowledged or what
/// nobody waits for. See the [module](crate::delivery).
#[derive(Clone, Debug)]
pub(super) struct QueueDelivery<M> {
    lanes: Lanes<QueueLane<M>, M>,
}

impl<M> QueueDelivery<M> {
    pub(super) fn new(config: DeliveryConfig, now: Instant) -> Result<Self, DeliveryConfigError> {
        Ok(Self { lanes: Lanes::new(config, now)? })
    }

    #[cfg(feature = "planted-bugs")]
    pub(super) fn plant(&mut self, bug: PlantedBug) {
        self.lanes.plant(bug);
    }

    pub(super) fn handle(&mut self, now: Instant, event: Event<M>) {
        self.lanes.observe_time(now);
        match event {
            Event::Timeout | Event::Tail { .. } => {}
            Event::Ownership(ownership) => self.lanes.observe_ownership(ownership),
            Event::Application(request) => self.lanes.observe_request(READING, request),
            Event::Answer { call, answer } => self.observe_answer(call, answer),
            Event::Pulled { partition, pull, pulled } => self.observe_pulled(&partition, pull, pulled),
        }
        self.decide();
    }

    pub(super) fn poll_order(&mut self) -> Option<Order<M>> {
        self.lanes.orders().pop()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.lanes.deadline().filter(|_| !self.lanes.is_suspended())
    }

    pub(super) fn lanes(&self) -> impl Iterator<Item = LaneStatus<'_>> {
        self.lanes.statuses()
    }

    pub(super) fn lane(&self, partition: &PartitionId) -> Option<LaneStatus<'_>> {
        self.lanes.status(partition)
    }

    fn observe_pulled(&mut self, partition: &PartitionId, pull: CallId, pulled: Pulled<M>) {
        self.lanes.observe(partition, READING, |lane, scope, _| {
            lane.observe_pulled(scope, pull, pulled);
            Fate::GoesOn
        });
    }

    fn observe_answer(&mut self, call: CallId, answer: Answer<M>) {
        match answer {
            Answer::Stream(state) => self.observe_stream(call, state),
            Answer::NoStream => self.lanes.observe_no_stream(call),
            Answer::Failed { reason } => self.observe_failed(call, reason),
            answer => self.observe_lane_answer(call, answer),
        }
    }

    fn observe_failed(&mut self, call: CallId, reason: String) {
        if !self.lanes.observe_failed(call, &reason) {
            self.observe_lane_answer(call, Answer::Failed { reason });
        }
    }

    /// The answer to what was asked for one partition.
    fn observe_lane_answer(&mut self, call: CallId, answer: Answer<M>) {
        let Some(partition) = self.lanes.orders().caller(call) else { return };
        self.lanes.observe(&partition, READING, |lane, scope, orders| lane.observe_answer(scope, call, answer, orders));
    }

    fn observe_stream(&mut self, call: CallId, state: StreamState) {
        let Some(has_lost) = self.lanes.parts(READING).stream.observe_state(call, state) else { return };
        for partition in self.lanes.partitions() {
            self.lanes.observe(&partition, READING, |lane, _, orders| {
                if has_lost {
                    lane.observe_lost_suffix(state.last);
                }
                lane.observe_stream(state, orders)
            });
        }
    }

    fn decide(&mut self) {
        if self.lanes.is_suspended() {
            return;
        }
        self.lanes.decide(READING, |_, _, _| {});
        if self.lanes.is_stream_due() {
            let through = self.lanes.parts(READING).by_partition.values().map(QueueLane::delivered_through).max();
            self.lanes.ask_stream(through.unwrap_or_default().next());
        }
    }
}
