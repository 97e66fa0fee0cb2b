//! Who is alive, judged by revisions seen on this worker's own clock.

mod listing;
mod member;
mod silence;
mod tenures;

pub(crate) use member::{LeaderKey, Member, MemberContent, MemberNews, TenureState};

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::ids::{Incarnation, Instance, Revision, Slot};
use crate::stored::key::{Bucket, Control, Key};
use crate::stored::record::{ControlRecord, Record};
use crate::stored::wishes::Wishes;
use crate::time::{Duration, Instant};
use listing::Listing;
use silence::Silence;
use tenures::Tenures;

/// This worker's view of the `members` bucket: as much of it as it watches.
///
/// It may lag and it may have gaps; nothing is granted or taken on its strength without a conditional write.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Membership {
    slots: BTreeMap<Slot, Member>,
    leader: LeaderKey,
    wishes: Wishes,
    incarnation: Incarnation,
    /// The highest revision of the bucket that was seen.
    newest: Revision,
    /// Grows whenever something other than a renewal or an acknowledgement is seen.
    changes: u64,
    listing: Listing,
    silence: Silence,
    tenures: Tenures,
}

impl Membership {
    /// The view of a worker that has seen nothing yet.
    pub(crate) fn new(context: &Context) -> Self {
        Self { silence: Silence::new(context), tenures: Tenures::new(context), ..Self::default() }
    }

    /// The store has lost writes: of what was seen, only the longest lease is still believed.
    pub(crate) fn forget_all(&mut self, context: &Context) {
        let longest_observed_lease = self.silence.longest_observed_lease;
        *self = Self::new(context);
        self.silence.longest_observed_lease = longest_observed_lease;
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (Slot, &Member)> {
        self.slots.iter().map(|(slot, member)| (*slot, member))
    }

    /// The members from one slot to another, both included.
    pub(crate) fn members_between(&self, first: Slot, last: Slot) -> impl Iterator<Item = (Slot, &Member)> {
        self.slots.range(first..=last).map(|(slot, member)| (*slot, member))
    }

    /// The revision of the slot's record that the listing under way, or the last one, has shown.
    pub(crate) fn shown(&self, slot: Slot) -> Option<Revision> {
        self.slots.get(&slot).and_then(|member| member.shown)
    }

    pub(crate) fn member(&self, slot: Slot) -> Option<&Member> {
        self.slots.get(&slot)
    }

    pub(crate) fn leader(&self) -> LeaderKey {
        self.leader
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The highest revision of the bucket that was seen.
    pub(crate) fn newest(&self) -> Revision {
        self.newest
    }

    /// Grows whenever something other than a renewal or an acknowledgement is seen.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes in what a watch shows. Older news than what is known is ignored.
    pub(crate) fn observe_entry(
        &mut self,
        context: &Context,
        key: Key,
        revision: Revision,
        record: &Record,
        live: bool,
    ) -> MemberNews {
        // A claim that commits at or below it shows that the store has given revisions again.
        if key.bucket() == Bucket::Members {
            self.newest = self.newest.max(revision);
        }
        match (key, record) {
            (Key::Slot(slot), Record::Member(record)) => {
                return self.observe_slot(context, slot, revision, MemberContent::Record(Arc::clone(record)), live);
            }
            (Key::Leader, Record::Leader(record)) => {
                self.observe_leader(LeaderKey::Held { revision, record: *record });
            }
            (Key::Control(control), Record::Control(record)) => {
                self.observe_control(control, revision, Some(Arc::clone(record)));
            }
            (Key::Slot(_) | Key::Leader | Key::Control(_) | Key::Assign(_) | Key::Cluster, _) => {}
        }
        MemberNews::None
    }

    pub(crate) fn observe_deleted(&mut self, context: &Context, key: Key, revision: Revision) {
        match key {
            Key::Slot(slot) => {
                self.observe_slot(context, slot, revision, MemberContent::Deleted, true);
            }
            Key::Leader => self.observe_leader(LeaderKey::Deleted { revision }),
            Key::Control(control) => self.observe_control(control, revision, None),
            Key::Assign(_) | Key::Cluster => {}
        }
    }

    pub(crate) fn observe_unreadable(&mut self, context: &Context, key: Key, revision: Revision, newer: bool) {
        match key {
            Key::Slot(slot) => {
                self.observe_slot(context, slot, revision, MemberContent::Unreadable { newer }, true);
            }
            Key::Leader => self.observe_leader(LeaderKey::Unreadable { revision, newer, seen_at: context.now }),
            // A wish that cannot be read is not acted on; what was wanted before it no longer holds.
            Key::Control(control) => self.observe_control(control, revision, None),
            Key::Assign(_) | Key::Cluster => {}
        }
    }

    fn observe_slot(
        &mut self,
        context: &Context,
        slot: Slot,
        revision: Revision,
        seen: MemberContent,
        live: bool,
    ) -> MemberNews {
        let refused = self.listing.refused.contains(&Key::Slot(slot));
        // Revisions of a key only grow, so that older news is late. It counts only where a conditional write has shown that the
        // newer record is not there any more.
        if let Some(known) = self.slots.get_mut(&slot)
            && (revision == known.revision && seen == known.content || revision < known.revision && !refused)
        {
            known.shown = Some(revision);
            return MemberNews::None;
        }
        if refused {
            self.listing.refused.remove(&Key::Slot(slot));
        }
        let observed_lease = self.observed_lease_of(context, slot, &seen);
        self.silence.longest_observed_lease = self.silence.longest_observed_lease.max(observed_lease);
        let member = Member {
            revision,
            content: seen,
            observed_at: context.now,
            observed_lease,
            heard: live,
            answered_at: None,
            unshown: false,
            shown: Some(revision),
            broken: false,
            replaced_at: None,
        };
        let replaced_at = self.replaced_at(self.slots.get(&slot), &member);
        let member = Member { replaced_at, ..member };
        match member.content {
            MemberContent::Unreadable { newer: false } => self.silence.garbled.insert(slot),
            MemberContent::Record(_) | MemberContent::Deleted | MemberContent::Unreadable { newer: true } => {
                self.silence.garbled.remove(&slot)
            }
        };
        let news = self.news_of(self.slots.get(&slot), &member);
        self.slots.insert(slot, member);
        if news == MemberNews::Changed {
            self.changes += 1;
            self.silence.next_expiry = None;
        }
        news
    }

    fn observe_leader(&mut self, seen: LeaderKey) {
        let known = self.leader.revision();
        if seen.revision() > known || seen.revision() < known && self.listing.refused.remove(&Key::Leader) {
            self.leader = seen;
            self.changes += 1;
        }
        self.listing.leader_shown |= seen.revision() == self.leader.revision();
    }

    fn observe_control(&mut self, control: Control, revision: Revision, record: Option<Arc<ControlRecord>>) {
        if self.wishes.observe(control, revision, record) {
            self.changes += 1;
        }
    }

    /// The record of an operator's wish, and the write that made it, if it holds.
    pub(crate) fn control(&self, control: Control) -> Option<(Revision, &ControlRecord)> {
        self.wishes.get(control)
    }

    /// Whether an operator wants this.
    pub(crate) fn is_wanted(&self, control: Control) -> bool {
        self.control(control).is_some()
    }

    /// The wishes of operators that hold now, in order.
    pub(crate) fn controls(&self) -> impl Iterator<Item = Control> {
        self.wishes.all()
    }

    /// How long a worker that is gone is to be waited for, while there is a maintenance.
    pub(crate) fn maintenance_hold(&self) -> Option<Duration> {
        let (_, record) = self.control(Control::Maintenance)?;
        Some(record.hold_ms.map_or(Duration::MAX, Duration::from_millis))
    }

    /// A process has answered a probe, so it is there. True if it might not have been.
    pub(crate) fn observe_answered(&mut self, now: Instant, slot: Slot, instance: Instance) -> bool {
        let member = self.slots.get_mut(&slot);
        let member = member.filter(|member| member.record().is_some_and(|record| record.instance == instance));
        member.is_some_and(|member| {
            let was_unsure = !member.heard || member.is_late(now, Instant::ORIGIN);
            (member.heard, member.answered_at) = (true, Some(now));
            was_unsure
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Position, Tenure};
    use crate::stored::record::MemberRecord;

    const SLOT: Slot = Slot::new(3);

    fn position(revision: u64) -> Position {
        Position { incarnation: Incarnation::new(1), revision: Revision::new(revision) }
    }

    /// What is known of a tenure that began with revision 10, by something else that was written under its slot.
    fn known_by(revision: u64, see: impl Fn(&mut Membership, &Context, Revision)) -> TenureState {
        let mut context = Context::at(Instant::ORIGIN);
        let mut membership = Membership::new(&context);
        membership.end_listing(&context, Incarnation::new(1), |_| true);
        see(&mut membership, &context, Revision::new(revision));
        context.now = context.now + context.timing.observed_lease() * 2;
        membership.end_garbled(&context);
        membership.tenure_state(SLOT, Tenure::new(position(10)))
    }

    #[test]
    fn what_is_older_than_a_tenure_does_not_end_it_and_what_is_later_does() {
        let record = |membership: &mut Membership, context: &_, revision| {
            let record = Record::Member(Arc::new(MemberRecord::new(Instance::new(1))));
            membership.observe_entry(context, Key::Slot(SLOT), revision, &record, true);
        };
        let marker = |membership: &mut Membership, context: &_, revision| {
            membership.observe_deleted(context, Key::Slot(SLOT), revision);
        };
        let garbage = |membership: &mut Membership, context: &_, revision| {
            membership.observe_unreadable(context, Key::Slot(SLOT), revision, false);
        };
        assert_eq!(known_by(9, record), TenureState::Unclear);
        assert_eq!(known_by(9, marker), TenureState::NoRecord);
        assert_eq!(known_by(9, garbage), TenureState::Unclear);
        assert_eq!(known_by(11, record), TenureState::Ended);
        assert_eq!(known_by(11, marker), TenureState::Ended);
        assert_eq!(known_by(11, garbage), TenureState::Ended);
    }

    #[test]
    fn garbage_ends_a_tenure_only_when_its_holder_has_certainly_stopped() {
        let mut context = Context::at(Instant::ORIGIN);
        let mut membership = Membership::new(&context);
        membership.observe_unreadable(&context, Key::Slot(SLOT), Revision::new(11), false);
        let over = Instant::ORIGIN + context.timing.observed_lease();
        let just_before = Instant::from_nanos(over.as_nanos() - 1);
        context.now = just_before;
        assert_eq!(membership.end_garbled(&context), []);
        context.now = over;
        assert_eq!(membership.end_garbled(&context), [SLOT]);
    }

    fn renewal(membership: &mut Membership, context: &Context, revision: u64) {
        let record = Record::Member(Arc::new(MemberRecord::new(Instance::new(1))));
        membership.observe_entry(context, Key::Slot(SLOT), Revision::new(revision), &record, true);
    }

    #[test]
    fn a_process_that_answers_is_not_late_for_as_long_as_after_a_renewal() {
        let mut context = Context::at(Instant::ORIGIN);
        let mut membership = Membership::new(&context);
        renewal(&mut membership, &context, 7);
        let is_late = |membership: &Membership, now| membership.slots[&SLOT].is_late(now, Instant::ORIGIN);
        context.now = context.now + membership.slots[&SLOT].learning_time();
        assert!(is_late(&membership, context.now), "a renewal is missing");
        assert!(!membership.observe_answered(context.now, SLOT, Instance::new(2)), "another process has answered");
        assert!(membership.observe_answered(context.now, SLOT, Instance::new(1)));
        assert!(!is_late(&membership, context.now), "it is there");
        assert!(!membership.observe_answered(context.now, SLOT, Instance::new(1)), "which is no news");
        context.now = context.now + membership.slots[&SLOT].learning_time();
        assert!(is_late(&membership, context.now));
    }

    #[test]
    fn silence_counts_from_when_it_could_have_been_heard_broken() {
        let mut context = Context::at(Instant::ORIGIN);
        let mut membership = Membership::new(&context);
        renewal(&mut membership, &context, 7);
        let patience = context.timing.observed_lease();
        context.now = context.now + patience;
        assert_eq!(membership.expired(context.now), [SLOT]);
        membership.start_anew(&context, None);
        assert_eq!(membership.expired(context.now), []);
        assert_eq!(membership.next_expiry(), Some(context.now + patience));
    }

    #[test]
    fn what_a_listing_does_not_show_is_gone_once_its_holder_was_silent_for_a_lease() {
        let mut context = Context::at(Instant::ORIGIN);
        let mut membership = Membership::new(&context);
        renewal(&mut membership, &context, 7);
        for (passed, is_there) in [(Duration::ZERO, true), (context.timing.observed_lease(), false)] {
            context.now = Instant::ORIGIN + passed;
            membership.begin_listing();
            membership.end_listing(&context, Incarnation::new(1), |_| true);
            assert_eq!(membership.member(SLOT).is_some(), is_there);
        }
    }

    #[test]
    fn older_news_is_believed_only_after_a_write_on_the_newer_was_refused() {
        let context = Context::at(Instant::ORIGIN);
        let mut membership = Membership::new(&context);
        renewal(&mut membership, &context, 7);
        let known = |membership: &Membership| membership.member(SLOT).map(|member| member.revision.value());
        renewal(&mut membership, &context, 6);
        assert_eq!(known(&membership), Some(7));
        membership.observe_refused(&context, Key::Slot(SLOT), Revision::new(7));
        assert!(membership.take_reading(context.now), "it is read anew");
        renewal(&mut membership, &context, 6);
        assert_eq!(known(&membership), Some(6));
    }
}
