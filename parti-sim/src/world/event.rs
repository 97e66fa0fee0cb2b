//! What is still to happen in a world.

use std::time::Duration;

use parti_core::{
    Bucket, CheckId, Incarnation, Instance, KvEvent, OperationId, Outcome, ProbeId, ProbeOutcome, Request, Revision,
    Session, Token, WatchId,
};

use super::clock::Moment;
use super::messages::Errand;
use super::store::LifeAndPurges;
use crate::setting::birth::Birth;
use crate::told::fact::{PartitionIndex, ProcessId};

/// Something that is still to happen.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// A worker's timer fires, if it is still set to this moment.
    Timer { process: ProcessId },
    /// A request reaches the store.
    Arrive { process: ProcessId, request: Box<Request>, sent: Moment },
    /// The store's answer reaches the worker.
    Reply { process: ProcessId, operation: OperationId, outcome: Outcome, sent: Moment },
    /// A worker's client waits no longer for an answer.
    GiveUp { process: ProcessId, operation: OperationId },
    /// The store reads the current values for a watch.
    ReadSnapshot { process: ProcessId, bucket: Bucket, watch: WatchId },
    /// A watch shows something.
    Show { process: ProcessId, bucket: Bucket, watch: WatchId, shown: Shown },
    /// A worker's adapter reads its watches again, for safety.
    Reread { process: ProcessId },
    /// Something on its way to or from a subscription of a probe subject.
    Ear(Step),
    /// A client notices that its connection is dead, if it is still the same break.
    NoticeBreak { process: ProcessId, epoch: u64 },
    /// A client is connected again, if nothing has come between.
    Reconnect { process: ProcessId, epoch: u64 },
    /// A worker is told that a partition was released, which a planted bug says too early.
    ReportReleased { process: ProcessId, partition: PartitionIndex, token: Token },
    /// An application is done with a partition.
    Drained { process: ProcessId, partition: PartitionIndex, token: Token },
    /// An application writes for one of its partitions.
    AppWrite { process: ProcessId },
    /// An application reports how heavy its partitions are.
    Report { process: ProcessId },
    /// A paused process runs again.
    Wake { process: ProcessId },
    /// The right of a process that was asleep may be over before its late timer fires.
    RightEnds { process: ProcessId },
    /// A process is born.
    Start { birth: Birth },
    /// The first of two that are after the slot of a dead one is cut off, and the second starts.
    Race { first: ProcessId, cut_off: Duration },
    /// An operator deletes what is not a record.
    ClearGarbage,
    /// A link that was broken for a while is mended.
    Mend { process: ProcessId, epoch: u64 },
    /// Something happens to messages.
    Delivery(Errand),
}

impl What {
    /// Whether it is a request on its way to the store.
    pub(crate) const fn is_request(&self) -> bool {
        matches!(self, Self::Arrive { .. } | Self::Delivery(Errand::Arrive { .. }))
    }

    /// The process that must run for this to happen; none for what happens elsewhere.
    pub(crate) const fn needs(&self) -> Option<ProcessId> {
        match self {
            Self::Timer { process }
            | Self::Reply { process, .. }
            | Self::GiveUp { process, .. }
            | Self::Show { process, .. }
            | Self::Reread { process }
            | Self::NoticeBreak { process, .. }
            | Self::Reconnect { process, .. }
            | Self::Drained { process, .. }
            | Self::ReportReleased { process, .. }
            | Self::AppWrite { process }
            | Self::Report { process }
            | Self::RightEnds { process } => Some(*process),
            Self::Ear(step) => step.needs(),
            Self::Delivery(errand) => errand.needs(),
            Self::Arrive { .. }
            | Self::ReadSnapshot { .. }
            | Self::Wake { .. }
            | Self::Start { .. }
            | Self::Race { .. }
            | Self::ClearGarbage
            | Self::Mend { .. } => None,
        }
    }
}

/// What a watch shows.
#[derive(Clone, Debug)]
pub(crate) enum Shown {
    /// The current values, and that these are all: in which life of the bucket, up to which revision of it.
    Snapshot(Vec<KvEvent>, LifeAndPurges, Revision),
    /// A change, in this life of the bucket.
    Change(KvEvent, Incarnation),
    /// The end of a snapshot, which was heard in this epoch of the connection and has waited in the worker's queue since.
    End(Incarnation, Revision, u64),
    /// That it has broken.
    Lost,
}

/// Something on its way to or from a subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A subscription reaches the server.
    Subscribe { process: ProcessId, connection: u64, session: Session },
    /// The client hears that the server has taken a subscription away.
    Refused { process: ProcessId, session: Session },
    /// A check reaches the server.
    Check { process: ProcessId, connection: u64, session: Session, check: CheckId },
    /// A check comes back to the process.
    Back { process: ProcessId, connection: u64, session: Session, check: CheckId },
    /// A process hears a question, and answers.
    Heard { process: ProcessId },
    /// A probe reaches the server of the process that asks, be it `process` itself or another one for it.
    Ask { process: ProcessId, by: ProcessId, connection: u64, probe: ProbeId, instance: Instance, sent: Moment },
    /// What came of a probe reaches the worker that wanted to know.
    Answer { process: ProcessId, by: ProcessId, connection: u64, probe: ProbeId, server: u32, outcome: ProbeOutcome },
}

impl Step {
    /// The process that wants to know, and its probe, if this is about one.
    pub(crate) const fn asks(&self) -> Option<(ProcessId, ProbeId)> {
        match self {
            Self::Ask { process, probe, .. } | Self::Answer { process, probe, .. } => Some((*process, *probe)),
            Self::Subscribe { .. }
            | Self::Refused { .. }
            | Self::Check { .. }
            | Self::Back { .. }
            | Self::Heard { .. } => None,
        }
    }

    /// The process that must run for this to happen; none for what happens at a server.
    pub(crate) const fn needs(&self) -> Option<ProcessId> {
        match self {
            Self::Refused { process, .. }
            | Self::Back { process, .. }
            | Self::Heard { process }
            | Self::Answer { process, .. } => Some(*process),
            Self::Subscribe { .. } | Self::Check { .. } | Self::Ask { .. } => None,
        }
    }
}
