//! Which partitions of a kind move, once it is known how many.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::level::{Draft, Step};
use super::stock::{Kind, Lot, Stocks, find};
use super::{CHUNK, Table};

/// How many partitions of each kind enter each worker.
#[derive(Debug)]
pub(super) struct Entering {
    /// Worker after worker, each in order of kind, once they are [tidy](Self::tidy).
    quotas: Vec<Quota>,
    /// Where each worker's quotas end.
    ends: Vec<usize>,
}

/// So many partitions of a kind for a worker.
#[derive(Clone, Copy, Debug)]
struct Quota {
    worker: u32,
    kind: Kind,
    count: u32,
}

impl Entering {
    pub(super) fn new() -> Self {
        Self { quotas: Vec::new(), ends: Vec::new() }
    }

    pub(super) fn add(&mut self, step: &Step) {
        self.quotas.push(Quota { worker: step.to as u32, kind: step.kind, count: step.count });
    }

    /// Puts the quotas of each worker in order, and cancels what both leaves and enters a worker.
    fn tidy(&mut self, stocks: &mut Stocks, workers: usize) {
        self.quotas.sort_unstable_by_key(|quota| (quota.worker, quota.kind));
        self.quotas.dedup_by(|next, kept| {
            let same = (next.worker, next.kind) == (kept.worker, kept.kind);
            kept.count += if same { next.count } else { 0 };
            same
        });
        for quota in &mut self.quotas {
            if let Some(lot) = find(stocks.taken_mut(quota.worker as usize), quota.kind) {
                let both = quota.count.min(lot.taken);
                quota.count -= both;
                lot.taken -= both;
            }
        }
        let mut end = 0;
        self.ends.extend((0..workers as u32).map(|worker| {
            end += self.quotas[end..].iter().take_while(|quota| quota.worker == worker).count();
            end
        }));
    }

    fn of(&mut self, worker: usize) -> &mut [Quota] {
        let start = if worker == 0 { 0 } else { self.ends[worker - 1] };
        &mut self.quotas[start..self.ends[worker]]
    }

    /// How many partitions enter each worker.
    fn counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.ends.len()];
        for quota in &self.quotas {
            counts[quota.worker as usize] += quota.count;
        }
        counts
    }

    /// The quota of `kind` of a worker, if it is not used up.
    fn find(&mut self, worker: usize, kind: Kind) -> Option<&mut Quota> {
        let quotas = self.of(worker);
        let quota = match quotas {
            [only] => Some(only).filter(|quota| quota.kind == kind),
            _ => quotas.binary_search_by_key(&kind, |quota| quota.kind).ok().map(|at| &mut quotas[at]),
        };
        quota.filter(|quota| quota.count > 0)
    }

    /// Who takes how many of each kind.
    fn by_kind(&self) -> BTreeMap<Kind, Vec<(u32, u32)>> {
        let mut takers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for quota in self.quotas.iter().filter(|quota| quota.count > 0) {
            takers.entry(quota.kind).or_default().push((quota.worker, quota.count));
        }
        takers
    }
}

/// What is still to leave.
struct Leaving {
    stocks: Stocks,
    /// How many partitions, all workers together.
    left: u64,
    /// For each worker, and at last for nobody, the least weight of which it still gives, or `u64::MAX`.
    lightest: Vec<u64>,
}

impl Leaving {
    fn new(mut stocks: Stocks, workers: usize) -> Self {
        let (mut left, mut lightest) = (0, Vec::with_capacity(workers + 1));
        for worker in 0..workers {
            let taken = stocks.taken_mut(worker);
            left += taken.iter().map(|lot| u64::from(lot.taken)).sum::<u64>();
            lightest.push(lightest_of(taken));
        }
        lightest.push(u64::MAX);
        Self { stocks, left, lightest }
    }

    /// Notes that a partition of `kind` leaves `worker`, if one has to.
    fn take(&mut self, worker: usize, kind: Kind) -> bool {
        let taken = self.stocks.taken_mut(worker);
        let Some(lot) = find(taken, kind).filter(|lot| lot.taken > 0) else { return false };
        lot.taken -= 1;
        if lot.taken == 0 {
            self.lightest[worker] = lightest_of(taken);
        }
        self.left -= 1;
        true
    }
}

impl Table<'_> {
    /// Chooses the partitions: first those whose home takes one of their kind, then others, in the order of the list.
    pub(super) fn settle(&mut self, draft: Draft) {
        let Draft { mut stocks, mut entering, .. } = draft;
        stocks.close();
        entering.tidy(&mut stocks, self.loads.len());
        let mut leaving = Leaving::new(stocks, self.loads.len());
        self.settle_home(&mut leaving, &mut entering);
        self.settle_others(&mut leaving, &entering);
    }

    fn settle_home(&mut self, leaving: &mut Leaving, entering: &mut Entering) {
        let mut counts = entering.counts();
        let (mut chunk, mut homes) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
        let mut going = [(0, 0); CHUNK];
        for start in (0..self.owners.len()).step_by(CHUNK) {
            if leaving.left == 0 {
                break;
            }
            // What may leave first, then homes, then whether they take any, then quotas: so no loop has a branch that
            // the processor would guess wrong.
            self.may_leave(start, &leaving.lightest, &mut chunk);
            self.homes_of(chunk.iter().map(|&partition| partition as usize), &mut homes);
            let mut len = 0;
            for (&partition, &home) in chunk.iter().zip(&homes) {
                going[len] = (partition, home);
                len += usize::from(counts.get(home as usize).is_some_and(|&count| count > 0));
            }
            for &(partition, home) in &going[..len] {
                let (partition, to) = (partition as usize, home as usize);
                let kind = self.kind(partition);
                let Some(quota) = entering.find(to, kind) else { continue };
                if leaving.take(self.owners[partition] as usize, kind) {
                    quota.count -= 1;
                    counts[to] -= 1;
                    self.owners[partition] = to as u32;
                }
            }
        }
    }

    fn settle_others(&mut self, leaving: &mut Leaving, entering: &Entering) {
        let mut takers = entering.by_kind();
        let mut chunk = Vec::with_capacity(CHUNK);
        for start in (0..self.owners.len()).step_by(CHUNK) {
            if leaving.left == 0 {
                break;
            }
            self.may_leave(start, &leaving.lightest, &mut chunk);
            for &partition in &chunk {
                let partition = partition as usize;
                let kind = self.kind(partition);
                let Some(workers) = takers.get_mut(&kind) else { continue };
                let Some((to, count)) = workers.last_mut() else { continue };
                if !leaving.take(self.owners[partition] as usize, kind) {
                    continue;
                }
                self.owners[partition] = *to;
                *count -= 1;
                if *count == 0 {
                    workers.pop();
                }
            }
        }
    }

    /// Of the [`CHUNK`] partitions from `start` on, those that are not lighter than what leaves their owners.
    fn may_leave(&self, start: usize, lightest: &[u64], chunk: &mut Vec<u32>) {
        let end = self.owners.len().min(start + CHUNK);
        let (owners, weights) = (&self.owners[start..end], &self.survey.weights[start..end]);
        let (mut may, mut len) = ([0; CHUNK], 0);
        let nobody = lightest.len() - 1;
        for (nth, (&owner, &weight)) in (start as u32..).zip(owners.iter().zip(weights)) {
            may[len] = nth;
            len += usize::from(u64::from(weight) >= lightest[(owner as usize).min(nobody)]);
        }
        chunk.clear();
        chunk.extend_from_slice(&may[..len]);
    }
}

/// The least weight of which a worker still gives, or `u64::MAX`.
fn lightest_of(taken: &[Lot]) -> u64 {
    taken.iter().filter(|lot| lot.taken > 0).map(|lot| lot.kind.weight()).min().unwrap_or(u64::MAX)
}
