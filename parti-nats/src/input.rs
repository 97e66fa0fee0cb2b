//! What comes from the application, and from what reads for it.

use parti_core::{Event, HandlerEnd, PartitionId, Token};

/// What comes from the application.
#[derive(Debug)]
pub(crate) enum Input {
    /// For the core.
    Event(Event),
    /// A guard was dropped.
    Finished { partition: PartitionId, token: Token, end: HandlerEnd },
    /// The application wants another worker to have a partition.
    GiveBack { partition: PartitionId },
}
