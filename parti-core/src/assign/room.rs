//! Room: the most that a worker can take, and who goes without where that does not do for all.
//!
//! A worker may have a *limit* of load, of partitions, or of both. Bounds are what balance aims at, and a heavy partition
//! may be above them; a limit is hard. No pin, preference or balance gives a worker more, and what it has beyond (as when
//! its limit was lowered) is taken away.
//!
//! Where the room does not do for all, the least important partitions have no owner. [`settle`] sees to it:
//!
//! 1. A worker that is above its limit loses the least important of what it has.
//! 2. Those without an owner are placed, the most important first and of these the heaviest: each with the worker that has
//!    the most room, if that is enough. Else it takes the *place* of less important ones, which are *displaced*: with the
//!    worker that would have the most room if all that is less important made way. Only as many make way as must.
//! 3. Who was displaced has no owner either, and is placed in the same way. Each time something more important has an
//!    owner for something less important, so that this comes to an end.
//!
//! What holds then: **if a partition has no owner, then on each worker that may hold it, there is no room for it beside
//! those that are as important as it or more.** It is not looked whether these could be packed better.
//!
//! Nothing moves for this but what is displaced. That is not held up by the move budget, and is done in an emergency, too:
//! a limit that waits is none, and what is important should not wait for what is not.

use alloc::collections::{BTreeMap, BinaryHeap};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::Problem;
use super::WorkerInput;
use super::current::NOBODY;

/// The most that each worker can take.
#[derive(Clone, Debug)]
pub(super) struct Room {
    /// By worker index; empty where nobody has a limit, so that it costs nothing then.
    limits: Vec<Limit>,
}

/// The most that one worker can take; as much as there can be where it has no limit.
#[derive(Clone, Copy, Debug)]
struct Limit {
    load: u64,
    count: u64,
}

/// What a worker has that has more than its limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Over {
    pub(super) worker: u32,
    pub(super) load: u64,
    pub(super) partitions: u64,
}

/// Who owns what, and what that comes to for each worker.
#[derive(Debug)]
pub(super) struct Books<'b> {
    pub(super) owners: &'b mut [u32],
    pub(super) loads: &'b mut [u64],
    /// How many partitions each worker has; not kept where nobody has a limit.
    pub(super) counts: &'b mut [u64],
}

/// What may have to make way: by worker, the least important last, and what it weighs.
struct Held {
    partitions: Vec<Vec<u32>>,
    weights: Vec<u64>,
}

/// For each pool, its workers, the one with the most room first. Room may shrink without the heap's knowledge.
struct Roomiest(BTreeMap<u32, BinaryHeap<(u64, Reverse<u32>)>>);

impl Room {
    /// Of these workers, in order of their slots, those that stay count.
    pub(super) fn new(workers: &[&WorkerInput]) -> Self {
        let staying = || workers.iter().filter(|worker| !worker.draining);
        let limit = |worker: &&WorkerInput| Limit {
            load: worker.max_load.unwrap_or(u64::MAX),
            count: worker.max_partitions.map_or(u64::MAX, u64::from),
        };
        let is_limited = staying().any(|worker| worker.max_load.is_some() || worker.max_partitions.is_some());
        Self { limits: if is_limited { staying().map(limit).collect() } else { Vec::new() } }
    }

    /// Whether no worker has a limit.
    #[inline]
    pub(super) fn is_unlimited(&self) -> bool {
        self.limits.is_empty()
    }

    /// How many partitions of this weight fit beside what a worker has.
    #[inline]
    pub(super) fn left(&self, worker: usize, load: u64, counts: &[u64], weight: u64) -> u64 {
        let Some(limit) = self.limits.get(worker) else { return u64::MAX };
        (limit.load.saturating_sub(load) / weight.max(1)).min(limit.count.saturating_sub(counts[worker]))
    }

    /// The greatest load within the limits of a worker, where its partitions weigh `mean` on the average.
    pub(super) fn most(&self, worker: usize, mean: u64) -> u64 {
        self.limits.get(worker).map_or(u64::MAX, |limit| limit.load.min(limit.count.saturating_mul(mean)))
    }

    /// The limit of a worker's load.
    pub(super) fn limit(&self, worker: usize) -> u64 {
        self.limits.get(worker).map_or(u64::MAX, |limit| limit.load)
    }

    /// The weight and the capacity that are left once each worker whose share is more than it can take has what it can.
    ///
    /// The least room per unit of capacity comes first: what such a worker cannot take raises the shares of the others.
    pub(super) fn without_full(
        &self,
        (mut weight, mut capacity): (u128, u128),
        own: &[u32],
        mean: u64,
    ) -> (u128, u128) {
        let mut workers: Vec<_> = (0..self.limits.len()).map(|worker| (self.most(worker, mean), own[worker])).collect();
        workers.sort_unstable_by(|(a, of_a), (b, of_b)| {
            (u128::from(*a) * u128::from(*of_b)).cmp(&(u128::from(*b) * u128::from(*of_a)))
        });
        for (most, own) in workers {
            let (most, own) = (u128::from(most), u128::from(own));
            if most.saturating_mul(capacity) >= weight * own {
                break;
            }
            weight = weight.saturating_sub(most);
            capacity = capacity.saturating_sub(own);
        }
        (weight, capacity)
    }

    /// The first worker that would have more than its limit if these were the owners. O(partitions).
    pub(super) fn first_over(&self, problem: &Problem<'_>, owners: &[u32]) -> Option<Over> {
        let over = |worker| Over { worker, load: 0, partitions: 0 };
        let mut has: Vec<Over> = (0..).take(self.limits.len()).map(over).collect();
        for (partition, &owner) in owners.iter().enumerate().filter(|_| !self.is_unlimited()) {
            if let Some(has) = has.get_mut(owner as usize) {
                has.load += problem.weight(partition);
                has.partitions += 1;
            }
        }
        has.into_iter().find(|has| self.is_too_much(has.worker, has.load, has.partitions))
    }

    /// Whether this is more than a worker's limit.
    pub(super) fn is_too_much(&self, worker: u32, load: u64, count: u64) -> bool {
        self.limits.get(worker as usize).is_some_and(|limit| load > limit.load || count > limit.count)
    }

    /// What a worker still takes if `load` and `count` of what it has stay.
    fn free(&self, worker: usize, load: u64, count: u64) -> u64 {
        let limit = self.limits[worker];
        if count >= limit.count { 0 } else { limit.load.saturating_sub(load) }
    }
}

impl Books<'_> {
    fn is_over(&self, problem: &Problem<'_>, worker: usize) -> bool {
        problem.room().is_too_much(u32::try_from(worker).unwrap_or(NOBODY), self.loads[worker], self.counts[worker])
    }

    fn give(&mut self, problem: &Problem<'_>, partition: u32, to: usize) {
        self.owners[partition as usize] = u32::try_from(to).unwrap_or(NOBODY);
        self.loads[to] += problem.weight(partition as usize);
        self.counts[to] += 1;
    }

    fn take(&mut self, problem: &Problem<'_>, partition: u32) {
        let from = core::mem::replace(&mut self.owners[partition as usize], NOBODY) as usize;
        self.loads[from] -= problem.weight(partition as usize);
        self.counts[from] -= 1;
    }
}

/// Brings every worker within its limit, and gives those without an owner one as far as the room goes. Returns whom it
/// took from a worker; some of these have another owner by now.
///
/// O(partitions) for each priority of which some find no room, and so often again as there are rounds of displacing.
pub(super) fn settle(problem: &Problem<'_>, books: &mut Books<'_>) -> Vec<u32> {
    let mut displaced = relieve(problem, books);
    loop {
        let more = place(problem, books);
        if more.is_empty() {
            return displaced;
        }
        displaced.extend(more);
    }
}

/// Takes from each worker that is above its limit what is least important.
fn relieve(problem: &Problem<'_>, books: &mut Books<'_>) -> Vec<u32> {
    let over: Vec<bool> = (0..books.loads.len()).map(|worker| books.is_over(problem, worker)).collect();
    let mut taken = Vec::new();
    if !over.contains(&true) {
        return taken;
    }
    let mut held = Held::new(problem, books, |_, owner| over[owner as usize]);
    for worker in (0..over.len()).filter(|&worker| over[worker]) {
        let fits = |books: &Books<'_>| !books.is_over(problem, worker);
        taken.extend(held.make_way(problem, books, worker, fits));
    }
    taken
}

/// Places those without an owner as far as the room goes; returns those that were displaced for it.
fn place(problem: &Problem<'_>, books: &mut Books<'_>) -> Vec<u32> {
    let pools = problem.pools();
    let nobodys = |&partition: &u32| books.owners[partition as usize] == NOBODY;
    let mut waiting: Vec<u32> = (0..).take(books.owners.len()).filter(nobodys).collect();
    waiting.retain(|&partition| !pools.members(pools.of(partition as usize)).is_empty());
    waiting.sort_by_key(|&partition| {
        let partition = partition as usize;
        (Reverse(problem.priority(partition)), Reverse(problem.weight(partition)))
    });
    let mut displaced = Vec::new();
    let (mut freest, mut level) = (Roomiest::new(), None);
    for partition in waiting {
        let (weight, pool) = (problem.weight(partition as usize), pools.of(partition as usize));
        let free = |worker: usize| problem.room().free(worker, books.loads[worker], books.counts[worker]);
        if let Some(worker) = freest.find(problem, pool, free).filter(|&worker| free(worker) >= weight) {
            books.give(problem, partition, worker);
            continue;
        }
        let priority = problem.priority(partition as usize);
        let level = Level::of(&mut level, priority, problem, books);
        let Some(worker) = level.roomiest.find(problem, pool, |worker| level.held.free(problem, books, worker)) else {
            continue;
        };
        if level.held.free(problem, books, worker) < weight {
            continue;
        }
        books.give(problem, partition, worker);
        let fits = |books: &Books<'_>| !books.is_over(problem, worker);
        displaced.extend(level.held.make_way(problem, books, worker, fits));
        freest.has_more(problem, worker, books);
    }
    displaced
}

/// What may be displaced by partitions of one priority.
struct Level {
    priority: u8,
    held: Held,
    roomiest: Roomiest,
}

impl Level {
    /// The level of a priority: the one that is there if it is of that priority, else a new one. O(partitions) for that.
    fn of<'l>(known: &'l mut Option<Self>, priority: u8, problem: &Problem<'_>, books: &Books<'_>) -> &'l mut Self {
        if known.as_ref().is_none_or(|level| level.priority != priority) {
            let held = Held::new(problem, books, |partition, _| problem.priority(partition as usize) < priority);
            *known = Some(Self { priority, held, roomiest: Roomiest::new() });
        }
        known.as_mut().expect("it was made just now")
    }
}

impl Held {
    /// What workers have of the partitions that are asked for, by partition and owner. O(partitions × log partitions).
    fn new(problem: &Problem<'_>, books: &Books<'_>, which: impl Fn(u32, u32) -> bool) -> Self {
        let workers = books.loads.len();
        let mut held = Self { partitions: vec![Vec::new(); workers], weights: vec![0; workers] };
        for (partition, &owner) in (0..).zip(&*books.owners) {
            if owner != NOBODY && which(partition, owner) {
                held.partitions[owner as usize].push(partition);
                held.weights[owner as usize] += problem.weight(partition as usize);
            }
        }
        // Of equally important ones those go first that are not pinned here, of these what moves in any case, and then the
        // lightest.
        let importance = |&partition: &u32| {
            let (at, owner) = (partition as usize, books.owners[partition as usize]);
            let is_pinned = problem.pools().pin(at) == Some(owner);
            let stays = problem.current().holders[at] == owner;
            Reverse((problem.priority(at), is_pinned, stays, problem.weight(at), partition))
        };
        held.partitions.iter_mut().for_each(|own| own.sort_unstable_by_key(importance));
        held
    }

    /// What a worker would take if all that is held here made way.
    fn free(&self, problem: &Problem<'_>, books: &Books<'_>, worker: usize) -> u64 {
        let count = self.partitions[worker].len() as u64;
        problem.room().free(worker, books.loads[worker] - self.weights[worker], books.counts[worker] - count)
    }

    /// Takes from a worker the least important of what is held here until the rest fits; returns what had to go.
    fn make_way(
        &mut self,
        problem: &Problem<'_>,
        books: &mut Books<'_>,
        worker: usize,
        fits: impl Fn(&Books<'_>) -> bool,
    ) -> Vec<u32> {
        let own = &mut self.partitions[worker];
        let mut out = Vec::new();
        while !fits(books) {
            let Some(least) = own.pop() else { break };
            books.take(problem, least);
            out.push(least);
        }
        // Where one that is heavy had to go in the end, light ones that went before it may stay.
        out.reverse();
        out.retain(|&partition| {
            books.give(problem, partition, worker);
            let stays = fits(books);
            if stays {
                own.push(partition);
            } else {
                books.take(problem, partition);
            }
            !stays
        });
        self.weights[worker] -= out.iter().map(|&partition| problem.weight(partition as usize)).sum::<u64>();
        out
    }
}

impl Roomiest {
    fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// The worker of a pool that has the most room.
    fn find(&mut self, problem: &Problem<'_>, pool: u32, room: impl Fn(usize) -> u64) -> Option<usize> {
        let ranked = |&worker: &u32| (room(worker as usize), Reverse(worker));
        let heap = self.0.entry(pool).or_insert_with(|| problem.pools().members(pool).iter().map(ranked).collect());
        loop {
            let mut top = heap.peek_mut()?;
            let (known, Reverse(worker)) = *top;
            let now = room(worker as usize);
            if now >= known {
                return Some(worker as usize);
            }
            top.0 = now;
        }
    }

    /// Notes that a worker has more room than before.
    fn has_more(&mut self, problem: &Problem<'_>, worker: usize, books: &Books<'_>) {
        let room = problem.room().free(worker, books.loads[worker], books.counts[worker]);
        let worker = u32::try_from(worker).unwrap_or(NOBODY);
        for (&pool, heap) in &mut self.0 {
            if problem.pools().allows(pool, worker) {
                heap.push((room, Reverse(worker)));
            }
        }
    }
}
