//! Leader: ends the tenures of workers that have stopped.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::{EvictReason, Notice, WaitReason, Write};
use crate::context::Context;
use crate::event::Outcome;
use crate::ids::{OperationId, Revision, Slot};
use crate::member::membership::{Membership, TenureState};
use crate::member::probing::Probing;
use crate::outbox::Outbox;
use crate::planted::PlantedBug;
use crate::stored::key::Key;
use crate::stored::plan_log::PlanLog;
use crate::stored::record::MemberPhase;
use crate::time::{Duration, Instant, earliest};

/// The evictions under way. Each is a delete on the very revision whose lease ran out: a worker that has renewed
/// meanwhile makes it fail.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Eviction {
    in_flight: BTreeMap<OperationId, (Slot, EvictReason)>,
    /// Evictions that have succeeded and of which nobody was told yet.
    untold: Vec<(Slot, EvictReason)>,
    /// Tried without success: not again before this instant, unless something new is seen of the slot.
    tried: BTreeMap<Slot, (Revision, Instant)>,
    /// Since when there was no record of tenures that the plan names.
    missing: BTreeMap<Slot, Instant>,
    /// The wait for workers that went silent at once, more than a crash explains.
    patience: Option<Patience>,
    /// When the first of the workers that a maintenance holds is waited for no longer.
    held_until: Option<Instant>,
    /// The slots whose leases have run out and whose records are still there.
    silent: Vec<Slot>,
    /// Whether, at the last look, there were workers who would have been evicted but for that wait.
    waits: bool,
    /// The state of the members at the last look.
    looked_at: u64,
    /// When the next look is due if nothing changes.
    next_look: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Patience {
    until: Instant,
    /// How many were silent at the last look.
    silent: usize,
}

/// The parts from which evictions are decided.
pub(crate) struct Judge<'a> {
    pub(crate) context: &'a Context,
    pub(crate) own_slot: Slot,
    pub(crate) plan: &'a PlanLog,
    pub(crate) probing: &'a Probing,
}

impl Eviction {
    /// Takes in the outcome of an eviction, and tells whose and why.
    pub(crate) fn observe_done(
        &mut self,
        context: &Context,
        operation: OperationId,
        outcome: Outcome,
        membership: &mut Membership,
    ) -> Option<(Slot, EvictReason)> {
        let (slot, reason) = self.in_flight.remove(&operation)?;
        match outcome {
            Outcome::Committed(revision) => {
                self.tried.remove(&slot);
                membership.observe_deleted(context, Key::Slot(slot), revision);
                self.untold.push((slot, reason));
            }
            Outcome::Conflict => {
                let expected = self.tried.get(&slot).map(|(expected, _)| *expected).unwrap_or_default();
                membership.observe_refused(context, Key::Slot(slot), expected);
            }
            Outcome::Refused | Outcome::Unknown => {}
        }
        Some((slot, reason))
    }

    /// Says whose tenures have been ended since it said so last.
    pub(crate) fn tell_evicted(&mut self, outbox: &mut Outbox) {
        for (slot, reason) in self.untold.drain(..) {
            outbox.notice(Notice::Evicted { slot, reason });
        }
    }

    /// The slots whose leases have run out, as far as this leader could hear, and whose records are still there.
    pub(crate) fn silent(&self) -> &[Slot] {
        &self.silent
    }

    /// Whether it is being found out whether there really is no record of a tenure that the plan names: the store may
    /// have forgotten that already, and the news of that may come before the outcome.
    pub(crate) fn asks_for_record(&self) -> bool {
        self.in_flight.values().any(|(_, reason)| *reason == EvictReason::NoRecord)
    }

    /// Whether so many workers are silent that they are waited for, rather than taken for dead.
    fn waits_for_restart(&self, now: Instant) -> bool {
        self.patience.is_some_and(|patience| now < patience.until)
    }

    /// Whether, at the last look, workers that went silent at once were being waited for.
    pub(crate) fn waits(&self) -> bool {
        self.waits
    }

    /// Evicts every worker whose lease, or time to come back, has run out. O(1) where nothing has changed.
    pub(crate) fn decide(&mut self, view: &Judge<'_>, membership: &mut Membership, outbox: &mut Outbox) {
        // Its own silence it cannot hear; whether its lease holds it knows better.
        let mut expired = membership.expired(view.context.now);
        expired.retain(|slot| *slot != view.own_slot);
        self.silent.clone_from(&expired);
        let held = self.held_until.is_some();
        self.hold_for_maintenance(view, membership, &mut expired);
        if self.held_until.is_some() && !held {
            outbox.notice(Notice::Waiting { reason: WaitReason::Maintenance });
        }
        // Who is gone by what its own server says need not be waited for; every other judgement rests on silence.
        self.evict_gone(view, membership, outbox);
        let unchanged = membership.changes() == self.looked_at && expired.is_empty() && self.patience.is_none();
        if unchanged && self.next_look.is_none_or(|at| view.context.now < at) {
            return;
        }
        self.looked_at = membership.changes();
        self.judge_silence(view, membership.unheard(view.context.now));
        let is_judged = |slot: &Slot| self.in_flight.values().any(|(evicted, _)| evicted == slot);
        let waits = self.waits_for_restart(view.context.now) && !expired.iter().all(is_judged);
        let waited = core::mem::replace(&mut self.waits, waits);
        if self.waits && !waited {
            outbox.notice(Notice::Waiting { reason: WaitReason::Restart });
        }
        // Should one of them have renewed meanwhile, the delete expects a revision that is in the past, and fails.
        if !self.waits_for_restart(view.context.now) {
            for slot in expired {
                self.evict(view, membership, slot, EvictReason::LeaseRanOut, outbox);
            }
        }
        if view.context.has(PlantedBug::EvictRenewed) {
            for slot in self.tried.keys().copied().collect::<Vec<_>>() {
                self.evict(view, membership, slot, EvictReason::LeaseRanOut, outbox);
            }
        }
        for slot in stayed_away(view, membership) {
            self.evict(view, membership, slot, EvictReason::RestartHoldRanOut, outbox);
        }
        // These deletes expect that the key was never written: they succeed only if there really is no record.
        for slot in self.long_without_record(view, membership) {
            self.evict(view, membership, slot, EvictReason::NoRecord, outbox);
        }
        self.next_look = self.next_look(view, membership);
    }

    /// Evicts the workers whose processes are gone, as far as probes can tell; none where it looks as if too many were.
    /// Processes count too that have died less than a lease ago and have successors by now: in a fleet that was killed as a
    /// whole, the successors of the others are on their way.
    fn evict_gone(&mut self, view: &Judge<'_>, membership: &Membership, outbox: &mut Outbox) {
        let mut gone = view.probing.gone(view.context, membership).filter(|slot| *slot != view.own_slot).peekable();
        if gone.peek().is_none() {
            return;
        }
        let (absent, workers) = view.probing.absent();
        let replaced = membership.members().filter(|(slot, member)| {
            let lately = member.replaced_at.is_some_and(|at| view.context.now < at + member.observed_lease);
            lately && !view.probing.is_suspect(*slot)
        });
        let many = (absent + replaced.count()) * 100 > workers * view.context.config.restart_detection_percent as usize;
        if many || self.waits_for_restart(view.context.now) || membership.maintenance_hold().is_some() {
            return;
        }
        for slot in gone {
            self.evict(view, membership, slot, EvictReason::NobodyListens, outbox);
        }
    }

    /// In a maintenance, workers that are gone are expected back.
    fn hold_for_maintenance(&mut self, view: &Judge<'_>, membership: &Membership, expired: &mut Vec<Slot>) {
        self.held_until = None;
        let Some(hold) = membership.maintenance_hold() else { return };
        expired.retain(|slot| {
            let silent_since = membership.member(*slot).map(|member| membership.silent_since(*slot, member));
            let until = silent_since.map(|since| since + hold).filter(|until| view.context.now < *until);
            self.held_until = earliest([self.held_until, until]);
            until.is_none()
        });
    }

    /// More than `restart_detection_percent` silent at once looks like a restart of the fleet: they are waited for, for
    /// `cold_start_window` at most, and once most are back, for `settle_window` after the last that came back.
    fn judge_silence(&mut self, view: &Judge<'_>, (silent, workers): (usize, usize)) {
        let many = silent * 100 > workers * view.context.config.restart_detection_percent as usize;
        self.patience = match self.patience {
            None if many => Some(Patience { until: view.context.now + view.context.config.cold_start_window, silent }),
            Some(patience) if many => Some(Patience { silent, ..patience }),
            Some(patience) if silent > 0 && view.context.now < patience.until => {
                let came_back = silent < patience.silent;
                let until = if came_back {
                    patience.until.min(view.context.now + view.context.config.settle_window)
                } else {
                    patience.until
                };
                Some(Patience { until, silent })
            }
            Some(_) | None => None,
        };
    }

    /// The slots of tenures that the plan names and of which there was no record for so long that, if the store has lost it,
    /// the holder could not renew and has stopped: whoever leads next takes the marker for the end of the tenure. Absence
    /// proves nothing all the same: only a conditional delete that succeeds does.
    fn long_without_record(&mut self, view: &Judge<'_>, membership: &Membership) -> Vec<Slot> {
        let missing: Vec<Slot> = without_record(view.plan, membership).filter(|slot| *slot != view.own_slot).collect();
        self.missing.retain(|slot, _| missing.contains(slot));
        for slot in missing {
            self.missing.entry(slot).or_insert(view.context.now);
        }
        let over = |since: Instant| since + membership.longest_observed_lease() <= view.context.now;
        self.missing.iter().filter(|(_, since)| over(**since)).map(|(slot, _)| *slot).collect()
    }

    fn evict(
        &mut self,
        view: &Judge<'_>,
        membership: &Membership,
        slot: Slot,
        reason: EvictReason,
        outbox: &mut Outbox,
    ) {
        let member = membership.member(slot);
        if member.is_some_and(|member| member.is_doubtful(view.context)) {
            return;
        }
        let expected = member.map_or_else(Revision::default, |member| member.revision);
        let tried =
            self.tried.get(&slot).is_some_and(|(revision, until)| *revision == expected && view.context.now < *until);
        if tried {
            return;
        }
        self.tried.insert(slot, (expected, view.context.now + view.context.timing.renewal));
        if outbox.is_writing(Key::Slot(slot)) {
            // A write of this process, which had that slot before, is still on its way.
            return;
        }
        let operation = outbox.request(Write::Delete { key: Key::Slot(slot), expected });
        self.in_flight.insert(operation, (slot, reason));
    }

    fn next_look(&self, view: &Judge<'_>, membership: &Membership) -> Option<Instant> {
        let restarting = restarting(view, membership).map(|(_, until)| until);
        let again = self.tried.values().map(|(_, until)| *until);
        let missing = self.missing.values().map(|since| *since + membership.longest_observed_lease());
        restarting
            .chain(again)
            .chain(missing)
            .chain(self.patience.map(|patience| patience.until))
            .filter(|at| *at > view.context.now)
            .min()
    }

    /// When evictions should be asked about again.
    pub(crate) fn deadline(&self, membership: &Membership) -> Option<Instant> {
        earliest([self.next_look, self.held_until, membership.next_expiry(), membership.garbled_until()])
    }
}

/// The workers that have left their slot for a successor, and until when it is held for them.
fn restarting<'a>(view: &'a Judge<'_>, membership: &'a Membership) -> impl Iterator<Item = (Slot, Instant)> + 'a {
    let is_restarting = |phase: MemberPhase| phase == MemberPhase::Restarting;
    membership
        .members()
        .filter(move |(_, member)| member.record().is_some_and(|record| is_restarting(record.phase)))
        .map(|(slot, member)| {
            let unheld = view.context.has(PlantedBug::RestartUnheld);
            let least = if unheld { Duration::ZERO } else { view.context.config.restart_hold };
            let hold = membership.maintenance_hold().unwrap_or_default().max(least);
            (slot, membership.silent_since(slot, member) + hold)
        })
}

fn stayed_away(view: &Judge<'_>, membership: &Membership) -> Vec<Slot> {
    restarting(view, membership).filter(|(_, until)| *until <= view.context.now).map(|(slot, _)| slot).collect()
}

/// Whether there is a record of every tenure that the plan names. While there is not, nobody knows whose partitions are
/// free.
pub(crate) fn all_have_records(plan: &PlanLog, membership: &Membership) -> bool {
    without_record(plan, membership).next().is_none()
}

fn without_record(plan: &PlanLog, membership: &Membership) -> impl Iterator<Item = Slot> {
    let holds = plan.assignments().filter(|(_, a)| !a.record.owned.is_empty() || !a.record.releasing.is_empty());
    let unknown = move |slot, tenure| membership.tenure_state(slot, tenure) == TenureState::NoRecord;
    holds.filter(move |(slot, a)| unknown(*slot, a.record.tenure)).map(|(slot, _)| slot)
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;
    use crate::action::Action;
    use crate::ids::{Incarnation, Instance};
    use crate::stored::record::{MemberRecord, Record};

    const LEADER: Slot = Slot::new(0);

    /// A leader that has seen so many workers, its own slot included, and each of them at revision 10 and its slot.
    struct Stage {
        context: Context,
        membership: Membership,
        eviction: Eviction,
        outbox: Outbox,
    }

    impl Stage {
        fn with_workers(count: u32) -> Self {
            let context = Context::at(Instant::ORIGIN);
            let mut membership = Membership::new(&context);
            membership.end_listing(&context, Incarnation::new(1), |_| true);
            let mut stage = Self { context, membership, eviction: Eviction::default(), outbox: Outbox::default() };
            (0..count).for_each(|slot| stage.hears(slot, 10));
            stage
        }

        fn hears(&mut self, slot: u32, revision: u64) {
            let record = Record::Member(Arc::new(MemberRecord::new(Instance::new(slot.into()))));
            let revision = Revision::new(revision + u64::from(slot));
            self.membership.observe_entry(&self.context, Key::Slot(Slot::new(slot)), revision, &record, true);
        }

        /// Lets a lease and the margin pass, in which all but these slots are heard of.
        fn passes_without(&mut self, silent: &[u32], workers: u32) {
            self.context.now = self.context.now + self.context.timing.observed_lease();
            (0..workers).filter(|slot| !silent.contains(slot)).for_each(|slot| self.hears(slot, 100));
        }

        fn does(&mut self) -> Vec<Action> {
            let (plan, probing) = (PlanLog::default(), Probing::default());
            let view = Judge { context: &self.context, own_slot: LEADER, plan: &plan, probing: &probing };
            self.eviction.decide(&view, &mut self.membership, &mut self.outbox);
            self.eviction.tell_evicted(&mut self.outbox);
            core::iter::from_fn(|| self.outbox.pop()).collect()
        }
    }

    fn deletion(actions: &[Action]) -> (OperationId, Revision) {
        match actions {
            [Action::Kv(request)] => match request.write {
                Write::Delete { key: Key::Slot(_), expected } => (request.operation, expected),
                ref other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_is_silent_for_a_lease_and_the_margin_is_evicted_by_a_delete_on_what_was_judged() {
        let mut stage = Stage::with_workers(4);
        assert_eq!(stage.does(), []);
        stage.passes_without(&[2], 4);
        let (operation, expected) = deletion(&stage.does());
        assert_eq!(expected, Revision::new(12));
        stage.eviction.observe_done(
            &stage.context,
            operation,
            Outcome::Committed(Revision::new(200)),
            &mut stage.membership,
        );
        let evicted = Notice::Evicted { slot: Slot::new(2), reason: EvictReason::LeaseRanOut };
        assert_eq!(stage.does(), [Action::Notice(evicted)]);
    }

    #[test]
    fn a_delete_that_conflicts_is_not_tried_again_at_once() {
        let mut stage = Stage::with_workers(4);
        stage.passes_without(&[2], 4);
        let (operation, _) = deletion(&stage.does());
        stage.eviction.observe_done(&stage.context, operation, Outcome::Conflict, &mut stage.membership);
        stage.outbox.observe_done(operation);
        assert_eq!(stage.does(), []);
        stage.context.now = stage.context.now + stage.context.timing.renewal;
        assert_eq!(deletion(&stage.does()).1, Revision::new(12));
    }

    #[test]
    fn more_than_half_silent_at_once_are_waited_for_and_nobody_is_evicted() {
        let mut stage = Stage::with_workers(4);
        stage.passes_without(&[1, 2, 3], 4);
        assert_eq!(stage.does(), [Action::Notice(Notice::Waiting { reason: WaitReason::Restart })]);
        assert!(stage.eviction.waits());
    }
}
