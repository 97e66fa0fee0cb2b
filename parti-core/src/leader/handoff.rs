//! Leader: from the plan to record writes: revoke, wait, grant.

#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::ids::{Generation, Heard, Incarnation, Position, Revision, Slot, Tenure, Term};
use crate::leader::rebalance::Limits;
use crate::leader::size::{RecordTooLarge, Sizes};
use crate::member::membership::{Membership, TenureState};
use crate::outbox::Outbox;
use crate::partition::{InOrder, PartitionId, PartitionList, Places};
use crate::planted::PlantedBug;
use crate::stored::history::MovedPartition;
use crate::stored::key::Key;
use crate::stored::plan_log::PlanLog;
use crate::stored::record::{AssignmentRecord, Grant, MemberRecord, Record};

/// How many records are written in a row before the leader looks again at what has happened meanwhile, such as the end
/// of a worker, or a release.
const MAX_WRITES_AT_ONCE: usize = 16;
/// How many records are written in a row without what was released, before it is granted.
const MAX_DROPS_AT_ONCE: usize = 8;
/// How many workers are told in a row to give something up. All told at once would release at once, and what each has
/// released would wait, owned by nobody, until the records of all the others are written.
const MAX_REVOKES_AT_ONCE: usize = 2;

/// Where each partition is, where it should be, and the records that say so.
///
/// A partition is *held* by a slot while it is in `owned` or `releasing` of the slot's record. It is granted to another
/// only after a record without it was appended, which happens only once its holder has acknowledged the release or the
/// holder's tenure has ended. The grant follows in the same chain of appends, so it cannot commit without the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Handoff {
    list: PartitionList,
    /// The same with the weights by which it is divided, which are what grants say.
    weighed: PartitionList,
    /// By place in the list: which slot should own the partition.
    targets: Vec<Option<Slot>>,
    /// The slots that should own something.
    owners: BTreeSet<Slot>,
    /// By place in the list: which slot's record has the partition.
    holders: Vec<Option<Slot>>,
    /// Places of partitions that nobody holds and somebody should, each once.
    ready: Vec<u32>,
    /// How many partitions nobody should own.
    unplaced: usize,
    sheets: BTreeMap<Slot, Sheet>,
    /// The slots whose records do not yet say what they should.
    unwritten: BTreeSet<Slot>,
    /// Those of them whose records lack a grant: what it grants has no owner until then. The longest wait comes first.
    granted: VecDeque<Slot>,
    /// The slots whose records wait for a release.
    releasing: BTreeSet<Slot>,
    /// Slots whose acknowledgement or tenure may have changed since the last look.
    dirty: BTreeSet<Slot>,
    /// Slots to which something new is coming and whose records do not say so yet. That can wait: it gives no right.
    announcements: BTreeSet<Slot>,
}

/// The assignment record of one slot, with partitions as places in the list.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Sheet {
    tenure: Tenure,
    revision: Revision,
    /// In order of the places.
    owned: Vec<(u32, Generation)>,
    /// By id, since a partition that was removed from the list may still be held; in order.
    releasing: Vec<PartitionId>,
    /// In order of the places.
    incoming: Vec<u32>,
    /// Whether the record does not yet say all this.
    changed: bool,
}

/// The plan that a record belongs to, as each record names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Edition {
    pub(crate) term: Term,
    /// How far plans have come with this one.
    pub(crate) reached: Heard,
}

/// The parts from which the records are written.
pub(crate) struct Basis<'a> {
    pub(crate) context: &'a Context,
    pub(crate) edition: Edition,
    /// Which life of the plan the records are in.
    pub(crate) incarnation: Incarnation,
    pub(crate) membership: &'a Membership,
    /// The tenure of each slot that the current plan is for, unless its worker is away: only these are granted anything.
    pub(crate) planned: &'a dyn Fn(Slot) -> Option<Tenure>,
    /// The most that workers take, where they have limits.
    pub(crate) limits: &'a BTreeMap<Slot, Limits>,
}

impl Handoff {
    /// Reads where everything is from the records: as another leader left them, or this one with an older list.
    /// O(P).
    pub(crate) fn new(list: PartitionList, plan: &PlanLog) -> Self {
        let count = list.as_slice().len();
        let all = list.clone();
        let places = Places::new(&all);
        let mut handoff = Self {
            weighed: list.clone(),
            list,
            targets: alloc::vec![None; count],
            owners: BTreeSet::new(),
            holders: alloc::vec![None; count],
            ready: Vec::new(),
            unplaced: 0,
            sheets: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            granted: VecDeque::new(),
            releasing: BTreeSet::new(),
            dirty: BTreeSet::new(),
            announcements: BTreeSet::new(),
        };
        for (slot, assignment) in plan.assignments() {
            handoff.read(&places, slot, assignment.revision, &assignment.record);
        }
        // A record of an older plan may still expect what a later one has given to another.
        let mut newest_first: Vec<(Generation, Slot)> =
            plan.assignments().map(|(slot, assignment)| (assignment.record.generation, slot)).collect();
        newest_first.sort_unstable_by_key(|(generation, slot)| (Reverse(*generation), *slot));
        for (_, slot) in newest_first {
            for place in &handoff.sheets[&slot].incoming {
                handoff.targets[*place as usize].get_or_insert(slot);
            }
        }
        handoff.owners = slots_of(&handoff.targets);
        handoff.unplaced = count_unplaced(&handoff.targets);
        handoff.dirty.extend(handoff.sheets.keys());
        handoff
    }

    fn read(&mut self, places: &Places<'_>, slot: Slot, revision: Revision, record: &AssignmentRecord) {
        let mut sheet = Sheet { tenure: record.tenure, revision, ..Sheet::default() };
        sheet.releasing.clone_from(&record.releasing);
        for grant in &record.owned {
            match places.find(&grant.partition) {
                Some(at) if self.holders[at].is_none() => {
                    self.holders[at] = Some(slot);
                    self.targets[at] = Some(slot);
                    sheet.owned.push((place(at), grant.epoch));
                }
                // Removed from the list, or, in a plan that was edited by hand, owned by another slot as well.
                Some(_) | None => sheet.release(grant.partition.clone()),
            }
        }
        for id in &record.releasing {
            if let Some(at) = places.find(id) {
                self.holders[at].get_or_insert(slot);
            }
        }
        sheet.incoming.extend(record.incoming.iter().filter_map(|id| places.find(id)).map(place));
        self.sheets.insert(slot, sheet);
        self.note(slot);
    }

    pub(crate) fn list(&self) -> &PartitionList {
        &self.list
    }

    /// The list with the weights by which it is divided.
    pub(crate) fn weighed(&self) -> &PartitionList {
        &self.weighed
    }

    /// From now on the list is divided by these weights.
    pub(crate) fn weigh(&mut self, weighed: PartitionList) {
        self.weighed = weighed;
    }

    /// By place in the list: which slot should own each partition.
    pub(crate) fn targets(&self) -> &[Option<Slot>] {
        &self.targets
    }

    /// Which slot's record has the partition with this place.
    pub(crate) fn holder(&self, place: usize) -> Option<Slot> {
        self.holders[place]
    }

    /// Whether some record says that a partition goes, or has gone, where this says. Of one that nobody has and nobody is to
    /// get no record says anything.
    pub(crate) fn has_begun(&self, moved: &MovedPartition) -> bool {
        let Some(at) = self.list.position(&moved.partition) else { return true };
        let Some(target) = self.targets[at] else { return true };
        let sheet = moved.to.and_then(|to| self.sheets.get(&to));
        moved.to == Some(target) || sheet.is_some_and(|sheet| sheet.incoming.binary_search(&place(at)).is_ok())
    }

    /// The places of what should go to such a slot and is not there yet. O(P).
    pub(crate) fn expected_by(&self, is_meant: impl Fn(Slot) -> bool) -> impl Iterator<Item = usize> {
        let places = self.targets.iter().zip(&self.holders).enumerate();
        let expected = places.filter(move |(_, (target, holder))| target.is_some_and(&is_meant) && target != holder);
        expected.map(|(place, _)| place)
    }

    /// The slots that should own something.
    pub(crate) fn owners(&self) -> &BTreeSet<Slot> {
        &self.owners
    }

    /// The tenures that have an assignment record.
    pub(crate) fn tenures(&self) -> impl Iterator<Item = (Slot, Tenure)> {
        self.sheets.iter().map(|(slot, sheet)| (*slot, sheet.tenure))
    }

    /// The tenures that hold partitions, as far as the records tell.
    pub(crate) fn tenures_with_partitions(&self) -> impl Iterator<Item = (Slot, Tenure)> {
        let holds = |sheet: &Sheet| !sheet.owned.is_empty() || !sheet.releasing.is_empty();
        self.sheets.iter().filter(move |(_, sheet)| holds(sheet)).map(|(slot, sheet)| (*slot, sheet.tenure))
    }

    /// How many partitions nobody holds, those included that nobody should.
    pub(crate) fn unowned_count(&self) -> usize {
        self.ready.len() + self.unplaced
    }

    /// Something other than a plain renewal was seen of `slot`.
    pub(crate) fn observe_member(&mut self, slot: Slot) {
        self.dirty.insert(slot);
    }

    /// Whether there may be something to write.
    pub(crate) fn has_work(&self) -> bool {
        !self.dirty.is_empty() || !self.unwritten.is_empty() || !self.announcements.is_empty()
    }

    /// Whether every partition is owned by the slot that should own it, and every record is written. O(1).
    pub(crate) fn is_settled(&self) -> bool {
        self.ready.is_empty() && self.unwritten.is_empty() && self.releasing.is_empty()
    }

    /// Whether some records do not yet say what they should.
    pub(crate) fn has_unwritten(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// To be called after every change of the slot's sheet.
    fn note(&mut self, slot: Slot) {
        let sheet = self.sheets.get(&slot);
        let keep = |set: &mut BTreeSet<Slot>, keeps: bool| if keeps { set.insert(slot) } else { set.remove(&slot) };
        keep(&mut self.unwritten, sheet.is_some_and(|sheet| sheet.changed));
        keep(&mut self.releasing, sheet.is_some_and(|sheet| !sheet.releasing.is_empty()));
    }

    /// Whether every record stays within `limit` bytes, at every step on the way to these targets. O(P).
    pub(crate) fn check_sizes(
        &self,
        targets: &[Option<Slot>],
        generation: Generation,
        limit: usize,
    ) -> Result<(), RecordTooLarge> {
        if limit == usize::MAX {
            return Ok(());
        }
        let records = Sizes::of(&self.weighed, &self.holders, targets, generation);
        // What was removed from the list is only known by its holders.
        let removed = self.sheets.iter().flat_map(|(slot, sheet)| sheet.releasing.iter().map(move |id| (*slot, id)));
        let removed = removed.filter(|(_, id)| self.list.position(id).is_none());
        records.with(removed).check(limit)
    }

    /// Takes over the targets of a new plan for the workers `roster`. Nothing is granted yet. O(P).
    pub(crate) fn retarget(
        &mut self,
        context: &Context,
        targets: Vec<Option<Slot>>,
        roster: impl Iterator<Item = Slot>,
    ) {
        self.targets = targets;
        self.owners = slots_of(&self.targets);
        self.unplaced = count_unplaced(&self.targets);
        // What moves is only revoked here. It stays in its holder's record, so that nobody else can be granted it before the
        // holder has acknowledged that very record, or its tenure has ended.
        for (slot, sheet) in &mut self.sheets {
            sheet.revoke(|at| self.targets[at as usize] == Some(*slot), &self.list);
        }
        for slot in roster {
            self.sheets.entry(slot).or_default();
            self.dirty.insert(slot);
        }
        self.ready.clear();
        let mut incoming: BTreeMap<Slot, Vec<u32>> = BTreeMap::new();
        for (at, (target, holder)) in self.targets.iter().zip(&self.holders).enumerate() {
            match (target, holder) {
                // In nobody's record: free, and granted as soon as the tenure there is the one planned for.
                (Some(_), None) => self.ready.push(place(at)),
                (Some(target), Some(holder)) if target != holder => {
                    if context.has(PlantedBug::GrantUnreleased) {
                        self.ready.push(place(at));
                    }
                    incoming.entry(*target).or_default().push(place(at));
                }
                (Some(_) | None, Some(_)) | (None, None) => {}
            }
        }
        for (slot, sheet) in &mut self.sheets {
            let expected = incoming.remove(slot).unwrap_or_default();
            if sheet.incoming != expected {
                sheet.incoming = expected;
                self.announcements.insert(*slot);
            }
        }
        self.sheets.keys().copied().collect::<Vec<_>>().into_iter().for_each(|slot| self.note(slot));
    }

    /// Writes what can be written now: records without what was released, then what can be granted because of it, and
    /// where there is neither, what is to be given up.
    ///
    /// Only to be called when every earlier append is known to be committed, so that what is read of acknowledgements
    /// is about records that are really there.
    pub(crate) fn decide(&mut self, view: &Basis<'_>, plan: &mut PlanLog, outbox: &mut Outbox) {
        let mut dropped = 0;
        while dropped < MAX_DROPS_AT_ONCE
            && let Some(slot) = self.dirty.pop_first()
        {
            if self.drop_released(slot, view) {
                self.write(view.context, slot, view.edition, plan, outbox);
                dropped += 1;
            }
            self.begin_tenure(slot, view);
        }
        self.grant(view);
        let next: Vec<Slot> = if dropped > 0 || !self.granted.is_empty() {
            self.granted.iter().copied().take(MAX_WRITES_AT_ONCE).collect()
        } else {
            self.unwritten.iter().copied().take(MAX_REVOKES_AT_ONCE).collect()
        };
        for slot in next {
            self.write(view.context, slot, view.edition, plan, outbox);
        }
        // One at a time, so that a release that is confirmed meanwhile does not wait behind all of them.
        if plan.is_settled()
            && let Some(slot) = self.announcements.pop_first()
        {
            self.write(view.context, slot, view.edition, plan, outbox);
        }
    }

    /// Writes all that is still to be given up by the plan so far: what the next one moves is told from it by the
    /// generation.
    pub(crate) fn write_revoked(
        &mut self,
        context: &Context,
        edition: Edition,
        plan: &mut PlanLog,
        outbox: &mut Outbox,
    ) {
        let granted = |slot: &Slot| self.granted.contains(slot);
        let revoked: Vec<Slot> = self.unwritten.iter().copied().filter(|slot| !granted(slot)).collect();
        for slot in revoked {
            self.write(context, slot, edition, plan, outbox);
        }
    }

    /// Takes from the slot's record what its tenure is known not to hold any more; true if there was anything.
    fn drop_released(&mut self, slot: Slot, view: &Basis<'_>) -> bool {
        let Some(sheet) = self.sheets.get_mut(&slot) else { return false };
        let (owned, released) = match view.membership.tenure_state(slot, sheet.tenure) {
            TenureState::Ended => sheet.take_all(),
            TenureState::Continues => {
                let record = view.membership.member(slot).and_then(|member| member.record());
                let unconfirmed = view.context.has(PlantedBug::ReleaseUnconfirmed);
                let released = match record {
                    Some(_) if unconfirmed => core::mem::take(&mut sheet.releasing),
                    Some(record) => sheet.take_acknowledged(record, view.incarnation),
                    None => Vec::new(),
                };
                (Vec::new(), released)
            }
            // Absence proves nothing.
            TenureState::NoRecord | TenureState::Unclear => return false,
        };
        let dropped = !owned.is_empty() || !released.is_empty();
        let released = released.iter().filter_map(|id| self.list.position(id)).map(place);
        for place in owned.into_iter().chain(released) {
            let at = place as usize;
            if self.holders[at] == Some(slot) {
                self.holders[at] = None;
                if self.targets[at].is_some() {
                    self.ready.push(place);
                }
            }
        }
        self.note(slot);
        dropped
    }

    /// Begins an empty record for a tenure that has none: it tells the worker that it takes part.
    fn begin_tenure(&mut self, slot: Slot, view: &Basis<'_>) {
        let Some(tenure) = (view.planned)(slot) else { return };
        let sheet = self.sheets.entry(slot).or_default();
        // In a store that has lost writes a later tenure may have the lower number.
        let is_later = tenure.begun().is_after(sheet.tenure.begun());
        let follows = is_later || view.membership.tenure_state(slot, sheet.tenure) == TenureState::Ended;
        if sheet.tenure != tenure && follows && sheet.owned.is_empty() && sheet.releasing.is_empty() {
            sheet.tenure = tenure;
            sheet.changed = true;
            self.note(slot);
        }
    }

    /// Grants what nobody holds to the slots that should own it, where the tenure there is the one planned for, and goes
    /// on: nobody would ever give back what an ended one was granted.
    fn grant(&mut self, view: &Basis<'_>) {
        let mut granted: BTreeMap<Slot, Vec<u32>> = BTreeMap::new();
        let mut waiting = Vec::new();
        let raised = !view.context.has(PlantedBug::EpochNotRaised);
        let epoch = if raised { view.edition.reached.generation } else { Generation::new(1) };
        for place in core::mem::take(&mut self.ready) {
            if let Some(slot) = self.targets[place as usize] {
                granted.entry(slot).or_default().push(place);
            }
        }
        // What is most important has an owner first.
        let mut granted: Vec<_> = granted.into_iter().collect();
        granted.sort_by_key(|(_, places)| Reverse(places.iter().map(|place| self.list.priority(*place)).max()));
        for (slot, places) in granted {
            // The plan was made for one tenure of the slot. Another one may have begun since, which has acknowledged nothing
            // of what this record says, or nobody may be there any more: then the grant waits for the next plan.
            let planned = (view.planned)(slot);
            let goes_on = |tenure| view.membership.tenure_state(slot, tenure) == TenureState::Continues;
            let is_meant = |sheet: &&mut Sheet| Some(sheet.tenure) == planned && goes_on(sheet.tenure);
            let Some(sheet) = self.sheets.get_mut(&slot).filter(is_meant) else {
                waiting.extend(places);
                continue;
            };
            // What the worker has yet to give up takes room: what is to take its place waits for that.
            let places = match view.limits.get(&slot).filter(|_| !view.context.has(PlantedBug::GrantWithoutRoom)) {
                Some(limits) => {
                    let (fitting, later) = sheet.fitting(limits, places, &self.weighed);
                    waiting.extend(later);
                    fitting
                }
                None => places,
            };
            if places.is_empty() {
                continue;
            }
            // From here on the partition counts as held, though the append may yet fail: then this leader steps down, and the
            // next one reads what is really there.
            for place in &places {
                self.holders[*place as usize] = Some(slot);
            }
            sheet.owned.extend(places.into_iter().map(|place| (place, epoch)));
            sheet.owned.sort_unstable();
            sheet.incoming.retain(|at| self.holders[*at as usize] != Some(slot));
            sheet.changed = true;
            if !self.granted.contains(&slot) {
                self.granted.push_back(slot);
            }
            self.note(slot);
        }
        self.ready = waiting;
    }

    fn write(&mut self, context: &Context, slot: Slot, edition: Edition, plan: &mut PlanLog, outbox: &mut Outbox) {
        let Some(sheet) = self.sheets.get_mut(&slot) else { return };
        let record = sheet.record(&self.weighed, edition);
        sheet.revision = plan.append(context, Key::Assign(slot), Record::Assignment(Arc::new(record)), outbox);
        sheet.changed = false;
        self.granted.retain(|other| *other != slot);
        self.announcements.remove(&slot);
        self.note(slot);
    }
}

fn slots_of(targets: &[Option<Slot>]) -> BTreeSet<Slot> {
    let mut slots: Vec<Slot> = targets.iter().flatten().copied().collect();
    slots.sort_unstable();
    slots.dedup();
    slots.into_iter().collect()
}

fn count_unplaced(targets: &[Option<Slot>]) -> usize {
    targets.iter().filter(|target| target.is_none()).count()
}

/// A place in the list as the sheets keep it; lists are far shorter than 2³².
fn place(at: usize) -> u32 {
    u32::try_from(at).expect("a list has at most MAX_PARTITIONS partitions")
}

impl Sheet {
    /// Those of `places` that a worker has room for beside all that it has, the most important first; and the others.
    fn fitting(&self, limits: &Limits, mut places: Vec<u32>, list: &PartitionList) -> (Vec<u32>, Vec<u32>) {
        let weight = |at: usize| u64::from(list.as_slice()[at].weight.get());
        let owned = self.owned.iter().map(|(at, _)| weight(*at as usize));
        // What was removed from the list has a weight that nobody knows any more.
        let releasing = self.releasing.iter().map(|id| list.position(id).map_or(0, weight));
        let (mut count, mut load) = owned.chain(releasing).fold((0, 0), |(count, load), one| (count + 1, load + one));
        places.sort_by_key(|place| Reverse(list.priority(*place)));
        places.into_iter().partition(|place| {
            let weight = weight(*place as usize);
            let fits = limits.allow((count, load), weight);
            if fits {
                (count, load) = (count + 1, load + weight);
            }
            fits
        })
    }

    fn release(&mut self, id: PartitionId) {
        if let Err(at) = self.releasing.binary_search(&id) {
            self.releasing.insert(at, id);
            self.changed = true;
        }
    }

    /// Moves from `owned` to `releasing` what is not to stay.
    fn revoke(&mut self, stays: impl Fn(u32) -> bool, list: &PartitionList) {
        let before = self.owned.len();
        let releasing = &mut self.releasing;
        self.owned.retain(|(at, _)| {
            let stays = stays(*at);
            if !stays {
                releasing.push(list.as_slice()[*at as usize].id.clone());
            }
            stays
        });
        if self.owned.len() != before {
            self.releasing.sort_unstable();
            self.changed = true;
        }
    }

    /// The tenure has ended: it holds nothing any more. What its slot may expect is for the next tenure to hear.
    fn take_all(&mut self) -> (Vec<u32>, Vec<PartitionId>) {
        let owned = self.owned.drain(..).map(|(place, _)| place).collect();
        (owned, core::mem::take(&mut self.releasing))
    }

    /// Takes out what the worker was told to give up by this very record and no longer holds. A record that is not written yet
    /// has told it nothing.
    fn take_acknowledged(&mut self, member: &MemberRecord, incarnation: Incarnation) -> Vec<PartitionId> {
        let written = Position { incarnation, revision: self.revision };
        if self.changed || !member.applied.has_reached(written) {
            return Vec::new();
        }
        let mut still_held = InOrder::new(&member.releasing, |id| id);
        self.releasing.extract_if(.., |id| still_held.find(id).is_none()).collect()
    }

    fn record(
        &self,
        list: &PartitionList,
        Edition { term, reached: Heard { era, generation } }: Edition,
    ) -> AssignmentRecord {
        let partition = |at: u32| &list.as_slice()[at as usize];
        let grant = |(at, epoch): &(u32, Generation)| Grant {
            partition: partition(*at).id.clone(),
            weight: partition(*at).weight,
            epoch: *epoch,
        };
        AssignmentRecord {
            term,
            generation,
            era,
            tenure: self.tenure,
            owned: self.owned.iter().map(grant).collect(),
            releasing: self.releasing.clone(),
            incoming: self.incoming.iter().map(|at| partition(*at).id.clone()).collect(),
        }
    }
}
