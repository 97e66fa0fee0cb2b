//! How often a run has reached each mechanism. A run that misses one it needs has proven nothing.

use std::collections::BTreeMap;

use parti_core::delivery::{Misfit, Notice as Told, StopReason};
use parti_core::{
    Action, ClaimKind, Event, EvictReason, Key, KvEvent, Notice, Outcome, PlanReason, ProbeOutcome, Record,
    ReleaseReason, StandbyReason, SuspendReason, WaitReason, Write,
};

use super::mark::Mark;
use crate::told::fact::{Fact, Mishap};
use crate::told::message::MessageFact;

/// How often each mark was reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<Mark, u64>);

impl Marks {
    /// How often `mark` was reached.
    pub fn count(&self, mark: Mark) -> u64 {
        self.0.get(&mark).copied().unwrap_or(0)
    }

    /// Those of `required` that were never reached.
    pub fn missed(&self, required: &[Mark]) -> Vec<Mark> {
        required.iter().copied().filter(|mark| self.count(*mark) == 0).collect()
    }

    /// Every mark that was reached, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Mark, u64)> {
        self.0.iter().map(|(mark, count)| (*mark, *count))
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        for (mark, count) in other.iter() {
            *self.0.entry(mark).or_default() += count;
        }
    }

    /// Counts one more.
    pub(crate) fn reach(&mut self, mark: Mark) {
        *self.0.entry(mark).or_default() += 1;
    }

    pub(crate) fn observe(&mut self, fact: &Fact<'_>) {
        if let Some(mark) = mark_of(fact) {
            self.reach(mark);
        }
    }
}

fn mark_of(fact: &Fact<'_>) -> Option<Mark> {
    Some(match fact {
        Fact::Crashed { .. } => Mark::Crashed,
        Fact::Halted { .. } => Mark::Halted,
        Fact::Paused { .. } => Mark::Paused,
        Fact::Draining { reason: ReleaseReason::Moved | ReleaseReason::Leaving, .. } => Mark::Drained,
        Fact::Suspended { reason: SuspendReason::NotPresent, .. } => Mark::NotPresent,
        Fact::Suspended { .. } => Mark::Suspended,
        Fact::Reached { mark, .. } => *mark,
        Fact::Mishap { mishap, .. } => mark_of_mishap(*mishap),
        Fact::Resumed { .. } => Mark::Resumed,
        Fact::Wrote { accepted: false, .. } => Mark::StaleTokenRefused,
        Fact::Stored { outcome: Outcome::Conflict, .. } => Mark::Conflict,
        Fact::Stored { late: true, .. } => Mark::LateWrite,
        Fact::Stored {
            write: Write::Update { key: Key::Slot(_), record, .. }, outcome: Outcome::Committed(_), ..
        } => match record {
            Record::Member(record) if record.load.is_some() => Mark::LoadTold,
            _ => Mark::Renewed,
        },
        Fact::Acquired { .. } => Mark::Acquired,
        Fact::Released { .. } => Mark::Released,
        Fact::Handed { event: Event::Probed { outcome: ProbeOutcome::NobodyListens, .. }, .. } => Mark::NobodyListened,
        Fact::Handed { event: Event::Listening { session, .. }, .. } if session.value() > 1 => Mark::AnotherSession,
        Fact::Handed { event: Event::Kv(event), .. } => return mark_of_news(event),
        Fact::Asked { action: Action::Notice(notice), .. } => return mark_of_notice(notice),
        Fact::Message { what, .. } => return mark_of_message(what),
        Fact::Started { .. }
        | Fact::Woke { .. }
        | Fact::Handed { .. }
        | Fact::Asked { .. }
        | Fact::Status { .. }
        | Fact::Stored { .. }
        | Fact::Draining { .. }
        | Fact::Works { .. }
        | Fact::Stops { .. }
        | Fact::Wrote { .. }
        | Fact::Listed { .. }
        | Fact::Disturbed { .. }
        | Fact::Operated { .. }
        | Fact::Healed
        | Fact::Forgotten { .. }
        | Fact::PlanRegressed { .. }
        | Fact::PlanBroughtBack { .. }
        | Fact::MembersBroughtBack { .. }
        | Fact::Wished { .. }
        | Fact::Remembered { .. } => return None,
    })
}

fn mark_of_message(what: &MessageFact) -> Option<Mark> {
    Some(match what {
        MessageFact::Removed { .. } => Mark::MessagesRemoved,
        MessageFact::SuffixLost { .. } => Mark::SuffixLost,
        MessageFact::MadeAnew { .. } => Mark::StreamMadeAnew,
        MessageFact::PositionStored { .. } => Mark::PositionStored,
        MessageFact::PositionRefused { .. } => Mark::PositionRefused,
        MessageFact::PositionsLost => Mark::PositionsLost,
        MessageFact::Finished { .. } => Mark::MessageFinished,
        MessageFact::Returned { failed: true, .. } => Mark::MessageFailed,
        MessageFact::Returned { failed: false, .. } | MessageFact::Dropped => Mark::MessageInterrupted,
        MessageFact::Kills { .. } => Mark::MessageKilled,
        MessageFact::Buried { .. } => Mark::DeadLetter,
        MessageFact::Told(Told::WentOn { misfit: Misfit::Gap { .. }, .. })
        | MessageFact::Stopped(StopReason::Misfit(Misfit::Gap { .. })) => Mark::GapTold,
        MessageFact::Told(Told::WentOn { .. }) | MessageFact::Stopped(StopReason::Misfit(_)) => Mark::MisfitTold,
        MessageFact::Told(Told::TailLost { .. }) => Mark::TailLost,
        MessageFact::Told(Told::TailSkipped { .. }) => Mark::TailSkipped,
        MessageFact::Stopped(StopReason::Fenced { .. }) => Mark::DeliveryFenced,
        MessageFact::Stopped(
            StopReason::StreamChanged | StopReason::Edited | StopReason::Unfit { .. } | StopReason::Unreadable { .. },
        ) => Mark::DeliveryStopped,
        MessageFact::LetGo => Mark::LetGo,
        MessageFact::Acknowledged { .. } => Mark::Acknowledged,
        MessageFact::Restored => Mark::ConsumerRestored,
        MessageFact::ConsumerDeleted => Mark::ConsumerDeleted,
        MessageFact::ConsumersLost => Mark::ConsumersLost,
        MessageFact::Lagged => Mark::ReplicaLagged,
        MessageFact::Stored { .. } | MessageFact::Begun { .. } | MessageFact::HoldEnded | MessageFact::Told(_) => {
            return None;
        }
    })
}

fn mark_of_mishap(mishap: Mishap) -> Mark {
    match mishap {
        Mishap::RequestLost => Mark::RequestLost,
        Mishap::ReplyLost => Mark::ReplyLost,
        Mishap::FalseConflict => Mark::FalseConflict,
        Mishap::StaleRead => Mark::StaleRead,
        Mishap::PartialListing => Mark::PartialListing,
        Mishap::Unheard => Mark::Unheard,
        Mishap::AskedThrough => Mark::AskedThrough,
        Mishap::FalselyGone => Mark::FalselyGone,
        Mishap::ReplacedWatch => Mark::ReplacedWatch,
        Mishap::OldNews => Mark::OldNews,
    }
}

fn mark_of_news(event: &KvEvent) -> Option<Mark> {
    Some(match event {
        KvEvent::Done { outcome: Outcome::Unknown, .. } => Mark::OutcomeUnknown,
        KvEvent::Done { outcome: Outcome::Refused, .. } => Mark::WriteRefused,
        KvEvent::WatchLost { .. } => Mark::WatchLost,
        KvEvent::Lost => Mark::ConnectionLost,
        KvEvent::Entry { key: Key::Control(_), .. } => Mark::Wished,
        KvEvent::Done { .. }
        | KvEvent::Entry { .. }
        | KvEvent::Deleted { .. }
        | KvEvent::Undecodable { .. }
        | KvEvent::CaughtUp { .. }
        | KvEvent::Restored => return None,
    })
}

fn mark_of_notice(notice: &Notice) -> Option<Mark> {
    Some(match notice {
        Notice::SlotClaimed { how: ClaimKind::Fresh, .. } => Mark::ClaimedFresh,
        Notice::SlotClaimed { how: ClaimKind::Inherited, .. } => Mark::ClaimedInherited,
        Notice::SlotClaimed { how: ClaimKind::TakenOver, .. } => Mark::ClaimedTakenOver,
        Notice::Standby { reason: StandbyReason::OtherVersion { .. }, .. } => Mark::AwaitedOtherVersion,
        Notice::Standby { .. } => Mark::StoodBy,
        Notice::SlotLost { .. } => Mark::SlotLost,
        Notice::LeadershipGained { .. } => Mark::Led,
        Notice::LeadershipLost { .. } => Mark::SteppedDown,
        Notice::Evicted { reason: EvictReason::LeaseRanOut, .. } => Mark::EvictedByLease,
        Notice::Evicted { reason: EvictReason::NobodyListens, .. } => Mark::EvictedByProbe,
        Notice::Evicted {
            reason: EvictReason::RestartHoldRanOut | EvictReason::NoRecord | EvictReason::Garbled,
            ..
        } => Mark::EvictedOtherwise,
        Notice::Planned { reason: PlanReason::Emergency, .. } => Mark::PlannedEmergency,
        Notice::Planned { reason: PlanReason::ColdStart, .. } => Mark::PlannedColdStart,
        Notice::Planned { reason: PlanReason::PartitionsChanged, .. } => Mark::PlannedList,
        Notice::Planned { reason: PlanReason::WorkerLeaving, .. } => Mark::PlannedLeave,
        Notice::Planned { reason: PlanReason::WorkersJoined, .. } => Mark::PlannedJoin,
        Notice::Planned { reason: PlanReason::NextRound, .. } => Mark::PlannedNextRound,
        Notice::Planned { reason: PlanReason::Requested, .. } => Mark::PlannedRequested,
        Notice::Planned { reason: PlanReason::GivenUp, .. } => Mark::PlannedGivenUp,
        Notice::Planned { reason: PlanReason::LoadShifted, .. } => Mark::PlannedLoad,
        Notice::Waiting { reason: WaitReason::Restart } => Mark::WaitedForRestart,
        Notice::Waiting { reason: WaitReason::Maintenance } => Mark::WaitedForMaintenance,
        Notice::ReleaseTimedOut { .. } => Mark::ReleaseTimedOut,
        Notice::PlanRefused { .. } => Mark::PlanRefused,
        Notice::Undecodable { .. } => Mark::Undecodable,
        Notice::WithoutRoom { .. } => Mark::WithoutRoom,
        Notice::RoomForAll => Mark::RoomForAll,
        Notice::StoreRegressed { .. } => Mark::StoreRegressed,
        _ => return None, // the enum is not exhaustive, and the others say nothing about a mechanism
    })
}
