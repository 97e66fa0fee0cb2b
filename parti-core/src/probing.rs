//! Asks, again and again, whether the processes that matter are there.

use crate::action::Action;
use crate::ids::{Instance, Slot};
use crate::outbox::Outbox;
use crate::time::Instant;

/// A leader asks for every member, everyone else for the leader. Only the transport's word that *nobody listens* means
/// anything; a process that is frozen or cut off does not answer, which says nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probing {
    next_at: Instant,
}

impl Probing {
    /// Asks for each of `targets`, and not again before `next_at`.
    pub(crate) fn ask(
        &mut self,
        next_at: Instant,
        targets: impl Iterator<Item = (Slot, Instance)>,
        outbox: &mut Outbox,
    ) {
        self.next_at = next_at;
        for (slot, instance) in targets {
            outbox.push(Action::Probe { slot, instance });
        }
    }

    /// When it is time to ask again.
    pub(crate) fn deadline(&self) -> Instant {
        self.next_at
    }
}
