//! The one tail that shows a worker what is stored.

use alloc::string::String;
use alloc::vec::Vec;

use super::order::{Notice, Order, Orders};
use super::scope::Scope;
use super::settings::DeliveryConfig;
use crate::ids::{CallId, Sequence};
use crate::partition::PartitionId;
use crate::time::{Instant, earliest};

/// So many times as long as a tail took to open no other one is opened for who has just come.
const PAUSE: u32 = 10;

/// The tail that is open, and the next one on its way.
///
/// Nothing joins a tail that runs. Who waits for one is served by the next, which is opened at the lowest number that any
/// of its partitions needs, so that it shows each of them everything. While it is on its way the one before goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct Tails {
    open: Option<Tail>,
    opening: Option<Opening>,
    /// When another may be opened for who has left one.
    next_at: Instant,
    /// When another may be opened for who has just come.
    first_at: Instant,
}

/// Who waits for a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    Nobody,
    /// Only partitions that have left one, since they could not keep up.
    Next,
    /// A partition that has just come, or has caught up with the stream.
    First,
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
    began: Instant,
}

impl Tails {
    /// The tail that is open, and up to where it has come.
    pub(super) fn open(&self) -> Option<(CallId, Sequence)> {
        self.open.map(|tail| (tail.id, tail.scanned))
    }

    /// Whether another tail is to be opened now.
    pub(super) fn may_open(&self, now: Instant, waiting: Waiting) -> bool {
        self.open_at(waiting).is_some_and(|at| now >= at)
    }

    /// When another may be opened, for those who wait.
    pub(super) fn deadline(&self, config: &DeliveryConfig, waiting: Waiting) -> Option<Instant> {
        let silent = self.open.map(|tail| tail.heard + config.silence);
        earliest([silent, self.open_at(waiting)])
    }

    fn open_at(&self, waiting: Waiting) -> Option<Instant> {
        let at = match waiting {
            Waiting::Nobody => None,
            Waiting::Next => Some(self.next_at),
            Waiting::First => Some(self.first_at.min(self.next_at)),
        };
        at.filter(|_| self.opening.is_none())
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
        self.opening = Some(Opening { id, from, partitions, began: scope.now });
        self.next_at = scope.now + scope.config.tail_interval;
    }

    /// The tail is open. Returns whom it may serve. The one before is closed. Of partitions that come one after the other
    /// each waits for the next tail: the longer the server takes to open one, the longer until it is asked for another.
    pub(super) fn observe_opened<M>(
        &mut self,
        scope: Scope<'_>,
        call: CallId,
        orders: &mut Orders<M>,
    ) -> Option<Opening> {
        let opening = self.opening.take_if(|opening| opening.id == call)?;
        self.close(orders);
        let now = scope.now;
        self.first_at = now + now.since(opening.began) * PAUSE;
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
            (self.first_at, self.next_at) = (scope.now + scope.config.retry, scope.now + scope.config.retry);
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
