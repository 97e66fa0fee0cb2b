//! What both engines do alike: who owns which partition, whose turn it is, and who waits for whom.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::agenda::Agenda;
use super::event::{Ownership, Request};
use super::held::Held;
use super::order::{Notice, Orders};
use super::scope::{Reading, Scope};
use super::settings::{DeliveryConfig, DeliveryConfigError};
use super::solitude::Solitude;
use super::status::LaneStatus;
use super::stream::StreamView;
use crate::ids::{CallId, Sequence, Token};
use crate::partition::PartitionId;
use crate::planted::{Planted, PlantedBug};
use crate::time::{Instant, earliest};

/// The delivery of one partition's messages, whichever way they are read.
pub(super) trait Lane<M> {
    /// For a partition that was acquired now.
    fn new(partition: PartitionId, token: Token, now: Instant) -> Self;

    /// What each lane has, however its messages are read.
    fn held(&self) -> &Held<M>;

    /// The same, to change it.
    fn held_mut(&mut self) -> &mut Held<M>;

    /// What people see of it. How far the stream itself has come is not the lane's to say.
    fn status<'a>(&self, partition: &'a PartitionId) -> LaneStatus<'a>;

    /// The application asks for something.
    fn observe_request(&mut self, scope: Scope<'_>, request: Request<M>, orders: &mut Orders<M>);

    /// Asks for what is due.
    fn decide(
        &mut self,
        scope: Scope<'_>,
        stream: &mut StreamView,
        solitude: (&mut Solitude, usize),
        orders: &mut Orders<M>,
    ) -> Fate;

    /// When something is due, if nothing more happens.
    fn deadline(&self, config: &DeliveryConfig, now: Instant) -> Option<Instant>;

    /// The partition is this worker's no more: what goes on outside for it ends.
    fn end(&mut self, orders: &mut Orders<M>);
}

/// Whether there is still something to do for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    GoesOn,
    Over,
}

/// The partitions of one worker, each with its lane, and what all of them share.
#[derive(Clone, Debug)]
pub(super) struct Lanes<L, M> {
    config: DeliveryConfig,
    now: Instant,
    by_partition: BTreeMap<PartitionId, L>,
    stream: StreamView,
    suspended: bool,
    /// Who may have something to ask for, or is here no more.
    touched: BTreeSet<PartitionId>,
    agenda: Agenda,
    solitude: Solitude,
    orders: Orders<M>,
    planted: Planted,
}

/// What an engine may touch of it while it deals with all partitions at once.
pub(super) struct Parts<'a, L, M> {
    pub(super) scope: Scope<'a>,
    pub(super) by_partition: &'a mut BTreeMap<PartitionId, L>,
    pub(super) stream: &'a mut StreamView,
    pub(super) orders: &'a mut Orders<M>,
}

impl<L: Lane<M>, M> Lanes<L, M> {
    pub(super) fn new(config: DeliveryConfig, now: Instant) -> Result<Self, DeliveryConfigError> {
        config.validate()?;
        Ok(Self {
            config,
            now,
            by_partition: BTreeMap::new(),
            stream: StreamView::default(),
            suspended: false,
            touched: BTreeSet::new(),
            agenda: Agenda::default(),
            solitude: Solitude::default(),
            orders: Orders::new(),
            planted: Planted::default(),
        })
    }

    #[cfg(feature = "planted-bugs")]
    pub(super) fn plant(&mut self, bug: PlantedBug) {
        self.planted = Planted::new(bug);
    }

    /// The latest instant given so far.
    pub(super) fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn config(&self) -> &DeliveryConfig {
        &self.config
    }

    pub(super) fn orders(&mut self) -> &mut Orders<M> {
        &mut self.orders
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_partition.is_empty()
    }

    pub(super) fn partitions(&self) -> Vec<PartitionId> {
        self.by_partition.keys().cloned().collect()
    }

    /// Whether nothing may be asked for now.
    pub(super) fn is_suspended(&self) -> bool {
        self.suspended && !self.planted.has(PlantedBug::HandWhileSuspended)
    }

    /// What concerns all partitions at once, for an engine that has come so far in `reading` the stream.
    pub(super) fn parts(&mut self, reading: Reading) -> Parts<'_, L, M> {
        Parts {
            scope: scope(self.now, &self.config, &self.stream, reading, self.planted),
            by_partition: &mut self.by_partition,
            stream: &mut self.stream,
            orders: &mut self.orders,
        }
    }

    /// What is known of each partition, in order.
    pub(super) fn statuses(&self) -> impl Iterator<Item = LaneStatus<'_>> {
        self.by_partition.iter().map(|(partition, lane)| self.status_of(partition, lane))
    }

    /// What is known of one partition, if it is delivered.
    pub(super) fn status(&self, partition: &PartitionId) -> Option<LaneStatus<'_>> {
        self.by_partition.get_key_value(partition).map(|(partition, lane)| self.status_of(partition, lane))
    }

    fn status_of<'a>(&self, partition: &'a PartitionId, lane: &L) -> LaneStatus<'a> {
        LaneStatus { stream_last: self.stream.last_told().map(|stream| stream.last), ..lane.status(partition) }
    }

    /// It is `now`, or later if that was said before.
    pub(super) fn observe_time(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    pub(super) fn observe_ownership(&mut self, ownership: Ownership) {
        match ownership {
            Ownership::Acquired { partition, token } => {
                self.forget(&partition);
                let lane = L::new(partition.clone(), token, self.now);
                self.by_partition.insert(partition, lane);
            }
            Ownership::Releasing { partition, token } => {
                if let Some(lane) = self.lane_under(&partition, token) {
                    lane.held_mut().observe_releasing();
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

    pub(super) fn observe_request(&mut self, reading: Reading, request: Request<M>) {
        let partition = request.partition().clone();
        self.observe(&partition, reading, |lane, scope, orders| {
            lane.observe_request(scope, request, orders);
            Fate::GoesOn
        });
    }

    /// Lets the lane of a partition see something. It is decided for it afterwards, if it goes on.
    pub(super) fn observe(
        &mut self,
        partition: &PartitionId,
        reading: Reading,
        see: impl FnOnce(&mut L, Scope<'_>, &mut Orders<M>) -> Fate,
    ) {
        let scope = scope(self.now, &self.config, &self.stream, reading, self.planted);
        let Some(lane) = self.by_partition.get_mut(partition) else { return };
        match see(lane, scope, &mut self.orders) {
            Fate::GoesOn => _ = self.touched.insert(partition.clone()),
            Fate::Over => self.forget(partition),
        }
    }

    /// There is no stream.
    pub(super) fn observe_no_stream(&mut self, call: CallId) {
        if self.stream.observe_none(self.now, call, &self.config) {
            self.stream.tell_missing(&mut self.orders);
        }
    }

    /// A request has failed. Returns whether it asked for the state of the stream.
    pub(super) fn observe_failed(&mut self, call: CallId, reason: &str) -> bool {
        let was_asked = self.stream.observe_none(self.now, call, &self.config);
        if was_asked {
            self.orders.notice(Notice::Retrying { what: "stream", reason: reason.into() });
        }
        was_asked
    }

    /// Asks for what is due for each partition. `after` is told how it is with each one then: it is here no more, or with
    /// this lane.
    pub(super) fn decide(&mut self, reading: Reading, mut after: impl FnMut(&PartitionId, Option<&L>, Scope<'_>)) {
        self.touched.extend(self.agenda.due(self.now));
        self.touched.extend(self.solitude.waits().cloned());
        self.decide_for_touched(reading, &mut after);
        // Only now: who waits for others had the chance to go on without waiting.
        self.touched.extend(self.solitude.expire(self.now));
        self.decide_for_touched(reading, &mut after);
    }

    fn decide_for_touched(&mut self, reading: Reading, after: &mut impl FnMut(&PartitionId, Option<&L>, Scope<'_>)) {
        while let Some(partition) = self.touched.pop_first() {
            if self.decide_for(&partition, reading) == Fate::Over {
                self.forget(&partition);
            }
            let scope = scope(self.now, &self.config, &self.stream, reading, self.planted);
            after(&partition, self.by_partition.get(&partition), scope);
        }
    }

    /// Asks for what is due for one partition.
    fn decide_for(&mut self, partition: &PartitionId, reading: Reading) -> Fate {
        let waited = self.solitude.waits() == Some(partition);
        let in_hand = self.by_partition.iter().map(|(partition, lane)| (partition, lane.held().work.in_hand()));
        let in_hand_elsewhere = self.solitude.in_hand_elsewhere(partition, in_hand);
        let scope = scope(self.now, &self.config, &self.stream, reading, self.planted);
        let Some(lane) = self.by_partition.get_mut(partition) else { return Fate::GoesOn };
        let solitude = (&mut self.solitude, in_hand_elsewhere);
        let fate = lane.decide(scope, &mut self.stream, solitude, &mut self.orders);
        if fate == Fate::GoesOn {
            self.agenda.set(partition, lane.deadline(&self.config, self.now));
            self.touched.extend(self.solitude.observe_decided(partition, waited, lane.held().is_last_try()));
        }
        fate
    }

    /// Whether the stream is to be asked for its state now.
    pub(super) fn is_stream_due(&self) -> bool {
        !self.is_empty() && self.stream.is_due(self.now, &self.config)
    }

    /// Asks the stream for its state. `reached` is the first number that nobody has read.
    pub(super) fn ask_stream(&mut self, reached: Sequence) {
        self.stream.ask(self.now, reached, &mut self.orders);
    }

    /// When something is due for a partition or for the stream, if nothing more happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let stream = self.stream.deadline(&self.config).filter(|_| !self.is_empty());
        earliest([self.agenda.first(), self.solitude.deadline(), stream])
    }

    pub(super) fn touch_all(&mut self) {
        self.touched.extend(self.by_partition.keys().cloned());
    }

    fn lane_under(&mut self, partition: &PartitionId, token: Token) -> Option<&mut L> {
        self.by_partition.get_mut(partition).filter(|lane| lane.held().hold.token() == token)
    }

    fn forget(&mut self, partition: &PartitionId) {
        if let Some(mut lane) = self.by_partition.remove(partition) {
            lane.end(&mut self.orders);
        }
        self.agenda.set(partition, None);
        self.touched.extend(self.solitude.end(partition));
        self.touched.insert(partition.clone());
    }
}

/// What every part is told of the moment.
fn scope<'a>(
    now: Instant,
    config: &'a DeliveryConfig,
    stream: &StreamView,
    reading: Reading,
    planted: Planted,
) -> Scope<'a> {
    Scope { now, config, tail: reading.tail, stream: stream.recent(now, config), can_ask: reading.can_ask, planted }
}
