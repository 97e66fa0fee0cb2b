//! What holds where partitions are to be apart from others.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use proptest::collection::vec as vec_of;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::testing::Group;
use super::{Balanced, ConsistentHash, MoveReason, Plan, Rule, Step};
use crate::ids::Slot;

/// By key and slot, how many there are.
fn counts(group: &Group) -> BTreeMap<(&str, Slot), usize> {
    let mut counts = BTreeMap::new();
    for rule in &group.rules {
        if let (Some(key), Some(slot)) = (&rule.apart, group.holders[rule.partition]) {
            *counts.entry((key.as_str(), slot)).or_default() += 1;
        }
    }
    counts
}

/// How many partitions are too many for one worker, by the count of the key and of the workers alone.
fn crowded(group: &Group) -> usize {
    let most = |key: &str| {
        let all = group.rules.iter().filter(|rule| rule.apart.as_deref() == Some(key)).count();
        all.div_ceil(group.workers.iter().filter(|worker| !worker.draining).count().max(1))
    };
    counts(group).iter().map(|((key, _), count)| count.saturating_sub(most(key))).sum()
}

/// How far all loads are outside the bounds.
fn outside(group: &Group) -> u64 {
    let problem = group.problem();
    let bounds = problem.bounds();
    problem.current().loads.iter().enumerate().map(|(worker, load)| bounds.outside(worker, *load)).sum()
}

/// Workers in three zones, and partitions that have keys and prefer zones; nobody holds anything.
fn keyed(workers: u32, weights: &[u32], asks: impl Fn(usize) -> (Option<usize>, Option<usize>)) -> Group {
    let mut group = Group::weighing(workers, weights).in_zones(3);
    for partition in 0..weights.len() {
        let (key, zone) = asks(partition);
        let prefers = zone.map(|zone| (String::from("zone"), format!("z{zone}"))).into_iter().collect();
        group.rules.push(Rule { partition, apart: key.map(|key| format!("k{key}")), prefers, ..Rule::default() });
    }
    group
}

fn moved(rounds: &[Plan]) -> usize {
    rounds.iter().map(|round| round.figures.moved).sum()
}

proptest! {
    #[test]
    fn a_key_takes_nobody_out_of_bounds_and_the_rounds_end(
        workers in 1..9_u32,
        partitions in vec_of((1..4_u32, 0..6_usize, 0..9_u32, 0..5_usize), 0..60),
        budget in 1..=100_u32,
    ) {
        let weights: Vec<_> = partitions.iter().map(|(weight, ..)| *weight).collect();
        let asks = |at: usize| (Some(partitions[at].1).filter(|key| *key < 5), Some(partitions[at].3).filter(|zone| *zone < 3));
        let mut group = keyed(workers, &weights, asks);
        group.options.move_budget_percent = budget;
        group.holders = partitions.iter().map(|(_, _, slot, _)| Some(Slot::new(slot % workers))).collect();
        let mut ended = false;
        for _ in 0..400 {
            let (before, together) = (outside(&group), crowded(&group));
            let plan = group.plan(&Balanced);
            prop_assert_eq!(plan.figures.crowded_before, together);
            group.holders.clone_from(&plan.owners);
            prop_assert_eq!(plan.figures.crowded_after, crowded(&group));
            let after = (outside(&group), crowded(&group));
            prop_assert!(after <= (before, together), "{after:?} > {:?}: {plan}", (before, together));
            ended = !plan.another_round;
            if ended {
                break;
            }
        }
        prop_assert!(ended, "the rounds do not end");
        let again = group.plan(&Balanced);
        prop_assert_eq!(again.moves, vec![]);
        prop_assert!(!again.another_round);
    }

    /// With equal weights, and others to exchange with, those of one key are always apart in the end.
    #[test]
    fn those_of_one_key_are_apart(
        workers in 2..9_u32,
        keys in vec_of(0..4_usize, 0..12),
        others in 0..40_usize,
        held in vec_of(0..9_u32, 60),
        seed in any::<u64>(),
    ) {
        let key = |at: usize| keys.get(at).copied();
        let mut group = keyed(workers, &vec![1; keys.len() + others], |at| (key(at), None));
        group.options.seed = seed;
        group.options.move_budget_percent = 100;
        group.holders = held.iter().map(|slot| Some(Slot::new(*slot)).filter(|_| *slot < workers)).take(keys.len() + others).collect();
        let rounds = group.rounds(&Balanced);
        prop_assert_eq!(outside(&group), 0);
        if others >= 8 * workers as usize {
            prop_assert_eq!(crowded(&group), 0, "{}", rounds[rounds.len() - 1]);
        }
    }
}

#[test]
fn a_crash_keeps_apart_what_it_moves_and_moves_nothing_else() {
    let mut group = keyed(30, &[1; 600], |at| (Some(at / 10).filter(|_| at < 300), None));
    group.rounds(&Balanced);
    assert_eq!((crowded(&group), outside(&group)), (0, 0));
    group.options.step = Step::Emergency;
    for gone in 0..30 {
        let mut group = group.clone();
        let slot = group.workers.remove(gone).slot;
        let plan = group.plan(&Balanced);
        assert!(plan.moves.iter().all(|step| step.from == Some(slot)));
        assert_eq!(plan.figures.crowded_after, 0, "{plan}");
        group.holders = plan.owners;
        assert_eq!(crowded(&group), 0);
    }
}

#[test]
fn keys_that_are_added_to_a_list_are_taken_apart_within_the_budget() {
    let mut group = Group::new(10, 400).in_zones(3);
    group.rounds(&Balanced);
    group.rules = keyed(10, &[1; 400], |at| (Some(at / 8).filter(|_| at < 80), None)).rules;
    let before = crowded(&group);
    let rounds = group.rounds(&Balanced);
    assert_eq!((crowded(&group), outside(&group)), (0, 0));
    assert!(moved(&rounds) <= 2 * before, "{} moves for {before}", moved(&rounds));
    let reasons = rounds[0].moves.iter().filter(|step| step.reason == MoveReason::Apart).count();
    assert!(reasons > 0 && reasons <= 80, "{}", rounds[0]);
}

#[test]
fn more_of_a_key_than_workers_are_spread_over_all() {
    for strategy in [&Balanced as &dyn super::Strategy, &ConsistentHash::default()] {
        let mut group = keyed(4, &[1; 100], |at| (Some(0).filter(|_| at < 10), None));
        group.rounds(strategy);
        assert!(counts(&group).values().all(|count| *count <= 3), "{:?}", counts(&group));
    }
}

/// Where the partitions are that every version has to agree on.
#[test]
fn they_are_where_they_always_were() {
    let asks = |at: usize| (Some(at % 3), Some(at % 4).filter(|zone| *zone < 2));
    let mut group = keyed(5, &[1, 1, 2, 1, 1, 1, 1, 2, 1, 1, 1, 1], asks);
    let mut told = Vec::new();
    for lost in [None, Some(2)] {
        group.workers.retain(|worker| Some(worker.slot.value()) != lost);
        told.push(format!("{:#}", group.rounds(&Balanced)[0]));
    }
    insta::assert_snapshot!(told.join("\n"));
}
