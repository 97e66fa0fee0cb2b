//! When a worker must not work for now, and when it may again.

use super::{Standing, Watched, Worker};
use crate::action::SuspendReason;
use crate::config::Mode;
use crate::lease::Lease;
use crate::planted::PlantedBug;
use crate::time::{Duration, Instant};

impl Worker {
    /// For how long this process may not run before it has to doubt what it knows; none where nobody else would act on
    /// that. Others evict a worker early if nobody has listened there for `probe_confirm`. They can see that of one that
    /// is frozen while its connection is closed, and it cannot.
    pub(super) fn may_seem_gone(&self) -> Option<Duration> {
        self.timing.unseen.filter(|_| self.lease().is_some())
    }

    /// Until when this process certainly has not been frozen for too long, see [`may_seem_gone`](Self::may_seem_gone).
    pub(super) fn runs_until(&self) -> Option<Instant> {
        self.may_seem_gone().map(|limit| self.now + limit)
    }

    /// Others may have seen this process gone, and evicted it: nothing is worked on before a renewal shows that nobody
    /// has.
    pub(super) fn suspend_as_seen_gone(&mut self, reason: SuspendReason) {
        self.suspend(reason);
        if let Standing::Holding(lease) = &mut self.standing {
            lease.renew_at_once(self.now);
        }
    }

    /// In `Strict` mode nothing is worked on without a right to.
    pub(super) fn suspend_if_expired(&mut self) {
        let expired = self.lease().filter(|lease| lease.until().is_some() && !lease.is_valid(self.now));
        let expired = expired.map(why_it_ran_out);
        let strict = self.config.mode == Mode::Strict && !self.timing.planted.has(PlantedBug::OutliveLease);
        if let Some(reason) = expired.filter(|_| strict) {
            self.suspend(reason);
        }
    }

    /// All work stops, and what this worker is to hold is read anew before it goes on.
    fn suspend(&mut self, reason: SuspendReason) {
        // A leader needs no second look: its next append tells.
        if !self.ownership.is_suspended() && !self.leadership.needs_everything() {
            self.plan_watch = None;
        }
        self.ownership.suspend(self.now, reason, &mut self.outbox);
    }

    /// Work goes on when a renewal shows that nobody has taken over, and what this worker was told to give up meanwhile
    /// has been seen: a store that has lost writes may have forgotten that it had ended the tenure, and still know whose
    /// the partitions are.
    pub(super) fn resume(&mut self) {
        let Standing::Holding(lease) = &self.standing else { return };
        let renewed = lease.renewed_at().is_some_and(|sent_at| self.ownership.may_resume(sent_at))
            || self.timing.planted.has(PlantedBug::ResumeUnrenewed);
        // A reply that was slow to be heard may renew a lease that has run out again meanwhile.
        let may_act = self.connected && renewed && lease.is_valid(self.now);
        let told = self.plan_watch.as_ref().is_some_and(Watched::is_listed) && !self.ownership.is_doubtful();
        if self.ownership.is_suspended() && may_act && told {
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
