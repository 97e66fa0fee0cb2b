//! What is stored: a golden file for each kind of record and format version, laws of the encoding, and what is refused.
//!
//! A golden file is never changed once its format version was released: it is what somebody has in their store.

use parti_core::{
    AssignmentRecord, CausedMoves, ClusterRecord, Control, ControlRecord, Generation, Grant, Incarnation, Instance,
    Key, LeaderRecord, MAX_LOAD, MAX_NAMED_LOADS, MAX_RECORD_BYTES, MeasuredLoad, MemberPhase, MemberRecord, MoveCause,
    MovedPartition, PartitionId, PlanHistory, PlanMoves, PlannerPhase, Position, Record, RecordError, Revision,
    ServerId, SharedSettings, Slot, Tenure, Term, Weight,
};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

const KEYS: [Key; 5] =
    [Key::Slot(Slot::new(7)), Key::Leader, Key::Control(Control::Maintenance), Key::Assign(Slot::new(7)), Key::Cluster];

fn id(text: &str) -> PartitionId {
    PartitionId::new(text).expect("a valid id")
}

fn position(incarnation: u64, revision: u64) -> Position {
    Position { incarnation: Incarnation::new(incarnation), revision: Revision::new(revision) }
}

fn tenure() -> Tenure {
    Tenure::new(position(1, 17))
}

fn weight(weight: u32) -> Weight {
    Weight::new(weight).expect("not zero")
}

fn grant(partition: &str, of: u32, epoch: u64) -> Grant {
    Grant { partition: id(partition), weight: weight(of), epoch: Generation::new(epoch) }
}

/// A history as leaders write it.
fn moves() -> PlanHistory {
    let moved = |partition: &str, from: Option<u32>, to: Option<u32>| MovedPartition {
        partition: id(partition),
        from: from.map(Slot::new),
        to: to.map(Slot::new),
    };
    let caused = |cause, moves: Vec<MovedPartition>| CausedMoves { cause, count: moves.len() as u64, moves };
    let first = caused(MoveCause::List, vec![moved("orders-1", None, Some(3)), moved("orders-2", None, Some(7))]);
    let crash = caused(MoveCause::Crash, vec![moved("orders-1", Some(3), Some(7))]);
    let label = CausedMoves { count: 800, ..caused(MoveCause::Label, vec![moved("orders-2", Some(7), None)]) };
    let plan = |generation, at_ms, causes| PlanMoves { generation: Generation::new(generation), at_ms, causes };
    [plan(11, 0, vec![first]), plan(12, 1_790_000_000_123, vec![crash, label])].into_iter().collect()
}

/// New, with the length of its lease, as an old worker writes it, with where it is, with what its partitions weigh, and
/// with limits.
fn golden_members() -> [MemberRecord; 6] {
    let new = MemberRecord {
        tenure: None,
        instance: Instance::new(u64::MAX),
        phase: MemberPhase::Active,
        applied: Position::default(),
        generation: Generation::new(0),
        era: Incarnation::new(0),
        releasing: vec![],
        lease_ms: None,
        capacity: 1,
        labels: [].into(),
        software: String::new(),
        beat: 1,
        ..MemberRecord::new(Instance::new(u64::MAX))
    };
    let leased = MemberRecord { lease_ms: Some(10_000), ..new.clone() };
    let old = MemberRecord {
        tenure: Some(tenure()),
        instance: Instance::new(4711),
        phase: MemberPhase::Draining,
        applied: position(1, 230),
        generation: Generation::new(12),
        era: Incarnation::new(0),
        releasing: vec![id("orders-3"), id("orders-7")],
        lease_ms: None,
        capacity: 4,
        labels: [("zone".into(), "a".into())].into(),
        software: "1.4.2".into(),
        beat: 90_210,
        ..MemberRecord::new(Instance::new(4711))
    };
    let here = MemberRecord {
        server: Some(ServerId::new("NDQ4Y6KBTUSLQKS3GGJGZLOJSZWH4QCLG4M4CVQHTCFPVSPJHJ6ZCGTR")),
        confirm_ms: Some(750),
        deputies: vec![Slot::new(8), Slot::new(11)],
        ..old.clone()
    };
    let load = MeasuredLoad {
        list: 17,
        rate: 104_250,
        of: vec![(id("orders-1"), weight(1_300)), (id("orders-9"), weight(7))],
    };
    let weighed = MemberRecord { load: Some(load), ..old.clone() };
    let limited = MemberRecord { max_load: Some(400), max_partitions: Some(20), ..old.clone() };
    [new, leased, old, here, weighed, limited]
}

/// Each golden file of version 1, its key, and what it must be read as.
fn golden_v1() -> Vec<(&'static [u8], Key, Record)> {
    let [slot, leader, control, assign, cluster] = KEYS;
    let [new, leased, old, here, weighed, limited] = golden_members();
    let leads = LeaderRecord { slot: Slot::new(7), tenure: tenure(), instance: Instance::new(4711) };
    let wants = ControlRecord { by: "ann".into(), reason: "new disks".into(), hold_ms: Some(600_000) };
    let empty = AssignmentRecord {
        term: Term::new(3),
        generation: Generation::new(12),
        era: Incarnation::new(0),
        tenure: tenure(),
        owned: vec![],
        releasing: vec![],
        incoming: vec![],
    };
    let full = AssignmentRecord {
        owned: vec![grant("orders-1", 1, 9), grant("orders-2", 5, 12)],
        releasing: vec![id("orders-3"), id("orders-7")],
        incoming: vec![id("orders-4")],
        ..empty.clone()
    };
    let head = ClusterRecord {
        term: Term::new(3),
        generation: Generation::new(12),
        era: Incarnation::new(0),
        leader: Slot::new(7),
        instance: Instance::new(4711),
        phase: PlannerPhase::Rebalancing,
        workers: 5,
        partitions: 200,
        rebalanced: Revision::new(88),
        rebalanced_in: Incarnation::new(0),
        digest: 0xdead_beef_cafe_babe,
        moves: PlanHistory::default(),
    };
    let told = ClusterRecord { moves: moves(), ..head.clone() };
    let era = Incarnation::new(1_790_000_000_123_456_789);
    let member_of_era = MemberRecord { era, ..old.clone() };
    let assigned_in_era = AssignmentRecord { era, ..full.clone() };
    let planned_in_era = ClusterRecord { era, rebalanced_in: Incarnation::new(7), ..head.clone() };
    vec![
        (include_bytes!("golden/v1/member-era.json"), slot, Record::Member(member_of_era.into())),
        (include_bytes!("golden/v1/assignment-era.json"), assign, Record::Assignment(assigned_in_era.into())),
        (include_bytes!("golden/v1/cluster-era.json"), cluster, Record::Cluster(planned_in_era.into())),
        (include_bytes!("golden/v1/cluster-moves.json"), cluster, Record::Cluster(told.into())),
        (include_bytes!("golden/v1/member-new.json"), slot, Record::Member(new.into())),
        (include_bytes!("golden/v1/member-lease.json"), slot, Record::Member(leased.into())),
        (include_bytes!("golden/v1/member.json"), slot, Record::Member(old.into())),
        (include_bytes!("golden/v1/member-here.json"), slot, Record::Member(here.into())),
        (include_bytes!("golden/v1/member-load.json"), slot, Record::Member(weighed.into())),
        (include_bytes!("golden/v1/member-limits.json"), slot, Record::Member(limited.into())),
        (include_bytes!("golden/v1/leader.json"), leader, Record::Leader(leads)),
        (include_bytes!("golden/v1/control.json"), control, Record::Control(wants.into())),
        (include_bytes!("golden/v1/assignment.json"), assign, Record::Assignment(full.into())),
        (include_bytes!("golden/v1/assignment-empty.json"), assign, Record::Assignment(empty.into())),
        (include_bytes!("golden/v1/cluster.json"), cluster, Record::Cluster(head.into())),
    ]
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("records are text")
}

#[test]
fn every_golden_file_of_version_1_is_read_as_what_it_was() {
    for (bytes, key, record) in golden_v1() {
        assert_eq!(Record::decode(key, bytes), Ok(record), "{}", text(bytes));
    }
}

/// As long as this version is written, it is written in the same bytes.
#[test]
fn every_golden_file_of_version_1_is_written_as_it_was() {
    for (bytes, _, record) in golden_v1() {
        assert_eq!(text(&record.encode()), text(bytes));
    }
}

#[test]
fn unknown_fields_are_ignored() {
    for (bytes, key, record) in golden_v1() {
        let more = text(bytes).replacen('{', r#"{"from_the_future":{"a":[1,null,"x"]},"#, 1);
        assert_eq!(Record::decode(key, more.as_bytes()), Ok(record), "{more}");
    }
}

#[test]
fn a_history_that_cannot_be_read_is_none_and_the_plan_stands() {
    let (bytes, key, record) = golden_v1().remove(3);
    let Record::Cluster(told) = record else { panic!("{record:?}") };
    assert!(!told.moves.plans().is_empty());
    let rest = text(bytes).split_once(r#","moves""#).expect("it has one").0.to_owned();
    for other in ["null", "7", r#"{"newer":[]}"#, r#"[{"generation":"x"}]"#, r#"[{"generation":1,"causes":[{}]}]"#] {
        let value = format!(r#"{rest},"moves":{other}}}"#);
        let head = ClusterRecord { moves: PlanHistory::default(), ..ClusterRecord::clone(&told) };
        assert_eq!(Record::decode(key, value.as_bytes()), Ok(Record::Cluster(head.into())), "{value}");
    }
}

#[test]
fn a_load_that_cannot_be_read_is_none_and_one_that_is_absurd_is_bounded() {
    let [.., old, _, weighed, _] = golden_members();
    let key = KEYS[0];
    let bytes = text(&Record::Member(weighed.into()).encode());
    let (rest, _) = bytes.split_once(r#","load""#).expect("it has one");
    for other in [
        "null",
        "7",
        r#"{"newer":1}"#,
        r#"{"rate":1}"#,
        r#"{"list":1,"rate":-1}"#,
        r#"{"list":1,"rate":1,"of":[["p",0]]}"#,
        r#"{"list":1,"rate":1,"of":["p"]}"#,
    ] {
        let value = format!(r#"{rest},"load":{other}}}"#);
        assert_eq!(Record::decode(key, value.as_bytes()), Ok(Record::Member(old.clone().into())), "{value}");
    }
    let many: Vec<_> = (0..1_000).rev().map(|n| format!(r#"["p{n}",4294967295]"#)).collect();
    let value =
        format!(r#"{rest},"load":{{"list":1,"rate":18446744073709551615,"of":[["p1",3],{}]}}}}"#, many.join(","));
    let Ok(Record::Member(read)) = Record::decode(key, value.as_bytes()) else { panic!("it is a record") };
    let load = read.load.as_ref().expect("it can be read");
    assert!(load.of.len() == MAX_NAMED_LOADS && load.of.is_sorted(), "{load:?}");
    assert!(load.of.iter().all(|(_, load)| load.get() <= MAX_LOAD));
    assert_eq!(load.load_of(&id("another"), weight(u32::MAX)).get(), MAX_LOAD);
}

#[test]
fn an_unknown_version_is_said_to_be_that_whatever_else_the_record_has() {
    for key in KEYS {
        for text in [r#"{"v":99}"#, r#"{"v":99,"slot":"seven","tenure":{}}"#, r#"{"tenure":1,"v":99}"#] {
            let error = Record::decode(key, text.as_bytes()).expect_err("unknown");
            assert_eq!(error, RecordError::UnknownVersion { version: 99 });
            assert_eq!(error.to_string(), "format version 99 is not known here (known: 1): upgrade this worker");
        }
    }
}

#[test]
fn what_is_not_a_record_is_refused_with_what_is_wrong_and_where() {
    let assignment = |rest: &str| format!(r#"{{"v":1,"term":1,"generation":1,"tenure":[1,1],{rest}}}"#);
    let [slot, leader, _, assign, cluster] = KEYS;
    let values = [
        (leader, String::new()),
        (leader, "hello".into()),
        (leader, "[]".into()),
        (leader, r#"{"slot":7}"#.into()),
        (leader, r#"{"v":"1"}"#.into()),
        (leader, r#"{"v":1,"slot":7}"#.into()),
        (leader, r#"{"v":1,"slot":-7,"tenure":[1,1],"instance":1}"#.into()),
        (slot, r#"{"v":1,"tenure":null,"instance":1,"phase":"dancing","applied":[0,0],"capacity":1,"beat":1}"#.into()),
        (cluster, r#"{"v":1,"x":"#.to_owned() + &"[".repeat(200)),
        (assign, assignment(r#""owned":[["a\u0000b",1,1]]"#)),
        (assign, assignment(r#""owned":[["a",0,1]]"#)),
        (assign, assignment(r#""owned":[["a",1,1],["b",1,1],["a",2,2]]"#)),
        (assign, assignment(r#""owned":[],"releasing":["b","a","b"]"#)),
    ];
    let errors = values.map(|(key, value)| {
        let error = Record::decode(key, value.as_bytes()).expect_err(&value);
        format!("{key} {}\n    {error}", value.chars().take(100).collect::<String>())
    });
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn a_record_that_is_too_large_is_refused_unread() {
    let bytes = vec![b' '; MAX_RECORD_BYTES + 1];
    let error = Record::decode(Key::Leader, &bytes).expect_err("too large");
    assert_eq!(error, RecordError::TooLarge { bytes: MAX_RECORD_BYTES + 1 });
}

fn any_id() -> impl Strategy<Value = PartitionId> {
    r"[^\p{Cc}]{1,12}|\PC{1,60}".prop_filter_map("an id has no control characters", |text| PartitionId::new(text).ok())
}

fn any_position() -> impl Strategy<Value = Position> {
    any::<(u64, u64)>().prop_map(|(incarnation, revision)| position(incarnation, revision))
}

fn moved_partition() -> impl Strategy<Value = MovedPartition> {
    let slot = || any::<Option<u32>>().prop_map(|slot| slot.map(Slot::new));
    (any_id(), slot(), slot()).prop_map(|(partition, from, to)| MovedPartition { partition, from, to })
}

fn ids() -> impl Strategy<Value = Vec<PartitionId>> {
    btree_set(any_id(), 0..6).prop_map(|ids| ids.into_iter().collect())
}

prop_compose! {
    fn member()(
        tenure in proptest::option::of(any_position()),
        phase in prop_oneof![Just(MemberPhase::Active), Just(MemberPhase::Draining), Just(MemberPhase::Restarting)],
        applied in any_position(),
        releasing in ids(),
        labels in btree_map(".{0,20}", ".{0,20}", 0..4),
        software in ".{0,20}",
        server in proptest::option::of(".{0,20}"),
        deputies in btree_set(any::<u32>(), 0..4),
        confirm_ms in any::<Option<u64>>(),
        (instance, generation, capacity, beat) in any::<(u64, u64, u32, u64)>(),
        (lease_ms, unwanted) in (any::<Option<u64>>(), ids()),
        load in proptest::option::of((any::<u64>(), btree_map(any_id(), 1..=MAX_LOAD, 0..4))),
        (max_load, max_partitions) in any::<(Option<u64>, Option<u32>)>(),
        shared in proptest::option::of((".{0,20}", any::<Option<(u32, u32)>>(), any::<Option<u64>>())),
    ) -> Record {
        let slots = |(first, last)| (Slot::new(first), Slot::new(last));
        let shared = shared.map(|(strategy, range, list)| SharedSettings {
            mode: strategy.clone(),
            strategy,
            slots: range.map(slots),
            list,
        });
        let (instance, generation) = (Instance::new(instance), Generation::new(generation));
        let (tenure, era) = (tenure.map(Tenure::new), applied.incarnation);
        let server = server.map(|server| ServerId::new(&server));
        let deputies = deputies.into_iter().map(Slot::new).collect();
        let new = MemberRecord { tenure, phase, applied, generation, era, releasing, ..MemberRecord::new(instance) };
        let load = load.map(|(rate, of)| MeasuredLoad { list: rate, rate, of: of.into_iter().map(|(id, of)| (id, weight(of))).collect() });
        let new = MemberRecord { unwanted, shared, load, max_load, max_partitions, ..new };
        let record = MemberRecord { lease_ms, capacity, labels, software, beat, server, confirm_ms, deputies, ..new };
        Record::Member(record.into())
    }
}

prop_compose! {
    fn leader()(slot: u32, tenure in any_position(), instance: u64) -> Record {
        let record =
            LeaderRecord { slot: Slot::new(slot), tenure: Tenure::new(tenure), instance: Instance::new(instance) };
        Record::Leader(record)
    }
}

prop_compose! {
    fn control()(by in ".{0,20}", reason in ".{0,20}", hold_ms: Option<u64>) -> Record {
        Record::Control(ControlRecord { by, reason, hold_ms }.into())
    }
}

prop_compose! {
    fn assignment()(
        (term, generation) in any::<(u64, u64)>(),
        tenure in any_position(),
        owned in btree_map(any_id(), (1..=u32::MAX, any::<u64>()), 0..6),
        releasing in ids(),
        incoming in ids(),
    ) -> Record {
        let grant = |(partition, (of, epoch))| Grant { partition, weight: weight(of), epoch: Generation::new(epoch) };
        let record = AssignmentRecord {
            term: Term::new(term),
            generation: Generation::new(generation),
            era: tenure.incarnation,
            tenure: Tenure::new(tenure),
            owned: owned.into_iter().map(grant).collect(),
            releasing,
            incoming,
        };
        Record::Assignment(record.into())
    }
}

prop_compose! {
    fn cluster()(
        phase in prop_oneof![
            Just(PlannerPhase::Idle),
            Just(PlannerPhase::Scaling),
            Just(PlannerPhase::Rebalancing),
            Just(PlannerPhase::Emergency),
        ],
        (term, generation, leader, instance) in any::<(u64, u64, u32, u64)>(),
        (workers, partitions, rebalanced, digest) in any::<(u32, u32, u64, u64)>(),
        era in any::<u64>(),
        moves in vec((any::<u64>(), any::<u64>(), vec((moved_partition(), any::<u64>()), 0..4)), 0..4),
    ) -> Record {
        let caused = |(moved, count): (MovedPartition, u64)| {
            CausedMoves { cause: if count % 2 == 0 { MoveCause::Balance } else { MoveCause::GivenUp }, count, moves: vec![moved] }
        };
        let plans = moves.into_iter().map(|(generation, at_ms, causes)| PlanMoves {
            generation: Generation::new(generation),
            at_ms,
            causes: causes.into_iter().map(caused).collect(),
        });
        let record = ClusterRecord {
            term: Term::new(term),
            generation: Generation::new(generation),
            era: Incarnation::new(era),
            leader: Slot::new(leader),
            instance: Instance::new(instance),
            phase,
            workers,
            partitions,
            rebalanced: Revision::new(rebalanced),
            rebalanced_in: Incarnation::new(era / 2),
            digest,
            moves: plans.collect(),
        };
        Record::Cluster(record.into())
    }
}

/// A key and a record that can be stored under it.
fn record() -> impl Strategy<Value = (Key, Record)> {
    let [slot, leads, wants, assign, head] = KEYS.map(Just);
    prop_oneof![(slot, member()), (leads, leader()), (wants, control()), (assign, assignment()), (head, cluster())]
}

proptest! {
    #[test]
    fn every_record_reads_back_from_its_bytes((key, record) in record()) {
        let bytes = record.encode();
        prop_assert_eq!(Record::decode(key, &bytes), Ok(record), "{}", text(&bytes));
    }

    #[test]
    fn whatever_bytes_are_stored_they_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        for key in KEYS {
            prop_assert!(Record::decode(key, &bytes).is_err(), "{:?}", bytes);
        }
    }

    /// What is read from damaged bytes is a record like any other.
    #[test]
    fn a_damaged_record_is_read_or_refused(
        (key, record) in record(),
        damage in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = record.encode();
        for (at, byte) in damage {
            *at.get_mut(&mut bytes) = byte;
        }
        if let Ok(record) = Record::decode(key, &bytes) {
            let again = record.encode();
            prop_assert_eq!(Record::decode(key, &again), Ok(record), "{}", text(&again));
        }
    }
}
