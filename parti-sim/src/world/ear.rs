//! Where a process listens for probes.

use parti_core::{CheckId, Session};

use super::clock::Moment;

/// A process's subscription of its probe subject, and the connection that it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ear {
    /// The server that the connection ends at.
    pub(crate) server: u32,
    /// Counts the connections of this process.
    pub(crate) connection: u64,
    /// What its adapter has told its worker last.
    pub(crate) session: Session,
    /// Which of its subscriptions the server has, if it has any.
    pub(crate) subscribed: Option<Session>,
    /// Until when the server takes no subscription of it.
    pub(crate) refused_until: Moment,
    /// The last check that its worker has asked for.
    pub(crate) last_check: CheckId,
}

impl Ear {
    /// Whether a server has its subscription.
    pub(crate) const fn listens(&self) -> bool {
        self.subscribed.is_some()
    }

    /// Whether the server takes no subscription of it.
    pub(crate) fn is_refused(&self, now: Moment) -> bool {
        now < self.refused_until
    }
}
