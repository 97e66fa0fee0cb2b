//! What the applications of a cluster were told, and what they have said.

use std::time::Duration;

use parti_core::{PartitionId, ReleaseReason, SuspendReason, Token};

/// Which process of the cluster a handler is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// The number of the worker, counted from 0 in order of the first starts.
    pub worker: u32,
    /// How many processes this worker had before this one.
    pub restarts: u32,
}

/// What an application was told or has said, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How long after the start of the cluster.
    pub at: Duration,
    /// In which worker's process.
    pub life: Life,
    /// What.
    pub call: Call,
}

/// What an application was told, as its worker told it, or has said of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// It may work on a partition, and its handler begins.
    Acquired {
        /// Which partition.
        partition: PartitionId,
        /// The token of this hold.
        token: Token,
    },
    /// A partition will probably come.
    Prepare {
        /// Which partition.
        partition: PartitionId,
    },
    /// It is to finish its work on a partition.
    Release {
        /// Which partition.
        partition: PartitionId,
        /// Why.
        reason: ReleaseReason,
    },
    /// A release took too long: what is left of the work is to be dropped.
    Cancelled {
        /// Which partition.
        partition: PartitionId,
    },
    /// A release is over: the work has stopped.
    Released {
        /// Which partition.
        partition: PartitionId,
    },
    /// A handler has ended though nobody has asked it to: nobody works on a partition that stays here.
    Ended {
        /// Which partition.
        partition: PartitionId,
        /// Why, as the handler said it.
        reason: String,
    },
    /// A partition that nobody works on is offered again, and its handler begins anew.
    Offered {
        /// Which partition.
        partition: PartitionId,
    },
    /// All work is to stop at once, and every partition stays, to be gone on with or taken away.
    Suspended {
        /// Why.
        reason: SuspendReason,
    },
    /// The work goes on, with the same tokens.
    Resumed,
    /// The worker has left or restarts, having released everything; the process ends.
    Stopped,
}
