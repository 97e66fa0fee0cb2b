//! The worker: one door in for events, one door out for actions.

use alloc::collections::VecDeque;

use crate::action::Action;
use crate::config::{Config, ConfigError};
use crate::event::Event;
use crate::ids::{Generation, Instance, Slot, Tenure, Term, Token};
use crate::partition::PartitionId;
use crate::state::{PlannerPhase, WorkerState};
use crate::time::Instant;

/// One worker of a group: takes events, gives actions.
#[derive(Debug)]
pub struct Worker {
    actions: VecDeque<Action>,
}

/// A look at a worker: cheap to make, for metrics, tests and checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: WorkerState,
    /// This process.
    pub instance: Instance,
    /// Its slot, if it has one.
    pub slot: Option<Slot>,
    /// Its tenure of the slot.
    pub tenure: Option<Tenure>,
    /// Until when it may act; `None` without a slot. Past that instant it has no right to its partitions.
    pub lease_until: Option<Instant>,
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
    /// How many partitions it holds and is to keep.
    pub owned: usize,
    /// How many partitions it holds and is giving up.
    pub releasing: usize,
    /// Whether it has halted.
    pub halted: bool,
}

impl Worker {
    /// A worker that has heard nothing yet.
    ///
    /// `seed` decides the instance and every other random choice: give each process life another one, from the
    /// operating system's randomness.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the config breaks a rule.
    pub fn new(config: Config, seed: u64, now: Instant) -> Result<Self, ConfigError> {
        config.validate()?;
        let _ = (seed, now);
        Ok(Self { actions: VecDeque::new() })
    }

    /// Takes in one event. Never fails, whatever the event says.
    pub fn handle(&mut self, now: Instant, event: Event) {
        let _ = (now, event);
    }

    /// The next thing to do; drain to `None` after each [`handle`](Self::handle).
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`handle`](Self::handle) with [`Event::Timeout`] if nothing else happens; changes nothing.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// A cheap look at the worker.
    pub fn status(&self) -> Status {
        unreachable!("skeleton")
    }

    /// The partitions that it holds, with their tokens, in order; those that it is giving up included.
    pub fn held(&self) -> impl Iterator<Item = (&PartitionId, Token)> {
        core::iter::empty()
    }
}
