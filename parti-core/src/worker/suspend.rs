//! When a worker must not work for now, and when it may again.

use super::{Standing, Watched, Worker};
use crate::action::SuspendReason;
use crate::config::Mode;
use crate::lease::Lease;
use crate::planted::PlantedBug;

impl Worker {
    /// Asks itself whether it is still where others would look for it, where they may act on that.
    pub(super) fn check_presence(&mut self) {
        if self.connected {
            self.presence.decide(&self.context, &mut self.outbox);
        }
    }

    /// In `Strict` mode nothing is worked on without a right to.
    pub(super) fn suspend_if_expired(&mut self) {
        if self.context.config.mode != Mode::Strict || self.right_until().is_none() {
            return;
        }
        let expired = self.lease().filter(|lease| !lease.is_valid(self.context.now)).map(why_it_ran_out);
        match expired {
            Some(reason) if !self.context.has(PlantedBug::OutliveLease) => self.suspend(reason),
            None if !self.has_right() => self.suspend(SuspendReason::NotPresent),
            Some(_) | None => {}
        }
    }

    /// All work stops, and what this worker is to hold is read anew before it goes on.
    fn suspend(&mut self, reason: SuspendReason) {
        // A leader looks again as well, and takes over anew: the bucket may have been made anew meanwhile, and have the
        // very revision that its next append expects.
        if !self.ownership.is_suspended() {
            self.plan_watch = None;
        }
        self.ownership.suspend(reason, &mut self.outbox);
    }

    /// Work goes on when a renewal shows that nobody has taken over, and what this worker was told to give up meanwhile
    /// has been seen: a store that has lost writes may have forgotten that it had ended the tenure, and still know whose
    /// the partitions are.
    pub(super) fn resume(&mut self) {
        if !matches!(self.standing, Standing::Holding(_)) || !self.ownership.is_suspended() {
            return;
        }
        // A reply that was slow to be heard may renew a lease that has run out again meanwhile.
        let may_act = self.connected && self.has_right();
        let told = self.plan_watch.as_ref().is_some_and(Watched::is_listed) && !self.ownership.is_doubtful();
        let told = told || self.context.has(PlantedBug::ResumeUnread);
        if may_act && told {
            // First what is to be given up.
            self.work();
            self.ownership.resume(&mut self.outbox);
            self.work();
        }
    }
}

/// Why no renewal was committed in time.
pub(super) fn why_it_ran_out(lease: &Lease) -> SuspendReason {
    if lease.is_refused() { SuspendReason::WritesRefused } else { SuspendReason::LeaseRanOut }
}
