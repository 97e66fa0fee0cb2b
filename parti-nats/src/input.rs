//! What comes from the application, and from what reads for it.

use parti_core::{Event, PartitionId, Token};

/// What comes from the application.
#[derive(Debug)]
pub(crate) enum Input {
    /// For the core.
    Event(Event),
    /// A guard was dropped.
    Finished { partition: PartitionId, token: Token, end: GuardEnd },
    /// The application wants another worker to have a partition.
    GiveBack { partition: PartitionId },
}

/// Why a guard is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GuardEnd {
    /// It was dropped.
    Dropped,
    /// Its handler could not go on.
    Failed(String),
    /// Its handler wants another worker to have the partition.
    GivenBack,
}
