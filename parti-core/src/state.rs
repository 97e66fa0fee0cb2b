//! The state of a worker as users see it, and what its planner is doing: derived from its parts, not stored.

use core::fmt;

use serde::{Deserialize, Serialize};

/// What a worker is doing, in one word.
///
/// It is derived anew after each event, so it can change only there, and only as this table says ([`may_become`] reads
/// it): from the state at the left to the states marked in its row.
///
/// | from ╲ to           | Cl | El | Wa | St | Sc | Re | Em | De | Sh |
/// | ------------------- | -- | -- | -- | -- | -- | -- | -- | -- | -- |
/// | `Init`              | ×  |    |    |    |    |    |    | ×  | ×  |
/// | `ClaimingId`        |    | ×  | ×  | ×  |    | ×  |    | ×  | ×  |
/// | `Election`          | ×  |    | ×  | ×  | ×  | ×  | ×  | ×  | ×  |
/// | `WaitingAssignment` | ×  | ×  |    | ×  | ×  | ×  | ×  | ×  | ×  |
/// | `Stable`            | ×  | ×  |    |    | ×  | ×  | ×  | ×  | ×  |
/// | `Scaling`           | ×  | ×  | ×  | ×  |    | ×  | ×  | ×  | ×  |
/// | `Rebalancing`       | ×  | ×  | ×  | ×  | ×  |    | ×  | ×  | ×  |
/// | `Emergency`         | ×  | ×  | ×  | ×  | ×  | ×  |    | ×  | ×  |
/// | `Degraded`          | ×  | ×  | ×  | ×  | ×  | ×  | ×  |    | ×  |
/// | `Shutdown`          |    |    |    |    |    |    |    |    |    |
///
/// In words:
///
/// - `Init` is never entered again, and `Shutdown` never left.
/// - Nothing is worked on before a slot is held: `Init` leads to `ClaimingId`. From there a worker goes to `Election` or
///   `WaitingAssignment`; to `Stable` or `Rebalancing` only where the claim was committed long before this worker
///   learnt of it. It does not lead at once.
/// - A worker that has an assignment keeps it until it loses its slot or its lease: `Stable` does not lead to
///   `WaitingAssignment`. (A leader that has none of its own returns there when its planner is done.)
/// - Any worker that holds a slot can lose it (`ClaimingId`), its leader (`Election`), the store (`Degraded`), and be
///   told to stop (`Shutdown`). What it resumes as after `Degraded` is what became of the group meanwhile.
///
/// [`may_become`]: Self::may_become
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// It has not yet heard from the store.
    Init,
    /// It looks for a slot, or waits for one.
    ClaimingId,
    /// It has a slot, and nobody leads.
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
    /// The store is out of reach, or has lost writes; [`Status::degraded`](crate::Status::degraded) says which.
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

    /// Whether a worker in this state may be in the state `next` after one more event. Every state may stay.
    #[allow(clippy::match_same_arms)] // Each arm says for another reason what cannot be.
    pub const fn may_become(self, next: Self) -> bool {
        use WorkerState::{
            ClaimingId, Degraded, Election, Emergency, Init, Rebalancing, Scaling, Shutdown, Stable, WaitingAssignment,
        };
        match (self, next) {
            (Init, Init | ClaimingId | Degraded | Shutdown) | (Shutdown, Shutdown) => true,
            (Init | Shutdown, _) | (_, Init) => false,
            (ClaimingId, Scaling | Emergency) | (Stable, WaitingAssignment) => false,
            (
                ClaimingId | Election | WaitingAssignment | Stable | Scaling | Rebalancing | Emergency | Degraded,
                ClaimingId | Election | WaitingAssignment | Stable | Scaling | Rebalancing | Emergency | Degraded
                | Shutdown,
            ) => true,
        }
    }

    /// Whether a worker in this state may lead with a planner in `phase`; none stands for a worker that does not lead.
    ///
    /// A leader's state is what its planner is doing, as long as that is not `Idle`. Where its own work is suspended or
    /// it is about to stop, that comes first, whatever its planner is doing. Without a slot, nobody leads.
    pub const fn may_have(self, phase: Option<PlannerPhase>) -> bool {
        match self {
            Self::Init | Self::ClaimingId | Self::Election => phase.is_none(),
            Self::WaitingAssignment | Self::Stable => matches!(phase, None | Some(PlannerPhase::Idle)),
            Self::Rebalancing => matches!(phase, None | Some(PlannerPhase::Idle | PlannerPhase::Rebalancing)),
            Self::Scaling => matches!(phase, Some(PlannerPhase::Scaling)),
            Self::Emergency => matches!(phase, Some(PlannerPhase::Emergency)),
            Self::Degraded | Self::Shutdown => true,
        }
    }
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What the leader's planner is doing.
///
/// Each phase may follow each other one, and a new leader may begin with any: it finds what another has left.
///
/// | phase         | begins                                        | ends                                              |
/// | ------------- | --------------------------------------------- | ------------------------------------------------- |
/// | `Idle`        | nothing is left to do, or to be done yet      | with one of the others                            |
/// | `Scaling`     | workers joined, or most went at once          | the window closes: `Rebalancing`, or `Idle` where |
/// |               |                                               | nothing is to move yet; or with an `Emergency`    |
/// | `Rebalancing` | a plan is made                                | every move of it is done: `Idle`, or `Scaling`    |
/// |               |                                               | where others joined meanwhile; or an `Emergency`  |
/// | `Emergency`   | a worker is lost; it overrides every window   | every move is done: `Idle`, or `Scaling`; or with |
/// |               |                                               | the plan that restores the balance                |
///
/// What is checked is that it agrees with the worker's state: [`WorkerState::may_have`].
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

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::{String, ToString};

    use super::*;

    #[test]
    fn the_published_table_says_what_the_code_says() {
        let source = include_str!("state.rs");
        for from in WorkerState::ALL {
            let marks =
                WorkerState::ALL[1..].iter().map(|to| if from != *to && from.may_become(*to) { "×" } else { " " });
            let cells = marks.fold(String::new(), |cells, mark| cells + " " + mark + "  |");
            let row = format!("/// | {:<19} |{cells}", format!("`{from}`"));
            assert!(source.contains(&row), "the table should have the row\n{row}");
        }
    }

    #[test]
    fn every_state_may_stay_and_only_the_first_is_never_entered() {
        for state in WorkerState::ALL {
            assert!(state.may_become(state), "{state}");
            let entered = WorkerState::ALL.iter().any(|from| *from != state && from.may_become(state));
            assert_eq!(entered, state != WorkerState::Init, "{state}");
        }
    }

    #[test]
    fn a_state_is_shown_by_its_name() {
        assert_eq!(WorkerState::WaitingAssignment.to_string(), "WaitingAssignment");
    }
}
