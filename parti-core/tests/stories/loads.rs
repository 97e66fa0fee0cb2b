//! Partitions whose weight is measured.

use std::collections::BTreeMap;

use parti_core::{Command, Config, Event, Key, MoveCause, Partition, PartitionId, Record, Rng, Slot, StrategyChoice};

use super::assert_owned_once;
use crate::lab::Lab;

/// How often applications report.
const EVERY_MS: u64 = 5_000;
const MINUTE: u64 = 60_000;

/// A fleet whose list measures all partitions, after nothing was reported for a while.
fn fleet(workers: usize, partitions: usize) -> Lab {
    fleet_of(&Config::default(), workers, partitions)
}

fn fleet_of(config: &Config, workers: usize, partitions: usize) -> Lab {
    let mut lab = Lab::new(0);
    for at in 0..workers {
        lab.start(&format!("w{at}"), config.clone());
    }
    let id = |n| PartitionId::new(format!("p{n:02}")).expect("a valid id");
    lab.set_list((0..partitions).map(|n| Partition::new(id(n)).measured()).collect());
    lab.run(30_000);
    assert_owned_once(&lab);
    lab
}

/// Applications report for so long.
fn report(lab: &mut Lab, millis: u64, mut load: impl FnMut(&str) -> u64) {
    for _ in 0..millis / EVERY_MS {
        lab.report(&mut load);
        lab.run(EVERY_MS);
    }
}

/// Who owns what.
fn owners(lab: &Lab) -> BTreeMap<String, Vec<String>> {
    assert_owned_once(lab);
    lab.owners()
}

fn moved(before: &BTreeMap<String, Vec<String>>, after: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    before.iter().filter(|(id, owner)| after[*id] != **owner).map(|(id, _)| id.clone()).collect()
}

/// The two first partitions of the worker that has the first one.
fn of_one_worker(lab: &Lab) -> Vec<String> {
    let owners = owners(lab);
    let worker = owners["p00"].clone();
    owners.into_iter().filter(|(_, owner)| *owner == worker).map(|(id, _)| id).take(2).collect()
}

#[test]
fn a_load_that_has_shifted_moves_what_evens_it_out_and_the_weight_goes_along() {
    let mut lab = fleet(2, 8);
    report(&mut lab, 5 * MINUTE, |_| 100);
    let (before, heavy) = (owners(&lab), of_one_worker(&lab));
    let load = |id: &str| if heavy.iter().any(|heavy| heavy == id) { 1_000 } else { 100 };
    report(&mut lab, 10 * MINUTE, load);
    let after = owners(&lab);
    let all_moved = moved(&before, &after);
    assert!(all_moved.len() <= 2, "a heavy one, and a light one the other way: {all_moved:?}\n{}", lab.transcript);
    let moved: Vec<_> = all_moved.iter().filter(|id| heavy.contains(id)).collect();
    assert_eq!(moved.len(), 1, "{all_moved:?}");
    // Whoever has it now was told how heavy it is, and says so.
    let slot = Slot::new(after[moved[0]][0][1..].parse().expect("its number"));
    let Ok(Record::Assignment(assignment)) =
        Record::decode(Key::Assign(slot), lab.stored(Key::Assign(slot)).expect("an assignment"))
    else {
        panic!("not an assignment")
    };
    let grant = assignment.owned.iter().find(|grant| grant.partition.as_str() == moved[0].as_str()).expect("a grant");
    assert!((500..=1_000).contains(&grant.weight.get()), "{grant:?}");
    let Ok(Record::Cluster(head)) = Record::decode(Key::Cluster, lab.stored(Key::Cluster).expect("a head")) else {
        panic!("not a head")
    };
    let causes = head.moves.plans().iter().flat_map(|plan| &plan.causes);
    let causes: Vec<_> = causes.filter(|caused| caused.cause != MoveCause::List).collect();
    assert!(causes.iter().all(|caused| caused.cause == MoveCause::Load), "{causes:?}");
    assert_eq!(causes.iter().map(|caused| caused.count).sum::<u64>(), all_moved.len() as u64);
}

#[test]
fn nothing_moves_for_noise() {
    let (mut lab, mut rng) = (fleet(3, 10), Rng::new(1));
    let before = owners(&lab);
    report(&mut lab, 120 * MINUTE, |_| 80 + rng.below(41));
    assert_eq!(owners(&lab), before, "{}", lab.transcript);
}

#[test]
fn a_burst_moves_nothing() {
    let mut lab = fleet(2, 8);
    report(&mut lab, 5 * MINUTE, |_| 100);
    let (before, heavy) = (owners(&lab), of_one_worker(&lab));
    report(&mut lab, MINUTE, |id| if heavy.iter().any(|heavy| heavy == id) { 300 } else { 100 });
    report(&mut lab, 10 * MINUTE, |_| 100);
    assert_eq!(owners(&lab), before, "{}", lab.transcript);
}

#[test]
fn what_has_moved_rests() {
    let mut lab = fleet(2, 8);
    report(&mut lab, 5 * MINUTE, |_| 100);
    let (before, heavy) = (owners(&lab), of_one_worker(&lab));
    let is_heavy = |id: &str| heavy.iter().any(|heavy| heavy == id);
    let mut waited = 0;
    while owners(&lab) == before {
        report(&mut lab, EVERY_MS, |id| if is_heavy(id) { 1_000 } else { 100 });
        waited += EVERY_MS;
        assert!(waited < 10 * MINUTE, "it moves\n{}", lab.transcript);
    }
    // Now the one that has moved is the only heavy one, where it would not have to be: it is for its old worker again.
    let settled = owners(&lab);
    let one = moved(&before, &settled)[0].clone();
    let back = |id: &str| match (id == one, before[id] == before[&one]) {
        (true, _) => 300,
        (false, true) => 10,
        (false, false) => 100,
    };
    report(&mut lab, 4 * MINUTE - 2 * EVERY_MS, back);
    assert_eq!(owners(&lab)[&one], settled[&one], "it rests\n{}", lab.transcript);
}

#[test]
fn another_leader_goes_on_with_what_was_measured() {
    let mut lab = fleet(3, 12);
    let load = |id: &str| if id < "p03" { 1_000 } else { 100 };
    report(&mut lab, 20 * MINUTE, load);
    let before = owners(&lab);
    let leader = lab.workers.iter().position(|bench| bench.worker.status().leader).expect("somebody leads");
    lab.command(leader, Command::Restart);
    lab.start("successor", Config::default());
    report(&mut lab, 20 * MINUTE, load);
    let renamed = |owner: &String| if *owner == format!("w{leader}") { "successor".to_owned() } else { owner.clone() };
    let expected: BTreeMap<String, Vec<String>> =
        before.into_iter().map(|(id, owners)| (id, owners.iter().map(renamed).collect())).collect();
    assert_eq!(owners(&lab), expected, "{}", lab.transcript);
}

#[test]
fn what_is_no_load_and_what_is_not_measured_changes_nothing() {
    let mut lab = fleet(2, 4);
    let before = owners(&lab);
    report(&mut lab, 10 * MINUTE, |id| if id == "p00" { 0 } else { u64::MAX });
    let refused: u64 = lab.workers.iter().map(|bench| bench.worker.status().load.refused).sum();
    assert_eq!((refused, owners(&lab) == before), (4 * 120, true));
    let silent = lab.workers.iter().map(|bench| bench.worker.status().load);
    assert!(
        silent.clone().all(|load| load.measured == load.silent && load.measured > 0),
        "{:?}",
        silent.collect::<Vec<_>>()
    );

    let mut lab = super::fleet(2, 4);
    let before = lab.stored(Key::Slot(Slot::new(1))).map(<[u8]>::len);
    report(&mut lab, 10 * MINUTE, |_| 100);
    let stored = lab.stored(Key::Slot(Slot::new(1))).expect("a member");
    assert!(!String::from_utf8_lossy(stored).contains("load"), "nobody asks for it");
    assert!(before.is_some_and(|before| stored.len() <= before + 8));
}

#[test]
fn who_does_not_report_counts_by_the_list() {
    let mut lab = fleet(2, 8);
    let before = owners(&lab);
    // As of an older version: one worker reports nothing.
    for _ in 0..10 * MINUTE / EVERY_MS {
        lab.report_of(0, |_| 70);
        lab.run(EVERY_MS);
    }
    assert_eq!(owners(&lab), before, "{}", lab.transcript);
}

#[test]
fn who_takes_part_again_gets_its_share_though_nobody_reports() {
    let mut lab = fleet(2, 8);
    report(&mut lab, 5 * MINUTE, |_| 100);
    lab.command(1, Command::Drain);
    lab.run(MINUTE);
    lab.command(1, Command::Undrain);
    lab.run(10 * MINUTE);
    let of_first = owners(&lab).into_values().filter(|owner| owner[0] == "w0").count();
    assert_eq!(of_first, 4, "{}", lab.transcript);
}

#[test]
fn a_report_is_shown_in_words() {
    let (partition, token) = (PartitionId::new("p7").expect("a valid id"), parti_core::Token::default());
    let shown = Event::Load { partition, token, units: 12 }.to_string();
    assert!(shown.starts_with("p7 with ") && shown.ends_with(" weighs 12"), "{shown}");
}

#[test]
fn a_hash_ring_goes_by_the_weights_of_the_list_whatever_is_measured() {
    let config = Config { strategy: StrategyChoice::ConsistentHash { virtual_nodes: 20 }, ..Config::default() };
    let mut lab = fleet_of(&config, 3, 12);
    let (before, heavy) = (owners(&lab), of_one_worker(&lab));
    let load = |id: &str| if heavy.iter().any(|heavy| heavy == id) { 1_000 } else { 100 };
    report(&mut lab, 20 * MINUTE, load);
    assert_eq!(owners(&lab), before);
}

#[test]
fn two_workers_that_are_as_full_as_each_other_are_relieved_one_after_the_other() {
    // Each round may move one partition, after which the other of the two is still as full.
    let config = Config { move_budget_percent: 7, ..Config::default() };
    let mut lab = fleet_of(&config, 4, 16);
    let before = owners(&lab);
    let of = |worker: &str| -> Vec<String> {
        before.iter().filter(|(_, owner)| owner[0] == worker).take(2).map(|(id, _)| id.clone()).collect()
    };
    let heavy = [of("w0"), of("w1")].concat();
    let load = |id: &str| if heavy.iter().any(|heavy| heavy == id) { 300 } else { 100 };
    report(&mut lab, 40 * MINUTE, load);
    let mut loads: BTreeMap<String, u64> = BTreeMap::new();
    for (id, owner) in owners(&lab) {
        *loads.entry(owner[0].clone()).or_default() += load(&id);
    }
    assert!(loads.len() == 4 && loads.values().all(|load| (500..=700).contains(load)), "{loads:?}");
}
