//! Processes that only seem to be gone, and a store that is out of reach.

use parti_core::{Command, Config, Key, MemberRecord, Mode, Record, Slot, SuspendReason, WorkerState};

use super::{assert_owned_once, fleet};
use crate::lab::{Lab, Reach};

#[test]
fn a_false_alarm_that_is_shorter_than_the_confirmation_changes_nothing() {
    let mut lab = fleet(4, 8);
    lab.slander(Some(2));
    lab.run(600);
    lab.slander(None);
    lab.run(5_000);
    assert_owned_once(&lab);
    assert_eq!(lab.transcript, "");
}

/// Where its connection is gone nobody listens: it has suspended by the time at which others may believe that.
#[test]
fn a_worker_whose_connection_is_gone_is_evicted_early_and_starts_over() {
    let mut lab = fleet(4, 8);
    lab.set_reach(2, Reach::Cut);
    lab.slander(Some(2));
    lab.run(1_300);
    lab.slander(None);
    lab.set_reach(2, Reach::Full);
    assert!(lab.transcript.contains("Evicted"), "{}", lab.transcript);
    lab.run(40_000);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

/// Its renewals get through again before it hears of the plan: what it was to hold may be another's by now.
#[test]
fn who_was_suspended_does_not_go_on_before_it_has_read_its_assignment_again() {
    let mut lab = fleet(3, 6);
    lab.set_reach(2, Reach::Mute);
    while !lab.workers[2].worker.status().suspended {
        lab.run(100);
    }
    lab.set_reach(2, Reach::DeafToPlan);
    lab.run(3_000);
    assert!(!lab.transcript.contains("Evicted"), "its renewals were committed:\n{}", lab.transcript);
    assert!(lab.workers[2].worker.status().suspended, "{}", lab.transcript);
    lab.set_reach(2, Reach::Full);
    assert!(!lab.workers[2].worker.status().suspended, "{}", lab.transcript);
    assert_owned_once(&lab);
}

#[test]
fn a_frozen_process_is_waited_out_and_finds_out_when_it_wakes() {
    let mut lab = fleet(3, 6);
    lab.freeze(2, true);
    lab.run(10_000);
    assert!(!lab.transcript.contains("Evicted"), "{}", lab.transcript);
    lab.run(10_000);
    assert_owned_once(&lab);
    lab.freeze(2, false);
    lab.run(30_000);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn an_outage_of_ten_minutes_changes_no_slot_and_moves_nothing() {
    let mut lab = fleet(3, 6);
    let (slots, owners) = (slots(&lab), lab.owners());
    (0..3).for_each(|at| lab.set_reach(at, Reach::Cut));
    lab.run(600_000);
    (0..3).for_each(|at| lab.set_reach(at, Reach::Full));
    lab.run(30_000);
    assert_eq!((slots, owners), (self::slots(&lab), lab.owners()), "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

/// It begins while nobody can write: that another one was silent all the while proves nothing.
#[test]
fn a_successor_that_could_not_write_takes_nobody_for_dead_who_could_not_either() {
    let mut lab = fleet(2, 4);
    let leader = lab.workers.iter().position(|bench| bench.worker.status().leader).expect("somebody leads");
    let name = format!("w{leader}");
    let of_leader = |lab: &Lab| -> Vec<String> {
        lab.owners().into_iter().filter(|(_, owners)| owners.contains(&name)).map(|(id, _)| id).collect()
    };
    let before = of_leader(&lab);
    lab.command(1 - leader, Command::Restart);
    lab.set_reach(leader, Reach::Mute);
    let successor = lab.start_out_of_favour("successor", Config::default());
    lab.run(2_000);
    lab.set_reach(successor, Reach::Mute);
    lab.run(20_000);
    lab.set_reach(successor, Reach::Full);
    lab.run(500);
    lab.set_reach(leader, Reach::Full);
    lab.run(40_000);
    assert!(!lab.transcript.contains("Evicted"), "{}", lab.transcript);
    assert_eq!(of_leader(&lab), before, "{}", lab.transcript);
    assert_owned_once(&lab);
}

#[test]
fn in_available_mode_the_work_goes_on_through_an_outage() {
    let mut lab = Lab::new(4);
    for at in 0..2 {
        lab.start(&format!("w{at}"), Config { mode: Mode::Available, ..Config::default() });
    }
    lab.run(20_000);
    lab.transcript.clear();
    let owners = lab.owners();
    (0..2).for_each(|at| lab.set_reach(at, Reach::Cut));
    for _ in 0..10 {
        lab.run(60_000);
        assert_eq!(lab.owners(), owners);
        assert!(lab.workers.iter().all(|bench| bench.worker.status().state == WorkerState::Degraded));
    }
    (0..2).for_each(|at| lab.set_reach(at, Reach::Full));
    lab.run(30_000);
    assert_eq!(lab.owners(), owners);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_leader_that_was_cut_off_takes_nobody_for_dead_on_what_it_could_not_hear() {
    let mut lab = fleet(3, 6);
    let owners = lab.owners();
    lab.set_reach(0, Reach::Mute);
    lab.run(9_000);
    // It has heard nothing for nearly a lease, and hears everybody's latest word at once.
    lab.set_reach(0, Reach::Full);
    lab.run(15_000);
    assert_eq!(lab.owners(), owners, "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_watch_that_has_gone_silent_is_made_up_for_by_the_next_reading() {
    let mut lab = fleet(2, 11);
    let held = lab.workers[1].working.len();
    lab.set_reach(1, Reach::Deaf);
    lab.start("new", Config::default());
    lab.run(8_000);
    // It has not heard that it is to give something up, and goes on; nobody else is given what it has.
    assert_eq!(lab.workers[1].working.len(), held, "{}", lab.transcript);
    lab.set_reach(1, Reach::Full); // What was missed is read.
    lab.run(30_000);
    assert_owned_once(&lab);
    assert!(lab.workers.iter().all(|bench| bench.working.len() >= 3), "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn who_learns_who_is_alive_says_so_once() {
    let mut lab = fleet(5, 5);
    (0..5).for_each(|at| lab.crash(at));
    lab.run(500);
    lab.start("new", Config::default());
    lab.run(30_000);
    let told = lab.transcript.matches("new says Standby { reason: LearningWhoIsAlive").count();
    assert_eq!(told, 1, "{}", lab.transcript);
}

fn slots(lab: &Lab) -> Vec<Option<parti_core::Slot>> {
    lab.workers.iter().map(|bench| bench.worker.status().slot).collect()
}

/// What a watch has shown before a break of the connection may be heard after it, since it has waited in a queue: it is
/// not the listing that makes up for the break.
#[test]
fn what_waits_in_the_queue_while_the_connection_breaks_is_not_taken_for_a_new_listing() {
    let mut lab = fleet(5, 10);
    lab.run(60_000);
    lab.crash(0);
    lab.run(60_000);
    let led = lab.terms.len();
    lab.break_next_reading();
    let leader = lab.workers.iter().skip(1).position(|bench| bench.worker.status().leader).expect("one leads") + 1;
    lab.crash(leader);
    lab.run(40_000);
    assert!(lab.transcript.contains("breaks and is back"), "{}", lab.transcript);
    assert!(lab.terms.len() > led && lab.terms.is_sorted(), "{:?}\n{}", lab.terms, lab.transcript);
    assert_owned_once(&lab);
}

/// The store is full, say: nobody can renew, and everybody says why. When it has room again, all goes on as it was.
#[test]
fn a_store_that_refuses_every_write_is_not_taken_for_one_out_of_reach() {
    let mut lab = fleet(3, 6);
    let (slots, owners) = (slots(&lab), lab.owners());
    (0..3).for_each(|at| lab.set_reach(at, Reach::Refused));
    lab.run(60_000);
    for bench in &lab.workers {
        let status = bench.worker.status();
        assert_eq!(status.degraded, Some(SuspendReason::WritesRefused), "{status:?}");
        assert!(status.suspended);
    }
    (0..3).for_each(|at| lab.set_reach(at, Reach::Full));
    lab.run(30_000);
    assert_eq!((slots, owners), (self::slots(&lab), lab.owners()), "{}", lab.transcript);
}

#[test]
fn a_newcomer_that_is_refused_a_slot_says_so_and_gets_one_later() {
    let mut lab = Lab::new(2);
    lab.start("w0", Config::default());
    let refused = lab.start_out_of_favour("w1", Config::default());
    lab.run(5_000);
    let status = lab.workers[refused].worker.status();
    assert_eq!((status.state, status.degraded), (WorkerState::Degraded, Some(SuspendReason::WritesRefused)));
    lab.set_reach(refused, Reach::Full);
    lab.run(30_000);
    assert_eq!(lab.workers[refused].worker.status().state, WorkerState::Stable);
    assert_owned_once(&lab);
}

/// Who may not write the plan makes room for one who may.
#[test]
fn a_leader_whose_plan_is_refused_resigns() {
    let mut lab = fleet(3, 6);
    let leader = lab.workers.iter().position(|bench| bench.worker.status().leader).expect("one leads");
    lab.refuse_plans_of(leader);
    lab.crash((leader + 1) % 3);
    lab.run(30_000);
    assert!(!lab.workers[leader].worker.status().leader, "{}", lab.transcript);
    assert!(lab.transcript.contains("PlanRefused"), "{}", lab.transcript);
    assert_owned_once(&lab);
}

/// Its subscription is taken away while it goes on renewing, so often that no row of probes comes together: it lets go.
#[test]
fn a_worker_that_does_not_hear_itself_for_a_lease_holds_nothing_up() {
    let config = Config { lease: std::time::Duration::from_secs(2), ..Config::default() };
    let mut lab = Lab::new(6);
    (0..3).for_each(|at| {
        lab.start(&format!("w{at}"), config.clone());
    });
    lab.run(30_000);
    assert_owned_once(&lab);
    lab.let_listen(0, false);
    lab.take_subscription(0);
    lab.run(15_000);
    let status = lab.workers[0].worker.status();
    assert_eq!((status.state, status.degraded), (WorkerState::Degraded, Some(SuspendReason::NotPresent)));
    assert!(lab.owners().values().all(|owners| owners.len() == 1 && owners[0] != "w0"), "{}", lab.transcript);
    lab.let_listen(0, true);
    lab.run(30_000);
    assert_owned_once(&lab);
    assert!(lab.owners().values().any(|owners| owners[0] == "w0"), "{}", lab.transcript);
}

/// What was seen of its first slot may be old, and another in its place there: only the end of its tenure tells.
#[test]
fn what_a_process_has_that_is_seen_in_a_later_slot_stays_where_it_is() {
    let mut lab = fleet(3, 6);
    let working = lab.workers[2].working.clone();
    let instance = lab.workers[2].worker.status().instance;
    let record = MemberRecord { beat: 1_000, ..MemberRecord::new(instance) };
    lab.put(Key::Slot(Slot::new(7)), &Record::Member(record.into()).encode());
    lab.run(10_000);
    assert!(!lab.transcript.contains("Emergency"), "{}", lab.transcript);
    assert_eq!(working, lab.workers[2].working, "{}", lab.transcript);
    lab.run(30_000);
    assert!(lab.transcript.contains("Evicted { slot: Slot(7)"), "{}", lab.transcript);
    assert_owned_once(&lab);
}
