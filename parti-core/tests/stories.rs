//! Stories of small fleets as text that a person reviews: events in, actions out.

#[path = "stories/absences.rs"]
mod absences;
#[path = "stories/agreement.rs"]
mod agreement;
#[path = "stories/causes.rs"]
mod causes;
#[path = "stories/changes.rs"]
mod changes;
#[path = "stories/handoffs.rs"]
mod handoffs;
mod lab;
#[path = "stories/leases.rs"]
mod leases;
#[path = "stories/lists.rs"]
mod lists;
#[path = "stories/loads.rs"]
mod loads;
#[path = "stories/presence.rs"]
mod presence;
#[path = "stories/trouble.rs"]
mod trouble;

use lab::{Lab, Reach};
use parti_core::{Bucket, Command, Config, Control, ControlRecord, Key, Slot};

/// A fleet of `workers` that has divided its partitions; the transcript begins after that.
fn fleet(workers: usize, partitions: usize) -> Lab {
    let mut lab = Lab::new(partitions);
    for at in 0..workers {
        lab.start(&format!("w{at}"), Config::default());
    }
    lab.run(20_000);
    assert_owned_once(&lab);
    lab.transcript.clear();
    lab
}

/// Every partition has one owner.
fn assert_owned_once(lab: &Lab) {
    assert!(lab.owners().values().all(|owners| owners.len() == 1), "{:?}\n{}", lab.owners(), lab.transcript);
}

#[test]
fn a_fleet_starts_and_divides_the_partitions() {
    let mut lab = Lab::new(4);
    lab.start("anna", Config::default());
    lab.start("bert", Config::default());
    lab.run(5_000);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_cold_start_that_knows_how_many_to_expect_does_not_wait() {
    let config = || Config { expected_workers: Some(2), ..Config::default() };
    let mut lab = Lab::new(2);
    lab.start("anna", config());
    lab.run(1_500);
    lab.start("bert", config());
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_worker_that_joins_gets_its_share_after_others_let_go() {
    let mut lab = fleet(2, 11);
    lab.start("new", Config::default());
    lab.run(30_000);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_worker_that_leaves_hands_over_first() {
    let mut lab = fleet(3, 6);
    lab.command(2, Command::Leave);
    lab.run(1_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1));
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_leader_that_leaves_is_followed_at_once() {
    let mut lab = fleet(3, 6);
    lab.command(0, Command::Leave);
    lab.run(1_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1));
    insta::assert_snapshot!(lab.transcript);
}

/// It waits for its application, until it hears that everything is released.
#[test]
fn a_worker_that_leaves_is_gone_as_soon_as_its_application_is_done() {
    let mut lab = fleet(3, 6);
    lab.slow_down(2);
    lab.command(2, Command::Leave);
    lab.run(1_300);
    assert!(!lab.transcript.contains(" halts"), "{}", lab.transcript);
    lab.finish(2);
    assert!(lab.transcript.contains("w2 halts"), "{}", lab.transcript);
}

/// It has stepped down by then, but the others wait for whom the store names.
#[test]
fn a_leader_that_leaves_while_it_is_cut_off_is_followed_as_soon_as_it_is_back() {
    let mut lab = fleet(3, 6);
    lab.set_reach(0, Reach::Cut);
    lab.command(0, Command::Leave);
    lab.run(100);
    lab.set_reach(0, Reach::Full);
    lab.run(1_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1));
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_worker_that_drains_gives_everything_up_and_takes_it_back_later() {
    let mut lab = fleet(2, 4);
    lab.command(1, Command::Drain);
    lab.run(15_000);
    assert!(lab.owners().values().all(|owners| owners[..] == ["w0"]), "{}", lab.transcript);
    assert!(lab.workers[1].worker.status().draining);
    lab.command(1, Command::Undrain);
    lab.run(30_000);
    assert_eq!(lab.owners().values().filter(|owners| owners[..] == ["w1"]).count(), 2, "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_plan_that_the_store_would_not_take_is_refused_before_anything_is_written() {
    let mut lab = Lab::new(40);
    lab.start("anna", Config::default());
    lab.limit_records(0, 800);
    lab.run(60_000);
    assert!(lab.transcript.contains("worker-0 must have at most 800 bytes"), "{}", lab.transcript);
    assert_eq!(lab.stored(Key::Assign(Slot::new(0))), None);
    lab.start("bert", Config::default());
    lab.limit_records(1, 800);
    lab.run(60_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1), "{}", lab.transcript);
}

#[test]
fn the_last_worker_can_leave() {
    let mut lab = fleet(1, 2);
    lab.command(0, Command::Leave);
    lab.run(1_000);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_crashed_worker_is_evicted_and_only_its_partitions_move() {
    let mut lab = fleet(3, 6);
    lab.crash(1);
    lab.run(25_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1));
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_crashed_leader_is_replaced_and_evicted() {
    let mut lab = fleet(3, 6);
    lab.crash(0);
    lab.run(25_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1));
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_restart_moves_nothing_whoever_leads() {
    let mut lab = fleet(3, 6);
    let before: Vec<usize> = lab.workers.iter().map(|bench| bench.working.len()).collect();
    for at in 0..3 {
        lab.command(at, Command::Restart);
        lab.run(500);
        lab.start(&format!("w{at}-again"), Config::default());
        lab.run(1_000);
    }
    lab.run(30_000);
    let after: Vec<usize> = lab.workers[3..].iter().map(|bench| bench.working.len()).collect();
    assert_eq!(before, after);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_fleet_that_was_killed_as_a_whole_comes_back_as_it_was() {
    let mut lab = fleet(3, 6);
    let slots = |lab: &Lab, from: usize| -> Vec<_> {
        let held = lab.workers[from..]
            .iter()
            .map(|bench| (bench.worker.status().slot, bench.working.keys().cloned().collect()));
        let mut held: Vec<(Option<Slot>, Vec<_>)> = held.collect();
        held.sort();
        held
    };
    let before = slots(&lab, 0);
    (0..3).for_each(|at| lab.crash(at));
    lab.run(1_000);
    (0..3).for_each(|at| {
        lab.start(&format!("w{at}-again"), Config::default());
    });
    lab.run(40_000);
    assert_eq!(before, slots(&lab, 3), "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_worker_without_a_free_slot_stands_by() {
    let config = || Config { slots: (Slot::new(0), Slot::new(0)), ..Config::default() };
    let mut lab = Lab::new(1);
    lab.start("anna", config());
    lab.start("bert", config());
    lab.run(5_000);
    lab.command(0, Command::Leave);
    lab.run(5_000);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_rolling_update_with_surge_moves_nothing() {
    let version = |software: &str| Config { software: software.into(), ..Config::default() };
    let mut lab = Lab::new(4);
    for name in ["old-a", "old-b"] {
        lab.start(name, version("1"));
    }
    lab.run(20_000);
    lab.transcript.clear();
    for at in 0..2 {
        lab.start(["new-a", "new-b"][at], version("2"));
        lab.run(3_000);
        lab.command(at, Command::Restart);
        lab.run(3_000);
    }
    lab.run(30_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1));
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn members_made_anew_are_noticed_and_everyone_claims_anew() {
    let mut lab = fleet(2, 4);
    lab.make_anew(Bucket::Members);
    lab.run(30_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1), "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_plan_made_anew_is_granted_only_after_everyone_has_let_go() {
    let mut lab = fleet(2, 4);
    lab.make_anew(Bucket::Plan);
    lab.run(30_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1), "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_store_that_is_emptied_is_filled_again() {
    let mut lab = fleet(3, 6);
    lab.make_anew(Bucket::Plan);
    lab.make_anew(Bucket::Members);
    lab.run(30_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1), "{}", lab.transcript);
}

#[test]
fn a_store_that_loses_its_last_writes_recovers_with_higher_tokens() {
    let mut lab = fleet(2, 11);
    let backup = lab.backup();
    lab.start("new", Config::default());
    lab.run(30_000);
    lab.transcript.clear();
    lab.restore(backup);
    lab.run(60_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1), "{:?}\n{}", lab.owners(), lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn an_operator_drains_a_worker_and_takes_it_back() {
    let mut lab = fleet(3, 6);
    let drain = Control::Drain(Slot::new(1));
    lab.want(drain, Some(ControlRecord { by: "ops".into(), ..ControlRecord::default() }));
    lab.run(5_000);
    assert_eq!(lab.workers[1].working.len(), 0);
    assert_eq!(lab.workers[0].worker.status().controls, [drain]);
    lab.command(0, Command::Restart); // Whoever leads next knows it too.
    lab.start("w0-again", Config::default());
    lab.run(20_000);
    assert_eq!(lab.workers[1].working.len(), 0);
    lab.want(drain, None);
    lab.run(40_000);
    assert_eq!(lab.workers[1].working.len(), 2);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn while_rebalancing_is_paused_only_orphans_move() {
    let mut lab = fleet(2, 6);
    lab.want(Control::Pause, Some(ControlRecord::default()));
    lab.start("new", Config::default());
    lab.run(30_000);
    assert_eq!(lab.workers[2].working.len(), 0);
    lab.crash(1);
    lab.run(5_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1), "{}", lab.transcript);
    lab.want(Control::Pause, None);
    lab.run(30_000);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn in_a_maintenance_the_partitions_of_a_worker_that_is_gone_are_held_for_it() {
    let mut lab = fleet(3, 6);
    let before = lab.owners();
    lab.want(Control::Maintenance, Some(ControlRecord { hold_ms: Some(120_000), ..ControlRecord::default() }));
    lab.crash(1);
    lab.run(60_000);
    lab.start("w1", Config::default());
    lab.run(15_000);
    assert_eq!(lab.owners(), before, "{}", lab.transcript);
    lab.crash(3);
    lab.run(130_000);
    assert!(lab.owners().values().all(|owners| owners.len() == 1), "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn an_operator_does_not_wait_for_the_next_round() {
    let mut lab = fleet(2, 11);
    lab.start("new", Config::default());
    lab.run(3_000);
    lab.want(Control::Rebalance, Some(ControlRecord::default()));
    lab.want(Control::Rebalance, Some(ControlRecord::default()));
    insta::assert_snapshot!(lab.transcript);
}
