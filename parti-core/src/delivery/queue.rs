//! Delivery from a stream that removes what is acknowledged: a durable consumer for each partition.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::agenda::Agenda;
use super::consumer::Pulled;
use super::event::{Answer, Event, Ownership, Request, StreamState};
use super::lane::Fate;
use super::order::{Notice, Order, Orders};
use super::queue_lane::QueueLane;
use super::scope::Scope;
use super::settings::{DeliveryConfig, DeliveryConfigError};
use super::solitude::Solitude;
use super::status::LaneStatus;
use super::stream::StreamView;
use crate::ids::{CallId, Sequence, Token};
use crate::partition::PartitionId;
use crate::planted::{Planted, PlantedBug};
use crate::time::{Instant, earliest};

/// Delivers the messages of every partition that one worker owns, from a stream that removes what is acknowledged or what
/// nobody waits for. See the [module](crate::delivery).
#[derive(Clone, Debug)]
pub struct QueueDelivery<M> {
    config: DeliveryConfig,
    now: Instant,
    lanes: BTreeMap<PartitionId, QueueLane<M>>,
    stream: StreamView,
    suspended: bool,
    /// Who may have something to ask for.
    touched: BTreeSet<PartitionId>,
    agenda: Agenda,
    solitude: Solitude,
    orders: Orders<M>,
    planted: Planted,
}

impl<M> QueueDelivery<M> {
    /// Delivery for a worker that owns nothing yet.
    ///
    /// # Errors
    ///
    /// [`DeliveryConfigError`] for the first rule that a setting breaks.
    pub fn new(config: DeliveryConfig, now: Instant) -> Result<Self, DeliveryConfigError> {
        config.validate()?;
        Ok(Self {
            config,
            now,
            lanes: BTreeMap::new(),
            stream: StreamView::default(),
            suspended: false,
            touched: BTreeSet::new(),
            agenda: Agenda::default(),
            solitude: Solitude::default(),
            orders: Orders::new(),
            planted: Planted::default(),
        })
    }

    /// The same with a deliberate bug.
    #[cfg(feature = "planted-bugs")]
    #[doc(hidden)]
    #[must_use]
    pub fn with_planted_bug(mut self, bug: PlantedBug) -> Self {
        self.planted = Planted::new(bug);
        self
    }

    /// Something has happened. `now` counts as the latest instant given so far.
    pub fn handle(&mut self, now: Instant, event: Event<M>) {
        self.now = self.now.max(now);
        match event {
            Event::Timeout | Event::Tail { .. } => {}
            Event::Ownership(ownership) => self.observe_ownership(ownership),
            Event::Application(request) => self.observe_request(request),
            Event::Answer { call, answer } => self.observe_answer(call, answer),
            Event::Pulled { partition, pull, pulled } => self.observe_pulled(partition, pull, pulled),
        }
        self.decide();
    }

    /// The next thing to do, until there is none.
    pub fn poll_order(&mut self) -> Option<Order<M>> {
        self.orders.pop()
    }

    /// When [`Event::Timeout`] is to be given, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.suspended && !self.planted.has(PlantedBug::HandWhileSuspended) {
            return None;
        }
        let stream = self.stream.deadline(&self.config).filter(|_| !self.lanes.is_empty());
        earliest([self.agenda.first(), self.solitude.deadline(), stream])
    }

    /// What is known of each partition, in order.
    pub fn lanes(&self) -> impl Iterator<Item = LaneStatus<'_>> {
        self.lanes.iter().map(|(partition, lane)| self.status(partition, lane))
    }

    /// What is known of one partition, if it is delivered.
    pub fn lane(&self, partition: &PartitionId) -> Option<LaneStatus<'_>> {
        self.lanes.get_key_value(partition).map(|(partition, lane)| self.status(partition, lane))
    }

    fn status<'a>(&self, partition: &'a PartitionId, lane: &'a QueueLane<M>) -> LaneStatus<'a> {
        let ((finished, stored), (ready, unfinished)) = (lane.finished(), lane.counts());
        LaneStatus {
            partition,
            token: lane.token(),
            finished,
            stored,
            ready,
            unfinished,
            pending: lane.pending(),
            oldest: lane.oldest(),
            is_on_tail: lane.is_at_end(),
            stream_last: self.stream.last_told().map(|stream| stream.last),
        }
    }

    fn observe_ownership(&mut self, ownership: Ownership) {
        match ownership {
            Ownership::Acquired { partition, token } => {
                self.forget(&partition);
                self.lanes.insert(partition.clone(), QueueLane::new(partition.clone(), token, self.now));
                self.touched.insert(partition);
            }
            Ownership::Releasing { partition, token } => {
                if let Some(lane) = self.lane_under(&partition, token) {
                    lane.observe_releasing();
                    self.touched.insert(partition);
                }
            }
            Ownership::Ended { partition, token } => {
                if self.lane_under(&partition, token).is_some() {
                    self.forget(&partition);
                }
            }
            Ownership::Suspended => self.suspended = true,
            Ownership::Resumed => {
                self.suspended = false;
                self.touched.extend(self.lanes.keys().cloned());
            }
        }
    }

    fn observe_request(&mut self, request: Request<M>) {
        let partition = request.partition().clone();
        let scope = scope(self.now, &self.config, &self.stream, self.planted);
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.observe_request(scope, request, &mut self.orders);
            self.touched.insert(partition);
        }
    }

    fn observe_pulled(&mut self, partition: PartitionId, pull: CallId, pulled: Pulled<M>) {
        let scope = scope(self.now, &self.config, &self.stream, self.planted);
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.observe_pulled(scope, pull, pulled);
            self.touched.insert(partition);
        }
    }

    fn observe_answer(&mut self, call: CallId, answer: Answer<M>) {
        match answer {
            Answer::Stream(state) => self.observe_stream(call, state),
            Answer::NoStream => {
                if self.stream.observe_none(self.now, call, &self.config) {
                    self.stream.tell_missing(&mut self.orders);
                }
            }
            Answer::Failed { reason } => self.observe_failed(call, reason),
            answer => self.observe_lane_answer(call, answer),
        }
    }

    fn observe_failed(&mut self, call: CallId, reason: String) {
        if self.stream.observe_none(self.now, call, &self.config) {
            self.orders.notice(Notice::Retrying { what: "stream", reason });
        } else {
            self.observe_lane_answer(call, Answer::Failed { reason });
        }
    }

    /// The answer to what was asked for one partition.
    fn observe_lane_answer(&mut self, call: CallId, answer: Answer<M>) {
        let Some(partition) = self.orders.caller(call) else { return };
        let scope = scope(self.now, &self.config, &self.stream, self.planted);
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        match lane.observe_answer(scope, call, answer, &mut self.orders) {
            Fate::GoesOn => _ = self.touched.insert(partition),
            Fate::Over => self.forget(&partition),
        }
    }

    fn observe_stream(&mut self, call: CallId, state: StreamState) {
        // That it ends before what was read of it is shown by the consumers.
        if self.stream.observe_state(call, state).is_none() {
            return;
        }
        let mut over = Vec::new();
        for (partition, lane) in &mut self.lanes {
            match lane.observe_stream(state, &mut self.orders) {
                Fate::GoesOn => _ = self.touched.insert(partition.clone()),
                Fate::Over => over.push(partition.clone()),
            }
        }
        for partition in over {
            self.forget(&partition);
        }
    }

    fn decide(&mut self) {
        if self.suspended && !self.planted.has(PlantedBug::HandWhileSuspended) {
            return;
        }
        self.touched.extend(self.agenda.due(self.now));
        self.touched.extend(self.solitude.waits().cloned());
        self.decide_for_touched();
        // Only now: who waits for others had the chance to go on without waiting.
        self.touched.extend(self.solitude.expire(self.now));
        self.decide_for_touched();
        if !self.lanes.is_empty() && self.stream.is_due(self.now, &self.config) {
            self.stream.ask(self.now, Sequence::default(), &mut self.orders);
        }
    }

    fn decide_for_touched(&mut self) {
        while let Some(partition) = self.touched.pop_first() {
            self.decide_for(&partition);
        }
    }

    /// Asks for what is due for one partition.
    fn decide_for(&mut self, partition: &PartitionId) {
        let scope = scope(self.now, &self.config, &self.stream, self.planted);
        let waited = self.solitude.waits() == Some(partition);
        let in_hand = self.lanes.iter().map(|(partition, lane)| (partition, lane.counts().1));
        let in_hand_elsewhere = self.solitude.in_hand_elsewhere(partition, in_hand);
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        match lane.decide(scope, &mut self.stream, (&mut self.solitude, in_hand_elsewhere), &mut self.orders) {
            Fate::GoesOn => {
                self.agenda.set(partition, lane.deadline(&self.config, self.now));
                self.touched.extend(self.solitude.observe_decided(partition, waited, lane.is_last_try()));
            }
            Fate::Over => self.forget(partition),
        }
    }

    fn lane_under(&mut self, partition: &PartitionId, token: Token) -> Option<&mut QueueLane<M>> {
        self.lanes.get_mut(partition).filter(|lane| lane.token() == token)
    }

    fn forget(&mut self, partition: &PartitionId) {
        if let Some(mut lane) = self.lanes.remove(partition) {
            lane.end(&mut self.orders);
        }
        self.agenda.set(partition, None);
        self.touched.remove(partition);
        self.touched.extend(self.solitude.end(partition));
    }
}

/// What every part is told of the moment.
fn scope<'a>(now: Instant, config: &'a DeliveryConfig, stream: &StreamView, planted: Planted) -> Scope<'a> {
    Scope { now, config, tail: None, stream: stream.last_told(), can_ask: false, planted }
}
