//! G6, G7: a restart moves nothing, an outage moves nothing, and nothing moves by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use parti_core::assign::Labels;
use parti_core::{
    Action, EvictReason, Key, MemberPhase, Notice, Outcome, PartitionId, PlanReason, Record, Slot, Write,
};

use super::plan_view::PlanView;
use super::{Breach, Invariant, Scene};
use crate::check::mark::Mark;
use crate::told::fact::{Fact, Topic};
use crate::world::clock::Moment;

/// No partition is taken from a worker that stays unless something has happened that is a reason to: a worker that
/// joined, left, or was lost, another list, an operator's wish. A restart in place and an outage seen by all are none.
#[derive(Clone, Debug, Default)]
pub(super) struct NoMoveWithoutCause {
    plan: PlanView,
    /// Until when moves are explained by what has happened.
    excused_until: Moment,
    /// What the worker of each slot says of itself: its capacity, its labels, and what it has given up for a while.
    workers: BTreeMap<Slot, (u32, Labels, Vec<PartitionId>)>,
    /// Since when each slot is left for a successor.
    left_at: BTreeMap<Slot, Moment>,
    /// Whether partitions have become heavier or lighter: what that is a reason for is known only once it was measured.
    shifted: bool,
    /// When the store last took a write.
    written_at: Moment,
}

impl Invariant for NoMoveWithoutCause {
    fn name(&self) -> &'static str {
        "no-move-without-cause"
    }

    fn guarantee(&self) -> &'static str {
        "G6, G7"
    }

    fn looks_at(&self, topic: Topic) -> bool {
        matches!(topic, Topic::Noticed | Topic::Stored | Topic::Other)
    }

    fn observe(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) -> Result<(), Breach> {
        if let Fact::Disturbed { may_move: true, .. }
        | Fact::Operated { may_move: true, .. }
        | Fact::Wished { .. }
        | Fact::Crashed { .. }
        | Fact::Listed { .. }
        | Fact::PlanRegressed { .. } = fact
        {
            self.excuse(scene);
        }
        self.shifted |= matches!(fact, Fact::Reached { mark: Mark::LoadShifted, .. });
        if let Fact::Asked { action: Action::Notice(Notice::Planned { reason: PlanReason::LoadShifted, .. }), .. } =
            fact
            && self.shifted
        {
            self.excuse(scene);
        }
        // Who goes on in a slot with another capacity, or in another zone, or would have again what it had given up, should own
        // more, less or something else.
        if let Fact::Stored { write: Write::Create { .. } | Write::Update { .. }, outcome, .. } = fact
            && matches!(outcome, Outcome::Committed(_))
            && self.becomes_another(fact)
        {
            self.excuse(scene);
        }
        self.note_restart(fact, scene);
        // Who had died again and again gets work from now on.
        if let Fact::Status { before, after, .. } = fact
            && before.resting != after.resting
        {
            self.excuse(scene);
        }
        // A restart that took too long, be it because the store was out of reach, is one that its worker did not survive.
        if let Fact::Asked { action: Action::Notice(Notice::Evicted { slot, reason }), .. } = fact
            && *reason == EvictReason::RestartHoldRanOut
            && self.was_held(*slot, scene)
        {
            self.excuse(scene);
        }
        if let Fact::Stored { outcome: Outcome::Committed(_), .. } = fact {
            // What happens while nobody can write, or shortly before, shows only when somebody can again.
            let silence = scene.now.since(std::mem::replace(&mut self.written_at, scene.now));
            if silence > scene.options.observed_lease() && scene.now - silence <= self.excused_until {
                self.excuse(scene);
            }
        }
        let Some(moves) = self.plan.observe(fact, scene) else { return Ok(()) };
        if scene.options.mix.leaders_differ() {
            return Ok(()); // each leader may want them elsewhere than the one before
        }
        if scene.options.network.is_unreliable() {
            // Any worker may seem to be gone at any time, or not to be there. Worlds that are gentle have no such network.
            return Ok(());
        }
        if scene.now <= self.excused_until {
            self.excuse(scene); // there may be further rounds
            return Ok(());
        }
        let partition = moves.partitions[0];
        Err(Breach::new(format!(
            "generation {} takes {} and {} others from {}, but nothing has happened since {} that is a reason to",
            moves.plan.1,
            scene.name(partition),
            moves.partitions.len() - 1,
            moves.slot.worker_name(),
            self.excused_until,
        ))
        .on(partition))
    }
}

impl NoMoveWithoutCause {
    /// What has happened is a reason to move.
    fn excuse(&mut self, scene: &Scene<'_>) {
        self.excused_until = self.excused_until.max(scene.now + aftermath(scene));
    }

    fn note_restart(&mut self, fact: &Fact<'_>, scene: &Scene<'_>) {
        let Fact::Stored { write: Write::Update { key: Key::Slot(slot), record, .. }, outcome, .. } = fact else {
            return;
        };
        if let (Record::Member(record), Outcome::Committed(_)) = (record, outcome) {
            match record.phase {
                MemberPhase::Restarting => self.left_at.insert(*slot, scene.now),
                MemberPhase::Active | MemberPhase::Draining => self.left_at.remove(slot),
            };
        }
    }

    /// Whether a slot was held for its successor for as long as it should be, by any clock.
    fn was_held(&self, slot: Slot, scene: &Scene<'_>) -> bool {
        let hold = Duration::from_millis(scene.options.worker.restart_hold_ms);
        self.left_at.get(&slot).is_none_or(|left_at| scene.now.since(*left_at) >= hold * 9 / 10)
    }

    /// Whether the worker of a slot is now of another capacity, or has other labels, than the one before.
    fn becomes_another(&mut self, fact: &Fact<'_>) -> bool {
        let Fact::Stored { write, .. } = fact else { return false };
        let (Write::Create { key: Key::Slot(slot), record } | Write::Update { key: Key::Slot(slot), record, .. }) =
            write
        else {
            return false;
        };
        let Record::Member(record) = record else { return false };
        let what = (record.capacity, record.labels.clone(), record.unwanted.clone());
        self.workers.insert(*slot, what.clone()).is_some_and(|before| before != what)
    }
}

/// How long after it happened something can still make partitions move.
fn aftermath(scene: &Scene<'_>) -> Duration {
    let worker = &scene.options.worker;
    let windows = worker.cold_start_window_ms
        + worker.planned_scale_window_ms
        + worker.rebalance_interval_ms
        + worker.restart_hold_ms
        + worker.surge_wait_ms;
    scene.options.observed_lease() * 3 + Duration::from_millis(windows + worker.release_timeout_ms)
}
