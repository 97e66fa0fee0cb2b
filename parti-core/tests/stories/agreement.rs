//! What an application cannot work on, and settings that a group must share.

use parti_core::assign::RoundRobin;
use parti_core::{Config, Mode, Partition, PartitionId};
use std::sync::Arc;

use super::lab::Lab;
use super::{assert_owned_once, fleet};

fn owner(lab: &Lab, partition: &str) -> String {
    lab.owners()[partition].join(" and ")
}

/// What a worker owns, by name.
fn first_of(lab: &Lab, at: usize) -> String {
    lab.workers[at].working.keys().next().expect("it owns something").to_string()
}

#[test]
fn a_partition_that_is_given_up_goes_to_another_worker_and_stays_there() {
    let mut lab = fleet(3, 6);
    let before = lab.owners();
    let given_up = first_of(&lab, 1);
    lab.give_up(1, &given_up);
    lab.run(1_000);
    assert_owned_once(&lab);
    let home = owner(&lab, &given_up);
    assert_ne!(home, "w1", "{}", lab.transcript);
    // Balance would bring something to the worker that has one fewer now, but not this.
    lab.run(40_000);
    assert_ne!(owner(&lab, &given_up), "w1", "{}", lab.transcript);
    assert_owned_once(&lab);
    let moved = lab.owners().iter().filter(|(id, owners)| before[*id] != **owners).count();
    assert!(moved <= 2, "{moved} moved:\n{}", lab.transcript);
}

#[test]
fn what_was_given_up_evens_out_the_load_like_all_else() {
    let mut lab = fleet(2, 4);
    let given_up: Vec<String> = lab.workers[0].working.keys().map(ToString::to_string).collect();
    for partition in &given_up {
        lab.give_up(0, partition);
    }
    lab.run(1_000);
    assert!(given_up.iter().all(|partition| owner(&lab, partition) == "w1"), "{}", lab.transcript);
    lab.start("third", Config::default());
    lab.start("fourth", Config::default());
    lab.run(60_000);
    assert_owned_once(&lab);
    assert!(lab.workers.iter().all(|bench| bench.working.len() == 1), "{}", lab.transcript);
}

#[test]
fn what_everyone_gives_up_stays_where_it_is_until_somebody_new_comes() {
    let mut lab = fleet(2, 4);
    let given_up = first_of(&lab, 0);
    lab.give_up(0, &given_up);
    lab.run(1_000);
    assert_eq!(owner(&lab, &given_up), "w1", "{}", lab.transcript);
    lab.give_up(1, &given_up);
    lab.run(20_000);
    assert_eq!(owner(&lab, &given_up), "w1", "{}", lab.transcript);
    lab.start("new", Config::default());
    lab.run(1_000);
    assert_eq!(owner(&lab, &given_up), "new", "{}", lab.transcript);
    assert_owned_once(&lab);
}

#[test]
fn a_partition_is_worked_on_until_it_is_taken_from_who_gave_it_up() {
    let mut lab = fleet(2, 4);
    lab.slow_down(0);
    let given_up = first_of(&lab, 0);
    lab.give_up(0, &given_up);
    lab.run(1_000);
    assert!(lab.workers[0].draining.keys().any(|id| id.as_str() == given_up), "{}", lab.transcript);
    lab.finish(0);
    lab.run(1_000);
    assert_eq!(owner(&lab, &given_up), "w1", "{}", lab.transcript);
}

#[test]
fn who_has_other_settings_than_the_leader_says_so_once_and_no_longer_when_it_is_over() {
    let mut lab = fleet(2, 4);
    lab.start_with("odd", Config { mode: Mode::Available, ..Config::default() }, Arc::new(RoundRobin));
    lab.run(60_000);
    let told = |what: &str| lab.transcript.matches(&format!("setting: {what}")).count();
    assert_eq!((told("Mode"), told("Strategy"), told("List"), told("Slots")), (1, 1, 0, 0), "{}", lab.transcript);
    assert_eq!(lab.workers[2].worker.status().differences.len(), 2);
    assert!(lab.workers[..2].iter().all(|bench| bench.worker.status().differences.is_empty()));
}

#[test]
fn a_list_that_changes_everywhere_is_no_difference_and_one_that_stays_another_is() {
    let mut lab = fleet(2, 4);
    let partition = |id: &str| Partition::new(PartitionId::new(id).expect("a valid id"));
    lab.set_list(["a", "b", "c"].map(partition).into());
    lab.run(30_000);
    assert!(!lab.transcript.contains("SettingDiffers"), "{}", lab.transcript);
    lab.set_list_of(1, ["a", "b"].map(partition).into());
    lab.run(30_000);
    assert_eq!(lab.transcript.matches("setting: List").count(), 1, "{}", lab.transcript);
    lab.set_list_of(1, ["a", "b", "c"].map(partition).into());
    lab.run(10_000);
    assert!(lab.workers[1].worker.status().differences.is_empty());
}
