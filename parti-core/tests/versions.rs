//! Records that this version cannot read: they are left alone, whatever happens, and spoken of once.

mod lab;

use lab::{Lab, Reach};
use parti_core::{Config, Key, Slot, WorkerState};

const NEWER: &[u8] = br#"{"v":99,"from":"the future"}"#;
const BROKEN: &[u8] = b"not a record";

fn slot(slot: u32) -> Key {
    Key::Slot(Slot::new(slot))
}

fn assign(slot: u32) -> Key {
    Key::Assign(Slot::new(slot))
}

/// A fleet of three that has divided six partitions; the first worker leads.
fn fleet() -> Lab {
    let mut lab = Lab::new(6);
    for at in 0..3 {
        lab.start(&format!("w{at}"), Config::default());
    }
    lab.run(20_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1), "{}", lab.transcript);
    assert!(lab.workers[0].worker.status().leader);
    lab.transcript.clear();
    lab
}

/// How many partitions `name` works on.
fn works_on(lab: &Lab, name: &str) -> usize {
    lab.owners().values().filter(|owners| owners.iter().any(|owner| owner == name)).count()
}

fn orphans(lab: &Lab) -> usize {
    lab.owners().values().filter(|owners| owners.is_empty()).count()
}

#[test]
fn a_slot_with_a_record_of_a_newer_version_is_taken() {
    let mut lab = Lab::new(1);
    lab.put(slot(0), NEWER);
    lab.start("anna", Config::default());
    lab.start("bert", Config { preferred_slot: Some(Slot::new(0)), ..Config::default() });
    lab.run(100_000);
    assert!(lab.workers[0].worker.status().slot.is_some_and(|slot| slot != Slot::new(0)));
    assert_eq!(lab.workers[1].worker.status().slot, None);
    assert_eq!(lab.stored(slot(0)), Some(NEWER));
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_worker_of_a_newer_version_keeps_its_slot_and_its_partitions() {
    let mut lab = fleet();
    let assigned = lab.stored(assign(1)).map(<[u8]>::to_vec);
    lab.put(slot(1), NEWER);
    lab.start("late", Config::default());
    lab.run(60_000);
    lab.crash(2);
    lab.run(60_000);
    assert_eq!(lab.stored(slot(1)), Some(NEWER));
    assert_eq!(lab.stored(assign(1)).map(<[u8]>::to_vec), assigned);
    assert_eq!(orphans(&lab), 2, "what it has is not given to others:\n{}", lab.transcript);
    assert!(works_on(&lab, "w1") > 0, "the worker that lost its slot to it has another one:\n{}", lab.transcript);
    lab.delete(slot(1));
    lab.run(30_000);
    assert_eq!(orphans(&lab), 0, "{}", lab.transcript);
}

/// A worker of a newer version renews its record for so long.
fn renew_newer(lab: &mut Lab, seconds: u64) {
    for beat in 0..seconds / 2 {
        lab.put(slot(7), format!(r#"{{"v":99,"beat":{beat}}}"#).as_bytes());
        lab.run(2_000);
    }
}

#[test]
fn a_leader_of_a_newer_version_is_not_replaced_while_a_worker_of_that_version_is_alive() {
    let mut lab = Lab::new(2);
    lab.put(Key::Leader, NEWER);
    lab.put(slot(7), NEWER);
    lab.start("anna", Config::default());
    lab.start("bert", Config::default());
    renew_newer(&mut lab, 100);
    assert_eq!(lab.stored(Key::Leader), Some(NEWER));
    for bench in &lab.workers {
        assert_eq!(bench.worker.status().state, WorkerState::WaitingAssignment);
    }
    lab.run(14_000);
    assert_ne!(lab.stored(Key::Leader), Some(NEWER), "once it has gone, others lead:\n{}", lab.transcript);
    assert_eq!(orphans(&lab), 0, "{}", lab.transcript);
}

#[test]
fn a_leader_that_finds_a_newer_one_in_its_place_steps_down_and_all_work_goes_on() {
    let mut lab = fleet();
    lab.put(Key::Leader, NEWER);
    renew_newer(&mut lab, 100);
    assert_eq!(lab.stored(Key::Leader), Some(NEWER));
    assert_eq!(orphans(&lab), 0);
    assert!(lab.transcript.contains("RecordUnreadable"), "{}", lab.transcript);
}

#[test]
fn a_plan_that_cannot_be_read_is_not_written() {
    for key in [assign(1), Key::Cluster] {
        for bytes in [NEWER, BROKEN] {
            let mut lab = fleet();
            let before = lab.stored(key).expect("the key was written").to_vec();
            let others = [assign(0), assign(1), assign(2), Key::Cluster].into_iter().filter(|other| *other != key);
            let stored = |lab: &Lab| others.clone().map(|key| lab.stored(key).map(<[u8]>::to_vec)).collect::<Vec<_>>();
            lab.put(key, bytes);
            let rest = stored(&lab);
            lab.run(20_000);
            assert_eq!(orphans(&lab), 0, "the last good state is kept:\n{}", lab.transcript);
            lab.start("late", Config::default());
            lab.run(10_000);
            lab.crash(2);
            lab.run(100_000);
            assert_eq!(lab.stored(key), Some(bytes), "{}", lab.transcript);
            assert_eq!(stored(&lab), rest, "who does not know who owns what grants nothing:\n{}", lab.transcript);
            assert_eq!(orphans(&lab), 2, "{}", lab.transcript);
            lab.put(key, &before);
            lab.run(100_000);
            assert_eq!(orphans(&lab), 0, "it goes on when the record is repaired:\n{}", lab.transcript);
        }
    }
}

#[test]
fn who_cannot_read_the_plan_makes_room_for_a_newer_version_only() {
    let resigned = |bytes: &[u8]| {
        let mut lab = fleet();
        lab.put(assign(1), bytes);
        lab.run(30_000);
        lab.stored(Key::Leader).is_none()
    };
    assert!(resigned(NEWER));
    assert!(!resigned(BROKEN));
}

#[test]
fn what_cannot_be_read_is_spoken_of_once_for_each_reason() {
    let mut lab = fleet();
    let said = |lab: &Lab| lab.transcript.matches("w0 says Undecodable").count();
    lab.put(slot(500), NEWER);
    assert_eq!(said(&lab), 1);
    for _ in 0..3 {
        lab.set_reach(0, Reach::Full);
        lab.run(10_000);
    }
    assert_eq!(said(&lab), 1, "re-reading says nothing new:\n{}", lab.transcript);
    lab.put(slot(500), NEWER);
    assert_eq!(said(&lab), 1, "nor does a newer worker's next renewal:\n{}", lab.transcript);
    lab.put(slot(500), BROKEN);
    assert_eq!(said(&lab), 2);
}
