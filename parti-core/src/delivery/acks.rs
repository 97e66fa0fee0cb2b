//! What of one partition is finished and not known to be acknowledged.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::consumer::ConsumerState;
use super::order::{Order, Orders};
use crate::ids::{CallId, Sequence, Timestamp};
use crate::partition::PartitionId;
use crate::time::{Duration, Instant};

/// The most messages that are acknowledged in one go.
const AT_ONCE: usize = 256;

/// Messages as they are recognised: a stream that is made anew gives the same number to another one, at another time.
pub(super) type Known = BTreeMap<Sequence, Timestamp>;

/// Finished messages that wait for their acknowledgement.
///
/// A message is acknowledged by a delivery of the consumer as it is now, which is what `served` has everywhere: what was
/// delivered before the consumer was brought back to its floor waits until it is delivered again.
#[derive(Clone, Debug)]
pub(super) struct Acks {
    finished: Known,
    sent: Option<(CallId, Vec<(Sequence, Timestamp)>)>,
    not_before: Instant,
    /// Whether some may wait for their delivery.
    waits: bool,
}

impl Acks {
    pub(super) fn new(now: Instant) -> Self {
        Self { finished: Known::new(), sent: None, not_before: now, waits: false }
    }

    /// Whether nothing waits to be acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.finished.is_empty()
    }

    /// Whether an acknowledgement is on its way.
    pub(super) fn is_sending(&self) -> bool {
        self.sent.is_some()
    }

    /// Whether some message waits for its delivery.
    pub(super) fn waits_for_delivery(&self) -> bool {
        self.waits
    }

    /// Whether this message is finished and not known to be acknowledged.
    pub(super) fn has(&self, sequence: Sequence, timestamp: Timestamp) -> bool {
        self.finished.get(&sequence) == Some(&timestamp)
    }

    pub(super) fn observe_finished(&mut self, messages: impl Iterator<Item = (Sequence, Timestamp)>, served: &Known) {
        for (sequence, timestamp) in messages {
            self.finished.insert(sequence, timestamp);
            self.waits |= served.get(&sequence) != Some(&timestamp);
        }
    }

    /// What was delivered counts no more: all of it is delivered again.
    pub(super) fn observe_forgotten(&mut self) {
        self.waits = !self.finished.is_empty();
    }

    /// The consumer delivers the lowest first: what comes before this message and is not delivered is acknowledged.
    pub(super) fn observe_delivered(&mut self, sequence: Sequence, served: &Known) {
        if self.waits {
            self.keep(served, |finished| finished >= sequence);
        }
    }

    /// What the consumer says of itself, where nothing that it has delivered is on its way.
    pub(super) fn observe_state(&mut self, state: ConsumerState, served: &Known) {
        if self.waits {
            // A count may lag behind what is new, never behind these: they were stored long before the consumer went back,
            // and it counts all that there is as it does.
            let has_all = state.unacknowledged == 0 && state.pending == 0;
            self.keep(served, |finished| !has_all && finished > state.floor);
        }
    }

    /// Keeps what is delivered, and of the rest what may still be.
    fn keep(&mut self, served: &Known, may_come: impl Fn(Sequence) -> bool) {
        self.waits = false;
        self.finished.retain(|sequence, timestamp| {
            let is_served = served.get(sequence) == Some(timestamp);
            let may_come = may_come(*sequence);
            self.waits |= !is_served && may_come;
            is_served || may_come
        });
    }

    /// The answers are there. Returns the messages, in order.
    pub(super) fn observe_acknowledged(&mut self, call: CallId) -> Vec<(Sequence, Timestamp)> {
        let Some((_, messages)) = self.sent.take_if(|(sent, _)| *sent == call) else { return Vec::new() };
        for (sequence, timestamp) in &messages {
            if self.has(*sequence, *timestamp) {
                self.finished.remove(sequence);
            }
        }
        messages
    }

    /// Some answer is not there. Returns whether this was the call.
    pub(super) fn observe_failed(&mut self, now: Instant, call: CallId, retry: Duration) -> bool {
        let was_sent = self.sent.take_if(|(sent, _)| *sent == call).is_some();
        if was_sent {
            self.not_before = now + retry;
        }
        was_sent
    }

    /// Acknowledges what can be, as deliveries of the consumer of a stream that was `created` then.
    pub(super) fn decide<M>(
        &mut self,
        now: Instant,
        (partition, created): (&PartitionId, Timestamp),
        served: &Known,
        orders: &mut Orders<M>,
    ) {
        if self.sent.is_some() || now < self.not_before {
            return;
        }
        let finished = self.finished.iter().map(|(sequence, timestamp)| (*sequence, *timestamp));
        let can_be = finished.filter(|(sequence, timestamp)| served.get(sequence) == Some(timestamp));
        let known: Vec<_> = can_be.take(AT_ONCE).collect();
        if known.is_empty() {
            return;
        }
        let messages = known.iter().map(|(sequence, _)| *sequence).collect();
        let call =
            orders.call_for(partition, |call, partition| Order::Acknowledge { call, partition, created, messages });
        self.sent = Some((call, known));
    }

    /// When it is to be tried again.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let waits = self.sent.is_none() && !self.finished.is_empty() && now < self.not_before;
        waits.then_some(self.not_before)
    }
}
