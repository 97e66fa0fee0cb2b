//! Which partitions are read on their own, in turn.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::inbox::{LOOK, Want};
use super::log_lane::LogLane;
use super::order::{Order, Orders};
use super::scope::Scope;
use super::tails::Waiting;
use crate::ids::CallId;
use crate::partition::PartitionId;
use crate::time::Instant;

/// Who waits to be asked for, read, or served by a tail.
///
/// Reads are bounded in number, and each who waits has its turn in the order in which it came.
#[derive(Clone, Debug)]
pub(super) struct Reads {
    asks: BTreeSet<PartitionId>,
    queue: VecDeque<PartitionId>,
    queued: BTreeSet<PartitionId>,
    /// Who waits for its first tail.
    first_tails: BTreeSet<PartitionId>,
    /// Who has left a tail, and waits for the next.
    next_tails: BTreeSet<PartitionId>,
    /// The question on its way, and whom it names.
    asking: Option<(CallId, Vec<PartitionId>)>,
    /// The reads on their way.
    reading: BTreeSet<CallId>,
    /// Whether the server answers questions for the last messages of partitions.
    pub(super) can_ask: bool,
    not_before: Instant,
}

impl Reads {
    pub(super) fn new(can_ask: bool) -> Self {
        Self {
            asks: BTreeSet::new(),
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
            first_tails: BTreeSet::new(),
            next_tails: BTreeSet::new(),
            asking: None,
            reading: BTreeSet::new(),
            can_ask,
            not_before: Instant::ORIGIN,
        }
    }

    /// What a partition wants to be read.
    pub(super) fn observe_want(&mut self, partition: &PartitionId, want: Want) {
        let is_ask = matches!(want, Want::Ask);
        note(&mut self.asks, partition, is_ask);
        note(&mut self.first_tails, partition, matches!(want, Want::Tail { first: true }));
        note(&mut self.next_tails, partition, matches!(want, Want::Tail { first: false }));
        if matches!(want, Want::Fetch { .. } | Want::Look) && self.queued.insert(partition.clone()) {
            self.queue.push_back(partition.clone());
        }
    }

    /// A partition is no longer this worker's.
    pub(super) fn forget(&mut self, partition: &PartitionId) {
        self.asks.remove(partition);
        self.first_tails.remove(partition);
        self.next_tails.remove(partition);
    }

    /// Who waits for a tail.
    pub(super) fn waits_for_tail(&self) -> Waiting {
        match (self.first_tails.is_empty(), self.next_tails.is_empty()) {
            (false, _) => Waiting::First,
            (true, false) => Waiting::Next,
            (true, true) => Waiting::Nobody,
        }
    }

    /// Whether this is the question on its way.
    pub(super) fn is_asking(&self, call: CallId) -> bool {
        self.asking.as_ref().is_some_and(|(asking, _)| *asking == call)
    }

    /// The answer to a question has come, whatever it is. Returns whom it named.
    pub(super) fn observe_asked(&mut self, call: CallId) -> Option<Vec<PartitionId>> {
        self.asking.take_if(|(asking, _)| *asking == call).map(|(_, partitions)| partitions)
    }

    /// The answer to a read has come, whatever it is. Returns whether it is one of these.
    pub(super) fn observe_read(&mut self, call: CallId) -> bool {
        self.reading.remove(&call)
    }

    /// A request has failed: nothing is asked for a while.
    pub(super) fn observe_failed(&mut self, scope: Scope<'_>) {
        self.not_before = scope.now + scope.config.retry;
    }

    /// Asks and reads, as much as may be on its way at a time.
    pub(super) fn decide<M>(
        &mut self,
        scope: Scope<'_>,
        lanes: &mut BTreeMap<PartitionId, LogLane<M>>,
        orders: &mut Orders<M>,
    ) {
        if scope.now < self.not_before {
            return;
        }
        if self.asking.is_none() && !self.asks.is_empty() {
            self.ask(scope, lanes, orders);
        }
        while self.reading.len() < scope.config.parallel_reads as usize {
            let Some(partition) = self.queue.pop_front() else { break };
            self.queued.remove(&partition);
            let Some(lane) = lanes.get_mut(&partition) else { continue };
            let from = lane.inbox().next();
            let (most, bytes, looks) = match lane.want(scope) {
                Want::Fetch { most, bytes } => (most, bytes, false),
                Want::Look => (LOOK, scope.config.buffer_bytes, true),
                Want::Nothing | Want::Ask | Want::Tail { .. } => continue,
            };
            let call =
                orders.call_for(&partition, |call, partition| Order::Fetch { call, partition, from, most, bytes });
            if looks {
                lane.inbox_mut().looking(call);
            } else {
                lane.inbox_mut().fetching(call);
            }
            self.reading.insert(call);
        }
    }

    fn ask<M>(&mut self, scope: Scope<'_>, lanes: &mut BTreeMap<PartitionId, LogLane<M>>, orders: &mut Orders<M>) {
        let mut partitions = Vec::new();
        while partitions.len() < scope.config.ask_at_once as usize {
            let Some(partition) = self.asks.pop_first() else { break };
            if lanes.get(&partition).is_some_and(|lane| lane.want(scope) == Want::Ask) {
                partitions.push(partition);
            }
        }
        if partitions.is_empty() {
            return;
        }
        let named = partitions.clone();
        let call = orders.call(|call| Order::Ask { call, partitions: named });
        for partition in &partitions {
            if let Some(lane) = lanes.get_mut(partition) {
                lane.inbox_mut().asked(call);
            }
        }
        self.asking = Some((call, partitions));
    }

    /// When it is to be asked again, after a failure.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let is_waiting = !self.queue.is_empty() || !self.asks.is_empty();
        (is_waiting && now < self.not_before).then_some(self.not_before)
    }
}

fn note(set: &mut BTreeSet<PartitionId>, partition: &PartitionId, is_in: bool) {
    if !is_in {
        set.remove(partition);
    } else if !set.contains(partition) {
        set.insert(partition.clone());
    }
}
