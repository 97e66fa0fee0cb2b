use super::*;
use crate::config::Config;
use crate::ids::Incarnation;

const SLOT: Slot = Slot::new(0);

fn at(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

fn written(revision: u64) -> Position {
    Position { incarnation: Incarnation::new(1), revision: Revision::new(revision) }
}

fn process(instance: u64, lease_ms: u64) -> MemberRecord {
    MemberRecord { lease_ms: Some(lease_ms), ..MemberRecord::new(Instance::new(instance)) }
}

#[test]
fn the_lease_of_a_claim_counts_from_its_sending() {
    let context = Context::at(at(4));
    let won = Target::fresh(SLOT).won(&process(1, 10_000), written(7), at(1), &context);
    assert_eq!(won.lease.until(), Some(at(1) + context.timing.lease));
}

#[test]
fn a_record_of_its_own_that_a_process_finds_gives_no_right_before_a_renewal() {
    let context = Context::at(at(4));
    let mut membership = Membership::new(&context);
    let record = Record::Member(Arc::new(process(1, 10_000)));
    membership.observe_entry(&context, Key::Slot(SLOT), Revision::new(7), &record, false);
    let member = membership.member(SLOT).expect("it was seen");
    let tenure = membership.tenure_of(member).expect("it has one");
    let won = SlotSearch::default().adopt(&context, SLOT, tenure, member).expect("it is its own");
    assert_eq!(won.lease.until(), None);
}

#[test]
fn a_takeover_whose_answer_is_lost_is_still_one_when_it_is_found() {
    let context = Context::at(at(0));
    let mut membership = Membership::new(&context);
    let predecessor = Some((Revision::new(7), Tenure::new(written(5)), Arc::new(process(2, 10_000))));
    let target = Target { slot: SLOT, kind: ClaimKind::TakenOver, predecessor };
    let record = target.record(&context, &|tenure| MemberRecord { tenure, ..process(1, 10_000) });
    let (operation, known) = (OperationId::new(1), Revision::new(7));
    let claim =
        Claim { operation, sent_at: at(0), target, known, newest: known, record: Arc::clone(&record), evidence: None };
    let mut search = SlotSearch { claim: Some(claim), ..SlotSearch::default() };
    search.observe_done(&context, operation, Outcome::Unknown, &mut membership);
    membership.observe_entry(&context, Key::Slot(SLOT), Revision::new(8), &Record::Member(record), false);
    let member = membership.member(SLOT).expect("it was seen");
    let tenure = membership.tenure_of(member).expect("it has one");
    let won = search.adopt(&context, SLOT, tenure, member).expect("it is its own");
    assert_eq!(won.kind, ClaimKind::TakenOver);
}

#[test]
fn a_claim_says_by_which_lease_its_writer_acts_also_where_it_takes_a_slot_over() {
    let context = Context::at(at(0));
    let own = |tenure| MemberRecord { tenure, ..process(2, 10_000) };
    assert_eq!(Target::fresh(SLOT).record(&context, &own).lease_ms, Some(10_000));

    let (tenure, applied) = (Tenure::new(written(5)), written(3));
    let dead = MemberRecord { applied, tenure: Some(tenure), ..process(1, 4_000) };
    let predecessor = Some((Revision::new(7), tenure, Arc::new(dead)));
    let target = Target { slot: SLOT, kind: ClaimKind::TakenOver, predecessor };
    let record = target.record(&context, &own);
    assert_eq!((record.lease_ms, record.tenure, record.applied), (Some(10_000), Some(tenure), applied));
}

#[test]
fn a_slot_whose_record_cannot_be_read_is_not_free() {
    let config = Config { slots: (SLOT, Slot::new(1)), ..Config::default() };
    let context = Context::new(config, at(1_000)).expect("the slots are enough");
    let mut membership = Membership::new(&context);
    membership.observe_unreadable(&Context::at(at(0)), Key::Slot(SLOT), Revision::new(7), false);
    let view = Seeker {
        context: &context,
        membership: &membership,
        probing: &Probing::default(),
        dead: None,
        evidence: None,
        record: &|tenure| MemberRecord { tenure, ..process(2, 10_000) },
    };
    let chooser = Chooser { view: &view, listening_since: at(0), conflicts: &BTreeMap::new() };
    let any = chooser.choose_any(0, &mut Rng::new(1));
    assert!(matches!(any, Choice::Take(Target { slot, .. }) if slot == Slot::new(1)), "{any:?}");
    let preferred = chooser.choose_preferred(SLOT);
    let waits = Choice::Wait(StandbyReason::PreferredSlotUnreadable { slot: SLOT });
    assert_eq!(alloc::format!("{preferred:?}"), alloc::format!("{waits:?}"));
}

/// The claim of a newcomer that has just listed the members.
fn claims(membership: &Membership, context: &Context) -> Option<Write> {
    let (mut search, mut outbox) = (SlotSearch::default(), Outbox::default());
    search.observe_listing(context.now);
    let view = Seeker {
        context,
        membership,
        probing: &Probing::default(),
        dead: None,
        evidence: None,
        record: &|tenure| MemberRecord { tenure, ..process(2, 10_000) },
    };
    search.decide(&view, &mut Rng::new(1), &mut outbox);
    core::iter::from_fn(|| outbox.pop()).find_map(|action| match action {
        crate::action::Action::Kv(request) => Some(request.write),
        _ => None,
    })
}

#[test]
fn a_newcomer_creates_the_lowest_slot_and_inherits_one_that_was_left_for_it() {
    let context = Context::at(at(0));
    let mut membership = Membership::new(&context);
    let fresh = claims(&membership, &context);
    assert!(matches!(fresh, Some(Write::Create { key: Key::Slot(SLOT), .. })), "{fresh:?}");

    let left = MemberRecord { phase: MemberPhase::Restarting, ..process(1, 10_000) };
    let left = Record::Member(Arc::new(left));
    membership.observe_entry(&context, Key::Slot(Slot::new(5)), Revision::new(7), &left, false);
    let claim = claims(&membership, &context);
    let Some(Write::Update { key, record: Record::Member(record), expected }) = claim else { panic!("{claim:?}") };
    assert_eq!((key, expected), (Key::Slot(Slot::new(5)), Revision::new(7)));
    assert!(record.tenure.is_some(), "it goes on in the tenure");
}

#[test]
fn a_newcomer_takes_no_slot_before_it_knows_who_is_alive() {
    let context = Context::at(at(0));
    let mut membership = Membership::new(&context);
    let there = Record::Member(Arc::new(process(1, 10_000)));
    membership.observe_entry(&context, Key::Slot(SLOT), Revision::new(7), &there, false);
    assert_eq!(claims(&membership, &context), None);
}
