//! What is held of one partition, whichever way its messages are read.

use alloc::string::String;
use alloc::vec::Vec;

use super::fit::GoOn;
use super::hold::Hold;
use super::inbox::Inbox;
use super::lanes::Fate;
use super::message::Message;
use super::order::{Order, Orders, StopReason};
use super::position::{Failed, PositionRecord};
use super::progress::Progress;
use super::scope::Scope;
use super::settings::DeliveryConfig;
use super::solitude::Solitude;
use super::work::{At, Work};
use crate::ids::{Sequence, Timestamp, Token};
use crate::partition::PartitionId;
use crate::planted::PlantedBug;
use crate::time::{Instant, earliest};

/// How many messages behind the first one are suspects at least, where a position is found twice as it was left: a write
/// of it takes time, in which more than [`commit_after`](DeliveryConfig::commit_after) can be finished.
const LEAST_SUSPECTS: u32 = 256;

/// The four parts of each lane, and how far it is given up: the [`Hold`] stores the position, the [`Inbox`] holds what was
/// read, [`Work`] is what the application has, and [`Progress`] is what it has finished.
#[derive(Clone, Debug)]
pub(super) struct Held<M> {
    pub(super) partition: PartitionId,
    pub(super) hold: Hold,
    pub(super) inbox: Inbox<M>,
    pub(super) work: Work,
    pub(super) progress: Progress,
    ending: Ending,
}

/// How far the partition is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// It is not.
    NotYet,
    /// Nothing more is handed out.
    Releasing,
    /// The application is done. With it, the first message that it was handed and has not finished.
    Left { unfinished: Option<Sequence> },
}

impl<M> Held<M> {
    pub(super) fn new(partition: PartitionId, token: Token, now: Instant) -> Self {
        let nowhere = GoOn { seq: Sequence::default(), at: Timestamp::default(), next: Sequence::default() };
        Self {
            partition,
            hold: Hold::new(token, now),
            inbox: Inbox::new(now),
            work: Work::new(now),
            progress: Progress::new(Timestamp::default(), nowhere, None, false),
            ending: Ending::NotYet,
        }
    }

    /// Whether messages are still handed out.
    pub(super) fn goes_on(&self) -> bool {
        self.ending == Ending::NotYet
    }

    /// Whether the application is done with it.
    pub(super) fn has_left(&self) -> bool {
        matches!(self.ending, Ending::Left { .. })
    }

    /// The first message that the application had and had not finished when it was done.
    pub(super) fn left_unfinished(&self) -> Option<Sequence> {
        match self.ending {
            Ending::NotYet | Ending::Releasing => None,
            Ending::Left { unfinished } => unfinished,
        }
    }

    /// When the first message was stored that is not finished, if one is known.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.work.oldest().or_else(|| self.inbox.front().map(|message| message.timestamp))
    }

    /// Whether the first message has its last try, or waits for it.
    pub(super) fn is_last_try(&self) -> bool {
        let stored = self.hold.stored().and_then(|stored| stored.failed);
        self.work.is_clearing(stored) || self.work.is_last_try() && (self.goes_on() || self.work.unfinished() > 0)
    }

    pub(super) fn observe_releasing(&mut self) {
        if self.goes_on() {
            self.ending = Ending::Releasing;
        }
    }

    /// The application gives messages back, with why the first of them `failed`, if it did.
    pub(super) fn observe_returned(
        &mut self,
        scope: Scope<'_>,
        messages: Vec<Message<M>>,
        failed: Option<String>,
        orders: &mut Orders<M>,
    ) {
        let (inbox, progress) = (&mut self.inbox, &mut self.progress);
        let told = self.work.observe_returned(scope, &self.partition, messages, failed, inbox, progress);
        if let Some(notice) = told {
            orders.notice(notice);
        }
    }

    /// What is stored was read again: where the application stores it, and was then interrupted, messages that came back are
    /// finished.
    pub(super) fn observe_stored_by_application(&mut self, now: Instant) {
        // What was stored for an earlier life of the stream says nothing of the numbers of this one.
        let is_of_stream = |stored: &&PositionRecord| stored.created == self.progress.created();
        let Some(through) = self.hold.stored().filter(is_of_stream).map(|stored| stored.seq) else { return };
        while self.work.first_unfinished().is_none()
            && self.inbox.front().is_some_and(|front| front.sequence <= through)
        {
            for Message { sequence, timestamp, .. } in self.inbox.take(1) {
                self.work.observe_over(now, sequence, timestamp, &mut self.progress);
            }
        }
    }

    /// It is known what is stored: what differs from it is due.
    pub(super) fn observe_stored(&mut self) {
        self.progress.observe_stored(self.hold.token(), self.hold.stored());
    }

    /// The application is done.
    pub(super) fn observe_left(&mut self) {
        if !self.has_left() {
            self.ending = Ending::Left { unfinished: self.work.first_handed() };
            self.work.leave(&mut self.progress);
        }
    }

    /// Takes over from whoever had the partition before: with the message that has failed, and with care where it was not let
    /// go in good order. Returns the failed message that is remembered.
    pub(super) fn take_over(&mut self, scope: Scope<'_>, failed: Option<Failed>, was_open: bool) -> Option<Failed> {
        if was_open {
            self.work.take_care(failed.map_or(0, |_| scope.config.commit_after.max(LEAST_SUSPECTS)));
        }
        failed.filter(|_| !scope.has(PlantedBug::ForgetTries))
    }

    /// Hands out what may be.
    pub(super) fn hand_out(
        &mut self,
        scope: Scope<'_>,
        (solitude, in_hand_elsewhere): (&mut Solitude, usize),
        orders: &mut Orders<M>,
    ) {
        if !self.goes_on() {
            return;
        }
        let at = At {
            now: scope.now,
            partition: &self.partition,
            token: self.hold.token(),
            config: scope.config,
            planted: scope.planted,
            in_hand_elsewhere,
            created: self.progress.created(),
            stored_failed: self.hold.stored().and_then(|stored| stored.failed),
        };
        self.work.decide(&at, solitude, &mut self.inbox, &mut self.progress, orders);
    }

    /// Whether what was finished is to be stored now.
    pub(super) fn is_store_due(&self, scope: Scope<'_>) -> bool {
        self.progress.is_due(scope.now, scope.config) && self.hold.is_settled()
    }

    /// Stores this, unless it is what is stored.
    pub(super) fn store(&mut self, now: Instant, record: PositionRecord, orders: &mut Orders<M>) {
        self.progress.observe_sent();
        if self.hold.stored() != Some(&record) {
            self.hold.write(now, &self.partition, record, orders);
        }
    }

    /// Whether the application can store an effect: what is stored is the position that this hold has claimed.
    pub(super) fn is_claim_stored(&self) -> bool {
        self.hold.is_settled()
            && self.hold.stored().is_some_and(|stored| self.progress.is_claim_of(self.hold.token(), stored))
    }

    /// Whether nothing of it is on its way any more.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.work.is_burying() && self.hold.is_settled()
    }

    /// Whether it is stored that the partition was let go in good order.
    pub(super) fn is_closed(&self) -> bool {
        self.hold.stored().is_some_and(|stored| stored.token == self.hold.token() && !stored.open)
    }

    pub(super) fn let_go(&self, orders: &mut Orders<M>) -> Fate {
        orders.push(Order::LetGo { partition: self.partition.clone(), token: self.hold.token() });
        Fate::Over
    }

    pub(super) fn stop(&self, reason: StopReason, orders: &mut Orders<M>) -> Fate {
        orders.push(Order::Stop { partition: self.partition.clone(), token: self.hold.token(), reason });
        Fate::Over
    }

    /// When something is due, if nothing more happens. Before it `is_working`, only what is stored matters.
    pub(super) fn deadline(&self, config: &DeliveryConfig, now: Instant, is_working: bool) -> Option<Instant> {
        let work = self.work.deadline(now, &self.inbox).filter(|_| is_working && self.goes_on());
        let store = self.progress.deadline(config).filter(|_| is_working && !self.has_left() && self.hold.is_settled());
        earliest([self.hold.deadline(), work, store])
    }
}
