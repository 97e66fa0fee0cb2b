//! This worker's side: acquire, drain, release, suspend, and the token of each hold.

use alloc::collections::BTreeSet;
use alloc::collections::btree_map::{BTreeMap, Entry};
use alloc::sync::Arc;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::action::{Action, Notice, ReleaseReason, SuspendReason};
use crate::context::Context;
use crate::ids::{Generation, Heard, Incarnation, Position, Revision, Tenure, Token};
use crate::member::doubt::Doubt;
use crate::member::holder::Holder;
use crate::outbox::Outbox;
use crate::partition::{InOrder, Partition, PartitionId};
use crate::planted::PlantedBug;
use crate::stored::record::{AssignmentRecord, Grant, MAX_UNWANTED};
use crate::time::{Duration, Instant, earliest};

/// How long a partition that was given up and is gone does not come back, if there is another worker for it.
const GIVEN_UP_FOR: Duration = Duration::from_secs(60);

/// The partitions that the application works on, and those that it should work on.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ownership {
    holds: BTreeMap<PartitionId, Hold>,
    /// The newest assignment of the tenure that was seen.
    assignment: Option<(Position, Arc<AssignmentRecord>)>,
    /// The assignment of this slot in a listing that is not complete.
    listed: Option<(Revision, Option<Arc<AssignmentRecord>>)>,
    /// Whether listings show less than is known.
    doubt: Doubt,
    /// The tenure that it is of, or was.
    tenure: Tenure,
    /// The newest assignment that the tenure has applied; never goes back within a tenure.
    applied: Position,
    /// How far plans have come, as far as this process has heard.
    heard: Heard,
    prepared: BTreeSet<PartitionId>,
    /// Why all work is to stop for now.
    suspended: Option<SuspendReason>,
    /// Releases that the application has not confirmed, in order of their deadlines.
    drains: BTreeSet<(Instant, PartitionId)>,
    /// The partitions that the application cannot work on: until when that is said, once it is gone.
    unwanted: BTreeMap<PartitionId, Option<Instant>>,
    /// Whether the last renewal says less than is true.
    news: bool,
    /// Whether something has changed since the assignment was applied.
    stale: bool,
    /// The assignment by which everything that it does not grant is being released.
    revoked_by: Option<Position>,
}

/// The state of the store, as a listing of the plan shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListingNews {
    Sound,
    /// It shows less than this worker has applied: it is stale, or the store has lost writes.
    Doubtful,
    /// The store has lost writes that this worker has applied.
    Regressed,
}

/// How much of an assignment this worker may act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applying {
    /// Nothing: it has no valid lease.
    Nothing,
    /// What it is to give up: it is about to stop, or must not work for now.
    Releases,
    /// All of it.
    Everything,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Hold {
    token: Token,
    /// When the application's time to release it is over; none while it is to be kept.
    release_by: Option<Instant>,
    /// Whether the application knows that it has no time at all.
    cancelled: bool,
}

impl Hold {
    /// The application has no time left to release it, and is told so once.
    fn cut_short(&mut self, id: &PartitionId, outbox: &mut Outbox) {
        if !core::mem::replace(&mut self.cancelled, true) {
            outbox.push(Action::Cancel { partition: id.clone(), token: self.token });
        }
    }
}

impl Ownership {
    /// A tenure begins, or goes on in this process. `applied` is what it has applied so far, `heard` what it has heard of
    /// plans; a listing that was stale may have said less than this process knows. A suspension ends with the
    /// tenure that it was of.
    pub(crate) fn begin(&mut self, tenure: Tenure, applied: Position, heard: Heard, outbox: &mut Outbox) {
        self.resume(outbox);
        let knows_more = self.tenure == tenure && !applied.has_reached(self.applied);
        let applied = if knows_more && self.applied != Position::default() { self.applied } else { applied };
        self.tenure = tenure;
        self.heard = self.heard.max(heard);
        self.assignment = None;
        self.revoked_by = None;
        self.listed = None;
        self.doubt = Doubt::default();
        self.applied = applied;
        self.prepared.clear();
        self.news = true;
    }

    /// Whether this process has ever had a tenure.
    pub(crate) fn has_begun(&self) -> bool {
        self.tenure != Tenure::default()
    }

    /// An assignment record of this worker's slot. One for another tenure, or older than what was applied, is not for
    /// this worker to act on.
    pub(crate) fn observe_assignment(
        &mut self,
        context: &Context,
        position: Position,
        record: &Arc<AssignmentRecord>,
        tenure: Tenure,
    ) {
        let newest = self.assignment.as_ref().map_or(Position::default(), |(newest, _)| *newest);
        let fits = record.tenure == tenure || context.has(PlantedBug::OtherTenure);
        let has_applied = self.applied != Position::default();
        let newer = (!has_applied || position.has_reached(self.applied)) && !newest.has_reached(position);
        let newer = newer || context.has(PlantedBug::OlderAssignment) && position != newest;
        // A later record of this slot that is for another tenure has taken the place of the one by which this one holds:
        // the store has forgotten that it had ended.
        let replaced = !fits && newer && !self.holds.is_empty();
        if replaced {
            let generation =
                self.assignment().map_or(record.generation, |known| known.generation.max(record.generation));
            let (owned, releasing, incoming) = (Vec::new(), Vec::new(), Vec::new());
            let AssignmentRecord { term, era, .. } = **record;
            let nothing = AssignmentRecord { term, generation, era, tenure, owned, releasing, incoming };
            self.assignment = Some((position, Arc::new(nothing)));
            self.stale = true;
        }
        if fits && newer {
            self.assignment = Some((position, Arc::clone(record)));
            self.heard = self.heard.max(record.heard());
            self.stale = true;
        }
    }

    /// Whether the record is of an older plan than the one that this tenure follows: the store has lost writes, and has
    /// given their revisions again.
    pub(crate) fn goes_back(&self, context: &Context, record: &AssignmentRecord, tenure: Tenure) -> bool {
        let goes_back = |known: &AssignmentRecord| record.tenure == tenure && record.generation < known.generation;
        self.assignment().is_some_and(goes_back) && !context.has(PlantedBug::OlderAssignment)
    }

    /// A complete listing begins, and one that has not ended never will.
    pub(crate) fn begin_listing(&mut self) {
        self.listed = None;
    }

    /// The assignment record of this worker's slot in a listing, if it can be read: which life of the bucket it belongs
    /// to is known at the end.
    pub(crate) fn observe_listed(&mut self, revision: Revision, record: Option<&Arc<AssignmentRecord>>) {
        self.listed = Some((revision, record.cloned()));
    }

    /// The newest write of this slot's assignment record that the tenure knows of, whether it has applied it or not.
    fn known(&self) -> Position {
        let newest = self.assignment.as_ref().map(|(newest, _)| *newest);
        newest.filter(|newest| !self.applied.has_reached(*newest)).unwrap_or(self.applied)
    }

    /// A complete listing ends. What the tenure has applied, or is about to, is in the store, or the store has lost it.
    pub(crate) fn observe_listing(
        &mut self,
        context: &Context,
        incarnation: Incarnation,
        tenure: Tenure,
    ) -> ListingNews {
        let listed = self.listed.take();
        let revision = listed.as_ref().map_or(Revision::default(), |(revision, _)| *revision);
        let position = Position { incarnation, revision };
        let known = self.known();
        if known != Position::default() && incarnation != known.incarnation {
            return ListingNews::Regressed;
        }
        let shows_less =
            !position.has_reached(known) && known != Position::default() && !context.has(PlantedBug::OlderAssignment);
        self.doubt.observe_listing(shows_less);
        if shows_less {
            return if self.doubt.is_certain(context) { ListingNews::Regressed } else { ListingNews::Doubtful };
        }
        if let (Some((newest, known)), Some((_, Some(record)))) = (&self.assignment, &listed)
            && *newest == position
            && known != record
        {
            // The revision was given again, to another record.
            return ListingNews::Regressed;
        }
        // One that cannot be read is there, and says nothing: the last good one is kept.
        if let Some((_, Some(record))) = listed {
            if self.goes_back(context, &record, tenure) {
                return ListingNews::Regressed;
            }
            self.observe_assignment(context, position, &record, tenure);
        }
        ListingNews::Sound
    }

    /// Whether the last listing has shown less than is known.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.doubt.is_raised()
    }

    /// The application has stopped working on a partition.
    pub(crate) fn observe_released(&mut self, partition: &PartitionId, token: Token) {
        let Some(hold) = self.holds.get(partition).filter(|hold| hold.token == token) else { return };
        if let Some(release_by) = hold.release_by {
            self.drains.remove(&(release_by, partition.clone()));
            self.holds.remove(partition);
            self.news = true;
            // It may have been granted anew meanwhile.
            let grants = |record: &AssignmentRecord| {
                record.owned.binary_search_by(|grant| grant.partition.cmp(partition)).is_ok()
            };
            self.stale |= self.assignment.as_ref().is_some_and(|(_, record)| grants(record));
        }
    }

    /// The application cannot work on a partition that it holds: another worker should have it.
    pub(crate) fn observe_given_up(&mut self, context: &Context, partition: &PartitionId, token: Token) {
        let holds = self.holds.get(partition).is_some_and(|hold| hold.token == token);
        if holds && self.unwanted.len() < MAX_UNWANTED && !self.unwanted.contains_key(partition) {
            self.unwanted.insert(partition.clone(), None);
            self.news = true;
            if context.has(PlantedBug::GiveUpUnasked) {
                self.holds.remove(partition);
            }
        }
    }

    /// The partitions that the application cannot work on, in order.
    pub(crate) fn unwanted(&self) -> Vec<PartitionId> {
        self.unwanted.keys().cloned().collect()
    }

    /// Goes on saying for a while what was given up once it is gone, so that it does not come back at once.
    fn forget_given_up(&mut self, now: Instant) {
        if self.unwanted.is_empty() {
            return;
        }
        let (holds, before) = (&self.holds, self.unwanted.len());
        for (_, until) in self.unwanted.iter_mut().filter(|(id, until)| until.is_none() && !holds.contains_key(*id)) {
            *until = Some(now + GIVEN_UP_FOR);
        }
        self.unwanted.retain(|_, until| until.is_none_or(|until| now < until));
        self.news |= self.unwanted.len() < before;
    }

    /// Whether an assignment of the tenure has been seen.
    pub(crate) fn has_assignment(&self) -> bool {
        self.assignment.is_some()
    }

    pub(crate) fn assignment(&self) -> Option<&AssignmentRecord> {
        self.assignment.as_ref().map(|(_, record)| &**record)
    }

    /// Somebody has heard this of plans.
    pub(crate) fn observe_heard(&mut self, heard: Heard) {
        self.heard = self.heard.max(heard);
    }

    /// How far plans have come, as far as this process has heard.
    pub(crate) fn heard(&self) -> Heard {
        self.heard
    }

    /// Why all work is to stop for now, if it is.
    pub(crate) fn suspended_for(&self) -> Option<SuspendReason> {
        self.suspended
    }

    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    pub(crate) fn holds(&self) -> impl Iterator<Item = (&PartitionId, Token)> {
        self.holds.iter().map(|(id, hold)| (id, hold.token))
    }

    /// Whether the application holds the partition by this token, and is to keep it.
    pub(crate) fn keeps(&self, partition: &PartitionId, token: Token) -> bool {
        self.holds.get(partition).is_some_and(|hold| hold.token == token && hold.release_by.is_none())
    }

    /// The newest assignment of the tenure, and the write that made it.
    pub(crate) fn newest(&self) -> Option<(Position, &AssignmentRecord)> {
        self.assignment.as_ref().map(|(position, record)| (*position, &**record))
    }

    pub(crate) fn releasing_count(&self) -> usize {
        self.drains.len()
    }

    pub(crate) fn owned_count(&self) -> usize {
        self.holds.len() - self.drains.len()
    }

    /// Whether holds are about to end or a newer assignment is not yet applied.
    pub(crate) fn is_changing(&self) -> bool {
        self.stale || !self.drains.is_empty()
    }

    /// Whether the last renewal says less than is true, and one should be sent now.
    pub(crate) fn has_news(&self) -> bool {
        self.news
    }

    /// The last renewal may not have been committed: say it again.
    pub(crate) fn repeat_news(&mut self) {
        self.news = true;
    }

    /// Gives a renewal what it acknowledges: the newest assignment applied, and the partitions that this worker was told to give up and
    /// still holds, in order.
    pub(crate) fn acknowledge(&mut self) -> (Position, Vec<PartitionId>) {
        self.news = false;
        let mut releasing: Vec<_> = self.drains.iter().map(|(_, id)| id.clone()).collect();
        // They are in order already if the application has the same time for all.
        if self.drains.first().map(|(release_by, _)| release_by) != self.drains.last().map(|(release_by, _)| release_by)
        {
            releasing.sort_unstable();
        }
        (self.applied, releasing)
    }

    /// All work stops at once.
    pub(crate) fn suspend(&mut self, reason: SuspendReason, outbox: &mut Outbox) {
        if self.suspended.is_none() {
            outbox.push(Action::Suspend { reason });
            self.suspended = Some(reason);
        }
    }

    /// The lease goes on: work goes on.
    pub(crate) fn resume(&mut self, outbox: &mut Outbox) {
        if self.suspended.take().is_some() {
            outbox.push(Action::Resume);
        }
    }

    /// Gives up everything. Costs nothing once that has begun.
    pub(crate) fn release_all(&mut self, context: &Context, reason: ReleaseReason, outbox: &mut Outbox) {
        self.prepared.clear();
        if self.owned_count() == 0 {
            return;
        }
        let kept: Vec<_> =
            self.holds.iter().filter(|(_, hold)| hold.release_by.is_none()).map(|(id, _)| id.clone()).collect();
        for id in kept {
            self.release(context, id, reason, outbox);
        }
    }

    /// Gives up everything at once: the tenure is over, and others may have it. A drain that is under way is cut short.
    pub(crate) fn cut_off(&mut self, context: &Context, outbox: &mut Outbox) {
        self.cancel_all(outbox);
        self.release_all(context, ReleaseReason::Evicted, outbox);
    }

    /// Tells the application, once, that it has no time left for what it is to release.
    pub(crate) fn cancel_all(&mut self, outbox: &mut Outbox) {
        for (id, hold) in self.holds.iter_mut().filter(|(_, hold)| hold.release_by.is_some()) {
            hold.cut_short(id, outbox);
        }
    }

    fn release(&mut self, context: &Context, id: PartitionId, reason: ReleaseReason, outbox: &mut Outbox) {
        let Some(hold) = self.holds.get_mut(&id) else { return };
        let release_by = context.now + context.config.release_timeout;
        hold.release_by = Some(release_by);
        hold.cancelled = reason == ReleaseReason::Evicted;
        outbox.push(Action::Release { partition: id.clone(), token: hold.token, reason });
        self.drains.insert((release_by, id));
        self.news = true;
    }

    /// Cancels releases that take too long; then brings what is held closer to what is assigned.
    pub(crate) fn decide(&mut self, context: &Context, holder: &Holder, applying: Applying, outbox: &mut Outbox) {
        self.let_go(context, outbox);
        if !self.stale || applying == Applying::Nothing {
            return;
        }
        let Some((position, record)) = self.assignment.clone() else { return };
        self.stale = applying != Applying::Everything;
        let token = |epoch| holder.token(&record, epoch);
        if self.revoked_by != Some(position) {
            self.revoke(context, &record, token, outbox);
            self.revoked_by = Some(position);
        }
        if applying == Applying::Everything {
            self.acquire(&record, token, outbox);
            self.prepare(&record, outbox);
        }
        if !self.applied.has_reached(position) {
            self.applied = position;
            self.news = true;
        }
    }

    /// Begins to release what is no longer granted, or is granted anew. What the record names neither as owned nor as
    /// releasing may be another's already: the store has forgotten that this tenure had ended. That is cut off.
    fn revoke(
        &mut self,
        context: &Context,
        record: &AssignmentRecord,
        token: impl Fn(Generation) -> Token,
        outbox: &mut Outbox,
    ) {
        let mut owned = InOrder::new(&record.owned, |grant| &grant.partition);
        let mut releasing = InOrder::new(&record.releasing, |id| id);
        let mut revoked = Vec::new();
        for (id, hold) in &mut self.holds {
            let granted = owned.find(id).map(|grant| token(grant.epoch));
            let gone = releasing.find(id).is_none() && granted.is_none();
            let gone = gone && !context.has(PlantedBug::KeepUnnamed);
            // The era of the record may have grown since: the grant is the same.
            let same = |token: Token| (token.epoch, token.claim) == (hold.token.epoch, hold.token.claim);
            if hold.release_by.is_none() && !granted.is_some_and(same) {
                revoked.push((id.clone(), gone));
            } else if hold.release_by.is_some() && gone {
                hold.cut_short(id, outbox);
            }
        }
        for (id, gone) in revoked {
            let reason = if gone { ReleaseReason::Evicted } else { ReleaseReason::Moved };
            self.release(context, id, reason, outbox);
        }
    }

    /// Acquires what is granted. A partition that is still being released comes again once that is confirmed.
    fn acquire(&mut self, record: &AssignmentRecord, token: impl Fn(Generation) -> Token, outbox: &mut Outbox) {
        let mut held = self.holds.keys().peekable();
        let lacks = |grant: &&Grant| {
            while held.next_if(|id| **id < grant.partition).is_some() {}
            held.peek().is_none_or(|id| **id != grant.partition)
        };
        let lacking: Vec<&Grant> = record.owned.iter().filter(lacks).collect();
        for grant in lacking {
            if let Entry::Vacant(place) = self.holds.entry(grant.partition.clone()) {
                let token = token(grant.epoch);
                place.insert(Hold { token, release_by: None, cancelled: false });
                let partition = Partition::new(grant.partition.clone()).with_weight(grant.weight);
                outbox.push(Action::Acquire { partition, token });
            }
        }
    }

    fn prepare(&mut self, record: &AssignmentRecord, outbox: &mut Outbox) {
        if record.incoming.is_empty() {
            return self.prepared.clear();
        }
        let incoming: BTreeSet<_> = record.incoming.iter().cloned().collect();
        for partition in incoming.difference(&self.prepared) {
            outbox.push(Action::Prepare { partition: partition.clone() });
        }
        self.prepared = incoming;
    }

    /// Does what is due with or without a slot: cancels releases that take too long, and forgets what was given up long ago.
    pub(crate) fn let_go(&mut self, context: &Context, outbox: &mut Outbox) {
        self.cancel_overdue(context, outbox);
        self.forget_given_up(context.now);
    }

    /// Cancels releases that take too long.
    fn cancel_overdue(&mut self, context: &Context, outbox: &mut Outbox) {
        while self.release_deadline().is_some_and(|release_by| release_by <= context.now)
            && let Some((_, id)) = self.drains.pop_first()
        {
            // Should the application not even confirm that, it is told again.
            let again_by = context.now + context.config.release_timeout;
            self.drains.insert((again_by, id.clone()));
            if let Some(hold) = self.holds.get_mut(&id) {
                hold.release_by = Some(again_by);
                hold.cancelled = true;
                outbox.push(Action::Cancel { partition: id.clone(), token: hold.token });
                outbox.notice(Notice::ReleaseTimedOut { partition: id });
            }
        }
    }

    /// When the next release takes too long, or what was given up may come back.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        earliest([self.release_deadline(), self.unwanted.values().copied().flatten().min()])
    }

    fn release_deadline(&self) -> Option<Instant> {
        self.drains.first().map(|(release_by, _)| *release_by)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::ids::Term;
    use crate::partition::Weight;

    fn at(revision: u64) -> Position {
        Position { incarnation: Incarnation::new(1), revision: Revision::new(revision) }
    }

    /// A record of a plan that grants one partition to a tenure.
    fn granting(generation: u64, tenure: Tenure) -> Arc<AssignmentRecord> {
        let (partition, weight) = (PartitionId::new("p").expect("a valid id"), Weight::MIN);
        Arc::new(AssignmentRecord {
            term: Term::new(1),
            generation: Generation::new(generation),
            era: Incarnation::new(1),
            tenure,
            owned: vec![Grant { partition, weight, epoch: Generation::new(generation) }],
            releasing: vec![],
            incoming: vec![],
        })
    }

    /// What a worker does when it is shown this grant of one partition, or what is due otherwise.
    fn does(ownership: &mut Ownership, granted: Option<(u64, u64)>) -> Vec<Action> {
        let (context, mut outbox) = (Context::at(Instant::ORIGIN), Outbox::default());
        let tenure = Tenure::new(at(1));
        if let Some((revision, epoch)) = granted {
            ownership.observe_assignment(&context, at(revision), &granting(epoch, tenure), tenure);
        }
        let holder = Holder { incarnation: Incarnation::new(1), claim: Revision::new(1) };
        ownership.decide(&context, &holder, Applying::Everything, &mut outbox);
        core::iter::from_fn(|| outbox.pop()).collect()
    }

    #[test]
    fn what_is_granted_anew_is_worked_on_under_the_new_token_only() {
        let mut ownership = Ownership::default();
        ownership.begin(Tenure::new(at(1)), Position::default(), Heard::default(), &mut Outbox::default());
        let acquired = does(&mut ownership, Some((4, 1)));
        let [Action::Acquire { partition, token: former }] = &acquired[..] else { panic!("{acquired:?}") };

        let released = does(&mut ownership, Some((6, 3)));
        assert!(matches!(&released[..], [Action::Release { token, .. }] if token == former), "{released:?}");

        ownership.observe_released(&partition.id, *former);
        let again = does(&mut ownership, None);
        assert!(matches!(&again[..], [Action::Acquire { token, .. }] if token > former), "{again:?}");
    }

    #[test]
    fn what_is_known_and_not_applied_yet_is_missed_when_listings_do_not_show_it_any_more() {
        let tenure = Tenure::new(at(1));
        let begun = || {
            let mut ownership = Ownership::default();
            ownership.begin(tenure, Position::default(), Heard::default(), &mut Outbox::default());
            ownership.observe_assignment(&Context::at(Instant::ORIGIN), at(9), &granting(4, tenure), tenure);
            ownership
        };
        let lists = |ownership: &mut Ownership, revision, record: &Arc<AssignmentRecord>| {
            ownership.observe_listed(Revision::new(revision), Some(record));
            ownership.observe_listing(&Context::at(Instant::ORIGIN), Incarnation::new(1), tenure)
        };
        let older = granting(2, Tenure::new(at(0)));
        let mut lost = begun();
        assert_eq!(lists(&mut lost, 5, &older), ListingNews::Doubtful, "it may be stale");
        assert_eq!(lists(&mut lost, 5, &older), ListingNews::Doubtful);
        assert_eq!(lists(&mut lost, 5, &older), ListingNews::Regressed);
        let mut stale = begun();
        assert_eq!(lists(&mut stale, 5, &older), ListingNews::Doubtful);
        assert_eq!(lists(&mut stale, 9, &granting(4, tenure)), ListingNews::Sound);
        let other_life = begun().observe_listing(&Context::at(Instant::ORIGIN), Incarnation::new(2), tenure);
        assert_eq!(other_life, ListingNews::Regressed);
    }
}
