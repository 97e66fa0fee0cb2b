//! What holds for every plan: for random groups, for every small group there is, and once at full size.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use proptest::collection::{btree_map, vec as vec_of};
use proptest::prelude::{Just, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;

use super::bounds::Bounds;
use super::survey::NOBODY;
use super::testing::Group;
use super::{Balanced, ConsistentHash, Plan, RoundRobin, Rule, Step, Strategy, WorkerInput, audit};
use crate::ids::Slot;

/// Any group of a few workers and partitions, with whatever a group can have.
fn any_group() -> impl Generator<Value = Group> {
    let weight = prop_oneof![Just(1_u32), 1..6_u32, Just(40), 1..=u32::MAX];
    let partition = (weight, 0..14_u32, 0..12_u32);
    let workers = btree_map(0..10_u32, (1..4_u32, any::<bool>(), 0..8_u32), 0..8);
    let options = (any::<u64>(), 1..30_u32, any::<bool>());
    (workers, vec_of(partition, 0..60), any::<bool>(), options).prop_map(|(workers, partitions, alike, options)| {
        let weights: Vec<_> = partitions.iter().map(|&(weight, ..)| if alike { 3 } else { weight }).collect();
        let mut group = Group::weighing(0, &weights);
        group.workers = workers
            .into_iter()
            .map(|(slot, (capacity, zone, phase))| WorkerInput {
                slot: Slot::new(slot),
                capacity: NonZeroU32::new(capacity).expect("at least 1"),
                labels: [("zone".into(), if zone { "a" } else { "b" }.into())].into(),
                draining: phase == 0,
            })
            .collect();
        for (index, &(_, holder, rule)) in partitions.iter().enumerate() {
            group.holders[index] = Some(Slot::new(holder)).filter(|_| holder < 12);
            match rule {
                0 => group.require(index, "zone", "a"),
                1 => group.require(index, "zone", "c"),
                2 => group.rules.push(Rule { partition: index, pin: Some(Slot::new(holder)), ..Rule::default() }),
                _ => {}
            }
        }
        (group.options.seed, group.options.move_budget_percent, _) = options;
        if options.2 {
            group.rules.clear();
        }
        group
    })
}

fn any_strategy() -> impl Generator<Value = &'static dyn Strategy> {
    const RING: ConsistentHash = ConsistentHash { virtual_nodes: 20 };
    prop_oneof![Just(&Balanced as &dyn Strategy), Just(&RING as &dyn Strategy), Just(&RoundRobin as &dyn Strategy)]
}

/// Whether a partition sits with a worker that stays.
fn stays(group: &Group, partition: usize) -> bool {
    group.problem().survey.seats[partition] != NOBODY
}

proptest! {
    #[test]
    fn every_plan_keeps_the_laws(group in any_group(), strategy in any_strategy()) {
        let plan = group.plan(strategy);
        prop_assert_eq!(audit(&group.problem(), &plan.owners), Ok(()));
        let mut applied = group.holders.clone();
        for step in &plan.moves {
            prop_assert_eq!(step.from, group.holders[step.partition]);
            prop_assert!(step.from != step.to);
            applied[step.partition] = step.to;
        }
        prop_assert_eq!(&applied, &plan.owners, "the moves lead from the holders to the owners");
        let staying = (0..group.holders.len()).filter(|&partition| stays(&group, partition));
        let moved = staying.clone().filter(|&partition| plan.owners[partition] != group.holders[partition]).count();
        prop_assert_eq!(moved, plan.figures.staying_moved);
        let budget = staying.count() * group.options.move_budget_percent as usize / 100;
        prop_assert!(moved <= budget.max(1), "{moved} moved, the budget is {budget}");
    }

    #[test]
    fn whoever_can_be_placed_is_placed(group in any_group(), strategy in any_strategy()) {
        let plan = group.plan(strategy);
        let problem = group.problem();
        for (index, owner) in plan.owners.iter().enumerate() {
            let possible = group.workers.iter().any(|worker| worker.can_hold(problem.rule(index)));
            prop_assert!(owner.is_some() || !possible, "partition {index} has no owner, but could have one");
        }
    }

    #[test]
    fn an_emergency_moves_nothing_of_a_worker_that_stays(mut group in any_group(), strategy in any_strategy()) {
        group.options.step = Step::Emergency;
        let plan = group.plan(strategy);
        for step in &plan.moves {
            prop_assert!(!stays(&group, step.partition), "{step:?}");
        }
    }

    #[test]
    fn planning_again_moves_nothing(mut group in any_group(), strategy in any_strategy()) {
        group.settle(strategy);
        let again = group.plan(strategy);
        prop_assert_eq!(again.moves, vec![]);
        prop_assert!(!again.another_round);
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(group in any_group(), strategy in any_strategy(), seed in any::<u64>()) {
        let mut shuffled = group.clone();
        let mut rng = crate::rng::Rng::new(seed);
        for last in (1..shuffled.workers.len()).rev() {
            shuffled.workers.swap(last, usize::try_from(rng.below(last as u64 + 1)).expect("small"));
        }
        for last in (1..shuffled.rules.len()).rev() {
            shuffled.rules.swap(last, usize::try_from(rng.below(last as u64 + 1)).expect("small"));
        }
        prop_assert_eq!(group.plan(strategy), shuffled.plan(strategy));
    }

    #[test]
    fn balance_costs_the_least_number_of_moves_where_weights_are_equal(
        workers in btree_map(0..10_u32, 1..4_u32, 1..8),
        holders in vec_of(0..14_u32, 0..80),
        weight in 1..100_u32,
        budget in 1..=100_u32,
    ) {
        let mut group = Group::weighing(0, &vec![weight; holders.len()]);
        group.workers = workers.into_iter().map(|(slot, capacity)| WorkerInput {
            capacity: NonZeroU32::new(capacity).expect("at least 1"),
            ..WorkerInput::new(Slot::new(slot))
        }).collect();
        group.holders = holders.iter().map(|&slot| Some(Slot::new(slot)).filter(|_| slot < 12)).collect();
        group.options.move_budget_percent = budget;
        let rounds = group.settle(&Balanced);
        prop_assert_eq!(moved(&rounds), rounds[0].figures.least_moves);
        prop_assert!(is_even(&group), "{:?}", rounds.last());
    }

    #[test]
    fn a_round_robin_deals_within_one(workers in 1..9_u32, partitions in 0..100_usize) {
        let mut group = Group::new(workers, partitions);
        group.settle(&RoundRobin);
        let counts = counts(&group);
        prop_assert!(counts.values().max() <= counts.values().min().map(|min| min + 1).as_ref(), "{counts:?}");
    }

    #[test]
    fn a_ring_keeps_equal_weights_within_epsilon(workers in 1..20_u32, partitions in 0..300_usize, weight in 1..9_u32) {
        let mut group = Group::weighing(workers, &vec![weight; partitions]);
        group.settle(&ConsistentHash::default());
        let problem = group.problem();
        let bounds = Bounds::new(&problem.survey, problem.partitions, group.options.epsilon_permille);
        for (worker, load) in problem.survey.loads.iter().enumerate() {
            prop_assert!(*load <= bounds.upper[worker], "{load} > {}", bounds.upper[worker]);
        }
    }
}

fn moved(rounds: &[Plan]) -> usize {
    rounds.iter().map(|round| round.figures.moved).sum()
}

/// Whether every worker is within its bounds.
fn is_even(group: &Group) -> bool {
    let problem = group.problem();
    let survey = &problem.survey;
    let bounds = Bounds::new(survey, problem.partitions, group.options.epsilon_permille);
    survey.loads.iter().enumerate().all(|(worker, load)| (bounds.lower[worker]..=bounds.upper[worker]).contains(load))
}

fn counts(group: &Group) -> BTreeMap<Slot, usize> {
    let mut counts: BTreeMap<_, _> = group.workers.iter().map(|worker| (worker.slot, 0)).collect();
    for slot in group.holders.iter().flatten() {
        *counts.entry(*slot).or_default() += 1;
    }
    counts
}
