//! Delivery from a stream that keeps its messages: positions of our own, one tail, and reads for who lags.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::agenda::Agenda;
use super::event::{Answer, Ends, Event, Ownership, Request, StreamState, TailNews};
use super::inbox::FetchNews;
use super::lane::{Fate, Lane};
use super::message::Message;
use super::order::{Notice, Order, Orders};
use super::reads::Reads;
use super::scope::Scope;
use super::settings::{DeliveryConfig, DeliveryConfigError};
use super::solitude::Solitude;
use super::status::LaneStatus;
use super::stream::StreamView;
use super::tails::Tails;
use crate::ids::{CallId, Sequence, Token};
use crate::partition::PartitionId;
use crate::planted::{Planted, PlantedBug};
use crate::time::{Instant, earliest};

/// Delivers the messages of every partition that one worker owns, from a stream that keeps them until its limits remove
/// them. See the [module](crate::delivery).
#[derive(Clone, Debug)]
pub struct LogDelivery<M> {
    config: DeliveryConfig,
    now: Instant,
    lanes: BTreeMap<PartitionId, Lane<M>>,
    stream: StreamView,
    reads: Reads,
    tails: Tails,
    suspended: bool,
    /// Who may have something to ask for.
    touched: BTreeSet<PartitionId>,
    agenda: Agenda,
    solitude: Solitude,
    orders: Orders<M>,
    planted: Planted,
}

impl<M> LogDelivery<M> {
    /// Delivery for a worker that owns nothing yet.
    ///
    /// # Errors
    ///
    /// [`DeliveryConfigError`] for the first rule that a setting breaks.
    pub fn new(config: DeliveryConfig, now: Instant) -> Result<Self, DeliveryConfigError> {
        config.validate()?;
        Ok(Self {
            reads: Reads::new(config.ask_at_once > 0),
            config,
            now,
            lanes: BTreeMap::new(),
            stream: StreamView::default(),
            tails: Tails::default(),
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
            Event::Timeout | Event::Pulled { .. } => {}
            Event::Ownership(ownership) => self.observe_ownership(ownership),
            Event::Application(request) => self.observe_request(request),
            Event::Answer { call, answer } => self.observe_answer(call, answer),
            Event::Tail { tail, news } => self.observe_tail(tail, news),
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
        earliest([
            self.agenda.first(),
            self.solitude.deadline(),
            self.stream.deadline(&self.config).filter(|_| !self.lanes.is_empty()),
            self.tails.deadline(&self.config, self.reads.waits_for_tail()),
            self.reads.deadline(self.now),
        ])
    }

    /// What is known of each partition, in order.
    pub fn lanes(&self) -> impl Iterator<Item = LaneStatus<'_>> {
        self.lanes.iter().map(|(partition, lane)| self.status(partition, lane))
    }

    /// What is known of one partition, if it is delivered.
    pub fn lane(&self, partition: &PartitionId) -> Option<LaneStatus<'_>> {
        self.lanes.get_key_value(partition).map(|(partition, lane)| self.status(partition, lane))
    }

    fn status<'a>(&self, partition: &'a PartitionId, lane: &'a Lane<M>) -> LaneStatus<'a> {
        let (finished, stored) = lane.finished();
        LaneStatus {
            partition,
            token: lane.token(),
            finished,
            stored,
            ready: lane.inbox().len(),
            unfinished: lane.unfinished(),
            pending: lane.inbox().pending(),
            oldest: lane.oldest(),
            is_on_tail: lane.inbox().is_on_tail(),
            stream_last: self.stream.last_told().map(|stream| stream.last),
        }
    }

    fn observe_ownership(&mut self, ownership: Ownership) {
        match ownership {
            Ownership::Acquired { partition, token } => {
                self.forget(&partition);
                self.lanes.insert(partition.clone(), Lane::new(partition.clone(), token, self.now));
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
                self.touch_all();
            }
        }
    }

    fn observe_request(&mut self, request: Request<M>) {
        let partition = request.partition().clone();
        let scope = scope(self.now, &self.config, (&self.tails, &self.reads, &self.stream), self.planted);
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.observe_request(scope, request, &mut self.orders);
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
        let Some(partition) = self.orders.caller(call) else { return };
        let scope = scope(self.now, &self.config, (&self.tails, &self.reads, &self.stream), self.planted);
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        let (fate, news) = lane.observe_answer(scope, call, answer, &mut self.orders);
        match fate {
            Fate::GoesOn => _ = self.touched.insert(partition.clone()),
            Fate::Over => self.forget(&partition),
        }
        if let (FetchNews::Skipped(sequence), Some((tail, _))) = (news, self.tails.open()) {
            self.orders.notice(Notice::TailSkipped { partition, sequence });
            self.lose_tail(tail, "it has passed over a message".into());
        }
    }

    fn observe_stream(&mut self, call: CallId, state: StreamState) {
        let Some(lost) = self.stream.observe_state(call, state) else { return };
        let partitions: Vec<_> = self.lanes.keys().cloned().collect();
        for partition in partitions {
            let scope = scope(self.now, &self.config, (&self.tails, &self.reads, &self.stream), self.planted);
            let Some(lane) = self.lanes.get_mut(&partition) else { continue };
            let mut fate = lane.observe_stream(scope, state, &mut self.orders);
            if lost && fate == Fate::GoesOn {
                fate = lane.observe_lost_suffix(scope, state.last, &mut self.orders);
            }
            match fate {
                Fate::GoesOn => _ = self.touched.insert(partition),
                Fate::Over => self.forget(&partition),
            }
        }
    }

    fn observe_ends(&mut self, call: CallId, ends: &Ends) {
        let last: BTreeMap<_, _> = ends.last.iter().map(|(partition, sequence)| (partition, *sequence)).collect();
        let scope = scope(self.now, &self.config, (&self.tails, &self.reads, &self.stream), self.planted);
        for partition in self.reads.observe_asked(call).into_iter().flatten() {
            if let Some(lane) = self.lanes.get_mut(&partition) {
                lane.inbox_mut().observe_end(scope, call, last.get(&partition).copied(), ends.through);
                self.touched.insert(partition);
            }
        }
    }

    fn observe_no_ends(&mut self, call: CallId) {
        for partition in self.reads.observe_asked(call).into_iter().flatten() {
            if let Some(lane) = self.lanes.get_mut(&partition) {
                lane.inbox_mut().observe_no_end(call);
                self.touched.insert(partition);
            }
        }
    }

    fn observe_failed(&mut self, call: CallId, reason: String) {
        let scope = scope(self.now, &self.config, (&self.tails, &self.reads, &self.stream), self.planted);
        if self.stream.observe_none(self.now, call, &self.config) {
            self.orders.notice(Notice::Retrying { what: "stream", reason });
        } else if self.tails.observe_failed(scope, call, reason.clone(), &mut self.orders) {
            // Who waits for it goes on waiting.
        } else if self.reads.is_asking(call) {
            self.reads.observe_failed(scope);
            self.orders.notice(Notice::Retrying { what: "last messages", reason });
            self.observe_no_ends(call);
        } else {
            if self.reads.observe_read(call) {
                self.reads.observe_failed(scope);
            }
            self.observe_lane_answer(call, Answer::Failed { reason });
        }
    }

    fn observe_tail_opened(&mut self, call: CallId) {
        let before = self.tails.open();
        let Some(opening) = self.tails.observe_opened(self.now, call, &mut self.orders) else { return };
        for partition in opening.partitions {
            if let Some(lane) = self.lanes.get_mut(&partition) {
                lane.inbox_mut().join(self.now, call, opening.from, before);
            }
        }
        // Who was served by the tail before and is not by this one waits for the next.
        if let Some(before) = before {
            self.leave(before);
        }
        self.touch_all();
    }

    fn observe_tail(&mut self, tail: CallId, news: TailNews<M>) {
        // What a tail shows that was silent for too long may be behind what the limits have removed meanwhile.
        self.drop_silent_tail();
        match news {
            TailNews::Message { partition, message } => self.observe_tailed(tail, partition, message),
            TailNews::Passed { sequence } => _ = self.tails.observe_scanned(self.now, tail, sequence),
            TailNews::Alive => _ = self.tails.observe_alive(self.now, tail),
            TailNews::Lost { reason } => self.lose_tail(tail, reason),
        }
    }

    fn observe_tailed(&mut self, tail: CallId, partition: PartitionId, message: Message<M>) {
        let sequence = message.sequence;
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.inbox_mut().observe_tailed(self.now, tail, message, &self.config);
            self.touched.insert(partition);
        }
        // After the message is in its place: what the tail has shown counts as known from here on.
        self.tails.observe_scanned(self.now, tail, sequence);
    }

    fn lose_tail(&mut self, tail: CallId, reason: String) {
        if let Some(lost) = self.tails.observe_lost(tail, reason, &mut self.orders) {
            self.leave(lost);
        }
    }

    fn drop_silent_tail(&mut self) {
        let scope = scope(self.now, &self.config, (&self.tails, &self.reads, &self.stream), self.planted);
        if let Some(lost) = self.tails.drop_silent(scope, &mut self.orders) {
            self.leave(lost);
        }
    }

    /// Nobody is served by this tail any more.
    fn leave(&mut self, tail: (CallId, Sequence)) {
        for lane in self.lanes.values_mut() {
            lane.inbox_mut().leave(tail);
        }
        self.touch_all();
    }

    fn decide(&mut self) {
        if self.suspended && !self.planted.has(PlantedBug::HandWhileSuspended) {
            return;
        }
        if !self.lanes.is_empty() {
            self.drop_silent_tail();
        }
        self.touched.extend(self.agenda.due(self.now));
        self.touched.extend(self.solitude.waits().cloned());
        self.decide_for_touched();
        // Only now: who waits for others had the chance to go on without waiting.
        self.touched.extend(self.solitude.expire(self.now));
        self.decide_for_touched();
        self.decide_reading();
    }

    fn decide_for_touched(&mut self) {
        while let Some(partition) = self.touched.pop_first() {
            self.decide_for(&partition);
        }
    }

    /// Asks for what is due for one partition.
    fn decide_for(&mut self, partition: &PartitionId) {
        let scope = scope(self.now, &self.config, (&self.tails, &self.reads, &self.stream), self.planted);
        let waited = self.solitude.waits() == Some(partition);
        let in_hand = self.lanes.iter().map(|(partition, lane)| (partition, lane.unfinished()));
        let in_hand_elsewhere = self.solitude.in_hand_elsewhere(partition, in_hand);
        let Some(lane) = self.lanes.get_mut(partition) else { return };
        match lane.decide(scope, &mut self.stream, (&mut self.solitude, in_hand_elsewhere), &mut self.orders) {
            Fate::GoesOn => {
                self.reads.observe_want(partition, lane.want(scope));
                self.agenda.set(partition, lane.deadline(&self.config, self.now));
                self.touched.extend(self.solitude.observe_decided(partition, waited, lane.is_last_try()));
            }
            Fate::Over => self.forget(partition),
        }
    }

    /// Asks for what is due for all partitions together.
    fn decide_reading(&mut self) {
        if self.lanes.is_empty() {
            self.tails.close(&mut self.orders);
            return;
        }
        let scope = scope(self.now, &self.config, (&self.tails, &self.reads, &self.stream), self.planted);
        if self.stream.is_due(self.now, &self.config) {
            let reached = self.lanes.values().map(|lane| lane.inbox().reached(scope.tail)).max();
            self.stream.ask(self.now, reached.unwrap_or_default(), &mut self.orders);
        }
        self.reads.decide(scope, &mut self.lanes, &mut self.orders);
        if self.reads.waits_for_tail() && self.tails.may_open(self.now) {
            self.open_tail();
        }
    }

    fn open_tail(&mut self) {
        let scope = scope(self.now, &self.config, (&self.tails, &self.reads, &self.stream), self.planted);
        let served = self.lanes.iter().filter(|(_, lane)| lane.wants_tail(scope));
        let reached = served.clone().map(|(_, lane)| lane.inbox().reached(scope.tail)).min();
        let partitions: Vec<_> = served.map(|(partition, _)| partition.clone()).collect();
        let end =
            self.stream.last_told().filter(|_| scope.has(PlantedBug::TailFromEnd)).map(|stream| stream.last.next());
        if let Some(from) = end.max(reached) {
            self.tails.begin(scope, from, partitions, &mut self.orders);
        }
    }

    fn lane_under(&mut self, partition: &PartitionId, token: Token) -> Option<&mut Lane<M>> {
        self.lanes.get_mut(partition).filter(|lane| lane.token() == token)
    }

    fn forget(&mut self, partition: &PartitionId) {
        self.lanes.remove(partition);
        self.reads.forget(partition);
        self.agenda.set(partition, None);
        self.touched.remove(partition);
        self.touched.extend(self.solitude.end(partition));
    }

    fn touch_all(&mut self) {
        self.touched.extend(self.lanes.keys().cloned());
    }
}

/// What every part is told of the moment.
fn scope<'a>(
    now: Instant,
    config: &'a DeliveryConfig,
    (tails, reads, stream): (&Tails, &Reads, &StreamView),
    planted: Planted,
) -> Scope<'a> {
    Scope { now, config, tail: tails.open(), stream: stream.last_told(), can_ask: reads.can_ask, planted }
}
