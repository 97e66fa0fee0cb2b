//! A stop under way, or a worker that is to own nothing.

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::time::Instant;

/// Whether this worker is about to go, or to give everything away.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Departure {
    /// Whether the application wants this worker to own nothing.
    pub(super) draining: bool,
    pub(super) stop: Option<Stop>,
}

/// What becomes of the slot when a worker stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Parting {
    /// Others take over, and the tenure ends.
    Leave,
    /// The successor goes on in it.
    Restart,
}

/// A stop under way.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Stop {
    pub(super) parting: Parting,
    /// When to release what nobody has taken over.
    pub(super) patience_until: Instant,
    /// When to wait no longer: first for the application, which has been told to cancel everything by then, and then
    /// for anything.
    pub(super) give_up_at: Instant,
    /// Whether the application has had time to cancel everything.
    pub(super) cancelled: bool,
}

impl Stop {
    pub(super) fn new(parting: Parting, context: &Context) -> Self {
        let patience_until = context.now + context.config.release_timeout;
        Self { parting, patience_until, give_up_at: patience_until + context.config.release_timeout, cancelled: false }
    }

    /// Whether others have had time to take over.
    pub(super) fn is_impatient(&self, now: Instant) -> bool {
        now >= self.patience_until
    }
}
