//! What others see of a worker.

use alloc::vec::Vec;

use serde::Serialize;

use super::Worker;
use super::mind::{Mind, Standing};
use super::suspend::why_it_ran_out;
use crate::action::SuspendReason;
use crate::fleet::Fleet;
use crate::ids::{Generation, Instance, Slot, Tenure, Term};
use crate::leader::Leader;
use crate::member::lease::Lease;
use crate::member::load::LoadStatus;
use crate::member::membership::LeaderKey;
use crate::state::{PlannerPhase, WorkerState};
use crate::stored::key::{Control, Key};
use crate::stored::settings::Difference;
use crate::time::{Instant, in_millis};

/// A look at a worker: cheap to make, for metrics, tests and checks.
#[allow(clippy::struct_excessive_bools)] // Independent facts, each of interest by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// What it is doing.
    pub state: WorkerState,
    /// Why its state is [`Degraded`](WorkerState::Degraded), if it is.
    pub degraded: Option<SuspendReason>,
    /// This process.
    pub instance: Instance,
    /// Its slot, if it has one.
    pub slot: Option<Slot>,
    /// Its tenure of the slot.
    pub tenure: Option<Tenure>,
    /// Until when it may act, unless it is given an event before: the earlier of `lease_end` and `presence_end`. `None`
    /// without a slot. Past that instant it has no right to its partitions.
    #[serde(serialize_with = "in_millis")]
    pub lease_until: Option<Instant>,
    /// When its lease ends, by the last renewal that is known to be committed.
    #[serde(serialize_with = "in_millis")]
    pub lease_end: Option<Instant>,
    /// When its presence ends, by the last check that has come back; `None` where that limits nothing, or before the first.
    #[serde(serialize_with = "in_millis")]
    pub presence_end: Option<Instant>,
    /// Whether its work is suspended.
    pub suspended: bool,
    /// Whether it leads: established in the plan, and its lease has not run out.
    pub leader: bool,
    /// The term of its leadership, if it leads.
    pub term: Option<Term>,
    /// The generation of the newest plan that it knows.
    pub generation: Generation,
    /// What its planner is doing, if it leads.
    pub planner: Option<PlannerPhase>,
    /// What it sees of the whole group, if it leads.
    pub fleet: Option<Fleet>,
    /// How many partitions it holds and is to keep.
    pub owned: usize,
    /// How many partitions it holds and is giving up.
    pub releasing: usize,
    /// Whether the application wants it to own nothing.
    pub draining: bool,
    /// What operators want, if this worker leads; others do not watch it.
    pub controls: Vec<Control>,
    /// In what it differs from the leader, if another worker leads, though the whole group should have the same.
    pub differences: Vec<Difference>,
    /// If it leads: the slots whose processes have died soon after their start. Whoever is in them gets no new work for now,
    /// unless that holds for too many.
    pub resting: Vec<Slot>,
    /// What measuring the load of its partitions has come to.
    pub load: LoadStatus,
    /// The records that it has seen and cannot read.
    pub unreadable: Vec<Key>,
    /// Whether it has seen an assignment of its own, be it an empty one.
    pub assigned: bool,
    /// Whether it has halted.
    pub halted: bool,
}

impl Worker {
    /// How often it has decided anything. While that stays the same, so does all of its [`status`](Self::status) but
    /// [`lease_until`](Status::lease_until) and what it comes from: most events are no reason to look at it again.
    pub const fn decisions(&self) -> u64 {
        self.decisions
    }

    /// A cheap look at the worker.
    pub fn status(&self) -> Status {
        self.mind.status()
    }
}

impl Mind {
    fn status(&self) -> Status {
        let lease = self.lease();
        let term = self.leadership.term().filter(|_| self.may_lead());
        let state = self.state();
        Status {
            state,
            degraded: self.degraded().filter(|_| state == WorkerState::Degraded),
            instance: self.own.instance,
            slot: lease.map(|lease| lease.slot),
            tenure: lease.map(|lease| lease.tenure),
            lease_until: self.right_until(),
            lease_end: lease.and_then(Lease::until),
            presence_end: lease.filter(|_| self.context.timing.needs_presence).and_then(|_| self.presence.until()),
            suspended: self.ownership.is_suspended(),
            leader: term.is_some(),
            term,
            generation: self.ownership.assignment().map(|assignment| assignment.generation).unwrap_or_default(),
            planner: self.planner(),
            fleet: self.leader.as_ref().filter(|_| term.is_some()).map(Leader::fleet),
            owned: self.ownership.owned_count(),
            releasing: self.ownership.releasing_count(),
            draining: self.departure.draining,
            controls: if term.is_some() { self.membership.controls().collect() } else { Vec::new() },
            differences: self.agreement.differences().to_vec(),
            resting: self.leader.as_ref().filter(|_| term.is_some()).map(Leader::resting).unwrap_or_default(),
            load: self.loads.status(),
            unreadable: self.reported.keys().copied().collect(),
            assigned: self.ownership.has_assignment(),
            halted: self.halted,
        }
    }

    /// Whether the store has lost writes, and this worker is not over it yet.
    fn is_recovering(&self) -> bool {
        self.loss.starting_over || self.leader.as_ref().is_some_and(Leader::is_recovering)
    }

    fn state(&self) -> WorkerState {
        if self.halted || self.departure.stop.is_some() {
            return WorkerState::Shutdown;
        }
        if !self.predecessor.looked_for {
            return WorkerState::Init;
        }
        if self.degraded().is_some() {
            return WorkerState::Degraded;
        }
        if self.right_until().is_none() {
            return WorkerState::ClaimingId;
        }
        let nobody_leads = matches!(self.membership.leader(), LeaderKey::Absent | LeaderKey::Deleted { .. });
        match self.planner() {
            Some(PlannerPhase::Scaling) => WorkerState::Scaling,
            Some(PlannerPhase::Emergency) => WorkerState::Emergency,
            Some(PlannerPhase::Rebalancing) => WorkerState::Rebalancing,
            None if nobody_leads => WorkerState::Election,
            None | Some(PlannerPhase::Idle) if !self.ownership.has_assignment() => WorkerState::WaitingAssignment,
            None | Some(PlannerPhase::Idle) if self.ownership.is_changing() => WorkerState::Rebalancing,
            None | Some(PlannerPhase::Idle) => WorkerState::Stable,
        }
    }

    /// What the planner is doing, if this worker leads and may decide.
    fn planner(&self) -> Option<PlannerPhase> {
        self.leader.as_ref().filter(|_| self.may_lead()).map(Leader::phase)
    }

    /// Why the store is of no use, if it is: the connection is gone, or no renewal has been committed for a lease, or none
    /// since the connection came back, or it refuses what this worker writes.
    fn degraded(&self) -> Option<SuspendReason> {
        if !self.link.connected {
            return Some(SuspendReason::ConnectionLost);
        }
        if self.is_recovering() {
            return Some(SuspendReason::StoreRegressed);
        }
        if self.is_absent() {
            return Some(SuspendReason::NotPresent);
        }
        let lease = match &self.standing {
            Standing::Seeking(search) => return search.is_refused().then_some(SuspendReason::WritesRefused),
            Standing::Holding(lease) => lease,
        };
        if lease.until().is_some() && !lease.is_valid(self.context.now) {
            return Some(why_it_ran_out(lease));
        }
        if self.right_until().is_some() && !self.has_right() {
            return Some(SuspendReason::NotPresent);
        }
        self.ownership.suspended_for()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, Instant, Worker};

    #[test]
    fn a_status_is_one_line_of_json() {
        let worker = Worker::new(Config::default(), 1, Instant::from_millis(5)).expect("a valid config");
        let status = serde_json::to_value(worker.status()).expect("plain data");
        assert_eq!((&status["state"], &status["slot"], &status["owned"]), (&"init".into(), &().into(), &0.into()));
    }
}
