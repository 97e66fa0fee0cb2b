//! What holds where partitions prefer some workers.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use proptest::collection::vec as vec_of;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::current::NOBODY;
use super::testing::Group;
use super::{Balanced, ConsistentHash, Fit, MoveReason, Plan, Rule, Step};
use crate::ids::Slot;

const ZONES: usize = 3;

/// Where everyone is that would rather be elsewhere, by the labels alone.
fn spilled(group: &Group) -> Vec<usize> {
    let is_spilled = |rule: &&Rule| {
        let owner = group.holders[rule.partition].and_then(|slot| group.workers.iter().find(|one| one.slot == slot));
        owner.is_some_and(|worker| !rule.prefers.iter().all(|(name, value)| worker.labels.get(name) == Some(value)))
    };
    group.rules.iter().filter(is_spilled).map(|rule| rule.partition).collect()
}

/// How far all loads are outside the bounds.
fn outside(group: &Group) -> u64 {
    let problem = group.problem();
    let bounds = problem.bounds();
    problem.current().loads.iter().enumerate().map(|(worker, load)| bounds.outside(worker, *load)).sum()
}

/// The slow, obvious rule of rest: some spilled partition could be brought back, or exchanged, and nobody would be
/// farther outside the bounds.
fn could_be_better(group: &Group) -> bool {
    let problem = group.problem();
    let (current, pools, bounds) = (problem.current(), problem.pools(), problem.bounds());
    let holders = &current.holders;
    let fits = |partition: usize, worker: u32| pools.preferred(partition).is_none_or(|pool| pools.allows(pool, worker));
    spilled(group).into_iter().any(|partition| {
        let Some(pool) = pools.preferred(partition) else { return false };
        let (from, weight) = (holders[partition], problem.weight(partition));
        let can_go = !bounds.is_under(from as usize, current.loads[from as usize] - weight);
        let has_room = |to: &u32| !bounds.is_over(*to as usize, current.loads[*to as usize] + weight);
        let is_equal = |other: &usize| {
            let owner = holders[*other];
            let loses = fits(*other, owner) && !fits(*other, from);
            pools.allows(pool, owner) && problem.weight(*other) == weight && !loses
        };
        // An exchange is two moves.
        let exchanged = || problem.budget() >= 2 && (0..holders.len()).any(|other| is_equal(&other));
        can_go && pools.members(pool).iter().any(has_room) || exchanged()
    })
}

/// A group of workers in zones, whose partitions prefer some; nobody holds anything.
fn preferring(workers: u32, weights: &[u32], prefers: impl Fn(usize) -> Option<usize>) -> Group {
    let mut group = Group::weighing(workers, weights).in_zones(ZONES);
    for partition in 0..weights.len() {
        if let Some(zone) = prefers(partition) {
            group.prefer(partition, zone);
        }
    }
    group
}

fn moved(rounds: &[Plan]) -> usize {
    rounds.iter().map(|round| round.figures.moved).sum()
}

proptest! {
    #[test]
    fn a_preference_takes_nobody_out_of_bounds(
        workers in 1..9_u32,
        partitions in vec_of((1..4_u32, 0..5_usize, 0..9_u32), 0..60),
        budget in 1..=100_u32,
    ) {
        let weights: Vec<_> = partitions.iter().map(|(weight, ..)| *weight).collect();
        let mut group = preferring(workers, &weights, |at| Some(partitions[at].1).filter(|zone| *zone <= ZONES));
        group.options.move_budget_percent = budget;
        group.holders = partitions.iter().map(|(.., slot)| Some(Slot::new(slot % workers))).collect();
        for _ in 0..400 {
            let before = outside(&group);
            let plan = group.plan(&Balanced);
            group.holders.clone_from(&plan.owners);
            prop_assert!(outside(&group) <= before, "{} > {before}: {plan}", outside(&group));
            if !plan.another_round {
                break;
            }
        }
    }

    #[test]
    fn at_rest_nobody_could_be_brought_back(
        workers in 1..9_u32,
        partitions in vec_of((0..5_usize, 0..9_u32), 0..60),
        budget in 1..=100_u32,
        seed in any::<u64>(),
    ) {
        let mut group = preferring(workers, &vec![1; partitions.len()], |at| Some(partitions[at].0).filter(|zone| *zone <= ZONES));
        (group.options.move_budget_percent, group.options.seed) = (budget, seed);
        group.holders = partitions.iter().map(|(_, slot)| Some(Slot::new(*slot)).filter(|_| *slot < workers)).collect();
        let rounds = group.rounds(&Balanced);
        prop_assert!(!could_be_better(&group), "{}", rounds[rounds.len() - 1]);
        prop_assert_eq!(outside(&group), 0, "the balance is what it would be without");
        prop_assert_eq!(rounds[rounds.len() - 1].figures.spilled_after, spilled(&group).len());
        let again = group.plan(&Balanced);
        prop_assert_eq!(again.moves, vec![]);
        prop_assert!(!again.another_round);
    }

    #[test]
    fn what_moves_is_told_how_it_fits(
        workers in 1..9_u32,
        partitions in vec_of((1..4_u32, 0..5_usize, 0..12_u32), 0..60),
    ) {
        let weights: Vec<_> = partitions.iter().map(|(weight, ..)| *weight).collect();
        let mut group = preferring(workers, &weights, |at| Some(partitions[at].1).filter(|zone| *zone <= ZONES));
        group.holders = partitions.iter().map(|(.., slot)| Some(Slot::new(*slot)).filter(|_| *slot < 10)).collect();
        let before = spilled(&group);
        let plan = group.plan(&Balanced);
        prop_assert_eq!(plan.figures.spilled_before, before.len());
        let stayed = |at: usize| group.problem().current().holders[at] != NOBODY;
        let after = spilled(&Group { holders: plan.owners.clone(), ..group.clone() });
        prop_assert_eq!(plan.figures.spilled_after, after.len());
        for step in &plan.moves {
            let prefers = group.problem().rule(step.partition).is_some();
            let fit = if after.contains(&step.partition) { Fit::Spilled } else { Fit::Preferred };
            prop_assert_eq!(step.fit, Some(fit).filter(|_| prefers));
            let is_back = stayed(step.partition) && before.contains(&step.partition) && fit == Fit::Preferred;
            prop_assert_eq!(step.reason == MoveReason::Preferred, prefers && is_back);
        }
    }
}

/// Every group of three workers in two zones and at most four partitions, whoever holds and prefers what.
#[test]
fn every_small_world() {
    let (mut worlds, mut spilled_in_the_end) = (0, 0);
    for partitions in 0..=4_u32 {
        for holders in 0..4_u32.pow(partitions) {
            for wishes in 0..3_u32.pow(partitions) {
                let digit = |number: u32, base: u32, place: u32| number / base.pow(place) % base;
                let mut group = Group::new(3, partitions as usize).in_zones(2);
                for (at, place) in (0..group.holders.len()).zip(0..) {
                    group.holders[at] = Some(digit(holders, 4, place)).filter(|slot| *slot < 3).map(Slot::new);
                    if let wish @ 0..2 = digit(wishes, 3, place) {
                        group.prefer(at, wish as usize);
                    }
                }
                group.rounds(&Balanced);
                assert_eq!(outside(&group), 0, "{group:?}");
                assert!(!could_be_better(&group), "{group:?}");
                assert_eq!(group.plan(&Balanced).moves, [], "{group:?}");
                worlds += 1;
                spilled_in_the_end += spilled(&group).len();
            }
        }
    }
    insta::assert_snapshot!(format!("{worlds} worlds, {spilled_in_the_end} spilled in the end"));
}

/// A third of the workers goes, and comes back.
#[test]
fn a_zone_that_is_lost_and_back_gets_its_own_back() {
    for weights in [vec![1; 2400], (0..2400).map(|n| if n % 30 < 3 { 5 } else { 1 }).collect()] {
        let mut group = preferring(30, &weights, |at| Some(at % ZONES));
        group.rounds(&Balanced);
        assert!(spilled(&group).is_empty());
        let before = group.holders.clone();
        let (lost, left): (Vec<_>, Vec<_>) =
            group.workers.drain(..).partition(|worker| worker.labels.values().any(|zone| zone == "z2"));
        group.workers = left;
        group.options.step = Step::Emergency;
        let emergency = group.plan(&Balanced);
        assert!(emergency.moves.iter().all(|step| step.reason == MoveReason::Orphaned));
        group.holders.clone_from(&emergency.owners);
        group.options.step = Step::Planned;
        let rounds = group.rounds(&Balanced);
        assert_eq!(outside(&group), 0);
        assert!(moved(&rounds) * 20 <= 2400, "{}", rounds[0]);

        group.workers.extend(lost);
        let away = spilled(&group).len();
        let rounds = group.rounds(&Balanced);
        assert_eq!((spilled(&group), outside(&group)), (vec![], 0));
        assert!(moved(&rounds) * 100 <= away * 105, "{} moved, {away} were away: {}", moved(&rounds), rounds[0]);
        assert!(rounds.iter().all(|round| round.figures.staying_moved <= round.figures.budget));
        let same = before.iter().zip(&group.holders).filter(|(was, is)| was == is).count();
        assert!(same * 10 >= 2400 * 8, "{same} of 2400 are where they were");
    }
}

#[test]
fn a_zone_takes_no_more_than_its_share_however_many_prefer_it() {
    let mut group = preferring(6, &[1; 600], |_| Some(0));
    let rounds = group.rounds(&Balanced);
    assert_eq!((rounds.len(), outside(&group)), (2, 0), "the second round finds that nothing more can be had");
    assert!(rounds[1].moves.is_empty());
    assert_eq!(spilled(&group).len(), 390, "two of six workers have 105 each, their share and 5 %");
}

#[test]
fn preferences_that_change_places_are_exchanged_where_there_is_no_room() {
    let mut group = preferring(3, &[1; 30], |at| Some(at % ZONES));
    group.rounds(&Balanced);
    group.rules.clear();
    (0..30).for_each(|at| group.prefer(at, (at + 1) % ZONES));
    let rounds = group.rounds(&Balanced);
    assert!(spilled(&group).is_empty());
    assert!(rounds.len() > 1, "the budget holds");
    assert!(moved(&rounds) <= 45, "{} moves for 30 partitions", moved(&rounds));
}

#[test]
fn a_ring_heeds_preferences_within_its_bounds() {
    let mut group = preferring(6, &[1; 600], |at| Some(at % ZONES));
    group.workers[0].capacity = NonZeroU32::new(2).expect("not zero");
    group.rounds(&ConsistentHash::default());
    let upper = group.problem().bounds().upper.clone();
    assert!(group.problem().current().loads.iter().zip(&upper).all(|(load, upper)| load <= upper));
    assert!(spilled(&group).len() <= 60, "{} are spilled", spilled(&group).len());
}

/// Where the partitions are that every version has to agree on.
#[test]
fn they_are_where_they_always_were() {
    let mut group = preferring(5, &[1, 2, 1, 1, 2, 1, 1, 1, 3, 1, 1, 1], |at| Some(at % 4));
    let mut told = alloc::vec::Vec::new();
    for lost in [None, Some(2), Some(3)] {
        group.workers.retain(|worker| Some(worker.slot.value()) != lost);
        let plan = &group.rounds(&Balanced)[0];
        told.push(format!("{plan:#}"));
    }
    insta::assert_snapshot!(told.join("\n"));
}
