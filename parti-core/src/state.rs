//! The state of a worker as users see it: derived from its parts, not stored.

use core::fmt;

use serde::{Deserialize, Serialize};

/// What a worker is doing, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkerState {
    /// It has not yet heard from the store.
    Init,
    /// It looks for a slot, or waits for one.
    ClaimingId,
    /// It has a slot, and nobody leads yet.
    Election,
    /// Somebody leads, and this worker has no assignment yet.
    WaitingAssignment,
    /// It works on what it owns, and nothing is about to change.
    Stable,
    /// It leads, and waits for more workers before it plans.
    Scaling,
    /// Partitions move: to or from this worker, or anywhere if it leads.
    Rebalancing,
    /// It leads, and partitions of a lost worker are placed.
    Emergency,
    /// The store is out of reach, or has lost writes and this worker is not over it yet.
    Degraded,
    /// It is leaving or restarting, or has stopped.
    Shutdown,
}

impl WorkerState {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Init,
        Self::ClaimingId,
        Self::Election,
        Self::WaitingAssignment,
        Self::Stable,
        Self::Scaling,
        Self::Rebalancing,
        Self::Emergency,
        Self::Degraded,
        Self::Shutdown,
    ];
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the leader's planner is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlannerPhase {
    /// Nothing is to be done.
    #[default]
    Idle,
    /// A window is open in which more workers may join or come back.
    Scaling,
    /// A plan is being carried out.
    Rebalancing,
    /// Partitions of a lost worker are being placed.
    Emergency,
}
