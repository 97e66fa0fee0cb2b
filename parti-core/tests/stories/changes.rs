//! Who comes and goes, what that is taken for, and what is waited for.

use std::time::Duration;

use parti_core::{Command, Config, Control, ControlRecord, Slot};

use super::{assert_owned_once, fleet};
use crate::lab::{Lab, Reach};

#[test]
fn joins_extend_the_window_but_not_beyond_its_maximum() {
    let mut lab = fleet(2, 12);
    for at in 0..7 {
        lab.start(&format!("new{at}"), Config::default());
        lab.run(1_500);
    }
    lab.run(5_000);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn leaders_that_leave_one_after_the_other_are_each_followed_at_once() {
    let mut lab = fleet(4, 8);
    lab.command(0, Command::Leave);
    lab.run(50);
    lab.command(1, Command::Leave);
    lab.run(50);
    // Who lost the first claim has not waited for another try.
    let leaders: Vec<_> = lab.workers.iter().map(|worker| worker.worker.status().leader).collect();
    assert_eq!(leaders, [false, false, true, false], "{}", lab.transcript);
}

#[test]
fn one_worker_leaves_while_another_joins() {
    let mut lab = fleet(2, 6);
    lab.start("new", Config::default());
    lab.run(500);
    lab.command(1, Command::Leave);
    lab.run(100);
    assert_owned_once(&lab);
    lab.run(15_000);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_crash_does_not_wait_for_the_window_of_those_who_join() {
    let mut lab = fleet(3, 6);
    lab.start("new", Config::default());
    lab.crash(1);
    lab.run(1_300);
    assert_owned_once(&lab);
    lab.run(20_000);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn three_of_seven_that_crash_at_once_are_replaced_at_once() {
    let mut lab = fleet(7, 14);
    (4..7).for_each(|at| lab.crash(at));
    lab.run(1_300);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn the_leader_and_another_worker_crash_together() {
    let mut lab = fleet(5, 10);
    lab.crash(0);
    lab.crash(3);
    lab.run(2_500);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn when_most_workers_are_gone_at_once_they_are_waited_for() {
    let mut lab = fleet(4, 8);
    let before = lab.owners();
    (1..4).for_each(|at| lab.crash(at));
    lab.run(20_000);
    assert_eq!(lab.owners().values().filter(|owners| owners.is_empty()).count(), 6, "{}", lab.transcript);
    // Like their predecessors they find their slots by themselves, and what is in them.
    (1..4).for_each(|at| {
        lab.start(&format!("w{at}"), Config::default());
    });
    lab.run(20_000);
    assert_eq!(count(&before), count(&lab.owners()), "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn those_who_stay_away_after_most_were_gone_lose_what_they_had() {
    let mut lab = fleet(4, 8);
    (1..4).for_each(|at| lab.crash(at));
    lab.run(45_000);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_pod_whose_predecessor_is_known_to_be_dead_goes_on_at_once() {
    let pod = |slot, dead| Config {
        preferred_slot: Some(Slot::new(slot)),
        predecessor_is_dead: dead,
        probe_confirm: None,
        ..Config::default()
    };
    let mut lab = Lab::new(4);
    lab.start("pod-0", pod(0, false));
    lab.start("pod-1", pod(1, false));
    lab.run(20_000);
    lab.transcript.clear();
    lab.crash(1);
    lab.run(1_000);
    lab.start("pod-1 again", pod(1, true));
    assert_owned_once(&lab);
    lab.run(20_000);
    insta::assert_snapshot!(lab.transcript);
}

/// The pod that knew its predecessor dead is cut off, and a third process takes the slot over: that one is not dead.
#[test]
fn who_knew_its_predecessor_dead_waits_like_others_for_whoever_has_the_slot_later() {
    let pod = |dead| Config {
        preferred_slot: Some(Slot::new(0)),
        predecessor_is_dead: dead,
        probe_confirm: None,
        ..Config::default()
    };
    let mut lab = Lab::new(4);
    lab.start("pod", pod(false));
    lab.run(20_000);
    lab.crash(0);
    let second = lab.start("pod again", pod(true));
    lab.run(1_000);
    assert_eq!(lab.workers[second].working.len(), 4, "{}", lab.transcript);
    lab.set_reach(second, Reach::Cut);
    let third = lab.start("pod once more", pod(false));
    lab.run(20_000);
    assert_eq!(lab.workers[third].working.len(), 4, "{}", lab.transcript);
    lab.set_reach(second, Reach::Full);
    lab.run(20_000);
    assert_eq!(lab.workers[third].working.len(), 4, "{}", lab.transcript);
}

#[test]
fn a_crashed_predecessors_slot_is_taken_over_when_its_lease_has_run_out() {
    let pod = |slot| Config { preferred_slot: Some(Slot::new(slot)), probe_confirm: None, ..Config::default() };
    let mut lab = Lab::new(4);
    lab.start("pod-0", pod(0));
    lab.start("pod-1", pod(1));
    lab.run(20_000);
    lab.want(Control::Maintenance, Some(ControlRecord::default())); // The leader leaves the slot to its successor.
    lab.transcript.clear();
    lab.crash(1);
    lab.run(1_000);
    lab.start("pod-1 again", pod(1));
    lab.run(20_000);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_slot_that_another_process_holds_is_not_taken_from_it() {
    let pod = || Config { preferred_slot: Some(Slot::new(0)), predecessor_is_dead: true, ..Config::default() };
    let mut lab = Lab::new(1);
    lab.start("pod-0", pod());
    lab.run(20_000);
    lab.transcript.clear();
    let config = Config { predecessor_is_dead: false, ..pod() };
    lab.start("another pod-0", config);
    lab.run(60_000);
    assert_eq!(lab.owners()["p0"], ["pod-0"]);
    lab.command(0, Command::Leave);
    lab.run(5_000);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_newcomer_of_another_version_takes_a_fresh_slot_when_nobody_makes_room() {
    let version =
        |software: &str| Config { software: software.into(), surge_wait: Duration::from_secs(15), ..Config::default() };
    let mut lab = Lab::new(4);
    lab.start("old", version("1"));
    lab.run(20_000);
    lab.transcript.clear();
    lab.start("new", version("2"));
    lab.run(14_000);
    assert_eq!(lab.workers[1].worker.status().slot, None);
    lab.run(10_000);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn what_an_operator_paused_stays_paused_whoever_leads() {
    let mut lab = fleet(3, 6);
    lab.want(Control::Pause, Some(ControlRecord::default()));
    lab.command(0, Command::Leave);
    lab.run(1_000);
    lab.start("new", Config::default());
    lab.run(30_000);
    let leader = lab.workers.iter().find(|bench| bench.worker.status().leader).expect("somebody leads");
    assert_eq!(leader.worker.status().controls, [Control::Pause]);
    assert_eq!(lab.workers[3].working.len(), 0, "{}", lab.transcript);
    lab.want(Control::Pause, None);
    lab.run(30_000);
    assert_eq!(lab.workers[3].working.len(), 2, "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

/// How many partitions each worker has.
fn count(owners: &std::collections::BTreeMap<String, Vec<String>>) -> std::collections::BTreeMap<&str, usize> {
    let mut counts = std::collections::BTreeMap::new();
    for owner in owners.values().flatten() {
        *counts.entry(owner.as_str()).or_default() += 1;
    }
    counts
}
