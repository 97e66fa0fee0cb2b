//! The states that workers go through. The lab checks after every event of every story that they follow the table.

mod lab;

use std::collections::BTreeSet;

use lab::{Lab, Reach};
use parti_core::{Command, Config, Mode, Slot, SuspendReason, WorkerState};

/// A fleet of `workers` of which the first leads and all have settled.
fn fleet(workers: usize, config: &Config) -> Lab {
    let mut lab = Lab::new(6);
    for at in 0..workers {
        lab.start(&format!("w{at}"), config.clone());
    }
    lab.run(20_000);
    for bench in &lab.workers {
        assert_eq!(bench.worker.status().state, WorkerState::Stable, "{}", lab.transcript);
    }
    lab
}

/// The states of each worker, a line each.
fn states(lab: &Lab) -> String {
    let line = |states: &[WorkerState]| states.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → ");
    lab.workers.iter().map(|bench| line(&bench.states)).collect::<Vec<_>>().join("\n")
}

fn degraded(lab: &Lab, at: usize) -> Option<SuspendReason> {
    lab.workers[at].worker.status().degraded
}

#[test]
fn a_fleet_starts_and_one_leads() {
    let lab = fleet(3, &Config::default());
    insta::assert_snapshot!(states(&lab));
}

#[test]
fn a_worker_joins_another_crashes_and_the_leader_leaves() {
    let mut lab = fleet(3, &Config::default());
    lab.start("late", Config::default());
    lab.run(30_000);
    lab.crash(1);
    lab.run(30_000);
    lab.command(0, Command::Leave);
    lab.run(30_000);
    insta::assert_snapshot!(states(&lab));
}

#[test]
fn a_fleet_that_is_killed_as_a_whole_comes_back() {
    let mut lab = fleet(3, &Config::default());
    (0..3).for_each(|at| lab.crash(at));
    lab.run(1_000);
    (0..3).for_each(|at| {
        lab.start(&format!("again{at}"), Config::default());
    });
    lab.run(40_000);
    insta::assert_snapshot!(states(&lab));
}

#[test]
fn a_lost_connection_degrades_at_once_and_for_this_reason() {
    for probe_confirm in [Config::default().probe_confirm, None] {
        let mut lab = fleet(2, &Config { probe_confirm, ..Config::default() });
        lab.set_reach(1, Reach::Cut);
        assert_eq!(degraded(&lab, 1), Some(SuspendReason::ConnectionLost));
        lab.run(1_000);
        lab.set_reach(1, Reach::Full);
        assert_eq!(degraded(&lab, 1), None);
        assert_eq!(lab.workers[1].worker.status().state, WorkerState::Stable);
    }
}

#[test]
fn a_lease_that_runs_out_degrades_for_this_reason_in_both_modes() {
    for mode in [Mode::Strict, Mode::Available] {
        let mut lab = fleet(2, &Config { mode, ..Config::default() });
        (0..2).for_each(|at| lab.set_reach(at, Reach::Mute));
        lab.run(15_000);
        for at in 0..2 {
            assert_eq!(degraded(&lab, at), Some(SuspendReason::LeaseRanOut));
            assert_eq!(lab.workers[at].worker.status().suspended, mode == Mode::Strict);
        }
        (0..2).for_each(|at| lab.set_reach(at, Reach::Full));
        lab.run(5_000);
        assert_eq!((degraded(&lab, 0), degraded(&lab, 1)), (None, None));
    }
}

#[test]
fn an_outage_of_the_store_is_survived_by_all() {
    let mut lab = fleet(3, &Config::default());
    (0..3).for_each(|at| lab.set_reach(at, Reach::Cut));
    lab.run(120_000);
    (0..3).for_each(|at| lab.set_reach(at, Reach::Full));
    lab.run(60_000);
    insta::assert_snapshot!(states(&lab));
}

#[test]
fn a_worker_that_was_evicted_starts_over_without_being_new() {
    let mut lab = fleet(3, &Config::default());
    lab.set_reach(2, Reach::Mute);
    lab.run(30_000);
    lab.set_reach(2, Reach::Full);
    lab.run(60_000);
    insta::assert_snapshot!(states(&lab));
}

#[test]
fn a_worker_that_never_reached_the_store_is_not_degraded_but_new() {
    let mut lab = Lab::new(1);
    let slot = (Slot::new(0), Slot::new(0));
    lab.start("anna", Config { slots: slot, ..Config::default() });
    lab.set_reach(0, Reach::Cut);
    let new = lab.start("bert", Config { slots: slot, ..Config::default() });
    insta::assert_snapshot!(states(&lab));
    assert_eq!(lab.workers[new].worker.status().state, WorkerState::ClaimingId);
}

/// A step of a random life: anything can befall anybody.
fn disturb(lab: &mut Lab, dice: &mut impl FnMut(usize) -> usize) {
    let at = dice(lab.workers.len());
    match dice(10) {
        0 | 1 if lab.workers.len() < 12 => {
            let software = ["", "", "", "2"][dice(4)].into();
            lab.start("another", Config { software, slots: (Slot::new(0), Slot::new(5)), ..Config::default() });
        }
        2 => lab.crash(at),
        3 => lab.command(at, Command::Restart),
        4 => lab.command(at, Command::Leave),
        5 => lab.set_reach(at, Reach::Cut),
        6 => lab.set_reach(at, Reach::Mute),
        7 => (0..lab.workers.len()).for_each(|at| lab.set_reach(at, Reach::Cut)),
        _ => (0..lab.workers.len()).for_each(|at| lab.set_reach(at, Reach::Full)),
    }
    lab.run([0, 10, 300, 3_000, 8_000, 20_000][dice(6)]);
}

/// The lab checks every step. What no life has seen is listed, so that a table that allows too much is noticed.
#[test]
fn random_lives_stay_in_the_table_and_see_most_of_it() {
    let mut seen = BTreeSet::new();
    for seed in 1..=300_u64 {
        let mut state = seed;
        let mut dice = |sides: usize| {
            // Knuth's MMIX generator; its high bits are good enough here.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from((state >> 33) % sides as u64).expect("less than the sides")
        };
        let mut lab = Lab::new(6);
        lab.start("first", Config { slots: (Slot::new(0), Slot::new(5)), ..Config::default() });
        (0..40).for_each(|_| disturb(&mut lab, &mut dice));
        for bench in &lab.workers {
            seen.extend(bench.states.windows(2).map(|pair| (pair[0], pair[1])));
        }
    }
    let pairs = WorkerState::ALL.iter().flat_map(|from| WorkerState::ALL.map(|to| (*from, to)));
    let allowed: Vec<_> = pairs.filter(|(from, to)| from != to && from.may_become(*to)).collect();
    let unseen = allowed.iter().filter(|pair| !seen.contains(pair)).map(|(from, to)| format!("\n{from} → {to}"));
    insta::assert_snapshot!(format!("seen {} of {}; not:{}", seen.len(), allowed.len(), unseen.collect::<String>()));
}
