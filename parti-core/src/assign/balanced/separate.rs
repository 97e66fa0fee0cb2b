//! Partitions of one key that are to be on different workers, and are not, are taken apart.
//!
//! Neither a partition that goes elsewhere nor an exchange takes a worker out of its bounds, or farther out; and nothing
//! but the bounds brings partitions of one key together again. Where there is no worker but those that a partition does
//! not prefer, it goes there.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use super::heap::LeastLoaded;
use super::{Draft, MOST_LOOKS};
use crate::assign::Step;
use crate::assign::current::NOBODY;

/// By owner: the partitions that may be exchanged, those that move in any case last.
type Held = Vec<Vec<u32>>;

/// Takes partitions of one key apart, those first that move in any case; in an emergency those alone. O(workers) for one
/// that is to go, at most, and O(partitions) if there is any.
pub(super) fn separate(draft: &mut Draft<'_>) {
    draft.recount();
    let may_go = |&partition: &usize| draft.problem.options().step == Step::Planned || draft.is_free(partition);
    let mut crowded: Vec<_> = crowded(draft).filter(may_go).collect();
    if crowded.is_empty() {
        return;
    }
    crowded.sort_by_key(|&partition| !draft.is_free(partition));
    let (mut known, wanted) = (None, weights(draft, &crowded));
    let mut least_loaded = LeastLoaded::new(draft);
    for partition in crowded {
        let from = draft.owners[partition];
        if !draft.crowd.is_crowded(partition, from) {
            continue; // Another of its key has left.
        }
        if let Some(to) = roomy(draft, &mut least_loaded, partition) {
            if draft.can_afford(&[partition]) {
                draft.bring(partition, to);
                least_loaded.has_sunk(draft, from as usize);
            } else {
                draft.another_round = true;
            }
        } else if let Some(other) = other(draft, known.get_or_insert_with(|| held(draft, &wanted)), partition) {
            if draft.can_afford(&[partition, other]) {
                let to = draft.owners[other];
                draft.bring(other, from);
                draft.bring(partition, to);
            } else {
                draft.wait_for_exchange();
            }
        }
    }
}

/// Whether partitions of one key are together that are to be apart.
pub(super) fn are_crowded(draft: &Draft<'_>) -> bool {
    crowded(draft).next().is_some()
}

/// The partitions that are together with others of their key, and are not pinned there.
fn crowded<'d>(draft: &'d Draft<'_>) -> impl Iterator<Item = usize> + use<'d> {
    let is_crowded = |partition: &usize| {
        let owner = draft.owners[*partition];
        owner != NOBODY && draft.pools.pin(*partition) != Some(owner) && draft.crowd.is_crowded(*partition, owner)
    };
    draft.apart.keyed().iter().copied().filter(is_crowded)
}

/// The pools in which a place is looked for, the better first. Where nobody has the labels that a partition needs, and it
/// waits for the budget to leave who has not, there is none.
fn pools(draft: &Draft<'_>, partition: usize) -> impl Iterator<Item = u32> {
    let pools = draft.pools.preferred(partition).into_iter().chain([draft.pools.of(partition)]);
    pools.filter(|&pool| !draft.pools.members(pool).is_empty())
}

/// A worker with a place for the partition that has room for it, if its owner can do without it.
fn roomy(draft: &Draft<'_>, least_loaded: &mut LeastLoaded, partition: usize) -> Option<u32> {
    let from = draft.owners[partition] as usize;
    let weight = draft.problem.weight(partition);
    // In an emergency what it lacks then is left for later, as all of the balance is.
    let is_needed = draft.bounds.is_under(from, draft.loads[from] - weight);
    if is_needed && draft.problem.options().step == Step::Planned {
        return None;
    }
    let has_room = |to: &u32| draft.crowd.has_place(partition, *to) && draft.has_room(*to as usize, weight);
    pools(draft, partition).find_map(|pool| {
        let home = draft.home_in(pool, partition);
        let roomiest = || Some(least_loaded.roomiest(draft, pool) as u32);
        let best = Some(home).filter(|home| *home != NOBODY && has_room(home)).or_else(roomiest).filter(has_room);
        best.or_else(|| from_its_own_on(draft, pool, partition).copied().find(has_room))
    })
}

/// All workers of a pool, from one on that the hash of the partition chooses.
fn from_its_own_on<'d>(draft: &'d Draft<'_>, pool: u32, partition: usize) -> impl Iterator<Item = &'d u32> + use<'d> {
    let members = draft.pools.members(pool);
    let start = (draft.problem.hash(partition) % members.len().max(1) as u64) as usize;
    members[start..].iter().chain(&members[..start])
}

/// A partition of the same weight, with a worker that has a place for this one, and whose place this one's owner has.
fn other(draft: &Draft<'_>, held: &mut Held, partition: usize) -> Option<usize> {
    let (from, weight) = (draft.owners[partition], draft.current.weights[partition]);
    pools(draft, partition).find_map(|pool| {
        from_its_own_on(draft, pool, partition).find_map(|&worker| {
            if worker == from || !draft.crowd.has_place(partition, worker) {
                return None;
            }
            let held = &mut held[worker as usize];
            held.retain(|&other| draft.owners[other as usize] == worker);
            let alike = held.iter().rev().map(|&other| other as usize);
            let alike = alike.filter(|&other| draft.current.weights[other] == weight);
            alike.take(MOST_LOOKS).find(|&other| draft.can_go(other, from))
        })
    })
}

fn weights(draft: &Draft<'_>, partitions: &[usize]) -> BTreeSet<u32> {
    partitions.iter().map(|&partition| draft.current.weights[partition]).collect()
}

fn held(draft: &Draft<'_>, wanted: &BTreeSet<u32>) -> Held {
    let mut held: Held = vec![Vec::new(); draft.loads.len()];
    for moves_anyway in [false, true] {
        for (partition, (&owner, weight)) in draft.owners.iter().zip(&*draft.current.weights).enumerate() {
            if owner != NOBODY && draft.is_free(partition) == moves_anyway && wanted.contains(weight) {
                held[owner as usize].push(partition as u32);
            }
        }
    }
    held
}
