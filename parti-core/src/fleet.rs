//! The group in numbers.

use serde::Serialize;

/// A leader's count of the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fleet {
    /// The workers that share the work, those that are about to come back from a restart included.
    pub workers: usize,
    /// The partitions in the list.
    pub partitions: usize,
    /// The partitions that no worker holds, by the plan: those of a worker that has just crashed count once its tenure
    /// has ended.
    pub unowned: usize,
    /// Those of them that no worker has room for within its limit, by the last plan.
    pub without_room: usize,
    /// Whether the last plan was refused, so that the assignment is not what it should be.
    pub refused: bool,
}
