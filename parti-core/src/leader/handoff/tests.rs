//! State in, records out.

use alloc::vec;

use super::*;
use crate::action::{Action, Request, Write};
use crate::event::Outcome;
use crate::ids::Instance;
use crate::partition::Partition;
use crate::time::Instant;

const SLOT: Slot = Slot::new(1);

fn id() -> PartitionId {
    PartitionId::new("p").expect("a valid id")
}

fn position(incarnation: u64, revision: u64) -> Position {
    Position { incarnation: Incarnation::new(incarnation), revision: Revision::new(revision) }
}

/// A record that tells its worker to give up a partition.
fn revoking(tenure: Tenure) -> Sheet {
    Sheet { tenure, revision: Revision::new(5), releasing: vec![id()], ..Sheet::default() }
}

#[test]
fn only_who_has_applied_the_very_record_that_revokes_has_acknowledged_it() {
    let life = Incarnation::new(2);
    let says = |applied| MemberRecord { applied, ..MemberRecord::new(Instance::new(1)) };
    let taken = |mut sheet: Sheet, record: &MemberRecord| sheet.take_acknowledged(record, life);
    let sheet = || revoking(Tenure::default());
    assert_eq!(taken(sheet(), &says(position(1, 900))), [], "of a former life of the plan");
    assert_eq!(taken(sheet(), &says(position(2, 4))), [], "before it");
    assert_eq!(taken(Sheet { changed: true, ..sheet() }, &says(position(2, 900))), [], "not written yet");
    let holds = MemberRecord { releasing: vec![id()], ..says(position(2, 5)) };
    assert_eq!(taken(sheet(), &holds), [], "not done with it");
    assert_eq!(taken(sheet(), &says(position(2, 5))), [id()]);
}

#[test]
fn what_another_tenure_of_the_slot_has_applied_acknowledges_nothing() {
    let context = Context::at(Instant::ORIGIN);
    let record = |tenure| MemberRecord {
        tenure: Some(tenure),
        applied: position(2, 900),
        ..MemberRecord::new(Instance::new(1))
    };
    let (former, later) = (Tenure::new(position(2, 3)), Tenure::new(position(2, 30)));
    let drops = |seen: Tenure| {
        let mut membership = Membership::new(&context);
        membership.end_listing(&context, Incarnation::new(2), |_| true);
        let entry = Record::Member(Arc::new(record(seen)));
        membership.observe_entry(&context, Key::Slot(SLOT), Revision::new(20), &entry, true);
        let mut handoff = Handoff::new(PartitionList::default(), &PlanLog::default());
        handoff.sheets.insert(SLOT, revoking(later));
        let edition = Edition { term: Term::default(), reached: Heard::default() };
        let incarnation = Incarnation::new(2);
        let view = Basis {
            context: &context,
            edition,
            incarnation,
            membership: &membership,
            planned: &|_| None,
            limits: &BTreeMap::new(),
        };
        handoff.drop_released(SLOT, &view)
    };
    assert!(!drops(former));
    assert!(drops(later));
}

/// Lets the append that is on its way commit; what it wrote for which slot.
fn committed(plan: &mut PlanLog, outbox: &mut Outbox, context: &Context) -> Option<(Slot, AssignmentRecord)> {
    let action = outbox.pop()?;
    let Action::Kv(Request { operation, write: Write::Append { key, record, expected_last } }) = action else {
        panic!("{action:?}")
    };
    outbox.observe_done(operation);
    assert!(plan.observe_done(context, operation, Outcome::Committed(expected_last.next())));
    plan.decide(context, outbox);
    match (key, record) {
        (Key::Assign(slot), Record::Assignment(record)) => Some((slot, (*record).clone())),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_partition_is_revoked_then_acknowledged_and_only_then_granted_to_another() {
    let context = Context::at(Instant::ORIGIN);
    let (from, to) = (SLOT, Slot::new(2));
    let tenures = [(from, Tenure::new(position(1, 3))), (to, Tenure::new(position(1, 4)))];
    let mut membership = Membership::new(&context);
    membership.end_listing(&context, Incarnation::new(1), |_| true);
    let says = |membership: &mut Membership, (slot, tenure), revision, applied| {
        let record = MemberRecord { tenure: Some(tenure), applied, ..MemberRecord::new(Instance::new(1)) };
        let record = Record::Member(Arc::new(record));
        membership.observe_entry(&context, Key::Slot(slot), Revision::new(revision), &record, true);
    };
    for tenure in tenures {
        says(&mut membership, tenure, 10, Position::default());
    }
    let list = PartitionList::new(vec![Partition::new(id())]).expect("one partition");
    let (mut plan, mut outbox) = (PlanLog::default(), Outbox::default());
    plan.end_listing(Incarnation::new(1), Revision::default());
    plan.open(Term::new(1));
    let mut handoff = Handoff::new(list, &plan);
    let planned = |slot: Slot| tenures.iter().find(|(other, _)| *other == slot).map(|(_, tenure)| *tenure);
    let mut generation = Generation::default();
    let mut carries_out = |target, handoff: &mut Handoff, plan: &mut PlanLog, membership: &Membership| {
        if let Some(target) = target {
            handoff.retarget(&context, vec![Some(target)], [from, to].into_iter());
            generation = generation.next();
        }
        let reached = Heard { era: Incarnation::new(1), generation };
        let edition = Edition { term: Term::new(1), reached };
        let (incarnation, planned) = (Incarnation::new(1), &planned);
        let view = Basis { context: &context, edition, incarnation, membership, planned, limits: &BTreeMap::new() };
        handoff.decide(&view, plan, &mut outbox);
        let records = core::iter::from_fn(|| committed(plan, &mut outbox, &context));
        let names = |(slot, record): (Slot, AssignmentRecord)| (slot, record.owned.len(), record.releasing.len());
        records.map(names).filter(|(_, owned, releasing)| owned + releasing > 0).collect::<Vec<_>>()
    };
    assert_eq!(carries_out(Some(from), &mut handoff, &mut plan, &membership), [(from, 1, 0)]);
    assert_eq!(carries_out(Some(to), &mut handoff, &mut plan, &membership), [(from, 0, 1)], "revoked");
    handoff.observe_member(from);
    assert_eq!(carries_out(None, &mut handoff, &mut plan, &membership), [], "nothing was acknowledged");
    says(&mut membership, tenures[0], 20, position(1, 900));
    handoff.observe_member(from);
    assert_eq!(carries_out(None, &mut handoff, &mut plan, &membership), [(to, 1, 0)]);
}

#[test]
fn of_two_records_that_expect_a_partition_the_one_of_the_later_plan_counts() {
    let expects = |slot: u32, generation| {
        let record = AssignmentRecord {
            term: Term::new(1),
            generation: Generation::new(generation),
            era: Incarnation::default(),
            tenure: Tenure::new(position(1, u64::from(slot))),
            owned: Vec::new(),
            releasing: Vec::new(),
            incoming: vec![id()],
        };
        (Key::Assign(Slot::new(slot)), Record::Assignment(Arc::new(record)))
    };
    let list = PartitionList::new(vec![Partition::new(id())]).expect("one partition");
    let target = |records: [(Key, Record); 2]| {
        let mut plan = PlanLog::default();
        for ((key, record), revision) in records.iter().zip(1..) {
            plan.observe_entry(&Context::at(Instant::ORIGIN), *key, Revision::new(revision), record);
        }
        Handoff::new(list.clone(), &plan).targets()[0]
    };
    assert_eq!(target([expects(1, 4), expects(2, 5)]), Some(Slot::new(2)));
    assert_eq!(target([expects(1, 5), expects(2, 4)]), Some(Slot::new(1)));
}
