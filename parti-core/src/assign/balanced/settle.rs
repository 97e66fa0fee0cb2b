//! Which partitions of a kind move, once it is known how many.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::level::{Kind, Step};
use super::{CHUNK, Table};

/// How many partitions of each kind leave and enter each worker.
#[derive(Debug)]
pub(super) struct Flows {
    leaving: Vec<Vec<Quota>>,
    entering: Vec<Vec<Quota>>,
}

/// So many partitions of a kind.
#[derive(Clone, Copy, Debug)]
struct Quota {
    kind: Kind,
    count: u32,
}

impl Flows {
    pub(super) fn new(workers: usize) -> Self {
        Self { leaving: vec![Vec::new(); workers], entering: vec![Vec::new(); workers] }
    }

    /// Partitions go from one worker to another.
    pub(super) fn record(&mut self, from: usize, step: &Step) {
        add(&mut self.leaving[from], step);
        add(&mut self.entering[step.to], step);
    }

    /// Puts the quotas of each worker in order, and cancels what both leaves and enters a worker.
    fn tidy(&mut self) {
        for (leaving, entering) in self.leaving.iter_mut().zip(&mut self.entering) {
            merge(leaving);
            merge(entering);
            for left in leaving.iter_mut() {
                if let Some(entered) = find(entering, left.kind) {
                    let both = left.count.min(entered.count);
                    left.count -= both;
                    entered.count -= both;
                }
            }
        }
    }
}

impl Table<'_> {
    /// Chooses the partitions: first those whose home takes one of their kind, then others, in the order of the list.
    pub(super) fn settle(&mut self, mut flows: Flows) {
        flows.tidy();
        self.settle_home(&mut flows);
        self.settle_others(&mut flows);
    }

    fn settle_home(&mut self, flows: &mut Flows) {
        let leaving = counts(&flows.leaving);
        let mut entering = counts(&flows.entering);
        let mut lightest: Vec<_> = flows.leaving.iter().map(|quotas| lightest_of(quotas)).collect();
        let mut left: u64 = leaving.iter().map(|&count| u64::from(count)).sum();
        let mut chunk = [0; CHUNK];
        let mut homes = Vec::with_capacity(CHUNK);
        for start in (0..self.owners.len()).step_by(CHUNK) {
            if left == 0 {
                break;
            }
            // What may leave first, then homes, then quotas: each loop is free of the others' branches.
            let mut len = 0;
            let weights = &self.survey.weights[start..];
            for (partition, (&owner, &weight)) in (start..).zip(self.owners[start..].iter().zip(weights)).take(CHUNK) {
                chunk[len] = partition;
                let lightest = lightest.get(owner as usize).copied().unwrap_or(u64::MAX);
                len += usize::from(u64::from(weight) >= lightest);
            }
            self.homes_of(chunk[..len].iter().copied(), &mut homes);
            for (&partition, &home) in chunk[..len].iter().zip(&homes) {
                let (from, to) = (self.owners[partition] as usize, home as usize);
                if entering.get(to).is_none_or(|&count| count == 0) {
                    continue;
                }
                let kind = self.kind(partition);
                let Some(give) = find(&mut flows.leaving[from], kind) else { continue };
                let Some(take) = find(&mut flows.entering[to], kind) else { continue };
                give.count -= 1;
                take.count -= 1;
                if give.count == 0 {
                    lightest[from] = lightest_of(&flows.leaving[from]);
                }
                entering[to] -= 1;
                left -= 1;
                self.owners[partition] = to as u32;
            }
        }
    }

    fn settle_others(&mut self, flows: &mut Flows) {
        let mut leaving = counts(&flows.leaving);
        let mut left: u64 = leaving.iter().map(|&count| u64::from(count)).sum();
        let mut takers = takers(&flows.entering);
        for partition in 0..self.owners.len() {
            if left == 0 {
                break;
            }
            let from = self.owners[partition] as usize;
            if leaving.get(from).is_none_or(|&count| count == 0) {
                continue;
            }
            let kind = self.kind(partition);
            let Some(give) = find(&mut flows.leaving[from], kind) else { continue };
            let Some(workers) = takers.get_mut(&kind) else { continue };
            let Some((to, count)) = workers.last_mut() else { continue };
            give.count -= 1;
            *count -= 1;
            leaving[from] -= 1;
            left -= 1;
            self.owners[partition] = *to;
            if *count == 0 {
                workers.pop();
            }
        }
    }
}

/// The least weight of which a worker still gives, or `u64::MAX`.
fn lightest_of(quotas: &[Quota]) -> u64 {
    quotas.iter().filter(|quota| quota.count > 0).map(|quota| quota.kind.weight()).min().unwrap_or(u64::MAX)
}

/// How many partitions each worker's quotas are in sum.
fn counts(quotas: &[Vec<Quota>]) -> Vec<u32> {
    quotas.iter().map(|quotas| quotas.iter().map(|quota| quota.count).sum()).collect()
}

/// Who takes how many of each kind.
fn takers(entering: &[Vec<Quota>]) -> BTreeMap<Kind, Vec<(u32, u32)>> {
    let mut takers: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (worker, entering) in (0..).zip(entering) {
        for quota in entering.iter().filter(|quota| quota.count > 0) {
            takers.entry(quota.kind).or_default().push((worker, quota.count));
        }
    }
    takers
}

/// The quota of `kind`, if it is not used up. The quotas must be in order.
fn find(quotas: &mut [Quota], kind: Kind) -> Option<&mut Quota> {
    let at = match quotas {
        [only] if only.kind == kind => 0,
        _ => quotas.binary_search_by_key(&kind, |quota| quota.kind).ok()?,
    };
    Some(&mut quotas[at]).filter(|quota| quota.count > 0)
}

fn add(quotas: &mut Vec<Quota>, step: &Step) {
    match quotas.last_mut() {
        Some(last) if last.kind == step.kind => last.count += step.count,
        Some(_) | None => quotas.push(Quota { kind: step.kind, count: step.count }),
    }
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
