//! What a worker tells of, in words that a person reads in a log.

use core::fmt::{Display, Formatter, Result};

use crate::action::{
    ClaimKind, EvictReason, Notice, PlanReason, ReleaseReason, StandbyReason, StepDownReason, SuspendReason, WaitReason,
};
use crate::duration::HumanDuration;

impl Display for Notice {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::SlotClaimed { slot, how } => write!(f, "is now {}: {how}", slot.worker_name()),
            Self::Standby { reason, at_most: None } => write!(f, "stands by for a slot: {reason}"),
            Self::Standby { reason, at_most: Some(time) } => {
                write!(f, "stands by for a slot, for {} at most: {reason}", HumanDuration(*time))
            }
            Self::NotPresent { late: false } => f.write_str(
                "asks its own probe subject and hears nothing, though it is connected: others may take it for gone, so it \
                 works on nothing until that is mended. See that it may subscribe and publish to parti.<group>.probe.>, and \
                 that the limit of subscriptions is not reached",
            ),
            Self::NotPresent { late: true } => f.write_str(
                "hears what it asks its own probe subject too late: others may take it for gone, so it works on nothing \
                 until its server is quicker. Where it cannot be, lengthen probe_confirm or turn it off",
            ),
            Self::PresentAgain => f.write_str("hears what it asks its own probe subject in time again"),
            Self::SlotLost { slot } => {
                write!(
                    f,
                    "is {} no longer: another process has the slot, or a leader ended its tenure",
                    slot.worker_name()
                )
            }
            Self::LeadershipGained { term } => write!(f, "leads, in term {term}"),
            Self::LeadershipLost { reason } => write!(f, "leads no longer: {reason}"),
            Self::Evicted { slot, reason } => write!(f, "has evicted {}: {reason}", slot.worker_name()),
            Self::Waiting { reason } => write!(f, "waits before it plans: {reason}"),
            Self::Planned { generation, reason, moved, placed, another_round } => {
                write!(
                    f,
                    "has made plan {generation}, since {reason}: {moved} partitions move, {placed} get an owner"
                )?;
                f.write_str(if *another_round { "; another round follows" } else { "" })
            }
            Self::Resting { slot, deaths, rest } => write!(
                f,
                "gives {} no new work for {}: it has died {deaths} times in a row soon after its start; see why it dies",
                slot.worker_name(),
                HumanDuration(*rest)
            ),
            Self::Unplaced { partitions } => write!(f, "finds no worker that may take {partitions} partitions"),
            Self::WithoutRoom { partitions } => {
                write!(f, "has no room for some partitions in the whole group, which have no owner: ")?;
                for (nth, (priority, count)) in partitions.iter().enumerate() {
                    write!(f, "{}{count} of priority {priority}", if nth == 0 { "" } else { ", " })?;
                }
                f.write_str("; add workers, or raise max_load or max_partitions")
            }
            Self::RoomForAll => f.write_str("has room for all partitions in the group again"),
            Self::PlanRefused { reason } => write!(f, "has no plan, and all stays as it is: {reason}"),
            Self::ReleaseTimedOut { partition } => {
                write!(f, "has cancelled the release of {partition}, which took longer than release_timeout")
            }
            Self::SettingDiffers { leader, difference } => {
                write!(f, "differs from {}, which leads: {difference}", leader.worker_name())
            }
            Self::Undecodable { key, revision, error } => {
                write!(f, "cannot read {key} at revision {revision}, and leaves it as it is: {error}")
            }
            Self::UnreadableReplaced { key, revision } => {
                write!(f, "takes the place of {key} at revision {revision}, which it cannot read: nobody leads by it")
            }
            Self::StoreRegressed { bucket, detail } => {
                write!(f, "has noticed that the bucket {bucket} was made anew or has lost writes: {detail}")
            }
        }
    }
}

impl Display for ClaimKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Fresh => "the slot was free",
            Self::Inherited => "its predecessor left it the slot",
            Self::TakenOver => "its predecessor is dead",
        })
    }
}

impl Display for StandbyReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::NoFreeSlot { first, last } => write!(f, "every slot from {first} to {last} is held"),
            Self::PreferredSlotHeld { slot, holder } => write!(f, "slot {slot}, which it wants, is held by {holder}"),
            Self::PreferredSlotUnreadable { slot } => {
                write!(f, "slot {slot}, which it wants, has a record that this version cannot read")
            }
            Self::OtherVersion { workers } => {
                write!(f, "one of {workers} workers of another software version may be about to leave its slot")
            }
            Self::LearningWhoIsAlive { silent } => {
                write!(f, "{silent} records may be those of dead predecessors, whose slots are better than fresh ones")
            }
        }
    }
}

impl Display for StepDownReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Replaced { by } => write!(f, "{} does", by.worker_name()),
            Self::PlanConflict => f.write_str("the plan may have a write that it did not make"),
            Self::PlanRefused => f.write_str("the store refuses its plan"),
            Self::SlotLost => f.write_str("it has lost its slot"),
            Self::Leaving => f.write_str("it leaves or restarts"),
            Self::RecordGone => f.write_str("the leader record is gone"),
            Self::RecordUnreadable => {
                f.write_str("the leader record was written by a version that this one cannot read")
            }
        }
    }
}

impl Display for EvictReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::LeaseRanOut => "its lease ran out without a renewal",
            Self::NobodyListens => "its process is gone, as probes have seen for probe_confirm",
            Self::RestartHoldRanOut => "it did not come back within restart_hold",
            Self::NoRecord => "the plan names it, but it has no member record",
            Self::Garbled => "garbage has taken the place of its record; delete that to free the slot",
        })
    }
}

impl Display for WaitReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::ColdStart => "more workers may join an empty group",
            Self::WorkersJoined => "more workers may join",
            Self::Restart => "most workers are gone at once, and may come back",
            Self::RebalanceInterval => "the next round is due after rebalance_interval",
            Self::Paused => "an operator has paused rebalancing",
            Self::Maintenance => "in a maintenance, workers that are gone are expected back",
            Self::StoreRegressed => "the store has lost writes, and not every worker has noticed yet",
            Self::NoPartitions => "the list of partitions has not come yet",
            Self::PlanUnreadable => "the plan has a record that this version cannot read; repair or delete it",
        })
    }
}

impl Display for PlanReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Emergency => "partitions have lost their owner",
            Self::ColdStart => "the group begins",
            Self::PartitionsChanged => "the list of partitions changed",
            Self::WorkerLeaving => "a worker leaves",
            Self::WorkersJoined => "workers joined",
            Self::NextRound => "the last plan left something to do",
            Self::Requested => "someone asked for it",
            Self::GivenUp => "an application cannot work on some partitions that its worker has",
            Self::LoadShifted => "the measured load is uneven",
        })
    }
}

impl Display for ReleaseReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Moved => "it goes to another worker, or is no longer in the list",
            Self::Leaving => "this worker leaves",
            Self::Restarting => "this worker restarts, and its successor will have it",
            Self::Evicted => "this worker has lost its slot, or the right to the partition",
        })
    }
}

impl Display for SuspendReason {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::LeaseRanOut => "the lease ran out before a renewal was known to be committed",
            Self::WritesRefused => "the store refuses to renew the lease",
            Self::ConnectionLost => "the connection to the store is gone",
            Self::NotPresent => "the checks of its own presence do not come back, so that others may take it for gone",
            Self::StoreRegressed => "the store has lost writes",
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::ids::{Generation, Slot};

    #[test]
    fn a_notice_is_a_sentence_about_the_worker_with_its_reason() {
        let evicted = Notice::Evicted { slot: Slot::new(3), reason: EvictReason::LeaseRanOut };
        assert_eq!(evicted.to_string(), "has evicted worker-3: its lease ran out without a renewal");
        let planned = Notice::Planned {
            generation: Generation::new(7),
            reason: PlanReason::WorkersJoined,
            moved: 12,
            placed: 1,
            another_round: true,
        };
        assert_eq!(
            planned.to_string(),
            "has made plan 7, since workers joined: 12 partitions move, 1 get an owner; another round follows"
        );
    }
}
