//! The one tail that shows a worker what is stored.

use alloc::string::String;
use alloc::vec::Vec;

use super::order::{Notice, Order, Orders};
use super::scope::Scope;
use super::settings::DeliveryConfig;
use crate::ids::{CallId, Sequence};
use crate::partition::PartitionId;
use crate::time::{Instant, earliest};

/// The tail that is open, and the next one on its way.
///
/// Nothing joins a tail that runs. Who waits for one is served by the next, which is opened at the lowest number that any
/// of its partitions needs, so that it shows each of them everything. While it is on its way the one before goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Tails {
    open: Option<Tail>,
    opening: Option<Opening>,
    /// No other tail is opened before this instant.
    not_before: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Tail {
    id: CallId,
    /// Everything up to here was shown.
    scanned: Sequence,
    heard: Instant,
}

#[derive(Clone, Debug)]
pub(super) struct Opening {
    id: CallId,
    pub(super) from: Sequence,
    pub(super) partitions: Vec<PartitionId>,
}

impl Tails {
    /// The tail that is open, and up to where it has come.
    pub(super) fn open(&self) -> Option<(CallId, Sequence)> {
        self.open.map(|tail| (tail.id, tail.scanned))
    }

    /// Whether another tail may be opened now.
    pub(super) fn may_open(&self, now: Instant) -> bool {
        self.opening.is_none() && now >= self.not_before
    }

    /// When another may be opened, for those who wait.
    pub(super) fn deadline(&self, config: &DeliveryConfig, is_waiting: bool) -> Option<Instant> {
        let silent = self.open.map(|tail| tail.heard + config.silence);
        let next = (is_waiting && self.opening.is_none()).then_some(self.not_before);
        earliest([silent, next])
    }

    /// Opens a tail for these partitions, from the lowest number that one of them needs.
    pub(super) fn begin<M>(
        &mut self,
        scope: Scope<'_>,
        from: Sequence,
        partitions: Vec<PartitionId>,
        orders: &mut Orders<M>,
    ) {
        let named = partitions.clone();
        let id = orders.call(|call| Order::OpenTail { call, from, partitions: named });
        self.opening = Some(Opening { id, from, partitions });
        self.not_before = scope.now + scope.config.tail_interval;
    }

    /// The tail is open. Returns whom it may serve. The one before is closed.
    pub(super) fn observe_opened<M>(&mut self, now: Instant, call: CallId, orders: &mut Orders<M>) -> Option<Opening> {
        let opening = self.opening.take_if(|opening| opening.id == call)?;
        self.close(orders);
        self.open = Some(Tail { id: call, scanned: opening.from.previous(), heard: now });
        Some(opening)
    }

    /// The tail could not be opened.
    pub(super) fn observe_failed<M>(
        &mut self,
        scope: Scope<'_>,
        call: CallId,
        reason: String,
        orders: &mut Orders<M>,
    ) -> bool {
        let was_opening = self.opening.take_if(|opening| opening.id == call).is_some();
        if was_opening {
            self.not_before = scope.now + scope.config.retry;
            orders.notice(Notice::TailLost { reason });
        }
        was_opening
    }

    /// The tail that is open says something. Returns whether it is the one.
    pub(super) fn observe_alive(&mut self, now: Instant, id: CallId) -> bool {
        self.with(id, |tail| tail.heard = now)
    }

    /// It has shown everything up to here.
    pub(super) fn observe_scanned(&mut self, now: Instant, id: CallId, sequence: Sequence) -> bool {
        self.with(id, |tail| {
            tail.heard = now;
            tail.scanned = tail.scanned.max(sequence);
        })
    }

    /// It is no more. Returns how far it came, if it was the one.
    pub(super) fn observe_lost<M>(
        &mut self,
        id: CallId,
        reason: String,
        orders: &mut Orders<M>,
    ) -> Option<(CallId, Sequence)> {
        let tail = self.open.filter(|tail| tail.id == id)?;
        orders.notice(Notice::TailLost { reason });
        self.close(orders);
        Some((tail.id, tail.scanned))
    }

    /// It has been silent for too long. Returns how far it came.
    pub(super) fn drop_silent<M>(&mut self, scope: Scope<'_>, orders: &mut Orders<M>) -> Option<(CallId, Sequence)> {
        let tail = self.open.filter(|tail| scope.now >= tail.heard + scope.config.silence)?;
        self.observe_lost(tail.id, "it was silent".into(), orders)
    }

    /// Closes the tail, if there is one.
    pub(super) fn close<M>(&mut self, orders: &mut Orders<M>) {
        if let Some(tail) = self.open.take() {
            orders.push(Order::CloseTail { tail: tail.id });
        }
    }

    fn with(&mut self, id: CallId, change: impl FnOnce(&mut Tail)) -> bool {
        let tail = self.open.as_mut().filter(|tail| tail.id == id);
        tail.map(change).is_some()
    }
}
