//! What is to be divided, and by which rule.

use std::collections::BTreeMap;
use std::sync::Arc;

use parti_core::assign::{Answer, Problem, Strategy, StrategyError};
use parti_core::{Config, Partition, PartitionId, Slot, StrategyChoice, Weight};

use super::{assert_owned_once, fleet};
use crate::lab::Lab;

fn partition(id: &str) -> Partition {
    Partition::new(PartitionId::new(id).expect("a valid id"))
}

#[test]
fn partitions_come_go_and_change_their_weight() {
    let mut lab = fleet(2, 4);
    lab.set_list(["p0", "p1", "p2", "p3", "p4", "p5"].map(partition).into());
    lab.run(15_000);
    assert_owned_once(&lab);
    lab.set_list(["p2", "p3", "p4", "p5"].map(partition).into());
    lab.run(15_000);
    assert_owned_once(&lab);
    let heavy = Weight::new(3).expect("not zero");
    lab.set_list([partition("p2").with_weight(heavy), partition("p3"), partition("p4"), partition("p5")].into());
    lab.run(30_000);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_list_becomes_empty_and_fills_again() {
    let mut lab = fleet(2, 4);
    lab.set_list(Vec::new());
    lab.run(15_000);
    assert!(lab.workers.iter().all(|bench| bench.working.is_empty()), "{}", lab.transcript);
    lab.set_list(["p0", "p1"].map(partition).into());
    lab.run(15_000);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_list_becomes_huge() {
    let mut lab = fleet(2, 4);
    lab.set_list((0..20_000).map(|n| partition(&format!("p{n}"))).collect());
    lab.run(15_000);
    assert_owned_once(&lab);
    let counts = lab.workers.iter().map(|bench| bench.working.len());
    assert!(counts.clone().all(|count| (9_500..=10_500).contains(&count)), "{:?}", counts.collect::<Vec<_>>());
}

fn in_zone(zone: &str) -> Config {
    Config { labels: BTreeMap::from([("zone".into(), zone.into())]), ..Config::default() }
}

#[test]
fn a_partition_goes_only_where_a_worker_has_the_labels_that_it_asks_for() {
    let mut lab = Lab::new(0);
    lab.start("a1", in_zone("a"));
    lab.start("b1", in_zone("b"));
    lab.set_list(vec![
        partition("anywhere"),
        partition("in-a").requiring("zone", "a"),
        partition("in-b").requiring("zone", "b"),
        partition("in-c").requiring("zone", "c"),
    ]);
    lab.run(15_000);
    let owners = lab.owners();
    assert_eq!((&owners["in-a"][..], &owners["in-b"][..]), (&["a1".into()][..], &["b1".into()][..]));
    assert!(owners["in-c"].is_empty(), "{}", lab.transcript);
    lab.crash(1);
    lab.run(15_000);
    assert!(lab.owners()["in-b"].is_empty(), "{}", lab.transcript);
    lab.start("c1", in_zone("c"));
    lab.start("b2", in_zone("b"));
    lab.run(30_000);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_partition_is_where_it_would_rather_be_and_elsewhere_only_while_nobody_is_there() {
    let mut lab = Lab::new(0);
    lab.start("a1", in_zone("a"));
    lab.start("b1", in_zone("b"));
    let prefers = |id, zone| partition(id).preferring("zone", zone);
    lab.set_list(vec![prefers("p0", "a"), prefers("p1", "a"), prefers("p2", "b"), prefers("p3", "b")]);
    lab.run(15_000);
    let owners = lab.owners();
    assert!(["p0", "p1"].iter().all(|id| owners[*id] == ["a1"]), "{}", lab.transcript);
    assert!(["p2", "p3"].iter().all(|id| owners[*id] == ["b1"]), "{}", lab.transcript);
    lab.crash(1);
    lab.run(15_000);
    assert_owned_once(&lab);
    lab.start("b2", in_zone("b"));
    lab.run(60_000);
    assert_owned_once(&lab);
    let owners = lab.owners();
    assert!(["p2", "p3"].iter().all(|id| owners[*id] == ["b2"]), "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn partitions_of_one_key_are_with_different_workers_as_long_as_there_are_enough() {
    let mut lab = fleet(3, 0);
    let list = |key: Option<&str>| {
        let of = |id: &str| key.map_or_else(|| partition(id), |key| partition(id).apart(key));
        let plain = (0..9).map(|n| partition(&format!("q{n}")));
        ["p0", "p1", "p2"].map(of).into_iter().chain(plain).collect::<Vec<_>>()
    };
    lab.set_list(list(None));
    lab.run(15_000);
    lab.set_list(list(Some("tenant-7")));
    lab.run(60_000);
    assert_owned_once(&lab);
    let of_the_key = |id: &str| lab.owners()[id].clone();
    let mut owners: Vec<_> = ["p0", "p1", "p2"].map(of_the_key).concat();
    owners.sort_unstable();
    owners.dedup();
    assert_eq!(owners.len(), 3, "{}", lab.transcript);
}

#[test]
fn where_room_is_short_the_most_important_have_owners_and_the_rest_once_there_is_room() {
    let mut lab = Lab::new(0);
    let small = || Config { max_partitions: Some(3), ..Config::default() };
    for at in 0..3 {
        lab.start(&format!("w{at}"), small());
    }
    lab.set_list((0..9).map(|n| partition(&format!("p{n}")).priority(n % 3)).collect());
    lab.run(15_000);
    assert_owned_once(&lab);
    lab.crash(2);
    lab.run(15_000);
    let owners = lab.owners();
    let unowned: Vec<_> = owners.iter().filter(|(_, owners)| owners.is_empty()).map(|(id, _)| id.as_str()).collect();
    assert_eq!(unowned, ["p0", "p3", "p6"], "{}", lab.transcript);
    assert!(lab.workers.iter().all(|bench| bench.working.len() <= 3), "{}", lab.transcript);
    lab.start("w3", small());
    lab.run(30_000);
    assert_owned_once(&lab);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_limit_that_is_lowered_with_a_restart_takes_effect() {
    let mut lab = Lab::new(0);
    let config = |most: u32| {
        let preferred_slot = Some(Slot::new(most % 2));
        Config { preferred_slot, max_load: Some(most.into()), ..Config::default() }
    };
    lab.start("w0", config(6));
    lab.start("w1", config(7));
    lab.set_list((0..8).map(|n| partition(&format!("p{n}")).priority(n / 4)).collect());
    lab.run(15_000);
    assert_owned_once(&lab);
    lab.command(0, parti_core::Command::Restart);
    lab.start("w0-again", config(2));
    lab.run(60_000);
    assert_eq!(lab.workers[2].working.len(), 2, "{}", lab.transcript);
    assert_owned_once(&lab);
}

#[test]
fn a_worker_that_restarts_with_another_label_loses_what_asks_for_the_old_one() {
    let mut lab = Lab::new(0);
    lab.start("a1", in_zone("a"));
    lab.start("a2", in_zone("a"));
    lab.set_list(["p0", "p1", "p2", "p3"].map(|id| partition(id).requiring("zone", "a")).into());
    lab.run(15_000);
    assert_owned_once(&lab);
    lab.transcript.clear();
    lab.command(1, parti_core::Command::Restart);
    lab.start("b2", in_zone("b"));
    lab.run(60_000);
    assert_eq!(lab.workers[0].working.len(), 4, "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_pinned_partition_is_in_its_slot_whenever_a_worker_is_there() {
    let mut lab = Lab::new(0);
    for slot in 0..2 {
        lab.start(&format!("w{slot}"), Config { preferred_slot: Some(Slot::new(slot)), ..Config::default() });
    }
    lab.set_list(["p0", "p1", "p2", "p3"].map(|id| partition(id).pinned_to(Slot::new(1))).into());
    lab.run(15_000);
    assert_eq!(lab.workers[1].working.len(), 4, "{}", lab.transcript);
    lab.crash(1);
    lab.run(15_000);
    assert_eq!(lab.workers[0].working.len(), 4, "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}

#[test]
fn a_group_chooses_a_strategy() {
    let owners =
        [StrategyChoice::Balanced, StrategyChoice::ConsistentHash { virtual_nodes: 150 }, StrategyChoice::RoundRobin]
            .map(|strategy| {
                let mut lab = Lab::new(6);
                for at in 0..2 {
                    lab.start(&format!("w{at}"), Config { strategy, ..Config::default() });
                }
                lab.run(20_000);
                assert_owned_once(&lab);
                let owners: Vec<_> =
                    lab.owners().into_iter().map(|(id, owners)| format!("{id}: {}", owners[0])).collect();
                format!("{strategy:?}\n  {}", owners.join(", "))
            });
    insta::assert_snapshot!(owners.join("\n"));
}

/// Gives everything to the highest slot; refuses to with three workers, and errs with four.
#[derive(Debug)]
struct TopHeavy;

impl Strategy for TopHeavy {
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
        let highest = problem.workers().iter().filter(|worker| !worker.draining).map(|worker| worker.slot).max();
        let owner = match problem.workers().len() {
            3 => return Err(StrategyError { reason: "three is a crowd".into() }),
            4 => Some(Slot::new(999)),
            _ => highest,
        };
        Ok(Answer::new(vec![owner; problem.holders().len()]))
    }
}

#[test]
fn a_strategy_of_ones_own_is_checked_and_one_that_fails_changes_nothing() {
    let config = || Config { move_budget_percent: 100, ..Config::default() };
    let mut lab = Lab::new(4);
    for at in 0..2 {
        lab.start_with(&format!("w{at}"), config(), Arc::new(TopHeavy));
    }
    lab.run(20_000);
    assert_eq!(lab.workers[1].working.len(), 4, "{}", lab.transcript);
    for at in 2..4 {
        lab.start_with(&format!("w{at}"), config(), Arc::new(TopHeavy));
        lab.run(60_000);
        assert_eq!(lab.workers[1].working.len(), 4, "{}", lab.transcript);
    }
    lab.start_with("w4", config(), Arc::new(TopHeavy));
    lab.run(60_000);
    assert_eq!(lab.workers[4].working.len(), 4, "{}", lab.transcript);
    insta::assert_snapshot!(lab.transcript);
}
