//! Delivery from a stream that keeps its messages: positions of our own, one tail, and reads for who lags.

use alloc::collections::BTreeMap;
use alloc::string::String;

use super::event::{Answer, Ends, Event, StreamState, TailNews};
use super::inbox::FetchNews;
use super::lanes::{Fate, Lanes, Parts};
use super::log_lane::LogLane;
use super::message::Message;
use super::order::{Notice, Order};
use super::reads::Reads;
use super::scope::Reading;
use super::settings::{DeliveryConfig, DeliveryConfigError};
use super::status::LaneStatus;
use super::tails::Tails;
use crate::ids::{CallId, Sequence};
use crate::partition::PartitionId;
use crate::planted::PlantedBug;
use crate::time::{Instant, earliest};

/// Delivers the messages of every partition that one worker owns, from a stream that keeps them until its limits remove
/// them. See the [module](crate::delivery).
#[derive(Clone, Debug)]
pub(super) struct LogDelivery<M> {
    lanes: Lanes<LogLane<M>, M>,
    reads: Reads,
    tails: Tails,
}

impl<M> LogDelivery<M> {
    pub(super) fn new(config: DeliveryConfig, now: Instant) -> Result<Self, DeliveryConfigError> {
        let reads = Reads::new(config.ask_at_once > 0);
        Ok(Self { lanes: Lanes::new(config, now)?, reads, tails: Tails::default() })
    }

    #[cfg(feature = "planted-bugs")]
    pub(super) fn plant(&mut self, bug: PlantedBug) {
        self.lanes.plant(bug);
    }

    pub(super) fn handle(&mut self, now: Instant, event: Event<M>) {
        self.lanes.observe_time(now);
        match event {
            Event::Timeout | Event::Pulled { .. } => {}
            Event::Ownership(ownership) => self.lanes.observe_ownership(ownership),
            Event::Application(request) => self.lanes.observe_request(self.reading(), request),
            Event::Answer { call, answer } => self.observe_answer(call, answer),
            Event::Tail { tail, news } => self.observe_tail(tail, news),
        }
        self.decide();
    }

    pub(super) fn poll_order(&mut self) -> Option<Order<M>> {
        self.lanes.orders().pop()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.lanes.is_suspended() {
            return None;
        }
        earliest([
            self.lanes.deadline(),
            self.tails.deadline(self.lanes.config(), self.reads.waits_for_tail()),
            self.reads.deadline(self.lanes.now()),
        ])
    }

    pub(super) fn lanes(&self) -> impl Iterator<Item = LaneStatus<'_>> {
        self.lanes.statuses()
    }

    pub(super) fn lane(&self, partition: &PartitionId) -> Option<LaneStatus<'_>> {
        self.lanes.status(partition)
    }

    fn reading(&self) -> Reading {
        Reading { tail: self.tails.open(), can_ask: self.reads.can_ask }
    }

    fn observe_answer(&mut self, call: CallId, answer: Answer<M>) {
        match answer {
            Answer::Stream(state) => self.observe_stream(call, state),
            Answer::NoStream => self.lanes.observe_no_stream(call),
            Answer::Ends(ends) => self.observe_ends(call, &ends),
            Answer::CannotTell => {
                self.reads.can_ask = false;
                self.observe_no_ends(call);
            }
            Answer::TailOpened => self.observe_tail_opened(call),
            Answer::Failed { reason } => self.observe_failed(call, reason),
            answer @ (Answer::Position(_)
            | Answer::Written(_)
            | Answer::Fetched(_)
            | Answer::Buried
            | Answer::NotBuried(_)) => self.observe_lane_answer(call, answer),
            // Nothing of a consumer of one partition was asked.
            Answer::Consumer(_)
            | Answer::NoConsumer
            | Answer::Unfit { .. }
            | Answer::PullOver(_)
            | Answer::Acknowledged => {}
        }
    }

    /// The answer to what was asked for one partition.
    fn observe_lane_answer(&mut self, call: CallId, answer: Answer<M>) {
        self.reads.observe_read(call);
        let Some(partition) = self.lanes.orders().caller(call) else { return };
        let mut news = FetchNews::Nothing;
        self.lanes.observe(&partition, self.reading(), |lane, scope, orders| {
            let (fate, fetched) = lane.observe_answer(scope, call, answer, orders);
            news = fetched;
            fate
        });
        if let (FetchNews::Skipped(sequence), Some((tail, _))) = (news, self.tails.open()) {
            self.lanes.orders().notice(Notice::TailSkipped { partition, sequence });
            self.lose_tail(tail, "it has passed over a message".into());
        }
    }

    fn observe_stream(&mut self, call: CallId, state: StreamState) {
        let reading = self.reading();
        let Some(lost) = self.lanes.parts(reading).stream.observe_state(call, state) else { return };
        for partition in self.lanes.partitions() {
            self.lanes.observe(&partition, reading, |lane, scope, orders| {
                match lane.observe_stream(scope, state, orders) {
                    Fate::GoesOn if lost => lane.observe_lost_suffix(scope, state.last, orders),
                    fate => fate,
                }
            });
        }
    }

    fn observe_ends(&mut self, call: CallId, ends: &Ends) {
        let last: BTreeMap<_, _> = ends.last.iter().map(|(partition, sequence)| (partition, *sequence)).collect();
        for partition in self.reads.observe_asked(call).into_iter().flatten() {
            self.lanes.observe(&partition, self.reading(), |lane, scope, _| {
                lane.inbox_mut().observe_end(scope, call, last.get(&partition).copied(), ends.through);
                Fate::GoesOn
            });
        }
    }

    fn observe_no_ends(&mut self, call: CallId) {
        for partition in self.reads.observe_asked(call).into_iter().flatten() {
            self.lanes.observe(&partition, self.reading(), |lane, _, _| {
                lane.inbox_mut().observe_no_end(call);
                Fate::GoesOn
            });
        }
    }

    fn observe_failed(&mut self, call: CallId, reason: String) {
        if self.lanes.observe_failed(call, &reason) {
            return;
        }
        let Parts { scope, orders, .. } = self.lanes.parts(self.reading());
        if self.tails.observe_failed(scope, call, reason.clone(), orders) {
            // Who waits for it goes on waiting.
        } else if self.reads.is_asking(call) {
            self.reads.observe_failed(scope);
            orders.notice(Notice::Retrying { what: "last messages", reason });
            self.observe_no_ends(call);
        } else {
            if self.reads.observe_read(call) {
                self.reads.observe_failed(scope);
            }
            self.observe_lane_answer(call, Answer::Failed { reason });
        }
    }

    fn observe_tail_opened(&mut self, call: CallId) {
        let (before, reading) = (self.tails.open(), self.reading());
        let Parts { scope, by_partition, orders, .. } = self.lanes.parts(reading);
        let Some(opening) = self.tails.observe_opened(scope, call, orders) else { return };
        for partition in opening.partitions {
            if let Some(lane) = by_partition.get_mut(&partition) {
                lane.inbox_mut().join(scope.now, call, opening.from, before);
            }
        }
        // Who was served by the tail before and is not by this one waits for the next.
        if let Some(before) = before {
            self.leave(before);
        }
        self.lanes.touch_all();
    }

    fn observe_tail(&mut self, tail: CallId, news: TailNews<M>) {
        // What a tail shows that was silent for too long may be behind what the limits have removed meanwhile.
        self.drop_silent_tail();
        match news {
            TailNews::Message { partition, message } => self.observe_tailed(tail, &partition, message),
            TailNews::Passed { sequence } => _ = self.tails.observe_scanned(self.lanes.now(), tail, sequence),
            TailNews::Alive => _ = self.tails.observe_alive(self.lanes.now(), tail),
            TailNews::Lost { reason } => self.lose_tail(tail, reason),
        }
    }

    fn observe_tailed(&mut self, tail: CallId, partition: &PartitionId, message: Message<M>) {
        let sequence = message.sequence;
        self.lanes.observe(partition, self.reading(), |lane, scope, _| {
            lane.inbox_mut().observe_tailed(scope.now, tail, message, scope.config);
            Fate::GoesOn
        });
        // After the message is in its place: what the tail has shown counts as known from here on.
        self.tails.observe_scanned(self.lanes.now(), tail, sequence);
    }

    fn lose_tail(&mut self, tail: CallId, reason: String) {
        if let Some(lost) = self.tails.observe_lost(tail, reason, self.lanes.orders()) {
            self.leave(lost);
        }
    }

    fn drop_silent_tail(&mut self) {
        let Parts { scope, orders, .. } = self.lanes.parts(self.reading());
        if let Some(lost) = self.tails.drop_silent(scope, orders) {
            self.leave(lost);
        }
    }

    /// Nobody is served by this tail any more.
    fn leave(&mut self, tail: (CallId, Sequence)) {
        let reading = self.reading();
        for lane in self.lanes.parts(reading).by_partition.values_mut() {
            lane.inbox_mut().leave(tail);
        }
        self.lanes.touch_all();
    }

    fn decide(&mut self) {
        if self.lanes.is_suspended() {
            return;
        }
        if !self.lanes.is_empty() {
            self.drop_silent_tail();
        }
        let (reading, reads) = (self.reading(), &mut self.reads);
        self.lanes.decide(reading, |partition, lane, scope| match lane {
            Some(lane) => reads.observe_want(partition, lane.want(scope)),
            None => reads.forget(partition),
        });
        self.decide_reading();
    }

    /// Asks for what is due for all partitions together.
    fn decide_reading(&mut self) {
        if self.lanes.is_empty() {
            self.tails.close(self.lanes.orders());
            return;
        }
        let reading = self.reading();
        if self.lanes.is_stream_due() {
            let by_partition = &*self.lanes.parts(reading).by_partition;
            let reached = by_partition.values().map(|lane| lane.inbox().reached(reading.tail)).max();
            self.lanes.ask_stream(reached.unwrap_or_default());
        }
        let Parts { scope, by_partition, orders, .. } = self.lanes.parts(reading);
        self.reads.decide(scope, by_partition, orders);
        if self.tails.may_open(scope.now, self.reads.waits_for_tail()) {
            self.open_tail();
        }
    }

    fn open_tail(&mut self) {
        let Parts { scope, by_partition, orders, .. } = self.lanes.parts(self.reading());
        let served = by_partition.iter().filter(|(_, lane)| lane.wants_tail(scope));
        let reached = served.clone().map(|(_, lane)| lane.inbox().reached(scope.tail)).min();
        let partitions = served.map(|(partition, _)| partition.clone()).collect();
        let end = scope.stream.filter(|_| scope.has(PlantedBug::TailFromEnd)).map(|stream| stream.last.next());
        if let Some(from) = end.max(reached) {
            self.tails.begin(scope, from, partitions, orders);
        }
    }
}
