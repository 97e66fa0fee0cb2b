//! The hold of one partition's position: a chain of conditional writes.

use alloc::collections::VecDeque;

use super::order::{Order, Orders, StopReason};
use super::position::PositionRecord;
use super::scope::Scope;
use crate::event::Outcome;
use crate::ids::{CallId, Revision, Timestamp, Token};
use crate::partition::PartitionId;
use crate::planted::PlantedBug;
use crate::time::{Duration, Instant};

use super::event::StoredPosition;

/// How many writes without a known outcome are remembered. One more, and what has come of the first of them is taken for
/// somebody else's: the partition is then delivered anew.
const MAX_IN_DOUBT: usize = 8;

/// The right to store how far a partition's messages are finished.
///
/// It begins with a write under the own token, on the revision of what was read. From then on a former owner's write
/// finds another revision than it expects, and is refused: what is stored moves only under the greatest token.
///
/// Where the store has lost writes, two holds may have been given the same token. Then the last one to begin has the
/// position: the other one finds there what it has not written, and is over.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    token: Token,
    phase: Phase,
    /// What is known to be stored, and the revision that wrote it; none if nothing is.
    stored: Option<(PositionRecord, Revision)>,
    /// What was sent on top of that and may be stored, or may come to be.
    in_doubt: VecDeque<PositionRecord>,
    /// Whether a write of this hold is known to be committed.
    claimed: bool,
    /// Nothing is sent before this instant.
    not_before: Instant,
}

#[derive(Clone, Debug)]
enum Phase {
    /// What is stored is not known, or may have changed.
    Unread,
    Reading(CallId),
    /// It is known.
    Read,
    Writing {
        call: CallId,
        record: PositionRecord,
    },
}

/// What an answer has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HoldNews {
    /// Nothing that the lane needs to know.
    None,
    /// The position was read for the first time; with it, when the stream stored the message that it has there now.
    Read { at: Option<Timestamp> },
    /// A write is committed.
    Committed,
    /// What was read is what this hold has written; with it, when the stream stored the message that it has there now.
    Found { at: Option<Timestamp> },
    /// The hold is over.
    Over(StopReason),
    /// A request has failed, and is sent again.
    Retrying,
}

impl Hold {
    pub(super) fn new(token: Token, now: Instant) -> Self {
        Self { token, phase: Phase::Unread, stored: None, in_doubt: VecDeque::new(), claimed: false, not_before: now }
    }

    pub(super) fn token(&self) -> Token {
        self.token
    }

    /// What is known to be stored.
    pub(super) fn stored(&self) -> Option<&PositionRecord> {
        self.stored.as_ref().map(|(record, _)| record)
    }

    /// Whether this hold has stored something under its token: only then anything may be handed out.
    pub(super) fn is_claimed(&self) -> bool {
        self.claimed
    }

    /// Whether it is known what is stored, and nothing is on its way.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Read)
    }

    pub(super) fn observe_read(&mut self, scope: Scope<'_>, call: CallId, position: StoredPosition) -> HoldNews {
        if !matches!(self.phase, Phase::Reading(reading) if reading == call) {
            return HoldNews::None;
        }
        let (found, at) = match position {
            StoredPosition::Found { record, revision, at } => (Some((record, revision)), at),
            StoredPosition::Missing => (None, None),
            StoredPosition::Unreadable { error } => return HoldNews::Over(StopReason::Unreadable { error }),
        };
        self.phase = Phase::Read;
        let is_fenced =
            |record: &&PositionRecord| record.token > self.token && !scope.has(PlantedBug::StoreThroughFence);
        if let Some((record, _)) = found.as_ref().filter(|(record, _)| is_fenced(&record)) {
            return HoldNews::Over(StopReason::Fenced { by: record.token });
        }
        let is_own = found.as_ref().is_some_and(|(record, _)| self.in_doubt.contains(record));
        let may_be_foreign = !scope.config.own_positions && !scope.has(PlantedBug::OwnByToken);
        if self.claimed && !is_own && may_be_foreign && self.is_foreign(found.as_ref()) {
            return HoldNews::Over(StopReason::Edited);
        }
        // A write without a known outcome may be what was found.
        self.claimed |= is_own;
        let is_first = !self.claimed;
        self.set_stored(found);
        if is_first { HoldNews::Read { at } } else { HoldNews::Found { at } }
    }

    /// Whether what was found was put there by something that does not own the partition: it was written after what this
    /// hold knows, or goes beyond it. A store that has lost writes of this hold has less.
    fn is_foreign(&self, found: Option<&(PositionRecord, Revision)>) -> bool {
        let Some((record, revision)) = found else { return false };
        let Some((known, known_at)) = &self.stored else { return record.token == self.token };
        let is_later = record.token == self.token && revision > known_at;
        is_later || record.seq > known.seq
    }

    /// What is there now. What was sent on top of something else cannot come to be stored any more.
    fn set_stored(&mut self, found: Option<(PositionRecord, Revision)>) {
        let revision = |stored: &Option<(PositionRecord, Revision)>| stored.as_ref().map(|(_, revision)| *revision);
        if revision(&found) != revision(&self.stored) {
            self.in_doubt.clear();
        }
        self.stored = found;
    }

    pub(super) fn observe_written(
        &mut self,
        now: Instant,
        call: CallId,
        outcome: &Outcome,
        retry: Duration,
    ) -> HoldNews {
        let record = match &self.phase {
            Phase::Writing { call: writing, record } if *writing == call => record.clone(),
            Phase::Unread | Phase::Reading(_) | Phase::Read | Phase::Writing { .. } => return HoldNews::None,
        };
        self.phase = Phase::Unread;
        match outcome {
            Outcome::Committed(revision) => {
                self.phase = Phase::Read;
                self.set_stored(Some((record, *revision)));
                self.claimed = true;
                HoldNews::Committed
            }
            // Somebody has written in between: it may have been an earlier write of this hold that got no answer.
            Outcome::Conflict => HoldNews::None,
            Outcome::Refused | Outcome::Unknown => {
                self.not_before = now + retry;
                HoldNews::Retrying
            }
        }
    }

    /// The reading got no answer.
    pub(super) fn observe_failed(&mut self, now: Instant, call: CallId, retry: Duration) -> HoldNews {
        if !matches!(self.phase, Phase::Reading(reading) if reading == call) {
            return HoldNews::None;
        }
        self.phase = Phase::Unread;
        self.not_before = now + retry;
        HoldNews::Retrying
    }

    /// Reads what is stored, where that is not known.
    pub(super) fn read<M>(&mut self, now: Instant, partition: &PartitionId, orders: &mut Orders<M>) {
        if matches!(self.phase, Phase::Unread) && now >= self.not_before {
            let call = orders.call_for(partition, |call, partition| Order::ReadPosition { call, partition });
            self.phase = Phase::Reading(call);
        }
    }

    /// Stores `record`, on the condition that nothing was written since what is known.
    pub(super) fn write<M>(
        &mut self,
        now: Instant,
        partition: &PartitionId,
        record: PositionRecord,
        orders: &mut Orders<M>,
    ) {
        if self.is_settled() && now >= self.not_before {
            let expected = self.stored.as_ref().map(|(_, revision)| *revision);
            let (written, claims) = (record.clone(), !self.claimed);
            let call = orders.call_for(partition, |call, partition| Order::WritePosition {
                call,
                partition,
                expected,
                record: written,
                claims,
            });
            if self.in_doubt.len() == MAX_IN_DOUBT {
                self.in_doubt.pop_front();
            }
            self.in_doubt.push_back(record.clone());
            self.phase = Phase::Writing { call, record };
        }
    }

    /// What is known counts no more: it is read again, not before `not_before`.
    pub(super) fn doubt(&mut self, not_before: Instant) {
        if self.is_settled() {
            self.phase = Phase::Unread;
            self.not_before = not_before;
        }
    }

    /// When it is to be asked again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Unread => Some(self.not_before),
            Phase::Reading(_) | Phase::Read | Phase::Writing { .. } => None,
        }
    }
}
