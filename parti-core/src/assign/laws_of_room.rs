//! What holds where workers have limits, and partitions priorities.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Write;
use core::num::NonZeroU32;

use alloc::string::String;
use proptest::collection::vec as vec_of;
use proptest::option::of;
use proptest::prelude::{Just, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::Strategy as Generator;

use super::reference::{self, Waiting};
use super::testing::Group;
use super::{
    Answer, AuditError, Balanced, ConsistentHash, MoveReason, Plan, PlanError, Problem, RoundRobin, Rule, Step,
};
use super::{Strategy, StrategyError, audit, plan};
use crate::ids::Slot;

/// Any group of a few workers, some of which have limits, with whatever else a group can have.
fn any_group() -> impl Generator<Value = Group> {
    let worker = (1..4_u32, of(0..30_u64), of(0..12_u32), 0..8_u32);
    let partition = (prop_oneof![Just(1_u32), 1..6_u32, Just(20)], 0..4_u8, 0..10_u32, 0..12_u32);
    let options = (any::<u64>(), 1..=100_u32, any::<bool>(), any::<bool>());
    (vec_of(worker, 1..7), vec_of(partition, 0..50), options).prop_map(|(workers, partitions, options)| {
        let weights: Vec<_> = partitions.iter().map(|(weight, ..)| if options.2 { 2 } else { *weight }).collect();
        let priorities: Vec<_> = partitions.iter().map(|(_, priority, ..)| *priority).collect();
        let limits: Vec<_> = workers.iter().map(|(_, load, count, _)| (*load, *count)).collect();
        let count = u32::try_from(workers.len()).expect("a few");
        let mut group = Group::weighing(count, &weights).important(&priorities).in_zones(2).limited(&limits);
        for (worker, (capacity, .., phase)) in group.workers.iter_mut().zip(&workers) {
            worker.capacity = NonZeroU32::new(*capacity).expect("at least 1");
            worker.draining = *phase == 0;
        }
        group.holders = partitions.iter().map(|(.., slot, _)| Some(Slot::new(*slot)).filter(|_| *slot < 8)).collect();
        for (partition, (_, _, slot, rule)) in partitions.iter().enumerate().filter(|_| options.3) {
            match rule {
                0 => group.require(partition, "zone", "z0"),
                1 => group.require(partition, "zone", "nowhere"),
                2 => group.prefer(partition, 1),
                3 => group.rules.push(Rule { partition, pin: Some(Slot::new(*slot)), ..Rule::default() }),
                4 | 5 => group.rules.push(Rule { partition, apart: Some("one".into()), ..Rule::default() }),
                _ => {}
            }
        }
        (group.options.seed, group.options.move_budget_percent, ..) = options;
        group
    })
}

/// The same group without any limit.
fn without_limits(mut group: Group) -> Group {
    for worker in &mut group.workers {
        (worker.max_load, worker.max_partitions) = (None, None);
    }
    group
}

fn apply(group: &Group, plan: &Plan) -> Group {
    Group { holders: plan.owners.clone(), ..group.clone() }
}

/// Whether each worker that stays has no more than it can take.
fn is_within_limits(group: &Group) -> bool {
    let mut has: BTreeMap<Slot, (u64, u32)> = BTreeMap::new();
    for (partition, slot) in group.partitions.iter().zip(&group.holders) {
        let Some(slot) = slot else { continue };
        let (load, count) = has.entry(*slot).or_default();
        *load += u64::from(partition.weight.get());
        *count += 1;
    }
    group.workers.iter().filter(|worker| !worker.draining).all(|worker| {
        let (load, count) = has.get(&worker.slot).copied().unwrap_or_default();
        worker.max_load.is_none_or(|most| load <= most) && worker.max_partitions.is_none_or(|most| count <= most)
    })
}

/// What must hold for every plan, from wherever it starts.
fn check(group: &Group, plan: &Plan) {
    assert_eq!(audit(&group.problem(), &plan.owners), Ok(()));
    let after = apply(group, plan);
    assert!(is_within_limits(&after), "more than a limit: {:?}", plan.owners);
    let waiting = reference::waiting(&after);
    let wrong: Vec<&Waiting> = waiting.iter().filter(|waiting| waiting.has_room).collect();
    assert!(wrong.is_empty(), "{wrong:?} could have an owner in place of what is less important: {plan:?}");
    let mut without = BTreeMap::new();
    for waiting in waiting.iter().filter(|waiting| waiting.may_be_held) {
        *without.entry(core::cmp::Reverse(waiting.priority)).or_default() += 1;
    }
    let told: Vec<(u8, usize)> = without.into_iter().map(|(priority, count)| (priority.0, count)).collect();
    assert_eq!(plan.without_room, told);
    assert_eq!(plan.figures.unassigned, waiting.len());
    let displaced = plan.moves.iter().filter(|step| step.reason == MoveReason::Room).count();
    assert_eq!(plan.figures.displaced, displaced);
    let most = if group.options.step == Step::Emergency { 0 } else { plan.figures.budget };
    assert!(plan.figures.staying_moved - displaced <= most, "{:?}", plan.figures);
}

proptest! {
    #[test]
    fn no_limit_is_exceeded_and_who_is_important_comes_first(mut group in any_group(), step in any::<bool>()) {
        group.options.step = if step { Step::Planned } else { Step::Emergency };
        check(&group, &group.plan(&Balanced));
    }

    #[test]
    fn the_rounds_end_and_planning_again_moves_nothing(mut group in any_group()) {
        for nth in 0.. {
            let plan = group.plan(&Balanced);
            check(&group, &plan);
            // A limit takes effect at once: only what has come since displaces anything.
            prop_assert!(nth == 0 || plan.figures.displaced == 0 || plan.figures.moved > plan.figures.displaced);
            prop_assert!(nth < 1000, "the rounds do not end");
            group = apply(&group, &plan);
            if !plan.another_round {
                break;
            }
        }
        let again = group.plan(&Balanced);
        prop_assert_eq!(again.moves, vec![]);
        prop_assert!(!again.another_round);
    }

    #[test]
    fn the_order_of_the_workers_does_not_matter(group in any_group(), by in 0..7_usize) {
        let mut turned = group.clone();
        turned.workers.rotate_left(by % group.workers.len());
        turned.rules.reverse();
        prop_assert_eq!(group.plan(&Balanced), turned.plan(&Balanced));
    }

    #[test]
    fn priorities_change_nothing_where_nobody_has_a_limit(group in any_group()) {
        let group = without_limits(group);
        let plain = group.clone().important(&vec![0; group.holders.len()]);
        let (with, without) = (group.plan(&Balanced), plain.plan(&Balanced));
        prop_assert_eq!((with.owners, with.moves, with.figures), (without.owners, without.moves, without.figures));
    }

    #[test]
    fn all_the_room_is_used_where_weights_are_equal(
        limits in vec_of((of(0..12_u64), of(0..12_u32)), 1..6),
        partitions in vec_of((0..4_u8, 0..8_u32), 0..60),
        budget in 1..=100_u32,
    ) {
        let priorities: Vec<_> = partitions.iter().map(|(priority, _)| *priority).collect();
        let workers = u32::try_from(limits.len()).expect("a few");
        let mut group = Group::new(workers, partitions.len()).important(&priorities).limited(&limits);
        group.holders = partitions.iter().map(|(_, slot)| Some(Slot::new(*slot)).filter(|_| *slot < 7)).collect();
        group.options.move_budget_percent = budget;
        let expected = reference::without_room(&group);
        let had_room = is_within_limits(&group);
        let first = group.plan(&Balanced);
        prop_assert_eq!(&first.without_room, &expected, "the obvious version says otherwise");
        prop_assert!(!had_room || !expected.is_empty() || first.figures.displaced == 0, "there was room for all");
        group.rounds(&Balanced);
        let problem = group.problem();
        for (worker, load) in problem.current().loads.iter().enumerate() {
            let bounds = problem.bounds();
            let is_full = problem.room().left(worker, *load, &problem.current().counts(), 1) == 0;
            prop_assert!(*load <= bounds.upper[worker], "{load} of {bounds:?}");
            prop_assert!(is_full || *load >= bounds.lower[worker], "{load} of {bounds:?}");
        }
    }
}

/// Every group of 2 workers with limits and 3 partitions of two weights and two priorities, whoever holds what.
#[test]
fn every_small_world() {
    let mut tally = Tally::default();
    let limits = [None, Some(1), Some(2), Some(3), Some(4)];
    for (a, b) in limits.iter().flat_map(|a| limits.iter().map(move |b| (*a, *b))) {
        for kinds in 0..4_u32.pow(3) {
            let kind = |nth: u32| kinds / 4_u32.pow(nth) % 4;
            let weights = [0, 1, 2].map(|nth| 1 + kind(nth) % 2);
            let priorities = [0, 1, 2].map(|nth| u8::from(kind(nth) > 1));
            let group = Group::weighing(2, &weights).important(&priorities).limited(&[(a, None), (b, Some(2))]);
            for holders in 0..3_u32.pow(3) {
                let slot = |nth: u32| holders / 3_u32.pow(nth) % 3;
                let mut group = group.clone();
                group.holders = [0, 1, 2].map(|nth| Some(Slot::new(slot(nth))).filter(|_| slot(nth) < 2)).to_vec();
                let plan = group.plan(&Balanced);
                check(&group, &plan);
                tally.worlds += 1;
                tally.short += usize::from(!plan.without_room.is_empty());
                tally.displaced += plan.figures.displaced;
                tally.not_the_most += usize::from(important(&group, &plan.owners) < most_important(&group));
                group.rounds(&Balanced);
                assert_eq!(group.plan(&Balanced).moves, vec![]);
            }
        }
    }
    insta::assert_debug_snapshot!(tally);
}

/// What came of the small worlds.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "read by the snapshot")]
struct Tally {
    worlds: usize,
    /// Worlds in which there is too little room.
    short: usize,
    /// Partitions that were displaced.
    displaced: usize,
    /// Worlds in which fewer of the important partitions have owners than could be packed.
    not_the_most: usize,
}

/// How many partitions of priority 1 have owners.
fn important(group: &Group, owners: &[Option<Slot>]) -> usize {
    let priorities = group.partitions.priorities();
    owners.iter().enumerate().filter(|(at, owner)| owner.is_some() && priorities.get(*at) == Some(&1)).count()
}

/// The same, at most, by trying every assignment.
fn most_important(group: &Group) -> usize {
    let owner = |number: u32, nth: u32| Some(Slot::new(number / 3_u32.pow(nth) % 3)).filter(|slot| slot.value() < 2);
    let all = (0..3_u32.pow(3)).map(|number| [0, 1, 2].map(|nth| owner(number, nth)).to_vec());
    let possible = all.filter(|owners| is_within_limits(&Group { holders: owners.clone(), ..group.clone() }));
    possible.map(|owners| important(group, &owners)).max().unwrap_or(0)
}

#[test]
fn a_zone_is_lost_and_the_least_important_wait_until_it_is_back() {
    let priorities: Vec<u8> = (0..90).map(|n| n % 3).collect();
    let mut group = Group::new(9, 90).important(&priorities).limited(&[(Some(12), None); 9]);
    group.rounds(&Balanced);
    let before = group.holders.clone();
    let lost = group.workers.split_off(6);
    group.options.step = Step::Emergency;
    let emergency = group.plan(&Balanced);
    // There is room for 72: 18 of the 30 least important have none.
    assert_eq!(emergency.without_room, [(0, 18)]);
    group.holders.clone_from(&emergency.owners);
    group.workers.extend(lost);
    group.options.step = Step::Planned;
    group.rounds(&Balanced);
    assert!(group.holders.iter().all(Option::is_some));
    let stayed = before.iter().zip(&group.holders).filter(|(a, b)| a == b).count();
    assert!(stayed >= 60, "{stayed} of 90 are where they were");
}

#[test]
fn what_is_pinned_makes_way_last_and_is_brought_back_once_there_is_room() {
    let mut group = Group::new(2, 3).limited(&[(None, Some(2)), (None, None)]);
    group.holders = vec![Some(Slot::new(0)); 3];
    group.rules.push(Rule { partition: 0, pin: Some(Slot::new(0)), ..Rule::default() });
    assert_eq!(group.plan(&Balanced).owners[0], Some(Slot::new(0)));

    // The worker has to give up the least important one, which is pinned to it. Heavy ones leave it for balance: then that one
    // fits again.
    let weights: Vec<u32> = (0..25).map(|n| if n < 6 || n == 15 { 20 } else { 1 }).collect();
    let priorities: Vec<u8> = (0..25).map(|n| u8::from(n != 11)).collect();
    let mut group = Group::weighing(4, &weights).important(&priorities).in_zones(2).limited(&[
        (None, None),
        (None, None),
        (None, None),
        (None, Some(6)),
    ]);
    for slot in [0, 2] {
        group.workers[slot].draining = true;
    }
    let of_last = [2, 5, 11, 15, 16, 23, 24];
    group.holders = (0..25).map(|n| Some(Slot::new(if of_last.contains(&n) { 3 } else { 0 }))).collect();
    for partition in 0..25 {
        match partition {
            11 => group.rules.push(Rule { partition, pin: Some(Slot::new(3)), ..Rule::default() }),
            2 | 4 | 5 | 15 | 16 | 23 | 24 => group.prefer(partition, 1),
            _ => group.require(partition, "zone", "z0"),
        }
    }
    group.options.move_budget_percent = 1;
    let first = group.plan(&Balanced);
    assert!(first.owners[11] != Some(Slot::new(3)), "{:?}", first.owners);
    group.rounds(&Balanced);
    assert_eq!(group.plan(&Balanced).moves, vec![]);
    assert_eq!(group.holders[11], Some(Slot::new(3)));
}

/// A user's strategy that swaps all partitions of two workers.
#[derive(Debug)]
struct Swap;

impl Strategy for Swap {
    fn assign(&self, problem: &Problem<'_>) -> Result<Answer, StrategyError> {
        let other = |holder: &Option<Slot>| holder.map(|slot| Slot::new(1 - slot.value()));
        Ok(Answer::new(problem.holders().iter().map(other).collect()))
    }
}

#[test]
fn a_strategy_of_a_user_is_held_to_the_limits_on_the_way_too() {
    let mut group = Group::new(2, 10).limited(&[(Some(5), None), (None, Some(6))]);
    group.holders = (0..10).map(|n| Some(Slot::new(n % 2))).collect();
    let plan = group.plan(&Swap);
    assert!(is_within_limits(&apply(&group, &plan)), "{:?}", plan.owners);
    group.workers[0].max_load = Some(4);
    let error = plan_of(&group, &Swap).expect_err("more than the limit");
    let expected = AuditError::Room { slot: Slot::new(0), load: 5, partitions: 5 };
    assert_eq!(error, PlanError::Audit(expected));
}

#[test]
fn strategies_that_know_no_limits_are_refused_where_they_exceed_one() {
    for strategy in [&ConsistentHash::default() as &dyn Strategy, &RoundRobin] {
        let group = Group::new(2, 10).limited(&[(Some(1), None), (Some(2), None)]);
        let error = plan_of(&group, strategy).expect_err("more than the limit");
        assert!(matches!(error, PlanError::Audit(AuditError::Room { .. })), "{error}");
    }
}

fn plan_of(group: &Group, strategy: &dyn Strategy) -> Result<Plan, PlanError> {
    plan(strategy, &group.problem())
}

/// Where partitions are put for lack of room, on every machine and in every version.
#[test]
fn they_are_where_they_always_were() {
    let weights: Vec<_> = (0..24).map(|n| 1 + n % 3).collect();
    let priorities: Vec<_> = (0..24_u8).map(|n| n % 5).collect();
    let limits = [(Some(9), None), (None, Some(3)), (Some(14), Some(8)), (Some(5), None)];
    let mut group = Group::weighing(4, &weights).important(&priorities).limited(&limits);
    let mut text = String::new();
    for step in [Step::Planned, Step::Emergency, Step::Planned] {
        group.options.step = step;
        match step {
            Step::Planned => drop(group.rounds(&Balanced)),
            Step::Emergency => group.holders = group.plan(&Balanced).owners,
        }
        let owners: Vec<_> = group.holders.iter().map(|owner| owner.map(Slot::value)).collect();
        writeln!(text, "{step:?}: {owners:?}").expect("a string takes all");
        match step {
            Step::Planned => drop(group.workers.pop()),
            Step::Emergency => group.workers[0].max_load = None,
        }
    }
    insta::assert_snapshot!(text);
}
