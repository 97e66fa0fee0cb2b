//! The head of the plan says what moved, and why.

use std::collections::BTreeMap;

use parti_core::{Command, Config, Control, ControlRecord, Key, Partition, PlanHistory, Record, Slot};

use crate::{Lab, fleet};

/// What the head of the plan remembers.
fn history(lab: &Lab) -> PlanHistory {
    let stored = lab.stored(Key::Cluster).expect("a leader has begun");
    match Record::decode(Key::Cluster, stored) {
        Ok(Record::Cluster(head)) => head.moves.clone(),
        other => panic!("{other:?}"),
    }
}

/// The causes of each plan, with the number of moves of each.
fn told(lab: &Lab) -> Vec<String> {
    let causes = |plan: &parti_core::PlanMoves| {
        plan.causes.iter().map(|caused| format!("{} {}", caused.count, caused.cause)).collect::<Vec<_>>().join(", ")
    };
    history(lab).plans().iter().map(causes).collect()
}

#[test]
fn each_change_of_a_fleet_is_told_with_its_cause() {
    let mut lab = fleet(3, 12);
    lab.start("w3", Config::default());
    lab.run(60_000);
    lab.crash(1);
    lab.run(60_000);
    lab.want(Control::Drain(Slot::new(2)), Some(ControlRecord::default()));
    lab.run(60_000);
    lab.command(3, Command::Leave);
    lab.run(60_000);
    let ids = (0..13).map(|n| Partition::new(format!("p{n}").parse().expect("a valid id")));
    lab.set_list(ids.collect());
    lab.run(60_000);
    assert_eq!(told(&lab), ["12 list", "2 balance", "1 balance", "3 crash", "4 drain", "6 leave", "1 list"]);
}

/// Follows every move that is remembered, and finds each partition where it is.
#[test]
fn whoever_follows_the_moves_finds_every_partition_where_it_is() {
    let mut lab = fleet(4, 40);
    lab.crash(2);
    lab.run(60_000);
    lab.start("late", Config::default());
    lab.run(60_000);
    lab.want(Control::Drain(Slot::new(1)), Some(ControlRecord::default()));
    lab.run(60_000);
    lab.crash(0); // it led: the next leader goes on with the same history
    lab.run(60_000);
    let mut owners: BTreeMap<String, Option<Slot>> = BTreeMap::new();
    for moved in history(&lab).plans().iter().flat_map(|plan| &plan.causes).flat_map(|caused| &caused.moves) {
        let before = owners.insert(moved.partition.to_string(), moved.to);
        assert_eq!(before.flatten(), moved.from, "{moved:?}");
    }
    for (at, bench) in lab.workers.iter().enumerate() {
        let slot = bench.worker.status().slot;
        for partition in bench.working.keys().filter(|_| at != 0 && at != 2) {
            assert_eq!(owners[partition.as_str()], slot, "{partition}");
        }
    }
    assert_eq!(owners.len(), 40);
}

#[test]
fn a_process_that_goes_on_in_the_place_of_another_has_moved_nothing() {
    let mut lab = fleet(1, 4);
    lab.crash(0);
    lab.start("again", Config::default());
    lab.run(120_000);
    assert_eq!(lab.workers[1].working.len(), 4);
    assert_eq!(told(&lab), ["4 list"]);
}

#[test]
fn what_an_operator_asks_for_is_told_as_that() {
    let mut lab = fleet(2, 12);
    lab.start("w2", Config::default());
    lab.run(1_000);
    lab.want(Control::Rebalance, Some(ControlRecord::default()));
    lab.run(2_000);
    assert_eq!(told(&lab), ["12 list", "2 operator"], "what the budget leaves is for the next round");
}
