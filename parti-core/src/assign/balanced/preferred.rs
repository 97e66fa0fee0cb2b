//! Preferences: what is with a worker that it does not prefer, though one that it prefers has room, is brought back.
//!
//! Neither a partition that is brought back nor an exchange takes a worker out of its bounds, or farther out. As a
//! partition is spilled only where that brings workers closer to their bounds, the two never undo each other.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use super::heap::LeastLoaded;
use super::{Draft, MAX_PASSES, MOST_LOOKS};
use crate::assign::current::NOBODY;

/// Which partitions are brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    /// Those that leave a worker above its bounds, or come to one below: they move for the balance in any case.
    WhereItEvensOut,
    /// All that a worker that they prefer has room for, and those that one can exchange for others.
    WhereThereIsRoom,
}

/// Brings spilled partitions back, in the order of the list, as far as the budget goes.
pub(super) fn bring_back(draft: &mut Draft<'_>, which: Return) {
    draft.recount();
    let spilled = |&partition: &usize| Some((partition, draft.spilled_from(partition)?));
    let mut left: Vec<_> = draft.pools.preferring().iter().filter_map(spilled).collect();
    let pools_of = pools_of(draft, left.iter().map(|&(_, pool)| pool).collect());
    let mut least_loaded = LeastLoaded::new(draft);
    for _ in 0..MAX_PASSES {
        let before = left.len();
        left.retain(|&(partition, pool)| match room(draft, &mut least_loaded, partition, pool, which) {
            Some(to) if draft.can_afford(&[partition]) => {
                let from = draft.owners[partition] as usize;
                draft.bring(partition, to);
                least_loaded.has_sunk_in(draft, &pools_of[from], from);
                false
            }
            Some(_) => {
                draft.another_round = true;
                true
            }
            None => true,
        });
        // One that has left may have made room for another.
        if left.len() == before || left.is_empty() {
            break;
        }
    }
    if which == Return::WhereThereIsRoom && !left.is_empty() {
        exchange(draft, &left, &pools_of);
    }
}

/// Whether any partition is with a worker that it does not prefer.
pub(super) fn are_spilled(draft: &Draft<'_>) -> bool {
    draft.pools.preferring().iter().any(|&partition| draft.spilled_from(partition).is_some())
}

/// For each worker, those of the pools that it is in.
fn pools_of(draft: &Draft<'_>, pools: BTreeSet<u32>) -> Vec<Vec<u32>> {
    let mut pools_of: Vec<Vec<u32>> = vec![Vec::new(); draft.loads.len()];
    for pool in pools {
        draft.pools.members(pool).iter().for_each(|&worker| pools_of[worker as usize].push(pool));
    }
    pools_of
}

/// A worker that the partition prefers and that has room for it, if its owner can do without it.
fn room(draft: &Draft<'_>, least_loaded: &mut LeastLoaded, partition: usize, pool: u32, which: Return) -> Option<u32> {
    let from = draft.owners[partition] as usize;
    let weight = draft.problem.weight(partition);
    if draft.bounds.is_under(from, draft.loads[from] - weight) {
        return None;
    }
    let has_room = |to: usize| {
        let evens_out = draft.is_over(from) || draft.is_under(to);
        let is_wanted = evens_out || which == Return::WhereThereIsRoom;
        is_wanted && draft.has_room(to, weight) && draft.crowd.has_place(partition, to as u32)
    };
    let home = draft.home_in(pool, partition);
    if has_room(home as usize) {
        return Some(home);
    }
    let roomiest = least_loaded.roomiest(draft, pool);
    has_room(roomiest).then_some(roomiest as u32)
}

/// Exchanges spilled partitions for others of the same weight that lose nothing by it.
fn exchange(draft: &mut Draft<'_>, spilled: &[(usize, u32)], pools_of: &[Vec<u32>]) {
    let mut offers = offers(draft, spilled, pools_of);
    let (mut exchanged, mut left) = (false, false);
    for &(partition, pool) in spilled {
        if draft.spilled_from(partition).is_none() {
            continue; // It was itself what another was exchanged for.
        }
        let from = draft.owners[partition];
        let offered = offers.get_mut(&(pool, draft.current.weights[partition]));
        let found = offered.and_then(|offered| {
            let last = offered.len().saturating_sub(MOST_LOOKS);
            let at =
                last + offered[last..].iter().rposition(|&other| may_be_exchanged(draft, partition, other, pool))?;
            Some(offered.swap_remove(at))
        });
        let Some(other) = found else {
            left = true;
            continue;
        };
        if !draft.can_afford(&[partition, other]) {
            return draft.wait_for_exchange();
        }
        let to = draft.owners[other];
        draft.bring(other, from);
        draft.bring(partition, to);
        exchanged = true;
    }
    // What has changed hands may be what another waits for.
    draft.another_round |= exchanged && left;
}

/// Whether `other` is with a worker of `pool`, and may as well be where `partition` is.
fn may_be_exchanged(draft: &Draft<'_>, partition: usize, other: usize, pool: u32) -> bool {
    let owner = draft.owners[other];
    draft.pools.allows(pool, owner)
        && draft.can_go(other, draft.owners[partition])
        && draft.crowd.has_place(partition, owner)
}

/// By pool and weight: what its workers own of that weight. Those that are spilled themselves come last, and before them
/// those that move in any case. O(partitions).
fn offers(draft: &Draft<'_>, spilled: &[(usize, u32)], pools_of: &[Vec<u32>]) -> BTreeMap<(u32, u32), Vec<usize>> {
    let wanted: BTreeSet<(u32, u32)> =
        spilled.iter().map(|&(partition, pool)| (pool, draft.current.weights[partition])).collect();
    let mut offers: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (partition, (&owner, &weight)) in draft.owners.iter().zip(&*draft.current.weights).enumerate() {
        let Some(pools) = pools_of.get(owner as usize) else { continue };
        for &pool in pools {
            if wanted.contains(&(pool, weight)) && draft.pools.preferred(partition) != Some(pool) {
                offers.entry((pool, weight)).or_default().push(partition);
            }
        }
    }
    for offered in offers.values_mut() {
        offered.sort_by_key(|&partition| (draft.spilled_from(partition).is_some(), draft.is_free(partition)));
    }
    offers
}

impl Draft<'_> {
    /// The workers that a partition prefers, if it is with another; none where it is pinned to its owner.
    fn spilled_from(&self, partition: usize) -> Option<u32> {
        let owner = self.owners[partition];
        let pool = self.pools.preferred(partition)?;
        let is_spilled = owner != NOBODY && !self.pools.allows(pool, owner) && self.pools.pin(partition) != Some(owner);
        is_spilled.then_some(pool)
    }
}
