//! A fleet whose lease is being changed: each worker is judged by the lease by which it acts.

use std::time::Duration;

use parti_core::{Config, Key, Record, Slot};

use super::assert_owned_once;
use crate::lab::{Lab, Reach};

fn with_lease(seconds: u64) -> Config {
    Config { lease: Duration::from_secs(seconds), probe_confirm: None, ..Config::default() }
}

/// Two workers with leases of their own, the first of which leads; they have divided four partitions.
fn pair(leader: u64, follower: u64) -> Lab {
    let mut lab = Lab::new(4);
    lab.start("leader", with_lease(leader));
    lab.run(5_000);
    lab.start("follower", with_lease(follower));
    lab.run(40_000);
    assert_owned_once(&lab);
    assert!(lab.workers[0].worker.status().leader);
    assert!(!lab.workers[1].working.is_empty(), "{}", lab.transcript);
    lab.transcript.clear();
    lab
}

/// Cuts a worker off silently, and tells for how many tenths of a second something had two owners, and after how many
/// milliseconds the other one had everything.
fn cut_off(lab: &mut Lab, who: usize) -> (u32, u64) {
    lab.set_reach(who, Reach::Mute);
    let mut twice = 0;
    for tenths in 1..=400 {
        lab.run(100);
        twice += u32::from(lab.owners().values().any(|owners| owners.len() > 1));
        if lab.workers[1 - who].working.len() == 4 {
            return (twice, tenths * 100);
        }
    }
    panic!("nobody takes over:\n{}", lab.transcript);
}

#[test]
fn who_acts_by_a_longer_lease_than_its_judge_is_waited_for_that_long() {
    for (leader, follower, who) in [(4, 10, 1), (10, 4, 0)] {
        let mut lab = pair(leader, follower);
        let (twice, after) = cut_off(&mut lab, who);
        assert_eq!(twice, 0, "{}", lab.transcript);
        // The last renewal may have been seen a quarter of the lease before.
        assert!((8_700..12_000).contains(&after), "{after}\n{}", lab.transcript);
    }
}

#[test]
fn who_acts_by_a_shorter_lease_than_its_judge_is_not_waited_for_longer() {
    for (leader, follower, who) in [(10, 4, 1), (4, 10, 0)] {
        let mut lab = pair(leader, follower);
        let (twice, after) = cut_off(&mut lab, who);
        assert_eq!(twice, 0, "{}", lab.transcript);
        assert!((3_400..5_500).contains(&after), "{after}\n{}", lab.transcript);
    }
}

/// By its own lease alone, whoever has the longer one would not notice in time that its writes did not get through either.
#[test]
fn an_outage_that_all_see_is_no_silence_of_who_has_the_shorter_lease() {
    for (leader, follower, long) in [(16, 4, 0), (4, 16, 1)] {
        for begins in 0..12 {
            let mut lab = pair(leader, follower);
            let owners = lab.owners();
            lab.run(begins * 350);
            for who in [0, 1] {
                lab.set_reach(who, Reach::Mute);
            }
            lab.run(3_600);
            lab.set_reach(long, Reach::Full);
            lab.run(900);
            lab.set_reach(1 - long, Reach::Full);
            lab.run(20_000);
            assert_eq!(lab.owners(), owners, "{}", lab.transcript);
            assert!(!lab.transcript.contains("Evicted"), "{}", lab.transcript);
        }
    }
}

/// The record of an older worker does not say by which lease it acts: the judge takes its own.
#[test]
fn a_record_without_a_lease_is_judged_by_the_judges_own() {
    let mut lab = pair(4, 4);
    let mut record = parti_core::MemberRecord::new(parti_core::Instance::new(77));
    record.beat = 1;
    lab.put(Key::Slot(Slot::new(9)), &Record::Member(record.into()).encode());
    lab.run(4_300);
    assert!(!lab.transcript.contains("Evicted"), "{}", lab.transcript);
    lab.run(400);
    assert!(lab.transcript.contains("Evicted"), "{}", lab.transcript);
}

/// A lease of many thousand years in a record is not believed: it would never be over.
#[test]
fn a_lease_beyond_all_bounds_counts_as_the_longest_that_there_may_be() {
    let mut lab = pair(4, 4);
    let record = parti_core::MemberRecord {
        lease_ms: Some(u64::MAX),
        beat: 1,
        ..parti_core::MemberRecord::new(parti_core::Instance::new(77))
    };
    lab.put(Key::Slot(Slot::new(9)), &Record::Member(record.into()).encode());
    lab.run(26 * 3_600_000);
    lab.run(2 * 3_600_000);
    assert!(lab.transcript.contains("Evicted"), "{}", lab.transcript);
}

/// A rolling change of the lease, one worker after the other, in both directions: every worker keeps its partitions, and
/// nobody is evicted.
#[test]
fn a_rolling_change_of_the_lease_evicts_nobody_and_moves_nothing() {
    for (before, after) in [(10, 4), (4, 10)] {
        let mut lab = Lab::new(6);
        for slot in 0..3 {
            lab.start(&format!("old{slot}"), Config { preferred_slot: Some(Slot::new(slot)), ..with_lease(before) });
        }
        lab.run(30_000);
        let slots_of = |lab: &Lab| {
            let mut owners = lab.owners();
            owners.values_mut().flatten().for_each(|name| *name = name.trim_start_matches(char::is_alphabetic).into());
            owners
        };
        let owners = slots_of(&lab);
        lab.transcript.clear();
        for slot in 0..3_u32 {
            lab.command(slot as usize, parti_core::Command::Restart);
            lab.run(3_000);
            lab.start(&format!("new{slot}"), Config { preferred_slot: Some(Slot::new(slot)), ..with_lease(after) });
            lab.run(15_000);
        }
        assert_eq!(slots_of(&lab), owners, "{}", lab.transcript);
        assert!(!lab.transcript.contains("Evicted"), "{}", lab.transcript);
    }
}
