//! Which slot to claim, inherit or wait for.

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::discriminant;

use serde::{Deserialize, Serialize};

use crate::action::{ClaimKind, Notice, StandbyReason, Write};
use crate::context::Context;
use crate::event::Outcome;
use crate::ids::{Heard, Instance, OperationId, Position, Revision, Slot, Tenure};
use crate::member::lease::Lease;
use crate::member::membership::{Member, MemberContent, Membership};
use crate::member::presence::Evidence;
use crate::member::probing::Probing;
use crate::outbox::Outbox;
use crate::planted::PlantedBug;
use crate::rng::Rng;
use crate::stored::key::Key;
use crate::stored::load::MeasuredLoad;
use crate::stored::record::{MemberPhase, MemberRecord, Record};
use crate::time::Instant;

/// Among how many of the lowest free slots a newcomer chooses, by how often it has lost one: alone it takes the lowest,
/// and in a crowd of hundreds hardly anybody needs a fifth try. After that it chooses among all.
const SPREAD: [usize; 3] = [1, 8, 512];

/// The search for a slot, from the first listing of the members to the write that wins one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SlotSearch {
    /// When the first listing was complete, from which on silence means something.
    listening_since: Option<Instant>,
    /// When the last listing was complete.
    listed_at: Instant,
    /// When it has asked for another one, since that was too long ago, if none was complete since.
    looked_at: Option<Instant>,
    claim: Option<Claim>,
    /// Slots lost to others, and the revision that was known then: there is no use in trying before more is known.
    conflicts: BTreeMap<Slot, Revision>,
    /// How it would have come to slots by claims that have not committed as far as it was told: one may have all the same.
    unsettled: BTreeMap<Slot, ClaimKind>,
    /// When to ask for a new listing, if the slots lost to others have shown nothing new by then.
    read_again_at: Option<Instant>,
    tries: u32,
    standby: Option<StandbyReason>,
    not_before: Instant,
    /// Whether the store has refused the last claim.
    refused: bool,
    /// Whether a claim has failed because of the store.
    could_not_write: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claim {
    operation: OperationId,
    sent_at: Instant,
    target: Target,
    /// The last revision of the slot that was known when the claim was sent.
    known: Revision,
    /// The highest revision of the bucket that was known then.
    newest: Revision,
    /// The record that was written.
    record: Arc<MemberRecord>,
    /// The evidence of this worker's presence that it names.
    evidence: Option<Evidence>,
}

/// A slot and the way to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Target {
    slot: Slot,
    kind: ClaimKind,
    /// The record to take over and the revision that wrote it; none for a fresh slot.
    predecessor: Option<(Revision, Tenure, Arc<MemberRecord>)>,
}

/// The result of one look at the slots.
#[derive(Debug)]
enum Choice {
    Take(Target),
    Wait(StandbyReason),
    /// Everything that could be tried was just lost to others: wait for news.
    Lost,
}

/// The outcome of a write, as the search sees it.
#[derive(Debug)]
pub(crate) enum ClaimNews {
    /// The write was not one of the search's.
    NotOurs,
    /// The search goes on.
    Settled,
    Won(Box<Won>),
}

/// A slot that was won.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Won {
    pub(crate) lease: Lease,
    /// Whether there was nothing before it: neither another process in the tenure nor an earlier write of this one.
    pub(crate) is_new: bool,
    pub(crate) kind: ClaimKind,
    /// The write of the assignment record that the tenure has applied so far: nothing older may be applied.
    pub(crate) applied: Position,
    /// How far plans have come, as far as the tenure has heard.
    pub(crate) heard: Heard,
    /// Whether the revision of the claim shows that the store has lost writes: this process had seen one as high before.
    pub(crate) shows_loss: bool,
    /// The evidence of this worker's presence that the claim proves.
    pub(crate) evidence: Option<Evidence>,
    /// The loads that the tenure has told.
    pub(crate) load: Option<MeasuredLoad>,
}

impl SlotSearch {
    /// A complete listing of the members has been seen.
    pub(crate) fn observe_listing(&mut self, now: Instant) {
        self.listening_since.get_or_insert(now);
        self.listed_at = now;
        (self.looked_at, self.read_again_at) = (None, None);
        self.conflicts.clear();
    }

    /// Takes in the outcome of a claim.
    pub(crate) fn observe_done(
        &mut self,
        context: &Context,
        operation: OperationId,
        outcome: Outcome,
        membership: &mut Membership,
    ) -> ClaimNews {
        let Some(claim) = self.claim.take_if(|claim| claim.operation == operation) else { return ClaimNews::NotOurs };
        let Claim { sent_at, target, known, newest, record, evidence, .. } = claim;
        match outcome {
            Outcome::Committed(revision) => {
                // Only now it is known that anybody can write again.
                if self.could_not_write {
                    membership.start_anew(context, None);
                }
                let incarnation = membership.incarnation();
                let won = target.won(&record, Position { incarnation, revision }, sent_at, context);
                return ClaimNews::Won(Box::new(Won { evidence, shows_loss: revision <= newest, ..won }));
            }
            Outcome::Conflict => {
                self.unsettled.insert(target.slot, target.kind);
                self.refused = false;
                membership.observe_refused(context, Key::Slot(target.slot), known);
                self.conflicts.insert(target.slot, known);
                self.read_again_at = Some(context.now + context.timing.renewal);
                self.tries += 1;
            }
            Outcome::Refused | Outcome::Unknown => {
                self.unsettled.insert(target.slot, target.kind);
                self.refused = outcome == Outcome::Refused;
                self.could_not_write = true;
                self.not_before = context.now + context.timing.retry;
                // Others may have been as little able to write.
                membership.start_anew(context, None);
            }
        }
        ClaimNews::Settled
    }

    /// A record with this process's own instance: an earlier claim of its own, whose outcome was not known.
    pub(crate) fn adopt(&self, context: &Context, slot: Slot, tenure: Tenure, member: &Member) -> Option<Won> {
        let record = member.record().filter(|_| self.claim.is_none())?;
        let lease = Lease::won(slot, tenure, member.revision, None, context);
        let (applied, heard) = (record.applied, record.heard());
        let is_new = false;
        let kind = self.unsettled.get(&slot).copied().unwrap_or(ClaimKind::Fresh);
        let load = record.load.clone();
        Some(Won { lease, is_new, kind, applied, heard, shows_loss: false, evidence: None, load })
    }

    /// Whether the members should be listed anew, since claims fail for a reason that the watch does not show. Asking
    /// counts as reading.
    pub(crate) fn take_reading(&mut self, now: Instant) -> bool {
        self.read_again_at.take_if(|at| now >= *at).is_some()
    }

    /// Whether a claim is on its way.
    pub(crate) fn is_claiming(&self) -> bool {
        self.claim.is_some()
    }

    /// Whether the store has refused the last claim, and not because somebody else was faster.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether the members have been listed since the search began.
    pub(crate) fn has_listened(&self) -> bool {
        self.listening_since.is_some()
    }

    /// Claims a slot if one is to be had.
    pub(crate) fn decide(&mut self, view: &Seeker<'_>, rng: &mut Rng, outbox: &mut Outbox) {
        let Some(listening_since) = self.listening_since else { return };
        if self.claim.is_some() || view.context.now < self.not_before {
            return;
        }
        let chooser = Chooser { view, listening_since, conflicts: &self.conflicts };
        let choice = match view.context.config.preferred_slot {
            Some(slot) => chooser.choose_preferred(slot),
            None => chooser.choose_any(self.tries, rng),
        };
        match choice {
            Choice::Take(target) if outbox.is_writing(Key::Slot(target.slot)) => {}
            Choice::Take(target) if self.is_old_news(&target, view.context) => {
                let now = view.context.now;
                if self.looked_at.is_none_or(|at| now >= at + view.context.timing.retry) {
                    (self.looked_at, self.read_again_at) = (Some(now), Some(now));
                }
            }
            Choice::Take(target) => {
                let known = chooser.known(target.slot);
                let record = target.record(view.context, view.record);
                let operation = outbox.request(target.write(Arc::clone(&record)));
                let (sent_at, evidence, newest) = (view.context.now, view.evidence, view.membership.newest());
                self.claim = Some(Claim { operation, sent_at, target, known, newest, record, evidence });
            }
            Choice::Wait(reason) if self.standby.map(|told| discriminant(&told)) != Some(discriminant(&reason)) => {
                self.standby = Some(reason);
                let at_most = chooser.waits_until(reason).map(|until| until.since(view.context.now));
                outbox.notice(Notice::Standby { reason, at_most });
            }
            Choice::Wait(_) | Choice::Lost => self.refused = false,
        }
    }

    /// Whether what this worker would take over was listed so long ago that it lists once more: it may not have run since,
    /// and a store that has lost writes may have given that revision to another process.
    fn is_old_news(&self, target: &Target, context: &Context) -> bool {
        let is_old = context.now >= self.listed_at + context.timing.renewal;
        target.predecessor.is_some() && is_old && !context.has(PlantedBug::RenewUnlisted)
    }

    /// When the search should be asked again if nothing is heard.
    pub(crate) fn deadline(&self, context: &Context, membership: &Membership) -> Option<Instant> {
        let listening_since = self.listening_since?;
        if self.claim.is_some() {
            return self.read_again_at;
        }
        let records = || membership.members().filter(|(_, member)| member.record().is_some());
        let learnt = records().map(|(_, member)| listening_since + member.learning_time());
        let expiries = records().map(|(slot, member)| membership.silent_for_good_at(slot, member));
        let surge = listening_since + context.config.surge_wait;
        let looks = self.looked_at.map(|at| at + context.timing.retry);
        let due = expiries.chain(learnt).chain([surge, self.not_before]).chain(looks).filter(|at| *at > context.now);
        due.chain(self.read_again_at).min()
    }
}

impl Target {
    fn fresh(slot: Slot) -> Self {
        Self { slot, kind: ClaimKind::Fresh, predecessor: None }
    }

    /// The worker's first record there: it goes on with what the predecessor has applied and seen.
    fn record(&self, context: &Context, own: &dyn Fn(Option<Tenure>) -> MemberRecord) -> Arc<MemberRecord> {
        Arc::new(match &self.predecessor {
            None => own(None),
            Some((_, tenure, _)) if context.has(PlantedBug::ForgetApplied) => own(Some(*tenure)),
            Some((_, tenure, predecessor)) => {
                let own = own(Some(*tenure));
                let Heard { era, generation } = own.heard().max(predecessor.heard());
                let load = predecessor.load.clone();
                MemberRecord { applied: predecessor.applied, generation, era, load, ..own }
            }
        })
    }

    fn write(&self, record: Arc<MemberRecord>) -> Write {
        let (key, record) = (Key::Slot(self.slot), Record::Member(record));
        match &self.predecessor {
            None => Write::Create { key, record },
            Some((expected, ..)) => Write::Update { key, record, expected: *expected },
        }
    }

    fn won(self, record: &MemberRecord, written: Position, sent_at: Instant, context: &Context) -> Won {
        let tenure = record.tenure_if_written(written);
        let unnamed = context.has(PlantedBug::TenureByRevision);
        let tenure = if unnamed { tenure.with_writer(0) } else { tenure };
        let lease = Lease::won(self.slot, tenure, written.revision, Some(sent_at), context);
        let (applied, heard) = (record.applied, record.heard());
        let is_new = self.predecessor.is_none();
        let load = record.load.clone();
        Won { lease, is_new, kind: self.kind, applied, heard, shows_loss: false, evidence: None, load }
    }
}

/// A worker without a slot: the parts from which its search is decided.
pub(crate) struct Seeker<'a> {
    pub(crate) context: &'a Context,
    pub(crate) membership: &'a Membership,
    pub(crate) probing: &'a Probing,
    /// The process of which this worker knows that it is dead, if it knows of one.
    pub(crate) dead: Option<Instance>,
    /// The evidence of this worker's presence that a claim proves which is sent now.
    pub(crate) evidence: Option<Evidence>,
    /// The worker's first record, given the tenure that it goes on with.
    pub(crate) record: &'a dyn Fn(Option<Tenure>) -> MemberRecord,
}

/// Makes one choice.
struct Chooser<'a> {
    view: &'a Seeker<'a>,
    listening_since: Instant,
    conflicts: &'a BTreeMap<Slot, Revision>,
}

impl Chooser<'_> {
    fn choose_preferred(&self, slot: Slot) -> Choice {
        if self.is_lost(slot) {
            return Choice::Lost;
        }
        let Some(member) = self.view.membership.member(slot) else { return Choice::Take(Target::fresh(slot)) };
        match &member.content {
            MemberContent::Deleted => Choice::Take(Target::fresh(slot)),
            MemberContent::Unreadable { .. } => Choice::Wait(StandbyReason::PreferredSlotUnreadable { slot }),
            MemberContent::Record(record) => {
                let dead = self.view.dead == Some(record.instance);
                let whoever = self.view.context.has(PlantedBug::DeadWhoeverIsThere);
                let dead = dead || whoever && self.view.context.config.predecessor_is_dead;
                match self.successor_of(slot, member) {
                    Some(target) => Choice::Take(target),
                    None if dead && !member.is_doubtful(self.view.context) => {
                        Choice::Take(self.take_over(slot, member, record))
                    }
                    None => Choice::Wait(StandbyReason::PreferredSlotHeld { slot, holder: record.instance }),
                }
            }
        }
    }

    /// A slot left for a successor, else that of a dead process, else a free one near the bottom of the range.
    fn choose_any(&self, tries: u32, rng: &mut Rng) -> Choice {
        let (first, last) = self.view.context.config.slots;
        let (mut left, mut dead): (Vec<Target>, Vec<Target>) = (Vec::new(), Vec::new());
        let mut silent = 0;
        for (slot, member) in self.view.membership.members_between(first, last) {
            let unreadable = matches!(member.content, MemberContent::Unreadable { .. });
            if unreadable && self.view.context.has(PlantedBug::UnreadableIsFree) {
                return Choice::Take(self.write_over(slot, member));
            }
            silent += usize::from(self.may_be_dead(member));
            match self.successor_of(slot, member).filter(|_| !self.was_lost(slot, member.revision)) {
                Some(target) if target.kind == ClaimKind::Inherited => left.push(target),
                Some(target) => dead.push(target),
                None => {}
            }
        }
        for mut candidates in [left, dead] {
            if !candidates.is_empty() {
                let choice = usize::try_from(rng.below(candidates.len() as u64)).unwrap_or(0);
                return Choice::Take(candidates.swap_remove(choice));
            }
        }
        if silent > 0 {
            return Choice::Wait(StandbyReason::LearningWhoIsAlive { silent });
        }
        if let Some(reason) = self.surge() {
            return Choice::Wait(reason);
        }
        self.choose_free(tries, rng)
    }

    /// A worker of another software version is probably the replacement of one that is about to go: its slot, and the
    /// partitions with it, is worth some waiting.
    fn surge(&self) -> Option<StandbyReason> {
        let own = &self.view.context.config.software;
        let differs = |record: &MemberRecord| record.phase == MemberPhase::Active && record.software != *own;
        let records = self.view.membership.members().filter_map(|(_, member)| member.record());
        let others = records.filter(|record| differs(record)).count();
        let waits = others > 0 && self.view.context.now < self.listening_since + self.view.context.config.surge_wait;
        waits.then_some(StandbyReason::OtherVersion { workers: others })
    }

    fn choose_free(&self, tries: u32, rng: &mut Rng) -> Choice {
        let (first, last) = self.view.context.config.slots;
        let is_taken = |slot: Slot| {
            let member = self.view.membership.member(slot);
            member.is_some_and(|member| !matches!(member.content, MemberContent::Deleted))
        };
        let spread = SPREAD.get(tries as usize).copied().unwrap_or(usize::MAX);
        let free = (first.value()..=last.value()).map(Slot::new).filter(|slot| !is_taken(*slot));
        let mut any_free = false;
        let candidates: Vec<Slot> =
            free.inspect(|_| any_free = true).filter(|slot| !self.is_lost(*slot)).take(spread).collect();
        let choice = usize::try_from(rng.below(candidates.len() as u64)).unwrap_or(0);
        match candidates.get(choice) {
            Some(slot) => Choice::Take(Target::fresh(*slot)),
            None if any_free => Choice::Lost,
            None => Choice::Wait(self.no_free_slot()),
        }
    }

    /// The way to a slot whose holder has left it for a successor, or has stopped since its lease ran out.
    fn successor_of(&self, slot: Slot, member: &Member) -> Option<Target> {
        let record = member.record().filter(|_| !member.is_doubtful(self.view.context))?;
        if record.phase == MemberPhase::Restarting {
            let predecessor = (member.revision, self.view.membership.tenure_of(member)?, Arc::clone(record));
            return Some(Target { slot, kind: ClaimKind::Inherited, predecessor: Some(predecessor) });
        }
        let expired = self.view.context.now >= self.view.membership.silent_for_good_at(slot, member);
        let gone = self.view.probing.is_gone(self.view.context, slot, member);
        let early = self.view.context.has(PlantedBug::TakeOverEarly);
        (expired || gone || early).then(|| self.take_over(slot, member, record))
    }

    fn take_over(&self, slot: Slot, member: &Member, record: &Arc<MemberRecord>) -> Target {
        let tenure = self.view.membership.tenure_of(member).unwrap_or_default();
        Target { slot, kind: ClaimKind::TakenOver, predecessor: Some((member.revision, tenure, Arc::clone(record))) }
    }

    /// What only a planted bug does: a tenure begins on top of what cannot be read.
    fn write_over(&self, slot: Slot, member: &Member) -> Target {
        let begun = Position { incarnation: self.view.membership.incarnation(), revision: member.revision };
        let nobody = Arc::new(MemberRecord::new(Instance::default()));
        let predecessor = Some((member.revision, Tenure::new(begun), nobody));
        Target { slot, kind: ClaimKind::TakenOver, predecessor }
    }

    /// Until when it waits for this reason at the latest, if that is known.
    fn waits_until(&self, reason: StandbyReason) -> Option<Instant> {
        match reason {
            StandbyReason::LearningWhoIsAlive { .. } => {
                let (first, last) = self.view.context.config.slots;
                let members = self.view.membership.members_between(first, last);
                let silent = members.filter(|(_, member)| self.may_be_dead(member));
                silent.map(|(slot, member)| self.view.membership.silent_for_good_at(slot, member)).max()
            }
            StandbyReason::OtherVersion { .. } => Some(self.listening_since + self.view.context.config.surge_wait),
            StandbyReason::NoFreeSlot { .. }
            | StandbyReason::PreferredSlotHeld { .. }
            | StandbyReason::PreferredSlotUnreadable { .. } => None,
        }
    }

    /// Nothing has been heard of the holder yet, or for so long that it has missed a renewal.
    fn may_be_dead(&self, member: &Member) -> bool {
        if member.record().is_none() {
            return false;
        }
        !member.heard || member.is_late(self.view.context.now, self.listening_since)
    }

    /// Whether a claim of this slot was lost, and nothing new has been seen of it since.
    fn is_lost(&self, slot: Slot) -> bool {
        self.was_lost(slot, self.known(slot))
    }

    fn was_lost(&self, slot: Slot, known: Revision) -> bool {
        self.conflicts.get(&slot).is_some_and(|lost_at| *lost_at >= known)
    }

    fn known(&self, slot: Slot) -> Revision {
        self.view.membership.member(slot).map_or_else(Revision::default, |member| member.revision)
    }

    fn no_free_slot(&self) -> StandbyReason {
        StandbyReason::NoFreeSlot { first: self.view.context.config.slots.0, last: self.view.context.config.slots.1 }
    }
}

/// Whether a member record was written by this process.
pub(crate) fn is_own(member: &Member, own: Instance) -> bool {
    member.record().is_some_and(|record| record.instance == own)
}
