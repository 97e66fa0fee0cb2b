//! Asks, again and again, whether the processes that matter are there.

use crate::action::Action;
use crate::ids::{Instance, Slot};
use crate::outbox::Outbox;
use crate::time::{Duration, Instant};

/// A leader asks for every member, everyone else for the leader. Only the transport's word that *nobody listens* means
/// anything; a process that is frozen or cut off does not answer, which says nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Probing {
    next_at: Instant,
}

impl Probing {
    /// Asks for each of `targets` if it is time. Nothing is asked while `interval` is none.
    pub(crate) fn decide(
        &mut self,
        now: Instant,
        interval: Option<Duration>,
        targets: impl Iterator<Item = (Slot, Instance)>,
        outbox: &mut Outbox,
    ) {
        let Some(interval) = interval.filter(|_| now >= self.next_at) else { return };
        self.next_at = now + interval;
        for (slot, instance) in targets {
            outbox.push(Action::Probe { slot, instance });
        }
    }

    /// When it is time to ask again.
    pub(crate) fn deadline(&self) -> Instant {
        self.next_at
    }
}
