//! Which partitions of a kind move, once it is known how many.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::level::{Draft, Step};
use super::stock::{Kind, Lot, Stocks, find};
use super::{CHUNK, Table};

/// So many of the kinds that a worker takes are looked through before one is noted again.
const FEW_KINDS: usize = 4;

/// How many partitions of each kind enter each worker.
#[derive(Debug)]
pub(super) struct Entering(Vec<Vec<Quota>>);

/// So many partitions of a kind.
#[derive(Clone, Copy, Debug)]
struct Quota {
    kind: Kind,
    count: u32,
}

impl Entering {
    pub(super) fn new(workers: usize) -> Self {
        Self(vec![Vec::new(); workers])
    }

    pub(super) fn add(&mut self, step: &Step) {
        let quotas = &mut self.0[step.to];
        match quotas.iter_mut().rev().take(FEW_KINDS).find(|quota| quota.kind == step.kind) {
            Some(quota) => quota.count += step.count,
            None => quotas.push(Quota { kind: step.kind, count: step.count }),
        }
    }

    /// Puts the quotas of each worker in order, and cancels what both leaves and enters a worker.
    fn tidy(&mut self, stocks: &mut Stocks) {
        for (worker, quotas) in self.0.iter_mut().enumerate().filter(|(_, quotas)| !quotas.is_empty()) {
            merge(quotas);
            let taken = stocks.taken(worker);
            for quota in quotas.iter_mut() {
                if let Some(lot) = find(taken, quota.kind) {
                    let both = quota.count.min(lot.taken);
                    quota.count -= both;
                    lot.taken -= both;
                }
            }
        }
    }

    /// How many partitions enter each worker.
    fn counts(&self) -> Vec<u32> {
        self.0.iter().map(|quotas| quotas.iter().map(|quota| quota.count).sum()).collect()
    }

    /// The quota of `kind` of a worker, if it is not used up.
    fn find(&mut self, worker: usize, kind: Kind) -> Option<&mut Quota> {
        let quotas = &mut self.0[worker][..];
        let at = match quotas {
            [only] if only.kind == kind => 0,
            _ => quotas.binary_search_by_key(&kind, |quota| quota.kind).ok()?,
        };
        Some(&mut quotas[at]).filter(|quota| quota.count > 0)
    }

    /// Who takes how many of each kind.
    fn by_kind(&self) -> BTreeMap<Kind, Vec<(u32, u32)>> {
        let mut takers: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (worker, quotas) in (0..).zip(&self.0) {
            for quota in quotas.iter().filter(|quota| quota.count > 0) {
                takers.entry(quota.kind).or_default().push((worker, quota.count));
            }
        }
        takers
    }
}

/// What is still to leave.
struct Leaving {
    stocks: Stocks,
    /// How many partitions, all workers together.
    left: u64,
    /// For each worker, the least weight of which it still gives, or `u64::MAX`.
    lightest: Vec<u64>,
}

impl Leaving {
    fn new(mut stocks: Stocks, workers: usize) -> Self {
        let (mut left, mut lightest) = (0, Vec::with_capacity(workers));
        for worker in 0..workers {
            let taken = stocks.taken(worker);
            left += taken.iter().map(|lot| u64::from(lot.taken)).sum::<u64>();
            lightest.push(lightest_of(taken));
        }
        Self { stocks, left, lightest }
    }

    /// Notes that a partition of `kind` leaves `worker`, if one has to.
    fn take(&mut self, worker: usize, kind: Kind) -> bool {
        let taken = self.stocks.taken(worker);
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
        entering.tidy(&mut stocks);
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
        let mut may = [0; CHUNK];
        let mut len = 0;
        for (nth, (&owner, &weight)) in (start as u32..).zip(owners.iter().zip(weights)) {
            may[len] = nth;
            len += usize::from(lightest.get(owner as usize).is_some_and(|&lightest| u64::from(weight) >= lightest));
        }
        chunk.clear();
        chunk.extend_from_slice(&may[..len]);
    }
}

/// The least weight of which a worker still gives, or `u64::MAX`.
fn lightest_of(taken: &[Lot]) -> u64 {
    taken.iter().filter(|lot| lot.taken > 0).map(|lot| lot.kind.weight()).min().unwrap_or(u64::MAX)
}

/// Puts quotas in order, one for each kind.
fn merge(quotas: &mut Vec<Quota>) {
    quotas.sort_unstable_by_key(|quota| quota.kind);
    quotas.dedup_by(|next, kept| {
        let same = next.kind == kept.kind;
        kept.count += if same { next.count } else { 0 };
        same
    });
}
