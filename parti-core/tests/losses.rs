//! Stories of what nobody expects of a store or of a machine: writes that were acknowledged and are gone, names that
//! come again, a process that did not run.

mod lab;

use lab::{Lab, Reach};
use parti_core::Config;

fn fleet(workers: usize, partitions: usize) -> Lab {
    let mut lab = Lab::new(partitions);
    for at in 0..workers {
        lab.start(&format!("w{at}"), Config::default());
    }
    lab.run(20_000);
    assert_settled(&lab);
    lab.transcript.clear();
    lab
}

fn assert_settled(lab: &Lab) {
    assert!(lab.owners().values().all(|owners| owners.len() == 1), "{:?}\n{}", lab.owners(), lab.transcript);
}

/// What a story says of one worker.
fn told(lab: &Lab, name: &str) -> Vec<String> {
    let of_it = |line: &&str| line.contains(&format!("  {name} "));
    lab.transcript
        .lines()
        .filter(of_it)
        .map(|line| line.trim_start_matches(|c: char| !c.is_alphabetic()).to_owned())
        .collect()
}

#[test]
fn a_slot_that_is_claimed_again_at_the_same_revision_is_another_tenure() {
    let mut lab = Lab::new(2);
    let before = lab.backup();
    lab.start("first", Config { expected_workers: Some(1), ..Config::default() });
    lab.run(1_000);
    let first = lab.workers[0].worker.status().tenure.expect("it has a slot");
    assert_settled(&lab);
    lab.crash(0);
    lab.restore_members(before);
    lab.start("second", Config { expected_workers: Some(1), ..Config::default() });
    let second = lab.workers[1].worker.status().tenure.expect("it has a slot");
    assert_eq!(first.begun(), second.begun(), "the store gives the revision again");
    assert_ne!(first, second);
    assert!(lab.workers[1].working.is_empty(), "what the first one had is not for it to take:\n{}", lab.transcript);
    lab.run(30_000);
    assert_settled(&lab);
}

#[test]
fn an_eviction_that_the_store_has_forgotten_gives_nothing_back() {
    let mut lab = fleet(3, 6);
    lab.set_reach(2, Reach::Cut);
    let before = lab.backup();
    lab.run(30_000);
    assert_settled(&lab); // the others have what the third one had
    lab.restore_members(before);
    lab.transcript.clear();
    lab.set_reach(2, Reach::Full); // and its record is there, as it left it
    lab.run(60_000);
    assert_settled(&lab); // the laboratory has checked every acquisition
}

#[test]
fn a_process_that_did_not_run_does_not_work_before_it_knows_that_it_may() {
    let mut lab = fleet(2, 4);
    lab.oversleep(1, 600);
    let told = told(&lab, "w1");
    assert_eq!(told[..2], ["w1 suspends (NotPresent)", "w1 resumes"], "{}", lab.transcript);
    assert_eq!(lab.workers[1].worker.status().degraded, None);
    lab.transcript.clear();
    lab.oversleep(1, 400);
    assert_eq!(lab.transcript.matches("suspends").count(), 0, "that is not long:\n{}", lab.transcript);
}
