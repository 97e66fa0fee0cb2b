//! Leader: from the plan to record writes: revoke, wait, grant.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::ids::{Generation, Incarnation, Position, Revision, Slot, Tenure, Term};
use crate::key::Key;
use crate::membership::{Membership, TenureState};
use crate::outbox::Outbox;
use crate::partition::{PartitionId, PartitionList};
use crate::plan_log::PlanLog;
use crate::record::{AssignmentRecord, Grant, MemberRecord, Record};
use crate::size::{RecordTooLarge, Sizes};

/// Where each partition is, where it should be, and the records that say so.
///
/// A partition is *held* by a slot while it is in `owned` or `releasing` of the slot's record. It is granted to another
/// only after a record without it was appended, which happens only once its holder has acknowledged the release or the
/// holder's tenure has ended. The grant follows in the same chain of appends, so it cannot commit without the other.
#[derive(Clone, Debug)]
pub(crate) struct Handoff {
    list: PartitionList,
    /// By place in the list: which slot should own the partition.
    targets: Vec<Option<Slot>>,
    /// By slot: how many partitions it should own.
    loads: BTreeMap<Slot, usize>,
    /// By place in the list: which slot's record has the partition.
    holders: Vec<Option<Slot>>,
    /// Places of partitions that nobody holds and somebody should.
    ready: BTreeSet<u32>,
    /// How many partitions nobody should own.
    unplaced: usize,
    sheets: BTreeMap<Slot, Sheet>,
    /// Slots whose acknowledgement or tenure may have changed since the last look.
    dirty: BTreeSet<Slot>,
    /// Slots to which something new is coming and whose records do not say so yet. That can wait: it gives no right.
    announcements: BTreeSet<Slot>,
}

/// The assignment record of one slot, with partitions as places in the list.
#[derive(Clone, Debug, Default)]
struct Sheet {
    tenure: Tenure,
    revision: Revision,
    /// In order of the places.
    owned: Vec<(u32, Generation)>,
    /// By id, since a partition that was removed from the list may still be held; in order.
    releasing: Vec<PartitionId>,
    /// In order of the places.
    incoming: Vec<u32>,
    changed: bool,
}

/// What the records are written from.
pub(crate) struct Surroundings<'a> {
    pub(crate) term: Term,
    pub(crate) generation: Generation,
    /// Which life of the plan the records are in.
    pub(crate) incarnation: Incarnation,
    pub(crate) membership: &'a Membership,
    /// The tenure of each slot that the current plan is for: only these are granted anything.
    pub(crate) planned: &'a dyn Fn(Slot) -> Option<Tenure>,
}

impl Handoff {
    /// Reads where everything is from the records: as another leader left them, or this one with an older list.
    /// O(P log P).
    pub(crate) fn new(list: PartitionList, plan: &PlanLog) -> Self {
        let count = list.as_slice().len();
        let mut handoff = Self {
            list,
            targets: alloc::vec![None; count],
            loads: BTreeMap::new(),
            holders: alloc::vec![None; count],
            ready: BTreeSet::new(),
            unplaced: 0,
            sheets: BTreeMap::new(),
            dirty: BTreeSet::new(),
            announcements: BTreeSet::new(),
        };
        for (slot, assignment) in plan.assignments() {
            handoff.read(slot, assignment.revision, &assignment.record);
        }
        for (slot, sheet) in &handoff.sheets {
            for place in &sheet.incoming {
                handoff.targets[*place as usize].get_or_insert(*slot);
            }
        }
        handoff.loads = count_by_slot(&handoff.targets);
        handoff.unplaced = count_unplaced(&handoff.targets);
        handoff.dirty.extend(handoff.sheets.keys());
        handoff
    }

    fn read(&mut self, slot: Slot, revision: Revision, record: &AssignmentRecord) {
        let mut sheet = Sheet { tenure: record.tenure, revision, ..Sheet::default() };
        sheet.releasing.clone_from(&record.releasing);
        for grant in &record.owned {
            match self.list.position(&grant.partition) {
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
            if let Some(at) = self.list.position(id) {
                self.holders[at].get_or_insert(slot);
            }
        }
        sheet.incoming.extend(record.incoming.iter().filter_map(|id| self.list.position(id)).map(place));
        self.sheets.insert(slot, sheet);
    }

    pub(crate) fn list(&self) -> &PartitionList {
        &self.list
    }

    /// By place in the list: which slot should own each partition.
    pub(crate) fn targets(&self) -> &[Option<Slot>] {
        &self.targets
    }

    /// By slot: how many partitions it should own, slots that should own none left out.
    pub(crate) fn loads(&self) -> &BTreeMap<Slot, usize> {
        &self.loads
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
        !self.dirty.is_empty() || !self.announcements.is_empty()
    }

    /// Whether every partition is owned by the slot that should own it, and every record is written.
    pub(crate) fn is_settled(&self) -> bool {
        self.ready.is_empty() && self.sheets.values().all(|sheet| sheet.releasing.is_empty() && !sheet.changed)
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
        let records = Sizes::of(&self.list, &self.holders, targets, generation);
        // What was removed from the list is only known by its holders.
        let removed = self.sheets.iter().flat_map(|(slot, sheet)| sheet.releasing.iter().map(move |id| (*slot, id)));
        let removed = removed.filter(|(_, id)| self.list.position(id).is_none());
        records.with(removed).check(limit)
    }

    /// Takes over the targets of a new plan for the workers `roster`. Nothing is granted yet. O(P).
    pub(crate) fn retarget(&mut self, targets: Vec<Option<Slot>>, roster: impl Iterator<Item = Slot>) {
        self.targets = targets;
        self.loads = count_by_slot(&self.targets);
        self.unplaced = count_unplaced(&self.targets);
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
                (Some(_), None) => {
                    self.ready.insert(place(at));
                }
                (Some(target), Some(holder)) if target != holder => {
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
    }

    /// Writes what can be written now: records without what was released, then what can be granted because of it.
    ///
    /// Only to be called when every earlier append is known to be committed, so that what is read of acknowledgements
    /// is about records that are really there.
    pub(crate) fn decide(&mut self, view: &Surroundings<'_>, plan: &mut PlanLog, outbox: &mut Outbox) {
        for slot in core::mem::take(&mut self.dirty) {
            if self.drop_released(slot, view) {
                self.write(slot, view, plan, outbox);
            }
            self.begin_tenure(slot, view);
        }
        self.grant(view);
        let changed = self.sheets.iter().filter(|(_, sheet)| sheet.changed).map(|(slot, _)| *slot);
        for slot in changed.collect::<Vec<_>>() {
            self.write(slot, view, plan, outbox);
        }
        // One at a time, so that a release that is confirmed meanwhile does not wait behind all of them.
        if plan.is_settled()
            && let Some(slot) = self.announcements.pop_first()
        {
            self.write(slot, view, plan, outbox);
        }
    }

    /// Takes from the slot's record what its tenure is known not to hold any more; true if there was anything.
    fn drop_released(&mut self, slot: Slot, view: &Surroundings<'_>) -> bool {
        let Some(sheet) = self.sheets.get_mut(&slot) else { return false };
        let freed = match view.membership.tenure_state(slot, sheet.tenure) {
            TenureState::Ended => sheet.take_all(&self.list),
            TenureState::Continues => {
                let record = view.membership.member(slot).and_then(|member| member.record());
                record.map(|record| sheet.take_acknowledged(record, view.incarnation)).unwrap_or_default()
            }
            // Absence proves nothing.
            TenureState::NoRecord | TenureState::Unclear => Vec::new(),
        };
        for at in freed.iter().filter_map(|id| self.list.position(id)) {
            if self.holders[at] == Some(slot) {
                self.holders[at] = None;
                if self.targets[at].is_some() {
                    self.ready.insert(place(at));
                }
            }
        }
        !freed.is_empty()
    }

    /// Begins an empty record for a tenure that has none: it tells the worker that it takes part.
    fn begin_tenure(&mut self, slot: Slot, view: &Surroundings<'_>) {
        let Some(tenure) = (view.planned)(slot) else { return };
        let sheet = self.sheets.entry(slot).or_default();
        // In a store that has lost writes a later tenure may have the lower number.
        let follows = sheet.tenure < tenure || view.membership.tenure_state(slot, sheet.tenure) == TenureState::Ended;
        if sheet.tenure != tenure && follows && sheet.owned.is_empty() && sheet.releasing.is_empty() {
            sheet.tenure = tenure;
            sheet.changed = true;
        }
    }

    /// Grants what nobody holds to the slots that should own it, where the tenure there is the one planned for.
    fn grant(&mut self, view: &Surroundings<'_>) {
        let mut touched = BTreeSet::new();
        self.ready.retain(|place| {
            let Some(slot) = self.targets[*place as usize] else { return false };
            let planned = (view.planned)(slot);
            let sheet = self.sheets.get_mut(&slot).filter(|sheet| Some(sheet.tenure) == planned);
            let Some(sheet) = sheet else { return true };
            sheet.owned.push((*place, view.generation));
            self.holders[*place as usize] = Some(slot);
            touched.insert(slot);
            false
        });
        for slot in touched {
            if let Some(sheet) = self.sheets.get_mut(&slot) {
                sheet.owned.sort_unstable();
                sheet.incoming.retain(|at| self.holders[*at as usize] != Some(slot));
                sheet.changed = true;
            }
        }
    }

    fn write(&mut self, slot: Slot, view: &Surroundings<'_>, plan: &mut PlanLog, outbox: &mut Outbox) {
        let Some(sheet) = self.sheets.get_mut(&slot) else { return };
        let record = sheet.record(&self.list, view.term, view.generation);
        sheet.revision = plan.append(outbox, Key::Assign(slot), Record::Assignment(Arc::new(record)));
        sheet.changed = false;
        self.announcements.remove(&slot);
    }
}

fn count_by_slot(targets: &[Option<Slot>]) -> BTreeMap<Slot, usize> {
    let mut counts = BTreeMap::new();
    for slot in targets.iter().flatten() {
        *counts.entry(*slot).or_insert(0) += 1;
    }
    counts
}

fn count_unplaced(targets: &[Option<Slot>]) -> usize {
    targets.iter().filter(|target| target.is_none()).count()
}

/// A place in the list as the sheets keep it; lists are far shorter than 2³².
fn place(at: usize) -> u32 {
    u32::try_from(at).expect("a list has at most MAX_PARTITIONS partitions")
}

impl Sheet {
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
    fn take_all(&mut self, list: &PartitionList) -> Vec<PartitionId> {
        let mut freed = core::mem::take(&mut self.releasing);
        freed.extend(self.owned.drain(..).map(|(at, _)| list.as_slice()[at as usize].id.clone()));
        freed
    }

    /// What the worker was told to give up by this very record and no longer holds. A record that is not written yet
    /// has told it nothing.
    fn take_acknowledged(&mut self, member: &MemberRecord, incarnation: Incarnation) -> Vec<PartitionId> {
        let written = Position { incarnation, revision: self.revision };
        if self.changed || member.applied < written {
            return Vec::new();
        }
        let still_held = |id: &PartitionId| member.releasing.binary_search(id).is_ok();
        let (kept, freed) = core::mem::take(&mut self.releasing).into_iter().partition(still_held);
        self.releasing = kept;
        freed
    }

    fn record(&self, list: &PartitionList, term: Term, generation: Generation) -> AssignmentRecord {
        let partition = |at: u32| &list.as_slice()[at as usize];
        let grant = |(at, epoch): &(u32, Generation)| Grant {
            partition: partition(*at).id.clone(),
            weight: partition(*at).weight,
            epoch: *epoch,
        };
        AssignmentRecord {
            term,
            generation,
            tenure: self.tenure,
            owned: self.owned.iter().map(grant).collect(),
            releasing: self.releasing.clone(),
            incoming: self.incoming.iter().map(|at| partition(*at).id.clone()).collect(),
        }
    }
}
