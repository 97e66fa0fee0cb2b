//! Partitions on their way from one worker to another, and what can go wrong on it.

use std::time::Duration;

use parti_core::{Command, Config, Partition, PartitionId};

use super::{assert_owned_once, fleet};
use crate::lab::Lab;

/// Two workers with eleven partitions, whose applications take their time; a third has joined, and the handoff is under
/// way. The first leads.
fn handing_over() -> Lab {
    let mut lab = fleet(2, 11);
    (0..2).for_each(|at| lab.slow_down(at));
    lab.start("new", Config::default());
    lab.run(2_100);
    assert!(lab.workers[..2].iter().all(|bench| bench.draining.len() == 1), "{}", lab.transcript);
    lab
}

#[test]
fn a_worker_that_drains_does_not_hold_up_the_others() {
    let mut lab = handing_over();
    lab.finish(0);
    assert_eq!(lab.workers[2].working.len(), 1);
    lab.run(1_000);
    lab.finish(1);
    assert_eq!(lab.workers[2].working.len(), 2);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_release_that_takes_too_long_is_cancelled_and_the_partition_goes_on() {
    let mut lab = handing_over();
    lab.run(40_000);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn what_was_to_go_to_a_worker_that_crashes_comes_back_to_the_one_that_drains_it() {
    let mut lab = handing_over();
    lab.crash(2);
    lab.run(2_000);
    // It was told to release them, and finishes that first.
    assert!(lab.workers[..2].iter().all(|bench| bench.draining.len() == 1), "{}", lab.transcript);
    (0..2).for_each(|at| lab.finish(at));
    assert_owned_once(&lab);
    assert_eq!(lab.workers[0].working.len() + lab.workers[1].working.len(), 11);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_worker_that_crashes_while_it_hands_over() {
    let mut lab = handing_over();
    lab.crash(1);
    lab.run(2_000);
    lab.finish(0);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_leader_that_crashes_while_others_hand_over() {
    let mut lab = handing_over();
    lab.crash(0);
    lab.run(500);
    lab.finish(1);
    lab.run(3_000);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn the_list_changes_while_partitions_are_on_their_way() {
    let mut lab = handing_over();
    let on_the_way: Vec<_> = lab.workers[0].draining.keys().cloned().collect();
    let ids = ["p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "new1", "new2"];
    let ids = ids.map(|id| PartitionId::new(id).expect("a valid id"));
    let list = ids.into_iter().filter(|id| !on_the_way.contains(id)).map(Partition::new);
    lab.set_list(list.collect());
    lab.run(1_000);
    (0..2).for_each(|at| lab.finish(at));
    lab.run(20_000);
    (0..2).for_each(|at| lab.finish(at));
    lab.run(1_000);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn an_append_whose_reply_is_lost_ends_the_leadership_and_nothing_else() {
    let mut lab = fleet(2, 6);
    lab.lose_next_reply();
    lab.command(1, Command::Leave);
    lab.run(10_000);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

/// Who dies, after how many of the events that a handoff consists of: each in turn, until the handoff is over before it
/// comes to that. The lab checks after each event that nothing has two owners and that tokens grow.
#[test]
fn whoever_dies_at_whichever_step_of_a_handoff_everything_has_an_owner_again() {
    let config = || Config { restart_hold: Duration::from_secs(5), ..Config::default() };
    for victim in 0..4 {
        for events in 0.. {
            let mut lab = Lab::new(8);
            (0..3).for_each(|at| {
                lab.start(&format!("w{at}"), config());
            });
            lab.run(20_000);
            lab.start("new", config());
            lab.run(1_999);
            lab.doom(victim, events);
            lab.run(2); // The window closes, and everything that follows happens at once.
            let over = lab.is_doomed();
            if over {
                lab.crash(victim);
            }
            lab.run(40_000);
            assert_owned_once(&lab);
            let living = lab.workers.iter().filter(|bench| !bench.working.is_empty()).count();
            assert_eq!(living, 3, "w{victim} died after {events} events:\n{}", lab.transcript);
            if over {
                assert!(events > 20, "a handoff takes more than {events} events");
                break;
            }
        }
    }
}
